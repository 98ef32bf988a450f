"""What follows when the agent has ended: orphans, holders of its pipes, the last bytes. Pure: no clock, no process.

    RUNNING ──▶ ORPHANS ──┐
       └──────▶ LINGER ───┴──▶ SETTLE ──▶ DRAIN

RUNNING
    Signals go to the agent.
ORPHANS
    The agent ended by a TERM, INT or QUIT that it was sent, and left processes behind, as ``pnpm start`` does: nobody
    told them. Ended by it: killed, or with status 128+N, or failed within 5 s of the only one (of 24 stops pnpm 10.34.9
    ended 5 with status 1). Each of them gets that signal once, those that come to us later too; further signals go to
    them. It ends when none is left, or after the time-out: TERM, 5 s, KILL.
LINGER
    It ended in another way. Descendants that hold one of its pipes have 2 s, then TERM, 1 s, KILL; nobody else is
    touched. It ends when both pipes are at their end.
SETTLE
    Nobody of the agent's is left who would write. What stands in the pipes is read and passed on for as long as whoever
    reads our stdout and stderr takes something; 2 s without ends passing on, and the rest is read for the journal
    alone. Somebody else who writes on, as a ``docker exec`` may, holds up nothing: bare it would end with the agent.
DRAIN
    Capture is over.

Times are seconds on one monotonic clock, given by the caller.
"""

from __future__ import annotations

import _signal
import os

from shipper.supervisor.signals import ENDERS, STOPPERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shipper.supervisor.processes import Process

RUNNING = "running"
ORPHANS = "orphans"
LINGER = "linger"
SETTLE = "settle"
DRAIN = "drain"

FAILED_BY_SIGNAL = 5.0  # seconds; who drains longer and then fails has told its own, or meant not to
ORPHANS_LOOK = 1.0  # a grandchild's orphan comes to us without a signal; a look costs some 10 us a process
ORPHANS_TERM = 5.0
ORPHANS_KILL = 1.0  # for the kernel to end what was killed
LINGER_WAIT = 2.0
LINGER_TERM = 1.0
SETTLE_LOOK = 0.05
SETTLE_STUCK = 2.0
SETTLE_QUIET = 0.2  # a process that was killed is not gone at once, nor are its bytes read
SETTLE_OTHERS = 1.0  # who was killed has gone by then: what comes into an empty pipe still is not the agent's
SETTLE_REST = 0.5  # at most a pipe's 64 KiB a stream, into memory


class Output:
    """Where the pumps are: ``ended``, both pipes are at their end and passed on; ``quiet``, nothing is left to read or
    pass on but somebody holds a pipe; ``moves``, a number that changes with every read and every write; ``read``, bytes
    so far; ``capacity``, how many the pipes can hold."""

    __slots__ = ("capacity", "ended", "moves", "quiet", "read")

    def __init__(self, ended: bool, quiet: bool, moves: int, read: int = 0, capacity: int = 0) -> None:
        self.ended = ended
        self.quiet = quiet
        self.moves = moves
        self.read = read
        self.capacity = capacity


