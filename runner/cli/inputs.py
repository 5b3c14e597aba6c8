"""The files that a command is given."""

from __future__ import annotations

from pathlib import Path

from runner.document.words import near
from runner.errors import ConfigError
from runner.shipped import shipped


def policy_file(name: str) -> Path:
    """The policy file that `--policy` means: a path, or the name of one that comes with claw-runner (`edit`).

    Raises ConfigError for a name that is neither.
    """
    path = Path(name)
    if path.suffix or "/" in name or path.exists():
        return path
    names = sorted(file.stem for file in shipped("policies").glob("*.yaml"))
    if name in names:
        return shipped("policies") / f"{name}.yaml"
    meant = near(name, names)
    hint = f"did you mean {meant!r}?" if meant else f"those that come with claw-runner are {', '.join(names)}"
    raise ConfigError(f"--policy: there is no file {name!r} and no policy of that name; {hint}")
