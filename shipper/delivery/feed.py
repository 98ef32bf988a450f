"""A run's journal, read and decoded once for all sinks that are in step.

Lines that belong together may come in several windows. So where a window ends in the middle of such a group, or behind
a line that by its own look begins one, those lines are held: they are no part of the pieces, and stand in the `Context`
that goes with the state after the window, to be put in front of what follows in their stream. They are let go

- with what follows them, once it shows that the group is over (a line that opens nothing is held only where the window
  ends and the journal does not: what follows it is there to be read);
- before a loss in their stream, and before the run's end;
- where the journal ends for now, `JOIN_SECONDS` after the first of them was captured; at once when nothing more is to
  come (`Feed.whole`) or nobody has time to wait (`Feed.hurried`);
- when lines of other streams show that so much time has passed.

All that is held is grouped anew with what follows, since a line may change what those before it are. A long tail to
which an agent adds line by line would be looked at again and again; so then lines wait unseen behind it, for `PAUSE` at
least, unless they are half of what is held.

No cursor passes them before they are sent, so a restart reads them again.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from contextlib import nullcontext
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from shipper.config.budget import QUEUE_BYTES, WINDOW_BYTES
from shipper.journal import ending
from shipper.journal.facts import Facts
from shipper.journal.notes import read_note
from shipper.journal.numbering import STDOUT, STREAM_NAMES
from shipper.journal.reader import End, Gap, Lines, RunReader, State
from shipper.journal.reader import Window as Read
from shipper.lines.batch import Batch
from shipper.lines.calls import Calls
from shipper.lines.decoder import Decoder
from shipper.lines.events import LEFT_REASONS, Events, Left
from shipper.lines.joining import group
from shipper.lines.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shipper.delivery.trial import Trial, Window
    from shipper.journal.notes import Note
    from shipper.lines.filters import Filters
    from shipper.lines.masking import Masker

KEPT_WINDOWS = 1  # sinks in step ask for the same one within moments; a second one kept costs 30 % in cache misses
JOIN_SECONDS = 1.0  # that a line waits for those that may belong to it
NEAR_SECONDS = 1e-4  # before a moment that is awaited it counts as come: sums of floats may miss it for ever
SHORT = 64  # lines that are grouped in 0.2 ms, as long as it takes to read and decode a window
PAUSE = 0.05  # seconds between two looks at a longer tail, below what somebody who follows the page notices
PAUSE_LINE = 30e-6  # the same for each line of it: ten times what grouping takes


class Clock(Protocol):
    """As the module `time` has them."""

    def monotonic(self) -> float: ...

    def time_ns(self) -> int: ...


class Piece:
    """What was read of one stream: its events, and what to note in a cursor once they are accepted.

    ``marks``, ``first_seq``: as in `journal.reader.Lines`; ``lines``: how many. ``gap``: the loss that the one event
    here tells of. ``window``: the one that the lines were read in, the last of them. ``calls``: what is known of the
    calls after these lines; None where that is what it was before.
    """

    __slots__ = ("calls", "events", "first_seq", "gap", "lines", "marks", "stream", "window")

    def __init__(
        self,
        stream: int,
        events: Events,
        first_seq: int = 0,
        lines: int = 0,
        marks: Sequence[tuple[int, int, int, int]] = (),
        gap: Gap | None = None,
        window: Window = (0, 0),
        calls: Calls | None = None,
    ) -> None:
        self.window = window
        self.calls = calls
        self.stream = stream
        self.events = events
        self.first_seq = first_seq
        self.lines = lines
        self.marks = marks
        self.gap = gap

    @property
    def own(self) -> bool:
        """Holds an event of our own, and no line of the agent's."""
        return not self.marks

    def with_left(self, left: Left, told: int) -> Piece:
        """The same, its first event telling of more that were left out before it, as `Events.with_left` has them."""
        events = self.events.with_left(left, told)
        return Piece(self.stream, events, self.first_seq, self.lines, self.marks, self.gap, self.window, self.calls)


