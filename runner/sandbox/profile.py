"""The hardening of every container: one frozen profile, the same for both engines, and the proof that it took.

`docker_request` and `podman_request` are the only two places that say how a container is made; the golden tests
compare what the engines' `inspect` gives back with them. `read_back` compares what the toolbox found inside with what
was asked: every control becomes a `Control`, and one that did not take stops the job.

The rules and their reasons: `docs/sandbox.md`. The seccomp filter is `seccomp.json`, an allow-list that began as the
default of containers/common 0.50 with all that it grants to capabilities taken out, without what `docs/sandbox.md`
lists as refused, and with clone, socket and personality bound to harmless arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from runner.errors import ControlNotEnforced
from runner.policy.schema import Container, ControlName
from runner.sandbox.base import TOOLBOX, WORKSPACE, Control, Profile, SandboxConfig
from runner.sandbox.hello import Capabilities, Credentials, Hello, Mount

UID = GID = 1000
"""The job's user. Not the first process's (0), so that a command can neither trace nor kill it."""
CAPABILITIES = ("KILL", "SETGID", "SETPCAP", "SETUID")
"""What the first process starts with. It drops SETPCAP at once; commands run with none."""
ENTRYPOINT = (f"{TOOLBOX}/bin/python3", "-s", "-S", "-B", f"{TOOLBOX}/toolbox")
VARIABLES = {"PYTHONHOME": str(TOOLBOX)}
"""Of the first process alone."""
LOADER_VARIABLES = ("LD_", "PYTHON", "GLIBC_", "GCONV_", "MALLOC_", "LOCPATH")
"""Variables that begin so change what the toolbox runs. An image's own are kept from it and given to commands."""
HOSTNAME = "job"

MIB = 1 << 20
RUN_BYTES = 16 * MIB
SHM_BYTES = 64 * MIB
SMALL_INODES = 20_000
"""Inodes of /tmp and /run each; /workspace has the policy's own number."""
USERNS_IDS = 65_536
CPU_PERIOD = 100_000
"""Microseconds, the kernel's own default."""

