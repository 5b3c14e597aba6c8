"""Runs the checks of a job: on base, on the work with all that steers them as base has it, and on the work as left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from runner.checks.evidence import Evidence, against, evidence, is_suspicious, watch
from runner.errors import ChecksDisproved, ChecksError, SandboxError
from runner.preparation import Prepared, Site, prepared
from runner.repo import Taken, restore_protected
from runner.repo.protect import Steered, changed_steering
from runner.repo.steering import NEW_TEST
from runner.result.evidence import check_passed
from runner.transcript import CheckRan

Kind = Literal["run", "fail_to_pass", "pass_to_pass"]
On = Literal["base", "work", "as_left"]
SHOWN_CHARS = 8000
"""Of a failed check's output, from its end, that the agent gets to see."""


class Asked(NamedTuple):
    """One command of the task."""

    kind: Kind
    command: str
    number: int
    """In the names of logs, from 1."""


class Ran(NamedTuple):
    """A command that was run, not recorded yet."""

    check: CheckRan
    evidence: Evidence | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Proven:
    """What the checks did on base, before the agent's work."""

    ran: Mapping[str, Ran] = field(default_factory=dict)
    """By command."""


NOTHING_PROVEN = Proven()


def prove_on_base(site: Site) -> Proven:
    """Run `checks.fail_to_pass` and `checks.pass_to_pass` on base, recorded; nothing when the task has none.

    Raises ChecksError, naming the command, for one that passes there already, or fails there already.
    """
    asked = [one for one in _asked(site) if one.kind != "run"]
    if not asked:
        return NOTHING_PROVEN
    ran = _run(site, asked, None, on="base", round=0)
    for one in ran:
        site.record(one.check)
    for one in ran:
        _prove(one.check)
    return Proven(ran=_by_command(ran))


def run_checks(site: Site, taken: Taken, round: int, *, proven: Proven = NOTHING_PROVEN) -> list[CheckRan]:
    """Every check on the work that was taken, recorded: as base would have it judged, and as it was left.

    A command has passed when all of its runs in the list have. Where something was found to have interfered with one,
    its run on "work" says so (`tampered`). Raises ChecksError when they gave no verdict.
    """
    checks, asked = site.job.task.value.checks, _asked(site)
    commands = (*site.job.task.value.setup, *(one.command for one in asked))
    steered = changed_steering(site.quarantine, taken, commands, trust=checks.trust)
    commit = restore_protected(site.quarantine, taken, checks.protect, steered=steered)
    work = _run(site, asked, commit, on="work", round=round)
    left: list[Ran] = []
    if steered:
        commit = restore_protected(site.quarantine, taken, checks.protect)
        both = zip(work, _run(site, asked, commit, on="as_left", round=round), strict=True)
        work, left = _held_together(both, steered)
    if all(check_passed(one.check) for one in (*work, *left)):
        work = _looked_at_closely(site, asked, work, proven, round)
    ran = [one.check for one in (*work, *left)]
    for check in ran:
        site.record(check)
    return ran


def feedback(failed: Sequence[CheckRan]) -> str:
    """What the agent is told about failed checks."""
    parts = ["Your work was checked in a fresh container, and it failed:"]
    for check in failed:
        ended = "ended by a signal" if check.exit_code is None else f"exit code {check.exit_code}"
        how = "timed out" if check.timed_out else ended
        where = "with your own versions of the tests" if check.on == "as_left" else ""
        parts.append(f"$ {check.command}   ({', '.join(filter(None, (how, where)))})\n{check.output[-SHOWN_CHARS:]}")
    parts.append(
        "Tests that were there at the start, and what configures them, judge as they were then; and they have to pass "
        "as you left them, too. Find the cause and mend it."
    )
    return "\n\n".join(parts)


# --- the commands, in a container


def _asked(site: Site) -> list[Asked]:
    checks = site.job.task.value.checks
    listed = [(kind, command) for kind in get_args(Kind) for command in getattr(checks, kind)]
    return [Asked(kind, command, number) for number, (kind, command) in enumerate(listed, 1)]


def _run(site: Site, asked: Sequence[Asked], commit: str | None, *, on: On, round: int) -> list[Ran]:
    """The commands one after the other in a fresh container with `commit`, base when it is None."""
    with _no_verdict(), prepared(site, "checks", commit=commit) as ready:
        ready.gateway.phase = "checks"
        shown = ready.sandbox.exec('printf %s "${PYTHONPATH-}"')
        python_path = shown.output.decode(errors="replace")
        return [_run_one(site, ready, one, on=on, round=round, python_path=python_path) for one in asked]


@contextmanager
def _no_verdict() -> Iterator[None]:
    try:
        yield
    except (SandboxError, OSError) as error:
        raise ChecksError(f"the checks gave no verdict: {error}") from error


