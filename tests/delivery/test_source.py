"""A run as one sink sees it: what a request holds, what a cursor says after it, what a restart sends again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.delivery.commits import Committer
from shipper.delivery.feed import Feed, Piece
from shipper.delivery.source import Part, Source, bytes_of, count_of, halves
from shipper.journal.cursor import CursorFile
from shipper.journal.frames import MAGIC
from shipper.journal.notes import Noter
from shipper.journal.numbering import STDERR, STDOUT, summarize
from shipper.journal.runs import segment_path
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.text import clean
from tests.delivery.delivery_helpers import (
    MIB,
    NOW_NS,
    begin_run,
    closed,
    end_run,
    messages_of,
    open_source,
    print_lines,
    raise_error,
)
from tests.helpers import is_closing, no_descriptors_left


@pytest.fixture(scope="module")
def committer() -> Committer:
    return Committer(raise_error)


def numbers(parts: list[Part]) -> list[int]:
    return [seq for part in parts for seq in part.piece.events.seqs[part.start : part.end]]


def test_a_request_holds_at_most_the_events_and_bytes_asked_for(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 2500)
    source = open_source(run.path, committer)
    assert numbers(source.take(1000, MIB)) == list(range(1, 1001))
    few = source.take(1000, 500)
    assert 1 < count_of(few) < 30
    assert sum(sum(part.piece.events.sizes[part.start : part.end]) for part in few) <= 500
    assert count_of(source.take(1000, 1)) == 1  # a line larger than the limit goes alone
    rest = source.take(10_000, MIB)
    assert numbers(rest)[-1] == 2500
    assert source.take(10, MIB) == []
    assert not source.has_pending()
    print_lines(run, 2501, 1)
    assert source.has_pending()


def test_a_restart_goes_on_behind_what_was_accepted(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 3000)
    print_lines(run, 1, 10, STDERR)
    source = open_source(run.path, committer)
    first = source.take(1234, MIB)
    source.accepted(first, 100)
    source.take(1000, MIB)  # in flight when it died
    assert committer.flush(5)
    again = open_source(run.path, committer)
    assert again.counters["delivered"] == 1234
    rest = again.take(10_000, MIB)
    assert numbers(rest)[0] == 1235
    assert count_of(rest) == 3010 - 1234


@given(st.lists(st.tuples(st.integers(1, 2), st.binary(min_size=1, max_size=30)), max_size=40), st.data())
@settings(max_examples=100, deadline=None)
def test_every_line_is_taken_once_over_any_restarts(chunks: list[tuple[int, bytes]], choose: st.DataObject) -> None:
    import tempfile

    committer = Committer(raise_error)
    with tempfile.TemporaryDirectory() as directory:
        run = begin_run(directory)
        for stream, data in chunks:
            run.append([(stream, NOW_NS, 0, data)])
        end_run(run)
        seen: list[tuple[str, int, int]] = []  # stream, first line, how many
        lives: list[Source] = []
        skipped = 0
        while True:
            source = open_source(run.path, committer, final=True)
            lives.append(source)
            parts = source.take(choose.draw(st.integers(1, 8)), MIB)
            if not parts:
                assert closed(source)
                break
            for part in parts:
                events = part.piece.events
                chosen = range(part.start, part.end)
                seen += [(events.stream, events.seqs[i], events.lines_in(i, i + 1)) for i in chosen]
                skipped += sum(int(events.records[i].get("skipped", 0)) for i in chosen)  # type: ignore[call-overload]
            source.accepted(parts, 1)
            if choose.draw(st.booleans()):
                more = source.take(3, MIB)
                source.accepted(more, 1)
                for part in more:
                    events = part.piece.events
                    chosen = range(part.start, part.end)
                    seen += [(events.stream, events.seqs[i], events.lines_in(i, i + 1)) for i in chosen]
                    skipped += sum(int(events.records[i].get("skipped", 0)) for i in chosen)  # type: ignore[call-overload]
            assert committer.flush(5)
        assert committer.flush(5)
        for life in lives:
            life.close()
            life.feed.close()
        total = 0
        for stream, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
            data = b"".join(data for number, data in chunks if number == stream)
            lines = data.split(b"\n")
            if not lines[-1]:
                lines.pop()
            shown = {i + 1 for i, line in enumerate(lines) if clean(line.decode(errors="replace")).encode().strip()}
            groups = [range(seq, seq + count) for where, seq, count in seen if where == name]
            taken = [seq for group in groups for seq in group]
            assert taken == sorted(set(taken))
            assert set(taken) >= shown
            # a line that shows nothing is taken only among those that belong together
            assert {seq for group in groups if len(group) == 1 for seq in group} <= shown
            assert all(shown.intersection(group) for group in groups)
            total += len(lines)
        delivered = sum(count for _, _, count in seen)
        assert source.counters["delivered"] == delivered
        assert source.left_out["empty"] == total - delivered
        assert skipped <= source.left_out["empty"]


def test_a_loss_is_an_event_in_its_place_and_counted_when_it_is_accepted(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\n")])
    run.skip(STDOUT, summarize(b"two\nthree\n", 1 << 18), NOW_NS, 0, "journal_stalled")
    run.append([(STDOUT, NOW_NS, 0, b"four\n")])
    source = open_source(run.path, committer)
    parts = source.take(100, MIB)
    assert numbers(parts) == [1, 0, 4]
    notice = parts[1].piece.events
    assert {name: notice.records[0][name] for name in ("logger", "lost", "first_seq", "last_seq", "reason")} == {
        "logger": "shipper",
        "lost": 2,
        "first_seq": 2,
        "last_seq": 3,
        "reason": "journal_stalled",
    }
    assert "2 lines of stdout (2-3)" in notice.messages[0]
    assert source.dropped == {}
    source.accepted(parts, 1)
    assert source.dropped == {"journal_stalled": 2}
    assert committer.flush(5)
    assert open_source(run.path, committer).take(100, MIB) == []


def test_a_loss_that_was_told_is_not_told_again(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\n")])
    run.skip(STDOUT, summarize(b"two\nthree\n", 1 << 18), NOW_NS, 0, "journal_stalled")
    source = open_source(run.path, committer)
    source.accepted(source.take(100, MIB), 1)
    assert committer.flush(5)
    again = open_source(run.path, committer)
    assert again.take(100, MIB) == []
    assert again.dropped == {"journal_stalled": 2}


def test_one_look_reads_a_few_windows_at_most(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    for _ in range(80):
        run.append([(STDOUT, NOW_NS, 0, b"\n" * 60_000)])
    run.append([(STDOUT, NOW_NS, 0, b"last\n")])
    source = open_source(run.path, committer)
    looks = 0
    while not source.take(100, MIB):
        assert source.moved
        looks += 1
    assert looks >= 2


def test_what_was_evicted_before_it_was_sent_is_told_also_after_a_restart(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path), max_bytes=MIB)
    print_lines(run, 1, 10)
    source = open_source(run.path, committer)
    source.accepted(source.take(100, MIB), 1)
    assert committer.flush(5)
    source.close()
    print_lines(run, 11, 50_000)
    end_run(run)
    again = open_source(run.path, committer, final=True)
    lines: list[int] = []
    while parts := again.take(1000, MIB):
        lines += numbers(parts)
        again.accepted(parts, 1)
    assert closed(again)
    lost = again.dropped["journal_full"]
    assert lines[0] == 0
    assert lines[1:] == list(range(11 + lost, 50_011))
    assert again.counters["delivered"] + lost == 50_010


def test_a_finished_run_is_marked_and_never_sent_again(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\n\n\nlast without newline")])
    end_run(run)
    source = open_source(run.path, committer, final=True)
    assert not source.finish()
    parts = source.take(100, MIB)
    assert messages_of(parts) == ["one", "last without newline"]
    source.accepted(parts, 1)
    assert closed(source)
    assert committer.flush(5)
    values = CursorFile.read(run.path, "datadog")
    assert values is not None
    assert (values["complete"], values["delivered"], values["left_out"]["empty"]) == (True, 2, 2)
    again = open_source(run.path, committer, final=True)
    assert again.complete
    assert not again.has_pending()


def test_a_restart_behind_empty_lines_still_tells_of_them(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\n")])
    source = open_source(run.path, committer)
    source.accepted(source.take(100, MIB), 1)
    run.append([(STDOUT, NOW_NS, 0, b"\n\n\n")])
    assert source.take(100, MIB) == []
    assert source.left_out["empty"] == 3
    assert committer.flush(5)
    run.append([(STDOUT, NOW_NS, 0, b"\nsix\n")])
    again = open_source(run.path, committer)
    (part,) = again.take(100, MIB)
    assert part.piece.events.records[0]["skipped"] == 4
    again.accepted([part], 1)
    assert again.left_out["empty"] == 4


def test_a_run_whose_end_was_not_read_is_not_complete(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\nhalf")])
    source = open_source(run.path, committer)
    source.accepted(source.take(100, MIB), 1)
    assert not source.finish()
    end_run(run)  # the disk moved after all
    (part,) = source.take(100, MIB)
    assert messages_of([part]) == ["half"]
    source.accepted([part], 1)
    assert closed(source)


@pytest.mark.parametrize("sinks", [("datadog",), ("datadog", "sentry")])
def test_a_torn_frame_at_the_end_of_a_dead_run_is_its_end_for_every_sink(
    tmp_path: Path, committer: Committer, sinks: tuple[str, ...]
) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 20)
    size = os.path.getsize(segment_path(run.path, 1))
    run.append([(STDOUT, NOW_NS, 0, b"torn by a kill\n")])
    whole = Path(segment_path(run.path, 1)).read_bytes()
    for torn in range(size, len(whole)):
        Path(segment_path(run.path, 1)).write_bytes(whole[:torn])
        feed = Feed(run.path)
        feed.dead = True
        sources = [Source(feed, CursorFile(run.path, sink), committer, adopted=True) for sink in sinks]
        for source in sources:
            parts = source.take(100, MIB)
            assert numbers(parts) == list(range(1, 21))
            source.accepted(parts, 1)
            assert closed(source)
            assert not source.has_pending()
        assert committer.flush(5)
        for source in sources:
            source.close()
            os.unlink(os.path.join(run.path, f"cursor-{sinks[sources.index(source)]}"))
        feed.close()


def test_a_torn_frame_behind_empty_lines_is_not_read_over_and_over_while_a_request_is_under_way(
    tmp_path: Path, committer: Committer
) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 20)
    source = open_source(run.path, committer)
    assert len(source.take(100, MIB)) == 1
    source.under_way = 1  # as its sender counts
    run.append([(STDOUT, NOW_NS, 0, b"\n\n\n")])
    with open(segment_path(run.path, 1), "ab") as segment:
        segment.write(MAGIC)  # a full disk, which would not let it be cut away
    assert source.take(100, MIB) == []
    assert source.moved
    assert source.take(100, MIB) == []
    assert not source.moved  # else its sender takes the next turn at once, for as long as the request is under way


def test_a_run_that_was_removed_is_not_complete_and_holds_nobody_up(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 10)
    end_run(run)
    source = open_source(run.path, committer, final=True)
    assert committer.flush(5)  # its first cursor, which would come into a directory that is being emptied
    shutil.rmtree(run.path)
    assert source.take(100, MIB) == []
    assert not source.finish()
    assert not source.has_pending()


def test_a_run_that_cannot_be_read_is_not_complete(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 10)
    end_run(run)
    source = open_source(run.path, committer, final=True)
    with no_descriptors_left(), pytest.raises(OSError, match="Too many open files"):
        source.take(100, MIB)
    assert not source.finish()
    assert count_of(source.take(100, MIB)) == 10


def test_what_is_left_is_counted(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 5000)
    end_run(run)
    source = open_source(run.path, committer, final=True)
    source.accepted(source.take(700, MIB), 1)
    source.take(1000, MIB)
    assert source.undelivered(5.0) == (4300, True)


@pytest.mark.parametrize(
    "foreign",
    [
        {"streams": "nonsense"},
        {"carried": []},
        {"dropped": [1]},
        {"owed": 1},
        {"owed": [[1]]},
        {"owed": [[3, 0, 0, 0, 0, 0]]},
    ],
    ids=str,
)
def test_a_foreign_cursor_sends_again_rather_than_nothing(
    tmp_path: Path, committer: Committer, foreign: dict[str, object]
) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 3)
    CursorFile(run.path, "datadog").commit({"streams": {"1": [1, 0, 3], "2": [1, 0, 1]}, **foreign})
    assert numbers(open_source(run.path, committer).take(10, MIB)) == [1, 2, 3]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 1))
def test_halves_keep_every_event_in_order(sizes: list[int]) -> None:
    def piece(events: int) -> Piece:
        return Piece(1, Decoder().decode(Batch(1, [b"x" * (n + 1) for n in range(events)], 1, [(0, 0)], {})))

    parts = [Part(piece(size), 0, size) for size in sizes]
    first, second = halves(parts)
    assert bytes_of(first) + bytes_of(second) == bytes_of(parts) == sum(n * (n + 1) // 2 for n in sizes)
    assert count_of(first) == sum(sizes) // 2
    assert count_of(second) == sum(sizes) - sum(sizes) // 2
    both = [(id(p.piece), i) for p in first + second for i in range(p.start, p.end)]
    assert both == [(id(p.piece), i) for p in parts for i in range(p.end)]


# -- the closing event -------------------------------------------------------------------------------------------------


def closing_of(source: Source) -> dict[str, object]:
    """Takes what is left, which is that alone."""
    assert not source.finish()
    (part,) = source.take(100, MIB)
    (record,) = part.piece.events.records
    assert is_closing(record)
    source.accepted([part], 1)
    return record


def test_a_worker_that_dies_between_the_closing_event_and_its_note_repeats_it_as_it_was(
    tmp_path: Path, committer: Committer
) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\n\n\n"), (STDERR, NOW_NS, 0, b"two\n\nhalf")])
    end_run(run)
    source = open_source(run.path, committer, final=True)
    source.accepted(source.take(100, MIB), 1)
    first = closing_of(source)
    assert committer.flush(5)
    source.close()
    again = open_source(run.path, committer, final=True)
    assert again.take(100, MIB) == []
    assert closing_of(again) == first
    assert again.finish()
    assert (first["captured"], first["delivered"], first["filtered"]) == (6, 3, 3)
    assert again.left_out["empty"] == 3


def test_a_run_of_an_older_version_that_was_complete_stays_so(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\n")])
    end_run(run)
    CursorFile(run.path, "datadog").commit({"streams": {"1": [1, 0, 2], "2": [0, 0, 1]}, "complete": True})
    source = open_source(run.path, committer, final=True)
    assert source.finish()
    assert not source.has_pending()


def test_an_end_that_only_the_note_knows_is_told(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\n")])
    Noter(run.path, run.facts).end({"exit_status": 3})  # the disk would not take the marker
    os.close(run.lock_fd)
    source = open_source(run.path, committer, final=True)
    source.accepted(source.take(100, MIB), 1)
    assert closing_of(source)["exit_status"] == 3


def test_a_last_line_whose_stream_has_no_end_marker_is_delivered(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    run.append([(STDOUT, NOW_NS, 0, b"one\nhalf")])
    run.end({"exit_status": 0})  # the disk would not take the stream's
    source = open_source(run.path, committer)
    parts = source.take(100, MIB)
    assert messages_of(parts) == ["one", "half"]
    source.accepted(parts, 1)
    assert closing_of(source)["captured"] == 2


def test_what_a_drain_leaves_behind_is_counted_without_the_closing_event(tmp_path: Path, committer: Committer) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 3)
    end_run(run)
    source = open_source(run.path, committer, final=True)
    parts = source.take(100, MIB)
    assert not source.drained
    source.accepted(parts, 1)
    assert source.take(100, MIB) == []
    assert not source.finish()
    assert source.drained
    assert not source.complete
    assert source.undelivered(5) == (0, True)
