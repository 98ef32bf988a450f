"""Where in a run's journal to begin to read, so that no more is read than has to be shown. Standard library only.

Any whole frame is a place to begin at: its header tells the number of the line that its first byte belongs to, and a
line that began before it is not shown. So the last lines are found by going back from the end in steps that grow, and a
moment by halving: a frame's header also tells when its bytes were read.
"""

from __future__ import annotations

import os

from shipper.journal import runs
from shipper.journal.frames import DATA, FRAME_SIZE, MAX_PAYLOAD, Frame, find_frame, parse
from shipper.journal.reader import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_STEP = 64 << 10  # some 300 lines; each further step is four times as long
NEAR_BYTES = 256 << 10  # closer to a moment than this it is read rather than halved


def backwards(run: str) -> Iterator[tuple[State, bool]]:
    """States from which less, then more of the journal's end follows; whether it is all that there is."""
    segments = [(index, _size(run, index)) for index in runs.list_segments(run)]
    total = sum(size for _, size in segments)
    step = FIRST_STEP
    while step < total:
        before = total - step
        for index, size in segments:
            if before < size:
                yield _at_frame(run, index, before), False
                break
            before -= size
        step *= 4
    yield State.somewhere(segments[0][0]) if segments else State.start(), True


def since(run: str, wall_ns: int) -> State:
    """A state from which everything follows that was read at ``wall_ns`` or later, and not much else.

    Where the clock was set back in between, what lies before that place may be missed.
    """
    segments = runs.list_segments(run)
    if not segments:
        return State.start()
    low, high = 0, len(segments)
    while high - low > 1:
        middle = (low + high) // 2
        frame = _frame(run, segments[middle], 0)
        if frame is not None and frame.wall_ns >= wall_ns:
            high = middle
        else:
            low = middle
    index = segments[low]
    begin, end = 0, _size(run, index)
    while end - begin > NEAR_BYTES:
        middle = (begin + end) // 2
        frame = _frame(run, index, middle)
        if frame is None or frame.wall_ns >= wall_ns:
            end = middle
        else:
            begin = frame.offset
    return _at_frame(run, index, begin)


def _size(run: str, index: int) -> int:
    try:
        return os.stat(runs.segment_path(run, index)).st_size
    except OSError:  # evicted meanwhile
        return 0


def _at_frame(run: str, index: int, offset: int) -> State:
    frame = _frame(run, index, offset) if offset else None
    state = State.somewhere(index)
    return state if frame is None else State(index, frame.offset, state.streams)


def _frame(run: str, index: int, offset: int) -> Frame | None:
    """The first whole frame of an agent's bytes at or after ``offset``; None when there is none."""
    try:
        fd = os.open(runs.segment_path(run, index), runs.READ)
    except OSError:
        return None
    try:
        wanted = 128 << 10  # a read is at most 64 KiB, so a whole frame nearly always lies within this
        while True:
            buffer = os.pread(fd, wanted, offset)
            position = find_frame(buffer, 0)
            while position >= 0:
                frame = parse(buffer, position, offset)
                if isinstance(frame, Frame) and frame.kind == DATA:
                    return frame
                position = find_frame(buffer, position + FRAME_SIZE)
            if len(buffer) < wanted:
                return None
            if wanted < FRAME_SIZE + MAX_PAYLOAD:
                wanted = 2 * (FRAME_SIZE + MAX_PAYLOAD)
            else:
                offset += wanted - FRAME_SIZE - MAX_PAYLOAD
    except OSError:
        return None
    finally:
        os.close(fd)
