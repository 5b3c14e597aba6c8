"""Where the work comes from: a path, a bundle or a URL, and the commit that its base names, pinned."""

from __future__ import annotations

import difflib
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from runner.errors import ConfigError, RepoError
from runner.repo.git import GitFailed, create, fetch, git, masked, object_format, printable
from runner.task import Repo

REMOTE_SCHEMES = ("https", "http", "ssh", "git")
OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
"""A full object name: SHA-1, or SHA-256."""
OLDEST_GIT = (2, 34)
"""The first release that has every variable and option used here."""
REMOTE_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A repository and the commit to start from. Nothing was written to find it."""

    url: str
    """For people: as the task has it (local ones as an absolute path), without credentials."""
    kind: Literal["local", "bundle", "remote"]
    location: str = field(repr=False)
    """For git: the repository's git folder, the bundle's path, or the URL."""
    base: str
    """Commit id."""
    ref: str | None
    """Full name of the branch or tag that base named; None when it named a commit."""
    work_tree: Path | None = None
    """Of a local repository that has one."""
    uncommitted: bool = False
    """Start from the uncommitted changes on top of base."""


def own_files(source: Source, files: Iterable[Path]) -> tuple[str, ...]:
    """Those of the files that lie in the repository's work tree, from its root."""
    root = source.work_tree.resolve() if source.work_tree else None
    found = (file.resolve() for file in files)
    return tuple(str(file.relative_to(root)) for file in found if root and file.is_relative_to(root))


def locate(repo: Repo, *, folder: Path, include_uncommitted: bool = False) -> Source:
    """Find `repo.url` (a path is relative to `folder`, the task's) and pin `repo.base` to a commit id.

    Raises ConfigError for what only the user can put right (no such repository, no such base), RepoError for a remote
    that does not answer.
    """
    _require_git(folder)
    path = _local_path(repo.url, folder)
    if path is None:
        source = _remote(repo)
    elif path.is_dir():
        source = _local(path, repo.base)
    else:
        source = _bundle(path, repo.base)
    return _with_uncommitted(source) if include_uncommitted else source


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint that names what `name` may have meant."""
    short = sorted({re.sub(r"^refs/(heads|tags|remotes/origin)/", "", each) for each in names} - {"HEAD"})
    close = difflib.get_close_matches(name, short, n=3, cutoff=0.5) or short[:5]
    return f"did you mean {' or '.join(map(repr, close))}?" if close else "it has no branches or tags"


def _require_git(folder: Path) -> None:
    text = git(folder, "version").decode("utf-8", "replace")
    found = re.search(r"(\d+)\.(\d+)", text)
    if not found or (int(found[1]), int(found[2])) < OLDEST_GIT:
        needed = ".".join(map(str, OLDEST_GIT))
        raise RepoError(f"{printable(text)} is too old; claw-runner needs git {needed} or newer on this machine")


def _local_path(url: str, folder: Path) -> Path | None:
    """The path that `url` names; None when it is remote."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme.lower() == "file":
        return _existing(Path(unquote(urlsplit(url).path)), url)
    if separator and scheme.lower() in REMOTE_SCHEMES:
        return None
    if separator or "::" in url:
        raise ConfigError(f"repo.url: {masked(url)!r} must be a path or start with {', '.join(REMOTE_SCHEMES)} or file")
    path = folder / Path(url).expanduser()
    if not path.exists() and re.match(r"[^/:-][^/:]*:.", url):  # host:path, as scp has it
        return None
    return _existing(path, url)


def _existing(path: Path, url: str) -> Path:
    if not path.exists():
        raise ConfigError(f"repo.url: {url!r} is not there (looked at {path}); give a path or a git URL")
    return path.resolve()


# --- a repository on this machine


def _local(path: Path, base: str) -> Source:
    # Imported here: it takes some 80 ms, and `claw-runner --help` must not pay for it.
    from git import InvalidGitRepositoryError  # noqa: PLC0415
    from git import Repo as GitRepo  # noqa: PLC0415

    _require_trusted(path)
    try:
        with GitRepo(path, search_parent_directories=True, expand_vars=False) as repo:
            git_dir = Path(repo.git_dir).resolve()
            work_tree = None if repo.bare or repo.working_tree_dir is None else Path(repo.working_tree_dir).resolve()
    except InvalidGitRepositoryError as error:
        raise _no_repository(path) from error
    commit, ref = _resolve(git_dir, base, shown=str(work_tree or git_dir))
    return Source(
        url=str(work_tree or git_dir), kind="local", location=str(git_dir), base=commit, ref=ref, work_tree=work_tree
    )


def _require_trusted(path: Path) -> None:
    """Let git judge, under the user's own `safe.directory`, whether it may read a repository of another user."""
    try:
        git(path, "rev-parse", "--git-dir", as_user=True)
    except GitFailed as error:
        if "dubious ownership" in error.stderr:
            raise ConfigError(
                f"repo.url: {path} belongs to another user; if you trust it: "
                f"git config --global --add safe.directory {path}"
            ) from error
        if "not a git repository" in error.stderr:
            raise _no_repository(path) from error
        raise


def _no_repository(path: Path) -> ConfigError:
    return ConfigError(f"repo.url: {path} is not in a git repository; make it one with: git init, and commit")


