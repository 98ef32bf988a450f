"""New Relic's Log API, POST /log/v1, as strict as the real one.

What is answered, and where that was read (November 2026). "page": docs.newrelic.com/docs/logs/log-api/introduction-log-api;
"data": …/log-api/log-event-data; "sdk": newrelic-telemetry-sdk-specs communication.md, whose table of statuses is for
all of New Relic's ingest APIs.

| case | answer | source |
| --- | --- | --- |
| taken | 202 `{"requestId":"<UUID>"}` | page; sdk |
| key | header Api-Key, License-Key, X-License-Key or X-Insert-Key, or query parameter Api-Key or License-Key | page for Api-Key and License-Key; newrelic-fluentd-output issue 11 and docs-website issue 7359 for X-License-Key; an older edition of the page ("Exactly one of: X-Insert-Key or X-License-Key") and logstash-output-plugin for X-Insert-Key |
| key missing, malformed or unknown | 403 | no-log-data-appears-ui ("HTTP Error 403: Forbidden. Review your license key."); sdk |
| key's shape | 40 characters; newer ones end in NRAL | newrelic-dotnet-agent pull request 2982 (exactly 40 of 0x21 to 0x7E); new-relic-api-keys page |
| an Insights insert key, NRII- and 32 characters | taken under each of the names | older editions of the page ("You can also use an Insights insert key but the license key is preferred"); today's names license keys alone, and that the others ended is not said |
| path | 404 | sdk |
| method | 405 | sdk |
| no Content-Length | 411 | sdk. A body in chunks with `Transfer-Encoding: chunked` counts as that here; not said of it |
| more than 10^6 bytes | 413 | page ("1MB(10^6 bytes) maximum per POST"); sdk. Which side of compression is not said; on the wire is what New Relic's own senders count: newrelic-fluent-bit-output record.go |
| Content-Type | application/json, json, application/gzip, gzip; parameters are ignored; others and none: 415 | page ("Required"); 415: the sibling metric and trace APIs' tables |
| Content-Encoding | identity, gzip, deflate; others: 415 | page for gzip; deflate: sibling APIs; 415 as above |
| body not decompressible | 400 | sdk, "Generally invalid request" |
| body of another form than below | 202, nothing stored; an NrIntegrationError says "Error unmarshalling message payload" | sdk ("validates the basic shape of the request without looking at the POST body"); no-log-data-appears-ui. The summary counts it as refused, with status 202 |
| form of the other errors | `{}` | not documented and not found; senders show the status alone |
| a fault's 429 | with Retry-After in seconds when asked for | page |

The body is an array of `{"common":{"timestamp":…,"attributes":{…}},"logs":[{"timestamp":…,"message":…,"attributes":{…}}]}`
or one log as one flat object (page, "detailed" and "simplified").

| what becomes of a log | source |
| --- | --- |
| common attributes and the log's are one set; the log's win | page; that they win is how its example reads |
| `log`, `LOG`, `MESSAGE` become `message` when there is none | page |
| nested objects are flattened with dots | page. Here to 100 levels; what is deeper is stored as text |
| an array is not supported: stored as text | page; json-message-not-parsed |
| a `message` that is a JSON object, as text of up to 4,096 characters, is parsed and its fields join the attributes | page; json-message-not-parsed. That they take the place of attributes of the same name is assumed |
| another text attribute that is a JSON object is parsed too | page, "Supported attribute types"; under which names is not said: here with the attribute's name before them |
| `accountId`, `eventType` are dropped | page |
| `entity.guid`, `entity.name`, `entity.type`, `instrumentation.name`, `.provider`, `.version` are New Relic's own | data |
| more than 255 attributes: which ones are lost is not said | data. Here the last ones, but neither message nor timestamp |
| a name longer than 255 characters: what happens is not said | data. Here it is cut |
| text beyond 4,094 characters is kept, not searchable, to 128 KB; beyond that it is lost | data |
| `timestamp` in seconds or milliseconds; another value: time of arrival | page |
| more than 48 h old: "may be dropped" | page. Here it is dropped |
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from shipper.lines.deep import json_text
from shipper.sandbox.intake import (
    Answer,
    BodyError,
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

PATH = "/log/v1"
MAX_WIRE_BYTES = 1_000_000
MAX_UNPACKED_BYTES = 64 * 2**20
"""A bound of the sandbox's own: New Relic names none for what a body is once decompressed."""

