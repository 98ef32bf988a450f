"""An agent's crash, as an event of our own for a provider that keeps such apart from lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shipper.lines.events import Events
from shipper.lines.levels import CRITICAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Crash(Events):
    """One event, alone in its request, and only for a sink that `tells_crashes`.

    ``end``: as in the run's end marker (`journal.ending`); ``words``: the same as a sentence without its full stop.
    ``tail``: the run's last lines, pieces of both streams in the order in which they were read, decoded as all are.
    """

    __slots__ = ("end", "tail", "words")

    def __init__(self, end: Mapping[str, Any], words: str, time_ms: int, tail: Sequence[Events]) -> None:
        record: dict[str, object] = {"message": words, "timestamp": time_ms, "logger": "shipper"}
        super().__init__(
            "stdout", [record], [CRITICAL], [len(words)], floor_ms=time_ms, ceiling_ms=time_ms,
            lines=[words.encode(errors="replace")],
        )  # fmt: skip
        self.end = end
        self.words = words
        self.tail = tail
