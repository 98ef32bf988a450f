"""The journal's own small JSON, and the facts that it carries."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.journal.facts import Facts, dump_json, load_json, new_run_id
from tests.journal.journal_model import facts

text = st.text(st.characters(), max_size=20)  # surrogates too: an undecodable argument holds some
values = st.recursive(
    st.none() | st.booleans() | st.integers() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(text, values, max_size=5))
def test_it_writes_what_json_writes_and_reads_it_back(value: dict[str, object]) -> None:
    written = dump_json(value)
    assert written == json.dumps(value, separators=(",", ":")).encode()
    assert load_json(written) == value


@given(st.binary(max_size=60) | st.text('{}[]":,0 1ntrue', max_size=30).map(str.encode))
def test_what_is_no_object_of_ours_is_a_value_error(data: bytes) -> None:
    try:
        value = load_json(data)
    except ValueError:
        return
    assert json.loads(data) == value


def test_what_has_no_place_in_the_journal_is_refused() -> None:
    with pytest.raises(TypeError, match="float"):
        dump_json({"a": 1.5})


def test_facts_come_back_as_they_went() -> None:
    before = facts()
    after = Facts.from_json(load_json(dump_json(before.to_json())))
    assert after.to_json() == before.to_json()


def test_run_ids_are_random_and_fit_a_directory_name() -> None:
    assert len({new_run_id() for _ in range(1000)}) == 1000
    assert all(len(new_run_id()) == 16 for _ in range(10))


@pytest.mark.parametrize("data", [b'{"a":1e999}', b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":0.5}', b'{"a":' * 100_000])
def test_what_would_make_a_reader_fail_later_is_a_value_error_too(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no such number|not JSON"):
        load_json(data)
