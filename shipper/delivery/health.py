"""How a sink does, in words and times: what ``shipper status`` shows of it besides the counters."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shipper import messages
from shipper.journal.facts import dump_json

if TYPE_CHECKING:
    from collections.abc import Mapping

WELL, WAITING, PARKED, JOURNAL = "well", "waiting", "parked", "journal"
LEFT_OUT = "left_out"  # there is not memory enough: such a sink has no sender, and its worker says so in its cursor

MAX_CHARACTERS = 200
MAX_ERROR = 400  # bytes of JSON: they fit a cursor's slot beside everything else, of which 40 announcements are most


class Health:
    """``values``, as they stand in a cursor: ``state``, one of the above; ``until``: when it is tried again, wall time
    in ns, 0 for unknown; ``error``: the last one, in words, and ``error_at``, when that was, wall time in ns;
    ``clock_off``, when it is known to be wrong: seconds that our clock is ahead of the provider's."""

    def __init__(self) -> None:
        self.values: dict[str, str | int] = {"state": WELL, "until": 0, "error": "", "error_at": 0}

    def become(self, state: str, seconds: float | None = None) -> bool:
        """``seconds`` until the next attempt. Whether anything has changed."""
        until = 0 if seconds is None else time.time_ns() + int(seconds * 1e9)
        changed = (state, until) != (self.values["state"], self.values["until"])
        self.values.update(state=state, until=until)
        return changed

    def failed(self, why: str) -> None:
        """``why`` holds no secret and no line: it is an error's of `sinks.base`."""
        why = " ".join(messages.masked(why).split())
        if len(why) > MAX_CHARACTERS or len(dump_json({"": why})) > MAX_ERROR:
            why = why[: MAX_CHARACTERS - 1]
            while len(dump_json({"": f"{why}…"})) > MAX_ERROR:
                why = why[:-1]
            why += "…"
        self.values.update(error=why, error_at=time.time_ns())

    def recall(self, before: Mapping[str, object]) -> None:
        """What a worker before this one knew of the last error, unless there has been another."""
        error, at = before.get("error"), before.get("error_at")
        if not self.values["error_at"] and isinstance(error, str) and isinstance(at, int):
            self.values.update(error=error, error_at=at)
