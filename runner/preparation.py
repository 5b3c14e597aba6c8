"""A job's sandboxes, prepared: the repository is in, setup has run, and commands reach what the policy lists.

Where it saves time, they start from a snapshot (`sandbox/snapshot.py`), which the first job on the same image, base and
setup makes; docs/snapshots.md says when, and what is in one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Literal

from runner import cache
from runner.egress import Gateway, Meter
from runner.enclosure import enclosed, keep, to_keep
from runner.errors import ControlNotEnforced, SandboxError, SandboxLost
from runner.repo import Hidden, Quarantine, brought_in, go_on, ignore_untracked, put, put_base, settle, untracked
from runner.resolve import Job
from runner.sandbox import owner, profile
from runner.sandbox.base import Filled, Sandbox, SandboxConfig
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ensure_image, ensure_toolbox
from runner.sandbox.snapshot import Snapshot, Snapshots, key_of
from runner.transcript import AnyEvent, SandboxOpened, SetupRan, SnapshotUsed

SETUP_SECONDS = 1800.0
"""For one setup command."""
WORTH_BYTES = 16 << 20
"""A history of this size takes longer to bring in than a snapshot to look up."""
FAILURES = "snapshot.log"
"""In the job's logs: why no snapshot could be made."""
LAYOUT = 1
"""Of what is in a snapshot: part of its key."""

