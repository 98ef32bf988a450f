"""Until capture is over the delivery keeps itself to its share of CPU, in slices too small to use up a quota.

A quota stands still whatever a process's niceness: whoever uses it up stops the whole container for the rest of the
period, 100 ms as a rule, the agent with it.

- `Bucket` is the account: CPU time comes in at the share's rate, up to a little more than a slice, and goes out as the
  process uses it, its start, its imports, and all its threads included. What is overdrawn is waited for.
- A timer of the kernel's on this process's CPU clock sends SIGPROF to the main thread after every `GRAIN` of CPU time
  (it looks at each tick: every 4 ms at 250 Hz). The handler waits, and **keeps the interpreter's lock** while it does,
  so that no other thread goes on; at most a call into C that gave the lock back does, and what it uses is waited for
  later. An idle process gets no signal.
- While it waits it looks into the supervisor's pipe, without taking anything out of it: the limit is lifted with the
  byte that begins the drain, not one wait later.

In a container of half a CPU, with 1,000,000 lines to drain and a tick of 20 ms (p99 and the longest lateness of 30 s
each, prototypes; bare 0.2 and 0.3 ms, unrestrained 33 and 33): so 0.3 and 4.1 ms; with the lock given back while
waiting 0.4 and 1.0; waiting between two turns of the event loop and between two imports 1.1 and 20. The lock is kept
for what threads could use, not for these figures.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import time
from typing import TYPE_CHECKING

from shipper.config.container import Container
from shipper.config.settings import load

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = 0.1
"""Of the quota."""
LEAST = 0.01
"""CPUs; below that a provider's answer would find the process waiting beyond every time-out."""
GRAIN = 0.004
"""Seconds of CPU time between two looks at the account: a tick at 250 Hz, and a twelfth of what half a CPU has in a
period of 100 ms."""
LOOK = 0.05
"""Seconds after which a wait looks whether the limit is lifted."""
LIFTING = b"dq"
"""control.DRAIN and control.QUIT; asyncio, which comes with them, is to be loaded under the limit."""

_SIGEV_THREAD_ID = 4  # asm-generic/siginfo.h
_SPLICE_F_NONBLOCK = 2
# timer_create(2), timer_settime(2): asm/unistd_64.h of x86, asm-generic/unistd.h
_TIMER_CREATE = {"x86_64": 222, "aarch64": 107, "riscv64": 107}
_TIMER_SETTIME = {"x86_64": 223, "aarch64": 110, "riscv64": 110}


def share_of(asked: float | None, quota: float | None, cpus: int) -> float | None:
    """CPUs that the delivery may use, None: no limit. ``asked``: SHIPPER_CPU as a fraction; ``cpus``: of the process"""
    if quota is None:
        return None if asked is None else max(LEAST, asked * cpus)
    return max(LEAST, (DEFAULT if asked is None else asked) * quota)


class Bucket:
    """Pure. ``share``: CPUs. Times are seconds: ``now`` on any clock that does not go back, ``used`` of CPU time."""

    __slots__ = ("_at", "_burst", "_left", "_share", "_used")

    def __init__(self, share: float, now: float, used: float) -> None:
        self._share = share
        self._burst = max(GRAIN, share * 0.1)  # a period's worth, so that a line now and then never waits
        self._left = self._burst
        self._at = now
        self._used = used

    def wait(self, now: float, used: float) -> float:
        """How long nothing may be used any more, 0 when that need not be."""
        self._left = min(self._burst, self._left + (now - self._at) * self._share) - (used - self._used)
        self._at, self._used = now, used
        return max(0.0, -self._left / self._share)


