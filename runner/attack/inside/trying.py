"""One attempt after the other, each in a process of its own, and what it came to.

An attempt returns what it got, which is a hole, or Stopped; an OSError stops it as well. Whatever gets through changes
nothing for the next one, and has arguments that harm nobody.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

AT_ONCE = 4
SECONDS = 8.0
"""For one attempt. One that is still waiting then was not refused."""
REFUSED = frozenset((errno.EPERM, errno.EACCES, errno.ENOSYS))
ORDERS: dict[str, Any] = {}
"""What the host says: `runner/attack/entry.py: Orders`."""

libc = ctypes.CDLL(None, use_errno=True)


class Stopped(NamedTuple):
    """It came to nothing."""

    why: str


Got = str | Stopped


class Attempt(NamedTuple):
    category: str
    name: str
    run: Callable[[], Got]


class DoesNotApply(Exception):
    pass


ATTEMPTS: list[Attempt] = []


def attempt(category: str, name: str, *arguments: Any) -> Callable[[Callable[..., Got]], Any]:
    """Register a function as an attempt, with these arguments."""

    def register(function: Callable[..., Got]) -> Callable[..., Got]:
        ATTEMPTS.append(Attempt(category, name, lambda: function(*arguments)))
        return function

    return register


def carry_out(orders: dict[str, Any]) -> list[dict[str, str]]:
    """Every attempt of the ordered categories."""
    ORDERS.update(orders)
    waiting: list[_Running] = []
    findings = []
    for each in [each for each in ATTEMPTS if each.category in orders["categories"]]:
        if len(waiting) == AT_ONCE:
            findings.append(_finish(waiting.pop(0)))
        waiting.append(_start(each))
    return findings + [_finish(each) for each in waiting]


class _Running(NamedTuple):
    pid: int
    out: int
    attempt: Attempt
    deadline: float


def _start(each: Attempt) -> _Running:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _run(each, writer)
    os.close(writer)
    return _Running(pid, reader, each, time.monotonic() + SECONDS)


def _run(each: Attempt, out: int) -> NoReturn:
    """In a child: try, say how it went, end."""
    try:
        got = each.run()
        found = ("held", got.why) if isinstance(got, Stopped) else ("hole", got)
    except DoesNotApply as why:
        found = ("not_applicable", str(why))
    except OSError as error:
        found = ("held", error.strerror or str(error))
    except BaseException as error:
        found = ("error", repr(error))
    os.write(out, json.dumps((found[0], found[1][:1000])).encode())
    os._exit(0)


def _finish(running: _Running) -> dict[str, str]:
    """How it went. One that is still at it is ended: it was not refused, so it counts as a hole."""
    left = max(0.0, running.deadline - time.monotonic())
    late = not select.select([running.out], [], [], left)[0]
    if late:
        os.kill(running.pid, signal.SIGKILL)
    said = b"" if late else os.read(running.out, 1 << 16)
    os.close(running.out)
    os.waitpid(running.pid, 0)
    status, evidence = "hole", f"it was not refused: it was still waiting after {SECONDS:.0f} s"
    if said:
        status, evidence = json.loads(said)
    elif not late:
        status, evidence = "error", "it ended without a word"
    return {"category": running.attempt.category, "name": running.attempt.name, "status": status, "evidence": evidence}


# --- what attempts are made of


def scratch() -> str:
    """A new folder. Where nothing can be made any more one of that name is not there."""
    path = f"/tmp/attack-{os.getpid()}"
    for folder in ("/tmp", "/workspace/home", "/dev/shm"):  # a policy may take any of them away
        path = f"{folder}/attack-{os.getpid()}"
        with suppress(OSError):
            os.mkdir(path)
            break
    return path


def read(path: str, size: int = 64) -> str:
    with open(path, "rb") as file:
        return file.read(size).decode("utf-8", "replace")


def read_something(path: str) -> Got:
    content = read(path)
    # Not what it says: that may be a secret.
    return f"read {len(content)} characters" if content.strip("\0 \n") else Stopped("reads as empty")


def list_something(path: str) -> Got:
    names = os.listdir(path)
    return f"lists {', '.join(names[:4])}" if names else Stopped("lists as empty")


def open_to_write(path: str) -> Got:
    os.close(os.open(path, os.O_WRONLY))  # opened, and nothing is written: what is written here may act on the host
    return "opened for writing"


def status_of(pid: str = "self") -> dict[str, str]:
    """Format: proc(5), /proc/pid/status."""
    lines = (line.partition(":") for line in read(f"/proc/{pid}/status", 8192).splitlines())
    return {name: value.strip() for name, _, value in lines}


class Mount(NamedTuple):
    path: str
    kind: str
    options: frozenset[str]


def mounts() -> list[Mount]:
    """The mount table. Format: proc(5), /proc/pid/mountinfo."""
    table = []
    for line in read("/proc/self/mountinfo", 1 << 20).splitlines():
        before, _, after = line.partition(" - ")
        words = before.split(" ")
        table.append(Mount(words[4], after.split(" ")[0], frozenset(words[5].split(","))))
    return table


def variables() -> list[tuple[str, str]]:
    """Name and value of every variable of every process that lets us look."""
    found: set[tuple[str, str]] = set()
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError):
            for entry in read(f"/proc/{pid}/environ", 1 << 18).split("\0"):
                name, equals, value = entry.partition("=")
                if equals:
                    found.add((name[:200], value[:2000]))
    return sorted(found)[:2000]


NUMBERS = {
    "acct": (163, 89), "add_key": (248, 217), "bpf": (321, 280), "clone": (56, 220), "clone3": (435, 435),
    "delete_module": (176, 106), "fanotify_init": (300, 262), "finit_module": (313, 273), "fsopen": (430, 430),
    "init_module": (175, 105), "io_uring_setup": (425, 425), "iopl": (172, None), "kcmp": (312, 272),
    "kexec_load": (246, 104), "keyctl": (250, 219), "memfd_secret": (447, 447), "migrate_pages": (256, 238),
    "modify_ldt": (154, None), "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429),
    "move_pages": (279, 239), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "open_tree": (428, 428),
    "perf_event_open": (298, 241), "personality": (135, 92), "pidfd_getfd": (438, 438), "pivot_root": (155, 41),
    "process_vm_readv": (310, 270), "ptrace": (101, 117), "quotactl": (179, 60), "reboot": (169, 142),
    "request_key": (249, 218), "sethostname": (170, 161), "setns": (308, 268), "settimeofday": (164, 170),
    "swapon": (167, 224), "syslog": (103, 116), "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}  # fmt: skip
"""Of x86_64, and of the table that newer machines share; None: there is no such call. From the kernel's headers."""


def call_number(name: str) -> int:
    column = {"x86_64": 0, "aarch64": 1, "riscv64": 1}.get(platform.machine())
    found = NUMBERS[name][column] if column is not None else None
    if found is None:
        raise DoesNotApply(f"the call is not known on {platform.machine()}")
    return found


def failed() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


def system_call(name: str, *arguments: Any) -> str:
    """What it answered. Raises OSError when it was refused; any other error means that the kernel took the call."""
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    answer = libc.syscall(call_number(name), *words)
    if answer >= 0:
        return f"{name} answered {answer}"
    error = failed()
    if error.errno in REFUSED:
        raise error
    return f"the kernel took {name} ({errno.errorcode.get(error.errno or 0)})"
