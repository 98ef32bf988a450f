"""Lines to events without looking into them, one by one: for lines that the decoder, or a sink, has died of.

The text as it stands, level info, the time of the capture. What begins like a JSON object gets the ``json: `` in front
that the decoder gives to some: see `decoder`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shipper.journal.numbering import STREAM_NAMES
from shipper.lines.events import Events, Record
from shipper.lines.levels import INFO

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from shipper.lines.batch import Batch


def plain(batch: Batch, at: Callable[[int], AbstractContextManager[None]]) -> Events:
    """``at`` is entered with a line's number while that is at work."""
    records: list[Record] = []
    sizes: list[int] = []
    lines: list[bytes] = []
    skipped = 0
    times = iter([*batch.times, (len(batch.lines), 0)])
    time_ms, (following, next_ns) = 0, next(times)
    low = min((time_ns for _, time_ns in batch.times), default=0) // 1_000_000
    high = max((time_ns for _, time_ns in batch.times), default=0) // 1_000_000
    for index, line in enumerate(batch.lines):
        while index >= following:
            time_ms, (following, next_ns) = next_ns // 1_000_000, next(times)
        if not line.strip() and index not in batch.parts:
            skipped += 1
            continue
        with at(batch.first_seq + index):
            whole = line if index in batch.parts else line.removesuffix(b"\r")
            record = _record(whole, time_ms, batch.first_seq + index)
        if skipped:
            record["skipped"], skipped = skipped, 0
        if index in batch.parts:
            record["part"] = batch.parts[index]
        records.append(record)
        sizes.append(len(line))
        lines.append(line)
    return Events(
        STREAM_NAMES[batch.stream], records, [INFO] * len(records), sizes,
        trailing_skipped=skipped, floor_ms=low, ceiling_ms=high, lines=lines,
    )  # fmt: skip


def _record(line: bytes, time_ms: int, seq: int) -> Record:
    text = line.decode(errors="replace")
    return {"message": f"json: {text}" if text.lstrip().startswith("{") else text, "timestamp": time_ms, "seq": seq}
