"""How the number of requests under way follows a provider's answers."""

from __future__ import annotations

import pytest

from shipper.delivery.concurrency import MOST, Concurrency


class Provider:
    """Answers rounds of requests; its clock goes on by itself."""

    def __init__(self, concurrency: Concurrency) -> None:
        self.concurrency = concurrency
        self.now = 1000.0
        self.worked = 10.0

    def rounds(self, count: int, seconds: float, under_way: int | None = None, busy: float = 0.1) -> None:
        """Rounds of answers after so many seconds each, with as many requests under way as may be.

        ``busy``: the share of the time in which we are at work.
        """
        for _ in range(count):
            requests = self.concurrency.limit if under_way is None else under_way
            for number in range(requests):
                self.concurrency.began(number + 1)
            self.now += seconds * 1.001
            self.worked += seconds * busy
            for _ in range(requests):
                self.concurrency.answered(seconds, self.now, self.worked)

    def failures(self, count: int, throttled: bool = False) -> None:
        """So many at once, in a round of their own."""
        self.now += 1.0
        for _ in range(count):
            self.concurrency.failed(throttled, self.now)


def test_it_begins_with_one_and_doubles_up_to_its_bound_while_answers_take_as_long_as_before() -> None:
    concurrency = Concurrency()
    provider = Provider(concurrency)
    seen = [concurrency.limit]
    for _ in range(8):
        provider.rounds(1, 0.1)
        seen.append(concurrency.limit)
    assert seen == [1, 2, 4, 8, 16, 16, 16, 16, 16]
    assert MOST == 16


def test_what_is_not_used_does_not_grow() -> None:
    concurrency = Concurrency()
    provider = Provider(concurrency)
    provider.rounds(2, 0.1)
    assert concurrency.limit == 4
    provider.rounds(20, 0.1, under_way=3)
    assert concurrency.limit == 4


def test_answers_that_take_longer_shrink_it_and_then_it_grows_one_by_one() -> None:
    concurrency = Concurrency()
    provider = Provider(concurrency)
    provider.rounds(10, 0.1)
    provider.rounds(2, 0.5)  # the first answer of the first one still counts for the round before
    assert concurrency.limit == 14
    provider.rounds(10, 0.1, under_way=1)  # quick again, and usual
    provider.rounds(1, 0.1)
    assert concurrency.limit == 15


def test_while_it_is_we_who_are_slow_no_more_are_begun() -> None:
    concurrency = Concurrency()
    provider = Provider(concurrency)
    provider.rounds(3, 0.1)
    assert concurrency.limit == 8
    provider.rounds(3, 0.1, busy=0.7)
    assert concurrency.limit == 8
    seen = []
    for _ in range(9):
        provider.rounds(1, 0.1, busy=0.95)
        seen.append(concurrency.limit)
    assert seen == [7, 6, 5, 4, 3, 2, 1, 1, 1]
    provider.rounds(2, 0.1)
    assert concurrency.limit == 4


def test_a_little_longer_is_nothing() -> None:
    concurrency = Concurrency()
    provider = Provider(concurrency)
    provider.rounds(3, 0.1)
    provider.rounds(1, 0.12)
    assert concurrency.limit == 16


@pytest.mark.parametrize("throttled", [False, True])
def test_a_failure_halves_it_and_one_is_always_left(throttled: bool) -> None:
    concurrency = Concurrency()
    provider = Provider(concurrency)
    provider.rounds(10, 0.1)
    seen = []
    for _ in range(6):
        provider.failures(1, throttled)
        seen.append(concurrency.limit)
    assert seen == [8, 4, 2, 1, 1, 1]
    provider.rounds(3, 0.1)
    assert concurrency.limit == (4 if throttled else 8)  # what was only away comes back at full speed


@pytest.mark.parametrize("throttled", [False, True])
def test_failures_within_one_round_halve_it_once_and_those_of_a_later_round_again(throttled: bool) -> None:
    concurrency = Concurrency()
    provider = Provider(concurrency)
    provider.rounds(10, 0.1)
    provider.failures(16, throttled)
    assert concurrency.limit == 8
    concurrency.failed(throttled, provider.now + 0.09)
    assert concurrency.limit == 8
    concurrency.failed(throttled, provider.now + 0.11)
    assert concurrency.limit == 4
    provider.failures(4, throttled)
    assert concurrency.limit == 2


def test_that_fewer_were_asked_for_counts_also_within_a_round_of_other_failures() -> None:
    concurrency = Concurrency()
    provider = Provider(concurrency)
    provider.rounds(10, 0.1)
    provider.failures(1)
    concurrency.failed(True, provider.now)
    assert concurrency.limit == 8
    provider.rounds(2, 0.1)
    assert concurrency.limit == 10  # one by one


def test_it_grows_only_after_as_many_as_allowed_were_under_way_since_it_was_halved() -> None:
    concurrency = Concurrency()
    for turn in range(1, 10):
        concurrency.answered(0.1, turn * 1.0, 0.0)
    assert concurrency.limit == 1
    concurrency.began(1)
    concurrency.failed(False, 10.0)
    concurrency.answered(0.1, 20.0, 0.0)
    assert concurrency.limit == 1
    concurrency.began(1)
    concurrency.answered(0.1, 30.0, 0.0)
    assert concurrency.limit == 2


def test_within_a_round_nothing_changes() -> None:
    concurrency = Concurrency()
    provider = Provider(concurrency)
    provider.rounds(1, 0.1)
    assert concurrency.limit == 2
    concurrency.began(2)
    concurrency.answered(0.1, provider.now + 0.05, provider.worked)
    assert concurrency.limit == 2


def test_what_was_at_work_before_the_first_answer_says_nothing_of_its_round() -> None:
    concurrency = Concurrency()
    concurrency.began(1)
    concurrency.answered(0.1, 1000.0, 900.0)
    assert concurrency.limit == 2
