"""The delivery's share of CPU: the account with given times, and a process that would use more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.delivery.throttle import GRAIN, Bucket, share_of
from tests.helpers import wait_until

ROOT = Path(__file__).resolve().parents[2]

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
    began, used = time.monotonic(), time.process_time()
    until = began + seconds
    others = [threading.Thread(target=burn, args=(work,)) for _ in range(threads - 1)]
    for other in others:
        other.start()
    burn(work)
    for other in others:
        other.join()
    return (time.process_time() - used) / (time.monotonic() - began)
work = {"python": python, "c": c_call, "threads": unlocked}[kind]
share = measured(work, 3 if kind == "threads" else 1)
print(json.dumps(share), flush=True)
sys.stdin.readline()
print(json.dumps(measured(work, 1)), flush=True)
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
    control, end = os.pipe()
    cpus = len(os.sched_getaffinity(0))
    share = 0.1 if cpus <= 10 else 0.01 * cpus
    environ = {"PATH": os.environ["PATH"], "SHIPPER_CPU": f"{100 * share / cpus:.3f}%"}
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", BURN, str(ROOT), str(control), kind, "2.0"],
        env=environ,
        pass_fds=[control],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018
    try:
        held = json.loads(process.stdout.readline())
        assert held <= share * 1.6 + 0.03
        os.write(end, b"wd")
        process.stdin.write(b"\n")
        process.stdin.flush()
        free = json.loads(process.stdout.readline())
        assert free >= 2.5 * share
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        os.close(control)
        os.close(end)


def test_the_end_of_the_pipe_lifts_it_in_the_midst_of_a_wait() -> None:
    control, end = os.pipe()
    code = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from shipper.delivery import throttle
throttle.begin(int(sys.argv[2]), os.environ)
print("up", flush=True)
while throttle._throttle.on:
    sum(range(10_000))
print("free", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", code, str(ROOT), str(control)],
        env={"PATH": os.environ["PATH"], "SHIPPER_CPU": "1%"},
        pass_fds=[control],
        stdout=subprocess.PIPE,
    )
    os.close(control)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"up\n"
        time.sleep(0.3)  # it is in a wait by now, or will be
        os.close(end)
        wait_until(lambda: process.poll() is not None, 10)
        assert process.stdout.read() == b"free\n"
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
