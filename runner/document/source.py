"""The bytes of a file, as text that a YAML reader may be given."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from runner.document.composer import compose
from runner.document.tree import Document, Mark, Stop, report
from runner.document.words import near
from runner.errors import ConfigError

MAX_BYTES = 1024 * 1024


def read(path: Path) -> Document:
    """The document in a file; mistakes in it are kept in `problems`. Raises ConfigError when there is no document."""
    name = str(path) if str(path).isprintable() else repr(str(path))
    data = _bytes(path, name)
    document = Document(source=name, sha256=hashlib.sha256(data).hexdigest())
    try:
        compose(_text(data, document), document)
    except Stop as stop:
        document.complain((), stop.text, stop.mark)
        raise ConfigError(report(document.problems)) from None
    return document


def read_text(path: Path) -> str:
    """What is in a file that is no YAML, at most MAX_BYTES. Raises ConfigError."""
    name = str(path) if str(path).isprintable() else repr(str(path))
    try:
        return _bytes(path, name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: byte {error.start:,} is not UTF-8") from None


def _bytes(path: Path, name: str) -> bytes:
    try:
        # A FIFO would otherwise be waited for.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ConfigError(f"{name}: there is no such file{_sibling(path)}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{name}: cannot be read: {reason}") from None
    try:
        if refusal := _REFUSED_KINDS.get(stat.S_IFMT(os.fstat(file).st_mode), ""):
            raise ConfigError(f"{name}: {refusal}")
        data = _read_all(file)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from None
    finally:
        os.close(file)
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{name}: is larger than {MAX_BYTES:,} bytes")
    return data


_REFUSED_KINDS = {
    stat.S_IFDIR: "is a directory; name a file",
    **dict.fromkeys((stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK), "is not a regular file"),
}


def _read_all(file: int) -> bytes:
    """All of a file, but no more than just over the limit."""
    data = b""
    while len(data) <= MAX_BYTES and (chunk := os.read(file, MAX_BYTES + 1 - len(data))):
        data += chunk
    return data


def _sibling(path: Path) -> str:
    try:
        found = near(path.name, [entry.name for entry in path.parent.iterdir()], likeness=0.8)
    except OSError:
        return ""
    return f"; did you mean {str(path.with_name(found))!r}?" if found else ""


# What YAML does not allow in a stream, and the rarer line ends, which readers count differently.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def _text(data: bytes, document: Document) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise Stop(Mark(document.source, 1, 1), "starts with a byte order mark; save the file as UTF-8 without one")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        raise Stop(_mark_after(before, document), f"byte 0x{data[error.start]:02x} is not UTF-8") from None
    if found := _FORBIDDEN.search(text):
        mark = _mark_after(text[: found.start()], document)
        raise Stop(mark, f"character U+{ord(found[0]):04X} is not allowed")
    return text


def _mark_after(text: str, document: Document) -> Mark:
    lines = re.split("\r\n|\r|\n", text)
    return Mark(document.source, len(lines), len(lines[-1]) + 1)
