"""A container under a CPU quota, while the delivery would take all of it."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.bench.common import children, cpu_seconds
from tests.containers import engine
from tests.containers.engine import Running
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from shipper.sandbox.server import Sandbox

LINES = 300_000
QUOTA = ["--cpus", "0.5"]
SHARE = 0.05  # CPUs: SHIPPER_CPU is 10% when it is not set

FLOOD = f"""
line = b'{{"message":"a line of a backlog","level":"INFO","name":"livekit.agents","pid":7,"n":%d}}\\n'
import sys
for start in range(0, {LINES}, 1000):
    sys.stdout.buffer.write(b"".join(line % n for n in range(start, start + 1000)))
"""

TICK = """
import json, time
def throttled():
    for name in ("/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat"):
        try:
            with open(name) as file:
                fields = dict(line.split() for line in file)
        except OSError:
            continue
        return int(fields["nr_throttled"])
began, due = throttled(), time.monotonic() + 0.02
for _ in range(300):
    time.sleep(max(0.0, due - time.monotonic()))
    due = max(due + 0.02, time.monotonic())
print(json.dumps({"throttled": throttled() - began}), flush=True)
time.sleep(600)
"""


def throttled(container: Running) -> int:
    """In how many periods of 100 ms, of some 60, the container had used up its quota and stood still."""
    container.wait_for("throttled", 90)
    line = next(line for line in container.logs().stdout.splitlines() if b"throttled" in line)
    return int(json.loads(line)["throttled"])


@pytest.mark.timeout(300)
def test_under_a_quota_the_container_does_not_stand_still_while_a_backlog_drains(
    package: str, sandbox: Sandbox
) -> None:
    assert package == engine.PACKAGE
    image = engine.wrapped(engine.BASE)
    volume = engine.make_volume()
    mount = ["--volume", f"{volume}:/var/lib/shipper"]
    # Nobody answers there: the lines stay in the journal.
    away = {
        **variables(sandbox.url, ["datadog"]),
        "SHIPPER_DATADOG_URL": "http://127.0.0.1:9",
        "SHIPPER_DRAIN_TIMEOUT": "0s",
    }
    flood = engine.run(image, "python3", "-c", FLOOD, options=mount, env=away)
    assert flood.status == 0
    assert flood.stdout.count(b"\n") == LINES

    env = {**variables(sandbox.url, ["datadog"]), "SHIPPER_DRAIN_TIMEOUT": "60s"}
    with Running(image, "python3", "-c", TICK, options=[*QUOTA, *mount], env=env) as container:
        began = time.monotonic()
        worker = worker_of(container)
        found = throttled(container)
        used, passed = cpu_seconds(worker), time.monotonic() - began
        before: Any = sandbox.store.summary()
        # A twentieth of a CPU for 6 s: far from done. Without the limit it is done by now.
        assert _delivered(before) < LINES
        # Unrestrained it stands still in nearly every period, the agent with it. How late that makes an agent's tick is
        # the bench's to say, on a quiet machine.
        assert found <= 6
        assert used <= 1.5 * SHARE * passed + 0.1  # a share of its start's, before it was seen
        container.stop(90)
        assert container.status == 143
    after: Any = sandbox.store.summary()
    assert _delivered(after) >= LINES  # the drain knows no limit


def worker_of(container: Running) -> int:
    """Its process id as the host sees it."""
    found: list[int] = []

    def look() -> bool:
        for child in children(container.pid):
            with contextlib.suppress(OSError):
                if b"\0--control-fd\0" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
        return bool(found)

    wait_until(look, 30, "the worker's start")
    return found[0]


def _delivered(summary: Any) -> int:
    streams = summary["providers"]["datadog"]["streams"]
    return sum(stream["last_seq"] or 0 for stream in streams if stream["stream"] == "stdout")
