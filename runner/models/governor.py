"""One pace for all who ask the same provider with the same key: its 429s and 529s slow everybody down together.

How many requests may be under way at the same time is found as TCP finds it: each refusal halves the window, each reply
widens it a little. What was sent before the window was halved says nothing about the new one, so that the refusals of
one round count once. Nobody sends anything while the provider asks to wait; then those who came first go first.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from runner.messages import Usage
from runner.models.secret import Secret

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
"""Where the provider does not say how long to wait, a pause doubles from the first to the longest."""
LONGEST_ASKED_SECONDS = 900.0
"""For so long one answer of the provider can hold everybody up."""
_MINUTE = 60.0
_FIRST_SHARE = 0.5
_LEARNT = 0.2
"""How much of a new measurement goes into the estimate."""


class Governors:
    """Makes the governors of a process, one for each address and key; they share one limit of tokens. Thread-safe."""

    def __init__(
        self,
        *,
        window: int = 8,
        tokens_per_minute: int | None = None,
        on_change: Callable[[str], None] = lambda text: None,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        """`window`: requests to one provider that may be under way at the same time, at most and to begin with.
        `on_change` is told in words when they become fewer, and when they are as many again."""
        self._window = window
        self._tokens = TokenRate(tokens_per_minute)
        self._on_change = on_change
        self._first_pause_seconds = first_pause_seconds
        self._made: dict[tuple[str, Secret], Governor] = {}
        self._lock = threading.Lock()

    def of(self, address: str, key: Secret) -> Governor:
        with self._lock:
            if (address, key) not in self._made:
                self._made[address, key] = Governor(
                    self._window, self._tokens, self._on_change, first_pause_seconds=self._first_pause_seconds
                )
            return self._made[address, key]


class Governor:
    """Says who may send a request, and when. Thread-safe."""

    def __init__(
        self,
        window: int,
        tokens: TokenRate,
        on_change: Callable[[str], None] = lambda text: None,
        *,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        assert window >= 1, window
        self._most = window
        self._tokens = tokens
        self._on_change = on_change
        self._first_pause_seconds = first_pause_seconds
        self._window = float(window)
        self._under_way = 0
        self._round = 0
        """Grows when the window is made smaller; what was sent in an earlier one does not change it."""
        self._refused_rounds = 0
        """In a row, without a reply."""
        self._paused_until = 0.0
        self._places = count()
        self._waiting: set[int] = set()
        self._changed = threading.Condition()

    @property
    def window(self) -> int:
        """Requests that may be under way at the same time."""
        return int(self._window)

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

    def line_up(self, input_tokens: int) -> Place:
        """A place in the line, for one request and all its tries. `input_tokens` is the most that it can be."""
        return Place(self, next(self._places), input_tokens)

    def look_again(self) -> None:
        """Somebody who waits may have to leave the line."""
        with self._changed:
            self._changed.notify_all()

    def enter(self, place: int, input_tokens: int, until: float, leaves: Callable[[], bool]) -> _Turn | None:
        with self._changed:
            self._waiting.add(place)
            try:
                while isinstance(turn := self._turn(place, input_tokens), float):
                    left = until - time.monotonic()
                    if left <= 0 or until < self._paused_until or leaves():
                        return None
                    self._changed.wait(min(turn, left))
                self._under_way += 1
                return turn
            finally:
                self._waiting.discard(place)
                self._changed.notify_all()

    def _turn(self, place: int, input_tokens: int) -> _Turn | float:
        """Leave to go, or the seconds after which to ask again, if nothing has changed by then."""
        now = time.monotonic()
        if place != min(self._waiting) or self._under_way >= self.window:
            return threading.TIMEOUT_MAX
        if now < self._paused_until:
            return self._paused_until - now
        tokens = self._tokens.take(input_tokens, now)
        return tokens if isinstance(tokens, float) else _Turn(self._round, tokens)

    def leave(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def replied(self, turn: _Turn, usage: Usage) -> None:
        self._tokens.correct(turn.tokens, usage)
        with self._changed:
            before = self.window
            if turn.round == self._round:
                self._refused_rounds = 0
                self._window = min(self._most, self._window + 1 / self._window)
            after = self.window
        if before < after == self._most:
            self._on_change(f"back to {after} requests at a time")

    def refused(self, turn: _Turn, retry_after: float | None) -> float:
        """Seconds that everybody waits."""
        self._tokens.correct(turn.tokens, Usage())
        with self._changed:
            before, now = self.window, time.monotonic()
            pause = min(retry_after or 0.0, LONGEST_ASKED_SECONDS) + random.uniform(0, self._first_pause_seconds)
            if turn.round == self._round:
                self._round += 1
                self._window = max(1.0, self._window / 2)
                pause = max(pause, self._backoff())
                self._refused_rounds += 1
            self._paused_until = max(self._paused_until, now + pause)
            left, after = self._paused_until - now, self.window
        if after < before:
            self._on_change(f"slowed down by the provider: {before} -> {after} requests at a time")
        return left

    def _backoff(self) -> float:
        step = min(LONGEST_PAUSE_SECONDS, self._first_pause_seconds * 2 ** min(self._refused_rounds, 16))
        return random.uniform(step / 2, step)


class Place:
    """The place in a governor's line of one request; for one thread. `enter`, then `leave`, for each of its tries."""

    def __init__(self, governor: Governor, number: int, input_tokens: int) -> None:
        self._governor = governor
        self._number = number
        self._input_tokens = input_tokens
        self._turn: _Turn | None = None

    def enter(self, until: float, *, leaves: Callable[[], bool] = lambda: False) -> bool:
        """Wait for leave to send a try.

        False, as soon as that is known, when there is none by `until`, on time.monotonic(); and when the request is
        given up, which `leaves` tells whenever somebody has everybody `look_again`.
        """
        self._turn = self._governor.enter(self._number, self._input_tokens, until, leaves)
        return self._turn is not None

    def replied(self, usage: Usage) -> None:
        """The try was answered: there may be room for more."""
        assert self._turn is not None, "BUG: no turn"
        self._governor.replied(self._turn, usage)

    def refused(self, retry_after: float | None) -> float:
        """The provider has too much to do: all slow down. Returns the seconds that everybody waits now."""
        assert self._turn is not None, "BUG: no turn"
        return self._governor.refused(self._turn, retry_after)

    def leave(self) -> None:
        """The try is over, however it ended."""
        assert self._turn is not None, "BUG: no turn"
        self._turn = None
        self._governor.leave()