# The engines' defaults (moby 28) and what else tells about the host. /etc/resolv.conf is masked because both engines
# copy the host's in even when there is no network: masking mounts /dev/null over it, which reads as an empty file.
MASKED = (
    "/etc/resolv.conf",
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# docker writes no hosts file when the network is disabled (enabling one that reaches nothing costs it 80 ms), podman
# copies the host's; so both get this one, else "localhost" is unknown.
HOSTS = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t" + HOSTNAME.encode() + b"\n"


def from_policy(container: Container) -> Profile:
    """The profile that a policy's `container` section asks for; `workspace: auto` is as good as `memory` here."""
    return Profile(
        memory=container.memory,
        cpus=container.cpus,
        pids=container.pids,
        disk=container.disk,
        inodes=container.inodes,
        tmp=container.tmp,
        file_size=container.file_size,
        open_files=container.open_files,
        read_only=container.read_only,
        workspace="layer" if container.workspace == "layer" else "memory",
        uid=UID,
        gid=GID,
        may_be_missing=frozenset(container.best_effort),
    )


def seccomp() -> bytes:
    """The seccomp filter as both engines take it (format: docker's profile JSON, understood by podman)."""
    return Path(__file__).with_name("seccomp.json").read_bytes()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tmpfs:
    """A bounded, writable mount that lives in memory. `bytes` is its size; it is charged to the memory limit."""

    path: str
    bytes: int
    inodes: int
    mode: str
    executable: bool = True

    @property
    def flags(self) -> list[str]:
        return ["rw", "nosuid", "nodev", "exec" if self.executable else "noexec"]

    @property
    def limits(self) -> str:
        return f"size={self.bytes},nr_inodes={self.inodes}"


def mounts(profile: Profile) -> tuple[Tmpfs, ...]:
    """Every writable mount but /dev/shm, whose size is a field of its own on both engines."""
    workspace = Tmpfs(path=str(WORKSPACE), bytes=profile.disk, inodes=profile.inodes, mode="1777")
    return (
        *((workspace,) if profile.workspace == "memory" else ()),
        Tmpfs(path="/tmp", bytes=profile.tmp, inodes=SMALL_INODES, mode="1777"),
        Tmpfs(path="/run", bytes=RUN_BYTES, inodes=SMALL_INODES, mode="755", executable=False),
    )


def memory_limit(profile: Profile) -> int:
    """Bytes for the control group: the processes' share and every tmpfs, so that a full disk never kills a process."""
    return profile.memory + SHM_BYTES + sum(mount.bytes for mount in mounts(profile))


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """What an image would bring into its containers."""

    variables: Mapping[str, str]
    volumes: tuple[str, ...]

    @property
    def loader_variables(self) -> dict[str, str]:
        return {name: value for name, value in self.variables.items() if name.startswith(LOADER_VARIABLES)}


def holds_root(profile: Profile) -> bool:
    """Whether the toolbox, and not a mount, keeps the root as the image made it."""
    return profile.read_only and profile.workspace == "layer"


def _command(config: SandboxConfig) -> list[str]:
    """Arguments of the toolbox; see toolbox/hold.py."""
    return ["hold", "snapshot" if config.filled else "new", str(WORKSPACE)] if holds_root(config.profile) else []


def _started_from(config: SandboxConfig) -> str:
    return config.filled.reference if config.filled else config.image


def docker_request(config: SandboxConfig, *, image: ImageConfig, files: str) -> dict[str, Any]:
    """The body of docker's POST /containers/create.

    `files` is the folder, on the engine's machine, with the file `hosts` (see files.py).
    """
    profile = config.profile
    limit = memory_limit(profile)
    # docker would mount a writable, unbounded volume at each path that the image declares as one.
    extra = tuple(
        Tmpfs(path=path, bytes=RUN_BYTES, inodes=SMALL_INODES, mode="1777")
        for path in image.volumes
        if path not in {mount.path for mount in mounts(profile)}
    )
    return {
        "Image": _started_from(config),
        "Entrypoint": list(ENTRYPOINT),
        "Cmd": _command(config),
        # A name alone removes the image's variable.
        "Env": [*image.loader_variables, *(f"{name}={value}" for name, value in VARIABLES.items())],
        "User": "0:0",
        "WorkingDir": "/",
        "Hostname": HOSTNAME,
        "Labels": dict(config.labels),
        "Healthcheck": {"Test": ["NONE"]},
        "StopTimeout": 1,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": True,
        "HostConfig": {
            "AutoRemove": True,
            "RestartPolicy": {"Name": "no"},
            "Privileged": False,
            "CapDrop": ["ALL"],
            "CapAdd": list(CAPABILITIES),
            "SecurityOpt": ["no-new-privileges:true", f"seccomp={seccomp().decode()}"],
            "ReadonlyRootfs": profile.read_only and not holds_root(profile),
            "Tmpfs": {
                mount.path: ",".join([*mount.flags, mount.limits, f"mode={mount.mode}"])
                for mount in mounts(profile) + extra
            },
            "Mounts": [
                {"Type": "volume", "Source": config.toolbox_volume, "Target": str(TOOLBOX), "ReadOnly": True},
                {"Type": "bind", "Source": f"{files}/hosts", "Target": "/etc/hosts", "ReadOnly": True},
            ],
            "ShmSize": SHM_BYTES,
            "IpcMode": "private",
            "PidMode": "",
            "UTSMode": "",
            "CgroupnsMode": "private",
            "NetworkMode": "none",
            "Memory": limit,
            "MemorySwap": limit,
            # Not NanoCpus, which docker refuses when it is more than the machine has.
            "CpuPeriod": CPU_PERIOD,
            "CpuQuota": int(profile.cpus * CPU_PERIOD),
            "PidsLimit": profile.pids,
            "OomScoreAdj": 500,
            "Ulimits": [{"Name": name, "Soft": value, "Hard": value} for name, value in ulimits(profile).items()],
            "MaskedPaths": list(MASKED),
            "ReadonlyPaths": list(READ_ONLY),
            "LogConfig": {"Type": "none", "Config": {}},
        },
    }


def podman_request(
    config: SandboxConfig, *, image: ImageConfig, name: str, files: str, own_user_namespace: bool
) -> dict[str, Any]:
    """The body of podman's POST /libpod/containers/create.

    Its own API, because the docker-compatible one adds unbounded mounts of its own and knows neither
    inode limits nor masked paths nor the ignoring of image volumes. `files` is the folder, on the engine's machine,
    with `seccomp.json` and `hosts` (see files.py): podman takes the filter as a path, docker as text.
    """
    profile = config.profile
    limit = memory_limit(profile)
    return {
        "name": name,
        "image": _started_from(config),
        "entrypoint": list(ENTRYPOINT),
        "command": _command(config),
        "env": VARIABLES,
        "unsetenv": list(image.loader_variables),
        "env_host": False,
        "httpproxy": False,
        "user": "0:0",
        "work_dir": "/",
        "hostname": HOSTNAME,
        "labels": dict(config.labels),
        "healthconfig": {"Test": ["NONE"]},
        "stop_timeout": 1,
        "stdin": True,
        "terminal": False,
        "systemd": "false",
        "remove": True,
        "restart_policy": "no",
        "privileged": False,
        "cap_drop": ["ALL"],
        "cap_add": [f"CAP_{name}" for name in CAPABILITIES],
        "no_new_privileges": True,
        "seccomp_profile_path": f"{files}/seccomp.json",
        "read_only_filesystem": profile.read_only and not holds_root(profile),
        "read_write_tmpfs": False,
        "image_volume_mode": "ignore",
        "mounts": [
            *(
                {
                    "destination": mount.path,
                    "type": "tmpfs",
                    "source": "tmpfs",
                    # podman refuses nr_inodes as an option of its own, but hands the value of size through to mount(2).
                    "options": [*mount.flags, mount.limits, f"mode={mount.mode}", "notmpcopyup"],
                }
                for mount in mounts(profile)
            ),
            {"destination": "/etc/hosts", "type": "bind", "source": f"{files}/hosts", "options": ["ro", "rbind"]},
        ],
        "volumes": [{"Name": config.toolbox_volume, "Dest": str(TOOLBOX), "Options": ["ro", "nosuid", "nodev"]}],
        "use_image_hosts": True,
        "shm_size": SHM_BYTES,
        "ipcns": {"nsmode": "private"},
        "pidns": {"nsmode": "private"},
        "utsns": {"nsmode": "private"},
        "cgroupns": {"nsmode": "private"},
        "netns": {"nsmode": "none"},
        **(_own_user_namespace() if own_user_namespace else {}),
        "resource_limits": {
            "memory": {"limit": limit, "swap": limit},
            "cpu": {"period": CPU_PERIOD, "quota": int(profile.cpus * CPU_PERIOD)},
            "pids": {"limit": profile.pids},
        },
        "oom_score_adj": 500,
        "r_limits": [
            {"type": name, "soft": value, "hard": value}
            # podman asks for its own, too high nproc as soon as it is given any limit but not this one.
            for name, value in (ulimits(profile) | {"nproc": max(4096, 2 * profile.pids)}).items()
        ],
        "mask": list(MASKED),
        "log_configuration": {"driver": "none"},
    }


def _own_user_namespace() -> dict[str, Any]:
    return {
        "userns": {"nsmode": "auto"},
        "idmappings": {"AutoUserNs": True, "AutoUserNsOpts": {"Size": USERNS_IDS}},
    }


def ulimits(profile: Profile) -> dict[str, int]:
    """Resource limits of every process, soft and hard alike. Not nproc: the control group counts processes."""
    return {"core": 0, "fsize": profile.file_size, "nofile": profile.open_files}


def read_back(profile: Profile, found: Hello) -> tuple[Control, ...]:
    """What of the profile holds, by what the toolbox found inside there.

    Raises ControlNotEnforced, naming the controls and the next step, when some did not take and may not be missing.
    """
    may_be_missing = profile.may_be_missing | NEVER_REQUIRED | (set() if profile.read_only else {"read_only"})
    controls = tuple(_compared(profile, found))
    missing = [found for found in controls if found.status == "missing" and found.name not in may_be_missing]
    if missing:
        raise ControlNotEnforced(refusal(missing))
    return controls


def refusal(missing: list[Control]) -> str:
    """One line: what was not applied, the next steps, and how to do without."""
    what = ", ".join(f"{found.name} (asked for {found.requested}, found {found.effective})" for found in missing)
    steps = dict.fromkeys(NEXT_STEPS.get(found.name, "see: claw-runner doctor") for found in missing)
    names = ", ".join(found.name for found in missing)
    return (
        f"controls that were not applied here: {what}; {'; '.join(steps)}; "
        f"or let them be missing, in the policy: container.best_effort: [{names}]"
    )


CONTROLS: tuple[ControlName, ...] = get_args(ControlName)
NEVER_REQUIRED = frozenset({"user_namespace", "landlock"})
"""Reported, not required here. docker has user namespaces for the whole daemon only; podman is asked for one, and
refuses by itself when it cannot give it (podman.py). Landlock is needed by policies with something to contain, and
`Client.confine` refuses."""
_ROOTLESS = "a rootless engine needs cgroup version 2 with delegated controllers: run as root, or boot with version 2"
NEXT_STEPS = {
    "memory": _ROOTLESS,
    "pids": _ROOTLESS,
    "cpus": _ROOTLESS,
    "swap": "boot with swapaccount=1",
    "landlock": "use Linux 5.13 or newer, with landlock among the security modules (lsm=)",
}


def _compared(profile: Profile, found: Hello) -> Iterator[Control]:
    command, cgroup = found.command, found.cgroup
    yield _exact("capabilities", "none", _capability_text(command.capabilities))
    yield _exact("first_process", "KILL, SETGID, SETUID", _capability_text(found.toolbox.capabilities))
    yield _exact("no_new_privileges", "on", "on" if command.no_new_privileges else "off")
    yield _exact("seccomp", "filter", {0: "off", 1: "strict", 2: "filter"}.get(command.seccomp, "unknown"))
    yield _exact("user", _user_text({profile.uid}, {profile.gid}, ()), _user_text(*_ids(command)))
    yield _user_namespace(found.uid_map)
    yield _read_only(profile, found)
    yield _exact("host_mounts", "none writable", _writable(found.mounts))
    yield _exact("masked_paths", "masked", "masked" if found.mount(SIGN_OF_MASKING) else "not masked")
    yield _exact("devices", "none of the host", _join(set(found.devices) - DEVICES) or "none of the host")
    yield _exact("network", "none", _join(set(found.interfaces) - {"lo"}) or "none")
    yield _exact("resolv_conf", "empty", "not empty" if (found.resolv_conf or "").strip() else "empty")
    yield _at_most("memory", memory_limit(profile), cgroup.memory)
    yield _at_most(
        "swap", 0, cgroup.swap if cgroup.version == 2 else _difference(cgroup.memory_and_swap, cgroup.memory)
    )
    yield _at_most("cpus", profile.cpus, cgroup.cpus, slack=0.001)
    yield _at_most("pids", profile.pids, cgroup.pids)
    if profile.workspace == "layer":
        yield _watched("disk", profile.disk)
        yield _watched("inodes", profile.inodes)
    else:
        disk_bytes, inodes = _size(found, str(WORKSPACE))
        yield _at_most("disk", profile.disk, disk_bytes, slack=PAGE)
        yield _at_most("inodes", profile.inodes, inodes)
    yield _at_most("tmp", profile.tmp, _size(found, "/tmp")[0], slack=PAGE)
    yield _at_most("shared_memory", SHM_BYTES, _size(found, "/dev/shm")[0], slack=PAGE)
    yield _at_most("file_size", profile.file_size, command.limits.file_size[1])
    yield _at_most("open_files", profile.open_files, command.limits.open_files[1])
    yield _at_most("core_dumps", 0, command.limits.core[1])
    yield landlock(found.landlock_abi, works=found.landlock_abi > 0)


TRUNCATE_ABI = 3
"""The version of Landlock (Linux 6.2) that made truncate(2) a right of its own."""
PAGE = 65_536
"""Largest page of the supported machines; tmpfs rounds its size up to whole pages."""
SIGN_OF_MASKING = "/proc/interrupts"
"""Is on every Linux and in no engine's default list (of the versions supported), so ours was taken."""
DEVICES = frozenset(
    {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"}
    | {"tty", "urandom", "zero"}
)
_CAPABILITY_BITS = {5: "KILL", 6: "SETGID", 7: "SETUID", 8: "SETPCAP"}
_IN_MEMORY = frozenset({"cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "proc", "sysfs", "tmpfs"})


def _exact(name: str, requested: str, effective: str) -> Control:
    return Control(
        name=name, requested=requested, effective=effective, status="hard" if effective == requested else "missing"
    )


def _at_most(name: str, limit: float, found: float | None, *, slack: float = 0) -> Control:
    """None is no limit. The kernel may round what it takes, by `slack` at most."""
    return Control(
        name=name,
        requested=str(limit),
        effective="unlimited" if found is None else str(found),
        status="hard" if found is not None and found <= limit + slack else "missing",
    )


def _watched(name: str, limit: int) -> Control:
    """What no mount bounds: the toolbox ends the commands that make the workspace grow by more than this."""
    return Control(name=name, requested=str(limit), effective=f"watched: grows by {limit} at most", status="soft")


def _size(found: Hello, path: str) -> tuple[int | None, int | None]:
    """Bytes and inodes of a mount; None for what has no limit (tmpfs shows 0), or is not there."""
    mount = found.mount(path)
    return (mount.bytes or None, mount.inodes or None) if mount and mount.kind == "tmpfs" else (None, None)


def _capability_text(sets: Capabilities) -> str:
    """The capabilities that a process has or could get, over all its sets."""
    return ", ".join(_CAPABILITY_BITS.get(bit, f"#{bit}") for bit in range(64) if sets.any >> bit & 1) or "none"


def _ids(credentials: Credentials) -> tuple[set[int], set[int], tuple[int, ...]]:
    return set(credentials.uids), set(credentials.gids), credentials.groups


def _user_text(uids: set[int], gids: set[int], groups: tuple[int, ...]) -> str:
    return f"uid {_join(uids)}, gid {_join(gids)}, other groups: {_join(set(groups) - gids) or 'none'}"


def _join(names: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, names)))


def _user_namespace(uid_map: tuple[tuple[int, ...], ...]) -> Control:
    """Root inside must be another user outside."""
    outside = next((row[1] for row in uid_map if row[0] == 0), 0)
    return Control(
        name="user_namespace",
        requested="where the engine can",
        effective=f"root is {outside} outside" if outside else "none",
        status="hard" if outside else "missing",
    )


def _read_only(profile: Profile, found: Hello) -> Control:
    if holds_root(profile):
        return _held_root(found)
    root = found.mount("/")
    writable = root is None or "ro" not in root.options
    return Control(
        name="read_only",
        requested="read-only root" if profile.read_only else "writable root (policy)",
        effective="writable root" if writable else "read-only root",
        status="missing" if writable else "hard",
    )


HELD = "writable layer; nothing writes outside /workspace and the mounts (Landlock)"


def _held_root(found: Hello) -> Control:
    gap = found.landlock_abi < TRUNCATE_ABI  # what a command of the image's own uid 1000 could cut off
    held = found.hold == "held"
    return Control(
        name="read_only",
        requested="read-only root",
        effective=HELD if held else f"writable root ({found.hold or 'not held'})",
        status="missing" if not held else "soft" if gap else "hard",
    )


def _writable(mounts: tuple[Mount, ...]) -> str:
    """Writable mounts of file systems that lie on a disk of the host, but for what the engine makes for a container."""
    found = {mount.path for mount in mounts if mount.kind not in _IN_MEMORY and "ro" not in mount.options}
    found -= {"/", "/etc/hostname"}
    return _join(found) or "none writable"


def landlock(abi: int, *, works: bool) -> Control:
    """The control `landlock`, by the kernel's version of it and by whether it does its work."""
    gap = "" if abi >= TRUNCATE_ABI else ", which lets commands cut off files that they may not write to"
    return Control(
        name="landlock",
        requested="when the policy asks for it",
        effective=f"ABI {abi}{gap}" if works else f"ABI {abi}, without effect" if abi else "none",
        status="missing" if not works else "soft" if gap else "hard",
    )


def _difference(total: int | None, part: int | None) -> int | None:
    return None if total is None or part is None else total - part
