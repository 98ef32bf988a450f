"""A run's journal, read and decoded once for all sinks that are in step."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from shipper.config.budget import QUEUE_BYTES, WINDOW_BYTES
from shipper.journal import ending
from shipper.journal.notes import read_note
from shipper.journal.numbering import STDOUT, STREAM_NAMES
from shipper.journal.reader import End, Gap, Lines, RunReader, State
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.events import Events
from shipper.lines.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shipper.delivery.trial import Trial, Window
    from shipper.journal.facts import Facts
    from shipper.journal.notes import Note

KEPT_WINDOWS = 1  # sinks in step ask for the same one within moments; a second one kept costs 30 % in cache misses


class Piece:
    """What was read of one stream: its events, and what to note in a cursor once they are accepted.

    ``marks``, ``first_seq``: as in `journal.reader.Lines`; ``lines``: how many. ``gap``: the loss that the one event
    here tells of. ``window``: the one that the lines were read in.
    """

    __slots__ = ("events", "first_seq", "gap", "lines", "marks", "stream", "window")

    def __init__(
        self,
        stream: int,
        events: Events,
        first_seq: int = 0,
        lines: int = 0,
        marks: Sequence[tuple[int, int, int, int]] = (),
        gap: Gap | None = None,
        window: Window = (0, 0),
    ) -> None:
        self.window = window
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

    def with_skipped(self, lines: int) -> Piece:
        """The same, its first event telling of ``lines`` more left out before it, from the piece before."""
        events = self.events.with_skipped(lines)
        return Piece(self.stream, events, self.first_seq, self.lines, self.marks, self.gap, self.window)


class Follower(Protocol):
    """A source of one sink, as its feed knows it."""

    along: bool

    def stands_at(self, key: tuple[int, ...]) -> bool: ...

    def has_room(self) -> bool: ...

    def take_in(self, pieces: Sequence[Piece], after: State, at_end: bool) -> None: ...

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
    ) -> None:
        """``keep_lines``: a sink wants them; ``window_bytes``, ``queue_bytes``: as in `Budget`.

        Raises FileNotFoundError when the run holds no readable facts.
        """
        self._reader = RunReader(run, facts, window_bytes)
        self.queue_bytes = queue_bytes
        self._decoder = Decoder(keep_lines)
        self._followers: list[Follower] = []
        self._kept: OrderedDict[tuple[int, ...], tuple[list[Piece], State]] = OrderedDict()
        self.run = run
        self.facts = self._reader.facts
        self.dead = False  # its wrapper is gone: nothing will be appended any more
        self.end: End | None = None  # the agent's end, once it was read: nothing follows
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

    def share(self, reader: Follower, state: State, pieces: list[Piece], after: State, at_end: bool) -> None:
        """What ``reader`` has just read from ``state`` on: for all others that stand there too and have room."""
        key = state.key
        for follower in self._followers:
            if follower is not reader and follower.stands_at(key) and follower.has_room():
                follower.take_in(pieces, after, at_end)
                follower.finish()  # its sender may have nothing to do
                follower.wake()

    def holds_up(self, reader: Follower, state: State) -> bool:
        """Whether others that stand at ``state`` too have no room: they would have to decode what follows once more."""
        if len(self._followers) == 1:
            return False
        key = state.key
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

    def read(self, state: State) -> tuple[list[Piece], State, bool]:
        """What follows ``state``, the state after it, and whether the journal ended there for now. Raises OSError."""
        key = state.key
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return (*kept, False)
        window, after = self._reader.read(state, self.dead)
        self.decoded += 1
        self.gone = window.gone
        pieces = []
        for item in window.items:
            if isinstance(item, Lines):
                if self.trial is None:
                    pieces.append(self._decoded(item, self._reader.window(state)))
                else:
                    pieces += self._tried(item, self._reader.window(state), self.trial)
            elif isinstance(item, Gap):
                pieces.append(Piece(item.stream, gap_notice(item), gap=item))
            else:
                self.end = item
        if pieces:
            self._kept[key] = (pieces, after)
            if len(self._kept) > KEPT_WINDOWS:
                self._kept.popitem(last=False)
        return pieces, after, window.at_end

    def _decoded(self, item: Lines, window: Window) -> Piece:
        events = self._decoder.decode(_batch(item))
        return Piece(item.stream, events, item.first_seq, len(item.lines), item.marks, window=window)

    def _tried(self, item: Lines, window: Window, trial: Trial) -> list[Piece]:
        """The same after a worker's death; lines that it died of again and again are plain text, or a loss."""
        run, stream, following = os.path.basename(self.run), item.stream, item.first_seq + len(item.lines)
        plain_end = min(trial.plain_until(run, stream, window) + 1, following)
        pieces: list[Piece] = []
        first = item.first_seq
        for dropped, same in groupby(range(first, plain_end), lambda seq: trial.is_dropped(run, stream, seq)):
            end = first + len(list(same))
            some = _portion(item, first, end)
            if dropped:
                _, wall_ns, segment, offset = some.marks[-1]
                gap = Gap(stream, first, end - 1, WORKER_DIED, wall_ns, segment, offset)
                pieces.append(Piece(stream, gap_notice(gap), gap=gap))
            else:
                events = plain(_batch(some), lambda line: trial.at(run, stream, window, line, line))
                pieces.append(Piece(stream, events, first, end - first, some.marks, window=window))
            first = end
        rest = _portion(item, first, following) if pieces else item
        if rest.lines:
            with trial.at(run, stream, window, following - 1):
                pieces.append(self._decoded(rest, window))
        return pieces

    def closing(self, captured: int, delivered: int, filtered: int, dropped: dict[str, int]) -> Piece:
        """The run's last event, once all is read: how the agent ended, and what became of its lines at one sink."""
        info, wall_ns, note = {}, time.time_ns(), None
        if self.end is not None:
            info, wall_ns = self.end.info, self.end.wall_ns
        else:
            note = read_note(self.run)
            if note is not None and note.ended:
                info, wall_ns = note.end, note.at_ns
        return Piece(STDOUT, closing_notice(info, note, wall_ns, captured, delivered, filtered, dropped))

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


