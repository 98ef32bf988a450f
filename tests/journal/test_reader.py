"""Cutting and numbering: the same lines and numbers from any cut of any bytes, from any cursor."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.journal.numbering import STDERR, STDOUT
from shipper.journal.reader import Lines, RunReader, State
from tests.journal.journal_model import facts, gaps, lines_of, numbered, read_all, writer

if TYPE_CHECKING:
    from pathlib import Path

MAX_LINE = 16
CHARACTERS = "é漢🙂".encode() * 5
text = (
    st.binary(max_size=40)
    | st.text("ab\n\r", max_size=40).map(str.encode)
    | st.sampled_from([b"x" * 40, b"y" * 16])
    | st.builds(lambda start, end: CHARACTERS[start : start + end], st.integers(0, 8), st.integers(1, 30))
)
reads = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), text.filter(bool)), max_size=25)


def journal(directory: str, chunks: list[tuple[int, bytes]], end: bool, together: int = 1) -> str:
    run = writer(directory, MAX_LINE)
    timed = [(stream, 1_000 + i, i, data) for i, (stream, data) in enumerate(chunks)]
    for start in range(0, len(timed), together):
        run.append(timed[start : start + together])
    if end:
        run.end_stream(STDOUT)
        run.end_stream(STDERR)
        run.end({"exit_status": 0})
    run.close()
    return run.path


@given(reads, st.booleans(), st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_any_cut_of_any_bytes_gives_the_same_lines_and_numbers(
    chunks: list[tuple[int, bytes]], end: bool, together: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = journal(directory, chunks, end, together)
        items, _ = read_all(run, dead=False)
        for stream in (STDOUT, STDERR):
            data = b"".join(data for number, data in chunks if number == stream)
            assert numbered(items, stream) == lines_of(data, MAX_LINE, end)
            assert gaps(items, stream) == []
        for item in items:
            if isinstance(item, Lines):
                indices = [mark[0] for mark in item.marks]
                assert indices[0] == 0
                assert indices == sorted(set(indices))
                assert indices[-1] < len(item.lines)


@given(reads, st.data())
@settings(max_examples=300, deadline=None)
def test_from_any_cursor_the_rest_follows_under_the_same_numbers(
    chunks: list[tuple[int, bytes]], choose: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = journal(directory, chunks, True)
        items, _ = read_all(run)
        positions: dict[str, list[int]] = {}
        expected = {}
        for stream in (STDOUT, STDERR):
            batches = [item for item in items if isinstance(item, Lines) and item.stream == stream]
            places = [(0, 0, 1)]
            for batch in batches:
                for index in range(len(batch.lines)):
                    mark = [mark for mark in batch.marks if mark[0] <= index][-1]
                    places.append((mark[2], mark[3], batch.first_seq + index))
                    # the position of a line also serves for the one after it
                    places.append((mark[2], mark[3], batch.first_seq + index + 1))
            positions[str(stream)] = list(choose.draw(st.sampled_from(places)))
            expected[stream] = [line for line in numbered(items, stream) if line[0] >= positions[str(stream)][2]]
        again, _ = read_all(run, State.from_cursor(positions))
        for stream in (STDOUT, STDERR):
            assert numbered(again, stream) == expected[stream]
            assert gaps(again, stream) == []


@given(reads, st.lists(st.integers(0, 24), max_size=4))
@settings(max_examples=200, deadline=None)
def test_reading_while_it_is_written_gives_the_same_as_reading_afterwards(
    chunks: list[tuple[int, bytes]], stops: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = writer(directory, MAX_LINE)
        reader = RunReader(run.path)
        state = State.start()
        items = []
        for i, (stream, data) in enumerate(chunks):
            run.append([(stream, i, i, data)])
            if i in stops:
                window, state = reader.read(state)
                items += window.items
        run.end_stream(STDOUT)
        run.end_stream(STDERR)
        run.close()
        window, state = reader.read(state)
        items += window.items
        reader.close()
        for stream in (STDOUT, STDERR):
            data = b"".join(data for number, data in chunks if number == stream)
            assert numbered(items, stream) == lines_of(data, MAX_LINE, True)


def test_a_line_carries_the_time_of_the_read_that_its_first_byte_came_in(tmp_path: Path) -> None:
    run = writer(str(tmp_path), MAX_LINE)
    run.append([(1, 10, 0, b"a"), (1, 20, 0, b"bc"), (1, 30, 0, b"d\nsecond\nth"), (1, 40, 0, b"ird\n")])
    run.append([(1, 50, 0, b"z" * 20), (1, 60, 0, b"z" * 20 + b"\nlast\n")])
    items, _ = read_all(run.path)
    times = {}
    for batch in items:
        assert isinstance(batch, Lines)
        for index, line in enumerate(batch.lines):
            times[(batch.first_seq + index, line)] = [mark[1] for mark in batch.marks if mark[0] <= index][-1]
    assert times == {
        (1, b"abcd"): 10,
        (2, b"second"): 30,
        (3, b"third"): 30,
        (4, b"z" * 16): 50,
        (5, b"z" * 16): 50,
        (6, b"z" * 8): 60,
        (7, b"last"): 60,
    }


def test_two_readers_that_stood_apart_fall_in_step_at_the_next_window(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1 << 18, 64 << 20)
    line = b"x" * 999 + b"\n"
    run.append([(1, 0, 0, line * 60)])
    early, late = RunReader(run.path), RunReader(run.path)
    _, first = early.read(State.start())
    for _ in range(20):
        run.append([(1, 0, 0, line * 60)])
    _, second = late.read(State.start())
    assert first.key != second.key
    _, first = early.read(first)
    assert first.key == second.key


def test_the_state_is_not_changed_by_reading_from_it(tmp_path: Path) -> None:
    run = writer(str(tmp_path), MAX_LINE)
    run.append([(1, 0, 0, b"one\ntwo\nthr"), (2, 0, 0, b"x" * 50)])
    reader = RunReader(run.path)
    start = State.start()
    window, middle = reader.read(start)
    again, _ = reader.read(start)
    assert numbered(window.items, 1) == numbered(again.items, 1) == [(1, b"one", 0), (2, b"two", 0)]
    run.append([(1, 0, 0, b"ee\n")])
    for _ in range(2):
        window, _ = reader.read(middle)
        assert numbered(window.items, 1) == [(3, b"three", 0)]


def test_a_line_longer_than_many_frames_comes_in_pieces(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1000, 8 << 20)
    whole = bytes(range(32, 127)) * 3000  # 285,000 bytes
    for start in range(0, len(whole), 4096):
        run.append([(1, 0, 0, whole[start : start + 4096])])
    run.append([(1, 0, 0, b"\nnext\n")])
    items, _ = read_all(run.path)
    lines = numbered(items, 1)
    assert b"".join(line for _, line, part in lines if part) == whole
    assert lines[-1] == (286, b"next", 0)


@pytest.mark.parametrize("character", ["é", "漢", "🙂"])
@pytest.mark.parametrize("read", [1, 7, 16, 1000])
def test_no_piece_cuts_a_character_wherever_it_begins(tmp_path: Path, character: str, read: int) -> None:
    for before in range(4):
        line = "x" * before + character * 30
        run = writer(str(tmp_path / str(before)), MAX_LINE)
        printed = line.encode() + b"\n"
        for start in range(0, len(printed), read):
            run.append([(1, start, start, printed[start : start + read])])
        pieces = numbered(read_all(run.path)[0], 1)
        assert [(seq, part) for seq, _, part in pieces] == [
            (n + 1, n + 1) for n in range(-(-len(line.encode()) // MAX_LINE))
        ]
        assert "".join(piece.decode() for _, piece, _ in pieces) == line
        run.close()


def test_pending_bytes_are_told_without_reading(tmp_path: Path) -> None:
    run = writer(str(tmp_path), MAX_LINE)
    reader = RunReader(run.path, facts(MAX_LINE))
    _, state = reader.read(State.start())
    assert reader.available(state) == 0
    run.append([(1, 0, 0, b"hello\n")])
    assert reader.available(state) > 0
