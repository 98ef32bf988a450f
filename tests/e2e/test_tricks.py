"""What agents do that none should: nothing of it is lost, nobody hangs, and it ends as it would without us."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shipper.journal.reader import Lines, RunReader, State
from tests.agents import tricks
from tests.e2e.wrapped import Wrapper, all_events, arrived, children
from tests.helpers import wait_until

if TYPE_CHECKING:
    from shipper.sandbox.server import Sandbox

TRICKS = Path(tricks.__file__)
MB = 1024 * 1024
BOUND = 64 * MB  # of the wrapper's memory: what it is to hold at most is 24 MB, and coverage may be measured in it
PATIENT = {"SHIPPER_DRAIN_TIMEOUT": "60s"}  # a busy machine may be slow; what is lost is lost after that, too

NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="a PID namespace needs root and unshare"
)
AS_CHILD_AND_AS_PID_1 = pytest.mark.parametrize(
    "before", [(), pytest.param(NAMESPACE, marks=needs_root)], ids=["child", "PID 1"]
)


def trick(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-I", str(TRICKS), name, *map(str, arguments)]


def watch(wrapper: Wrapper, timeout: float = 60.0) -> tuple[int, int]:
    """Its status, and the most memory that it ever had, in bytes."""
    status = Path(f"/proc/{wrapper.pid}/status")
    most = 0
    deadline = time.monotonic() + timeout
    while wrapper.process.poll() is None:
        assert time.monotonic() < deadline, "the wrapper does not end"
        for line in read(status).splitlines():
            if line.startswith("VmHWM:"):
                most = int(line.split()[1]) * 1024
        time.sleep(0.01)
    return wrapper.process.returncode, most


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""


def messages(sandbox: Sandbox, stream: str = "stdout") -> list[str]:
    return [str(event["message"]) for event in all_events(sandbox) if event["stream"] == stream]


def whole(sandbox: Sandbox, stream: str = "stdout") -> dict[str, Any]:
    """That stream of the only run, of which no line is missing."""
    (found,) = [entry for entry in arrived(sandbox)["streams"] if entry["stream"] == stream]
    assert (found["missing"], found["unexplained"], found["first_seq"]) == (0, 0, 1), found
    return dict(found)


def stderr_of_the_agent(wrapper: Wrapper) -> bytes:
    return b"".join(line for line in wrapper.error.splitlines(True) if not line.startswith(b"shipper: "))


def is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def kept(wrapper: Wrapper) -> int:
    """Lines of stdout in the newest run's journal."""
    reader = RunReader(wrapper.run_path())
    state, count = State.start(), 0
    while True:
        window, state = reader.read(state, dead=False)
        count += sum(len(item.lines) for item in window.items if isinstance(item, Lines) and item.stream == 1)
        if not window.items:
            reader.close()
            return count


# -- what it prints ----------------------------------------------------------------------------------------------------


def test_a_flood_on_both_streams(sandbox: Sandbox, directory: Path) -> None:
    count = 40_000
    with Wrapper(directory, trick("flood", count), sandbox.url, PATIENT) as wrapper:
        status, memory = watch(wrapper)
        assert status == 0
        assert wrapper.stdout == tricks.lines(1, 0, count)
        assert stderr_of_the_agent(wrapper) == tricks.lines(2, 0, count)
    for stream in ("stdout", "stderr"):
        assert whole(sandbox, stream)["lines"] == count
    assert memory < BOUND