class Held:
    """The open end of a stream: lines that were read, and wait for what may belong to them.

    ``until``: monotonic; then they wait no more where the journal ends for now. ``window``: the one that the last of
    them was read in. ``opens``: it is for their look that they wait; else it is one line, for what follows is there.
    ``unseen``: how many, at its end, were not yet grouped with the others; ``look``: monotonic, when they are at the
    latest.
    """

    __slots__ = ("lines", "look", "opens", "unseen", "until", "window")

    def __init__(self, lines: Lines, until: float, window: Window, opens: bool, look: float, unseen: int = 0) -> None:
        self.lines = lines
        self.until = until
        self.window = window
        self.opens = opens
        self.look = look
        self.unseen = unseen

    @property
    def due(self) -> float:
        """When something is to be done with them though nothing follows."""
        return min(self.until, self.look) if self.unseen else self.until

    def puts_off(self, more: int, now: float) -> bool:
        """Whether so many lines behind them wait unseen."""
        count = len(self.lines.lines)
        return count >= SHORT and now < self.look and 2 * (self.unseen + more) < count - self.unseen


class Context:
    """What is carried from one window to the next beside the journal's `State`. Never changed once handed out.

    ``held``, by stream; ``calls``: what the lines so far tell of the calls.
    """

    __slots__ = ("calls", "held")

    def __init__(self, held: Mapping[int, Held], calls: Calls) -> None:
        self.held = held
        self.calls = calls

    @classmethod
    def begin(cls, calls: Calls = Calls.EMPTY) -> Context:
        """Where reading begins."""
        return cls({}, calls)

    @property
    def key(self) -> tuple[int, ...]:
        """Equal for contexts of one run and one state from which the same lines follow.

        What they know of the calls is true of that place, whoever read it, so it may be the one's or the other's.
        """
        if not self.held:
            return ()
        return tuple(number for stream in sorted(self.held) for number in (stream, self.held[stream].lines.first_seq))


class Follower(Protocol):
    """A source of one sink, as its feed knows it."""

    along: bool

    def stands_at(self, key: tuple[int, ...]) -> bool: ...

    def has_room(self) -> bool: ...

    def take_in(self, pieces: Sequence[Piece], after: State, context: Context, at_end: bool) -> None: ...

    def finish(self) -> bool: ...

    def wake(self) -> None: ...


