"""New Relic's Log API as a function: what it takes, what it refuses and how, what becomes of a log."""

from __future__ import annotations

import gzip
import uuid
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.sandbox.intake import RefusedError, Request, Unpacked
from shipper.sandbox.newrelic import NewRelic

NEWRELIC = NewRelic()
NOW_MS = 1_795_563_000_000
HOUR_MS = 3_600_000
KEY = "0123456789abcdef0123456789abcdef0123NRAL"
OLD_KEY = "0123456789abcdef0123456789abcdef01234567"


def request(
    body: bytes = b"[]",
    query: dict[str, str] | None = None,
    path: str = "/log/v1",
    method: str = "POST",
    **headers: str,
) -> Request:
    names = {"api-key": KEY, "content-type": "application/json", "content-length": str(len(body))}
    names.update({name.replace("_", "-"): value for name, value in headers.items()})
    return Request(method, path, query or {}, {k: v for k, v in names.items() if v}, body, NOW_MS)


def take(asked: Request) -> Unpacked:
    NEWRELIC.admit(asked)
    NEWRELIC.verify(asked)
    unpacked = NEWRELIC.unpack(asked)
    answer = NEWRELIC.settle(asked, unpacked)
    assert (answer.status, answer.content_type) == (202, "application/json")
    assert str(uuid.UUID(orjson.loads(answer.body)["requestId"])) in answer.body.decode()
    return unpacked


def refused(asked: Request) -> tuple[int, str]:
    with pytest.raises(RefusedError) as caught:
        take(asked)
    answer = caught.value.answer
    if answer.status != 202:
        assert answer.body == b"{}"
    return answer.status, caught.value.reason


def view(log: dict[str, Any], common: dict[str, Any] | None = None) -> dict[str, Any]:
    block: dict[str, Any] = {"logs": [log]}
    if common is not None:
        block["common"] = common
    asked = request(orjson.dumps([block]))
    return NEWRELIC.view(0, NEWRELIC.unpack(asked), asked)


# What is refused

UNMARSHALLED = "NrIntegrationError: Error unmarshalling message payload"


@pytest.mark.parametrize(
    ("asked", "status", "reason"),
    [
        (request(api_key=""), 403, "License key is missing"),
        (request(api_key=KEY[:-1]), 403, "License key is malformed"),
        (request(api_key=KEY + "0"), 403, "License key is malformed"),
        (request(api_key=" " * 40), 403, "License key is malformed"),
        (request(api_key="NRII-" + "a" * 31), 403, "License key is malformed"),
        (request(api_key="NRII-" + "a" * 33), 403, "License key is malformed"),
        (request(path="/log/v2"), 404, "HTTP path is wrong"),
        (request(path="/log/v1/"), 404, "HTTP path is wrong"),
        (request(method="GET"), 405, "HTTP method is not POST"),
        (request(content_length=""), 411, "Content-Length is missing"),
        (request(b"[" + b" " * 999_999 + b"]"), 413, "Payload is too large: more than 1 MB"),
        (request(content_type=""), 415, "Content-Type is missing"),
        (request(content_type="text/plain"), 415, "Content-Type is wrong"),
        (request(content_encoding="br"), 415, "Content-Encoding is wrong"),
        (request(content_encoding="zstd"), 415, "Content-Encoding is wrong"),
        (request(b'[{"logs":[]}]', content_encoding="gzip"), 400, "The body is not gzip."),
        (request(b'[{"logs":[]}]', content_type="application/gzip"), 400, "The body is not gzip."),
        (request(gzip.compress(b"[]")[:-4], content_encoding="gzip"), 400, "The gzip body ends too early."),
    ],
)
def test_each_fault_has_its_status_and_an_empty_object(asked: Request, status: int, reason: str) -> None:
    assert refused(asked) == (status, reason)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'"text"', "neither an array nor an object"),
        (b'[{"message":"no logs"}]', "an item without logs"),
        (b'[{"logs":{}}]', "an item without logs"),
        (b"[[]]", "an item without logs"),
        (b'[{"common":[1],"logs":[]}]', "common is not as documented"),
        (b'[{"common":{"attributes":[]},"logs":[]}]', "common is not as documented"),
        (b'[{"logs":["text"]}]', "a log that is not an object"),
        (b'[{"logs":[{"attributes":[]}]}]', "attributes that are not an object"),
    ],
)
def test_a_body_that_cannot_be_read_is_answered_with_202_and_not_stored(body: bytes, why: str) -> None:
    assert refused(request(body)) == (202, f"{UNMARSHALLED} ({why})")


