"""Sentry Logs: one envelope with one container of log items, gzipped, POSTed to the DSN's host.

Sources, read 2026-11: develop.sentry.dev/sdk/telemetry/logs and .../attributes (item, types, default attributes);
getsentry/relay, stored copies of 2026: relay-server/src/processing/logs/process.rs, logs/store.rs, processing/utils/normalize.rs,
utils/sizes.rs, utils/rate_limits.rs, envelope/container.rs, endpoints/common.rs, extractors/request_meta.rs,
relay-config/src/config.rs, relay-event-normalization/src/eap (time.rs, mod.rs), and its pull requests and issues 3958,
4789, 5440, 5474, 5609, 6272; sentry-sdk 2.75 (_log_batcher.py, transport.py).

| what | as sent |
| --- | --- |
| address | POST `SCHEME://HOST/PREFIX/api/PROJECT/envelope/` by the DSN; the key in `X-Sentry-Auth` only, made by sentry_sdk |
| envelope header | `sdk` alone. No `sent_at`: Relay moves the time of every line by `received - sent_at` when that is 55 min or more (eap/time.rs), and an envelope that waited so long for another attempt would be a clock gone wrong to it. No `dsn`: it is in the header |
| container | `version` 2, as sentry-sdk has it: below that Relay takes the sender's User-Agent for the user's browser. `item_count` must be right, or all of it is dropped behind a 200 |
| a line | `timestamp` (s), `trace_id`, `level`, `body`, `attributes` {name: {value, type}}. An item without one of the first four is dropped |
| level | trace debug info warn error fatal, and finer in `sentry.severity_number`, OpenTelemetry's scale: notice is 10 (info), critical, alert and emergency 21 to 23 (fatal). `sentry.severity_text` is the level again: Relay writes it over |
| trace | the line's own when it has one (32 hex digits; `_TRACES` names the fields), with its span; else one made of the run's id, the same after every restart |
| an error | `exception.type`, `exception.message`, `exception.stacktrace`: OpenTelemetry's names, which Sentry's conventions for attributes took over |
| order within a millisecond | `sentry.timestamp.sequence`, the line's number: what SDKs send for it (logs spec 1.16, getsentry/sentry-docs#16492) |
| an integer beyond 64 bits signed | text: Relay drops an attribute whose value does not fit its type. 2**64 and more are doubles already |
| null | left out; lists are their JSON text; objects flattened with dots |
| names | agent's fields `sentry.*`, `worker_id`, `agent_id`, `server.address` and those of tags go under `agent.`; a tag named as one of ours is `tag.NAME` |
| a line older than 30 days | rejected behind a 200 (`max_in_past: Reject(retention)`, #6272; retention is 30 or 90 days by organisation, #3958, and this is the lower): goes under the present time with `original_timestamp`, as does one more than 60 s ahead (`max_secs_in_future`), which Relay would move to its receipt |
| limits | 12 MiB a container, 2 MiB a log, both before compression; `max_expanded_log_operations` (3,000,000) is out of reach of 12 MiB. 1,000 logs an envelope: Relay's own limit until #5440 (December 2025; a 400 "exceeded size limits" there, a 413 since 26.1), none in its code since. The page for SDKs says that they must not send more than 100, for which Relay is optimised: not followed, since at 0.6 ms of CPU a request that is 6 us a line against 0.6 |
| whose it is | in the envelope's header only, from which Relay does not copy it into the lines: SDKs write `sentry.sdk.name` and `sentry.sdk.version` into each, which would be 115 bytes more a line, 11 % of it |
| quotas | one that is short of a single log drops the whole envelope (#4789) |
| compression | gzip by ISA-L, level 1. The header goes into the first call with a container's first part: after a first call of 150 bytes a body of up to 32 KB came out 1.5 to 8 times as large (isal 1.9; not after one of 1,000 bytes) |

A 200 does not mean stored: with a rate limit on logs in `X-Sentry-Rate-Limits` the same lines are sent again later.

How it is fast. Only an item's text, number, fields and time differ from its neighbours'. These values of 100 items are
serialised as one list, one value a line (no raw newline can be in JSON), split there, and put between constant bytes
made once for each set of names and types. A line of text has two such values; its time, mostly that of the line before,
is among the constants. Time is written as milliseconds and `e-3`. Measured over demo/lines (61 % text, 3 % with nested
fields), us a line: text 0.08, plain objects 0.22, nested ones 0.11, serialising and splitting 0.22, joining 0.09, gzip
0.18 (for 0.83 KB a line), the rest 0.1: 1.1 where Datadog's encoder takes 0.24. Dictionaries with the constants as
Fragments took 1.6 before anything was renamed or checked, nested dictionaries 2.6; ISA-L's level 0 takes as long as 1,
and none of its levels of memory is quicker than the default.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import re
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import orjson
from isal import isal_zlib
from sentry_sdk.envelope import Envelope, Item
from sentry_sdk.utils import BadDsn, Dsn, json_dumps

from shipper import __version__
from shipper.lines.crash import Crash
from shipper.lines.deep import json_text
from shipper.lines.fields import KIND, MESSAGE, STACK
from shipper.lines.levels import ALERT, CRITICAL, DEBUG, EMERGENCY, ERROR, INFO, NOTICE, TRACE, WARNING
from shipper.lines.names import CLAIMED, MOVED
from shipper.sinks.base import (
    RECORDS,
    Acceptance,
    Body,
    Limits,
    RefusedError,
    RejectedError,
    RetryableError,
    Sink,
    maybe_taken,
)
from shipper.sinks.http import MAX_RETRY_AFTER, Http
from shipper.sinks.parts import DSN, clean, fitting, flat, moved_to, own_secret, wrong_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shipper.journal.facts import Facts
    from shipper.lines.events import Record
    from shipper.sinks.base import Slice
    from shipper.sinks.http import Answer

LIMITS = Limits(max_events=1000, max_body_bytes=12 << 20, target_body_bytes=4 << 20)
MAX_LOG_BYTES = 2 << 20
"""Of a container with this one log: Relay divides the container's size by its count."""
MAX_AGE_MS = 30 * 86_400_000 - 60_000
"""30 days, less a minute for the way there."""
MAX_AHEAD_MS = 60_000
MAX_NAME = 200
"""Characters. Relay has no limit for logs; getsentry/sentry's MAX_TAG_KEY_LENGTH."""
DEFAULT_WAIT = 60.0
"""Seconds after a 429 that names none, as sentry_sdk/transport.py."""

