"""The runs of a directory: finding them, telling live from dead, keeping the bound, and tidying up.

Liveness is a lock (`flock` on the run's file ``lock``, inherited by its worker), never a pid: pid namespaces differ.
"""

from __future__ import annotations

import errno
import fcntl
import os

from shipper import messages
from shipper.journal.cursor import CURSOR_PREFIX, CursorFile
from shipper.journal.facts import Facts, dump_json, load_json
from shipper.journal.frames import (
    DATA,
    FACTS,
    FRAME_SIZE,
    LOSS,
    MAX_PAYLOAD,
    RUN_END,
    STREAM_END,
    Frame,
    pack,
    parse,
    scan,
)
from shipper.journal.numbering import STREAMS, Numbering

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a volume's owner may put a link or a pipe in a file's place
LOCK = "lock"
SUFFIX = ".seg"
HISTORY_NS = 24 * 3600 * 10**9  # a delivered run is kept this long for `shipper logs`
HISTORY_RUNS = 50  # and at most this many of them: a restart loop makes small runs quickly
MAX_RUNS = 1000  # dead runs that wait to be delivered, at most: so many cost a start 35 ms, off the agent's way
RUN_BYTES = 8192  # a run's directory on ext4, and its note
RESERVE = "reserve"
RESERVE_BYTES = 4096  # a block: two losses and the ends, all that is written last, take some 600 bytes
CURSOR_BYTES = 8192  # see `cursor`
MAX_STAMP_NS = (1 << 64) - 1
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNFINISHED_NS = 60 * 10**9
NOT_AT_WORK = ("parked", "left_out")  # states of `delivery.health`: nobody waits for a sink in one of them


def run_name(started_ns: int, run: str) -> str:
    """A run's directory: names sort by start, see `begins_at`."""
    return f"{started_ns:016x}-{run}"


def begins_at(directory: str, started_ns: int, now_ns: int) -> int:
    """What the name of a run begins with that started at ``started_ns``: that, unless the clock has gone back.

    Whatever is in the directory was written before, even if by the clock it will be: then it is a moment later than all
    that. So the newest run has the highest name, and eviction, tidying and adoption do not take it for an old one.
    """
    newest_ns = 0
    for run in list_runs(directory):
        newest_ns = max(newest_ns, stamp_ns(run))
        try:
            newest_ns = max(newest_ns, _last_change_ns(run))
        except OSError:  # another user's, or gone meanwhile
            continue
    return newest_ns + 1 if now_ns < newest_ns < MAX_STAMP_NS else started_ns


def is_run(name: str) -> bool:
    started, dash, run = name.partition("-")
    return bool(dash) and len(started) == 16 and len(run) == 16 and all(c in "0123456789abcdef" for c in started + run)


def stamp_ns(path: str) -> int:
    """What its name says of when the run at ``path`` started: later than every run and segment that was there then."""
    return int(os.path.basename(path)[:16], 16)


def list_runs(directory: str) -> list[str]:
    """Paths of the directory's runs, oldest first; empty when it cannot be read.

    A link is no run: it may lead anywhere.
    """
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    paths = [os.path.join(directory, name) for name in sorted(filter(is_run, names))]
    return [path for path in paths if not os.path.islink(path)]


def segment_path(run: str, index: int) -> str:
    return os.path.join(run, f"{index:010d}{SUFFIX}")


def list_segments(run: str) -> list[int]:
    """Indexes of the run's segments in order; empty when the run is gone. Raises OSError when it cannot be read."""
    try:
        names = os.listdir(run)
    except FileNotFoundError:
        return []
    return sorted(int(name[:10]) for name in names if len(name) == 14 and name.endswith(SUFFIX) and name[:10].isdigit())


class LocksUnsupportedError(OSError):
    """The file system has no locks (some network file systems): nothing can be adopted there."""


