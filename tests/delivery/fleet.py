"""Thousands of wrappers before one intake that goes away and returns, on a virtual clock.

Real are the sender and its source, the retrying and the concurrency; made up are the journal (a line every 0.2 s, never
on a disk) and the intake, which answers after 0.1 s.
"""

from __future__ import annotations

import asyncio
import random
from array import array
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from shipper.config.registry import SinkEntry
from shipper.delivery.feed import Context, Piece
from shipper.delivery.sender import Sender
from shipper.delivery.source import Source
from shipper.journal.facts import Facts
from shipper.journal.numbering import STDOUT
from shipper.journal.reader import State
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.sinks.base import Acceptance, Body, Limits, RetryableError
from shipper.sinks.http import CONNECT_TIMEOUT
from tests.delivery.delivery_helpers import StandIn
from tests.delivery.virtual import START_NS, VirtualClock, run_virtually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shipper.delivery.commits import Committer
    from shipper.delivery.feed import Feed
    from shipper.journal.cursor import CursorFile
    from shipper.sinks.base import Encoder, Slice

LINES_A_SECOND = 5
ANSWER_SECONDS = 0.1
FLUSH_INTERVAL = 1.0  # the default
WARM_SECONDS, STEADY_SECONDS, AWAY_SECONDS, AFTER_SECONDS = 3.0, 5.0, 60.0, 40.0
LINE = b'{"message": "received job request", "level": "INFO", "timestamp": "2026-11-01T10:00:00.000000+00:00", "n": %d}'
FACTS = Facts("0123456789abcdef", "host", "agent", "svc", (), ("datadog",), 1 << 18, START_NS, "agent.py")
ENTRY = SinkEntry("datadog", ("DATADOG_TOKEN",), "tests:Fleet", "Datadog")

_decoder = Decoder()
_nowhere = State.start().streams


@cache
def piece(first: int, count: int) -> Piece:
    """These lines of any wrapper: they all print the same."""
    lines = [LINE % n for n in range(first, first + count)]
    events = _decoder.decode(Batch(STDOUT, lines, first, [(0, START_NS)], {}))
    return Piece(STDOUT, events, first, count, [(0, START_NS, 1, first)])


class Printed:
    """A feed without a journal: a line every 0.2 s from ``began`` on. A state's offset counts the lines before it."""

    def __init__(self, clock: VirtualClock, began: float) -> None:
        self.facts = FACTS
        self.dead = self.gone = self.whole = self.hurried = False
        self.trial = None
        self._clock = clock
        self._began = began

    def lines(self) -> int:
        """Printed so far."""
        return max(0, int((self._clock.now - self._began) * LINES_A_SECOND + 1e-6))

    def available(self, state: State) -> int:
        return (self.lines() - state.offset) * len(LINE)

    def read(self, state: State, context: Context) -> tuple[list[Piece], State, Context, bool]:
        count = self.lines() - state.offset
        if not count:
            return [], state, context, True
        return [piece(state.offset + 1, count)], State(1, state.offset + count, _nowhere), context, True

    def follow(self, source: Source) -> None:
        pass

    def share(self, *_: object) -> None:
        pass

    def holds_up(self, *_: object) -> bool:
        return False


class Disk:
    """Neither a cursor nor what writes it, in the place of both."""

    values: dict[str, Any] | None = None

    def submit(self, *_: object) -> None:
        pass


class Request(Body):
    first = last = 0


class Intake:
    """``away``: what it does in that minute. ``arrived``: when each request did, ``accepted`` ones or not."""

    def __init__(self, clock: VirtualClock, away: str) -> None:
        self.clock = clock
        self.away = away
        self.leaves = clock.now + WARM_SECONDS + STEADY_SECONDS
        self.returns = self.leaves + AWAY_SECONDS
        self.arrived = array("d")

    async def take(self) -> None:
        """Raises RetryableError while it is away."""
        now = self.clock.now
        self.arrived.append(now)
        if not self.leaves <= now < self.returns:
            await asyncio.sleep(ANSWER_SECONDS)
        elif self.away == "hangs":
            await asyncio.sleep(CONNECT_TIMEOUT)
            raise RetryableError("no connection in time")
        else:
            await asyncio.sleep(0.001)
            after = {"refuses": None, "asks for 30 s": 30.0, "names the moment": self.returns - now}[self.away]
            raise RetryableError("away", after)


