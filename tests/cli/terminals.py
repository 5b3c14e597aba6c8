"""A command at a terminal of its own, with somebody who reads it and types."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 60.0
"""Seconds; what must happen at once on an idle machine may take a while on a loaded one."""

# The terminal becomes the one that controls the command, so that ^C is a signal.
_CONTROLLED = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_COLOURS_AND_CURSOR = re.compile(r"\x1b\[(?:[0-9;]*m|\d*[A-HK]|2K|\?25[hl])|\r")


class Seat:
    """Reads what is shown, types, waits for the end."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self.seen = ""

    def sees(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.words():
            assert time.monotonic() < deadline, f"never saw {text!r} in {self.words()[-1000:]!r}"
            assert self._read(0.1) or text in self.words(), f"ended without {text!r}: {self.words()[-1000:]!r}"

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ends(self) -> int:
        """The exit code, after all has been read."""
        deadline = time.monotonic() + PATIENCE
        while self._read(0.1):
            assert time.monotonic() < deadline, f"does not end: {self.words()[-1000:]!r}"
        return self.process.wait(PATIENCE)

    def words(self) -> str:
        """What was shown, without colours and the cursor's movements; any other escape is still in it."""
        return _COLOURS_AND_CURSOR.sub("", self.seen)

    def hangs_up(self) -> None:
        os.close(self._master)
        self._master = -1

    def leaves(self) -> None:
        if self._master >= 0:
            os.close(self._master)

    def _read(self, seconds: float) -> bool:
        """False: the command has closed its terminal."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 65_536)
        except OSError:
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)


@contextmanager
def at_a_terminal(*command: str, columns: int = 80, lines: int = 24) -> Iterator[Seat]:
    """`python -m …` at a new terminal; whatever happens, it is ended."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", _CONTROLLED, sys.executable, "-m", *command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=plain | {"TERM": "xterm-256color"},
    )
    os.close(slave)
    seat = Seat(master, process)
    try:
        yield seat
    finally:
        process.kill()
        process.wait()
        seat.leaves()
