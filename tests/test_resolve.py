"""A task and a policy into a job: what it is called, where it lies, and which values its templates get."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.config import load
from runner.errors import ConfigError
from runner.policy import load_policy
from runner.resolve import Job, resolve
from runner.task import Task
from tests.repo.repositories import Repository

TASK = "version: 1\nname: fix\nprompt: 'Fix it.'\nrepo: {url: repo}\n"
TEMPLATE = """\
version: 1
name: fix
prompt: "{{ issue.title }}"
repo: {url: "{{ vars.where }}", base: "{{ issue.milestone }}"}
image: "{{ vars.image }}"
vars: {where: repo, image: python}
output: {branch: "claw/{{ job.id }}", commit_message: "Fix #{{ issue.number }}"}
"""
ISSUE = {"issue": {"number": 7, "title": "A title", "milestone": "v2"}}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    repository = Repository(tmp_path / "repo")
    repository.write("a.txt", "x")
    repository.commit("first")
    repository.git("branch", "v2")
    (tmp_path / "policy.yaml").write_text("version: 1\nmode: whitelist\n")
    return tmp_path


def _job(place: Path, text: str, **options: object) -> Job:
    (place / "task.yaml").write_text(text)
    given: dict[str, object] = {"runs": place / "runs", **options}
    return resolve(load(place / "task.yaml", Task), load_policy(place / "policy.yaml"), **given)  # type: ignore[arg-type]


def test_a_job_names_itself_and_lies_in_a_folder_of_that_name(place: Path) -> None:
    job = _job(place, TASK)
    assert job.id.startswith("fix-2")
    assert job.folder == place / "runs" / job.id
    assert job.branch == f"claw/{job.id}"
    assert _job(place, TASK).id != job.id


def test_a_batch_names_its_jobs_and_gives_them_values(place: Path) -> None:
    job = _job(place, TEMPLATE, id="fix-7", runs=place / "runs" / "night", values=ISSUE)
    assert (job.id, job.folder) == ("fix-7", place / "runs" / "night" / "fix-7")
    assert (job.prompt, job.branch, job.message) == ("A title", "claw/fix-7", "Fix #7")
    assert (job.source.ref, job.task.value.repo.base, job.task.value.image) == ("refs/heads/v2", "v2", "python")
    assert not (place / "runs").exists()


def test_a_folder_is_absolute(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert _job(place, TASK, runs=Path("runs"), id="fix-7").folder == place / "runs" / "fix-7"


def test_a_template_without_its_values_is_a_mistake_with_its_place(place: Path) -> None:
    with pytest.raises(ConfigError, match="task.yaml:4:39: repo.base: 'issue' is undefined"):
        _job(place, TEMPLATE)


def test_a_base_that_is_not_there_is_said_when_the_job_begins(place: Path) -> None:
    with pytest.raises(ConfigError, match="repo.base: no branch, tag or commit 'v9'"):
        _job(place, TEMPLATE, values={"issue": ISSUE["issue"] | {"milestone": "v9"}})
