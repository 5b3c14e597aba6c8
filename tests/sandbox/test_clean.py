"""`clean` removes what is left, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from runner.sandbox import owner
from runner.sandbox.base import Sandbox
from runner.sandbox.clean import clean_engine, clean_services, remove_container
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef
from runner.sandbox.service import Service


@pytest.fixture
def dead_owner() -> str:
    """The owner label of a process that has ended."""
    code = "from runner.sandbox import owner; print(owner.mine())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def names(engine: ContainerEngine) -> Iterator[list[str]]:
    """Names of containers, removed at the end."""
    made: list[str] = []
    yield made
    for name in made:
        remove_container(engine.api, name)


def _create(engine: ContainerEngine, image: ImageRef, names: list[str], *, whose: str, started: bool = False) -> str:
    names.append(f"claw-test-{uuid.uuid4().hex[:12]}")
    limits = [{"Name": name, "Soft": 4096, "Hard": 4096} for name in ("nofile", "nproc")]
    body = {
        "Image": image.reference,
        "Cmd": ["/bin/busybox", "sleep", "300"],
        "Labels": {owner.LABEL: "1", owner.OWNER: whose},
        "HostConfig": {"NetworkMode": "none", "Ulimits": limits},
    }
    engine.api.post("/containers/create", body=body, name=names[-1])
    if started:
        engine.api.post(f"/containers/{names[-1]}/start")
    return names[-1]


def test_an_owner_is_alive_dead_or_unknown(dead_owner: str) -> None:
    boot, namespace, _, started = owner.mine().split(":")
    assert owner.state(owner.mine()) == "alive"
    assert owner.state(dead_owner) == "dead"
    assert owner.state(f"{boot}:{namespace}:1:{started}") == "dead"
    assert owner.state(f"other:{namespace}:{os.getpid()}:{started}") == "unknown"
    assert owner.state(f"{boot}:1:{os.getpid()}:{started}") == "unknown"
    assert owner.state("") == "unknown"


@pytest.mark.engine
@pytest.mark.parametrize("started", [False, True])
def test_a_container_of_a_dead_runner_is_removed(
    engine: ContainerEngine, busybox_image: ImageRef, names: list[str], dead_owner: str, started: bool
) -> None:
    name = _create(engine, busybox_image, names, whose=dead_owner, started=started)
    assert name in {leftover.name for leftover in clean_engine(engine.api, dry_run=True)}
    assert engine.api.exists(f"/containers/{name}/json")
    removed = {leftover.name: leftover for leftover in clean_engine(engine.api)}
    assert (removed[name].why, removed[name].error) == ("its runner is dead", "")
    assert not engine.api.exists(f"/containers/{name}/json")


@pytest.mark.engine
def test_what_lives_or_is_not_ours_stays(
    engine: ContainerEngine, busybox_image: ImageRef, names: list[str], sandbox: Sandbox, dead_owner: str
) -> None:
    elsewhere = _create(engine, busybox_image, names, whose="another-boot:1:2:3", started=True)
    names.append(f"claw-test-{uuid.uuid4().hex[:12]}")
    foreign = {"Image": busybox_image.reference, "Cmd": ["true"], "Labels": {owner.OWNER: dead_owner}}
    engine.api.post("/containers/create", body=foreign, name=names[-1])
    removed = {leftover.name for leftover in clean_engine(engine.api)}
    assert not removed & {elsewhere, names[-1], sandbox.report.container_id}
    assert sandbox.exec("echo alive").output == b"alive\n"


@pytest.mark.engine
def test_running_containers_of_unknown_runners_are_removed_on_demand(
    engine: ContainerEngine, busybox_image: ImageRef, names: list[str]
) -> None:
    name = _create(engine, busybox_image, names, whose="another-boot:1:2:3", started=True)
    would = {leftover.name: leftover for leftover in clean_engine(engine.api, every_owner=True, dry_run=True)}
    assert would[name].kind == "container"


def test_services_of_dead_runners_are_ended(dead_owner: str) -> None:
    lively, left = Service(), Service()
    (left.folder / "owner").write_text(dead_owner)
    assert str(left.folder) in [leftover.name for leftover in clean_services()]
    assert lively.folder.exists()
    assert not left.folder.exists()
    lively.end()


def test_the_command_prints_json_alone() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import sys, runner.cli; sys.exit(runner.cli.main(['clean', '--dry-run', '--json']))"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert all(set(found) == {"kind", "name", "why", "error"} for found in json.loads(said.stdout))
