"""Datadog's intake as a function: what it takes, what it refuses and how, what becomes of a log."""

from __future__ import annotations

import gzip
import random
import zlib
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from shipper.sandbox.datadog import Datadog, level_of
from shipper.sandbox.intake import (
    MAX_MEMBERS,
    MEMBER_BYTES,
    BodyError,
    RefusedError,
    Request,
    TooLargeError,
    Unpacked,
    decompress,
    hide,
)

DATADOG = Datadog()
NOW_MS = 1_795_563_000_000
HOUR_MS = 3_600_000
API_KEY = "0123456789abcdef0123456789abcdef"
ZSTD = zstandard.ZstdCompressor().compress


def request(
    body: bytes = b"[]", query: dict[str, str] | None = None, path: str = "/api/v2/logs", **headers: str
) -> Request:
    names = {"dd-api-key": API_KEY, "content-type": "application/json"}
    names.update({name.replace("_", "-"): value for name, value in headers.items()})
    return Request("POST", path, query or {}, {k: v for k, v in names.items() if v}, body, NOW_MS)


def take(asked: Request) -> Unpacked:
    DATADOG.admit(asked)
    return DATADOG.unpack(asked)


def refused(asked: Request) -> tuple[int, str]:
    with pytest.raises(RefusedError) as caught:
        take(asked)
    answer = caught.value.answer
    errors = orjson.loads(answer.body)["errors"]
    assert len(errors) == 1
    assert errors[0].keys() == {"status", "title", "detail"}
    assert errors[0]["status"] == str(answer.status)
    assert answer.content_type == "application/json"
    return answer.status, errors[0]["detail"]


def view(entry: dict[str, Any], query: dict[str, str] | None = None) -> dict[str, Any]:
    asked = request(orjson.dumps([entry]), query)
    return DATADOG.view(0, DATADOG.unpack(asked), asked)


# What is refused


@pytest.mark.parametrize(
    ("asked", "status", "detail"),
    [
        (request(dd_api_key=""), 401, "API key is missing or invalid"),
        (request(dd_api_key="nope"), 403, "API key is missing or invalid"),
        (request(dd_api_key=API_KEY + "0"), 403, "API key is missing or invalid"),
        (request(dd_api_key="pub" + API_KEY[:-1]), 403, "API key is missing or invalid"),
        (request(dd_api_key="z" * 32), 403, "API key is missing or invalid"),
        (request(dd_api_key="nope", query={"dd-api-key": API_KEY}), 403, "API key is missing or invalid"),
        (request(path="/api/v2/log"), 404, "HTTP path is invalid"),
        (request(path="/api/v2/logs/"), 404, "HTTP path is invalid"),
        (request(b""), 400, "Payload is not valid JSON"),
        (request(b"{"), 400, "Payload is not valid JSON"),
        (request(b'[{"message":"a\xff"}]'), 400, "Payload is not valid JSON"),
        (request(b'[{"n":NaN}]'), 400, "Payload is not valid JSON"),
        (request(b"[" * 5000), 400, "Payload is not valid JSON"),
        (request(b'"text"'), 400, "Payload is neither a JSON array nor a JSON object"),
        (request(b"17"), 400, "Payload is neither a JSON array nor a JSON object"),
        (request(b'[{"message":"a"},"b"]'), 400, "Payload holds an entry that is not a JSON object"),
        (request(b"[null]"), 400, "Payload holds an entry that is not a JSON object"),
        (request(content_encoding="br"), 400, "Content-Encoding is invalid"),
        (request(content_encoding="gzip, gzip"), 400, "Content-Encoding is invalid"),
        (request(b'[{"message":"plain"}]', content_encoding="gzip"), 400, "The body is not gzip."),
        (request(gzip.compress(b"[]")[:-4], content_encoding="gzip"), 400, "The gzip body ends too early."),
        (request(gzip.compress(b"[]") + b"trailing bytes", content_encoding="gzip"), 400, "The body is not gzip."),
        (
            request(ZSTD(b"[]") + b"trailing bytes", content_encoding="zstd"),
            400,
            "Bytes follow the end of the zstd body.",
        ),
        (request(zlib.compress(b"[]", wbits=-15), content_encoding="deflate"), 400, "The body is not deflate."),
        (request(b'[{"message":"plain"}]', content_encoding="zstd"), 400, "The body is not zstd."),
        (request(content_type="application/octet-stream"), 400, "Content-Type is invalid"),
        (request(content_type="application/x-www-form-urlencoded"), 400, "Content-Type is invalid"),
        (request(b"[" + b" " * 5_000_000 + b"]"), 413, "Payload is too large: more than 5 MB uncompressed"),
        (request(orjson.dumps([{"message": "a"}] * 1001)), 413, "Payload is too large: more than 1000 entries"),
    ],
)
def test_each_fault_has_the_real_status_and_body(asked: Request, status: int, detail: str) -> None:
    assert refused(asked) == (status, detail)