class Feed:
    """Not for several threads. Windows are shared: what it returns must not be changed."""

    def __init__(
        self,
        run: str,
        facts: Facts | None = None,
        *,
        keep_lines: bool = False,
        window_bytes: int = WINDOW_BYTES,
        queue_bytes: int = QUEUE_BYTES,
        multiline: bool = True,
        masker: Masker | None = None,
        filters: Filters | None = None,
        clock: Clock = time,
    ) -> None:
        """``keep_lines``: a sink wants them; ``window_bytes``, ``queue_bytes``: as in `Budget`. ``multiline``: lines
        that belong together are joined. ``filters``: as the settings ask for them, to be given the run's key.
        ``clock``: another one is for tests.

        Raises FileNotFoundError when the run holds no readable facts.
        """
        self._reader = RunReader(run, facts, window_bytes)
        self.queue_bytes = queue_bytes
        self.window_bytes = window_bytes
        self._masker = masker
        self._filters = filters.with_key(key_of(run) if filters.needs_key else b"") if filters is not None else None
        self._decoder = Decoder(keep_lines, self._filters, masker)
        self._multiline = multiline
        self.clock = clock
        self._followers: list[Follower] = []
        self._kept: OrderedDict[tuple[int, ...], tuple[list[Piece], State, Context]] = OrderedDict()
        self.run = run
        self._name = os.path.basename(run)
        self.facts = self._reader.facts if masker is None else _masked(self._reader.facts, masker)
        self.dead = False  # its wrapper is gone: nothing will be appended any more
        self.end: End | None = None  # the agent's end, once it was read: nothing follows
        self.hurried = False  # the drain has begun: nothing is held where the journal ends
        self.gone = False  # somebody removed the run
        self.decoded = 0  # windows
        self.trial: Trial | None = None  # of a worker that is not the run's first
        self._told_damage = 0

    def tell_damage(self, say: Callable[[str], None]) -> None:
        """Say it when damage was met since this was last called."""
        count = self._reader.corrupt_frames
        if count > self._told_damage:
            self._told_damage = count
            say(
                f"the journal in {self.run} is damaged in {count} {'place' if count == 1 else 'places'}: "
                "what could not be read there is counted as lost and announced in the stream"
            )

    def close(self) -> None:
        self._followers.clear()
        self._reader.close()
        self._kept.clear()

    def follow(self, follower: Follower) -> None:
        """From now on it gets what another one reads from where it stands itself."""
        self._followers.append(follower)

    def leave(self, follower: Follower) -> None:
        """It has all. Whoever is still on the way may be for long: nothing is kept for it."""
        self._followers.remove(follower)
        self._kept.clear()

    def share(
        self,
        reader: Follower,
        key: tuple[int, ...],
        pieces: list[Piece],
        after: State,
        context: Context,
        at_end: bool,
    ) -> None:
        """What ``reader`` has just read where it stood: for all others that stand there too and have room."""
        for follower in self._followers:
            if follower is not reader and follower.stands_at(key) and follower.has_room():
                follower.take_in(pieces, after, context, at_end)
                follower.finish()  # its sender may have nothing to do
                follower.wake()

    def holds_up(self, reader: Follower, key: tuple[int, ...]) -> bool:
        """Whether others that stand at ``key`` too have no room: they would have to decode what follows once more."""
        if len(self._followers) == 1:
            return False
        return any(
            follower is not reader and follower.along and not follower.has_room() and follower.stands_at(key)
            for follower in self._followers
        )

    def available(self, state: State) -> int:
        """Bytes of the journal after ``state``, at least."""
        return self._reader.available(state)

    @property
    def whole(self) -> bool:
        """What is at the end of the journal now is its end for good."""
        return self.dead or self.end is not None

    def held_until(self, context: Context) -> float | None:
        """When lines that are held go, or are looked at, though nothing follows, monotonic; None where none are."""
        if not context.held:
            return None
        if self.whole or self.hurried or self.gone:
            return 0.0
        return min(held.due for held in context.held.values())

    def read(self, state: State, context: Context) -> tuple[list[Piece], State, Context, bool]:
        """What follows ``state``, the state and the context after it, and whether the journal ended there for now.

        Raises OSError.
        """
        key = (*state.key, *context.key)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return (*kept, False)
        window, after = self._reader.read(state, self.dead)
        place = self._reader.window(state)
        self.decoded += 1
        self.gone = window.gone
        work = _Reading(context, window.at_end)
        for item in window.items:
            if isinstance(item, Lines):
                self._take(work, item, place)
            elif isinstance(item, Gap):
                self._let_go(work, item.stream)
                work.pieces.append(Piece(item.stream, gap_notice(item), gap=item))
            else:
                for stream in (*work.held,):
                    self._let_go(work, stream)
                self.end = item
        if work.held:
            self._let_go_in_time(work, window)
        following = work.context(context)
        if work.pieces:
            self._kept[key] = (work.pieces, after, following)
            if len(self._kept) > KEPT_WINDOWS:
                self._kept.popitem(last=False)
        return work.pieces, after, following, window.at_end

    def _take(self, work: _Reading, item: Lines, window: Window) -> None:
        """Lines of a window, behind those that are held of their stream."""
        held = work.held.get(item.stream)
        if held is not None:
            if held.lines.first_seq + len(held.lines.lines) == item.first_seq:
                del work.held[item.stream]
                more, item = len(item.lines), _in_a_row(held.lines, item)
                if self._may_put_off(item.stream, window) and held.puts_off(more, self.clock.monotonic()):
                    work.held[item.stream] = Held(item, held.until, window, held.opens, held.look, held.unseen + more)
                    return
            else:
                self._let_go(work, item.stream)
        self._look(work, item, window, held)

    def _may_put_off(self, stream: int, window: Window) -> bool:
        """Lines of which a worker died are not mixed with those of another window."""
        return self.trial is None or not self.trial.plain_until(self._name, stream, window)

    def _look(self, work: _Reading, item: Lines, window: Window, held: Held | None) -> None:
        if self.trial is None:
            self._join(work, item, window, held)
        else:
            self._try(work, item, window, held, self.trial)

    def _join(self, work: _Reading, item: Lines, window: Window, before: Held | None) -> None:
        """Hold what may go on, decode the others. ``before``: what was held of the stream."""
        if not self._multiline:
            self._decode(work, item, window, ())
            return
        grouping = group(item.lines, item.parts)
        groups, start = grouping.groups, grouping.open_from
        opens = start is not None
        if not (opens or work.at_end or item.lines[-1][:1] == b"{"):  # JSON is never gone on with
            last = len(item.lines) - 1
            start = last if last not in item.parts and not (groups and groups[-1][1] > last) else None
        if start is not None:
            groups = [(first, end) for first, end in groups if end <= start]
            cut, following = item.first_seq + start, item.first_seq + len(item.lines)
            tail = _portion(item, cut, following) if start else item
            until = self._waits_until(tail)
            if before is not None and before.lines.first_seq == cut:
                until = min(until, before.until)
            look = self.clock.monotonic() + max(PAUSE, PAUSE_LINE * len(tail.lines))
            work.held[item.stream] = Held(tail, until, window, opens, look)
            if not start:
                return
            item = _portion(item, item.first_seq, cut)
        self._decode(work, item, window, groups)

    def _waits_until(self, lines: Lines) -> float:
        """Monotonic; the wall clock, by which the capture is known, may have been set since."""
        age = (self.clock.time_ns() - lines.marks[0][1]) / 1e9
        return self.clock.monotonic() + JOIN_SECONDS - min(max(age, 0.0), JOIN_SECONDS)

    def _let_go(self, work: _Reading, stream: int) -> None:
        """What is held of the stream is all that belongs together."""
        held = work.held.pop(stream, None)
        if held is None:
            return
        item = held.lines
        last = item.first_seq + len(item.lines) - 1
        with nullcontext() if self.trial is None else self.trial.at(self._name, stream, held.window, last):
            self._decode(work, item, held.window, group(item.lines, item.parts).groups)

    def _let_go_in_time(self, work: _Reading, window: Read) -> None:
        """What has waited long enough where the window ended."""
        at_once = window.at_end and (self.whole or self.hurried or window.gone)
        now = self.clock.monotonic() + NEAR_SECONDS if window.at_end else 0.0
        newest_ns = max((item.marks[-1][1] for item in window.items if isinstance(item, Lines)), default=0)

        def has_passed(held: Held, at: float) -> bool:
            passed = newest_ns - held.lines.marks[0][1] >= JOIN_SECONDS * 1e9
            return passed or (window.at_end and (at <= now or not held.opens))

        for stream in (*work.held,):
            held = work.held[stream]
            if held.unseen and not at_once and has_passed(held, held.due):
                del work.held[stream]  # the unseen may be no part of what goes, and open themselves
                self._look(work, held.lines, held.window, held)
                if stream not in work.held:
                    continue
                held = work.held[stream]
            if at_once or has_passed(held, held.until):
                self._let_go(work, stream)

    def _decode(self, work: _Reading, item: Lines, window: Window, groups: Sequence[tuple[int, int]]) -> None:
        events, calls = self._decoder.follow(_batch(item, groups), work.calls)
        work.calls = calls
        work.pieces.append(
            Piece(item.stream, events, item.first_seq, len(item.lines), item.marks, window=window, calls=calls)
        )

    def _try(self, work: _Reading, item: Lines, window: Window, held: Held | None, trial: Trial) -> None:
        """The same after a worker's death; lines that it died of again and again are plain text, or a loss."""
        run, stream, following = self._name, item.stream, item.first_seq + len(item.lines)
        plain_end = min(trial.plain_until(run, stream, window) + 1, following)
        first = item.first_seq
        for dropped, same in groupby(range(first, plain_end), lambda seq: trial.is_dropped(run, stream, seq)):
            end = first + len(list(same))
            some = _portion(item, first, end)
            if dropped:
                _, wall_ns, segment, offset = some.marks[-1]
                gap = Gap(stream, first, end - 1, WORKER_DIED, wall_ns, segment, offset)
                work.pieces.append(Piece(stream, gap_notice(gap), gap=gap))
            else:
                events = plain(
                    _batch(some), lambda line: trial.at(run, stream, window, line, line), self._filters, self._masker
                )
                work.pieces.append(Piece(stream, events, first, end - first, some.marks, window=window))
            first = end
        rest = _portion(item, first, following) if first > item.first_seq else item
        if rest.lines:
            with trial.at(run, stream, window, following - 1):
                self._join(work, rest, window, held)

    def closing(self, captured: int, delivered: int, filtered: Left, dropped: dict[str, int]) -> Piece:
        """The run's last event, once all is read: how the agent ended, and what became of its lines at one sink."""
        info, wall_ns, note = self.how_it_ended()
        return Piece(STDOUT, closing_notice(info, note, wall_ns, captured, delivered, filtered, dropped))

    def how_it_ended(self) -> tuple[dict[str, Any], int, Note | None]:
        """Once all is read: as in `journal.ending`, when, and the run's note where its journal has no end."""
        info, wall_ns, note = {}, time.time_ns(), None
        if self.end is not None:
            info, wall_ns = self.end.info, self.end.wall_ns
        else:
            note = read_note(self.run)
            if note is not None and note.ended:
                info, wall_ns = note.end, note.at_ns
        return info, wall_ns, note

    def count_lines(self, state: State, seconds: float) -> tuple[int, bool]:
        """Lines after ``state``, without decoding them, and whether the time was enough for all."""
        deadline = time.monotonic() + seconds
        lines = 0
        while time.monotonic() < deadline:
            try:
                window, state = self._reader.read(state, self.dead)
            except OSError:
                return lines, False
            lines += sum(len(item.lines) for item in window.items if isinstance(item, Lines))
            if window.at_end:
                return lines, True
        return lines, False


