"""What the toolbox can do: one function for each operation of docs/protocol.md.

An operation gets the toolbox, the stream and the arguments; it returns the answer, or None when the answer comes later.
OSError, KeyError, TypeError and ValueError become answers that say so.
"""

from __future__ import annotations

import base64
import os
import time
from contextlib import suppress
from errno import EBUSY, EILSEQ, EINVAL

from . import cgroup, command, facts, files, frames, hold, keep, landlock, privileges, supervisor, usage
from .child import in_child
from .relay import proxy_variables
from .stream import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .loop import Loop
    from .relay import Relay
    from .stream import Stream
    from .zygote import Zygote

    Arguments = dict[str, Any]

PROTOCOL = 1
SHELLS = (b"/bin/bash", b"/usr/bin/bash", b"/bin/sh")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TRAP = """trap '{ { pwd -P || printf "%s\\n" "$PWD"; } >&3; } 2>/dev/null' EXIT; """
"""In front of a script, on its first line so that line numbers stay: tells the last working directory."""
OWN_PATH = "/opt/claw/path"
"""Holds our git and rg, for images that lack them."""
LOOK_SECONDS = 0.25
MAX_STDERR = 64 * 1024
MAX_TASKS = 32
TASK_OUTPUT = 1024 * 1024
KEPT_TASKS = 256
RUNNING = {"exit_code": None, "signal": None, "timed_out": False}


class Settings:
    """What the host configured in `hello`."""

    def __init__(self, arguments: Arguments) -> None:
        self.uid = int(arguments["uid"])
        self.gid = int(arguments["gid"])
        self.workspace = str(arguments["workspace"])
        self.repo = str(arguments["repo"])
        self.home = str(arguments["home"])
        inode_limit = arguments["inode_limit"]
        self.inode_limit = None if inode_limit is None else int(inode_limit)
        watch = arguments["watch"]
        self.watch = None if watch is None else {name: int(number) for name, number in watch.items()}
        self.variables = {str(name): str(value) for name, value in arguments["variables"].items()}
        self.hidden = frozenset(arguments["hidden_variables"])
        proxy_port = arguments["proxy_port"]
        self.proxy_port = None if proxy_port is None else int(proxy_port)


