"""The arithmetic of numbers: any cut of any bytes moves a numbering alike."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shipper.journal.numbering import Numbering, Summary, pieces, summarize
from tests.journal.journal_model import lines_of

MAX_LINE = 8
data = st.binary(max_size=60) | st.text("a\n", max_size=60).map(str.encode)


def place(numbering: Numbering) -> tuple[int, int, int]:
    return numbering.line, numbering.before, numbering.at


@given(st.lists(data, max_size=8), st.lists(data, max_size=8))
def test_the_summary_of_a_sum_is_the_sum_of_the_summaries(before: list[bytes], chunks: list[bytes]) -> None:
    direct, summed, at_once = Numbering(), Numbering(), Numbering()
    for chunk in before:
        for numbering in (direct, summed, at_once):
            numbering.advance(chunk, MAX_LINE)
    total = Summary(MAX_LINE)
    for chunk in chunks:
        direct.advance(chunk, MAX_LINE)
        total = total.add(summarize(chunk, MAX_LINE))
    summed.apply(total)
    at_once.advance(b"".join(chunks), MAX_LINE)
    assert place(direct) == place(summed) == place(at_once)


@given(data)
def test_the_number_after_some_bytes_counts_the_lines_and_pieces_in_them(printed: bytes) -> None:
    numbering = Numbering()
    numbering.advance(printed, MAX_LINE)
    numbering.end(MAX_LINE)
    assert numbering.line - 1 == len(lines_of(printed, MAX_LINE, ended=True))
    assert numbering.at == len(printed)


def test_a_line_at_the_limit_is_one_and_one_byte_over_are_two() -> None:
    assert [pieces(length, 8) for length in (0, 1, 7, 8, 9, 16, 17)] == [1, 1, 1, 1, 2, 2, 3]
