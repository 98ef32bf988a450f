"""Datadog's bodies to the byte, its limits at their edge, its hosts, and whom it takes a token for."""

from __future__ import annotations

import gzip
import itertools
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.events import Events
from shipper.lines.levels import LEVELS
from shipper.lines.names import CLAIMED
from shipper.sinks.base import Body, SettingError
from shipper.sinks.datadog import LIMITS, MAX_AGE_MS, MAX_AHEAD_MS, REGIONS, Datadog
from tests.bodies import printed_fields

NOW_MS = 1_795_492_800_000  # 2026-11-24T04:00:00Z
API_KEY = "0123456789abcdef0123456789abcdef"
CLIENT_TOKEN = "pub" + API_KEY
TAGS = (("env", "prod"), ("team", "a b"))
FACTS = Facts("00112233445566ff", "worker-1", "agent-1", "cloud.livekit.io", TAGS, ("datadog",), 262_144, 0, "python")
SAMPLES = sorted((Path(__file__).parents[2] / "demo" / "lines").glob("*.log"))


def sink(**environ: str) -> Datadog:
    return Datadog.from_env({"DATADOG_TOKEN": API_KEY, **environ})


def events_of(*lines: bytes, stream: int = 1, capture_ms: int = NOW_MS, parts: dict[int, int] | None = None) -> Events:
    return Decoder().decode(Batch(stream, list(lines), 1, [(0, capture_ms * 10**6)], parts or {}))


def encode(*slices: tuple[Events, int, int], facts: Facts = FACTS, now_ms: int = NOW_MS) -> Body:
    return sink().encoder(facts)(slices, now_ms)


def entries(body: Body) -> list[dict[str, Any]]:
    raw = gzip.decompress(body.data)
    assert len(raw) == body.size
    made: list[dict[str, Any]] = orjson.loads(raw)
    assert len(made) == body.count
    return made


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
    facts = '"run":"00112233445566ff","hostname":"worker-1","ddsource":"agent-1","service":"cloud.livekit.io",'
    facts += '"ddtags":"env:prod,team:a b","stream":'
    assert gzip.decompress(body.data).decode() == (
        '[{"message":"hi \\"you\\"","pid":7,"a":{"b":[1,null]},"timestamp":1795492800250,"seq":1,'
        + facts + '"stdout","status":"warning"},'
        '{"message":"plain \ufffd","timestamp":1795492800000,"seq":3,"skipped":1,'
        + facts + '"stdout","status":"info"},'
        '{"agent.hostname":"vm","job_id":"AJ_1","message":"oh","timestamp":1795492799000,"seq":4,'
        + facts + '"stdout","status":"error"},'
        '{"message":"piece","timestamp":1795492800000,"seq":1,"part":1,' + facts + '"stderr","status":"info"},'
        '{"message":"2 lines are missing.","timestamp":1795492800000,"lost":2,"logger":"shipper",'
        + facts + '"stderr","status":"error"}]'
    )  # fmt: skip
    assert (body.count, body.moved, body.truncated, body.target) == (5, 0, 0, "/api/v2/logs")


@pytest.mark.parametrize("level", LEVELS)
def test_a_status_is_a_word_of_datadogs(level: str) -> None:
    (entry,) = entries(encode((Events.notice("stdout", 1, level, "m", {}), 0, 1), now_ms=1))
    assert entry["status"] == level


