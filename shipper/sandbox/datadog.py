"""Datadog's logs intake, POST /api/v2/logs, as strict as the real one.

What is answered, and where that was read (November 2026):

| case | answer | source |
| --- | --- | --- |
| taken | 202 `{}` | docs.datadoghq.com/api/latest/logs/send-logs; recorded from the real service in datadog-api-client-python tests/v2/cassettes/test_scenarios/test_send_logs_returns_request_accepted_…yaml |
| form of every error | `{"errors":[{"status":"403","title":"Forbidden","detail":"…"}]}`, status as text | datadog-api-client HTTPLogErrors, HTTPLogError; seen from the real logs intake in opentelemetry-collector-contrib issue 16380 (400) and in dd-trace-py tests/llmobs/test_llmobs_span_writer.py, recorded (403) |
| key missing | 401 | send-logs page, "401: Unauthorized (likely a missing API Key)" |
| key malformed or unknown | 403, "API key is missing or invalid" | send-logs page; the words since July 2026: logstash-output-datadog_logs pull request 65 |
| key in header and in the query | the header's counts | documentation content/en/api/logs/send_logs_datadog.md, its note |
| key's shape | 32 hex digits, or `pub` and 32 hex digits | node-dogapi issue 71 (other lengths and letters beyond f: Forbidden); browser-sdk for client tokens |
| path | 404, "HTTP path is invalid" | the words: opentelemetry-collector-contrib issue 16380, where the status was 400; 404 with these words is reported of the sibling OTLP intake |
| method | 405 | not documented; RFC 9110 |
| body broken, not JSON, neither object nor array, entry no object | 400 | send-logs page, "400: Bad request (likely an issue in the payload formatting)" |
| unknown Content-Encoding or Content-Type | 400 | not documented; 415 is not among the statuses of the send-logs page, so the page's word for wrong formatting |
| Content-Encoding | identity, gzip, deflate | datadog-api-client ContentEncoding; documentation pull request 6697. deflate has zlib's header: atlassian/gostatsd pull request 127 |
| Content-Encoding zstd | taken | the Agent's default since 7.67: opentelemetry-collector-contrib pull request 40908 |
| Content-Type | application/json, text/plain, application/logplex-1; none: JSON | datadog-api-client, submit_log's headers_map. logplex (Heroku's syslog frames) is the one thing that the sandbox does not read: 400 |
| text/plain | one log a line; a line that is a JSON object is one | browser-sdk core/src/transport/batch.ts joins JSON messages with newlines |
| more than 5 MB uncompressed | 413 | send-logs page; 5,000,000: datadog-agent DefaultBatchMaxContentSize, Vector MAX_PAYLOAD_BYTES |
| more than 1,000 entries | 413 | limit: send-logs page, which names no status for it |
| a log over 1 MB | taken and cut | send-logs page |
| `[]`, `{}` | taken, holds no log | datadog-agent pkg/logs/client/http/destination.go, emptyJSONPayload: "to check HTTP connectivity without sending logs" |
| a log more than 18 h old, or more than 2 h ahead | taken, then rejected silently | documentation content/en/logs/log_configuration/pipelines.md for the old ones; log_date_remapper, "Notes": "up to 18 hours in the past and two hours in the future" |

What becomes of a log (`view`) is the default preprocessing for JSON logs (pipelines.md, `RESERVED` below): the first of
the listed attributes that is there gives the official value, so an attribute of the agent's can take the place of the
sender's; `remapped` says which it was and `shadowed` which came too late. The order of the lists is the page's; that the
first one wins is how the page lists them, not something that it says. A `message` that is itself a JSON object is
parsed, as Datadog does with every JSON log, and its attributes join the others'.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import orjson

from shipper.lines.deep import json_text
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
    text_of,
)

PATH = "/api/v2/logs"
MAX_BODY_BYTES = 5_000_000
MAX_ENTRIES = 1_000
MAX_LOG_BYTES = 1_000_000
MAX_AGE_MS = 18 * 3600 * 1000
MAX_AHEAD_MS = 2 * 3600 * 1000

KEY_HEADER = "dd-api-key"
_KEY = re.compile(r"(?:pub)?[0-9a-fA-F]{32}")

RESERVED: Mapping[str, tuple[str, ...]] = {
    # content/en/logs/log_configuration/pipelines.md, "Preprocessing"; message: the app's default is these three.
    "host": ("host", "hostname", "syslog.hostname"),
    "date": (
        "@timestamp",
        "timestamp",
        "_timestamp",
        "Timestamp",
        "eventTime",
        "date",
        "published_date",
        "syslog.timestamp",
    ),
    "message": ("message", "msg", "log"),
    "status": ("status", "severity", "level", "syslog.severity"),
    "service": ("service", "syslog.appname"),
    "trace_id": ("dd.trace_id", "contextMap.dd.trace_id"),
}
_RANKS = {name: (reserved, rank) for reserved, names in RESERVED.items() for rank, name in enumerate(names)}
"""Each attribute of RESERVED: what it can become, and how many others go before it."""

_ROOTS = frozenset(name.partition(".")[0] for name in _RANKS if "." in name)
"""What holds the nested ones: `syslog.hostname` is also {"syslog": {"hostname": …}}."""

_BEFORE_TIMESTAMP = "@timestamp"
"""The one attribute that counts for the date before `timestamp`, which shipper and most senders use."""

SYSLOG = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")

_STATUS_PREFIXES = (
    # docs.datadoghq.com/logs/log_configuration/processors/log_status_remapper, in its order
    ("emerg", "emergency"),
    ("f", "emergency"),
    ("a", "alert"),
    ("c", "critical"),
    ("err", "error"),
    ("w", "warning"),
    ("n", "notice"),
    ("i", "info"),
    ("d", "debug"),
    ("t", "debug"),
    ("v", "debug"),
    ("o", "ok"),
    ("s", "ok"),
)

_AHEAD = "rejected on arrival: more than 2 h in the future"

_OWN = frozenset({"ddsource", "ddtags", "run", "stream", "seq", "lines", "part", "skipped"})
"""Shown in columns of their own, so not again among the attributes."""


class Datadog(Intake):
    name = "datadog"
    title = "Datadog"
    max_wire_bytes = MAX_BODY_BYTES
    secret_names = frozenset({KEY_HEADER, "dd-application-key", "api_key", "authorization"})
    request_id_names = ("dd-request-id",)

    def settings(self, url: str) -> dict[str, str]:
        return {"DATADOG_TOKEN": "pub" + "0" * 32, "SHIPPER_DATADOG_URL": url}

    def claims(self, request: Request) -> bool:
        return request.path.rstrip("/") == PATH or KEY_HEADER in request.headers or KEY_HEADER in request.query

    def admit(self, request: Request) -> None:
        if request.path != PATH:
            raise self._refused(404, "HTTP path is invalid")
        if request.method != "POST":
            raise self._refused(405, "HTTP method is invalid", {"Allow": "POST"})
        key = request.headers.get(KEY_HEADER) or request.query.get(KEY_HEADER)
        if not key:
            raise self._refused(401, "API key is missing or invalid", reason="API key is missing")
        if _KEY.fullmatch(key) is None:
            raise self._refused(403, "API key is missing or invalid", reason="API key is malformed")

    def unpack(self, request: Request, body: bytes | None = None) -> Unpacked:
        try:
            body = decompress(request.body, request.headers.get("content-encoding", ""), MAX_BODY_BYTES)
        except TooLargeError:
            raise self._refused(413, "Payload is too large: more than 5 MB uncompressed") from None
        except BodyError as error:
            raise self._refused(400, str(error)) from None
        except LookupError:
            raise self._refused(400, "Content-Encoding is invalid") from None
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in ("", "application/json"):
            entries = self._json(body)
        elif kind == "text/plain":
            entries = _lines(body)
        elif kind == "application/logplex-1":
            raise self._refused(400, "This sandbox does not read application/logplex-1; the real intake does")
        else:
            raise self._refused(400, "Content-Type is invalid")
        if len(entries) > MAX_ENTRIES:
            raise self._refused(413, "Payload is too large: more than 1000 entries")
        cut = _over_size(entries) if len(body) > MAX_LOG_BYTES else frozenset()
        too_old, dropped = self._times(entries, request.received_ms)
        return Unpacked(entries, len(body), too_old=too_old, dropped=dropped, cut=cut)

    def settle(self, request: Request, unpacked: Unpacked, order: Order | None = None) -> Answer:
        return Answer(202, b"{}")

    def refusal(self, status: int, detail: str | None = None) -> Answer:
        try:
            title = HTTPStatus(status).phrase
        except ValueError:
            title = "Error"
        error = {"status": str(status), "title": title, "detail": detail or title}
        return Answer(status, orjson.dumps({"errors": [error]}))

    def _refused(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, *, reason: str | None = None
    ) -> RefusedError:
        answer = self.refusal(status, detail)
        return RefusedError(reason or detail, Answer(answer.status, answer.body, headers or {}))

    def _json(self, body: bytes) -> list[dict[str, Any]]:
        try:
            loaded = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise self._refused(400, "Payload is not valid JSON") from None
        if type(loaded) is dict:
            return [loaded] if loaded else []
        if type(loaded) is not list:
            raise self._refused(400, "Payload is neither a JSON array nor a JSON object")
        return loaded

    def _times(self, entries: list[dict[str, Any]], received_ms: int) -> tuple[frozenset[int], tuple[Dropped, ...]]:
        """Which are too old, and which too far ahead.

        Also where every entry is looked at for being an object: one pass, this is the hot path.
        """
        oldest, newest = received_ms - MAX_AGE_MS, received_ms + MAX_AHEAD_MS
        found: list[int] = []
        ahead: list[Dropped] = []
        for index, entry in enumerate(entries):
            if type(entry) is not dict:
                raise self._refused(400, "Payload holds an entry that is not a JSON object")
            date = entry.get("timestamp")
            if type(date) is not int or _BEFORE_TIMESTAMP in entry:
                date = _date_ms(_preprocess(entry)[0].get("date"))
            if date is None or oldest <= date <= newest:
                continue
            if date < oldest:
                found.append(index)
            elif ahead and ahead[-1][1] == index:
                ahead[-1] = (ahead[-1][0], index + 1, _AHEAD)
            else:
                ahead.append((index, index + 1, _AHEAD))
        return frozenset(found), tuple(ahead)

    def view(self, index: int, unpacked: Unpacked, request: Request) -> dict[str, Any]:
        entry = unpacked.entries[index]
        query = request.query
        official, remapped, shadowed, attributes, parsed = _preprocess_whole(entry)
        marks = unpacked.why_dropped(index)
        if index in unpacked.too_old:
            marks.append("rejected on arrival: too old (more than 18 h)")
        if index in unpacked.cut:
            marks.append("cut: larger than 1 MB")
        if parsed:
            marks.append("message was JSON and was parsed into attributes")
        message = text_of(official.get("message")) or ""
        if index in unpacked.cut:
            message = message.encode()[:MAX_LOG_BYTES].decode(errors="ignore")
        apart = _OWN.union(remapped.values())
        date = _date_ms(official.get("date"))
        if date is None:
            date = request.received_ms
            if "date" in remapped:
                marks.append(f"{remapped['date']} is no date that Datadog reads: the time of arrival counts")
        return {
            "time_ms": date,
            "level": level_of(official.get("status")),
            "message": message,
            "host": text_of(official.get("host", query.get("hostname"))),
            "source": text_of(entry.get("ddsource", query.get("ddsource"))),
            **carried(entry),
            "service": text_of(official.get("service", query.get("service"))),
            "tags": _tags(entry.get("ddtags")) + _tags(query.get("ddtags")),
            "attributes": {k: v for k, v in attributes.items() if k not in apart},
            "marks": marks,
            "remapped": remapped,
            "shadowed": shadowed,
            "trace_id": text_of(official.get("trace_id")),
        }


def level_of(status: object) -> str:
    """Datadog's status for what the official status attribute holds; info when it says nothing to Datadog."""
    if type(status) is int:
        return SYSLOG[status] if 0 <= status <= 7 else "info"
    if type(status) is str:
        word = status.strip().lower()
        for prefix, level in _STATUS_PREFIXES:
            if word.startswith(prefix):
                return level
    return "info"


