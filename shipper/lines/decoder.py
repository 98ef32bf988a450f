"""Lines to events, in bulk.

What a line becomes:

- A line that is a JSON object: message, level and time from the names in `names`, everything else a field of the
  record, with its type, under its own name, or under `agent.NAME` where the name is ours. A message that is not text is
  such a field (`agent.message`), and its JSON is the message; a line without any message is its own message. A time
  that is no moment or lies more than a day from the capture stays a field, as does a level that is none. `jobId`
  becomes `job_id` where that is free; errors and traces come under one name each (`fields`).
- Anything else is text: broken JSON (but for what `loose` reads), JSON that is no object, objects nested too deep for
  the parser (1,024). Broken UTF-8 is replaced, escapes and control characters are cleaned away (`text`); level, time
  and name are those that it tells of in a known form (`formats`), else info and the capture's.
- An empty line, or one of blanks or escapes only, is left out and counted in `skipped`.
- A piece of an over-long line is text, cleaned, never parsed and never left out.
- Lines that belong together (`Batch.groups`) are one event: its message is theirs, a line each; time and fields are the
  first one's. It has `lines`, and where an exception is told of, level error, `error.kind`, `error.message` and
  `error.stack`.
- A message that is itself a JSON object with names of ours in it begins with `json: `. Datadog and New Relic parse such
  a message into attributes, which would then take the place of ours.

Integers beyond 64 bits arrive as doubles, and the last of equal names wins (orjson's rules). Nothing here raises for
any bytes, and nothing is carried from one batch to the next but caches and what `Decoder.follow` is given.

How it is fast (us a JSON line of LiveKit's, 400 B; tests/bench/bench_lines.py gives totals). Lines are sorted out by
their first and last byte, in C. Up to 128 objects are parsed as one array: 0.48, against 0.56 one by one; between each
two stands a nonce that no agent can know, so none can move another's border unseen. The object that the parser made is
the record that is sent: a copy costs 0.11. Names of ours are looked for in the union of the 128 objects' names: 0.07,
against 0.14 object by object and 0.18 by a plan for its names. LiveKit's and pino's objects are then read column by
column (message 0.03, level 0.03, time 0.15) and written in one loop (0.09; as three C loops 0.10). What a check of a
whole column finds odd is done one by one, and objects of other loggers by a plan kept for their names. The parser's own
key objects find a key without comparing text: 0.03 for three, against 0.05. Chunks of 64 to 256 cost the same.
"""

from __future__ import annotations

import itertools
import re
from operator import itemgetter
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import orjson

from shipper.journal.numbering import STREAM_NAMES
from shipper.lines import loose
from shipper.lines.deep import json_text
from shipper.lines.dialects import HINTS, lift
from shipper.lines.events import NONE_LEFT, Events, Left, Record
from shipper.lines.fields import RARE, refine, refine_all
from shipper.lines.formats import CRASHED_JOB, FAMILIES, STRUCTURED, Found
from shipper.lines.levels import ERROR, EXACT, INFO, level_of
from shipper.lines.names import CLAIMED, JOB_NAMES, LEVEL_NAMES, MESSAGE_NAMES, MOVED, TIME_NAMES
from shipper.lines.problems import describe
from shipper.lines.text import clean, clean_lines, may_be_dirty
from shipper.lines.times import NEAR_MS, Times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shipper.lines.batch import Batch
    from shipper.lines.calls import Calls
    from shipper.lines.filters import Filters
    from shipper.lines.masking import Masker

_CHUNK = 128  # objects
_MAX_PLANS = 1024
_MAX_PLAN_NAMES = 64  # an object with more names gets no plan kept: they would be one line's alone

_BRACE, _SPACE, _CR, _DELETE = b"{ \r\x7f"
_as_they_are = (CLAIMED | set(JOB_NAMES)).isdisjoint
_MAY_BE_ANYTHING = frozenset({"message", "msg"})  # the others are a message only where they are text

