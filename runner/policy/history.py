"""What past jobs did, as their transcripts tell it, and what a policy says of it now. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from runner.policy.decide import decide
from runner.policy.egress import Judgement, Phase, judge_address, judge_name, rules_for
from runner.policy.paths import REPO
from runner.policy.rules import canonical_tool
from runner.policy.schema import Policy
from runner.policy.verdicts import Call, Decision, Verdict
from runner.transcript import AnyEvent, EgressTried, ToolDecided, ToolRan

_SUBJECT = re.compile(r"([\w.*-]+)(?:\((.*)\))?", re.DOTALL)
_WILD = re.compile(r"[*?\[{]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """One tool call of a past job."""

    job: str
    turn: int
    calls: tuple[Call, ...]
    """What was judged."""
    verdict: Verdict
    """The policy's word of that time."""
    allowed: bool
    """After a person's answer, where one was asked."""
    failed: bool
    """It was run, and did not end well."""

    @property
    def text(self) -> str:
        return " ".join(f"{call.tool}({call.subject})" if call.subject else call.tool for call in self.calls[-1:])


@dataclass(frozen=True, kw_only=True, slots=True)
class PastConnection:
    """A connection that a past job tried to make."""

    job: str
    phase: Phase
    host: str
    port: int
    address: str | None
    allowed: bool


class History(NamedTuple):
    calls: tuple[Past, ...]
    connections: tuple[PastConnection, ...]


def history(job: str, events: Iterable[AnyEvent]) -> History:
    """The tool calls and connections of one job, in order. Calls whose subject cannot be told are left out."""
    calls: dict[str, Past] = {}
    connections: list[PastConnection] = []
    cwd = REPO
    for number, event in enumerate(events):
        match event:
            case ToolDecided():
                if judged := tuple(_judged(event, cwd)):
                    verdict = event.verdict or ("allow" if event.allowed else "deny")
                    # An id that a model gave twice must not hide the first call.
                    key = event.call.id if event.call.id not in calls else f"{event.call.id} {number}"
                    calls[key] = Past(
                        job=job, turn=event.turn, calls=judged, verdict=verdict, allowed=event.allowed, failed=False
                    )
            case ToolRan():
                if event.ran and event.is_error and (past := calls.get(event.tool_use_id)):
                    calls[event.tool_use_id] = _failed(past)
                if isinstance(found := event.details.get("cwd"), str):
                    cwd = found
            case EgressTried():
                connections.append(
                    PastConnection(
                        job=job,
                        phase=event.phase,
                        host=event.host,
                        port=event.port,
                        address=event.address,
                        allowed=event.allowed,
                    )
                )
            case _:
                pass
    return History(tuple(calls.values()), tuple(connections))


def _failed(past: Past) -> Past:
    return Past(job=past.job, turn=past.turn, calls=past.calls, verdict=past.verdict, allowed=past.allowed, failed=True)


def redecide(policy: Policy, past: Past) -> Decision:
    """What the policy says of the call: of all that it would do, the strictest word."""
    decisions = [decide(policy, call) for call in past.calls]
    verdicts = [decision.verdict for decision in decisions]
    return decisions[next((verdicts.index(word) for word in ("deny", "ask") if word in verdicts), -1)]


def rejudge(policy: Policy, past: PastConnection) -> Judgement:
    """What the policy says of the connection, by the name and, where it had come so far, by the address."""
    rules = rules_for(policy.egress, past.phase)
    judged = judge_name(rules, past.host, past.port)
    return judge_address(rules, past.address, past.port) if judged.allowed and past.address else judged


# --- what was judged


def _judged(event: ToolDecided, cwd: str) -> Iterator[Call]:
    if event.subjects:
        for text in event.subjects:
            if found := _SUBJECT.fullmatch(text):
                yield _call(found[1], found[2] or "", cwd, event)
        return
    # Transcripts of older versions have only what the model said.
    tool = canonical_tool(event.call.name)
    subject = _subject(tool, event.call.input) if tool else None
    if tool and subject is not None:
        yield _call(tool, subject, cwd, event)


def _call(tool: str, subject: str, cwd: str, event: ToolDecided) -> Call:
    given = event.call.input.items() if tool == "Agent" else ()
    parameters = {str(name): value for name, value in given if isinstance(value, str)}
    return Call(tool=tool, subject=subject, cwd=cwd, parameters=parameters)


def _subject(tool: str, given: dict[str, object]) -> str | None:
    """None when the model left out what the tool works on."""
    match tool:
        case "Bash":
            found = given.get("command")
        case "Read" | "Write" | "Edit":
            found = _absolute(given.get("file_path"))
        case "Grep":
            found = _absolute(given.get("path", REPO))
        case "Glob":
            found = _searched(given.get("pattern"), given.get("path", REPO))
        case "WebFetch":
            found = given.get("url")
        case _:
            found = ""
    return found if isinstance(found, str) else None


def _absolute(path: object) -> str | None:
    return posixpath.normpath(posixpath.join(REPO, path)) if isinstance(path, str) else None


def _searched(pattern: object, path: object) -> str | None:
    """The folder that a search starts in: an absolute pattern names it itself."""
    if not isinstance(pattern, str) or not pattern.startswith("/"):
        return _absolute(path)
    wild = _WILD.search(pattern)
    return _absolute(pattern[: pattern.rfind("/", 0, wild.start() if wild else None)] or "/")
