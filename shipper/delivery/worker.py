"""The worker's main program: puts feed, sources, senders and sinks together and listens to the supervisor."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from shipper import messages
from shipper.config.budget import MIB, plan
from shipper.config.container import Container, margin_bytes
from shipper.config.needles import needles, without
from shipper.config.registry import REGISTRY
from shipper.config.settings import load
from shipper.delivery import control, priority, throttle
from shipper.delivery.adoption import Adopter
from shipper.delivery.commits import Committer
from shipper.delivery.feed import Feed
from shipper.delivery.health import LEFT_OUT
from shipper.delivery.sender import Sender
from shipper.delivery.source import Source
from shipper.delivery.trial import Trial
from shipper.journal.cursor import CursorFile
from shipper.journal.directory import default_max_bytes, memory_limit_of
from shipper.journal.reader import State
from shipper.journal.runs import LOCK, cursor_sinks, is_live, list_runs, read_facts, used_bytes
from shipper.lines.engine import RE2
from shipper.lines.filters import make
from shipper.lines.levels import level_of
from shipper.lines.masking import Masker
from shipper.sinks.base import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from shipper.config.budget import Budget
    from shipper.config.registry import SinkEntry
    from shipper.config.settings import Settings
    from shipper.lines.filters import Filters
    from shipper.sinks.base import Sink

AGAIN = 75  # the status with which it asks the supervisor for a start at once
SHORT = 76  # memory is short: a start with smaller batches is wanted, later
GROWTH_BYTES = 100 << 20  # a second, that is kept up with; each look costs 0.1 ms
WATCH_SECONDS = (0.05, 1.0)
ROOMY_SECONDS = 600.0  # left out sinks are tried again when there has been memory for them, not sooner after a start
UPKEEP_SECONDS = 60.0  # dead runs are looked for, and cycles collected, this often
TERM_INTERVAL = 0.2  # after TERM a line waits at most this long
QUIT_SECONDS = 1.0  # what is left of a drain that is cut short; the supervisor allows 2 s
COUNT_SECONDS = 0.6  # for counting what could not be delivered: the supervisor takes a second of work for hanging


class Arguments:
    """What the supervisor passes; a person never starts this program."""

    def __init__(self, argv: Sequence[str]) -> None:
        values = dict(zip(argv[::2], argv[1::2], strict=True))
        self.run = values["--run"]
        self.directory = values["--directory"]
        self.control_fd = int(values["--control-fd"])
        self.lock_fd = int(values["--lock-fd"])
        self.restarts = int(values["--restarts"])
        self.shrunk = int(values.get("--shrunk", "0"))


def main() -> int:
    """0 when all is delivered or the drain is over, 1 when something unexpected ended it."""
    arguments = Arguments(sys.argv[1:])
    try:
        worker = Worker(arguments, os.environ)
        messages.mask_with(worker.shown)
        asyncio.run(worker.run())
    except Exception as error:  # noqa: BLE001 (the supervisor starts it again; a traceback helps no user)
        if not arguments.restarts:
            messages.say(f"the process that forwards lines failed unexpectedly ({_in_words(error)})")
        messages.flush(0.2)
        return 1
    messages.flush(0.2)
    return worker.status


class Worker:
    def __init__(self, arguments: Arguments, environ: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._environ = environ
        self._settings: Settings = load(environ)
        self._say = messages.say
        self._secrets: tuple[str, ...] = ()
        self._masker = Masker(tokens=not self._settings.mask_off)
        self._learn()
        self._filters = self._make_filters()
        self._container = Container()
        self._limit = self._container.memory_limit_bytes()
        self._budget = self._plan(arguments.shrunk)
        self._senders: list[Sender] = []
        self._tasks: dict[asyncio.Task[None], Sender] = {}
        self.status = 0  # to end with; AGAIN when there is memory for more sinks now
        self._enough = asyncio.Event()
        self._drain_began = asyncio.Event()
        self._orphaned = asyncio.Event()
        self._deadline = 0.0
        self._cursor_failed = False
        self._clocks_off: set[str] = set()  # titles of the providers that say so

    async def run(self) -> None:
        committer = Committer(self._cursor_error)
        self._tell_left_out()
        for entry in REGISTRY:
            if entry.name in self._budget.sinks:
                self._add_sender(entry)
        keep_lines = any(sender.needs_lines for sender in self._senders)
        budget = self._budget
        feed = Feed(
            self._arguments.run,
            keep_lines=keep_lines,
            window_bytes=budget.window_bytes,
            queue_bytes=budget.queue_bytes,
            multiline=self._settings.multiline,
            masker=self._masker,
            filters=self._filters,
        )
        self._feed = feed
        for name in budget.left_out:
            note_left_out(feed.run, name)
        trial = Trial(feed.run, self._say) if self._arguments.restarts else None
        feed.trial = trial
        own = []
        for sender in self._senders:
            source = Source(feed, CursorFile(feed.run, sender.name), committer, adopted=False)
            sender.trial = trial
            sender.add(source)
            own.append((sender, source))
        adopter = Adopter(
            self._arguments.directory,
            feed.run,
            self._senders,
            committer,
            self._say,
            keep_lines=keep_lines,
            budget=budget,
            trial=trial,
            multiline=self._settings.multiline,
            masker=self._masker,
            filters=self._filters,
        )
        for sender in self._senders:
            sender.more = adopter.advance
            sender.held_up = partial(adopter.held_up, sender)
            sender.clock_is_off = partial(self._clock_is_off, sender.title)
        adopter.look()
        gc.collect()
        gc.freeze()
        gc.disable()  # halves the cost of decoding; upkeep collects what cycles there are
        self._tasks = {asyncio.create_task(sender.run(), name=sender.name): sender for sender in self._senders}
        priority.step_back_as_session()
        control.listen(self._arguments.control_fd, self._heard, self._orphaned.set)
        minders = [asyncio.create_task(self._upkeep(adopter)), asyncio.create_task(self._watch_memory())]
        await self._until_drain()
        for minder in minders:
            minder.cancel()
        if self._enough.is_set() and not self._drain_began.is_set():
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            committer.flush(0.5)
        elif not self._orphaned.is_set():
            self.status = 0  # memory may have become short in the moment in which the drain began
            await self._finish()
            committer.flush(0.5)
            self._tell_damage(adopter)
            self._tell_what_is_left([*own, *adopter.sources], adopter)

    def _learn(self) -> None:
        """What is to be masked, also as it is now in files that may have been replaced."""
        found = needles(self._environ, self._settings.mask, off=self._settings.mask_off)
        self._secrets = tuple(dict.fromkeys((*found, *self._secrets)))
        self._masker.learn(found)

    def shown(self, text: str) -> str:
        """A sentence of ours without secrets."""
        return self._masker.text(without(self._secrets, text))

    def _make_filters(self) -> Filters | None:
        """What is wrong with the patterns, and the want of google-re2, is said at the first start."""
        settings = self._settings
        level = level_of(settings.level) or 0
        filters, problems = make(level, settings.exclude, settings.redact, settings.pii)
        sentences = [sentence for _, sentence in problems]
        if RE2 is None:
            sentences.append(
                "google-re2 cannot be loaded here: secrets are masked all the same, at several times the CPU time "
                "(SHIPPER_EXCLUDE and SHIPPER_REDACT are Python's expressions); install google-re2"
            )
        for sentence in sentences if not self._arguments.restarts else ():
            self._say(self.shown(sentence))
        return filters

    def _builder(self, entry: SinkEntry) -> Callable[[], Sink]:
        """A secret that was replaced in its file is masked before it is used."""
        build = sink_builder(entry, self._environ)

        def renewed() -> Sink:
            self._learn()
            return build()

        return renewed

    def _plan(self, shrunk: int) -> Budget:
        others = max(0, (self._container.memory_held_bytes() or 0) - _own_bytes())
        others += _journal_to_come(self._arguments.directory, self._settings.journal_max_bytes)
        return plan(self._settings.sinks, self._limit, others, shrunk)

    def _tell_left_out(self) -> None:
        """At the first start, and at one that leaves out what was at work before: the agent has grown, or this process
        has met the limit."""
        limit, run = self._limit, self._arguments.run
        left_out = [name for name in self._budget.left_out if not self._arguments.restarts or was_at_work(run, name)]
        if not left_out:
            return
        titles = [entry.title for entry in REGISTRY if entry.name in left_out]
        names = " and ".join((", ".join(titles[:-1]), titles[-1]) if titles[1:] else titles)
        room = f"the container's memory limit of {limit // MIB} MiB" if limit else "the memory there is"
        enough = f"; {-(-self._budget.needed_bytes // MIB)} MiB would hold all" if self._budget.needed_bytes else ""
        self._say(
            f"{names} {'is' if len(titles) == 1 else 'are'} left out, for {room} does not hold all sinks beside the "
            f"agent{enough}: their lines wait in the journal, whose oldest are dropped when it is full, "
            "and go out once there is more memory"
        )

    def _add_sender(self, entry: SinkEntry) -> None:
        try:
            self._senders.append(
                Sender(
                    entry,
                    self._builder(entry),
                    self._settings.flush_interval,
                    self._say,
                    self._budget,
                )
            )
        except Exception as error:  # noqa: BLE001 (one sink that cannot be loaded is not to take the others with it)
            why = str(error).rstrip(".") if isinstance(error, SettingError) else _cannot_be_used(entry, error)
            if not self._arguments.restarts:  # said at the first start
                self._say(f"{why}; the lines wait in the journal until that is mended")

    def _heard(self, kind: int) -> None:
        if kind == control.APPENDED:
            for sender in self._senders:
                sender.wake()
        elif kind == control.TERMINATING:
            for sender in self._senders:
                sender.hasten(TERM_INTERVAL)
        elif kind == control.DRAIN:
            self._drain(self._settings.drain_timeout)
        elif kind == control.QUIT:
            self._drain(QUIT_SECONDS)

    def _drain(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._deadline = min(self._deadline or deadline, deadline)
        for sender in self._senders:
            sender.drain(self._deadline)
        throttle.lift()
        priority.step_forward()
        self._drain_began.set()

    async def _until_drain(self) -> None:
        """Until the drain begins or the supervisor is gone. A sender that fails takes the worker with it: restarted."""
        ends: list[asyncio.Task[Any]] = [
            asyncio.create_task(event.wait()) for event in (self._drain_began, self._orphaned, self._enough)
        ]
        try:
            done, _ = await asyncio.wait([*ends, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
        for task in self._tasks:
            if task in done and not self._drain_began.is_set():
                task.result()

    async def _finish(self) -> None:
        """Wait for the senders, at most until the deadline, which a second signal may bring nearer."""
        orphaned = asyncio.create_task(self._orphaned.wait())
        pending = set(self._tasks)
        while pending and not self._orphaned.is_set():
            left = self._deadline - time.monotonic()
            if left <= 0:
                break
            await asyncio.wait([*pending, orphaned], timeout=min(left, 0.1), return_when=asyncio.FIRST_COMPLETED)
            pending = {task for task in pending if not task.done()}
        orphaned.cancel()
        for task in pending:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for sender, result in zip(self._tasks.values(), results, strict=True):
            if isinstance(result, Exception):
                self._say(f"sending to {sender.title} failed unexpectedly ({_in_words(result)})")

    def _tell_what_is_left(self, pairs: Sequence[tuple[Sender, Source]], adopter: Adopter) -> None:
        ends = time.monotonic() + COUNT_SECONDS
        for sender in self._senders:
            lines, exact = 0, not adopter.waits(sender)
            for other, source in pairs:
                if other is sender and not source.drained:
                    counted, whole = source.undelivered(max(0.0, ends - time.monotonic()))
                    lines += counted
                    exact = exact and whole
            self._tell_left(sender.title, lines, exact, sender.state.partition(": ")[2] or "the time was up")
        for entry in REGISTRY:
            if entry.name in self._budget.left_out:
                self._tell_left(entry.title, *self._undelivered(entry.name, ends), "there was no memory for it")

    def _undelivered(self, name: str, ends: float) -> tuple[int, bool]:
        """Lines of a sink that has no sender, in this run, and whether there are no others in earlier ones."""
        try:
            values = CursorFile.read(self._feed.run, name) or {}
            state = State.from_cursor(values["streams"])
        except (LookupError, TypeError, ValueError):
            state = State.start()
        lines, exact = self._feed.count_lines(state, max(0.0, ends - time.monotonic()))
        return lines, exact and not lacks_earlier(self._arguments.directory, self._feed.run, name)

    def _tell_left(self, title: str, lines: int, exact: bool, why: str) -> None:
        if lines or not exact:
            self._say(
                f"{title} did not get {'' if exact else 'at least '}{lines} line{'' if lines == 1 else 's'} "
                f"before the end ({why}): what it did not get stays in {self._arguments.directory} "
                "and goes out with the next start on it"
            )

    async def _upkeep(self, adopter: Adopter) -> None:
        started = time.monotonic()
        while True:
            await asyncio.sleep(UPKEEP_SECONDS)
            gc.collect()
            if self._budget.left_out and time.monotonic() - started >= ROOMY_SECONDS:
                now = self._plan(0)
                if len(now.left_out) < len(self._budget.left_out):
                    self.status = AGAIN
                    self._enough.set()
            self._tell_damage(adopter)
            if await self._disk_moves():
                adopter.look()
                self._learn()

    async def _disk_moves(self) -> bool:
        """Once the journal's disk can be written; it may be frozen, and `Adopter.look` writes.

        By a thread that nobody waits for at the end, unlike those of `asyncio.to_thread`.
        """
        loop = asyncio.get_running_loop()
        moves: asyncio.Future[bool] = loop.create_future()

        def tell(found: bool) -> None:
            if not moves.done():
                moves.set_result(found)

        def look() -> None:
            try:
                os.utime(os.path.join(self._arguments.run, LOCK), follow_symlinks=False)
                found = True
            except OSError:
                found = False
            try:
                loop.call_soon_threadsafe(tell, found)
            except RuntimeError:  # the loop has ended meanwhile
                pass

        try:
            threading.Thread(target=look, name="look", daemon=True).start()
        except RuntimeError:  # no thread to be had
            return False
        return await moves

    async def _watch_memory(self) -> None:
        """Makes room before the limit is met: the kernel may end the agent for pages of ours that are not free yet."""
        limit = self._limit
        if limit is None:
            return
        margin = margin_bytes(limit)
        while (held := self._container.memory_held_bytes()) is not None:
            spare = limit - held - margin
            if spare <= 0:
                self.status = SHORT
                self._enough.set()
                return
            await asyncio.sleep(min(max(spare / GROWTH_BYTES, WATCH_SECONDS[0]), WATCH_SECONDS[1]))

    def _tell_damage(self, adopter: Adopter) -> None:
        for feed in (self._feed, *adopter.feeds):
            feed.tell_damage(self._say)

    def _clock_is_off(self, title: str, seconds: float) -> None:
        """Said of the first provider that tells: the next ones will say the same."""
        if not seconds:
            self._clocks_off.discard(title)
            return
        if not self._clocks_off:
            off = f"{round(abs(seconds) / 60):,} minutes {'ahead of' if seconds > 0 else 'behind'}"
            self._say(
                f"this machine's clock is {off} that of {title}, by the date of its answers: what is too old or too "
                "new by that goes under the present time, with its own as original_timestamp, and all else under this "
                "clock's; set it right"
            )
        self._clocks_off.add(title)

    def _cursor_error(self, error: Exception) -> None:
        if not self._cursor_failed:
            self._cursor_failed = True
            self._say(
                f"what was delivered cannot be noted in {self._feed.run} ({_in_words(error)}): "
                "lines may be sent twice after a restart"
            )


def was_at_work(run: str, name: str) -> bool:
    """Whether an earlier worker of the run had loaded the sink, and the last one too, as far as is known."""
    try:
        if name not in cursor_sinks(run):
            return False
        values = CursorFile.read(run, name) or {}
        return bool((values.get("health") or {}).get("state") != LEFT_OUT)
    except (OSError, AttributeError):  # a sick disk, values that are not ours
        return False


def note_left_out(run: str, name: str) -> None:
    """In the cursor that an earlier worker of the run has made for the sink: nobody is to wait for it."""
    try:
        if name not in cursor_sinks(run):
            return
        cursor = CursorFile(run, name)
        try:
            values = cursor.values or {"streams": {"1": [0, 0, 1], "2": [0, 0, 1]}}
            health = {**(values.get("health") or {}), "state": LEFT_OUT, "until": 0}
            cursor.commit({**values, "health": health})
        finally:
            cursor.close()
    except (OSError, TypeError, ValueError):  # a sick disk, values that are not ours
        return


def lacks_earlier(directory: str, own: str, name: str) -> bool:
    """Whether a dead run beside the ``own`` one holds something that the sink has still to get."""
    for run in list_runs(directory):
        try:
            if run == own or is_live(run):
                continue
            facts = read_facts(run)
            values = CursorFile.read(run, name)
            meant = values is not None or (facts is not None and name in facts.sinks)
            if meant and not (values or {}).get("complete"):
                return True
        except OSError:
            continue
    return False


def _journal_to_come(directory: str, max_bytes: int | None) -> int:
    """Bytes that the journal may still grow by, where it is in memory."""
    limit = memory_limit_of(directory)
    if limit is None:
        return 0
    try:
        used = used_bytes(directory)
        bound = min(max_bytes, limit // 2) if max_bytes else default_max_bytes(directory, used)
    except OSError:
        return 0
    return max(0, bound - used)


def _own_bytes() -> int:
    """Of this process alone, not of a file."""
    with open("/proc/self/statm", encoding="ascii") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _in_words(error: BaseException) -> str:
    """Its type, and what the system says of it: no more, since a message may hold a line or a secret."""
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _cannot_be_used(entry: SinkEntry, error: Exception) -> str:
    what = f"a library of its own is missing: {error.name}" if isinstance(error, ImportError) else _in_words(error)
    return f"{entry.title} cannot be used here ({what}): nothing is sent to {entry.title}"


def sink_builder(entry: SinkEntry, environ: Mapping[str, str]) -> Callable[[], Sink]:
    """Makes the entry's sink; imports it only now. The result raises SettingError."""
    module, _, name = entry.factory.partition(":")
    factory = getattr(importlib.import_module(module), name)

    def build() -> Sink:
        sink: Sink = factory.from_env(environ)
        return sink

    return build
