"""What a line says of an error and of its trace, under one name each whatever logger wrote it.

Errors. `error.kind`, `error.message` and `error.stack` (Datadog's names; sinks that know others write theirs):

| what the line holds | from |
| --- | --- |
| an object `error`, `err`, `exception` or `thrown` with two of type, message and stack (or a stack alone) | pino, Bunyan, LiveKit's Node SDK, log4j2: what else is in it goes beside them, as `error.code` |
| a text `exc_info`, `exc_text`, `exception`, `traceback`, `stack_info` | Python: python-json-logger, LiveKit, structlog |
| a text `errorVerbose`, `stacktrace`, `stack_trace`, `stack` | zap, logstash-logback-encoder and Google Cloud, winston |
| a text `error` or `err` | logrus, zap, zerolog, LiveKit's retries |
| `exception.type`, `.message`, `.stacktrace`; `error.type`, `.class`, `.name`, `.stack_trace` | OpenTelemetry, Elastic Common Schema |

- A stack that also stands in the message is shipped once: LiveKit's job processes append it there. What is left is the
  message; where nothing is, the error's kind and message are.
- Kind and message are read from the stack where the line does not name them.
- A text `error` becomes `error.message` and does not stay as `error`: to a provider that sees a tree in dotted names
  (Datadog, CloudWatch), `error` could not be a text and hold `error.stack` at once; and so one query finds every error.
- Anything else of these names stays as it is: `error: 5`, `exc_info: true`, `exception: []`; so does what finds its
  place taken by another text.

Traces. `trace_id` and `span_id` in hex, made of whatever name and form the line has (`_TRACES`: OpenTelemetry, Datadog,
Elastic, Google Cloud, W3C's `traceparent`), beside it, where they are free and it is valid: OpenTelemetry's "0" and
other texts stay plain fields. `trace` and `span` read them; sinks write their provider's own form from that. `roomId`
becomes `room_id` where that is free, as `jobId` does.

Applied twice, it does the same as once.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from shipper.lines.problems import describe
from shipper.lines.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from shipper.lines.events import Record

KIND, MESSAGE, STACK = "error.kind", "error.message", "error.stack"

_OBJECTS = ("error", "err", "exception", "thrown")
_KINDS = ("error.type", "error.class", "error.name", "exception.type")
_MESSAGES = ("exception.message",)
_STACKS = (
    "error.stack_trace", "error.stacktrace", "exception.stacktrace", "exc_info", "exc_text", "exception", "traceback",
    "errorVerbose", "stacktrace", "stack_trace", "stack_info", "stack",
)  # fmt: skip
"""First one that is one is `error.stack`."""
_TEXTS = ("error", "err")
_HEADER = "Traceback (most recent call last):"
_RAISED = re.compile(
    r"((?:[a-z_]\w*\.)*[A-Z]\w*)"
    r"(?:: ([^\n]+(?:\n(?!During handling|The above|Call stack)(?![^\n]*most recent)[^\n]+){0,40}))?\n?",
    re.ASCII,
)
"""What stands behind the frames, where that is simple."""
_LOGURU = {"type", "value", "traceback"}
_LOOKED_AT = 16_384  # characters at either end of a stack; reading what went wrong out of 256 KiB can take 0.2 s
_PYTHONS = frozenset({"exc_info", "exc_text"})
_MAY_BE_SHORT = frozenset(
    {"error.stack_trace", "error.stacktrace", "exception.stacktrace", "stacktrace", "stack_trace"}
)
"""Stacks, however short they are; a text of one line under the other names is none, but for Python's `_SHORT`."""
_SHORT = re.compile(r"(?!NoneType: )([A-Za-z_][\w.]*)(?:: (.+)|(?<=Error)|(?<=Exception)|(?<=Exit)|(?<=Interrupt))")
"""An exception that was never raised, as Python prints it."""
_ERRORS = frozenset({*_OBJECTS, *_KINDS, *_MESSAGES, *_STACKS, *_TEXTS})

_KINDS_WITHIN = ("type", "name", "class", "kind")
_MESSAGES_WITHIN = ("message", "msg")
_STACKS_WITHIN = ("stack", "stack_trace", "stacktrace", "traceback", "extendedStackTrace")

