from __future__ import annotations

import threading

from runner.batch.rates import Bucket


class Hand:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_one_is_ready_at_once_and_the_next_after_its_share_of_a_minute() -> None:
    clock = Hand()
    bucket = Bucket(30, clock=clock)
    assert bucket.take()
    assert not bucket.take()
    assert abs(bucket.wait_seconds() - 2) < 1e-6
    clock.at += bucket.wait_seconds()
    assert bucket.wait_seconds() == 0
    assert bucket.take()


def test_asking_how_long_to_wait_takes_nothing() -> None:
    bucket = Bucket(1, clock=Hand())
    assert bucket.wait_seconds() == bucket.wait_seconds() == 0
    assert bucket.take()


def test_a_rest_saves_up_no_more_than_the_burst() -> None:
    clock = Hand()
    bucket = Bucket(60, burst=3, clock=clock)
    clock.at += 3600
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_in_any_hour_no_more_are_taken_than_sixty_minutes_allow() -> None:
    clock = Hand()
    bucket = Bucket(7, clock=clock)
    taken = 0
    for _ in range(36_000):
        clock.at += 0.1
        taken += bucket.take()
    assert 7 * 59 <= taken <= 7 * 60 + 1


def test_without_a_rate_any_number_may_be_taken() -> None:
    bucket = Bucket(None)
    assert all(bucket.take() for _ in range(1000))
    assert bucket.wait_seconds() == 0


def test_a_clock_that_is_set_back_gives_nothing_away() -> None:
    clock = Hand()
    bucket = Bucket(60, clock=clock)
    assert bucket.take()
    clock.at -= 500
    assert not bucket.take()
    clock.at += 1
    assert bucket.take()


def test_threads_never_share_one() -> None:
    bucket = Bucket(1, burst=100, clock=Hand())
    taken: list[bool] = []
    threads = [threading.Thread(target=lambda: taken.extend(bucket.take() for _ in range(50))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 100
