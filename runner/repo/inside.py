"""Inside the sandbox: find the agent's work and send it as one pack, by the toolbox's git.

It works in a git folder of our own, whose objects are the agent's as alternates. Nothing else of the agent's `.git` is
looked at: no configuration, hooks, attributes, grafts, replacements or index; of its refs only HEAD and what it names.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import IO

from runner.errors import RepoError, SandboxError
from runner.repo.git import identity, printable
from runner.repo.hide import Hidden
from runner.repo.put import STEP_SECONDS, exclude_file, git_inside, send_history, write_inside
from runner.repo.quarantine import Quarantine
from runner.repo.source import OBJECT_ID
from runner.sandbox.base import REPO, WORKSPACE, Sandbox
from runner.task import Author

SETTINGS = (
    "core.autocrlf=false",
    "core.bare=false",
    "core.commitGraph=false",
    "core.excludesFile=/dev/null",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.multiPackIndex=false",
    "core.safecrlf=false",
    "gc.auto=0",
    "pack.threads=1",
    "protocol.allow=never",
    "safe.directory=*",
)
"""Configuration of the toolbox's git here, besides its own empty git folder."""
AGENTS_GIT = REPO / ".git"
MAX_REFS = 4_000_000
"""Bytes of the agent's packed-refs that are read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The tip of the work inside the sandbox."""

    tip: str
    """Commit id; base's when nothing was done."""
    runner_committed: bool = False
    """The last commit was made here, of work that the agent had not committed."""
    from_files: bool = False
    """All of it was made here, of files that were read: no id in it is the agent's word."""
    notes: tuple[str, ...] = ()
    """What was not taken as the agent left it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """Our git folder beside the agent's repository, for one attempt to take its work."""

    sandbox: Sandbox
    quarantine: Quarantine
    hidden: Hidden
    deadline: float
    """By `time.monotonic`."""
    place: PurePosixPath = WORKSPACE
    name: str = field(default_factory=lambda: f".claw-{secrets.token_hex(16)}")

    @property
    def path(self) -> str:
        return str(self.place / self.name)

    def git(
        self,
        *args: str,
        stdin: Iterable[bytes] = (),
        on_output: Callable[[bytes], None] | None = None,
        index: str | None = None,
    ) -> bytes:
        """Output of one git command on this folder and the work tree. Raises RepoError, also at the deadline."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise RepoError("taking the work out of the sandbox did not end in time")
        return git_inside(
            self.sandbox,
            *args,
            settings=SETTINGS,
            stdin=stdin,
            seconds=min(left, STEP_SECONDS),
            variables={
                "GIT_DIR": self.path,
                "GIT_WORK_TREE": str(REPO),
                "GIT_INDEX_FILE": index or f"{self.path}/index",
                **identity(Author(), int(time.time())),
            },
            on_output=on_output,
        )

    def create(self, *, ignored: tuple[bytes, ...], agents_objects: bool) -> None:
        self.git("init", "--quiet", "--template=", f"--object-format={self.quarantine.object_format}")
        if self.quarantine.shallow:
            write_inside(self.sandbox, f"{self.path}/shallow", self.quarantine.shallow)
        if ignored:
            write_inside(self.sandbox, f"{self.path}/info/exclude", exclude_file(ignored))
        if agents_objects:
            write_inside(self.sandbox, f"{self.path}/objects/info/alternates", f"{AGENTS_GIT}/objects\n".encode())
        else:
            base = self.quarantine.base
            send_history(self.quarantine, self.sandbox, base, git_dir=self.path, hidden=self.hidden)

    def remove(self) -> None:
        """Give the space back, for a next round; what stays goes with the sandbox."""
        with suppress(SandboxError, OSError):
            self.sandbox.exec(f"rm -rf -- {self.path}", cwd="/", seconds=60)


def from_history(folder: Folder, *, ignored: tuple[bytes, ...], max_commits: int) -> Found:
    """The agent's own commits, and on top what it had not committed. Raises RepoError, OSError for a damaged `.git`."""
    folder.create(ignored=ignored, agents_objects=True)
    base = folder.quarantine.base
    staged = _staged_ignored(folder)
    head = _agents_head(folder.sandbox)
    if head is None:
        return _commit_work_tree(folder, base, base, staged, note="HEAD was on a branch without commits")
    if _is_line(folder, head, max_commits):
        return _commit_work_tree(folder, head, head, staged)
    note = f"base is not on the first {max_commits} commits of HEAD's line; the work came out as one commit"
    return _commit_work_tree(folder, base, head, staged, note=note)


def from_work_tree(folder: Folder, *, ignored: tuple[bytes, ...]) -> Found:
    """The work tree as it is, on top of base, without a look at the agent's `.git`."""
    folder.create(ignored=ignored, agents_objects=False)
    found = _commit_work_tree(folder, folder.quarantine.base, folder.quarantine.base)
    return replace(found, from_files=True)


def send_pack(folder: Folder, tip: str, file: IO[bytes], *, max_bytes: int) -> None:
    """Write what `tip` has and base has not, as one pack, to `file`. Raises RepoError over `max_bytes`."""
    size = 0

    def keep(chunk: bytes) -> None:
        nonlocal size
        size += len(chunk)
        if size > max_bytes:
            raise RepoError(f"the work is larger than {max_bytes} bytes, packed")
        file.write(chunk)

    wanted = f"{tip}\n^{folder.quarantine.base}\n".encode()
    pack = ("pack-objects", "--quiet", "--revs", "--stdout", "--delta-base-offset")
    # With a stand-in on one side, a difference to what base has would be applied to something else on the other.
    thin = () if folder.hidden.blobs else ("--thin",)
    folder.git(*pack, *thin, stdin=[wanted], on_output=keep)


