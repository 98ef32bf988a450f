"""Runs whose wrapper died: who may have them, under which facts, and what becomes of them."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from shipper.config.registry import SinkEntry
from shipper.delivery.adoption import Adopter
from shipper.delivery.commits import Committer
from shipper.delivery.sender import Sender
from shipper.journal import runs
from shipper.journal.cursor import CursorFile
from shipper.sinks.base import RetryableError
from tests.delivery.delivery_helpers import becomes, begin_run, end_run, print_lines, raise_error
from tests.delivery.test_sender import Fake

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.journal.writer import JournalWriter


class Bench:
    """An adopter with one sender for the sink called ``name``."""

    def __init__(self, directory: Path, name: str = "datadog", committer: Committer | None = None) -> None:
        self.sink = Fake()
        self.said: list[str] = []
        self.committer = committer or Committer(raise_error)
        entry = SinkEntry(name, (), "tests:Fake", name.title())
        self.sender = Sender(entry, lambda: self.sink, 0.0, self.said.append)
        self.adopter = Adopter(str(directory), "", [self.sender], self.committer, self.said.append)
        self.sender.more = self.adopter.advance
        self.sender.held_up = partial(self.adopter.held_up, self.sender)

    async def drain(self) -> None:
        self.sender.drain(time.monotonic() + 20)
        await self.sender.run()
        assert self.committer.flush(5)


def dead(directory: Path, number: int, lines: int) -> JournalWriter:
    run = begin_run(str(directory), f"{number:016x}", n=number)
    print_lines(run, 1, lines)
    end_run(run)
    return run


async def test_a_dead_run_is_delivered_once_and_let_go(tmp_path: Path) -> None:
    run = dead(tmp_path, 1, 250)
    bench = Bench(tmp_path)
    bench.adopter.look()
    assert runs.is_live(run.path)  # ours now
    await bench.drain()
    assert len(bench.sink.accepted) == 250
    bench.adopter.look()
    assert not runs.is_live(run.path)
    again = Bench(tmp_path)
    again.adopter.look()
    await again.drain()
    assert again.sink.accepted == []


async def test_a_live_run_is_left_alone(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path))
    print_lines(run, 1, 10)
    bench = Bench(tmp_path)
    bench.adopter.look()
    await bench.drain()
    assert bench.sink.accepted == []
    os.close(run.lock_fd)


async def test_a_sink_gets_only_runs_that_were_also_for_it(tmp_path: Path) -> None:
    run = dead(tmp_path, 1, 10)  # captured with Datadog's secret set
    stranger = Bench(tmp_path, "sentry")
    stranger.adopter.look()
    await stranger.drain()
    assert stranger.sink.accepted == []
    assert not runs.is_live(run.path)
    CursorFile(run.path, "sentry").commit({"streams": {"1": [0, 0, 1], "2": [0, 0, 1]}})
    known = Bench(tmp_path, "sentry")
    known.adopter.look()
    await known.drain()
    assert len(known.sink.accepted) == 10


async def test_a_hundred_dead_runs_of_a_restart_loop_are_all_delivered(tmp_path: Path) -> None:
    for number in range(1, 101):
        dead(tmp_path, number, 3)
    bench = Bench(tmp_path)
    bench.adopter.look()
    assert len(bench.adopter.sources) == 8  # each holds descriptors
    await bench.drain()
    assert len(bench.sink.accepted) == 300
    bench.adopter.look()
    assert len(runs.list_runs(str(tmp_path))) <= runs.HISTORY_RUNS + 1


class SlowDisk(Committer):
    """On which every second commit takes longer than one waits who lets a run go."""

    looks = 0

    def flush(self, timeout: float) -> bool:
        self.looks += 1
        return self.looks % 2 == 0 and super().flush(timeout)


async def test_a_slow_disk_ends_no_drain_before_its_time(tmp_path: Path) -> None:
    for number in range(1, 31):
        dead(tmp_path, number, 3)
    bench = Bench(tmp_path, committer=SlowDisk(raise_error))
    bench.adopter.look()
    bench.sender.drain(time.monotonic() + 20)
    await bench.sender.run()
    assert len(bench.sink.accepted) == 90
    assert not bench.adopter.waits(bench.sender)


@pytest.mark.parametrize("draining", [False, True])
async def test_a_sink_whose_provider_is_away_keeps_no_run_from_the_others(tmp_path: Path, draining: bool) -> None:
    for number in range(1, 31):
        run = begin_run(str(tmp_path), f"{number:016x}", n=number, sinks=("well", "away"))
        print_lines(run, 1, 3)
        end_run(run)

    def fail(messages: list[str]) -> None:
        raise RetryableError("it is away", 3600.0)

    sinks = {"well": Fake(), "away": Fake(fail)}
    senders = [
        Sender(SinkEntry(name, (), "tests:Fake", name), lambda sink=sink: sink, 0.0, lambda text: None)  # type: ignore[misc]
        for name, sink in sinks.items()
    ]
    committer = Committer(raise_error)
    adopter = Adopter(str(tmp_path), "", senders, committer, lambda text: None)
    for sender in senders:
        sender.more = adopter.advance
    adopter.look()
    tasks = [asyncio.create_task(sender.run()) for sender in senders]
    if draining:
        for sender in senders:
            sender.drain(time.monotonic() + 60)
    await becomes(lambda: len(sinks["well"].accepted) == 90)
    assert len([sender for sender, _ in adopter.sources if sender is senders[1]]) == 8
    assert adopter.waits(senders[1])
    assert not adopter.waits(senders[0])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert committer.flush(5)
    assert not any(runs.is_delivered(run, runs.read_facts(run)) for run in runs.list_runs(str(tmp_path)))


@pytest.mark.parametrize("broken", [1, 2])
async def test_a_run_that_cannot_be_read_keeps_those_after_it_back_for_one_look_at_most(
    tmp_path: Path, broken: int
) -> None:
    """One alone is passed over; after two in a row it is the disk, and the next look begins with the others."""
    for number in range(1, broken + 1):
        run = dead(tmp_path, number, 10)
        os.unlink(os.path.join(run.path, runs.LOCK))
        os.symlink("elsewhere", os.path.join(run.path, runs.LOCK))
    dead(tmp_path, 9, 250)
    bench = Bench(tmp_path)
    for _ in range(broken):
        assert not bench.adopter.sources
        bench.adopter.look()
    await bench.drain()
    assert len(bench.sink.accepted) == 250
    (said,) = bench.said
    assert "cannot be read now" in said


async def test_two_adopters_do_not_take_the_same_run(tmp_path: Path) -> None:
    dead(tmp_path, 1, 50)
    first, second = Bench(tmp_path), Bench(tmp_path)
    first.adopter.look()
    second.adopter.look()
    await first.drain()
    await second.drain()
    assert (len(first.sink.accepted), second.sink.accepted) == (50, [])


async def test_a_run_that_dies_later_is_found_by_a_later_look(tmp_path: Path) -> None:
    run = begin_run(str(tmp_path), "00000000000000aa")
    print_lines(run, 1, 5)
    bench = Bench(tmp_path)
    bench.adopter.look()
    task = asyncio.create_task(bench.sender.run())
    os.close(run.lock_fd)
    bench.adopter.look()
    await becomes(lambda: len(bench.sink.accepted) == 5)
    bench.sender.drain(time.monotonic() + 5)
    await task


async def test_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "18eb1f7e69be2a24-cb008f9b56bed356").mkdir()  # nothing in it
    dead(tmp_path, 1, 5)
    bench = Bench(tmp_path)
    bench.adopter.look()
    await bench.drain()
    assert len(bench.sink.accepted) == 5
    assert (tmp_path / "notes.txt").exists()
