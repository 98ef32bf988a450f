"""The worker as a process: started once the journal is open, restarted when it dies, woken and ended through a pipe.

It is not started before there is room for it under the container's memory limit. When that comes near it ends by itself
(SHORT), and where memory grew too quickly for that the kernel ends it before any process of the agent's; then it is
started again with smaller batches, or fewer sinks (`--shrunk N`, see config.budget). It ends with AGAIN when there is
more memory than what it was started with.

One pipe for the whole run, of which we keep both ends: what was written while no worker lived is read by the next one.
It ends when we do. The protocol, single bytes: w, something was appended; t, the agent was asked to end; d, capture is
over, deliver and exit 0; q, one last second.

The pipe also tells a worker that hangs: what stands in it unread while it either uses no CPU time or much of it.
"""

from __future__ import annotations

import _signal
import fcntl
import os
import termios

from shipper import messages
from shipper.config.container import Container, margin_bytes
from shipper.supervisor import processes
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
LEAST_BYTES = 53 * MIB // 2  # config.budget's, which is not imported here
ROOM_SECONDS = 2.0  # how often it is looked whether there is room again
OOM_SCORE_ADJ = b"1000"
LOOK_SECONDS, LOOKS = 10.0, 3  # each wakes a worker that has nothing to do, for some 0.2 ms
DRAIN_LOOK_SECONDS, DRAIN_LOOKS = 0.5, 2
IDLE_CPU = 0.01  # seconds, the clock's grain; a worker that waits for its share of CPU uses 0.06 in 30 s
BUSY_CPU = 5.0  # of a worker that is on its way up: that takes 0.5 here, and 2 on a slow machine
BUSY_DRAIN_CPU = 1.0  # of one that is up: between two turns it uses 0.05 at most


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


class Watch:
    """Tells a worker that hangs from one that is slow. Pure, but for being called.

    It hangs when in several looks in a row nothing of the pipe was read, and meanwhile it either slept or was stopped
    all the time, or used far more CPU time than it ever does between two turns. So one that is starved or throttled, or
    waits for a disk, is left alone; and as looks are counted and no seconds, so is one that was frozen with us.
    """

    __slots__ = ("_cpu", "_idle_cpu", "_idle_looks", "_looks", "_wakes")

    def __init__(self) -> None:
        self._wakes = -1
        self._looks = self._idle_looks = 0
        self._cpu = self._idle_cpu = 0.0

    def look(self, wakes: int, state: str, cpu: float, looks: int, busy_cpu: float, idle: str = "ST") -> bool:
        """Whether it hangs. To be called while something is unread, else `read`.

        ``wakes``: of its pipe so far, each of which found it empty; ``state``: proc(5)'s letter; ``cpu``: seconds;
        ``idle``: the states of one that hangs without using any.
        """
        if wakes != self._wakes:
            self._wakes, self._looks, self._cpu = wakes, -1, cpu
            self._idle_looks, self._idle_cpu = -1, cpu
        elif cpu - self._idle_cpu > IDLE_CPU:
            self._idle_looks, self._idle_cpu = -1, cpu
        self._looks += 1
        self._idle_looks += 1
        if self._idle_looks >= looks:
            return state in idle
        return self._looks >= looks and cpu - self._cpu >= busy_cpu

    def read(self) -> None:
        """Nothing is unread."""
        self._wakes = -1


class Control:
    """The pipe to the worker. Writes never block. ``wakes``: how often it was found empty, and written to."""

    __slots__ = ("_write_fd", "read_fd", "wakes")

    def __init__(self) -> None:
        """Raises OSError when there is no descriptor to be had."""
        self.read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write_fd, False)
        self.wakes = 0

    def unread(self) -> bool:
        return any(fcntl.ioctl(self._write_fd, termios.FIONREAD, b"\0\0\0\0"))

    def wake(self) -> None:
        """Something was appended. Left out while another byte is unread, so that the pipe never fills."""
        if not self.unread():
            self.wakes += 1
            self.send(WAKE)

    def send(self, byte: bytes) -> None:
        try:
            os.write(self._write_fd, byte)
        except BlockingIOError:  # thousands of unread bytes: a wake is among them
            pass