# --- the agent's HEAD, read as bytes


def _agents_head(sandbox: Sandbox) -> str | None:
    """The commit id that HEAD names; None on a branch without commits. Raises RepoError, OSError when it is damaged."""
    text = sandbox.read_file(str(AGENTS_GIT / "HEAD"), max_bytes=4096).strip()
    for _ in range(5):
        if OBJECT_ID.fullmatch(text.decode("ascii", "replace")):
            return text.decode()
        ref = re.fullmatch(rb"ref: *(refs/[^\0-\x20\x7f]{1,1000})", text)
        if not ref or b".." in ref[1]:
            raise RepoError("HEAD of the agent's repository is damaged")
        found = _ref(sandbox, ref[1])
        if found is None:
            return None
        text = found
    raise RepoError("HEAD of the agent's repository goes round in circles")


def _ref(sandbox: Sandbox, name: bytes) -> bytes | None:
    with suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return sandbox.read_file(f"{AGENTS_GIT}/{name.decode('utf-8', 'surrogateescape')}", max_bytes=4096).strip()
    try:
        packed = sandbox.read_file(str(AGENTS_GIT / "packed-refs"), max_bytes=MAX_REFS)
    except FileNotFoundError:
        return None
    return next((line.split(b" ")[0] for line in packed.splitlines() if line.split(b" ")[1:] == [name]), None)


def _is_line(folder: Folder, head: str, max_commits: int) -> bool:
    """Whether first parents lead from `head` to base within `max_commits`."""
    base = folder.quarantine.base
    if head == base:
        return True
    newest = ("rev-list", "--first-parent", "--parents", f"--max-count={max_commits + 1}")
    lines = folder.git(*newest, head, f"^{base}").decode().splitlines()
    return 0 < len(lines) <= max_commits and lines[-1].split()[1:2] == [base]


# --- what is not committed


def _commit_work_tree(folder: Folder, parent: str, committed: str, staged: bytes = b"", *, note: str = "") -> Found:
    """Commit the work tree on `parent` when it differs, by an index that starts from `committed`, with `staged`."""
    folder.git("read-tree", committed)
    notes = (*([note] if note else []), *_add_all(folder))
    if staged:
        folder.git("update-index", "--add", "--remove", "-z", "--stdin", stdin=[staged])
    notes += _restore_hidden(folder)
    notes += _drop_nested_repositories(folder, committed)
    tree = _id(folder.git("write-tree", "--missing-ok"))
    if tree == _tree_of(folder, parent):
        return Found(tip=parent, notes=notes)
    tip = _id(folder.git("commit-tree", tree, "-p", parent, "-m", "work"))
    return Found(tip=tip, runner_committed=True, notes=notes)


def _restore_hidden(folder: Folder) -> tuple[str, ...]:
    """Hidden files stay as base has them, in the index too, for the agent never had them to change or remove."""
    if not folder.hidden.paths:
        return ()
    listed = bytearray()
    folder.git("ls-files", "-z", on_output=listed.extend)
    made = set(folder.hidden.paths).intersection(os.fsdecode(path) for path in bytes(listed).split(b"\0"))
    folder.git("update-index", "-z", "--index-info", stdin=[folder.hidden.entries])
    return tuple(f"{printable(path)!r} is hidden by the policy and stayed as it was" for path in sorted(made))


def _tree_of(folder: Folder, commit: str) -> str:
    """The tree of a commit, its hidden files as base has them."""
    if not folder.hidden.paths:
        return _id(folder.git("rev-parse", f"{commit}^{{tree}}"))
    index = f"{folder.path}/index-of-commit"
    folder.git("read-tree", commit, index=index)
    folder.git("update-index", "-z", "--index-info", stdin=[folder.hidden.entries], index=index)
    return _id(folder.git("write-tree", "--missing-ok", index=index))


def _id(out: bytes) -> str:
    """An object name, and nothing that could be an option of the next command."""
    text = out.decode("ascii", "replace").strip()
    if not OBJECT_ID.fullmatch(text):
        raise RepoError(f"git in the sandbox gave {text[:80]!r} for an object name")
    return text


def _add_all(folder: Folder) -> tuple[str, ...]:
    """Add what changed and is not ignored. What the agent made unreadable stays as it was, and is noted."""
    try:
        folder.git("add", "--all", "--ignore-errors")
    except RepoError as error:
        if "fatal:" in str(error) or "error:" not in str(error):
            raise
        return (f"some files could not be read and stayed as they were: {error}",)
    return ()


def _staged_ignored(folder: Folder) -> bytes:
    """Names (NUL-ended) of ignored files that the agent staged by force: all that is believed of its index."""
    with suppress(RepoError, OSError):
        if folder.sandbox.stat(str(AGENTS_GIT / "index")).kind == "file":
            staged = ("ls-files", "-z", "--cached", "--ignored", "--exclude-standard")
            return folder.git(*staged, index=str(AGENTS_GIT / "index"))
    return b""


def _drop_nested_repositories(folder: Folder, committed: str) -> tuple[str, ...]:
    """A repository that the agent cloned into its work tree would come out as a submodule that nobody can fetch."""
    fields = folder.git("diff-index", "--cached", "--raw", "-z", committed).split(b"\0")[:-1]
    nested = [path for entry, path in zip(fields[::2], fields[1::2], strict=True) if entry.split(b" ")[1] == b"160000"]
    if not nested:
        return ()
    folder.git("update-index", "--force-remove", "-z", "--stdin", stdin=[b"".join(path + b"\0" for path in nested)])
    return tuple(f"{path.decode('utf-8', 'replace')!r} is a repository of its own and was left out" for path in nested)