@pytest.mark.parametrize("key", [KEY, OLD_KEY, "eu01xx" + KEY[6:]])
@pytest.mark.parametrize("name", ["api-key", "license-key", "x-license-key"])
def test_a_key_is_taken_from_each_of_its_headers(name: str, key: str) -> None:
    headers = {"content-length": "2", "content-type": "json", name: key}
    take(Request("POST", "/log/v1", {}, headers, b"[]", NOW_MS))


@pytest.mark.parametrize("name", ["Api-Key", "License-Key"])
def test_a_key_is_taken_from_the_query(name: str) -> None:
    take(request(api_key="", query={name: KEY}))


def test_what_the_page_gets_holds_no_key() -> None:
    hidden = NEWRELIC.without_keys(request(query={"Api-Key": OLD_KEY}))
    assert KEY[:-8] not in repr(hidden)
    assert OLD_KEY[:-4] not in repr(hidden)
    assert (hidden.headers["api-key"], hidden.query["Api-Key"]) == ("…0123NRAL", "…4567")
    assert NEWRELIC.without_keys(request(api_key="NRAL")).headers["api-key"] == "…"


# What is taken


@pytest.mark.parametrize("name", ["api_key", "license_key", "x_license_key", "x_insert_key"])
def test_license_keys_and_insert_keys_are_taken_under_each_name(name: str) -> None:
    for key in (KEY, "NRII-" + "aB3_-x" * 5 + "zz"):
        headers: Any = {"api_key": "", name: key}
        asked = request(b'{"message":"m"}', **headers)
        assert len(take(asked).entries) == 1
        assert key not in repr(NEWRELIC.without_keys(asked))
        assert NEWRELIC.claims(request(path="/", **headers))


def test_the_limit_holds_to_the_byte_on_the_wire_and_not_before_compression() -> None:
    body = b"[" + b" " * 999_998 + b"]"
    assert take(request(body)).size == 1_000_000
    assert take(request(gzip.compress(body * 1 + b" " * 5_000_000), content_encoding="gzip")).size == 6_000_000


def test_a_decompression_bomb_is_refused_without_being_unpacked() -> None:
    bomb = gzip.compress(b"[" + b" " * 300_000_000)
    assert len(bomb) < 1_000_000
    assert refused(request(bomb, content_encoding="gzip"))[0] == 413


@pytest.mark.parametrize(
    ("headers", "encode"),
    [
        ({}, bytes),
        ({"content_encoding": "identity"}, bytes),
        ({"content_encoding": "gzip"}, gzip.compress),
        ({"content_encoding": "deflate"}, zlib.compress),
        ({"content_type": "json"}, bytes),
        ({"content_type": "application/json; charset=utf-8"}, bytes),
        ({"content_type": "application/gzip"}, gzip.compress),
        ({"content_type": "gzip"}, gzip.compress),
        ({"content_type": "gzip", "content_encoding": "gzip"}, gzip.compress),
    ],
)
def test_every_documented_form_is_read(headers: Any, encode: Any) -> None:
    logs = [{"message": "a" * 500, "attributes": {"seq": 1}}]
    unpacked = take(request(encode(orjson.dumps([{"logs": logs}])), **headers))
    assert unpacked.entries == [{"seq": 1}]


def test_one_flat_object_is_one_log() -> None:
    asked = request(b'{"timestamp":1795562999000,"message":"m","logtype":"access","service":"s"}')
    unpacked = take(asked)
    shown = NEWRELIC.view(0, unpacked, asked)
    assert len(unpacked.entries) == 1
    assert (shown["message"], shown["service"], shown["time_ms"]) == ("m", "s", 1_795_562_999_000)
    assert shown["attributes"] == {"logtype": "access"}


def test_several_blocks_keep_their_own_common_attributes() -> None:
    asked = request(
        orjson.dumps(
            [
                {
                    "common": {"attributes": {"run": "a", "host": "h"}},
                    "logs": [{"message": "1", "attributes": {"seq": 1}}],
                },
                {
                    "common": {"attributes": {"run": "b"}},
                    "logs": [{"message": "2", "attributes": {"run": "c", "seq": 2}}],
                },
                {"logs": [{"message": "3"}]},
            ]
        )
    )
    unpacked = take(asked)
    assert unpacked.entries == [{"run": "a", "host": "h", "seq": 1}, {"run": "c", "seq": 2}, {"message": "3"}]
    assert [NEWRELIC.view(n, unpacked, asked)["run"] for n in range(3)] == ["a", "c", None]


