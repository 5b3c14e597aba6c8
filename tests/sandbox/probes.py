"""What code in a sandbox might try. Runs inside, as the job's user, with the toolbox's Python; prints JSON.

Each probe does one thing that must not work. Output: name of the probe -> what stopped it, or null when it got through.
Numbers of system calls and constants: <asm/unistd_64.h>, <linux/sched.h>, <bits/socket.h>.
"""

import ctypes
import json
import os
import resource
import socket
import subprocess

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
SIGCHLD = 17
PROBES = {}


def probe(name, *arguments):
    def register(function):
        PROBES[name] = lambda: function(*arguments)
        return function

    return register


def system_call(number, *arguments):
    if libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def read(path):
    with open(path, "rb") as file:
        if not file.read(64):
            raise OSError(0, "reads as empty")


def write(path):
    with open(path, "r+b" if os.path.exists(path) else "wb") as file:  # noqa: PTH110
        file.write(b"1")


def connect(address):
    socket.create_connection(address, timeout=3).close()


def there(path):
    os.stat(path)  # noqa: PTH116


def clone(flags):
    # The child of a clone without a stack of its own runs on a copy of ours, as after fork.
    pid = libc.syscall(56, ctypes.c_long(flags | SIGCHLD), None, None, None, None)
    if pid == 0:
        os._exit(0)
    if pid < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    os.waitpid(pid, 0)


def dump_core():
    status = subprocess.Popen(["/bin/sh", "-c", "kill -SEGV $$"]).wait()
    child = os.fork()
    if child == 0:
        os.abort()
    _, status = os.waitpid(child, 0)
    if not os.WCOREDUMP(status):
        raise OSError(0, "no core was written")


def listed(path):
    if not os.listdir(path):  # noqa: PTH208
        raise OSError(0, "lists as empty")


def raise_limit(kind):
    resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


for path in ("/proc/1/environ", "/proc/1/mem", "/proc/1/maps", "/proc/kcore", "/proc/kallsyms", "/proc/interrupts",
             "/proc/keys", "/proc/kpagecount", "/proc/slabinfo", "/etc/shadow", "/dev/mem", "/dev/kmsg",
             "/etc/resolv.conf"):  # fmt: skip
    probe(f"read {path}", path)(read)
for path in ("/proc/1/root/etc", "/proc/1/fd", "/sys/firmware", "/sys/devices/virtual/powercap", "/root"):
    probe(f"list {path}", path)(listed)
for path in ("/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/proc/1/oom_score_adj",
             "/sys/kernel/mm/ksm/run", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max",
             "/sys/fs/cgroup/pids/cgroup.procs", "/sys/fs/cgroup/cgroup.procs", "/etc/new", "/usr/bin/new", "/new",
             "/opt/claw/new", "/opt/claw/toolbox/server.py", "/run/new", "/dev/new", "/etc/hosts"):  # fmt: skip
    probe(f"write {path}", path)(write)
for path in ("/var/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock", "/dev/sda",
             "/dev/vda", "/dev/fuse", "/dev/net/tun", "/dev/kvm", "/dev/loop-control"):  # fmt: skip
    probe(f"find {path}", path)(there)
for host, port in (("1.1.1.1", 53), ("169.254.169.254", 80), ("172.17.0.1", 22), ("10.88.0.1", 22), ("8.8.8.8", 443)):
    probe(f"connect to {host}", (host, port))(connect)
probe("resolve a name", ("example.com", 443))(connect)
probe("resolve the host", ("host.containers.internal", 443))(connect)
for name, arguments in {
    "raw": (socket.AF_INET, socket.SOCK_RAW, 1),
    "packet": (17, socket.SOCK_RAW, 0),
    "vsock": (40, socket.SOCK_STREAM, 0),
    "kernel crypto": (38, socket.SOCK_SEQPACKET, 0),
    "netfilter": (16, socket.SOCK_RAW, 12),
    "audit": (16, socket.SOCK_RAW, 9),
    "bluetooth": (31, socket.SOCK_RAW, 1),
}.items():
    probe(f"open a {name} socket", *arguments)(socket.socket)
for name, arguments in {
    "mount": (165, b"none", b"/tmp", b"tmpfs", 0, None),
    "umount2": (166, b"/opt/claw", 2),
    "pivot_root": (155, b"/tmp", b"/tmp"),
    "chroot": (161, b"/tmp"),
    "fsopen": (430, b"tmpfs", 0),
    "open_tree": (428, -100, b"/", 1),
    "move_mount": (429, -100, b"/tmp", -100, b"/run", 0),
    "mount_setattr": (442, -100, b"/", 0, None, 0),
    "unshare a user namespace": (272, CLONE_NEWUSER),
    "unshare a mount namespace": (272, CLONE_NEWNS),
    "clone3": (435, None, 88),
    "setns": (308, 0, 0),
    "ptrace the toolbox": (101, 16, 1, 0, 0),
    "ptrace oneself": (101, 0, 0, 0, 0),
    "process_vm_readv": (310, 1, None, 0, None, 0, 0),
    "pidfd_getfd": (438, 0, 0, 0),
    "keyctl": (250, 0, -3, 1),
    "add_key": (248, b"user", b"a", b"b", 1, -3),
    "request_key": (249, b"user", b"a", None, -3),
    "bpf": (321, 0, None, 0),
    "perf_event_open": (298, None, 0, -1, -1, 0),
    "io_uring_setup": (425, 1, None),
    "userfaultfd": (323, 1),
    "kexec_load": (246, 0, 0, None, 0),
    "init_module": (175, None, 0, b""),
    "finit_module": (313, 0, b"", 0),
    "syslog": (103, 10, None, 0),
    "reboot": (169, 0xFEE1DEAD, 672274793, 0, None),
    "sethostname": (170, b"x", 1),
    "settimeofday": (164, None, None),
    "swapon": (167, b"/tmp/x", 0),
    "acct": (163, None),
    "open_by_handle_at": (304, -100, None, 0),
    "name_to_handle_at": (303, -100, b"/", None, None, 0),
    "personality that makes memory executable": (135, 0x0400000),
    "iopl": (172, 3),
    "modify_ldt": (154, 0, None, 0),
    "fanotify_init": (300, 0, 0),
    "quotactl": (179, 0, None, 0, None),
}.items():
    probe(name, *arguments)(system_call)
for name, flags in (("user", CLONE_NEWUSER), ("network", CLONE_NEWUSER | CLONE_NEWNET)):
    probe(f"clone into a {name} namespace", flags)(clone)
probe("make a device", "/tmp/device", 0o20666, os.makedev(1, 1))(os.mknod)
probe("become root", 0)(os.setuid)
probe("become another user", 1001)(os.setuid)
probe("join a group", [0])(os.setgroups)
probe("kill the toolbox", 1, 9)(os.kill)
probe("stop the toolbox", 1, 19)(os.kill)
probe("raise one's priority", -5)(os.nice)
probe("raise the limit of open files", resource.RLIMIT_NOFILE)(raise_limit)
probe("raise the limit of file size", resource.RLIMIT_FSIZE)(raise_limit)
probe("limit the toolbox", 1, resource.RLIMIT_NOFILE, (0, 0))(resource.prlimit)
probe("dump core")(dump_core)


def main():
    stopped = {}
    for name, attempt in PROBES.items():
        try:
            attempt()
            stopped[name] = None
        except (OSError, ValueError) as error:
            stopped[name] = str(error)
    print(json.dumps(stopped))


if __name__ == "__main__":
    main()