class Throttle:
    """Of this process, from `start` to `lift`; both in the main thread. ``waited``: seconds, so far."""

    def __init__(self, share: float, control_fd: int) -> None:
        """``control_fd``: the supervisor's pipe. Raises OSError when there are no descriptors."""
        self.waited = 0.0
        self._bucket = Bucket(share, time.monotonic(), 0.0)
        self._control_fd = control_fd
        self._libc = ctypes.PyDLL(None)  # unlike CDLL it keeps the interpreter's lock
        self._seen_fd, self._copy_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._seen = ctypes.create_string_buffer(4096)
        self._timer: ctypes.c_int | None = None
        self._waiting = False
        self.on = False

    def start(self) -> None:
        self.on = True
        signal.signal(signal.SIGPROF, self._heard)
        if not self._start_timer():
            signal.siginterrupt(signal.SIGPROF, False)  # it may meet a thread that is in a library's system call
            signal.setitimer(signal.ITIMER_PROF, GRAIN, GRAIN)

    def lift(self) -> None:
        """From now on there is no limit. May be called twice."""
        if not self.on:
            return
        self.on = False
        signal.signal(signal.SIGPROF, signal.SIG_IGN)  # first: left alone it would end the process
        signal.setitimer(signal.ITIMER_PROF, 0)
        if self._timer is not None:
            self._set_timer(self._timer, 0.0)
        os.close(self._seen_fd)
        os.close(self._copy_fd)

    def _start_timer(self) -> bool:
        """To the main thread, even while another one is at work: setitimer(2) signals whichever is."""
        number = _TIMER_CREATE.get(os.uname().machine)
        if number is None:
            return False
        sigevent = struct.pack("@Piii44x", 0, signal.SIGPROF, _SIGEV_THREAD_ID, os.getpid())  # the main thread's id
        timer = ctypes.c_int()
        clock = ctypes.c_long(time.CLOCK_PROCESS_CPUTIME_ID)
        if self._libc.syscall(ctypes.c_long(number), clock, sigevent, ctypes.byref(timer)) != 0:
            return False
        if not self._set_timer(timer, GRAIN):
            return False
        self._timer = timer
        return True

    def _set_timer(self, timer: ctypes.c_int, seconds: float) -> bool:
        number = _TIMER_SETTIME[os.uname().machine]
        ns = int(seconds * 1e9)
        times = struct.pack("@4q", 0, ns, 0, ns)
        return bool(self._libc.syscall(ctypes.c_long(number), timer, ctypes.c_long(0), times, None) == 0)

    def _heard(self, *_: object) -> None:
        if self._waiting:  # a signal while it waits: a thread in a C call goes on
            return
        self._waiting = True
        try:
            self._wait()
        except Exception:  # noqa: BLE001, S110 (MemoryError: it would come up in the midst of anything)
            pass
        finally:
            self._waiting = False

    def _wait(self) -> None:
        began = now = time.monotonic()
        # settled once: a look costs 0.1 ms, and whoever owes that again and again never gets to the end of it
        until = began + self._bucket.wait(began, time.process_time())
        while self.on:
            if self._is_lifted():
                self.lift()
            elif now < until:
                self._libc.usleep(int(min(until - now, LOOK) * 1e6) + 1)
                now = time.monotonic()
                continue
            break
        self.waited += now - began

    def _is_lifted(self) -> bool:
        """Whether the pipe holds the byte that begins the drain, or has ended. Where tee(2) fails: when it is read."""
        count = self._libc.tee(self._control_fd, self._copy_fd, ctypes.c_size_t(len(self._seen)), _SPLICE_F_NONBLOCK)
        if count > 0:
            count = self._libc.read(self._seen_fd, self._seen, ctypes.c_size_t(len(self._seen)))
            return any(byte in LIFTING for byte in self._seen.raw[: max(0, count)])
        return bool(count == 0)


_throttle: Throttle | None = None


def begin(control_fd: int, environ: Mapping[str, str]) -> None:
    """Keep this process to its share, where it has one. In the main thread, before anything large is imported."""
    global _throttle  # noqa: PLW0603 (one process, one timer)
    share = share_of(load(environ).cpu, Container().cpu_quota(), len(os.sched_getaffinity(0)))
    if share is None:
        return
    try:
        throttle = Throttle(share, control_fd)
    except OSError:
        return
    throttle.start()
    _throttle = throttle


def lift() -> None:
    """Capture is over: at full speed from now on. Nothing happens where there is no limit."""
    if _throttle is not None:
        _throttle.lift()


def waited() -> float:
    """Seconds that this process has waited for its share so far: what took longer by them was not the others' fault."""
    return 0.0 if _throttle is None else _throttle.waited
