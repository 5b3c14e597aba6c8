"""Models behind one seam: `open_model` takes the task's word for one and gives a Model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.errors import ConfigError
from runner.models.anthropic import open_anthropic, warm_sdk
from runner.models.base import Model, NoReply, OverBudget, Payable, request_hash
from runner.models.earlier import Earlier, recorded_of
from runner.models.governor import Governors
from runner.models.metered import Metered
from runner.models.playing import Playing
from runner.models.prices import price_of
from runner.models.replay import open_replay
from runner.models.retry import RetryBudget
from runner.models.scripted import open_scripted
from runner.models.spool import SPOOL, Spool

__all__ = [
    "SPOOL",
    "Earlier",
    "Governors",
    "Metered",
    "Model",
    "NoReply",
    "OverBudget",
    "Payable",
    "Playing",
    "RetryBudget",
    "Spool",
    "open_model",
    "price_of",
    "recorded_of",
    "request_hash",
    "warm",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """What a model is opened with."""

    folder: Path
    variables: Mapping[str, str]
    budget: RetryBudget
    spool: Spool | None
    governors: Governors | None


PROVIDERS: dict[str, Callable[[str, _Wanted], Payable]] = {
    "anthropic": lambda rest, how: open_anthropic(
        rest, variables=how.variables, budget=how.budget, spool=how.spool, governors=how.governors
    ),
    "scripted": lambda rest, how: open_scripted(
        rest, folder=how.folder, budget=how.budget, spool=how.spool, governors=how.governors
    ),
    "replay": lambda rest, how: open_replay(rest, folder=how.folder),
}
_USING_THE_SDK = frozenset(("anthropic", "scripted"))


def open_model(
    spec: str,
    *,
    folder: Path,
    variables: Mapping[str, str],
    budget: RetryBudget,
    spool: Spool | None = None,
    governors: Governors | None = None,
) -> Payable:
    """The model that a task names: `anthropic:MODEL`, `scripted:FILE` or `replay:JOB`.

    `folder` is that of the task file, from which FILE and JOB are looked for; `variables` are the host's. With a spool
    each reply is on the disk before it is read; with governors the model keeps pace with all others that have the same
    key. Nothing is sent and no SDK is imported before the first reply. Raises ConfigError.
    """
    provider, _, rest = spec.partition(":")
    if provider not in PROVIDERS or not rest:
        raise ConfigError(f"model: must be one of {', '.join(f'{name}:…' for name in PROVIDERS)} (got {spec!r})")
    how = _Wanted(folder=folder, variables=variables, budget=budget, spool=spool, governors=governors)
    model = PROVIDERS[provider](rest, how)
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