MAX_AGE_MS = 48 * 3600 * 1000
MAX_ATTRIBUTES = 255
MAX_NAME = 255
MAX_SEARCHABLE = 4_094
MAX_VALUE_BYTES = 128 * 1024
MAX_PARSED = 4_096
MAX_NESTING = 100
"""Objects within objects that are flattened; New Relic says nothing of a bound. Deeper ones are stored as text here."""

KEY_NAMES = ("api-key", "license-key", "x-license-key", "x-insert-key")
_KEY = re.compile(r"[\x21-\x7e]{40}|NRII-[\x21-\x7e]{32}")
_TYPES = frozenset({"application/json", "json", "application/gzip", "gzip"})
_MESSAGES = ("message", "log", "LOG", "MESSAGE")
_DROPPED = ("accountId", "eventType")
_RESERVED = (
    "entity.guid",
    "entity.name",
    "entity.type",
    "instrumentation.name",
    "instrumentation.provider",
    "instrumentation.version",
)
_UNMARSHALLED = "Error unmarshalling message payload"

_OWN = frozenset(
    {"timestamp", "message", "level", "host", "hostname", "source", "service", "run", "stream", "seq", "lines", "part",
     "skipped"}
)  # fmt: skip
"""Shown in columns of their own, so not again among the attributes."""


