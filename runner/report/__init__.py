"""What a finished job leaves: result.json, report.html, patch.diff, cost.json; and the summary on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.artifacts import files_in, fingerprint, fingerprint_of, write_all_whole
from runner.report.cost import cost_table
from runner.report.html import render_html
from runner.report.text import print_summary, summary
from runner.report.visible import visible_json
from runner.result import Artifact, JobResult
from runner.transcript import AnyEvent

__all__ = [
    "COST",
    "PATCH",
    "REPORT",
    "RESULT",
    "TRANSCRIPT",
    "print_summary",
    "render_html",
    "summary",
    "write_artifacts",
]

TRANSCRIPT, PATCH, COST, REPORT, RESULT = "transcript.jsonl", "patch.diff", "cost.json", "report.html", "result.json"


def write_artifacts(folder: Path, result: JobResult, events: Sequence[AnyEvent], patch: bytes) -> JobResult:
    """Write what is computed of a job; returns the result with the list of all artifacts.

    Called last: the transcript is closed, the sandboxes are gone, and every log in `folder` is finished. Each file is
    written whole; result.json comes last, so a folder that has one is complete.

        events = read(folder / TRANSCRIPT)
        result = compute_result(events, transcript_hash=transcript.hash)
        result = write_artifacts(folder, result, events, patch)
    """
    written = {PATCH: patch, COST: _json(cost_table(events))}
    others = [path.relative_to(folder).as_posix() for path in files_in(folder)]
    listed = [_artifact_on_disk(folder, path) for path in others if path not in (PATCH, COST, REPORT, RESULT)]
    listed += [_artifact(path, data) for path, data in written.items()]
    written[REPORT] = render_html(result, events, patch, _sorted(listed)).encode()
    listed.append(_artifact(REPORT, written[REPORT]))
    complete = result.model_copy(update={"artifacts": _sorted(listed)})
    written[RESULT] = _json(complete.model_dump(mode="json"))
    write_all_whole({folder / path: data for path, data in written.items()})
    return complete


def _json(value: object) -> bytes:
    return visible_json(value).encode() + b"\n"


def _sorted(artifacts: list[Artifact]) -> tuple[Artifact, ...]:
    return tuple(sorted(artifacts, key=lambda artifact: artifact.path))


def _artifact(path: str, data: bytes) -> Artifact:
    return Artifact(path=path, **fingerprint_of(data)._asdict())


def _artifact_on_disk(folder: Path, path: str) -> Artifact:
    return Artifact(path=path, **fingerprint(folder / path)._asdict())
