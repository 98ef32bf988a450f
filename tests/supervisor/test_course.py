"""What follows the agent's end, as decisions: no process, no clock."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.supervisor import course
from shipper.supervisor.course import Course, Output
from shipper.supervisor.processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GROUP = 100
TERM, INT, KILL, HUP, USR1 = signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP, signal.SIGUSR1


class Scene:
    """A course, and the processes it sees: ``orphans`` pid → group, ``holders``; what it sent; how the pumps stand."""

    def __init__(self) -> None:
        self.course = Course(GROUP)
        self.now = 1000.0
        self.orphans: dict[int, int] = {}
        self.holders: list[int] = []
        self.sent: list[tuple[float, int, int]] = []
        self.output = Output(ended=True, quiet=True, moves=0)
        self.timeout = 3600.0
        self.on_kill: Callable[[int, int], None] = lambda pid, signo: None

    def end(self, status: int) -> None:
        """``status`` as a shell shows it."""
        wait_status = status - 128 if status > 128 and status not in (143, 130) else status << 8
        self.course.agent_ended(wait_status, self._orphans(), self.now)
        self.step()

    def killed(self, signo: int) -> None:
        self.course.agent_ended(signo, self._orphans(), self.now)
        self.step()

    def step(self) -> None:
        for pid, signo in self.course.step(self.now, self.timeout, self._orphans, lambda: self.holders, self.output):
            self.sent.append((self.now - 1000.0, pid, signo))
            self.on_kill(pid, signo)

    def run(self, until: float) -> None:
        """Steps whenever the course is due, up to ``until`` seconds after the start, or the drain."""
        for _ in range(100_000):
            due = self.course.due
            if self.course.phase == course.DRAIN or due is None or due > 1000.0 + until:
                break
            self.now = max(self.now, due)
            self.step()
        else:
            raise AssertionError("the course is due again and again")

    def _orphans(self) -> Sequence[Process]:
        return [Process(pid, "S", 1, group) for pid, group in self.orphans.items()]


def test_an_agent_that_leaves_nothing_is_followed_by_the_drain_at_once() -> None:
    scene = Scene()
    scene.end(3)
    assert (scene.course.phase, scene.course.status, scene.course.end) == (course.DRAIN, 3, {"exit_status": 3})


@pytest.mark.parametrize("by_status", [True, False])
@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_orphans_are_told_once_what_ended_the_agent(signo: int, by_status: bool) -> None:
    scene = Scene()
    scene.orphans = {7: 7, 8: 8}
    assert scene.course.forwards(signo, scene.now)
    if by_status:
        scene.course.agent_ended((128 + signo) << 8, scene._orphans(), scene.now)
        scene.step()
    else:
        scene.killed(signo)
    assert scene.course.phase == course.ORPHANS
    assert scene.course.status == 128 + signo
    scene.run(10)
    scene.orphans[9] = 9  # comes to us later
    scene.run(20)
    assert [(pid, number) for _, pid, number in scene.sent] == [(7, signo), (8, signo), (9, signo)]
    assert scene.course.forwards(USR1, scene.now)  # further signals go to them
    scene.orphans.clear()
    scene.run(30)
    assert scene.course.phase == course.DRAIN
    assert scene.now < 1022


@pytest.mark.parametrize(
    ("status", "forwarded"),
    [(0, [TERM]), (1, [TERM, TERM]), (143, []), (1, []), (1, [INT, TERM]), (129, [HUP]), (138, [USR1]), (1, [USR1])],
)
def test_orphans_of_an_agent_that_ended_otherwise_are_not_told(status: int, forwarded: list[int]) -> None:
    scene = Scene()
    scene.orphans = {7: 7}
    for signo in forwarded:
        scene.course.forwards(signo, scene.now)
    scene.end(status)
    assert (scene.course.phase, scene.sent) == (course.DRAIN, [])


@pytest.mark.parametrize(
    ("status", "after", "told"), [(1, 4.0, True), (143, 400.0, True), (137, 0.0, True), (1, 6.0, False)]
)
def test_an_agent_that_fails_at_once_when_it_is_told_to_end_counts_as_ended_by_that(
    status: int, after: float, told: bool
) -> None:
    """pnpm's status is not always 143."""
    scene = Scene()
    scene.orphans = {7: 7}
    scene.course.forwards(TERM, scene.now)
    scene.now += after
    scene.course.agent_ended(status << 8, scene._orphans(), scene.now)
    scene.step()
    assert scene.course.status == status
    assert [(pid, number) for _, pid, number in scene.sent] == ([(7, TERM)] if told else [])


