"""Runs: live or dead, delivered or not, kept or removed."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shipper.journal import runs
from shipper.journal.cursor import CursorFile
from shipper.journal.directory import default_max_bytes, segment_bytes
from shipper.journal.numbering import STDOUT
from tests.helpers import no_descriptors_left
from tests.journal.journal_model import MIB, segments, writer

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_NS = 24 * 3600 * 10**9


def dead_run(directory: Path, number: int, delivered: bool) -> str:
    run = writer(str(directory), run=f"{number:016x}", started_ns=(1 << 60) + number)
    run.append([(STDOUT, 0, 0, b"line\n")])
    run.close()
    os.close(run.lock_fd)
    cursor = CursorFile(run.path, "datadog")
    cursor.commit({"complete": delivered})
    cursor.close()
    return run.path


def test_a_run_lives_as_long_as_its_lock_is_held(tmp_path: Path) -> None:
    run = writer(str(tmp_path))
    assert runs.is_live(run.path)
    assert runs.lock(run.path) is None
    os.close(run.lock_fd)
    assert not runs.is_live(run.path)
    adopted = runs.lock(run.path)
    assert adopted is not None
    assert runs.is_live(run.path)
    os.close(adopted)


def test_a_run_is_delivered_when_every_sink_that_may_have_it_is_through(tmp_path: Path) -> None:
    run = dead_run(tmp_path, 1, delivered=False)
    facts = runs.read_facts(run)
    assert facts is not None
    assert facts.sinks == ("datadog",)
    assert not runs.is_delivered(run, facts)
    CursorFile(run, "datadog").commit({"complete": True})
    assert runs.is_delivered(run, facts)
    CursorFile(run, "sentry").commit({"complete": False})
    assert not runs.is_delivered(run, facts)


def test_delivered_runs_go_when_they_are_old_and_not_the_newest(tmp_path: Path) -> None:
    old, undelivered, newest = (dead_run(tmp_path, n, delivered=n != 2) for n in (1, 2, 3))
    now = time.time_ns()
    runs.tidy(str(tmp_path), "", now)
    assert runs.list_runs(str(tmp_path)) == [old, undelivered, newest]
    runs.tidy(str(tmp_path), "", now + 2 * DAY_NS)
    assert runs.list_runs(str(tmp_path)) == [undelivered, newest]


@pytest.mark.parametrize("ahead", ["its start", "its lines"])
def test_a_clock_that_goes_back_makes_no_old_run_of_the_newest(tmp_path: Path, ahead: str) -> None:
    """It is not evicted before the dead one, and in the history it is the last to go."""
    now, hour = time.time_ns(), 3600 * 10**9
    before = writer(str(tmp_path), run="a" * 16, started_ns=now + hour if ahead == "its start" else now - hour)
    for _ in range(3):
        before.append([(STDOUT, 0, 0, b"line\n" * 8000)])
    os.close(before.lock_fd)
    for segment in segments(before.path):
        os.utime(segment, ns=(now + hour, now + hour))
    after = writer(str(tmp_path), run="b" * 16, started_ns=now)
    for _ in range(3):
        after.append([(STDOUT, 0, 0, b"line\n" * 8000)])
    assert runs.list_runs(str(tmp_path)) == [before.path, after.path]
    dead = len(segments(before.path))
    assert dead > 1
    while runs.list_segments(before.path)[-1] == dead:
        assert runs.list_segments(after.path)[0] == 1
        runs.make_room(str(tmp_path), after.path, runs.used_bytes(str(tmp_path)) - 1, 0, 0)
    assert runs.list_segments(after.path)[0] == 1
    runs.tidy(str(tmp_path), "", now + 2 * DAY_NS)
    assert runs.list_runs(str(tmp_path))[-1] == after.path


def test_a_hundred_delivered_runs_of_a_restart_loop_are_not_all_kept(tmp_path: Path) -> None:
    for number in range(1, 101):
        dead_run(tmp_path, number, delivered=True)
    runs.tidy(str(tmp_path), "", time.time_ns())
    assert len(runs.list_runs(str(tmp_path))) == runs.HISTORY_RUNS + 1


def test_making_room_in_an_undelivered_dead_run_keeps_its_numbering(tmp_path: Path) -> None:
    run = dead_run(tmp_path, 1, delivered=False)
    with open(runs.segment_path(run, 1), "ab") as segment:
        segment.write(b"\0" * MIB)
    assert runs.make_room(str(tmp_path), "", MIB, 0, 0)
    assert runs.list_segments(run) == [2]
    assert runs.read_facts(run) is not None


def test_runs_that_nobody_can_deliver_do_not_pile_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 301):
        dead_run(tmp_path, number, delivered=False)
    assert runs.used_bytes(str(tmp_path)) <= MIB
    assert len(runs.list_runs(str(tmp_path))) <= runs.MAX_RUNS
    assert "the oldest were removed" in capfd.readouterr().err


@pytest.mark.parametrize("state", ["well", "waiting", "parked", "left_out", None])
def test_a_sink_that_is_not_at_work_here_keeps_no_room_from_being_made(tmp_path: Path, state: str | None) -> None:
    """Not even for what an earlier run has for it. None: it never got up in this run."""
    before = dead_run(tmp_path, 1, delivered=False)
    now = writer(str(tmp_path), started_ns=(1 << 60) + 2)
    for run in (before, now.path) if state else (before,):
        cursor = CursorFile(run, "datadog")
        cursor.commit({"streams": {"1": [1, 0, 1], "2": [1, 0, 1]}, "health": {"state": state}})
        cursor.close()
    sinks, streams = now.facts.sinks, now.kept()
    lost = runs.would_lose(str(tmp_path), now.path, sinks, streams, max_bytes=1, segment_bytes=MIB)
    assert lost == (state in ("well", "waiting"))


@pytest.mark.parametrize("case", ["dead", "without locks", "unreadable"])
def test_what_nobody_will_deliver_keeps_no_room_from_being_made(tmp_path: Path, case: str) -> None:
    path = dead_run(tmp_path, 1, delivered=False)
    now = writer(str(tmp_path), started_ns=(1 << 60) + 2)
    for run, state in ((path, "parked"), (now.path, "well")):
        cursor = CursorFile(run, "datadog")
        cursor.commit({"streams": {"1": [1, 0, 1], "2": [1, 0, 1]}, "health": {"state": state}})
        cursor.close()
    if case == "without locks":
        os.close(now.lock_fd)
        now.lock_fd = -1
    elif case == "unreadable":
        Path(runs.segment_path(path, 1)).write_bytes(b"?" * 1000)
    now._max_bytes = 1
    assert now.would_lose() == (case == "dead")


@pytest.mark.parametrize(
    ("printed", "following", "holds"),
    [
        (b"one\ntwo\n", 3, False),
        (b"one\ntwo\n", 2, True),
        (b"one\ntwo, no end", 3, False),
        (b"one\ntwo, no end", 2, True),
        (b"one\n\n \t\r\n\n", 2, False),
        (b"one\n\n\nfour", 2, True),
    ],
)
def test_a_dead_run_of_which_only_its_end_is_left_to_tell_holds_nobody_back(
    tmp_path: Path, printed: bytes, following: int, holds: bool
) -> None:
    """And what makes room for the living leaves behind what tells of that end."""
    before = writer(str(tmp_path), started_ns=1 << 60)
    for byte in (printed[:5], printed[5:]):  # in two frames: the second begins within a line
        before.append([(STDOUT, 0, 0, byte)])
    os.close(before.lock_fd)
    now = writer(str(tmp_path), run="f" * 16, started_ns=(1 << 60) + 2)
    for run, line in ((before.path, following), (now.path, 1)):
        cursor = CursorFile(run, "datadog")
        cursor.commit({"streams": {"1": [1, 0, line], "2": [1, 0, 1]}, "complete": False})
        cursor.close()
    now._max_bytes = 1
    assert now.would_lose() == holds
    assert now.would_lose() == holds


def test_room_counts_as_made_only_for_what_a_dead_run_gives_up(tmp_path: Path) -> None:
    """Its numbers and its end stay: taken for nothing, they would cost the living lines that somebody lacks."""
    before = writer(str(tmp_path), started_ns=1 << 60)
    before.append([(STDOUT, 0, 0, b"line\n" * 8000)])
    os.close(before.lock_fd)
    now = writer(str(tmp_path), run="f" * 16, started_ns=(1 << 60) + 2)
    for _ in range(3):
        now.append([(STDOUT, 0, 0, b"line\n" * 8000)])
    for run, following in ((before.path, 8001), (now.path, 1)):
        cursor = CursorFile(run, "datadog")
        cursor.commit({"streams": {"1": [1, 0, following], "2": [1, 0, 1]}, "complete": False})
        cursor.close()
    segment = now._segment_bytes
    dead_bytes = os.stat(runs.segment_path(before.path, 1)).st_size
    now._max_bytes = runs.used_bytes(str(tmp_path)) + segment - dead_bytes  # as if all of it went
    assert now.would_lose()
    now._max_bytes += 1000
    assert not now.would_lose()
    runs.make_room(str(tmp_path), now.path, now._max_bytes, segment, segment)
    assert runs.list_segments(now.path)[0] == 1


@pytest.mark.parametrize("state", ["waiting", "parked"])
def test_a_refused_secret_of_another_wrapper_on_the_volume_holds_nobody_back_here(tmp_path: Path, state: str) -> None:
    other = writer(str(tmp_path), 1000, run="f" * 16, started_ns=1 << 60)
    for _ in range(3):
        other.append([(STDOUT, 0, 0, b"line\n" * 8000)])
    assert len(segments(other.path)) > 1
    now = writer(str(tmp_path), started_ns=(1 << 60) + 2)
    for run, known in ((other.path, state), (now.path, "well")):
        cursor = CursorFile(run, "datadog")
        cursor.commit({"streams": {"1": [1, 0, 1], "2": [1, 0, 1]}, "health": {"state": known}})
        cursor.close()
    now._max_bytes = 1
    assert now.would_lose() == (state == "waiting")


def test_what_cannot_be_listed_is_not_taken_for_delivered(tmp_path: Path) -> None:
    run = dead_run(tmp_path, 1, delivered=False)
    newest = dead_run(tmp_path, 2, delivered=False)
    with no_descriptors_left():
        with pytest.raises(OSError, match="Too many open files"):
            runs.is_delivered(run, None)
        runs.tidy(str(tmp_path), "", time.time_ns() + 9 * DAY_NS)
    assert runs.list_runs(str(tmp_path)) == [run, newest]


def test_what_a_killed_start_left_unfinished_is_removed_later(tmp_path: Path) -> None:
    unfinished = tmp_path / "18eb1f7e69be2a24-cb008f9b56bed356.new"
    unfinished.mkdir()
    runs.tidy(str(tmp_path), "", time.time_ns())
    assert unfinished.exists()
    runs.tidy(str(tmp_path), "", time.time_ns() + DAY_NS)
    assert not unfinished.exists()


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: two users")
def test_two_users_on_one_volume_both_have_a_journal() -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        volume = os.path.join(place, "volume")
        os.mkdir(volume)
        Path(volume).chmod(0o777)
        for number, user in enumerate((54321, 54322), start=1):
            with acting_as(user):
                run = writer(volume, run=f"{number:016x}", started_ns=(1 << 60) + number)
                for start in range(0, 40_000, 1000):
                    run.append([(1, 1, 1, b"%060d\n" % (start + index)) for index in range(1000)])
                assert run.error is None
                assert len(runs.list_runs(volume)) == number
        sizes = [sum(path.stat().st_size for path in Path(run).glob("*.seg")) for run in runs.list_runs(volume)]
        assert all(MIB // 2 < size <= MIB for size in sizes)  # each has its own bound
        with acting_as(54322):
            runs.tidy(volume, "", time.time_ns())
            assert runs.used_bytes(volume) < 2 * MIB
            assert runs.is_live(runs.list_runs(volume)[0])


def test_the_default_bound_leaves_half_of_the_disk(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert default_max_bytes(str(tmp_path), 0) == max(MIB, min(128 * MIB, free // 2))
    assert segment_bytes(128 * MIB) == 8 * MIB
    assert segment_bytes(MIB) == 64 << 10