def test_one_block_shares_its_common_attributes_without_a_copy() -> None:
    body = orjson.dumps(
        [{"common": {"attributes": {"run": "a"}}, "logs": [{"message": "1", "attributes": {"seq": 1}}]}]
    )
    unpacked = take(request(body))
    assert (unpacked.shared, unpacked.entries) == ({"run": "a"}, [{"seq": 1}])


# What becomes of a log


def test_a_line_of_shippers_arrives_under_the_names_that_new_relic_shows() -> None:
    shown = view(
        {
            "message": "received job request",
            "timestamp": NOW_MS - 5,
            "attributes": {"level": "warning", "stream": "stdout", "seq": 7, "lines": 2, "logger": "livekit.agents"},
        },
        {
            "attributes": {
                "host": "AW_1",
                "hostname": "AW_1",
                "source": "CA_1",
                "service": "s",
                "run": "r",
                "env": "prod",
            }
        },
    )
    assert shown == {
        "time_ms": NOW_MS - 5,
        "level": "warning",
        "message": "received job request",
        "host": "AW_1",
        "source": "CA_1",
        "service": "s",
        "stream": "stdout",
        "run": "r",
        "seq": 7,
        "lines": 2,
        "part": None,
        "skipped": None,
        "tags": [],
        "attributes": {"env": "prod", "logger": "livekit.agents"},
        "marks": [],
        "remapped": {},
        "shadowed": {},
        "place": {},
        "trace_id": None,
    }


def test_the_logs_attributes_win_over_the_common_ones() -> None:
    shown = view({"message": "m", "attributes": {"a": "log"}}, {"attributes": {"a": "common", "b": 1}})
    assert shown["attributes"] == {"a": "log", "b": 1}


@pytest.mark.parametrize("name", ["log", "LOG", "MESSAGE"])
def test_other_names_of_the_message_are_rewritten(name: str) -> None:
    shown = view({name: "text"})
    assert (shown["message"], shown["remapped"]) == ("text", {"message": name})
    shown = view({"message": "m", name: "text"})
    assert (shown["message"], shown["attributes"]) == ("m", {name: "text"})


def test_nested_objects_are_flattened_and_arrays_become_text() -> None:
    shown = view({"message": "m", "attributes": {"user": {"id": 1, "name": {"first": "a"}}, "list": [1, {"x": 2}]}})
    assert shown["attributes"] == {"user.id": 1, "user.name.first": "a", "list": '[1,{"x":2}]'}
    assert shown["marks"] == ["list was an array and was stored as text"]


def test_a_message_that_is_json_becomes_attributes_and_collides() -> None:
    shown = view({"message": '{"host":"inner","user":{"id":1},"message":"text"}', "attributes": {"host": "ours"}})
    assert shown["host"] == "inner"
    assert shown["message"] == '{"host":"inner","user":{"id":1},"message":"text"}'
    assert shown["attributes"] == {"user.id": 1}
    assert shown["marks"] == [
        "message was JSON and was parsed into attributes",
        "host took the place of attributes of the same name",
    ]


def test_json_in_a_message_is_parsed_up_to_4096_characters() -> None:
    edge = '{"a":"' + "x" * 4_088 + '"}'
    assert len(edge) == 4_096
    assert "a" in view({"message": edge})["attributes"]
    assert view({"message": edge.replace("{", "{ ", 1)})["attributes"] == {}


@pytest.mark.parametrize("text", ["[1,2]", "{broken", "plain", '"text"', "17"])
def test_a_message_that_is_no_json_object_stays_as_it_is(text: str) -> None:
    shown = view({"message": text})
    assert (shown["message"], shown["attributes"], shown["marks"]) == (text, {}, [])


def test_another_text_that_is_json_is_parsed_too() -> None:
    shown = view({"message": "m", "attributes": {"payload": '{"x":1}'}})
    assert shown["attributes"] == {"payload": '{"x":1}', "payload.x": 1}
    assert shown["marks"] == ["payload was JSON and was parsed into attributes"]


def test_reserved_names_are_dropped_and_new_relics_own_are_marked() -> None:
    shown = view({"message": "m", "attributes": {"accountId": 1, "eventType": "e", "entity.name": "n"}})
    assert shown["attributes"] == {"entity.name": "n"}
    assert shown["marks"] == [
        "accountId was dropped: a reserved name",
        "eventType was dropped: a reserved name",
        "entity.name is New Relic's own name for an entity or an agent",
    ]


