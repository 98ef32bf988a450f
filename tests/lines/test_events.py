"""Events that stand for several lines, and lines that are left out: every line is one or the other, by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from shipper.lines.batch import Batch
from shipper.lines.calls import Calls
from shipper.lines.decoder import Decoder
from shipper.lines.events import LEFT_REASONS
from shipper.lines.filters import Filters
from shipper.lines.levels import ERROR, WARNING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shipper.lines.events import Events, Record

NOW_NS = 1_700_000_000_000_000_000


class Verdicts(Filters):
    """These, as far as they go."""

    def __init__(self, verdicts: list[int]) -> None:
        super().__init__()
        self.verdicts = verdicts

    def apply(
        self, records: list[Record], levels: Sequence[int], lines: list[bytes] | None = None, *, rewrite: bool = False
    ) -> bytes | None:
        assert len(records) == len(levels)
        found = bytes(self.verdicts[: len(records)]).ljust(len(records), b"\0")
        return found if any(found) else None


def decode(lines: list[bytes], groups: list[tuple[int, int]], verdicts: list[int], keep: bool = True) -> Events:
    filters = Verdicts(verdicts) if verdicts else None
    return Decoder(keep, filters).decode(Batch(1, lines, 5, [(0, NOW_NS)], {}, groups))


line = st.sampled_from([b"", b" ", b"\r", b"text", b"  indented\r", b'{"message": "m"}', b"{broken", b"\xff", b"{"]) | (
    st.binary(max_size=8).map(lambda some: some.replace(b"\n", b""))
)


@st.composite
def groupings(draw: st.DrawFn, most: int) -> list[tuple[int, int]]:
    places = sorted(draw(st.sets(st.integers(0, most), max_size=6)))
    return [(start, end) for start, end in zip(places[::2], places[1::2], strict=False) if end - start >= 2]


@given(st.data(), st.lists(line, max_size=14), st.lists(st.integers(0, 2), max_size=14))
def test_whatever_is_joined_or_left_out_each_line_is_accounted_for(
    data: st.DataObject, lines: list[bytes], verdicts: list[int]
) -> None:
    groups = data.draw(groupings(len(lines)))
    events = decode(lines, groups, verdicts)
    following = 5
    for index, record in enumerate(events.records):
        count = events.lines_in(index, index + 1)
        assert record.get("lines", 1) == count
        assert record.get("skipped", 0) == sum(events.left.get(index, ()))
        assert record["seq"] == following + record.get("skipped", 0)  # type: ignore[operator]
        following = record["seq"] + count
        start = record["seq"] - 5
        assert ((start, start + count) in groups) == (count > 1)
        assert events.lines is not None
        assert events.lines[index] == b"\n".join(lines[start : start + count])
    assert following + events.trailing_skipped == 5 + len(lines)
    assert len(events.levels) == len(events.sizes) == events.count
    left = [sum(some) for some in zip(events.left_in(0, events.count), events.trailing, strict=True)]
    assert sum(left) + events.lines_in(0, events.count) == len(lines)
    if not verdicts:
        assert left[1:] == [0, 0]
    if events.count:  # one by one, or all at once
        assert events.left_in(0, events.count) == tuple(
            map(sum, zip(*(events.left_in(index, index + 1) for index in range(events.count)), strict=True))
        )


def test_joined_lines_are_one_record_with_their_text_level_and_error() -> None:
    lines = [b"before", b"Traceback (most recent call last):\r", b"  File\r", b"ValueError: boom", b"after"]
    events = decode(lines, [(1, 4)], [])
    text = "Traceback (most recent call last):\n  File\nValueError: boom"
    assert events.messages == ["before", text, "after"]
    assert events.records[1] == {
        "message": text, "timestamp": NOW_NS // 1_000_000, "seq": 6, "lines": 3,
        "error.kind": "ValueError", "error.message": "boom", "error.stack": text,
    }  # fmt: skip
    assert events.levels[1] == ERROR
    assert events.sizes == [6, sum(map(len, lines[1:4])), 5]
    assert events.counts == [1, 3, 1]


def test_a_joined_event_without_an_exception_has_what_its_first_line_has() -> None:
    lines = [b'{"message": "m", "level": "warning", "n": 1}', b"  {}", b"", b"  and on"]
    events = decode(lines, [(0, 4)], [])
    (record,) = events.records
    assert (record["message"], record["n"], record["lines"]) == ("m\n  {}\n\n  and on", 1, 4)
    assert events.levels == [WARNING]
    assert "error.kind" not in record


def test_joined_lines_that_are_json_together_do_not_take_the_place_of_our_fields() -> None:
    events = decode([b"{", b'  "status": "emergency"', b"}"], [(0, 3)], [])
    assert events.messages == ['json: {\n  "status": "emergency"\n}']


def test_a_group_of_blank_lines_is_an_event_all_the_same() -> None:
    events = decode([b"", b" ", b"x"], [(0, 2)], [])
    assert events.messages == ["\n ", "x"]


def test_left_out_lines_are_told_by_reason_and_a_group_counts_with_all_its_lines() -> None:
    lines = [b"", b"a", b"b", b"  b", b"", b"c", b"d", b"e"]
    events = decode(lines, [(2, 4)], [1, 2, 0, 1, 2])
    assert events.messages == ["c"]
    assert dict(zip(LEFT_REASONS, events.left[0], strict=True)) == {"empty": 2, "level": 1, "exclude": 2}
    assert events.records[0]["skipped"] == 5
    assert events.trailing == (0, 1, 1)


def test_what_lines_tell_of_calls_is_followed_also_where_they_are_left_out() -> None:
    class Followed(Calls):
        def follow(self, events: Events) -> Calls:
            messages.extend(events.messages)
            return after

    messages: list[str] = []
    after = Followed()
    batch = Batch(1, [b"", b"a", b"b"], 1, [(0, NOW_NS)], {})
    events, calls = Decoder(filters=Verdicts([1, 0])).follow(batch, Followed())
    assert calls is after
    assert messages == ["a", "b"]
    assert events.messages == ["b"]
