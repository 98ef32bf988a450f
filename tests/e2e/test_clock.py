"""The wall clock jumps while an agent runs: numbers keep the order, time-outs go on, and every line arrives."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_faults import Talk, assert_every_line_came, others, wait_for
from tests.e2e.wrapped import ALL, ROOT, all_events
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shipper.sandbox.server import Sandbox
    from tests.chaos.gate import Gates

LINES = 100
HOUR, DAY = 3600, 86_400
SOURCE = Path(__file__).parent.parent / "agents" / "clock.c"
KEPT = {"datadog": 18 * HOUR, "cloudwatch": 14 * DAY, "sentry": 30 * DAY, "newrelic": 48 * HOUR}
"""How old a line may be for the provider, seconds; the sandbox's intakes hold us to it."""


class Clock:
    """What the wrapper, its worker and the agent take for the time of day."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("needs a C compiler")
        library = directory / "clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        self._file = directory / "shift"
        self.set(0)
        self.environ = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(self._file)}

    def set(self, seconds: int) -> None:
        """So many ahead of the real time."""
        if not self._file.exists():
            self._file.write_bytes(bytes(8))
        with open(self._file, "r+b", buffering=0) as file:
            file.write(struct.pack("q", seconds))


def assert_times(sandbox: Sandbox, sink: str, jumps: Sequence[int], begun: float) -> None:
    """By number, the lines of each step have the time that the clock showed, or the real time of their sending: where
    the provider would not have taken that one, and at Sentry, which puts a clock right by when it says it sent."""
    last = {int(event["seq"]): event for event in all_events(sandbox, sink)}  # what was dropped there came once more
    events = [last[seq] for seq in sorted(last)]
    now = time.time()
    for step, shift in enumerate(jumps):
        for event in events[step * LINES : (step + 1) * LINES]:
            at = event["time_ms"] / 1000
            as_shown = begun + shift - 1 < at < now + shift + 1
            assert as_shown or (shift and begun - 1 < at < now + 1), (sink, shift, at - now)
            assert now - KEPT[sink] < at, (sink, shift)
            assert at < now + (DAY if sink == "newrelic" else 2 * HOUR), (sink, shift)


def test_a_clock_that_jumps_by_an_hour_either_way_costs_no_line(
    sandbox: Sandbox, gates: Gates, directory: Path, tmp_path: Path
) -> None:
    """CloudWatch takes no request that was signed five minutes off, so its lines wait until the clock is right."""
    clock = Clock(tmp_path)
    jumps = [0, HOUR, -HOUR, 0]
    begun = time.time()
    with Talk(directory, gates, [LINES] * len(jumps), clock.environ) as talk:
        wait_for(sandbox, LINES)
        for step, jump in enumerate(jumps[1:], 2):
            clock.set(jump)
            talk.go_on()
            wait_for(sandbox, LINES * step, others("cloudwatch") if jump else ALL)
            if jump > 0:
                wait_until(lambda: talk.said_of("cloudwatch"), 30, "a word about the clock")
        talk.end()
        off, away, again = sorted(talk.said, key=lambda said: said.startswith("CloudWatch"))
        assert off.startswith("this machine's clock is 60 minutes ahead of that of ")
        assert away.startswith("CloudWatch does not take lines at the moment (")
        assert "is this machine's clock right?" in away
        assert again == "CloudWatch takes lines again"
        assert [talk.cursor(sink)["delivered"] for sink in ALL] == [LINES * len(jumps)] * len(ALL)
    assert_every_line_came(sandbox, LINES * len(jumps))
    for sink in ALL:
        assert_times(sandbox, sink, jumps, begun)


@pytest.mark.parametrize("shift", [20 * HOUR, -20 * HOUR])
def test_a_clock_that_is_wrong_all_the_time_costs_no_line_and_is_said_once(
    sandbox: Sandbox, gates: Gates, directory: Path, tmp_path: Path, shift: int
) -> None:
    """Datadog drops what is 18 h old without a word, the first request too, after which its answer tells the time."""
    clock = Clock(tmp_path)
    clock.set(shift)
    begun = time.time()
    sinks = others("cloudwatch")
    counts = [LINES, LINES]
    with Talk(directory, gates, counts, {**clock.environ, "SHIPPER_SINKS": ",".join(sinks)}) as talk:
        wait_for(sandbox, LINES, sinks)
        talk.go_on()
        wait_for(sandbox, 2 * LINES, sinks)
        wait_until(lambda: talk.cursor()["delivered"] == 2 * LINES, what="its cursor")
        environ = {**os.environ, "SHIPPER_DIR": str(directory), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "shipper", "status"]
        shown = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60).stdout
        talk.end()
        (said,) = talk.said
        assert [talk.cursor(sink)["delivered"] for sink in sinks] == [2 * LINES] * len(sinks)
    off = f"1,200 minutes {'ahead of' if shift > 0 else 'behind'} that of "
    assert said.startswith(f"this machine's clock is {off}")
    assert f"this machine's is 20 h 0 min {'ahead of' if shift > 0 else 'behind'} that of " in shown
    assert_every_line_came(sandbox, 2 * LINES, sinks)
    for sink in sinks:
        assert_times(sandbox, sink, [shift, shift], begun)


def test_lines_of_a_clock_that_was_weeks_off_arrive_once_it_is_right(
    sandbox: Sandbox, gates: Gates, directory: Path, tmp_path: Path
) -> None:
    """Further off than any provider takes a line, and the lines of one request are further apart than CloudWatch's."""
    clock = Clock(tmp_path)
    jumps = [0, 40 * DAY, -40 * DAY, -DAY - HOUR, 0]
    begun = time.time()
    with Talk(directory, gates, [LINES] * len(jumps), clock.environ) as talk:
        wait_for(sandbox, LINES)
        for sink in ALL:
            gates.set(sink, "refuse")
        for step, jump in enumerate(jumps[1:], 2):
            clock.set(jump)
            talk.go_on()
            wait_until(lambda count=step: talk.stdout.count(b"\n") == LINES * count, what="its lines")  # type: ignore[misc]
        for sink in ALL:
            gates.set(sink, "open")
        wait_for(sandbox, LINES * len(jumps))
        talk.end()
        assert all("takes lines again" in said or "could not be reached" in said for said in talk.said)
        assert [talk.cursor(sink)["dropped"] for sink in ALL] == [{}] * len(ALL)
    assert_every_line_came(sandbox, LINES * len(jumps))
    for sink in ALL:
        assert_times(sandbox, sink, jumps, begun)