def test_attributes_beyond_255_are_lost() -> None:
    many = {f"a{n}": n for n in range(254)}
    assert view({"message": "m", "attributes": many})["marks"] == []
    shown = view({"message": "m", "attributes": {**many, "one": 1}})
    assert len(shown["attributes"]) == 254
    assert shown["message"] == "m"
    assert shown["marks"] == ["1 attributes beyond 255 were lost"]


def test_long_names_and_values_are_cut() -> None:
    shown = view({"message": "m", "attributes": {"n" * 255: 1}})
    assert (shown["attributes"], shown["marks"]) == ({"n" * 255: 1}, [])
    shown = view({"message": "m", "attributes": {"n" * 256: 1}})
    assert shown["attributes"] == {"n" * 255: 1}
    assert shown["marks"] == ["a name of 256 characters was cut to 255"]
    assert view({"message": "x" * 4_094})["marks"] == []
    assert view({"message": "x" * 4_095})["marks"] == ["message is searchable in its first 4,094 characters only"]
    assert len(view({"message": "x" * 131_072})["message"]) == 131_072
    shown = view({"message": "x" * 131_073})
    assert len(shown["message"]) == 131_072
    assert shown["marks"][0] == "message was cut to 128 KB"


@pytest.mark.parametrize(
    ("timestamp", "time_ms"),
    [
        (1_795_562_000, 1_795_562_000_000),
        (1_795_562_000_123, 1_795_562_000_123),
        ("1795562000", NOW_MS),
        (1.5, NOW_MS),
        (-5, NOW_MS),
        (None, NOW_MS),
    ],
)
def test_times_are_seconds_or_milliseconds(timestamp: object, time_ms: int) -> None:
    shown = view({"message": "m", "timestamp": timestamp})
    assert shown["time_ms"] == time_ms
    marked = time_ms == NOW_MS and timestamp is not None
    assert shown["marks"] == ["timestamp is neither seconds nor milliseconds: the time of arrival counts"] * marked


def test_a_log_older_than_48_hours_is_taken_and_marked_as_dropped() -> None:
    logs = [
        {"message": "edge", "timestamp": NOW_MS - 48 * HOUR_MS},
        {"message": "over", "timestamp": NOW_MS - 48 * HOUR_MS - 1},
        {"message": "by the common time"},
        {"message": "no date", "timestamp": NOW_MS},
    ]
    asked = request(orjson.dumps([{"common": {"timestamp": 1_700_000_000}, "logs": logs}]))
    unpacked = take(asked)
    assert unpacked.too_old == {1, 2}
    assert NEWRELIC.view(1, unpacked, asked)["marks"] == ["dropped on arrival: too old (more than 48 h)"]
    assert NEWRELIC.view(0, unpacked, asked)["marks"] == []
    assert len(unpacked.kept()) == 2


def test_a_fault_is_an_empty_object_as_far_as_is_known() -> None:
    answer = NEWRELIC.refusal(429)
    assert (answer.status, answer.body) == (429, b"{}")


@given(
    st.binary(max_size=200),
    st.sampled_from(["", "identity", "gzip", "deflate", "zstd", "br", "\x00"]),
    st.sampled_from(["", "application/json", "text/plain", "gzip"]),
)
def test_any_bytes_are_answered_with_a_status_of_the_intake(body: bytes, encoding: str, kind: str) -> None:
    asked = request(body, content_encoding=encoding, content_type=kind)
    try:
        unpacked = NEWRELIC.unpack(asked)
    except RefusedError as error:
        status = error.answer.status
    else:
        status = NEWRELIC.settle(asked, unpacked).status
        for index in range(len(unpacked.entries)):
            orjson.dumps(NEWRELIC.view(index, unpacked, asked))
    assert status in {202, 400, 413, 415}


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
    ["message", "log", "LOG", "host", "hostname", "level", "timestamp", "service", "source", "run", "stream", "seq",
     "lines", "skipped", "accountId", "entity.name", "trace.id"]
)  # fmt: skip


@given(st.dictionaries(NAMES, JSON, max_size=8), st.dictionaries(NAMES, JSON, max_size=4))
def test_any_log_can_be_shown(attributes: dict[str, Any], log: dict[str, Any]) -> None:
    shown = view({**log, "attributes": attributes})
    orjson.dumps(shown)
    assert type(shown["message"]) is str
    assert type(shown["time_ms"]) is int
    assert all(
        shown[name] is None or type(shown[name]) is str for name in ("host", "source", "service", "stream", "run")
    )
