"""Models behind one seam: `open_model` takes the task's word for one and gives a Model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from runner.errors import ConfigError
from runner.models.anthropic import open_anthropic, warm_sdk
from runner.models.base import Model, NoReply, request_hash
from runner.models.prices import price_of
from runner.models.replay import open_replay
from runner.models.retry import RetryBudget
from runner.models.scripted import open_scripted

__all__ = ["Model", "NoReply", "RetryBudget", "open_model", "price_of", "request_hash", "warm"]

Opener = Callable[[str, Path, Mapping[str, str], RetryBudget], Model]

PROVIDERS: dict[str, Opener] = {
    "anthropic": lambda rest, folder, variables, budget: open_anthropic(rest, variables=variables, budget=budget),
    "scripted": lambda rest, folder, variables, budget: open_scripted(rest, folder=folder, budget=budget),
    "replay": lambda rest, folder, variables, budget: open_replay(rest, folder=folder),
}
_USING_THE_SDK = frozenset(("anthropic", "scripted"))


def open_model(spec: str, *, folder: Path, variables: Mapping[str, str], budget: RetryBudget) -> Model:
    """The model that a task names: `anthropic:MODEL`, `scripted:FILE` or `replay:JOB`.

    `folder` is that of the task file, from which FILE and JOB are looked for; `variables` are the host's. Nothing is
    sent and no SDK is imported before the first reply. Raises ConfigError.
    """
    provider, _, rest = spec.partition(":")
    if provider not in PROVIDERS or not rest:
        raise ConfigError(f"model: must be one of {', '.join(f'{name}:…' for name in PROVIDERS)} (got {spec!r})")
    model = PROVIDERS[provider](rest, folder, variables, budget)
    if budget.cost_usd is not None and model.price is None:
        model.close()
        raise ConfigError(
            f"limits.retry_cost_usd: cannot be kept, because the price of {spec} is unknown; leave it out"
        )
    return model


def warm(spec: str) -> None:
    """Get ready in the background for the first reply of a model; call it before the container is started."""
    if spec.partition(":")[0] in _USING_THE_SDK:
        warm_sdk()
