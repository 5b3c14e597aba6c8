"""Every git process on the host starts here: fixed variables, own session, a deadline, bounded output, clear errors.

GitPython describes the user's repository (`source.py`); it does not run these commands, because its processes always
inherit the caller's variables (GIT_DIR of a hook, GIT_CONFIG_*), and buffer what they print without a bound.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from runner.errors import RepoError
from runner.task import Author

CHUNK = 65_536
MAX_OUTPUT = 64 * 1024 * 1024
MEMORY = 4 * 1024 * 1024 * 1024
"""Address space, in bytes, of a git process that reads what came out of a sandbox."""

QUIET = {
    "core.alternateRefsCommand": "true",
    "core.bigFileThreshold": "32m",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.packedGitLimit": "1g",
    "core.packedGitWindowSize": "32m",
    "core.pager": "cat",
    "core.splitIndex": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.threads": "2",
    "push.recurseSubmodules": "no",
    "receive.autogc": "false",
    "receive.fsckObjects": "true",
    "submodule.recurse": "false",
}
"""Configuration of every host git, stronger than the repository's own: no hook, monitor or daemon is run."""

OURS = {"core.attributesFile": "/dev/null", "safe.directory": "*"}
"""Added where the user's own configuration is not read."""

CLEAN = {
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
}
"""Variables of a git process, besides PATH and TMPDIR. The toolbox's git inside the sandbox gets them too."""

# `git rev-parse --local-env-vars`, and what changes how names are read: a git hook that starts us has some of them.
REPOSITORY_VARIABLES = frozenset(
    f"GIT_{name}"
    for name in (
        *("ALTERNATE_OBJECT_DIRECTORIES", "COMMON_DIR", "CONFIG", "CONFIG_COUNT", "CONFIG_PARAMETERS", "DIR"),
        *("EXTERNAL_DIFF", "GLOB_PATHSPECS", "GRAFT_FILE", "ICASE_PATHSPECS", "IMPLICIT_WORK_TREE", "INDEX_FILE"),
        *("LITERAL_PATHSPECS", "NAMESPACE", "NOGLOB_PATHSPECS", "NO_REPLACE_OBJECTS", "OBJECT_DIRECTORY", "PREFIX"),
        *("QUARANTINE_PATH", "REPLACE_REF_BASE", "SHALLOW_FILE", "WORK_TREE"),
    )
)


class GitFailed(RepoError):
    """A host git ended with an error. `stderr` is what it said, as text of printable characters."""

    def __init__(self, message: str, *, stderr: str) -> None:
        super().__init__(message)
        self.stderr = stderr


class OutputTooLong(RepoError):
    """A host git printed more than was allowed, and was ended."""


def git(
    repo: Path,
    *args: str,
    stdin: bytes | IO[bytes] = b"",
    seconds: float = 60.0,
    max_bytes: int = MAX_OUTPUT,
    variables: Mapping[str, str] | None = None,
    config: Mapping[str, str] | None = None,
    as_user: bool = False,
    guarded: bool = False,
) -> bytes:
    """Standard output of `git ARGS` run in `repo`. Raises GitFailed, OutputTooLong, and RepoError at the deadline.

    `as_user` keeps the user's variables and own configuration (credential helpers, ssh agent, ignore lists).
    `guarded` bounds memory and processor time: for everything that reads what came out of a sandbox.
    """
    with stream(
        repo, *args, stdin=stdin, seconds=seconds, variables=variables, config=config, as_user=as_user, guarded=guarded
    ) as chunks:
        return _collect(chunks, max_bytes, args)


@contextmanager
def stream(
    repo: Path,
    *args: str,
    stdin: bytes | IO[bytes] = b"",
    seconds: float = 60.0,
    variables: Mapping[str, str] | None = None,
    config: Mapping[str, str] | None = None,
    as_user: bool = False,
    guarded: bool = False,
) -> Iterator[Iterator[bytes]]:
    """Like `git`, but gives the chunks as they come; the exit code is judged when the block ends."""
    command = ["git", *_settings(QUIET | ({} if as_user else OURS) | dict(config or {})), *args]
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryFile() as errors, _input(stdin) as given:
        process = _start(
            _bounded(command, seconds) if guarded else command,
            cwd=repo,
            stdin=given,
            stderr=errors,
            variables=_variables(as_user) | dict(variables or {}),
        )
        assert process.stdout is not None
        try:
            yield _chunks(process.stdout, deadline, args)
            process.stdout.close()
            code = _wait(process, deadline, args)
        finally:
            _end(process)
        if code != 0:
            raise _failure(args, code, errors)


def create(path: Path, object_format: str) -> None:
    """Make an empty bare repository that takes nothing over from templates or the user's configuration."""
    path.mkdir(parents=True)
    # HEAD stays unborn: some git versions read attributes from the HEAD of a bare repository.
    git(path, "init", "--quiet", "--bare", "--template=", "--initial-branch=none", f"--object-format={object_format}")