class Fleet(StandIn):
    """One wrapper's sink. ``taken``: the last line that the intake has; ``first``, ``caught_up``: when the first
    request after the return was accepted, and when nothing was left that had waited longer than usual."""

    limits = Limits(max_events=1000, max_body_bytes=5_000_000, target_body_bytes=4_500_000)  # Datadog's

    def __init__(self, intake: Intake, printed: Printed) -> None:
        self._intake = intake
        self._printed = printed
        self.taken = 0
        self.first = self.caught_up = 0.0

    def encoder(self, facts: Facts) -> Encoder:
        return encode

    async def send(self, body: Body) -> Acceptance | None:
        assert isinstance(body, Request)
        await self._intake.take()
        assert body.first == self.taken + 1, "oldest first, each once"
        self.taken = body.last
        now = self._intake.clock.now
        if now > self._intake.returns:
            self.first = self.first or now
            if not self.caught_up and self._printed.lines() - self.taken <= 2 * FLUSH_INTERVAL * LINES_A_SECOND:
                self.caught_up = now
        return None


def encode(slices: Sequence[Slice], now_ms: int) -> Body:
    size = sum(sum(events.sizes[start:end]) for events, start, end in slices)
    body = Request(b"", size, sum(end - start for _, start, end in slices), "/", {})
    events, start, _ = slices[0]
    body.first = cast(int, events.records[start]["seq"])
    events, _, end = slices[-1]
    body.last = cast(int, events.records[end - 1]["seq"])
    return body


class Course(NamedTuple):
    """How it went.

    ``steady``: requests a second before it left; ``peak``: at most in any second after it returned, ``burst``: in any
    tenth of one. ``behind``: seconds from the return until the last wrapper had caught up; ``slowest``: those that one
    took at most from its first accepted request on. ``lost``: lines that should be there at the end and are not.
    """

    steady: float
    peak: int
    burst: int
    attempts_away: int
    requests: int
    behind: float
    slowest: float
    lost: int

    @property
    def ratio(self) -> float:
        return self.peak / self.steady


def sail(wrappers: int, away: str, in_step: bool = False, seed: int = 1) -> Course:
    """``in_step``: they all began to print at the same moment, else within a second."""
    random.seed(seed)
    clock = VirtualClock()
    return run_virtually(clock, _sail(clock, wrappers, away, in_step))


async def _sail(clock: VirtualClock, wrappers: int, away: str, in_step: bool) -> Course:
    intake = Intake(clock, away)
    began = clock.now
    senders: list[Sender] = []
    sinks: list[Fleet] = []
    for number in range(wrappers):
        printed = Printed(clock, began + (0.0 if in_step else number / wrappers))
        sink = Fleet(intake, printed)
        sender = Sender(ENTRY, lambda sink=sink: sink, FLUSH_INTERVAL, lambda text: None, clock=clock)  # type: ignore[misc]
        disk = Disk()
        sender.add(Source(cast("Feed", printed), cast("CursorFile", disk), cast("Committer", disk), adopted=False))
        senders.append(sender)
        sinks.append(sink)
    tasks = [asyncio.create_task(sender.run()) for sender in senders]
    waking = asyncio.create_task(_wake(senders, in_step))
    await asyncio.sleep(intake.returns + AFTER_SECONDS - clock.now)
    for task in (*tasks, waking):
        task.cancel()
    ends = await asyncio.gather(*tasks, waking, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), next(end for end in ends if end)
    printed_until = int((clock.now - began - 1.0 - 2 * FLUSH_INTERVAL) * LINES_A_SECOND)
    after = [at for at in intake.arrived if at >= intake.returns]
    steady = sum(intake.leaves - STEADY_SECONDS <= at < intake.leaves for at in intake.arrived) / STEADY_SECONDS
    return Course(
        steady,
        busiest(after, 1.0),
        busiest(after, 0.1),
        sum(intake.leaves <= at < intake.returns for at in intake.arrived),
        len(intake.arrived),
        max(sink.caught_up for sink in sinks) - intake.returns,
        max(sink.caught_up - sink.first for sink in sinks),
        sum(max(0, printed_until - sink.taken) for sink in sinks),
    )


async def _wake(senders: Sequence[Sender], in_step: bool) -> None:
    """Each once a second: further wake-ups, which the supervisor gives, would find a request waiting for company."""
    groups = 1 if in_step else 100
    while True:
        for group in range(groups):
            await asyncio.sleep(1 / groups)
            for sender in senders[group * len(senders) // groups : (group + 1) * len(senders) // groups]:
                sender.wake()


def busiest(times: Sequence[float], seconds: float) -> int:
    """Most of the ascending times that lie within any such stretch."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
