"""Rows and a template into jobs: each one named, checked and ready to be stored, before anything costs money."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from runner.batch.base import Planned
from runner.batch.sources import BadRow, Found, Row, Selection, Skipped, select
from runner.batch.sources.folder import mistakes
from runner.config import Loaded, load
from runner.document.words import KeyPath, shown
from runner.errors import ConfigError
from runner.models import price_of
from runner.report.units import plural
from runner.task import Task, filled, texts
from runner.template import slug

MAX_VARIATIONS = 1_000
MAX_ID_CHARS = 100
_HASH_CHARS = 8
_EVERYTHING = Selection()


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a batch will do."""

    jobs: tuple[Planned, ...]
    bad: tuple[BadRow, ...]
    """Rows that no job can be made of."""
    notes: tuple[str, ...]
    """What was left out, and what a person should know before it runs."""


def plan(
    found: Iterable[Found],
    template: Loaded[Task] | None,
    *,
    vary: Sequence[str] = (),
    overrides: Mapping[str, str] = MappingProxyType({}),
    selection: Selection = _EVERYTHING,
) -> Plan:
    """A job for each selected row of a source and each variation of the task.

    `template` is the task for rows that are none themselves, `overrides` the keys that replace those of its file (they
    are in it already), `vary` what `--vary` says: `model=a,b`. Raises ConfigError for what is wrong with all of it: the
    template, a variation, the source.
    """
    variations = _matrix(vary)
    variants = _variants(template, overrides, variations) if template else ()
    planning = _Planning()
    for one in select(found, selection):
        match one:
            case BadRow():
                planning.bad.append(one)
            case Skipped():
                planning.left_out[one.why] += 1
            case Row(task_file=None):
                if not template:
                    raise ConfigError(f"{one.place}: is no task file; say what to do with it: --task TEMPLATE.yaml")
                planning.take(one, variants, overrides)
            case Row(task_file=Path() as file):
                if template:
                    raise ConfigError(f"{one.place}: is a task of its own; leave --task out, or give a list of issues")
                planning.take_task(one, file, variations, overrides)
    return planning.done()


def rebuild(planned: Planned) -> Loaded[Task]:
    """The task of a job that was stored, its templates not yet rendered."""

    def where(path: KeyPath) -> str:
        return planned.task_file

    task = Task.model_validate(planned.task)
    return Loaded(value=task, path=Path(planned.task_file), sha256=planned.task_sha256, where=where)


def require_prices(models: Iterable[str]) -> None:
    """Raises ConfigError when a cap on the cost of jobs that ask these could not be kept."""
    for model in models:
        if _has_no_price(model):
            raise ConfigError(
                f"--cost-usd: cannot be kept, because the price of {model} is unknown; leave it out, or name another "
                "model"
            )


def worst_case_usd(task: Task) -> Decimal | None:
    """The most that a job can cost; None when nothing bounds it.

    Turns bound nothing: how much each of them may cost grows with all that the agent has read.
    """
    if task.model.startswith("replay:"):
        return Decimal(0)
    return None if task.limits.cost_usd is None else Decimal(str(task.limits.cost_usd))


# --- Variations


class _Variation(NamedTuple):
    """One cell of the matrix; the only one, when nothing varies, is empty."""

    name: str
    """The end of its jobs' ids."""
    text: str
    """For people: `model=a, limits.turns=10`."""
    overrides: Mapping[str, str]


class _Variant(NamedTuple):
    variation: _Variation
    task: Loaded[Task]
    dumped: dict[str, Any]
    """The task as it is stored, the same for all rows."""


