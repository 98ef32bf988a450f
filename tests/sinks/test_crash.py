"""A crash as Sentry's event: held against its SDK's own parser, Relay's limits, and what must be the same each time."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest
from sentry_sdk.envelope import Envelope

from shipper import __version__
from shipper.journal.ending import in_words, is_crash
from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.crash import Crash
from shipper.lines.decoder import Decoder
from shipper.lines.events import Events
from shipper.sinks.base import Body
from shipper.sinks.sentry import MAX_AGE_MS, Sentry
from shipper.sinks.sentry_issue import CRUMBS

NOW_MS = 1_795_492_800_000  # 2026-11-24T04:00:00Z
KEY = "0123456789abcdef0123456789abcdef"
MAX_EVENT_BYTES = 1 << 20

RAISED = 'Traceback (most recent call last):\n  File "/app/agent.py", line 3, in run\n    go(7)\nValueError: no 7'
OTHER = RAISED.replace("line 3", "line 4").replace("no 7", "no 8")  # another release, other words
ELSEWHERE = RAISED.replace("in run", "in walk")


def facts(tags: tuple[tuple[str, str], ...] = (), run: str = "00112233445566ff") -> Facts:
    return Facts(run, "worker-1", "agent-1", "cloud.livekit.io", tags, ("sentry",), 262_144, 0, "python")


def decoded(*lines: str, stream: int = 2, first: int = 1, at_ms: int = NOW_MS) -> Events:
    raw = [line.encode() for text in lines for line in text.split("\n")]
    return Decoder().decode(Batch(stream, raw, first, [(0, at_ms * 10**6)], {}))


def crash(*tail: Events, at_ms: int = NOW_MS, **end: Any) -> Crash:
    assert is_crash(end)
    return Crash(end, in_words(end), at_ms, list(tail))


def encode(crash: Crash, of: Facts | None = None, **environ: str) -> Body:
    sink = Sentry.from_env({"SENTRY_DSN": f"https://{KEY}@o1.ingest.us.sentry.io/42", **environ})
    assert sink.tells_crashes
    return sink.encoder(of or facts())([(crash, 0, 1)], NOW_MS)


def event(crash: Crash, of: Facts | None = None, **environ: str) -> dict[str, Any]:
    """By the SDK's parser."""
    body = encode(crash, of, **environ)
    envelope = Envelope.deserialize(gzip.decompress(body.data))
    (item,) = envelope.items
    assert (item.type, item.data_category, body.count) == ("event", "error", 1)
    assert item.headers["length"] == body.size <= MAX_EVENT_BYTES
    made: dict[str, Any] = orjson.loads(item.get_bytes())
    assert envelope.headers == {
        "sdk": {"name": "agent-shipper", "version": __version__}, "event_id": made["event_id"],
    }  # fmt: skip
    return made


def raised(made: dict[str, Any]) -> tuple[str, str]:
    value = made["exception"]["values"][-1]
    return value["type"], value["value"]


def test_the_event_is_this() -> None:
    tail = [decoded("one", stream=1, at_ms=NOW_MS - 5), decoded(RAISED)]
    environ = {"SENTRY_RELEASE": "agent@1", "SENTRY_ENVIRONMENT": "prod"}
    made = event(crash(*tail, exit_status=1), facts((("team", "voice"), ("run", "mine"))), **environ)
    assert made.pop("event_id").isalnum()
    trace = made["contexts"].pop("trace")
    assert (len(trace["trace_id"]), len(trace["span_id"])) == (32, 16)
    crumbs = made.pop("breadcrumbs")["values"]
    assert crumbs[0] == {
        "timestamp": (NOW_MS - 5) / 1000, "level": "info", "category": "stdout", "message": "one", "data": {"seq": 1},
    }  # fmt: skip
    assert {crumb["category"] for crumb in crumbs[1:]} == {"stderr"}
    assert "\n".join(crumb["message"] for crumb in crumbs[1:]) == RAISED
    assert made == {
        "timestamp": NOW_MS / 1000,
        "platform": "python",
        "level": "fatal",
        "logger": "shipper",
        "server_name": "worker-1",
        "release": "agent@1",
        "environment": "prod",
        "sdk": {"name": "agent-shipper", "version": __version__},
        "tags": {
            "run": "00112233445566ff", "host": "worker-1", "source": "agent-1", "service": "cloud.livekit.io",
            "team": "voice", "tag.run": "mine",
        },
        "contexts": {"agent": {"type": "agent", "end": "the agent ended with status 1", "exit_status": 1}},
        "exception": {
            "values": [
                {
                    "type": "ValueError",
                    "value": "no 7",
                    "mechanism": {"type": "shipper", "handled": False},
                    "stacktrace": {
                        "frames": [
                            {
                                "filename": "/app/agent.py", "abs_path": "/app/agent.py", "function": "run",
                                "lineno": 3, "in_app": True, "context_line": "go(7)",
                            }
                        ]
                    },
                }
            ]
        },
        "fingerprint": ["ValueError", "/app/agent.py:run"],
    }  # fmt: skip


