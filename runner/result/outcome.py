"""The outcome of a job, by evidence: never by what the agent says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from runner.errors import EXIT_CODES, Cancelled, ModelError, Outcome, RunnerError
from runner.result.evidence import check_passed, checks_of_last_commit, denied_calls, gate, one_line, shortened
from runner.transcript import AgentEnded, AnyEvent, BranchTaken, of_kind


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
    """How the job ended, by evidence. The first line that is true decides:

    1  we were told to stop                                              cancelled
    2  something that judges was interfered with (`tampered` names it)   tampered
    3  the gate refuses what came out                                    denied
    4  engine, repository, checks or configuration failed (`error`)      the error's outcome
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
    if tampered:
        return _verdict("tampered", f"interfered with: {_listed(tampered)}")
    if evidence.violations:
        return _verdict("denied", evidence.refused_by_gate())
    if error is not None and not isinstance(error, ModelError):
        return _verdict(error.outcome, str(error))
    if evidence.delivered and checks and evidence.passed == len(checks):
        return _verdict("solved", _passed(len(checks)) + evidence.stopped(error))
    if error is not None:
        return _verdict("provider_error", str(error))
    if evidence.end.startswith("limits."):
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
        self.ran = checks_of_last_commit(events)
        self.passed = sum(check_passed(check) for check in self.ran)

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
        failed = [check for check in self.ran if not check_passed(check)]
        if not failed:
            return _verdict("checks_error", f"{asked - len(self.ran)} of {asked} checks gave no verdict")
        first = failed[0]
        how = "timed out" if first.timed_out else "was killed" if first.exit_code is None else f"exit {first.exit_code}"
        return _verdict("unsolved", f"{len(failed)} of {asked} checks failed; first {one_line(first.command)!r}: {how}")

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
