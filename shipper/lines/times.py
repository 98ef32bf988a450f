"""Time stamps as agents print them, to milliseconds since 1970.

ISO 8601 as `datetime.fromisoformat` reads it, with date and time; without an offset it counts as UTC (containers run
on it). Numbers are seconds, milliseconds, microseconds or nanoseconds by their size; the borders lie at 1e11, 1e14 and
1e17, so for the unit below them in the year 5138 and for the one above in 1973: no moment of today's can be mistaken.

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
