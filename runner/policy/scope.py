"""What can be known beforehand of the shell that runs a script: where it is, its variables and its functions."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runner.policy.paths import HOME, REPO, normal
from runner.policy.simple import Folders, are_inside
from runner.policy.words import DECLARING, NAME, NUMBER, Stop, Values, Word

_MOST_FOLDERS = 4
_WRITING = ("getopts", "mapfile", "printf", "read", "readarray", "unset", "wait")
"""Builtins that may set the variables that their arguments name."""
_RUNNING = ("eval", "let", "shopt", "trap")
"""Builtins after which anything may be otherwise."""
_MOVING = ("cd", "popd", "pushd")
_PLACES = ("CDPATH", "HOME", "OLDPWD", "PWD")
_SPECIAL = re.compile(
    "BASH.*|DIRSTACK|E?UID|EPOCH.*|FUNCNAME|GROUPS|HIST.*|HOME|HOST.*|IFS|LINENO|MAPFILE|OLDPWD|OPT.*|PIPESTATUS|PPID|PWD"
    "|RANDOM|READLINE.*|REPLY|SECONDS|SHELLOPTS|SHLVL|SRANDOM|COMP.*|COPROC|_"
)
"""Variables that the shell itself sets, or keeps from being set."""
_TOPLEVEL = "$(git rev-parse --show-toplevel)"


def either(one: Folders, other: Folders) -> Folders:
    if one is None or other is None:
        return None
    both = one | other
    return both if len(both) <= _MOST_FOLDERS else None


@dataclass(slots=True)
class Scope:
    """What is known at one point of a script."""

    cwds: Folders
    known: dict[str, Values] = field(default_factory=dict)
    """What variables hold."""
    functions: frozenset[str] = frozenset()
    """Those that are defined for certain."""

    def copy(self) -> Scope:
        return Scope(self.cwds, dict(self.known), self.functions)

    def or_else(self, other: Scope) -> Scope:
        """What is known where either may be so."""
        known = {name: values for name, values in self.known.items() if other.known.get(name) == values}
        return Scope(either(self.cwds, other.cwds), known, self.functions & other.functions)


class Shell:
    """Follows a script command by command. What a command changes when it fails is returned: working directories."""

    def __init__(self, cwds: Folders, *, at_call: Folders, splits_at_blanks: bool) -> None:
        self.scope = Scope(cwds)
        self.moves = False
        """The working directory may change."""
        self.has_functions = False
        self._at_call = at_call
        self._splits_at_blanks = splits_at_blanks
        self._evaluated: set[str] = set()
        self._numbers: dict[str, bool] = {}
        """Variables that are written, and whether always with a number."""
        self._opaque = False
        """Something may write variables that does not say which."""

    # What readers of words ask.

    def values(self, name: str) -> Values | None:
        if self._opaque:
            return None
        if name == "HOME":
            return Values((HOME,))
        if name == "PWD":
            return None if self.scope.cwds is None else Values(tuple(sorted(self.scope.cwds)))
        return self.scope.known.get(name)

    def evaluate(self, name: str) -> None:
        self._evaluated.add(name)
        self.forget(name)  # it may be set, too

    def check_arithmetic(self) -> None:
        """At the end of the script. Raises Stop where a text that the shell reads as arithmetic may hold a command."""
        for name in sorted(self._evaluated):
            if self._opaque or not self._numbers.get(name, True):
                raise Stop(f"arithmetic over ${name}, whose text may hold a command")

    def is_number(self, name: str) -> bool:
        """At the end of the script: whether it is set, and never to anything but a number."""
        return not self._opaque and self._numbers.get(name, False)

    # What happens.

    def apart(self, visit: Callable[[], object]) -> Folders:
        """In a shell of its own: nothing of what happens there is left."""
        scope, self.scope = self.scope, self.scope.copy()
        visit()
        self.scope = scope
        return scope.cwds

    def may_have_been_apart(self, cwds: Folders, failed: Folders) -> Folders:
        """What has happened since the working directory was one of those may have happened in a shell of its own."""
        self.scope.known.clear()
        self.scope.cwds = either(self.scope.cwds, cwds)
        return either(failed, cwds)

    def define(self, name: str, visit: Callable[[], object]) -> None:
        """A function, which may be called from anywhere."""
        self.has_functions = True
        scope, functions = self.scope, self.scope.functions | {name}
        self.scope = Scope(self._at_call, functions=functions)
        visit()
        self.scope = Scope(scope.cwds, scope.known, functions)

    def repeat(self, visit: Callable[[], Folders], again: Callable[[], None]) -> Folders:
        """Go through the body of a loop until what is known holds for any number of rounds; `again`: one more time."""
        entry = self.scope
        for attempt in range(3):
            self.scope = entry.copy()
            failed = visit()
            self.scope.cwds = either(failed, self.scope.cwds)
            after = entry.or_else(self.scope)
            if after == entry:
                break
            if attempt < 2:
                entry = after if attempt == 0 else Scope(None)
                again()
        self.scope = after
        return after.cwds

    def forget(self, name: str) -> None:
        """What a variable holds is not known any more."""
        self.scope.known.pop(name, None)

    def set(self, name: str, values: Values | None, *, number: bool) -> None:
        self._numbers[name] = self._numbers.get(name, True) and number
        if name in _PLACES:
            self._anything()
        if values and values.texts and self._splits_at_blanks and not _SPECIAL.fullmatch(name):
            self.scope.known[name] = values
        else:
            self.forget(name)

    def run(self, words: Sequence[Word], *, is_function: bool) -> Folders:
        """A simple command."""
        scope = self.scope
        program = [word for word in words if not word.assigns]
        for word in words[: len(words) - len(program)]:
            values = _assigned(word) if not program else None
            self.set(word.assigns, values, number=word.number)
        before = scope.cwds
        inner = _run_by_the_shell(program)
        if inner:
            self._run(inner, is_function=is_function)
        if len(inner) < len(program):
            scope.cwds = either(before, scope.cwds)
        return before if inner and inner[0].text in _MOVING else either(before, scope.cwds)

    def _run(self, program: Sequence[Word], *, is_function: bool) -> None:
        scope, name, arguments = self.scope, program[0].text, program[1:]
        if program[0].kind != "literal" or (name in _RUNNING and not _is_for_the_end(program)):
            self._anything()
        elif name in (".", "source"):
            scope.known.clear()  # a file that moves the shell on could as well do by itself what is done there
        elif is_function:
            scope.known.clear()
            scope.cwds = scope.cwds if self._at_call is not None else None
        elif name in DECLARING:
            self._declare(name, arguments)
        elif name in _WRITING:
            self._write(name, arguments)
        elif name in _MOVING:
            self.moves = True
            scope.cwds = _moved(scope.cwds, arguments) if name == "cd" else None

    def _anything(self) -> None:
        self._opaque = self.moves = True
        self.scope.known.clear()
        self.scope.cwds = None

    def _declare(self, name: str, words: Sequence[Word]) -> None:
        for word in words:
            if found := re.match(rf"({NAME})\+?=", word.text, re.ASCII):
                number = (word.bare or word.kind == "literal") and NUMBER.fullmatch(word.text) is not None
                known = word.kind == "literal" and "+=" not in found[0]
                self.set(found[1], Values((word.text[found.end() :],)) if known else None, number=number)
            elif word.kind != "literal" or (word.text.startswith("-") and word.text not in ("-x", "-g", "-p")):
                self._opaque = True
        if name == "readonly":
            self._opaque = True  # it keeps what it has, whatever is assigned later

    def _write(self, name: str, words: Sequence[Word]) -> None:
        if name == "unset" and self.has_functions:
            raise Stop("'unset' where there are functions")
        option = {"printf": "-v", "wait": "-p"}.get(name, "")
        # What else stands behind `wait` a rule must allow: it is no option there.
        if option and not any(word.text.startswith(option) or (word.is_open and name != "wait") for word in words):
            return
        for word in words:
            self._opaque = self._opaque or word.kind != "literal"
            for text in (word.text, word.text[2:]):  # -aNAME
                self.set(text.partition("[")[0], None, number=False)


def _is_for_the_end(program: Sequence[Word]) -> bool:
    """`trap … EXIT`."""
    return program[0].text == "trap" and [word.text for word in program[2:]] in (["EXIT"], ["0"])


def _run_by_the_shell(program: Sequence[Word]) -> Sequence[Word]:
    """Without the words behind which the shell itself still runs a builtin."""
    while program and program[0].kind == "literal" and program[0].text in ("builtin", "command", "time"):
        program = program[1:]
        while program and re.match(rf"-|{NAME}\+?=", program[0].text, re.ASCII):
            program = program[1:]
    return program


def _assigned(word: Word) -> Values | None:
    """What a variable comes to hold."""
    texts = (word.text,) if word.kind == "literal" else word.values
    added = word.text.startswith(f"{word.assigns}+")
    return None if added else Values(tuple(text.partition("=")[2] for text in texts))


def _moved(cwds: Folders, words: Sequence[Word]) -> Folders:
    """Where `cd` leads."""
    folder = [word for word in words if word.text not in ("--", "-L")]
    if not folder:
        return frozenset((HOME,))
    if len(folder) > 1 or cwds is None and not folder[0].text.startswith("/"):
        return None
    if folder[0].text == _TOPLEVEL and folder[0].kind == "unknown":
        return frozenset((REPO,)) if are_inside(cwds) else None
    targets = (folder[0].text,) if folder[0].kind == "literal" else folder[0].values
    if folder[0].text == "~" and folder[0].bare:
        targets = (HOME,)
    if not targets or any(target.startswith("-") or not target for target in targets):
        return None
    return frozenset(normal(posixpath.join(cwd, target)) or "/" for cwd in cwds or ("/",) for target in targets)
