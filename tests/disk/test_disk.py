"""Whatever the journal's disk does: the agent goes on as it would bare, and every line arrives or is announced."""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from shipper.delivery.commits import Committer
from shipper.delivery.worker import Arguments, Worker
from shipper.journal import runs
from shipper.journal.cursor import CursorFile
from shipper.journal.numbering import STDOUT
from tests.delivery.delivery_helpers import MIB, begin_run, open_source, print_lines, raise_error
from tests.disk.sick import FLOOD, STATUS, USER, WRITE_SLACK, Agent, Disk, account, as_user, disk, wrapped
from tests.helpers import wait_until

if TYPE_CHECKING:
    from shipper.sandbox.server import Sandbox

Act = Callable[[Disk, Agent], object]
SMALL = (("SHIPPER_JOURNAL_MAX", "1MiB"),)  # segments of 64 KiB
MANY = (3000, 250, 0.0002)  # 1.5 MB: many segments of a small journal, and more than the quota
FEW = (100, 60, 0.001)


class Case(NamedTuple):
    """``before`` the start, ``during`` once the first lines are out, and ``after`` what was printed then, each done to
    the disk or the wrapper. ``lost``: reasons that must be announced, ``maybe`` those that may; ``told``: the losses
    can be told on stderr alone. ``says``: in the wrapper's messages, in this order, and no other."""

    name: str
    kind: str
    during: Act | None = None
    after: Act | None = None
    before: Callable[[Disk], object] | None = None
    options: str = ""
    environ: tuple[tuple[str, str], ...] = ()
    limits: tuple[tuple[int, int], ...] = ()
    as_user: bool = False
    prints: tuple[int, int, float] = FEW
    lost: frozenset[str] = frozenset()
    maybe: frozenset[str] = frozenset()
    told: bool = False
    says: tuple[str, ...] = ()
    may_say: tuple[str, ...] = ()
    place: str = "journal"


def limit(kind: int, to: int) -> Act:
    def act(_: Disk, agent: Agent) -> None:
        change = (
            f"import resource; p = {agent.process.pid}; "
            f"resource.prlimit(p, {kind}, ({to}, resource.prlimit(p, {kind})[1]))"
        )
        by = os.stat(
            f"/proc/{agent.process.pid}"
        ).st_uid  # not even root may change another's, without CAP_SYS_RESOURCE
        subprocess.run([*(as_user() if by else ()), sys.executable, "-I", "-c", change], check=True)

    return act


def link(disk: Disk) -> None:
    (disk.path / "elsewhere").mkdir()
    os.symlink(disk.path / "elsewhere", disk.path / "journal")
    os.chown(disk.path / "journal", USER, USER, follow_symlinks=False)


def others(disk: Disk) -> None:
    (disk.path / "journal").mkdir(0o755)


def kill_worker(disk: Disk, agent: Agent) -> None:
    """Once it has noted in the new directory what it delivered."""

    def noted() -> bool:
        cursors = [CursorFile.read(str(path.parent), "datadog") for path in disk.path.glob("journal/*/cursor-datadog")]
        return [cursor["delivered"] for cursor in cursors if cursor] == [4 * FEW[0]]

    wait_until(noted, 30, "the cursor")
    for pid in Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split():
        if b"shipper.delivery.start" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(int(pid), signal.SIGKILL)


def thaw_once_told(disk: Disk, agent: Agent) -> None:
    """Later, for not even a process that is killed ends while it waits for a frozen disk."""

    def thaw() -> None:
        wait_until(agent.said, 30, "the last message")
        disk.thaw()

    threading.Thread(target=thaw).start()


