"""A real toolbox, and jobs that are taken down again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.models.script import Turn
from runner.sandbox.base import Sandbox
from tests.agents.jobs import Job, Start, start_job
from tests.tools.sandboxes import toolbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with toolbox(tmp_path) as sandbox:
        yield sandbox


@pytest.fixture
def start(sandbox: Sandbox) -> Iterator[Start]:
    jobs: list[Job] = []

    def start(*turns: Turn, **options: Any) -> Job:
        jobs.append(start_job(sandbox, turns, **options))
        return jobs[-1]

    yield start
    for job in jobs:
        job.model.close()
        job.server.stop()
