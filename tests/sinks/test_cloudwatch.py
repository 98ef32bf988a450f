"""CloudWatch's bodies to the byte and its limits at their edge; its client against moto's server and odd answers."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import inspect
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3  # type: ignore[import-untyped]
import orjson
import pytest
from aiohttp import web
from botocore.loaders import Loader  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.events import Events
from shipper.lines.levels import LEVELS
from shipper.lines.names import CLAIMED
from shipper.sinks import cloudwatch
from shipper.sinks.base import Acceptance, Body, RefusedError, RejectedError, RetryableError, SettingError
from shipper.sinks.cloudwatch import LIMITS, MAX_AGE_MS, MAX_AHEAD_MS, OPERATIONS, RETENTION_DAYS, CloudWatch, LogBody
from tests.bodies import printed_fields
from tests.certificates import SELF_MADE
from tests.sinks.test_http import Servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NOW_MS = 1_795_492_800_000  # 2026-11-24T04:00:00Z
ACCESS, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEYS = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
TAGS = (("env", "prod"), ("team", "a b"))
FACTS = Facts("00112233445566ff", "worker-1", "agent-1", "cloud.livekit.io", TAGS, (), 262_144, 0, "python")
SAMPLES = sorted((Path(__file__).parents[2] / "demo" / "lines").glob("*.log"))
ROOT = Path(__file__).parents[2]
DAY_MS = 86_400_000


def sink(**environ: str) -> CloudWatch:
    return CloudWatch.from_env({**KEYS, **environ})


JSON, RAW = sink(), sink(SHIPPER_CLOUDWATCH_FORMAT="raw")


def events_of(*lines: bytes, stream: int = 1, capture_ms: int = NOW_MS, parts: dict[int, int] | None = None) -> Events:
    return Decoder(keep_lines=True).decode(Batch(stream, list(lines), 1, [(0, capture_ms * 10**6)], parts or {}))


def encode(
    *slices: tuple[Events, int, int], facts: Facts = FACTS, now_ms: int = NOW_MS, by: CloudWatch = JSON
) -> LogBody:
    body = by.encoder(facts)(slices, now_ms)
    assert isinstance(body, LogBody)
    return body


def all_of(events: Events, by: CloudWatch = JSON, now_ms: int = NOW_MS) -> LogBody:
    return encode((events, 0, events.count), by=by, now_ms=now_ms)


def log_events(body: Body) -> list[dict[str, Any]]:
    """The request's events, held against all that CloudWatch asks of them."""
    request = orjson.loads(gzip.decompress(body.data))
    made: list[dict[str, Any]] = request["logEvents"]
    assert len(made) == body.count <= 10_000
    assert all(set(event) == {"timestamp", "message"} and event["message"] for event in made)
    assert all(one["timestamp"] <= other["timestamp"] for one, other in pairwise(made))
    assert body.size == sum(len(event["message"].encode()) + 26 for event in made) <= 1_048_576
    return made


def entries(body: Body) -> list[dict[str, Any]]:
    return [orjson.loads(event["message"]) for event in log_events(body)]


# -- bodies ------------------------------------------------------------------------------------------------------


