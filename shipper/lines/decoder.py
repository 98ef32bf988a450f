"""Lines to events, in bulk.

What a line becomes:

- A line that is a JSON object: message, level and time from the names in `names`, everything else a field of the
  record, with its type, under its own name, or under `agent.NAME` where the name is ours. A message that is not text is
  such a field (`agent.message`), and its JSON is the message; a line without any message is its own message. A time
  that is no moment or lies more than a day from the capture stays a field, as does a level that is none. `jobId`
  becomes `job_id` where that is free.
- Anything else is text as it stands, level info: broken JSON, JSON that is no object, NaN, a number beyond a double,
  objects nested too deep for the parser (1,024). Broken UTF-8 is replaced, a carriage return at the end is cut.
- An empty line, or one of blanks only, is left out and counted in `skipped`.
- A piece of an over-long line is text, never parsed and never left out.
- A message that is itself a JSON object with names of ours in it begins with `json: `. Datadog and New Relic parse such
  a message into attributes, which would then take the place of ours.

Integers beyond 64 bits arrive as doubles, and the last of equal names wins (orjson's rules). Nothing here raises for
any bytes, and nothing is carried from one batch to the next but caches.

How it is fast (measured over the LiveKit samples, 377 B a JSON line; tests/bench/bench_lines.py gives totals). Parsing
takes 0.51 us of a JSON line and what follows 0.42. The object that the parser made is the record that is sent. Names of
ours are looked for in the union of 64 objects' names: 0.07 us a line, against 0.14 line by line and 0.25 by a plan for
its names. The parser's own key objects find a key without comparing text: 0.03 us for three, against 0.05. Stamps:
see `times`. Objects of another shape than LiveKit's are read by a plan kept for their names. Tried and not done:
parsing 64 lines as one array, with a nonce between each two so that none can move another's border, saves 0.06 us and
costs as much in sorting the lines out; passes over columns instead of one over lines cost the same.
"""

from __future__ import annotations

import itertools
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson

from shipper.journal.numbering import STREAM_NAMES
from shipper.lines.deep import json_text
from shipper.lines.events import Events
from shipper.lines.levels import EXACT, INFO, level_of
from shipper.lines.names import CLAIMED, JOB_NAMES, LEVEL_NAMES, MESSAGE_NAMES, MOVED, TIME_NAMES
from shipper.lines.times import SPREAD_MS, Times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shipper.lines.batch import Batch
    from shipper.lines.events import Record

_CHUNK = 64
_MAX_PLANS = 1024
_MAX_PLAN_NAMES = 64  # an object with more names gets no plan kept: they would be one line's alone

_NEAR_MS = 3_600_000  # a number this close to the capture's is milliseconds

_BRACE, _SPACE, _CR = b"{ \r"
_MAY_BE_ANYTHING = frozenset({"message", "msg"})  # the others are a message only where they are text

_MESSAGE, _LEVEL, _TIMESTAMP = orjson.loads(b'{"message":0,"level":0,"timestamp":0}')
"""LiveKit's names as the parser's own objects, found without comparing text."""
_usual_values = itemgetter(_MESSAGE, _LEVEL, _TIMESTAMP)
_usual_names = ((CLAIMED | set(JOB_NAMES)) - {_MESSAGE, _LEVEL, _TIMESTAMP}).isdisjoint


class Plan:
    """What to do with an object of exactly these names.

    ``messages``, ``levels``, ``times``: names that may hold these, in the order in which they count. ``moves``: names
    that are ours, and where they go. ``job``: the name to become `job_id`, or "". ``first``: the first of each of the
    three, and the moves that are left once these are taken; None when one is missing.
    """

    __slots__ = ("first", "job", "levels", "messages", "moves", "times")

    def __init__(self, names: tuple[str, ...]) -> None:
        present = set(names)
        self.messages = tuple(name for name in MESSAGE_NAMES if name in present)
        self.levels = tuple(name for name in LEVEL_NAMES if name in present)
        self.times = tuple(name for name in TIME_NAMES if name in present)
        self.job = next((name for name in JOB_NAMES if name in present and "job_id" not in present), "")
        moves = []
        for name in names:
            if name in CLAIMED:
                free = MOVED + name
                while free in present:
                    free = MOVED + free
                present.add(free)
                moves.append((name, free))
        self.moves = tuple(moves)
        self.first = None
        if self.messages and self.levels and self.times:
            three = (self.messages[0], self.levels[0], self.times[0])
            self.first = (*three, tuple(move for move in moves if move[0] not in three))


