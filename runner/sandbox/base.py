"""What a sandbox is to the rest of the runner: a container we can run commands in and move bytes in and out of.

Engines (`docker.py`, `podman.py`) open one, `client.py` speaks to the toolbox inside it; both match the protocols here.
A command that fails is a value (`ExecResult`); a sandbox that fails is an error (`SandboxError`). Output of the engine
itself is never presented as a command's output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import TracebackType
from typing import Literal, Protocol, Self

from runner.policy.contain import Grant

WORKSPACE = PurePosixPath("/workspace")
"""The bounded, writable mount of every job."""
REPO = WORKSPACE / "repo"
"""Where the repository lies inside the container; the commands' first working directory."""
HOME = WORKSPACE / "home"
"""HOME of the job's user."""
TOOLBOX = PurePosixPath("/opt/claw")
"""Where the toolbox volume is mounted, read-only."""

Program = Literal["shell", "git", "rg", "argv"]
"""What `exec` starts: the image's shell with one script, the toolbox's own git or ripgrep, or an argv of the image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecResult:
    """How one command ended. Times in seconds, sizes in bytes."""

    exit_code: int | None
    """None when a signal ended it."""
    signal: int | None
    output: bytes
    """Head and tail of what it wrote (stdout and stderr in order of arrival, or stdout alone when separated)."""
    stderr: bytes = b""
    """Head of standard error, when separated; else empty."""
    output_bytes: int = 0
    """All that it wrote, kept or not."""
    seconds: float = 0.0
    timed_out: bool = False
    truncated: bool = False
    """True when `output` lacks a middle part; `omitted_bytes` says how much, between head and tail."""
    head_bytes: int = 0
    """Length of the head in `output` when truncated."""
    oom_killed: bool = False
    """The kernel killed something in the container for memory while this command ran."""
    over_quota: bool = False
    """The workspace held more than allowed, so the command was ended (where no mount bounds it)."""
    cwd: str | None = None
    """Working directory at the end of a shell script; None when unknown."""
    log: str | None = None
    """Name of the artifact that holds the full output (up to the log limit), relative to the job folder."""
    log_truncated: bool = False

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and not self.timed_out

    @property
    def omitted_bytes(self) -> int:
        return self.output_bytes - len(self.output) if self.truncated else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class BackgroundTask:
    """State of a command that was asked to outlive its call."""

    id: str
    running: bool
    output: bytes
    """What it wrote since the last look (bounded: the newest part)."""
    exit_code: int | None
    signal: int | None
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInfo:
    """What a path is, seen without following a last link."""

    kind: Literal["file", "directory", "link", "other", "missing"]
    size: int = 0
    mode: int = 0
    modified: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """One control of the hardening profile: what was asked, what was found to hold inside, and how firmly."""

    name: str
    requested: str
    effective: str
    status: Literal["hard", "soft", "missing"]
    """hard: the kernel holds it. soft: watched, not held. missing: not there (the policy said it may be)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxReport:
    """What was opened, for the result: nothing is claimed here that was not read back."""

    engine: str
    engine_version: str
    container_id: str
    image: str
    image_digest: str
    controls: tuple[Control, ...] = ()
    toolbox_version: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds per phase: create, start, hello."""


class Sandbox(Protocol):
    """A running container. A context manager: leaving it removes the container, whatever happened inside.

    Every method raises SandboxLost when the container or the pipe is gone; methods that take a path raise
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError or OSError for what a local call would.
    """

    @property
    def report(self) -> SandboxReport: ...

    def exec(
        self,
        command: str | Sequence[str],
        *,
        program: Program = "shell",
        cwd: str = str(REPO),
        variables: Mapping[str, str] | None = None,
        stdin: Iterable[bytes] = (),
        seconds: float = 120.0,
        head_bytes: int = 16_000,
        tail_bytes: int = 16_000,
        log: str | None = None,
        on_output: Callable[[bytes], None] | None = None,
        separate_stderr: bool = False,
        confined: bool = False,
    ) -> ExecResult:
        """Run one command as the job's user and wait; when it returns nothing of it runs any more.

        `confined`: under the grants of `confine`, if that was called; the agent's commands are, the runner's are not.

        `command` is a script for program "shell", else the arguments. `log` names an artifact that gets the full
        output. `on_output` sees every chunk of output in order (all of it, unbounded: for streams such as a bundle).
        """
        ...

    def start(
        self, command: str, *, cwd: str = str(REPO), variables: Mapping[str, str] | None = None, log: str | None = None
    ) -> BackgroundTask:
        """Start a shell script that may outlive the call; it ends with `stop_task`, or with the sandbox. Confined."""
        ...

    def poll_task(self, id: str) -> BackgroundTask:
        """What a background task wrote since the last look. Raises KeyError for an unknown id."""
        ...

    def stop_task(self, id: str) -> BackgroundTask:
        """End a background task with its whole tree. Raises KeyError for an unknown id."""
        ...

    def resolve(self, path: str) -> str:
        """The absolute path with every link followed, as the job's user sees it; the last parts may not exist yet."""
        ...

    def stat(self, path: str) -> FileInfo: ...

    def read_file(self, path: str, *, offset: int = 0, max_bytes: int = 10_000_000) -> bytes:
        """Bytes of a regular file. `path` must be resolved: a link on the way is refused when met (PermissionError)."""
        ...

    def write_file(self, path: str, data: bytes, *, expected_sha256: str | None = None) -> None:
        """Replace or create a regular file atomically, parents included, keeping its mode.

        Links are refused as in `read_file`.

        With `expected_sha256` ("" = must not exist) the write is refused with FileExistsError when the file is not
        what the caller read.
        """
        ...

    def glob(self, pattern: str, *, root: str, limit: int) -> tuple[tuple[str, ...], bool]:
        """Paths of files under `root` that match, newest first, and whether there were more than `limit`."""
        ...

    def end_processes(self) -> None:
        """End every process of the job's user, background tasks included."""
        ...

    def confine(self, grants: Sequence[Grant]) -> None:
        """From now on confined commands have these rights over files and no others; may be called again.

        Raises ControlNotEnforced when the kernel has no Landlock, or a try inside shows that it does not hold.
        """
        ...

    def keep(self, *, unreadable: Sequence[str], unwritable: Sequence[str]) -> None:
        """Give these paths (in the repository, with all below them) to another user inside, for good.

        The job's user can then not change, remove or replace them, and those in `unreadable` not read either. Paths
        that do not exist are passed over. Raises OSError naming the path that could not be given away.
        """
        ...

    def measure(self) -> Usage:
        """What /workspace takes up now."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """The hardening of one container, the same for both engines. Sizes in bytes. Made by `profile.from_policy`."""

    memory: int
    """For processes; the writable mounts come on top in the cgroup limit, so that a full disk never kills."""
    cpus: float
    pids: int
    disk: int
    """Bytes of /workspace."""
    inodes: int
    tmp: int
    """Bytes of /tmp."""
    file_size: int
    open_files: int
    read_only: bool
    workspace: Literal["memory", "layer"] = "memory"
    """Where /workspace lies: a sized tmpfs, or the container's own layer, whose bounds are watched."""
    uid: int
    gid: int
    may_be_missing: frozenset[str] = frozenset()
    """Names of controls that the policy lets be missing."""


