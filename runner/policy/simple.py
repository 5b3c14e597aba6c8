"""A simple command: what the shell would start, with which words, and which files it would open for it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from runner.document.words import shown
from runner.policy.paths import REPO
from runner.policy.words import Stop, Word

Folders = frozenset[str] | None
"""All working directories that there may be at some point; None when that cannot be told."""


def are_inside(cwds: Folders) -> bool:
    """Whether all of them lie in the repository."""
    return cwds is not None and all(f"{cwd}/".startswith(f"{REPO}/") for cwd in cwds)


@dataclass(frozen=True, slots=True)
class Redirection:
    """From or to a file. Those of /dev/null and the standard streams are left out."""

    access: Literal["read", "write"]
    target: Word

    def __str__(self) -> str:
        return f"{'<' if self.access == 'read' else '>'} {self.target.text}"


@dataclass(frozen=True, slots=True)
class SimpleCommand:
    """What the shell would start (or a builtin), with assignments before it as its first words. Without words it is
    what other commands are redirected to."""

    words: tuple[Word, ...]
    files: tuple[Redirection, ...] = ()
    cwds: Folders = frozenset((REPO,))
    is_function: bool = False
    """The program is a function of the same script, whose body is among the commands already."""
    input: Word | None = None
    """Its standard input, where the script holds that."""

    def __str__(self) -> str:
        return " ".join((*(word.text for word in self.words), *map(str, self.files)))

    @property
    def assignments(self) -> tuple[Word, ...]:
        return tuple(word for word in self.words if word.assigns)

    @property
    def program(self) -> tuple[Word, ...]:
        """The words without assignments."""
        return tuple(word for word in self.words if not word.assigns)


_STREAMS = ("/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/zero", "/dev/random", "/dev/urandom")
_REDIRECTION = re.compile(r"(?P<descriptor>[0-9]*)(?P<operator>&>>|&>|>>|>\||>&|<>|<&|<<<|<|>)(?:[ \t]|\\\n)*")
_DIGITS_BEFORE = re.compile(r"(?:^|[\s;&|()<>])[0-9]+(?:\\\n)*\Z")


class Operator:
    """A redirection as it is written: `2>`, and where its target begins. Raises Stop."""

    def __init__(self, text: str, start: int, end: int) -> None:
        found = _REDIRECTION.match(text, start, end)
        if not found:
            raise Stop(f"a redirection that is not understood ({shown(text[start:end][:30])})")
        if len(found["descriptor"]) > 1 or _DIGITS_BEFORE.search(text, max(0, start - 9), start):
            raise Stop("a descriptor of two digits")  # to some shells that is a word
        if found["descriptor"] and start and text[start - 1] not in " \t\n;&|()<>":
            raise Stop("a number before a redirection")
        self.descriptor = found["descriptor"]
        self.text = found["operator"]
        self.at = found.start("operator")
        self.end = found.end()


@dataclass(slots=True)
class Streams:
    """The redirections of one command, one by one."""

    files: list[Redirection] = field(default_factory=list)
    input: Word | None = None
    both: bool = False
    """There is a `&>`, behind which some shells begin another command."""

    def give(self, operator: Operator, text: Word) -> None:
        """Text of the script itself goes to the command."""
        if operator.descriptor in ("", "0"):
            self.input = text

    def open(self, operator: Operator, target: Word) -> None:
        """The command gets a file. Raises Stop."""
        self.both = self.both or operator.text.startswith("&>")
        if operator.descriptor in ("", "0") and operator.text.startswith("<"):
            self.input = None  # the last one counts
        if operator.text in (">&", "<&"):
            if target.kind != "literal" or not re.fullmatch(r"[\w./+-]*", target.text):
                raise Stop(f"{operator.text!r} with a text that bash replaces twice")
            if re.fullmatch(r"[0-9]*-?", target.text):
                return
        if target.kind == "literal" and target.text in _STREAMS:
            return
        if any(re.match(r"/+dev/+(tcp|udp)/", text) for text in (target.text, *target.values)):
            raise Stop(f"a connection to the network ({shown(target.text)})")
        if operator.text in ("<", "<>", "<&"):
            self.files.append(Redirection("read", target))
        if operator.text not in ("<", "<&"):
            self.files.append(Redirection("write", target))
