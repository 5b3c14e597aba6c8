"""A policy that is being made out of another system's settings, and what becomes of each thing that stood in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from runner.document.tree import Document, report
from runner.document.words import KeyPath, key_text, near, shown
from runner.errors import ConfigError
from runner.policy.calls import parse_call
from runner.policy.decide import decide
from runner.policy.domains import parse_domain
from runner.policy.rules import parse_rule
from runner.policy.schema import Mode, Policy
from runner.policy.verdicts import Verdict
from runner.policy.writing import Written, plain

Taken = Literal["exactly", "stricter", "left out"]
TAKEN: tuple[Taken, ...] = get_args(Taken)
WORDS: tuple[Verdict, ...] = ("allow", "ask", "deny")
STRICTNESS = {word: at for at, word in enumerate(WORDS)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """What became of one thing."""

    taken: Taken
    where: str
    """file:line:column."""
    what: str
    """The key and its value, as written."""
    why: str = ""

    def __str__(self) -> str:
        return plain(f"{self.where}: {self.what}{': ' if self.why else ''}{self.why}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A policy that allows nothing that its source would not, and what was lost on the way."""

    policy: Written
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in the source: a rule, a word, a switch."""

    path: KeyPath
    value: Any

    @property
    def text(self) -> str:
        return f"{key_text(self.path)}: {self.value if isinstance(self.value, str) else shown(self.value)}"


class Draft:
    """Collects rules and notes. Whatever is taken over, is taken over through it, and is noted."""

    def __init__(self, document: Document) -> None:
        self.mode: Mode = "interactive"
        self.notes: list[Note] = []
        self._noted: set[KeyPath] = set()
        self._document = document
        self._rules: dict[Verdict, dict[str, str]] = {"allow": {}, "ask": {}, "deny": {}}
        self._egress: dict[str, str] = {}
        self._tests: dict[str, Verdict] = {}

    # -- what the source says

    def item(self, *path: str | int) -> Item | None:
        """The value at a key; None when there is none."""
        value = self._document.tree
        for part in path:
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        return Item(path, value)

    def items(self, *path: str | int) -> list[Item]:
        """The entries of a mapping; complains when it is something else."""
        found = self.item(*path)
        if found is not None and not isinstance(found.value, dict):
            self.complain(found, f"must be a mapping (got {shown(found.value)})")
        value = found.value if found and isinstance(found.value, dict) else {}
        return [Item((*path, key), inner) for key, inner in value.items()]

    def texts(self, *path: str | int) -> Iterator[Item]:
        """The entries of a list of texts; complains about what is not one."""
        found = self.item(*path)
        if found is None:
            return
        if not isinstance(found.value, list):
            self.complain(found, f"must be a list (got {shown(found.value)})")
            return
        for index, value in enumerate(found.value):
            inner = Item((*path, index), value)
            if isinstance(value, str):
                yield inner
            else:
                self.complain(inner, f"must be text (got {shown(value)})")

    def word(self, choices: Iterable[str], *path: str | int) -> Item | None:
        """A word out of some; complains about another."""
        found = self.item(*path)
        if found is None or self.is_word(found, tuple(choices)):
            return found
        return None

    def is_word(self, item: Item, choices: tuple[str, ...]) -> bool:
        if item.value in choices:
            return True
        meant = near(item.value, choices) if isinstance(item.value, str) else None
        hint = f"did you mean {meant!r}?" if meant else f"the words here are {', '.join(choices)}"
        self.complain(item, f"there is no {shown(item.value)}; {hint}")
        return False

    def flag(self, *path: str | int) -> bool:
        found = self.item(*path)
        if found is not None and not isinstance(found.value, bool):
            self.complain(found, f"must be true or false (got {shown(found.value)})")
        return found is not None and found.value is True

    def complain(self, item: Item, text: str) -> None:
        self._document.complain(item.path, text)

    # -- what the policy will say

    def note(self, taken: Taken, item: Item, why: str = "") -> None:
        self._noted.add(item.path)
        self.notes.append(Note(taken=taken, where=self._document.where(item.path), what=item.text, why=why))

    def note_once(self, taken: Taken, item: Item, why: str = "") -> None:
        """For what may be met several times: the first note stays."""
        if item.path not in self._noted:
            self.note(taken, item, why)

    def add(self, verdict: Verdict, rule: str, comment: str = "") -> None:
        """A rule that is right; the first comment on it stays."""
        parse_rule(rule)
        self._rules[verdict].setdefault(rule, comment)

    def take(self, verdict: Verdict, item: Item, rules: Iterable[str], why: str = "", *, comment: str = "") -> None:
        """These rules for the item: exactly what it says, unless there is a reason `why` they are stricter."""
        for rule in rules:
            self.add(verdict, rule, comment or (f"for {item.value}" if rule != item.value else ""))
        self.note("stricter" if why else "exactly", item, why)

    def reach(self, item: Item, domain: str) -> None:
        """Let commands reach a domain, while the agent works."""
        try:
            parse_domain(domain, addresses=True)
        except ValueError as error:
            self.note("left out", item, str(error))
            return
        self._egress.setdefault(domain, "")
        self.note("exactly", item)

    def expect(self, call: str, verdict: Verdict) -> None:
        self._tests.setdefault(call, verdict)

    def decision(self, call: str) -> Verdict:
        """What the policy says by now."""
        rules = {verdict: tuple(map(parse_rule, self._rules[verdict])) for verdict in WORDS}
        policy = Policy(version=1, mode=self.mode, allow=rules["allow"], ask=rules["ask"], deny=rules["deny"])
        return decide(policy, parse_call(call)).verdict

    def check(self) -> None:
        """Raise ConfigError for all that was complained about."""
        if self._document.problems:
            raise ConfigError(report(self._document.problems))

    def finished(self, head: Iterable[str] = ()) -> Imported:
        """Raises ConfigError for all that was complained about."""
        self.check()
        return Imported(
            policy=Written(
                head=tuple(head),
                mode=self.mode,
                allow=self._rules["allow"],
                ask=self._rules["ask"],
                deny=self._rules["deny"],
                egress={"agent": self._egress} if self._egress else {},
                tests=self._tests,
            ),
            notes=tuple(self.notes),
        )
