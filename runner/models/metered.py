"""Money around a model: every try is paid for before it is made, at the dearest that it can cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from runner.ledger import MICRO, Ledger, Refusal, Reservation, micro_usd
from runner.messages import Price, Reply, Request, Retried, Usage
from runner.models.base import MIN_REPLY_TOKENS, OverBudget, Payable, Payment


class Metered:
    """A Model whose tries keep to a ledger.

    Before each try, the first and every retry, its worst case is set aside: all of `request.input_tokens` at the
    dearest price of input, and `max_tokens` at that of output, lowered to what is affordable. Afterwards it is settled:
    what the provider is known to bill as spent, and what it may bill besides as doubtful. `reply` raises OverBudget
    when not even a short reply is affordable. Where the price is unknown nothing is counted; a cap is then refused
    before the job begins.
    """

    def __init__(self, model: Payable, ledger: Ledger) -> None:
        self._model = model
        self._ledger = ledger

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def price(self) -> Price | None:
        return self._model.price

    def reply(
        self,
        request: Request,
        *,
        on_text: Callable[[str], None] | None = None,
        on_retry: Callable[[Retried], None] | None = None,
    ) -> Reply:
        price = self.price
        pay = partial(_pay, request, price, self._ledger) if price is not None else None
        return self._model.reply(request, on_text=on_text, on_retry=on_retry, pay=pay)

    def close(self) -> None:
        self._model.close()


def _pay(request: Request, price: Price, ledger: Ledger) -> Payment:
    """Set the money for one try aside. Raises OverBudget."""

    def cost(max_tokens: int) -> int:
        return micro_usd(price.cost_usd(worst_usage(request.input_tokens, max_tokens, price)))

    least = min(MIN_REPLY_TOKENS, request.max_tokens)
    reserved = ledger.reserve(least=cost(least), most=cost(request.max_tokens))
    if isinstance(reserved, Refusal):
        raise OverBudget(reserved.limit)
    max_tokens = _affordable_tokens(request, price, reserved.micro_usd)
    return Payment(
        max_tokens=max_tokens,
        worst_usage=worst_usage(request.input_tokens, max_tokens, price),
        micro_usd=reserved.micro_usd,
        settle=partial(_settle, ledger, reserved, price),
    )


def _settle(ledger: Ledger, reserved: Reservation, price: Price, usage: Usage, worst_usage: Usage) -> None:
    spent = micro_usd(price.cost_usd(usage))
    doubtful = max(0, micro_usd(price.cost_usd(worst_usage)) - spent)
    ledger.settle(reserved, spent=spent, doubtful=doubtful)


def _affordable_tokens(request: Request, price: Price, micro: int) -> int:
    """Output tokens, as many as the request asks for at most, that so much money pays for, whatever its input costs."""
    input_cost = price.cost_usd(worst_usage(request.input_tokens, 0, price)) * MICRO
    output = price.at(request.input_tokens).output
    return min(request.max_tokens, int((micro - input_cost) / output)) if output else request.max_tokens


def worst_usage(input_tokens: int, max_tokens: int, price: Price | None) -> Usage:
    """The dearest usage of a request with so many tokens at most.

    Whether the prompt cache is read, written or missed is the provider's to say, and known only afterwards.
    """
    flat = price.at(input_tokens) if price else None
    if flat is None or flat.input >= max(flat.cache_write, flat.cache_read):
        return Usage(input_tokens=input_tokens, output_tokens=max_tokens)
    if flat.cache_write >= flat.cache_read:
        return Usage(cache_write_tokens=input_tokens, output_tokens=max_tokens)
    return Usage(cache_read_tokens=input_tokens, output_tokens=max_tokens)
