"""One thread between the pumps and the journal: a frozen disk must hold up neither the agent nor its signals.

It loads the settings and opens the journal, again and again where that fails, then appends what the pumps have put into
a bounded queue, everything that waits with one call. When the queue is full a pump waits for room. When the writer has
been inside one call for 0.25 s, the pump goes on without: its chunk is only counted, and the count takes the chunks'
place in the stream as soon as one can be queued again. What comes before the journal is open this thread counts.

Nothing is locked: every counter here has one thread that writes it.
"""

from __future__ import annotations

import _queue
import _signal
import _thread
import errno
import time

from shipper import messages
from shipper.journal.numbering import STREAMS, Numbering, lost_for_good, summarize
from shipper.supervisor.spawn import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from shipper.config import Settings
    from shipper.journal.notes import Noter
    from shipper.journal.numbering import Summary
    from shipper.journal.writer import JournalWriter
    from shipper.supervisor.outfit import Outfit
    from shipper.supervisor.worker import Control

    # stream, wall_ns, mono_ns, and: a chunk; what passed by; None for the stream's end
    Item = tuple[int, int, int, bytes | Summary | None]

MAX_WAITING_BYTES = 8 * 1024 * 1024
ITEM_BYTES = 256  # a tuple, two integers and a bytes object's head, in CPython 3.11: agents print single bytes, too
MAX_BATCH_ITEMS = 64
MAX_BATCH_BYTES = 1024 * 1024

STALL_SECONDS = 0.25
ROOM_LOOK_SECONDS = 0.005  # at 500 MB/s the writer takes a third of its queue in this time, so it never runs dry

WAKE_SECONDS = 0.05  # a wake for each append would cost 27 % of a core at 10,000 small writes a second

OPEN_AGAIN_SECONDS = 2.0  # some ten system calls

SAY_AGAIN_SECONDS = 60.0
STALLED = "journal_stalled"

HELD_LOOK_SECONDS = 0.05  # some 0.3 ms each
HELD_SAY_SECONDS = 600.0
CURSORS_SECONDS = 30.0  # for the worker to come up: until it has, nobody can tell what was delivered
LAST_BYTES = MAX_WAITING_BYTES + (1 << 20)  # what can still come once the agent has ended, queue and pipes


class _Lane:
    """A stream's side of the queue; its pump alone writes here. ``bytes``: put so far; ``missed``: passed by since."""

    __slots__ = ("bytes", "ended", "missed", "missed_at")

    def __init__(self) -> None:
        self.bytes = 0
        self.ended = False
        self.missed: Summary | None = None
        self.missed_at = (0, 0)


