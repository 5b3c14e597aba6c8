"""What the events of a job say about its calls, checks and controls."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from runner.messages import ToolUse
from runner.result.schema import Approval, Approvals, Containment, Denial, EgressUse, GateState
from runner.transcript import (
    AnyEvent,
    ApprovalAnswered,
    ApprovalAsked,
    BranchTaken,
    CheckRan,
    Contained,
    EgressTried,
    GateRan,
    ToolDecided,
    of_kind,
)


def checks_of_last_commit(events: Iterable[AnyEvent]) -> list[CheckRan]:
    """The last round of checks on what came out, unless another commit was taken since."""
    checks: list[CheckRan] = []
    for event in events:
        if isinstance(event, BranchTaken):
            checks = []
        elif isinstance(event, CheckRan) and event.on != "base":
            checks = [check for check in checks if check.round == event.round] + [event]
    return checks


def checks_on_base(events: Iterable[AnyEvent]) -> list[CheckRan]:
    """Those that say what was so before the agent's work; no part of the verdict on it."""
    return [check for check in of_kind(events, CheckRan) if check.on == "base"]


def check_passed(check: CheckRan) -> bool:
    return check.exit_code == 0 and not check.timed_out and not check.tampered


def denied_calls(events: Iterable[AnyEvent]) -> tuple[Denial, ...]:
    return tuple(
        Denial(
            turn=event.turn,
            tool=event.call.name,
            subject=subject_of(event.call),
            rule=event.rule,
            where=event.where,
            reason=event.reason,
            approval=event.approval,
        )
        for event in of_kind(events, ToolDecided)
        if not event.allowed
    )


def unjudged_calls(events: Iterable[AnyEvent]) -> tuple[str, ...]:
    """What ran although the policy could not read all of it, as rules would name it; each once."""
    passed = (event for event in of_kind(events, ToolDecided) if event.unjudged and event.allowed)
    return tuple(dict.fromkeys(subject for event in passed for subject in event.subjects))


def approvals(events: Sequence[AnyEvent]) -> Approvals:
    answered = {event.id: event for event in of_kind(events, ApprovalAnswered)}
    calls = Counter(event.approval for event in of_kind(events, ToolDecided) if event.allowed)
    questions = tuple(
        _approval(asked, answered.get(asked.id), calls[asked.id]) for asked in of_kind(events, ApprovalAsked)
    )
    given = Counter(question.allowed for question in questions)
    return Approvals(asked=len(questions), allowed=given[True], denied=given[False], questions=questions)


def _approval(asked: ApprovalAsked, answered: ApprovalAnswered | None, calls: int) -> Approval:
    return Approval(
        id=asked.id,
        turn=asked.turn,
        call=asked.call,
        rule=asked.rule,
        where=asked.where,
        why=asked.reason,
        allowed=answered.allowed if answered else None,
        scope=answered.scope if answered else None,
        by=answered.by if answered else "",
        reason=answered.reason if answered else "",
        seconds=answered.seconds if answered else 0.0,
        calls=calls,
    )


def egress_uses(events: Iterable[AnyEvent]) -> tuple[EgressUse, ...]:
    """Per phase, host and port, in the order in which they were first tried."""
    tries: dict[tuple[str, str, int], list[EgressTried]] = {}
    for event in of_kind(events, EgressTried):
        tries.setdefault((event.phase, event.host, event.port), []).append(event)
    return tuple(_use(same) for same in tries.values())


def _use(tries: Sequence[EgressTried]) -> EgressUse:
    """Of tries that share phase, host and port."""
    through, refused = [one for one in tries if one.allowed], [one for one in tries if not one.allowed]
    return EgressUse(
        phase=tries[0].phase,
        host=tries[0].host,
        port=tries[0].port,
        connections=len(through),
        refused=len(refused),
        bytes_sent=sum(one.bytes_sent for one in tries),
        bytes_received=sum(one.bytes_received for one in tries),
        rule=through[-1].rule if through else None,
        reason=refused[-1].reason if refused else "",
    )


def containment(events: Iterable[AnyEvent]) -> Containment | None:
    done = of_kind(events, Contained)
    return Containment.model_validate(done[-1].model_dump(include=set(Containment.model_fields))) if done else None


def gate(events: Iterable[AnyEvent]) -> GateState | None:
    """Its last word, unless nothing is left that it could be about."""
    last: GateRan | None = None
    for event in events:
        if isinstance(event, GateRan):
            last = event
        elif isinstance(event, BranchTaken) and event.commit is None:
            last = None
    return GateState(violations=last.violations) if last else None


SUBJECTS = ("command", "file_path", "path", "pattern", "url")
"""Arguments that say what a call is about, the most telling first."""
SUBJECT_CHARS = 300


def subject_of(call: ToolUse) -> str:
    """What a call is about, in one short line: its command, file or pattern, else all of its arguments."""
    named = next((call.input[name] for name in SUBJECTS if isinstance(call.input.get(name), str)), None)
    return shortened(named if named is not None else json.dumps(call.input, ensure_ascii=False), SUBJECT_CHARS)


def one_line(text: str) -> str:
    return " ".join(text.split())


def shortened(text: str, chars: int) -> str:
    line = one_line(text)
    return line if len(line) <= chars else f"{line[: chars - 1]}…"
