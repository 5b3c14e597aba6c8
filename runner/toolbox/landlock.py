"""Landlock: rights over files that a process takes away from itself, for good, and from all that it starts.

What a rule gives holds for a folder and all below it, and nothing that another rule says takes it back. So a path that
is left out of a hierarchy is left out by giving the rest of it piece by piece, as it is found when the rules are
applied. Links are never followed: a rule whose path has one in it gives nothing.

Sources: landlock(7), landlock_create_ruleset(2) and its siblings, <linux/landlock.h>, openat2(2). The numbers of these
system calls are the same on x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import time
from contextlib import contextmanager
from errno import EACCES, EIO, ELOOP, ENOENT, ENOSYS, ENOTDIR

from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Holes = dict[bytes, Any]
    """Names in a folder -> the holes below that name, or None when the name itself is one."""
    Rule = tuple[bytes, int, Holes]
    """A path, the rights over it and all below it, and what of that is left out."""
    Look = tuple[int, int, int]

CREATE_RULESET, ADD_RULE, RESTRICT_SELF, OPENAT2 = 444, 445, 446, 437
ASK_VERSION = 1
PATH_BENEATH = 1
AT_FDCWD = -100
OPEN_HOW = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, 0x04)
"""struct open_how: RESOLVE_NO_SYMLINKS."""
RULE = struct.Struct("=Qi")
"""struct landlock_path_beneath_attr."""

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL_DEV = 1, 2, 4, 8, 1 << 14, 1 << 15
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""Rights that a file can have. The others are a folder's, and the kernel refuses them for anything else."""
ALL = (1 << 16) - 1
RIGHTS = {"list": READ_DIR, "read": READ_DIR | READ_FILE | EXECUTE, "write": ALL}
KNOWN = (0, (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, ALL)
"""Rights over files by the version of Landlock that knows them, none newer than version 5. 2 brought REFER (before it
nothing can be moved from one folder to another), 3 TRUNCATE (before it a file that may not be written to can still be
cut off), 5 IOCTL_DEV."""
PASSED_OVER = {ENOENT, ENOTDIR, ELOOP, EACCES}
"""A path that is not there, not what it was, or closed to this user: it is given nothing. Any other error counts."""

SETTLED_NS = 1_000_000_000
"""Older than any clock tick that a file system may round its times to."""

_libc = ctypes.CDLL(None, use_errno=True)


def _system_call(*arguments: type) -> Callable[..., int]:
    """syscall(2) for these types of arguments; each gets a function of its own, which is the quickest way to call."""
    function = _libc["syscall"]
    function.restype, function.argtypes = ctypes.c_long, (ctypes.c_long, *arguments)
    return function


_create_ruleset = _system_call(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32)
_add_rule = _system_call(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_restrict_self = _system_call(ctypes.c_int, ctypes.c_uint32)
_openat2 = _system_call(ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)


def abi() -> int:
    """Version of the kernel's Landlock, 0 when there is none, or none for us."""
    return max(0, _create_ruleset(CREATE_RULESET, None, 0, ASK_VERSION))


def plan(path: bytes, access: str, without: list[bytes]) -> Rule:
    """The rule for a grant (docs/protocol.md, confine). Raises KeyError, and OSError for a path that is not plain."""
    for name in (path, *without):
        if name != b"/":
            files.split(name)
    rights = RIGHTS[access]
    holes: Holes = {}
    for hole in without:
        if files.below(hole, path) is not None:
            return path, 0, {}
        # A link that leads to the hole does not lead past it, nor does the hole's own path when it has links in it.
        for real in (hole, os.path.realpath(hole)):
            make_hole(holes, files.below(path, real) or [])
    return path, rights, holes


def make_hole(holes: Holes, names: list[bytes]) -> None:
    for name in names[:-1]:
        deeper = holes.setdefault(name, {})
        if deeper is None:
            return  # more than this is left out already
        holes = deeper
    if names:
        holes[names[-1]] = None


class Confinement:
    """Rules, and the ruleset that they make of what is there now, kept while that stays as it is.

    To make one takes a few microseconds for each piece, of which there are many round a hole in a large folder.
    """

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = rules
        self._watched = [watched for path, _, holes in rules for watched in folders_of(path, holes)]
        self._seen: list[Look] = []
        self._ruleset = -1

    def ruleset(self) -> int:
        """A descriptor for `restrict`, ours to close. Raises OSError (EIO) when none can be made.

        To be called with the rights over files of the user who is to be restricted.
        """
        look = [look_at(path, listed=listed) for path, listed in self._watched]
        if self._ruleset < 0 or look != self._seen:
            self.close()
            self._ruleset = make_ruleset(self._rules)
            # A folder that changed just now may do so again without a new time.
            just_now = time.time_ns() - SETTLED_NS
            self._seen = [] if any(changed > just_now for _, _, changed in look) else look
        return self._ruleset

    def close(self) -> None:
        if self._ruleset >= 0:
            os.close(self._ruleset)
            self._ruleset = -1


def folders_of(path: bytes, holes: Holes) -> Iterator[tuple[bytes, bool]]:
    """Paths that a rule hangs on, and whether it also hangs on what is in them, because there is a hole."""
    yield path, bool(holes)
    for name, deeper in holes.items():
        if deeper:
            yield from folders_of(os.path.join(path, name), deeper)


def look_at(path: bytes, *, listed: bool) -> Look:
    """What would differ if something else were there, or, when `listed`, something else in it."""
    try:
        found = os.lstat(path)
    except OSError:
        return 0, 0, 0
    return found.st_dev, found.st_ino, found.st_ctime_ns if listed else 0


def restrict(ruleset: int) -> None:
    """Leave this process, and all that it starts from now on, what the ruleset gives, and over files nothing else.

    Needs no_new_privs. Raises OSError (EIO) when it is refused; the process must then not go on as if it had not been.
    """
    with blaming_landlock():
        checked(_restrict_self(RESTRICT_SELF, ruleset, 0))


def make_ruleset(rules: list[Rule]) -> int:
    """A descriptor. Raises OSError (EIO)."""
    with blaming_landlock():
        ruleset = checked(_create_ruleset(CREATE_RULESET, struct.pack("Q", handled()), 8, 0))
        try:
            for path, rights, holes in rules:
                fd = opened(open_plain, path)
                if fd is not None:
                    grant(ruleset, fd, rights & handled(), holes)
        except BaseException:
            os.close(ruleset)
            raise
    return ruleset


@contextmanager
def blaming_landlock() -> Iterator[None]:
    """Let no error pass for one of the command's own, such as a directory that is closed to it."""
    try:
        yield
    except OSError as error:
        raise OSError(EIO, f"Landlock could not be applied: {error.strerror}", error.filename) from None


def handled() -> int:
    """Rights that this kernel can take away. Raises OSError when there are none."""
    version = abi()
    if version == 0:
        raise OSError(ENOSYS, "this kernel has none, or the container's filter refuses it")
    return KNOWN[min(version, len(KNOWN) - 1)]


def grant(ruleset: int, fd: int, rights: int, holes: Holes) -> None:
    """Add what is at `fd`, and close that. Round a hole, names can be listed, and the rest has its rights one by one.

    The right to list holds for all below as any other does: what is left out cannot be opened, but it can be seen
    (as any path can: Landlock does not know stat(2)).
    """
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISLNK(mode):
            return
        if not stat.S_ISDIR(mode):
            add(ruleset, fd, rights & OF_FILES)
        elif not holes:
            add(ruleset, fd, rights)
        else:
            add(ruleset, fd, rights & READ_DIR)
            grant_around(ruleset, fd, rights, holes)
    finally:
        os.close(fd)


def grant_around(ruleset: int, folder: int, rights: int, holes: Holes) -> None:
    for name in names_in(folder):
        if name in holes and holes[name] is None:
            continue
        fd = opened(os.open, name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
        if fd is not None:
            grant(ruleset, fd, rights, holes.get(name, {}))


def names_in(folder: int) -> list[bytes]:
    """What is in a folder; nothing when this user may not list it."""
    fd = opened(os.open, b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    if fd is None:
        return []
    try:
        return [os.fsencode(name) for name in os.listdir(fd)]
    finally:
        os.close(fd)


def open_plain(path: bytes) -> int:
    """A descriptor of the path itself. Raises OSError (ELOOP) when it has a link in it."""
    return checked(_openat2(OPENAT2, AT_FDCWD, path, OPEN_HOW, len(OPEN_HOW)))


def opened(call: Callable[..., int], *arguments: bytes | int, **how: int) -> int | None:
    """The descriptor that `call` opens, None when there is nothing that could be given anything."""
    try:
        return call(*arguments, **how)
    except OSError as error:
        if error.errno in PASSED_OVER:
            return None
        raise


def add(ruleset: int, fd: int, rights: int) -> None:
    if rights:
        checked(_add_rule(ADD_RULE, ruleset, PATH_BENEATH, RULE.pack(rights, fd), 0))


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def holds(rules: list[Rule], folder: bytes) -> bool:
    """True when the rules can be applied here, and the kernel then refuses what it must. Not to be called twice.

    What the rules refuse is theirs to say, so it is tried with one more layer that gives nothing at all: `folder`, in
    which this user may write, must then take no file, and "/" show no name.
    """
    restrict(make_ruleset(rules))
    restrict(make_ruleset([]))
    return refused(lambda: os.mkdir(os.path.join(folder, b".claw-landlock"))) and refused(lambda: os.listdir(b"/"))


def refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError as error:
        return error.errno == EACCES
    return False