class Tunnel(Protocol):
    """A connection that a process in the container made to the proxy port on its loopback."""

    def recv(self) -> bytes:
        """What the process sent next; b"" at its end. Raises SandboxLost."""
        ...

    def send(self, data: bytes) -> None:
        """b"" ends our side of it. Raises BrokenPipeError when the process has gone, SandboxLost."""
        ...

    def close(self) -> None:
        """End it; may be called twice, from any thread, and wakes a waiting `recv`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a workspace takes up."""

    bytes: int
    """Of allocated blocks."""
    files: int
    """And folders."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filled:
    """An image made from another one, in which /workspace is filled already (snapshot.py)."""

    reference: str
    usage: Usage
    """Of /workspace in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxConfig:
    """All an engine needs to open a sandbox."""

    image: str
    """An image reference that is on the engine (see image.py)."""
    image_digest: str
    profile: Profile
    filled: Filled | None = None
    """What to start from in the place of `image`; for a profile whose workspace is in the layer."""
    toolbox_volume: str
    labels: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    log_folder: str | None = None
    """Host folder for `ExecResult.log` artifacts and the first process's stderr (`toolbox.log`)."""
    on_tunnel: Callable[[Tunnel], None] | None = None
    """Called for each connection to the proxy port, in a thread of its own; None: there is no such port."""
    mask: tuple[str, ...] = ()
    """Values that are masked in logs and output (runner.masking)."""


class Engine(Protocol):
    """A container engine. Raises EngineUnavailable when it stops answering, ImageNotFound for an unknown image."""

    name: Literal["docker", "podman"]
    version: str

    def open_sandbox(self, config: SandboxConfig) -> Sandbox:
        """Create, attach, start, say hello, read the limits back. Undoes itself when any step fails.

        Raises ControlNotEnforced when a control did not take and `may_be_missing` does not name it.
        """
        ...

    def close(self) -> None: ...