CATEGORIES = frozenset({"log_item", "log_byte", ""})
"""Of rate limits that stop logs; the empty one is all of them."""
ERRORS = frozenset({"error"})
"""Of those that stop events, and no logs."""

SEVERITIES = {
    TRACE: ("trace", 1), DEBUG: ("debug", 5), INFO: ("info", 9), NOTICE: ("info", 10), WARNING: ("warn", 13),
    ERROR: ("error", 17), CRITICAL: ("fatal", 21), ALERT: ("fatal", 22), EMERGENCY: ("fatal", 23),
}  # fmt: skip

OURS = frozenset({"worker_id", "agent_id", "server.address", ""})
"""Names of ours that are no other provider's; and the one that no provider can show."""
PREFIX = "sentry."

_WORKER = "worker_id"
_NAMES = {KIND: "exception.type", MESSAGE: "exception.message", STACK: "exception.stacktrace"}
_TRACES = (
    ("trace_id", "span_id"),
    ("traceId", "spanId"),
    ("otelTraceID", "otelSpanID"),  # opentelemetry-instrumentation-logging
    ("trace.id", "span.id"),  # Elastic Common Schema
)
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}", re.ASCII | re.IGNORECASE)
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}", re.ASCII | re.IGNORECASE)

_TYPES: dict[type, str] = {str: "string", int: "integer", float: "double", bool: "boolean"}
_ENDS = {kind: f',"type":"{name}"}}'.encode() for kind, name in _TYPES.items()}
_PLAIN = frozenset(_TYPES)
_PLAIN_OR_LIST = _PLAIN | {list}
_MAX_INTEGER = 2**63

_NOT_ATTRIBUTES = frozenset({"message", "timestamp", "run"})
_KEPT_WHEN_CUT = frozenset(
    {"message", "timestamp", "original_timestamp", "seq", "lines", "part", "skipped", "truncated"}
)

_SUSPECT_BYTES = 8192
"""A line below this cannot make an item of `MAX_LOG_BYTES`: at worst 6 bytes of a nested field become an attribute with
a name of 200 escaped characters, 1,260 bytes."""

