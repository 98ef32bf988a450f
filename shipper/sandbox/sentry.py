"""Sentry's envelope endpoint, POST /api/PROJECT/envelope/, as strict as Relay, which stands before the real one.

What is answered, and where that was read (November 2026; paths are getsentry/relay's):

| case | answer | source |
| --- | --- | --- |
| taken | 200 `{"id":"<event id>"}` when the envelope has one or holds an event, else `{}` | relay-server/src/endpoints/envelope.rs, envelope/mod.rs parse_request |
| form of every error | `{"detail":"…","causes":["…"]}`, causes only when there are any | relay-server/src/utils/api.rs |
| key | header X-Sentry-Auth or Authorization (`Sentry sentry_key=…`), query sentry_key, or the envelope header's dsn | extractors/request_meta.rs; tests/integration/test_envelope.py |
| none of them | 401 "missing authorization information" | extractors/request_meta.rs |
| more than one of the first three | 401 "multiple authorization payloads detected" | same |
| header without a key | 401 "bad x-sentry-auth header" | same |
| envelope header's first line is not JSON, when the key should be there | 401 "bad envelope authentication header" | same; getsentry/sentry issue 71812 |
| key is not 32 hex digits | 400 "bad sentry DSN public key" | same; relay-base-schema ProjectKey |
| sentry_version above 7 | 400 "unsupported protocol version (N)" | same |
| sentry_version no number below 65,536 | 401 "bad x-sentry-auth header" | sentry-types src/auth.rs, which Relay reads it with: a u16 |
| project in the path is no number | 400 "bad project path parameter" | same |
| dsn in the envelope header is of another project or key | 400 "invalid event envelope", cause "project id header mismatch between envelope and request" or "public key header …" | envelope/mod.rs complete |
| key of no project | 403 "event submission rejected with_reason: ProjectId" | endpoints/common.rs EventRejected. The sandbox knows every key: only on request |
| path | 404, empty | not documented; how axum answers |
| method | 405, empty, Allow: POST | same |
| Content-Encoding | identity, gzip, deflate, br, zstd; empty and "utf-8" count as none; others: 415 with Accept-Encoding | middlewares/decompression.rs, tower-http RequestDecompressionLayer. br needs the package Brotli, zstd zstandard |
| body not decompressible | 400 | middlewares/decompression.rs |
| empty body | 400 "empty request body" | endpoints/common.rs |
| envelope malformed | 400 "invalid event envelope" with the cause below | envelope/mod.rs EnvelopeError |
| an item of the wrong size or number | 413 "envelope exceeded size limits for type '…' (https://…)" | utils/sizes.rs; endpoints/common.rs; relay pull request 5474 |
| rate limit in force for everything in the envelope | 429 with Retry-After and X-Sentry-Rate-Limits | endpoints/common.rs RateLimited. Here only on request |
| rate limit in force for something else | 200 with X-Sentry-Rate-Limits | endpoints/common.rs HandledEnvelope. Here on request |

The envelope: a line of JSON, then items, each a line of JSON with `type` and, optionally, `length`, then the payload: of
that length and then a newline or the end, or without `length` up to the newline. Causes: "missing envelope header",
"invalid envelope header", "invalid item header", "missing newline after header or payload", "unexpected end of file".

| limit | value | source |
| --- | --- | --- |
| envelope, decompressed | 200 MiB | relay-config/src/config.rs |
| event, transaction and other items that are one | one in an envelope, 1 MiB | utils/sizes.rs, config.rs |
| log | one container in an envelope; 12 MiB; 2 MiB a log on the average | same |
| client_report | 4 KiB each, 10 | same |
| session, sessions | 1 MiB together, 100 | same |
| check_in | 100 KiB, one | same |
| attachment | 200 MiB | same |
| a type that Relay does not know | taken and ignored | utils/sizes.rs remove_unknown_items |

What is answered with 200 and then dropped without a word to the sender is marked and counted here as dropped: a second
look, in processing, finds it (processing/logs/process.rs, store.rs, validate.rs, utils/normalize.rs):

| of a `log` item | what becomes of it |
| --- | --- |
| content type other than application/vnd.sentry.items.log+json, item_count missing or unlike the number of items, payload not `{"items":[…]}` | the whole container is dropped |
| timestamp (seconds, or RFC 3339), trace_id (32 hex digits, not all 0), level or body (text) missing or of another type | the log is dropped |
| older than the retention of logs, 30 days | the log is dropped |
| more than 60 s in the future | its time becomes that of arrival |
| an attribute whose value is not of its type (string, integer of 64 bits, double, boolean, array), or that lacks either | the attribute is removed (relay-event-normalization/src/eap/mod.rs normalize_attribute_types) |
| an array that holds, besides null, other than text alone, booleans alone or numbers alone | the attribute is removed (same, is_supported_array) |
| level other than trace, debug, info, warn, error, fatal | kept as it is |

develop.sentry.dev/sdk/telemetry/logs says that only one kind of telemetry belongs in an envelope; Relay sorts a mixed
one out and takes it, so it is taken and marked.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from shipper.sandbox.intake import (
    Answer,
    BodyError,
    Dropped,
    Intake,
    Order,
    RefusedError,
    Request,
    TooLargeError,
    Unpacked,
    carried,
    decompress,
    level_of,
    text_of,
)

MAX_ENVELOPE_BYTES = 200 * 2**20
MAX_LOG_BYTES = 2 * 2**20
MAX_CONTAINER_BYTES = 12 * 2**20
MAX_AGE_MS = 30 * 86_400_000
MAX_AHEAD_MS = 60_000
MAX_HEADER_BYTES = 64 * 1024
"""Of a header that spans lines; a bound of the sandbox's own."""

