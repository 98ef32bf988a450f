"""`shipper build`: the step as it would be without, its output kept and shown by `shipper logs --log-type=build`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shipper.commands.buildlog import HEAD_BYTES, KEPT_VERSIONS, TAIL_BYTES, name_of, shown
from tests.e2e.wrapped import children
from tests.helpers import wait_until
from tests.supervisor.wrapping import Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
SHIPPER = [sys.executable, "-m", "shipper"]
TITLE = re.compile(r"# step (\d+) of (\d+): \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, (.*): (.*)")
SECRET = "abcdefghijklmnop1234567890"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "build"


def environ(place: Path | None, **more: str) -> dict[str, str]:
    names = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    names |= {"PYTHONPATH": str(ROOT), "TZ": "UTC"} | more
    return names if place is None else names | {"SHIPPER_BUILD_DIR": str(place)}


def build(place: Path | None, *arguments: str, options: Sequence[str] = (), env: dict[str, str] | None = None,
          **more: Any) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
    command = [*SHIPPER, "build", *options, "--", *arguments]
    return subprocess.run(command, env=environ(place, **(env or {})), capture_output=True, timeout=60, **more)


def logs(place: Path | None, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [*SHIPPER, "logs", "--log-type=build", *options]
    return subprocess.run(command, env=environ(place, **env), capture_output=True, text=True, timeout=60)


def titles(place: Path) -> list[tuple[str, str]]:
    """How each step ended, and its command."""
    found = [TITLE.fullmatch(line) for line in logs(place).stdout.splitlines() if line.startswith("# step")]
    return [(title[3], title[4]) for title in found if title is not None]


def values(place: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_bytes()) for file in sorted(place.glob("*/*.json"))]


def started(place: Path, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*SHIPPER, "build", "--", *arguments], env=environ(place), **more)


def test_steps_are_passed_through_and_kept_with_command_time_and_status(place: Path) -> None:
    before = time.time()
    one = build(place, "sh", "-c", "echo out; echo err >&2")
    assert (one.returncode, one.stdout, one.stderr) == (0, b"out\n", b"err\n")
    two = build(place, "sh", "-c", "printf 'no newline'; exit 3")
    assert (two.returncode, two.stdout, two.stderr) == (3, b"no newline", b"")
    build(place, "true")
    text = logs(place).stdout
    shown = re.sub(r"20\S+ \S+, \d+\.\d s", "WHEN", text).splitlines()
    shown[1:3] = sorted(shown[1:3])  # of two pipes, written to at nearly the same moment
    assert shown == [
        "# step 1 of 3: WHEN, status 0: sh -c 'echo out; echo err >&2'", "err", "out",
        "# step 2 of 3: WHEN, status 3: sh -c 'printf '\"'\"'no newline'\"'\"'; exit 3'", "no newline",
        "# step 3 of 3: WHEN, status 0: true",
    ]  # fmt: skip
    (first, *_) = values(place)
    assert before <= first["started"] <= time.time()
    assert 0 <= first["duration"] < 60
    assert first["bytes"] == 8


def test_both_streams_keep_their_exact_order_where_they_go_to_one_place(place: Path) -> None:
    script = "for n in 1 2 3 4 5 6 7 8 9; do echo $n; echo $n >&2; done"
    with started(place, "sh", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        out, _ = process.communicate(timeout=60)
    assert out.split() == [b"%d" % (n // 2) for n in range(2, 20)]
    assert logs(place).stdout.encode().endswith(out)


@pytest.mark.parametrize(
    ("command", "status", "how", "says"),
    [
        (["sh", "-c", "kill -9 $$"], 137, "ended by signal 9", ""),
        (["sh", "-c", "kill -TERM $$"], 143, "ended by signal 15", ""),
        (["no-such-command"], 127, "status 127", "shipper: cannot run no-such-command: No such file or directory\n"),
        (["/"], 126, "status 126", "shipper: cannot run /: Permission denied\n"),
        ([""], 127, "status 127", "shipper: cannot run an empty command: No such file or directory\n"),
    ],
)
def test_the_status_is_the_step_s(place: Path, command: list[str], status: int, how: str, says: str) -> None:
    done = build(place, *command)
    assert (done.returncode, done.stderr.decode()) == (status, says)
    ((ended, _),) = titles(place)
    assert ended.partition(", ")[2] == how


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "build needs a command"),
        (["--"], "build needs a command"),
        (["--verison", "1", "--", "true"], "build has no option --verison"),
        (["--version"], "--version needs a version"),
        (["--version=", "true"], "--version cannot be that"),
        (["--version", "a\nb", "true"], "--version cannot be that"),
    ],
)
def test_a_wrong_command_line_is_a_sentence(place: Path, arguments: list[str], says: str) -> None:
    done = subprocess.run([*SHIPPER, "build", *arguments], env=environ(place), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith(f"shipper: {says}")
    assert done.stderr.count("\n") == 1
    assert not place.exists()


def test_the_step_s_environment_and_descriptors_are_what_they_would_be_without(place: Path) -> None:
    script = "env | grep -v -e '^_=' -e '^PWD=' -e SHLVL; ls /proc/self/fd; cat; umask; kill -PIPE $$"
    bare = subprocess.run(["sh", "-c", script], env=environ(place), input=b"in\n", capture_output=True)
    done = build(place, "sh", "-c", script, input=b"in\n")
    assert sorted(done.stdout.split(b"\n")) == sorted(bare.stdout.split(b"\n"))
    assert (done.returncode, bare.returncode) == (128 + signal.SIGPIPE, -signal.SIGPIPE)


def test_a_signal_is_handed_on(place: Path) -> None:
    script = "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with started(place, "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert [how.partition(",")[0] for how, _ in titles(place)] == ["is running"]
        process.terminate()
        assert process.wait(20) == 5
    assert "told" in logs(place).stdout


def test_ctrl_c_at_a_terminal_comes_once(tmp_path: Path, place: Path) -> None:
    script = "trap 'echo told' INT; echo ready; while ! [ -e $0 ]; do sleep 0.05; done; exit 6"
    go = tmp_path / "go"
    command = [
        "env",
        f"SHIPPER_BUILD_DIR={place}",
        f"PYTHONPATH={ROOT}",
        *SHIPPER,
        "build",
        "sh",
        "-c",
        script,
        str(go),
    ]
    terminal = Terminal(tmp_path, command)
    try:
        terminal.expect("ready\r\n")
        terminal.type(b"\x03")
        terminal.expect("told\r\n")
        go.touch()
        assert terminal.process.wait(20) == 6
        assert "told" not in terminal.rest()
    finally:
        terminal.close()


def test_what_it_leaves_running_does_not_hold_the_step_up(place: Path) -> None:
    began = time.monotonic()
    done = build(place, "sh", "-c", "sleep 30 & echo done")
    assert (done.returncode, done.stdout) == (0, b"done\n")
    assert time.monotonic() - began < 20


def test_a_reader_that_goes_away_ends_the_step_as_it_would_without(place: Path) -> None:
    with started(place, "yes", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(20) == 128 + signal.SIGPIPE


def test_a_slow_reader_gets_all_however_long_ago_the_step_ended(place: Path) -> None:
    code = (
        "import os, sys\nfrom shipper.commands import build\nbuild.LINGER_SECONDS = 0.2\n"
        "sys.exit(build.main(sys.argv[1:], os.environ))"
    )
    command = [sys.executable, "-c", code, "seq", "1", "20000"]  # 109 KB: two pipes hold it, one does not
    with subprocess.Popen(command, env=environ(place), stdout=subprocess.PIPE) as process:
        wait_until(lambda: titles(place) and not children(process.pid), what="the step's end")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        assert process.stdout is not None
        assert process.stdout.read().endswith(b"\n19999\n20000\n")
        assert process.wait(20) == 0


def test_much_output_is_passed_through_whole_and_kept_from_both_ends(place: Path) -> None:
    first, last = 10_000_000, 22_000_000  # 108 MB
    size, end = 0, b""
    with started(place, "seq", str(first), str(last), stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        while part := process.stdout.read(1 << 20):
            size += len(part)
            end = part
    assert process.returncode == 0
    assert size == 9 * (last - first + 1)
    assert end.endswith(b"%d\n" % last)
    (log,) = place.glob("*/*.log")
    kept = log.read_bytes()
    assert HEAD_BYTES + TAIL_BYTES // 2 < len(kept) <= HEAD_BYTES + TAIL_BYTES + 100
    assert kept.startswith(b"%d\n%d\n" % (first, first + 1))
    assert kept.endswith(b"%d\n" % last)
    (told,) = re.finditer(rb"\n\[shipper: ([\d,]+) bytes of output are not kept here\]\n", kept)
    assert int(told[1].replace(b",", b"")) == size - (len(kept) - len(told[0]))
    assert not list(place.glob("*/*.tail*"))
    assert logs(place, "-n", "2").stdout.splitlines()[1:] == [str(last - 1), str(last)]


def test_a_progress_bar_is_passed_through_as_it_moves_and_kept(place: Path) -> None:
    script = "printf '10%%\\r'; while ! [ -e $0 ]; do sleep 0.05; done; printf '100%%\\r'"
    go = place.parent / "go"
    with started(place, "sh", "-c", script, str(go), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"10%\r"
        go.touch()
        assert process.stdout.read() == b"100%\r"
    (log,) = place.glob("*/*.log")
    assert log.read_bytes() == b"10%\r100%\r"


def test_steps_that_run_at_once_are_kept_apart(place: Path) -> None:
    running = [
        started(place, "sh", "-c", f"echo {n}; sleep 0.2; echo {n}", stdout=subprocess.DEVNULL) for n in range(8)
    ]
    assert [process.wait(60) for process in running] == [0] * 8
    texts = sorted(log.read_text() for log in place.glob("unversioned/*.log"))
    assert texts == [f"{n}\n{n}\n" for n in range(8)]
    assert len(titles(place)) == 8


def test_a_new_version_starts_afresh_and_is_the_one_shown(place: Path) -> None:
    for version, word in (("1.0", "a"), ("1.0", "b"), ("release/2 ü", "c"), ("1.0", "d")):
        assert build(place, "echo", word, options=["--version", version]).returncode == 0
    assert [command for _, command in titles(place)] == ["echo a", "echo b", "echo d"]
    build(place, "echo", "e", env={"SHIPPER_BUILD_VERSION": "release/2 ü"})
    assert [command for _, command in titles(place)] == ["echo c", "echo e"]
    for n in range(KEPT_VERSIONS):
        build(place, "echo", str(n), options=[f"--version=n{n}"])
    assert len(list(place.iterdir())) == KEPT_VERSIONS
    assert [command for _, command in titles(place)] == [f"echo {KEPT_VERSIONS - 1}"]


def elsewhere(env: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Where /usr/share/shipper/build cannot be written, which root, who may do everything, must be told otherwise."""
    code = (
        "import os, sys\nfrom shipper.commands import build, buildlog\n"
        "build.IMAGE_PLACE = buildlog.IMAGE_PLACE = '/dev/null/build'\n"
        "sys.exit(build.main(sys.argv[1:], os.environ))"
    )
    program = [sys.executable, "-c", code, *command]
    return subprocess.run(program, env=environ(None, **env), capture_output=True, text=True, timeout=60)


