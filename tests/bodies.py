"""What a provider finds in a request, read from the bytes with nothing of the sinks or the sandbox.

Each event is flat, all that it carries under the provider's own names: Datadog's entry as it is; the JSON in the
message of CloudWatch's, whose time is `timestamp` (an agent's raw line is `message`); the attributes of Sentry's item
and, under `item.…`, what else the item has; the attributes of New Relic's, those that its block has in common included.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

Event = dict[str, Any]

SENTRY_TYPES = {"string": str, "integer": int, "double": float, "boolean": bool}
"""develop.sentry.dev/sdk/telemetry/logs, read 2026-11."""


def printed_fields(line: bytes) -> dict[str, Any]:
    """What a JSON line of demo/lines says, once: no traceback behind the message, an error's members by themselves."""
    found: dict[str, Any] = orjson.loads(line)
    if stack := found.get("exc_info"):
        found["message"] = found["message"].removesuffix(f"\n{stack}")
    if isinstance(found.get("error"), dict):
        found |= {f"error.{name}": value for name, value in found.pop("error").items()}
    return found


def events_in(provider: str, data: bytes) -> list[Event]:
    """``data`` as it went over the wire, gzipped or not."""
    return READERS[provider](plain(data))


def plain(data: bytes) -> bytes:
    return zlib.decompress(data, wbits=31) if data.startswith(b"\x1f\x8b") else data


def _datadog(data: bytes) -> list[Event]:
    events: list[Event] = orjson.loads(data)
    return events


def _cloudwatch(data: bytes) -> list[Event]:
    events: list[Event] = []
    for event in orjson.loads(data).get("logEvents", ()):  # none: the call that makes a group or a stream
        try:
            message = orjson.loads(event["message"])
        except orjson.JSONDecodeError:
            message = None
        if type(message) is not dict:
            message = {"message": event["message"]}
        events.append({**message, "timestamp": event["timestamp"]})
    return events


def _sentry(data: bytes) -> list[Event]:
    events: list[Event] = []
    for header, payload in envelope_items(data):
        if header["type"] != "log":
            continue
        items = orjson.loads(payload)["items"]
        assert len(items) == header["item_count"]
        for item in items:
            attributes = item.pop("attributes")
            event = {name: attribute["value"] for name, attribute in attributes.items()}
            for name, value in item.items():
                event[f"item.{name}"] = value
            events.append(event)
    return events


def envelope_items(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """An envelope's items, header and payload (develop.sentry.dev/sdk/data-model/envelopes, read 2026-11)."""
    at = data.index(b"\n") + 1
    items = []
    while at < len(data):
        end = data.index(b"\n", at)
        header: dict[str, Any] = orjson.loads(data[at:end])
        at = end + 1
        if "length" in header:
            end = at + header["length"]
            assert data[end : end + 1] in (b"\n", b"")
        else:
            end = data.find(b"\n", at)
            end = len(data) if end < 0 else end
        items.append((header, data[at:end]))
        at = end + 1
    return items


def _newrelic(data: bytes) -> list[Event]:
    events: list[Event] = []
    for block in orjson.loads(data):
        common = block.get("common", {}).get("attributes", {})
        for log in block["logs"]:
            attributes = log.pop("attributes", {})
            events.append({**common, **attributes, **log})
    return events


READERS: dict[str, Callable[[bytes], list[Event]]] = {
    "datadog": _datadog,
    "cloudwatch": _cloudwatch,
    "sentry": _sentry,
    "newrelic": _newrelic,
}
