"""Several troubles at once: failures side by side, a disk that fails, a run that vanishes, the end in the middle."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from shipper.config.registry import SinkEntry
from shipper.delivery.adoption import Adopter
from shipper.delivery.commits import Committer
from shipper.delivery.feed import Context, Feed, Piece, loss_notice
from shipper.delivery.sender import Sender
from shipper.delivery.source import Part, Source
from shipper.journal.cursor import CursorFile
from shipper.journal.numbering import STDOUT, summarize
from shipper.lines.events import Events
from shipper.sinks.base import Acceptance, Body, Limits, RejectedError, RetryableError
from tests.delivery.delivery_helpers import (
    MIB,
    NOW_NS,
    all_had_their_turn,
    becomes,
    begin_run,
    closed,
    end_run,
    messages_of,
    open_source,
    print_lines,
    raise_error,
)
from tests.delivery.test_sender import ENTRY, NUMBERS, Bench, Fake, Slow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from shipper.journal.facts import Facts
    from shipper.journal.reader import State
    from shipper.sinks.base import Encoder, Slice


async def cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def two_under_way(bench: Bench, sink: Slow) -> asyncio.Task[None]:
    """The sender at work, line 1 accepted, and the requests that begin with lines 101 and 201 not yet answered."""
    task = asyncio.create_task(bench.sender.run())
    await sink.let("line 1")
    await becomes(lambda: {"line 101", "line 201"} <= set(sink.held))
    return task


# -- the journal -------------------------------------------------------------------------------------------------------


class Unreadable:
    """In place of a feed's ``read``; ``fails(n)`` tells whether the n-th reading does."""

    def __init__(self, source: Source, monkeypatch: pytest.MonkeyPatch, fails: Callable[[int], bool]) -> None:
        self.readings = self.failures = 0
        self._read = source.feed.read
        self._fails = fails
        monkeypatch.setattr(source.feed, "read", self.read)

    def read(self, state: State, context: Context) -> tuple[list[Piece], State, Context, bool]:
        self.readings += 1
        if self._fails(self.readings):
            self.failures += 1
            raise OSError(5, "Input/output error")
        return self._read(state, context)


def test_what_was_taken_before_the_reading_failed_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin_run(str(tmp_path), max_bytes=2 * MIB)
    print_lines(run, 1, 12_000, width=80)  # more than a segment
    end_run(run)
    source = open_source(run.path, Committer(raise_error), final=True)
    disk = Unreadable(source, monkeypatch, lambda number: number % 3 == 2)
    seen: list[str] = []
    while not closed(source):
        try:
            parts = source.take(3000, MIB)
        except OSError:
            continue
        seen += messages_of(parts)
        source.accepted(parts, 1)
    assert disk.failures > 1
    assert source.left_out["empty"] == 0
    assert len(seen) == 12_000


async def test_what_was_read_before_the_reading_failed_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 10)
    sink = Fake()
    sender = Sender(ENTRY, lambda: sink, 0.0, lambda text: None)
    source = open_source(run.path, Committer(raise_error))
    disk = Unreadable(source, monkeypatch, lambda number: number == 3)  # the look for more than what is at hand
    sender.add(source)
    task = asyncio.create_task(sender.run())
    await becomes(lambda: disk.readings >= 3)
    print_lines(run, 11, 1)
    end_run(run)
    sender.drain(time.monotonic() + 60)
    await asyncio.wait_for(task, 60)
    assert len(sink.accepted) == 11


async def test_after_the_journal_could_be_read_again_a_second_failure_is_said_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NUMBERS[:10], Fake())
    failure = OSError(5, "Input/output error")
    bench.sender._journal_failed(failure)
    bench.sender._journal_failed(failure)
    assert bench.said == [
        "the journal cannot be read (Input/output error): Datadog gets no lines until it can",
    ]
    await bench.drain()
    assert bench.sender.state == "well"
    bench.sender._journal_failed(failure)
    assert bench.said == [bench.said[0]] * 2


@pytest.mark.parametrize("restart", [False, True])
def test_an_empty_line_before_a_loss_is_counted(tmp_path: Path, restart: bool) -> None:
    committer = Committer(raise_error)
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\n\n")])
    run.skip(STDOUT, summarize(b"three\n", 1 << 18), NOW_NS, 0, "journal_stalled")
    source = open_source(run.path, committer)
    if restart:
        source.accepted(source.take(100, MIB), 1)
        assert committer.flush(5)
    run.append([(STDOUT, NOW_NS, 0, b"four\n")])
    end_run(run)
    if restart:
        source = open_source(run.path, committer, final=True)
    while parts := source.take(100, MIB):
        source.accepted(parts, 1)
    assert closed(source)
    assert source.counters["delivered"] == 2
    assert source.dropped == {"journal_stalled": 1}
    assert source.left_out["empty"] == 1


