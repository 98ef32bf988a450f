"""Lines that the user does not want: not sent, counted by reason, told to whoever looks for them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from shipper.delivery.commits import Committer
from shipper.delivery.feed import Feed
from shipper.delivery.source import Source
from shipper.journal.cursor import CursorFile
from shipper.journal.numbering import STDERR, STDOUT, summarize
from shipper.lines.batch import Batch
from shipper.lines.plain import plain
from shipper.sinks.base import RejectedError
from tests.delivery.delivery_helpers import MIB, NOW_NS, begin_run, end_run, messages_of, raise_error
from tests.delivery.test_model import Sieve
from tests.delivery.test_sender import Bench, Fake
from tests.helpers import ledger_of

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.journal.writer import JournalWriter


@pytest.fixture(scope="module")
def committer() -> Committer:
    return Committer(raise_error)


def opened(run: JournalWriter, committer: Committer) -> Source:
    return Source(Feed(run.path, filters=Sieve()), CursorFile(run.path, "datadog"), committer, adopted=False)


def test_what_is_filtered_is_told_by_the_next_event_the_cursor_and_the_closing_event(
    tmp_path: Path, committer: Committer
) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"debug\n\nexclude\nexclude\nfirst\ndebug\nsecond\n\ndebug\n")])
    run.append([(STDERR, NOW_NS, 0, b"debug\n")])
    end_run(run)
    source = opened(run, committer)
    parts = source.take(100, MIB)
    assert messages_of(parts) == ["first", "second"]
    assert [part.piece.events.records[index]["skipped"] for part in parts for index in range(part.count)] == [4, 1]
    source.accepted([parts[0].cut(1)], 1)
    assert source.left_out == {"empty": 1, "level": 1, "exclude": 2}
    source.accepted(parts, 1)
    assert source.left_out == {"empty": 1, "level": 2, "exclude": 2}
    assert not source.finish()
    (part,) = source.take(100, MIB)
    (closing,) = part.piece.events.records
    assert str(closing["message"]).endswith(
        ": 10 lines captured, 2 delivered, 2 empty, 4 below SHIPPER_LEVEL, 2 matching SHIPPER_EXCLUDE."
    )
    assert ledger_of(closing)["filtered"] == 8
    source.accepted([part], 1)
    assert source.finish()
    assert committer.flush(5)
    values = CursorFile.read(run.path, "datadog")
    assert values is not None
    assert values["left_out"] == {"empty": 2, "level": 4, "exclude": 2}


def test_filtered_lines_alone_are_passed_told_after_a_restart_and_counted_once(
    tmp_path: Path, committer: Committer
) -> None:
    run = begin_run(str(tmp_path))
    source = opened(run, committer)
    run.append([(STDOUT, NOW_NS, 0, b"debug\n\nexclude\n")])
    assert source.take(100, MIB) == []
    assert not source.has_pending()
    assert source.left_out == {"empty": 1, "level": 1, "exclude": 1}
    assert committer.flush(5)
    run.append([(STDOUT, NOW_NS, 0, b"exclude\nfive\n")])
    again = opened(run, committer)
    (part,) = again.take(100, MIB)
    assert part.piece.events.records[0] == {
        "message": "five", "timestamp": NOW_NS // 1_000_000, "seq": 5, "skipped": 4
    }  # fmt: skip
    again.accepted([part], 1)
    assert again.left_out == {"empty": 1, "level": 1, "exclude": 2}
    assert again.counters["delivered"] == 1


@pytest.mark.parametrize("restart", [False, True])
def test_filtered_lines_before_a_loss_are_counted_and_told_with_it(
    tmp_path: Path, committer: Committer, restart: bool
) -> None:
    run = begin_run(str(tmp_path))
    source = opened(run, committer)
    run.append([(STDOUT, NOW_NS, 0, b"debug\nexclude\n")])
    if restart:
        source.take(100, MIB)
        assert committer.flush(5)
        source = opened(run, committer)
    run.skip(STDOUT, summarize(b"lost\n", 1 << 18), NOW_NS, 0, "journal_stalled")
    run.append([(STDOUT, NOW_NS, 0, b"last\n")])
    parts = source.take(100, MIB)
    notice = parts[0].piece.events.records[0]
    assert (notice["first_seq"], notice["last_seq"], notice["skipped"]) == (3, 3, 2)
    source.accepted(parts, 1)
    assert source.left_out == {"empty": 0, "level": 1, "exclude": 1}
    assert (source.counters["delivered"], source.dropped) == (1, {"journal_stalled": 1})


async def test_one_that_is_refused_tells_of_the_filtered_ones_before_it(tmp_path: Path) -> None:
    def answer(messages: list[str]) -> None:
        if "poison" in messages:
            raise RejectedError("status 400", 400)

    bench = Bench(tmp_path, ["one", "debug", "exclude", "poison", "", "two"], Fake(answer))
    bench.source.feed._decoder._filters = Sieve()
    await bench.drain()
    assert bench.source.left_out == {"empty": 1, "level": 1, "exclude": 1}
    assert bench.source.dropped == {"rejected": 1}
    assert [message.split(" is")[0] for message in bench.sink.accepted] == ["one", "two", "1 line of stdout (4)"]
    assert bench.source.complete


def test_a_cursor_of_an_earlier_version_keeps_its_count(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    source = opened(run, committer)
    run.append([(STDOUT, NOW_NS, 0, b"\none\n")])
    source.accepted(source.take(10, MIB), 1)
    assert committer.flush(5)
    source.close()
    cursor = CursorFile(run.path, "datadog")
    values = dict(cursor.values or {})
    values["empty"] = values.pop("left_out")["empty"]
    cursor.commit(values)
    cursor.close()
    again = opened(run, committer)
    assert again.left_out == {"empty": 1, "level": 0, "exclude": 0}
    assert again.take(10, MIB) == []


def test_plain_lines_are_left_out_by_what_they_hold_and_never_by_a_level_that_nobody_looked_for() -> None:
    batch = Batch(1, [b"debug", b"", b"exclude", b"one", b"exclude"], 1, [(0, NOW_NS)], {})
    events = plain(batch, lambda seq: nullcontext(), Sieve())
    assert events.messages == ["debug", "one"]
    assert events.left == {1: (1, 0, 1)}
    assert events.records[1]["skipped"] == 2
    assert events.trailing == (0, 0, 1)
