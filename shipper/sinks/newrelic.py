"""New Relic Logs: JSON with what the lines share beside them, gzipped, POSTed to the Log API of the key's region.

Sources, read 2026-11: newrelic/docs-website src/content/docs/logs/log-api/introduction-log-api.mdx (body, limits, what
it rewrites), log-event-data.mdx (reserved names, 48 hours), use-tcp-endpoint-forward-logs-new-relic.mdx (side of
compression), ui-data/parsing.mdx (what is parsed), ui-data/long-logs-blobs.mdx (long values);
newrelic/newrelic-telemetry-sdk-specs communication.md (statuses, x-request-id); newrelic/newrelic-python-agent
core/config.py and newrelic/infrastructure-agent pkg/license/license.go, logs/cfg.go (regions).

| what | as sent |
| --- | --- |
| region | by the letters before the key's first `x`: none US, `eu` EU, `gov` FedRAMP, any other `log-api.REGION.nr-data.net` |
| body | `[{"common":{"attributes":…},"logs":[{"timestamp","message","attributes"}]}]`; in common what a run's lines share, and the tags |
| header `x-request-id` | a UUID made from the content: the same whenever these very lines are sent, another for each part after a split |
| limits | 1,000,000 bytes a POST. New Relic counts after compression (its TCP page and its own senders); we count before it, which no reading refuses and which costs nothing: 1 MB is some 3,500 lines |
| a line older than 48 h | may be dropped on arrival: `timestamp` becomes now, its own is `original_timestamp`; so does one more than 24 h ahead, for which no limit is named: it would lie where nobody looks |
| a message, or any other text, that is a JSON object | New Relic may parse it (introduction-log-api.mdx of any text, parsing.mdx of `message` alone), and its fields would take the place of ours: it begins with `json: ` |
| a field of the agent's named as one of ours, of a tag, or as one that the intake drops, rewrites or acts on (`_SPECIAL`, `_PREFIXES`) | `agent.NAME` |
| an error's kind; a trace and span | `error.class`, as its own agents write it beside `error.message` and `error.stack` (newrelic 14.1 api/log.py); beside `trace_id` and `span_id` also `trace.id` and `span.id` (logs in context) |
| nested objects, lists, null | `a.b.c`; JSON text; left out |
| more attributes than 255 with ours, names of none or over 255 characters | together in `agent.fields`, as JSON text |
| a text over 128,000 bytes of UTF-8 | cut there and marked `truncated`: the intake would cut it without a word (at 128 KB says one page, 4,094 characters and 128,000 bytes another). Only the first 4,094 characters can be searched for |
| a tag named as one of those | `tag.NAME`; of tags with one name the values are joined |

Records are copied, so none is written to. Measured over the demo's lines (61 % text), us a line: building 0.2, names
0.07, kinds of values 0.08, making 3 % of the records flat 0.08, JSON 0.12, looking for objects in texts 0.1, gzip 0.09.
Taking message and time out of the shared records and putting them back cost as much as copying; merging head, record
and tail into one object, in which fragments open and close `attributes`, cost 0.07 more. 128 records at a time are 0.05
quicker than all at once, for what is made for a piece is used again for the next.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import re
from gc import is_tracked
from hashlib import md5
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import orjson
from isal import isal_zlib

from shipper.lines import fields
from shipper.lines.deep import json_text
from shipper.lines.levels import LEVELS
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
from shipper.sinks.http import Http
from shipper.sinks.parts import (
    LICENSE_KEY,
    clean,
    fitting,
    flat,
    fragment,
    moved_to,
    other_server,
    own_secret,
    wrong_secret,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shipper.journal.facts import Facts
    from shipper.lines.events import Record
    from shipper.sinks.base import Slice

_CLASS, _WORKER = "error.class", "worker_id"
PATH = "/log/v1"
LIMITS = Limits(max_events=2500, max_body_bytes=1_000_000, target_body_bytes=950_000)
"""No number of events is documented: 2,500 of the demo's lines make 0.7 MB. 950,000 is what New Relic's own senders aim
at (newrelic-fluent-bit-output record.go)."""
MAX_AGE_MS = 48 * 3_600_000 - 60_000
"""48 hours, less a minute for the way there."""
MAX_AHEAD_MS = 24 * 3_600_000
"""A line's own time counts within 24 hours of its capture (`lines.times`): one further ahead has that of a clock that
was wrong then."""
MAX_ATTRIBUTES = 255
MAX_NAME = 255
MAX_VALUE_BYTES = 128_000
_LONG_BYTES = 16_384
"""No value of a shorter line can be too long: JSON text of numbers grows to at most 5 times what was printed."""

_REGION = re.compile(r"(.+?)x")
_INTAKES = {"": "log-api.newrelic.com", "eu": "log-api.eu.newrelic.com", "gov": "gov-log-api.newrelic.com"}

_OURS = ("message", "timestamp", "run", "stream", "level", "seq", "lines", "part", "skipped", "truncated",
         "original_timestamp")  # fmt: skip
_SPECIAL = CLAIMED | {
    *_OURS, "workerId", "agentId",
    "accountId", "eventType",  # dropped
    "LOG", "MESSAGE",  # rewritten as message, as `log` is
    "logtype", "logType", "LOGTYPE",  # choose a parsing rule
    "@realtime_timestamp",  # taken for the time, as `@timestamp` is
}  # fmt: skip
_PREFIXES = ("entity.", "instrumentation.", "newrelic.")
"""Entities and the intake's own; `instrumentation.*` is dropped."""
REST = "agent.fields"

