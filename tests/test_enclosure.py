"""What the commands of a whole job are held to: path rules by the kernel, files that stay out, the way out, secrets."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from runner.errors import ConfigError
from runner.report import RESULT, TRANSCRIPT
from runner.result import JobResult
from runner.transcript import Contained, EgressTried, ToolRan, of_kind, read
from tests.agents.jobs import bash, calls, says
from tests.full_jobs import RunTask, job_folder, repository, run_task  # noqa: F401  fixtures
from tests.repo.repositories import Repository

pytestmark = pytest.mark.engine

TOKEN = "tok-4f6a9c1e77d2-canary"


def answers(tmp_path: Path, result: JobResult) -> list[str]:
    """What each tool call said."""
    return [event.content for event in of_kind(read(job_folder(tmp_path, result) / TRANSCRIPT), ToolRan)]


def test_a_whitelisted_folder_is_all_that_commands_can_change(
    run_task: RunTask, repository: Repository, tmp_path: Path
) -> None:
    repository.write("src/a.txt", "a\n")
    repository.commit()
    result = run_task(
        [
            bash("cp src/a.txt code.txt || sed -i s/broken/fixed/ code.txt || rm -f tests/test.sh"),
            bash("cp src/a.txt src/b.txt && git add -A && git commit -qm b && echo committed"),
            says("Done."),
        ],
        policy={"mode": "whitelist", "allow": ["Read", "Edit(src/**)", "Bash(*)"]},
        checks={},
    )
    denied, done = answers(tmp_path, result)
    assert denied.count("ermission denied") == 3
    assert "committed" in done
    assert result.diff.paths == ("src/b.txt",)
    assert result.contained is not None
    assert (result.contained.landlock, result.contained.writable) == (True, ("src",))


def test_a_denied_file_in_an_allowed_tree_cannot_be_changed_by_a_command(
    run_task: RunTask, repository: Repository, tmp_path: Path
) -> None:
    result = run_task(
        [
            bash("echo x > tests/test.sh; rm -f tests/test.sh; mv tests elsewhere; git rm -q tests/test.sh"),
            bash("git status --short && echo fixed > code.txt && git commit -qam fix && ls tests"),
            says("Done."),
        ],
        policy={"deny": ["Edit(tests/**)"]},
    )
    assert "test.sh" in answers(tmp_path, result)[1]
    assert (result.outcome, result.diff.paths) == ("solved", ("code.txt",))
    assert result.contained is not None
    assert result.contained.kept == ("tests",)


def test_what_may_not_be_read_is_not_there(run_task: RunTask, repository: Repository, tmp_path: Path) -> None:
    repository.write("conf/.env", f"TOKEN={TOKEN}\n")
    repository.commit("with a token")
    look = (
        "cat conf/.env; git show HEAD:conf/.env; git log -p --all; git cat-file --batch-all-objects --batch;"
        " git grep TOKEN $(git rev-list --all)"
    )
    result = run_task(
        [bash(look), bash("git status --short; echo fixed > code.txt"), says("Done.")],
        policy={"deny": ["Read(**/.env)"]},
        checks={"run": ["grep -q fixed code.txt && ! test -e conf/.env"]},
    )
    assert TOKEN not in "".join(answers(tmp_path, result))
    assert (result.outcome, result.diff.paths) == ("solved", ("code.txt",))
    assert repository.git("show", f"{result.branch}:conf/.env") == f"TOKEN={TOKEN}"
    assert result.contained is not None
    assert result.contained.hidden == ("conf/.env",)


def test_what_setup_made_is_kept_by_the_same_rules(run_task: RunTask, tmp_path: Path) -> None:
    result = run_task(
        [
            bash("cat made/key.pem; echo x | tee -a made/fixed.cfg; cat made/fixed.cfg; echo fixed > code.txt"),
            says("Done."),
        ],
        setup=["mkdir made && echo private > made/key.pem && echo old > made/fixed.cfg"],
        policy={"deny": ["Read(**/*.pem)", "Edit(made/*.cfg)"]},
    )
    [said] = answers(tmp_path, result)
    assert "private" not in said
    assert "old" in said
    assert said.count("ermission denied") == 2
    assert result.outcome == "solved"


def test_a_connection_is_refused_in_words_and_recorded(run_task: RunTask, tmp_path: Path) -> None:
    ask = (
        "python3 - <<'EOF'\nimport urllib.request\ntry:\n    urllib.request.urlopen('http://example.org/')\n"
        "except Exception as error:\n    print(error)\nEOF"
    )
    result = run_task([bash(ask), bash("echo fixed > code.txt"), says("Done.")], image="python")
    assert "example.org" in answers(tmp_path, result)[0]
    [tried] = of_kind(read(job_folder(tmp_path, result) / TRANSCRIPT), EgressTried)
    assert (tried.phase, tried.host, tried.port, tried.allowed) == ("agent", "example.org", 80, False)
    assert (result.egress[0].host, result.egress[0].refused) == ("example.org", 1)


def test_a_secret_is_a_variable_inside_and_nowhere_else(
    run_task: RunTask, repository: Repository, tmp_path: Path
) -> None:
    result = run_task(
        [
            bash('test -n "$SERVICE_TOKEN" && echo "$SERVICE_TOKEN" && printf %s "$SERVICE_TOKEN" | base64'),
            bash('echo fixed > code.txt && git commit -qam "with $SERVICE_TOKEN"'),
            says("Done."),
        ],
        policy={"secrets": ["SERVICE_TOKEN"]},
        variables={"SERVICE_TOKEN": TOKEN, "OTHER": "other-value"},
    )
    assert result.outcome == "solved"
    assert "***" in answers(tmp_path, result)[0]
    files = [file.read_bytes() for file in job_folder(tmp_path, result).rglob("*") if file.is_file()]
    assert not [data for data in files if TOKEN.encode() in data]
    assert TOKEN not in repository.git("log", "--format=%B", str(result.branch))


def test_a_diff_that_holds_a_secret_is_denied_and_masked(
    run_task: RunTask, repository: Repository, tmp_path: Path
) -> None:
    before = repository.git("for-each-ref")
    result = run_task(
        [bash('echo "fixed $SERVICE_TOKEN" > code.txt'), says("Done.")],
        policy={"secrets": ["SERVICE_TOKEN"]},
        variables={"SERVICE_TOKEN": TOKEN},
    )
    assert (result.outcome, result.exit_code, result.branch) == ("denied", 12, None)
    patch = (job_folder(tmp_path, result) / "patch.diff").read_text()
    assert "fixed ***" in patch
    assert TOKEN not in patch
    assert repository.git("for-each-ref") == before


def test_a_secret_that_is_not_set_is_named(run_task: RunTask) -> None:
    with pytest.raises(ConfigError, match=r"policy.yaml:\d+:.*SERVICE_TOKEN is not set"):
        run_task([], policy={"secrets": ["SERVICE_TOKEN"]})


def test_no_variable_of_the_host_goes_in(run_task: RunTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", TOKEN)
    result = run_task([bash("cat /proc/*/environ | tr '\\0' '\\n'; env"), says("Done.")], checks={})
    assert TOKEN not in answers(tmp_path, result)[0]


def test_the_result_says_what_was_contained(run_task: RunTask, tmp_path: Path) -> None:
    result = run_task([calls(("Read", {"file_path": "code.txt"})), says("Nothing.")], expect_change=False, checks={})
    written = json.loads((job_folder(tmp_path, result) / RESULT).read_text())
    assert written["contained"]["landlock"] is True
    [event] = of_kind(read(job_folder(tmp_path, result) / TRANSCRIPT), Contained)
    assert event.writable == (".",)


def test_no_future_history_is_inside(run_task: RunTask, repository: Repository, tmp_path: Path) -> None:
    base = repository.head
    repository.write("code.txt", "the-later-fix\n")
    repository.commit("later")
    repository.git("tag", "-a", "v2", "-m", "the-later-tag")
    repository.write("code.txt", "the-stashed-fix\n")
    repository.git("stash")
    repository.git("notes", "add", "-m", "the-later-note", base)
    subprocess.run(["git", "gc", "-q"], cwd=repository.path, check=True)
    grep = (
        "git cat-file --batch-all-objects --batch --unordered | grep -a -c the-; git for-each-ref;"
        " find .git -name alternates; cat .git/logs/HEAD; true"
    )
    result = run_task([bash(grep), says("Done.")], repo={"url": str(repository.path), "base": base}, checks={})
    said = answers(tmp_path, result)[0]
    assert said.startswith("0\n")
    assert "refs/tags" not in said
    assert "refs/stash" not in said
    assert "alternates" not in said
    assert "later" not in said
