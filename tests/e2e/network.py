"""What stands between a sink and the sandbox: TLS with a certificate of our own, and a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBijCCATCgAwIBAgIUSiMMTuo2nehd706TWyJEC5TYVewwCgYIKoZIzj0EAwIw
IjEgMB4GA1UEAwwXdGhlIHRlc3RzIG93biBhdXRob3JpdHkwIBcNMjYxMTI1MDIy
NjMwWhgPMjEyNjExMDEwMjI2MzBaMCIxIDAeBgNVBAMMF3RoZSB0ZXN0cyBvd24g
YXV0aG9yaXR5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZOPfJsStMofetIEl
9Lc8Bd2HarW5Ba6tU/qt1ITuLdid/bDomXCJYMU4zd2HCUuor44sSMYMkgKC8Cj9
Zetx7aNCMEAwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAQYwHQYDVR0O
BBYEFOpgUwZmTphKkhZqGPJqUGR72DHWMAoGCCqGSM49BAMCA0gAMEUCIQDFdV7k
lNSwYLuGLo+2IqFiFsSROyLDLzOGianbRRHwyAIgEmTq+y4zxY6VGGqEQblU60yN
A7q8ymePOvEVmMzEfwo=
-----END CERTIFICATE-----
"""
"""The tests' own; its key was thrown away. Who names it in SSL_CERT_FILE trusts the certificate below."""

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIB3jCCAYSgAwIBAgIUYtmcHPInL65NlqsGGkAE+Lyv4E4wCgYIKoZIzj0EAwIw
IjEgMB4GA1UEAwwXdGhlIHRlc3RzIG93biBhdXRob3JpdHkwIBcNMjYxMTI1MDIy
NjMwWhgPMjEyNjExMDEwMjI2MzBaMBYxFDASBgNVBAMMC2ludGFrZS50ZXN0MFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEt/DLhJYeb9a+0BGrwqKw5xeoZ7ePiJu0
DLVYbQpilXDSjEgrhwKLg21c8Uv9KcxPQ+ZFs4d1Ubjsj4O+XHKZiaOBoTCBnjAM
BgNVHRMBAf8EAjAAMA4GA1UdDwEB/wQEAwIHgDATBgNVHSUEDDAKBggrBgEFBQcD
ATAdBgNVHQ4EFgQUuHb2dpjL89d6/QZYXRROq9yS+FcwHwYDVR0jBBgwFoAU6mBT
BmZOmEqSFmoY8mpQZHvYMdYwKQYDVR0RBCIwIIIJbG9jYWxob3N0gg0qLmludGFr
ZS50ZXN0hwR/AAABMAoGCCqGSM49BAMCA0gAMEUCIC2IjBOjmA9cnXESRKJnXLmg
5B6ROBlwCo1t32yO/X9QAiEAzbbB9tnSlVTti3BUpS+1TTk1wQs7uHijiVoNYyVI
djQ=
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgFVytnsDAxSNadGMx
yZri4T19L0DMzlojbWT9VPcTKbOhRANCAAS38MuElh5v1r7QEavCorDnF6hnt4+I
m7QMtVhtCmKVcNKMSCuHAouDbVzxS/0pzE9D5kWzh3VRuOyPg75ccpmJ
-----END PRIVATE KEY-----
"""
"""For localhost, 127.0.0.1 and *.intake.test; made for this file, used nowhere else."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Network:
    """Servers in a thread with an event loop of its own, all on 127.0.0.1, gone at the end of the block.

    received  bytes that came out of TLS, from all clients together
    targets   host and port of each CONNECT that the proxy got
    """

    def __init__(self, directory: Path) -> None:
        """``directory``: where the certificates are put; `authority` there is for SSL_CERT_FILE."""
        self.received = 0
        self.targets: list[str] = []
        self.authority = directory / "authority.pem"
        self.authority.write_text(AUTHORITY)
        certificate = directory / "certificate.pem"
        certificate.write_text(CERTIFICATE)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def tls(self, port: int) -> int:
        """A server that speaks TLS and passes on to ``port`` what comes out of it; its port."""

        async def pass_on(client: Streams) -> None:
            await self._join(client, await asyncio.open_connection("127.0.0.1", port), count=True)

        return self._serve(pass_on, self._context)

    def proxy(self, port: int) -> int:
        """A proxy for CONNECT alone. Whatever name it is asked for, ``port`` is where it connects to; its port."""

        async def connect(client: Streams) -> None:
            await self._asked_for(client)
            client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await self._join(client, await asyncio.open_connection("127.0.0.1", port))

        return self._serve(connect)

    def refusing_proxy(self) -> int:
        """A proxy that lets nobody through; its port."""

        async def refuse(client: Streams) -> None:
            await self._asked_for(client)
            client[1].write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await client[1].drain()

        return self._serve(refuse)

    async def _asked_for(self, client: Streams) -> None:
        method, target, _ = (await client[0].readuntil(b"\r\n\r\n")).split(b" ", 2)
        assert method == b"CONNECT"
        self.targets.append(target.decode())

    async def _join(self, client: Streams, server: Streams, *, count: bool = False) -> None:
        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counting: bool) -> None:
            while data := await reader.read(1 << 16):
                if counting:
                    self.received += len(data)
                writer.write(data)
                await writer.drain()
            writer.close()

        try:
            await asyncio.gather(copy(client[0], server[1], count), copy(server[0], client[1], False))
        finally:
            server[1].close()

    def _serve(self, handle: Callable[[Streams], Awaitable[None]], context: ssl.SSLContext | None = None) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            try:
                # A client that goes away in the middle is what some of the tests are about.
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                    await handle((reader, writer))
            finally:
                self._connections.discard(task)
                writer.close()

        async def start() -> int:
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
            self._servers.append(server)
            port: int = server.sockets[0].getsockname()[1]
            return port

        return asyncio.run_coroutine_threadsafe(start(), self._loop).result()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