def test_100_mb_without_a_newline(sandbox: Sandbox, directory: Path) -> None:
    size, piece = 100_000_000, 256 * 1024
    with Wrapper(directory, trick("endless", size // 1_000_000), sandbox.url, PATIENT) as wrapper:
        status, memory = watch(wrapper)
        assert status == 0
        assert len(wrapper.stdout) == wrapper.stdout.count(b"x") == size
    assert memory < BOUND
    events = all_events(sandbox)
    assert [event["part"] for event in events] == list(range(1, size // piece + 2))
    assert sum(len(event["message"]) for event in events) == size
    whole(sandbox)


def test_any_bytes(sandbox: Sandbox, directory: Path) -> None:
    size = 1_000_000
    with Wrapper(directory, trick("binary", size), sandbox.url, PATIENT) as wrapper:
        assert watch(wrapper)[0] == 0
        assert wrapper.stdout == tricks.noise(size)
        # our own messages would stand in the midst of these
        assert wrapper.error == tricks.noise(size + 1)[:-1]
        (out, err) = (wrapper.stdout, wrapper.error)
    for stream, data in (("stdout", out), ("stderr", err)):
        found = [entry for entry in arrived(sandbox)["streams"] if entry["stream"] == stream]
        assert [entry["unexplained"] for entry in found] == [0]
        assert found[0]["last_seq"] == len(data.split(b"\n"))


@AS_CHILD_AND_AS_PID_1
def test_closed_outputs_and_a_life_after_it(sandbox: Sandbox, directory: Path, before: tuple[str, ...]) -> None:
    with Wrapper(directory, trick("closes"), sandbox.url, PATIENT, before=before) as wrapper:
        wait_until(lambda: b"words on 2" in wrapper.error, what="its last words")
        assert wrapper.process.poll() is None
        wait_until(lambda: asleep_in_sigwait(wrapper), what="the agent's wait for a signal")
        wrapper.terminate()
        assert wrapper.wait() == 9
        assert (wrapper.stdout, stderr_of_the_agent(wrapper)) == (b"last words on 1", b"last words on 2")
    assert messages(sandbox) == ["last words on 1"]
    assert messages(sandbox, "stderr") == ["last words on 2"]


def asleep_in_sigwait(wrapper: Wrapper) -> bool:
    """The agent has closed its outputs."""
    agents = [pid for pid in wrapper.children() if pid != wrapper.worker()]
    return bool(agents) and not {"1", "2"} & set(os.listdir(f"/proc/{agents[0]}/fd"))


@needs_root
def test_what_is_written_to_pid_1s_outputs_is_kept_and_forwarded(sandbox: Sandbox, directory: Path) -> None:
    """As cron jobs and health checks do in a container, so that `docker logs` shows it."""
    script = (
        "echo own; echo first > /proc/1/fd/1; sh -c 'echo child > /proc/1/fd/1; echo error > /proc/1/fd/2';"
        "echo other >&2; exec 3> /proc/1/fd/1; exec >&- 2>&-; echo closed > /proc/1/fd/1; echo last >&3; exit 4"
    )
    with Wrapper(directory, ["sh", "-c", script], sandbox.url, PATIENT, before=NAMESPACE) as wrapper:
        assert wrapper.wait() == 4
        assert wrapper.stdout == b"own\nfirst\nchild\nclosed\nlast\n"
        assert wrapper.error == b"error\nother\n"
    assert messages(sandbox) == ["own", "first", "child", "closed", "last"]
    assert messages(sandbox, "stderr") == ["error", "other"]


@needs_root
@pytest.mark.parametrize("pace", ["sleep 0.05", ":"], ids=["now and then", "all the time"])
def test_somebody_else_who_writes_on_there_keeps_nobody_alive(directory: Path, pace: str) -> None:
    """As a `docker exec` may, which bare ends with the agent."""
    writes = f"exec > /proc/1/fd/1; while :; do echo from outside; {pace}; done"
    fifo = directory.parent / "fifo"
    os.mkfifo(fifo)
    agent = ["sh", "-c", f"echo inside; read line < {fifo}; exit 4"]
    with Wrapper(directory, agent, None, before=NAMESPACE) as wrapper:
        wait_until(lambda: wrapper.stdout, what="the agent's start")
        enter = ["nsenter", "--target", str(wrapper.pid), "--pid", "--mount", "sh", "-c", writes]
        with subprocess.Popen(enter, stderr=subprocess.DEVNULL) as other:
            wait_until(lambda: b"outside" in wrapper.stdout, what="the other's lines")
            fifo.write_text("\n")
            assert wrapper.wait() == 4
            assert other.poll() is None or other.returncode  # it did not end by itself
            other.kill()


def test_an_agent_that_dies_within_milliseconds(sandbox: Sandbox, directory: Path) -> None:
    for number in range(5):
        command = ["sh", "-c", f"echo out {number}; echo err {number} >&2; exit {number}"]
        with Wrapper(directory, command, sandbox.url, PATIENT) as wrapper:
            assert wrapper.wait() == number
    assert sorted(messages(sandbox)) == [f"out {number}" for number in range(5)]
    assert sorted(messages(sandbox, "stderr")) == [f"err {number}" for number in range(5)]


def test_a_shipper_run_inside_of_another_on_the_same_directory(sandbox: Sandbox, directory: Path) -> None:
    """Two runs: the inner one's output is the outer one's, too."""
    inner = [sys.executable, "-m", "shipper", "run", "--", *trick("drains", 3)]
    with Wrapper(directory, inner, sandbox.url, PATIENT) as wrapper:
        wait_until(lambda: wrapper.stdout == b"ready\n", what="the agent's start")
        wrapper.terminate()
        assert wrapper.wait() == 0
        assert wrapper.stdout == b"ready\ndraining 0\ndraining 2\n"
        assert stderr_of_the_agent(wrapper) == b"draining 1\n"
        assert "Traceback" not in wrapper.stderr
    found = arrived(sandbox)["streams"]
    assert len({entry["run"] for entry in found}) == 2
    assert [entry["unexplained"] for entry in found] == [0] * 4
    assert sorted(messages(sandbox)) == sorted(["ready", "draining 0", "draining 2"] * 2)


# -- how it ends -------------------------------------------------------------------------------------------------------


@AS_CHILD_AND_AS_PID_1
def test_lines_go_out_one_by_one_while_it_drains(sandbox: Sandbox, directory: Path, before: tuple[str, ...]) -> None:
    """LiveKit drains for up to an hour, here it is some seconds: none of it waits for the end."""
    count, release = 30, directory.parent / "release"
    with Wrapper(directory, trick("drains", count, release), sandbox.url, PATIENT, before=before) as wrapper:
        wait_until(lambda: arrived(sandbox)["lines"] == 1, what="the first line")
        wrapper.terminate()
        seen = set()
        deadline = time.monotonic() + 60
        while (there := arrived(sandbox)["lines"]) < count + 1:
            assert time.monotonic() < deadline, f"{there} lines"
            seen.add(there)
            time.sleep(0.02)
        assert len(seen) > 3  # and not all at once
        assert wrapper.process.poll() is None
        release.touch()
        assert wrapper.wait() == 0
        assert b"told again" not in wrapper.stdout
    assert whole(sandbox)["lines"] + whole(sandbox, "stderr")["lines"] == count + 1


@needs_root
def test_one_that_heeds_no_term_until_the_kill(sandbox: Sandbox, directory: Path) -> None:
    """The next start delivers what it printed, and says that this run has no end."""
    count = 1000
    away = {**PATIENT, "SHIPPER_DATADOG_URL": "http://127.0.0.1:9"}
    with Wrapper(directory, trick("stubborn", count), sandbox.url, away, before=NAMESPACE) as wrapper:
        wait_until(lambda: wrapper.stdout.count(b"\n") == count, what="its lines")
        wrapper.terminate()
        wait_until(lambda: wrapper.stdout.count(b"\n") == 2 * count, what="its lines after the TERM")
        wait_until(lambda: kept(wrapper) == 2 * count, what="them all in the journal")
        assert wrapper.process.poll() is None
        inside = wrapper.children()
        os.kill(wrapper.pid, signal.SIGKILL)
        wrapper.wait()
        wait_until(lambda: all(map(is_gone, inside)), what="the end of everybody inside")
    with Wrapper(directory, ["sleep", "1"], sandbox.url, PATIENT) as wrapper:
        wait_until(lambda: arrived(sandbox)["lines"] == 2 * count, what="what was left")
        assert wrapper.wait() == 0
        assert wrapper.stderr.count("has no end") == 1
    whole(sandbox)


@AS_CHILD_AND_AS_PID_1
def test_a_daemon_that_keeps_the_outputs_has_its_last_words(
    sandbox: Sandbox, directory: Path, before: tuple[str, ...]
) -> None:
    with Wrapper(directory, trick("daemon"), sandbox.url, PATIENT, before=before) as wrapper:
        assert wrapper.wait() == 4
        assert wrapper.stdout == b"in the background\ntold\n"
        assert stderr_of_the_agent(wrapper) == b"told, too\n"
    assert messages(sandbox) == ["in the background", "told"]
    assert messages(sandbox, "stderr") == ["told, too"]


@needs_root
def test_a_daemon_that_has_let_go_ends_with_the_container_and_is_not_waited_for(
    sandbox: Sandbox, directory: Path
) -> None:
    script = "setsid sleep 600 > /dev/null 2>&1 < /dev/null & echo left; exit 4"
    with Wrapper(directory, ["sh", "-c", script], sandbox.url, PATIENT, before=NAMESPACE) as wrapper:
        begun = time.monotonic()
        assert wrapper.wait() == 4
        assert time.monotonic() - begun < 30
    assert messages(sandbox) == ["left"]


@AS_CHILD_AND_AS_PID_1
def test_orphans_by_the_hundred_are_told_and_waited_for(
    sandbox: Sandbox, directory: Path, before: tuple[str, ...]
) -> None:
    count = 300
    with Wrapper(directory, trick("orphans", count), sandbox.url, PATIENT, before=before) as wrapper:
        wait_until(lambda: b"ready" in wrapper.error, 30, "the orphans")
        wrapper.terminate()
        status, memory = watch(wrapper)
        assert status == 143
        printed = wrapper.stdout.decode().splitlines()
        assert sorted(printed) == sorted(f"{word} {n}" for n in range(count) for word in ("here", "gone"))
        assert f"left {count} running" in wrapper.stderr
    assert sorted(messages(sandbox)) == sorted(printed)
    assert memory < BOUND


@needs_root
def test_orphans_that_end_by_the_hundred_leave_no_zombie(sandbox: Sandbox, directory: Path) -> None:
    loop = "i=0; while [ $i -lt 300 ]; do (sleep 0.1 & exec true); i=$((i+1)); done"
    count = "n=$(cat /proc/[0-9]*/status 2>/dev/null | grep -c '^State:.Z'); [ $n = 0 ] && break; sleep 0.1"
    script = f"{loop}; for i in $(seq 100); do {count}; done; echo $n; exit 3"
    with Wrapper(directory, ["sh", "-c", script], sandbox.url, before=NAMESPACE) as wrapper:
        assert wrapper.wait() == 3
        assert wrapper.stdout == b"0\n"


# -- signals -----------------------------------------------------------------------------------------------------------


def test_one_that_is_stopped_and_continued_and_a_wrapper_that_is(sandbox: Sandbox, directory: Path) -> None:
    with Wrapper(directory, trick("ticks", 2), sandbox.url, PATIENT) as wrapper:
        wait_until(lambda: wrapper.stdout, what="its first line")
        (agent,) = [pid for pid in wrapper.children() if pid != wrapper.worker()]
        for pid in (agent, wrapper.pid):
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda pid=pid: "T (stopped)" in Path(f"/proc/{pid}/status").read_text(), what="its stop")  # type: ignore[misc]
            there = wrapper.stdout
            os.kill(pid, signal.SIGCONT)
            wait_until(lambda there=there: wrapper.stdout != there, what="its going on")  # type: ignore[misc]
        assert wrapper.wait() == 6
        assert wrapper.stdout.count(b"\n") == 100
    assert whole(sandbox)["lines"] == 100


@pytest.mark.skipif(not shutil.which("prlimit"), reason="needs prlimit")
def test_a_storm_of_signals_holds_up_nothing(sandbox: Sandbox, directory: Path) -> None:
    """Real-time signals queue, and come faster than they can be passed on: the agent's end is seen all the same."""
    sends = "import os, signal, sys\nwhile True:\n for n in (10, *range(35, 64)): os.kill(int(sys.argv[1]), n)"
    few = ["prlimit", "--sigpending=5000"]  # else the queue would be as long as the machine's memory allows
    with Wrapper(directory, trick("ticks", 1), sandbox.url, PATIENT, before=few) as wrapper:
        wait_until(lambda: wrapper.stdout, what="its first line")
        storm = [sys.executable, "-I", "-c", sends, str(wrapper.pid)]
        with subprocess.Popen(storm, stderr=subprocess.DEVNULL) as sender:
            try:
                assert wrapper.wait(60) == 6
            finally:
                sender.kill()
        assert wrapper.stdout.count(b"\n") == 50
        assert "fault" not in wrapper.stderr
    assert whole(sandbox)["lines"] == 50


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_an_agent_that_may_not_be_signalled_is_named_once(sandbox: Sandbox, directory: Path) -> None:
    """As under --cap-drop ALL when the agent takes another user than the wrapper."""
    other = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    agent = [*other, "sh", "-c", "echo ready; sleep 60; echo over; exit 5"]
    with Wrapper(directory, agent, sandbox.url, PATIENT, before=["setpriv", "--bounding-set=-kill"]) as wrapper:
        wait_until(lambda: wrapper.stdout, what="the agent's start")
        wrapper.terminate()
        wait_until(lambda: wrapper.said, what="the sentence")
        wrapper.terminate()
        (pid,) = [pid for pid in wrapper.children() if pid != wrapper.worker()]
        (sleeper,) = children(pid)
        os.kill(sleeper, signal.SIGKILL)
        assert wrapper.wait() == 5
        assert wrapper.stderr.count("no signal can be sent") == 1
        assert len(wrapper.said) == 1, wrapper.stderr
    assert messages(sandbox) == ["ready", "over"]
