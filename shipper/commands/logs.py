"""``shipper logs``: the lines of this container's journal, as the agent printed them."""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
import time
from collections import deque

from shipper.commands import seeking
from shipper.commands.finding import Parser, candidates, newest_run, nothing_to_show
from shipper.commands.units import Cutter, Unit
from shipper.config.settings import load
from shipper.config.units import parse_duration
from shipper.journal import ending, runs
from shipper.journal.notes import read_note
from shipper.journal.numbering import STDERR, STDOUT, STREAM_NAMES
from shipper.journal.reader import End, Gap, Lines, RunReader, State
from shipper.messages import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shipper.commands.units import Shown

DEFAULT_LINES = 100
POLL_SECONDS = 0.1  # two system calls each time; a new line shows within this
JOIN_SECONDS = 1.0  # a traceback may go on for so long
_NUMBERS = {"stdout": STDOUT, "stderr": STDERR}

EPILOG = """\
examples:
  shipper logs                           the last 100 lines
  shipper logs -f                        the last 100 lines, then what follows
  shipper logs -f --level warning        warnings and worse, live
  shipper logs --since 10m --job AJ_x8   one call's lines of the last ten minutes
  shipper logs --since 14:00 --until 14:05 --json
  docker exec CONTAINER shipper logs -n 1000 | grep ERROR
  docker run --rm --entrypoint shipper IMAGE logs --log-type=build

Lines of stdout and stderr come in the order in which they were read, unmasked, as `docker logs` shows them: in a pipe,
or with --raw, the agent's bytes; on a terminal coloured by level and stream, JSON lines as time, level, name, message
and key=value. Level and job are what the providers get of a line. With --level, --job, --grep or --json, and on a
terminal, lines that are one event (a traceback) stay together.

Times are the container's: 10m, 2h, 1d (ago), 14:05, 2026-12-01, 2026-12-01T14:05:00+01:00; --since alone shows all
lines since then. What shipper itself has to say goes to stderr. Of several runs in the journal, as of containers that
share a volume, it is the newest that lives.

A build log is what `shipper build` kept, whole unless -n is given.

exit status: 0; 1 when there is nothing to show; 64 wrong option; 130 Ctrl-C.
"""


def main(argv: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    environ = os.environ
    directories = candidates(load(environ).directories)
    if options.log_type == "build":
        for name in ("follow", "since", "until", "stream", "level", "job", "grep", "json"):
            if getattr(options, name):
                parser.error(f"--{name} is not for a build log")
        return show_build(directories, options.lines)
    run = newest_run(directories)
    if run is None:
        say(nothing_to_show(directories))
        return 1
    lines = options.lines
    if lines is None:
        lines = DEFAULT_LINES if options.since is None else sys.maxsize
    gc.disable()  # nothing here is cyclic, and a million lines make many objects
    tty = sys.stdout.isatty()
    coloured = tty and not (options.no_color or environ.get("NO_COLOR") or environ.get("TERM") == "dumb")
    return show(run, lines, options.follow, _View(options, tty and not options.raw, coloured))


def _parser() -> Parser:
    parser = Parser(
        prog="shipper logs",
        description="Shows what the journal of this container holds, beside a running agent or after its end.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-f", "--follow", action="store_true", help="go on with what follows, until the run ends")
    add("-n", "--lines", type=_count, metavar="N", help="the last N lines first (default 100), or all")
    add("--since", type=_moment, metavar="T", help="lines read at T or later")
    add("--until", type=_moment, metavar="T", help="lines read at T or before")
    add("--stream", choices=("stdout", "stderr"), help="lines of this stream alone")
    add("--level", type=_level, metavar="LEVEL", help="lines of this level or worse: debug, info, warning, error, ...")
    add("--job", metavar="ID", default="", help="lines of this job (job_id)")
    add("--grep", type=_pattern, metavar="RE", help="lines that this regular expression is found in")
    add("--json", action="store_true", help="one JSON object a line: time, level, stream, message, seq and its fields")
    add("--raw", action="store_true", help="the agent's bytes, on a terminal too")
    add("--no-color", action="store_true", help="no colours (nor with NO_COLOR set, or in a pipe)")
    add("--log-type", choices=("runtime", "deploy", "build"), default="runtime", help="which log (deploy is runtime's)")
    return parser


def show_build(directories: Sequence[str], count: int | None) -> int:
    """The newest version's steps."""
    from shipper.commands import buildlog

    places = buildlog.places(os.environ, directories)
    steps = buildlog.newest_version(places)
    if not steps:
        say(buildlog.nothing_to_show(places))
        return 1
    buildlog.show(steps, count, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    return 0


def _count(text: str) -> int:
    if text == "all":
        return sys.maxsize
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def _moment(text: str) -> int:
    """Wall time in ns, of a duration before now, a time of today, or a date with or without a time and an offset."""
    from datetime import datetime

    try:
        if text[-1:] == "d" and text[:-1].isdigit() and len(text) < 7:
            return time.time_ns() - int(text[:-1]) * 86_400 * 10**9
        return time.time_ns() - int(parse_duration(text) * 1e9)
    except ValueError:
        pass
    try:
        if re.fullmatch(r"\d\d:\d\d(:\d\d(\.\d+)?)?", text, re.ASCII):
            text = f"{time.strftime('%Y-%m-%d')}T{text}"
        return int(datetime.fromisoformat(text).timestamp() * 1e6) * 1000
    except (ValueError, OverflowError, OSError):
        what = "a time such as 10m, 2h, 1d, 14:05, 2026-12-01 or 2026-12-01T14:05:00+01:00"
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None


def _level(text: str) -> int:
    from shipper.lines.levels import LEVELS, level_of

    level = level_of(text)
    if level is None:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LEVELS)}")
    return level


