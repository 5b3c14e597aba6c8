"""`open_quarantine`: base and what it reaches, and nothing else, whatever the source looks like."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner.errors import ConfigError, RepoError
from runner.policy import Policy
from runner.repo import Quarantine, hide, locate, open_quarantine, remove_bases
from runner.task import Repo
from tests.repo.remotes import git_daemon, http_server
from tests.repo.repositories import Repository, sample


def reachable(repository: Repository, commit: str) -> set[str]:
    return set(repository.git("rev-list", "--objects", "--no-object-names", commit).split())


def held(quarantine: Quarantine) -> set[str]:
    return Repository.existing(quarantine.path).objects()


def test_it_holds_the_history_of_base_and_nothing_else(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    source = locate(Repo(url="project"), folder=tmp_path)
    with open_quarantine(source, folder=tmp_path) as quarantine:
        assert held(quarantine) == reachable(repository, "main")
        assert quarantine.git("for-each-ref", "--format=%(refname)") == b"refs/claw/base\n"
        assert quarantine.git("fsck", "--full", "--strict") == b""


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    sample(tmp_path / "project")
    job = tmp_path / "job"
    job.mkdir()
    source = locate(Repo(url="project"), folder=tmp_path)
    with open_quarantine(source, folder=job):
        assert list(job.iterdir()) != []
    assert list(job.iterdir()) == []


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    left = tmp_path / "quarantine" / "repo.git"
    Repository(left, "--bare").git("symbolic-ref", "HEAD", "refs/heads/broken")
    (left / "refs/heads/main").write_text("garbage\n")
    with open_quarantine(locate(Repo(url="project"), folder=tmp_path), folder=tmp_path) as quarantine:
        assert held(quarantine) == reachable(repository, "main")


@pytest.mark.parametrize("form", ["bare", "worktree", "alternates", "packed", "sha256", 'odd "name\\:'])
def test_a_local_repository_of_any_form_is_copied(form: str, tmp_path: Path) -> None:
    name = form if form.startswith("odd") else "project"
    if form == "sha256":
        repository = Repository(tmp_path / name, "--object-format=sha256")
        repository.write("a", "1")
        repository.commit()
    else:
        repository = sample(tmp_path / name)
    match form:
        case "bare":
            repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "copy"))
        case "worktree":
            repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "copy"), "main")
        case "alternates":
            repository.git("clone", "--quiet", "--shared", ".", str(tmp_path / "copy"))
        case "packed":
            repository.git("gc", "--quiet")
    url = "copy" if (tmp_path / "copy").exists() else name
    with open_quarantine(locate(Repo(url=url), folder=tmp_path), folder=tmp_path) as quarantine:
        assert held(quarantine) == reachable(repository, "main")


def test_a_shallow_clone_stays_shallow(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("clone", "--quiet", "--depth=1", "--no-single-branch", f"file://{repository.path}", "../shallow")
    with open_quarantine(locate(Repo(url="shallow"), folder=tmp_path), folder=tmp_path) as quarantine:
        assert quarantine.shallow == f"{repository.head}\n".encode()  # and not where other branches end
        assert quarantine.git("fsck", "--full", "--strict") == b""


def test_replaced_objects_and_grafts_of_the_user_do_not_get_in(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("replace", "main", "future")
    with open_quarantine(locate(Repo(url="project"), folder=tmp_path), folder=tmp_path) as quarantine:
        assert b"a - b" in quarantine.git("show", f"{quarantine.base}:app.py")


def test_a_partial_clone_is_refused_with_the_way_out(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("config", "uploadpack.allowFilter", "true")
    subprocess.run(
        ["git", "clone", "--quiet", "--bare", "--filter=blob:none", f"file://{repository.path}", tmp_path / "partial"],
        check=True,
        capture_output=True,
    )
    source = locate(Repo(url="partial"), folder=tmp_path)
    with pytest.raises(ConfigError, match="git fetch --refetch"), open_quarantine(source, folder=tmp_path):
        pass
    assert not (tmp_path / "quarantine").exists()


def test_the_users_repository_is_only_read(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.write("app.py", "changed\n")
    repository.write("new.py", "new\n")
    before, objects = repository.state(), repository.objects()
    source = locate(Repo(url="project"), folder=tmp_path, include_uncommitted=True)
    with open_quarantine(source, folder=tmp_path):
        pass
    assert repository.state() == before
    assert repository.objects() == objects


# --- uncommitted changes


def test_uncommitted_changes_come_as_a_commit_on_head(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.write(".gitignore", "*.log\n")
    repository.commit()
    repository.write("app.py", "unstaged\n")
    repository.write("staged.py", "staged\n")
    repository.git("add", "staged.py")
    repository.write(b"odd \xff\n name", b"\x00\xff\r\n")
    repository.write("noise.log", "secret\n")
    (repository.path / "README.md").unlink()
    source = locate(Repo(url="project"), folder=tmp_path, include_uncommitted=True)
    with open_quarantine(source, folder=tmp_path) as quarantine:
        assert quarantine.git("rev-parse", f"{quarantine.base}~1").decode().strip() == repository.head
        names = quarantine.git("ls-tree", "-r", "-z", "--name-only", quarantine.base).split(b"\0")
        assert b"odd \xff\n name" in names
        assert {b"noise.log", b"README.md"}.isdisjoint(names)
        assert quarantine.git("show", f"{quarantine.base}:app.py") == b"unstaged\n"
        assert quarantine.git("show", f"{quarantine.base}:staged.py") == b"staged\n"


def test_the_same_uncommitted_changes_make_the_same_commit(tmp_path: Path) -> None:
    sample(tmp_path / "project").write("app.py", "changed\n")
    source = locate(Repo(url="project"), folder=tmp_path, include_uncommitted=True)
    with open_quarantine(source, folder=tmp_path) as quarantine:
        first = quarantine.base
    with open_quarantine(source, folder=tmp_path) as quarantine:
        assert quarantine.base == first != source.base


def test_without_uncommitted_changes_base_is_head(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    source = locate(Repo(url="project"), folder=tmp_path, include_uncommitted=True)
    with open_quarantine(source, folder=tmp_path) as quarantine:
        assert quarantine.base == repository.head


def test_without_the_flag_uncommitted_changes_stay_outside(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.write("app.py", "changed\n")
    with open_quarantine(locate(Repo(url="project"), folder=tmp_path), folder=tmp_path) as quarantine:
        assert quarantine.base == repository.head


def test_what_the_user_ignores_everywhere_is_not_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = sample(tmp_path / "project")
    (tmp_path / "ignore").write_text(".env\n")
    (tmp_path / ".gitconfig").write_text(f"[core]\n\texcludesFile = {tmp_path}/ignore\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    repository.write(".env", "TOKEN=secret\n")
    source = locate(Repo(url="project"), folder=tmp_path, include_uncommitted=True)
    with open_quarantine(source, folder=tmp_path) as quarantine:
        assert quarantine.base == repository.head


def test_uncommitted_changes_of_a_linked_worktree(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), "v1")
    (tmp_path / "linked" / "app.py").write_text("linked\n")
    source = locate(Repo(url="linked"), folder=tmp_path, include_uncommitted=True)
    with open_quarantine(source, folder=tmp_path) as quarantine:
        assert quarantine.git("show", f"{quarantine.base}:app.py") == b"linked\n"
        assert quarantine.git("rev-parse", f"{quarantine.base}~1").decode().strip() == repository.git("rev-parse", "v1")


# --- submodules, LFS


def test_submodules_are_refused_by_name(tmp_path: Path) -> None:
    library, repository = sample(tmp_path / "library"), sample(tmp_path / "project")
    repository.git("submodule", "--quiet", "add", str(library.path), "libs/one")
    repository.commit()
    source = locate(Repo(url="project"), folder=tmp_path)
    with pytest.raises(ConfigError, match=r"submodules \(libs/one\)"), open_quarantine(source, folder=tmp_path):
        pass


def test_files_in_lfs_are_refused_by_name(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.write("assets/.gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    repository.write("assets/a.bin", f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")
    repository.commit()
    source = locate(Repo(url="project"), folder=tmp_path)
    with pytest.raises(ConfigError, match=r"Git LFS \(assets/a\.bin\)"), open_quarantine(source, folder=tmp_path):
        pass


def test_lfs_attributes_without_pointers_are_no_hindrance(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.write(".gitattributes", "*.bin filter=lfs\n")
    head = repository.commit()
    with open_quarantine(locate(Repo(url="project"), folder=tmp_path), folder=tmp_path) as quarantine:
        assert quarantine.base == head


# --- bundles and remotes


@pytest.mark.parametrize("base", ["main", "v1", "v2", "HEAD"])
def test_a_bundle_gives_no_more_than_base(base: str, tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("bundle", "create", str(tmp_path / "all.bundle"), "--all")
    with open_quarantine(locate(Repo(url="all.bundle", base=base), folder=tmp_path), folder=tmp_path) as quarantine:
        assert held(quarantine) == reachable(repository, f"{base}^{{commit}}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.bundle", "project"]


def test_a_commit_inside_a_bundle_can_be_base(tmp_path: Path) -> None:
    repository = sample(tmp_path / "project")
    commit = repository.git("rev-parse", "main~1")
    repository.git("bundle", "create", str(tmp_path / "all.bundle"), "future")
    with open_quarantine(locate(Repo(url="all.bundle", base=commit), folder=tmp_path), folder=tmp_path) as quarantine:
        assert held(quarantine) == reachable(repository, commit)


def test_a_bundle_that_needs_other_commits_is_refused(tmp_path: Path) -> None:
    sample(tmp_path / "project").git("bundle", "create", str(tmp_path / "part.bundle"), "main", "^v1")
    source = locate(Repo(url="part.bundle"), folder=tmp_path)
    with pytest.raises(ConfigError, match="not a whole history"), open_quarantine(source, folder=tmp_path):
        pass


@pytest.mark.parametrize("base", ["main", "v2", "HEAD"])
def test_a_remote_gives_no_more_than_base(base: str, tmp_path: Path) -> None:
    repository = sample(tmp_path / "served" / "project")
    with git_daemon(tmp_path / "served") as url:
        source = locate(Repo(url=f"{url}/project", base=base), folder=tmp_path)
        with open_quarantine(source, folder=tmp_path) as quarantine:
            assert held(quarantine) == reachable(repository, f"{base}^{{commit}}")


@pytest.mark.parametrize("protocol", ["0", "2"])
def test_a_commit_of_a_remote_can_be_base_even_where_ids_are_not_served(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = sample(tmp_path / "served" / "project")
    commit = repository.git("rev-parse", "main~1")
    # Protocol 0 gives no commit by its id, protocol 2 does.
    (tmp_path / ".gitconfig").write_text(f"[protocol]\n\tversion = {protocol}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with git_daemon(tmp_path / "served") as url:
        source = locate(Repo(url=f"{url}/project", base=commit), folder=tmp_path)
        with open_quarantine(source, folder=tmp_path) as quarantine:
            assert held(quarantine) == reachable(repository, commit)


def test_a_commit_that_a_remote_does_not_have_is_refused(tmp_path: Path) -> None:
    sample(tmp_path / "served" / "project")
    with git_daemon(tmp_path / "served") as url:
        source = locate(Repo(url=f"{url}/project", base="1" * 40), folder=tmp_path)
        with pytest.raises(ConfigError, match="no commit '1111"), open_quarantine(source, folder=tmp_path):
            pass


def test_the_users_own_credentials_open_a_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = sample(tmp_path / "served" / "project")
    helper = tmp_path / "helper"
    helper.write_text("#!/bin/sh\n[ $1 = get ] && echo username=ada && echo password=s3cr3t\nexit 0\n")
    helper.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    with http_server(tmp_path / "served", user="ada", password="s3cr3t") as url:
        with pytest.raises(RepoError):
            locate(Repo(url=f"{url}/project/.git"), folder=tmp_path)
        (tmp_path / ".gitconfig").write_text(f"[credential]\n\thelper = {helper}\n")
        source = locate(Repo(url=f"{url}/project/.git", base="main"), folder=tmp_path)
        with open_quarantine(source, folder=tmp_path) as quarantine:
            assert held(quarantine) == reachable(repository, "main")
            config = (quarantine.path / "config").read_text()
    assert "s3cr3t" not in config
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["project"]


def test_a_remote_without_a_password_does_not_wait_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample(tmp_path / "served" / "project")
    monkeypatch.setenv("HOME", str(tmp_path))
    with (
        http_server(tmp_path / "served", user="ada", password="s3cr3t") as url,
        pytest.raises(RepoError, match="could not read Username"),
    ):
        locate(Repo(url=f"{url}/project/.git"), folder=tmp_path)


# --- copies that are kept


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the copies, which is this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CLAW_SNAPSHOT_SPACE", "1g")
    return tmp_path / "cache/claw-runner/bases"


def copies(kept: Path) -> set[str]:
    return {path.name for path in kept.iterdir() if path.is_dir()}


def own_objects(quarantine: Quarantine) -> list[Path]:
    return [path for path in (quarantine.path / "objects").rglob("*") if path.is_file() and path.name != "alternates"]


def test_what_base_reaches_is_copied_once_and_nothing_else_is_lent(tmp_path: Path, kept: Path) -> None:
    repository = sample(tmp_path / "project")
    source = locate(Repo(url="project"), folder=tmp_path)
    for _ in range(2):
        with open_quarantine(source, folder=tmp_path) as quarantine:
            assert held(quarantine) == reachable(repository, "main")
            assert own_objects(quarantine) == []
            assert quarantine.git("for-each-ref", "--format=%(refname)") == b"refs/claw/base\n"
            quarantine.git("hash-object", "-w", "--stdin")
            assert quarantine.pack_bytes > 0
        assert len(copies(kept)) == 1
    with open_quarantine(source, folder=tmp_path) as quarantine:
        assert held(quarantine) == reachable(repository, "main")


def test_the_same_commit_in_a_shallow_history_has_a_copy_of_its_own(tmp_path: Path, kept: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.git("clone", "--quiet", "--depth=1", f"file://{repository.path}", "../shallow")
    for url, ends in (("project", b""), ("shallow", f"{repository.head}\n".encode()), ("project", b"")):
        with open_quarantine(locate(Repo(url=url), folder=tmp_path), folder=tmp_path) as quarantine:
            assert quarantine.shallow == ends
    assert len(copies(kept)) == 2


def test_uncommitted_changes_are_a_base_of_their_own(tmp_path: Path, kept: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.write("app.py", "changed\n")
    source = locate(Repo(url="project"), folder=tmp_path, include_uncommitted=True)
    for _ in range(2):
        with open_quarantine(source, folder=tmp_path) as quarantine:
            assert quarantine.git("show", f"{quarantine.base}:app.py") == b"changed\n"
    assert len(copies(kept)) == 1


def test_what_is_refused_is_not_kept(tmp_path: Path, kept: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.write("big.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    repository.write(".gitattributes", "*.bin filter=lfs\n")
    repository.commit()
    for _ in range(2):
        with (
            pytest.raises(ConfigError, match="Git LFS"),
            open_quarantine(locate(Repo(url="project"), folder=tmp_path), folder=tmp_path),
        ):
            pass
    assert copies(kept) == set()


def test_copies_that_nobody_borrows_from_go_when_there_is_too_much(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sample(tmp_path / "first"), sample(tmp_path / "second")
    second.write("more", "more\n")
    second.commit()
    monkeypatch.setenv("CLAW_SNAPSHOT_SPACE", "1k")
    with open_quarantine(locate(Repo(url="first"), folder=tmp_path), folder=tmp_path / "first") as borrowing:
        with open_quarantine(locate(Repo(url="second"), folder=tmp_path), folder=tmp_path / "second"):
            assert len(copies(kept)) == 2
        assert held(borrowing) == reachable(first, "main")
        assert len(remove_bases(dry_run=True)) == 2
        assert len(remove_bases()) == 1
        assert held(borrowing) == reachable(first, "main")
    assert len(remove_bases()) == 1
    assert copies(kept) == set()


def test_what_is_hidden_is_found_once(tmp_path: Path, kept: Path) -> None:
    repository = sample(tmp_path / "project")
    repository.write(b"odd \xff.env", "secret\n")
    repository.commit()
    source = locate(Repo(url="project"), folder=tmp_path)
    found = []
    for pattern in ("**/*.env", "**/*.env", "docs/**"):
        policy = Policy.model_validate({"version": 1, "mode": "blacklist", "deny": [f"Read({pattern})"]})
        with open_quarantine(source, folder=tmp_path) as quarantine:
            found.append(hide(quarantine, policy))
            assert quarantine.notes is not None
            notes = len(list(quarantine.notes.glob("hidden-*")))
    assert found[0] == found[1] != found[2]
    assert (found[0].paths, notes) == (("odd \udcff.env",), 2)
