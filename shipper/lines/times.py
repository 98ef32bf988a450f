"""Time stamps as agents print them, to milliseconds since 1970.

ISO 8601 as `datetime.fromisoformat` reads it, with date and time; without an offset it counts as UTC (containers run
on it). Numbers are seconds, milliseconds, microseconds or nanoseconds by their size; the borders lie at 1e11, 1e14 and
1e17, so for the unit below them in the year 5138 and for the one above in 1973: no moment of today's can be mistaken.

Stamps of text lines may lack more. Without a date or a year they are of the moment nearest to the capture. One of whole
seconds or minutes stands for that second or minute, of which the capture tells the part where it falls into it: Go's
log prints 03:55:35 for what happened at 35.9, and a line of another logger's at 35.5 would else come after it.

A column of stamps is read by C loops and checked as a whole: 0.15 us a stamp, whatever they are. Looking both halves
of a stamp up in tables (up to the milliseconds, and the rest) took 0.13 us where many lines share a millisecond and
1 us for the first of each; three look-ups, to the second, the millisecond and the rest, 0.22 us.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import sub
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_MS = timedelta(milliseconds=1)
_NOTHING, _DAY = timedelta(0), timedelta(days=1)
_WHOLE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", re.ASCII)
_DIGITS = re.compile(r"\d{10,19}(?:\.\d+)?", re.ASCII)

DAY_MS = 86_400_000
SPREAD_MS = DAY_MS // 2 + 1000
"""A moment found in bulk is at most this much before the first capture."""
NEAR_MS = 3_600_000
"""A number this close to the capture's is milliseconds, and needs no other look."""
_TOGETHER_MS = 3_600_000  # captures of a batch that lie closer together than this are read in bulk

_MONTHS = {name: month for month, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}  # noqa: SIM905

_POINT = (".", ",")

_LONGEST = 64  # characters of a stamp without an offset
_MAX_MS = 253_402_300_800_000  # year 10000


