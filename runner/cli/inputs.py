"""The files that a command is given."""

from __future__ import annotations

from pathlib import Path

from runner.errors import ConfigError
from runner.policy.loading import no_such_preset, preset


def policy_file(name: str) -> Path:
    """The policy file that `--policy` means: the name of one that comes with claw-runner (`edit`), or a path.

    A file of such a name is `./edit`: what lies in the current folder, which may be anybody's, is taken for a policy
    only when its path is given. Raises ConfigError for a name that is neither.
    """
    path = Path(name)
    if found := preset(name):
        return found
    if path.suffix or "/" in name or path.is_file():
        return path
    raise ConfigError(f"--policy: there is no file {name!r} and {no_such_preset(name)}")


def model_from_here(model: str) -> str:
    """A model given on the command line: its file is looked for from here, not from the task's folder."""
    provider, _, rest = model.partition(":")
    return f"{provider}:{Path(rest).absolute()}" if provider in ("scripted", "replay") and rest else model
