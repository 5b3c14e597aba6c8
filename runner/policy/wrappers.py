"""Programs that start the program named in their arguments, as far as it is certain which: for rules that allow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from runner.policy.find import find_segments
from runner.policy.paths import normal
from runner.policy.shell import SimpleCommand, Unclear, commands_of
from runner.policy.simple import Folders, are_inside
from runner.policy.started import WRAPPERS
from runner.policy.variables import is_harmless
from runner.policy.words import Word, made_up


class SeenThrough(NamedTuple):
    starts: tuple[SimpleCommand, ...]
    """What the command starts."""
    own: SimpleCommand | None = None
    """What is left of the command itself, where that is more than a way to start another."""


@dataclass(frozen=True, slots=True)
class _Options:
    """Those that a wrapper may be given; with any other it is not certain what it starts."""

    flags: str = ""
    """Letters."""
    valued: str = ""
    """Letters that a value follows."""
    long: tuple[str, ...] = ()
    long_valued: tuple[str, ...] = ()
    other: str = r"(?!)"
    """Further forms of options, as an expression."""
    operands: int = 0
    """Words before the program."""
    assignments: bool = False
    """Variables may stand before the program."""
    privileged: bool = False
    """What it starts may do more; so it is not only a way to start another."""


_WRAPPERS = {
    "builtin": _Options(),
    "command": _Options(flags="p"),
    "env": _Options(flags="i", valued="u", long=("--ignore-environment",), long_valued=("--unset",), assignments=True),
    "exec": _Options(),
    "ionice": _Options(valued="cn", long_valued=("--class", "--classdata")),
    "nice": _Options(valued="n", long_valued=("--adjustment",), other=r"-\d+"),
    "nohup": _Options(),
    "setsid": _Options(flags="fw", long=("--fork", "--wait")),
    "stdbuf": _Options(valued="ioe", long_valued=("--input", "--output", "--error")),
    "sudo": _Options(flags="EHn", valued="gu", long_valued=("--user", "--group"), assignments=True, privileged=True),
    "time": _Options(flags="p"),
    "timeout": _Options(
        flags="v",
        valued="ks",
        long=("--foreground", "--preserve-status", "--verbose"),
        long_valued=("--kill-after", "--signal"),
        operands=1,
    ),
    "xargs": _Options(
        flags="0rtx",
        valued="dEILnPs",
        long=("--exit", "--no-run-if-empty", "--null", "--verbose"),
        long_valued=("--delimiter", "--max-args", "--max-chars", "--max-procs"),
    ),
}
_SHELLS = ("ash", "bash", "dash", "sh")
_SHELL_OPTIONS = re.compile(r"-[euxl]*(c?)[euxl]*")
_SET_OPTIONS = ("errexit", "nounset", "pipefail", "xtrace")
_GIT_FLAGS = ("--no-pager", "-P", "--no-optional-locks", "--literal-pathspecs", "--no-replace-objects")
_GIT_SETTINGS = re.compile(
    r"""(?i:color\.[\w.-]+|advice\.[\w-]+|column\.[\w-]+|user\.(?:name|email)|init\.defaultbranch|core\.(?:quotepath|autocrlf))=.*
    | (?i:core\.(?:pager|editor)|sequence\.editor)=(?:cat|true|:) | (?i:pager\.[\w-]+)=(?:cat|false)
    | (?i:commit|tag)(?i:\.gpgsign)=false | (?i:gc\.auto)=0""",
    re.VERBOSE | re.DOTALL,
)


def seen_through(command: SimpleCommand) -> SeenThrough | None:
    """What a command without assignments starts, or None when it is no wrapper, or that is not certain."""
    words = command.words
    name = words[0].text if words[0].kind == "literal" else ""
    if name in _WRAPPERS:
        return _wrapper(command, name, _WRAPPERS[name])
    if name == "find":
        return _find(command)
    if name in _SHELLS:
        return _shell(command)
    return _git(command) if name == "git" else None


def started_programs(words: Sequence[Word]) -> tuple[str, ...]:
    """The names that a rule must have for what a wrapper with these words starts; "" for what is not known."""
    name = words[0].text
    if name == "find":
        return tuple(segment[0].text for segment in find_segments(words)[1])
    if name in _WRAPPERS and len(words) > 1:
        at = _program_at(words, _WRAPPERS[name])
        return (words[at].text if at is not None and at < len(words) else "",)
    if name in WRAPPERS:
        return tuple(word.text for word in words[1:] if not re.match(r"-|\d", word.text))[:1]
    return ()


def _wrapper(command: SimpleCommand, name: str, options: _Options) -> SeenThrough | None:
    words = command.words
    at = _program_at(words, options)
    if at is None or at >= len(words):
        return None
    if not all(
        is_harmless(_as_assignment(word)) for word in words[1:at] if options.assignments and _is_assignment(word)
    ):
        return None
    inner = _with_input(words[1:at], words[at:]) if name == "xargs" else words[at:]
    own = replace(command, words=words[:1], files=()) if options.privileged else None
    return SeenThrough((replace(command, words=inner, files=(), is_function=False),), own)


def _program_at(words: Sequence[Word], options: _Options) -> int | None:
    """The place of the program; None when an option is not known."""
    at, operands = 1, options.operands
    while at < len(words):
        word = words[at]
        if word.kind != "literal" or not word.text.startswith("-"):
            break
        if word.text == "--":
            at += 1
            break
        length = _option(word.text, options)
        if not length or any(value.splits for value in words[at + 1 : at + length]):
            return None
        at += length
    for word in words[at : at + operands]:
        if not re.fullmatch(r"\d[\d.]*[smhd]?", word.text) or word.kind != "literal":
            return None
    at += operands
    while options.assignments and at < len(words) and _is_assignment(words[at]):
        at += 1
    return at


def _option(text: str, options: _Options) -> int:
    """How many words an option takes; 0 when it is not known."""
    if text in options.long or re.fullmatch(options.other, text):
        return 1
    if text.startswith("--"):
        name, equals, _ = text.partition("=")
        return 0 if name not in options.long_valued else 1 if equals else 2
    letters = text[1:].lstrip(options.flags)
    if not letters:
        return 1
    return 0 if letters[0] not in options.valued else 1 if letters[1:] else 2


def _is_assignment(word: Word) -> bool:
    return re.match(r"[A-Za-z_]\w*=", word.prefix, re.ASCII) is not None and not word.splits


def _as_assignment(word: Word) -> Word:
    return replace(word, assigns=word.text.partition("=")[0])


def _with_input(options: Sequence[Word], words: Sequence[Word]) -> tuple[Word, ...]:
    """What xargs starts: with its input at the end, or in the place of a word."""
    texts = [word.text for word in options]
    places = [at for at, text in enumerate(texts) if re.match("-[0rtx]*I", text)]
    if not places:
        return (*words, Word("…", "unknown", splits=True))
    # Of several the last counts.
    replaced = texts[places[-1]].partition("I")[2] or texts[places[-1] + 1]
    return tuple(_with_replaced(word, replaced) for word in words)


def _with_replaced(word: Word, text: str) -> Word:
    """With something else in the place of a text."""
    return made_up(word.text, prefix=word.text.partition(text)[0]) if text in word.text else word


def _find(command: SimpleCommand) -> SeenThrough | None:
    own, segments = find_segments(command.words)
    if not segments:
        return None
    root = command.words[1].text if len(command.words) > 1 else "."
    prefix = "." if root.startswith("-") or command.words[1].kind != "literal" else root
    starts = tuple(
        replace(command, words=tuple(_with_found(word, prefix) for word in segment), files=(), is_function=False)
        for segment in segments
    )
    return SeenThrough(starts, replace(command, words=own, files=(), is_function=False))


def _with_found(word: Word, prefix: str) -> Word:
    return made_up(word.text, prefix=word.text.partition("{}")[0] or prefix) if "{}" in word.text else word


def _shell(command: SimpleCommand) -> SeenThrough | None:
    """`sh -c SCRIPT`, or a script in a here-document."""
    script = _script(command.words[1:], command.input)
    # A variable of the shell outside may hold what arithmetic there takes for a command to run.
    if script is None or _COUNTS.search(script):
        return None
    commands = commands_of(script, _only(command.cwds))
    return None if isinstance(commands, Unclear) else SeenThrough(commands)


_COUNTS = re.compile(r"\(\(|\[\[|\$\[|\w\[|\b(?:let|declare|typeset|local|wait)\b")


def _script(words: Sequence[Word], given: Word | None) -> str | None:
    at, takes_script = 0, False
    while at < len(words) and words[at].text.startswith("-") and words[at].kind == "literal":
        text = words[at].text
        if re.fullmatch("-[eux]*o", text) and at + 1 < len(words) and words[at + 1].text in _SET_OPTIONS:
            at += 2
        elif found := _SHELL_OPTIONS.fullmatch(text):
            takes_script = takes_script or bool(found[1])
            at += 1
        elif text in ("-s", "-", "--norc", "--noprofile", "--login"):
            at += 1
        else:
            return None
    if takes_script:
        return words[at].text if at < len(words) and words[at].kind == "literal" else None
    return given.text if given is not None and given.kind == "literal" and at == len(words) else None


def _only(cwds: Folders) -> str | None:
    return next(iter(cwds)) if cwds is not None and len(cwds) == 1 else None


def _git(command: SimpleCommand) -> SeenThrough | None:
    """git without the options that stand before its command."""
    words, at = command.words, 1
    cwds = command.cwds
    while at < len(words) and words[at].text.startswith("-"):
        text = words[at].text
        value = words[at + 1] if at + 1 < len(words) else made_up("")
        if text in _GIT_FLAGS:
            at += 1
        elif text == "-c" and value.kind == "literal" and _GIT_SETTINGS.fullmatch(value.text):
            at += 2
        elif text == "-C" and value.kind == "literal" and cwds is not None:
            cwds = frozenset(
                normal(f"{value.text if value.text.startswith('/') else f'{cwd}/{value.text}'}") for cwd in cwds
            )
            at += 2
        else:
            return None
    if at == 1 or not are_inside(cwds):
        return None
    return SeenThrough((replace(command, words=(words[0], *words[at:]), cwds=cwds, files=()),))


def is_wrapper(words: Sequence[Word]) -> bool:
    """Whether a program is one of those that are seen through where it is certain what they start."""
    return words[0].kind == "literal" and (words[0].text in _WRAPPERS or words[0].text in _SHELLS)
