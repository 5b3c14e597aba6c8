"""Who owns a container: a label that tells, on the machine it came from, whether its runner is still alive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

LABEL = "claw-runner"
"""On every image, volume and container of ours, with value "1"."""
OWNER = "claw-runner.owner"
JOB = "claw-runner.job"


def mine() -> str:
    """This process: `<boot id>:<pid namespace>:<pid>:<start time in clock ticks since boot>`."""
    return f"{_boot_id()}:{_pid_namespace()}:{os.getpid()}:{started(os.getpid())}"


def state(label: str) -> Literal["alive", "dead", "unknown"]:
    """Whether the process behind an owner label lives; unknown for one of another machine, boot or container."""
    boot_id, namespace, pid, start = (*label.split(":"), "", "", "", "")[:4]
    if (boot_id, namespace) != (_boot_id(), _pid_namespace()) or not pid.isdecimal():
        return "unknown"
    return "alive" if started(int(pid)) == start else "dead"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _pid_namespace() -> str:
    return Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")


def started(pid: int) -> str:
    """Start time of a process, "" when there is none: field 22 of proc(5) stat, after a name that may hold anything."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    condition, *fields = stat.rpartition(")")[2].split()
    return "" if condition == "Z" else fields[18]
