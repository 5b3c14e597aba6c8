"""Which rules allow a simple command for certain, and what is missing where none do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from runner.document.words import shown
from runner.policy.builtins import is_free
from runner.policy.command_pattern import CommandPattern
from runner.policy.rules import Rule
from runner.policy.simple import SimpleCommand, are_inside
from runner.policy.variables import is_harmless, is_search_path, runs_tests
from runner.policy.verdicts import some
from runner.policy.words import Word
from runner.policy.wrappers import is_wrapper, seen_through

_DEEPEST = 5
_BY_FOLDER = frozenset(
    (
        *("bundle", "cargo", "cmake", "composer", "ctest", "dotnet", "git", "go", "gradle", "jest", "just", "lerna"),
        *("make", "mix", "mvn", "ninja", "nox", "npm", "npx", "nx", "pdm", "pnpm", "poetry", "pre-commit", "rake"),
        *("tox", "turbo", "uv", "yarn"),
    )
)
"""Programs that run what they find in the working directory."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Why nothing allows a command."""

    reason: str
    suggestion: str | None = None
    """A rule that would."""


def allowing(rules: Sequence[Rule], command: SimpleCommand, depth: int = 0) -> tuple[Rule, ...] | Missing:
    """The rules that together allow one simple command, which are none for what needs none."""
    plain = replace(command, words=command.program) if command.assignments else command
    if not command.words or command.is_function and plain is command:
        return ()
    named = _matching(rules, command, plain)
    if isinstance(named, Rule):
        return (named,)
    if harmful := next((word for word in command.assignments if not _may_stand_before(word, plain, rules)), None):
        return _telling(harmful, command)
    if not plain.words or command.is_function or is_free(plain):
        return ()
    if plain is not command:
        named = _matching(rules, plain, plain)
    if isinstance(named, Rule):
        return (named,)
    inside = _seen_through(rules, plain, depth)
    if inside is None or (isinstance(inside, Missing) and isinstance(named, Missing)):
        return named or _no_rule(rules, plain)
    return inside


def _matching(rules: Sequence[Rule], command: SimpleCommand, plain: SimpleCommand) -> Rule | Missing | None:
    """The first rule that allows a command, or what keeps those that speak of it from doing so."""
    missing = None
    for rule in rules:
        pattern = rule.pattern
        if not isinstance(pattern, CommandPattern) or not pattern.allows(command):
            continue
        if not all(is_harmless(word) or pattern.names(word.text) for word in command.assignments):
            continue
        risk = pattern.risky_word(plain.words) if plain.words else None
        if risk is not None:
            missing = _risky(risk, plain)
        elif not are_inside(command.cwds) and plain.words and (why := _depends_on_folder(plain.words[0], pattern)):
            missing = Missing(f"{why}, so it is allowed in the repository only; this one may run elsewhere")
        else:
            return rule
    return missing


def _depends_on_folder(program: Word, pattern: CommandPattern) -> str | None:
    if "/" in program.text and not program.text.startswith("/"):
        return f"{shown(program.text)} is another program in every folder"
    if program.text in _BY_FOLDER and not pattern.is_any:
        return f"{program.text} runs what the files of its folder say"
    return None


def _seen_through(rules: Sequence[Rule], command: SimpleCommand, depth: int) -> tuple[Rule, ...] | Missing | None:
    """What allows all that a wrapper starts, and the wrapper itself; None for what is no wrapper for certain."""
    inside = seen_through(command) if depth < _DEEPEST else None
    if inside is None:
        return None
    found: list[Rule] = []
    judged = [_own(rules, inside.own)] if inside.own else []
    for allowed in (*judged, *(allowing(rules, part, depth + 1) for part in inside.starts)):
        if isinstance(allowed, Missing):
            return allowed
        found += allowed
    return tuple(found)


def _own(rules: Sequence[Rule], command: SimpleCommand) -> tuple[Rule, ...] | Missing:
    named = _matching(rules, command, command)
    return (named,) if isinstance(named, Rule) else named or _no_rule(rules, command)


# --- assignments


