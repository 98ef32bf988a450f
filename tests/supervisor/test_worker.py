"""The worker's process: started, restarted, told, ended."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shipper.config.container import Container
from shipper.supervisor import processes
from shipper.supervisor.worker import (
    AGAIN,
    BUSY_CPU,
    LONGEST_DELAY,
    LOOKS,
    SAY_AGAIN_SECONDS,
    SHORT,
    Backoff,
    Control,
    Watch,
    Worker,
)
from tests.bench.common import children
from tests.helpers import wait_until
from tests.supervisor.wrapping import AGENTS, PYTHON, SIGNALS, SLACK, read_line, ready_pid, run, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

OFTEN = {"look_seconds": 0.1, "busy_cpu": 0.3}
HANGS = b"the process that forwards the lines hangs: it is killed and started again"
SLEEPER = [PYTHON, "-I", "-c", "import time; time.sleep(30)"]


def worker(notes: Path, *status: str) -> dict[str, Any]:
    command = [PYTHON, "-I", str(AGENTS / "worker.py"), "{control}", "{restarts}", str(notes), *status]
    return {"sinks": ["datadog"], "worker": command}


def read(notes: Path) -> list[str]:
    return notes.read_text().splitlines() if notes.exists() else []


def starts(notes: Path) -> list[list[str]]:
    return [line.split() for line in read(notes) if line.startswith("start")]


def heard(notes: Path) -> list[str]:
    """What the workers heard, wakes left out."""
    return [line for line in read(notes) if not line.startswith(("start", "w"))]


def is_up(notes: Path, life: int) -> bool:
    """So many have been started, and the last one reads the pipe."""
    return len(starts(notes)) == life and read(notes)[-1] == "w"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def test_it_is_started_and_woken_and_drained(tmp_path: Path, notes: Path) -> None:
    process = wrap(tmp_path, SIGNALS, worker(notes))
    ready_pid(process)
    wait_until(lambda: starts(notes), what="the worker's start")
    process.send_signal(signal.SIGUSR1)
    assert read_line(process) == "10"
    wait_until(lambda: "w" in read(notes), what="a wake")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: heard(notes) == ["t"], what="being told of the TERM, once")
    process.send_signal(signal.SIGRTMAX)
    process.communicate(timeout=30)
    assert process.returncode == 7
    assert heard(notes) == ["t", "d"]
    ((_, restarts, pid, session),) = starts(notes)
    assert restarts == "0"
    assert session == pid  # a session of its own


def test_an_agent_that_ends_at_once_is_drained_too(tmp_path: Path, notes: Path) -> None:
    assert run(tmp_path, ["true"], worker(notes))[0] == 0
    assert heard(notes) == ["d"]


def test_without_a_sink_there_is_no_worker(tmp_path: Path, notes: Path) -> None:
    assert run(tmp_path, ["true"], {**worker(notes), "sinks": []})[0] == 0
    assert read(notes) == []


def test_without_a_journal_there_is_no_worker(tmp_path: Path, notes: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    assert run(tmp_path, ["true"], worker(notes))[0] == 0
    assert read(notes) == []


def test_one_that_dies_is_restarted_with_back_off_and_said_once(tmp_path: Path, notes: Path) -> None:
    begun = time.monotonic()
    process = wrap(tmp_path, SIGNALS, worker(notes, "5"), env={"SHIPPER_DRAIN_TIMEOUT": "0"})
    ready_pid(process)
    wait_until(lambda: len(starts(notes)) == 4, what="three restarts")
    assert 0.65 < time.monotonic() - begun < 3.0 + SLACK  # 0.1 + 0.2 + 0.4
    process.send_signal(signal.SIGRTMAX)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 7
    assert [start[1] for start in starts(notes)][:4] == ["0", "1", "2", "3"]
    assert err.count(b"the process that forwards the lines ended with status 5") == 1


def test_one_that_ends_for_want_of_memory_says_so_once_and_the_next_is_told_to_take_less(
    tmp_path: Path, notes: Path
) -> None:
    process = wrap(tmp_path, SIGNALS, worker(notes, str(SHORT)), env={"SHIPPER_DRAIN_TIMEOUT": "0"})
    ready_pid(process)
    wait_until(lambda: len(starts(notes)) == 3, what="two restarts")
    process.send_signal(signal.SIGRTMAX)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 7
    assert [line for line in read(notes) if line.startswith("shrunk")][:2] == ["shrunk 1", "shrunk 2"]
    assert err.count(b"no line is lost for that, and it starts again with smaller batches") == 1
    assert err.count(b"shipper: the process that forwards") == 1


def test_how_long_there_is_no_room_for_one_is_known(tmp_path: Path) -> None:
    limit, stat = tmp_path / "memory.max", tmp_path / "memory.stat"
    limit.write_text(f"{64 << 20}\n")
    stat.write_text(f"anon {60 << 20}\n")
    control = Control()
    worker = Worker(control, lambda *_: ["/bin/true"], -1)
    worker._container = Container(str(tmp_path), str(tmp_path / "none"))
    for now in (1.0, 3.0):
        worker.start(now)
        assert (worker.pid, worker.no_room_since) == (0, 1.0)
    stat.write_text("anon 0\n")
    worker.start(5.0)
    assert (os.waitpid(worker.pid, 0)[1], worker.no_room_since) == (0, None)


def test_one_that_asks_for_a_start_too_soon_is_backed_off_like_any_that_dies(tmp_path: Path, notes: Path) -> None:
    begun = time.monotonic()
    process = wrap(tmp_path, SIGNALS, worker(notes, str(AGAIN)), env={"SHIPPER_DRAIN_TIMEOUT": "0"})
    ready_pid(process)
    wait_until(lambda: len(starts(notes)) == 4, what="three restarts")
    assert time.monotonic() - begun > 0.65
    process.send_signal(signal.SIGRTMAX)
    _, err = process.communicate(timeout=20)
    assert f"ended with status {AGAIN}".encode() in err


def test_it_is_first_in_line_for_the_oom_killer_before_it_has_done_a_step_of_its_own(tmp_path: Path) -> None:
    parts = {"sinks": ["datadog"], "worker": SLEEPER}
    process = wrap(tmp_path, SIGNALS, parts, env={"SHIPPER_DRAIN_TIMEOUT": "0"})
    agent = ready_pid(process)
    found: list[int] = []

    def there() -> bool:
        found[:] = [pid for pid in children(process.pid) if pid != agent]
        return bool(found) and Path(f"/proc/{found[0]}/oom_score_adj").read_text() == "1000\n"

    wait_until(there, what="its place in the line")
    assert Path(f"/proc/{agent}/oom_score_adj").read_text() == Path("/proc/self/oom_score_adj").read_text()
    process.send_signal(signal.SIGRTMAX)
    process.communicate(timeout=20)


def test_one_that_is_killed_is_restarted_and_hears_of_the_term_again(tmp_path: Path, notes: Path) -> None:
    process = wrap(tmp_path, SIGNALS, worker(notes))
    ready_pid(process)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: heard(notes) == ["t"], what="being told")
    os.kill(int(starts(notes)[0][2]), signal.SIGKILL)
    wait_until(lambda: heard(notes) == ["t", "t"], what="being told again")
    process.send_signal(signal.SIGRTMAX)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 7
    assert b"the process that forwards the lines ended by signal 9" in err


def test_one_that_cannot_be_started_is_tried_again_and_said_once(tmp_path: Path) -> None:
    parts = {"sinks": ["datadog"], "worker": ["/no/such/worker"]}
    status, _, said = run(tmp_path, ["sleep", "0.5"], parts, env={"SHIPPER_DRAIN_TIMEOUT": "300ms"})
    assert status == 0
    assert said.count("could not be started (No such file or directory)") == 1


def test_one_that_dies_in_the_drain_is_restarted_while_there_is_time(tmp_path: Path, notes: Path) -> None:
    begun = time.monotonic()
    status, _, said = run(tmp_path, ["true"], worker(notes, "5"), env={"SHIPPER_DRAIN_TIMEOUT": "700ms"})
    assert status == 0
    assert 1.6 < time.monotonic() - begun < 2.8 + SLACK
    assert len(starts(notes)) >= 4
    assert "the next start on the same directory delivers it" in said  # also when none is alive at that moment


def test_one_that_does_not_end_is_killed_a_second_after_the_drains_time(tmp_path: Path) -> None:
    parts = {"sinks": ["datadog"], "worker": SLEEPER}
    begun = time.monotonic()
    status, _, said = run(tmp_path, ["sh", "-c", "exit 3"], parts, env={"SHIPPER_DRAIN_TIMEOUT": "500ms"})
    assert status == 3
    assert 1.4 < time.monotonic() - begun < 2.5 + SLACK
    assert "the next start on the same directory delivers it" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_drain_ends_it_within_two_seconds(tmp_path: Path, number: int) -> None:
    parts = {"sinks": ["datadog"], "worker": SLEEPER}
    process = wrap(tmp_path, ["sh", "-c", "echo $$; exit 3"], parts)
    agent = int(read_line(process))
    wait_until(lambda: not os.path.exists(f"/proc/{agent}"), what="the agent's end")
    begun = time.monotonic()
    while process.poll() is None:  # one that comes before the drain counts only there
        process.send_signal(number)
        time.sleep(0.02)
    assert process.returncode == 3
    assert time.monotonic() - begun < 2.5 + SLACK


def test_a_worker_that_heeds_the_end_of_the_drain_is_not_waited_for_any_longer(tmp_path: Path, notes: Path) -> None:
    heeds = "import os, sys; fd = int(sys.argv[1]);\nwhile os.read(fd, 1) != b'q': pass\nsys.exit(1)"
    parts = {"sinks": ["datadog"], "worker": [PYTHON, "-I", "-c", heeds, "{control}"]}
    process = wrap(tmp_path, ["sh", "-c", "echo $$; exit 3"], parts)
    agent = int(read_line(process))
    wait_until(lambda: not os.path.exists(f"/proc/{agent}"), what="the agent's end")
    begun = time.monotonic()
    while process.poll() is None:  # one that comes before the drain shortens something else
        process.terminate()
        time.sleep(0.02)
    assert process.returncode == 3
    assert time.monotonic() - begun < 1.0 + SLACK


def test_other_signals_do_not_shorten_the_drain(tmp_path: Path) -> None:
    parts = {"sinks": ["datadog"], "worker": SLEEPER}
    begun = time.monotonic()
    process = wrap(tmp_path, ["sh", "-c", "echo $$; exit 3"], parts, env={"SHIPPER_DRAIN_TIMEOUT": "1s"})
    agent = int(read_line(process))
    wait_until(lambda: not os.path.exists(f"/proc/{agent}"), what="the agent's end")
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGWINCH)
    process.communicate(timeout=30)
    assert process.returncode == 3
    assert time.monotonic() - begun > 2.0


def test_when_we_are_killed_the_worker_hears_the_end_of_the_pipe(tmp_path: Path, notes: Path) -> None:
    process = wrap(tmp_path, SIGNALS, worker(notes))
    agent = ready_pid(process)
    wait_until(lambda: starts(notes), what="the worker's start")
    process.kill()
    process.wait()
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: read(notes)[-1] == "eof", what="the pipe's end")


def test_one_that_is_stopped_is_replaced_and_said_once(tmp_path: Path, notes: Path) -> None:
    process = wrap(tmp_path, SIGNALS, {**worker(notes), **OFTEN})
    ready_pid(process)
    for life in (1, 2):
        wait_until(partial(is_up, notes, life), what="a worker")
        os.kill(int(starts(notes)[-1][2]), signal.SIGSTOP)
        if life == 1:
            process.send_signal(signal.SIGUSR1)  # the agent prints, and then no more
    wait_until(partial(is_up, notes, 3), what="the third worker")
    process.send_signal(signal.SIGRTMAX)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 7
    assert heard(notes)[-1] == "d"
    assert err.count(HANGS) == 1
    assert b"ended by signal" not in err


def test_one_that_is_stuck_in_a_loop_is_replaced(tmp_path: Path, notes: Path) -> None:
    code = (
        "import os, sys\n"
        "print('start', sys.argv[2], os.getpid(), 0, file=open(sys.argv[3], 'a'))\n"
        "while sys.argv[2] == '0': pass\n"
        "while os.read(int(sys.argv[1]), 1) != b'd': pass\n"
    )
    command = [PYTHON, "-I", "-c", code, "{control}", "{restarts}", str(notes)]
    process = wrap(tmp_path, SIGNALS, {"sinks": ["datadog"], "worker": command, **OFTEN})
    ready_pid(process)
    wait_until(lambda: len(starts(notes)) == 2, timeout=20, what="another worker")
    process.send_signal(signal.SIGRTMAX)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 7
    assert HANGS in err


def test_one_that_is_stopped_when_the_drain_begins_is_replaced_in_time(tmp_path: Path, notes: Path) -> None:
    process = wrap(tmp_path, SIGNALS, worker(notes))
    ready_pid(process)
    wait_until(lambda: read(notes) and read(notes)[-1] == "w", what="a worker")
    os.kill(int(starts(notes)[0][2]), signal.SIGSTOP)
    begun = time.monotonic()
    process.send_signal(signal.SIGRTMAX)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 7
    assert 1.0 <= time.monotonic() - begun < 2.0 + SLACK
    assert heard(notes) == ["d"]
    assert HANGS in err


@pytest.mark.parametrize(
    ("what", "lives"),
    [("time.sleep(2.5)", 1), ("os.kill(os.getpid(), signal.SIGSTOP)", 2), ("[0 for _ in iter(int, 1)]", 2)],
    ids=["sleeps", "is stopped", "loops"],
)
def test_one_that_has_heard_of_the_drain_may_sleep_and_no_more(
    tmp_path: Path, notes: Path, what: str, lives: int
) -> None:
    code = (
        "import os, signal, sys, time\n"
        "print('start', sys.argv[2], os.getpid(), 0, file=open(sys.argv[3], 'a'))\n"
        "while os.read(int(sys.argv[1]), 1) != b'd': pass\n"
        f"if sys.argv[2] == '0': {what}\n"
    )
    command = [PYTHON, "-I", "-c", code, "{control}", "{restarts}", str(notes)]
    parts = {"sinks": ["datadog"], "worker": command}
    status, _, said = run(tmp_path, ["true"], parts, env={"SHIPPER_DRAIN_TIMEOUT": "20s"})
    assert status == 0
    assert len(starts(notes)) == lives
    assert said.count(HANGS.decode()) == lives - 1


def test_one_that_stood_still_together_with_us_is_left_alone(tmp_path: Path, notes: Path) -> None:
    process = wrap(tmp_path, SIGNALS, {**worker(notes), "look_seconds": 1.0})
    agent = ready_pid(process)
    wait_until(lambda: read(notes) and read(notes)[-1] == "w", what="a worker")
    worker_pid = int(starts(notes)[0][2])
    os.kill(worker_pid, signal.SIGSTOP)
    os.kill(agent, signal.SIGUSR1)
    assert read_line(process) == "10"
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(4.5)  # more than LOOKS of them: as when the container is paused
    for pid in (worker_pid, process.pid):
        os.kill(pid, signal.SIGCONT)
    os.kill(agent, signal.SIGUSR1)
    assert {read_line(process), read_line(process)} == {"10", "18"}  # the wrapper passes its SIGCONT on
    process.send_signal(signal.SIGRTMAX)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 7
    assert len(starts(notes)) == 1
    assert b"hangs" not in err


@pytest.mark.parametrize(
    ("looks", "hangs"),
    [
        ([("S", 1.0)] * (LOOKS + 1), True),
        ([("T", 1.0)] * (LOOKS + 1), True),
        ([("R", 1.0), ("R", 2.0)] + [("T", 2.0)] * LOOKS, True),
        ([("R", 1.0), ("R", 11.0), ("R", 21.0), ("R", 31.0)], True),
        ([("R", 1.0), ("R", 1.0 + BUSY_CPU)], False),  # too few looks: they may have come late
        ([("S", 1.0 + 0.02 * look) for look in range(20)], False),  # it waits for its share of CPU
        ([("R", 1.0)] * 20, False),  # it gets no CPU at all
        ([("D", 1.0)] * 20, False),  # it waits for a disk
    ],
    ids=["asleep", "stopped", "stopped at work", "in a loop", "two looks", "throttled", "starved", "disk"],
)
def test_what_counts_as_hanging(looks: list[tuple[str, float]], hangs: bool) -> None:
    watch = Watch()
    found = [watch.look(5, state, cpu, LOOKS, BUSY_CPU) for state, cpu in looks]
    assert found == [False] * (len(looks) - 1) + [hangs]


@contextmanager
def disk_that_never_answers(place: Path) -> Iterator[None]:
    """A FUSE file system of which nobody reads the requests but the first one, by which it begins."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"frozen", bytes(place), b"fuse", 0, options.encode()):
        os.close(device)
        pytest.skip(f"cannot mount FUSE here: {os.strerror(ctypes.get_errno())}")
    _, _, request = struct.unpack_from("<IIQ", os.read(device, 1 << 16))
    answer = struct.pack("<IIIIHHI", 7, 19, 1 << 16, 0, 1, 1, 4096)  # struct fuse_init_out of linux/fuse.h, 7.19
    os.write(device, struct.pack("<IiQ", 16 + len(answer), 0, request) + answer)
    try:
        yield
    finally:
        os.close(device)  # whoever waits gets an error
        libc.umount2(bytes(place), 2)


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="needs root and FUSE")
def test_one_that_waits_for_a_disk_in_user_space_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    command = [PYTHON, "-I", "-c", f"import os; os.stat({str(place / 'file')!r})"]
    with disk_that_never_answers(place):
        worker = Worker(Control(), lambda *_: command, -1)
        worker.start(0.0)
        pid = worker.pid
        wait_until(lambda: processes.waits_for_fuse(pid), what="a system call that does not return")
        state = processes.look(pid)
        for now in range(1, 20):
            worker.look(float(now))
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    assert os.waitpid(pid, 0)[1] == 1 << 8  # Python's status of an error
    assert state is not None
    assert state.state == "S"


