"""Sentry's envelopes to the byte and by its SDK's own parser, limits at their edge, its DSNs, its rate limits."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import subprocess
import sys
import threading
import tracemalloc
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from sentry_sdk.envelope import Envelope

from shipper import __version__
from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.crash import Crash
from shipper.lines.decoder import Decoder
from shipper.lines.events import Events
from shipper.lines.levels import LEVELS
from shipper.lines.names import CLAIMED
from shipper.sinks.base import RECORDS, Body, RefusedError, RejectedError, RetryableError, SettingError, SinkError
from shipper.sinks.datadog import Datadog
from shipper.sinks.http import MAX_RETRY_AFTER
from shipper.sinks.parts import flat
from shipper.sinks.sentry import (
    DEFAULT_WAIT,
    LIMITS,
    MAX_AGE_MS,
    MAX_AHEAD_MS,
    MAX_LOG_BYTES,
    SEVERITIES,
    Sentry,
    rate_limit,
)
from tests.bodies import printed_fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shipper.lines.events import Record

NOW_MS = 1_795_492_800_000  # 2026-11-24T04:00:00Z
KEY = "0123456789abcdef0123456789abcdef"
DSN = f"https://{KEY}@o1.ingest.us.sentry.io/42"
TAGS = (("env", "prod"), ("team", "a b"))
FACTS = Facts("00112233445566ff", "worker-1", "agent-1", "cloud.livekit.io", TAGS, ("sentry",), 262_144, 0, "python")
BARE = Facts("00112233445566ff", "worker-1", "agent-1", "cloud.livekit.io", (), (), 262_144, 0, "python")
SAMPLES = sorted((Path(__file__).parents[2] / "demo" / "lines").glob("*.log"))
ROOT = Path(__file__).parents[2]

TYPES: dict[str, type] = {"string": str, "integer": int, "double": float, "boolean": bool}
HEX_32, HEX_16 = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{16}")


def sink(dsn: str = DSN, **environ: str) -> Sentry:
    return Sentry.from_env({"SENTRY_DSN": dsn, **environ})


def events_of(*lines: bytes, stream: int = 1, capture_ms: int = NOW_MS, parts: dict[int, int] | None = None) -> Events:
    return Decoder().decode(Batch(stream, list(lines), 1, [(0, capture_ms * 10**6)], parts or {}))


def encode(*slices: tuple[Events, int, int], facts: Facts = FACTS, now_ms: int = NOW_MS) -> Body:
    return sink().encoder(facts)(slices, now_ms)


def items(body: Body) -> list[dict[str, Any]]:
    """The items, by the SDK's parser, held against what Relay demands of each."""
    envelope = Envelope.deserialize(gzip.decompress(body.data))
    assert envelope.headers == {"sdk": {"name": "agent-shipper", "version": __version__}}
    (item,) = envelope.items
    assert item.headers == {
        "type": "log", "item_count": body.count, "content_type": "application/vnd.sentry.items.log+json",
    }  # fmt: skip
    payload = item.get_bytes()
    assert len(payload) == body.size
    container = json.loads(payload)
    assert container.keys() == {"version", "items"}
    assert container["version"] == 2
    made: list[dict[str, Any]] = container["items"]
    assert len(made) == body.count
    for log in made:
        assert log.keys() - {"span_id"} == {"timestamp", "trace_id", "level", "body", "attributes"}
        assert isinstance(log["timestamp"], float)
        assert HEX_32.fullmatch(log["trace_id"])
        assert HEX_16.fullmatch(log.get("span_id", "0" * 16))
        assert log["level"] in ("trace", "debug", "info", "warn", "error", "fatal")
        assert isinstance(log["body"], str)
        for name, attribute in log["attributes"].items():
            assert attribute.keys() == {"value", "type"}
            assert isinstance(attribute["value"], TYPES[attribute["type"]]), name
            assert (attribute["type"] == "boolean") == isinstance(attribute["value"], bool)
            assert attribute["type"] != "integer" or attribute["value"] in range(-(2**63), 2**63)
    return made


def values(log: dict[str, Any]) -> dict[str, Any]:
    return {name: attribute["value"] for name, attribute in log["attributes"].items()}


def attribute(name: str, value: str | int, kind: str) -> str:
    return f'"{name}":{{"value":{json.dumps(value)},"type":"{kind}"}}'


def test_the_envelope_is_this_to_the_byte() -> None:
    out = events_of(
        b'{"message":"hi \\"you\\"","level":"WARNING","pid":7,"ok":true,"took":0.5,"name":"x",'
        b'"timestamp":"2026-11-24T04:00:00.250+00:00"}',
        b"plain \x1b[0m\xff",
    )
    made = gzip.decompress(encode((out, 0, 2), facts=BARE).data).decode()
    head, item_head, payload, rest = made.split("\n")
    assert rest == ""
    assert head == f'{{"sdk":{{"name":"agent-shipper","version":"{__version__}"}}}}'
    assert item_head == '{"item_count":2,"type":"log","content_type":"application/vnd.sentry.items.log+json"}'
    trace = json.loads(payload)["items"][0]["trace_id"]

    def same(level: str, number: int) -> str:
        texts = {
            "run": "00112233445566ff", "host": "worker-1", "worker_id": "worker-1", "server.address": "worker-1",
            "source": "agent-1", "agent_id": "agent-1", "service": "cloud.livekit.io", "stream": "stdout",
        }  # fmt: skip
        return (
            f'"level":"{level}","trace_id":"{trace}","attributes":{{'
            + ",".join(attribute(name, value, "string") for name, value in texts.items())
            + ","
            + attribute("sentry.severity_number", number, "integer")
            + ","
            + attribute("sentry.severity_text", level, "string")
            + ","
        )

    assert payload == (
        '{"version":2,"items":[{"body":"hi \\"you\\"",'
        + same("warn", 13)
        + attribute("seq", 1, "integer")
        + ","
        + attribute("sentry.timestamp.sequence", 1, "integer")
        + ","
        + attribute("pid", 7, "integer")
        + ',"ok":{"value":true,"type":"boolean"},"took":{"value":0.5,"type":"double"},'
        + attribute("name", "x", "string")
        + '},"timestamp":1795492800250e-3},{"body":"plain \ufffd",'
        + same("info", 9)
        + attribute("seq", 2, "integer")
        + ","
        + attribute("sentry.timestamp.sequence", 2, "integer")
        + '},"timestamp":1795492800000e-3}]}'
    )


