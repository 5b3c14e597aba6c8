"""`claw-runner batch` and `resume`, through the front door: from a list of issues to branches."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.batch.store import Store
from runner.cli import main
from runner.models.script import Turn
from runner.sandbox.container import ContainerEngine
from tests.agents.jobs import bash, says
from tests.batch.stored import planned, spec
from tests.full_jobs import SMALL
from tests.repo.repositories import Repository

PATIENCE = 120.0
ISSUES: list[dict[str, Any]] = [
    {"number": 42, "title": "Last page dropped", "body": "Steps", "state": "OPEN", "labels": [{"name": "bug"}]},
    {"number": 43, "title": 7, "body": "a row that is none", "state": "OPEN", "labels": []},
    {"number": 44, "title": "Accents \x1b[31m mangled", "body": None, "state": "OPEN", "labels": []},
]
Output = pytest.CaptureFixture[str]


def script(folder: Path, *turns: Turn) -> None:
    written = [turn.model_dump(mode="json", exclude_defaults=True) for turn in turns]
    (folder / "script.yaml").write_text(yaml.safe_dump({"version": 1, "model": "claude-sonnet-4-6", "turns": written}))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a repository, a list of three issues of which one is none, a template and a policy."""
    monkeypatch.chdir(tmp_path)
    repository = Repository(tmp_path / "repo")
    repository.write("code.txt", "broken\n")
    repository.commit("first")
    (tmp_path / "issues.json").write_text("[\n" + ",\n".join(json.dumps(issue) for issue in ISSUES) + "\n]\n")
    task = {
        "version": 1,
        "name": "fix",
        "prompt": "Fix {{ issue.number }}: {{ issue.title }}",
        "repo": {"url": "repo", "base": "main"},
        "model": "scripted:script.yaml",
        "checks": {"run": ["grep -q fixed code.txt"]},
        "limits": {"seconds": 60, "retries": 2, "cost_usd": 1.0},
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump({"version": 1, "mode": "blacklist", "container": SMALL}))
    script(tmp_path, bash("echo fixed > code.txt"), says("Done."))
    return tmp_path


FILES = ("issues.json", "--task", "task.yaml", "--policy", "policy.yaml")


def one_batch(folder: Path) -> Path:
    (found,) = folder.glob("runs/*/batch.sqlite")
    return found.parent


# -- whole batches


@pytest.mark.engine
def test_each_issue_becomes_a_branch_and_a_bad_row_is_named(
    files: Path, engine: ContainerEngine, base_image: Any, toolbox_volume: str, capsys: Output
) -> None:
    assert main(["batch", *FILES, "--engine", engine.name, "--jobs", "2", "--cost-usd", "5"]) == 2
    out, err = capsys.readouterr()
    batch = one_batch(files)
    assert re.fullmatch(r"fix-\d{8}-[0-9a-f]{4}", batch.name)
    assert err.startswith("claw-runner: issues.json:3: title: ")
    assert {line.split()[1] for line in err.splitlines() if line.startswith("solved")} == {"fix-42", "fix-44"}
    assert out.startswith(f"DONE  2 of 2 jobs ended  {batch.name}\n")
    assert f"report  runs/{batch.name}/report.html\n" in out
    branches = Repository.existing(files / "repo").git("branch", "--list", "claw/*").split()
    assert sorted(branches) == ["claw/fix-42", "claw/fix-44"]
    assert main(["logs", "fix-44"]) == 0
    assert "ended    solved" in capsys.readouterr().out
    assert main(["show", f"{batch.name}/fix-44"]) == 0
    assert capsys.readouterr().out.startswith("SOLVED  fix")
    assert main(["resume", batch.name]) == 0
    assert "going on: 2 ended" in capsys.readouterr().err


