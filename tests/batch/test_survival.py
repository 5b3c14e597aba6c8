"""A batch on a real engine whose runner is killed at every write that it makes; and once the engine itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.batch.base import BatchSpec, Limits, Planned
from runner.batch.store import Store
from runner.ledger import micro_usd
from runner.messages import Usage
from runner.models import SPOOL, price_of
from runner.models.api_rules import ApiRequest
from runner.models.exchange import Exchange
from runner.models.script import ScriptedUsage, Turn
from runner.models.scripted import ScriptedServer
from runner.policy import load_policy
from runner.report import RESULT, TRANSCRIPT
from runner.result import JobResult
from runner.sandbox.container import ContainerEngine
from runner.sandbox.engines import open_engine
from runner.sandbox.podman import options as podman_options
from runner.task import Task
from runner.transcript import ModelReplied, of_kind, read
from tests.agents.jobs import bash, says
from tests.full_jobs import CHECK, SMALL, repository  # noqa: F401  fixture
from tests.repo.repositories import Repository

pytestmark = pytest.mark.engine

JOBS = 20
MODEL = "claude-sonnet-4-6"
USAGE = ScriptedUsage(input_tokens=1001, output_tokens=77)
ROOT = Path(__file__).parent.parent.parent
SECONDS = 900
WRITTEN = (
    *("lease", "advance", "recover", "reserve", "settle", "end", "spooled request", "spooled chunk"),
    *("job_started", "resumed", "sandbox_opened", "contained", "agent_prompted", "model_replied", "tool_decided"),
    *("tool_ran", "agent_ended", "branch_taken", "gate_ran", "check_ran", "branch_delivered", "job_ended"),
)
"""Kinds of what a job leaves for a later life of its runner."""


class Provider(ScriptedServer):
    """Fixes the code in its first reply to a job and ends in its second, for any number of jobs; keeps a bill."""

    def __init__(self) -> None:
        super().__init__([], model=MODEL, keep_requests=False)
        self.bill = 0
        """Micro-USD of every reply that was asked for, each rounded up."""

    def _next_turn(self, request: ApiRequest, exchange: Exchange) -> tuple[int, Turn]:
        answered = len(request.messages) > 1
        turn = says("Done.") if answered else bash("echo fixed > code.txt && git commit -qam 'Fix the code'")
        with self._lock:
            self._served += 1
            self.bill += micro_usd(_price(USAGE.usage()))
            return self._served, turn.model_copy(update={"usage": USAGE})


def _price(usage: Usage) -> Decimal:
    price = price_of(MODEL)
    assert price is not None
    return price.cost_usd(usage)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture
def batch(
    tmp_path: Path, repository: Repository, engine: ContainerEngine, base_image: Any, toolbox_volume: str
) -> Path:
    return _batch(tmp_path, repository, engine=engine.name, engine_url=engine.api.url)


def _batch(tmp_path: Path, repository: Repository, **where: str) -> Path:
    """The folder of a batch of twenty jobs, none begun."""
    (tmp_path / "policy.yaml").write_text(
        yaml.safe_dump({"version": 1, "mode": "blacklist", "container": {**SMALL, "best_effort": ["user_namespace"]}})
    )
    folder = tmp_path / "runs" / "batch"
    spec = BatchSpec(
        id="batch",
        source="rows",
        policy_file=str(tmp_path / "policy.yaml"),
        policy_sha256=load_policy(tmp_path / "policy.yaml").sha256,
        limits=Limits(jobs=3, ahead=1, retries=3, cost_usd=5.0),
        **where,
    )
    Store.create(folder, spec, (_planned(number, repository, tmp_path) for number in range(JOBS))).close()
    return folder


def _planned(number: int, repository: Repository, folder: Path) -> Planned:
    task = {
        "version": 1,
        "name": "fix",
        "prompt": "Fix code.txt. This is row {{ row.number }}.",
        "repo": {"url": str(repository.path), "base": "main"},
        "model": f"anthropic:{MODEL}",
        "checks": {"run": [CHECK]},
        "limits": {"seconds": 120, "retries": 4, "cost_usd": 1.0},
    }
    return Planned(
        id=f"fix-{number}",
        key=f"{number:064}",
        title=f"Row {number}",
        source=f"rows:{number}",
        task_file=str(folder / "task.yaml"),
        task_sha256="",
        task=Task.model_validate_json(json.dumps(task)).model_dump(mode="json"),
        values={"row": {"number": number}},
    )


def _variables(provider: Provider) -> dict[str, str]:
    return os.environ | {"ANTHROPIC_BASE_URL": provider.url, "ANTHROPIC_API_KEY": provider.key}


def test_a_runner_that_is_killed_at_every_write_loses_nothing_and_does_nothing_twice(
    batch: Path, provider: Provider, repository: Repository, engine: ContainerEngine
) -> None:
    before = _volumes(engine)
    command = [sys.executable, "-m", "tests.batch.dying", str(batch), engine.name, engine.api.url]
    done = subprocess.run(
        command, cwd=ROOT, env=_variables(provider), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    deaths = (batch / "deaths").read_text().splitlines()
    assert len(deaths) == int(done.stdout) - 1
    assert {f"{when} {what}" for when in ("before", "after") for what in WRITTEN} <= set(deaths)
    _assert_nothing_lost_or_twice(batch, repository)
    _assert_ledger_is_the_bill(batch, provider)
    assert not _containers(engine)
    assert _volumes(engine) == before


@pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed")
def test_an_engine_that_is_killed_costs_an_attempt_and_nothing_else(
    tmp_path: Path, provider: Provider, repository: Repository
) -> None:
    url = f"unix://{tmp_path}/podman.sock"
    batch = _batch(tmp_path, repository, engine="podman", engine_url=url)
    with ExitStack() as services:
        first = services.enter_context(_service(url))
        command = [sys.executable, "-m", "runner", "resume", str(batch), "--json"]
        runner = services.enter_context(
            subprocess.Popen(command, cwd=ROOT, env=_variables(provider), stdout=subprocess.PIPE, text=True)
        )
        assert runner.stdout is not None
        ended = 0
        for line in runner.stdout:
            ended += json.loads(line)["kind"] == "job_ended"
            if ended == 3:
                first.kill()
                first.wait()
                (tmp_path / "podman.sock").unlink(missing_ok=True)
                services.enter_context(_service(url))
                break
        for _ in runner.stdout:
            pass
        assert runner.wait(SECONDS) == 0
        retried = list(batch.glob(f"*/attempts/1/{TRANSCRIPT}"))
        assert retried, "no job was under way when the engine died"
        _assert_nothing_lost_or_twice(batch, repository)
        _assert_ledger_is_the_bill(batch, provider)
        with open_engine("podman", url=url) as engine:
            assert not _containers(engine)


@contextmanager
def _service(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Podman's API at an address of its own."""
    command = ["podman", *podman_options(), "system", "service", "--time", "0", url]
    # With CONTAINER_HOST it would be a client of that host.
    variables = {name: value for name, value in os.environ.items() if name != "CONTAINER_HOST"}
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, cwd="/", stdout=nothing, stderr=nothing, env=variables) as service:
        deadline = time.monotonic() + 60
        while not Path(url.removeprefix("unix://")).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            yield service
        finally:
            service.terminate()


