"""File operations of the toolbox, done with the rights of the job's user (see privileges.act_as).

Paths are bytes. Reading and writing walk a path component by component and refuse every link, so that what was judged
on the host is what is opened, whatever the job's processes swap in meanwhile.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import sys
import time
from contextlib import suppress
from errno import EINVAL, ELOOP, ENOTDIR

if sys.version_info < (3, 12):
    from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]  # hashlib would load OpenSSL
else:
    from _sha2 import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Iterator
    from typing import Any

GLOB_SECONDS = 10.0
GLOB_BYTES = 512 * 1024
"""Bounds of one glob: the time it may walk, and the size of its answer."""
MAX_PATTERNS = 256


def resolve(path: bytes) -> bytes:
    """The absolute path with every link followed; the last parts may not exist. Raises OSError for a loop."""
    resolved = os.path.realpath(path)
    try:
        if stat.S_ISLNK(os.lstat(resolved).st_mode):
            raise OSError(ELOOP, os.strerror(ELOOP), path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # not there, or not for this user to see: a later use of the path will say so
    return resolved


def describe(path: bytes) -> dict[str, Any]:
    """Kind, size, mode and time of a path, a last link not followed."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": "missing"}
    return {
        "kind": kind_of(found.st_mode),
        "size": found.st_size,
        "mode": stat.S_IMODE(found.st_mode),
        "modified": found.st_mtime,
    }


def kind_of(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"


def open_file(path: bytes) -> int:
    """A descriptor of a regular file. Raises OSError for anything else, PermissionError for a link on the way."""
    folder, name = open_parent(path, create=False)
    try:
        return open_regular(folder, name, os.O_RDONLY, path)
    finally:
        os.close(folder)


def open_parent(path: bytes, *, create: bool) -> tuple[int, bytes]:
    """A descriptor of the folder that holds `path`, reached without any link, and the last name."""
    *names, last = split(path)
    folder = os.open(b"/", os.O_PATH | os.O_DIRECTORY)
    try:
        for name in names:
            below = open_folder(folder, name, path, create=create)
            os.close(folder)
            folder = below
    except BaseException:
        os.close(folder)
        raise
    return folder, last


def split(path: bytes) -> list[bytes]:
    """Names of an absolute path. Raises OSError for one that is relative, empty, or not plain."""
    names = path.split(b"/")[1:]
    if not path.startswith(b"/") or any(name in {b"", b".", b".."} for name in names) or b"\0" in path:
        raise PermissionError(13, "not a resolved absolute path", path)
    return names


def below(folder: bytes, path: bytes) -> list[bytes] | None:
    """Names that lead from `folder` to `path`, none when they are the same; None when it is not in there."""
    start = folder.rstrip(b"/") + b"/"
    if path == folder:
        return []
    return path[len(start) :].split(b"/") if path.startswith(start) else None


def open_folder(folder: int, name: bytes, path: bytes, *, create: bool) -> int:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise FileNotFoundError(2, os.strerror(2), path) from None
    except OSError as error:
        raise blame_link(error, folder, name, path) from None
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        pass  # somebody was faster; what it is shows when it is opened
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        raise blame_link(error, folder, name, path) from None


def blame_link(error: OSError, folder: int, name: bytes, path: bytes) -> OSError:
    """The error with the whole path; PermissionError when `name` is a link, which the kernel calls ENOTDIR or ELOOP."""
    if error.errno == ELOOP or (error.errno == ENOTDIR and is_link(folder, name)):
        return PermissionError(13, "a link is in the way", path)
    return OSError(error.errno, error.strerror, path)


def is_link(folder: int, name: bytes) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode)
    except OSError:
        return False


def open_regular(folder: int, name: bytes, flags: int, path: bytes) -> int:
    """A descriptor of the regular file `name`. O_NONBLOCK: opening a FIFO must not wait for its other end."""
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=folder)
    except OSError as error:
        raise blame_link(error, folder, name, path) from None
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, os.strerror(21), path)
    raise OSError(22, "not a regular file", path)


