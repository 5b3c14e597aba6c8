"""A commit and its history into a sandbox, through the pipe."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from runner.errors import Cause, ConfigError, RepoError
from runner.repo.diff import NO_FILE, changes
from runner.repo.git import CLEAN, GitFailed, git, identity, printable, stream
from runner.repo.hide import NOTHING_HIDDEN, Hidden, stand_ins
from runner.repo.quarantine import COPY_SECONDS, Quarantine
from runner.sandbox.base import REPO, ExecResult, Sandbox
from runner.task import Author

EXCLUDE = REPO / ".git" / "info" / "exclude"
SPARSE = REPO / ".git" / "info" / "sparse-checkout"
NO_BRANCH = "none"
"""What HEAD names before anything is checked out."""
ANY_DISK = (("core.checkStat", "minimal"), ("core.trustCtime", "false"))
"""Of a file, size and time of change are looked at: inode numbers are others in each container."""
INDEX_SECONDS = 1.1
"""Git knows times by the second."""
STEP_SECONDS = 300.0
OUTPUT = 4_000_000
"""Bytes of output that a git command inside may have, where it is read whole."""
STDERR = 16_000
MAX_UNTRACKED = 64_000_000
"""Bytes."""
FULL = "the sandbox's disk is full; raise container.disk in the policy"


class DiskFull(RepoError):
    """The sandbox has no space left where git writes."""

    cause: Cause = "disk"


def put(
    quarantine: Quarantine,
    sandbox: Sandbox,
    *,
    branch: str,
    author: Author,
    commit: str | None = None,
    hidden: Hidden = NOTHING_HIDDEN,
) -> None:
    """Make /workspace/repo a repository with `commit` (base by default) checked out on `branch`.

    What goes in is the history of that commit and nothing else: no other branch, no tag, no remote, no reflog of the
    user's; and of what is `hidden` neither a file nor its content. Raises RepoError when the toolbox's git fails there,
    e.g. because the disk is too small; ConfigError for an author that git does not take.
    """
    _check_author(quarantine, author)
    start = commit or quarantine.base
    _fill(quarantine, sandbox, start, branch=branch, author=author, hidden=hidden)
    git_inside(sandbox, "update-ref", f"refs/heads/{branch}", start)
    git_inside(sandbox, "reset", "--quiet", "--hard", start, seconds=STEP_SECONDS)


def put_base(quarantine: Quarantine, sandbox: Sandbox, *, hidden: Hidden = NOTHING_HIDDEN) -> None:
    """The same with base, on no branch and with nobody's name: what all jobs on it have in common, for a snapshot."""
    _fill(quarantine, sandbox, quarantine.base, branch=NO_BRANCH, author=Author(), hidden=hidden)
    for setting in ANY_DISK:
        git_inside(sandbox, "config", *setting)
    unlogged = ["core.logAllRefUpdates=false"]
    git_inside(sandbox, "update-ref", "--no-deref", "HEAD", quarantine.base, settings=unlogged)
    git_inside(sandbox, "reset", "--quiet", "--hard", quarantine.base, settings=unlogged, seconds=STEP_SECONDS)


def settle(sandbox: Sandbox) -> None:
    """Make git trust the index of `put_base` for good: it reads again what was written in the index's own second."""
    time.sleep(INDEX_SECONDS)
    git_inside(sandbox, "update-index", "-q", "--refresh", "--force-write-index", seconds=STEP_SECONDS)


