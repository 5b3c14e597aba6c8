"""A private bare repository on the host: base and what base reaches, and nothing else; then what came out and passed.

Because it holds no other object, nothing that the agent was not given can be named by what it sends back. What base
reaches is copied once and lent to every quarantine on it (git's alternates): each copy is a repository that holds
exactly that, named after base, complete or not there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from runner import cache
from runner.errors import ConfigError, RunnerError
from runner.repo.git import GitFailed, create, fetch, git, identity, object_format, printable, quoted_path
from runner.repo.source import Source, nearest, protocols
from runner.scratch import scratch
from runner.task import Author

BASE_REF = "refs/claw/base"
REPOSITORY = "repo.git"
BASES = "bases"
COPY_SECONDS = 1800.0
"""For packing or fetching the whole history of base."""
LFS_POINTER = "version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Quarantine:
    """The open quarantine of one job."""

    path: Path
    source: Source
    base: str
    """Commit that the work starts from: the source's, or a snapshot of its uncommitted changes on top."""
    object_format: str
    """sha1 or sha256."""
    notes: Path | None = None
    """A folder for what follows from base alone, that the next quarantine on it finds; None: there is none."""

    def git(self, *args: str, seconds: float = 60.0) -> bytes:
        """Output of one git command in the quarantine, with bounded resources."""
        return git(self.path, *args, seconds=seconds, guarded=True)

    def tree(self, commit: str) -> str:
        return self.git("rev-parse", "--verify", f"{commit}^{{tree}}").decode().strip()

    @property
    def pack_bytes(self) -> int:
        """Size of what base reaches, compressed."""
        parts = [self.path, *([self.notes / REPOSITORY] if self.notes else ())]
        return sum(pack.stat().st_size for part in parts for pack in (part / "objects" / "pack").glob("*.pack"))

    @property
    def shallow(self) -> bytes:
        """The commits at which a shallow history ends, one per line; empty for a whole one."""
        file = self.path / "shallow"
        return file.read_bytes() if file.exists() else b""


@contextmanager
def open_quarantine(source: Source, *, folder: Path | None = None) -> Iterator[Quarantine]:
    """A repository with base's history below `folder` (or a temporary folder), which is removed at the end.

    It is removed when this process is killed, too; what it borrows stays (runner.cache). Raises ConfigError for
    submodules, LFS and bases that are not there, RepoError when git or a remote fails.
    """
    somewhere = tempfile.TemporaryDirectory(prefix="claw-repo-") if folder is None else nullcontext(folder)
    with somewhere as parent, scratch(Path(parent) / "quarantine") as place, _origin(source, place) as origin:
        path = place / REPOSITORY
        if not cache.space():
            yield _filled(path, origin)
            return
        with _kept(origin) as entry:
            yield _borrowing(path, origin, entry)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Origin:
    """Where base is to be had from."""

    source: Source
    base: str
    object_format: str
    git_dir: Path | None = None
    """None: it must be fetched."""
    objects: tuple[Path, ...] = ()
    """Object folders of `git_dir`, and one with the uncommitted changes."""


@contextmanager
def _origin(source: Source, place: Path) -> Iterator[_Origin]:
    if source.kind != "local":
        yield _Origin(source=source, base=source.base, object_format=object_format(source.base))
        return
    git_dir = Path(source.location)
    kind = _ask(git_dir, "--show-object-format")
    objects = Path(_ask(git_dir, "--git-path", "objects"))
    if not source.uncommitted:
        yield _Origin(source=source, base=source.base, object_format=kind, git_dir=git_dir, objects=(objects,))
        return
    with tempfile.TemporaryDirectory(dir=place, prefix="snapshot-") as folder:
        base = _snapshot(source, objects, Path(folder))
        both = (objects, Path(folder))
        yield _Origin(source=source, base=base, object_format=kind, git_dir=git_dir, objects=both)


def _filled(path: Path, origin: _Origin) -> Quarantine:
    """A repository of its own with all that base reaches. Raises ConfigError for what is not supported in that."""
    if origin.git_dir:
        create(path, origin.object_format)
        copy_history(origin.git_dir, path, origin.base, *origin.objects)
    else:
        _fetch(path, origin.source)
    git(path, "update-ref", BASE_REF, origin.base)
    quarantine = Quarantine(path=path, source=origin.source, base=origin.base, object_format=origin.object_format)
    _refuse_submodules(quarantine)
    _refuse_lfs(quarantine)
    return quarantine


# --- copies that are kept


def _borrowing(path: Path, origin: _Origin, entry: Path) -> Quarantine:
    """A repository that has what the copy in `entry` has, and makes its own what is added."""
    lender = entry / REPOSITORY
    create(path, origin.object_format)
    alternates = path / "objects" / "info" / "alternates"
    alternates.parent.mkdir(exist_ok=True)
    alternates.write_text(quoted_path(lender / "objects") + "\n")
    if (lender / "shallow").exists():
        shutil.copyfile(lender / "shallow", path / "shallow")
    git(path, "update-ref", BASE_REF, origin.base)
    return Quarantine(
        path=path, source=origin.source, base=origin.base, object_format=origin.object_format, notes=entry
    )


