"""Whether a run's agent has crashed, and its last lines: what an issue tracker gets before the closing event.

The lines are read from the journal again, for a restarted worker has not seen them, and decoded by the run's feed: what
is masked or left out on their way is so here too.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from shipper.delivery.feed import Context, Piece
from shipper.journal import ending
from shipper.journal.numbering import STDOUT
from shipper.journal.reader import Lines, RunReader, State
from shipper.journal.runs import list_segments, segment_path
from shipper.lines.crash import Crash

if TYPE_CHECKING:
    from shipper.delivery.feed import Feed
    from shipper.lines.events import Events

TAIL_BYTES = 256 << 10  # of the journal, as `ending.failure` looks at: some 1,200 lines, decoded in 2 ms


def crash_of(feed: Feed) -> Piece | None:
    """The event that tells of the crash; None when the agent ended as it should, was asked to, or nobody knows how.

    All of the run must have been read.
    """
    end, wall_ns, _ = feed.how_it_ended()
    if not ending.is_crash(end):
        return None
    try:
        tail = _last_events(feed)
    except OSError:
        tail = []  # a sick disk: that it crashed is told all the same
    return Piece(STDOUT, Crash(end, ending.in_words(end), wall_ns // 1_000_000, tail))


def _last_events(feed: Feed) -> list[Events]:
    """Of the last `TAIL_BYTES`, and up to a window more. Raises OSError."""
    reader = RunReader(feed.run, feed.facts, feed.window_bytes)
    last: deque[State] = deque(maxlen=TAIL_BYTES // feed.window_bytes + 1)
    try:
        state, at_end = _near_the_end(feed.run), False
        while not at_end:
            window, after = reader.read(state, feed.dead)
            if any(isinstance(item, Lines) for item in window.items):
                last.append(state)
            state, at_end = after, window.at_end
    finally:
        reader.close()
    tail: list[Events] = []
    state, context = (last[0] if last else state), Context.begin()
    for _ in last:
        pieces, state, context, _ = feed.read(state, context)
        tail += [piece.events for piece in pieces if not piece.own and piece.events.count]
    return tail


def _near_the_end(run: str) -> State:
    """The latest segment's head that `TAIL_BYTES` follow. Raises OSError."""
    segments = list_segments(run)
    left = TAIL_BYTES
    for index in reversed(segments):
        left -= os.stat(segment_path(run, index)).st_size
        if left <= 0:
            return State.somewhere(index)
    return State.somewhere(segments[0]) if segments else State.start()
