"""In real containers, wrapped against bare: the package's size, the start's delay, how late an agent's tick comes under
a CPU quota, and its longest write. Needs a Docker engine.

The start is timed inside one container, bare and wrapped in turn, so Docker's own noise is not in it. The tick is every
20 ms, 1,000 times; while it runs the worker has 1,000,000 lines of an earlier run to drain. The same agent prints a
line at every tick and times that write.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from shipper.sandbox.server import running_in_thread
from tests.bench.common import BenchError, Row, progress
from tests.containers import engine
from tests.helpers import variables

if TYPE_CHECKING:
    from shipper.sandbox.server import Sandbox

LINES = 1_000_000
MB = 1_000_000

FLOOD = f"""
line = b'{{"message":"a line of a backlog","level":"INFO","name":"livekit.agents","pid":7,"n":%d}}\\n'
import sys
for start in range(0, {LINES}, 1000):
    sys.stdout.buffer.write(b"".join(line % n for n in range(start, start + 1000)))
"""

TICK = """
import json, sys, time
late, writes, due = [], [], time.monotonic() + 0.02
for n in range(int(sys.argv[1])):
    time.sleep(max(0.0, due - time.monotonic()))
    began = time.monotonic()
    late.append(began - due)
    sys.stdout.write("tick %d\\n" % n); sys.stdout.flush()
    writes.append(time.monotonic() - began)
    due += 0.02
late.sort()
print(json.dumps({"p50": late[len(late) // 2], "p99": late[len(late) * 99 // 100], "max": late[-1],
                  "write": max(writes)}), flush=True)
"""

STARTS = """
import json, os, subprocess, sys, time
def first(command):
    reading, writing = os.pipe()
    began = time.monotonic()
    process = subprocess.Popen([*command, "sh", "-c", "echo > /dev/fd/%d" % writing], pass_fds=[writing],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writing)
    os.read(reading, 1)
    taken = time.monotonic() - began
    process.wait()
    os.close(reading)
    return taken
ways = {"bare": [], "package": ["/usr/local/bin/shipper", "run", "--"]}
for way in ways.values():
    first(way)
found = {name: [] for name in ways}
for _ in range(int(sys.argv[1])):
    for name, way in ways.items():
        found[name].append(first(way))
print(json.dumps(found))
"""


def measure(quick: bool) -> list[Row]:
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        print("containers: no Docker engine here, so this part is left out", flush=True)
        return []
    try:
        return _measure(quick)
    finally:
        engine.remove_all()


def _measure(quick: bool) -> list[Row]:
    package = engine.build_package()
    image = engine.wrapped(engine.BASE)
    rows = [Row("containers: the package's image", [engine.size_bytes(package) / MB], "MB", 55.0, 1)]
    starts = _json(engine.run(image, "python3", "-c", STARTS, "10" if quick else "40", env={"SHIPPER_SINKS": "none"}))
    delays = [(w - b) * 1000 for w, b in zip(starts["package"], starts["bare"], strict=True)]
    rows.append(Row("containers: agent's first act under the package, later than bare", delays, "ms", 25.0, 1))
    progress("containers: starts done")
    with running_in_thread(engine.gateway()) as sandbox:
        for cpus in ("0.5", "1"):
            rows += _under_quota(image, sandbox, cpus, 200 if quick else 1000)
    return rows


def _under_quota(image: str, sandbox: Sandbox, cpus: str, ticks: int) -> list[Row]:
    quota = ["--cpus", cpus]
    tick = ["python3", "-c", TICK, str(ticks)]
    found = {"bare": _json(engine.run(engine.BASE, *tick, options=quota, timeout=120))}
    environ = variables(sandbox.url, ["datadog"])
    for name, share in (("draining", {}), ("draining, SHIPPER_CPU=100%", {"SHIPPER_CPU": "100%"})):
        volume = ["--volume", f"{engine.make_volume()}:/var/lib/shipper"]
        away = {**environ, "SHIPPER_DATADOG_URL": "http://127.0.0.1:9", "SHIPPER_DRAIN_TIMEOUT": "0s"}
        away |= {"SHIPPER_JOURNAL_MAX": "512MiB"}
        flood = engine.run(image, "python3", "-c", FLOOD, options=volume, env=away, timeout=120)
        if flood.stdout.count(b"\n") != LINES:
            raise BenchError("the backlog is not whole")
        more = {**environ, "SHIPPER_DRAIN_TIMEOUT": "0s", "SHIPPER_JOURNAL_MAX": "512MiB", **share}
        found[name] = _json(engine.run(image, *tick, options=[*quota, *volume], env=more, timeout=180))
        progress(f"containers: {cpus} CPU, {name}: {found[name]}")
    rows = []
    for name, figures in found.items():
        for figure, title in (
            ("p99", "p99 lateness of a 20 ms tick"),
            ("max", "the latest"),
            ("write", "longest write"),
        ):
            target = None
            if name == "draining" and figure == "p99":
                target = round(found["bare"]["p99"] * 1000 + 2.0, 2)
            rows.append(Row(f"containers: {cpus} CPU, {name}: {title}", [figures[figure] * 1000], "ms", target, 2))
    return rows


def _json(done: engine.Completed) -> dict[str, Any]:
    """The last line that it printed."""
    if done.status:
        raise BenchError(f"it ended with {done.status}: {done.stderr.decode(errors='replace')[-500:]}")
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values
