"""Finding a job's or a batch's folder by what people type, and what they have to type to name one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from runner.batch.store import FILE, Store
from runner.errors import ConfigError
from runner.report import RESULT, TRANSCRIPT

RUNS = Path("runs")
"""Where jobs are looked for: `runs/JOB`, and `runs/BATCH/JOB`."""

Kind = Callable[[Path], bool]


def find_job(name: str) -> Path:
    """The folder of a job, by path, by id, by `BATCH/JOB`, or by the beginning of an id.

    Of several, the newest. Raises ConfigError when there is none.
    """
    if found := _find(name, is_job):
        return found
    raise _missing(name, "job", is_job)


def find_batch(name: str) -> Path:
    """The folder of a batch, as `find_job` finds those of jobs. Raises ConfigError when there is none."""
    if found := _find(name, is_batch):
        return found
    raise _missing(name, "batch", is_batch)


def find_either(name: str) -> Path:
    """The folder of the job or batch of that name; of what only begins so, a batch before a job.

    Raises ConfigError when there is neither.
    """
    job, batch = _find(name, is_job), _find(name, is_batch)
    if batch and not (job and job.name == name.rpartition("/")[2]):
        return batch
    if job:
        return job
    raise _missing(name, "job or batch", lambda folder: is_job(folder) or is_batch(folder))


def batches(runs: Path) -> list[Path]:
    """The folders of all batches."""
    return list(filter(is_batch, runs.glob("*")))


def runs_folder(runs: Path) -> Path:
    """The folder of all jobs, made if missing, and hidden from the git repository that it may lie in.

    Raises ConfigError when it cannot be.
    """
    ignore = runs / ".gitignore"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise ConfigError(f"--runs: no job can be written to {runs}: {error.strerror}") from error
    return runs


def is_job(folder: Path) -> bool:
    return (folder / TRANSCRIPT).is_file() or (folder / RESULT).is_file()


def is_batch(folder: Path) -> bool:
    return (folder / FILE).is_file()


def typed(folder: Path) -> str:
    """How a batch or job is named on a command line, from here."""
    return shlex.quote(folder.name if is_in_runs(folder) else str(folder))


def is_in_runs(folder: Path) -> bool:
    return folder.parent.absolute() == RUNS.absolute()


def _find(name: str, wanted: Kind) -> Path | None:
    if not name:
        return None
    if wanted(Path(name)):
        return Path(name)
    above, _, below = name.rpartition("/")
    if above:
        batch = _find(above, is_batch)
        return _newest(batch.glob("*"), below, wanted) if batch else None
    return _newest(_everywhere(), name, wanted)


def _everywhere() -> Iterator[Path]:
    yield from RUNS.glob("*")
    yield from RUNS.glob("*/*")


def _newest(folders: Iterator[Path], name: str, wanted: Kind) -> Path | None:
    """Of the folders with that name the newest, or else of those whose names begin so."""
    begun = [folder for folder in folders if folder.name.startswith(name) and wanted(folder)]
    named = [folder for folder in begun if folder.name == name]
    return max(named or begun, key=_written_at, default=None)


def _written_at(folder: Path) -> float:
    return max(path.stat().st_mtime for name in (TRANSCRIPT, RESULT, FILE) if (path := folder / name).exists())


def _batch_that_plans(job: str) -> Path | None:
    for folder in filter(is_batch, RUNS.glob("*")):
        with Store.open(folder) as store:
            if any(row.planned.id == job for row in store.jobs(whole=False)):
                return folder
    return None


def _missing(name: str, what: str, wanted: Kind) -> ConfigError:
    if batch := _batch_that_plans(name):
        return ConfigError(f"job {name!r} of batch {typed(batch)} has not begun; claw-runner status {typed(batch)}")
    newest = _newest(_everywhere(), "", wanted)
    hint = f"the newest is {newest.name}" if newest else "there are none here"
    return ConfigError(f"{name!r} is no {what} folder, and no {what} in {RUNS}/ begins so; {hint}")