@contextmanager
def _kept(origin: _Origin) -> Iterator[Path]:
    """The folder of a copy, made when there is none; nobody removes it before the block ends."""
    folder = cache.folder(BASES)
    key = _key(origin)
    use, entry = folder / f"{key}.use", folder / key
    while True:
        with cache.locked(use, shared=True):
            if entry.exists():
                cache.used(use)
                yield entry
                return
        with cache.locked(use):
            if not entry.exists():
                _keep(entry, origin)
        _make_room(folder, but=key)


def _key(origin: _Origin) -> str:
    """A commit's id says what it reaches; where a shallow history ends, it does not."""
    ends = (origin.source.location,) if origin.git_dir is None else (_shallow_text(origin.git_dir),)
    return hashlib.sha256(json.dumps([origin.object_format, origin.base, *ends]).encode()).hexdigest()[:32]


def _keep(entry: Path, origin: _Origin) -> None:
    with scratch(entry.with_name(f"{entry.name}.{uuid.uuid4().hex[:8]}")) as making:
        _filled(making / REPOSITORY, origin)
        making.rename(entry)


def _make_room(folder: Path, *, but: str) -> None:
    """Remove the copies that were not used for longest, while all together take up more than a quarter of the space."""
    uses = sorted(folder.glob("*.use"), key=lambda use: cache.last_used(use) or 0.0)
    sizes = {use: _size(use.with_suffix("")) for use in uses}
    for use in uses:
        if sum(sizes.values()) <= cache.space() // 4:
            return
        if use.stem != but and _forget(use):
            del sizes[use]


def _forget(use: Path) -> bool:
    """Whether a copy is gone; not while a quarantine borrows from it."""
    with cache.locked_if_free(use) as free:
        if free:
            shutil.rmtree(use.with_suffix(""), ignore_errors=True)
            use.unlink(missing_ok=True)
    return free


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*"))


def remove_bases(*, dry_run: bool = False) -> tuple[Path, ...]:
    """Remove the copies that no quarantine borrows from, and return their folders."""
    uses = sorted(cache.folder(BASES).glob("*.use"))
    return tuple(use.with_suffix("") for use in uses if dry_run or _forget(use))


# --- from a repository on this machine