_MAX_SHAPES_BYTES = 512 << 10
"""Of memory, for each of the two streams: some 140 shapes of 11 names. At the bound all of them are made anew."""
_SHAPE_BYTES, _NAME_BYTES, _CHARACTER_BYTES = 1000, 200, 4  # of one (tracemalloc)
_MAX_SHAPE_NAMES = 64  # an object with more names gets no shape kept: they would be one line's alone

_SEQUENCE = _ENDS[int] + b',"sentry.timestamp.sequence":{"value":'
_BEGIN = b'{"version":2,"items":[{"body":'
_TIME = b'},"timestamp":'
_NEXT = b'e-3},{"body":'
_END = b"e-3}]}"
_EMPTY = b'{"version":2,"items":[]}'
_CONTENT_TYPE = "application/vnd.sentry.items.log+json"

_ENVELOPE = Envelope(headers={"sdk": {"name": "agent-shipper", "version": __version__}}).serialize()

_CHUNK = 100
"""Records encoded and compressed at a time, 100 KB: buffers of a whole request, 1 MB, are given back to the system by
malloc each time, and their page faults cost 0.7 us a line (measured)."""

_VALUES = orjson.OPT_INDENT_2
_time = itemgetter("timestamp")


class Sentry(Sink):
    name = "sentry"
    title = "Sentry"
    limits = LIMITS

    def __init__(
        self,
        dsn: Dsn,
        http: Http,
        variable: str = "SENTRY_DSN",
        release: str = "",
        environment: str = "",
        *,
        crashes: bool = True,
    ) -> None:
        """``variable``: where the DSN comes from."""
        self.tells_crashes = crashes
        self.destination = http.host
        self.url = http.base
        self.variable = variable
        self.http = http
        self.project = dsn.project_id
        self._target = f"{dsn.path}api/{dsn.project_id}/envelope/"
        self._headers = {
            "X-Sentry-Auth": dsn.to_auth(f"agent-shipper/{__version__}").to_header(),
            "Content-Type": "application/x-sentry-envelope",
            "Content-Encoding": "gzip",
        }
        named = {"release": release, "environment": environment}
        self._named = {name: value for name, value in named.items() if value}

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        value, variable = own_secret(environ, "SENTRY_DSN", cls.title, "DSN", (DSN,), _FORM)
        dsn = _dsn(value, variable)
        url = urlsplit(value)
        base = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
        release, environment = (environ.get(name, "").strip() for name in ("SENTRY_RELEASE", "SENTRY_ENVIRONMENT"))
        http = Http(base, environ, title=cls.title, origin=f"the host in {variable}")
        crashes = environ.get("SHIPPER_SENTRY_EVENTS", "").strip().lower() != "off"
        return cls(dsn, http, variable, release, environment, crashes=crashes)

    async def open(self) -> None:
        await self.http.open()

    async def close(self) -> None:
        await self.http.close()

    @property
    def clock_off(self) -> float:
        return self.http.clock_off

    def encoder(self, facts: Facts) -> SentryEncoder:
        return SentryEncoder(facts, self._target, self._named)

    def place(self, facts: Facts) -> str:
        del facts
        return f"project {self.project}"

    async def send(self, body: Body) -> Acceptance | None:
        answer = await self.http.post(body.target, body.data, self._headers)
        status, host = answer.status, self.destination
        limits = answer.headers.get("X-Sentry-Rate-Limits", "")
        limited = rate_limit(limits)
        if isinstance(body, Issue):
            if 200 <= status < 300:
                return None
            if status == 429 and limited is None and rate_limit(limits, ERRORS) is not None:
                # as sentry_sdk has it: a quota may be used up for weeks, and lines are not to wait for an issue
                return Acceptance(((0, 1, "a rate limit or quota for errors is reached"),))
        if status == 429:
            wait = limited if limited is not None else answer.after
            raise RetryableError(
                f"Sentry ({host}) takes no more logs for now (status 429): a rate limit or quota is reached.",
                DEFAULT_WAIT if wait is None else wait,
                throttled=True,
            )
        accepted = 200 <= status < 300
        if accepted and limited is None:
            return None
        if accepted:
            raise RetryableError(
                f"Sentry ({host}) has a rate limit on logs in force: what it accepts it may not keep.",
                limited,
                throttled=True,
                maybe_taken=True,
            )
        raise self._failure(answer, limited)

    def _failure(self, answer: Answer, limited: float | None) -> RejectedError | RefusedError | RetryableError:
        status, host = answer.status, self.destination
        said = answer.body
        if status in (401, 403):
            return RefusedError(
                f"Sentry ({host}) refused the key in {self.variable} for project {self.project} (status {status}): "
                "check that the DSN is whole, and that neither its key nor the project is disabled or deleted.",
                self.variable,
            )
        if status in (404, 405):
            return RefusedError(
                f"{host} takes no envelopes for project {self.project} (status {status}): check host, path and project "
                f"in {self.variable}.",
                self.variable,
            )
        if status == 400 and (b"DSN public key" in said or b"project path parameter" in said):
            what = "key" if b"DSN public key" in said else "project"
            return RefusedError(
                f"Sentry ({host}) says that the {what} in {self.variable} cannot be one (status 400): copy the DSN "
                "anew from the project's settings, Client Keys.",
                self.variable,
            )
        if status == 413 or (status == 400 and b"exceeded size limits" in said):
            return RejectedError(f"Sentry ({host}) found a request too large (status {status}).", 413)
        if status == 400:
            return RejectedError(f"Sentry ({host}) rejected the content of a request (status 400).", status)
        wait = max((value for value in (answer.after, limited) if value is not None), default=None)
        if status >= 500 or status == 408:
            message = f"Sentry ({host}) has trouble of its own (status {status})."
        else:
            message = f"{host} gave an answer that Sentry does not give (status {status})."
        return RetryableError(message, wait, throttled=limited is not None, maybe_taken=maybe_taken(status))


