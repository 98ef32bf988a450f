"""The decoder, and all four encoders, against lines that somebody made up.

An input is what a stream held, cut at its newlines. Whatever it is, nothing raises; every line is an event or counted
as left out, in order; every message is what was printed but for what no screen shows; and every body is JSON of it.
"""

from __future__ import annotations

import re

from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.text import clean
from tests.lines.table import CAPTURE_MS, arrived, entries, lines_of

DAY_MS = 86_400_000
LOGFMT = re.compile(r"[\w.@-]+=.*\b(?:msg|level|lvl|severity)=|(?:msg|level|lvl|severity)=", re.ASCII)


def check(data: bytes) -> None:
    """``data``: its first byte says which of the lines are pieces, and whether the clock jumps between two reads."""
    choice, lines = (data[0], data[1:].split(b"\n")) if data else (0, [b""])
    parts = {index: index % 3 + 1 for index in range(len(lines)) if choice & 1 and index % 4 == choice >> 2 & 3}
    times = [(0, CAPTURE_MS * 10**6)]
    if choice & 2 and len(lines) > 1:
        times.append((len(lines) // 2, (CAPTURE_MS + (choice - 128) * DAY_MS // 64) * 10**6))
    events = Decoder(keep_lines=True).decode(Batch(1 + choice % 2, lines, 1, times, parts))
    reached = 0
    for record, seq in zip(events.records, events.seqs, strict=True):
        skipped = record.get("skipped", 0)
        assert isinstance(skipped, int)
        assert seq == reached + 1 + skipped
        reached = seq
        message, capture_ms = record["message"], times[len(times) - 1 if len(times) > 1 and seq > times[1][0] else 0][1]
        assert isinstance(message, str)
        assert "\x1b" not in message
        assert "\0" not in message
        assert isinstance(record["timestamp"], int)
        assert abs(record["timestamp"] - capture_ms // 10**6) <= DAY_MS
        assert events.floor_ms <= record["timestamp"] <= events.ceiling_ms
        line = lines[seq - 1]
        if not line.lstrip().startswith(b"{") and len(record) == 3 + ("skipped" in record):
            shown = clean(line.decode(errors="replace")).strip()
            assert shown == message.removeprefix("json: ").strip() or LOGFMT.match(shown)
    assert reached + events.trailing_skipped == len(lines)
    for index in range(min(events.count, 3)):
        arrived(events, index)


SEEDS = [b"\0" + b"\n".join(lines_of(entry)) for entry in entries()]