def test_every_fact_of_a_line_has_its_name() -> None:
    out = events_of(b'{"msg":"m","level":"error","time":%d}' % NOW_MS, b"", b"text")
    err = events_of(b"piece", stream=2, parts={0: 3})
    notice = Events.notice(
        "stderr", NOW_MS, "error", "2 lines are missing.", {"run": "x", "lost": 2, "by": {"disk": 1}}
    )
    first, text, piece, own = items(encode((out, 0, 2), (err, 0, 1), (notice, 0, 1)))
    same = {
        "run": "00112233445566ff", "host": "worker-1", "worker_id": "worker-1", "server.address": "worker-1",
        "source": "agent-1", "agent_id": "agent-1", "service": "cloud.livekit.io", "env": "prod", "team": "a b",
    }  # fmt: skip
    info = {**same, "sentry.severity_number": 9, "sentry.severity_text": "info"}
    error = {**same, "sentry.severity_number": 17, "sentry.severity_text": "error"}
    assert (first["timestamp"], first["level"], first["body"]) == (1795492800.0, "error", "m")
    assert values(first) == {**error, "stream": "stdout", "seq": 1, "sentry.timestamp.sequence": 1}
    assert values(text) == {**info, "stream": "stdout", "seq": 3, "sentry.timestamp.sequence": 3, "skipped": 1}
    assert values(piece) == {**info, "stream": "stderr", "seq": 1, "sentry.timestamp.sequence": 1, "part": 3}
    assert values(own) == {**error, "stream": "stderr", "lost": 2, "logger": "shipper", "by.disk": 1}


def test_release_and_environment_are_those_of_the_variables() -> None:
    made = sink(SENTRY_RELEASE=" agent@1.2 ", SENTRY_ENVIRONMENT="prod").encoder(FACTS)
    (log,) = items(made([(events_of(b"m"), 0, 1)], NOW_MS))
    assert (values(log)["sentry.release"], values(log)["sentry.environment"]) == ("agent@1.2", "prod")
    (bare,) = items(encode((events_of(b"m"), 0, 1)))
    assert {"sentry.release", "sentry.environment"}.isdisjoint(bare["attributes"])


@pytest.mark.parametrize(
    ("level", "word", "number"),
    [
        ("trace", "trace", 1), ("debug", "debug", 5), ("info", "info", 9), ("notice", "info", 10),
        ("warning", "warn", 13), ("error", "error", 17), ("critical", "fatal", 21), ("alert", "fatal", 22),
        ("emergency", "fatal", 23),
    ],
)  # fmt: skip
def test_a_level_is_sentrys_word_and_opentelemetrys_number(level: str, word: str, number: int) -> None:
    (log,) = items(encode((Events.notice("stdout", 1, level, "m", {}), 0, 1), now_ms=1))
    assert log["level"] == values(log)["sentry.severity_text"] == word
    assert values(log)["sentry.severity_number"] == number


def test_every_level_has_its_severity_in_order() -> None:
    assert list(SEVERITIES) == list(range(len(LEVELS)))


