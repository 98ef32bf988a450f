"""Between the pumps and the journal: nothing is lost that has room, everything is counted that has none."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from shipper.config import load
from shipper.journal.cursor import CursorFile
from shipper.journal.notes import Noter, read_note
from shipper.journal.writer import JournalWriter
from shipper.supervisor.writer import ITEM_BYTES, MAX_WAITING_BYTES, OPEN_AGAIN_SECONDS, Writer
from tests.helpers import wait_until
from tests.journal.journal_model import MIB, facts
from tests.supervisor.wrapping import AGENTS, PYTHON, SIGNALS, SLACK, Kept, ready_pid, run, wrap

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.config import Settings

FLOOD = (PYTHON, "-I", str(AGENTS / "flood.py"))


def test_what_the_agent_prints_is_kept_in_order(tmp_path: Path) -> None:
    status, out, _ = run(tmp_path, [*FLOOD, "50000", "100"])
    assert status == 0
    kept = Kept(tmp_path)
    assert kept.lines[1] == out.splitlines()
    assert len(kept.lines[1]) == 50000
    assert kept.gaps == []


def test_a_slow_journal_holds_the_agent_back_and_loses_nothing(tmp_path: Path) -> None:
    """Each call takes 20 ms for 1 MiB, so the queue is full most of the time."""
    lines = 20_000
    status, _, _ = run(tmp_path, [*FLOOD, str(lines), "1000"], {"slow": 0.02})
    assert status == 0
    kept = Kept(tmp_path)
    assert len(kept.lines[1]) == lines
    assert kept.gaps == []


def test_a_journal_that_does_not_move_holds_the_agent_back_for_a_quarter_of_a_second(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # 20 MB: more than the queue takes
    process = wrap(tmp_path, [*FLOOD, "20000", "1000"], {"blocks": {"append": str(fifo)}})
    assert process.stdout is not None
    passed = b""
    while passed.count(b"\n") < 20_000:
        passed += os.read(process.stdout.fileno(), 1 << 20)
    with fifo.open("w"):  # the disk moves again
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    longest = max(float(line) for line in err.splitlines() if not line.startswith(b"shipper:"))
    assert longest < 0.4 + SLACK
    kept = Kept(tmp_path)
    (gap,) = [gap for gap in kept.gaps if gap.stream == 1]  # stderr's line passes by, too
    assert gap.reason == "journal_stalled"
    assert len(kept.lines[1]) + gap.last_seq - gap.first_seq + 1 == 20_000
    assert kept.lines[1] == passed.splitlines()[: gap.first_seq - 1] + passed.splitlines()[gap.last_seq :]
    assert len(kept.lines[1]) > 7000  # what the queue took


def test_a_journal_that_never_moves_delays_the_end_by_the_drains_time_and_is_said(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    begun = time.monotonic()
    status, out, said = run(
        tmp_path, ["sh", "-c", "echo hello; exit 4"], {"blocks": {"append": str(fifo)}},
        env={"SHIPPER_DRAIN_TIMEOUT": "500ms"},
    )  # fmt: skip
    assert (status, out) == (4, b"hello\n")
    assert 1.4 < time.monotonic() - begun < 2.5 + SLACK
    assert "the journal's disk does not move" in said


def test_a_term_in_a_drain_that_hangs_ends_it_within_two_seconds(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = wrap(tmp_path, SIGNALS, {"blocks": {"append": str(fifo)}}, env={"SHIPPER_DRAIN_TIMEOUT": "1h"})
    agent = ready_pid(process)
    os.kill(agent, signal.SIGRTMAX)
    wait_until(lambda: not os.path.exists(f"/proc/{agent}"), what="the agent's end")
    assert process.stdout is not None
    assert process.stdout.read(3) == b"64\n"
    begun = time.monotonic()
    while process.poll() is None:  # one that comes before the drain counts only there
        process.terminate()
        time.sleep(0.05)
        assert time.monotonic() - begun < 2.5 + SLACK
    assert process.returncode == 7


class Journal:
    """A journal's writer that notes what is called, and blocks while ``held``."""

    directory = "/journal"
    error: OSError | None = None

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.held = False

    def append(self, chunks: Any) -> None:
        wait_until(lambda: not self.held)
        self.calls += [("data", stream, data) for stream, _, _, data in chunks]

    def skip(self, stream: int, summary: Any, wall_ns: int, mono_ns: int, reason: str) -> None:
        self.calls.append(("skip", stream, summary.bytes, summary.newlines, wall_ns, mono_ns))

    def end_stream(self, stream: int) -> None:
        self.calls.append(("end_stream", stream))

    def failure(self) -> str | None:
        return None

    def end(self, info: dict[str, object]) -> None:
        self.calls.append(("end", info))

    def close(self) -> None:
        self.calls.append(("close",))


