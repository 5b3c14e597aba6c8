"""The tool calls of a reply: understood, judged by the policy, run, answered, and all of it recorded."""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from runner.agents.base import Context
from runner.messages import ToolResult, ToolSpec, ToolUse
from runner.policy import Call, Decision, can_ever_allow, decide
from runner.tools import TOOLS
from runner.tools.arguments import InvalidInput, parse, spec
from runner.tools.base import Answer, Session, Tool, failure, os_failure
from runner.transcript import ToolDecided, ToolRan

REPEATED_FAILURES = 5
"""Identical failing calls in a row, after which the model is warned."""


class _Understood(NamedTuple):
    """A valid call, and what it would do."""

    tool: Tool
    calls: tuple[Call, ...]


class Calls:
    """Answers the tool calls of one job."""

    def __init__(self, context: Context) -> None:
        self.session = Session(sandbox=context.sandbox, permits=lambda call: decide(context.policy, call).allowed)
        self.tools: tuple[ToolSpec, ...] = tuple(
            spec(tool) for name, tool in TOOLS.items() if can_ever_allow(context.policy, name)
        )
        """What the model is offered: what the policy could never allow is left out."""
        self._failing = ("", 0)
        """The last call that failed, and how often in a row."""

    def answer(self, context: Context, use: ToolUse, *, turn: int, cut: bool) -> ToolResult:
        """What to tell the model. `cut`: the reply ended at max_tokens. Raises SandboxError."""
        self.session.calls += 1
        self.session.seconds_left = context.deadline - time.monotonic()
        started = time.monotonic()
        call = self._understand(use, cut)
        if isinstance(call, _Understood):
            call = _judge(context, use, call, turn)
        answer = _run(self.session, call) if isinstance(call, _Understood) else call
        content = _encodable(answer.content + self._warning(use, answer))
        context.record(
            ToolRan(
                turn=turn,
                tool_use_id=use.id,
                name=use.name,
                ran=isinstance(call, _Understood),
                content=content,
                is_error=answer.is_error,
                seconds=time.monotonic() - started,
                details={k: _encodable(v) if isinstance(v, str) else v for k, v in answer.details.items()},
            )
        )
        return ToolResult(tool_use_id=use.id, content=content, is_error=answer.is_error)

    def _understand(self, use: ToolUse, cut: bool) -> _Understood | Answer:
        """The call that the model means, or why there is none."""
        if use.invalid is not None:
            hint = " Your reply was cut at max_tokens: do it in smaller steps." if cut else ""
            return failure(f"{use.name} was not run, its input is not valid JSON: {use.invalid}.{hint}")
        if use.name not in TOOLS:
            return failure(f"There is no tool {use.name!r}; the tools are {', '.join(t.name for t in self.tools)}.")
        if self.session.seconds_left <= 0:
            return failure(f"{use.name} was not run: the job's time is over.")
        try:
            tool = parse(TOOLS[use.name], use.input)
            return _Understood(tool, tool.calls(self.session))
        except InvalidInput as error:
            return failure(str(error))
        except OSError as error:
            return os_failure(use.name, error)

    def _warning(self, use: ToolUse, answer: Answer) -> str:
        """A word to a model that runs its head against a wall; empty otherwise."""
        key, (last, times) = json.dumps([use.name, use.input], sort_keys=True), self._failing
        self._failing = (key, times + 1 if key == last else 1) if answer.is_error else ("", 0)
        times = self._failing[1]
        if not times or times % REPEATED_FAILURES:
            return ""
        return (
            f"\n(This very call has failed {times} times in a row. It will not work by repeating it: "
            "find out why, or try another way.)"
        )


def _judge(context: Context, use: ToolUse, call: _Understood, turn: int) -> _Understood | Answer:
    """The call if the policy allows all that it would do, else the denial; recorded either way."""
    decision = _decide(context, call.calls)
    context.record(
        ToolDecided(
            turn=turn,
            call=use,
            allowed=decision.allowed,
            rule=decision.rule,
            where=decision.where,
            reason=decision.reason,
        )
    )
    if decision.allowed:
        return call
    rule = f" by rule {decision.rule} ({decision.where})" if decision.rule else ""
    return failure(f"Denied{rule}: {decision.reason}")


def _decide(context: Context, calls: tuple[Call, ...]) -> Decision:
    """The first denial, else the last permission."""
    decisions = [decide(context.policy, call) for call in calls]
    return next((decision for decision in decisions if not decision.allowed), decisions[-1])


def _run(session: Session, call: _Understood) -> Answer:
    try:
        return call.tool.run(session, call.calls)
    except OSError as error:
        return os_failure(type(call.tool).__name__, error)


def _encodable(text: str) -> str:
    """Text that can go over the wire: file names may hold bytes that are no characters."""
    return text.encode("utf-8", "replace").decode()
