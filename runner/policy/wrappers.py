"""Programs that start the program named in their arguments: what a rule that denies it must see through."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from runner.policy.shell import Unclear, Word, is_assignment, simple_commands

_WRAPPERS = frozenset(
    ("builtin", "busybox", "chrt", "command", "doas", "env", "exec", "flock", "ionice", "nice", "nohup", "parallel")
    + ("setpriv", "setsid", "stdbuf", "strace", "sudo", "taskset", "time", "timeout", "unbuffer", "unshare", "watch")
    + ("xargs",)
)
_FIND_ACTIONS = ("-exec", "-execdir", "-ok", "-okdir")
_SHELLS = frozenset(("ash", "bash", "dash", "eval", "ksh", "mksh", "sh", "su", "trap", "zsh"))
"""Those that take a script, or parts of one, among their arguments."""
_DEEPEST = 5
_MOST_WORDS = 1_000


class Undecidable(Exception):
    """What a command would start cannot be known; the text says why, to follow "it has"."""


def started(words: Sequence[Word], depth: int = 0) -> Iterator[Sequence[Word]]:
    """The command, and the commands it may start on its part, each as words; program names without their folder.

    Raises Undecidable.
    """
    if depth > _DEEPEST:
        raise Undecidable("commands within commands")
    words = _without_assignments(words)
    if not words:
        return
    yield from _program(words, depth)
    name = _name(words[0])
    if name in _WRAPPERS:
        if len(words) > _MOST_WORDS:
            raise Undecidable(f"more than {_MOST_WORDS:,} words behind {name}")
        # Which of its words is the program depends on its options: any may be.
        for start in range(1, len(words)):
            if words[start].kind == "literal":
                yield from _program(words[start:], depth)
    elif name == "find":
        for start, word in enumerate(words[:-1], start=1):
            if word.text in _FIND_ACTIONS:
                yield from started(words[start:], depth + 1)


def _program(words: Sequence[Word], depth: int) -> Iterator[Sequence[Word]]:
    """A program with its arguments, and what it is told to start in scripts."""
    if words[0].kind != "literal":
        raise Undecidable(f"a program name that the shell makes up ({words[0].text})")
    name = _name(words[0])
    yield (Word(name, prefix=name), *words[1:])
    if name in _WRAPPERS:
        _check_program(words)
    elif name in _SHELLS:
        yield from _scripts(words, name, depth)
    elif name == "alias" and any(word.kind != "literal" or "=" in word.text for word in words[1:]):
        # What stands behind the alias where it is used belongs to the command: `alias g=git; g push`.
        raise Undecidable("an alias, which gives another name to a command")


def _name(word: Word) -> str:
    return word.text.rsplit("/", 1)[-1]


_NOT_THE_PROGRAM = re.compile(r"-.*|\d[\d.]*[smhd]?", re.DOTALL)
"""Options, and the numbers that some wrappers take."""


def _check_program(words: Sequence[Word]) -> None:
    """Raise Undecidable when what a wrapper starts is made up by the shell."""
    for word in words[1:]:
        if word.kind == "literal" and (is_assignment(word) or _NOT_THE_PROGRAM.fullmatch(word.text)):
            continue
        if word.kind != "literal" and not is_assignment(word):
            raise Undecidable(f"a program name that the shell makes up ({word.text})")
        if word.kind == "literal":
            return


def _without_assignments(words: Sequence[Word]) -> Sequence[Word]:
    for start, word in enumerate(words):
        if not is_assignment(word):
            return words[start:]
    return ()


def _scripts(words: Sequence[Word], name: str, depth: int) -> Iterator[Sequence[Word]]:
    """What a shell's arguments would start, were each of them a script."""
    if any(word.kind != "literal" for word in words[1:]):
        raise Undecidable(f"a script for {name} that the shell makes up")
    texts = [word.text for word in words[1:]]
    if name == "eval":
        texts = [" ".join(texts[1:] if texts[:1] == ["--"] else texts)]
    for text in texts:
        commands = simple_commands(text)
        if isinstance(commands, Unclear):
            raise Undecidable(f"{commands.reason} in a script for {name}")
        for command in commands:
            yield from started(command.words, depth + 1)