def test_a_slice_is_only_its_part() -> None:
    events = events_of(*(b"%d" % number for number in range(350)))
    body = encode((events, 2, 4), (events, 9, 10), (events, 5, 5), (events, 100, 350))
    assert [log["body"] for log in items(body)] == ["2", "3", "9", *map(str, range(100, 350))]
    nothing = encode((events, 5, 5))
    assert items(nothing) == []


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_field_of_every_sample_line_arrives_beside_ours(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    events = events_of(*lines, capture_ms=1_795_495_000_000)
    for log in items(encode((events, 0, events.count), now_ms=1_795_495_000_000)):
        seen = values(log)
        line = lines[seen["seq"] - 1]
        assert (seen["host"], seen["source"], seen["service"]) == ("worker-1", "agent-1", "cloud.livekit.io")
        if line.startswith(b'{"'):
            for name, value in printed_fields(line).items():
                if name in ("level", "time", "timestamp") or value is None:
                    continue
                if isinstance(value, dict):
                    assert any(key.startswith(f"{name}.") for key in seen)
                else:
                    there = orjson.dumps(value).decode() if isinstance(value, list) else value
                    assert there in [log["body"], *seen.values()]


def test_fields_are_typed_flat_and_never_null() -> None:
    line = (
        b'{"msg":"m","s":"t","i":-5,"big":9223372036854775807,"huge":9223372036854775808,"most":18446744073709551615,'
        b'"over":18446744073709551616,"f":1.5,"one":1.0,"b":false,"n":null,"l":[1,"a",null],"o":{"a":{"b":1},"c":[]},"e":{}}'
    )
    ns = b'{"msg":"m","ns":1795492800250123456}'
    log, stamped = items(encode((events_of(line, ns), 0, 2)))
    found = {name: (made["value"], made["type"]) for name, made in log["attributes"].items()}
    assert {name: found[name] for name in found if name not in {*FACTS_ATTRIBUTES, "seq"}} == {
        "s": ("t", "string"), "i": (-5, "integer"), "big": (2**63 - 1, "integer"), "huge": (str(2**63), "string"),
        "most": (str(2**64 - 1), "string"), "over": (2.0**64, "double"), "f": (1.5, "double"), "one": (1.0, "double"),
        "b": (False, "boolean"), "l": ('[1,"a",null]', "string"), "o.a.b": (1, "integer"), "o.c": ("[]", "string"),
        "e": ("{}", "string"),
    }  # fmt: skip
    assert stamped["attributes"]["ns"] == {"value": 1795492800250123456, "type": "integer"}


FACTS_ATTRIBUTES = {
    "run", "host", "worker_id", "server.address", "source", "agent_id", "service", "stream", "env", "team",
    "sentry.severity_number", "sentry.severity_text", "sentry.timestamp.sequence",
}  # fmt: skip


def test_an_agents_own_names_of_ours_stay_findable_under_agent() -> None:
    line = {
        "msg": "m", "host": "h", "worker_id": "w", "agent_id": "a", "server.address": "s1", "server": {"address": "s2"},
        "sentry": {"release": "r"}, "sentry.environment": "e", "env": "mine", "agent.env": "nested", "": "no name",
        "body": "b", "attributes": "at", "trace_id": "none", "level": "odd",
    }  # fmt: skip
    (log,) = items(encode((events_of(orjson.dumps(line)), 0, 1)))
    seen = values(log)
    assert (seen["host"], seen["worker_id"], seen["agent_id"], seen["env"]) == (
        "worker-1",
        "worker-1",
        "agent-1",
        "prod",
    )
    assert seen["server.address"] == "worker-1"
    assert (seen["agent.host"], seen["agent.worker_id"], seen["agent.agent_id"]) == ("h", "w", "a")
    assert (seen["agent.sentry.release"], seen["agent.sentry.environment"], seen["agent."]) == ("r", "e", "no name")
    assert (seen["agent.agent.env"], seen["agent.env"]) == ("mine", "nested")
    assert (seen["body"], seen["attributes"], seen["trace_id"], seen["agent.level"]) == ("b", "at", "none", "odd")
    assert seen["agent.server.address"] == "s1"
    assert "s2" in str(seen)


def test_tags_never_take_a_name_of_ours() -> None:
    tags = (("service", "s"), ("sentry.release", "r"), ("worker_id", "w"), ("a", "1"), ("a", "2"), ("logger", "l"))
    facts = Facts("r", "h", "a", "svc", tags, (), 1, 0, "")
    (log,) = items(encode((events_of(b'{"msg":"m","a":"mine"}'), 0, 1), facts=facts))
    seen = values(log)
    assert (seen["service"], seen["tag.service"], seen["tag.sentry.release"], seen["tag.worker_id"]) == (
        "svc", "s", "r", "w",
    )  # fmt: skip
    assert (seen["a"], seen["agent.a"], seen["tag.logger"]) == ("1,2", "mine", "l")


def test_facts_of_any_text_are_escaped_and_stay_theirs() -> None:
    odd = Facts('r"', 'h"},{"x', "s\ud800 é&?#/", "sv\\", (("k\ud800", 'v"\ud800'),), (), 1, 0, "")
    (log,) = items(encode((events_of(b"m"), 0, 1), facts=odd))
    seen = values(log)
    assert (seen["run"], seen["host"], seen["source"]) == ('r"', 'h"},{"x', "s? é&?#/")
    assert (seen["service"], seen["k?"]) == ("sv\\", 'v"?')


def test_runs_and_streams_keep_their_own_facts_over_shared_events() -> None:
    events = events_of(b"a", b'{"msg":"b","k":1}')
    other = Facts("ffffffffffffffff", "worker-2", "agent-2", "svc", (), (), 1, 0, "")
    encode_one, encode_other = sink().encoder(FACTS), sink().encoder(other)
    for encoder, host in itertools.islice(itertools.cycle([(encode_one, "worker-1"), (encode_other, "worker-2")]), 6):
        made = items(encoder([(events, 0, 2)], NOW_MS))
        assert [values(log)["host"] for log in made] == [host, host]


def test_what_another_sink_left_in_the_free_slot_is_not_a_field() -> None:
    events = events_of(b"text", b'{"msg":"b","k":1}', b'{"msg":"c","l":[]}', b'{"msg":"d","n":18446744073709551615}')
    before = encode((events, 0, 4))
    Datadog.from_env({"DATADOG_TOKEN": KEY}).encoder(BARE)([(events, 0, 4)], NOW_MS)
    assert all("run" in record for record in events.records)
    assert items(encode((events, 0, 4))) == items(before)


def test_records_are_as_they_were() -> None:
    events = events_of(b"text", b'{"msg":"b","k":1}', b'{"msg":"c","l":[]}', b"x" * 10_000, capture_ms=NOW_MS - 10)
    before = orjson.dumps(events.records)
    encode((events, 0, 4), now_ms=NOW_MS + MAX_AGE_MS * 2)
    assert orjson.dumps(events.records) == before
    assert not RECORDS.locked()


def test_encoders_in_several_threads_do_not_mix_their_facts() -> None:
    events = events_of(*[b'{"msg":"m","k":1}', b"t"] * 150)
    wrong: list[str] = []

    def work(number: int) -> None:
        host = f"host-{number}"
        facts = Facts("0" * 16, host, "a", "s", (), (), 1, 0, "")
        encoder = sink().encoder(facts) if number % 2 else Datadog.from_env({"DATADOG_TOKEN": KEY}).encoder(facts)
        for _ in range(20):
            body = encoder([(events, 0, 300)], NOW_MS)
            if number % 2:
                wrong.extend(values(log)["host"] for log in items(body) if values(log)["host"] != host)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"


@pytest.mark.parametrize("names", [("trace_id", "span_id"), ("traceId", "spanId"), ("otelTraceID", "otelSpanID"),
                                   ("trace.id", "span.id")])  # fmt: skip
def test_a_lines_own_trace_and_span_are_the_items(names: tuple[str, str]) -> None:
    lines = [orjson.dumps({"msg": "m", names[0]: TRACE.upper(), names[1]: SPAN}), b'{"msg":"m","k":1}']
    with_span, other = items(encode((events_of(*lines), 0, 2)))
    assert (with_span["trace_id"], with_span["span_id"]) == (TRACE, SPAN)
    assert values(with_span)[names[0]] == TRACE.upper()
    assert other["trace_id"] != TRACE
    assert "span_id" not in other


@pytest.mark.parametrize("trace", ["0" * 32, "x" * 32, TRACE[1:], TRACE + "0", "", 5, None, [TRACE]])
def test_what_is_no_trace_leaves_the_runs_and_no_span(trace: object) -> None:
    line = orjson.dumps({"msg": "m", "trace_id": trace, "span_id": SPAN})
    log, text = items(encode((events_of(line, b"text"), 0, 2)))
    assert log["trace_id"] == text["trace_id"]
    assert "span_id" not in log
    assert values(log)["span_id"] == SPAN


@pytest.mark.parametrize("span", ["0" * 16, SPAN[1:], 7, None, {}])
def test_a_span_that_is_none_leaves_the_trace(span: object) -> None:
    (log,) = items(encode((events_of(orjson.dumps({"msg": "m", "trace_id": TRACE, "span_id": span})), 0, 1)))
    assert log["trace_id"] == TRACE
    assert "span_id" not in log


def test_a_run_has_one_trace_of_its_own_over_restarts() -> None:
    events = events_of(b"m")
    (one,), (again,) = items(encode((events, 0, 1))), items(encode((events, 0, 1)))
    (other,) = items(encode((events, 0, 1), facts=Facts("f" * 16, "h", "a", "s", (), (), 1, 0, "")))
    assert one["trace_id"] == again["trace_id"] != other["trace_id"]


@pytest.mark.parametrize(
    ("age_ms", "moved"),
    [(MAX_AGE_MS, 0), (MAX_AGE_MS + 1, 1), (90 * 86_400_000, 1), (-MAX_AHEAD_MS, 0), (-MAX_AHEAD_MS - 1, 1)],
)
def test_a_line_too_old_or_too_new_comes_under_the_present_time_and_keeps_its_own(age_ms: int, moved: int) -> None:
    events = events_of(b"old", capture_ms=NOW_MS - age_ms)
    body = encode((events, 0, 1))
    (log,) = items(body)
    assert body.moved == moved
    if moved:
        assert log["timestamp"] * 1000 == NOW_MS
        assert log["attributes"]["original_timestamp"] == {"value": NOW_MS - age_ms, "type": "integer"}
    else:
        assert round(log["timestamp"] * 1000) == NOW_MS - age_ms
        assert "original_timestamp" not in log["attributes"]
    assert events.times_ms == [NOW_MS - age_ms]  # as it was, for other sinks and another try


def test_the_limits_are_relays() -> None:
    assert LIMITS == (1000, 12_582_912, 4_194_304)
    assert MAX_LOG_BYTES == 2_097_152


@pytest.mark.parametrize("over", [0, 1, 2])
def test_a_log_is_cut_only_when_it_is_larger_than_one_may_be(over: int) -> None:
    room = MAX_LOG_BYTES - encode((events_of(b"x"), 0, 1)).size + 1
    body = encode((events_of(b"x" * (room + over)), 0, 1))
    (log,) = items(body)
    assert body.size == MAX_LOG_BYTES
    assert body.truncated == (1 if over else 0)
    assert values(log).get("truncated") == (True if over else None)
    assert set(log["body"]) == {"x"}


@pytest.mark.parametrize("character", ["é", "漢", "🙂", "\x01", '"', "\\"])
def test_a_message_is_cut_at_a_character_also_among_others(character: str) -> None:
    events = events_of(b"before", b"x" * 2_200_000, b"after")
    events.records[1]["message"] = character * 2_200_000  # no control character is in a message that was decoded
    body = encode((events, 0, 3))
    before, cut, after = items(body)
    assert (before["body"], after["body"], body.truncated) == ("before", "after", 1)
    assert set(cut["body"]) == {character}
    assert values(cut)["truncated"] is True


def test_fields_too_large_for_a_log_are_cut_as_text() -> None:
    line = b'{"msg":"short","level":"error","big":"' + b"x" * 3_000_000 + b'"}'
    body = encode((events_of(line), 0, 1))
    (log,) = items(body)
    assert body.size <= MAX_LOG_BYTES
    assert (log["body"], log["level"], values(log)["seq"], values(log)["host"]) == ("short", "error", 1, "worker-1")
    assert values(log)["agent.fields"].startswith('{"big":"xxx')


@pytest.mark.parametrize(("fields", "truncated"), [(1000, 0), (3000, 1)])
def test_a_small_line_that_grows_by_its_names_is_cut_too(fields: int, truncated: int) -> None:
    line = orjson.dumps({"msg": "m", "\x01" * 190: {f"{number:x}": 1 for number in range(fields)}})
    assert len(line) < 30_000
    body = encode((events_of(line), 0, 1))
    (log,) = items(body)
    assert MAX_LOG_BYTES // 4 < body.size <= MAX_LOG_BYTES
    assert body.truncated == truncated
    assert ("agent.fields" in log["attributes"]) == bool(truncated)


def test_more_than_one_event_over_the_limit_is_for_the_caller_to_halve() -> None:
    events = events_of(*[b"x" * 2_000_000] * 7)
    body = encode((events, 0, 7))
    assert body.size > LIMITS.max_body_bytes
    assert body.truncated == 0
    assert encode((events, 0, 3)).size < LIMITS.max_body_bytes


@pytest.mark.parametrize("depth", [200, 253, 254, 600, 1000])
def test_a_field_of_any_depth_arrives(depth: int) -> None:
    text = "[" * depth + "]" * depth
    events = events_of(b'{"msg":"deep","n":1,"deep":' + text.encode() + b"}", b'{"msg":"near","k":{"a":[]}}')
    deep, near = items(encode((events, 0, 2)))
    assert (values(deep)["deep"], values(deep)["n"], deep["body"]) == (text, 1, "deep")
    assert values(near)["k.a"] == "[]"


def test_a_name_longer_than_sentry_shows_is_cut() -> None:
    (log,) = items(encode((events_of(orjson.dumps({"msg": "m", "n" * 300: 1, "k": 2})), 0, 1)))
    assert (values(log)["n" * 200], values(log)["k"]) == (1, 2)
    assert max(map(len, log["attributes"])) == 200


def test_a_line_with_a_thousand_fields_and_more_shapes_than_are_kept_arrive() -> None:
    many = orjson.dumps({"msg": "m", **{f"f{number}": number for number in range(1000)}})
    shapes = [orjson.dumps({"msg": "m", f"k{number}": number % 2 or "t"}) for number in range(3000)]
    encoder = sink().encoder(FACTS)
    events = events_of(many, *shapes)
    for _ in range(2):
        made = items(encoder([(events, 0, events.count)], NOW_MS))
        assert [values(made[0])[f"f{number}"] for number in range(1000)] == list(range(1000))
        assert [values(log)[f"k{number}"] for number, log in enumerate(made[1:])] == [n % 2 or "t" for n in range(3000)]


def test_text_with_lone_surrogates_is_written_without_them() -> None:
    notice = Events.notice("stdout", NOW_MS, "info", "a \ud800 b", {"path": "\udcff"})
    (log,) = items(encode((notice, 0, 1)))
    assert (log["body"], values(log)["path"]) == ("a ? b", "?")


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=10),
)  # fmt: skip
FIELDS = st.dictionaries(
    st.one_of(
        st.sampled_from(sorted({*CLAIMED, "worker_id", "sentry", "sentry.x", "server", "env", "trace_id", "span_id"})),
        st.text(max_size=6),
    ),
    st.one_of(ODD, st.lists(ODD, max_size=3), st.dictionaries(st.sampled_from(["address", "x", ""]), ODD, max_size=3)),
    max_size=8,
)