def test_on_a_host_each_call_without_a_version_is_one(tmp_path: Path) -> None:
    place = tmp_path / "state/build"
    for word in ("one", "two"):
        done = elsewhere({"SHIPPER_DIR": str(tmp_path / "state")}, "echo", word)
        assert (done.returncode, done.stderr) == (0, "")
    assert [command for _, command in titles(place)] == ["echo two"]
    assert len(list(place.iterdir())) == 2
    assert "echo two" in logs(None, SHIPPER_DIR=str(tmp_path / "state")).stdout


@pytest.mark.parametrize("umask", [0o077, 0o777])
def test_whoever_comes_later_may_read_it(place: Path, umask: int) -> None:
    if umask == 0o777 and os.geteuid():
        pytest.skip("nobody but root can write where nobody may")
    deep = place / "a" / "b"
    build(deep, "echo", "hi", preexec_fn=lambda: os.umask(umask))
    modes = {path.name: path.stat().st_mode & 0o777 for path in place.rglob("*")}
    assert modes == {"a": 0o755, "b": 0o755, "unversioned": 0o755, "0001.json": 0o644, "0001.log": 0o644}


def test_where_nothing_can_be_kept_the_step_runs_and_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = build(tmp_path / "file" / "build", "sh", "-c", "echo hi; exit 3")
    assert (done.returncode, done.stdout) == (3, b"hi\n")
    assert done.stderr.decode() == (
        f"shipper: no build log can be kept ({tmp_path}/file/build: Not a directory): the step runs without; "
        "make that directory writable or set SHIPPER_BUILD_DIR\n"
    )
    none = logs(tmp_path / "file" / "build")
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr.startswith("shipper: there is no build log in ")


