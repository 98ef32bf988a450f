"""`shipper logs`: the journal's lines as printed, beside a running agent and after its end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from shipper.commands import seeking
from shipper.commands.finding import candidates, newest_run
from shipper.journal.notes import Noter
from shipper.journal.numbering import summarize
from tests.delivery.delivery_helpers import MIB, NOW_NS, begin_run, end_run
from tests.e2e.wrapped import ROOT, Wrapper, printing
from tests.helpers import wait_until
from tests.journal.journal_model import numbered, read_all

if TYPE_CHECKING:
    from pathlib import Path


def logs(directory: Path, *options: str, **more: object) -> subprocess.CompletedProcess[bytes]:
    environ = {**os.environ, "SHIPPER_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "shipper", "logs", *options]
    return subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False, **more)  # type: ignore[call-overload, no-any-return]


def test_the_last_lines_come_as_they_were_printed_in_the_order_in_which_they_were_read(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    printed = []
    for n in range(300):
        line = b"line %d \xff\x00 \x1b[31mred\x1b[0m" % n
        printed.append(line)
        run.append([(1 + n % 2, NOW_NS + n, n, line + b"\n")])
    end_run(run)
    assert logs(tmp_path).stdout.split(b"\n")[:-1] == printed[-100:]
    assert logs(tmp_path, "-n", "7").stdout.split(b"\n")[:-1] == printed[-7:]
    assert logs(tmp_path, "-n", "1000").stdout.split(b"\n")[:-1] == printed
    assert logs(tmp_path, "-n", "0").stdout == b""


def test_the_last_lines_are_found_over_segments(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path), max_bytes=MIB)
    printed = [b"%d %s" % (n, b"." * 400) for n in range(2000)]
    for n, line in enumerate(printed):
        run.append([(1, NOW_NS + n, n, line + b"\n")])
    for count in (1, 10, 150, 400, 1234):
        assert logs(tmp_path, "-n", str(count)).stdout.split(b"\n")[:-1] == printed[-count:]
    os.close(run.lock_fd)


def test_going_back_gives_more_each_time_until_it_is_all(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path), max_bytes=MIB)
    printed = []
    for n in range(4000):
        printed.append(b"%d %s" % (n, b"." * (n % 400)))
        run.append([(1, NOW_NS + n, n, printed[-1] + b"\n")])
    before = 0
    ends = []
    for state, everything in seeking.backwards(run.path):
        items, _ = read_all(run.path, state)
        found = [line for _, line, _ in numbered(items, 1)]
        assert found == printed[-len(found) :]
        assert len(found) > before
        before = len(found)
        ends.append(everything)
    assert ends == [False] * (len(ends) - 1) + [True]
    assert len(ends) > 2
    os.close(run.lock_fd)


def test_a_line_longer_than_the_limit_comes_in_one_piece(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    whole = b"x" * 600_000
    for start in range(0, len(whole), 60_000):
        run.append([(1, NOW_NS, 0, whole[start : start + 60_000])])
    run.append([(1, NOW_NS, 0, b"\nnext\n")])
    end_run(run)
    assert logs(tmp_path).stdout == whole + b"\nnext\n"


TRACE = b'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nValueError: no\n'
SECOND = 10**9


def story(directory: Path) -> None:
    """A minute of a run of two calls, one line a second."""
    run = begin_run(str(directory))
    printed = [
        (1, b"plain\n"),
        (1, HELLO),
        (2, b"\n"),
        (2, TRACE),
        (1, SLOW),
        (1, b"last\n"),
    ]
    for number, (stream, data) in enumerate(printed):
        run.append([(stream, NOW_NS + number * SECOND, number, data)])
    end_run(run)


def moment(second: float) -> str:
    return datetime.fromtimestamp(NOW_NS / SECOND + second, UTC).isoformat()


HELLO = b'{"message":"hello","level":"INFO","name":"app","job_id":"AJ_1","room":"r 1","n":3}\n'
SLOW = b'{"level":40,"time":1764557000000,"jobId":"AJ_2","msg":"slow"}\n'


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--stream", "stderr"], b"\n" + TRACE),
        (["--level", "error"], TRACE),
        (["--level", "warn"], TRACE + SLOW),
        (["--job", "AJ_2"], SLOW),
        (["--job", "AJ"], b""),
        (["--grep", "line 1"], TRACE),
        (["--grep", "^pl"], b"plain\n"),
        (["--until", moment(0.5)], b"plain\n"),
        (["--since", moment(0.5), "--until", moment(2.5)], HELLO + b"\n"),
        (["--since", moment(3.5), "-n", "1"], b"last\n"),
        (["--since", moment(3.5)], SLOW + b"last\n"),
        (["-n", "1", "--level", "error"], TRACE),
        (["-n", "2"], SLOW + b"last\n"),
        (["-n", "all", "--log-type", "deploy"], b"plain\n" + HELLO + b"\n" + TRACE + SLOW + b"last\n"),
    ],
    ids=str,
)
def test_what_is_shown_can_be_chosen(tmp_path: Path, options: list[str], shown: bytes) -> None:
    story(tmp_path)
    done = logs(tmp_path, *options)
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", shown)


def test_json_has_what_the_providers_get(tmp_path: Path) -> None:
    story(tmp_path)
    objects = [json.loads(line) for line in logs(tmp_path, "--json").stdout.splitlines()]
    assert [found["seq"] for found in objects if found["stream"] == "stdout"] == [1, 2, 3, 4]
    assert objects[1] == {
        "time": "2026-11-24T04:36:41.000Z", "level": "info", "stream": "stdout", "message": "hello", "seq": 2,
        "name": "app", "job_id": "AJ_1", "room": "r 1", "n": 3,
    } | {"time": objects[1]["time"]}  # fmt: skip
    trace = next(found for found in objects if found["stream"] == "stderr" and found["message"])
    assert trace["level"] == "error"
    assert trace["message"] == TRACE.decode().rstrip("\n")
    assert trace["lines"] == 4


def on_a_terminal(directory: Path, *options: str, **environ: str) -> str:
    """What a terminal gets."""
    terminal, other = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "shipper", "logs", *options],
            env={**os.environ, "SHIPPER_DIR": str(directory), "PYTHONPATH": str(ROOT), "TERM": "xterm", **environ},
            stdin=subprocess.DEVNULL,
            stdout=other,
        )
    finally:
        os.close(other)
    shown = b""
    try:
        while block := os.read(terminal, 1 << 16):
            shown += block
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(terminal)
    assert process.wait(30) == 0
    return shown.decode().replace("\r\n", "\n")


def test_on_a_terminal_lines_are_coloured_and_json_is_for_people(tmp_path: Path) -> None:
    story(tmp_path)
    shown = on_a_terminal(tmp_path, TZ="UTC").split("\n")
    assert shown[0] == "plain"
    assert '\x1b[32mINFO    \x1b[0m \x1b[36mapp\x1b[0m hello \x1b[2mjob_id=AJ_1 room="r 1" n=3\x1b[0m' in shown[1]
    assert any(line.startswith("\x1b[31mTraceback") for line in shown)
    assert any("\x1b[33mWARNING \x1b[0m slow" in line for line in shown)


@pytest.mark.parametrize(
    ("options", "environ"), [(["--no-color"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})]
)
def test_no_colours_where_none_are_wanted(tmp_path: Path, options: list[str], environ: dict[str, str]) -> None:
    story(tmp_path)
    shown = on_a_terminal(tmp_path, *options, **environ)
    assert "\x1b" not in shown
    assert ' INFO     app hello job_id=AJ_1 room="r 1" n=3\n' in shown


def test_raw_is_the_agents_bytes_on_a_terminal_too(tmp_path: Path) -> None:
    story(tmp_path)
    assert on_a_terminal(tmp_path, "--raw").encode() == logs(tmp_path).stdout


def test_times_on_a_terminal_are_local(tmp_path: Path) -> None:
    story(tmp_path)
    there = on_a_terminal(tmp_path, "--no-color", "--grep", "hello", TZ="Asia/Tokyo")
    here = on_a_terminal(tmp_path, "--no-color", "--grep", "hello", TZ="UTC")
    hours = [datetime.fromisoformat(shown[:23]) for shown in (there, here)]
    assert hours[0] - hours[1] == timedelta(hours=9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--since", "yesterday"], "--since: 'yesterday' is not a time such as 10m"),
        (["--level", "loud"], "--level: 'loud' is none of trace, debug, info"),
        (["--grep", "("], "--grep: '(' is not a regular expression"),
        (["-n", "few"], "-n/--lines: 'few' is not a number of lines"),
        (["--stream", "stdin"], "--stream: invalid choice"),
        (["--folow"], "there is no option --folow, did you mean --follow?"),
        (["extra"], "unrecognized arguments: extra"),
    ],
    ids=str,
)
def test_a_wrong_option_is_said_in_a_sentence(tmp_path: Path, options: list[str], said: str) -> None:
    done = logs(tmp_path, *options)
    assert (done.returncode, done.stdout) == (64, b"")
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_it_without_a_word(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    for n in range(200):
        run.append([(1, NOW_NS + n, n, b"x" * 1000 + b"\n")])
    end_run(run)
    environ = {**os.environ, "SHIPPER_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = f"{sys.executable} -m shipper logs -n all | head -n 1"
    done = subprocess.run(["sh", "-c", command], env=environ, capture_output=True, timeout=60, check=False)
    assert done.stdout == b"x" * 1000 + b"\n"
    assert done.stderr == b""


def test_a_moment_is_found_by_seeking_and_nothing_of_it_is_missed(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path), max_bytes=4 * MIB)
    for n in range(6000):
        run.append([(1 + n % 2, NOW_NS + n * SECOND, n, b"%d %s\n" % (n, b"." * 400))])
    os.close(run.lock_fd)
    newest = 6000
    for first in (5999, 5500, 4000, 3000):
        state = seeking.since(run.path, NOW_NS + first * SECOND)
        items, _ = read_all(run.path, state)
        found = sorted(int(line.split()[0]) for stream in (1, 2) for _, line, _ in numbered(items, stream))
        assert found[-(newest - first) :] == list(range(first, newest))
        assert len(found) < newest - first + 1500  # half a MiB more at most


def test_following_keeps_a_traceback_together_and_lets_it_go_after_a_second(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "print('Traceback (most recent call last):', file=sys.stderr, flush=True)\n"
        "print('  File \"x.py\", line 1, in f', file=sys.stderr, flush=True)\n"
        "print('out', flush=True)\ntime.sleep(0.4)\n"
        "print('    g()\\nValueError: no', file=sys.stderr, flush=True)\n"
        "time.sleep(60)\n"
    )
    directory = tmp_path / "journal"
    with Wrapper(directory, printing(code), None) as wrapper:
        environ = {**os.environ, "SHIPPER_DIR": str(directory), "PYTHONPATH": str(ROOT)}
        wait_until(lambda: newest_run([str(directory)]) is not None, what="the journal")
        follower = subprocess.Popen(
            [sys.executable, "-u", "-m", "shipper", "logs", "-f", "--level", "error"],
            env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert follower.stdout is not None
        got = [follower.stdout.readline() for _ in range(4)]  # though the agent lives on and prints nothing more
        assert got[-1] == b"ValueError: no\n"
        wrapper.process.send_signal(signal.SIGKILL)
        follower.kill()
        follower.communicate()


def test_a_loss_is_said_where_it_is(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    run.append([(1, NOW_NS, 0, b"one\n")])
    run.skip(1, summarize(b"two\nthree\n", 1 << 18), NOW_NS + 1, 0, "journal_stalled")
    run.append([(1, NOW_NS + 2, 0, b"four\n")])
    end_run(run)
    done = logs(tmp_path)
    assert done.stdout == b"one\nfour\n"
    assert b"2 lines are missing here in stdout (journal_stalled)" in done.stderr


def test_following_shows_a_snapshot_then_what_comes_and_how_it_ended(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\nprint('before', flush=True)\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
        "print('after', flush=True)\nprint('end', file=sys.stderr)\nsys.exit(4)\n"
    )
    directory, go = tmp_path / "journal", tmp_path / "go"
    with Wrapper(directory, printing(code, str(go)), None) as wrapper:
        wait_until(lambda: wrapper.stdout == b"before\n", what="the first line")
        environ = {**os.environ, "SHIPPER_DIR": str(directory), "PYTHONPATH": str(ROOT)}
        with open(tmp_path / "followed", "wb") as out:
            follower = subprocess.Popen(
                [sys.executable, "-m", "shipper", "tail", "-f"], env=environ, stdout=out, stderr=subprocess.PIPE
            )
        wait_until(lambda: (tmp_path / "followed").read_bytes() == b"before\n", what="the snapshot")
        go.touch()
        assert wrapper.wait() == 4
        _, said = follower.communicate(timeout=30)
    assert sorted((tmp_path / "followed").read_bytes().split()) == [b"after", b"before", b"end"]
    assert said.decode() == "shipper: the agent ended with status 4\n"
    assert follower.returncode == 0


def test_following_a_wrapper_that_is_killed_ends_and_says_that_nothing_is_known(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with Wrapper(directory, ["sh", "-c", "echo one; exec sleep 60"], None) as wrapper:
        wait_until(lambda: wrapper.stdout == b"one\n", what="the first line")
        (agent,) = wrapper.children()
        environ = {**os.environ, "SHIPPER_DIR": str(directory), "PYTHONPATH": str(ROOT)}
        follower = subprocess.Popen(
            [sys.executable, "-m", "shipper", "logs", "-f"],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"one\n"
        wrapper.process.send_signal(signal.SIGKILL)
        wrapper.wait()
        os.kill(agent, signal.SIGKILL)
        _, said = follower.communicate(timeout=30)
    assert b"how the agent ended is not known" in said


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (
            {"signal": 9, "oom": True, "limit": 64 * MIB},
            b"the agent was ended by signal 9, out of memory (limit 64 MiB)",
        ),
        (None, b"the agent ended with status 3"),  # only the note knows it: the disk would not take the marker
    ],
)
def test_following_a_run_that_is_over_says_how_it_ended(
    tmp_path: Path, end: dict[str, object] | None, said: bytes
) -> None:
    run = begin_run(str(tmp_path))
    run.append([(1, NOW_NS, 0, b"one\n")])
    if end is None:
        Noter(run.path, run.facts).end({"exit_status": 3})
    else:
        run.end(end)
    os.close(run.lock_fd)
    shown = logs(tmp_path, "-f")
    assert (shown.stdout, shown.stderr) == (b"one\n", b"shipper: " + said + b"\n")


def test_without_a_journal_it_says_where_it_looked(tmp_path: Path) -> None:
    done = logs(tmp_path / "nothing")
    assert done.returncode == 1
    assert str(tmp_path / "nothing").encode() in done.stderr
    assert done.stdout == b""


def test_a_wrong_option_is_a_sentence(tmp_path: Path) -> None:
    done = logs(tmp_path, "-n", "many")
    assert done.returncode == 64
    assert b"'many' is not a number of lines" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    for n in range(200):
        run.append([(1, NOW_NS, n, b"x" * 50_000 + b"\n")])
    end_run(run)
    environ = {**os.environ, "SHIPPER_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    pipeline = f"{sys.executable} -m shipper logs -n 200 | head -c 10"
    done = subprocess.run(["sh", "-c", pipeline], env=environ, capture_output=True, check=False, timeout=60)
    assert done.stdout == b"x" * 10
    assert done.stderr == b""


def test_the_newest_live_run_wins_else_the_newest(tmp_path: Path) -> None:
    old = begin_run(str(tmp_path / "a"), "00000000000000aa", n=1)
    new = begin_run(str(tmp_path / "b"), "00000000000000bb", n=2)
    end_run(new)
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert newest_run(both) == old.path
    os.close(old.lock_fd)
    assert newest_run(both) == new.path
    assert newest_run([str(tmp_path / "nothing")]) is None


def test_a_dead_run_that_is_being_delivered_is_not_taken_for_a_live_one(tmp_path: Path) -> None:
    live, dead = (begin_run(str(tmp_path), f"{n:016x}", n=n) for n in (1, 2))
    noters = [Noter(run.path, run.facts) for run in (live, dead)]
    for noter in noters:
        noter.note()
    assert newest_run([str(tmp_path)]) == dead.path
    noters[1].end({"exit_status": 0})  # its wrapper has ended, and somebody holds the run's other lock
    assert newest_run([str(tmp_path)]) == live.path


def test_other_users_directories_are_looked_through_too(tmp_path: Path) -> None:
    for name in ("shipper-0", "shipper-10001", "shipper-x", "other-1"):
        (tmp_path / name).mkdir()
    found = candidates([str(tmp_path / "shipper-0")])
    assert found == [str(tmp_path / "shipper-0"), str(tmp_path / "shipper-10001")]


@pytest.mark.parametrize(("command", "mode"), [("logs", 0o700), ("logs", 0o755), ("status", 0o755)])
def test_a_journal_of_somebody_else_is_said_to_be_that(command: str, mode: int) -> None:
    if os.geteuid():
        pytest.skip("needs root: it becomes another user")
    with tempfile.TemporaryDirectory() as directory:  # not pytest's own, which nobody else may even enter
        end_run(begin_run(directory))
        os.chmod(directory, mode)  # a volume's root may be open; a run never is
        program = (
            "import os, sys; sys.path.insert(0, sys.argv[1])\n"
            f"from shipper.commands.{command} import main\n"
            "main([])\n"  # loads what it needs: the standard library may lie in root's home
            "os.setgid(65534); os.setuid(65534)\nsys.exit(main([]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(ROOT)],
            env={**os.environ, "SHIPPER_DIR": directory},
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert b"may be read by its owner alone" in done.stderr
