"""The client: TLS, proxies, time-outs, broken answers; every failure in words a person can act on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from shipper.sinks.base import RetryableError, maybe_taken
from shipper.sinks.http import MAX_ANSWER_BYTES, MAX_RETRY_AFTER, Http, retry_after
from tests.certificates import SELF_MADE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


class Servers:
    """Servers on ports of their own, closed at the end of a test."""

    def __init__(self) -> None:
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    async def http(self, respond: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> str:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            self.requests.append((str(request.rel_url), dict(request.headers), await request.read()))
            return await respond(request)

        runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._closing.append(runner.cleanup)
        return f"127.0.0.1:{runner.addresses[0][1]}"

    async def raw(self, handle: Any, context: ssl.SSLContext | None = None) -> str:
        async def wrapped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handle(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(wrapped, "127.0.0.1", 0, ssl=context)

        async def close() -> None:
            server.close()

        self._closing.append(close)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        for close in self._closing:
            await close()


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    started = Servers()
    yield started
    await started.close()


async def failure(client: Http, data: bytes = b"secret line") -> RetryableError:
    try:
        with pytest.raises(RetryableError) as caught:
            await client.post("/x", data, {"Key": "secret"})
    finally:
        await client.close()
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value


async def test_a_request_arrives_as_it_was_given_and_the_connection_is_kept(servers: Servers) -> None:
    peers = set()

    async def respond(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        response = web.Response(status=202, body=b"{}")
        response.set_cookie("a", "b")
        return response

    client = Http("http://" + await servers.http(respond), {})
    for _ in range(3):
        answer = await client.post("/v2?s=a%2Fb%20c", b"data", {"Key": "K", "X-Kind": "gzip"})
        assert (answer.status, answer.body, answer.after) == (202, b"{}", None)
    await client.close()
    await client.close()
    assert len(peers) == 1
    path, headers, data = servers.requests[-1]
    assert (path, data) == ("/v2?s=a%2Fb%20c", b"data")
    assert headers["Key"] == "K"
    assert headers["User-Agent"].startswith("agent-shipper/")
    assert "Cookie" not in headers
    assert client.sent_bytes == 12


async def test_a_certificate_that_nobody_vouches_for_gets_nothing(servers: Servers, tmp_path: Path) -> None:
    (tmp_path / "pem").write_text(SELF_MADE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    received = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read())

    host = await servers.raw(handle, context)
    error = await failure(Http(f"https://{host}", {}))
    assert host in str(error)
    assert "certificate" in str(error)
    assert "not verified" in str(error)
    assert "nothing was sent" in str(error)
    await asyncio.sleep(0)
    assert received == b""


async def test_a_server_that_speaks_no_tls_gets_nothing(servers: Servers) -> None:
    received = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(1000))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    error = await failure(Http("https://" + await servers.raw(handle), {}))
    assert "TLS" in str(error)
    assert b"secret" not in received


async def test_a_redirect_is_not_followed(servers: Servers) -> None:
    async def respond(request: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": "/other", "Retry-After": "4"})

    error = await failure(Http("http://" + await servers.http(respond), {}))
    assert "redirect" in str(error)
    assert error.after == 4
    assert len(servers.requests) == 1


async def test_a_name_that_does_not_exist_is_said_so() -> None:
    error = await failure(Http("http://nowhere.invalid", {}))
    assert "nowhere.invalid" in str(error)


async def test_a_refused_connection_is_said_so(servers: Servers) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    host = await servers.raw(handle)
    await servers.close()
    error = await failure(Http(f"http://{host}", {}))
    assert f"{host} could not be reached (" in str(error)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "broke off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP answer"),
    ],
)
async def test_a_broken_answer_is_said_so(servers: Servers, answer: bytes, words: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"secret line")
        writer.write(answer)
        await writer.drain()

    error = await failure(Http("http://" + await servers.raw(handle), {}))
    assert words in str(error)
    assert error.maybe_taken


async def test_an_answer_that_does_not_come_ends_at_the_time_out(servers: Servers) -> None:
    async def respond(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    error = await failure(Http("http://" + await servers.http(respond), {}, total_timeout=0.2))
    assert "did not answer within 0.2 s" in str(error)


async def test_no_more_of_an_answer_is_read_than_the_limit(servers: Servers) -> None:
    async def respond(request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"x" * (MAX_ANSWER_BYTES * 4))

    client = Http("http://" + await servers.http(respond), {})
    assert len((await client.post("/", b"", {})).body) == MAX_ANSWER_BYTES
    assert len((await client.post("/", b"", {})).body) == MAX_ANSWER_BYTES
    await client.close()


async def test_a_proxy_is_used_and_a_refusal_names_it_without_its_password(servers: Servers) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        servers.requests.append((request.split(b"\r\n")[0].decode(), {}, request))
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    host = await servers.raw(proxy)
    error = await failure(Http("https://intake.example", {"HTTPS_PROXY": f"http://me:secret@{host}"}))
    assert servers.requests[0][0] == "CONNECT intake.example:443 HTTP/1.1"
    assert f"The proxy {host} (HTTPS_PROXY) does not take the user and password (status 407)" in str(error)


async def test_a_proxys_own_certificate_is_not_taken_for_the_intakes(servers: Servers, tmp_path: Path) -> None:
    (tmp_path / "pem").write_text(SELF_MADE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    host = await servers.raw(handle, context)
    error = await failure(Http("https://intake.example", {"HTTPS_PROXY": f"https://{host}"}))
    assert str(error).startswith(f"The certificate of the proxy {host} (HTTPS_PROXY) was not verified (")


async def test_a_proxy_that_is_not_there_is_named(servers: Servers) -> None:
    error = await failure(Http("https://intake.example", {"https_proxy": "http://127.0.0.1:1"}))
    assert "The proxy 127.0.0.1:1 (https_proxy) could not be reached (" in str(error)


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "after"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": " 0 "}, 0),
        ({"Retry-After": "9" * 400}, MAX_RETRY_AFTER),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=9), usegmt=True)}, 9),
        ({"Retry-After": format_datetime(NOW - timedelta(seconds=9), usegmt=True)}, 0),
        (
            {
                "Retry-After": format_datetime(NOW + timedelta(seconds=3609), usegmt=True),
                "Date": format_datetime(NOW + timedelta(hours=1), usegmt=True),
            },
            9,
        ),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=9), usegmt=True), "Date": "?"}, 9),
    ],
)
def test_retry_after_is_read_in_both_forms(headers: dict[str, str], after: float | None) -> None:
    assert retry_after(headers, NOW.timestamp()) == after


@given(st.text(), st.text())
def test_no_header_is_too_odd(value: str, date: str) -> None:
    after = retry_after({"Retry-After": value, "Date": date}, 1e9)
    assert after is None or 0 <= after <= MAX_RETRY_AFTER


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("ahead", "status", "off"),
    [
        (-HOUR, 202, 3600.0), (HOUR, 200, -3600.0), (timedelta(seconds=200), 200, 0.0),
        (HOUR, 403, 0.0), (HOUR, 502, 0.0), (None, 200, 0.0),
    ],
)  # fmt: skip
async def test_a_wrong_clock_shows_by_the_date_of_what_was_accepted(
    servers: Servers, ahead: timedelta | None, status: int, off: float
) -> None:
    """An error may be of anybody on the way; what a provider accepts at our time is at most a little off."""

    async def respond(request: web.BaseRequest) -> web.Response:
        date = "never" if ahead is None else format_datetime(datetime.now(UTC) + ahead, usegmt=True)
        return web.Response(status=status, headers={"Date": date})

    client = Http("http://" + await servers.http(respond), {})
    found = []
    for _ in range(2):
        await client.post("/x", b"", {})
        found.append(client.clock_off)
    await client.close()
    assert found == [found[0]] * 2
    assert found[0] == pytest.approx(off, abs=60 if off else 0)


def test_an_answer_that_waited_while_the_container_was_frozen_tells_nothing_of_the_clock() -> None:
    client = Http("http://127.0.0.1:9", {})
    headers = {"Date": format_datetime(datetime.now(UTC) - HOUR, usegmt=True)}
    client._compare_clocks(headers, 3700.0)
    assert client.clock_off == 0
    client._compare_clocks(headers, 1.0)
    assert client.clock_off == pytest.approx(3600, abs=60)


async def test_what_never_got_a_connection_was_not_taken(servers: Servers) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = await failure(Http(f"http://127.0.0.1:{unused.getsockname()[1]}", {}))
    assert "could not be reached" in str(error)
    assert not error.maybe_taken


def test_a_refusal_of_service_is_certain_and_a_gateways_time_out_is_not() -> None:
    assert [status for status in (400, 408, 429, 500, 502, 503, 504) if maybe_taken(status)] == [500, 502, 504]
