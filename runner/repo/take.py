"""The work out of a sandbox: only objects come, they are checked here, and the commits are made anew on the host.

A pack from the sandbox (`inside.py`) goes into a scratch repository; there its size, paths and line of commits are
checked, and each commit is written again: the same tree and message, our author, date and trailers, and none of the
headers that the agent could write. That line is pushed into the quarantine, whose git refuses what fsck finds in it: a
push, because git does not check what it fetches from a bundle.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from runner.errors import RepoError
from runner.repo.diff import changes, check_paths, compare
from runner.repo.git import OutputTooLong, create, git, identity, quoted_path, receive_pack
from runner.repo.hide import NOTHING_HIDDEN, Hidden
from runner.repo.inside import Folder, Found, from_history, from_work_tree, send_pack
from runner.repo.put import DiskFull
from runner.repo.quarantine import Quarantine
from runner.result import DiffStat
from runner.sandbox.base import REPO, WORKSPACE, Sandbox
from runner.task import Author

MIB = 1024 * 1024
MESSAGE_CHARS = 50_000
TMP = PurePosixPath("/tmp")
RUNNER_COMMIT = ("Agent-Commit", "uncommitted work, committed by the runner")


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeLimits:
    """What may come out. Over a limit nothing is taken."""

    seconds: float = 240.0
    """For all that runs inside."""
    pack_bytes: int = 64 * MIB
    """Compressed, on the pipe."""
    blob_bytes: int = 64 * MIB
    """Largest file."""
    total_bytes: int = 512 * MIB
    """All new files and folders of all commits, unpacked."""
    objects: int = 200_000
    paths: int = 50_000
    """Files changed by one commit."""
    depth: int = 100
    """Folders above a changed file."""
    commits: int = 500
    """With more the work comes out as one commit."""
    patch_bytes: int = 64 * MIB
    """With more there is no patch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What came out and passed. It lies in the quarantine."""

    commit: str | None
    """None when the agent's work changes nothing against base."""
    commits: tuple[str, ...] = ()
    """Oldest first; the last one is `commit`."""
    diff: DiffStat = DiffStat()
    changed: tuple[str, ...] = ()
    """Every path touched, both names of a renamed file; bytes as `os.fsdecode` gives them."""
    patch: bytes | None = b""
    """For `git apply` on base; None when it is longer than `TakeLimits.patch_bytes`."""
    runner_committed: bool = False
    """The runner committed work that the agent had not (the last commit)."""
    notes: tuple[str, ...] = ()
    """For the result: what was not taken as the agent left it, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    """What `take` was asked, for its steps."""

    quarantine: Quarantine
    sandbox: Sandbox
    author: Author
    message: str
    trailers: tuple[tuple[str, str], ...]
    ignored: tuple[bytes, ...]
    hidden: Hidden
    mask: Callable[[str], str]
    limits: TakeLimits


def take(
    quarantine: Quarantine,
    sandbox: Sandbox,
    *,
    author: Author,
    message: str,
    trailers: Mapping[str, str] | None = None,
    ignored: Sequence[bytes] = (),
    hidden: Hidden = NOTHING_HIDDEN,
    mask: Callable[[str], str] = str,
    limits: TakeLimits | None = None,
) -> Taken:
    """End the agent's processes and bring its work, committed or not, into the quarantine.

    The first-parent line of commits from HEAD down to base is kept, message by message (a merge becomes one commit of
    that line). When base is not on that line (amended, rebased, orphaned), or the agent's `.git` is damaged, the work
    comes out as one commit with `message`. `trailers` end every message. `ignored` are the paths that setup left; what
    is `hidden` stays as base has it, in every commit. `mask` (`runner.masking`) takes secrets out of messages.

    Raises RepoError when the work is over a limit, not a valid tree, or cannot be read at all; SandboxLost.
    """
    order = _Order(
        quarantine=quarantine,
        sandbox=sandbox,
        author=author,
        message=message,
        trailers=tuple((trailers or {}).items()),
        ignored=tuple(ignored),
        hidden=hidden,
        mask=mask,
        limits=limits or TakeLimits(),
    )
    sandbox.end_processes()
    if sandbox.stat(str(REPO)).kind != "directory":
        raise RepoError(f"the agent removed or replaced {REPO}; there is no work to take")
    try:
        return _attempt(order, _history)
    except (RepoError, OSError) as error:
        note = f"the agent's commits could not be taken ({error}); its work tree came out as one commit"
        taken = _attempt(order, _work_tree)
    return taken if taken.commit is None else replace(taken, notes=(note, *taken.notes))


def _history(order: _Order, folder: Folder) -> Found:
    return from_history(folder, ignored=order.ignored, max_commits=order.limits.commits)


def _work_tree(order: _Order, folder: Folder) -> Found:
    return from_work_tree(folder, ignored=order.ignored)


def _attempt(order: _Order, find: Callable[[_Order, Folder], Found]) -> Taken:
    try:
        return _attempt_in(WORKSPACE, order, find)
    except DiskFull:
        # What the agent left may have filled its disk; /tmp is another one.
        return _attempt_in(TMP, order, find)


def _attempt_in(place: PurePosixPath, order: _Order, find: Callable[[_Order, Folder], Found]) -> Taken:
    deadline = time.monotonic() + order.limits.seconds / 2
    folder = Folder(
        sandbox=order.sandbox, quarantine=order.quarantine, hidden=order.hidden, deadline=deadline, place=place
    )
    try:
        found = find(order, folder)
        if found.tip == order.quarantine.base:
            return Taken(commit=None, notes=found.notes)
        with tempfile.TemporaryDirectory(dir=order.quarantine.path, prefix="incoming-") as scratch:
            incoming = Path(scratch) / "incoming.git"
            _receive(order, folder, found.tip, incoming)
            commits = _rewritten(order, incoming, found)
            _accept(order, incoming, commits)
    finally:
        folder.remove()
    return _taken(order, commits, found)


def _receive(order: _Order, folder: Folder, tip: str, incoming: Path) -> None:
    """Bring the pack with `tip` into `incoming`, a repository that sees the quarantine's objects."""
    quarantine, limits = order.quarantine, order.limits
    create(incoming, quarantine.object_format)
    alternates = incoming / "objects" / "info" / "alternates"
    alternates.parent.mkdir(exist_ok=True)
    alternates.write_text(quoted_path(quarantine.path / "objects") + "\n")
    if quarantine.shallow:
        (incoming / "shallow").write_bytes(quarantine.shallow)
    with tempfile.TemporaryFile(dir=incoming) as pack:
        send_pack(folder, tip, pack, max_bytes=limits.pack_bytes)
        pack.seek(0)
        index = ("index-pack", "--stdin", "--fix-thin", "--strict", f"--max-input-size={limits.pack_bytes}")
        git(incoming, *index, stdin=pack, seconds=limits.seconds, guarded=True)
    _check_sizes(incoming, tip, quarantine.base, limits)


