"""What the files of a run say of it, put together: whose agent, what was captured, and what each sink has of that."""

from __future__ import annotations

import os
import time

from shipper.config.registry import REGISTRY
from shipper.journal import notes, runs
from shipper.journal.cursor import CursorFile
from shipper.journal.figures import Captured
from shipper.journal.numbering import STREAM_NAMES, STREAMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from shipper.journal.facts import Facts

NOT_STARTED = "not_started"
STATES = ("well", "waiting", "parked", "left_out", "journal")
CHANGED = ("masked", "redacted", "pii")
TITLES = {entry.name: entry.title for entry in REGISTRY}


class SinkFigures:
    """One sink's, by its cursor ``values``; None: it never got up. ``dropped``, ``left_out``: lines by reason;
    ``changed``: places in lines, by what was done; times are wall, in ns, 0 for none; ``lag`` is seconds, as is
    ``clock_off``: that our clock is ahead of the provider's, 0 for little. Captured are ``delivered``, ``filtered``,
    ``dropped`` and ``pending``."""

    def __init__(
        self, name: str, values: dict[str, Any] | None, captured: Captured, *, dead: bool, now_ns: int
    ) -> None:
        values = values or {}
        counters = {key: value for key, value in values.items() if isinstance(value, int)}
        health = values.get("health") or {}
        self.name = name
        self.title = TITLES.get(name, name)
        self.state = str(health.get("state", STATES[0])) if values else NOT_STARTED
        self.until_ns = int(health.get("until", 0))
        self.error = str(health.get("error", ""))
        self.error_at_ns = int(health.get("error_at", 0))
        self.clock_off = int(health.get("clock_off", 0))
        self.delivered = counters.get("delivered", 0)
        self.repeats = counters.get("repeats", 0)
        self.retried = counters.get("retried", 0)
        # "empty" by itself: as an earlier version noted it
        left_out = values.get("left_out") or {"empty": counters.get("empty", 0)}
        self.left_out = {str(reason): int(lines) for reason, lines in left_out.items()}
        self.filtered = sum(self.left_out.values())
        self.changed = {name: counters.get(name, 0) for name in CHANGED}
        self.dropped = {str(reason): int(lines) for reason, lines in values.get("dropped", {}).items()}
        self.complete = bool(values.get("complete"))
        self.pending = 0
        self.lag = 0.0
        if not self.complete:
            for stream in STREAMS:
                place = [int(value) for value in values.get("streams", {}).get(str(stream), (0, 0, 1))]
                self._look(stream, place, captured, dead=dead, now_ns=now_ns)

    def _look(self, stream: int, place: list[int], captured: Captured, *, dead: bool, now_ns: int) -> None:
        segment, offset, following = place
        evicted = captured.first[stream] - following
        if evicted > 0:  # nobody has told the stream yet, but so it is
            self.dropped["journal_full"] = self.dropped.get("journal_full", 0) + evicted
        pending = captured.lines(stream, dead=dead) + 1 - max(following, captured.first[stream])
        if pending <= 0:
            return
        self.pending += pending
        read_ns = captured.time_ns(stream, segment, offset, following)
        if read_ns is not None:
            self.lag = max(self.lag, (now_ns - read_ns) / 1e9)

    @property
    def rejected(self) -> int:
        return self.dropped.get("rejected", 0)

    @property
    def dropped_otherwise(self) -> int:
        return sum(self.dropped.values()) - self.rejected


class Figures:
    """``lines``, ``bytes``: captured, by stream; ``state``: the agent's; ``uptime``: seconds from its start until now,
    or its end; ``pid_is_ours``: in the pid namespace of this process."""

    def __init__(self, run: str, facts: Facts) -> None:
        self.run = run
        self.facts = facts
        self.now_ns = time.time_ns()
        self.captured = Captured(run, facts)
        cursors = read_cursors(run, facts)  # first, or a sink might have more than was captured
        self.captured.look()
        self.note = notes.read_note(run)
        self.pid = self.note.pid if self.note is not None else 0
        self.pid_is_ours = bool(self.pid) and self.note is not None and self.note.pids == notes.pid_namespace()
        self.state = self._state()
        ended_ns = self.captured.end_ns
        if not ended_ns and self.state == "killed":
            ended_ns = self.note.at_ns if self.note is not None else self.now_ns
        self.uptime = max(0.0, ((ended_ns or self.now_ns) - facts.started_ns) / 1e9)
        dead = self.over or self.captured.end is not None
        self.lines = {STREAM_NAMES[stream]: self.captured.lines(stream, dead=dead) for stream in STREAMS}
        self.bytes = {STREAM_NAMES[stream]: self.captured.bytes(stream) for stream in STREAMS}
        self.sinks = sinks_of(cursors, self.captured, dead=dead, now_ns=self.now_ns)
        self.earlier_runs, self.earlier_lines = _earlier(run, self.now_ns)

    @property
    def over(self) -> bool:
        """The wrapper is gone."""
        return self.state in ("ended", "killed")

    def _state(self) -> str:
        lives = notes.wrapper_lives(self.run)
        if lives is None:
            lives = runs.is_live(self.run)
        ended = self.captured.end is not None or (self.note is not None and self.note.ended)
        if not lives:
            return "ended" if ended else "killed"
        if ended:
            return "ending"
        if self.pid_is_ours:
            letter = _process_state(self.pid)
            if letter in ("", "Z", "X"):
                return "ending"
            if letter == "T":
                return "stopped"
        return "running"


def _process_state(pid: int) -> str:
    """proc(5)'s letter; empty when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""


def gather(run: str) -> Figures:
    """Raises FileNotFoundError when the run is gone."""
    facts = runs.read_facts(run)
    if facts is None:
        raise FileNotFoundError(2, "no readable segment", run)
    return Figures(run, facts)


def read_cursors(run: str, facts: Facts) -> dict[str, dict[str, Any] | None]:
    """By sink, in the registry's order; those that this version does not know come last."""
    names = set(facts.sinks) | set(runs.cursor_sinks(run))
    order = [*(name for name in TITLES if name in names), *sorted(names - TITLES.keys())]
    return {name: CursorFile.read(run, name) for name in order}


def sinks_of(
    cursors: dict[str, dict[str, Any] | None], captured: Captured, *, dead: bool, now_ns: int
) -> list[SinkFigures]:
    """``captured``: as it is after the cursors were read."""
    return [SinkFigures(name, values, captured, dead=dead, now_ns=now_ns) for name, values in cursors.items()]


def _earlier(own: str, now_ns: int) -> tuple[int, int]:
    """Dead runs beside it that are not delivered, and the lines that wait in them."""
    count = lines = 0
    for run in runs.list_runs(os.path.dirname(own)):
        try:
            if run == own or notes.wrapper_lives(run):
                continue
            facts = runs.read_facts(run)
            if facts is None or runs.is_delivered(run, facts):
                continue
            captured = Captured(run, facts)
            cursors = read_cursors(run, facts)
            captured.look()
            sinks = sinks_of(cursors, captured, dead=True, now_ns=now_ns)
        except OSError:
            continue
        count += 1
        lines += max((sink.pending for sink in sinks), default=0)
    return count, lines
