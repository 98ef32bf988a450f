"""New Relic's bodies to the byte, its limits at their edge, its regions, and the names that are not the agent's."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
import uuid
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from newrelic_telemetry_sdk import Log, LogClient  # type: ignore[import-untyped]
from newrelic_telemetry_sdk.batch import Batch as SdkBatch  # type: ignore[import-untyped]

from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.events import Events
from shipper.lines.levels import LEVELS
from shipper.lines.names import CLAIMED
from shipper.lines.text import clean
from shipper.sinks.base import Body, RefusedError, RejectedError, RetryableError, SettingError, SinkError
from shipper.sinks.datadog import Datadog
from shipper.sinks.newrelic import LIMITS, MAX_AGE_MS, MAX_AHEAD_MS, MAX_VALUE_BYTES, NewRelic
from tests.bodies import printed_fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

NOW_MS = 1_795_492_800_000  # 2026-11-24T04:00:00Z
US_KEY = "0123456789abcdef0123456789abcdef0123NRAL"
EU_KEY = "eu01xx0123456789abcdef0123456789abcdNRAL"
TAGS = (("env", "prod"), ("team", "a b"))
FACTS = Facts("00112233445566ff", "worker-1", "agent-1", "cloud.livekit.io", TAGS, ("newrelic",), 262_144, 0, "python")
OTHER = Facts("ffeeddccbbaa9988", "worker-1", "agent-1", "cloud.livekit.io", TAGS, ("newrelic",), 262_144, 0, "python")
COMMON = {
    "host": "worker-1", "hostname": "worker-1", "workerId": "worker-1", "source": "agent-1", "agentId": "agent-1",
    "service": "cloud.livekit.io", "env": "prod", "team": "a b",
}  # fmt: skip
SAMPLES = sorted((Path(__file__).parents[2] / "demo" / "lines").glob("*.log"))


def sink(**environ: str) -> NewRelic:
    return NewRelic.from_env({"NEW_RELIC_LICENSE_KEY": US_KEY, **environ})


def events_of(*lines: bytes, stream: int = 1, capture_ms: int = NOW_MS, parts: dict[int, int] | None = None) -> Events:
    return Decoder().decode(Batch(stream, list(lines), 1, [(0, capture_ms * 10**6)], parts or {}))


def line(**fields: object) -> bytes:
    return orjson.dumps(fields)


def encode(*slices: tuple[Events, int, int], facts: Facts = FACTS, now_ms: int = NOW_MS) -> Body:
    return sink().encoder(facts)(slices, now_ms)


def logs(body: Body) -> list[dict[str, Any]]:
    """Each log as New Relic stores it: what is common and what is its own in one object."""
    raw = gzip.decompress(body.data)
    assert len(raw) == body.size
    (only,) = orjson.loads(raw)
    assert set(only) == {"common", "logs"}
    assert len(only["logs"]) == body.count
    made = []
    for log in only["logs"]:
        assert set(log) == {"timestamp", "message", "attributes"}
        assert only["common"]["attributes"].keys().isdisjoint(log["attributes"])
        assert log["attributes"].keys().isdisjoint({"timestamp", "message"})
        made.append(
            {**only["common"]["attributes"], **log["attributes"], **{n: log[n] for n in ("timestamp", "message")}}
        )
    return made


def log_of(*lines: bytes, facts: Facts = FACTS) -> dict[str, Any]:
    """The same by an encoder that sees its names for the first time and by one that knows them."""
    events = events_of(*lines)
    encoder = sink().encoder(facts)
    (made,) = logs(encoder([(events, 0, 1)], NOW_MS))
    assert logs(encoder([(events, 0, 1)], NOW_MS)) == [made]
    return made


def rest_of(log: dict[str, Any]) -> dict[str, Any]:
    """What is together in `agent.fields`."""
    text: str = log["agent.fields"]
    assert text.startswith("json: {")
    found: dict[str, Any] = orjson.loads(text.removeprefix("json: "))
    return found


def test_the_body_is_this_to_the_byte() -> None:
    out = events_of(
        (
            b'{"message":"hi \\"you\\"","level":"WARNING","pid":7,"a":{"b":[1,null],"c":{"d":true}},"gone":null,'
            b'"timestamp":"2026-11-24T04:00:00.250+00:00"}'
        ),
        b"",
        b"plain \x1b[0m\xff",
        b'{"level":50,"time":1795492799000,"hostname":"vm","jobId":"AJ_1","msg":"oh"}',
    )
    err = events_of(b"piece", stream=2, parts={0: 1})
    notice = Events.notice(
        "stderr", NOW_MS, "error", "2 lines are missing.", {"run": "x", "stream": "stderr", "lost": 2}
    )
    body = encode((out, 0, 3), (err, 0, 1), (notice, 0, 1))
    run = '"run":"00112233445566ff","stream":'
    assert gzip.decompress(body.data).decode() == (
        '[{"common":{"attributes":{"host":"worker-1","hostname":"worker-1","workerId":"worker-1","source":"agent-1",'
        '"agentId":"agent-1","service":"cloud.livekit.io","env":"prod","team":"a b"}},"logs":['
        '{"timestamp":1795492800250,"message":"hi \\"you\\"","attributes":{"pid":7,"seq":1,'
        '"a.b":"[1,null]","a.c.d":true,' + run + '"stdout","level":"warning"}},'
        '{"timestamp":1795492800000,"message":"plain \ufffd","attributes":{"seq":3,"skipped":1,'
        + run + '"stdout","level":"info"}},'
        '{"timestamp":1795492799000,"message":"oh","attributes":{"agent.hostname":"vm","job_id":"AJ_1","seq":4,'
        + run + '"stdout","level":"error"}},'
        '{"timestamp":1795492800000,"message":"piece","attributes":{"seq":1,"part":1,'
        + run + '"stderr","level":"info"}},'
        '{"timestamp":1795492800000,"message":"2 lines are missing.","attributes":{"lost":2,"logger":"shipper",'
        + run + '"stderr","level":"error"}}]}]'
    )  # fmt: skip
    assert (body.count, body.moved, body.truncated, body.target) == (5, 0, 0, "/log/v1")


def test_a_small_body_is_about_as_small_as_zlib_makes_it() -> None:
    lines = [line for path in SAMPLES for line in path.read_bytes().split(b"\n")][:40]
    events = events_of(*lines)
    body = encode((events, 0, events.count))
    assert len(body.data) < 1.1 * len(zlib.compress(gzip.decompress(body.data), 1, wbits=31))


def test_the_request_is_what_new_relics_own_sdk_would_send() -> None:
    batch = SdkBatch(tags=COMMON)
    batch.record(Log("hello", NOW_MS, seq=1, pid=7, run=FACTS.run, stream="stdout", level="info"))
    client = LogClient(US_KEY)
    theirs = gzip.decompress(client._create_payload(*batch.flush()))
    body = encode((events_of(line(message="hello", level="info", pid=7)), 0, 1))
    assert json.loads(gzip.decompress(body.data)) == json.loads(theirs)
    made = sink()
    assert (made.destination, body.target) == (LogClient.HOST, LogClient.PATH)
    assert made._headers.items() <= client._headers.items()
    client.close()


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_a_word(level: str) -> None:
    (log,) = logs(encode((Events.notice("stdout", 1, level, "m", {}), 0, 1), now_ms=1))
    assert log["level"] == level


def test_a_slice_is_only_its_part() -> None:
    events = events_of(*(b"%d" % number for number in range(300)))
    body = encode((events, 2, 4), (events, 9, 10), (events, 5, 5), (events, 100, 300))
    assert [log["message"] for log in logs(body)] == ["2", "3", "9", *map(str, range(100, 300))]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_field_of_every_sample_line_arrives_beside_ours(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    events = events_of(*lines, capture_ms=1_795_495_000_000)
    made = logs(encode((events, 0, events.count), now_ms=1_795_495_000_000))
    for log in made:
        printed = lines[log["seq"] - 1]
        assert COMMON.items() <= log.items()
        if printed.startswith(b'{"'):
            values = [orjson.dumps(value) for value in log.values()]
            for name, value in printed_fields(printed).items():
                if isinstance(value, dict):
                    assert any(key.startswith(f"{name}.") for key in log) or not value
                elif isinstance(value, list):
                    assert orjson.loads(log[name]) == value
                elif value is not None:
                    assert name in ("level", "time", "timestamp") or orjson.dumps(value) in values


def test_facts_of_any_text_are_escaped_and_stay_theirs() -> None:
    odd = Facts('r"', 'h"},{"x', "s\ud800 é&?#/", "sv\\", (("k\ud800", 'v"'),), (), 1, 0, "")
    (log,) = logs(encode((events_of(b"m"), 0, 1), facts=odd))
    assert (log["run"], log["host"], log["agentId"], log["service"], log["k?"]) == (
        'r"', 'h"},{"x', "s? é&?#/", "sv\\", 'v"',
    )  # fmt: skip


def test_runs_and_streams_keep_their_own_facts_over_shared_events() -> None:
    events = events_of(b"a", b'{"msg":"b","n":{"x":[1]}}')
    before = [dict(record) for record in events.records]
    other = Facts("ffffffffffffffff", "worker-2", "agent-2", "svc", (), (), 1, 0, "")
    pairs = [(sink().encoder(FACTS), "worker-1"), (sink().encoder(other), "worker-2")]
    for encoder, host in itertools.islice(itertools.cycle(pairs), 6):
        assert [log["host"] for log in logs(encoder([(events, 0, 2)], NOW_MS))] == [host, host]
    assert events.records == before


def test_what_another_sink_left_in_the_records_is_not_seen() -> None:
    lines = (
        b"text",
        b'{"msg":"m","k":1}',
        b'{"msg":"m","k":0,"gone":null}',
        b'{"msg":"m","n":{"x":[1]}}',
        b"",
        b"last",
    )
    events, untouched = events_of(*lines), events_of(*lines)
    Datadog.from_env({"DATADOG_TOKEN": "0" * 32}).encoder(OTHER)([(events, 0, events.count)], NOW_MS)
    assert all("run" in record for record in events.records)
    assert logs(encode((events, 0, 5))) == logs(encode((untouched, 0, 5)))


def test_encoders_in_several_threads_do_not_mix_their_facts() -> None:
    events = events_of(*[b'{"msg":"m","k":1}'] * 500)
    wrong: list[str] = []

    def work(run: str) -> None:
        encoder = sink().encoder(Facts(run, "h", "a", "s", (), (), 1, 0, ""))
        for _ in range(20):
            wrong.extend(log["run"] for log in logs(encoder([(events, 0, 500)], NOW_MS)) if log["run"] != run)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("age_ms", "moved"),
    [
        (MAX_AGE_MS, 0), (MAX_AGE_MS + 1, 1), (40 * 86_400_000, 1),
        (-MAX_AHEAD_MS, 0), (-MAX_AHEAD_MS - 1, 1), (-40 * 86_400_000, 1),
    ],
)  # fmt: skip
def test_a_line_too_old_or_far_ahead_comes_under_the_present_time_and_keeps_its_own(age_ms: int, moved: int) -> None:
    events = events_of(b"old", b'{"msg":"own time","time":%d}' % NOW_MS, capture_ms=NOW_MS - age_ms)
    body = encode((events, 0, 1))
    (log,) = logs(body)
    assert body.moved == moved
    if moved:
        assert (log["timestamp"], log["original_timestamp"]) == (NOW_MS, NOW_MS - age_ms)
    else:
        assert log["timestamp"] == NOW_MS - age_ms
        assert "original_timestamp" not in log
    assert events.times_ms[0] == NOW_MS - age_ms
    assert encode((events, 0, 1), now_ms=NOW_MS - age_ms).moved == 0


@pytest.mark.parametrize(
    "name",
    [
        "accountId", "eventType", "entity.guid", "entity.name", "entity.type", "instrumentation.provider",
        "newrelic.source", "newrelic.ext.message", "LOG", "MESSAGE", "logtype", "logType", "LOGTYPE",
        "@realtime_timestamp", "workerId", "agentId", "env", "team", *sorted(CLAIMED - {"message", "msg", "log"}),
    ],
)  # fmt: skip
def test_an_agents_field_of_a_name_that_is_not_its_own_is_found_under_agent(name: str) -> None:
    log = log_of(line(message="m", **{name: "theirs", "k": 1}))
    assert log[f"agent.{name}"] == "theirs"
    assert (log["message"], log["k"]) == ("m", 1)
    assert COMMON.items() <= log.items()
    assert name in COMMON or name in ("level", "stream", "run", "seq", "timestamp") or name not in log


@pytest.mark.parametrize(
    "name",
    [
        "attributes",
        "attributes.level",
        "logs",
        "common",
        'a"b',
        "a\\",
        'a\\",',
        '}},{"',
        '"attributes":{',
        "é\x00",
        ":",
        " ",
    ],
)
def test_a_field_named_like_a_part_of_the_body_is_a_field(name: str) -> None:
    for value in ("theirs", 0, True, '"},{', '","attributes":{"run":"x"', "\\"):
        assert log_of(line(message="m", **{name: value})) == {**log_of(line(message="m")), name: value}
        assert log_of(line(message="m", n={"a": 1}, **{name: value})) == {
            **log_of(line(message="m")), "n.a": 1, name: value,
        }  # fmt: skip


@pytest.mark.parametrize(
    "text", ['","attributes":{"run":"x"}}', '"}},{"timestamp":1,"message":"', "\\", '\\"', "a\tb", "]}]", '{"a":{"b":']
)
def test_a_text_that_looks_like_a_part_of_the_body_is_a_text(text: str) -> None:
    assert log_of(text.encode())["message"] == log_of(line(message=text))["message"] == text


def test_an_event_of_our_own_without_fields_is_told_by_its_logger() -> None:
    (log,) = logs(encode((Events.notice("stderr", NOW_MS, "info", "m", {}), 0, 1)))
    assert log.keys() - COMMON == {"message", "timestamp", "logger", "run", "stream", "level"}
    assert (log["logger"], log["run"]) == ("shipper", FACTS.run)


@pytest.mark.parametrize("empty", [0, 0.0, False, ""])
def test_what_is_empty_stays_and_only_null_is_left_out(empty: object) -> None:
    log = log_of(line(message="", a=empty, b=None))
    assert log["a"] == empty
    assert type(log["a"]) is type(empty)
    assert "b" not in log
    assert log_of(line(message="", a=empty)) == log
    assert log_of(line(message="m", a=1, b=None)) == log_of(line(message="m", a=1))


def test_a_nested_field_gets_no_forbidden_name_either() -> None:
    log = log_of(line(message="m", entity={"guid": "g", "n": 1}, newrelic={"source": "s"}, entities={"guid": "e"}))
    assert "entity.guid" not in log
    assert (log["agent.entity.guid"], log["agent.newrelic.source"], log["entities.guid"]) == ("g", "s", "e")


def test_two_fields_that_want_one_name_both_arrive() -> None:
    log = log_of(line(message="m", accountId=1, **{"agent.accountId": 2, "agent.agent.accountId": 3}))
    assert {log["agent.accountId"], log["agent.agent.accountId"], log["agent.agent.agent.accountId"]} == {1, 2, 3}


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ('{"level":"error"}', 'json: {"level":"error"}'),
        ('{"user":{"id":1}}', 'json: {"user":{"id":1}}'),
        (' \t{"a":1} ', 'json:  \t{"a":1} '),
        ("{}", "json: {}"),
        ("{a}", "{a}"), ('{"a":1', '{"a":1'), ('x {"a":1}', 'x {"a":1}'), ('[{"a":1}]', '[{"a":1}]'), ("7", "7"),
    ],
)  # fmt: skip
def test_no_message_is_an_object_that_new_relic_would_take_apart(message: str, sent: str) -> None:
    assert log_of(line(message=message))["message"] == sent
    assert log_of(line(message=message, n=1, deep={"a": 1}))["message"] == sent


def test_an_object_without_a_message_is_its_own_message_and_guarded() -> None:
    log = log_of(b'{"user":"alice","n":1}')
    assert (log["message"], log["user"]) == ('json: {"user":"alice","n":1}', "alice")


def test_a_piece_that_happens_to_be_an_object_is_guarded() -> None:
    events = events_of(b'{"a":1}', parts={0: 2})
    assert logs(encode((events, 0, 1)))[0]["message"] == 'json: {"a":1}'


BLANKS = st.text(" \t\r\n", max_size=4)


@given(
    BLANKS, st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2), BLANKS, st.sampled_from((None, 1))
)
def test_any_text_that_is_an_object_is_guarded(
    before: str, found: dict[str, str], after: str, indent: int | None
) -> None:
    text = before + json.dumps(found, indent=indent) + after
    log = log_of(line(message=text, k=text))
    assert (log["message"], log["k"]) == (f"json: {clean(text)}", f"json: {text}")
    assert log_of(line(message="m", k=before + "{ " + text)) == {**log_of(line(message="m")), "k": before + "{ " + text}


@pytest.mark.parametrize("blanks", ["", " ", "  ", "\n", "\r\n", "\t ", " \n", "\n \t", "   \r "])
@pytest.mark.parametrize("rest", ['{"a":1}', "{}", "{ }", "{\n}", '{ "a":1}', '{\t"":{}}'])
def test_blanks_do_not_hide_an_object(blanks: str, rest: str) -> None:
    text = blanks + rest
    assert log_of(line(message="m", k=text))["k"] == f"json: {text}"
    assert log_of(line(message=text))["message"] == f"json: {clean(text)}"


@pytest.mark.parametrize("payload", ['{"level":"x"}', ' {"a":{"b":1}}', '\n\t{"a":1} ', "{}"])
def test_a_text_in_another_attribute_that_is_an_object_is_guarded_too(payload: str) -> None:
    log = log_of(line(message="m", payload=payload, other="{x", list="[1]", inner={"payload": payload, "none": {}}))
    assert log["payload"] == log["inner.payload"] == f"json: {payload}"
    assert (log["other"], log["list"], log["inner.none"]) == ("{x", "[1]", "json: {}")


@pytest.mark.parametrize("over", [0, 1])
def test_as_many_attributes_as_new_relic_takes_and_one_more(over: int) -> None:
    room = 255 - len(COMMON) - 11  # message, timestamp, run, stream, level, seq, lines, part, skipped, truncated, …
    log = log_of(line(message="m", **{f"f{number}": number for number in range(room + over)}))
    plain = [name for name in log if name.startswith("f")]
    if over:
        assert rest_of(log) == {f"f{room - 1}": room - 1, f"f{room}": room}
        assert len(plain) == room - 1
    else:
        assert "agent.fields" not in log
        assert len(plain) == room
    assert len(log) <= 255


def test_tags_and_nested_fields_count_among_the_attributes() -> None:
    tags = tuple((f"tag{number}", "v") for number in range(100))
    facts = Facts("0" * 16, "h", "a", "s", tags, (), 1, 0, "")
    deep = {"message": "m", "a": {f"n{number}": number for number in range(300)}}
    log = log_of(line(**deep), facts=facts)
    assert len(log) <= 255
    kept = {name: value for name, value in log.items() if name.startswith("a.")}
    assert kept | rest_of(log) == {f"a.n{number}": number for number in range(300)}


@pytest.mark.parametrize("length", [1, 255])
def test_a_name_as_long_as_new_relic_takes_stays(length: int) -> None:
    assert log_of(line(message="m", **{"n" * length: 1}))["n" * length] == 1


@pytest.mark.parametrize("name", ["", "n" * 256, "entity." + "n" * 243])
def test_a_name_that_new_relic_does_not_take_is_found_in_the_rest(name: str) -> None:
    log = log_of(line(message="m", k=1, **{name: 1}))
    kept = rest_of(log)
    assert list(kept.values()) == [1]
    assert next(iter(kept)).endswith(name)
    assert log["k"] == 1
    assert all(0 < len(key) <= 255 for key in log)


@pytest.mark.parametrize(("character", "over"), list(itertools.product("xé漢🙂", (0, 1))))
def test_a_text_is_cut_where_new_relic_would_cut_it_and_marked(character: str, over: int) -> None:
    most = MAX_VALUE_BYTES // len(character.encode())
    text = character * (most + over)
    for printed in (text.encode(), line(message=text), line(message="m", field=text)):
        events = events_of(printed)
        body = encode((events, 0, 1))
        (log,) = logs(body)
        assert character * most in (log["message"], log.get("field"))
        assert (body.truncated, log.get("truncated")) == ((1, True) if over else (0, None))


def test_only_the_event_that_was_cut_is_counted() -> None:
    events = events_of(b"short", b"x" * 200_000, b'{"msg":"m","n":{"a":1}}')
    body = encode((events, 0, 3))
    assert body.truncated == 1
    assert [log.get("truncated") for log in logs(body)] == [None, True, None]


def test_many_lines_that_are_not_too_long_are_left_as_they_are() -> None:
    texts = ["x" * 20_000, *(str(number) * 600 for number in range(127))]
    events = events_of(*map(str.encode, texts))
    body = encode((events, 0, events.count))
    assert body.size > MAX_VALUE_BYTES
    assert body.truncated == 0
    assert [log["message"] for log in logs(body)] == texts


@pytest.mark.parametrize("over", [0, 1])
def test_an_event_is_taken_apart_only_when_it_is_larger_than_a_request(over: int) -> None:
    fields = {f"f{number}": "x" * 128_000 for number in range(7)}
    bare = encode((events_of(line(message="m", last="", **fields)), 0, 1)).size
    text = "y" * (LIMITS.max_body_bytes - bare + over)
    body = encode((events_of(line(message="m", last=text, **fields)), 0, 1))
    (log,) = logs(body)
    assert body.size <= LIMITS.max_body_bytes
    assert body.truncated == over
    assert log.get("truncated") == (True if over else None)
    assert (log["message"], log["seq"], log["host"]) == ("m", 1, "worker-1")
    if over:
        assert log["agent.fields"].startswith('json: {"last":"yyy')
    else:
        assert body.size == LIMITS.max_body_bytes


@pytest.mark.parametrize("character", ["\x00", '"', "\\", "é", "🙂", "\x7f"])
def test_the_largest_line_fits_whatever_it_holds(character: str) -> None:
    size = 1 << 20
    whole = character * (size // len(character.encode()))
    half = character * (size // 2 // len(character.encode()))
    for events in (events_of(b"x" * size), events_of(line(message="x", field=half, other=half))):
        events.records[0]["message"] = whole  # no control character is in a message that was decoded
        body = encode((events, 0, 1))
        (log,) = logs(body)
        assert body.size <= LIMITS.max_body_bytes
        assert (body.truncated, log["truncated"]) == (1, True)
        assert set(log["message"]) == {character}


def test_more_than_one_event_over_the_limit_is_for_the_caller_to_halve() -> None:
    fields = {f"f{number}": "x" * 100_000 for number in range(6)}
    events = events_of(line(message="a", **fields), line(message="b", **fields))
    body = encode((events, 0, 2))
    assert body.size > LIMITS.max_body_bytes
    assert body.truncated == 0
    assert encode((events, 0, 1)).size < LIMITS.max_body_bytes


@pytest.mark.parametrize("depth", [200, 252, 253, 254, 600, 1000])
def test_a_field_of_any_depth_arrives(depth: int) -> None:
    text = "[" * depth + "]" * depth
    nested = '{"a":' * depth + "1" + "}" * depth
    events = events_of(b'{"msg":"deep","n":1,"list":%s,"object":%s}' % (text.encode(), nested.encode()))
    (log,) = logs(encode((events, 0, 1)))
    assert log["list"] == text
    (name,) = (name for name in log if name.startswith("object"))
    assert len(name) <= 255
    assert name.count(".a") + str(log[name]).count('"a"') == depth
    assert (log["n"], log["message"], log["host"]) == (1, "deep", "worker-1")


def test_text_that_cannot_be_written_is_replaced() -> None:
    notice = Events.notice("stderr", NOW_MS, "info", "m\ud800", {"reason": "r\udcff", "dropped": {"a\ud800": 1}})
    (log,) = logs(encode((notice, 0, 1)))
    assert (log["message"], log["reason"], log["dropped.a?"]) == ("m?", "r?", 1)


def test_a_tag_of_a_name_that_is_ours_is_told_to_be_a_tag() -> None:
    tags = (("host", "h"), ("level", "l"), ("entity.guid", "g"), ("accountId", "1"), ("env", "a"), ("env", "b"))
    facts = Facts("0" * 16, "worker-1", "a", "s", tags, (), 1, 0, "")
    log = log_of(line(message="m", env="theirs"), facts=facts)
    assert (log["host"], log["level"]) == ("worker-1", "info")
    assert (log["tag.host"], log["tag.level"], log["tag.entity.guid"], log["tag.accountId"]) == ("h", "l", "g", "1")
    assert (log["env"], log["agent.env"]) == ("a,b", "theirs")


NAMES = st.one_of(
    st.sampled_from(sorted(CLAIMED)),
    st.sampled_from(["accountId", "entity.guid", "entity", "newrelic", "env", "a.b", "a", "agent.fields", "logtype"]),
    st.text(max_size=6),
    st.text(min_size=254, max_size=257),
)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=9)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
FIELDS = st.dictionaries(NAMES, VALUES, max_size=8)


def is_object(value: object) -> bool:
    try:
        return isinstance(value, str) and isinstance(orjson.loads(value), dict)
    except ValueError:
        return False


@given(st.lists(st.one_of(FIELDS.map(orjson.dumps), st.binary(max_size=30)), max_size=12))
def test_whatever_an_agent_prints_is_flat_within_the_limits_and_never_in_our_place(lines: list[bytes]) -> None:
    events = events_of(*lines)
    encoder = sink().encoder(FACTS)
    made = logs(encoder([(events, 0, events.count)], NOW_MS))
    assert logs(encoder([(events, 0, events.count)], NOW_MS)) == made  # by names that it knows now
    for log, message, seq in zip(made, events.messages, events.seqs, strict=True):
        assert COMMON.items() <= log.items()
        assert (log["run"], log["stream"], log["seq"]) == ("00112233445566ff", "stdout", seq)
        assert type(log["timestamp"]) is int
        assert log["level"] in LEVELS
        assert log["message"] in (message, f"json: {message}")
        assert len(log) <= 255
        for name, value in log.items():
            assert 0 < len(name) <= 255
            assert type(value) in (str, int, float, bool)
            assert not is_object(value)
            assert not name.startswith(("entity.", "newrelic.", "instrumentation."))
        assert log.keys().isdisjoint({"accountId", "eventType", "logtype", "LOG", "MESSAGE", "@timestamp", "severity"})


PLAIN_FIELDS = st.dictionaries(
    st.text(min_size=1, max_size=6).map("f".__add__),
    st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=9)),
    max_size=8,
)


@given(st.lists(st.tuples(st.text(max_size=9), PLAIN_FIELDS), min_size=1, max_size=6))
def test_a_line_comes_out_the_same_whether_or_not_it_has_to_be_made_flat(
    given_lines: list[tuple[str, dict[str, Any]]],
) -> None:
    shallow = events_of(*(line(message=message, **fields) for message, fields in given_lines))
    nested = events_of(*(line(message=message, n={"a": {"b": 1}}, **fields) for message, fields in given_lines))
    encoder, count = sink().encoder(FACTS), len(given_lines)
    expected = [{**log, "n.a.b": 1} for log in logs(encoder([(shallow, 0, count)], NOW_MS))]
    assert logs(encoder([(nested, 0, count)], NOW_MS)) == expected
    assert [{**log, "n.a.b": 1} for log in logs(encoder([(shallow, 0, count)], NOW_MS))] == expected


def test_a_body_is_told_by_its_content_so_that_repeats_are_known() -> None:
    events = events_of(*(b"same" for _ in range(8)))
    bodies = [
        encode((events, 0, 8)), encode((events, 0, 4)), encode((events, 4, 8)), encode((events, 0, 4), facts=OTHER),
        encode((events_of(*(b"same" for _ in range(8)), stream=2), 0, 8)),
    ]  # fmt: skip
    names = [body.headers["x-request-id"] for body in bodies]
    assert len(set(names)) == len(names)
    assert all(str(uuid.UUID(name)) == name and uuid.UUID(name).version == 4 for name in names)
    assert encode((events, 0, 8)).headers == bodies[0].headers


@pytest.mark.parametrize(
    ("key", "host", "region"),
    [
        (US_KEY, "log-api.newrelic.com", "us"),
        ("0123456789abcdef0123456789abcdef01234567", "log-api.newrelic.com", "us"),
        (EU_KEY, "log-api.eu.newrelic.com", "eu"),
        ("eu02xx0123456789abcdef0123456789abcdNRAL", "log-api.eu.newrelic.com", "eu"),
        ("jp01xx0123456789abcdef0123456789abcdNRAL", "log-api.jp.nr-data.net", "jp"),
        ("au01xx0123456789abcdef0123456789abcdNRAL", "log-api.au.nr-data.net", "au"),
        ("gov01x0123456789abcdef0123456789abcdNRAL", "gov-log-api.newrelic.com", "gov"),
    ],
)
def test_the_key_tells_the_region(key: str, host: str, region: str) -> None:
    made = sink(NEW_RELIC_LICENSE_KEY=f" {key}\n")
    assert (made.url, made.destination) == (f"https://{host}", host)
    assert made.place(FACTS) == f"region {region}"
    assert made.variable == "NEW_RELIC_LICENSE_KEY"


def test_another_intake_takes_the_place_of_the_regions() -> None:
    made = sink(SHIPPER_NEW_RELIC_URL="http://localhost:8080/", NEW_RELIC_LICENSE_KEY=EU_KEY)
    assert (made.url, made.place(FACTS)) == ("http://localhost:8080", "region eu")
    with pytest.raises(SettingError, match=r"SHIPPER_NEW_RELIC_URL .* nothing is sent to New Relic"):
        sink(SHIPPER_NEW_RELIC_URL="log-api.newrelic.com")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "is not set"),
        ("with space", "holds characters that no key has"),
        ("schlüssel", "holds characters that no key has"),
        ("NRAK-ABCDEFGHIJKLMNOPQRSTUVWXYZA", "looks like a user key of New Relic's, which is no license key"),
        ("NRII-abcdefghijklmnopqrstuvwxyz012345", "looks like an Insights key"),
        ("pub0123456789abcdef0123456789abcdef", "looks like a client token of Datadog's"),
        ("0123456789abcdef0123456789abcdef", "looks like an API key of Datadog's"),
        ("AKIAIOSFODNN7EXAMPLE", "looks like an access key id of AWS"),
        ("https://0123@o1.ingest.sentry.io/1", "looks like a DSN of Sentry's"),
        ("my.host/x", "names no region"),
    ],
)
def test_a_key_that_cannot_be_one_is_told_in_a_line(key: str, says: str) -> None:
    with pytest.raises(SettingError) as caught:
        sink(NEW_RELIC_LICENSE_KEY=key)
    assert caught.value.variable == "NEW_RELIC_LICENSE_KEY"
    assert says in caught.value.message
    assert caught.value.message.startswith("NEW_RELIC_LICENSE_KEY ")
    assert caught.value.message.endswith("nothing is sent to New Relic.")
    assert not key or key not in caught.value.message


def test_the_key_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(EU_KEY + "\n")
    made = NewRelic.from_env({"NEW_RELIC_LICENSE_KEY_FILE": str(path)})
    assert (made.destination, made.variable) == ("log-api.eu.newrelic.com", "NEW_RELIC_LICENSE_KEY_FILE")
    with pytest.raises(SettingError, match="NEW_RELIC_LICENSE_KEY_FILE names no file that holds a secret"):
        NewRelic.from_env({"NEW_RELIC_LICENSE_KEY_FILE": str(tmp_path / "none")})


def test_a_request_holds_a_million_bytes() -> None:
    assert LIMITS == (2500, 1_000_000, 950_000)


Server = tuple[str, list[tuple[str, "Mapping[str, str]", bytes]], list[int]]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """An address, the requests that came there, and the statuses to answer with, 202 once there are no more."""
    requests: list[tuple[str, Mapping[str, str], bytes]] = []
    statuses: list[int] = []

    async def respond(request: web.BaseRequest) -> web.Response:
        requests.append((request.path_qs, request.headers, await request.read()))
        return web.json_response({}, status=statuses.pop(0) if statuses else 202, headers={"Retry-After": "7"})

    runner = web.ServerRunner(web.Server(respond))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", requests, statuses
    await runner.cleanup()


async def test_a_body_goes_out_under_the_key_and_with_one_request_id_however_often(server: Server) -> None:
    url, requests, statuses = server
    statuses.append(503)
    made = sink(SHIPPER_NEW_RELIC_URL=url)
    await made.open()
    body = made.encoder(FACTS)([(events_of(b"m"), 0, 1)], NOW_MS)
    with pytest.raises(RetryableError, match="trouble of its own"):
        await made.send(body)
    assert await made.send(body) is None
    await made.close()
    for path, headers, data in requests:
        assert (path, headers["Api-Key"], headers["Content-Encoding"]) == ("/log/v1", US_KEY, "gzip")
        assert (headers["Content-Type"], data) == ("application/json", gzip.decompress(body.data))
        assert headers["x-request-id"] == body.headers["x-request-id"]
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (200, None, ""), (202, None, ""), (204, None, ""),
        (400, RejectedError, "rejected the content"),
        (401, RefusedError, "refused the key in NEW_RELIC_LICENSE_KEY (status 401)"),
        (403, RefusedError, "in the region that the key names (us)"),
        (404, RetryableError, "SHIPPER_NEW_RELIC_URL"), (405, RetryableError, "SHIPPER_NEW_RELIC_URL"),
        (409, RetryableError, "SHIPPER_NEW_RELIC_URL"), (410, RetryableError, "SHIPPER_NEW_RELIC_URL"),
        (411, RetryableError, "SHIPPER_NEW_RELIC_URL"),
        (408, RetryableError, "trouble of its own"), (500, RetryableError, "trouble of its own"),
        (413, RejectedError, "too large"),
        (418, RetryableError, "does not give"),
        (429, RetryableError, "fewer requests"),
    ],
)  # fmt: skip
async def test_every_status_is_an_acceptance_or_an_error_in_words(
    server: Server, status: int, kind: type[SinkError] | None, says: str
) -> None:
    url, _, statuses = server
    statuses.append(status)
    made = sink(SHIPPER_NEW_RELIC_URL=url)
    body = made.encoder(FACTS)([(events_of(b"m"), 0, 1)], NOW_MS)
    try:
        if kind is None:
            assert await made.send(body) is None
            return
        with pytest.raises(kind) as caught:
            await made.send(body)
    finally:
        await made.close()
    assert says in str(caught.value)
    assert url.removeprefix("http://") in str(caught.value)
    assert US_KEY not in str(caught.value)
    if isinstance(caught.value, RetryableError):
        assert (caught.value.after, caught.value.throttled) == (7.0, status == 429)
