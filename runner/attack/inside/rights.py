"""What a process may do: its capabilities, its user, its namespaces, the calls that the kernel takes from it."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import stat
import subprocess
import time
from contextlib import suppress
from typing import Any

from runner.attack.inside.trying import (
    ORDERS,
    REFUSED,
    DoesNotApply,
    Got,
    Stopped,
    attempt,
    call_number,
    failed,
    libc,
    read,
    scratch,
    status_of,
    system_call,
)

# --- rights of the process

for name, key in (
    ("effective", "CapEff"),
    ("permitted", "CapPrm"),
    ("inheritable", "CapInh"),
    ("ambient", "CapAmb"),
    ("bounding", "CapBnd"),
):

    @attempt("capabilities", f"have {name} capabilities", key)
    def capabilities(key: str) -> Got:
        mask = int(status_of()[key], 16)
        return f"{key} is {mask:#x}" if mask else Stopped("none")


for name, family, protocol in (("IPv4", 2, 1), ("IPv6", 10, 58)):

    @attempt("capabilities", f"open a raw {name} socket", family, protocol)
    def raw_socket(family: int, protocol: int) -> Got:
        socket.socket(family, socket.SOCK_RAW, protocol).close()
        return "opened it"


@attempt("capabilities", "give something to root")
def give_away() -> Got:
    os.chown(scratch(), 0, 0)
    return "gave a folder to root"


@attempt("capabilities", "set the clock")
def set_clock() -> Got:
    # Neither a time nor a zone: the kernel asks for the right, and then changes nothing.
    return system_call("settimeofday", None, None)


@attempt("privileges", "run as root")
def is_root() -> Got:
    ids = {*status_of()["Uid"].split(), *status_of()["Gid"].split()}
    return f"ids are {', '.join(sorted(ids))}" if ids != {str(ORDERS["uid"])} else Stopped("it is an ordinary user")


@attempt("privileges", "be in other groups")
def groups() -> Got:
    others = sorted(set(os.getgroups()) - {ORDERS["uid"]})
    return f"is in {others}" if others else Stopped("in none")


@attempt("privileges", "gain privileges from a program")
def new_privileges() -> Got:
    return "no_new_privs is not set" if status_of()["NoNewPrivs"] != "1" else Stopped("no_new_privs is set")


@attempt("privileges", "become root by a program that is root's")
def setuid_program() -> Got:
    programs = ("/bin/su", "/usr/bin/sudo", "/bin/mount", "/usr/bin/passwd", "/usr/bin/newgrp", "/usr/bin/chsh")
    there = [path for path in programs if os.path.exists(path) and os.stat(path).st_mode & stat.S_ISUID]
    if not there:
        raise DoesNotApply("the image has no setuid program")
    nothing = subprocess.DEVNULL
    with subprocess.Popen([there[0]], stdin=subprocess.PIPE, stdout=nothing, stderr=nothing) as process:
        time.sleep(0.1)  # until it is that program, or has ended and is still in the table
        effective = status_of(str(process.pid))["Uid"].split()[1]
        process.kill()
    return f"{there[0]} runs as root" if effective == "0" and ORDERS["uid"] != 0 else Stopped("it runs as ourselves")


@attempt("privileges", "become root")
def become_root() -> Got:
    os.setresuid(0, 0, 0)
    return "became root"


@attempt("privileges", "become another user")
def become_another() -> Got:
    os.setresuid(1001, 1001, 1001)
    return "became user 1001"


@attempt("privileges", "join root's group")
def join_group() -> Got:
    os.setgroups([0])
    return "joined"


@attempt("privileges", "end the first process")
def kill_first() -> Got:
    os.kill(1, 0)  # sends nothing, and asks whether it may
    return "may send it signals"


@attempt("privileges", "end processes of other users")
def kill_others() -> Got:
    mine = str(os.getuid())
    for pid in (name for name in os.listdir("/proc") if name.isdigit() and name != "1"):
        with suppress(OSError, KeyError):
            if status_of(pid)["Uid"].split()[0] != mine:
                os.kill(int(pid), 0)
                return f"may send signals to process {pid}"
    return Stopped("to none")


@attempt("privileges", "limit the first process")
def limit_first() -> Got:
    resource.prlimit(1, resource.RLIMIT_NOFILE)
    return "may set its limits"


@attempt("privileges", "be the last that is killed for memory")
def spare_me() -> Got:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")
    return "set its score to -1000"


@attempt("privileges", "get ahead of other processes", -5)
def raise_priority(by: int) -> Got:
    return f"priority is {os.nice(by)}"


for category, name, limit in (
    ("processes", "open files", resource.RLIMIT_NOFILE),
    ("disk", "the size of files", resource.RLIMIT_FSIZE),
):

    @attempt(category, f"raise the limit of {name}", limit)
    def raise_limit(kind: int) -> Got:
        if resource.getrlimit(kind)[1] == resource.RLIM_INFINITY:
            return "there is no limit"
        try:
            resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except ValueError as error:
            return Stopped(str(error))
        return "raised it"


@attempt("privileges", "leave a core dump")
def core_dump() -> Got:
    limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
    return f"the limit is {limit}" if limit else Stopped("the limit is 0")


# --- namespaces

NAMESPACES = {"user": 0x10000000, "mnt": 0x20000, "net": 0x40000000, "pid": 0x20000000, "ipc": 0x8000000,
              "uts": 0x4000000, "cgroup": 0x2000000, "time": 0x80}  # fmt: skip
"""Flags of <linux/sched.h>, by the names in /proc/self/ns."""
SIGCHLD = 17

for name, flag in NAMESPACES.items():

    @attempt("namespaces", f"make a {name} namespace", flag)
    def unshare(flag: int) -> Got:
        return system_call("unshare", flag)


for name in ("mnt", "net", "pid", "ipc", "uts", "cgroup"):

    @attempt("namespaces", f"be in the host's {name} namespace", name)
    def shared(kind: str) -> Got:
        mine = os.readlink(f"/proc/self/ns/{kind}")
        return f"shares {mine}" if mine == ORDERS["namespaces"].get(kind) else Stopped(f"has its own, {mine}")


@attempt("namespaces", "share a user namespace with the host")
def user_namespace() -> Got:
    row = read("/proc/self/uid_map", 4096).split()
    if row[:2] == ["0", "0"] and not ORDERS["user_namespace"]:
        raise DoesNotApply("this engine has user namespaces for its whole daemon, or not at all")
    return "root inside is root outside" if row[:2] == ["0", "0"] else Stopped(f"root inside is {row[1]} outside")


@attempt("namespaces", "join the first process's namespace")
def join() -> Got:
    with open("/proc/1/ns/mnt") as file:
        return system_call("setns", file.fileno(), 0)


for name, flags in (("user", 0x10000000), ("user and network", 0x50000000)):

    @attempt("namespaces", f"start a process in a {name} namespace", flags)
    def clone(flags: int) -> Got:
        # A child without a stack of its own runs on a copy of ours, as after fork.
        pid = libc.syscall(call_number("clone"), ctypes.c_long(flags | SIGCHLD), None, None, None, None)
        if pid == 0:
            os._exit(0)
        if pid < 0:
            raise failed()
        os.waitpid(pid, 0)
        return "started"


@attempt("namespaces", "mount in a user namespace of one's own")
def mount_in_user_namespace() -> Got:
    system_call("unshare", NAMESPACES["user"] | NAMESPACES["mnt"])
    return system_call("mount", b"none", scratch().encode(), b"tmpfs", 0, None)


# --- the kernel's calls

BAD = ctypes.c_void_p(1)
"""An address that nobody has."""
CALLS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("acct", (BAD,)), ("add_key", (b"user", b"a", b"b", 1, -3)), ("bpf", (0, BAD, 8)), ("clone3", (BAD, 88)),
    ("delete_module", (BAD, 0)), ("fanotify_init", (0, 0)), ("finit_module", (-1, BAD, 0)), ("fsopen", (BAD, 0)),
    ("init_module", (BAD, 0, BAD)), ("io_uring_setup", (1, BAD)), ("iopl", (3,)), ("kcmp", (1, 1, 0, 0, 0)),
    ("kexec_load", (0, 0, None, 0xFF)), ("keyctl", (0, -3, 1)), ("memfd_secret", (0,)),
    ("migrate_pages", (0, 0, BAD, BAD)), ("modify_ldt", (0, BAD, 0)), ("mount_setattr", (-1, BAD, 0, BAD, 32)),
    ("move_mount", (-1, BAD, -1, BAD, 0)), ("move_pages", (0, 0, BAD, BAD, BAD, 0)),
    ("name_to_handle_at", (-100, BAD, BAD, BAD, 0)), ("open_by_handle_at", (-1, BAD, 0)),
    ("open_tree", (-100, b"/", 1)), ("perf_event_open", (BAD, 0, -1, -1, 0)), ("personality", (0x0400000,)),
    ("pidfd_getfd", (-1, 0, 0)), ("pivot_root", (BAD, BAD)), ("process_vm_readv", (1, BAD, 1, BAD, 1, 0)),
    ("ptrace", (0, 0, 0, 0)), ("quotactl", (-1, BAD, 0, BAD)), ("reboot", (0, 0, 0, None)),
    ("request_key", (b"user", b"a", None, -3)), ("sethostname", (BAD, 1)), ("setns", (-1, 0)), ("swapon", (BAD, 0)),
    ("syslog", (10, None, 0)), ("umount2", (b"/nowhere", 0)), ("userfaultfd", (1,)), ("vmsplice", (-1, BAD, 1, 0)),
)  # fmt: skip
"""Each with arguments that no caller could do harm with: what the kernel takes, it then refuses for those."""

for name, arguments in CALLS:

    @attempt("system calls", f"call {name}", name, *arguments)
    def call(name: str, *arguments: Any) -> Got:
        return system_call(name, *arguments)


@attempt("system calls", "run without a filter of system calls")
def filtered() -> Got:
    mode = status_of().get("Seccomp", "0")
    return "seccomp is off" if mode == "0" else Stopped(f"seccomp is on (mode {mode})")


LACKING = frozenset((errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT))
"""The kernel itself has no such socket."""

for name, family, kind, protocol in (
    ("packet", 17, socket.SOCK_RAW, 0), ("vsock", 40, socket.SOCK_STREAM, 0), ("key", 15, socket.SOCK_RAW, 2),
    ("kernel crypto", 38, socket.SOCK_SEQPACKET, 0), ("audit", 16, socket.SOCK_RAW, 9),
    ("netfilter", 16, socket.SOCK_RAW, 12), ("xfrm", 16, socket.SOCK_RAW, 6), ("bluetooth", 31, socket.SOCK_RAW, 1),
    ("CAN", 29, socket.SOCK_RAW, 1), ("TIPC", 30, socket.SOCK_STREAM, 0), ("XDP", 44, socket.SOCK_RAW, 0),
):  # fmt: skip

    @attempt("system calls", f"open a {name} socket", family, kind, protocol)
    def special_socket(family: int, kind: int, protocol: int) -> Got:
        try:
            socket.socket(family, kind, protocol).close()
        except OSError as error:
            if error.errno in REFUSED | LACKING:
                raise
            return f"the kernel took it ({error.strerror})"
        return "opened it"
