"""The tool calls of a reply: understood, judged by the policy, run, answered, and all of it recorded."""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from runner.agents.base import Context, masked
from runner.agents.judge import Judge
from runner.messages import ToolResult, ToolSpec, ToolUse
from runner.policy import Call, can_ever_allow, decide
from runner.tools import TOOLS
from runner.tools.arguments import InvalidInput, parse, spec
from runner.tools.base import Answer, Session, Tool, failure, os_failure
from runner.transcript import ToolRan

REPEATED_FAILURES = 5
"""Identical failing calls in a row, after which the model is warned."""
MOST_NOTICES = 10
"""Told in one answer."""


class _Understood(NamedTuple):
    """A valid call, and what it would do."""

    tool: Tool
    calls: tuple[Call, ...]


class Calls:
    """Answers the tool calls of one job."""

    def __init__(self, context: Context) -> None:
        self.session = Session(
            sandbox=context.sandbox,
            permits=lambda call: decide(context.policy, call).allowed,
            fetch=context.fetch,
            confinement=context.confinement,
        )
        self.tools: tuple[ToolSpec, ...] = tuple(
            spec(tool) for name, tool in TOOLS.items() if can_ever_allow(context.policy, name)
        )
        """What the model is offered: what the policy could never allow is left out."""
        self._judge = Judge()
        self._failing = ("", 0)
        """The last call that failed, and how often in a row."""

    def answer(self, context: Context, use: ToolUse, *, turn: int, cut: bool) -> ToolResult:
        """What to tell the model. `cut`: the reply ended at max_tokens. Raises SandboxError."""
        self.session.calls += 1
        self.session.seconds_left = context.clock.seconds_left
        call = self._understand(use, cut)
        if isinstance(call, _Understood):
            call = self._judged(context, use, call, turn)
        started = time.monotonic()
        answer = _run(self.session, call) if isinstance(call, _Understood) else call
        seconds = time.monotonic() - started
        content = _encodable(context.mask(answer.content + self._warning(use, answer) + _notices(context)))
        context.record(
            ToolRan(
                turn=turn,
                tool_use_id=use.id,
                name=use.name,
                ran=isinstance(call, _Understood),
                content=content,
                is_error=answer.is_error,
                seconds=seconds,
                details=masked(answer.details, lambda text: _encodable(context.mask(text))),
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
            return _too_late(use)
        try:
            tool = parse(TOOLS[use.name], use.input)
            return _Understood(tool, tool.calls(self.session))
        except InvalidInput as error:
            return failure(str(error))
        except OSError as error:
            return os_failure(use.name, error)

    def _judged(self, context: Context, use: ToolUse, call: _Understood, turn: int) -> _Understood | Answer:
        """The call if it is allowed, else the denial."""
        if refusal := self._judge.refusal(context, use, call.calls, turn):
            return failure(refusal)
        # A person may have taken their time, and the clock need not have stopped.
        self.session.seconds_left = context.clock.seconds_left
        return call if self.session.seconds_left > 0 else _too_late(use)

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


def _too_late(use: ToolUse) -> Answer:
    return failure(f"{use.name} was not run: the job's time is over.")


def _run(session: Session, call: _Understood) -> Answer:
    try:
        return call.tool.run(session, call.calls)
    except OSError as error:
        return os_failure(type(call.tool).__name__, error)


def _notices(context: Context) -> str:
    """What the model would not understand the answer without, such as a connection that was refused."""
    notices = context.notices()
    more = (f"and {len(notices) - MOST_NOTICES} more",) if len(notices) > MOST_NOTICES else ()
    return "".join(f"\n({notice})" for notice in (*notices[:MOST_NOTICES], *more))


def _encodable(text: str) -> str:
    """Text that can go over the wire: file names may hold bytes that are no characters."""
    return text.encode("utf-8", "replace").decode()
