"""The built-in agent: a conversation with a model whose tool calls are judged, run and answered, until it is done."""

from __future__ import annotations

import time
from collections.abc import Sequence

from runner.agents.base import AgentEnd, Context, EndReason
from runner.agents.calls import Calls
from runner.agents.conversation import Conversation
from runner.agents.limits import LimitName, Spent, nearly_reached, overshot_by, room
from runner.agents.prompt import system_prompt
from runner.errors import Cancelled
from runner.ledger import CapName
from runner.messages import Reply, Request, Retried, Usage
from runner.models.base import NoReply, OverBudget, request_hash
from runner.models.metered import worst_usage
from runner.transcript import AgentEnded, AgentPrompted, ModelFailed, ModelReplied, ModelRetried

MAX_CUT_REPLIES = 3
"""Replies without a tool call that may be cut at max_tokens, or paused, in a row."""
MAX_EMPTY_REPLIES = 1
NOTHING = Usage()

_GO_ON = "Your reply was cut off. Go on where it ended; write long files in several calls."
_NUDGE = "Your reply was empty. Go on with the task; when it is done, say in a few words what you did."


class Loop:
    """One Loop serves one job: `run` once, then `resume` for each repair round. Limits count over all of them."""

    def __init__(self) -> None:
        self._work: _Work | None = None

    def run(self, context: Context) -> AgentEnd:
        assert self._work is None, "BUG: a Loop serves one job"
        self._work = _Work(context)
        return self._work.go_on(context.prompt)

    def resume(self, context: Context, feedback: str) -> AgentEnd:
        assert self._work is not None, "BUG: resume before run"
        self._work.context = context
        return self._work.go_on(feedback)


class _NoMoreTries(Exception):
    def __init__(self, limit: LimitName) -> None:
        self.limit = limit


