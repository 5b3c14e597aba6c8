"""Write: a whole file, new or replaced."""

from __future__ import annotations

from runner.policy import Call
from runner.sandbox.base import FileInfo
from runner.tools.arguments import Content, Word
from runner.tools.base import Answer, Session, Tool, failure
from runner.tools.paths import path_calls
from runner.tools.read import sha256


class Write(Tool):
    """Writes a whole file: creates it, with its folders, or replaces what is there.

    A file that exists must have been read with Read before, and not have changed since. To change part of it use Edit.
    """

    file_path: Word
    """Absolute path of the file (a relative one starts at the repository)."""
    content: Content
    """The whole new content."""

    def calls(self, session: Session) -> tuple[Call, ...]:
        return path_calls("Write", self.file_path, session)

    def run(self, session: Session, calls: tuple[Call, ...]) -> Answer:
        given, path = calls[0].subject, calls[-1].subject
        info = session.sandbox.stat(path)
        refusal = _refusal(given, path, info, session)
        if refusal is not None:
            return refusal
        data = self.content.encode()
        expected = session.seen[path] if info.kind == "file" else ""
        try:
            session.sandbox.write_file(path, data, expected_sha256=expected)
        except FileExistsError:
            return failure(f"{given} has changed since it was last read. Read it again, then write it.")
        session.seen[path] = sha256(data)
        verb = "Replaced" if info.kind == "file" else "Created"
        return Answer(content=f"{verb} {given} ({len(data):,} bytes).", details={"path": path, "bytes": len(data)})


def _refusal(given: str, path: str, info: FileInfo, session: Session) -> Answer | None:
    if info.kind == "missing":
        return None
    if info.kind != "file":
        return failure(f"{given} is a {info.kind}, not a regular file.")
    if path not in session.seen:
        return failure(f"{given} exists and was not read in this session. Read it first, then write it.")
    return None