class Decoder:
    """Holds caches, so one a process. Not for several threads."""

    def __init__(self) -> None:
        self._times = Times()
        self._plans: dict[tuple[str, ...], Plan] = {}

    def decode(self, batch: Batch) -> Events:
        """One event a line that is not empty, in order."""
        lines, base = batch.lines, batch.first_seq
        captures = _captures(batch)
        records: list[Record] = [{}] * len(lines)
        objects: list[Record] = []
        where: list[int] = []
        empty: list[int] = []
        loads = orjson.loads
        self._times.oldest_ms = min(captures, default=0) - SPREAD_MS
        for start, end, capture_ms, part in _stretches(batch, captures):
            if part:
                text = lines[start].decode(errors="replace")
                records[start] = {
                    "message": _guarded(text), "timestamp": capture_ms, "seq": base + start, "part": part,
                }  # fmt: skip
                continue
            for index, line in enumerate(lines[start:end], start):
                try:
                    first = line[0]
                    if first == _BRACE:
                        records[index] = found = loads(line)
                        objects.append(found)
                        where.append(index)
                    elif first > _SPACE and line[-1] != _CR:
                        records[index] = {"message": line.decode(), "timestamp": capture_ms, "seq": base + index}
                    else:
                        bare = line.strip()
                        if bare[0] == _BRACE:
                            records[index] = found = loads(bare)
                            objects.append(found)
                            where.append(index)
                        else:
                            text = (line if line[-1] != _CR else line[:-1]).decode()
                            records[index] = {"message": text, "timestamp": capture_ms, "seq": base + index}
                except IndexError:  # nothing in it
                    empty.append(index)
                except ValueError:  # no JSON, or no UTF-8
                    records[index] = {"message": _text(line), "timestamp": capture_ms, "seq": base + index}

        levels = [INFO] * len(lines)
        if objects:
            self._take_apart(objects, where, captures, batch, levels)
        sizes = list(map(len, lines))
        trailing = 0
        if empty:
            kept, skips, trailing = _left_out(len(lines), empty)
            records, levels = list(itertools.compress(records, kept)), list(itertools.compress(levels, kept))
            sizes = list(itertools.compress(sizes, kept))
            for index, skipped in skips.items():
                records[index]["skipped"] = skipped
        return Events(
            STREAM_NAMES[batch.stream], records, levels, sizes,
            trailing_skipped=trailing, floor_ms=self._times.oldest_ms,
        )  # fmt: skip

    def _take_apart(
        self, objects: list[Record], where: list[int], captures: list[int], batch: Batch, levels: list[int]
    ) -> None:
        """Makes records of the objects, in place, and notes their levels."""
        base, level_at, times = batch.first_seq, EXACT, self._times
        heads, tails = times.near(min(captures), max(captures)), times.tails
        level_name, stamp_name = _LEVEL, _TIMESTAMP
        for start in range(0, len(objects), _CHUNK):
            chunk = objects[start : start + _CHUNK]
            names: set[str] = set()
            names.update(*chunk)
            try:
                values = list(map(_usual_values, chunk)) if _usual_names(names) else None
            except KeyError:
                values = None
            if values is None:
                for index, found in zip(where[start : start + _CHUNK], chunk, strict=True):
                    levels[index] = self._read(found, captures[index], batch.lines[index])
                    found["seq"] = base + index
                continue
            for index, found, (message, level, stamp) in zip(where[start : start + _CHUNK], chunk, values, strict=True):
                try:
                    levels[index] = level_at[level]
                    if not "!" <= message < "{":  # may be empty or JSON; TypeError: no text
                        raise KeyError
                    try:
                        found[stamp_name] = heads[stamp[:23]] + tails[stamp[23:]]
                    except (KeyError, TypeError):
                        found[stamp_name] = times.ms(stamp, captures[index])
                    del found[level_name]
                except (KeyError, TypeError):
                    levels[index] = self._read(found, captures[index], batch.lines[index])
                found["seq"] = base + index

    def _read(self, found: Record, capture_ms: int, line: bytes) -> int:
        """Makes a record of an object of any shape, in place, but for its number, and returns its level."""
        names = tuple(found)
        plan = self._plans.get(names)
        if plan is None:
            plan = Plan(names)
            if len(names) <= _MAX_PLAN_NAMES:
                if len(self._plans) >= _MAX_PLANS:
                    self._plans.clear()
                self._plans[names] = plan
        if plan.first is not None:
            message_name, level_name, time_name, moves = plan.first
            try:
                message: Any = found[message_name]
                level = EXACT[found[level_name]]
                time_ms: Any = found[time_name]
                if not "!" <= message < "{":  # may be empty or JSON; TypeError: no text
                    raise KeyError
                if time_ms.__class__ is not int or not -_NEAR_MS < time_ms - capture_ms < _NEAR_MS:
                    time_ms = self._times.ms(time_ms, capture_ms)
            except (KeyError, TypeError):
                pass
            else:
                del found[level_name]
                if message_name != "message":
                    del found[message_name]
                if time_name != "timestamp":
                    del found[time_name]
                for name, free in moves:
                    found[free] = found.pop(name)
                if plan.job:
                    found["job_id"] = found.pop(plan.job)
                found["message"] = message
                found["timestamp"] = time_ms
                return level
        for name in plan.messages:
            value = found[name]
            if isinstance(value, str):
                message = value
                del found[name]
                break
        else:
            for name in plan.messages:
                if name in _MAY_BE_ANYTHING and found[name] is not None:
                    message = json_text(found[name])
                    break
            else:
                message = _text(line)
        level = INFO
        for name in plan.levels:
            known = level_of(found[name])
            if known is not None:
                level = known
                del found[name]
                break
        time_ms = capture_ms
        for name in plan.times:
            try:
                time_ms = self._times.ms(found[name], capture_ms)
                del found[name]
                break
            except KeyError:
                pass
        if plan.job:
            found["job_id"] = found.pop(plan.job)
        for name, free in plan.moves:
            if name in found:
                found[free] = found.pop(name)
        found["message"] = _guarded(message)
        found["timestamp"] = time_ms
        return level