LOG_TYPE = "application/vnd.sentry.items.log+json"
PROTOCOL_VERSION = 7
ENCODINGS = ("gzip", "deflate", "br", "zstd")

_PATH = re.compile(r"/+api/+([^/]+)/+envelope/*")
_KEY = re.compile(r"[0-9a-fA-F]{32}")
_TRACE = re.compile(r"(?!0{32})[0-9a-fA-F]{32}")
_LEVELS = frozenset({"trace", "debug", "info", "warn", "error", "fatal"})
_EVENTS = frozenset({"event", "transaction", "security", "raw_security", "user_report_v2", "feedback", "form_data"})
_SIZES = "envelope exceeded size limits for type '{}' (https://develop.sentry.dev/sdk/envelopes/#size-limits)"


class _Limit(NamedTuple):
    item_bytes: int
    items: int
    total_bytes: int


_LIMITS: Mapping[str, _Limit] = {
    "event": _Limit(2**20, 1, 2**20),  # and whatever is one: _EVENTS
    "log": _Limit(MAX_LOG_BYTES, 1, MAX_CONTAINER_BYTES),
    "client_report": _Limit(4 * 1024, 10, 4 * 1024),
    "session": _Limit(2**20, 100, 2**20),
    "check_in": _Limit(100 * 1024, 1, 100 * 1024),
    "attachment": _Limit(200 * 2**20, 10_000, 200 * 2**20),
}

_LEDGER = ("run", "stream", "seq", "lines", "skipped", "logger", "lost", "first_seq", "last_seq")
_OWN = frozenset(
    {"host", "source", "service", "run", "stream", "seq", "lines", "part", "skipped", "worker_id", "agent_id",
     "server.address", "sentry.severity_number", "sentry.severity_text"}
)  # fmt: skip
"""Shown in columns of their own, so not again among the attributes."""


