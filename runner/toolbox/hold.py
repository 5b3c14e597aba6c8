"""A root that stays as the image made it although its container could write to it: held by Landlock, from the start.

Where the workspace lies in the container's own layer, the engine cannot mount the root read-only. So this process takes
from itself, before it starts anything, the right to write anywhere else; what it starts never has more.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from errno import EACCES

from . import landlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WRITABLE = (b"/tmp", b"/run", b"/dev", b"/proc", b"/sys")
"""Mounts of their own, each with the rights that the engine gave it. None of them lies in the layer."""
TRIAL = b"/.claw-hold"
HELD = "held"


def hold(workspace: bytes, *, new: bool) -> str:
    """HELD, or why nothing can be promised. To be called by the owner of "/", once, with no_new_privs set.

    That it holds is tried: what is refused at the end was allowed at the beginning.
    A `new` workspace is made here, or must be empty; else it came with the image, as a snapshot has it.
    """
    try:
        with writable(b"/"):
            prepare(workspace, new=new)
            rules = [landlock.plan(b"/", "read", [])]
            rules += [landlock.plan(path, "write", []) for path in (workspace, *WRITABLE)]
            ruleset = landlock.make_ruleset(rules)
            landlock.restrict(ruleset)
            os.close(ruleset)
            return HELD if landlock.refused(lambda: os.mkdir(TRIAL)) else "Landlock has no effect"
    except OSError as error:
        return f"{os.fsdecode(error.filename or b'')}: {error.strerror}".removeprefix(": ")


@contextmanager
def writable(folder: bytes) -> Iterator[None]:
    """For its owner, meanwhile: podman's "/" is closed even to that. Raises OSError for somebody else's."""
    mode = os.stat(folder).st_mode
    os.chmod(folder, mode | 0o200)
    try:
        yield
    finally:
        os.chmod(folder, mode)


def prepare(workspace: bytes, *, new: bool) -> None:
    """Raises OSError for a workspace that is not a folder, or holds what the image brought."""
    with suppress(FileExistsError):
        os.mkdir(workspace)
    if os.path.islink(workspace) or (new and os.listdir(workspace)):
        raise OSError(EACCES, "the image has something there already", workspace)
    if os.lstat(workspace).st_uid != os.geteuid():
        raise OSError(EACCES, "it belongs to somebody else", workspace)  # who could move away what is kept in it
    if new:
        os.chmod(workspace, 0o1777)
