"""A few seconds of tests/fuzz/fuzz_reader.py, and what it found."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzz_reader import CHANGE, SEEDS, check, make

TRUTH = make()
changes = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 3000), st.integers(0, 30), st.integers(0, 255)).map(
        lambda change: CHANGE.pack(*change)
    ),
    max_size=6,
).map(b"".join)


def test_unchanged_it_is_read_whole() -> None:
    check(TRUTH, b"")
    assert all(TRUTH.lost.values())  # so that there is something to tell apart


@pytest.mark.parametrize("some", SEEDS, ids=lambda change: change.hex())
def test_each_kind_of_change_is_survived(some: bytes) -> None:
    check(TRUTH, some)


@pytest.mark.parametrize(
    "some",
    [
        CHANGE.pack(11, 0, 3, 115),  # an end of the run whose JSON nests 100,000 levels deep: RecursionError
        CHANGE.pack(11, 0, 1, 5),  # a loss up to line 1e999: OverflowError
    ],
    ids=["deep", "infinite"],
)
def test_what_once_failed_does_not_any_more(some: bytes) -> None:
    check(TRUTH, some)


@settings(max_examples=300)
@given(changes)
def test_no_change_gives_a_line_that_was_not_printed(some: bytes) -> None:
    check(TRUTH, some)
