"""A run's note: when its wrapper was last alive, and what memory the container used then.

Kubernetes >= 1.28 lets an out-of-memory end every process of a container at once (memory.oom.group, see
docker/runtimes/README.md), the supervisor too. Nobody is left to say so but the next start on the same directory, which
has nothing but the run's files. So the file ``note`` is one of them, written in place (`slots`), with the values:

    agent, host         the command's name, the worker instance
    pid, pids           the agent's, and the inode of the pid namespace in which it is that
    at                  wall time of the note, ns
    use, limit, peak    bytes, as `config.container` has them; null where there is none
    kills, kills_before processes ended for lack of memory: of this cgroup, and how many of them before the run
    ended               the agent's end is known: in the journal, or only here when the disk would not take the marker
    end                 that end, as the marker has it (see `ending`)
    told                a later start has said that the run has no end

Its wrapper holds a lock on it, and nobody else: an adopter holds the run's other one, so a run is known to be dead
here even while its lines are being delivered.
"""

from __future__ import annotations

import fcntl
import os
import time

from shipper import messages
from shipper.config.container import Container
from shipper.journal import runs
from shipper.journal.frames import RUN_END, scan
from shipper.journal.slots import SlotFile, read_slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shipper.journal.facts import Facts

NOTE = "note"
SLOT_BYTES = 2048
MAX_NAME = 64  # characters of agent and host, each 12 bytes at worst: both fit a slot

# A note after a rest costs 0.6 ms of CPU, nearly all of it for reading the cgroup's files with cold caches (measured):
# 0.013 % of a core every 5 s, 0.067 % every second. So it is every second only while memory use moves or is high.
SECONDS = 5.0
SOON_SECONDS = 1.0
MOVE = 1 / 64  # of the limit, since the note before
HIGH = 0.8  # of the limit

NEAR = 0.9  # of the limit: an end without any other cause is put down to it
LOOKS = 100  # runs of the directory, the newest: a start looks at no more, 6 ms if all are untold (measured)
TAIL_BYTES = 4096  # the end of a run is the last frame, of 60 bytes and what the agent's end takes as JSON
MIB = 1 << 20


class Note:
    """What a run's note says; ``oom_kills`` are those since the run's start, all else as in the file."""

    __slots__ = (
        "agent",
        "at_ns",
        "end",
        "ended",
        "host",
        "limit_bytes",
        "oom_kills",
        "peak_bytes",
        "pid",
        "pids",
        "told",
        "use_bytes",
    )

    def __init__(self, values: dict[str, Any]) -> None:
        """Raises KeyError, TypeError or ValueError on anything that `Noter` did not write."""
        self.agent = str(values["agent"])
        self.host = str(values["host"])
        self.at_ns = int(values["at"])
        self.use_bytes = _count(values["use"])
        self.limit_bytes = _count(values["limit"])
        self.peak_bytes = _count(values["peak"])
        self.oom_kills = max(0, int(values["kills"] or 0) - int(values["kills_before"] or 0))
        self.pid = int(values.get("pid", 0))  # 0: unknown, as the namespace's inode is
        self.pids = int(values.get("pids", 0))
        self.ended = bool(values["ended"])
        self.end: dict[str, Any] = dict(values.get("end") or {})
        self.told = bool(values["told"])


def _count(value: Any) -> int | None:
    return None if value is None else int(value)


def read_note(run: str) -> Note | None:
    """The note of the run at that path; None when there is none or it cannot be read."""
    return _note(read_slots(os.path.join(run, NOTE), SLOT_BYTES))


