"""`doctor --attack`: the score card of a policy on an engine, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef

POLICY = {
    "version": 1,
    "mode": "blacklist",
    "deny": ["Read(**/.env)", "Edit(src/**)"],
    "container": {"memory": "256m", "disk": "64m", "tmp": "16m", "inodes": 10_000},
}


def _doctor(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner", "doctor", *options],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "80", "ANTHROPIC_API_KEY": "sk-ant-secret", **variables},
    )  # fmt: skip


def _written(folder: Path, **changes: Any) -> str:
    (folder / "policy.yaml").write_text(yaml.safe_dump(POLICY | changes))
    return "policy.yaml"


@pytest.mark.engine
def test_a_policy_that_holds_is_exit_code_0(
    engine: ContainerEngine, toolbox_volume: str, base_image: ImageRef, tmp_path: Path
) -> None:
    said = _doctor(tmp_path, "--attack", "--policy", _written(tmp_path), "--engine", engine.name)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "Everything held" in said.stdout
    assert "sk-ant-secret" not in said.stdout + said.stderr
    assert max(map(len, said.stdout.splitlines())) <= 80


@pytest.mark.engine
def test_a_hole_is_exit_code_21_and_named(
    engine: ContainerEngine, toolbox_volume: str, base_image: ImageRef, tmp_path: Path
) -> None:
    policy = _written(tmp_path, deny=["Read(~/.aws/**)"])
    said = _doctor(tmp_path, "--attack", "--policy", policy, "--engine", engine.name, "--json")
    assert said.returncode == 21, said.stderr
    card = json.loads(said.stdout)
    assert card["held"] is False
    assert card["counted"]["path rules"]["hole"] == 1
    (hole,) = card["holes"]
    assert "Read(~/.aws/**)" in hole["name"]
    assert hole["next_step"]


def test_without_an_engine_there_is_no_card(tmp_path: Path) -> None:
    nowhere = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    said = _doctor(tmp_path, "--attack", "--engine", "docker", **nowhere)
    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (21, "", 1)
    assert "/nowhere/docker.sock" in said.stderr


def test_a_policy_that_is_none_is_exit_code_2(tmp_path: Path) -> None:
    said = _doctor(tmp_path, "--attack", "--policy", "readonyl")
    assert said.returncode == 2
    assert "readonly" in said.stderr


@pytest.mark.parametrize("options", [("--policy", "readonly"), ("--image", "base")])
def test_options_of_the_attack_alone_are_refused(options: tuple[str, str], tmp_path: Path) -> None:
    said = _doctor(tmp_path, *options)
    assert said.returncode == 2
    assert f"{options[0]} is an option of --attack" in said.stderr
