"""The traps are live: whoever runs git over the repository springs them. Taking the work out does not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from runner.attack import traps
from runner.attack.bait import Bait, laid
from tests.local_toolbox import local_sandbox
from tests.repo.repositories import IDENTITY, Repository, sample

CARELESS = """
git status; git diff; git diff HEAD; git log -p --textconv; git add .; git commit -qam x; git checkout -q -B x; git st;
git fetch origin; git push . HEAD:refs/heads/y; git pull ssh://127.0.0.1:1/x; git commit --amend
"""
"""What people do in a repository that they trust."""


@pytest.fixture
def trapped(tmp_path: Path) -> Iterator[tuple[Repository, Bait]]:
    """A repository of this machine with every trap set; those that sprang meanwhile are open again."""
    with laid() as bait:
        repository = sample(tmp_path / "repository")
        _run(traps.script(bait), repository.path)
        for mark in bait.sprung.iterdir():
            mark.unlink()
        yield repository, bait


def _run(script: str, folder: Path) -> None:
    variables = {**os.environ, **IDENTITY}
    subprocess.run(["sh", "-c", script], cwd=folder, env=variables, capture_output=True, timeout=60, check=False)


def _ran(bait: Bait) -> set[str]:
    return {
        found.name.removeprefix("run code on the host by ") for found in traps.sprung(bait) if found.status == "hole"
    }


def test_git_run_over_the_repository_springs_the_traps(trapped: tuple[Repository, Bait]) -> None:
    repository, bait = trapped
    assert _ran(bait) == set()
    _run(CARELESS, repository.path)
    assert _ran(bait) >= {
        "hooks elsewhere",
        "fsmonitor",
        "filters",
        "textconv",
        "aliases",
        "remote",
        "pager and editor",
    }


def test_a_commit_ahead_of_base_is_found(tmp_path: Path) -> None:
    with local_sandbox(tmp_path) as sandbox:
        look = partial(traps.future, sandbox, "the secret fix")
        commit = "git -c user.name=x -c user.email=x@x commit -qm x"
        sandbox.exec(f"git init -q; echo begin > a; git add .; {commit}")
        assert look().status == "held"
        sandbox.exec(f"git checkout -q -b future; echo the secret fix > a; git add .; {commit}; git checkout -q main")
        assert look().status == "hole"
