"""Take too much of everything: processes, memory, disk. In a container of its own, whose sizes are cut.

The controls are those of the policy; the sizes are small, so that a control that does not hold costs this machine
little. Whether the policy's own sizes are in force is read back from inside in every container (`controls.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from runner.attack.entry import VARIABLES
from runner.attack.findings import Category, Finding, Status
from runner.errors import SandboxError
from runner.sandbox.base import TOOLBOX, WORKSPACE, ExecResult, Profile, Sandbox
from runner.sandbox.container import ContainerEngine
from runner.sandbox.profile import MIB, SHM_BYTES, SMALL_INODES, memory_limit

SECONDS = 60.0
SLACK = 64
"""What is tried beyond a limit: so many MiB, or so many of anything else."""
PAGE = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class Flood:
    category: Category
    name: str
    kind: str
    """Of `inside/excess.py`."""
    limit: int
    step: int = 1
    """How much more than the limit is a hole."""
    folder: str = "/tmp"


def cut(profile: Profile) -> Profile:
    """The profile with sizes that can be filled in a moment."""
    return replace(
        profile,
        memory=64 * MIB,
        disk=min(profile.disk, 32 * MIB),
        tmp=min(profile.tmp, 16 * MIB),
        inodes=min(profile.inodes, 1000),
        pids=min(profile.pids, 64),
        open_files=min(profile.open_files, 256),
        file_size=min(profile.file_size, 24 * MIB),
    )


def floods(profile: Profile) -> Iterator[Flood]:
    """What is tried in a sandbox of this profile. Memory comes last: what goes wrong there may end it."""
    yield Flood(category="processes", name="start processes without end", kind="processes", limit=profile.pids)
    yield Flood(category="processes", name="let off a fork bomb", kind="bomb", limit=profile.pids)
    yield Flood(category="processes", name="open files without end", kind="open_files", limit=profile.open_files)
    # What is watched, and not held, is over for a moment before the command is ended: that is no finding.
    held = profile.workspace == "memory"
    sizes = ((str(WORKSPACE), profile.disk), ("/tmp", profile.tmp), ("/dev/shm", SHM_BYTES))
    for folder, size in sizes if held else sizes[1:]:
        yield Flood(category="disk", name=f"fill {folder}", kind="room", limit=size, step=PAGE, folder=folder)
    names = ((str(WORKSPACE), profile.inodes), ("/tmp", SMALL_INODES))
    for folder, inodes in names if held else names[1:]:
        yield Flood(category="disk", name=f"fill {folder} with names", kind="names", limit=inodes, folder=folder)
    size = profile.file_size
    yield Flood(category="disk", name="make a file of any size", kind="one_file", limit=size)
    yield Flood(category="memory", name="take memory without end", kind="memory", limit=memory_limit(profile))


def flood(sandbox: Sandbox, profile: Profile) -> Iterator[Finding]:
    """Try all of it; after each the sandbox must still answer."""
    bounded = True
    for each in floods(profile):
        if each.kind == "bomb" and not bounded:
            continue  # this machine would have to hold it
        try:
            finding = _after(sandbox, each, _tried(sandbox, each))
        except SandboxError as error:
            yield _finding(each, "hole", f"the sandbox was lost: {error}")
            return
        bounded = bounded and (each.kind != "processes" or finding.status == "held")
        yield finding
    yield _at_one_stroke(sandbox)


def engine_answers(engine: ContainerEngine) -> Finding:
    """Whether all that left the engine as it was."""
    each = Flood(category="processes", name="keep the engine from answering", kind="", limit=0)
    try:
        engine.api.get("/version")
    except SandboxError as error:
        return _finding(each, "hole", str(error))
    return _finding(each, "held", "it answers")


def _tried(sandbox: Sandbox, each: Flood) -> ExecResult:
    unit = MIB if each.limit >= MIB else 1
    script = Path(__file__).with_name("inside") / "excess.py"
    return sandbox.exec(
        [f"{TOOLBOX}/bin/python3", "-s", "-S", "-B", "-", each.kind, str(each.limit + SLACK * unit), each.folder],
        program="argv",
        cwd="/",
        variables=VARIABLES,
        stdin=[script.read_bytes()],
        seconds=SECONDS,
        separate_stderr=True,
        confined=True,
    )


def _after(sandbox: Sandbox, each: Flood, done: ExecResult) -> Finding:
    alive = sandbox.exec("echo alive", cwd="/", seconds=SECONDS, confined=True)
    if alive.output.strip() != b"alive":
        return _finding(each, "hole", f"afterwards no command could be started: {alive}")
    if done.oom_killed or done.signal is not None:
        return _finding(each, "held", "the kernel ended it")
    if not done.ok:
        return _finding(each, "error", done.stderr.decode("utf-8", "replace").strip()[-200:])
    got, stopped = json.loads(done.output)
    if got >= each.limit + each.step:
        return _finding(each, "hole", f"took {got:,} where {each.limit:,} are allowed; stopped by {stopped}")
    return _finding(each, "held", f"took {got:,} of {each.limit:,}, then: {stopped}")


def _at_one_stroke(sandbox: Sandbox) -> Finding:
    """kill(2) with -1 ends all that the user may end; the first process must not be among them."""
    each = Flood(category="privileges", name="end every process at one stroke", kind="", limit=0)
    try:
        sandbox.exec("kill -9 -1", cwd="/", seconds=SECONDS, confined=True)
        return _after(sandbox, each, ExecResult(exit_code=None, signal=9, output=b""))
    except SandboxError as error:
        return _finding(each, "hole", f"the sandbox was lost: {error}")


def _finding(each: Flood, status: Status, evidence: str) -> Finding:
    return Finding(category=each.category, name=each.name, status=status, evidence=evidence)
