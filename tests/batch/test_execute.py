"""What an attempt does before it needs an engine: what it makes of earlier ones, and what the batch's cap demands."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import yaml

from runner.batch.base import Ended, Planned
from runner.batch.execute import Equipment, local_executor
from runner.batch.scheduler import Stop, run_batch
from runner.batch.store import Store
from runner.policy import load_policy
from runner.sandbox.container import ContainerEngine
from runner.transcript import AgentPrompted
from tests.batch.stored import planned, spec, take
from tests.batch.test_ledger import reserve, sums
from tests.models.test_earlier import COST, attempt, replied

NO_ENGINE = cast("ContainerEngine", None)


def batch(folder: Path, *, model: str = "claude-sonnet-4-6") -> Store:
    """One job, whose repository is not there: so it ends as soon as it is known what it was paid for."""
    (folder / "script.yaml").write_text(yaml.safe_dump({"version": 1, "model": model, "turns": [{"text": "Done."}]}))
    task = {"version": 1, "name": "fix", "prompt": "Fix it.", "repo": {"url": "gone"}, "model": "scripted:script.yaml"}
    return Store.create(folder / "b", spec(cost_usd=1.0), [_job(folder, task)])


def _job(folder: Path, task: dict[str, object]) -> Planned:
    return planned(1, task_file=str(folder / "task.yaml"), task=task)


def work_off(store: Store) -> Ended:
    policy = store.folder.parent / "policy.yaml"
    policy.write_text("version: 1\nextends: edit\n")
    equipment = Equipment(policy=load_policy(policy), engine=NO_ENGINE, variables={})
    run_batch(store, execute=local_executor(store, equipment), watch=lambda event: None, stop=Stop())
    [row] = store.jobs()
    assert row.ended
    return row.ended


def damaged(folder: Path) -> Path:
    """A transcript with a letter changed in the middle."""
    folder.parent.mkdir(parents=True)
    transcript = attempt(folder, AgentPrompted(text="Fix it."), replied("a"), replied("b"))
    transcript.write_text(transcript.read_text().replace("Fix it.", "Fix It."))
    return transcript


def test_a_damaged_transcript_is_named_with_what_to_do(tmp_path: Path) -> None:
    with batch(tmp_path) as store:
        transcript = damaged(store.folder / "job-1" / "attempts" / "1")
        ended = work_off(store)
    assert ended.outcome == "config_error"
    assert ended.reason == (
        f"{transcript}:3: prev is not the hash of the line before: one of the two was changed; "
        f"to do the job anew: claw-runner retry {tmp_path}/b --job job-1 --fresh"
    )


def test_a_job_with_a_damaged_transcript_can_be_begun_anew(tmp_path: Path) -> None:
    with batch(tmp_path) as store:
        damaged(store.folder / "job-1" / "attempts" / "1")
        work_off(store)
        store.again(ids=["job-1"], fresh=True)
        assert "transcript" not in work_off(store).reason


def test_what_a_damaged_transcript_proved_once_still_counts(tmp_path: Path) -> None:
    with batch(tmp_path) as store:
        lease = take(store)
        ledger = store.ledger(lease)
        ledger.settle(reserve(ledger, 9_000), spent=2 * COST)
        store.release(lease)
        damaged(store.folder / "job-1" / "aside" / "1" / "1")
        work_off(store)
        assert sums(store) == (2 * COST, 0, 0)


def test_a_job_whose_folder_was_removed_has_cost_what_it_cost(tmp_path: Path) -> None:
    with batch(tmp_path) as store:
        lease = take(store)
        ledger = store.ledger(lease)
        ledger.settle(reserve(ledger, 9_000), spent=COST)
        reserve(ledger, 700)
        store.release(lease)
        work_off(store)
        assert sums(store) == (COST, 700, 0)


def test_a_cap_is_not_kept_by_a_model_without_a_price(tmp_path: Path) -> None:
    with batch(tmp_path, model="claude-unheard-of") as store:
        ended = work_off(store)
    assert ended.outcome == "config_error"
    assert ended.reason.startswith("--cost-usd: cannot be kept, because the price of scripted:script.yaml is unknown")