KEY = "key"
KEY_BYTES = 32


def key_of(run: str) -> bytes:
    """The run's, for hashes that mean the same after a restart and that nobody else can make; in a file of the run.

    Where it cannot be written there is another one for each start of this process.
    """
    try:
        fd = os.open(os.path.join(run, KEY), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            key = os.pread(fd, KEY_BYTES, 0)
            if len(key) < KEY_BYTES:
                key = os.urandom(KEY_BYTES)
                os.pwrite(fd, key, 0)
        finally:
            os.close(fd)
    except OSError:
        return os.urandom(KEY_BYTES)
    return key


def _masked(facts: Facts, masker: Masker) -> Facts:
    """A secret may have been given to a variable of ours that is none: SHIPPER_TAGS, say."""
    shown = masker.text
    return Facts(
        run=facts.run,
        host=shown(facts.host),
        source=shown(facts.source),
        service=shown(facts.service),
        tags=tuple((shown(key), shown(value)) for key, value in facts.tags),
        sinks=facts.sinks,
        max_line=facts.max_line,
        started_ns=facts.started_ns,
        agent=shown(facts.agent),
    )


class _Reading:
    """What has come of a window so far."""

    __slots__ = ("at_end", "calls", "held", "pieces")

    def __init__(self, context: Context, at_end: bool) -> None:
        self.at_end = at_end
        self.pieces: list[Piece] = []
        self.held = dict(context.held)
        self.calls = context.calls

    def context(self, before: Context) -> Context:
        """After the window."""
        if not (self.held or before.held) and self.calls is before.calls:
            return before
        return Context(self.held, self.calls)


def _batch(item: Lines, groups: Sequence[tuple[int, int]] = ()) -> Batch:
    times = [(index, wall_ns) for index, wall_ns, _, _ in item.marks]
    return Batch(item.stream, item.lines, item.first_seq, times, item.parts, groups)


def _in_a_row(one: Lines, other: Lines) -> Lines:
    """Both as one: the numbers of the other go on where those of the one end."""
    count = len(one.lines)
    marks = one.marks + [(index + count, *place) for index, *place in other.marks]
    parts = {**one.parts, **{index + count: part for index, part in other.parts.items()}}
    return Lines(one.stream, one.first_seq, one.lines + other.lines, marks, parts)  # type: ignore[arg-type]


def _portion(item: Lines, first: int, following: int) -> Lines:
    """Its lines ``first`` up to, not including, ``following``."""
    start, end = first - item.first_seq, following - item.first_seq
    marks = [(max(0, index - start), *place) for index, *place in item.marks if index < end]
    begun = [number for number, mark in enumerate(marks) if not mark[0]]
    parts = {index - start: part for index, part in item.parts.items() if start <= index < end}
    return Lines(item.stream, first, item.lines[start:end], marks[max(begun, default=0) :], parts)  # type: ignore[arg-type]


WORKER_DIED = "worker_died"

REASONS = {
    WORKER_DIED: "the process that forwards the lines died of it again and again, also as plain text",
    "journal_full": "the journal was full before they were sent (see SHIPPER_JOURNAL_MAX)",
    "journal_corrupt": "the journal is damaged there",
    "journal_stalled": "the disk of the journal stood still",
    "disk_full": "the disk of the journal was full",
    "disk_error": "the disk of the journal failed",
}


def gap_notice(gap: Gap) -> Events:
    """The event that tells of a loss, in its place in the stream."""
    return loss_notice(gap.stream, gap.wall_ns, gap.first_seq, gap.last_seq, gap.reason, REASONS.get(gap.reason, ""))


def loss_notice(
    stream: int, wall_ns: int, first_seq: int, last_seq: int, reason: str, why: str, skipped: int = 0, inner: int = 0
) -> Events:
    """An event of our own: lines ``first_seq`` to ``last_seq`` of ``stream`` will not come.

    ``skipped``: lines left out before and among them, which no other event tells of; ``inner``: those among them.
    """
    lost = last_seq - first_seq + 1 - inner
    name = STREAM_NAMES[stream]
    what = f"1 line of {name} ({first_seq}) is" if lost == 1 else f"{lost} lines of {name} ({first_seq}-{last_seq}) are"
    message = f"{what} missing here: {why or reason}."
    fields: dict[str, object] = {"lost": lost, "first_seq": first_seq, "last_seq": last_seq, "reason": reason}
    if skipped:
        fields["skipped"] = skipped
    return Events.notice(name, wall_ns // 1_000_000, "warning", message, fields)


LEFT_OUT = dict(zip(LEFT_REASONS, ("empty", "below SHIPPER_LEVEL", "matching SHIPPER_EXCLUDE"), strict=True))

END_FIELDS = ("exit_status", "signal", "oom", "failed")


def closing_notice(
    end: dict[str, Any],
    note: Note | None,
    wall_ns: int,
    captured: int,
    delivered: int,
    filtered: Left,
    dropped: dict[str, int],
) -> Events:
    """An event of our own: the run is over. Unless something is wrong, ``captured`` is the sum of the others."""
    fields: dict[str, object] = {name: end[name] for name in END_FIELDS if name in end}
    if not fields:
        fields["exit_status"] = "unknown"
    fields |= {"captured": captured, "delivered": delivered, "filtered": sum(filtered), "dropped": dict(dropped)}
    ended = ending.in_words(end, note)
    counts = [f"{captured:,} {'line' if captured == 1 else 'lines'} captured", f"{delivered:,} delivered"]
    counts += [f"{lines:,} {why}" for why, lines in zip(LEFT_OUT.values(), filtered, strict=True) if lines]
    counts += [f"{lines:,} lost ({reason})" for reason, lines in sorted(dropped.items())]
    message = f"{ended[0].upper()}{ended[1:]}: {', '.join(counts)}."
    level = "error" if ending.is_trouble(end) else "info"
    return Events.notice(STREAM_NAMES[STDOUT], wall_ns // 1_000_000, level, message, fields)