_TEXT, _OBJECT, _ODD, _PIECE, _EMPTY, _JOINED = range(6)
"""Kinds of lines. `_ODD` begins with a blank or control character, ends with a carriage return, or is empty. `_JOINED`
belongs to the event of the line before it."""
_KIND = bytes(_OBJECT if byte == _BRACE else _ODD if byte <= _SPACE or byte == 0x7F else _TEXT for byte in range(256))
_IS_TEXT = bytes(kind == _TEXT for kind in range(256))
_IS_OBJECT = bytes(kind == _OBJECT for kind in range(256))
_IS_ODD = bytes(kind == _ODD for kind in range(256))
_IS_KEPT = bytes(kind not in (_EMPTY, _JOINED) for kind in range(256))
_GONE_RUN = re.compile(b"[%c%c]+" % (_EMPTY, _JOINED))
_first, _last = itemgetter(0), itemgetter(-1)
_message: Callable[[Record], Any] = itemgetter("message")
_NOT_YET: Record = {}
"""Stands in ``records`` for what is still to be read. Never changed."""

_NONCE = token_hex(16)
_SEPARATOR = f',"{_NONCE}",'.encode()
"""Never in anything that is sent. Nothing that comes out depends on it."""

_MESSAGE, _LEVEL, _TIMESTAMP = orjson.loads(b'{"message":0,"level":0,"timestamp":0}')
_MSG, _TIME, _HOSTNAME = orjson.loads(b'{"msg":0,"time":0,"hostname":0}')
"""As the parser's own objects: found without comparing text."""


class Usual:
    """Objects of a common logger, read in bulk: they have its three names and no other of ours but ``also``."""

    __slots__ = ("alone", "names", "values")

    def __init__(self, message: str, level: str, time: str, also: set[str], never: set[str]) -> None:
        self.names = frozenset({message, level, time})
        self.values = itemgetter(message, level, time)
        self.alone = ((CLAIMED | never) - self.names - also).isdisjoint


_LIVEKIT = Usual(_MESSAGE, _LEVEL, _TIMESTAMP, set(), set(JOB_NAMES))
_PINO = Usual(_MSG, _LEVEL, _TIME, {_HOSTNAME}, {"job_id", MOVED + _HOSTNAME})


class Plan:
    """What to do with an object of exactly these names.

    ``messages``, ``levels``, ``times``: names that may hold these, in the order in which they count. ``moves``: names
    that are ours, and where they go. ``job``: the name to become `job_id`, or "". ``first``: the first of each of the
    three, and the moves that are left once these are taken; None when one is missing. ``may_nest``: it may be of a
    dialect in `dialects`. ``rare``: `fields` has something to do.
    """

    __slots__ = ("first", "job", "levels", "may_nest", "messages", "moves", "rare", "times")

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
        self.may_nest = not HINTS.isdisjoint(names)
        self.rare = not RARE.isdisjoint(names)
        self.first = None
        if self.messages and self.levels and self.times:
            three = (self.messages[0], self.levels[0], self.times[0])
            self.first = (*three, tuple(move for move in moves if move[0] not in three))