def test_orphans_have_their_time_then_term_then_kill() -> None:
    scene = Scene()
    scene.timeout = 60.0
    scene.orphans = {7: 7}
    scene.course.forwards(INT, scene.now)
    scene.killed(INT)
    scene.run(100)
    assert scene.sent[0] == (0.0, 7, INT)
    assert scene.sent[1] == (60.0, 7, TERM)
    assert scene.sent[2] == (65.0, 7, KILL)
    assert {signo for _, _, signo in scene.sent[2:]} == {KILL}
    assert scene.course.phase == course.DRAIN
    assert 1066 <= scene.now < 1067


def test_what_was_killed_may_leave_others_behind_that_are_killed_too() -> None:
    scene = Scene()
    scene.timeout = 1.0
    scene.orphans = {7: 7}

    def on_kill(pid: int, signo: int) -> None:
        if signo == KILL:
            del scene.orphans[pid]
            if pid == 7:
                scene.orphans[8] = 8

    scene.on_kill = on_kill
    scene.course.forwards(TERM, scene.now)
    scene.killed(TERM)
    scene.run(100)
    assert [(pid, signo) for _, pid, signo in scene.sent if signo == KILL] == [(7, KILL), (8, KILL)]
    assert scene.now < 1006.5


def test_orphans_in_our_group_have_ctrl_c_from_the_kernel() -> None:
    scene = Scene()
    scene.orphans = {7: GROUP, 8: 8}
    scene.course.shared(INT, scene.now)
    scene.killed(INT)
    scene.run(10)
    assert scene.course.phase == course.ORPHANS
    assert [(pid, signo) for _, pid, signo in scene.sent] == [(8, INT)]


def test_holders_of_a_pipe_have_two_seconds_then_term_then_kill() -> None:
    scene = Scene()
    scene.output = Output(ended=False, quiet=True, moves=0)
    scene.holders = [7]
    scene.end(0)
    scene.run(100)
    assert scene.sent == [(2.0, 7, TERM), (3.0, 7, KILL)]
    assert scene.course.phase == course.DRAIN
    assert 1003 < scene.now < 1003.5


def test_holders_that_let_go_end_the_wait() -> None:
    scene = Scene()
    scene.output = Output(ended=False, quiet=True, moves=0)
    scene.holders = [7]
    scene.end(0)
    scene.now += 0.7
    scene.output = Output(ended=True, quiet=True, moves=9)
    scene.step()
    assert (scene.course.phase, scene.sent) == (course.DRAIN, [])


def test_a_pipe_held_by_others_ends_the_wait_without_a_signal() -> None:
    scene = Scene()
    scene.output = Output(ended=False, quiet=True, moves=0)
    scene.end(0)
    scene.run(100)
    assert (scene.course.phase, scene.sent) == (course.DRAIN, [])
    assert 1002 <= scene.now < 1002.5


def test_others_who_write_on_now_and_then_are_not_waited_for() -> None:
    scene = Scene()
    scene.output = Output(ended=False, quiet=True, moves=0)
    scene.end(0)
    for moves in range(1, 1000):
        if scene.course.phase == course.DRAIN:
            break
        scene.output = Output(ended=False, quiet=True, moves=moves)
        scene.run(moves * 0.1)
    assert scene.course.phase == course.DRAIN
    assert scene.now <= 1003.2


def test_others_who_flood_are_read_no_longer_than_what_was_in_the_pipes() -> None:
    scene = Scene()
    scene.output = Output(ended=False, quiet=False, moves=0, read=1_000_000, capacity=131_072)
    scene.end(0)
    scene.run(2.0)
    for moves, read in enumerate((1_000_000, 1_131_072, 1_262_144)):
        scene.output = Output(ended=False, quiet=False, moves=moves, read=read, capacity=131_072)
        scene.step()
        assert scene.course.phase == course.SETTLE
    scene.output = Output(ended=False, quiet=False, moves=9, read=1_262_145, capacity=131_072)
    scene.step()
    assert scene.course.phase == course.DRAIN