def _matrix(vary: Sequence[str]) -> tuple[_Variation, ...]:
    choices: dict[str, list[str]] = {}
    for text in vary:
        key, equals, values = text.partition("=")
        if not equals or not re.fullmatch(r"\w+(?:\.\w+)*", key):
            raise ConfigError(f"--vary: must be a key of the task and its values, as in model=a,b (got {shown(text)})")
        if key in choices:
            raise ConfigError(f"--vary {key}: is there twice; give all values at once: {key}=a,b")
        choices[key] = values.split(",")
        if any(not value.strip() or choices[key].count(value) > 1 for value in choices[key]):
            raise ConfigError(f"--vary {key}: a value is empty or there twice (got {shown(values)})")
    if (count := prod(map(len, choices.values()))) > MAX_VARIATIONS:
        raise ConfigError(f"--vary: that makes {count:,} variations of each row; {MAX_VARIATIONS:,} are allowed")
    return tuple(_variation(dict(zip(choices, values, strict=True))) for values in product(*choices.values()))


def _variation(overrides: dict[str, str]) -> _Variation:
    name = "-".join(_part(key, value) for key, value in overrides.items())
    return _Variation(name, ", ".join(f"{key}={value}" for key, value in overrides.items()), overrides)


def _part(key: str, value: str) -> str:
    """`claude-sonnet-4-6` for a model, `turns-10` for anything else."""
    if key == "model":
        return slug(value.rpartition(":")[2])
    return slug(f"{key.rpartition('.')[2]}-{value}")


def _variants(
    template: Loaded[Task], overrides: Mapping[str, str], variations: Sequence[_Variation]
) -> tuple[_Variant, ...]:
    """Raises ConfigError, by `--vary`, for a key that no task has or a value that it cannot have."""
    found: list[_Variant] = []
    for variation in variations:
        task = template
        if variation.overrides:
            try:
                task = load(template.path, Task, overrides={**overrides, **variation.overrides})
            except ConfigError as error:
                raise ConfigError(_by_vary(str(error), variation)) from None
        _require_price(task)
        found.append(_Variant(variation, task, task.value.model_dump(mode="json")))
    return tuple(found)


def _require_price(task: Loaded[Task]) -> None:
    """Raises ConfigError for a limit that each job would be refused for when its turn comes."""
    if task.value.limits.cost_usd is not None and _has_no_price(task.value.model):
        raise ConfigError(
            f"{task.where(('limits', 'cost_usd'))}: limits.cost_usd: cannot be kept, because the price of "
            f"{task.value.model} is unknown; leave it out, or name another model"
        )


def _has_no_price(model: str) -> bool:
    provider, _, id = model.partition(":")
    return provider == "anthropic" and price_of(id) is None


def _by_vary(text: str, variation: _Variation) -> str:
    for key in variation.overrides:
        text = re.sub(rf"^--{re.escape(key)}(?=[:.])", f"--vary {key}", text, flags=re.MULTILINE)
    return text


# --- Jobs


