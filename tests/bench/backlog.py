"""The journal holds as much as its default bound after an outage; the provider is back and answers in 100 ms.

Counted from the first request's arrival to the last one's, while the agent lives on, without a CPU quota. In front of
the first stands the wait between two attempts, at most 30 s. Every line must come, and the oldest first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.common import ALL, MB, BenchError, Intake, Row, Wrapper, check_arrived, place, progress, write_flood
from tests.bench.drain import wait_for_journal
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 128 * MB  # of lines: the default bound, and some more with the frames' headers
SETTINGS = {"SHIPPER_JOURNAL_MAX": "160MiB"}  # or the oldest would be dropped before they could be counted
DELAY = 0.1  # seconds
TARGET = 30.0


def measure(quick: bool) -> list[Row]:
    rows = []
    with place() as directory:
        path = Path(directory, "flood")
        lines = write_flood(path, SIZE // 8 if quick else SIZE)
        for sinks, words in ((("datadog",), "Datadog"), (ALL, "all four")):
            values = [backlog(path, lines, sinks) for _ in range(1 if quick else 3)]
            rows.append(Row(f"a full journal (128 MiB) to {words} after an outage", values, "s", TARGET, 1))
    return rows


def backlog(path: Path, lines: int, sinks: Sequence[str]) -> float:
    agent = ["sh", "-c", f"cat {path}; read end"]
    with (
        Intake(listening=False, delay=DELAY) as intake,
        Wrapper(agent, url=intake.url, sinks=sinks, settings=SETTINGS) as wrapper,
    ):
        wrapper.worker_pid()
        wait_for_journal(wrapper.journal, path.stat().st_size)
        intake.listen()
        wait_until(intake.count, 60, "the next attempt")
        intake.wait_quiet(3.0 if len(sinks) == 1 else 31.0)  # another sink's next attempt may come that much later
        wrapper.end_input()
        wrapper.wait()
        requests = sorted(intake.take(), key=lambda request: request.arrived_ns)
    check_arrived(requests, {"stdout": lines}, sinks)
    longest = 0.0
    for sink in sinks:
        own = [request for request in requests if request.provider == sink and request.events()]
        if min(event["seq"] for event in own[0].events()) != 1:
            raise BenchError(f"the oldest line was not in the first request to {sink}")
        longest = max(longest, (own[-1].arrived_ns - own[0].arrived_ns) / 1e9)
    progress(f"backlog to {', '.join(sinks)}: {longest:.1f} s, {len(requests)} requests")
    return longest
