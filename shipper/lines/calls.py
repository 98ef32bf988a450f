"""Which call a line belongs to, and to which worker: what the lines before it told.

- **A call's lines together.** A line with `pid` and `job_id` tells that this process has that job. Later lines of the
  same `pid` without a `job_id` (LiveKit's Node worker, JSON that a library prints by itself) get it, with `room` and
  `room_id`. Each process of LiveKit's runs one job, so:
  - `process exited with non-zero exit code` (Python's parent tells it) and `Job process shutdown` (Node's job process,
    its last line) end it. `process exiting` does not: shutdown callbacks still log after it. A process that ends well
    at level info tells nothing: then its pid's next `initializing process` or `initializing job runner` does.
  - A pid that shows another job, without an end before, is no process of one job: its lines get none from then on.
  - The worker's own process names jobs it hands out (`received job request` and others, `MAIN`), and under LiveKit's
    thread executor its pid is every job's (`tid` tells). Such a pid never has a job.
- **The worker's id.** LiveKit's line `registered worker` has it as `id`: it and every event after it, of either stream,
  get it as `worker_id`, where they have none of their own. Lines before have none, as the worker had not.

What is followed is the run's, in the order in which its lines are read. At most 256 processes are known, those that
showed a job last; a cursor takes as many as fit 2 KB.

How it is fast. 128 events are looked at together, column by column, for anything that would change what is known; where
there is nothing, which is nearly always, only lines without a job are looked at one by one. Measured over demo/lines
(61 % text), us a line on a busy machine, where decoding took 1.3: 0.12 with no news, 0.3 where each 128 have some;
`worker_id` is 0.03 of it.
"""

from __future__ import annotations

import json
from collections import deque
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from shipper.lines.levels import DEBUG, ERROR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shipper.lines.events import Events, Record

MAX_PROCESSES = 256
MAX_CURSOR_BYTES = 2048
MAX_TEXT = 200
"""Characters of an id or a room's name that is carried; a longer one is not."""
_CHUNK = 128
_MAX_SHARED = 32  # pids without a job of their own that a cursor takes

REGISTERED = "registered worker"
MAIN = (
    "received job request", "received assignment", "reloading job",  # worker.py, worker.ts
    "Worker is draining and no longer available, rejecting job",  # worker.ts
    "no warmed process available for job", "all in-flight spawns failed to initialize",  # proc_pool.py
    "failed to acquire process for job", "failed to launch job on process",
)  # fmt: skip
"""How lines begin in which the worker itself names a job (livekit-agents 1.8.9, @livekit/agents 1.9.0)."""
STARTS = ("initializing process", "initializing job runner")
EXITED, SHUTDOWN = "process exited with non-zero exit code", "Job process shutdown"

_PID, _JOB = orjson.loads(b'{"pid":0,"job_id":0}')
_ID, _WORKER, _MESSAGE = orjson.loads(b'{"id":0,"worker_id":0,"message":0}')
"""As the parser's own objects: found without comparing text."""
_pid, _job = itemgetter(_PID), itemgetter(_JOB)
_CARRIED = ("room", "room_id")

Call = dict[str, str]
"""Fields of a job that its lines get, the job first; empty for a pid that has no job of its own. Never changed."""
_SHARED: Call = {}


class Calls:
    """Immutable."""

    __slots__ = ("_calls", "_ended", "worker")

    EMPTY: ClassVar[Calls]

    def __init__(
        self, worker: str = "", calls: dict[int, Call] | None = None, ended: frozenset[int] = frozenset()
    ) -> None:
        """``worker``: its id, or empty. ``calls``: by pid, newest last. ``ended``: pids of those that are over."""
        self.worker = worker
        self._calls = calls or {}
        self._ended = ended

    def follow(self, events: Events) -> Calls:
        """Sets fields in the records, in place; the state after them."""
        following = _Following(self)
        for start in range(0, events.count, _CHUNK):
            some = slice(start, start + _CHUNK)
            records = events.records[some]
            if not following.without_news(records, events.levels[some]):
                following.one_by_one(records)
        return following.state()

    def to_cursor(self) -> dict[str, Any]:
        """JSON-ready, {} for nothing; at most `MAX_CURSOR_BYTES` of JSON in ASCII."""
        shared = [pid for pid, call in self._calls.items() if not call][-_MAX_SHARED:]
        calls: list[list[Any]] = []
        values: dict[str, Any] = {"worker": self.worker, "shared": shared, "calls": calls}
        values = {name: value for name, value in values.items() if value or value is calls}
        size = _size(values)
        for pid, call in reversed(self._calls.items()):
            if call and pid not in self._ended:
                size += _size([pid, call]) + 1
                if size > MAX_CURSOR_BYTES:
                    break
                calls.insert(0, [pid, call])
        return values if calls or len(values) > 1 else {}

    @classmethod
    def from_cursor(cls, values: dict[str, Any]) -> Calls:
        """Raises ValueError, KeyError or TypeError for what `to_cursor` did not write."""
        if not isinstance(values, dict):
            raise TypeError
        worker = values.get("worker", "")
        calls: dict[int, Call] = dict.fromkeys(values.get("shared", ()), _SHARED)
        for pid, call in values.get("calls", ()):
            if (
                not isinstance(call, dict)
                or not call.keys() <= {_JOB, *_CARRIED}
                or not all(map(_is_text, call.values()))
            ):
                raise ValueError
            calls[pid] = {_JOB: call[_JOB], **call}
        if (
            (worker and not _is_text(worker))
            or len(calls) > MAX_PROCESSES
            or any(type(pid) is not int for pid in calls)
        ):
            raise ValueError
        return cls(worker, calls) if worker or calls else cls.EMPTY


