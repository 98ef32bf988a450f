"""The way to a server: the proxy that the environment names, and what went wrong on the way, in words.

One set of sentences for all sinks and `shipper check`: each names the host, the proxy that was used with the variable
that it came from, and what to look at. A proxy's address is shown as host and port: it may carry a password.

HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY (names and the names below them, `*`) count, in either case, the lower
one first, as curl has it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shipper.config import in_quotes
from shipper.config.problems import quoted
from shipper.sinks.base import SettingError
from shipper.sinks.certificates import none_found

if TYPE_CHECKING:
    from collections.abc import Mapping

_VISIBLE = re.compile(r"[\x21-\x7e]+", re.ASCII)
_HOST = re.compile(r"[a-z0-9_.:%-]+", re.ASCII)

# OpenSSL's x509_vfy.h: X509_V_ERR_CERT_NOT_YET_VALID, _HAS_EXPIRED; _HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
_TIME, _NAME = (9, 10), (62, 64)


class Proxy:
    """``url``: scheme, login, host and port; ``variable``: where it comes from; ``address``: host and port alone."""

    __slots__ = ("address", "login", "url", "variable")

    def __init__(self, url: str, variable: str) -> None:
        self.url = url
        self.variable = variable
        login, _, self.address = urlsplit(url).netloc.rpartition("@")
        self.login = bool(login)

    def __str__(self) -> str:
        return f"the proxy {self.address} ({self.variable})"

    __repr__ = __str__


def proxy_for(base: str, environ: Mapping[str, str], title: str = "") -> Proxy | None:
    """The proxy that the environment names for this server, or None. ``title``: whom a SettingError says gets nothing.

    Raises SettingError where it names what cannot be a proxy.
    """
    url = urlsplit(base)
    host = (url.hostname or "").lower()
    # HTTP_PROXY in upper case counts too: unlike a CGI script, nothing sets our environment from a request.
    names = [variable for name in (f"{url.scheme}_proxy", "all_proxy") for variable in (name, name.upper())]
    found = next((name for name in names if environ.get(name, "").strip()), None)
    if found is None:
        return None
    for exception in (environ.get("no_proxy") or environ.get("NO_PROXY") or "").lower().split(","):
        name = exception.strip().removeprefix("*").removeprefix(".")
        if exception.strip() == "*" or (name and f".{host}".endswith((f".{name}", f".{name.partition(':')[0]}"))):
            return None
    return _proxy(found, environ[found].strip(), title or host)


def _proxy(variable: str, value: str, title: str) -> Proxy:
    value = value if "://" in value else f"http://{value}"
    scheme = server = ""
    whole = False
    try:
        url = urlsplit(value)
        scheme, server = url.scheme, url.netloc
        whole = bool(
            _VISIBLE.fullmatch(value)
            and _HOST.fullmatch(url.hostname or "")
            and url.port != 0
            and not url.netloc.endswith(":")
            and "@" not in url.path + url.query + url.fragment  # a password with a / in it
        )
    except ValueError:  # a port that is none, brackets that do not match
        pass
    if whole and scheme in ("http", "https"):
        return Proxy(f"{scheme}://{server}", variable)
    if in_quotes(value.removeprefix("http://")):
        why = "has quotes around it"
    elif whole:
        why = f"names a proxy of the kind {scheme}, allowed are http and https"
    else:
        why = (
            "is no address of a proxy such as http://proxy.example:3128 (it is not shown, for it may hold a password, "
            "whose / ? # @ are written %2F %3F %23 %40)"
        )
    raise SettingError(variable, f"{variable} {why}: nothing is sent to {title}.")


class Way:
    """To one server. ``base``: its scheme, host and port; ``title``: the provider's; ``origin``: what names the host,
    to be asked about ("DATADOG_REGION"), "" where nothing could be wrong with it. Raises SettingError.

    The methods are sentences; none of them shows a secret.
    """

    def __init__(self, base: str, environ: Mapping[str, str], title: str = "", origin: str = "") -> None:
        url = urlsplit(base)
        self.host = url.netloc
        self.encrypted = url.scheme == "https"
        self.proxy = proxy_for(base, environ, title)
        self.host_name = url.hostname or ""
        self._origin = origin
        self._trust = {name: environ.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}

    @property
    def through(self) -> str:
        return f" through {self.proxy}" if self.proxy else ""

    def unresolved(self) -> str:
        if self.proxy:
            return f"The name of {self.proxy} could not be resolved: is {self.proxy.variable} right?"
        doubt = f"is {self._origin} right, and " if self._origin else ""
        return f"The name {self.host_name} could not be resolved: {doubt}is there a network, and its name server?"

    def unreachable(self, reason: str) -> str:
        """``reason``: the system's."""
        where = _capital(str(self.proxy)) if self.proxy else self.host
        return f"{where} could not be reached ({reason}): {self.doubt()}"

    def not_connected(self, seconds: float) -> str:
        return f"No connection to {self.proxy or self.host} within {seconds:g} s: {self.doubt()}"

    def doubt(self) -> str:
        """What to look at when there is no connection."""
        if self.proxy:
            return f"is {self.proxy.variable} right, and does the proxy run?"
        doubt = f"is {self._origin} right, and " if self._origin else ""
        variable = "HTTPS_PROXY" if self.encrypted else "HTTP_PROXY"
        return f"{doubt}does a firewall, a network policy or a missing {variable} stand in the way?"

    def not_tunnelled(self, status: int) -> str:
        """The proxy's own answer instead of a connection."""
        assert self.proxy is not None  # noqa: S101 (for mypy)
        where = _capital(str(self.proxy))
        said = f"(status {status})"
        if status == 407 and self.proxy.login:
            return f"{where} does not take the user and password {said}: mend them in {self.proxy.variable}."
        if status == 407:
            return f"{where} wants a login {said}: put USER:PASSWORD@ before its host in {self.proxy.variable}."
        if status in (401, 403):
            remedy = f"allow it there, or name it in NO_PROXY where it can be reached without {self.proxy.variable}."
        elif status in (502, 503, 504):
            remedy = "is the name known there, and may the proxy reach it?"
        else:
            remedy = f"is {self.proxy.variable} right, and is that a proxy?"
        verb = "does not allow" if status in (401, 403) else "refused to connect to"
        return f"{where} {verb} {self.host} {said}: {remedy}"

    def refused_on_the_way(self, status: int) -> str:
        """An answer to a request without TLS, which the proxy may have given itself."""
        if status == 407:
            return self.not_tunnelled(status)
        remedy = (
            "does the proxy allow this host, and is the secret right?" if status == 403 else "may the proxy reach it?"
        )
        return f"{_capital(str(self.proxy))}, or {self.host} behind it, refused a request (status {status}): {remedy}"

    def may_be_the_proxys(self, status: int) -> bool:
        """Whether an answer that is none of the provider's making may be meant by `refused_on_the_way`."""
        return self.proxy is not None and not self.encrypted and status in (403, 407, 502, 503, 504)

    def not_verified(self, reason: str, code: int, *, of_proxy: bool = False) -> str:
        """``reason`` and ``code``: OpenSSL's. ``of_proxy``: it was the proxy's own certificate."""
        whose = str(self.proxy) if of_proxy else f"{self.host}{self.through}"
        if code in _NAME:
            origin = self.proxy.variable if of_proxy and self.proxy else self._origin
            remedy = f"is {origin} right?" if origin else "who answers for that host here?"
        elif code in _TIME:
            remedy = "is this machine's clock right?"
        else:
            remedy = self._untrusted()
        reason = reason or "it does not verify"
        return f"The certificate of {whose} was not verified ({reason}), so nothing was sent to it: {remedy}"

    def _untrusted(self) -> str:
        for name, path in self._trust.items():
            if path and not os.access(path, os.R_OK):
                why = "cannot be read" if os.path.exists(path) else "is not there"
                return f"{name} names {quoted(path)}, which {why}."
        if none_found():
            return "no authority's certificate is here: install ca-certificates, or name a bundle in SSL_CERT_FILE."
        return "a proxy that opens TLS needs its certificate authority in SSL_CERT_FILE."

    def no_tls(self) -> str:
        remedy = "is that a port for https, and does nothing on the way alter the traffic?"
        return f"No TLS connection to {self.host}{self.through} came about, so nothing was sent to it: {remedy}"

    def no_answer(self, seconds: float) -> str:
        return f"{self.host} did not answer{self.through} within {seconds:g} s."

    def closed(self) -> str:
        if self.proxy:
            return f"The connection to {self.host}{self.through} was closed before an answer came."
        return f"{self.host} closed the connection before it answered."

    def broken_off(self) -> str:
        return f"The answer of {self.host}{self.through} broke off in the middle."

    def no_http(self, kind: str) -> str:
        """``kind``: of the error, for whoever reports it."""
        if self.proxy:
            return f"What came from {self.host}{self.through} is no HTTP answer ({kind}): is that a proxy for HTTP?"
        return f"{self.host} sent what is no HTTP answer ({kind})."

    def redirected(self, status: int) -> str:
        return (
            f"{self.host} answered{self.through} with a redirect ({status}), which is not followed: is it the intake, "
            "or a proxy that wants a login?"
        )


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
