"""A shell command as the simple commands it is made of; what is not understood for certain is said to be unclear.

Understood are words, quotes, `$NAME`, comments, `&& || ; | |& &` and newlines, redirections to a file or descriptor,
`!`, `if`, `while`, `until` and `for`. Substitutions, subshells, functions, here-documents and all else are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

MAX_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class Word:
    """One word, quotes removed."""

    text: str
    kind: Literal["literal", "glob", "unknown"] = "literal"
    """glob: the shell may put file names for it; unknown: it holds a variable, a tilde or braces."""
    bare: bool = True
    """Written without any quoting."""
    prefix: str = ""
    """The part before the first thing that the shell replaces; all of a literal word."""


@dataclass(frozen=True, slots=True)
class SimpleCommand:
    """What the shell would start (or a builtin), with assignments before it as its first words."""

    words: tuple[Word, ...]
    files: tuple[str, ...] = ()
    """Redirections to or from files other than /dev/null and the standard streams, as `> name`."""

    def __str__(self) -> str:
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True, slots=True)
class Unclear:
    """What this reader does not understand, to follow "it has"."""

    reason: str


class _Stop(Exception):
    pass


def simple_commands(command: str) -> tuple[SimpleCommand, ...] | Unclear:
    """All simple commands that running `command` could start, in order."""
    if len(command) > MAX_CHARS:
        return Unclear(f"more than {MAX_CHARS:,} characters")
    if odd := next((char for char in command if not char.isprintable() and char not in "\n\t"), None):
        return Unclear(f"the invisible character U+{ord(odd):04X}")
    try:
        return tuple(
            SimpleCommand(words, tuple(part.files))
            for part in _Reader(command).parts()
            if (words := _without_keywords(part.words)) or part.files
        )
    except _Stop as stop:
        return Unclear(str(stop))


@dataclass(slots=True)
class _Part:
    """Words and file redirections between two operators."""

    words: list[Word] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    complete: bool = False
    """Nothing may follow: `a &>x b` is `a b` to bash, and `a & b` to other shells."""


@dataclass(slots=True)
class _Open:
    """A word that is being read."""

    text: str = ""
    kind: Literal["literal", "glob", "unknown"] = "literal"
    bare: bool = True
    started: bool = False
    prefix: str | None = None

    def add(self, text: str) -> None:
        self.started = True
        self.text += text

    def replaced(self, kind: Literal["glob", "unknown"]) -> None:
        """From here on the shell puts something else."""
        if self.prefix is None:
            self.prefix = self.text
        if self.kind != "unknown":
            self.kind = kind

    def word(self) -> Word:
        if self.text == "[" and self.bare:
            return Word("[", prefix="[")
        return Word(self.text, self.kind, self.bare, self.text if self.prefix is None else self.prefix)


_OPERATOR = re.compile(r"&&|\|\||\|&|;;&?|;&|[;|\n]|&(?!>)")
_REDIRECTION = re.compile(r"&>>?|<<<|<<-?|<>|<&|>>|>\||>&|[<>]\(|[<>]")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\}|[0-9?$!#@*-])", re.ASCII)
_STREAMS = ("/dev/null", "/dev/stdout", "/dev/stderr")


class _Reader:
    """Reads a command from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._part = _Part()
        self._parts = [self._part]
        self._word = _Open()

    def parts(self) -> list[_Part]:
        while self._at < len(self._text):
            self._step()
        self._end_word()
        return self._parts

    def _step(self) -> None:
        char = self._text[self._at]
        if char in " \t":
            self._end_word()
            self._at += 1
        elif char == "#" and not self._word.started:
            self._at = self._find("\n")
        elif found := _OPERATOR.match(self._text, self._at):
            self._operator(found)
        elif found := _REDIRECTION.match(self._text, self._at):
            self._redirection(found)
        elif char in "()":
            raise _Stop("a parenthesis (subshell, function or array)")
        else:
            self._word_char()

    def _operator(self, found: re.Match[str]) -> None:
        if found[0] in (";;", ";&", ";;&"):
            raise _Stop(f"{found[0]!r}")
        self._end_word()
        self._at = found.end()
        self._part = _Part()
        self._parts.append(self._part)

    def _redirection(self, found: re.Match[str]) -> None:
        operator = found[0]
        if operator in ("<(", ">("):
            raise _Stop("process substitution")
        if operator.startswith("<<"):
            raise _Stop("a here-document" if operator != "<<<" else "a here-string")
        self._end_word_or_descriptor()
        self._at = found.end()
        target = self._target()
        self._part.complete = self._part.complete or operator.startswith("&>")
        duplicates = operator in (">&", "<&") and re.fullmatch(r"[0-9]*-?", target.text)
        if target.kind != "literal":
            raise _Stop("a redirection to a name that the shell makes up")
        if not duplicates and target.text not in _STREAMS:
            self._part.files.append(f"{operator} {target.text}")

    def _end_word_or_descriptor(self) -> None:
        if self._word.bare and re.fullmatch("[0-9]{2,}", self._word.text):
            raise _Stop("a descriptor of two digits")  # to some shells that is a word
        if not (self._word.bare and re.fullmatch("[0-9]", self._word.text)):
            self._end_word()
        self._word = _Open()

    def _target(self) -> Word:
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._at += 1
        while self._at < len(self._text) and self._text[self._at] not in " \t\n;&|<>()":
            self._word_char()
        if not self._word.started:
            raise _Stop("a redirection without a target")
        word, self._word = self._word.word(), _Open()
        return word

    def _word_char(self) -> None:
        char = self._text[self._at]
        match char:
            case "\\":
                self._backslash()
            case "'":
                self._single_quotes()
            case '"':
                self._double_quotes()
            case "$":
                self._dollar()
            case "`":
                raise _Stop("command substitution")
            case _:
                if char in "*?[":
                    self._word.replaced("glob")
                elif char in "{}" or (char == "~" and self._tilde_is_home()):
                    self._word.replaced("unknown")
                self._word.add(char)
                self._at += 1

    def _tilde_is_home(self) -> bool:
        return self._word.text == "" or self._word.text[-1] in "=:"

    def _backslash(self) -> None:
        following = self._text[self._at + 1 : self._at + 2]
        if not following:
            raise _Stop("a backslash at its end")
        if following != "\n":
            self._word.bare = False
            self._word.add(following)
        self._at += 2

    def _single_quotes(self) -> None:
        end = self._find("'", self._at + 1)
        if end == len(self._text):
            raise _Stop("a quote that is not closed")
        self._word.bare = False
        self._word.add(self._text[self._at + 1 : end])
        self._at = end + 1

    def _double_quotes(self) -> None:
        self._word.bare = False
        self._word.add("")
        self._at += 1
        while (char := self._text[self._at : self._at + 1]) != '"':
            following = self._text[self._at + 1 : self._at + 2]
            if not char:
                raise _Stop("a quote that is not closed")
            if char == "`":
                raise _Stop("command substitution")
            if char == "$":
                self._dollar(quoted=True)
            elif char == "\\" and following and following in '$`"\\\n':
                self._word.add(following.rstrip("\n"))
                self._at += 2
            else:
                self._word.add(char)
                self._at += 1
        self._at += 1

    def _dollar(self, *, quoted: bool = False) -> None:
        following = self._text[self._at + 1 : self._at + 2]
        if found := _VARIABLE.match(self._text, self._at):
            self._word.replaced("unknown")
            self._word.add(found[0])
            self._at = found.end()
        elif following == "(":
            raise _Stop("command substitution")
        elif following == "{":
            raise _Stop("an expansion other than ${NAME}")
        elif following == "\\" and self._text[self._at + 2 : self._at + 3] == "\n":
            raise _Stop("a line broken behind '$'")
        elif following == "[" or (following in ("'", '"') and following and not quoted):
            raise _Stop(f"${following}")
        else:
            self._word.add("$")
            self._at += 1

    def _end_word(self) -> None:
        if self._word.started:
            if self._part.complete:
                raise _Stop("a word after '&>'")
            self._part.words.append(self._word.word())
        self._word = _Open()

    def _find(self, char: str, start: int | None = None) -> int:
        found = self._text.find(char, self._at if start is None else start)
        return len(self._text) if found < 0 else found


