"""The sandbox over HTTP: answers on the wire, the vendor's own client, who may look, the command."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from datadog_api_client import ApiClient, Configuration
from datadog_api_client.exceptions import ApiException
from datadog_api_client.v2.api.logs_api import LogsApi
from datadog_api_client.v2.model.content_encoding import ContentEncoding
from datadog_api_client.v2.model.http_log import HTTPLog
from datadog_api_client.v2.model.http_log_item import HTTPLogItem
from hypothesis import given
from hypothesis import strategies as st

from shipper.sandbox import server
from shipper.sandbox.server import Sandbox, running, running_in_thread

KEY = "0123456789abcdef0123456789abcdef"
HEADERS = {"DD-API-KEY": KEY, "Content-Type": "application/json"}
PAGE = Path(server.__file__).parent / "page"


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with running_in_thread() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared: Sandbox) -> Sandbox:
    assert ask(shared, "POST", "/sandbox/reset")[0] == 200
    return shared


def ask(
    sandbox: Sandbox, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=30)) as connection:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}


def post(sandbox: Sandbox, entries: Any, **headers: str) -> tuple[int, Any]:
    body = entries if type(entries) is bytes else orjson.dumps(entries)
    names = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    status, answer, _ = ask(sandbox, "POST", "/api/v2/logs", body, names)
    return status, orjson.loads(answer)


def get(sandbox: Sandbox, path: str) -> Any:
    status, body, _ = ask(sandbox, "GET", path)
    assert status == 200, body
    return orjson.loads(body)


def datadog(sandbox: Sandbox) -> Any:
    return get(sandbox, "/sandbox/summary")["providers"]["datadog"]


# The intake on the wire


def test_what_is_taken_is_answered_with_202_and_an_empty_object(sandbox: Sandbox) -> None:
    status, body, headers = ask(sandbox, "POST", "/api/v2/logs", b'[{"message":"hello"}]', HEADERS)
    assert (status, body, headers["content-type"]) == (202, b"{}", "application/json")
    assert get(sandbox, "/sandbox/events")["events"][0]["message"] == "hello"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "title", "detail"),
    [
        ("POST", "/api/v2/logs", b"[]", {}, 401, "Unauthorized", "API key is missing or invalid"),
        ("POST", "/api/v2/logs", b"[]", {"DD-API-KEY": "x"}, 403, "Forbidden", "API key is missing or invalid"),
        ("GET", "/api/v2/logs", None, HEADERS, 405, "Method Not Allowed", "HTTP method is invalid"),
        ("PUT", "/api/v2/logs", b"[]", HEADERS, 405, "Method Not Allowed", "HTTP method is invalid"),
        ("POST", "/v1/input", b"[]", HEADERS, 404, "Not Found", "HTTP path is invalid"),
        ("POST", "/api/v2/logs", b"nonsense", HEADERS, 400, "Bad Request", "Payload is not valid JSON"),
        (
            "POST",
            "/api/v2/logs",
            b"[" + b" " * 5_000_000 + b"]",
            HEADERS,
            413,
            "Request Entity Too Large",
            "Payload is too large",
        ),
    ],
)
def test_each_refusal_has_status_and_body_of_the_real_service(
    sandbox: Sandbox, method: str, path: str, body: bytes, headers: dict[str, str], status: int, title: str, detail: str
) -> None:
    answered, answer, answer_headers = ask(sandbox, method, path, body, headers)
    assert answered == status
    assert orjson.loads(answer) == {"errors": [{"status": str(status), "title": title, "detail": detail}]}
    assert answer_headers["content-type"] == "application/json"
    assert answer_headers.get("allow") == ("POST" if status == 405 else None)
    assert datadog(sandbox)["refused"] == 1
    assert get(sandbox, "/sandbox/events")["events"] == []


def test_a_body_far_over_the_limit_is_refused_and_not_kept(sandbox: Sandbox) -> None:
    status, _, _ = ask(sandbox, "POST", "/api/v2/logs", b" " * 20_000_000, HEADERS)
    assert status == 413


def test_a_browser_s_client_token_comes_in_the_query(sandbox: Sandbox) -> None:
    path = f"/api/v2/logs?ddsource=browser&dd-api-key=pub{KEY}&dd-request-id=abc-1&dd-evp-origin=browser"
    status, _, _ = ask(sandbox, "POST", path, b'{"message":"a"}\n{"message":"b"}', {"Content-Type": "text/plain"})
    assert status == 202
    events = get(sandbox, "/sandbox/events")["events"]
    assert [(e["message"], e["source"], e["request_id"]) for e in events] == [
        ("a", "browser", "abc-1"),
        ("b", "browser", "abc-1"),
    ]


def test_no_key_is_ever_shown(sandbox: Sandbox) -> None:
    secret = "fedcba98765432100123456789abcdef"
    post(sandbox, [{"message": "m"}], DD_API_KEY=secret)
    ask(sandbox, "POST", f"/api/v2/logs?dd-api-key=pub{secret}", b"{", {"Content-Type": "application/json"})
    ask(sandbox, "POST", "/api/v2/logs", b"[]", {"DD-API-KEY": secret + "0"})
    shown = ask(sandbox, "GET", "/sandbox/events")[1] + ask(sandbox, "GET", "/sandbox/summary")[1]
    assert secret.encode() not in shown
    assert secret[8:].encode() not in shown
    assert datadog(sandbox)["key"] == "…def0"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/log/v1", {"Api-Key": "fedcba9876543210012345" + "6789abcdefNRAL0000"}),
        ("/log/v1?Api-Key=fedcba98765432100123456789abcdef00000000", {}),
        ("/api/1/envelope/", {"X-Sentry-Auth": "Sentry sentry_key=fedcba98765432100123456789abcdef"}),
        ("/api/1/envelope/?sentry_key=fedcba98765432100123456789abcdef", {}),
        ("/api/1/envelope/", {"Authorization": "Sentry sentry_key=fedcba98765432100123456789abcdef"}),
        ("/", {"Authorization": "AWS4-HMAC-SHA256 Credential=fedcba98765432100123456789abcdef/a/b/c/d, Signature=e"}),
        ("/", {"X-Amz-Target": "x", "X-Amz-Security-Token": "fedcba98765432100123456789abcdef"}),
        ("/api/v2/logs", {"Authorization": "Bearer fedcba98765432100123456789abcdef"}),
    ],
)
def test_no_providers_key_is_ever_shown(sandbox: Sandbox, path: str, headers: dict[str, str]) -> None:
    ask(sandbox, "POST", path, b"{}\n", headers)
    shown = ask(sandbox, "GET", "/sandbox/events")[1] + ask(sandbox, "GET", "/sandbox/summary")[1]
    assert b"fedcba98765432100123456789" not in shown
    assert b"0123456789abcd" not in shown


@pytest.mark.parametrize(
    ("provider", "path", "key"),
    [
        ("newrelic", f"/log/v1?Api-Key={'0' * 36}NRAL", "…0000NRAL"),
        ("datadog", f"/api/v2/logs?DD-API-KEY={KEY}&dd-api-key={KEY}", "…cdef"),
    ],
)
def test_the_end_of_a_key_is_shown_from_a_query_of_any_case(
    sandbox: Sandbox, provider: str, path: str, key: str
) -> None:
    ask(sandbox, "POST", path, b"[]", {"Content-Type": "application/json"})
    assert get(sandbox, "/sandbox/summary")["providers"][provider]["key"] == key


@given(
    st.binary(max_size=300),
    st.sampled_from(["identity", "gzip", "deflate", "zstd", "br", "", "gzip;q=1"]),
    st.sampled_from(["application/json", "text/plain", "application/logplex-1", "x", ""]),
)
def test_any_body_gets_an_answer_of_the_real_service(shared: Sandbox, body: bytes, encoding: str, kind: str) -> None:
    headers = {"DD-API-KEY": KEY, "Content-Encoding": encoding, "Content-Type": kind}
    status, answer, _ = ask(shared, "POST", "/api/v2/logs", body, headers)
    assert status in {202, 400, 413}
    assert (answer == b"{}") == (status == 202)
    assert ask(shared, "GET", "/sandbox/events?newest=1&limit=5")[0] == 200


def test_a_sender_that_breaks_off_is_counted_and_hurts_nobody(sandbox: Sandbox) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port)) as half:
        half.sendall(b"POST /api/v2/logs HTTP/1.1\r\nHost: x\r\nDD-API-KEY: y\r\nContent-Length: 100\r\n\r\n[{")
    assert post(sandbox, [{"message": "after"}])[0] == 202


@pytest.mark.parametrize(
    ("method", "path", "headers", "provider"),
    [
        ("POST", "/api/v2/logs", {}, "datadog"),
        ("POST", "/elsewhere", {"DD-API-KEY": "x"}, "datadog"),
        ("POST", "/", {"X-Amz-Target": "Logs_20140328.PutLogEvents"}, "cloudwatch"),
        ("POST", "/elsewhere", {"Authorization": "AWS4-HMAC-SHA256 x"}, "cloudwatch"),
        ("POST", "/api/1/envelope/", {}, "sentry"),
        ("POST", "/api/name/envelope", {}, "sentry"),
        ("POST", "/elsewhere", {"X-Sentry-Auth": "x"}, "sentry"),
        ("POST", "/elsewhere?sentry_key=x", {}, "sentry"),
        ("POST", "/log/v1", {}, "newrelic"),
        ("GET", "/log/v1", {}, "newrelic"),
        ("POST", "/elsewhere", {"Api-Key": "x"}, "newrelic"),
        ("POST", "/elsewhere?License-Key=x", {}, "newrelic"),
    ],
)
def test_each_provider_gets_what_was_meant_for_it(
    sandbox: Sandbox, method: str, path: str, headers: dict[str, str], provider: str
) -> None:
    assert ask(sandbox, method, path, b"", headers)[0] in {400, 401, 403, 404, 405}
    counted = {name: p["refused"] for name, p in get(sandbox, "/sandbox/summary")["providers"].items()}
    assert counted == {**dict.fromkeys(counted, 0), provider: 1}


@pytest.mark.parametrize("path", ["/", "/api/0/projects", "/api/v1/validate", "/logs"])
def test_what_no_provider_was_meant_by_is_nobodys(sandbox: Sandbox, path: str) -> None:
    assert ask(sandbox, "POST", path, b"{}")[0] == 404
    assert [p["requests"] for p in get(sandbox, "/sandbox/summary")["providers"].values()] == [0] * 4


def test_what_a_sender_needs_is_told_of_every_provider(sandbox: Sandbox) -> None:
    summary = get(sandbox, "/sandbox/summary")
    assert summary["settings"].keys() == summary["providers"].keys()
    assert summary["settings"]["sentry"] == {"SENTRY_DSN": f"http://{'0' * 32}@127.0.0.1:{sandbox.port}/1"}


def test_each_provider_reads_as_much_as_its_own_limit_allows(sandbox: Sandbox) -> None:
    body = b" " * 1_000_001
    assert ask(sandbox, "POST", "/log/v1", body, {"Api-Key": "0" * 40, "Content-Type": "json"})[0] == 413
    status, answer, _ = ask(sandbox, "POST", "/api/v2/logs", body, HEADERS)
    assert (status, orjson.loads(answer)["errors"][0]["detail"]) == (400, "Payload is not valid JSON")
    why = get(sandbox, "/sandbox/summary")["providers"]["newrelic"]["refused_why"]
    assert why == {"413 Payload is too large": 1}


def test_an_unknown_path_belongs_to_no_provider(sandbox: Sandbox) -> None:
    status, body, _ = ask(sandbox, "GET", "/favicon.ico")
    assert (status, orjson.loads(body)) == (404, {"error": "No provider's intake has the path /favicon.ico."})


def test_gaps_and_repeats_are_found_over_requests(sandbox: Sandbox) -> None:
    for first, last in ((1, 5), (9, 12), (11, 14)):
        post(sandbox, [{"message": "m", "run": "r", "stream": "stderr", "seq": n} for n in range(first, last + 1)])
    stream = datadog(sandbox)["streams"][0]
    assert (stream["run"], stream["stream"], stream["lines"]) == ("r", "stderr", 13)
    assert (stream["gaps"], stream["repeated"], stream["first_seq"], stream["last_seq"]) == (
        [[6, 8]],
        [[11, 12]],
        1,
        14,
    )


# The vendor's own client


@contextlib.contextmanager
def vendors_client(sandbox: Sandbox, key: str = KEY) -> Iterator[LogsApi]:
    variables = {"name": f"127.0.0.1:{sandbox.port}", "protocol": "http"}
    configuration = Configuration(api_key={"apiKeyAuth": key}, server_index=1, server_variables=variables)  # type: ignore[no-untyped-call]
    with ApiClient(configuration) as client:
        yield LogsApi(client)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("encoding", [None, "identity", "gzip", "deflate"])
def test_what_the_vendors_client_sends_is_taken_and_stored_as_sent(sandbox: Sandbox, encoding: str | None) -> None:
    logs = HTTPLog(  # type: ignore[no-untyped-call]
        [
            HTTPLogItem(
                message=f"log {n} ü\n\N{GRINNING FACE}",
                ddsource="nginx",
                ddtags="env:staging,version:5.1",
                hostname="i-012345678",
                service="payment",
                status="error",
                inner={"a": [1, 2.5, None, True]},
            )
            for n in range(3)
        ]
    )
    with vendors_client(sandbox) as api:
        more = {} if encoding is None else {"content_encoding": ContentEncoding(encoding)}  # type: ignore[no-untyped-call]
        assert dict(api.submit_log(logs, ddtags="team:voice", **more)) == {}
    events = get(sandbox, "/sandbox/events")["events"]
    assert [event["message"] for event in events] == [f"log {n} ü\n\N{GRINNING FACE}" for n in range(3)]
    event = events[0]
    assert (event["host"], event["source"], event["service"]) == ("i-012345678", "nginx", "payment")
    assert event["level"] == "error"
    assert event["tags"] == ["env:staging", "version:5.1", "team:voice"]
    assert event["attributes"] == {"inner": {"a": [1, 2.5, None, True]}}
    assert datadog(sandbox)["requests"] == 1


def test_the_vendors_client_reads_the_refusal_of_its_key(sandbox: Sandbox) -> None:
    with vendors_client(sandbox, "wrong") as api, pytest.raises(ApiException) as refused:
        api.submit_log(HTTPLog([HTTPLogItem(message="m")]))  # type: ignore[no-untyped-call]
    assert refused.value.status == 403
    assert refused.value.body["errors"][0]["detail"] == "API key is missing or invalid"


def test_the_vendors_client_reads_the_refusal_of_too_many_logs(sandbox: Sandbox) -> None:
    with vendors_client(sandbox) as api, pytest.raises(ApiException) as refused:
        api.submit_log(HTTPLog([HTTPLogItem(message="m")] * 1001))  # type: ignore[no-untyped-call]
    assert refused.value.status == 413
    assert "1000 entries" in refused.value.body["errors"][0]["detail"]


# Faults


def order(sandbox: Sandbox, **fault: Any) -> tuple[int, Any]:
    status, body, _ = ask(sandbox, "POST", "/sandbox/fault", orjson.dumps(fault))
    return status, orjson.loads(body)


def test_a_fault_is_answered_so_often_and_nothing_of_it_is_taken(sandbox: Sandbox) -> None:
    assert order(sandbox, provider="datadog", status=429, count=2, retry_after=7)[0] == 200
    for _ in range(2):
        status, body, headers = ask(sandbox, "POST", "/api/v2/logs", b'[{"message":"m"}]', HEADERS)
        assert (status, headers["retry-after"]) == (429, "7")
        assert orjson.loads(body)["errors"][0]["title"] == "Too Many Requests"
    assert post(sandbox, [{"message": "m"}])[0] == 202
    totals = datadog(sandbox)
    assert (totals["requests"], totals["refused_why"], totals["events"]) == (3, {"429 asked for": 2}, 1)


def test_a_fault_without_count_stays_until_it_is_cleared(sandbox: Sandbox) -> None:
    order(sandbox, provider="datadog", status=503)
    assert [post(sandbox, [])[0] for _ in range(5)] == [503] * 5
    assert order(sandbox, provider="datadog") == (200, {"faults": {}})
    assert post(sandbox, [])[0] == 202


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_fault_may_be_for_bodies_with_a_text_in_them_alone(sandbox: Sandbox, encoding: str) -> None:
    order(sandbox, provider="datadog", status=400, containing="poison")
    for word, status in (("m", 202), ("poisoned", 400), ("m", 202)):
        body = orjson.dumps([{"message": word}])
        body = gzip.compress(body) if encoding == "gzip" else body
        assert post(sandbox, body, content_encoding=encoding)[0] == status
    assert post(sandbox, b"no gzip", content_encoding="gzip")[0] == 400
    assert datadog(sandbox)["refused_why"]["400 asked for"] == 1


def test_a_provider_that_is_down_breaks_the_connection_off(sandbox: Sandbox) -> None:
    order(sandbox, provider="datadog", down=True, count=1)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        post(sandbox, [{"message": "m"}])
    assert post(sandbox, [{"message": "m"}])[0] == 202
    assert datadog(sandbox)["refused_why"] == {"no answer connection broken off on request": 1}


def test_a_slow_provider_takes_the_request_late(sandbox: Sandbox) -> None:
    order(sandbox, provider="datadog", delay=0.3, count=1)
    begin = time.monotonic()
    assert post(sandbox, [{"message": "m"}])[0] == 202
    assert time.monotonic() - begin >= 0.3
    assert datadog(sandbox)["accepted"] == 1


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "not JSON"),
        (b"[]", "JSON object"),
        (b"{}", "provider"),
        (b'{"provider":"nobody"}', "datadog"),
        (b'{"provider":["datadog"]}', "datadog"),
        (b'{"provider":"datadog","status":200}', "status"),
        (b'{"provider":"datadog","status":"503"}', "status"),
        (b'{"provider":"datadog","status":503,"count":-1}', "count"),
        (b'{"provider":"datadog","delay":-1}', "delay"),
        (b'{"provider":"datadog","delay":1e9}', "delay"),
        (b'{"provider":"datadog","down":"yes"}', "down"),
        (b'{"provider":"datadog","status":503,"retry_after":"a\\r\\nX: y"}', "retry_after"),
        (b'{"provider":"datadog","satus":503}', "satus"),
        (b'{"provider":"datadog","status":400,"containing":5}', "containing"),
        (b'{"provider":"datadog","status":400,"containing":""}', "containing"),
        (b'{"provider":"datadog","rate_limits":"60::"}', "rate_limits is not known of datadog"),
        (b'{"provider":"newrelic","reject":{"too_old":1}}', "reject is not known of newrelic"),
        (b'{"provider":"sentry","rate_limits":60}', "rate_limits"),
        (b'{"provider":"sentry","rate_limits":"60\\r\\nX: y"}', "rate_limits"),
        (b'{"provider":"cloudwatch","operation":5}', "operation"),
        (b'{"provider":"cloudwatch","status":503,"operation":["PutLogEvents"]}', "operation"),
        (b'{"provider":"cloudwatch","status":503,"operation":"Nope"}', "operation is one of: CreateLogGroup, "),
        (b'{"provider":"cloudwatch","reject":{}}', "reject"),
        (b'{"provider":"cloudwatch","reject":{"too_odd":1}}', "reject"),
        (b'{"provider":"cloudwatch","reject":{"too_old":-1}}', "reject"),
        (b'{"provider":"cloudwatch","reject":[1]}', "reject"),
    ],
)
def test_an_order_that_makes_no_sense_is_answered_with_a_sentence(sandbox: Sandbox, body: bytes, word: str) -> None:
    status, answer, _ = ask(sandbox, "POST", "/sandbox/fault", body)
    assert status == 400
    assert word in orjson.loads(answer)["error"]
    assert get(sandbox, "/sandbox/summary")["faults"] == {}


def test_a_fault_shows_what_was_asked_for_and_nothing_else(sandbox: Sandbox) -> None:
    order(sandbox, provider="sentry", rate_limits="60:log_item:organization", count=3, containing="x")
    order(sandbox, provider="cloudwatch", reject={"too_new": 1}, operation="PutLogEvents")
    plain = {"status": None, "retry_after": None, "delay": 0.0, "down": False}
    assert get(sandbox, "/sandbox/summary")["faults"] == {
        "sentry": {**plain, "count": 3, "containing": "x", "rate_limits": "60:log_item:organization"},
        "cloudwatch": {**plain, "count": None, "operation": "PutLogEvents", "reject": {"too_new": 1}},
    }


def test_reset_clears_events_counters_and_faults(sandbox: Sandbox) -> None:
    post(sandbox, [{"message": "m"}])
    order(sandbox, provider="datadog", status=503)
    assert ask(sandbox, "POST", "/sandbox/reset")[0] == 200
    summary = get(sandbox, "/sandbox/summary")
    assert (summary["providers"]["datadog"]["requests"], summary["faults"]) == (0, {})
    assert get(sandbox, "/sandbox/events")["events"] == []


# Who may look


@pytest.mark.parametrize(
    ("listens_on", "host", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:8080", True),
        ("127.0.0.1", "localhost:8080", True),
        ("127.0.0.1", "LOCALHOST", True),
        ("127.0.0.1", "[::1]:8080", True),
        ("127.0.0.1", "evil.example:8080", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "192.168.1.5:8080", False),
        ("127.0.0.1", "sandbox:8080", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "[::1", False),
        ("127.0.0.1", "user@127.0.0.1.evil.example", False),
        ("localhost", "localhost:8080", True),
        ("::1", "[::1]:8080", True),
        ("0.0.0.0", "sandbox:8080", True),  # a compose service
        ("0.0.0.0", "192.168.1.5:8080", True),
        ("0.0.0.0", "localhost:8080", True),
        ("0.0.0.0", "evil.example", False),
        ("box.example.com", "box.example.com:8080", True),
        ("box.example.com", "other.example.com:8080", False),
    ],
)
def test_the_page_answers_under_names_that_nobody_else_can_point_here(
    listens_on: str, host: str, allowed: bool
) -> None:
    assert Sandbox(listens_on)._own_host(host) is allowed


@pytest.mark.parametrize("path", ["/", "/page.js", "/sandbox/events", "/sandbox/summary"])
def test_a_foreign_host_is_refused_on_the_page_and_its_json(sandbox: Sandbox, path: str) -> None:
    status, body, _ = ask(sandbox, "GET", path, headers={"Host": "evil.example"})
    assert status == 403
    assert "error" in orjson.loads(body)
    assert ask(sandbox, "POST", "/sandbox/reset", headers={"Host": "evil.example"})[0] == 403


def test_the_intake_takes_any_host_and_any_origin(sandbox: Sandbox) -> None:
    assert post(sandbox, [], Host="http-intake.logs.datadoghq.com", Origin="https://app.example")[0] == 202


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_another_sites_page_may_change_nothing(sandbox: Sandbox, headers: dict[str, str], status: int) -> None:
    sent = {name: value.format(port=sandbox.port) for name, value in headers.items()}
    assert ask(sandbox, "POST", "/sandbox/reset", headers=sent)[0] == status
    assert ask(sandbox, "POST", "/sandbox/fault", b'{"provider":"datadog"}', sent)[0] == status


# The page


class Links(HTMLParser):
    """Every address that the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href") and tag != "a"]


