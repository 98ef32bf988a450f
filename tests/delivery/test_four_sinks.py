"""Four sinks over one run, whatever their providers, the disk and restarts do to them.

Each line of the agent's arrives at each provider once, or is counted and told of; after a restart some come again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pytest
from tenacity import wait_random_exponential

from shipper.config.budget import Budget
from shipper.config.registry import SinkEntry
from shipper.delivery import retry
from shipper.delivery import sender as sender_module
from shipper.delivery.commits import Committer
from shipper.delivery.feed import Context, Feed
from shipper.delivery.sender import Sender
from shipper.delivery.source import Source
from shipper.journal.cursor import CursorFile
from shipper.journal.numbering import STDERR, STDOUT, STREAM_NAMES, summarize
from shipper.sinks.base import (
    Acceptance,
    Body,
    Limits,
    RefusedError,
    RejectedError,
    RetryableError,
    Sink,
)
from tests.delivery.delivery_helpers import MIB, NOW_NS, begin_run, end_run, raise_error
from tests.helpers import is_closing, ledger_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from shipper.delivery.feed import Piece
    from shipper.journal.facts import Facts
    from shipper.journal.reader import State
    from shipper.sinks.base import Encoder, Slice

SINKS = ("a", "b", "c", "d")
STREAMS = (STDOUT, STDERR)
SECONDS = 60.0  # for what takes one at most, on a machine that is busy

Place = tuple[int, int]
"""A line: stream and number."""


class Event(NamedTuple):
    """``seq``: 0 for one of our own, which tells of lines ``lost[0]`` to ``lost[1]``."""

    stream: int
    seq: int
    skipped: int
    message: str
    lost: tuple[int, int]

    @property
    def place(self) -> Place:
        return self.stream, self.seq


class WildBody(Body):
    """Holds the events themselves."""

    def __init__(self, events: list[Event], size: int) -> None:
        super().__init__(b"x" * len(events), size, len(events), "/", {})
        self.events = events


class Provider:
    """What one provider has, over all restarts, and how it behaves."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        max_bytes = chance.choice([900, 5000, 60_000, MIB])
        self.limits = Limits(chance.choice([25, 50, 300, 1000]), max_bytes, int(max_bytes * chance.choice([0.3, 0.9])))
        self.faults = chance.choice([0.0, 0.02, 0.2, 0.5])  # share of requests
        self.delay = chance.choice([0.0, 0.001, 0.005])
        self.fails_first = chance.randrange(3)
        self.rejects_first = chance.choice([0, 0, 3])
        self.extra_bytes = chance.choice([0, 0, 5, 40])
        self.away_until = 0.0
        self.arrived: Counter[Place] = Counter()
        self.skipped: dict[Place, set[int]] = {}
        self.kept_out: set[Place] = set()
        self.told: set[Place] = set()
        self.ledger: dict[str, Any] = {}

    def misbehave(self, count: int) -> None:
        """Perhaps raise, for a request of so many events."""
        chance = self.chance
        if self.fails_first:
            self.fails_first -= 1
            raise RetryableError("not yet", 0.0)
        if self.rejects_first:
            self.rejects_first -= 1
            raise RejectedError("status 400", 400)
        if time.monotonic() < self.away_until:
            raise RetryableError("away", chance.choice([0.0, None, 0.01]))
        if chance.random() >= self.faults:
            return
        kind = chance.choice(["throttles", "busy", "busy", "refuses", "too large", "goes", "bug"])
        if kind in ("throttles", "busy"):
            raise RetryableError("busy", chance.choice([0.0, None, 0.005]), throttled=kind == "throttles")
        if kind == "refuses":
            raise RefusedError("It refused TOKEN.", "TOKEN")
        if kind == "goes":
            self.away_until = time.monotonic() + chance.random() * 0.05
        if kind == "too large" and count > 1:
            raise RejectedError("status 413", 413)
        if kind == "bug" and count > 1:
            raise ValueError

    def accept(self, events: list[Event]) -> Acceptance | None:
        chance, ranges = self.chance, []
        if chance.random() < self.faults * 0.3 and len(events) > 3:
            start = chance.randrange(len(events))
            end = min(len(events), start + 1 + chance.randrange(3))
            ranges.append((start, end, "too old"))
            if end + 1 < len(events) and chance.random() < 0.5:
                ranges.append((end + 1, end + 2, "too new"))
        out = {index for start, end, _ in ranges for index in range(start, end)}
        for index, event in enumerate(events):
            if index in out:
                if event.seq:
                    self.kept_out.add(event.place)
            elif event.seq:
                self.arrived[event.place] += 1
                self.skipped.setdefault(event.place, set()).add(event.skipped)
            else:
                self.told |= {(event.stream, number) for number in range(event.lost[0], event.lost[1] + 1)}
        return Acceptance(tuple(ranges)) if ranges else None