_TEXT_OF_OBJECT = re.compile(rb':"(?:[ ]|\\[nrt])*\{')
"""A value that may be an object's JSON text, in what was serialised."""
_MAY_BE_TEXT_OF_OBJECT = re.compile(
    rb"""
    \{ [\\ }]  # the brace, and a key's quote or a blank or the other brace
    (?: (?<=:"\{.) | (?<=:"[ ]\{.) | (?<=[ ][ ]\{.) | (?<=\\[nrt]\{.) | (?<=\\[nrt][ ]\{.) )  # first, or after blanks
    """,
    re.VERBOSE,
)
"""Is found wherever a value is an object's JSON text, and seldom elsewhere. Braces are few, and it begins with one: it
takes 0.1 us a line, the other 0.2."""

_PIECE = 128  # records that are serialised together
_MAX_NAMES = 4096
_PLAIN = frozenset({str, int, float, bool, orjson.Fragment})


def region_of(key: str) -> str:
    """The letters before the key's first x; empty for the United States."""
    found = _REGION.match(key)
    return found[1].rstrip("0123456789").lower() if found else ""


def intake(region: str) -> str:
    return _INTAKES.get(region) or f"log-api.{region}.nr-data.net"


class NewRelic(Sink):
    name = "newrelic"
    title = "New Relic"
    limits = LIMITS

    def __init__(self, key: str, http: Http, variable: str = "NEW_RELIC_LICENSE_KEY") -> None:
        """``variable``: where the key comes from."""
        self.destination = http.host
        self.url = http.base
        self.variable = variable
        self.http = http
        self._region = region_of(key) or "us"
        self._headers = {"Api-Key": key, "Content-Type": "application/json", "Content-Encoding": "gzip"}

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        key, variable = own_secret(environ, "NEW_RELIC_LICENSE_KEY", cls.title, "key", (LICENSE_KEY,))
        region = region_of(key)
        if not re.fullmatch("[a-z]*", region):
            why = "names no region in what stands before its first x, as a key with one does (eu01xx...)"
            raise wrong_secret(variable, why, cls.title)
        base, origin = f"https://{intake(region)}", f"the region {region} in the key in {variable}" if region else ""
        if other := other_server(environ, "SHIPPER_NEW_RELIC_URL", cls.title):
            base, origin = other, "SHIPPER_NEW_RELIC_URL"
        return cls(key, Http(base, environ, title=cls.title, origin=origin), variable)

    async def open(self) -> None:
        await self.http.open()

    async def close(self) -> None:
        await self.http.close()

    @property
    def clock_off(self) -> float:
        return self.http.clock_off

    def encoder(self, facts: Facts) -> NewRelicEncoder:
        return NewRelicEncoder(facts)

    def place(self, facts: Facts) -> str:
        del facts
        return f"region {self._region}"

    async def send(self, body: Body) -> Acceptance | None:
        answer = await self.http.post(body.target, body.data, {**self._headers, **body.headers})
        status, host = answer.status, self.destination
        if 200 <= status < 300:
            return None
        if status in (401, 403):
            raise RefusedError(
                f"New Relic ({host}) refused the key in {self.variable} (status {status}): check that it is an "
                f"ingest license key, and that its account is in the region that the key names ({self._region}).",
                self.variable,
            )
        if status == 400:
            raise RejectedError(f"New Relic ({host}) rejected the content of a request (status 400).", status)
        if status == 413:
            raise RejectedError(f"New Relic ({host}) found a request too large (status 413).", status)
        if status == 429:
            raise RetryableError(
                f"New Relic ({host}) asks for fewer requests (status 429).", answer.after, throttled=True
            )
        if status in (404, 405, 409, 410, 411):
            # New Relic's own senders drop the lines here; but it is the address that is wrong, and that can be mended.
            raise RetryableError(
                f"{host} does not take logs at {PATH} (status {status}): is it New Relic's Log API? "
                "SHIPPER_NEW_RELIC_URL names another.",
                answer.after,
            )
        if status >= 500 or status == 408:
            raise RetryableError(
                f"New Relic ({host}) has trouble of its own (status {status}).",
                answer.after,
                maybe_taken=maybe_taken(status),
            )
        raise RetryableError(f"{host} gave an answer that New Relic does not give (status {status}).", answer.after)


