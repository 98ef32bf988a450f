"""The journal's reader against segments that somebody or something changed.

An input is a list of changes, five bytes each, to a run of three segments of which every line is known. Whatever they
are, the reader ends, raises nothing, and says of each number either what was printed under it or that it is lost, in
order and once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from shipper.delivery.feed import Context, Feed
from shipper.journal.facts import Facts
from shipper.journal.frames import DATA, FRAME_SIZE, LOSS, RUN_END, STREAM_END, pack, scan
from shipper.journal.numbering import STREAMS, summarize
from shipper.journal.reader import CORRUPT, Gap, Lines, RunReader, State
from shipper.journal.runs import list_segments, read_facts, segment_path
from shipper.journal.writer import JournalWriter
from tests.journal.journal_model import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE = 16
CHANGE = Struct("<BHBB")
FACTS = Facts("0123456789abcdef", "host", "agent", "svc", (), ("datadog",), MAX_LINE, 1, "agent.py")
CRAFTED = [
    b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b'{"after":[1e999,0,0],"reason":"x","bytes":0}',
    b'{"after":[-5,-7,99999999999999999999],"reason":"x"}', b'{"after":[1,2,3,4,5],"reason":1}',
    b'{"after":[1000000000000,12345678901234,9000000000],"reason":"x"}', b'{"streams":{"1":[NaN,0,0],"2":[1,0,0]}}',
    b'{"streams":{"1":[1,99999999,99],"2":["9","0","0"]}}', b'{"streams":[1],"facts":{}}', b"\n" * 70_000, b"x" * 40,
]  # fmt: skip
"""Payloads that the writer never writes, in frames whose checksums are right."""


class Truth(NamedTuple):
    """``lines``: number → line and part, by stream; ``lost``: numbers that the writer says are lost."""

    segments: list[bytes]
    lines: dict[int, dict[int, tuple[bytes, int]]]
    lost: dict[int, set[int]]


def make() -> Truth:
    """A run of three segments, with a loss, pieces, empty lines, and an end."""
    place = tempfile.mkdtemp(prefix="shipper-fuzz-")
    try:
        writer = JournalWriter.create([place], FACTS, 1 << 20)
        printed = dict.fromkeys(STREAMS, b"")
        number = 0
        for segment in range(3):
            if segment:
                assert writer._next_segment()
            for step in range(8):
                stream = STREAMS[step % 3 == 2]
                data = b"".join(b"line %d\n" % n for n in range(number, number + 3)) + b"\n" * (step % 2)
                data += (b"begin", b"a longer line than fits\n", b"0123456789abcdef", b"")[step % 4]
                number += 3
                if step in (4, 5):
                    writer.skip(stream, summarize(data, MAX_LINE), number, number, "journal_stalled")
                else:
                    writer.append([(stream, number, number, data)])
                printed[stream] += data
        for stream in STREAMS:
            writer.end_stream(stream)
        writer.end({"exit_status": 0})
        writer.close()
        os.close(writer.lock_fd)
        segments = []
        for index in list_segments(writer.path):
            with open(segment_path(writer.path, index), "rb") as file:
                segments.append(file.read())
        lines = {
            stream: {seq: (line, part) for seq, line, part in lines_of(printed[stream], MAX_LINE, ended=True)}
            for stream in STREAMS
        }
        lost = {stream: set(lines[stream]) - set(_read(writer.path)[0][stream]) for stream in STREAMS}
        return Truth(segments, lines, lost)
    finally:
        shutil.rmtree(place)


def change(segments: list[bytes], changes: bytes) -> tuple[list[bytes], bool]:
    """The segments after the changes, and whether all that is in them still comes from the writer."""
    segments = list(segments)
    honest = True
    for operation, at, which, size in CHANGE.iter_unpack(changes[: len(changes) // CHANGE.size * CHANGE.size]):
        if not segments:
            break
        index = which % len(segments)
        old = segments[index]
        at = at % (len(old) + 1)
        other = segments[size % len(segments)]
        frames = list(scan(old))
        match operation % 12:
            case 0:  # a bit
                new = old[:at] + bytes([old[at] ^ 1 << size % 8]) + old[at + 1 :] if at < len(old) else old
            case 1:
                new = old[:at]
            case 2:
                new = old[:at] + bytes([size]) * (which + 1) + old[at:]
            case 3:
                new = old[:at] + old[at + size + 1 :]
            case 4:  # as after a power cut
                new = (old[:at] + bytes(size * 16) + old[at + size * 16 :])[: len(old)]
            case 5 if frames:  # a frame once more, somewhere else
                frame, place = frames[size % len(frames)], frames[at % len(frames)].offset
                new = old[:place] + old[frame.offset : frame.end] + old[place:]
            case 6 if frames:  # a frame less
                frame = frames[size % len(frames)]
                new = old[: frame.offset] + old[frame.end :]
            case 7:
                segments[index], segments[size % len(segments)] = other, old
                continue
            case 8:
                del segments[index]
                continue
            case 9:  # a segment's part in the midst of another
                new = old[:at] + other[: size * 16] + old[at:]
            case 10:  # a header in the midst of a line
                new = old[:at] + old[:FRAME_SIZE] + old[at:]
            case 11:  # right by its checksums, and not the writer's
                honest = False
                payload = CRAFTED[size % len(CRAFTED)]
                kind = (DATA, LOSS, STREAM_END, RUN_END, 5, 9)[which % 6]
                huge = (0, 1, 5, 2**63, 2**64 - 1)[at % 5]
                place = frames[at % len(frames)].offset if frames else 0
                stream = which // 6 % 4
                new = old[:place] + pack(kind, stream, 2**62, -(2**62), huge, at, huge, payload) + payload + old[place:]
            case _:
                continue
        segments[index] = new
    return segments, honest


def _read(
    run: str, dead: bool = True, honest: bool = True
) -> tuple[dict[int, dict[int, tuple[bytes, int]]], dict[int, list[Gap]], int]:
    """Lines and gaps by stream, and the windows that it took. Each number once, where checksums cannot lie."""
    lines: dict[int, dict[int, tuple[bytes, int]]] = {stream: {} for stream in STREAMS}
    gaps: dict[int, list[Gap]] = {stream: [] for stream in STREAMS}
    reader = RunReader(run, FACTS)
    state = State.start()
    windows = 0
    size = sum(os.stat(segment_path(run, index)).st_size for index in list_segments(run))
    try:
        while True:
            key = state.key
            window, state = reader.read(state, dead)
            windows += 1
            assert windows <= 10 + size // FRAME_SIZE + 2 * len(list_segments(run)), "it spins"
            for item in window.items:
                if isinstance(item, Lines):
                    assert item.marks
                    assert item.marks[0][0] == 0
                    for position, line in enumerate(item.lines):
                        seq = item.first_seq + position
                        assert seq not in lines[item.stream] or not honest
                        assert len(line) <= reader.facts.max_line + 3  # of a character that the border would cut
                        lines[item.stream][seq] = line, item.parts.get(position, 0)
                elif isinstance(item, Gap):
                    assert item.first_seq <= item.last_seq
                    gaps[item.stream].append(item)
            if window.at_end:
                return lines, gaps, windows
            assert state.key != key, "it spins"
    finally:
        reader.close()


def _spans(lines: dict[int, tuple[bytes, int]], gaps: list[Gap]) -> Iterator[tuple[int, int]]:
    yield from ((seq, seq) for seq in lines)
    yield from ((gap.first_seq, gap.last_seq) for gap in gaps)


def check(truth: Truth, changes: bytes) -> None:
    segments, honest = change(truth.segments, changes)
    run = tempfile.mkdtemp(prefix="shipper-fuzz-")
    try:
        for index, content in enumerate(segments, 1):
            with open(segment_path(run, index), "wb") as file:
                file.write(content)
        read_facts(run)
        for dead in (True, False):
            lines, gaps, _ = _read(run, dead, honest)
            if honest:
                for stream in STREAMS:
                    _compare(truth, stream, lines[stream], gaps[stream])
        _decode(run)
    finally:
        shutil.rmtree(run)


def _decode(run: str) -> None:
    """As the worker does it: what the reader gives must not be its end either."""
    feed = Feed(run, FACTS)
    feed.dead = True
    state, context, at_end = State.start(), Context.begin(), False
    while not at_end:
        _, state, context, at_end = feed.read(state, context)
    feed.count_lines(State.start(), 1.0)
    feed.close()


def _compare(truth: Truth, stream: int, lines: dict[int, tuple[bytes, int]], gaps: list[Gap]) -> None:
    expected = 1
    for first, last in sorted(_spans(lines, gaps)):
        assert first == expected, f"{expected} is neither there nor lost, or {first} twice"
        expected = last + 1
    known = truth.lines[stream]
    assert expected <= len(known) + 1
    for seq, got in lines.items():
        if got == known[seq]:
            assert seq not in truth.lost[stream]
            continue
        # where the journal breaks off the beginning of a line is all that was kept of it
        assert seq == expected - 1
        assert known[seq][0].startswith(got[0])
    assert all(gap.reason in (CORRUPT, "journal_full", "journal_stalled") for gap in gaps)


SEEDS = [
    CHANGE.pack(operation, at, which, size)
    for operation in range(12)
    for at, which, size in ((0, 0, 0), (70, 0, 1), (300, 1, 2), (500, 2, 7), (65_535, 5, 255))
]
