"""What each provider gets of an error and of a trace, and what becomes of more than it takes as attributes."""

from __future__ import annotations

import importlib
from typing import Any

import orjson
import pytest

from shipper.config.registry import REGISTRY
from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.calls import Calls
from shipper.lines.decoder import Decoder
from shipper.sinks.base import Body, Sink
from tests.bodies import Event, events_in
from tests.helpers import variables

NOW_MS = 1_795_492_800_000
FACTS = Facts("0123456789abcdef", "worker-1", "agent-1", "cloud.livekit.io", (), (), 262_144, 0, "python")
SINKS = [entry.name for entry in REGISTRY]
STACK = 'Traceback (most recent call last):\n  File "/app/a.py", line 3, in f\n    fail()\nx.NoError: no\nmore'
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def sink_of(name: str) -> Sink:
    entry = next(entry for entry in REGISTRY if entry.name == name)
    module, _, attribute = entry.factory.partition(":")
    kind: type[Sink] = getattr(importlib.import_module(module), attribute)
    return kind.from_env(variables("http://127.0.0.1:9", {name}))


def encoded(name: str, *lines: bytes) -> Body:
    events = Decoder().decode(Batch(1, list(lines), 1, [(0, NOW_MS * 10**6)], {}))
    return sink_of(name).encoder(FACTS)([(events, 0, events.count)], NOW_MS)


def received(name: str, *lines: bytes) -> list[Event]:
    return events_in(name, encoded(name, *lines).data)


def message_of(event: Event) -> str:
    text: str = event["item.body"] if "item.body" in event else event["message"]
    return text


ERRORS = {
    "datadog": ("error.kind", "error.message", "error.stack"),
    "cloudwatch": ("error.kind", "error.message", "error.stack"),
    "sentry": ("exception.type", "exception.message", "exception.stacktrace"),
    "newrelic": ("error.class", "error.message", "error.stack"),
}
OURS = {"message", "level", "timestamp"}
TRACES = {  # the line's trace_id and span_id stand there, too
    "datadog": {"dd.trace_id": TRACE, "dd.span_id": str(int(SPAN, 16))},
    "cloudwatch": {},
    "sentry": {"item.trace_id": TRACE, "item.span_id": SPAN},
    "newrelic": {"trace.id": TRACE, "span.id": SPAN},
}


def test_every_sink_is_here() -> None:
    assert set(SINKS) == ERRORS.keys() == TRACES.keys()


@pytest.mark.parametrize("name", SINKS)
@pytest.mark.parametrize(
    "line",
    [
        {"message": f"m\n{STACK}", "level": "ERROR", "exc_info": STACK, "timestamp": "2026-11-24T04:00:00+00:00"},
        {"level": 50, "time": NOW_MS, "msg": "m", "err": {"type": "x.NoError", "message": "no\nmore", "stack": STACK}},
        {"severity": "ERROR", "message": "m", "exception.type": "x.NoError", "exception.stacktrace": STACK},
    ],
)
def test_an_error_arrives_once_and_under_the_providers_names(name: str, line: dict[str, Any]) -> None:
    usual = b'{"message":"m","level":"INFO","timestamp":"2026-11-24T04:00:00+00:00"}'
    for around in ([], [usual] * 3):
        event = received(name, *around, orjson.dumps(line), *around)[len(around)]
        assert message_of(event) == "m"
        assert [event.get(field) for field in ERRORS[name]] == ["x.NoError", "no\nmore", STACK]
        assert event.keys().isdisjoint(set().union(*ERRORS.values(), line) - {*ERRORS[name], *OURS})


@pytest.mark.parametrize("name", SINKS)
def test_a_trace_and_span_arrive_as_the_providers_own(name: str) -> None:
    lines = [
        orjson.dumps({"message": "m", "trace_id": TRACE.upper(), "span_id": SPAN}),
        orjson.dumps({"message": "m", "otelTraceID": TRACE, "otelSpanID": SPAN}),
        b'{"message":"m","trace_id":"none","span_id":5}',
        b"text",
    ]
    own, open_telemetry, invalid, text = received(name, *lines)
    assert TRACES[name].items() <= own.items()
    assert (own["trace_id"], own["span_id"]) == (TRACE.upper(), SPAN)
    assert TRACES[name].items() <= open_telemetry.items()
    assert (open_telemetry["otelTraceID"], open_telemetry["trace_id"]) == (TRACE, TRACE)
    assert (invalid["trace_id"], invalid["span_id"]) == ("none", 5)
    for event in (invalid, text):
        assert {key: event.get(key) for key in TRACES[name] if not key.startswith("item.")}.keys().isdisjoint(event)
        assert event.get("item.trace_id") != TRACE