class Toolbox:
    """Everything the toolbox knows: its settings, the commands that run, the background tasks."""

    def __init__(self, loop: Loop, zygote: Zygote, relay: Relay, *, held: str = "") -> None:
        self.loop = loop
        self.held = held
        """See hold.hold; "" when that was not asked for."""
        self.relay = relay
        self._zygote = zygote
        self.root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.running: dict[Execution | Task, command.Command] = {}
        self.tasks: dict[str, Task] = {}
        self.tasks_started = 0
        self.confinement: landlock.Confinement | None = None
        """Of confined commands; None before the first `confine`."""
        self.kept = False
        """The repository's folder is the keeper's."""
        self.oom_counter: int | None = None
        self._settings: Settings | None = None
        self._base: dict[bytes, bytes] = {}
        self._idle: list[Callable[[], None]] = []
        self._next_look = 0.0
        self._inodes = 0
        self._watch: usage.Watch | None = None
        self._spare: command.Prepared | None = None

    @property
    def settings(self) -> Settings:
        """Raises Refused before `hello`."""
        if self._settings is None:
            raise Refused("bad_request", "the first request must be hello")
        return self._settings

    def configure(self, settings: Settings) -> None:
        """From now on this is the job."""
        if self._settings is not None:
            raise Refused("bad_request", "hello was said already")
        if settings.proxy_port is not None:
            self.relay.listen(settings.proxy_port)
        self._settings = settings
        self._base = base_variables(settings)
        self.oom_counter = cgroup.oom_counter()
        privileges.act_as(settings.uid, settings.gid)
        if self.held not in ("", hold.HELD):
            return  # the host will not go on with this container
        for folder in (settings.repo, settings.home):
            os.makedirs(folder, exist_ok=True)
        if (watch := settings.watch) is not None:
            now, most = (watch["used_bytes"], watch["used_files"]), (watch["most_bytes"], watch["most_files"])
            self._watch = usage.Watch(self.loop, encode(settings.workspace), now=now, most=most)

    def variables(self, own: dict[str, str]) -> dict[bytes, bytes]:
        """What a command finds in its environment; `own` are those of the call."""
        variables = {**self._base, **{encode(name): encode(value) for name, value in own.items()}}
        return keep.trusting(variables, encode(self.settings.repo)) if self.kept else variables

    def use(self, confinement: landlock.Confinement) -> None:
        """For confined commands from now on; those that run keep what they have."""
        if self.confinement is not None:
            self.confinement.close()
        self.confinement = confinement

    def start(self, owner: Execution | Task, launch: supervisor.Launch, **how: Any) -> None:
        """Start a command; `how` are its sinks and stream. Raises OSError when there is no process to be had."""
        ruleset = self.confinement.ruleset() if launch.confined and self.confinement is not None else None
        spare, self._spare = self._spare, None
        if spare is None or not spare.waits():
            spare = command.Prepared(self._zygote)
        self._count_inodes()
        if self._watch is not None and not self.running:
            self._watch.begin()
        self.running[owner] = command.Command(self.loop, spare, launch, ruleset=ruleset, done=owner.done, **how)

    def ended(self, owner: Execution | Task, result: command.Result) -> None:
        """A command of ours is done. When its supervisor could not end all of it, or was killed, we do."""
        del self.running[owner]
        if not result.gone:
            self.kill_user()
        if not self.running:
            waiting, self._idle = self._idle, []
            for callback in waiting:
                callback()

    def end_commands(self) -> None:
        """Kill whatever runs; it will be done soon."""
        for running in list(self.running.values()):
            running.end()

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call back when no command runs, which may be now."""
        if self.running:
            self._idle.append(callback)
        else:
            callback()

    def kill_user(self) -> None:
        """Kill every process of the job's user at one stroke, which no fork can outrun.

        Only as first process of a container: elsewhere the user may have processes that are none of our business.
        """
        if os.getpid() == 1:
            privileges.kill_all_of(self.settings.uid)
            privileges.act_as(self.settings.uid, self.settings.gid)

    def close(self) -> None:
        """End everything that was started."""
        if self._spare is not None:
            self._spare.close_all()
        self._zygote.close()

    def tick(self) -> bool:
        """What is to be done between events; True asks to be called again soon."""
        if self._settings is not None:
            self._prepare()
        inodes, disk = self._watch_inodes(), self._watch_disk()
        return inodes or disk

    def _prepare(self) -> None:
        """Make the next command's processes while nobody waits for one."""
        if self._spare is None and not any(isinstance(owner, Execution) for owner in self.running):
            with suppress(OSError):  # no process to be had now; who needs one will hear of it
                self._spare = command.Prepared(self._zygote)

    def _watch_inodes(self) -> bool:
        """End all commands when the workspace holds too many inodes, and ever more. True when that is to be watched.

        What removes files, or makes none, may go on.
        """
        if self._settings is None or self._settings.inode_limit is None or not self.running:
            return False
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            before = self._inodes
            self._count_inodes()
            if self._inodes > max(before, self._settings.inode_limit):
                self._end_over_quota()
        return True

    def _watch_disk(self) -> bool:
        """The same for a workspace that no mount bounds."""
        if self._watch is None or not self.running:
            return False
        if self._watch.look():
            self._end_over_quota()
        return True

    def _end_over_quota(self) -> None:
        for owner, running in list(self.running.items()):
            owner.over_quota = True
            running.end()

    def _count_inodes(self) -> None:
        if self.settings.inode_limit is not None:
            found = os.statvfs(self.settings.workspace)
            self._inodes = found.f_files - found.f_ffree


