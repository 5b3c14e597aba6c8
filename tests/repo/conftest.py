"""A job's repository on both sides: a sample project, its quarantine, and a sandbox with the project in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.repo import Quarantine, TakeLimits, Taken, locate, open_quarantine, put, take
from runner.sandbox.base import Sandbox
from runner.task import Author, Repo
from tests.local_toolbox import local_sandbox
from tests.repo.repositories import Repository, sample

AUTHOR = Author(name="Grace Bot", email="grace@example.org")
TRAILERS = {"Agent-Run": "job-1", "Agent-Model": "scripted:x", "Agent-Transcript-SHA256": "00ff"}


@dataclass
class Work:
    """One job at the point where the agent begins."""

    repository: Repository
    quarantine: Quarantine
    sandbox: Sandbox
    folder: Path

    def run(self, script: str, *, variables: Mapping[str, str] | None = None) -> bytes:
        """Do what an agent does: a script in /workspace/repo, as the job's user. Its output."""
        result = self.sandbox.exec(script, variables=variables, seconds=60, head_bytes=1_000_000)
        assert result.ok, result
        return result.output

    def take(self, *, message: str = "By template", limits: TakeLimits | None = None, **more: Any) -> Taken:
        return take(
            self.quarantine, self.sandbox, author=AUTHOR, message=message, trailers=TRAILERS, limits=limits, **more
        )

    def git(self, *args: str) -> str:
        """Git on what came out."""
        return Repository.existing(self.quarantine.path).git(*args)

    def show(self, commit: str, path: str) -> bytes:
        return self.quarantine.git("show", f"{commit}:{path}")


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Work]]:
    """`begin(repository)` puts it into a sandbox; the sample project by default."""
    with ExitStack() as stack:

        def opened(repository: Repository | None = None, *, base: str = "HEAD", sandbox: Sandbox | None = None) -> Work:
            project = repository or sample(tmp_path / "project")
            source = locate(Repo(url=str(project.path), base=base), folder=tmp_path)
            quarantine = stack.enter_context(open_quarantine(source, folder=tmp_path))
            box = sandbox or stack.enter_context(local_sandbox(tmp_path))
            put(quarantine, box, branch="claw/job-1", author=AUTHOR)
            return Work(project, quarantine, box, tmp_path)

        yield opened


@pytest.fixture
def work(begin: Callable[..., Work]) -> Work:
    """The sample project in a sandbox."""
    return begin()
