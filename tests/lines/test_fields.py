"""Errors and traces come under one name each, whatever logger wrote them, and nothing else changes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.fields import RARE, refine, span, trace
from shipper.lines.problems import describe
from shipper.lines.text import clean

CAPTURE_MS = 1_795_495_000_000
SAMPLES = sorted((Path(__file__).parents[2] / "demo" / "lines").glob("*.log"))
PYTHON = (
    'Traceback (most recent call last):\n  File "/app/agent.py", line 3, in entrypoint\n    fail()\n'
    "livekit.rtc.ConnectError: no way: 401\nand more of it"
)
NODE = "TypeError: no way: 401\n    at entry (file:///app/agent.mjs:11:5)\n    at async run (file:///a.js:9:16)"
GO = "main.main\n\t/app/main.go:12"
HEX, SHORT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def decoded(line: bytes) -> dict[str, Any]:
    """What the line becomes, without time and number."""
    (record,) = Decoder().decode(Batch(1, [line], 1, [(0, CAPTURE_MS * 10**6)], {})).records
    return {name: value for name, value in record.items() if name not in ("timestamp", "seq")}


def python(**more: object) -> dict[str, Any]:
    kind, said = "livekit.rtc.ConnectError", "no way: 401\nand more of it"
    return {"message": "m", "error.kind": kind, "error.message": said, "error.stack": PYTHON, **more}


def node(**more: object) -> dict[str, Any]:
    return {"message": "m", "error.kind": "TypeError", "error.message": "no way: 401", "error.stack": NODE, **more}


@pytest.mark.parametrize(
    ("given_fields", "expected"),
    [
        # Python: the traceback stands in the message too, alone, before stack_info, or is all of it.
        ({"message": "m", "exc_info": PYTHON}, python()),
        ({"message": f"m\n{PYTHON}", "exc_info": PYTHON}, python()),
        ({"message": f"m\n{PYTHON}\n", "exc_info": f"{PYTHON}\n"}, python(**{"error.stack": f"{PYTHON}\n"})),
        ({"message": f"m\n{PYTHON}\nStack (most", "exc_text": PYTHON}, python(message="m\nStack (most")),
        (
            {"message": f"\n{PYTHON}", "exc_info": PYTHON},
            python(message="livekit.rtc.ConnectError: no way: 401\nand more of it"),
        ),
        ({"message": "m", "exc_info": PYTHON, "exc_text": PYTHON}, python()),
        ({"message": "m", "exc_info": PYTHON, "stack_info": "Stack\n  x"}, python(stack_info="Stack\n  x")),
        ({"event": "m", "exception": PYTHON}, python()),
        ({"message": "m", "exc_info": PYTHON, "error": "401"}, python(**{"error.message": "401"})),
        (
            {"message": "m", "exc_info": "ValueError: never raised"},
            {
                "message": "m",
                "error.kind": "ValueError",
                "error.message": "never raised",
                "error.stack": "ValueError: never raised",
            },
        ),
        (
            {"message": "m", "exc_info": "KeyboardInterrupt"},
            {"message": "m", "error.kind": "KeyboardInterrupt", "error.stack": "KeyboardInterrupt"},
        ),
        (
            {"message": "m", "stack_info": "Stack (most recent call last):\n  x"},
            {"message": "m", "error.stack": "Stack (most recent call last):\n  x"},
        ),
        # pino, Bunyan, LiveKit's Node SDK, log4j2.
        ({"msg": "m", "err": {"type": "TypeError", "message": "no way: 401", "stack": NODE}}, node()),
        (
            {
                "msg": "m",
                "error": {
                    "type": "TypeError",
                    "message": "no way: 401",
                    "stack": NODE,
                    "code": 7,
                    "kind": "x",
                    "cause": {"a": 1},
                },
            },
            node(**{"error.code": 7, "error.error.kind": "x", "error.cause": {"a": 1}}),
        ),
        ({"msg": "m", "err": {"name": "TypeError", "message": "no way: 401", "stack": NODE}}, node()),
        ({"msg": "m", "err": {"stack": NODE}}, node()),
        ({"msg": NODE, "err": {"stack": NODE}}, node(message="TypeError: no way: 401")),
        (
            {"msg": "m", "error": {"type": "E", "message": "a"}, "err": {"type": "F", "message": "b"}},
            {"message": "m", "error.kind": "E", "error.message": "a", "err": {"type": "F", "message": "b"}},
        ),
        (
            {"message": "m", "thrown": {"name": "java.E", "message": "a", "extendedStackTrace": "java.E: a\n\tat x"}},
            {"message": "m", "error.kind": "java.E", "error.message": "a", "error.stack": "java.E: a\n\tat x"},
        ),
        ({"level": "error", "message": "m", "stack": NODE}, node()),
        ({"msg": "m", "error": NODE}, node()),
        # zap, logrus, zerolog, LiveKit's retries.
        (
            {"msg": "m", "error": "401", "errorVerbose": f"401\n{GO}", "stacktrace": GO},
            {"message": "m", "error.message": "401", "error.stack": f"401\n{GO}", "stacktrace": GO},
        ),
        (
            {"msg": "m", "error": "401", "errorVerbose": "401", "stacktrace": GO},
            {"message": "m", "error.message": "401", "error.stack": GO, "errorVerbose": "401"},
        ),
        (
            {"message": "m", "error": "401", "stack": [{"func": "f"}]},
            {"message": "m", "error.message": "401", "stack": [{"func": "f"}]},
        ),
        ({"message": "m", "err": "401"}, {"message": "m", "error.message": "401"}),
        # OpenTelemetry, Elastic, Google Cloud.
        (
            {
                "message": "m",
                "exception.type": "TypeError",
                "exception.message": "no way: 401",
                "exception.stacktrace": NODE,
            },
            node(),
        ),
        (
            {"message": "m", "error.type": "TypeError", "error.message": "no way: 401", "error.stack_trace": NODE},
            node(),
        ),
        ({"message": "m", "stack_trace": NODE}, node()),
        # None of these is an error, or has room.
        ({"message": "m", "error": 5}, {"message": "m", "error": 5}),
        (
            {"message": "m", "error": None, "err": False, "exception": []},
            {"message": "m", "error": None, "err": False, "exception": []},
        ),
        ({"message": "m", "error": ""}, {"message": "m", "error": ""}),
        (
            {"message": "m", "error": {"code": 5, "message": "no type"}},
            {"message": "m", "error": {"code": 5, "message": "no type"}},
        ),
        ({"message": "m", "exc_info": True}, {"message": "m", "exc_info": True}),
        (
            {"message": "m\nNoneType: None", "exc_info": "NoneType: None"},
            {"message": "m\nNoneType: None", "exc_info": "NoneType: None"},
        ),
        ({"message": "m", "exc_info": "yes"}, {"message": "m", "exc_info": "yes"}),
        ({"message": "m", "exception": "none so far"}, {"message": "m", "exception": "none so far"}),
        (
            {"message": "m", "stack": "# loop thread sampled 82 ms into it\n  File x"},
            {"message": "m", "stack": "# loop thread sampled 82 ms into it\n  File x"},
        ),
        ({"message": "m", "error": "a", "err": "b"}, {"message": "m", "error.message": "a", "err": "b"}),
    ],
)
def test_an_error_comes_under_one_name(given_fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert decoded(orjson.dumps(given_fields)) == expected


@pytest.mark.parametrize(
    ("given_fields", "expected"),
    [
        ({"otelTraceID": HEX, "otelSpanID": SHORT}, (HEX, SHORT)),
        ({"traceId": HEX.upper(), "spanId": SHORT.upper()}, (HEX, SHORT)),
        ({"traceID": HEX, "spanID": "no"}, (HEX, "")),
        ({"trace.id": HEX}, (HEX, "")),
        ({"trace": {"id": HEX}, "span": {"id": SHORT}}, (HEX, SHORT)),
        (
            {"logging.googleapis.com/trace": f"projects/p/traces/{HEX}", "logging.googleapis.com/spanId": SHORT},
            (HEX, SHORT),
        ),
        ({"traceparent": f"00-{HEX}-{SHORT}-01"}, (HEX, SHORT)),
        ({"dd.trace_id": HEX, "dd.span_id": "13235353014750950193"}, (HEX, SHORT)),
        ({"dd": {"trace_id": "255", "span_id": "16"}}, ("ff".zfill(32), "10".zfill(16))),
        ({"dd.trace_id": 255}, ("ff".zfill(32), "")),
        ({"traceId": SHORT}, (SHORT, "")),
        ({"trace_id": HEX.upper(), "span_id": SHORT}, (HEX, SHORT)),
        ({"trace_id": HEX, "otelTraceID": "f" * 32}, (HEX, "")),
        ({"otelTraceID": "0", "otelSpanID": "0"}, ("", "")),
        ({"otelTraceID": "0" * 32, "otelSpanID": "0" * 16}, ("", "")),
        ({"traceId": "not-a-trace", "trace": "on", "dd": 5}, ("", "")),
        ({"traceId": HEX + "\n"}, ("", "")),
        ({"trace_id": 5, "span_id": [1]}, ("", "")),
        ({"dd.trace_id": "99999999999999999999"}, ("", "")),
        ({"dd.trace_id": -1, "dd.span_id": 2.5}, ("", "")),
        ({"traceparent": f"00-{'0' * 32}-{SHORT}-01"}, ("", "")),
    ],
)
def test_a_trace_of_any_form_is_read_beside_what_the_line_has(
    given_fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    record = decoded(orjson.dumps({"msg": "m", **given_fields}))
    assert (trace(record), span(record)) == expected
    assert given_fields.items() <= record.items()
    added = record.keys() - given_fields.keys() - {"message"}
    assert added <= {"trace_id", "span_id"}
    assert bool(added) == (bool(expected[0]) and "trace_id" not in given_fields)


def test_a_camel_cased_room_and_job_arrive_as_pythons() -> None:
    assert decoded(b'{"msg":"m","jobId":"AJ_1","roomId":"RM_1"}') == {
        "message": "m",
        "job_id": "AJ_1",
        "room_id": "RM_1",
    }
    assert decoded(b'{"msg":"m","roomId":"a","room_id":"b"}') == {"message": "m", "roomId": "a", "room_id": "b"}


@pytest.mark.parametrize("place", [0, 64, 127])
def test_one_error_among_usual_lines_changes_none_of_them(place: int) -> None:
    usual = b'{"message":"m","level":"INFO","pid":7,"timestamp":"2026-11-24T04:00:00.5+00:00"}'
    lines = [usual] * 127
    odd = orjson.dumps({"message": f"m\n{PYTHON}", "level": "ERROR", "exc_info": PYTHON})
    lines.insert(place, odd)
    records = Decoder().decode(Batch(1, lines, 1, [(0, CAPTURE_MS * 10**6)], {})).records
    assert [index for index, record in enumerate(records) if "error.stack" in record] == [place]
    assert records[place]["message"] == "m"


NAMES = st.one_of(
    st.sampled_from(
        sorted(RARE | {"error.kind", "error.message", "error.stack", "message", "trace_id", "span", "room_id"})
    ),
    st.text(max_size=4),
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [PYTHON, NODE, GO, f"m\n{PYTHON}", "Traceback (most recent call last):", "ValueError: x", HEX, SHORT, "7"]
    ),
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    TEXTS,
    st.lists(TEXTS, max_size=2),
    st.dictionaries(
        st.sampled_from(["type", "message", "stack", "name", "code", "id", "trace_id", "kind", "error.kind"]),
        TEXTS,
        max_size=5,
    ),
)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_twice_is_once_and_no_value_is_lost(fields: dict[str, Any]) -> None:
    record = {"message": "m", "timestamp": 1, "seq": 1, **copy.deepcopy(fields)}
    refine(record)
    again = copy.deepcopy(record)
    refine(again)
    assert again == record
    assert list(again) == list(record)

    def leaves(value: object) -> list[object]:
        if isinstance(value, dict):
            return [leaf for inner in value.values() for leaf in leaves(inner)]
        return [value]

    arrived = leaves(record)
    for name, value in fields.items():
        if name != "message":
            for leaf in leaves(value):
                assert leaf in arrived or (isinstance(leaf, str) and clean(leaf) in arrived)


@given(
    st.lists(
        st.sampled_from([*PYTHON.split("\n"), "", " x", "    ^^^", "KeyError", "a.B: c", "E: ", "x: y", "+ more"]),
        max_size=9,
    )
)
def test_kind_and_message_are_those_of_a_joined_traceback(lines: list[str]) -> None:
    stack = "\n".join(["Traceback (most recent call last):", *lines])
    record: dict[str, object] = {"message": "m", "exc_info": stack}
    refine(record)
    problem = describe(clean(stack)) if lines else None
    if problem is not None and problem.kind:
        assert (record.get("error.kind"), record.get("error.message", "")) == (problem.kind, problem.message)


@pytest.mark.parametrize("size", [1_000, 1_000_000])
@pytest.mark.parametrize("unit", ["a", "a.", " ", "\n", "\n ", "x\n", "E: ", "Traceback ", "\n    at", "0"])
def test_long_texts_are_harmless(unit: str, size: int) -> None:
    text = unit * (size // len(unit))
    record: dict[str, object] = {
        "message": f"m\n{text}",
        **dict.fromkeys(("exc_info", "stack", "error", "traceId", "exception"), text),
    }
    refine(record)
    assert text in [value for name, value in record.items() if name != "message"]
