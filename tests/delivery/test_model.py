"""Journal, cursors and senders against a simple model, under the same random actions.

Real are the journal's writer, feed, sources, cursors, senders and adoption; made up are two providers, the clock, and
the thread that writes cursors: here a commit is on the disk at once, or waits until that thaws, or is torn by a kill.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import zlib
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from shipper.config.registry import SinkEntry
from shipper.delivery.adoption import Adopter
from shipper.delivery.feed import Feed
from shipper.delivery.sender import Sender
from shipper.delivery.source import Source
from shipper.journal import runs
from shipper.journal.cursor import SLOT_BYTES, CursorFile
from shipper.journal.facts import Facts, dump_json
from shipper.journal.frames import DATA, pack
from shipper.journal.numbering import STREAM_NAMES, STREAMS, summarize
from shipper.journal.slots import HEAD
from shipper.journal.writer import JournalWriter
from shipper.lines.events import LEFT_REASONS
from shipper.lines.filters import EXCLUDED, Filters
from shipper.sandbox.ledger import Ledger
from shipper.sinks.base import Acceptance, Body, Limits, RefusedError, RejectedError, RetryableError
from tests.delivery.delivery_helpers import StandIn
from tests.delivery.virtual import START_NS, VirtualClock, VirtualLoop
from tests.helpers import is_closing, ledger_of
from tests.journal.journal_model import lines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from shipper.delivery.commits import Committer
    from shipper.lines.events import Record
    from shipper.sinks.base import Encoder, Slice

MAX_LINE = 1000
MAX_BYTES = 1 << 20  # the least there may be: segments of 64 KiB
SINKS = ("datadog", "sentry")
MOST_RUNS = 12
ANSWER_SECONDS = 0.1

Key = tuple[str, str]  # run, stream
Number = tuple[str, str, int]  # and line


class Provider:
    """``answers``: what it does with the next requests; "well" when there are none. A line with ``poison`` in it is
    refused with its whole request, one with ``stale`` alone."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.entries: list[dict[str, Any]] = []  # accepted, in order
        self.attempted: dict[Key, dict[int, None]] = {}  # numbers in the order in which they were first sent

    def attempt(self, entries: Sequence[dict[str, Any]]) -> None:
        for entry in entries:
            numbers = self.attempted.setdefault((entry["run"], entry["stream"]), {})
            numbers.update(dict.fromkeys(numbers_of(entry)))

    def take(self, entries: Sequence[dict[str, Any]]) -> tuple[str, list[int]]:
        """What becomes of these, and which it keeps out."""
        answer = self.answers.pop(0) if self.answers else "well"
        if answer in ("later", "secret"):
            return answer, []
        if any("poison" in entry["message"] for entry in entries):
            return "poison", []
        out = [index for index, entry in enumerate(entries) if "stale" in entry["message"]]
        self.entries += [entry for index, entry in enumerate(entries) if index not in out]
        return answer, out


def numbers_of(entry: Mapping[str, Any]) -> range:
    """The lines that it stands for, none for an event of our own."""
    return range(entry["seq"], entry["seq"] + entry.get("lines", 1)) if "seq" in entry else range(0)


def verdict(message: str) -> int:
    return 1 if message.startswith("debug") else 2 if "exclude" in message else 0


class Sieve(Filters):
    """What the user does not want. Of lines that are joined it has no opinion, for they are not always."""

    def with_key(self, key: bytes) -> Sieve:
        del key
        return self

    def apply(
        self, records: list[Record], levels: Sequence[int], lines: list[bytes] | None = None, *, rewrite: bool = False
    ) -> bytes | None:
        verdicts = bytes(0 if "lines" in record else verdict(str(record["message"])) for record in records)
        return verdicts if any(verdicts) else None

    def excludes(self, line: bytes) -> bool:
        return verdict(line.decode()) == EXCLUDED


class Packed(Body):
    entries: tuple[dict[str, Any], ...] = ()


