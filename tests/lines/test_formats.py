"""Every format of formats.toml, at every provider; every line of the samples; and that a level is never a guess."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.formats import FAMILIES, read
from shipper.lines.levels import EXACT, INFO, LEVELS
from shipper.lines.text import clean
from tests.lines.table import CAPTURE_MS, PAGE, arrived, entries, events_of, page

ENTRIES = entries()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
SAMPLES = sorted(ROOT.parent.joinpath("shared", "samples").glob("*.log")) or sorted(ROOT.glob("demo/lines/*.log"))
SENTRY = {
    "notice": "info", "warning": "warn", "critical": "fatal", "alert": "fatal", "emergency": "fatal",
}  # fmt: skip


def ms(entry: dict[str, Any]) -> int:
    if "time" not in entry:
        return CAPTURE_MS
    return (datetime.fromisoformat(entry["time"]) - EPOCH) // timedelta(milliseconds=1)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["format"])
def test_each_format_becomes_what_the_table_says(entry: dict[str, Any]) -> None:
    events = events_of(entry)
    (record,) = events.records
    assert record.pop("message") == entry.get("message", entry.get("line"))
    assert record.pop("timestamp") == ms(entry)
    assert LEVELS[events.levels[0]] == entry.get("level", "info")
    del record["seq"]
    assert record == entry.get("fields", {})


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["format"])
def test_each_format_arrives_at_each_provider_in_its_own_words(entry: dict[str, Any]) -> None:
    level, message = entry.get("level", "info"), str(entry.get("message", entry.get("line")))
    nested, flat = entry.get("fields", {}), flattened(entry.get("fields", {}))
    for provider, found in arrived(events_of(entry)).items():
        assert found.level == (SENTRY.get(level, level) if provider == "sentry" else level)
        assert found.time_ms == ms(entry)
        assert found.message in (message, f"json: {message}")
        assert found.message == message or (provider == "newrelic" and message.startswith("{"))
        assert found.fields == as_named(provider, flat if provider in ("sentry", "newrelic") else nested)


OWN = {
    "sentry": {name: f"exception.{own}" for name, own in
               {"error.kind": "type", "error.message": "message", "error.stack": "stacktrace"}.items()},
    "newrelic": {"error.kind": "error.class"},
}  # fmt: skip


def as_named(provider: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The same under the provider's own names, and its own ids of traces beside them (test_names.py has these)."""
    named = {OWN.get(provider, {}).get(name, name): value for name, value in fields.items()}
    trace, span = fields.get("trace_id"), fields.get("span_id")
    if provider == "newrelic":
        named |= {name: value for name, value in (("trace.id", trace), ("span.id", span)) if value}
    elif provider == "datadog" and trace and "dd.trace_id" not in fields:
        named["dd.trace_id"] = trace
        if span:
            named["dd.span_id"] = str(int(span, 16))
    return named


def flattened(fields: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= flattened({f"{name}.{inner}": deeper for inner, deeper in value.items()})
        else:
            flat[name] = orjson.dumps(value).decode() if isinstance(value, list) else value
    return flat


def test_the_table_in_the_docs_is_of_today() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.lines.table writes it"


# Nothing of these says a level where a level stands.
SENTENCES = [
    "[dev] server started", "<1> first", "<191>x", "<8>x", "01:23:45 left", "[00:05:23] 12 %",
    "FOO=1 level=error level=info", "Exception in thread safety",
    "no ERROR here", "ERROR in a sentence", "an ERROR: in the middle", "we saw [ERROR] there", "level=error is bad",
    "the level=error", "x=1 level", "Error: a title", "error: in lower case", "ErrorLevel: x", "ERRORS: 3",
    "INFORMATION", "Warning: a title", "fatal: not a git repository", "panic at the disco", "panics: 3",
    "thread safety", "<3 you", "<b>ERROR</b>", "(node) Warning", "[main] ERROR is a word here", "[1, 2] ERROR",
    "[ERROR", "E1124 is a number", "EXCEPTION: none", "Exception in the rule",
    "Traceback (most recent call last): no", "warn the user", "default: x", "config: loaded", "http: Server closed",
    "/etc/app: ERROR: x", "ERROR", "ERROR=1", "process exited with exit code 0", "2026-11-24 03:55:35 no ERROR here",
    "2026-11-24 03:55:35 an error: occurred", "2026-11-24 03:55:35 retry after ERROR in db",
    "2026-11-24 03:55:35 error dialing", "03:55:35 a [ERROR] b", "2026-11-24 03:55:35 done: ERROR codes follow",
    "2026-11-24 03:55:35 e.g. ERROR is one", "2026-11-24 ERROR x", "[2026-11-24 03:55:35] no ERROR here",
    "[03:55:35] failed: ERROR", "127.0.0.1 ERROR", "42 ERROR", "2026-11-24 03:55:35 default: x", "[config] loaded",
    "[2026-11-24 03:55:35 main] ERROR x", "12:34 ERROR x", "msg=no level", "a=1 b=2", "at=error method=GET",
    "npm warned", "fail: x", "info: x", "-ERROR- x", "*** ERROR ***",
]  # fmt: skip


@pytest.mark.parametrize("stream", [1, 2])
def test_a_level_is_no_word_of_a_sentence_nor_the_stream(stream: int) -> None:
    lines = [line.encode() for line in SENTENCES]
    events = Decoder().decode(Batch(stream, lines, 1, [(0, CAPTURE_MS * 10**6)], {}))
    assert [text for text, level in zip(SENTENCES, events.levels, strict=True) if level != INFO] == []
    assert events.messages == SENTENCES


WORDS = st.lists(
    st.one_of(st.sampled_from([str(name) for name in EXACT]), st.text("abcxyz", min_size=1, max_size=6)), max_size=6
)
STAMPS = st.sampled_from(
    ["", "2026-11-24 03:55:35,080 ", "03:55:35 ", "2026/11/24 03:55:35 ", "[2026-11-24 03:55:35] "]
)


@given(STAMPS, st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8), WORDS)
def test_behind_a_first_word_no_word_is_a_level(stamp: str, first: str, words: list[str]) -> None:
    found = read(stamp + " ".join([first, *words]))
    assert found is None or found[0] == INFO