class Sentry(Intake):
    name = "sentry"
    title = "Sentry"
    max_wire_bytes = MAX_ENVELOPE_BYTES
    secret_names = frozenset({"x-sentry-auth", "authorization", "sentry_key"})
    request_id_names = ()
    fault_fields = frozenset({"rate_limits"})

    def settings(self, url: str) -> dict[str, str]:
        scheme, _, server = url.partition("://")
        return {"SENTRY_DSN": f"{scheme}://{'0' * 32}@{server}/1"}

    def claims(self, request: Request) -> bool:
        path = request.path
        return (
            (path.startswith("/api/") and path.rstrip("/").endswith("/envelope"))
            or "x-sentry-auth" in request.headers
            or "sentry_key" in request.query
        )

    def without_keys(self, request: Request) -> Request:
        """The header holds more than the key, which alone is hidden."""
        hidden = super().without_keys(request)
        headers = dict(hidden.headers)
        for name in ("x-sentry-auth", "authorization"):
            pairs = _pairs(request.headers.get(name, ""))
            if "sentry_key" in pairs:
                headers[name] = "…" + pairs["sentry_key"][-4:]
        return Request(hidden.method, hidden.path, hidden.query, headers, hidden.body, hidden.received_ms)

    def admit(self, request: Request) -> None:
        path = _PATH.fullmatch(request.path)
        if path is None:
            raise RefusedError("HTTP path is wrong", Answer(404, b""))
        if request.method != "POST":
            raise RefusedError("HTTP method is not POST", Answer(405, b"", {"Allow": "POST"}))
        if _number(path[1], 2**64 - 1) is None:
            raise self._refused(400, "bad project path parameter", "Invalid URL: Cannot parse the project id")
        auth = self._auth(request)
        if auth is not None:
            self._check(auth)

    def _auth(self, request: Request) -> Mapping[str, str] | None:
        found: list[Mapping[str, str]] = []
        for name in ("x-sentry-auth", "authorization"):
            value = request.headers.get(name, "")
            if value[:7].lower() == "sentry ":
                pairs = _pairs(value)
                if "sentry_key" not in pairs:
                    raise self._refused(401, "bad x-sentry-auth header", "missing public key in auth header")
                found.append(pairs)
        if any(name.startswith("sentry_") for name in request.query):
            if "sentry_key" not in request.query:
                raise self._refused(401, "bad x-sentry-auth header", "missing public key in auth header")
            found.append(request.query)
        if len(found) > 1:
            raise self._refused(401, "multiple authorization payloads detected")
        return found[0] if found else None

    def _check(self, auth: Mapping[str, str]) -> None:
        if _KEY.fullmatch(auth["sentry_key"]) is None:
            raise self._refused(400, "bad sentry DSN public key", "invalid project key")
        version = _number(auth.get("sentry_version", str(PROTOCOL_VERSION)).partition(".")[0], 2**16 - 1)
        if version is None:
            raise self._refused(401, "bad x-sentry-auth header", "invalid value for version")
        if version > PROTOCOL_VERSION:
            raise self._refused(400, f"unsupported protocol version ({version})")

    def verify(self, request: Request) -> bytes:
        """The envelope's dsn, which stands in for the key or has to agree with it."""
        body = self._decompressed(request)
        auth = self._auth(request)
        line = body.partition(b"\n")[0]
        if auth is None:
            try:
                header = orjson.loads(line)
            except orjson.JSONDecodeError:
                raise self._refused(401, "bad envelope authentication header", "expected value") from None
            dsn = _dsn(header)
            if dsn is None:
                raise self._refused(401, "missing authorization information")
            auth = {"sentry_key": dsn[0]}
            self._check(auth)
        else:
            try:
                header = orjson.loads(line)
            except orjson.JSONDecodeError:
                return body  # unpack says what is wrong with it
            dsn = _dsn(header)
        if dsn is not None:
            path = _PATH.fullmatch(request.path)
            if path is None or dsn[1] != path[1]:
                raise self._invalid("project id header mismatch between envelope and request")
            if dsn[0].lower() != auth["sentry_key"].lower():
                raise self._invalid("public key header mismatch between envelope and request")
        return body

    def unpack(self, request: Request, body: bytes | None = None) -> Unpacked:
        if body is None:
            body = self._decompressed(request)
        header, at = self._header(body)
        event_id = header.get("event_id")
        items = list(self._items(body, at))
        self._check_sizes(items)
        found = _Found(request.received_ms)
        kinds: dict[str, int] = {}
        for item in items:
            kinds[item.kind] = kinds.get(item.kind, 0) + 1
            if item.kind == "log":
                _unpack_logs(item, found)
            elif item.kind == "event":
                event_id = self._unpack_event(item, found) or event_id
            elif item.kind in _EVENTS:
                event_id = event_id or uuid.uuid4().hex
        about = {"id": event_id, "kinds": kinds}
        return Unpacked(
            found.entries,
            len(body),
            raw=found.raw,
            too_old=frozenset(found.too_old),
            dropped=tuple(found.dropped),
            about=about,
        )

    def _decompressed(self, request: Request) -> bytes:
        encoding = request.headers.get("content-encoding", "")
        if encoding.lower() == "utf-8":
            encoding = ""
        try:
            body = decompress(request.body, encoding, MAX_ENVELOPE_BYTES, ENCODINGS)
        except TooLargeError:
            raise RefusedError(
                "Payload is too large: more than 200 MiB", Answer(413, b"length limit exceeded", {}, "text/plain")
            ) from None
        except BodyError as error:
            raise self._refused(400, "invalid request body", str(error)) from None
        except LookupError:
            raise RefusedError(
                "Content-Encoding is wrong", Answer(415, b"", {"Accept-Encoding": "gzip,deflate,br,zstd"})
            ) from None
        if not body:
            raise self._refused(400, "empty request body")
        return body

    def _header(self, body: bytes) -> tuple[dict[str, Any], int]:
        if not body.strip():
            raise self._invalid("missing envelope header")
        header, at = self._object(body, 0, "envelope")
        event_id = header.get("event_id")
        if event_id is not None and _uuid(event_id) is None:
            raise self._invalid("invalid envelope header")
        return header, at

    def _object(self, body: bytes, at: int, of: str) -> tuple[dict[str, Any], int]:
        """A header, and where what follows its newline begins. As Relay's parser has it, it may span lines."""
        end = body.find(b"\n", at)
        end = end if end >= 0 else len(body)
        try:
            header = orjson.loads(body[at:end])
            if body[end - 1 : end].isspace():
                raise self._invalid("missing newline after header or payload")
        except orjson.JSONDecodeError:
            # Latin-1 keeps a character a byte: only where the object ends is asked for.
            text = body[at : at + MAX_HEADER_BYTES].decode("latin-1")
            start = len(text) - len(text.lstrip(" \t\r\n"))
            if start == len(text):
                raise self._invalid("unexpected end of file") from None
            try:
                end = at + json.JSONDecoder().raw_decode(text, start)[1]
                header = orjson.loads(body[at:end])
            except (ValueError, RecursionError):
                raise self._invalid(f"invalid {of} header") from None
            if end < len(body) and body[end : end + 1] != b"\n":
                raise self._invalid("missing newline after header or payload") from None
        if type(header) is not dict:
            raise self._invalid(f"invalid {of} header")
        return header, min(end + 1, len(body))

    def _items(self, body: bytes, at: int) -> Iterator[_Item]:
        while at < len(body):
            header, at = self._object(body, at, "item")
            if type(header.get("type")) is not str:
                raise self._invalid("invalid item header")
            length = header.get("length")
            if length is None:
                end = body.find(b"\n", at)
                end = end if end >= 0 else len(body)
            elif type(length) is not int or not 0 <= length < 2**32:
                raise self._invalid("invalid item header")
            else:
                end = at + length
                if end > len(body):
                    raise self._invalid("unexpected end of file")
                if end < len(body) and body[end : end + 1] != b"\n":
                    raise self._invalid("missing newline after header or payload")
            yield _Item(header["type"], header, body[at:end])
            at = end + 1

    def _check_sizes(self, items: list[_Item]) -> None:
        counts: dict[str, int] = {}
        totals: dict[str, int] = {}
        for item in items:
            kind = "event" if item.kind in _EVENTS else "session" if item.kind == "sessions" else item.kind
            limit = _LIMITS.get(kind)
            if limit is None:
                continue
            size = len(item.payload)
            each = size
            if kind == "log" and item.header.get("content_type") == LOG_TYPE:
                each = size // max(1, _item_count(item) or 1)
            counts[kind] = counts.get(kind, 0) + 1
            totals[kind] = totals.get(kind, 0) + size
            if each > limit.item_bytes or counts[kind] > limit.items or totals[kind] > limit.total_bytes:
                raise self._refused(413, _SIZES.format(item.kind))

    def _unpack_event(self, item: _Item, found: _Found) -> str | None:
        """An error or a message. Malformed ones are taken and dropped in processing."""
        try:
            event = orjson.loads(item.payload)
        except orjson.JSONDecodeError:
            event = None
        if type(event) is not dict:
            found.drop(1, "dropped in processing: the event is not JSON")
            found.add({}, item, {"level": "error", "event": {}})
            return None
        time_ms = _time_ms(event.get("timestamp"))
        if time_ms is not None and time_ms < found.received_ms - MAX_AGE_MS:
            found.too_old.append(len(found.entries))
        run = _tag(event, "run")
        entry = {"run": run, "logger": event.get("logger")} if run is not None else {}
        found.add(entry, item, {"level": event.get("level", "error"), "event": event})
        return _uuid(event.get("event_id"))

    def settle(self, request: Request, unpacked: Unpacked, order: Order | None = None) -> Answer:
        headers = {}
        if order is not None and order.rate_limits is not None:
            headers["X-Sentry-Rate-Limits"] = order.rate_limits
        event_id = unpacked.about.get("id")
        answer = {} if event_id is None else {"id": _uuid(event_id)}
        return Answer(200, orjson.dumps(answer), headers)

    def refusal(self, status: int, detail: str | None = None) -> Answer:
        if detail is None:
            detail = _DETAILS.get(status, "internal server error")
        return Answer(status, orjson.dumps({"detail": detail}))

    def _refused(self, status: int, detail: str, *causes: str) -> RefusedError:
        body: dict[str, Any] = {"detail": detail}
        if causes:
            body["causes"] = causes
        return RefusedError(": ".join((detail, *causes)), Answer(status, orjson.dumps(body)))

    def _invalid(self, cause: str) -> RefusedError:
        return self._refused(400, "invalid event envelope", cause)

    def view(self, index: int, unpacked: Unpacked, request: Request) -> dict[str, Any]:
        item, log = unpacked.raw[index]
        marks = unpacked.why_dropped(index)
        if index in unpacked.too_old:
            marks.append("dropped in processing: too old (more than 30 days)")
        kinds = unpacked.about["kinds"]
        if len(set(kinds) & {"log", "event", "transaction", "span", "trace_metric"}) > 1:
            marks.append("more than one kind of telemetry in the envelope")
        view = _view_event(log, marks) if item.kind == "event" else _view_log(log, marks)
        time_ms = view["time_ms"]
        if time_ms is None:
            view["time_ms"] = request.received_ms
        elif time_ms > request.received_ms + MAX_AHEAD_MS:
            view["time_ms"] = request.received_ms
            marks.append("more than 60 s in the future: the time of arrival counts")
        path = _PATH.fullmatch(request.path)
        view["place"] = {"project": path[1] if path else "", "item": item.kind}
        return view


