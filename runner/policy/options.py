"""Options that make a harmless-looking program run another one or write where it is told to.

A rule with a wildcard does not reach them; one that names the option does. The list covers what people allow without a
second thought; interpreters, build tools and test runners run whatever they like, and allowing one says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from runner.policy.builtins import is_declaration
from runner.policy.words import Word


class Options(NamedTuple):
    """Of one program. Long ones may be abbreviated or have `=value`, short ones may stand in a cluster."""

    long: tuple[str, ...] = ()
    short: str = ""
    words: tuple[str, ...] = ()
    """In full only, also with `=value`."""


OPTIONS: dict[str, Options] = {
    "ack": Options(long=("--pager",)),
    "ag": Options(long=("--pager",)),
    "bat": Options(long=("--pager",)),
    "date": Options(long=("--set",), short="s"),
    "diff3": Options(long=("--diff-program",)),
    "fd": Options(long=("--exec", "--exec-batch"), short="xX"),
    "file": Options(long=("--compile",), short="C"),
    "find": Options(
        words=("-exec", "-execdir", "-ok", "-okdir", "-delete", "-fprint", "-fprint0", "-fprintf", "-fls")
    ),
    "git": Options(
        long=("--output", "--output-directory", "--ext-diff", "--textconv", "--open-files-in-pager", "--upload-pack",
              "--receive-pack", "--exec", "--extcmd", "--exec-path", "--config-env", "--git-dir", "--work-tree",
              "--template", "--config"),
    ),
    "go": Options(words=("-exec", "--exec", "-toolexec", "--toolexec", "-vettool", "--vettool")),
    "iconv": Options(long=("--output",), short="o"),
    "less": Options(
        long=("--log-file", "--LOG-FILE", "--lesskey-file", "--lesskey-src", "--lesskey-content"), short="oOk"
    ),
    "man": Options(long=("--html", "--pager", "--browser", "--troff-device", "--config-file"), short="CHPT"),
    "mapfile": Options(short="C"),
    "mypy": Options(long=("--python-executable", "--install-types")),
    "pylint": Options(long=("--init-hook", "--load-plugins", "--rcfile", "--output")),
    "readarray": Options(short="C"),
    "rg": Options(long=("--pre", "--hostname-bin", "--search-zip"), short="z"),
    "sdiff": Options(long=("--output", "--diff-program"), short="o"),
    "shuf": Options(long=("--output",), short="o"),
    "sort": Options(long=("--output", "--compress-program", "--temporary-directory", "--files0-from"), short="oT"),
    "split": Options(long=("--filter",)),
    "tar": Options(
        long=("--to-command", "--checkpoint-action", "--use-compress-program", "--rsh-command", "--info-script",
              "--new-volume-script", "--absolute-names"),
        short="IFP",
    ),
    "tree": Options(long=("--output",), short="oR"),
    "xxd": Options(words=("-r", "-revert")),
    "yq": Options(long=("--inplace", "--in-place"), short="i"),
    "zip": Options(long=("--unzip-command",), short="T"),
}  # fmt: skip
_NONE = Options()

Named = Callable[[str], bool]
"""Whether the rule itself has a word."""


def risky_option(words: Sequence[Word], named: Named) -> str | None:
    """The first word of a command that might be such an option, or None. What the rule itself names is none."""
    program = words[0].text.rsplit("/", 1)[-1]
    options = _NONE if program == "git" and _is_tame(words) else OPTIONS.get(program, _NONE)
    for word in words[1:] if options is not _NONE else ():
        if word.text == "--" and word.kind == "literal" and program != "find":
            break
        if _may_be(word, options) and not named(word.text):
            return word.text
    place = _RISKY_PLACES.get(program)
    return place(words, named) if place else None


def _may_be(word: Word, options: Options) -> bool:
    if word.kind != "literal" and word.values and not word.splits:
        return any(_is_one(value, options) for value in word.values)
    if _is_open(word):
        return True
    return _is_one(word.text, options) or (word.kind != "literal" and word.text.startswith("-"))


def _is_open(word: Word) -> bool:
    return not word.values and word.is_open


def _is_one(text: str, options: Options) -> bool:
    name = text.split("=", 1)[0]
    if name in options.words:
        return True
    if text.startswith("--"):
        return len(name) > 2 and any(option.startswith(name) for option in options.long)  # noqa: PLR2004
    return text.startswith("-") and any(letter in options.short for letter in text[1:])


# --- what is an option in one place only


def _git(words: Sequence[Word], named: Named) -> str | None:
    """git's own options, which stand before its command, can name programs and other repositories."""
    if len(words) == 1:
        return None
    first = words[1]
    if (_is_open(first) or first.text.startswith("-")) and first.text != "--version":
        return None if named(first.text) else first.text
    if _is_tame(words):
        return None
    runs = _GIT_RUNS.get(first.text, _NEVER)
    return next((w.text for w in words[2:] if _is_git_risk(w, runs) and not named(w.text)), None)


