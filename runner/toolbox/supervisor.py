"""The supervisor of one command: a fork of the zygote that starts it, waits, and leaves nothing of it behind.

It runs as the toolbox's user, so the command can neither signal nor trace it, and it adopts every orphan below it
(PR_SET_CHILD_SUBREAPER), so that daemons and double forks stay in its tree. It reports in lines of JSON on a pipe.
"""

from __future__ import annotations

import json
import marshal
import os
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from errno import EINVAL

from . import landlock, privileges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

HARSH_SECONDS = 1.0
"""After this time of stopping and killing one by one, a tree that still grows is left to the toolbox."""
TICK_SECONDS = 0.01
FD = struct.Struct("i")
OOM_SCORE = b"1000"
"""The kernel ends commands for want of memory before it thinks of the toolbox. See proc(5), oom_score_adj."""
CWD_FD = 3
"""Where a shell script finds the pipe for its last working directory."""
MAX_FDS = 65536
"""Above any descriptor we have; not more, because where close_range(2) is refused they are closed one by one."""
RESTORED_SIGNALS = (
    signal.SIGINT,
    signal.SIGCHLD,
    *(number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN),
)
"""What the toolbox, Python, or whoever started them ignores, and a command must not inherit as ignored."""


class Launch:
    """What to start: programs to try in turn, arguments, variables, directory, user, time, rights, and which pipes."""

    __slots__ = (
        "argv",
        "confined",
        "cwd",
        "gid",
        "programs",
        "seconds",
        "separate_stderr",
        "stdin",
        "track_cwd",
        "uid",
        "variables",
    )

    def __init__(
        self,
        *,
        programs: list[bytes],
        argv: list[bytes],
        variables: dict[bytes, bytes],
        cwd: bytes,
        uid: int,
        gid: int,
        seconds: float | None,
        confined: bool = False,
        stdin: bool = False,
        separate_stderr: bool = False,
        track_cwd: bool = False,
    ) -> None:
        """`confined`: a Landlock ruleset comes with the orders, by which the command is held."""
        self.programs, self.argv, self.variables, self.cwd = programs, argv, variables, cwd
        self.uid, self.gid, self.seconds, self.confined = uid, gid, seconds, confined
        self.stdin, self.separate_stderr, self.track_cwd = stdin, separate_stderr, track_cwd

    def dump(self) -> bytes:
        """For `load`, in another process of this program."""
        return marshal.dumps({name: getattr(self, name) for name in self.__slots__})


class Ends:
    """The descriptors of a supervisor (status, and its orders) and of its command (the rest, and its own orders)."""

    __slots__ = ("cwd", "orders", "own_orders", "status", "stderr", "stdin", "stdout")

    def __init__(self, *fds: int) -> None:
        """In the order of `all`."""
        self.stdin, self.stdout, self.stderr, self.cwd, self.status, self.orders, self.own_orders = fds

    def all(self) -> tuple[int, ...]:
        return self.stdin, self.stdout, self.stderr, self.cwd, self.status, self.orders, self.own_orders


def fork(ends: Ends) -> int:
    """Start a supervisor that waits for orders; returns its pid. Raises OSError when no process can be made.

    It and its child are made before there is anything to do, because most of the time to start a command goes there.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            supervise(ends, parent)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(70)
    return pid


def supervise(ends: Ends, parent: int) -> None:
    """Make the child, and when orders have come: wait for it, end what is left, report."""
    close_all_but({*ends.all(), 2})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the toolbox ignores it: its children need no waiting, ours do
    privileges.prctl(privileges.PR_SET_CHILD_SUBREAPER, 1)
    privileges.prctl(privileges.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return
    child = os.fork()
    if child == 0:
        wait_and_start(ends)
    close_all_but({2, ends.status, ends.own_orders})
    orders = read_all(ends.own_orders)
    if not orders:
        return  # the toolbox has ended; the child has seen it as well
    started = time.monotonic()
    ending, status = wait(child, marshal.loads(orders))
    seconds = time.monotonic() - started
    if ending != "exited":
        signal_group(child)
    status, gone = end_descendants(child, status)
    report(ends.status, {"ending": ending, "status": status, "seconds": seconds, "gone": gone})


def wait_and_start(ends: Ends) -> NoReturn:
    """In the child: become the command. What goes wrong is reported on the status pipe, which no command inherits."""
    try:
        os.setsid()
        restore_signals()
        raise_oom_score()
        orders, ruleset = receive(ends.orders)
        if orders:
            start(Launch(**marshal.loads(orders)), ends, ruleset)
    except ValueError as error:  # a variable or an argument that execve(2) cannot take
        report(ends.status, {"errno": EINVAL, "message": str(error), "path": None})
    except OSError as error:
        name = error.filename[:200].decode("utf-8", "replace") if isinstance(error.filename, bytes) else None
        report(ends.status, {"errno": error.errno, "message": error.strerror or "", "path": name})
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(127)


def start(launch: Launch, ends: Ends, ruleset: int) -> NoReturn:
    """Become the command: only the descriptors of the call, the job's user, its rights, its directory, its program."""
    connect(launch, ends)
    privileges.become(launch.uid, launch.gid)
    if launch.confined:
        landlock.restrict(ruleset)
    os.chdir(launch.cwd)
    execute(launch)


