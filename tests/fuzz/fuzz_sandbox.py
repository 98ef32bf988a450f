"""The sandbox's four intakes against requests that nobody sends who means well.

An input says which good request to begin with and what becomes of it: of its body before or after compression, of its
headers, of how its length is told. Whatever comes, the answer has a status below 500 or the connection is closed, and
after that the sandbox shows what arrived.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from datetime import UTC, datetime
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

import orjson
import zstandard

from shipper.sandbox.server import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "0123456789abcdef0123456789abcdef"
SENTRY_AUTH = f"Sentry sentry_key={KEY}, sentry_version=7"
LOG = {"timestamp": 1795563000, "trace_id": "1" * 32, "level": "info", "body": "x"}
ANSWER_SECONDS = 10.0
CHANGE = Struct("<BHB")
HEAD_SIZE = 6


class Good(NamedTuple):
    """A request that is taken, but for `Date` and `Content-Length`."""

    path: str
    headers: dict[str, str]
    body: bytes


def envelope(kind: str, payload: bytes, **more: object) -> bytes:
    head = orjson.dumps({"type": kind, **more})
    return b'{"event_id":"9ec79c33ec9942ab8353589fcb2e04dc"}\n%s\n%s\n' % (head, payload)


def _good() -> list[Good]:
    datadog = {"DD-API-KEY": KEY, "Content-Type": "application/json"}
    newrelic = {"Api-Key": "0" * 36 + "NRAL", "Content-Type": "application/json"}
    line = {"message": "m", "seq": 1, "run": "r", "stream": "stdout", "skipped": 0, "host": "h", "ddtags": "a:b"}
    attributes = {"seq": {"value": 1, "type": "integer"}, "run": {"value": "r", "type": "string"}}
    log = orjson.dumps({"items": [{**LOG, "attributes": attributes}]})
    content = "application/vnd.sentry.items.log+json"
    event = orjson.dumps({"message": "m", "level": "error", "exception": {"values": [{"type": "T", "value": "v"}]}})
    sentry = {"X-Sentry-Auth": SENTRY_AUTH}
    found = [
        Good("/api/v2/logs", datadog, orjson.dumps([line, {**line, "seq": 2, "timestamp": 1795563000000}])),
        Good("/log/v1", newrelic, orjson.dumps([{"common": {"attributes": {"run": "r"}}, "logs": [line, line]}])),
        Good("/log/v1", newrelic, orjson.dumps(line)),
        Good("/api/1/envelope/", sentry, envelope("log", log, item_count=1, content_type=content)),
        Good("/api/1/envelope/", sentry, envelope("event", event, length=len(event))),
    ]  # fmt: skip
    logs = {"logGroupName": "g", "logStreamName": "s"}
    for operation, body in (
        ("CreateLogGroup", {"logGroupName": "g"}),
        ("CreateLogStream", logs),
        ("PutLogEvents", {**logs, "logEvents": [{"timestamp": 0, "message": orjson.dumps(line).decode()}] * 2}),
        ("PutRetentionPolicy", {"logGroupName": "g", "retentionInDays": 7}),
        ("DescribeLogGroups", {}),
    ):
        target = {"X-Amz-Target": f"Logs_20140328.{operation}", "Content-Type": "application/x-amz-json-1.1"}
        found.append(Good("/", target, orjson.dumps(body)))
    return found


GOOD = _good()
SCRAPS = [
    b"[", b"]", b"{", b"}", b'"', b",", b":", b"\n", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b'"\\ud800"', b"1e999", b"-0",
    b"NaN", b"null", b"true", b"9" * 400, b"[" * 2000, b'{"a":' * 1500, b'{"a":[' * 120 + b"1" + b"]}" * 120, b"0.1",
    b'"message":', b'"timestamp":', b'"seq":18446744073709551616,', b'"skipped":9007199254740992,', b'"x":{"y":[]},',
    b'"length":-1,', b'"item_count":1e3,', b"x" * 70_000, '"\u2028\U0001f600",'.encode(), b"\r\n", b"%00%ff", b"{}",
]  # fmt: skip
ENCODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("", bytes),
    ("gzip", lambda data: gzip.compress(data, 1)),
    ("deflate", lambda data: zlib.compress(data, 1)),
    ("zstd", zstandard.ZstdCompressor().compress),
    ("gzip", lambda data: gzip.compress(data[:9], 1) + gzip.compress(data[9:], 1)),
    ("identity", bytes),
    ("br", bytes),
    ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data, 1), 1)),
    ("\xff\xfe", bytes),
    ("GZIP ", lambda data: gzip.compress(data, 1)),
]
AMZ_FORMAT = "%Y%m%dT%H%M%SZ"


def changed(body: bytes, changes: bytes) -> bytes:
    for operation, at, size in CHANGE.iter_unpack(changes[: len(changes) // CHANGE.size * CHANGE.size]):
        at %= len(body) + 1
        match operation % 6:
            case 0 if at < len(body):
                body = body[:at] + bytes([body[at] ^ (size or 1)]) + body[at + 1 :]
            case 1:
                body = body[:at]
            case 2:
                body = body[:at] + body[at + size + 1 :]
            case 3:
                body = body[:at] + body[max(0, at - size) : at] + body[at:]
            case _:
                body = body[:at] + SCRAPS[size % len(SCRAPS)] + body[at:]
    return body


def request(data: bytes) -> tuple[bytes, bool]:
    """What goes over the wire, and whether it is whole: the server knows where it ends."""
    which, encoding, declared, header, framing, mode = data[:HEAD_SIZE].ljust(HEAD_SIZE, b"\0")
    rest = data[HEAD_SIZE:]
    good = GOOD[which % len(GOOD)]
    name, encode = ENCODERS[encoding % len(ENCODERS)]
    body = good.body
    now = datetime.now(UTC)
    if b'"timestamp":0' in body:
        body = body.replace(b'"timestamp":0', b'"timestamp":%d' % int(now.timestamp() * 1000))
    if mode % 3 == 0:
        body = encode(changed(body, rest))
    elif mode % 3 == 1:
        body = changed(encode(body), rest)
    else:
        body = encode(rest)
    if declared % 8 == 7:  # not what it is
        name = ENCODERS[declared // 8 % len(ENCODERS)][0]
    headers = {"Host": "127.0.0.1", "Connection": "close", **good.headers}
    if "X-Amz-Target" in headers:
        stamp = now.strftime(AMZ_FORMAT)
        headers["X-Amz-Date"] = stamp
        signed = "content-type;host;x-amz-date;x-amz-target"
        if name:
            signed = "content-encoding;" + signed
        headers["Authorization"] = (  # of a key whose secret the sandbox does not know
            f"AWS4-HMAC-SHA256 Credential=AKIAI44QH8DHBEXAMPLE/{stamp[:8]}/us-east-1/logs/aws4_request, "
            f"SignedHeaders={signed}, Signature={'0' * 64}"
        )
    if name:
        headers["Content-Encoding"] = name
    path = good.path
    odd = bytes(byte for byte in rest[:24] if byte not in b"\r\n\0").decode("latin-1")
    names = list(headers)[2:]
    match header % 12:
        case 1 if names:
            headers[names[len(rest) % len(names)]] = odd
        case 2 if names:
            headers[names[len(rest) % len(names)]] += odd
        case 3 if names:
            del headers[names[len(rest) % len(names)]]
        case 4:
            headers["Content-Type"] = f"application/json; charset={odd}"
        case 5:
            path += "%" + odd.encode("latin-1").hex() + "?" + "".join(f"{char}=" for char in odd if char > " ")
        case 6:
            headers["X-Forwarded-For"] = headers["DD-REQUEST-ID"] = headers["X-Request-Id"] = odd * 40
        case 7:
            path = path.replace("/", f"/{'9' * len(rest)}/", 1)
    length = len(body)
    whole = True
    match framing % 12:
        case 1:
            headers["Transfer-Encoding"] = "chunked"
            body = b"".join(
                b"%x\r\n%s\r\n" % (len(body[at : at + 50]), body[at : at + 50]) for at in range(0, length, 50)
            )
            body += b"0\r\n\r\n"
        case 2:
            headers["Content-Length"] = str(length // 2)  # the rest looks like a second request
        case 3:
            headers["Content-Length"], whole = str(length + 5), False
        case 4:
            headers["Content-Length"], whole = ("-1", "1e3", "0x10", "", "9" * 30)[length % 5], False
        case 5:
            headers["Transfer-Encoding"], whole = "chunked", False
        case 6:
            headers["Expect"], headers["Content-Length"] = "100-continue", str(length)
        case 7:
            headers["Transfer-Encoding"], headers["Content-Length"], whole = "chunked", str(length), False
        case _:
            headers["Content-Length"] = str(length)
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body, whole


class Target:
    """A sandbox and an event loop, both in this thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.sandbox = Sandbox(max_events=200, max_bytes=4 << 20)
        self.loop.run_until_complete(self.sandbox.listen(0))
        self._ask(b"POST", b"/sandbox/reset")
        self.place()

    def close(self) -> None:
        self.loop.run_until_complete(self.sandbox.close())
        self.loop.close()

    def place(self) -> None:
        """CloudWatch's group and stream are there."""
        for which in range(len(GOOD)):
            if GOOD[which].headers.get("X-Amz-Target", "").endswith(("Group", "Stream")):
                self.check(bytes([which]))

    def check(self, data: bytes) -> int:
        """The status, 0 when there was none. AssertionError when the sandbox is at fault."""
        wire, whole = request(data)
        answer = self.loop.run_until_complete(self._exchange(wire, whole))
        status = int(answer.split(b" ", 2)[1]) if answer else 0
        assert status < 500, (status, self.sandbox.store.summary()["refusals"])
        assert answer.startswith(b"HTTP/1.") or not answer
        shown = self._ask(b"GET", b"/sandbox/events?newest=1&limit=50")
        for event in orjson.loads(shown)["events"]:
            assert not any("fault of the sandbox" in mark for mark in event["marks"]), event["marks"]
        orjson.loads(self._ask(b"GET", b"/sandbox/summary"))
        return status

    def _ask(self, method: bytes, path: bytes) -> bytes:
        wire = b"%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % (method, path)
        head, _, body = self.loop.run_until_complete(self._exchange(wire, True)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        return body

    async def _exchange(self, wire: bytes, whole: bool) -> bytes:
        """What is answered until the connection is closed; when the server cannot know the end, we close it."""
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.sandbox.port)
            try:
                writer.write(wire)
                if whole:
                    return await _read_all(reader)
                try:
                    return await asyncio.wait_for(_read_all(reader), 0.02)
                except TimeoutError:
                    return b""
            finally:
                writer.close()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    try:
        while piece := await reader.read(1 << 20):
            pieces.append(piece)
    except ConnectionError:  # closed while we still sent
        pass
    return b"".join(pieces).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")


SEEDS = [
    bytes([which, encoding, 0, 0, framing, 0])
    for which in range(len(GOOD))
    for encoding in range(4)
    for framing in (0, 1)
]
