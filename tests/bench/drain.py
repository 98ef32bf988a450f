"""100,000 lines wait because the provider is away; it comes back, the agent gets its TERM: how long until the end."""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench.common import Intake, Row, Wrapper, agent_lines, check_arrived, place, progress
from tests.helpers import wait_until

LINES = 100_000


def measure(quick: bool) -> list[Row]:
    lines = [line for _, line in agent_lines(LINES)]
    with place() as directory:
        path = Path(directory, "flood")
        path.write_bytes(b"\n".join(lines) + b"\n")
        seconds = [drain(path) for _ in range(1 if quick else 3)]
    return [Row(f"drain of {LINES:,} lines after TERM, until the wrapper's end", seconds, "s")]


def drain(path: Path) -> float:
    agent = ["sh", "-c", f"cat {path}; exec sleep 60"]
    with Intake(listening=False) as intake, Wrapper(agent, url=intake.url) as wrapper:
        wrapper.worker_pid()
        wait_for_journal(wrapper.journal, path.stat().st_size)
        intake.listen()
        began = time.monotonic()
        wrapper.process.terminate()
        wrapper.wait()
        seconds = time.monotonic() - began
        check_arrived(intake.take(), {"stdout": LINES})
    progress(f"drain: {seconds:.2f} s")
    return seconds


def wait_for_journal(journal: Path, size: int) -> None:
    """Until so much stands in it, and the worker has tried to send it, and failed."""

    def kept() -> int:
        return sum(file.stat().st_size for file in journal.rglob("*") if file.is_file())

    wait_until(lambda: kept() > size, 60, "the journal's filling")
    time.sleep(2.0)