def copy_history(git_dir: Path, to: Path, commit: str, *objects: Path) -> None:
    """Write all that `commit` reaches, in `git_dir` and its `objects` folders, as one pack into the repository `to`."""
    # Packed straight into place: nothing is sent over a pipe and indexed again, and nothing is written in `git_dir`.
    pack = to / "objects" / "pack" / "pack"
    command = ("--git-dir", str(git_dir), "pack-objects", "--quiet", "--revs", "--delta-base-offset", str(pack))
    variables = {
        "GIT_OBJECT_DIRECTORY": str(to / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(quoted_path(folder) for folder in objects),
    }
    try:
        git(git_dir, *command, stdin=f"{commit}\n".encode(), seconds=COPY_SECONDS, variables=variables)
    except GitFailed as error:
        raise _incomplete(git_dir, error) from error
    _copy_shallow(git_dir, to)


def _ask(git_dir: Path, *options: str) -> str:
    command = ("--git-dir", str(git_dir), "rev-parse", "--path-format=absolute", *options)
    return git(git_dir, *command).decode("utf-8", "surrogateescape").removesuffix("\n")


def _incomplete(git_dir: Path, error: GitFailed) -> RunnerError:
    try:
        git(git_dir, "--git-dir", str(git_dir), "config", "--get-regexp", r"^remote\..*\.promisor$")
    except GitFailed:
        return error
    return ConfigError(
        f"repo.url: {git_dir} is a partial clone that lacks objects of base; complete it with: "
        "git fetch --refetch --no-filter"
    )


def _copy_shallow(git_dir: Path, to: Path) -> None:
    """Take over where a shallow history ends, for commits that were copied."""
    if ends := _shallow_text(git_dir):
        known = git(to, "cat-file", "--batch-check", stdin=ends.encode()).splitlines()
        kept = [line.split()[0] + b"\n" for line in known if line.split()[1] == b"commit"]
        if kept:
            (to / "shallow").write_bytes(b"".join(kept))


def _shallow_text(git_dir: Path) -> str:
    file = Path(_ask(git_dir, "--git-common-dir")) / "shallow"
    return file.read_text("ascii") if file.exists() else ""


def _snapshot(source: Source, objects: Path, scratch: Path) -> str:
    """A commit of the work tree as it is. Its objects and index are in `scratch`; the user's repository is only read.

    The user's own configuration holds: ignore lists, line endings and filters are those of their own `git add`.
    """
    assert source.work_tree is not None
    git_dir = Path(source.location)
    index = Path(_ask(git_dir, "--git-path", "index"))
    if index.exists():
        # A copy, because it knows sparse checkouts, and which files need no second look.
        shutil.copyfile(index, scratch / "index")
    variables = {
        "GIT_OBJECT_DIRECTORY": str(scratch),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": quoted_path(objects),
        "GIT_INDEX_FILE": str(scratch / "index"),
    }
    places = ("--git-dir", str(git_dir), "--work-tree", str(source.work_tree))
    git(source.work_tree, *places, "add", "--all", variables=variables, as_user=True, seconds=COPY_SECONDS)
    tree = git(git_dir, *places, "write-tree", variables=variables).decode().strip()
    return _snapshot_commit(git_dir, source.base, tree, variables)


def _snapshot_commit(git_dir: Path, head: str, tree: str, variables: Mapping[str, str]) -> str:
    facts = git(git_dir, "--git-dir", str(git_dir), "show", "--no-patch", "--format=%T %ct", head).decode().split()
    if facts[0] == tree:
        return head
    # The date of HEAD: the same changes always make the same commit, so that a job can be resumed or replayed.
    who = identity(Author(), int(facts[1]))
    command = ("--git-dir", str(git_dir), "commit-tree", tree, "-p", head, "-m", "Uncommitted changes")
    return git(git_dir, *command, variables={**variables, **who}).decode().strip()


# --- from a bundle or a remote


def _fetch(path: Path, source: Source) -> None:
    """Fetch into a scratch repository, then copy what base reaches: what else a pack brings does not get further."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="fetch-") as folder:
        fetched = Path(folder) / "fetch.git"
        create(fetched, object_format(source.base))
        for wanted in (source.ref or source.base, "refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*"):
            if _has(fetched, source.base):
                break
            _fetch_one(fetched, source, wanted)
        if not _has(fetched, source.base):
            raise ConfigError(_not_there(fetched, source))
        create(path, object_format(source.base))
        copy_history(fetched, path, source.base, fetched / "objects")


def _fetch_one(scratch: Path, source: Source, wanted: str) -> None:
    refspec = f"+{wanted}" if ":" in wanted else f"+{wanted}:{BASE_REF}"
    remote = source.kind == "remote"
    try:
        fetch(
            scratch,
            source.location,
            refspec,
            seconds=COPY_SECONDS,
            as_user=remote,
            config=protocols(source.location) if remote else None,
        )
    except GitFailed as error:
        if "lacks these prerequisite commits" in error.stderr:
            raise ConfigError(
                f"repo.url: {source.url} is not a whole history; make it with: git bundle create FILE --all"
            ) from error
        # Many servers do not give a commit by its id unless a branch or tag points to it: then all of them are fetched.
        if source.ref is not None or ":" in wanted:
            raise


def _has(repo: Path, commit: str) -> bool:
    out = git(repo, "cat-file", "--batch-check", stdin=f"{commit}\n".encode()).split()
    return len(out) == 3 and out[1] == b"commit"


def _not_there(scratch: Path, source: Source) -> str:
    refs = git(scratch, "for-each-ref", "--format=%(refname)").decode("utf-8", "replace").split()
    return f"repo.base: no commit {source.base!r} in {source.url}; {nearest(source.base, refs)}"


# --- what is not supported


def _refuse_submodules(quarantine: Quarantine) -> None:
    entries = git(quarantine.path, "ls-tree", "-r", "-z", "--full-tree", quarantine.base).split(b"\0")
    paths = [_path(entry) for entry in entries if entry.startswith(b"160000 ")]
    if paths:
        raise ConfigError(
            f"repo.base: has submodules ({_few(paths)}), which do not come into the sandbox; "
            "use a base that contains their files"
        )


def _refuse_lfs(quarantine: Quarantine) -> None:
    """Refuse Git LFS, when attributes ask for it and files are pointers: the agent would see no content."""
    command = ("grep", "--quiet", "-F", "-e", "filter=lfs", quarantine.base, "--")
    if not _found(quarantine, *command, ":(glob)**/.gitattributes"):
        return
    names = _found(quarantine, "grep", "-z", "-l", "-I", "-F", "-e", LFS_POINTER, quarantine.base)
    paths = [name.split(b":", 1)[1].decode("utf-8", "replace") for name in names.split(b"\0") if name]
    if paths:
        raise ConfigError(
            f"repo.base: has files in Git LFS ({_few(paths)}), whose content does not come into the sandbox; "
            "use a base that contains their content"
        )


def _found(quarantine: Quarantine, *command: str) -> bytes:
    """Output of a `git grep`; empty when nothing matched, which git reports as exit code 1 without a word."""
    try:
        return quarantine.git(*command, seconds=COPY_SECONDS) or b"\n"
    except GitFailed as error:
        if error.stderr:
            raise
        return b""


def _path(entry: bytes) -> str:
    return entry.partition(b"\t")[2].decode("utf-8", "replace")


def _few(paths: list[str]) -> str:
    shown = ", ".join(printable(path, 80) for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
