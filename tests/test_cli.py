"""`shipper COMMAND …` as a user types it: each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shipper import __version__

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = f"import sys; sys.path.append({str(ROOT)!r}); from shipper.__main__ import main; sys.exit(main())"
SHIPPER = [sys.executable, "-P", "-c", LAUNCH]


def shipper(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SHIPPER, *arguments], capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def broken_copy(tmp_path: Path) -> list[str]:
    """A command that starts a copy of the package of which only the entry is there."""
    package = tmp_path / "shipper"
    package.mkdir()
    for name in ("__init__.py", "__main__.py"):
        (package / name).write_bytes((ROOT / "shipper" / name).read_bytes())
    launch = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from shipper.__main__ import main; sys.exit(main())"
    return [sys.executable, "-I", "-c", launch]


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_goes_to_stdout_and_is_a_success(word: str) -> None:
    done = shipper(word)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: shipper COMMAND")
    assert done.stderr == ""


def test_without_a_command_the_help_goes_to_stderr_and_is_a_mistake() -> None:
    done = shipper()
    assert done.returncode == 64
    assert done.stdout == ""
    assert done.stderr == shipper("--help").stdout


@pytest.mark.parametrize("arguments", [("run", "--help"), ("run", "-h"), ("help", "run")])
def test_run_has_a_help_of_its_own(arguments: tuple[str, ...]) -> None:
    done = shipper(*arguments)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: shipper run [--] CMD")


@pytest.mark.parametrize("command", ["logs", "tail", "build", "sandbox"])
def test_every_other_command_has_a_help_of_its_own(command: str) -> None:
    done = shipper(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: shipper ")
    assert shipper("help", command).stdout == done.stdout


def test_help_fits_a_wide_terminal() -> None:
    assert max(len(line) for line in shipper("--help").stdout.splitlines()) <= 120


def test_version_names_the_distribution() -> None:
    done = shipper("--version")
    assert (done.returncode, done.stdout) == (0, f"agent-shipper {__version__}\n")


@pytest.mark.parametrize(
    ("typed", "meant"), [("lgos", "logs"), ("rnu", "run"), ("sandbx", "sandbox"), ("--hlep", "--help"), ("-v", "")]
)
def test_a_mistyped_word_is_answered_with_the_nearest_right_one(typed: str, meant: str) -> None:
    done = shipper(typed)
    assert done.returncode == 64
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert typed in done.stderr
    assert f"did you mean {meant}?" in done.stderr if meant else "--version" in done.stderr


def test_an_agent_s_command_without_run_is_told_how() -> None:
    done = shipper("python", "agent.py", "--api-key=hunter2")
    assert done.returncode == 64
    assert "shipper run -- python" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("command", ["logs", "status", "check", "sandbox"])
def test_a_wrong_option_of_a_command_is_a_wrong_command_line(command: str) -> None:
    done = shipper(command, "--no-such-option")
    assert done.returncode == 64
    assert "--no-such-option" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("run",), ("run", "--")])
def test_run_without_a_command_says_why_there_is_none(arguments: tuple[str, ...]) -> None:
    done = shipper(*arguments)
    assert done.returncode == 64
    assert done.stdout == ""
    assert done.stderr.startswith("shipper: ")
    assert "CMD" in done.stderr


def test_nothing_but_sys_stands_before_the_supervisor() -> None:
    script = (
        f"import sys; sys.path.append({str(ROOT)!r}); before = set(sys.modules); import shipper.__main__; "
        "print(sorted(set(sys.modules) - before))"
    )
    # -S: a virtual environment's .pth files may import some of these themselves.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "['__future__', 'shipper', 'shipper.__main__']\n"


def test_the_supervisor_s_process_imports_none_of_what_is_heavy() -> None:
    heavy = {"typing", "dataclasses", "asyncio", "logging", "subprocess", "inspect", "socket", "contextlib", "pathlib",
             "signal", "tomllib", "argparse", "re", "json"}  # fmt: skip
    script = (
        f"import sys, json; json_was = set(sys.modules); sys.path.append({str(ROOT)!r}); "
        "import shipper.__main__, shipper.supervisor.run; print(json.dumps(sorted(set(sys.modules) - json_was)))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=60)
    assert heavy.isdisjoint(json.loads(done.stdout)), done.stderr


def test_modules_in_the_agent_s_directory_do_not_become_ours(tmp_path: Path) -> None:
    for name in ("select", "threading", "tempfile", "ctypes", "json", "queue", "errno_", "struct", "fcntl"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "SHIPPER_DIR": str(tmp_path / "journal")}
    launch = "from shipper.__main__ import main; import sys; sys.exit(main())"
    command = [sys.executable, "-c", launch, "run", "--", "/bin/sh", "-c", "echo $PYTHONPATH"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}:{ROOT}\n")
    assert "wrong module" not in done.stderr
    assert "cannot work here" not in done.stderr


def test_an_agent_runs_bare_when_the_supervisor_cannot_be_imported(broken_copy: list[str]) -> None:
    done = subprocess.run([*broken_copy, "run", "--", "/bin/sh", "-c", "echo agent; exit 7"], capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert (done.returncode, done.stdout) == (7, "agent\n")
    assert done.stderr.count("\n") == 1
    assert "the agent runs without it" in done.stderr


def test_a_bare_agent_gets_no_signal_disposition_of_python_s(broken_copy: list[str]) -> None:
    done = subprocess.run([*broken_copy, "run", "grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True,
                          timeout=60)  # fmt: skip
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


@pytest.mark.parametrize(("command", "status"), [("no-such-command", 127), ("/", 126)])
def test_a_bare_agent_that_cannot_be_started_has_the_shell_s_status(
    broken_copy: list[str], command: str, status: int
) -> None:
    done = subprocess.run([*broken_copy, "run", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    assert done.stderr.splitlines()[-1].startswith(f"shipper: cannot run {command}: ")


def test_a_fault_of_ours_is_one_sentence_and_no_traceback(broken_copy: list[str]) -> None:
    done = subprocess.run([*broken_copy, "logs"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 70
    assert done.stderr.startswith("shipper: logs ended on a fault (")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([*SHIPPER, "--help"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_output_that_cannot_be_written_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*SHIPPER, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 70
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_closed_streams_are_no_error() -> None:
    done = subprocess.run(["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", *SHIPPER, "--help"], timeout=60)
    assert done.returncode == 0
    done = subprocess.run(["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", *SHIPPER, "nonsense"], timeout=60)
    assert done.returncode == 64
