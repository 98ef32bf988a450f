"""The agent has what it would have had without us."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import wait_until
from tests.supervisor.wrapping import SIGNALS, environment, ready_pid, wrap, wrapper

if TYPE_CHECKING:
    from pathlib import Path


def unusual() -> None:
    os.umask(0o027)
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (123, 456))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGALRM])
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.parametrize(
    "command",
    [
        ["grep", "-E", "^(Umask|Sig...|Cap.*|NoNewPrivs|Seccomp|Uid|Gid|Groups|Cpus_allowed):", "/proc/self/status"],
        ["cat", "/proc/self/limits", "/proc/self/environ"],
        ["sh", "-c", "pwd; echo $0 $@; nice", "zero", "", "two words", "\udcff"],
        ["cat"],
    ],
    ids=["status", "limits and environment", "directory and arguments", "stdin"],
)
def test_the_agent_finds_everything_as_it_would_without_us(tmp_path: Path, command: list[str]) -> None:
    variables = {**environment(tmp_path), "LC_ALL": "", "ODD": "\udcff=\n", "EMPTY": "", "_": "x"}
    given: dict[str, Any] = {"env": variables, "input": b"input\0", "cwd": tmp_path, "preexec_fn": unusual}
    bare = subprocess.run(command, capture_output=True, **given)
    wrapped = subprocess.run(wrapper(command), capture_output=True, **given)
    assert without_glibcs_own(wrapped.stdout) == without_glibcs_own(bare.stdout)


def without_glibcs_own(text: bytes) -> bytes:
    """glibc's posix_spawn leaves 32 and 33 ignored, which it uses between threads and no program can send itself."""
    ignored = re.search(rb"SigIgn:\t(.*)\n", text)
    if ignored is None:
        return text
    return text.replace(ignored[1], b"%016x" % (int(ignored[1], 16) & ~0x1_8000_0000))


def test_a_variable_that_stands_there_twice_is_the_first(tmp_path: Path) -> None:
    """Python's os.environ and getenv(3) see the first; LC_CTYPE is what Python adds by itself."""
    variables = {"A": "1", "SHIPPER_DIR": str(tmp_path)}
    done = subprocess.run(wrapper(["env"]), env=variables, capture_output=True, text=True)
    assert done.stdout == f"A=1\nSHIPPER_DIR={tmp_path}\n"


def test_what_the_packages_launcher_has_hidden_comes_back_and_what_it_has_added_does_not(tmp_path: Path) -> None:
    place = {"SHIPPER_DIR": str(tmp_path)}
    variables = {"A": "1", "\x01LD_PRELOAD": "/x.so", "\x01LC_ALL": "", "B": "2", **place, "\x01": "", "LC_ALL": "C"}
    done = subprocess.run(wrapper(["env"]), env=variables, capture_output=True, text=True)
    assert done.stdout == f"A=1\nLD_PRELOAD=/x.so\nLC_ALL=\nB=2\nSHIPPER_DIR={tmp_path}\n"


def test_the_agent_finds_further_descriptors_and_we_keep_none_of_them(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    command = ["sh", "-c", f"cat /dev/fd/{read_end}; echo end; read line"]
    process = wrap(tmp_path, command, pass_fds=[read_end], stdin=subprocess.PIPE)
    os.close(read_end)
    with open(write_end, "wb") as file:
        file.write(b"from 3 on\n")
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [b"from 3 on\n", b"end\n"]
    assert process.stdin is not None
    theirs = {os.readlink(f"/proc/self/fd/{process.stdin.fileno()}")}
    assert not theirs & held_by(process.pid)
    # and nothing else, once what is imported is closed again
    known = ("pipe:", "/dev/null", str(tmp_path))
    wait_until(lambda: all(name.startswith(known) for name in held_by(process.pid)), what="descriptors of ours alone")
    process.communicate(b"\n", timeout=30)
    assert process.returncode == 0


def held_by(pid: int) -> set[str]:
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def test_whoever_writes_to_the_agents_stdin_learns_that_it_was_closed(tmp_path: Path) -> None:
    process = wrap(tmp_path, ["sh", "-c", "exec <&-; echo closed; exec sleep 10"], stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"closed\n"
    with pytest.raises(BrokenPipeError):
        os.write(process.stdin.fileno(), b"x")
    process.terminate()
    assert process.wait(30) == 143


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_descriptors_that_are_closed_at_the_start_take_no_pipe_of_ours(tmp_path: Path, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for fd in closed:
            os.close(fd)

    report = tmp_path / "report"
    script = f"readlink /proc/self/fd/0 > {report} || echo none > {report}; echo out; echo err >&2; exit 3"
    process = wrap(tmp_path, ["sh", "-c", script], preexec_fn=close)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert report.read_text() == ("none\n" if 0 in closed else "/dev/null\n")
    assert out == (b"" if 1 in closed else b"out\n")
    assert (b"err\n" in err) == (2 not in closed)


def test_without_a_terminal_the_agent_leads_a_session_of_its_own(tmp_path: Path) -> None:
    process = wrap(tmp_path, SIGNALS)
    agent = ready_pid(process)
    assert os.getsid(agent) == os.getpgid(agent) == agent
    assert os.getsid(process.pid) == os.getsid(0)
    os.kill(agent, signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 137
