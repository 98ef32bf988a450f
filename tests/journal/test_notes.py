"""A run that was killed with its container leaves a note, and the next start says so: once, and only then."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from shipper.config.container import Container
from shipper.journal import notes, runs
from shipper.journal.facts import Facts
from shipper.journal.frames import RUN_END, scan
from shipper.journal.notes import Noter, read_note, tell_of_earlier
from shipper.journal.numbering import STDOUT
from shipper.journal.slots import SlotFile
from shipper.journal.writer import JournalWriter
from tests.helpers import no_descriptors_left, wait_until
from tests.journal.journal_model import MIB, facts, writer
from tests.supervisor.wrapping import environment, started, wrap, wrapper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START = 1_795_590_131 * 10**9  # 2026-11-25 07:02:11 UTC


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    while started:
        process = started.pop()
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


class Memory:
    """A container's memory as a cgroup shows it."""

    def __init__(self, place: Path, use: int = 100, limit: int | None = 512, kills: int = 0) -> None:
        """Sizes are in MiB."""
        self._place = place
        place.mkdir()
        (place / "membership").write_text("0::/\n")
        self.set(use, limit, kills)

    def set(self, use: int, limit: int | None = 512, kills: int = 0) -> None:
        for name, text in (
            ("current", str((use + 20) * MIB)),
            ("stat", f"inactive_file {20 * MIB}"),
            ("max", "max" if limit is None else str(limit * MIB)),
            ("peak", str((use + 30) * MIB)),
            ("events", f"oom 9\noom_kill {kills}"),
        ):
            (self._place / f"memory.{name}").write_text(f"{text}\n")

    def container(self) -> Container:
        return Container(str(self._place), str(self._place / "membership"))


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "cgroup")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "journal"


class Run:
    """One whose wrapper lives until `die`, which leaves what a KILL leaves."""

    def __init__(self, place: Path, memory: Memory, number: int = 0, agent: str = "python") -> None:
        who = Facts(f"{number:016x}", "host-1", "src", "svc", (), ("datadog",), 16, START + number * 10**9, agent)
        self.journal = JournalWriter.create([str(place)], who, MIB)
        self.path = self.journal.path
        self.noter = Noter(self.path, who, memory.container())
        self.noter._said = True
        self.noter.note()
        self.journal.append([(STDOUT, 1, 1, b"a line\n")])

    def die(self) -> str:
        self.journal.close()
        os.close(self.journal.lock_fd)
        assert self.noter._file is not None
        self.noter._file.close()
        return self.path


def told(capfd: pytest.CaptureFixture[str], place: Path) -> list[str]:
    """What a start on ``place`` says of the runs before."""
    own = writer(str(place), run="f" * 16, started_ns=START + 10**15 + time.monotonic_ns())
    capfd.readouterr()
    tell_of_earlier(own.path)
    own.end({"exit_status": 0})
    own.close()
    os.close(own.lock_fd)
    return capfd.readouterr().err.splitlines()


# -- the note --------------------------------------------------------------------------------------------------------


def test_a_note_says_who_ran_and_what_memory_was_used(place: Path, memory: Memory) -> None:
    memory.set(300, kills=2)
    before = time.time_ns()
    run = Run(place, memory, agent="agent.py")
    memory.set(310, kills=5)
    run.noter.note()
    note = read_note(run.path)
    assert note is not None
    assert (note.agent, note.host, note.ended, note.told) == ("agent.py", "host-1", False, False)
    assert before <= note.at_ns <= time.time_ns()
    assert (note.use_bytes, note.limit_bytes, note.peak_bytes) == (310 * MIB, 512 * MIB, 340 * MIB)
    assert note.oom_kills == 3  # since the run began: on a machine without containers there were others before


def test_a_note_without_a_limit_or_a_cgroup_has_none_of_it(place: Path, memory: Memory, tmp_path: Path) -> None:
    memory.set(300, limit=None)
    note = read_note(Run(place, memory).path)
    assert note is not None
    assert (note.use_bytes, note.limit_bytes) == (300 * MIB, None)
    nothing = Noter(writer(str(place)).path, facts(), Container(str(tmp_path / "none"), str(tmp_path / "none")))
    nothing.note()
    note = read_note(nothing._run)
    assert note is not None
    assert (note.use_bytes, note.limit_bytes, note.peak_bytes, note.oom_kills) == (None, None, None, 0)