def _pattern(text: str) -> re.Pattern[bytes]:
    try:
        return re.compile(os.fsencode(text))
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None


class _View:
    """What is shown of a run, and how."""

    def __init__(self, options: argparse.Namespace, for_a_person: bool, coloured: bool) -> None:
        self.since_ns: int | None = options.since
        self.until_ns: int | None = options.until
        self._out = sys.stdout.buffer
        self._open: tuple[int, int] | None = None  # stream and part of a piece whose line may go on
        self._format: Callable[[Unit], bytes] | None = None
        decode = for_a_person or options.json or options.level is not None or bool(options.job)
        self.stream = _NUMBERS.get(options.stream)
        self._wanted: Callable[[Unit], bool] | None = None
        self._grouped = decode or options.grep is not None
        self._decoded = decode
        if decode or options.grep is not None:
            from shipper.commands import view

            self._wanted = view.Selection(options.level, options.job, options.grep)
            if options.json:
                self._format = view.as_json
            elif for_a_person:
                self._format = lambda unit: view.for_a_person(unit, coloured)

    def cutter(self) -> Cutter:
        if not self._grouped:
            return Cutter()
        from shipper.commands.view import Decoding
        from shipper.lines.joining import group

        return Cutter(group, Decoding() if self._decoded else None)

    def wants(self, unit: Unit) -> bool:
        if self.stream is not None and unit.stream != self.stream:
            return False
        if self.since_ns is not None and unit.wall_ns < self.since_ns:
            return False
        if self.until_ns is not None and unit.wall_ns > self.until_ns:
            return False
        return self._wanted is None or self._wanted(unit)

    def is_past(self, items: Sequence[Lines | Gap | End]) -> bool:
        """Whether what was read came after --until; what follows did too, then."""
        until_ns = self.until_ns
        return until_ns is not None and any(isinstance(item, Lines) and item.marks[0][1] > until_ns for item in items)

    def write(self, entries: Iterable[Shown]) -> None:
        for entry in entries:
            if isinstance(entry, Gap):
                self.end_line()
                lost = entry.last_seq - entry.first_seq + 1
                lines = "1 line is" if lost == 1 else f"{lost} lines are"
                say(f"{lines} missing here in {STREAM_NAMES[entry.stream]} ({entry.reason})")
            elif isinstance(entry, Unit):
                self._write(entry)
        self._out.flush()

    def _write(self, unit: Unit) -> None:
        if self._format is not None:
            self._out.write(self._format(unit))
            return
        # the pieces of an over-long line are put together again
        if self._open is not None and (not unit.part or self._open != (unit.stream, unit.part - 1)):
            self._out.write(b"\n")
        self._open = (unit.stream, unit.part) if unit.part else None
        self._out.write(unit.lines[0] if unit.part else b"\n".join(unit.lines) + b"\n")

    def end_line(self) -> None:
        """What comes next begins a line."""
        if self._open is not None:
            self._out.write(b"\n")
            self._open = None
        self._out.flush()


