"""Time stamps of all usual forms give the moment they name; anything else gives none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.lines.times import DAY_MS, SPREAD_MS, Times

NOON = datetime(2026, 11, 24, 12, 0, 0, 31_000, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000 + 31


def moment(value: object, capture_ms: int = NOON_MS) -> int | None:
    times = Times()
    times.begin([capture_ms])
    (first,) = times.column([value], [capture_ms])
    try:
        assert times.ms(value, capture_ms) == first  # in bulk and alone
    except KeyError:
        assert first is None
    return first


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-24T12:00:00.031Z", "2026-11-24T12:00:00.031410+00:00", "2026-11-24T12:00:00.031",
        "2026-11-24 12:00:00,031",
        "2026-11-24T13:00:00.031+01:00", "2026-11-24T17:30:00.031999999+0530", "2026-11-23T22:30:00.031-13:30",
        NOON_MS, NOON_MS / 1000, NOON_MS * 1000 + 410, NOON_MS * 1_000_000 + 410_999,
        str(NOON_MS), f"{NOON_MS / 1000:.6f}", "2026-11-24 12:00:00.031",
    ],
)  # fmt: skip
def test_all_forms_of_one_moment_are_that_moment(value: object) -> None:
    assert moment(value) == NOON_MS


@pytest.mark.parametrize("value", ["2026-11-24T12:00:00Z", "2026-11-24T12:00", "2026-11-24T14:00:00+02:00", 1795521600])
def test_a_stamp_without_fraction_is_the_whole_second(value: object) -> None:
    assert moment(value) == NOON_MS - 31


@pytest.mark.parametrize(
    "value",
    [
        "", "now", "12:00:00", "2026-11-24", "20261124", "2026-W48-2", "2026-13-24T12:00:00.031Z",
        "2026-11-24T12:00:00.031+99:99", "2026-11-24T12:00:00.031 UTC+", "2026-11-24T12:00:00.0314x0+00:00",
        "2026-11-24T12:00:60.031Z", "2026-11-24T12:00:00.031" + "0" * 99, True, None, [], {}, 0, -1, 12, 1e300,
        float("nan"),
        float("inf"), 2**63, "٢٠٢٦-11-24T12:00:00.031Z", "9999-12-31T23:59:59.999-14:00",
    ],
)  # fmt: skip
def test_what_is_no_moment_of_these_days_is_none(value: object) -> None:
    assert moment(value) is None


@pytest.mark.parametrize(
    ("off_ms", "used"), [(DAY_MS, True), (DAY_MS + 1, False), (-DAY_MS, True), (-DAY_MS - 1, False)]
)
def test_a_moment_counts_up_to_a_day_from_the_capture(off_ms: int, used: bool) -> None:
    stamp = datetime.fromtimestamp((NOON_MS + off_ms) / 1000, UTC).isoformat()
    assert moment(stamp) == (NOON_MS + off_ms if used else None)
    assert moment(NOON_MS + off_ms) == (NOON_MS + off_ms if used else None)


@given(
    st.datetimes(min_value=datetime(2026, 11, 24), max_value=datetime(2026, 11, 25)),  # noqa: DTZ001
    st.integers(-24 * 60 + 1, 24 * 60 - 1),
    st.sampled_from(["T", " "]),
    st.sampled_from(["milliseconds", "microseconds", "seconds"]),
)
def test_a_stamp_means_what_datetime_says_it_means(naive: datetime, offset_min: int, sep: str, spec: str) -> None:
    stamp = naive.replace(tzinfo=timezone(timedelta(minutes=offset_min))).isoformat(sep, spec)
    expected = (datetime.fromisoformat(stamp) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert moment(stamp, expected) == expected


@given(st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.from_regex(r"\d{4}-\d\d-\d\dT.{5,25}")))
def test_nothing_is_raised_but_key_error(value: object) -> None:
    moment(value)


COLUMN: st.SearchStrategy[list[object]] = st.lists(
    st.one_of(
        st.datetimes(min_value=datetime(2026, 11, 22), max_value=datetime(2026, 11, 27)).map(  # noqa: DTZ001
            lambda naive: naive.isoformat() + "+00:00"
        ),
        st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
        st.integers(NOON_MS - 2 * DAY_MS, NOON_MS + 2 * DAY_MS),
        st.sampled_from([NOON_MS / 1000, "now", None, True, [], {}, "2026-11-24T12:00", "20261124T120000Z"]),
    ),
    min_size=1,
    max_size=6,
)


@given(COLUMN, st.lists(st.sampled_from([0, 5, 3_599_999, 3_600_000, -DAY_MS, 3 * DAY_MS]), min_size=6, max_size=6))
def test_a_column_holds_what_each_value_says_alone(values: list[object], later_ms: list[int]) -> None:
    captures = [NOON_MS + ms for ms in later_ms[: len(values)]]
    times = Times()
    times.begin(captures)
    found = times.column(values, captures)
    for value, capture_ms, time_ms in zip(values, captures, found, strict=True):
        try:
            assert times.ms(value, capture_ms) == time_ms
        except KeyError:
            assert time_ms is None
        assert time_ms is None or time_ms >= times.oldest_ms
    assert times.oldest_ms >= min(captures) - max(SPREAD_MS, DAY_MS)


def test_a_clock_far_off_is_no_trouble() -> None:
    for capture_ms in (0, -DAY_MS, 1, 253_402_300_799_000, 9 * 10**15):
        assert moment("2026-11-24T12:00:00.031Z", capture_ms) is None


def printed(stamp: str, capture: datetime = NOON) -> str | None:
    """The moment of a stamp in front of a text, without its date where that is the capture's."""
    times = Times()
    capture_ms = round(capture.timestamp() * 1000)
    times.begin([capture_ms])
    try:
        found = times.printed(stamp, capture_ms)
    except KeyError:
        return None
    assert times.oldest_ms <= found <= times.newest_ms
    assert times.printed(stamp, capture_ms) == found  # also when the second is known
    moment = datetime.fromtimestamp(found / 1000, UTC)
    text = moment.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    return text.removeprefix(f"{capture:%F} ")