def connect(launch: Launch, ends: Ends) -> None:
    """Put the pipes where a command expects them. All other descriptors are closed by exec."""
    if ends.status == CWD_FD:
        ends.status = os.dup(ends.status)
    place(ends.stdin if launch.stdin else os.open("/dev/null", os.O_RDONLY), 0)
    place(ends.stdout, 1)
    place(ends.stderr if launch.separate_stderr else ends.stdout, 2)
    if launch.track_cwd:
        place(ends.cwd, CWD_FD)


def place(fd: int, number: int) -> None:
    os.dup2(fd, number)
    os.set_inheritable(number, True)  # dup2 of a descriptor to itself changes nothing


def restore_signals() -> None:
    for number in RESTORED_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def read_all(fd: int) -> bytes:
    """Everything until the other end is closed."""
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)


def receive(fd: int) -> tuple[bytes, int]:
    """Everything until the other end is closed, and the descriptor that came with it, -1 when none did."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd)
    first, extras, _, _ = connection.recvmsg(65536, socket.CMSG_LEN(FD.size), socket.MSG_CMSG_CLOEXEC)
    rest = read_all(connection.detach()) if first else b""
    [ruleset] = FD.unpack(extras[0][2]) if extras else [-1]
    while 0 <= ruleset <= CWD_FD:
        ruleset = os.dup(ruleset)  # `connect` puts others there
    return first + rest, ruleset


def raise_oom_score() -> None:
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    except OSError:
        return  # a masked /proc: the order of kills is then the kernel's own
    try:
        os.write(fd, OOM_SCORE)
    finally:
        os.close(fd)


def execute(launch: Launch) -> NoReturn:
    """The first of the programs that can be run. Raises the OSError that tells why none can."""
    refusal: OSError = FileNotFoundError(2, "no such program", launch.argv[0])
    for program in launch.programs:
        try:
            os.execve(program, launch.argv, launch.variables)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            # A later folder of PATH may have one that may be run; a folder closed to this user has none to tell of.
            if len(launch.programs) == 1 or os.path.exists(program):
                refusal = PermissionError(error.errno, error.strerror, program)
        except OSError as error:
            raise OSError(error.errno, error.strerror, program) from None
    raise refusal


def wait(child: int, seconds: float | None) -> tuple[str, int | None]:
    """How the wait ended ("exited", "timed_out", "cancelled"), and the child's wait status when it exited."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        left = 3600.0 if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return "timed_out", None
        info = signal.sigtimedwait((signal.SIGCHLD, signal.SIGTERM), left)
        if info is not None and info.si_signo == signal.SIGTERM:
            return "cancelled", None
        status = reap(child)[1]
        if status is not None:
            return "exited", status


def reap(child: int) -> tuple[bool, int | None]:
    """Take every dead child off the process table: (none is left, the wait status of `child` if it was among them)."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True, found
        if pid == 0:
            return False, found
        if pid == child:
            found = status


def end_descendants(child: int, status: int | None) -> tuple[int | None, bool]:
    """Kill the whole tree: (the child's wait status, True when nothing is left). Costs one call when nothing is.

    Stopping all before killing any keeps a fork storm from filling the places of its dead. A tree that outruns even
    that (each process forks and exits) is given up after HARSH_SECONDS; the toolbox then kills by uid, at one stroke.
    """
    give_up = time.monotonic() + HARSH_SECONDS
    while True:
        empty, found = reap(child)
        status = found if status is None else status
        if empty or time.monotonic() > give_up:
            return status, empty
        stop_all(give_up)
        for pid in descendants(os.getpid()):
            send(pid, signal.SIGKILL)
        signal.sigtimedwait((signal.SIGCHLD,), TICK_SECONDS)


def stop_all(give_up: float) -> None:
    """SIGSTOP to every descendant, until a look finds no new one."""
    stopped: set[int] = set()
    while time.monotonic() < give_up:
        new = [pid for pid in descendants(os.getpid()) if pid not in stopped]
        if not new:
            return
        for pid in new:
            send(pid, signal.SIGSTOP)
        stopped.update(new)


def descendants(root: int) -> list[int]:
    """Pids of all processes below `root`, as /proc shows them now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            children.setdefault(parent_of(name), []).append(int(name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), ())
        found += below
        queue += below
    return found


def parent_of(pid: str) -> int:
    """The parent's pid, 0 when the process is gone. Format: proc(5), /proc/pid/stat; the name may hold any byte."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 512).rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0
    finally:
        os.close(fd)


def signal_group(child: int) -> None:
    """Kill the command's own process group at one stroke. Only before it is reaped: its number is still ours."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        send(child, signal.SIGKILL)  # it has not come to setsid yet


def send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # gone by itself
        os.kill(pid, number)


def report(fd: int, line: dict[str, object]) -> None:
    """One line to the toolbox. Shorter than PIPE_BUF, so never mixed with another's."""
    os.write(fd, json.dumps(line).encode("ascii") + b"\n")


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor that is not in `kept`."""
    low = 0
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, MAX_FDS)