class _Item(NamedTuple):
    kind: str
    header: Mapping[str, Any]
    payload: bytes


class _Found:
    """What the items of an envelope hold, in order."""

    def __init__(self, received_ms: int) -> None:
        self.received_ms = received_ms
        self.entries: list[dict[str, Any]] = []
        self.raw: list[tuple[_Item, Any]] = []
        self.too_old: list[int] = []
        self.dropped: list[Dropped] = []

    def add(self, entry: dict[str, Any], item: _Item, log: Any) -> None:
        self.entries.append(entry)
        self.raw.append((item, log))

    def drop(self, count: int, why: str) -> None:
        """The next entries."""
        first = len(self.entries)
        if self.dropped and self.dropped[-1][1:] == (first, why):
            self.dropped[-1] = (self.dropped[-1][0], first + count, why)
        elif count:
            self.dropped.append((first, first + count, why))


_BARE = _Item("log", {}, b"")
"""Stands for a log's item: its payload is not kept a second time."""


def _unpack_logs(item: _Item, found: _Found) -> None:
    try:
        loaded = orjson.loads(item.payload)
    except orjson.JSONDecodeError:
        loaded = None
    logs = loaded.get("items") if type(loaded) is dict else None
    if type(logs) is not list:
        count = max(1, min(_item_count(item) or 1, 100_000))
        found.drop(count, 'dropped in processing: the payload is not {"items":[…]}')
        for _ in range(count):
            found.add({}, _BARE, {})
        return
    whole = None
    if item.header.get("content_type") != LOG_TYPE:
        whole = f"dropped in processing: content_type is not {LOG_TYPE}"
    elif _item_count(item) != len(logs):
        whole = f"dropped in processing: item_count is {_item_count(item)}, but the container holds {len(logs)}"
    elif not all(type(log) is dict for log in logs):
        whole = "dropped in processing: an item is not an object"
    if whole is not None:
        found.drop(len(logs), whole)
    oldest = found.received_ms - MAX_AGE_MS
    for log in logs:
        if type(log) is not dict:
            found.add({}, _BARE, {})
            continue
        time_ms = _time_ms(log.get("timestamp"))
        if whole is None:
            why = _lacks(log, time_ms)
            if why is not None:
                found.drop(1, f"dropped in processing: {why}")
            elif time_ms < oldest:  # type: ignore[operator]  # a log without a time lacks it
                found.too_old.append(len(found.entries))
        attributes = log.get("attributes")
        entry = {}
        if type(attributes) is dict:
            for name in _LEDGER:
                attribute = attributes.get(name)
                if attribute is not None and type(attribute) is dict and "value" in attribute:
                    entry[name] = attribute["value"]
        found.add(entry, _BARE, log)


