"""The command line: `claw-runner COMMAND …`. Finds the command, runs it, and turns what it raises into an exit code.

Exit codes: those of the outcome table in `runner.errors`; 0 done; 2 usage; 128 + n stopped by signal n (141: whoever
read our output went away); 70 a bug of claw-runner.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial, wraps
from types import FrameType
from typing import Any, NamedTuple

from runner import __version__
from runner.cli.signals import heard_by
from runner.errors import Cancelled, ConfigError, RunnerError

BUG = 70
"""EX_SOFTWARE of sysexits.h."""
PIPE_CLOSED = 128 + signal.SIGPIPE


class Command(NamedTuple):
    """One command. Its module is imported when the command is used: `--help` must answer at once."""

    module: str
    function: str
    group: str
    help: str
    takes_overrides: bool = False
    """Accepts `--limits.turns 5` for any key of the task; the function gets them as `ctx.obj`, key -> text."""


COMMANDS: dict[str, Command] = {
    "init": Command("runner.cli.init", "init", "Tasks and policies", "write a starter task.yaml and policy.yaml"),
    "check": Command("runner.cli.check", "check", "Tasks and policies", "validate files, show the resolved job", True),
    "schema": Command("runner.cli.schema", "schema", "Tasks and policies", "print the JSON schema of a file format"),
    "policy check": Command("runner.cli.policy", "check", "Policies", "validate a policy, print what it amounts to"),
    "policy test": Command("runner.cli.policy", "test", "Policies", "try the examples that a policy carries"),
    "policy explain": Command("runner.cli.policy", "explain", "Policies", "how a call is decided, and what holds it"),
    "policy replay": Command("runner.cli.policy_history", "replay", "Policies", "judge past jobs by another policy"),
    "policy learn": Command("runner.cli.policy_history", "learn", "Policies", "a whitelist from what jobs did"),
    "policy import": Command("runner.cli.policy_import", "convert", "Policies", "take over another agent's rules"),
    "approvals list": Command("runner.cli.approvals", "list_", "Approvals", "what jobs are waiting for"),
    "approvals show": Command("runner.cli.approvals", "show", "Approvals", "one question, whole"),
    "approvals allow": Command("runner.cli.approvals", "allow", "Approvals", "let it be done"),
    "approvals deny": Command("runner.cli.approvals", "deny", "Approvals", "do not let it be done"),
    "run": Command("runner.cli.run", "run", "Jobs", "run one task under a policy, in a container", True),
    "replay": Command("runner.cli.replay", "replay", "Jobs", "do a finished job again, with no model, and compare"),
    "report": Command("runner.cli.report", "report", "Jobs", "rebuild the reports of a job or batch from transcripts"),
    "show": Command("runner.cli.show", "show", "Jobs", "print how a job ended"),
    "verify": Command("runner.cli.verify", "verify", "Jobs", "check that a job's files are as they were written"),
    "batch": Command("runner.cli.batch", "batch", "Batches", "one job for each issue, row or task of a source", True),
    "resume": Command("runner.cli.batch", "resume", "Batches", "go on with a batch, whatever ended it"),
    "status": Command("runner.cli.status", "status", "Batches", "how far batches are, and what they cost"),
    "logs": Command("runner.cli.logs", "logs", "Batches", "what a job or batch does; -f follows it"),
    "stop": Command("runner.cli.batches", "stop", "Batches", "let a batch end, or leave it half-way"),
    "retry": Command("runner.cli.batches", "retry", "Batches", "put ended jobs of a batch back into its queue"),
    "doctor": Command("runner.cli.doctor", "doctor", "This machine", "can a job run here, and if not, what to do"),
    "image build": Command("runner.cli.image", "build", "This machine", "build the images that tasks name"),
    "image list": Command("runner.cli.image", "list_images", "This machine", "list them, and which are built"),
    "clean": Command("runner.cli.clean", "clean", "This machine", "remove what a killed engine left behind"),
}

HEAD = """\
claw-runner runs coding agents in throwaway containers: a task and a policy in;
a branch, a result, the cost and the transcript out.

Start here:
  claw-runner init                              writes task.yaml and policy.yaml
  claw-runner run task.yaml --policy policy.yaml
"""

TAIL = """
claw-runner COMMAND --help says more. claw-runner --version prints the version.
Exit codes: 0 solved or changed, 2 usage or file wrong, 10-14 the job did not
succeed, 20-23 something outside failed, 130 and 143 cancelled, 70 our bug.
"""


class UsageError(ConfigError):
    """The command line is wrong."""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; raises nothing."""
    _have_streams()
    _print_anything()
    try:
        with _stop_signals():
            code = _dispatch(list(sys.argv[1:] if args is None else args))
            sys.stdout.flush()
            return code
    except RunnerError as error:
        _complain(str(error))
        return error.exit_code
    except Cancelled as stop:
        _complain(str(stop))
        return stop.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return _hang_up() if _reader_is_gone() else _report_bug()
    except Exception:
        return _report_bug()


