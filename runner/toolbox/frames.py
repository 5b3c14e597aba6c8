"""Frames of the pipe between host and toolbox; used by both sides. The protocol is written down in docs/protocol.md."""

from __future__ import annotations

import json
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADER = struct.Struct(">IIB")
"""Length of the payload, stream, kind."""

OPEN, DATA, CREDIT, END, CANCEL = 1, 2, 3, 4, 5
MAX_DATA = 64 * 1024
MAX_JSON = 1024 * 1024
WINDOW = 1024 * 1024
"""Bytes of DATA that a side may send on a new stream before it gets CREDIT."""
MAX_CREDIT = 2**31
TUNNEL_WINDOW = 256 * 1024
"""The same on a tunnel: the toolbox holds so much for each, and its memory is the job's."""
MAX_TUNNELS = 64
"""Tunnels that are open at once; the toolbox lets further connections wait."""

# Lengths that a payload may have, by kind.
LENGTHS = {OPEN: (2, MAX_JSON), DATA: (0, MAX_DATA), CREDIT: (4, 4), END: (2, MAX_JSON), CANCEL: (0, 0)}


class ProtocolError(Exception):
    """The other side sent what the protocol does not know. Nothing it sends afterwards means anything."""


def encode(stream: int, kind: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return HEADER.pack(len(payload), stream, kind) + payload


def encode_json(stream: int, kind: int, value: dict[str, Any]) -> bytes:
    """A frame whose payload is JSON. Raises ValueError when it is larger than a frame may be."""
    payload = json.dumps(value, separators=(",", ":")).encode("ascii")
    if len(payload) > MAX_JSON:
        raise ValueError(f"a message of {len(payload)} bytes; at most {MAX_JSON} fit into a frame")
    return encode(stream, kind, payload)


def encode_credit(stream: int, size: int) -> bytes:
    """A frame that lets the other side send `size` more bytes of DATA."""
    return encode(stream, CREDIT, size.to_bytes(4, "big"))


def decode_json(payload: bytes) -> dict[str, Any]:
    """The object in a payload. Raises ProtocolError for anything else."""
    try:
        value = json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"bad JSON ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise ProtocolError("JSON that is not an object")
    return value


def decode_credit(payload: bytes) -> int:
    """The bytes that a CREDIT frame grants."""
    return int.from_bytes(payload, "big")


class Parser:
    """Turns bytes, split anywhere, into frames. Holds one unfinished frame at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """The frames that `data` completes: (stream, kind, payload). Raises ProtocolError at the first bad header."""
        self._buffer += data
        buffer, start, frames = self._buffer, 0, []
        while len(buffer) - start >= HEADER.size:
            length, stream, kind = HEADER.unpack_from(buffer, start)
            _check(length, kind)
            end = start + HEADER.size + length
            if len(buffer) < end:
                break
            frames.append((stream, kind, bytes(memoryview(buffer)[start + HEADER.size : end])))
            start = end
        del buffer[:start]
        return frames


def _check(length: int, kind: int) -> None:
    if kind not in LENGTHS:
        raise ProtocolError(f"unknown kind {kind}")
    least, most = LENGTHS[kind]
    if not least <= length <= most:
        raise ProtocolError(f"bad length {length} of kind {kind}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
