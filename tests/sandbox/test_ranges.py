"""The set of ranges against a plain set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.sandbox import ranges
from shipper.sandbox.ranges import Ranges, inclusive

SPANS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 12)).map(lambda span: (span[0], sum(span))), max_size=40)


def expand(pairs: object) -> list[int]:
    return [number for start, end in pairs for number in range(start, end)]  # type: ignore[attr-defined]


@given(SPANS)
def test_it_holds_what_a_set_would_hold(spans: list[tuple[int, int]]) -> None:
    numbers, model = Ranges(), set[int]()
    for start, end in spans:
        again = numbers.add(start, end)
        assert expand(again) == sorted(model & set(range(start, end)))
        model |= set(range(start, end))
        assert expand(numbers.pairs()) == sorted(model)
        assert numbers.covered == len(model)
    highest = max(model, default=0)
    gone = sorted(set(range(1, highest + 1)) - model)
    assert expand(numbers.gaps()) == gone
    assert numbers.missing() == len(gone)
    # Ranges never touch, or there would be more of them than needed.
    assert all(end < start for end, start in zip(numbers.ends, numbers.starts[1:], strict=False))


@given(SPANS, st.integers(1, 80), st.integers(0, 30))
def test_it_counts_what_lies_within_a_span(spans: list[tuple[int, int]], start: int, length: int) -> None:
    numbers, model = Ranges(), set[int]()
    for a, b in spans:
        numbers.add(a, b)
        model |= set(range(a, b))
    assert numbers.within(start, start + length) == len(model & set(range(start, start + length)))


def test_a_million_numbers_in_order_are_one_range() -> None:
    numbers = Ranges()
    for number in range(1, 1_000_001):
        numbers.add(number, number + 1)
    assert list(numbers.pairs()) == [(1, 1_000_001)]


def test_it_stays_bounded_when_every_other_number_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "MAX_RANGES", 10)
    numbers = Ranges()
    for number in range(1, 2001, 2):
        numbers.add(number, number + 1)
    assert len(numbers.starts) == 10
    assert numbers.missing() == 999  # 2, 4, … 1998
    assert numbers.assumed == 990
    assert numbers.gaps()[-1] == (1998, 1999)


def test_ranges_leave_as_first_and_last() -> None:
    assert inclusive([(1, 3), (5, 6), (8, 10)], 2) == [[1, 2], [5, 5]]
