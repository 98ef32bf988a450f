"""Datadog Logs: a JSON array of entries, gzipped, POSTed to the region's intake.

Sources, read 2026-11: docs.datadoghq.com/api/latest/logs/send-logs (hosts, limits, statuses);
DataDog/documentation content/en/logs/log_configuration/pipelines.md (reserved attributes, 18 hours);
DataDog/browser-sdk packages/js-core/src/transport/endpointBuilder.ts and dd-sdk-android LogsRequestFactory.kt,
RequestFactory.kt (client tokens); vectordotdev/vector src/sinks/datadog/logs (the size to aim at).

| what | as sent |
| --- | --- |
| an API key | `https://http-intake.logs.SITE/api/v2/logs`, header DD-API-KEY. Any token that is no client token counts as one |
| a client token (`pub` and 32 hex digits) | `https://browser-intake-SITE` with the site's dots but the last as dashes, the same path with `ddsource` in the query, and DD-REQUEST-ID. In the header, not the query: so it stays out of proxies' logs |
| limits | 1,000 entries, 5 MB before compression; 4.25 MB is aimed at, as Vector does |
| a line's level | `status`, in text: numbers and unknown words are shown as info |
| a line older than 18 h, or more than 2 h ahead | would be rejected on arrival: `timestamp` becomes now, its own is `original_timestamp` (docs.datadoghq.com log_date_remapper, "Notes") |
| a trace and span (`trace_id`, `span_id`) | beside them `dd.trace_id`, `dd.span_id`, where the line has none: decimal, a trace of more than 64 bits in hex, as Datadog's own tracers write them into logs (ddtrace 4.16 internal/utils/formats.py) |
| attributes | at most 256 and 10 levels (datadoghq.com logs/log_configuration, "Attributes"; its SDKs know 20 levels by now): what nests deeper is JSON text in its place, what is beyond the number is JSON text in `agent.fields` |
| compression | gzip by ISA-L, level 1: measured 0.18 us and 30 B a line against 0.165 us and 34 B at level 0 and 0.85 us and 33 B with zlib's level 1 |

The facts that are the same for a run's whole stream are serialised once and put in place by orjson (`Fragment`): they
cost a copy of 150 bytes a line. They stand in the slot `run` of the records, see `lines.events.Record`.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import itertools
import re
from gc import is_tracked
from typing import TYPE_CHECKING, Self
from urllib.parse import quote
from uuid import uuid4

import orjson
from isal import isal_zlib

from shipper import __version__
from shipper.lines import fields
from shipper.lines.deep import json_text, shallow
from shipper.lines.levels import LEVELS
from shipper.sinks.base import (
    RECORDS,
    Acceptance,
    Body,
    Limits,
    RefusedError,
    RejectedError,
    RetryableError,
    SettingError,
    Sink,
    maybe_taken,
)
from shipper.sinks.http import Http
from shipper.sinks.parts import API_KEY, CLIENT_TOKEN, fitting, fragment, moved_to, other_server, own_secret, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shipper.journal.facts import Facts
    from shipper.lines.events import Record
    from shipper.sinks.base import Slice

PATH = "/api/v2/logs"
LIMITS = Limits(max_events=1000, max_body_bytes=5_000_000, target_body_bytes=4_250_000)
MAX_AGE_MS = 18 * 3_600_000 - 60_000
MAX_AHEAD_MS = 2 * 3_600_000 - 60_000
"""18 hours and 2 hours, less a minute for the way there and for clocks."""

MAX_ATTRIBUTES = 256
MAX_LEVELS = 10
_OURS = 24
"""At most so many of the attributes are ours, or among `_KEPT_WHEN_TOO_MANY`."""
_ROOM = MAX_ATTRIBUTES - _OURS

REGIONS = {  # docs.datadoghq.com/api/latest/logs/send-logs, 2026-11
    "us1": "datadoghq.com",
    "us3": "us3.datadoghq.com",
    "us5": "us5.datadoghq.com",
    "us1-fed": "ddog-gov.com",
    "us2-fed": "us2.ddog-gov.com",
    "eu": "datadoghq.eu",
    "ap1": "ap1.datadoghq.com",
    "ap2": "ap2.datadoghq.com",
    "uk1": "uk1.datadoghq.com",
}
_OTHER_NAMES = {"us": "us1", "eu1": "eu", "us1_fed": "us1-fed", **{site: name for name, site in REGIONS.items()}}
"""Datadog's own names for them: DD_SITE holds the site, its pages say EU1."""

_KEPT_WHEN_CUT = frozenset(
    {"message", "timestamp", "original_timestamp", "seq", "lines", "part", "skipped", "run", "truncated"}
)