def help_text() -> str:
    """The top-level help; at most 80 columns."""
    lines = [HEAD]
    width = max(map(len, COMMANDS))
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines.append(f"{group}:")
        lines += [f"  {name:<{width}}  {item.help}" for name, item in COMMANDS.items() if item.group == group]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n" + TAIL


def _dispatch(args: list[str]) -> int:
    match args:
        case []:
            sys.stderr.write(help_text())
            return 2
        case ["--help" | "-h" | "help", *_]:
            sys.stdout.write(help_text())
            return 0
        case ["--version", *_]:
            sys.stdout.write(f"claw-runner {__version__}\n")
            return 0
    name = next((name for name in COMMANDS if args[: len(name.split())] == name.split()), None)
    if name is None:
        raise _unknown(args)
    return _invoke(name, args[len(name.split()) :])


def _unknown(args: list[str]) -> UsageError:
    within = [name for name in COMMANDS if name.split()[0] == args[0]]
    if within:
        return UsageError(f"{args[0]!r} needs a second word: {', '.join(within)}")
    kind = "option" if args[0].startswith("-") else "command"
    near = difflib.get_close_matches(" ".join(args[:2]), COMMANDS, n=1) or difflib.get_close_matches(args[0], COMMANDS)
    hint = f"did you mean {near[0]!r}?" if near else "claw-runner --help lists the commands"
    return UsageError(f"there is no {kind} {args[0]!r}; {hint}")


def _invoke(name: str, args: list[str]) -> int:
    import typer  # noqa: PLC0415  40 ms that the top-level help does without

    command = COMMANDS[name]
    rest, overrides = _take_overrides(args) if command.takes_overrides else (args, {})
    # typer offers no base class of its usage errors under a public name; click's UsageError is BadParameter's base.
    usage_error: Any = typer.BadParameter.__bases__[0]
    try:
        call = _parse(_function(command), name, rest, overrides)
        return int(call() or 0) if call else 0
    except usage_error as error:
        raise UsageError(f"{name}: {_sentence(error)}; see claw-runner {name} --help") from None


def _parse(
    function: Callable[..., int], name: str, args: list[str], overrides: dict[str, str]
) -> Callable[[], int] | None:
    """The function with its arguments, or None when typer did what was asked for (`--help`).

    typer only parses: within it broken pipes and interrupts would become exit codes of its own.
    """
    import typer  # noqa: PLC0415

    calls: list[Callable[[], int]] = []

    @wraps(function)
    def remember(*args: Any, **options: Any) -> None:
        calls.append(partial(function, *args, **options))

    app = typer.Typer(
        add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
    )
    app.command()(remember)
    typer.main.get_command(app).main(args, prog_name=f"claw-runner {name}", standalone_mode=False, obj=overrides)
    return calls[0] if calls else None


def _function(command: Command) -> Callable[..., int]:
    function: Callable[..., int] = getattr(importlib.import_module(command.module), command.function)
    return function


def _sentence(error: Exception) -> str:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    return " ".join(message.replace("Value error, ", "").split()).rstrip(".")


def _take_overrides(args: list[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments without `--key.key VALUE` and `--key.key=VALUE`, and those."""
    rest: list[str] = []
    overrides: dict[str, str] = {}
    items = iter(args)
    for item in items:
        if item == "--":
            return [*rest, item, *items], overrides
        if not (found := re.fullmatch(r"--(\w+(?:\.\w+)+)(?:=(.*))?", item, re.DOTALL)):
            rest.append(item)
            continue
        value = next(items, None) if found[2] is None else found[2]
        if value is None:
            raise UsageError(f"--{found[1]} needs a value")
        overrides[found[1]] = value
    return rest, overrides


def _stop_signals() -> AbstractContextManager[None]:
    """The first SIGINT, SIGTERM or SIGHUP raises Cancelled; while that cleans up, it takes two more to end at once."""
    count = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count == 1:
            raise Cancelled(number)
        if count == 2:
            _complain("still cleaning up; once more ends at once")
        else:
            os._exit(128 + number)

    return heard_by(stop)


def _have_streams() -> None:
    """Whoever started us may have closed some (`2>&-`): then what is opened next would get their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))


def _print_anything() -> None:
    """A name that the terminal's encoding lacks is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _complain(message: str) -> None:
    """One line of stderr for each line of the message; nothing in it acts on the terminal."""
    for line in message.splitlines() or [""]:
        shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
        print(f"claw-runner: {shown}", file=sys.stderr, flush=True)


def _report_bug() -> int:
    traceback.print_exc()
    _complain("BUG: this should not have happened; please report it with the lines above")
    return BUG


def _reader_is_gone() -> bool:
    """Whether it is our own standard output that broke, and not some other pipe."""
    try:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0))
    except (OSError, ValueError):
        return False


def _hang_up() -> int:
    """Let what is still buffered go nowhere, or the interpreter complains about it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return PIPE_CLOSED
