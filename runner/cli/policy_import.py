"""`claw-runner policy import FILE`: a policy out of another agent's settings, and what was lost on the way."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from runner.artifacts import write_whole
from runner.document.source import read_text
from runner.errors import ConfigError
from runner.policy.dialects import TAKEN, Dialect, Imported, detect
from runner.policy.dialects import convert as imported
from runner.policy.writing import plain, policy_text

NAMES: dict[Dialect, str] = {
    "claude": "settings of Claude Code",
    "codex": "an execpolicy of Codex",
    "opencode": "permissions of OpenCode",
}


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="settings.json, an execpolicy or opencode.json")],
    dialect: Annotated[Dialect | None, typer.Option("--from", help="whose it is, when it does not show")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="where the policy goes, instead of stdout")] = None,
) -> int:
    """Make a policy of the settings of Claude Code, Codex or OpenCode.

    It allows nothing that the settings would not. What could not be said, or only more strictly, is told on stderr
    and in comments of the policy.
    """
    text, source = read_text(file), str(file)
    found = imported(text, source, whose := dialect or detect(text, source), in_repository=_is_of_a_repository(file))
    report = list(_report(found, f"{file.name}, {NAMES[whose]}"))
    policy = policy_text(replace(found.policy, head=tuple(report)))
    print("\n".join(report), file=sys.stderr)
    if out is None:
        sys.stdout.write(policy)
    else:
        write_policy(out, policy)
    return 0


def write_policy(path: Path, text: str) -> None:
    """Raises ConfigError when it cannot be written."""
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise ConfigError(f"--out: {path} cannot be written: {error.strerror}") from None


def _is_of_a_repository(file: Path) -> bool:
    """Whether settings lie where a repository has them, and not a user."""
    folder = file.absolute().parent
    return folder.name == ".claude" and folder.parent != Path.home()


def _report(found: Imported, what: str) -> Iterator[str]:
    """Line by line: how much was taken over, and each thing that was not taken over exactly."""
    counts = Counter(note.taken for note in found.notes)
    exactly, stricter, left_out = (counts[taken] for taken in TAKEN)
    yield plain(f"from {what}: {exactly} taken over exactly, {stricter} stricter, {left_out} left out")
    for taken in TAKEN:
        for note in found.notes:
            if note.taken == taken and (note.why or taken != "exactly"):
                yield f"{taken}: {note}"
