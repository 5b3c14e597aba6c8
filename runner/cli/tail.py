"""Reading a transcript that grows while it is read, and that a new attempt at its job may replace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from runner.transcript import AnyEvent

_EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
_END_BYTES = 64 * 1024
"""Of a transcript's end, where its last events are looked for."""


class Tail:
    """The events of the transcript at `path`, each once. Lines that are no events are left out: `verify` finds them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def events(self) -> Iterator[AnyEvent]:
        """What was written since the last call: by another attempt, when there is one, from its beginning on."""
        while True:
            if self._file is not None:
                yield from self._rest(self._file)
            other = self._opened_anew()
            if other is None:
                return
            if self._file is not None:
                # Once more: it may have grown until the moment when it was replaced.
                yield from self._rest(self._file)
                self._file.close()
            self._file = other

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _rest(self, file: BinaryIO) -> Iterator[AnyEvent]:
        while True:
            start = file.tell()
            line = file.readline()
            if not line.endswith(b"\n"):
                file.seek(start)  # its writer is not done with it
                return
            if event := _event(line):
                yield event

    def _opened_anew(self) -> BinaryIO | None:
        """The file that has the name now; None when that one is open already, or there is none."""
        try:
            now = self._path.open("rb")
        except FileNotFoundError:
            return None
        if self._file is None or not os.path.sameopenfile(self._file.fileno(), now.fileno()):
            return now
        now.close()
        return None


def last_events(path: Path) -> list[AnyEvent]:
    """The last events of a transcript, the newest first; none when it has not begun."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _END_BYTES))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    # The first may have lost its beginning, and the last is what stands behind the last newline.
    return [event for line in reversed(lines[:-1]) if (event := _event(line))]


def _event(line: bytes) -> AnyEvent | None:
    try:
        return _EVENT.validate_json(line)
    except ValidationError:
        return None
