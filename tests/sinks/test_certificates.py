"""Which certificates are trusted, and what is said where there are none."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import certifi
import pytest

from shipper.sinks import certificates
from shipper.sinks.certificates import Trust
from shipper.sinks.way import Way
from tests.certificates import CERTIFICATE, SELF_MADE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HTTPS = "https://intake.example"
NOWHERE = ("/nope/cert.pem", "/nope/certs")


@contextmanager
def server(directory: Path) -> Iterator[int]:
    """A TLS server on 127.0.0.1 with the tests' own certificate; its port."""
    path = directory / "server.pem"
    path.write_text(SELF_MADE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(close, "127.0.0.1", 0, ssl=context)

    async def stop(serving: asyncio.Server) -> None:
        serving.close()
        await serving.wait_closed()

    serving = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield serving.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(stop(serving), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def trusts(context: ssl.SSLContext, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except ssl.SSLCertVerificationError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def bundle(directory: Path, name: str = "bundle.pem", text: str = CERTIFICATE) -> str:
    path = directory / name
    path.write_text(text)
    return str(path)


async def test_the_first_bundle_that_is_there_is_trusted_and_no_other(tmp_path: Path) -> None:
    own = bundle(tmp_path)
    places = (str(tmp_path / "none.pem"), bundle(tmp_path, "empty.pem", ""), own, certifi.where())
    found = list(certificates.trusted(bundles=places, openssl=NOWHERE))
    assert found[0] == Trust(own, None)
    with server(tmp_path) as port:
        assert await trusts(certificates.make(iter(found)), port)
        assert not await trusts(certificates.make(iter(found[1:])), port)


async def test_what_openssl_has_by_itself_comes_before_the_bundles(tmp_path: Path) -> None:
    hashed = tmp_path / "certs"
    hashed.mkdir()
    own = bundle(tmp_path)
    assert next(certificates.trusted(bundles=(own,), openssl=(NOWHERE[0], str(hashed)))) == Trust(own, None)
    (hashed / "ce275665.0").write_text(CERTIFICATE)  # openssl x509 -hash
    for openssl, expected in (
        ((NOWHERE[0], str(hashed)), Trust(None, str(hashed))),
        ((own, str(hashed)), Trust(own, str(hashed))),
        ((own, NOWHERE[1]), Trust(own, None)),
    ):
        first = next(certificates.trusted(bundles=(certifi.where(),), openssl=openssl))
        assert first == expected
        with server(tmp_path) as port:
            assert await trusts(certificates.make(iter([first])), port)


async def test_a_bundle_that_is_none_is_passed_over(tmp_path: Path) -> None:
    broken = bundle(tmp_path, "broken.pem", "this is no certificate\n")
    found = certificates.trusted(bundles=(broken, bundle(tmp_path)), openssl=NOWHERE)
    with server(tmp_path) as port:
        assert await trusts(certificates.make(found), port)


def test_an_image_without_any_gets_the_ones_that_are_brought_along() -> None:
    found = list(certificates.trusted(bundles=(), openssl=NOWHERE))
    assert found == [Trust(certifi.where(), None)]
    assert len(certificates.make(iter(found)).get_ca_certs()) > 100


async def test_a_variable_counts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server(tmp_path) as port:
        assert not await trusts(certificates.context(), port)
        monkeypatch.setenv("SSL_CERT_FILE", bundle(tmp_path))
        assert await trusts(certificates.context(), port)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
        assert not await trusts(certificates.context(), port)
        monkeypatch.setenv("SSL_CERT_FILE", "")  # set, and says nothing: as if it were not there
        assert certificates.context().verify_mode == ssl.CERT_REQUIRED
        assert not await trusts(certificates.context(), port)


def test_all_sinks_share_one_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert certificates.context() is certificates.context()
    before = certificates.context()
    monkeypatch.setenv("SSL_CERT_FILE", bundle(tmp_path))
    assert certificates.context() is not before


def test_a_variable_that_leads_nowhere_is_blamed_and_not_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list(certificates.trusted(bundles=("/nope",), brought="/nope", openssl=NOWHERE))
    monkeypatch.setenv("SSL_CERT_FILE", "/nope")
    assert not certificates.none_found()
    assert Way(HTTPS, {"SSL_CERT_FILE": "/nope"}).not_verified("", 20).endswith('"/nope", which is not there.')