Purpose = Literal["agent", "checks"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """What the sandboxes of one job are made from."""

    job: Job
    engine: ContainerEngine
    quarantine: Quarantine
    hidden: Hidden
    """What of the repository stays outside."""
    config: SandboxConfig
    meter: Meter
    record: Callable[[AnyEvent], None]
    snapshots: Snapshots | None
    """None: every sandbox is filled from the quarantine."""
    on_stop: Callable[[Callable[[], object]], object]
    """Takes what ends a sandbox, to be called from another thread when the job is to be left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A sandbox with the repository in it, after setup."""

    sandbox: Sandbox
    gateway: Gateway
    """Its way out, in the phase of setup."""
    left: tuple[bytes, ...]
    """Untracked paths that setup left, which are nobody's work."""


def survey(
    job: Job,
    *,
    engine: ContainerEngine,
    quarantine: Quarantine,
    hidden: Hidden,
    meter: Meter,
    record: Callable[[AnyEvent], None],
    on_stop: Callable[[Callable[[], object]], object] = lambda act: None,
) -> Site:
    """Pins the image; builds or pulls what is missing. Raises ImageNotFound, SandboxError."""
    image = ensure_image(engine, job.task.value.image)
    (job.folder / "logs").mkdir(exist_ok=True)
    config = SandboxConfig(
        image=image.reference,
        image_digest=image.digest,
        profile=profile.from_policy(job.policy.value.container),
        toolbox_volume=ensure_toolbox(engine),
        labels={owner.LABEL: "1", owner.OWNER: owner.mine(), owner.JOB: job.id},
        log_folder=str(job.folder),
    )
    snapshots = Snapshots(engine.api, space=cache.space()) if _pays(job, quarantine) else None
    return Site(
        job=job,
        engine=engine,
        quarantine=quarantine,
        hidden=hidden,
        config=config,
        meter=meter,
        record=record,
        snapshots=snapshots,
        on_stop=on_stop,
    )


def _pays(job: Job, quarantine: Quarantine) -> bool:
    """Whether to use snapshots: never where setup could have written down a secret."""
    policy = job.policy.value
    if policy.secrets or not policy.container.read_only or not cache.space():
        return False
    match policy.container.workspace:
        case "memory":
            return False
        case "layer":
            return True
        case "auto":
            return bool(job.task.value.setup) or quarantine.pack_bytes > WORTH_BYTES


@contextmanager
def prepared(site: Site, purpose: Purpose, *, commit: str | None = None, setup: bool = True) -> Iterator[Prepared]:
    """An open sandbox with `commit` (base by default) checked out and setup done; it is gone when the block ends.

    Raises SandboxError, also for a setup command that fails; RepoError, ControlNotEnforced.
    """
    start = commit or site.quarantine.base
    commands = site.job.task.value.setup if setup else ()
    with ExitStack() as stack:
        ready = _from_snapshot(site, purpose, stack, start, commands)
        yield ready or _from_nothing(site, purpose, stack, start, commands)


def _from_nothing(site: Site, purpose: Purpose, stack: ExitStack, start: str, commands: Sequence[str]) -> Prepared:
    sandbox, gateway = stack.enter_context(_opened(site, purpose, site.config))
    author = site.job.task.value.output.author
    put(site.quarantine, sandbox, branch=site.job.branch, author=author, commit=start, hidden=site.hidden)
    return Prepared(sandbox=sandbox, gateway=gateway, left=_set_up(site, sandbox, commands))


def _from_snapshot(
    site: Site, purpose: Purpose, stack: ExitStack, start: str, commands: Sequence[str]
) -> Prepared | None:
    """None where there are to be none, or the engine, kernel or image cannot hold what a policy asks for with them."""
    if site.snapshots is None:
        return None
    # What setup made of base says nothing about what it makes of another commit.
    done = commands if start == site.quarantine.base else ()
    try:
        ready = _at_base(site, site.snapshots, purpose, stack, done)
    except ControlNotEnforced:
        if site.job.policy.value.container.workspace == "layer":
            raise
        return None
    author = site.job.task.value.output.author
    go_on(site.quarantine, ready.sandbox, branch=site.job.branch, author=author, commit=start, hidden=site.hidden)
    return ready if done else replace(ready, left=_set_up(site, ready.sandbox, commands))


def _at_base(site: Site, snapshots: Snapshots, purpose: Purpose, stack: ExitStack, commands: Sequence[str]) -> Prepared:
    """A sandbox with base and what these setup commands make of it, on no branch yet.

    Where several want the same snapshot and it is not there, one makes it and the others wait.
    """
    keeping = purpose == "agent" and _keeps(site, commands)
    key = _key(site, commands, keeping=keeping)
    with snapshots.used(key) as found:
        if found:
            return _started(site, purpose, stack, key, found)
    with snapshots.made(key) as found:
        if found:
            return _started(site, purpose, stack, key, found)
        sandbox, gateway = stack.enter_context(_opened(site, purpose, _layered(site)))
        put_base(site.quarantine, sandbox, hidden=site.hidden)
        left = _set_up(site, sandbox, commands)
        if keeping:
            _keep(site, sandbox, made=untracked(sandbox) if commands else ())
        _make(site, snapshots, purpose, key, sandbox, left)
        return Prepared(sandbox=sandbox, gateway=gateway, left=left)


def _started(site: Site, purpose: Purpose, stack: ExitStack, key: str, found: Snapshot) -> Prepared:
    began = time.monotonic()
    sandbox, gateway = stack.enter_context(_opened(site, purpose, _layered(site, found.filled)))
    sandbox.keep(unreadable=(), unwritable=())  # what is kept already, git must be told to trust
    site.record(SnapshotUsed(purpose=purpose, key=key, made=False, seconds=time.monotonic() - began))
    return Prepared(sandbox=sandbox, gateway=gateway, left=found.left)


def _keeps(site: Site, commands: Sequence[str]) -> bool:
    """Whether files are to change hands before the agent starts (`runner.enclosure`).

    That is done before the snapshot is made: from one of its folders nothing can be moved to another, only copied.
    """
    policy = site.job.policy.value
    return bool(policy.deny) and (bool(commands) or any(_to_keep(site, made=())))


def _keep(site: Site, sandbox: Sandbox, *, made: Sequence[str]) -> None:
    secret, fixed = _to_keep(site, made=made)
    keep(sandbox, unreadable=secret, unwritable=fixed)


def _to_keep(site: Site, *, made: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    tracked = brought_in(site.quarantine, site.hidden)
    return to_keep(site.job.policy.value, tracked=tracked, left=made, outside=site.hidden.paths)


def _make(
    site: Site, snapshots: Snapshots, purpose: Purpose, key: str, sandbox: Sandbox, left: tuple[bytes, ...]
) -> None:
    """Keep what is there for the next job; this one goes on, when that fails."""
    began = time.monotonic()
    sandbox.end_processes()
    settle(sandbox)
    try:
        snapshots.make(key, sandbox, left=left)
    except SandboxLost:
        raise
    except SandboxError as error:
        with (site.job.folder / "logs" / FAILURES).open("a") as log:
            log.write(f"{purpose}: {error}\n")
    else:
        site.record(SnapshotUsed(purpose=purpose, key=key, made=True, seconds=time.monotonic() - began))


def _layered(site: Site, filled: Filled | None = None) -> SandboxConfig:
    return replace(site.config, profile=replace(site.config.profile, workspace="layer"), filled=filled)


def _key(site: Site, commands: Sequence[str], *, keeping: bool) -> str:
    """What a snapshot depends on: what goes in, what setup does, and what setup could see or reach while it did."""
    hidden, quarantine, policy = site.hidden, site.quarantine, site.job.policy.value
    facts: dict[str, object] = {
        "layout": LAYOUT,
        "toolbox": site.config.toolbox_volume,
        "image": [site.config.image, site.config.image_digest],
        "base": [quarantine.object_format, quarantine.base, _sha256(quarantine.shallow)],
        "hidden": [
            _sha256("\0".join(hidden.paths).encode("utf-8", "surrogateescape")),
            _sha256(hidden.entries),
            _sha256(b"\0".join(hidden.outside)),
            _sha256("".join(sorted(hidden.blobs)).encode()),
        ],
        "setup": list(commands),
        "container": policy.container.model_dump(mode="json"),
    }
    if keeping:
        facts["kept"] = policy.model_dump(mode="json", include={"mode", "allow", "ask", "deny"})
    if commands:
        facts["egress"] = policy.egress.model_dump(mode="json", exclude={"agent", "checks"})
        facts["authorities"] = _sha256(site.job.authorities or b"")
    return key_of(facts)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _opened(site: Site, purpose: Purpose, config: SandboxConfig) -> Iterator[tuple[Sandbox, Gateway]]:
    job = site.job
    with enclosed(
        site.engine,
        config,
        job.policy.value,
        record=site.record,
        meter=site.meter,
        secrets=job.secrets,
        authorities=job.authorities,
    ) as (sandbox, gateway):
        # Setup, the agent's commands and checks may all take long.
        site.on_stop(sandbox.close)
        site.record(SandboxOpened(purpose=purpose, report=asdict(sandbox.report)))
        yield sandbox, gateway


def _set_up(site: Site, sandbox: Sandbox, commands: Sequence[str]) -> tuple[bytes, ...]:
    for command in commands:
        done = sandbox.exec(command, seconds=SETUP_SECONDS)
        output = done.output.decode(errors="replace")
        site.record(SetupRan(command=command, exit_code=done.exit_code, seconds=done.seconds, output=output))
        if not done.ok:
            how = "timed out" if done.timed_out else f"ended with exit code {done.exit_code}"
            raise SandboxError(f"setup: {command!r} {how}; its last line: {(output.splitlines() or [''])[-1][:200]}")
    return ignore_untracked(sandbox) if commands else ()
