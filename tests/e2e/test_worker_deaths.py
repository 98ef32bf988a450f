"""Whatever ends the worker, or makes it hang: nothing is lost, little is sent twice, and no line can stop the logs."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from shipper.config.budget import IN_FLIGHT_BYTES
from shipper.delivery.source import RECORD_BYTES
from tests.e2e.wrapped import ROOT, Wrapper, all_events, arrived, printing, streams
from tests.helpers import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.sandbox.server import Sandbox

MARK = "the line that kills"
LINES, KILLER = 3000, 2000
REQUEST_LINES = 1000  # Datadog's limit
WINDOW_LINES = 1600  # of the lines below, in 256 KiB of journal and the frame of up to 64 KiB across its end

# Three windows of JSON lines, one of which kills; then the agent waits until FILE is there.
AGENT = """
import json, os, sys, time
for n in range(1, int(sys.argv[2]) + 1):
    text = sys.argv[4] if n == int(sys.argv[3]) else "a line"
    print(json.dumps({"message": text, "level": "info", "n": n, "filler": "." * 150}))
sys.stdout.flush()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
"""

# Put behind the code of a copy of the package: what is called dies of a line with MARK in it.
IN_DECODER = """
_follow = Decoder.follow
def dies(self, batch, calls):
    if any({mark!r} in line for line in batch.lines):
        {die}
    return _follow(self, batch, calls)
Decoder.follow = dies
"""
IN_PLAIN = """
_plain_record = _record
def dies(text, time_ms, seq):
    if {mark!r} in text.encode():
        {die}
    return _plain_record(text, time_ms, seq)
_record = dies
"""
IN_ENCODER = """
_encoder = Datadog.encoder
def encoder(self, facts):
    encode = _encoder(self, facts)
    def dies(slices, now_ms):
        for events, start, end in slices:
            if any({mark!r} in record["message"].encode() for record in events.records[start:end]):
                {die}
        return encode(slices, now_ms)
    return dies