class _Planning:
    """Jobs, as they are made one after the other."""

    def __init__(self) -> None:
        self.jobs: list[Planned] = []
        self.bad: list[BadRow] = []
        self.left_out: Counter[str] = Counter()
        self._notes: list[str] = []
        self._ids: set[str] = set()
        self._places: dict[str, str] = {}
        self._branches: dict[str, str] = {}
        self._beside: dict[str, str] = {}
        """Branches, and what lies above them, to the branch that one of our jobs would make."""

    def take_task(self, row: Row, file: Path, variations: Sequence[_Variation], overrides: Mapping[str, str]) -> None:
        """The jobs of a row that is a task file."""
        try:
            variants = _variants(load(file, Task, overrides=overrides), overrides, variations)
        except ConfigError as error:
            self.bad += mistakes(file, error)
        else:
            self.take(row, variants, overrides)

    def take(self, row: Row, variants: Sequence[_Variant], overrides: Mapping[str, str]) -> None:
        """The jobs of a row; or, when one of them could not be done, none of them."""
        try:
            jobs = [self._job(row, variant, overrides) for variant in variants]
        except ConfigError as error:
            self.bad += mistakes(row.task_file, error) if row.task_file else [BadRow(row.place, str(error))]
            return
        for job in jobs:
            if first := self._places.get(job.key):
                self._notes.append(f"{job.source}: is the same as {first}, and done once")
                continue
            self._places[job.key] = job.source
            self.jobs.append(job)

    def _job(self, row: Row, variant: _Variant, overrides: Mapping[str, str]) -> Planned:
        """Raises ConfigError when a template does not render, or gives what cannot be."""
        task, variation = variant.task, variant.variation
        key = _key(task, overrides, variation, row.values)
        id = self._id(task.value.name, row.key, variation.name, key)
        ready = filled(task, id, row.values)
        branch = texts(ready, id, row.values).branch
        if mistake := _branch_mistake(branch):
            where = task.where(("output", "branch"))
            raise ConfigError(f"{where}: output.branch: {mistake} (got {shown(branch)}); use the filter slug")
        self._branches[id] = f"{ready.value.repo.url}\n{branch}"
        if other := self._in_the_way(ready.value.repo.url, branch):
            where = task.where(("output", "branch"))
            raise ConfigError(
                f"{where}: output.branch: {branch!r} cannot be made beside {other!r}, the branch of an earlier job; "
                "use the filter slug"
            )
        title = row.title or task.value.name
        return Planned(
            id=id,
            key=key,
            title=f"{title} ({variation.text})" if variation.text else title,
            source=row.place,
            task_file=str(task.path.absolute()),
            task_sha256=task.sha256,
            task=variant.dumped,
            values=row.values,
            notes=row.notes,
        )

    def _in_the_way(self, url: str, branch: str) -> str:
        """The branch of an earlier job that leaves no place for this one: git has no `a/b` where there is an `a`."""
        above = [url + "\n" + branch[:at] for at, letter in enumerate(branch) if letter == "/"]
        own = f"{url}\n{branch}"
        for name in above:
            if self._beside.get(name) == name:
                return name.partition("\n")[2]
        if (below := self._beside.get(own, own)) != own:
            return below.partition("\n")[2]
        self._beside |= {name: self._beside.get(name, own) for name in above} | {own: own}
        return ""

    def _id(self, name: str, row: str, variation: str, key: str) -> str:
        """Lower-case letters, digits, '.', '_' and '-', at most MAX_ID_CHARS; unlike all before, in whatever order."""
        id = "-".join(part for part in (name, slug(row) if row else "", variation) if part)
        if len(id) > MAX_ID_CHARS or id in self._ids:
            id = f"{id[: MAX_ID_CHARS - _HASH_CHARS - 1]}-{key[:_HASH_CHARS]}"
        self._ids.add(id)
        return id

    def done(self) -> Plan:
        notes = [f"{count:,} left out: {why}" for why, count in self.left_out.most_common()] + self._notes
        if doubled := len(self.jobs) - len({self._branches[job.id] for job in self.jobs}):
            notes.append(
                f"{plural(doubled, 'job')} would have a branch that another job has too, and gets it with -2, -3, …; "
                "put {{ job.id }} into output.branch"
            )
        return Plan(jobs=tuple(self.jobs), bad=tuple(dict.fromkeys(self.bad)), notes=tuple(notes))


def _key(task: Loaded[Task], overrides: Mapping[str, str], variation: _Variation, values: Mapping[str, Any]) -> str:
    what = [task.sha256, dict(overrides), dict(variation.overrides), dict(values)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


# What git takes for the name of a branch (git help check-ref-format), asked here without a process for each job.
_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|/\.|^\.|\.(?:/|$)|\.lock(?:/|$)|/$|^@$|^HEAD$")


def _branch_mistake(branch: str) -> str:
    if not branch or not branch.isprintable() or (found := _NO_BRANCH.search(branch)):
        what = f"with {shown(found[0])} in it" if branch.isprintable() and branch and found else "of that form"
        return f"there can be no branch {what}"
    return ""
