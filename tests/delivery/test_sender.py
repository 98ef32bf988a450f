"""The one sender around every sink, against a sink that does one wrong thing at a time."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from shipper.config.budget import Budget
from shipper.config.registry import SinkEntry
from shipper.delivery.commits import Committer
from shipper.delivery.sender import Sender
from shipper.delivery.source import Source
from shipper.journal.cursor import CursorFile
from shipper.sinks.base import (
    Acceptance,
    Body,
    Limits,
    RefusedError,
    RejectedError,
    RetryableError,
    SettingError,
    Sink,
)
from tests.delivery.delivery_helpers import (
    becomes,
    begin_run,
    end_run,
    messages_of,
    open_source,
    print_lines,
    raise_error,
)
from tests.delivery.virtual import VirtualClock, run_virtually
from tests.helpers import is_closing, ledger_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from shipper.journal.facts import Facts
    from shipper.sinks.base import Encoder, Slice

ENTRY = SinkEntry("datadog", ("DATADOG_TOKEN",), "tests:Fake", "Datadog")


class Fake(Sink):
    """Keeps the messages it accepts, closing events' apart; ``answer`` may raise, or return what was not taken."""

    name = "datadog"
    title = "Datadog"
    destination = "nowhere"
    limits = Limits(max_events=100, max_body_bytes=50_000, target_body_bytes=40_000)

    def __init__(self, answer: Callable[[list[str]], Acceptance | None] = lambda messages: None) -> None:
        self.answer = answer
        self.accepted: list[str] = []
        self.requests: list[list[str]] = []
        self.closings: list[str] = []
        self.ledgers: dict[str, dict[str, Any]] = {}  # by run
        self.opened = 0
        self.encoders = 0

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        return cls()

    def place(self, facts: Facts) -> str:
        return "nowhere"

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.opened -= 1

    def encoder(self, facts: Facts) -> Encoder:
        self.encoders += 1

        def encode(slices: Sequence[Slice], now_ms: int) -> Body:
            messages = [message for events, start, end in slices for message in events.messages[start:end]]
            first = slices[0][0].records[slices[0][1]]
            if is_closing(first):
                self.ledgers[facts.run] = ledger_of(first)
            if "poisonous to encode" in messages:
                raise ZeroDivisionError
            text = "\0".join(messages)
            return Body(text.encode(), len(text), len(messages), "/", {})

        return encode

    def got(self, body: Body) -> list[str]:
        messages = body.data.decode().split("\0")
        if not closes(messages):
            self.requests.append(messages)
        return messages

    def keep(self, messages: list[str]) -> None:
        (self.closings if closes(messages) else self.accepted).extend(messages)

    async def send(self, body: Body) -> Acceptance | None:
        messages = self.got(body)
        acceptance = self.answer(messages)
        self.keep(messages)
        return acceptance


def closes(messages: list[str]) -> bool:
    """Whether the request holds a closing event, and so nothing else."""
    closing = any(" captured, " in message for message in messages)
    assert not closing or len(messages) == 1
    return closing


class Bench:
    """A finished run of ``lines``, and a sender to drain it."""

    def __init__(self, directory: Path, lines: Sequence[str], sink: Fake) -> None:
        self.said: list[str] = []
        self.sink = sink
        self.lines = len(lines)
        self.committer = Committer(raise_error)
        run = begin_run(str(directory))
        run.append([(1, time.time_ns(), 0, b"".join(line.encode() + b"\n" for line in lines))])
        end_run(run)
        self.source: Source = open_source(run.path, self.committer, final=True)
        self.sender = Sender(ENTRY, lambda: self.sink, 0.0, self.said.append)
        self.sender.add(self.source)

    def cursor(self) -> dict[str, Any]:
        """What stands in the file."""
        self.committer.flush(10.0)
        values = CursorFile.read(self.source.feed.run, "datadog")
        assert values is not None
        return values

    async def drain(self, seconds: float = 20.0) -> None:
        self.sender.drain(time.monotonic() + seconds)
        await asyncio.wait_for(self.sender.run(), seconds + 10)
        assert self.sink.opened == 0
        assert len(self.sink.closings) == sum(source.complete for source in self.sender._sources)
        if self.source.complete:
            ledger = self.sink.ledgers[self.source.feed.facts.run]
            filtered = sum(self.source.left_out.values())
            assert (ledger["delivered"], ledger["filtered"]) == (self.source.counters["delivered"], filtered)
            assert (ledger["captured"], ledger["dropped"]) == (self.lines, self.source.dropped)


