"""Tracebacks arrive as one event each, however the agent prints them; what waits for company waits a second."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.wrapped import ALL, Wrapper, all_events, arrived, ledgers, printing, requests, streams
from tests.helpers import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.sandbox.server import Sandbox

HEADER = "Traceback (most recent call last):"

# COUNT tracebacks in turn on both streams, PAUSE seconds after each write; each is told apart by its number. Then the
# agent waits until FILE is there.
AGENT = """
import os, sys, time
count, pause = int(sys.argv[2]), float(sys.argv[3])
def write(fd, text):
    os.write(fd, text.encode())
    time.sleep(pause)
for n in range(count):
    here, there = (1, 2) if n % 2 else (2, 1)
    write(here, "Traceback (most recent call last):\\n")
    write(there, f"plain {n}\\n")
    write(here, f'  File "agent.py", line {n}, in main\\n    do(')
    write(here, f"{n})\\n")
    write(there, f'{{"message": "json {n}"}}\\n')
    write(here, f"ValueError: number {n}\\n")
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
"""


def expected(n: int) -> str:
    return f'{HEADER}\n  File "agent.py", line {n}, in main\n    do({n})\nValueError: number {n}'


def messages(sandbox: Sandbox, provider: str = "datadog") -> list[str]:
    return [event["message"] for event in all_events(sandbox, provider)]


def check_sums(sandbox: Sandbox, captured: int, provider: str = "datadog", repeats: bool = False) -> None:
    (ledger,) = ledgers(sandbox, provider)
    assert (ledger["captured"], ledger["delivered"], ledger["filtered"]) == (captured, captured, 0), provider
    for stream in streams(sandbox, provider).values():
        assert (stream["missing"], stream["unexplained"]) == (0, 0), provider
        assert repeats or stream["repeats"] == 0, provider


@pytest.mark.parametrize(("count", "pause"), [(500, 0.0), (6, 0.06)], ids=["fast", "slow"])
def test_each_traceback_is_one_event_at_every_provider(
    sandbox: Sandbox, directory: Path, count: int, pause: float
) -> None:
    go = directory.parent / "go"
    go.touch()
    with Wrapper(directory, printing(AGENT, str(go), str(count), str(pause)), sandbox.url, sinks=ALL) as wrapper:
        assert wrapper.wait() == 0
    for provider in ALL:
        found = messages(sandbox, provider)
        joined = sorted(text for text in found if "\n" in text)
        assert joined == sorted(map(expected, range(count))), provider
        assert len(found) == 3 * count
        check_sums(sandbox, 6 * count, provider)


def test_a_worker_killed_in_between_costs_no_traceback_and_no_sum(sandbox: Sandbox, directory: Path) -> None:
    go, count = directory.parent / "go", 40
    with Wrapper(directory, printing(AGENT, str(go), str(count), "0.01"), sandbox.url) as wrapper:
        killed: set[int] = set()
        while len(killed) < 3:
            before = arrived(sandbox)["lines"]
            wait_until(lambda before=before: arrived(sandbox)["lines"] > before, 30)  # type: ignore[misc]
            wait_until(lambda: (wrapper.worker() or 0) not in {0, *killed}, 30, "a worker")
            killed.add(worker := wrapper.worker() or 0)
            os.kill(worker, signal.SIGKILL)
        go.touch()
        assert wrapper.wait(60) == 0
    found = messages(sandbox)
    assert {text for text in found if text.startswith(HEADER)} == set(map(expected, range(count)))
    assert {text for text in found if "\n" not in text} == {
        text for n in range(count) for text in (f"plain {n}", f"json {n}")
    }
    check_sums(sandbox, 6 * count, repeats=True)


def test_a_header_alone_goes_after_a_second_while_the_agent_says_nothing(sandbox: Sandbox, directory: Path) -> None:
    go = directory.parent / "go"
    agent = (
        f"import os, sys, time\nprint({HEADER!r}, flush=True)\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
    )
    with Wrapper(directory, printing(agent, str(go)), sandbox.url, {"SHIPPER_FLUSH_INTERVAL": "0s"}) as wrapper:
        wait_until(lambda: arrived(sandbox)["lines"] == 1, 30, "the header")
        (event,) = all_events(sandbox)
        (request,) = requests(sandbox, "datadog")
        assert event["message"] == HEADER
        assert request.received_ms - event["time_ms"] >= 1000
        go.touch()
        assert wrapper.wait() == 0
    check_sums(sandbox, 1)
