"""What the events of a job say about its calls and checks."""

from __future__ import annotations

import json
from collections.abc import Iterable

from runner.messages import ToolUse
from runner.result.schema import Denial
from runner.transcript import AnyEvent, BranchTaken, CheckRan, ToolDecided, of_kind


def checks_of_last_commit(events: Iterable[AnyEvent]) -> list[CheckRan]:
    """The last round of checks, unless another commit was taken since."""
    checks: list[CheckRan] = []
    for event in events:
        if isinstance(event, BranchTaken):
            checks = []
        elif isinstance(event, CheckRan):
            checks = [check for check in checks if check.round == event.round] + [event]
    return checks


def check_passed(check: CheckRan) -> bool:
    return check.exit_code == 0 and not check.timed_out


def denied_calls(events: Iterable[AnyEvent]) -> tuple[Denial, ...]:
    return tuple(
        Denial(
            turn=event.turn,
            tool=event.call.name,
            subject=subject_of(event.call),
            rule=event.rule,
            where=event.where,
            reason=event.reason,
        )
        for event in of_kind(events, ToolDecided)
        if not event.allowed
    )


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
