"""The worker's putting together: what one sink cannot do is no other's trouble."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from shipper.config.budget import Budget
from shipper.config.registry import REGISTRY, SinkEntry
from shipper.delivery.adoption import Adopter
from shipper.delivery.commits import Committer
from shipper.delivery.feed import Feed
from shipper.delivery.health import LEFT_OUT
from shipper.delivery.worker import Arguments, Worker, note_left_out
from shipper.journal.cursor import CursorFile
from tests.delivery.delivery_helpers import begin_run, print_lines, raise_error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WAITING = "the lines wait in the journal until that is mended"


DATADOG = {"DATADOG_TOKEN": "pub" + "0" * 32}
THREE = {**DATADOG, "SENTRY_DSN": "https://" + "0" * 32 + "@127.0.0.1/1", "NEW_RELIC_LICENSE_KEY": "0" * 36 + "NRAL"}


def worker(
    restarts: int = 0, run: str = "/nowhere/run", environ: Mapping[str, str] = DATADOG
) -> tuple[Worker, list[str]]:
    arguments = ("--run", run, "--directory", os.path.dirname(run), "--control-fd", "0", "--lock-fd", "0")
    made = Worker(Arguments([*arguments, "--restarts", str(restarts)]), environ)
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


def test_a_sink_that_memory_no_longer_holds_is_named_when_that_begins_and_not_again(tmp_path: Path) -> None:
    """Also at a restart for another reason: the agent may have grown meanwhile."""
    run = begin_run(str(tmp_path))
    for name, state in (("sentry", "well"), ("newrelic", LEFT_OUT)):
        cursor = CursorFile(run.path, name)
        cursor.commit({"streams": {"1": [1, 0, 1], "2": [1, 0, 1]}, "health": {"state": state}})
        cursor.close()
    heard = []
    for restarts in (3, 4):
        made, said = worker(restarts, run.path, THREE)
        made._limit = 64 << 20
        made._budget = Budget(["datadog"], ["newrelic", "sentry"])
        made._tell_left_out()
        for name in made._budget.left_out:
            note_left_out(run.path, name)
        heard.append(said)
    assert [len(said) for said in heard] == [1, 0]
    assert heard[0][0].startswith("Sentry is left out, for the container's memory limit of 64 MiB does not hold all")


@pytest.mark.parametrize("following", [1, 4, 11])
@pytest.mark.parametrize("earlier", [False, True])
def test_what_a_sink_without_memory_did_not_get_is_told_at_the_end(
    tmp_path: Path, following: int, earlier: bool
) -> None:
    if earlier:
        os.close(begin_run(str(tmp_path), "f" * 16, n=-1, sinks=("sentry",)).lock_fd)
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 10)
    if following > 1:
        cursor = CursorFile(run.path, "sentry")
        cursor.commit({"streams": {"1": [1, 0, following], "2": [1, 0, 1]}})
        cursor.close()
    made, said = worker(0, run.path, THREE)
    made._settings.sinks = ("datadog", "sentry")
    made._budget = Budget(["datadog"], ["sentry"])
    made._add_sender(REGISTRY[0])
    made._feed = Feed(run.path)
    made._tell_what_is_left([], Adopter(str(tmp_path), run.path, made._senders, Committer(raise_error), said.append))
    lines = 11 - following
    if not lines and not earlier:
        assert said == []
        return
    count = f"{'at least ' if earlier else ''}{lines} lines"
    (text,) = said
    assert text.startswith(f"Sentry did not get {count} before the end (there was no memory for it): ")
