"""The note of a run, as the writer's thread keeps it: it holds up nothing, wakes nobody, and may fail."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from shipper.supervisor.writer import MAX_WAITING_BYTES, Writer
from tests.helpers import wait_until
from tests.supervisor.test_writer import Control, Journal, Parts, finish
from tests.supervisor.wrapping import SLACK

if TYPE_CHECKING:
    import pytest


class Noter:
    """Due again so many seconds after each note; a note blocks while ``held``."""

    def __init__(self, seconds: float, *, held: bool = False, fault: bool = False) -> None:
        self.notes = 0
        self.ends = 0
        self.held = held
        self._seconds = seconds
        self._fault = fault
        self._due = 0.0

    def due(self) -> float:
        return self._due

    def note(self) -> None:
        self.notes += 1
        if self._fault:
            raise RuntimeError("a bug")
        wait_until(lambda: not self.held)
        self._due = time.monotonic() + self._seconds

    def end(self, end: dict[str, object]) -> None:
        assert end == {"exit_status": 0}
        self.ends += 1


def started(journal: Journal, noter: Noter) -> Writer:
    class Noting(Parts):
        def noter(self, journal: Journal) -> Any:
            return noter

    outfit: Any = Noting(journal)
    writer = Writer(lambda: outfit, lambda: None)
    writer.start()
    wait_until(lambda: writer.ready)
    return writer


def test_a_note_is_taken_when_due_with_and_without_something_to_append_and_wakes_nobody() -> None:
    journal, noter, control = Journal(), Noter(0.01), Control()
    writer = started(journal, noter)
    writer.control = control  # type: ignore[assignment]
    wait_until(lambda: noter.notes >= 5)
    assert control.wakes == []
    writer.put(1, 1, 1, b"x")
    wait_until(lambda: len(control.wakes) == 1)
    before = noter.notes
    wait_until(lambda: noter.notes >= before + 5)
    assert len(control.wakes) == 1
    finish(writer)
    assert noter.ends == 1
    assert journal.calls == [
        ("data", 1, b"x"), ("end_stream", 1), ("end_stream", 2), ("end", {"exit_status": 0}), ("close",)
    ]  # fmt: skip


def test_a_note_that_the_disk_does_not_take_holds_up_a_full_queue_no_longer_than_an_append() -> None:
    journal, noter = Journal(), Noter(3600.0, held=True)
    writer = started(journal, noter)
    wait_until(writer.stalled)
    begun = time.monotonic()
    size = 64 * 1024
    for _ in range(2 * MAX_WAITING_BYTES // size):
        writer.put(1, 1, 1, b"x" * (size - 1) + b"\n")
    assert time.monotonic() - begun < 0.25 + SLACK
    noter.held = False
    finish(writer)
    kept = sum(len(call[2]) for call in journal.calls if call[0] == "data")
    passed = sum(call[2] for call in journal.calls if call[0] == "skip")
    assert passed > 0
    assert kept + passed == 2 * MAX_WAITING_BYTES


def test_a_fault_in_noting_costs_the_notes_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    journal, noter = Journal(), Noter(0.0, fault=True)
    writer = started(journal, noter)
    writer.put(1, 1, 1, b"x")
    wait_until(lambda: ("data", 1, b"x") in journal.calls)
    finish(writer)
    assert noter.notes == 1
    assert capfd.readouterr().err == ""