def _check_sizes(incoming: Path, tip: str, base: str, limits: TakeLimits) -> None:
    listed = ("rev-list", "--objects", "--no-object-names", tip, f"^{base}")
    try:
        ids = git(incoming, *listed, seconds=limits.seconds, max_bytes=limits.objects * 66, guarded=True)
    except OutputTooLong as error:
        raise RepoError(f"the work has more than {limits.objects} files, folders and commits") from error
    sizes = git(incoming, "cat-file", "--batch-check=%(objectsize)", stdin=ids, seconds=limits.seconds, guarded=True)
    each = [int(size) for size in sizes.split()]
    if len(each) > limits.objects:
        raise RepoError(f"the work has more than {limits.objects} files, folders and commits")
    if max(each, default=0) > limits.blob_bytes:
        raise RepoError(f"the work has a file of {max(each)} bytes; {limits.blob_bytes} are allowed")
    if sum(each) > limits.total_bytes:
        raise RepoError(f"the work has {sum(each)} bytes in its files; {limits.total_bytes} are allowed")


def _rewritten(order: _Order, incoming: Path, found: Found) -> tuple[str, ...]:
    """Make the line of commits from base to the tip again, as ours; returns their ids, oldest first."""
    parent = order.quarantine.base
    date = int(time.time())
    made: list[str] = []
    for theirs in _line(incoming, parent, found.tip):
        raw = git(incoming, "cat-file", "commit", theirs, guarded=True)
        message = _message(order, raw, runner=found.runner_committed and theirs == found.tip)
        tree = _tree(order, incoming, found, theirs)
        who = identity(order.author, date)
        command = ("commit-tree", tree, "-p", parent, "-F", "-")
        commit = git(incoming, *command, stdin=message, variables=who, guarded=True).decode().strip()
        check_paths(incoming, parent, commit, paths=order.limits.paths, depth=order.limits.depth)
        made.append(commit)
        parent = commit
    return tuple(made)


