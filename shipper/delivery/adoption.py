"""Runs whose wrapper died: found by their free lock, delivered under their own facts, tidied up afterwards."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from shipper.delivery.feed import Feed
from shipper.delivery.source import Source
from shipper.journal import runs
from shipper.journal.cursor import CursorFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shipper.delivery.commits import Committer
    from shipper.delivery.sender import Sender


class _Adopted:
    def __init__(self, feed: Feed, lock_fd: int) -> None:
        self.feed = feed
        self.lock_fd = lock_fd
        self.sources: list[tuple[Sender, Source]] = []


class Adopter:
    """Looks through the directory when asked to; what it finds becomes sources of the senders that may have it."""

    def __init__(
        self, directory: str, own: str, senders: Sequence[Sender], committer: Committer, say: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._own = own
        self._senders = senders
        self._committer = committer
        self._say = say
        self._adopted: dict[str, _Adopted] = {}
        self._told = False

    @property
    def sources(self) -> list[tuple[Sender, Source]]:
        return [pair for adopted in self._adopted.values() for pair in adopted.sources]

    @property
    def feeds(self) -> list[Feed]:
        return [adopted.feed for adopted in self._adopted.values()]

    def look(self) -> None:
        """Adopt what is dead and not wholly delivered, let go what is; never raises."""
        self.release()
        for run in runs.list_runs(self._directory):
            if run == self._own or run in self._adopted:
                continue
            try:
                if not runs.is_delivered(run, runs.read_facts(run)):
                    self._adopt(run)
            except runs.LocksUnsupportedError:
                if not self._told:
                    self._told = True
                    self._say(
                        f"locks do not work in {self._directory}: what an earlier start left there is not sent, "
                        "since nobody can tell whether it still runs"
                    )
                return
            except OSError:
                continue  # gone meanwhile, or another user's
        runs.tidy(self._directory, self._own, time.time_ns())

    def _adopt(self, run: str) -> None:
        """Raises OSError."""
        facts = runs.read_facts(run)
        if facts is None:
            return
        allowed = set(facts.sinks) | set(runs.cursor_sinks(run))
        takers = [sender for sender in self._senders if sender.name in allowed]
        if not takers:
            return
        lock_fd = runs.lock(run)
        if lock_fd is None:
            return  # it lives
        try:
            feed = Feed(run, facts)
        except OSError:
            os.close(lock_fd)
            raise
        feed.final = True
        adopted = self._adopted[run] = _Adopted(feed, lock_fd)
        for sender in takers:
            source = Source(feed, CursorFile(run, sender.name), self._committer, adopted=True)
            adopted.sources.append((sender, source))
            if not source.complete:
                sender.add(source)

    def release(self) -> None:
        """Let go the runs that everybody has got."""
        for run, adopted in list(self._adopted.items()):
            if all(source.complete for _, source in adopted.sources) and self._committer.flush(0.0):
                for sender, source in adopted.sources:
                    sender.remove(source)
                    source.close()
                adopted.feed.close()
                os.close(adopted.lock_fd)
                del self._adopted[run]
