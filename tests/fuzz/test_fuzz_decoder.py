"""A few seconds of tests/fuzz/fuzz_decoder.py, and what it found."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzz_decoder import SEEDS, check

SEED = st.sampled_from(SEEDS).map(lambda seed: seed[1:])
CUT = st.tuples(SEED, st.integers(0, 400), st.integers(0, 400)).map(lambda some: some[0][some[1] : some[1] + some[2]])
PARTS = st.one_of(
    SEED, CUT, st.binary(max_size=12), st.sampled_from([b"\n", b"\r", b"\x1b[", b"{", b'"', b"ERROR", b" "])
)


@pytest.mark.parametrize("some", SEEDS)
def test_each_format_passes(some: bytes) -> None:
    check(some)


@settings(max_examples=300)
@given(st.integers(0, 255), st.lists(PARTS, max_size=6).map(b"".join))
def test_parts_of_formats_put_together_are_survived(choice: int, some: bytes) -> None:
    check(bytes([choice]) + some)
