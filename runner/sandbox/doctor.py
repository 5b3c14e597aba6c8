"""Whether a job can run on this machine: facts, and for each problem the next step. Looks, changes nothing."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from runner.errors import RunnerError, SandboxError
from runner.policy.schema import Container
from runner.repo.source import OLDEST_GIT
from runner.sandbox import image, owner, podman, profile
from runner.sandbox.api import Api
from runner.sandbox.base import Control, SandboxConfig
from runner.sandbox.container import ContainerEngine
from runner.sandbox.engines import ENGINES, EngineChoice, EngineName, open_engine

LOW_DISK_BYTES = 4 << 30
LOW_OPEN_FILES = 1024
IN_CONTAINER, IN_DOCKER = Path("/run/.containerenv"), Path("/.dockerenv")
"""What podman and docker put into their containers: there, with a socket mounted, /etc is not the engine's."""
SYS_LANDLOCK_CREATE_RULESET = 444
KNOWS_TRUNCATION = 3
"""Version of Landlock, see landlock(7)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that stands in the way, and what to do about it, in one line each."""

    what: str
    next_step: str
    severity: Literal["error", "warning"] = "warning"
    """error: jobs will not run (on that engine). warning: they run with less, or only when the policy allows it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What the machine we run on offers. `landlock_abi` is 0 where the kernel has none."""

    system: str
    kernel: str
    cpus: int
    memory_bytes: int
    cgroup_version: Literal["1", "1 (hybrid)", "2"]
    landlock_abi: int
    seccomp: bool
    user_namespaces: int
    """How many may be made (/proc/sys/user/max_user_namespaces)."""
    open_files_limit: int
    may_raise_limits: bool
    root: bool
    git: bool
    """Whether the git command is there."""
    key_present: bool
    """Whether ANTHROPIC_API_KEY is set; never its value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineFacts:
    """One engine as it describes itself. When `reachable` is False only name, installed and problems say something."""

    name: EngineName
    installed: bool
    reachable: bool = False
    url: str = ""
    started_by_us: bool = False
    version: str = ""
    storage_driver: str = ""
    cgroup_version: str = ""
    oci_runtime: str = ""
    rootless: bool = False
    user_namespace: str = ""
    seccomp: bool = False
    unenforced: tuple[str, ...] = ()
    """Controls that this engine takes and does not apply here."""
    disk_free_bytes: int | None = None
    """On the engine's storage; None when that is not on this machine."""
    toolbox_present: bool = False
    images: tuple[str, ...] = ()
    """Images of ours that are there."""
    problems: tuple[Problem, ...] = ()

    @property
    def usable(self) -> bool:
        return self.reachable and not any(problem.severity == "error" for problem in self.problems)


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """How opening a real sandbox went. `error` is "" when it answered, after `seconds`."""

    engine: EngineChoice
    seconds: float
    controls: tuple[Control, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """All that was found."""

    machine: Machine
    engines: tuple[EngineFacts, ...]
    problems: tuple[Problem, ...]
    """Of the machine; those of an engine are with it."""

    @property
    def can_run(self) -> bool:
        """Whether a job can run on one engine at least."""
        return self.machine.git and any(engine.usable for engine in self.engines)


def diagnose() -> Diagnosis:
    """Look at the machine and at every engine."""
    machine = look_at_machine()
    engines = tuple(look_at_engine(name) for name in ENGINES)
    return Diagnosis(machine=machine, engines=engines, problems=tuple(machine_problems(machine)))


def look_at_machine() -> Machine:
    """Facts about the machine we run on."""
    status = Path("/proc/self/status").read_text()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return Machine(
        system=_system_name(),
        kernel=platform.release(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        cgroup_version=_cgroup_version(),
        landlock_abi=_landlock_abi(),
        seccomp="Seccomp:" in status,
        user_namespaces=_number("/proc/sys/user/max_user_namespaces"),
        open_files_limit=files,
        may_raise_limits=podman.may_raise_limits(),
        root=os.getuid() == 0,
        git=shutil.which("git") is not None,
        key_present=bool(os.environ.get("ANTHROPIC_API_KEY")),
    )


def look_at_engine(name: EngineName) -> EngineFacts:
    """Facts about one engine; podman's service is started, and ended again, when it does not run."""
    installed = shutil.which(name) is not None
    try:
        with ENGINES[name](None) as engine:
            facts = {"docker": _docker_facts, "podman": _podman_facts}[name](engine.api)
            found = EngineFacts(
                name=name, installed=installed, reachable=True, url=engine.api.url, version=engine.version,
                started_by_us=engine.started_by_us, **facts, **_stock(engine),
            )  # fmt: skip
    except SandboxError as error:
        return EngineFacts(name=name, installed=installed, problems=(_unreachable(name, installed, error),))
    return replace(found, problems=tuple(engine_problems(found)))


def prove(choice: EngineChoice) -> Proof:
    """Open a real sandbox, with what a policy asks for when it asks for nothing special."""
    started = time.monotonic()
    try:
        with open_engine(choice) as engine:
            volume, base = image.ensure_toolbox(engine), image.ensure_image(engine, "base")
            started = time.monotonic()
            with engine.open_sandbox(_config(volume, base)) as sandbox:
                seconds = time.monotonic() - started
            return Proof(engine=engine.name, seconds=seconds, controls=sandbox.report.controls)
    except RunnerError as error:
        return Proof(engine=choice, seconds=time.monotonic() - started, error=str(error))


def _config(volume: str, base: image.ImageRef) -> SandboxConfig:
    return SandboxConfig(
        image=base.reference,
        image_digest=base.digest,
        profile=profile.from_policy(Container()),
        toolbox_volume=volume,
        labels={owner.LABEL: "1", owner.OWNER: owner.mine(), owner.JOB: "doctor"},
    )


def _docker_facts(api: Api) -> dict[str, Any]:
    """From GET /info of docker's API reference; older versions lack some keys."""
    info = api.get("/info")
    options = {option.removeprefix("name=").partition(",")[0] for option in info.get("SecurityOptions") or ()}
    rootless, cgroups = "rootless" in options, info.get("CgroupVersion", "1")
    limits = {"memory": "MemoryLimit", "swap": "SwapLimit", "cpus": "CpuCfsQuota", "pids": "PidsLimit"}
    return {
        "storage_driver": info["Driver"],
        "cgroup_version": cgroups,
        "oci_runtime": info.get("DefaultRuntime", ""),
        "rootless": rootless,
        "user_namespace": "rootless" if rootless else "of the daemon" if "userns" in options else "none",
        "seccomp": "seccomp" in options,
        "unenforced": tuple(name for name, key in limits.items() if not info.get(key, True)),
        "disk_free_bytes": _free_bytes(info["DockerRootDir"]),
    }


def _podman_facts(api: Api) -> dict[str, Any]:
    """From GET /libpod/info of podman's API reference."""
    info = api.get("/libpod/info")
    host, security = info["host"], info["host"]["security"]
    rootless, cgroups = security["rootless"], host["cgroupVersion"].removeprefix("v")
    user_namespace = "rootless" if rootless else "auto" if _has_subordinate_ids(api) else "none"
    return {
        "storage_driver": info["store"]["graphDriverName"],
        "cgroup_version": cgroups,
        "oci_runtime": host["ociRuntime"]["name"],
        "rootless": rootless,
        "user_namespace": user_namespace,
        "seccomp": security["seccompEnabled"],
        # Taken with exit code 0 and one warning line in the service's log.
        "unenforced": ("memory", "swap", "cpus", "pids") if rootless and cgroups == "1" else (),
        "disk_free_bytes": _free_bytes(info["store"]["graphRoot"]),
    }


def _has_subordinate_ids(api: Api) -> bool:
    """Whether podman finds ids for `--userns auto`; supposed of engines whose files we do not see."""
    if not api.url.startswith("unix://") or IN_CONTAINER.exists() or IN_DOCKER.exists():
        return True
    files = (Path("/etc/subuid"), Path("/etc/subgid"))
    return all(
        path.exists() and any(line.startswith("containers:") for line in path.read_text().splitlines())
        for path in files
    )


def _stock(engine: ContainerEngine) -> dict[str, Any]:
    """What of ours is on the engine."""
    api = engine.api
    return {
        "toolbox_present": api.exists(f"/volumes/{image.VOLUME}{image.recipe('toolbox').version}"),
        "images": tuple(state.name for state in image.states(engine) if state.built),
    }


def _unreachable(name: EngineName, installed: bool, error: SandboxError) -> Problem:
    if not installed:
        return Problem(what=f"{name} is not here: {error}", next_step=_INSTALL[name], severity="error")
    if "Permission denied" in str(error):
        return Problem(what=f"{name} is not open to this user: {error}", next_step=_JOIN[name], severity="error")
    return Problem(what=f"{name} is installed but does not answer: {error}", next_step=_START[name], severity="error")


_JOIN = {
    "docker": "join its group: usermod -aG docker $USER, then log in again",
    "podman": "unset CONTAINER_HOST to use podman rootless, or run as root",
}
_START = {
    "docker": "start it: systemctl start docker (or dockerd), or set DOCKER_HOST",
    "podman": "try by hand: podman system service --time 0 unix:///tmp/podman.sock",
}
_INSTALL = {
    "docker": "install it (Debian: apt-get install docker.io), or use podman",
    "podman": "install it (Debian: apt-get install podman runc uidmap), or use docker",
}


def engine_problems(facts: EngineFacts) -> Iterator[Problem]:
    """What of these facts stands in a job's way."""
    if facts.unenforced:
        yield Problem(
            what=f"{facts.name} does not enforce {', '.join(facts.unenforced)} here"
            + (" (rootless on cgroup version 1)" if facts.rootless else ""),
            next_step="run as root or boot with cgroup version 2; or name them in container.best_effort of the policy",
            severity="error",
        )
    if facts.name == "podman" and facts.user_namespace == "none":
        yield Problem(
            what="podman cannot give each job a user namespace: no ids for user 'containers'",
            next_step="echo containers:300000:6553600 | tee -a /etc/subuid /etc/subgid",
            severity="error",
        )
    if not facts.seccomp:
        yield Problem(
            what=f"{facts.name} runs without seccomp",
            next_step="use a kernel and an OCI runtime built with seccomp",
            severity="error",
        )
    if facts.storage_driver == "vfs":
        yield Problem(
            what=f"{facts.name} stores images with vfs: every container copies its whole image",
            next_step="use overlay storage (rootless: install fuse-overlayfs)",
        )
    if facts.disk_free_bytes is not None and facts.disk_free_bytes < LOW_DISK_BYTES:
        yield Problem(
            what=f"{facts.name} has {facts.disk_free_bytes >> 20} MiB of disk left",
            next_step=f"remove what you no longer need: {facts.name} image prune",
        )
    if not facts.toolbox_present:
        yield Problem(
            what=f"the toolbox is not on {facts.name} yet; the first job waits for it to be built",
            next_step=f"claw-runner image build toolbox --engine {facts.name}",
        )


def machine_problems(machine: Machine) -> Iterator[Problem]:
    """What of these facts stands in a job's way, or leaves it with less."""
    if not machine.key_present:
        yield Problem(
            what="ANTHROPIC_API_KEY is not set: anthropic: models cannot be used",
            next_step="export ANTHROPIC_API_KEY=..., or use a scripted: or replay: model",
        )
    if not machine.git:
        yield Problem(
            what="git is not installed; it brings repositories in and branches out",
            next_step=f"install git {'.'.join(map(str, OLDEST_GIT))} or newer",
            severity="error",
        )
    if machine.landlock_abi == 0:
        yield Problem(
            what="the kernel has no Landlock: a policy whose path rules commands are to be held to refuses the job",
            next_step="use Linux 5.13 or newer, with landlock among the security modules (lsm=); "
            "or let it be missing, in the policy: container.best_effort: [landlock]",
        )
    elif machine.landlock_abi < KNOWS_TRUNCATION:
        yield Problem(
            what=f"the kernel's Landlock (ABI {machine.landlock_abi}) does not keep commands from cutting off files "
            "that they may not write to",
            next_step="use Linux 6.2 or newer",
        )
    if machine.open_files_limit < LOW_OPEN_FILES:
        yield Problem(
            what=f"only {machine.open_files_limit} open files are allowed",
            next_step=f"raise the hard limit: ulimit -Hn {4 * LOW_OPEN_FILES}",
        )


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _cgroup_version() -> Literal["1", "1 (hybrid)", "2"]:
    if not podman.hybrid_cgroups():
        return "2"
    return "1 (hybrid)" if "0::" in Path("/proc/self/cgroup").read_text() else "1"


def _landlock_abi() -> int:
    """landlock_create_ruleset(2) with flag 1 only asks for the version."""
    version: int = ctypes.CDLL(None).syscall(SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return max(version, 0)


def _number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except OSError:
        return 0


def _free_bytes(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