def test_only_post_is_allowed() -> None:
    asked = Request("GET", "/api/v2/logs", {}, {"dd-api-key": API_KEY}, b"", NOW_MS)
    assert refused(asked) == (405, "HTTP method is invalid")


@pytest.mark.parametrize("key", [API_KEY, API_KEY.upper(), "pub" + API_KEY])
@pytest.mark.parametrize("place", ["header", "query"])
def test_a_key_of_the_right_shape_is_taken_from_header_or_query(key: str, place: str) -> None:
    DATADOG.admit(request(dd_api_key=key) if place == "header" else request(dd_api_key="", query={"dd-api-key": key}))


def test_what_the_page_gets_holds_no_key() -> None:
    asked = request(b"[]", {"dd-api-key": "pub" + API_KEY, "ddsource": "browser"})
    hidden = DATADOG.without_keys(asked)
    assert API_KEY not in repr(hidden)
    assert hidden.headers["dd-api-key"] == hidden.query["dd-api-key"] == "…cdef"
    assert hidden.query["ddsource"] == "browser"
    assert hide("short") == "…"


# What is taken


def test_limits_hold_to_the_byte_and_to_the_entry() -> None:
    body = b"[" + b" " * (5_000_000 - 2) + b"]"
    assert DATADOG.unpack(request(body)).size == 5_000_000
    assert DATADOG.unpack(request(gzip.compress(body), content_encoding="gzip")).size == 5_000_000
    assert len(DATADOG.unpack(request(orjson.dumps([{"message": "a"}] * 1000))).entries) == 1000


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("", bytes),
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
        ("deflate", zlib.compress),
        ("zstd", ZSTD),
    ],
)
def test_every_encoding_of_the_real_intake_is_read(encoding: str, encode: Any) -> None:
    body = orjson.dumps([{"message": "a" * 5000}, {"message": "ü"}])
    unpacked = DATADOG.unpack(request(encode(body), content_encoding=encoding))
    assert unpacked.entries == orjson.loads(body)
    assert unpacked.size == len(body)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_decompression_bomb_is_refused_without_being_unpacked(encoding: str) -> None:
    encode: Any = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": ZSTD}[encoding]
    bomb = encode(b"[" + b" " * 300_000_000)
    assert len(bomb) < 500_000
    assert refused(request(bomb, content_encoding=encoding))[0] == 413


def test_gzip_members_together_stay_within_the_bound() -> None:
    member = gzip.compress(b" " * 600)
    with pytest.raises(TooLargeError):
        decompress(member * 2, "gzip", 1199)
    assert len(decompress(member * 2, "gzip", 1200)) == 1200
    with pytest.raises(BodyError):
        decompress(b"", "gzip", 10)


def test_gzip_members_are_a_thousand_at_most_and_empty_ones_no_way_around_it() -> None:
    assert decompress(gzip.compress(b"a") * MAX_MEMBERS, "gzip", 10_000) == b"a" * MAX_MEMBERS
    for member in (gzip.compress(b"a"), gzip.compress(b"")):
        with pytest.raises(BodyError, match="1000 members"):
            decompress(member * (MAX_MEMBERS + 1), "gzip", 10_000)
    assert refused(request(gzip.compress(b"") * 50_000, content_encoding="gzip"))[0] == 400