@pytest.mark.parametrize(
    ("trace", "expected"),
    [(SPAN, str(int(SPAN, 16))), ("0" * 16 + SPAN, str(int(SPAN, 16))), ("0" * 15 + "1" + SPAN, "0" * 15 + "1" + SPAN)],
)
def test_datadog_gets_a_trace_of_64_bits_in_decimal_and_a_longer_one_in_hex(trace: str, expected: str) -> None:
    (event,) = received("datadog", orjson.dumps({"msg": "m", "trace_id": trace}))
    assert event["dd.trace_id"] == expected


@pytest.mark.parametrize("line", [{"dd.trace_id": "7", "dd.span_id": "8"}, {"dd": {"trace_id": "7", "span_id": "8"}}])
@pytest.mark.parametrize("name", SINKS)
def test_datadogs_own_ids_reach_every_provider(name: str, line: dict[str, Any]) -> None:
    (event,) = received(name, orjson.dumps({"msg": "m", **line}))
    if name == "datadog":
        assert line.items() <= event.items()
        assert event.keys() - line.keys() >= {"trace_id", "span_id"}
    expected = {"sentry": "item.trace_id", "newrelic": "trace.id"}.get(name, "trace_id")
    assert event[expected] == "7".zfill(32)


@pytest.mark.parametrize("depth", [1, 2, 9, 10, 11, 12, 300])
def test_datadog_gets_objects_as_deep_as_it_takes_them_and_what_is_deeper_as_text(depth: int) -> None:
    (event,) = received("datadog", orjson.dumps({"msg": "m", "k": 7}).replace(b"7", nested_json(depth)))
    value, levels = event["k"], 1
    while isinstance(value, dict):
        value, levels = value["a"], levels + 1
    assert levels == min(depth, 10)
    assert value == "the bottom" if depth <= 10 else value.startswith('{"a":')


