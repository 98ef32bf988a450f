"""Signals: each once, to the agent alone."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from shipper.supervisor.signals import FORWARD, NOTHING, SHARED, route
from tests.helpers import wait_until
from tests.supervisor.wrapping import SIGNALS, read_line, ready_pid, wrap

if TYPE_CHECKING:
    from pathlib import Path

NOT_FORWARDABLE = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
SI_KERNEL = 0x80  # include/uapi/asm-generic/siginfo.h


def test_each_signal_is_forwarded_once(tmp_path: Path) -> None:
    process = wrap(tmp_path, SIGNALS)
    ready_pid(process)
    numbers = [number for number in sorted(signal.valid_signals()) if number not in NOT_FORWARDABLE]
    assert len(numbers) == 28 + 31
    for number in numbers:
        process.send_signal(number)
        assert read_line(process) == str(int(number))
    out, _ = process.communicate(timeout=30)
    assert (out, process.returncode) == (b"", 7)


def test_a_child_signal_is_our_own(tmp_path: Path) -> None:
    process = wrap(tmp_path, SIGNALS)
    ready_pid(process)
    process.send_signal(signal.SIGCHLD)
    process.send_signal(signal.SIGRTMAX)
    assert process.communicate(timeout=30)[0] == b"64\n"


def test_a_stopped_agent_goes_on_where_it_was(tmp_path: Path) -> None:
    process = wrap(tmp_path, SIGNALS)
    agent = ready_pid(process)
    os.kill(agent, signal.SIGSTOP)
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGCONT)
    assert {read_line(process), read_line(process)} == {"10", "18"}
    os.kill(agent, signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 137


def test_signals_that_come_in_during_the_start_are_not_lost(tmp_path: Path) -> None:
    """TERM at any moment: the agent dies of it, or we do before there is an agent, or Python in its own start."""
    statuses = set()
    for _ in range(10):
        process = wrap(tmp_path, ["sleep", "30"])
        wait_until(lambda process=process: b"launch.py" in command_line(process.pid), what="our program")  # type: ignore[misc]
        process.terminate()
        process.communicate(timeout=30)
        statuses.add(process.returncode)
    assert statuses <= {143, -15}


def command_line(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def test_children_of_the_agent_get_no_signal_from_us(tmp_path: Path) -> None:
    script = f"trap 'echo parent' TERM; {' '.join(SIGNALS)} & wait; wait; echo over"
    process = wrap(tmp_path, ["sh", "-c", script])
    child = ready_pid(process)
    process.terminate()
    assert read_line(process) == "parent"
    os.kill(child, signal.SIGRTMAX)
    assert process.communicate(timeout=30)[0] == b"64\nover\n"


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    process = wrap(
        tmp_path, ["sh", "-c", "echo ready; read line"], stdin=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    )  # fmt: skip
    assert read_line(process) == "ready"
    process.terminate()
    process.communicate(b"\n", timeout=30)
    assert process.returncode == 0


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("number", "code", "sender", "without", "within"),
    [
        (signal.SIGTERM, 0, 1, FORWARD, FORWARD),
        (signal.SIGTERM, 0, 0, FORWARD, FORWARD),  # from outside of our pid namespace
        (signal.SIGTERM, -1, 1, FORWARD, FORWARD),  # sigqueue(3)
        (signal.SIGTERM, -6, 1, FORWARD, FORWARD),  # tgkill(2)
        (signal.SIGCHLD, 0, 1, NOTHING, NOTHING),
        (signal.SIGCHLD, 1, 77, NOTHING, NOTHING),
        (signal.SIGCHLD, -6, 50, NOTHING, NOTHING),  # from our own threads
        (signal.SIGPIPE, 0, 50, NOTHING, NOTHING),  # we wrote to a closed pipe
        (signal.SIGPIPE, 0, 1, FORWARD, FORWARD),
        (signal.SIGXCPU, SI_KERNEL, 0, NOTHING, NOTHING),  # we used up our time, not the agent its own
        (signal.SIGINT, SI_KERNEL, 0, FORWARD, SHARED),
        (signal.SIGQUIT, SI_KERNEL, 0, FORWARD, SHARED),
        (signal.SIGWINCH, SI_KERNEL, 0, FORWARD, SHARED),
        (signal.SIGTSTP, SI_KERNEL, 0, FORWARD, SHARED),
        (signal.SIGHUP, SI_KERNEL, 0, FORWARD, FORWARD),
    ],
)
def test_who_gets_a_signal(number: int, code: int, sender: int, without: str, within: str, terminal: bool) -> None:
    assert route(number, code, sender, 50, terminal, leader=True) == (within if terminal else without)


def test_a_hang_up_is_the_leaders_to_forward() -> None:
    """Else the kernel has sent it to the whole group, when the leader ended."""
    assert route(signal.SIGHUP, SI_KERNEL, 0, 50, terminal=True, leader=False) == SHARED
