"""The worker as a process: started once the journal is open, restarted when it dies, woken and ended through a pipe.

It is not started before there is room for it under the container's memory limit. When that comes near it ends by itself
(SHORT), and where memory grew too quickly for that the kernel ends it before any process of the agent's; then it is
started again with smaller batches, or fewer sinks (`--shrunk N`, see config.budget). It ends with AGAIN when there is
more memory than what it was started with.

One pipe for the whole run, of which we keep both ends: what was written while no worker lived is read by the next one.
It ends when we do. The protocol, single bytes: w, something was appended; t, the agent was asked to end; d, capture is
over, deliver and exit 0; q, one last second.
"""

from __future__ import annotations

import _signal
import fcntl
import os
import termios

from shipper import messages
from shipper.config.container import Container, margin_bytes
from shipper.supervisor.spawn import ALL_SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WAKE, TOLD, DRAIN, QUIT = b"w", b"t", b"d", b"q"

FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
HEALTHY_SECONDS = 60.0  # of life, after which the next death counts as a first one
DRAIN_RETRY = 0.5
SAY_AGAIN_SECONDS = 600.0

AGAIN, SHORT = 75, 76  # statuses of its end: as delivery.worker has them
LONGEST_OOM_DELAY = 60.0  # a start costs 0.4 s of CPU
MIB = 1 << 20
LEAST_BYTES = 26 * MIB  # config.budget's, which is not imported here
LOOK_SECONDS = 2.0  # how often it is looked whether there is room again
OOM_SCORE_ADJ = b"1000"


class Backoff:
    """When a worker that died is started again, and whether to say so. Pure; times are monotonic seconds."""

    __slots__ = ("_delay", "_longest", "_said_at")

    def __init__(self, longest: float = LONGEST_DELAY) -> None:
        self._delay = FIRST_DELAY
        self._longest = longest
        self._said_at: float | None = None

    def died(self, started_at: float, now: float) -> tuple[float, bool]:
        """Seconds until the next start; true when this death is worth a message: the first, and when it goes on."""
        healthy = now - started_at >= HEALTHY_SECONDS
        delay = FIRST_DELAY if healthy else self._delay
        self._delay = min(delay * 2, self._longest)
        goes_on = healthy or delay == self._longest
        say = self._said_at is None or (goes_on and now - self._said_at >= SAY_AGAIN_SECONDS)
        if say:
            self._said_at = now
        return delay, say


class Control:
    """The pipe to the worker. Writes never block."""

    __slots__ = ("_write_fd", "read_fd")

    def __init__(self) -> None:
        """Raises OSError when there is no descriptor to be had."""
        self.read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write_fd, False)

    def wake(self) -> None:
        """Something was appended. Left out while another byte is unread, so that the pipe never fills."""
        unread = fcntl.ioctl(self._write_fd, termios.FIONREAD, b"\0\0\0\0")
        if not any(unread):
            self.send(WAKE)

    def send(self, byte: bytes) -> None:
        try:
            os.write(self._write_fd, byte)
        except BlockingIOError:  # thousands of unread bytes: a wake is among them
            pass


