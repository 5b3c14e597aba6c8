"""Known ways to pass checks without doing the work are found out; honest work is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.cheats.corpus import CHEATS, FAILING, HONEST, NOT_CAUGHT, NOT_CAUGHT_CODE, PASSING, Code, Together, Work
from tests.cheats.project import Bench

pytestmark = pytest.mark.engine


def test_no_case_is_there_twice() -> None:
    cases: list[Work | Code] = [*CHEATS, *PASSING, *FAILING, *HONEST, *NOT_CAUGHT, *NOT_CAUGHT_CODE]
    names = Counter(case.name for case in cases)
    assert [name for name, times in names.items() if times > 1] == []


def test_there_are_enough_cases(record_property: Callable[[str, object], None]) -> None:
    caught = len(CHEATS) + len(PASSING) + len(FAILING)
    known = caught + len(NOT_CAUGHT) + len(NOT_CAUGHT_CODE)
    rate = f"{caught} of {known} ({caught / known:.0%})".replace("%", " %")
    record_property("rate", f"cheats that are not solved: {rate}; honest work that is solved: all of {len(HONEST)}")
    assert caught >= 40


def test_a_cheat_is_not_solved(cheat: Work, bench: Bench) -> None:
    checked = bench.check(cheat.script, base=cheat.base, prove=cheat.prove, **cheat.task)
    assert checked.verdict == cheat.verdict, str(checked)
    assert cheat.why in checked.why


def test_code_that_cheats_is_seen_through_as_far_as_is_known(together: Together, bench: Bench) -> None:
    checked = bench.check_each([part.script(f"m{n}.py") for n, part in enumerate(together.parts)])
    found = {part.name: one for part, one in zip(together.parts, checked, strict=True)}
    assert {name: one.verdict for name, one in found.items()} == {part.name: part.verdict for part in together.parts}
    assert {part.name: found[part.name].why for part in together.parts if part.why not in found[part.name].why} == {}


def test_what_is_known_to_get_through_still_does(missed: Work, bench: Bench) -> None:
    """Else it belongs with the others, and docs/checks.md says too little."""
    assert bench.check(missed.script, **missed.task).verdict == "solved"


def test_honest_work_is_solved(honest: Work, bench: Bench) -> None:
    checked = bench.check(honest.script, base=honest.base, prove=honest.prove, **honest.task)
    assert checked.verdict == "solved", str(checked)
