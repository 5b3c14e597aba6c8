"""The events of a job as what a reader follows: prompts, turns with their calls, and what happened between them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from runner.messages import Opaque, Text, ToolUse
from runner.report.units import plural
from runner.report.visible import exact
from runner.result import subject_of
from runner.transcript import (
    AgentEnded,
    AgentPrompted,
    AnyEvent,
    BranchDelivered,
    BranchTaken,
    CheckRan,
    Contained,
    Diverged,
    EgressTried,
    GateRan,
    ModelFailed,
    ModelReplied,
    ModelRetried,
    Resumed,
    SandboxOpened,
    SetupRan,
    SnapshotUsed,
    ToolDecided,
    ToolRan,
)

BUDGET_CHARS = 4_000_000
"""Characters of prompts, replies, arguments and answers in one report."""
CAPS = (24_000, 8_000, 3_000, 1_000, 300, 80)
"""Characters of one text: the most generous that keeps the whole within BUDGET_CHARS."""
FIRST_ITEMS, LAST_ITEMS = 400, 800
"""Of a longer conversation the beginning and the end are shown."""
MOST_CALLS = 60
"""Calls shown of one reply."""

State = Literal["ok", "error", "denied", "invalid", "lost"]


class Clip(NamedTuple):
    """Head and tail of a text; `left_out` characters between them are not shown."""

    head: str
    tail: str = ""
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Argument:
    name: str
    value: Clip
    short: bool
    """Fits beside its name."""


@dataclass(frozen=True, kw_only=True)
class CallView:
    name: str
    subject: str
    arguments: list[Argument]
    decision: ToolDecided | None
    answer: Clip | None
    state: State
    seconds: float | None
    facts: list[str]
    """exit 1, timed out, output cut …"""
    log: str | None


@dataclass(frozen=True, kw_only=True)
class Item:
    """One entry of the conversation; `kind` picks the template's macro."""

    kind: Literal["prompt", "turn", "note", "output", "gap"]
    title: str = ""
    at: str = ""
    """Time of the event."""
    bad: bool = False
    text: Clip | None = None
    system: Clip | None = None
    tools: tuple[str, ...] = ()
    event: ModelReplied | None = None
    thoughts: list[Clip] = field(default_factory=list)
    texts: list[Clip] = field(default_factory=list)
    calls: list[CallView] = field(default_factory=list)
    calls_left_out: int = 0
    seconds: float | None = None
    log: str | None = None


def conversation(events: Sequence[AnyEvent]) -> tuple[list[Item], int]:
    """The items to show, and the characters that one text may have."""
    cap = _cap(events)
    calls = _Calls(events)
    shown = [event for event in events if type(event) in _VIEWS and not _let_through(event)]
    left_out = max(0, len(shown) - FIRST_ITEMS - LAST_ITEMS)
    cut = FIRST_ITEMS if left_out else len(shown)
    first, last = (
        [_VIEWS[type(event)](event, calls, cap) for event in part] for part in (shown[:cut], shown[cut + left_out :])
    )
    gap = [Item(kind="gap", title=f"{left_out:,} entries are left out here")] if left_out else []
    return [*first, *gap, *last], cap


def _let_through(event: AnyEvent) -> bool:
    """A connection that nobody need hear of."""
    return isinstance(event, EgressTried) and event.allowed


def clip(text: str, cap: int) -> Clip:
    if len(text) <= cap:
        return Clip(text)
    head = cap * 2 // 3
    return Clip(text[:head], text[head - cap :], len(text) - cap)


def _cap(events: Sequence[AnyEvent]) -> int:
    lengths = [length for event in events for length in _lengths(event)]
    fitting = (cap for cap in CAPS if sum(min(length, cap) for length in lengths) <= BUDGET_CHARS)
    return next(fitting, CAPS[-1])


def _lengths(event: AnyEvent) -> Iterator[int]:
    """Lengths of the long texts that an event brings into the report."""
    match event:
        case ToolRan(content=text) | CheckRan(output=text) | SetupRan(output=text):
            yield len(text)
        case AgentPrompted():
            yield len(event.text) + len(event.system or "")
        case ModelReplied():
            for block in event.reply.content:
                yield from _block_lengths(block)


def _block_lengths(block: object) -> Iterator[int]:
    match block:
        case Text(text=text):
            yield len(text)
        case ToolUse(input=arguments):
            yield from (len(_shown(value)) for value in arguments.values())
        case Opaque():
            yield len(_thought(block))


