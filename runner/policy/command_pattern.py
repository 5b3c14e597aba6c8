"""What stands in `Bash(…)`: the words of one command, and whether a command of a job is one of those."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from runner.document.words import shown
from runner.policy.options import risky_option
from runner.policy.sequence import Test, matches
from runner.policy.simple import SimpleCommand
from runner.policy.words import NotAWord, Stop, Word, plain_words
from runner.policy.wrappers import started_programs


@dataclass(frozen=True, slots=True)
class CommandPattern:
    """Words of one command; `*` in a word is any text, `*` as a word one or more words, at the end any number."""

    words: tuple[str, ...]

    def allows(self, command: SimpleCommand) -> bool:
        """Whether the words of the command certainly match."""
        first = self.words[0]
        if "*" not in first and (command.words[0].text != first or command.words[0].kind != "literal"):
            return False
        return matches(_tests(self.words, _certainly), command.words)

    def catches(self, words: Sequence[Word]) -> bool:
        """Whether the words may come to match, given what the shell puts for variables and globs."""
        if self.words[0] != "*" and not _possibly(self.words[0], words[0]):
            return False
        tests = _tests(self.words, _possibly)
        unsure = next((at for at, word in enumerate(words) if word.kind != "literal"), None)
        if unsure is None:
            return matches(tests, words)
        # What the shell puts there may be no word or several: what stands behind it says nothing any more.
        ends = (end for end in range(len(tests) + 1) if matches(tests[:end], words[:unsure]))
        return any(end == len(tests) or (test := tests[end]) is None or test(words[unsure]) for end in ends)

    def risky_word(self, words: Sequence[Word]) -> str | None:
        """A word of a command without assignments that this rule must name itself to allow it."""
        if not any("*" in word for word in self.words):
            return None
        programs = (program for program in started_programs(words) if not self.names(program))
        return risky_option(words, self.names) or next(programs, None)

    def names(self, text: str) -> bool:
        """Whether it has the word; also as the beginning of a word with a star, such as `PATH=*`."""
        return any(
            _star_match(word, text) if _FIXED.match(word) else word == text and "*" not in word for word in self.words
        )

    @property
    def is_any(self) -> bool:
        """A program with any arguments."""
        return len(self.words) == 2 and self.words[1] == "*"  # noqa: PLR2004


_FIXED = re.compile(r"[^*]{3}")


def parse_command(text: str) -> CommandPattern:
    """Raises ValueError."""
    legacy = text.endswith(":*")
    not_one = f"Bash({text}) is not one plain command; write one rule for each, without redirections"
    try:
        words = plain_words(text[:-2] if legacy else text)
    except NotAWord as stop:
        raise ValueError(not_one) from stop
    except Stop as stop:
        raise ValueError(f"the command in Bash({text}) has {stop}; a rule is about one plain command") from stop
    if not words:
        raise ValueError(not_one)
    if unknown := next((word.text for word in words if word.kind == "unknown"), None):
        raise ValueError(f"{shown(unknown)} in Bash({text}) would be replaced by the shell; put it in single quotes")
    texts = tuple(word.text for word in words)
    return CommandPattern((*texts, "*") if legacy else texts)


def _tests(words: tuple[str, ...], fits: Callable[[str, Word], bool]) -> list[Test[Word]]:
    tests: list[Test[Word]] = []
    for word in words:
        tests += [_any_word, None] if word == "*" else [partial(fits, word)]
    return [*tests[:-2], None] if words[-1] == "*" else tests


def _any_word(word: Word) -> bool:
    return True


def _certainly(pattern: str, word: Word) -> bool:
    if word.kind == "unknown" and not word.splits:
        if word.values:
            return all(_star_match(pattern, value) for value in word.values)
        start = pattern.removesuffix("*")
        return pattern.endswith("*") and "*" not in start and bool(start) and word.prefix.startswith(start)
    if "*" not in pattern:
        return word.kind == "literal" and word.text == pattern
    return word.kind != "unknown" and _star_match(pattern, word.text)


def _possibly(pattern: str, word: Word) -> bool:
    if word.kind == "literal":
        return _star_match(pattern, word.text)
    start = pattern.split("*", 1)[0]
    return start.startswith(word.prefix) or word.prefix.startswith(start)


def _star_match(pattern: str, text: str) -> bool:
    return pattern == text or ("*" in pattern and _expression(pattern).fullmatch(text) is not None)


@lru_cache(maxsize=1000)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(re.sub(r"([?\[])", r"[\1]", pattern)))
