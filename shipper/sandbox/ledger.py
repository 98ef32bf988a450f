"""Which lines of each run and stream came, did not come, and came again.

Every event of shipper's carries `run`, `stream` and `seq`; `lines` when it joins more than one; `skipped` when that
many lines before it were left out on purpose. So it accounts for the numbers seq-skipped .. seq+lines-1, and within a
run and stream those follow each other without a hole from 1 on, or something is missing. A line that came twice
(delivery is at least once) is a repeat and no gap.

An event of shipper's own has no `seq`; one that announces a loss carries `first_seq` and `last_seq`, and a gap that was
announced is not `unexplained`. It may carry `skipped` too: lines left out before `first_seq`, and among the announced
ones when `lost` is less than there are numbers.

Nothing of a line is kept, only ranges of numbers: millions of lines in order cost one range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shipper.sandbox.ranges import Ranges, inclusive

MAX_STREAMS = 4_096
"""Pairs of run and stream that are told apart; later ones are counted together as `untracked`."""

MAX_NAME = 128
"""Characters of a run's or a stream's name that are kept: shipper's have 16 and 6."""

MAX_NUMBER = 2**53
"""Highest number taken for a `seq`: what JavaScript, and with it the page, can still count exactly."""

SHOWN_RANGES = 100
"""Ranges that a summary lists of each kind; the counts beside them are exact."""


class StreamLedger:
    """The numbers of one stream of one run, as one provider got them."""

    __slots__ = ("again", "announced", "events", "last_ms", "lines", "repeats", "run", "seen", "stream")

    def __init__(self, run: str, stream: str) -> None:
        self.run = run
        self.stream = stream
        self.events = 0
        self.lines = 0
        self.repeats = 0  # numbers that came again, each time counted
        self.seen = Ranges()
        self.again = Ranges()
        self.announced = Ranges()
        self.last_ms = 0

    def add(self, start: int, end: int) -> None:
        for a, b in self.seen.add(start, end):
            self.repeats += b - a
            self.again.add(a, b)

    def summary(self) -> dict[str, object]:
        gaps = self.seen.gaps()
        announced = sum(self.announced.within(a, b) for a, b in gaps)
        missing = self.seen.missing()
        return {
            "run": self.run,
            "stream": self.stream,
            "events": self.events,
            "lines": self.lines,
            "first_seq": self.seen.starts[0] if self.seen.starts else None,
            "last_seq": self.seen.ends[-1] - 1 if self.seen.ends else None,
            "missing": missing,
            "unexplained": max(0, missing - announced),
            "gaps": inclusive(gaps, SHOWN_RANGES),
            "announced": inclusive(self.announced.pairs(), SHOWN_RANGES),
            "repeats": self.repeats,
            "repeated": inclusive(self.again.pairs(), SHOWN_RANGES),
            "exact": not (self.seen.assumed or self.again.assumed or self.announced.assumed),
            "last_ms": self.last_ms,
        }


class Ledger:
    """Every run and stream that one provider got."""

    __slots__ = ("_streams", "own", "unnumbered", "untracked")

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str], StreamLedger] = {}
        self.own = 0  # events of shipper's own
        self.unnumbered = 0  # events with no usable number that are not shipper's own
        self.untracked = 0  # events of runs beyond MAX_STREAMS

    def streams(self) -> list[StreamLedger]:
        return list(self._streams.values())

    def take(self, entries: Iterable[Mapping[str, Any]], shared: Mapping[str, Any], now_ms: int) -> set[str]:
        """Count one request's entries; `shared` holds what they have in common. Return the runs among them."""
        runs: set[str] = set()
        ledger: StreamLedger | None = None
        shared_run, shared_stream = shared.get("run"), shared.get("stream")
        current_run: object = None
        current_stream: object = None
        start = end = events = lines = 0
        for entry in entries:
            seq = entry.get("seq")
            run = entry.get("run", shared_run)
            stream = entry.get("stream", shared_stream)
            if type(seq) is not int or not 0 < seq < MAX_NUMBER or type(run) is not str:
                self._unnumbered(entry, run, stream, now_ms)
                if type(run) is str:
                    runs.add(run[:MAX_NAME])
                continue
            if run != current_run or stream != current_stream:
                if ledger is not None:
                    _settle(ledger, start, end, events, lines, now_ms)
                start = end = events = lines = 0
                current_run, current_stream = run, stream
                ledger = self._stream(run, stream)
                runs.add(run[:MAX_NAME])
            if ledger is None:
                self.untracked += 1
                continue
            joined = _count(entry.get("lines"), 1, seq)
            skipped = entry.get("skipped")
            first = seq if skipped is None else seq - _count(skipped, 0, seq)
            if first == end:
                end = seq + joined
            else:
                if end:
                    ledger.add(start, end)
                start, end = first, seq + joined
            events += 1
            lines += joined
        if ledger is not None:
            _settle(ledger, start, end, events, lines, now_ms)
        return runs

    def _stream(self, run: str, stream: object) -> StreamLedger | None:
        key = (run[:MAX_NAME], stream[:MAX_NAME] if type(stream) is str else "")
        found = self._streams.get(key)
        if found is None and len(self._streams) < MAX_STREAMS:
            found = self._streams[key] = StreamLedger(*key)
        return found

    def _unnumbered(self, entry: Mapping[str, Any], run: object, stream: object, now_ms: int) -> None:
        if entry.get("logger") != "shipper":
            self.unnumbered += 1
            return
        self.own += 1
        first, last = entry.get("first_seq"), entry.get("last_seq")
        if type(run) is str and type(first) is int and type(last) is int and 0 < first <= last < MAX_NUMBER:
            ledger = self._stream(run, stream)
            if ledger is not None:
                ledger.announced.add(first, last + 1)
                lost, skipped = entry.get("lost"), entry.get("skipped")
                if type(lost) is int and type(skipped) is int:
                    before = skipped - max(0, last + 1 - first - lost)
                    if 0 < before < first:
                        ledger.add(first - before, first)
                ledger.last_ms = now_ms


def _count(value: object, least: int, seq: int) -> int:
    """`lines` or `skipped` when it is a number that can be; else `least`. What is skipped lies before `seq`."""
    if type(value) is not int or value < least or value >= MAX_NUMBER or (least == 0 and value >= seq):
        return least
    return value


def _settle(ledger: StreamLedger, start: int, end: int, events: int, lines: int, now_ms: int) -> None:
    if end:
        ledger.add(start, end)
    ledger.events += events
    ledger.lines += lines
    ledger.last_ms = now_ms
