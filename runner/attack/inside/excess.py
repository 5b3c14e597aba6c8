"""Take as much of one thing as can be had, up to a bound. Runs inside, alone: `excess.py KIND MOST [FOLDER]`.

Prints how much it got and what stopped it. What it took is given back, or goes with its process.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress

MIB = 1 << 20


def processes(most: int, folder: str) -> tuple[int, str]:
    """Children that do nothing, all at the same time."""
    children: list[int] = []
    try:
        while len(children) < most:
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    except OSError as error:
        return len(children), str(error.strerror)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
    return len(children), "nothing"


def bomb(most: int, folder: str) -> tuple[int, str]:
    """Every process starts others as fast as it can, for a moment."""
    end = time.monotonic() + 1
    first = os.getpid()
    while time.monotonic() < end:
        with suppress(OSError):
            os.fork()
    if os.getpid() != first:
        os._exit(0)
    return 0, "the limit of processes"


def memory(most: int, folder: str) -> tuple[int, str]:
    """Bytes, each page of them touched."""
    held = []
    try:
        for _ in range(most // MIB):
            held.append(bytearray(b"\1") * MIB)
    except MemoryError:
        return len(held) * MIB, "no more memory"
    return len(held) * MIB, "nothing"


def room(most: int, folder: str) -> tuple[int, str]:
    """Bytes in files of a folder; several, because the size of each has its own limit."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    paths: list[str] = []
    written = 0
    try:
        while written < most:
            paths.append(f"{folder}/attack-{len(paths)}")
            with open(paths[-1], "wb", buffering=0) as file:
                for _ in range(16):
                    written += file.write(bytes(MIB))
    except OSError as error:
        return written, str(error.strerror)
    finally:
        for path in paths:
            with suppress(OSError):
                os.unlink(path)
    return written, "nothing"


def names(most: int, folder: str) -> tuple[int, str]:
    """Empty files in a folder."""
    made = 0
    try:
        while made < most:
            os.close(os.open(f"{folder}/attack-{made}", os.O_CREAT | os.O_WRONLY))
            made += 1
    except OSError as error:
        return made, str(error.strerror)
    finally:
        for number in range(made):
            os.unlink(f"{folder}/attack-{number}")
    return made, "nothing"


def one_file(most: int, folder: str) -> tuple[int, str]:
    """Bytes of one file, with nothing in it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = f"{folder}/attack"
    try:
        with open(path, "wb") as file:
            os.truncate(file.fileno(), most)
            return os.stat(path).st_size, "nothing"
    except OSError as error:
        return resource.getrlimit(resource.RLIMIT_FSIZE)[1], str(error.strerror)
    finally:
        with suppress(OSError):
            os.unlink(path)


def open_files(most: int, folder: str) -> tuple[int, str]:
    opened = 0
    try:
        while opened < most:
            os.dup(0)
            opened += 1
    except OSError as error:
        return opened, str(error.strerror)
    return opened, "nothing"


KINDS = {
    "processes": processes,
    "bomb": bomb,
    "memory": memory,
    "room": room,
    "names": names,
    "one_file": one_file,
    "open_files": open_files,
}


if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]](int(sys.argv[2]), sys.argv[3])))
