"""Which rows of a source become jobs: filters by what an issue says, slices by number and order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from runner.batch.sources.base import BadRow, Found, Row, Skipped
from runner.document.words import near, shown
from runner.errors import ConfigError

STATES = ("open", "closed")
ASSOCIATIONS = (
    "OWNER", "MEMBER", "COLLABORATOR", "CONTRIBUTOR", "FIRST_TIME_CONTRIBUTOR", "FIRST_TIMER", "MANNEQUIN", "NONE",
)  # fmt: skip
"""What GitHub says of an author's relation to the repository."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Filters first, then the order, then `skip` and `first`. Every one that is given must let a row through."""

    labels: tuple[str, ...] = ()
    """The issue has all of them, in whatever case."""
    state: str | None = None
    """`open` or `closed`."""
    author_associations: tuple[str, ...] = ()
    """The author is one of these to the repository."""
    only: tuple[range, ...] = ()
    """Numbers of issues; of other rows, their place in the source."""
    skip: int = 0
    first: int | None = None
    shuffle: int | None = None
    """A seed; the same one gives the same order again, and a row more does not change that of the others."""


def select(found: Iterable[Found], selection: Selection) -> Iterator[Found]:
    """The rows that are meant, in their order; those that a filter leaves out come as Skipped, bad ones as they are.

    The source is read no further than needed. Raises ConfigError for words that no issue could match.
    """
    _check(selection)
    rows: Iterable[Found] = _filtered(found, selection)
    if selection.shuffle is not None:
        rows = sorted(rows, key=lambda one: _shuffled(one, selection.shuffle))
    last = None if selection.first is None else selection.skip + selection.first
    seen = 0
    for one in rows:
        if not isinstance(one, Row):
            yield one
            continue
        seen += 1
        if seen > selection.skip:
            yield one
        if seen == last:
            return


def numbers(text: str) -> tuple[range, ...]:
    """The ranges that `12,15-20` means. Raises ConfigError."""
    found: list[range] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,12})(?:\s*-\s*(\d{1,12}))?\s*", part, re.ASCII)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ConfigError(f"--only: must be numbers and ranges such as 12,15-20 (got {shown(text)})")
        found.append(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(found)


def _check(selection: Selection) -> None:
    if selection.state not in (None, *STATES):
        raise ConfigError(f"--state: must be {' or '.join(STATES)} (got {shown(selection.state)})")
    for word in selection.author_associations:
        if word.upper() not in ASSOCIATIONS:
            hint = (
                f"did you mean {meant}?" if (meant := near(word, ASSOCIATIONS)) else f"one of {', '.join(ASSOCIATIONS)}"
            )
            raise ConfigError(f"--author-association: there is no {shown(word)}; {hint}")
    if selection.skip < 0 or (selection.first is not None and selection.first < 1):
        raise ConfigError("--skip must be at least 0 and --first at least 1")


def _filtered(found: Iterable[Found], selection: Selection) -> Iterator[Found]:
    wanted = {numbers.start for numbers in selection.only if len(numbers) == 1}
    for one in found:
        if isinstance(one, Row):
            wanted.discard(one.number)
            reason = _refusal(one, selection)
            yield Skipped(one.place, reason) if reason else one
        else:
            yield one
    for number in sorted(wanted):
        yield BadRow("--only", f"there is no {number} in the source")


def _refusal(row: Row, selection: Selection) -> str:
    """Why a row is not meant; "" for one that is."""
    if selection.only and not any(row.number in numbers for numbers in selection.only):
        return "not in --only"
    issue = row.values.get("issue")
    if issue is None:
        filtered = selection.labels or selection.state or selection.author_associations
        return "no issue, so --label, --state and --author-association say nothing of it" if filtered else ""
    has = {label.lower() for label in issue["labels"]}
    if missing := [label for label in selection.labels if label.lower() not in has]:
        return f"not labelled {shown(missing[0])}"
    if selection.state and issue["state"] != selection.state:
        return f"not known to be {selection.state}"
    wanted = {word.upper() for word in selection.author_associations}
    if wanted and issue["author_association"] is None:
        return "its author's association is not said (gh issue list does not know it; gh api …/issues does)"
    if wanted and issue["author_association"] not in wanted:
        return f"author is not one of {', '.join(sorted(wanted))}"
    return ""


def _shuffled(one: Found, seed: int | None) -> str:
    # By each row's own hash: one more row does not change the order of the others. What is no row comes first.
    if not isinstance(one, Row):
        return ""
    return hashlib.sha256(f"{seed}:{one.key or one.place}".encode()).hexdigest()
