"""The whole path with real processes: what an agent prints arrives, once, in order, under its numbers."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from shipper.journal import runs
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.levels import LEVELS
from shipper.lines.text import clean
from tests.e2e.wrapped import ROOT, Wrapper, all_events, arrived, ledgers, printing, streams
from tests.helpers import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.sandbox.server import Sandbox

COUNTING = """
import sys, time
lines, pause = int(sys.argv[1]), float(sys.argv[2])
for n in range(1, lines + 1):
    print(f"line {n}", flush=True)
    if pause:
        time.sleep(pause)
"""


def sample_lines(stream: str) -> list[bytes]:
    """The real lines of the demo's agents, those of one stream."""
    lines: list[bytes] = []
    for path in sorted((ROOT / "demo" / "lines").glob(f"*.{stream}.log")):
        lines += path.read_bytes().split(b"\n")[:-1]
    assert len(lines) > 50
    return lines


def test_200_000_real_lines_on_both_streams_arrive_each_once_with_their_fields(
    sandbox: Sandbox, directory: Path, tmp_path: Path
) -> None:
    expected: dict[str, list[bytes]] = {}
    for stream, count in (("stdout", 150_000), ("stderr", 50_000)):
        lines = sample_lines(stream)
        expected[stream] = (lines * (count // len(lines) + 1))[:count]
        (tmp_path / stream).with_suffix(".in").write_bytes(b"".join(line + b"\n" for line in expected[stream]))
    agent = ["sh", "-c", f"cat {tmp_path}/stderr.in >&2 & cat {tmp_path}/stdout.in; wait"]
    with Wrapper(directory, agent, sandbox.url, {"SHIPPER_TAGS": "team:voice"}) as wrapper:
        assert wrapper.wait(90) == 0
        assert wrapper.stdout == (tmp_path / "stdout.in").read_bytes()
        cursor = wrapper.cursor()
    summary = arrived(sandbox)
    assert (summary["missing"], summary["repeats"], summary["refused"], summary["own"]) == (0, 0, 0, 1)
    events = all_events(sandbox)
    printed = {
        stream: [(n, line) for n, line in enumerate(lines, 1) if line.strip()] for stream, lines in expected.items()
    }
    delivered = sum(event["lines"] or 1 for event in events)
    assert cursor["delivered"] == delivered >= sum(map(len, printed.values()))
    assert cursor["left_out"] == {"empty": 200_000 - delivered, "level": 0, "exclude": 0}
    (closing,) = ledgers(sandbox)
    assert (closing["captured"], closing["delivered"]) == (200_000, delivered)
    assert (closing["exit_status"], closing["level"], closing["dropped"]) == (0, "info", {})
    run = events[0]["run"]
    for stream, numbered in printed.items():
        # several requests may be under way at once: `seq` tells the order
        got = sorted((event for event in events if event["stream"] == stream), key=lambda event: int(event["seq"]))
        following = 1
        for event in got:
            assert event["seq"] == following + (event["skipped"] or 0)
            following = event["seq"] + (event["lines"] or 1)
            lines = expected[stream][event["seq"] - 1 : following - 1]
            if len(lines) == 1:
                check_fields(event, lines[0], run)
            else:
                assert event["message"] == "\n".join(clean(line.decode(errors="replace")) for line in lines)
        assert following > numbered[-1][0]


def check_fields(event: dict[str, Any], line: bytes, run: str) -> None:
    """The event is what the line should become."""
    assert (event["host"], event["source"], event["service"]) == ("worker-1", "CA_test", "cloud.livekit.io")
    assert (event["run"], event["tags"]) == (run, ["team:voice"])
    try:
        record = json.loads(line) if line.startswith(b"{") else None
    except ValueError:
        record = None
    alone = Decoder().decode(Batch(1, [line], event["seq"], [(0, time.time_ns())], {}))
    (became,) = alone.records
    if record is None:  # tests/lines tell what text says of itself
        assert str(became["message"]) in clean(line.decode(errors="replace"))
        assert (event["message"], event["level"]) == (became["message"], LEVELS[alone.levels[0]])
        return
    if became["message"] != record.get("message", record.get("msg")):  # its stack stands in it
        assert event["message"] == became["message"]
        assert became["error.stack"] in record["message"]
    else:
        assert event["message"] == record.get("message", record.get("msg"))
    names = {10: "trace", 20: "debug", 30: "info", 40: "warning", 50: "error", 60: "critical"}
    level = record["level"]
    assert event["level"] == (names[level] if isinstance(level, int) else level.lower()), event
    attributes = event["attributes"]
    for name, value in record.items():
        if name in ("message", "msg", "level", "timestamp", "time"):
            continue
        arrived_as = {"jobID": "job_id", "jobId": "job_id", "roomId": "room_id"}.get(name, name)
        if name in ERRORS and name not in became:
            found = {kind: became[kind] for kind in became if kind.startswith("error.")}
            assert found
            assert {kind: at(attributes, kind) for kind in found} == found
            continue
        assert attributes.get(arrived_as, attributes.get(f"agent.{name}")) == value, (name, event)


ERRORS = ("error", "err", "exception", "exc_info", "stack", "stack_info")


def at(attributes: dict[str, Any], path: str) -> Any:
    """What stands under a name with dots, in a tree or as it is."""
    if path in attributes:
        return attributes[path]
    first, _, rest = path.partition(".")
    return at(attributes[first], rest) if rest and isinstance(attributes.get(first), dict) else None


def test_a_line_after_silence_goes_at_once_and_the_next_waits_for_company(sandbox: Sandbox, directory: Path) -> None:
    agent = (
        "import os, sys, time\n"
        "print('one', flush=True)\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
        "for n in range(10): print('more', n, flush=True); time.sleep(0.05)\n"
        "time.sleep(60)\n"
    )
    go = directory.parent / "go"
    with Wrapper(directory, printing(agent, str(go)), sandbox.url, {"SHIPPER_FLUSH_INTERVAL": "60s"}) as wrapper:
        wait_until(lambda: arrived(sandbox)["lines"] == 1, what="the first line, at once")
        go.touch()
        wait_until(lambda: wrapper.stdout.endswith(b"more 9\n"), what="ten lines more")
        assert arrived(sandbox)["requests"] == 1
        wrapper.terminate()
        assert wrapper.wait() == 143
    assert (arrived(sandbox)["lines"], arrived(sandbox)["requests"]) == (11, 3)  # the last closes


def test_the_last_words_without_a_newline_arrive(sandbox: Sandbox, directory: Path) -> None:
    with Wrapper(directory, ["sh", "-c", "echo first; printf last >&2; exit 3"], sandbox.url) as wrapper:
        assert wrapper.wait() == 3
    assert sorted(event["message"] for event in all_events(sandbox)) == ["first", "last"]


def test_a_worker_killed_again_and_again_loses_nothing(sandbox: Sandbox, directory: Path) -> None:
    rng = random.Random(7)
    killed = 0
    with Wrapper(directory, printing(COUNTING, "6000", "0.001"), sandbox.url) as wrapper:
        while wrapper.process.poll() is None and killed < 6:
            worker = wrapper.worker()
            if worker is None:
                time.sleep(0.01)
                continue
            time.sleep(rng.uniform(0.0, 0.8))
            try:
                os.kill(worker, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed += 1
        assert wrapper.wait(60) == 0
        assert wrapper.stdout == b"".join(b"line %d\n" % n for n in range(1, 6001))
    assert killed >= 4
    summary = arrived(sandbox)
    assert summary["missing"] == 0
    messages = {event["seq"]: event["message"] for event in all_events(sandbox)}
    assert messages == {n: f"line {n}" for n in range(1, 6001)}
    assert ledgers(sandbox)[-1]["captured"] == 6000


def test_what_a_killed_wrapper_had_journalled_is_delivered_by_the_next_under_its_old_numbers(
    sandbox: Sandbox, directory: Path
) -> None:
    sandbox.fault("datadog", status=503)
    old_environ = {"SHIPPER_HOST": "old-host", "SHIPPER_SOURCE": "CA_old"}
    with Wrapper(directory, printing(COUNTING, "100000", "0.001"), sandbox.url, old_environ) as wrapper:
        wait_until(lambda: wrapper.stdout.count(b"\n") > 300, what="300 lines")
        old_run = os.path.basename(wrapper.run_path())[17:]
        agent = next(pid for pid in wrapper.children() if pid != wrapper.worker())
        os.kill(wrapper.process.pid, signal.SIGKILL)
        wrapper.wait()
        os.kill(agent, signal.SIGKILL)
        passed = wrapper.stdout.count(b"\n")
    wait_until(lambda: not runs.is_live(runs.list_runs(str(directory))[0]), what="the old worker's end")
    sandbox.fault("datadog")
    with Wrapper(directory, ["echo", "new"], sandbox.url) as wrapper:
        assert wrapper.wait() == 0
    events = all_events(sandbox)
    old = [event for event in events if event["run"] == old_run]
    seqs = [event["seq"] for event in old]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= passed - 1  # what was passed on stands in the journal, but for the read in the queue
    assert [event["message"] for event in old[:-1]] == [f"line {n}" for n in seqs[:-1]]
    assert f"line {seqs[-1]}".startswith(old[-1]["message"])
    assert {(event["host"], event["source"]) for event in old} == {("old-host", "CA_old")}
    (new,) = [event for event in events if event["run"] != old_run]
    assert (new["message"], new["seq"], new["host"]) == ("new", 1, "worker-1")


def test_two_wrappers_on_one_directory_keep_apart(sandbox: Sandbox, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    environ = {"SHIPPER_DIR": str(directory)}
    with (
        Wrapper(tmp_path / "a" / "x", printing(COUNTING, "500", "0.002"), sandbox.url, environ) as first,
        Wrapper(tmp_path / "b" / "x", printing(COUNTING, "700", "0.002"), sandbox.url, environ) as second,
    ):
        assert (first.wait(), second.wait()) == (0, 0)
    assert sorted(stream["lines"] for stream in streams(sandbox).values()) == [500, 700]
    assert arrived(sandbox)["missing"] == arrived(sandbox)["repeats"] == 0


def test_a_provider_that_is_away_delays_nothing_and_gets_it_all_when_it_is_back(
    sandbox: Sandbox, directory: Path
) -> None:
    sandbox.fault("datadog", status=503)
    with Wrapper(directory, printing(COUNTING, "2000", "0.001"), sandbox.url) as wrapper:
        wait_until(lambda: arrived(sandbox)["refused"] >= 3, what="three refusals")
        assert arrived(sandbox)["lines"] == 0
        sandbox.fault("datadog")
        assert wrapper.wait(60) == 0
        assert any("Datadog does not take lines at the moment" in message for message in wrapper.said)
        assert "Datadog takes lines again" in wrapper.said
    assert arrived(sandbox)["lines"] == 2000
    assert arrived(sandbox)["missing"] == 0


def test_a_provider_away_at_the_end_gets_one_more_attempt_and_the_next_start_delivers(
    sandbox: Sandbox, directory: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        started = time.monotonic()
        with Wrapper(
            directory, printing(COUNTING, "1000", "0.002"), nobody, {"SHIPPER_DRAIN_TIMEOUT": "60s"}
        ) as wrapper:
            assert wrapper.wait(50) == 0
            assert time.monotonic() - started < 50  # one more attempt, not the 60 s
            (message,) = [message for message in wrapper.said if "before the end" in message]
            assert message.startswith("Datadog did not get 1000 lines before the end")
            assert str(directory) in message
    with Wrapper(directory, ["true"], sandbox.url) as wrapper:
        assert wrapper.wait() == 0
    (stream,) = streams(sandbox).values()
    assert (stream["lines"], stream["missing"]) == (1000, 0)


def test_a_refused_token_is_said_once_and_harms_nobody(sandbox: Sandbox, directory: Path) -> None:
    environ = {"DATADOG_TOKEN": "ab" * 16 + "x", "SHIPPER_DRAIN_TIMEOUT": "60s"}
    with Wrapper(directory, printing(COUNTING, "300", "0.005"), sandbox.url, environ) as wrapper:
        assert wrapper.wait(40) == 0
        refusals = [message for message in wrapper.said if message.startswith("Datadog") and "nothing goes" in message]
        assert len(refusals) == 1
        assert "ab" * 8 not in wrapper.stderr
        assert any("did not get 300 lines" in message for message in wrapper.said)


def test_what_the_bound_dropped_is_announced_in_its_place_and_counted(sandbox: Sandbox, directory: Path) -> None:
    sandbox.fault("datadog", status=503)
    flood = "import time\nfor n in range(1, 60001): print(n, '.' * 60, flush=n == 60000)\ntime.sleep(60)"
    environ = {"SHIPPER_JOURNAL_MAX": "1MiB"}
    with Wrapper(directory, printing(flood), sandbox.url, environ) as wrapper:
        wait_until(lambda: wrapper.stdout.endswith(b"60000 " + b"." * 60 + b"\n"), timeout=30, what="the flood's end")
        sandbox.fault("datadog")
        wait_until(lambda: any(s["last_seq"] == 60_000 for s in streams(sandbox).values()), 40, "the last line")
        wrapper.terminate()
        assert wrapper.wait() == 143
        cursor = wrapper.cursor()
        journal = sum(path.stat().st_size for path in directory.rglob("*.seg"))
    (stream,) = streams(sandbox).values()
    assert stream["missing"] > 0
    assert stream["unexplained"] == 0
    lost = cursor["dropped"]["journal_full"]
    assert cursor["delivered"] + lost == 60_000
    assert journal <= 1 << 20
    notices = [event for event in all_events(sandbox) if event["attributes"].get("logger") == "shipper"]
    assert sum(event["attributes"]["lost"] for event in notices) == lost
    assert all(event["level"] == "warning" and event["seq"] is None for event in notices)


def test_a_corrupt_journal_is_skipped_to_the_next_whole_frame_and_counted(sandbox: Sandbox, directory: Path) -> None:
    sandbox.fault("datadog", status=503)
    with Wrapper(directory, printing(COUNTING, "300", "0.001"), sandbox.url) as wrapper:
        assert wrapper.wait() == 0
        run = wrapper.run_path()
    sandbox.fault("datadog")
    segment = runs.segment_path(run, runs.list_segments(run)[-1])
    with open(segment, "r+b") as file:
        file.seek(os.path.getsize(segment) // 2)
        file.write(b"\xff" * 10)  # no zeros: there may be as many already
    with Wrapper(directory, ["true"], sandbox.url) as wrapper:
        assert wrapper.wait() == 0
        assert any("damaged" in message for message in wrapper.said)
    (stream,) = streams(sandbox).values()
    assert 0 < stream["missing"] < 30
    assert stream["unexplained"] == 0
    assert stream["lines"] + stream["missing"] == 300


def test_with_no_sink_it_is_a_plain_init_and_says_so_once(directory: Path) -> None:
    with Wrapper(directory, ["sh", "-c", "echo out; sleep 0.5; exit 5"], None) as wrapper:
        wait_until(lambda: wrapper.stdout == b"out\n", what="the output")
        assert wrapper.worker() is None
        assert wrapper.wait() == 5
        assert len(wrapper.said) == 1
        assert "DATADOG_TOKEN" in wrapper.said[0]


def test_without_a_writable_directory_the_agent_runs_and_that_is_said_with_what_was_lost(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    environ = {"SHIPPER_DIR": str(tmp_path / "file" / "journal")}
    with Wrapper(tmp_path / "journal", ["sh", "-c", "echo out; exit 6"], sandbox.url, environ) as wrapper:
        assert wrapper.wait() == 6
        assert wrapper.stdout == b"out\n"
        refused, lost = wrapper.said
        assert str(tmp_path / "file") in refused
        assert lost == "lost (disk_error), and the providers could not be told: line 1 of stdout."
    assert arrived(sandbox)["lines"] == 0


def test_after_term_lines_keep_going_out_while_the_agent_drains(sandbox: Sandbox, directory: Path) -> None:
    agent = (
        "import signal, time\n"
        "def term(*_):\n"
        "    global left\n"
        "    left = 20\n"
        "signal.signal(signal.SIGTERM, term)\n"
        "left = None\n"
        "print('ready', flush=True)\n"
        "while left != 0:\n"
        "    time.sleep(0.1)\n"
        "    if left: print('draining', left, flush=True); left -= 1\n"
    )
    with Wrapper(directory, printing(agent), sandbox.url, {"SHIPPER_FLUSH_INTERVAL": "60s"}) as wrapper:
        wait_until(lambda: arrived(sandbox)["lines"] == 1, what="the first line, at once")
        wrapper.terminate()
        # the flush interval is a minute, but not after TERM: lines arrive while the agent still drains
        wait_until(lambda: arrived(sandbox)["lines"] >= 5, what="lines of the draining agent")
        assert wrapper.process.poll() is None
        assert wrapper.wait() == 0
    assert arrived(sandbox)["lines"] == 21
