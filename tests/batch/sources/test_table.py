"""Tables: what a program writes as CSV is read back."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from runner.batch.sources.base import Row
from runner.batch.sources.pieces import lines
from runner.batch.sources.table import rows

CELLS = st.text(st.sampled_from('ab",;\t \n') | st.sampled_from("!#'./0:=>?@[\\]_{|}~éß你"), max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=6), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]))
def test_what_was_written_is_read(records: list[tuple[str, str]], separator: str, end: str) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator=end)
    writer.writerows([("first", "second"), *records])
    found = list(rows(lines([out.getvalue().encode()]), source="s.csv"))
    read = [one.values["row"] for one in found if isinstance(one, Row)]
    assert read == [{"first": first, "second": second} for first, second in records]


@given(st.lists(st.tuples(CELLS, CELLS), max_size=6))
def test_every_record_knows_its_line(records: list[tuple[str, str]]) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(("first", "second"))
    places = []
    for number, (first, second) in enumerate(records):
        places.append(f"s.csv:{out.getvalue().count(chr(10)) + 1}")
        writer.writerow((f"{number}{first}", second))
    assert [one.place for one in rows(lines([out.getvalue().encode()]), source="s.csv")] == places
