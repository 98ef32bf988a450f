"""One HTTP client for all sinks: kept connections, verified TLS, time-outs; every failure a RetryableError in words.

- TLS is verified against the system's certificates (OpenSSL's defaults; SSL_CERT_FILE and SSL_CERT_DIR count). There is
  no way to turn that off.
- HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY (names and the names below them, `*`) count, in either case, the lower
  one first, as curl has it. aiohttp's own trust_env is not used: it would read the agent's ~/.netrc at every request.
- No cookies, no redirects (a log intake that redirects is something else), at most 64 KiB of an answer are read.
- A POST is never sent again here: what the caller cannot tell, whether it arrived, is the sender's to decide.
"""

from __future__ import annotations

import email.utils
import os
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from shipper import __version__
from shipper.sinks.base import RetryableError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECT_TIMEOUT = 10.0
"""Seconds for name, connection and TLS together."""
TOTAL_TIMEOUT = 30.0
"""Seconds for a request, answer included."""
MAX_ANSWER_BYTES = 65_536
MAX_RETRY_AFTER = 86_400.0
"""Seconds; whoever asks for more gets a day."""


class Answer(NamedTuple):
    """``after``: seconds that Retry-After asks for, from now."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    after: float | None


class Http:
    """Requests to one server. ``base`` is scheme, host and port without a slash at the end.

    Time-outs are in seconds and count from `open` on. ``sent_bytes``: bodies handed to the network, whatever became of
    them.
    """

    def __init__(
        self,
        base: str,
        environ: Mapping[str, str],
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        total_timeout: float = TOTAL_TIMEOUT,
    ) -> None:
        self.base = base
        self.host = urlsplit(base).netloc
        self.sent_bytes = 0
        self._proxy = proxy_for(base, environ)
        self.connect_timeout = connect_timeout
        self.total_timeout = total_timeout
        self._session: aiohttp.ClientSession | None = None
        self._targets: dict[str, URL] = {}

    async def open(self) -> None:
        """In the event loop that will make the requests. Connects nowhere yet."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self.total_timeout, connect=self.connect_timeout),
                headers={"User-Agent": f"agent-shipper/{__version__}"},
                auto_decompress=True,
            )

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
        try:
            async with self._session.post(
                url, data=data, headers=headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                answer = await _answer(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            message = self._words(error)
            raise RetryableError(message) from None  # the original may show headers or a proxy's password
        if 300 <= answer.status < 400:
            raise RetryableError(
                f"{self.host} answered with a redirect ({answer.status}), which is not followed: is it the intake, "
                "or a proxy that wants a login?",
                answer.after,
            )
        return answer

    def _words(self, error: BaseException) -> str:
        host = self.host
        where = f"the proxy {_bare(self._proxy)}" if self._proxy else host
        if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.CertificateError)):
            why = getattr(error, "certificate_error", error)
            reason = getattr(why, "verify_message", "") or "it does not verify"
            return f"The certificate of {host} was not verified ({reason}): nothing was sent to it."
        if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
            return f"No TLS connection to {host} came about: nothing was sent to it."
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return f"{where} refused to connect to {host} (status {error.status})."
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return f"The name of {where} could not be resolved."
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = os.strerror(error.os_error.errno) if error.os_error.errno else "no connection"
            return f"{where} could not be reached ({reason})."
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return f"No connection to {where} within {self.connect_timeout:g} s."
        if isinstance(error, TimeoutError):
            return f"{host} did not answer within {self.total_timeout:g} s."
        if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)):
            return f"{host} closed the connection before it answered."
        if isinstance(error, aiohttp.ClientPayloadError):
            return f"{host} broke off in the middle of its answer."
        return f"{host} sent what is no HTTP answer ({type(error).__name__})."


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


def proxy_for(base: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for this server, or None."""
    url = urlsplit(base)
    for name in (f"{url.scheme}_proxy", "all_proxy"):
        # HTTP_PROXY in upper case counts too: unlike a CGI script, nothing sets our environment from a request.
        proxy = (environ.get(name) or environ.get(name.upper()) or "").strip()
        if proxy:
            break
    else:
        return None
    host = (url.hostname or "").lower()
    for exception in (environ.get("no_proxy") or environ.get("NO_PROXY") or "").lower().split(","):
        name = exception.strip().removeprefix("*").removeprefix(".")
        if exception.strip() == "*" or (name and f".{host}".endswith((f".{name}", f".{name.partition(':')[0]}"))):
            return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _bare(url: str | None) -> str:
    """Scheme, host and port: a proxy's address may carry a password."""
    parts = urlsplit(url or "")
    return parts.netloc.rpartition("@")[2]
