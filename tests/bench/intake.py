"""A bare intake: accepts every POST as its provider does, keeps the bodies, looks at nothing in them.

A process of its own, standard library only, so that what it costs is nobody else's: `python -I -S intake.py FD DELAY`,
with a bound socket and the seconds from a request's last byte to the answer. It listens at the first line on its stdin
and ends with the last. GET /count: requests so far. GET /take: each as arrival (monotonic ns, 8 bytes), length (8
bytes), provider (1 byte, index in ANSWERS) and body; they are forgotten.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time

ANSWERS = {  # how a request begins, and what the provider says to it
    b"POST /api/v2/logs": b"202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"POST / HTTP": b"200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /api/1/envelope/": b"200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /log/v1": b"202 Accepted\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: 52\r\n\r\n"
    b'{"requestId":"00000000-0000-0000-0000-000000000000"}',
}
FORMS = [(number, start, b"HTTP/1.1 " + answer) for number, (start, answer) in enumerate(ANSWERS.items())]

requests: list[tuple[int, int, bytes]] = []
taken = 0  # requests that are not in the list any more
delay = 0.0


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
        for number, start, accepted in FORMS:
            if head.startswith(start):
                requests.append((time.monotonic_ns(), number, body))
                if delay:
                    asyncio.get_running_loop().call_later(delay, self._transport.write, accepted)
                else:
                    self._transport.write(accepted)
                return
        if head.startswith(b"POST "):
            self._transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        answer = b"%d" % (taken + len(requests))
        if head.startswith(b"GET /take "):
            answer = b"".join(
                at.to_bytes(8, "big") + len(kept).to_bytes(8, "big") + bytes([number]) + kept
                for at, number, kept in requests
            )
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
    delay = float(sys.argv[2])
    if sys.stdin.readline():
        asyncio.run(serve(bound))
