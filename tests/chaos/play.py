"""Plays a story on a running wrapper with every sink, and makes up the ledger: by numbers, from outside.

What was captured is what the agent says that it printed; of a wrapper that was killed, what its journal held then. What
arrived are the numbers that the sandbox saw, and those that were announced to it as lost. Neither asks shipper.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipper.journal import runs
from shipper.journal.reader import Gap, Lines, RunReader, State
from shipper.sandbox.server import running_in_thread
from tests.chaos.gate import Gates
from tests.e2e.wrapped import ALL, Wrapper
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shipper.sandbox.ledger import StreamLedger
    from tests.chaos.story import Act

AGENT = str(Path(__file__).with_name("agent.py"))
MAX_LINE = 256 << 10
LAST_STARTS = 3  # of a wrapper on the same directory, for what is left
STREAMS = ("stdout", "stderr")


@dataclasses.dataclass
class Account:
    """Of one sink, numbers of lines of all runs and streams together.

    ``came``: arrived, or empty and said to be left out. ``announced``: did not come, and an event tells of it.
    ``repeats``: came more than once, each time counted.
    """

    captured: int = 0
    came: int = 0
    announced: int = 0
    unexplained: int = 0
    repeats: int = 0

    def add(self, captured: int, one: StreamLedger | None) -> None:
        self.captured += captured
        if one is None:
            self.unexplained += captured
            return
        end = 1
        for start, following in [*one.seen.pairs(), (captured + 1, captured + 1)]:
            gap_end = min(start, captured + 1)
            if gap_end > end:
                announced = one.announced.within(end, gap_end)
                self.announced += announced
                self.unexplained += gap_end - end - announced
            self.came += max(0, min(following, captured + 1) - max(start, 1))
            end = max(end, following)
        self.repeats += one.repeats


@dataclasses.dataclass
class Outcome:
    accounts: dict[str, Account]
    longest: float
    longest_bare: float
    memory: dict[str, int]  # MB at the peak, of supervisor and worker
    statuses: list[int]
    faults: list[str]  # what is wrong, in words; empty when all is well
    acts: int
    runs: int


class _Life:
    """One start of the wrapper, or of the bare agent."""

    def __init__(self, place: Path, number: int, seed: int, rate: float) -> None:
        self.record = place / f"record-{number}"
        self.command = [
            sys.executable,
            "-I",
            AGENT,
            str(self.record),
            str(seed * 1000 + number),
            str(rate),
            str(MAX_LINE),
        ]
        self.killed = False
        self.captured: dict[str, int] = {}
        self.run = ""

    def recorded(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.record.read_text())
        return values


class Play:
    def __init__(
        self, seed: int, rate: float, place: Path, journal: Path, bound: str, say: Callable[[str], None]
    ) -> None:
        self._seed = seed
        self._rate = rate
        self._place = place
        self._journal = journal
        self._bound = bound
        self._say = say
        self._lives: list[_Life] = []
        self._wrapper: Wrapper | None = None
        self._urls: dict[str, str] = {}
        self._memory = {"supervisor": 0, "worker": 0}
        self._statuses: list[int] = []
        self._faults: list[str] = []
        self._sampled = 0.0

    def play(self, acts: list[Act], seconds: float) -> Outcome:
        with running_in_thread() as sandbox, Gates(sandbox.port) as gates:
            self._sandbox = sandbox
            self._gates = gates
            self._urls = {name: gates.add(name) for name in ALL}
            with self._bare_beside():
                try:
                    self._start()
                    self._tell(acts, seconds)
                    self._end()
                    self._deliver_the_rest()
                finally:
                    if self._wrapper is not None:
                        self._wrapper.__exit__()
            return self._outcome(len(acts))

    # -- starts and ends -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _bare_beside(self) -> Iterator[None]:
        """The same agent without us, into a pipe that somebody reads."""
        life = self._bare = _Life(self._place, 999, self._seed, self._rate)
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
            assert reader.stdin is not None
            with subprocess.Popen(life.command, stdout=reader.stdin, stderr=reader.stdin) as bare:
                try:
                    yield
                finally:
                    bare.terminate()

    def _start(self) -> None:
        life = _Life(self._place, len(self._lives), self._seed, self._rate)
        self._lives.append(life)
        self._wrapper = self._wrap(life.command, self._place / f"life-{len(self._lives)}", "20s")
        wait_until(lambda: life.record.exists() and self._live_run(), 20, "a start")
        life.run = self._live_run()

    def _wrap(self, command: list[str], outputs: Path, drain: str) -> Wrapper:
        outputs.mkdir(exist_ok=True)
        settings = {"SHIPPER_JOURNAL_MAX": self._bound, "SHIPPER_DRAIN_TIMEOUT": drain}
        for name, url in self._urls.items():
            settings |= variables(url, [name])
        return Wrapper(self._journal, command, None, settings, outputs=outputs)

    def _live_run(self) -> str:
        try:
            run = runs.list_runs(str(self._journal))[-1]
            known = {life.run for life in self._lives}
            return run if run not in known and runs.read_facts(run) is not None else ""
        except (IndexError, OSError):
            return ""

    def _agent(self) -> int:
        assert self._wrapper is not None
        worker = self._wrapper.worker()
        return next(pid for pid in self._wrapper.children() if pid != worker)

    def _kill_wrapper(self) -> None:
        """Not as PID 1: the agent lives on, so it is killed too, first, that it prints nothing into the void."""
        assert self._wrapper is not None
        life = self._lives[-1]
        agent, worker = self._agent(), self._wrapper.worker()
        self._wrapper.process.kill()
        self._wrapper.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent, signal.SIGKILL)
        if worker is not None:
            wait_until(lambda: not os.path.exists(f"/proc/{worker}"), 30, "the worker's end, by its pipe")
        life.killed = True
        life.captured = _in_journal(life.run)
        self._start()

    def _end(self) -> None:
        """TERM, as `docker stop` does."""
        assert self._wrapper is not None
        life = self._lives[-1]
        self._wrapper.terminate()
        status = self._wrapper.wait(90)
        self._statuses.append(status)
        if status != 0:
            self._faults.append(f"the agent's status was 0, the wrapper's {status}")
        recorded = life.recorded()
        if not recorded["ended"]:
            self._faults.append("the agent did not come to its end")
        if self._wrapper.stdout.count(b"\n") != recorded["stdout_lines"]:
            self._faults.append("what was passed on is not what the agent printed")
        life.captured = {name: recorded[name] for name in STREAMS}
        self._faults += [f"a traceback: {line}" for line in self._wrapper.said if "Traceback" in line]

    def _deliver_the_rest(self) -> None:
        for number in range(LAST_STARTS):
            if not self._pending():
                return
            self._say(f"         one more start for what is left ({', '.join(self._pending())})")
            self._wrapper = self._wrap(["sleep", "0.5"], self._place / f"rest-{number}", "60s")
            self._wrapper.wait(90)

    def _pending(self) -> list[str]:
        return [name for name, account in self._accounts().items() if account.unexplained]

    # -- acts --------------------------------------------------------------------------------------------------------

    def _tell(self, acts: list[Act], seconds: float) -> None:
        begun = time.monotonic()
        waiting = list(acts)
        undo: list[tuple[float, Callable[[], None]]] = []
        while (now := time.monotonic() - begun) < seconds:
            for entry in [entry for entry in undo if entry[0] <= now]:
                undo.remove(entry)
                entry[1]()
            while waiting and waiting[0].at <= now:
                act = waiting.pop(0)
                self._say(act.shown())
                end = self._begin(act)
                if end is not None:
                    undo.append((act.at + act.seconds, end))
            self._sample()
            time.sleep(0.02)
        for _, end in undo:
            end()

    def _begin(self, act: Act) -> Callable[[], None] | None:
        """What ends it, where something has to."""
        assert self._wrapper is not None
        if act.what == "fault":
            self._sandbox.fault(act.target, **act.order)
            return lambda: self._sandbox.fault(act.target)
        if act.target:
            self._gates.set(act.target, act.what)
            return lambda: self._gates.set(act.target, "open")
        if act.what in ("all away", "all cut"):
            for name in ALL:
                self._gates.set(name, "refuse" if act.what == "all away" else "cut")
            return lambda: _all(partial(self._gates.set, name, "open") for name in ALL)
        if act.what == "fill disk":
            ballast = self._journal.parent / "ballast"
            with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
                while file.write(bytes(1 << 16)):
                    pass
            return ballast.unlink
        if act.what == "kill wrapper":
            self._kill_wrapper()
        elif act.what == "restart wrapper":
            self._end()
            self._start()
        elif act.what == "freeze container":
            return self._freeze()
        else:
            return self._harm_worker(act.what)
        return None

    def _freeze(self) -> Callable[[], None]:
        assert self._wrapper is not None
        pids = [self._wrapper.process.pid, *self._wrapper.children()]
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        return lambda: _all(partial(_signal, pid, signal.SIGCONT) for pid in pids)

    def _harm_worker(self, what: str) -> Callable[[], None] | None:
        assert self._wrapper is not None
        worker = self._wrapper.worker()
        if worker is None:  # it is about to be started again
            return None
        how = {"kill worker": signal.SIGKILL, "crash worker": signal.SIGSEGV, "stop worker": signal.SIGSTOP}[what]
        _signal(worker, how)
        return (lambda: _signal(worker, signal.SIGCONT)) if what == "stop worker" else None

    def _sample(self) -> None:
        assert self._wrapper is not None
        if time.monotonic() < self._sampled + 0.5:
            return
        self._sampled = time.monotonic()
        for who, pid in (("supervisor", self._wrapper.process.pid), ("worker", self._wrapper.worker())):
            with contextlib.suppress(OSError, StopIteration):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
                self._memory[who] = max(self._memory[who], peak)

    # -- the ledger --------------------------------------------------------------------------------------------------

    def _accounts(self) -> dict[str, Account]:
        accounts = {}
        for name in ALL:
            account = accounts[name] = Account()
            ledger = {(one.run, one.stream): one for one in self._sandbox.store.totals[name].ledger.streams()}
            for life in self._lives:
                run = os.path.basename(life.run).partition("-")[2]
                for stream, captured in life.captured.items():
                    account.add(captured, ledger.get((run, stream)))
        return accounts

    def _outcome(self, acts: int) -> Outcome:
        accounts = self._accounts()
        for name, account in accounts.items():
            if account.unexplained:
                self._faults.append(f"{name}: {account.unexplained} lines neither came nor were announced as lost")
        return Outcome(
            accounts=accounts,
            longest=max(life.recorded()["longest"] for life in self._lives),
            longest_bare=self._bare.recorded()["longest"],
            memory=self._memory,
            statuses=self._statuses,
            faults=self._faults,
            acts=acts,
            runs=len(self._lives),
        )


def _in_journal(run: str) -> dict[str, int]:
    """Of a dead run: the number of the last line that is not empty (for empty ones at its end nothing is sent)."""
    reader = RunReader(run)
    state = State.start()
    found = dict.fromkeys(STREAMS, 0)
    at_end = False
    while not at_end:
        window, state = reader.read(state, True)
        at_end = window.at_end
        for item in window.items:
            if isinstance(item, Gap):
                found[STREAMS[item.stream - 1]] = item.last_seq
            elif isinstance(item, Lines):
                full = [index for index, line in enumerate(item.lines) if line.strip()]
                if full:
                    found[STREAMS[item.stream - 1]] = item.first_seq + full[-1]
    reader.close()
    return found


def _signal(pid: int, signo: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signo)


def _all(acts: Iterable[Callable[[], None]]) -> None:
    for act in acts:
        act()