class NewRelic(Intake):
    name = "newrelic"
    title = "New Relic"
    max_wire_bytes = MAX_WIRE_BYTES
    secret_names = frozenset(KEY_NAMES)
    request_id_names = ("x-request-id",)

    def settings(self, url: str) -> dict[str, str]:
        return {"NEW_RELIC_LICENSE_KEY": "0" * 36 + "NRAL", "SHIPPER_NEW_RELIC_URL": url}

    def claims(self, request: Request) -> bool:
        return request.path.rstrip("/") == PATH or any(_key(fields) for fields in (request.headers, request.query))

    def without_keys(self, request: Request) -> Request:
        """All newer keys end in the same four letters, so the four before these are left as well."""
        hidden = super().without_keys(request)
        return replace(
            hidden,
            headers={name: _hide(name, value, request.headers) for name, value in hidden.headers.items()},
            query={name: _hide(name, value, request.query) for name, value in hidden.query.items()},
        )

    def admit(self, request: Request) -> None:
        if request.path != PATH:
            raise self._refused(404, "HTTP path is wrong")
        if request.method != "POST":
            raise self._refused(405, "HTTP method is not POST", {"Allow": "POST"})
        key = _key(request.headers) or _key(request.query)
        if not key:
            raise self._refused(403, "License key is missing")
        if _KEY.fullmatch(key) is None:
            raise self._refused(403, "License key is malformed")
        if "content-length" not in request.headers:
            raise self._refused(411, "Content-Length is missing")

    def unpack(self, request: Request, body: bytes | None = None) -> Unpacked:
        if len(request.body) > MAX_WIRE_BYTES:
            raise self._refused(413, "Payload is too large: more than 1 MB")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _TYPES:
            raise self._refused(415, "Content-Type is wrong" if kind else "Content-Type is missing")
        encoding = request.headers.get("content-encoding", "") or ("gzip" if kind.endswith("gzip") else "")
        try:
            body = decompress(request.body, encoding, MAX_UNPACKED_BYTES, ("gzip", "deflate"))
        except TooLargeError:
            raise self._refused(413, "Payload is too large once decompressed: more than 64 MiB") from None
        except BodyError as error:
            raise self._refused(400, str(error)) from None
        except LookupError:
            raise self._refused(415, "Content-Encoding is wrong") from None
        return self._unmarshal(body, request.received_ms)

    def _unmarshal(self, body: bytes, received_ms: int) -> Unpacked:
        try:
            loaded = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise self._not_stored("not JSON") from None
        if type(loaded) is dict:
            loaded = [{"logs": [loaded]}]
        if type(loaded) is not list:
            raise self._not_stored("neither an array nor an object")
        entries: list[dict[str, Any]] = []
        raw: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
        old: list[int] = []
        oldest = received_ms - MAX_AGE_MS
        alone: Mapping[str, Any] = {}
        for block in loaded:
            if type(block) is not dict or type(block.get("logs")) is not list:
                raise self._not_stored("an item without logs")
            common = block.get("common") or {}
            shared = common.get("attributes", {}) if type(common) is dict else None
            if type(shared) is not dict:
                raise self._not_stored("common is not as documented")
            if len(loaded) == 1:
                alone = shared
            common_time = common.get("timestamp")
            for log in block["logs"]:
                if type(log) is not dict:
                    raise self._not_stored("a log that is not an object")
                attributes = log.get("attributes")
                if attributes is None:
                    attributes = log
                elif type(attributes) is not dict:
                    raise self._not_stored("attributes that are not an object")
                time_ms = _time_ms(log.get("timestamp", common_time))
                if time_ms is not None and time_ms < oldest:
                    old.append(len(entries))
                entries.append(attributes if alone or not shared else {**shared, **attributes})
                raw.append((common, log))
        return Unpacked(entries, len(body), shared=alone, raw=raw, too_old=frozenset(old))

    def settle(self, request: Request, unpacked: Unpacked, order: Order | None = None) -> Answer:
        return _accepted()

    def refusal(self, status: int, detail: str | None = None) -> Answer:
        return Answer(status, b"{}")

    def _refused(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> RefusedError:
        return RefusedError(reason, Answer(status, b"{}", headers or {}))

    def _not_stored(self, why: str) -> RefusedError:
        return RefusedError(f"NrIntegrationError: {_UNMARSHALLED} ({why})", _accepted())

    def view(self, index: int, unpacked: Unpacked, request: Request) -> dict[str, Any]:
        common, log = unpacked.raw[index]
        stored, marks, remapped = _ingest(common, log)
        if index in unpacked.too_old:
            marks.insert(0, "dropped on arrival: too old (more than 48 h)")
        time_ms = _time_ms(stored.get("timestamp"))
        if time_ms is None:
            time_ms = request.received_ms
            if "timestamp" in stored:
                marks.append("timestamp is neither seconds nor milliseconds: the time of arrival counts")
        return {
            "time_ms": time_ms,
            "level": level_of(stored.get("level")),
            "message": text_of(stored.get("message")) or "",
            "host": text_of(stored.get("host", stored.get("hostname"))),
            "source": text_of(stored.get("source")),
            **carried(stored),
            "tags": [],
            "attributes": {name: value for name, value in stored.items() if name not in _OWN},
            "marks": marks,
            "remapped": remapped,
            "shadowed": {},
            "place": {},
            "trace_id": text_of(stored.get("trace.id")),
        }


def _hide(name: str, hidden: str, fields: Mapping[str, str]) -> str:
    whole = fields[name]
    return "…" + whole[-8:] if name.lower() in KEY_NAMES and len(whole) == 40 and whole.endswith("NRAL") else hidden


def _accepted() -> Answer:
    return Answer(202, orjson.dumps({"requestId": str(uuid.uuid4())}))


def _key(fields: Mapping[str, str]) -> str | None:
    return next((value for name, value in fields.items() if value and name.lower() in KEY_NAMES), None)


def _time_ms(value: object) -> int | None:
    """Milliseconds since 1970 from seconds or milliseconds: seconds reach 10^11 in the year 5138."""
    if type(value) is not int or value <= 0 or value >= 10**14:
        return None
    return value * 1000 if value < 10**11 else value


def _ingest(common: Mapping[str, Any], log: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], dict[str, str]]:
    """What is stored of a log, what befell it, and where `message` was taken from if from elsewhere."""
    marks: list[str] = []
    remapped: dict[str, str] = {}
    given: dict[str, Any] = {}
    if "timestamp" in common:
        given["timestamp"] = common["timestamp"]
    given.update(common.get("attributes") or {})
    attributes = log.get("attributes")
    if type(attributes) is dict:
        given.update(attributes)
        given.update((name, value) for name, value in log.items() if name != "attributes")
    else:
        given.update(log)
    stored: dict[str, Any] = {}
    _flatten("", given, stored, marks)
    for name in _MESSAGES[1:]:
        if name in stored and "message" not in stored:
            stored["message"] = stored.pop(name)
            remapped["message"] = name
    for name in [name for name, value in stored.items() if type(value) is str and value.lstrip().startswith("{")]:
        _parse(name, stored, marks)
    marks.extend(f"{name} was dropped: a reserved name" for name in _DROPPED if stored.pop(name, None) is not None)
    marks.extend(f"{name} is New Relic's own name for an entity or an agent" for name in _RESERVED if name in stored)
    return _limit(stored, marks), marks, remapped