class Wild(Sink):
    """A sink of such a provider."""

    name = "wild"
    title = "Wild"
    destination = "nowhere"

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.limits = provider.limits
        self.is_open = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        raise AssertionError("it is made of a provider")

    def place(self, facts: Facts) -> str:
        return "nowhere"

    async def open(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.is_open = False

    def encoder(self, facts: Facts) -> Encoder:
        def number(value: object) -> int:
            return value if isinstance(value, int) else 0

        def encode(slices: Sequence[Slice], now_ms: int) -> Body:
            made, size = [], 0
            for events, start, end in slices:
                stream = next(number for number in STREAMS if STREAM_NAMES[number] == events.stream)
                for index in range(start, end):
                    record = events.records[index]
                    message = str(record["message"])
                    if is_closing(record):
                        self.provider.ledger = ledger_of(record)
                    if "unencodable" in message:
                        raise ZeroDivisionError
                    lost = number(record.get("first_seq")), number(record.get("last_seq"))
                    made.append(Event(stream, number(record.get("seq")), number(record.get("skipped")), message, lost))
                    size += events.sizes[index] * (4 if "odd" in message else 1) + self.provider.extra_bytes
            assert len(made) <= self.limits.max_events
            return WildBody(made, size)

        return encode

    async def send(self, body: Body) -> Acceptance | None:
        assert isinstance(body, WildBody)
        assert self.is_open
        assert body.size <= self.limits.max_body_bytes or body.count == 1
        provider = self.provider
        await asyncio.sleep(provider.chance.random() * provider.delay)
        provider.misbehave(body.count)
        if any("poison" in event.message for event in body.events):
            raise RejectedError("status 400", 400)
        return provider.accept(body.events)


class BadDisk(Feed):
    """Some readings fail."""

    def __init__(self, run: str, chance: random.Random) -> None:
        super().__init__(run)
        self.chance = chance

    def read(self, state: State, context: Context) -> tuple[list[Piece], State, Context, bool]:
        if self.chance.random() < 0.02:
            raise OSError(5, "Input/output error")
        return super().read(state, context)


class Agent:
    """Writes lines of all kinds into a run, and remembers them."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self.chance = chance
        self.run = begin_run(str(directory), max_bytes=64 * MIB, sinks=SINKS)
        self.most = chance.choice([1, 5, 40, 100])  # lines at once
        self.next = {STDOUT: 1, STDERR: 1}
        self.empty: set[Place] = set()
        self.lost: set[Place] = set()

    def line(self, place: Place) -> bytes:
        number, kind = place[1], self.chance.random()
        if kind < 0.1:
            self.empty.add(place)
            return b"\n"
        if kind < 0.103:
            return b"poison %d\n" % number
        if kind < 0.105:
            return b"unencodable %d\n" % number
        if kind < 0.11:
            return b"odd %d " % number + b'"' * self.chance.randrange(3000) + b"\n"
        if kind < 0.3:
            return b'{"message":"json %d","level":30,"x":%d}\n' % (number, number)
        return b"line %d " % number + b"." * self.chance.randrange(60) + b"\n"

    def end(self) -> None:
        """The last lines are ordinary ones: of a poison line alone no sender can tell that the provider is well."""
        for stream in STREAMS:
            self.run.append([(stream, NOW_NS, 0, b"line %d\n" % self.next[stream])])
            self.next[stream] += 1
        end_run(self.run)

    def write(self) -> None:
        stream = self.chance.choice([STDOUT, STDOUT, STDERR])
        lines = []
        for _ in range(1 + self.chance.randrange(self.most)):
            lines.append(self.line((stream, self.next[stream])))
            self.next[stream] += 1
        data = b"".join(lines)
        for start in range(0, len(data), 60_000):
            self.run.append([(stream, NOW_NS, 0, data[start : start + 60_000])])
        if self.chance.random() < 0.03:
            gone = 1 + self.chance.randrange(4)
            self.lost |= {(stream, self.next[stream] + index) for index in range(gone)}
            self.next[stream] += gone
            self.run.skip(stream, summarize(b"gone\n" * gone, 1 << 18), NOW_NS, 0, "journal_stalled")

    def places(self, stream: int) -> list[Place]:
        """Of all lines, in order."""
        return [(stream, number) for number in range(1, self.next[stream])]


class Delivery:
    """The senders of all four sinks, as one start of the worker has them."""

    def __init__(
        self, run: str, providers: Mapping[str, Provider], committer: Committer, chance: random.Random
    ) -> None:
        self.committer = committer
        self.feed = BadDisk(run, chance)
        self.senders: list[Sender] = []
        self.sources: list[Source] = []
        interval = chance.choice([0.0, 0.01, 0.05])
        for name, provider in providers.items():
            budget = Budget([name], in_flight=chance.choice([2000, 100_000, MIB]))
            budget.most_requests = 16
            sender = Sender(
                SinkEntry(name, (), "tests:Wild", name),
                lambda provider=provider: Wild(provider),  # type: ignore[misc]
                interval,
                lambda text: None,
                budget,
            )
            source = Source(self.feed, CursorFile(run, name), committer, adopted=False)
            sender.add(source)
            self.senders.append(sender)
            self.sources.append(source)
        self.tasks = [asyncio.create_task(sender.run()) for sender in self.senders]

    def look(self) -> None:
        """Raises what a sender ended with; none ends by itself."""
        for task in self.tasks:
            if task.done():
                task.result()
                raise AssertionError("a sender ended early")

    async def kill(self) -> None:
        for task in self.tasks:
            task.cancel()
        results = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError] * len(SINKS)
        self.close()

    async def drain(self) -> bool:
        """Whether all have got everything; else they gave up, or could not read."""
        for sender in self.senders:
            sender.drain(time.monotonic() + SECONDS)
        await asyncio.wait_for(asyncio.gather(*self.tasks), 2 * SECONDS)
        return all(source.complete for source in self.sources)

    def close(self) -> None:
        assert self.committer.flush(SECONDS)
        for source in self.sources:
            source.close()
        self.feed.close()


def check(agent: Agent, provider: Provider, source: Source, again: bool) -> None:
    """``again``: there were restarts, so lines may have come twice, and a line kept out once may have come at last."""
    lines = {place for stream in STREAMS for place in agent.places(stream)}
    counters, dropped = source.counters, source.dropped
    ledger = provider.ledger
    assert (ledger["captured"], ledger["delivered"]) == (len(lines), counters["delivered"])
    assert (ledger["filtered"], ledger["dropped"]) == (source.left_out["empty"], dropped)
    assert counters["delivered"] + source.left_out["empty"] + sum(dropped.values()) == len(lines)
    assert source.left_out["empty"] == len(agent.empty)
    assert dropped.get("journal_stalled", 0) == len(agent.lost)
    for stream in STREAMS:
        skipped = 0
        for place in agent.places(stream):
            if place in agent.empty:
                skipped += 1
            elif place not in agent.lost:
                assert provider.skipped.get(place, {skipped}) == {skipped}
                skipped = 0
    missing = lines - agent.empty - agent.lost - set(provider.arrived)
    assert agent.lost <= provider.told or provider.faults  # a notice may be kept out too
    if again:
        return
    assert set(provider.arrived.values()) <= {1}
    assert dropped.get("rejected", 0) == len(missing | provider.kept_out)
    assert missing <= provider.told or provider.faults


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds waits for hundredths of them."""
    monkeypatch.setattr(sender_module, "PARKED_SECONDS", 0.01)
    monkeypatch.setattr(sender_module, "REST_SECONDS", 0.01)
    monkeypatch.setattr(retry, "_backoff", wait_random_exponential(multiplier=0.002, max=0.02))
    sleep = asyncio.sleep

    async def short(seconds: float) -> None:
        await sleep(min(seconds, 0.01))

    monkeypatch.setattr(asyncio, "sleep", short)  # a sender's, after a failed reading


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_each_line_arrives_once_or_is_counted_and_told(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    agent = Agent(tmp_path, chance)
    providers = {name: Provider(random.Random(chance.random())) for name in SINKS}
    committer = Committer(raise_error)

    def start() -> Delivery:
        return Delivery(agent.run.path, providers, committer, random.Random(chance.random()))

    delivery, starts = start(), 1
    for _ in range(chance.choice([30, 60])):
        agent.write()
        if chance.random() < 0.7:
            for sender in delivery.senders:
                sender.wake()
        await asyncio.sleep(chance.choice([0, 0, 0.001, 0.01]))
        delivery.look()
        if chance.random() < 0.02:
            await delivery.kill()
            delivery, starts = start(), starts + 1
        if chance.random() < 0.01:
            for sender in delivery.senders:
                sender.hasten(0.005)
    agent.end()
    for sender in delivery.senders:
        sender.wake()
    while not await delivery.drain():
        delivery.close()
        assert starts < 200
        for provider in providers.values():
            provider.faults = min(provider.faults, 0.2)
        delivery, starts = start(), starts + 1
    for provider, source in zip(providers.values(), delivery.sources, strict=True):
        assert source.complete
        check(agent, provider, source, again=starts > 1)
    delivery.close()
