"""What every sink in the registry does with every answer of a provider, and with none."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import inspect
import json
import socket
import struct
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aiohttp import web

from shipper.config.registry import REGISTRY, SinkEntry
from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.sinks.base import Body, Limits, RefusedError, RejectedError, RetryableError, SettingError, Sink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOW_MS = 1_795_492_800_000
SECRET = "pub0123456789abcdef0123456789abcdef"
NEW_RELIC_SECRET = "0123456789abcdef0123456789abcdef0123NRAL"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SECRETS = (SECRET, NEW_RELIC_SECRET, AWS_SECRET)
LINE = b'{"message":"a line that is nobody else\'s","level":"ERROR"}'
FACTS = Facts(
    "0123456789abcdef", "worker-1", "agent-1", "cloud.livekit.io", (("env", "prod"),), (), 262_144, 0, "python"
)


class Reply(NamedTuple):
    """What a provider answers."""

    status: int
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()


class Case(NamedTuple):
    """How to turn a sink on and point it at a server of ours; replies that it takes for an acceptance or an error."""

    secrets: dict[str, str]
    url_variable: str
    accepted: tuple[Reply, ...]
    rejected: tuple[Reply, ...]
    refused: tuple[Reply, ...]
    retried: tuple[Reply, ...]
    throttled: tuple[Reply, ...]
    dsn: bool = False  # the secret names the server

    def environ(self, base: str) -> dict[str, str]:
        if self.dsn:
            scheme, _, rest = base.partition("://")
            return {self.url_variable: f"{scheme}://{SECRET}@{rest.rstrip('/')}/42"}
        return {**self.secrets, self.url_variable: base}


def plain(*statuses: int) -> tuple[Reply, ...]:
    return tuple(Reply(status) for status in statuses)


def aws(status: int, kind: str, message: str = "") -> Reply:
    return Reply(
        status,
        json.dumps({"__type": kind, "message": message}).encode(),
        (("x-amzn-RequestId", "1"), ("Content-Type", "application/x-amz-json-1.1")),
    )


CASES = {
    "datadog": Case(
        {"DATADOG_TOKEN": SECRET}, "SHIPPER_DATADOG_URL",
        accepted=plain(200, 202),
        rejected=plain(400, 413),
        refused=plain(401, 403),
        retried=plain(404, 408, 500, 502, 503, 504, 507, 301),
        throttled=plain(429),
    ),
    "cloudwatch": Case(
        {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": AWS_SECRET}, "AWS_ENDPOINT_URL_LOGS",
        accepted=(Reply(200), aws(400, "DataAlreadyAcceptedException")),
        rejected=(
            aws(400, "InvalidParameterException", "Log events in a single PutLogEvents request must be in "
                "chronological order."),
            aws(400, "SerializationException"), aws(400, "ValidationException"), Reply(413),
        ),
        refused=tuple(
            aws(400, kind)
            for kind in (
                "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException",
                "ExpiredTokenException", "MissingAuthenticationTokenException",
            )
        ),
        retried=(
            aws(500, "InternalFailure"), aws(503, "ServiceUnavailableException"),
            Reply(500, b"<html>"), Reply(502, b""), Reply(503, b"oops"), Reply(504, b"\xff"),
        ),
        throttled=(aws(400, "ThrottlingException", "Rate exceeded"), Reply(429, b"")),
    ),
    "sentry": Case(
        {}, "SENTRY_DSN",
        accepted=plain(200, 202),
        rejected=plain(400, 413),
        refused=plain(401, 403, 404, 405),
        retried=plain(408, 500, 502, 503, 504, 301),
        throttled=plain(429),
        dsn=True,
    ),
    "newrelic": Case(
        {"NEW_RELIC_LICENSE_KEY": NEW_RELIC_SECRET}, "SHIPPER_NEW_RELIC_URL",
        accepted=plain(200, 202),
        rejected=plain(400, 413),
        refused=plain(401, 403),
        retried=plain(404, 405, 408, 409, 410, 411, 500, 502, 503, 504, 301),
        throttled=plain(429),
    ),
}  # fmt: skip


class Provider:
    """Answers as told, and keeps what it got."""

    def __init__(self) -> None:
        self.reply = Reply(200)
        self.headers: dict[str, str] = {}
        self.delay = 0.0
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.base = ""
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        self.requests.append((str(request.rel_url), dict(request.headers), await request.read()))
        await asyncio.sleep(self.delay)
        headers = {**dict(self.reply.headers), **self.headers}
        return web.Response(status=self.reply.status, headers=headers, body=self.reply.body)


def sink_class(entry: SinkEntry) -> type[Sink]:
    module, _, name = entry.factory.partition(":")
    made: type[Sink] = getattr(importlib.import_module(module), name)
    return made


def build(entry: SinkEntry, base: str) -> Sink:
    return sink_class(entry).from_env(CASES[entry.name].environ(base))


def a_body(sink: Sink, lines: int = 3) -> Body:
    events = Decoder().decode(Batch(1, [LINE] * lines, 1, [(0, NOW_MS * 10**6)], {}))
    return sink.encoder(FACTS)([(events, 0, lines)], NOW_MS)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    started = Provider()
    await started.start()
    yield started
    await started.close()


@pytest.fixture(params=REGISTRY, ids=lambda entry: entry.name)
async def entry(request: pytest.FixtureRequest) -> SinkEntry:
    made: SinkEntry = request.param
    return made


@pytest.fixture
async def sink(entry: SinkEntry, provider: Provider) -> AsyncIterator[Sink]:
    made = build(entry, provider.base)
    await made.open()
    yield made
    await made.close()
    await made.close()


def keeps_quiet(error: Exception) -> None:
    """Neither the secret nor a line, in the error or in what a traceback would show beside it."""
    shown: BaseException | None = error
    while shown is not None:
        text = f"{shown!r} {shown}"
        assert not [secret for secret in SECRETS if secret in text]
        assert "nobody else" not in text
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    assert "127.0.0.1" in str(error)
    assert str(error).endswith((".", "?"))


def test_every_sink_of_the_registry_has_a_case_here() -> None:
    assert set(CASES) == {entry.name for entry in REGISTRY}


def test_a_sink_says_what_it_is(entry: SinkEntry) -> None:
    sink = build(entry, "http://127.0.0.1:9")
    assert (sink.name, sink.title) == (entry.name, entry.title)
    assert sink.destination == "127.0.0.1:9"
    assert isinstance(sink.limits, Limits)
    assert sink.limits.target_body_bytes <= sink.limits.max_body_bytes
    assert inspect.iscoroutinefunction(sink.send)


async def test_what_was_never_opened_can_be_closed(entry: SinkEntry) -> None:
    await build(entry, "http://127.0.0.1:9").close()


@pytest.mark.parametrize("value", ["", " ", "with space", "new\nline", "caf\u00e9", "x\x00y"])
def test_a_secret_that_cannot_be_one_is_a_setting_error_that_does_not_show_it(entry: SinkEntry, value: str) -> None:
    for name in entry.secrets:
        with pytest.raises(SettingError) as caught:
            sink_class(entry).from_env({**CASES[entry.name].environ("http://127.0.0.1:9"), name: value})
        assert caught.value.variable == name
        assert name in caught.value.message
        assert not value.strip() or value not in caught.value.message


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("with space", "holds characters that no "), ("sntrys_hunter2", "looks like an auth token of Sentry's"),
        ("'hunter2'", "has quotes around it"), ("", "names no file that holds a secret"),
    ],
)  # fmt: skip
def test_a_wrong_secret_from_a_file_names_the_variable_of_the_file(
    entry: SinkEntry, tmp_path: Path, value: str, why: str
) -> None:
    (tmp_path / "secret").write_text(value)
    for name in (*entry.secrets, *(entry.optional if value else ())):
        file = {name: "", f"{name}_FILE": str(tmp_path / "secret")}
        with pytest.raises(SettingError) as caught:
            sink_class(entry).from_env({**CASES[entry.name].environ("http://127.0.0.1:9"), **file})
        assert caught.value.variable == f"{name}_FILE"
        assert f"{name}_FILE {why}" in caught.value.message
        assert caught.value.message.endswith(f": nothing is sent to {entry.title}.")
        assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_secret_in_quotes_is_said_to_have_them(entry: SinkEntry, quote: str) -> None:
    environ = CASES[entry.name].environ("http://127.0.0.1:9")
    for name in (*entry.secrets, *entry.optional):
        with pytest.raises(SettingError) as caught:
            sink_class(entry).from_env({**environ, name: f"{quote}{environ.get(name, 'x')}{quote}"})
        assert caught.value.variable == name
        assert caught.value.message.startswith(f"{name} has quotes around it")
        assert not [secret for secret in SECRETS if secret in caught.value.message]


def test_another_server_in_quotes_is_said_to_have_them(entry: SinkEntry) -> None:
    with pytest.raises(SettingError, match="quotes around it"):
        sink_class(entry).from_env({**CASES[entry.name].secrets, CASES[entry.name].url_variable: '"https://a"'})


@pytest.mark.parametrize("value", ["http://:::", "http://me:hunter2@p:99999", "socks5://p:1", "ht tp://foo bar"])
def test_a_proxy_that_can_be_none_is_a_setting_error_of_its_variable(entry: SinkEntry, value: str) -> None:
    with pytest.raises(SettingError) as caught:
        sink_class(entry).from_env({**CASES[entry.name].environ("https://intake.example"), "https_proxy": value})
    assert caught.value.variable == "https_proxy"
    assert caught.value.message.startswith("https_proxy ")
    assert caught.value.message.endswith(f": nothing is sent to {entry.title}.")
    assert "hunter2" not in caught.value.message


PROXIES = {
    "closes": (b"", "closed"),
    "garbage": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ""),
    "login": (
        b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n",
        "put USER:PASSWORD@ before its host in ALL_PROXY",
    ),
    "forbids": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "does not allow intake.example"),
    "bad gateway": (b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n", "may the proxy reach it?"),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", PROXIES)
async def test_a_proxy_in_trouble_is_named_with_its_variable(entry: SinkEntry, scheme: str, kind: str) -> None:
    answer, words = PROXIES[kind]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    proxy = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    environ = CASES[entry.name].environ(f"{scheme}://intake.example")
    sink = sink_class(entry).from_env({**environ, "ALL_PROXY": f"http://{proxy}"})
    with pytest.raises(RetryableError) as caught:
        await sink.send(a_body(sink))
    assert f"he proxy {proxy} (ALL_PROXY)" in str(caught.value)
    if scheme == "https" or kind in ("closes", "login"):
        assert words in str(caught.value)
    await sink.close()
    server.close()


async def test_a_proxy_whose_name_is_none_is_named_with_its_variable(entry: SinkEntry) -> None:
    environ = CASES[entry.name].environ("https://intake.example")
    sink = sink_class(entry).from_env({**environ, "https_proxy": "http://proxy.invalid:1"})
    with pytest.raises(RetryableError) as caught:
        await sink.send(a_body(sink))
    assert str(caught.value) == (
        "The name of the proxy proxy.invalid:1 (https_proxy) could not be resolved: is https_proxy right?"
    )
    await sink.close()


async def test_a_host_that_cannot_be_reached_is_traced_to_its_variable(entry: SinkEntry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for host in ("nowhere.invalid", f"127.0.0.1:{port}"):  # RFC 6761: never a name
        sink = build(entry, f"https://{host}")
        with pytest.raises(RetryableError) as caught:
            await sink.send(a_body(sink))
        assert f"{CASES[entry.name].url_variable} right, and " in str(caught.value)
        assert str(caught.value).count("?") == 1
        await sink.close()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"NEW_RELIC_LICENSE_KEY": f"zz01xx{'0' * 30}NRAL"}, "the region zz in the key in NEW_RELIC_LICENSE_KEY right"),
        ({"DATADOG_TOKEN": SECRET, "DATADOG_REGION": "eu"}, "is eu in DATADOG_REGION right"),
        ({"DATADOG_TOKEN": SECRET}, "resolved: is there a network"),
        ({"NEW_RELIC_LICENSE_KEY": NEW_RELIC_SECRET}, "resolved: is there a network"),
    ],
)  # fmt: skip
def test_a_region_is_named_by_its_variable_when_its_host_has_no_address(environ: dict[str, str], words: str) -> None:
    (entry,) = (entry for entry in REGISTRY if entry.secrets[0] in environ)
    sink: Any = sink_class(entry).from_env(environ)
    assert words in sink.http.way.unresolved()


@pytest.mark.parametrize(
    "value",
    [
        "intake.example", "ftp://intake.example", "http://", "http://a:99999", "http://a:0", "http://[::1", "https://a/b",
        "https://a?b", "https://a#b", "https://me:hunter2@a", "http://a b", "://", "http:/a", "https://caf\u00e9",
    ],
)  # fmt: skip
def test_an_url_that_is_more_or_less_than_a_server_is_a_setting_error(entry: SinkEntry, value: str) -> None:
    if CASES[entry.name].dsn and value == "https://a/b":
        assert build(entry, value).destination == "a"  # a DSN may have a path before its project
        return
    with pytest.raises(SettingError) as caught:
        build(entry, value)
    assert caught.value.variable == CASES[entry.name].url_variable
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("value", ["http://a", "HTTP://a.example:80/", "https://127.0.0.1:8443", "https://[::1]:8443/"])
def test_an_url_is_scheme_host_and_port(entry: SinkEntry, value: str) -> None:
    assert build(entry, value).destination == value.split("/")[2]


async def test_all_replies_of_the_case_decide_what_it_says(sink: Sink, entry: SinkEntry, provider: Provider) -> None:
    case = CASES[entry.name]
    body = a_body(sink)
    for reply in case.accepted:
        provider.reply = reply
        assert await sink.send(body) is None
    expected: list[tuple[tuple[Reply, ...], type[Exception]]] = [
        (case.rejected, RejectedError), (case.refused, RefusedError), (case.retried, RetryableError),
        (case.throttled, RetryableError),
    ]  # fmt: skip
    for replies, error in expected:
        for reply in replies:
            provider.reply = reply
            with pytest.raises(error) as caught:
                await sink.send(body)
            keeps_quiet(caught.value)
            assert getattr(caught.value, "status", reply.status) == reply.status
            assert getattr(caught.value, "variable", entry.secrets[0]) in entry.secrets
            if isinstance(caught.value, RetryableError):
                assert caught.value.throttled == (reply in case.throttled)
    assert len(provider.requests) == sum(map(len, (case.accepted, *(replies for replies, _ in expected))))
    # Always the same, as often as it takes; aiohttp's server has unpacked it.
    assert {data for _, _, data in provider.requests} == {gzip.decompress(body.data)}


async def test_the_secret_is_in_a_header_and_never_in_the_url(sink: Sink, entry: SinkEntry, provider: Provider) -> None:
    await sink.send(a_body(sink))
    url, headers, _ = provider.requests[0]
    sent = " ".join(headers.values())
    assert not [secret for secret in SECRETS if secret in url]
    if entry.name == "cloudwatch":  # signed with, and never sent
        assert AWS_SECRET not in sent
        assert "AKIAIOSFODNN7EXAMPLE" in headers["Authorization"]
    else:
        assert SECRET in sent or NEW_RELIC_SECRET in sent


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_provider_that_wants_fewer_requests_says_how_long_to_wait(
    sink: Sink, entry: SinkEntry, provider: Provider, form: str
) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    provider.headers = {"Retry-After": "20" if form == "seconds" else later}
    for provider.reply in CASES[entry.name].throttled:
        with pytest.raises(RetryableError) as caught:
            await sink.send(a_body(sink))
        assert caught.value.after is not None
        assert 15 <= caught.value.after <= 20


async def test_no_answer_is_to_be_tried_again(entry: SinkEntry, provider: Provider) -> None:
    sink: Any = build(entry, provider.base)
    sink.http.total_timeout = 0.2  # seconds
    provider.delay = 30
    with pytest.raises(RetryableError) as caught:
        await sink.send(a_body(sink))
    keeps_quiet(caught.value)
    provider.delay = 0
    assert await sink.send(a_body(sink)) is None
    await sink.close()


async def test_a_refused_connection_is_to_be_tried_again(entry: SinkEntry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    sink = build(entry, f"http://127.0.0.1:{port}")
    with pytest.raises(RetryableError) as caught:
        await sink.send(a_body(sink))
    keeps_quiet(caught.value)
    await sink.close()


@pytest.mark.parametrize("after_bytes", [0, 100])
async def test_a_reset_connection_is_to_be_tried_again(entry: SinkEntry, after_bytes: int) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if after_bytes:
            await reader.readexactly(after_bytes)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    sink = build(entry, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(RetryableError) as caught:
        await sink.send(a_body(sink))
    keeps_quiet(caught.value)
    await sink.close()
    server.close()


def test_encoding_is_pure(entry: SinkEntry) -> None:
    sink = build(entry, "http://127.0.0.1:9")
    events = Decoder().decode(Batch(1, [LINE, b"text", b""] * 40, 1, [(0, NOW_MS * 10**6)], {}))
    encode, other = sink.encoder(FACTS), sink.encoder(FACTS)
    first = encode([(events, 0, events.count)], NOW_MS)
    again = encode([(events, 0, events.count)], NOW_MS)
    assert first.data == again.data == other([(events, 0, events.count)], NOW_MS).data
    assert (first.size, first.count, first.target, first.moved, first.truncated) == (
        again.size, events.count, again.target, 0, 0,
    )  # fmt: skip
