"""The attack as a whole: bait on the host, containers under the policy, all that is tried, and the host after it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runner.attack import floods, paths, secrets, traps
from runner.attack.bait import Bait, laid
from runner.attack.controls import read_back
from runner.attack.entry import Orders, attack_from_inside, reach_listed
from runner.attack.findings import CATEGORIES, Category, Finding, Scorecard
from runner.attack.target import AUTHOR, BRANCH, Ground, Ready
from runner.config import Loaded
from runner.enclosure import contain
from runner.errors import RepoError
from runner.policy import Policy
from runner.policy.egress import rules_for
from runner.repo import deliver, judge_changes, take
from runner.sandbox import profile
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ensure_image, ensure_toolbox

EVERYTHING = frozenset(CATEGORIES)
FROM_INSIDE: tuple[Category, ...] = (
    "host files", "sockets", "/proc and /sys", "mounts", "devices", "capabilities", "privileges", "namespaces",
    "system calls", "egress", "proxy", "secrets", "processes", "disk",
)  # fmt: skip
FLOODS = frozenset[Category](("processes", "memory", "disk", "privileges"))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attack:
    ground: Ground
    policy: Policy
    host_variables: Mapping[str, str]
    categories: frozenset[Category]
    bait: Bait


def attack(
    engine: ContainerEngine,
    policy: Loaded[Policy],
    *,
    image: str = "base",
    host_variables: Mapping[str, str],
    categories: frozenset[Category] = EVERYTHING,
) -> Scorecard:
    """Try everything of these categories; takes some ten seconds. `host_variables` must not be found inside.

    Raises ControlNotEnforced when by this policy no container opens here, which is as it should be; SandboxError when
    the attack itself cannot be made.
    """
    started = time.monotonic()
    ground = Ground(engine=engine, image=ensure_image(engine, image), toolbox_volume=ensure_toolbox(engine))
    with laid() as bait:
        what = _Attack(
            ground=ground, policy=policy.value, host_variables=host_variables, categories=categories, bait=bait
        )
        findings = [finding for finding in _all(what) if finding.category in categories]
    return Scorecard(
        engine=engine.name,
        engine_version=engine.version,
        policy=str(policy.path),
        image=image,
        findings=tuple(findings),
        seconds=time.monotonic() - started,
    )


def _all(what: _Attack) -> Iterator[Finding]:
    """The floods come last, in a container of their own."""
    sizes = profile.from_policy(what.policy.container)
    targets = paths.targets(what.policy, what.bait.token) if "path rules" in what.categories else ()
    with what.ground.ready(what.policy, sizes, bait=what.bait, targets=targets) as ready:
        yield from read_back(ready.sandbox.report.controls, what.policy)
        yield from _from_inside(what, ready)
        if what.categories & {"path rules", "git"}:
            yield from _on_repository(what, ready, targets)
    if what.categories & FLOODS:
        with what.ground.opened(what.policy, floods.cut(sizes)) as (sandbox, _):
            contain(sandbox, what.policy, tracked=(), left=())
            yield from floods.flood(sandbox, floods.cut(sizes))
        yield floods.engine_answers(what.ground.engine)


def _from_inside(what: _Attack, ready: Ready) -> Iterator[Finding]:
    bait, listed = what.bait, _listed(what.policy)
    orders = Orders(
        categories=tuple(category for category in FROM_INSIDE if category in what.categories),
        canary=str(bait.canary),
        token=bait.token,
        port=bait.port,
        abstract=bait.abstract,
        namespaces=bait.namespaces,
        uid=profile.UID,
        read_only=what.policy.container.read_only,
        user_namespace=what.ground.engine.name == "podman",
        listed=listed,
    )
    report = attack_from_inside(ready.sandbox, orders)
    yield from report.findings
    yield from secrets.look(report.variables, what.host_variables, what.policy.secrets)
    if listed:
        ready.door.honest = True
        yield reach_listed(ready.sandbox, listed)


def _listed(policy: Policy) -> str | None:
    """A name that the policy lets the agent's commands reach, at the usual ports."""
    rules = [rule for rule in rules_for(policy.egress, "agent") if not rule.network and not rule.ports]
    return next((f"any.{rule.host}" if rule.subdomains_only else rule.host for rule in rules), None)


def _on_repository(what: _Attack, ready: Ready, targets: tuple[paths.Target, ...]) -> Iterator[Finding]:
    """What commands can do to the repository, and what then comes of it on the host."""
    yield traps.future(ready.sandbox, f"future {what.bait.token}")
    yield from paths.untried(targets)
    tried = paths.as_found(ready.sandbox, what.policy, [target for target in targets if not target.is_gits])
    outcomes = paths.try_paths(ready.sandbox, tried)
    paths.change_all(ready.sandbox, tried)
    yield from paths.judged(what.policy, tried, outcomes, _taken_out(what, ready).refused)
    traps.set_traps(ready.sandbox, what.bait)
    came = _taken_out(what, ready)
    yield from traps.sprung(what.bait)
    yield from traps.clean(ready.quarantine, came)


def _taken_out(what: _Attack, ready: Ready) -> traps.CameOut:
    """The work, taken out, made a branch whatever the gate says of it, and judged by the gate."""
    try:
        taken = take(ready.quarantine, ready.sandbox, author=AUTHOR, message="The work of the red team")
        if taken.commit is None:
            return traps.CameOut(why="there was no change")
        deliver(ready.quarantine, taken, BRANCH, folder=what.bait.folder)
        violations = judge_changes(ready.quarantine, taken, what.policy)
    except RepoError as error:
        return traps.CameOut(why=str(error))
    return traps.CameOut(taken=taken, refused=frozenset(violation.path for violation in violations))