def test_a_note_torn_at_any_byte_leaves_the_one_before(place: Path, memory: Memory) -> None:
    run = Run(place, memory)
    path = os.path.join(run.path, notes.NOTE)
    with open(path, "rb") as file:
        old = file.read()
    memory.set(200)
    run.noter.note()
    with open(path, "rb") as file:
        new = file.read()
    assert len(new) <= 2 * notes.SLOT_BYTES
    old = old.ljust(len(new), b"\0")
    changed = [index for index in range(len(new)) if old[index] != new[index]]
    for cut in range(changed[0], changed[-1] + 1):
        with open(path, "wb") as file:
            file.write(new[:cut] + old[cut:])
        note = read_note(run.path)
        assert note is not None
        assert note.use_bytes == 100 * MIB


def test_the_longest_names_fit(place: Path, memory: Memory) -> None:
    who = facts()
    who.agent = who.host = "\U0001f600" * 300
    noter = Noter(writer(str(place)).path, who, memory.container())
    end = {"signal": 9, "asked": True, "oom": True, "limit": 1 << 50, "failed": "worker failed"}
    noter.end(end)
    note = read_note(noter._run)
    assert note is not None
    assert note.agent == "\U0001f600" * notes.MAX_NAME
    assert (note.ended, note.end) == (True, end)


def test_a_kill_for_lack_of_memory_that_no_other_death_explains_is_the_agent_s(place: Path, memory: Memory) -> None:
    memory.set(100, 512, kills=7)  # of an earlier container in the same cgroup
    run = Run(place, memory)
    assert run.noter.lack_of_memory(0) == {}
    memory.set(500, 512, kills=9)
    assert run.noter.lack_of_memory(2) == {}  # the worker's, twice
    assert run.noter.lack_of_memory(1) == {"oom": True, "limit": 512 * MIB}
    memory.set(500, None, kills=9)  # the node had no memory left
    assert run.noter.lack_of_memory(0) == {"oom": True}


def test_where_kills_are_not_counted_nothing_is_put_down_to_memory(place: Path, tmp_path: Path) -> None:
    nothing = Container(str(tmp_path / "none"), str(tmp_path / "none"))
    assert Noter(writer(str(place)).path, facts(), nothing).lack_of_memory(0) == {}


def test_notes_are_a_second_apart_while_memory_moves_or_is_high_else_five(place: Path, memory: Memory) -> None:
    run = Run(place, memory)

    def seconds() -> float:
        begun = time.monotonic()
        run.noter.note()
        return run.noter.due() - begun

    assert [round(seconds()) for _ in range(4)] == [2, 4, 5, 5]
    memory.set(110)
    assert round(seconds()) == 1
    assert [round(seconds()) for _ in range(3)] == [2, 4, 5]
    memory.set(420)
    assert [round(seconds()) for _ in range(3)] == [1, 1, 1]
    memory.set(420, limit=None)
    assert [round(seconds()) for _ in range(3)] == [2, 4, 5]


def test_a_directory_that_was_removed_and_made_again_gets_its_note_again(place: Path, memory: Memory) -> None:
    run = Run(place, memory)
    for name in os.listdir(run.path):
        os.unlink(os.path.join(run.path, name))
    os.rmdir(run.path)
    run.noter.note()  # nowhere to write to, which is not its trouble
    run.journal.append([(STDOUT, 1, 1, b"a line\n")])
    run.noter.note()
    assert read_note(run.path) is not None
    assert not runs.is_live(run.path) or run.journal.lock_fd >= 0


def test_without_a_descriptor_to_be_had_there_is_no_note_and_then_there_is(place: Path, memory: Memory) -> None:
    noter = Noter(writer(str(place)).path, facts(), memory.container())
    noter._said = True
    with no_descriptors_left():
        noter.note()
        assert not os.path.exists(os.path.join(noter._run, notes.NOTE))
    noter.note()
    assert os.path.exists(os.path.join(noter._run, notes.NOTE))


def test_the_bound_of_the_journal_counts_the_note(place: Path, memory: Memory) -> None:
    run = Run(place, memory)
    on_disk = sum(os.stat(os.path.join(run.path, name)).st_blocks * 512 for name in os.listdir(run.path))
    assert runs.used_bytes(str(place)) >= os.stat(run.path).st_blocks * 512 + on_disk - 4096  # the segment's last block
    runs.remove_run(run.die())
    assert runs.list_runs(str(place)) == []


