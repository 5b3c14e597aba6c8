"""Match a row of items against a row of tests, as a glob does with characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

Test = Callable[[Item], object] | None
"""Says whether one item fits; None stands for any number of items."""


def matches(tests: Sequence[Test[Item]], items: Sequence[Item]) -> bool:
    """Whether the items fit, one for one but for None. At most len(tests) * len(items) tests are made."""
    at = taken = 0
    retry: tuple[int, int] | None = None  # behind the last None, and how far it reached: it can take one more
    while taken < len(items):
        if at < len(tests):
            test = tests[at]
            if test is None:
                at += 1
                retry = (at, taken)
                continue
            if test(items[taken]):
                at += 1
                taken += 1
                continue
        if retry is None:
            return False
        at, taken = retry[0], retry[1] + 1
        retry = (at, taken)
    return all(test is None for test in tests[at:])
