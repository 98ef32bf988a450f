"""The worker's putting together: what one sink cannot do is no other's trouble."""

from __future__ import annotations

import pytest

from shipper.config.registry import REGISTRY, SinkEntry
from shipper.delivery.worker import Arguments, Worker

WAITING = "the lines wait in the journal until that is mended"


def worker(restarts: int = 0) -> tuple[Worker, list[str]]:
    arguments = ("--run", "/nowhere/run", "--directory", "/nowhere", "--control-fd", "0", "--lock-fd", "0")
    made = Worker(Arguments([*arguments, "--restarts", str(restarts)]), {"DATADOG_TOKEN": "pub" + "0" * 32})
    said: list[str] = []
    made._say = said.append  # type: ignore[assignment]
    return made, said


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        ("shipper.sinks.no_such_sink:Sink", "a library of its own is missing: shipper.sinks.no_such_sink"),
        ("shipper.sinks.datadog:NoSuchClass", "AttributeError"),
    ],
)
def test_a_sink_that_cannot_be_loaded_is_said_once_and_the_others_go_on(factory: str, why: str) -> None:
    made, said = worker()
    for entry in (SinkEntry("broken", ("BROKEN",), factory, "Broken"), REGISTRY[0]):
        made._add_sender(entry)
    assert [sender.name for sender in made._senders] == ["datadog"]
    assert said == [f"Broken cannot be used here ({why}): nothing is sent to Broken; {WAITING}"]
    again, said = worker(restarts=1)
    again._add_sender(SinkEntry("broken", ("BROKEN",), factory, "Broken"))
    assert said == []