TRACE, SPAN = "trace_id", "span_id"
_TRACES = (
    ("otelTraceID", "otelSpanID"),  # opentelemetry-instrumentation-logging
    ("traceId", "spanId"),
    ("traceID", "spanID"),
    ("trace.id", "span.id"),  # Elastic Common Schema
    ("logging.googleapis.com/trace", "logging.googleapis.com/spanId"),  # projects/NAME/traces/HEX
)
_PARENT = "traceparent"
_ROOMS = ("roomId", "roomID")

_IDS = frozenset({*(name for name, _ in _TRACES), "dd", "dd.trace_id", "trace", _PARENT, *_ROOMS})

RARE = _ERRORS | _IDS
"""Names that make a record worth a look."""

_TRACE_ID = re.compile(r"(?!0+\Z)(?:[0-9a-f]{32}|[0-9a-f]{16})", re.ASCII | re.IGNORECASE)
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}", re.ASCII | re.IGNORECASE)
_DECIMAL = re.compile(r"[1-9][0-9]{0,19}", re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?![0-9a-f])", re.ASCII)
_NODE = re.compile(r"\S[^\n]*\n(?:[^\n]*\n){0,40}?[ \t]+at ")


def refine_all(records: Sequence[Record], names: Iterable[str]) -> None:
    """`refine` of each, in place. ``names``: all that the records' lines had among them."""
    for name in RARE.intersection(names):
        for record in [record for record in records if name in record]:
            refine(record)


def refine(record: Record) -> None:
    """Puts errors and traces under the names above, in place."""
    if not _ERRORS.isdisjoint(record):
        _errors(record)
    if not _IDS.isdisjoint(record):
        _ids(record)


def trace(record: Record) -> str:
    """The id of its trace, 32 or 16 hex digits in lower case; empty where it has none that is one."""
    return _matching(_TRACE_ID, record.get(TRACE))


def span(record: Record) -> str:
    """The id of its span, 16 hex digits in lower case; empty where it has none that is one."""
    return _matching(_SPAN_ID, record.get(SPAN))


def _matching(form: re.Pattern[str], value: object) -> str:
    return value.lower() if isinstance(value, str) and form.fullmatch(value) else ""


# -- errors ------------------------------------------------------------------------------------------------------


def _errors(record: Record) -> None:
    for name in _OBJECTS:
        inner = record.get(name)
        if inner.__class__ is dict:
            _take_apart(record, name, inner)
    _rename(record, _KINDS, KIND)
    _rename(record, _MESSAGES, MESSAGE)
    _find_stack(record)
    for name in _TEXTS:
        text = record.get(name)
        if not _is_text(text):
            continue
        if STACK not in record and "\n" in text and _described(text)[0]:  # type: ignore[operator, arg-type]
            record[STACK] = record.pop(name)
        elif record.get(MESSAGE, text) == text:
            del record[name]
            record[MESSAGE] = text
    stack = record.get(STACK)
    if isinstance(stack, str) and stack:
        _ship_once(record, stack)
        inner = record.get("exception")  # loguru's says the same again
        if isinstance(inner, dict) and inner.keys() == _LOGURU and record.get(KIND) == inner["type"]:
            del record["exception"]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _take_apart(record: Record, name: str, inner: dict[str, Any]) -> None:
    """Puts the members of an error beside it, where no other error stands there; what is no error stays."""
    kind, said, stack = (
        next((source for source in names if _is_text(inner.get(source))), None)
        for names in (_KINDS_WITHIN, _MESSAGES_WITHIN, _STACKS_WITHIN)
    )
    if not (stack or (kind and said)) or KIND in record or MESSAGE in record or STACK in record:
        return
    del record[name]
    for source, target in ((kind, KIND), (said, MESSAGE), (stack, STACK)):
        if source is not None:
            record[target] = inner[source]
    for key, value in inner.items():
        if key not in (kind, said, stack):
            free = f"error.{key}"
            while free in record:
                free = f"error.{free}"
            record[free] = value


def _rename(record: Record, names: Sequence[str], target: str) -> None:
    for name in names:
        if target not in record and _is_text(record.get(name)):
            record[target] = record.pop(name)


def _find_stack(record: Record) -> None:
    """Puts it in its place, and leaves the same text nowhere else."""
    for name in _STACKS:
        text = record.get(name)
        if isinstance(text, str) and text and _may_be_stack(record, name, text):
            if STACK not in record:
                record[STACK] = record.pop(name)
            elif record[STACK] == text:
                del record[name]