_LEADING = ("!", "if", "then", "elif", "else", "while", "until", "do")
"""Keywords that a command follows."""
_CLOSING = ("fi", "done")
_NOT_READ = ("case", "esac", "select", "function", "coproc", "{", "}", "[[", "]]", "in")


def _without_keywords(words: list[Word]) -> tuple[Word, ...]:
    """The simple command between two operators. Raises _Stop for what we do not read."""
    rest = list(words)
    while rest and rest[0].bare and rest[0].text in _LEADING:
        del rest[0]
    if not rest or not rest[0].bare:
        return tuple(rest)
    first = rest[0].text
    if first in _NOT_READ:
        raise _Stop(f"{first!r}")
    if first in _CLOSING:
        if rest[1:]:
            raise _Stop(f"a word after {first!r}")
        return ()
    if first == "for":
        return _for(rest)
    return tuple(rest)


def _for(words: list[Word]) -> tuple[Word, ...]:
    """`for name in words`: starts nothing. Upper-case names are left alone, they may be PATH."""
    name = words[1].text if len(words) > 1 else ""
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or not words[1].bare or (words[2:] and words[2].text != "in"):
        raise _Stop("a for loop that is not 'for name in …' with a lower-case name")
    if any(char in word.text for word in words[3:] for char in "$`" if word.kind == "literal"):
        raise _Stop("a for loop over text that the shell may come to evaluate")
    return ()


_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(?:\[[^\]]*\])?\+?=", re.ASCII)


def is_assignment(word: Word) -> bool:
    return bool(_ASSIGNMENT.match(word.text))
