"""Grep: lines by content, with ripgrep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from runner.policy import Call
from runner.sandbox.base import REPO, ExecResult
from runner.tools.arguments import Count, Flag, Index, Word
from runner.tools.base import Answer, Session, Tool, failure, fitting
from runner.tools.paths import missing, path_calls

DEFAULT_LIMIT = 250
MAX_CHARS = 30_000
_SECONDS = 60.0
_MAX_COLUMNS = 1_000
_READ_BYTES = 1_000_000
_NO_MATCH, _TROUBLE = 1, 2
"""Exit codes of ripgrep (https://github.com/BurntSushi/ripgrep, manual page, "EXIT STATUS")."""


class Grep(Tool):
    """Searches the content of files with a regular expression (ripgrep: Rust syntax, so `\\{` for a literal brace).

    Files that .gitignore names are left out. output_mode `files_with_matches` (the default) lists files, `content`
    shows the lines, `count` counts them per file.
    """

    pattern: Word
    """The regular expression."""
    path: Word | None = None
    """File or folder to search; the repository when not given."""
    glob: Word | None = None
    """Only files whose path matches, such as `*.py` or `src/**/*.ts`."""
    type: Word | None = None
    """Only files of this type, such as py, js, rust, go."""
    output_mode: Literal["content", "files_with_matches", "count"] | None = None
    """What to return."""
    after: Index | None = Field(default=None, alias="-A")
    """Lines to show after each match (content only)."""
    before: Index | None = Field(default=None, alias="-B")
    """Lines to show before each match (content only)."""
    around: Index | None = Field(default=None, alias="-C")
    """Lines to show on both sides of each match (content only)."""
    numbers: Flag | None = Field(default=None, alias="-n")
    """Show line numbers (content only); true when not given."""
    ignore_case: Flag | None = Field(default=None, alias="-i")
    """Do not tell upper from lower case."""
    head_limit: Count | None = None
    """Return at most this many lines or files; 250 when not given."""
    multiline: Flag | None = None
    """Let a match span lines, and `.` match a line end."""

    def calls(self, session: Session) -> tuple[Call, ...]:
        return path_calls("Grep", self.path or str(REPO), session)

    def run(self, session: Session, calls: tuple[Call, ...]) -> Answer:
        given, root = calls[0].subject, calls[-1].subject
        if session.sandbox.stat(root).kind == "missing":
            return failure(missing("Grep", given, session))
        result = session.sandbox.exec(
            self._arguments(root),
            program="rg",
            seconds=min(_SECONDS, session.seconds_left),
            head_bytes=_READ_BYTES,
            tail_bytes=0,
            separate_stderr=True,
            confined=True,
        )
        closed = _closed(result)
        trouble = "" if closed else _trouble(result)
        if trouble and not result.output:
            return failure(trouble, exit_code=result.exit_code)
        return self._show(result, root, f"{closed} paths could not be read" if closed else trouble, session)

    @property
    def _mode(self) -> Literal["content", "files_with_matches", "count"]:
        return self.output_mode or "files_with_matches"

    def _arguments(self, root: str) -> list[str]:
        """Every value that the model gave stands behind `-e`, `=` or `--`, where it cannot be an option."""
        arguments = ["--no-config", "--color=never", "--no-heading", "--with-filename", "--null", "--hidden"]
        # One order for all runs: a replay of the job must see what the model saw.
        arguments += ["--sort=path"]
        arguments += {"content": [], "files_with_matches": ["--files-with-matches"], "count": ["--count"]}[self._mode]
        if self._mode == "content":
            arguments += [f"--max-columns={_MAX_COLUMNS}", "--max-columns-preview"]
            arguments += ["--no-line-number" if self.numbers is False else "--line-number"]
            arguments += self._context()
        arguments += ["--ignore-case"] if self.ignore_case else []
        arguments += ["--multiline", "--multiline-dotall"] if self.multiline else []
        arguments += [f"--glob={self.glob}"] if self.glob else []
        arguments += [f"--type={self.type}"] if self.type else []
        return [*arguments, "--glob=!.git", "-e", self.pattern, "--", root]

    def _context(self) -> list[str]:
        before = self.around if self.before is None else self.before
        after = self.around if self.after is None else self.after
        return [f"--before-context={before or 0}", f"--after-context={after or 0}"]

    def _show(self, result: ExecResult, root: str, trouble: str, session: Session) -> Answer:
        text = result.output.decode("utf-8", "replace")
        hits = list(_files(text) if self._mode == "files_with_matches" else _lines(text, root))
        allowed = {path: session.permits(Call(tool="Grep", subject=path)) for path in {hit.path for hit in hits}}
        lines = [hit.text for hit in hits if allowed[hit.path]]
        shown = fitting(lines[: self.head_limit or DEFAULT_LIMIT], MAX_CHARS)
        notes = [trouble] if trouble else []
        if len(shown) < len(lines) or result.truncated:
            notes.append(f"only the first {len(shown)} results are shown; narrow the search, or raise head_limit")
        hidden = sum(not permitted for permitted in allowed.values())
        if hidden:
            notes.append(f"matches in {hidden} files that the policy does not let you read were left out")
        content = "\n".join((shown or ["No matches found."]) + [f"({note})" for note in notes])
        details = {"results": len(shown), "files": len(allowed) - hidden, "truncated": len(shown) < len(lines)}
        return Answer(content=content, details=details)


@dataclass(frozen=True, slots=True)
class Hit:
    """One result: a path, and what ripgrep says behind it (a line, a count, or nothing)."""

    path: str
    rest: str | None

    @property
    def text(self) -> str:
        return self.path if self.rest is None else f"{self.path}:{self.rest}"


def _files(text: str) -> Iterator[Hit]:
    """Hits of `--files-with-matches --null`: a NUL byte ends each path."""
    return (Hit(path, None) for path in text.split("\0")[:-1])


def _lines(text: str, root: str) -> Iterator[Hit]:
    """Hits of the other modes with --null: a NUL byte ends the path on each line."""
    for line in text.split("\n")[:-1]:
        path, separator, rest = line.partition("\0")
        # A path with a line end in it comes in two halves, which no rule could judge: neither is taken for a path.
        if separator and path.startswith(root):
            yield Hit(path, rest.removesuffix("\r"))


def _closed(result: ExecResult) -> int:
    """How many paths the job's user may not read, when ripgrep complained of nothing else."""
    lines = result.stderr.splitlines()
    refused = sum(line.endswith(b"Permission denied (os error 13)") for line in lines)
    return refused if result.exit_code == _TROUBLE and refused == len(lines) else 0


def _trouble(result: ExecResult) -> str:
    """What ripgrep complained about, empty when it did not."""
    if result.timed_out:
        return "The search took too long and was ended; narrow it with path, glob or type."
    if result.exit_code in (0, _NO_MATCH):
        return ""
    if result.exit_code == _TROUBLE:
        return result.stderr.decode("utf-8", "replace").strip()[:2_000] or "ripgrep failed"
    return f"ripgrep ended with exit code {result.exit_code}, signal {result.signal}."