class Execution:
    """One `exec`: from its start to its answer."""

    def __init__(self, toolbox: Toolbox, stream: Stream, arguments: Arguments) -> None:
        self.over_quota = False
        self._toolbox, self._stream = toolbox, stream
        self._outflow = command.Outflow(
            stream, limit=optional_int(arguments["stream_bytes"]), tail_bytes=int(arguments["tail_bytes"])
        )
        self._errors = command.Head(min(int(arguments["stderr_bytes"]), MAX_STDERR))
        self._oom_kills = cgroup.oom_kills(toolbox.oom_counter)
        self._answer: dict[str, Any] | None = None
        toolbox.start(
            self,
            launch_of(toolbox, arguments, seconds=float(arguments["seconds"]), confined=bool(arguments["confined"])),
            sink=self._outflow,
            errors=self._errors,
            stdin=stream,
        )
        stream.on_credit = self._granted
        stream.on_cancel = self._cancel

    def done(self, result: command.Result) -> None:
        self._toolbox.ended(self, result)
        if result.error is not None:
            self._stream.fail(result.error)
            return
        self._answer = {
            **ending(result),
            "oom_killed": cgroup.oom_kills(self._toolbox.oom_counter) > self._oom_kills,
            "over_quota": self.over_quota,
            "output_bytes": self._outflow.total,
            "cwd": decode(result.cwd) or None,
            "stderr": base64.b64encode(self._errors.data).decode("ascii"),
        }
        self._granted()

    def _granted(self) -> None:
        if self._answer is None:
            self._toolbox.running[self].resume()
        elif self._outflow.flush():
            self._stream.answer(self._answer)

    def _cancel(self) -> None:
        self._outflow.cancel()
        if self._answer is None:
            self._toolbox.running[self].end()
        self._granted()


class Task:
    """A background task: a command that outlives its request."""

    def __init__(self, toolbox: Toolbox, stream: Stream, arguments: Arguments) -> None:
        self.over_quota = False
        self.when_done: list[Callable[[], None]] = []
        self._toolbox = toolbox
        self._store = command.Store(TASK_OUTPUT)
        self._result: command.Result | None = None
        self._started = time.monotonic()
        shell = {**arguments, "program": "shell", "stdin": False, "separate_stderr": False}
        launch = launch_of(toolbox, shell, seconds=None, confined=True)
        toolbox.start(self, launch, sink=self._store, errors=self._store, stdin=stream)

    @property
    def running(self) -> bool:
        return self._result is None

    def done(self, result: command.Result) -> None:
        self._result = result
        self._toolbox.ended(self, result)
        for callback in self.when_done:
            callback()
        self.when_done.clear()

    def tell(self, stream: Stream) -> None:
        """Answer with the state, after what is new of the output. It is no more than a window, so credit is there."""
        result = self._result
        if result is not None and result.error is not None:
            stream.fail(result.error)
            return
        output, dropped = self._store.collect()
        for start in range(0, len(output), frames.MAX_DATA):
            stream.send(output[start : start + frames.MAX_DATA])
        state = RUNNING if result is None else ending(result)
        stream.answer({"seconds": self._seconds(), **state, "running": self.running, "dropped_bytes": dropped})

    def end(self) -> None:
        if self.running:
            self._toolbox.running[self].end()

    def _seconds(self) -> float:
        return time.monotonic() - self._started


