"""The command line, exit statuses, and what happens when the wrapper itself cannot work."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from shipper.supervisor.spawn import _cannot_run
from tests.helpers import wait_until
from tests.supervisor.wrapping import AGENTS, PYTHON, SIGNALS, Kept, read_line, ready_pid, run, wrap, wrapper

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("status", [0, 1, 3, 126, 127, 128, 143, 255])
def test_the_agents_status_is_ours(tmp_path: Path, status: int) -> None:
    assert run(tmp_path, ["sh", "-c", f"exit {status}"])[0] == status
    assert Kept(tmp_path).end == {"exit_status": status}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGPIPE, signal.SIGUSR1])
def test_an_agent_killed_by_signal_n_gives_128_plus_n(tmp_path: Path, number: int) -> None:
    assert run(tmp_path, ["sh", "-c", f"ulimit -c 0; kill -{int(number)} $$"])[0] == 128 + number
    assert Kept(tmp_path).end == {"signal": number}


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        (["no-such-command"], 127, "No such file or directory"),
        (["/no/such/command"], 127, "No such file or directory"),
        (["/etc/passwd/command"], 127, "Not a directory"),
        ([""], 127, "No such file or directory"),
        (["/etc/passwd"], 126, "Permission denied"),
        (["/"], 126, "Permission denied"),
    ],
)
def test_a_command_that_cannot_be_run_is_named_with_the_reason(
    tmp_path: Path, command: list[str], status: int, reason: str
) -> None:
    name = command[0] or "an empty command"
    assert run(tmp_path, command) == (status, b"", f"shipper: cannot run {name}: {reason}.\n")


def test_a_directory_of_path_that_may_not_be_searched_does_not_make_a_command_exist(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As /root/.local/bin in an image that has changed its user: the system says EACCES then."""
    denied = PermissionError(errno.EACCES, "Permission denied")
    assert _cannot_run(["no-such-command"], denied) == 127
    assert _cannot_run(["sh"], denied) == 126
    assert _cannot_run(["/root/no-such-command"], denied) == 126
    assert capfd.readouterr().err.splitlines() == [
        "shipper: cannot run no-such-command: No such file or directory.",
        "shipper: cannot run sh: Permission denied.",
        "shipper: cannot run /root/no-such-command: Permission denied.",
    ]


def test_a_script_without_interpreter_is_not_executable(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    assert run(tmp_path, [str(script)])[0] == 126


def test_without_a_command_the_reason_is_given(tmp_path: Path) -> None:
    status, _, said = run(tmp_path, [])
    assert status == 64
    assert "ENTRYPOINT resets the CMD" in said


def test_run_has_no_options(tmp_path: Path) -> None:
    command = wrapper([])
    command[-1] = "--verbose"
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("shipper: run has no option --verbose;")


def test_only_the_first_dashes_are_ours(tmp_path: Path) -> None:
    assert run(tmp_path, ["printf", "%s,", "--", "-x"])[:2] == (0, b"--,-x,")
    command = wrapper(["printf", "%s,", "a"])
    command.remove("--")
    assert subprocess.run(command, capture_output=True, cwd=tmp_path).stdout == b"a,"


def test_a_directory_that_cannot_be_written_costs_the_journal_and_two_messages(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    status, stdout, said = run(tmp_path, ["sh", "-c", "echo hello; exit 3"], {"sinks": ["datadog"]})
    assert (status, stdout) == (3, b"hello\n")
    line, lost = [line for line in said.splitlines() if "DATADOG_TOKEN" not in line]
    assert lost == "shipper: lost (disk_error), and the providers could not be told: line 1 of stdout."
    assert line.startswith(f"shipper: no journal can be kept in {tmp_path / 'journal'} (")
    assert "set SHIPPER_DIR" in line


@pytest.mark.parametrize(
    "parts",
    [{"raises": [call]} for call in ("load", "open", "append", "end", "put")] + [{"threads": 2}],
    ids=str,
)
def test_a_bug_in_what_we_do_costs_the_agent_nothing(tmp_path: Path, parts: dict[str, object]) -> None:
    status, stdout, said = run(tmp_path, ["sh", "-c", "echo hello; exit 3"], parts)
    assert (status, stdout) == (3, b"hello\n")
    assert "Traceback" not in said
    assert any("a fault in " in line or "no thread" in line for line in said.splitlines())


@pytest.mark.parametrize("threads", [0, 1])
def test_without_threads_the_wrapper_goes_on_as_a_plain_init(tmp_path: Path, threads: int) -> None:
    process = wrap(tmp_path, SIGNALS, {"threads": threads})
    agent = ready_pid(process)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout is not None
    assert process.stdout.readline() == b"10\n"
    os.kill(agent, signal.SIGRTMAX)
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out) == (7, b"64\n")
    assert b"the agent runs on and its output is passed on, no more" in said


def test_a_bug_in_the_main_thread_leaves_the_pumps_and_a_plain_init(tmp_path: Path) -> None:
    process = wrap(tmp_path, SIGNALS, {"raises": ["take"]})
    ready_pid(process)
    said = process.stderr
    assert said is not None
    wait_until(lambda: b"a fault (RuntimeError: a bug): the agent runs on" in said.readline())
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMAX):
        process.send_signal(number)
        assert read_line(process) == str(int(number))
    assert process.wait(30) == 7