class Worker:
    """``pid`` is 0 while there is none; ``due``: when the next is to be started, None when there is no need;
    ``look_due``: when to `look` whether it hangs; ``finished``: it has ended, and there will be no other;
    ``killed``: how many so far ended by SIGKILL; ``no_room_since``: since when starts lack memory, or None."""

    def __init__(
        self,
        control: Control,
        command: Callable[[int, int], list[str]],
        lock_fd: int,
        look_seconds: float = LOOK_SECONDS,
        busy_cpu: float = BUSY_CPU,
    ) -> None:
        """``command``: the worker's, given the control pipe's descriptor and the number of restarts so far.

        ``look_seconds`` between two looks, and ``busy_cpu``, while the drain has not begun.
        """
        self.pid = 0
        self.due: float | None = 0.0
        self.look_due: float | None = None
        self.finished = False
        self.killed = 0
        self.no_room_since: float | None = None
        self._look_seconds = look_seconds
        self._busy_cpu = busy_cpu
        self._watch = Watch()
        self._wakes_at_start = 0
        self._up = False
        self._heard_drain = False
        self._hung = False
        self._hung_said_at = -SAY_AGAIN_SECONDS
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
            self.due = now + ROOM_SECONDS
            if self.no_room_since is None:
                self.no_room_since = now
            return
        self.due = self.no_room_since = None
        self._started_at = now
        self._oom_kills = self._container.oom_kills()
        self._up = self._heard_drain = self._hung = False
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
        self._control.wake()  # something is there from which it shows when it is up
        self._watch = Watch()
        self._wakes_at_start = self._control.wakes
        self.look_due = now + self._seconds_to_look()

    def _seconds_to_look(self) -> float:
        return min(DRAIN_LOOK_SECONDS, self._look_seconds) if self._draining else self._look_seconds

    def look(self, now: float, disk_stalls: bool = False) -> None:
        """Kills it when it hangs; `ended` is called once that was possible.

        ``disk_stalls``: the journal's, for us too. Then a worker that sleeps may well wait for it, as for any file
        system that answers over a network or from user space, and the next one would do the same.
        """
        if not self.pid or self._hung or self._quitting:
            self.look_due = None
            return
        self.look_due = now + self._seconds_to_look()
        unread, wakes = self._control.unread(), self._control.wakes
        self._up = self._up or not unread or wakes != self._wakes_at_start
        if not unread:
            self._heard_drain = self._draining
            self._watch.read()
            self._control.wake()  # it may hang with all that was written in hand, and nothing may follow
            return
        process, cpu = processes.look(self.pid), processes.cpu_seconds(self.pid)
        if process is None or cpu is None:
            return
        if disk_stalls or (process.state == "S" and processes.waits_for_fuse(self.pid)):
            self._watch.read()  # looks are counted anew once it goes on
            return
        looks = DRAIN_LOOKS if self._draining else LOOKS
        busy_cpu = min(BUSY_DRAIN_CPU, self._busy_cpu) if self._draining and self._up else self._busy_cpu
        # One that has heard of the drain ends without reading on, and may sleep meanwhile: a name server is away.
        idle = "T" if self._heard_drain else "ST"
        if self._watch.look(wakes, process.state, cpu, looks, busy_cpu, idle):
            self._hung = True
            self.look_due = None
            self.kill()
            if now - self._hung_said_at >= SAY_AGAIN_SECONDS:
                self._hung_said_at = now
                messages.say(
                    "the process that forwards the lines hangs: it is killed and started again, "
                    "and goes on where it was; the agent is not affected."
                )

    def ended(self, wait_status: int, now: float) -> None:
        """It was reaped."""
        self.pid = 0
        self.look_due = None
        code = os.waitstatus_to_exitcode(wait_status)
        self.killed += code == -_signal.SIGKILL and not self._hung  # by us, for that
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
        if say and not self._hung:
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
                f"that forwards the lines, which needs {-(-LEAST_BYTES // MIB)} MiB: they wait in the journal, whose "
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
            if not self._hung:
                self._watch.read()  # from here on looks are counted anew, and quicker
                self.look_due = now
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
