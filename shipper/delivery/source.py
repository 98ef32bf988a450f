"""A run as one sink sees it: what was read and is not yet accepted, and the cursor that says what was."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from shipper.delivery.crash import crash_of
from shipper.delivery.feed import NEAR_SECONDS, Context, Piece, loss_notice
from shipper.journal.facts import dump_json
from shipper.journal.reader import State
from shipper.lines.calls import Calls
from shipper.lines.crash import Crash
from shipper.lines.events import LEFT_REASONS, NONE_LEFT, Left, both

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shipper.delivery.commits import Committer
    from shipper.delivery.feed import Feed
    from shipper.journal.cursor import CursorFile
    from shipper.sinks.base import Slice

MAX_WINDOWS = 8  # 2 MiB of journal, some 10 ms: then others have their turn

RECORD_BYTES = 300
"""What an event takes besides its line, once it is decoded (measured): short lines are many."""

MAX_OWED = 40  # announcements that a cursor has room for beside all else, some 50 bytes each

TRIAL_FLUSH_SECONDS = 0.05  # a commit takes 0.1 ms, and 5 between two; a frozen disk is not waited for

CALLS_BYTES = 2048  # JSON of what is known of the calls, in a cursor that holds hardly an announcement beside it
CALLS_OWED = 4

COUNTERS = (
    "delivered", "events", "moved", "repeats", "requests", "retried", "sent_bytes", "truncated",
    "masked", "redacted", "pii",
)  # fmt: skip


class Part:
    """Events ``start`` to ``end`` of a piece, ``bytes`` of lines: a request is made of a few."""

    __slots__ = ("bytes", "end", "piece", "start")

    def __init__(self, piece: Piece, start: int, end: int) -> None:
        self.piece = piece
        self.start = start
        self.end = end
        self.bytes = sum(piece.events.sizes[start:end])

    @property
    def count(self) -> int:
        return self.end - self.start

    @property
    def weight(self) -> int:
        """Bytes of memory, about."""
        return self.bytes + RECORD_BYTES * self.count

    def cut(self, end: int) -> Part:
        """What is before ``end``, which is no longer in this one; at least one event must be left."""
        head = Part(self.piece, self.start, end)
        self.start = end
        self.bytes -= head.bytes
        return head

    def slice(self) -> Slice:
        return self.piece.events, self.start, self.end


def count_of(parts: list[Part]) -> int:
    return sum(part.count for part in parts)


def bytes_of(parts: Sequence[Part]) -> int:
    """Bytes of the lines that they hold."""
    return sum(part.bytes for part in parts)


def portion(parts: list[Part], start: int, end: int) -> list[Part]:
    """Events ``start`` to ``end`` of all that the parts hold."""
    chosen = []
    for part in parts:
        first, last = max(0, start), min(part.count, end)
        if first < last:
            chosen.append(Part(part.piece, part.start + first, part.start + last))
        start -= part.count
        end -= part.count
    return chosen


def halves(parts: list[Part]) -> tuple[list[Part], list[Part]]:
    """Two requests of about as many events. At least two events must be there."""
    middle = count_of(parts) // 2
    return portion(parts, 0, middle), portion(parts, middle, count_of(parts))


class Source:
    """``adopted``: the run of a dead wrapper. ``dropped``: lines not sent, by reason. ``health``: its sender's, of all
    its sources, committed beside the counters for whoever looks at the files. ``left_out``: lines not to be sent, by
    reason (`lines.events.LEFT_REASONS`).

    ``under_way``: requests that were taken and are neither accepted, dropped nor put back. ``along``: it wants what the
    other sinks read, since it goes on soon. ``filling``: it is reading, until it has what `wants`
    is asked with. ``wake``, to be set: what
    to call when another sink has read something for it. ``tells_crashes``, to be set: as in `Sink`.
    """

    def __init__(self, feed: Feed, cursor: CursorFile, committer: Committer, adopted: bool) -> None:
        self.feed = feed
        self.adopted = adopted
        self.complete = False
        self.moved = False  # the last `take` read something
        self.under_way = 0
        self.along = True
        self.filling: tuple[int, int, float] | None = None
        self.wake: Callable[[], None] = lambda: None
        self.tells_crashes = False
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.dropped: dict[str, int] = {}
        self.left_out = dict.fromkeys(LEFT_REASONS, 0)
        self.health: dict[str, Any] = {}
        self._cursor = cursor
        self._committer = committer
        self._pieces: deque[Part] = deque()
        self._queued_bytes = 0
        self._skipped = {1: 0, 2: 0}  # lines left out, read and not yet told
        self._carried = {1: 0, 2: 0}  # of these, the ones that the cursor has passed
        self._untold: dict[int, Left] = {1: NONE_LEFT, 2: NONE_LEFT}  # and those that are not yet counted
        self._passed: dict[int, tuple[int, int, int]] = {}  # where stretches of such lines alone end: place and number
        self._positions: dict[str, list[int]] = {"1": [0, 0, 1], "2": [0, 0, 1]}
        self._owed: dict[Piece, tuple[int, ...]] = {}  # announcements of lines dropped for good, until accepted
        self._state = State.start()
        self._calls = Calls.EMPTY  # what is known of them where the cursor stands
        self._noted: tuple[Calls, object] = (self._calls, None)  # the same as a cursor has it, None for nothing
        self._exhausted = False
        self._came = False  # something was read since the last `take`, by this source or for it
        self._crash_told = False  # or there is none to tell of
        self._closing = False  # the closing event was queued: every line is accepted
        self._restore(cursor.values)
        self._context = Context.begin(self._calls)
        feed.follow(self)

    def _restore(self, values: dict[str, Any] | None) -> None:
        if not values:
            self._commit()  # from now on the run is also this sink's
            return
        try:
            self._state = State.from_cursor(values["streams"])
            self._positions = {name: [int(v) for v in values["streams"][name]] for name in ("1", "2")}
            self.counters.update({name: int(values.get(name, 0)) for name in COUNTERS})
            self.health = dict(values.get("health", {}))
            self._crash_told = bool(values.get("crash_told"))
            carried = values.get("carried", {})
            self._carried = {stream: int(carried.get(str(stream), 0)) for stream in (1, 2)}
            self._skipped = dict(self._carried)
            left_out = values.get("left_out", {"empty": values.get("empty", 0)})  # as an earlier one has it
            self.left_out = {reason: int(left_out.get(reason, 0)) for reason in LEFT_REASONS}
            self.dropped = {str(reason): int(lines) for reason, lines in values.get("dropped", {}).items()}
            for stream, *numbers in reversed(values.get("owed", ())):
                wall_ns, first, last, skipped, inner = map(int, numbers)
                self.owe(int(stream), wall_ns, first, last, skipped, inner, "the provider did not take it")
        except (AttributeError, LookupError, TypeError, ValueError):
            self._state = State.start()  # not ours: everything is sent again rather than nothing
            self._positions = {"1": [0, 0, 1], "2": [0, 0, 1]}
            self._carried, self._skipped = {1: 0, 2: 0}, {1: 0, 2: 0}
        self.complete = bool(values.get("complete"))
        try:
            self._calls = Calls.from_cursor(values["calls"])
        except (AttributeError, LookupError, TypeError, ValueError):
            self._calls = Calls.EMPTY

    @property
    def _key(self) -> tuple[int, ...]:
        """Where it stands, for its feed."""
        return (*self._state.key, *self._context.key)

    def held_seconds(self) -> float | None:
        """How long lines still wait for what may belong to them, though nothing follows; None where none do."""
        if not self._context.held:
            return None
        until = self.feed.held_until(self._context)
        if until is None:
            return None
        left = until - self.feed.clock.monotonic()
        return left if left > NEAR_SECONDS else 0.0

    def has_pending(self) -> bool:
        """Whether there is something to send, or to read. Costs two system calls, and no reading. Raises OSError."""
        if self._pieces:
            return True
        if self.complete or self._exhausted:
            return False
        if self.held_seconds() == 0.0:
            return True
        if self.feed.whole and self.feed.gone:
            return False
        # one that is over has an end, which takes a look to see: another sink's window does not tell of it
        return self.feed.whole or self.feed.available(self._state) > 0

    def unread(self) -> int:
        """Bytes of the journal that were not yet read, at least. Raises OSError."""
        return self.feed.available(self._state)

    def fills(self, max_events: int, max_bytes: int) -> bool:
        """Whether a request of so many events, or of so many bytes of the journal, is there. Raises OSError."""
        return (
            self._queued_bytes >= max_bytes
            or sum(part.count for part in self._pieces) >= max_events
            or self._queued_bytes + self.feed.available(self._state) >= max_bytes
        )

    def wants(self, max_events: int, max_bytes: int, extra_bytes: float = 0.0) -> bool:
        """Whether less than a request, as `take` has it, is at hand, and there may be more to read."""
        events = sum(part.count for part in self._pieces)
        return (
            not (self.complete or self._exhausted)
            and events < max_events
            and self._queued_bytes + extra_bytes * events < max_bytes
        )

    def outruns(self) -> bool:
        """Whether reading on leaves sinks in step behind, which have no room yet."""
        return self.feed.holds_up(self, self._key)

    def take(self, max_events: int, max_bytes: int, extra_bytes: float = 0.0) -> list[Part]:
        """The next request: at most so many events, of lines of at most so many bytes in all.

        ``extra_bytes`` count for each besides its line. Reads a few windows at most, so it may come back with nothing
        though more is there: lines that are left out or held are no events. Raises OSError.
        """
        taken: list[Part] = []
        events = windows = 0
        size = 0.0
        while events < max_events:
            if not self._pieces:
                windows += 1
                try:
                    if windows > MAX_WINDOWS or not self.read():
                        break
                except OSError:
                    if not taken:
                        raise
                    break  # what was taken goes; the next call meets the error
                continue
            part = self._pieces[0]
            end = min(part.end, part.start + max_events - events)
            if size + part.bytes + extra_bytes * part.count > max_bytes:  # long lines: one by one
                end = _fitting(part.piece.events.sizes, part.start, end, max_bytes - size, extra_bytes)
                if end == part.start:
                    if taken:
                        break
                    end += 1  # larger than the limit by itself: it goes alone
            part = self._pieces.popleft() if end == part.end else part.cut(end)
            taken.append(part)
            events += part.count
            size += part.bytes + extra_bytes * part.count
            self._queued_bytes -= part.bytes
        # not by what is left of it: lines left out wait for the requests before them, and a torn frame at the end of
        # the journal is there to be read for ever
        self.moved, self._came = self._came, False
        if not taken:
            self._pass_left_out()
        return taken

    def _pass_left_out(self) -> None:
        """A restart need not read them again, once everything before them is accepted."""
        if self.under_way or not self._passed:
            return
        for stream, (segment, offset, following) in self._passed.items():
            position = self._positions[str(stream)]
            lines = following - position[2]
            self._leave_out(lines, self._untold[stream])
            self._untold[stream] = NONE_LEFT
            self._carried[stream] += lines
            position[:] = [segment, offset, following]
        self._passed.clear()
        self._calls = self._context.calls
        self._commit()

    def _leave_out(self, lines: int, left: Left) -> None:
        """Count so many lines that were neither sent nor lost. ``left``: the same by reason, as they were read."""
        _, level, exclude = left
        self.left_out["level"] += level
        self.left_out["exclude"] += exclude
        self.left_out["empty"] += lines - level - exclude

    def read(self) -> bool:
        """Read a window; False when there is none for now. Raises OSError."""
        if self.complete or self._exhausted:
            return False
        if self.feed.trial is not None and self.feed.trial.careful:
            self.flush()
        key = self._key
        pieces, after, context, at_end = self.feed.read(self._state, self._context)
        self.feed.share(self, key, pieces, after, context, at_end)
        self.take_in(pieces, after, context, at_end)
        return bool(pieces) or not at_end

    def stands_at(self, key: tuple[int, ...]) -> bool:
        return not (self.complete or self._exhausted) and self._key == key

    def has_room(self) -> bool:
        if not self.along:
            return False
        queued = sum(part.weight for part in self._pieces)
        return queued < self.feed.queue_bytes or (self.filling is not None and self.wants(*self.filling))

    def take_in(self, pieces: Sequence[Piece], after: State, context: Context, at_end: bool) -> None:
        """What follows in the journal, read by this source or by another one that stood where it stands."""
        self._came = self._came or bool(pieces) or not at_end or context.key != self._context.key
        self._state, self._context = after, context
        for piece in pieces:
            events, stream = piece.events, piece.stream
            if self._skipped[stream] and events.count:
                untold = self._untold[stream]
                piece = piece.with_left(untold, self._skipped[stream] - sum(untold))
                self._skipped[stream], self._untold[stream] = 0, NONE_LEFT
            if events.trailing is not NONE_LEFT:
                self._skipped[stream] += sum(events.trailing)
                self._untold[stream] = both(self._untold[stream], events.trailing)
            if piece.events.count:
                part = Part(piece, 0, piece.events.count)
                self._pieces.append(part)
                self._queued_bytes += part.bytes
                self._passed.pop(stream, None)
            elif piece.gap is None:
                _, _, segment, offset = piece.marks[-1]
                self._passed[stream] = (segment, offset, piece.first_seq + piece.lines)
        if at_end and self.feed.whole and not self.feed.gone:
            self._exhausted = True

    @property
    def holds(self) -> bool:
        """Lines wait for what may belong to them."""
        return bool(self._context.held)

    @property
    def queued(self) -> bool:
        """Something is at hand, and needs no reading."""
        return bool(self._pieces)

    def put_back(self, parts: Sequence[Part]) -> None:
        """Send these next."""
        self._pieces.extendleft(reversed(parts))
        self._queued_bytes += bytes_of(parts)

    def owe(self, stream: int, wall_ns: int, first: int, last: int, skipped: int, inner: int, why: str) -> None:
        """Announce next, and not only if this process lives that long, that these lines are dropped for good.

        To be called before they are: the same commit then says both. ``skipped``, ``inner``: as for `loss_notice`.
        """
        piece = Piece(stream, loss_notice(stream, wall_ns, first, last, "rejected", why, skipped, inner))
        self._owed[piece] = (stream, wall_ns, first, last, skipped, inner)
        self.put_back([Part(piece, 0, 1)])

    def accepted(
        self, parts: list[Part], sent_bytes: int, moved: int = 0, truncated: int = 0, kept_out: Sequence[Part] = ()
    ) -> None:
        """The provider has these. ``moved`` of them went under another time, ``truncated`` were cut to fit,
        ``kept_out`` it did not take, for good."""
        counters = self.counters
        counters["requests"] += 1
        counters["sent_bytes"] += sent_bytes
        counters["moved"] += moved
        counters["truncated"] += truncated
        for part in parts:
            counters["events"] += part.count
            self._advance(part)
            counters["delivered"] += lines_in(part)
        lines = sum(map(lines_in, kept_out))
        if lines:
            counters["delivered"] -= lines
            self.dropped["rejected"] = self.dropped.get("rejected", 0) + lines
        self._commit()

    def dropped_for_good(self, parts: list[Part], reason: str) -> None:
        """The provider will not take these."""
        for part in parts:
            self._advance(part)
            if lines_in(part):
                self.dropped[reason] = self.dropped.get(reason, 0) + lines_in(part)
        self._commit()

    def _advance(self, part: Part) -> None:
        piece = part.piece
        position = self._positions[str(piece.stream)]
        if piece.gap is not None:
            gap = piece.gap
            self.dropped[gap.reason] = self.dropped.get(gap.reason, 0) + gap.last_seq - gap.first_seq + 1
            # directly before the loss, and told with it
            self._leave_out(gap.first_seq - position[2], piece.events.left_in(0, 1))
            self._carried[piece.stream] = 0
            position[:] = [gap.segment, gap.offset, gap.last_seq + 1]
            return
        if piece.events.changes and part.end == piece.events.count:
            for name, count in piece.events.changes.items():
                self.counters[name] += count
        if piece.own:
            self._crash_told = self._crash_told or isinstance(piece.events, Crash)
            self._owed.pop(piece, None)
            return  # an event of our own that stands for no place
        last = last_of(part, part.end - 1)
        mark = next(mark for mark in reversed(piece.marks) if mark[0] <= last - piece.first_seq)
        # numbers run on without gaps but for losses, so what was neither sent nor lost was left out
        self._leave_out(last + 1 - position[2] - lines_in(part), piece.events.left_in(part.start, part.end))
        position[:] = [mark[2], mark[3], last + 1]
        self._carried[piece.stream] = 0
        if piece.calls is not None and part.end == piece.events.count:
            self._calls = piece.calls

    @property
    def drained(self) -> bool:
        """Every line of the run is accepted, or dropped for good; the closing event may still be to come."""
        return self.complete or self._closing

    @property
    def last_words(self) -> bool:
        """What is at hand is all that will ever be."""
        return self._exhausted and bool(self._pieces)

    def finish(self) -> bool:
        """Once all of the run is accepted: queue the closing event, and note it when that is accepted too.

        Whether it is. The closing event goes alone and last; dropped for good it counts as told.
        """
        if self.complete or not self._exhausted or self._pieces or self.under_way:
            return self.complete
        trailing = both(*self._untold.values())  # no event followed
        if self._closing:
            self.complete = True
            self._passed.clear()
            self._leave_out(sum(trailing), trailing)
            self._commit()
            return True
        if self.tells_crashes and not self._crash_told:
            crash = crash_of(self.feed)
            if crash is not None:  # once it is accepted, or dropped for good, this comes back here
                self._pieces.append(Part(crash, 0, 1))
                self._queued_bytes += self._pieces[-1].bytes
                return False
            self._crash_told = True
        self._closing = True
        counted = (self.left_out["empty"], self.left_out["level"], self.left_out["exclude"])
        piece = self.feed.closing(self._state.lines, self.counters["delivered"], both(counted, trailing), self.dropped)
        part = Part(piece, 0, 1)
        self._pieces.append(part)
        self._queued_bytes += part.bytes
        return False

    def flush(self) -> None:
        """Before what may end this process: what was accepted would go again."""
        self._committer.flush(TRIAL_FLUSH_SECONDS)

    def note(self) -> None:
        """Commit the counters as they are."""
        self._commit()

    def _commit(self) -> None:
        if len(self._owed) > MAX_OWED:
            return  # rather lines that come again after a kill than some that nobody ever tells of
        values: dict[str, Any] = {"streams": {name: list(place) for name, place in self._positions.items()}}
        values |= self.counters
        values["left_out"] = dict(self.left_out)
        values["dropped"] = dict(self.dropped)
        values["carried"] = {str(stream): lines for stream, lines in self._carried.items()}
        values["complete"] = self.complete
        values["owed"] = [list(owed) for owed in self._owed.values()]
        values["health"] = dict(self.health)
        if self._calls is not self._noted[0]:
            calls = self._calls.to_cursor()
            self._noted = (self._calls, calls if len(dump_json(calls)) <= CALLS_BYTES else None)
        if self._noted[1] and len(self._owed) <= CALLS_OWED:
            values["calls"] = self._noted[1]
        values["crash_told"] = self._crash_told
        self._committer.submit(self._cursor, values)

    def undelivered(self, seconds: float) -> tuple[int, bool]:
        """Lines in the journal that the sink has not accepted, and whether they could all be counted in that time."""
        state = State.from_cursor(self._positions)
        return self.feed.count_lines(state, seconds)

    def close(self) -> None:
        self._cursor.close()


def _fitting(sizes: Sequence[int], start: int, end: int, room: float, extra: float) -> int:
    """The end of the longest stretch from ``start`` whose sizes, each and ``extra``, add up to at most ``room``."""
    for index in range(start, end):
        room -= sizes[index] + extra
        if room < 0:
            return index
    return end


def seq_of(part: Part, index: int) -> int:
    """The number of the (first) line of event ``index`` of the part's piece."""
    seq = part.piece.events.records[index]["seq"]
    assert isinstance(seq, int)  # noqa: S101 (for the type checker: ours in every record that is not our own event)
    return seq


def last_of(part: Part, index: int) -> int:
    """The number of the last line of event ``index`` of the part's piece."""
    return seq_of(part, index) + part.piece.events.lines_in(index, index + 1) - 1


def skipped_at(part: Part, index: int) -> int:
    """Lines that were left out before event ``index`` of the part's piece."""
    skipped = part.piece.events.records[index].get("skipped", 0)
    assert isinstance(skipped, int)  # noqa: S101 (as in seq_of)
    return skipped


def lines_in(part: Part) -> int:
    """Lines of the agent's that the part's events hold; our own events hold none."""
    return 0 if part.piece.own else part.piece.events.lines_in(part.start, part.end)