class Parts:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def load(self) -> Settings:
        return load({})

    def open_journal(self, settings: Settings) -> Journal:
        return self.journal

    def noter(self, journal: Journal) -> None:
        return None


class Refusing(Parts):
    """Its journal cannot be opened while it ``refuses``."""

    refuses = True
    attempts = 0

    def open_journal(self, settings: Settings) -> Journal:
        self.attempts += 1
        if self.refuses:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/journal")
        return self.journal


class Control:
    def __init__(self) -> None:
        self.wakes: list[float] = []

    def wake(self) -> None:
        self.wakes.append(time.monotonic())


def started(journal: Journal) -> Writer:
    outfit: Any = Parts(journal)
    writer = Writer(lambda: outfit, lambda: None)
    writer.start()
    wait_until(lambda: writer.ready)
    return writer


def finish(writer: Writer) -> None:
    writer.finish({"exit_status": 0})
    wait_until(lambda: writer.done)


def test_the_end_closes_both_streams_then_the_run() -> None:
    journal = Journal()
    writer = started(journal)
    writer.put(1, 10, 20, b"a\n")
    writer.end_stream(2)
    writer.end_stream(2)
    finish(writer)
    writer.put(1, 11, 21, b"late\n")
    writer.end_stream(1)
    ends = [("end_stream", 2), ("end_stream", 1), ("end", {"exit_status": 0}), ("close",)]
    assert journal.calls == [("data", 1, b"a\n"), *ends]


def test_what_passes_by_is_counted_in_its_place_a_stream() -> None:
    journal = Journal()
    writer = started(journal)
    journal.held = True
    size = 64 * 1024
    fits = MAX_WAITING_BYTES // (size + ITEM_BYTES)
    for _ in range(fits):
        writer.put(1, 1, 1, b"x" * (size - 1) + b"\n")
    wait_until(writer.stalled)
    begun = time.monotonic()
    writer.put(1, 2, 3, b"a\nb\n" + b"c" * size)
    writer.put(2, 4, 5, b"\n" * size)
    writer.put(1, 6, 7, b"d\n" * size)
    assert time.monotonic() - begun < 0.1 + SLACK  # nothing waits any more
    journal.held = False
    wait_until(lambda: len(journal.calls) == fits)
    writer.put(1, 8, 9, b"after\n")
    finish(writer)
    assert journal.calls[fits:] == [
        ("skip", 1, 4 + size + 2 * size, 2 + size, 2, 3),
        ("data", 1, b"after\n"),
        ("end_stream", 1),
        ("skip", 2, size, size, 4, 5),
        ("end_stream", 2),
        ("end", {"exit_status": 0}),
        ("close",),
    ]


