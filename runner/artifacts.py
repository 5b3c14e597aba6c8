"""Files of a job folder: written whole or not at all, and known by their hash."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PREFIX = ".claw-"
"""Begins the names of files that are being written."""


class Fingerprint(NamedTuple):
    bytes: int
    sha256: str


def write_whole(path: Path, data: bytes) -> None:
    """Replace or create a file: after a crash it is the old one or the new one, never a part."""
    write_all_whole({path: data})


def write_all_whole(files: Mapping[Path, bytes]) -> None:
    """Write several files. All are on the disk, under other names, before the first appears; the last appears last."""
    waiting: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            waiting[path] = path.with_name(f"{_PREFIX}{os.getpid()}-{path.name}")
            _write_synced(waiting[path], data)
        for path in files:
            waiting[path].replace(path)
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)
    for folder in {path.parent for path in files}:
        _sync_folder(folder)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Some network file systems cannot sync a folder; the files themselves are safe.
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def fingerprint(path: Path) -> Fingerprint:
    """Size and SHA-256 of a regular file. Raises OSError for anything else, a link included."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        digest = hashlib.file_digest(file, "sha256")
        return Fingerprint(file.tell(), digest.hexdigest())


def fingerprint_of(data: bytes) -> Fingerprint:
    return Fingerprint(len(data), hashlib.sha256(data).hexdigest())


def files_in(folder: Path) -> Iterator[Path]:
    """Regular files under a folder, sorted, links left out, and files that are still being written."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.startswith(_PREFIX):
            yield path
