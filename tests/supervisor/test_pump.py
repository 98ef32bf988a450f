"""Passing on: byte for byte, whatever our stdout and stderr are, and however slow or gone their readers."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from tests.helpers import wait_until
from tests.supervisor.wrapping import SIGNALS, SLACK, Kept, Terminal, read_line, run, wrap, wrapper

if TYPE_CHECKING:
    from pathlib import Path

PIPE_BYTES = 64 * 1024
KERNELS: list[dict[str, int]] = [{}, {"old_kernel": 1}]


@pytest.fixture
def flood(tmp_path: Path) -> Path:
    """Some MB of binary data with few newlines, and a line of 3 MB."""
    path = tmp_path / "flood"
    dice = random.Random(3)
    path.write_bytes(dice.randbytes(5_000_001) + b"a" * 3_000_000 + dice.randbytes(1_234_567))
    return path


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_binary_flood_passes_through_a_pipe_byte_for_byte(
    tmp_path: Path, flood: Path, kernel: dict[str, int]
) -> None:
    status, out, _ = run(tmp_path, ["cat", str(flood)], kernel)
    assert status == 0
    assert hashlib.sha256(out).digest() == hashlib.sha256(flood.read_bytes()).digest()


def test_both_streams_at_once_pass_byte_for_byte(tmp_path: Path, flood: Path) -> None:
    process = wrap(tmp_path, ["sh", "-c", f"cat {flood} & cat {flood} >&2; wait"], env={"SHIPPER_SINKS": "none"})
    out, err = process.communicate(timeout=30)
    assert out == flood.read_bytes()
    assert re.sub(b"shipper: nothing is forwarded.*\n", b"", err) == flood.read_bytes()


def test_a_file_as_stdout_gets_everything(tmp_path: Path, flood: Path) -> None:
    with open(tmp_path / "out", "wb") as out:
        process = wrap(tmp_path, ["cat", str(flood)], stdout=out)
        assert process.wait(20) == 0
    assert (tmp_path / "out").read_bytes() == flood.read_bytes()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_socket_as_stdout_gets_everything(tmp_path: Path, flood: Path, kernel: dict[str, int]) -> None:
    ours, theirs = socket.socketpair()
    process = wrap(tmp_path, ["cat", str(flood)], kernel, stdout=theirs)
    theirs.close()
    with ours:
        assert b"".join(iter(lambda: ours.recv(65536), b"")) == flood.read_bytes()
    assert process.wait(20) == 0


def test_a_terminal_as_stdout_gets_everything(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, wrapper(["sh", "-c", "seq 20000; exit 5"]))
    text = terminal.rest()
    assert terminal.process.returncode == 5
    terminal.close()
    # our own message is on the same terminal, in the middle of a line where it comes
    assert re.sub("shipper: .*\r\n", "", text).split() == [str(number) for number in range(1, 20001)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_stdout_that_was_made_non_blocking_gets_everything_and_stays_so(
    tmp_path: Path, flood: Path, kernel: dict[str, int]
) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    process = wrap(tmp_path, ["cat", str(flood)], kernel, stdout=write_end)
    received = bytearray()
    while len(received) < flood.stat().st_size:
        received += os.read(read_end, 4096)  # a slow reader, so that it fills again and again
    assert received == flood.read_bytes()
    assert process.wait(20) == 0
    assert not os.get_blocking(write_end)
    os.close(read_end)
    os.close(write_end)


def test_a_stdout_that_blocks_is_left_blocking(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    process = wrap(tmp_path, SIGNALS, stdout=write_end)
    assert os.read(read_end, 100).startswith(b"ready")
    assert os.get_blocking(write_end)
    process.send_signal(signal.SIGRTMAX)
    assert process.wait(30) == 7
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("pipe_bytes", [4096, PIPE_BYTES])
def test_while_stdout_is_blocked_stderr_flows_and_signals_arrive(
    tmp_path: Path, pipe_bytes: int, kernel: dict[str, int]
) -> None:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, pipe_bytes)
    script = "trap 'echo told >&2' TERM; (head -c 1000000 /dev/zero | tr '\\0' x) & echo other >&2; wait; wait; exit 6"
    process = wrap(tmp_path, ["sh", "-c", script], kernel, stdout=write_end)
    os.close(write_end)
    assert process.stderr is not None
    assert b"other\n" in {process.stderr.readline() for _ in range(2)}  # and our own message
    wait_until(lambda: unread(read_end) == pipe_bytes, what="a full pipe")
    process.terminate()
    assert process.stderr.readline() == b"told\n"
    received = bytearray()
    while part := os.read(read_end, 65536):
        received += part
    os.close(read_end)
    assert bytes(received) == b"x" * 1_000_000
    process.communicate(timeout=30)
    assert process.returncode == 6


def unread(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_stdout_that_stays_blocked_delays_the_end_by_two_seconds_and_everything_is_kept(
    tmp_path: Path, kernel: dict[str, int]
) -> None:
    read_end, write_end = os.pipe()
    lines = (PIPE_BYTES + 40_000) // 16  # our stdout is full, and something stays in the pump and the agent's pipe
    process = wrap(tmp_path, ["sh", "-c", f"seq -f %015.0f {lines}; exit 6"], kernel, stdout=write_end)
    os.close(write_end)
    begun = time.monotonic()
    process.communicate(timeout=30)
    assert process.returncode == 6
    assert 1.9 < time.monotonic() - begun < 3.5 + SLACK
    os.close(read_end)
    kept = Kept(tmp_path)
    assert kept.lines[1] == [b"%015d" % number for number in range(1, lines + 1)]


def test_a_term_ends_the_wait_for_a_blocked_stdout(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    process = wrap(tmp_path, ["sh", "-c", f"echo $$ >&2; exec head -c {3 * PIPE_BYTES} /dev/zero"], stdout=write_end)
    os.close(write_end)
    wait_until(lambda: unread(read_end) == PIPE_BYTES, what="a full pipe")
    begun = time.monotonic()
    process.terminate()  # ends the agent, which is blocked
    process.terminate()
    wait_until(lambda: not children(process.pid), what="the agent's end")
    process.terminate()
    process.wait(30)
    process.terminate()
    assert time.monotonic() - begun < 2.5 + SLACK
    os.close(read_end)


def children(pid: int) -> str:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return file.read()


def test_a_stdout_whose_reader_has_gone_ends_passing_on_alone(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    script = "echo first; read line; for i in 1 2 3; do echo $i; done; echo other >&2; exit 6"
    process = wrap(tmp_path, ["sh", "-c", script], stdout=write_end, stdin=subprocess.PIPE)
    os.close(write_end)
    assert os.read(read_end, 100) == b"first\n"
    os.close(read_end)
    _, err = process.communicate(b"\n", timeout=30)
    assert process.returncode == 6
    assert b"other\n" in err
    assert err.count(b"stdout has no reader any more (Broken pipe)") == 1
    assert Kept(tmp_path).lines[1] == [b"first", b"1", b"2", b"3"]


def test_a_full_disk_behind_stdout_costs_what_did_not_fit(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = wrap(tmp_path, ["sh", "-c", "echo hello; exit 6"], stdout=full)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 6
    assert b"no reader" not in err
    assert Kept(tmp_path).lines[1] == [b"hello"]


def test_an_agent_that_closes_its_outputs_runs_on(tmp_path: Path) -> None:
    script = "echo closing; exec >&- 2>&-; trap 'exit 8' TERM; while :; do sleep 0.01; done"
    process = wrap(tmp_path, ["sh", "-c", script])
    assert read_line(process) == "closing"
    assert process.stdout is not None
    process.send_signal(signal.SIGWINCH)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 8
