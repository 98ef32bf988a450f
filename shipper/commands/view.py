"""How a unit is shown: the agent's bytes, a line for a person, or a JSON object; and which units are.

A unit's level, message and fields are what the providers get of it: the same decoding, without their masking.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import orjson

from shipper.journal.numbering import STREAM_NAMES
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.levels import DEBUG, ERROR, INFO, LEVELS, WARNING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shipper.commands.units import Unit

DIM, RESET = "\x1b[2m", "\x1b[0m"
COLOURS = ("2", "2", "32", "36", "33", "31", "1;31", "1;31", "1;31")
"""Of `LEVELS`. Of the terminal's own sixteen, so that they suit its background."""
STDERR = "35"

_OURS = frozenset({"message", "timestamp", "seq", "run", "part", "skipped", "lines", "name", "error.stack"})
_HIDDEN = "code."  # where in the source a line was logged, which LiveKit writes into each: `--json` has it
_BARE = re.compile(r"[^\s\"'={}\[\]]+")


class Decoding:
    """Gives units their records and levels."""

    def __init__(self) -> None:
        self._decoder = Decoder()

    def __call__(self, units: Sequence[Unit]) -> None:
        if not units:
            return
        lines: list[bytes] = []
        groups: list[tuple[int, int]] = []
        parts: dict[int, int] = {}
        times: list[tuple[int, int]] = []
        by_seq = {}
        first = units[0].seq
        for unit in units:
            start = len(lines)
            lines += unit.lines
            if len(unit.lines) > 1:
                groups.append((start, len(lines)))
            if unit.part:
                parts[start] = unit.part
            if not times or times[-1][1] != unit.wall_ns:
                times.append((start, unit.wall_ns))
            by_seq[first + start] = unit
        events = self._decoder.decode(Batch(units[0].stream, lines, first, times, parts, groups))
        for record, level in zip(events.records, events.levels, strict=True):
            unit = by_seq[record["seq"]]  # type: ignore[index]
            record["seq"] = unit.seq
            unit.record, unit.level = record, level


class Selection:
    """Which units are shown, by what they hold."""

    def __init__(self, level: int | None, job: str, pattern: re.Pattern[bytes] | None) -> None:
        self._level = level
        self._job = job
        self._pattern = pattern

    def __call__(self, unit: Unit) -> bool:
        if self._level is not None and (unit.level is None or unit.level < self._level):
            return False
        if self._job and (unit.record is None or unit.record.get("job_id") != self._job):
            return False
        return self._pattern is None or self._pattern.search(b"\n".join(unit.lines)) is not None


def as_json(unit: Unit) -> bytes:
    """One line of JSON, newline included. A line that no provider gets (it is empty) has a message and no fields."""
    record = unit.record if unit.record is not None else {"message": "", "timestamp": unit.wall_ns // 1_000_000}
    ms = record["timestamp"]
    assert isinstance(ms, int)  # noqa: S101 (for the type checker: see `lines.events.Record`)
    seconds, rest = divmod(ms, 1000)
    shown: dict[str, object] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03}Z",
        "level": LEVELS[INFO if unit.level is None else unit.level],
        "stream": STREAM_NAMES[unit.stream],
        "message": record["message"],
        "seq": unit.seq,
    }
    shown.update((name, value) for name, value in record.items() if name not in shown and name != "timestamp")
    shown.pop("run", None)
    try:
        return orjson.dumps(shown) + b"\n"
    except TypeError:  # nested deeper than it writes, or text with lone surrogates
        from shipper.lines.deep import shallow

        return orjson.dumps(shallow(shown)) + b"\n"


def for_a_person(unit: Unit, coloured: bool) -> bytes:
    """As a person reads it, on a terminal: what was printed as text stays as it is."""
    raw = b"\n".join(unit.lines)
    record, level = unit.record, unit.level
    if record is None or level is None:
        return raw + b"\n"
    if not (len(unit.lines) == 1 and raw.lstrip()[:1] == b"{" and record["message"] != raw.decode(errors="replace")):
        if not coloured:
            return str(record["message"]).encode(errors="replace") + b"\n"
        colour = COLOURS[level] if level <= DEBUG or level >= WARNING else STDERR if unit.stream == 2 else ""
        if not colour or b"\x1b" in raw:
            return raw + b"\n"
        return b"\x1b[%sm%s\x1b[0m\n" % (colour.encode(), raw)
    return _structured(record, level, coloured).encode(errors="replace") + b"\n"


def _structured(record: dict[str, object], level: int, coloured: bool) -> str:
    ms = record["timestamp"]
    assert isinstance(ms, int)  # noqa: S101 (for the type checker)
    seconds, rest = divmod(ms, 1000)
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) + f".{rest:03}"
    word = f"{LEVELS[level].upper():<8}"
    message = str(record["message"])
    name = record.get("name")
    fields = " ".join(
        f"{key}={_value(value)}"
        for key, value in record.items()
        if key not in _OURS and not key.startswith(_HIDDEN) and value is not None
    )
    stack = record.get("error.stack")
    if coloured:
        moment, word = f"{DIM}{moment}{RESET}", f"\x1b[{COLOURS[level]}m{word}{RESET}"
        name = f"\x1b[36m{name}{RESET}" if name else ""
        fields = f"{DIM}{fields}{RESET}" if fields else ""
        if level >= ERROR:
            message = f"\x1b[{COLOURS[level]}m{message}{RESET}"
    line = " ".join(str(part) for part in (moment, word, name, message, fields) if part)
    return f"{line}\n{stack}" if isinstance(stack, str) and stack else line


def _value(value: object) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value):
        return value
    from shipper.lines.deep import json_text

    return json_text(value)
