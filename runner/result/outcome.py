"""The outcome of a job, by evidence: never by what the agent says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from runner.errors import EXIT_CODES, Cancelled, ModelError, Outcome, RunnerError
from runner.result.evidence import check_passed, checks_of_last_commit, denied_calls, one_line, shortened
from runner.result.schema import Denial
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
    3  engine, repository, checks or configuration failed (`error`)      the error's outcome
    4  the agent delivered, and every check passed on what came out      solved
    5  the model failed (`error`)                                        provider_error
    6  a limit ended the agent                                           limit
    7  a check failed on what came out                                   unsolved
    8  something changed, no check was asked                             changed
    9  nothing changed, and the agent refused or had no answer           no_change
    10 nothing changed, and no change was expected                       solved
    11 nothing changed, and calls were denied                            denied
    12 nothing changed                                                   no_change

    Tampering comes before errors, because it can cause them and an error invites another try. Passed checks come
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
        self.ran = checks_of_last_commit(events)
        self.passed = sum(check_passed(check) for check in self.ran)

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
        """Lines 8 to 12 of the table."""
        if self.changed:
            return "changed", f"something changed; no checks were asked{self.stopped(None)}"
        if self.end in ("refusal", "no_answer"):
            said = "refused" if self.end == "refusal" else "gave no answer"
            return "no_change", f"nothing changed: the model {said}{self._denied_too()}"
        if not self.expect_change:
            return "solved", "no change was expected, none was made"
        if self.denials:
            return "denied", f"nothing changed{self._denied_too()}; first {_first(self.denials[0])}"
        return "no_change", "nothing changed"

    def _denied_too(self) -> str:
        count = len(self.denials)
        return f"; {count} call{'s were' if count > 1 else ' was'} denied" if count else ""


def _verdict(outcome: Outcome, reason: str) -> Verdict:
    return Verdict(outcome, one_line(reason), EXIT_CODES[outcome])


def _passed(count: int) -> str:
    return "the check passed" if count == 1 else f"all {count} checks passed"


def _first(denial: Denial) -> str:
    by = f" by {denial.rule}" if denial.rule else ""
    where = f" ({denial.where})" if denial.where else ""
    return f"{denial.tool}({shortened(denial.subject, 80)}){by}{where}"


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
