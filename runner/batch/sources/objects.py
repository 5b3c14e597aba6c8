"""JSON objects into rows: an issue, the payload of an event about one, or whatever else the object is."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from runner.batch.issue_text import clean
from runner.batch.sources.base import BadRow, Found, Piece, Row, Skipped
from runner.batch.sources.issues import Mistake, comment_of, from_github, is_issue, is_pull_request, issue_of
from runner.document.words import shown

MAX_DEPTH = 20
MAX_NOTES = 10
_OWN_IDS = ("instance_id", "id")
"""Keys by which rows of data sets are called."""
_NO_MARKDOWN = ("title",)
"""Keys whose text is shown as it is, `<!--` included."""


def found_in(piece: Piece, *, source: str, number: int) -> Found:
    """What a piece of a file is: the `number`th row of it."""
    place = piece.place(source)
    if piece.mistake:
        return BadRow(place, piece.mistake)
    try:
        return row_of(parse(piece.data), place=place, number=number)
    except Mistake as mistake:
        return BadRow(place, str(mistake))


def row_of(found: object, *, place: str, number: int, table: bool = False) -> Row | Skipped:
    """The row that an object is. What a table gives can be had as `row` in any case. Raises Mistake."""
    if not isinstance(found, dict):
        raise Mistake(f"is {_kind(found)}, not an object; give what gh issue list --json number,title,body,… prints")
    notes: list[str] = []
    item: dict[str, Any] = _cleaned(found, "", notes)
    notes = [*notes[:MAX_NOTES], *([f"and {len(notes) - MAX_NOTES} texts more"] if len(notes) > MAX_NOTES else [])]
    if is_pull_request(item):
        return Skipped(place, "a pull request")
    if isinstance(item.get("issue"), dict):
        issue = issue_of(item["issue"], item.get("repository"))
        comment = {"comment": comment_of(item["comment"])} if isinstance(item.get("comment"), dict) else {}
        return _issue_row(place, issue, comment, notes)
    if is_issue(item):
        return _issue_row(place, issue_of(item), {} if from_github(item) and not table else {"row": item}, notes)
    key = next((str(item[name]) for name in _OWN_IDS if isinstance(item.get(name), str | int) and item[name] != ""), "")
    title = item.get("title") or item.get("name")
    return Row(
        place=place,
        number=number,
        key=key or str(number),
        title=" ".join(title.split()) if isinstance(title, str) else key,
        values={"row": item},
        notes=tuple(notes),
    )


def _issue_row(place: str, issue: Mapping[str, Any], more: Mapping[str, Any], notes: list[str]) -> Row:
    number = issue["number"]
    return Row(
        place=place,
        number=number,
        key=str(number),
        title=issue["title"],
        values={"issue": issue, **more},
        notes=tuple(notes),
    )


# --- JSON, strictly


def parse(data: bytes) -> object:
    """The value. Raises Mistake."""
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise Mistake(f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise Mistake(f"is not JSON: {error.msg[:1].lower()}{error.msg[1:]}{_where(error)}") from None
    except Mistake:
        raise
    except RecursionError:
        raise Mistake(f"is nested more than {MAX_DEPTH} deep") from None
    except ValueError:
        raise Mistake("has a number with too many digits") from None
    if _depth(value) > MAX_DEPTH:
        raise Mistake(f"is nested more than {MAX_DEPTH} deep")
    return value


def _where(error: json.JSONDecodeError) -> str:
    return f" (at {shown(error.doc[error.pos : error.pos + 20])})" if error.pos < len(error.doc) else " (at its end)"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise Mistake(f"has the key {shown(twice)} twice")
    return found


def _no_constant(word: str) -> None:
    raise Mistake(f"is not JSON: there is no {word}")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise Mistake(f"has a number that is too large ({shown(text)})")
    return number


def _depth(value: object) -> int:
    """How deep lists and objects are nested; at most just over what is allowed."""
    level, depth = [value], 0
    while depth <= MAX_DEPTH and level:
        inner: list[object] = []
        for item in level:
            inner += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        depth += bool(inner)
        level = inner
    return depth


# --- What strangers wrote


def _cleaned(value: Any, name: str, notes: list[str]) -> Any:
    """The value with nothing hidden in its texts; `name` is its place in the row. Raises Mistake."""
    match value:
        case str():
            cleaned = clean(value, name=name, markdown=name.rpartition(".")[2] not in _NO_MARKDOWN)
            notes += [cleaned.note] if cleaned.note else []
            return cleaned.text
        case dict():
            for key in value:
                if clean(key, name=name).text != key:
                    raise Mistake(f"has a key with something invisible in it ({shown(key)})")
            return {key: _cleaned(item, f"{name}.{key}" if name else key, notes) for key, item in value.items()}
        case list():
            return [_cleaned(item, f"{name}[{number}]", notes) for number, item in enumerate(value)]
    return value


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
    return "a list"
