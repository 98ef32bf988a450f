"""Prints the number of each signal that it gets; ends with 7 on the last real-time signal. With FILE: takes as many
seconds to end after a TERM as it takes FILE to appear, and ends with 0."""

from __future__ import annotations

import os
import signal
import sys

ends = sys.argv[1:]
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
print("ready", os.getpid(), flush=True)
while True:
    number = signal.sigwait(signal.valid_signals())
    print(int(number), flush=True)
    if number == signal.SIGRTMAX:
        sys.exit(7)
    if ends and number == signal.SIGTERM:
        while not os.path.exists(ends[0]):
            pending = signal.sigtimedwait(signal.valid_signals(), 0.01)
            if pending is not None:
                print(pending.si_signo, flush=True)
        print("drained", flush=True)
        sys.exit(0)
