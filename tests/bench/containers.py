"""Wrapped against bare in real containers: size, start, how late an agent's tick comes, its longest write, memory.

Needs a Docker engine (and for the frozen disk root, mkfs.ext4 and fsfreeze); without it says so and measures nothing.

- Start: in one container, bare and wrapped in turn, so that Docker's own noise is not in it; and as a container's first
  process, from the engine's `StartedAt` to the agent's first instruction.
- Tick: every 20 ms, each with 1 ms of work and a line of 150 bytes; late is what `sleep` took too long. Counted while
  1,000,000 lines that an earlier run left are on their way, at most for `SECONDS`; without a quota they are soon gone.
  Busy: with two endless loops in containers of their own. Unrestrained: SHIPPER_CPU=100%, for comparison.
- Limits: the most that supervisor and worker took in a flood to all four sinks under a memory limit, beside a shell.
- Longest write: 16 KiB every 5 ms, more than the wrapper keeps in memory in the 4 s for which the journal's disk is
  frozen.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.bench.common import (
    ALL,
    BenchError,
    Intake,
    Row,
    agent_lines,
    children,
    in_turn,
    memory_mb,
    place,
    progress,
)
from tests.containers import engine, test_memory
from tests.containers.engine import Running
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

LINES = 1_000_000
SECONDS = 15.0
FREEZE_SECONDS = 4.0
QUOTAS = ("", "0.5", "1")
SIZE_TARGET_MB = 55.0  # of 10^6 bytes, as `docker images` shows it
START_TARGET_MS = 25.0
LATE_TARGET_MS = 2.0  # later than bare
WRITE_TARGET_MS = 300.0  # longer than bare

# SECONDS EVERY BYTES WORK: prints so many bytes so often, after so many seconds of work; what it noted is in /result.
STEADY = """
import json, os, sys, time
seconds, every, size, work = map(float, sys.argv[1:])
line = b'{"message": "%s", "level": "INFO", "name": "livekit.agents"}\\n' % (b"x" * (int(size) - 60))
at, late, write = [], [], []
due = end = time.monotonic()
end += seconds
while due < end:
    due += every
    time.sleep(max(0.0, due - time.monotonic()))
    now = time.monotonic()
    at.append(now)
    late.append(now - due)
    worked = time.thread_time() + work
    while time.thread_time() < worked:
        pass
    began = time.monotonic()
    os.write(1, line)
    write.append(time.monotonic() - began)
    due = max(due, began - 1.0)
with open("/result.new", "w") as file:
    json.dump({"at": at, "late": late, "write": write}, file)
