"""No line can stop the logs for good: where this process has died before, and what is done about it.

A worker that is not the run's first is careful for a minute. It takes a request from one window of one stream at a
time, and before it decodes or encodes such lines it notes their place in the run's file ``trial``; afterwards it takes
the note away. So a note that stands at a start is a death there. A kill from outside rarely meets one: the two take
one part in a hundred of the time.

- Three deaths at one window of one stream: its lines up to the last one noted are plain text from now on, decoded and
  encoded one by one, and noted one by one.
- Three more deaths while all of them are at work: each goes in a request of its own.
- Two deaths at one line: it is dropped, for every sink, and an event in the stream tells of it. With the tenth of a
  window the rest of these lines is dropped, too: each costs a minute, and what is remembered has a bound.

The first worker of a run does none of this, and makes no file.
"""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from shipper.journal.numbering import STREAM_NAMES
from shipper.journal.slots import SlotFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

TRIAL = "trial"
SLOT_BYTES = 16384
KEPT = 50  # entries of each kind, the newest: some 60 bytes each

CAREFUL_SECONDS = 60.0  # as the supervisor's: who lives so long is healthy
DEATHS = 3
LINES = 10  # of a window, that are dropped one by one
LINE_DEATHS = 2  # one may be chance: who is first in line for the OOM killer may die anywhere

Window = tuple[int, int]
"""A segment, and which `reader.WINDOW_BYTES` of it."""


class Trial:
    """The values of the file, all lists: ``at``: the note, run, stream, window, last line, and 0 or the one line that
    is at work, empty for none; ``deaths``: run, stream, window, last line, deaths; ``plain``: run, stream, window, last
    line, deaths since, lines dropped; ``suspects``: run, stream, line, deaths; ``dropped``: run, stream, first and last
    line."""

    def __init__(self, run: str, say: Callable[[str], None], careful_seconds: float = CAREFUL_SECONDS) -> None:
        """Counts the death of the worker before. Never raises: what cannot be read or written is not known."""
        self._ends = time.monotonic() + careful_seconds
        self._file: SlotFile | None = None
        self._at: list[Any] = []
        self._deaths: dict[tuple[str, int, int, int], list[int]] = {}
        self._plain: dict[tuple[str, int, int, int], list[int]] = {}
        self._suspects: dict[tuple[str, int, int], int] = {}
        self._dropped: dict[tuple[str, int, int], int] = {}
        try:
            self._file = SlotFile(os.path.join(run, TRIAL), SLOT_BYTES)
            self._restore(self._file.values or {})
        except (OSError, KeyError, TypeError, ValueError):
            pass
        at, self._at = self._at, []
        if at:
            self._died(at, say)
            self._commit()

    def _restore(self, values: dict[str, Any]) -> None:
        """Raises KeyError, TypeError or ValueError on anything that `_commit` did not write."""
        if not values:
            return
        for *place, last, deaths in values["deaths"]:
            self._deaths[_window(place)] = [int(last), int(deaths)]
        for *place, last, deaths, lines in values["plain"]:
            self._plain[_window(place)] = [int(last), int(deaths), int(lines)]
        for run, stream, seq, deaths in values["suspects"]:
            self._suspects[str(run), int(stream), int(seq)] = int(deaths)
        for run, stream, first, last in values["dropped"]:
            self._dropped[str(run), int(stream), int(first)] = int(last)
        if values["at"]:
            *place, last, line = values["at"]
            self._at = [*_window(place), int(last), int(line)]

    def _died(self, at: list[Any], say: Callable[[str], None]) -> None:
        run, stream, segment, part, last, seq = at
        place = (run, stream, segment, part)
        name = STREAM_NAMES[stream]
        if seq:
            suspect = (run, stream, seq)
            deaths = self._suspects.pop(suspect, 0) + 1
            if deaths < LINE_DEATHS:
                self._suspects[suspect] = deaths
                return
            plain = self._plain.get(place, [seq, 0, 0])
            plain[2] += 1
            self._dropped[suspect] = last = seq if plain[2] < LINES else max(seq, plain[0])
            what = (
                f"line {seq} of {name}" if last == seq else f"lines of {name}, and {seq}-{last} are not tried any more"
            )
            say(
                f"the process that forwards the lines died of {what}: what is dropped is counted, "
                "and an event in the stream tells of it"
            )
            return
        if place in self._plain and last <= self._plain[place][0]:
            self._plain[place][1] += 1
            return
        before, deaths = self._deaths.pop(place, [0, 0])
        last, deaths = max(last, before), deaths + 1
        if deaths < DEATHS:
            self._deaths[place] = [last, deaths]
            return
        self._plain[place] = [max(last, self.plain_until(run, stream, (segment, part))), 0, 0]
        say(
            f"the process that forwards the lines died {DEATHS} times at the same lines of {name}, the last of them "
            f"{last}: they are forwarded as plain text"
        )

    def _commit(self) -> None:
        if self._file is None:
            return
        for kept in (self._deaths, self._plain, self._suspects, self._dropped):
            while len(kept) > KEPT:
                del kept[next(iter(kept))]  # type: ignore[arg-type]
        values = {
            "at": self._at,
            "deaths": [[*place, *counts] for place, counts in self._deaths.items()],
            "plain": [[*place, *counts] for place, counts in self._plain.items()],
            "suspects": [[*line, deaths] for line, deaths in self._suspects.items()],
            "dropped": [[*first, last] for first, last in self._dropped.items()],
        }
        try:
            self._file.commit(values)
        except (OSError, ValueError):  # a full disk: what was not noted is not counted
            return

    @property
    def careful(self) -> bool:
        return time.monotonic() < self._ends

    def at(self, run: str, stream: int, window: Window, last: int, line: int = 0) -> AbstractContextManager[None]:
        """To be held while lines up to ``last`` of a window, or that one ``line``, are at work."""
        return _Note(self, [run, stream, *window, last, line]) if self.careful else _NOTHING

    def _note(self, at: list[Any]) -> list[Any]:
        """The note that stood before."""
        before, self._at = self._at, at
        self._commit()
        return before

    def plain_until(self, run: str, stream: int, window: Window) -> int:
        """The last line of the window that is plain text; 0 when none is."""
        return self._plain.get((run, stream, *window), (0, 0, 0))[0]

    def goes_alone(self, run: str, stream: int, window: Window) -> bool:
        """Whether each of the window's lines has a request of its own."""
        return self._plain.get((run, stream, *window), (0, 0, 0))[1] >= DEATHS

    def is_dropped(self, run: str, stream: int, seq: int) -> bool:
        return any((run, stream) == first[:2] and first[2] <= seq <= last for first, last in self._dropped.items())


class _Note:
    def __init__(self, trial: Trial, at: list[Any]) -> None:
        self._trial = trial
        self._at = at

    def __enter__(self) -> None:
        self._before = self._trial._note(self._at)

    def __exit__(self, *_: object) -> None:
        self._trial._note(self._before)


_NOTHING = nullcontext()


def _window(place: list[Any]) -> tuple[str, int, int, int]:
    run, stream, segment, part = place
    return str(run), int(stream), int(segment), int(part)
