"""May a tool call be run? The policy's word, and a person's where one is needed; recorded either way."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from runner.agents.base import Approve, Context, masked
from runner.approvals.asked import ask
from runner.approvals.base import NOBODY, TIMEOUT, Answer, Ask
from runner.masking import valid_text
from runner.messages import ToolUse
from runner.policy import Call, Decision, Policy, Rule, Verdict, decide, parse_rule
from runner.transcript import ApprovalAsked, ToolDecided, of_kind

EXEC = frozenset(("Bash",))
WRITES = frozenset(("Write", "Edit", *EXEC))
"""A command can write whatever commands may write to."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a tool call would do, and what the policy says to each part of it."""

    calls: tuple[Call, ...]
    decisions: tuple[Decision, ...]

    @property
    def decisive(self) -> tuple[Call, Decision]:
        """The part that decides: the first that is denied, else the first that is asked about, else the last."""
        verdicts = [decision.verdict for decision in self.decisions]
        index = next((verdicts.index(word) for word in ("deny", "ask") if word in verdicts), -1)
        return self.calls[index], self.decisions[index]

    @property
    def verdict(self) -> Verdict:
        return self.decisive[1].verdict


class _Settled(NamedTuple):
    allowed: bool
    reason: str
    """For the transcript."""
    told: str = ""
    """What the model hears of a denial."""
    approval: str | None = None


@dataclass(frozen=True, slots=True)
class _Granted:
    """A person's yes that holds until the job ends."""

    id: str
    by: str
    calls: tuple[Call, ...]
    rule: Rule | None
    """What was suggested: it holds for all that this rule allows."""

    def covers(self, policy: Policy, judged: _Judged) -> bool:
        if judged.calls == self.calls:
            return True
        if self.rule is None or judged.verdict != "ask":
            return False
        # A rule that asks beats it, and so does the mode for what else is in the command.
        extended = policy.model_copy(update={"allow": (*policy.allow, self.rule)})
        return all(decide(extended, call).allowed for call in judged.calls)


class Judge:
    """Judges the tool calls of one job."""

    def __init__(self) -> None:
        self._asked = 0
        self._granted: list[_Granted] = []

    def refusal(self, context: Context, use: ToolUse, calls: tuple[Call, ...], turn: int) -> str | None:
        """What to tell the model instead of running the call; None when it is allowed."""
        judged = _Judged(calls, tuple(decide(context.policy, call) for call in calls))
        _, decision = judged.decisive
        settled = self._settle(context, use, judged, turn)
        context.record(
            ToolDecided(
                turn=turn,
                call=use,
                allowed=settled.allowed,
                verdict=decision.verdict,
                approval=settled.approval,
                unjudged=decision.unjudged,
                subjects=tuple(map(_named, calls)),
                rule=decision.rule,
                where=decision.where,
                reason=settled.reason,
            )
        )
        return None if settled.allowed else settled.told

    def _settle(self, context: Context, use: ToolUse, judged: _Judged, turn: int) -> _Settled:
        _, decision = judged.decisive
        if decision.verdict == "deny" or (decision.allowed and not _asked_all_the_same(context.approve, use.name)):
            return _by_policy(decision)
        why = decision.reason if decision.verdict == "ask" else f"--approve {context.approve} asks about it"
        if granted := next((granted for granted in self._granted if granted.covers(context.policy, judged)), None):
            return _Settled(True, f"{why}; {granted.by} allowed it for this job", approval=granted.id)
        question = _question(context, use, judged, why, self._next_id(context))
        with context.clock.stopped() if context.policy.approval_pauses_clock else nullcontext():
            answer = ask(context.approver, question, turn=turn, record=context.record)
        if answer.allowed and answer.scope == "job":
            rule = parse_rule(question.suggestion) if question.suggestion else None
            self._granted.append(_Granted(question.id, answer.by, judged.calls, rule))
        return _Settled(answer.allowed, f"{why}; {_how(answer)}", told=_told(answer), approval=question.id)

    def _next_id(self, context: Context) -> str:
        # Others ask too: the gate, between rounds of repair.
        self._asked = max(self._asked, len(of_kind(context.events, ApprovalAsked))) + 1
        return f"{context.job}/{self._asked}".lstrip("/")


def _asked_all_the_same(approve: Approve, tool: str) -> bool:
    """Whether a person is asked about a call that the policy allows."""
    match approve:
        case "every":
            return True
        case "writes":
            return tool in WRITES
        case "exec":
            return tool in EXEC
        case "none":
            return False


def _question(context: Context, use: ToolUse, judged: _Judged, why: str, id: str) -> Ask:
    policy, (call, decision) = context.policy, judged.decisive
    asks = decision.verdict == "ask"
    left = policy.approval_timeout if policy.approval_pauses_clock else context.clock.seconds_left
    return Ask(
        id=id,
        call=context.mask(_named(call)),
        reason=context.mask(why),
        rule=decision.rule if asks else None,
        where=decision.where if asks else None,
        suggestion=_without_secrets(context, decision.suggestion) if asks else None,
        input=json.dumps(masked(use.input, context.mask), ensure_ascii=False),
        seconds=min(policy.approval_timeout, left),
    )


def _without_secrets(context: Context, suggestion: str | None) -> str | None:
    """None for a rule that holds a secret: masked it would be another rule."""
    return suggestion if suggestion and context.mask(suggestion) == suggestion else None


def _named(call: Call) -> str:
    """A call as rules would name it. Names of files may hold bytes that are no characters."""
    return valid_text(f"{call.tool}({call.subject})" if call.subject else call.tool)


# -- words


def _by_policy(decision: Decision) -> _Settled:
    rule = f" by rule {decision.rule} ({decision.where})" if decision.rule else ""
    return _Settled(decision.allowed, decision.reason, told=f"Denied{rule}: {decision.reason}")


def _how(answer: Answer) -> str:
    if answer.by in (TIMEOUT, NOBODY):
        return answer.reason
    if answer.allowed:
        return f"{answer.by} allowed it {'once' if answer.scope == 'once' else 'for this job'}"
    return f"{answer.by} denied it{f': {answer.reason}' if answer.reason else ''}"


def _told(answer: Answer) -> str:
    if answer.by in (TIMEOUT, NOBODY):
        return f"Denied: a person has to allow this, and {answer.reason}."
    return f"Denied by a person: {answer.reason}" if answer.reason else "Denied by a person."
