"""The outcomes a job can have, their exit codes, and the errors that lead to them.

    RunnerError
    ├── ConfigError             config_error    2   task, policy or usage is wrong
    │   └── ControlNotEnforced  config_error    2   this machine cannot apply a control that the policy asks for
    ├── ModelError              provider_error 20   the provider refused or stayed unreachable, after retries
    ├── SandboxError            sandbox_error  21   engine, image or container
    │   ├── EngineUnavailable
    │   ├── ImageNotFound
    │   └── SandboxLost         the container went away under us
    │       └── OutOfMemory     … for memory
    ├── ChecksError             checks_error   22   the checks gave no verdict
    │   └── ChecksDisproved     …                   they would prove nothing: task or base is wrong
    └── RepoError               repo_error     23   git

    Cancelled                   cancelled     130, 143   a BaseException: nothing but run_job and main may keep it

Not errors but values: a command's exit code, a denied call, a failed check, a reached limit.
"""

from __future__ import annotations

import signal as signals
from typing import Literal, get_args

Outcome = Literal[
    "solved",
    "changed",
    "config_error",
    "unsolved",
    "no_change",
    "denied",
    "limit",
    "tampered",
    "provider_error",
    "sandbox_error",
    "checks_error",
    "repo_error",
    "cancelled",
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

EXIT_CODES: dict[Outcome, int] = {
    "solved": 0,
    "changed": 0,
    "config_error": 2,
    "unsolved": 10,
    "no_change": 11,
    "denied": 12,
    "limit": 13,
    "tampered": 14,
    "provider_error": 20,
    "sandbox_error": 21,
    "checks_error": 22,
    "repo_error": 23,
    "cancelled": 130,
}


Cause = Literal["provider", "difference", "sandbox", "oom", "disk", "repository", "checks", "config"]
"""What failed us, finer than the outcome: what a batch may try again, and how, is a matter of the cause."""


class RunnerError(Exception):
    """Base of everything a caller may want to catch. `str(error)` is one line: where, what, and the next step."""

    outcome: Outcome = "sandbox_error"
    cause: Cause = "sandbox"

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


class ConfigError(RunnerError):
    """A file or flag is wrong. The message reads `file:line:column: key: what is wrong; hint`."""

    outcome = "config_error"
    cause: Cause = "config"


class ControlNotEnforced(ConfigError):
    """A control of the policy cannot be applied by this engine here, and the policy does not let it be missing."""


class ModelError(RunnerError):
    """The model gave no usable reply, after the retries that the job's budget allows."""

    outcome = "provider_error"
    cause: Cause = "provider"


class SandboxError(RunnerError):
    """The engine, an image or a container failed us; never used for a command that merely failed."""

    outcome = "sandbox_error"


class EngineUnavailable(SandboxError):
    """No container engine answers."""


class ImageNotFound(SandboxError):
    """An image is neither on the engine nor to be had from where we looked."""


class SandboxLost(SandboxError):
    """The container, or the pipe to it, went away while it was needed."""


class OutOfMemory(SandboxLost):
    """The kernel ended the container for memory: its control group or the engine says so."""

    cause: Cause = "oom"


class ChecksError(RunnerError):
    """The checks could not be run to a verdict."""

    outcome = "checks_error"
    cause: Cause = "checks"


class ChecksDisproved(ChecksError):
    """A check that was to fail on base, or to pass there, did not: it proves nothing, however often it is run."""

    cause: Cause = "config"


class RepoError(RunnerError):
    """Git refused, or what came out of the sandbox is not an acceptable branch."""

    outcome = "repo_error"
    cause: Cause = "repository"


class Cancelled(BaseException):
    """The user or the system asked us to stop. Raised in the main thread by the signal handlers of the CLI."""

    def __init__(self, signal: int = signals.SIGINT) -> None:
        super().__init__(f"cancelled by {signals.Signals(signal).name}")
        self.exit_code = 128 + signal
