"""What the kernel says of a process that has stepped back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SESSION = Path("/proc/self/autogroup")

STEPS = """
import ctypes, json, os, sys
sys.path.insert(0, sys.argv[1])
from shipper.delivery import priority
def read(name):
    try:
        with open(name) as file:
            return file.read().strip()
    except OSError:
        return ""
def state():
    return {"nice": os.getpriority(os.PRIO_PROCESS, 0), "policy": os.sched_getscheduler(0),
            "oom": read("/proc/self/oom_score_adj"), "session": read("/proc/self/autogroup"),
            "disk": ctypes.CDLL(None).syscall(priority.IOPRIO_SET[os.uname().machine] + 1, 1, 0) >> 13}
found = []
for step in (priority.step_back, priority.step_back_as_session, priority.step_forward):
    step()
    found.append(state())
print(json.dumps(found))
"""


def states(*, own_session: bool) -> list[dict[str, Any]]:
    """After each step."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", STEPS, str(ROOT)], capture_output=True, check=True, start_new_session=own_session
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="ioprio_get is not ioprio_set + 1 here")
def test_the_worker_is_last_for_cpu_and_disk_and_first_for_the_oom_killer() -> None:
    for state in states(own_session=True):
        assert (state["nice"], state["policy"], state["oom"], state["disk"]) == (19, os.SCHED_BATCH, "1000", 3)


@pytest.mark.skipif(not SESSION.exists(), reason="this kernel does not share CPU out by sessions")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the kernel takes a user's changes every 0.1 s only")
def test_its_session_steps_back_once_all_is_loaded_and_forward_for_the_drain() -> None:
    loading, running, draining = (state["session"].rpartition(" ")[2] for state in states(own_session=True))
    assert (loading, running, draining) == ("0", "19", "0")


@pytest.mark.skipif(not SESSION.exists(), reason="this kernel does not share CPU out by sessions")
def test_a_session_that_others_share_is_left_as_it_is() -> None:
    before = SESSION.read_text()
    states(own_session=False)
    assert SESSION.read_text() == before
