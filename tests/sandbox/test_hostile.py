"""The sandbox against what nobody sends who means well: every answer is one of the service's, and the page lives on."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import socket
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from shipper.sandbox.datadog import Datadog
from shipper.sandbox.intake import Request, Unpacked
from shipper.sandbox.newrelic import MAX_NESTING, MAX_PARSED, NewRelic
from shipper.sandbox.sentry import LOG_TYPE, Sentry
from shipper.sandbox.server import Sandbox, running_in_thread

KEY = "0123456789abcdef0123456789abcdef"
DATADOG = {"DD-API-KEY": KEY, "Content-Type": "application/json"}
NEWRELIC = {"Api-Key": "0" * 36 + "NRAL", "Content-Type": "application/json"}
SENTRY = {"X-Sentry-Auth": f"Sentry sentry_key={KEY}, sentry_version=7"}
EVENT = b'{}\n{"type":"event"}\n'
LEVELS = [100, 200, *range(243, 258), 300, 600, 1_000]
"""Levels of nesting; orjson writes 254 and reads 1,024."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with running_in_thread() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared: Sandbox) -> Sandbox:
    assert ask(shared, "POST", "/sandbox/reset")[0] == 200
    return shared


def ask(
    sandbox: Sandbox, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=60)) as connection:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()


def get(sandbox: Sandbox, path: str) -> Any:
    status, body = ask(sandbox, "GET", path)
    assert status == 200, body
    return orjson.loads(body)


def events(sandbox: Sandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(sandbox, "/sandbox/events")["events"]
    return found


def deep(levels: int, key: bytes | None = b"a") -> bytes:
    """JSON of so many levels: objects under one name, or arrays."""
    if key is None:
        return b"[" * levels + b"1" + b"]" * levels
    return (b'{"' + key + b'":') * levels + b"1" + b"}" * levels


def log(attributes: bytes) -> bytes:
    """An envelope with a log that has these attributes."""
    head = orjson.dumps({"type": "log", "item_count": 1, "content_type": LOG_TYPE})
    fields = b'"timestamp":1795563000,"trace_id":"%s","level":"info","body":"x"' % (b"1" * 32)
    return b'{}\n%s\n{"items":[{%s,"attributes":%s}]}' % (head, fields, attributes)


# S1: one deep line may not take the page from all others


@pytest.mark.parametrize("key", [b"a", b"", None])
@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/api/v2/logs", DATADOG, b'[{"message":"deep","x":%s}]'),
        ("/api/v2/logs", DATADOG, b'[{"message":%s}]'),
        ("/api/v2/logs", DATADOG, b'[{"message":"deep","seq":%s,"host":%s,"run":%s,"part":%s,"ddtags":[%s]}]'),
        ("/log/v1", NEWRELIC, b'[{"logs":[{"message":"deep","x":%s}]}]'),
        ("/log/v1", NEWRELIC, b'[{"common":{"attributes":{"x":%s}},"logs":[{"message":%s,"seq":%s}]}]'),
        ("/api/1/envelope/", SENTRY, EVENT + b'{"x":%s,"tags":{"t":%s},"message":"deep"}'),
        ("/api/1/envelope/", SENTRY, EVENT + b'{"exception":{"values":[{"type":%s}]},"server_name":%s}'),
        ("/api/1/envelope/", SENTRY, log(b'{"seq":{"value":%s,"type":"integer"},"x":{"value":%s,"type":"array"}}')),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else None,
)
def test_a_deep_line_is_shown_and_hides_no_other(
    sandbox: Sandbox, path: str, headers: dict[str, str], body: bytes, key: bytes | None
) -> None:
    for levels in LEVELS:
        nested = deep(levels, key)
        status, _ = ask(sandbox, "POST", path, body.replace(b"%s", nested), headers)
        assert status in (200, 202), levels
    assert ask(sandbox, "POST", "/api/v2/logs", b'[{"message":"plain"}]', DATADOG)[0] == 202
    found = events(sandbox)
    assert len(found) == len(LEVELS) + 1
    assert found[-1]["message"] == "plain"
    assert not [mark for event in found for mark in event["marks"] if "fault of the sandbox" in mark]
    assert all(provider["refused"] == 0 for provider in get(sandbox, "/sandbox/summary")["providers"].values())


