"""One decoding for all sinks that are in step, and none that waits for another."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import pytest

from shipper.config.budget import QUEUE_BYTES
from shipper.delivery.commits import Committer
from shipper.delivery.feed import Context, Feed
from shipper.delivery.sender import Sender
from shipper.delivery.source import RECORD_BYTES, Source
from shipper.journal.cursor import CursorFile
from shipper.journal.facts import Facts
from shipper.journal.reader import State
from shipper.journal.writer import JournalWriter
from shipper.lines.filters import Filters
from shipper.lines.masking import Masker
from shipper.sinks.base import Limits
from tests.delivery.delivery_helpers import (
    MIB,
    NOW_NS,
    begin_run,
    closed,
    end_run,
    messages_of,
    print_lines,
    raise_error,
)
from tests.delivery.test_sender import ENTRY, Fake

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.delivery.source import Part

LINES = 40_000
WIDTH = 80


@pytest.fixture
def run(tmp_path: Path) -> str:
    """4 MB of lines, of a wrapper that is gone."""
    writer = begin_run(str(tmp_path), max_bytes=64 * MIB)
    print_lines(writer, 1, LINES, width=WIDTH)
    end_run(writer)
    return writer.path


def opened(run: str) -> Feed:
    feed = Feed(run)
    feed.dead = True
    return feed


def source_of(feed: Feed, sink: str) -> Source:
    return Source(feed, CursorFile(feed.run, sink), Committer(raise_error), adopted=False)


def rest_of(source: Source) -> list[str]:
    found: list[str] = []
    parts: list[Part] = source.take(1000, MIB)
    while parts:
        found += messages_of(parts)
        parts = source.take(1000, MIB)
    return found


def lines_of(parts: list[Part]) -> list[str]:
    """Without the closing event."""
    return messages_of([part for part in parts if not part.piece.own])


def emptied(source: Source) -> bool:
    """Whether every line was taken: what is left, if anything, is the closing event."""
    return source.finish() or source.drained


def windows_of(run: str) -> int:
    feed = opened(run)
    rest_of(source_of(feed, "alone"))
    return feed.decoded


ALL = [f"line {n} {'.' * WIDTH}" for n in range(1, LINES + 1)]


def test_what_one_reads_the_others_that_stand_there_have_too(run: str) -> None:
    feed = opened(run)
    sources = [source_of(feed, name) for name in ("a", "b", "c")]
    got: list[list[str]] = [[], [], []]
    while not all(emptied(source) for source in sources):
        for source, messages in zip(sources, got, strict=True):
            messages += lines_of(source.take(1000, MIB))
    assert got == [ALL, ALL, ALL]
    assert feed.decoded == windows_of(run)


def test_one_without_room_reads_by_itself_later_and_gets_all(run: str) -> None:
    feed = opened(run)
    quick, slow = source_of(feed, "quick"), source_of(feed, "slow")
    assert rest_of(quick) == ALL
    assert not slow.has_room()
    held = sum(part.weight for part in slow._pieces)
    lines_in_a_window = 256 * 1024 // (WIDTH + 10)
    assert QUEUE_BYTES <= held < QUEUE_BYTES + lines_in_a_window * (WIDTH + 10 + RECORD_BYTES)
    assert rest_of(slow) == ALL
    assert emptied(slow)
    assert emptied(quick)


def test_one_that_is_in_trouble_is_given_nothing(run: str) -> None:
    feed = opened(run)
    quick, troubled = source_of(feed, "quick"), source_of(feed, "troubled")
    troubled.along = False
    assert rest_of(quick) == ALL
    assert troubled._pieces == type(troubled._pieces)()
    troubled.along = True
    assert rest_of(troubled) == ALL


def test_one_that_was_in_trouble_sees_the_end_also_behind_a_window_that_another_read(tmp_path: Path) -> None:
    """While the wrapper lives, and where its last request is a full one."""
    writer = begin_run(str(tmp_path), sinks=("quick", "troubled"))
    print_lines(writer, 1, 1000)
    end_run(writer, release=False)
    feed = Feed(writer.path)
    quick, troubled = source_of(feed, "quick"), source_of(feed, "troubled")
    troubled.along = False
    for source in (quick, troubled):
        requests = 0
        while source.has_pending() and not emptied(source):
            parts = source.take(100, MIB)
            if parts:
                source.accepted(parts, 1)
            requests += bool(parts)
        assert requests == 10
        assert closed(source)
    assert feed.decoded == 2  # the window, and the look behind it
    os.close(writer.lock_fd)


def test_one_that_stands_elsewhere_is_given_nothing_and_falls_in_step_again(run: str) -> None:
    feed = opened(run)
    ahead, behind = source_of(feed, "ahead"), source_of(feed, "behind")
    behind.along = False
    first = messages_of(ahead.take(5000, MIB))
    behind.along = True
    again = messages_of(behind.take(5000, MIB))
    assert again == first
    both = feed.decoded
    got = [first, again]
    while not (emptied(ahead) and emptied(behind)):
        for source, messages in zip((ahead, behind), got, strict=True):
            messages += lines_of(source.take(1000, MIB))
    assert got == [ALL, ALL]
    assert feed.decoded - both == windows_of(run) - both // 2


def test_only_who_would_read_on_waits_for_one_in_step_without_room(run: str) -> None:
    feed = opened(run)
    quick, slow = source_of(feed, "quick"), source_of(feed, "slow")
    while slow.has_room():
        assert not quick.outruns()
        assert quick.read()
    assert quick.outruns()
    assert not slow.wants(1000, MIB)
    quick.read()
    assert not quick.outruns()  # it was left behind
    assert not quick.wants(1000, MIB)
    assert quick.wants(10_000, MIB)
    assert not quick.wants(10_000, MIB // 2)


async def test_senders_of_sinks_with_different_limits_decode_together(run: str) -> None:
    feed = opened(run)
    committer = Committer(raise_error)
    sinks, senders, sources = [], [], []
    for number, (events, size) in enumerate(((1000, MIB), (10_000, MIB // 2), (300, MIB), (2000, MIB))):
        sink = Fake()
        sink.limits = Limits(max_events=events, max_body_bytes=2 * size, target_body_bytes=size)
        sender = Sender(ENTRY, lambda sink=sink: sink, 0.0, lambda text: None)  # type: ignore[misc]
        sender.patience = (60_000, 60.0)  # the machine may be slow
        source = Source(feed, CursorFile(run, f"sink{number}"), committer, adopted=False)
        sender.add(source)
        sinks.append(sink)
        senders.append(sender)
        sources.append(source)
    for sender in senders:
        sender.drain(time.monotonic() + 60)
    await asyncio.gather(*(sender.run() for sender in senders))
    assert all(source.complete for source in sources)
    assert [sink.accepted for sink in sinks] == [ALL] * 4
    assert feed.decoded < windows_of(run) * 1.25


def test_equal_personal_fields_have_one_hash_in_a_run_also_after_a_restart_and_another_in_the_next(
    tmp_path: Path,
) -> None:
    hashes = []
    for n, run in enumerate(("0123456789abcdef", "fedcba9876543210")):
        writer = begin_run(str(tmp_path), run, n=n)
        writer.append([(1, NOW_NS, 0, b'{"message":"a","lk.pii.text":"hello"}\n' * 2)])
        end_run(writer)
        for _ in range(2):  # two workers
            feed = Feed(writer.path, filters=Filters(pii="hash"))
            feed.dead = True
            pieces, *_ = feed.read(State.start(), Context.begin())
            hashes += [record["lk.pii.text"] for record in pieces[0].events.records]
            feed.close()
    assert hashes[:4] == [hashes[0]] * 4
    assert hashes[4:] == [hashes[4]] * 4
    assert hashes[0] != hashes[4]
    assert len(str(hashes[0])) == 16


def test_facts_of_a_run_leave_masked(tmp_path: Path) -> None:
    secret = "pub0123456789ABCdef"
    facts = Facts(
        "0123456789abcdef", secret, f"a-{secret}", "svc", (("key", secret),), ("datadog",), 1 << 18, 0, "a.py"
    )
    writer = JournalWriter.create([str(tmp_path)], facts, MIB)
    end_run(writer)
    found = Feed(writer.path, masker=Masker([secret])).facts
    assert (found.host, found.source, found.tags) == ("[MASKED]", "a-[MASKED]", (("key", "[MASKED]"),))
    assert (found.run, found.service, found.sinks, found.max_line) == (facts.run, "svc", ("datadog",), 1 << 18)
