"""What a run's files say of it while it is written, or afterwards: for ``shipper status``. Nothing here is locked."""

from __future__ import annotations

import os

from shipper.journal.facts import load_json
from shipper.journal.frames import (
    DATA,
    FACTS,
    FRAME_SIZE,
    LOSS,
    MAX_PAYLOAD,
    RUN_END,
    STREAM_END,
    Frame,
    find_frame,
    parse,
)
from shipper.journal.numbering import STREAMS, Numbering, pieces
from shipper.journal.runs import READ, list_segments, load_loss, load_numberings, segment_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from shipper.journal.facts import Facts

READ_BYTES = FRAME_SIZE + MAX_PAYLOAD  # holds a whole frame wherever one begins
MAX_LOOK_BYTES = 16 << 20  # for the time of one line: as many are two segments at most


class Captured:
    """What was captured of a run. ``lines`` and ``bytes`` a stream; ``first``: the number of the first line that the
    journal still holds; ``size``: bytes of its segments; ``end``: the agent's end as the supervisor noted it, None
    before, and ``end_ns``, when that was."""

    def __init__(self, run: str, facts: Facts) -> None:
        self.run = run
        self.facts = facts
        self.first = dict.fromkeys(STREAMS, 1)
        self.size = 0
        self.end: dict[str, Any] | None = None
        self.end_ns = 0
        self._numberings = {stream: Numbering() for stream in STREAMS}
        self._segments: list[int] = []
        self._offset = 0

    def look(self) -> None:
        """Read what has come since the last time, of the last segment alone. Raises OSError."""
        segments = list_segments(self.run)
        if segments and segments[:1] != self._segments[:1]:
            frame = next(frames(self.run, segments[0], 0), None)
            if frame is not None and frame.kind == FACTS:
                self.first = {
                    stream: numbering.line + -(-numbering.before // self.facts.max_line)  # one begun before is lost
                    for stream, numbering in _numberings(frame).items()
                }
        if segments[-1:] != self._segments[-1:]:
            self._offset = 0
        self._segments = segments
        self.size = 0
        for index in segments:
            try:
                self.size += os.stat(segment_path(self.run, index)).st_size
            except FileNotFoundError:  # evicted just now
                continue
        if segments:
            for frame in frames(self.run, segments[-1], self._offset):
                self._offset = frame.end
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        try:
            if frame.kind == FACTS:
                self._numberings = _numberings(frame)
            elif frame.kind == RUN_END:
                self.end, self.end_ns = load_json(frame.payload), frame.wall_ns
            elif frame.stream in self._numberings:
                self._numberings[frame.stream] = _after(frame, self.facts.max_line)
        except ValueError:  # a payload that we did not write
            return

    def lines(self, stream: int, *, dead: bool) -> int:
        """``dead``: nothing will be appended, so a last line without newline is one; else its pieces that are full."""
        numbering = self._numberings[stream]
        if not numbering.before:
            return numbering.line - 1
        rest = pieces(numbering.before, self.facts.max_line)
        return numbering.line - 1 + (rest if dead else rest - 1)

    def bytes(self, stream: int) -> int:
        return self._numberings[stream].at

    def time_ns(self, stream: int, segment: int, offset: int, seq: int) -> int | None:
        """When line ``seq`` was read, wall time, looking from that frame on; None when it is not found. Raises OSError.

        Of a line that is gone it is the time of what is left behind it.
        """
        left = MAX_LOOK_BYTES
        for index in self._segments:
            if index < segment:
                continue
            for frame in frames(self.run, index, offset if index == segment else 0):
                left -= frame.end - frame.offset
                if frame.stream == stream and frame.kind in (DATA, LOSS, STREAM_END):
                    try:
                        after = _after(frame, self.facts.max_line)
                    except ValueError:
                        continue
                    if after.line > seq or (after.line == seq and after.before):
                        return frame.wall_ns
                if left < 0:
                    return None
        return None


def frames(run: str, index: int, offset: int) -> Iterator[Frame]:
    """The whole frames of a segment from ``offset`` on; damage is skipped, a torn tail ends it. Raises OSError."""
    try:
        fd = os.open(segment_path(run, index), READ)
    except FileNotFoundError:
        return
    try:
        while True:
            buffer = os.pread(fd, READ_BYTES, offset)
            position = 0
            while isinstance(frame := parse(buffer, position, offset), Frame):
                yield frame
                position = frame.end - offset
            if not position:
                position = find_frame(buffer, 1)
                if position < 0:
                    if len(buffer) < READ_BYTES:
                        return
                    position = len(buffer) - FRAME_SIZE
            offset += position
    finally:
        os.close(fd)


def _numberings(frame: Frame) -> dict[int, Numbering]:
    try:
        return load_numberings(frame.payload)
    except ValueError:
        return {stream: Numbering() for stream in STREAMS}


def _after(frame: Frame, max_line: int) -> Numbering:
    """The numbering behind a frame of a stream. Raises ValueError."""
    numbering = Numbering(frame.line, frame.before, frame.at)
    if frame.kind == DATA:
        numbering.advance(frame.payload, max_line)
    elif frame.kind == LOSS:
        return load_loss(frame.payload)[0]
    elif frame.kind == STREAM_END:
        numbering.end(max_line)
    return numbering