class Decoder:
    """Holds caches, so one a process. Not for several threads. ``keep_lines``: its events hold the lines too;
    ``masker``: sees the lines first; ``filters``: see what became of them last."""

    def __init__(self, keep_lines: bool = False, filters: Filters | None = None, masker: Masker | None = None) -> None:
        self._keep_lines = keep_lines
        self._filters = filters
        self._masker = masker
        self._times = Times()
        self._plans: dict[tuple[str, ...], Plan] = {}

    def decode(self, batch: Batch) -> Events:
        """One event a line that is not empty, nor left out nor joined, in order."""
        before = counted(self._masker, self._filters)
        return self._filtered(self._events(batch), before)

    def follow(self, batch: Batch, calls: Calls) -> tuple[Events, Calls]:
        """The same with what is known of the calls from the lines before, and what is known after these."""
        before = counted(self._masker, self._filters)
        events = self._events(batch)
        after = calls.follow(events)
        return self._filtered(events, before), after

    def _filtered(self, events: Events, before: tuple[int, int, int]) -> Events:
        """``before``: what masker and filters had changed by then."""
        filters = self._filters
        if filters is not None and events.lines is not None:
            lines = list(events.lines)
            verdicts = filters.apply(events.records, events.levels, lines, rewrite=self._keep_lines)
            events.lines = lines if self._keep_lines else None
            if verdicts is not None:
                events = events.without(verdicts)
        events.changes = changed_since(before, self._masker, filters)
        return events

    def _events(self, batch: Batch) -> Events:
        if self._masker is not None:
            batch = batch.with_lines(self._masker.mask(batch.lines))
        work = _Work(batch)
        self._times.begin(work.captures)
        lines, kinds = _sorted_out(batch)
        for start, end in itertools.pairwise([*(start for start, _ in batch.times), len(lines)]):
            if start < end:
                work.records += _texts(kinds[start:end], lines[start:end], work, start)
        for index, part in batch.parts.items():
            message = _guarded(clean(lines[index].decode(errors="replace")))
            work.records[index] = {**work.text(index, message), "part": part}
        self._read_texts(work, lines, kinds)
        is_object = kinds.translate(_IS_OBJECT)
        where = list(itertools.compress(range(len(lines)), is_object))
        texts = list(itertools.compress(lines, is_object))
        for start in range(0, len(where), _CHUNK):
            self._take_apart(work, *_parsed(work, where[start : start + _CHUNK], texts[start : start + _CHUNK]))

        records, levels, sizes = work.records, work.levels, list(map(len, work.lines))
        kept_lines = work.lines if self._keep_lines or self._filters is not None else None
        counts: list[int] | None = None
        left: dict[int, Left] = {}
        trailing = NONE_LEFT
        if batch.groups:
            counts = [1] * len(lines)
            kept_lines = kept_lines and kept_lines.copy()
            for start, end in batch.groups:
                if kinds[start] == _EMPTY:
                    kinds[start] = _PIECE
                    work.records[start] = work.text(start, clean(lines[start].decode(errors="replace")))
                _join(work, start, end)
                counts[start] = end - start
                sizes[start] = sum(sizes[start:end])
                if kept_lines is not None:
                    kept_lines[start] = b"\n".join(kept_lines[start:end])
        if batch.groups or _EMPTY in kinds:
            kept, left, trailing = _left_out(kinds)
            records, levels = list(itertools.compress(records, kept)), list(itertools.compress(levels, kept))
            sizes = list(itertools.compress(sizes, kept))
            counts = list(itertools.compress(counts, kept)) if counts is not None else None
            kept_lines = list(itertools.compress(kept_lines, kept)) if kept_lines is not None else None
            for index, skipped in left.items():
                records[index]["skipped"] = sum(skipped)
        return Events(
            STREAM_NAMES[batch.stream], records, levels, sizes,
            floor_ms=self._times.oldest_ms, ceiling_ms=self._times.newest_ms,
            lines=kept_lines, counts=counts, left=left, trailing=trailing,
        )  # fmt: skip

    def _read_texts(self, work: _Work, lines: Sequence[bytes], kinds: bytes | bytearray) -> None:
        """Has each record of text say what it can of itself."""
        is_text = kinds.translate(_IS_TEXT)
        texts = list(itertools.compress(lines, is_text))
        if not texts:
            return
        records = list(itertools.compress(work.records, is_text))
        firsts = bytes(map(_first, texts))
        where = list(itertools.compress(range(len(lines)), is_text))
        for match, understand, begins in FAMILIES:
            may_be = firsts.translate(begins)
            if 1 in may_be:
                messages = map(_message, itertools.compress(records, may_be))
                for index, matched in zip(itertools.compress(where, may_be), map(match, messages), strict=True):
                    if matched is not None:
                        found = understand(matched, matched.string)
                        if found is not None:
                            self._say(work, index, found)

    def _say(self, work: _Work, index: int, found: Found) -> None:
        """Puts into a record of text what the text says of itself."""
        level, stamp, name, fields, message = found
        if level == STRUCTURED:
            self._one(work, index, fields or {})
            return
        record = work.records[index]
        work.levels[index] = level
        if stamp:
            try:
                record["timestamp"] = self._times.printed(stamp, work.captures[index])
            except KeyError:
                pass
        if fields:
            if not _as_they_are(fields):
                plan = self._plan(tuple(fields))
                for own, free in plan.moves:
                    fields[free] = fields.pop(own)
                if plan.job:
                    fields["job_id"] = fields.pop(plan.job)
            record.update(fields)
        if message:
            record["message"] = message
        if fields:
            refine(record)
        if name:
            record.setdefault("name", name)

    def _plan(self, names: tuple[str, ...]) -> Plan:
        plan = self._plans.get(names)
        if plan is None:
            plan = Plan(names)
            if len(names) <= _MAX_PLAN_NAMES:
                if len(self._plans) >= _MAX_PLANS:
                    self._plans.clear()
                self._plans[names] = plan
        return plan

    def _take_apart(self, work: _Work, places: list[int], objects: list[Record]) -> None:
        """Makes records of the objects, in place, and puts them and their levels where their lines stand."""
        names: set[str] = set()
        names.update(*objects)
        self._make_records(work, places, objects, names)
        refine_all(objects, names)

    def _make_records(self, work: _Work, places: list[int], objects: list[Record], names: set[str]) -> None:
        for usual in (_LIVEKIT, _PINO):
            if self._all(work, usual, places, objects, names):
                return
        livekits = [_MESSAGE in found for found in objects]
        for usual, chosen in ((_LIVEKIT, livekits), (_PINO, [not is_livekit for is_livekit in livekits])):
            self._most(work, usual, list(itertools.compress(places, chosen)), list(itertools.compress(objects, chosen)))

    def _all(self, work: _Work, usual: Usual, places: list[int], objects: list[Record], names: Iterable[str]) -> bool:
        """The same where all are of this kind; else False, and nothing is done. ``names``: all that are in them."""
        if not usual.alone(names):
            return False
        try:
            columns = list(zip(*map(usual.values, objects), strict=True))
        except KeyError:
            return False
        if columns:
            self._in_bulk(work, usual, places, objects, columns)
        return True

    def _most(self, work: _Work, usual: Usual, places: list[int], objects: list[Record]) -> None:
        """The same where some may be of another kind: these one by one."""
        if self._all(work, usual, places, objects, set().union(*objects)):
            return
        fits = [usual.alone(found) and usual.names <= found.keys() for found in objects]
        self._all(work, usual, list(itertools.compress(places, fits)), list(itertools.compress(objects, fits)), ())
        for index, found, fit in zip(places, objects, fits, strict=True):
            if not fit:
                self._one(work, index, found)

    def _one(self, work: _Work, index: int, found: Record) -> None:
        work.levels[index] = self._read(found, work.captures[index], work.lines[index])
        found["seq"] = work.base + index
        work.records[index] = found

    def _in_bulk(
        self, work: _Work, usual: Usual, places: list[int], objects: list[Record], columns: list[tuple[Any, ...]]
    ) -> None:
        """The same for objects that are all of this kind, column by column. ``columns``: their ``usual.values``."""
        messages, level_values, time_values = columns
        try:
            levels = list(map(EXACT.get, level_values))
        except TypeError:  # a list or an object
            levels = [EXACT.get(value) if value.__class__ is str else None for value in level_values]
        times_ms = self._times.column(time_values, [work.captures[index] for index in places])
        if not _all_plain(messages) or None in levels or None in times_ms:
            odd = [
                level is None or time_ms is None or not _plain(message) or _needs_a_look(message)
                for message, level, time_ms in zip(messages, levels, times_ms, strict=True)
            ]
            for index, found in itertools.compress(zip(places, objects, strict=True), odd):
                self._one(work, index, found)
            even = [not is_odd for is_odd in odd]
            rows = zip(places, objects, levels, times_ms, messages, strict=True)
            columns = list(zip(*itertools.compress(rows, even), strict=True))
            if not columns:
                return
            places, objects, levels, times_ms, messages = columns  # type: ignore[assignment]
        if usual is _LIVEKIT:
            _put_livekits(work, places, objects, levels, times_ms)
        else:
            _put_pinos(work, places, objects, levels, times_ms, messages)

    def _read(self, found: Record, capture_ms: int, line: bytes) -> int:
        """Makes a record of an object of any shape, in place, but for its number, and returns its level."""
        plan = self._plan(tuple(found))
        if plan.may_nest:
            lift(found)
            plan = self._plan(tuple(found))
        if plan.first is not None:
            message_name, level_name, time_name, moves = plan.first
            try:
                message: Any = found[message_name]
                level = EXACT[found[level_name]]
                time_ms: Any = found[time_name]
                if not ("!" <= message < "{" or _plain(message)):  # TypeError: no text
                    raise KeyError
                if not message.isprintable():
                    message = clean(message)
                if level < ERROR and message.startswith(CRASHED_JOB):
                    level = ERROR
                if time_ms.__class__ is not int or not -NEAR_MS < time_ms - capture_ms < NEAR_MS:
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
                if plan.rare:
                    refine(found)
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
        if level < ERROR and message.startswith(CRASHED_JOB):
            level = ERROR
        if plan.job:
            found["job_id"] = found.pop(plan.job)
        for name, free in plan.moves:
            if name in found:
                found[free] = found.pop(name)
        found["message"] = _guarded(clean(message))
        found["timestamp"] = time_ms
        if plan.rare:
            refine(found)
        return level


