"""One attempt at a job of a batch, on an engine of this machine: what earlier attempts left, then `run_job`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from runner.agents.base import Approve
from runner.approvals import open_approver
from runner.batch.base import Attempt, Ended, Execute
from runner.batch.plan import rebuild
from runner.batch.store import Store
from runner.config import Loaded
from runner.errors import ConfigError, RunnerError
from runner.job import Stage, leave_unbegun, run_job
from runner.ledger import micro_usd
from runner.models import SPOOL, Governors, Payable, RetryBudget, Spool, open_model
from runner.past import ASIDE, Past, paid_aside, past_of, put_away, set_aside
from runner.policy import Policy
from runner.resolve import resolve
from runner.result import JobResult
from runner.sandbox.container import ContainerEngine
from runner.task import Task
from runner.transcript import TranscriptError

LOOK_SECONDS = 0.5
"""How often it is looked whether a job is to be left while it waits for a command or a model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Equipment:
    """What all jobs of a batch are done with."""

    policy: Loaded[Policy]
    engine: ContainerEngine
    variables: Mapping[str, str]
    """The host's."""
    mask: tuple[str, ...] = ()
    """Values that must not be written anywhere."""
    governors: Governors | None = None
    approve: Approve = "none"


def local_executor(store: Store, equipment: Equipment) -> Execute:
    """What does a job of that batch in a container of this machine; to be called by many threads."""

    def execute(attempt: Attempt) -> Ended:
        return _execute(store, attempt, equipment)

    return execute


def _execute(store: Store, attempt: Attempt, equipment: Equipment) -> Ended:
    attempt.folder.mkdir(parents=True, exist_ok=True)
    if attempt.lease.job.fresh:
        set_aside(attempt.folder)
    put_away(attempt.folder)
    task = rebuild(attempt.lease.job.planned)
    try:
        spool = Spool(attempt.folder / SPOOL, (*equipment.mask, *_secrets(equipment)))
        model = _model(task, equipment, spool)
        try:
            _require_price(store, model)
            past = _recovered(store, attempt, model)
            result = _run(store, attempt, task, equipment, model=model, spool=spool, past=past)
        finally:
            model.close()
    except RunnerError as error:
        # Nothing was begun: but whoever looks into the folder is to find why.
        result = leave_unbegun(attempt.folder, task, equipment.policy, error, mask=equipment.mask)
    return _ended(result)


def _model(task: Loaded[Task], equipment: Equipment, spool: Spool) -> Payable:
    return open_model(
        task.value.model,
        folder=task.path.parent,
        variables=equipment.variables,
        budget=RetryBudget.of(task.value.limits),
        spool=spool,
        governors=equipment.governors,
    )


def _require_price(store: Store, model: Payable) -> None:
    """Raises ConfigError when the batch's cap cannot be kept."""
    if store.spec.limits.cost_usd is not None and model.price is None:
        raise ConfigError(
            f"--cost-usd: cannot be kept, because the price of {model.name} is unknown; leave it out, or name another "
            "model"
        )


def _secrets(equipment: Equipment) -> list[str]:
    names = equipment.policy.value.secrets
    return [value for name in names if (value := equipment.variables.get(name))]


def _recovered(store: Store, attempt: Attempt, model: Payable) -> Past | None:
    """What earlier attempts left; the batch's ledger is brought to what they prove.

    Raises TranscriptError for what cannot be played any more; the job can be begun anew.
    """
    folder, aside = attempt.folder, paid_aside(attempt.folder, price=model.price)
    try:
        past = past_of(folder, price=model.price, on_difference=store.spec.on_difference)
    except TranscriptError as error:
        again = f"claw-runner retry {store.folder} --job {folder.name} --fresh"
        raise TranscriptError(f"{error}; to do the job anew: {again}") from error
    spent, doubtful = (past.earlier.spent, past.earlier.doubtful) if past else (0, 0)
    # No request is sent before the transcript is begun: where there is none, none was sent, or somebody removed it.
    whole = aside.whole and (past is not None or (folder / ASIDE).exists())
    store.recover(attempt.lease, spent=spent + aside.spent, doubtful=doubtful + aside.doubtful, whole=whole)
    return past


def _run(
    store: Store,
    attempt: Attempt,
    task: Loaded[Task],
    equipment: Equipment,
    *,
    model: Payable,
    spool: Spool,
    past: Past | None,
) -> JobResult:
    planned = attempt.lease.job.planned
    job = resolve(
        task,
        equipment.policy,
        runs=attempt.folder.parent,
        id=planned.id,
        title=planned.title,
        origin=planned.source,
        values=planned.values,
        variables=equipment.variables,
    )
    with _watched(attempt) as on_stop:
        return run_job(
            job,
            engine=equipment.engine,
            model=model,
            watch=attempt.watch,
            mask=equipment.mask,
            approver=open_approver(attempt.folder, terminal=False, stopped=attempt.stopped),
            approve=equipment.approve,
            past=past,
            ledger=attempt.ledger,
            spool=spool,
            stage=Stage(
                slot=attempt.slot,
                enter=attempt.enter,
                effect=partial(store.effect, attempt.lease),
                stopped=attempt.stopped,
                on_stop=on_stop,
            ),
        )


@contextmanager
def _watched(attempt: Attempt) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Takes what is to be called once the attempt is to be left."""
    acts: list[Callable[[], object]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if attempt.stopped():
                while acts:
                    acts.pop()()

    watcher = threading.Thread(target=watch, name=f"watch-{attempt.lease.job.planned.id}")
    watcher.start()
    try:
        yield acts.append
    finally:
        over.set()
        watcher.join()


def _ended(result: JobResult) -> Ended:
    return Ended(
        outcome=result.outcome,
        reason=result.reason,
        cause=result.cause,
        cost_micro_usd=None if result.cost_usd is None else micro_usd(result.cost_usd),
        seconds=result.seconds,
        branch=result.branch,
        turns=result.turns,
        tokens=result.usage.total_tokens,
    )
