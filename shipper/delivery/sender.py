"""The one sender around every sink: takes, encodes, sends, retries, bisects, drops, commits."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from shipper.delivery.feed import Piece, loss_notice
from shipper.delivery.retry import retrying
from shipper.delivery.source import Part, Source, count_of, halves, lines_in, portion, seq_of
from shipper.sinks.base import RefusedError, RejectedError, RetryableError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shipper.config.registry import SinkEntry
    from shipper.sinks.base import Acceptance, Body, Encoder, Sink

REST_SECONDS = 0.2  # for a source that says that it has something and gives nothing: damage that goes on, a bad disk
SUSPECTS = 20  # lines refused one by one before anything was ever accepted: then it is the provider, not the lines
FULL_BYTES = 256 << 10  # unread journal that makes a request or more: then nothing waits for company
PARKED_SECONDS = 60.0  # a refused secret is tried again after this long, then after twice that…
PARKED_MAX_SECONDS = 600.0
TOLD_AFTER = 3  # failures in a row before a person is told: one or two are everyday
BUGS_IN_A_ROW = 5  # after so many unexpected errors a request counts as rejected, so that it can be bisected


class _GaveUpError(Exception):
    """The drain ends for this sink."""


class Sender:
    """Feeds one sink from its sources until it is told to drain.

    ``state``: "well", "failing: why" or "parked: why", for people.
    """

    def __init__(
        self, entry: SinkEntry, build: Callable[[], Sink], flush_interval: float, say: Callable[[str], None]
    ) -> None:
        """``build`` makes the sink from the environment as it is then; raises SettingError.

        ``more``, to be set: called when nothing is left to do; True when it has added a source.
        """
        self.name = entry.name
        self.title = entry.title
        self.state = "well"
        self._build = build
        self._sink = build()
        self._say = say
        self._interval = flush_interval
        self._sources: list[Source] = []
        self._due: dict[Source, float] = {}
        self._resting: dict[Source, float] = {}
        self.more: Callable[[], bool] = lambda: False
        self._encoders: dict[str, Encoder] = {}
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._deadline: float | None = None
        self._failures = 0
        self._told = False
        self._told_rejected = False
        self._last_try = False  # the drain began while it was failing: one more attempt
        self._bugs = 0
        self._proven = False  # something was accepted since the start

    # -- what the worker tells it --------------------------------------------------------------------------------

    def add(self, source: Source) -> None:
        self._sources.append(source)
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
        now = time.monotonic()
        self._due = {source: min(due, now + self._interval) for source, due in self._due.items()}
        self._wake.set()

    def drain(self, deadline: float) -> None:
        """Deliver all that is there, then end; give up at ``deadline`` (monotonic seconds)."""
        if self._deadline is None:
            self._last_try = self._failures > 0
        self._deadline = deadline
        self._interval = 0.0
        self._hurry.set()
        self._wake.set()

    # -- the loop ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ends when the drain is over, or with CancelledError."""
        await self._sink.open()
        try:
            while True:
                self._wake.clear()
                source, wait = self._next()
                if source is not None:
                    await self._serve(source)
                elif self.more():
                    continue
                elif self._deadline is not None:
                    return
                else:
                    await self._wait(self._wake, wait)
        except _GaveUpError:
            return
        finally:
            await self._sink.close()

    def _next(self) -> tuple[Source | None, float | None]:
        """A source whose lines are due, else how long until one is; None when nothing waits."""
        now = time.monotonic()
        max_events = self._sink.limits.max_events
        wait: float | None = None
        for source in self._sources:
            try:
                if not source.has_pending():
                    continue
                rest = self._resting.get(source, 0.0) - now
                if rest > 0:
                    if self._deadline is None:
                        wait = rest if wait is None else min(wait, rest)
                    continue
                left = self._due[source] - now
                if left <= 0 or self._deadline is not None or source.fills(max_events, FULL_BYTES):
                    # in turn: a long backlog of an old run does not hold up the live one, nor the other way round
                    self._sources.remove(source)
                    self._sources.append(source)
                    return source, None
            except OSError as error:
                self._journal_failed(error)
                left = 1.0
            wait = left if wait is None else min(wait, left)
        return None, wait

    async def _serve(self, source: Source) -> None:
        """One request's worth of a source."""
        limits = self._sink.limits
        started = time.monotonic()
        try:
            parts = source.take(limits.max_events, limits.target_body_bytes)
        except OSError as error:
            self._journal_failed(error)
            await asyncio.sleep(1.0)
            return
        if count_of(parts) < limits.max_events:  # else more was there at that moment: it goes at once too
            self._due[source] = started + self._interval
        if parts:
            await self._deliver(source, parts)
        elif not source.finish() and not source.moved:
            self._resting[source] = time.monotonic() + REST_SECONDS
        else:
            await asyncio.sleep(0)  # the pipe from the supervisor has its turn
        source.finish()

    def _journal_failed(self, error: OSError) -> None:
        if self.state != "journal":
            self.state = "journal"
            self._say(f"the journal cannot be read ({error.strerror}): {self.title} gets no lines until it can")

    async def _wait(self, event: asyncio.Event, seconds: float | None) -> None:
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            pass

    # -- one request ---------------------------------------------------------------------------------------------

    async def _deliver(self, source: Source, parts: list[Part]) -> None:
        """Send ``parts``; what is refused is halved until the offender is alone, and that is dropped.

        Before anything was ever accepted a refusal may be the provider's fault (a proxy that answers 400 to all): then
        nothing is dropped until a neighbour has been accepted, and when all are refused they are tried later, with what
        has come by then.
        """
        suspects: list[tuple[list[Part], RejectedError]] = []
        waiting = [parts]
        while waiting and (self._proven or len(suspects) < SUSPECTS):
            some = waiting.pop()
            error = await self._offer(source, some, suspects)
            if error is None:
                continue
            if count_of(some) > 1:
                waiting += reversed(halves(some))
            elif self._proven:
                self._drop(source, some, error)
            else:
                suspects.append((some, error))
        if suspects:
            source.put_back(parts)
            await self._refuses_all(suspects[0][1])

    async def _offer(
        self, source: Source, parts: list[Part], suspects: list[tuple[list[Part], RejectedError]]
    ) -> RejectedError | None:
        """Send one request; the error when it is refused. An acceptance is noted, and means that it was the suspects.

        Raises _GaveUpError.
        """
        parked = PARKED_SECONDS
        while True:
            try:
                body = self._encode(source, parts)
                if body.size > self._sink.limits.max_body_bytes and count_of(parts) > 1:
                    return RejectedError("it came out too large")
                acceptance = await self._send(source, body)
            except RejectedError as error:
                return error
            except RefusedError as error:
                await self._park(error, parked)  # and encode anew: another kind of token wants another address
                parked = min(parked * 2, PARKED_MAX_SECONDS)
            else:
                self._proven = True
                for suspect, why in suspects:  # first: the cursor only goes forward
                    self._drop(source, suspect, why)
                suspects.clear()
                self._accepted(source, parts, body, acceptance)
                return None

    def _accepted(self, source: Source, parts: list[Part], body: Body, acceptance: Acceptance | None) -> None:
        source.accepted(parts, len(body.data), body.moved, body.truncated)
        for start, end, reason in reversed(acceptance.rejected if acceptance else ()):
            kept_out = portion(parts, start, end)
            source.not_taken(kept_out, "rejected")
            for part in reversed(kept_out):
                self._notify(source, part, reason)

    async def _refuses_all(self, error: RejectedError) -> None:
        """Nothing was ever accepted, every line is refused: it is hardly the lines. Waits, or raises _GaveUpError."""
        self._failures += 1
        self.state = f"failing: {in_words(error)}"
        if not self._told:
            self._told = True
            self._say(
                f"{self.title} refuses whatever is sent ({in_words(error)}): "
                "lines wait in the journal; is it the intake that answers there?"
            )
        if self._deadline is not None:
            raise _GaveUpError
        await self._wait(self._hurry, PARKED_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 (as in _park)

    def _encode(self, source: Source, parts: list[Part]) -> Body:
        """Raises RejectedError when it cannot be done: no line may stop the logs."""
        facts = source.feed.facts
        encode = self._encoders.get(facts.run)
        if encode is None:
            encode = self._encoders[facts.run] = self._sink.encoder(facts)
        try:
            return encode([part.slice() for part in parts], int(time.time() * 1000))
        except Exception as error:
            raise RejectedError(f"it could not be encoded ({type(error).__name__})", 0) from error

    async def _send(self, source: Source, body: Body) -> Acceptance | None:
        """Until it is accepted, perhaps in part. Raises RejectedError, RefusedError, and _GaveUpError in a drain."""
        try:
            try:
                acceptance = await self._try(body)
            except RetryableError as error:
                # only now: the machinery for trying again costs 60 us a request
                acceptance = await self._try_again(source, body, error)
        except RetryableError as error:
            self.state = f"failing: {in_words(error)}"
            raise _GaveUpError from error
        self._well()
        return acceptance

    async def _try_again(self, source: Source, body: Body, failure: RetryableError) -> Acceptance | None:
        """After a first ``failure``: until it is accepted. Raises RetryableError in a drain, and what `_try` raises."""
        first: RetryableError | None = failure
        acceptance: Acceptance | None = None
        async for attempt in retrying(self._sleep, self._failed(source), self._give_up):
            with attempt:
                if first is not None:
                    error, first = first, None
                    raise error
                acceptance = await self._try(body)
        return acceptance

    async def _try(self, body: Body) -> Acceptance | None:
        try:
            acceptance = await self._sink.send(body)
        except (RetryableError, RejectedError, RefusedError):
            self._bugs = 0
            raise
        except Exception as error:
            self._bugs += 1
            name = type(error).__name__
            if self._bugs >= BUGS_IN_A_ROW:
                self._bugs = 0
                raise RejectedError(f"sending it failed unexpectedly ({name})", 0) from error
            raise RetryableError(f"unexpected {name} in the sink; please report this") from error
        self._bugs = 0
        return acceptance

    def _failed(self, source: Source) -> Callable[[RetryableError, int, float], None]:
        def failed(error: RetryableError, attempts: int, wait: float) -> None:
            self._failures += 1
            source.counters["retried"] += 1
            self.state = f"failing: {in_words(error)}"
            if attempts >= TOLD_AFTER and not self._told:
                self._told = True
                self._say(
                    f"{self.title} does not take lines at the moment ({in_words(error)}): "
                    "they wait in the journal and go out as soon as it does"
                )

        return failed

    def _give_up(self, error: RetryableError, wait: float) -> bool:
        del error
        if self._deadline is None:
            return False
        return self._last_try or time.monotonic() + wait >= self._deadline

    async def _sleep(self, seconds: float) -> None:
        """Cut short by the beginning of the drain: one more attempt is due then."""
        if self._deadline is None:
            await self._wait(self._hurry, seconds)
        else:
            await asyncio.sleep(seconds)

    def _well(self) -> None:
        self._failures = 0
        self._last_try = False
        self.state = "well"
        if self._told:
            self._told = False
            self._say(f"{self.title} takes lines again")

    async def _park(self, error: RefusedError, seconds: float) -> None:
        """The secret is refused: look again rarely, with the secret as it is then."""
        self._failures += 1
        if not self.state.startswith("parked"):
            self._told = True
            self._say(
                f"{in_words(error)}; nothing goes to {self.title} until that is mended; lines wait in the journal, "
                "whose oldest are dropped when it is full"
            )
        self.state = f"parked: {in_words(error)}"
        if self._deadline is not None:
            raise _GaveUpError
        await self._wait(self._hurry, seconds * random.uniform(0.8, 1.2))  # noqa: S311 (a fleet in step, no secret)
        if self._deadline is not None:
            self._last_try = True
        try:
            renewed = self._build()
        except SettingError:
            return
        await self._sink.close()
        self._sink = renewed
        self._encoders.clear()
        await self._sink.open()

    def _drop(self, source: Source, parts: list[Part], error: RejectedError) -> None:
        """One event that the provider will never take."""
        source.dropped_for_good(parts, "rejected")
        if lines_in(parts[0]):  # else an event of our own; another one about it would fare no better
            self._notify(source, parts[0], in_words(error))

    def _notify(self, source: Source, part: Part, why: str) -> None:
        """Tell the stream that the part's lines will not come; on stderr it is said once."""
        piece = part.piece
        first, last = seq_of(part, part.start), seq_of(part, part.end - 1)
        reason = f"{self.title} did not take it ({why})" if first == last else f"{self.title} did not take them ({why})"
        notice = loss_notice(piece.stream, time.time_ns(), first, last, "rejected", reason)
        source.put_back([Part(Piece(piece.stream, notice), 0, 1)])
        if not self._told_rejected:
            self._told_rejected = True
            self._say(
                f"{self.title} did not take a line of {piece.events.stream} ({why}): "
                "such lines are dropped and counted, and an event in the stream tells of each"
            )


def in_words(error: Exception) -> str:
    """For use within a sentence."""
    return str(error).rstrip(".")
