"""What the toolbox finds inside its container, for the host to compare with what it asked for. See docs/protocol.md."""

from __future__ import annotations

import os
import resource
import sys

from . import cgroup, landlock, privileges
from .child import in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MEASURED = ("/", "/workspace", "/tmp", "/run", "/dev/shm")
LIMITS = {
    "file_size": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "core": resource.RLIMIT_CORE,
    "locked_memory": resource.RLIMIT_MEMLOCK,
    "stack": resource.RLIMIT_STACK,
}
MAX_TEXT = 16 * 1024


def gather(root: str, uid: int, gid: int, workspace: str) -> dict[str, Any]:
    """Everything, measured now."""
    system = os.uname()
    return {
        "version": (read_text(os.path.join(root, "VERSION")) or "").strip(),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "kernel": system.release,
        "machine": system.machine,
        "pid": os.getpid(),
        "toolbox": credentials(),
        "command": ask_child(uid, gid),
        "uid_map": id_map("uid_map"),
        "gid_map": id_map("gid_map"),
        "cgroup": cgroup.limits(),
        "mounts": mounts({*MEASURED, workspace}),
        "interfaces": interfaces(),
        "resolv_conf": read_text("/etc/resolv.conf"),
        "devices": devices(),
        "landlock_abi": landlock.abi(),
    }


def credentials() -> dict[str, Any]:
    """Of this process, as the kernel tells. Format: proc(5), /proc/pid/status; capability sets as hexadecimal masks."""
    lines = (line.partition(":") for line in (read_text("/proc/self/status") or "").splitlines())
    status = {name: value.strip() for name, _, value in lines}
    return {
        "uids": numbers(status.get("Uid", "")),
        "gids": numbers(status.get("Gid", "")),
        "groups": numbers(status.get("Groups", "")),
        "capabilities": {
            name: int(status.get(key, "0"), 16)
            for name, key in (
                ("inheritable", "CapInh"),
                ("permitted", "CapPrm"),
                ("effective", "CapEff"),
                ("bounding", "CapBnd"),
                ("ambient", "CapAmb"),
            )
        },
        "no_new_privileges": status.get("NoNewPrivs") == "1",
        "seccomp": int(status.get("Seccomp", "0")),
        "limits": {name: rlimit(number) for name, number in LIMITS.items()},
    }


def ask_child(uid: int, gid: int) -> dict[str, Any]:
    """The same of a child that has become the job's user, as every command does."""

    def become_and_tell() -> dict[str, Any]:
        privileges.become(uid, gid)
        return credentials()

    told: dict[str, Any] = in_child(become_and_tell)
    return told


def mounts(measured: set[str]) -> list[dict[str, Any]]:
    """The mount table. Format: proc(5), /proc/pid/mountinfo. Sizes in bytes, for the paths in `measured`."""
    table = []
    for line in (read_text("/proc/self/mountinfo", 1024 * 1024) or "").splitlines():
        before, _, after = line.partition(" - ")
        mine, theirs = before.split(" "), after.split(" ")
        path = unescape(mine[4])
        entry = {"path": path, "kind": theirs[0], "options": mine[5].split(","), "super_options": theirs[2].split(",")}
        table.append({**entry, **(sizes(path) if path in measured else {})})
    return table[:500]


def sizes(path: str) -> dict[str, int]:
    try:
        found = os.statvfs(path)
    except OSError:
        return {}
    return {"bytes": found.f_blocks * found.f_frsize, "inodes": found.f_files}


def interfaces() -> list[str]:
    """Network interfaces by name. Format: proc(5), /proc/net/dev, two lines of heading."""
    lines = (read_text("/proc/self/net/dev") or "").splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


def devices() -> list[str]:
    try:
        return sorted(name.decode("ascii", "replace") for name in os.listdir(b"/dev"))[:1000]
    except OSError:
        return []


def id_map(name: str) -> list[list[int]]:
    """Rows of (first id inside, first id outside, count). Format: user_namespaces(7)."""
    return [numbers(line) for line in (read_text(f"/proc/self/{name}") or "").splitlines()]


def rlimit(number: int) -> list[int | None]:
    """Soft and hard limit; None means unlimited."""
    return [None if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(number)]


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def unescape(path: str) -> str:
    """A path as mountinfo writes it: blank, tab, newline and backslash are octal."""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, letter)
    return path


def read_text(path: str, most: int = MAX_TEXT) -> str | None:
    """The beginning of a text file, None when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(most).decode("utf-8", "replace")
    except OSError:
        return None