class Times:
    """Reads the stamps of one batch after another."""

    def __init__(self) -> None:
        self.oldest_ms = 0  # no moment of this batch is older
        self.newest_ms = 0  # nor newer than this
        self._together = False
        self._base_ms = 0
        self._base = _EPOCH
        self._second, self._second_ms = "", 0  # "2026-11-24 03:55:35," of the last stamp in front of a text

    def begin(self, captures: list[int]) -> None:
        """A batch with lines captured at these moments."""
        first_ms, last_ms = min(captures, default=0), max(captures, default=0)
        self.oldest_ms = first_ms - SPREAD_MS
        self.newest_ms = last_ms + NEAR_MS
        self._together = last_ms - first_ms < _TOGETHER_MS and 0 <= first_ms < _MAX_MS
        base_ms = (first_ms - DAY_MS // 2) // 1000 * 1000
        if self._together and base_ms != self._base_ms:
            self._base_ms = base_ms
            self._base = _EPOCH + base_ms * _MS

    def column(self, values: Sequence[object], captures: Sequence[int]) -> list[int | None]:
        """What `ms` says of each; None for a KeyError."""
        if self._together:
            base_ms = self._base_ms
            try:
                ages = list(map(sub, map(datetime.fromisoformat, values), repeat(self._base)))  # type: ignore[arg-type]
                newest = max(ages)
                if min(ages) >= _NOTHING and newest < _DAY:
                    self.newest_ms = max(self.newest_ms, base_ms + newest // _MS)
                    return [base_ms + age.seconds * 1000 + age.microseconds // 1000 for age in ages]
            except (TypeError, ValueError):  # no text, no stamp, or none with an offset
                if set(map(type, values)) == {int}:
                    numbers: list[int | None] = list(values)  # type: ignore[arg-type]
                    newest_ms: int = max(numbers)  # type: ignore[type-var, assignment]
                    if min(numbers) >= base_ms and newest_ms < base_ms + DAY_MS:  # type: ignore[type-var, operator]
                        self.newest_ms = max(self.newest_ms, newest_ms)
                        return numbers
        return [self._maybe(value, capture_ms) for value, capture_ms in zip(values, captures, strict=True)]

    def _maybe(self, value: object, capture_ms: int) -> int | None:
        try:
            return self.ms(value, capture_ms)
        except KeyError:
            return None

    def ms(self, value: object, capture_ms: int) -> int:
        """Milliseconds since 1970. KeyError for what is no moment, or lies more than a day from the capture."""
        time_ms = None
        if isinstance(value, str):
            time_ms = _text(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            time_ms = _number(value)
        if time_ms is None or not -DAY_MS <= time_ms - capture_ms <= DAY_MS:
            raise KeyError
        self.oldest_ms = min(self.oldest_ms, time_ms)
        self.newest_ms = max(self.newest_ms, time_ms)
        return time_ms

    def printed(self, stamp: str, capture_ms: int) -> int:
        """The same of a stamp in front of a text, as `formats` finds it."""
        time_ms: int | None = None
        second, fraction = stamp[:20], stamp[20:]
        if second == self._second and len(fraction) == 3 and fraction.isdecimal():
            time_ms = self._second_ms + int(fraction)
        else:
            time_ms = _printed(stamp, capture_ms)
            if time_ms is not None and second[-1:] in _POINT and second[4] == "-" and len(fraction) == 3:
                self._second, self._second_ms = second, time_ms - time_ms % 1000
        if time_ms is None or not -DAY_MS <= time_ms - capture_ms <= DAY_MS:
            raise KeyError
        if time_ms < self.oldest_ms:
            self.oldest_ms = time_ms
        elif time_ms > self.newest_ms:
            self.newest_ms = time_ms
        return time_ms


def _printed(stamp: str, capture_ms: int) -> int | None:
    try:
        if stamp[4:5] in "-/":
            return _iso(stamp, capture_ms)
        if stamp[2:3] == ":" or stamp[1:2] == ":":
            return _clock(stamp, capture_ms)
        if stamp[2:3] == "/":  # 24/Nov/2026:03:55:35 +0000
            offset = stamp[21:].replace(" ", "") or "+0000"
            date = f"{stamp[7:11]}-{_MONTHS[stamp[3:6]]:02}-{stamp[:2]}"
            return _iso(f"{date} {stamp[12:20]}{offset}", capture_ms)
        if stamp[:1].isdigit():  # 1124 03:55:35.080123
            return _of_some_year(int(stamp[:2]), int(stamp[2:4]), stamp[5:], capture_ms)
        return _of_some_year(_MONTHS[stamp[:3]], int(stamp[4:6]), stamp[7:], capture_ms)  # Nov 24 03:55:35
    except (KeyError, ValueError, OverflowError):
        return None


def _iso(stamp: str, capture_ms: int) -> int:
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        rest = stamp[19:].removesuffix("UTC").replace(" ", "")
        moment = datetime.fromisoformat(stamp[:19].replace("/", "-") + rest)
    time_ms = (moment - (_NAIVE_EPOCH if moment.tzinfo is None else _EPOCH)) // _MS
    return time_ms if stamp[19:20] in _POINT else _within(time_ms, 1000, capture_ms)


def _clock(stamp: str, capture_ms: int) -> int:
    """03:55:35, 03:55:35.080, 3:55AM."""
    half = stamp[-2:]
    hours, minutes, *seconds = stamp.removesuffix(half).split(":") if half in ("AM", "PM") else stamp.split(":")
    hour = int(hours) % 12 + 12 * (half == "PM") if half in ("AM", "PM") else int(hours)
    second = float(seconds[0].replace(",", ".")) if seconds else 0.0
    if not (hour < 24 and int(minutes) < 60 and second < 61):
        raise ValueError
    day_ms = hour * 3_600_000 + int(minutes) * 60_000 + int(second * 1000 + 0.0005)
    time_ms = capture_ms - capture_ms % DAY_MS + day_ms
    time_ms += DAY_MS * ((time_ms < capture_ms - DAY_MS // 2) - (time_ms > capture_ms + DAY_MS // 2))
    if not seconds:
        return _within(time_ms, 60_000, capture_ms)
    return time_ms if len(seconds[0]) > 2 else _within(time_ms, 1000, capture_ms)


def _of_some_year(month: int, day: int, clock: str, capture_ms: int) -> int:
    """Of the year in which it lies within a day of the capture; else ValueError."""
    year = (_EPOCH + capture_ms * _MS).year
    for other in (year, year - 1, year + 1):
        time_ms = _iso(f"{other:04}-{month:02}-{day:02} {clock}", capture_ms)
        if abs(time_ms - capture_ms) <= DAY_MS:
            return time_ms
    raise ValueError


def _within(time_ms: int, resolution_ms: int, capture_ms: int) -> int:
    return max(time_ms, min(capture_ms, time_ms + resolution_ms - 1))


def _text(stamp: str) -> int | None:
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        moment = None
    if moment is not None and moment.tzinfo is not None:
        return (moment - _EPOCH) // _MS
    if len(stamp) > _LONGEST:
        return None
    if _DIGITS.fullmatch(stamp):
        return _number(float(stamp) if "." in stamp else int(stamp))
    return (moment.replace(tzinfo=UTC) - _EPOCH) // _MS if moment is not None and _WHOLE.match(stamp) else None


def _number(value: float) -> int | None:
    if not 1e8 < value < 1e19:  # also NaN; before 1973 in seconds
        return None
    if value < 1e11:
        ms = int(value * 1000 + 0.0005)  # 1795492207.08 s is a hair below its 80 ms as a double
    elif value < 1e14:
        ms = int(value)
    elif value < 1e17:
        ms = int(value) // 1000
    else:
        ms = int(value) // 1_000_000
    return ms if ms < _MAX_MS else None