def test_a_repeat_is_the_same_event_and_another_run_another() -> None:
    one = event(crash(decoded(RAISED), exit_status=1))
    assert event(crash(exit_status=1))["event_id"] == one["event_id"]
    assert event(crash(exit_status=1), facts(run="f" * 16))["event_id"] != one["event_id"]


def test_one_bug_is_one_issue_and_another_another() -> None:
    prints = [event(crash(decoded(text), exit_status=1))["fingerprint"] for text in (RAISED, OTHER, ELSEWHERE)]
    assert prints[0] == prints[1] != prints[2]
    ends: list[dict[str, Any]] = [{"exit_status": 3}, {"exit_status": 4}, {"signal": 9}, {"signal": 9, "oom": True}]
    assert len({tuple(event(crash(**end))["fingerprint"]) for end in ends}) == 4


@pytest.mark.parametrize(
    ("end", "lines", "what"),
    [
        ({"exit_status": 3}, (), ("AgentExit", "the agent ended with status 3")),
        ({"signal": 11}, (), ("SIGSEGV", "the agent was ended by signal 11")),
        ({"signal": 77}, (), ("signal 77", "the agent was ended by signal 77")),
        (
            {"signal": 9, "oom": True, "limit": 128 << 20},
            (RAISED,),
            ("OutOfMemory", "the agent was ended by signal 9, out of memory (limit 128 MiB)"),
        ),
        (
            {"exit_status": 0, "failed": "worker failed"},
            (),
            ("WorkerFailed", "the agent ended with status 0, but it had failed: its worker logged 'worker failed'"),
        ),
        # no exception ends by a signal, but what a runtime says before it does
        ({"signal": 11}, (RAISED,), ("SIGSEGV", "the agent was ended by signal 11")),
        ({"signal": 6}, ("FATAL ERROR: heap out of memory",), ("FATAL ERROR", "heap out of memory")),
        ({"signal": 6}, ("Fatal Python error: Aborted",), ("SIGABRT", "Aborted")),
        # what was caught long before the end did not bring it about
        ({"exit_status": 1}, (RAISED, *["later"] * CRUMBS), ("ValueError", "no 7")),
        ({"exit_status": 1}, (RAISED, *["later"] * (CRUMBS + 1)), ("AgentExit", "the agent ended with status 1")),
    ],
)
def test_what_ended_the_agent(end: dict[str, Any], lines: tuple[str, ...], what: tuple[str, str]) -> None:
    assert raised(event(crash(decoded(*lines), **end) if lines else crash(**end))) == what


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"exc_info": RAISED}, ("ValueError", "no 7")),
        (
            {"err": {"type": "TypeError", "message": "m", "stack": "TypeError: m\n    at f (/a.js:1:2)"}},
            ("TypeError", "m"),
        ),
        ({"error.kind": "Lost", "error.message": "m"}, ("Lost", "m")),
        ({"error": {"type": "Lost", "message": "m", "stack": 7}}, ("Lost", "m")),
        ({"error": "no object"}, ("AgentExit", "the agent ended with status 1")),
        ({"level": "WARNING", "exc_info": RAISED}, ("AgentExit", "the agent ended with status 1")),
    ],
)
def test_an_error_that_was_logged_as_json_counts_too(fields: dict[str, object], what: tuple[str, str]) -> None:
    line = orjson.dumps({"level": "ERROR", "message": "failed", **fields}).decode()
    assert raised(event(crash(decoded(line, "bye"), exit_status=1))) == what


