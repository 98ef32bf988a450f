"""What stands between a sink and its provider's intake, and does what networks do.

| mode | what a connection meets |
| --- | --- |
| open | nothing |
| refuse | nobody listens; those that are open are reset |
| hang | it is accepted, and nobody answers |
| drip | the answer comes a byte at a time, 20 a second |
| reset | it is reset in the middle of the answer |
| cut | not a byte passes in either direction, and nobody says so |
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Self

MODES = ("refuse", "hang", "drip", "reset", "cut")
DRIP_SECONDS = 0.05


class Gates:
    """Gates to one port of 127.0.0.1, in a thread with an event loop of its own, gone at the end of the block."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gates", daemon=True)
        self._gates: dict[str, _Gate] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for gate in self._gates.values():
            asyncio.run_coroutine_threadsafe(gate.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def add(self, name: str) -> str:
        """A gate, open; the URL that leads through it."""
        gate = self._gates[name] = _Gate(self._port)
        asyncio.run_coroutine_threadsafe(gate.listen(), self._loop).result(10)
        return self.url(name)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._gates[name].port}"

    def set(self, name: str, mode: str) -> None:
        asyncio.run_coroutine_threadsafe(self._gates[name].set(mode), self._loop).result(10)


class _Gate:
    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self._mode = "open"
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._sockets: set[asyncio.StreamWriter] = set()

    async def listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def set(self, mode: str) -> None:
        self._mode = mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode == "refuse" and self._server is not None:
            self._server.close()
            self._server = None
            for writer in list(self._sockets):
                _reset(writer)
        elif mode != "refuse" and self._server is None:
            await self.listen()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._sockets.add(writer)
        try:
            with contextlib.suppress(OSError):
                while self._mode in ("hang", "cut"):
                    await self._changed.wait()
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
                try:
                    async with asyncio.TaskGroup() as both:
                        both.create_task(self._pass_on(reader, inner_writer))
                        both.create_task(self._answer(inner_reader, writer))
                except* OSError:
                    pass
                finally:
                    inner_writer.close()
        finally:
            self._connections.discard(task)
            self._sockets.discard(writer)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            while self._mode in ("hang", "cut"):
                await self._changed.wait()
            writer.write(data)
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            while self._mode in ("hang", "cut"):
                await self._changed.wait()
            if self._mode == "reset":
                writer.write(data[: len(data) // 2])
                await asyncio.sleep(DRIP_SECONDS)
                _reset(writer)
                return
            while data and self._mode == "drip":
                writer.write(data[:1])
                data = data[1:]
                await asyncio.sleep(DRIP_SECONDS)
            writer.write(data)
            await writer.drain()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
