"""From print to the intake at a steady trickle, and what that costs; and the first line after the start."""

from __future__ import annotations

import statistics
import time

from tests.bench.common import (
    Intake,
    Request,
    Row,
    Wrapper,
    check_arrived,
    cpu_seconds,
    printer,
    progress,
)


def measure(quick: bool) -> list[Row]:
    return [
        *first_line(3 if quick else 7),
        *trickle(10, 8 if quick else 20),
        *trickle(1000, 5 if quick else 15),
    ]


def first_line(repeats: int) -> list[Row]:
    """From the wrapper's start to the arrival of a line that the agent prints at once."""
    delays = []
    with Intake() as intake:
        for _ in range(repeats):
            with Wrapper(printer("pace", "1", "1"), url=intake.url) as wrapper:
                wrapper.tell(b"\n")
                wrapper.end_input()
                wrapper.wait()
                arrived_ns = intake.take()[0].arrived_ns
                delays.append(arrived_ns / 1e6 - wrapper.started * 1e3)
    return [Row("first line, from the wrapper's start to the intake", delays, "ms", None, 0)]


def trickle(rate: int, seconds: int) -> list[Row]:
    count = rate * seconds
    with Intake() as intake, Wrapper(printer("pace", str(rate), str(count)), url=intake.url) as wrapper:
        processes = (wrapper.pid, wrapper.worker_pid())
        time.sleep(1.5)  # the worker's start is not what this is about
        intake.take()
        used = sum(map(cpu_seconds, processes))
        wrapper.tell(b"\n")
        time.sleep(seconds)
        intake.wait_quiet()
        used = sum(map(cpu_seconds, processes)) - used
        requests = intake.take()
        wrapper.end_input()
        wrapper.wait()
    check_arrived(requests, {"stdout": count})
    delays = sorted(delays_ms(requests))
    p50, p99 = statistics.median(delays), delays[int(len(delays) * 0.99)]
    progress(f"latency at {rate}/s: p50 {p50:.0f} p99 {p99:.0f} ms, {len(requests)} requests")
    name = f"{rate:,} lines/s"
    return [
        Row(f"print to intake at {name}, p50", [p50], "ms", None, 0),
        Row(f"print to intake at {name}, p99", [p99], "ms", None, 0),
        Row(f"CPU at {name}, both", [used / seconds * 1e3], "ms/s", None, 1),
        Row(f"requests at {name}", [len(requests) / seconds], "/s", None, 1),
    ]


def delays_ms(requests: list[Request]) -> list[float]:
    return [
        (request.arrived_ns - event["printed"]) / 1e6
        for request in requests
        for event in request.events()
        if "printed" in event
    ]
