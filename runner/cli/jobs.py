"""Finding a job's folder by what people type."""

from __future__ import annotations

from pathlib import Path

from runner.errors import ConfigError
from runner.report import RESULT, TRANSCRIPT

RUNS = Path("runs")
"""Where jobs are looked for: `runs/JOB`, and `runs/BATCH/JOB`."""


def find_job(name: str) -> Path:
    """The folder of a job, by path, by id, or by the beginning of an id: then the newest that begins so.

    Raises ConfigError when there is none.
    """
    if _is_job(Path(name)):
        return Path(name)
    jobs = [folder for folder in (*RUNS.glob("*"), *RUNS.glob("*/*")) if _is_job(folder)]
    named = [folder for folder in jobs if folder.name == name]
    begun = [folder for folder in jobs if name and folder.name.startswith(name)]
    if found := named or begun:
        return max(found, key=_written_at)
    raise ConfigError(f"{name!r} is no job folder, and no job in {RUNS}/ begins so{_hint(jobs)}")


def _is_job(folder: Path) -> bool:
    return (folder / TRANSCRIPT).is_file() or (folder / RESULT).is_file()


def _written_at(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder / TRANSCRIPT, folder / RESULT) if path.exists())


def _hint(jobs: list[Path]) -> str:
    if not jobs:
        return "; there are none here"
    return f"; the newest is {max(jobs, key=_written_at).name}"
