"""What lines became: one JSON-ready object an event, made once and shared by all sinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shipper.lines.levels import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Record = dict[str, object]
"""An event as every provider gets it, whatever it wraps around it:

message     text; NUL and control characters are still in it
timestamp   ms since 1970, wall time: the agent's own where it gave one, else the capture's
seq         number of the (first) line; not in events of our own
part, skipped, lines    number of the piece; empty lines left out before it; lines joined. Only when there are any
run         FREE for the sink that is serialising: see `sinks.base.RECORDS`
and what the agent's JSON line held besides message, level and time, under names that are none of ours (names.CLAIMED).
"""


class Events:
    """Columns, one entry an event. Not changed once made, but for the slot `run` of the records.

    stream           "stdout" or "stderr"
    records          see `Record`
    levels           index into `LEVELS`
    sizes            bytes of the line
    lines            the lines themselves, where the decoder was told to keep them; else None
    trailing_skipped empty lines after the last event, which the stream's next event has to carry
    floor_ms         no event is older than this; the oldest one may be younger by `times.SPREAD_MS`
    ceiling_ms       no event is newer than this; the newest one may be older by `times.NEAR_MS`
    """

    __slots__ = ("ceiling_ms", "floor_ms", "levels", "lines", "records", "sizes", "stream", "trailing_skipped")

    def __init__(
        self,
        stream: str,
        records: list[Record],
        levels: list[int],
        sizes: list[int],
        *,
        trailing_skipped: int,
        floor_ms: int,
        ceiling_ms: int,
        lines: Sequence[bytes] | None = None,
    ) -> None:
        self.stream = stream
        self.records = records
        self.levels = levels
        self.sizes = sizes
        self.trailing_skipped = trailing_skipped
        self.floor_ms = floor_ms
        self.ceiling_ms = ceiling_ms
        self.lines = lines

    @property
    def count(self) -> int:
        return len(self.records)

    @property
    def seqs(self) -> list[int]:
        """Numbers of the lines, 0 for an event of our own. Made at each call."""
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
            trailing_skipped=0, floor_ms=time_ms, ceiling_ms=time_ms, lines=[message.encode(errors="replace")],
        )  # fmt: skip

    def with_skipped(self, skipped: int) -> Events:
        """The same events, with so many more lines left out before the first one (there must be one)."""
        first = self.records[0]
        before = first.get("skipped", 0)
        assert isinstance(before, int)  # noqa: S101 (ours: the agent's own is agent.skipped)
        return Events(
            self.stream,
            [{**first, "skipped": before + skipped}, *self.records[1:]],
            self.levels,
            self.sizes,
            trailing_skipped=self.trailing_skipped,
            floor_ms=self.floor_ms,
            ceiling_ms=self.ceiling_ms,
            lines=self.lines,
        )
