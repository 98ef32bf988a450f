"""Where a worker died before: counted by the notes that stand, and what becomes of the lines there."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipper.delivery.feed import Context, Feed
from shipper.delivery.trial import DEATHS, LINE_DEATHS, LINES, Trial
from shipper.journal.reader import State
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.masking import Masker
from shipper.lines.plain import plain
from shipper.lines.text import clean
from tests.delivery.delivery_helpers import MIB, NOW_NS, begin_run, end_run, print_lines
from tests.delivery.test_sender import Bench, Fake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

RUN, WINDOW = "a-run", (3, 2)

_begun: list[Trial] = []


def begun(run: str, say: Callable[[str], None], **options: float) -> Trial:
    """As a worker begins, which dies at the latest with the test."""
    _begun.append(Trial(run, say, **options))
    return _begun[-1]


@pytest.fixture(autouse=True)
def closed_by_the_kernel() -> Iterator[None]:
    yield
    while _begun:
        file = _begun.pop()._file
        if file is not None:
            file.close()


def dies(directory: Path, said: list[str], last: int, line: int = 0) -> None:
    """A worker starts, and dies at work on lines up to ``last``, or on that one."""
    begun(str(directory), said.append).at(RUN, 1, WINDOW, last, line).__enter__()


def test_lines_at_which_three_workers_died_are_plain_text_up_to_the_last_one_noted(tmp_path: Path) -> None:
    said: list[str] = []
    for last in (70, 90, 80):
        assert begun(str(tmp_path), said.append).plain_until(RUN, 1, WINDOW) == 0
        dies(tmp_path, said, last)
    trial = begun(str(tmp_path), said.append)
    assert trial.plain_until(RUN, 1, WINDOW) == 90
    for place in ((RUN, 2, WINDOW), (RUN, 1, (3, 1)), ("another", 1, WINDOW)):
        assert trial.plain_until(*place) == 0
    (message,) = said
    assert f"died {DEATHS} times at the same lines of stdout, the last of them 90: they are forwarded as" in message
    assert begun(str(tmp_path), said.append).plain_until(RUN, 1, WINDOW) == 90
    assert len(said) == 1


def test_a_line_at_which_two_workers_died_is_dropped_and_no_other(tmp_path: Path) -> None:
    said: list[str] = []
    for death in range(LINE_DEATHS):
        assert not begun(str(tmp_path), said.append).is_dropped(RUN, 1, 42), death
        dies(tmp_path, said, 42, 42)
        dies(tmp_path, said, 43 + death, 43 + death)
    trial = begun(str(tmp_path), said.append)
    assert [seq for seq in range(100) if trial.is_dropped(RUN, 1, seq)] == [42]
    assert len(said) == 1
    assert "line 42 of stdout" in said[0]


def test_lines_that_end_it_only_all_together_go_one_by_one(tmp_path: Path) -> None:
    said: list[str] = []
    for death in range(2 * DEATHS):
        assert not begun(str(tmp_path), said.append).goes_alone(RUN, 1, WINDOW), death
        dies(tmp_path, said, 90 - death)
    trial = begun(str(tmp_path), said.append)
    assert trial.goes_alone(RUN, 1, WINDOW)
    assert not trial.goes_alone(RUN, 1, (3, 3))
    assert trial.plain_until(RUN, 1, WINDOW) == 90


def test_with_the_tenth_line_of_a_window_the_rest_of_it_goes(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(DEATHS):
        dies(tmp_path, said, 90)
    for line in range(1, 2 * LINES, 2):
        for _ in range(LINE_DEATHS):
            dies(tmp_path, said, line, line)
    trial = begun(str(tmp_path), said.append)
    dropped = [seq for seq in range(200) if trial.is_dropped(RUN, 1, seq)]
    assert dropped == [*range(1, 2 * LINES - 1, 2), *range(2 * LINES - 1, 91)]
    assert "and 19-90 are not tried any more" in said[-1]


def test_a_worker_that_dies_while_no_lines_are_at_work_counts_for_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(20):
        trial = begun(str(tmp_path), said.append)
        with trial.at(RUN, 1, WINDOW, 90), trial.at(RUN, 1, WINDOW, 5, 5):
            pass
    assert begun(str(tmp_path), said.append).plain_until(RUN, 1, WINDOW) == 0
    assert said == []


def test_after_a_minute_it_is_careful_no_more(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(10):
        trial = begun(str(tmp_path), said.append, careful_seconds=0.0)
        assert not trial.careful
        trial.at(RUN, 1, WINDOW, 90).__enter__()
    assert begun(str(tmp_path), said.append).plain_until(RUN, 1, WINDOW) == 0


def test_what_is_remembered_has_a_bound(tmp_path: Path) -> None:
    said: list[str] = []
    for line in range(1, 120):
        for _ in range(LINE_DEATHS):
            dies(tmp_path, said, 10**9 + line, 10**9 + line)
    trial = begun(str(tmp_path), said.append)
    assert trial.is_dropped(RUN, 1, 10**9 + 119)
    assert not trial.is_dropped(RUN, 1, 10**9 + 1)


@pytest.mark.parametrize("content", [b"", b"\0" * 100_000, b"nonsense" * 5000])
def test_a_file_that_says_nothing_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "trial").write_bytes(content)
    said: list[str] = []
    for _ in range(DEATHS):
        dies(tmp_path, said, 90)
    assert begun(str(tmp_path), said.append).plain_until(RUN, 1, WINDOW) == 90


def test_where_no_file_can_be_made_it_works_on(tmp_path: Path) -> None:
    trial = begun(str(tmp_path / "nothing"), pytest.fail)
    with trial.at(RUN, 1, WINDOW, 90):
        assert trial.careful


class Known(Trial):
    """One that has learnt already; the note is kept in memory."""

    def __init__(self, last: int, dropped: set[int], *, alone: bool = False) -> None:
        self._ends = time.monotonic() + 60
        self._file = None
        self._at = []
        self.last, self.dropped, self.alone = last, dropped, alone

    def plain_until(self, run: str, stream: int, window: tuple[int, int]) -> int:
        return self.last if stream == 1 else 0

    def goes_alone(self, run: str, stream: int, window: tuple[int, int]) -> bool:
        return self.alone and self.last > 0

    def is_dropped(self, run: str, stream: int, seq: int) -> bool:
        return stream == 1 and seq in self.dropped


@pytest.mark.parametrize(("alone", "sizes"), [(False, [20, 10]), (True, [1] * 30)])
async def test_a_careful_sender_takes_what_was_read_together_or_a_single_line(
    tmp_path: Path, alone: bool, sizes: list[int]
) -> None:
    bench = Bench(tmp_path, [f"line {n}" for n in range(1, 31)], Fake())
    bench.sender.trial = bench.source.feed.trial = Known(20, set(), alone=alone)
    await bench.drain()
    own = bench.sink.requests[len(sizes) :]  # the run's closing event, where there is one
    assert [len(request) for request in bench.sink.requests[: len(sizes)]] == sizes
    assert not any(message.startswith("line ") for request in own for message in request)
    assert bench.source.complete


@given(
    last=st.integers(0, 60),
    dropped=st.sets(st.integers(1, 60), max_size=8),
    reads=st.lists(st.integers(1, 200), max_size=10),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_every_line_comes_once_plain_dropped_or_decoded(
    tmp_path_factory: pytest.TempPathFactory, last: int, dropped: set[int], reads: list[int]
) -> None:
    data = b"".join(b'{"message": "m", "level": "warn", "n": %d}\n' % n for n in range(1, 51))
    run = begin_run(str(tmp_path_factory.mktemp("run")))
    at = 0
    for size in [*reads, len(data)]:
        run.append([(1, NOW_NS, 0, data[at : at + size])] if data[at : at + size] else [])
        at += size
    print_lines(run, 1, 5, stream=2)
    end_run(run)
    feed = Feed(run.path)
    feed.trial = Known(last, dropped)
    pieces, *_ = feed.read(State.start(), Context.begin())
    feed.close()
    seqs: list[int] = []
    for piece in (piece for piece in pieces if piece.stream == 1):
        if piece.gap is not None:
            assert piece.gap.first_seq == len(seqs) + 1
            assert piece.gap.last_seq <= last
            lost = range(piece.gap.first_seq, piece.gap.last_seq + 1)
            assert dropped.issuperset(lost)
            seqs += lost
            continue
        assert next(mark[0] for mark in piece.marks) == 0
        assert piece.first_seq == len(seqs) + 1
        assert piece.lines == piece.events.count
        for record in piece.events.records:
            assert ("n" in record) == (record["seq"] > last)  # type: ignore[operator]
        seqs += piece.events.seqs
    assert seqs == list(range(1, 51))
    assert sum(piece.events.count for piece in pieces if piece.stream == 2) == 5


@given(st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=12), st.data())
def test_plain_lines_are_those_that_the_decoder_would_make(lines: list[bytes], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(lines)), max_size=3)))
    times = [(0, NOW_NS), *((cut, NOW_NS + cut * 10**9) for cut in cuts if cut < len(lines))]
    parts = {0: 3} if data.draw(st.booleans()) else {}
    batch = Batch(1, lines, 7, times, parts)
    noted: list[int] = []
    trial = Known(0, set())

    def at(seq: int) -> AbstractContextManager[None]:
        noted.append(seq)
        return trial.at(RUN, 1, WINDOW, seq, seq)

    events = plain(batch, at)
    expected = Decoder().decode(batch)
    assert events.seqs == expected.seqs
    assert noted == [seq for seq, line in enumerate(lines, 7) if line.strip() or seq - 7 in parts]
    assert events.sizes == expected.sizes or b"\r" in b"".join(lines) or b" " in b"".join(lines)
    assert events.trailing_skipped == expected.trailing_skipped
    for record, other in zip(events.records, expected.records, strict=True):
        assert (record.get("skipped"), record.get("part")) == (other.get("skipped"), other.get("part"))
        text = clean(lines[int(str(record["seq"])) - 7].decode(errors="replace"))
        assert record["message"] == (f"json: {text}" if text.lstrip().startswith("{") else text)
        if "{" not in text and other.keys() <= {"message", "timestamp", "seq", "skipped", "part"}:
            assert str(other["message"]) in text  # without a level or a time in front, if the decoder knew them
            if other["message"] == text:
                assert record["timestamp"] == other["timestamp"]


@pytest.mark.parametrize("printed", [b"key sk-\x1b[31msecretsecret\x1b[0m", b"10%\rkey sk-secretsecret", b"\x1b[1m\r"])
def test_plain_lines_are_as_clean_and_as_masked_as_others(printed: bytes) -> None:
    masker = Masker(["sk-secretsecret"])
    batch = Batch(1, [printed, b"after"], 7, [(0, NOW_NS)], {})
    events = plain(batch, lambda seq: nullcontext(), None, masker)
    expected = Decoder(masker=masker).decode(batch)
    assert events.messages == expected.messages
    assert events.left == expected.left
    assert b"secret" not in b"".join(events.lines or ())


def test_a_read_in_steps_of_windows_names_them_alike_whatever_it_begins_with(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path), max_bytes=16 * MIB)
    print_lines(run, 1, 6000, width=200)
    end_run(run)
    feed = Feed(run.path)
    feed.trial = Known(0, set())
    windows: list[tuple[int, int]] = []
    state, context, end = State.start(), Context.begin(), False
    while not end:
        pieces, state, context, end = feed.read(state, context)
        windows += [piece.window for piece in pieces]
    assert len(windows) > 4
    assert windows == sorted(set(windows))
    feed.close()
    assert not os.path.exists(os.path.join(run.path, "trial"))
