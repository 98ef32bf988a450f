"""Time stamps as agents print them, to milliseconds since 1970.

ISO 8601 as `datetime.fromisoformat` reads it, with date and time; without an offset it counts as UTC (containers run
on it). Numbers are seconds, milliseconds, microseconds or nanoseconds by their size; the borders lie at 1e11, 1e14 and
1e17, so for the unit below them in the year 5138 and for the one above in 1973: no moment of today's can be mistaken.

The hot path splits a stamp after the milliseconds, `2026-11-24T03:55:29.031` and `410+00:00`, and looks both halves up:
measured 0.13 us against 0.24 us for `fromisoformat` and the arithmetic after it. The first half is the same for all
lines of a millisecond, the second has a thousand values an offset. Only heads near the capture are kept and only tails
of offsets that exist, so that a moment found there needs no check against the capture.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_HEAD = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]\d{3}", re.ASCII)
_TAIL = re.compile(r"\d{0,6}(?:Z|[+-]\d\d:?\d\d)?", re.ASCII)
_WHOLE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", re.ASCII)
_DIGITS = re.compile(r"\d{10,19}(?:\.\d+)?", re.ASCII)

DAY_MS = 86_400_000
SPREAD_MS = 17 * 3_600_000
"""A moment found in the tables lies within this of the capture (drift, nearness and offset together, and some)."""
_DRIFT_MS = 3_600_000 // 2  # captures this far from the first one empty the table of heads
_NEAR_MS = 3_600_000  # heads this close to the first capture are kept
_OFFSET_MS = 14 * 3_600_000  # UTC+14, the greatest offset in use

_MAX_KEPT = 4096  # entries a table, some 0.4 MB when full
_LONGEST = 64  # characters of a stamp that is looked at
_MAX_MS = 253_402_300_800_000  # year 10000


class Times:
    """``heads[stamp[:23]] + tails[stamp[23:]]`` is a stamp's moment when both are there; `ms` also fills them."""

    def __init__(self) -> None:
        self.heads: dict[str, int] = {}
        self.tails: dict[str, int] = {}
        self.oldest_ms = 0  # of the moments that `ms` gave since somebody set this
        self._anchor_ms = 0

    def near(self, first_ms: int, last_ms: int) -> dict[str, int]:
        """The heads for lines captured within these moments; empty where these lie too far apart for a table."""
        if not -_DRIFT_MS < first_ms - self._anchor_ms < _DRIFT_MS:
            self._anchor_ms = first_ms
            self.heads.clear()
        return self.heads if last_ms - first_ms < _DRIFT_MS else {}

    def ms(self, value: object, capture_ms: int) -> int:
        """Milliseconds since 1970. KeyError for what is no moment, or lies more than a day from the capture."""
        time_ms = None
        if isinstance(value, str):
            if len(value) <= _LONGEST:
                time_ms = self._text(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            time_ms = _number(value)
        if time_ms is None or not -DAY_MS <= time_ms - capture_ms <= DAY_MS:
            raise KeyError
        self.oldest_ms = min(self.oldest_ms, time_ms)
        return time_ms

    def _text(self, stamp: str) -> int | None:
        head, tail = stamp[:23], stamp[23:]
        head_ms = self.heads.get(head)
        if head_ms is None:
            if not _HEAD.fullmatch(head):
                if _DIGITS.fullmatch(stamp):
                    return _number(float(stamp) if "." in stamp else int(stamp))
                return _iso(stamp) if _WHOLE.match(stamp) else None
            head_ms = _iso(head)
            if head_ms is None:
                return None
            if abs(head_ms - self._anchor_ms) <= _NEAR_MS:
                _keep(self.heads, head, head_ms)
        tail_ms = self.tails.get(tail)
        if tail_ms is None:
            if not _TAIL.fullmatch(tail):
                return None
            moment = _iso("1970-01-02T00:00:00.000" + tail)  # a day on, so that no offset leads before 1970
            if moment is None:
                return None
            tail_ms = moment - DAY_MS
            if abs(tail_ms) <= _OFFSET_MS:
                _keep(self.tails, tail, tail_ms)
        return head_ms + tail_ms


def _keep(table: dict[str, int], key: str, value: int) -> None:
    if len(table) >= _MAX_KEPT:
        table.clear()
    table[key] = value


def _iso(stamp: str) -> int | None:
    try:
        moment = datetime.fromisoformat(stamp)
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MS
    except (ValueError, OverflowError):
        return None


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