def nested_json(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b'"the bottom"' + b"}" * (depth - 1)


@pytest.mark.parametrize("number", [100, 200, 256, 1000])
def test_datadog_gets_as_many_attributes_as_it_takes_and_the_others_as_text(number: int) -> None:
    fields = {f"k{index}": index for index in range(number)}
    for inner in (fields, {"in": fields}, {f"o{i}": {"a": i, "b": i} for i in range(number // 2)}):
        (event,) = received("datadog", orjson.dumps({"msg": "m", **inner, "job_id": "AJ_1", "exc_info": STACK}))
        assert (event["job_id"], event["error.kind"]) == ("AJ_1", "x.NoError")
        assert leaves(event) <= 256
        rest = orjson.loads(event.get("agent.fields", "{}"))
        assert {**event, **rest}.items() >= inner.items()
        assert ("agent.fields" in event) == (number > 200)


def leaves(value: object) -> int:
    return sum(map(leaves, value.values())) if isinstance(value, dict) else 1


LIMITS = {"datadog": 5_000_000, "cloudwatch": 1_048_576 - 26, "sentry": 2 << 20, "newrelic": 128_000}


@pytest.mark.parametrize("name", SINKS)
@pytest.mark.parametrize("character", ["é", "漢", "🙂", '"'])
def test_a_text_at_the_providers_limit_is_cut_between_characters_and_marked(name: str, character: str) -> None:
    size = len(character.encode())
    for over in (*range(4), 4000):
        count = (LIMITS[name] + over) // size
        line = f"<{'x' * (over % 4)}{character * count}>".encode()
        body = encoded(name, line)
        (event,) = events_in(name, body.data)
        message = message_of(event)
        message.encode()  # no half of a pair
        if name == "cloudwatch":
            assert body.size <= 1_048_576
        whole = line.decode()
        if event.get("truncated"):
            assert whole.startswith(message)
            assert body.truncated == 1
            cost = len(orjson.dumps(message)) if name != "newrelic" else len(message.encode())
            assert cost > LIMITS[name] - 2000  # all that there is room for
        else:
            assert message == whole
            assert body.truncated == 0
            assert over <= 0 or name != "newrelic"


HARMLESS = {
    "NaN": "NaN",
    "-Infinity": "-Infinity",
    "1e400": "1e400",
    "123456789012345678901234567890": 1.2345678901234568e29,
    "9" * 5000: "9" * 5000,
    "18446744073709551615": 2**64 - 1,
    '"\\ud800"': "?",
    '"a\\u0000b"': "a\x00b",
    '"\x01"': "\x01",
    '1,"k":2,"k":3': 3,
}


@pytest.mark.parametrize("name", SINKS)
@pytest.mark.parametrize("printed", HARMLESS, ids=lambda printed: printed[:20])
def test_an_odd_value_costs_its_line_neither_level_nor_message(name: str, printed: str) -> None:
    usual = b'{"message":"usual","level":"INFO"}'
    line = f'{{"message":"m","level":"ERROR","k":{printed},"job_id":"AJ_1"}}'.encode()
    before, event, after = received(name, usual, line, usual)
    assert message_of(before) == message_of(after) == "usual"
    assert message_of(event) == "m"
    assert event.get("status", event.get("level", event.get("item.level"))) == "error"
    assert event["job_id"] == "AJ_1"
    expected = HARMLESS[printed]
    if name == "sentry" and expected == 2**64 - 1:  # Relay's integers are signed
        expected = str(expected)
    assert event["k"] == expected


@pytest.mark.parametrize("name", SINKS)
@pytest.mark.parametrize("depth", [253, 300, 1000, 10_000])
def test_nesting_of_any_depth_is_harmless(name: str, depth: int) -> None:
    for opening, closing in (('{"a":', "}"), ("[", "]")):
        line = f'{{"message":"m","k":{opening * depth}1{closing * depth}}}'
        (event,) = received(name, line.encode())
        assert message_of(event) in ("m", line)
        assert depth > 1000 or message_of(event) == "m"
        assert "1" in str(event)


@pytest.mark.parametrize("name", SINKS)
def test_pinos_host_name_does_not_take_the_hosts_place(name: str) -> None:
    line = b'{"level":30,"time":1795492800000,"pid":7,"hostname":"vm","pid":7,"msg":"m"}'
    (event,) = received(name, line)
    assert (event["agent.hostname"], event["pid"]) == ("vm", 7)
    assert "vm" not in (event.get("host"), event.get("hostname"), event.get("server.address"))
    assert "worker-1" in (event.get("host"), event.get("hostname"))


WORKER = {"datadog": "worker_id", "cloudwatch": "worker_id", "newrelic": "worker_id", "sentry": "agent.worker_id"}


@pytest.mark.parametrize("name", SINKS)
@pytest.mark.parametrize("tags", [(), (("worker_id", "t"),)])
def test_the_workers_id_arrives_with_lines_of_every_kind(name: str, tags: tuple[tuple[str, str], ...]) -> None:
    lines = [
        b"text", b"later", b'{"message":"m","level":"INFO","timestamp":"2026-11-24T04:00:00+00:00"}', b"\xff",
        b'{"message":"m","worker_id":"own"}', b'{"message":"m","worker_id":{"a":1}}', b'{"message":"m","worker_id":5}',
    ]  # fmt: skip
    events = Decoder().decode(Batch(1, lines, 1, [(0, NOW_MS * 10**6), (1, (NOW_MS + 1) * 10**6)], {}))
    without = Decoder().decode(Batch(1, lines, 1, [(0, NOW_MS * 10**6), (1, (NOW_MS + 1) * 10**6)], {}))
    Calls('A"W\\').follow(events)
    sink = sink_of(name)
    facts = Facts("0123456789abcdef", "worker-1", "agent-1", "svc", tags, (), 262_144, 0, "python")
    for _ in range(2):  # the second time with what the first one left in the records
        made, plain = (
            events_in(name, sink.encoder(facts)([(some, 0, 2), (some, 2, some.count)], NOW_MS).data)
            for some in (events, without)
        )
        key = WORKER[name]
        if tags:
            key = {"newrelic": "agent.worker_id", "sentry": "agent.worker_id"}.get(name, key)
        assert [event[key] for event in made[:5]] == ['A"W\\'] * 4 + ["own"]
        for event, other in zip(made[:4], plain, strict=False):
            assert {field: value for field, value in event.items() if field != key} == other
        assert made[4:] == plain[4:]
