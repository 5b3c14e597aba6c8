"""What pytest, where a check runs it, says beside the exit status: by a plugin of ours, in a file, not in the output.

The plugin is put into a folder of its own before each command, and found by pytest through PYTHONPATH, as an installed
one would be. So a command that never starts pytest is as it was, and one that hides the folder from Python has no
evidence, but runs.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from runner.sandbox.base import Sandbox

PLUGIN = "claw_evidence"
HOOKS = f"{PLUGIN}_hooks"
OLDEST = f"import sys\nif sys.version_info >= (3, 6):\n    from {HOOKS} import *\n"
"""The plugin itself, so that a Python that cannot read the hooks is not disturbed by them."""
FILES = {
    f"{PLUGIN}.py": OLDEST.encode(),
    f"{HOOKS}.py": (Path(__file__).parent / "inside" / f"{HOOKS}.py").read_bytes(),
    f"{PLUGIN}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1\n".encode(),
    f"{PLUGIN}-1.dist-info/entry_points.txt": f"[pytest11]\n{PLUGIN} = {PLUGIN}\n".encode(),
}
MOST_BYTES = 64_000_000
"""Of a report: some hundred thousand tests."""
ASSIGNED = re.compile(r"(?<![^\s;&|(])PYTHONPATH=(?=([^\s;&|)]?))")
"""An assignment in a command, and how its value begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What pytest did in one command. Tests are named by their node ids."""

    ended: bool
    """Every pytest that began came to its end by itself."""
    failed: bool = False
    """One of them said so in the end."""
    ran: frozenset[str] = frozenset()
    """Passed or failed."""
    skipped: frozenset[str] = frozenset()
    xfailed: frozenset[str] = frozenset()
    by_chance: frozenset[str] = frozenset()
    """Of those two, the ones without an unconditional mark in the test."""
    unread: frozenset[str] = frozenset()
    """Files and folders whose tests it did not get to know, because they skip themselves or cannot be read."""
    left_out: int = 0
    """Collected, and never begun."""
    idle: bool = False
    """There was a session that was to run tests, and none ran."""
    empty: bool = False
    """… because it read all there is and found none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """How one command is run so that it leaves evidence."""

    command: str
    variables: Mapping[str, str]
    report: str


def watch(sandbox: Sandbox, command: str, *, python_path: str) -> Watched:
    """Put the plugin in. `python_path` is the image's own PYTHONPATH. Raises OSError."""
    folder = f"/tmp/claw-{secrets.token_hex(8)}"
    for name, data in FILES.items():
        sandbox.write_file(f"{folder}/plugin/{name}", data)
    plugin, report = f"{folder}/plugin", f"{folder}/{secrets.token_hex(16)}"
    variables = {"PYTHONPATH": f"{python_path}:{plugin}" if python_path else plugin, "CLAW_EVIDENCE": report}
    return Watched(command=assigning(command, plugin), variables=variables, report=report)


def assigning(command: str, plugin: str) -> str:
    """The command with the plugin's folder in every PYTHONPATH that it sets itself."""
    return ASSIGNED.sub(lambda found: f"PYTHONPATH={plugin}{':' if found[1] else ''}", command)


def evidence(sandbox: Sandbox, watched: Watched) -> Evidence | None:
    """What the command left; None when pytest did not run in it, or could not be watched."""
    try:
        if sandbox.stat(watched.report).size > MOST_BYTES:
            return None
        return understood(sandbox.read_file(watched.report, max_bytes=MOST_BYTES))
    except OSError:
        return None


def understood(report: bytes) -> Evidence | None:
    """What the lines of the plugin say. Lines that it cannot have written say nothing."""
    events = [event for line in report.splitlines() if (event := _event(line))]
    if not any(event.what == "loaded" for event in events):
        return None
    tests = [event.details for event in events if event.what == "test"]
    ran = {id for id, outcome, _, _ in tests if outcome in ("passed", "failed")}
    others = [
        (id, expected, marked) for id, outcome, expected, marked in tests if outcome == "skipped" and id not in ran
    ]
    # With an option like --collect-only a session is not to run any.
    sessions = [session for *session, quiet in _details(events, "session") if not quiet]
    unread = frozenset(id for id, _ in _details(events, "unread"))
    idle = bool(sessions) and not ran
    return Evidence(
        ended=not _under_way(events),
        failed=any(status != 0 for (status,) in _details(events, "ended")),
        ran=frozenset(ran),
        skipped=frozenset(id for id, expected, _ in others if not expected),
        xfailed=frozenset(id for id, expected, _ in others if expected),
        by_chance=frozenset(id for id, _, marked in others if not marked),
        unread=unread,
        left_out=sum(max(0, collected - begun) for collected, begun, _ in sessions),
        idle=idle,
        empty=idle and not unread and all(done and not found for found, _, done in sessions),
    )


class _Event(NamedTuple):
    what: str
    pid: int
    details: list[Any]


LENGTHS = {"loaded": 0, "began": 0, "ended": 1, "session": 4, "unread": 2, "test": 4}
"""How many details each event has."""


def _details(events: Iterable[_Event], what: str) -> list[list[Any]]:
    return [event.details for event in events if event.what == what]


def _under_way(events: Iterable[_Event]) -> set[int]:
    """The processes in which pytest began, or was about to, and did not end."""
    pids: set[int] = set()
    for event in events:
        if event.what in ("loaded", "began"):
            pids.add(event.pid)
        elif event.what == "ended":
            pids.discard(event.pid)
    return pids


def _event(line: bytes) -> _Event | None:
    try:
        what, pid, *details = json.loads(line)
        return _Event(what, pid, details) if LENGTHS[what] == len(details) and isinstance(pid, int) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


# --- what speaks against a passed command


def is_suspicious(found: Evidence) -> bool:
    """Whether it takes a look at base to tell if all is well."""
    return bool(found.by_chance or found.unread or found.left_out or found.idle or found.failed)


def against(found: Evidence | None, base: Evidence | None) -> str:
    """Why an exit status of 0 proves nothing, held against what the same command did on base (None: unknown)."""
    if found is None:
        return "pytest ran tests on base, and left no trace here" if base and base.ran else ""
    if not found.ended:
        return "exit code 0, but pytest was ended before it was done: something in the work makes its process exit"
    if found.left_out and not (base and base.left_out):
        return f"exit code 0, but pytest was made to stop before {_tests(found.left_out)} had begun"
    if base is None:
        return ""
    for what, ids in (("skipped", found.skipped & base.ran), ("expected to fail", found.xfailed & base.ran)):
        if ids:
            return f"{_listed(ids)} ran on base and {_are(ids)} {what} here"
    if gone := _gone(found, base):
        return f"{_listed(gone)} ran on base and {_are(gone)} not run here"
    return ""


def _gone(found: Evidence, base: Evidence) -> set[str]:
    """Tests of base of which nothing was run, whatever their parameters: these may well come from the work."""
    here = {_function(id) for id in (*found.ran, *found.skipped, *found.xfailed)}
    return {_function(id) for id in base.ran} - here


def _function(id: str) -> str:
    return id.partition("[")[0]


def _tests(count: int) -> str:
    return f"{count} test{'s' if count > 1 else ''}"


def _are(ids: Collection[str]) -> str:
    return "are" if len(ids) > 1 else "is"


def _listed(ids: Iterable[str], most: int = 3) -> str:
    names = sorted(ids)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
