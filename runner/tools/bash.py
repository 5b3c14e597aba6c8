"""Bash, BashOutput, KillBash: commands in the sandbox's shell."""

from __future__ import annotations

import re
import signal as signals

from runner.policy import Call
from runner.sandbox.base import REPO, BackgroundTask, ExecResult
from runner.tools.arguments import Count, Flag, Word
from runner.tools.base import Answer, Session, Tool, failure

DEFAULT_SECONDS = 120.0
MAX_SECONDS = 600.0
_HEAD_BYTES = 15_000
_TAIL_BYTES = 15_000
"""Of output in one answer: with the head about 8,000 tokens. The end is where a test run says what failed."""
_REFUSED = re.compile(rb"Permission denied|Operation not permitted|Read-only file system|E(?:ACCES|PERM|ROFS)\b")
"""How programs word what the kernel refuses."""


class Bash(Tool):
    """Runs a command in a shell and returns what it printed, standard output and error together.

    The working directory is kept from call to call; variables, functions and aliases are not. There is no terminal and
    no input: nothing can be asked. Of long output the beginning and the end are returned. When the call ends, whatever
    it started is ended too, unless run_in_background is set.
    Use Read, Edit, Write, Glob and Grep for files where they do the job.
    """

    command: Word
    """The command, or a whole script."""
    timeout: Count | None = None
    """Milliseconds until the command is ended; 120000 when not given, 600000 at most."""
    description: str | None = None
    """What the command does, in five to ten words."""
    run_in_background: Flag | None = None
    """Return at once and let the command run on; read it with BashOutput, end it with KillBash."""

    def calls(self, session: Session) -> tuple[Call, ...]:
        return (Call(tool="Bash", subject=self.command, cwd=session.cwd),)

    def run(self, session: Session, calls: tuple[Call, ...]) -> Answer:
        seconds = min(self._seconds(), session.seconds_left)
        try:
            started = self._start(session, seconds)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            # Running it somewhere else than the model believes to be could do anything.
            gone, session.cwd = session.cwd, str(REPO)
            return failure(
                f"The command was not run: the working directory {gone} is not there any more. It is now {REPO}."
            )
        return _started(started, session) if isinstance(started, BackgroundTask) else _ended(started, seconds, session)

    def _start(self, session: Session, seconds: float) -> BackgroundTask | ExecResult:
        log = f"logs/{session.calls:04}-bash.log"
        if self.run_in_background:
            return session.sandbox.start(self.command, cwd=session.cwd, log=log)
        return session.sandbox.exec(
            self.command,
            cwd=session.cwd,
            seconds=seconds,
            head_bytes=_HEAD_BYTES,
            tail_bytes=_TAIL_BYTES,
            log=log,
            confined=True,
        )

    def _seconds(self) -> float:
        # Compared as integers: a number that a float cannot hold is too long anyway.
        if self.timeout is None:
            return DEFAULT_SECONDS
        return MAX_SECONDS if self.timeout > MAX_SECONDS * 1000 else self.timeout / 1000


class BashOutput(Tool):
    """Returns what a background command printed since the last look, and whether it still runs."""

    bash_id: Word
    """The id that Bash gave."""

    def calls(self, session: Session) -> tuple[Call, ...]:
        return (Call(tool="BashOutput", subject=""),)

    def run(self, session: Session, calls: tuple[Call, ...]) -> Answer:
        try:
            task = session.sandbox.poll_task(self.bash_id)
        except KeyError:
            return _unknown(self.bash_id, session)
        return Answer(content=_report(task, session), details=_task_details(task))


class KillBash(Tool):
    """Ends a background command with everything it started."""

    shell_id: Word
    """The id that Bash gave."""

    def calls(self, session: Session) -> tuple[Call, ...]:
        return (Call(tool="KillBash", subject=""),)

    def run(self, session: Session, calls: tuple[Call, ...]) -> Answer:
        try:
            task = session.sandbox.stop_task(self.shell_id)
        except KeyError:
            return _unknown(self.shell_id, session)
        return Answer(
            content=f"Background command {task.id} has ended.\n{_report(task, session)}", details=_task_details(task)
        )


