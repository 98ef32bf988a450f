"""How bytes move a stream's numbering. Pure.

A numbering is a place in a stream: *line*, the number of the current line's first piece, and *before*, how many bytes
of that line came before. A line of up to ``max_line`` bytes (its newline not counted) has one number, a longer one
ceil(length / max_line), one a piece. Numbering.at counts the bytes of the stream.
"""

from __future__ import annotations

STDOUT = 1
STDERR = 2
STREAMS = (STDOUT, STDERR)
STREAM_NAMES = ("", "stdout", "stderr")


def pieces(length: int, max_line: int) -> int:
    """Numbers that a line of ``length`` bytes takes."""
    return 1 if length <= max_line else -(-length // max_line)


class Summary:
    """What some bytes do to any numbering, without the bytes: the sum of two is what both in a row do.

    ``head`` bytes come before the first newline (all of them when there is none), then ``inner`` numbers are taken by
    the lines between the first and the last newline, and ``tail`` bytes follow the last one.
    """

    __slots__ = ("bytes", "head", "inner", "max_line", "newlines", "tail")

    def __init__(self, max_line: int, head: int = 0, newlines: int = 0, inner: int = 0, tail: int = 0, size: int = 0):
        self.max_line = max_line
        self.head = head
        self.newlines = newlines
        self.inner = inner
        self.tail = tail
        self.bytes = size

    def add(self, other: Summary) -> Summary:
        size = self.bytes + other.bytes
        if not self.newlines:
            return Summary(self.max_line, self.head + other.head, other.newlines, other.inner, other.tail, size)
        if not other.newlines:
            return Summary(self.max_line, self.head, self.newlines, self.inner, self.tail + other.head, size)
        inner = self.inner + pieces(self.tail + other.head, self.max_line) + other.inner
        return Summary(self.max_line, self.head, self.newlines + other.newlines, inner, other.tail, size)


def summarize(data: bytes, max_line: int) -> Summary:
    """The summary of ``data``."""
    newlines = data.count(b"\n")
    size = len(data)
    if not newlines:
        return Summary(max_line, head=size, size=size)
    head = data.find(b"\n")
    last = data.rfind(b"\n")
    inner = newlines - 1
    if last - head > max_line:  # only then can a line between the two be longer than max_line
        inner = sum(pieces(len(line), max_line) for line in data[head + 1 : last].split(b"\n")) if inner else 0
    return Summary(max_line, head, newlines, inner, size - last - 1, size)


def name_lines(ranges: list[tuple[int, int, int]]) -> str:
    """Lines (stream, first, last) in words."""
    return " and ".join(
        [
            f"line {first} of {STREAM_NAMES[stream]}"
            if first == last
            else f"lines {first} to {last} of {STREAM_NAMES[stream]}"
            for stream, first, last in ranges
        ]
    )


def lost_for_good(reason: str, ranges: list[tuple[int, int, int]]) -> str:
    """What a person is told of lines that no provider will hear of."""
    return f"lost ({reason}), and the providers could not be told: {name_lines(ranges)}."


class Numbering:
    """The place in one stream. Mutable: the writer has one a stream."""

    __slots__ = ("at", "before", "line")

    def __init__(self, line: int = 1, before: int = 0, at: int = 0) -> None:
        self.line = line
        self.before = before
        self.at = at

    def copy(self) -> Numbering:
        return Numbering(self.line, self.before, self.at)

    def advance(self, data: bytes, max_line: int) -> None:
        """Move past ``data``."""
        size = len(data)
        if self.before + size > max_line:
            self.apply(summarize(data, max_line))
            return
        newlines = data.count(b"\n")  # no line that ends in here can be longer than max_line
        self.at += size
        if newlines:
            self.line += newlines
            self.before = size - data.rfind(b"\n") - 1
        else:
            self.before += size

    def apply(self, summary: Summary) -> None:
        """Move past the bytes that ``summary`` is of."""
        self.at += summary.bytes
        if summary.newlines:
            self.line += pieces(self.before + summary.head, summary.max_line) + summary.inner
            self.before = summary.tail
        else:
            self.before += summary.head

    def end(self, max_line: int) -> None:
        """The stream has ended: a last line without newline is complete."""
        if self.before:
            self.line += pieces(self.before, max_line)
            self.before = 0

    def to_json(self) -> list[int]:
        return [self.line, self.before, self.at]
