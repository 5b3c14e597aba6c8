"""A job's repository on both sides: a sample project, its quarantine, and a sandbox with the project in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.policy import Policy
from runner.repo import Quarantine, TakeLimits, Taken, locate, open_quarantine, put, take
from runner.repo.hide import NOTHING_HIDDEN, Hidden, hide
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
    hidden: Hidden = field(default=NOTHING_HIDDEN)

    def run(self, script: str, *, variables: Mapping[str, str] | None = None) -> bytes:
        """Do what an agent does: a script in /workspace/repo, as the job's user. Its output."""
        result = self.sandbox.exec(script, variables=variables, seconds=60, head_bytes=1_000_000)
        assert result.ok, result
        return result.output

    def take(self, *, message: str = "By template", limits: TakeLimits | None = None, **more: Any) -> Taken:
        return take(
            self.quarantine,
            self.sandbox,
            author=AUTHOR,
            message=message,
            trailers=TRAILERS,
            hidden=self.hidden,
            limits=limits,
            **more,
        )

    def git(self, *args: str) -> str:
        """Git on what came out."""
        return Repository.existing(self.quarantine.path).git(*args)

    def show(self, commit: str, path: str) -> bytes:
        return self.quarantine.git("show", f"{commit}:{path}")


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Work]]:
    """`begin(repository)` puts it into a sandbox, without what the policy hides; the sample project by default."""
    with ExitStack() as stack:

        def opened(
            repository: Repository | None = None,
            *,
            base: str = "HEAD",
            sandbox: Sandbox | None = None,
            policy: Policy | None = None,
        ) -> Work:
            project = repository or sample(tmp_path / "project")
            source = locate(Repo(url=str(project.path), base=base), folder=tmp_path)
            quarantine = stack.enter_context(open_quarantine(source, folder=tmp_path))
            box = sandbox or stack.enter_context(local_sandbox(tmp_path))
            hidden = hide(quarantine, policy) if policy else NOTHING_HIDDEN
            put(quarantine, box, branch="claw/job-1", author=AUTHOR, hidden=hidden)
            return Work(project, quarantine, box, tmp_path, hidden)

        yield opened


@pytest.fixture
def work(begin: Callable[..., Work]) -> Work:
    """The sample project in a sandbox."""
    return begin()
