"""What lies around the commands: files, sockets, mounts, devices, the kernel's own files, secrets."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import suppress

from runner.attack.inside.trying import (
    ORDERS,
    DoesNotApply,
    Got,
    Stopped,
    attempt,
    list_something,
    mounts,
    open_to_write,
    read,
    read_something,
    scratch,
    system_call,
)

WALK_SECONDS = 4.0

# --- files of the host, sockets of the host


def near_and_far(path: str) -> Iterator[str]:
    """Where a file of the host would be seen: at its own place, or below any mount, with any part of its path."""
    names = [name for name in path.split("/") if name]
    for root in ["/", *(entry.path for entry in mounts())]:
        for start in range(len(names)):
            yield "/".join([root.rstrip("/"), *names[start:]])


@attempt("host files", "find a file that lies on the host")
def host_file() -> Got:
    for path in near_and_far(ORDERS["canary"]):
        with suppress(OSError):
            if ORDERS["token"] in read(path, 200):
                return f"read {path}"
    return Stopped("it is nowhere")


@attempt("host files", "reach the host's root through the first process", "/proc/1/root")
@attempt("host files", "reach the host through the first process's directory", "/proc/1/cwd")
def follow(path: str) -> Got:
    names = os.listdir(path)
    return f"listed {path}: {', '.join(names[:5])}"


@attempt("host files", "climb out of the root")
def climb() -> Got:
    path = "/" + "../" * 64 + ORDERS["canary"].lstrip("/")
    return f"read {path}" if ORDERS["token"] in read(path, 200) else Stopped("another file is there")


@attempt("host files", "use a descriptor that was left open")
def inherited() -> Got:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if int(name) > 2 and not target.startswith(("/proc/", "pipe:", "anon_inode:", "/dev/null")):
                found.append(f"{name} -> {target}")
    return ", ".join(found) or Stopped("there is none")


KNOWN_SOCKETS = """
/var/run/docker.sock /run/docker.sock /run/podman/podman.sock /var/run/podman/podman.sock
/run/containerd/containerd.sock /run/user/0/podman/podman.sock /run/user/1000/podman/podman.sock
/run/user/1000/docker.sock /run/crio/crio.sock
/run/buildkit/buildkitd.sock /run/dbus/system_bus_socket /run/systemd/private /run/systemd/journal/socket
/run/snapd.socket /run/libvirt/libvirt-sock /tmp/.X11-unix/X0
"""


def find_socket(path: str) -> Got:
    """A socket that is there is a hole, even if it is closed to this user."""
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return Stopped("it is no socket")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        try:
            connection.connect(path)
        except OSError as error:
            return f"{path} is there ({error.strerror})"
    return f"connected to {path}"


for place in KNOWN_SOCKETS.split():
    attempt("sockets", f"find {place}", place)(find_socket)


@attempt("sockets", "find any other socket")
def any_socket() -> Got:
    deadline = time.monotonic() + WALK_SECONDS
    for folder, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/sys")]
        for name in files:
            path = os.path.join(folder, name)
            with suppress(OSError):
                if path not in KNOWN_SOCKETS.split() and stat.S_ISSOCK(os.lstat(path).st_mode):
                    return f"{path} is there"
        if time.monotonic() > deadline:
            break
    return Stopped("there is none")


@attempt("sockets", "reach a socket of the host that has a name and no path")
def abstract_socket() -> Got:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect("\0" + ORDERS["abstract"])
        return f"connected to @{ORDERS['abstract']}"


# --- what the kernel shows

UNREADABLE = """
/proc/1/environ /proc/1/mem /proc/1/maps /proc/kcore /proc/kallsyms /proc/interrupts /proc/keys /proc/kmsg
/proc/kpagecount /proc/kpageflags /proc/slabinfo /proc/timer_list /proc/sched_debug /proc/vmallocinfo /proc/modules
/proc/scsi/scsi /proc/asound/cards /dev/mem /dev/kmsg /dev/port /etc/shadow
"""
UNLISTED = """
/proc/1/fd /proc/1/map_files /proc/acpi /sys/firmware /sys/devices/virtual/powercap /sys/kernel/debug
/sys/kernel/tracing /sys/fs/bpf
"""
UNWRITABLE = """
/proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hostname
/proc/sys/vm/drop_caches /proc/sys/fs/binfmt_misc/register /proc/1/oom_score_adj /proc/1/mem /proc/irq/0/smp_affinity
/sys/kernel/uevent_helper /sys/kernel/mm/ksm/run /sys/power/state /sys/fs/cgroup/memory/memory.limit_in_bytes
/sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/pids/pids.max
/sys/fs/cgroup/memory/release_agent /sys/fs/cgroup/rdma/release_agent /sys/fs/cgroup/cpu/release_agent
"""

for place in UNREADABLE.split():
    attempt("/proc and /sys", f"read {place}", place)(read_something)
for place in UNLISTED.split():
    attempt("/proc and /sys", f"list {place}", place)(list_something)
for place in UNWRITABLE.split():
    attempt("/proc and /sys", f"write {place}", place)(open_to_write)
for place in ("/proc/sys", "/proc/irq", "/proc/bus", "/sys"):

    @attempt("/proc and /sys", f"find {place} writable", place)
    def writable(path: str) -> Got:
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        return Stopped("it is mounted read-only") if read_only else "it is mounted writable"


@attempt("/proc and /sys", "find a control group writable")
def writable_cgroup() -> Got:
    found = [entry.path for entry in mounts() if entry.kind.startswith("cgroup") and "ro" not in entry.options]
    return f"{', '.join(found)} can be written" if found else Stopped("all are mounted read-only")


@attempt("/proc and /sys", "learn the host's control groups")
def see_cgroup() -> Got:
    paths = {line.split(":", 2)[2] for line in read("/proc/self/cgroup", 8192).splitlines()}
    told = [path for path in paths if path not in ("/", "") and not path.startswith("/..")]
    return f"is in {told[0]}" if told else Stopped("only the root of its own is shown")


# --- mounts


IN_MEMORY = frozenset(("cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "proc", "sysfs", "tmpfs"))
MADE_BY_US = frozenset(("/", "/opt/claw", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"))


@attempt("mounts", "find a mount of the host's disks")
def foreign_mount() -> Got:
    found = [entry for entry in mounts() if entry.kind not in IN_MEMORY and entry.path not in MADE_BY_US]
    if not found:
        return Stopped("there is none")
    how = {True: "read-only", False: "writable"}
    return ", ".join(f"{entry.path} ({entry.kind}, {how['ro' in entry.options]})" for entry in found[:3])


@attempt("mounts", "write to the image's own files")
def writable_root() -> Got:
    root = next(entry for entry in reversed(mounts()) if entry.path == "/")
    if "ro" in root.options:
        return Stopped("the root is mounted read-only")
    if not ORDERS["read_only"]:
        raise DoesNotApply("the policy asks for a writable root (container.read_only: false)")
    tried = 0
    for folder in open_folders("/"):
        tried += 1
        path = os.path.join(folder, "claw-attack")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError:
            continue
        os.unlink(path)
        return f"made {path}"
    return Stopped(f"nothing could be made in {tried} folders whose modes allow it")


def open_folders(root: str) -> Iterator[str]:
    """Folders of the root's own file system that this user may write to by their modes."""
    device = os.lstat(root).st_dev
    for folder, names, _ in os.walk(root):
        inside = (os.path.join(folder, name) for name in names)
        names[:] = [os.path.basename(path) for path in inside if os.lstat(path).st_dev == device]
        if folder == root and "workspace" in names:
            names.remove("workspace")
        if os.access(folder, os.W_OK):
            yield folder