def go_on(
    quarantine: Quarantine,
    sandbox: Sandbox,
    *,
    branch: str,
    author: Author,
    commit: str | None = None,
    hidden: Hidden = NOTHING_HIDDEN,
) -> None:
    """From `put_base` to `put`: what it costs depends on how much `commit` differs from base. Raises as `put` does."""
    _check_author(quarantine, author)
    start = commit or quarantine.base
    if author != Author():
        _name(sandbox, author)
    if start != quarantine.base:
        send_history(quarantine, sandbox, start, git_dir=str(REPO / ".git"), hidden=hidden, since=quarantine.base)
        if hidden.outside:
            write_inside(sandbox, str(SPARSE), _sparse_file(hidden, _added(quarantine, start)))
    git_inside(sandbox, "update-ref", f"refs/heads/{branch}", start)
    git_inside(sandbox, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    if start != quarantine.base:
        git_inside(sandbox, "reset", "--quiet", "--hard", start, seconds=STEP_SECONDS)


def _fill(quarantine: Quarantine, sandbox: Sandbox, start: str, *, branch: str, author: Author, hidden: Hidden) -> None:
    """A repository with all that `start` reaches, and nothing checked out yet."""
    # A name that git refuses is refused here, before it could be an option of a command inside.
    init = ("init", "--quiet", "--template=", f"--object-format={quarantine.object_format}")
    git_inside(sandbox, *init, f"--initial-branch={branch}", str(REPO))
    write_inside(sandbox, str(EXCLUDE), b"")
    if quarantine.shallow:
        write_inside(sandbox, str(REPO / ".git" / "shallow"), quarantine.shallow)
    send_history(quarantine, sandbox, start, git_dir=str(REPO / ".git"), hidden=hidden)
    _name(sandbox, author)
    git_inside(sandbox, "config", "gc.auto", "0")
    if hidden.outside:
        write_inside(sandbox, str(SPARSE), _sparse_file(hidden, _added(quarantine, start)))
        git_inside(sandbox, "config", "core.sparseCheckout", "true")


def _name(sandbox: Sandbox, author: Author) -> None:
    for setting in (("user.name", author.name), ("user.email", author.email)):
        git_inside(sandbox, "config", *setting)


def _check_author(quarantine: Quarantine, author: Author) -> None:
    """Git refuses some names, e.g. "...": better now than when the work is done."""
    try:
        git(quarantine.path, "var", "GIT_AUTHOR_IDENT", variables=identity(author, 0))
    except GitFailed as error:
        raise ConfigError(f"output.author: git does not take {author.name!r} <{author.email}>") from error


def send_history(
    quarantine: Quarantine, sandbox: Sandbox, commit: str, *, git_dir: str, hidden: Hidden, since: str | None = None
) -> None:
    """Stream one pack with all that `commit` reaches into the repository `git_dir` of the sandbox.

    It lacks what is hidden; a second one has the stand-ins. `since` is a commit that was sent in this way before.
    """
    pack = ("pack-objects", "--quiet", "--revs", "--stdout", "--delta-base-offset")
    there = (*([since] if since else []), *hidden.blobs)
    wanted = "".join(f"{line}\n" for line in (commit, *(f"^{id}" for id in there)))
    with stream(quarantine.path, *pack, stdin=wanted.encode(), seconds=COPY_SECONDS) as chunks:
        git_inside(sandbox, "--git-dir", git_dir, "index-pack", "--stdin", stdin=chunks, seconds=COPY_SECONDS)
    if hidden.blobs and since is None:
        for name, data in stand_ins(hidden.blobs, quarantine.object_format).items():
            write_inside(sandbox, f"{git_dir}/objects/pack/{name}", data)


def _sparse_file(hidden: Hidden, added: Iterable[bytes]) -> bytes:
    """All but what is hidden; what was added since base is there, even in a folder of which nothing else is."""
    left_out = b"".join(b"!" + line for line in exclude_file(hidden.outside).splitlines(keepends=True))
    return b"/*\n" + left_out + exclude_file(added)


def _added(quarantine: Quarantine, commit: str) -> list[bytes]:
    if commit == quarantine.base:
        return []
    changed = changes(quarantine.path, quarantine.base, commit)
    return [os.fsencode(change.path) for change in changed if change.old_mode == NO_FILE]


def ignore_untracked(sandbox: Sandbox) -> tuple[bytes, ...]:
    """Keep what is untracked now (left by setup) out of the agent's sight in git; returns the paths, for `take`."""
    out = git_inside(sandbox, "ls-files", "-z", "--others", "--exclude-standard", "--directory")
    paths = tuple(path for path in out.split(b"\0") if path)
    if paths:
        write_inside(sandbox, str(EXCLUDE), exclude_file(paths))
    return paths


def untracked(sandbox: Sandbox) -> tuple[str, ...]:
    """Every file of the repository's folder that git does not track, ignored ones included; from its root."""
    found = bytearray()

    def keep(chunk: bytes) -> None:
        found.extend(chunk)
        if len(found) > MAX_UNTRACKED:
            raise RepoError(f"the names of untracked files in the sandbox are longer than {MAX_UNTRACKED:,} bytes")

    git_inside(sandbox, "ls-files", "-z", "--others", on_output=keep)
    return tuple(os.fsdecode(path) for path in bytes(found).split(b"\0") if path)


def exclude_file(paths: Iterable[bytes]) -> bytes:
    """Lines of `info/exclude` that match `paths`, and no other (but any character where a path has a newline)."""
    return b"".join(b"/" + re.sub(rb"([\\*?\[ ])", rb"\\\1", path).replace(b"\n", b"?") + b"\n" for path in paths)


def git_inside(
    sandbox: Sandbox,
    *args: str,
    stdin: Iterable[bytes] = (),
    seconds: float = 60.0,
    settings: Iterable[str] = (),
    variables: Mapping[str, str] | None = None,
    on_output: Callable[[bytes], None] | None = None,
) -> bytes:
    """Standard output of the toolbox's git in /workspace/repo; empty when `on_output` gets it.

    Raises DiskFull, and RepoError when it fails otherwise, is too slow, or prints more than OUTPUT.
    """
    try:
        result = sandbox.exec(
            [*(part for setting in settings for part in ("-c", setting)), *args],
            program="git",
            cwd=str(REPO),
            variables={**CLEAN, **(variables or {})},
            stdin=stdin,
            seconds=seconds,
            head_bytes=STDERR if on_output else OUTPUT,
            tail_bytes=0,
            on_output=on_output,
            separate_stderr=True,
        )
    except OSError as error:
        raise _translated(f"{_shown(args)} cannot run in {REPO} of the sandbox", error) from error
    if result.timed_out:
        raise RepoError(f"{_shown(args)} in the sandbox did not end within {seconds:.0f} s")
    if not result.ok:
        full = b"No space left on device" in result.stderr
        raise (DiskFull if full else RepoError)(
            f"{_shown(args)} in the sandbox failed: {FULL if full else _reason(result)}"
        )
    if result.truncated and on_output is None:
        raise RepoError(f"{_shown(args)} in the sandbox printed more than {OUTPUT} bytes")
    return b"" if on_output else result.output


def write_inside(sandbox: Sandbox, path: str, data: bytes) -> None:
    """Write a file of ours in the sandbox. Raises DiskFull, RepoError."""
    try:
        sandbox.write_file(path, data)
    except OSError as error:
        raise _translated(f"{path} of the sandbox cannot be written", error) from error


def _translated(what: str, error: OSError) -> RepoError:
    if error.errno == errno.ENOSPC:
        return DiskFull(f"{what}: {FULL}")
    return RepoError(f"{what}: {error.strerror or error}")


def _shown(args: Sequence[str]) -> str:
    return printable(" ".join(("git", *args)), 100)


def _reason(result: ExecResult) -> str:
    text = printable(result.stderr.decode("utf-8", "replace"))
    return text or (f"signal {result.signal}" if result.exit_code is None else f"exit code {result.exit_code}")
