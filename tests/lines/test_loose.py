"""What loggers print for JSON is read where its meaning is plain, and nothing raises."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.lines import loose


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"a":NaN,"b":[Infinity,-Infinity]}', {"a": "NaN", "b": ["Infinity", "-Infinity"]}),
        (b'{"a":1e400,"b":-1e400,"c":1e-400}', {"a": "1e400", "b": "-1e400", "c": 0.0}),
        (b'{"a":18446744073709551616}', {"a": 18446744073709551616.0}),
        (b'{"a":18446744073709551615,"b":-9223372036854775808}', {"a": 2**64 - 1, "b": -(2**63)}),
        (b'{"a":%b}' % (b"9" * 5000), {"a": "9" * 5000}),
        (b'{"a":"\\ud800","\\udc00":1}', {"a": "?", "?": 1}),
        (b'{"a":"\\ud83d\\ude42 \\\\ud800"}', {"a": "🙂 \\ud800"}),
        (b'{"a":"tab\tand\x01 \x7f"}', {"a": "tab\tand\x01 \x7f"}),
        (b'{"a":"caf\xe9"}', {"a": "caf\ufffd"}),
        (b'{ "a":NaN,"a":2}', {"a": 2}),
        (b"{ }", {}),
    ],
)
def test_this_is_read(line: bytes, expected: dict[str, Any]) -> None:
    assert loose.loads(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"{'a': 1}", b'{"a":nan}', b'{"a":1', b'{"a":1}x', b"[NaN]", b"NaN", b"{", b"}", b"", b'{"a":NaN,}', b"{{}}",
        b'{"a":' * 501 + b"NaN" + b"}" * 501 + b'{"b":' * 500, b'{"a":' * 10_000 + b"NaN" + b"}" * 10_000,
        b'{"a":' + b"[" * 999 + b"NaN" + b"]" * 999 + b"}",
    ],
)  # fmt: skip
def test_this_is_none(line: bytes) -> None:
    assert loose.loads(line) is None


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(alphabet=st.characters(exclude_categories=()))
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.booleans())
def test_whatever_pythons_json_prints_is_read_and_can_be_written(value: dict[str, Any], ensure_ascii: bool) -> None:
    line = json.dumps(value, ensure_ascii=ensure_ascii).encode(errors="surrogatepass")
    found = loose.loads(line)
    assert found is not None
    assert orjson.loads(orjson.dumps(found)) == found
    try:
        assert orjson.loads(line) == found
    except orjson.JSONDecodeError:
        pass


@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=5), st.data())
def test_nothing_is_raised(value: dict[str, Any], data: st.DataObject) -> None:
    line = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    found = loose.loads(bytes(line))
    assert found is None or not any(isinstance(inner, float) and math.isinf(inner) for inner in found.values())
