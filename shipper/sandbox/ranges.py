"""A set of integers kept as sorted ranges that do not touch: 5, 6, 7, 9 is [5, 8) and [9, 10).

In-order additions only move the last end. Anything else costs a bisection and, rarely, a merge.
Ranges are half-open inside and inclusive where they leave for people and JSON (`inclusive`).

Bounded: past `MAX_RANGES` the two lowest ranges are joined, and `assumed` counts the numbers between them: `gaps()`
then no longer names the oldest gaps, while `missing()` still counts them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import islice

MAX_RANGES = 10_000
"""Ranges a set keeps: 10,000 of them are about 1 MB. A stream that really misses more is broken in another way."""


class Ranges:
    """Integers from 1 up. `covered` is how many were added, each counted once."""

    __slots__ = ("assumed", "covered", "ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.covered = 0
        self.assumed = 0

    def add(self, start: int, end: int) -> list[tuple[int, int]]:
        """Add start..end-1. Return the parts of it, half-open, that were there before; usually none."""
        starts, ends = self.starts, self.ends
        if not ends or start > ends[-1]:
            starts.append(start)
            ends.append(end)
            self.covered += end - start
            if len(starts) > MAX_RANGES:
                self._join_lowest()
            return []
        if start == ends[-1]:
            ends[-1] = end
            self.covered += end - start
            return []
        # The ranges that overlap or touch start..end are those from `low` to before `high`.
        low = bisect_left(ends, start)
        high = bisect_right(starts, end)
        before = [
            (max(start, a), min(end, b)) for a, b in zip(starts[low:high], ends[low:high], strict=True) if a < end
        ]
        before = [(a, b) for a, b in before if a < b]
        self.covered += end - start - sum(b - a for a, b in before)
        if low < high:
            start = min(start, starts[low])
            end = max(end, ends[high - 1])
        starts[low:high] = [start]
        ends[low:high] = [end]
        if len(starts) > MAX_RANGES:
            self._join_lowest()
        return before

    def _join_lowest(self) -> None:
        self.assumed += self.starts[1] - self.ends[0]
        del self.starts[1], self.ends[0]

    def missing(self) -> int:
        """How many of 1..the highest number were never added."""
        return self.ends[-1] - 1 - self.covered if self.ends else 0

    def gaps(self) -> list[tuple[int, int]]:
        """What lies between 1 and the highest number and was never added, half-open, lowest first."""
        if not self.starts:
            return []
        found = [(1, self.starts[0])] if self.starts[0] > 1 else []
        found.extend(zip(self.ends[:-1], self.starts[1:], strict=True))
        return found

    def within(self, start: int, end: int) -> int:
        """How many of start..end-1 were added."""
        low, high = bisect_left(self.ends, start), bisect_right(self.starts, end)
        return sum(
            max(0, min(end, b) - max(start, a)) for a, b in zip(self.starts[low:high], self.ends[low:high], strict=True)
        )

    def pairs(self) -> Iterable[tuple[int, int]]:
        """The ranges themselves, half-open, lowest first."""
        return zip(self.starts, self.ends, strict=True)


def inclusive(ranges: Iterable[tuple[int, int]], limit: int) -> list[list[int]]:
    """The first `limit` of these half-open ranges as inclusive [first, last] pairs."""
    return [[start, end - 1] for start, end in islice(ranges, limit)]