def test_gzip_members_longer_than_what_is_handed_over_at_once_are_read_whole() -> None:
    texts = [random.Random(n).randbytes(3 * MEMBER_BYTES + n) for n in range(3)]
    body = b"".join(gzip.compress(text, 1) for text in texts)
    assert decompress(body, "gzip", 10**6) == b"".join(texts)
    for short in (body[:-1], body[:-MEMBER_BYTES]):
        with pytest.raises(BodyError, match="too early"):
            decompress(short, "gzip", 10**6)


def test_one_object_is_one_log_and_an_empty_body_of_json_none() -> None:
    assert DATADOG.unpack(request(b'{"message":"a"}')).entries == [{"message": "a"}]
    assert DATADOG.unpack(request(b"{}")).entries == []
    assert DATADOG.unpack(request(b"[]")).entries == []
    assert DATADOG.unpack(request(b"[{}]", content_type="")).entries == [{}]


def test_plain_text_is_a_log_a_line() -> None:
    body = b'first\r\n\n{"message":"json","status":"warn"}\n[1]\nbad \xff\n{broken'
    unpacked = DATADOG.unpack(request(body, content_type="text/plain;charset=UTF-8"))
    assert unpacked.entries == [
        {"message": "first"},
        {"message": "json", "status": "warn"},
        {"message": "[1]"},
        {"message": "bad \N{REPLACEMENT CHARACTER}"},
        {"message": "{broken"},
    ]


@given(
    st.binary(max_size=200),
    st.sampled_from(["", "identity", "gzip", "deflate", "zstd", "br", "\x00"]),
    st.sampled_from(["", "application/json", "text/plain", "application/logplex-1", "a/b"]),
)
def test_any_bytes_are_taken_or_refused_with_a_status_of_the_intake(body: bytes, encoding: str, kind: str) -> None:
    asked = request(body, content_encoding=encoding, content_type=kind)
    try:
        unpacked = DATADOG.unpack(asked)
    except RefusedError as error:
        status = error.answer.status
    else:
        status = DATADOG.settle(asked, unpacked).status
        for index in range(len(unpacked.entries)):
            orjson.dumps(DATADOG.view(index, unpacked, asked))
    assert status in {202, 400, 413}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["message", "msg", "host", "hostname", "syslog", "status", "level", "timestamp", "@timestamp", "date", "eventTime",
     "service", "ddtags", "ddsource", "run", "stream", "seq", "lines", "skipped", "part", "dd", "logger"]
)  # fmt: skip


@given(st.dictionaries(NAMES, JSON, max_size=8))
def test_any_log_can_be_shown(entry: dict[str, Any]) -> None:
    shown = view(entry)
    orjson.dumps(shown)
    assert type(shown["message"]) is str
    assert type(shown["time_ms"]) is int
    assert all(
        shown[name] is None or type(shown[name]) is str for name in ("host", "source", "service", "stream", "run")
    )
    assert all(type(tag) is str for tag in shown["tags"])


# What becomes of a log


def test_a_line_of_shippers_arrives_under_the_names_that_datadog_shows() -> None:
    shown = view(
        {
            "message": "received job request",
            "status": "warning",
            "timestamp": NOW_MS - 5,
            "hostname": "AW_1",
            "ddsource": "CA_1",
            "service": "cloud.livekit.io",
            "ddtags": "env:prod,team:voice",
            "stream": "stdout",
            "run": "0123456789abcdef",
            "seq": 7,
            "lines": 2,
            "logger": "livekit.agents",
            "job": {"id": "AJ_1"},
        }
    )
    assert shown == {
        "time_ms": NOW_MS - 5,
        "level": "warning",
        "message": "received job request",
        "host": "AW_1",
        "source": "CA_1",
        "service": "cloud.livekit.io",
        "stream": "stdout",
        "run": "0123456789abcdef",
        "seq": 7,
        "lines": 2,
        "part": None,
        "skipped": None,
        "tags": ["env:prod", "team:voice"],
        "attributes": {"logger": "livekit.agents", "job": {"id": "AJ_1"}},
        "marks": [],
        "remapped": {
            "host": "hostname",
            "date": "timestamp",
            "message": "message",
            "status": "status",
            "service": "service",
        },
        "shadowed": {},
        "trace_id": None,
    }