def _lines(body: bytes) -> list[dict[str, Any]]:
    """text/plain: a log a line; those that are JSON objects are that, every other one is a message."""
    entries: list[dict[str, Any]] = []
    for line in body.split(b"\n"):
        line = line.removesuffix(b"\r")
        if not line:
            continue
        try:
            loaded = orjson.loads(line) if line.startswith(b"{") else None
        except orjson.JSONDecodeError:
            loaded = None
        entries.append(loaded if type(loaded) is dict else {"message": line.decode(errors="replace")})
    return entries


def _over_size(entries: list[dict[str, Any]]) -> frozenset[int]:
    """Entries over 1 MB. Called only for bodies over 1 MB: measuring means serialising."""
    return frozenset(i for i, entry in enumerate(entries) if len(json_text(entry).encode()) > MAX_LOG_BYTES)


def _preprocess(
    attributes: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, str], dict[str, list[str]]]:
    """The official values, the attribute that each was taken from, and those that came too late for it."""
    official: dict[str, Any] = {}
    remapped: dict[str, str] = {}
    shadowed: dict[str, list[str]] = {}
    names = _RANKS.keys() & attributes.keys()
    for root in _ROOTS & attributes.keys():
        names.update(name for name in _RANKS if name.startswith(root + "."))
    for name in sorted(names, key=_RANKS.__getitem__):
        value = attributes.get(name)
        if value is None:
            value = _nested(attributes, name)
        # A structure cannot be a host or a date: pipelines.md speaks of values.
        if value is None or type(value) in (dict, list):
            continue
        reserved = _RANKS[name][0]
        if reserved in remapped:
            shadowed.setdefault(reserved, []).append(name)
        else:
            official[reserved] = value
            remapped[reserved] = name
    return official, remapped, shadowed