def test_a_slice_is_only_its_part() -> None:
    events = events_of(*(b"%d" % number for number in range(10)))
    body = encode((events, 2, 4), (events, 9, 10), (events, 5, 5))
    assert [entry["message"] for entry in entries(body)] == ["2", "3", "9"]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_field_of_every_sample_line_arrives_beside_ours(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    events = events_of(*lines, capture_ms=1_795_495_000_000)
    made = entries(encode((events, 0, events.count), now_ms=1_795_495_000_000))
    for entry in made:
        line = lines[entry["seq"] - 1]
        assert (entry["hostname"], entry["ddsource"], entry["service"]) == ("worker-1", "agent-1", "cloud.livekit.io")
        if line.startswith(b'{"'):
            values = [orjson.dumps(value) for value in entry.values()]
            for name, value in printed_fields(line).items():
                assert name in ("level", "time", "timestamp") or orjson.dumps(value) in values


def test_facts_of_any_text_are_escaped_and_stay_theirs() -> None:
    odd = Facts('r"', 'h"},{"x', "s\ud800 é&?#/", "sv\\", (("k", 'v"'),), (), 1, 0, "")
    events = events_of(b"m")
    (entry,) = entries(encode((events, 0, 1), facts=odd))
    assert (entry["run"], entry["hostname"], entry["ddsource"]) == ('r"', 'h"},{"x', "s? é&?#/")
    assert (entry["service"], entry["ddtags"]) == ("sv\\", 'k:v"')
    browser = sink(DATADOG_TOKEN=CLIENT_TOKEN).encoder(odd)([(events, 0, 1)], NOW_MS)
    assert browser.target == "/api/v2/logs?ddsource=s%3F%20%C3%A9%26%3F%23%2F"


def test_runs_and_streams_keep_their_own_facts_over_shared_events() -> None:
    events = events_of(b"a", b'{"msg":"b"}')
    other = Facts("ffffffffffffffff", "worker-2", "agent-2", "svc", (), (), 1, 0, "")
    encode_one, encode_other = sink().encoder(FACTS), sink().encoder(other)
    for encoder, host in itertools.islice(itertools.cycle([(encode_one, "worker-1"), (encode_other, "worker-2")]), 6):
        made = entries(encoder([(events, 0, 2)], NOW_MS))
        assert [entry["hostname"] for entry in made] == [host, host]


def test_encoders_in_several_threads_do_not_mix_their_facts() -> None:
    events = events_of(*[b'{"msg":"m","k":1}'] * 500)
    wrong: list[str] = []

    def work(host: str) -> None:
        encoder = sink().encoder(Facts("0" * 16, host, "a", "s", (), (), 1, 0, ""))
        for _ in range(20):
            wrong.extend(e["hostname"] for e in entries(encoder([(events, 0, 500)], NOW_MS)) if e["hostname"] != host)

    threads = [threading.Thread(target=work, args=(f"host-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(("age_ms", "moved"), [(MAX_AGE_MS, 0), (MAX_AGE_MS + 1, 1), (40 * 86_400_000, 1)])
def test_a_line_too_old_for_datadog_comes_under_the_present_time_and_keeps_its_own(age_ms: int, moved: int) -> None:
    events = events_of(b"old", b'{"msg":"own time","time":%d}' % NOW_MS, capture_ms=NOW_MS - age_ms)
    body = encode((events, 0, 1))
    (entry,) = entries(body)
    assert body.moved == moved
    if moved:
        assert (entry["timestamp"], entry["original_timestamp"]) == (NOW_MS, NOW_MS - age_ms)
    else:
        assert entry["timestamp"] == NOW_MS - age_ms
        assert "original_timestamp" not in entry
    assert events.times_ms[0] == NOW_MS - age_ms  # as it was, for other sinks and another try
    assert encode((events, 0, 1), now_ms=NOW_MS - age_ms).moved == 0


def test_an_agents_own_old_time_is_moved_too() -> None:
    events = events_of(b'{"msg":"m","time":%d}' % (NOW_MS - MAX_AGE_MS - 5), b"new")
    body = encode((events, 0, 2))
    assert body.moved == 1
    assert [entry["timestamp"] for entry in entries(body)] == [NOW_MS, NOW_MS]


@pytest.mark.parametrize(("ahead_ms", "moved"), [(MAX_AHEAD_MS, 0), (MAX_AHEAD_MS + 1, 1), (23 * 3_600_000, 1)])
def test_a_line_too_far_ahead_for_datadog_comes_under_the_present_time_and_keeps_its_own(
    ahead_ms: int, moved: int
) -> None:
    for line in (b'{"msg":"m","level":30,"time":%d}', b'{"message":"m","ts":%d}'):
        events = events_of(line % (NOW_MS + ahead_ms), b"now")
        body = encode((events, 0, 2))
        first, second = entries(body)
        assert body.moved == moved
        assert first["timestamp"] == (NOW_MS if moved else NOW_MS + ahead_ms)
        assert first.get("original_timestamp") == (NOW_MS + ahead_ms if moved else None)
        assert second["timestamp"] == NOW_MS


def size_of(line: bytes) -> int:
    return encode((events_of(line), 0, 1)).size


@pytest.mark.parametrize("over", [0, 1, 2])
def test_an_event_is_cut_only_when_it_is_larger_than_a_request(over: int) -> None:
    room = LIMITS.max_body_bytes - size_of(b"")
    body = encode((events_of(b"x" * (LIMITS.max_body_bytes - size_of(b"x") + 1 + over)), 0, 1))
    (entry,) = entries(body)
    assert body.size <= LIMITS.max_body_bytes
    assert body.truncated == (1 if over else 0)
    assert entry.get("truncated") == (True if over else None)
    if over:
        assert body.size == LIMITS.max_body_bytes
    assert room > 0


@pytest.mark.parametrize("character", ["é", "漢", "🙂", "\x00", '"', "\\"])
def test_a_message_is_cut_at_a_character(character: str) -> None:
    events = events_of(b"x")  # a line of nothing but control characters would be left out
    events.records[0]["message"] = character * 5_000_000
    (entry,) = entries(encode((events, 0, 1)))
    assert set(entry["message"]) == {character}
    assert entry["truncated"] is True


def test_fields_too_large_for_a_request_are_cut_as_text() -> None:
    line = b'{"msg":"short","level":"error","big":"' + b"x" * 6_000_000 + b'"}'
    body = encode((events_of(line), 0, 1))
    (entry,) = entries(body)
    assert body.size <= LIMITS.max_body_bytes
    assert (entry["message"], entry["status"], entry["seq"], entry["hostname"]) == ("short", "error", 1, "worker-1")
    assert entry["agent.fields"].startswith('{"big":"xxx')


def test_more_than_one_event_over_the_limit_is_for_the_caller_to_halve() -> None:
    events = events_of(b"x" * 3_000_000, b"y" * 3_000_000)
    body = encode((events, 0, 2))
    assert body.size > LIMITS.max_body_bytes
    assert body.truncated == 0
    assert encode((events, 0, 1)).size < LIMITS.max_body_bytes


@pytest.mark.parametrize("depth", [200, 252, 253, 254, 600, 1000])
def test_a_field_of_any_depth_arrives(depth: int) -> None:
    text = "[" * depth + "]" * depth
    events = events_of(b'{"msg":"deep","n":1,"deep":' + text.encode() + b"}", b'{"msg":"near","k":{"a":[]}}')
    deep, near = entries(encode((events, 0, 2)))
    assert deep["deep"] == text or deep["deep"] == orjson.loads(text)
    assert (deep["n"], deep["message"], deep["hostname"]) == (1, "deep", "worker-1")
    assert near["k"] == {"a": []}


FIELDS = st.dictionaries(
    st.one_of(st.sampled_from(sorted(CLAIMED)), st.text(max_size=6)),
    st.one_of(
        st.none(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=10), st.lists(st.text(max_size=3), max_size=2)
    ),
    max_size=8,
)
OURS = {"hostname": "worker-1", "ddsource": "agent-1", "service": "cloud.livekit.io", "ddtags": "env:prod,team:a b"}
FORBIDDEN = CLAIMED - {*OURS, "run", "stream", "status", "seq", "message", "timestamp"}


@given(st.lists(st.one_of(FIELDS.map(orjson.dumps), st.binary(max_size=30)), max_size=20))
def test_nothing_that_an_agent_prints_takes_our_place(lines: list[bytes]) -> None:
    events = events_of(*lines)
    raw = gzip.decompress(encode((events, 0, events.count)).data)
    made: list[list[tuple[str, Any]]] = [list(entry.items()) for entry in orjson.loads(raw)]
    assert raw.count(b'"run":"00112233445566ff","hostname":"worker-1",') == len(made)
    for pairs, message in zip(made, events.messages, strict=True):
        entry = dict(pairs)
        assert {name: entry[name] for name in OURS} == OURS
        assert (entry["run"], entry["stream"]) == ("00112233445566ff", "stdout")
        assert type(entry["timestamp"]) is int
        assert type(entry["seq"]) is int
        assert entry["message"] == message
        assert FORBIDDEN.isdisjoint(entry.keys() - {"skipped"})


@pytest.mark.parametrize(
    ("region", "api", "browser"),
    [
        ("us1", "http-intake.logs.datadoghq.com", "browser-intake-datadoghq.com"),
        ("us3", "http-intake.logs.us3.datadoghq.com", "browser-intake-us3-datadoghq.com"),
        ("us5", "http-intake.logs.us5.datadoghq.com", "browser-intake-us5-datadoghq.com"),
        ("us1-fed", "http-intake.logs.ddog-gov.com", "browser-intake-ddog-gov.com"),
        ("us2-fed", "http-intake.logs.us2.ddog-gov.com", "browser-intake-us2-ddog-gov.com"),
        ("eu", "http-intake.logs.datadoghq.eu", "browser-intake-datadoghq.eu"),
        ("ap1", "http-intake.logs.ap1.datadoghq.com", "browser-intake-ap1-datadoghq.com"),
        ("ap2", "http-intake.logs.ap2.datadoghq.com", "browser-intake-ap2-datadoghq.com"),
        ("uk1", "http-intake.logs.uk1.datadoghq.com", "browser-intake-uk1-datadoghq.com"),
    ],
)
def test_every_region_has_its_two_hosts(region: str, api: str, browser: str) -> None:
    for name in (region, region.upper(), f" {region} ", REGIONS[region]):
        assert sink(DATADOG_REGION=name).http.base == f"https://{api}"
        assert sink(DATADOG_REGION=name, DATADOG_TOKEN=CLIENT_TOKEN).http.base == f"https://{browser}"


def test_no_region_is_us1_and_other_names_count() -> None:
    assert sink().destination == sink(DATADOG_REGION=" ").destination == "http-intake.logs.datadoghq.com"
    assert sink(DATADOG_REGION="EU1").destination == "http-intake.logs.datadoghq.eu"


@pytest.mark.parametrize("region", ["us2", "mars", "datadoghq.de", "us1,eu", "http-intake.logs.datadoghq.com"])
def test_an_unknown_region_is_named_with_those_that_exist(region: str) -> None:
    with pytest.raises(SettingError) as caught:
        sink(DATADOG_REGION=region)
    assert caught.value.variable == "DATADOG_REGION"
    assert f'"{region}"' in caught.value.message
    assert all(name in caught.value.message for name in REGIONS)
    assert API_KEY not in caught.value.message


@pytest.mark.parametrize(
    ("token", "client"),
    [
        (CLIENT_TOKEN, True), (CLIENT_TOKEN.upper(), True), (f" {CLIENT_TOKEN}\n", True),
        (API_KEY, False), (f"pub{API_KEY}0", False), (CLIENT_TOKEN[:-1], False), (f"x{CLIENT_TOKEN}", False),
        ("pub" + "g" * 32, False), ("anything-else", False),
    ],
)  # fmt: skip
def test_a_client_token_is_known_by_its_shape_and_all_else_is_an_api_key(token: str, client: bool) -> None:
    made = sink(DATADOG_TOKEN=token)
    assert made.client_token is client
    assert made.destination.startswith("browser-intake" if client else "http-intake")
    body = made.encoder(FACTS)([(events_of(b"m"), 0, 1)], NOW_MS)
    assert body.target == "/api/v2/logs" + ("?ddsource=agent-1" if client else "")


def test_the_token_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(CLIENT_TOKEN + "\n")
    assert Datadog.from_env({"DATADOG_TOKEN_FILE": str(path)}).client_token
    with pytest.raises(SettingError, match="DATADOG_TOKEN_FILE names no file that holds a secret"):
        Datadog.from_env({"DATADOG_TOKEN_FILE": str(tmp_path / "none")})


def test_another_intake_takes_the_place_of_the_regions() -> None:
    made = sink(SHIPPER_DATADOG_URL="http://localhost:8080/", DATADOG_TOKEN=CLIENT_TOKEN)
    assert made.http.base == "http://localhost:8080"
    assert made.client_token


def test_a_full_request_holds_a_thousand_entries() -> None:
    assert LIMITS == (1000, 5_000_000, 4_250_000)
