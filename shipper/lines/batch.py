"""Some lines of one stream of one run, as the journal's reader cut them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Batch:
    """Immutable by convention. ``lines`` come without their newline; line i has the number ``first_seq`` + i.

    ``stream`` is 1 (stdout) or 2 (stderr). ``times`` holds, ascending and from index 0 on, the first line of each
    read and when that was (wall time in ns). ``parts`` gives the number of the piece (1, 2, ...) for lines that are
    pieces of one longer than the limit. ``groups``: lines that are one event, as `joining.Grouping` has them.
    """

    __slots__ = ("first_seq", "groups", "lines", "parts", "stream", "times")

    def __init__(
        self,
        stream: int,
        lines: list[bytes],
        first_seq: int,
        times: list[tuple[int, int]],
        parts: dict[int, int],
        groups: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.stream = stream
        self.lines = lines
        self.first_seq = first_seq
        self.times = times
        self.parts = parts
        self.groups = groups

    def with_lines(self, lines: list[bytes]) -> Batch:
        """The same place in the stream, its lines changed one by one."""
        return Batch(self.stream, lines, self.first_seq, self.times, self.parts, self.groups)
