"""`shipper status`: the figures of a run, from its files alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from shipper.commands.figures import NOT_STARTED, gather
from shipper.delivery.commits import Committer
from shipper.delivery.worker import note_left_out
from shipper.journal.cursor import CursorFile
from shipper.journal.ending import failure
from shipper.journal.notes import Noter
from shipper.journal.numbering import summarize
from shipper.journal.runs import segment_path
from shipper.sandbox.server import running_in_thread
from tests.delivery.delivery_helpers import MIB, begin_run, end_run, open_source, print_lines, raise_error
from tests.e2e.wrapped import ROOT, Wrapper, printing
from tests.helpers import variables, wait_until
from tests.supervisor.wrapping import AGENTS, PYTHON, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shipper.sandbox.server import Sandbox

SECOND = 10**9


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_in_thread() as running:
        yield running


def status(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "SHIPPER_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "shipper", "status", *options]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def figures(directory: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(status(directory, "--json").stdout)
    return values


def sinks(directory: Path) -> dict[str, dict[str, Any]]:
    return {sink["name"]: sink for sink in figures(directory)["sinks"]}


def test_a_running_wrapper_and_three_providers_that_do_differently(sandbox: Sandbox, tmp_path: Path) -> None:
    directory, go = tmp_path / "one" / "journal", tmp_path / "go"
    directory.parent.mkdir()
    sandbox.fault("newrelic", status=503, retry_after="600")
    sandbox.fault("sentry", status=403)
    names = ("datadog", "newrelic", "sentry")
    code = (
        "import os, sys, time\nfor n in range(1200): print(n)\nprint('x', file=sys.stderr)\nsys.stdout.flush()\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.02)\nprint('half a line', end='')\nsys.exit(3)\n"
    )
    environ = {"SHIPPER_DRAIN_TIMEOUT": "5s"}
    with Wrapper(directory, printing(code, str(go)), sandbox.url, environ, sinks=names) as wrapper:

        def settled() -> bool:
            if not wrapper.stdout.endswith(b"1199\n"):
                return False
            states = {name: sink["state"] for name, sink in sinks(directory).items()}
            return states == {"datadog": "well", "newrelic": "waiting", "sentry": "parked"}

        wait_until(settled, timeout=60, what="all three states")
        wait_until(lambda: sinks(directory)["datadog"]["pending"] == 0, what="Datadog's acceptance")
        values = figures(directory)
        (agent,) = [pid for pid in wrapper.children() if pid != wrapper.worker()]
        assert values["agent"] == {
            "name": os.path.basename(sys.executable),
            "pid": agent,
            "state": "running",
            "uptime_seconds": values["agent"]["uptime_seconds"],
            "end": None,
        }
        assert values["captured"]["lines"] == 1201
        assert values["captured"]["bytes"] == len(wrapper.stdout) + 2
        assert values["captured"]["stderr"] == {"lines": 1, "bytes": 2}
        assert values["memory"]["use_bytes"] is None or values["memory"]["use_bytes"] > 0
        found = sinks(directory)
        assert (found["datadog"]["delivered"], found["datadog"]["pending"], found["datadog"]["lag_seconds"]) == (
            1201,
            0,
            0,
        )
        assert found["datadog"]["last_error"] is None
        for name in ("newrelic", "sentry"):
            sink = found[name]
            assert (sink["delivered"], sink["pending"], sink["repeats"], sink["rejected"]) == (0, 1201, 0, 0)
            assert 0 < sink["lag_seconds"] <= values["agent"]["uptime_seconds"] + 10
            assert "127.0.0.1" in sink["last_error"]
            assert sink["until"] > values["started"]
        assert found["newrelic"]["retried"] == 1
        text = status(directory).stdout
        assert re.search(r"^agent +python\S* \(pid \d+\) is running, up ", text, re.MULTILINE)
        assert re.search(r"^captured +1,201 lines, [\d.]+ KiB \(stdout 1,200, stderr 1\)$", text, re.MULTILINE)
        assert re.search(r"^Datadog +1,201 +0 +0 +0 +0 +0 +0 +0\.0 s  well$", text, re.MULTILINE)
        assert re.search(r"^New Relic +0 +0 +1,201 +0 +1 +0 +0 .* s  waiting, next attempt in \d", text, re.MULTILINE)
        assert re.search(r"^Sentry +0 +0 +1,201 .*  parked: its secret is refused, looks again in ", text, re.MULTILINE)
        secrets = [value for value in variables(sandbox.url, names).values() if "127.0.0.1" not in value]
        assert secrets
        assert not any(secret in text + status(directory, "--json").stdout for secret in secrets)
        os.kill(agent, signal.SIGSTOP)
        wait_until(lambda: figures(directory)["agent"]["state"] == "stopped", what="the agent's stop")
        os.kill(agent, signal.SIGCONT)
        go.touch()
        assert wrapper.wait(60) == 3
    values = figures(directory)
    assert (values["agent"]["state"], values["agent"]["end"]["exit_status"]) == ("ended", 3)
    assert values["captured"]["lines"] == 1202
    text = status(directory).stdout
    assert "ended with status 3 after" in text
    assert re.search(r"^New Relic .* waits for the next start on this directory$", text, re.MULTILINE)
    assert re.search(r"^Datadog +1,202 +0 +0 .* well, all delivered$", text, re.MULTILINE)


def test_captured_pending_and_lag_follow_the_cursor(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path), max_bytes=MIB)
    now_ns = time.time_ns()
    for n in range(3000):
        run.append([(1 + n % 2, now_ns - (3000 - n) * SECOND, n, b"line %d %s\n" % (n, b"." * 50))])
    run.append([(1, now_ns, 0, b"not yet a line")])
    committer = Committer(raise_error)
    source = open_source(run.path, committer)
    for _ in range(15):
        source.accepted(source.take(100, 10**9), 10)
    assert committer.flush(10.0)
    found = gather(run.path)
    (sink,) = found.sinks
    assert found.lines == {"stdout": 1500, "stderr": 1500}
    assert (sink.delivered, sink.pending) == (1500, 1500)
    accepted = [source._positions[stream][2] - 1 for stream in ("1", "2")]
    oldest = min(2 * lines + stream for stream, lines in enumerate(accepted) if lines < 1500)
    assert abs(sink.lag - (3000 - oldest)) < 60
    os.close(run.lock_fd)


def test_what_was_evicted_counts_as_dropped_before_the_stream_is_told(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path), max_bytes=MIB)
    source = open_source(run.path, Committer(raise_error))
    print_lines(run, 1, 20_000, width=200)
    (sink,) = gather(run.path).sinks
    assert sink.dropped["journal_full"] > 0
    assert sink.pending + sink.dropped["journal_full"] == 20_000
    while parts := source.take(1000, 10**9):
        source.accepted(parts, 10)
    assert source._committer.flush(10.0)
    (after,) = gather(run.path).sinks
    assert (after.pending, after.dropped) == (0, sink.dropped)
    os.close(run.lock_fd)


def test_what_passed_by_is_captured_and_the_last_line_of_a_dead_run_counts(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    run.append([(1, time.time_ns(), 0, b"one\n")])
    run.skip(1, summarize(b"two\nthree\n", 1 << 18), time.time_ns(), 0, "journal_stalled")
    run.append([(1, time.time_ns(), 0, b"four\nfi")])
    assert gather(run.path).lines == {"stdout": 4, "stderr": 0}
    run.close()
    os.close(run.lock_fd)
    found = gather(run.path)
    assert found.state == "killed"
    assert found.lines == {"stdout": 5, "stderr": 0}
    assert found.bytes == {"stdout": 21, "stderr": 0}
    assert "has no end: it was killed" in status(tmp_path).stdout


def test_looking_again_reads_what_has_come_and_nothing_twice(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path), max_bytes=MIB)
    captured = gather(run.path).captured
    for count in range(1, 12):
        print_lines(run, 1, 1000, width=count * 10)
        captured.look()
        assert captured.lines(1, dead=False) == count * 1000
        assert captured.lines(1, dead=False) == gather(run.path).captured.lines(1, dead=False)
    os.close(run.lock_fd)


def test_a_sink_that_never_got_up_is_not_started_and_unknown_values_harm_nothing(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path), sinks=("datadog", "sentry"))
    print_lines(run, 1, 10)
    cursor = CursorFile(run.path, "sentry")
    cursor.commit({"streams": {"1": [0, 0, 1], "2": [0, 0, 1]}, "complete": False})  # of an older version
    cursor.close()
    found = {sink.name: sink for sink in gather(run.path).sinks}
    assert (found["datadog"].state, found["datadog"].pending) == (NOT_STARTED, 10)
    assert (found["sentry"].state, found["sentry"].pending, found["sentry"].error) == ("well", 10, "")
    assert "not started" in status(tmp_path).stdout
    os.close(run.lock_fd)


def test_a_sink_that_memory_does_not_hold_any_more_is_left_out(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path), sinks=("datadog", "sentry"))
    print_lines(run, 1, 10)
    cursor = CursorFile(run.path, "sentry")
    health = {"state": "waiting", "until": 5 * SECOND, "error": "503", "error_at": SECOND}
    cursor.commit({"streams": {"1": [0, 0, 1], "2": [0, 0, 1]}, "complete": False, "health": health})
    cursor.close()
    for name in ("datadog", "sentry"):
        note_left_out(run.path, name)
    found = {sink.name: sink for sink in gather(run.path).sinks}
    assert found["datadog"].state == NOT_STARTED  # a cursor would have the lines wait for it
    assert (found["sentry"].state, found["sentry"].until_ns, found["sentry"].error) == ("left_out", 0, "503")
    assert re.search(r"^Sentry .*  left out: the container's memory limit", status(tmp_path).stdout, re.MULTILINE)
    os.close(run.lock_fd)


def test_what_was_captured_is_the_sum_of_what_became_of_it(sandbox: Sandbox, tmp_path: Path) -> None:
    directory, go = tmp_path / "one" / "journal", tmp_path / "go"
    directory.parent.mkdir()
    values: dict[str, Any] = {"sinks": []}
    code = (  # empty lines before, between and behind others, and a line of which two pieces are full
        "import os, sys, time\nprint('\\n\\none\\n\\ntwo\\n  \\n')\nprint(600_000 * 'x', end='', flush=True)\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.02)\nprint('\\n\\nlast\\n')\n"
    )

    def settled() -> bool:
        nonlocal values
        values = figures(directory)
        for sink in values["sinks"]:
            counts = (sink["delivered"], sink["filtered"], *sink["dropped"].values(), sink["pending"])
            assert sum(counts) == values["captured"]["lines"], sink
        return values["captured"]["bytes"] > 600_000 and not any(sink["pending"] for sink in values["sinks"])

    with Wrapper(directory, printing(code, str(go)), sandbox.url, sinks=("datadog", "newrelic")) as wrapper:
        wait_until(lambda: os.path.exists(directory) and status(directory).returncode == 0, what="the run")
        wait_until(settled, 30, "what there is")
        assert values["captured"]["lines"] == 9
        assert [(sink["delivered"], sink["filtered"]) for sink in values["sinks"]] == [(4, 5)] * 2
        sandbox.fault("newrelic", status=400, count=12)
        go.touch()
        assert wrapper.wait() == 0
    wait_until(settled, what="the end")
    assert values["captured"]["lines"] == 13
    datadog, newrelic = values["sinks"]
    assert (datadog["delivered"], datadog["filtered"], datadog["dropped"]) == (6, 7, {})
    assert (newrelic["filtered"], newrelic["rejected"]) == (7, 6 - newrelic["delivered"])
    assert newrelic["rejected"] > 0
    assert re.search(r"^Datadog +6 +7 +0 +0 +0 +0 +0 ", status(directory).stdout, re.MULTILINE)


def test_a_pipe_in_the_place_of_a_segment_holds_nobody_up(tmp_path: Path) -> None:
    """Root looks into the directories of other users, too."""
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 10)
    os.mkfifo(segment_path(run.path, 2))
    with pytest.raises(OSError, match="seek"):
        failure(run.path)
    shown = status(tmp_path)
    assert (shown.returncode, shown.stdout) == (70, "")
    assert "Traceback" not in shown.stderr
    os.close(run.lock_fd)


def test_earlier_runs_are_one_line(tmp_path: Path) -> None:
    for n in range(3):
        old = begin_run(str(tmp_path), f"{n:016x}", n=n)
        print_lines(old, 1, 10 + n)
        end_run(old)
    own = begin_run(str(tmp_path), "f" * 16, n=9)
    noter = Noter(own.path, own.facts, pid=os.getpid())
    noter.note()
    assert figures(tmp_path)["run"] == "f" * 16
    assert figures(tmp_path)["earlier"] == {"runs": 3, "lines": 33}
    assert re.search(
        r"^earlier +3 earlier runs are not delivered yet: 33 lines pending$", status(tmp_path).stdout, re.MULTILINE
    )
    noter.end({})
    os.close(own.lock_fd)


def test_without_a_run_it_says_where_it_looked_and_a_wrong_option_is_a_sentence(tmp_path: Path) -> None:
    done = status(tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert str(tmp_path / "nothing") in done.stderr
    done = status(tmp_path, "--jason")
    assert done.returncode == 64
    assert done.stderr.startswith("shipper: ")
    assert "`shipper status --help` shows what there is" in done.stderr


def test_every_field_of_the_object_stands_in_the_help(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    Noter(run.path, run.facts).note()
    values = figures(tmp_path)
    names = {*values, *values["agent"], *values["captured"], *values["memory"], *values["sinks"][0], *values["earlier"]}
    text = status(tmp_path, "--help").stdout
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []
    os.close(run.lock_fd)


@pytest.mark.parametrize("options", [["-w"], ["-w", "--json"]])
def test_watching_into_a_pipe_prints_anew_until_it_is_interrupted(tmp_path: Path, options: list[str]) -> None:
    run = begin_run(str(tmp_path))
    environ = {**os.environ, "SHIPPER_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "shipper", "status", *options]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        seen = watching.stdout.readline()
        print_lines(run, 1, 7)
        while "--json" not in options and not re.match("captured +7 lines", seen):
            seen = watching.stdout.readline()
        while "--json" in options and json.loads(seen)["captured"]["lines"] != 7:
            seen = watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        rest, said = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert said == ""
    assert "\x1b" not in seen + rest
    os.close(run.lock_fd)


@pytest.mark.parametrize(("ending", "code"), [(b"\x03", 130), (signal.SIGTERM, 143)])
def test_watching_on_a_terminal_refreshes_in_place_and_gives_the_screen_back(
    tmp_path: Path, ending: bytes | int, code: int
) -> None:
    run = begin_run(str(tmp_path / "journal"))
    command = [PYTHON, "-I", str(AGENTS / "launch.py"), "{}", "status", "-w"]
    terminal = Terminal(tmp_path, ["env", "TERM=xterm", *command])
    try:
        terminal.expect(r"\x1b\[\?1049h")
        terminal.expect(r"captured +0 lines")
        print_lines(run, 1, 7)
        shown = terminal.expect(r"captured +7 lines[^\x1b]*\x1b\[K")
        assert "\x1b[H" in shown
        assert "\x1b[?1049" not in shown
        if isinstance(ending, bytes):
            terminal.type(ending)
        else:
            terminal.process.send_signal(ending)
        rest = terminal.rest()
        assert terminal.process.wait(10) == code
    finally:
        terminal.close()
    assert rest.count("\x1b[?25h\x1b[?1049l") == 1
    assert "captured  7 lines" in rest.partition("\x1b[?1049l")[2]
    os.close(run.lock_fd)
