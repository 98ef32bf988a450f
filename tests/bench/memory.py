"""The most memory that each process takes in a flood, with the provider away and with it there.

The flood is `cat` of a file, 1 GB/s and more where nobody holds it back. With the provider away the journal has its
default bound, so that most of the flood is evicted; with it there the journal holds it all, and all must arrive.

The worker with all sinks: idle after some lines; and while a backlog drains to all of them, each of which was
away at first and then takes 100 ms for an answer, so that many requests are under way at once.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench.common import (
    ALL,
    MB,
    BenchError,
    Intake,
    Request,
    Row,
    Wrapper,
    check_arrived,
    memory_mb,
    place,
    printer,
    progress,
    wait_idle,
    write_flood,
)
from tests.bench.drain import wait_for_journal
from tests.helpers import wait_until

TARGET_SUPERVISOR_MB = 24.0
TARGET_WORKER_MB = 70.0
TARGET_ALL_MB = 65.0  # the worker with all four sinks
AWAY_SECONDS = 5.0  # watched after the flood, for the worker reads on until its first request fails, and tries again
QUIET_SECONDS = 5.0
LATE_SECONDS = 0.1  # as a provider far away


def measure(quick: bool) -> list[Row]:
    size = (100 if quick else 300) * MB
    repeats = 1 if quick else 3
    with place() as directory:
        path = Path(directory, "flood")
        lines = write_flood(path, size)
        away = [flood(path, lines, there=False) for _ in range(repeats)]
        there = [flood(path, lines, there=True) for _ in range(repeats)]
        idle = [idle_with_all() for _ in range(repeats)]
        backlog = (30 if quick else 100) * MB
        lines = write_flood(path, backlog)
        drained = [drain_to_all(path, lines) for _ in range(repeats)]
    megabytes = size // MB
    return [
        Row(
            f"peak memory in a flood of {megabytes} MB, provider away, supervisor",
            [a for a, _ in away],
            "MB",
            TARGET_SUPERVISOR_MB,
            1,
        ),
        Row(
            f"peak memory in a flood of {megabytes} MB, provider away, worker",
            [b for _, b in away],
            "MB",
            TARGET_WORKER_MB,
            1,
        ),
        Row(
            f"peak memory in a flood of {megabytes} MB, provider there, supervisor",
            [a for a, _ in there],
            "MB",
            TARGET_SUPERVISOR_MB,
            1,
        ),
        Row(
            f"peak memory in a flood of {megabytes} MB, provider there, worker",
            [b for _, b in there],
            "MB",
            TARGET_WORKER_MB,
            1,
        ),
        Row("idle memory, worker with all four sinks (RSS)", idle, "MB", TARGET_ALL_MB, 1),
        Row(
            f"peak memory while {backlog // MB} MB drain to all four sinks at 100 ms an answer, worker",
            drained,
            "MB",
            TARGET_ALL_MB,
            1,
        ),
    ]


def flood(path: Path, lines: int, *, there: bool) -> tuple[float, float]:
    """Peaks of supervisor and worker."""
    agent = ["sh", "-c", f"read go; cat {path}; read end"]
    settings = {"SHIPPER_JOURNAL_MAX": "2GiB"} if there else {}
    with Intake(listening=there) as intake, Wrapper(agent, url=intake.url, settings=settings) as wrapper:
        processes = (wrapper.pid, wrapper.worker_pid())
        wrapper.tell(b"\n")
        if there:
            intake.wait_quiet(3.0)
        else:
            wait_idle(wrapper.pid)  # the flood is through
            time.sleep(AWAY_SECONDS)
        peaks = [memory_mb(pid, "VmHWM") for pid in processes]
        wrapper.end_input()
        try:
            while wrapper.process.poll() is None:  # the end may take more
                peaks = [max(peak, memory_mb(pid, "VmHWM")) for peak, pid in zip(peaks, processes, strict=True)]
                time.sleep(0.02)
        except OSError:  # the worker has ended
            pass
        wrapper.wait()
        if there:
            check_arrived(intake.take(), {"stdout": lines})
    progress(f"memory, provider {'there' if there else 'away'}: {peaks[0]:.1f} + {peaks[1]:.1f} MB")
    return peaks[0], peaks[1]


def idle_with_all() -> float:
    """The worker's, once each sink has sent something."""
    with Intake() as intake, Wrapper(printer("pace", "50", "20"), url=intake.url, sinks=ALL) as wrapper:
        worker = wrapper.worker_pid()
        wrapper.tell(b"\n")
        intake.wait_quiet(QUIET_SECONDS)
        memory = memory_mb(worker, "Rss")
        wrapper.end_input()
        wrapper.wait()
        check_arrived(intake.take(), {"stdout": 20}, ALL)
    progress(f"memory, all four, idle: {memory:.1f} MB")
    return memory


def drain_to_all(path: Path, lines: int) -> float:
    """The worker's peak."""
    agent = ["sh", "-c", f"cat {path}; read end"]
    settings = {"SHIPPER_JOURNAL_MAX": "2GiB"}
    with (
        Intake(listening=False, delay=LATE_SECONDS) as intake,
        Wrapper(agent, url=intake.url, sinks=ALL, settings=settings) as wrapper,
    ):
        worker = wrapper.worker_pid()
        wait_for_journal(wrapper.journal, path.stat().st_size)
        intake.listen()
        requests: list[Request] = []

        def all_there() -> bool:
            requests.extend(intake.take())
            return {request.provider for request in requests} == set(ALL)

        wait_until(all_there, 60, "the next attempt of each sink")
        intake.wait_quiet(3.0)
        peak = memory_mb(worker, "VmHWM")
        wrapper.end_input()
        wrapper.wait()
        counts = dict.fromkeys(ALL, 0)
        for request in [*requests, *intake.take()]:
            counts[request.provider] += sum(int(event.get("lines", 1)) for event in request.events() if "seq" in event)
        if set(counts.values()) != {lines}:
            raise BenchError(f"{lines} lines, and {counts} arrived")
    progress(f"memory, all four, draining: {peak:.1f} MB")
    return peak
