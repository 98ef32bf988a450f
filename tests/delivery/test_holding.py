"""Lines that belong together are one event, whichever windows they come in; and nothing waits for long."""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.config.budget import WINDOW_BYTES
from shipper.delivery.commits import Committer
from shipper.delivery.feed import JOIN_SECONDS, SHORT, Context, Feed
from shipper.delivery.sender import Sender
from shipper.delivery.source import Source
from shipper.journal.cursor import CursorFile
from shipper.journal.numbering import STDERR, STDOUT, summarize
from shipper.journal.reader import State
from shipper.lines.calls import Calls
from tests.delivery.delivery_helpers import MIB, begin_run, closed, end_run, messages_of, raise_error
from tests.delivery.test_sender import ENTRY, Fake
from tests.delivery.test_trial import Known
from tests.delivery.virtual import VirtualClock, run_virtually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from shipper.delivery.source import Part
    from shipper.journal.writer import JournalWriter
    from shipper.lines.events import Events

HEADER = b"Traceback (most recent call last):\n"
FRAMES = b'  File "agent.py", line 1, in <module>\n    main()\n'
LAST = b"ValueError: boom\n"
TRACEBACK = HEADER + FRAMES + LAST
JOINED = TRACEBACK.decode().rstrip("\n")
AFTER = b'{"message": "after"}\n'  # surely no part of what is before it


class Bench:
    """A run that is written to, and a source that reads it; time passes only where it is told to."""

    def __init__(self, directory: Path | str, committer: Committer | None = None) -> None:
        self.clock = VirtualClock()
        self.run: JournalWriter = begin_run(str(directory))
        self.committer = committer or Committer(raise_error)
        self.feed = Feed(self.run.path, clock=self.clock)
        self.source = self.open()

    def open(self, sink: str = "datadog") -> Source:
        return Source(self.feed, CursorFile(self.run.path, sink), self.committer, adopted=False)

    def restart(self) -> Source:
        assert self.committer.flush(5)
        self.feed = Feed(self.run.path, clock=self.clock)
        self.source = self.open()
        return self.source

    def print(self, data: bytes, stream: int = STDOUT) -> None:
        self.run.append([(stream, self.clock.time_ns(), 0, data)])

    def take(self) -> list[str]:
        """What there is, and the provider has it."""
        parts = self.source.take(1000, MIB)
        if parts:
            self.source.accepted(parts, 1)
        return messages_of(parts)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def told(events: Events) -> list[tuple[int, int, str]]:
    """Number, lines and message of each."""
    counts = events.counts or [1] * events.count
    return list(zip(events.seqs, counts, events.messages, strict=True))


def test_a_traceback_in_three_reads_is_one_event_that_stands_for_its_lines(bench: Bench) -> None:
    bench.print(b"before\n" + HEADER)
    assert bench.take() == ["before"]
    assert bench.source.holds
    assert not bench.source.has_pending()
    bench.print(FRAMES)
    assert bench.take() == []
    bench.print(LAST + AFTER)
    parts = bench.source.take(1000, MIB)
    (part,) = parts
    assert told(part.piece.events) == [(2, 4, JOINED), (6, 1, "after")]
    first, second = part.piece.events.records
    assert (first["lines"], first["error.kind"], first["error.message"]) == (4, "ValueError", "boom")
    assert "lines" not in second
    assert part.piece.events.sizes[0] == len(TRACEBACK) - 4
    bench.source.accepted(parts, 1)
    assert bench.source.counters["delivered"] == 6
    assert bench.source.counters["events"] == 3


def test_lines_behind_what_was_held_have_their_own_time_and_place(bench: Bench) -> None:
    bench.print(HEADER)
    assert bench.take() == []
    bench.clock.now += 0.5
    bench.print(FRAMES + LAST + AFTER)
    bench.clock.now += 0.25
    bench.print(b"last\n")
    parts = bench.source.take(1000, MIB)
    begun, *others = [time_ms for part in parts for time_ms in part.piece.events.times_ms]
    assert [time_ms - begun for time_ms in others] == [500, 750]
    bench.source.accepted(parts, 1)
    bench.restart()
    assert bench.take() == []
    assert bench.source.undelivered(5.0) == (0, True)