# -- what the next start says ----------------------------------------------------------------------------------------


def test_a_killed_run_is_told_once_with_the_memory_last_noted(
    place: Path, memory: Memory, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(place, memory)
    memory.set(510)
    run.noter.note()
    run.die()
    note = read_note(run.path)
    assert note is not None
    at = time.strftime("%H:%M:%S", time.gmtime(note.at_ns // 10**9))
    (said,) = told(capfd, place)
    assert said == (
        "shipper: the run before this one (agent python on host-1, started 2026-11-25 07:02:11 UTC) has no end: it was "
        "killed, as a rule with its whole container or machine; its lines are kept. Memory last noted, "
        f"at {at} UTC: 510 MiB of 512 MiB: that may be why, so raise the container's memory limit."
    )
    assert told(capfd, place) == []
    note = read_note(run.path)
    assert note is not None
    assert note.told
    assert note.use_bytes == 510 * MIB


@pytest.mark.parametrize(
    ("use", "limit", "kills", "expected"),
    [
        (120, 512, 0, "120 MiB of 512 MiB: lack of memory was the cause only if it rose within seconds."),
        (120, None, 0, "120 MiB, no limit."),
        (120, 512, 1, "120 MiB of 512 MiB, 1 process killed for lack of memory: that may be why, so raise the container's memory limit."),  # noqa: E501
        (500, 512, 3, "500 MiB of 512 MiB, 3 processes killed for lack of memory: that may be why, so raise the container's memory limit."),  # noqa: E501
    ],
)  # fmt: skip
def test_what_is_said_of_memory_fits_what_was_noted(
    place: Path,
    memory: Memory,
    capfd: pytest.CaptureFixture[str],
    use: int,
    limit: int | None,
    kills: int,
    expected: str,
) -> None:
    run = Run(place, memory)
    memory.set(use, limit, kills)
    run.noter.note()
    run.die()
    (said,) = told(capfd, place)
    assert said.partition(" UTC: ")[2] == expected


def test_without_a_figure_nothing_is_said_of_memory(
    place: Path, tmp_path: Path, memory: Memory, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(place, memory)
    for path in (tmp_path / "cgroup").iterdir():
        path.unlink()
    run.noter.note()
    run.die()
    (said,) = told(capfd, place)
    assert said.endswith("its lines are kept.")


def test_several_are_counted_and_the_latest_is_named(
    place: Path, memory: Memory, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        Run(place, memory, number, agent=f"agent-{number}").die()
    (said,) = told(capfd, place)
    assert said.startswith(
        "shipper: 4 earlier runs in this journal, the latest of them agent agent-3 on host-1, "
        "started 2026-11-25 07:02:14 UTC, have no end: each was killed, as a rule with its whole container or machine;"
    )
    assert told(capfd, place) == []


def test_one_that_is_not_the_latest_is_not_called_the_run_before(
    place: Path, memory: Memory, capfd: pytest.CaptureFixture[str]
) -> None:
    Run(place, memory, 1).die()
    living = Run(place, memory, 2)
    (said,) = told(capfd, place)
    assert said.startswith(
        "shipper: an earlier run in this journal (agent python on host-1, started 2026-11-25 07:02:1"
    )
    living.die()


def test_a_run_that_lives_is_not_told(place: Path, memory: Memory, capfd: pytest.CaptureFixture[str]) -> None:
    run = Run(place, memory)
    assert told(capfd, place) == []
    run.die()
    assert len(told(capfd, place)) == 1


def test_a_dead_run_that_somebody_delivers_at_the_moment_is_told(
    place: Path, memory: Memory, capfd: pytest.CaptureFixture[str]
) -> None:
    path = Run(place, memory).die()
    adopter = runs.lock(path)
    assert adopter is not None
    assert len(told(capfd, place)) == 1
    os.close(adopter)


def test_a_run_with_an_end_is_not_told_even_if_its_note_could_not_be_written(
    place: Path, memory: Memory, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(place, memory)
    run.journal.end({"exit_status": 0})
    run.die()
    assert told(capfd, place) == []


def test_a_run_whose_end_the_disk_did_not_take_is_not_told(
    place: Path, memory: Memory, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(place, memory)
    run.noter.end({"exit_status": 0})
    run.journal.close()
    os.close(run.journal.lock_fd)
    assert told(capfd, place) == []
    assert run.noter.due() == float("inf")


def test_an_end_in_a_segment_that_was_cut_down_to_its_essence_is_found(
    place: Path, memory: Memory, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(place, memory)
    run.journal.append([(STDOUT, 1, 1, b"x" * 20000)])
    run.journal.end({"exit_status": 0})
    run.die()
    assert runs.make_room(str(place), "", MIB, MIB - runs.RUN_BYTES - 2000, 0)
    assert runs.list_segments(run.path) == [2]
    with open(runs.segment_path(run.path, 2), "rb") as file:
        assert RUN_END in [frame.kind for frame in scan(file.read())]
    assert told(capfd, place) == []


def test_of_what_cannot_be_read_or_marked_nothing_is_said(
    place: Path, memory: Memory, capfd: pytest.CaptureFixture[str]
) -> None:
    without, garbage, wrong, empty, directory = (Run(place, memory, number).die() for number in range(5))
    os.unlink(os.path.join(without, notes.NOTE))
    with open(os.path.join(garbage, notes.NOTE), "r+b") as file:
        file.write(b"\xff" * 4096)
    file_ = SlotFile(os.path.join(wrong, notes.NOTE), notes.SLOT_BYTES)
    file_.commit({"agent": "x", "at": []})
    file_.close()
    os.unlink(runs.segment_path(empty, 1))
    os.unlink(os.path.join(directory, notes.NOTE))
    os.mkdir(os.path.join(directory, notes.NOTE))
    assert told(capfd, place) == []


def test_two_starts_at_once_do_not_both_say_it(place: Path, memory: Memory, capfd: pytest.CaptureFixture[str]) -> None:
    path = Run(place, memory).die()
    other = os.open(os.path.join(path, notes.NOTE), os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert told(capfd, place) == []
    os.close(other)
    assert len(told(capfd, place)) == 1


def test_of_a_thousand_runs_a_start_looks_at_the_newest(
    place: Path, memory: Memory, capfd: pytest.CaptureFixture[str]
) -> None:
    model = Run(place, memory, 0).die()
    with open(os.path.join(model, notes.NOTE), "rb") as file:
        note = file.read()
    for number in range(1, 1000):
        path = place / runs.run_name(START + number * 10**9, f"{number:016x}")
        path.mkdir()
        (path / "note").write_bytes(note)
        os.link(runs.segment_path(model, 1), runs.segment_path(str(path), 1))
    tell_of_earlier(str(place / runs.run_name(START + 2 * 10**15, "f" * 16)))
    assert capfd.readouterr().err.startswith(f"shipper: {notes.LOOKS} earlier runs in this journal, ")
    tell_of_earlier(str(place / runs.run_name(START + 2 * 10**15, "f" * 16)))
    assert capfd.readouterr().err == ""


# -- a real wrapper ----------------------------------------------------------------------------------------------------


def run_path(directory: Path) -> str:
    return runs.list_runs(str(directory / "journal"))[0]


def start(directory: Path) -> subprocess.Popen[bytes]:
    """A wrapper whose run has its first note."""
    process = wrap(directory, ["sh", "-c", "echo hello; exec sleep 600"], env={"SHIPPER_SINKS": "none"})
    wait_until(lambda: runs.list_runs(str(directory / "journal")) and read_note(run_path(directory)), what="the note")
    return process


def next_start(directory: Path) -> str:
    """What it says."""
    done = subprocess.run(
        wrapper(["true"]), env=environment(directory, SHIPPER_SINKS="none"), capture_output=True, timeout=30, check=True
    )
    return done.stderr.decode()


def test_after_a_kill_of_the_wrapper_the_next_start_says_so_and_no_other(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert " has no end: " not in next_start(tmp_path)  # it lives
    process.kill()
    process.wait()
    assert next_start(tmp_path).count("an earlier run in this journal (agent sh on ") == 1
    assert " has no end: " not in next_start(tmp_path)


def test_after_an_end_of_any_other_kind_nothing_is_said(tmp_path: Path) -> None:
    process = start(tmp_path)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    note = read_note(run_path(tmp_path))
    assert note is not None
    assert note.ended
    assert note.agent == "sh"
    assert next_start(tmp_path).count("\n") == 1  # that nothing is forwarded