@dataclass(frozen=True, slots=True)
class _Turn:
    round: int
    tokens: _Tokens | None


# --- tokens per minute


@dataclass(slots=True)
class _Tokens:
    """Counted for one try."""

    at: float
    bound: int
    """The most that its input can be."""
    tokens: float


class TokenRate:
    """Tokens in any minute: as estimated when a try is sent, put right by what it was billed. None: any number.

    Counted is what providers limit: all input that does not come from the prompt cache, and output. What a request can
    be at most is known before it is sent; how much less it is on the average is learnt.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._share = _FIRST_SHARE
        """Of the most that a request can be, what is billed on the average."""
        self._counted: deque[_Tokens] = deque()
        self._lock = threading.Lock()

    def take(self, bound: int, now: float) -> _Tokens | None | float:
        """Count a try with so much input at most; when that is too much now: the seconds until it may not be.

        `now` is on time.monotonic().
        """
        if self._per_minute is None:
            return None
        with self._lock:
            self._forget(now)
            # What alone is more than a minute's worth has the minute to itself.
            estimate = min(bound * self._share, self._per_minute)
            excess = sum(one.tokens for one in self._counted) + estimate - self._per_minute
            if excess <= 0:
                self._counted.append(_Tokens(now, bound, estimate))
                return self._counted[-1]
            return self._free_at(excess) - now

    def correct(self, taken: _Tokens | None, usage: Usage) -> None:
        """The try was billed so."""
        if taken is None:
            return
        with self._lock:
            taken.tokens = usage.total_tokens - usage.cache_read_tokens
            if usage.total_tokens:
                self._share += _LEARNT * (taken.tokens / max(1, taken.bound) - self._share)

    def _forget(self, now: float) -> None:
        while self._counted and self._counted[0].at + _MINUTE <= now:
            self._counted.popleft()

    def _free_at(self, tokens: float) -> float:
        """When so many of the counted tokens are a minute old."""
        for one in self._counted:
            tokens -= one.tokens
            if tokens <= 0:
                return one.at + _MINUTE
        return self._counted[-1].at + _MINUTE