def _assert_nothing_lost_or_twice(batch: Path, repository: Repository) -> None:
    results = [_result(batch / f"fix-{number}") for number in range(JOBS)]
    assert Counter(result.outcome for result in results) == {"solved": JOBS}
    branches = repository.git(
        "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads/claw"
    ).splitlines()
    assert branches == sorted(f"{result.branch} {result.commit}" for result in results)
    assert {result.branch for result in results} == {f"claw/fix-{number}" for number in range(JOBS)}
    for number in range(JOBS):
        names = {path.name for path in (batch / f"fix-{number}").iterdir()}
        assert not names & {"quarantine", SPOOL}


def _assert_ledger_is_the_bill(batch: Path, provider: Provider) -> None:
    with Store.open(batch) as store:
        totals = store.totals()
    assert totals.spent <= provider.bill <= totals.spent + totals.doubtful
    assert totals.reserved == 0
    paid = {
        (path.parent, reply.reply.id): micro_usd(_price(reply.reply.usage))
        for path in batch.glob(f"*/**/{TRANSCRIPT}")
        for reply in of_kind(read(path), ModelReplied)
    }
    assert paid


def _result(folder: Path) -> JobResult:
    return JobResult.model_validate_json((folder / RESULT).read_bytes())


def _containers(engine: ContainerEngine) -> list[str]:
    """Of the batch's jobs, once the engine has had time to remove those of the last runner."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        listed = engine.api.get("/containers/json", all="true")
        found = [one["Id"] for one in listed if (one.get("Labels") or {}).get("claw-runner.job", "").startswith("fix-")]
        if not found:
            return []
        time.sleep(0.2)
    return found


def _volumes(engine: ContainerEngine) -> set[str]:
    return {volume["Name"] for volume in engine.api.get("/volumes")["Volumes"] or []}