def test_what_nests_too_deep_for_the_page_is_shown_as_text_with_a_mark(sandbox: Sandbox) -> None:
    body = b'[{"message":"m","x":%s,"y":1},{"message":"m","x":%s}]' % (deep(300), deep(200))
    ask(sandbox, "POST", "/api/v2/logs", body, DATADOG)
    first, second = events(sandbox)
    assert first["attributes"] == {"x": deep(300).decode(), "y": 1}
    assert first["marks"] == ["x nests too deep for this page and is shown as text"]
    assert second["attributes"]["x"] == orjson.loads(deep(200))
    assert second["marks"] == []


def test_new_relic_flattens_so_many_levels_and_keeps_the_rest_as_text() -> None:
    intake = NewRelic()
    rest = b'{"a":"%s"}' % (b"x" * MAX_PARSED)  # longer than what is parsed again
    body = b'{"x":%s}' % deep(MAX_NESTING).replace(b"1", rest)
    asked = Request("POST", "/log/v1", {}, {"content-type": "json"}, body, 1_000)
    shown = intake.view(0, intake.unpack(asked), asked)
    name = ".".join(["x", *"a" * MAX_NESTING])
    assert shown["attributes"] == {name: rest.decode()}
    assert shown["marks"][0] == f"{name} was nested too deep and was stored as text"


class Broken(Datadog):
    """An intake with a fault of its own, as there may always be one more."""

    def unpack(self, request: Request, body: bytes | None = None) -> Unpacked:
        unpacked = super().unpack(request, body)
        if unpacked.entries[0].get("message") == "on arrival":
            raise ZeroDivisionError
        return unpacked

    def view(self, index: int, unpacked: Unpacked, request: Request) -> dict[str, Any]:
        if unpacked.entries[index].get("message") == "on the page":
            raise KeyError("secret")
        return super().view(index, unpacked, request)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setattr("shipper.sandbox.server.INTAKES", (Broken,))
    with running_in_thread() as sandbox:
        yield sandbox


def test_an_entry_that_cannot_be_shown_says_so_and_hides_no_other(broken: Sandbox) -> None:
    ask(broken, "POST", "/api/v2/logs", b'[{"message":"a"},{"message":"on the page"},{"message":"b"}]', DATADOG)
    found = events(broken)
    assert [event["message"] for event in found] == ["a", "", "b"]
    assert found[1]["marks"] == ["this entry cannot be shown: fault of the sandbox (KeyError)"]
    assert found[1].keys() >= found[0].keys()


def test_a_fault_of_the_sandboxs_own_is_answered_in_the_services_form_and_counted(broken: Sandbox) -> None:
    status, body = ask(broken, "POST", "/api/v2/logs", b'[{"message":"on arrival"}]', DATADOG)
    assert (status, orjson.loads(body)["errors"][0]["status"]) == (500, "500")
    provider = get(broken, "/sandbox/summary")["providers"]["datadog"]
    assert provider["refused_why"] == {"500 fault of the sandbox (ZeroDivisionError)": 1}