def _is_tame(words: Sequence[Word]) -> bool:
    """A command of git that has none of the options, whatever its arguments are."""
    return len(words) > 1 and words[1].kind == "literal" and words[1].text in _GIT_TAME


_GIT_TAME = frozenset(
    ("add", "branch", "checkout", "commit", "describe", "ls-files", "ls-tree", "merge", "merge-base", "mv", "notes")
    + ("reset", "restore", "rev-parse", "rm", "status", "switch", "tag")
)
_NEVER = re.compile(r"(?!)")
_GIT_RUNS = {
    "archive": re.compile(r"-o.*"),
    "bisect": re.compile(r"run"),
    "clone": re.compile(r"-[uc].*"),
    "difftool": re.compile(r"-x.*"),
    "filter-branch": re.compile(r".*"),
    "format-patch": re.compile(r"-o.*"),
    "grep": re.compile(r"-\w*O.*"),
    "rebase": re.compile(r"-x.*"),
    "submodule": re.compile(r"foreach"),
}
"""Words that make one command of git start a program, or write where it is told to."""


def _is_git_risk(word: Word, runs: re.Pattern[str]) -> bool:
    return runs.fullmatch(word.text) is not None or re.match(r"\w+::", word.text) is not None


_SED_ADDRESS = r"(?:\d+(?:~\d+)?|\$|/(?:[^/\\\n]|\\.)*/I?)"
_SED_COMMAND = (
    r"(?:[dDgGhHlnNpPqQxz=]\d*|[bt]\w*|:\w+|[aic](?:\\\n|\\?[ \t]*)[^\n\\]*(?=\n|$)"
    r"|[sy](?P<d>[/|#,:@!%~+_])(?:(?:(?!(?P=d))[^\\\n]|\\.)*(?P=d)){2}[gpiImM0-9]*)"
)
_SED_ADDRESSES = rf"(?:{_SED_ADDRESS}(?:,\s*(?:{_SED_ADDRESS}|[+~]\d+))?\s*!?\s*)?"
_PLAIN_SED = re.compile(
    rf"[\s;]*(?:{_SED_ADDRESSES}(?:\{{|{_SED_COMMAND})\s*(?:\}}\s*)*(?:[;\n]\s*(?:\}}[\s;]*)*|(?<=\{{)|$))+"
)
"""sed scripts that pick and change lines; others may write files (w) and, with GNU sed, run commands (e)."""
_SED_FLAGS = re.compile(
    r"-[nErsuz]*(?P<last>[nErsuze]|l\d+)|--(?:quiet|silent|regexp-extended|separate|null-data|posix)"
)


def _sed(words: Sequence[Word], named: Named) -> str | None:
    scripts: list[Word] = []
    operands: list[Word] = []
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        if word.text == "--" and word.kind == "literal":
            operands += rest
            break
        if _is_open(word) or (word.kind != "literal" and word.text.startswith("-")):
            return word.text
        found = _SED_FLAGS.fullmatch(word.text)
        if found and found["last"] == "e" and rest:
            scripts.append(rest.pop(0))
        elif word.text.startswith("--expression="):
            scripts.append(Word(word.text.partition("=")[2], word.kind))
        elif word.text.startswith("-") and not found and not named(word.text):
            return word.text
        elif not word.text.startswith("-"):
            operands.append(word)
    scripts = scripts or operands[:1]
    return next((script.text for script in scripts if not _is_plain_sed(script) and not named(script.text)), None)


def _is_plain_sed(script: Word) -> bool:
    texts = (script.text,) if script.kind in ("literal", "glob") else script.values
    return bool(texts) and all(_PLAIN_SED.fullmatch(text) for text in texts)


