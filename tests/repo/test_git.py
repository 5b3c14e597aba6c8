"""Host git: bounded in time and output, its own surroundings, errors of one clean line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from runner.errors import RepoError
from runner.repo.git import GitFailed, OutputTooLong, git, masked, printable, stream
from tests.repo.repositories import sample


def test_a_git_that_does_not_end_is_ended_with_all_it_started(tmp_path: Path) -> None:
    sample(tmp_path / "project")
    sleeper = tmp_path / "sleeper"
    sleeper.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    sleeper.chmod(0o755)
    begun = time.monotonic()
    with pytest.raises(RepoError, match=r"git slow.* did not end in time"):
        git(tmp_path / "project", "slow", config={"alias.slow": f"!{sleeper}"}, seconds=5)
    assert time.monotonic() - begun < 60
    pid = int((tmp_path / "pid").read_text())
    while _runs(pid):  # killed, but perhaps not gone yet
        assert time.monotonic() - begun < 60
        time.sleep(0.05)


def test_a_git_that_waits_for_input_gets_none(tmp_path: Path) -> None:
    assert git(sample(tmp_path / "project").path, "hash-object", "--stdin", seconds=20)


def test_output_is_bounded(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    with pytest.raises(OutputTooLong, match="printed more than 100 bytes"):
        git(repository.path, "log", "-p", "--all", max_bytes=100)


def test_an_endless_git_behind_a_consumer_that_stops_is_ended(tmp_path: Path) -> None:
    sample(tmp_path / "project")
    with pytest.raises(KeyError), stream(tmp_path / "project", "yes", config={"alias.yes": "!yes"}) as chunks:
        raise KeyError(next(chunks)[:1])


@pytest.mark.parametrize("guarded", [False, True])
def test_the_error_says_which_command_and_why(guarded: bool, tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    with pytest.raises(GitFailed, match=r"^git cat-file -p nothing failed: Not a valid object name nothing$"):
        git(repository.path, "cat-file", "-p", "nothing", guarded=guarded)


def test_memory_of_a_guarded_git_is_bounded(tmp_path: Path) -> None:
    sample(tmp_path / "project")
    alias = {"alias.limits": "!sh -c 'ulimit -v; ulimit -t'"}
    memory, seconds = git(tmp_path / "project", "limits", config=alias, seconds=9, guarded=True).split()
    assert (memory, seconds) == (b"4194304", b"10")


def test_the_callers_variables_do_not_reach_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample(tmp_path / "project")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("SECRET_TOKEN", "s3cr3t")
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Me\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = git(tmp_path / "project", "show-env", config={"alias.show-env": "!env"})
    assert b"s3cr3t" not in shown
    assert b"HOME=/nonexistent" in shown
    with pytest.raises(GitFailed):
        git(tmp_path / "project", "config", "user.name")
    assert git(tmp_path / "project", "config", "user.name", as_user=True) == b"Me\n"


def test_a_missing_git_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RepoError, match="git is not installed"):
        git(tmp_path, "version")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host/x", "https://host/x"),
        ("HTTPS://token@host/x", "HTTPS://host/x"),
        ("fatal: 'https://u:p@h/x' not found, https://a@b", "fatal: 'https://h/x' not found, https://b"),
        ("git@host:x", "git@host:x"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_credentials_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_text_for_people_is_one_line_that_does_nothing(tmp_path: Path) -> None:
    assert printable("a\x1b[31m\nb\u202e\tc\x00 \u200bd") == "a [31m b c d"
    assert printable("x" * 400) == "x" * 299 + "…"


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z" and os.path.exists(f"/proc/{pid}")  # noqa: PTH110