def _preprocess_whole(
    entry: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, str], dict[str, list[str]], Mapping[str, Any], bool]:
    """The same, with a message that is a JSON object parsed first; its attributes take the place of the entry's."""
    message = entry.get("message")
    if type(message) is str and message.lstrip().startswith("{"):
        try:
            inner = orjson.loads(message)
        except orjson.JSONDecodeError:
            inner = None
        if type(inner) is dict:
            merged = {**entry, **inner}
            official, remapped, shadowed = _preprocess(merged)
            return official, remapped, shadowed, merged, True
    official, remapped, shadowed = _preprocess(entry)
    return official, remapped, shadowed, entry, False


def _nested(attributes: Mapping[str, Any], path: str) -> Any:
    found: Any = attributes
    for name in path.split("."):
        if type(found) is not dict:
            return None
        found = found.get(name)
    return found


def _date_ms(value: object) -> int | None:
    """A date of one of the three formats that pipelines.md names, as milliseconds since 1970; None for others."""
    if type(value) in (int, float):
        return int(value) if abs(value) < 1e15 else None  # type: ignore[call-overload,arg-type]
    if type(value) is not str:
        return None
    if value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        try:  # RFC 3164: "Nov 24 23:17:00", without a year
            date = datetime.strptime(f"{datetime.now(UTC).year} {value} +0000", "%Y %b %d %H:%M:%S %z")
        except ValueError:
            return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    try:
        return int(date.timestamp() * 1000)
    except (OverflowError, ValueError):
        return None


def _tags(value: object) -> list[str]:
    if type(value) is list:
        return [text_of(tag) or "null" for tag in value]
    return [tag for tag in value.split(",") if tag] if type(value) is str else []
