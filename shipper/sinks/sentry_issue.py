"""An agent's crash as Sentry's event, which becomes an issue there.

Sources, read 2026-11: develop.sentry.dev/sdk/data-model/event-payloads and its pages on exception, stacktrace,
breadcrumbs, contexts; getsentry/relay relay-event-schema (protocol/event.rs, tags.rs); sentry_sdk._types.Event.

| member | value |
| --- | --- |
| `event_id` | made of the run's id: a repeat is the same event to Sentry, which keeps one |
| `level` | `fatal` |
| `exception` | the last traceback, where it belongs to the end (`_cause`), causes first; else the end itself: type `SIGSEGV`, `OutOfMemory`, `WorkerFailed` or `AgentExit` |
| `fingerprint` | the type and the innermost frame of the agent's own code, without its line: other words and other releases of one bug are one issue. Without frames the type, the end and the source |
| `breadcrumbs` | the last 50 events, as they went to Sentry's logs, in order of time |
| `server_name`, `tags` | host; run, source, service, and the tags, as far as Sentry takes their names |
| `contexts` | `agent`: how it ended; `trace`: the one that the run's lines without a trace of their own have |
| `timestamp` | the end's; the present time where that is too old or too new |

Relay's limits: an event 1 MiB, a tag's name and value 200 characters, a message 8,192, of 100 breadcrumbs the last.
Texts are cut so that all of them together stay below the first.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from shipper import __version__
from shipper.journal.ending import signal_name
from shipper.lines.levels import DEBUG, ERROR, WARNING
from shipper.lines.tracebacks import FATAL_PYTHON, MAX_FRAMES, OTHER, Failure, last_traceback
from shipper.sinks.parts import clean, fitting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sentry_sdk.types import Event

    from shipper.journal.facts import Facts
    from shipper.lines.crash import Crash
    from shipper.lines.events import Events, Record
    from shipper.lines.tracebacks import Chain, Frame

CRUMBS = 50
MAX_CRUMB, MAX_VALUE, MAX_NAME, MAX_CONTEXT = 4096, 8192, 512, 512
"""Bytes of JSON: 50 breadcrumbs, two chains' worth of frames and 100 tags make 0.2 + 0.3 + 0.2 MB at most."""
MAX_TAG = 200
FRAMES_IN_ALL = 2 * MAX_FRAMES

_TAG = re.compile(r"[A-Za-z0-9_.:-]{1,200}", re.ASCII)
_OUR_TAGS = frozenset({"run", "source", "service", "host"})

_STACKS = ("error.stack", "exc_info", "stack", "stack_trace", "traceback", "exception")
_ERRORS = ("error", "err", "exception")


def event_of(crash: Crash, facts: Facts, time_ms: int, trace: str, named: Mapping[str, str]) -> Event:
    """``trace``: of the run's lines; ``named``: release and environment, as far as they are set."""
    told = _in_order(crash.tail)
    chain = _cause(crash, told)
    if chain:
        what = chain[-1]
        if what.kind == FATAL_PYTHON and "signal" in crash.end:
            what.kind = signal_name(crash.end["signal"])
    else:
        what = _end_itself(crash)
        chain = [what]
    event: dict[str, Any] = {
        "event_id": event_id(facts.run),
        "timestamp": time_ms / 1000,
        "platform": what.platform,
        "level": "fatal",
        "logger": "shipper",
        "server_name": _cut(facts.host, MAX_NAME),
        **{name: _cut(value, MAX_TAG) for name, value in named.items()},
        "sdk": {"name": "agent-shipper", "version": __version__},
        "tags": _tags(facts),
        "contexts": {"agent": _context(crash), "trace": {"trace_id": trace, "span_id": trace[:16]}},
        "exception": {"values": _values(chain)},
        "fingerprint": _fingerprint(what, crash, facts),
        "breadcrumbs": {"values": [_crumb(*one) for one in told[-CRUMBS:]]},
    }
    return event  # type: ignore[return-value]  # a TypedDict with every member named


def event_id(run: str) -> str:
    return blake2b(b"crash " + run.encode(errors="replace"), digest_size=16).hexdigest()


Told = tuple["Record", int, str]
"""An event's record, its level, its stream."""


def _in_order(tail: Sequence[Events]) -> list[Told]:
    told = [
        (record, level, events.stream)
        for events in tail
        for record, level in zip(events.records, events.levels, strict=True)
    ]
    told.sort(key=lambda one: one[0]["timestamp"])  # type: ignore[arg-type, return-value]  # stable: an int in all
    return told


# -- what it died of -------------------------------------------------------------------------------------------------


def _cause(crash: Crash, told: Sequence[Told]) -> Chain | None:
    """The last traceback, when at most `CRUMBS` events follow it, and none that anything can have caught where a signal
    or lack of memory ended the agent: an exception does neither."""
    found: tuple[Chain, int] | None = None
    for chain, place in _tracebacks(told):
        if found is None or place >= found[1]:
            found = chain, place
    if found is None or len(told) - 1 - found[1] > CRUMBS or crash.end.get("oom"):
        return None
    if "signal" in crash.end and not found[0][-1].fatal:
        return None
    return found[0]


