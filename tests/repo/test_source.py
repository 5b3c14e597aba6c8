"""`locate`: every way to name a repository and a base, and every way to be wrong."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runner.errors import ConfigError, RepoError
from runner.repo import locate
from runner.task import Repo
from tests.repo.remotes import git_daemon
from tests.repo.repositories import IDENTITY, Repository, sample


def test_a_path_is_relative_to_the_folder_of_the_task(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    source = locate(Repo(url="../project"), folder=_folder(tmp_path / "tasks"))
    assert (source.kind, source.work_tree, source.base) == ("local", repository.path, repository.head)


def test_a_folder_inside_a_repository_names_that_repository(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    assert locate(Repo(url="."), folder=repository.path / "docs").work_tree == repository.path


@pytest.mark.parametrize("form", ["file://{}", "{}", "{}/.git"])
def test_a_local_repository_can_be_named_as(form: str, tmp_path: Path) -> None:
    repository = sample(tmp_path / "my project")
    named = form.format(str(repository.path).replace(" ", "%20") if form.startswith("file") else repository.path)
    assert locate(Repo(url=named), folder=tmp_path).base == repository.head


def test_a_bare_repository_has_no_work_tree(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    source = locate(Repo(url="bare.git", base="future"), folder=tmp_path)
    assert source.work_tree is None
    assert source.base == repository.git("rev-parse", "future")


def test_a_linked_worktree_has_its_own_head(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "future")
    source = locate(Repo(url="linked"), folder=tmp_path)
    assert source.base == repository.git("rev-parse", "future")
    assert source.work_tree == tmp_path / "linked"


def test_a_checked_out_submodule_is_a_repository_of_its_own(tmp_path: Path) -> None:
    library, project = sample(tmp_path / "library"), sample(tmp_path / "project")
    project.git("submodule", "--quiet", "add", str(library.path), "libs/one")
    source = locate(Repo(url="project/libs/one"), folder=tmp_path)
    assert (source.work_tree, source.base) == (tmp_path / "project/libs/one", library.head)


@pytest.mark.parametrize(
    ("base", "commit", "ref"),
    [
        ("main", "main", "refs/heads/main"),
        ("v1", "v1", "refs/tags/v1"),
        ("v2", "v2^{commit}", "refs/tags/v2"),
        ("future~1", "main", None),
        ("HEAD", "main", None),
        ("upstream", "future", "refs/remotes/origin/upstream"),
    ],
)
def test_base_is_a_branch_a_tag_or_a_commit(base: str, commit: str, ref: str | None, tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("update-ref", "refs/remotes/origin/upstream", "future")
    source = locate(Repo(url="project", base=base), folder=tmp_path)
    assert (source.base, source.ref) == (repository.git("rev-parse", commit), ref)


def test_a_short_commit_id_is_pinned_to_the_full_one(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    assert locate(Repo(url="project", base=repository.head[:10]), folder=tmp_path).base == repository.head


def test_a_branch_comes_before_a_tag_of_its_name(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("tag", "future", "main")
    source = locate(Repo(url="project", base="future"), folder=tmp_path)
    assert source.base == repository.git("rev-parse", "refs/heads/future")


@pytest.mark.parametrize("base", ["mian", "0" * 40, "futur", "main:app.py", "HEAD^{tree}", "refs/heads/", "@{"])
def test_a_base_that_is_no_commit_is_refused(base: str, tmp_path: Path) -> None:
    sample(tmp_path / "project")
    with pytest.raises(ConfigError, match=r"repo\.base"):
        locate(Repo(url="project", base=base), folder=tmp_path)


def test_a_misspelt_base_brings_the_near_names(tmp_path: Path) -> None:
    sample(tmp_path / "project")
    with pytest.raises(ConfigError, match=r"did you mean 'future'\?"):
        locate(Repo(url="project", base="futrue"), folder=tmp_path)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'nowhere' is not there"):
        locate(Repo(url="nowhere"), folder=tmp_path)


def test_a_folder_without_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not in a git repository"):
        locate(Repo(url="."), folder=tmp_path)


def test_a_repository_without_commits_is_refused(tmp_path: Path) -> None:
    Repository(tmp_path / "empty")
    with pytest.raises(ConfigError, match="has no commits yet"):
        locate(Repo(url="empty"), folder=tmp_path)


def test_a_head_without_commits_is_told_from_an_empty_repository(tmp_path: Path) -> None:
    sample(tmp_path / "project").git("checkout", "--quiet", "--orphan", "new")
    with pytest.raises(ConfigError, match="did you mean 'main'"):
        locate(Repo(url="project"), folder=tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_repository_of_another_user_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = sample(tmp_path / "project")
    head = repository.head
    subprocess.run(["chown", "-R", "1234:1234", str(repository.path)], check=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"git config --global --add safe\.directory"):
        locate(Repo(url="project"), folder=tmp_path)
    (tmp_path / ".gitconfig").write_text(f'[safe]\n\tdirectory = "{repository.path}"\n')
    assert locate(Repo(url="project"), folder=tmp_path).base == head


@pytest.mark.parametrize(
    "url", ["ext::sh -c 'touch pwned'", "fd::17/foo", "ftp://host/x", "javascript://x", "gopher::x"]
)
def test_other_transports_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"repo\.url"):
        locate(Repo(url=url), folder=tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("url", ["--upload-pack=touch pwned", "-oProxyCommand=touch pwned:x"])
def test_a_url_is_never_an_option(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        locate(Repo(url=url), folder=tmp_path)


def test_variables_of_a_surrounding_git_do_not_lead_astray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, other = sample(tmp_path / "project"), Repository(tmp_path / "other")
    other.commit()
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other.path / ".git/objects"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "garbage")
    source = locate(Repo(url="project"), folder=tmp_path)
    monkeypatch.undo()
    assert source.base == repository.head


def test_nothing_that_the_repository_names_is_run(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    for key in ("core.fsmonitor", "core.pager", "core.sshCommand", "core.alternateRefsCommand", "diff.external"):
        repository.git("config", key, f"touch {tmp_path}/pwned")
    locate(Repo(url="project"), folder=tmp_path, include_uncommitted=True)
    assert not (tmp_path / "pwned").exists()


def test_uncommitted_changes_need_a_work_tree(tmp_path: Path) -> None:
    sample(tmp_path / "project").git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    with pytest.raises(ConfigError, match="has no work tree"):
        locate(Repo(url="bare.git"), folder=tmp_path, include_uncommitted=True)


def test_uncommitted_changes_belong_to_head(tmp_path: Path) -> None:
    sample(tmp_path / "project")
    with pytest.raises(ConfigError, match="belong to HEAD"):
        locate(Repo(url="project", base="future"), folder=tmp_path, include_uncommitted=True)


def test_an_unfinished_merge_is_not_taken_as_uncommitted_changes(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.write("app.py", "other\n")
    repository.commit()
    environment = {**os.environ, **IDENTITY}
    subprocess.run(["git", "merge", "future"], cwd=repository.path, env=environment, capture_output=True, check=False)
    with pytest.raises(ConfigError, match="unmerged paths"):
        locate(Repo(url="project"), folder=tmp_path, include_uncommitted=True)


# --- bundles


def test_a_bundle_is_a_repository(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("bundle", "create", str(tmp_path / "all.bundle"), "--all")
    for base, commit in {"main": "main", "v2": "v2^{commit}", "HEAD": "main"}.items():
        source = locate(Repo(url="all.bundle", base=base), folder=tmp_path)
        assert (source.kind, source.base) == ("bundle", repository.git("rev-parse", commit))


def test_a_bundle_of_one_branch_needs_no_head(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("bundle", "create", str(tmp_path / "one.bundle"), "future")
    assert locate(Repo(url="one.bundle"), folder=tmp_path).ref == "refs/heads/future"


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("# v1 of my notes\n")
    with pytest.raises(ConfigError, match="not a git bundle"):
        locate(Repo(url="notes.txt"), folder=tmp_path)


# --- remotes


def test_a_remote_ref_is_pinned_without_a_clone(tmp_path: Path) -> None:
    repository = sample(tmp_path / "served" / "project")
    with git_daemon(tmp_path / "served") as url:
        source = locate(Repo(url=f"{url}/project", base="v2"), folder=tmp_path)
    assert (source.kind, source.base) == ("remote", repository.git("rev-parse", "v2^{commit}"))


def test_a_misspelt_remote_base_brings_the_near_names(tmp_path: Path) -> None:
    sample(tmp_path / "served" / "project")
    with git_daemon(tmp_path / "served") as url, pytest.raises(ConfigError, match="did you mean 'future'"):
        locate(Repo(url=f"{url}/project", base="futur"), folder=tmp_path)


def test_a_remote_that_does_not_answer_is_an_error_that_may_be_retried(tmp_path: Path) -> None:
    with pytest.raises(RepoError, match="git ls-remote"):
        locate(Repo(url="git://127.0.0.1:1/x"), folder=tmp_path)


def test_credentials_in_a_url_are_in_no_text(tmp_path: Path) -> None:
    secret = "ghp_s3cr3t"
    with pytest.raises(RepoError) as caught:
        locate(Repo(url=f"http://user:{secret}@127.0.0.1:1/x"), folder=tmp_path)
    source = locate(Repo(url=f"https://user:{secret}@host/x", base="a" * 40), folder=tmp_path)
    assert secret not in f"{caught.value} {caught.value!r} {source!r} {source.url}"
    assert secret in source.location


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
