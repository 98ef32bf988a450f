"""JSON of values nested deeper than the serialiser goes."""

from __future__ import annotations

import json
import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.lines.deep import _spelled_out, json_text, shallow

LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.text())


@given(st.recursive(LEAVES, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)), max_leaves=30))
def test_spelling_out_is_what_the_serialiser_writes(value: object) -> None:
    assert _spelled_out(value) == orjson.dumps(value).decode() == json_text(value)


@pytest.mark.parametrize("text", ["[" * 1000 + "]" * 1000, '{"a":' * 1000 + "1" + "}" * 1000])
def test_what_only_the_parser_can_take_is_spelled_out(text: str) -> None:
    value = orjson.loads(text)
    assert json_text(value) == text
    assert shallow({"a": 1, "deep": value}) == {"a": 1, "deep": text}


def test_a_shallow_record_keeps_what_can_be_written() -> None:
    record: dict[str, object] = {"a": {"b": [1, 2]}, "lone": "\ud800", "c": orjson.Fragment(b"1")}
    made = shallow(record)
    assert made["a"] == {"b": [1, 2]}
    assert orjson.loads(orjson.dumps(made))["lone"] == '"?"'


def test_the_standard_library_would_not_do() -> None:
    value = orjson.loads("[" * 1000 + "]" * 1000)
    with pytest.raises(RecursionError):
        json.loads("[" * sys.getrecursionlimit() * 50)
    assert json_text(value).count("[") == 1000