@given(st.lists(st.one_of(FIELDS.map(orjson.dumps), st.binary(max_size=30)), max_size=20))
def test_nothing_that_an_agent_prints_takes_our_place_or_breaks_an_item(lines: list[bytes]) -> None:
    events = events_of(*lines)
    body = encode((events, 0, events.count))
    for log, record in zip(items(body), events.records, strict=True):
        seen = values(log)
        assert log["body"] == record["message"]
        assert (seen["host"], seen["worker_id"], seen["server.address"]) == ("worker-1", "worker-1", "worker-1")
        assert (seen["source"], seen["agent_id"], seen["service"]) == ("agent-1", "agent-1", "cloud.livekit.io")
        assert (seen["run"], seen["stream"], seen["env"], seen["team"]) == ("00112233445566ff", "stdout", "prod", "a b")
        assert seen["seq"] == record["seq"]
        fixed = {"sentry.severity_number", "sentry.severity_text", "sentry.timestamp.sequence"}
        assert {name for name in seen if name.startswith("sentry.")} == fixed
    text = gzip.decompress(body.data)
    assert text.count(b'"run":{"value":"00112233445566ff","type":"string"},"host"') == body.count


def as_plainly_made(record: dict[str, Any], stream: str, level: int) -> dict[str, Any]:
    """What the attributes of a record should be, made one by one."""
    word, number = SEVERITIES[level]
    made = {
        "run": "00112233445566ff", "host": "worker-1", "worker_id": "worker-1", "server.address": "worker-1",
        "source": "agent-1", "agent_id": "agent-1", "service": "cloud.livekit.io", "stream": stream,
        "sentry.severity_number": number, "sentry.severity_text": word, "env": "prod", "team": "a b",
        "sentry.timestamp.sequence": record["seq"],
    }  # fmt: skip
    taken = {"worker_id", "agent_id", "server.address", "env", "team", ""}
    fields = flat({name: value for name, value in record.items() if name not in ("message", "timestamp")}, 200)
    present = set(fields)
    for name, value in fields.items():
        free = name
        while free in taken or free.startswith("sentry.") or (free != name and free in present):
            free = f"agent.{free}"
        present.add(free)
        made[free] = str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
    return {name: (value, type(value)) for name, value in made.items()}


