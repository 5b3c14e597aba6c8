"""The files of a finished job: what is computed of its transcript, beside it in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.artifacts import files_in, fingerprint, fingerprint_of, write_all_whole
from runner.errors import ConfigError
from runner.report.cost import cost_table
from runner.report.html import render_html
from runner.report.jobs import TRANSCRIPT, read_job
from runner.report.junit import junit
from runner.report.visible import visible_json
from runner.result import Artifact, JobResult
from runner.transcript import AnyEvent

PATCH, COST, JUNIT, REPORT, RESULT = "patch.diff", "cost.json", "junit.xml", "report.html", "result.json"


def write_artifacts(folder: Path, result: JobResult, events: Sequence[AnyEvent], patch: bytes | None) -> JobResult:
    """Write what is computed of a job; returns the result with the list of all artifacts.

    Called last: the transcript is closed, the sandboxes are gone, and every log in `folder` is finished. Each file is
    written whole; result.json comes last, so a folder that has one is complete. A patch of None is left as it lies
    there: it is the one file that the transcript does not hold.

        events = read(folder / TRANSCRIPT)
        result = compute_result(events, transcript_hash=transcript.hash)
        result = write_artifacts(folder, result, events, patch)
    """
    kept = _read_patch(folder) if patch is None else patch
    written = {COST: _json(cost_table(events)), JUNIT: junit(result.task, [result])}
    if kept is not None:
        written = {PATCH: kept, **written}
    others = [path.relative_to(folder).as_posix() for path in files_in(folder)]
    computed = (PATCH, COST, JUNIT, REPORT, RESULT)
    listed = [_artifact_on_disk(folder, path) for path in others if path not in computed]
    listed += [_artifact(path, data) for path, data in written.items()]
    written[REPORT] = render_html(result, events, kept or b"", _sorted(listed)).encode()
    listed.append(_artifact(REPORT, written[REPORT]))
    complete = result.model_copy(update={"artifacts": _sorted(listed)})
    written[RESULT] = _json(complete.model_dump(mode="json"))
    write_all_whole({folder / path: data for path, data in written.items()})
    return complete


def rewrite_artifacts(folder: Path) -> JobResult:
    """Write a job's files again, from its transcript. Raises ConfigError when that has no whole one; OSError."""
    read = read_job(folder / TRANSCRIPT, name=folder.resolve().name)
    if not isinstance(read.row, JobResult):
        raise ConfigError(f"{folder / TRANSCRIPT}: {read.row.problem}: {read.row.reason}")
    return write_artifacts(folder, read.row, read.events, None)


def _read_patch(folder: Path) -> bytes | None:
    path = folder / PATCH
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


def _json(value: object) -> bytes:
    return visible_json(value).encode() + b"\n"


def _sorted(artifacts: list[Artifact]) -> tuple[Artifact, ...]:
    return tuple(sorted(artifacts, key=lambda artifact: artifact.path))


def _artifact(path: str, data: bytes) -> Artifact:
    return Artifact(path=path, **fingerprint_of(data)._asdict())


def _artifact_on_disk(folder: Path, path: str) -> Artifact:
    return Artifact(path=path, **fingerprint(folder / path)._asdict())