def _lacks(log: Mapping[str, Any], time_ms: int | None) -> str | None:
    if time_ms is None:
        return "timestamp is missing or no time"
    if type(log.get("body")) is not str:
        return "body is missing or no text"
    if type(log.get("level")) is not str:
        return "level is missing or no text"
    trace_id = log.get("trace_id")
    if type(trace_id) is not str or _TRACE.fullmatch(trace_id) is None:
        return "trace_id is missing or not 32 hex digits"
    return None


def _view_log(log: Mapping[str, Any], marks: list[str]) -> dict[str, Any]:
    level = log.get("level")
    if type(level) is str and level not in _LEVELS:
        marks.append(f"{level} is none of Sentry's levels")
    given = log.get("attributes")
    stored: dict[str, Any] = {}
    for name, attribute in (given if type(given) is dict else {}).items():
        why = _mistyped(attribute)
        if why is None:
            stored[name] = attribute["value"]
        else:
            marks.append(f"attribute {name} was removed: {why}")
    return {
        "time_ms": _time_ms(log.get("timestamp")),
        "level": level_of(level),
        "message": text_of(log.get("body")) or "",
        "host": text_of(stored.get("host", stored.get("server.address"))),
        "source": text_of(stored.get("source")),
        **carried(stored),
        "tags": [],
        "attributes": {name: value for name, value in stored.items() if name not in _OWN},
        "marks": marks,
        "remapped": {},
        "shadowed": {},
        "trace_id": text_of(log.get("trace_id")),
    }