ALIKE = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.dictionaries(
            st.sampled_from(["a", "b", "env", "trace_id", "value", "type", "body", 'q"\\{', "sentry.x", "o.x"]),
            st.one_of(
                ODD, st.sampled_from([[1, "x"], {}, {"x": 1}, {"x": {"y": None}}, '"},"seq":{"value":', "\n  ,"])
            ),
            max_size=3,
        ).map(orjson.dumps),
    ),
    max_size=40,
)


@given(ALIKE, st.booleans())
def test_each_line_is_the_same_whatever_stands_before_it(lines: list[bytes], others: bool) -> None:
    """Shapes seen before, with values of these or of other types, change nothing."""
    events = events_of(*lines)
    if others:
        Datadog.from_env({"DATADOG_TOKEN": KEY}).encoder(BARE)([(events, 0, events.count)], NOW_MS)
    encoder = sink().encoder(FACTS)
    for _ in range(2):
        made = items(encoder([(events, 0, events.count)], NOW_MS))
        for log, record, level in zip(made, events.records, events.levels, strict=True):
            record = {name: value for name, value in record.items() if name != "run"}
            found = {name: (kept["value"], type(kept["value"])) for name, kept in log["attributes"].items()}
            assert found == as_plainly_made(record, "stdout", level)
            assert log["body"] == record["message"]
            assert round(log["timestamp"] * 1000) == record["timestamp"]


def test_values_of_one_name_may_change_their_types_from_line_to_line() -> None:
    kinds: list[object] = [1, "1", 1.0, True, [1], None, {"x": 1}, 2**63, 1]
    lines = [orjson.dumps({"msg": "m", "v": kind}) for kind in kinds]
    events = events_of(*lines * 30)
    found = [values(log) for log in items(encode((events, 0, events.count)))]
    for number, log in enumerate(found):
        kind = kinds[number % len(kinds)]
        if isinstance(kind, dict):
            assert (log["v.x"], "v" in log) == (1, False)
        elif kind is None:
            assert "v" not in log
        else:
            expected = "[1]" if isinstance(kind, list) else str(kind) if kind == 2**63 else kind
            assert (log["v"], type(log["v"])) == (expected, type(expected))