def test_the_body_is_this_to_the_byte() -> None:
    out = events_of(
        (
            b'{"message":"hi \\"you\\"","level":"WARNING","pid":7,"a":{"b":[1,null]},'
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
    facts = '"run":"00112233445566ff","host":"worker-1","source":"agent-1","service":"cloud.livekit.io","stream":'
    tags = '"tags":{"env":"prod","team":"a b"}}'
    messages = [
        '{"agent.hostname":"vm","job_id":"AJ_1","message":"oh","timestamp":1795492799000,"seq":4,'
        + facts + '"stdout","level":"error",' + tags,
        '{"message":"plain \ufffd","timestamp":1795492800000,"seq":3,"skipped":1,'
        + facts + '"stdout","level":"info",' + tags,
        '{"message":"piece","timestamp":1795492800000,"seq":1,"part":1,' + facts + '"stderr","level":"info",' + tags,
        '{"message":"2 lines are missing.","timestamp":1795492800000,"lost":2,"logger":"shipper",'
        + facts + '"stderr","level":"error",' + tags,
        '{"message":"hi \\"you\\"","pid":7,"a":{"b":[1,null]},"timestamp":1795492800250,"seq":1,'
        + facts + '"stdout","level":"warning",' + tags,
    ]  # fmt: skip
    times = [1795492799000, 1795492800000, 1795492800000, 1795492800000, 1795492800250]
    written = ",".join(
        f'{{"timestamp":{time_ms},"message":{orjson.dumps(message).decode()}}}'
        for time_ms, message in zip(times, messages, strict=True)
    )
    assert gzip.decompress(body.data).decode() == (
        f'{{"logGroupName":"agent-1","logStreamName":"worker-1","logEvents":[{written}]}}'
    )
    assert (body.count, body.moved, body.truncated, body.order) == (5, 0, 0, [2, 1, 3, 4, 0])
    assert body.size == sum(len(message.encode()) + 26 for message in messages)


def test_raw_is_the_agents_line_and_nothing_else() -> None:
    lines = (b'{"message":"m","level":"INFO"}', b"", b"plain \x1b[0m\xff\xc3\xa9", b"{broken \t", b"carriage\r")
    notice = Events.notice("stderr", NOW_MS, "error", "2 lines are missing.", {"lost": 2})
    events = events_of(*lines)
    body = encode((events, 0, 4), (notice, 0, 1), by=RAW)
    assert RAW.needs_lines
    assert not JSON.needs_lines
    assert [event["message"] for event in log_events(body)] == [
        '{"message":"m","level":"INFO"}', "plain \x1b[0m\ufffdé", "{broken \t", "carriage\r", "2 lines are missing.",
    ]  # fmt: skip
    assert [event["timestamp"] for event in log_events(body)] == [NOW_MS] * 5


def test_raw_without_the_lines_is_the_messages_and_never_empty() -> None:
    events = Decoder().decode(Batch(1, [b'{"message":""}', b"text"], 1, [(0, NOW_MS * 10**6)], {}))
    assert [event["message"] for event in log_events(all_of(events, by=RAW))] == [" ", "text"]


def test_without_tags_there_is_no_tags() -> None:
    facts = Facts("0" * 16, "h", "s", "v", (), (), 1, 0, "")
    (entry,) = entries(encode((events_of(b"m"), 0, 1), facts=facts))
    assert "tags" not in entry


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_its_word(level: str) -> None:
    (entry,) = entries(all_of(Events.notice("stdout", 1, level, "m", {}), now_ms=1))
    assert entry["level"] == level


def test_a_slice_is_only_its_part() -> None:
    events = events_of(*(b"%d" % number for number in range(10)))
    body = encode((events, 2, 4), (events, 9, 10), (events, 5, 5))
    assert [entry["message"] for entry in entries(body)] == ["2", "3", "9"]
    assert [event["message"] for event in log_events(encode((events, 2, 4), (events, 9, 10), by=RAW))] == [
        "2",
        "3",
        "9",
    ]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_field_of_every_sample_line_arrives_beside_ours(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    now_ms = 1_795_495_000_000
    events = events_of(*lines, capture_ms=now_ms)
    for entry in entries(all_of(events, now_ms=now_ms)):
        line = lines[entry["seq"] - 1]
        assert (entry["host"], entry["source"], entry["service"]) == ("worker-1", "agent-1", "cloud.livekit.io")
        assert entry["tags"] == dict(TAGS)
        if line.startswith(b'{"'):
            values = [orjson.dumps(value) for value in entry.values()]
            for name, value in printed_fields(line).items():
                assert name in ("level", "time", "timestamp") or orjson.dumps(value) in values


def test_facts_of_any_text_are_escaped_and_stay_theirs() -> None:
    odd = Facts('r"', 'h"},{"x', "s\ud800 é&?#/", "sv\\", (("k\ud800", 'v"'),), (), 1, 0, "")
    body = encode((events_of(b"m"), 0, 1), facts=odd)
    (entry,) = entries(body)
    assert (entry["run"], entry["host"], entry["source"]) == ('r"', 'h"},{"x', "s? é&?#/")
    assert (entry["service"], entry["tags"]) == ("sv\\", {"k?": 'v"'})
    assert (body.group, body.stream) == ("s_____#/", 'h"},{"x')


def test_runs_keep_their_own_facts_over_shared_events_also_in_several_threads() -> None:
    events = events_of(*[b'{"msg":"m","k":1}'] * 300)
    wrong: list[str] = []

    def work(host: str) -> None:
        facts = Facts("0" * 16, host, "a", "s", (), (), 1, 0, "")
        for _ in range(10):
            wrong.extend(e["host"] for e in entries(encode((events, 0, 300), facts=facts)) if e["host"] != host)

    threads = [threading.Thread(target=work, args=(f"host-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@given(st.lists(st.integers(0, 5), min_size=1, max_size=300), st.integers(0, 2))
def test_events_are_in_order_of_time_and_equal_ones_as_they_came(offsets: list[int], cuts: int) -> None:
    events = events_of(*(b'{"msg":"%d","time":%d}' % (n, NOW_MS - t) for n, t in enumerate(offsets)))
    middle = len(offsets) * cuts // 3
    body = encode((events, 0, middle), (events, middle, len(offsets)))
    order = sorted(range(len(offsets)), key=lambda n: -offsets[n])
    assert [int(entry["message"]) for entry in entries(body)] == order
    assert body.order == (None if order == sorted(order) else order)


@pytest.mark.parametrize(
    ("offset_ms", "moved"),
    [
        (-MAX_AGE_MS, 0), (-MAX_AGE_MS - 1, 1), (-40 * DAY_MS, 1), (MAX_AHEAD_MS, 0), (MAX_AHEAD_MS + 1, 1),
        (20 * 3_600_000, 1),
    ],
)  # fmt: skip
def test_an_event_too_old_or_too_new_comes_under_the_present_time_and_keeps_its_own(offset_ms: int, moved: int) -> None:
    events = events_of(b"line", capture_ms=NOW_MS + offset_ms)
    body = all_of(events)
    ((event,), (entry,)) = log_events(body), entries(body)
    assert body.moved == moved
    assert event["timestamp"] == entry["timestamp"] == (NOW_MS if moved else NOW_MS + offset_ms)
    assert entry.get("original_timestamp") == (NOW_MS + offset_ms if moved else None)
    assert events.times_ms == [NOW_MS + offset_ms]  # as it was, for other sinks and another try
    assert log_events(all_of(events, by=RAW)) == [{"timestamp": event["timestamp"], "message": "line"}]


def test_what_is_moved_takes_its_place_in_the_order() -> None:
    old, new = events_of(b"old", capture_ms=NOW_MS - 15 * DAY_MS), events_of(b"new", capture_ms=NOW_MS - 1000)
    body = encode((old, 0, 1), (new, 0, 1))
    assert [entry["message"] for entry in entries(body)] == ["new", "old"]
    assert (body.moved, body.order) == (1, [1, 0])


@pytest.mark.parametrize("over", [0, 1])
def test_a_request_spans_a_day_and_no_more(over: int) -> None:
    early, late = events_of(b"early", capture_ms=NOW_MS - DAY_MS - over), events_of(b"late")
    body = encode((late, 0, 1), (early, 0, 1))
    assert (body.size > LIMITS.max_body_bytes) == bool(over)
    if not over:
        assert [entry["message"] for entry in entries(body)] == ["early", "late"]


def test_limits_are_those_of_the_service() -> None:
    assert LIMITS[:2] == (10_000, 1_048_576)


def filled(by: CloudWatch, over: int) -> tuple[LogBody, int]:
    """One event that is as large as a request may be, and ``over`` bytes more; and the room for its text."""
    room = LIMITS.max_body_bytes - all_of(events_of(b"x"), by=by).size + 1
    return all_of(events_of(b"x" * (room + over)), by=by), room


@pytest.mark.parametrize("over", [0, 1, 1000])
def test_an_event_is_cut_only_when_it_is_larger_than_a_request(over: int) -> None:
    body, room = filled(JSON, over)
    (entry,) = entries(body)
    assert body.size == LIMITS.max_body_bytes
    assert body.truncated == (1 if over else 0)
    assert entry.get("truncated") == (True if over else None)
    assert len(entry["message"]) == (room - len(',"truncated":true') if over else room)


@pytest.mark.parametrize("over", [0, 1, 1000])
def test_a_raw_line_is_cut_only_when_it_is_larger_than_a_request(over: int) -> None:
    body, room = filled(RAW, over)
    (event,) = log_events(body)
    assert (body.size, body.truncated) == (LIMITS.max_body_bytes, 1 if over else 0)
    assert event["message"] == "x" * room


@pytest.mark.parametrize("by", [JSON, RAW], ids=["json", "raw"])
@pytest.mark.parametrize("character", ["é", "漢", "🙂", "\x00", '"', "\\"])
def test_a_message_is_cut_at_a_character(character: str, by: CloudWatch) -> None:
    events = events_of(b"x")  # a line of nothing but control characters would be left out
    events.records[0]["message"] = character * 1_100_000
    events.lines = [(character * 1_100_000).encode()]
    body = all_of(events, by=by)
    (event,) = log_events(body)
    text = event["message"] if by is RAW else orjson.loads(event["message"])["message"]
    assert set(text) == {character}
    assert body.truncated == 1
    assert body.size > LIMITS.max_body_bytes - 10


def test_fields_too_large_for_a_request_are_cut_as_text() -> None:
    line = b'{"msg":"short","level":"error","big":"' + b"x" * 2_000_000 + b'"}'
    (entry,) = entries(all_of(events_of(line)))
    assert (entry["message"], entry["level"], entry["seq"], entry["host"]) == ("short", "error", 1, "worker-1")
    assert entry["truncated"] is True
    assert entry["agent.fields"].startswith('{"big":"xxx')


@pytest.mark.parametrize("by", [JSON, RAW], ids=["json", "raw"])
def test_more_than_one_event_over_the_limit_is_for_the_caller_to_halve(by: CloudWatch) -> None:
    size = all_of(events_of(b"x"), by=by).size - 1
    half = LIMITS.max_body_bytes // 2 - size
    fits = all_of(events_of(b"x" * half, b"y" * half), by=by)
    assert len(log_events(fits)) == 2
    assert fits.size == LIMITS.max_body_bytes
    over = all_of(events_of(b"x" * half, b"y" * (half + 1)), by=by)
    assert (over.size, over.truncated) == (LIMITS.max_body_bytes + 1, 0)


def test_the_size_of_what_is_too_large_is_told_whole() -> None:
    events = events_of(*[b"x" * 1000] * 5000)
    one = encode((events, 0, 1)).size
    assert all_of(events).size == pytest.approx(one * 5000, rel=0.01)


@pytest.mark.parametrize("depth", [200, 252, 253, 254, 600, 1000])
def test_a_field_of_any_depth_arrives(depth: int) -> None:
    text = "[" * depth + "]" * depth
    events = events_of(b'{"msg":"deep","n":1,"deep":' + text.encode() + b"}", b'{"msg":"near","k":{"a":[]}}')
    deep, near = entries(all_of(events))
    assert deep["deep"] == text or deep["deep"] == orjson.loads(text)
    assert (deep["n"], deep["message"], deep["host"]) == (1, "deep", "worker-1")
    assert near["k"] == {"a": []}


FIELDS = st.dictionaries(
    st.one_of(st.sampled_from(sorted(CLAIMED)), st.text(max_size=6)),
    st.one_of(
        st.none(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=10), st.lists(st.text(max_size=3), max_size=2)
    ),
    max_size=8,
)
OURS = {"host": "worker-1", "source": "agent-1", "service": "cloud.livekit.io", "run": "00112233445566ff"}


@given(st.lists(st.one_of(FIELDS.map(orjson.dumps), st.binary(max_size=30)), max_size=20))
def test_nothing_that_an_agent_prints_takes_our_place(lines: list[bytes]) -> None:
    events = events_of(*lines)
    body = all_of(events)
    for event, message in zip(log_events(body), events.messages, strict=True):
        pairs: list[tuple[str, Any]] = json.loads(event["message"], object_pairs_hook=list)
        entry = dict(pairs)
        ours = [name for name, _ in pairs if name in {*OURS, "stream", "level", "message", "timestamp", "seq"}]
        assert len(ours) == len(set(ours)) == 9
        assert {name: entry[name] for name in OURS} == OURS
        assert (entry["stream"], entry["message"], entry["timestamp"]) == ("stdout", message, event["timestamp"])
        assert CLAIMED.isdisjoint(entry.keys() - set(ours) - {"skipped"})


class InBulk(cloudwatch._JsonEncoder):
    def _one_by_one(self, *_: object) -> tuple[bytes, int]:
        raise AssertionError("not in bulk")


class OneByOne(cloudwatch._JsonEncoder):
    _written = cloudwatch._JsonEncoder._one_by_one


def by_both(*slices: tuple[Events, int, int], now_ms: int = NOW_MS) -> LogBody:
    """What `InBulk` makes of them, held against what `OneByOne` does."""
    body = InBulk(FACTS, "g", "s")(slices, now_ms)
    plain = OneByOne(FACTS, "g", "s")(slices, now_ms)
    assert gzip.decompress(body.data) == gzip.decompress(plain.data)
    assert (body.size, body.count) == (plain.size, plain.count)
    assert isinstance(body, LogBody)
    return body


# what the encoder looks for, before and after each escape, and what comes near it
SLOTS = (',"run":},{"', ',"run":}]', '"run":', "run")
MARKS = st.sampled_from(
    [
        *SLOTS, *(orjson.dumps(slot).decode()[1:-1] for slot in SLOTS),
        '"', "\\", "\\\\", '\\"', ",", "},{", "{", "}]", "\n", "\x00", "\x7f", "é", "\U0001f642", "\ufffd", " ", "a",
    ]
)  # fmt: skip
TEXTS = st.lists(MARKS, max_size=6).map("".join)
NESTED = st.recursive(
    st.one_of(
        TEXTS,
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
LINES = st.lists(
    st.one_of(
        st.dictionaries(st.one_of(TEXTS, st.sampled_from(sorted(CLAIMED))), NESTED, max_size=4).map(orjson.dumps),
        TEXTS.map(str.encode),
        st.binary(max_size=20),
        st.sampled_from([b'{"msg":"m","level":"%s"}' % level.encode() for level in LEVELS]),
    ),
    max_size=12,
)


@given(LINES, LINES)
def test_in_bulk_every_byte_is_as_one_by_one(out_lines: list[bytes], err_lines: list[bytes]) -> None:
    out, err = events_of(*out_lines), events_of(*err_lines, stream=2)
    body = by_both((out, 0, out.count), (err, 0, err.count))
    assert [entry["message"] for entry in entries(body)] == out.messages + err.messages


def test_in_bulk_every_sample_line_is_as_one_by_one_over_many_chunks() -> None:
    lines = [line for path in SAMPLES for line in path.read_bytes().split(b"\n")]
    now_ms = 1_795_495_000_000
    events = events_of(*lines, capture_ms=now_ms)
    assert events.count > 2 * cloudwatch.CHUNK
    for end in (1, 2, cloudwatch.CHUNK, cloudwatch.CHUNK + 1, events.count):
        assert len(entries(by_both((events, 0, end), now_ms=now_ms))) == end


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "between", "last"])
def test_a_slot_that_is_not_its_records_last_is_filled_all_the_same(place: int) -> None:
    old_ms = NOW_MS - MAX_AGE_MS - 1
    captures = [old_ms if number == place else NOW_MS + 1000 * (number - place) for number in range(3)]
    several = [events_of(b"line %d" % number, capture_ms=capture) for number, capture in enumerate(captures)]
    slices = [(events, 0, 1) for events in several]
    encode(*slices, now_ms=NOW_MS - 1)  # the slots are there now, and `original_timestamp` will come after one of them
    body = encode(*slices)
    assert (body.moved, body.order) == (1, None)
    written = entries(body)
    assert [entry["message"] for entry in written] == ["line 0", "line 1", "line 2"]
    assert [entry.get("original_timestamp") == old_ms for entry in written] == [n == place for n in range(3)]
    assert all(entry[name] == value for entry in written for name, value in OURS.items())


@pytest.mark.parametrize("by", [JSON, RAW], ids=["json", "raw"])
@pytest.mark.parametrize("count", [1, 5, 40, 400])
def test_a_body_of_any_size_is_compressed_as_zlib_would(count: int, by: CloudWatch) -> None:
    lines = [line for path in SAMPLES for line in path.read_bytes().split(b"\n") if line.strip()]
    now_ms = 1_795_495_000_000
    body = all_of(events_of(*(lines * (1 + count // len(lines)))[:count], capture_ms=now_ms), by=by, now_ms=now_ms)
    assert body.count == count
    assert len(body.data) <= 1.15 * len(gzip.compress(gzip.decompress(body.data), 1)) + 60


def test_a_body_of_nothing_is_a_request_of_nothing() -> None:
    assert (log_events(encode()), encode().size) == ([], 0)


# -- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("", "logs.us-west-2.amazonaws.com"),
        ("eu-central-1", "logs.eu-central-1.amazonaws.com"),
        (" EU-Central-1 ", "logs.eu-central-1.amazonaws.com"),
        ("us-gov-east-1", "logs.us-gov-east-1.amazonaws.com"),
        ("cn-north-1", "logs.cn-north-1.amazonaws.com.cn"),
        ("us-iso-east-1", "logs.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "logs.us-isob-east-1.sc2s.sgov.gov"),
        ("eusc-de-east-1", "logs.eusc-de-east-1.amazonaws.eu"),
        ("xx-nowhere-1", "logs.xx-nowhere-1.amazonaws.com"),
    ],
)
def test_a_region_has_its_host(region: str, host: str) -> None:
    made = sink(AWS_REGION=region)
    assert (made.destination, made.url) == (host, f"https://{host}")


def test_the_host_shown_is_the_one_that_the_client_resolves() -> None:
    for region in ("us-east-1", "cn-northwest-1", "us-gov-west-1", "us-isof-south-1"):
        made = sink(AWS_REGION=region)
        client: Any = made._client
        model = client.meta.service_model.operation_model("PutLogEvents")
        assert client._resolve_endpoint_ruleset(model, {}, {})[0] == made.url


@pytest.mark.parametrize(
    "region", ["mars", "us-east-1a", "us-east", "fips-us-east-1", "us_east_1", "us-east-1,eu", "é-a-1"]
)
def test_what_cannot_be_a_region_is_a_setting_error(region: str) -> None:
    with pytest.raises(SettingError) as caught:
        sink(AWS_REGION=region)
    assert caught.value.variable == "AWS_REGION"
    assert f'"{region}"' in caught.value.message
    assert caught.value.message.endswith("nothing is sent to CloudWatch.")


def test_endpoint_variables_take_the_place_of_the_regions_host_the_narrower_one_first() -> None:
    for_all = {"AWS_ENDPOINT_URL": "http://localhost:4566/"}
    assert sink(**for_all).url == "http://localhost:4566"
    assert sink(**for_all, AWS_ENDPOINT_URL_LOGS="https://[::1]:8443").url == "https://[::1]:8443"
    vpc = "https://vpce-0a-1.logs.eu-west-1.vpce.amazonaws.com"
    assert sink(AWS_ENDPOINT_URL_LOGS=vpc, AWS_REGION="eu-west-1").url == vpc


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_LOGS", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize("value", ["localhost:4566", "https://host/path", "https://a_b..c", "ftp://host"])
def test_an_endpoint_that_is_none_is_a_setting_error(variable: str, value: str) -> None:
    with pytest.raises(SettingError) as caught:
        sink(**{variable: value})
    assert caught.value.variable == variable


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AWS_ACCESS_KEY_ID", "pub0123456789abcdef0123456789abcdef", "looks like a client token of Datadog's"),
        ("AWS_ACCESS_KEY_ID", "0" * 36 + "NRAL", "looks like a license key of New Relic's"),
        ("AWS_ACCESS_KEY_ID", "caf\u00e9", "holds characters that no key has"),
        ("AWS_ACCESS_KEY_ID", "", "is not set"),
        ("AWS_SECRET_ACCESS_KEY", ACCESS, "which belongs in AWS_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "https://key@sentry.example/1", "looks like a DSN of Sentry's"),
        ("AWS_SECRET_ACCESS_KEY", "a b", "holds characters that no key has"),
        ("AWS_SESSION_TOKEN", "a\nb", "holds characters that no key has"),
        ("AWS_SESSION_TOKEN", ACCESS, "which belongs in AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_key_that_cannot_be_one_is_a_setting_error_that_does_not_show_it(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingError) as caught:
        sink(**{name: value})
    assert caught.value.variable == name
    assert words in caught.value.message
    assert not value or value not in caught.value.message
    assert SECRET not in caught.value.message


def test_keys_may_come_from_files_and_are_named_after_them(tmp_path: Path) -> None:
    for name, value in KEYS.items():
        (tmp_path / name).write_text(f"{value}\n")
    made = CloudWatch.from_env({f"{name}_FILE": str(tmp_path / name) for name in KEYS})
    assert made.variable == "AWS_ACCESS_KEY_ID_FILE"
    assert made._client._request_signer._credentials.secret_key == SECRET
    assert SECRET not in repr(made._keys)


@pytest.mark.parametrize(
    ("variable", "good", "bad"),
    [
        ("SHIPPER_CLOUDWATCH_GROUP", ["/ecs/agent-1.x_#", "g", "a" * 512], ["a b", "é", "a" * 513, "aws/x", "a:b"]),
        ("SHIPPER_CLOUDWATCH_STREAM", ["a b/é", "s" * 512], ["a:b", "a*", "s" * 513, "a\nb"]),
        ("SHIPPER_CLOUDWATCH_FORMAT", ["json", "raw", " RAW "], ["text", "jsonl"]),
        ("SHIPPER_CLOUDWATCH_RETENTION_DAYS", ["1", "3653"], ["0", "2", "-1", "x", "1.0", "3654"]),
    ],
)
def test_its_own_variables_are_checked(variable: str, good: list[str], bad: list[str]) -> None:
    for value in good:
        sink(**{variable: value})
    for value in bad:
        with pytest.raises(SettingError) as caught:
            sink(**{variable: value})
        assert caught.value.variable == variable
        assert caught.value.message.startswith(f"{variable} is ")


def place(source: str, host: str) -> str:
    return JSON.place(Facts("r", host, source, "s", (), (), 1, 0, ""))


def test_group_and_stream_are_source_and_host_made_valid() -> None:
    assert place("CA_1", "w-1.pod") == "region us-west-2, group CA_1, stream w-1.pod"
    assert place("my agent:é", "a:b*c d") == "region us-west-2, group my_agent__, stream a_b_c d"
    assert place("", "") == "region us-west-2, group _, stream _"
    assert place("aws/x", "h\n\ud800") == "region us-west-2, group _aws/x, stream h__"
    long = place("g" * 600, "s" * 600)
    assert long == f"region us-west-2, group {'g' * 512}, stream {'s' * 512}"
    named = sink(SHIPPER_CLOUDWATCH_GROUP="/g", SHIPPER_CLOUDWATCH_STREAM="s", AWS_REGION="eu-west-3")
    assert named.place(FACTS) == "region eu-west-3, group /g, stream s"


@given(st.text(max_size=600), st.text(max_size=600))
def test_whatever_source_and_host_are_the_names_are_valid(source: str, host: str) -> None:
    group, stream = cloudwatch.Names("", "").of(Facts("r", host, source, "s", (), (), 1, 0, ""))
    assert cloudwatch.GROUP.fullmatch(group)
    assert cloudwatch.STREAM.fullmatch(stream)
    assert not group.startswith("aws/")


def test_the_services_own_model_agrees_with_what_is_kept_of_it_and_with_our_tables() -> None:
    whole = Loader().load_service_model("logs", "service-2")
    kept = cloudwatch._Data().load_service_model("logs", "service-2")
    assert set(kept["operations"]) == set(OPERATIONS)
    assert len(orjson.dumps(kept)) < 10_000

    def bare(data: Any) -> Any:
        if isinstance(data, dict):
            return {k: bare(v) for k, v in data.items() if not (k == "documentation" and isinstance(v, str))}
        return [bare(item) for item in data] if isinstance(data, list) else data

    for part in ("operations", "shapes"):
        assert kept[part] == {name: bare(whole[part][name]) for name in kept[part]}
    days = whole["shapes"]["Days"]["documentation"]
    assert all(f"{number}" in days for number in RETENTION_DAYS)
    constraints = whole["operations"]["PutLogEvents"]["documentation"]
    for fact in ("1,048,576 bytes", "plus 26 bytes", "no larger than 1 MB", "10,000", "14 days", "2 hours", "24 hours"):
        assert fact in constraints


# -- the client --------------------------------------------------------------------------------------------------

HOSTILE = """
import asyncio, os, socket, sys
sys.path.append({root!r})
from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.sinks.cloudwatch import CloudWatch

asked = []
real = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    asked.append(host)
    return real(host, *rest, **more)
socket.getaddrinfo = getaddrinfo

sink = CloudWatch.from_env({given!r})
assert sink.url == {url!r}, sink.url
events = Decoder().decode(Batch(1, [b"line"], 1, [(0, {now} * 10**6)], {{}}))
facts = Facts("r", "h", "s", "v", (), (), 1, 0, "")
async def main():
    await sink.send(sink.encoder(facts)([(events, 0, 1)], {now}))
    await sink.close()
asyncio.run(main())
assert asked == ["127.0.0.1"], asked
print(sink._client.meta.region_name)
"""


async def test_nothing_of_the_agents_own_aws_set_up_matters(servers: Servers, tmp_path: Path) -> None:
    async def respond(request: web.BaseRequest) -> web.Response:
        return web.json_response({})

    host = await servers.http(respond)
    aws = tmp_path / ".aws"
    aws.mkdir()
    (aws / "config").write_text("[default]\nregion = ap-south-1\n[profile other\nbroken")
    (aws / "credentials").write_text("[default]\naws_access_key_id = ASIAWRONGWRONGWRONG2\naws_secret_access_key = x\n")
    (aws / "models" / "logs" / "2099-01-01").mkdir(parents=True)
    (aws / "models" / "logs" / "2099-01-01" / "service-2.json").write_text("{}")
    hostile = {
        "HOME": str(tmp_path), "PATH": os.environ["PATH"], "AWS_PROFILE": "missing", "AWS_DEFAULT_PROFILE": "missing",
        "AWS_CONFIG_FILE": str(aws / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(aws / "credentials"),
        "AWS_CA_BUNDLE": "/nowhere", "REQUESTS_CA_BUNDLE": "/nowhere", "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_RETRY_MODE": "nonsense", "AWS_MAX_ATTEMPTS": "x",
        "AWS_DEFAULTS_MODE": "auto", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_REGION": "ap-south-1",
        "AWS_DEFAULT_REGION": "ap-south-1", "AWS_ACCESS_KEY_ID": "ASIAWRONGWRONGWRONG2", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_SESSION_TOKEN": "wrong", "AWS_BEARER_TOKEN_LOGS": "wrong", "AWS_ENDPOINT_URL_LOGS": "http://wrong.invalid",
        "AWS_DATA_PATH": str(aws / "models"), "AWS_CSM_ENABLED": "true", "AWS_STS_REGIONAL_ENDPOINTS": "x",
        "AWS_ENDPOINT_DISCOVERY_ENABLED": "x", "AWS_REQUEST_CHECKSUM_CALCULATION": "x", "AWS_EXECUTION_ENV": "x",
        "AWS_AUTH_SCHEME_PREFERENCE": "x", "AWS_SIGV4A_SIGNING_REGION_SET": "*", "AWS_ACCOUNT_ID_ENDPOINT_MODE": "x",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.2/x",
        "AWS_ROLE_ARN": "x", "BOTOCORE_EXPERIMENTAL__PLUGINS": "x=nowhere", "HTTP_PROXY": "http://wrong.invalid:1",
        "HTTPS_PROXY": "http://wrong.invalid:1", "AWS_DISABLE_REQUEST_COMPRESSION": "x", "AWS_SDK_UA_APP_ID": "x",
        "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES": "x", "_X_AMZN_TRACE_ID": "x", "AWS_LAMBDA_FUNCTION_NAME": "x",
    }  # fmt: skip
    given = {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}", "AWS_REGION": "eu-west-3"}
    program = HOSTILE.format(root=str(ROOT), given=given, url=f"http://{host}", now=NOW_MS)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", program, env=hostile, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert (out.decode().strip(), err.decode(), process.returncode) == ("eu-west-3", "", 0)
    ((_, headers, _),) = servers.requests
    assert f"Credential={ACCESS}/" in headers["Authorization"]
    assert "/eu-west-3/logs/aws4_request" in headers["Authorization"]
    assert "X-Amz-Security-Token" not in headers
    assert not {"amz-sdk-request", "X-Amzn-Trace-Id"} & set(headers)


class Logs:
    """A service of our own that answers as told: by operation, in turn; accepted when nothing is told."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.answers: dict[str, list[tuple[int, object, dict[str, str]]]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.delay = 0.0

    def will(self, operation: str, status: int, answer: object, **headers: str) -> None:
        """``answer``: an error's code, or an object, or bytes."""
        body = {"__type": f"com.amazonaws.logs#{answer}", "message": "no"} if isinstance(answer, str) else answer
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.setdefault(operation, []).append((status, body, named))

    def lacks(self, what: str) -> None:
        missing = {"__type": "ResourceNotFoundException", "message": f"The specified {what} does not exist."}
        self.will("PutLogEvents", 400, missing)

    async def start(self) -> str:
        return f"http://{await self._servers.http(self._respond)}"

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        operation = request.headers["X-Amz-Target"].removeprefix("Logs_20140328.")
        self.calls.append((operation, orjson.loads(await request.read())))
        await asyncio.sleep(self.delay)
        waiting = self.answers.get(operation)
        status, body, headers = waiting.pop(0) if waiting else (200, {}, {})
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return web.Response(status=status, body=data, headers={"Content-Type": "application/x-amz-json-1.1", **headers})

    @property
    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    started = Servers()
    yield started
    await started.close()


@pytest.fixture
async def logs(servers: Servers) -> Logs:
    return Logs(servers)


async def send(made: CloudWatch, *lines: bytes) -> Acceptance | None:
    try:
        return await made.send(all_of(events_of(*(lines or (b"nobody else's line",))), by=made))
    finally:
        await made.close()


async def failure(made: CloudWatch, error: type[Exception] = RetryableError) -> Any:
    with pytest.raises(error) as caught:
        await send(made)
    shown: BaseException | None = caught.value
    while shown is not None:
        text = f"{shown!r} {shown}"
        assert all(hidden not in text for hidden in (SECRET, ACCESS, "nobody else", "hunter2"))
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    assert str(caught.value).endswith((".", "?"))
    return caught.value


def signature(headers: dict[str, str], body: bytes) -> str:
    """What Signature Version 4 makes of a request, by the book and not by botocore's."""
    fields = dict(part.split("=", 1) for part in headers["Authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(", "))
    names = fields["SignedHeaders"]
    lower = {name.lower(): value for name, value in headers.items()}
    canonical = "".join(f"{name}:{lower[name]}\n" for name in names.split(";"))
    request = f"POST\n/\n\n{canonical}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = fields["Credential"].partition("/")[2]
    text = f"AWS4-HMAC-SHA256\n{lower['x-amz-date']}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = b"AWS4" + SECRET.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    assert {"host", "content-encoding", "x-amz-date", "x-amz-target"} <= set(names.split(";"))
    assert fields["Signature"] == hmac.digest(key, text.encode(), "sha256").hex()
    return scope


async def raw_requests(servers: Servers, count: int) -> tuple[str, list[tuple[dict[str, str], bytes]]]:
    """A server that keeps requests as they come over the wire."""
    got: list[tuple[dict[str, str], bytes]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(count):
            first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            assert first == "POST / HTTP/1.1"
            headers = dict(line.split(": ", 1) for line in rest)
            got.append((headers, await reader.readexactly(int(headers["Content-Length"]))))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()

    return await servers.raw(handle), got


async def test_what_goes_over_the_wire_is_the_body_signed_in_one_request_over_one_connection(servers: Servers) -> None:
    host, got = await raw_requests(servers, 2)
    made = sink(AWS_ENDPOINT_URL=f"http://{host}", AWS_SESSION_TOKEN="token", AWS_REGION="eu-north-1")
    body = all_of(events_of(b"line"))
    assert await made.send(body) is None
    assert await made.send(body) is None
    await made.close()
    for headers, data in got:
        assert data == body.data
        assert headers["Content-Encoding"] == "gzip"
        assert headers["X-Amz-Target"] == "Logs_20140328.PutLogEvents"
        assert headers["Content-Type"] == "application/x-amz-json-1.1"
        assert headers["X-Amz-Security-Token"] == "token"
        assert headers["User-Agent"].startswith("agent-shipper/")
        assert signature(headers, data).endswith("/eu-north-1/logs/aws4_request")
        assert SECRET not in str(headers)
    assert len(got) == 2


async def test_group_and_stream_that_are_there_are_not_made(logs: Logs) -> None:
    assert await send(sink(AWS_ENDPOINT_URL=await logs.start())) is None
    assert logs.operations == ["PutLogEvents"]


async def test_a_missing_group_is_made_with_its_stream_and_the_request_goes_once_more(logs: Logs) -> None:
    logs.lacks("log group")
    assert await send(sink(AWS_ENDPOINT_URL=await logs.start())) is None
    assert logs.operations == ["PutLogEvents", "CreateLogGroup", "CreateLogStream", "PutLogEvents"]
    assert [body for _, body in logs.calls[1:3]] == [
        {"logGroupName": "agent-1"}, {"logGroupName": "agent-1", "logStreamName": "worker-1"},
    ]  # fmt: skip
    assert logs.calls[0] == logs.calls[3]


async def test_a_missing_stream_is_made_without_looking_for_the_group(logs: Logs) -> None:
    logs.lacks("log stream")
    made = sink(AWS_ENDPOINT_URL=await logs.start(), SHIPPER_CLOUDWATCH_RETENTION_DAYS="7")
    assert await send(made) is None
    assert logs.operations == ["PutLogEvents", "CreateLogStream", "PutLogEvents"]


async def test_a_group_that_went_while_the_stream_was_made_is_made_too(logs: Logs) -> None:
    logs.lacks("log stream")
    logs.will("CreateLogStream", 400, "ResourceNotFoundException")
    assert await send(sink(AWS_ENDPOINT_URL=await logs.start())) is None
    assert logs.operations == ["PutLogEvents", "CreateLogStream", "CreateLogGroup", "CreateLogStream", "PutLogEvents"]


async def test_what_another_one_made_meanwhile_is_fine_and_its_retention_is_left_alone(logs: Logs) -> None:
    logs.lacks("log group")
    logs.will("CreateLogGroup", 400, "ResourceAlreadyExistsException")
    logs.will("CreateLogStream", 400, "ResourceAlreadyExistsException")
    made = sink(AWS_ENDPOINT_URL=await logs.start(), SHIPPER_CLOUDWATCH_RETENTION_DAYS="7")
    assert await send(made) is None
    assert logs.operations == ["PutLogEvents", "CreateLogGroup", "CreateLogStream", "PutLogEvents"]


async def test_what_is_still_missing_once_it_was_made_is_tried_again_later(logs: Logs) -> None:
    logs.lacks("log group")
    logs.lacks("log group")
    error = await failure(sink(AWS_ENDPOINT_URL=await logs.start()))
    assert "does not know the log group or stream yet" in str(error)


async def test_many_at_once_make_it_once(logs: Logs) -> None:
    for _ in range(6):
        logs.lacks("log group")
    made = sink(AWS_ENDPOINT_URL=await logs.start())
    logs.delay = 0.05
    body = all_of(events_of(b"m"))
    assert await asyncio.gather(*(made.send(body) for _ in range(6))) == [None] * 6
    await made.close()
    assert sorted(logs.operations) == ["CreateLogGroup", "CreateLogStream", *["PutLogEvents"] * 12]


async def test_retention_is_set_on_a_group_that_we_made(logs: Logs) -> None:
    logs.lacks("log group")
    made = sink(AWS_ENDPOINT_URL=await logs.start(), SHIPPER_CLOUDWATCH_RETENTION_DAYS="14")
    assert await send(made) is None
    assert logs.operations[1:4] == ["CreateLogGroup", "PutRetentionPolicy", "CreateLogStream"]
    assert logs.calls[2][1] == {"logGroupName": "agent-1", "retentionInDays": 14}
    assert made.notes == []


async def test_retention_that_may_not_be_set_is_noted_once_and_the_lines_go(logs: Logs) -> None:
    logs.lacks("log group")
    logs.will("PutRetentionPolicy", 400, "AccessDeniedException")
    made = sink(AWS_ENDPOINT_URL=await logs.start(), SHIPPER_CLOUDWATCH_RETENTION_DAYS="14")
    body = all_of(events_of(b"m"))
    assert [await made.send(body), await made.send(body)] == [None, None]
    await made.close()
    (note,) = made.notes
    assert "logs:PutRetentionPolicy" in note
    assert logs.operations.count("PutRetentionPolicy") == 1


async def test_retention_that_could_not_be_set_for_now_is_set_with_a_later_request(logs: Logs) -> None:
    logs.lacks("log group")
    for _ in range(2):
        logs.will("PutRetentionPolicy", 400, "ThrottlingException")
    made = sink(AWS_ENDPOINT_URL=await logs.start(), SHIPPER_CLOUDWATCH_RETENTION_DAYS="14")
    body = all_of(events_of(b"m"))
    assert [await made.send(body), await made.send(body), await made.send(body)] == [None] * 3
    await made.close()
    assert logs.operations.count("PutRetentionPolicy") == 3
    assert made.notes == []


@pytest.mark.parametrize(
    ("info", "ranges"),
    [
        ({}, None),
        ({"tooNewLogEventStartIndex": 4}, ((2, 3, "new"),)),
        ({"tooOldLogEventEndIndex": 1}, ((4, 5, "old"),)),
        ({"expiredLogEventEndIndex": 2}, ((0, 1, "retention"), (4, 5, "retention"))),
        (
            {"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 3, "tooNewLogEventStartIndex": 4},
            ((0, 2, "retention"), (2, 3, "new"), (4, 5, "old")),
        ),
        ({"tooOldLogEventEndIndex": 5}, ((0, 5, "old"),)),
        ({"tooNewLogEventStartIndex": 0}, ((0, 5, "new"),)),
        ({"tooOldLogEventEndIndex": 99, "tooNewLogEventStartIndex": -1}, ((0, 5, "old"),)),
        ({"tooOldLogEventEndIndex": "x", "expiredLogEventEndIndex": None}, None),
    ],
)
async def test_rejected_ranges_lead_back_to_the_events_as_they_were_given(
    logs: Logs, info: dict[str, object], ranges: tuple[tuple[int, int, str], ...] | None
) -> None:
    # as given 0 1 2 3 4, in the body 4 0 1 3 2
    lines = [b'{"msg":"m","time":%d}' % (NOW_MS + later) for later in (10, 20, 40, 30, 0)]
    logs.will("PutLogEvents", 200, {"rejectedLogEventsInfo": info})
    acceptance = await send(sink(AWS_ENDPOINT_URL=await logs.start()), *lines)
    words = {"old": "older than 14 days", "retention": "older than the log group's retention"}
    words["new"] = "more than 2 hours ahead"
    assert (acceptance and acceptance.rejected) == (ranges and tuple((a, b, words[why]) for a, b, why in ranges))


@pytest.mark.parametrize(
    ("code", "variable"),
    [
        ("UnrecognizedClientException", "AWS_ACCESS_KEY_ID"), ("InvalidClientTokenId", "AWS_ACCESS_KEY_ID"),
        ("MissingAuthenticationToken", "AWS_ACCESS_KEY_ID"), ("InvalidSignatureException", "AWS_SECRET_ACCESS_KEY"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"), ("ExpiredTokenException", "AWS_SESSION_TOKEN"),
        ("OptInRequired", "AWS_ACCESS_KEY_ID"), ("SubscriptionRequiredException", "AWS_ACCESS_KEY_ID"),
        ("AccessDeniedException", "AWS_ACCESS_KEY_ID"),
    ],
)  # fmt: skip
async def test_keys_that_are_refused_are_named_with_how_to_turn_it_off(logs: Logs, code: str, variable: str) -> None:
    logs.will("PutLogEvents", 400, code)
    error = await failure(sink(AWS_ENDPOINT_URL=await logs.start(), AWS_SESSION_TOKEN="token"), RefusedError)
    assert error.variable == variable
    assert code in str(error)
    assert "SHIPPER_SINKS=none" in str(error)
    assert "127.0.0.1" in str(error)


async def test_a_key_that_may_not_write_logs_says_what_to_allow_or_how_to_turn_it_off(logs: Logs) -> None:
    logs.lacks("log group")
    logs.will("CreateLogGroup", 400, "AccessDeniedException")
    made = sink(
        AWS_ENDPOINT_URL=await logs.start(), SHIPPER_CLOUDWATCH_RETENTION_DAYS="7", DATADOG_TOKEN="x",
        NEW_RELIC_LICENSE_KEY="y",
    )  # fmt: skip
    error = await failure(made, RefusedError)
    assert "The key in AWS_ACCESS_KEY_ID may not do logs:CreateLogGroup" in str(error)
    for action in ("CreateLogGroup", "CreateLogStream", "PutLogEvents", "PutRetentionPolicy"):
        assert f"logs:{action}" in str(error)
    assert "SHIPPER_SINKS=datadog,newrelic" in str(error)
    assert "\n" not in str(error)


async def test_temporary_keys_without_their_token_are_told_so(logs: Logs) -> None:
    logs.will("PutLogEvents", 400, "UnrecognizedClientException")
    url = await logs.start()
    made = sink(AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="ASIAIOSFODNN7EXAMPLE")
    assert "needs AWS_SESSION_TOKEN" in str(await failure(made, RefusedError))
    made = sink(AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="ASIAIOSFODNN7EXAMPLE", AWS_SESSION_TOKEN_FILE="/nowhere/token")
    logs.will("PutLogEvents", 400, "UnrecognizedClientException")
    assert "AWS_SESSION_TOKEN_FILE names no file that holds one" in str(await failure(made, RefusedError))


@pytest.mark.parametrize("operation", ["CreateLogGroup", "CreateLogStream"])
async def test_a_name_that_is_not_taken_is_no_fault_of_the_lines(logs: Logs, operation: str) -> None:
    logs.lacks("log group")
    logs.will(operation, 400, "InvalidParameterException")
    error = await failure(sink(AWS_ENDPOINT_URL=await logs.start()), RefusedError)
    assert error.variable == (
        "SHIPPER_CLOUDWATCH_GROUP" if operation == "CreateLogGroup" else "SHIPPER_CLOUDWATCH_STREAM"
    )


@pytest.mark.parametrize("code", ["InvalidParameterException", "SerializationException", "ValidationException"])
async def test_content_that_is_refused_is_for_the_caller_to_bisect(logs: Logs, code: str) -> None:
    logs.will("PutLogEvents", 400, code)
    assert (await failure(sink(AWS_ENDPOINT_URL=await logs.start()), RejectedError)).status == 400


async def test_a_body_found_too_large_is_said_so(logs: Logs) -> None:
    logs.will("PutLogEvents", 413, {})
    assert (await failure(sink(AWS_ENDPOINT_URL=await logs.start()), RejectedError)).status == 413


async def test_what_was_accepted_already_counts_as_accepted(logs: Logs) -> None:
    logs.will("PutLogEvents", 400, "DataAlreadyAcceptedException")
    assert await send(sink(AWS_ENDPOINT_URL=await logs.start())) is None


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ThrottlingException"), (400, "LimitExceededException"), (400, "ServiceQuotaExceededException"),
        (503, "ThrottlingException"), (400, "TooManyRequestsException"), (429, "x"),
    ],
)  # fmt: skip
async def test_throttling_asks_for_fewer_requests_and_is_tried_once_only(logs: Logs, status: int, code: str) -> None:
    logs.will("PutLogEvents", status, code, Retry_After="7")
    error = await failure(sink(AWS_ENDPOINT_URL=await logs.start()))
    assert (error.throttled, error.after) == (True, 7.0)
    assert logs.operations == ["PutLogEvents"]


async def test_retry_after_as_a_date_counts_from_the_answers_own(logs: Logs) -> None:
    now = time.time()
    logs.will("PutLogEvents", 429, {}, Retry_After=formatdate(now + 20, usegmt=True), Date=formatdate(now, usegmt=True))
    assert (await failure(sink(AWS_ENDPOINT_URL=await logs.start()))).after == 20.0


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (500, "ServiceUnavailableException", "trouble of its own"),
        (400, "ServiceUnavailableException", "trouble of its own"),
        (503, b"<html>", "trouble of its own"),
        (400, "OperationAbortedException", "trouble of its own"),
        (408, {}, "trouble of its own"),
        (404, {}, "gave an answer that CloudWatch does not give"),
        (400, "SomethingNew\nException", "SomethingNewException"),
        (302, {}, "redirect"),
        (407, {}, "gave an answer that CloudWatch does not give (status 407)"),
        (200, b"<html>log in here</html>", "no answer of CloudWatch's"),
        (200, b'{"rejectedLogEventsInfo":{"tooOld', "no answer of CloudWatch's"),
        (200, b"", "no answer of CloudWatch's"),
        (202, b"<html>", "no answer of CloudWatch's"),
        (400, "RequestTimeTooSkewed", "is this machine's clock right?"),
        (
            400,
            {
                "__type": "InvalidSignatureException",
                "message": "Signature expired: 20261124T040000Z is now earlier than",
            },
            "is this machine's clock right?",
        ),
    ],
)
async def test_what_may_pass_is_tried_again(logs: Logs, status: int, answer: object, words: str) -> None:
    logs.will("PutLogEvents", status, answer)
    error = await failure(sink(AWS_ENDPOINT_URL=await logs.start()))
    assert words in str(error)
    assert not error.throttled
    assert logs.operations == ["PutLogEvents"]


async def test_no_more_of_an_answer_is_read_than_the_limit(servers: Servers) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                writer.write(b" " * 100_000)
                await writer.drain()
        except ConnectionError:
            return

    error = await failure(sink(AWS_ENDPOINT_URL=f"http://{await servers.raw(handle)}"))
    assert "no answer of CloudWatch's" in str(error)


async def test_an_answer_that_does_not_come_ends_at_the_time_out(logs: Logs) -> None:
    made = sink(AWS_ENDPOINT_URL=await logs.start())
    made.http.total_timeout = 0.2
    logs.delay = 30
    assert "did not answer within 0.2 s" in str(await failure(made))


async def test_a_refused_connection_and_a_broken_one_are_said_so(servers: Servers) -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    host = await servers.raw(nothing)
    assert f"{host} closed the connection before it answered." == str(
        await failure(sink(AWS_ENDPOINT_URL=f"http://{host}"))
    )
    await servers.close()
    error = await failure(sink(AWS_ENDPOINT_URL=f"http://{host}"))
    assert str(error).startswith(f"{host} could not be reached (Connection refused): is AWS_ENDPOINT_URL right, and ")


async def test_a_region_that_does_not_exist_is_said_so_by_its_variable() -> None:
    made = sink(AWS_REGION="zz-nowhere-9")
    error = await failure(made)
    assert "logs.zz-nowhere-9.amazonaws.com" in str(error)
    assert "AWS_REGION" in str(error)
    other = await failure(sink(AWS_ENDPOINT_URL_LOGS="http://logs.invalid"))
    assert "is AWS_ENDPOINT_URL_LOGS right, and" in str(other)


async def test_a_certificate_that_nobody_vouches_for_gets_nothing(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pem").write_text(SELF_MADE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    got = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()

    host = await servers.raw(handle, context)
    error = await failure(sink(AWS_ENDPOINT_URL=f"https://{host}"))
    assert f"The certificate of {host} was not verified (self-signed certificate), so nothing was sent" in str(error)
    assert not got
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pem"))
    assert await send(sink(AWS_ENDPOINT_URL=f"https://{host}")) is None
    assert got.startswith(b"POST / HTTP/1.1\r\n")


async def test_a_server_that_speaks_no_tls_gets_nothing(servers: Servers) -> None:
    got = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.read(1000))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    host = await servers.raw(handle)
    error = await failure(sink(AWS_ENDPOINT_URL=f"https://{host}"))
    assert str(error).startswith(f"No TLS connection to {host} came about, so nothing was sent to it: ")
    assert b"POST" not in got


async def test_a_proxy_is_used_and_given_its_password(logs: Logs, servers: Servers) -> None:
    async def respond(request: web.BaseRequest) -> web.Response:
        del request
        return web.json_response({})

    proxy = await servers.http(respond)
    environ = {"HTTP_PROXY": f"http://me:hunter2@{proxy}", "AWS_ENDPOINT_URL": "http://logs.invalid:8080"}
    assert await send(sink(**environ)) is None
    ((_, headers, _),) = servers.requests
    assert headers["Host"] == "logs.invalid:8080"
    assert headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"me:hunter2").decode()
    made = sink(HTTP_PROXY=f"http://{proxy}", NO_PROXY="127.0.0.1", AWS_ENDPOINT_URL=await logs.start())
    assert await send(made) is None
    assert len(servers.requests) == 2  # the other one came to the service itself
    assert logs.operations == ["PutLogEvents"]


@pytest.mark.parametrize("vouched_for", [False, True], ids=["by nobody", "as another host's"])
async def test_a_tunnel_through_a_proxy_is_verified_to_its_end(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vouched_for: bool
) -> None:
    (tmp_path / "pem").write_text(SELF_MADE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    got = bytearray()

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.read(1))

    host = await servers.raw(service, context)

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"CONNECT logs.eu-west-1.amazonaws.com:443 ")
        far_reader, far_writer = await asyncio.open_connection(*host.split(":"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    target.write(data)
            except ConnectionError:
                pass
            target.close()

        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))

    proxy = await servers.raw(tunnel)
    if vouched_for:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "pem"))
    error = await failure(sink(AWS_REGION="eu-west-1", HTTPS_PROXY=f"http://{proxy}"))
    assert str(error).startswith(
        f"The certificate of logs.eu-west-1.amazonaws.com through the proxy {proxy} (HTTPS_PROXY) was not verified ("
    )
    assert ("mismatch" in str(error)) == vouched_for
    assert not got


async def test_a_proxy_that_refuses_or_is_not_there_is_named_without_its_password(servers: Servers) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    proxy = await servers.raw(refuse)
    there = {"HTTPS_PROXY": f"http://me:hunter2@{proxy}"}
    assert str(await failure(sink(**there))) == (
        f"The proxy {proxy} (HTTPS_PROXY) does not take the user and password (status 407): mend them in HTTPS_PROXY."
    )
    await servers.close()
    assert str(await failure(sink(**there))) == (
        f"The proxy {proxy} (HTTPS_PROXY) could not be reached (Connection refused): is HTTPS_PROXY right, and does "
        "the proxy run?"
    )
    unnamed = {"HTTPS_PROXY": "http://me:hunter2@proxy.invalid:1"}
    assert str(await failure(sink(**unnamed))) == (
        "The name of the proxy proxy.invalid:1 (HTTPS_PROXY) could not be resolved: is HTTPS_PROXY right?"
    )


async def test_a_proxy_that_hangs_is_given_up_after_the_time_for_a_connection(servers: Servers) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    proxy = await servers.raw(hang)
    made = sink(HTTPS_PROXY=f"http://{proxy}")
    made.http.connect_timeout = 0.2
    assert str(await failure(made)).startswith(f"No connection to the proxy {proxy} (HTTPS_PROXY) within 0.2 s: ")


async def test_a_plain_proxys_refusal_is_not_taken_for_the_keys(servers: Servers) -> None:
    async def respond(request: web.BaseRequest) -> web.Response:
        return web.Response(status=403, text="<html>not from here</html>")

    proxy = await servers.http(respond)
    error = await failure(sink(HTTP_PROXY=f"http://{proxy}", AWS_ENDPOINT_URL="http://logs.invalid"))
    assert "proxy" in str(error)


async def test_requests_that_hang_do_not_hold_up_the_end(servers: Servers, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        inspect.cleandoc(f"""
        import asyncio, socket, sys
        sys.path.append({str(ROOT)!r})
        from shipper.journal.facts import Facts
        from shipper.lines.batch import Batch
        from shipper.lines.decoder import Decoder
        from shipper.sinks.cloudwatch import CloudWatch
        server = socket.create_server(("127.0.0.1", 0))
        keys = {KEYS!r}
        sink = CloudWatch.from_env({{**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{{server.getsockname()[1]}}"}})
        events = Decoder().decode(Batch(1, [b"line"], 1, [(0, {NOW_MS} * 10**6)], {{}}))
        body = sink.encoder(Facts("r", "h", "s", "v", (), (), 1, 0, ""))([(events, 0, 1)], {NOW_MS})
        async def main():
            tasks = [asyncio.create_task(sink.send(body)) for _ in range(3)]
            accepted = await asyncio.to_thread(server.accept)
            for task in tasks:
                task.cancel()
            print(await asyncio.gather(*tasks, return_exceptions=True))
            await sink.close()
            del accepted
        asyncio.run(main())
        """)
    )
    started = await asyncio.create_subprocess_exec(
        sys.executable, str(program), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(started.communicate(), 20)
    assert out.decode().count("CancelledError") == 3
    assert err == b""


# -- against moto's server ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def reader(aws: str) -> Any:
    return boto3.client(
        "logs", region_name="us-west-2", endpoint_url=aws, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET
    )


async def test_moto_has_what_was_sent_in_order_in_the_group_and_stream_that_were_made(aws: str) -> None:
    now_ms = int(time.time() * 1000)
    names = {"SHIPPER_CLOUDWATCH_GROUP": "/agents/one", "SHIPPER_CLOUDWATCH_STREAM": "w/1"}
    made = sink(AWS_ENDPOINT_URL=aws, SHIPPER_CLOUDWATCH_RETENTION_DAYS="30", **names)
    lines = [
        b'{"msg":"line %d \xf0\x9f\x99\x82 \\"q\\"","time":%d}' % (n, now_ms - 7919 * n % 60_000) for n in range(3000)
    ]
    events = events_of(*lines, capture_ms=now_ms)
    for start in range(0, 3000, 1000):
        assert await made.send(encode((events, start, start + 1000), now_ms=now_ms, by=made)) is None
    await made.close()
    client = reader(aws)
    (group,) = client.describe_log_groups(logGroupNamePrefix="/agents/one")["logGroups"]
    assert group["retentionInDays"] == 30
    (stream,) = client.describe_log_streams(logGroupName="/agents/one")["logStreams"]
    assert stream["logStreamName"] == "w/1"
    found: list[Any] = []
    token: dict[str, str] = {}
    while True:
        answer = client.get_log_events(
            logGroupName="/agents/one", logStreamName="w/1", startFromHead=True, limit=10_000, **token
        )
        if not answer["events"]:
            break
        found += answer["events"]
        token = {"nextToken": answer["nextForwardToken"]}
    there = {entry["seq"]: (event["timestamp"], entry) for event in found for entry in [orjson.loads(event["message"])]}
    assert len(found) == len(there) == 3000
    for number, line in enumerate(lines):
        told = orjson.loads(line)
        time_ms, entry = there[number + 1]
        assert (entry["message"], entry["timestamp"], time_ms) == (told["msg"], told["time"], told["time"])
        assert (entry["stream"], entry["level"], entry["tags"]) == ("stdout", "info", dict(TAGS))


async def test_moto_keeps_what_is_there(aws: str) -> None:
    client = reader(aws)
    client.create_log_group(logGroupName="kept")
    client.put_retention_policy(logGroupName="kept", retentionInDays=5)
    now_ms = int(time.time() * 1000)
    made = sink(
        AWS_ENDPOINT_URL=aws, SHIPPER_CLOUDWATCH_GROUP="kept", SHIPPER_CLOUDWATCH_RETENTION_DAYS="30",
        SHIPPER_CLOUDWATCH_FORMAT="raw",
    )  # fmt: skip
    body = all_of(events_of(b"as it is", capture_ms=now_ms), by=made, now_ms=now_ms)
    assert await made.send(body) is None
    assert await made.send(body) is None
    await made.close()
    (group,) = client.describe_log_groups(logGroupNamePrefix="kept")["logGroups"]
    assert group["retentionInDays"] == 5
    found = client.get_log_events(logGroupName="kept", logStreamName="worker-1", startFromHead=True)["events"]
    assert [event["message"] for event in found] == ["as it is", "as it is"]


async def test_moto_takes_a_full_request_in_both_formats(aws: str) -> None:
    now_ms = int(time.time() * 1000)
    for form, lines in (("json", 10_000), ("raw", 10_000)):
        made = sink(AWS_ENDPOINT_URL=aws, SHIPPER_CLOUDWATCH_FORMAT=form, SHIPPER_CLOUDWATCH_GROUP=f"full-{form}")
        facts = Facts("r", "h", "s", "v", (), (), 1, 0, "")
        text = b"x" * (78 if form == "raw" else 1)
        events = events_of(*[text] * lines, capture_ms=now_ms)
        count = lines if form == "raw" else 6000
        body = encode((events, 0, count), by=made, now_ms=now_ms, facts=facts)
        assert 0.9 * LIMITS.max_body_bytes < body.size <= LIMITS.max_body_bytes
        assert await made.send(body) is None
        await made.close()


async def test_the_body_does_not_wait_for_an_acknowledgement_of_the_headers(logs: Logs) -> None:
    made = sink(AWS_ENDPOINT_URL=await logs.start())
    assert await made.send(all_of(events_of(b"line"))) is None
    pool = made._client._endpoint.http_session._manager.connection_from_url(made.url)
    (connection,) = [kept for kept in pool.pool.queue if kept is not None]
    assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await made.close()
