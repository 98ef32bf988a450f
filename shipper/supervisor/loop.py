"""The main thread: waits for signals and children, and drives everything else by what they say.

All signals are blocked in every thread and taken out of the queue here; there is no signal handler. Other threads wake
this one with a SIGCHLD, which is forwarded to nobody.
"""

from __future__ import annotations

import _signal
import _thread
import errno
import os
import time

from shipper import messages
from shipper.journal.numbering import name_lines
from shipper.supervisor import course, processes, signals
from shipper.supervisor.course import Course, Output
from shipper.supervisor.pump import Pump
from shipper.supervisor.spawn import ALL_SIGNALS, give_back
from shipper.supervisor.worker import Control, Worker
from shipper.supervisor.writer import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from shipper.supervisor.outfit import Outfit
    from shipper.supervisor.processes import Process
    from shipper.supervisor.spawn import Agent

# Until the settings are read: the defaults of DESIGN's table.
DRAIN_TIMEOUT = 8.0
ORPHAN_TIMEOUT = 3600.0

CONTROL_RETRY = 2.0
NO_ROOM_SECONDS = 30.0  # so long a worker that lacks memory is waited for where the agent is held back
WORKER_GRACE = 1.0  # the worker keeps to the drain's time by itself; this much later it is killed
PER_PASS = 128
"""Signals, and ends of children, taken before anything else is looked after: whoever sends them in a loop sends them as
fast as they are taken."""

SCAN_SHARE = 20  # at most one part in so many of the time goes into scans of /proc: each costs some 10 us a process

CUT_SHORT = 1.9  # of the 2 s that a TERM in the drain leaves; the worker is given 1 s of them


def _make_outfit(agent: Agent, make: Callable[[Agent], Outfit] | None) -> Outfit:
    """Imported by the writer's thread, with all that it needs: the pumps are not to wait for that."""
    if make is not None:
        return make(agent)
    from shipper.supervisor.outfit import Outfit

    return Outfit(agent)