def wrapper_lives(run: str) -> bool | None:
    """Whether the wrapper that keeps the run's note lives; None when that cannot be told."""
    if read_slots(os.path.join(run, NOTE), SLOT_BYTES) is None:  # it is locked before it holds anything: see `_create`
        return None
    try:
        fd = os.open(os.path.join(run, NOTE), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False


def pid_namespace() -> int:
    """The inode of this process's; 0 when it cannot be told."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _note(values: dict[str, Any] | None) -> Note | None:
    try:
        return None if values is None else Note(values)
    except (KeyError, TypeError, ValueError):
        return None


class Noter:
    """The wrapper's: writes its run's note whenever that is due, and once says of the runs before it.

    Used by one thread, the supervisor's writer: every call but `due` may block on a frozen disk. None raises OSError.
    """

    __slots__ = (
        "_container",
        "_due",
        "_facts",
        "_file",
        "_kills_before",
        "_pid",
        "_pids",
        "_run",
        "_said",
        "_use",
        "_wait",
    )

    def __init__(self, run: str, facts: Facts, container: Container | None = None, pid: int = 0) -> None:
        """``run``: the run's directory, with its final name; ``pid``: the agent's."""
        self._pid = pid
        self._pids = pid_namespace()
        self._run = run
        self._facts = facts
        self._container = container or Container()
        self._file: SlotFile | None = None
        self._kills_before = self._container.oom_kills()
        self._due = time.monotonic()
        self._wait = SOON_SECONDS
        self._use = 0
        self._said = False

    def due(self) -> float:
        """When `note` is to be called next, monotonic."""
        return self._due

    def note(self) -> None:
        now = time.monotonic()
        use, limit = self._container.memory_use_bytes(), self._container.memory_limit_bytes()
        self._write(use, limit, None)
        self._wait = min(2 * self._wait, SECONDS)
        if use is not None and limit is not None and (use >= HIGH * limit or abs(use - self._use) >= MOVE * limit):
            self._wait = SOON_SECONDS
        self._use = use or 0
        self._due = now + self._wait
        if not self._said:
            self._said = True
            tell_of_earlier(self._run)

    def lack_of_memory(self, explained: int) -> dict[str, object]:
        """What to add to the end of an agent that died of SIGKILL: ``oom`` when in this run more processes than the
        ``explained`` ones were ended for lack of memory, and the ``limit``; else nothing."""
        kills, limit = self._container.oom_kills(), self._container.memory_limit_bytes()
        if kills is None or kills - (self._kills_before or 0) <= explained:
            return {}
        return {"oom": True} if limit is None else {"oom": True, "limit": limit}

    def end(self, end: dict[str, object]) -> None:
        """The agent has ended so, and there is nothing more to note."""
        self._write(self._container.memory_use_bytes(), self._container.memory_limit_bytes(), end)
        if self._file is not None:
            self._file.close()
            self._file = None
        self._due = float("inf")

    def _write(self, use: int | None, limit: int | None, end: dict[str, object] | None) -> None:
        values = {
            "agent": self._facts.agent[:MAX_NAME],
            "host": self._facts.host[:MAX_NAME],
            "pid": self._pid,
            "pids": self._pids,
            "at": time.time_ns(),
            "use": use,
            "limit": limit,
            "peak": self._container.memory_peak_bytes(),
            "kills": self._container.oom_kills(),
            "kills_before": self._kills_before,
            "ended": end is not None,
            "end": end,
            "told": False,
        }
        try:
            if self._file is not None and not os.fstat(self._file.fileno()).st_nlink:
                self._file.close()  # somebody removed the run's directory, and the journal has made it again
                self._file = None
            if self._file is None:
                self._file = _create(os.path.join(self._run, NOTE))
            self._file.commit(values)
        except OSError:  # a disk that is full, or not there: the journal says so
            return


def _create(path: str) -> SlotFile:
    """The note's file, locked where locks work. Raises OSError."""
    file = SlotFile(path, SLOT_BYTES)
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # where locks do not work nobody will find this run dead
        pass
    return file


# -- the runs before -------------------------------------------------------------------------------------------------


def tell_of_earlier(own: str) -> None:
    """Says, in one message and only once for a run, which dead runs beside the run ``own`` have no end.

    Of what cannot be read, or cannot be marked as told, nothing is said.
    """
    others = [run for run in runs.list_runs(os.path.dirname(own)) if run != own][-LOOKS:]
    found: list[tuple[str, Note]] = []
    for run in reversed(others):
        try:
            note = _take(run)
        except OSError:
            continue
        if note is not None:
            found.append((run, note))
    if found:
        messages.say(sentence(found, before=found[0][0] == others[-1]))


def _take(run: str) -> Note | None:
    """The note of a dead run without an end, which from now on counts as told; None for any other. Raises OSError."""
    file = SlotFile(os.path.join(run, NOTE), SLOT_BYTES, create=False)
    try:
        note = _note(file.values)
        if note is None or note.ended or note.told:
            return None
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError while its wrapper lives
        file.reread()
        note = _note(file.values)
        if note is None or note.ended or note.told or file.values is None:
            return None
        end = _has_end(run)
        if end is None:
            return None
        file.commit({**file.values, "told": True})
        return None if end else note
    finally:
        file.close()


def _has_end(run: str) -> bool | None:
    """Whether the journal of a dead run holds its end; None when nothing is left of it. Raises OSError."""
    segments = runs.list_segments(run)
    if not segments:
        return None
    fd = os.open(runs.segment_path(run, segments[-1]), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        tail = os.pread(fd, TAIL_BYTES, max(0, os.fstat(fd).st_size - TAIL_BYTES))
    finally:
        os.close(fd)
    return any(frame.kind == RUN_END for frame in scan(tail))


def sentence(found: list[tuple[str, Note]], *, before: bool) -> str:
    """What is said of ``found``, the latest first; ``before``: no other run lies between it and the present one."""
    run, note = found[0]
    started = time.gmtime(_started_ns(run) // 10**9)
    who = f"agent {note.agent} on {note.host}, started {time.strftime('%Y-%m-%d %H:%M:%S', started)} UTC"
    if len(found) > 1:
        what = f"{len(found)} earlier runs in this journal, the latest of them {who}, have no end: each was killed"
    else:
        what = f"the run before this one ({who})" if before else f"an earlier run in this journal ({who})"
        what += " has no end: it was killed"
    return f"{what}, as a rule with its whole container or machine; its lines are kept.{memory_in_words(note)}"


def _started_ns(run: str) -> int:
    """Wall time; the run's name may say a later one, see `runs.begins_at`."""
    try:
        facts = runs.read_facts(run)
    except OSError:
        facts = None
    return facts.started_ns if facts is not None else runs.stamp_ns(run)


def memory_in_words(note: Note) -> str:
    """What the note says of memory, and what to make of it; empty when it says nothing."""
    if note.use_bytes is None:
        return ""
    at = time.strftime("%H:%M:%S", time.gmtime(note.at_ns // 10**9))
    used = f" Memory last noted, at {at} UTC: {_mib(note.use_bytes)}"
    used += ", no limit" if note.limit_bytes is None else f" of {_mib(note.limit_bytes)}"
    if note.oom_kills:
        processes = "1 process" if note.oom_kills == 1 else f"{note.oom_kills} processes"
        used += f", {processes} killed for lack of memory"
    if note.oom_kills or (note.limit_bytes is not None and note.use_bytes >= NEAR * note.limit_bytes):
        return f"{used}: that may be why, so raise the container's memory limit."
    if note.limit_bytes is not None:
        return f"{used}: lack of memory was the cause only if it rose within seconds."
    return f"{used}."


def _mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"
