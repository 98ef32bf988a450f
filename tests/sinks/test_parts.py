"""What several sinks share: whose a secret is, servers from variables, flat fields, moved times, texts cut to fit."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.sinks.base import SettingError
from shipper.sinks.parts import fitting, flat, fragment, kind_of, moved_to, other_server


@pytest.mark.parametrize(
    ("secret", "whose"),
    [
        ("pub0123456789abcdef0123456789abcdef", "a client token of Datadog's"),
        ("0123456789ABCDEF0123456789abcdef", "an API key of Datadog's"),
        ("eu01xx" + "0" * 30 + "NRAL", "a license key of New Relic's"),
        ("NRAK-ABCDEFGHIJKLMNOPQRSTUVWXYZ0", "a user key of New Relic's, which is no license key"),
        ("NRII-abc", "an Insights key of New Relic's, which is no license key"),
        ("AKIAIOSFODNN7EXAMPLE", "an access key id of AWS"),
        ("ASIAIOSFODNN7EXAMPLE", "an access key id of AWS"),
        ("https://0123456789abcdef0123456789abcdef@o1.ingest.sentry.io/42", "a DSN of Sentry's"),
        ("sntrys_eyJpYXQiOjE2OT", "an auth token of Sentry's, which is no DSN"),
        ("", ""),
        ("pub123", ""),
        ("0123456789abcdef0123456789abcdef01234567", ""),  # New Relic's older license keys, and many others
        ("https://o1.ingest.sentry.io/42", ""),
        ("AKIAIOSFODNN7EXAMPLE0", ""),
    ],
)
def test_a_secret_that_is_plainly_somebodys_is_told(secret: str, whose: str) -> None:
    assert kind_of(secret) == whose


def test_no_server_is_named_where_the_variable_is_empty() -> None:
    assert other_server({}, "X_URL", "X") == ""
    assert other_server({"X_URL": "  "}, "X_URL", "X") == ""
    assert other_server({"X_URL": " https://a:1/ "}, "X_URL", "X") == "https://a:1"


def test_a_server_that_is_none_is_said_with_what_is_allowed_and_what_follows() -> None:
    with pytest.raises(SettingError) as caught:
        other_server({"X_URL": "a.example/x"}, "X_URL", "Xylophone")
    assert caught.value.message == (
        'X_URL is "a.example/x", which is no scheme (http or https), host and port alone, such as '
        "https://proxy.example:8443: nothing is sent to Xylophone."
    )


def test_a_fragment_continues_an_object_from_its_first_value_on() -> None:
    record = {"seq": 1, "run": fragment({"run": "r", "host": 'h"', "lost": "s\ud800", "n": 5})}
    assert orjson.loads(orjson.dumps(record)) == {"seq": 1, "run": "r", "host": 'h"', "lost": "s?", "n": 5}


def test_nested_objects_become_names_with_dots_and_lists_their_json() -> None:
    fields = {
        "a": 1, "b": {"c": "x", "d": {"e": 1.5, "f": None}}, "g": [1, {"h": 2}], "i": None, "j": True, "k": {},
        "l": {"m": []},
    }  # fmt: skip
    assert flat(fields, 255) == {
        "a": 1, "b.c": "x", "b.d.e": 1.5, "g": '[1,{"h":2}]', "j": True, "k": "{}", "l.m": "[]",
    }  # fmt: skip


def test_a_name_that_stands_by_itself_stays_and_the_object_that_collides_is_json() -> None:
    assert flat({"a": {"b": 1, "c": 2}, "a.b": 9}, 255) == {"a.b": 9, "a": '{"b":1,"c":2}'}
    assert flat({"a.b": 9, "a": {"b": 1}}, 255) == {"a.b": 9, "a": '{"b":1}'}


def test_nothing_takes_the_place_of_another() -> None:
    assert flat({"a.b": [1], "a": {"b": [2]}}, 255) == {"a.b": "[1]", "a": '{"b":[2]}'}
    assert flat({"a.b": 1, "a": {"b": 2}, "a.json": 3}, 255) == {"a.b": 1, "a": '{"b":2}', "a.json": 3}
    assert flat({"x" * 12 + "1": 1, "x" * 12 + "2": 2, "x" * 12 + "3": 3}, 10) == {
        "x" * 10: 1, "x" * 5 + ".json": 2, "x" * 4 + ".json2": 3,
    }  # fmt: skip
    assert flat({"x" * 12: 1, "x" * 11: [2], "x" * 10: 3}, 10) == {
        "x" * 10: 3, "x" * 5 + ".json": 1, "x" * 4 + ".json2": "[2]",
    }  # fmt: skip


def test_names_are_at_most_so_long() -> None:
    assert flat({"x" * 20: 1}, 10) == {"x" * 10: 1}
    assert flat({"x" * 8: {"y": 1}}, 10) == {"x" * 8 + ".y": 1}
    assert flat({"x" * 9: {"y": 1}}, 10) == {"x" * 9: '{"y":1}'}
    assert flat({"a": {"b" * 10: {"c": 1}}}, 10) == {"a": '{"bbbbbbbbbb":{"c":1}}'}


def test_nesting_without_end_is_no_harm() -> None:
    deep: object = 1
    for _ in range(1000):
        deep = {"n": deep}
    (name,) = flat({"deep": deep}, 255)
    assert len(name) <= 255


NAMES = st.text("ab.", min_size=1, max_size=4)
NUMBERS = st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text("x", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def scalars(value: object) -> int:
    if isinstance(value, dict):
        return sum(map(scalars, value.values()))
    if isinstance(value, list):
        return sum(map(scalars, value))
    return 0 if value is None else 1


def scalars_of_text(value: object) -> int:
    return scalars(orjson.loads(value)) if isinstance(value, str) and value[:1] in ("[", "{") else 1


@given(st.dictionaries(NAMES, VALUES, max_size=6), st.integers(4, 12))
def test_whatever_comes_out_is_flat_short_named_and_the_top_level_stays(
    fields: dict[str, object], longest: int
) -> None:
    before = orjson.dumps(fields)
    out = flat(fields, longest)
    assert all(value.__class__ in (str, int, float, bool) for value in out.values())
    assert all(len(name) <= longest for name in out)
    assert scalars(fields) == sum(map(scalars_of_text, out.values()))  # nothing is lost
    for name, value in fields.items():
        if value.__class__ in (str, int, float, bool):
            assert out[name] == value
    assert orjson.dumps(fields) == before


@given(st.dictionaries(st.text("ab", min_size=6, max_size=12), VALUES, max_size=6))
def test_a_name_that_is_cut_takes_no_others_place(fields: dict[str, object]) -> None:
    out = flat(fields, 8)
    assert all(len(name) <= 8 for name in out)
    assert scalars(fields) == sum(map(scalars_of_text, out.values()))
    for name, value in fields.items():
        if len(name) <= 8 and value.__class__ in (str, int, float, bool):
            assert out[name] == value


def test_events_too_old_or_too_new_are_moved_and_the_others_stay_the_same_objects() -> None:
    records: list[dict[str, object]] = [{"timestamp": time_ms, "seq": time_ms} for time_ms in (9, 10, 20, 21)]
    moved, count = moved_to(15, records, 10, 20)
    assert count == 2
    assert moved == [
        {"timestamp": 15, "seq": 9, "original_timestamp": 9},
        {"timestamp": 10, "seq": 10},
        {"timestamp": 20, "seq": 20},
        {"timestamp": 15, "seq": 21, "original_timestamp": 21},
    ]
    assert moved[1] is records[1]
    assert records[0] == {"timestamp": 9, "seq": 9}
    assert moved_to(15, records, 10)[1] == 1


@given(st.text(), st.integers(0, 40))
def test_a_text_is_cut_to_the_longest_beginning_that_fits(text: str, room: int) -> None:
    cut = fitting(text, room)
    assert text.startswith(cut)
    assert len(orjson.dumps(cut)) - 2 <= room
    if cut != text:
        assert len(orjson.dumps(text[: len(cut) + 1])) - 2 > room