def _captures(batch: Batch) -> list[int]:
    """When each line was captured, in ms."""
    captures: list[int] = []
    ends = [start for start, _ in batch.times[1:]]
    for (_, time_ns), end in zip(batch.times, [*ends, len(batch.lines)], strict=True):
        captures += [time_ns // 1_000_000] * (end - len(captures))
    return captures


def _stretches(batch: Batch, captures: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Lines in order, as (first, end, capture in ms, 0) for lines of one read and (index, .., .., part) for a piece."""
    edges = [start for start, _ in batch.times]
    if batch.parts:
        edges = sorted({*edges, *batch.parts, *(index + 1 for index in batch.parts)})
    for start, end in itertools.pairwise([*edges, len(batch.lines)]):
        if start < end:
            yield start, end, captures[start], batch.parts.get(start, 0)


def _left_out(count: int, empty: list[int]) -> tuple[bytearray, dict[int, int], int]:
    """Which of so many lines are kept, what the kept ones have to skip, and how many empty ones follow the last."""
    kept = bytearray(b"\1" * count)
    for index in empty:
        kept[index] = 0
    skips: dict[int, int] = {}
    previous = -1
    index = -1
    for index, old in enumerate(itertools.compress(range(count), kept)):
        if old - previous > 1:
            skips[index] = old - previous - 1
        previous = old
    return kept, skips, count - 1 - previous


def _text(line: bytes) -> str:
    return _guarded(line.removesuffix(b"\r").decode(errors="replace"))


def _guarded(message: str) -> str:
    """The message, told to be one where a provider would take it for attributes that replace ours."""
    if message.lstrip().startswith("{"):
        try:
            inner = orjson.loads(message)
        except ValueError:
            return message
        if isinstance(inner, dict) and not CLAIMED.isdisjoint(inner):
            return f"json: {message}"
    return message
