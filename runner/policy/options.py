"""Options that make a harmless-looking program run another one or write where it is told to.

A rule with a wildcard does not reach them; one that names the option does. The list covers what people allow without a
second thought; interpreters, build tools and test runners run whatever they like, and allowing one says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from runner.policy.shell import Word


class Options(NamedTuple):
    """Of one program. Long ones may be abbreviated or have `=value`, short ones may stand in a cluster."""

    long: tuple[str, ...] = ()
    short: str = ""
    words: tuple[str, ...] = ()


OPTIONS: dict[str, Options] = {
    "find": Options(
        words=("-exec", "-execdir", "-ok", "-okdir", "-delete", "-fprint", "-fprint0", "-fprintf", "-fls")
    ),
    "fd": Options(long=("--exec", "--exec-batch"), short="xX"),
    "git": Options(
        long=("--output", "--output-directory", "--ext-diff", "--textconv", "--open-files-in-pager", "--upload-pack",
              "--receive-pack", "--exec", "--extcmd", "--exec-path", "--config-env", "--git-dir", "--work-tree"),
        short="O",
    ),
    "rg": Options(long=("--pre", "--hostname-bin", "--search-zip"), short="z"),
    "sort": Options(long=("--output", "--compress-program", "--temporary-directory", "--files0-from"), short="oT"),
    "sed": Options(long=("--in-place", "--file", "--expression"), short="ife"),
    "tree": Options(long=("--output",), short="oR"),
    "date": Options(long=("--set",), short="s"),
    "file": Options(long=("--compile",), short="C"),
    "tar": Options(
        long=("--to-command", "--checkpoint-action", "--use-compress-program", "--rsh-command", "--info-script",
              "--new-volume-script", "--absolute-names"),
        short="IFP",
    ),
}  # fmt: skip

_SED_ADDRESS = r"(?:\d+|\$|/(?:[^/\\\n]|\\.)*/)"
_SED_COMMAND = r"(?:[pdq=]|[sy](?P<d>[/|#,:@!])(?:(?:(?!(?P=d))[^\\\n]|\\.)*(?P=d)){2}[gpiI0-9]*)"
_PLAIN_SED = re.compile(rf"(?:(?:{_SED_ADDRESS}(?:,(?:{_SED_ADDRESS}|\+\d+))?)?!?\s*{_SED_COMMAND}(?:\s*;\s*|$))+")
"""sed scripts that pick and substitute; others may write files (w) and, with GNU sed, run commands (e)."""


def risky_option(words: Sequence[Word], named: frozenset[str]) -> str | None:
    """The first word of a command that might be such an option, or None. `named` are words that the rule itself has."""
    program = words[0].text.rsplit("/", 1)[-1]
    options = OPTIONS.get(program, Options())
    for word in words[1:]:
        if word.text == "--" and word.kind == "literal" and program != "find":
            break
        if options != Options() and word.text not in named and _may_be(word, options):
            return word.text
    risky = _RISKY_PLACES.get(program, _nothing)(words)
    return None if risky in named else risky


def _may_be(word: Word, options: Options) -> bool:
    if word.kind != "literal" and not word.prefix:
        return True  # the shell may put anything there, also an option
    text = word.text
    if text.startswith("--"):
        name = text.split("=", 1)[0]
        return len(name) > 2 and any(option.startswith(name) for option in options.long)
    if text in options.words:
        return True
    return text.startswith("-") and (word.kind != "literal" or any(letter in options.short for letter in text[1:]))


def _nothing(words: Sequence[Word]) -> str | None:
    return None


def _git(words: Sequence[Word]) -> str | None:
    """git's own options, which stand before its command, can name programs and other repositories."""
    first = words[1].text if len(words) > 1 else ""
    return first if first.startswith("-") and first != "--version" else None


def _sed(words: Sequence[Word]) -> str | None:
    script = next((word.text for word in words[1:] if not word.text.startswith("-")), "p")
    return None if _PLAIN_SED.fullmatch(script) or script == "p" else script


def _printf(words: Sequence[Word]) -> str | None:
    """`printf -v PATH …` sets a variable."""
    first = words[1] if len(words) > 1 else Word("")
    return first.text if first.text.startswith("-v") or (first.kind != "literal" and not first.prefix) else None


def _test(words: Sequence[Word]) -> str | None:
    """`test -v 'a[$(id)]'` runs id."""
    return next((word.text for word in words[1:] if word.text in ("-v", "-R") or _SUBSTITUTES.search(word.text)), None)


_SUBSTITUTES = re.compile(r"\$\(|`")
_RISKY_PLACES: dict[str, Callable[[Sequence[Word]], str | None]] = {
    "git": _git,
    "sed": _sed,
    "printf": _printf,
    "test": _test,
    "[": _test,
}
"""What is an option in one place only."""