def _resolve(git_dir: Path, base: str, *, shown: str) -> tuple[str, str | None]:
    """Commit id and full ref. A branch comes before a tag of the same name, then the branch as origin has it."""
    for ref in (f"refs/heads/{base}", f"refs/tags/{base}", f"refs/remotes/origin/{base}"):
        commit = _commit_of(git_dir, ref) if _is_ref(git_dir, ref) else None
        if commit:
            return commit, ref
    commit = _commit_of(git_dir, base)
    if commit:
        return commit, None
    refs = git(git_dir, "for-each-ref", "--format=%(refname)").decode("utf-8", "replace").split()
    if not refs:
        raise ConfigError(f"repo.url: {shown} has no commits yet; commit something first")
    if base == "HEAD":
        raise ConfigError(f"repo.base: HEAD of {shown} has no commits yet; {nearest('main', refs)}")
    raise ConfigError(f"repo.base: no branch, tag or commit {base!r} in {shown}; {nearest(base, refs)}")


def _is_ref(git_dir: Path, name: str) -> bool:
    try:
        git(git_dir, "--git-dir", str(git_dir), "show-ref", "--verify", "--quiet", name)
    except GitFailed:
        return False
    return True


def _commit_of(git_dir: Path, name: str) -> str | None:
    try:
        out = git(git_dir, "--git-dir", str(git_dir), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except GitFailed:
        return None
    return out.decode().strip()


def _with_uncommitted(source: Source) -> Source:
    if source.work_tree is None:
        raise ConfigError(f"uncommitted changes were asked for, but {source.url} has no work tree")
    git_dir = Path(source.location)
    if _commit_of(git_dir, "HEAD") != source.base:
        raise ConfigError("uncommitted changes belong to HEAD; they cannot be put on another repo.base")
    unmerged = git(git_dir, "--git-dir", str(git_dir), "ls-files", "--unmerged", "-z")
    if unmerged:
        raise ConfigError(f"{source.url} has unmerged paths; finish or abort the merge first")
    return replace(source, uncommitted=True)


# --- a bundle, a remote


def _bundle(path: Path, base: str) -> Source:
    with path.open("rb") as file:
        if not re.match(rb"# v[23] git bundle\n", file.read(32)):
            raise ConfigError(f"repo.url: {path} is a file, but not a git bundle")
    heads = _listed(git(path.parent, "bundle", "list-heads", str(path)))
    commit, ref = _named(heads, base, shown=str(path))
    return Source(url=str(path), kind="bundle", location=str(path), base=_peeled(path, commit, ref), ref=ref)


def _peeled(path: Path, id: str, ref: str | None) -> str:
    """The commit that a tag in a bundle means: the list of a bundle has the id of the tag itself."""
    if ref is None or not ref.startswith("refs/tags/"):
        return id
    with tempfile.TemporaryDirectory(prefix="claw-repo-") as folder:
        scratch = Path(folder) / "tag.git"
        create(scratch, object_format(id))
        fetch(scratch, str(path), f"+{ref}:{ref}")
        return git(scratch, "rev-parse", "--verify", f"{ref}^{{commit}}").decode().strip()


def _remote(repo: Repo) -> Source:
    if OBJECT_ID.fullmatch(repo.base):
        commit, ref = repo.base, None
    else:
        commit, ref = _named(_remote_heads(repo.url, repo.base), repo.base, shown=masked(repo.url))
    return Source(url=masked(repo.url), kind="remote", location=repo.url, base=commit, ref=ref)


def _remote_heads(url: str, base: str) -> dict[str, str]:
    """Refs that base may mean; all branches and tags when there is none, for the hint."""
    wanted = ("HEAD", base, f"{base}^{{}}")
    heads = _listed(_ls_remote(url, *wanted))
    exact = {base, f"refs/heads/{base}", f"refs/tags/{base}"}
    return heads if exact & heads.keys() else _listed(_ls_remote(url, "refs/heads/*", "refs/tags/*"))


def _ls_remote(url: str, *patterns: str) -> bytes:
    # The user's own configuration holds here: credential helpers, ssh, proxies.
    return git(
        Path("/"), "ls-remote", "--", url, *patterns, seconds=REMOTE_SECONDS, as_user=True, config=protocols(url)
    )


def protocols(url: str) -> dict[str, str]:
    """Configuration that lets git speak to `url` in its own protocol and no other."""
    scheme, separator, _ = url.partition("://")
    return {"protocol.allow": "never", f"protocol.{scheme.lower() if separator else 'ssh'}.allow": "always"}


def _listed(out: bytes) -> dict[str, str]:
    """Ref name -> commit id of `ls-remote` and `list-heads`; an annotated tag counts as the commit it points to."""
    lines = (line.split(None, 1) for line in out.decode("utf-8", "replace").splitlines())
    refs = {name: id for id, name in lines}
    peeled = {name.removesuffix("^{}"): id for name, id in refs.items() if name.endswith("^{}")}
    return {name: id for name, id in (refs | peeled).items() if not name.endswith("^{}")}


def _named(heads: dict[str, str], base: str, *, shown: str) -> tuple[str, str | None]:
    for ref in (base, f"refs/heads/{base}", f"refs/tags/{base}"):
        if ref in heads:
            return heads[ref], ref
    if OBJECT_ID.fullmatch(base):
        return base, None
    if not heads:
        raise ConfigError(f"repo.url: {shown} has no commits yet")
    if base == "HEAD" and len(heads) == 1:
        ref, commit = next(iter(heads.items()))
        return commit, ref
    hint = nearest(base, heads)
    raise ConfigError(f"repo.base: no branch, tag or full commit id {base!r} in {shown}; {hint}")
