"""A few seconds of tests/fuzz/fuzz_sandbox.py, and what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzz_sandbox import CHANGE, GOOD, HEAD_SIZE, SEEDS, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

heads = st.tuples(
    st.integers(0, len(GOOD) - 1), st.integers(0, 9), st.integers(0, 79), st.integers(0, 11), st.integers(0, 11),
    st.sampled_from([0, 0, 0, 1, 2]),
).map(bytes)  # fmt: skip
changes = st.tuples(st.integers(0, 5), st.integers(0, 400), st.integers(0, 255)).map(lambda some: CHANGE.pack(*some))
inputs = st.tuples(heads, st.lists(changes, max_size=4).map(b"".join) | st.binary(max_size=60)).map(b"".join)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    target = Target()
    yield target
    target.close()


@pytest.mark.parametrize("which", range(len(GOOD)))
def test_what_it_begins_with_is_taken(target: Target, which: int) -> None:
    assert target.check(bytes([which])) in (200, 202, 400)  # 400: the group is there already


@settings(max_examples=500)
@given(inputs)
def test_no_request_is_answered_as_a_fault_of_the_sandbox(target: Target, some: bytes) -> None:
    target.check(some)


def test_each_seed_of_the_longer_form_is_survived(target: Target) -> None:
    assert all(len(seed) == HEAD_SIZE for seed in SEEDS)
    for seed in SEEDS:
        target.check(seed)
