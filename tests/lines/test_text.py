"""Cleaning: what a terminal would leave on the screen, and nothing else of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.events import Events
from shipper.lines.text import clean, clean_lines


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("plain\ttext, ünïcode 漢 🙂\nsecond", "plain\ttext, ünïcode 漢 🙂\nsecond"),
        # escapes
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;5;196;1mred\x1b[m", "red"),
        ("\x1b[38:2::1:2:3mred", "red"),
        ("\x1b[?25lhidden cursor\x1b[?25h\x1b[2J\x1b[1;1H", "hidden cursor"),
        ("\x9b31mred in C1\x9bm", "red in C1"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://a.b/c\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9d0;title\x9ctext", "text"),
        ("\x1bP1$r0m\x1b\\\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\text", "text"),
        ("\x1b(B\x1b)0\x1b#8\x1b=\x1b>\x1b7\x1b8\x1bctext", "text"),
        # those that do not end take nothing with them but their beginning
        ("text\x1b", "text"),
        ("text\x1b[", "text"),
        ("text\x1b[31", "text"),
        ("\x1b]0;title and text", "0;title and text"),
        ("\x1b]0;title\nand text", "0;title\nand text"),
        ("\x1b]0;a\x1b]0;b\x07c", "0;ac"),
        # carriage returns
        ("10%\r20%\r100%", "100%"),
        ("10%\r20%\r", "20%"),
        ("20%\r   \r", "20%"),
        ("text\r", "text"),
        ("text\r\n", "text\n"),
        ("\rtext", "text"),
        ("text\r\0", "text"),
        ("\r\r", ""),
        ("10%\x1b[2K\x1b[1G20%", "20%"),
        ("10%\x1b[G20%\x1b[12Gend", "20%end"),
        ("first\r\n10%\r20%\r\nlast", "first\n20%\nlast"),
        # control characters
        ("a\0b\x01\x07\x08\x0e\x1f\x7fc", "abc"),
        ("a\x0bb\x0cc", "a b c"),
        ("a\x80\x85\x99b\xa0c", "ab\xa0c"),
    ],
)
def test_text_is_cleaned_like_this(printed: str, shown: str) -> None:
    assert clean(printed) == shown


ODD = st.text(st.sampled_from("ab \t\n\r\0\x07\x08\x0b\x1b[]0;m?G\\P\x7f\x80\x90\x9b\x9c\x9d é漢"), max_size=30)


@given(ODD)
def test_whatever_was_cleaned_is_clean(text: str) -> None:
    shown = clean(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    assert clean(shown) == shown
    assert shown.count("\n") == text.count("\n")


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])))
def test_text_without_control_characters_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


@given(st.lists(ODD.map(lambda text: text.replace("\n", "").encode()), max_size=8))
def test_lines_are_cleaned_together_as_they_are_alone(lines: list[bytes]) -> None:
    assert clean_lines(lines) == [clean(line.decode()).encode() for line in lines]


def test_clean_lines_are_given_back_as_they_are() -> None:
    lines = [b"a", "é £ °".encode(), b"\xff broken", b"tab\t"]
    assert clean_lines(lines) is lines
    assert clean_lines([b"a\nb", b"c\0"]) == [b"a\nb", b"c"]


def decode(*lines: bytes, parts: dict[int, int] | None = None) -> Events:
    return Decoder(keep_lines=True).decode(Batch(1, list(lines), 1, [(0, 1_795_492_800_000 * 10**6)], parts or {}))


def test_what_is_kept_for_passing_on_is_as_printed() -> None:
    lines = [b"\x1b[31mred\x1b[0m", b"10%\r20%", b"a\0b", b"text\r"]
    events = decode(*lines)
    assert events.lines == lines
    assert events.messages == ["red", "20%", "ab", "text"]
    assert events.sizes == list(map(len, lines))


@pytest.mark.parametrize(
    "line", [b"\x1b[0m", b"\0\0\0", b"\x1b[31m \x1b[0m", b"\r", b"\r \r", b"\xc2\x9b0m", b"\x7f", b"\x07"]
)
def test_a_line_of_which_nothing_is_to_be_seen_is_left_out_and_counted(line: bytes) -> None:
    events = decode(b"before", line, b"after")
    assert events.messages == ["before", "after"]
    assert events.records[1]["skipped"] == 1


@pytest.mark.parametrize("front", [b"", b"\x1b[32m", b"\r", b"progress 10%\r", b"\x1b[1;31m\x1b[40m", b" \x1b[0m"])
@pytest.mark.parametrize("end", [b"", b"\x1b[0m", b"\r"])
def test_json_between_colours_or_behind_a_progress_bar_is_json(front: bytes, end: bytes) -> None:
    events = decode(front + b'{"msg":"m","level":"error","k":1}' + end, b'{"msg":"n","k":2}')
    assert (events.messages, [record["k"] for record in events.records]) == (["m", "n"], [1, 2])


@pytest.mark.parametrize(
    "line",
    [
        rb'{"message":"\u001b[31mred\u001b[0m\u0000","level":"INFO","timestamp":1795492800000}',
        rb'{"level":30,"time":1795492800000,"msg":"\u001b[31mred\u001b[0m\u0000"}',
        rb'{"event":"\u001b[31mred\u001b[0m\u0000","level":"info"}',
        rb'{"severity":"INFO","message":"\u001b[31mred\u001b[0m\u0000","time":1795492800000}',
    ],
)  # fmt: skip
def test_a_message_in_json_is_cleaned_too(line: bytes) -> None:
    assert decode(line).messages == ["red"]
    assert decode(*[line.replace(rb"\u001b[31mred\u001b[0m\u0000", b"red")] * 200, line).messages == ["red"] * 201


def test_pieces_are_cleaned_each_for_itself_and_put_together_are_the_line() -> None:
    line = ("\x1b[31m" + "long é " * 40 + "\x1b[0m").encode()
    pieces = [line[at : at + 64] for at in range(0, len(line), 64)]
    events = decode(*pieces, parts={index: index + 1 for index in range(len(pieces))})
    assert len({int(str(record["seq"])) - int(str(record["part"])) for record in events.records}) == 1
    whole = "".join(events.messages)
    assert re.sub("\ufffd+", "é", whole) == clean(line.decode())
