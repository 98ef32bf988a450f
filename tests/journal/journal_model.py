"""What the journal should say of some bytes, worked out the slow and plain way; and small helpers for its tests."""

from __future__ import annotations

import codecs
import os

from shipper.journal.facts import Facts
from shipper.journal.reader import End, Gap, Lines, RunReader, State
from shipper.journal.writer import JournalWriter

MIB = 1 << 20


def facts(max_line: int = 16, run: str = "0123456789abcdef", started_ns: int = 1_700_000_000_000_000_000) -> Facts:
    return Facts(run, "host-1", "agent-1", "svc", (("team", "voice"),), ("datadog",), max_line, started_ns, "agent.py")


def writer(directory: str, max_line: int = 16, max_bytes: int = MIB, **more: object) -> JournalWriter:
    return JournalWriter.create([directory], facts(max_line, **more), max_bytes)  # type: ignore[arg-type]


def lines_of(data: bytes, max_line: int, ended: bool) -> list[tuple[int, bytes, int]]:
    """(seq, line, part) of a stream that printed ``data``; part 0 for a line that is whole."""
    *whole, rest = data.split(b"\n")
    if ended and rest:
        whole.append(rest)
        rest = b""
    numbered: list[tuple[int, bytes, int]] = []
    seq = 1
    for line in whole:
        if len(line) <= max_line:
            numbered.append((seq, line, 0))
            seq += 1
            continue
        for part, start in enumerate(range(0, len(line), max_line), 1):
            numbered.append((seq, piece_of(line, start, max_line), part))
            seq += 1
    # pieces that are full, and known not to be the last
    for part, start in enumerate(range(0, len(rest), max_line), 1):
        if len(rest) > start + max_line:
            numbered.append((seq, piece_of(rest, start, max_line), part))
            seq += 1
    return numbered


def piece_of(line: bytes, start: int, max_line: int) -> bytes:
    """The piece of a line that begins at ``start``: what would cut a character of UTF-8 goes with the next one."""
    begin, end = (place - cut_off(line[max(place - max_line - 3, 0) : place]) for place in (start, start + max_line))
    return line[begin:end] if start + max_line < len(line) else line[begin:]


def cut_off(data: bytes) -> int:
    """How many bytes at the end are the beginning of a character, as Python's own decoder has it."""
    if len(data) < 4:
        return 0
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(data)
    return len(decoder.getstate()[0])


def read_all(run: str, state: State | None = None, dead: bool = True) -> tuple[list[Lines | Gap | End], State]:
    """Every item from ``state`` on, and the state at the end."""
    reader = RunReader(run)
    state = state or State.start()
    items: list[Lines | Gap | End] = []
    try:
        while True:
            window, state = reader.read(state, dead)
            items += window.items
            if window.at_end:
                return items, state
    finally:
        reader.close()


def numbered(items: list[Lines | Gap | End], stream: int) -> list[tuple[int, bytes, int]]:
    """(seq, line, part) of one stream's lines among ``items``."""
    return [
        (batch.first_seq + index, line, batch.parts.get(index, 0))
        for batch in items
        if isinstance(batch, Lines) and batch.stream == stream
        for index, line in enumerate(batch.lines)
    ]


def gaps(items: list[Lines | Gap | End], stream: int) -> list[tuple[int, int, str]]:
    return [(i.first_seq, i.last_seq, i.reason) for i in items if isinstance(i, Gap) and i.stream == stream]


def segments(run: str) -> list[str]:
    return sorted(os.path.join(run, name) for name in os.listdir(run) if name.endswith(".seg"))