def test_a_disk_that_fills_up_ends_the_keeping_and_not_the_step(place: Path) -> None:
    def no_large_files() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = build(place, "sh", "-c", "seq 1 100000; echo end", preexec_fn=no_large_files)
    assert (done.returncode, done.stdout[-11:]) == (0, b"100000\nend\n")
    assert done.stderr.decode() == (
        "shipper: the build log is not kept any further (File too large): the step goes on\n"
    )
    ((how, _),) = titles(place)
    assert how.partition(", ")[2] == "not all kept, status 0"
    assert "\n1\n2\n3\n" in logs(place).stdout


def test_a_wrong_directory_and_version_are_named(tmp_path: Path) -> None:
    env = {"SHIPPER_BUILD_DIR": "here", "SHIPPER_DIR": str(tmp_path / "state"), "SHIPPER_BUILD_VERSION": "x" * 200}
    done = elsewhere(env, "true")
    assert done.returncode == 0
    version, directory = done.stderr.splitlines()
    assert version == (
        "shipper: SHIPPER_BUILD_VERSION cannot be used (a version is 1 to 100 printable characters): "
        "the step is kept without one"
    )
    assert directory == (
        'shipper: SHIPPER_BUILD_DIR is "here", allowed is a path that begins with /: the default places are used'
    )