class Replacement:
    """A new content for a file, written beside it and put in its place by `commit`; `abort` leaves all as it was."""

    def __init__(self, path: bytes, expected_sha256: str | None) -> None:
        """Raises OSError when the file cannot be replaced, FileExistsError when it is not what the caller read."""
        self._path = path
        self._folder, self._name = open_parent(path, create=True)
        self._temporary = b".claw-" + os.urandom(8).hex().encode("ascii")
        try:
            self._mode = self._examine(expected_sha256)
            self._fd = os.open(
                self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self._folder
            )
        except OSError as error:
            os.close(self._folder)
            raise type(error)(error.errno, error.strerror, path) from None

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def commit(self) -> None:
        """Raises OSError, with everything undone, when the file cannot be put in place."""
        try:
            os.fchmod(self._fd, self._mode)
            os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError as error:
            self.abort()
            raise OSError(error.errno, error.strerror, self._path) from None
        os.close(self._fd)
        os.close(self._folder)

    def abort(self) -> None:
        os.close(self._fd)
        with suppress(OSError):  # the job's processes may have removed it, or its folder
            os.unlink(self._temporary, dir_fd=self._folder)
        os.close(self._folder)

    def _examine(self, expected_sha256: str | None) -> int:
        """Mode for the new file: that of the old one, if any, which must be writable, as for a write in place."""
        try:
            fd = open_regular(self._folder, self._name, os.O_WRONLY, self._path)
        except FileNotFoundError:
            if expected_sha256:
                raise FileExistsError(17, "the file is gone", self._path) from None
            return 0o644
        try:
            mode = stat.S_IMODE(os.fstat(fd).st_mode)
        finally:
            os.close(fd)
        if expected_sha256 is not None and expected_sha256 != self._sha256():
            raise FileExistsError(17, "the file is not what was read", self._path)
        return mode & 0o1777  # a set-id bit does not survive a write in place either

    def _sha256(self) -> str:
        fd = open_regular(self._folder, self._name, os.O_RDONLY, self._path)
        try:
            digest: hashlib._Hash = sha256()
            while True:
                data = os.read(fd, 256 * 1024)
                if not data:
                    return digest.hexdigest()
                digest.update(data)
        finally:
            os.close(fd)


def glob(pattern: str, root: bytes, limit: int) -> tuple[list[bytes], bool]:
    """Absolute paths of files under `root` that match, newest first, and whether there were more; follows no link.

    `pattern` is relative to `root`; `*`, `?` and `[…]` match within a name, `**` any folders, `{a,b}` either.
    Raises OSError (EINVAL) for a pattern that cannot be meant.
    """
    if not stat.S_ISDIR(os.stat(root).st_mode):
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), root)
    matchers = [compile_pattern(plain) for plain in expand_braces(pattern)]
    deadline = time.monotonic() + GLOB_SECONDS
    found: list[tuple[float, bytes]] = []
    complete = True
    for path, entry in walk(root, skip=b"" if ".git" in pattern else b".git"):
        names = path.decode("utf-8", "surrogateescape").split("/")
        if any(matches(names, matcher) for matcher in matchers):
            found.append((modified(entry), entry.path))
        if time.monotonic() > deadline:
            complete = False
            break
    found.sort(key=lambda item: (-item[0], item[1]))
    kept = fitting([path for _, path in found[:limit]])
    return kept, not complete or len(kept) < len(found)


def walk(root: bytes, *, skip: bytes) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
    """All below `root` but folders: (path from root, entry). Leaves out folders named `skip`, and unreadable ones."""
    folders = [b""]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(os.path.join(root, folder)))
        except OSError:
            continue
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if not entry.is_dir(follow_symlinks=False):
                yield path, entry
            elif entry.name != skip:
                folders.append(path)


def modified(entry: os.DirEntry[bytes]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return 0.0


def fitting(paths: list[bytes]) -> list[bytes]:
    """The first of the paths, as many as an answer can hold: JSON makes up to six characters of a byte."""
    size = 0
    for count, path in enumerate(paths):
        size += 6 * len(path) + 4
        if size > GLOB_BYTES:
            return paths[:count]
    return paths


def expand_braces(pattern: str) -> list[str]:
    """The patterns that `{a,b}` stands for. Raises OSError for too many, or a brace without end."""
    patterns, plain = [pattern], []
    while patterns:
        head, brace, tail = (current := patterns.pop()).partition("{")
        if not brace:
            plain.append(current)
            continue
        words, rest = split_brace(tail)
        patterns += [head + word + rest for word in words]
        if len(patterns) + len(plain) > MAX_PATTERNS:
            raise OSError(EINVAL, f"more than {MAX_PATTERNS} alternatives", pattern)
    return plain


def split_brace(text: str) -> tuple[list[str], str]:
    """Words of a brace whose "{" is read already, and what follows its "}"."""
    words, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        if letter == "{":
            depth += 1
        elif letter == "," and depth == 0:
            words.append(text[start:index])
            start = index + 1
        elif letter == "}":
            if depth == 0:
                return [*words, text[start:index]], text[index + 1 :]
            depth -= 1
    raise OSError(EINVAL, "a brace of the pattern is never closed", text)


def compile_pattern(pattern: str) -> list[re.Pattern[str] | None]:
    """One expression for each name of a path; None stands for `**`."""
    return [None if name == "**" else re.compile(fnmatch.translate(name)) for name in pattern.split("/")]


def matches(names: list[str], pattern: list[re.Pattern[str] | None]) -> bool:
    """True when the whole path matches. Going back to the newest `**` only keeps this from exploding."""
    name, part, star, resume = 0, 0, -1, 0
    while name < len(names):
        expression = pattern[part] if part < len(pattern) else None
        if part < len(pattern) and expression is None:
            star, resume = part, name
            part += 1
        elif expression is not None and expression.match(names[name]):
            name, part = name + 1, part + 1
        elif star >= 0:
            resume += 1
            name, part = resume, star + 1
        else:
            return False
    return all(expression is None for expression in pattern[part:])