class Writer:
    """``outfit``, ``settings`` and ``journal`` are None until they are there; ``ready``: the journal is open, or never
    will be any more; ``done``: everything is written and closed; ``failed``: the agent had, though it ended with status
    0; ``control``: whom to wake; ``nobody_delivers``, to be set: and so nobody is held back."""

    def __init__(self, make_outfit: Callable[[], Outfit], nudge: Callable[[], None]) -> None:
        """``nudge`` is called when `ready` or `done` becomes true."""
        self.outfit: Outfit | None = None
        self.settings: Settings | None = None
        self.journal: JournalWriter | None = None
        self.control: Control | None = None
        self.ready = False
        self.done = False
        self.failed = False
        self.nobody_delivers = False
        self._noter: Noter | None = None
        self._opens_at = float("inf")  # when it is tried again
        self._open_failed = False  # and that was said
        self._reason = ""
        self._before: dict[int, tuple[Summary, int, int]] = {}  # what came before the journal was open, by stream
        self._ended: set[int] = set()
        self._make_outfit = make_outfit
        self._nudge = nudge
        self._queue: _queue.SimpleQueue[Item | dict[str, object]] = _queue.SimpleQueue()
        self._lanes = {stream: _Lane() for stream in STREAMS}
        self._max_line = 256 * 1024
        self._closed = False
        self._broken = False
        self._missing = False  # both pumps write it: the worst is a chunk more that waits, or that passes by
        self._stall_told = _thread.allocate_lock()  # held from when a stall that costs lines is said to when its end is
        self._end_taken = False
        self._in_hand: list[Item] = []  # being written
        self._worker_kills = 0
        self._holding = True
        self._let_go_at = 0.0
        self._held = False
        self._held_said_at = -HELD_SAY_SECONDS
        self._started_at = time.monotonic()
        self._taken_bytes = 0
        self._busy_since = 0.0
        self._waked_at = 0.0
        self._wake_owed = False
        self._disk_failing = False
        self._disk_said_at = -SAY_AGAIN_SECONDS
        self._stall_said_at = self._stall_ended_at = -SAY_AGAIN_SECONDS

    def start(self) -> None:
        """Starts the thread; without one nothing is kept, and that is said."""
        self._busy_since = time.monotonic()
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError as error:
            messages.say(f"no thread for the journal ({error}): the agent's output is passed on, nothing is forwarded.")
            self._broken = self.ready = self.done = True

    # -- called by the pumps ---------------------------------------------------------------------------------------

    def put(self, stream: int, wall_ns: int, mono_ns: int, data: bytes) -> None:
        """Queues a chunk; blocks at most while the journal moves, and 0.25 s when it does not."""
        if self._closed or self._broken:
            return
        lane = self._lanes[stream]
        size = len(data) + ITEM_BYTES
        # Once something passed by, everything does until the disk moves: else small chunks, which may still fit, would
        # make a loss of every chunk between them.
        self._missing = self._missing and self.stalled()
        if not self._missing and (self._has_room(size) or self._wait_for_room(size)):
            if lane.missed is not None:
                self._queue_missed(stream, lane)
            lane.bytes += size
            self._queue.put((stream, wall_ns, mono_ns, data))
            return
        self._missing = True
        self._say_of_stall()
        summary = summarize(data, self._max_line)
        if lane.missed is None:
            lane.missed = summary
            lane.missed_at = (wall_ns, mono_ns)
        else:
            lane.missed = lane.missed.add(summary)

    def end_stream(self, stream: int) -> None:
        """The stream is at its end; nothing of it follows."""
        if not self._closed:
            self._end_lane(stream)

    def _end_lane(self, stream: int) -> None:
        lane = self._lanes[stream]
        if lane.ended:
            return
        lane.ended = True
        if lane.missed is not None:
            self._queue_missed(stream, lane)
        self._queue.put((stream, 0, 0, None))

    def _queue_missed(self, stream: int, lane: _Lane) -> None:
        lane.bytes += ITEM_BYTES
        self._queue.put((stream, *lane.missed_at, lane.missed))
        lane.missed = None

    def _has_room(self, size: int) -> bool:
        waiting = sum([lane.bytes for lane in self._lanes.values()]) - self._taken_bytes
        return waiting + size <= MAX_WAITING_BYTES

    def _wait_for_room(self, size: int) -> bool:
        """False when the journal does not move."""
        while not self.stalled():
            time.sleep(HELD_LOOK_SECONDS if self._held else ROOM_LOOK_SECONDS)
            if self._has_room(size):
                return True
            if self._broken:
                return False
        return False

    # -- called by the main thread -----------------------------------------------------------------------------------

    def let_go(self) -> None:
        """The agent has ended: nobody is held back any more, and what waits goes beyond the bound rather than lost."""
        if self._holding:
            self._let_go_at = time.monotonic()
            self._holding = False

    def stalled(self) -> bool:
        """The writer has been inside one call for 0.25 s."""
        since = self._busy_since
        if self._held and not self._holding:  # it looks whether there is room, on a disk that may stand still
            since = since or self._let_go_at
        return since > 0.0 and time.monotonic() - since > STALL_SECONDS

    def finish(self, end: dict[str, object], worker_kills: int = 0) -> None:
        """Capture is over. Writes what waits, both streams' ends and the agent's, then closes; ``done`` tells when.

        What a pump still brings is not taken. ``worker_kills``: how often SIGKILL has ended our worker.
        """
        self._worker_kills = worker_kills
        self._closed = True
        for stream in STREAMS:
            self._end_lane(stream)
        self._queue.put(end)

    def unwritten(self) -> list[tuple[int, int, int]]:
        """Lines (stream, first, last) that were taken and not written. For the very end, once the disk has not moved:
        it empties the queue."""
        numberings = self.journal.kept() if self.journal is not None else {stream: Numbering() for stream in STREAMS}
        first = {stream: numberings[stream].line for stream in STREAMS}
        if self.journal is None:
            for stream, (summary, _, _) in self._before.items():
                numberings[stream].apply(summary)
        items: list[Item | dict[str, object]] = list(self._in_hand)
        try:
            while True:
                items.append(self._queue.get_nowait())
        except _queue.Empty:
            pass
        for item in items:
            if isinstance(item, dict):
                continue
            if isinstance(item[3], bytes):
                numberings[item[0]].advance(item[3], self._max_line)
            elif item[3] is not None:
                numberings[item[0]].apply(item[3])
        for numbering in numberings.values():
            numbering.end(self._max_line)
        return [(stream, first[stream], numberings[stream].line - 1) for stream in STREAMS
                if numberings[stream].line > first[stream]]  # fmt: skip

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._open()
        except Exception as error:  # noqa: BLE001  a bug, or no memory: the agent's output is passed on
            self._break(error)
        self._moved()
        if self._broken:
            self.ready = True
            self._nudge()
        try:
            self._append_all()
        except Exception as error:  # noqa: BLE001
            self._break(error)
            self._discard_all()
        self.ready = True
        self.done = True
        self._nudge()

    def _open(self) -> None:
        """Opens the journal, and makes up for what came before; what fails is tried again after a while."""
        try:
            if self.outfit is None:
                self.outfit = self._make_outfit()
            if self.settings is None:
                self.settings = self.outfit.load()
                self._max_line = self.settings.max_line_bytes
            journal = self.outfit.open_journal(self.settings)
            if self.settings.blocks:
                journal.hold = lambda: self._hold(journal)
        except OSError as error:
            self._opens_at = time.monotonic() + OPEN_AGAIN_SECONDS
            self._reason = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "disk_error"
            if not self._open_failed:
                self._open_failed = True
                where = (self.settings and error.filename) or "any directory"
                messages.say(
                    f"no journal can be kept in {where} ({error.strerror}), which is tried again every few seconds: "
                    "until then the agent's output is passed on, but nothing is forwarded; "
                    "set SHIPPER_DIR to a directory that can be written."
                )
            return
        self._opens_at = float("inf")
        self._noter = self.outfit.noter(journal)
        for stream, (summary, wall_ns, mono_ns) in self._before.items():
            journal.skip(stream, summary, wall_ns, mono_ns, self._reason)
        for stream in self._ended:
            journal.end_stream(stream)
        self.journal = journal
        if self._open_failed:
            messages.say(
                f"the journal can be kept now, in {journal.directory}: the lines before are lost, which is counted."
            )
        self.ready = True
        self._nudge()

    def _open_again(self) -> None:
        if time.monotonic() >= self._opens_at:
            self._busy_since = time.monotonic()
            self._open()
            self._moved()

    def _count(self, stream: int, summary: Summary, wall_ns: int, mono_ns: int) -> None:
        """Notes what passed by while there is no journal."""
        if stream in self._before:
            before, wall_ns, mono_ns = self._before[stream]
            summary = before.add(summary)
        self._before[stream] = (summary, wall_ns, mono_ns)

    def _break(self, error: Exception) -> None:
        self._broken = True
        self._moved()
        messages.say(
            f"a fault in the journal ({describe(error)}): "
            "the agent's output is passed on, but from now on nothing of it is kept and forwarded."
        )

    def _append_all(self) -> None:
        """Until the end is taken from the queue."""
        queue = self._queue
        ended = self._ended
        while True:
            self._open_again()
            self._note()
            try:
                item = queue.get(True, self._seconds_to_wait())
            except _queue.Empty:
                if self._wake_owed:
                    self._wake()
                continue
            batch: list[tuple[int, int, int, bytes]] = []
            size = 0
            more = min(queue.qsize(), MAX_BATCH_ITEMS)  # nobody else takes from it
            while True:
                if isinstance(item, tuple) and isinstance(item[3], bytes):
                    if item[0] not in ended:  # else its pump was in the middle of `put` when capture was over
                        batch.append((item[0], item[1], item[2], item[3]))
                    size += len(item[3]) + ITEM_BYTES
                else:
                    self._append(batch, size)
                    batch, size = [], 0
                    if isinstance(item, dict):
                        self._end(item)
                        return
                    self._mark(item)
                    if item[3] is None:
                        ended.add(item[0])
                if not more or size >= MAX_BATCH_BYTES:
                    break
                more -= 1
                item = queue.get_nowait()
            self._append(batch, size)

    def _append(self, batch: list[tuple[int, int, int, bytes]], size: int) -> None:
        if self.journal is None:
            for stream, wall_ns, mono_ns, data in batch:
                self._count(stream, summarize(data, self._max_line), wall_ns, mono_ns)
        elif batch and not self._broken:
            self._in_hand += batch
            self._busy_since = time.monotonic()
            self.journal.append(batch)
            self._in_hand.clear()
            self._moved()
            self._say_of_disk()
        self._taken_bytes += size
        self._wake()

    def _hold(self, journal: JournalWriter) -> None:
        """SHIPPER_WHEN_FULL=block: waits until room can be made without losing a line."""
        while self._holding and not self.nobody_delivers and (self._worker_comes_up(journal) or journal.would_lose()):
            self._held = True
            self._busy_since = 0.0  # this is no stall
            now = time.monotonic()
            if now - self._held_said_at >= HELD_SAY_SECONDS:
                self._held_said_at = now
                messages.say(
                    "the journal is full, and SHIPPER_WHEN_FULL=block holds the agent's output back until the "
                    "providers have taken lines; `shipper status` shows which one is behind."
                )
            self._wake()
            self._note()
            time.sleep(HELD_LOOK_SECONDS)
        if not self._holding:
            journal.hold = lambda: None
            journal.stretch(LAST_BYTES)
        self._held = False
        self._busy_since = time.monotonic()

    def _worker_comes_up(self, journal: JournalWriter) -> bool:
        """Whether no sink has a cursor yet, though there is room for no more."""
        if not journal.facts.sinks or time.monotonic() - self._started_at > CURSORS_SECONDS:
            return False
        return journal.lacks_room() and not journal.has_cursors()

    def _mark(self, item: Item) -> None:
        stream, wall_ns, mono_ns, missed = item
        if missed is not None:
            self._taken_bytes += ITEM_BYTES
        if self.journal is None or self._broken:
            if missed is not None and not isinstance(missed, bytes):
                self._count(stream, missed, wall_ns, mono_ns)
            return
        self._in_hand.append(item)
        self._busy_since = time.monotonic()
        if missed is None:
            self.journal.end_stream(stream)
        elif not isinstance(missed, bytes):
            self.journal.skip(stream, missed, wall_ns, mono_ns, STALLED)
        self._in_hand.clear()
        self._moved()

    def _end(self, end: dict[str, object]) -> None:
        self._end_taken = True
        if self.journal is None and not self._broken:
            self._opens_at = 0.0  # what was lost can be told if it works now
            self._open_again()
            if self.journal is None:
                self._say_of_all()
        if self.journal is not None and not self._broken:
            self._busy_since = time.monotonic()
            end = {**end, **self._found_out(self.journal, end)}
            self.journal.end(end)
            self.journal.close()
            if self._noter is not None:
                self._noter.end(end)
            self.failed = "failed" in end
            self._moved()

    def _found_out(self, journal: JournalWriter, end: dict[str, object]) -> dict[str, object]:
        """What the wait status does not tell of the agent's ``end``."""
        try:
            if end.get("exit_status") == 0:
                failure = journal.failure()
                return {"failed": failure} if failure else {}
            if end.get("signal") == _signal.SIGKILL and self._noter is not None:
                return self._noter.lack_of_memory(self._worker_kills)
        except Exception:  # noqa: BLE001  a bug, a damaged disk, no memory: the end is noted all the same
            return {}
        return {}

    def _discard_all(self) -> None:
        """Empties the queue until the end is taken from it, so that memory stays bounded and the end is seen."""
        while not self._end_taken:
            self._end_taken = isinstance(self._queue.get(), dict)

    def _say_of_disk(self) -> None:
        error = self.journal.error if self.journal is not None else None
        if (error is not None) == self._disk_failing:
            return
        now = time.monotonic()
        if error is None:
            self._disk_failing = False
            messages.say("the journal can be written again.")
        elif now - self._disk_said_at >= SAY_AGAIN_SECONDS:
            self._disk_failing = True
            self._disk_said_at = now
            place = self.journal.directory if self.journal is not None else ""
            messages.say(
                f"the journal in {place} cannot be written ({error.strerror}): the agent's output is passed on, "
                "but what it prints meanwhile is not forwarded; the lines lost are counted."
            )

    def _say_of_all(self) -> None:
        """Nothing was kept: what is lost is said here at least."""
        losses = []
        for stream, (summary, _, _) in sorted(self._before.items()):
            numbering = Numbering()
            numbering.apply(summary)
            numbering.end(self._max_line)
            losses.append((stream, 1, numbering.line - 1))
        if losses and self.settings is not None and self.settings.sinks:
            messages.say(lost_for_good(self._reason, losses))

    def _say_of_stall(self) -> None:
        """Called by a pump, whose chunk passes by."""
        if not self._stall_told.acquire(blocking=False):
            return
        now = time.monotonic()
        if now - self._stall_said_at >= SAY_AGAIN_SECONDS:
            self._stall_said_at = now
            messages.say(
                "the disk of the journal stands still: the agent's output is passed on, but what it prints until the "
                "disk moves is not forwarded; the lines lost are counted."
            )

    def _moved(self) -> None:
        """The call that may have stood still is over."""
        self._busy_since = 0.0
        if not self._stall_told.locked():
            return
        self._stall_told.release()
        if self._stall_ended_at < self._stall_said_at:
            self._stall_ended_at = time.monotonic()
            messages.say("the disk of the journal moves again.")

    def _note(self) -> None:
        """Notes, when it is time to, what the next start is to know if this run has no end."""
        if self._noter is None or time.monotonic() < self._noter.due():
            return
        self._busy_since = time.monotonic()
        try:
            self._noter.note()
        except Exception:  # noqa: BLE001  a bug, or no memory: the journal goes on without
            self._noter = None
        self._moved()

    def _seconds_to_wait(self) -> float | None:
        """Until a wake or a note is due."""
        dues = [self._waked_at + WAKE_SECONDS] if self._wake_owed else []
        if self._opens_at != float("inf"):
            dues.append(self._opens_at)
        if self._noter is not None:
            dues.append(self._noter.due())
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _wake(self) -> None:
        """Wakes the worker, at most once in 50 ms, and not too late for the last append."""
        now = time.monotonic()
        if now - self._waked_at < WAKE_SECONDS:
            self._wake_owed = True
            return
        self._waked_at = now
        self._wake_owed = False
        if self.control is not None:
            self.control.wake()
