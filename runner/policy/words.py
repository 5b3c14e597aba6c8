"""The words of a shell command: what each is when its quotes are gone, and what the shell may put in its place.

Read by bash's rules where bash and other shells agree; where they do not, or where it is not certain, reading stops.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from runner.document.words import shown

Kind = Literal["literal", "glob", "unknown"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word, quotes removed."""

    text: str
    kind: Kind = "literal"
    """glob: the shell may put file names for it; unknown: it holds a variable, a substitution, a tilde or braces."""
    bare: bool = True
    """Written without any quoting."""
    prefix: str = ""
    """The part before the first thing that the shell replaces; all of a literal word."""
    splits: bool = False
    """The shell may make several words of it, or none."""
    values: tuple[str, ...] = ()
    """Of an unknown word: all texts that it can come to be, where these are known."""
    starts_plain: bool = False
    """What the shell puts at its beginning is no dash."""
    assigns: str = ""
    """The variable, where this is an assignment before a command or instead of one."""
    number: bool = False
    """An assignment of nothing but a number."""

    @property
    def is_open(self) -> bool:
        """The shell may put anything there, also an option."""
        return self.kind != "literal" and (self.splits or not (self.prefix or self.starts_plain))


def literal(text: str) -> Word:
    return Word(text, prefix=text)


def made_up(text: str, prefix: str = "") -> Word:
    """One word of which only the beginning is known."""
    return Word(text, "unknown", prefix=prefix)


class Stop(Exception):
    """The reader does not understand something; the text says what, to follow "it has"."""


class NotAWord(Stop):
    """An operator stands where a word should be."""


class Values(NamedTuple):
    """Of a variable."""

    texts: tuple[str, ...]
    whole: bool = True
    """False: its text begins with one of these."""


class Around(Protocol):
    """What a reader of words asks whoever reads the commands around them."""

    def substitution(self, at: int) -> int:
        """Read the commands of the substitution that starts there; returns its end."""

    def values(self, name: str) -> Values | None:
        """What a variable can hold at this point, as far as that is known."""

    def written(self, start: int, end: int) -> str:
        """The script between two places, as it was written."""

    def evaluate(self, name: str) -> None:
        """The shell will read the variable's text as arithmetic, in which a command can hide."""


class Alone:
    """Around words that stand for themselves, such as those of a rule."""

    def substitution(self, at: int) -> int:
        raise Stop("command substitution")

    def values(self, name: str) -> Values | None:
        return None

    def written(self, start: int, end: int) -> str:
        return ""

    def evaluate(self, name: str) -> None:
        raise Stop("an index")


def plain_words(text: str) -> tuple[Word, ...]:
    """The words of one plain command, which is nothing but words. Raises Stop."""
    check_visible(text)
    source = _encoded(text)
    return tuple(WordReader(source, Alone()).words(0, len(source), leading=True))


def check_visible(text: str) -> None:
    """Raises Stop for a character that one does not see."""
    if not text.isprintable():
        odd = next(char for char in text if not char.isprintable())
        raise Stop(f"the invisible character U+{ord(odd):04X}")


