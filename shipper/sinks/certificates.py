"""Whose certificates are trusted: one TLS context for all sinks and `shipper check`.

| first of | why |
| --- | --- |
| SSL_CERT_FILE, SSL_CERT_DIR | whoever sets one means it: OpenSSL's defaults, in which they count, and nothing else. A file that is not there is no reason to look elsewhere: the sentence about the refused certificate names it |
| OpenSSL's own places, when there is anything in them | what the installation has; a directory by hash costs no memory, a bundle of 144 certificates 1.5 MB |
| the image's own bundle | an OpenSSL brought along in /opt/shipper looks where Debian keeps its certificates, not where others do. The image's come before ours: it may trust an authority of the house |
| certifi's bundle | an image without any (node:slim, scratch) |
| nothing | every certificate is refused, and `none_found` says why |

The image's bundles: golang/go src/crypto/x509/root_linux.go, read 2026-11. Verification cannot be turned off.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import importlib.util
import os
import re
import ssl
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Gentoo, distroless
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/pki/tls/cacert.pem",  # OpenELEC
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # CentOS, RHEL 7
    "/etc/ssl/cert.pem",  # Alpine
)
HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""A certificate's name in a directory that OpenSSL can look into (openssl-rehash(1))."""


class Trust(NamedTuple):
    """A bundle, a directory by hash, or both."""

    file: str | None
    directory: str | None


_contexts: dict[tuple[str, ...], ssl.SSLContext] = {}


def context() -> ssl.SSLContext:
    """Made once, for all sinks: it is 0.8 MB and more."""
    key = tuple(os.environ.get(name, "") for name in VARIABLES)
    found = _contexts.get(key)
    if found is None:
        found = _contexts[key] = make(trusted(), from_variables=any(key))
        found.set_alpn_protocols(["http/1.1"])
    return found


def make(trusts: Iterator[Trust], *, from_variables: bool = False) -> ssl.SSLContext:
    """A context that trusts the first of them that can be loaded; none where there is no such."""
    if not from_variables:
        for trust in trusts:
            try:
                return ssl.create_default_context(cafile=trust.file, capath=trust.directory)
            except OSError:  # SSLError is one: a bundle that is none
                continue
    return ssl.create_default_context()


def none_found() -> bool:
    """Whether there is no certificate of any authority here, and no variable that should name one."""
    return not any(os.environ.get(name) for name in VARIABLES) and next(trusted(), None) is None


def trusted(
    *,
    bundles: Sequence[str] = BUNDLES,
    brought: str | None = None,
    openssl: tuple[str, str] | None = None,
) -> Iterator[Trust]:
    """What there is without the variables, best first. ``openssl``: its file and directory; ``brought``: certifi's."""
    if openssl is None:
        paths = ssl.get_default_verify_paths()
        openssl = paths.openssl_cafile, paths.openssl_capath
    file, directory = openssl
    own = Trust(file if _holds_something(file) else None, directory if _is_hashed(directory) else None)
    if own != (None, None):
        yield own
    for bundle in (*bundles, _certifi() if brought is None else brought):
        if _holds_something(bundle):
            yield Trust(bundle, None)


def _certifi() -> str:
    """The path of its bundle. Looked up without importing it, which would cost importlib.resources."""
    try:
        spec = importlib.util.find_spec("certifi")
    except (ImportError, ValueError):
        return ""
    return os.path.join(os.path.dirname(spec.origin), "cacert.pem") if spec and spec.origin else ""


def _holds_something(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0 and os.access(path, os.R_OK)
    except OSError:
        return False


def _is_hashed(directory: str) -> bool:
    try:
        with os.scandir(directory) as entries:
            return any(HASHED.fullmatch(entry.name) for entry in entries)
    except OSError:
        return False