def _tree(order: _Order, incoming: Path, found: Found, commit: str) -> str:
    """The tree of a commit, with the hidden files as base has them. Raises RepoError."""
    tree = git(incoming, "rev-parse", "--verify", f"{commit}^{{tree}}", guarded=True).decode().strip()
    if order.hidden == NOTHING_HIDDEN:
        return tree
    hidden = set(order.hidden.paths)
    changed = changes(incoming, order.quarantine.base, commit)
    elsewhere = [change for change in changed if change.path not in hidden]
    if not found.from_files and any(change.new_id in order.hidden.blobs for change in elsewhere):
        # Its id stands in the trees inside: whoever knows it can name it in a commit without having the content.
        raise RepoError("a commit gives a content that the policy hides another path")
    return _with_hidden(order, incoming, tree) if len(elsewhere) < len(changed) else tree


def _with_hidden(order: _Order, incoming: Path, tree: str) -> str:
    with tempfile.TemporaryDirectory(dir=incoming, prefix="hidden-") as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        git(incoming, "read-tree", tree, variables=index, guarded=True)
        # --index-info also takes away what stands in the way: a file where base has a folder, or the other way round.
        command = ("update-index", "-z", "--index-info")
        git(incoming, *command, stdin=order.hidden.entries, variables=index, guarded=True)
        return git(incoming, "write-tree", variables=index, guarded=True).decode().strip()


def _line(incoming: Path, base: str, tip: str) -> list[str]:
    """Commits from base to `tip` by first parents, oldest first. Raises RepoError when they do not start at base."""
    listed = git(incoming, "rev-list", "--first-parent", "--parents", tip, f"^{base}", guarded=True)
    lines = [line.split() for line in listed.decode().splitlines()]
    if not lines or lines[-1][1:2] != [base]:
        raise RepoError(f"the work does not start from base {base}")
    return [line[0] for line in reversed(lines)]


def _message(order: _Order, commit: bytes, *, runner: bool) -> bytes:
    """A commit's message with our trailers: the agent's words without what imitates them or acts on terminals."""
    trailers = (*order.trailers, RUNNER_COMMIT) if runner else order.trailers
    theirs = "" if runner else commit.partition(b"\n\n")[2].decode("utf-8", "replace")
    text = _cleaned(order, theirs) or _cleaned(order, order.message) or "Work of the agent"
    lines = "".join(f"{key}: {' '.join(value.split())}\n" for key, value in trailers)
    return f"{text}\n\n{lines}".encode()


def _cleaned(order: _Order, text: str) -> str:
    ours = {key.lower() for key, _ in (*order.trailers, RUNNER_COMMIT)}
    kept = "".join(c for c in order.mask(text[:MESSAGE_CHARS]) if c.isprintable() or c in "\n\t")
    lines = (line.rstrip() for line in kept.split("\n") if line.partition(":")[0].strip().lower() not in ours)
    return "\n".join(lines).strip()


def _accept(order: _Order, incoming: Path, commits: Sequence[str]) -> None:
    """Push the line into the quarantine, which checks every object and its connection to base."""
    quarantine, limits = order.quarantine, order.limits
    # Packed anew, the same objects may take a little more than what came. Modes that git reads as others are no error
    # to it by default.
    receive = receive_pack({"receive.maxInputSize": str(2 * limits.pack_bytes), "receive.fsck.badFilemode": "error"})
    tip = commits[-1]
    push = ("push", "--quiet", "--no-verify", str(quarantine.path), f"{tip}:refs/claw/taken/{tip}")
    git(incoming, *push, f"--receive-pack={receive}", seconds=limits.seconds, guarded=True)


def _taken(order: _Order, commits: tuple[str, ...], found: Found) -> Taken:
    quarantine = order.quarantine
    if quarantine.tree(commits[-1]) == quarantine.tree(quarantine.base):
        return Taken(commit=None, notes=(*found.notes, "the agent's commits cancel each other out"))
    difference = compare(quarantine.path, quarantine.base, commits[-1], patch_bytes=order.limits.patch_bytes)
    return Taken(
        commit=commits[-1],
        commits=commits,
        diff=difference.stat,
        changed=difference.changed,
        patch=difference.patch,
        runner_committed=found.runner_committed,
        notes=found.notes,
    )
