"""A short story of faults comes out even; what tells stories and makes up the ledger does what it says."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from shipper.sandbox.ledger import Ledger, StreamLedger
from tests.chaos.play import Account, Play
from tests.chaos.story import WORKER, WRAPPER, tell
from tests.e2e.wrapped import ALL

if TYPE_CHECKING:
    from pathlib import Path

SEED = 127  # its 15 s hold each of HARM
HARM = {
    "freeze container",
    "kill worker",
    "kill wrapper",
    "restart wrapper",
    "hang",
    "drip",
    "reset",
    "refuse",
    "fault",
}


@pytest.mark.timeout(180)
def test_every_line_of_a_short_story_came_or_was_announced_at_every_sink(tmp_path: Path) -> None:
    told: list[str] = []
    acts = tell(SEED, 15.0, ALL)
    assert {act.what for act in acts} >= HARM
    outcome = Play(SEED, 400.0, tmp_path, tmp_path / "journal", "16MiB", told.append).play(acts, 15.0)
    assert outcome.faults == [], told
    assert outcome.runs == 3
    assert outcome.looks > 0
    assert outcome.gone == 0
    for name, account in outcome.accounts.items():
        assert account.captured == account.came + account.announced > 2000
        status = outcome.status[name]
        assert status.captured == status.delivered + status.dropped + status.filtered >= account.captured
        assert outcome.closing[name] == status or outcome.refused


def test_a_seed_tells_the_same_story_and_another_one_another() -> None:
    assert tell(5, 600, ALL, disk=True) == tell(5, 600, ALL, disk=True) != tell(6, 600, ALL, disk=True)


def test_a_long_story_has_every_kind_of_fault_and_each_is_over_before_its_end() -> None:
    acts = tell(1, 3600, ALL, disk=True)
    kinds = {act.what for act in acts}
    assert kinds == {"fault", "refuse", "hang", "drip", "reset", "cut", "all away", "all cut", "fill disk"} | {
        *WORKER, *WRAPPER
    }  # fmt: skip
    assert {act.order["status"] for act in acts if "status" in act.order} == {400, 403, 413, 429, 500, 503}
    assert max(act.at + act.seconds for act in acts) < 3600
    for target in (*ALL, ""):
        ends = [(act.at, act.at + act.seconds) for act in acts if act.target == target]
        assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(ends))


def test_what_neither_came_nor_was_announced_is_unexplained() -> None:
    one = StreamLedger("run", "stdout")
    one.add(1, 11)
    one.add(8, 13)  # three of them again
    one.add(21, 31)
    one.announced.add(13, 16)
    account = Account()
    account.add(40, one)
    account.add(5, None)
    assert account == Account(captured=45, came=22, announced=3, unexplained=20, repeats=3)


def test_an_empty_line_counts_as_come_when_the_line_after_it_says_so() -> None:
    ledger = Ledger()
    ledger.take([{"run": "r", "stream": "stdout", "seq": 3, "skipped": 2}], {}, 0)
    account = Account()
    account.add(4, ledger.streams()[0])
    assert account == Account(captured=4, came=3, unexplained=1)