TEXTS = ['e-3},{"body":', '",\n  "', ",\n  ", '"}},{"', "\\", '\\"', "\u2028", "{", "[1,\n  2]", "  1e-3"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_that_looks_like_what_is_around_it_stays_text(text: str) -> None:
    events = events_of(orjson.dumps({"msg": text, "k": text, text: text}), text.replace("\n", " ").encode(), b"after")
    first, second, after = items(encode((events, 0, 3)))
    assert (first["body"], values(first)["k"], values(first)[text]) == (text, text, text)
    assert (second["body"], after["body"]) == (text.replace("\n", " "), "after")


def test_each_line_of_text_has_its_own_time() -> None:
    times = [-1, -1, 0, 5, 5, -1, 1_000]
    records: list[Record] = [{"message": "m", "timestamp": time, "seq": seq} for seq, time in enumerate(times, 1)]
    events = Events("stdout", records, [2] * 7, [1] * 7, floor_ms=-1, ceiling_ms=1_000)
    made = items(encode((events, 0, 7), now_ms=1_000))
    assert [log["timestamp"] * 1000 for log in made] == times


@pytest.mark.parametrize("count", [1, 2, 5, 10, 20, 40, 100, 101, 130, 250])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_few_lines_are_compressed_as_well_as_many(count: int, one_by_one: bool) -> None:
    lines = [line for path in SAMPLES for line in path.read_bytes().split(b"\n") if line]
    events = events_of(*itertools.islice(itertools.cycle(lines), count))
    slices = [(events, number, number + 1) for number in range(count)] if one_by_one else [(events, 0, count)]
    body = encode(*slices)
    usual = zlib.compressobj(1, wbits=31)
    assert len(body.data) <= 1.15 * len(usual.compress(gzip.decompress(body.data)) + usual.flush()) + 60


def test_shapes_take_no_more_memory_than_they_may() -> None:
    def events(number: int) -> Events:
        names = [f"name-{number}-{index}-".ljust(40, "x") for index in range(40)]
        return events_of(*(orjson.dumps({"msg": "m", f"f{line}": 1, **dict.fromkeys(names, 1)}) for line in range(10)))

    encoder = sink().encoder(FACTS)
    encoder([(events(0), 0, 10)], NOW_MS)
    tracemalloc.start()
    try:
        for number in range(1, 200):  # 2,000 shapes of 45 names each
            encoder([(events(number), 0, 10)], NOW_MS)
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


SDK = """
import json, sys
import sentry_sdk
from sentry_sdk import logger
from sentry_sdk.transport import Transport

class Kept(Transport):
    envelopes = []
    def capture_envelope(self, envelope):
        Kept.envelopes.append(envelope)

sentry_sdk.init(dsn=sys.argv[1], enable_logs=True, transport=Kept, release="r@1", environment="e", server_name="w",
                default_integrations=False, auto_enabling_integrations=False)
logger.warning("hello", attributes={"i": 1, "f": 1.5, "b": True, "s": "t"})
sentry_sdk.flush()
(envelope,) = Kept.envelopes
(item,) = envelope.items
print(json.dumps({"headers": item.headers, "payload": json.loads(item.get_bytes())}))
"""


def test_an_item_has_the_shape_that_the_sdk_gives_it() -> None:
    ran = subprocess.run([sys.executable, "-c", SDK, DSN], capture_output=True, check=True, timeout=60)
    theirs = json.loads(ran.stdout)
    line = orjson.dumps({"msg": "hello", "level": "warning", "i": 1, "f": 1.5, "b": True, "s": "t"})
    made = sink(SENTRY_RELEASE="r@1", SENTRY_ENVIRONMENT="e")
    facts = Facts("0" * 16, "w", "a", "s", (), (), 1, 0, "")
    body = made.encoder(facts)([(events_of(line), 0, 1)], NOW_MS)
    (log,) = items(body)
    envelope = Envelope.deserialize(gzip.decompress(body.data))
    assert envelope.items[0].headers == theirs["headers"]
    assert theirs["payload"].keys() == {"version", "items"}
    assert theirs["payload"]["version"] == 2
    (their,) = theirs["payload"]["items"]
    assert log.keys() == their.keys() - {"span_id"}
    assert (log["level"], log["body"], type(log["timestamp"])) == (their["level"], their["body"], float)
    left_out = {"sentry.sdk.name", "sentry.sdk.version"}
    of_its_process = {name for name in their["attributes"] if name.startswith("process.")}
    same = their["attributes"].keys() - left_out - of_its_process
    assert same >= {"i", "f", "b", "s", "sentry.severity_number", "sentry.release", "server.address"}
    for name in same:
        assert log["attributes"][name] == their["attributes"][name], name


def test_importing_the_sink_starts_and_patches_nothing() -> None:
    script = """
import atexit, logging, sys, threading, socket, signal, warnings
import asyncio, aiohttp
before = (sys.excepthook, sys.unraisablehook, threading.excepthook, threading.Thread.start, threading.Thread.run,
          logging.Logger.callHandlers, logging.root.handlers[:], logging.root.level, logging.raiseExceptions,
          socket.socket.connect, socket.getaddrinfo, signal.getsignal(signal.SIGTERM), atexit._ncallbacks(),
          threading.active_count())
import shipper.sinks.sentry
sink = shipper.sinks.sentry.Sentry.from_env({"SENTRY_DSN": sys.argv[1]})
after = (sys.excepthook, sys.unraisablehook, threading.excepthook, threading.Thread.start, threading.Thread.run,
         logging.Logger.callHandlers, logging.root.handlers[:], logging.root.level, logging.raiseExceptions,
         socket.socket.connect, socket.getaddrinfo, signal.getsignal(signal.SIGTERM), atexit._ncallbacks(),
         threading.active_count())
assert before == after, (before, after)
import sentry_sdk
assert not sentry_sdk.is_initialized()
assert not any(name.startswith("sentry_sdk.integrations.") and name != "sentry_sdk.integrations.dedupe"
               for name in sys.modules), sorted(name for name in sys.modules if "integrations" in name)
print("quiet")
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, DSN], capture_output=True, cwd=ROOT, timeout=60, check=False,
        env={"SENTRY_DSN": DSN, "PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert (ran.stdout, ran.stderr) == (b"quiet\n", b"")


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("", "is not set"),
        (" ", "is not set"),
        ("https://k y@h/1", "characters"),
        (f"https://{KEY}@h/4\x00", "characters"),
        (f"https://{KEY}@caf\u00e9/1", "characters"),
        (f"{KEY}@h/1", "does not begin with https"),
        (f"ftp://{KEY}@h/1", "does not begin with https"),
        (f'"https://{KEY}@h/1"', "has quotes around it"),
        ("hunter2", "does not begin with https"),
        (f"https://{KEY}@/1", "names no host"),
        ("https://sentry.example/1", "has no key"),
        ("https://@sentry.example/1", "has no key"),
        (f"https://{KEY}@sentry.example", "names no project"),
        (f"https://{KEY}@sentry.example/", "names no project"),
        (f"https://{KEY}@sentry.example/42/", "names no project"),
        (f"https://{KEY}@sentry.example/my-project", "names no project"),
        (f"https://{KEY}@sentry.example/-1", "names no project"),
        (f"https://{KEY}@sentry.example/+1", "names no project"),
        (f"https://{KEY}@sentry.example/1_0", "names no project"),
        (f"https://{KEY}@sentry.example:99999/1", "no valid host and port"),
        (f"https://{KEY}@sentry.example:x/1", "no valid host and port"),
        (f"https://{KEY}@sentry.example:0/1", "no valid host and port"),
        (f"https://{KEY}@me:hunter2@sentry.example/1", "no valid host and port"),
        (f"https://{KEY}@[::1/1", "no valid host and port"),
        ("pub" + KEY, "looks like a client token of Datadog's"),
        (KEY, "looks like an API key of Datadog's"),
        ("0" * 36 + "NRAL", "looks like a license key of New Relic's"),
        ("AKIAABCDEFGHIJKLMNOP", "looks like an access key id of AWS"),
        ("sntrys_abcdef", "looks like an auth token of Sentry's, which is no DSN"),
    ],
)
def test_a_dsn_that_is_none_is_one_clear_line_that_does_not_show_it(dsn: str, words: str) -> None:
    with pytest.raises(SettingError) as caught:
        sink(dsn)
    message = caught.value.message
    assert caught.value.variable == "SENTRY_DSN"
    assert message.startswith("SENTRY_DSN ")
    assert words in message
    assert message.endswith("nothing is sent to Sentry.")
    assert "\n" not in message
    assert not dsn.strip() or dsn not in message
    assert KEY not in message
    assert "hunter2" not in message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("dsn", "base", "target", "destination"),
    [
        (DSN, "https://o1.ingest.us.sentry.io", "/api/42/envelope/", "o1.ingest.us.sentry.io"),
        (f"http://{KEY}@127.0.0.1:8080/1", "http://127.0.0.1:8080", "/api/1/envelope/", "127.0.0.1:8080"),
        (f"https://{KEY}@h.example/a/b/42", "https://h.example", "/a/b/api/42/envelope/", "h.example"),
        (f"https://{KEY}:old@h.example:9000/7", "https://h.example:9000", "/api/7/envelope/", "h.example:9000"),
        (f" https://{KEY}@[::1]:8443/7\n", "https://[::1]:8443", "/api/7/envelope/", "[::1]:8443"),
        (f"HTTPS://{KEY}@h.example/7", "https://h.example", "/api/7/envelope/", "h.example"),
    ],
)
def test_a_dsn_says_where_envelopes_go(dsn: str, base: str, target: str, destination: str) -> None:
    made = sink(dsn)
    assert (made.url, made.destination) == (base, destination)
    body = made.encoder(FACTS)([(events_of(b"m"), 0, 1)], NOW_MS)
    assert body.target == target
    assert made.place(FACTS) == f"project {target.split('/')[-3]}"
    assert KEY not in body.target


def test_the_dsn_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "dsn"
    path.write_text(DSN + "\n")
    made = Sentry.from_env({"SENTRY_DSN_FILE": str(path)})
    assert (made.variable, made.project) == ("SENTRY_DSN_FILE", "42")
    assert sink().variable == "SENTRY_DSN"
    with pytest.raises(SettingError, match="SENTRY_DSN_FILE names no file that holds a secret"):
        Sentry.from_env({"SENTRY_DSN_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("60:log_item:organization:quota_exceeded", 60.0),
        ("60:log_byte:key", 60.0),
        ("60:error;log_item;transaction:project", 60.0),
        ("60::organization", 60.0),
        ("60:", 60.0),
        ("60", 60.0),
        ("60:error:organization", None),
        ("60:error;transaction;log:organization", None),
        ("60:logs_item:organization", None),
        ("2700:error:organization, 60:log_item:organization, 30::key", 60.0),
        (" 5 :log_item:x", 5.0),
        ("5:log_item:x:reason:namespace;other:more:fields", 5.0),
        ("0:log_item:x", 0.0),
        ("x:log_item:x", None),
        ("-5:log_item:x", None),
        ("\u00b2:log_item:x", None),
        (":::,,;,60", 60.0),
        ("9999999999999:log_item:x", MAX_RETRY_AFTER),
    ],
)
def test_a_rate_limit_counts_when_it_is_on_logs(header: str, seconds: float | None) -> None:
    assert rate_limit(header.replace(" 5 ", "5")) == seconds


@given(st.text(max_size=40))
def test_no_rate_limit_header_breaks_anything(header: str) -> None:
    seconds = rate_limit(header)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


class Relay:
    """Answers as told, and keeps what it got."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"{}"
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.dsn = ""
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.dsn = f"http://{KEY}@127.0.0.1:{self._runner.addresses[0][1]}/prefix/42"

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        self.requests.append((str(request.rel_url), dict(request.headers), await request.read()))
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    started = Relay()
    await started.start()
    yield started
    await started.close()


async def outcome(
    relay: Relay, status: int, headers: dict[str, str] | None = None, body: bytes = b"{}", events: Events | None = None
) -> Any:
    relay.status, relay.headers, relay.body = status, headers or {}, body
    made = sink(relay.dsn)
    try:
        said: Any = await made.send(made.encoder(FACTS)([(events or events_of(b"m"), 0, 1)], NOW_MS))
    except SinkError as error:
        said = error
    finally:
        await made.close()
    assert KEY not in str(said)
    assert not isinstance(said, Exception) or "127.0.0.1" in str(said)
    return said


async def test_a_request_is_what_the_sdks_own_auth_and_address_make_it(relay: Relay) -> None:
    assert await outcome(relay, 200) is None
    ((url, headers, data),) = relay.requests
    assert url == "/prefix/api/42/envelope/"
    assert headers["X-Sentry-Auth"] == (
        f"Sentry sentry_key={KEY}, sentry_version=7, sentry_client=agent-shipper/{__version__}"
    )
    assert (headers["Content-Type"], headers["Content-Encoding"]) == ("application/x-sentry-envelope", "gzip")
    (item,) = Envelope.deserialize(data).items  # aiohttp's server has unpacked it
    assert json.loads(item.get_bytes())["items"][0]["body"] == "m"


@pytest.mark.parametrize("limit", ["7:log_item:organization:quota", "7::key", "3:log_byte:x, 7:log_item;error:x"])
async def test_an_accepted_request_under_a_rate_limit_on_logs_is_sent_again(relay: Relay, limit: str) -> None:
    error = await outcome(relay, 200, {"X-Sentry-Rate-Limits": limit})
    assert isinstance(error, RetryableError)
    assert (error.after, error.throttled) == (7.0, True)


@pytest.mark.parametrize("limit", ["7:error:organization", "7:transaction;span:x:r:n", "nonsense", "7:logs"])
async def test_a_rate_limit_on_other_things_is_none_of_ours(relay: Relay, limit: str) -> None:
    for status in (200, 201, 202):
        assert await outcome(relay, status, {"X-Sentry-Rate-Limits": limit}) is None


@pytest.mark.parametrize(
    ("headers", "after"),
    [
        ({}, DEFAULT_WAIT),
        ({"Retry-After": "20"}, 20.0),
        ({"Retry-After": "nonsense"}, DEFAULT_WAIT),
        ({"Retry-After": "300", "X-Sentry-Rate-Limits": "7:log_item:organization"}, 7.0),
        ({"Retry-After": "20", "X-Sentry-Rate-Limits": "300:error:organization"}, 20.0),
        ({"X-Sentry-Rate-Limits": "300:error:organization"}, DEFAULT_WAIT),
        ({"X-Sentry-Rate-Limits": "7::organization"}, 7.0),
    ],
)
async def test_429_waits_as_long_as_logs_are_limited(relay: Relay, headers: dict[str, str], after: float) -> None:
    error = await outcome(relay, 429, headers)
    assert isinstance(error, RetryableError)
    assert (error.after, error.throttled) == (after, True)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 415, 418])