@pytest.mark.parametrize(
    ("stamp", "moment"),
    [
        ("2026-11-24 11:55:35,080", "11:55:35.080"), ("2026-11-24T11:55:35.080123Z", "11:55:35.080"),
        ("2026-11-24 12:55:35.080 +0100", "11:55:35.080"), ("2026-11-24 11:55:35.080 UTC", "11:55:35.080"),
        ("2026/11/24 11:55:35.080123", "11:55:35.080"), ("2026-11-24T11:55:35.1Z", "11:55:35.100"),
        ("11:55:35.080", "11:55:35.080"), ("11:55:35,080", "11:55:35.080"),
        ("1124 11:55:35.080123", "11:55:35.080"),
        # whole seconds and minutes are as long as they are, and the capture tells where in them
        ("2026-11-24 12:00:00", "12:00:00.031"), ("2026-11-24 11:59:59", "11:59:59.999"),
        ("2026-11-24 12:00:01", "12:00:01.000"), ("2026/11/24 12:00:00", "12:00:00.031"),
        ("24/Nov/2026:13:00:00 +0100", "12:00:00.031"), ("24/Nov/2026 12:00:00", "12:00:00.031"),
        ("Nov 24 12:00:00", "12:00:00.031"), ("12:00:00", "12:00:00.031"), ("12:00PM", "12:00:00.031"),
        ("11:59AM", "11:59:59.999"), ("12:01PM", "12:01:00.000"), ("1:00:05PM", "13:00:05.000"),
        # the nearest day
        ("23:59:59.500", "23:59:59.500"), ("00:00:00.500", "00:00:00.500"), ("12:01AM", "00:01:59.999"),
        # no moment, or none within a day
        ("2026-11-22 12:00:00,000", None), ("2026-11-26 12:00:00,000", None), ("1122 12:00:00.000000", None),
        ("2026-13-24 12:00:00,000", None), ("2026-11-24 25:00:00", None), ("25:61:61", None), ("99:99:99", None),
        ("0229 12:00:00.000000", None), ("24/Nov/20x6:12:00:00", None), ("Nov 31 12:00:00", None), ("13:61PM", None),
        ("", None), ("---------- ::::::::", None), ("24", None), ("2026-11-24", "00:00:00.999"),
    ],
)  # fmt: skip
def test_a_stamp_in_front_of_a_text_is_this_moment(stamp: str, moment: str | None) -> None:
    assert printed(stamp) == moment


@pytest.mark.parametrize(
    ("stamp", "capture", "moment"),
    [
        ("23:59:59.900", datetime(2027, 1, 1, 0, 0, 0, 50_000, UTC), "2026-12-31 23:59:59.900"),
        ("00:00:00.010", datetime(2026, 12, 31, 23, 59, 59, 990_000, UTC), "2027-01-01 00:00:00.010"),
        ("1231 23:59:59.900000", datetime(2027, 1, 1, 0, 0, 0, 50_000, UTC), "2026-12-31 23:59:59.900"),
        ("0101 00:00:00.010000", datetime(2026, 12, 31, 23, 59, 59, 990_000, UTC), "2027-01-01 00:00:00.010"),
        ("Dec 31 23:59:59", datetime(2027, 1, 1, 0, 0, 0, 50_000, UTC), "2026-12-31 23:59:59.999"),
        ("0229 12:00:00.000000", datetime(2028, 2, 29, 12, 0, 0, 50_000, UTC), "12:00:00.000"),
    ],
)
def test_a_stamp_without_date_or_year_is_of_the_nearest_one(stamp: str, capture: datetime, moment: str) -> None:
    assert printed(stamp, capture) == moment


@given(st.lists(st.integers(0, 3000), min_size=2, max_size=8).map(sorted))
def test_stamps_of_whole_seconds_keep_the_order_of_the_captures(after_ms: list[int]) -> None:
    times = Times()
    found = []
    for late in after_ms:
        capture_ms = NOON_MS + late
        times.begin([capture_ms])
        stamp = datetime.fromtimestamp((capture_ms - 5) // 1000, UTC)
        found.append(times.printed(f"{stamp:%F %T}", capture_ms))
    assert found == sorted(found)


@given(st.text(st.sampled_from("0123456789-/:., TZAPMUCNov+"), max_size=30), st.integers(-(2**62), 2**62))
def test_whatever_stands_there_raises_nothing_but_a_key_error(stamp: str, capture_ms: int) -> None:
    times = Times()
    times.begin([capture_ms])
    try:
        assert abs(times.printed(stamp, capture_ms) - capture_ms) <= DAY_MS
    except KeyError:
        pass
