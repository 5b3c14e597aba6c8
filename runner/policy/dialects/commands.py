"""Patterns of commands, of systems in whose patterns `*` is any text, spaces too, as rules of ours: word by word."""

from __future__ import annotations

import re
import shlex

from runner.policy.command_pattern import CommandPattern
from runner.policy.rules import parse_rule

_FIRST_WORD = re.compile(r"\s*([\w./-]+)(?=\s|\Z)")


def words_rule(words: tuple[str, ...]) -> str:
    """The rule of these words; a last `*` is any arguments. Raises ValueError for words that no rule can have."""
    ends_open = len(words) > 1 and words[-1] == "*"
    text = " ".join(_quoted(word) for word in (words[:-1] if ends_open else words))
    rule = f"Bash({text}:*)" if ends_open else f"Bash({text})"
    pattern = parse_rule(rule).pattern
    if not isinstance(pattern, CommandPattern) or pattern.words != words:
        raise ValueError(f"no rule can have the words {shlex.join(words)}")
    return rule


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w@%+=:,./*-]+", word) else shlex.quote(word)


def pattern_words(pattern: str) -> tuple[str, ...]:
    """The words of a pattern; empty for all commands. Raises ValueError for what is not one plain command."""
    parsed = parse_rule(f"Bash({pattern})").pattern
    return parsed.words if isinstance(parsed, CommandPattern) else ()


def narrow(pattern: str) -> str:
    """A rule that allows nothing that the pattern does not. Raises ValueError."""
    if quote := re.search(r"[\"'\\]", pattern):
        raise ValueError(f"{quote[0]} is compared as text there, and taken away from commands here")
    words = pattern_words(pattern)
    return words_rule(words) if words else "Bash"


def wide(pattern: str) -> str:
    """A rule that catches all that the pattern does, and as little more as can be said."""
    try:
        words = pattern_words(pattern)
    except ValueError:
        found = _FIRST_WORD.match(pattern)
        words = (found[1], "*") if found else ()
    # In the other system a star within a word may also stand for more words.
    starred = next((at for at, word in enumerate(words) if word != "*" and re.search(r"[*?]", word)), None)
    if starred is not None:
        begin = re.split(r"[*?]", words[starred])[0]
        words = (*words[:starred], f"{begin}*", "*") if begin else (*words[:starred], "*")
    if not words or words == ("*",):
        return "Bash"
    try:
        return words_rule(words)
    except ValueError:
        return "Bash"


def is_exact(pattern: str) -> bool:
    """Whether `narrow` and `wide` say the same as the pattern."""
    try:
        words = pattern_words(pattern)
    except ValueError:
        return False
    return not any(word != "*" and re.search(r"[*?]", word) for word in words)