def test_each_request_counts_the_lines_of_its_own_events(bench: Bench) -> None:
    bench.print(b"one\ntwo\n" + TRACEBACK + AFTER + TRACEBACK + AFTER)
    for delivered in (1, 2, 6, 7, 11, 12):
        bench.source.accepted(bench.source.take(1, MIB), 1)
        assert bench.source.counters["delivered"] == delivered
        assert bench.source.left_out["empty"] == 0


@pytest.mark.parametrize("late", [0.0, 0.4, 5.0])
def test_a_header_alone_goes_a_second_after_it_was_captured(bench: Bench, late: float) -> None:
    bench.print(HEADER)
    bench.clock.now += late  # until it is read
    assert bench.take() == ([] if late < JOIN_SECONDS else [HEADER.decode().strip()])
    if late < JOIN_SECONDS:
        wait = bench.source.held_seconds()
        assert wait is not None
        assert wait == pytest.approx(JOIN_SECONDS - late)
        bench.clock.now += wait - 0.001
        assert not bench.source.has_pending()
        bench.clock.now += 0.002
        assert bench.source.has_pending()
        assert bench.take() == [HEADER.decode().strip()]
    assert bench.source.held_seconds() is None


def test_what_goes_on_does_not_make_the_first_line_wait_longer(bench: Bench) -> None:
    bench.print(HEADER)
    for _ in range(4):
        assert bench.take() == []
        bench.clock.now += 0.24
        bench.print(b"  and so on\n")
    assert bench.take() == []
    bench.clock.now += 0.05
    assert bench.take() == ["\n".join([HEADER.decode().strip(), *["  and so on"] * 4])]
    assert bench.source.counters["delivered"] == 5


def test_a_clock_that_was_set_back_makes_nothing_wait_longer(bench: Bench) -> None:
    bench.run.append([(STDOUT, bench.clock.time_ns() + 3600 * 10**9, 0, HEADER)])
    assert bench.take() == []
    assert bench.source.held_seconds() == pytest.approx(JOIN_SECONDS)
    bench.clock.now += 0.9
    bench.run.append([(STDOUT, bench.clock.time_ns() + 3600 * 10**9, 0, FRAMES)])
    assert bench.take() == []
    assert bench.source.held_seconds() == pytest.approx(0.1)


@pytest.mark.parametrize("line", [b"plain\n", AFTER, b"\xff\xfe\n", b"2026-12-01 12:00:00 INFO text\n"])
def test_a_line_that_opens_nothing_is_not_held(bench: Bench, line: bytes) -> None:
    bench.print(HEADER)
    bench.clock.now += 2
    assert len(bench.take()) == 1
    bench.print(line)
    assert len(bench.take()) == 1
    assert bench.source.held_seconds() is None


def test_what_was_held_goes_with_the_end_of_the_run_and_the_sum_is_even(bench: Bench) -> None:
    bench.print(b"\n" + HEADER + FRAMES)
    bench.print(HEADER, STDERR)
    assert bench.take() == []
    end_run(bench.run)
    assert bench.source.has_pending()
    assert bench.take() == [(HEADER + FRAMES).decode().strip(), HEADER.decode().strip()]
    assert closed(bench.source)
    assert (bench.source.counters["delivered"], bench.source.left_out["empty"]) == (4, 1)


@pytest.mark.parametrize("over", ["dead", "hurried"])
def test_nothing_is_held_where_nothing_more_is_to_come(bench: Bench, over: str) -> None:
    bench.print(HEADER)
    assert bench.take() == []
    setattr(bench.feed, over, True)
    assert bench.source.held_seconds() == 0.0
    assert bench.source.has_pending()
    assert bench.take() == [HEADER.decode().strip()]


def test_with_multiline_off_every_line_is_an_event_and_goes_at_once(bench: Bench) -> None:
    bench.feed = Feed(bench.run.path, multiline=False, clock=bench.clock)
    bench.source = bench.open("other")
    bench.print(TRACEBACK + HEADER)
    assert bench.take() == [*JOINED.split("\n"), HEADER.decode().strip()]


def test_a_restart_reads_again_what_was_held_and_not_what_was_before(bench: Bench) -> None:
    bench.print(b"before\n" + HEADER + FRAMES)
    assert bench.take() == ["before"]
    assert bench.committer.flush(5)
    assert bench.source.undelivered(5.0) == (3, True)
    bench.restart()
    assert bench.take() == []
    bench.print(LAST + AFTER)
    assert bench.take() == [JOINED, "after"]
    bench.restart()
    bench.print(b"later\n")
    assert bench.take() == ["later"]
    assert bench.source.counters["delivered"] == 7