DECLARING = ("declare", "export", "local", "readonly", "typeset")
"""Builtins behind which there are assignments."""
_MOST_VALUES = 20
_PLAIN = re.compile(r"[A-Za-z0-9_/:@%+^-]+")
_ASSIGNED = re.compile(r"[A-Za-z_]\w*\+?", re.ASCII)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|([0-9?$!#@*-]))", re.ASCII)
NAME = r"[A-Za-z_]\w*"
_OPERAND = rf"""(?:[^'"\\`$(){{}}<>;&|\n]|\\[^'"`${{}}\\\n]|\$(?:{NAME}|\{{{NAME}\}})|"[\w ./:-]*"|'[\w ./:-]*')*"""
_BRACED = re.compile(
    rf"""\$\{{(?:
        \#(?:{NAME}(?:\[[@*]\])?)? | \?
        | (?P<name>{NAME}|[0-9]+|[@*])(?:
            (?P<index>\[(?:[@*]|-?[0-9]+|(?P<variable>\$?{NAME}))\])?
            (?: :\ ?-?[0-9]+(?::-?[0-9]+)? )?
            | (?: :?[-+?] | \#\#? | %%? | //? | \^\^? | ,,? ) {_OPERAND}
        )
    )\}}""",
    re.ASCII | re.VERBOSE,
)
COUNT = r"\$\((?:date \+%s|nproc|(?:(?:[^;&|()\n`\\'\"]|'[^']*'|\"[^\"\\`$]*\")+\|)* *wc -[lwcm] *(?:< *[\w./-]+)?)\)"
_REVISION = r"[A-Za-z0-9@][\w/.@~^{}-]*"
_DATE = r"date \+(?:%[YmdHMSFT]|\w)(?:%[YmdHMSFT]|[\w:.-])*"
_GIT = rf"""git (?:rev-parse(?: --short| --verify| --abbrev-ref)* {_REVISION}|merge-base {_REVISION} {_REVISION}
|describe(?: --tags| --always| --abbrev=0)*|branch --show-current)""".replace("\n", "")
_PLAIN_OUTPUT = re.compile(rf"{COUNT}|\$\((?:{_DATE}|{_GIT})\)", re.ASCII)
"""Substitutions that put one word, or none, and no option: what they print has no blanks and begins with no dash."""
NUMBER = re.compile(
    rf"""[A-Za-z_]\w*\+?=(?P<q>"?)(?:-?[0-9]+|\$\(\((?:(?!\)\)).)*\)\)|\$[#?!]|\$\{{\#{NAME}\}}|{COUNT})(?P=q)""",
    re.ASCII | re.DOTALL,
)
"""Assignments of numbers: literal ones, results of arithmetic, lengths, and commands that print nothing else."""
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "e": "\x1b", "E": "\x1b", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPES |= {"\\": "\\", '"': '"', "?": "?"}
_ENDS = " \t\n;&|<>()"
BOUNDARIES = frozenset((*_ENDS, "`", ""))


@dataclass(slots=True)
class _Open:
    """A word that is being read."""

    text: str = ""
    kind: Kind = "literal"
    bare: bool = True
    prefix: int | None = None
    """How much of the text is certain; None: all."""
    texts: tuple[str, ...] | None = None
    """What the text can be, once it holds a variable whose values are known."""
    known: bool = True
    splits: bool = False
    plain: int = 0
    """How much of its beginning is something that the shell puts there, and that has no dash at its own beginning."""
    assigns: str = ""
    is_array: bool = False
    brace: int | None = None
    """Where the first brace stands."""
    listed: bool = False
    """Behind it there is what makes several words of braces."""

    def add(self, text: str) -> None:
        self.text += text
        if self.texts is not None:
            self.texts = tuple(known + text for known in self.texts)

    def replaced(self, kind: Kind, at: int | None = None) -> None:
        """From here on the shell puts something else."""
        at = len(self.text) if at is None else at
        self.prefix = at if self.prefix is None else min(at, self.prefix)
        if self.kind != "unknown":
            self.kind = kind

    def unknown(self, text: str, *, splits: bool, plain: bool = False) -> None:
        if plain and not self.text:
            self.plain = len(text)
        self.replaced("unknown")
        self.known = False
        self.splits = self.splits or splits
        self.add(text)

    def one_of(self, text: str, values: tuple[str, ...]) -> None:
        """A variable with known values stands here."""
        self.replaced("unknown")
        texts = tuple(known + _encoded(value) for known in self.texts or (self.text,) for value in values)
        self.text += text
        self.texts = texts
        self.known = self.known and len(texts) <= _MOST_VALUES
        if not self.known:
            self.texts = None

    def word(self, source: str) -> Word:
        text, prefix = decoded(self.text), self.text if self.prefix is None else self.text[: self.prefix]
        if text == "[" and self.bare:
            return literal("[")
        values = self.texts if self.kind == "unknown" and self.known and self.texts else ()
        number = bool(self.assigns) and NUMBER.fullmatch(source) is not None
        return Word(
            text,
            self.kind,
            bare=self.bare,
            prefix=decoded(prefix),
            splits=self.splits,
            values=tuple(map(decoded, values)),
            # What the shell puts there may be nothing.
            starts_plain=self.plain > 0 and self.text[self.plain : self.plain + 1] not in ("-", "$", "`", "<", ">"),
            assigns=self.assigns,
            number=number,
        )


def _encoded(text: str) -> str:
    """With one character for each byte."""
    return text if text.isascii() else text.encode().decode("latin-1")


def decoded(text: str) -> str:
    """As it was written."""
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "replace")


class WordReader:
    """Reads words from left to right. The text has one character for each byte, so that places are those of a tree."""

    def __init__(self, text: str, around: Around) -> None:
        self._text = text
        self._around = around
        self._at = 0
        self._end = 0
        self._assigning = False
        self._word: _Open | None = None

    def words(self, start: int, end: int, *, leading: bool = False) -> list[Word]:
        """All words between two places; `leading`: those of a command, which begins with its assignments."""
        self._at, self._end = start, end
        found: list[Word] = []
        while self._skip_blanks():
            program = next((word for word in found if not word.assigns), None)
            assigning = leading and program is None
            declaring = leading and program is not None and program.text in DECLARING and program.bare
            found.append(self._read(assigning=assigning, declaring=declaring))
        return found

    def word(self, start: int, end: int) -> tuple[Word, int]:
        """The one word that begins there, and where it ends."""
        self._at, self._end = start, end
        if not self._skip_blanks() or self._text[self._at] in _ENDS and self._text[self._at] not in "<>":
            raise Stop("a redirection without a target")
        return self._read(), self._at

    def body(self, start: int, end: int) -> None:
        """Read what a here-document holds for the shell to replace."""
        self._at, self._end = start, end
        self._word = _Open()
        while self._at < self._end:
            if self._text[self._at] == "`":
                raise Stop("backquotes in a here-document; put its delimiter in quotes, or use $(…)")
            self._quoted_char()

    def _skip_blanks(self) -> bool:
        while self._at < self._end:
            if self._text[self._at] in " \t":
                self._at += 1
            elif self._text.startswith("\\\n", self._at):
                self._at += 2
            else:
                return True
        return False

    def _read(self, *, assigning: bool = False, declaring: bool = False) -> Word:
        begin = self._at
        self._assigning = assigning or declaring
        self._word = word = _Open()
        if self._text[begin] == "#":
            raise Stop("a '#' that is no comment")
        while self._at < self._end and (char := self._text[self._at]) not in " \t\n;&|)":
            if char in "<>" and not self._text.startswith("(", self._at + 1):
                break
            if char == "=" and not word.assigns and self._is_name(begin):
                self._assignment()
            else:
                self._char(char)
        if self._text[self._at : self._at + 1] not in BOUNDARIES:
            raise Stop(f"a part that does not parse ({shown(decoded(self._text[begin : self._at + 5]))})")
        if self._at == begin:
            char = self._text[begin]
            raise NotAWord("a line break" if char == "\n" else f"{char!r} where a word should be")
        word.splits = word.splits and not (self._assigning and word.assigns)
        if assigning and word.assigns:
            if word.text.startswith(f"{word.assigns}+=") and not word.is_array:
                _check_added(word)
        else:
            word.assigns = ""
        return word.word(self._text[begin : self._at])

    def _is_name(self, begin: int) -> bool:
        return _ASSIGNED.fullmatch(self._text, begin, self._at) is not None

    def _assignment(self) -> None:
        word = self._opened()
        word.assigns = word.text.removesuffix("+")
        word.add("=")
        self._at += 1
        if self._text.startswith("(", self._at) and self._at < self._end:
            self._array()

    def _array(self) -> None:
        self._at += 1
        word, assigning = self._opened(), self._assigning
        word.unknown("(...)", splits=False)
        word.is_array = True
        while self._skip_array_blanks():
            element = self._read()  # in the place of the word, which comes back below
            if re.match(r"\[.*\]\+?=", element.text, re.DOTALL):
                raise Stop("an array with indexes")
        self._word, self._assigning = word, assigning
        self._at += 1

    def _skip_array_blanks(self) -> bool:
        while self._at < self._end and self._text[self._at] in " \t\n":
            self._at += 1
        if self._at >= self._end:
            raise Stop("a parenthesis that is not closed")
        return self._text[self._at] != ")"

    def _opened(self) -> _Open:
        assert self._word is not None
        return self._word

    def _char(self, char: str) -> None:
        word = self._opened()
        if found := _PLAIN.match(self._text, self._at, self._end):
            word.add(found[0])
            self._at = found.end()
            return
        match char:
            case "\\":
                self._backslash()
            case "'":
                self._single_quotes()
            case '"':
                self._double_quotes()
            case "$":
                self._dollar(quoted=False)
            case "`" | "<" | ">":
                self._substitution(splits=char == "`")
            case "(":
                raise Stop("a parenthesis (subshell, function or pattern)")
            case _:
                self._special(char)
                word.add(char)
                self._at += 1

    def _special(self, char: str) -> None:
        """What unquoted characters may come to mean."""
        word = self._opened()
        if char in "*?[":
            word.replaced("glob")
            word.known = False
        elif char == "~" and (word.text == "" or word.text[-1] in "=:"):
            word.plain = word.plain or int(word.text == "")
            word.replaced("unknown")
            word.known = False
        elif char == "{" and word.brace is None:
            word.brace = len(word.text)
        elif char in ",." and word.brace is not None:
            word.listed = word.listed or char == "," or word.text.endswith(".")
        elif char == "}" and word.brace is not None and word.listed:
            word.replaced("unknown", word.brace)
            word.known = False
            word.splits = word.splits or word.prefix == 0

    def _backslash(self) -> None:
        following = self._text[self._at + 1 : min(self._at + 2, self._end)]
        if not following:
            raise Stop("a backslash at its end")
        if following == "\n":
            raise Stop("a line that is broken within a word")
        self._opened().bare = False
        self._opened().add(following)
        self._at += 2

    def _single_quotes(self) -> None:
        end = self._text.find("'", self._at + 1, self._end)
        if end < 0:
            raise Stop("a quote that is not closed")
        self._opened().bare = False
        self._opened().add(self._text[self._at + 1 : end])
        self._at = end + 1

    def _double_quotes(self) -> None:
        self._opened().bare = False
        self._at += 1
        while self._at < self._end and self._text[self._at] != '"':
            self._quoted_char()
        if self._at >= self._end:
            raise Stop("a quote that is not closed")
        self._at += 1

    def _quoted_char(self) -> None:
        char = self._text[self._at]
        following = self._text[self._at + 1 : self._at + 2]
        if char == "`":
            begin = self._at
            self._substitution(splits=False)
            if '"' in self._text[begin : self._at]:
                raise Stop("quotes between backquotes between quotes; use $(…)")
        elif char == "$":
            self._dollar(quoted=True)
        elif char == "\\" and following and following in '$`"\\\n':
            self._opened().add(following.rstrip("\n"))
            self._at += 2
        else:
            self._opened().add(char)
            self._at += 1

    def _dollar(self, *, quoted: bool) -> None:
        following = self._text[self._at + 1 : min(self._at + 2, self._end)]
        if following == "(":
            self._substitution(splits=not quoted)
        elif following == "{":
            self._braced(quoted=quoted)
        elif found := _VARIABLE.match(self._text, self._at, self._end):
            self._at = found.end()
            self._variable(found[0], found[1] or found[2], quoted=quoted)
        elif following == "\\" and self._text.startswith("\n", self._at + 2):
            raise Stop("a line broken behind '$'")
        elif following == "'" and not quoted:
            self._escaped_quotes()
        elif following == "[" or (following == '"' and not quoted):
            raise Stop(f"${following}")
        else:
            self._opened().add("$")
            self._at += 1

    def _braced(self, *, quoted: bool) -> None:
        found = _BRACED.match(self._text, self._at, self._end)
        if not found:
            raise Stop(f"an expansion such as {shown(decoded(self._text[self._at : min(self._at + 12, self._end)]))}")
        self._at = found.end()
        if found["variable"]:
            self._around.evaluate(found["variable"].lstrip("$"))
        if found[0] == f"${{{found['name']}}}":
            self._variable(found[0], found["name"], quoted=quoted)
        else:
            several = found["name"] == "@" or "[@]" in found[0]
            self._opened().unknown(found[0], splits=several or not quoted)

    def _variable(self, text: str, name: str, *, quoted: bool) -> None:
        word = self._opened()
        values = self._around.values(name)
        quoted = quoted or (self._assigning and bool(word.assigns))
        if values is None:
            word.unknown(text, splits=name == "@" or not (quoted or name in "?#$!"), plain=name in "?#$!")
        elif not values.whole:
            plain = all(beginning[:1] not in ("", "-") for beginning in values.texts)
            word.unknown(text, splits=not quoted, plain=plain)
        elif quoted or all(_stays_one_word(value) for value in values.texts):
            word.one_of(text, values.texts)
        else:
            word.unknown(text, splits=True)

    def _substitution(self, *, splits: bool) -> None:
        end = self._around.substitution(self._at)
        if end > self._end:
            raise Stop("a substitution that is not closed")
        text = self._around.written(self._at, end)
        plain = _PLAIN_OUTPUT.fullmatch(text) is not None
        self._opened().unknown(text, splits=splits and not plain, plain=plain)
        self._at = end

    def _escaped_quotes(self) -> None:
        """`$'…'`, to some shells a dollar sign before single quotes: the same words, another text."""
        end = self._text.find("'", self._at + 2, self._end)
        if end < 0:
            raise Stop("a quote that is not closed")
        inner = decoded(self._text[self._at + 2 : end])
        meant = re.sub(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.|$)", _escape, inner, flags=re.DOTALL)
        self._opened().bare = False
        self._opened().one_of(self._text[self._at : end + 1], (meant, f"${inner}"))
        self._at = end + 1


def _check_added(word: _Open) -> None:
    """To some shells `x+=y` is no assignment but a program of that name."""
    if word.kind != "literal" or "/" in word.text:
        raise Stop("'+=' with a text that is not known")


def _stays_one_word(value: str) -> bool:
    return value != "" and re.search(r"[\s*?\[\\]", value) is None


def _escape(found: re.Match[str]) -> str:
    code = found[1]
    if code in _ESCAPES:
        return _ESCAPES[code]
    if code and code[0] in "x01234567":
        number = int(code[1:], 16) if code[0] == "x" else int(code, 8)
        if 0 < number < 0x80:
            return chr(number)
    raise Stop(f"{shown(found[0])} in $'…'")