def _view_event(shown: Mapping[str, Any], marks: list[str]) -> dict[str, Any]:
    event = shown["event"]
    contexts = event.get("contexts")
    trace = contexts.get("trace") if type(contexts) is dict else None
    return {
        "time_ms": _time_ms(event.get("timestamp")),
        "level": level_of(shown["level"]),
        "message": _title(event),
        "host": text_of(event.get("server_name")),
        "source": _tag(event, "source"),
        "service": _tag(event, "service"),
        "stream": None,
        "run": _tag(event, "run"),
        "seq": None,
        "lines": None,
        "part": None,
        "skipped": None,
        "tags": [f"{text_of(key)}:{text_of(value)}" for key, value in _tags(event)],
        "attributes": {k: v for k, v in event.items() if k not in ("timestamp", "level", "server_name", "tags")},
        "marks": marks,
        "remapped": {},
        "shadowed": {},
        "trace_id": text_of(trace.get("trace_id")) if type(trace) is dict else None,
    }


def _tags(event: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """An object, or a list of pairs."""
    tags = event.get("tags")
    pairs = tags.items() if type(tags) is dict else tags if type(tags) is list else ()
    return [(pair[0], pair[1]) for pair in pairs if type(pair) in (tuple, list) and len(pair) == 2]


def _tag(event: Mapping[str, Any], name: str) -> str | None:
    return next((value for key, value in _tags(event) if key == name and type(value) is str), None)


def _title(event: Mapping[str, Any]) -> str:
    """What Sentry lists an event under: the last exception, else the message."""
    exception = event.get("exception")
    values = exception.get("values") if type(exception) is dict else exception
    if type(values) is list and values and type(values[-1]) is dict:
        kind, value = values[-1].get("type"), values[-1].get("value")
        return ": ".join(str(text_of(part)) for part in (kind, value) if part is not None)
    for found in (event.get("logentry"), event.get("message")):
        if type(found) is dict:
            found = found.get("formatted") or found.get("message")
        if type(found) is str:
            return found
    return ""


def _mistyped(attribute: object) -> str | None:
    if type(attribute) is not dict:
        return "it is not an object"
    kind, value = attribute.get("type"), attribute.get("value")
    if type(kind) is not str or value is None:
        return "type or value is missing"
    known = _KINDS.get(kind)
    if known is None:
        return f"{kind} is no type"
    if type(value) not in known:
        return f"its value is not of type {kind}"
    if kind == "integer" and not -(2**63) <= value < 2**63:
        return "an integer of more than 64 bits with its sign"
    if type(value) is list:
        kinds = {_ELEMENTS.get(type(one)) for one in value if one is not None}
        if None in kinds:
            return "an array that holds arrays or objects"
        if len(kinds) > 1:
            return "an array of more than one kind"
    return None


_ELEMENTS: Mapping[type, str] = {str: "text", bool: "truth", int: "number", float: "number"}
"""The kinds of what an array may hold, besides null."""

_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "double": (int, float),
    "boolean": (bool,),
    "array": (list,),
}