class Fake(StandIn):
    """Of one life of the worker. ``known``: lines of which the answer said that they were taken."""

    limits = Limits(max_events=40, max_body_bytes=12_000, target_body_bytes=15_000)  # so some come out too large

    def __init__(self, name: str, provider: Provider, told: Callable[[dict[str, Any]], None]) -> None:
        self.name = name
        self._provider = provider
        self._told = told
        self.known: set[Number] = set()

    def encoder(self, facts: Facts) -> Encoder:
        def encode(slices: Sequence[Slice], now_ms: int) -> Body:
            entries = tuple(
                {**cast("dict[str, Any]", record), "run": facts.run, "stream": events.stream}
                for events, start, end in slices
                for record in events.records[start:end]
            )
            size = sum(30 + len(entry["message"]) for entry in entries)
            body = Packed(b"", size, len(entries), "/", {})
            body.entries = entries
            return body

        return encode

    async def send(self, body: Body) -> Acceptance | None:
        assert isinstance(body, Packed)
        self._provider.attempt(body.entries)
        await asyncio.sleep(ANSWER_SECONDS / 2)
        answer, out = self._provider.take(body.entries)
        for entry in body.entries if answer in ("well", "lost") else ():
            if "seq" not in entry:
                self._told(entry)
        await asyncio.sleep(ANSWER_SECONDS / 2)  # a kill in here comes between acceptance and answer
        if answer == "later":
            raise RetryableError("not now", throttled=True)
        if answer == "lost":
            raise RetryableError("no answer")
        if answer == "secret":
            raise RefusedError("the secret is refused", "SECRET")
        if answer == "poison":
            raise RejectedError("status 400", 400)
        self.known |= {
            (entry["run"], entry["stream"], seq)
            for index, entry in enumerate(body.entries)
            if index not in out
            for seq in numbers_of(entry)
        }
        return Acceptance(tuple(in_a_row(out))) if out else None


def in_a_row(indexes: Sequence[int]) -> list[tuple[int, int, str]]:
    ranges: list[tuple[int, int, str]] = []
    for index in indexes:
        first = ranges.pop()[0] if ranges and ranges[-1][1] == index else index
        ranges.append((first, index + 1, "too old"))
    return ranges


class Commits:
    """In the place of the thread that writes cursors."""

    def __init__(self) -> None:
        self.frozen = False
        self.waiting: dict[CursorFile, dict[str, Any]] = {}

    def submit(self, cursor: CursorFile, values: dict[str, Any]) -> None:
        self.waiting[cursor] = values
        self.flush(0.0)

    def flush(self, timeout: float) -> bool:
        if not self.frozen:
            for cursor in list(self.waiting):
                cursor.commit(self.waiting.pop(cursor))
        return not self.frozen

    def tear(self, size: int) -> None:
        """Begin to write each that waits, and get no further than ``size`` bytes."""
        for cursor, values in self.waiting.items():
            data = dump_json(values)
            generation = cursor._generation + 1
            slot = HEAD.pack(generation, len(data), zlib.crc32(data, generation)) + data
            os.pwrite(cursor.fileno(), slot.ljust(SLOT_BYTES, b"\0")[:size], generation % 2 * SLOT_BYTES)