def _run_one(site: Site, ready: Prepared, asked: Asked, *, on: On, round: int, python_path: str) -> Ran:
    watched = watch(ready.sandbox, asked.command, python_path=python_path)
    done = ready.sandbox.exec(
        watched.command,
        variables=watched.variables,
        seconds=site.job.task.value.checks.seconds,
        log=f"logs/check-{round}-{asked.number}{'' if on == 'work' else f'-{on}'}.log",
    )
    check = CheckRan(
        round=round,
        command=asked.command,
        exit_code=done.exit_code,
        timed_out=done.timed_out,
        seconds=done.seconds,
        output=done.output.decode(errors="replace"),
        log=done.log,
        kind=asked.kind,
        on=on,
    )
    return Ran(check, evidence(ready.sandbox, watched))


# --- what they prove


def _prove(check: CheckRan) -> None:
    succeeded = check.exit_code == 0 and not check.timed_out
    if check.kind == "fail_to_pass" and succeeded:
        raise ChecksDisproved(f"fail_to_pass {check.command!r} passes on base already, so it would prove nothing")
    if check.kind == "pass_to_pass" and not succeeded:
        how = "times out" if check.timed_out else f"fails (exit code {check.exit_code})"
        raise ChecksDisproved(
            f"pass_to_pass {check.command!r} {how} on base already, so the work could not keep it passing"
        )


def _by_command(ran: Iterable[Ran]) -> dict[str, Ran]:
    return {one.check.command: one for one in ran}


def _held_together(both: Iterable[tuple[Ran, Ran]], steered: Sequence[Steered]) -> tuple[list[Ran], list[Ran]]:
    """What counts as the runs on the work, and as those on it as it was left."""
    work: list[Ran] = []
    left: list[Ran] = []
    for without, with_it in both:
        if _nothing_to_steer(without, steered):
            work.append(Ran(with_it.check.model_copy(update={"on": "work"}), with_it.evidence))
            continue
        steers = check_passed(with_it.check) and not check_passed(without.check)
        work.append(_tampered(without, _needs(steered)) if steers else without)
        left.append(with_it)
    return work, left


def _nothing_to_steer(without: Ran, steered: Sequence[Steered]) -> bool:
    """Whether without the work's own tests there is nothing that could be judged: it was to write the first ones."""
    if without.evidence is not None:
        return without.evidence.empty
    return not check_passed(without.check) and all(one.why == NEW_TEST for one in steered)


def _needs(steered: Sequence[Steered]) -> str:
    paths = [one.change.path for one in steered]
    which, them = (steered[0].why, "it") if len(paths) == 1 else ("which steer the checks", "them")
    return f"passes only with the work's own {_listed(paths)}, {which}; list {them} under checks.trust to accept that"


def _looked_at_closely(
    site: Site, asked: Sequence[Asked], work: Sequence[Ran], proven: Proven, round: int
) -> list[Ran]:
    """The passed commands, held against what pytest did in them, and in the same command on base where that matters."""
    unknown = [
        one
        for one, ran in zip(asked, work, strict=True)
        if ran.evidence and ran.evidence.ended and is_suspicious(ran.evidence) and one.command not in proven.ran
    ]
    on_base = _run(site, unknown, None, on="base", round=round) if unknown else []
    for one in on_base:
        site.record(one.check)
    base = {**proven.ran, **_by_command(on_base)}
    return [_judged(one, base.get(one.check.command)) for one in work]


def _judged(ran: Ran, base: Ran | None) -> Ran:
    """A passed command after the closer look. Raises ChecksError for one that could not have said anything else."""
    found, before = ran.evidence, base.evidence if base else None
    if why := against(found, before):
        return _tampered(ran, why)
    if found is None or not (found.idle or found.failed):
        return ran
    if found.idle and not found.failed:
        if before and before.idle:
            raise ChecksDisproved(
                f"the checks gave no verdict: {ran.check.command!r} runs no test, nor does it on base"
            )
        return _tampered(ran, "exit code 0, but pytest ran no test")
    return _judged_though_failed(ran, base)


def _judged_though_failed(ran: Ran, base: Ran | None) -> Ran:
    """Exit code 0 although a pytest in it failed: by the command's own making, or that of the work."""
    told = base is not None and not check_passed(base.check)
    if told and base is not None and base.evidence and base.evidence.failed:
        return _tampered(ran, "exit code 0, but pytest failed; on base the command says so")
    if told:
        return ran  # the command turns it round
    raise ChecksDisproved(
        f"the checks gave no verdict: {ran.check.command!r} has exit code 0 although pytest fails in it; "
        "let the command end with pytest's own"
    )


def _tampered(ran: Ran, why: str) -> Ran:
    return ran._replace(check=ran.check.model_copy(update={"tampered": why}))


def _listed(paths: Sequence[str], most: int = 3) -> str:
    names = [path.encode(errors="surrogateescape").decode(errors="replace") for path in paths]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
