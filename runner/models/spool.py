"""The bytes of a reply on the disk before they are read: what was paid for survives the runner that was to record it.

A spool is one file. Its first line says which request is about to be sent and what that may cost at most; the stream of
the reply follows as it comes. Nothing is synced: what was written survives the death of the process, SIGKILL included,
because it is in the kernel's page cache by then; a machine that loses its power loses the reply.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from runner.masking import Masker
from runner.messages import Reply, Usage, Value
from runner.models.stream import Assembly, ErrorEvent, StreamBroken, stream_events

SPOOL = "reply.part"
"""Name of the file, beside the transcript of the attempt that it belongs to."""


class SpoolHeader(Value):
    """The request that is about to be sent."""

    request_hash: str
    attempt: int
    """Its first try is 1."""
    model: str
    max_tokens: int
    worst_usage: Usage
    micro_usd: int | None
    """Set aside for it; None: the price is unknown."""


class Spool:
    """The spool of one attempt at a job, for one thread. The file is made at the first request, for its owner only.

    Secrets are masked as in any stream. One that the provider sends in pieces, a few letters to each of its events, is
    not seen here, but where the reply is recorded.
    """

    def __init__(self, path: Path, mask: tuple[str, ...] = ()) -> None:
        """The values in `mask` are kept out of the file."""
        self._path = path
        self._masker = Masker(mask)
        self._stream = self._masker.stream()
        self._file = -1

    def begin(self, header: SpoolHeader) -> None:
        """Forget the last try: another one is about to be sent. Raises OSError."""
        if self._file < 0:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._stream = self._masker.stream()
        os.ftruncate(self._file, 0)
        self._write(self._masker.data(header.model_dump_json().encode()) + b"\n")

    def keep(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks of the reply, each of them once it is in the file."""
        for chunk in chunks:
            self._write(self._stream.feed(chunk))
            yield chunk

    def end(self) -> None:
        """The try has ended."""
        self._write(self._stream.end())

    def close(self) -> None:
        """Let go of the file, which stays; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def discard(self) -> None:
        """All that the file tells is recorded: remove it."""
        self.close()
        self._path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._file, data) :]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spooled:
    """What is known of the last try that was about to be sent."""

    header: SpoolHeader
    usage: Usage
    """Known to be billed."""
    worst_usage: Usage
    """Billed at the very most."""
    reply: Reply | None
    """None: it did not come to its end."""


def read_spool(path: Path) -> Spooled | None:
    """What a spool holds; None when there is none, or when it was torn before it said what was to be sent.

    However a spool is torn or damaged, that is no error.
    """
    try:
        first, newline, stream = path.read_bytes().partition(b"\n")
        header = SpoolHeader.model_validate_json(first)
    except (OSError, ValidationError):
        return None
    return _spooled(header, stream) if newline else None


def _spooled(header: SpoolHeader, stream: bytes) -> Spooled:
    assembly = Assembly()
    try:
        for event in stream_events((stream,)):
            assembly.add(event)
            if assembly.finished:
                reply = assembly.reply()
                return Spooled(header=header, usage=reply.usage, worst_usage=reply.usage, reply=reply)
    except StreamBroken:
        pass
    except ErrorEvent:
        if not assembly.started:
            # The provider's word for no, as a status would be.
            return Spooled(header=header, usage=Usage(), worst_usage=Usage(), reply=None)
    worst = assembly.worst_usage(header.worst_usage)
    return Spooled(header=header, usage=assembly.usage, worst_usage=worst, reply=None)