# -- runs of dead wrappers ---------------------------------------------------------------------------------------------


async def test_a_dead_run_that_two_sinks_have_got_already_is_let_go(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path), sinks=("a", "b"))
    print_lines(run, 1, 10)
    committer = Committer(raise_error)
    for name in ("a", "b"):  # all delivered, then the node's power went: no end in the journal
        source = open_source(run.path, committer, name)
        source.accepted(source.take(100, MIB), 1)
    assert committer.flush(5)
    run.close()
    os.close(run.lock_fd)
    senders = [Sender(SinkEntry(name, (), "tests:Fake", name), Fake, 0.0, lambda text: None) for name in ("a", "b")]
    adopter = Adopter(str(tmp_path), "", senders, committer, lambda text: None)
    for sender in senders:
        sender.more = adopter.advance
    adopter.look()
    assert len(adopter.sources) == 2
    tasks = [asyncio.create_task(sender.run()) for sender in senders]

    def let_go() -> bool:
        adopter.look()
        return adopter.sources == []

    await becomes(let_go)
    await cancel(*tasks)


async def test_a_run_that_is_removed_while_requests_are_under_way_is_let_go_after_them(tmp_path: Path) -> None:
    errors: list[Exception] = []
    committer = Committer(errors.append)
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 12_000, width=80)
    end_run(run)
    sink = Slow()
    sender = Sender(ENTRY, lambda: sink, 0.0, lambda text: None)
    adopter = Adopter(str(tmp_path), "", [sender], committer, lambda text: None)
    adopter.look()
    ((_, source),) = adopter.sources
    task = asyncio.create_task(sender.run())
    await becomes(lambda: bool(sink.held))
    assert committer.flush(5)  # nothing may come into a directory that is being emptied
    shutil.rmtree(run.path)
    source.feed.gone = True  # as the next reading finds
    adopter.look()
    assert adopter.sources == [(sender, source)]
    sink.free.set()
    await becomes(lambda: not (source.under_way or source.queued))
    assert committer.flush(30)
    adopter.look()
    assert adopter.sources == []
    assert committer.flush(5)
    await cancel(task)
    assert errors == []


# -- the end, in the middle of something -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["in part", "not at all"])
async def test_the_notice_of_the_last_request_is_sent_before_the_drain_ends(tmp_path: Path, how: str) -> None:
    def answer(messages: list[str]) -> Acceptance | None:
        if "line 3" not in messages:
            return None
        if how == "not at all":
            raise RejectedError("status 400", 400)
        place = messages.index("line 3")
        return Acceptance(((place, place + 1, "too old"),))

    sink = Slow(answer)
    run = begin_run(str(tmp_path))
    sender = Sender(ENTRY, lambda: sink, 0.0, lambda text: None)
    source = open_source(run.path, Committer(raise_error))
    sender.add(source)
    run.append([(STDOUT, NOW_NS, 0, b"line 0\n")])
    task = asyncio.create_task(sender.run())
    await sink.let("line 0")
    run.append([(STDOUT, NOW_NS, 0, b"line 1\nline 2\nline 3\n")])
    sender.wake()
    await becomes(lambda: "line 1" in sink.held)
    end_run(run)
    sender.wake()
    sender.drain(time.monotonic() + 60)
    await becomes(lambda: source.feed.end is not None)
    sink.free.set()
    await asyncio.wait_for(task, 60)
    assert source.dropped == {"rejected": 1}
    assert len([message for message in sink.accepted if "missing here" in message]) == 1
    assert source.complete


