"""Runs whose wrapper died: found by their free lock, delivered under their own facts, tidied up afterwards."""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from typing import TYPE_CHECKING

from shipper.config.budget import WINDOW_BYTES, Budget
from shipper.delivery.feed import Feed
from shipper.delivery.source import Source
from shipper.journal import runs
from shipper.journal.cursor import CursorFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shipper.delivery.commits import Committer
    from shipper.delivery.sender import Sender
    from shipper.delivery.trial import Trial
    from shipper.lines.filters import Filters
    from shipper.lines.masking import Masker


AT_A_TIME = 8  # of each sender's: a bound on all together would have a quick one wait for a slow one's
AT_A_TIME_IF_TIGHT = 2  # each has a window, and each sink's queue
FLUSH_SECONDS = 0.05  # for the cursors of a run that is let go; else it is let go the next time


class _Adopted:
    def __init__(self, feed: Feed, lock_fd: int) -> None:
        self.feed = feed
        self.lock_fd = lock_fd
        self.sources: list[tuple[Sender, Source]] = []

    @property
    def senders(self) -> list[Sender]:
        return [sender for sender, _ in self.sources]


class Adopter:
    """Looks through the directory when asked to; what it finds becomes sources of the senders that may have it.

    A few runs at a time, oldest first: each takes descriptors, and a restart loop leaves hundreds. Each sender goes
    through them by itself, so that one whose provider is away keeps no run from the others.
    """

    def __init__(
        self,
        directory: str,
        own: str,
        senders: Sequence[Sender],
        committer: Committer,
        say: Callable[[str], None],
        *,
        keep_lines: bool = False,
        budget: Budget | None = None,
        trial: Trial | None = None,
        multiline: bool = True,
        masker: Masker | None = None,
        filters: Filters | None = None,
    ) -> None:
        self._masker = masker
        self._budget = budget or Budget([sender.name for sender in senders])
        self._trial = trial
        self._multiline = multiline
        self._filters = filters
        self._directory = directory
        self._own = own
        self._senders = senders
        self._committer = committer
        self._say = say
        self._keep_lines = keep_lines
        self._adopted: dict[str, _Adopted] = {}
        self._waiting: dict[Sender, deque[str]] = {sender: deque() for sender in senders}
        self._delivered: dict[str, bool] = {}  # of runs that were looked at since they were listed
        self._at_a_time = AT_A_TIME if self._budget.window_bytes == WINDOW_BYTES else AT_A_TIME_IF_TIGHT
        self._aside: set[str] = set()  # could not be looked at
        self._disk_fails = False  # nor could the one before
        self._told = False

    @property
    def sources(self) -> list[tuple[Sender, Source]]:
        return [pair for adopted in self._adopted.values() for pair in adopted.sources]

    @property
    def feeds(self) -> list[Feed]:
        return [adopted.feed for adopted in self._adopted.values()]

    def waits(self, sender: Sender) -> bool:
        """Whether there are runs that it has not begun with."""
        return bool(self._waiting[sender])

    def held_up(self, sender: Sender) -> bool:
        """Whether it begins with no other run only because those that it has got could not be let go yet."""
        return self.waits(sender) and any(other is sender for _, other, _ in self._done())

    def look(self) -> None:
        """Look for dead runs, and begin with the oldest; never raises. Those that could not be read come last."""
        found = [run for run in runs.list_runs(self._directory) if run != self._own]
        found.sort(key=self._aside.__contains__)
        self._aside.clear()
        self._disk_fails = False
        self._delivered.clear()
        for sender in self._senders:
            held = {adopted.feed.run for adopted in self._adopted.values() if sender in adopted.senders}
            self._waiting[sender] = deque(run for run in found if run not in held)
        self.advance()
        runs.tidy(self._directory, self._own, time.time_ns())

    def advance(self) -> bool:
        """Let go what was got by whom it is for and adopt what comes next; whether something was. Never raises."""
        self._release()
        began = False
        for sender, waiting in self._waiting.items():
            room = self._at_a_time - sum(sender in adopted.senders for adopted in self._adopted.values())
            while waiting and room > 0:
                if self._begin(waiting.popleft(), sender):
                    began = True
                    room -= 1
        return began

    def _begin(self, run: str, sender: Sender) -> bool:
        """Whether the run is the sender's now. One that cannot be read is set aside; after two it is the disk."""
        if run in self._aside:
            return False
        try:
            if run not in self._delivered:
                self._delivered[run] = runs.is_delivered(run, runs.read_facts(run))
            began = not self._delivered[run] and self._adopt(run, sender)
            self._disk_fails = False
            return began
        except runs.LocksUnsupportedError:
            self._tell(
                f"locks do not work in {self._directory}: what an earlier start left there is not sent, "
                "since nobody can tell whether it still runs"
            )
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM):
                return False  # gone meanwhile, or another user's
            self._tell(
                f"what an earlier start left in {self._directory} cannot be read now ({error.strerror}): "
                "it stays there and is looked at again in a minute"
            )
            self._aside.add(run)
            if not self._disk_fails:
                self._disk_fails = True
                return False
        for waiting in self._waiting.values():
            waiting.clear()
        return False

    def _tell(self, text: str) -> None:
        if not self._told:
            self._told = True
            self._say(text)

    def _adopt(self, run: str, sender: Sender) -> bool:
        """Raises OSError."""
        adopted = self._adopted.get(run)
        facts = adopted.feed.facts if adopted is not None else runs.read_facts(run)
        if facts is None or not (sender.name in facts.sinks or sender.name in runs.cursor_sinks(run)):
            return False
        if adopted is None:
            lock_fd = runs.lock(run)
            if lock_fd is None:
                return False  # it lives
            try:
                feed = Feed(
                    run,
                    facts,
                    keep_lines=self._keep_lines,
                    window_bytes=self._budget.window_bytes,
                    queue_bytes=self._budget.queue_bytes,
                    multiline=self._multiline,
                    masker=self._masker,
                    filters=self._filters,
                )
            except OSError:
                os.close(lock_fd)
                raise
            feed.dead = True
            feed.trial = self._trial
            adopted = self._adopted[run] = _Adopted(feed, lock_fd)
        try:
            source = Source(adopted.feed, CursorFile(run, sender.name), self._committer, adopted=True)
        except OSError:
            self._close_unused(adopted)
            raise
        if source.complete:
            adopted.feed.leave(source)
            source.close()
            self._close_unused(adopted)
            return False
        adopted.sources.append((sender, source))
        sender.add(source)
        return True

    def _release(self) -> None:
        """Let go the runs that a sender has got, or that somebody removed."""
        done = self._done()
        if done and self._committer.flush(FLUSH_SECONDS):
            for adopted, sender, source in done:
                adopted.sources.remove((sender, source))
                sender.remove(source)
                adopted.feed.leave(source)
                source.close()
                self._close_unused(adopted)

    def _done(self) -> list[tuple[_Adopted, Sender, Source]]:
        return [
            (adopted, sender, source)
            for adopted in self._adopted.values()
            for sender, source in adopted.sources
            if (adopted.feed.gone or source.complete) and not source.under_way
        ]

    def _close_unused(self, adopted: _Adopted) -> None:
        if not adopted.sources:
            adopted.feed.tell_damage(self._say)
            adopted.feed.close()
            os.close(adopted.lock_fd)
            del self._adopted[adopted.feed.run]