def test_a_reader_that_takes_nothing_for_two_seconds_ends_passing_on() -> None:
    scene = Scene()
    scene.output = Output(ended=False, quiet=False, moves=5)
    scene.end(0)
    scene.run(2.01)
    assert scene.course.giving_up
    scene.output = Output(ended=True, quiet=True, moves=9)
    scene.run(100)
    assert scene.course.phase == course.DRAIN
    assert scene.now < 1002.2


def test_a_slow_reader_is_waited_for() -> None:
    scene = Scene()
    for moves in range(100):
        scene.output = Output(ended=False, quiet=False, moves=moves)
        if moves:
            scene.run(moves * 1.5)
        else:
            scene.end(0)
    assert scene.course.phase == course.SETTLE
    assert not scene.course.giving_up


@pytest.mark.parametrize("signo", [TERM, INT, signal.SIGQUIT, HUP])
def test_a_signal_shortens_the_wait_for_holders_and_readers(signo: int) -> None:
    scene = Scene()
    scene.output = Output(ended=False, quiet=False, moves=0)
    scene.holders = [7]
    scene.end(0)
    assert not scene.course.forwards(signo, scene.now)
    scene.course.hasten(signo, scene.now)
    scene.step()
    assert scene.sent == [(0.0, 7, TERM)]
    scene.holders = []
    scene.run(1.0)
    assert scene.course.phase == course.SETTLE
    scene.course.hasten(USR1, scene.now)
    assert not scene.course.giving_up
    scene.course.hasten(signo, scene.now)
    assert scene.course.giving_up


@given(
    st.data(),
    st.integers(0, 255),
    st.sets(st.sampled_from([TERM, INT, HUP, USR1])),
    st.dictionaries(st.integers(2, 9), st.integers(2, 9), max_size=4),
    st.floats(0, 100),
)
def test_whatever_happens_the_end_comes_in_time_and_each_is_told_once(
    data: st.DataObject, status: int, forwarded: set[int], orphans: dict[int, int], timeout: float
) -> None:
    scene = Scene()
    scene.timeout = timeout
    scene.orphans = dict(orphans)
    scene.holders = list(orphans)
    scene.output = Output(ended=False, quiet=False, moves=0)
    for signo in forwarded:
        scene.course.forwards(signo, scene.now)
    scene.course.agent_ended(status << 8, scene._orphans(), scene.now)
    first = scene.course.orphan_signal
    moves = 0
    for _ in range(100_000):
        if scene.course.phase == course.DRAIN:
            break
        assert scene.course.due is not None
        scene.now = max(scene.now, scene.course.due)
        if scene.now < 1010:  # later nobody moves
            moves += data.draw(st.integers(0, 1))
            scene.output = Output(data.draw(st.booleans()), data.draw(st.booleans()), moves)
            leaving = data.draw(st.booleans())
            if scene.orphans and leaving:
                scene.orphans.pop(data.draw(st.sampled_from(sorted(scene.orphans))))
        else:
            scene.output = Output(ended=False, quiet=False, moves=moves)
        scene.step()
    assert scene.course.phase == course.DRAIN
    # the time-out, TERM's 5 s, KILL's, a reader's 2 s, and what moved until then
    assert scene.now <= 1010 + max(timeout, 3.0) + 10.0
    assert scene.course.status == status
    told = [(pid, signo) for _, pid, signo in scene.sent if signo != KILL]
    if first in forwarded and first != TERM:
        told = [(pid, signo) for pid, signo in told if signo == first]
        assert len(told) == len(set(told))
    assert all(signo in (TERM, KILL, first) for _, _, signo in scene.sent)


# -- whether it was asked to -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status", "asked"),
    [
        ([], 0, False),
        ([TERM], 0, True),
        ([INT], 130, True),
        ([signal.SIGQUIT], 1, True),
        ([TERM], 137, True),
        ([USR1], 1, False),
        ([HUP], 129, True),
        ([HUP], 1, False),  # it had been told to read its settings again
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_an_end_says_whether_it_was_asked_for(sent: list[int], status: int, asked: bool, shared: bool) -> None:
    scene = Scene()
    for signo in sent:
        if shared:
            scene.course.shared(signo, scene.now)
        else:
            scene.course.forwards(signo, scene.now)
    scene.end(status)
    scene.course.forwards(TERM, scene.now)  # too late
    assert scene.course.end.get("asked", False) is asked