def _may_stand_before(assignment: Word, plain: SimpleCommand, rules: Sequence[Rule]) -> bool:
    if is_harmless(assignment, exported=bool(plain.words)):
        return True
    if not plain.words:
        return False
    if assignment.assigns == "IFS":
        return plain.words[0].text == "read" and (assignment.kind == "literal" or bool(assignment.values))
    if not (is_search_path(assignment) and are_inside(plain.cwds)):
        return False
    return runs_tests(plain.words) or (plain.words[0].text.startswith("python") and _is_any(rules, plain))


def _is_any(rules: Sequence[Rule], command: SimpleCommand) -> bool:
    """Whether the program may be run with any arguments."""
    patterns = (rule.pattern for rule in rules if isinstance(rule.pattern, CommandPattern))
    return any(pattern.is_any and pattern.allows(command) for pattern in patterns)


def _telling(assignment: Word, command: SimpleCommand) -> Missing:
    name = assignment.assigns
    return Missing(
        f"{name} may change what programs do, so a rule must name it to allow {shown(str(command))}",
        _written([f"{name}=*", *_start(command.program)]) if command.program else None,
    )


# --- messages


def _risky(risk: str, plain: SimpleCommand) -> Missing:
    program = plain.words[0].text
    if not risk:
        return Missing(f"what {program} starts in {shown(_text(plain))} is not certain, so a rule must name all of it")
    if any(word.text == risk and word.kind != "literal" for word in plain.words):
        return Missing(
            f"what {shown(risk)} is may be an option with which {program} writes files or runs other programs; "
            f"write its text, or put -- before it where {program} takes that"
        )
    named = risk if re.fullmatch(r"-[\w-]+", risk) else None
    return Missing(
        f"with {shown(risk)} {program} may write files or run other programs, "
        f"so a rule must name that word to allow {shown(_text(plain))}",
        _written([program, named]) if named else None,
    )


def _no_rule(rules: Sequence[Rule], command: SimpleCommand) -> Missing:
    """Which rule would allow a command, and what the policy has instead."""
    words = [word.text for word in command.words if word.kind == "literal"]
    known = [(rule.pattern.words[0], str(rule)) for rule in rules if isinstance(rule.pattern, CommandPattern)]
    same = [text for program, text in known if words and program == words[0]]
    allowed = f"of {words[0]} it has {some(same)}" if same else f"it allows {some([program for program, _ in known])}"
    if command.words[0].kind != "literal":
        return Missing(f"the program in {shown(_text(command))} is not known before it runs; write its name")
    rule = _written(_start(command.words))
    if is_wrapper(command.words) and not same:
        allowed = f"what {words[0]} starts here is not certain, write it without needless options; {allowed}"
    needed = f"the policy would need a rule such as {rule}" if rule else "no rule can name it"
    return Missing(f"no rule allows {shown(_text(command))}; {needed}; {allowed}", rule)


def _text(command: SimpleCommand) -> str:
    return " ".join(word.text for word in command.words)


_WITH_COMMANDS = frozenset(
    (
        *("apt", "apt-get", "brew", "bundle", "cargo", "composer", "conda", "docker", "dotnet", "gem", "gh", "git"),
        *("go", "gradle", "helm", "hg", "kubectl", "make", "mix", "mvn", "nox", "npm", "npx", "pdm", "pip", "pip3"),
        *("pipenv", "pnpm", "podman", "poetry", "rails", "rake", "rustup", "svn", "systemctl", "terraform", "tox"),
        *("uv", "yarn"),
    )
)
"""Programs whose first word says what they do."""


def _start(words: Sequence[Word]) -> list[str]:
    """The words that say what a command does."""
    first = words[0].text
    length = 1
    if first in _WITH_COMMANDS and len(words) > 1 and re.fullmatch(r"[a-z][\w:-]*", words[1].text):
        length = 2
    elif re.fullmatch(r"python[\d.]*", first) and len(words) > 2 and words[1].text == "-m":  # noqa: PLR2004
        length = 3
    return [word.text for word in words[:length] if word.kind == "literal"]


def _written(words: Sequence[str]) -> str | None:
    """A rule for commands that begin with the words."""
    if not all(word.isprintable() and word for word in words):
        return None
    quoted = (word if re.fullmatch(r"[\w.+/:=@*-]+", word) else shlex.quote(word) for word in words)
    return f"Bash({' '.join(quoted)}:*)"