# What the model reads says nothing of times that were measured: a replay of the job must tell it the same.


def _ended(result: ExecResult, seconds: float, session: Session) -> Answer:
    refusal = _refusal(result.exit_code, result.output, session)
    parts = [_status(result, seconds), _output(result), refusal, _follow(result, session)]
    return Answer(
        content="\n".join(part for part in parts if part) or "(no output)",
        is_error=not result.ok,
        details=_details(result) | {"cwd": session.cwd},
    )


def _status(result: ExecResult, seconds: float) -> str:
    """How it ended, in words; empty when all is well. `seconds` is the time that it had."""
    words = []
    if result.timed_out:
        words.append(f"Timed out: the command and all it started were ended after {seconds:g} s.")
    elif result.signal is not None:
        words.append(f"Ended by signal {_signal_name(result.signal)}.")
    elif result.exit_code:
        words.append(f"Exit code {result.exit_code}")
    if result.oom_killed:
        words.append("Out of memory: the sandbox's memory limit was reached and something in it was killed.")
    if result.over_quota:
        words.append("Too many files: the workspace holds more of them than allowed, so the command was ended.")
    return "\n".join(words)


def _output(result: ExecResult) -> str:
    if not result.truncated:
        return _text(result.output)
    head, tail = result.output[: result.head_bytes], result.output[result.head_bytes :]
    kept = f"; the full output is the artifact {result.log}" if result.log else ""
    marker = f"[… {result.omitted_bytes:,} of {result.output_bytes:,} bytes left out here{kept} …]"
    return f"{_text(head)}\n{marker}\n{_text(tail)}"


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace").strip("\n")


def _refusal(exit_code: int | None, output: bytes, session: Session) -> str:
    """What the model should know when a command failed for want of rights; empty when it did not."""
    return session.confinement if exit_code and _REFUSED.search(output) else ""


def _follow(result: ExecResult, session: Session) -> str:
    """Keep the directory that the shell ended in, if it is still there; says so when the next call starts elsewhere."""
    wanted = result.cwd or session.cwd
    if wanted != str(REPO) and not _is_folder(wanted, session):
        wanted = str(REPO)
    # A shell that ended by itself and told no directory stood in one that is gone, or was replaced by another program.
    lost = result.cwd != wanted and (result.cwd is not None or result.exit_code is not None)
    session.cwd = wanted
    return f"(The next command starts in {wanted}.)" if lost else ""


def _is_folder(path: str, session: Session) -> bool:
    try:
        return session.sandbox.stat(path).kind == "directory"
    except OSError:
        return False  # behind a folder that was closed since


def _details(result: ExecResult) -> dict[str, object]:
    names = ("exit_code", "signal", "timed_out", "oom_killed", "over_quota", "truncated", "output_bytes", "log")
    return {name: getattr(result, name) for name in names}


def _started(task: BackgroundTask, session: Session) -> Answer:
    session.tasks.append(task.id)
    return Answer(
        content=f"Running in the background with bash_id {task.id!r}. Read what it prints with BashOutput, "
        "end it with KillBash.",
        details={"bash_id": task.id},
    )


def _report(task: BackgroundTask, session: Session) -> str:
    if task.running:
        state = "Still running."
    elif task.signal is not None:
        state = f"Ended by signal {_signal_name(task.signal)}."
    else:
        state = f"Ended. Exit code {task.exit_code}"
    refusal = _refusal(task.exit_code, task.output, session)
    return "\n".join(part for part in (state, _text(task.output) or "(no new output)", refusal) if part)


def _task_details(task: BackgroundTask) -> dict[str, object]:
    return {"bash_id": task.id, "running": task.running, "exit_code": task.exit_code, "signal": task.signal}


def _unknown(id: str, session: Session) -> Answer:
    known = f"the ids are {', '.join(session.tasks)}" if session.tasks else "none was started"
    return failure(f"There is no background command {id!r}: {known}.")


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return str(number)