os.rename("/result.new", "/result")
time.sleep(600)
"""

STARTS = """
import json, os, subprocess, sys, time
def first(way):
    reading, writing = os.pipe()
    began = time.monotonic()
    process = subprocess.Popen([*way, "sh", "-c", "echo >/dev/fd/%d" % writing], pass_fds=[writing],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(writing)
    os.read(reading, 1)
    taken = time.monotonic() - began
    process.wait()
    os.close(reading)
    return taken
ways = ([], ["/usr/local/bin/shipper", "run", "--"])
for way in ways:
    first(way)
print(json.dumps([[first(way) for way in ways] for _ in range(int(sys.argv[1]))]))
"""


def measure(quick: bool) -> list[Row]:
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        print("containers: there is no Docker engine here, so this part measures nothing", flush=True)
        return []
    try:
        return [*sizes_and_starts(quick), *ticks(quick), *limits(quick), *writes(quick)]
    finally:
        engine.remove_all()


# -- size and start ----------------------------------------------------------------------------------------------------


def sizes_and_starts(quick: bool) -> list[Row]:
    size_mb = engine.size_bytes(engine.build_package()) / 1e6
    image = engine.wrapped(engine.BASE)
    environ = {"SHIPPER_SINKS": "none"}
    done = engine.run(image, "python3", "-I", "-S", "-c", STARTS, "10" if quick else "40", env=environ)
    pairs = json.loads(done.stdout.splitlines()[-1])
    progress("containers: starts within one done")
    over = []
    for _ in range(5 if quick else 15):
        bare, wrapped = (first_instruction(way) for way in (engine.BASE, image))
        over.append((wrapped - bare) * 1000)
    progress("containers: starts as the first process done")
    return [
        Row("container: the package", [size_mb], "MB", SIZE_TARGET_MB, 1),
        Row("container: agent's first act within one, later than bare",
            [(wrapped - bare) * 1000 for bare, wrapped in pairs], "ms", START_TARGET_MS, 1),
        Row("container: agent's first instruction as its first process, later than bare", over, "ms", None, 1),
    ]  # fmt: skip


def first_instruction(image: str) -> float:
    """Seconds after the engine's start of the container."""
    with Running(image, "date", "+%s%N", env={"SHIPPER_SINKS": "none"}) as container:
        container.wait()
        at = int(container.logs().stdout) / 1e9
        started = container.inspect()["State"]["StartedAt"]
    return at - datetime.fromisoformat(started[:26].rstrip("Z")).replace(tzinfo=UTC).timestamp()


# -- ticks -------------------------------------------------------------------------------------------------------------


class Ticks(NamedTuple):
    """``late``: milliseconds, in order. Only wrapped: ``first``, seconds from the agent's first tick to the first
    request; ``memory``, MB of supervisor and worker."""

    late: list[float]
    first: float
    memory: list[float]


def ticks(quick: bool) -> list[Row]:
    image = engine.wrapped(engine.BASE)
    seconds = 5.0 if quick else SECONDS
    rows: list[Row] = []
    starts: list[Row] = []
    backlog = make_backlog(image)
    for quota in QUOTAS:
        options = ["--cpus", quota] if quota else []
        title = f"quota of {quota} CPU" if quota else "no quota"
        wrapped = tick(image, options, seconds)
        found = {
            "bare": tick(engine.BASE, options, seconds).late,
            "wrapped": wrapped.late,
            "wrapped, draining": tick(image, options, seconds, backlog).late,
        }
        if quota:
            unrestrained = tick(image, options, seconds, backlog, {"SHIPPER_CPU": "100%"})
            found["wrapped, draining unrestrained"] = unrestrained.late
        rows += late_rows(title, found)
        starts.append(
            Row(f"container, {title}: first line at the provider, after the agent's start", [wrapped.first], "s")
        )
        if not quota:
            names = ("supervisor", "worker, Datadog on")
            starts += [Row(f"container: memory, {name}", [mb], "MB", None, 1)
                       for name, mb in zip(names, wrapped.memory, strict=True)]  # fmt: skip
    with hogs():
        late: dict[str, list[float]] = {"bare": [], "wrapped, draining": []}
        for _ in range(1 if quick else 3):  # in turn, and taken together: one alone says little here
            late["bare"] += tick(engine.BASE, [], seconds).late
            late["wrapped, draining"] += tick(image, [], seconds, backlog).late
        rows += late_rows("no quota, busy machine", {name: sorted(values) for name, values in late.items()})
    return rows + starts


def late_rows(title: str, found: Mapping[str, Sequence[float]]) -> list[Row]:
    """``found``: milliseconds, in order."""
    rows = []
    bare_p99 = percentile(found["bare"], 99)
    for way, late in found.items():
        figures = {"p50": percentile(late, 50), "p99": percentile(late, 99), "max": late[-1]}
        shown = ", ".join(f"{name} {ms:.2f}" for name, ms in figures.items())
        progress(f"containers: {title}, {way}: {len(late)} ticks, ms late: {shown}")
        for name, ms in figures.items():
            promised = name == "p99" and way in ("wrapped", "wrapped, draining")
            target = round(bare_p99 + LATE_TARGET_MS, 2) if promised else None
            rows.append(Row(f"container, {title}, {way}: how late a 20 ms tick is, {name}", [ms], "ms", target))
    return rows


def percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[len(ordered) * percent // 100]


def make_backlog(image: str) -> str:
    """The volume with the journal of a run whose lines nobody took."""
    volume = engine.make_volume()
    block = 100_000
    with place() as directory:
        Path(directory, "block").write_bytes(b"".join(line + b"\n" for _, line in agent_lines(block)))
        options = ["--volume", f"{volume}:/var/lib/shipper", "--volume", f"{directory}:/lines:ro"]
        script = f"n=0; while [ $n -lt {LINES // block} ]; do cat /lines/block; n=$((n + 1)); done"
        variables_ = engine.variables_of(settings("http://127.0.0.1:9"))
        engine.docker("run", "--rm", "--log-driver", "none", *variables_, *options, image, "sh", "-c", script,
                      timeout=120)  # fmt: skip
    return volume


def settings(url: str) -> dict[str, str]:
    return {**variables(url, ["datadog"]), "SHIPPER_DRAIN_TIMEOUT": "0s", "SHIPPER_JOURNAL_MAX": "2GiB"}


def copy_of(volume: str) -> str:
    copy = engine.make_volume()
    volumes = ["--volume", f"{volume}:/from:ro", "--volume", f"{copy}:/to"]
    if engine.run(engine.BASE, "cp", "-a", "/from/.", "/to/", options=volumes).status:
        raise BenchError("the backlog could not be copied")
    return copy


def tick(
    image: str,
    options: Sequence[str],
    seconds: float,
    backlog: str = "",
    environ: Mapping[str, str] | None = None,
) -> Ticks:
    volume = copy_of(backlog) if backlog else engine.make_volume()
    memory: list[float] = []
    with Intake(host=engine.gateway()) as intake:
        mount = ["--volume", f"{volume}:/var/lib/shipper"]
        all_settings = {**settings(intake.url), **(environ or {})}
        with steady(image, (seconds, 0.02, 150, 0.001), [*options, *mount], all_settings) as container:
            result = wait_for_result(container, seconds)
            if image != engine.BASE:
                memory += [memory_mb(pid, "Rss") for pid in (container.pid, worker_of(container.pid))]
        arrived = [request.arrived_ns / 1e9 for request in intake.take()]
    engine.docker("volume", "rm", volume, check=False)
    if image != engine.BASE and not arrived:
        raise BenchError(f"nothing arrived within {seconds:.0f} s")
    until = backlog_gone(arrived) if backlog else float("inf")
    late = sorted(late * 1000 for at, late in zip(result["at"], result["late"], strict=True) if at <= until)
    return Ticks(late, arrived[0] - result["at"][0] if arrived else 0.0, memory)


def backlog_gone(arrived: Sequence[float]) -> float:
    """When the requests stopped following each other at once: after that they carry the ticks' own lines, one a second.

    A request holds 1,000 lines; under the least share here there are 30 a second.
    """
    for earlier, later in itertools.pairwise(arrived[10:]):
        if later - earlier > 0.9:
            return earlier
    return arrived[-1]


@contextlib.contextmanager
def hogs() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(Running(engine.BASE, "python3", "-I", "-S", "-c", "while True: pass"))
        yield


@contextlib.contextmanager
def steady(
    image: str, arguments: Sequence[float], options: Sequence[str], environ: Mapping[str, str]
) -> Iterator[Running]:
    logs = ["--log-opt", "max-size=50m"]
    command = ["python3", "-I", "-S", "-c", STEADY, *map(str, arguments)]
    with Running(image, *command, options=[*logs, *options], env=environ) as container:
        yield container
        container.kill()


def wait_for_result(container: Running, seconds: float) -> dict[str, Any]:
    """Looks through the host's /proc: a `docker exec` would be one process more under the quota."""
    path = Path(f"/proc/{container.pid}/root/result")
    wait_until(path.exists, seconds + 60, "the agent's result")
    result: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
    return result


def worker_of(pid: int) -> int:
    for child in children(pid):
        if b"\0--control-fd\0" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    raise BenchError("there is no worker")


# -- limits ------------------------------------------------------------------------------------------------------------


def limits(quick: bool) -> list[Row]:
    image = engine.wrapped(engine.BASE)
    return [
        Row(
            f"container of {limit} MB, 200,000 lines to all four sinks: peak of supervisor and worker",
            [limited_peak(image, limit) for _ in range(1 if quick else 3)],
            "MB",
            None,
            1,
        )
        for limit in (64, 96)
    ]


def limited_peak(image: str, limit: int) -> float:
    """The sum of both processes' own, code included; the container's is always its limit: page cache fills it."""
    options = test_memory.limited(limit)
    with (
        Intake(host=engine.gateway()) as intake,
        Running(image, "sh", "-c", test_memory.SHELL, options=options, env=variables(intake.url, ALL)) as container,
    ):
        test_memory.arrived(intake, ALL, 1, 60)
        container.kill("USR1")
        test_memory.arrived(intake, ALL, test_memory.LINES, 120)
        kills = test_memory.oom_kills(container.pid)
        peak = sum(memory_mb(pid, "VmHWM") for pid in (container.pid, worker_of(container.pid)))
    if kills:
        raise BenchError(f"{kills} processes were ended at the limit of {limit} MB")
    progress(f"containers: limit of {limit} MB: {peak:.1f} MB")
    return peak


# -- writes ------------------------------------------------------------------------------------------------------------

WRITER = (FREEZE_SECONDS + 4, 0.005, 16384, 0.0)


def writes(quick: bool) -> list[Row]:
    image = engine.wrapped(engine.BASE)
    ways: dict[str, Callable[[], float]] = {
        "bare": lambda: longest_write(engine.BASE),
        "wrapped": lambda: longest_write(image),
    }
    missing = [tool for tool in ("mkfs.ext4", "mount", "fsfreeze") if shutil.which(tool) is None]
    if os.geteuid() or missing:
        print("containers: no disk can be frozen here: it needs root, mkfs.ext4, mount and fsfreeze", flush=True)
    else:
        ways[f"wrapped, its journal's disk frozen for {FREEZE_SECONDS:.0f} s"] = lambda: frozen_write(image)
    found = in_turn(1 if quick else 2, **ways)
    target = round(statistics.median(found["bare"]) + WRITE_TARGET_MS, 1)
    rows = []
    for way, longest in found.items():
        most = None if way == "bare" else target
        rows.append(Row(f"container, {way}: longest write of 16 KiB every 5 ms", longest, "ms", most, 1))
    return rows


def longest_write(image: str, options: Sequence[str] = (), disk: Path | None = None) -> float:
    """Milliseconds. ``disk``: where what is frozen meanwhile is mounted."""
    with Intake(host=engine.gateway()) as intake, steady(image, WRITER, options, settings(intake.url)) as container:
        if disk is not None:
            wait_until(lambda: any(disk.rglob("*.seg")), 20, "the journal")
            try:
                call("fsfreeze", "-f", disk)
                time.sleep(FREEZE_SECONDS)
            finally:
                call("fsfreeze", "-u", disk)
        longest: float = max(wait_for_result(container, WRITER[0])["write"]) * 1000
    progress(f"containers: longest write {longest:.1f} ms{', disk frozen' if disk else ''}")
    return longest


def frozen_write(image: str) -> float:
    with place() as directory:
        file, disk = Path(directory, "image"), Path(directory, "disk")
        disk.mkdir()
        with file.open("wb") as made:
            made.truncate(256 << 20)
        call("mkfs.ext4", "-q", "-F", file)
        call("mount", "-o", "loop", file, disk)
        try:
            return longest_write(image, ["--volume", f"{disk}:/var/lib/shipper"], disk)
        finally:
            call("umount", "-l", disk)


def call(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
