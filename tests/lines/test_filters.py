"""What of the lines is left out, and what in them is changed, as the settings ask for it."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.lines.batch import Batch
from shipper.lines.engine import RE2
from shipper.lines.filters import BELOW, EXCLUDED, HIDDEN, KEPT, Filters, Pattern, make
from shipper.lines.levels import DEBUG, ERROR, INFO, WARNING
from shipper.lines.masking import Masker
from shipper.lines.plain import plain

KEY = "pub0123456789ABCdef"
ENGINES = {"re2": RE2, "without re2": None}


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> object:
    return ENGINES[request.param]


def filters(
    engine: object = RE2, *, level: int = 0, exclude: str = "", redact: tuple[str, ...] = (), pii: str = "keep"
) -> Filters:
    made, problems = make(level, exclude, redact, pii, engine)
    assert problems == []
    assert made is not None
    return made.with_key(b"key of the run")


def record(**fields: object) -> dict[str, object]:
    return {"message": "a message", "timestamp": 1_700_000_000_000, "seq": 7, **fields}


def test_where_nothing_is_set_there_are_no_filters() -> None:
    assert make(0, "", (), "keep") == (None, [])


def test_records_below_the_least_level_are_left_out() -> None:
    records = [record() for _ in range(4)]
    assert filters(level=WARNING).apply(records, [DEBUG, WARNING, INFO, ERROR]) == bytes([BELOW, KEPT, BELOW, KEPT])
    assert filters(level=WARNING).apply(records, [ERROR] * 4) is None


@pytest.mark.parametrize(
    ("pattern", "excluded"),
    [
        ("health", [1, 3]),
        ("^GET", [1]),
        ("200$", [1]),
        (r"\AGET /health", [1]),
        ('"path":"/health"', [3]),
        ("(?i)INFO:", [2]),
        ("[^x]*", [0, 1, 2, 3, 4]),
        ("second", [4]),
        ("nowhere", []),
    ],
)
def test_a_line_that_holds_the_expression_as_it_was_printed_is_left_out(
    pattern: str, excluded: list[int], engine: object
) -> None:
    lines = [b"", b"GET /health 200", b"\x1b[32mInfo\x1b[0m: up", b'{"message":"x","path":"/health"}', b"first\nsecond"]
    verdict = filters(engine, exclude=pattern).apply([record() for _ in lines], [INFO] * len(lines), lines)
    assert [index for index, one in enumerate(verdict or b"") if one == EXCLUDED] == excluded
    assert lines[2] == b"\x1b[32mInfo\x1b[0m: up"


def test_what_is_to_be_redacted_goes_from_texts_numbers_and_names_and_not_from_what_is_ours(engine: object) -> None:
    records = [
        record(),
        record(
            message="card 4111111111111111, twice 4111111111111111",
            card=4111111111111111,
            list=["x4111111111111111", 1.5, None, True],
            nested={"4111111111111111": {"deep": "bob@example.com"}},
            part=1,
        ),
        record(**{"mail of bob@example.com": 1}),
        record(message="start here", field="no start here"),
    ]
    made = filters(engine, redact=(r"\d{13,16}", r"\w+@\w+\.com", "^start"))
    assert made.apply(records, [INFO] * 4) is None
    assert records == [
        record(),
        record(
            message=f"card {HIDDEN}, twice {HIDDEN}",
            card=HIDDEN,
            list=[f"x{HIDDEN}", 1.5, None, True],
            nested={HIDDEN: {"deep": HIDDEN}},
            part=1,
        ),
        record(**{f"mail of {HIDDEN}": 1}),
        record(message=f"{HIDDEN} here", field="no start here"),
    ]
    assert made.redacted == 8


def test_names_that_come_to_be_the_same_lose_no_field() -> None:
    (found,) = records = [record(a1=1, a2=2, own={"b1": 1, "b2": 2})]
    filters(redact=("[0-9]",)).apply(records, [INFO])
    assert set(found) == {"message", "timestamp", "seq", "own", f"a{HIDDEN}", f"a{HIDDEN} 2"}
    assert found["own"] == {f"b{HIDDEN}": HIDDEN, f"b{HIDDEN} 2": HIDDEN}


TRANSCRIPT = "lk.pii.user_transcript"


@pytest.mark.parametrize("pii", ["drop", "hash"])
def test_fields_of_livekits_mark_are_left_out_or_hashed_wherever_they_stand(pii: str) -> None:
    line: dict[str, Any] = {
        "message": "received user transcript",
        TRANSCRIPT: "hello",
        "nested": [{TRANSCRIPT: "hello", "language": "en"}],
        "lk": {"pii": {"name": "bob"}, "other": 1},
        "lk.pii": {"all": "of it"},
        "lk.pix": "stays",
    }
    records: list[dict[str, Any]] = [copy.deepcopy(line), record()]
    made = filters(pii=pii)
    lines = [json.dumps(line).encode(), b"a message"]
    made.apply(records, [DEBUG, INFO], lines)
    first = records[0]
    text = json.dumps(first)
    assert not any(word in text for word in ("hello", "bob", "of it"))
    assert first["lk.pix"] == "stays"
    assert ("hello" in lines[0].decode()) is True
    assert made.hidden == 4
    if pii == "hash":
        (nested,) = first["nested"]
        assert first[TRANSCRIPT] == nested[TRANSCRIPT]
        assert len(str(first[TRANSCRIPT])) == 16
        again = [copy.deepcopy(line)]
        filters(pii=pii).apply(again, [DEBUG])
        assert again[0] == first
        other = [copy.deepcopy(line)]
        made.with_key(b"another run's").apply(other, [DEBUG])
        assert other[0][TRANSCRIPT] != first[TRANSCRIPT]
    else:
        assert first == {
            "message": "received user transcript",
            "nested": [{"language": "en"}],
            "lk": {"other": 1},
            "lk.pix": "stays",
        }


@pytest.mark.parametrize(
    ("printed", "left"),
    [
        (
            'received {"lk.pii.text": "hel\\"lo", "language": "en"}',
            'received {"lk.pii.text": "[REDACTED]", "language": "en"}',
        ),
        ('{"lk.pii.a": {"b": ["hello"]}} and more', '{"lk.pii.a": "[REDACTED]"} and more'),
        ("{'lk.pii.text': 'hello', 'x': 1}", "{'lk.pii.text': [REDACTED]"),
        ('"{\\"lk.pii.text\\": \\"hello\\"}"', '"{\\"lk.pii.text\\": [REDACTED]'),
        ("lk.pii.text=hello x=1", "lk.pii.text=[REDACTED]"),
        ("the mark lk.pii.text stays", "the mark lk.pii.text stays"),
    ],
)
def test_marked_fields_within_a_text_are_replaced_and_what_cannot_be_told_apart_with_them(
    printed: str, left: str
) -> None:
    records = [record(message=printed)]
    filters(pii="drop").apply(records, [INFO])
    assert records[0]["message"] == left
    assert filters(pii="drop").text(printed) == left


def test_later_pieces_of_a_line_may_go_on_with_what_is_marked() -> None:
    records = [record(message="a", part=1), record(message="b", part=2)]
    filters(pii="drop").apply(records, [INFO, INFO])
    assert [one["message"] for one in records] == ["a", HIDDEN]
    assert filters(pii="drop").text("b", part=2) == HIDDEN
    assert filters(redact=("x",)).text("b", part=2) == "b"


def test_lines_that_are_sent_themselves_are_changed_in_the_same_way() -> None:
    line = {"message": "call 555-1234", TRANSCRIPT: "hello", "n": 5551234}
    lines = [json.dumps(line).encode(), b"555-1234 plain \xff", b"other"]
    records = [copy.deepcopy(line), record(message="555-1234 plain \ufffd"), record(message="other")]
    made = filters(redact=(r"555-?1234",), pii="drop")
    made.apply(records, [INFO] * 3, lines, rewrite=True)
    assert orjson.loads(lines[0]) == {"message": f"call {HIDDEN}", "n": HIDDEN}
    assert lines[1:] == [f"{HIDDEN} plain \ufffd".encode(), b"other"]
    assert (made.redacted, made.hidden) == (3, 1)


@pytest.mark.parametrize("pattern", ["(", "(?<=a)b", r"a\d{5000}", "[z-a]", r"(((\d{100}){100}){10})"])
def test_a_pattern_that_is_none_is_named_with_the_reason_and_the_others_act(pattern: str) -> None:
    made, problems = make(INFO, pattern, ("secret", pattern), "keep")
    assert made is not None
    assert [variable for variable, _ in problems] == ["SHIPPER_EXCLUDE", "SHIPPER_REDACT"]
    assert problems[0][1].startswith("SHIPPER_EXCLUDE is no regular expression of RE2's (")
    assert problems[0][1].endswith("): nothing is excluded")
    assert problems[1][1].startswith("expression 2 of SHIPPER_REDACT is no regular expression of RE2's (")
    records = [record(message="secret")]
    assert made.apply(records, [INFO]) is None
    assert records[0]["message"] == HIDDEN


values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("lk.pii.x"), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=5), values, max_size=4), max_size=5), st.sampled_from(["drop", "hash"])
)
def test_nothing_raises_and_what_is_found_in_no_text_changes_nothing(fields: list[dict[str, Any]], pii: str) -> None:
    records = [{**one, **record(message="m")} for one in fields]
    before = copy.deepcopy(records)
    lines = [orjson.dumps(one) for one in records]
    made = filters(redact=("[\u4e00]{3}zzz",), exclude="[\u4e00]{3}zzz")
    assert made.apply(records, [INFO] * len(records), lines) is None
    assert records == before
    made = filters(redact=(r"\d", "a*"), pii=pii, exclude=r"\d", level=WARNING)
    assert made.apply(records, [INFO] * len(records), list(lines), rewrite=True) in (
        None,
        bytes([BELOW] * len(records)),
    )
    for one in records:
        orjson.dumps(one)
        assert one["seq"] == 7
        assert "lk.pii.x" not in one or pii == "hash"


def test_values_deeper_than_a_person_writes_are_looked_at_as_text() -> None:
    deep: Any = "secret 1"
    for _ in range(900):
        deep = {"lk.pii.a" if _ == 600 else "a": [deep]}
    records = [record(deep=deep)]
    filters(redact=("secret",), pii="drop").apply(records, [INFO])
    assert "secret" not in str(orjson.dumps(records[0]))


def test_a_pattern_finds_a_text_among_many_wherever_it_finds_it_alone() -> None:
    texts = [b"", b"a\nb", b"xay", b"a", "é".encode(), b"\xff", b"end a"]
    for pattern in ("^a$", "a", r"\ba\b", "(?s)a.b", "^$", ".", r"[^y]+a", r"\Aa\z", "(?-s:.)"):
        made = Pattern(pattern)
        assert list(made.which(texts)) == [index for index, text in enumerate(texts) if made.is_in(text)], pattern
        assert made.may_be_in(texts) or not list(made.which(texts))


def test_lines_that_are_sent_as_text_are_filtered_too() -> None:
    lines = [
        b"GET /health",
        b'{"lk.pii.a":"hello","b":"call 555"}',
        b"",
        f"key {KEY}".encode(),
        b"piece 1",
        b"piece 2",
    ]
    batch = Batch(1, lines, 1, [(0, 10**18)], {4: 1, 5: 2})
    made = filters(exclude="^GET", redact=("5+",), pii="drop", level=ERROR)
    events = plain(batch, lambda _: nullcontext(), made, Masker([KEY]))
    assert events.messages == [
        'json: {"lk.pii.a":"[REDACTED]","b":"call [REDACTED]"}',
        "key [MASKED]",
        "piece 1",
        HIDDEN,
    ]
    assert [one.get("skipped") for one in events.records] == [1, 1, None, None]
    assert events.changes == {"masked": 1, "redacted": 1, "pii": 2}
