"""Read: a text file with numbered lines."""

from __future__ import annotations

import hashlib

from runner.policy import Call
from runner.tools.arguments import Count, Index, Word
from runner.tools.base import Answer, Session, Tool, failure, fitting
from runner.tools.paths import missing, path_calls

MAX_FILE_BYTES = 10_000_000
MAX_LINES = 2_000
MAX_LINE_CHARS = 2_000
MAX_CHARS = 100_000
"""Of one answer: about 25,000 to 30,000 tokens."""
_SNIFF_BYTES = 8_192


class Read(Tool):
    """Reads a text file. Lines come numbered as in `cat -n` (number, tab, line); the numbers are not part of the file.

    Without offset and limit it returns up to 2000 lines from the start; longer lines than 2000 characters are cut.
    Read a file before you overwrite it with Write.
    """

    file_path: Word
    """Absolute path of the file (a relative one starts at the repository)."""
    offset: Index | None = None
    """Number of the first line to return, counted from 1."""
    limit: Count | None = None
    """How many lines to return."""

    def calls(self, session: Session) -> tuple[Call, ...]:
        return path_calls("Read", self.file_path, session)

    def run(self, session: Session, calls: tuple[Call, ...]) -> Answer:
        data = load("Read", calls, session)
        if isinstance(data, Answer):
            return data
        session.seen[calls[-1].subject] = sha256(data)
        return self._show(data)

    def _show(self, data: bytes) -> Answer:
        text, notes = decode(data)
        lines = split_lines(text)
        first = max(self.offset or 1, 1)
        if not lines:
            return Answer(content="(The file exists, but it is empty.)", details={"bytes": 0, "lines": 0})
        if first > len(lines):
            return failure(f"There is no line {first}: the file has {len(lines)} lines.", lines=len(lines))
        shown = fitting(number_lines(lines[first - 1 : first - 1 + (self.limit or MAX_LINES)], first), MAX_CHARS)
        last = first + len(shown) - 1
        if last < len(lines):
            notes.append(f"lines {first}-{last} of {len(lines)}; go on with offset={last + 1}")
        content = "\n".join(shown + [f"({note})" for note in notes])
        return Answer(content=content, details={"bytes": len(data), "lines": len(lines), "first": first, "last": last})


def load(tool: str, calls: tuple[Call, ...], session: Session) -> bytes | Answer:
    """The bytes of the text file that was judged, or why the model cannot have them. Raises OSError."""
    given, path = calls[0].subject, calls[-1].subject
    info = session.sandbox.stat(path)
    if info.kind == "missing":
        return failure(missing(tool, given, session))
    if info.kind == "directory":
        return failure(f"{given} is a directory, not a file; list it with Glob, or with ls in Bash.")
    if info.kind != "file":
        return failure(f"{given} is not a regular file.")
    if info.size > MAX_FILE_BYTES:
        return failure(
            f"{given} is too big: {info.size:,} bytes, the most is {MAX_FILE_BYTES:,}. "
            "Look for the part you need with Grep, or print it with sed -n in Bash."
        )
    data = session.sandbox.read_file(path, max_bytes=MAX_FILE_BYTES)
    if b"\0" in data[:_SNIFF_BYTES]:
        return failure(f"{given} is a binary file of {len(data):,} bytes; this tool is for text.")
    return data


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes) -> tuple[str, list[str]]:
    """The text without byte order mark, and what the model should know about the encoding."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    valid = "\ufffd" not in text or _is_utf8(data)
    notes = [] if valid else ["the file is not valid UTF-8; bytes that could not be read are shown as \ufffd"]
    return text, notes


def split_lines(text: str) -> list[str]:
    """Lines without their ends, CRLF or LF; a last line end makes no further line."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def number_lines(lines: list[str], first: int) -> list[str]:
    """The lines as `cat -n` numbers them, long ones cut."""
    return [f"{number:>6}\t{_cut(line)}" for number, line in enumerate(lines, first)]


def _cut(line: str) -> str:
    if len(line) <= MAX_LINE_CHARS:
        return line
    return f"{line[:MAX_LINE_CHARS]}… (line cut: it has {len(line):,} characters)"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
