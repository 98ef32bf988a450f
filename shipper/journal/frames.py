"""Frames: packing, checking, and finding the next whole one. Pure; the format stands in the room's docstring."""

from __future__ import annotations

from struct import Struct
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"\xf7SJ1"  # F7 never occurs in UTF-8, so text cannot look like a frame
DATA = 1
LOSS = 2
STREAM_END = 3
RUN_END = 4
FACTS = 5

HEADER = Struct("<4sBBHIqqQQQI")
CHECK = Struct("<I")
FRAME = Struct("<4sBBHIqqQQQII")
FRAME_SIZE = FRAME.size  # 60 bytes
MAX_PAYLOAD = 1 << 20  # a read is at most 64 KiB; a longer length can only be damage


def pack(kind: int, stream: int, wall_ns: int, mono_ns: int, line: int, before: int, at: int, payload: bytes) -> bytes:
    """A frame's header."""
    header = HEADER.pack(MAGIC, kind, stream, 0, len(payload), wall_ns, mono_ns, line, before, at, crc32(payload))
    return header + CHECK.pack(crc32(header))


class Frame:
    """One whole frame, and where it lies in its segment (bytes)."""

    __slots__ = ("at", "before", "end", "kind", "line", "mono_ns", "offset", "payload", "stream", "wall_ns")

    def __init__(
        self,
        kind: int,
        stream: int,
        wall_ns: int,
        mono_ns: int,
        line: int,
        before: int,
        at: int,
        payload: bytes,
        offset: int,
        end: int,
    ) -> None:
        self.kind = kind
        self.stream = stream
        self.wall_ns = wall_ns
        self.mono_ns = mono_ns
        self.line = line
        self.before = before
        self.at = at
        self.payload = payload
        self.offset = offset
        self.end = end


INCOMPLETE = 1  # the buffer ends inside a frame: more bytes may complete it
DAMAGED = 2


def parse(buffer: bytes, position: int, base: int = 0) -> Frame | int:
    """The frame at ``position`` of ``buffer``, whose first byte lies at ``base`` in the segment; else why not."""
    start = position + FRAME_SIZE
    if start > len(buffer):
        return INCOMPLETE if MAGIC.startswith(buffer[position : position + 4]) else DAMAGED
    magic, kind, stream, _, length, wall_ns, mono_ns, line, before, at, payload_crc, header_crc = FRAME.unpack_from(
        buffer, position
    )
    if magic != MAGIC or length > MAX_PAYLOAD or crc32(buffer[position : start - 4]) != header_crc:
        return DAMAGED
    end = start + length
    if end > len(buffer):
        return INCOMPLETE
    payload = buffer[start:end]
    if crc32(payload) != payload_crc:
        return DAMAGED
    return Frame(kind, stream, wall_ns, mono_ns, line, before, at, payload, base + position, base + end)


def find_frame(buffer: bytes, position: int) -> int:
    """Where the next whole frame begins at or after ``position``; -1 when none does."""
    while True:
        position = buffer.find(MAGIC, position)
        if position < 0 or isinstance(parse(buffer, position), Frame):
            return position
        position += 1


def scan(buffer: bytes, base: int = 0) -> Iterator[Frame]:
    """Every whole frame of ``buffer`` in order; damage is skipped, a torn tail ends it."""
    position = 0
    while True:
        frame = parse(buffer, position, base)
        if isinstance(frame, Frame):
            yield frame
            position = frame.end - base
            continue
        position = find_frame(buffer, position + 1)
        if position < 0:
            return