class Supervisor:
    """One run, from the agent's start to its status."""

    def __init__(
        self,
        agent: Agent,
        left: list[tuple[int, int]],
        pumps: list[Pump],
        make_outfit: Callable[[Agent], Outfit] | None,
    ) -> None:
        """``left``: the agent's outputs and ours, each pair taken out once one of ``pumps`` has it."""
        self._agent = agent
        self._left = left
        self._own_pid = os.getpid()
        self._leader = os.getsid(0) == self._own_pid
        self._main_thread = _thread.get_ident()
        self._give_up_fd, self._give_up_end = os.pipe2(os.O_CLOEXEC)
        self._course = Course(os.getpgid(0))
        self._writer = Writer(lambda: _make_outfit(agent, make_outfit), self._nudge)
        self._pumps = pumps
        self._pipes = [f"pipe:[{os.fstat(fd).st_ino}]" for fd, _ in left]
        self._worker: Worker | None = None
        self._worker_unwanted = False
        self._worker_due = 0.0  # when its pipe is to be had, at the earliest
        self._no_control_said = False
        self._asked_to_end = False
        self._leftovers_said = False
        self._unreachable_said = False
        self._seen_orphans: list[Process] = []
        self._next_scan = 0.0
        self._scan_owed = False
        self._was_stopped = False
        self._drain_since = 0.0
        self._drain_until: float | None = None
        self._drain_told = False

    def start(self) -> None:
        """Starts the threads. Raises RuntimeError when there are none to be had."""
        while self._left:
            source, target = self._left[0]
            pump = Pump(3 - len(self._left), source, target, self._writer, self._nudge, self._give_up_fd)
            pump.start()
            del self._left[0]
            self._pumps.append(pump)
        self._writer.start()
        if not self._agent.adopting:
            messages.say("orphans of the agent cannot be adopted here: what it leaves behind is not waited for.")

    def run(self) -> int:
        """The status to end with."""
        due: float | None = 0.0
        try:
            while not self._over():
                more = self._take_signals(due)
                more = self._reap() or more
                now = time.monotonic()
                self._follow_course(now)
                self._look_after_worker(now)
                due = 0.0 if more else self._next_due()
        except Exception:
            self._writer.let_go()  # nobody looks after the worker any more, for whom the agent may be held back
            raise
        self._say_of_end()
        return self._status()

    def _status(self) -> int:
        """The agent's, unless its LiveKit worker had failed and ended with 0 all the same."""
        settings = self._writer.settings
        if self._writer.failed and settings is not None and settings.failed_status is not None:
            return settings.failed_status
        return self._course.status

    def _nudge(self) -> None:
        """Wakes the main thread, from any thread."""
        _signal.pthread_kill(self._main_thread, _signal.SIGCHLD)

    # -- signals and children ------------------------------------------------------------------------------------------

    def _take_signals(self, due: float | None) -> bool:
        """Waits for one, at most until ``due``, and takes all that are there; true when there may be more."""
        if due is None:
            info: _signal.struct_siginfo | None = _signal.sigwaitinfo(ALL_SIGNALS)
        else:
            info = _signal.sigtimedwait(ALL_SIGNALS, max(0.0, due - time.monotonic()))
        for _ in range(PER_PASS):
            if info is None:
                return False
            self._take(info.si_signo, info.si_code, info.si_pid)
            info = _signal.sigtimedwait(ALL_SIGNALS, 0)
        if info is not None:
            self._take(info.si_signo, info.si_code, info.si_pid)
        return True

    def _take(self, signo: int, code: int, sender: int) -> None:
        route = signals.route(signo, code, sender, self._own_pid, self._agent.terminal, self._leader)
        if route == signals.NOTHING:
            return
        if signo in signals.STOPPERS:
            self._asked_to_end = True
            if self._worker is not None:
                self._worker.told()
        if signo == _signal.SIGCONT and self._agent.terminal and (route == signals.SHARED or self._was_stopped):
            # The shell's fg continues the group, so the agent has it, unless it was for us alone.
            self._was_stopped = False
            agent = processes.look(self._agent.pid)
            route = signals.FORWARD if agent is not None and agent.state == "T" else signals.NOTHING
        if route == signals.FORWARD:
            self._forward(signo)
        elif route == signals.SHARED:
            self._course.shared(signo, time.monotonic())
            self._end_sooner(signo)
        # With a terminal the agent stops first, and we when we see that (`_reap`): it may not want to.
        if signo == _signal.SIGTSTP and code > 0 and not (self._agent.terminal and self._agent.wait_status is None):
            self._stop()

    def _forward(self, signo: int) -> None:
        if not self._course.forwards(signo, time.monotonic()):
            self._end_sooner(signo)
            return
        if self._agent.wait_status is None:
            self._send(self._agent.pid, signo)
            return
        for orphan in self._orphans():
            self._send(orphan.pid, signo)

    def _end_sooner(self, signo: int) -> None:
        now = time.monotonic()
        if self._course.phase == course.DRAIN:
            if signo in signals.ENDERS:
                self._cut_drain_short(now)
        else:
            self._course.hasten(signo, now)

    def _send(self, pid: int, signo: int) -> None:
        try:
            os.kill(pid, signo)
        except OSError as error:  # it is gone, or:
            if error.errno == errno.EPERM and not self._unreachable_said:
                self._unreachable_said = True
                messages.say(
                    f"no signal can be sent to process {pid} of the agent, which has another user than this one: it "
                    "will not hear of a TERM, and ends by itself or with the container; give both the same user."
                )

    def _stop(self) -> None:
        """Stops this process as the signal would have: not at all when it is ignored, or when no shell is there that
        could continue us (an orphaned process group, which SIGSTOP would leave hanging)."""
        self._was_stopped = True
        _signal.pthread_kill(self._main_thread, _signal.SIGTSTP)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGTSTP,))
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTSTP,))

    def _reap(self) -> bool:
        """Takes the end of every child that has one; true when there may be more."""
        for _ in range(PER_PASS):
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return False
            if not pid:
                return False
            if os.WIFSTOPPED(status):
                if pid == self._agent.pid and self._agent.terminal:
                    self._stop()
            elif pid == self._agent.pid:
                self._agent.wait_status = status
                self._course.agent_ended(status, self._orphans(), time.monotonic())
            elif self._worker is not None and pid == self._worker.pid:
                self._worker.ended(status, time.monotonic())
            elif self._seen_orphans:
                self._seen_orphans = [orphan for orphan in self._seen_orphans if orphan.pid != pid]
        return True

    def _orphans(self) -> list[Process]:
        """Our children but the worker and the agent. When it is too early for another scan: those of the last one, but
        whoever was reaped since."""
        begun = time.monotonic()
        if self._seen_orphans and begun < self._next_scan:
            self._scan_owed = True
            return self._seen_orphans
        self._scan_owed = False
        own = (self._agent.pid, self._worker.pid if self._worker is not None else 0)
        found = processes.children(processes.table(), self._own_pid)
        self._seen_orphans = [child for child in found if child.pid not in own]
        now = time.monotonic()
        self._next_scan = now + min((now - begun) * SCAN_SHARE, course.ORPHANS_LOOK)
        return self._seen_orphans

    def _holders(self) -> list[int]:
        """Our descendants that hold one of the agent's pipes."""
        without = (self._worker.pid,) if self._worker is not None else ()
        below = processes.descendants(processes.table(), self._own_pid, without)
        return processes.holders(below, self._pipes)

    # -- the agent's end -----------------------------------------------------------------------------------------------

    def _follow_course(self, now: float) -> None:
        if self._course.phase in (course.RUNNING, course.DRAIN):
            return
        phase = self._course.phase
        if phase != course.ORPHANS:
            give_back(self._agent)  # else the pipes would never end
            self._writer.let_go()
        sendings = self._course.step(now, self._orphan_timeout(), self._orphans, self._holders, self._output())
        for pid, signo in sendings:
            self._send(pid, signo)
        if sendings and not self._leftovers_said:
            self._leftovers_said = True
            self._say_of_leftovers(phase, len(sendings))
        if self._course.giving_up and self._give_up_end >= 0:
            os.close(self._give_up_end)
            self._give_up_end = -1
        if self._course.phase != course.ORPHANS:
            self._scan_owed = False
        if self._course.phase == course.DRAIN:
            self._begin_drain(now)

    def _say_of_leftovers(self, phase: str, count: int) -> None:
        if phase != course.ORPHANS:
            messages.say(f"the agent has ended, but {count} of its processes hold its output: they are ended now.")
            return
        name = os.path.basename(self._agent.command[0])
        messages.say(
            f"{name} ended on signal {self._course.orphan_signal} and left {count} running, which nobody had told: "
            "the signal is passed on to them, and the run ends when they have, "
            f"at the latest after SHIPPER_ORPHAN_TIMEOUT ({self._orphan_timeout():g} s)."
        )

    def _output(self) -> Output:
        return Output(
            ended=all(pump.ended for pump in self._pumps),
            quiet=all(pump.quiet() for pump in self._pumps),
            moves=sum(pump.moves for pump in self._pumps),
            read=sum(pump.read_bytes for pump in self._pumps),
            capacity=sum(pump.capacity() for pump in self._pumps),
        )

    def _begin_drain(self, now: float) -> None:
        self._drain_since = now
        self._writer.finish(self._course.end, self._worker.killed if self._worker is not None else 0)

    def _orphan_timeout(self) -> float:
        settings = self._writer.settings
        return settings.orphan_timeout if settings is not None else ORPHAN_TIMEOUT

    def _drain_timeout(self) -> float:
        settings = self._writer.settings
        return settings.drain_timeout if settings is not None else DRAIN_TIMEOUT

    def _half_drain(self) -> float:
        return self._drain_since + self._drain_timeout() / 2

    def _drain_end(self) -> float:
        end = self._drain_since + self._drain_timeout() + WORKER_GRACE
        return end if self._drain_until is None else min(end, self._drain_until)

    def _cut_drain_short(self, now: float) -> None:
        if self._drain_until is None:
            self._drain_until = now + CUT_SHORT
            if self._worker is not None:
                self._worker.quit()
            else:
                self._worker_unwanted = True  # it would not even be up by then

    def _over(self) -> bool:
        if self._course.phase != course.DRAIN:
            return False
        if self._writer.done and (self._worker_unwanted or (self._worker is not None and self._worker.finished)):
            return True
        return time.monotonic() >= self._drain_end()

    def _say_of_end(self) -> None:
        if not self._writer.done:
            lost = name_lines(self._writer.unwritten()) or "what the agent printed last"
            messages.say(f"the journal's disk does not move, so passed on, but neither kept nor forwarded: {lost}.")
        if self._worker is not None and not self._worker.finished:
            self._worker.kill()
            if self._drain_until is None:
                messages.say(
                    "what is not yet delivered did not get out in SHIPPER_DRAIN_TIMEOUT; it stays in the journal, "
                    "and the next start on the same directory delivers it."
                )

    # -- the worker ----------------------------------------------------------------------------------------------------

    def _look_after_worker(self, now: float) -> None:
        if self._worker is None and self._writer.ready and not self._worker_unwanted and now >= self._worker_due:
            self._first_worker(now)
        worker = self._worker
        if worker is None:
            return
        if self._course.phase == course.DRAIN and not self._drain_told:
            # A disk that does not move leaves the worker the second half of the time for what is there.
            self._drain_told = self._writer.done or now >= self._half_drain()
            if self._drain_told:
                worker.drain(now)
        if worker.due is not None and now >= worker.due:
            worker.start(now)
        lacking = worker.no_room_since
        self._writer.nobody_delivers = lacking is not None and now - lacking >= NO_ROOM_SECONDS
        if worker.look_due is not None and now >= worker.look_due:
            worker.look(now, self._writer.stalled())

    def _first_worker(self, now: float) -> None:
        outfit, settings, journal = self._writer.outfit, self._writer.settings, self._writer.journal
        if outfit is None or settings is None or journal is None or not settings.sinks:
            self._worker_unwanted = True
            return
        try:
            control = Control()
        except OSError as error:  # no descriptor is left: there may be one again
            self._worker_unwanted = self._course.phase == course.DRAIN
            self._worker_due = now + CONTROL_RETRY
            if not self._no_control_said:
                self._no_control_said = True
                messages.say(
                    f"no pipe to the process that forwards the lines ({error.strerror}), which is tried again: "
                    "until then nothing is forwarded, the journal keeps the lines."
                )
            return
        self._writer.control = control
        self._worker = Worker(
            control,
            lambda control_fd, restarts: outfit.worker_command(journal, control_fd, restarts),
            journal.lock_fd,
        )
        if self._asked_to_end:
            self._worker.told()

    def _next_due(self) -> float | None:
        worker = self._worker
        dues = [self._course.due, *((worker.due, worker.look_due) if worker is not None else ())]
        if worker is None and self._worker_due and not self._worker_unwanted:
            dues.append(self._worker_due)
        if self._scan_owed:
            dues.append(self._next_scan)
        if self._course.phase == course.DRAIN:
            dues[0] = self._drain_end()
            if worker is not None and not self._drain_told:
                dues.append(self._half_drain())
        return min([due for due in dues if due is not None], default=None)