NOT_AT_ALL = ("no journal can be kept in", "lost (")
LATER = ("no journal can be kept in", "the journal can be kept now, in")
STALL = ("the disk of the journal stands still", "the disk of the journal moves again")
BAD = ("cannot be written", "the journal can be written again", "what was delivered cannot be noted")
EVICTED = frozenset({"journal_full"})
FULL = frozenset({"disk_full", "journal_full"})
# fmt: off
CASES = [
    Case("frozen while it runs", "ext4", lambda d, _: d.freeze(), lambda d, _: d.thaw(), prints=FLOOD,
         lost=frozenset({"journal_stalled"}), maybe=EVICTED, says=STALL),
    Case("frozen at the start", "ext4", before=Disk.freeze, after=lambda d, _: d.thaw(), prints=FLOOD,
         lost=frozenset({"journal_stalled"}), maybe=EVICTED, says=STALL),
    Case("frozen to the end", "ext4", lambda d, _: d.freeze(), thaw_once_told, told=True,
         environ=(("SHIPPER_DRAIN_TIMEOUT", "500ms"),),
         may_say=("the journal's disk does not move", "did not get out in SHIPPER_DRAIN_TIMEOUT")),
    Case("full at the start", "ext4", before=Disk.fill, after=lambda d, _: d.empty(),
         lost=frozenset({"disk_full"}), says=LATER),
    Case("full while it runs, and again empty", "ext4", lambda d, _: d.fill(), lambda d, _: d.empty(), prints=MANY,
         maybe=FULL, may_say=BAD),
    Case("full to the end", "tmpfs", lambda d, _: d.fill(), lambda d, _: d.fill(), prints=MANY,
         maybe=FULL, may_say=BAD),
    # not even what was half written can be cut away there, always: then it is damage, and announced as that
    Case("a quota", "btrfs", prints=MANY, maybe=FULL | {"journal_corrupt"}, may_say=(*BAD, "is damaged in")),
    Case("read-only at the start", "ext4", before=Disk.read_only, after=lambda d, _: d.writable(),
         lost=frozenset({"disk_error"}), says=LATER),
    Case("failed while it runs, for good", "ext4", lambda d, _: d.fail(), told=True,
         may_say=("cannot be written", "lost (disk_error)", "what was delivered cannot be noted")),
    Case("no inode at the start", "tmpfs", before=Disk.take_inodes, after=lambda d, _: d.give_inodes(),
         options="size=16m,nr_inodes=40", lost=frozenset({"disk_full"}), says=LATER),
    Case("no inode while it runs", "tmpfs", lambda d, _: d.take_inodes(), lambda d, _: d.give_inodes(),
         options="size=16m,nr_inodes=40", environ=SMALL, prints=MANY, maybe=FULL, may_say=BAD),
    Case("its directory removed while it runs", "ext4", lambda d, _: d.lose_journal(), prints=MANY, maybe=EVICTED),
    # what it delivered before is noted in the new directory: else the next worker would tell of it as lost
    Case("its directory removed, then a new worker", "ext4", lambda d, _: d.lose_journal(), kill_worker,
         maybe=EVICTED, says=("is started again",)),
    Case("another user's link in its place", "ext4", before=link, told=True, says=NOT_AT_ALL),
    Case("another user's directory in its place", "ext4", before=others, as_user=True, told=True, says=NOT_AT_ALL),
    Case("a limit on the size of files", "ext4", limits=((resource.RLIMIT_FSIZE, 50_000),), prints=MANY),
    # Of the wrapper's own descriptors; with 7 it has none for its pipes, and then the agent runs without it.
    Case("no descriptor for the journal", "ext4", after=limit(resource.RLIMIT_NOFILE, 256),
         limits=((resource.RLIMIT_NOFILE, 8),), lost=frozenset({"disk_error"}), says=LATER),
    Case("no descriptor for the worker", "ext4", after=limit(resource.RLIMIT_NOFILE, 256),
         limits=((resource.RLIMIT_NOFILE, 10),), says=("no pipe to the process that forwards the lines",)),
    Case("no descriptor while it runs", "ext4", limit(resource.RLIMIT_NOFILE, 3), limit(resource.RLIMIT_NOFILE, 256),
         environ=SMALL, prints=MANY, maybe=EVICTED | {"disk_error"}, may_say=BAD),
    Case("no process for the worker", "ext4", after=limit(resource.RLIMIT_NPROC, 100),
         limits=((resource.RLIMIT_NPROC, 5),), as_user=True, place="", says=("could not be started",)),
]
# fmt: on