def _flatten(
    prefix: str, given: Mapping[str, Any], into: dict[str, Any], marks: list[str], left: int = MAX_NESTING
) -> None:
    for name, value in given.items():
        if type(value) is dict and left and len(prefix) < 10 * MAX_NAME:
            _flatten(f"{prefix}{name}.", value, into, marks, left - 1)
        elif type(value) in (list, dict):
            into[prefix + name] = json_text(value)
            what = "an array" if type(value) is list else "nested too deep"
            marks.append(f"{(prefix + name)[:MAX_NAME]} was {what} and was stored as text")
        elif value is not None:
            into[prefix + name] = value


def _parse(name: str, stored: dict[str, Any], marks: list[str]) -> None:
    """A text that is a JSON object becomes attributes."""
    text = stored[name]
    if len(text) > MAX_PARSED:
        return
    try:
        inner = orjson.loads(text)
    except orjson.JSONDecodeError:
        return
    if type(inner) is not dict:
        return
    found: dict[str, Any] = {}
    _flatten("" if name == "message" else f"{name}.", inner, found, marks)
    found.pop("message", None)
    replaced = sorted(found.keys() & stored.keys())
    stored.update(found)
    marks.append(f"{name} was JSON and was parsed into attributes")
    if replaced:
        marks.append(f"{', '.join(replaced)} took the place of attributes of the same name")


def _limit(stored: dict[str, Any], marks: list[str]) -> dict[str, Any]:
    if len(stored) > MAX_ATTRIBUTES:
        marks.append(f"{len(stored) - MAX_ATTRIBUTES} attributes beyond {MAX_ATTRIBUTES} were lost")
        names = sorted(stored, key=lambda name: name not in ("message", "timestamp"))[:MAX_ATTRIBUTES]
        stored = {name: stored[name] for name in names}
    limited: dict[str, Any] = {}
    for name, value in stored.items():
        shown = name
        if len(name) > MAX_NAME:
            marks.append(f"a name of {len(name)} characters was cut to {MAX_NAME}")
            shown = name[:MAX_NAME]
        if type(value) is str and len(value) > MAX_SEARCHABLE:
            whole = value.encode()
            if len(whole) > MAX_VALUE_BYTES:
                marks.append(f"{shown} was cut to 128 KB")
                value = whole[:MAX_VALUE_BYTES].decode(errors="ignore")
            marks.append(f"{shown} is searchable in its first 4,094 characters only")
        limited[shown] = value
    return limited
