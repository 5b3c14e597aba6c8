"""A shell command as the simple commands it is made of; what is not understood for certain is said to be unclear."""

from __future__ import annotations

from dataclasses import dataclass

from runner.policy.paths import REPO
from runner.policy.script import commands_in
from runner.policy.simple import Redirection, SimpleCommand
from runner.policy.words import Stop, Word, check_visible

__all__ = ["Redirection", "SimpleCommand", "Unclear", "Word", "commands_of", "simple_commands"]

MAX_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class Unclear:
    """What this reader does not understand, to follow "it has"."""

    reason: str


def simple_commands(command: str) -> tuple[SimpleCommand, ...] | Unclear:
    """All simple commands that running `command` in the repository could start, in order."""
    return commands_of(command)


def commands_of(command: str, cwd: str | None = REPO) -> tuple[SimpleCommand, ...] | Unclear:
    """All simple commands that running `command` in the folder `cwd` could start; None: in a folder not known."""
    if len(command) > MAX_CHARS:
        return Unclear(f"more than {MAX_CHARS:,} characters")
    try:
        check_visible(command.replace("\n", "").replace("\t", ""))
        return commands_in(command, None if cwd is None else frozenset((cwd,)))
    except Stop as stop:
        return Unclear(str(stop))