class NewRelicEncoder:
    """Bodies for the lines of one run."""

    def __init__(self, facts: Facts) -> None:
        common: dict[str, Any] = {
            "host": facts.host, "hostname": facts.host, "workerId": facts.host,
            "source": facts.source, "agentId": facts.source, "service": facts.service,
        }  # fmt: skip
        tags: dict[str, str] = {}
        for key, value in facts.tags:
            name = f"tag.{key}"[:MAX_NAME] if key in _SPECIAL or key.startswith(_PREFIXES) else key
            tags[name] = f"{tags[name]},{value}" if name in tags else value
        common |= tags
        common = {str(clean(name)): clean(value) for name, value in common.items()}
        self._head = b'[{"common":{"attributes":' + orjson.dumps(common) + b'},"logs":['
        self._run = facts.run
        self._special = _SPECIAL.union(tags)
        self._room = MAX_ATTRIBUTES - len(common) - len(_OURS)
        self._slots = {
            stream: [fragment({"run": facts.run, "stream": stream, "level": level}) for level in LEVELS]
            for stream in ("stdout", "stderr")
        }
        self._harmless = set(_OURS)

    def __call__(self, slices: Sequence[Slice], now_ms: int) -> Body:
        oldest_ms, newest_ms = now_ms - MAX_AGE_MS, now_ms + MAX_AHEAD_MS
        parts: list[bytes | memoryview] = []
        first: tuple[str, object] = ("", 0)
        count = moved = truncated = 0
        array = b""
        with RECORDS:  # nobody else writes to them meanwhile
            for events, start, end in slices:
                records = events.records[start:end]
                if not records:
                    continue
                if not count:
                    first = events.stream, records[0].get("seq", 0)
                count += len(records)
                if events.floor_ms < oldest_ms or events.ceiling_ms > newest_ms:
                    records, others = moved_to(now_ms, records, oldest_ms, newest_ms)
                    moved += others
                for begin in range(0, len(records), _PIECE):
                    piece = slice(start + begin, min(start + begin + _PIECE, end))
                    array, cut = self._array(
                        records[begin : begin + _PIECE], events.levels[piece], events.sizes[piece],
                        self._slots[events.stream],
                    )  # fmt: skip
                    parts += (b",", memoryview(array)[1:-1])
                    truncated += cut
        parts[:1] = [self._head]  # in place of the first comma
        body = b"".join((*parts, b"]}]"))
        if len(body) > LIMITS.max_body_bytes and count == 1:
            body = self._cut(orjson.loads(array)[0])
            truncated = 1
        data = isal_zlib.compress(body, 1, wbits=31)
        # The last 8 bytes of gzip are checksum and length of what was compressed.
        identity = md5(repr((self._run, *first, count, data[-8:])).encode(errors="replace"), usedforsecurity=False)
        headers = {"x-request-id": str(UUID(bytes=identity.digest(), version=4))}
        return Body(data, len(body), count, PATH, headers, moved=moved, truncated=truncated)

    def _array(
        self, records: list[Record], levels: list[int], sizes: list[int], slots: list[orjson.Fragment]
    ) -> tuple[bytes, int]:
        """The records as an array, and how many of them were cut."""
        logs = self._logs(records, levels, slots)
        array = _dumped(logs)
        if _MAY_BE_TEXT_OF_OBJECT.search(array) and _TEXT_OF_OBJECT.search(array):
            for log in logs:
                _guard(log)
            array = _dumped(logs)
        cuts = 0
        if len(array) > MAX_VALUE_BYTES and max(sizes) > _LONG_BYTES:
            cuts = sum(map(_shorten, logs))
            if cuts:
                array = _dumped(logs)
        return array, cuts

    def _logs(self, records: list[Record], levels: list[int], slots: list[orjson.Fragment]) -> list[dict[str, Any]]:
        may_stand, all_plain, room = self._harmless.issuperset, _PLAIN.issuperset, self._room
        worker_may_stand = _WORKER not in self._special
        logs: list[dict[str, Any]] = []
        for record, level in zip(records, levels, strict=True):
            size = len(record)
            if (size == 3 or (size == 4 and "run" in record)) and "seq" in record:  # a line of text
                attributes: dict[str, Any] = {"seq": record["seq"], "run": slots[level]}
            elif (
                size <= 5
                and size == 4 + ("run" in record)
                and "seq" in record
                and record.get(_WORKER).__class__ is str
                and worker_may_stand
            ):  # one that `calls` put the worker's id into
                attributes = {"seq": record["seq"], _WORKER: record[_WORKER], "run": slots[level]}
            else:
                attributes = record.copy()
                del attributes["message"], attributes["timestamp"]
                if fields.TRACE in record or fields.KIND in record:
                    record = _in_its_names(record, attributes)
                    size = len(record)
                values = record.values()
                if (
                    size <= room
                    and may_stand(record)
                    # A dict that the collector need not look at holds no other, and no list: 0.01 us against 0.4.
                    and ((not is_tracked(record) and all(values)) or all_plain(map(type, values)))
                ):
                    attributes["run"] = slots[level]
                else:
                    attributes.pop("run", None)
                    attributes = {**self._fit(attributes), "run": slots[level]}
            logs.append({"timestamp": record["timestamp"], "message": record["message"], "attributes": attributes})
        return logs

    def _fit(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """The attributes flat, and each under a name that it may have."""
        if self._all_may_stand(attributes):
            fit = flat(attributes, MAX_NAME)
            if self._all_may_stand(fit) and len(fit) < self._room:
                return fit
        return self._sorted_out(attributes)

    def _all_may_stand(self, attributes: Mapping[str, object]) -> bool:
        if self._harmless.issuperset(attributes):
            return True
        if len(self._harmless) > _MAX_NAMES:
            self._harmless.clear()
            self._harmless.update(_OURS)
        new = attributes.keys() - self._harmless
        good = set(filter(self._may_stand, new))
        self._harmless |= good
        return len(good) == len(new)

    def _may_stand(self, name: str) -> bool:
        return 0 < len(name) <= MAX_NAME and name not in self._special and not name.startswith(_PREFIXES)

    def _sorted_out(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """The same for names that may not stand, and for too many of them."""
        ours: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        fields: dict[str, Any] = {}
        for name, value in attributes.items():
            (ours if name in _OURS else fields if 0 < len(name) <= MAX_NAME else rest)[name] = value
        fit: dict[str, Any] = flat(fields, MAX_NAME)
        for name in [name for name in fit if not self._may_stand(name)]:
            value = fit.pop(name)
            free = _free(MOVED + name, fit)
            (fit if len(free) <= MAX_NAME else rest)[free] = value
        if rest or len(fit) > self._room:
            for name in list(fit)[self._room - 1 :]:
                rest[name] = fit.pop(name)
            fit[_free(REST, fit)] = json_text(rest)  # which may be cut and marked like any text
        return {**fit, **ours}

    def _cut(self, log: dict[str, Any]) -> bytes:
        """The body for this one log with its fields as one text and its message cut until it fits."""
        attributes = log["attributes"]
        rest = {name: attributes.pop(name) for name in list(attributes) if name not in _OURS}
        if rest:
            attributes[REST] = "json: " + fitting(_short(json_text(rest)), LIMITS.max_body_bytes // 2)
        attributes["truncated"] = True
        around = {"timestamp": log["timestamp"], "message": "", "attributes": attributes}
        room = LIMITS.max_body_bytes - len(self._head) - len(orjson.dumps(around)) - len(b"]}]")
        around["message"] = fitting(log["message"], room)
        return self._head + orjson.dumps(around) + b"]}]"


def _in_its_names(record: Record, attributes: dict[str, Any]) -> Record:
    """Adds New Relic's names for trace and span to the attributes and gives the error its own; the record with them."""
    if _CLASS not in attributes and fields.KIND in attributes:
        attributes[_CLASS] = attributes.pop(fields.KIND)
    for name, found in (("trace.id", fields.trace(record)), ("span.id", fields.span(record))):
        if found:
            attributes.setdefault(name, found)
    return {"message": record["message"], "timestamp": record["timestamp"], **attributes}


def _free(name: str, taken: Mapping[str, object]) -> str:
    while name in taken:
        name = MOVED + name
    return name


def _shorten(log: dict[str, Any]) -> bool:
    """Leaves of each text what New Relic keeps; whether that is less than it was, which is marked."""
    message, attributes = log["message"], log["attributes"]
    log["message"] = _short(message)
    short = {name: _short(value) for name, value in attributes.items()}
    cut = log["message"] is not message or any(short[name] is not value for name, value in attributes.items())
    if cut:
        log["attributes"] = {**short, "truncated": True}
    return cut


def _short(value: Any) -> Any:
    """The value itself, or as much of a text as New Relic keeps."""
    if value.__class__ is not str or len(value) <= MAX_VALUE_BYTES // 4:
        return value
    data = value.encode()
    return value if len(data) <= MAX_VALUE_BYTES else data[:MAX_VALUE_BYTES].decode(errors="ignore")


def _guard(log: dict[str, Any]) -> None:
    log["message"] = _guarded(log["message"])
    log["attributes"] = {name: _guarded(value) for name, value in log["attributes"].items()}


def _guarded(value: Any) -> Any:
    """The same, told to be text where New Relic would take it for attributes."""
    if value.__class__ is str and value.lstrip().startswith("{"):
        try:
            if isinstance(orjson.loads(value), dict):
                return f"json: {value}"
        except ValueError:
            pass
    return value


def _dumped(logs: list[dict[str, Any]]) -> bytes:
    try:
        return orjson.dumps(logs)
    except TypeError:  # text with lone surrogates, in an event of our own
        return orjson.dumps(_clean(logs))


def _clean(value: Any) -> Any:
    """The same with lone surrogates replaced, which no parser lets through."""
    if isinstance(value, dict):
        return {clean(name): _clean(inner) for name, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list) else clean(value)
