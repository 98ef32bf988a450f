"""The journal's reading end: frames in, numbered lines out.

Reading is a function of a `State`: `RunReader.read` takes one and returns what follows and the next. So several sinks
can share one decoded window (a state is hashable by `State.key`), a failed request is read again by going back, and a
cursor is a state with nothing in it. A window ends at a multiple of `WINDOW_BYTES` in its segment, at the segment's
end, or where the journal ends for now: a sink that was away falls in step with the others at the next such place.

Numbers count bytes, and a piece of an over-long line ends after so many; but a character of UTF-8 that this would cut
in two goes with the next piece, or neither could show it. (Only where reading begins in between is it cut even so.)
"""

from __future__ import annotations

import os

from shipper.journal.facts import Facts, load_json
from shipper.journal.frames import (
    DATA,
    FACTS,
    FRAME_SIZE,
    LOSS,
    MAX_PAYLOAD,
    RUN_END,
    STREAM_END,
    Frame,
    find_frame,
    parse,
)
from shipper.journal.numbering import STREAMS, Numbering, pieces
from shipper.journal.runs import (
    READ,
    evicted_between,
    list_segments,
    load_loss,
    load_numberings,
    read_facts,
    segment_path,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SLACK_BYTES = FRAME_SIZE + (64 << 10)  # a frame may reach over the window's end: the supervisor reads 64 KiB at a time
WINDOW_BYTES = 256 << 10  # some 1,200 lines of 220 bytes, decoded 2 MB: fits a core's cache (512 KiB costs 10 % more)

_REST = 3  # bytes of a character of UTF-8 that may be there before its last one

EVICTED = "journal_full"
CORRUPT = "journal_corrupt"


class Lines:
    """Whole lines of one stream, numbered from ``first_seq`` without gaps.

    ``marks``: (index of a line, wall time of the read that its first byte came in, segment, offset of that frame),
    ascending; each holds for the lines up to the next. ``parts``: index of a piece of an over-long line → its part
    number, from 1.
    """

    __slots__ = ("first_seq", "lines", "marks", "parts", "stream")

    def __init__(
        self,
        stream: int,
        first_seq: int,
        lines: list[bytes],
        marks: list[tuple[int, int, int, int]],
        parts: dict[int, int],
    ) -> None:
        self.stream = stream
        self.first_seq = first_seq
        self.lines = lines
        self.marks = marks
        self.parts = parts


class Gap:
    """Numbers that cannot be had any more: ``first_seq`` to ``last_seq``, both lost."""

    __slots__ = ("first_seq", "last_seq", "offset", "reason", "segment", "stream", "wall_ns")

    def __init__(
        self, stream: int, first_seq: int, last_seq: int, reason: str, wall_ns: int, segment: int, offset: int
    ) -> None:
        self.stream = stream
        self.first_seq = first_seq
        self.last_seq = last_seq
        self.reason = reason
        self.wall_ns = wall_ns
        self.segment = segment
        self.offset = offset


class End:
    """The agent's end, as the supervisor noted it."""

    __slots__ = ("info", "wall_ns")

    def __init__(self, info: dict[str, Any], wall_ns: int) -> None:
        self.info = info
        self.wall_ns = wall_ns


class StreamState:
    """Where the reading of one stream stands.

    ``line``, ``before``, ``at``: the numbering of the next byte (`numbering`); ``at`` is -1 while it is to be taken
    from the next frame. ``piece``: pieces of the current line that are done. ``carry``: the bytes of the current piece,
    and ``mark``: wall time, segment and offset of the frame it began in; ``damaged`` when some of it is lost.
    ``skip``: lines below this number were accepted already; frames before ``from_`` (segment, offset) don't matter.
    """

    __slots__ = ("at", "before", "carry", "damaged", "from_", "line", "mark", "piece", "skip")

    def __init__(self, skip: int, from_: tuple[int, int], at: int) -> None:
        self.line = 1
        self.before = 0
        self.at = at
        self.piece = 0
        self.carry = b""
        self.mark = (0, *from_)
        self.damaged = False
        self.skip = skip
        self.from_ = from_

    @property
    def seq(self) -> int:
        """The number of the current piece."""
        return self.line + self.piece

    def copy(self) -> StreamState:
        other = StreamState.__new__(StreamState)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other


class State:
    """Where a reader stands: the next frame's segment and offset, and both streams. Never changed once handed out."""

    __slots__ = ("corrupt", "offset", "segment", "streams")

    def __init__(self, segment: int, offset: int, streams: dict[int, StreamState], corrupt: bool = False) -> None:
        self.segment = segment
        self.offset = offset
        self.streams = streams
        self.corrupt = corrupt  # damage was met since the last whole frame

    @property
    def key(self) -> tuple[int, ...]:
        """Equal for states of one run from which the same windows follow."""
        key = [self.segment, self.offset]
        for state in self.streams.values():
            key.append(state.at)
            if state.at < 0:
                key += (state.skip, *state.from_)
            else:
                key.append(max(state.skip - state.seq, 0))
        return tuple(key)

    @property
    def lines(self) -> int:
        """How many of both streams, pieces of over-long ones counted, end before it."""
        return sum(max(state.seq, state.skip) - 1 for state in self.streams.values())

    @classmethod
    def start(cls) -> State:
        """The run's first line; what was evicted since is a loss."""
        return cls(0, 0, {stream: StreamState(1, (0, 0), 0) for stream in STREAMS})

    @classmethod
    def from_cursor(cls, streams: dict[str, list[int]]) -> State:
        """From a cursor's positions, {"1": [segment, offset, seq], …}. Raises ValueError, KeyError or TypeError."""
        states = {}
        for stream in STREAMS:
            segment, offset, seq = (int(value) for value in streams[str(stream)])
            states[stream] = StreamState(seq, (segment, offset), -1 if segment else 0)
        return cls(*min(state.from_ for state in states.values()), states)

    @classmethod
    def somewhere(cls, segment: int) -> State:
        """The head of a segment, taking the numbering as it stands there: for showing lines, not for accounting."""
        return cls(segment, 0, {stream: StreamState(0, (segment, 0), -1) for stream in STREAMS})


class Window:
    """What was read: `Lines`, `Gap` and `End` in order.

    ``at_end``: the journal had no more at that moment; ``gone``: it has no segment at all, the run was removed.
    """

    __slots__ = ("at_end", "gone", "items")

    def __init__(self, items: list[Lines | Gap | End], at_end: bool, gone: bool) -> None:
        self.items = items
        self.at_end = at_end
        self.gone = gone


class RunReader:
    """Reads one run's segments. Not for several threads at once."""

    def __init__(self, run: str, facts: Facts | None = None, window_bytes: int = WINDOW_BYTES) -> None:
        """Raises FileNotFoundError when the run holds no readable facts."""
        self.run = run
        self._window_bytes = window_bytes
        found = facts or read_facts(run)
        if found is None:
            raise FileNotFoundError(2, "no readable segment", run)
        self.facts = found
        self.corrupt_frames = 0
        self._fd = -1
        self._index = 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def window(self, state: State) -> tuple[int, int]:
        """What `read` has just read from ``state`` on: its segment, and which `WINDOW_BYTES` of that."""
        return self._index, state.offset // WINDOW_BYTES if state.segment == self._index else 0

    def available(self, state: State) -> int:
        """Bytes of the journal after ``state``, at least: what is in its segment, and one more when another follows.

        Raises OSError.
        """
        if not self._open(state.segment):
            following = evicted_between(list_segments(self.run), state.segment)
            return 0 if following is None else self._window_bytes
        info = os.fstat(self._fd)
        pending = info.st_size - (state.offset if self._index == state.segment else 0)
        more = self._index != state.segment or self._following()
        if pending <= 0 and not info.st_nlink and not more:
            self.close()
        return max(0, pending) + (self._window_bytes if more else 0)

    def read(self, state: State, dead: bool = False) -> tuple[Window, State]:
        """What follows ``state``, and the state after it.

        ``dead``: nothing will be appended any more, so the end of the journal completes a last line. Raises OSError
        when the disk cannot be read.
        """
        cut = _Cut(state, self.facts.max_line)
        if not self._open(cut.segment):  # evicted: go on with what is left
            following = evicted_between(list_segments(self.run), cut.segment)
            if following is None or not self._open(following):
                return Window(cut.finish(), at_end=True, gone=True), cut.state()
        if self._index != cut.segment:
            cut.segment, cut.offset = self._index, 0
        at_end = self._fill(cut)
        if at_end and dead:
            cut.end_streams()
        return Window(cut.finish(), at_end, gone=False), cut.state()

    def _fill(self, cut: _Cut) -> bool:
        """Read frames up to the window's end; whether the journal ends here for now."""
        segment = cut.segment
        stop = (cut.offset // self._window_bytes + 1) * self._window_bytes
        base = cut.offset
        buffer = os.pread(self._fd, stop - base + SLACK_BYTES, base)
        while cut.segment == segment and cut.offset < stop:
            frame = parse(buffer, cut.offset - base, base)
            if isinstance(frame, Frame):
                cut.take(frame)
                cut.offset = frame.end
                continue
            if not self._get_over(cut):
                return True
            if cut.segment == segment:
                base = cut.offset
                buffer = os.pread(self._fd, max(stop - base, 0) + FRAME_SIZE + MAX_PAYLOAD, base)
        return False

    def _get_over(self, cut: _Cut) -> bool:
        """No whole frame was seen at ``cut``: move it to where the next one is. False: that is not written yet."""
        # the look for a next segment comes first: what was written before the writer left this one is then seen
        following = self._following()
        wanted = FRAME_SIZE + MAX_PAYLOAD + WINDOW_BYTES
        buffer = os.pread(self._fd, wanted, cut.offset)
        if isinstance(parse(buffer, 0), Frame):
            return True
        found = find_frame(buffer, 1)
        if found < 0 and len(buffer) == wanted:
            found = WINDOW_BYTES  # a long stretch of damage: no frame begins in this part of it
        if found > 0:
            cut.offset += found
        elif following is None:
            if not os.fstat(self._fd).st_nlink:
                self.close()  # evicted, and read to its end: on a full disk the writer waits for its blocks
            return False
        else:
            cut.segment, cut.offset = following, 0
        if buffer:
            self.corrupt_frames += 1
            cut.corrupt = True
        return True

    def _open(self, index: int) -> bool:
        """Have segment ``index`` open, the first one for 0; False when it is not there."""
        if self._fd >= 0 and self._index == index:
            return True
        if index == 0:
            first = evicted_between(list_segments(self.run), 0)
            if first is None:
                return False
            index = first
        try:
            fd = os.open(segment_path(self.run, index), READ)
        except FileNotFoundError:
            return False
        self.close()
        self._fd, self._index = fd, index
        return True

    def _following(self) -> int | None:
        """The segment after the open one, None when it is the last."""
        if os.access(segment_path(self.run, self._index + 1), os.F_OK):
            return self._index + 1
        if os.fstat(self._fd).st_nlink:
            return None
        return evicted_between(list_segments(self.run), self._index)


class _Cut:
    """Cuts frames into lines: the work of one `RunReader.read`."""

    def __init__(self, state: State, max_line: int) -> None:
        self.segment = state.segment
        self.offset = state.offset
        self.corrupt = state.corrupt
        self._max_line = max_line
        self._items: list[Lines | Gap | End] = []
        self._streams = {
            number: _Stream(number, state.streams[number].copy(), max_line, self._items) for number in STREAMS
        }

    def state(self) -> State:
        streams = {number: stream.state for number, stream in self._streams.items()}
        return State(self.segment, self.offset, streams, self.corrupt)

    def finish(self) -> list[Lines | Gap | End]:
        for stream in self._streams.values():
            stream.flush()
        return self._items

    def end_streams(self) -> None:
        for stream in self._streams.values():
            stream.end()

    def take(self, frame: Frame) -> None:
        """One whole frame, in order."""
        try:
            if frame.kind == FACTS:
                for number, numbering in load_numberings(frame.payload).items():
                    self._arrive(self._streams[number], numbering, frame)
            elif frame.kind == RUN_END:
                self.end_streams()  # where the disk took no marker of a stream's own end
                self.finish()
                self._items.append(End(load_json(frame.payload), frame.wall_ns))
            elif frame.stream in self._streams:
                self._take_in_stream(self._streams[frame.stream], frame)
        except ValueError:  # a payload that we did not write
            self.corrupt = True
            return
        self.corrupt = False

    def _take_in_stream(self, stream: _Stream, frame: Frame) -> None:
        if not self._arrive(stream, Numbering(frame.line, frame.before, frame.at), frame):
            return
        if frame.kind == DATA:
            stream.data(frame, self.segment)
        elif frame.kind == LOSS:
            after, reason = load_loss(frame.payload)
            stream.jump(after, reason, frame, self.segment)
        elif frame.kind == STREAM_END:
            stream.end()

    def _arrive(self, stream: _Stream, numbering: Numbering, frame: Frame) -> bool:
        """Be at ``numbering``, where the frame begins; False when the frame does not matter."""
        state = stream.state
        if numbering.at == state.at:
            return True
        if (self.segment, frame.offset) < state.from_ or numbering.at < state.at:
            return False  # accepted before, or seen already
        stream.jump(numbering, CORRUPT if self.corrupt else EVICTED, frame, self.segment)
        return True


class _Stream:
    """The lines of one stream within one read."""

    def __init__(self, number: int, state: StreamState, max_line: int, items: list[Lines | Gap | End]) -> None:
        self.number = number
        self.state = state
        self._max_line = max_line
        self._items = items
        self._joined: list[bytes] = []  # payloads in a row that hold no over-long line, not yet cut
        self._lines: list[bytes] = []  # numbered from _first_seq without gaps
        self._first_seq = 0
        self._marks: list[tuple[int, int, int, int]] = []  # seq of the first line that begins in a frame, its place
        self._parts: dict[int, int] = {}  # seq of a piece -> part

    def data(self, frame: Frame, segment: int) -> None:
        """The bytes of one read."""
        state = self.state
        size = len(frame.payload)
        state.at = frame.at + size
        if frame.before + size > self._max_line:
            self._cut_joined()
            self._cut_long(frame, segment)
            return
        # no line that ends in here is over-long, so the header alone tells the number of the next one to begin
        if not frame.before:
            self._mark(frame.line, frame.wall_ns, segment, frame.offset)
        elif b"\n" in frame.payload:
            self._mark(frame.line + 1, frame.wall_ns, segment, frame.offset)
        self._joined.append(frame.payload)

    def jump(self, to: Numbering, reason: str, frame: Frame, segment: int) -> None:
        """Go on at ``to``: a loss, or the place where reading begins."""
        self.flush()
        state = self.state
        begin = state.at < 0
        expected = state.skip if begin else max(state.skip, state.seq + state.damaged)
        state.line, state.before, state.at = to.line, to.before, to.at
        state.piece, rest = divmod(to.before, self._max_line)
        state.damaged = rest > 0
        state.carry = b""
        state.mark = (frame.wall_ns, segment, frame.offset)
        last = state.seq if state.damaged else state.seq - 1
        if last >= expected and not (begin and state.skip == 0):
            self._items.append(Gap(self.number, expected, last, reason, frame.wall_ns, segment, frame.offset))

    def end(self) -> None:
        """No byte will follow: a last line without newline is complete."""
        self._cut_joined()
        if self.state.before:
            self._end_line()

    def flush(self) -> None:
        """Hand over the lines so far."""
        self._cut_joined()
        lines, first, marks, parts = self._lines, self._first_seq, self._marks, self._parts
        self._lines, self._marks, self._parts = [], [], {}
        done = min(max(0, self.state.skip - first), len(lines))
        if done:
            lines = lines[done:]
            first += done
        if not lines:
            return
        columns: list[tuple[int, int, int, int]] = []
        for seq, wall_ns, segment, offset in marks:
            index = max(0, seq - first)
            if index >= len(lines):
                break
            if columns and columns[-1][0] == index:
                columns.pop()
            columns.append((index, wall_ns, segment, offset))
        numbered = {seq - first: part for seq, part in parts.items() if seq >= first}
        self._items.append(Lines(self.number, first, lines, columns, numbered))

    def _mark(self, seq: int, wall_ns: int, segment: int, offset: int) -> None:
        """The line ``seq`` begins in this frame, unless a later mark says the same of it."""
        if self._marks and self._marks[-1][0] == seq:
            self._marks[-1] = (seq, wall_ns, segment, offset)
        else:
            self._marks.append((seq, wall_ns, segment, offset))

    def _append(self, line: bytes, part: int) -> None:
        seq = self.state.seq
        if not self._lines:
            self._first_seq = seq
        if part:
            self._parts[seq] = part
        self._lines.append(line)

    def _cut_joined(self) -> None:
        """Cut the payloads in a row, none of which holds an over-long line."""
        if not self._joined:
            return
        state = self.state
        data = b"".join(self._joined)
        self._joined.clear()
        size = len(data)
        lines = (state.carry + data if state.carry else data).split(b"\n")
        rest = lines.pop()
        if not lines:
            state.before += size
            if not state.damaged:
                if not state.carry:
                    state.mark = self._place(state.line)
                state.carry = rest
            return
        first = state.line
        if state.damaged:
            del lines[0]
            first += 1
        elif state.carry:
            self._marks.insert(self._index_of(first), (first, *state.mark))
        if lines:
            if self._lines:
                self._lines += lines
            else:
                self._lines, self._first_seq = lines, first
        state.line = first + len(lines)
        state.before = len(rest)
        state.carry = rest
        state.damaged = False
        state.mark = self._place(state.line)

    def _index_of(self, seq: int) -> int:
        """Where a mark for ``seq`` belongs."""
        for index, mark in enumerate(self._marks):
            if mark[0] > seq:
                return index
        return len(self._marks)

    def _place(self, seq: int) -> tuple[int, int, int]:
        """Wall time, segment and offset of the frame that line ``seq`` begins in, of those in this read."""
        for mark in reversed(self._marks):
            if mark[0] <= seq:
                return mark[1:]
        return self.state.mark

    def _cut_long(self, frame: Frame, segment: int) -> None:
        """Cut a payload that may hold, or end, an over-long line."""
        state = self.state
        payload = frame.payload
        place = (frame.wall_ns, segment, frame.offset)
        size = len(payload)
        position = 0
        while position < size:
            newline = payload.find(b"\n", position)
            end = size if newline < 0 else newline
            while position < end:
                filled = state.before - state.piece * self._max_line
                if filled == self._max_line:  # and a byte follows: the piece is full
                    self._end_piece(state.piece + 1, _unfinished(state.carry))
                    filled = 0
                if filled == 0 and position >= len(state.carry):
                    state.mark = place
                taken = min(self._max_line - filled, end - position)
                if state.damaged:
                    state.carry = (state.carry + payload[max(position, position + taken - 4) : position + taken])[-4:]
                else:
                    state.carry += payload[position : position + taken]
                state.before += taken
                position += taken
            if newline >= 0:
                if not state.before:
                    state.mark = place
                self._end_line()
                position += 1

    def _end_piece(self, part: int, rest: int = 0) -> None:
        """``rest``: bytes at its end that go with the next one."""
        state = self.state
        size = len(state.carry) - rest
        if not state.damaged:
            size = size or len(state.carry)  # no piece is empty
            self._mark(state.seq, *state.mark)
            self._append(state.carry[:size], part)
        state.piece += 1
        state.carry = state.carry[size:]
        state.damaged = False

    def _end_line(self) -> None:
        state = self.state
        # a piece that holds nothing is none: the jump before it went to the end of a full one
        if not state.piece or state.before > state.piece * self._max_line:
            self._end_piece(state.piece + 1 if state.piece else 0)
        state.line += pieces(state.before, self._max_line)
        state.before = state.piece = 0
        state.carry = b""
        state.damaged = False


def _unfinished(data: bytes) -> int:
    """How many bytes at the end begin a character of UTF-8 that is cut there."""
    for back in range(1, min(_REST, len(data)) + 1):
        if data[-back] & 0xC0 != 0x80:  # not one that goes on with a character
            try:
                data[-back:].decode()
            except UnicodeDecodeError as error:
                return back if error.reason == "unexpected end of data" else 0
            return 0
    return 0
