"""SHIPPER_WHEN_FULL=block: the agent's writes are held back rather than a line lost, and nobody is held for ever."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from shipper.supervisor.writer import LAST_BYTES
from tests.e2e.wrapped import Wrapper, arrived, printing, streams
from tests.helpers import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.sandbox.server import Sandbox

pytestmark = pytest.mark.timeout(240)  # held back, the lines take 15 s on a quiet machine, and 60 on a busy one

LINES = 300_000  # 20 MB: the queue before the journal holds 8
BOUND = {"SHIPPER_WHEN_FULL": "block", "SHIPPER_JOURNAL_MAX": "1MiB"}
FLOOD = """
import os, sys
if len(sys.argv) > 2:
    os.write(2, b"a line that does not end ")
for first in range(1, int(sys.argv[1]), 100):
    os.write(1, b"".join(b"%d %s\\n" % (number, b"." * 60) for number in range(first, first + 100)))
"""
HELD = "SHIPPER_WHEN_FULL=block holds the agent's output back"


def printed(wrapper: Wrapper) -> int:
    return wrapper.stdout.count(b"\n")


def wait_until_held(wrapper: Wrapper) -> int:
    """Until what is passed on moves no more; how many lines that are."""
    wait_until(lambda: any(HELD in message for message in wrapper.said), 30, "the message")
    at = time.monotonic()
    before = printed(wrapper)
    while time.monotonic() < at + 1.0:
        if printed(wrapper) != before:
            before, at = printed(wrapper), time.monotonic()
        time.sleep(0.05)
    return before


def journal_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*.seg"))


def test_an_agent_is_held_back_while_a_provider_is_away_and_no_line_is_lost(sandbox: Sandbox, directory: Path) -> None:
    sandbox.fault("datadog", status=503)
    with Wrapper(directory, printing(FLOOD, str(LINES)), sandbox.url, BOUND) as wrapper:
        held_at = wait_until_held(wrapper)
        assert held_at < LINES * 2 // 3
        assert journal_bytes(directory) <= 1 << 20
        sandbox.fault("datadog")
        assert wrapper.wait(150) == 0
        assert sum(HELD in message for message in wrapper.said) == 1
        assert wrapper.cursor()["dropped"] == {}
        assert printed(wrapper) == LINES
    (stream,) = streams(sandbox).values()
    assert (stream["missing"], stream["last_seq"]) == (0, LINES)


def test_a_refused_secret_holds_nobody_back(sandbox: Sandbox, directory: Path) -> None:
    sandbox.fault("datadog", status=403)
    with Wrapper(directory, printing(FLOOD, str(LINES)), sandbox.url, BOUND) as wrapper:
        assert wrapper.wait(150) == 0
        assert printed(wrapper) == LINES


def test_a_line_that_does_not_end_holds_nobody_back(sandbox: Sandbox, directory: Path) -> None:
    with Wrapper(directory, printing(FLOOD, str(LINES), "more"), sandbox.url, BOUND) as wrapper:
        assert wrapper.wait(150) == 0
        assert printed(wrapper) == LINES
        assert [message for message in wrapper.said if HELD not in message] == []
    found = {of: stream for (_, of), stream in streams(sandbox).items()}
    assert (found["stdout"]["missing"], found["stdout"]["last_seq"]) == (0, LINES)
    assert found["stderr"]["unexplained"] == 0  # its beginning may have made room


def test_an_agent_that_is_held_can_be_ended_and_the_next_start_delivers_all_that_it_wrote(
    sandbox: Sandbox, directory: Path
) -> None:
    sandbox.fault("datadog", status=503)
    with Wrapper(
        directory, printing(FLOOD, str(LINES)), sandbox.url, {**BOUND, "SHIPPER_DRAIN_TIMEOUT": "3s"}
    ) as wrapper:
        wait_until_held(wrapper)
        wrapper.terminate()
        assert wrapper.wait(30) == 128 + signal.SIGTERM
        written = printed(wrapper)
        assert wrapper.cursor()["dropped"] == {}
        assert journal_bytes(directory) <= (1 << 20) + LAST_BYTES
        run = os.path.basename(wrapper.run_path()).partition("-")[2]
    sandbox.fault("datadog")
    with Wrapper(directory, ["sleep", "1"], sandbox.url, {**BOUND, "SHIPPER_DRAIN_TIMEOUT": "60s"}) as wrapper:
        assert wrapper.wait(90) == 0
    (stream,) = [stream for (of, _), stream in streams(sandbox).items() if of == run]
    assert stream["missing"] == 0
    assert stream["last_seq"] in (written, written + 1)  # the last one may have been cut by the agent's end
    assert arrived(sandbox)["missing"] == 0