_DETAILS = {
    400: "invalid event envelope",
    401: "missing authorization information",
    403: "event submission rejected with_reason: ProjectId",
    413: _SIZES.format("log"),
    429: "Sentry dropped data due to a quota or internal rate limit being reached. This will not affect your "
    "application. See https://docs.sentry.io/product/accounts/quotas/ for more information.",
    503: "failed to queue envelope",
}


def _number(text: str, most: int) -> int | None:
    """A whole number as Rust parses one into a type that holds `most`; None for anything else."""
    digits = text.lstrip("0")
    if not text.isascii() or not text.isdigit() or len(digits) > len(str(most)):
        return None
    number = int(digits or "0")
    return number if number <= most else None


def _item_count(item: _Item) -> int | None:
    count = item.header.get("item_count")
    return count if type(count) is int and count >= 0 else None


def _pairs(header: str) -> dict[str, str]:
    """`Sentry a=1, b=2`."""
    found = {}
    for pair in header[7:].split(","):
        name, equals, value = pair.strip().partition("=")
        if equals:
            found[name.strip()] = value.strip()
    return found


def _dsn(header: object) -> tuple[str, str] | None:
    """Key and project of the envelope header's dsn."""
    dsn = header.get("dsn") if type(header) is dict else None
    if type(dsn) is not str:
        return None
    try:
        parts = urlsplit(dsn)
        return (parts.username or "", parts.path.rpartition("/")[2]) if parts.username else None
    except ValueError:
        return None


def _uuid(value: object) -> str | None:
    """An event id as Relay writes it: 32 hex digits."""
    if type(value) is not str:
        return None
    try:
        return uuid.UUID(value).hex
    except ValueError:
        return None


def _time_ms(value: object) -> int | None:
    if type(value) in (int, float):
        seconds = float(value)  # type: ignore[arg-type]
        return int(seconds * 1000) if 0 <= seconds < 1e11 else None
    if type(value) is not str:
        return None
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return int(date.timestamp() * 1000)
