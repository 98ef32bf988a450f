"""Sentry's envelope endpoint as a function: what Relay takes, refuses, and drops when it looks a second time."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from shipper.sandbox.faults import Fault
from shipper.sandbox.intake import Answer, RefusedError, Request, Unpacked
from shipper.sandbox.ledger import Ledger
from shipper.sandbox.sentry import Sentry

SENTRY = Sentry()
NOW_MS = 1_795_563_000_000
NOW = NOW_MS / 1000
DAY = 86_400
KEY = "e12d836b15bb49d7bbf99e64295d995b"
TRACE = "5b8efff798038103d269b633813fc60c"
EVENT_ID = "9ec79c33ec9942ab8353589fcb2e04dc"
AUTH = f"Sentry sentry_key={KEY}, sentry_version=7, sentry_client=test/1"
LOG_TYPE = "application/vnd.sentry.items.log+json"


def request(
    body: bytes,
    query: dict[str, str] | None = None,
    path: str = "/api/42/envelope/",
    method: str = "POST",
    **headers: str,
) -> Request:
    names = {"x-sentry-auth": AUTH, "content-type": "application/x-sentry-envelope"}
    names.update({name.replace("_", "-"): value for name, value in headers.items()})
    return Request(method, path, query or {}, {k: v for k, v in names.items() if v}, body, NOW_MS)


def envelope(*items: tuple[dict[str, Any], bytes], **header: Any) -> bytes:
    parts = [orjson.dumps(header)]
    for head, payload in items:
        parts += [orjson.dumps({**head, "length": len(payload)}), payload]
    return b"\n".join(parts) + b"\n"


def log(**change: Any) -> dict[str, Any]:
    made = {"timestamp": NOW, "trace_id": TRACE, "level": "info", "body": "text", "attributes": {}, **change}
    return {name: value for name, value in made.items() if value is not ...}


def logs(*items: Any, **head: Any) -> tuple[dict[str, Any], bytes]:
    made = {"type": "log", "item_count": len(items), "content_type": LOG_TYPE, **head}
    return {n: v for n, v in made.items() if v is not ...}, orjson.dumps({"items": items})


def take(asked: Request, fault: Fault | None = None) -> tuple[Answer, Unpacked]:
    SENTRY.admit(asked)
    SENTRY.verify(asked)
    unpacked = SENTRY.unpack(SENTRY.without_keys(asked))
    return SENTRY.settle(asked, unpacked, fault), unpacked


def refused(asked: Request) -> tuple[int, str, list[str]]:
    with pytest.raises(RefusedError) as caught:
        take(asked)
    answer = caught.value.answer
    body = orjson.loads(answer.body)
    assert body.keys() in ({"detail"}, {"detail", "causes"})
    return answer.status, body["detail"], body.get("causes", [])


def marks(*items: Any, **head: Any) -> list[list[str]]:
    asked = request(envelope(logs(*items, **head)))
    answer, unpacked = take(asked)
    assert answer.status == 200
    return [SENTRY.view(n, unpacked, asked)["marks"] for n in range(len(unpacked.entries))]


def view(**change: Any) -> dict[str, Any]:
    asked = request(envelope(logs(log(**change))))
    return SENTRY.view(0, take(asked)[1], asked)


# Who may send


@pytest.mark.parametrize(
    ("asked", "status", "detail", "causes"),
    [
        (request(b"{}", x_sentry_auth=""), 401, "missing authorization information", []),
        (request(b"{}", x_sentry_auth="Basic abc"), 401, "missing authorization information", []),
        (request(b"nonsense", x_sentry_auth=""), 401, "bad envelope authentication header", ["expected value"]),
        (
            request(b"{}", x_sentry_auth="Sentry sentry_version=7"),
            401,
            "bad x-sentry-auth header",
            ["missing public key in auth header"],
        ),
        (
            request(b"{}", x_sentry_auth=f"Sentry sentry_key={KEY}, sentry_version=x"),
            401,
            "bad x-sentry-auth header",
            ["invalid value for version"],
        ),
        (request(b"{}", {"sentry_key": KEY}), 401, "multiple authorization payloads detected", []),
        (request(b"{}", authorization=AUTH), 401, "multiple authorization payloads detected", []),
        (
            request(b"{}", x_sentry_auth="Sentry sentry_key=short"),
            400,
            "bad sentry DSN public key",
            ["invalid project key"],
        ),
        (request(b"{}", x_sentry_auth=f"Sentry sentry_key={KEY}, sentry_version=8"), 400,
         "unsupported protocol version (8)", []),
        (request(b"{}", path="/api/name/envelope/"), 400, "bad project path parameter",
         ["Invalid URL: Cannot parse the project id"]),
        (request(envelope(dsn=f"https://{KEY}@o1.ingest.sentry.io/43")), 400, "invalid event envelope",
         ["project id header mismatch between envelope and request"]),
        (request(envelope(dsn=f"https://{'0' * 32}@o1.ingest.sentry.io/42")), 400, "invalid event envelope",
         ["public key header mismatch between envelope and request"]),
    ],
)  # fmt: skip
def test_each_fault_of_the_key_has_relays_words(asked: Request, status: int, detail: str, causes: list[str]) -> None:
    assert refused(asked) == (status, detail, causes)


@pytest.mark.parametrize(
    "asked",
    [
        request(b"{}"),
        request(b"{}", x_sentry_auth="", authorization=AUTH),
        request(b"{}", x_sentry_auth=AUTH.lower().replace("sentry ", "SENTRY ", 1)),
        request(b"{}", {"sentry_key": KEY, "sentry_version": "7"}, x_sentry_auth=""),
        request(envelope(dsn=f"https://{KEY}@o1.ingest.sentry.io/42"), x_sentry_auth=""),
        request(envelope(dsn=f"https://{KEY}:@o1.ingest.sentry.io/42")),
        request(b"{}", path="/api/42/envelope"),
        request(b"{}", path="//api/42//envelope/"),
    ],
)
def test_the_key_is_taken_from_each_of_its_places(asked: Request) -> None:
    answer, _ = take(asked)
    assert (answer.status, answer.body, answer.content_type) == (200, b"{}", "application/json")


def test_what_the_page_gets_holds_no_key() -> None:
    hidden = SENTRY.without_keys(request(b"{}", {"sentry_key": KEY}))
    assert KEY not in repr(hidden)
    assert (hidden.headers["x-sentry-auth"], hidden.query["sentry_key"]) == ("…995b", "…995b")


@pytest.mark.parametrize(("change", "status"), [({"path": "/api/42/store/"}, 404), ({"method": "GET"}, 405)])
def test_another_path_or_method_is_answered_without_words(change: Any, status: int) -> None:
    with pytest.raises(RefusedError) as caught:
        take(request(b"{}", **change))
    assert (caught.value.answer.status, caught.value.answer.body) == (status, b"")


# The envelope


@pytest.mark.parametrize(
    ("body", "detail", "causes"),
    [
        (b"", "empty request body", []),
        (b" \n ", "invalid event envelope", ["missing envelope header"]),
        (b"{} \n", "invalid event envelope", ["missing newline after header or payload"]),
        (b"{}{}\n", "invalid event envelope", ["missing newline after header or payload"]),
        (b'{}\n{"type":"other"} x\n', "invalid event envelope", ["missing newline after header or payload"]),
        (b"nonsense", "invalid event envelope", ["invalid envelope header"]),
        (b"[]", "invalid event envelope", ["invalid envelope header"]),
        (b'{"event_id":"short"}', "invalid event envelope", ["invalid envelope header"]),
        (b"{}\n{broken", "invalid event envelope", ["invalid item header"]),
        (b"{}\n[]", "invalid event envelope", ["invalid item header"]),
        (b"{}\n{}", "invalid event envelope", ["invalid item header"]),
        (b'{}\n{"type":"log","length":"4"}\nabcd', "invalid event envelope", ["invalid item header"]),
        (b'{}\n{"type":"log","length":-1}\n', "invalid event envelope", ["invalid item header"]),
        (b"{}\n\n", "invalid event envelope", ["unexpected end of file"]),
        (b'{}\n{"type":"other","length":5}\nabcd', "invalid event envelope", ["unexpected end of file"]),
        (
            b'{}\n{"type":"other","length":3}\nabcd',
            "invalid event envelope",
            ["missing newline after header or payload"],
        ),
    ],
)
def test_a_malformed_envelope_is_refused_with_relays_cause(body: bytes, detail: str, causes: list[str]) -> None:
    assert refused(request(body)) == (400, detail, causes)


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (b"{}", {}),
        (b"{}\n", {}),
        (b"\n{}", {}),
        (b'{\n"sdk": {"name": "\xc3\xbc"}\n}\n{"type":\n"other"}\nhello', {"other": 1}),
        (b'{}\n{"type":"other"}', {"other": 1}),
        (b'{}\n{"type":"other"}\n', {"other": 1}),
        (b'{}\n{"type":"other"}\nhello', {"other": 1}),
        (b'{}\n{"type":"other"}\nhello\n{"type":"more"}\nworld\n', {"other": 1, "more": 1}),
        (b'{}\n{"type":"other","length":0}\n\n{"type":"other","length":0}\n', {"other": 2}),
        (b'{}\n{"type":"other","length":0}\n\n{"type":"other","length":0}', {"other": 2}),
        (b'{}\n{"type":"other","length":3}\na\nb\n{"type":"other","length":1}\nc', {"other": 2}),
    ],
)
def test_lengths_and_newlines_are_read_as_relay_reads_them(body: bytes, kinds: dict[str, int]) -> None:
    answer, unpacked = take(request(body))
    assert (unpacked.about["kinds"], unpacked.entries, answer.body) == (kinds, [], b"{}")


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("", bytes),
        ("identity", bytes),
        ("UTF-8", bytes),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
    ],
)
def test_every_encoding_of_relays_is_read(encoding: str, encode: Any) -> None:
    body = envelope(logs(log(body="a" * 5000)))
    answer, unpacked = take(request(encode(body), content_encoding=encoding))
    assert (answer.status, unpacked.size, len(unpacked.entries)) == (200, len(body), 1)


def test_other_encodings_are_refused_with_those_that_are_known() -> None:
    with pytest.raises(RefusedError) as caught:
        take(request(b"{}", content_encoding="compress"))
    answer = caught.value.answer
    assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "gzip,deflate,br,zstd")
    assert refused(request(b"plain text", content_encoding="gzip"))[:2] == (400, "invalid request body")


def test_a_decompression_bomb_is_refused_without_being_unpacked() -> None:
    bomb = gzip.compress(b" " * (200 * 2**20 + 1), 1)
    with pytest.raises(RefusedError) as caught:
        take(request(bomb, content_encoding="gzip"))
    assert caught.value.answer.status == 413


# Sizes


def too_large(kind: str) -> tuple[int, str, list[str]]:
    detail = f"envelope exceeded size limits for type '{kind}' (https://develop.sentry.dev/sdk/envelopes/#size-limits)"
    return 413, detail, []


def padded(size: int, count: int) -> tuple[dict[str, Any], bytes]:
    """A container of so many logs and so many bytes."""
    head, payload = logs(*[log(body="")] * count)
    return head, payload[:-2] + b" " * (size - len(payload)) + b"]}"


def test_logs_are_2_mib_on_the_average_and_12_mib_together() -> None:
    mib = 2**20
    assert len(padded(2 * mib, 1)[1]) == 2 * mib
    assert take(request(envelope(padded(2 * mib, 1))))[0].status == 200
    assert refused(request(envelope(padded(2 * mib + 1, 1)))) == too_large("log")
    assert take(request(envelope(padded(4 * mib, 2))))[0].status == 200
    assert take(request(envelope(padded(12 * mib, 100))))[0].status == 200
    assert refused(request(envelope(padded(12 * mib + 1, 100)))) == too_large("log")


def test_an_envelope_has_one_container_of_logs() -> None:
    assert refused(request(envelope(logs(log()), logs(log())))) == too_large("log")


@pytest.mark.parametrize(
    ("kind", "most"), [("event", 2**20), ("transaction", 2**20), ("client_report", 4096), ("check_in", 102_400)]
)
def test_other_items_have_limits_too(kind: str, most: int) -> None:
    payload = b'{"a":"' + b"x" * (most - 8) + b'"}'
    assert take(request(envelope(({"type": kind}, payload))))[0].status == 200
    assert refused(request(envelope(({"type": kind}, payload + b" ")))) == too_large(kind)


def test_an_envelope_has_one_event() -> None:
    event = ({"type": "event"}, b'{"message":"m"}')
    assert refused(request(envelope(event, event))) == too_large("event")
    assert refused(request(envelope(event, ({"type": "transaction"}, b"{}")))) == too_large("transaction")


# What Relay takes and then drops


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ({"item_count": 3}, "item_count is 3, but the container holds 2"),
        ({"item_count": 1}, "item_count is 1, but the container holds 2"),
        ({"item_count": ...}, "item_count is None, but the container holds 2"),
        ({"item_count": "2"}, "item_count is None, but the container holds 2"),
        ({"content_type": ...}, f"content_type is not {LOG_TYPE}"),
        ({"content_type": "application/json"}, f"content_type is not {LOG_TYPE}"),
    ],
)
def test_a_container_that_does_not_fit_its_header_is_dropped_whole(head: dict[str, Any], why: str) -> None:
    assert marks(log(), log(), **head) == [[f"dropped in processing: {why}"]] * 2


@pytest.mark.parametrize("payload", [b"nonsense", b"[]", b"{}", b'{"items":{}}'])
def test_a_payload_of_another_form_is_dropped_whole(payload: bytes) -> None:
    head = {"type": "log", "item_count": 3, "content_type": LOG_TYPE}
    answer, unpacked = take(request(envelope((head, payload))))
    assert answer.status == 200
    assert unpacked.dropped == ((0, 3, 'dropped in processing: the payload is not {"items":[…]}'),)
    assert unpacked.kept() == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"timestamp": ...}, "timestamp is missing or no time"),
        ({"timestamp": "yesterday"}, "timestamp is missing or no time"),
        ({"timestamp": True}, "timestamp is missing or no time"),
        ({"trace_id": ...}, "trace_id is missing or not 32 hex digits"),
        ({"trace_id": TRACE[:-1]}, "trace_id is missing or not 32 hex digits"),
        ({"trace_id": "0" * 32}, "trace_id is missing or not 32 hex digits"),
        ({"level": ...}, "level is missing or no text"),
        ({"level": 30}, "level is missing or no text"),
        ({"body": ...}, "body is missing or no text"),
        ({"body": {"text": "a"}}, "body is missing or no text"),
    ],
)
def test_a_log_that_lacks_something_is_dropped_alone(change: dict[str, Any], why: str) -> None:
    assert marks(log(), log(**change), log()) == [[], [f"dropped in processing: {why}"], []]


def test_neighbours_that_are_dropped_for_one_reason_are_one_range() -> None:
    items = [log(), *[log(body=...)] * 500, log(level=...), log(), log(body=...)]
    unpacked = take(request(envelope(logs(*items))))[1]
    assert [(first, end) for first, end, _ in unpacked.dropped] == [(1, 501), (501, 502), (503, 504)]
    assert len(unpacked.kept()) == 2


def test_a_log_older_than_30_days_is_dropped_and_one_ahead_gets_the_time_of_arrival() -> None:
    edge, over = log(timestamp=NOW - 30 * DAY), log(timestamp=NOW - 30 * DAY - 0.002)
    asked = request(envelope(logs(edge, over, log(timestamp=NOW + 60), log(timestamp=NOW + 61))))
    unpacked = take(asked)[1]
    views = [SENTRY.view(n, unpacked, asked) for n in range(4)]
    assert unpacked.too_old == {1}
    assert views[1]["marks"] == ["dropped in processing: too old (more than 30 days)"]
    assert (views[2]["time_ms"], views[2]["marks"]) == (NOW_MS + 60_000, [])
    assert (views[3]["time_ms"], views[3]["marks"]) == (
        NOW_MS,
        ["more than 60 s in the future: the time of arrival counts"],
    )


@pytest.mark.parametrize(
    ("attribute", "why"),
    [
        ({"value": "a", "type": "string"}, None),
        ({"value": 1, "type": "integer"}, None),
        ({"value": 2**63 - 1, "type": "integer"}, None),
        ({"value": -(2**63), "type": "integer"}, None),
        ({"value": 2**63, "type": "integer"}, "an integer of more than 64 bits with its sign"),
        ({"value": 2**63, "type": "double"}, None),
        ({"value": 1, "type": "double"}, None),
        ({"value": 1.5, "type": "double"}, None),
        ({"value": True, "type": "boolean"}, None),
        ({"value": ["a", "b"], "type": "array"}, None),
        ({"value": [1, 2.5, None], "type": "array"}, None),
        ({"value": [None, True], "type": "array"}, None),
        ({"value": [None, None], "type": "array"}, None),
        ({"value": [], "type": "array"}, None),
        ({"value": ["a", 1], "type": "array"}, "an array of more than one kind"),
        ({"value": [True, 1], "type": "array"}, "an array of more than one kind"),
        ({"value": [[1], [2]], "type": "array"}, "an array that holds arrays or objects"),
        ({"value": [{}], "type": "array"}, "an array that holds arrays or objects"),
        ({"value": "1", "type": "integer"}, "its value is not of type integer"),
        ({"value": 1.5, "type": "integer"}, "its value is not of type integer"),
        ({"value": True, "type": "integer"}, "its value is not of type integer"),
        ({"value": 1, "type": "string"}, "its value is not of type string"),
        ({"value": {"a": 1}, "type": "string"}, "its value is not of type string"),
        ({"value": "true", "type": "boolean"}, "its value is not of type boolean"),
        ({"value": {"a": 1}, "type": "object"}, "object is no type"),
        ({"value": None, "type": "string"}, "type or value is missing"),
        ({"value": "a"}, "type or value is missing"),
        ({"type": "string"}, "type or value is missing"),
        ("bare", "it is not an object"),
    ],
)
def test_an_attribute_of_the_wrong_type_is_removed(attribute: Any, why: str | None) -> None:
    shown = view(attributes={"a": attribute, "b": {"value": "kept", "type": "string"}})
    if why is None:
        assert shown["attributes"] == {"a": attribute["value"], "b": "kept"}
        assert shown["marks"] == []
    else:
        assert shown["attributes"] == {"b": "kept"}
        assert shown["marks"] == [f"attribute a was removed: {why}"]


@pytest.mark.parametrize(
    ("level", "shown", "known"),
    [
        ("trace", "debug", True),
        ("debug", "debug", True),
        ("info", "info", True),
        ("warn", "warning", True),
        ("error", "error", True),
        ("fatal", "critical", True),
        ("warning", "warning", False),
        ("loud", "info", False),
    ],
)
def test_levels_are_sentrys(level: str, shown: str, known: bool) -> None:
    seen = view(level=level)
    assert (seen["level"], seen["marks"]) == (shown, [] if known else [f"{level} is none of Sentry's levels"])


# What is shown


def test_a_line_of_shippers_arrives_under_the_names_that_sentry_shows() -> None:
    texts = {"host": "AW_1", "worker_id": "AW_1", "server.address": "AW_1", "source": "CA_1", "agent_id": "CA_1",
             "service": "s", "stream": "stdout", "run": "r", "env": "prod", "sentry.severity_text": "warn"}  # fmt: skip
    numbers = {"seq": 7, "lines": 2, "job.id": 5, "sentry.severity_number": 13}
    attributes = {name: {"value": value, "type": "string"} for name, value in texts.items()}
    attributes.update({name: {"value": value, "type": "integer"} for name, value in numbers.items()})  # type: ignore[dict-item]
    asked = request(envelope(logs(log(level="warn", body="received", timestamp=NOW - 0.005, attributes=attributes))))
    unpacked = take(asked)[1]
    assert unpacked.entries == [{"run": "r", "stream": "stdout", "seq": 7, "lines": 2}]
    assert SENTRY.view(0, unpacked, asked) == {
        "time_ms": NOW_MS - 5,
        "level": "warning",
        "message": "received",
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
        "attributes": {"env": "prod", "job.id": 5},
        "marks": [],
        "remapped": {},
        "shadowed": {},
        "place": {"project": "42", "item": "log"},
        "trace_id": TRACE,
    }


def test_empty_lines_before_a_loss_are_explained_by_the_event_that_tells_of_it() -> None:
    texts = {"run": "r", "stream": "stdout", "logger": "shipper"}
    numbers = {"lost": 3, "first_seq": 3, "last_seq": 5, "skipped": 2}
    attributes: dict[str, Any] = {name: {"value": value, "type": "string"} for name, value in texts.items()}
    attributes |= {name: {"value": value, "type": "integer"} for name, value in numbers.items()}
    unpacked = take(request(envelope(logs(log(attributes=attributes)))))[1]
    ledger = Ledger()
    ledger.take(unpacked.kept(), unpacked.shared, 0)
    (stream,) = ledger.streams()
    assert list(stream.seen.pairs()) == [(1, 3)]
    assert list(stream.announced.pairs()) == [(3, 6)]


EVENT = {
    "event_id": EVENT_ID,
    "timestamp": "2026-11-24T23:29:59.500Z",
    "level": "fatal",
    "server_name": "AW_1",
    "exception": {"values": [{"type": "KeyError", "value": "inner"}, {"type": "ValueError", "value": "boom"}]},
    "tags": {"env": "prod"},
    "contexts": {"trace": {"trace_id": TRACE}},
}


def test_an_event_is_shown_under_its_last_exception_and_answered_with_its_id() -> None:
    asked = request(envelope(({"type": "event"}, orjson.dumps(EVENT))))
    answer, unpacked = take(asked)
    assert orjson.loads(answer.body) == {"id": EVENT_ID}
    shown = SENTRY.view(0, unpacked, asked)
    assert (shown["message"], shown["level"], shown["host"]) == ("ValueError: boom", "critical", "AW_1")
    assert (shown["time_ms"], shown["tags"], shown["trace_id"]) == (NOW_MS - 500, ["env:prod"], TRACE)
    assert shown["attributes"].keys() == {"event_id", "exception", "contexts"}
    assert shown["place"] == {"project": "42", "item": "event"}


@pytest.mark.parametrize(
    ("event", "title"),
    [
        ({"message": "text"}, "text"),
        ({"message": {"formatted": "formatted", "message": "%s"}}, "formatted"),
        ({"logentry": {"message": "entry"}}, "entry"),
        ({"exception": [{"type": "TypeError"}]}, "TypeError"),
        ({"exception": {"values": []}, "message": "text"}, "text"),
        ({}, ""),
    ],
)
def test_an_event_has_a_title(event: dict[str, Any], title: str) -> None:
    asked = request(envelope(({"type": "event"}, orjson.dumps(event)), event_id=EVENT_ID))
    answer, unpacked = take(asked)
    assert orjson.loads(answer.body) == {"id": EVENT_ID}
    shown = SENTRY.view(0, unpacked, asked)
    assert (shown["message"], shown["level"]) == (title, "error")


def test_an_event_that_is_no_json_is_taken_and_dropped() -> None:
    answer, unpacked = take(request(envelope(({"type": "event"}, b"nonsense"), event_id=EVENT_ID)))
    assert answer.status == 200
    assert unpacked.dropped == ((0, 1, "dropped in processing: the event is not JSON"),)


def test_items_of_other_kinds_are_counted_and_not_shown() -> None:
    kinds = ["client_report", "session", "sessions", "check_in", "statsd", "profile", "from_the_future"]
    answer, unpacked = take(request(envelope(*[({"type": kind}, b"{}") for kind in kinds])))
    assert (answer.body, unpacked.entries) == (b"{}", [])
    assert unpacked.about["kinds"] == dict.fromkeys(kinds, 1)
    transaction = orjson.loads(take(request(envelope(({"type": "transaction"}, b"{}"))))[0].body)
    assert len(transaction["id"]) == 32


def test_more_than_one_kind_of_telemetry_is_taken_and_marked() -> None:
    asked = request(envelope(logs(log()), ({"type": "event"}, orjson.dumps(EVENT))))
    unpacked = take(asked)[1]
    assert [SENTRY.view(n, unpacked, asked)["marks"] for n in range(2)] == [
        ["more than one kind of telemetry in the envelope"]
    ] * 2
    report = request(envelope(logs(log()), ({"type": "client_report"}, b"{}")))
    assert SENTRY.view(0, take(report)[1], report)["marks"] == []


# Faults


def test_rate_limits_come_with_an_accepted_answer() -> None:
    answer, unpacked = take(request(envelope(logs(log()))), Fault(rate_limits="60:log_item:organization"))
    assert (answer.status, answer.headers) == (200, {"X-Sentry-Rate-Limits": "60:log_item:organization"})
    assert len(unpacked.kept()) == 1


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (400, "invalid event envelope"),
        (401, "missing authorization information"),
        (403, "event submission rejected with_reason: ProjectId"),
        (413, too_large("log")[1]),
        (503, "failed to queue envelope"),
        (502, "internal server error"),
    ],
)
def test_a_fault_speaks_relays_language(status: int, detail: str) -> None:
    answer = SENTRY.refusal(status)
    assert (answer.status, orjson.loads(answer.body)) == (status, {"detail": detail})
    assert "quota" in orjson.loads(SENTRY.refusal(429).body)["detail"]


PIECES = [b"{}", b"\n", b'{"type":"log"}', b'{"type":"event","length":2}', b'{"items":[]}', b'{"items":[{}]}', b"x"]


@given(
    st.binary(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
    st.sampled_from(["", "gzip", "br", "zstd", "utf-8", "x"]),
)
def test_any_bytes_are_taken_or_refused_with_a_status_of_relays(body: bytes, encoding: str) -> None:
    asked = request(body, content_encoding=encoding)
    try:
        answer, unpacked = take(asked)
    except RefusedError as error:
        status = error.answer.status
    else:
        status = answer.status
        for index in range(len(unpacked.entries)):
            orjson.dumps(SENTRY.view(index, unpacked, asked))
    assert status in {200, 400, 413, 415}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["value", "type", "values", "trace", "formatted", "a"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["timestamp", "trace_id", "level", "body", "attributes", "message", "exception", "tags",
                         "contexts", "logentry", "server_name", "event_id"]), JSON, max_size=8,
    ),
    st.booleans(),
)  # fmt: skip
def test_any_log_and_any_event_can_be_shown(given_: dict[str, Any], event: bool) -> None:
    body = envelope(({"type": "event"}, orjson.dumps(given_))) if event else envelope(logs(given_))
    asked = request(body)
    shown = SENTRY.view(0, take(asked)[1], asked)
    orjson.dumps(shown)
    assert type(shown["message"]) is str
    assert type(shown["time_ms"]) is int
    assert all(
        shown[name] is None or type(shown[name]) is str for name in ("host", "source", "service", "stream", "run")
    )