class _Work:
    """What lives from turn to turn, and the turn."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._calls = Calls(context)
        self._conversation = Conversation(
            context.mask(
                system_prompt(
                    session=self._calls.session, policy=context.policy, limits=context.limits, tools=self._calls.tools
                )
            ),
            self._calls.tools,
        )
        self._spent = Spent.before(context.events, context.model.price)
        self._seconds = self._seconds_left()
        """What the agent had in all when it began."""
        self._prompted = False
        self._last_words = ""
        self._warned: set[LimitName] = set()
        """Limits that the model was told are nearly reached."""
        self._cut = 0
        """Cut replies in a row."""
        self._empty = 0
        """Empty replies in a row."""

    def go_on(self, text: str) -> AgentEnd:
        """Hand the text to the model and go on until the end, whatever it is. Raises NoReply and SandboxError."""
        self._cut = self._empty = 0
        self._say(text)
        reason = None
        while reason is None:
            reason = self._turn()
        self.context.record(AgentEnded(reason=reason, message=self._last_words))
        return AgentEnd(
            reason=reason,
            message=self._last_words,
            turns=self._spent.turns,
            usage=self._spent.usage,
            cost_usd=self._spent.cost_usd,
        )

    def _turn(self) -> EndReason | None:
        """Limits, model, tool calls; why the work ends here, if it does."""
        max_tokens = room(
            self.context.limits,
            self._spent,
            max_tokens=self.context.max_tokens,
            seconds_left=self._seconds_left(),
        )
        if isinstance(max_tokens, str):
            return max_tokens
        reply = self._ask(max_tokens)
        return reply if isinstance(reply, str) else self._react(reply)

    def _react(self, reply: Reply) -> EndReason | None:
        self._last_words = reply.text.strip() or self._last_words
        if reply.stop_reason == "refusal":
            return "refusal"
        if reply.tool_uses:
            self._cut = self._empty = 0
            self._answer(reply)
        elif reply.stop_reason in ("max_tokens", "pause_turn"):
            self._cut += 1
            if self._cut > MAX_CUT_REPLIES:
                return "no_answer"
            self._say(_GO_ON)
        elif reply.text.strip():
            return "done"
        else:
            self._empty += 1
            if self._empty > MAX_EMPTY_REPLIES:
                return "no_answer"
            self._say(_NUDGE)
        return None

    def _answer(self, reply: Reply) -> None:
        """Run the calls of a reply in their order, answer each, and say when a limit is near."""
        cut, turn = reply.stop_reason == "max_tokens", self._spent.turns
        self._conversation.answer(
            [self._calls.answer(self.context, use, turn=turn, cut=cut) for use in reply.tool_uses]
        )
        near = nearly_reached(
            self.context.limits, self._spent, seconds=self._seconds, seconds_left=self._seconds_left()
        )
        news = {name: left for name, left in near.items() if name not in self._warned}
        if news:
            self._warned.update(news)
            text = f"Left of this job: {', '.join(news.values())}. Bring the work to a good end."
            self._conversation.remind(text)
            self.context.record(AgentPrompted(text=text))

    def _say(self, text: str) -> None:
        self._conversation.say(text)
        first, self._prompted = not self._prompted, True
        self.context.record(
            AgentPrompted(
                text=text,
                system=self._conversation.system if first else None,
                tools=tuple(tool.name for tool in self._calls.tools) if first else (),
            )
        )

    def _ask(self, max_tokens: int) -> Reply | LimitName | CapName:
        """The model's reply, counted and recorded, or the limit that was reached before it came. Raises NoReply."""
        request = self._conversation.request(max_tokens=max_tokens, seconds=self._seconds_left())
        started = time.monotonic()
        failed: list[Retried] = []
        try:
            reply = self.context.model.reply(request, on_retry=lambda retried: self._retry(request, failed, retried))
        except (_NoMoreTries, OverBudget) as end:
            if failed:
                self._fail(f"{end.limit} leaves no room for another try", failed)
            return end.limit
        except (Cancelled, KeyboardInterrupt):
            # The provider may bill all of a reply that nobody waits for any more.
            price = self.context.model.price
            self._fail("cancelled", failed, worst=worst_usage(request.input_tokens, request.max_tokens, price))
            raise
        except NoReply as error:
            self._fail(str(error), failed, last=error.last, worst=error.last_worst)
            if self._seconds_left() <= 0:
                return "limits.seconds"
            self.context.record(AgentEnded(reason="provider", message=str(error)))
            raise
        self._take(request, reply, failed, time.monotonic() - started)
        return reply

    def _retry(self, request: Request, failed: list[Retried], retried: Retried) -> None:
        """Note a failed try. Raises _NoMoreTries when one more could overshoot a limit."""
        failed.append(retried)
        doubtful = self._spent.doubtful_usd(retried.usage, retried.worst_usage)
        self.context.record(ModelRetried(turn=self._spent.turns + 1, retried=retried, cost_doubtful_usd=doubtful))
        limit = overshot_by(
            self.context.limits,
            self._spent.after_failures(try_.worst_usage for try_ in failed),
            max_tokens=request.max_tokens,
        )
        if limit is not None:
            raise _NoMoreTries(limit)

    def _fail(self, error: str, failed: Sequence[Retried], *, last: Usage = NOTHING, worst: Usage = NOTHING) -> None:
        """Count and record a request without a reply. `last` and `worst`: of a try that is not among the failed."""
        wasted = [*(try_.usage for try_ in failed), last]
        before, self._spent = self._spent, self._spent.after_failures(wasted)
        self.context.record(
            ModelFailed(
                turn=self._spent.turns + 1,
                error=error,
                model=self.context.model.name,
                wasted=sum(wasted, Usage()),
                worst_usage=worst,
                cost_usd=self._spent.cost - before.cost if before.price else None,
                cost_doubtful_usd=before.doubtful_usd(last, worst),
            )
        )

    def _take(self, request: Request, reply: Reply, failed: Sequence[Retried], seconds: float) -> None:
        """Count, record and keep a reply."""
        # Of a reply that is played, the tries before it are told by the reply alone.
        wasted = [try_.usage for try_ in failed] or [reply.wasted]
        before, self._spent = self._spent, self._spent.after_failures(wasted).after(reply)
        self.context.record(
            ModelReplied(
                turn=self._spent.turns,
                request_hash=request_hash(request),
                reply=reply,
                cost_usd=self._spent.cost - before.cost if before.price else None,
                seconds=seconds,
            )
        )
        if reply.stop_reason != "refusal":
            # A refused reply is not kept: its calls must not run, and none may stay unanswered.
            self._conversation.hear(reply, request)

    def _seconds_left(self) -> float:
        return self.context.clock.seconds_left