def test_a_restart_in_the_middle_of_a_read_goes_on_behind_the_group(bench: Bench) -> None:
    bench.print(b"one\n" + TRACEBACK + AFTER + b"last\n")
    bench.source.accepted(bench.source.take(2, MIB), 1)
    assert messages_of(bench.restart().take(10, MIB)) == ["after", "last"]
    assert bench.source.counters["delivered"] == 5


def test_a_loss_ends_what_was_held_before_it(bench: Bench) -> None:
    bench.print(HEADER)
    assert bench.take() == []
    bench.run.skip(STDOUT, summarize(b"  lost\n", 1 << 18), bench.clock.time_ns(), 0, "journal_stalled")
    bench.print(AFTER)
    header, notice, after = bench.take()
    assert (header, after) == (HEADER.decode().strip(), "after")
    assert notice.startswith("1 line of stdout (2) is missing here")


def test_what_was_held_is_sent_though_its_segment_is_evicted(bench: Bench) -> None:
    bench.print(HEADER)
    assert bench.take() == []
    for _ in range(400):
        bench.print(b"w" * 60_000 + b"\n")
    assert not os.path.exists(os.path.join(bench.run.path, "0000000001.seg"))
    first, *others = bench.take()
    assert first.startswith(HEADER.decode().strip())
    assert any("missing here" in message for message in others)
    end_run(bench.run)
    while not closed(bench.source):
        bench.take()
    assert set(bench.source.dropped) == {"journal_full"}


def test_it_is_let_go_while_the_other_stream_never_pauses(bench: Bench) -> None:
    """The journal's end is never seen then."""
    bench.print(HEADER, STDERR)
    for _ in range(30):
        bench.clock.now += 0.1
        bench.print(b"w" * 60_000 + b"\n")
    taken = bench.source.take(20, 30 * MIB)
    assert [part.piece.stream for part in taken].index(STDERR) < 20
    assert bench.source.feed.available(bench.source._state) > 0


def lines_of(directory: str, cuts: list[bytes], window_bytes: int = WINDOW_BYTES) -> list[tuple[int, int, str]]:
    """What comes of lines that are printed cut by cut; they are read so too, unless the windows are small."""
    bench = Bench(directory, COMMITTER)
    if window_bytes < WINDOW_BYTES:
        bench.feed = Feed(bench.run.path, window_bytes=window_bytes, clock=bench.clock)
        bench.source = bench.open("small")
    found: list[tuple[int, int, str]] = []

    def read() -> None:
        for part in bench.source.take(1000, MIB):
            found.extend(told(part.piece.events)[part.start : part.end])

    for data in cuts:
        bench.print(data)
        if window_bytes == WINDOW_BYTES:
            read()
    end_run(bench.run)
    while bench.source.has_pending() and not bench.source.last_words:
        read()
    assert COMMITTER.flush(5)
    bench.source.close()
    bench.feed.close()
    return [event for event in found if event[0]]


COMMITTER = Committer(raise_error)
texts = st.lists(
    st.sampled_from(
        [HEADER, FRAMES, LAST, TRACEBACK, b"plain\n", b"\n", b"  indented\n", b"\r\n", b'{"message": "m"}\n', b"\xff\n"]
    ),
    max_size=12,
).map(b"".join)


@given(texts, st.integers(40, 400), st.data())
@settings(max_examples=80, deadline=None)
def test_any_cut_into_reads_and_windows_gives_the_same_events(
    text: bytes, window_bytes: int, choose: st.DataObject
) -> None:
    places = sorted(choose.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    cuts = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True) if start < end]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        assert lines_of(one, cuts, window_bytes) == lines_of(other, [text] if text else [])


@given(st.lists(st.sampled_from([TRACEBACK + AFTER, b"plain\n", b"\n", AFTER]), max_size=6).map(b"".join), st.data())
@settings(max_examples=80, deadline=None)
def test_tracebacks_are_joined_however_the_reading_keeps_up_with_the_printing(
    text: bytes, choose: st.DataObject
) -> None:
    places = sorted(choose.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    cuts = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True) if start < end]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        assert lines_of(one, cuts) == lines_of(other, [text] if text else [])


