"""Segments, the bound, crashes and failing disks."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.journal import runs
from shipper.journal.cursor import CursorFile
from shipper.journal.frames import FRAME_SIZE, scan
from shipper.journal.numbering import STDERR, STDOUT, summarize
from shipper.journal.reader import End, Lines, RunReader, State
from shipper.journal.writer import JournalWriter
from tests.helpers import no_descriptors_left
from tests.journal.journal_model import MIB, facts, gaps, lines_of, numbered, read_all, segments, writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def fill(run: JournalWriter, lines: int, width: int = 100, stream: int = STDOUT, first: int = 1) -> list[bytes]:
    printed = [b"%d " % (first + index) + b"." * width for index in range(lines)]
    for start in range(0, lines, 10):
        run.append([(stream, start, start, b"".join(line + b"\n" for line in printed[start : start + 10]))])
    return printed


def total_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*.seg"))


# -- segments and the bound ------------------------------------------------------------------------------------------


def test_lines_go_on_over_segments(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1000)
    printed = fill(run, 3000)
    assert len(segments(run.path)) > 3
    items, _ = read_all(run.path)
    assert [line for _, line, _ in numbered(items, STDOUT)] == printed


def test_the_oldest_segments_go_and_the_loss_is_told_with_its_numbers(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1000)
    printed = fill(run, 20_000)
    assert total_bytes(tmp_path) <= MIB
    items, _ = read_all(run.path)
    ((first, last, reason),) = gaps(items, STDOUT)
    lines = numbered(items, STDOUT)
    assert (first, reason) == (1, "journal_full")
    assert lines[0][0] == last + 1
    assert [line for _, line, _ in lines] == printed[last:]


def test_what_was_evicted_of_a_silent_stream_is_told_too(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1000)
    fill(run, 7, stream=STDERR)
    fill(run, 20_000)
    items, _ = read_all(run.path)
    assert gaps(items, STDERR) == [(1, 7, "journal_full")]


def test_a_line_that_lost_its_beginning_counts_as_lost(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1000)
    run.append([(STDERR, 0, 0, b"evicted\nbegins in the first segment ")])
    fill(run, 20_000)
    run.append([(STDERR, 0, 0, b"and ends in the last\nwhole\n")])
    items, _ = read_all(run.path)
    assert gaps(items, STDERR) == [(1, 2, "journal_full")]
    assert numbered(items, STDERR) == [(3, b"whole", 0)]


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(1, 9000), st.booleans()), min_size=60, max_size=200))
@settings(max_examples=25, deadline=None)
def test_lines_and_losses_account_for_every_number_after_any_eviction(steps: list[tuple[int, int, bool]]) -> None:
    max_line = 700
    with tempfile.TemporaryDirectory() as directory:
        run = writer(directory, max_line, 70 << 10)  # the smallest segments there are
        printed = {STDOUT: b"", STDERR: b""}
        for stream, size, newline in steps:
            data = b"x" * size + (b"\n" if newline else b"")
            run.append([(stream, 0, 0, data)])
            printed[stream] += data
        run.end_stream(STDOUT)
        run.end_stream(STDERR)
        run.close()
        items, _ = read_all(run.path)
        for stream, data in printed.items():
            expected = {seq: (line, part) for seq, line, part in lines_of(data, max_line, ended=True)}
            seen = {seq: (line, part) for seq, line, part in numbered(items, stream)}
            lost = {seq for first, last, _ in gaps(items, stream) for seq in range(first, last + 1)}
            assert not lost & set(seen)
            assert lost | set(seen) == set(expected)
            assert all(expected[seq] == line for seq, line in seen.items())


def test_the_bound_holds_over_all_runs_and_the_oldest_run_pays(tmp_path: Path) -> None:
    old = writer(str(tmp_path), 1000, run="aaaaaaaaaaaaaaaa", started_ns=1 << 60)
    fill(old, 3000)
    old.end_stream(STDOUT)
    old.end({"exit_status": 0})
    old.close()
    os.close(old.lock_fd)
    new = writer(str(tmp_path), 1000, run="bbbbbbbbbbbbbbbb", started_ns=(1 << 60) + 1)
    fill(new, 20_000)
    assert total_bytes(tmp_path) <= MIB
    items, _ = read_all(old.path)
    assert gaps(items, STDOUT) == [(1, 3000, "journal_full")]
    assert [item.info for item in items if isinstance(item, End)] == [{"exit_status": 0}]


def test_the_segment_that_another_live_wrapper_writes_to_is_never_taken(tmp_path: Path) -> None:
    other = writer(str(tmp_path), 1000, run="aaaaaaaaaaaaaaaa", started_ns=1 << 60)
    fill(other, 10)
    new = writer(str(tmp_path), 1000, run="bbbbbbbbbbbbbbbb", started_ns=(1 << 60) + 1)
    fill(new, 20_000)
    assert total_bytes(tmp_path) <= MIB
    fill(other, 10, first=11)
    items, _ = read_all(other.path)
    assert [seq for seq, _, _ in numbered(items, STDOUT)] == list(range(1, 21))


def test_two_live_wrappers_keep_the_bound_together_and_the_oldest_lines_of_both_go(tmp_path: Path) -> None:
    runs_there = [
        writer(str(tmp_path), 1000, run=letter * 16, started_ns=(1 << 60) + n) for n, letter in enumerate("ab")
    ]
    largest = 0
    for round_ in range(300):
        for run in runs_there:
            fill(run, 70 if run is runs_there[0] else 45, first=round_ * 70 + 1)
        largest = max(largest, total_bytes(tmp_path))
    assert largest <= MIB
    first_seq = [numbered(read_all(run.path)[0], STDOUT)[0][0] for run in runs_there]
    rounds = [first_seq[0] / 70, first_seq[1] / 45]
    assert abs(rounds[0] - rounds[1]) < 30  # a segment is 9 rounds of the one, 14 of the other
    for run in runs_there:
        os.close(run.lock_fd)


# -- crashes ---------------------------------------------------------------------------------------------------------


def test_a_kill_at_every_byte_of_a_write_tears_nothing_and_renumbers_nothing(tmp_path: Path) -> None:
    run = writer(str(tmp_path / "dir"), 1000)
    run.append([(STDOUT, 1, 1, b"first\nsec")])
    before = os.path.getsize(segments(run.path)[0])
    run.append([(STDOUT, 2, 2, b"ond\nthird\n")])
    run.close()
    (segment,) = segments(run.path)
    with open(segment, "rb") as file:
        whole = file.read()
    for size in range(before, len(whole) + 1):
        with open(segment, "wb") as file:
            file.write(whole[:size])
        items, _ = read_all(run.path)
        lines = numbered(items, STDOUT)
        if size < len(whole):
            # the bytes that stand in the journal end the run: the line's piece is its last
            assert lines == [(1, b"first", 0), (2, b"sec", 0)]
        else:
            assert lines == [(1, b"first", 0), (2, b"second", 0), (3, b"third", 0)]
        assert gaps(items, STDOUT) == []


def test_a_reader_beside_a_half_written_frame_waits_for_the_rest(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1000)
    run.append([(STDOUT, 1, 1, b"first\n")])
    (segment,) = segments(run.path)
    before = os.path.getsize(segment)
    run.append([(STDOUT, 2, 2, b"second\n")])
    with open(segment, "rb") as file:
        whole = file.read()
    reader = RunReader(run.path)
    os.truncate(segment, before)
    window, state = reader.read(State.start())
    assert numbered(window.items, STDOUT) == [(1, b"first", 0)]
    for size in range(before, len(whole)):
        with open(segment, "r+b") as file:
            file.truncate(before)
            file.seek(before)
            file.write(whole[before:size])
        window, after = reader.read(state)
        assert window.items == []
        assert window.at_end
        assert after.offset == before
    with open(segment, "wb") as file:
        file.write(whole)
    window, _ = reader.read(state)
    assert numbered(window.items, STDOUT) == [(2, b"second", 0)]


def test_a_writer_killed_at_random_moments_leaves_whole_lines_numbered_as_before(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from tests.journal.journal_model import writer\n"
        "run = writer(sys.argv[1], 1000, 8 << 20)\n"
        "print(run.path, flush=True)\n"
        "n = 0\n"
        "while True:\n"
        "    run.append([(1, n, n, b''.join(b'%d %s\\n' % (i, b'.' * (i % 90)) for i in range(n, n + 50)))])\n"
        "    n += 50\n"
    )
    for attempt in range(5):
        directory = tmp_path / str(attempt)
        process = subprocess.Popen([sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        path = process.stdout.readline().decode().strip()
        process.stdout.read(0)
        while sum(os.path.getsize(s) for s in segments(path)) < 200_000 * (attempt + 1):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        items, _ = read_all(path)
        lines = numbered(items, STDOUT)
        assert [seq for seq, _, _ in lines] == list(range(1, len(lines) + 1))
        assert all(line == b"%d %s" % (i, b"." * (i % 90)) for i, (_, line, _) in enumerate(lines))
        assert not runs.is_live(path)


@given(st.integers(0, 2**32), st.integers(1, 200), st.binary(min_size=1, max_size=50))
@settings(max_examples=60, deadline=None)
def test_damage_anywhere_costs_only_what_it_hit_and_is_told(where: int, width: int, garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = writer(directory, 1000)
        printed = fill(run, 200, width)
        run.end_stream(STDOUT)
        run.close()
        (segment,) = segments(run.path)
        with open(segment, "r+b") as file:
            content = bytearray(file.read())
            first = next(iter(scan(bytes(content)))).end  # the facts stay readable: the next segment's would do
            place = first + where % (len(content) - first)
            content[place : place + len(garbage)] = garbage
            file.seek(0)
            file.write(content)
        items, _ = read_all(run.path)
        lines = {seq: line for seq, line, _ in numbered(items, STDOUT)}
        lost = {seq for first, last, _ in gaps(items, STDOUT) for seq in range(first, last + 1)}
        assert all(printed[seq - 1] == line for seq, line in lines.items())
        if max(lines, default=0) < 200 and not lost:
            # the damage took the journal's end: nothing after it could tell
            assert place >= max(len(content) - 2 * (10 * (width + 5) + FRAME_SIZE) - FRAME_SIZE, first)
        else:
            assert set(lines) | lost >= set(range(1, max(lines) + 1))
        assert all(reason == "journal_corrupt" for _, _, reason in gaps(items, STDOUT))


def test_a_damaged_segment_head_loses_no_line_of_the_next(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1000)
    printed = fill(run, 3000)
    second = segments(run.path)[1]
    with open(second, "r+b") as file:
        file.write(b"\0" * 40)
    reader = RunReader(run.path)
    items, state = [], State.start()
    while True:
        window, state = reader.read(state, dead=True)
        items += window.items
        if window.at_end:
            break
    assert [line for _, line, _ in numbered(items, STDOUT)] == printed
    assert reader.corrupt_frames == 1


# -- what passed by unjournalled -------------------------------------------------------------------------------------


def test_skipped_bytes_are_numbered_and_told_in_their_place(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1000)
    run.append([(STDOUT, 1, 1, b"one\ntwo\nthr")])
    lost = summarize(b"ee\nfour\nfi", 1000).add(summarize(b"ve\nsi", 1000))
    run.skip(STDOUT, lost, 2, 2, "journal_stalled")
    run.append([(STDOUT, 3, 3, b"x\nseven\n")])
    items, _ = read_all(run.path)
    assert numbered(items, STDOUT) == [(1, b"one", 0), (2, b"two", 0), (7, b"seven", 0)]
    assert gaps(items, STDOUT) == [(3, 6, "journal_stalled")]
    assert [type(item).__name__ for item in items] == ["Lines", "Gap", "Lines"]


def test_a_loss_at_the_end_of_a_segment_is_told_with_its_reason_in_the_next(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1 << 18)
    (segment,) = segments(run.path)
    room = 65_536 - os.path.getsize(segment) - FRAME_SIZE  # of a segment of the smallest size, filled to its last byte
    run.append([(STDOUT, 1, 1, b"x" * (room - 1) + b"\n")])
    run.skip(STDOUT, summarize(b"lost\n", 1 << 18), 2, 2, "journal_stalled")
    run.append([(STDOUT, 3, 3, b"three\n")])
    assert len(segments(run.path)) == 2
    items, _ = read_all(run.path)
    assert gaps(items, STDOUT) == [(2, 2, "journal_stalled")]
    assert [seq for seq, _, _ in numbered(items, STDOUT)] == [1, 3]


def test_two_losses_in_one_line_count_it_once(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1000)
    for data in (b"a", b"c"):
        run.append([(STDOUT, 1, 1, data)])
        run.skip(STDOUT, summarize(b"b", 1000), 2, 2, "journal_stalled")
    run.append([(STDOUT, 1, 1, b"d\nnext\n")])
    items, _ = read_all(run.path)
    assert gaps(items, STDOUT) == [(1, 1, "journal_stalled")]
    assert numbered(items, STDOUT) == [(2, b"next", 0)]


class HalfFull(JournalWriter):
    """A disk on which, for as long as it is full, stderr's marker still fits and stdout's does not."""

    full = False

    def _write_loss(self, stream: int, last: bool = False) -> bool:
        if self.full and stream == STDOUT:
            self.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return False
        return super()._write_loss(stream, last)


def test_a_loss_marker_that_still_fits_does_not_hide_why_the_lines_after_it_are_lost(tmp_path: Path) -> None:
    run = HalfFull.create([str(tmp_path)], facts(1000), MIB)
    assert isinstance(run, HalfFull)
    for stream in (STDOUT, STDERR):
        run._lose(stream, summarize(b"lost\n", 1000), 1, 1, "disk_full")
    run.full = True
    run.append([(STDERR, 2, 2, b"lost too\n")])
    run.full = False
    run.append([(STDERR, 3, 3, b"kept\n")])
    items, _ = read_all(run.path)
    assert gaps(items, STDERR) == [(1, 2, "disk_full")]
    assert numbered(items, STDERR) == [(3, b"kept", 0)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("needs root: a file system of its own")
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(mount)], check=False)
    if done.returncode:
        pytest.skip("needs to mount a tmpfs")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def _is_full(fd: int) -> bool:
    """Write a block more; whether it no longer fits."""
    try:
        os.write(fd, b"\0" * 4096)
    except OSError as error:
        return error.errno == errno.ENOSPC
    return False


def fill_up(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    while not _is_full(fd):
        pass
    os.close(fd)


def test_on_a_full_disk_the_oldest_segment_goes_and_nothing_new_is_lost(small_disk: Path) -> None:
    run = writer(str(small_disk), 1000, 64 * MIB)  # more than the disk holds
    fill(run, 30_000)
    assert run.error is None
    items, _ = read_all(run.path)
    ((first, last, reason),) = gaps(items, STDOUT)
    lines = numbered(items, STDOUT)
    assert (first, reason) == (1, "journal_full")
    assert [seq for seq, _, _ in lines] == list(range(last + 1, 30_001))


def test_on_a_disk_filled_by_others_the_loss_is_counted_and_told_when_there_is_room_again(small_disk: Path) -> None:
    run = writer(str(small_disk), 1000, MIB)
    fill(run, 10)
    fill_up(small_disk / "ballast")
    fill(run, 1000, first=11)
    os.unlink(small_disk / "ballast")
    fill(run, 10, first=1011)
    assert run.error is None
    items, _ = read_all(run.path)
    lines = [seq for seq, _, _ in numbered(items, STDOUT)]
    lost = [seq for first, last, reason in gaps(items, STDOUT) for seq in range(first, last + 1)]
    assert sorted(lines + lost) == list(range(1, 1021))
    assert {reason for _, _, reason in gaps(items, STDOUT)} <= {"disk_full", "journal_full"}
    assert lines[-10:] == list(range(1011, 1021))
    assert lost


@pytest.mark.parametrize(("limit", "width"), [(2000, 90), (3000, 4000), (100_000, 30_000)])
def test_a_limit_on_the_size_of_files_makes_segments_smaller_and_loses_nothing(
    tmp_path: Path, limit: int, width: int
) -> None:
    program = (
        "import resource, sys\n"
        "from tests.journal.journal_model import writer\n"
        "width = int(sys.argv[3])\n"
        "run = writer(sys.argv[1], 1 << 18, 16 << 20)\n"
        "run.append([(1, 1, 1, b'1\\n')])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))\n"
        "for n in range(2, 100, 3):\n"
        "    run.append([(1, n, n, b'%d %s\\n' % (m, b'.' * width)) for m in range(n, n + 3)])\n"
        "run.end_stream(1)\n"
        "run.end({'exit_status': 0})\n"
        "assert run.error is None, run.error\n"
        "print(run.path)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(limit), str(width)],
        capture_output=True, text=True, check=True, cwd=os.getcwd(),
    )  # fmt: skip
    items, _ = read_all(done.stdout.strip())
    assert [seq for seq, _, _ in numbered(items, STDOUT)] == list(range(1, 101))
    assert gaps(items, STDOUT) == []
    assert isinstance(items[-1], End)
    assert all(path.stat().st_size <= limit for path in tmp_path.rglob("*.seg"))


def test_without_an_inode_or_a_descriptor_for_the_next_segment_the_present_one_goes_on(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1000, 2 * MIB)
    fill(run, 200)
    with no_descriptors_left():
        fill(run, 5000, first=201)
        assert run.error is None
        fill(run, 25_000, first=5201)  # more than half of the bound
    assert total_bytes(tmp_path) <= 2 * MIB
    fill(run, 100, first=30_201)
    items, _ = read_all(run.path)
    lost = [seq for first, last, _ in gaps(items, STDOUT) for seq in range(first, last + 1)]
    lines = [seq for seq, _, _ in numbered(items, STDOUT)]
    assert sorted(lines + lost) == list(range(1, 30_301))
    assert lines[-100:] == list(range(30_201, 30_301))


def test_on_a_disk_that_stays_full_what_was_lost_and_the_end_are_written_all_the_same(small_disk: Path) -> None:
    run = writer(str(small_disk), 1000, MIB)
    fill(run, 10)
    fill_up(small_disk / "ballast")
    for round_ in range(20):  # whatever goes to make room, somebody else takes it
        fill(run, 100, first=11 + 100 * round_)
        fill_up(small_disk / f"ballast{round_}")
    run.end_stream(STDOUT)
    run.end_stream(STDERR)
    run.end({"exit_status": 0})
    run.close()
    items, _ = read_all(run.path)
    lines = [seq for seq, _, _ in numbered(items, STDOUT)]
    lost = [seq for first, last, _ in gaps(items, STDOUT) for seq in range(first, last + 1)]
    assert sorted(lines + lost) == list(range(1, 2011))
    assert len(lost) > 1000
    assert isinstance(items[-1], End)


# -- places ----------------------------------------------------------------------------------------------------------


def test_the_first_directory_that_can_be_written_is_taken_and_is_ours_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    good = tmp_path / "deep" / "journal"
    run = JournalWriter.create([str(tmp_path / "file" / "x"), str(good)], facts(), MIB)
    assert run.directory == str(good)
    assert good.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in good.rglob("*"))


def test_no_directory_at_all_is_one_error_that_names_the_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file") as caught:
        JournalWriter.create([str(tmp_path / "file" / "x"), "/proc/nowhere"], facts(), MIB)
    assert str(tmp_path / "file") in str(caught.value.filename)


def test_a_run_that_cannot_have_its_name_leaves_no_descriptor_open(tmp_path: Path) -> None:
    in_the_way = tmp_path / runs.run_name(facts().started_ns, facts().run)
    in_the_way.mkdir()
    (in_the_way / "file").touch()
    held = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="not empty"):
        JournalWriter.create([str(tmp_path)], facts(), MIB)
    assert len(os.listdir("/proc/self/fd")) <= held


def test_a_segment_that_was_lost_or_could_not_be_removed_ends_nothing(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1000)
    open(runs.segment_path(run.path, 2), "xb").close()
    printed = fill(run, 2000)
    os.close(run._fd)  # as on a network's disk that has lost the file: fstat(2) and close(2) fail
    printed += fill(run, 2000, first=2001)
    run.end({"exit_status": 0})
    items, _ = read_all(run.path)
    assert [line for _, line, _ in numbered(items, STDOUT)] == printed
    assert run.error is None


def test_a_directory_removed_while_running_is_made_again(tmp_path: Path) -> None:
    run = writer(str(tmp_path / "dir"), 1000)
    fill(run, 10)
    shutil.rmtree(tmp_path / "dir")
    fill(run, 10, first=11)
    assert run.error is None
    assert runs.is_live(run.path)
    items, _ = read_all(run.path)
    assert gaps(items, STDOUT) == [(1, 10, "journal_full")]
    assert [seq for seq, _, _ in numbered(items, STDOUT)] == list(range(11, 21))


def test_a_directory_removed_again_and_again_costs_no_descriptors(tmp_path: Path) -> None:
    run = writer(str(tmp_path))
    held = []
    for _ in range(5):
        shutil.rmtree(run.path)
        run.append([(STDOUT, 0, 0, b"line\n")])
        held.append(len(os.listdir("/proc/self/fd")))
    assert max(held) == held[0]  # fewer: something of another test's was let go meanwhile
    assert runs.is_live(run.path)


def test_what_a_sink_accepted_is_noted_in_a_directory_that_was_made_again(tmp_path: Path) -> None:
    run = writer(str(tmp_path / "dir"), 1000)
    fill(run, 10)
    cursor = CursorFile(run.path, "datadog")
    shutil.rmtree(tmp_path / "dir")
    cursor.commit({"n": 1})  # there is no place for it yet
    assert CursorFile.read(run.path, "datadog") is None
    fill(run, 10, first=11)
    cursor.commit({"n": 2})
    assert CursorFile.read(run.path, "datadog") == {"n": 2}


def test_no_link_in_the_place_of_a_run_or_of_its_files_is_followed(tmp_path: Path) -> None:
    there = tmp_path / "elsewhere"
    there.mkdir()
    (there / "0000000001.seg").write_bytes(b"kept")
    place = tmp_path / "dir"
    run = writer(str(place), 1000)
    link = place / "0000000000000001-0000000000000001"
    link.symlink_to(there)
    fake = place / "0000000000000002-0000000000000002"
    fake.mkdir()
    (fake / "lock").symlink_to(there / "lock")
    (fake / "0000000001.seg").symlink_to(there / "0000000001.seg")
    fill(run, 30_000)
    runs.tidy(str(place), run.path, 1 << 62)
    assert runs.list_runs(str(place)) == [str(fake), run.path]
    runs.remove_run(str(link))
    with pytest.raises(OSError, match="symbolic links"):
        runs.lock(str(fake))
    assert [path.name for path in there.iterdir()] == ["0000000001.seg"]
    assert (there / "0000000001.seg").read_bytes() == b"kept"


def test_in_a_shared_place_a_link_is_not_followed(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    trap = tmp_path / "trap"
    trap.mkdir()
    (shared / "shipper-0").symlink_to(trap)
    with pytest.raises(PermissionError):
        JournalWriter.create([str(shared / "shipper-0")], facts(), MIB)
    assert list(trap.iterdir()) == []


def test_a_run_that_is_being_made_is_not_seen_by_others(tmp_path: Path) -> None:
    (tmp_path / "18eb1f7e69be2a24-cb008f9b56bed356.new").mkdir()
    assert runs.list_runs(str(tmp_path)) == []


def test_a_read_window_ends_at_the_same_places_for_everybody(tmp_path: Path) -> None:
    run = writer(str(tmp_path), 1 << 18, 64 << 20)
    for _ in range(40):
        run.append([(STDOUT, 0, 0, (b"x" * 99 + b"\n") * 600)])
    items, _ = read_all(run.path)
    assert len([item for item in items if isinstance(item, Lines)]) >= 4
    shutil.rmtree(run.path)
