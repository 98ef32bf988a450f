"""One stream of the agent: reads, hands on to the writer, passes on. A thread each, so that a blocked stdout holds back
its stream alone, as it would without us.

First to the writer, then on: else a chunk stuck behind a blocked stdout would never be shipped. What is passed on goes
in writes that do not block, so that the end can see progress, and can end passing on. But our stdout is never made
non-blocking, for it is shared with whoever started us: newer kernels take the wish with a single write (RWF_NOWAIT in
pwritev2(2), for pipes and sockets; seen on 6.18), for all else a write is no larger than what surely fits.
"""

from __future__ import annotations

import _thread
import errno
import fcntl
import os
import select
import stat
import sys
import termios
import time

from shipper import messages
from shipper.supervisor.spawn import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from shipper.supervisor.writer import Writer

READ_BYTES = 64 * 1024  # a pipe's capacity; twice as fast as reads of 1 MiB
SURE_BYTES = 4096  # fit in a pipe that poll(2) calls writable: it has a page free. A fair size for all else
RETRY_SECONDS = 0.005
NAMES = ("", "stdout", "stderr")


class Pump:
    """``moves`` changes with every read and write; ``read_bytes``: so far; ``ended``: the agent's end is closed and
    everything is passed on."""

    __slots__ = (
        "_capturing",
        "_give_up_fd",
        "_nudge",
        "_passing",
        "_pipe_bytes",
        "_poll",
        "_reading",
        "_source",
        "_surely_writable",
        "_target",
        "_without_waiting",
        "_writer",
        "ended",
        "moves",
        "read_bytes",
        "stream",
    )

    def __init__(
        self, stream: int, source: int, target: int, writer: Writer, nudge: Callable[[], None], give_up_fd: int
    ) -> None:
        """``nudge`` is called at the end; ``give_up_fd`` becomes readable when passing on is to end."""
        self.stream = stream
        self.ended = False
        self.moves = 0
        self.read_bytes = 0
        self._source = source
        self._target = target
        self._writer = writer
        self._nudge = nudge
        self._give_up_fd = give_up_fd
        self._reading = False
        self._capturing = True
        self._passing = True
        mode = os.fstat(target).st_mode
        # Their writes end by themselves: files, and devices such as /dev/null.
        device = stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and not os.isatty(target))
        self._surely_writable = stat.S_ISREG(mode) or device
        self._without_waiting = hasattr(os, "RWF_NOWAIT")
        self._pipe_bytes = fcntl.fcntl(target, fcntl.F_GETPIPE_SZ) if stat.S_ISFIFO(mode) else 0
        self._poll = select.poll()
        self._poll.register(target, select.POLLOUT)
        self._poll.register(give_up_fd, select.POLLIN)

    def start(self) -> None:
        """Raises RuntimeError when there is no thread to be had."""
        _thread.start_new_thread(self._run, ())

    def quiet(self) -> bool:
        """Nothing left to do for now: the pipe is empty and everything read is passed on."""
        if self.ended:
            return True
        if not self._reading:
            return False
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        return not poll.poll(0) and self._reading

    def capacity(self) -> int:
        """How many bytes the agent's pipe can hold."""
        return fcntl.fcntl(self._source, fcntl.F_GETPIPE_SZ)

    def _run(self) -> None:
        failing = False
        while True:
            try:
                self._pump()
                break
            except Exception as error:  # noqa: BLE001  a bug, or no memory: the agent's pipe must be emptied all the same
                if not failing:
                    messages.say(f"a fault in passing on {NAMES[self.stream]} ({describe(error)}): trying to go on.")
                failing = True
                self._reading = False
                time.sleep(RETRY_SECONDS)
        try:
            self._writer.end_stream(self.stream)
        except Exception as error:  # noqa: BLE001  a bug
            messages.say(f"a fault in keeping {NAMES[self.stream]} ({describe(error)}): its last lines may be lost.")
        self.ended = True
        self._nudge()

    def _pump(self) -> None:
        source, stream, put = self._source, self.stream, self._writer.put
        read, time_ns, monotonic_ns = os.read, time.time_ns, time.monotonic_ns
        while True:
            self._reading = True
            chunk = read(source, READ_BYTES)
            self._reading = False
            if not chunk:
                return
            self.moves += 1
            self.read_bytes += len(chunk)
            if self._capturing:
                try:
                    put(stream, time_ns(), monotonic_ns(), chunk)
                except Exception as error:  # noqa: BLE001  a bug: the agent's output goes on
                    self._capturing = False
                    messages.say(
                        f"a fault in keeping {NAMES[stream]} ({describe(error)}): "
                        "it is passed on, but no more kept and forwarded."
                    )
            if self._passing:
                self._pass_on(chunk)

    def _pass_on(self, chunk: bytes) -> None:
        try:
            at_once = self._surely_writable or self._without_waiting or self._room() >= len(chunk)
            written = self._write(chunk) if at_once else 0
            if written < len(chunk):
                self._pass_on_in_parts(memoryview(chunk)[written:])
        except OSError as error:
            self._failed(error)

    def _pass_on_in_parts(self, rest: memoryview) -> None:
        while rest:
            part = rest
            if not self._surely_writable:
                if self._give_up_fd in [fd for fd, _ in self._poll.poll()]:
                    self._passing = False
                    return
                if not self._without_waiting:
                    part = rest[: max(SURE_BYTES, self._room())]
            written = self._write(part)
            if not written:
                time.sleep(RETRY_SECONDS)
            rest = rest[written:]

    def _room(self) -> int:
        """How much surely goes into our stdout without blocking: all of an empty pipe.

        Nothing can be said of one that is not: a pipe's pages may each hold less than they could.
        """
        if not self._pipe_bytes:
            return 0
        unread = int.from_bytes(fcntl.ioctl(self._target, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
        return 0 if unread else self._pipe_bytes

    def _write(self, data: bytes | memoryview) -> int:
        """How much of it was written; 0 when nothing can be, for now."""
        try:
            if self._without_waiting:
                written = os.pwritev(self._target, (data,), -1, os.RWF_NOWAIT)
            else:
                written = os.write(self._target, data)
        except BlockingIOError:
            return 0
        except (OSError, NotImplementedError):
            if not self._without_waiting:
                raise
            self._without_waiting = False  # not here, or the reader is gone: the plain write says which
            return 0
        self.moves += 1
        return written

    def _failed(self, error: OSError) -> None:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return  # a file: this chunk is lost there, as the agent's own write would be, and the next may fit
        self._passing = False
        if self.stream == 1:  # of stderr there is nobody left to tell
            messages.say(
                f"stdout has no reader any more ({error.strerror}): "
                "what the agent prints there is still kept and forwarded, but not passed on."
            )