def test_the_page_loads_nothing_from_elsewhere_and_says_so_to_the_browser(sandbox: Sandbox) -> None:
    status, body, headers = ask(sandbox, "GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    links = Links()
    links.feed(body.decode())
    assert [link for link in links.found if not link.startswith("data:")] == ["page.css", "page.js"]
    for link, kind in (("/page.css", "text/css"), ("/page.js", "text/javascript")):
        status, asset, headers = ask(sandbox, "GET", link)
        assert (status, headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        assert b"//cdn" not in asset
        assert re.search(rb"url\(\s*['\"]?http|@import", asset) is None


def test_the_page_puts_text_into_the_document_as_text_alone() -> None:
    script = (PAGE / "page.js").read_text()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert way not in script
    assert not re.search(r"\son\w+=", (PAGE / "index.html").read_text())


@pytest.mark.parametrize("query", ["after=x", "limit=x", "after=1.5"])
def test_a_wrong_parameter_is_answered_with_a_sentence(sandbox: Sandbox, query: str) -> None:
    status, body, _ = ask(sandbox, "GET", f"/sandbox/events?{query}")
    assert (status, orjson.loads(body)) == (400, {"error": "after and limit are whole numbers."})


def test_events_are_read_on_from_where_one_was(sandbox: Sandbox) -> None:
    post(sandbox, [{"message": str(n), "run": "a" if n % 2 else "b"} for n in range(10)])
    first = get(sandbox, "/sandbox/events?limit=4")
    second = get(sandbox, f"/sandbox/events?after={first['last']}&limit=100")
    assert [e["message"] for e in first["events"] + second["events"]] == [str(n) for n in range(10)]
    assert len(get(sandbox, "/sandbox/events?run=a&provider=datadog")["events"]) == 5
    assert [e["message"] for e in get(sandbox, "/sandbox/events?newest=1&limit=2")["events"]] == ["8", "9"]
    assert len(get(sandbox, "/sandbox/events?limit=-5")["events"]) == 1


# In this process


async def test_a_test_can_run_a_sandbox_in_its_own_event_loop() -> None:
    async with running() as sandbox, aiohttp.ClientSession() as session:
        sandbox.fault("datadog", status=500, count=1)
        answers = []
        for _ in range(2):
            async with session.post(f"{sandbox.url}/api/v2/logs", data=b'[{"message":"m"}]', headers=HEADERS) as answer:
                answers.append(answer.status)
        assert answers == [500, 202]
        found: Any = sandbox.store.events()
        assert found["events"][0]["message"] == "m"
        with pytest.raises(ValueError, match="status"):
            sandbox.fault("datadog", status=1)


def test_a_taken_port_is_raised_to_the_test(shared: Sandbox) -> None:
    with pytest.raises(OSError, match="in use"), running_in_thread(port=shared.port):
        pass


async def test_a_flood_from_many_connections_arrives_whole() -> None:
    requests, size = 60, 1000
    bodies = [
        gzip.compress(orjson.dumps([{"message": f"line {n}", "run": "r", "stream": "stdout", "seq": at * size + n + 1}
                                    for n in range(size)]), 1)
        for at in range(requests)
    ]  # fmt: skip
    async with running() as sandbox, aiohttp.ClientSession() as session:

        async def send(body: bytes) -> int:
            headers = {**HEADERS, "Content-Encoding": "gzip"}
            async with session.post(f"{sandbox.url}/api/v2/logs", data=body, headers=headers) as answer:
                return answer.status

        assert set(await asyncio.gather(*map(send, bodies))) == {202}
        summary: Any = sandbox.store.summary()
        totals = summary["providers"]["datadog"]
        assert (totals["lines"], totals["missing"], totals["repeats"]) == (requests * size, 0, 0)


# The command


def start(*arguments: str) -> subprocess.Popen[str]:
    code = "import sys; from shipper.sandbox.server import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(server.__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_and_ends_quietly(number: signal.Signals) -> None:
    with start("--port", "0") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        found = re.fullmatch(r"shipper sandbox: listening on (http://(127\.0\.0\.1:(\d+)))\n", lines[0])
        assert found is not None, lines
        assert lines[1:] == [
            f"  export DATADOG_TOKEN=pub{'0' * 32} SHIPPER_DATADOG_URL={found[1]}\n",
            (
                "  export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE "
                f"AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY AWS_ENDPOINT_URL_LOGS={found[1]}\n"
            ),
            f"  export SENTRY_DSN=http://{'0' * 32}@{found[2]}/1\n",
            f"  export NEW_RELIC_LICENSE_KEY={'0' * 36}NRAL SHIPPER_NEW_RELIC_URL={found[1]}\n",
        ]
        # Connected, with a request under way: the end waits for nobody.
        with socket.create_connection(("127.0.0.1", int(found[3]))) as connection:
            connection.sendall(b"POST /api/v2/logs HTTP/1.1\r\nHost: x\r\nDD-API-KEY: y\r\nContent-Length: 9\r\n\r\n[")
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_port_in_use_is_said_in_one_sentence(shared: Sandbox) -> None:
    with start("--port", str(shared.port)) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert err == (
        f"shipper sandbox: port {shared.port} on 127.0.0.1 is in use already; "
        "choose another with --port, or --port 0 for a free one.\n"
    )


@pytest.mark.parametrize("host", ["203.0.113.9", "no-such-name.invalid"])
def test_an_address_that_is_not_ours_is_said_in_one_sentence(host: str) -> None:
    with start("--host", host, "--port", "0") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err == f"shipper sandbox: {host} is no address of this machine; choose another with --host.\n"


@pytest.mark.parametrize("host", ["a" * 70, "a..b"])
def test_a_host_that_can_be_none_is_said_in_one_sentence(host: str) -> None:
    with start("--host", host, "--port", "0") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    said = "is neither an address nor a name that a host can have; choose another with --host."
    assert err == f"shipper sandbox: {host} {said}\n"


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_what_listens_on_every_address_prints_one_that_can_be_written_down(host: str) -> None:
    if host == "::" and not has_ipv6():
        pytest.skip("no IPv6 here")
    with start("--host", host, "--port", "0") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        found = re.search(r"every address of this machine, one of them http://(.+):(\d+);", lines[0])
        assert found is not None, lines
        address = ipaddress.ip_address(found[1].strip("[]"))
        with contextlib.closing(http.client.HTTPConnection(str(address), int(found[2]), timeout=10)) as connection:
            connection.request("GET", "/sandbox/summary")
            status = connection.getresponse().status
        process.terminate()
        process.communicate(timeout=10)
    assert not address.is_unspecified
    assert status == 200
    assert lines[1].endswith(f" SHIPPER_DATADOG_URL=http://{found[1]}:{found[2]}\n")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("port", ["-1", "65536", "http", "8o8o"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.main([f"--port={port}"]) == 2
    assert "a whole number from 0 to 65535" in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert server.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "shipper run -- python agent.py start" in shown
    for name in ("SHIPPER_DATADOG_URL", "AWS_ENDPOINT_URL_LOGS", "SENTRY_DSN", "SHIPPER_NEW_RELIC_URL"):
        assert re.search(rf"^  export .*\b{name}=http://.*127\.0\.0\.1:8080", shown, re.MULTILINE)
    assert "--host" in shown
    assert "--port" in shown


def test_a_sandbox_that_others_can_reach_says_so() -> None:
    with start("--host", "0.0.0.0", "--port", "0") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        process.communicate(timeout=10)
    assert line.endswith("; whoever reaches this machine can read what arrives\n")
