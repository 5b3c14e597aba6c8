"""The hardening: what the engines say that a container got, and what code inside can and cannot do."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ControlNotEnforced
from runner.policy.schema import Container
from runner.sandbox import profile
from runner.sandbox.base import Sandbox
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef
from runner.toolbox import landlock
from tests.conftest import sandbox_config
from tests.sandbox import probes
from tests.sandbox.weaker import IGNORED, weaker_engine

MIB = 1 << 20
Opener = Callable[..., Sandbox]


def test_every_key_of_the_policy_reaches_the_profile() -> None:
    container = Container(
        memory=300 * MIB, cpus=1.5, pids=77, disk=100 * MIB, inodes=5000, tmp=50 * MIB, file_size=20 * MIB,
        open_files=99, read_only=False, best_effort=("swap",),
    )  # fmt: skip
    made = profile.from_policy(container)
    assert (made.memory, made.cpus, made.pids, made.disk) == (300 * MIB, 1.5, 77, 100 * MIB)
    assert (made.inodes, made.tmp, made.file_size) == (5000, 50 * MIB, 20 * MIB)
    assert (made.open_files, made.read_only, made.may_be_missing) == (99, False, frozenset({"swap"}))


def test_a_full_disk_fits_into_the_memory_limit() -> None:
    made = profile.from_policy(Container())
    mounts = sum(mount.bytes for mount in profile.mounts(made)) + profile.SHM_BYTES
    assert profile.memory_limit(made) == made.memory + mounts


def test_the_seccomp_filter_allows_nothing_that_it_refuses() -> None:
    rules = json.loads(profile.seccomp())["syscalls"]
    names = {action: [n for rule in rules if rule["action"] == action for n in rule["names"]] for action in ACTIONS}
    assert not set(names["SCMP_ACT_ALLOW"]) & set(names["SCMP_ACT_ERRNO"])
    unconditional = [rule for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" and not rule["args"]]
    assert len(unconditional) == 1
    assert unconditional[0]["names"] == sorted(set(unconditional[0]["names"]))
    assert json.loads(profile.seccomp())["defaultAction"] == "SCMP_ACT_ERRNO"


ACTIONS = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO")


@pytest.mark.engine
def test_the_engine_made_what_the_profile_promises(open_sandbox: Opener, engine: ContainerEngine) -> None:
    sandbox = open_sandbox(cpus=1.5, pids=77, memory="300m", disk="100m", tmp="50m")
    name = sandbox.report.container_id
    found = {"docker": _docker_golden, "podman": _podman_golden}[engine.name](engine, name)
    limit = (300 + 100 + 50 + 16 + 64) * MIB
    assert found == {
        "read_only": True,
        "privileged": False,
        "network": "none",
        "memory": limit,
        "memory_and_swap": limit,
        "cpus": 1.5,
        "pids": 77,
        "shm": 64 * MIB,
        "oom_score_adj": 500,
        "capabilities": {"KILL", "SETGID", "SETPCAP", "SETUID"},
        "no_new_privileges": True,
        "seccomp": "ours",
        "masked": set(profile.MASKED),
        "ulimits": {"core": (0, 0), "fsize": (1 << 30, 1 << 30), "nofile": (4096, 4096)},
        "log": "none",
        "auto_remove": True,
        "restart": "no",
        "user": "0:0",
        "entrypoint": list(profile.ENTRYPOINT),
        "devices": [],
        "writable": {"/workspace", "/tmp", "/run"},
        "read_only_mounts": {"/opt/claw", "/etc/hosts"},
        "namespaces": {"ipc": "private", "pid": "private", "cgroup": "private"},
        "ports": {},
    }


def _docker_golden(engine: ContainerEngine, name: str) -> dict[str, Any]:
    inspected = engine.api.get(f"/containers/{name}/json")
    host, config = inspected["HostConfig"], inspected["Config"]
    seccomp = next(option for option in host["SecurityOpt"] if option.startswith("seccomp="))
    assert host["CapDrop"] == ["ALL"]
    return {
        "read_only": host["ReadonlyRootfs"],
        "privileged": host["Privileged"],
        "network": host["NetworkMode"],
        "memory": host["Memory"],
        "memory_and_swap": host["MemorySwap"],
        "cpus": host["CpuQuota"] / host["CpuPeriod"],
        "pids": host["PidsLimit"],
        "shm": host["ShmSize"],
        "oom_score_adj": host["OomScoreAdj"],
        "capabilities": {name.removeprefix("CAP_") for name in host["CapAdd"]},
        "no_new_privileges": "no-new-privileges:true" in host["SecurityOpt"],
        "seccomp": "ours" if seccomp == f"seccomp={profile.seccomp().decode()}" else seccomp,
        "masked": set(host["MaskedPaths"]),
        "ulimits": {limit["Name"]: (limit["Soft"], limit["Hard"]) for limit in host["Ulimits"]},
        "log": host["LogConfig"]["Type"],
        "auto_remove": host["AutoRemove"],
        "restart": host["RestartPolicy"]["Name"],
        "user": config["User"],
        "entrypoint": config["Entrypoint"],
        "devices": host["Devices"] or [],
        "writable": set(host["Tmpfs"]),
        "read_only_mounts": {mount["Destination"] for mount in inspected["Mounts"] if not mount["RW"]},
        "namespaces": {
            "ipc": host["IpcMode"],
            "pid": host["PidMode"] or "private",
            "cgroup": host["CgroupnsMode"],
        },
        "ports": inspected["NetworkSettings"]["Ports"] or {},
    }


def _podman_golden(engine: ContainerEngine, name: str) -> dict[str, Any]:
    """What inspect leaves out is read from the OCI configuration, which is what the runtime was given."""
    inspected = engine.api.get(f"/libpod/containers/{name}/json")
    host, config = inspected["HostConfig"], inspected["Config"]
    spec = json.loads(Path(inspected["OCIConfigPath"]).read_text())
    process, linux, resources = spec["process"], spec["linux"], spec["linux"]["resources"]
    mounts = {mount["destination"]: mount for mount in spec["mounts"]}
    kinds = {namespace["type"] for namespace in linux["namespaces"] if "path" not in namespace}
    assert "user" in {namespace["type"] for namespace in linux["namespaces"]}
    filtered = {name for rule in linux["seccomp"]["syscalls"] for name in rule["names"] if not rule.get("args")}
    ours = {name for rule in json.loads(profile.seccomp())["syscalls"] for name in rule["names"] if not rule["args"]}
    return {
        "read_only": spec["root"]["readonly"],
        "privileged": host["Privileged"],
        "network": host["NetworkMode"],
        "memory": resources["memory"]["limit"],
        "memory_and_swap": resources["memory"]["swap"],
        "cpus": resources["cpu"]["quota"] / resources["cpu"]["period"],
        "pids": resources["pids"]["limit"],
        "shm": host["ShmSize"],
        "oom_score_adj": process["oomScoreAdj"],
        "capabilities": {name.removeprefix("CAP_") for name in process["capabilities"]["bounding"]},
        "no_new_privileges": process["noNewPrivileges"],
        "seccomp": "ours" if filtered == ours else "another",
        "masked": set(linux["maskedPaths"]) & set(profile.MASKED),
        "ulimits": {
            limit["type"].removeprefix("RLIMIT_").lower(): (limit["soft"], limit["hard"])
            for limit in process["rlimits"]
            if limit["type"] != "RLIMIT_NPROC"
        },
        "log": host["LogConfig"]["Type"],
        "auto_remove": host["AutoRemove"],
        "restart": host["RestartPolicy"]["Name"] or "no",
        "user": config["User"],
        "entrypoint": process["args"],
        "devices": host["Devices"] or [],
        "writable": {path for path, mount in mounts.items() if mount["type"] == "tmpfs"} - {"/dev"},
        "read_only_mounts": {mount["Destination"] for mount in inspected["Mounts"] if not mount["RW"]},
        "namespaces": {kind: "private" if kind in kinds else "shared" for kind in ("ipc", "pid", "cgroup")},
        "ports": inspected["NetworkSettings"]["Ports"] or {},
    }


_stopped: dict[str, dict[str, str | None]] = {}


@pytest.fixture
def stopped(engine: ContainerEngine, open_sandbox: Opener) -> dict[str, str | None]:
    """What stopped each probe; they all run once on each engine."""
    if engine.name not in _stopped:
        script = Path(probes.__file__).read_text()
        python = ["/opt/claw/bin/python3", "-S", "-c", script]
        result = open_sandbox().exec(
            python, program="argv", variables={"PYTHONHOME": "/opt/claw"}, seconds=120, head_bytes=100_000
        )
        assert result.ok, result.output.decode()
        _stopped[engine.name] = json.loads(result.output)
    return _stopped[engine.name]


@pytest.mark.engine
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the probes name system calls by x86_64's numbers")
@pytest.mark.parametrize("attempt", list(probes.PROBES))
def test_code_in_the_sandbox_cannot(attempt: str, stopped: dict[str, str | None]) -> None:
    assert stopped[attempt] is not None


@pytest.mark.engine
def test_a_fork_bomb_ends_at_the_limit_of_processes(open_sandbox: Opener) -> None:
    sandbox = open_sandbox(pids=64)
    bomb = "for i in $(seq 500); do sleep 30 & done 2>/tmp/said; ls -d /proc/[0-9]* | wc -l"
    result = sandbox.exec(bomb, seconds=20)
    assert int(result.output.split()[-1] if result.output.split() else 0) <= 64
    assert sandbox.exec("echo still here").output == b"still here\n"


@pytest.mark.engine
@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm"])
def test_a_full_mount_is_an_error_of_the_writer_and_not_the_end(open_sandbox: Opener, folder: str) -> None:
    sandbox = open_sandbox(memory="64m", disk="32m", tmp="16m")
    result = sandbox.exec(f"head -c 200000000 /dev/zero > {folder}/full; echo code $?; wc -c < {folder}/full")
    assert b"No space left on device" in result.output
    assert not result.oom_killed
    assert int(result.output.split()[-1]) <= 64 * MIB


@pytest.mark.engine
@pytest.mark.parametrize("folder", ["/workspace", "/tmp"])
def test_the_number_of_files_is_bounded(open_sandbox: Opener, folder: str) -> None:
    sandbox = open_sandbox(inodes=1000)
    many = f"mkdir {folder}/many; cd {folder}/many && seq 30000 | xargs touch 2>&1 | tail -n 1; ls | wc -l"
    result = sandbox.exec(many, seconds=60)
    assert b"No space left on device" in result.output
    assert int(result.output.split()[-1]) < (1000 if folder == "/workspace" else 20_000)


@pytest.mark.engine
def test_a_single_file_is_bounded(open_sandbox: Opener) -> None:
    sandbox = open_sandbox(file_size="1m")
    result = sandbox.exec("head -c 5000000 /dev/zero > big; wc -c < big")
    assert int(result.output.split()[-1]) == MIB


@pytest.mark.engine
def test_every_control_is_reported_and_hard(sandbox: Sandbox, engine: ContainerEngine) -> None:
    status = {control.name: control.status for control in sandbox.report.controls}
    assert tuple(status) == profile.CONTROLS
    expected = {"user_namespace"} if engine.name == "docker" else set()
    if landlock.abi() < profile.TRUNCATE_ABI:
        expected.add("landlock")
    assert {name for name, found in status.items() if found != "hard"} == expected


@pytest.mark.parametrize(
    ("abi", "works", "effective", "status"),
    [
        (7, True, "ABI 7", "hard"),
        (2, True, "ABI 2, which lets commands cut off files that they may not write to", "soft"),
        (7, False, "ABI 7, without effect", "missing"),
        (0, False, "none", "missing"),
    ],
)
def test_landlock_is_reported_as_what_it_holds(abi: int, works: bool, effective: str, status: str) -> None:
    control = profile.landlock(abi, works=works)
    assert (control.requested, control.effective, control.status) == ("when the policy asks for it", effective, status)


@pytest.mark.engine
def test_a_writable_root_is_reported_as_missing(open_sandbox: Opener) -> None:
    sandbox = open_sandbox(read_only=False)
    control = next(control for control in sandbox.report.controls if control.name == "read_only")
    assert (control.requested, control.status) == ("writable root (policy)", "missing")


@pytest.mark.engine
@pytest.mark.parametrize("control", list(IGNORED["docker"]))
def test_a_control_that_did_not_take_stops_the_job_unless_it_may_be_missing(
    engine: ContainerEngine, toolbox_volume: str, base_image: ImageRef, control: str
) -> None:
    weaker = weaker_engine(engine, without=control)
    with pytest.raises(ControlNotEnforced, match=rf"not applied here: .*{control} \(asked for .*best_effort: \["):
        weaker.open_sandbox(sandbox_config(base_image, toolbox_volume))
    lenient = sandbox_config(base_image, toolbox_volume, best_effort=(control, "swap"))
    with weaker.open_sandbox(lenient) as sandbox:
        assert {found.name: found.status for found in sandbox.report.controls}[control] == "missing"
