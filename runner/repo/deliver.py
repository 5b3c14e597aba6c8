"""The finished branch to the user: into their repository, or as a bundle where there is none to write to."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.errors import ConfigError, RepoError
from runner.repo.git import GitFailed, git, receive_pack
from runner.repo.quarantine import Quarantine
from runner.repo.source import Source
from runner.repo.take import Taken

BUNDLE = "branch.bundle"
MAX_SUFFIX = 100
DELIVER_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """Where the work is."""

    branch: str
    """Its name, without refs/heads/; not always the one asked for."""
    repository: str | None
    """The repository that it is in now; None when there is only the bundle."""
    bundle: Path | None
    """The bundle with it; None when it went into a repository."""


def check_branch(source: Source, branch: str) -> None:
    """Raise ConfigError when no branch of that name can be made, so that it is known before any cost."""
    try:
        git(Path("/"), "check-ref-format", f"refs/heads/{branch}")
    except GitFailed as error:
        raise ConfigError(f"output.branch: {branch!r} is not a branch name") from error
    if branch.startswith("-") or branch == "HEAD" or not branch.isprintable():
        raise ConfigError(f"output.branch: {branch!r} is not a branch name")
    if source.kind == "local":
        _refuse_conflict(source, branch)


def deliver(
    quarantine: Quarantine, taken: Taken, branch: str, *, folder: Path, ours: Collection[str] = ()
) -> Delivered:
    """Make `branch` point to the work: in the user's local repository, else in `folder`/branch.bundle.

    An existing branch is never changed: then the name gets a suffix (-2, -3, ...); but one that points to this work, or
    to one of the commits `ours` that earlier attempts at the same job took, is what an interrupted call left, and is
    moved on. Work tree, index, HEAD and all other refs stay as they are.
    Raises RepoError when the repository does not take it; then the bundle is there all the same.
    """
    if taken.commit is None:
        raise RepoError("nothing was changed, so there is no branch to deliver")
    if quarantine.source.kind != "local":
        return _deliver_bundle(quarantine, taken.commit, branch, folder)
    try:
        return _deliver_local(quarantine, taken.commit, branch, ours)
    except RepoError as error:
        bundle = _deliver_bundle(quarantine, taken.commit, branch, folder).bundle
        raise RepoError(f"{error}; the work is in {bundle}") from error


def _refuse_conflict(source: Source, branch: str) -> None:
    """`a` and `a/b` cannot both be branches."""
    command = ("--git-dir", source.location, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/")
    names = git(Path(source.location), *command).decode("utf-8", "surrogateescape").splitlines()
    clash = next((name for name in names if branch.startswith(f"{name}/") or name.startswith(f"{branch}/")), None)
    if clash:
        raise ConfigError(f"output.branch: {branch!r} cannot be made beside the branch {clash!r}; choose another name")


def _names(branch: str) -> Iterator[str]:
    yield branch
    yield from (f"{branch}-{number}" for number in range(2, MAX_SUFFIX + 2))


def _deliver_local(quarantine: Quarantine, commit: str, branch: str, ours: Collection[str]) -> Delivered:
    source = quarantine.source
    common = _common_dir(source)
    for name in _names(branch):
        if _push(quarantine, commit, common, name, ours):
            return Delivered(branch=name, repository=source.url, bundle=None)
    raise RepoError(f"{source.url} has {branch!r} and {MAX_SUFFIX} of its successors; remove some branches")


def _common_dir(source: Source) -> Path:
    command = ("--git-dir", source.location, "rev-parse", "--path-format=absolute", "--git-common-dir")
    return Path(git(Path(source.location), *command).decode().rstrip("\n"))


def _push(quarantine: Quarantine, commit: str, to: Path, branch: str, ours: Collection[str]) -> bool:
    """Create the branch, or move ours; False when there is one of that name that is not this work."""
    ref = f"refs/heads/{branch}"
    found = _at(to, ref)
    if found == commit:
        return True
    if found is not None and (found not in ours or _is_checked_out(to, ref)):
        return False
    # The lease says what the branch must be now (nothing: must not exist); the receiving git checks the objects and
    # moves it in one transaction, so of two jobs with one name only one gets it.
    push = ("push", "--quiet", "--no-verify", str(to), f"{commit}:{ref}", f"--force-with-lease={ref}:{found or ''}")
    try:
        quarantine.git(*push, f"--receive-pack={receive_pack()}", seconds=DELIVER_SECONDS)
    except GitFailed:
        found = _at(to, ref)
        if found is None:
            raise
        return found == commit
    return True


def _is_checked_out(git_dir: Path, ref: str) -> bool:
    """Whether some work tree has the branch: to move it there would make its files look changed."""
    out = git(git_dir, "--git-dir", str(git_dir), "worktree", "list", "--porcelain").decode("utf-8", "replace")
    return f"branch {ref}" in out.splitlines()


def _at(git_dir: Path, ref: str) -> str | None:
    out = git(git_dir, "--git-dir", str(git_dir), "for-each-ref", "--format=%(objectname) %(refname)", ref).decode()
    return next((line.split()[0] for line in out.splitlines() if line.split()[1:] == [ref]), None)


def _deliver_bundle(quarantine: Quarantine, commit: str, branch: str, folder: Path) -> Delivered:
    """A bundle of the branch that needs base: `git fetch branch.bundle BRANCH` in any clone takes it."""
    quarantine.git("update-ref", f"refs/heads/{branch}", commit)
    with tempfile.TemporaryDirectory(dir=quarantine.path, prefix="bundle-") as scratch:
        written = Path(scratch) / BUNDLE
        bundle = ("bundle", "create", "--quiet", str(written), f"refs/heads/{branch}", f"^{quarantine.base}")
        quarantine.git(*bundle, seconds=DELIVER_SECONDS)
        written.replace(folder / BUNDLE)
    return Delivered(branch=branch, repository=None, bundle=folder / BUNDLE)
