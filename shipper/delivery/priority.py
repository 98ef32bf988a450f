"""The agent comes first: the worker is last in line for CPU and disk and first for the out-of-memory killer."""

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
    number = IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE)
    try:
        with open("/proc/self/oom_score_adj", "wb") as file:
            file.write(OOM_SCORE_ADJ)
    except OSError:
        pass
