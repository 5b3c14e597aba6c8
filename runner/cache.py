"""What is kept on this machine from one job to the next: a folder for each kind of thing, bounded, shared by processes.

`CLAW_SNAPSHOT_SPACE` bounds it (`20g` by default; `0`: nothing is kept), `XDG_CACHE_HOME` says where it is.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runner.errors import ConfigError

VARIABLE = "CLAW_SNAPSHOT_SPACE"
SPACE = "20g"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def space() -> int:
    """Bytes that everything of one kind may take up. Raises ConfigError."""
    text = os.environ.get(VARIABLE) or SPACE
    found = re.fullmatch(r"(\d{1,15})([kmgt]?)b?", text.strip().lower(), re.ASCII)
    if not found:
        raise ConfigError(f"{VARIABLE}: must be a size such as 20g, or 0 (got {text!r})")
    return int(found[1]) * _UNITS[found[2]]


def folder(kind: str) -> Path:
    """The folder of one kind of thing, closed to other users; made when missing."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "claw-runner", kind)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Keep others, in whatever process or thread, from holding `path` at the same time, unless all hold it `shared`.

    The file stays: its time is that of the last use (`used`).
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """The same, without waiting: False when somebody holds it."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def used(path: Path) -> None:
    """Note that what the file stands for was used now."""
    path.touch(mode=0o600)


def last_used(path: Path) -> float | None:
    """Seconds since 1970; None when nobody has noted it here."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return None