def agents(messages: Sequence[str]) -> list[str]:
    """Without our own events."""
    return [message for message in messages if "missing here" not in message]


NUMBERS = [f"line {n}" for n in range(1, 1001)]


async def test_everything_is_sent_in_order_in_requests_of_the_sinks_size(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NUMBERS, Fake())
    await bench.drain()
    assert bench.sink.accepted == NUMBERS
    assert [len(request) for request in bench.sink.requests] == [100] * 10
    assert bench.source.complete
    assert bench.said == []


async def test_a_poison_line_is_alone_in_the_end_and_its_neighbours_arrive(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        if "line 333" in messages:
            raise RejectedError("status 400", 400)

    bench = Bench(tmp_path, NUMBERS, Fake(answer))
    await bench.drain()
    assert agents(bench.sink.accepted) == [line for line in NUMBERS if line != "line 333"]
    assert bench.source.dropped == {"rejected": 1}
    assert bench.source.counters["delivered"] == 999
    (notice,) = [message for message in bench.sink.accepted if "missing here" in message]
    assert "stdout (333)" in notice
    assert "line 333" not in notice
    assert len([message for message in bench.said if "did not take" in message]) == 1


async def test_a_body_that_comes_out_too_large_is_halved(tmp_path: Path) -> None:
    lines = [f"{n} " + "x" * 390 for n in range(200)]
    sink = Fake()
    sink.limits = Limits(max_events=200, max_body_bytes=9_000, target_body_bytes=80_000)
    bench = Bench(tmp_path, lines, sink)
    await bench.drain()
    assert bench.sink.accepted == lines
    assert all(sum(map(len, request)) <= 9_000 for request in bench.sink.requests)


async def test_a_poison_line_at_the_very_start_is_found_by_its_neighbours(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        if {"line 1", "line 2"} & set(messages):
            raise RejectedError("status 400", 400)

    bench = Bench(tmp_path, NUMBERS[:150], Fake(answer))
    await bench.drain()
    assert agents(bench.sink.accepted) == NUMBERS[2:150]
    assert bench.source.dropped == {"rejected": 2}
    assert (bench.source.counters["delivered"], bench.source.left_out["empty"]) == (148, 0)
    assert bench.source.complete


async def test_a_provider_that_refuses_everything_costs_no_line(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        raise RejectedError("status 400", 400)

    bench = Bench(tmp_path, NUMBERS, Fake(answer))
    await bench.drain()
    assert bench.source.dropped == {}
    assert bench.source.undelivered(5) == (1000, True)
    assert len(bench.sink.requests) < 100
    assert [message for message in bench.said if "refuses whatever is sent" in message] == bench.said


async def test_a_flood_of_empty_lines_leaves_the_others_their_turn_and_is_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ["first"], Fake())
    run = begin_run(str(tmp_path / "flood"), "fedcba9876543210", max_bytes=64 << 20)
    for _ in range(80):
        run.append([(1, time.time_ns(), 0, b"\n" * 60_000)])
    run.append([(1, time.time_ns(), 0, b"last\n")])
    end_run(run)
    source = open_source(run.path, bench.committer, final=True)
    bench.sender.add(source)
    await bench.drain()
    assert bench.sink.accepted == ["first", "last"]
    assert source.left_out["empty"] == 80 * 60_000
    assert source.complete


async def test_a_line_that_cannot_be_encoded_is_dropped_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ["a", "poisonous to encode", "b"], Fake())
    await bench.drain()
    assert agents(bench.sink.accepted) == ["a", "b"]
    assert bench.source.dropped == {"rejected": 1}


async def test_what_fails_for_now_is_sent_again_until_it_is_taken(tmp_path: Path) -> None:
    failures = iter([RetryableError("busy", 0.01)] * 5)

    def answer(messages: list[str]) -> None:
        error = next(failures, None)
        if error is not None:
            raise error

    bench = Bench(tmp_path, NUMBERS[:10], Fake(answer))
    await bench.drain()
    assert bench.sink.accepted == NUMBERS[:10]
    assert bench.source.counters["retried"] == 5
    assert bench.said == [
        "Datadog does not take lines at the moment (busy): they wait in the journal and go out as soon as it does",
        "Datadog takes lines again",
    ]


@pytest.mark.parametrize("answers_after", [30.0, 0.1])
def test_a_person_is_told_within_half_a_minute_and_once_of_a_provider_that_takes_nothing(
    tmp_path: Path, answers_after: float
) -> None:
    """One that accepts and hangs, too: its first time-out is 30 s long. By then the cursor says why."""
    clock = VirtualClock()

    class Silent(Fake):
        async def send(self, body: Body) -> Acceptance | None:
            await asyncio.sleep(answers_after)
            raise RetryableError("no answer.", maybe_taken=True)

    begun = clock.now
    told: list[tuple[float, str]] = []
    known: list[Any] = []

    def say(text: str) -> None:
        told.append((clock.now - begun, text))
        assert committer.flush(10.0)
        known.append(CursorFile.read(run.path, "datadog"))

    committer = Committer(raise_error)
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 10)
    sender = Sender(ENTRY, Silent, 0.0, say, clock=clock)
    sender.add(open_source(run.path, committer))

    async def an_hour() -> None:
        task = asyncio.create_task(sender.run())
        await asyncio.sleep(3600)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(clock, an_hour())
    ((at, text),) = told
    assert at <= 31
    assert text.startswith("Datadog does not take lines at the moment (no answer)")
    assert known[0]["health"]["error"] == "no answer"
    assert known[0]["health"]["state"] == "waiting"


