"""The container that is attacked: opened under the policy as a job's is, with a repository made for the purpose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.attack.bait import Bait
from runner.attack.paths import Target, files
from runner.egress.gateway import Gateway
from runner.egress.reach import resolve
from runner.enclosure import contain
from runner.policy import Policy
from runner.repo import Quarantine, locate, open_quarantine, put
from runner.repo.git import create, git
from runner.repo.hide import hide
from runner.sandbox import owner
from runner.sandbox.base import HOME, Profile, Sandbox, SandboxConfig
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef
from runner.task import Author, Repo

BRANCH = "claw/attack"
AUTHOR = Author(name="Red Team", email="attack@claw-runner.invalid")
NOWHERE = ("127.0.0.1", "::1", "169.254.169.254", "10.0.0.1")
"""What every name resolves to while the proxy is attacked: the worst that a name server can answer."""


class Door:
    """The host's end of the container's proxy."""

    def __init__(self, policy: Policy) -> None:
        self.honest = False
        """Names resolve as they do on this machine, and not to NOWHERE."""
        self.gateway = Gateway(policy.egress, lambda event: None, "agent", resolver=self._resolve)

    def _resolve(self, host: str, port: int) -> Sequence[str]:
        return resolve(host, port) if self.honest else NOWHERE


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """The container at the point where an agent would begin."""

    sandbox: Sandbox
    quarantine: Quarantine
    door: Door


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """Where to open containers."""

    engine: ContainerEngine
    image: ImageRef
    toolbox_volume: str

    @contextmanager
    def opened(self, policy: Policy, profile: Profile) -> Iterator[tuple[Sandbox, Door]]:
        """A container without a repository, whose commands are not confined yet."""
        door = Door(policy)
        config = SandboxConfig(
            image=self.image.reference,
            image_digest=self.image.digest,
            profile=profile,
            toolbox_volume=self.toolbox_volume,
            labels={owner.LABEL: "1", owner.OWNER: owner.mine(), owner.JOB: "attack"},
            on_tunnel=door.gateway,
        )
        with closing(door.gateway), self.engine.open_sandbox(config) as sandbox:
            yield sandbox, door

    @contextmanager
    def ready(self, policy: Policy, profile: Profile, *, bait: Bait, targets: Sequence[Target]) -> Iterator[Ready]:
        """All that is done for a job before its agent starts; the repository has a file for every target.

        Raises ControlNotEnforced when the engine, or the kernel, lacks a control that the policy asks for.
        """
        content = files(targets)
        made = _repository(bait.folder / "repository", content, future=bait.token)
        source = locate(Repo(url=str(made), base="main"), folder=bait.folder)
        with open_quarantine(source, folder=bait.folder) as quarantine, self.opened(policy, profile) as (sandbox, door):
            unseen = hide(quarantine, policy)
            put(quarantine, sandbox, branch=BRANCH, author=AUTHOR, hidden=unseen)
            tracked = [path for path in content if path not in unseen.paths]
            contain(sandbox, policy, tracked=tracked, left=_set_up(sandbox, targets), outside=unseen.paths)
            yield Ready(sandbox=sandbox, quarantine=quarantine, door=door)


def _set_up(sandbox: Sandbox, targets: Iterable[Target]) -> list[str]:
    """What setup might have made: the files that were not brought in, and others that rules speak of."""
    made = []
    for target in targets:
        inside = target.in_repository
        ours = inside or target.path.startswith((f"{HOME}/", "/tmp/"))
        if ours and target.there and sandbox.stat(target.path).kind == "missing":
            sandbox.write_file(target.path, target.text.encode())
            made += [inside] if inside else []
    return made


def _repository(path: Path, content: Mapping[str, str], *, future: str) -> Path:
    """A bare repository whose main has these files, and whose branch `future` is a commit ahead, with a secret."""
    create(path, "sha1")
    stream = [
        *_commit("refs/heads/main", "Begin", content),
        *_commit("refs/heads/future", "The fix, from the future", {"fix.txt": f"future {future}\n"}, "refs/heads/main"),
    ]
    git(path, "fast-import", "--quiet", stdin=b"".join(stream))
    return path


def _commit(ref: str, message: str, content: Mapping[str, str], parent: str | None = None) -> Iterator[bytes]:
    """Commands of git fast-import."""
    yield f"commit {ref}\ncommitter {AUTHOR.name} <{AUTHOR.email}> 0 +0000\n".encode()
    yield _data(message)
    if parent:
        yield f"from {parent}\n".encode()
    for name, text in content.items():
        quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        yield f"M 100644 inline {quoted}\n".encode() + _data(text)
    yield b"\n"


def _data(text: str) -> bytes:
    content = text.encode()
    return b"data %d\n%b\n" % (len(content), content)
