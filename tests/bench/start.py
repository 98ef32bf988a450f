"""How much later the agent starts, against starting it bare.

The agent is `sh -c "echo >/dev/fd/N; echo"`. Its first act is what it writes to that descriptor, a pipe that we
read and the wrapper does not touch; its first byte comes through the wrapper's passthrough. Both count from just before
the start. The whole run is that of `true`, from start to end.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import TYPE_CHECKING

from tests.bench.common import (
    CONSOLE_SCRIPT,
    ENVIRONMENT,
    SHIPPER,
    BenchError,
    Intake,
    Row,
    in_turn,
    place,
    progress,
)
from tests.helpers import variables

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGET_MS = 25.0


def measure(quick: bool) -> list[Row]:
    repeats = 10 if quick else 50
    ways: dict[str, Sequence[str]] = {"bare": (), "python": (*SHIPPER, "run", "--")}
    if CONSOLE_SCRIPT.exists():
        ways["script"] = (str(CONSOLE_SCRIPT), "run", "--")
    rows = []
    with place() as directory, place() as other, Intake() as intake:
        environment = {**ENVIRONMENT, "SHIPPER_DIR": directory}
        shipping = {**ENVIRONMENT, "SHIPPER_DIR": other, **variables(intake.url, ["datadog"])}
        acts: dict[str, list[float]] = {name: [] for name in ways}
        first_bytes: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                act, first_byte = first_signs(way, environment)
                acts[name].append(act)
                first_bytes[name].append(first_byte)
        progress("start: first signs done")
        wholes = in_turn(repeats, **{name: lambda way=way: whole(way, environment) for name, way in ways.items()})
        wholes |= in_turn(5 if quick else 10, shipping=lambda: whole(ways["python"], shipping))
    titles = {"python": "`python -I -m shipper run`", "script": "the console script"}
    for name, title in titles.items():
        if name in ways:
            rows.append(
                Row(f"start: agent's first act under {title}, later than bare", over(acts, name), "ms", TARGET_MS, 1)
            )
    rows += [
        Row("start: agent's first byte at the reader, later than bare", over(first_bytes, "python"), "ms", None, 1),
        Row("start: `true` from start to end, longer than bare", over(wholes, "python"), "ms", None, 1),
        Row("start: `true` from start to end, with a sink (its worker starts, drains and ends)",
            [seconds * 1000 for seconds in wholes["shipping"]], "ms", None, 1),
    ]  # fmt: skip
    return rows


def over(values: dict[str, list[float]], name: str) -> list[float]:
    """Milliseconds over bare, of neighbours in time."""
    return [(value - bare) * 1000 for value, bare in zip(values[name], values["bare"], strict=True)]


def first_signs(way: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds to the agent's first act, and to its first byte at the reader."""
    act_fd, act_end = os.pipe()
    seen: dict[int, float] = {}
    try:
        started = time.monotonic()
        process = subprocess.Popen(
            [*way, "sh", "-c", f"echo >/dev/fd/{act_end}; echo"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[act_end],
        )
        with process:
            assert process.stdout is not None
            out_fd = process.stdout.fileno()
            poll = select.poll()
            poll.register(act_fd, select.POLLIN)
            poll.register(out_fd, select.POLLIN)
            while len(seen) < 2:
                ready = poll.poll(10_000)
                now = time.monotonic()
                if not ready:
                    raise BenchError("the agent did not start within 10 s")
                for fd, _ in ready:
                    seen[fd] = now - started
                    poll.unregister(fd)
    finally:
        os.close(act_fd)
        os.close(act_end)
    return seen[act_fd], seen[out_fd]


def whole(way: Sequence[str], environment: dict[str, str]) -> float:
    started = time.monotonic()
    subprocess.run([*way, "true"], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.monotonic() - started
