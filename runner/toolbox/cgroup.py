"""Limits and counters of the control group that the toolbox runs in, of either version.

Sources: the kernel's Documentation/admin-guide/cgroup-v1/memory.rst, …/pids.rst, Documentation/scheduler/sched-bwc.rst
and Documentation/admin-guide/cgroup-v2.rst; where a group is mounted: proc(5), /proc/pid/mountinfo, /proc/pid/cgroup.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNLIMITED = 1 << 60
"""Version 1 writes the largest number of pages for "no limit"; nothing real is as large."""


def limits() -> dict[str, Any]:
    """Memory and swap in bytes, pids, cpus; None where there is no limit, or none to be seen. `files` are verbatim."""
    folders = find()
    files = {path: text for path in interesting(folders) if (text := read(path)) is not None}
    names = {os.path.basename(path): text.split() for path, text in files.items()}
    two = "" in folders and "memory.max" in names
    return {
        "version": 2 if two else 1 if files else 0,
        "memory": number(names, "memory.max" if two else "memory.limit_in_bytes"),
        "memory_and_swap": None if two else number(names, "memory.memsw.limit_in_bytes"),
        "swap": number(names, "memory.swap.max") if two else None,
        "pids": number(names, "pids.max"),
        "cpus": cpus(names),
        "files": files,
    }


def oom_counter() -> int | None:
    """A descriptor of the file that counts the processes killed for want of memory; None when there is none."""
    folders = find()
    for folder, name in ((folders.get("memory"), "memory.oom_control"), (folders.get(""), "memory.events")):
        try:
            if folder is not None:
                return os.open(os.path.join(folder, name), os.O_RDONLY)
        except OSError:
            continue  # the other version may have it
    return None


def oom_kills(counter: int | None) -> int:
    """The count now, 0 when it is not kept."""
    if counter is None:
        return 0
    words = os.pread(counter, 4096, 0).split()
    return int(words[words.index(b"oom_kill") + 1]) if b"oom_kill" in words else 0


def find() -> dict[str, str]:
    """Folder of our group for each controller of version 1, and under "" for version 2."""
    own = {}
    for line in lines("/proc/self/cgroup"):
        _, names, path = line.split(":", 2)
        own.update({name: path for name in names.split(",")})
    found: dict[str, str] = {}
    for line in lines("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        root, point = before.split(" ")[3:5]
        kind, _, options = after.split(" ", 2)
        controllers = [""] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
        found.update({name: folder(point, root, own[name]) for name in controllers if name in own})
    return found


def folder(point: str, root: str, own: str) -> str:
    """Where the group `own` shows in a mount at `point` of the group `root`; `point` when that is all there is."""
    below = os.path.relpath(own, root) if own.startswith(root) else "."
    path = os.path.normpath(os.path.join(point, below))
    return path if os.path.isdir(path) else point


def interesting(folders: dict[str, str]) -> list[str]:
    """Paths of the files that hold limits."""
    names = {
        "": ("memory.max", "memory.swap.max", "pids.max", "cpu.max"),
        "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
        "pids": ("pids.max",),
        "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
    }
    return [os.path.join(path, name) for key, path in folders.items() for name in names.get(key, ())]


def number(names: dict[str, list[str]], name: str) -> int | None:
    word = names.get(name, ["max"])[0]
    return None if word == "max" or int(word) >= UNLIMITED else int(word)


def cpus(names: dict[str, list[str]]) -> float | None:
    quota, period = names.get("cpu.max") or (
        names.get("cpu.cfs_quota_us", ["-1"]) + names.get("cpu.cfs_period_us", ["100000"])
    )
    return None if quota in {"max", "-1"} else int(quota) / int(period)


def read(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read(4096).decode("ascii", "replace").strip()
    except OSError:
        return None


def lines(path: str) -> list[str]:
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace").splitlines()
