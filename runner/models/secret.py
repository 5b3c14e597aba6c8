"""A key that shows itself only where it is asked to."""

from __future__ import annotations

from typing import Never

from runner.masking import MASK, masker


class Secret:
    """Holds a key. `repr`, `str` and formatting give the mask; only `reveal` gives the key."""

    __slots__ = ("_key", "scrub")

    def __init__(self, key: str) -> None:
        self._key = key
        self.scrub = masker((key,))
        """Gives a text back with every occurrence of the key masked."""

    def reveal(self) -> str:
        return self._key

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> Never:
        raise TypeError("a Secret is not to be pickled")
