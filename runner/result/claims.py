"""What the agent's last message claims, beside what was observed. Only sentences that can be compared are taken up.

A claim holds when something that happened bears it out, and does not when something contradicts it; in between nothing
is said. No outcome depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from runner.result.evidence import check_passed, checks_of_last_commit, one_line, shortened
from runner.result.schema import Claim
from runner.transcript import AgentEnded, AnyEvent, BranchTaken, CheckRan, ToolDecided, ToolRan, of_kind

READ_CHARS = 20_000
"""Of the message."""
MOST_CLAIMS = 20
CLAIM_CHARS = 300

About = Literal["tests", "testing", "fix", "commit", "file", "no_change"]


class Seen(NamedTuple):
    """What was observed, in a line, and whether it bears the claim out."""

    observed: str
    holds: bool | None


def claims(events: Sequence[AnyEvent]) -> tuple[Claim, ...]:
    """The claims of the agent's last message, in its order."""
    message = next((end.message for end in reversed(of_kind(events, AgentEnded))), "")
    scene = _Scene(events)
    found = (claim for sentence in _sentences(message[:READ_CHARS]) for claim in _claims_of(sentence, scene))
    return tuple(claim for claim, _ in zip(found, range(MOST_CLAIMS), strict=False))


_CODE_BLOCK = re.compile(r"^(`{3,}|~{3,}).*?(?:^\1|\Z)", re.DOTALL | re.MULTILINE)
_NOT_PROSE = re.compile(r"^[ \t]*(?:>|#{1,6} ).*$", re.MULTILINE)
"""Quotations and headings."""
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\d\.)[*)\"']{0,4}\s+|\n[ \t]*(?=\n|[-*+•|]|\d{1,3}[.)]\s)")
_BULLET = re.compile(r"(?:[-+•|\s]|\d{1,3}[.)]\s)+")
LONGEST_SENTENCE = 600
"""Characters; what is longer is no sentence."""


def _sentences(message: str) -> Iterator[str]:
    """Sentences and list items, in plain words, without blocks of code and quotations."""
    prose = _NOT_PROSE.sub("\n", _CODE_BLOCK.sub("\n\n", message)).replace("*", "")
    for part in _SENTENCE_END.split(prose):
        sentence = one_line(_BULLET.sub("", part, count=1) if _BULLET.match(part) else part)
        if sentence and len(sentence) <= LONGEST_SENTENCE:
            yield sentence


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_HEDGED = _words(
    r"\?\s*$|\b(?:if|unless|should|would|could|can|cannot|may|might|will|must|please|once|until|before|when|whether|try|"
    r"make sure|ensures?|expect(?:ed)?|hopefully|likely|probably|not|never|unable|except|but|however|only|some|most|"
    r"first|earlier|originally|previously|already|\w+n['’]t)\b"
)
"""A sentence with one of these says what could be, or what is not."""
_OPEN = _words(r"\?\s*$|\b(?:if|unless|should|would|could|when|whether|but|however|except)\b")

_DONE = r"\b(?:i|we)(?:['’]ve| have)? (?:also |now |successfully |just )*"
_WHICH = r"(?:the |these |those |our |my |of |\d+ |new |existing |unit |full |whole |entire |test )*"
_SUITE = rf"{_WHICH}(?:tests?|test suite|suite)\b"
_NOW = r"(?: now| still| all| are| have| is)*"
_PASS = rf"{_NOW} (?:pass|passes|passed|passing|green)\b"
_MENDED = r"(?:fixed|resolved|implemented|repaired)\b"
_SUFFIX = r"\.(?:py|pyi|js|ts|tsx|jsx|go|rs|java|kt|c|h|cc|cpp|cs|rb|php|sh|md|rst|txt|toml|yaml|yml|json|html|css)\b"
_FILE = rf"`?(?P<file>(?:[\w@+.-]+/|/)*[\w@+.-]+{_SUFFIX})"
_WRITTEN = (
    r"(?:added|created|wrote|updated|modified|edited|changed|deleted|removed) "
    rf"(?:a |an |the |new |small |regression |unit |tests? |files? |modules? |scripts? |to |in )*{_FILE}"
)
_UNCHANGED = (
    r"(?:no (?:code |source )?(?:changes?|edits?)(?: is| are| was| were)? (?:needed|necessary|required|made)"
    r"|nothing (?:needs|needed) to (?:be changed|change)|made no (?:code )?changes)"
)

