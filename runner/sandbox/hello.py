"""The first exchange with the toolbox: what the job is, and what the toolbox finds inside its container.

What it finds is what the kernel tells the toolbox; profile.py compares it with what was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.errors import SandboxLost
from runner.sandbox.base import HOME, REPO, WORKSPACE
from runner.sandbox.channel import Channel

SECONDS = 30.0
"""Time for the toolbox to start and look around."""
PROXY_PORT = 3128

Number = Annotated[int, Field(ge=-(2**64), le=2**64)]
Text = Annotated[str, Field(max_length=64 * 1024)]
Range = Annotated[tuple[Number | None, Number | None], Field(strict=False)]
Numbers = Annotated[tuple[Number, ...], Field(strict=False)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What a workspace holds, and what it may come to hold: bytes of allocated blocks, files and folders."""

    used_bytes: int
    used_files: int
    most_bytes: int
    most_files: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the toolbox is told."""

    uid: int = 1000
    gid: int = 1000
    workspace: str = str(WORKSPACE)
    repo: str = str(REPO)
    home: str = str(HOME)
    """Both are made, as the job's user, when missing."""
    inode_limit: int | None = None
    """Commands are ended when the workspace's mount holds more and still gains some; for engines that cannot set it."""
    watch: Watched | None = None
    """Commands are ended when the workspace comes to hold more, and still gains some; for one that no mount bounds."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables of every command, on top of the image's."""
    hidden_variables: tuple[str, ...] = ("PYTHONHOME",)
    """Variables of the first process that no command sees: they are the toolbox's own."""
    proxy_port: int | None = None
    """Where the toolbox takes connections on the loopback, for tunnels; None: nowhere."""


class Found(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, use_attribute_docstrings=True)


class Capabilities(Found):
    """The five sets, as bit masks."""

    inheritable: Number
    permitted: Number
    effective: Number
    bounding: Number
    ambient: Number

    @property
    def any(self) -> int:
        return self.inheritable | self.permitted | self.effective | self.bounding | self.ambient


class Limits(Found):
    """Resource limits, soft and hard; None = unlimited. Sizes in bytes."""

    file_size: Range
    open_files: Range
    processes: Range
    core: Range
    locked_memory: Range
    stack: Range


class Credentials(Found):
    """Who a process is, and what it may do."""

    uids: Numbers
    """Real, effective, saved, file system; so are `gids`."""
    gids: Numbers
    groups: Numbers
    capabilities: Capabilities
    no_new_privileges: bool
    seccomp: Number
    """0 off, 1 strict, 2 filter."""
    limits: Limits


class Cgroup(Found):
    """Limits of the control group; None = no limit, or none that can be seen. Memory in bytes."""

    version: Literal[0, 1, 2]
    """0: no group of ours can be seen."""
    memory: Number | None
    memory_and_swap: Number | None
    """Version 1 limits the sum."""
    swap: Number | None
    """Version 2 limits swap alone."""
    pids: Number | None
    cpus: float | None
    files: dict[Text, Text]
    """The kernel's files, by path, as they are."""


class Mount(Found):
    """One line of the mount table."""

    path: Text
    kind: Text
    """File system type."""
    options: Annotated[tuple[Text, ...], Field(strict=False)]
    super_options: Annotated[tuple[Text, ...], Field(strict=False)]
    bytes: Number | None = None
    """Size; known for /, the workspace, /tmp, /run and /dev/shm. So are `inodes`."""
    inodes: Number | None = None


class Hello(Found):
    """What the toolbox found inside."""

    protocol: Literal[1]
    version: Text
    """Of the toolbox; empty when it does not run from its volume."""
    python: Text
    kernel: Text
    machine: Text
    pid: Number
    toolbox: Credentials
    """Of the first process."""
    command: Credentials
    """Of a child of it that became the job's user, as every command does."""
    uid_map: Annotated[tuple[Numbers, ...], Field(strict=False)]
    """Rows of first id inside, first id outside, count; so is `gid_map`."""
    gid_map: Annotated[tuple[Numbers, ...], Field(strict=False)]
    cgroup: Cgroup
    mounts: Annotated[tuple[Mount, ...], Field(strict=False)]
    interfaces: Annotated[tuple[Text, ...], Field(strict=False)]
    """Network interfaces."""
    resolv_conf: Text | None
    """Content of /etc/resolv.conf; None when there is none."""
    devices: Annotated[tuple[Text, ...], Field(strict=False)]
    """Names in /dev."""
    landlock_abi: Number
    """0: the kernel has no Landlock."""
    hold: Text
    """"held" when nothing but the workspace and the other mounts can be written, by the first process or any other;
    else why that could not be had; empty when it was not asked for."""

    def mount(self, path: str) -> Mount | None:
        """What is mounted last at exactly this path."""
        return next((mount for mount in reversed(self.mounts) if mount.path == path), None)


def say_hello(channel: Channel, settings: Settings, *, seconds: float = SECONDS) -> Hello:
    """Configure the toolbox; to be the first request. Raises SandboxLost when it does not answer, or makes no sense."""
    answer = channel.request("hello", asdict(settings), seconds=seconds)
    try:
        return Hello.model_validate(answer)
    except ValidationError as error:
        channel.close()
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SandboxLost(f"the toolbox broke the protocol: hello: {where}: {first['msg']}") from error