class Course:
    """``due``: when `step` wants to be called though nothing happened, None for never; ``giving_up``: passing on has
    ended; ``status``: what to end with; ``orphan_signal``: what the orphans are told."""

    def __init__(self, own_group: int) -> None:
        self.phase = RUNNING
        self.due: float | None = None
        self.giving_up = False
        self.status = 0
        self.end: dict[str, object] = {}  # as the journal's end marker has it (`journal.ending`)
        self._hung_up = False
        self._own_group = own_group
        self._forwarded: set[int] = set()
        self._shared: set[int] = set()
        self._stoppers: list[int] = []
        self._stopped_at = 0.0
        self.orphan_signal = 0
        self._told: set[int] = set()
        self._stage = 0
        self._until = 0.0
        self._entered_at = 0.0
        self._moves = -1
        self._moved_at = 0.0
        self._read_before = -1

    def forwards(self, signo: int, now: float) -> bool:
        """Whether there is somebody to forward it to, the agent or its orphans; else it may `hasten` the end."""
        if self.phase == RUNNING:
            self._forwarded.add(signo)
            self._asked(signo, now)
        return self.phase in (RUNNING, ORPHANS)

    def shared(self, signo: int, now: float) -> None:
        """The kernel sent a signal to our group, so the agent has it."""
        if self.phase == RUNNING:
            self._shared.add(signo)
            self._asked(signo, now)

    def _asked(self, signo: int, now: float) -> None:
        self._hung_up = self._hung_up or signo == _signal.SIGHUP
        if signo in STOPPERS:
            self._stoppers.append(signo)
            self._stopped_at = now

    def hasten(self, signo: int, now: float) -> None:
        """A signal that no process is left to take: TERM, INT, QUIT and HUP shorten the phase."""
        if signo not in ENDERS:
            return
        if self.phase == LINGER:
            self._until = min(self._until, now)
            self.due = now
        elif self.phase == SETTLE:
            self._give_up(now)

    def agent_ended(self, wait_status: int, orphans: Sequence[Process], now: float) -> None:
        """``orphans``: our children when it was reaped, without the worker."""
        code = os.waitstatus_to_exitcode(wait_status)
        self.status = 128 - code if code < 0 else code
        self.end = {"signal": -code} if code < 0 else {"exit_status": code}
        # to many a HUP means: read the settings again; who ended by it was asked to
        if self._stoppers or (self._hung_up and self.status == 128 + _signal.SIGHUP):
            self.end["asked"] = True
        signo = self._ended_by(now)
        if orphans and signo:
            self.orphan_signal = signo
            self._enter(ORPHANS, now, 0.0)
        else:
            self._enter(LINGER, now, LINGER_WAIT)

    def _ended_by(self, now: float) -> int:
        """The signal that ended the agent and that its own may not know of; 0 when it ended in another way."""
        if self.status - 128 in self._stoppers:
            return self.status - 128
        # A second one means: at once. Nobody is waited for then.
        failed = self.status != 0 and len(self._stoppers) == 1 and now - self._stopped_at <= FAILED_BY_SIGNAL
        return self._stoppers[0] if failed else 0

    def step(
        self,
        now: float,
        orphan_timeout: float,
        orphans: Callable[[], Sequence[Process]],
        holders: Callable[[], Sequence[int]],
        output: Output,
    ) -> list[tuple[int, int]]:
        """The signals to send, each (pid, signal). ``orphans``: our children, ``holders``: descendants that hold a
        pipe; neither with the worker. To be called when something happened, and when it is due."""
        if self.phase == ORPHANS:
            return self._step_orphans(now, orphan_timeout, orphans())
        if self.phase == LINGER:
            return self._step_linger(now, holders, output)
        if self.phase == SETTLE:
            self._step_settle(now, output)
        return []

    def _enter(self, phase: str, now: float, seconds: float) -> None:
        self.phase = phase
        self._stage = 0
        self._until = now + seconds
        self._entered_at = now
        self.due = now

    def _next_stage(self, now: float, seconds: float) -> None:
        self._stage += 1
        self._until = now + seconds

    def _step_orphans(self, now: float, timeout: float, orphans: Sequence[Process]) -> list[tuple[int, int]]:
        """``_until`` is when the phase began, then when a stage ends."""
        if not orphans:
            self._enter(SETTLE, now, 0.0)
            return []
        signo = self.orphan_signal
        if self._stage == 0 and now >= self._until + timeout:
            self._next_stage(now, ORPHANS_TERM)
            self._told.clear()
        if self._stage == 1:
            signo = _signal.SIGTERM
            if now >= self._until:
                self._next_stage(now, ORPHANS_KILL)
        if self._stage == 2:
            if now >= self._until:
                self._enter(SETTLE, now, 0.0)
                return []
            self.due = now + SETTLE_LOOK
            return [(orphan.pid, _signal.SIGKILL) for orphan in orphans]
        self.due = min(now + ORPHANS_LOOK, self._until + (timeout if self._stage == 0 else 0.0))
        told_by_kernel = self._own_group if self._stage == 0 and signo in self._shared - self._forwarded else -1
        new = [orphan.pid for orphan in orphans if orphan.pid not in self._told and orphan.group != told_by_kernel]
        self._told = self._told.intersection(orphan.pid for orphan in orphans).union(new)
        return [(pid, signo) for pid in new]

    def _step_linger(self, now: float, holders: Callable[[], Sequence[int]], output: Output) -> list[tuple[int, int]]:
        self.due = self._until
        self._watch(now, output)
        if output.ended:
            self._enter(DRAIN, now, 0.0)
        elif now >= self._until:
            found = holders()
            if self._stage == 1 or not found:
                self._enter(SETTLE, now, 0.0)
                return [(pid, _signal.SIGKILL) for pid in found]
            self._next_stage(now, LINGER_TERM)
            self.due = self._until
            return [(pid, _signal.SIGTERM) for pid in found]
        return []

    def _step_settle(self, now: float, output: Output) -> None:
        self.due = now + SETTLE_LOOK
        self._watch(now, output)
        if self._read_before < 0:
            self._read_before = output.read
        # Twice what was in the pipes at most: who was killed may have written a little more.
        others = output.read - self._read_before > 2 * output.capacity
        if output.ended or others:
            self._enter(DRAIN, now, 0.0)
        elif self.giving_up:
            if output.quiet or now >= self._until:
                self._enter(DRAIN, now, 0.0)
        elif output.quiet:
            if now >= min(max(self._moved_at, self._entered_at) + SETTLE_QUIET, self._entered_at + SETTLE_OTHERS):
                self._enter(DRAIN, now, 0.0)
        elif now >= self._moved_at + SETTLE_STUCK:
            self._give_up(now)

    def _watch(self, now: float, output: Output) -> None:
        if output.moves != self._moves:
            self._moves = output.moves
            self._moved_at = now

    def _give_up(self, now: float) -> None:
        if not self.giving_up:
            self.giving_up = True
            self._until = now + SETTLE_REST