def _dsn(value: str, variable: str) -> Dsn:
    """Raises SettingError, which does not show it."""
    try:
        dsn, url = Dsn(value), urlsplit(value)
        server = dsn.port and url.netloc.count("@") == 1
        if server and url.path.rpartition("/")[2].isdigit():  # int() takes "-1" and "1_0" too
            return dsn
        why = _BAD_DSN["Invalid project"] if server else "has no valid host and port"
    except BadDsn as error:
        why = next(words for said, words in _BAD_DSN.items() if str(error).startswith(said))
    except ValueError:  # a port that is none, brackets that do not match
        why = "has no valid host and port"
    raise wrong_secret(variable, why, Sentry.title, _FORM)


_FORM = "a DSN is https://KEY@HOST/PROJECT, copied from the project's settings, Client Keys"
_BAD_DSN = {
    "Unsupported scheme": "does not begin with https:// or http://",
    "Missing hostname": "names no host",
    "Missing public key": "has no key before the host",
    "Invalid project": "names no project: its last part must be a number",
    "": "is no DSN",
}


def rate_limit(header: str, categories: frozenset[str] = CATEGORIES) -> float | None:
    """Seconds that `X-Sentry-Rate-Limits` keeps these away; None when it says nothing of them.

    `SECONDS:CATEGORY;...:SCOPE:REASON:NAMESPACES, ...`; what cannot be read is passed over, as Relay and the SDKs do.
    """
    longest = None
    for limit in header.split(","):
        seconds, _, rest = limit.strip().partition(":")
        if seconds.isascii() and seconds.isdigit() and categories.intersection(rest.partition(":")[0].split(";")):
            longest = max(longest or 0.0, min(float(seconds[:9]), MAX_RETRY_AFTER))
    return longest


class Issue(Body):
    """An event in place of logs."""

    __slots__ = ()


