"""What is dropped for good is announced, whoever dies meanwhile, and so that the numbers come out even (found by
test_model)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import pytest

from shipper.delivery.commits import Committer
from shipper.delivery.source import MAX_OWED, Source
from shipper.journal.cursor import CursorFile
from shipper.journal.numbering import STDOUT, summarize
from shipper.sandbox.ledger import Ledger
from shipper.sinks.base import Acceptance, RejectedError
from tests.delivery.delivery_helpers import (
    MIB,
    NOW_NS,
    begin_run,
    closed,
    end_run,
    open_source,
    print_lines,
    raise_error,
)
from tests.delivery.test_sender import Bench, Fake

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.delivery.source import Part


def notices(parts: list[Part]) -> list[tuple[object, ...]]:
    """What the announcements among the parts say."""
    names = ("first_seq", "last_seq", "lost", "skipped")
    return [
        tuple(record.get(name) for name in names)
        for part in parts
        for record in part.piece.events.records[part.start : part.end]
        if "seq" not in record
    ]


def drop(source: Source, parts: list[Part]) -> None:
    for part in parts:
        for index in range(part.start, part.end):
            source.owe(STDOUT, NOW_NS, index + 1, index + 1, 0, 0, "no")
    source.dropped_for_good(parts, "rejected")


def test_what_was_dropped_is_announced_by_the_next_worker_when_this_one_is_killed(tmp_path: Path) -> None:
    committer = Committer(raise_error)
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 4)
    source = open_source(run.path, committer)
    drop(source, source.take(2, MIB))
    assert committer.flush(5)
    second = open_source(run.path, committer)  # killed before it was told
    assert second.dropped == {"rejected": 2}
    parts = second.take(100, MIB)
    assert notices(parts) == [(1, 1, 1, None), (2, 2, 1, None)]
    second.accepted(parts, 1)
    assert committer.flush(5)
    print_lines(run, 5, 1)
    assert notices(open_source(run.path, committer).take(100, MIB)) == []  # told once
    assert second.counters["delivered"] == 2


def test_with_more_to_announce_than_a_cursor_holds_it_waits_for_that(tmp_path: Path) -> None:
    committer = Committer(raise_error)
    run = begin_run(str(tmp_path))
    print_lines(run, 1, MAX_OWED + 2)
    source = open_source(run.path, committer)
    drop(source, source.take(MAX_OWED, MIB))
    assert committer.flush(5)
    assert len(notices(open_source(run.path, committer).take(MAX_OWED, MIB))) == MAX_OWED
    told = source.take(MAX_OWED, MIB)
    drop(source, source.take(2, MIB))  # 42
    assert committer.flush(5)
    values = CursorFile.read(run.path, "datadog")
    assert values is not None
    assert values["dropped"] == {"rejected": MAX_OWED}  # so the two are offered again after a kill
    source.accepted(told, 1)
    assert committer.flush(5)
    values = CursorFile.read(run.path, "datadog")
    assert values is not None
    assert (values["dropped"], len(values["owed"])) == ({"rejected": MAX_OWED + 2}, 2)


class Choosy(Fake):
    """Refuses a request with ``refused`` in it, and keeps what is ``stale`` out of one that it accepts."""

    def __init__(self, refused: str = "") -> None:
        super().__init__(lambda messages: self.judge(messages, refused))

    def judge(self, messages: list[str], refused: str) -> Acceptance | None:
        if refused and any(message.startswith(refused) for message in messages):
            raise RejectedError("status 400", 400)
        stale = [index for index, message in enumerate(messages) if message.startswith("stale")]
        return Acceptance(((stale[0], stale[-1] + 1, "too old"),)) if stale else None


async def test_an_announcement_tells_of_the_empty_lines_before_and_among_what_was_not_taken(tmp_path: Path) -> None:
    refused = Bench(tmp_path / "a", ["one", "", "poison", "", "two", "three"], Choosy("poison"))
    kept_out = Bench(tmp_path / "b", ["one", "", "", "stale", "", "stale", "two"], Choosy())
    told = []
    for bench in (refused, kept_out):
        owe = bench.source.owe

        def owed(*numbers: Any, owe: Any = owe) -> None:
            told.append(numbers[2:6])
            owe(*numbers)

        cast(Any, bench.source).owe = owed
        await bench.drain()
    assert told == [(3, 3, 1, 0), (4, 6, 3, 1)]
    assert refused.source.left_out["empty"] == 2
    assert kept_out.source.left_out["empty"] == 3
    assert kept_out.source.dropped == {"rejected": 2}
    assert "2 lines of stdout (4-6) are missing here" in kept_out.sink.accepted[-1]


@pytest.mark.parametrize("lines", [["one", "poison", "two"], ["poison", "one"], ["poison"]])
@pytest.mark.parametrize(("times", "seconds", "told"), [(2, 20.0, True), (99, 1.0, False)])
async def test_an_announcement_that_is_refused_is_tried_again_and_holds_nothing_up_for_good(
    tmp_path: Path, lines: list[str], times: int, seconds: float, told: bool
) -> None:
    sink = Choosy("poison")
    refused = 0

    def answer(messages: list[str]) -> Acceptance | None:
        nonlocal refused
        if any("missing here" in message for message in messages) and refused < times:
            refused += len(messages) == 1
            raise RejectedError("status 400", 400)
        return sink.judge(messages, "poison")

    sink.answer = answer
    bench = Bench(tmp_path, [*lines, "", "last"], sink)
    await bench.drain(seconds)
    assert bench.source.complete
    assert bench.source.dropped == {"rejected": 1}
    announced = [message for message in sink.accepted if "missing here" in message]
    assert len(announced) == told
    kept = [line for line in [*lines, "last"] if line != "poison"]
    assert [message for message in sink.accepted if message not in announced] == kept
    assert refused == 2 or (refused and not told)


async def test_where_announcements_are_always_refused_only_the_first_is_tried_again(tmp_path: Path) -> None:
    attempts: Counter[str] = Counter()

    def answer(messages: list[str]) -> None:
        if len(messages) == 1:
            attempts.update(messages)
        if any(message.startswith(("poison", "1 line of")) for message in messages):
            raise RejectedError("status 400", 400)

    bench = Bench(tmp_path, ["one", "poison", "two", "poison", "last"], Fake(answer))
    await bench.drain(8.0)
    assert bench.source.complete
    assert bench.source.dropped == {"rejected": 2}
    first, second = sorted(count for message, count in attempts.items() if message.startswith("1 line of"))
    assert first == 1 < second


def test_a_loss_tells_of_the_empty_lines_before_it(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\n\n\n")])
    run.skip(STDOUT, summarize(b"a\nb\n", 1 << 18), NOW_NS, 0, "journal_stalled")
    run.append([(STDOUT, NOW_NS, 0, b"\nsix\n")])
    end_run(run)
    source = open_source(run.path, Committer(raise_error), final=True)
    parts = source.take(100, MIB)
    records = [record for part in parts for record in part.piece.events.records[part.start : part.end]]
    assert [(record.get("seq"), record.get("first_seq"), record.get("skipped")) for record in records] == [
        (1, None, None),
        (None, 4, 2),
        (7, None, 1),
    ]
    source.accepted(parts, 1)
    assert closed(source)
    assert source.left_out["empty"] == 3
    ledger = Ledger()
    ledger.take(records, {"run": "r", "stream": "stdout"}, 0)
    (stream,) = ledger.streams()
    assert stream.summary()["unexplained"] == 0