class _Work:
    """A batch while it is decoded: its lines, and what is known of each so far."""

    __slots__ = ("base", "captures", "levels", "lines", "records")

    def __init__(self, batch: Batch) -> None:
        self.lines = batch.lines
        self.base = batch.first_seq
        self.captures = _captures(batch)
        self.levels = [INFO] * len(batch.lines)
        self.records: list[Record] = []

    def text(self, index: int, message: str) -> Record:
        return {"message": message, "timestamp": self.captures[index], "seq": self.base + index}


def _captures(batch: Batch) -> list[int]:
    """When each line was captured, in ms."""
    captures: list[int] = []
    ends = [start for start, _ in batch.times[1:]]
    for (_, time_ns), end in zip(batch.times, [*ends, len(batch.lines)], strict=True):
        captures += [time_ns // 1_000_000] * (end - len(captures))
    return captures


def _sorted_out(batch: Batch) -> tuple[list[bytes], bytearray]:
    """The lines, without what is not to be seen of them, and the kind of each."""
    lines = batch.lines
    try:
        kinds = bytearray(map(_first, lines)).translate(_KIND)
        if b"\r" in bytearray(map(_last, lines)):
            for index, line in enumerate(lines):
                if line[-1] == _CR:
                    kinds[index] = _ODD
    except IndexError:  # an empty line
        kinds = bytearray(_ODD if not line or line[-1] == _CR else _KIND[line[0]] for line in lines)
    for index in batch.parts:
        kinds[index] = _PIECE
    for start, end in batch.groups:
        kinds[start + 1 : end] = bytes([_JOINED]) * (end - start - 1)
    if _ODD in kinds:
        lines = lines.copy()
        for index in itertools.compress(range(len(lines)), kinds.translate(_IS_ODD)):
            line = lines[index]
            bare = line.strip()
            if bare and (bare[0] < _SPACE or bare[0] == _DELETE):
                line = lines[index] = clean(line.decode(errors="replace")).encode()
                bare = line.strip()
            if not bare:
                kinds[index] = _EMPTY
            elif bare[0] == _BRACE:
                kinds[index] = _OBJECT
                lines[index] = bare
            else:
                kinds[index] = _TEXT
                if line[-1] == _CR or line[0] == _CR:
                    lines[index] = line.strip(b"\r")
    texts = list(itertools.compress(lines, kinds.translate(_IS_TEXT)))
    cleaned = clean_lines(texts)
    if cleaned is not texts:
        lines = lines.copy()
        where = list(itertools.compress(range(len(lines)), kinds.translate(_IS_TEXT)))
        for index, line in zip(where, cleaned, strict=True):
            lines[index] = line
            if line[:1] == b"{":  # behind a carriage return
                kinds[index] = _OBJECT
            elif not line.strip():  # nothing but control characters
                kinds[index] = _EMPTY
    return lines, kinds


def _texts(kinds: bytes | bytearray, lines: list[bytes], work: _Work, start: int) -> list[Record]:
    """Records of those lines of one read that are text, and the same place holder for all others."""
    capture_ms, numbers = work.captures[start], itertools.count(work.base + start)
    try:
        return [
            {"message": line.decode(), "timestamp": capture_ms, "seq": number} if kind == _TEXT else _NOT_YET
            for kind, line, number in zip(kinds, lines, numbers, strict=False)
        ]
    except UnicodeDecodeError:
        return [
            work.text(index, _decoded(line, work.lines[index])) if kind == _TEXT else _NOT_YET
            for index, (kind, line) in enumerate(zip(kinds, lines, strict=True), start)
        ]


def _decoded(line: bytes, as_printed: bytes) -> str:
    """The text of a line, of which ``as_printed`` may have a carriage return more."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return _text(as_printed)


def _parsed(work: _Work, places: list[int], lines: list[bytes]) -> tuple[list[int], list[Record]]:
    """The lines as objects, and where they stand. What is no JSON becomes a text at once.

    The array counts only when each second element is the nonce: then each line was one value between two of them.
    """
    try:
        found = orjson.loads(b"[" + _SEPARATOR.join(lines) + b"]")
        if len(found) == 2 * len(lines) - 1 and found[1::2] == [_NONCE] * (len(lines) - 1):
            return places, found[::2]
    except ValueError:
        pass
    good: list[int] = []
    objects: list[Record] = []
    for index, line in zip(places, lines, strict=True):
        try:
            objects.append(_loaded(line))
            good.append(index)
        except ValueError:
            found = loose.loads(line)
            if found is None:
                work.records[index] = work.text(index, _text(work.lines[index]))
            else:
                objects.append(found)
                good.append(index)
    return good, objects


def _loaded(line: bytes) -> Record:
    """A line's object; escapes and the like may stand behind it. Raises ValueError."""
    try:
        found: Record = orjson.loads(line)
    except ValueError:
        if line[-1:] == b"}":
            raise
        found = orjson.loads(clean(line.decode(errors="replace")))
        if not isinstance(found, dict):  # behind a carriage return
            raise
    return found


def _all_plain(messages: Sequence[object]) -> bool:
    """Whether none, for sure, can be JSON or is one that needs a look of its own."""
    try:
        return min(messages) >= "!" and max(messages) < "{" and not _needs_a_look("".join(messages))  # type: ignore[type-var, operator, arg-type]
    except TypeError:
        return False


def _needs_a_look(text: str) -> bool:
    return may_be_dirty(text) or CRASHED_JOB in text


def _plain(message: object) -> bool:
    """Whether it is text that cannot be JSON."""
    return message.__class__ is str and not message.lstrip().startswith("{")


def _put_livekits(
    work: _Work, places: Sequence[int], objects: Sequence[Record], levels: Sequence[Any], times_ms: Sequence[Any]
) -> None:
    base, all_records, all_levels, level_name, stamp_name = work.base, work.records, work.levels, _LEVEL, _TIMESTAMP
    for index, found, level, time_ms in zip(places, objects, levels, times_ms, strict=True):
        found[stamp_name] = time_ms
        del found[level_name]
        found["seq"] = base + index
        all_levels[index] = level
        all_records[index] = found


def _put_pinos(
    work: _Work,
    places: Sequence[int],
    objects: Sequence[Record],
    levels: Sequence[Any],
    times_ms: Sequence[Any],
    messages: Sequence[str],
) -> None:
    base, all_records, all_levels = work.base, work.records, work.levels
    for index, found, level, time_ms, message in zip(places, objects, levels, times_ms, messages, strict=True):
        del found[_LEVEL]
        del found[_TIME]
        del found[_MSG]
        if _HOSTNAME in found:
            found["agent.hostname"] = found.pop(_HOSTNAME)
        for name in JOB_NAMES:
            if name in found:
                found["job_id"] = found.pop(name)
                break
        found["message"] = message
        found["timestamp"] = time_ms
        found["seq"] = base + index
        all_levels[index] = level
        all_records[index] = found


def _left_out(kinds: bytes | bytearray) -> tuple[bytes | bytearray, dict[int, Left], Left]:
    """Which lines are kept, how many empty ones were before the kept ones, and how many follow the last."""
    left: dict[int, Left] = {}
    gone = 0
    for run in _GONE_RUN.finditer(kinds):
        start, end = run.span()
        empty = kinds.count(_EMPTY, start, end)
        if end == len(kinds):
            return kinds.translate(_IS_KEPT), left, (empty, 0, 0)
        if empty:
            left[start - gone] = (empty, 0, 0)
        gone += end - start
    return kinds.translate(_IS_KEPT), left, NONE_LEFT


def _join(work: _Work, start: int, end: int) -> None:
    """Makes the first one's record that of all, and the level that of what they tell."""
    record = work.records[start]
    rest = [clean(line.decode(errors="replace")) for line in work.lines[start + 1 : end]]
    message = "\n".join([str(record["message"]), *rest])
    problem = describe(message)
    if problem is not None:
        work.levels[start] = max(work.levels[start], ERROR)
        said = {"error.kind": problem.kind, "error.message": problem.message, "error.stack": problem.stack}
        record |= {name: value for name, value in said.items() if value}
    record["message"] = _guarded(message)
    record["lines"] = end - start


def counted(masker: Masker | None, filters: Filters | None) -> tuple[int, int, int]:
    """What they have changed so far."""
    redacted, hidden = (filters.redacted, filters.hidden) if filters is not None else (0, 0)
    return (masker.masked if masker is not None else 0, redacted, hidden)


def changed_since(
    before: tuple[int, int, int], masker: Masker | None, filters: Filters | None
) -> dict[str, int] | None:
    after = counted(masker, filters)
    if after == before:
        return None
    names = ("masked", "redacted", "pii")
    return {name: new - old for name, new, old in zip(names, after, before, strict=True) if new > old}


def _text(line: bytes) -> str:
    return _guarded(clean(line.decode(errors="replace")))


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