async def test_trouble_and_strange_answers_are_tried_again_with_their_limits(relay: Relay, status: int) -> None:
    plain = await outcome(relay, status)
    assert isinstance(plain, RetryableError)
    assert (plain.after, plain.throttled) == (None, False)
    headers = {"Retry-After": "5", "X-Sentry-Rate-Limits": "9:log_item:organization"}
    limited = await outcome(relay, status, headers)
    assert isinstance(limited, RetryableError)
    assert (limited.after, limited.throttled) == (9.0, True)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b'{"detail":"missing authorization information"}', "refused the key in SENTRY_DSN for project 42"),
        (403, b'{"detail":"event submission rejected with_reason: ProjectId"}', "disabled or deleted"),
        (404, b"not found", "check host, path and project"),
        (405, b"", "check host, path and project"),
        (400, b'{"detail":"bad sentry DSN public key","causes":["bad key"]}', "the key in SENTRY_DSN cannot be one"),
        (400, b'{"detail":"bad project path parameter"}', "the project in SENTRY_DSN cannot be one"),
    ],
)
async def test_a_refusal_names_the_variable_and_the_remedy(relay: Relay, status: int, body: bytes, words: str) -> None:
    error = await outcome(relay, status, body=body)
    assert isinstance(error, RefusedError)
    assert error.variable == "SENTRY_DSN"
    assert words in str(error)
    assert f"(status {status})" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "as_status"),
    [
        (400, b'{"detail":"invalid event envelope","causes":["invalid item header"]}', 400),
        (400, b"", 400),
        (400, b'{"detail":"envelope exceeded size limits for type \'log\' (https://develop.sentry.dev/)"}', 413),
        (413, b'{"detail":"envelope exceeded size limits for type \'log\'"}', 413),
    ],
)
async def test_a_rejection_tells_content_from_size(relay: Relay, status: int, body: bytes, as_status: int) -> None:
    error = await outcome(relay, status, body=body)
    assert isinstance(error, RejectedError)
    assert error.status == as_status
    assert "invalid item header" not in str(error)