# -- several sinks -----------------------------------------------------------------------------------------------------


def test_a_sink_that_holds_other_lines_is_not_given_what_lacks_them(bench: Bench) -> None:
    one, other = bench.source, bench.open("other")
    other.along = False
    bench.print(HEADER)
    assert one.take(10, MIB) == []
    bench.clock.now += 2
    assert messages_of(one.take(10, MIB)) == [HEADER.decode().strip()]
    bench.clock.now -= 2  # to the other it is new
    assert other.take(10, MIB) == []
    assert one._state.key == other._state.key
    one.along = other.along = True
    bench.print(FRAMES + LAST + AFTER)
    assert "\n".join(messages_of(one.take(10, MIB))) == f"{(FRAMES + LAST).decode()}after"
    assert not other.queued
    assert messages_of(other.take(10, MIB)) == [JOINED, "after"]


def test_sinks_in_step_share_what_is_held_and_decode_once(bench: Bench) -> None:
    one, other = bench.source, bench.open("other")
    bench.print(HEADER + FRAMES)
    assert one.take(10, MIB) == []
    assert other._context is one._context
    bench.print(LAST + AFTER)
    assert messages_of(one.take(10, MIB)) == [JOINED, "after"]
    assert other.queued
    assert messages_of(other.take(10, MIB)) == [JOINED, "after"]


# -- the sender's sleep ------------------------------------------------------------------------------------------------


