"""One sink, tried: does the name resolve, is TLS good, is a test line accepted. Every outcome is a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shipper.lines.events import Events
from shipper.sinks import certificates
from shipper.sinks.base import RefusedError, RejectedError, RetryableError, SettingError
from shipper.sinks.way import Way, proxy_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shipper.config.registry import SinkEntry
    from shipper.journal.facts import Facts
    from shipper.sinks.base import Acceptance, Sink
    from shipper.sinks.way import Proxy

TIMEOUT = 15.0
"""Seconds for all that is asked of one sink: a name server that is away takes up to 10 (resolv.conf(5): two attempts of
5 s), a connection 10."""
SOON_DAYS = 14
"""A certificate that ends within so many days is worth a word."""

_WAITING = "Until it takes lines they wait in the journal."


class Reach:
    """How far one gets without a request.

    ``addresses`` are of the server, or of the proxy in front of it. ``tls`` ("TLSv1.3") and ``valid_until`` (seconds
    since 1970) stay empty with a proxy or without TLS.
    """

    def __init__(self, encrypted: bool, proxy: Proxy | None) -> None:
        self.encrypted = encrypted
        self.proxy = proxy
        self.addresses: list[str] = []
        self.tls = ""
        self.valid_until: float | None = None


class Probe:
    """What came out for one enabled sink. ``message`` is the whole sentence; ``variable`` the one to look at, or ""."""

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title
        self.destination = ""
        self.place = ""
        self.reach: Reach | None = None
        self.accepted = False
        self.seconds: float | None = None
        self.message = ""
        self.variable = ""
        self.timed_out = False

    def fail(self, message: str, variable: str = "") -> None:
        self.message = message
        self.variable = variable


async def probe(entry: SinkEntry, environ: Mapping[str, str], facts: Facts, timeout: float = TIMEOUT) -> Probe:  # noqa: ASYNC109
    """Never raises for anything that a sink or a network does; ends within ``timeout`` seconds and a moment."""
    found = Probe(entry.name, entry.title)
    try:
        sink = _build(entry, environ)
    except SettingError as error:
        found.fail(error.message, error.variable)
        return found
    except Exception as error:  # noqa: BLE001  a library that is missing or broken: the other sinks are still tried
        found.fail(f"{entry.title} cannot be used here ({_named(error)}): nothing is sent to it.")
        return found
    found.destination, found.variable = sink.destination, sink.variable
    try:
        found.place = sink.place(facts)
        async with asyncio.timeout(timeout):
            found.reach = await reach(sink.url, environ)
            await _send(sink, facts, found)
    except TimeoutError:
        found.timed_out = True
        way = Way(sink.url, environ, entry.title)
        found.fail(f"{way.no_answer(timeout).rstrip('.')}: {way.doubt()} {_WAITING}")
    except Exception as error:  # noqa: BLE001  a fault of ours: said, without its message, which may hold anything
        found.fail(f"Trying {entry.title} failed unexpectedly ({_named(error)}).")
    finally:
        with contextlib.suppress(Exception):
            await sink.close()
    return found


def _build(entry: SinkEntry, environ: Mapping[str, str]) -> Sink:
    module, _, name = entry.factory.partition(":")
    sink: Sink = getattr(importlib.import_module(module), name).from_env(environ)
    return sink


async def reach(url: str, environ: Mapping[str, str]) -> Reach:
    """Resolves the name that is connected to and, where nothing stands between, shakes hands."""
    proxy = proxy_for(url, environ)
    found = Reach(url.startswith("https:"), proxy)
    parts = urlsplit(proxy.url if proxy else url)
    host = parts.hostname or ""
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, ValueError):
        return found
    found.addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
    context = certificates.context() if found.encrypted and not proxy else None
    await _connect(found, host, port, context)
    return found


async def _connect(found: Reach, host: str, port: int, context: ssl.SSLContext | None) -> None:
    """TLS is verified as `sinks.http` verifies it."""
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError:  # of TLS too; the request after it fares no better, and says so
        return
    try:
        session: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        if session is None:
            return
        found.tls = session.version() or ""
        until = (session.getpeercert() or {}).get("notAfter")
        if isinstance(until, str):
            found.valid_until = ssl.cert_time_to_seconds(until)
    finally:
        writer.transport.abort()  # an orderly end would wait for the other side


async def _send(sink: Sink, facts: Facts, found: Probe) -> None:
    now_ms = time.time_ns() // 1_000_000
    text = f"shipper check: {sink.title} takes lines with the secret in {sink.variable}; this one is a test."
    events = Events.notice("stderr", now_ms, "info", text, {})
    started = time.monotonic()
    try:
        await sink.open()
        acceptance = await sink.send(sink.encoder(facts)([(events, 0, 1)], now_ms))
    except RetryableError as error:
        found.fail(f"{error} {_WAITING}")
    except RejectedError as error:
        found.fail(f"{error} That was a test line, so no line may get through: please report this.")
    except RefusedError as error:
        found.fail(str(error), error.variable)
    else:
        found.seconds = time.monotonic() - started
        _settle(acceptance, found)


def _settle(acceptance: Acceptance | None, found: Probe) -> None:
    if acceptance is not None and acceptance.rejected:
        found.fail(f"{found.destination} answered, but did not take the test line: {acceptance.rejected[0][2]}.")
        return
    found.accepted = True
    found.message = f"accepted a test line in {found.seconds:.2f} s{_how(found.reach)}."


def _how(reached: Reach | None) -> str:
    """What the connection was like, for one that worked."""
    if reached is None:
        return ""
    through = f", through {reached.proxy}" if reached.proxy else ""
    if not reached.encrypted:
        return f"{through}, not encrypted"
    if reached.proxy or not reached.tls:
        return f"{through}, TLS verified"
    version = reached.tls.replace("TLSv", "TLS ")
    if reached.valid_until is None:
        return f", {version} verified"
    day = time.strftime("%Y-%m-%d", time.gmtime(reached.valid_until))
    days = (reached.valid_until - time.time()) / 86_400
    soon = f", which is in {max(days, 0):.0f} days" if days < SOON_DAYS else ""
    return f", {version} verified, certificate valid until {day}{soon}"


def _named(error: BaseException) -> str:
    """Its type, and what names no secret: the module that is missing, or what the system says."""
    if isinstance(error, ImportError):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__
