"""The most memory that each process takes in a flood, with the provider away and with it there.

The flood is `cat` of a file, 1 GB/s and more where nobody holds it back. With the provider away the journal has its
default bound, so that most of the flood is evicted; with it there the journal holds it all, and all must arrive.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench.common import (
    MB,
    Intake,
    Row,
    Wrapper,
    check_arrived,
    memory_mb,
    place,
    progress,
    wait_idle,
    write_flood,
)

TARGET_SUPERVISOR_MB = 24.0
TARGET_WORKER_MB = 70.0
AWAY_SECONDS = 5.0  # watched after the flood, for the worker reads on until its first request fails, and tries again


def measure(quick: bool) -> list[Row]:
    size = (100 if quick else 300) * MB
    repeats = 1 if quick else 3
    with place() as directory:
        path = Path(directory, "flood")
        lines = write_flood(path, size)
        away = [flood(path, lines, there=False) for _ in range(repeats)]
        there = [flood(path, lines, there=True) for _ in range(repeats)]
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