def test_an_attribute_of_the_agents_takes_the_place_of_ours_as_at_datadog() -> None:
    shown = view({"message": "m", "hostname": "ours", "host": "theirs", "status": "info", "level": 50, "severity": "x"})
    assert shown["host"] == "theirs"
    assert shown["remapped"]["host"] == "host"
    assert shown["shadowed"] == {"host": ["hostname"], "status": ["severity", "level"]}
    assert shown["attributes"] == {"hostname": "ours", "level": 50, "severity": "x"}


@pytest.mark.parametrize(
    ("reserved", "name"),
    [("host", "host"), ("host", "hostname"), ("message", "message"), ("message", "msg"), ("message", "log"),
     ("service", "service"), ("source", "ddsource")],
)  # fmt: skip
def test_each_reserved_attribute_is_found_under_each_of_its_names(reserved: str, name: str) -> None:
    assert view({name: "value"})[reserved] == "value"


def test_syslog_attributes_are_found_nested_and_with_a_dot() -> None:
    for entry in (
        {"syslog": {"hostname": "h", "severity": 3, "appname": "a", "timestamp": NOW_MS}},
        {"syslog.hostname": "h", "syslog.severity": 3, "syslog.appname": "a", "syslog.timestamp": NOW_MS},
    ):
        shown = view(entry)
        assert (shown["host"], shown["level"], shown["service"], shown["time_ms"]) == ("h", "error", "a", NOW_MS)


def test_a_structure_is_no_host() -> None:
    shown = view({"host": {"name": "theirs"}, "hostname": "ours"})
    assert shown["host"] == "ours"
    assert shown["attributes"] == {"host": {"name": "theirs"}}


def test_query_parameters_fill_what_the_body_leaves_open() -> None:
    query = {"ddsource": "q", "service": "q", "hostname": "q", "ddtags": "a:1"}
    shown = view({"message": "m"}, query)
    assert (shown["source"], shown["service"], shown["host"], shown["tags"]) == ("q", "q", "q", ["a:1"])
    shown = view({"message": "m", "ddsource": "b", "service": "b", "hostname": "b", "ddtags": "b:2"}, query)
    assert (shown["source"], shown["service"], shown["host"], shown["tags"]) == ("b", "b", "b", ["b:2", "a:1"])


def test_a_message_that_is_json_is_parsed_and_collides() -> None:
    shown = view({"message": '{"level":"error","host":"inner","message":"text","x":1}', "hostname": "ours"})
    assert (shown["message"], shown["level"], shown["host"]) == ("text", "error", "inner")
    assert shown["attributes"] == {"x": 1, "hostname": "ours"}
    assert shown["marks"] == ["message was JSON and was parsed into attributes"]


@pytest.mark.parametrize(
    ("status", "level"),
    [(0, "emergency"), (1, "alert"), (2, "critical"), (3, "error"), (4, "warning"), (5, "notice"), (6, "info"),
     (7, "debug"), (8, "info"), (30, "info"), (50, "info"), (-1, "info"), (3.0, "info"), (True, "info"), ("3", "info"),
     ("50", "info"), ("emerg", "emergency"), ("Fatal", "emergency"), ("ALERT", "alert"), ("crit", "critical"),
     ("err", "error"), ("ERROR", "error"), ("warn", "warning"), ("Warning", "warning"), ("notice", "notice"),
     ("information", "info"), ("dbg", "debug"), ("trace", "debug"), ("verbose", "debug"), ("OK", "ok"),
     ("success", "ok"), ("e", "info"), ("?", "info"), ("", "info"), (None, "info")],
)  # fmt: skip
def test_a_status_maps_as_documented(status: object, level: str) -> None:
    assert level_of(status) == level


