"""What a workspace takes up where no mount bounds it, and the end of commands that let it take up too much.

Counting means to look at every file, so it is done only when the file system has lost a part of the room that was left,
by a fork, while the toolbox goes on. This bounds what ordinary programs do, within about a second. It is not the
kernel's bound: files that were removed while open, or that their owner hid in a closed folder, are not seen. Against
those stands FLOOR: when the file system itself runs full, commands end whoever filled it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress

from .child import in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .loop import Loop

BLOCK = 512
"""The unit of st_blocks, whatever the file system."""
MIB = 1 << 20
LEAST = (4 * MIB, 64)
"""What the file system must have lost before it is worth to count again, once a limit is passed."""
FLOOR = 512 * MIB
"""Free space of the file system under which commands that still take from it are ended."""
LOOK_SECONDS = 10.0
"""Counted at least so often while commands run: somebody else may give back as much room as they take."""
REST = 4
"""The count rests for so many times as long as it took, so that it costs a fifth of one processor at most."""

Usage = tuple[int, int]
"""Bytes of allocated blocks, and files and folders."""


def measure(folder: bytes) -> Usage:
    """What is in a folder, itself included, as far as this user can see it; hard links once."""
    size, files = 0, 0
    seen: set[tuple[int, int]] = set()
    folders = [folder]
    while folders:
        path = folders.pop()
        with suppress(OSError):  # gone meanwhile, or closed to us
            found = os.lstat(path)
            size, files = size + found.st_blocks * BLOCK, files + 1
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    found = entry.stat(follow_symlinks=False)
                    if found.st_nlink > 1:
                        if (found.st_dev, found.st_ino) in seen:
                            continue
                        seen.add((found.st_dev, found.st_ino))
                    size, files = size + found.st_blocks * BLOCK, files + 1
    return size, files


def measured(folder: bytes) -> Usage:
    """The same, in a fork: it may take some memory for a while."""
    size, files = in_child(lambda: measure(folder))
    return size, files


class Watch:
    """Says when a folder holds more than it may, and still gains some: what only gives back may go on."""

    def __init__(self, loop: Loop, folder: bytes, *, now: Usage, most: Usage) -> None:
        """`now` is what is there, `most` what may come to be there."""
        self._loop = loop
        self._folder = folder
        self._used, self._most = now, most
        self._free = free(folder)
        self._before = self._free
        """What was free when the count that runs now began."""
        self._counting = -1
        self._next = 0.0
        self._latest = time.monotonic() + LOOK_SECONDS
        self._over = False
        self._old = False
        """The count that runs now is about commands that have ended."""

    def begin(self) -> None:
        """A command starts after nothing ran: what a count that is under way finds is not its doing."""
        self._over, self._old = False, self._counting >= 0

    def look(self) -> bool:
        """Whether to end what runs. To be called several times a second while commands run."""
        over, self._over = self._over, False
        now, left = time.monotonic(), free(self._folder)
        if left[0] < FLOOR and self._free[0] - left[0] > LEAST[0]:
            self._free = left
            return True
        if self._counting < 0 and now >= self._next and (self._lost(left) or now >= self._latest):
            self._count(left)
        return over

    def _lost(self, left: Usage) -> bool:
        """Whether half as much room was lost as there was left to use. (Others may have given some back meanwhile.)"""
        rooms = (max(most - used, 0) // 2 for most, used in zip(self._most, self._used, strict=True))
        lost = (before - after for before, after in zip(self._free, left, strict=True))
        return any(gone >= max(room, least) for gone, room, least in zip(lost, rooms, LEAST, strict=True))

    def _count(self, left: Usage) -> None:
        reader, writer = os.pipe()
        try:
            pid = os.fork()
        except OSError:  # no process to be had now; the next look tries again
            os.close(reader)
            os.close(writer)
            return
        if pid == 0:
            try:
                os.write(writer, json.dumps(measure(self._folder)).encode("ascii"))
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(0)
        os.close(writer)
        self._counting, self._before, self._next = reader, left, time.monotonic()
        self._loop.watch(reader, self._counted)

    def _counted(self) -> None:
        data = os.read(self._counting, 4096)
        self._loop.unwatch(self._counting)
        os.close(self._counting)
        self._counting = -1
        now = time.monotonic()
        self._next, self._latest = now + REST * (now - self._next), now + LOOK_SECONDS
        old, self._old = self._old, False
        if not data:  # it was killed: for memory, most likely
            return
        size, files = json.loads(data)
        for used, before, most in zip((size, files), self._used, self._most, strict=True):
            self._over = self._over or (used > max(before, most) and not old)
        self._used, self._free = (size, files), self._before


def free(folder: bytes) -> Usage:
    """Bytes and files that its file system has room for. One that knows no number of files has room for all."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_ffree if found.f_files else sys.maxsize