@functools.cache
def bare(prints: tuple[int, int, float]) -> float:
    """The longest write of the same agent without anything around it."""
    with tempfile.TemporaryDirectory() as place, Agent((), {}, Path(place) / "result") as agent:
        play(agent, prints)
        return agent.longest()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_agent_goes_on_and_every_line_arrives_or_is_announced(case: Case, sandbox: Sandbox) -> None:
    def limits() -> None:
        for kind, to in case.limits:
            resource.setrlimit(kind, (to, resource.getrlimit(kind)[1]))

    with disk(case.kind, case.options) as sick:
        if case.as_user:
            sick.path.parent.chmod(0o777)
        if not case.place:
            os.chown(sick.path, USER, USER)
        if case.before is not None:
            case.before(sick)
        options: dict[str, Any] = {"environ": dict(case.environ), "preexec_fn": limits, "other": case.as_user}
        with wrapped(sick.path / case.place, sandbox.url, sick.path.parent / "result", **options) as agent:
            if case.during is not None:
                agent.print(*FEW)
                wait_until(lambda: sandbox.store.totals["datadog"].events >= 2 * FEW[0], 30, "the first lines")
                case.during(sick, agent)
            agent.print(*case.prints)
            if case.before is not None or case.limits:
                wait_until(lambda: agent.said() or case.prints == MANY, 30, "the first message")
            if case.after is not None:
                case.after(sick, agent)
            if len(case.says) > 1 and not case.told:
                wait_until(lambda: len(agent.said()) > 1, 30, "the second message")
            agent.print(*FEW)
            assert agent.end() == STATUS
            assert agent.longest() <= bare(case.prints) + WRITE_SLACK
            assert agent.passed_on()
            said = agent.said()
    expected = case.says or [next((part for part in case.may_say if part in message), "none") for message in said]
    assert len(said) == len(set(expected)) == len(expected), said
    assert all(part in message for part, message in zip(expected, said, strict=True)), said
    for stream, found in account(sandbox, said).items():
        assert found.arrived | found.lost == set(range(1, agent.number + 1)), stream
        assert not found.arrived & found.lost
        assert case.lost <= set(found.announced) <= case.lost | case.maybe
        assert case.told or not found.said


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_disk_takes_the_lines_of_a_dead_run_and_not_the_word_of_them(kind: str) -> None:
    with disk(kind) as sick:
        directory = str(sick.path / "journal")
        run = begin_run(directory)
        print_lines(run, 1, 349)
        os.close(run.lock_fd)  # killed
        committer = Committer(raise_error)
        source = open_source(run.path, committer, final=True)
        source.accepted(source.take(100, MIB), 1)
        assert committer.flush(5)
        source.close()
        sick.fill()
        assert runs.make_room(directory, "", runs.used_bytes(directory) - 1, 0, 0, at_once=True)
        assert os.path.isdir(run.path)
        (segment,) = runs.list_segments(run.path)
        assert not [name for name in os.listdir(run.path) if name.endswith(".new")]
        assert os.stat(runs.segment_path(run.path, segment)).st_size < 1000
        source = open_source(run.path, committer, final=True)
        (part,) = source.take(100, MIB)
        assert part.piece.gap is not None
        gap = part.piece.gap
        assert (gap.stream, gap.first_seq, gap.last_seq, gap.reason) == (STDOUT, 101, 349, "journal_full")
        source.close()


async def test_the_look_for_earlier_runs_waits_for_a_frozen_disk_beside_the_loop() -> None:
    with disk("ext4") as sick:
        run = sick.path / "run"
        run.mkdir()
        lock_fd = os.open(run / "lock", os.O_RDWR | os.O_CREAT)
        arguments = ["--run", str(run), "--directory", str(sick.path), "--control-fd", "0", "--lock-fd", str(lock_fd)]
        worker = Worker(Arguments([*arguments, "--restarts", "0"]), {})
        assert await worker._disk_moves()
        sick.freeze()
        waiting = asyncio.create_task(worker._disk_moves())
        await asyncio.sleep(0.2)  # the loop goes on
        assert not waiting.done()
        sick.thaw()
        assert await waiting
        os.close(lock_fd)
        (run / "lock").unlink()
        assert not await worker._disk_moves()


def play(agent: Agent, prints: tuple[int, int, float]) -> None:
    agent.print(*FEW)
    agent.print(*prints)
    assert agent.end() == STATUS