def show(run: str, count: int, follow: bool, view: _View) -> int:
    """Print the last ``count`` units of ``run``, then what follows. Raises BrokenPipeError, KeyboardInterrupt."""
    reader = RunReader(run)
    dead = not runs.is_live(run)
    entries, state, cutter, end = _snapshot(reader, count, view, dead, follow)
    view.write(entries)
    held_since = time.monotonic()
    while follow and end is None and not (dead and not reader.available(state)):
        if view.until_ns is not None and time.time_ns() > view.until_ns + 10**9:
            view.end_line()
            return 0
        if not reader.available(state):
            time.sleep(POLL_SECONDS)
        new: list[Shown] = []
        if reader.available(state):
            window, state = reader.read(state, dead)
            new = cutter.cut(window.items, last=dead and window.at_end)
            held_since = time.monotonic()
        else:
            dead = dead or not runs.is_live(run)
        if cutter.holds and (time.monotonic() - held_since > JOIN_SECONDS or dead):
            new += cutter.cut([], last=True)
        view.write(entry for entry in new if not isinstance(entry, Unit) or view.wants(entry))
        end = next((entry for entry in new if isinstance(entry, End)), None)
    view.write(entry for entry in cutter.cut([], last=True) if not isinstance(entry, Unit) or view.wants(entry))
    view.end_line()
    if follow:
        say(_how_it_ended(run, end))
    return 0


def _snapshot(
    reader: RunReader, count: int, view: _View, dead: bool, follow: bool
) -> tuple[list[Shown], State, Cutter, End | None]:
    """The last ``count`` units that are wanted, the state after them, and what is held back there. All of them, where
    that is asked for, are written as they come."""
    starts: Iterable[tuple[State, bool]] = seeking.backwards(reader.run)
    if count == sys.maxsize and view.since_ns is None:
        starts = list(starts)[-1:]
    elif view.since_ns is not None:
        starts = [(seeking.since(reader.run, view.since_ns), True)]
    found = None
    for start, everything in starts:
        found = _read(reader, start, count, view, dead, follow)
        # from within an event on it is no whole one: one of each stream may be such
        if everything or sum(isinstance(entry, Unit) for entry in found[0]) >= count + 2:
            break
    assert found is not None  # noqa: S101 (for the type checker: there is always one start)
    entries, state, cutter, end = found
    surplus = sum(isinstance(entry, Unit) for entry in entries) - count
    shown: list[Shown] = []
    for entry in entries:
        if surplus > 0:
            surplus -= isinstance(entry, Unit)
        else:
            shown.append(entry)
    return shown, state, cutter, end


def _read(
    reader: RunReader, state: State, count: int, view: _View, dead: bool, follow: bool
) -> tuple[list[Shown], State, Cutter, End | None]:
    cutter = view.cutter()
    found: deque[Shown] = deque(maxlen=count + 2 if count < sys.maxsize - 2 else None)
    end: End | None = None
    at_end = False
    while not at_end:
        window, state = reader.read(state, dead)
        at_end = window.at_end or (not follow and view.is_past(window.items))
        for entry in cutter.cut(window.items, last=at_end and (dead or not follow)):
            if isinstance(entry, End):
                end = entry
            elif not isinstance(entry, Unit) or view.wants(entry):
                found.append(entry)
        if count == sys.maxsize:
            view.write(found)
            found.clear()
    return list(found), state, cutter, end


def _how_it_ended(run: str, end: End | None) -> str:
    if end is not None:
        return ending.in_words(end.info)
    note = read_note(run)  # which knows it where the disk would not take the marker
    return ending.in_words(note.end if note is not None else {}, note)
