"""Plays a story on a running wrapper with every sink, and makes up the ledger: by numbers, from outside.

What was captured is what the agent says that it printed; of a wrapper that was killed, what its journal held then. What
arrived are the numbers that the sandbox saw, and those that were announced to it as lost. Neither asks shipper. What
shipper says of it, in `shipper status` and in the closing events, is held against that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipper.journal import runs
from shipper.journal.cursor import CursorFile
from shipper.journal.reader import Gap, Lines, RunReader, State
from shipper.sandbox.ledger import StreamLedger
from shipper.sandbox.ranges import Ranges
from shipper.sandbox.server import running_in_thread
from tests.chaos.gate import Gates
from tests.chaos.ledgers import Told, WatchingStore, ask_status, both_of, disagreements, told_by_status
from tests.chaos.story import FREEZE
from tests.e2e.wrapped import ALL, Wrapper
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.chaos.story import Act

AGENT = str(Path(__file__).with_name("agent.py"))
MAX_LINE = 256 << 10
LAST_STARTS = 3  # of a wrapper on the same directory, for what is left
STATUS_SECONDS = 5.0  # between two looks at `shipper status`, which takes 0.1 s
MOST_FAULTS = 40  # a figure that is wrong is so at every look
STREAMS = ("stdout", "stderr")


@dataclasses.dataclass
class Account:
    """Of one sink, numbers of lines of all runs and streams together.

    ``came``: arrived, or empty and said to be left out. ``announced``: did not come, and an event tells of it.
    ``refused``: the story's faults kept that event from the provider, too, so that the closing event alone counts them.
    ``repeats``: came more than once, each time counted.
    """

    captured: int = 0
    came: int = 0
    announced: int = 0
    refused: int = 0
    unexplained: int = 0
    repeats: int = 0

    def add(self, captured: int, one: StreamLedger | None, refused: Ranges | None = None) -> None:
        self.captured += captured
        one = one or StreamLedger("", "")
        told = both_of(one.announced, refused or Ranges())
        end = 1
        for start, following in [*one.seen.pairs(), (captured + 1, captured + 1)]:
            gap_end = min(start, captured + 1)
            if gap_end > end:
                announced, explained = one.announced.within(end, gap_end), told.within(end, gap_end)
                self.announced += announced
                self.refused += explained - announced
                self.unexplained += gap_end - end - explained
            self.came += max(0, min(following, captured + 1) - max(start, 1))
            end = max(end, following)
        self.repeats += one.repeats


@dataclasses.dataclass
class Outcome:
    """``status``, ``closing``: what `shipper status` and the closing events say of all runs, by sink. ``looks``: at
    `shipper status` while the story went on. ``refused``: closing events that the story's faults kept from a provider;
    of those runs ``closing`` has nothing. ``gone``: runs that the bound took before all of them was delivered to all
    sinks and looked at; of those ``status`` has what was seen last."""

    accounts: dict[str, Account]
    status: dict[str, Told]
    closing: dict[str, Told]
    looks: int
    refused: int
    gone: int
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
        self.captured: dict[str, int] = {}
        self.trailing = 0  # empty lines behind those, which only the closing event tells of
        self.path = ""
        self.status: dict[str, Told] = {}  # by sink, as last seen
        self.complete = False  # then that is the last word

    @property
    def run(self) -> str:
        return os.path.basename(self.path).partition("-")[2]

    @property
    def lines(self) -> int:
        return sum(self.captured.values()) + self.trailing

    def recorded(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.record.read_text())
        return values


class Play:
    """``drain``: how long an end is delayed at most; a fault that is not over by then lasts as long."""

    def __init__(
        self,
        seed: int,
        rate: float,
        place: Path,
        journal: Path,
        bound: str,
        say: Callable[[str], None],
        drain: str = "20s",
    ) -> None:
        self._seed = seed
        self._rate = rate
        self._place = place
        self._journal = journal
        self._bound = bound
        self._say = say
        self._drain = drain
        self._lives: list[_Life] = []
        self._wrapper: Wrapper | None = None
        self._urls: dict[str, str] = {}
        self._memory = {"supervisor": 0, "worker": 0}
        self._statuses: list[int] = []
        self._faults: list[str] = []
        self._sampled = 0.0
        self._looked = 0.0
        self._looks = 0

    def play(self, acts: list[Act], seconds: float) -> Outcome:
        with running_in_thread() as sandbox, Gates(sandbox.port) as gates:
            self._sandbox = sandbox
            self._store = sandbox.store = WatchingStore(sandbox.intakes)
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
        self._look_at_dead_runs(self._lives)
        life = _Life(self._place, len(self._lives), self._seed, self._rate)
        self._lives.append(life)
        self._wrapper = self._wrap(life.command, self._place / f"life-{len(self._lives)}", self._drain)
        wait_until(lambda: life.record.exists() and self._live_run(), 20, "a start")
        life.path = self._live_run()

    def _wrap(self, command: list[str], outputs: Path, drain: str) -> Wrapper:
        outputs.mkdir(exist_ok=True)
        settings = {"SHIPPER_JOURNAL_MAX": self._bound, "SHIPPER_DRAIN_TIMEOUT": drain}
        for name, url in self._urls.items():
            settings |= variables(url, [name])
        return Wrapper(self._journal, command, None, settings, outputs=outputs)

    def _live_run(self) -> str:
        try:
            run = runs.list_runs(str(self._journal))[-1]
            known = {life.path for life in self._lives}
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
        life.captured, life.trailing = _in_journal(life.path)
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
        return [name for name, account in self._accounts().items() if account.unexplained or self._silent(name)]

    def _silent(self, name: str) -> list[str]:
        """Runs whose closing event did not come there."""
        keys = [(name, life.run) for life in self._lives]
        return [key[1] for key in keys if not self._store.closings.get(key) and key not in self._store.refused]

    # -- acts --------------------------------------------------------------------------------------------------------

    def _tell(self, acts: list[Act], seconds: float) -> None:
        begun = time.monotonic()
        waiting = list(acts)
        undo: dict[str, tuple[float, Callable[[], None]]] = {}  # by target
        while (now := time.monotonic() - begun) < seconds:
            for target in [target for target, (until, _) in undo.items() if until <= now]:
                undo.pop(target)[1]()
            while waiting and waiting[0].at <= now:
                act = waiting.pop(0)
                if act.target in undo:  # a start or an end takes its time, and then acts follow each other quickly
                    undo.pop(act.target)[1]()
                self._say(act.shown())
                end = self._begin(act)
                if end is not None:
                    begun_at = time.monotonic() - begun if act.what == FREEZE else act.at
                    undo[act.target] = (begun_at + act.seconds, end)
            self._sample()
            self._look_at_status()
            time.sleep(0.02)
        for _, end in undo.values():
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
        elif act.what == FREEZE:
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
        self._look_at_dead_runs([life for life in self._lives[:-1] if life.path and _is_complete(life.path)])
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
                for stream, captured in life.captured.items():
                    refused = self._store.refused_losses[name, life.run][stream]
                    account.add(captured, ledger.get((life.run, stream)), refused)
        return accounts

    def _fault(self, text: str) -> None:
        if len(self._faults) < MOST_FAULTS:
            self._faults.append(text)

    def _look_at_status(self) -> None:
        """While all runs: it adds up, and calls nothing delivered that did not come."""
        life = self._lives[-1]
        if time.monotonic() < self._looked + STATUS_SECONDS:
            return
        values = self._ask_status(self._journal)
        self._looked = time.monotonic()
        if values is None or values["run"] != life.run:  # it has just been started, or nothing can be written
            return
        self._looks += 1
        for sink in values["sinks"]:
            told, came = told_by_status(values, sink), self._store.count[sink["name"], life.run]
            if not told.adds_up() or told.delivered > came:
                self._fault(f"{sink['name']}: status of the running wrapper says {told}, and {came:,} lines came")

    def _ask_status(self, directory: Path) -> dict[str, Any] | None:
        try:
            return ask_status(directory)
        except subprocess.CalledProcessError as error:
            self._fault(f"`shipper status` ended with {error.returncode}: {error.stderr.decode()}")
            return None

    def _look_at_dead_runs(self, lives: list[_Life]) -> None:
        """`shipper status` of each run by itself, until all sinks have all of it: then the bound may take it."""
        for life in lives:
            copy = self._place / "one"
            if life.complete or not os.path.exists(life.path):
                continue
            values = None
            try:
                shutil.copytree(life.path, copy / os.path.basename(life.path), copy_function=_copy_if_there)
                values = ask_status(copy)
            except (OSError, subprocess.CalledProcessError) as error:
                if os.path.exists(life.path):
                    self._fault(f"`shipper status` of run {life.run} by itself: {error}")
            shutil.rmtree(copy, ignore_errors=True)
            if values is not None:
                life.status = {sink["name"]: told_by_status(values, sink) for sink in values["sinks"]}
                life.complete = all(sink["complete"] for sink in values["sinks"])

    def _compare(self) -> None:
        """What shipper says of each run against what the intakes got of it."""
        values = self._ask_status(self._journal)
        if values is not None and values["earlier"]["runs"]:
            self._fault(f"`shipper status` says that of earlier runs this is pending: {values['earlier']}")
        for name in ALL:
            streams: dict[str, dict[str, StreamLedger]] = {life.run: {} for life in self._lives}
            for one in self._store.totals[name].ledger.streams():
                streams.setdefault(one.run, {})[one.stream] = one
            self._faults += [f"{name}: no closing event of run {run} came" for run in self._silent(name)]
            for life in self._lives:
                got = self._store.got(name, life.run, streams[life.run])
                got.empty += life.trailing
                closing = self._store.closings.get((name, life.run), [])[-1:]
                said = [("the closing event", told) for told in closing]
                if name in life.status:
                    said.append(("status", life.status[name]))
                for who, told in said:
                    for text in disagreements(who, told, got, life.lines):
                        self._fault(f"{name}, run {life.run}: {text}")
                if closing and life.complete and closing[0] != life.status[name]:
                    self._fault(
                        f"{name}, run {life.run}: the closing event says {closing[0]}, but status {life.status[name]}"
                    )

    def _outcome(self, acts: int) -> Outcome:
        self._look_at_dead_runs(self._lives)
        self._compare()
        for life in self._lives:
            if not life.complete and os.path.exists(life.path):
                self._fault(f"`shipper status` says of run {life.run} that not all of it is delivered")
        accounts = self._accounts()
        for name, account in accounts.items():
            if account.unexplained:
                self._faults.append(f"{name}: {account.unexplained} lines neither came nor were announced as lost")
        return Outcome(
            accounts=accounts,
            status={name: _sum(life.status.get(name, Told()) for life in self._lives) for name in ALL},
            closing={
                name: _sum(told for life in self._lives for told in self._store.closings[name, life.run][-1:])
                for name in ALL
            },
            looks=self._looks,
            refused=sum(
                not self._store.closings[name, life.run] and (name, life.run) in self._store.refused
                for name in ALL
                for life in self._lives
            ),
            gone=sum(not life.complete for life in self._lives),
            longest=max(life.recorded()["longest"] for life in self._lives),
            longest_bare=self._bare.recorded()["longest"],
            memory=self._memory,
            statuses=self._statuses,
            faults=self._faults,
            acts=acts,
            runs=len(self._lives),
        )


def _copy_if_there(source: str, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source, target)


def _is_complete(run: str) -> bool:
    """Every sink has all of it."""
    return all((CursorFile.read(run, name) or {}).get("complete") for name in ALL)


def _sum(told: Iterable[Told]) -> Told:
    total = Told()
    for one in told:
        total.add(one)
    return total


def _in_journal(run: str) -> tuple[dict[str, int], int]:
    """Of a dead run: the number of the last line that is not empty, and how many empty ones follow it (for those no
    event is sent)."""
    reader = RunReader(run)
    state = State.start()
    found = dict.fromkeys(STREAMS, 0)
    last = dict.fromkeys(STREAMS, 0)
    at_end = False
    while not at_end:
        window, state = reader.read(state, True)
        at_end = window.at_end
        for item in window.items:
            if isinstance(item, Gap):
                found[STREAMS[item.stream - 1]] = last[STREAMS[item.stream - 1]] = item.last_seq
            elif isinstance(item, Lines):
                last[STREAMS[item.stream - 1]] = item.first_seq + len(item.lines) - 1
                full = [index for index, line in enumerate(item.lines) if line.strip()]
                if full:
                    found[STREAMS[item.stream - 1]] = item.first_seq + full[-1]
    reader.close()
    return found, sum(last.values()) - sum(found.values())


def _signal(pid: int, signo: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signo)


def _all(acts: Iterable[Callable[[], None]]) -> None:
    for act in acts:
        act()
