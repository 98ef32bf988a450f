"""What lines become: every form, every odd one, and that nothing is lost, renumbered or raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.events import Events
from shipper.lines.levels import LEVELS, level_of
from shipper.lines.names import CLAIMED, LEVEL_NAMES, MESSAGE_NAMES, TIME_NAMES
from shipper.lines.text import clean
from shipper.lines.times import SPREAD_MS

CAPTURE_MS = 1_795_492_800_000  # 2026-11-24T04:00:00Z
SAMPLES = sorted((Path(__file__).parents[2] / "demo" / "lines").glob("*.log"))


def decode(
    *lines: bytes, parts: dict[int, int] | None = None, first_seq: int = 1, decoder: Decoder | None = None
) -> Events:
    batch = Batch(1, list(lines), first_seq, [(0, CAPTURE_MS * 1_000_000)], parts or {})
    return (decoder or Decoder()).decode(batch)


def one(line: bytes) -> tuple[str, str, int, dict[str, Any]]:
    """Message, level, time relative to the capture, and the remaining fields."""
    events = decode(line)
    (record,) = events.records
    fields = {name: value for name, value in record.items() if name not in ("message", "timestamp", "seq")}
    return events.messages[0], LEVELS[events.levels[0]], events.times_ms[0] - CAPTURE_MS, fields


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            (
                b'{"message": "starting worker", "level": "INFO", "name": "livekit.agents", "pid": 7, "n.line": 739, '
                b'"timestamp": "2026-11-24T04:00:01.031410+00:00"}'
            ),
            ("starting worker", "info", 1031, {"name": "livekit.agents", "pid": 7, "n.line": 739}),
        ),
        (  # isoformat() leaves the fraction out when it is 0
            b'{"message":"m","level":"DEV","timestamp":"2026-11-24T04:00:01+00:00"}', ("m", "debug", 1000, {}),
        ),
        (  # pino
            b'{"level":40,"time":1795492800007,"pid":3,"hostname":"vm","pid":4,"jobId":"AJ_1","msg":"slow"}',
            ("slow", "warning", 7, {"pid": 4, "agent.hostname": "vm", "job_id": "AJ_1"}),
        ),
        (b'{"jobID":"a","job_id":"b","msg":"m"}', ("m", "info", 0, {"jobID": "a", "job_id": "b"})),
        (  # zap
            b'{"level":"error","ts":1795492800.5,"caller":"a.go:1","msg":"no","stacktrace":"x\\n\\ty"}',
            ("no", "error", 500, {"caller": "a.go:1", "error.stack": "x\n\ty"}),
        ),
        (  # structlog
            b'{"event":"it","level":"warning","timestamp":"2026-11-24T04:00:02.000001Z","n":1}',
            ("it", "warning", 2000, {"n": 1}),
        ),
        (  # Google Cloud
            b'{"severity":"NOTICE","message":"m","time":"2026-11-24T05:00:03.000+01:00"}', ("m", "notice", 3000, {}),
        ),
        (  # logrus, nested values and types kept
            b'{"level":"fatal","msg":"m","a":{"b":[1,2.5,null,true,"x"]},"n":18446744073709551615}',
            ("m", "critical", 0, {"a": {"b": [1, 2.5, None, True, "x"]}, "n": 18446744073709551615}),
        ),
        (b'{"log":"from docker","stream":"stderr"}', ("from docker", "info", 0, {"agent.stream": "stderr"})),
        # Values that are not what their name says stay the agent's.
        (b'{"message":"m","status":200}', ("m", "info", 0, {"agent.status": 200})),
        (b'{"message":"m","status":"error"}', ("m", "error", 0, {})),
        (b'{"message":"m","level":"INFO","status":"error"}', ("m", "info", 0, {"agent.status": "error"})),
        (b'{"message":"m","level":["x"],"severity":"ERROR"}', ("m", "error", 0, {"agent.level": ["x"]})),
        (b'{"message":"m","level":true}', ("m", "info", 0, {"agent.level": True})),
        (b'{"message":"m","timestamp":"then","time":1795492800001}', ("m", "info", 1, {"agent.timestamp": "then"})),
        (b'{"message":"m","level":"INFO","timestamp":null}', ("m", "info", 0, {"agent.timestamp": None})),
        (b'{"message":"m","level":"INFO","timestamp":[1]}', ("m", "info", 0, {"agent.timestamp": [1]})),
        (
            b'{"message":"m","level":"INFO","timestamp":"2026-11-22T04:00:01.031410+00:00"}',
            ("m", "info", 0, {"agent.timestamp": "2026-11-22T04:00:01.031410+00:00"}),
        ),
        # Messages that are not text, or not there.
        (b'{"message":{"a":1},"level":"INFO"}', ('{"a":1}', "info", 0, {"agent.message": {"a": 1}})),
        (b'{"message":5,"msg":"text"}', ("text", "info", 0, {"agent.message": 5})),
        (b'{"message":null,"msg":[1]}', ("[1]", "info", 0, {"agent.message": None, "agent.msg": [1]})),
        (b'{"message":"","level":"INFO","k":1,"timestamp":1795492800000}', ("", "info", 0, {"k": 1})),
        (b'{"event":{"kind":"x"}}', ('{"event":{"kind":"x"}}', "info", 0, {"event": {"kind": "x"}})),
        (b'{"log":5}', ('json: {"log":5}', "info", 0, {"agent.log": 5})),
        (b"{}", ("{}", "info", 0, {})),
        (b' {"msg":"indented"}\r', ("indented", "info", 0, {})),
        # A message that a provider would take for attributes of ours.
        (b'{"msg":"{\\"host\\":\\"x\\"}"}', ('json: {"host":"x"}', "info", 0, {})),
        (b'{"message":" {\\"seq\\":1}","level":"INFO","timestamp":1795492800000}', ('json:  {"seq":1}', "info", 0, {})),
        (b'{"msg":"{\\"mine\\":1}"}', ('{"mine":1}', "info", 0, {})),
        (b'{"host":"\xff"}', ('json: {"host":"\ufffd"}', "info", 0, {"agent.host": "\ufffd"})),
        # Names of ours, also when the place that they are moved to is taken.
        (
            b'{"msg":"m","seq":9,"run":"r","agent.seq":1,"part":2,"skipped":3,"service":null,"@timestamp":"x"}',
            (
                "m", "info", 0,
                {
                    "agent.agent.seq": 9, "agent.run": "r", "agent.seq": 1, "agent.part": 2, "agent.skipped": 3,
                    "agent.service": None, "agent.@timestamp": "x",
                },
            ),
        ),
        (b'{"msg":"m","dd.trace_id":"1"}', ("m", "info", 0, {"dd.trace_id": "1", "trace_id": "0" * 31 + "1"})),
        # Text.
        (b"plain", ("plain", "info", 0, {})),
        (b"ERROR in a sentence", ("ERROR in a sentence", "info", 0, {})),
        (b"cut\r", ("cut", "info", 0, {})),
        (b"one\r\r", ("one", "info", 0, {})),
        (b"  indented  ", ("  indented  ", "info", 0, {})),
        (b"nul\x00 and \x1b[31mcolour", ("nul and colour", "info", 0, {})),
        (b"\xff\xfe caf\xe9", ("\ufffd\ufffd caf\ufffd", "info", 0, {})),
        ("grün 🙂 漢".encode(), ("grün 🙂 漢", "info", 0, {})),
        (b'{"a":NaN}', ('{"a":NaN}', "info", 0, {"a": "NaN"})),
        (b'{"a":1e999}', ('{"a":1e999}', "info", 0, {"a": "1e999"})),
        (b'{"a":1', ('{"a":1', "info", 0, {})),
        (b'{"a":1} trailing', ('{"a":1} trailing', "info", 0, {})),
        (b'{"a":"\\ud800"}', ('{"a":"\\ud800"}', "info", 0, {"a": "?"})),
        (b"{", ("{", "info", 0, {})),
        (b"[1,2]", ("[1,2]", "info", 0, {})),
        (b'"text"', ('"text"', "info", 0, {})),
        (b'{"a":' * 10_000 + b"}" * 10_000, ('{"a":' * 10_000 + "}" * 10_000, "info", 0, {})),
    ],
)  # fmt: skip
def test_a_line_becomes_this_event(line: bytes, expected: tuple[str, str, int, dict[str, Any]]) -> None:
    assert one(line) == expected


def test_an_integer_beyond_64_bits_and_an_equal_name_do_no_harm() -> None:
    assert one(b'{"msg":"m","n":123456789012345678901234567890}')[3] == {"n": 1.2345678901234568e29}
    assert one(b'{"msg":"first","msg":"last"}')[0] == "last"


@pytest.mark.parametrize("depth", [250, 1000])
def test_a_message_nested_deeper_than_the_serialiser_goes_is_still_its_json(depth: int) -> None:
    text = "[" * depth + "]" * depth
    assert one(b'{"message":' + text.encode() + b"}")[0] == text


@pytest.mark.parametrize("name", sorted(CLAIMED))
@pytest.mark.parametrize("beside", [b"", b'"message":"m","level":"INFO","timestamp":1795492800000,'])
def test_no_name_of_ours_is_left_to_the_agent_and_none_of_its_values_is_lost(name: str, beside: bytes) -> None:
    line = b"{" + beside + orjson.dumps(name) + b':"precious"}'
    events = decode(line)
    record = events.records[0]
    own = record["message"] if name in MESSAGE_NAMES and (not beside or name == "message") else None
    if own is None:
        assert record[f"agent.{name}"] == "precious"
        assert name in ("message", "timestamp", "seq") or name not in record
    else:
        assert own == "precious"


def test_names_that_may_hold_a_message_level_or_time_are_read_in_their_order() -> None:
    for names, values in (
        (MESSAGE_NAMES, [f"message {number}" for number in range(len(MESSAGE_NAMES))]),
        (LEVEL_NAMES, ["error", "warning", "debug", "trace", "alert", "critical", "notice", "emerg", "warn", "fatal"]),
        (TIME_NAMES, [CAPTURE_MS + step for step in range(1, len(TIME_NAMES) + 1)]),
    ):
        assert len(names) == len(values)
        for first in range(len(names)):
            line = orjson.dumps(dict(reversed(list(zip(names[first:], values[first:], strict=True)))))
            message, level, time_ms, _ = one(line)
            expected = values[first] if names != LEVEL_NAMES else LEVELS[level_of(values[first]) or 0]
            assert expected in (message, level, time_ms + CAPTURE_MS)


def test_empty_lines_are_left_out_and_counted() -> None:
    events = decode(b"", b"a", b" \t", b"\r", b'{"msg":"b"}', b"c", b"", first_seq=5)
    assert events.messages == ["a", "b", "c"]
    assert events.seqs == [6, 9, 10]
    assert [record.get("skipped") for record in events.records] == [1, 2, None]
    assert events.sizes == [1, 11, 1]
    assert events.trailing_skipped == 1


def test_nothing_but_empty_lines_gives_no_event() -> None:
    events = decode(b"", b" ")
    assert (events.count, events.trailing_skipped) == (0, 2)
    assert decode().count == 0
    assert decode().trailing_skipped == 0


def test_skipped_of_the_batch_before_goes_to_the_first_event_and_leaves_the_original_alone() -> None:
    events = decode(b"", b"a", b"b")
    more = events.with_left((1, 1, 0), told=1)
    assert more.records[0]["skipped"] == 4
    assert more.left == {0: (2, 1, 0)}
    assert more.records[1] is events.records[1]
    assert events.records[0]["skipped"] == 1


def test_pieces_are_text_and_never_left_out() -> None:
    events = decode(
        b"x", b'{"msg":"a', b'{"own":"whole"}', b"  ", b'{"msg":"b"}', parts={1: 1, 2: 2, 3: 3}, first_seq=10
    )
    assert events.messages == ["x", '{"msg":"a', '{"own":"whole"}', "  ", "b"]
    assert [record.get("part") for record in events.records] == [None, 1, 2, 3, None]
    assert events.seqs == [10, 11, 12, 13, 14]


def test_each_line_has_the_time_of_the_read_it_came_in() -> None:
    times = [(0, CAPTURE_MS * 10**6), (2, (CAPTURE_MS + 5) * 10**6 + 999_999), (3, (CAPTURE_MS - 7) * 10**6)]
    events = Decoder().decode(Batch(2, [b"a", b"b", b'{"x":1}', b"d", b"e"], 1, times, {}))
    assert [time_ms - CAPTURE_MS for time_ms in events.times_ms] == [0, 0, 5, -7, -7]
    assert events.stream == "stderr"


def test_a_clock_that_jumps_within_a_batch_keeps_each_line_by_its_own_capture() -> None:
    day_ns = 86_400 * 10**9
    line = b'{"message":"m","level":"INFO","timestamp":"2026-11-24T04:00:00.500+00:00"}'
    times = [(0, CAPTURE_MS * 10**6), (1, CAPTURE_MS * 10**6 + 3 * day_ns), (2, CAPTURE_MS * 10**6 + day_ns)]
    events = Decoder().decode(Batch(1, [line] * 3, 1, times, {}))
    assert [time_ms - CAPTURE_MS for time_ms in events.times_ms] == [500, 3 * 86_400_000, 500]
    assert events.records[1]["agent.timestamp"] == "2026-11-24T04:00:00.500+00:00"
    assert events.floor_ms <= min(events.times_ms)
    assert events.ceiling_ms >= max(events.times_ms)


@pytest.mark.parametrize(
    "usual",
    [
        b'{"message":"m","level":"WARNING","k":[1],"timestamp":"2026-11-24T04:00:00.5+00:00"}',
        b'{"level":40,"time":1795492800500,"pid":1,"hostname":"vm","jobId":"j","msg":"m"}',
        b"text",
    ],
)
@pytest.mark.parametrize(
    "other",
    [
        b'{"host":"x"}',
        b'{"message":1,"level":"INFO","timestamp":1}',
        b'{"jobId":"j"}',
        b'{"level":[],"message":"m","timestamp":1}',
        b'{"level":30,"time":1795492800007,"hostname":"vm","msg":"x"}',
        b'{"message":"m","level":"INFO","timestamp":"2026-11-24T04:00:00.7+00:00"}',
        b'{"a":[{}',
        b"{},{}",
        b"caf\xe9",
        b"cut\r",
    ],
)
def test_one_line_of_another_shape_does_not_change_its_neighbours(usual: bytes, other: bytes) -> None:
    alone = decode(usual)
    for place in (0, 20, 127, 128, 199):
        lines = [usual] * 199
        lines.insert(place, other)
        events = decode(*lines)
        for index, record in enumerate(events.records):
            if index != place:
                assert record == {**alone.records[0], "seq": index + 1}
                assert events.levels[index] == alone.levels[0]
        assert {**events.records[place], "seq": 1} == decode(other).records[0]


def test_lines_that_are_no_json_alone_are_none_together() -> None:
    lines = [b'{"a":[', b"{}]}", b"{},{}", b'{"a":1},"x",{"b":2}', b'{"c":', b"{}}", b'{"a":"', b'{"}']
    assert decode(*lines).messages == [line.decode() for line in lines]


NASTY = st.sampled_from(
    [
        b'{"a":[{}', b"{}]}", b"{},{}", b'{"a":"', b'"}', b"{}", b"", b" ", b"\r", b"{", b"}", b'{"message":"m"},',
        b"\xff",
        b'{"message":"m","level":"INFO","timestamp":"2026-11-24T04:00:00.123456+00:00"}',
        b'{"message":"","level":"error","timestamp":"2026-11-24T04:00:00.1Z","host":"h"}',
        b'{"level":30,"time":1795492800007,"hostname":"vm","msg":"x"}',
        b'{"level":30,"time":1795492800007,"pid":1,"hostname":"vm","jobId":"a","msg":"x"}',
        b'{"level":35,"time":1795492800007,"jobID":"a","jobId":"b","msg":"\xc3\xbc"}',
        b'{"level":30,"time":1795492800007,"hostname":"vm","jobID":"a","job_id":"b","agent.hostname":1,"msg":"x"}',
        b'{"level":"info","time":"2026-11-24T04:00:00Z","msg":""}', b'{"level":30,"time":5,"msg":" {\\"seq\\":1}"}',
        b'{"level":{},"time":1795492800007,"msg":"x"}', b' {"level":30,"time":1795492800007,"msg":"x"}\r',
        b'{"message":"\xe6\xbc\xa2","level":"INFO","timestamp":"2026-11-24T04:00:00.123456+00:00"}',
        b'{"message":"m","level":"INFO","timestamp":"2026-11-24T04:00:00.123456"}', b"text\r", b"\xff\r\r",
        b"Traceback (most recent):", b"  at x",
        b'{"message":{"a":1},"level":"INFO","timestamp":5}', b'{"msg":"{\\"host\\":1}"}',
        b'{"level":{},"message":[],"timestamp":{}}',
    ]
)  # fmt: skip
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=8,
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(sorted(CLAIMED | {"time", "ts", "jobId", "lvl", "event", "agent.host"})), st.text(max_size=8)
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=8)
ANY_LINE = st.one_of(
    NASTY,
    st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")),
    OBJECTS.map(orjson.dumps),
)
LINES = st.lists(ANY_LINE, max_size=300)


@given(LINES, st.integers(1, 10**9))
def test_any_lines_give_events_that_with_the_skipped_ones_are_all_lines(lines: list[bytes], first_seq: int) -> None:
    events = decode(*lines, first_seq=first_seq)
    assert len(events.levels) == len(events.sizes) == events.count
    reached = first_seq - 1
    for record, seq in zip(events.records, events.seqs, strict=True):
        skipped = record.get("skipped", 0)
        assert isinstance(skipped, int)
        assert seq == reached + 1 + skipped
        reached = seq
    assert reached + events.trailing_skipped == first_seq - 1 + len(lines)
    assert all(isinstance(message, str) for message in events.messages)
    assert all(events.floor_ms <= ms <= events.ceiling_ms for ms in events.times_ms)
    if lines:
        assert events.floor_ms >= CAPTURE_MS - max(SPREAD_MS, 86_400_000)


@given(LINES)
def test_a_line_becomes_the_same_event_whatever_stands_around_it(lines: list[bytes]) -> None:
    decoder = Decoder()
    events = decode(*lines, decoder=decoder)
    for record, level, seq in zip(events.records, events.levels, events.seqs, strict=True):
        alone = decode(lines[seq - 1])
        expected = {**alone.records[0], "seq": seq}
        if "skipped" in record:
            expected["skipped"] = record["skipped"]
        assert record == expected
        assert [name for name in record if name != "skipped"] == list(alone.records[0])  # so the body is the same too
        assert level == alone.levels[0]
        again = decode(lines[seq - 1], decoder=decoder)  # with whatever the caches hold by now
        assert again.records[0] == alone.records[0]


def values_of(value: Any) -> set[str]:
    """Every value, as JSON, that is in there at the first level."""
    return {orjson.dumps(inner).decode() for inner in value.values()}


@given(OBJECTS)
def test_moving_and_reading_names_loses_no_value(value: dict[str, Any]) -> None:
    line = orjson.dumps(value)
    events = decode(line)
    (record,) = events.records
    arrived = values_of(record)
    for name, inner in value.items():
        text = orjson.dumps(inner).decode()
        if text in arrived:
            continue
        # It became message, level or time, or the message cleaned, or with the mark of one that is JSON itself.
        shown = (clean(str(inner)), f"json: {clean(str(inner))}")
        assert name in (*LEVEL_NAMES, *TIME_NAMES) or record["message"] in shown
    unread = [name for name in value if name not in CLAIMED and name not in (*MESSAGE_NAMES, *LEVEL_NAMES, *TIME_NAMES)]
    for name in unread:
        if name not in ("jobId", "jobID"):
            assert record[name] == value[name]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_field_of_every_sample_line_arrives(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    capture = 1_795_495_000_000 * 10**6
    events = Decoder().decode(Batch(1, lines, 1, [(0, capture)], {}))
    assert events.count + lines.count(b"") == len(lines)
    for record, level in zip(events.records, events.levels, strict=True):
        line = lines[record["seq"] - 1]  # type: ignore[operator]
        if not line.startswith(b'{"'):
            text, message = clean(line.decode()), str(record["message"])
            assert text.startswith(message)
            fields = orjson.loads(text[len(message) :]) if text[len(message) :].strip() else {}
            assert fields.items() <= record.items()
            continue
        given_fields = orjson.loads(line)
        for name, value in given_fields.items():
            if name == "message" and "exc_info" in given_fields:
                assert record["message"] + "\n" + given_fields["exc_info"] == value  # type: ignore[operator]
            elif name in ("message", "msg"):
                assert record["message"] == value
            elif name == "exc_info":
                assert record["error.stack"] == value
            elif name == "error":
                assert value.items() == {key: record[f"error.{key}"] for key in value if key != "type"}.items() | {
                    ("type", record["error.kind"])
                }
            elif name == "level":
                assert LEVELS[level] in ("debug", "info", "warning", "error", "critical")
            elif name in ("timestamp", "time"):
                assert abs(record["timestamp"] - capture // 10**6) < 86_400_000  # type: ignore[operator]
                assert record["timestamp"] != capture // 10**6
            else:
                assert value in (record.get(name), record.get(f"agent.{name}"), record.get("job_id"))


def test_samples_are_there() -> None:
    assert len(SAMPLES) >= 8
