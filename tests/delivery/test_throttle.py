"""The delivery's share of CPU: the account with given times, and a process that would use more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.delivery import control, throttle
from shipper.delivery.throttle import GRAIN, Bucket, share_of
from shipper.supervisor import worker
from tests.bench.common import cpu_seconds
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
CPUS = len(os.sched_getaffinity(0))
SHARE = max(0.1, 0.01 * CPUS)
"""CPUs; at least the percent that SHIPPER_CPU takes."""

BURN = """
import hashlib, json, os, sys, threading, time, zlib
sys.path.insert(0, sys.argv[1])
from shipper.delivery import throttle
control, kind, seconds = int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
throttle.begin(control, os.environ)
data = os.urandom(1 << 20)
def python():
    return sum(range(20_000))
def c_call():
    return zlib.compress(data[:65536], 9)
def unlocked():
    return hashlib.sha256(data).digest()
def burn(work):
    while time.monotonic() < until:
        work()
def measured(work, threads):
    global until
    began, used, waited = time.monotonic(), time.process_time(), throttle.waited()
    until = began + seconds
    others = [threading.Thread(target=burn, args=(work,)) for _ in range(threads)]
    for other in others:
        other.start()
    if not threads:
        burn(work)
    for other in others:
        other.join()
    share = (time.process_time() - used) / (time.monotonic() - began)
    print(json.dumps({"share": share, "waited": throttle.waited() - waited}), flush=True)
work = {"python": python, "c": c_call, "threads": unlocked}[kind]
measured(work, 3 if kind == "threads" else 0)
sys.stdin.readline()
measured(work, 0)
"""


def test_the_share_is_of_the_quota_or_of_the_cpus_where_there_is_none() -> None:
    assert share_of(None, None, 4) is None
    assert share_of(None, 0.5, 4) == pytest.approx(0.05)
    assert share_of(0.5, 0.5, 4) == pytest.approx(0.25)
    assert share_of(0.25, None, 4) == pytest.approx(1.0)
    assert share_of(0.01, 0.1, 1) == pytest.approx(0.01)  # never so little that every answer comes too late


def test_what_is_overdrawn_is_waited_for() -> None:
    bucket = Bucket(0.1, now=100.0, used=0.0)
    burst = max(GRAIN, 0.01)
    assert bucket.wait(100.0, burst) == pytest.approx(0.0)
    assert bucket.wait(100.0, burst + 0.02) == pytest.approx(0.2)
    assert bucket.wait(100.2, burst + 0.02) == pytest.approx(0.0)
    assert bucket.wait(200.0, burst + 0.02) == 0.0  # what was not used is not saved up
    assert bucket.wait(200.0, 2 * burst + 0.03) == pytest.approx(0.1)


@given(st.floats(0.01, 2.0), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.5)), max_size=50))
def test_whoever_waits_as_told_keeps_to_the_share(share: float, steps: list[tuple[float, float]]) -> None:
    bucket = Bucket(share, now=0.0, used=0.0)
    now = used = 0.0
    for idle, work in steps:
        now += idle
        used += work
        now += bucket.wait(now, used)
    assert used <= share * now + max(GRAIN, share * 0.1) + 1e-6


@pytest.mark.parametrize("kind", ["python", "c", "threads"])
def test_a_process_that_would_use_more_is_held_to_its_share_until_the_drain(kind: str) -> None:
    """With the threads the main one only waits for them."""
    pipe, end = os.pipe()
    with process(BURN, str(pipe), kind, "1.0", share=SHARE, control=pipe) as burning:
        held = json.loads(next_line(burning))
        assert held["share"] <= SHARE * 1.6 + 0.03
        assert held["waited"] > 0
        os.write(end, b"wd")
        tell(burning)
        free = json.loads(next_line(burning))
        # A wait's rest at most, until it looks into the pipe again; how much it got then is the machine's affair.
        assert free["waited"] < 0.5  # of 1 s; held it would wait nine tenths of it
        assert burning.wait(20) == 0
    assert os.read(pipe, 10) == b"wd"  # it looked, and left it to whom it is for
    os.close(pipe)
    os.close(end)


def test_the_end_of_the_pipe_lifts_it_in_the_midst_of_a_wait() -> None:
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
from shipper.delivery import throttle
throttle.begin(int(sys.argv[2]), os.environ)
print("up", flush=True)
while throttle._throttle.on:
    sum(range(10_000))
print("free", flush=True)
"""
    pipe, end = os.pipe()
    with process(code, str(pipe), share=0.01, control=pipe) as waiting:
        os.close(pipe)
        assert next_line(waiting) == b"up\n"
        used = cpu_seconds(waiting.pid)
        # Two waits of 0.2 s or more have begun with that, and hardly any time passes between them.
        wait_until(lambda: cpu_seconds(waiting.pid) > used + 3 * GRAIN, 20)
        os.close(end)
        assert next_line(waiting) == b"free\n"
        assert waiting.wait(20) == 0


def test_signals_timers_sockets_and_threads_of_asyncio_go_on_under_it() -> None:
    code = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[1])
from shipper.delivery import throttle
throttle.begin(int(sys.argv[2]), os.environ)
heard = []

async def echo(reader, writer):
    while line := await reader.readline():
        sum(range(50_000))
        writer.write(line)
        await writer.drain()
    writer.close()

async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: heard.append("USR1"))
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for number in range(100):
        line = b"%d\\n" % number
        writer.write(line)
        assert await reader.readline() == line
        if not number % 10:
            assert await asyncio.to_thread(sum, range(50_000)) == 1249975000
            os.kill(os.getpid(), signal.SIGUSR1)
            while len(heard) <= number // 10:
                await asyncio.sleep(0.001)
    writer.close()
    server.close()

asyncio.run(main())
assert throttle.waited() > 0
throttle.lift()
print("whole", flush=True)
"""
    pipe, end = os.pipe()
    with process(code, str(pipe), share=SHARE, control=pipe) as talking:
        assert next_line(talking) == b"whole\n"
        assert talking.wait(20) == 0
    os.close(pipe)
    os.close(end)


def test_the_bytes_that_lift_it_are_those_of_the_supervisor_and_the_worker() -> None:
    assert set(throttle.LIFTING) == {control.DRAIN, control.QUIT}
    assert {worker.DRAIN, worker.QUIT} == {bytes([byte]) for byte in throttle.LIFTING}


@contextmanager
def process(code: str, *arguments: str, share: float, control: int) -> Iterator[subprocess.Popen[bytes]]:
    """Python code that gets the project's directory as its first argument, and so many CPUs."""
    environ = {"PATH": os.environ["PATH"], "SHIPPER_CPU": f"{max(1.0, 100 * share / CPUS):.3f}%"}
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code, str(ROOT), *arguments],
        env=environ,
        pass_fds=[control],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def next_line(started: subprocess.Popen[bytes]) -> bytes:
    assert started.stdout is not None
    return started.stdout.readline()


def tell(started: subprocess.Popen[bytes]) -> None:
    assert started.stdin is not None
    started.stdin.write(b"\n")
    started.stdin.flush()
