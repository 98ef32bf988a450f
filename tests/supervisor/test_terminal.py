"""With a terminal: what the kernel sends to the foreground group comes once, and the shell keeps its jobs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.helpers import wait_until
from tests.supervisor.wrapping import SIGNALS, Terminal, wrapper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

bash = pytest.mark.skipif(shutil.which("bash") is None, reason="job control is tested with bash")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """The wrapper leads the session, as under docker run -it."""
    terminal = Terminal(tmp_path, wrapper(SIGNALS))
    yield terminal
    terminal.close()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path, ["bash", "--norc", "--noprofile", "-i"])
    yield terminal
    terminal.close()


def agent_pid(terminal: Terminal) -> int:
    return int(terminal.expect(r"ready \d+\s").split()[-1])


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_ctrl_c_comes_once(terminal: Terminal) -> None:
    agent_pid(terminal)
    terminal.type(b"\x03")
    terminal.expect("2\r\n")
    terminal.process.send_signal(signal.SIGRTMAX)
    terminal.expect("64\r\n")
    assert terminal.process.wait(30) == 7
    assert not re.search(r"\b2\r\n", terminal.rest())


def test_kill_reaches_the_agent_under_a_terminal_too(terminal: Terminal) -> None:
    agent_pid(terminal)
    terminal.process.send_signal(signal.SIGINT)
    terminal.expect("2\r\n")
    terminal.process.send_signal(signal.SIGRTMAX)
    assert terminal.process.wait(30) == 7


def test_the_agent_is_in_our_group_and_reads_the_terminal(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, wrapper(["sh", "-c", "read line; echo got $line; ps -o pgid= -p $$"]))
    terminal.type(b"hello\n")
    terminal.expect("got hello")
    terminal.expect(rf"\b{terminal.process.pid}\r\n")
    terminal.close()


def test_a_hang_up_is_forwarded(tmp_path: Path) -> None:
    report = tmp_path / "report"
    script = f"trap 'echo hup >> {report}; exit 5' HUP; echo ready 1; while :; do sleep 0.05; done"
    terminal = Terminal(tmp_path, wrapper(["sh", "-c", script]))
    agent_pid(terminal)
    terminal.hang_up()
    assert terminal.process.wait(30) == 5
    assert report.read_text() == "hup\n"
    terminal.close()


def test_ctrl_z_without_a_shell_leaves_the_wrapper_running(tmp_path: Path) -> None:
    """Nobody could continue it: the kernel spares an orphaned group, and so must we."""
    terminal = Terminal(tmp_path, wrapper(["sh", "-c", "echo ready $$; while read line; do echo got $line; done"]))
    agent_pid(terminal)
    terminal.type(b"\x1a")
    terminal.type(b"hello\n")
    terminal.expect("got hello")
    terminal.type(b"\x04")
    assert terminal.process.wait(30) == 0
    terminal.close()


def pending(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return sum(int(line.split()[1], 16) for line in file if line.startswith(("SigPnd", "ShdPnd")))


@bash
def test_ctrl_z_gives_the_shell_back_and_fg_goes_on(tmp_path: Path, shell: Terminal) -> None:
    agent = ["sh", "-c", "trap 'echo continued' CONT; echo ready $$; while :; do read line && echo got $line; done"]
    shell.type(shlex.join(wrapper(agent)).encode() + b"\n")
    pid = agent_pid(shell)
    for _ in range(2):
        shell.type(b"\x1a")
        shell.expect(r"Stopped  ")
        assert state(pid) == "T"
        shell.type(b"echo shell is $((40+2))\n")  # typed otherwise than it is printed
        shell.expect("shell is 42")
        shell.type(b"fg\n")
        wait_until(lambda: state(pid) != "T", what="the agent's going on")
        shell.type(b"hello\n")
        assert shell.expect("got hello\r\n").count("continued\r\n") == 1
    shell.type(b"\x03")
    shell.expect(r"\$ $")
    shell.type(b"echo status $?\n")
    shell.expect("status 130")


@bash
def test_without_the_terminal_as_stdin_ctrl_c_and_ctrl_z_are_forwarded(shell: Terminal) -> None:
    """The agent has a session of its own then, and hears nothing from the kernel."""
    shell.type(shlex.join(wrapper(SIGNALS)).encode() + b" < /dev/null\n")
    pid = agent_pid(shell)
    shell.type(b"\x03")
    shell.expect("2\r\n")
    shell.type(b"\x1a")
    shell.expect("Stopped  ")
    wait_until(lambda: not pending(pid), what="the agent's taking the signal")  # a SIGCONT would discard it
    shell.type(b"fg\n")
    shell.expect("20\r\n")
    shell.expect("18\r\n")
    os.kill(pid, signal.SIGRTMAX)
    shell.expect("64\r\n")


@bash
def test_an_agent_that_does_not_stop_keeps_the_terminal(shell: Terminal) -> None:
    shell.type(shlex.join(wrapper(SIGNALS)).encode() + b"\n")
    pid = agent_pid(shell)
    shell.type(b"\x1a")
    shell.expect("20\r\n")
    os.kill(pid, signal.SIGRTMAX)
    shell.expect("64\r\n")
    shell.type(b"echo status $?\n")
    assert "Stopped  " not in shell.expect("status 7")


@bash
def test_orphans_that_the_kernel_told_are_not_told_again(tmp_path: Path, shell: Terminal) -> None:
    """Ctrl-C reaches what pnpm started as well; it may drain, and is not sent a second one."""
    release = tmp_path / "release"
    child = [*SIGNALS[:-1], SIGNALS[-1], str(release)]
    script = f"trap 'exit 130' INT; ({shlex.join(child)}); wait"
    # a background job of a script ignores INT; so the child is in the foreground and the parent dies by the signal
    shell.type(shlex.join(wrapper(["sh", "-c", script])).encode() + b"\n")
    pid = agent_pid(shell)
    shell.type(b"\x03")
    shell.expect("2\r\n")
    os.kill(pid, signal.SIGTERM)
    shell.expect("15\r\n")
    release.touch()
    assert "2\r\n" not in shell.expect("drained")
