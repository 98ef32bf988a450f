"""What is noted, woken, learnt and said as requests are settled, one by one."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from shipper.delivery import sender as sender_module
from shipper.delivery.commits import Committer
from shipper.delivery.feed import Feed
from shipper.delivery.sender import Sender
from shipper.delivery.source import Source, bytes_of
from shipper.journal.cursor import CursorFile
from shipper.journal.numbering import STDOUT
from shipper.sinks.base import Acceptance, Body, Limits, RefusedError, RejectedError, RetryableError
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
from tests.delivery.test_sender import ENTRY, NUMBERS, Bench, Fake, Slow, closes
from tests.delivery.test_troubles import cancel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shipper.journal.facts import Facts
    from shipper.sinks.base import Encoder, Slice


# -- a source ----------------------------------------------------------------------------------------------------------


def test_empty_lines_behind_a_request_under_way_are_not_passed(tmp_path: Path) -> None:
    committer = Committer(raise_error)
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\n")])
    source = open_source(run.path, committer)
    first = source.take(100, MIB)
    source.under_way += 1
    run.append([(STDOUT, NOW_NS, 0, b"\n\n")])
    assert source.take(100, MIB) == []
    assert source.left_out["empty"] == 0
    assert committer.flush(5)
    assert messages_of(open_source(run.path, committer).take(100, MIB)) == ["one"]  # died before it was accepted
    source.under_way -= 1
    source.accepted(first, 1)
    assert source.take(100, MIB) == []
    assert source.left_out["empty"] == 2


def test_a_run_is_complete_once_and_only_when_nothing_is_under_way(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\n\n")])
    end_run(run)
    source = open_source(run.path, Committer(raise_error), final=True)
    parts = source.take(100, MIB)
    source.under_way += 1
    assert source.take(100, MIB) == []
    assert not source.finish()
    source.under_way -= 1
    source.accepted(parts, 1)
    assert closed(source)
    assert closed(source)
    assert source.left_out["empty"] == 1


def test_the_bytes_at_hand_are_those_of_what_is_queued(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 1000)
    source = open_source(run.path, Committer(raise_error))

    def right() -> bool:
        events = [(part.piece.events, part.start, part.end) for part in source._pieces]
        return source._queued_bytes == sum(sum(some.sizes[start:end]) for some, start, end in events)

    parts = source.take(100, MIB)
    more = source.take(100, 500)
    assert right()
    source.put_back(more)
    assert right()
    source.put_back(parts)
    assert right()
    assert source._queued_bytes > bytes_of(parts) + bytes_of(more)
    while source.take(300, MIB):
        assert right()
    assert source._queued_bytes == 0


def test_one_that_is_complete_is_given_nothing(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 5)
    feed, committer = Feed(run.path), Committer(raise_error)
    reading, complete = (Source(feed, CursorFile(run.path, name), committer, adopted=False) for name in ("a", "b"))
    complete.complete = True
    assert len(reading.take(10, MIB)) == 1
    assert not complete.queued


# -- sources and senders -----------------------------------------------------------------------------------------------


async def test_what_another_sink_reads_wakes_the_ones_that_stand_there(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    feed, committer = Feed(run.path), Committer(raise_error)
    sinks = [Fake(), Fake()]
    senders = [Sender(ENTRY, lambda sink=sink: sink, 0.0, lambda text: None) for sink in sinks]  # type: ignore[misc]
    for number, sender in enumerate(senders):
        sender.add(Source(feed, CursorFile(run.path, f"sink{number}"), committer, adopted=False))
    tasks = [asyncio.create_task(sender.run()) for sender in senders]
    await all_had_their_turn()
    print_lines(run, 1, 1)
    senders[0].wake()
    await becomes(lambda: [len(sink.accepted) for sink in sinks] == [1, 1])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_run_that_is_added_in_an_outage_is_given_nothing_until_it_is_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NUMBERS, Fake())
    bench.sender._failures = 1
    run = begin_run(str(tmp_path / "other"))
    source = open_source(run.path, bench.committer)
    bench.sender.add(source)
    assert not source.along
    bench.sender._well()
    assert source.along


async def test_a_sink_is_filling_only_while_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, NUMBERS, Fake())
    seen: list[object] = []
    read = bench.source.read

    def watched() -> bool:
        seen.append(bench.source.filling)
        return read()

    monkeypatch.setattr(bench.source, "read", watched)
    await bench.drain()
    assert seen[0] == (100, 40_000, 0.0)
    assert bench.source.filling is None


# -- answers -----------------------------------------------------------------------------------------------------------


async def test_what_comes_while_a_request_fails_is_not_sent(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        if messages[0] == "line 101":
            raise RetryableError("busy", 3600.0)

    sink = Slow(answer)
    bench = Bench(tmp_path, NUMBERS, sink)
    task = asyncio.create_task(bench.sender.run())
    await sink.let("line 1")
    await becomes(lambda: {"line 101", "line 201"} <= set(sink.held))
    bench.sender._concurrency.limit = 16
    await sink.let("line 101")
    await sink.let("line 201")
    bench.sender.wake()
    await all_had_their_turn()
    assert sink.held == {}
    assert len(sink.requests) == 3
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("throttled", [False, True])
async def test_a_failure_is_told_to_what_decides_how_many_are_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, throttled: bool
) -> None:
    failures = [RetryableError("busy", 0.0, throttled=throttled)]

    def answer(messages: list[str]) -> None:
        if messages[0] == "line 101" and failures:
            raise failures.pop()

    told: list[bool] = []
    bench = Bench(tmp_path, NUMBERS[:200], Fake(answer))
    monkeypatch.setattr(bench.sender._concurrency, "failed", lambda throttled, now: told.append(throttled))
    await bench.drain()
    assert told == [throttled]
    assert bench.source.complete


async def test_a_half_that_is_accepted_proves_the_provider(tmp_path: Path) -> None:
    lines = NUMBERS[:40]
    bad = set(lines[20:])

    def answer(messages: list[str]) -> None:
        if len(messages) > 20 or bad & set(messages):
            raise RejectedError("status 400", 400)

    bench = Bench(tmp_path, lines, Fake(answer))
    await bench.drain()
    assert bench.source.dropped == {"rejected": 20}
    assert bench.source.complete


async def test_a_notice_that_is_kept_out_is_not_told_of(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> Acceptance | None:
        if messages[0] == "line 1" or "missing here" in messages[0]:
            return Acceptance(((0, 1, "too old"),))
        return None

    bench = Bench(tmp_path, NUMBERS[:10], Fake(answer))
    await bench.drain()
    assert bench.source.dropped == {"rejected": 1}
    assert bench.source.complete
    assert len([message for message in bench.sink.accepted if "missing here" in message]) == 1


async def test_a_sink_that_refused_all_and_now_takes_lines_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "PARKED_SECONDS", 0.01)
    errors = [RejectedError("status 400", 400)] * 2

    def answer(messages: list[str]) -> None:
        if errors:
            raise errors.pop()

    bench = Bench(tmp_path, ["only"], Fake(answer))
    task = asyncio.create_task(bench.sender.run())
    await becomes(lambda: bench.sink.accepted == ["only"])
    await becomes(lambda: bench.sender.state == "well")
    assert bench.said[-1] == "Datadog takes lines again"
    bench.sender.drain(time.monotonic() + 60)
    await asyncio.wait_for(task, 60)


async def test_a_renewed_sink_is_opened_and_the_refused_one_closed(tmp_path: Path) -> None:
    def refuse(messages: list[str]) -> None:
        raise RefusedError("Datadog refused DATADOG_TOKEN.", "DATADOG_TOKEN")

    refused = Fake(refuse)
    bench = Bench(tmp_path, NUMBERS[:10], refused)
    task = asyncio.create_task(bench.sender.run())
    await becomes(lambda: bool(bench.said))
    opened: list[int] = []
    renewed = bench.sink = Fake(lambda messages: opened.append(renewed.opened))
    bench.sender.drain(time.monotonic() + 60)
    await asyncio.wait_for(task, 60)
    assert opened == [1, 1]  # the lines, and the closing event
    assert (refused.opened, renewed.opened) == (0, 0)


async def test_what_a_body_is_larger_than_its_lines_is_learnt(tmp_path: Path) -> None:
    encoded: list[int] = []

    class Wordy(Fake):
        def encoder(self, facts: Facts) -> Encoder:
            plain = super().encoder(facts)

            def encode(slices: Sequence[Slice], now_ms: int) -> Body:
                body = plain(slices, now_ms)
                encoded.append(body.count)
                return Body(body.data, 200 * body.count, body.count, "/", {})

            return encode

    sink = Wordy()
    sink.limits = Limits(max_events=100, max_body_bytes=10_000, target_body_bytes=9_000)
    bench = Bench(tmp_path, [f"{n:04}" + "." * 96 for n in range(1000)], sink)
    await bench.drain()
    assert len(encoded) - len(sink.requests) - len(sink.closings) == 1  # the first one alone came out too large
    assert all(40 <= len(request) <= 45 for request in sink.requests[1:-1])


@pytest.mark.parametrize("in_part", [False, True])
async def test_a_closing_event_that_is_refused_for_good_holds_nothing_up_and_is_said(
    tmp_path: Path, in_part: bool
) -> None:
    """Also by a provider that takes the request and says that it keeps nothing of it."""

    def answer(messages: list[str]) -> Acceptance | None:
        if closes(messages) and in_part:
            return Acceptance(((0, 1, "status 400"),))
        if closes(messages):
            raise RejectedError("status 400", 400)
        return None

    bench = Bench(tmp_path, NUMBERS[:10], Fake(answer))
    bench.sender.drain(time.monotonic() + 20)
    await asyncio.wait_for(bench.sender.run(), 30)
    assert bench.source.complete
    assert (bench.sink.accepted, bench.source.dropped) == (NUMBERS[:10], {})
    assert len(bench.sink.closings) == in_part
    (said,) = bench.said
    assert said.startswith("Datadog did not take the event that tells of the agent's end (status 400): ")


async def test_a_provider_that_is_down_at_the_end_leaves_the_closing_event_to_the_next_start(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        if closes(messages):
            raise RetryableError("down", 3600.0)

    bench = Bench(tmp_path, NUMBERS[:10], Fake(answer))
    await bench.drain()
    assert not bench.source.complete
    assert bench.source.drained
    assert bench.committer.flush(5)
    again = open_source(bench.source.feed.run, bench.committer, final=True)
    sink = Fake()
    sender = Sender(ENTRY, lambda: sink, 3600.0, bench.said.append)  # it waits for no company, drain or not
    sender.add(again)
    task = asyncio.create_task(sender.run())
    await becomes(lambda: again.complete)
    await cancel(task)
    assert (sink.accepted, len(sink.closings)) == ([], 1)


async def test_a_run_s_end_that_is_written_just_after_a_look_is_read_in_the_drain(tmp_path: Path) -> None:
    """The look gave nothing, and a source that gives nothing ends a drain."""
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 1)
    sink = Fake()
    sender = Sender(ENTRY, lambda: sink, 0.0, lambda text: None)
    source = open_source(run.path, Committer(raise_error))
    sender.add(source)
    task = asyncio.create_task(sender.run())
    await becomes(lambda: source.counters["delivered"] == 1)
    run.end_stream(STDOUT)
    sender.wake()
    await becomes(lambda: source in sender._resting)
    run.end({"exit_status": 0})
    sender.drain(time.monotonic() + 20)
    await asyncio.wait_for(task, 30)
    assert source.complete
