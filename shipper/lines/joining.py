"""Stand-in, to be replaced by JOIN's module of the same name and signature: tracebacks only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LINES = 500
MAX_BYTES = 256 << 10

_HEADER = b"Traceback (most recent call last):"


class Grouping:
    """``groups``: ascending, disjoint (start, end) of two lines or more that are one event. ``open_from``: where a tail
    begins that may go on, None when nothing waits."""

    __slots__ = ("groups", "open_from")

    def __init__(self, groups: list[tuple[int, int]], open_from: int | None) -> None:
        self.groups = groups
        self.open_from = open_from


class Problem:
    __slots__ = ("kind", "message", "stack")

    def __init__(self, kind: str, message: str, stack: str) -> None:
        self.kind = kind
        self.message = message
        self.stack = stack


_NONE = Grouping([], None)


def group(lines: list[bytes], parts: Mapping[int, int]) -> Grouping:
    if _HEADER not in b"\n".join(lines):
        return _NONE
    groups: list[tuple[int, int]] = []
    open_from: int | None = None
    index, count = 0, len(lines)
    while index < count:
        if lines[index].rstrip() != _HEADER or index in parts:
            index += 1
            continue
        end, size = index + 1, len(lines[index])
        while end < count and end - index < MAX_LINES and size < MAX_BYTES and lines[end][:1] == b" ":
            size += len(lines[end])
            end += 1
        full = end - index >= MAX_LINES or size >= MAX_BYTES
        if end == count and not full:
            open_from = index
        elif not full and lines[end].strip() and end not in parts:
            end += 1
        if end - index > 1:
            groups.append((index, end))
        index = end
    return Grouping(groups, open_from)


def describe(text: str) -> Problem | None:
    if not text.startswith(_HEADER.decode()):
        return None
    last = text.rpartition("\n")[2]
    kind, colon, message = last.partition(": ")
    return Problem(kind, message, text) if colon and not last.startswith(" ") else None
