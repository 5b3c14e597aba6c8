"""Which rows are meant: filters, slices, and an order that stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.batch.sources import BadRow, Found, Row, Selection, Skipped, numbers, select
from runner.errors import ConfigError


def _issue(number: int, **keys: Any) -> Row:
    issue = {"number": number, "title": "t", "labels": [], "state": "open", "author_association": None}
    return Row(place=f"s:{number}", number=number, key=str(number), values={"issue": issue | keys})


ISSUES: list[Found] = [
    _issue(1, labels=["bug", "UI"], author_association="MEMBER"),
    _issue(2, labels=["bug"], state="closed", author_association="NONE"),
    BadRow("s:3", "is bad"),
    _issue(4, labels=["docs"]),
    Row(place="s:5", number=5, key="5", values={"row": {}}),
]


def _chosen(selection: Selection) -> list[str]:
    return [one.key for one in select(ISSUES, selection) if isinstance(one, Row)]


def _why(selection: Selection) -> Counter[str]:
    return Counter(one.why for one in select(ISSUES, selection) if isinstance(one, Skipped))


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(), ["1", "2", "4", "5"]),
        (Selection(labels=("bug",)), ["1", "2"]),
        (Selection(labels=("BUG", "ui")), ["1"]),
        (Selection(state="open"), ["1", "4"]),
        (Selection(author_associations=("MEMBER", "owner")), ["1"]),
        (Selection(labels=("bug",), state="open"), ["1"]),
        (Selection(only=numbers("2,4-9")), ["2", "4", "5"]),
        (Selection(skip=1), ["2", "4", "5"]),
        (Selection(first=2), ["1", "2"]),
        (Selection(skip=1, first=2), ["2", "4"]),
        (Selection(labels=("bug",), skip=1), ["2"]),
    ],
)
def test_a_selection_lets_through(selection: Selection, chosen: list[str]) -> None:
    assert _chosen(selection) == chosen


def test_what_is_left_out_says_why() -> None:
    assert _why(Selection(labels=("bug",))) == {
        "not labelled 'bug'": 1,
        "no issue, so --label, --state and --author-association say nothing of it": 1,
    }
    assert _why(Selection(state="closed", only=numbers("1-4"))) == {"not known to be closed": 2, "not in --only": 1}
    said = _why(Selection(author_associations=("OWNER",)))
    assert said["author is not one of OWNER"] == 2
    assert said["its author's association is not said (gh issue list does not know it; gh api …/issues does)"] == 1


def test_bad_rows_stay() -> None:
    assert ISSUES[2] in list(select(ISSUES, Selection(labels=("bug",))))


def test_a_number_that_is_asked_for_and_not_there_is_said() -> None:
    found = list(select(ISSUES, Selection(only=numbers("2,9,20-30"))))
    assert [one for one in found if isinstance(one, BadRow)][1:] == [BadRow("--only", "there is no 9 in the source")]


def test_the_source_is_read_no_further_than_needed() -> None:
    def rows() -> Iterator[Found]:
        yield from ISSUES[:2]
        raise AssertionError("read on")

    assert [one.place for one in select(rows(), Selection(first=2))] == ["s:1", "s:2"]


@given(st.integers(), st.integers(2, 30))
def test_an_order_is_the_same_again_and_survives_another_row(seed: int, count: int) -> None:
    issues: list[Found] = [_issue(number) for number in range(1, count + 1)]
    order = list(select(issues, Selection(shuffle=seed)))
    assert sorted(one.place for one in order) == sorted(one.place for one in issues)
    assert list(select(reversed(issues), Selection(shuffle=seed))) == order
    fewer = list(select(issues[1:], Selection(shuffle=seed)))
    assert fewer == [one for one in order if one.place != "s:1"]


def test_another_seed_gives_another_order() -> None:
    issues: list[Found] = [_issue(number) for number in range(1, 30)]
    assert list(select(issues, Selection(shuffle=1))) != list(select(issues, Selection(shuffle=2)))


@pytest.mark.parametrize(
    ("selection", "what"),
    [
        (Selection(state="opne"), "--state: must be open or closed (got 'opne')"),
        (
            Selection(author_associations=("MEMEBR",)),
            "--author-association: there is no 'MEMEBR'; did you mean MEMBER?",
        ),
        (Selection(author_associations=("x",)), "there is no 'x'; one of OWNER, MEMBER"),
        (Selection(first=0), "--skip must be at least 0 and --first at least 1"),
        (Selection(skip=-1), "--skip must be at least 0"),
    ],
)
def test_a_word_that_can_match_nothing_is_a_mistake(selection: Selection, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        list(select(ISSUES, selection))
    assert what in str(caught.value)


def test_numbers_are_ranges() -> None:
    assert numbers("12,15-20") == (range(12, 13), range(15, 21))
    assert numbers(" 1 , 2 - 3 ") == (range(1, 2), range(2, 4))


@pytest.mark.parametrize("text", ["", "a", "1,", "5-2", "-3", "1--2", "1.5", "٣"])
def test_what_are_no_numbers_is_a_mistake(text: str) -> None:
    with pytest.raises(ConfigError, match="--only: must be numbers and ranges such as 12,15-20"):
        numbers(text)