def fetch(
    repo: Path,
    location: str,
    refspec: str,
    *,
    seconds: float = 60.0,
    as_user: bool = False,
    config: Mapping[str, str] | None = None,
) -> None:
    """Fetch one refspec from a bundle, path or URL, and nothing that comes along by habit. Raises GitFailed."""
    habits = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")
    command = ("fetch", "--quiet", *habits, "--update-shallow", "--", location, refspec)
    git(repo, *command, seconds=seconds, as_user=as_user, config=config)


def object_format(id: str) -> str:
    """The hash that made an object name."""
    return "sha256" if len(id) == 64 else "sha1"


def receive_pack(config: Mapping[str, str] | None = None) -> str:
    """What `push` starts in the other repository: git drops our configuration on the way, so it is said again."""
    settings = QUIET | OURS | dict(config or {})
    return " ".join(("git", *(f"-c {key}='{value}'" for key, value in settings.items()), "receive-pack"))


def printable(text: str, limit: int = 300) -> str:
    """`text` as one line that does nothing to a terminal, credentials in URLs masked."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = masked(line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def masked(url: str) -> str:
    """`url` without the user name and password it may carry."""
    return re.sub(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@]+@", r"\1", url, flags=re.IGNORECASE)


def quoted_path(path: Path) -> str:
    """`path` as git quotes it in lists of object folders, so that any path is possible."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def identity(author: Author, date: int) -> dict[str, str]:
    """Variables that make `author` author and committer, at `date` (seconds since 1970, UTC)."""
    facts = {"NAME": author.name, "EMAIL": author.email, "DATE": f"@{date} +0000"}
    return {f"GIT_{role}_{fact}": value for role in ("AUTHOR", "COMMITTER") for fact, value in facts.items()}


def _settings(config: Mapping[str, str]) -> list[str]:
    return [part for key, value in config.items() for part in ("-c", f"{key}={value}")]


def _bounded(command: Sequence[str], seconds: float) -> list[str]:
    # The shell sets the limits: a function run between fork and exec is not safe in a process with threads.
    script = f'ulimit -t {int(seconds) + 1}; ulimit -v {MEMORY // 1024} 2>/dev/null; exec "$@"'
    return ["/bin/sh", "-c", script, "git", *command]


def _variables(as_user: bool) -> dict[str, str]:
    if as_user:
        own = {name: value for name, value in os.environ.items() if name not in REPOSITORY_VARIABLES}
        return own | {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C"}
    return CLEAN | {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}


@contextmanager
def _input(stdin: bytes | IO[bytes]) -> Iterator[int | IO[bytes]]:
    """A file for the process to read: no thread, and no deadlock when it does not."""
    if not isinstance(stdin, bytes):
        yield stdin
    elif not stdin:
        yield subprocess.DEVNULL
    else:
        with tempfile.TemporaryFile() as file:
            file.write(stdin)
            file.seek(0)
            yield file


def _start(
    command: Sequence[str], *, cwd: Path, stdin: int | IO[bytes], stderr: IO[bytes], variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    try:
        # Its own session: nothing can ask for a password on our terminal, and the whole group can be ended.
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=variables,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            bufsize=0,
        )
    except FileNotFoundError as error:
        if not cwd.is_dir():
            raise RepoError(f"{cwd} is not a folder") from error
        raise RepoError("git is not installed on this machine; install it, e.g. apt-get install git") from error


def _chunks(out: IO[bytes], deadline: float, args: Sequence[str]) -> Iterator[bytes]:
    poll = select.poll()
    poll.register(out, select.POLLIN | select.POLLHUP)
    while True:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise _too_slow(args)
        chunk = out.read(CHUNK)
        if not chunk:
            return
        yield chunk


def _collect(chunks: Iterator[bytes], max_bytes: int, args: Sequence[str]) -> bytes:
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise OutputTooLong(f"{_shown(args)} printed more than {max_bytes} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _wait(process: subprocess.Popen[bytes], deadline: float, args: Sequence[str]) -> int:
    try:
        return process.wait(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise _too_slow(args) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _too_slow(args: Sequence[str]) -> RepoError:
    return RepoError(f"{_shown(args)} did not end in time")


def _failure(args: Sequence[str], code: int, errors: IO[bytes]) -> GitFailed:
    errors.seek(0)
    text = errors.read(CHUNK).decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("hint:", "warning:"))]
    marks = ("fatal:", "error:", " ! [")  # the last one is a line of `push` about one ref
    telling = [line for line in lines if line.startswith(marks)] or lines or [""]
    best = next((line for line in telling if "rejected]" in line), telling[0])
    reason = printable(best.removeprefix("fatal: ").removeprefix("error: ")) or f"exit code {code}"
    clean = "\n".join(printable(line, 1000) for line in text.splitlines())
    return GitFailed(f"{_shown(args)} failed: {reason}", stderr=clean)


def _shown(args: Sequence[str]) -> str:
    return printable("git " + shlex.join(args), 120)