_AWK_RISK = re.compile(r"system|getline|@|(?<!\|)\|(?!\|)|\bprintf?\b[^;}\n]*>")


def _awk(words: Sequence[Word], named: Named) -> str | None:
    """Programs in awk that start others, or write files."""
    rest = list(words[1:])
    while rest and rest[0].text.startswith("-") and rest[0].kind == "literal":
        option = rest.pop(0).text
        if option in ("-F", "-v") and rest:
            if rest.pop(0).splits:
                return option
        elif option == "--":
            break
        elif not re.match("-[Fv].", option) and not named(option):
            return option
    if not rest:
        return None
    script = rest[0]
    unsafe = script.kind != "literal" or _AWK_RISK.search(re.sub(r'"[^"\\/\n]*"', '""', script.text))
    return script.text if unsafe and not named(script.text) else None


def _printf(words: Sequence[Word], named: Named) -> str | None:
    """`printf -v PATH …` sets a variable."""
    first = words[1] if len(words) > 1 else Word("")
    texts = first.values or (first.text,)
    return first.text if _is_open(first) or any(text.startswith("-v") for text in texts) else None


_COMPARES = re.compile(r"=|==|!=|=~|<|>|-(?:a|o|eq|ne|lt|le|gt|ge|nt|ot|ef)")
_ASKS = re.compile(r"-[a-zA-Z]")


_COMPARES = re.compile(r"=|==|!=|=~|<|>|-(?:a|o|eq|ne|lt|le|gt|ge|nt|ot|ef)")
_ASKS = re.compile(r"-[a-zA-Z]")


def _test(words: Sequence[Word], named: Named) -> str | None:
    """`test -v 'a[$(id)]'` runs id, and the shell may put `-v` there."""
    rest = words[1:-1] if words[0].text == "[" else words[1:]
    for place, word in enumerate(rest):
        certain = word.text if word.kind == "literal" else word.prefix
        if word.text in ("-v", "-R") or {"-v", "-R"} & set(word.values) or re.search(r"\$\(|`", certain):
            return word.text
        behind = rest[place + 1 : place + 2]
        if word.splits or (_is_open(word) and behind and not _is_operand(rest[:place], behind[0])):
            return word.text
    return None


def _is_operand(before: Sequence[Word], behind: Word) -> bool:
    """Whether a word is what an operator before it, or behind it, is about."""
    if behind.kind == "literal" and _COMPARES.fullmatch(behind.text):
        return True
    last = before[-1] if before else Word("")
    return last.kind == "literal" and bool(_COMPARES.fullmatch(last.text) or _ASKS.fullmatch(last.text))


def _uniq(words: Sequence[Word], named: Named) -> str | None:
    """`uniq a b` writes b."""
    operands = [word for word in words[1:] if not word.text.startswith("-")]
    return operands[-1].text if len(operands) > 1 or any(word.splits for word in operands) else None


def _tar(words: Sequence[Word], named: Named) -> str | None:
    """`tar xIf` is `tar -x -I -f`."""
    first = words[1] if len(words) > 1 else Word("")
    return first.text if re.fullmatch(r"[a-zA-Z]*[IFP][a-zA-Z]*", first.text) and not named(first.text) else None


def _less(words: Sequence[Word], named: Named) -> str | None:
    """`less '+!id'` runs id."""
    return next((word.text for word in words[1:] if word.text.startswith("+")), None)


def _declares(words: Sequence[Word], named: Named) -> str | None:
    """Variables that change what programs do."""
    return next((word.text for word in words[1:] if not is_declaration(word) and not named(word.text)), None)


def _alias(words: Sequence[Word], named: Named) -> str | None:
    return next((word.text for word in words[1:] if "=" in word.text or word.kind != "literal"), None)


_RISKY_PLACES: dict[str, Callable[[Sequence[Word], Named], str | None]] = {
    "[": _test,
    "alias": _alias,
    "awk": _awk,
    "declare": _declares,
    "export": _declares,
    "gawk": _awk,
    "git": _git,
    "less": _less,
    "local": _declares,
    "mawk": _awk,
    "nawk": _awk,
    "printf": _printf,
    "readonly": _declares,
    "sed": _sed,
    "tar": _tar,
    "test": _test,
    "typeset": _declares,
    "uniq": _uniq,
}