class _Calls:
    """Decisions and answers, found by turn and id of the call."""

    def __init__(self, events: Sequence[AnyEvent]) -> None:
        self._decided = {(event.turn, event.call.id): event for event in events if isinstance(event, ToolDecided)}
        self._ran = {(event.turn, event.tool_use_id): event for event in events if isinstance(event, ToolRan)}

    def view(self, turn: int, call: ToolUse, cap: int) -> CallView:
        decision, ran = self._decided.get((turn, call.id)), self._ran.get((turn, call.id))
        return CallView(
            name=call.name,
            subject=exact(subject_of(call)),
            arguments=[_argument(name, value, cap) for name, value in call.input.items()],
            decision=decision,
            answer=clip(ran.content, cap) if ran else None,
            state=_state(call, decision, ran),
            seconds=ran.seconds if ran and ran.ran else None,
            facts=_facts(ran.details if ran else {}),
            log=_log(ran.details if ran else {}),
        )


def _argument(name: str, value: Any, cap: int) -> Argument:
    text = exact(_shown(value))
    return Argument(name=name, value=clip(text, cap), short=len(text) <= 80 and "\n" not in text)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _state(call: ToolUse, decision: ToolDecided | None, ran: ToolRan | None) -> State:
    if decision is not None and not decision.allowed:
        return "denied"
    if ran is None:
        return "lost"
    if call.invalid is not None or not ran.ran:
        return "invalid"
    return "error" if ran.is_error or ran.details.get("exit_code") not in (0, None) else "ok"


def _facts(details: Mapping[str, Any]) -> list[str]:
    """What a reader wants to know of a call's end besides its answer."""
    facts = []
    if details.get("exit_code") is not None:
        facts.append(f"exit {details['exit_code']}")
    if details.get("signal") is not None:
        facts.append(f"signal {details['signal']}")
    words = {"timed_out": "timed out", "oom_killed": "out of memory", "truncated": "output cut"}
    return facts + [word for name, word in words.items() if details.get(name)]


def _log(details: Mapping[str, Any]) -> str | None:
    log = details.get("log")
    return log if isinstance(log, str) else None


def _prompt(event: AgentPrompted, calls: _Calls, cap: int) -> Item:
    system = clip(event.system, cap) if event.system else None
    return Item(kind="prompt", at=event.time, text=clip(event.text, cap), system=system, tools=event.tools)


def _turn(event: ModelReplied, calls: _Calls, cap: int) -> Item:
    uses = event.reply.tool_uses
    return Item(
        kind="turn",
        at=event.time,
        event=event,
        texts=[clip(block.text, cap) for block in event.reply.content if isinstance(block, Text) and block.text],
        thoughts=[clip(_thought(block), cap) for block in event.reply.content if isinstance(block, Opaque)],
        calls=[calls.view(event.turn, use, cap) for use in uses[:MOST_CALLS]],
        calls_left_out=max(0, len(uses) - MOST_CALLS),
    )


def _thought(block: Opaque) -> str:
    text = block.block.get("thinking")
    return text if isinstance(text, str) else json.dumps(block.block, ensure_ascii=False, indent=1)


def _retried(event: ModelRetried, calls: _Calls, cap: int) -> Item:
    retried = event.retried
    status = f" (HTTP {retried.status})" if retried.status else ""
    title = f"Try {retried.attempt} failed{status}, waited {retried.wait_seconds:.1f} s"
    return Item(kind="note", at=event.time, title=title, text=clip(retried.cause, cap), bad=True)


def _failed(event: ModelFailed, calls: _Calls, cap: int) -> Item:
    return Item(kind="note", at=event.time, title="The model failed", text=clip(event.error, cap), bad=True)


def _opened(event: SandboxOpened, calls: _Calls, cap: int) -> Item:
    whose = "the agent" if event.purpose == "agent" else "the checks"
    return Item(kind="note", at=event.time, title=f"Sandbox for {whose} opened")


def _setup(event: SetupRan, calls: _Calls, cap: int) -> Item:
    return Item(
        kind="output",
        at=event.time,
        title=f"Setup: {event.command} → {_ending(event.exit_code, timed_out=False)}",
        text=clip(event.output, cap),
        seconds=event.seconds,
        bad=event.exit_code != 0,
    )


