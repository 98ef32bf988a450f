"""The journal's writing end: appends frames, changes segments, keeps the bound, survives a failing disk.

Used by one thread, the supervisor's writer: every call here may block on a frozen disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from shipper import messages
from shipper.journal import directory as place
from shipper.journal import ending, runs
from shipper.journal.facts import Facts, dump_json
from shipper.journal.frames import DATA, FRAME_SIZE, LOSS, RUN_END, STREAM_END, pack
from shipper.journal.numbering import STREAMS, Numbering, Summary, lost_for_good, summarize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Chunk = tuple[int, int, int, bytes]  # stream, wall_ns, mono_ns, data

TIDY_SECONDS = 60.0
NO_FILE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)  # no inode or descriptor for another one
GROWTH = 128  # of the next segment's facts frame: the six numbers in it become longer
SETTLE_SECONDS = 0.5  # it writes out the whole file system
BTRFS_SYNC = 0x9408  # BTRFS_IOC_SYNC of linux/btrfs.h
MIN_PIECE = 512  # of a chunk, where files may be no larger than a few KiB (RLIMIT_FSIZE)


class JournalWriter:
    """A run's journal, open for appending.

    ``path`` is the run's directory, ``directory`` the one that holds all runs, ``lock_fd`` the locked file (-1 where
    locks do not work), ``error`` the disk's last failure, None again after a good write. ``hold``, to be set: called
    before room is made for a segment; it may wait there for as long as it likes.
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
        self._oldest = 1  # no segment of ours has a lower index
        self._limited = False  # a limit on the size of files was met
        self._next_tidy = 0.0
        self.hold: Callable[[], None] = lambda: None
        self._next_settling = 0.0
        self._patience = 4  # of SETTLE_SECONDS, in all
        self._locks: list[int] = []  # of directories that were made again
        self._ends: dict[str, runs.Ends] = {}  # of dead runs, read once

    @classmethod
    def create(
        cls, directories: Sequence[str], facts: Facts, journal_max_bytes: int | None, *, evict: bool = True
    ) -> JournalWriter:
        """Begin a run in the first of ``directories`` that can be written.

        ``journal_max_bytes``: the bound over all runs; None for the default rule (`directory.default_max_bytes`).
        Without ``evict`` the first segment may go beyond it, for nobody is there yet who delivers what is old. Raises
        OSError, that of the first directory, when none can be used. May block on a frozen disk.
        """
        failure: OSError | None = None
        for directory in directories:
            try:
                return cls._create(os.path.abspath(directory), facts, journal_max_bytes, evict)
            except OSError as error:
                error.filename = directory
                failure = failure or error
        raise failure or FileNotFoundError(errno.ENOENT, "no directory to try")

    @classmethod
    def _create(cls, directory: str, facts: Facts, journal_max_bytes: int | None, evict: bool) -> JournalWriter:
        place.prepare(directory)
        if journal_max_bytes:
            max_bytes = place.chosen_max_bytes(directory, journal_max_bytes)
        else:
            max_bytes = place.default_max_bytes(directory, runs.used_bytes(directory))
        begins_at = runs.begins_at(directory, facts.started_ns, time.time_ns())
        final = os.path.join(directory, runs.run_name(begins_at, facts.run))
        # made under another name, so that nobody can take it for a dead run before its lock is held
        path = final + ".new"
        if os.path.lexists(path):  # an attempt before this one could not even remove it
            runs.remove_run(path)
        os.mkdir(path, 0o700)
        lock_fd = -1
        try:
            try:
                lock_fd = runs.lock(path) or -1
            except runs.LocksUnsupportedError:
                lock_fd = -1
            writer = cls(directory, path, lock_fd, facts, max_bytes)
            if evict:
                writer._make_room()
            try:
                writer._open_segment()
            except OSError as error:
                if error.errno not in runs.FULL or not writer._evict_one():
                    raise
                writer._open_segment()
            try:
                os.rename(path, final)
            except OSError:  # some mounted object stores rename no directory, and this is tried again every 2 s
                writer._close_segment()
                raise
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
        for chunk in self._in_pieces(chunks) if self._limited else chunks:
            needed = FRAME_SIZE + len(chunk[3])
            if group and self._size + size + needed > self._segment_bytes:
                self._append_group(group, size)
                group, size = [], 0
            group.append(chunk)
            size += needed
        if group:
            self._append_group(group, size)

    def _in_pieces(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The same bytes in chunks that fit a file: where a frame begins and ends says nothing."""
        most = max(MIN_PIECE, self._segment_bytes - self._head - GROWTH - FRAME_SIZE)
        return [
            (stream, wall_ns, mono_ns, data[start : start + most])
            for stream, wall_ns, mono_ns, data in chunks
            for start in range(0, len(data), most)
        ]

    def _append_group(self, chunks: list[Chunk], size: int) -> None:
        """Append chunks that go into one segment with one write, whole or not at all."""
        max_line = self.facts.max_line
        fits = self._segment_bytes
        for stream in list(self._losses):
            if not self._write_loss(stream):
                break  # the other's might still fit, and there would be no error to tell why these are lost
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
        if self._segment_bytes < fits:  # files may be no larger: smaller groups, in further segments
            self.append(chunks)
            return
        reason = "disk_full" if self.error and self.error.errno in runs.FULL else "disk_error"
        for stream, wall_ns, mono_ns, data in chunks:
            self._lose(stream, summarize(data, max_line), wall_ns, mono_ns, reason)

    def skip(self, stream: int, summary: Summary, wall_ns: int, mono_ns: int, reason: str) -> None:
        """Note bytes that passed by unjournalled, in their place in the stream."""
        self._lose(stream, summary, wall_ns, mono_ns, reason)
        self._write_loss(stream)

    def end_stream(self, stream: int) -> None:
        """The stream is at its end: a last line without newline is complete."""
        if stream in self._losses:
            self._write_loss(stream, last=True)
        self._marker(STREAM_END, stream, b"")
        self._numberings[stream].end(self.facts.max_line)

    def end(self, info: dict[str, object]) -> None:
        """The agent's end, e.g. {"exit_status": 3} or {"signal": 9}."""
        for stream in list(self._losses):
            self._write_loss(stream, last=True)
        self._marker(RUN_END, 0, dump_json(info))
        if self._losses:  # no place is left to note them
            ends = {s: self._numberings[s].line - (not self._numberings[s].before) for s in self._losses}
            lost = [(stream, self._losses[stream][0].line, ends[stream]) for stream in sorted(ends)]
            messages.say(lost_for_good(self._losses[lost[0][0]][4], lost))

    def kept(self) -> dict[int, Numbering]:
        """Where both streams stand behind what was written, or counted as lost; for another thread too."""
        return {stream: self._numberings[stream].copy() for stream in STREAMS}

    def failure(self) -> str | None:
        """What the agent's LiveKit worker logged among its last lines, when it had failed. Raises OSError."""
        return ending.failure(self.path)

    def close(self) -> None:
        """Close the segment; the lock stays held."""
        self._spend_reserve()
        self._close_segment()

    def _close_segment(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1  # whatever close(2) says, the number is free for others
        try:
            os.close(fd)
        except OSError as error:  # a network's disk says only now that it is full
            self.error = error

    # -- a failing disk ------------------------------------------------------------------------------------------

    def _lose(self, stream: int, summary: Summary, wall_ns: int, mono_ns: int, reason: str) -> None:
        numbering = self._numberings[stream]
        if stream in self._losses:
            start, lost, wall_ns, mono_ns, reason = self._losses[stream]
            self._losses[stream] = (start, lost.add(summary), wall_ns, mono_ns, reason)
        else:
            self._losses[stream] = (numbering.copy(), summary, wall_ns, mono_ns, reason)
        numbering.apply(summary)

    def _write_loss(self, stream: int, last: bool = False) -> bool:
        """Write the stream's pending loss marker; whether it is out. ``last``: nothing but the ends will follow."""
        start, lost, wall_ns, mono_ns, reason = self._losses[stream]
        payload = dump_json({"after": self._numberings[stream].to_json(), "bytes": lost.bytes, "reason": reason})
        frame = pack(LOSS, stream, wall_ns, mono_ns, start.line, start.before, start.at, payload) + payload
        if not self._put(frame, last):
            return False
        del self._losses[stream]
        return True

    def _put(self, frame: bytes, last: bool) -> bool:
        """Write a marker; whether it is out. Once more where a limit on the size of files is met only now; and what is
        written ``last`` a few times, where a quota may yet give way."""
        while True:
            fits = self._segment_bytes
            if self._ready_for(len(frame), last) and self._write([frame], len(frame), last):
                return True
            if last and self._patience and self.error is not None and self.error.errno == errno.EDQUOT:
                self._patience -= 1
                time.sleep(SETTLE_SECONDS)
            elif self._segment_bytes == fits:
                return False

    def _marker(self, kind: int, stream: int, payload: bytes) -> None:
        numbering = self._numberings[stream] if stream else Numbering(0)
        frame = pack(
            kind, stream, time.time_ns(), time.monotonic_ns(), numbering.line, numbering.before, numbering.at, payload
        )
        self._put(frame + payload, last=True)

    # -- segments ------------------------------------------------------------------------------------------------

    def _write(self, buffers: list[bytes], size: int, last: bool = False) -> bool:
        """Append ``size`` bytes, whole or not at all. On a full disk the oldest segment goes, then it's tried again;
        for what is written last the reserve goes first."""
        for evict in (True, True, False) if last else (True, False):
            written = 0
            try:
                written = os.writev(self._fd, buffers)
                if written != size:  # the disk became full within the write, or a file size limit was met
                    written += os.write(self._fd, b"".join(buffers)[written:])
                if written != size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
            except OSError as error:
                self.error = error
                if not self._cut_back():
                    return False
                if error.errno == errno.EFBIG:
                    self._limited = True
                    self._segment_bytes = min(self._segment_bytes, max(self._head + MIN_PIECE, self._size + written))
                    return False
                if not evict or error.errno not in runs.FULL:
                    return False
                if not (last and self._spend_reserve()) and not self._evict_one() and not self._start_afresh():
                    return False
            else:
                self._size += size
                self.error = None
                return True
        return False

    def _relock(self) -> None:
        """Hold the lock of a directory that was made again. The worker keeps the old one, for as long as we live."""
        if self.lock_fd >= 0:
            while self._locks:  # that of the one before, which is gone too
                os.close(self._locks.pop())
            try:
                self._locks.append(runs.lock(self.path) or -1)
            except OSError:
                return

    def _ready_for(self, size: int, last: bool = False) -> bool:
        """Change segments when ``size`` bytes more don't fit: before their numbers are given, since a segment begins
        with the numbering at its start. False when no segment can be opened."""
        if self._fd >= 0 and self._is_gone():
            self._close_segment()  # somebody removed the directory: what is written there reaches nobody
        if self._fd >= 0 and (self._size == self._head or self._size + size <= self._segment_bytes):
            return True
        return self._next_segment() or (last and self._spend_reserve() and self._next_segment()) or self._stays(size)

    def _is_gone(self) -> bool:
        try:
            return not os.fstat(self._fd).st_nlink
        except OSError as error:  # a network's disk that has lost the file (ESTALE), a FUSE server that has died
            self.error = error
            return True

    def _stays(self, size: int) -> bool:
        """Whether the present segment may go on, for want of an inode or a descriptor for the next. What it takes
        beyond its size, our oldest ones make room for, which needs neither; without any it has half of the bound."""
        if self._fd < 0 or self._limited or self.error is None or self.error.errno not in NO_FILE:
            return False
        while (self._size + size) // self._segment_bytes > self._size // self._segment_bytes:
            while self._oldest < self._index:
                self._oldest += 1
                try:
                    os.unlink(runs.segment_path(self.path, self._oldest - 1))
                    return True
                except OSError:
                    continue
            break
        return self._size + size <= max(self._segment_bytes, self._max_bytes // 2)

    def _spend_reserve(self) -> bool:
        """A full disk has a block again, for the last that is to be written; whether there was one."""
        try:
            os.unlink(os.path.join(self.path, runs.RESERVE))
        except OSError:
            return False
        self._settle()
        return True

    def _keep_reserve(self) -> None:
        path = os.path.join(self.path, runs.RESERVE)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except OSError:  # there already, or nothing is to be had
            return
        try:
            # no zeros: some file systems keep those, or a small file, without a block
            os.write(fd, os.urandom(runs.RESERVE_BYTES))
        except OSError:
            pass
        finally:
            os.close(fd)

    def _cut_back(self) -> bool:
        """Cut a partial frame away; when that fails the segment is left behind."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._close_segment()
            return False
        return True

    def _settle(self) -> bool:
        """What went counts against a quota of btrfs until its transaction ends, by itself after up to 30 s.

        False when that was asked for a moment ago.
        """
        if self.error is None or self.error.errno != errno.EDQUOT:
            return True
        now = time.monotonic()
        if now < self._next_settling:
            return False
        self._next_settling = now + SETTLE_SECONDS
        try:
            fcntl.ioctl(self._fd if self.lock_fd < 0 else self.lock_fd, BTRFS_SYNC)
        except OSError:  # another file system
            pass
        return True

    def _evict_one(self) -> bool:
        try:
            total = runs.used_bytes(self.directory)
            evicted = runs.make_room(self.directory, self.path, total - 1, 0, 0, at_once=True)
        except OSError:
            return False
        if evicted:
            self._settle()
        return evicted

    def _start_afresh(self) -> bool:
        """The only segment left is the one written to: it goes, and the next begins where it ended."""
        if self._size == self._head:
            return False
        try:
            os.unlink(runs.segment_path(self.path, self._index))
            try:
                os.ftruncate(self._fd, 0)  # a reader may have it open: its blocks would not be free
            except OSError:  # over a quota of btrfs
                pass
            self._close_segment()
            self._settle()
            self._open_segment()
        except OSError as error:
            self.error = error
            return False
        return True

    def would_lose(self) -> bool:
        """Whether room for the next segment is only to be had at the cost of lines that a sink has still to get."""
        try:
            return runs.would_lose(
                self.directory,
                self.path,
                self.facts.sinks,
                self._numberings,
                self._max_bytes,
                self._segment_bytes,
                others=self.lock_fd >= 0,  # without locks nobody adopts a run
                ends=self._ends,
            )
        except OSError:
            return False

    def lacks_room(self) -> bool:
        """Whether there is room for the next segment only if an older one goes."""
        try:
            return runs.used_bytes(self.directory) + self._segment_bytes > self._max_bytes
        except OSError:
            return False

    def has_cursors(self) -> bool:
        """Whether any sink has begun with this run."""
        try:
            return bool(runs.cursor_sinks(self.path))
        except OSError:
            return True

    def stretch(self, extra_bytes: int) -> None:
        """From now on the bound is so much higher."""
        self._max_bytes += extra_bytes

    def _next_segment(self) -> bool:
        for evict in (True, False):
            try:
                self._make_room()
                self._open_segment()
            except OSError as error:
                self.error = error
                if not evict or error.errno not in runs.FULL or not (self._evict_one() or self._drop_left_behind()):
                    return False
            else:
                return True
        return False

    def _drop_left_behind(self) -> bool:
        """The only segment left is one that could not even be cut (btrfs, over its quota): it goes."""
        if self._fd >= 0:
            return False
        try:
            os.unlink(runs.segment_path(self.path, self._index))
        except FileNotFoundError:  # gone already, but then a reader still had it open
            pass
        except OSError:
            return False
        return self._settle()

    def _make_room(self) -> None:
        """Make room for one full segment, and look after old runs now and then."""
        self.hold()
        runs.make_room(self.directory, self.path, self._max_bytes, self._segment_bytes, self._segment_bytes)
        now = time.monotonic()
        if now >= self._next_tidy:
            self._next_tidy = now + TIDY_SECONDS
            runs.tidy(self.directory, self.path, time.time_ns())

    def _open_segment(self) -> None:
        """Begin the next segment with the run's facts and the numbering so far. Raises OSError."""
        index = self._index + 1
        made_again = False
        path = runs.segment_path(self.path, index)
        while os.path.lexists(path):  # of an attempt before, which a sick disk would not let us remove
            try:
                os.unlink(path)
            except OSError:
                index += 1
                path = runs.segment_path(self.path, index)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:  # somebody removed the run's directory: it is made again, what was in it is lost
            place.prepare(self.directory)
            os.mkdir(self.path, 0o700)
            self._relock()
            made_again = True
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
        self._close_segment()
        self._index, self._fd, self._size, self._head = index, fd, len(head), len(head)
        if index == 1 or made_again:
            self._keep_reserve()