def hello(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> Arguments:
    settings = Settings(arguments)
    toolbox.configure(settings)
    found = facts.gather(toolbox.root, settings.uid, settings.gid, settings.workspace)
    return {"protocol": PROTOCOL, "hold": toolbox.held, **found}


def ping(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> Arguments:
    return {}


def measure(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> Arguments:
    size, count = usage.measured(encode(toolbox.settings.workspace))
    return {"bytes": size, "files": count}


def execute(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> None:
    Execution(toolbox, stream, arguments)


def start_task(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> Arguments:
    if sum(task.running for task in toolbox.tasks.values()) >= MAX_TASKS:
        raise BlockingIOError(11, f"{MAX_TASKS} background tasks run already")
    task = Task(toolbox, stream, arguments)
    toolbox.tasks_started += 1
    id = f"task-{toolbox.tasks_started}"
    toolbox.tasks[id] = task
    forget_old(toolbox.tasks)
    return {"id": id}


def forget_old(tasks: dict[str, Task]) -> None:
    """Drop the oldest that have ended, beyond KEPT_TASKS."""
    for id in [id for id, task in tasks.items() if not task.running][: max(0, len(tasks) - KEPT_TASKS)]:
        del tasks[id]


def poll_task(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> None:
    find_task(toolbox, arguments).tell(stream)


def stop_task(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> None:
    task = find_task(toolbox, arguments)
    if task.running:
        task.when_done.append(lambda: task.tell(stream))
        task.end()
    else:
        task.tell(stream)


def find_task(toolbox: Toolbox, arguments: Arguments) -> Task:
    task = toolbox.tasks.get(arguments["id"])
    if task is None:
        raise Refused("unknown_task", f"no background task {arguments['id']!r}")
    return task


def end_processes(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> None:
    def answer() -> None:
        toolbox.kill_user()
        stream.answer({})

    toolbox.end_commands()
    toolbox.when_idle(answer)


def resolve(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> Arguments:
    return {"path": decode(files.resolve(path_of(toolbox, arguments)))}


def stat(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> Arguments:
    return files.describe(path_of(toolbox, arguments))


def glob(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> Arguments:
    paths, more = files.glob(str(arguments["pattern"]), path_of(toolbox, arguments), int(arguments["limit"]))
    return {"paths": [decode(path) for path in paths], "more": more}


class Reading:
    """One `read`: sends as credit comes."""

    def __init__(self, stream: Stream, fd: int, *, offset: int, max_bytes: int) -> None:
        self._stream, self._fd, self._at, self._end = stream, fd, offset, offset + max_bytes
        stream.on_credit = self.advance
        stream.on_cancel = self.stop

    def advance(self) -> None:
        try:
            while self._stream.credit:
                data = os.pread(self._fd, min(frames.MAX_DATA, self._stream.credit, self._end - self._at), self._at)
                if not data:
                    self.stop()
                    return
                self._stream.send(data)
                self._at += len(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            os.close(self._fd)
            self._stream.fail(error)

    def stop(self) -> None:
        os.close(self._fd)
        self._stream.answer({})


def read(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> None:
    fd = files.open_file(path_of(toolbox, arguments))
    Reading(stream, fd, offset=int(arguments["offset"]), max_bytes=int(arguments["max_bytes"])).advance()


class Writing:
    """One `write`: takes the content as it comes, and puts it in place at the end."""

    def __init__(self, stream: Stream, replacement: files.Replacement) -> None:
        self._stream, self._replacement = stream, replacement
        stream.receiver = self
        stream.on_cancel = self._cancel

    def data(self, payload: bytes) -> None:
        try:
            self._replacement.write(payload)
        except OSError as error:
            self._replacement.abort()
            self._stream.fail(error)
        else:
            self._stream.consumed(len(payload))

    def end(self) -> None:
        try:
            self._replacement.commit()
        except OSError as error:
            self._stream.fail(error)
        else:
            self._stream.answer({})

    def _cancel(self) -> None:
        self._replacement.abort()
        self._stream.answer({})


def write(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> None:
    Writing(stream, files.Replacement(path_of(toolbox, arguments), arguments["expected_sha256"]))


def confine(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> Arguments:
    """Takes the rules only when they can be applied: a command is confined by them, or not started."""
    settings = toolbox.settings
    rules = [
        landlock.plan(encode(grant["path"]), grant["access"], [encode(path) for path in grant["without"]])
        for grant in arguments["grants"]
    ]
    rules.append(landlock.plan(encode(toolbox.root), "read", []))

    def attempt() -> bool:
        privileges.become(settings.uid, settings.gid)
        return landlock.holds(rules, encode(settings.workspace))

    version = landlock.abi()
    enforced = version > 0 and in_child(attempt)
    if enforced:
        toolbox.use(landlock.Confinement(rules))
    return {"landlock_abi": version, "enforced": enforced}


def keep_paths(toolbox: Toolbox, stream: Stream, arguments: Arguments) -> Arguments:
    if toolbox.running:
        raise OSError(EBUSY, "commands run")
    settings = toolbox.settings
    repo, home = encode(settings.repo), encode(settings.home)
    places = keep.plan(repo, *([encode(path) for path in arguments[key]] for key in ("unreadable", "unwritable")))
    if os.lstat(repo).st_uid == keep.KEEPER:
        # It was done before, in the container that this one's snapshot was made from, or in this one.
        if not keep.is_done(repo, places):
            raise Refused("bad_request", "other paths are kept already")
        toolbox.kept = True
        return {}

    def hand_over() -> bool:
        given = keep.Handover(settings.uid, settings.gid).run(repo, places)
        if given:
            privileges.act_as(settings.uid, settings.gid)
            keep.trust_at_home(home, repo)
        return given

    toolbox.kill_user()
    toolbox.kept = in_child(hand_over)
    return {}


OPERATIONS: dict[str, Callable[[Toolbox, Stream, Arguments], Arguments | None]] = {
    "hello": hello,
    "ping": ping,
    "measure": measure,
    "exec": execute,
    "start_task": start_task,
    "poll_task": poll_task,
    "stop_task": stop_task,
    "end_processes": end_processes,
    "resolve": resolve,
    "stat": stat,
    "glob": glob,
    "read": read,
    "write": write,
    "confine": confine,
    "keep": keep_paths,
}


def launch_of(toolbox: Toolbox, arguments: Arguments, *, seconds: float | None, confined: bool) -> supervisor.Launch:
    """What to start for the arguments of `exec` or `start_task`. Raises OSError when there is no such program."""
    settings = toolbox.settings
    variables = toolbox.variables(arguments["variables"])
    program, words = arguments["program"], [encode(word) for word in arguments["argv"]]
    if program == "shell":
        programs, argv = shell_of(words[0])
    elif program == "argv":
        programs, argv = search(words[0], variables), words
    elif program in {"git", "rg"}:
        programs, argv = search(encode(program), variables, first=toolbox.root), [encode(program), *words]
        variables = {**variables, **(git_variables(toolbox.root) if program == "git" else {})}
    else:
        raise Refused("bad_request", f"unknown program {program!r}")
    return supervisor.Launch(
        programs=programs,
        argv=argv,
        variables=variables,
        cwd=encode(arguments["cwd"]),
        uid=settings.uid,
        gid=settings.gid,
        seconds=seconds,
        confined=confined and toolbox.confinement is not None,
        stdin=bool(arguments["stdin"]),
        separate_stderr=bool(arguments["separate_stderr"]),
        track_cwd=program == "shell",
    )


def shell_of(script: bytes) -> tuple[list[bytes], list[bytes]]:
    """The image's bash, or else its sh, with the script as its only argument."""
    shells = [path for path in SHELLS if os.path.exists(path)] or [SHELLS[-1]]
    return shells, [os.path.basename(shells[0]), b"-c", TRAP.encode("ascii") + script]


def search(name: bytes, variables: dict[bytes, bytes], *, first: str | None = None) -> list[bytes]:
    """Where a program may be: `first`/bin, then the PATH that the command itself has."""
    if b"/" in name:
        return [name]
    folders = [folder or b"." for folder in variables.get(b"PATH", DEFAULT_PATH.encode("ascii")).split(b":")]
    if first is not None:
        folders.insert(0, encode(os.path.join(first, "bin")))
    return [os.path.join(folder, name) for folder in folders]


def git_variables(root: str) -> dict[bytes, bytes]:
    """Our git runs by its own files and our word alone."""
    variables = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    helpers = os.path.join(root, "libexec/git-core")
    if os.path.isdir(helpers):
        variables.update(GIT_EXEC_PATH=helpers, GIT_TEMPLATE_DIR=os.path.join(root, "share/git-core/templates"))
    return {encode(name): encode(value) for name, value in variables.items()}


def base_variables(settings: Settings) -> dict[bytes, bytes]:
    """The image's variables (those of the first process, less the hidden), ours, and those the host configured."""
    base = {name: value for name, value in os.environb.items() if decode(name) not in settings.hidden}
    path = decode(base.get(b"PATH", b"")) or DEFAULT_PATH
    ours = {
        "HOME": settings.home,
        "USER": "agent",
        "LOGNAME": "agent",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "TMPDIR": "/tmp",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_TERMINAL_PROMPT": "0",
        "PATH": f"{path}:{OWN_PATH}",
        **({} if settings.proxy_port is None else proxy_variables(settings.proxy_port)),
        **settings.variables,
    }
    return {**base, **{encode(name): encode(value) for name, value in ours.items()}}


def ending(result: command.Result) -> dict[str, Any]:
    return {
        "exit_code": result.exit_code,
        "signal": result.signal,
        "seconds": result.seconds,
        "timed_out": result.ending == "timed_out",
    }


def path_of(toolbox: Toolbox, arguments: Arguments) -> bytes:
    """The path of a file operation; a relative one is meant from the repository."""
    return os.path.join(encode(toolbox.settings.repo), encode(arguments["path"]))


def optional_int(value: Any) -> int | None:
    return None if value is None else int(value)


def encode(text: str) -> bytes:
    """A name as the kernel has it; bytes that are not UTF-8 travel through JSON as lone surrogates.

    Raises OSError for what no name can be.
    """
    if "\0" in text:
        raise OSError(EINVAL, "a NUL character", text[:200])
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise OSError(EILSEQ, "half a character", text[:200]) from None


def decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
