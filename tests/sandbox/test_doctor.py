"""`doctor`: facts that are true, and a next step for each problem."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from runner.sandbox import doctor, profile
from runner.sandbox.container import ContainerEngine


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import sys, runner.cli; sys.exit(runner.cli.main(sys.argv[1:]))", *arguments],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "COLUMNS": "80", "ANTHROPIC_API_KEY": "sk-ant-secret", **variables},
    )  # fmt: skip


def test_the_machine_is_described_as_it_is() -> None:
    machine = doctor.look_at_machine()
    assert machine.kernel == os.uname().release
    assert machine.root == (os.getuid() == 0)
    assert machine.memory_bytes > 1 << 28


@pytest.mark.parametrize(
    ("abi", "said"), [(0, "has no Landlock"), (1, "cutting off files"), (2, "cutting off files"), (3, ""), (7, "")]
)
def test_what_the_kernels_landlock_cannot_do_is_a_problem(abi: int, said: str) -> None:
    machine = dataclasses.replace(doctor.look_at_machine(), landlock_abi=abi)
    problems = [problem.what for problem in doctor.machine_problems(machine) if "Landlock" in problem.what]
    assert len(problems) == bool(said)
    assert said in "".join(problems)


@pytest.mark.engine
def test_an_engine_is_described_as_it_is(engine: ContainerEngine, toolbox_volume: str) -> None:
    facts = doctor.look_at_engine(engine.name)
    assert facts.reachable
    assert facts.toolbox_present
    assert (facts.version, facts.storage_driver) == (engine.version, engine.api.get("/info")["Driver"])
    assert facts.usable, facts.problems


def test_an_engine_that_does_not_answer_is_a_problem_with_a_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/engine.sock")
    facts = doctor.look_at_engine("docker")
    assert not facts.usable
    (problem,) = facts.problems
    assert "/nowhere/engine.sock" in problem.what or "not here" in problem.what
    assert problem.next_step


def test_limits_that_are_not_enforced_are_an_error() -> None:
    """What rootless podman answers on cgroup version 1."""
    facts = doctor.EngineFacts(
        name="podman", installed=True, reachable=True, rootless=True, cgroup_version="1", seccomp=True,
        user_namespace="rootless", unenforced=("memory", "cpus", "pids"), toolbox_present=True,
    )  # fmt: skip
    (problem,) = doctor.engine_problems(facts)
    assert "memory, cpus, pids" in problem.what
    assert "container.best_effort" in problem.next_step
    assert not dataclasses.replace(facts, problems=(problem,)).usable


@pytest.mark.engine
def test_the_command_says_that_a_job_can_run_and_never_the_key(engine: ContainerEngine) -> None:
    said = _run("doctor")
    assert said.returncode == 0, said.stderr
    assert "A job can run here." in said.stdout
    assert "ANTHROPIC_API_KEY set: yes" in said.stdout
    assert "sk-ant-secret" not in said.stdout + said.stderr
    assert max(map(len, said.stdout.splitlines())) <= 80


@pytest.mark.engine
def test_with_an_engine_it_proves_it_with_a_real_sandbox(engine: ContainerEngine, toolbox_volume: str) -> None:
    said = _run("doctor", "--engine", engine.name, "--json")
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    assert document["can_run"] is True
    assert [control["name"] for control in document["proof"]["controls"]] == list(profile.CONTROLS)
    assert "sk-ant-secret" not in said.stdout


def test_without_any_engine_no_job_can_run() -> None:
    nowhere = {"DOCKER_HOST": "unix:///nowhere/docker.sock", "CONTAINER_HOST": "unix:///nowhere/podman.sock"}
    said = _run("doctor", **nowhere)
    assert said.returncode == 2
    assert "No job can run here." in said.stdout
    assert said.stdout.count("→") >= 2


def test_a_proof_that_fails_is_exit_code_2() -> None:
    said = _run("doctor", "--engine", "docker", "--json", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert said.returncode == 2
    assert "/nowhere/docker.sock" in json.loads(said.stdout)["proof"]["error"]