Calls.EMPTY = Calls()


class _Following:
    """The state while some events pass."""

    __slots__ = ("_before", "_calls", "_ended", "_is_ours", "_jobs", "_worker")

    def __init__(self, before: Calls) -> None:
        self._before = before
        self._worker = before.worker
        self._calls = before._calls
        self._ended: set[int] | frozenset[int] = before._ended
        self._is_ours = False  # and may be changed
        self._jobs: dict[int, str] | None = None  # made when needed

    def state(self) -> Calls:
        if not self._is_ours and self._worker == self._before.worker:
            return self._before
        over = len(self._calls) - MAX_PROCESSES
        if over > 0:
            # those of the worker itself are few, and old
            oldest = [pid for pid, call in self._calls.items() if call] or list(self._calls)
            for pid in oldest[:over]:
                del self._calls[pid]
        return Calls(self._worker, self._calls, frozenset(self._ended).intersection(self._calls))

    def without_news(self, records: Sequence[Record], levels: Sequence[int]) -> bool:
        """Whether none of them changes anything but what is to be set; if so it is set."""
        calls, ended = self._calls, self._ended
        if self._jobs is None:
            self._jobs = {pid: call[_JOB] for pid, call in calls.items() if call}
        try:
            having, jobs = records, list(map(_job, records))
        except KeyError:
            having = [record for record in records if _JOB in record and _PID in record]
            jobs = list(map(_job, having))
        try:
            pids = list(map(_pid, having))
            known = list(map(self._jobs.get, pids))
            if known != jobs:
                others = {pid for pid, one, job in zip(pids, known, jobs, strict=True) if one != job}
                if not all(calls.get(pid) == _SHARED for pid in others):
                    return False
        except (KeyError, TypeError):  # a job without pid among others; a pid that is no number
            return False
        if max(levels) >= ERROR:
            failures = [record for record, level in zip(records, levels, strict=True) if level >= ERROR]
            if any(_ends(record) and self._is_open(record) for record in failures):
                return False
        if min(levels) <= DEBUG and any(
            map(self._is_open, [record for record in having if record[_MESSAGE] == SHUTDOWN])
        ):
            return False
        if having is not records:
            for record in [record for record in records if _JOB not in record and (_PID in record or _ID in record)]:
                if _ID in record and _said(record) == REGISTERED and record[_ID] != self._worker:
                    return False
                pid = record.get(_PID)
                if pid.__class__ is int and (call := calls.get(pid)) and pid not in ended:
                    if _starts(record):
                        return False
                    for name, value in call.items():
                        record.setdefault(name, value)
        self._name_worker(records)
        return True

    def one_by_one(self, records: Sequence[Record]) -> None:
        named, calls = 0, self._calls
        for index, record in enumerate(records):
            if _JOB in record:
                pid, job = record.get(_PID), record[_JOB]
                if pid.__class__ is int:
                    call = calls.get(pid)
                    if call is None or (call and (call[_JOB] != job or _ends(record))):
                        self._learn(pid, record)
                        calls = self._calls
            elif _PID in record or _ID in record:
                if _ID in record and _said(record) == REGISTERED and _is_text(record[_ID]):
                    self._name_worker(records[named:index])
                    named = index
                    self._worker = str(record[_ID])
                    self._set(record.get(_PID), _SHARED)
                    calls = self._calls
                    continue
                pid = record.get(_PID)
                if pid.__class__ is int and (call := calls.get(pid)) and pid not in self._ended:
                    if _starts(record):
                        self._own()
                        calls = self._calls
                        del calls[pid]  # another process has it by now
                    else:
                        for name, value in call.items():
                            record.setdefault(name, value)
        self._name_worker(records[named:])

    def _name_worker(self, records: Sequence[Record]) -> None:
        if self._worker:
            deque(map(dict.setdefault, records, repeat(_WORKER), repeat(self._worker)), maxlen=0)

    def _learn(self, pid: int, record: Record) -> None:
        """From a line with both."""
        call, job = self._calls.get(pid), record[_JOB]
        if call == _SHARED or not isinstance(job, str) or not _is_text(job):
            return
        if _said(record).startswith(MAIN) or "tid" in record or (call and call[_JOB] != job and pid not in self._ended):
            self._set(pid, _SHARED)
            return
        if call is None or call[_JOB] != job:
            found = {name: value for name in _CARRIED if isinstance(value := record.get(name), str)}
            self._set(pid, {_JOB: job, **{name: value for name, value in found.items() if _is_text(value)}})
        if _ends(record):
            self._own()
            self._ended |= {pid}

    def _is_open(self, record: Record) -> bool:
        """Whether it has a job that its process has too, and that is not over."""
        pid = record.get(_PID)
        return _JOB in record and type(pid) is int and bool(self._calls.get(pid)) and pid not in self._ended

    def _set(self, pid: object, call: Call) -> None:
        if type(pid) is int and 0 < pid < 2**31:
            self._own()
            self._calls.pop(pid, None)
            self._calls[pid] = call
            self._ended -= {pid}

    def _own(self) -> None:
        self._jobs = None
        if not self._is_ours:
            self._is_ours = True
            self._calls = self._calls.copy()
            self._ended = set(self._ended)


def _size(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":")))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT


def _said(record: Record) -> str:
    """The message, of a line of text without what LiveKit's text form has before it."""
    message: str = record["message"]  # type: ignore[assignment]
    return message if len(message) > MAX_TEXT else message.rpartition(" - ")[2]


def _starts(record: Record) -> bool:
    return str(record[_MESSAGE]).startswith(STARTS)


def _ends(record: Record) -> bool:
    message = str(record[_MESSAGE])
    return message == SHUTDOWN or message.startswith(EXITED)