class SentryEncoder:
    """Bodies for the lines of one run. For one thread at a time (`RECORDS` sees to it)."""

    def __init__(self, facts: Facts, target: str, named: Mapping[str, str]) -> None:
        self._target = target
        self._facts = facts
        self._release = named
        run = facts.run.encode(errors="replace")
        self._trace = blake2b(run, digest_size=16).hexdigest()
        always = {
            "run": facts.run,
            **dict.fromkeys(("host", "worker_id", "server.address"), facts.host),
            **dict.fromkeys(("source", "agent_id"), facts.source),
            "service": facts.service,
            **{f"{PREFIX}{name}": value for name, value in named.items()},
        }
        tags = _tags(facts.tags)
        reserved = OURS | tags.keys()
        self._shapes = {
            stream: Shapes({**always, "stream": stream}, tags, self._trace.encode(), reserved)
            for stream in ("stdout", "stderr")
        }

    def __call__(self, slices: Sequence[Slice], now_ms: int) -> Body:
        oldest_ms, newest_ms = now_ms - MAX_AGE_MS, now_ms + MAX_AHEAD_MS
        if slices and isinstance(crash := slices[0][0], Crash):
            return self._issue(crash, now_ms, in_time=oldest_ms <= crash.floor_ms <= newest_ms)
        chunks: list[Chunk] = []
        count = moved = truncated = 0
        for events, start, end in slices:
            shapes = self._shapes[events.stream]
            for first in range(start, end, _CHUNK):
                some = slice(first, min(first + _CHUNK, end))
                records, levels, sizes = events.records[some], events.levels[some], events.sizes[some]
                count += len(records)
                new = events.ceiling_ms > newest_ms and max(map(_time, records)) > newest_ms
                if new or events.floor_ms < oldest_ms:
                    with RECORDS:
                        records, changed = moved_to(now_ms, records, oldest_ms, newest_ms)
                    moved += changed
                if max(sizes) >= _SUSPECT_BYTES:
                    records = list(records)
                    for index, size in enumerate(sizes):
                        if size >= _SUSPECT_BYTES and _size(shapes, records[index], levels[index]) > MAX_LOG_BYTES:
                            records[index] = _cut(shapes, records[index], levels[index])
                            truncated += 1
                chunks.append((shapes, records, levels))
        # Without a length, which the types would add, the payload ends at its newline, of which it has no other.
        item = Item(b"", {"item_count": count}, "log", _CONTENT_TYPE)
        head = _ENVELOPE + json_dumps(item.headers) + b"\n"
        packed = isal_zlib.compressobj(1, wbits=31)
        out: list[bytes] = []
        size = 0
        for part in _container(chunks):
            size += len(part)
            out.append(packed.compress(head + part))  # together: see the table
            head = b""
        out += (packed.compress(b"\n"), packed.flush())
        return Body(b"".join(out), size, count, self._target, {}, moved=moved, truncated=truncated)

    def _issue(self, crash: Crash, now_ms: int, *, in_time: bool) -> Issue:
        from shipper.sinks.sentry_issue import event_of  # seldom needed

        event = event_of(crash, self._facts, crash.floor_ms if in_time else now_ms, self._trace, self._release)
        envelope = Envelope(headers={"sdk": event["sdk"], "event_id": event["event_id"]})  # as SDKs have it
        payload = orjson.dumps(event)
        envelope.add_item(Item(payload, type="event", content_type="application/json"))
        packed = isal_zlib.compressobj(1, wbits=31)
        data = packed.compress(envelope.serialize()) + packed.flush()
        return Issue(data, len(payload), 1, self._target, {}, moved=not in_time)