def no_descriptors() -> None:
    # Python needs one at a time to start (its modules); our two pipes need four.
    resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))


def test_without_descriptors_the_wrapper_becomes_the_agent(tmp_path: Path) -> None:
    process = wrap(tmp_path, ["sh", "-c", "echo $$; cat; exit 3"], stdin=subprocess.PIPE, preexec_fn=no_descriptors)
    out, said = process.communicate(b"input", timeout=30)
    assert process.returncode == 3
    assert out == b"%d\ninput" % process.pid
    assert said.decode() == (
        "shipper: cannot stand in front of the agent (OSError: Too many open files): "
        "it runs without, nothing is forwarded.\n"
    )


def test_becoming_an_agent_that_cannot_be_run_has_the_same_statuses(tmp_path: Path) -> None:
    assert run(tmp_path, ["no-such-command"], preexec_fn=no_descriptors)[0] == 127
    assert run(tmp_path, ["/etc/passwd"], preexec_fn=no_descriptors)[0] == 126


def test_the_agent_that_takes_our_place_has_the_signals_that_we_received(tmp_path: Path) -> None:
    def prepare() -> None:
        no_descriptors()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    status, seen, _ = run(tmp_path, ["grep", "^Sig[BI]", "/proc/self/status"], preexec_fn=prepare)
    bare = subprocess.run(
        ["grep", "^Sig[BI]", "/proc/self/status"], preexec_fn=prepare, stdout=subprocess.PIPE, check=True
    ).stdout
    assert status == 0
    assert f"SigBlk:\t{1 << signal.SIGUSR2 - 1:016x}\n" in bare.decode()
    assert seen == bare  # whatever the test runner itself came to ignore


def test_the_agent_starts_before_the_settings_and_the_journal(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = wrap(tmp_path, SIGNALS, {"blocks": {"load": str(fifo)}})
    ready_pid(process)  # and what it prints is passed on
    process.send_signal(signal.SIGUSR1)
    assert process.stdout is not None
    assert process.stdout.readline() == b"10\n"
    with fifo.open("w"):
        process.send_signal(signal.SIGRTMAX)
        process.communicate(timeout=30)
    assert process.returncode == 7
    assert Kept(tmp_path).lines[1][1:] == [b"10", b"64"]


def test_a_wrapper_that_is_killed_leaves_what_it_kept(tmp_path: Path) -> None:
    process = wrap(tmp_path, SIGNALS)
    agent = ready_pid(process)
    segments = tmp_path / "journal"
    wait_until(lambda: any(b"ready" in path.read_bytes() for path in segments.rglob("*.seg")), what="the line's frame")
    process.kill()
    process.wait()
    os.kill(agent, signal.SIGKILL)
    process.communicate()
    assert Kept(tmp_path).lines[1] == [b"ready %d" % agent]
    assert Kept(tmp_path).end is None


def test_a_run_says_what_would_turn_forwarding_on(tmp_path: Path) -> None:
    said = run(tmp_path, ["true"])[2]
    assert said == (
        "shipper: nothing is forwarded, for no sink is turned on: set DATADOG_TOKEN for Datadog, AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY for CloudWatch, SENTRY_DSN for Sentry or NEW_RELIC_LICENSE_KEY for New Relic.\n"
    )


def test_pid_1s_room_stays_small() -> None:
    """What must not be imported before the agent runs, nor at all: memory, and milliseconds."""
    script = (
        "import sys; import shipper.supervisor.run; first = set(sys.modules);"
        "import shipper.supervisor.loop, shipper.supervisor.outfit, shipper.supervisor.plain;"
        "print(sorted(first & {'signal', 'threading', 'ctypes', 'select', 'fcntl', 'shipper.messages'}),"
        "sorted(set(sys.modules) & {'signal', 'threading', 'typing', 'dataclasses', 'asyncio', 'logging', 'subprocess',"
        "'inspect', 'socket', 'contextlib', 'pathlib', 'tomllib'}))"
    )
    root = AGENTS.parent.parent
    script = f"import sys; sys.path.append({str(root)!r}); {script}"
    done = subprocess.run([PYTHON, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert done.stdout == "[] []\n", done.stderr