def _tracebacks(told: Sequence[Told]) -> Iterator[tuple[Chain, int]]:
    """The last one that each stream printed, and the last one in a field."""
    for stream in ("stdout", "stderr"):
        lines = [
            (place, text)
            for place, (record, _, of) in enumerate(told)
            if of == stream
            for text in str(record["message"]).split("\n")
        ]
        found = last_traceback(lines)
        if found is not None:
            yield found
    for place in range(len(told) - 1, -1, -1):
        record, level, _ = told[place]
        if level >= ERROR and (chain := _in_fields(record)):
            yield chain, place
            return


def _in_fields(record: Record) -> Chain | None:
    """The error that a logger wrote into a line of JSON."""
    error = next((value for name in _ERRORS if isinstance(value := record.get(name), dict)), {})
    for stack in (*(record.get(name) for name in _STACKS), error.get("stack")):
        if isinstance(stack, str):
            found = last_traceback([(0, text) for text in stack.split("\n")])
            if found is not None:
                return found[0]
    kind, message = record.get("error.kind", error.get("type")), record.get("error.message", error.get("message"))
    if isinstance(kind, str) and kind and isinstance(message, str):
        return [Failure(kind, message, [], OTHER)]
    return None


def _end_itself(crash: Crash) -> Failure:
    end = crash.end
    if end.get("oom"):
        kind = "OutOfMemory"
    elif "signal" in end:
        kind = signal_name(end["signal"])
    else:
        kind = "WorkerFailed" if end.get("failed") else "AgentExit"
    return Failure(kind, crash.words, [], OTHER)


# -- in Sentry's words -----------------------------------------------------------------------------------------------


def _values(chain: Chain) -> list[dict[str, Any]]:
    values = []
    room = FRAMES_IN_ALL
    for failure in reversed(chain):  # the last one matters most
        frames = failure.frames[-room:] if room else []
        room -= len(frames)
        value: dict[str, Any] = {"type": _cut(failure.kind, MAX_NAME), "value": _cut(failure.message, MAX_VALUE)}
        if failure.module:
            value["module"] = _cut(failure.module, MAX_NAME)
        if frames:
            value["stacktrace"] = {"frames": [_frame(frame) for frame in frames]}
        values.append(value)
    values[0]["mechanism"] = {"type": "shipper", "handled": False}
    return values[::-1]


def _frame(frame: Frame) -> dict[str, Any]:
    shown: dict[str, Any] = {"filename": _cut(frame.path, MAX_NAME), "in_app": frame.in_app}
    if frame.path.startswith("/"):
        shown["abs_path"] = shown["filename"]
    if frame.function:
        shown["function"] = _cut(frame.function, MAX_NAME)
    if frame.line:
        shown["lineno"] = frame.line
    if frame.context:
        shown["context_line"] = _cut(frame.context, MAX_CONTEXT)
    return shown


def _fingerprint(what: Failure, crash: Crash, facts: Facts) -> list[str]:
    kind = f"{what.module}.{what.kind}" if what.module else what.kind
    place = next((frame for frame in reversed(what.frames) if frame.in_app), what.frames[-1] if what.frames else None)
    if place is not None:
        return [_cut(kind, MAX_NAME), _cut(f"{place.path}:{place.function}", MAX_NAME)]
    end = f"status {crash.end['exit_status']}" if "exit_status" in crash.end else f"signal {crash.end.get('signal')}"
    return [_cut(kind, MAX_NAME), end, _cut(facts.source, MAX_NAME)]


def _crumb(record: Record, level: int, stream: str) -> dict[str, Any]:
    crumb: dict[str, Any] = {
        "timestamp": record["timestamp"] / 1000,  # type: ignore[operator]  # ms, in every record
        "level": "debug" if level <= DEBUG else "info" if level < WARNING else "warning" if level < ERROR else "error",
        "category": stream,
        "message": _cut(str(record["message"]), MAX_CRUMB),
    }
    if "seq" in record:
        crumb["data"] = {"seq": record["seq"]}
    return crumb


def _tags(facts: Facts) -> dict[str, str]:
    tags = {"run": facts.run, "host": facts.host, "source": facts.source, "service": facts.service}
    for key, value in facts.tags:
        name = f"tag.{key}" if key in _OUR_TAGS else key
        if _TAG.fullmatch(name):
            tags[name] = f"{tags[name]},{value}" if name in tags else value
    return {name: _cut(value.replace("\n", " ")[:MAX_TAG], 4 * MAX_TAG) for name, value in tags.items() if value}


def _context(crash: Crash) -> dict[str, Any]:
    end = crash.end
    context: dict[str, Any] = {"type": "agent", "end": crash.words}
    if "exit_status" in end:
        context["exit_status"] = end["exit_status"]
    if "signal" in end:
        context["signal"] = signal_name(end["signal"])
    if end.get("oom"):
        context["out_of_memory"] = True
        if "limit" in end:
            context["memory_limit_bytes"] = end["limit"]
    return context


def _cut(text: str, max_bytes: int) -> str:
    text = str(clean(text))
    return text if 6 * len(text) <= max_bytes else fitting(text, max_bytes)