_PATTERNS: tuple[tuple[About, re.Pattern[str]], ...] = (
    ("no_change", _words(rf"\b{_UNCHANGED}(?=\s*(?:$|[.,;:!(—–-]|because\b))")),
    (
        "tests",
        _words(
            rf"\ball {_SUITE}{_PASS}|^(?:and |now |verified:? |confirmed:? )*{_SUITE}{_PASS}"
            rf"|\b(?:verified|confirmed|confirming) that {_SUITE}{_PASS}"
            r"|\b\d+ (?:tests? )?passed,? (?:and )?(?:0|no) fail"
        ),
    ),
    ("testing", _words(rf"{_DONE}(?:re-?)?(?:ran|run|executed) (?:all )?(?:{_SUITE}|`?(?:pytest|tox|npm test)\b)")),
    (
        "commit",
        _words(
            rf"{_DONE}(?:committed|(?:made|created) a commit)\b|\band committed (?:the|my|all|it|them|everything)\b"
            r"|\b(?:changes|work|fix|everything) (?:has|have|is|are|was|were) (?:now |been |all )*committed\b"
        ),
    ),
    (
        "fix",
        _words(
            rf"{_DONE}{_MENDED}|^{_MENDED}"
            rf"|\b(?:bug|issue|problem|error|crash|it|this|feature) (?:is|has been|was) (?:now )?{_MENDED}"
        ),
    ),
    ("file", _words(rf"(?:^|{_DONE}|\b(?:and|then) ){_WRITTEN}")),
)


_CODE = re.compile(r"`[^`]*`")


def _claims_of(sentence: str, scene: _Scene) -> Iterator[Claim]:
    for about, pattern in _PATTERNS:
        found = pattern.search(sentence)
        hedge = _OPEN if about == "no_change" else _HEDGED
        if found is None or hedge.search(_CODE.sub("`", sentence)):
            continue
        if seen := scene.look(about, found.groupdict().get("file", "")):
            yield Claim(text=shortened(sentence, CLAIM_CHARS), about=about, observed=seen.observed, holds=seen.holds)


_TEST_COMMAND = re.compile(
    # Where a command begins, or what starts another one: `pip install pytest` runs no test.
    r"(?:(?:^|[;&|(\n])\s*|(?:^|\s)(?:-m|run|exec|npx|env|time|sudo|python[\d.]*|timeout \S+|\w+=\S*) +|(?<=[\w.])/)"
    r"(?:pytest|py\.test|tox|nox|unittest|jest|vitest|mocha|rspec|phpunit|ctest|bats|"
    r"(?:npm|pnpm|yarn|bun)(?: run)? test|(?:go|cargo|dotnet|mvn|gradle|gradlew|mix|swift|deno|make|rake|bazel) "
    r"(?:\S+ )*(?:test|check)|manage\.py test)(?![\w.-])"
)
_REDIRECTION = re.compile(r"\d*>+&?\s*\S+|&>\s*\S+")
_CHANGING_TOOLS = frozenset(("Edit", "Write"))


class _TestRun(NamedTuple):
    """A call that ran tests."""

    turn: int
    command: str
    exit_code: int | None
    telling: bool
    """Its exit code is that of the tests: nothing follows them in the command."""
    latest: bool
    """No file was written after it."""