class Captured:
    """A run as the model knows it: what was printed, and which of it passed by unjournalled."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.printed = dict.fromkeys(STREAMS, b"")
        self.lost: dict[int, list[tuple[int, int]]] = {stream: [] for stream in STREAMS}

    def print(self, stream: int, data: bytes, *, lost: bool = False) -> None:
        start = len(self.printed[stream])
        self.printed[stream] += data
        if lost:
            self.lost[stream].append((start, start + len(data)))

    def lines(self, stream: int) -> dict[int, bytes]:
        return {seq: line for seq, line, _ in lines_of(self.printed[stream], MAX_LINE, ended=True)}

    def left(self, stream: int) -> dict[str, set[int]]:
        """Lines that are no events where they stand alone, by reason; a blank piece of a long line is one."""
        left: dict[str, set[int]] = {reason: set() for reason in LEFT_REASONS}
        for seq, line, part in lines_of(self.printed[stream], MAX_LINE, ended=True):
            reason = LEFT_REASONS[verdict(line.decode())]
            if reason != "empty" or not (part or line.strip()):
                left[reason].add(seq)
        return left

    def joined(self, stream: int) -> set[int]:
        """Lines that may be joined: then they are rejected together, and none of them is left out."""
        lines = self.lines(stream)
        if not any(line.startswith((HEADER, b"  File", b"    code")) for line in lines.values()):
            return set()
        looks = {seq for seq, line in lines.items() if line.startswith((HEADER, b" ", LAST)) or not line.strip()}
        return {near for seq in looks for near in (seq - 1, seq, seq + 1)} & set(lines)

    def touched(self, stream: int) -> set[int]:
        """Lines that may be lost with the bytes that passed by: those they are of, and a piece that ends where they
        begin, of which nobody can know then whether it was the last."""
        touched, at = set(), 0
        for seq, line, _ in lines_of(self.printed[stream], MAX_LINE, ended=True):
            at = self.printed[stream].index(line, at)
            end = at + len(line)
            if any(start <= end and at < stop for start, stop in self.lost[stream]):
                touched.add(seq)
            at = end + (self.printed[stream][end : end + 1] == b"\n")
        return touched


class Life:
    """One worker's, from its start to its kill."""

    def __init__(self, world: Machine) -> None:
        self.commits = Commits()
        self.sinks = {name: Fake(name, world.providers[name], self._teller(world, name)) for name in SINKS}
        self.senders = [
            Sender(
                SinkEntry(name, (), "tests:Fake", name),
                lambda name=name: self.sinks[name],  # type: ignore[misc]
                1.0,
                world.said.append,
                clock=world.clock,
            )
            for name in SINKS
        ]
        self.settled = {name: set(world.settled(name)) for name in SINKS}
        self.feed = Feed(world.live.path, filters=Sieve(), clock=world.clock)
        committer = cast("Committer", self.commits)
        self.own = []
        for sender in self.senders:
            sender.patience = (0, 0.0)  # counts CPU time, of which none passes
            source = Source(self.feed, CursorFile(self.feed.run, sender.name), committer, adopted=False)
            sender.add(source)
            self.own.append(source)
        self.adopter = Adopter(
            world.directory, self.feed.run, self.senders, committer, world.said.append, filters=Sieve()
        )
        for sender in self.senders:
            sender.more = self.adopter.advance
        self.adopter.look()

    def _teller(self, world: Machine, name: str) -> Callable[[dict[str, Any]], None]:
        def told(notice: dict[str, Any]) -> None:
            numbers = {(notice["run"], notice["stream"], seq) for seq in span(notice)}
            delivered = self.sinks[name].known | self.settled[name]
            assert not numbers & delivered, f"announced as lost, but delivered: {sorted(numbers & delivered)}"

        return told

    async def begin(self) -> None:
        self.tasks = [asyncio.create_task(sender.run()) for sender in self.senders]

    async def kill(self) -> None:
        for task in self.tasks:
            task.cancel()
        for end in await asyncio.gather(*self.tasks, return_exceptions=True):
            assert end is None or isinstance(end, asyncio.CancelledError), end
        for _, source in self.adopter.sources:
            source.close()
        for source in self.own:
            source.close()
        for adopted in self.adopter._adopted.values():
            adopted.feed.close()
            os.close(adopted.lock_fd)
        self.feed.close()


def span(notice: Mapping[str, Any]) -> range:
    return range(notice["first_seq"], notice["last_seq"] + 1)


