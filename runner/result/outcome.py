"""The outcome of a job, by evidence: never by what the agent says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from runner.errors import EXIT_CODES, Cancelled, ModelError, Outcome, RunnerError
from runner.result.evidence import (
    check_passed,
    checks_of_last_commit,
    checks_on_base,
    denied_calls,
    gate,
    one_line,
    shortened,
)
from runner.transcript import AgentEnded, AnyEvent, BranchTaken, CheckRan, of_kind


class Verdict(NamedTuple):
    outcome: Outcome
    reason: str
    exit_code: int


def judge(
    events: Sequence[AnyEvent],
    *,
    checks: Sequence[str],
    expect_change: bool,
    tampered: Sequence[str] = (),
    error: RunnerError | Cancelled | None = None,
) -> Verdict:
    """How the job ended, by evidence. `checks`: all commands that must pass on the work, of every kind; `tampered`:
    protected paths that were changed. The first line that is true decides:

    1  we were told to stop                                              cancelled
    2  something that judges was interfered with                         tampered
    3  the gate refuses what came out                                    denied
    4  engine, repository, checks or configuration failed (`error`)      the error's outcome
       … or a check says on base what it must not                        checks_error
    5  the agent delivered, and every check passed on what came out      solved
    6  the model failed (`error`)                                        provider_error
    7  a limit ended the agent                                           limit
    8  a check failed on what came out                                   unsolved
    9  something changed, no check was asked                             changed
    10 nothing changed, and the agent refused or had no answer           no_change
    11 nothing changed, and no change was expected                       solved
    12 nothing changed, and calls were denied, by rules or by a person   denied
    13 nothing changed                                                   no_change

    Tampering and what the gate refuses come before errors, because an error invites another try. Passed checks come
    before what stopped the agent: a change that passes is what was asked for, however the agent came to its end; the
    reason says what stopped it. (The agent delivered: something changed, or nothing was expected to and it ended by
    itself.) A limit comes before failed checks, because more of what ran out is the next step. Only checks that ran on
    the last commit count.
    """
    evidence = _Evidence(events, checks, expect_change)
    if isinstance(error, Cancelled):
        return Verdict("cancelled", str(error), error.exit_code)
    if tampered or evidence.tampered:
        return _verdict("tampered", evidence.interference(tampered))
    if evidence.violations:
        return _verdict("denied", evidence.refused_by_gate())
    if error is not None and not isinstance(error, ModelError):
        return _verdict(error.outcome, str(error))
    if evidence.disproved:
        return _verdict("checks_error", evidence.proves_nothing())
    if evidence.delivered and checks and evidence.passed == len(checks):
        return _verdict("solved", _passed(len(checks)) + evidence.stopped(error))
    if error is not None:
        return _verdict("provider_error", str(error))
    if evidence.end.startswith(("limits.", "batch.")):
        return _verdict("limit", evidence.limit())
    if checks and evidence.delivered:
        return evidence.failed_checks(len(checks))
    return _verdict(*evidence.without_checks())


class _Evidence:
    """What the events say, in the terms of the table of `judge`."""

    def __init__(self, events: Sequence[AnyEvent], checks: Sequence[str], expect_change: bool) -> None:
        ends, branches = of_kind(events, AgentEnded), of_kind(events, BranchTaken)
        self.end = ends[-1].reason if ends else ""
        self.changed = bool(branches) and branches[-1].files > 0
        self.expect_change = expect_change
        self.delivered = self.changed or (not expect_change and self.end == "done")
        self.denials = denied_calls(events)
        judged = gate(events)
        self.violations = judged.violations if judged else ()
        ran = checks_of_last_commit(events)
        self.tampered = [check for check in ran if check.tampered]
        self.failed = [check for check in ran if not check_passed(check)]
        wrong = {(check.kind, check.command) for check in self.failed}
        self.ran = [check for check in ran if check.on == "work"]
        self.passed = sum((check.kind, check.command) not in wrong for check in self.ran)
        self.disproved = [check for check in checks_on_base(events) if _disproved(check)]

    def interference(self, paths: Sequence[str]) -> str:
        """What was interfered with, and how the first of the checks was found to be."""
        first = [f"{one_line(check.command)!r}: {shortened(check.tampered, 300)}" for check in self.tampered[:1]]
        return f"interfered with: {'; '.join([*([_listed(paths)] if paths else []), *first])}"

    def proves_nothing(self) -> str:
        first, more = self.disproved[0], len(self.disproved) - 1
        command = repr(one_line(first.command))
        others = f"; and {more} more check{'s' if more > 1 else ''} like it" if more else ""
        if first.kind == "fail_to_pass":
            return f"checks.fail_to_pass: {command} passes on base already, so that it proves nothing{others}"
        return f"checks.pass_to_pass: {command} fails on base already ({_ending(first)}){others}"

    def refused_by_gate(self) -> str:
        first, more = self.violations[0], len(self.violations) - 1
        by = _by(first.rule, first.where)
        others = f"; and {more} more violation{'s' if more > 1 else ''}" if more else ""
        return f"the gate refused the diff: {first.path}{': ' if first.path else ''}{first.reason}{by}{others}"

    def stopped(self, error: RunnerError | None) -> str:
        if error is not None:
            return f"; the model failed before the agent was done: {one_line(str(error))}"
        return "" if self.end in ("done", "") else f"; the agent ended with {self.end}"

    def limit(self) -> str:
        left = "what was done so far came out" if self.changed else "nothing changed"
        failed = len(self.ran) - self.passed
        checks = f"; {failed} check{'s' if failed > 1 else ''} failed" if failed else ""
        return f"{self.end} reached; {left}{checks}{self._denied_too()}"

    def failed_checks(self, asked: int) -> Verdict:
        if not self.failed:
            return _verdict("checks_error", f"{asked - len(self.ran)} of {asked} checks gave no verdict")
        first = self.failed[0]
        where = " with the work's own tests" if first.on == "as_left" else ""
        named = f"first {one_line(first.command)!r}{where}: {_ending(first)}"
        return _verdict("unsolved", f"{len(self.ran) - self.passed} of {asked} checks failed; {named}")

    def without_checks(self) -> tuple[Outcome, str]:
        """Lines 9 to 13 of the table."""
        if self.changed:
            return "changed", f"something changed; no checks were asked{self.stopped(None)}"
        if self.end in ("refusal", "no_answer"):
            said = "refused" if self.end == "refusal" else "gave no answer"
            return "no_change", f"nothing changed: the model {said}{self._denied_too()}"
        if not self.expect_change:
            return "solved", "no change was expected, none was made"
        if self.denials:
            return "denied", f"nothing changed{self._denied_too()}; first {self._first_denial()}"
        return "no_change", "nothing changed"

    def _denied_too(self) -> str:
        count = len(self.denials)
        return f"; {count} call{'s were' if count > 1 else ' was'} denied" if count else ""

    def _first_denial(self) -> str:
        """The first call that a person denied, or else the first that a rule did."""
        first = next((denial for denial in self.denials if denial.approval), self.denials[0])
        call = f"{first.tool}({shortened(first.subject, 80)})"
        if first.approval:
            return f"{call}: {shortened(first.reason, 300)}"
        return f"{call}{_by(first.rule, first.where)}"


def _disproved(check: CheckRan) -> bool:
    """Whether it says on base what it must not: then its word on the work means nothing."""
    return (check.kind == "fail_to_pass" and check_passed(check)) or (
        check.kind == "pass_to_pass" and not check_passed(check)
    )


def _ending(check: CheckRan) -> str:
    return "timed out" if check.timed_out else "was killed" if check.exit_code is None else f"exit {check.exit_code}"


def _verdict(outcome: Outcome, reason: str) -> Verdict:
    return Verdict(outcome, one_line(reason), EXIT_CODES[outcome])


def _passed(count: int) -> str:
    return "the check passed" if count == 1 else f"all {count} checks passed"


def _by(rule: str | None, where: str | None) -> str:
    """` by Edit(src/**) (policies/ci.yaml:4)`, as far as it is known."""
    return f"{f' by {rule}' if rule else ''}{f' ({where})' if where else ''}"


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