def test_the_last_lines_of_both_streams_come_in_order_of_time() -> None:
    tail = [
        decoded(*map(str, range(100)), stream=1, at_ms=NOW_MS),
        decoded("late", at_ms=NOW_MS + 2),
        decoded("early", at_ms=NOW_MS - 2),
        decoded(orjson.dumps({"level": "CRITICAL", "message": "end"}).decode(), at_ms=NOW_MS + 1),
    ]
    crumbs = event(crash(*tail, exit_status=1))["breadcrumbs"]["values"]
    assert [crumb["message"] for crumb in crumbs] == [*map(str, range(52, 100)), "end", "late"]
    assert crumbs[-2]["level"] == "error"


def test_nothing_makes_it_larger_than_sentry_takes() -> None:
    ugly = "\x01\U0001f600\ud800"
    frames = "".join(
        f'  File "/app/{"é" * 900}{n}.py", line {n}, in {"f" * 900}\n    {"x" * 900}\n' for n in range(200)
    )
    chain = f"Traceback (most recent call last):\n{frames}ValueError: {'é' * 5000}\n"
    chain += "During handling of the above exception, another exception occurred:\n"
    tail = [decoded((chain * 5).encode(errors="replace").decode()), decoded(*["\x01" * 9000] * 100)]
    tags = tuple((f"tag{n}", "\x01" * 70) for n in range(100))
    of = Facts("r" * 16, ugly * 900, ugly * 900, "s", tags, ("sentry",), 262_144, 0, "python")
    made = event(crash(*tail, exit_status=1), of, SENTRY_RELEASE="\x01" * 10_000)
    assert len(made["breadcrumbs"]["values"]) == CRUMBS
    assert len(encode(crash(tail[0], exit_status=1), of).data) < MAX_EVENT_BYTES
    values = event(crash(tail[0], exit_status=1), of)["exception"]["values"]
    assert sum(len(value.get("stacktrace", {}).get("frames", ())) for value in values) == 200
    assert len(values[-1]["stacktrace"]["frames"]) == 100


def test_an_end_too_old_or_to_come_goes_under_the_present_time() -> None:
    for at_ms in (NOW_MS - MAX_AGE_MS - 1, NOW_MS + 120_000):
        body = encode(crash(at_ms=at_ms, exit_status=1))
        assert body.moved == 1
        assert event(crash(at_ms=at_ms, exit_status=1))["timestamp"] == NOW_MS / 1000


def test_a_tag_that_sentry_would_not_take_is_left_out() -> None:
    made = event(crash(exit_status=1), facts((("a b", "c"), ("ok", "x\ny"), ("twice", "1"), ("twice", "2"))))
    assert {name: made["tags"][name] for name in ("ok", "twice")} == {"ok": "x y", "twice": "1,2"}
    assert "a b" not in made["tags"]


@pytest.mark.parametrize("value", ["off", " OFF "])
def test_it_can_be_turned_off(value: str) -> None:
    environ = {"SENTRY_DSN": f"https://{KEY}@o1.ingest.us.sentry.io/42", "SHIPPER_SENTRY_EVENTS": value}
    assert not Sentry.from_env(environ).tells_crashes


@pytest.mark.parametrize(
    ("end", "crashed"),
    [
        ({"exit_status": 0}, False),
        ({"exit_status": 1}, True),
        ({"exit_status": 1, "asked": True}, False),
        ({"signal": 11, "asked": True}, False),
        ({"signal": 15}, True),
        ({"exit_status": 0, "failed": "worker failed"}, True),
        ({}, False),
    ],
)
def test_a_crash_is_a_known_end_that_nobody_asked_for(end: dict[str, Any], crashed: bool) -> None:
    assert is_crash(end) == crashed