NEW = """
/attack /etc/attack /usr/bin/attack /var/tmp/attack /var/lib/attack /home/attack /opt/claw/attack /run/attack
/dev/attack /mnt/attack /root/attack /etc/ld.so.preload
"""

for place in NEW.split():

    @attempt("mounts", f"make {place}", place)
    def make(path: str) -> Got:
        if not ORDERS["read_only"] and not path.startswith(("/opt/claw", "/run", "/dev")):
            raise DoesNotApply("the policy asks for a writable root (container.read_only: false)")
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        os.unlink(path)
        return "made"


for place in ("/opt/claw/toolbox/server.py", "/etc/hosts", "/etc/passwd"):
    attempt("mounts", f"change {place}", place)(open_to_write)


@attempt("mounts", "mount a file system")
def mount() -> Got:
    return system_call("mount", b"none", scratch().encode(), b"tmpfs", 0, None)


@attempt("mounts", "change the root directory")
def change_root() -> Got:
    os.chroot(scratch())
    return "changed"


# --- devices

HARMLESS = frozenset(os.makedev(1, minor) for minor in (3, 5, 7, 8, 9)) | {os.makedev(5, 0), os.makedev(5, 2)}
"""null, zero, full, random, urandom, tty, ptmx: numbers of the kernel's admin-guide/devices.txt."""
PSEUDO_TERMINALS = 136


@attempt("devices", "find a device of the host")
def device() -> Got:
    found = []
    for folder, _, names in os.walk("/dev"):
        for path in (os.path.join(folder, name) for name in names):
            with suppress(OSError):
                status = os.lstat(path)
                harmless = status.st_rdev in HARMLESS or os.major(status.st_rdev) == PSEUDO_TERMINALS
                if stat.S_ISBLK(status.st_mode) or (stat.S_ISCHR(status.st_mode) and not harmless):
                    found.append(path)
    found = [path for path in found if path != "/dev/console"]
    return f"there are {', '.join(found[:6])}" if found else Stopped("there is none")


for name, number, kind in (
    ("the memory", os.makedev(1, 1), stat.S_IFCHR),
    ("a disk", os.makedev(8, 0), stat.S_IFBLK),
    ("a virtual disk", os.makedev(253, 0), stat.S_IFBLK),
    ("a loop device", os.makedev(7, 0), stat.S_IFBLK),
    ("a tunnel", os.makedev(10, 200), stat.S_IFCHR),
):

    @attempt("devices", f"make a device for {name}", number, kind)
    def make_device(number: int, kind: int) -> Got:
        os.mknod(f"{scratch()}/device", kind | 0o600, number)
        return "made"


# --- secrets

SECRET_FOLDERS = """
/run/secrets /var/run/secrets /var/run/secrets/kubernetes.io /run/credentials /etc/ssl/private /root/.ssh /root/.aws
/root/.config
"""
SECRET_FILES = "/root/.netrc /root/.git-credentials /root/.docker/config.json /etc/docker/daemon.json"

for place in SECRET_FOLDERS.split():
    attempt("secrets", f"list {place}", place)(list_something)
for place in SECRET_FILES.split():
    attempt("secrets", f"read {place}", place)(read_something)
