"""A run on disk and its source, for the tests of the delivery."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Self

from shipper.delivery.commits import Committer
from shipper.delivery.feed import Feed
from shipper.delivery.source import Source
from shipper.journal.cursor import CursorFile
from shipper.journal.facts import Facts
from shipper.journal.numbering import STDERR, STDOUT
from shipper.journal.writer import JournalWriter
from shipper.sinks.base import Sink
from tests.helpers import ledger_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shipper.delivery.source import Part

MIB = 1 << 20
NOW_NS = 1_700_000_000_000_000_000


class StandIn(Sink):
    """A sink of a provider that is made up, without a connection: what is left are its limits, `encoder` and `send`."""

    name = "datadog"
    title = "Datadog"
    destination = "nowhere"

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        raise NotImplementedError

    def place(self, facts: Facts) -> str:
        return "nowhere"

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass


def begin_run(
    directory: str,
    run: str = "0123456789abcdef",
    max_bytes: int = 16 * MIB,
    n: int = 0,
    sinks: tuple[str, ...] = ("datadog",),
) -> JournalWriter:
    facts = Facts(run, "host-1", "agent-1", "svc", (), sinks, 1 << 18, NOW_NS + n, "agent.py")
    return JournalWriter.create([directory], facts, max_bytes)


def print_lines(run: JournalWriter, first: int, count: int, stream: int = STDOUT, width: int = 20) -> None:
    data = b"".join(b"line %d %s\n" % (n, b"." * width) for n in range(first, first + count))
    for start in range(0, len(data), 60_000):
        run.append([(stream, NOW_NS, start, data[start : start + 60_000])])


def end_run(run: JournalWriter, release: bool = True) -> None:
    run.end_stream(STDOUT)
    run.end_stream(STDERR)
    run.end({"exit_status": 0})
    run.close()
    if release:
        os.close(run.lock_fd)


async def becomes(predicate: Callable[[], bool]) -> None:
    """Returns as soon as ``predicate()`` is true; TimeoutError after 30 s."""
    async with asyncio.timeout(30.0):
        while not predicate():  # noqa: ASYNC110 (what is waited for is no event of the loop's)
            await asyncio.sleep(0.01)


async def all_had_their_turn() -> None:
    """Whatever was ready to go on has gone on: what has not begun by then waits for something."""
    for _ in range(100):
        await asyncio.sleep(0)


def raise_error(error: Exception) -> None:
    raise error


def open_source(run: str, committer: Committer, sink: str = "datadog", final: bool = False) -> Source:
    feed = Feed(run)
    feed.dead = final
    return Source(feed, CursorFile(run, sink), committer, adopted=False)


def messages_of(parts: list[Part]) -> list[str]:
    return [message for part in parts for message in part.piece.events.messages[part.start : part.end]]


def closed(source: Source) -> bool:
    """Whether all of the run is accepted; the closing event, where it is all that is left, is accepted here."""
    if source.finish() or not source.drained:
        return source.complete
    (part,) = source.take(100, MIB)
    (closing,) = part.piece.events.records
    ledger = ledger_of(closing)
    source.accepted([part], 1)
    assert source.finish()
    assert ledger["delivered"] == source.counters["delivered"]
    assert ledger["filtered"] == sum(source.left_out.values())
    assert ledger["dropped"] == source.dropped
    return True