class Worker:
    """``pid`` is 0 while there is none; ``due``: when the next is to be started, None when there is no need;
    ``finished``: it has ended, and there will be no other."""

    def __init__(self, control: Control, command: Callable[[int, int], list[str]], lock_fd: int) -> None:
        """``command``: the worker's, given the control pipe's descriptor and the number of restarts so far."""
        self.pid = 0
        self.due: float | None = 0.0
        self.finished = False
        self._control = control
        self._command = command
        self._lock_fd = lock_fd
        self._restarts = 0
        self._started_at = 0.0
        self._backoff = Backoff()
        self._oom_backoff = Backoff(LONGEST_OOM_DELAY)
        self._container = Container()
        self._oom_kills: int | None = None  # before this one was started
        self._shrunk = 0
        self._no_room_said = False
        self._told = False
        self._draining = False
        self._quitting = False

    def start(self, now: float) -> None:
        if not self._draining and not self._has_room():
            self.due = now + LOOK_SECONDS
            return
        self.due = None
        self._started_at = now
        self._oom_kills = self._container.oom_kills()
        control_fd = self._control.read_fd
        command = self._command(control_fd, self._restarts)
        if self._shrunk:
            command = [*command, "--shrunk", str(self._shrunk)]
        stderr = messages.stderr()
        kept = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (control_fd, self._lock_fd) if fd >= 0]  # not closed on exec
        try:
            self.pid = os.posix_spawn(
                command[0],
                command,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, stderr, 1), (os.POSIX_SPAWN_DUP2, stderr, 2), *kept],
                setsid=True,  # else a terminal's Ctrl-C would end it before it has delivered
                setsigmask=(),
                setsigdef=ALL_SIGNALS - {_signal.SIGKILL, _signal.SIGSTOP},
            )
        except OSError as error:
            self._died(f"could not be started ({error.strerror})", now)
            return
        self._first_in_line()
        # The one before it may have read these.
        if self._told:
            self._control.send(TOLD)
        if self._draining:
            self._control.send(DRAIN)

    def ended(self, wait_status: int, now: float) -> None:
        """It was reaped."""
        self.pid = 0
        code = os.waitstatus_to_exitcode(wait_status)
        if self._quitting or (code == 0 and self._draining):
            self.finished = True
            return
        if code == AGAIN and not self._draining and now - self._started_at >= HEALTHY_SECONDS:
            self._shrunk = 0
            self._restarts += 1
            self.due = now
            return
        if code == SHORT:
            self._met_the_limit(now)
            return
        if code == -_signal.SIGKILL and self._oom_kills is not None:
            kills = self._container.oom_kills()
            if kills is not None and kills > self._oom_kills:
                self._met_the_limit(now)
                return
        self._died(f"ended by signal {-code}" if code < 0 else f"ended with status {code}", now)

    def _died(self, how: str, now: float) -> None:
        delay, say = self._backoff.died(self._started_at, now)
        if self._draining:
            delay = min(delay, DRAIN_RETRY)  # little time is left
        self._restarts += 1
        self.due = now + delay
        if say:
            messages.say(
                f"the process that forwards the lines {how}: it is started again, and goes on where it was; "
                "the agent is not affected."
            )

    def _met_the_limit(self, now: float) -> None:
        """The kernel ended it for want of memory, or it itself before that came to it."""
        delay, say = self._oom_backoff.died(self._started_at, now)
        if self._draining:
            delay = min(delay, DRAIN_RETRY)
        self._restarts += 1
        self._shrunk += 1
        self.due = now + delay
        if say:
            limit = self._container.memory_limit_bytes()
            what = f"the container's memory limit of {limit // MIB} MiB" if limit else "a lack of memory"
            messages.say(
                f"the process that forwards the lines was ended by {what}: no line is lost for that, and it starts "
                "again with smaller batches once there is room."
            )

    def _has_room(self) -> bool:
        """Whether a start does not end at the limit at once, as far as can be told."""
        limit = self._container.memory_limit_bytes()
        if limit is None:
            return True
        held = self._container.memory_held_bytes()
        if held is None or limit - held >= LEAST_BYTES + 2 * margin_bytes(limit):
            return True
        if not self._restarts and not self._no_room_said:
            self._no_room_said = True
            messages.say(
                f"the container's memory limit of {limit // MIB} MiB leaves no room beside the agent for the process "
                f"that forwards the lines, which needs {LEAST_BYTES // MIB} MiB: they wait in the journal, whose "
                "oldest are dropped when it is full, until there is."
            )
        return False

    def _first_in_line(self) -> None:
        """For the OOM killer, from its first page on: its own first steps come some 10 ms later, and at the limit an
        agent that is larger would be ended for what this start takes."""
        try:
            fd = os.open(f"/proc/{self.pid}/oom_score_adj", os.O_WRONLY)
        except OSError:
            return
        try:
            os.write(fd, OOM_SCORE_ADJ)
        except OSError:
            pass
        finally:
            os.close(fd)

    def told(self) -> None:
        """The agent was asked to end."""
        if self.pid and not self._told:
            self._control.send(TOLD)
        self._told = True

    def drain(self, now: float) -> None:
        """Capture is over, and the journal is complete, or does not move."""
        self._draining = True
        if self.pid:
            self._control.send(DRAIN)
        else:
            self.due = now

    def quit(self) -> None:
        """The drain is cut short; a worker that ends now is not started again."""
        self._quitting = True
        self.due = None
        self.finished = not self.pid
        self._control.send(QUIT)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, _signal.SIGKILL)
