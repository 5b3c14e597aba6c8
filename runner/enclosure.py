"""What a job's commands are held to: their container, the files they are given, the kernel's rules, the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from runner.egress import Gateway, Meter, ca_variables, install_ca
from runner.errors import ControlNotEnforced
from runner.policy import Policy
from runner.policy.contain import Containment, containment, kept, unreadable
from runner.sandbox.base import Sandbox, SandboxConfig
from runner.sandbox.container import ContainerEngine
from runner.transcript import AnyEvent, Contained


@contextmanager
def enclosed(
    engine: ContainerEngine,
    config: SandboxConfig,
    policy: Policy,
    *,
    record: Callable[[AnyEvent], None],
    meter: Meter,
    secrets: Mapping[str, str],
    authorities: bytes | None,
) -> Iterator[tuple[Sandbox, Gateway]]:
    """A sandbox whose commands reach what `egress` lets them, in the phase that the gateway is set to: first setup.

    `secrets` are variables of all its commands; `authorities` is the PEM file that they are to trust (`egress.ca`).
    """
    variables = dict(config.variables) | dict(secrets) | (ca_variables() if authorities else {})
    gateway = Gateway(policy.egress, record, meter=meter)
    try:
        opened = replace(config, variables=variables, on_tunnel=gateway, mask=(*config.mask, *secrets.values()))
        with engine.open_sandbox(opened) as sandbox:
            if authorities:
                install_ca(sandbox, authorities)
            yield sandbox, gateway
    finally:
        gateway.close()


def contain(
    sandbox: Sandbox, policy: Policy, *, tracked: Sequence[str], left: Iterable[str], outside: Sequence[str] = ()
) -> Contained:
    """Hold the agent's commands to the policy's path rules, from now on; to be done once, before the first of them.

    `tracked` and `left` are the files that the repository has inside and that setup has made, `outside` those that were
    not brought in, all from the repository's root. Raises ControlNotEnforced when the kernel cannot hold what the
    policy asks for and `container.best_effort` does not let it be, or a file cannot be given to another user inside.
    """
    plan = containment(policy)
    made = frozenset(left)
    secret, fixed = to_keep(policy, tracked=tracked, left=made, outside=outside)
    keep(sandbox, unreadable=secret, unwritable=fixed)
    return Contained(
        landlock=_confined(sandbox, plan, policy),
        writable=plan.writable,
        hidden=tuple(outside),
        kept=(*fixed, *(path for path in secret if path in made)),
        uncontained=tuple(f"{gap.rule}: {gap.why}" for gap in plan.uncontained),
    )


def to_keep(
    policy: Policy, *, tracked: Iterable[str], left: Iterable[str], outside: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What of these (see `contain`) must change hands: what commands must not read, and what they must not write."""
    made = frozenset(left)
    # Setup may have made again what was not brought in.
    return unreadable(policy, sorted({*made, *outside})), kept(policy, sorted({*tracked, *made}))


def keep(sandbox: Sandbox, *, unreadable: Sequence[str], unwritable: Sequence[str]) -> None:
    """Give these files away, if there are any; to be asked for again changes nothing. Raises ControlNotEnforced."""
    if not unreadable and not unwritable:
        return
    try:
        sandbox.keep(unreadable=unreadable, unwritable=unwritable)
    except OSError as error:
        raise ControlNotEnforced(
            f"{error.filename or 'a file'} cannot be kept from commands inside: {error.strerror or error}"
        ) from error


def _confined(sandbox: Sandbox, plan: Containment, policy: Policy) -> bool:
    """Whether the kernel took the grants. Raises ControlNotEnforced where that matters to the policy."""
    try:
        sandbox.confine(plan.grants)
    except ControlNotEnforced:
        if plan.restricts and "landlock" not in policy.container.best_effort:
            raise
        return False
    return True


def confinement_in_words(held: Contained) -> str:
    """What a model is told when the kernel refuses one of its commands; "" where commands may change everything."""
    if not held.landlock or (held.writable == (".",) and not held.kept):
        return ""
    where = ", ".join(held.writable) or "nothing"
    kept = f", but not {', '.join(held.kept[:20])}" if held.kept else ""
    return f"Of the repository, commands may change {'all' if held.writable == ('.',) else where}{kept}."
