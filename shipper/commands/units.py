"""What the journal's reader gives, as units to show: lines, or lines that are one event, in the order of reading."""

from __future__ import annotations

from shipper.journal.reader import End, Gap, Lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    Grouped = Callable[[list[bytes], dict[int, int]], Any]

LAST = (1 << 62, 0)  # behind every segment


class Unit:
    """``lines`` without their newlines, more than one where they are one event; ``part`` of an over-long line, else 0.

    ``wall_ns``: when the first of them was read. ``record``, ``level``: what the providers get of it, where that was
    asked for; None for a line that they do not get.
    """

    __slots__ = ("level", "lines", "part", "record", "seq", "stream", "wall_ns")

    def __init__(self, stream: int, seq: int, lines: list[bytes], part: int, wall_ns: int) -> None:
        self.stream = stream
        self.seq = seq
        self.lines = lines
        self.part = part
        self.wall_ns = wall_ns
        self.level: int | None = None
        self.record: dict[str, object] | None = None


Shown = Unit | Gap | End


class Cutter:
    """Cuts lines into units. ``group``: `lines.joining.group`, or None to leave each line alone. ``decode``: gives the
    units of one stream their records and levels."""

    def __init__(self, group: Grouped | None = None, decode: Callable[[Sequence[Unit]], None] | None = None) -> None:
        self._group = group
        self._decode = decode
        self._held: dict[int, list[tuple[tuple[int, int], Unit]]] = {}  # ends of streams that may go on

    @property
    def holds(self) -> bool:
        """Whether there is something that may go on."""
        return bool(self._held)

    def cut(self, items: Sequence[Lines | Gap | End], last: bool) -> list[Shown]:
        """What can be shown now. ``last``: nothing is held back, whatever may follow."""
        keyed: list[tuple[tuple[int, int], Shown]] = []
        for item in items:
            if isinstance(item, Lines):
                keyed += self._units(item)
            elif isinstance(item, Gap):
                keyed += self._let_go(item.stream)
                keyed.append(((item.segment, item.offset), item))
            else:
                keyed += self._let_go(*self._held)
                keyed.append((LAST, item))
        if last:
            keyed += self._let_go(*self._held)
        keyed.sort(key=lambda entry: entry[0])  # stable: those of one read stay in their order
        return [entry for _, entry in keyed]

    def _let_go(self, *streams: int) -> Iterator[tuple[tuple[int, int], Unit]]:
        for stream in list(streams):
            yield from self._joined(self._held.pop(stream, []), final=True)

    def _units(self, item: Lines) -> list[tuple[tuple[int, int], Unit]]:
        units = []
        marks = iter([*item.marks, (len(item.lines), 0, 0, 0)])
        mark, following = next(marks), next(marks)
        for index, line in enumerate(item.lines):
            if index >= following[0]:
                mark, following = following, next(marks)
            # by the frame that it begins in: the clock may have been set in between
            unit = Unit(item.stream, item.first_seq + index, [line], item.parts.get(index, 0), mark[1])
            units.append((mark[2:], unit))
        if self._group is None:
            if self._decode is not None:
                self._decode([unit for _, unit in units])
            return units
        return self._joined(self._held.pop(item.stream, []) + units, final=False)

    def _joined(self, units: list[tuple[tuple[int, int], Unit]], final: bool) -> list[tuple[tuple[int, int], Unit]]:
        if not units:
            return []
        assert self._group is not None  # noqa: S101 (nothing is held otherwise)
        lines = [unit.lines[0] for _, unit in units]
        parts = {index: unit.part for index, (_, unit) in enumerate(units) if unit.part}
        grouping = self._group(lines, parts)
        end = len(units)
        if grouping.open_from is not None and not final:
            end = grouping.open_from
            self._held[units[0][1].stream] = units[end:]
        joined = []
        position = 0
        for start, stop in grouping.groups:
            if start >= end:
                break
            joined += units[position:start]
            place, first = units[start]
            first.lines = lines[start:stop]
            joined.append((place, first))
            position = stop
        joined += units[position:end]
        if self._decode is not None:
            self._decode([unit for _, unit in joined])
        return joined
