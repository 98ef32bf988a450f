"""A bare intake: answers every POST with 202 as soon as its last byte is there, keeps the bodies, looks at nothing.

A process of its own, standard library only, so that what it costs is nobody else's: `python -I -S intake.py FD`, with a
bound socket. It listens at the first line on its stdin and ends with the last. GET /count: requests so far. GET /take:
each as arrival (monotonic ns, 8 bytes), length (8 bytes) and body; they are forgotten.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time

requests: list[tuple[int, bytes]] = []
taken = 0  # requests that are not in the list any more


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = bytearray()
        self._awaited = 0  # bytes that the buffer needs before there is anything to do

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer and len(self._buffer) >= self._awaited:
            head_end = self._buffer.find(b"\r\n\r\n") + 4
            if head_end < 4:
                return
            head = bytes(self._buffer[:head_end])
            end = head_end + content_length(head)
            if len(self._buffer) < end:
                self._awaited = end
                return
            self._answer(head, bytes(self._buffer[head_end:end]))
            del self._buffer[:end]
            self._awaited = 0

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST "):
            requests.append((time.monotonic_ns(), body))
            self._transport.write(
                b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            )
            return
        answer = b"%d" % (taken + len(requests))
        if head.startswith(b"GET /take "):
            answer = b"".join(at.to_bytes(8, "big") + len(kept).to_bytes(8, "big") + kept for at, kept in requests)
            forget()
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)


def forget() -> None:
    global taken  # noqa: PLW0603  one program, one count
    taken += len(requests)
    requests.clear()


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def serve(listener: socket.socket) -> None:
    await asyncio.get_running_loop().create_server(Connection, sock=listener, backlog=128)
    print("listening", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    bound = socket.socket(fileno=int(sys.argv[1]))
    if sys.stdin.readline():
        asyncio.run(serve(bound))
