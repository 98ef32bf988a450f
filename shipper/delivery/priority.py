"""The agent comes first: the worker is last in line for CPU and disk and first for the out-of-memory killer.

SCHED_BATCH keeps what the worker does when an answer has come, hundreds of times a second, from going before anybody
else. With two busy loops in containers of their own on two cores, no quota, 5,000,000 lines to drain and an agent's
tick of 20 ms, 99 of 100 ticks were at most so many ms late, in two or three runs each: bare 1.2 to 4.0; drained at the
usual priority 6 to 11, at nice 19 5 to 8, at nice 19 with SCHED_BATCH 2 to 4, with SCHED_IDLE 6 to 7. The last would
besides let it starve where all cores are busy (a weight of 3; nice 19 has 15, a usual process 1,024), and without a
privilege there is no way back from it for the drain.

Where there are no containers the kernel may share the CPU out by sessions first (sched(7), autogroup), and the worker
is one of its own, whose processes' niceness says nothing to others: so the session steps back too. With the same loops
the worker still gets 2,000 to 60,000 lines a second away. From this there is a way back, and it goes it for the drain.
"""

from __future__ import annotations

import ctypes
import os

NICENESS = 19
IOPRIO_IDLE = 3 << 13  # class "idle" (linux/ioprio.h)
IOPRIO_WHO_PROCESS = 1
# the number of ioprio_set(2): asm/unistd_64.h of x86, asm-generic/unistd.h
IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30}
OOM_SCORE_ADJ = b"1000"  # the highest; raising one's own needs no privilege (proc(5))


def step_back() -> None:
    """What the kernel does not allow is left as it is."""
    try:
        os.nice(NICENESS)
    except OSError:
        pass
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        pass
    number = IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE)
    _write("/proc/self/oom_score_adj", OOM_SCORE_ADJ)


def step_back_as_session() -> None:
    """Once all is loaded, the sinks too: 0.35 s of CPU, which where all cores are busy would take 10 s and more, longer
    than the drain of an agent that soon ends."""
    _set_session(NICENESS)


def step_forward() -> None:
    """Capture is over: no agent is disturbed any more. A process's own niceness cannot be lowered again."""
    _set_session(0)


def _set_session(niceness: int) -> None:
    if os.getsid(0) == os.getpid():  # else it is not ours alone
        _write("/proc/self/autogroup", b"%d" % niceness)


def _write(name: str, data: bytes) -> None:
    try:
        with open(name, "wb") as file:
            file.write(data)
    except OSError:
        pass