@pytest.mark.parametrize(
    ("status", "limit", "said"),
    [
        (200, "", None),
        (200, "7:log_item:organization", None),  # none of its own: the next lines meet it
        (429, "2592000:error:organization", "taken"),  # and lines are not to wait for it
        (429, "7:error;log_item:organization", 7.0),
        (429, "7::key", 7.0),
        (429, "", DEFAULT_WAIT),
        (503, "", "again"),
        (413, "", "rejected"),
    ],
)
async def test_a_crash_heeds_the_limits_of_errors_and_of_all(
    relay: Relay, status: int, limit: str, said: str | float | None
) -> None:
    crash = Crash({"exit_status": 3}, "the agent ended with status 3", NOW_MS, [])
    outcome_ = await outcome(relay, status, {"X-Sentry-Rate-Limits": limit} if limit else {}, events=crash)
    ((_, _, data),) = relay.requests
    assert [item.type for item in Envelope.deserialize(data).items] == ["event"]
    if said is None:
        assert outcome_ is None
    elif said == "taken":
        assert outcome_.rejected == ((0, 1, "a rate limit or quota for errors is reached"),)
    elif said == "rejected":
        assert isinstance(outcome_, RejectedError)
    else:
        assert isinstance(outcome_, RetryableError)
        assert said in ("again", outcome_.after)
