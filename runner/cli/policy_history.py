"""`claw-runner policy replay | learn`: past jobs judged by another policy, and a policy out of past jobs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from runner.cli.inputs import policy_file
from runner.cli.policy_import import write_policy
from runner.errors import EXIT_CODES, ConfigError
from runner.policy import Policy, Verdict, load_policy
from runner.policy.history import History, history, redecide, rejudge
from runner.policy.learn import Learned
from runner.policy.learn import learn as learned_from
from runner.policy.writing import plain, policy_text
from runner.report import TRANSCRIPT
from runner.report.units import plural
from runner.report.visible import visible_json
from runner.transcript import Reader, TranscriptError

Runs = Annotated[list[Path], typer.Argument(metavar="RUNS...", help="folders of jobs, folders of such, or transcripts")]
VERDICTS: tuple[Verdict, ...] = ("allow", "ask", "deny")


class _Read(NamedTuple):
    """What transcripts say, and which could not be read."""

    histories: tuple[History, ...]
    damaged: tuple[str, ...]


# --- replay


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A call, or a connection, that would be decided otherwise."""

    job: str
    turn: int | None
    """None for a connection."""
    call: str
    was: Verdict
    """The policy's word of that time."""
    allowed: bool
    """Whether it was done then, which a person may have allowed."""
    now: Verdict
    rule: str | None
    where: str | None
    reason: str


def replay(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="a policy file, or the name of one that comes along")],
    runs: Runs,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, and nothing else")] = False,
) -> int:
    """Judge what past jobs did by another policy: nothing is run.

    Exit code 12 when something that was allowed would be denied, 0 otherwise; 2 when a transcript could not be read.
    """
    rules = load_policy(policy_file(policy)).value
    read = _transcripts(runs)
    counts: Counter[Verdict] = Counter()
    differences = [found for one in read.histories for found in _judged_again(rules, one, counts)]
    if as_json:
        print(visible_json(_as_json(read, counts, differences)))
    else:
        print("\n".join(_as_text(read, counts, differences)))
    _name_damaged(read)
    if read.damaged:
        return EXIT_CODES["config_error"]
    return EXIT_CODES["denied"] if any(item.allowed and item.now == "deny" for item in differences) else 0


def _judged_again(policy: Policy, past: History, counts: Counter[Verdict]) -> Iterator[Difference]:
    for call in past.calls:
        decision = redecide(policy, call)
        counts[decision.verdict] += 1
        if decision.verdict != call.verdict:
            yield Difference(
                job=call.job,
                turn=call.turn,
                call=call.text,
                was=call.verdict,
                allowed=call.allowed,
                now=decision.verdict,
                rule=decision.rule,
                where=decision.where,
                reason=decision.reason,
            )
    for connection in past.connections:
        judged = rejudge(policy, connection)
        counts["allow" if judged.allowed else "deny"] += 1
        if judged.allowed != connection.allowed:
            yield Difference(
                job=connection.job,
                turn=None,
                call=f"connection to {connection.host}:{connection.port} ({connection.phase})",
                was="allow" if connection.allowed else "deny",
                allowed=connection.allowed,
                now="allow" if judged.allowed else "deny",
                rule=judged.rule,
                where=None,
                reason=judged.reason,
            )


def _as_json(read: _Read, counts: Counter[Verdict], differences: list[Difference]) -> dict[str, Any]:
    names = ("job", "turn", "call", "was", "allowed", "now", "rule", "where", "reason")
    return {
        "jobs": len(read.histories),
        "calls": counts.total(),
        "counts": {verdict: counts[verdict] for verdict in VERDICTS},
        "different": [{name: getattr(item, name) for name in names} for item in differences],
        "damaged": list(read.damaged),
    }


def _as_text(read: _Read, counts: Counter[Verdict], differences: list[Difference]) -> Iterator[str]:
    verdicts = ", ".join(f"{verdict} {counts[verdict]}" for verdict in VERDICTS)
    yield f"{plural(len(read.histories), 'job')}, {plural(counts.total(), 'call')}: {verdicts}"
    if not differences:
        yield "every one would be decided as it was"
        return
    denied = sum(item.allowed and item.now == "deny" for item in differences)
    yield f"{plural(len(differences), 'call')} would be decided otherwise; {denied} of what was allowed would be denied"
    for item in differences:
        turn = f" turn {item.turn}" if item.turn is not None else ""
        why = f"{item.rule} ({item.where})" if item.rule and item.where else _cut(item.reason)
        yield f"{item.was} -> {item.now}  {plain(f'{item.job}{turn}: {_cut(item.call)}: {why}')}"


def _cut(text: str, chars: int = 160) -> str:
    return text if len(text) <= chars else f"{text[:chars]}…"


# --- learn


def learn(
    runs: Runs,
    include_denied: Annotated[
        bool, typer.Option("--include-denied", help="allow also what was denied at that time")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="where the policy goes, instead of stdout")] = None,
) -> int:
    """Print a whitelist with few rules under which these jobs could do again what they did.

    It says how often each rule was needed, and marks those that allow more than meets the eye as risky. Exit code 2
    when a transcript could not be read.
    """
    read = _transcripts(runs)
    found = learned_from(read.histories, include_denied=include_denied)
    text = policy_text(replace(found.policy, head=tuple(_head(read, found))))
    _name_damaged(read)
    if out is None:
        sys.stdout.write(text)
    else:
        write_policy(out, text)
    return EXIT_CODES["config_error"] if read.damaged else 0


def _head(read: _Read, found: Learned) -> Iterator[str]:
    yield f"learned from {plural(found.calls, 'call')} of {plural(len(read.histories), 'job')}"
    yield "a person should look at what is marked risky: it allows more than was done"
    if found.missing:
        yield "no rule can be written for these, so they would be denied:"
        yield from (_cut(f"{call.tool}({call.subject})") for call in found.missing)


# --- transcripts


def _transcripts(runs: list[Path]) -> _Read:
    """Raises ConfigError where there are none."""
    histories, damaged = [], []
    for path in dict.fromkeys(found for folder in runs for found in _found(folder)):
        try:
            histories.append(history(path.absolute().parent.name, Reader(path)))
        except TranscriptError as error:
            damaged.append(str(error))
        except OSError as error:
            damaged.append(f"{path}: cannot be read: {error.strerror}")
    return _Read(tuple(histories), tuple(damaged))


def _found(runs: Path) -> list[Path]:
    """A transcript, that of a job's folder, or those of all jobs in `RUNS/JOB` and `RUNS/BATCH/JOB`."""
    if runs.is_file():
        return [runs]
    if (runs / TRANSCRIPT).is_file():
        return [runs / TRANSCRIPT]
    found = sorted((*runs.glob(f"*/{TRANSCRIPT}"), *runs.glob(f"*/*/{TRANSCRIPT}")))
    if not found:
        raise ConfigError(f"{runs}: there is no {TRANSCRIPT} in it; name a folder of jobs, such as runs/")
    return found


def _name_damaged(read: _Read) -> None:
    for what in read.damaged:
        print(plain(f"claw-runner: left out: {what}"), file=sys.stderr)
