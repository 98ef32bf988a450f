"""CPU a line, from the agent's pipe to the accepted request, against a reference loop over the same lines.

Counted is what supervisor and worker use between two moments: both are up and idle, and everything is delivered and
both are idle again; so neither their start nor their end is in it, nor anything of the agent, which lives on meanwhile.
The clocks are the kernel's for each process, all threads, to the nanosecond.

The reference, in a process like the worker (its modules loaded, no garbage collection, lowest priority): each line
parsed by orjson, or decoded where it is no JSON; one list of 1,000 serialised at once; gzip by ISA-L, level 1.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.common import (
    ALL,
    HERE,
    TIMES,
    Intake,
    Row,
    Wrapper,
    agent_lines,
    check_arrived,
    cpu_seconds,
    in_turn,
    place,
    printer,
    progress,
    ratios,
    wait_idle,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SETS = {
    "datadog": ("datadog",),
    "newrelic": ("newrelic",),
    "cloudwatch": ("cloudwatch",),
    "sentry": ("sentry",),
    "all": ALL,
}
TITLES = {
    "datadog": "Datadog",
    "newrelic": "New Relic",
    "cloudwatch": "CloudWatch",
    "sentry": "Sentry",
    "all": "all four",
}
TARGETS = {"datadog": 2.0, "newrelic": 2.6, "cloudwatch": 3.0, "sentry": 3.6, "all": 7.5}
# As much as is needed for all the lines: what is lost to a bound would be cheap.
SETTINGS = {"SHIPPER_JOURNAL_MAX": "2GiB"}


class Split:
    """Microseconds a line, by process, one a run."""

    def __init__(self) -> None:
        self.supervisor: list[float] = []
        self.worker: list[float] = []
        self.lines_a_request: list[float] = []


def measure(quick: bool) -> list[Row]:
    count = 100_000 if quick else 300_000
    lines = agent_lines(count)
    printed = {name: sum(fd == number for fd, _ in lines) for number, name in ((1, "stdout"), (2, "stderr"))}
    splits = {name: Split() for name in (*SETS, "single")}
    with place() as directory, Intake() as intake:
        path = Path(directory, "lines")
        path.write_bytes(b"".join(b"%d%s\n" % line for line in lines))
        size = sum(len(line) for _, line in lines) / count
        del lines

        def through(name: str) -> Callable[[], float]:
            return lambda: through_shipper(path, "block", intake, printed, splits[name], SETS[name])

        values = in_turn(
            3 if quick else 7,
            **{name: through(name) for name in SETS},
            reference=lambda: reference(path, count),
            single=lambda: through_shipper(path, "line", intake, printed, splits["single"], SETS["datadog"]),
        )
    rows = [
        Row(f"CPU a line ({size:.0f} B) in a flood, both processes, against the reference loop: {TITLES[name]}",
            ratios(values[name], values["reference"]), TIMES, TARGETS[name])
        for name in SETS
    ]  # fmt: skip
    rows.append(Row("CPU a line, reference loop", values["reference"], "µs"))
    for name in SETS:
        rows += [
            Row(f"CPU a line, {TITLES[name]}, both processes", values[name], "µs"),
            Row(f"CPU a line, {TITLES[name]}, worker", splits[name].worker, "µs"),
            Row(f"lines a request, {TITLES[name]}", splits[name].lines_a_request, "", None, 0),
        ]
    return [
        *rows,
        Row("CPU a line, supervisor", splits["datadog"].supervisor, "µs"),
        Row("CPU a line when the agent makes a write of each, Datadog, both processes", values["single"], "µs"),
        Row("CPU a line when the agent makes a write of each, supervisor", splits["single"].supervisor, "µs"),
    ]


def through_shipper(
    path: Path, how: str, intake: Intake, printed: dict[str, int], split: Split, sinks: tuple[str, ...]
) -> float:
    """Microseconds a line."""
    count = sum(printed.values())
    with Wrapper(printer("flood", str(path), how), url=intake.url, sinks=sinks, settings=SETTINGS) as wrapper:
        processes = (wrapper.pid, wrapper.worker_pid())
        wait_idle(*processes)
        before = [cpu_seconds(pid) for pid in processes]
        wrapper.tell(b"\n")
        intake.wait_quiet()
        used = [cpu_seconds(pid) - at_first for pid, at_first in zip(processes, before, strict=True)]
        wrapper.end_input()
        wrapper.wait()
        requests = intake.take()
    check_arrived(requests, printed, sinks)
    supervisor, worker = (seconds / count * 1e6 for seconds in used)
    split.supervisor.append(supervisor)
    split.worker.append(worker)
    split.lines_a_request.append(count * len(sinks) / len(requests))
    progress(f"cpu, {how} writes, {'+'.join(sinks)}: supervisor {supervisor:.3f} + worker {worker:.3f} us a line")
    return supervisor + worker


def reference(path: Path, count: int) -> float:
    done = subprocess.run(
        [sys.executable, str(HERE / "reference.py"), str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parent.parent,
    )
    us = float(done.stdout) / count * 1e6
    progress(f"cpu, reference: {us:.3f} us a line")
    return us
