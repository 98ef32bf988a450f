"""One HTTP client for all sinks: kept connections, verified TLS, time-outs; every failure a RetryableError in words.

- TLS is verified; whose certificates are trusted is `certificates`'. There is no way to turn that off.
- The proxy and every sentence are `way`'s. aiohttp's own trust_env is not used: it would read the agent's ~/.netrc at
  every request.
- No cookies, no redirects (a log intake that redirects is something else), at most 64 KiB of an answer are read.
- A POST is never sent again here: what the caller cannot tell, whether it arrived, is the sender's to decide.
"""

from __future__ import annotations

import email.utils
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from yarl import URL

from shipper import __version__
from shipper.sinks import certificates
from shipper.sinks.base import RetryableError
from shipper.sinks.way import Way

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_TIMEOUT = 10.0
"""Seconds for name, connection and TLS together."""
TOTAL_TIMEOUT = 30.0
"""Seconds for a request, answer included."""
MAX_ANSWER_BYTES = 65_536
MAX_RETRY_AFTER = 86_400.0
"""Seconds; whoever asks for more gets a day."""
CLOCK_SECONDS = 300.0
"""A clock that is less off than this is right enough: no provider turns a line away for it, and AWS, which looks at
clocks most closely, takes a signature that is so far off."""
CLOCK_SET_SECONDS = 10.0
"""A clock that NTP slews gets as far in 5 hours (500 ppm, adjtimex(2))."""


class Answer(NamedTuple):
    """``after``: seconds that Retry-After asks for, from now."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    after: float | None


class Http:
    """Requests to one server. ``base`` is scheme, host and port without a slash at the end; ``title`` and ``origin``
    are `Way`'s, which may raise SettingError.

    Time-outs are in seconds and count from `open` on. ``sent_bytes``: bodies handed to the network, whatever became of
    them.
    """

    def __init__(
        self,
        base: str,
        environ: Mapping[str, str],
        *,
        title: str = "",
        origin: str = "",
        connect_timeout: float = CONNECT_TIMEOUT,
        total_timeout: float = TOTAL_TIMEOUT,
    ) -> None:
        self.base = base
        self.way = Way(base, environ, title, origin)
        self.host = self.way.host
        self.sent_bytes = 0
        self._clock_off = 0.0
        self._clock_base = 0.0  # how far wall time and monotonic time were apart then
        self._proxy = self.way.proxy.url if self.way.proxy else None
        self.connect_timeout = connect_timeout
        self.total_timeout = total_timeout
        self._session: aiohttp.ClientSession | None = None
        self._targets: dict[str, URL] = {}

    async def open(self) -> None:
        """In the event loop that will make the requests. Connects nowhere yet."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, ssl=self._trust()),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self.total_timeout, connect=self.connect_timeout),
                headers={"User-Agent": f"agent-shipper/{__version__}"},
                auto_decompress=True,
            )

    def _trust(self) -> ssl.SSLContext | bool:
        """The context, where anything on the way is encrypted; else none is made."""
        encrypted = self.base.startswith("https:") or (self._proxy or "").startswith("https:")
        return certificates.context() if encrypted else True

    async def close(self) -> None:
        """May be called twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, target: str, data: bytes, headers: Mapping[str, str]) -> Answer:
        """The server's answer, whatever its status but a redirect. ``target``: path and query, already encoded.

        Raises RetryableError when there is no answer, or a redirect.
        """
        await self.open()
        assert self._session is not None  # noqa: S101 (for mypy)
        url = self._targets.get(target)
        if url is None:
            if len(self._targets) > 100:  # a source a run; adopted runs are few
                self._targets.clear()
            url = self._targets[target] = URL(self.base + target, encoded=True)
        self.sent_bytes += len(data)
        begun = time.monotonic()
        try:
            async with self._session.post(
                url, data=data, headers=headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                answer = await _answer(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            message = self._words(error)
            maybe_taken = not isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
            # the original may show headers or a proxy's password
            raise RetryableError(message, maybe_taken=maybe_taken) from None
        if 300 <= answer.status < 400:
            raise RetryableError(self.way.redirected(answer.status), answer.after)
        if self.way.may_be_the_proxys(answer.status):
            raise RetryableError(self.way.refused_on_the_way(answer.status), answer.after)
        if answer.status < 300:  # else it may be of anybody on the way
            self._compare_clocks(answer.headers, time.monotonic() - begun)
        return answer

    @property
    def clock_off(self) -> float:
        """Seconds that this machine's clock is ahead of the server's, by the date of its last answers; 0 while they are
        less than `CLOCK_SECONDS` apart, and once ours was set: right, as far as is known."""
        if self._clock_off and abs(time.time() - time.monotonic() - self._clock_base) > CLOCK_SET_SECONDS:
            self._clock_off = 0.0
        return self._clock_off

    def _compare_clocks(self, headers: Mapping[str, str], seconds: float) -> None:
        """``seconds``: that the request took; for so long the answer may have waited here, in a frozen container."""
        sent = _date(headers.get("Date", ""))
        if sent is None:
            return
        off = time.time() - sent - 0.5  # it names a whole second, which had begun
        if abs(off - self.clock_off) > CLOCK_SECONDS + seconds:
            self._clock_off = off if abs(off) > CLOCK_SECONDS else 0.0
            self._clock_base = time.time() - time.monotonic()

    def _words(self, error: BaseException) -> str:
        way = self.way
        if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.CertificateError)):
            why = getattr(error, "certificate_error", error)
            of_proxy = getattr(error, "host", way.host_name) != way.host_name
            return way.not_verified(
                getattr(why, "verify_message", ""), getattr(why, "verify_code", 0), of_proxy=of_proxy
            )
        if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
            return way.no_tls()
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return way.not_tunnelled(error.status)
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return way.unresolved()
        if isinstance(error, aiohttp.ClientConnectorError):
            if isinstance(error.os_error, socket.gaierror):
                return way.unresolved()
            return way.unreachable(os.strerror(error.os_error.errno) if error.os_error.errno else "no connection")
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return way.not_connected(self.connect_timeout)
        if isinstance(error, TimeoutError):
            return way.no_answer(self.total_timeout)
        if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)):
            return way.closed()
        if isinstance(error, aiohttp.ClientPayloadError):
            return way.broken_off()
        return way.no_http(type(error).__name__)


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    body = b""
    while len(body) < MAX_ANSWER_BYTES:
        chunk = await response.content.read(MAX_ANSWER_BYTES - len(body))
        if not chunk:
            break
        body += chunk
    else:
        response.close()  # the rest is not waited for, so the connection cannot be kept
    return Answer(response.status, response.headers, body, retry_after(response.headers, time.time()))


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds from ``now`` (wall time) that Retry-After asks for, in either of its forms; None when it says nothing.

    A date is held against the answer's own Date where there is one, so that a wrong clock here does no harm.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_RETRY_AFTER)
    moment = _date(value)
    if moment is None:
        return None
    sent = _date(headers.get("Date", ""))
    return min(max(moment - (now if sent is None else sent), 0.0), MAX_RETRY_AFTER)


def _date(value: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
