"""Durations, sizes and shares as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.config.units import parse_duration, parse_percent, parse_size, size_in_words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8s", 8.0),
        ("500ms", 0.5),
        ("1m", 60.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("0.5h", 1800.0),
        ("7", 7.0),
        ("0", 0.0),
        (".5", 0.5),
        ("2.", 2.0),
        (" 8 s ", 8.0),
        ("8S", 8.0),
        ("250MS", 0.25),
    ],
)
def test_durations_are_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("0", 0),
        ("12B", 12),
        ("128MiB", 128 * 2**20),
        ("256KiB", 256 * 2**10),
        ("2GiB", 2 * 2**30),
        ("1kB", 1000),
        ("1MB", 1_000_000),
        ("1GB", 1_000_000_000),
        ("64K", 64 * 2**10),
        ("64m", 64 * 2**20),
        ("1G", 2**30),
        ("128Mi", 128 * 2**20),
        ("1.5MiB", 3 * 2**19),
        (" 1 MiB ", 2**20),
    ],
)
def test_sizes_are_read_as_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "fraction"), [("10%", 0.1), ("100%", 1.0), ("0%", 0.0), ("2.5%", 0.025), (" 7 % ", 0.07), (".5%", 0.005)]
)
def test_percentages_are_read_as_fractions(text: str, fraction: float) -> None:
    assert parse_percent(text) == pytest.approx(fraction)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (99.9 * 2**10, "99.9 KiB"),
        (100 * 2**10, "100 KiB"),
        (128 * 2**20, "128 MiB"),
        (3 * 2**29, "1.5 GiB"),
        (5000 * 2**40, "5,000 TiB"),
    ],
)
def test_sizes_are_shown_in_the_largest_unit_that_they_fill(size: float, words: str) -> None:
    assert size_in_words(size) == words


WRONG = [
    "", " ", ".", "s", "ms", "MiB", "-1", "-1s", "+1s", "1e3", "1e3s", "nan", "inf", "infs", "1_000", "0x10", "1.2.3",
    "1,5s", "8 bananas", "8s8s", "1h30m", "٣s", "½", "8\x00s", "9" * 400, "9" * 400 + "MiB",
]  # fmt: skip


@pytest.mark.parametrize("text", [*WRONG, "8MiB", "8d"])
def test_what_is_no_duration_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="a time such as 500ms, 8s, 1m or 1h"):
        parse_duration(text)


@pytest.mark.parametrize("text", [*WRONG, "8s", "8KKB", "8TB"])
def test_what_is_no_size_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="a size such as 4096, 256KiB, 128MiB or 1GB"):
        parse_size(text)


@pytest.mark.parametrize("text", [*WRONG, "10", "0.1", "%", "%10", "10%%", "10%s", "10s%", "-1%", "ten%"])
def test_what_is_no_percentage_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="a percentage such as 10%"):
        parse_percent(text)


@given(st.text() | st.text().map("{}%".format))
def test_any_text_is_a_finite_value_or_a_value_error(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_percent):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert 0 <= value < 1e30


@given(st.integers(0, 2**53))
def test_a_number_of_bytes_is_itself(size: int) -> None:
    assert parse_size(str(size)) == parse_size(f"{size}B") == size
