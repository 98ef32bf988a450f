"""A short story of faults comes out even; what tells stories and makes up the ledger does what it says."""

from __future__ import annotations

import dataclasses
import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest

from shipper.journal import runs
from shipper.sandbox.ledger import Ledger, StreamLedger
from shipper.sandbox.server import running_in_thread
from tests.chaos.ledgers import Got, Told, WatchingStore, disagreements, told_by_closing
from tests.chaos.play import Account, Play
from tests.chaos.story import FREEZE, WORKER, WRAPPER, Act, tell
from tests.e2e.wrapped import ALL, Wrapper
from tests.helpers import wait_until

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
    outcome = Play(SEED, 400.0, tmp_path, tmp_path / "journal", "16MiB", told.append, "4s").play(acts, 15.0)
    assert outcome.faults == [], told
    assert outcome.runs == 3
    assert outcome.looks > 0
    assert outcome.gone == 0
    for name, account in outcome.accounts.items():
        assert account.captured == account.came + account.announced + account.refused > 2000
        status = outcome.status[name]
        assert status.captured == status.delivered + status.dropped + status.filtered >= account.captured
        assert outcome.closing[name] == status or outcome.refused


@pytest.mark.timeout(120)
def test_a_fault_ends_when_the_next_one_at_the_same_place_begins(tmp_path: Path) -> None:
    acts = [Act(0.5, FREEZE, "", 9.0, {}), Act(1.0, "restart wrapper", "", 9.0, {}), Act(1.0, FREEZE, "", 0.3, {})]
    acts += [Act(1.0, "cut", "sentry", 0.2, {}), Act(1.0, "fault", "sentry", 0.2, {"status": 503})]
    outcome = Play(1, 400.0, tmp_path, tmp_path / "journal", "16MiB", lambda text: None, "4s").play(acts, 2.0)
    assert outcome.faults == []
    assert (outcome.runs, outcome.statuses) == (2, [0, 0])


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


@pytest.mark.parametrize(("seconds", "freeze"), [(15, 2.5), (600, 100), (1800, 300), (3600, 600), (7200, 600)])
def test_each_story_has_one_long_freeze_before_and_in_which_nothing_else_befalls_the_wrapper(
    seconds: float, freeze: float
) -> None:
    for seed in range(20):
        acts = tell(seed, seconds, ALL, disk=True)
        (frozen,) = [act for act in acts if act.what == FREEZE and act.seconds == pytest.approx(freeze)]
        begin, end = frozen.at - min(30.0, seconds / 60), frozen.at + frozen.seconds
        assert end < seconds
        others = [act for act in acts if not act.target and act is not frozen]
        assert not [act for act in others if act.at < end and act.at + act.seconds > begin]


GOT = Got(arrived=8, announced=3, both=1, empty=2)
TOLD = Told(captured=12, delivered=7, dropped=3, filtered=2)


@pytest.mark.parametrize("delivered", [7, 8])
def test_a_line_that_came_and_was_announced_as_lost_may_be_called_either(delivered: int) -> None:
    told = dataclasses.replace(TOLD, delivered=delivered, dropped=10 - delivered)
    assert disagreements("status", told, GOT, 12) == []


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"captured": 13, "dropped": 4}, "but 12 lines were captured"),
        ({"filtered": 1}, "does not add up: captured 12, delivered 7, dropped 3, filtered 1"),
        ({"delivered": 9, "dropped": 1}, "but only 8 lines came"),
        ({"delivered": 6, "dropped": 4}, "but 7 lines came that nobody announced as lost"),
        ({"filtered": 3, "dropped": 2}, "but only 2 were empty"),
        ({"dropped": 4, "filtered": 1}, "but only 3 lines were announced as lost"),
        ({"delivered": 2, "dropped": 0, "pending": 8}, ""),
        ({"delivered": 9, "dropped": 0, "pending": 1}, "pending 1, but only 8 lines came"),
    ],
)
def test_what_shipper_says_is_held_against_what_the_intake_got(changes: dict[str, int], wrong: str) -> None:
    found = disagreements("status", dataclasses.replace(TOLD, **changes), GOT, 12)
    assert bool(found) == bool(wrong)
    assert not wrong or any(wrong in text for text in found), found


@pytest.mark.parametrize(
    ("names", "dropped"),
    [
        ({"dropped": {"rejected": 1, "journal_full": 4}}, 5),
        ({"dropped.rejected": 1, "dropped.journal_full": 4}, 5),
        ({"dropped": {}}, 0),
        ({"dropped": "json: {}"}, 0),
    ],
)
def test_a_closing_event_is_read_under_each_provider_s_names(names: dict[str, Any], dropped: int) -> None:
    event = {"captured": 9, "delivered": 3, "filtered": 1, **names}
    assert told_by_closing(event) == Told(9, 3, dropped, 1)


@pytest.mark.parametrize(
    ("order", "names"),
    [({"status": 400}, ALL), ({"status": 413}, ALL), ({"reject": {"too_old": 1}}, ("cloudwatch",))],
)
def test_a_closing_event_that_the_intake_refuses_for_good_is_known(
    tmp_path: Path, order: dict[str, Any], names: tuple[str, ...]
) -> None:
    go = tmp_path / "go"
    script = f"echo one; echo; while ! [ -e {go} ]; do sleep 0.05; done"
    with running_in_thread() as sandbox:
        store = sandbox.store = WatchingStore(sandbox.intakes)
        with Wrapper(tmp_path / "journal", ["sh", "-c", script], sandbox.url, {}, ALL, outputs=tmp_path) as wrapper:
            run = os.path.basename(wrapper_run(wrapper)).partition("-")[2]
            for name in ALL:
                wait_until(lambda name=name: store.count[name, run] == 1, 30, name)  # type: ignore[misc]
            for name in names:
                sandbox.fault(name, **order, count=4)
            go.touch()
            assert wrapper.wait(30) == 0
    assert store.refused == {(name, run) for name in names}
    for name in ALL:
        assert store.closings[name, run] == ([] if name in names else [Told(2, 1, 0, 1)]), name


def wrapper_run(wrapper: Wrapper) -> str:
    wait_until(lambda: runs.list_runs(str(wrapper.directory)), what="the run")
    return wrapper.run_path()