def test_a_step_that_was_killed_shows_what_it_had_printed(place: Path) -> None:
    with started(place, "sh", "-c", "echo one; echo $$; exec sleep 60", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"one\n"
        step = int(process.stdout.readline())
        process.kill()
        os.kill(step, signal.SIGKILL)
    wait_until(lambda: titles(place)[0][0] == "did not end: it was killed", what="the lock's end")
    assert "one\n" in logs(place).stdout


def test_secrets_of_the_environment_are_not_kept(place: Path) -> None:
    halves = SECRET[:10], SECRET[10:]
    script = f"echo $MY_TOKEN; printf {halves[0]}; sleep 0.2; echo {halves[1]}; printf x{halves[0]}; exit 1"
    done = build(place, "sh", "-c", script, SECRET, env={"MY_TOKEN": SECRET})
    assert done.stdout.decode() == f"{SECRET}\n{SECRET}\nx{halves[0]}"
    text = logs(place).stdout
    assert SECRET not in text
    assert text.splitlines()[1:] == ["[MASKED]", "[MASKED]", f"x{halves[0]}"]
    assert all(SECRET.encode() not in file.read_bytes() for file in place.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (["pip", "install", "a b"], "pip install 'a b'"),
        (["docker", "build", "--build-arg", "NPM_TOKEN=abc", "."], "docker build --build-arg 'NPM_TOKEN=[MASKED]' ."),
        (["npm", "--auth-token", "abc", "--password=x", "ci"], "npm --auth-token [MASKED] '--password=[MASKED]' ci"),
        (["npm", "--token", "--verbose"], "npm --token --verbose"),
        (["sh", "-c", "A=1; API_KEY='a b' cmd && x"], "sh -c 'A=1; API_KEY=[MASKED] cmd && x'"),
        (["pip", "-i", "https://u:p@host/simple"], "pip -i 'https://u:[MASKED]@host/simple'"),
        (["echo", f"a {SECRET} b"], "echo 'a [MASKED] b'"),
        (["sh", "-c", "a\nb"], "sh -c 'a\\nb'"),
    ],
)
def test_a_command_is_shown_without_what_is_secret_in_it(command: list[str], kept: str) -> None:
    assert shown(command, [SECRET]) == kept


@pytest.mark.parametrize("version", ["", "a" * 101, "\x00", "a\nb", "ü" * 60])
def test_what_is_no_version(version: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        name_of(version)


@pytest.mark.parametrize("version", ["..", ".", "../../etc", "a/b", "%2E", "unversioned", "v1.2-rc+3_4"])
def test_a_version_is_one_directory_whatever_it_is_called(version: str) -> None:
    name = name_of(version)
    assert "/" not in name
    assert not name.startswith(".")


def test_names_of_versions_differ_where_versions_do() -> None:
    versions = ["..", "%2E.", "a/b", "a%2Fb", "a b", "ab"]
    assert len({name_of(version) for version in versions}) == len(versions)


def test_the_last_lines_over_several_steps(place: Path) -> None:
    for n in range(3):
        build(place, "seq", str(10 * n), str(10 * n + 2))
    text = logs(place, "-n", "4").stdout.splitlines()
    assert [line for line in text if not line.startswith("# ")] == ["12", "20", "21", "22"]
    assert [line[:13] for line in text if line.startswith("# ")] == ["# step 2 of 3", "# step 3 of 3"]
    assert logs(place, "-n", "0").stdout.splitlines()[1:] == []
    followed = logs(place, "-f")
    assert (followed.returncode, followed.stderr.count("\n")) == (64, 1)


def test_files_that_are_none_of_ours_are_passed_over(place: Path) -> None:
    build(place, "echo", "hi")
    (place / "unversioned/0002.json").write_text("{")
    (place / "unversioned/0003.json").write_text('{"started": "x", "command": "c"}')
    (place / "unversioned/0004.json").write_text('{"started": 1e999, "command": "c"}')
    (place / "unversioned/x.json").write_text("[]")
    (place / "other").mkdir()
    (place / "file").write_text("")
    assert [command for _, command in titles(place)] == ["echo hi"]
