"""`python -m tests.lines.table`: writes the table of formats.toml into docs/lines.md.

What stands in it went through the decoder and all four encoders; where their names for the same thing differ, the
sandbox's reading of them would be another opinion, so it is read from the bodies here.
"""

from __future__ import annotations

import functools
import gzip
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.events import Events
from shipper.sinks.base import Encoder
from shipper.sinks.cloudwatch import CloudWatch
from shipper.sinks.datadog import DatadogEncoder
from shipper.sinks.newrelic import NewRelicEncoder
from shipper.sinks.sentry import SentryEncoder

HERE = Path(__file__).resolve()
DATA = HERE.with_name("formats.toml")
PAGE = HERE.parents[2] / "docs" / "lines.md"
BEGIN, END = "<!-- table: python -m tests.lines.table -->\n", "<!-- end of table -->\n"
CAPTURE_MS = 1_795_492_800_123
FACTS = Facts("0123456789abcdef", "host", "agent", "service", (), (), 262_144, 0, "python")
PROVIDERS = {"datadog": "Datadog", "cloudwatch": "CloudWatch", "sentry": "Sentry", "newrelic": "New Relic"}


class Arrived(NamedTuple):
    """One event, as a provider has it."""

    level: str
    time_ms: int
    message: str
    fields: dict[str, Any]


def entries() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(DATA.read_text(encoding="utf-8"))["entry"]
    return found


def lines_of(entry: dict[str, Any]) -> list[bytes]:
    lines: list[str] = entry["lines"] if "lines" in entry else [entry["line"]]
    return [line.encode() for line in lines]


def events_of(entry: dict[str, Any]) -> Events:
    lines = lines_of(entry)
    return Decoder(keep_lines=True).decode(Batch(1, lines, 1, [(0, CAPTURE_MS * 1_000_000)], {}))


@functools.cache
def encoders() -> dict[str, Encoder]:
    environ = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYE"}
    return {
        "datadog": DatadogEncoder(FACTS, client_token=False),
        "cloudwatch": CloudWatch.from_env(environ).encoder(FACTS),
        "sentry": SentryEncoder(FACTS, "", {}),
        "newrelic": NewRelicEncoder(FACTS),
    }


def arrived(events: Events, index: int = 0) -> dict[str, Arrived]:
    """One event of these, by provider."""
    bodies = {name: encoder([(events, index, index + 1)], CAPTURE_MS) for name, encoder in encoders().items()}
    texts = {name: gzip.decompress(body.data) for name, body in bodies.items()}
    ours = {
        "seq", "run", "host", "hostname", "source", "ddsource", "service", "stream", "ddtags", "worker_id", "agent_id",
        "server.address", "tags",
    }  # fmt: skip

    def rest(fields: dict[str, Any], *more: str) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if name not in ours and name not in more}

    (dog,) = orjson.loads(texts["datadog"])
    (event,) = orjson.loads(texts["cloudwatch"])["logEvents"]
    watch = orjson.loads(event["message"])
    (item,) = orjson.loads(texts["sentry"].split(b"\n")[2])["items"]
    attributes = {name: found["value"] for name, found in item["attributes"].items()}
    assert attributes["sentry.severity_text"] == item["level"]
    (log,) = orjson.loads(texts["newrelic"])[0]["logs"]
    own = [name for name in attributes if name.startswith("sentry.")]
    return {
        "datadog": Arrived(
            dog["status"], dog["timestamp"], dog["message"], rest(dog, "status", "timestamp", "message")
        ),
        "cloudwatch": Arrived(
            watch["level"], event["timestamp"], watch["message"], rest(watch, "level", "timestamp", "message")
        ),
        "sentry": Arrived(item["level"], round(item["timestamp"] * 1000), item["body"], rest(attributes, *own)),
        "newrelic": Arrived(
            log["attributes"]["level"], log["timestamp"], log["message"], rest(log["attributes"], "level")
        ),
    }  # fmt: skip


def code(text: str) -> str:
    """As code in a cell of a table, with what cannot be seen spelled out."""
    shown = text.replace("\x1b", "␛").replace("\r", "␍").replace("\t", "␉").replace("\n", "␊").replace("\0", "␀")
    shown = shown.replace("\a", "␇").replace("\b", "␈").replace("|", "\\|")
    marks = "``" if "`" in shown else "`"
    pad = " " if "`" in shown else ""
    return f"{marks}{pad}{shown}{pad}{marks}"


def as_pairs(fields: dict[str, Any]) -> str:
    return ", ".join(code(f"{name}={orjson.dumps(value).decode()}") for name, value in sorted(fields.items())) or "none"


def apart(cells: dict[str, str]) -> str:
    """What the providers have, and who has something else than Datadog."""
    most = cells["datadog"]
    others: dict[str, list[str]] = {}
    for provider, cell in cells.items():
        if cell != most:
            others.setdefault(cell, []).append(PROVIDERS[provider])
    return "; ".join([most, *(f"{' and '.join(names)}: {cell}" for cell, names in others.items())])


def row(entry: dict[str, Any]) -> str:
    found = arrived(events_of(entry))
    by, dog = list(found.items()), found["datadog"]
    printed = "\n".join(line.decode() for line in lines_of(entry))
    moment = datetime.fromtimestamp(dog.time_ms / 1000, UTC)
    time = "the capture's" if dog.time_ms == CAPTURE_MS else moment.strftime("%H:%M:%S.") + f"{dog.time_ms % 1000:03}"
    assert {arrival.time_ms for arrival in found.values()} == {dog.time_ms}
    message = apart({at: "as printed" if arrival.message == printed else code(arrival.message) for at, arrival in by})
    level = apart({at: arrival.level for at, arrival in by})
    fields = apart({at: as_pairs(arrival.fields) for at, arrival in by})
    cells = (entry["format"], code(printed), message, level, time, fields)
    return f"| {' | '.join(cells)} |\n"


def table() -> str:
    head = "| format | printed | message | level | time | fields |\n| --- | --- | --- | --- | --- | --- |\n"
    return head + "".join(row(entry) for entry in entries() if entry.get("in_table", True))


def page() -> str:
    """The page as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + table() + "\n" + END + after


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