class Dated(Fake):
    """Its bodies tell the time at which they were made, in seconds."""

    def encoder(self, facts: Facts) -> Encoder:
        encode = super().encoder(facts)

        def dated(slices: Sequence[Slice], now_ms: int) -> Body:
            body = encode(slices, now_ms)
            body.target = str(now_ms // 1000)
            return body

        return dated


def test_what_waited_for_a_day_is_made_anew_by_the_time_that_it_is_then(tmp_path: Path) -> None:
    """Else the lines of the one request that was tried all day would be too old for Datadog, which tells nobody."""
    clock = VirtualClock()
    begun = clock.now
    times: list[tuple[float, float]] = []

    class Away(Dated):
        async def send(self, body: Body) -> Acceptance | None:
            times.append((float(body.target), clock.time()))
            if clock.now < begun + 86_400:
                raise RetryableError("away.")
            return await super().send(body)

    committer = Committer(raise_error)
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 10)
    sink = Away()
    sender = Sender(ENTRY, lambda: sink, 0.0, lambda text: None, clock=clock)
    sender.add(open_source(run.path, committer))

    async def a_day_and_more() -> None:
        task = asyncio.create_task(sender.run())
        await asyncio.sleep(90_000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtually(clock, a_day_and_more())
    assert len(sink.accepted) == 10
    assert max(sent - made for made, sent in times) < 60


async def test_lines_sent_again_though_they_may_have_been_taken_are_counted_as_repeats(tmp_path: Path) -> None:
    answers = iter([("closed", True), ("busy", False), ("late", True)])

    def answer(messages: list[str]) -> None:
        for why, maybe in answers:
            raise RetryableError(f"{why}.", 0.01, maybe_taken=maybe)

    bench = Bench(tmp_path, NUMBERS[:10], Fake(answer))
    await bench.drain()
    assert (bench.source.counters["repeats"], bench.source.counters["retried"]) == (20, 3)
    values = bench.cursor()
    assert (values["repeats"], values["health"]["state"], values["health"]["error"]) == (20, "well", "late")


@pytest.mark.parametrize(
    ("error", "state", "seconds"),
    [
        (RetryableError("busy " + "x" * 1000, 100.0), "waiting", 100),
        (RefusedError("Datadog refused DATADOG_TOKEN.", "DATADOG_TOKEN"), "parked", 60),
    ],
)
async def test_how_it_does_stands_in_the_cursor_as_soon_as_that_changes(
    tmp_path: Path, error: Exception, state: str, seconds: int
) -> None:
    bench = Bench(tmp_path, NUMBERS[:10], Fake(lambda messages: raise_error(error)))
    before_ns = time.time_ns()
    task = asyncio.create_task(bench.sender.run())
    await becomes(lambda: bench.cursor()["health"].get("state") == state)
    health = bench.cursor()["health"]
    assert health["error"].startswith(str(error)[:100].rstrip("."))
    assert len(health["error"]) <= 200
    assert before_ns <= health["error_at"] <= time.time_ns()
    assert 0.7 * seconds <= (health["until"] - before_ns) / 1e9 <= 1.3 * seconds + 30
    bench.sink.answer = lambda messages: None
    bench.sender.drain(time.monotonic() + 20)
    await task
    bench.committer.flush(10.0)
    assert bench.cursor()["health"] == {**health, "state": "well", "until": 0}


async def test_the_last_error_outlives_the_worker(tmp_path: Path) -> None:
    failing = Bench(tmp_path, NUMBERS[:10], Fake(lambda messages: raise_error(RetryableError("busy", 0.01))))
    await failing.drain(0.1)
    before = failing.cursor()["health"]
    assert (before["state"], before["error"]) == ("waiting", "busy")
    sender = Sender(ENTRY, Fake, 0.0, failing.said.append)
    source = open_source(failing.source.feed.run, failing.committer, final=True)
    sender.add(source)
    failing.committer.flush(10.0)
    assert failing.cursor()["health"] == {**before, "state": "well", "until": 0}


async def test_a_retry_after_beyond_the_drain_gives_up_at_once(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        raise RetryableError("busy", 3600)

    bench = Bench(tmp_path, NUMBERS[:10], Fake(answer))
    started = time.monotonic()
    await bench.drain(seconds=60)
    assert time.monotonic() - started < 30
    assert len(bench.sink.requests) == 1
    assert bench.source.undelivered(5) == (10, True)


async def test_a_sink_that_was_failing_when_the_drain_began_gets_one_more_attempt(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        raise RetryableError("down")

    bench = Bench(tmp_path, NUMBERS[:10], Fake(answer))
    bench.source.feed.dead = False
    task = asyncio.create_task(bench.sender.run())
    await becomes(lambda: bench.sender.state != "well")
    tried = len(bench.sink.requests)
    bench.source.feed.dead = True
    bench.sender.drain(time.monotonic() + 60)
    await asyncio.wait_for(task, 30)
    assert len(bench.sink.requests) in (tried, tried + 1)
    assert bench.sender.state == "failing: down"


async def test_a_refused_secret_parks_the_sink_and_is_said_once(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        raise RefusedError("Datadog refused DATADOG_TOKEN.", "DATADOG_TOKEN")

    bench = Bench(tmp_path, NUMBERS[:10], Fake(answer))
    task = asyncio.create_task(bench.sender.run())
    await becomes(lambda: bool(bench.said))
    assert len(bench.sink.requests) == 1
    assert bench.sender.state == "parked: Datadog refused DATADOG_TOKEN"
    bench.sender.drain(time.monotonic() + 60)
    await asyncio.wait_for(task, 30)
    assert len(bench.sink.requests) == 2
    assert len(bench.said) == 1


async def test_a_parked_sink_looks_again_with_the_secret_as_it_is_then(tmp_path: Path) -> None:
    def refuse(messages: list[str]) -> None:
        raise RefusedError("Datadog refused DATADOG_TOKEN.", "DATADOG_TOKEN")

    bench = Bench(tmp_path, NUMBERS[:10], Fake(refuse))
    task = asyncio.create_task(bench.sender.run())
    await becomes(lambda: bool(bench.said))
    renewed = bench.sink = Fake()
    bench.sender.drain(time.monotonic() + 60)  # the drain is one such look
    await asyncio.wait_for(task, 30)
    assert renewed.accepted == NUMBERS[:10]
    assert renewed.encoders == 1  # a body of the old one's would have gone to the old token's address
    assert bench.source.complete
    assert bench.said[1:] == ["Datadog takes lines again"]


async def test_a_bug_in_a_sink_is_retried_and_in_the_end_costs_only_the_line_it_is_about(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        if "line 3" in messages:
            raise ZeroDivisionError

    def no_wait(self: Sender, seconds: float) -> object:
        return asyncio.sleep(0)

    class Quick(Sender):
        _sleep = no_wait  # type: ignore[assignment]

    bench = Bench(tmp_path, NUMBERS[:4], Fake(answer))
    bench.sender = Quick(ENTRY, lambda: bench.sink, 0.0, bench.said.append)
    bench.sender.add(bench.source)
    await bench.drain()
    assert agents(bench.sink.accepted) == ["line 1", "line 2", "line 4"]
    assert bench.source.dropped == {"rejected": 1}


async def test_what_a_provider_keeps_out_of_an_accepted_request_is_counted_and_told(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> Acceptance | None:
        return Acceptance(((0, 2, "too old"), (7, 8, "too new"))) if messages[0] == "line 1" else None

    bench = Bench(tmp_path, NUMBERS[:10], Fake(answer))
    await bench.drain()
    assert bench.source.dropped == {"rejected": 3}
    assert bench.source.counters["delivered"] == 7
    notices = [message for message in bench.sink.accepted if "missing here" in message]
    assert ["(1-2)" in notices[0], "(8)" in notices[1]] == [True, True]


async def test_what_a_sink_notes_is_said_once(tmp_path: Path) -> None:
    sink = Fake()
    sink.notes = ["The retention was not set."]
    bench = Bench(tmp_path, NUMBERS, sink)
    await bench.drain()
    assert bench.said == ["The retention was not set"]
    assert sink.accepted == NUMBERS


async def test_what_does_not_fit_the_first_request_does_not_wait_for_company_again(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 250)
    sink = Fake()
    sender = Sender(ENTRY, lambda: sink, 3600.0, lambda text: None)
    sender.add(open_source(run.path, Committer(raise_error)))
    task = asyncio.create_task(sender.run())
    await becomes(lambda: len(sink.accepted) == 250)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_live_source_waits_for_company_and_a_full_one_does_not(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    sink = Fake()
    sender = Sender(ENTRY, lambda: sink, 3600.0, lambda text: None)
    committer = Committer(raise_error)
    sender.add(open_source(run.path, committer))
    task = asyncio.create_task(sender.run())

    async def until(count: int) -> None:
        while len(sink.accepted) < count:
            sender.wake()
            await asyncio.sleep(0.01)

    print_lines(run, 1, 1)
    await asyncio.wait_for(until(1), 10)
    print_lines(run, 2, 5)
    sender.wake()
    await asyncio.sleep(0.1)
    assert len(sink.accepted) == 1
    print_lines(run, 7, 10_000, width=50)
    await asyncio.wait_for(until(5000), 30)  # while a request's worth is there; less of it waits
    sender.hasten(0.0)
    await asyncio.wait_for(until(10_006), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_sink_whose_settings_are_wrong_is_not_made() -> None:
    def build() -> Sink:
        raise SettingError("DATADOG_REGION", "DATADOG_REGION is wrong.")

    with pytest.raises(SettingError):
        Sender(ENTRY, build, 1.0, lambda text: None)


# -- several requests under way ----------------------------------------------------------------------------------------


class Slow(Fake):
    """Answers a request once it is told to."""

    def __init__(self, answer: Callable[[list[str]], Acceptance | None] = lambda messages: None) -> None:
        super().__init__(answer)
        self.free = asyncio.Event()  # from now on at once
        self.held: dict[str, asyncio.Event] = {}  # by the first message
        self.most = 0
        self.sent_bodies = 0

    async def send(self, body: Body) -> Acceptance | None:
        messages = self.got(body)
        self.sent_bodies += 1
        told = self.held[messages[0]] = asyncio.Event()
        self.most = max(self.most, len(self.held))
        waits = [asyncio.ensure_future(event.wait()) for event in (told, self.free)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        del self.held[messages[0]]
        acceptance = self.answer(messages)
        self.keep(messages)
        return acceptance

    async def let(self, first: str) -> None:
        """Answer the request that begins with this message, once it is there."""
        await becomes(lambda: first in self.held)
        told = self.held[first]
        told.set()
        await becomes(lambda: self.held.get(first) is not told)


async def test_as_many_requests_are_under_way_as_the_provider_bears(tmp_path: Path) -> None:
    class Far(Fake):
        under_way = 0
        most = 0

        async def send(self, body: Body) -> Acceptance | None:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            assert self.accepted or self.under_way == 1  # before anything was accepted there is one
            await asyncio.sleep(0.05)
            self.under_way -= 1
            return await super().send(body)

    sink = Far()
    lines = [f"line {n}" for n in range(1, 10_001)]
    bench = Bench(tmp_path, lines, sink)
    await bench.drain()
    assert 4 <= sink.most <= 16
    assert sorted(sink.accepted) == sorted(lines)
    assert bench.source.complete
    assert bench.source.counters["delivered"] == 10_000
    assert bench.source.under_way == 0


async def test_lines_under_way_are_bounded_in_bytes(tmp_path: Path) -> None:
    sink = Slow()
    bench = Bench(tmp_path, [f"line {n}" for n in range(1, 4001)], sink)
    budget = Budget([ENTRY.name], in_flight=50_000)  # two requests of some 31,000
    budget.most_requests = 16
    bench.sender = Sender(ENTRY, lambda: sink, 0.0, bench.said.append, budget)
    bench.sender.add(bench.source)
    task = asyncio.create_task(bench.drain())
    for first in range(1, 2001, 100):
        await sink.let(f"line {first}")
    assert sink.most == 2
    sink.free.set()
    await task
    assert bench.source.complete


async def test_a_cursor_passes_nothing_that_is_still_under_way(tmp_path: Path) -> None:
    sink = Slow()
    bench = Bench(tmp_path, [f"line {n}" for n in range(1, 1001)], sink)
    task = asyncio.create_task(bench.sender.run())
    bench.sender.drain(time.monotonic() + 60)
    await sink.let("line 1")
    await becomes(lambda: {"line 101", "line 201"} <= set(sink.held))
    await sink.let("line 201")
    await becomes(lambda: "line 300" in sink.accepted)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.source.counters["delivered"] == 100
    assert bench.committer.flush(5)
    again = open_source(bench.source.feed.run, bench.committer, final=True)
    assert messages_of(again.take(100, 10_000))[0] == "line 101"  # 201 to 300 come twice: at least once is the promise


async def test_while_one_request_fails_no_other_is_begun_and_then_all_arrive_once(tmp_path: Path) -> None:
    failing = {"line 101": 3, "line 201": 1}

    def answer(messages: list[str]) -> None:
        if failing.get(messages[0], 0):
            failing[messages[0]] -= 1
            raise RetryableError("busy", 0.0)

    sink = Slow(answer)
    bench = Bench(tmp_path, NUMBERS, sink)
    task = asyncio.create_task(bench.drain())
    await sink.let("line 1")
    await becomes(lambda: {"line 101", "line 201"} <= set(sink.held))
    await sink.let("line 101")
    await becomes(lambda: sink.requests.count(NUMBERS[100:200]) == 2)
    await sink.let("line 201")  # fails too, and waits for the other
    for _ in range(2):
        await sink.let("line 101")
        assert set(sink.held) <= {"line 101"}
    await becomes(lambda: "line 101" in sink.held)
    assert set(sink.held) == {"line 101"}
    assert len(sink.requests) == 1 + 1 + 1 + 3
    sink.free.set()
    await task
    assert sorted(sink.accepted) == sorted(NUMBERS)
    assert bench.source.counters["retried"] == 3
    assert bench.source.complete


async def test_a_refused_request_is_taken_apart_after_those_before_it(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        if "line 250" in messages:
            raise RejectedError("status 400", 400)

    sink = Slow(answer)
    bench = Bench(tmp_path, NUMBERS, sink)
    task = asyncio.create_task(bench.drain())
    await sink.let("line 1")
    await becomes(lambda: {"line 101", "line 201"} <= set(sink.held))
    await sink.let("line 201")
    assert "line 201" not in sink.held
    assert bench.source.counters["delivered"] == 100
    sink.free.set()
    await task
    assert sorted(agents(sink.accepted)) == sorted(line for line in NUMBERS if line != "line 250")
    assert bench.source.dropped == {"rejected": 1}
    assert bench.source.counters["delivered"] == 999
    assert bench.source.complete


async def test_a_renewed_secret_counts_for_all_that_is_under_way(tmp_path: Path) -> None:
    refused: list[str] = []

    def refuse(messages: list[str]) -> None:
        if messages[0] != "line 1":
            refused.append(messages[0])
            raise RefusedError("Datadog refused DATADOG_TOKEN.", "DATADOG_TOKEN")

    sink = Slow(refuse)
    bench = Bench(tmp_path, NUMBERS, sink)
    task = asyncio.create_task(bench.sender.run())
    await sink.let("line 1")
    await becomes(lambda: {"line 101", "line 201"} <= set(sink.held))
    sink.free.set()
    await becomes(lambda: len(refused) == 2)
    assert len(bench.said) == 1
    renewed = bench.sink = Fake()
    bench.sender.drain(time.monotonic() + 60)
    await asyncio.wait_for(task, 30)
    assert sorted(renewed.accepted) == sorted(NUMBERS[100:])
    assert bench.source.complete


async def test_throttling_lengthens_the_interval_and_taking_shortens_it_again(tmp_path: Path) -> None:
    failures = [RetryableError("busy", 0.0, throttled=True)] * 3 + [RetryableError("busy", 0.0)]

    def answer(messages: list[str]) -> None:
        if failures:
            raise failures.pop(0)

    run = begin_run(str(tmp_path))
    sink = Fake(answer)
    sender = Sender(ENTRY, lambda: sink, 1.0, lambda text: None)
    sender.add(open_source(run.path, Committer(raise_error)))
    print_lines(run, 1, 10)
    assert sender.interval == 1.0
    task = asyncio.create_task(sender.run())
    await becomes(lambda: len(sink.accepted) == 10)
    assert sender.interval == 8.0
    failures += [RetryableError("busy", 0.0, throttled=True)] * 2
    sender.hasten(1.0)  # as after TERM
    assert sender.interval == 1.0
    print_lines(run, 11, 10)
    sender.wake()
    await becomes(lambda: len(sink.accepted) == 20)
    assert sender.interval == 4.0
    for first in range(21, 2021, 100):
        print_lines(run, first, 100)
        sender.wake()
        await becomes(lambda: len(sink.accepted) == first + 99)  # noqa: B023 (waited for within the turn)
    assert sender.interval < 4.0
    sender.drain(time.monotonic() + 10)
    assert sender.interval == 0.0
    await asyncio.wait_for(task, 20)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_a_provider_does_each_line_arrives_once_or_is_counted(tmp_path: Path, seed: int) -> None:
    """Late, out of order, failing, throttled, refusing lines, refusing all at first, taking a part, as it comes."""
    chance = random.Random(seed)
    poison = {f"line {chance.randrange(1, 5001)}" for _ in range(chance.randrange(4))}
    kept_out: list[str] = []
    bad_start = chance.randrange(4)

    class Wild(Fake):
        under_way = 0
        most = 0

        async def send(self, body: Body) -> Acceptance | None:
            nonlocal bad_start
            messages = body.data.decode().split("\0")
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(chance.random() * 0.01)
            self.under_way -= 1
            if bad_start:
                bad_start -= 1
                raise RetryableError("not yet", 0.0)
            if chance.random() < 0.1:
                raise RetryableError("busy", 0.0, throttled=chance.random() < 0.5)
            if poison & set(messages):
                raise RejectedError("status 400", 400)
            if chance.random() < 0.1 and len(messages) > 10:
                kept_out.extend(messages[3:5])
                self.accepted += messages[:3] + messages[5:]
                return Acceptance(((3, 5, "too old"),))
            self.keep(messages)
            return None

    sink = Wild()
    sink.limits = Limits(max_events=50, max_body_bytes=600, target_body_bytes=500)
    bench = Bench(tmp_path, [f"line {n}" for n in range(1, 5001)], sink)
    await bench.drain(60)
    expected = {f"line {n}" for n in range(1, 5001)} - poison - set(kept_out)
    arrived = agents(sink.accepted)
    assert sorted(arrived) == sorted(expected)
    lost = len(poison) + len(agents(kept_out))
    assert bench.source.dropped == ({"rejected": lost} if lost else {})
    assert bench.source.counters["delivered"] == 5000 - lost
    assert bench.source.complete
    assert sink.most > 1


async def test_a_line_that_is_finished_just_before_the_drain_is_sent(tmp_path: Path) -> None:
    """Its first half gave nothing to send, so the source rests; a drain that left it out would lose the line."""
    run = begin_run(str(tmp_path))
    source = open_source(run.path, Committer(raise_error))
    sink, said = Fake(), list[str]()
    sender = Sender(ENTRY, lambda: sink, 0.0, said.append)
    sender.add(source)
    work = asyncio.create_task(sender.run())
    run.append([(1, time.time_ns(), 0, b"first\nlast ")])
    sender.wake()
    await becomes(lambda: sink.accepted == ["first"])
    run.append([(1, time.time_ns(), 0, b"words ")])
    sender.wake()
    await becomes(lambda: source in sender._resting)
    run.append([(1, time.time_ns(), 0, b"arrive\n")])
    end_run(run)
    sender.drain(time.monotonic() + 20)
    await asyncio.wait_for(work, 30)
    assert sink.accepted == ["first", "last words arrive"]
    assert source.complete