class _Scene:
    """What happened, as far as claims are about it."""

    def __init__(self, events: Sequence[AnyEvent]) -> None:
        branches = of_kind(events, BranchTaken)
        self._branch = branches[-1] if branches else None
        self._checks = checks_of_last_commit(events)
        self._ran = [event for event in of_kind(events, ToolRan) if event.ran]
        self._tests = list(_test_runs(events))

    def look(self, about: About, file: str) -> Seen | None:
        """What is to be seen of such a claim, about that file if about one; None: it cannot be compared."""
        looks: dict[About, Callable[[], Seen | None]] = {
            "tests": self._whether_tests_pass,
            "testing": self._whether_tests_ran,
            "fix": self._whether_it_works,
            "commit": self._whether_committed,
            "file": lambda: self._whether_changed(file),
            "no_change": self._whether_unchanged,
        }
        return looks[about]()

    def _whether_tests_pass(self) -> Seen:
        judged = [check for check in self._checks if _TEST_COMMAND.search(check.command)]
        if judged:
            return _seen_in_checks(judged)
        if not self._tests:
            return self._no_test_seen()
        last = self._tests[-1]
        seen = f"turn {last.turn}: {shortened(last.command, 80)} → {_exit(last.exit_code)}"
        if last.exit_code not in (0, None) and last.telling and last.latest:
            return Seen(seen, False)
        if not last.latest:
            return Seen(f"{seen}, and files were changed after it", None)
        return Seen(seen, True if last.exit_code == 0 and last.telling else None)

    def _whether_tests_ran(self) -> Seen:
        if not self._tests:
            return self._no_test_seen()
        last = self._tests[-1]
        return Seen(f"turn {last.turn}: {shortened(last.command, 80)} → {_exit(last.exit_code)}", True)

    def _no_test_seen(self) -> Seen:
        """A command that we do not know to run tests may have run them; where no command ran, none did."""
        if any(event.name == "Bash" for event in self._ran):
            return Seen("no command that is known to run tests was seen", None)
        return Seen("no command was run", False)

    def _whether_it_works(self) -> Seen | None:
        if self._branch is None:
            return None
        if not self._branch.files:
            return Seen("nothing changed", False)
        return _seen_in_checks(self._checks) if self._checks else None

    def _whether_committed(self) -> Seen | None:
        branch = self._branch
        if branch is None:
            return None
        if branch.commit is None:
            return Seen("no commit came out", False)
        if branch.committed_by_runner and len(branch.commits) == 1:
            return Seen("the work was left uncommitted; the runner committed it", False)
        return Seen(f"{len(branch.commits)} commits came out" if len(branch.commits) > 1 else "a commit came out", True)

    def _whether_changed(self, name: str) -> Seen | None:
        branch = self._branch
        if branch is None or len(branch.paths) != branch.files:
            return None
        shown = shortened(name, 80)
        if any(_same_file(name, path) for path in branch.paths):
            return Seen(f"{shown} is in the diff", True)
        return None if name.startswith("/") else Seen(f"{shown} is not in the diff", False)

    def _whether_unchanged(self) -> Seen | None:
        if self._branch is None:
            return None
        files = self._branch.files
        return Seen(f"{files} file{'s' if files > 1 else ''} changed" if files else "nothing changed", not files)


def _seen_in_checks(checks: Sequence[CheckRan]) -> Seen:
    failed = [check for check in checks if not check_passed(check)]
    if not failed:
        return Seen("the check passed" if len(checks) == 1 else f"all {len(checks)} checks passed", True)
    first = failed[0]
    how = "tampered with" if first.tampered else "timed out" if first.timed_out else _exit(first.exit_code)
    return Seen(f"{len(failed)} of {len(checks)} checks failed; first {shortened(first.command, 80)!r}: {how}", False)


def _test_runs(events: Sequence[AnyEvent]) -> Iterator[_TestRun]:
    commands = {
        (event.turn, event.call.id): event.call.input.get("command")
        for event in of_kind(events, ToolDecided)
        if event.call.name == "Bash"
    }
    ran = [event for event in of_kind(events, ToolRan) if event.ran]
    last_change = max((n for n, event in enumerate(ran) if event.name in _CHANGING_TOOLS), default=-1)
    for n, event in enumerate(ran):
        command = commands.get((event.turn, event.tool_use_id))
        if not isinstance(command, str) or not (found := _TEST_COMMAND.search(command[:4_000])):
            continue
        rest = _REDIRECTION.sub("", command[found.end() :])
        code = event.details.get("exit_code")
        yield _TestRun(
            turn=event.turn,
            command=command,
            exit_code=code if isinstance(code, int) else None,
            telling=not re.search(r"[|;&\n]", rest.strip()),
            latest=n > last_change,
        )


def _exit(code: int | None) -> str:
    return "was killed" if code is None else f"exit {code}"


def _same_file(name: str, path: str) -> bool:
    """Whether a name in a sentence means a path of the diff: either may be the shorter."""
    name = name.removeprefix("./")
    return name == path or name.endswith(f"/{path}") or path.endswith(f"/{name}")
