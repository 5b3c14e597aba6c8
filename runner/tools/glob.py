"""Glob: files by name."""

from __future__ import annotations

import posixpath
import re

from runner.policy import Call
from runner.sandbox.base import REPO
from runner.tools.arguments import Word
from runner.tools.base import Answer, Session, Tool, failure
from runner.tools.paths import absolute, missing, path_calls

MAX_FILES = 100
_WILD = re.compile(r"[*?\[{]")


class Glob(Tool):
    """Finds files by a pattern such as `**/*.py` or `src/**/test_*.ts`.

    Returns absolute paths, newest first, at most 100.
    """

    pattern: Word
    """The pattern, relative to path; `**` stands for any number of folders."""
    path: Word | None = None
    """The folder to search; the repository when not given."""

    def calls(self, session: Session) -> tuple[Call, ...]:
        return path_calls("Glob", self._root_and_pattern()[0], session)

    def run(self, session: Session, calls: tuple[Call, ...]) -> Answer:
        root, pattern = calls[-1].subject, self._root_and_pattern()[1]
        if ".." in pattern.split("/"):
            return failure("pattern must not contain '..'; give the folder as path.")
        kind = session.sandbox.stat(root).kind
        if kind != "directory":
            there = missing("Glob", calls[0].subject, session) if kind == "missing" else f"{root} is not a folder."
            return failure(there)
        found, more = session.sandbox.glob(pattern, root=root, limit=MAX_FILES)
        names = [name for name in found if session.permits(Call(tool="Glob", subject=name))]
        lines = names or ["No files found."]
        if more:
            lines.append(f"(only the newest {MAX_FILES} are shown; use a narrower pattern)")
        return Answer(content="\n".join(lines), details={"files": len(names), "truncated": more})

    def _root_and_pattern(self) -> tuple[str, str]:
        """The folder to search and what to look for below it: an absolute pattern names its folder itself."""
        pattern = posixpath.normpath(self.pattern)
        if not pattern.startswith("/"):
            return absolute(self.path or str(REPO)), pattern
        wild = _WILD.search(pattern)
        at = pattern.rfind("/", 0, wild.start() if wild else None)
        return absolute(pattern[:at] or "/"), pattern[at + 1 :]