class Timed(Fake):
    """``came``: when each message did."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(self.note)
        self.clock = clock
        self.came: dict[str, float] = {}

    def note(self, messages: list[str]) -> None:
        self.came |= dict.fromkeys(messages, self.clock.now)


def times_of(directory: Path, story: Callable[[Bench, Sender], Iterator[float]]) -> dict[str, float]:
    """When each message came, since the beginning. ``story`` yields how many seconds pass."""
    bench = Bench(directory)
    sink = Timed(bench.clock)
    began = bench.clock.now

    async def play() -> None:
        sender = Sender(ENTRY, lambda: sink, 1.0, lambda text: None, clock=bench.clock)
        sender.patience = (0, 0.0)
        sender.add(bench.source)
        task = asyncio.create_task(sender.run())
        for step in story(bench, sender):
            sender.wake()
            await asyncio.sleep(step)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(bench.clock, play())
    return {message: round(when - began, 2) for message, when in sink.came.items()}


def test_a_header_alone_goes_after_a_second_without_anything_waking_the_sender(tmp_path: Path) -> None:
    def story(bench: Bench, _: Sender) -> Iterator[float]:
        yield 0.5
        bench.print(HEADER)
        yield 10.0

    assert times_of(tmp_path, story) == {HEADER.decode().strip(): 1.5}


def test_what_has_waited_for_company_does_not_wait_for_the_next_request_too(tmp_path: Path) -> None:
    def story(bench: Bench, _: Sender) -> Iterator[float]:
        bench.print(HEADER)
        yield 0.3
        bench.print(b"one\n", STDERR)
        yield 10.0

    assert times_of(tmp_path, story) == {"one": 0.3, HEADER.decode().strip(): 1.0}


def test_a_plain_line_after_a_header_goes_at_once_and_takes_it_along(tmp_path: Path) -> None:
    def story(bench: Bench, _: Sender) -> Iterator[float]:
        bench.print(HEADER)
        yield 0.3
        bench.print(b"{}\n")
        yield 10.0

    times = times_of(tmp_path, story)
    assert set(times.values()) == {0.3}


def test_a_traceback_printed_slowly_goes_when_it_is_over(tmp_path: Path) -> None:
    def story(bench: Bench, _: Sender) -> Iterator[float]:
        for data in (HEADER, FRAMES, LAST + AFTER):
            bench.print(data)
            yield 0.2
        yield 10.0

    assert times_of(tmp_path, story) == {JOINED: 0.4, "after": 0.4}


def test_the_drain_lets_go_what_is_held_at_once(tmp_path: Path) -> None:
    def story(bench: Bench, sender: Sender) -> Iterator[float]:
        bench.print(HEADER)
        yield 0.2
        sender.drain(bench.clock.now + 8.0)
        yield 0.1

    assert times_of(tmp_path, story) == {HEADER.decode().strip(): 0.2}


# -- after a worker's death --------------------------------------------------------------------------------------------


def test_lines_that_a_worker_died_of_are_not_joined_and_those_behind_them_are(bench: Bench) -> None:
    bench.feed.trial = Known(2, set())
    bench.print(HEADER + FRAMES[:10] + b"\n" + TRACEBACK + AFTER)
    assert bench.take() == [HEADER.decode().strip(), FRAMES[:10].decode().rstrip("\n"), JOINED, "after"]
    assert bench.source.counters["delivered"] == 7


def test_a_line_that_is_dropped_within_a_traceback_is_announced_and_the_others_go(bench: Bench) -> None:
    bench.feed.trial = Known(3, {2})
    bench.print(TRACEBACK + AFTER)
    header, notice, *rest = bench.take()
    assert (header, rest) == (HEADER.decode().strip(), ["    main()", "ValueError: boom", "after"])
    assert "1 line of stdout (2) is missing here" in notice
    assert (bench.source.counters["delivered"], bench.source.dropped) == (4, {"worker_died": 1})


# -- what is known of the calls ----------------------------------------------------------------------------------------


class Counting(Calls):
    """How many events came."""

    def __init__(self, count: int = 0, size: int = 1) -> None:
        self.count = count
        self.size = size

    def follow(self, events: Events) -> Calls:
        for record in events.records:
            record["call"] = self.count
        return Counting(self.count + events.count, self.size)

    def to_cursor(self) -> dict[str, object]:
        return {"count": self.count, "more": "x" * self.size}


def test_what_is_known_of_the_calls_goes_from_window_to_window(bench: Bench) -> None:
    state, context = State.start(), Context.begin(Counting())
    seen = []
    for data in (b"a\nb\n", HEADER, FRAMES + LAST + AFTER):
        bench.print(data)
        pieces, state, context, _ = bench.feed.read(state, context)
        seen += [record["call"] for piece in pieces for record in piece.events.records]
    assert seen == [0, 0, 2, 2]
    assert isinstance(context.calls, Counting)
    assert context.calls.count == 4


@pytest.mark.parametrize(("size", "kept"), [(1, True), (3000, False)])
def test_a_cursor_says_what_is_known_of_the_calls_where_it_stands(bench: Bench, size: int, kept: bool) -> None:
    bench.source._context = Context.begin(Counting(size=size))
    bench.print(b"a\nb\n")
    first: list[Part] = bench.source.take(2, MIB)
    bench.print(b"c\n")
    bench.source.take(2, MIB)  # not accepted
    bench.source.accepted(first, 1)
    assert bench.committer.flush(5)
    values = CursorFile.read(bench.run.path, "datadog")
    assert values is not None
    assert ("calls" in values) == kept
    assert not kept or values["calls"]["count"] == 2


def test_a_long_tail_that_grows_line_by_line_is_not_looked_at_each_time(bench: Bench) -> None:
    lines = 1500
    looked_at = 0
    bench.print(HEADER)
    for _ in range(lines):
        assert bench.take() == []
        held = bench.source._context.held[STDOUT]
        looked_at += 0 if held.unseen else len(held.lines.lines)
        bench.print(b"    main()\n")
    assert looked_at < SHORT**2 + 4 * lines
    bench.print(AFTER)
    assert bench.take() == []
    wait = bench.source.held_seconds()
    assert wait is not None
    assert 0 < wait <= 0.1
    assert not bench.source.has_pending()
    bench.clock.now += wait + 0.001
    assert bench.source.has_pending()
    assert bench.take() == ["\n".join([HEADER.decode().strip(), *["    main()"] * lines]), "after"]
    assert bench.source.held_seconds() is None


def test_what_came_unseen_behind_a_long_tail_has_its_own_second(bench: Bench) -> None:
    bench.print(HEADER + b"    main()\n" * 100)
    assert bench.take() == []
    bench.clock.now += JOIN_SECONDS - 0.01
    bench.print(b"    main()\n")
    assert bench.take() == []
    bench.print(LAST + AFTER + HEADER)
    assert bench.take() == []
    assert bench.source._context.held[STDOUT].unseen == 3
    bench.clock.now += 0.02
    joined, after = bench.take()
    assert (joined.count("\n"), after) == (102, "after")
    bench.print(FRAMES + LAST + AFTER)
    assert bench.take() == [JOINED, "after"]