Datadog.encoder = encoder
"""
SIGKILL = "__import__('os').kill(__import__('os').getpid(), 9)"
SIGSEGV = "__import__('ctypes').string_at(0)"


def distinct(sandbox: Sandbox) -> int:
    """Lines that came, each counted once."""
    summary = arrived(sandbox)
    lines: int = summary["lines"] - summary["repeats"]
    return lines


def deadly_copy(directory: Path, patches: dict[str, str], die: str) -> Path:
    """The package, patched, and its worker, which is to start many times, more quickly up again."""
    copy = directory / "copy"
    shutil.copytree(ROOT / "shipper", copy / "shipper", ignore=shutil.ignore_patterns("__pycache__"))
    for name, patch in patches.items():
        with open(copy / "shipper" / name, "a", encoding="utf-8") as file:
            file.write(patch.format(mark=MARK.encode(), die=die))
    replaced = {
        "supervisor/worker.py": ("LONGEST_DELAY = 30.0", "LONGEST_DELAY = 0.2"),
        "delivery/priority.py": ("NICENESS = 19", "NICENESS = 0"),
        # in front of the package that this environment has installed
        "supervisor/outfit.py": ("sys.path.append({root!r})", "sys.path.insert(0, {root!r})"),
    }
    for name, (old, new) in replaced.items():
        text = (copy / "shipper" / name).read_text()
        assert old in text
        (copy / "shipper" / name).write_text(text.replace(old, new))
    return copy


@pytest.mark.parametrize(
    ("patches", "die", "dropped"),
    [
        ({"lines/decoder.py": IN_DECODER}, SIGKILL, False),
        ({"lines/decoder.py": IN_DECODER, "lines/plain.py": IN_PLAIN}, SIGSEGV, True),
        ({"sinks/datadog.py": IN_ENCODER}, SIGKILL, True),
    ],
    ids=["in the decoder, not as plain text", "in the decoder, always", "in a sink's encoder, always"],
)
def test_a_line_that_kills_the_worker_stops_nothing(
    sandbox: Sandbox, directory: Path, tmp_path: Path, patches: dict[str, str], die: str, dropped: bool
) -> None:
    root, go = deadly_copy(tmp_path, patches, die), tmp_path / "go"
    agent = printing(AGENT, str(go), str(LINES), str(KILLER), MARK)
    with Wrapper(directory, agent, sandbox.url, root=root) as wrapper:
        expected = LINES - dropped
        wait_until(lambda: distinct(sandbox) == expected, timeout=60, what=f"{expected} lines")
        go.touch()
        assert wrapper.wait() == 0
        cursor, said = wrapper.cursor(), wrapper.said
    (stream,) = streams(sandbox).values()
    assert (distinct(sandbox), stream["missing"], stream["unexplained"]) == (expected, int(dropped), 0)
    assert stream["repeats"] < KILLER  # what the first one had in flight: later ones send on where the last one was
    events = all_events(sandbox)
    by_seq = {event["seq"]: event for event in events if event["seq"] is not None}
    assert sorted(by_seq) == [n for n in range(1, LINES + 1) if n != KILLER or not dropped]
    plain = sorted(n for n, event in by_seq.items() if event["attributes"].get("n") != n)
    assert plain[0] <= KILLER <= plain[-1]
    assert len(plain) <= WINDOW_LINES
    assert all(f'"n": {n},' in by_seq[n]["message"] for n in plain)
    notices = [event["attributes"] for event in events if event["attributes"].get("reason") == "worker_died"]
    if dropped:
        assert [(notice["lost"], notice["first_seq"], notice["last_seq"]) for notice in notices] == [
            (1, KILLER, KILLER)
        ]
        assert cursor["dropped"] == {"worker_died": 1}
        assert sum(f"died of line {KILLER} of stdout: what is dropped" in message for message in said) == 1
    else:
        assert (notices, cursor["dropped"]) == ([], {})
    assert sum("they are forwarded as plain text" in message for message in said) == 1
    assert not any(MARK in message for message in said)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_in_mid_flow_loses_nothing_and_repeats_what_was_in_flight(
    sandbox: Sandbox, directory: Path, number: int
) -> None:
    lines, width, kills = 40_000, 100, 2
    code = "import sys\nfor n in range(1, int(sys.argv[1]) + 1): print(str(n).ljust(int(sys.argv[2]), '.'))"
    sandbox.fault("datadog", delay=0.05)
    with Wrapper(
        directory, printing(code, str(lines), str(width)), sandbox.url, {"SHIPPER_DRAIN_TIMEOUT": "60s"}
    ) as it:
        for kill in range(1, kills + 1):
            wait_until(lambda some=kill * lines // 5: arrived(sandbox)["lines"] >= some, 30, "some lines")  # type: ignore[misc]
            wait_until(lambda: it.worker() is not None, what="a worker")
            os.kill(it.worker() or 0, number)
        sandbox.fault("datadog")
        assert it.wait(60) == 0
        assert it.stdout.count(b"\n") == lines
    summary = arrived(sandbox)
    (stream,) = streams(sandbox).values()
    assert (distinct(sandbox), stream["missing"]) == (lines, 0)
    # the last request taken may have gone over the limit by itself
    most = IN_FLIGHT_BYTES // (width + RECORD_BYTES) + REQUEST_LINES
    assert summary["repeats"] <= kills * most


def test_a_worker_that_is_stopped_when_the_agent_ends_keeps_back_no_line(sandbox: Sandbox, directory: Path) -> None:
    code = (
        "import os, sys, time\nprint(1, flush=True)\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.02)\nprint(2)"
    )
    go = directory.parent / "go"
    with Wrapper(directory, printing(code, str(go)), sandbox.url, {"SHIPPER_DRAIN_TIMEOUT": "40s"}) as wrapper:
        wait_until(lambda: arrived(sandbox)["lines"] == 1, what="the first line")
        worker = wrapper.worker()
        assert worker is not None
        os.kill(worker, signal.SIGSTOP)
        go.touch()
        assert wrapper.wait(40) == 0
        assert sum("hangs" in message for message in wrapper.said) == 1
    assert {event["message"] for event in all_events(sandbox)} == {"1", "2"}