class Shapes:
    """What is the same for a run's whole stream, and the constant bytes around the values of records."""

    def __init__(
        self, always: Mapping[str, object], tags: Mapping[str, str], trace: bytes, reserved: frozenset[str]
    ) -> None:
        self._reserved = reserved
        self._shapes: dict[tuple[str, ...], Shape] = {}
        self._kept = 0
        self._trace = trace
        self._levels = [b',"level":"%b","trace_id":"' % name.encode() for name, _ in SEVERITIES.values()]
        self._heads = [
            level
            + trace
            + b'","attributes":'
            + _attributes({**always, "sentry.severity_number": number, "sentry.severity_text": name, **tags})[:-1]
            for level, (name, number) in zip(self._levels, SEVERITIES.values(), strict=True)
        ]
        name = _WORKER
        while name in reserved:
            name = MOVED + name
        self._worker = b',"%b":{"value":%%b,"type":"string"}' % name.encode()
        self._numbered = [head + b',"seq":{"value":' for head in self._heads]

    def rows(
        self, records: Sequence[Record], levels: Sequence[int], *, trusting: bool = True
    ) -> tuple[list[Any], list[bytes]]:
        """The values of the records, one after the other, and the bytes that follow each.

        ``trusting``: the types of values whose shape is steady are looked at all at once, which takes half the time.
        """
        values: list[Any] = []
        between: list[bytes] = []
        trusted: list[Any] = []
        expected: list[type] = []
        shapes, numbered = self._shapes, self._numbered
        time: Any = None
        of: Any = None
        end = b""
        for record, level in zip(records, levels, strict=True):
            worker = record.get(_WORKER)
            if (
                len(record) == 3 + ("run" in record) + (worker is not None)
                and "seq" in record
                and (worker is None or worker.__class__ is str)
            ):
                if record["timestamp"] != time or worker != of:  # lines of text that were read together have the same
                    time, of = record["timestamp"], worker
                    named = b"" if of is None else self._worker % orjson.dumps(clean(of))
                    end = b"%b%b%b%d%b" % (_ENDS[int], named, _TIME, time, _NEXT)
                values += record["message"], record["seq"], record["seq"]
                between += numbered[level], _SEQUENCE, end
                continue
            shape = shapes.get(tuple(record)) or self._shape(record)
            row = shape.row(record)
            if trusting and shape.steady:
                trusted += row
                expected += shape.types
            else:
                record, shape, row = self._fitted(record, shape, row)
            values += row
            between.append(numbered[level] if shape.first is None else self._begin(shape, record, level))
            between += shape.after
        if list(map(type, trusted)) != expected:
            return self.rows(records, levels, trusting=False)
        return values, between

    def _fitted(self, record: Record, shape: Shape, row: tuple[Any, ...]) -> tuple[Record, Shape, tuple[Any, ...]]:
        """The same with every value an attribute's, and a shape that knows their types."""
        types = list(map(type, row))
        if types != shape.types:
            steady = not shape.types
            if not shape.short or not _PLAIN.issuperset(types):
                shape.steady = steady = False
                if shape.short and _PLAIN_OR_LIST.issuperset(types):
                    row = tuple([json_text(value) if value.__class__ is list else value for value in row])
                else:
                    record = plain(record)
                    shape = self._shape(record)
                    row = shape.row(record)
                types = list(map(type, row))
            if types != shape.types:
                shape.fit(types, steady=steady)
        return record, shape, row

    def _shape(self, record: Record) -> Shape:
        names = tuple(record)
        shape = self._shapes.get(names)
        if shape is None:
            shape = Shape(names, self._reserved)
            if len(names) <= _MAX_SHAPE_NAMES:
                self._kept += _SHAPE_BYTES + _NAME_BYTES * len(names) + _CHARACTER_BYTES * sum(map(len, names))
                if self._kept > _MAX_SHAPES_BYTES:
                    self._shapes.clear()
                    self._kept = 0
                self._shapes[names] = shape
        return shape

    def _begin(self, shape: Shape, record: Record, level: int) -> bytes:
        """What stands between the text and the first attribute's value, where it is not as for a line of text."""
        begin = self._heads[level] + (shape.first or _TIME)
        for trace_name, span_name in shape.traces:
            trace, span = record.get(trace_name), record.get(span_name)
            if isinstance(trace, str) and _TRACE_ID.fullmatch(trace):
                ids = trace.lower()
                if isinstance(span, str) and _SPAN_ID.fullmatch(span):
                    ids += f'","span_id":"{span.lower()}'
                before = self._levels[level]
                return before + ids.encode() + begin[len(before) + len(self._trace) :]
        return begin


class Shape:
    """Records of exactly these names: how to take their values, and what comes after each.

    row     takes text, attributes' values, time; `seq` is the first attribute
    traces  pairs of names that may hold the ids of trace and span
    first   what comes before the first attribute's value; None where that is as for a line of text
    short   no name is too long
    types   of the row's values, as last seen; empty at first
    steady  they have been the same each time, and are an attribute's
    after   what follows each value but the text, those being of these types
    """

    __slots__ = ("_nexts", "after", "first", "row", "short", "steady", "traces", "types")

    def __init__(self, names: tuple[str, ...], reserved: frozenset[str]) -> None:
        present = set(names)
        taken = [name for name in names if name not in _NOT_ATTRIBUTES and name != "seq"]
        shown = []
        for name in taken:
            free = _NAMES.get(name, name)
            if free != name and free in present:
                free = name
            while free in reserved or free.startswith(PREFIX) or (free != name and free in present):
                free = MOVED + free
            present.add(free)
            shown.append(free)
        if "seq" in names:
            taken[:0] = ("seq", "seq")
            shown[:0] = ("seq", "sentry.timestamp.sequence")
        begins = [b"," + orjson.dumps(clean(name)) + b':{"value":' for name in shown]
        self.row = itemgetter("message", *taken, "timestamp")
        self.traces = [pair for pair in _TRACES if pair[0] in names]
        self.first = None if "seq" in names and not self.traces else begins[0] if begins else b""
        self.short = max(map(len, names)) <= MAX_NAME
        self._nexts = (*begins[1:], _TIME) if begins else ()
        self.types: list[type] = []
        self.after: tuple[bytes, ...] = ()
        self.steady = False

    def fit(self, types: list[type], *, steady: bool) -> None:
        """The row's values are of these types from now on."""
        self.types, self.steady = types, steady
        self.after = (*[_ENDS[kind] + begin for kind, begin in zip(types[1:-1], self._nexts, strict=True)], _NEXT)