def _checked(event: CheckRan, calls: _Calls, cap: int) -> Item:
    again = f" (round {event.round + 1})" if event.round else ""
    where = {"base": " on base", "work": "", "as_left": " as it was left"}[event.on]
    tampered = f"; tampered: {event.tampered}" if event.tampered else ""
    ending = _ending(event.exit_code, timed_out=event.timed_out)
    return Item(
        kind="output",
        at=event.time,
        title=f"Check{again}{where}: {event.command} → {ending}{tampered}",
        text=clip(event.output, cap),
        seconds=event.seconds,
        bad=event.on != "base" and (event.timed_out or event.exit_code != 0 or bool(event.tampered)),
        log=event.log,
    )


def _ending(exit_code: int | None, *, timed_out: bool) -> str:
    if timed_out:
        return "timed out"
    return "killed" if exit_code is None else "passed" if exit_code == 0 else f"exit {exit_code}"


def _resumed(event: Resumed, calls: _Calls, cap: int) -> Item:
    played = f"{event.replies:,} repl{'y is' if event.replies == 1 else 'ies are'} played"
    return Item(kind="note", at=event.time, title=f"Attempt {event.attempt} goes on: {played}, not paid again")


def _diverged(event: Diverged, calls: _Calls, cap: int) -> Item:
    title = f"Turn {event.turn} differs from what was recorded"
    return Item(kind="note", at=event.time, title=title, text=clip(event.what, cap), bad=True)


def _snapshot(event: SnapshotUsed, calls: _Calls, cap: int) -> Item:
    how = "were made into a snapshot" if event.made else "came from a snapshot"
    return Item(kind="note", at=event.time, title=f"Repository and setup {how}")


def _agent_ended(event: AgentEnded, calls: _Calls, cap: int) -> Item:
    return Item(kind="note", at=event.time, title=f"The agent ended: {event.reason}", bad=event.reason != "done")


def _taken(event: BranchTaken, calls: _Calls, cap: int) -> Item:
    if event.commit is None:
        return Item(kind="note", at=event.time, title="Nothing differs from the base", text=_notes(event, cap))
    by = ", the last by the runner" if event.committed_by_runner else ""
    what = f"{plural(len(event.commits), 'commit')} taken{by}: +{event.insertions:,} −{event.deletions:,}"
    title = f"{what} in {plural(event.files, 'file')}"
    return Item(kind="note", at=event.time, title=title, text=_notes(event, cap))


def _notes(event: BranchTaken, cap: int) -> Clip | None:
    return clip("; ".join(event.notes), cap) if event.notes else None


def _contained(event: Contained, calls: _Calls, cap: int) -> Item:
    how = "Landlock holds the path rules" if event.landlock else "No Landlock here: commands are not held to path rules"
    left = plural(len(event.uncontained), "rule")
    title = f"{how}; {left} decided but not contained" if event.uncontained else how
    return Item(kind="note", at=event.time, title=title, bad=not event.landlock)


def _refused(event: EgressTried, calls: _Calls, cap: int) -> Item:
    title = f"Connection to {event.host}:{event.port} refused"
    return Item(kind="note", at=event.time, title=title, text=clip(event.reason, cap), bad=True)


def _judged(event: GateRan, calls: _Calls, cap: int) -> Item:
    if not event.violations:
        return Item(kind="note", at=event.time, title="The gate let the diff pass")
    title = f"The gate refused the diff: {plural(len(event.violations), 'violation')}"
    return Item(kind="note", at=event.time, title=title, bad=True)


def _delivered(event: BranchDelivered, calls: _Calls, cap: int) -> Item:
    inside = f" in {event.bundle}" if event.bundle else ""
    return Item(kind="note", at=event.time, title=f"Delivered as branch {event.branch}{inside}")


_VIEWS: dict[type, Any] = {
    AgentPrompted: _prompt,
    ModelReplied: _turn,
    ModelRetried: _retried,
    ModelFailed: _failed,
    SandboxOpened: _opened,
    SetupRan: _setup,
    CheckRan: _checked,
    AgentEnded: _agent_ended,
    BranchTaken: _taken,
    BranchDelivered: _delivered,
    Contained: _contained,
    EgressTried: _refused,
    GateRan: _judged,
    Resumed: _resumed,
    Diverged: _diverged,
    SnapshotUsed: _snapshot,
}
