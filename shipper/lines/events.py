"""What lines became: one JSON-ready object an event, made once and shared by all sinks."""

from __future__ import annotations

from itertools import compress
from types import MappingProxyType
from typing import TYPE_CHECKING

from shipper.lines.levels import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Record = dict[str, object]
"""An event as every provider gets it, whatever it wraps around it:

message     text, cleaned as `text` has it; control characters other than tab and newline may still be in some of JSON
timestamp   ms since 1970, wall time: the agent's own where it gave one, else the capture's
seq         number of the (first) line; not in events of our own
part, skipped, lines    number of the piece; lines left out before it; lines joined. Only when there are any
run         FREE for the sink that is serialising: see `sinks.base.RECORDS`
and what the agent's JSON line held besides message, level and time, under names that are none of ours (names.CLAIMED).
"""


LEFT_REASONS = ("empty", "level", "exclude")
"""Why a line is left out: nothing is to be seen of it, SHIPPER_LEVEL, SHIPPER_EXCLUDE."""

Left = tuple[int, int, int]
"""How many lines were left out, for each of `LEFT_REASONS`."""

NONE_LEFT: Left = (0, 0, 0)
_NOWHERE: Mapping[int, Left] = MappingProxyType({})


def both(one: Left, other: Left) -> Left:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


class Events:
    """Columns, one entry an event. Not changed once made, but for the slot `run` of the records.

    stream           "stdout" or "stderr"
    records          see `Record`
    levels           index into `LEVELS`
    sizes            bytes of the line, or of all that it joins
    counts           how many lines an event stands for; None where each is one
    lines            the lines themselves, where the decoder was told to keep them; else None
    left             lines left out directly before an event, by its index; only where there are any
    trailing         lines left out after the last event, which the stream's next event has to carry
    floor_ms         no event is older than this; the oldest one may be younger by `times.SPREAD_MS`
    changes          how often something was masked, redacted or was personal, as `masked`, `redacted`, `pii`
    ceiling_ms       no event is newer than this; the newest one may be older by `times.NEAR_MS`
    """

    __slots__ = (
        "ceiling_ms", "changes", "counts", "floor_ms", "left", "levels", "lines", "records", "sizes", "stream",
        "trailing",
    )  # fmt: skip

    def __init__(
        self,
        stream: str,
        records: list[Record],
        levels: list[int],
        sizes: list[int],
        *,
        floor_ms: int,
        ceiling_ms: int,
        lines: Sequence[bytes] | None = None,
        counts: Sequence[int] | None = None,
        left: Mapping[int, Left] = _NOWHERE,
        trailing: Left = NONE_LEFT,
        changes: Mapping[str, int] | None = None,
    ) -> None:
        self.stream = stream
        self.records = records
        self.levels = levels
        self.sizes = sizes
        self.counts = counts
        self.left = left
        self.trailing = trailing
        self.floor_ms = floor_ms
        self.ceiling_ms = ceiling_ms
        self.lines = lines
        self.changes = changes

    @property
    def count(self) -> int:
        return len(self.records)

    @property
    def trailing_skipped(self) -> int:
        return sum(self.trailing)

    def lines_in(self, start: int, end: int) -> int:
        """How many lines events ``start`` to ``end`` stand for."""
        return end - start if self.counts is None else sum(self.counts[start:end])

    def left_in(self, start: int, end: int) -> Left:
        """Lines left out before each of the events ``start`` to ``end``, all together."""
        left, found = self.left, NONE_LEFT
        if left:
            # whichever is shorter: a piece may be taken apart event by event
            few = range(start, end) if end - start < len(left) else [index for index in left if start <= index < end]
            for index in few:
                if index in left:
                    found = both(found, left[index])
        return found

    @property
    def seqs(self) -> list[int]:
        """Numbers of the (first) lines, 0 for an event of our own. Made at each call."""
        return [record.get("seq", 0) for record in self.records]  # type: ignore[misc]

    @property
    def messages(self) -> list[str]:
        """Made at each call."""
        return [record["message"] for record in self.records]  # type: ignore[misc]

    @property
    def times_ms(self) -> list[int]:
        """Made at each call."""
        return [record["timestamp"] for record in self.records]  # type: ignore[misc]

    @classmethod
    def notice(cls, stream: str, time_ms: int, level: str, message: str, fields: Mapping[str, object]) -> Events:
        """One event of our own, with ``logger`` = shipper. ``level`` is one of `LEVELS`, else ValueError.

        ``fields`` may hold `run` and `stream`: they are the run's own, which the sink writes anyway.
        """
        record: Record = {
            "message": message,
            "timestamp": time_ms,
            **{name: value for name, value in fields.items() if name not in ("run", "stream")},
            "logger": "shipper",
        }
        level_index = LEVELS.index(level)
        return cls(
            stream, [record], [level_index], [len(message)],
            floor_ms=time_ms, ceiling_ms=time_ms, lines=[message.encode(errors="replace")],
        )  # fmt: skip

    def with_left(self, left: Left, told: int = 0) -> Events:
        """The same events, with so many more lines left out before the first one (there must be one).

        ``told``: further ones, which its record has to tell of and `left` has not to count.
        """
        first = self.records[0]
        before = first.get("skipped", 0)
        assert isinstance(before, int)  # noqa: S101 (ours: the agent's own is agent.skipped)
        return Events(
            self.stream,
            [{**first, "skipped": before + sum(left) + told}, *self.records[1:]],
            self.levels,
            self.sizes,
            floor_ms=self.floor_ms,
            ceiling_ms=self.ceiling_ms,
            lines=self.lines,
            counts=self.counts,
            left={**self.left, 0: both(self.left.get(0, NONE_LEFT), left)},
            trailing=self.trailing,
            changes=self.changes,
        )

    def without(self, verdicts: Sequence[int]) -> Events:
        """The same events but for those whose verdict is not 0: it is the index into `LEFT_REASONS` of why.

        What they stood for is left out before the event that follows, and its record tells so. Changes that record.
        """
        left: dict[int, Left] = {}
        kept: list[bool] = []
        pending = [0, 0, 0]
        index = 0
        counts = self.counts
        for number, (verdict, record) in enumerate(zip(verdicts, self.records, strict=True)):
            before = self.left.get(number)
            if before:
                pending = [one + more for one, more in zip(pending, before, strict=True)]
            kept.append(not verdict)
            if verdict:
                pending[verdict] += 1 if counts is None else counts[number]
                continue
            if any(pending):
                left[index] = (pending[0], pending[1], pending[2])
                record["skipped"] = sum(pending)
                pending = [0, 0, 0]
            index += 1
        return Events(
            self.stream,
            list(compress(self.records, kept)),
            list(compress(self.levels, kept)),
            list(compress(self.sizes, kept)),
            floor_ms=self.floor_ms,
            ceiling_ms=self.ceiling_ms,
            lines=None if self.lines is None else list(compress(self.lines, kept)),
            counts=None if counts is None else list(compress(counts, kept)),
            left=left,
            trailing=both((pending[0], pending[1], pending[2]), self.trailing),
            changes=self.changes,
        )