def plain(record: Record) -> Record:
    """The same with every field an attribute: flat, and without null."""
    nested = {name: value for name, value in record.items() if value.__class__ not in _PLAIN or len(name) > MAX_NAME}
    kept = record.copy()
    for name in nested:
        del kept[name]
    nested.pop("run", None)
    inner = flat(nested, MAX_NAME)
    if inner.keys().isdisjoint(kept):
        return kept | inner
    fields = {name: value for name, value in record.items() if name not in _NOT_ATTRIBUTES}
    return {"message": record["message"], "timestamp": record["timestamp"], **flat(fields, MAX_NAME)}


def writable(record: Record) -> Record:
    """The same with integers within 64 bits, and text without lone surrogates."""
    fields = plain(record)
    for name, value in fields.items():
        if value.__class__ is int and not -_MAX_INTEGER <= value < _MAX_INTEGER:
            fields[name] = str(value)
        else:
            fields[name] = clean(value)
    return fields


def _tags(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Tags as attributes; values of one name in one text."""
    tags: dict[str, str] = {}
    for key, value in pairs:
        name = f"tag.{key}" if key in CLAIMED or key in OURS or key.startswith(PREFIX) or key == "logger" else key
        tags[name] = f"{tags[name]},{value}" if name in tags else value
    return tags


def _attributes(values: Mapping[str, object]) -> bytes:
    return orjson.dumps(
        {clean(name): {"value": clean(value), "type": _TYPES[value.__class__]} for name, value in values.items()}
    )


Chunk = tuple[Shapes, "Sequence[Record]", "Sequence[int]"]
"""Records, and the levels of each."""


def _container(chunks: Sequence[Chunk]) -> Iterator[bytes]:
    """The container of these records, in parts of which none is small."""
    if not chunks:
        yield _EMPTY
    begin = _BEGIN
    for number, chunk in enumerate(chunks, 1):
        part = begin + _items(chunk)
        yield part if number < len(chunks) else part.removesuffix(_NEXT) + _END
        begin = b""


def _items(chunk: Chunk) -> bytes:
    """The items but for the beginning of the first one; at the end stands that of one more."""
    shapes, records, levels = chunk
    with RECORDS:  # others write into a slot of these records meanwhile
        values, between = shapes.rows(records, levels)
    try:
        dumped = orjson.dumps(values, option=_VALUES | orjson.OPT_STRICT_INTEGER)
    except TypeError:  # an integer beyond 53 bits, or a lone surrogate
        try:
            if any(value.__class__ is int and value >= _MAX_INTEGER for value in values):
                raise TypeError from None
            dumped = orjson.dumps(values, option=_VALUES)
        except TypeError:
            with RECORDS:
                values, between = shapes.rows(list(map(writable, records)), levels)
            dumped = orjson.dumps(values, option=_VALUES)
    parts = [b""] * (2 * len(values))
    parts[0::2] = dumped[4:-2].split(b",\n  ")
    parts[1::2] = between
    return b"".join(parts)


def _size(shapes: Shapes, record: Record, level: int) -> int:
    """Bytes of a container with this one log."""
    return sum(map(len, _container([(shapes, [record], [level])])))


def _cut(shapes: Shapes, record: Record, level: int) -> Record:
    """The record with its message cut to fit; where that is not enough, its fields too, as a text."""
    message = str(clean(record["message"]))
    record = {**writable(record), "message": "", "truncated": True}
    room = MAX_LOG_BYTES - _size(shapes, record, level)
    if room < 0:
        fields = json_text({name: value for name, value in record.items() if name not in _KEPT_WHEN_CUT})
        record = {name: value for name, value in record.items() if name in _KEPT_WHEN_CUT}
        record["agent.fields"] = fitting(fields, MAX_LOG_BYTES // 2)
        room = MAX_LOG_BYTES - _size(shapes, record, level)
    record["message"] = fitting(message, room)
    return record
