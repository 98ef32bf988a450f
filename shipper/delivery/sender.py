"""The one sender around every sink: takes, encodes, sends, retries, bisects, drops, commits.

Several requests may be under way at once. Each is a `_Flight`; a run's flights are settled in the order in which they
were taken, so that its cursor never passes a line that may still fail. While one fails no other is begun, and those
that fail too wait for it: a provider that is down sees one request at a time. A refused one is taken apart only once
all before it are settled, and before anything was ever accepted there is only one.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from shipper import messages
from shipper.config.budget import Budget
from shipper.delivery import throttle
from shipper.delivery.concurrency import Concurrency
from shipper.delivery.health import JOURNAL, PARKED, WAITING, WELL, Health
from shipper.delivery.retry import retrying
from shipper.delivery.source import (
    MAX_WINDOWS,
    Part,
    Source,
    bytes_of,
    count_of,
    halves,
    last_of,
    lines_in,
    portion,
    seq_of,
    skipped_at,
)
from shipper.lines.crash import Crash
from shipper.sinks.base import Limits, RefusedError, RejectedError, RetryableError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shipper.config.registry import SinkEntry
    from shipper.delivery.trial import Trial
    from shipper.sinks.base import Acceptance, Body, Encoder, Sink

REST_SECONDS = 0.2  # for a source that says that it has something and gives nothing: damage that goes on, a bad disk
SUSPECTS = 20  # lines refused one by one before anything was ever accepted: then it is the provider, not the lines
FULL_BYTES = 256 << 10  # unread journal that makes a request or more: then nothing waits for company
PARKED_SECONDS = 60.0  # a refused secret is tried again after this long, then after twice that…
PARKED_MAX_SECONDS = 600.0
INSIST_SECONDS = (0.5, 1.0, 2.0, 4.0)  # between the attempts with an event of our own: a proxy's restart takes as long
IN_VAIN_SECONDS = 60.0  # once that helped nothing, the next ones are tried once: each holds up what is behind it
TOLD_AFTER = 3  # failures in a row before a person is told: one or two are everyday
TOLD_SECONDS = 20.0  # or when they have gone on for so long: a request without an answer takes 30 s by itself
STOPPED_SECONDS = 45.0  # a request that took longer stood still itself, in a frozen container
BUGS_IN_A_ROW = 5  # after so many unexpected errors a request counts as rejected, so that it can be bisected
SLOWEST_SECONDS = 10.0  # a line waits for company at most this long when the provider asks for fewer requests
# For a sink in step that has no room, so that lines are decoded once; then it falls behind. Milliseconds in which this
# process has nothing to do, for while it is busy nothing is lost by waiting, and seconds in all.
PATIENCE_IDLE, PATIENCE_MAX = 20, 0.5
STALE_SECONDS = 30.0  # a body that is older is made anew: the sinks reckon with a minute between it and its arrival
LEARN_EVENTS = 20  # a body of fewer says nothing of how large the next one will be


class Clock(Protocol):
    """As the module `time` has them."""

    def monotonic(self) -> float: ...

    def process_time(self) -> float: ...

    def time(self) -> float: ...

    def time_ns(self) -> int: ...


class _GaveUpError(Exception):
    """The drain ends for this sink."""


class _Flight:
    """A request from its taking until it is settled.

    ``body``: None when it could not be encoded, for ``error``. ``turn`` is set once all before it are settled.
    ``acceptance`` counts once ``done``. ``maybe_taken``: the last attempt may have been accepted all the same.
    ``encoded_at``: by the time of day as the body has it.
    """

    __slots__ = (
        "acceptance", "body", "done", "encoded_at", "error", "generation", "maybe_taken", "parts", "turn", "weight"
    )  # fmt: skip

    def __init__(
        self, parts: list[Part], body: Body | None, error: RejectedError | None, generation: int, encoded_at: float
    ) -> None:
        self.parts = parts
        self.body = body
        self.encoded_at = encoded_at
        self.error = error
        self.generation = generation
        self.weight = sum(part.weight for part in parts)
        self.turn = asyncio.Event()
        self.done = False
        self.maybe_taken = False
        self.acceptance: Acceptance | None = None


class Sender:
    """Feeds one sink from its sources until it is told to drain.

    ``state``: "well", "failing: why" or "parked: why", for people.
    """

    def __init__(
        self,
        entry: SinkEntry,
        build: Callable[[], Sink],
        flush_interval: float,
        say: Callable[[str], None],
        budget: Budget | None = None,
        clock: Clock = time,
    ) -> None:
        """``build`` makes the sink from the environment as it is then; raises SettingError. ``budget``: of which this
        sink has its share; with only one request under way that may be larger. ``clock``: another
        one is for tests.

        ``more``, to be set: called when nothing is left to do; True when it has added a source. ``held_up``, to be set:
        whether that may be so a moment later. ``clock_is_off``, to be set: called with the seconds that our clock is
        ahead of the provider's, when that has changed much; 0 when it is right.
        """
        self.name = entry.name
        self.title = entry.title
        self.state = WELL
        self._health = Health()
        self._build = build
        self._sink = build()
        self._say = say
        self._interval = flush_interval
        self._slowed = 0.0  # what the provider made of the interval
        self._budget = budget = budget or Budget([entry.name])
        self._in_flight_bytes = budget.in_flight_bytes // max(1, len(budget.sinks))
        self._clock = clock
        self.patience = (PATIENCE_IDLE, PATIENCE_MAX)
        self._sources: list[Source] = []
        self._due: dict[Source, float] = {}
        self._resting: dict[Source, tuple[float, int]] = {}  # until when, unless more is unread than so many bytes
        self.more: Callable[[], bool] = lambda: False
        self.held_up: Callable[[], bool] = lambda: False
        self.clock_is_off: Callable[[float], None] = lambda seconds: None
        self.trial: Trial | None = None  # of a worker that is not the run's first
        self._encoders: dict[str, Encoder] = {}
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._deadline: float | None = None
        self._failures = 0
        self._failing_since = 0.0  # when the first attempt of these began, monotonic
        self._told = False
        self._told_rejected = False
        self._last_try = False  # the drain began while it was failing: one more attempt
        self._bugs = 0
        self._gave_up = False
        self._not_before = 0.0  # monotonic: what answers to waiting requests asked for
        self._proven = False  # something was accepted since the start
        self._concurrency = Concurrency(budget.most_requests)
        self._flights: dict[Source, deque[_Flight]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._trouble = asyncio.Lock()  # held by the one flight that tries again
        self._generation = 0  # of the sink: a body of an older one's is made anew
        self._in_vain_until = 0.0  # until then no announcement that is refused is tried again
        self._extra_bytes = 0.0  # of the last bodies, an event, besides its line

    @property
    def interval(self) -> float:
        """Seconds that a line waits for company, at most; a provider that asks for fewer requests makes it longer."""
        return max(self._interval, self._slowed)

    @property
    def _limits(self) -> Limits:
        """The sink's, and of memory."""
        events, most, target = self._sink.limits
        return Limits(min(events, self._budget.request_events), most, min(target, self._budget.request_bytes))

    @property
    def needs_lines(self) -> bool:
        """Whether the sink reads the lines themselves."""
        return self._sink.needs_lines

    # -- what the worker tells it --------------------------------------------------------------------------------

    def add(self, source: Source) -> None:
        self._sources.append(source)
        source.along = not self._failures
        source.tells_crashes = self._sink.tells_crashes
        self._health.recall(source.health)
        known, source.health = source.health, self._health.values
        if known and known.get("state") != source.health["state"]:
            source.note()
        source.wake = self.wake
        source.feed.hurried = source.feed.hurried or self._deadline is not None
        self._due[source] = 0.0
        self._wake.set()

    def remove(self, source: Source) -> None:
        self._sources.remove(source)
        del self._due[source]
        self._resting.pop(source, None)
        self._encoders.pop(source.feed.facts.run, None)

    def wake(self) -> None:
        """Something was appended."""
        self._wake.set()

    def hasten(self, interval: float) -> None:
        """From now on a line waits at most ``interval`` seconds."""
        self._interval = min(self._interval, interval)
        now = self._clock.monotonic()
        self._slowed = min(self._slowed, interval)
        self._due = {source: min(due, now + self._interval) for source, due in self._due.items()}
        self._wake.set()

    def drain(self, deadline: float) -> None:
        """Deliver all that is there, then end; give up at ``deadline`` (monotonic seconds)."""
        if self._deadline is None:
            self._last_try = self._failures > 0
            self._resting.clear()  # what has come since is to be read
        self._deadline = deadline
        self._interval = self._slowed = 0.0
        for source in self._sources:
            source.feed.hurried = True
        self._hurry.set()
        self._wake.set()

    # -- the loop ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ends when the drain is over, or with CancelledError."""
        await self._sink.open()
        try:
            while True:
                self._wake.clear()
                self._tell_failures()
                source, wait = self._next() if self._may_begin() else (None, None)
                if source is not None:
                    await self._serve(source)
                elif self._tasks:
                    await self._wait(self._wake, wait)
                elif self.more():
                    continue
                elif self.held_up():
                    await self._wait(self._wake, REST_SECONDS)
                elif self._deadline is not None:
                    return
                else:
                    await self._wait(self._wake, wait)
        except _GaveUpError:
            return
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._sink.close()

    def _tell_failures(self) -> None:
        """Raises what a flight ended with, _GaveUpError included."""
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()

    def _may_begin(self) -> bool:
        """Whether one more request may be under way."""
        if not self._tasks:
            return True
        if self.trial is not None and self.trial.careful and self._deadline is None:
            return False  # the one before may have died for lack of memory
        return (
            self._proven
            and not self._failures
            and not self._trouble.locked()
            and len(self._tasks) < self._concurrency.limit
            and self._weight_under_way() < self._in_flight_bytes
        )

    def _weight_under_way(self) -> int:
        return sum(flight.weight for flights in self._flights.values() for flight in flights)

    def _next(self) -> tuple[Source | None, float | None]:
        """A source whose lines are due, else how long until one is; None when nothing waits."""
        now = self._clock.monotonic()
        max_events = self._limits.max_events
        wait: float | None = None
        for source in self._sources:
            try:
                held = source.held_seconds()
                if not source.has_pending():
                    if held is not None:
                        wait = held if wait is None else min(wait, held)
                    continue
                until, unread = self._resting.get(source, (0.0, 0))
                rest = until - now
                if rest > 0 and not source.queued and source.unread() == unread:
                    if self._deadline is None:
                        wait = rest if wait is None else min(wait, rest)
                    continue
                left = self._due[source] - now
                full_bytes = self._limits.target_body_bytes if self._slowed > self._interval else FULL_BYTES
                # nothing comes that it could wait for, or it has waited
                alone = (source.last_words or held == 0.0) and not self._slowed
                if left <= 0 or self._deadline is not None or alone or source.fills(max_events, full_bytes):
                    # in turn: a long backlog of an old run does not hold up the live one, nor the other way round
                    self._sources.remove(source)
                    self._sources.append(source)
                    return source, None
                if held is not None and not self._slowed:
                    left = min(left, held)
            except OSError as error:
                self._journal_failed(error)
                left = 1.0
            wait = left if wait is None else min(wait, left)
        return None, wait

    async def _serve(self, source: Source) -> None:
        """Begins one request of a source."""
        limits = self._limits
        started = self._clock.monotonic()
        try:
            try:
                await self._read_in_step(source)
            except OSError:
                if not source.queued:  # else that goes first
                    raise
            if source not in self._sources:  # its run was removed meanwhile
                return
            parts = source.take(limits.max_events, limits.target_body_bytes, self._extra_bytes)
        except OSError as error:
            self._journal_failed(error)
            await asyncio.sleep(1.0)
            return
        # else more was there at that moment: it goes at once too; and what is held has its own time
        if count_of(parts) < limits.max_events and (parts or not source.holds):
            self._due[source] = started + self.interval
        if parts:
            self._begin(source, parts)
            if source.queued:  # more than one request's worth: it has waited
                self._due[source] = started
        elif not source.finish() and not source.moved and not source.queued:
            self._rest(source)
        await asyncio.sleep(0)  # the other sinks and the pipe from the supervisor have their turn
        source.finish()

    def _rest(self, source: Source) -> None:
        """It gave nothing. In a drain that ends it, unless something is appended: the run's end may just be coming."""
        try:
            self._resting[source] = (self._clock.monotonic() + REST_SECONDS, source.unread())
        except OSError:
            pass  # the next look meets the error

    async def _read_in_step(self, source: Source) -> None:
        """Reads a request's worth, a window at a time, each once the sinks in step have room for it too.

        They are not waited for beyond ``patience``. Raises OSError.
        """
        limits = self._limits
        request = (limits.max_events, limits.target_body_bytes, self._extra_bytes)
        ends, idle, worked = self._clock.monotonic() + self.patience[1], 0, self._clock.process_time()
        source.filling = request  # or two that both have more than a little at hand would wait for each other
        try:
            for _ in range(MAX_WINDOWS):
                while source.wants(*request) and source.outruns():
                    if idle >= self.patience[0] or self._clock.monotonic() > ends:
                        break
                    await asyncio.sleep(0.001)  # no event: the others work meanwhile, in many steps
                    before, worked = worked, self._clock.process_time()
                    idle += worked - before < 0.0005
                if not source.wants(*request) or not source.read():
                    return
        finally:
            source.filling = None

    def _begin(self, source: Source, parts: list[Part]) -> None:
        """Encodes the parts, or the half of them that fits, and sends that on its way."""
        limits = self._limits
        body: Body | None = None
        problem: RejectedError | None = None
        if self.trial is not None and self.trial.careful:
            source.flush()
            parts, rest = self._carefully(source, parts, self.trial)
            source.put_back(rest)
        try:
            body = self._encode(source, parts)
            while body.size > limits.max_body_bytes and count_of(parts) > 1:
                parts, rest = halves(parts)
                source.put_back(rest)
                body = self._encode(source, parts)
            self._learn(parts, body)
        except RejectedError as error:
            problem = error
        flight = _Flight(parts, body, problem, self._generation, self._now())
        flights = self._flights.setdefault(source, deque())
        flights.append(flight)
        source.under_way += 1
        if flights[0] is flight:
            flight.turn.set()
        task = asyncio.create_task(self._carry(source, flight))
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._wake.set())
        self._concurrency.began(len(self._tasks))

    def _carefully(self, source: Source, parts: list[Part], trial: Trial) -> tuple[list[Part], list[Part]]:
        """Those in front that were read together, or a single one where all together ended this process; the rest."""
        piece = parts[0].piece
        end = sum(part.count for part in parts if part.piece is piece)
        if trial.goes_alone(os.path.basename(source.feed.run), piece.stream, piece.window):
            end = 1
        return portion(parts, 0, end), portion(parts, end, count_of(parts))

    def _learn(self, parts: list[Part], body: Body) -> None:
        """How much larger than its lines a body comes out: the next one is taken to fit."""
        if count_of(parts) < LEARN_EVENTS:
            return
        extra = max(0.0, (body.size - bytes_of(parts)) / count_of(parts))
        self._extra_bytes = max(extra, self._extra_bytes * 0.9 + extra * 0.1)

    async def _carry(self, source: Source, flight: _Flight) -> None:
        """Until the flight is settled. Raises _GaveUpError."""
        error = flight.error
        if flight.body is not None:
            try:
                flight.acceptance = await self._send(source, flight)
                flight.done = True
            except RejectedError as rejected:
                error = rejected
        if error is not None:
            await flight.turn.wait()
            await self._take_apart(source, flight.parts, error)
            flight.parts = []
            flight.done = True
        self._settle(source)

    def _settle(self, source: Source) -> None:
        """Note what was accepted, as far as all before it was; what is behind a flight under way waits for it."""
        flights = self._flights[source]
        while flights and flights[0].done:
            flight = flights.popleft()
            source.under_way -= 1
            if flight.parts and flight.body is not None:
                self._proven = True
                self._accepted(source, flight.parts, flight.body, flight.acceptance)
            # an error that was tried again holds its frames, and they the flight, until cycles are collected
            flight.parts, flight.body, flight.error = [], None, None
        if flights:
            flights[0].turn.set()
        else:
            del self._flights[source]
        source.finish()

    def _become(self, state: str, why: str = "", seconds: float | None = None) -> None:
        """``seconds`` until the next attempt."""
        self.state = f"{'failing' if state == WAITING else state}: {why}" if why else state
        if why:
            self._health.failed(why)
        if self._health.become(state, seconds) or why:
            for source in self._sources:
                source.note()

    def _journal_failed(self, error: OSError) -> None:
        if self.state != JOURNAL:
            self.state = JOURNAL
            self._health.failed(f"the journal cannot be read ({error.strerror})")
            self._become(JOURNAL)
            self._say(f"the journal cannot be read ({error.strerror}): {self.title} gets no lines until it can")

    async def _wait(self, event: asyncio.Event, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):  # wait_for may swallow a cancellation in Python 3.11
                await event.wait()
        except TimeoutError:
            pass

    # -- one request ---------------------------------------------------------------------------------------------

    async def _take_apart(self, source: Source, parts: list[Part], error: RejectedError) -> None:
        """What is refused is halved until the offender is alone, and that is dropped.

        Before anything was ever accepted a refusal may be the provider's fault (a proxy that answers 400 to all): then
        nothing is dropped until a neighbour has been accepted, and when all are refused they are tried later, with what
        has come by then.
        """
        suspects: list[tuple[list[Part], RejectedError]] = []
        waiting: list[list[Part]] = []
        await self._refused(source, parts, error, waiting, suspects)
        while self._proven or len(suspects) < SUSPECTS:
            if not waiting:
                # a line alone in its request, for what follows did not fit beside it, has its neighbours there
                more = self._neighbours(source) if suspects else []
                if not more:
                    break
                parts = parts + more
                waiting.append(more)
            some = waiting.pop()
            refusal = await self._offer(source, some, suspects)
            if refusal is not None:
                await self._refused(source, some, refusal, waiting, suspects)
        if suspects:
            source.put_back(parts)
            await self._refuses_all(suspects[0][1])

    def _neighbours(self, source: Source) -> list[Part]:
        """What the next request would hold; nothing when there is none or it cannot be read."""
        limits = self._limits
        try:
            return source.take(limits.max_events, limits.target_body_bytes, self._extra_bytes)
        except OSError:
            return []  # the next request meets the error

    async def _refused(
        self,
        source: Source,
        parts: list[Part],
        error: RejectedError,
        waiting: list[list[Part]],
        suspects: list[tuple[list[Part], RejectedError]],
    ) -> None:
        if count_of(parts) > 1:
            waiting += reversed(halves(parts))
        elif self._proven:
            await self._drop(source, parts, error)
        else:
            suspects.append((parts, error))

    async def _insist(self, source: Source, parts: list[Part], error: RejectedError) -> RejectedError | None:
        """An event that tells of a loss was refused by itself: try it again; the last error when it never gets through.

        We made it, so it is hardly what it holds: rather the provider refuses whatever comes, for a while. Raises
        _GaveUpError.
        """
        refusal: RejectedError | None = error
        if lines_in(parts[0]) or source.drained or self._clock.monotonic() < self._in_vain_until:
            return refusal
        for seconds in INSIST_SECONDS:
            wait = seconds * random.uniform(0.8, 1.2)  # noqa: S311 (as in _park)
            if self._deadline is not None and self._clock.monotonic() + 4 * wait >= self._deadline:
                break  # what is behind it is to arrive, too
            await self._sleep(wait)
            refusal = await self._offer(source, parts, [])
            if refusal is None:
                return None
        self._in_vain_until = self._clock.monotonic() + IN_VAIN_SECONDS
        return refusal

    async def _offer(
        self, source: Source, parts: list[Part], suspects: list[tuple[list[Part], RejectedError]]
    ) -> RejectedError | None:
        """Send one request; the error when it is refused. An acceptance is noted, and means that it was the suspects.

        Raises _GaveUpError.
        """
        try:
            body = self._encode(source, parts)
            if body.size > self._sink.limits.max_body_bytes and count_of(parts) > 1:
                return RejectedError("it came out too large")
            flight = _Flight(parts, body, None, self._generation, self._now())
            acceptance = await self._send(source, flight)
        except RejectedError as error:
            return error
        self._proven = True
        for suspect, why in suspects:  # first: the cursor only goes forward
            await self._drop(source, suspect, why)
        suspects.clear()
        self._accepted(source, parts, flight.body or body, acceptance)
        return None

    def _accepted(self, source: Source, parts: list[Part], body: Body, acceptance: Acceptance | None) -> None:
        kept_out: list[Part] = []
        for start, end, reason in reversed(acceptance.rejected if acceptance else ()):
            for part in reversed(portion(parts, start, end)):
                kept_out.append(part)
                self._notify(source, part, reason)
        source.accepted(parts, len(body.data), body.moved, body.truncated, kept_out)

    async def _refuses_all(self, error: RejectedError) -> None:
        """Nothing was ever accepted, every line is refused: it is hardly the lines. Waits, or raises _GaveUpError."""
        self._failures += 1
        seconds = PARKED_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 (as in _park)
        self._become(WAITING, in_words(error), seconds)
        if not self._told:
            self._told = True
            self._say(
                f"{self.title} refuses whatever is sent ({in_words(error)}): "
                "lines wait in the journal; is it the intake that answers there?"
            )
        if self._deadline is not None:
            self._gave_up = True
            raise _GaveUpError
        await self._wait(self._hurry, seconds)

    def _encode(self, source: Source, parts: list[Part]) -> Body:
        """Raises RejectedError when it cannot be done: no line may stop the logs."""
        facts = source.feed.facts
        encode = self._encoders.get(facts.run)
        if encode is None:
            encode = self._encoders[facts.run] = self._sink.encoder(facts)
        now_ms = int(self._now() * 1000)
        try:
            if self.trial is not None and self.trial.careful and not parts[0].piece.own:
                return self._try_to_encode(source, parts, encode, now_ms, self.trial)
            return encode([part.slice() for part in parts], now_ms)
        except Exception as error:
            raise RejectedError(f"it could not be encoded ({type(error).__name__})", 0) from error

    def _now(self) -> float:
        """The time of day, the provider's where ours is known to be wrong."""
        return self._clock.time() - self._sink.clock_off

    def _try_to_encode(self, source: Source, parts: list[Part], encode: Encoder, now_ms: int, trial: Trial) -> Body:
        """The same, once this process has died before: what is at work is noted."""
        run, piece = os.path.basename(source.feed.run), parts[0].piece
        place = (run, piece.stream, piece.window)
        for part in parts if trial.plain_until(*place) else ():
            for index in range(part.start, part.end):
                if part.piece is piece and (seq := seq_of(part, index)) <= trial.plain_until(*place):
                    with trial.at(*place, seq, seq):
                        encode([(piece.events, index, index + 1)], now_ms)
        last = max(last_of(part, part.end - 1) for part in parts if part.piece is piece)
        with trial.at(*place, last):
            return encode([part.slice() for part in parts], now_ms)

    async def _send(self, source: Source, flight: _Flight) -> Acceptance | None:
        """Until it is accepted, perhaps in part. Raises RejectedError, and _GaveUpError in a drain."""
        started, waited = self._clock.monotonic(), throttle.waited()
        try:
            acceptance = await self._try(source, flight)
        except (RetryableError, RefusedError) as error:
            if not self._failures:
                now = self._clock.monotonic()
                self._failing_since = started if now - started < STOPPED_SECONDS else now
            # only now: the machinery for trying again costs 60 us a request
            return await self._persist(source, flight, error)
        now = self._clock.monotonic()
        # what this process waited for its share is none of the provider's time, and it was not idle either
        own = throttle.waited()
        self._concurrency.answered(now - started - (own - waited), now, self._clock.process_time() + own)
        if self._slowed:
            self._slowed = self._slowed * 0.9 if self._slowed > self._interval else 0.0
        if (self._failures or self.state == JOURNAL) and not self._trouble.locked():
            self._well()
        return acceptance

    async def _persist(
        self, source: Source, flight: _Flight, failure: RetryableError | RefusedError
    ) -> Acceptance | None:
        """After a first ``failure``: until it is accepted. Raises RejectedError, and _GaveUpError in a drain.

        One flight at a time; when it gets through, the next one is tried at once.
        """
        waits = self._trouble.locked()
        if isinstance(failure, RetryableError):
            self._concurrency.failed(failure.throttled, self._clock.monotonic())
            if waits:  # else `_failed` and the waiting between attempts see to it
                self._slow_down(failure)
                self._not_before = max(self._not_before, self._clock.monotonic() + (failure.after or 0.0))
        self._failures += 1  # no other is begun
        for other in self._sources:
            other.along = False
        error: RetryableError | RefusedError | None = None if waits else failure
        parked = PARKED_SECONDS
        async with self._trouble:
            if self._gave_up:
                raise _GaveUpError
            if waits:
                await self._until_allowed()
            while True:
                try:
                    if error is None:
                        acceptance = await self._try(source, flight)
                    elif isinstance(error, RetryableError):
                        acceptance = await self._try_again(source, flight, error)
                    else:
                        await self._park(error, parked)
                        parked = min(parked * 2, PARKED_MAX_SECONDS)
                        error = None
                        continue
                except (RetryableError, RefusedError) as another:
                    error = another
                    if not self._failures:
                        self._failures, self._failing_since = 1, self._clock.monotonic()
                        for other in self._sources:
                            other.along = False
                    continue
                except RejectedError:
                    self._well()  # it does answer
                    raise
                self._well()
                return acceptance

    async def _try_again(self, source: Source, flight: _Flight, failure: RetryableError) -> Acceptance | None:
        """After a ``failure``: until it is accepted. Raises _GaveUpError in a drain, RejectedError and RefusedError."""
        first: RetryableError | None = failure
        acceptance: Acceptance | None = None
        try:
            async for attempt in retrying(self._sleep, self._failed(source), self._give_up, self._has_time):
                with attempt:
                    if first is not None:
                        error, first = first, None
                        raise error
                    acceptance = await self._try(source, flight)
        except RetryableError as last:
            self._become(WAITING, in_words(last))
            self._gave_up = True
            raise _GaveUpError from last
        return acceptance

    async def _try(self, source: Source, flight: _Flight) -> Acceptance | None:
        """One attempt. Raises RetryableError, RejectedError and RefusedError."""
        now = self._now()
        # Another secret may want another address; and what is too old or too new for the provider by now, which would
        # be dropped there without a word, was not when the attempts began.
        other = flight.generation != self._generation or abs(now - flight.encoded_at) > STALE_SECONDS
        if flight.body is None or other:
            flight.body, flight.generation = self._encode(source, flight.parts), self._generation
            flight.encoded_at = now
        if flight.maybe_taken:
            flight.maybe_taken = False
            source.counters["repeats"] += sum(map(lines_in, flight.parts))
        try:
            acceptance = await self._send_in_time(source, flight, flight.body)
        except (RetryableError, RejectedError, RefusedError) as error:
            self._bugs = 0
            flight.maybe_taken = isinstance(error, RetryableError) and error.maybe_taken
            raise
        except Exception as error:
            flight.maybe_taken = True
            self._bugs += 1
            name = type(error).__name__
            if self._bugs >= BUGS_IN_A_ROW:
                self._bugs = 0
                raise RejectedError(f"sending it failed unexpectedly ({name})", 0) from error
            raise RetryableError(f"unexpected {name} in the sink; please report this") from error
        finally:
            while self._sink.notes:
                self._say(self._sink.notes.pop(0).rstrip("."))
        self._bugs = 0
        return acceptance

    async def _send_in_time(self, source: Source, flight: _Flight, body: Body) -> Acceptance | None:
        """Once more where the answer tells that our clock is wrong, and that by the right time lines are too old or too
        new: the provider has dropped those without a word. Raises what `Sink.send` does."""
        sink = self._sink
        before = sink.clock_off
        acceptance = await sink.send(body)
        clock_off = sink.clock_off
        if round(clock_off) != self._health.values.get("clock_off", 0):
            self._health.values["clock_off"] = round(clock_off)
            for other in self._sources:
                other.note()
            self.clock_is_off(clock_off)
        if clock_off == before or (clock_off > 0 and not sink.drops_ahead):
            return acceptance
        again = self._encode(source, flight.parts)
        if again.moved <= body.moved:
            return acceptance
        flight.body = again
        source.counters["repeats"] += sum(map(lines_in, flight.parts))
        return await sink.send(again)

    def _failed(self, source: Source) -> Callable[[RetryableError, int, float], None]:
        def failed(error: RetryableError, attempts: int, wait: float) -> None:
            source.counters["retried"] += 1
            self._slow_down(error)
            self._become(WAITING, in_words(error), wait)
            long = self._clock.monotonic() - self._failing_since >= TOLD_SECONDS
            if (long or attempts >= TOLD_AFTER) and not self._told:
                self._told = True
                self._say(
                    f"{self.title} does not take lines at the moment ({in_words(error)}): "
                    "they wait in the journal and go out as soon as it does"
                )

        return failed

    def _slow_down(self, error: RetryableError) -> None:
        """Fewer and larger requests, where the provider asks for that."""
        if error.throttled and self._deadline is None:
            self._slowed = min(SLOWEST_SECONDS, 2 * max(self.interval, 0.5))

    async def _until_allowed(self) -> None:
        """For as long as an answer to another request asked to wait. Raises _GaveUpError in a drain."""
        while (wait := self._not_before - self._clock.monotonic()) > 0:
            if self._deadline is not None and self._not_before >= self._deadline:
                self._gave_up = True
                raise _GaveUpError
            began_draining = self._deadline is not None
            await self._sleep(wait)
            if not began_draining and self._deadline is not None:
                return  # one more attempt is due

    def _give_up(self, error: RetryableError, wait: float) -> bool:
        del error
        if self._deadline is None:
            return False
        return self._last_try or self._clock.monotonic() + wait >= self._deadline

    def _has_time(self) -> bool:
        return self._deadline is None

    async def _sleep(self, seconds: float) -> None:
        """Cut short by the beginning of the drain: one more attempt is due then."""
        if self._deadline is None:
            await self._wait(self._hurry, seconds)
        else:
            await asyncio.sleep(seconds)

    def _well(self) -> None:
        self._failures = 0
        for source in self._sources:
            source.along = True
        self._last_try = False
        self._become(WELL)
        if self._told:
            self._told = False
            self._say(f"{self.title} takes lines again")

    async def _park(self, error: RefusedError, seconds: float) -> None:
        """The secret is refused: look again rarely, with the secret as it is then."""
        if not self.state.startswith("parked"):
            self._told = True
            self._say(
                f"{in_words(error)}; nothing goes to {self.title} until that is mended; lines wait in the journal, "
                "whose oldest are dropped when it is full"
            )
        seconds *= random.uniform(0.8, 1.2)  # noqa: S311 (a fleet in step, no secret)
        self._become(PARKED, in_words(error), seconds)
        if self._deadline is not None:
            self._gave_up = True
            raise _GaveUpError
        await self._wait(self._hurry, seconds)
        if self._deadline is not None:
            self._last_try = True
        try:
            renewed = self._build()
        except SettingError:
            return
        refused, self._sink = self._sink, renewed
        self._generation += 1
        self._encoders.clear()
        await refused.close()
        await renewed.open()

    async def _drop(self, source: Source, parts: list[Part], error: RejectedError) -> None:
        """One event that the provider will never take, unless it takes it now. Raises _GaveUpError."""
        refusal = await self._insist(source, parts, error)
        if refusal is not None:
            self._notify(source, parts[0], in_words(refusal))
            source.dropped_for_good(parts, "rejected")

    def _notify(self, source: Source, part: Part, why: str) -> None:
        """Tell the stream that the part's lines will not come; on stderr it is said once.

        Of an event of our own the stream is told nothing: another one about it would fare no better.
        """
        if not lines_in(part):
            if isinstance(part.piece.events, Crash):
                self._say(f"{self.title} did not take the agent's crash as an issue ({why}): its lines are there")
            elif source.drained:
                self._say(
                    f"{self.title} did not take the event that tells of the agent's end ({why}): "
                    "all lines before it are settled, and what became of them is not shown there"
                )
            return
        self._health.failed(f"it did not take a line ({why})")
        piece = part.piece
        first, last = seq_of(part, part.start), last_of(part, part.end - 1)
        reason = f"{self.title} did not take it ({why})" if first == last else f"{self.title} did not take them ({why})"
        skipped = [skipped_at(part, index) for index in range(part.start, part.end)]
        source.owe(piece.stream, self._clock.time_ns(), first, last, sum(skipped), sum(skipped[1:]), reason)
        if not self._told_rejected:
            self._told_rejected = True
            self._say(
                f"{self.title} did not take a line of {piece.events.stream} ({why}): "
                "such lines are dropped and counted, and an event in the stream tells of each"
            )


def in_words(error: Exception) -> str:
    """For use within a sentence, here or at the provider."""
    return messages.masked(str(error)).rstrip(".")