@pytest.mark.parametrize("stalls", [True, False])
def test_one_that_sleeps_while_the_journals_disk_stands_still_is_left_alone(stalls: bool) -> None:
    worker = Worker(Control(), lambda *_: ["/bin/sleep", "60"], -1)
    worker.start(0.0)
    pid = worker.pid
    wait_until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/bin/sleep"), what="the program")
    wait_until(lambda: getattr(processes.look(pid), "state", "") == "S", what="its sleep")
    for now in range(1, 20):
        worker.look(float(now), disk_stalls=stalls)
    lives = worker.look_due is not None
    worker.kill()
    os.waitpid(pid, 0)
    assert lives == stalls


def test_whatever_was_read_in_between_begins_it_anew() -> None:
    watch = Watch()
    assert not any(watch.look(wakes, "S", 1.0, LOOKS, BUSY_CPU) for wakes in range(20))
    for _ in range(20):
        watch.read()
        assert not watch.look(20, "S", 1.0, LOOKS, BUSY_CPU)


def test_back_off_doubles_up_to_its_longest_and_starts_again_after_a_minute_of_life() -> None:
    backoff = Backoff()
    now = 1000.0
    delays, said = [], 0
    for _ in range(12):
        delay, say = backoff.died(now, now)
        delays.append(delay)
        said += say
        now += delay
    assert delays[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert delays[-3:] == [LONGEST_DELAY] * 3
    assert said == 1
    assert backoff.died(now, now + 61) == (0.1, False)


def test_a_worker_that_keeps_dying_is_said_again_now_and_then() -> None:
    backoff = Backoff()
    now = 0.0
    said = []
    while now < 3 * SAY_AGAIN_SECONDS:
        delay, say = backoff.died(now, now)
        if say:
            said.append(now)
        now += delay
    assert len(said) == 3


def test_a_wake_is_left_out_while_one_is_unread_and_other_bytes_go_in() -> None:
    control = Control()
    for _ in range(100_000):
        control.wake()
    control.send(b"d")
    assert os.read(control.read_fd, 100) == b"wd"
    control.wake()
    assert os.read(control.read_fd, 100) == b"w"
