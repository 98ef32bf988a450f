"""How many lines a second a provider gets that takes 100 ms for each answer, against the same provider at once.

Everything waits in the journal because the provider is away; it comes back. Counted from the arrival of the first
request until 95 % of the lines are there, without the first one's: so what the sender learns about the provider on the
way is in it, and the last lines, which may wait for company, are not.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.bench.common import (
    ALL,
    BenchError,
    Intake,
    Request,
    Row,
    Wrapper,
    agent_lines,
    in_turn,
    place,
    progress,
    ratios,
)
from tests.bench.drain import wait_for_journal
from tests.helpers import wait_until

DELAY = 0.1  # seconds
TITLES = {"datadog": "Datadog", "newrelic": "New Relic", "cloudwatch": "CloudWatch", "sentry": "Sentry"}
SETTINGS = {"SHIPPER_JOURNAL_MAX": "2GiB"}


def measure(quick: bool) -> list[Row]:
    count = 100_000 if quick else 600_000
    rows = []
    with place() as directory:
        path = Path(directory, "flood")
        path.write_bytes(b"".join(line + b"\n" for _, line in agent_lines(100_000)) * (count // 100_000))
        for sink in ALL:
            values = in_turn(
                1 if quick else 3,
                late=lambda sink=sink: rate(path, count, sink, DELAY),  # type: ignore[misc]
                at_once=lambda sink=sink: rate(path, count, sink, 0.0),  # type: ignore[misc]
            )
            rows += [
                Row(f"lines a second to {TITLES[sink]} at 100 ms an answer, of those at 0 ms",
                    ratios(values["late"], values["at_once"]), ""),
                Row(f"lines a second to {TITLES[sink]} at 100 ms an answer", values["late"], "/s", None, 0),
                Row(f"lines a second to {TITLES[sink]} at 0 ms an answer", values["at_once"], "/s", None, 0),
            ]  # fmt: skip
    return rows


def lines_in(request: Request) -> int:
    """Lines of the agent's: an event may stand for several, and our own for none."""
    return sum(int(event.get("lines", 1)) for event in request.events() if "seq" in event)


def rate(path: Path, count: int, sink: str, delay: float) -> float:
    """Lines a second."""
    agent = ["sh", "-c", f"cat {path}; read end"]
    with (
        Intake(listening=False, delay=delay) as intake,
        Wrapper(agent, url=intake.url, sinks=[sink], settings=SETTINGS) as wrapper,
    ):
        wrapper.worker_pid()
        wait_for_journal(wrapper.journal, path.stat().st_size)
        intake.listen()
        wait_until(intake.count, 60, "the next attempt")
        intake.wait_quiet(3.0)
        wrapper.end_input()
        wrapper.wait()
        requests = sorted(intake.take(), key=lambda request: request.arrived_ns)
    counts = [lines_in(request) for request in requests]
    if sum(counts) != count:
        raise BenchError(f"{sum(counts)} of {count} lines arrived at {sink}")
    arrived = list(itertools.accumulate(counts))
    most = next(index for index, lines in enumerate(arrived) if lines >= 0.95 * count)
    seconds = (requests[most].arrived_ns - requests[0].arrived_ns) / 1e9
    lines_a_second = (arrived[most] - counts[0]) / seconds
    progress(f"rate, {sink}, {delay * 1e3:.0f} ms: {lines_a_second:,.0f} lines/s, {len(requests)} requests")
    return lines_a_second