@pytest.mark.engine
def test_a_killed_batch_goes_on_where_it_was(
    files: Path, engine: ContainerEngine, base_image: Any, toolbox_volume: str, capsys: Output
) -> None:
    script(files, bash("echo fixed > code.txt; sleep 4"), says("Done."))
    command = [sys.executable, "-m", "runner", "batch", *FILES, "--engine", engine.name, "--only", "42", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"type":"tool_decided"' in line:
                break
        process.send_signal(signal.SIGKILL)
    batch = one_batch(files)
    assert main(["status", batch.name]) == 0
    assert f"next      claw-runner resume {batch.name}" in capsys.readouterr().out
    with Store.open(batch) as store:
        before = store.totals().spent
    assert main(["resume", batch.name, "--quiet"]) == 0
    with Store.open(batch) as store:
        assert store.job("fix-42").attempt == 2
        assert 0 < before < store.totals().spent
    assert "solved                1" in capsys.readouterr().out


@pytest.mark.engine
@pytest.mark.parametrize(("long", "purpose"), [({"setup": ["sleep 600"]}, "agent"), ({"run": ["sleep 600"]}, "checks")])
def test_a_stop_at_once_waits_for_no_setup_and_no_check(
    files: Path, engine: ContainerEngine, base_image: Any, toolbox_volume: str, long: dict[str, Any], purpose: str
) -> None:
    task = yaml.safe_load((files / "task.yaml").read_text())
    task |= {"setup": long.get("setup", []), "checks": {"run": long.get("run", [])}, "limits": {}}
    (files / "task.yaml").write_text(yaml.safe_dump(task))
    command = [sys.executable, "-m", "runner", "batch", *FILES, "--engine", engine.name, "--only", "42", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line).get("event", {})
            if event.get("type") == "sandbox_opened" and event.get("purpose") == purpose:
                process.terminate()
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    with Store.open(one_batch(files)) as store:
        assert store.job("fix-42").state == "queued"


# -- looking first


def test_a_dry_run_shows_the_jobs_and_makes_nothing(files: Path, capsys: Output) -> None:
    assert main(["batch", *FILES, "--dry-run", "--vary", "limits.turns=5,10"]) == 2
    shown = capsys.readouterr().out
    assert "4 jobs of 2 rows; worst case $4.00" in shown
    assert "issues.json:3: title: " in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert not (files / "runs").exists()


def test_a_dry_run_as_json_has_jobs_and_bad_rows(files: Path, capsys: Output) -> None:
    assert main(["batch", *FILES, "--dry-run", "--json", "--limits.cost_usd", "0.5"]) == 2
    read = json.loads(capsys.readouterr().out)
    assert [(job["id"], job["source"], job["at_most_usd"]) for job in read["jobs"]] == [
        ("fix-42", "issues.json:2", "0.5"),
        ("fix-44", "issues.json:4", "0.5"),
    ]
    assert [row["place"] for row in read["bad"]] == ["issues.json:3"]


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        (["--label", "BUG"], ["fix-42"]),
        (["--only", "44"], ["fix-44"]),
        (["--skip", "1"], ["fix-44"]),
        (["--first", "1"], ["fix-42"]),
        (["--state", "closed"], []),
        (["--model", "replay:x", "--only", "42"], ["fix-42"]),
    ],
)
def test_rows_are_chosen(files: Path, options: list[str], jobs: list[str], capsys: Output) -> None:
    main(["batch", *FILES, "--dry-run", "--json", *options])
    assert [job["id"] for job in json.loads(capsys.readouterr().out)["jobs"]] == jobs


def test_a_folder_of_tasks_needs_no_template(files: Path, capsys: Output) -> None:
    (files / "tasks").mkdir()
    text = (files / "task.yaml").read_text().replace("{{ issue.number }}: {{ issue.title }}", "it")
    (files / "tasks" / "a.yaml").write_text(text.replace("url: repo", "url: ../repo"))
    assert main(["batch", "tasks", "--policy", "edit", "--dry-run"]) == 0
    assert "fix" in capsys.readouterr().out


# -- mistakes


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nothing.json", *FILES[1:]], "there is no such file"),
        (["issues.json", "--policy", "policy.yaml"], "--task TEMPLATE.yaml"),
        ([*FILES, "--state", "closed"], "there is no job to do"),
        ([*FILES, "--cost-usd", "-1"], "--cost-usd: must be greater than 0 (got -1)"),
        ([*FILES, "--jobs-per-minute", "0"], "--jobs-per-minute: must be greater than 0 (got 0)"),
        ([*FILES, "--jobs", "0"], "jobs"),
        ([*FILES, "--limits.turns", "none"], "limits.turns"),
        ([*FILES, "--vary", "modle=a"], "modle"),
    ],
)
def test_a_mistake_ends_it_before_anything_begins(files: Path, args: list[str], message: str, capsys: Output) -> None:
    assert main(["batch", *args]) == 2
    assert message in capsys.readouterr().err
    assert not list(files.glob("runs/*/batch.sqlite"))


def test_a_cap_for_a_model_without_a_price_is_refused_before_anything_begins(files: Path, capsys: Output) -> None:
    task = yaml.safe_load((files / "task.yaml").read_text())
    del task["limits"]["cost_usd"]
    (files / "task.yaml").write_text(yaml.safe_dump(task))
    assert main(["batch", *FILES, "--model", "anthropic:no-such-model", "--cost-usd", "1"]) == 2
    assert "--cost-usd: cannot be kept" in capsys.readouterr().err
    assert not list(files.glob("runs/*/batch.sqlite"))


def test_without_a_key_no_batch_is_begun(files: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert main(["batch", *FILES, "--model", "anthropic:claude-sonnet-4-6"]) == 2
    assert "ANTHROPIC_API_KEY is not set" in capsys.readouterr().err
    assert not list(files.glob("runs/*/batch.sqlite"))


def test_a_resume_without_a_key_ends_no_job(files: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    task = {"version": 1, "name": "fix", "prompt": "Fix it.", "model": "anthropic:claude-sonnet-4-6"}
    told = replace(spec(), policy_file=str(files / "policy.yaml"))
    Store.create(files / "runs" / "b", told, [planned(1, task=task)]).close()
    assert main(["resume", "b"]) == 2
    assert "ANTHROPIC_API_KEY is not set" in capsys.readouterr().err
    with Store.open(files / "runs" / "b") as store:
        assert store.job("job-1").state == "queued"


def test_without_an_engine_no_batch_is_begun(files: Path, capsys: Output) -> None:
    assert main(["batch", *FILES, "--engine", "docker", "--engine-url", "unix:///nowhere/docker.sock"]) == 21
    assert not list(files.glob("runs/*/batch.sqlite"))
