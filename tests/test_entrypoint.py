"""entrypoint.sh under real shells, with whatever PATH may hold: the agent starts, wrapped where that is possible."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = str(ROOT / "entrypoint.sh")
BUSYBOX = shutil.which("busybox")

SHELLS = [
    pytest.param(["/bin/sh"], id="sh"),
    pytest.param(
        [BUSYBOX or "", "sh"], id="busybox", marks=pytest.mark.skipif(not BUSYBOX, reason="busybox is not installed")
    ),
]
every_shell = pytest.mark.parametrize("shell", SHELLS)

WHO = 'echo "pid $$ parent $PPID"; read line; echo "read $line"; exit 7'
"""An agent that says who it is and what it read from stdin."""

BARE = "so the agent runs without it and nothing is forwarded."

needs_no_installed_one = pytest.mark.skipif(
    os.path.exists("/opt/shipper/bin/shipper"), reason="this machine has the package under /opt/shipper"
)


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    """A PATH's only directory, with what the agents here need."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "cat").symlink_to(shutil.which("cat") or "/bin/cat")
    return directory


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def working_shipper(directory: Path) -> None:
    """What pip puts on PATH."""
    launch = f"import sys\nsys.path.append({str(ROOT)!r})\nfrom shipper.__main__ import main\nsys.exit(main())\n"
    script(directory / "shipper", f"#!{sys.executable} -P\n{launch}")


def start(shell: list[str], directory: Path, *command: str, python_path: str = "") -> tuple[int, int, str, str]:
    """Runs entrypoint.sh to its end: its pid, its status, stdout, stderr."""
    environment = {"PATH": str(directory), "SHIPPER_DIR": str(directory.parent / "journal")}
    if python_path:
        environment["PYTHONPATH"] = python_path
    process = subprocess.Popen(
        [*shell, SCRIPT, *command], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    out, err = process.communicate("the agent's own input\n", timeout=60)
    return process.pid, process.returncode, out, err


def assert_bare(pid: int, status: int, out: str, err: str) -> None:
    """The agent took the script's place and nothing but one line of ours was added."""
    assert status == 7
    assert out.splitlines() == [f"pid {pid} parent {os.getpid()}", "read the agent's own input"]
    assert err.startswith("shipper: ")
    assert err.endswith(BARE + "\n")
    assert err.count("\n") == 1


def assert_wrapped(pid: int, status: int, out: str, err: str) -> None:
    """The wrapper took the script's place, and the agent is its child."""
    assert status == 7
    assert out.splitlines()[0].endswith(f"parent {pid}")
    assert out.splitlines()[1:] == ["read the agent's own input"]
    assert BARE not in err


@every_shell
def test_a_shipper_on_path_wraps_the_agent_and_no_shell_stays_between(shell: list[str], bin_directory: Path) -> None:
    working_shipper(bin_directory)
    assert_wrapped(*start(shell, bin_directory, "/bin/sh", "-c", WHO))


@every_shell
@needs_no_installed_one
def test_a_python_that_has_the_package_will_do(shell: list[str], bin_directory: Path) -> None:
    (bin_directory / "python3").symlink_to(sys.executable)
    assert_wrapped(*start(shell, bin_directory, "/bin/sh", "-c", WHO, python_path=str(ROOT)))


@every_shell
@needs_no_installed_one
@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param({}, id="nothing on PATH"),
        pytest.param({"shipper": "#!/no/such/python3\n"}, id="interpreter missing"),
        pytest.param({"shipper": "#!/bin/sh\nexit 1\n"}, id="broken package"),
        pytest.param({"shipper": "#!/bin/sh\nkill -9 $$\n"}, id="crashes"),
        pytest.param({"shipper": "#!/bin/sh\necho shipper 4.5\n"}, id="another program of that name"),
        pytest.param({"shipper": "\x7fELF nonsense"}, id="for another machine"),
        pytest.param({"shipper": "#!/bin/sh\ncat >&2; exit 1\n"}, id="reads stdin"),
        pytest.param({"python3": "#!/bin/sh\necho Unknown option: -P >&2; exit 2\n"}, id="Python too old"),
        pytest.param({"python3": "#!/bin/sh\nexit 1\n", "python": "#!/no/such\n"}, id="no package"),
    ],
)
def test_whatever_is_wrong_with_shipper_the_agent_runs_bare(
    shell: list[str], bin_directory: Path, hostile: dict[str, str]
) -> None:
    for name, text in hostile.items():
        script(bin_directory / name, text)
    assert_bare(*start(shell, bin_directory, "/bin/sh", "-c", WHO))


@every_shell
@needs_no_installed_one
def test_a_python_under_another_name_is_found_behind_a_broken_one(shell: list[str], bin_directory: Path) -> None:
    script(bin_directory / "shipper", "#!/no/such/python3\n")
    script(bin_directory / "python3", "#!/bin/sh\nexit 1\n")
    (bin_directory / "python").symlink_to(sys.executable)
    assert_wrapped(*start(shell, bin_directory, "/bin/sh", "-c", WHO, python_path=str(ROOT)))


@every_shell
def test_without_a_command_it_says_why_and_ends_with_64(shell: list[str], bin_directory: Path) -> None:
    _, status, out, err = start(shell, bin_directory)
    assert (status, out) == (64, "")
    assert err.startswith("shipper: ")
    assert "CMD" in err
    assert err.count("\n") == 1


@every_shell
@needs_no_installed_one
def test_arguments_arrive_as_they_were(shell: list[str], bin_directory: Path) -> None:
    arguments = ["", " a  b ", "*", "$HOME", "'", '"', "\\", "--", "-n", "é\n"]
    show = f"#!{sys.executable} -I\nimport sys\nprint(ascii(sys.argv[1:]))\n"
    script(bin_directory / "show", show)
    assert start(shell, bin_directory, "show", *arguments)[2] == f"{arguments!a}\n"
    working_shipper(bin_directory)
    assert start(shell, bin_directory, "show", *arguments)[2] == f"{arguments!a}\n"


@needs_no_installed_one
@pytest.mark.parametrize(("command", "status"), [("no-such-command", 127), ("/", 126)])
def test_a_command_that_cannot_be_started_has_the_shell_s_status(
    bin_directory: Path, command: str, status: int
) -> None:
    assert start(["/bin/sh"], bin_directory, command)[1] == status
    working_shipper(bin_directory)
    assert start(["/bin/sh"], bin_directory, command)[1] == status