def lock(run: str) -> int | None:
    """Lock the run: its descriptor, or None when somebody lives who holds it.

    Raises LocksUnsupportedError where locks do not work, FileNotFoundError when the run is gone, OSError otherwise.
    """
    fd = os.open(os.path.join(run, LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise LocksUnsupportedError(error.errno, os.strerror(error.errno), run) from error
        raise
    return fd


def is_live(run: str) -> bool:
    """Whether a wrapper, its worker or an adopter holds the run. Also True when that cannot be told: hands off."""
    try:
        fd = os.open(os.path.join(run, LOCK), READ)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def read_facts(run: str) -> Facts | None:
    """The run's facts, from the head of its first readable segment. Raises OSError when the run cannot be read."""
    for index in list_segments(run):
        try:
            fd = os.open(segment_path(run, index), READ)
        except FileNotFoundError:
            continue  # evicted meanwhile
        try:
            head = os.read(fd, FRAME_SIZE + MAX_PAYLOAD)
        finally:
            os.close(fd)
        for frame in scan(head):
            if frame.kind == FACTS:
                try:
                    return Facts.from_json(load_json(frame.payload)["facts"])
                except (ValueError, KeyError, TypeError):
                    break
    return None


def facts_frame(facts: Facts, numberings: dict[int, Numbering], wall_ns: int, mono_ns: int) -> bytes:
    """The frame that every segment begins with."""
    payload = dump_json({"facts": facts.to_json(), "streams": {str(s): numberings[s].to_json() for s in STREAMS}})
    return pack(FACTS, 0, wall_ns, mono_ns, 0, 0, 0, payload) + payload


def cursor_sinks(run: str) -> list[str]:
    """Names of the sinks that have a cursor in the run. Raises OSError when it cannot be read."""
    try:
        names = os.listdir(run)
    except FileNotFoundError:
        return []
    return sorted(name[len(CURSOR_PREFIX) :] for name in names if name.startswith(CURSOR_PREFIX))


def is_delivered(run: str, facts: Facts | None) -> bool:
    """Whether every sink that the run's lines may go to has got all of them. Raises OSError."""
    sinks = set(cursor_sinks(run)) | set(facts.sinks if facts else ())
    for sink in sinks:
        values = CursorFile.read(run, sink)
        if not values or not values.get("complete"):
            return False
    return True


def remove_run(run: str) -> None:
    """Delete the run's files; what is in the way stays. No link is followed, whoever puts it there meanwhile."""
    try:
        fd = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        for name in os.listdir(fd):
            os.unlink(name, dir_fd=fd)
        os.rmdir(run)
    except OSError:
        return
    finally:
        os.close(fd)


def used_bytes(directory: str) -> int:
    """Bytes of all runs that may be read, cursors included. Raises OSError."""
    total = 0
    for run in list_runs(directory):
        try:
            total += sum(size for _, size in _sizes(run))
        except (PermissionError, NotADirectoryError):
            continue
    return total


def _sizes(run: str) -> Iterator[tuple[int, int]]:
    """(index, bytes) of the run's segments in order, then (0, bytes) for all else that it takes. Raises OSError."""
    for index in list_segments(run):
        try:
            yield index, os.lstat(segment_path(run, index)).st_size
        except FileNotFoundError:
            continue
    reserve = RESERVE_BYTES if os.path.lexists(os.path.join(run, RESERVE)) else 0
    yield 0, RUN_BYTES + len(cursor_sinks(run)) * CURSOR_BYTES + reserve


def tidy(directory: str, own: str, now_ns: int) -> None:
    """Remove dead, delivered runs that are not the newest and past the history kept for ``shipper logs``.

    Of what cannot be read nothing is removed. By when it was last written: where the clock says that it will be, it is
    not known to be old.
    """
    kept = 0
    for run in reversed(list_runs(directory)[:-1]):
        try:
            if run == own or is_live(run) or not is_delivered(run, read_facts(run)):
                continue
            kept += 1
            if kept > HISTORY_RUNS or now_ns - _last_change_ns(run) > HISTORY_NS:
                remove_run(run)
        except OSError:
            continue
    _remove_unfinished(directory, now_ns)


def _remove_unfinished(directory: str, now_ns: int) -> None:
    """Remove what starts left that were killed before their run had its name."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        path = os.path.join(directory, name)
        try:
            unfinished = name.endswith(".new") and is_run(name[:-4]) and not is_live(path)
            if unfinished and now_ns - os.stat(path).st_mtime_ns > UNFINISHED_NS:
                remove_run(path)
        except OSError:
            continue


def _last_change_ns(run: str) -> int:
    segments = list_segments(run)
    return os.stat(segment_path(run, segments[-1]) if segments else run).st_mtime_ns


def make_room(
    directory: str, own: str, max_bytes: int, wanted_bytes: int, segment_bytes: int, at_once: bool = False
) -> bool:
    """Evict the oldest segments of any run until ``wanted_bytes`` more fit under ``max_bytes``.

    The segment that a live wrapper writes to counts with its full size and is never taken. A dead run's last one is
    replaced by its facts and numbering, so that its loss can still be told; where even that is too much, or there are
    more than MAX_RUNS, the oldest dead runs go whole, and that is said. Another user's runs, which may not be read, are
    his own affair: they count for nothing. ``at_once``: the disk is full, so what goes is emptied too, for who reads it
    keeps its blocks as long as that takes. Returns False when nothing more can go. Raises OSError.
    """
    total, candidates, dead = _what_is_there(directory, own, segment_bytes)
    total += wanted_bytes
    for run, index, size, last in _oldest_first(candidates) if total > max_bytes else ():
        if total <= max_bytes:
            break
        if at_once and not last:
            _empty(run, index)
        total -= size - (_replace_by_stub(run, index, size) if last else _unlink(run, index, size))
    removed = 0
    while dead and (total > max_bytes or len(dead) > MAX_RUNS):
        freed = _remove_dead(dead.pop(0))
        total -= freed
        removed += freed > 0
    if removed:
        messages.say(
            f"{directory} held more runs of earlier starts than its bound allows: the oldest were removed ({removed}), "
            "with what of them had not been delivered (see SHIPPER_JOURNAL_MAX)"
        )
    return total <= max_bytes


def _what_is_there(
    directory: str, own: str, segment_bytes: int
) -> tuple[int, list[tuple[str, int, int, bool]], list[str]]:
    """Bytes in all; the segments that may go: run, index, bytes, whether it is its run's last; and the dead runs."""
    total = 0
    candidates: list[tuple[str, int, int, bool]] = []  # run, segment, bytes, last of its run
    dead: list[str] = []
    for run in list_runs(directory):
        try:
            *sizes, (_, rest) = _sizes(run)
        except (PermissionError, NotADirectoryError):
            continue
        total += rest
        for position, (index, size) in enumerate(sizes):
            last = position == len(sizes) - 1
            total += size
            if not last:
                candidates.append((run, index, size, False))
            elif run == own:
                continue
            elif is_live(run):
                total += max(0, segment_bytes - size)
            else:
                candidates.append((run, index, size, True))
                dead.append(run)
    return total, candidates, dead


def would_lose(
    directory: str,
    own: str,
    sinks: Iterable[str],
    numberings: Mapping[int, Numbering],
    max_bytes: int,
    segment_bytes: int,
    *,
    others: bool = True,
    ends: dict[str, Ends] | None = None,
) -> bool:
    """Whether `make_room` for one segment would evict lines that one of these ``sinks`` has still to get.

    One whose secret was refused or that memory does not hold counts for nothing, nor does one that has no cursor in the
    own run, for it does not work here, or none in the other: that is none of its. Nor does a dead run of which only the
    closing event is left to tell: what takes its place still tells it. ``numberings``: the own run's, where it stands;
    ``others``: whether anybody delivers what dead runs hold; ``ends``: what was found of them, for the next time.
    Raises OSError.
    """
    ends = {} if ends is None else ends
    total, candidates, _ = _what_is_there(directory, own, segment_bytes)
    total += segment_bytes
    willing = [sink for sink in sinks if _has_cursor(own, sink) and _is_at_work(CursorFile.read(own, sink))]
    for run, index, size, last in _oldest_first(candidates) if total > max_bytes else ():
        if total <= max_bytes:
            break
        now = numberings if run == own else {}
        if (others or run == own) and any(_has_still_to_get(run, index, last, sink, now, ends) for sink in willing):
            return True
        total -= size - (min(size, _left_behind(run, index, ends)) if last else 0)
    return False


def _has_cursor(run: str, sink: str) -> bool:
    return os.path.lexists(os.path.join(run, CURSOR_PREFIX + sink))


def _is_at_work(cursor: dict[str, Any] | None) -> bool:
    health = cursor.get("health") if cursor is not None else None
    return not isinstance(health, dict) or health.get("state") not in NOT_AT_WORK


def _has_still_to_get(
    run: str, index: int, last: bool, sink: str, now: Mapping[int, Numbering], ends: dict[str, Ends]
) -> bool:
    """Whether the sink lacks whole lines of the segment: the head of the next one has the numbers this one ends with.

    ``now``: where the run stands, of one that lives. A line that has not ended holds nobody back: it may never end.
    ``ends``: as for `would_lose`.
    """
    cursor = CursorFile.read(run, sink)
    if cursor is None:
        return _has_cursor(run, sink)  # it has just begun
    if cursor.get("complete") or (not _is_at_work(cursor) and is_live(run)):  # a replica's secret may be a wrong one
        return False
    if last:
        return _lacks_the_end(run, index, cursor, ends)
    try:
        max_line, after = _numberings_at(run, index + 1)
        for stream, numbering in after.items():
            following = int(cursor["streams"][str(stream)][2])
            begun = _last_piece(numbering, max_line)
            ended = stream not in now or _last_piece(now[stream], max_line) > begun
            if following < begun or (numbering.before and ended and following == begun):
                return True
    except (OSError, KeyError, TypeError, ValueError, IndexError):
        return False
    return False


def _lacks_the_end(run: str, index: int, cursor: dict[str, Any], ends: dict[str, Ends]) -> bool:
    """Whether lines of a dead run's last segment are not accepted yet; not when nobody can read it, so adopt it."""
    found = _ends_of(run, index, ends)
    try:
        return any(int(cursor["streams"][str(stream)][2]) <= line for stream, line in found.last.items())
    except (KeyError, TypeError, ValueError, IndexError):
        return False


def _left_behind(run: str, index: int, ends: dict[str, Ends]) -> int:
    """Bytes of what takes the place of a dead run's last segment. Raises OSError."""
    found = _ends_of(run, index, ends)
    return 0 if is_delivered(run, found.facts) else found.stub_bytes


def _ends_of(run: str, index: int, ends: dict[str, Ends]) -> Ends:
    path = segment_path(run, index)
    if path not in ends:
        try:
            facts = read_facts(run)
            stub, last = _stub(run, index, facts) if facts is not None else (b"", {})
        except (OSError, ValueError):
            return Ends(None, {}, 0)
        ends[path] = Ends(facts, last, len(stub))
    return ends[path]


def _last_piece(numbering: Numbering, max_line: int) -> int:
    """The number of the line, or of its piece, that has begun; without any, of the one that comes next."""
    return numbering.line + max(0, numbering.before - 1) // max_line


def _numberings_at(run: str, index: int) -> tuple[int, dict[int, Numbering]]:
    """The run's ``max_line``, and the numbering of each stream at the head of a segment. Raises OSError, ValueError."""
    fd = os.open(segment_path(run, index), READ)
    try:
        frame = parse(os.read(fd, 64 << 10), 0)
    finally:
        os.close(fd)
    if not isinstance(frame, Frame) or frame.kind != FACTS:
        raise ValueError("no facts")
    try:
        return int(load_json(frame.payload)["facts"]["max_line"]), load_numberings(frame.payload)
    except (KeyError, TypeError) as error:
        raise ValueError("no facts") from error


def _oldest_first(candidates: list[tuple[str, int, int, bool]]) -> list[tuple[str, int, int, bool]]:
    """By when they were last written: of replicas on one volume none pays alone for what the others print.

    A run's segments stay in their order, and none counts as older than its run's start, whatever was done to the clock.
    """
    keyed: list[tuple[int, int, tuple[str, int, int, bool]]] = []
    before, newest_ns = "", 0
    for candidate in candidates:
        run, index = candidate[:2]
        if run != before:
            before, newest_ns = run, stamp_ns(run)
        try:
            newest_ns = max(newest_ns, os.lstat(segment_path(run, index)).st_mtime_ns)
        except OSError:  # gone meanwhile
            pass
        keyed.append((newest_ns, len(keyed), candidate))
    return [candidate for _, _, candidate in sorted(keyed)]


def _remove_dead(run: str) -> int:
    """Remove a dead run whole; the bytes that it took, 0 when it stays."""
    try:
        fd = lock(run)
        if fd is None:
            return 0
        try:
            size = sum(size for _, size in _sizes(run))
            remove_run(run)
        finally:
            os.close(fd)
    except OSError:
        return 0
    return size


def _empty(run: str, index: int) -> None:
    """Take the bytes of a segment that goes, also from who has it open."""
    try:
        fd = os.open(segment_path(run, index), os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    os.close(fd)


def _unlink(run: str, index: int, size: int) -> int:
    """Remove a segment; the bytes that are still there."""
    try:
        os.unlink(segment_path(run, index))
    except FileNotFoundError:
        return 0
    except OSError:
        return size
    return 0


def _replace_by_stub(run: str, index: int, size: int) -> int:
    """Put facts, numbering and end in the place of a dead run's last segment; the bytes that are there then.

    A run that everybody has got, or that nobody can read, goes whole. A full disk has no room for a second file: there
    the segment itself becomes the stub, in the blocks that it has.
    """
    try:
        fd = lock(run)
    except OSError:
        return size
    if fd is None:
        return size
    try:
        facts = read_facts(run)
        if facts is None or is_delivered(run, facts):
            remove_run(run)
            return 0
        stub, _ = _stub(run, index, facts)
        if len(stub) >= size:
            return size
        old, path = segment_path(run, index), segment_path(run, index + 1)
        try:
            _write(path + ".new", os.O_CREAT | os.O_TRUNC, stub)
            os.rename(path + ".new", path)
        except OSError as error:
            if os.path.lexists(path + ".new"):
                os.unlink(path + ".new")
            if error.errno not in FULL:
                return size
            os.rename(old, path)  # first: whoever stood in it then finds it gone, rather than shorter
            _write(path, 0, stub)
            return len(stub)
        return len(stub) + _unlink(run, index, size)
    except OSError:
        return size
    finally:
        os.close(fd)


def _write(path: str, flags: int, content: bytes) -> None:
    """Raises OSError, also when not all of it could be written."""
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o600)
    try:
        if os.pwrite(fd, content, 0) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        os.ftruncate(fd, len(content))
    finally:
        os.close(fd)


class Ends:
    """Of a dead run's last segment: its ``facts``, None when nobody can read them; ``last``, the number of a stream's
    last line that is not empty, by stream; and the bytes of what may take its place."""

    __slots__ = ("facts", "last", "stub_bytes")

    def __init__(self, facts: Facts | None, last: dict[int, int], stub_bytes: int) -> None:
        self.facts = facts
        self.last = last
        self.stub_bytes = stub_bytes


def _stub(run: str, index: int, facts: Facts) -> tuple[bytes, dict[int, int]]:
    """A segment's essence: facts, the numbering at its end, and its markers of the end; and each stream's last line
    that is not empty. Raises OSError, ValueError."""
    numberings = {stream: Numbering() for stream in STREAMS}
    empty = dict.fromkeys(STREAMS, 0)  # lines at the stream's end: they are no events
    ends: list[bytes] = []
    wall_ns = mono_ns = 0
    with open(os.open(segment_path(run, index), READ), "rb") as file:
        content = file.read()
    for frame in scan(content):
        wall_ns, mono_ns = frame.wall_ns, frame.mono_ns
        if frame.kind == FACTS:
            numberings = load_numberings(frame.payload)
        elif frame.kind == DATA and frame.stream in numberings:
            numbering = Numbering(frame.line, frame.before, frame.at)
            text = frame.payload.rstrip()
            newlines = frame.payload.count(b"\n", len(text))
            if text or (frame.before and newlines):
                empty[frame.stream] = -1  # the first of them ends a line
            empty[frame.stream] = max(0, empty[frame.stream] + newlines)
            numbering.advance(frame.payload, facts.max_line)
            numberings[frame.stream] = numbering
        elif frame.kind == LOSS and frame.stream in numberings:
            numberings[frame.stream] = load_loss(frame.payload)[0]
            empty[frame.stream] = 0
        elif frame.kind in (STREAM_END, RUN_END):
            ends.append(
                pack(frame.kind, frame.stream, wall_ns, mono_ns, frame.line, frame.before, frame.at, frame.payload)
                + frame.payload
            )
    last = {}
    for stream in STREAMS:
        whole = numberings[stream].copy()
        whole.end(facts.max_line)
        last[stream] = whole.line - 1 - empty[stream]
    return facts_frame(facts, numberings, wall_ns, mono_ns) + b"".join(ends), last


def load_numberings(payload: bytes) -> dict[int, Numbering]:
    """Both streams' numbering from a facts frame. Raises ValueError."""
    try:
        streams = load_json(payload)["streams"]
        return {stream: Numbering(*(int(value) for value in streams[str(stream)])) for stream in STREAMS}
    except (KeyError, TypeError) as error:
        raise ValueError("not a facts frame") from error


def load_loss(payload: bytes) -> tuple[Numbering, str]:
    """The numbering after a loss frame, and its reason. Raises ValueError."""
    values = load_json(payload)
    try:
        return Numbering(*(int(value) for value in values["after"])), str(values["reason"])
    except (KeyError, TypeError) as error:
        raise ValueError("not a loss frame") from error


def evicted_between(segments: Iterable[int], index: int) -> int | None:
    """The lowest of ``segments`` above ``index``; None when there is none."""
    return min((segment for segment in segments if segment > index), default=None)
