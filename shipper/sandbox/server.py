"""The sandbox as an HTTP server: intakes, page, JSON for tests, command line.

| path | what |
| --- | --- |
| what an intake claims | that provider's intake, for any sender on any network: no Host, no Origin is looked at |
| GET / | the page, with page.css and page.js |
| GET /sandbox/events?after=ID&limit=N&newest=1&provider=&run= | what arrived, as the providers show it |
| GET /sandbox/summary | counters, runs and streams with their gaps and repeats, the last refusals, faults |
| POST /sandbox/reset | forgets all of it, and the faults |
| POST /sandbox/fault | {"provider": "datadog", "status": 503, "count": 3}: see faults.py |

The page and /sandbox/ answer only when the Host header is a name that nobody else can point here: a web site that
resolves to 127.0.0.1 (DNS rebinding) could read the logs otherwise. On loopback that is localhost and loopback
addresses; with `--host` of another kind also addresses, that host, and names without a dot (a compose service's),
which no public name server can give. What changes something also wants no Origin, or its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from shipper.lines.deep import json_text
from shipper.sandbox.cloudwatch import CloudWatch
from shipper.sandbox.datadog import Datadog
from shipper.sandbox.faults import Fault, Faults
from shipper.sandbox.intake import Answer, BodyError, Intake, RefusedError, Request, TooLargeError, decompress
from shipper.sandbox.newrelic import NewRelic
from shipper.sandbox.sentry import Sentry
from shipper.sandbox.store import MAX_BYTES, MAX_EVENTS, Store, now_ms

INTAKES: tuple[type[Intake], ...] = (Datadog, CloudWatch, Sentry, NewRelic)
"""One entry a provider. The first that claims a request gets it."""

MAX_LIMIT = 10_000
"""Events in one answer of /sandbox/events: some 10 MB, 0.1 s of work."""

FAULT = "fault of the sandbox"
"""How a refusal begins that no provider would have answered."""

MAX_ORDER_BYTES = 64 * 1024
"""Body of a POST to /sandbox/: an order is a line of JSON."""

READ_BYTES = 2**20
"""Buffer of a connection: most bodies fit, so that reading one pauses nobody."""

LINGER_TIME = 10.0
"""Seconds that a refused body is still read for, so that its sender gets to see the answer."""

SHUTDOWN_TIME = 0.5
"""Seconds for requests that are under way when the sandbox ends."""

MAX_PLAIN_BYTES = 2**26
"""Of a body that is looked through for a fault's `containing`."""

PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}

PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]


