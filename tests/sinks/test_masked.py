"""No secret is in any sink's body, whatever it is and however it was printed."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipper.config.needles import needles
from shipper.config.registry import REGISTRY
from shipper.journal.facts import Facts
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.masking import Masker
from shipper.lines.plain import plain as as_plain
from tests.bodies import plain
from tests.helpers import variables
from tests.leaks import forms, texts_in

if TYPE_CHECKING:
    from shipper.sinks.base import Sink

NOW_MS = 1_795_492_800_000
FACTS = Facts("0123456789abcdef", "worker-1", "agent-1", "service", (), (), 262_144, 0, "python")
"""Nothing here is secret."""

values = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=14, max_size=40).map(
    "aB3-".__add__
)
printed = st.sampled_from(
    ["{}", "text {} text", "name={}&x", '{{"message":"{}"}}', '{{"message":"a","b":[{{"c":"{}"}}]}}']
)


def sinks() -> list[Sink]:
    found = []
    for entry in REGISTRY:
        module, _, name = entry.factory.partition(":")
        environ = variables("http://127.0.0.1:8080", [entry.name])
        for form in ("json", "raw") if entry.name == "cloudwatch" else ("",):
            sink = getattr(importlib.import_module(module), name)
            found.append(sink.from_env({**environ, "SHIPPER_CLOUDWATCH_FORMAT": form}))
    return found


@pytest.fixture(scope="module")
def all_sinks() -> list[Sink]:
    return sinks()


class Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(values, min_size=1, max_size=3), st.data())
def test_no_secret_is_in_any_body(all_sinks: list[Sink], secrets: list[str], data: st.DataObject) -> None:
    masker = Masker(needles({f"A{n}_KEY": value for n, value in enumerate(secrets)}))
    all_forms = [form for value in secrets for form in forms(value)]
    shapes = data.draw(st.lists(printed, min_size=1, max_size=4))
    lines = [shape.format(form).encode() for form in all_forms for shape in shapes]
    lines += [json.dumps({"message": value, value: {value: [value]}}).encode() for value in secrets]
    batch = Batch(1, lines, 1, [(0, NOW_MS * 1_000_000)], {})
    some: Any = lambda _: Nothing()  # noqa: E731
    for events in (Decoder(keep_lines=True, masker=masker).decode(batch), as_plain(batch, some, None, masker)):
        assert events.count == len(lines)
        for sink in all_sinks:
            for first in range(0, events.count, sink.limits.max_events):
                last = min(events.count, first + sink.limits.max_events)
                body = texts_in(plain(sink.encoder(FACTS)([(events, first, last)], NOW_MS).data))
                assert [needle for needle in (*secrets, *all_forms) if needle in body] == []
