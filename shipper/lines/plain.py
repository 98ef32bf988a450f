"""Lines to events without looking into them, one by one: for lines that the decoder, or a sink, has died of.

The text as a page shows it (`text.clean`), masked and redacted, level info, the time of the capture: what it says of
itself is not read. What begins like a JSON object gets the ``json: `` in front that the decoder gives to some: see
`decoder`. Nothing is joined. The user's filters hold, but for the level, which nobody has looked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shipper.journal.numbering import STREAM_NAMES
from shipper.lines.decoder import changed_since, counted
from shipper.lines.events import NONE_LEFT, Events, Left, Record, both
from shipper.lines.levels import INFO
from shipper.lines.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from shipper.lines.batch import Batch
    from shipper.lines.filters import Filters
    from shipper.lines.masking import Masker

_EMPTY: Left = (1, 0, 0)
_EXCLUDED: Left = (0, 0, 1)


def plain(
    batch: Batch,
    at: Callable[[int], AbstractContextManager[None]],
    filters: Filters | None = None,
    masker: Masker | None = None,
) -> Events:
    """``at`` is entered with a line's number while that is at work. ``filters``: of levels nothing is known here."""
    before = counted(masker, filters)
    records: list[Record] = []
    sizes: list[int] = []
    lines: list[bytes] = []
    left: dict[int, Left] = {}
    pending = NONE_LEFT
    times = iter([*batch.times, (len(batch.lines), 0)])
    time_ms, (following, next_ns) = 0, next(times)
    low = min((time_ns for _, time_ns in batch.times), default=0) // 1_000_000
    high = max((time_ns for _, time_ns in batch.times), default=0) // 1_000_000
    for index, line in enumerate(batch.lines):
        while index >= following:
            time_ms, (following, next_ns) = next_ns // 1_000_000, next(times)
        if not line.strip() and index not in batch.parts:
            pending = both(pending, _EMPTY)
            continue
        with at(batch.first_seq + index):
            part = batch.parts.get(index, 0)
            whole = line if part else line.removesuffix(b"\r")
            if masker is not None:
                (whole,) = masker.mask([whole])
            printed = whole.decode(errors="replace")
            text = clean(printed)
            if masker is not None and text != printed:  # something may have stood within a secret
                text = masker.text(text)
            if not part and not text.strip():
                pending = both(pending, _EMPTY)
                continue
            if filters is not None:
                if filters.excludes(whole):
                    pending = both(pending, _EXCLUDED)
                    continue
                text = filters.text(text, part)
            if text != printed:
                whole = text.encode()
            record = _record(text, time_ms, batch.first_seq + index)
        if pending != NONE_LEFT:
            record["skipped"], left[len(records)], pending = sum(pending), pending, NONE_LEFT
        if index in batch.parts:
            record["part"] = batch.parts[index]
        records.append(record)
        sizes.append(len(line))
        lines.append(whole)
    return Events(
        STREAM_NAMES[batch.stream], records, [INFO] * len(records), sizes,
        floor_ms=low, ceiling_ms=high, lines=lines, left=left, trailing=pending,
        changes=changed_since(before, masker, filters),
    )  # fmt: skip


def _record(text: str, time_ms: int, seq: int) -> Record:
    return {"message": f"json: {text}" if text.lstrip().startswith("{") else text, "timestamp": time_ms, "seq": seq}
