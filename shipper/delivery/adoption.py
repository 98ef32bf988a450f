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


AT_A_TIME = 8
AT_A_TIME_IF_TIGHT = 2  # each has a window, and each sink's queue
FLUSH_SECONDS = 0.05  # for the cursors of a run that is let go; else it is let go the next time


class _Adopted:
    def __init__(self, feed: Feed, lock_fd: int) -> None:
        self.feed = feed
        self.lock_fd = lock_fd
        self.sources: list[tuple[Sender, Source]] = []


class Adopter:
    """Looks through the directory when asked to; what it finds becomes sources of the senders that may have it.

    A few runs at a time, oldest first: each takes descriptors, and a restart loop leaves hundreds.
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
    ) -> None:
        self._budget = budget or Budget([sender.name for sender in senders])
        self._trial = trial
        self._directory = directory
        self._own = own
        self._senders = senders
        self._committer = committer
        self._say = say
        self._keep_lines = keep_lines
        self._adopted: dict[str, _Adopted] = {}
        self._waiting: deque[str] = deque()
        self._at_a_time = AT_A_TIME if self._budget.window_bytes == WINDOW_BYTES else AT_A_TIME_IF_TIGHT
        self._told = False

    @property
    def sources(self) -> list[tuple[Sender, Source]]:
        return [pair for adopted in self._adopted.values() for pair in adopted.sources]

    @property
    def feeds(self) -> list[Feed]:
        return [adopted.feed for adopted in self._adopted.values()]

    def look(self) -> None:
        """Look for dead runs, and begin with the oldest; never raises."""
        self._waiting = deque(
            run for run in runs.list_runs(self._directory) if run != self._own and run not in self._adopted
        )
        self.advance()
        runs.tidy(self._directory, self._own, time.time_ns())

    def advance(self) -> bool:
        """Let go the runs that everybody has got and adopt the next; whether there was one. Never raises."""
        self._release()
        began = False
        while self._waiting and len(self._adopted) < self._at_a_time:
            run = self._waiting.popleft()
            try:
                began = (not runs.is_delivered(run, runs.read_facts(run)) and self._adopt(run)) or began
            except runs.LocksUnsupportedError:
                self._tell(
                    f"locks do not work in {self._directory}: what an earlier start left there is not sent, "
                    "since nobody can tell whether it still runs"
                )
                self._waiting.clear()
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM):
                    continue  # gone meanwhile, or another user's
                self._tell(
                    f"what an earlier start left in {self._directory} cannot be read now ({error.strerror}): "
                    "it stays there and is looked at again in a minute"
                )
                self._waiting.clear()
        return began

    def _tell(self, text: str) -> None:
        if not self._told:
            self._told = True
            self._say(text)

    def _adopt(self, run: str) -> bool:
        """Whether it is ours now. Raises OSError."""
        facts = runs.read_facts(run)
        if facts is None:
            return False
        allowed = set(facts.sinks) | set(runs.cursor_sinks(run))
        takers = [sender for sender in self._senders if sender.name in allowed]
        if not takers:
            return False
        lock_fd = runs.lock(run)
        if lock_fd is None:
            return False  # it lives
        budget = self._budget
        feed = Feed(
            run,
            facts,
            keep_lines=self._keep_lines,
            window_bytes=budget.window_bytes,
            queue_bytes=budget.queue_bytes,
        )
        adopted = _Adopted(feed, lock_fd)
        adopted.feed.dead = True
        adopted.feed.trial = self._trial
        try:
            for sender in takers:
                source = Source(adopted.feed, CursorFile(run, sender.name), self._committer, adopted=True)
                adopted.sources.append((sender, source))
        except OSError:
            for _, source in adopted.sources:
                source.close()
            os.close(lock_fd)
            raise
        self._adopted[run] = adopted
        for sender, source in adopted.sources:
            sender.add(source)
        return True

    def _release(self) -> None:
        """Let go the runs that everybody has got, or that somebody removed."""
        for run, adopted in list(self._adopted.items()):
            done = adopted.feed.gone or all(source.complete for _, source in adopted.sources)
            done = done and not any(source.under_way for _, source in adopted.sources)
            if done and self._committer.flush(FLUSH_SECONDS):
                for sender, source in adopted.sources:
                    sender.remove(source)
                    source.close()
                adopted.feed.tell_damage(self._say)
                adopted.feed.close()
                os.close(adopted.lock_fd)
                del self._adopted[run]