async def test_a_sink_with_several_failing_requests_gets_one_more_attempt_in_the_drain(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        if messages[0] != "line 1":
            raise RetryableError("down", 3600.0)

    sink = Slow(answer)
    bench = Bench(tmp_path, NUMBERS, sink)
    task = await two_under_way(bench, sink)
    await sink.let("line 101")
    await sink.let("line 201")
    await becomes(lambda: bench.sender.state != "well")
    sink.free.set()
    before = len(sink.requests)
    bench.sender.drain(time.monotonic() + 600)
    await asyncio.wait_for(task, 60)
    assert len(sink.requests) == before + 1


async def test_a_sink_whose_second_request_fails_on_gets_one_more_attempt_in_the_drain(tmp_path: Path) -> None:
    waits = {"line 101": iter([0.0]), "line 201": iter([0.0, 300.0, 300.0])}

    def answer(messages: list[str]) -> None:
        wait = next(waits.get(messages[0], iter([])), None)
        if wait is not None:
            raise RetryableError("busy", wait)

    sink = Slow(answer)
    bench = Bench(tmp_path, NUMBERS[:300], sink)
    task = await two_under_way(bench, sink)
    await sink.let("line 101")
    await sink.let("line 201")
    await sink.let("line 101")  # taken
    await sink.let("line 201")  # fails again
    await becomes(lambda: bench.sender.state != "well")
    sink.free.set()
    before = len(sink.requests)
    bench.sender.drain(time.monotonic() + 600)
    await asyncio.wait_for(task, 60)
    assert len(sink.requests) == before + 1


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_sender_that_is_cancelled_as_it_wakes_ends(tmp_path: Path, turns: int) -> None:
    run = begin_run(str(tmp_path))
    sink = Fake()
    sender = Sender(ENTRY, lambda: sink, 3600.0, lambda text: None)
    sender.add(open_source(run.path, Committer(raise_error)))
    task = asyncio.create_task(sender.run())
    print_lines(run, 1, 1)
    sender.wake()
    await becomes(lambda: len(sink.accepted) == 1)
    print_lines(run, 2, 1)  # waits for company
    sender.wake()
    await all_had_their_turn()
    sender.wake()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    ended, _ = await asyncio.wait([task], timeout=10)
    await cancel(task)
    assert ended


# -- failures side by side ---------------------------------------------------------------------------------------------


async def test_while_the_second_of_two_failing_requests_still_fails_no_other_is_begun(tmp_path: Path) -> None:
    failing = {"line 101": 1, "line 201": 10**9}

    def answer(messages: list[str]) -> None:
        if failing.get(messages[0], 0):
            failing[messages[0]] -= 1
            raise RetryableError("busy", 0.0)

    sink = Slow(answer)
    bench = Bench(tmp_path, NUMBERS, sink)
    task = await two_under_way(bench, sink)
    bench.sender._concurrency.limit = 16
    await sink.let("line 101")
    await sink.let("line 201")
    await sink.let("line 101")  # taken
    await sink.let("line 201")  # fails again
    bench.sender.wake()  # something was appended
    await becomes(lambda: "line 201" in sink.held)
    bench.sender.wake()
    await all_had_their_turn()
    assert {request[0] for request in sink.requests} == {"line 1", "line 101", "line 201"}
    await cancel(task)


async def test_what_one_answer_asks_to_wait_holds_for_the_requests_that_wait_too(tmp_path: Path) -> None:
    waits = {"line 101": iter([0.0]), "line 201": iter([3600.0])}

    def answer(messages: list[str]) -> None:
        wait = next(waits.get(messages[0], iter([])), None)
        if wait is not None:
            raise RetryableError("busy", wait, throttled=True)

    sink = Slow(answer)
    bench = Bench(tmp_path, NUMBERS, sink)
    task = await two_under_way(bench, sink)
    await sink.let("line 101")
    await sink.let("line 201")
    await sink.let("line 101")  # taken
    await all_had_their_turn()
    assert [request[0] for request in sink.requests[3:]] == ["line 101"]
    assert sink.held == {}
    await cancel(task)


def test_nobody_waits_for_a_sink_in_trouble(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    feed, committer = Feed(run.path), Committer(raise_error)
    well, troubled = (Source(feed, CursorFile(run.path, name), committer, adopted=False) for name in ("a", "b"))
    troubled.along = False
    print_lines(run, 1, 1)
    assert not well.outruns()


def test_a_notice_that_is_kept_out_counts_for_no_line(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    source = open_source(run.path, Committer(raise_error))
    notice = Part(Piece(1, loss_notice(1, 0, 1, 1, "rejected", "why")), 0, 1)
    source.accepted([notice], 1, kept_out=[notice])
    assert source.dropped == {}
    assert source.counters["delivered"] == 0


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
async def test_a_request_that_failed_once_holds_no_lines_when_it_is_through(tmp_path: Path) -> None:
    seen: set[str] = set()

    def answer(messages: list[str]) -> None:
        if messages[0] not in seen:
            seen.add(messages[0])
            raise RetryableError("busy", 0.0)

    def lines_held() -> int:
        return sum(thing.count for thing in gc.get_objects() if type(thing) is Events)

    run = begin_run(str(tmp_path), max_bytes=64 * MIB)
    print_lines(run, 1, 20_000, width=80)
    end_run(run)
    before = lines_held()
    sink = Fake(answer)
    sink.limits = Limits(max_events=1000, max_body_bytes=MIB, target_body_bytes=MIB)
    sender = Sender(ENTRY, lambda: sink, 0.0, lambda text: None)
    source = open_source(run.path, Committer(raise_error), final=True)
    sender.add(source)
    sender.drain(time.monotonic() + 60)
    await asyncio.wait_for(sender.run(), 60)
    assert source.complete
    assert source.counters["retried"] > 10
    assert lines_held() - before < 5000  # the feed keeps a window


# -- sizes -------------------------------------------------------------------------------------------------------------


class Escaping(Fake):
    """Each quote takes six bytes in its bodies."""

    def encoder(self, facts: Facts) -> Encoder:
        plain = super().encoder(facts)

        def encode(slices: Sequence[Slice], now_ms: int) -> Body:
            body = plain(slices, now_ms)
            return Body(body.data, body.size + 5 * body.data.count(b'"'), body.count, "/", {})

        return encode


async def test_the_second_half_of_what_is_too_large_does_not_wait_for_company(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 80, width=390)
    sink = Fake()
    sink.limits = Limits(max_events=100, max_body_bytes=20_000, target_body_bytes=40_000)
    sender = Sender(ENTRY, lambda: sink, 3600.0, lambda text: None)
    sender.add(open_source(run.path, Committer(raise_error)))
    task = asyncio.create_task(sender.run())
    await becomes(lambda: len(sink.accepted) == 80)
    await cancel(task)


async def test_one_odd_line_does_not_make_the_requests_after_it_small(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    sink = Escaping()
    sink.limits = Limits(max_events=1000, max_body_bytes=1_000_000, target_body_bytes=950_000)
    sender = Sender(ENTRY, lambda: sink, 3600.0, lambda text: None)
    sender.add(open_source(run.path, Committer(raise_error)))
    run.append([(STDOUT, NOW_NS, 0, b'"' * 60_000 + b"\n")])
    task = asyncio.create_task(sender.run())
    await becomes(lambda: len(sink.accepted) == 1)
    print_lines(run, 1, 500)
    end_run(run)
    sender.drain(time.monotonic() + 60)
    await asyncio.wait_for(task, 60)
    assert [len(request) for request in sink.requests] == [1, 500]


async def test_a_poison_line_at_the_very_start_that_is_alone_in_its_request_is_found_by_those_after_it(
    tmp_path: Path,
) -> None:
    def answer(messages: list[str]) -> None:
        if "poison" in messages:
            raise RejectedError("status 400", 400)

    sink = Escaping(answer)
    sink.limits = Limits(max_events=100, max_body_bytes=5000, target_body_bytes=4500)
    lines = ["poison", '"' * 1000, *NUMBERS[:10]]  # the second does not fit beside the first
    bench = Bench(tmp_path, lines, sink)
    await bench.drain()
    assert [message for message in sink.accepted if "missing here" not in message] == lines[1:]
    assert bench.source.dropped == {"rejected": 1}
    assert bench.source.complete


async def test_a_run_that_is_removed_while_it_is_read_is_left_alone(tmp_path: Path) -> None:
    class Removing(Sender):
        async def _read_in_step(self, source: Source) -> None:
            await super()._read_in_step(source)
            self.remove(source)

    bench = Bench(tmp_path, NUMBERS[:10], Fake())
    bench.sender = Removing(ENTRY, lambda: bench.sink, 0.0, bench.said.append)
    bench.sender.add(bench.source)
    await bench.drain()
    assert bench.sink.requests == []
    assert bench.sender._due == {}


async def test_a_request_that_waits_for_another_one_slows_down_too_when_fewer_are_asked_for(tmp_path: Path) -> None:
    first = {"line 101": False, "line 201": True}

    def answer(messages: list[str]) -> None:
        if messages[0] in first:
            raise RetryableError("busy", 3600.0, throttled=first.pop(messages[0]))

    sink = Slow(answer)
    bench = Bench(tmp_path, NUMBERS, sink)
    task = asyncio.create_task(bench.sender.run())
    await sink.let("line 1")
    await becomes(lambda: {"line 101", "line 201"} <= set(sink.held))
    await sink.let("line 101")
    await becomes(lambda: bench.sender.state != "well")
    assert bench.sender.interval == 0.0
    await sink.let("line 201")
    await becomes(lambda: bench.sender.interval == 1.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