HEADER, LAST = b"Traceback (most recent call last):", b"ValueError: "
SCRAPS = [
    b"\n", b"\n\n", b"  \n", b"one\n", b"two\nthree\n", b"begins ", b"and ends\n", b"poison\n", b"stale\n",
    b"a\n\n\nb\n", b"poison\nstale\npoison\n", b"x" * MAX_LINE, b"y" * (MAX_LINE + 1), b"z" * 3 * MAX_LINE + b"\n",
    b"poison " * 200, b"debug\n", b"debug\nexclude\n\n", HEADER + b"\n", HEADER, b"  File\n", b"    code\n\n",
    LAST + b"one\n", LAST + b"poison\n", HEADER + b"\n  File\n    stale\n" + LAST + b"two\n",
    HEADER + b"\n" + b"  File\n" * 400,
]  # fmt: skip
printing = st.tuples(st.sampled_from(STREAMS), st.lists(st.sampled_from(SCRAPS), min_size=1, max_size=6).map(b"".join))
answers = st.lists(st.sampled_from(["well", "later", "lost", "secret"]), max_size=6)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(prefix="shipper-model-")
        self.clock = VirtualClock()
        self.runner = asyncio.Runner(loop_factory=lambda: VirtualLoop(self.clock))
        self.providers = {name: Provider() for name in SINKS}
        self.said: list[str] = []
        self.runs: list[Captured] = []
        self.life: Life | None = None
        self.even = True  # no account has come out uneven

    # -- the wrapper ---------------------------------------------------------------------------------------------------

    @initialize()
    def start(self) -> None:
        """A wrapper starts, and its worker with it."""
        n = len(self.runs)
        facts = Facts(f"{n:016x}", "host-1", "agent-1", "svc", (), SINKS, MAX_LINE, START_NS + n, "agent.py")
        self.writer = JournalWriter.create([self.directory], facts, MAX_BYTES)
        self.live = Captured(self.writer.path)
        self.runs.append(self.live)
        self.start_worker()

    def start_worker(self) -> None:
        async def begin() -> Life:
            life = Life(self)
            await life.begin()
            return life

        self.life = self.runner.run(begin())

    @rule(chunks=st.lists(printing, min_size=1, max_size=5))
    def write(self, chunks: list[tuple[int, bytes]]) -> None:
        self.writer.append([(stream, self.clock.time_ns(), 0, data) for stream, data in chunks])
        for stream, data in chunks:
            self.live.print(stream, data)
        self.wake()

    @rule(stream=st.sampled_from(STREAMS), kib=st.sampled_from([1, 20, 70, 300, 1200]))
    def write_much(self, stream: int, kib: int) -> None:
        """More than a request, than a segment, than the journal may hold."""
        self.write([(stream, (b"w" * (MAX_LINE - 1) + b"\n") * 40)] * max(1, kib // 40))

    @rule(chunk=printing)
    def pass_by(self, chunk: tuple[int, bytes]) -> None:
        """The disk stood still."""
        stream, data = chunk
        self.writer.skip(stream, summarize(data, MAX_LINE), self.clock.time_ns(), 0, "journal_stalled")
        self.live.print(stream, data, lost=True)
        self.wake()

    @precondition(lambda self: len(self.runs) < MOST_RUNS)
    @rule(torn=st.integers(0, 300), chunk=printing, slot=st.integers(0, 200))
    def kill_all_and_start(self, torn: int, chunk: tuple[int, bytes], slot: int) -> None:
        """In the middle of a write, and of a commit where one waits."""
        stream, data = chunk
        self.kill(slot)
        place = self.writer._numberings[stream]
        frame = pack(DATA, stream, self.clock.time_ns(), 0, place.line, place.before, place.at, data) + data
        with open(runs.segment_path(self.live.path, runs.list_segments(self.live.path)[-1]), "ab") as segment:
            segment.write(frame[:torn])
        if torn >= len(frame):
            self.live.print(stream, data)
        self.release()
        self.start()

    @precondition(lambda self: len(self.runs) < MOST_RUNS)
    @rule()
    def end_and_start(self) -> None:
        """The agent ends, the delivery has its 8 s, and there is a next start."""
        self.end()
        life = self.life
        assert life is not None
        for sender in life.senders:
            sender.drain(self.clock.now + 8.0)
        self.pass_time(9.0)
        life.commits.frozen = False
        life.commits.flush(0.5)
        self.kill(0)
        self.release()
        self.start()

    def end(self) -> None:
        for stream in STREAMS:
            self.writer.end_stream(stream)
        self.writer.end({"exit_status": 0})
        self.wake()

    def release(self) -> None:
        self.writer.close()
        os.close(self.writer.lock_fd)

    # -- the worker ----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        assert self.life is not None
        for sender in self.life.senders:
            sender.wake()

    @rule(seconds=st.sampled_from([0.01, 0.06, 0.11, 0.5, 1.0, 5.0, 40.0, 700.0]))
    def pass_time(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @rule(turns=st.integers(1, 40))
    def pass_turns(self, turns: int) -> None:
        """A few turns of the event loop."""

        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.runner.run(turn())

    @rule(name=st.sampled_from(SINKS), some=answers)
    def trouble(self, name: str, some: list[str]) -> None:
        self.providers[name].answers = list(some)

    @rule(frozen=st.booleans())
    def freeze_commits(self, frozen: bool) -> None:
        assert self.life is not None
        self.life.commits.frozen = frozen
        self.life.commits.flush(0.0)

    @rule(slot=st.integers(0, 200))
    def kill_worker(self, slot: int) -> None:
        self.kill(slot)
        self.start_worker()

    @rule(
        stream=st.sampled_from(STREAMS),
        first=st.sampled_from([b"", b"one\n"]),
        empty=st.integers(1, 4),
        seconds=st.sampled_from([0.06, 1.5]),
        loss=st.booleans(),
        then=st.sampled_from([0.0, 0.06, 1.5]),
    )
    def kill_worker_behind_empty_lines(
        self, stream: int, first: bytes, empty: int, seconds: float, loss: bool, then: float
    ) -> None:
        """They are no events, so it is the next one that has to tell of them, whichever worker sends it."""
        if first:
            self.write([(stream, first)])
            self.pass_time(0.01)
        self.write([(stream, b"\n" * empty)])
        self.pass_time(seconds)
        if loss:
            self.pass_by((stream, b"lost\n"))
        self.pass_time(then)
        self.kill(0)
        self.start_worker()
        self.write([(stream, b"next\n")])

    @rule(
        stream=st.sampled_from(STREAMS),
        pauses=st.lists(st.sampled_from([0.01, 0.06, 0.5, 1.5]), min_size=3, max_size=3),
        last=st.sampled_from([LAST + b"one\n", LAST + b"poison\n", b"one\n", b"\n", b""]),
        kill=st.integers(0, 6),
    )
    def print_a_traceback_in_steps(self, stream: int, pauses: list[float], last: bytes, kill: int) -> None:
        """With something else on the other stream; the worker may be killed in between."""
        for step, text in enumerate((b"one\n" + HEADER + b"\n", b"  File\n    code\n", last)):
            self.write([(stream, text), (3 - stream, b"two\n")])
            self.pass_time(pauses[step])
            if step == kill:
                self.kill_worker(0)

    def kill(self, slot: int) -> None:
        assert self.life is not None
        life, self.life = self.life, None
        life.commits.tear(slot)
        life.commits.frozen = True
        self.runner.run(life.kill())

    # -- what must hold ------------------------------------------------------------------------------------------------

    def settled(self, name: str) -> Iterable[Number]:
        """Delivered lines that the cursors on the disk have passed."""
        delivered = {
            (entry["run"], entry["stream"], seq) for entry in self.providers[name].entries for seq in numbers_of(entry)
        }
        for captured in self.runs:
            values = CursorFile.read(captured.path, name)
            for stream, place in (values or {"streams": {}})["streams"].items():
                run, stream_name = runs_id(captured), STREAM_NAMES[int(stream)]
                yield from (number for number in delivered if number[:2] == (run, stream_name) and number[2] < place[2])

    @rule()
    def everything_is_accounted_for(self) -> None:
        """All providers are well, and there is time: then the sum comes out even."""
        for provider in self.providers.values():
            provider.answers = []
        assert self.life is not None
        self.freeze_commits(False)
        self.write([(stream, b"well\n") for stream in STREAMS])  # so that no line is suspected for ever
        for _ in range(6):
            self.pass_time(700.0)
            self.life.adopter.look()
        self.even = False
        for captured in self.runs[:-1]:
            self.check(captured)
        self.even = True

    def teardown(self) -> None:
        try:
            if self.life is not None and self.even:
                self.kill(0)
                self.release()
                self.start()
                self.everything_is_accounted_for()
                self.end()
                self.pass_time(60.0)
                self.kill(0)
                self.release()
                self.check(self.live)
        finally:
            self.runner.close()
            shutil.rmtree(self.directory)

    def check(self, captured: Captured) -> None:
        evicted = not os.path.exists(runs.segment_path(captured.path, 1))
        for name, provider in self.providers.items():
            counted = dict.fromkeys(("delivered", *LEFT_REASONS), 0)
            dropped: dict[str, int] = {}
            for stream in STREAMS:
                one = self.account(captured, stream, provider, evicted)
                for reason, numbers in one.items():
                    where = counted if reason in counted else dropped
                    where[reason] = where.get(reason, 0) + len(numbers)
            if not os.path.exists(captured.path):
                continue  # all of it was delivered, then it had to make room
            values = CursorFile.read(captured.path, name)
            assert values is not None
            assert values["complete"], (name, captured.path, values)
            told = {"delivered": values["delivered"], **values["left_out"]}
            lost = {reason: lines for reason, lines in values["dropped"].items() if lines}
            assert sum(told.values()) + sum(lost.values()) == sum(len(captured.lines(each)) for each in STREAMS)
            if not any(captured.joined(stream) for stream in STREAMS):
                assert lost == dropped
                assert told == counted

    def account(self, captured: Captured, stream: int, provider: Provider, evicted: bool) -> dict[str, set[int]]:
        """Which lines were delivered, are left out, and are announced as lost, by reason."""
        run, name = runs_id(captured), STREAM_NAMES[stream]
        lines, left, joined = captured.lines(stream), captured.left(stream), captured.joined(stream)
        leavable = set().union(*left.values())
        delivered: set[int] = set()
        announced: dict[str, set[int]] = {}
        for entry in provider.entries:
            if (entry["run"], entry["stream"]) != (run, name):
                continue
            if is_closing(entry):
                assert ledger_of(entry)["captured"] == sum(len(captured.lines(each)) for each in STREAMS)
                continue
            if "seq" not in entry:
                for numbers in announced.values():
                    numbers.difference_update(
                        span(entry)
                    )  # told once more, after a kill: it may have been evicted since
                announced.setdefault(entry["reason"], set()).update(span(entry))
                continue
            seq = entry["seq"]
            message = b"\n".join(lines[number].removesuffix(b"\r") for number in numbers_of(entry))
            assert entry["message"].encode() == message, seq
            assert "lines" not in entry or set(numbers_of(entry)) <= joined, seq
            before = range(seq - entry.get("skipped", 0), seq)
            assert set(before) <= leavable, f"left out before {seq} for no reason: {set(before) - leavable}"
            delivered.update(numbers_of(entry))
        if "rejected" in announced:
            announced["rejected"] -= leavable - joined  # among those that a provider refused in a row
        lost = set().union(*announced.values())
        missing = set(lines) - delivered - leavable - lost
        assert not missing, f"lost without a word: {name} of {run}, {sorted(missing)[:20]}, announced {announced}"
        assert lost <= set(lines)
        assert joined or not leavable & delivered
        attempted = [seq for seq in provider.attempted.get((run, name), {}) if seq not in leavable]
        assert attempted == sorted(attempted)
        assert announced.keys() <= {"rejected", "journal_stalled", *(["journal_full"] if evicted else [])}
        bad = {seq for seq, line in lines.items() if b"poison" in line or b"stale" in line}
        assert announced.get("rejected", set()) <= bad | joined
        assert not bad & delivered
        assert announced.get("journal_stalled", set()) <= captured.touched(stream)
        self.unexplained(provider, run, name)
        told = {reason: numbers for reason, numbers in announced.items() if numbers}
        return {
            "delivered": delivered - lost,
            **{reason: numbers - lost - delivered for reason, numbers in left.items()},
            **told,
        }

    def unexplained(self, provider: Provider, run: str, name: str) -> None:
        """What a reader of the events alone would have to call missing."""
        ledger = Ledger()
        ledger.take([entry for entry in provider.entries if (entry["run"], entry["stream"]) == (run, name)], {}, 0)
        assert all(stream.summary()["unexplained"] == 0 for stream in ledger.streams())


def runs_id(captured: Captured) -> str:
    return os.path.basename(captured.path)[-16:]


TestModel = pytest.mark.timeout(600)(Machine.TestCase)  # a failure is made smaller for up to five minutes
TestModel.settings = settings(
    max_examples=int(os.environ.get("MODEL_EXAMPLES", "80")),
    stateful_step_count=20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