@pytest.mark.parametrize(
    ("date", "time_ms"),
    [
        (1_795_000_000_000, 1_795_000_000_000),
        ("1795000000000", 1_795_000_000_000),
        ("2026-11-24T23:00:00Z", 1_795_561_200_000),
        ("2026-11-24T23:00:00.250+01:00", 1_795_557_600_250),
        ("2026-11-24 23:00:00", 1_795_561_200_000),
    ],
)
def test_dates_are_read_as_datadog_reads_them(date: object, time_ms: int) -> None:
    assert view({"message": "m", "date": date})["time_ms"] == time_ms


def test_a_date_that_is_none_counts_as_the_arrival_and_is_marked() -> None:
    shown = view({"message": "m", "timestamp": "yesterday"})
    assert shown["time_ms"] == NOW_MS
    assert shown["marks"] == ["timestamp is no date that Datadog reads: the time of arrival counts"]
    assert view({"message": "m"})["marks"] == []


def test_a_log_older_than_18_hours_is_taken_and_marked_as_rejected() -> None:
    logs = [
        {"message": "edge", "timestamp": NOW_MS - 18 * HOUR_MS},
        {"message": "over", "timestamp": NOW_MS - 18 * HOUR_MS - 1},
        {"message": "collision", "timestamp": NOW_MS, "@timestamp": "2020-01-01T00:00:00Z"},
        {"message": "other name", "date": NOW_MS - 19 * HOUR_MS},
        {"message": "no date"},
    ]
    asked = request(orjson.dumps(logs))
    unpacked = DATADOG.unpack(asked)
    assert unpacked.too_old == {1, 2, 3}
    assert DATADOG.view(1, unpacked, asked)["marks"] == ["rejected on arrival: too old (more than 18 h)"]
    assert DATADOG.view(0, unpacked, asked)["marks"] == []


def test_a_log_more_than_2_hours_ahead_is_taken_and_marked_as_rejected() -> None:
    logs = [
        {"message": "edge", "timestamp": NOW_MS + 2 * HOUR_MS},
        {"message": "over", "timestamp": NOW_MS + 2 * HOUR_MS + 1},
        {"message": "other name", "date": NOW_MS + 3 * HOUR_MS},
        {"message": "no date"},
        {"message": "collision", "timestamp": NOW_MS, "@timestamp": "2999-01-01T00:00:00Z"},
    ]
    asked = request(orjson.dumps(logs))
    unpacked = DATADOG.unpack(asked)
    why = "rejected on arrival: more than 2 h in the future"
    assert unpacked.dropped == ((1, 3, why), (4, 5, why))
    assert [entry["message"] for entry in unpacked.kept()] == ["edge", "no date"]
    assert [DATADOG.view(index, unpacked, asked)["marks"] for index in range(5)] == [[], [why], [why], [], [why]]


def test_a_log_over_1_mb_is_taken_and_cut() -> None:
    asked = request(orjson.dumps([{"message": "small"}, {"message": "x" * 1_200_000}, {"message": "y" * 900_000}]))
    unpacked = DATADOG.unpack(asked)
    assert unpacked.cut == {1}
    shown = DATADOG.view(1, unpacked, asked)
    assert shown["marks"] == ["cut: larger than 1 MB"]
    assert len(shown["message"]) == 1_000_000


def test_a_fault_speaks_datadogs_language() -> None:
    answer = DATADOG.refusal(429)
    assert answer.status == 429
    assert orjson.loads(answer.body) == {
        "errors": [{"status": "429", "title": "Too Many Requests", "detail": "Too Many Requests"}]
    }
    assert orjson.loads(DATADOG.refusal(599).body)["errors"][0]["title"] == "Error"
