"""What a batch would do, for a terminal of 80 columns: its jobs, the most they can cost, the rows it cannot use."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from rich.cells import cell_len, chop_cells

from runner.batch.base import Planned
from runner.batch.plan import Plan, rebuild, worst_case_usd
from runner.report.units import plural, usd
from runner.report.visible import one_line
from runner.task import filled

WIDTH = 80
MOST_BAD = 50
"""Bad rows that are listed; the rest are counted."""
NO_CAP = "no cap"


class _Line(NamedTuple):
    """One job."""

    id: str
    title: str
    base: str
    model: str
    at_most: str


_WIDEST = {"id": 32, "base": 12, "model": 17, "at_most": 9}
"""Of the columns, in characters; the title has what is left."""
_NAMES = {"id": "job", "title": "title", "base": "base", "model": "model", "at_most": "at most"}


def plan_table(plan: Plan, *, cost_usd: float | None = None) -> list[str]:
    """Lines; what came from strangers does nothing in them. `cost_usd` is the cap of the whole batch, if it has one."""
    lines = _lines(plan.jobs)
    said, columns = _split(lines)
    shown = [*_wrapped("all: " + ", ".join(said))] if said else []
    if lines:
        shown += _jobs(plan.jobs, lines, columns)
    shown += [*([""] if shown else []), *_totals(plan, cost_usd)]
    for note in plan.notes:
        shown += _wrapped(f"note: {note}")
    return shown + _bad(plan)


def _lines(jobs: Sequence[Planned]) -> list[_Line]:
    lines = [_line(job) for job in jobs]
    if len({line.model.partition(":")[0] for line in lines}) == 1 < len({line.model for line in lines}):
        return [line._replace(model=line.model.partition(":")[2]) for line in lines]
    return lines


def _line(planned: Planned) -> _Line:
    task = filled(rebuild(planned), planned.id, planned.values).value
    worst = worst_case_usd(task)
    return _Line(
        id=planned.id,
        title=one_line(planned.title),
        base=one_line(task.repo.base),
        model=one_line(task.model),
        at_most=NO_CAP if worst is None else usd(worst),
    )


def _split(lines: Sequence[_Line]) -> tuple[list[str], list[str]]:
    """What is the same for all jobs, in words, and the columns of the rest."""
    same = {name for name in ("base", "model", "at_most") if len({getattr(line, name) for line in lines}) == 1}
    words = [f"{_NAMES[name]} {getattr(lines[0], name)}" for name in _WIDEST if name in same]
    return words, [name for name in _Line._fields if name not in same]


def _jobs(jobs: Sequence[Planned], lines: Sequence[_Line], columns: Sequence[str]) -> list[str]:
    widths = {
        name: min(_WIDEST[name], max(cell_len(_NAMES[name]), *(cell_len(getattr(line, name)) for line in lines)))
        for name in columns
        if name != "title"
    }
    widths["title"] = WIDTH - sum(widths.values()) - 2 * (len(columns) - 1)
    shown = ["  ".join(_cell(_NAMES[name], widths[name]) for name in columns).rstrip()]
    for job, line in zip(jobs, lines, strict=True):
        cut = line._replace(id=_with_its_end(line.id, widths["id"]))
        shown.append("  ".join(_cell(getattr(cut, name), widths[name]) for name in columns).rstrip())
        shown += [_cell(f"    {one_line(note)}", WIDTH).rstrip() for note in job.notes]
    return shown


def _with_its_end(id: str, width: int) -> str:
    """Cut in the middle: what varies is at the end."""
    return id if len(id) <= width else f"{id[: width // 2 - 1]}…{id[-(width - width // 2) :]}"


def _cell(text: str, width: int) -> str:
    """Exactly so many columns of the terminal."""
    if cell_len(text) > width:
        text = f"{chop_cells(text, width - 1)[0]}…"
    return text + " " * (width - cell_len(text))


def _totals(plan: Plan, cost_usd: float | None) -> list[str]:
    rows = len({job.source for job in plan.jobs})
    made = plural(len(plan.jobs), "job") + (f" of {plural(rows, 'row')}" if rows != len(plan.jobs) else "")
    return _wrapped(f"{made}; {_worst(plan, cost_usd)}") if plan.jobs else ["no jobs"]


def _worst(plan: Plan, cost_usd: float | None) -> str:
    costs = [worst_case_usd(rebuild(job).value) for job in plan.jobs]
    total = sum((cost for cost in costs if cost is not None), Decimal(0))
    cap = None if cost_usd is None else Decimal(str(cost_usd))
    if cap is not None and (None in costs or total > cap):
        return f"worst case {usd(cap)}, the cap of the batch"
    if None in costs:
        return (
            f"worst case: no cap, because nothing bounds what {plural(costs.count(None), 'job')} may cost; "
            "give each one --limits.cost_usd 2, or all of them --cost-usd 50"
        )
    return f"worst case {usd(total)}"


def _bad(plan: Plan) -> list[str]:
    if not plan.bad:
        return []
    shown = ["", f"{plural(len(plan.bad), 'row')} cannot be used:"]
    for bad in plan.bad[:MOST_BAD]:
        shown += _wrapped(f"  {one_line(str(bad))}")
    return shown + ([f"  … and {len(plan.bad) - MOST_BAD:,} more"] if len(plan.bad) > MOST_BAD else [])


def _wrapped(text: str) -> list[str]:
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(
        one_line(text), WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False
    )
