"""The journal's writing end: appends frames, changes segments, keeps the bound, survives a failing disk.

Used by one thread, the supervisor's writer: every call here may block on a frozen disk.
"""

from __future__ import annotations

import errno
import os
import time

from shipper import messages
from shipper.journal import directory as place
from shipper.journal import runs
from shipper.journal.facts import Facts, dump_json
from shipper.journal.frames import DATA, FRAME_SIZE, LOSS, RUN_END, STREAM_END, pack
from shipper.journal.numbering import STREAM_NAMES, STREAMS, Numbering, Summary, summarize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Chunk = tuple[int, int, int, bytes]  # stream, wall_ns, mono_ns, data

TIDY_SECONDS = 60.0
FULL = (errno.ENOSPC, errno.EDQUOT)


class JournalWriter:
    """A run's journal, open for appending.

    ``path`` is the run's directory, ``directory`` the one that holds all runs, ``lock_fd`` the locked file (-1 where
    locks do not work), ``error`` the disk's last failure, None again after a good write.
    """

    def __init__(self, directory: str, path: str, lock_fd: int, facts: Facts, max_bytes: int) -> None:
        self.directory = directory
        self.path = path
        self.lock_fd = lock_fd
        self.facts = facts
        self.error: OSError | None = None
        self._max_bytes = max_bytes
        self._segment_bytes = place.segment_bytes(max_bytes)
        self._numberings = {stream: Numbering() for stream in STREAMS}
        self._losses: dict[int, tuple[Numbering, Summary, int, int, str]] = {}
        self._index = 0
        self._fd = -1
        self._size = 0
        self._head = 0  # bytes of the current segment's facts frame
        self._next_tidy = 0.0
        self._locks: list[int] = []  # of directories that were made again

    @classmethod
    def create(cls, directories: Sequence[str], facts: Facts, journal_max_bytes: int | None) -> JournalWriter:
        """Begin a run in the first of ``directories`` that can be written.

        ``journal_max_bytes``: the bound over all runs; None for the default rule (`directory.default_max_bytes`).
        Raises OSError, that of the first directory, when none can be used. May block on a frozen disk.
        """
        failure: OSError | None = None
        for directory in directories:
            try:
                return cls._create(os.path.abspath(directory), facts, journal_max_bytes)
            except OSError as error:
                if error.filename is None:
                    error.filename = directory
                failure = failure or error
        raise failure or FileNotFoundError(errno.ENOENT, "no directory to try")

    @classmethod
    def _create(cls, directory: str, facts: Facts, journal_max_bytes: int | None) -> JournalWriter:
        place.prepare(directory)
        max_bytes = journal_max_bytes or place.default_max_bytes(directory, runs.used_bytes(directory))
        final = os.path.join(directory, runs.run_name(facts.started_ns, facts.run))
        # made under another name, so that nobody can take it for a dead run before its lock is held
        path = final + ".new"
        os.mkdir(path, 0o700)
        lock_fd = -1
        try:
            try:
                lock_fd = runs.lock(path) or -1
            except runs.LocksUnsupportedError:
                lock_fd = -1
            writer = cls(directory, path, lock_fd, facts, max_bytes)
            writer._make_room()
            writer._open_segment()
            os.rename(path, final)
        except BaseException:
            if lock_fd >= 0:
                os.close(lock_fd)
            runs.remove_run(path)
            raise
        writer.path = final
        return writer

    def append(self, chunks: Sequence[Chunk]) -> None:
        """Append chunks, each (stream, wall_ns, mono_ns, data) and at most 1 MiB, one frame each, in order.

        Never raises for a failing disk: a chunk that cannot be written counts as lost (see ``error``), and a marker
        takes its place as soon as one can be written.
        """
        group: list[Chunk] = []
        size = 0
        for chunk in chunks:
            needed = FRAME_SIZE + len(chunk[3])
            if group and self._size + size + needed > self._segment_bytes:
                self._append_group(group, size)
                group, size = [], 0
            group.append(chunk)
            size += needed
        if group:
            self._append_group(group, size)

    def _append_group(self, chunks: list[Chunk], size: int) -> None:
        """Append chunks that go into one segment with one write, whole or not at all."""
        max_line = self.facts.max_line
        for stream in list(self._losses):
            self._write_loss(stream)
        if not self._losses and self._ready_for(size):
            after = {stream: self._numberings[stream].copy() for stream in STREAMS}
            buffers: list[bytes] = []
            for stream, wall_ns, mono_ns, data in chunks:
                numbering = after[stream]
                line, before, at = numbering.line, numbering.before, numbering.at
                buffers += (pack(DATA, stream, wall_ns, mono_ns, line, before, at, data), data)
                numbering.advance(data, max_line)
            if self._write(buffers, size):
                self._numberings = after
                return
        reason = "disk_full" if self.error and self.error.errno in FULL else "disk_error"
        for stream, wall_ns, mono_ns, data in chunks:
            self._lose(stream, summarize(data, max_line), wall_ns, mono_ns, reason)

    def skip(self, stream: int, summary: Summary, wall_ns: int, mono_ns: int, reason: str) -> None:
        """Note bytes that passed by unjournalled, in their place in the stream."""
        self._lose(stream, summary, wall_ns, mono_ns, reason)
        self._write_loss(stream)

    def end_stream(self, stream: int) -> None:
        """The stream is at its end: a last line without newline is complete."""
        if stream in self._losses:
            self._write_loss(stream)
        self._marker(STREAM_END, stream, b"")
        self._numberings[stream].end(self.facts.max_line)

    def end(self, info: dict[str, object]) -> None:
        """The agent's end, e.g. {"exit_status": 3} or {"signal": 9}."""
        for stream in list(self._losses):
            self._write_loss(stream)
        self._marker(RUN_END, 0, dump_json(info))
        for stream, (start, _, _, _, reason) in self._losses.items():  # no place is left to note them
            last = self._numberings[stream].line - (not self._numberings[stream].before)
            messages.say(
                f"lines {start.line} to {last} of {STREAM_NAMES[stream]} are lost ({reason}): "
                "they could neither be kept nor announced to the providers"
            )

    def close(self) -> None:
        """Close the segment; the lock stays held."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- a failing disk ------------------------------------------------------------------------------------------

    def _lose(self, stream: int, summary: Summary, wall_ns: int, mono_ns: int, reason: str) -> None:
        numbering = self._numberings[stream]
        if stream in self._losses:
            start, lost, wall_ns, mono_ns, reason = self._losses[stream]
            self._losses[stream] = (start, lost.add(summary), wall_ns, mono_ns, reason)
        else:
            self._losses[stream] = (numbering.copy(), summary, wall_ns, mono_ns, reason)
        numbering.apply(summary)

    def _write_loss(self, stream: int) -> bool:
        """Write the stream's pending loss marker; whether it is out."""
        start, lost, wall_ns, mono_ns, reason = self._losses[stream]
        payload = dump_json({"after": self._numberings[stream].to_json(), "bytes": lost.bytes, "reason": reason})
        frame = pack(LOSS, stream, wall_ns, mono_ns, start.line, start.before, start.at, payload) + payload
        if not self._ready_for(len(frame)) or not self._write([frame], len(frame)):
            return False
        del self._losses[stream]
        return True

    def _marker(self, kind: int, stream: int, payload: bytes) -> None:
        numbering = self._numberings[stream] if stream else Numbering(0)
        frame = pack(
            kind, stream, time.time_ns(), time.monotonic_ns(), numbering.line, numbering.before, numbering.at, payload
        )
        size = len(frame) + len(payload)
        if self._ready_for(size):
            self._write([frame, payload], size)

    # -- segments ------------------------------------------------------------------------------------------------

    def _write(self, buffers: list[bytes], size: int) -> bool:
        """Append ``size`` bytes, whole or not at all. On a full disk the oldest segment goes, then it's tried again."""
        for evict in (True, False):
            try:
                written = os.writev(self._fd, buffers)
                if written != size:  # the disk became full within the write, or a file size limit was met
                    written += os.write(self._fd, b"".join(buffers)[written:])
                if written != size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
            except OSError as error:
                self.error = error
                if not self._cut_back() or not evict or error.errno not in FULL:
                    return False
                if not self._evict_one() and not self._start_afresh():
                    return False
            else:
                self._size += size
                self.error = None
                return True
        return False

    def _relock(self) -> None:
        """Hold the lock of a directory that was made again. The worker keeps the old one, for as long as we live."""
        if self.lock_fd >= 0:
            try:
                self._locks.append(runs.lock(self.path) or -1)
            except OSError:
                return

    def _ready_for(self, size: int) -> bool:
        """Change segments when ``size`` bytes more don't fit: before their numbers are given, since a segment begins
        with the numbering at its start. False when no segment can be opened."""
        if self._fd >= 0 and not os.fstat(self._fd).st_nlink:
            self.close()  # somebody removed the directory: what is written there reaches nobody
        if self._fd >= 0 and (self._size == self._head or self._size + size <= self._segment_bytes):
            return True
        return self._next_segment()

    def _cut_back(self) -> bool:
        """Cut a partial frame away; when that fails the segment is left behind."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self.close()
            return False
        return True

    def _evict_one(self) -> bool:
        try:
            total = runs.used_bytes(self.directory)
            return runs.make_room(self.directory, self.path, total - 1, 0, 0)
        except OSError:
            return False

    def _start_afresh(self) -> bool:
        """The only segment left is the one written to: it goes, and the next begins where it ended."""
        if self._size == self._head:
            return False
        try:
            os.unlink(runs.segment_path(self.path, self._index))
            self.close()
            self._open_segment()
        except OSError as error:
            self.error = error
            return False
        return True

    def _next_segment(self) -> bool:
        for evict in (True, False):
            try:
                self._make_room()
                self._open_segment()
            except OSError as error:
                self.error = error
                if not evict or error.errno not in FULL or not self._evict_one():
                    return False
            else:
                return True
        return False

    def _make_room(self) -> None:
        """Make room for one full segment, and look after old runs now and then."""
        runs.make_room(self.directory, self.path, self._max_bytes, self._segment_bytes, self._segment_bytes)
        now = time.monotonic()
        if now >= self._next_tidy:
            self._next_tidy = now + TIDY_SECONDS
            runs.tidy(self.directory, self.path, time.time_ns())

    def _open_segment(self) -> None:
        """Begin the next segment with the run's facts and the numbering so far. Raises OSError."""
        index = self._index + 1
        path = runs.segment_path(self.path, index)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:  # somebody removed the run's directory: it is made again, what was in it is lost
            place.prepare(self.directory)
            os.mkdir(self.path, 0o700)
            self._relock()
            fd = os.open(path, flags, 0o600)
        # what is lost and not yet told begins in this segment
        numberings = {s: self._losses[s][0] if s in self._losses else self._numberings[s] for s in STREAMS}
        head = runs.facts_frame(self.facts, numberings, time.time_ns(), time.monotonic_ns())
        try:
            if os.write(fd, head) != len(head):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        except OSError:
            os.close(fd)
            os.unlink(path)
            raise
        self.close()
        self._index, self._fd, self._size, self._head = index, fd, len(head), len(head)
