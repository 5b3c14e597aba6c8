"""The tree, the places of its keys and values, and what is wrong with them: collected, not thrown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runner.document.words import KeyPath, key_text

MAX_ERRORS = 20


class Problem(NamedTuple):
    """One mistake."""

    line: int
    column: int
    where: str
    """`file:line:column`, or the flag."""
    key: KeyPath
    text: str

    def __str__(self) -> str:
        key = f"{key_text(self.key)}: " if self.key and not self.where.startswith("--") else ""
        return f"{self.where}: {key}{self.text}"


class Mark(NamedTuple):
    """A place in a source, counted from 1."""

    source: str
    line: int
    column: int

    def __str__(self) -> str:
        return self.source if self.source.startswith("--") else f"{self.source}:{self.line}:{self.column}"


@dataclass(kw_only=True, slots=True)
class Document:
    """What a source says, before it is known to be a task or a policy."""

    source: str
    sha256: str = ""
    tree: Any = None
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    values: dict[KeyPath, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: set[KeyPath] = field(default_factory=set)
    """Values that are not in the tree as written: nothing more is said about them."""
    written: dict[KeyPath, KeyPath] = field(default_factory=dict)
    """Keys as their file has them, where that is not where the tree has them."""

    def mark(self, path: KeyPath, *, of_key: bool = False) -> Mark:
        """Where a key's value (or the key itself) stands; for one that is not there, where its parent does."""
        places = self.keys if of_key else self.values
        while path and path not in places:
            path, places = path[:-1], self.values
        return places.get(path, Mark(self.source, 1, 1))

    def where(self, path: KeyPath) -> str:
        return str(self.mark(path))

    def complain(self, path: KeyPath, text: str, mark: Mark | None = None) -> None:
        mark = mark or self.mark(path)
        self.problems.append(Problem(mark.line, mark.column, str(mark), self.written.get(path, path), text))


def report(problems: list[Problem]) -> str:
    """One line for each, in order of place, as far as they are listed."""
    lines = list(dict.fromkeys(str(problem) for problem in sorted(problems, key=_place)))
    more = [f"… and {len(lines) - MAX_ERRORS} more"] if len(lines) > MAX_ERRORS else []
    return "\n".join(lines[:MAX_ERRORS] + more)


def _place(problem: Problem) -> tuple[int, int]:
    return problem.line, problem.column


class Stop(Exception):
    """Reading cannot go on."""

    def __init__(self, mark: Mark, text: str) -> None:
        self.mark = mark
        self.text = text