class Sandbox:
    """A sandbox: its intakes, what arrived, what is to go wrong. `url` and `port` are there once it listens."""

    def __init__(self, host: str = "127.0.0.1", *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self.host = host or "0.0.0.0"  # noqa: S104 (an empty name stands for every address, as for a socket)
        self.port = 0
        self.url = ""
        self.intakes = tuple(intake() for intake in INTAKES)
        self.store = Store(self.intakes, max_events, max_bytes)
        self.faults = Faults(
            {intake.name: intake.fault_fields for intake in self.intakes},
            {intake.name: intake.operations for intake in self.intakes},
        )
        self._page = {path: (Path(__file__).parent / "page" / name).read_bytes() for path, (name, _) in PAGE.items()}
        self._runner: web.AppRunner | None = None

    async def listen(self, port: int) -> None:
        """Open the port; 0 takes a free one. Raises OSError, OverflowError, UnicodeError (a host that is no name)."""
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            auto_decompress=False,  # a bomb is bounded and a broken body refused by the intake itself
            lingering_time=LINGER_TIME,
            read_bufsize=READ_BYTES,
            shutdown_timeout=SHUTDOWN_TIME,
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, port).start()
        except BaseException:
            await self.close()
            raise
        address = self._runner.addresses[0]
        self.port = int(address[1])
        self.url = f"http://{_for_url(self.host)}:{self.port}"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def fault(self, provider: str, **order: object) -> None:
        """What POST /sandbox/fault does, for tests in this process. Raises ValueError."""
        self.faults.set(*self.faults.parse({"provider": provider, **order}))

    def _application(self) -> web.Application:
        application = web.Application()
        for path in PAGE:
            application.router.add_get(path, self._guarded(self._serve_page))
        application.router.add_get("/sandbox/events", self._guarded(self._events))
        application.router.add_get("/sandbox/summary", self._guarded(self._summary))
        application.router.add_post("/sandbox/reset", self._guarded(self._reset))
        application.router.add_post("/sandbox/fault", self._guarded(self._fault))
        application.router.add_route("*", "/{path:.*}", self._intake)
        return application

    # The intakes

    async def _intake(self, request: web.Request) -> web.StreamResponse:
        bare = Request(
            request.method,
            _clean(request.path),
            {_clean(name): _clean(value) for name, value in request.query.items()},
            {_clean(name.lower()): _clean(value) for name, value in request.headers.items()},
            b"",
            now_ms(),
        )
        for intake in self.intakes:
            if intake.claims(bare):
                break
        else:
            return _json({"error": f"No provider's intake has the path {bare.path}."}, 404)
        hidden = intake.without_keys(bare)
        try:
            body = await request.clone(client_max_size=intake.max_wire_bytes).read()
        except web.HTTPRequestEntityTooLarge:
            return self._refuse(intake, hidden, intake.refusal(413, "Payload is too large"), "Payload is too large")
        except (ConnectionError, web.RequestPayloadError):
            return self._refuse(intake, hidden, intake.refusal(400), "The connection broke off within the body")
        hidden = _with_body(hidden, body)
        fault = self.faults.next(intake.name, intake.operation(bare), lambda: _plain(hidden))
        if fault is not None:
            answer = await self._go_wrong(request, intake, hidden, fault)
            if answer is not None:
                return answer
        try:
            intake.admit(bare)
            keyed = _with_body(bare, body)
            unpacked = intake.unpack(hidden, intake.verify(keyed))
            settled = intake.settle(keyed, unpacked, fault)
            self.store.take(intake, hidden, unpacked)
        except RefusedError as refused:
            return self._refuse(intake, hidden, refused.answer, refused.reason, refused.lacks)
        except Exception as error:  # noqa: BLE001 (a body is whatever anybody sent; the page says that this is ours)
            return self._refuse(intake, hidden, intake.refusal(500), f"{FAULT} ({type(error).__name__})")
        return _answer(settled)

    async def _go_wrong(
        self, request: web.Request, intake: Intake, hidden: Request, fault: Fault
    ) -> web.StreamResponse | None:
        """The answer that the fault gives; None when it only makes the answer late."""
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.down:
            self.store.refuse(intake, hidden, 0, "connection broken off on request")
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)  # goes nowhere
        if fault.status is None:
            return None
        refusal = intake.refusal(fault.status)
        asked = "asked for" if refusal.status == fault.status else f"asked for as {fault.status}"
        answer = self._refuse(intake, hidden, refusal, asked)
        if fault.retry_after is not None:
            answer.headers["Retry-After"] = fault.retry_after
        if fault.rate_limits is not None:
            answer.headers["X-Sentry-Rate-Limits"] = fault.rate_limits
        return answer

    def _refuse(
        self, intake: Intake, hidden: Request, answer: Answer, reason: str, lacks: str | None = None
    ) -> web.Response:
        self.store.refuse(intake, hidden, answer.status, reason, lacks)
        return _answer(answer)

    # The page and its JSON

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if not self._own_host(request.headers.get("Host", "")):
                return _json({"error": "Not answered under that name; use the address that it was started on."}, 403)
            if request.method == "POST" and not _own_origin(request):
                return _json({"error": "Another site's page may not do this."}, 403)
            return await handler(request)

        return guarded

    def _own_host(self, header: str) -> bool:
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name == self.host.lower():
            return True
        local = _is_loopback(self.host)
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return not local and bool(name) and "." not in name
        return address.is_loopback or not local

    async def _serve_page(self, request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=self._page[request.path],
            content_type=PAGE[request.path][1],
            charset="utf-8",
            headers=PAGE_HEADERS,
        )

    async def _events(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        try:
            after, limit = int(query.get("after") or 0), int(query.get("limit") or 1000)
        except ValueError:
            return _json({"error": "after and limit are whole numbers."}, 400)
        events = self.store.events(
            after=max(0, after),
            limit=max(1, min(limit, MAX_LIMIT)),
            newest=query.get("newest") in ("1", "true"),
            provider=query.get("provider") or None,
            run=query.get("run") or None,
        )
        return _json(events)

    async def _summary(self, request: web.Request) -> web.StreamResponse:
        settings = {intake.name: intake.settings(self.url) for intake in self.intakes}
        return _json({**self.store.summary(), "faults": self.faults.summary(), "settings": settings})

    async def _reset(self, request: web.Request) -> web.StreamResponse:
        self.store.reset()
        self.faults.clear()
        for intake in self.intakes:
            intake.reset()
        return _json({"epoch": self.store.epoch})

    async def _fault(self, request: web.Request) -> web.StreamResponse:
        body = await request.content.read(MAX_ORDER_BYTES)
        try:
            provider, fault = self.faults.parse(orjson.loads(body))
        except orjson.JSONDecodeError:
            return _json({"error": "The body is not JSON."}, 400)
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        self.faults.set(provider, fault)
        return _json({"faults": self.faults.summary()})


def _clean(text: str) -> str:
    """The text without what no JSON can hold: aiohttp leaves bytes that are not UTF-8 as lone surrogates."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _plain(request: Request) -> bytes:
    """The body decompressed; nothing where that cannot be done, which the intake itself answers."""
    try:
        return decompress(request.body, request.headers.get("content-encoding", ""), MAX_PLAIN_BYTES)
    except (BodyError, TooLargeError, LookupError):
        return b""


def _with_body(request: Request, body: bytes) -> Request:
    return Request(request.method, request.path, request.query, request.headers, body, request.received_ms)


def _answer(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status, body=answer.body, content_type=answer.content_type, headers=dict(answer.headers)
    )


def _json(value: object, status: int = 200) -> web.Response:
    body = json_text(value).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=PAGE_HEADERS)


def _own_origin(request: web.Request) -> bool:
    origin = request.headers.get("Origin")
    if origin is None:
        return request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
    return origin == f"http://{request.headers.get('Host', '')}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_any(host: str) -> bool:
    """True where it listens on every address of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _for_url(host: str) -> str:
    """The host as a sender can write it: where it listens on every address, the one that others know it by."""
    if _is_any(host):
        host = _own_address(host)
    return f"[{host}]" if ":" in host else host


def _own_address(host: str) -> str:
    """The address of this machine that packets leave by, else loopback. Asks for a route only: nothing is sent."""
    family, elsewhere, loopback = (
        (socket.AF_INET6, "2001:db8::1", "::1") if ":" in host else (socket.AF_INET, "192.0.2.1", "127.0.0.1")
    )
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as route:
            route.connect((elsewhere, 9))  # an address of the documentation's (RFC 5737, RFC 3849)
            return str(route.getsockname()[0])
    except OSError:
        return loopback


@contextlib.asynccontextmanager
async def running(
    host: str = "127.0.0.1", port: int = 0, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES
) -> AsyncIterator[Sandbox]:
    """A sandbox in this process, for tests: `sandbox.url`, `sandbox.store`, `sandbox.fault(…)`."""
    sandbox = Sandbox(host, max_events=max_events, max_bytes=max_bytes)
    await sandbox.listen(port)
    try:
        yield sandbox
    finally:
        await sandbox.close()


@contextlib.contextmanager
def running_in_thread(
    host: str = "127.0.0.1", port: int = 0, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES
) -> Iterator[Sandbox]:
    """The same for tests without an event loop of their own: the sandbox runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sandbox", daemon=True)
    thread.start()
    sandbox = Sandbox(host, max_events=max_events, max_bytes=max_bytes)
    try:
        asyncio.run_coroutine_threadsafe(sandbox.listen(port), loop).result()
        yield sandbox
    finally:
        asyncio.run_coroutine_threadsafe(sandbox.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# The command

DESCRIPTION = "The providers' intakes on this machine, as strict as the real ones, with a page that shows what arrives."

EPILOG = """\
example:
  shipper sandbox                      # then open http://127.0.0.1:8080
and in another terminal, for the providers that are wanted:
{settings}
  shipper run -- python agent.py start # its lines appear on the page

Credentials of the right shape are accepted; CloudWatch's above are those of AWS's documentation, and requests that they
sign are verified in full. Nothing leaves this machine, nothing is written to disk. Ctrl-C ends it.
"""


def _exports(url: str) -> list[str]:
    """A line a provider, for a shell."""
    return [
        "export " + " ".join(f"{name}={value}" for name, value in intake().settings(url).items()) for intake in INTAKES
    ]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="shipper sandbox",
        description=DESCRIPTION,
        epilog=EPILOG.format(settings="\n".join(f"  {line}" for line in _exports("http://127.0.0.1:8080"))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=8080, help="port to listen on; 0: a free one (default: 8080)")
    try:
        options = parser.parse_args(list(argv))
    except SystemExit as end:
        return int(end.code or 0)
    logging.getLogger("aiohttp").addHandler(logging.NullHandler())  # no traceback reaches a user
    logging.getLogger("asyncio").addHandler(logging.NullHandler())
    return asyncio.run(_serve(options.host, options.port))


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: a whole number from 0 to 65535")
    return port


async def _serve(host: str, port: int) -> int:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    sandbox = Sandbox(host)
    try:
        await sandbox.listen(port)
    except (OSError, OverflowError, UnicodeError) as error:
        _say(_why_not(host, port, error))
        return 1
    # What is there now stays: keep the collector from looking through it again and again in a flood.
    gc.collect()
    gc.freeze()
    warning = "" if _is_loopback(host) else "; whoever reaches this machine can read what arrives"
    on = f"every address of this machine, one of them {sandbox.url}" if _is_any(sandbox.host) else sandbox.url
    lines = [f"shipper sandbox: listening on {on}{warning}", *_exports(sandbox.url)]
    print("\n  ".join(lines), flush=True)
    await ended.wait()
    await sandbox.close()
    return 0


def _why_not(host: str, port: int, error: OSError | OverflowError | UnicodeError) -> str:
    if not isinstance(error, OSError):
        return f"{host} is neither an address nor a name that a host can have; choose another with --host."
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use already; choose another with --port, or --port 0 for a free one."
    if error.errno == errno.EACCES:
        return f"port {port} may not be opened by this user; choose one above 1023 with --port."
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; choose another with --host."
    return f"cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}."


def _say(text: str) -> None:
    print(f"shipper sandbox: {text}", file=sys.stderr, flush=True)
