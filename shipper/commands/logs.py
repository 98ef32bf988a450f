"""``shipper logs``: the lines of this container's journal, as the agent printed them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque

from shipper.commands.finding import Parser, candidates, newest_run, nothing_to_show
from shipper.config.settings import load
from shipper.journal import ending, runs
from shipper.journal.frames import FACTS, Frame, parse
from shipper.journal.notes import read_note
from shipper.journal.numbering import STREAM_NAMES
from shipper.journal.reader import End, Gap, Lines, RunReader, State
from shipper.messages import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DEFAULT_LINES = 100
LAST = (1 << 62, 0)  # behind every segment
POLL_SECONDS = 0.1  # two system calls each time; a new line shows within this

EPILOG = """\
examples:
  shipper logs                     the last 100 lines
  shipper logs -f                  the last 100 lines, then what follows
  docker exec CONTAINER shipper logs -n 1000 | grep ERROR

Lines of stdout and stderr come in the order in which they were read, unmasked, as `docker logs` shows them. What
shipper itself has to say goes to stderr. Of several runs in the journal, as of containers that share a volume, it is
the newest that lives. Exit status: 0, 1 when there is no journal to show, 64 for a wrong option.
"""


def main(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="shipper logs",
        description="Shows what the journal of this container holds, beside a running agent or after its end.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what follows, until the run ends")
    parser.add_argument(
        "-n", "--lines", type=_count, default=DEFAULT_LINES, metavar="N", help="the last N lines first (default 100)"
    )
    options = parser.parse_args(argv)
    directories = candidates(load(os.environ).directories)
    run = newest_run(directories)
    if run is None:
        say(nothing_to_show(directories))
        return 1
    return show(run, options.lines, options.follow)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


class _Printer:
    """Writes lines; the pieces of an over-long one are put together again."""

    def __init__(self) -> None:
        self._out = sys.stdout.buffer
        self._open: tuple[int, int] | None = None  # stream and part of a piece whose line may go on

    def line(self, stream: int, line: bytes, part: int) -> None:
        if self._open is not None and (not part or self._open != (stream, part - 1)):
            self._out.write(b"\n")
        self._out.write(line if part else line + b"\n")
        self._open = (stream, part) if part else None

    def flush(self) -> None:
        self._out.flush()

    def end_line(self) -> None:
        """What comes next begins a line."""
        if self._open is not None:
            self._out.write(b"\n")
            self._open = None
        self._out.flush()


def show(run: str, count: int, follow: bool) -> int:
    """Print the last ``count`` lines of ``run``, then what follows. Raises BrokenPipeError, KeyboardInterrupt."""
    reader = RunReader(run)
    printer = _Printer()
    state = start_of(run, count)
    last: deque[tuple[int, bytes, int] | Gap] = deque(maxlen=count or None)
    end: End | None = None
    dead = not runs.is_live(run)
    at_end = False
    while not at_end:
        window, state = reader.read(state, dead)
        at_end = window.at_end
        for item in in_order(window.items):
            if isinstance(item, End):
                end = item
            elif count:
                last.append(item)
    _print(printer, last)
    while follow and end is None and not dead:
        time.sleep(POLL_SECONDS)
        if not reader.available(state):
            dead = not runs.is_live(run)
            if not dead:
                continue
        window, state = reader.read(state, dead)
        items = list(in_order(window.items))
        _print(printer, [item for item in items if not isinstance(item, End)])
        end = next((item for item in items if isinstance(item, End)), None)
        dead = dead and window.at_end
    printer.end_line()
    if follow:
        say(_how_it_ended(run, end))
    return 0


def start_of(run: str, count: int) -> State:
    """The latest segment's head from which at least ``count`` lines follow.

    Each segment begins with the numbering of both streams, so that no more than the last one has to be read for it.
    """
    segments = runs.list_segments(run)
    if not segments:
        return State.start()
    reader = RunReader(run)
    lines = 0
    state = State.somewhere(segments[-1])
    while True:
        window, state = reader.read(state)
        lines += sum(len(item.lines) for item in window.items if isinstance(item, Lines))
        if window.at_end:
            break
    reader.close()
    newest = _lines_before(run, segments[-1])
    for index in reversed(segments):
        before = _lines_before(run, index)
        # one line a stream may have begun in an earlier segment, and is not shown from here
        if before is not None and newest is not None and lines + newest - before >= count + 2:
            return State.somewhere(index)
    return State.somewhere(segments[0])


def _lines_before(run: str, index: int) -> int | None:
    """Lines of both streams before segment ``index``."""
    try:
        fd = os.open(runs.segment_path(run, index), runs.READ)
    except OSError:
        return None
    try:
        frame = parse(os.read(fd, 64 << 10), 0)
        if isinstance(frame, Frame) and frame.kind == FACTS:
            return sum(numbering.line for numbering in runs.load_numberings(frame.payload).values())
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)
    return None


def in_order(items: Sequence[Lines | Gap | End]) -> Iterator[tuple[int, bytes, int] | Gap | End]:
    """(stream, line, part) of both streams in the order in which they were read."""
    keyed: list[tuple[tuple[int, int], int, tuple[int, bytes, int] | Gap | End]] = []
    for item in items:
        if isinstance(item, Lines):
            marks = iter([*item.marks, (len(item.lines), 0, 0, 0)])
            mark, following = next(marks), next(marks)
            for index, line in enumerate(item.lines):
                if index >= following[0]:
                    mark, following = following, next(marks)
                # by the frame that it begins in: the clock may have been set in between
                keyed.append((mark[2:], len(keyed), (item.stream, line, item.parts.get(index, 0))))
        elif isinstance(item, Gap):
            keyed.append(((item.segment, item.offset), len(keyed), item))
        else:
            keyed.append((LAST, len(keyed), item))
    keyed.sort(key=lambda entry: entry[:2])
    for _, _, entry in keyed:
        yield entry


def _print(printer: _Printer, entries: Iterable[tuple[int, bytes, int] | Gap]) -> None:
    for entry in entries:
        if isinstance(entry, Gap):
            printer.end_line()
            lost = entry.last_seq - entry.first_seq + 1
            lines = "1 line is" if lost == 1 else f"{lost} lines are"
            say(f"{lines} missing here in {STREAM_NAMES[entry.stream]} ({entry.reason})")
        else:
            printer.line(*entry)
    printer.flush()


def _how_it_ended(run: str, end: End | None) -> str:
    if end is not None:
        return ending.in_words(end.info)
    note = read_note(run)  # which knows it where the disk would not take the marker
    return ending.in_words(note.end if note is not None else {}, note)
