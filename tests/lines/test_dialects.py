"""Loggers that keep message and level inside of other objects, and objects that only look like theirs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.lines.dialects import HINTS, lift


def lifted(found: dict[str, Any]) -> dict[str, Any]:
    lift(found)
    return found


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"fields": {"message": "m", "k": 1}}, {"fields": {"k": 1}, "message": "m"}),
        ({"log": {"level": "error"}, "message": "m"}, {"message": "m", "log.level": "error"}),
        ({"log": {"level": "error", "logger": "x"}}, {"log": {"logger": "x"}, "log.level": "error"}),
        ({"body": {"stringValue": "m"}, "severityText": "x"}, {"message": "m", "severityText": "x"}),
        ({"body": "m", "severity_text": "x"}, {"message": "m", "severity_text": "x"}),
        ({"severityNumber": 24}, {"severityNumber": 24, "severityText": "fatal"}),
        ({"severity_number": 1, "severity_text": ""}, {"severity_number": 1, "severity_text": "trace"}),
        ({"severityNumber": 9, "severityText": "Odd"}, {"severityNumber": 9, "severityText": "Odd"}),
        # loguru: names of the record that are taken stay in it, and so does what is bound under one of them
        ({"text": "m\n", "record": {"message": "m"}}, {"message": "m"}),
        (
            {"text": "m\n", "record": {"message": "m", "level": {"name": "INFO", "no": 20}, "name": "a"}, "name": "b"},
            {"message": "m", "level": "INFO", "name": "b", "record": {"name": "a"}},
        ),
        (
            {"text": "m", "record": {"message": "m", "name": "a", "extra": {"name": "b", "k": 1}}},
            {"message": "m", "name": "a", "k": 1, "extra": {"name": "b"}},
        ),
        ({"text": "m", "record": {"message": "m", "extra": 5}}, {"message": "m", "extra": 5}),
        ({"text": "m", "record": {"message": "m", "exception": {}}}, {"message": "m", "exception": {}}),
    ],
)
def test_what_is_inside_is_lifted(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert lifted(found) == expected


@pytest.mark.parametrize(
    "found",
    [
        {"record": {"message": "m"}}, {"record": {"level": {}}, "text": "m"}, {"record": 5, "text": "m"},
        {"record": {"message": "m"}, "text": 5}, {"fields": {"k": 1}}, {"fields": {"message": 1}},
        {"fields": {"message": "m"}, "message": "n"}, {"fields": "x"}, {"fields": []}, {"log": "text"},
        {"log": {"level": 5}}, {"log": {"level": "x"}, "log.level": "y"}, {"body": "m"},
        {"body": {"stringValue": "m"}}, {"body": {"stringValue": 1}, "severityText": "x"},
        {"body": [], "severityText": "x"},
        {"body": {"stringValue": "m", "k": 1}, "severityText": "x"}, {"body": {}, "severityText": "x"},
        {"body": "m", "message": "n", "severityText": "x"}, {"severityNumber": 0}, {"severityNumber": 25},
        {"severityNumber": True}, {"severityNumber": "9"}, {"severityNumber": 9.0}, {"severityNumber": None},
    ],
)  # fmt: skip
def test_what_only_looks_like_it_stays(found: dict[str, Any]) -> None:
    assert lifted(copy.deepcopy(found)) == found


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 30) | st.sampled_from(["error", "m", ""]),
    lambda inner: st.dictionaries(
        st.sampled_from(["message", "level", "name", "extra", "time", "timestamp", "process", "id", "stringValue"]),
        inner,
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*sorted(HINTS), "text", "message", "k"]), VALUES))
def test_whatever_it_holds_nothing_is_raised(found: dict[str, Any]) -> None:
    lift(found)
