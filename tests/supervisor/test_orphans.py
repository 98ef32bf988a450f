"""What an agent leaves behind, with real processes."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.helpers import wait_until
from tests.supervisor.wrapping import SIGNALS, SLACK, Kept, read_line, ready_pid, wrap, wrapper

if TYPE_CHECKING:
    from pathlib import Path

SLEEPS = "setsid sleep 30"


def is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize(
    ("ending", "status"),
    [("trap 'exit 143' TERM; ", 143), ("", 143), ("trap 'exit 1' TERM; ", 1)],
    ids=["status 143", "killed", "status 1"],
)
def test_a_worker_left_behind_is_told_once_and_drains(tmp_path: Path, ending: str, status: int) -> None:
    """As under CMD ["pnpm", "start"]: pnpm ends at once and tells nobody."""
    release = tmp_path / "release"
    child = shlex.join([*SIGNALS, str(release)])
    process = wrap(tmp_path, ["sh", "-c", f"{ending}{child} & wait"])
    worker = ready_pid(process)
    process.terminate()
    assert read_line(process) == "15"
    process.send_signal(signal.SIGUSR1)  # further signals go to it
    assert read_line(process) == "10"
    process.send_signal(signal.SIGTERM)
    assert read_line(process) == "15"
    release.touch()
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (status, b"drained\n")
    assert b"sh ended on signal 15 and left 1 running, which nobody had told" in said
    assert is_gone(worker)
    kept = Kept(tmp_path)
    assert kept.lines[1][1:] == [b"15", b"10", b"15", b"drained"]
    assert kept.end in ({"exit_status": status, "asked": True}, {"signal": 15, "asked": True})


def test_a_grandchild_that_comes_to_us_later_is_told_too(tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.touch()
    child = shlex.join(SIGNALS)
    # the middle one tells nobody and ends when told itself; the agent is the outer one
    middle = f"{child} & echo $! > {tmp_path}/grandchild; wait"
    process = wrap(tmp_path, ["sh", "-c", f"sh -c {shlex.quote(middle)} & wait"])
    grandchild = ready_pid(process)
    process.terminate()
    assert read_line(process) == "15"
    os.kill(grandchild, signal.SIGRTMAX)
    assert process.communicate(timeout=30)[0] == b"64\n"
    assert process.returncode == 143


def test_orphans_have_their_timeout(tmp_path: Path) -> None:
    process = wrap(tmp_path, ["sh", "-c", f"{shlex.join(SIGNALS)} & wait"], env={"SHIPPER_ORPHAN_TIMEOUT": "300ms"})
    ready_pid(process)
    begun = time.monotonic()
    process.terminate()
    assert [read_line(process), read_line(process)] == ["15", "15"]
    assert time.monotonic() - begun >= 0.3
    assert process.communicate(timeout=15)[0] == b""
    assert process.returncode == 143
    assert 5.3 <= time.monotonic() - begun < 8 + SLACK


def test_orphans_of_an_agent_that_ended_by_itself_are_left_alone(tmp_path: Path) -> None:
    process = wrap(tmp_path, ["sh", "-c", f"{SLEEPS} >/dev/null 2>&1 & echo $!; exit 3"])
    sleeper = int(read_line(process))
    process.communicate(timeout=15)  # half of what they sleep
    assert process.returncode == 3
    assert not is_gone(sleeper)
    os.kill(sleeper, signal.SIGKILL)


def test_whoever_holds_a_pipe_has_two_seconds_and_a_term(tmp_path: Path) -> None:
    begun = time.monotonic()
    script = "echo begun; trap 'echo told; exit' TERM; while :; do sleep 0.01; done"
    process = wrap(tmp_path, ["sh", "-c", f"setsid sh -c {shlex.quote(script)} & exit 3"])
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (3, b"begun\ntold\n")
    assert said.count(b"of its processes hold its output: they are ended now.") == 1
    assert 2.0 <= time.monotonic() - begun < 2.9 + SLACK
    assert Kept(tmp_path).lines[1] == [b"begun", b"told"]


@pytest.mark.parametrize("session", ["", "setsid "])
def test_whoever_does_not_heed_the_term_is_killed(tmp_path: Path, session: str) -> None:
    begun = time.monotonic()
    process = wrap(tmp_path, ["sh", "-c", f"{session}{shlex.join(SIGNALS)} & exit 0"])
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert 3.0 <= time.monotonic() - begun < 4.0 + SLACK


def test_a_term_hastens_the_wait_for_whoever_holds_a_pipe(tmp_path: Path) -> None:
    process = wrap(tmp_path, ["sh", "-c", f"{shlex.join(SIGNALS)} & echo $$"])
    agent = int(read_line(process))
    ready_pid(process)
    wait_until(lambda: is_gone(agent), what="the agent's end")
    begun = time.monotonic()
    process.terminate()
    assert read_line(process) == "15"
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert time.monotonic() - begun < 1.9 + SLACK


def test_a_holder_that_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    """A descendant of the test's that was given the agent's stdout: it lives on, and we do not wait for it for ever."""
    fifo = tmp_path / "pid"
    script = f"echo $$ > {fifo}; read line; exit 4"
    os.mkfifo(fifo)
    process = wrap(tmp_path, ["sh", "-c", script], stdin=subprocess.PIPE)
    agent = int(fifo.read_text())
    with subprocess.Popen(["sleep", "30"], stdout=os.open(f"/proc/{agent}/fd/1", os.O_WRONLY)) as holder:
        begun = time.monotonic()
        process.communicate(b"\n", timeout=30)
        assert process.returncode == 4
        assert time.monotonic() - begun < 3.5 + SLACK
        assert holder.poll() is None
        holder.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root")
def test_as_pid_1_no_zombie_is_left(tmp_path: Path) -> None:
    child = "setsid sh -c 'sleep 0.05 & sleep 0.1 & exec sleep 0.05' & "
    dead, alive = "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l", "ls -d /proc/[0-9]* | wc -l"
    look = f"dead=$({dead}); alive=$({alive}); [ $dead = 0 ] && [ $alive -le 5 ] && break; sleep 0.1"
    script = (
        f"echo pid $PPID; for i in 1 2 3 4 5 6 7 8 9 10; do {child} done; wait; "
        f"for i in $(seq 100); do {look}; done; echo $dead; echo $alive; exit 9"
    )
    namespace = ["unshare", "--pid", "--fork", "--mount-proc"]
    done = subprocess.run(
        [*namespace, *wrapper(["sh", "-c", script])],
        env={"PATH": os.environ["PATH"], "SHIPPER_DIR": str(tmp_path / "journal")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 9, done.stderr
    first, zombies, others = done.stdout.splitlines()
    assert first == "pid 1"
    assert zombies == "0"
    assert int(others) <= 5  # the wrapper, sh, and what counts them


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root")
def test_pid_1_forwards_signals_and_ends_with_the_agents_status(tmp_path: Path) -> None:
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    process = subprocess.Popen(
        [*namespace, *wrapper(SIGNALS)],
        env={"PATH": os.environ["PATH"], "SHIPPER_DIR": str(tmp_path / "journal")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert ready_pid(process) == 2
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            first = int(file.read())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTSTP, signal.SIGRTMAX):
            os.kill(first, number)
            assert read_line(process) == str(int(number))
        assert process.wait(30) == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root")
@pytest.mark.parametrize(
    "parts", [{"raises": ["take"]}, {"threads": 0}, {"threads": 1}], ids=["a bug", "no threads", "one thread"]
)
def test_pid_1_lets_go_of_the_agents_outputs_when_it_is_a_plain_init_too(
    tmp_path: Path, parts: dict[str, object]
) -> None:
    """Else it would wait for ever for these to end."""
    script = f"trap 'echo told > /proc/1/fd/1; echo too > /proc/1/fd/2; exit 7' TERM; echo $$; {SLEEPS} & wait"
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *wrapper(["sh", "-c", script], **parts)],
        env={"PATH": os.environ["PATH"], "SHIPPER_DIR": str(tmp_path / "journal")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert read_line(process) == "2"
        assert process.stderr is not None
        while b"a fault" not in process.stderr.readline():
            assert process.poll() is None
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            os.kill(int(file.read()), signal.SIGTERM)
        out, said = process.communicate(timeout=20)
        assert (process.returncode, out) == (7, b"told\n")
        assert said.splitlines()[-1] == b"too"


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("prlimit"), reason="a PID namespace needs root, the limit prlimit"
)
@pytest.mark.parametrize("count", [6, 7, 8, 9, 10, 11])
def test_pid_1_without_descriptors_for_its_own_outputs_runs_the_agent_all_the_same(tmp_path: Path, count: int) -> None:
    done = subprocess.run(
        [
            *("unshare", "--pid", "--fork", "--mount-proc", "prlimit", f"--nofile={count}:{count}"),
            *wrapper(["sh", "-c", "echo out; cat /nonexistent; exit 5"]),
        ],
        env={"PATH": os.environ["PATH"], "SHIPPER_DIR": str(tmp_path / "journal")},
        capture_output=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (5, b"out\n")
    assert b"/nonexistent" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_loop_of_short_runs_loses_no_status(tmp_path: Path) -> None:
    """No race between an agent that ends at once, its orphans, and the reaping."""
    script = "(sleep 0.01 &) ; exit 5"
    for _ in range(20):
        process = wrap(tmp_path, ["sh", "-c", script])
        process.communicate(timeout=30)
        assert process.returncode == 5