def test_single_bytes_fill_the_queue_by_what_they_take_in_memory() -> None:
    journal = Journal()
    writer = started(journal)
    journal.held = True
    for _ in range(MAX_WAITING_BYTES // ITEM_BYTES + 100):
        writer.put(1, 1, 1, b"x")
    journal.held = False
    finish(writer)
    kept = sum(call[0] == "data" for call in journal.calls)
    missed = sum(call[2] for call in journal.calls if call[0] == "skip")
    assert kept + missed == MAX_WAITING_BYTES // ITEM_BYTES + 100
    assert kept == MAX_WAITING_BYTES // (ITEM_BYTES + 1)
    assert len([call for call in journal.calls if call[0] == "skip"]) == 1


def test_a_line_after_silence_wakes_at_once_and_many_wake_once_in_50_ms_the_last_included() -> None:
    journal = Journal()
    writer = started(journal)
    control: Any = Control()
    writer.control = control
    begun = time.monotonic()
    writer.put(1, 1, 1, b"first")
    wait_until(lambda: control.wakes)
    assert control.wakes[0] - begun < 0.04 + SLACK
    last = begun
    while last - begun < 0.3:
        writer.put(1, 1, 1, b"x")
        time.sleep(0.001)
        last = time.monotonic()
    writer.put(1, 1, 1, b"last")
    wait_until(lambda: control.wakes[-1] >= last)
    time.sleep(0.11)  # nothing follows
    finish(writer)
    gaps = [later - earlier for earlier, later in zip(control.wakes, control.wakes[1:], strict=False)]
    assert min(gaps) > 0.045
    assert len(control.wakes) <= 9


def test_a_journal_that_cannot_be_opened_is_tried_again_and_what_passed_before_is_told(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shipper.supervisor.writer.OPEN_AGAIN_SECONDS", 0.02)
    journal = Journal()
    outfit: Any = Refusing(journal)
    writer = Writer(lambda: outfit, lambda: None)
    writer.start()
    wait_until(lambda: outfit.attempts >= 2)
    for number in range(3):
        writer.put(1, number, 10 + number, b"a\nb")
    writer.put(2, 5, 6, b"c\n")
    writer.end_stream(2)
    wait_until(lambda: not writer._queue.qsize())
    assert not writer.ready
    outfit.refuses = False
    wait_until(lambda: writer.ready)
    writer.put(1, 7, 8, b"kept\n")
    finish(writer)
    assert sorted(journal.calls[:2]) == [("skip", 1, 9, 3, 0, 10), ("skip", 2, 2, 1, 5, 6)]
    assert journal.calls[2:] == [
        ("end_stream", 2),
        ("data", 1, b"kept\n"),
        ("end_stream", 1),
        ("end", {"exit_status": 0}),
        ("close",),
    ]
    refused, opened = capfd.readouterr().err.splitlines()
    assert refused.startswith("shipper: no journal can be kept in /journal (Read-only file system)")
    assert opened == "shipper: the journal can be kept now, in /journal: the lines before are lost, which is counted."


def test_at_the_end_a_journal_is_tried_once_more_so_that_the_losses_are_told() -> None:
    outfit: Any = Refusing(Journal())
    writer = Writer(lambda: outfit, lambda: None)
    writer.start()
    wait_until(lambda: outfit.attempts)
    writer.put(1, 1, 2, b"a\n")
    outfit.refuses = False
    begun = time.monotonic()
    finish(writer)
    assert time.monotonic() - begun < OPEN_AGAIN_SECONDS + SLACK
    ends = [("end_stream", 1), ("end_stream", 2), ("end", {"exit_status": 0}), ("close",)]
    assert outfit.journal.calls == [("skip", 1, 2, 1, 1, 2), *ends]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device")])
def test_a_failing_disk_is_said_once_and_its_return_too(capfd: pytest.CaptureFixture[str], error: OSError) -> None:
    journal = Journal()
    writer = started(journal)

    def put(text: bytes) -> None:
        writer.put(1, 1, 1, text)
        wait_until(lambda: ("data", 1, text) in journal.calls)

    for round_ in range(3):
        journal.error = error
        put(b"%d bad" % round_)
        put(b"%d still bad" % round_)
        journal.error = None
        put(b"%d good" % round_)
    finish(writer)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2  # the next ones come within a minute
    assert said[0].startswith("shipper: the journal in /journal cannot be written (No space left on device)")
    assert said[1] == "shipper: the journal can be written again."


class Full(Parts):
    """SHIPPER_WHEN_FULL=block, and a sink that has begun with the run and takes nothing. Its disk can be ``frozen``."""

    def __init__(self, directory: Path) -> None:
        self.kept = JournalWriter.create([str(directory)], facts(), MIB, evict=False)
        self.frozen = self.blocked = False
        self._look, self.kept.would_lose = self.kept.would_lose, self._would_lose  # type: ignore[method-assign]
        CursorFile(self.kept.path, "datadog").close()

    def load(self) -> Settings:
        return load({"SHIPPER_WHEN_FULL": "block"})

    def open_journal(self, settings: Settings) -> Any:
        return self.kept

    def _would_lose(self) -> bool:
        if self.frozen:
            self.blocked = True
            wait_until(lambda: not self.frozen, 30)
            self.blocked = False
        return self._look()


def put_until_held(writer: Writer) -> tuple[list[int], threading.Thread]:
    """How many lines were put, and who goes on putting them until the queue has taken 10 MB more."""
    lines, size = [0], 64 * 1024

    def put() -> None:
        while lines[0] * size < MAX_WAITING_BYTES + 12 * MIB:
            writer.put(1, 1, 1, b"x" * (size - 1) + b"\n")
            lines[0] += 1

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    wait_until(lambda: writer._held and not writer._has_room(size), 20)
    return lines, thread


def test_the_note_is_kept_while_an_agent_is_held_back(tmp_path: Path) -> None:
    """Else `shipper status` would show the memory of an hour ago."""

    class Noting(Full):
        def noter(self, journal: Any) -> Any:
            return Noter(journal.path, facts())

    outfit: Any = Noting(tmp_path)
    writer = Writer(lambda: outfit, lambda: None)
    writer.start()
    _, thread = put_until_held(writer)
    note = read_note(outfit.kept.path)
    assert note is not None
    wait_until(lambda: read_note(outfit.kept.path).at_ns > note.at_ns, 20, "another note")  # type: ignore[union-attr]
    assert writer._held
    writer.let_go()
    thread.join(20)
    finish(writer)


@pytest.mark.parametrize("let_go", [Writer.let_go, lambda writer: setattr(writer, "nobody_delivers", True)])
def test_an_agent_that_is_held_back_goes_on_when_it_ends_or_nobody_delivers(tmp_path: Path, let_go: Any) -> None:
    outfit: Any = Full(tmp_path)
    writer = Writer(lambda: outfit, lambda: None)
    writer.start()
    _, thread = put_until_held(writer)
    assert not writer.stalled()
    let_go(writer)
    thread.join(20)
    assert not thread.is_alive()
    finish(writer)


def test_a_disk_that_freezes_while_an_agent_is_held_back_holds_up_nobody_at_the_end(tmp_path: Path) -> None:
    outfit: Any = Full(tmp_path)
    writer = Writer(lambda: outfit, lambda: None)
    writer.start()
    lines, thread = put_until_held(writer)
    outfit.frozen = True
    wait_until(lambda: outfit.blocked)
    writer.let_go()
    thread.join(20)  # what has no room passes by, and is counted
    assert not thread.is_alive()
    writer.finish({"exit_status": 0})
    outfit.frozen = False
    wait_until(lambda: writer.done)
    assert outfit.kept.kept()[1].at == lines[0] * 64 * 1024


def test_a_fault_in_the_main_thread_holds_no_agent_back(tmp_path: Path) -> None:
    parts = {"sinks": ["datadog"], "worker": ["sleep", "60"], "raises": ["take"]}
    block = {"SHIPPER_WHEN_FULL": "block", "SHIPPER_JOURNAL_MAX": "1MiB"}
    status, out, said = run(tmp_path, [*FLOOD, "20000", "1000"], parts, env=block)
    assert (status, out.count(b"\n")) == (0, 20_000)
    assert "a fault (RuntimeError: a bug): the agent runs on" in said
    assert "holds the agent's output back" not in said