# S3: what broke the intakes


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "detail"),
    [
        (f"/api/{'1' * 5000}/envelope/", SENTRY, EVENT + b"{}", 400, "bad project path parameter"),
        (f"/api/{2**64}/envelope/", SENTRY, EVENT + b"{}", 400, "bad project path parameter"),
        (f"/api/{2**64 - 1}/envelope/", SENTRY, EVENT + b"{}", 200, None),
        (f"/api/{'0' * 30}1/envelope/", SENTRY, EVENT + b"{}", 200, None),
        ("/api/%C2%B2/envelope/", SENTRY, EVENT + b"{}", 400, "bad project path parameter"),
        (
            "/api/1/envelope/",
            {"X-Sentry-Auth": f"Sentry sentry_key={KEY}, sentry_version={'9' * 5000}"},
            EVENT + b"{}",
            401,
            "bad x-sentry-auth header",
        ),
        (
            "/api/1/envelope/",
            {"X-Sentry-Auth": f"Sentry sentry_key={KEY}, sentry_version=8"},
            EVENT + b"{}",
            400,
            "unsupported protocol version (8)",
        ),
        ("/api/1/envelope/", SENTRY, b"[" * 60_000, 400, "invalid event envelope"),
        ("/api/1/envelope/", SENTRY, b'{"a":' * 10_000, 400, "invalid event envelope"),
        ("/api/1/envelope/", {}, b"[" * 60_000, 401, "bad envelope authentication header"),
    ],
    ids=lambda value: value[:40] if isinstance(value, (str, bytes)) else None,
)
def test_numbers_and_headers_without_end_get_an_answer_of_relays(
    sandbox: Sandbox, path: str, headers: dict[str, str], body: bytes, status: int, detail: str | None
) -> None:
    answered, answer = ask(sandbox, "POST", path, body, headers)
    assert (answered, orjson.loads(answer).get("detail")) == (status, detail)
    provider = get(sandbox, "/sandbox/summary")["providers"]["sentry"]
    assert (provider["requests"], provider["refused"]) == (1, 0 if status == 200 else 1)


def test_a_deep_log_in_a_body_over_1_mb_is_taken(sandbox: Sandbox) -> None:
    body = b'[{"message":"%s","a":%s}]' % (b"x" * 1_100_000, deep(300, None))
    assert ask(sandbox, "POST", "/api/v2/logs", body, DATADOG)[0] == 202
    assert "cut: larger than 1 MB" in events(sandbox)[0]["marks"]


def test_headers_that_are_no_text_are_shown_all_the_same(sandbox: Sandbox) -> None:
    body = b'[{"message":"m"}]'
    for key in (KEY.encode(), b"\xff" * 32):
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=30) as connection:
            connection.sendall(
                b"POST /api/v2/logs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nDD-API-KEY: %s\r\n"
                b"DD-REQUEST-ID: a\xffb\r\nContent-Length: %d\r\n\r\n%s" % (key, len(body), body)
            )
            while connection.recv(65536):
                pass
    assert [event["request_id"] for event in events(sandbox)] == ["a?b"]
    assert [one["request_id"] for one in get(sandbox, "/sandbox/summary")["refusals"]] == ["a?b"]


# S2: bodies that cost more than they weigh


def test_a_million_empty_members_are_refused_and_the_next_request_is_taken(sandbox: Sandbox) -> None:
    body = gzip.compress(b"", 1) * 1_000_000
    status, answer = ask(sandbox, "POST", "/api/1/envelope/", body, {**SENTRY, "Content-Encoding": "gzip"})
    assert (status, orjson.loads(answer)["detail"]) == (400, "invalid request body")
    assert ask(sandbox, "POST", "/api/v2/logs", b'[{"message":"m"}]', DATADOG)[0] == 202


def test_an_envelope_is_decompressed_once() -> None:
    intake = Sentry()
    headers = {"x-sentry-auth": SENTRY["X-Sentry-Auth"], "content-encoding": "gzip"}
    asked = Request("POST", "/api/1/envelope/", {}, headers, gzip.compress(EVENT + b"{}"), 1_000)
    body = intake.verify(asked)
    assert body == EVENT + b"{}"
    broken = Request("POST", "/api/1/envelope/", {}, headers, b"not gzip", 1_000)
    assert len(intake.unpack(broken, body).entries) == 1
