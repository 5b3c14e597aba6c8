"""The shell's own commands that start nothing and write nothing: a policy that allows any command allows these."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from runner.policy.simple import SimpleCommand
from runner.policy.variables import is_harmless, is_harmless_name
from runner.policy.words import NAME, Word

_SET_OPTIONS = ("errexit", "nounset", "pipefail", "xtrace", "verbose", "noglob", "noclobber", "errtrace", "functrace")


def is_free(command: SimpleCommand) -> bool:
    """Whether a command without assignments is one of those, used for what is harmless."""
    words = command.words
    if words[0].kind != "literal":
        return False
    check = _FREE.get(words[0].text)
    return check is not None and check(words[1:])


def _always(words: Sequence[Word]) -> bool:
    return True


def _without_words(words: Sequence[Word]) -> bool:
    """`exec` alone, which redirects the shell itself."""
    return not words


def _asks(words: Sequence[Word]) -> bool:
    """`command -v NAME` says what the name is."""
    return bool(words) and words[0].text in ("-v", "-V") and words[0].kind == "literal"


def _waits(words: Sequence[Word]) -> bool:
    return all(word.text == "-n" or not (word.text.startswith("-") or word.is_open) for word in words)


def _set(words: Sequence[Word]) -> bool:
    """Options of the shell that change how it stops, and arguments."""
    named = False
    for word in words:
        if word.kind != "literal":
            return False
        if word.text in ("--", "-"):
            return True
        if named and word.text not in _SET_OPTIONS:
            return False
        if not named and not re.fullmatch(r"[-+][eufxvCET]*o?", word.text):
            return False
        named = word.text[:1] in "-+" and word.text.endswith("o")
    return True


def _declare(words: Sequence[Word]) -> bool:
    return all(is_declaration(word) for word in words)


def is_declaration(word: Word) -> bool:
    """Whether what stands behind `export` and the like is harmless."""
    if word.kind == "literal" and word.text.startswith("-"):
        return re.fullmatch(r"-[aAgprx]+", word.text) is not None
    found = re.match(rf"({NAME})\+?=", word.prefix, re.ASCII)
    if found:
        return not word.splits and is_harmless(replace(word, assigns=found[1]))
    return _is_name(word)


def _is_name(word: Word) -> bool:
    return (
        word.kind == "literal" and re.fullmatch(NAME, word.text, re.ASCII) is not None and is_harmless_name(word.text)
    )


def _unset(words: Sequence[Word]) -> bool:
    return all(_is_name(word) for word in (words[1:] if words and words[0].text == "-v" else words))


_READ_OPTIONS = re.compile(r"-r?s?(?:[aptndNu](?P<value>.*))?", re.DOTALL)


def _read(words: Sequence[Word]) -> bool:
    """`read -r NAME`, without those options that edit the line."""
    rest = list(words)
    while rest and rest[0].text.startswith("-") and rest[0].kind == "literal":
        found = _READ_OPTIONS.fullmatch(rest.pop(0).text)
        if not found:
            return False
        if found["value"] == "" and rest:
            value = rest.pop(0)
            if value.splits or (found[0].endswith("a") and not _is_name(value)):
                return False
        elif found["value"]:
            return False
    return all(_is_name(word) for word in rest)


def _mapfile(words: Sequence[Word]) -> bool:
    return all(word.text == "-t" or _is_name(word) for word in words)


_FREE: dict[str, Callable[[Sequence[Word]], bool]] = {
    ":": _always,
    "break": _always,
    "command": _asks,
    "cd": _always,  # what is run then is judged by where it is
    "continue": _always,
    "declare": _declare,
    "exec": _without_words,
    "exit": _always,
    "export": _declare,
    "false": _always,
    "local": _declare,
    "mapfile": _mapfile,
    "read": _read,
    "readarray": _mapfile,
    "readonly": _declare,
    "return": _always,
    "set": _set,
    "shift": _always,
    "true": _always,
    "type": _always,
    "typeset": _declare,
    "unset": _unset,
    "wait": _waits,
}
