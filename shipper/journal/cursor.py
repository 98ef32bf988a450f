"""A sink's cursor in a run: what the provider has accepted. How it is kept: `slots`."""

from __future__ import annotations

import os

from shipper.journal.slots import SlotFile, read_slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CURSOR_PREFIX = "cursor-"
SLOT_BYTES = 4096


class CursorFile(SlotFile):
    """Open for one writer; `read` is for anybody.

    The values are a JSON object: ``streams`` {"1": [segment, offset, seq], …}: a frame at or before the first line that
    was not yet accepted, and that line's number; ``complete``: the run is over and all of it accepted, the closing
    event included; the counters; ``health``: how the sink does, see `delivery.health`.
    """

    def __init__(self, run: str, sink: str) -> None:
        """Opens or creates it. Raises OSError."""
        super().__init__(os.path.join(run, CURSOR_PREFIX + sink), SLOT_BYTES)

    @staticmethod
    def read(run: str, sink: str) -> dict[str, Any] | None:
        """The values last committed; None when there are none or it cannot be read."""
        return read_slots(os.path.join(run, CURSOR_PREFIX + sink), SLOT_BYTES)