def _batch(item: Lines) -> Batch:
    times = [(index, wall_ns) for index, wall_ns, _, _ in item.marks]
    return Batch(item.stream, item.lines, item.first_seq, times, item.parts)


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

    ``skipped``: empty lines left out before and among them, which no other event tells of; ``inner``: those among them.
    """
    lost = last_seq - first_seq + 1 - inner
    name = STREAM_NAMES[stream]
    what = f"1 line of {name} ({first_seq}) is" if lost == 1 else f"{lost} lines of {name} ({first_seq}-{last_seq}) are"
    message = f"{what} missing here: {why or reason}."
    fields: dict[str, object] = {"lost": lost, "first_seq": first_seq, "last_seq": last_seq, "reason": reason}
    if skipped:
        fields["skipped"] = skipped
    return Events.notice(name, wall_ns // 1_000_000, "warning", message, fields)


END_FIELDS = ("exit_status", "signal", "oom", "failed")


def closing_notice(
    end: dict[str, Any],
    note: Note | None,
    wall_ns: int,
    captured: int,
    delivered: int,
    filtered: int,
    dropped: dict[str, int],
) -> Events:
    """An event of our own: the run is over. Unless something is wrong, ``captured`` is the sum of the others."""
    fields: dict[str, object] = {name: end[name] for name in END_FIELDS if name in end}
    if not fields:
        fields["exit_status"] = "unknown"
    fields |= {"captured": captured, "delivered": delivered, "filtered": filtered, "dropped": dict(dropped)}
    ended = ending.in_words(end, note)
    counts = [f"{captured:,} {'line' if captured == 1 else 'lines'} captured", f"{delivered:,} delivered"]
    if filtered:
        counts.append(f"{filtered:,} empty")
    counts += [f"{lines:,} lost ({reason})" for reason, lines in sorted(dropped.items())]
    message = f"{ended[0].upper()}{ended[1:]}: {', '.join(counts)}."
    level = "error" if ending.is_trouble(end) else "info"
    return Events.notice(STREAM_NAMES[STDOUT], wall_ns // 1_000_000, level, message, fields)