PIECES = st.one_of(
    st.sampled_from(
        [
            "2026-11-24 03:55:35,080", "9999-99-99 99:99:99", "0000-00-00T00:00:00.123456789Z", "03:55:35.080",
            "25:61:61", "3:55AM", "[", "]", " - ", " | ", ": ", "\t", " ", "ERROR", "info", "name", "my.agent",
            "a:b:1", "{", "}", '{"a":1}', '{"host":1}', "level=", "msg=", '"', "\\", "=", "<11>", "<191>1 ",
            "W0229 03:55:35.080123 1 a:1]", "(node:1) Warning: ", "[24/Nov/2026:03:55:35 +0000]", "127.0.0.1 - - ",
            "\r", "\x1b[31m", "\x1b]0;", "\x1b", "\x07", "\x00", "\x9b", "\x90", "é", "漢",
            "process exited with non-zero exit code ", "Nov 24 03:55:35", "E1124 ",
        ]
    ),
    st.text(max_size=4),
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map("".join))
def test_whatever_is_printed_is_kept_but_for_what_no_screen_shows(text: str) -> None:
    line = text.replace("\n", " ").encode(errors="replace")
    events = Decoder().decode(Batch(1, [line, b"next"], 1, [(0, CAPTURE_MS * 10**6)], {}))
    assert events.messages[-1] == "next"
    if events.count == 1:
        assert not clean(line.decode()).strip()
        return
    record = events.records[0]
    assert isinstance(record["timestamp"], int)
    assert events.floor_ms <= record["timestamp"] <= events.ceiling_ms
    assert abs(record["timestamp"] - CAPTURE_MS) <= 86_400_000
    shown = clean(line.decode())
    message = str(record["message"]).removeprefix("json: ")
    assert shown.strip().startswith(message.strip()) or set(record) - {"message", "timestamp", "seq"}
    orjson.dumps(record)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_line_of_the_samples_arrives_with_its_level_and_time(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    capture_ms = 1_795_495_000_000
    events = Decoder().decode(Batch(1, lines, 1, [(0, capture_ms * 10**6)], {}))
    skipped = sum(int(str(record.get("skipped", 0))) for record in events.records) + events.trailing_skipped
    assert events.count + skipped == len(lines)
    for record, level in zip(events.records, events.levels, strict=True):
        line = lines[int(str(record["seq"])) - 1]
        shown, message = clean(line.decode(errors="replace")), str(record["message"])
        assert "\x1b" not in message
        if line.startswith(b'{"'):
            fields = orjson.loads(line)
            assert LEVELS[level] == level_in_json(fields["level"])
            assert record["timestamp"] != capture_ms
        elif b"\x1b[3" in line and line[:1].isdigit():  # dev mode
            assert LEVELS[level] == clean(shown.split(" - ")[1].split()[0]).lower()
            assert record["name"] == shown.split(" - ")[1].split()[1]
            assert record["timestamp"] != capture_ms
            assert shown.startswith(message)
        else:
            assert message == shown.removesuffix(" ") or message == shown


def level_in_json(value: object) -> str:
    return LEVELS[EXACT[value]]


def test_the_samples_are_there() -> None:
    assert len(SAMPLES) >= 10


@pytest.mark.parametrize(
    "unit",
    [
        "\x1b[", "\x1b]", "\x90", "\x1b]8;;", "\r", "a=", 'a="', 'a="\\', "{", " {", '{"a":', "[", "[a] ", "- ", " - ",
        ": ", "a.", "1.", "9", "\t", "a b", "(node:1) ", "<11>", "::", "a:", "'", "{}", "2026-11-24 03:55:35 [a] ",
        "\\\"", "\x0b",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "front",
    [
        "", "2026-11-24 03:55:35,080 - ERROR a - ", "2026-11-24 03:55:35 ", "[", "[2026-11-24 03:55:35] ",
        "level=info ", "thread '", "<11>1 ", "/", "ERROR:", "127.0.0.1 - ",
    ],
)  # fmt: skip
def test_no_line_takes_longer_than_its_length(front: str, unit: str) -> None:
    """A quadratic pattern over 200,000 characters would take minutes, and the test's own time limit is two."""
    line = (front + unit * (200_000 // len(unit)) + "}").encode()
    events = Decoder().decode(Batch(1, [line], 1, [(0, CAPTURE_MS * 10**6)], {}))
    assert events.count <= 1


def test_each_first_byte_has_one_family_at_most() -> None:
    assert all(sum(begins[byte] for _, _, begins in FAMILIES) <= 1 for byte in range(256))
