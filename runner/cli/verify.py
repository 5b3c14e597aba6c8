"""`claw-runner verify JOB`: is everything in a job's folder as it was written?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

import typer
from pydantic import ValidationError

from runner.artifacts import files_in, fingerprint
from runner.cli.jobs import find_job
from runner.cli.show import read_result
from runner.errors import ConfigError
from runner.report import RESULT, TRANSCRIPT
from runner.report.units import plural
from runner.report.visible import one_line
from runner.result import Artifact, JobResult, compute_result
from runner.transcript import JobEnded, JobStarted, Reader, TranscriptError, first_problem

DIFFERS = 1
"""Exit code when something is not as it was written."""


class Finding(NamedTuple):
    file: str
    problem: Literal["missing", "changed", "damaged", "unfinished", "contradicts"]
    what: str


def verify(
    job: Annotated[str, typer.Argument(metavar="JOB", help="folder of a job, its id, or the beginning of its id")],
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON and nothing else")] = False,
) -> int:
    """Check the transcript's hash chain, the hash of every file, and that result.json says what the transcript says.

    Exit code 0: all as it was written. 1: something differs, and it is said what. 2: there is no such job.
    """
    folder = find_job(job)
    findings, not_listed = _check(folder)
    if as_json:
        found = [finding._asdict() for finding in findings]
        report = {"job": folder.name, "intact": not findings, "findings": found, "not_listed": not_listed}
        print(json.dumps(report, indent=2))
    else:
        _print(folder.name, findings, not_listed)
    return DIFFERS if findings else 0


def _check(folder: Path) -> tuple[list[Finding], list[str]]:
    """What is wrong, and the files that the result does not list (which is no fault)."""
    computed, findings = _from_transcript(folder)
    result, more = _from_result(folder)
    findings += more
    if result is None:
        return findings, []
    for artifact in result.artifacts:
        findings += _compare(folder, artifact)
    if computed is not None:
        findings += _contradictions(result, computed)
    listed = {artifact.path for artifact in result.artifacts} | {RESULT}
    present = [path.relative_to(folder).as_posix() for path in files_in(folder)]
    return findings, [path for path in present if path not in listed]


def _from_transcript(folder: Path) -> tuple[JobResult | None, list[Finding]]:
    """The result as the transcript has it, or what is wrong with the transcript."""
    reader = Reader(folder / TRANSCRIPT)
    try:
        events = tuple(reader)
    except TranscriptError as error:
        return None, [Finding(TRANSCRIPT, "damaged", str(error))]
    except FileNotFoundError:
        return None, [Finding(TRANSCRIPT, "missing", "it is not there")]
    if reader.torn_bytes:
        what = f"line {len(events) + 1} was cut short after {plural(reader.torn_bytes, 'byte')}"
        return None, [Finding(TRANSCRIPT, "unfinished", what)]
    if not (events and isinstance(events[0], JobStarted) and isinstance(events[-1], JobEnded)):
        what = f"it ends after line {len(events)}, before the job did"
        return None, [Finding(TRANSCRIPT, "unfinished", what)]
    try:
        return compute_result(events, transcript_hash=reader.hash), []
    except ValidationError as error:
        return None, [Finding(TRANSCRIPT, "damaged", f"no result can be computed of it: {first_problem(error)}")]


def _from_result(folder: Path) -> tuple[JobResult | None, list[Finding]]:
    if not (folder / RESULT).is_file():
        return None, [Finding(RESULT, "missing", "the job is still running, or was ended by force")]
    try:
        return read_result(folder), []
    except ConfigError as error:
        return None, [Finding(RESULT, "damaged", str(error))]


def _compare(folder: Path, artifact: Artifact) -> list[Finding]:
    name = PurePosixPath(artifact.path)
    if name.is_absolute() or ".." in name.parts or _leads_away(folder, name):
        return [Finding(artifact.path, "changed", "the path leads out of the folder")]
    try:
        found = fingerprint(folder / name)
    except FileNotFoundError:
        return [Finding(artifact.path, "missing", "it is not there")]
    except OSError as error:
        return [Finding(artifact.path, "changed", f"it cannot be read: {error.strerror}")]
    if found.bytes != artifact.bytes:
        return [Finding(artifact.path, "changed", f"{found.bytes:,} bytes, were {artifact.bytes:,}")]
    if found.sha256 != artifact.sha256:
        return [Finding(artifact.path, "changed", f"SHA-256 is {found.sha256}, was {artifact.sha256}")]
    return []


def _leads_away(folder: Path, name: PurePosixPath) -> bool:
    """Whether a link stands anywhere on the way."""
    return any((folder / part).is_symlink() for part in (name, *name.parents[:-1]))


def _contradictions(result: JobResult, computed: JobResult) -> Iterator[Finding]:
    """What result.json says and its transcript does not. A field that its writer did not know yet is left out."""
    for name in result.model_fields_set - {"artifacts"}:
        for field, said, known in _unequal(name, getattr(result, name), getattr(computed, name)):
            yield Finding(RESULT, "contradicts", f"{field}: says {_short(said)}, the transcript says {_short(known)}")


def _unequal(name: str, said: Any, known: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(said, dict) and isinstance(known, dict):
        for key in sorted(said.keys() | known.keys()):
            yield from _unequal(f"{name}.{key}", said.get(key), known.get(key))
    elif said != known:
        yield name, said, known


def _short(value: object, chars: int = 100) -> str:
    text = one_line(str(value))
    return text if len(text) <= chars else f"{text[:chars]}…"


def _print(job: str, findings: list[Finding], not_listed: list[str]) -> None:
    for finding in findings:
        print(f"{finding.problem:<12} {one_line(finding.file)}: {one_line(finding.what)}")
    for path in not_listed:
        print(f"{'not listed':<12} {one_line(path)}: the result does not vouch for it")
    end = f"{plural(len(findings), 'difference')} found" if findings else "all as it was written"
    print(f"{one_line(job)}: {end}")
