"""How many requests to a provider are under way at once: what its latency needs, and no more than it bears.

Once a round (about one answer's time) the mean time of the round's answers is held against that of earlier rounds.
Longer by more than it usually varies: one tenth fewer. Otherwise one more, if as many as allowed were under way; twice
as many until it was first too much. After an answer that asks for fewer requests, or none at all: half. That is
additive increase and multiplicative decrease, as in Vector's adaptive concurrency (vectordotdev/vector
src/sinks/util/adaptive_concurrency, read 2026-11), whose share of 0.9, weight of 0.4 and 2.5 deviations these are.
"""

from __future__ import annotations

MOST = 16
"""Requests; of 1,000 lines each, at 100 ms an answer, 160,000 lines a second."""

_WEIGHT = 0.4
_DEVIATIONS = 2.5
_SHARE = 0.9
_NEAR = 0.25
"""Of the usual time: a difference of less says nothing, however even the answers were."""
_BUSY, _VERY_BUSY = 0.6, 0.85
"""Share of a round in which this process was at work. Above it more requests under way gain nothing, and above the
second they cost memory and caches: then it is we who are slow."""


class Concurrency:
    """``limit``: requests that may be under way. Times are seconds."""

    def __init__(self, most: int = MOST) -> None:
        self.limit = 1
        self._most = most
        self._doubling = True
        self._reached = False
        self._usual = 0.0
        self._deviation = 0.0
        self._total = 0.0
        self._answers = 0
        self._round_began = 0.0
        self._round_ends = 0.0
        self._worked = 0.0
        self._failures_end = 0.0

    def began(self, under_way: int) -> None:
        """A request was begun; so many are under way with it."""
        if under_way >= self.limit:
            self._reached = True

    def answered(self, seconds: float, now: float, worked: float) -> None:
        """A request was taken after so long. ``now``: monotonic; ``worked``: this process's CPU time so far."""
        self._total += seconds
        self._answers += 1
        if now < self._round_ends:
            return
        mean = self._total / self._answers
        busy = (worked - self._worked) / max(now - self._round_began, 1e-9) if self._round_began else 0.0
        self._total, self._answers = 0.0, 0
        self._round_began, self._round_ends, self._worked = now, now + mean, worked
        if not self._usual:
            self._usual = mean
        if mean - self._usual > max(_DEVIATIONS * self._deviation, _NEAR * self._usual):
            self._doubling = False
            self.limit = max(1, int(self.limit * _SHARE))
        elif busy > _VERY_BUSY:
            self.limit = max(1, self.limit - 1)
        elif self._reached and busy <= _BUSY:
            self.limit = min(self._most, self.limit * 2 if self._doubling else self.limit + 1)
        self._reached = False
        self._deviation += _WEIGHT * (abs(mean - self._usual) - self._deviation)
        self._usual += _WEIGHT * (mean - self._usual)

    def failed(self, throttled: bool, now: float) -> None:
        """A request was not taken for now. ``throttled``: fewer were asked for. Once a round it counts."""
        self._doubling = self._doubling and not throttled
        if now < self._failures_end:
            return
        self._failures_end = now + self._usual
        self._reached = False
        self.limit = max(1, self.limit // 2)
