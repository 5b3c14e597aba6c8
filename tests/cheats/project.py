"""A small project with a bug, and its checks on what some agent would have left: in containers, without an agent.

What a whole job does before and after is the business of `test_in_jobs.py`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from runner.checks import NOTHING_PROVEN, passed, prove_on_base, run_checks
from runner.config import load
from runner.egress import Meter
from runner.policy.loading import load_policy
from runner.preparation import Site, survey
from runner.repo import NOTHING_HIDDEN, Quarantine, Taken, open_quarantine
from runner.resolve import resolve
from runner.sandbox.container import ContainerEngine
from runner.task import Task
from runner.transcript import AnyEvent, CheckRan
from tests.repo.repositories import IDENTITY, Repository

PYTEST = "python3 -m pytest -q -p no:cacheprovider"
POLICY: dict[str, Any] = {
    "version": 1,
    "mode": "blacklist",
    "container": {
        "memory": "256m",
        "disk": "64m",
        "tmp": "16m",
        "inodes": 10_000,
        "best_effort": [],
        "workspace": "memory",
    },
}
FILES = {
    "calc.py": "def add(a, b):\n    return a - b\n\n\ndef double(a):\n    return a * 2\n",
    "tests/test_calc.py": (
        "from calc import add, double\n\n\n"
        "def test_add():\n    assert add(1, 2) == 3\n\n\n"
        "def test_double():\n    assert double(2) == 4\n"
    ),
    "tests/test_other.py": "def test_other():\n    pass\n",
    "tests/run.sh": f"#!/bin/sh\nexec {PYTEST}\n",
    "verify.py": "import calc\n\nassert calc.add(1, 2) == 3, 'add is wrong'\nprint('OK')\n",
    "pyproject.toml": (
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n\n'
        '[project]\nname = "calc"\nversion = "1"\ndependencies = []\n\n'
        '[tool.setuptools]\npy-modules = ["calc"]\n\n'
        '[tool.pytest.ini_options]\ntestpaths = ["tests"]\npythonpath = ["."]\n'
    ),
}
FIX = "sed -i 's/a - b/a + b/' calc.py"


def project(path: Path) -> Repository:
    repository = Repository(path)
    for name, content in FILES.items():
        repository.write(name, content)
    (path / "tests/run.sh").chmod(0o755)
    repository.commit("A calculator that cannot add")
    return repository


@dataclass
class Checked:
    """What the checks made of some work."""

    checks: Sequence[CheckRan]
    events: list[AnyEvent] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        if any(check.tampered for check in self.checks):
            return "tampered"
        return "solved" if all(map(passed, self.checks)) else "unsolved"

    @property
    def why(self) -> str:
        return "; ".join(check.tampered for check in self.checks if check.tampered)

    def __str__(self) -> str:
        lines = (f"{check.on}: {check.exit_code} {check.tampered}\n{check.output}" for check in self.checks)
        return "\n".join((self.verdict, *lines))


class Bench:
    """The project, and one engine to check it on. `opened` closes what was opened for it."""

    def __init__(self, engine: ContainerEngine, folder: Path, opened: ExitStack) -> None:
        self.engine, self.folder, self._opened = engine, folder, opened
        self.repository = project(folder / "project")
        self.events: list[AnyEvent] = []

    def site(self, **task: Any) -> Site:
        """Keys are those of the task; `run` is short for its checks."""
        checks = {"run": [PYTEST]} | task.pop("checks", {})
        written = {
            "version": 1,
            "name": "fix",
            "prompt": "Mend add.",
            "repo": {"url": str(self.repository.path), "base": "main"},
            "image": "python",
            "model": "scripted:none.yaml",
            "checks": checks,
        }
        (self.folder / "task.yaml").write_text(yaml.safe_dump(written | task))
        (self.folder / "policy.yaml").write_text(yaml.safe_dump(POLICY))
        job = resolve(
            load(self.folder / "task.yaml", Task), load_policy(self.folder / "policy.yaml"), runs=self.folder / "runs"
        )
        job.folder.mkdir(parents=True)
        quarantine = self._opened.enter_context(open_quarantine(job.source, folder=job.folder))
        return survey(
            job,
            engine=self.engine,
            quarantine=quarantine,
            hidden=NOTHING_HIDDEN,
            meter=Meter(1_000_000),
            record=self.events.append,
        )

    def check(self, work: str, *, base: str = "", prove: bool = False, **task: Any) -> Checked:
        """Do the work, a shell script, and check it. `prove`: look at base first; `base`: change that before."""
        if base:
            self.run(base, self.repository)
            self.repository.commit("another base")
        site = self.site(**task)
        proven = prove_on_base(site) if prove else NOTHING_PROVEN
        taken = self.take(site.quarantine, work)
        return Checked(run_checks(site, taken, 0, proven=proven), self.events)

    def check_each(self, works: Sequence[str]) -> list[Checked]:
        """Check all these works at once, by a command each: the n-th is what a script makes of the module mN.py."""
        for n in range(len(works)):
            self.repository.write(f"m{n}.py", FILES["calc.py"])
            self.repository.write(f"tests/test_m{n}.py", FILES["tests/test_calc.py"].replace("calc", f"m{n}"))
        commands = [f"{PYTEST} tests/test_m{n}.py tests/test_other.py" for n in range(len(works))]
        checked = self.check("\n".join(works), base="true", checks={"run": commands})
        return [Checked([ran for ran in checked.checks if ran.command == command]) for command in commands]

    def take(self, quarantine: Quarantine, work: str) -> Taken:
        """A commit of what the script makes of the project, in the quarantine."""
        tree = Repository.existing(self.folder / "work")
        self.repository.git("worktree", "add", "--quiet", "--detach", str(tree.path), "main")
        self.run(work, tree)
        commit = tree.commit("work")
        Repository.existing(quarantine.path).git("fetch", "--quiet", str(tree.path), commit)
        return Taken(commit=commit, commits=(commit,))

    @staticmethod
    def run(script: str, where: Repository) -> None:
        variables = {**os.environ, **IDENTITY}
        subprocess.run(["sh", "-ec", script], cwd=where.path, env=variables, check=True, timeout=60)
