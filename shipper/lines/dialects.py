"""JSON loggers that keep message, level or time inside of other objects: these are lifted to where all others have them.

| dialect | what is lifted |
| --- | --- |
| loguru, `serialize=True` | all of `record`, and of its `extra`, where the name is free; `level.name`, `time.timestamp`, `process.id` as `pid`. `text` repeats it all and is left out; the traceback in it becomes `exc_info` |
| tracing-subscriber (Rust) | `fields.message` |
| Elastic Common Schema, nested | `log.level` |
| OpenTelemetry (told by a severity) | `body`, or its `stringValue`; a severity number without its text becomes that |

Sources: loguru/_handler.py (_serialize_record), tracing-subscriber's format/json.rs, ecs-logging-python's
StdlibFormatter, opentelemetry-proto's logs.proto and the data model's severity numbers; read 2026-11.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shipper.lines.events import Record

HINTS = frozenset({"record", "fields", "log", "body", "severityNumber", "severity_number"})
"""Objects without any of these names are of no such dialect."""

_SEVERITIES = ("trace", "debug", "info", "warn", "error", "fatal")  # four numbers each, from 1
_SEVERITY_NAMES = frozenset({"severityNumber", "severity_number", "severityText", "severity_text"})
_TRACEBACK = "Traceback (most recent call last):"


def lift(found: Record) -> None:
    """Changes an object of one of these dialects, in place; leaves every other one as it is."""
    record = found.get("record")
    if isinstance(record, dict) and isinstance(found.get("text"), str) and "message" in record:
        _loguru(found, record)
        return
    fields = found.get("fields")
    if isinstance(fields, dict) and isinstance(fields.get("message"), str) and "message" not in found:
        found["message"] = fields.pop("message")
    log = found.get("log")
    if isinstance(log, dict) and isinstance(log.get("level"), str) and "log.level" not in found:
        found["log.level"] = log.pop("level")
        if not log:
            del found["log"]
    if not _SEVERITY_NAMES.isdisjoint(found) and "message" not in found:
        body = found.get("body")
        if isinstance(body, dict) and len(body) == 1:
            body = body.get("stringValue")
        if isinstance(body, str):
            found["message"] = body
            del found["body"]
    for number, text in (("severityNumber", "severityText"), ("severity_number", "severity_text")):
        value = found.get(number)
        if isinstance(value, int) and 1 <= value <= 24 and value is not True and not found.get(text):
            found[text] = _SEVERITIES[(value - 1) // 4]


def _loguru(found: Record, record: dict[str, Any]) -> None:
    level, time, process = record.get("level"), record.get("time"), record.get("process")
    if isinstance(level, dict) and "name" in level:
        record["level"] = level["name"]
    if isinstance(time, dict) and "timestamp" in time:
        record["time"] = time["timestamp"]
    if isinstance(process, dict) and "id" in process and "pid" not in record:
        record["pid"] = process["id"]
    text = str(found["text"])
    if record.get("exception") is not None and _TRACEBACK in text:
        record.setdefault("exc_info", text[text.index(_TRACEBACK) :].rstrip())
    extra = record.pop("extra", None)
    rest = dict(record)
    if isinstance(extra, dict):
        rest = {**extra, **rest}
        if kept := {name: value for name, value in extra.items() if name in record}:
            rest["extra"] = kept
    elif extra is not None:
        rest["extra"] = extra
    del found["text"], found["record"]
    if taken := {name: rest.pop(name) for name in list(rest) if name in found}:
        rest["record"] = taken
    found.update(rest)