_KEPT_WHEN_TOO_MANY = _KEPT_WHEN_CUT | {
    "dd.trace_id", "dd.span_id", "job_id", "room", "room_id", "worker_id", fields.KIND, fields.MESSAGE, fields.STACK
}  # fmt: skip

_CLIENT_TOKEN = re.compile(r"pub[0-9a-f]{32}", re.ASCII | re.IGNORECASE)


def intake(region: str, client_token: bool) -> str:
    """The host for a region of `REGIONS`."""
    site = REGIONS[region]
    if not client_token:
        return f"http-intake.logs.{site}"
    name, _, top = site.rpartition(".")
    return f"browser-intake-{name.replace('.', '-')}.{top}"


class Datadog(Sink):
    name = "datadog"
    title = "Datadog"
    drops_ahead = True
    limits = LIMITS

    def __init__(self, token: str, region: str, http: Http, variable: str = "DATADOG_TOKEN") -> None:
        """``variable``: where the token comes from."""
        self.destination = http.host
        self.url = http.base
        self.variable = variable
        self.client_token = _CLIENT_TOKEN.fullmatch(token) is not None
        self.http = http
        self._region = region
        self._headers = {
            "DD-API-KEY": token,
            "DD-EVP-ORIGIN": "agent-shipper",
            "DD-EVP-ORIGIN-VERSION": __version__,
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        token, variable = own_secret(environ, "DATADOG_TOKEN", cls.title, "token", (CLIENT_TOKEN, API_KEY))
        value = environ.get("DATADOG_REGION", "").strip()
        region = value.lower() or "us1"
        region = _OTHER_NAMES.get(region, region)
        if region not in REGIONS:
            raise SettingError(
                "DATADOG_REGION",
                f"DATADOG_REGION is {shown(value)}, which is none of {', '.join(REGIONS)} and none of their sites: "
                "nothing is sent to Datadog.",
            )
        base = f"https://{intake(region, _CLIENT_TOKEN.fullmatch(token) is not None)}"
        origin = f"{region} in DATADOG_REGION" if value else ""
        if other := other_server(environ, "SHIPPER_DATADOG_URL", cls.title):
            base, origin = other, "SHIPPER_DATADOG_URL"
        return cls(token, region, Http(base, environ, title=cls.title, origin=origin), variable)

    async def open(self) -> None:
        await self.http.open()

    async def close(self) -> None:
        await self.http.close()

    @property
    def clock_off(self) -> float:
        return self.http.clock_off

    def encoder(self, facts: Facts) -> DatadogEncoder:
        return DatadogEncoder(facts, self.client_token)

    def place(self, facts: Facts) -> str:
        del facts
        return f"region {self._region}"

    async def send(self, body: Body) -> Acceptance | None:
        headers = {**self._headers, **body.headers}
        if self.client_token:
            headers["DD-REQUEST-ID"] = str(uuid4())
        answer = await self.http.post(body.target, body.data, headers)
        status, host = answer.status, self.destination
        if status in (200, 202):
            return None
        if status in (401, 403):
            kind = "client token" if self.client_token else "API key"
            raise RefusedError(
                f"Datadog ({host}) refused the {kind} in {self.variable} (status {status}): check the token, and that "
                f"it belongs to the region in DATADOG_REGION ({self._region}).",
                self.variable,
            )
        if status == 400:
            raise RejectedError(f"Datadog ({host}) rejected the content of a request (status 400).", status)
        if status == 413:
            raise RejectedError(f"Datadog ({host}) found a request too large (status 413).", status)
        if status == 429:
            raise RetryableError(
                f"Datadog ({host}) asks for fewer requests (status 429).", answer.after, throttled=True
            )
        if status >= 500 or status == 408:
            raise RetryableError(
                f"Datadog ({host}) has trouble of its own (status {status}).",
                answer.after,
                maybe_taken=maybe_taken(status),
            )
        raise RetryableError(f"{host} gave an answer that Datadog does not give (status {status}).", answer.after)


class DatadogEncoder:
    """Bodies for the lines of one run."""

    def __init__(self, facts: Facts, client_token: bool) -> None:
        query = f"?ddsource={quote(facts.source.encode(errors='replace'), safe='')}" if client_token else ""
        self._target = PATH + query
        tags = ",".join(f"{key}:{value}" for key, value in facts.tags)
        self._slots = {
            stream: [
                fragment(
                    {
                        "run": facts.run, "hostname": facts.host, "ddsource": facts.source, "service": facts.service,
                        "ddtags": tags, "stream": stream, "status": level,
                    }
                )
                for level in LEVELS
            ]
            for stream in ("stdout", "stderr")
        }  # fmt: skip

    def __call__(self, slices: Sequence[Slice], now_ms: int) -> Body:
        oldest_ms, newest_ms = now_ms - MAX_AGE_MS, now_ms + MAX_AHEAD_MS
        chosen: list[Record] = []
        moved = truncated = 0
        trace_name = fields.TRACE
        with RECORDS:
            for events, start, end in slices:
                slots = self._slots[events.stream]
                records = events.records[start:end]
                if events.floor_ms < oldest_ms or events.ceiling_ms > newest_ms:
                    records, count = moved_to(now_ms, records, oldest_ms, newest_ms)
                    moved += count
                traced = False
                for record, level in zip(records, events.levels[start:end], strict=True):
                    record["run"] = slots[level]
                    if trace_name in record:
                        traced = True
                if traced:
                    records = list(map(_traced, records))
                chosen += _within_limits(records)
            try:
                body = orjson.dumps(chosen)
            except TypeError:  # nested deeper than orjson writes, or text with lone surrogates
                body = orjson.dumps([shallow(record) for record in chosen])
            if len(body) > LIMITS.max_body_bytes and len(chosen) == 1:
                body = _cut(chosen[0])
                truncated = 1
        return Body(
            isal_zlib.compress(body, 1, wbits=31), len(body), len(chosen), self._target, {},
            moved=moved, truncated=truncated,
        )  # fmt: skip


def _traced(record: Record) -> Record:
    trace = fields.trace(record)
    if not trace or "dd.trace_id" in record or "dd" in record:
        return record
    number = int(trace, 16)
    record = {**record, "dd.trace_id": trace if number >> 64 else str(number)}
    span = fields.span(record)
    if span and "dd.span_id" not in record:
        record["dd.span_id"] = str(int(span, 16))
    return record


def _within_limits(records: list[Record]) -> list[Record]:
    """The records, those replaced by copies that have more attributes or levels than Datadog takes."""
    # A dict that the collector need not look at holds no other.
    odd = [record for record in itertools.compress(records, map(is_tracked, records)) if _is_beyond(record)]
    if max(map(len, records), default=0) > _ROOM or odd:
        return list(map(_fitted, records))
    return records


def _is_beyond(record: Record) -> bool:
    if dict not in map(type, record.values()):
        return False
    count, levels = _extent(record, 0)
    return levels > MAX_LEVELS or count > _ROOM


def _fitted(record: Record) -> Record:
    """The record itself, or a copy with what Datadog does not take as attributes in text."""
    count, levels = _extent(record, 0)
    if levels > MAX_LEVELS:
        record = {name: _shallow(value, 1) for name, value in record.items()}
        count, levels = _extent(record, 0)
    if count <= _ROOM:
        return record
    kept: Record = {}
    rest: Record = {}
    room = _ROOM
    for name, value in record.items():
        always = name in _KEPT_WHEN_TOO_MANY and value.__class__ is not dict
        room -= 0 if always else _extent(value, 0)[0]
        (kept if always or room >= 0 else rest)[name] = value
    name = "agent.fields"
    while name in kept:
        name = f"agent.{name}"
    kept[name] = json_text(rest)
    return kept


def _extent(value: object, level: int) -> tuple[int, int]:
    """How many attributes it is, and how many levels of objects are in it; counted no further than beyond the limit."""
    if value.__class__ is not dict:
        return 1, level
    if level > MAX_LEVELS:
        return 1, level
    count, deepest = 0, level + 1
    for inner in value.values():
        if inner.__class__ is dict:
            more, levels = _extent(inner, level + 1)
            count += more
            deepest = max(deepest, levels)
        else:
            count += 1
    return count, deepest


def _shallow(value: object, level: int) -> object:
    """The same with objects below the last level as their JSON text."""
    if value.__class__ is not dict:
        return value
    if level >= MAX_LEVELS:
        return json_text(value)
    return {name: _shallow(inner, level + 1) for name, inner in value.items()}


def _cut(record: Record) -> bytes:
    """The array of this one record with its message cut to fit; where that is not enough, its fields too, as a text."""
    message = str(record["message"])
    record = {**shallow(record), "message": "", "truncated": True}
    room = LIMITS.max_body_bytes - len(orjson.dumps([record]))
    if room < 0:
        fields = json_text({name: value for name, value in record.items() if name not in _KEPT_WHEN_CUT})
        record = {name: value for name, value in record.items() if name in _KEPT_WHEN_CUT}
        record["agent.fields"] = fitting(fields, LIMITS.max_body_bytes // 2)
        room = LIMITS.max_body_bytes - len(orjson.dumps([record]))
    record["message"] = fitting(message, room)
    return orjson.dumps([record])