def _may_be_stack(record: Record, name: str, text: str) -> bool:
    if "\n" not in text:
        return name in _MAY_BE_SHORT or (name in _PYTHONS and _SHORT.fullmatch(text) is not None)
    # LiveKit's watchdog has a `stack` that tells where a loop stood, not what failed
    return name != "stack" or any(other in record for other in (KIND, MESSAGE, *_TEXTS)) or bool(_NODE.match(text))


def _ship_once(record: Record, stack: str) -> None:
    """Completes kind and message of the error, and takes its stack out of the record's message."""
    record[STACK] = stack = clean(stack)  # as the message is
    if KIND not in record or MESSAGE not in record:
        for name, value in zip((KIND, MESSAGE), _described(stack), strict=True):
            if value:
                record.setdefault(name, value)
    message = record.get("message")
    if not isinstance(message, str):
        return
    text, whole = stack.rstrip(), message.rstrip()
    if whole == text or whole.endswith("\n" + text):
        rest = whole[: len(whole) - len(text)].rstrip()
    elif (place := message.find(f"\n{text}\n")) >= 0:  # Python's own order: the traceback, then stack_info
        rest = message[:place] + message[place + 1 + len(text) :]
    else:
        return
    rest = rest or ": ".join(str(record[name]) for name in (KIND, MESSAGE) if _is_text(record.get(name)))
    if rest:
        record["message"] = rest


def _described(stack: str) -> tuple[str, str]:
    """Kind and message of the exception that a stack is of; empty what it does not say."""
    if "\n" in stack:
        if stack.startswith(_HEADER) and stack.count(_HEADER) == 1:  # nearly all; `describe` takes ten times as long
            end = stack.find("\n", stack.rfind("\n ") + 1)
            frames_only = end >= 0 and stack.count("\n", 0, end) == stack.count("\n ", 0, end)
            found = _RAISED.fullmatch(stack, end + 1) if frames_only else None
            if found:
                return found[1], found[2] or ""
        if len(stack) > 2 * _LOOKED_AT:  # kind and message stand at one of the ends
            stack = stack[:_LOOKED_AT].rpartition("\n")[0] + "\n" + stack[-_LOOKED_AT:].partition("\n")[2]
        problem = describe(stack)
        return (problem.kind, problem.message) if problem else ("", "")
    found = _SHORT.fullmatch(stack)
    return (found[1], found[2] or "") if found else ("", "")


# -- traces ------------------------------------------------------------------------------------------------------


def _ids(record: Record) -> None:
    for name in _ROOMS:
        if name in record and "room_id" not in record:
            record["room_id"] = record.pop(name)
    if TRACE in record:
        return
    for trace_id, span_id in _candidates(record):
        if trace_id:
            record[TRACE] = trace_id
            if span_id:
                record.setdefault(SPAN, span_id)
            return


def _candidates(record: Record) -> Iterator[tuple[str, str]]:
    for trace_name, span_name in _TRACES:
        if trace_name in record:
            yield _hex(record[trace_name]), _matching(_SPAN_ID, record.get(span_name))
    parent = record.get(_PARENT)
    if isinstance(parent, str) and (found := _TRACEPARENT.match(parent)):
        yield _hex(found[1]), _matching(_SPAN_ID, found[2])
    nested, beside = record.get("trace"), record.get("span")  # Elastic's, not flat
    if isinstance(nested, dict):
        yield _hex(nested.get("id")), _matching(_SPAN_ID, beside.get("id") if isinstance(beside, dict) else None)
    nested = record.get("dd")  # dd-trace-js
    if isinstance(nested, dict):
        yield _datadogs(nested.get(TRACE), 32), _datadogs(nested.get(SPAN), 16)
    yield _datadogs(record.get("dd.trace_id"), 32), _datadogs(record.get("dd.span_id"), 16)


def _hex(value: object) -> str:
    if isinstance(value, str) and value.startswith("projects/"):
        value = value.rpartition("/traces/")[2]
    return _matching(_TRACE_ID, value)


def _datadogs(value: object, digits: int) -> str:
    """Decimal where it fits 64 bits, as a text or a number, else hex (ddtrace internal/utils/formats.py)."""
    text = str(value) if value.__class__ is int and 0 < value < 2**64 else value
    if not isinstance(text, str):
        return ""
    if _DECIMAL.fullmatch(text):
        return f"{int(text):0{digits}x}" if int(text) < 2**64 else ""
    return text.lower() if len(text) == digits == 32 and _TRACE_ID.fullmatch(text) else ""
