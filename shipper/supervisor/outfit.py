"""What the other rooms give the supervisor: settings, facts, the journal and the worker's command.

Loaded by the writer's thread: a secret's file or a livekit.toml on a file system that hangs must hold up no signal.
"""

from __future__ import annotations

import os
import sys

from shipper import messages
from shipper.config import Problem, Settings, load
from shipper.config.identity import find_host, find_source
from shipper.config.registry import REGISTRY
from shipper.journal.facts import Facts, new_run_id
from shipper.journal.notes import Noter
from shipper.journal.writer import JournalWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shipper.supervisor.spawn import Agent

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

WORKER = "import sys; sys.path.append({root!r}); from shipper.delivery.start import main; sys.exit(main())"
"""Appended, so that the package's directory hides no module of the standard library; -I as for the supervisor."""


class Outfit:
    """One run's; tests take another."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._known: Facts | None = None

    def load(self) -> Settings:
        """The settings; what is wrong with them is said."""
        settings = load(os.environ)
        for problem in settings.problems:
            messages.say(problem.message)
        if not settings.sinks:
            messages.say(_nothing_forwarded())
        return settings

    def open_journal(self, settings: Settings) -> JournalWriter:
        """Raises OSError when there is no directory for it, and may be called again then."""
        if self._known is None:
            self._known = self._facts(settings)
        limit, evict = settings.journal_max_bytes, not settings.blocks
        return JournalWriter.create(settings.directories, self._known, limit, evict=evict)

    def noter(self, journal: JournalWriter) -> Noter | None:
        """Who keeps the run's note; None: nobody."""
        return Noter(journal.path, journal.facts, pid=self._agent.pid)

    def worker_command(self, journal: JournalWriter, control_fd: int, restarts: int) -> list[str]:
        return [
            *(sys.executable, "-I", "-c", WORKER.format(root=ROOT)),
            *("--run", journal.path),
            *("--directory", journal.directory),
            *("--control-fd", str(control_fd)),
            *("--lock-fd", str(journal.lock_fd)),
            *("--restarts", str(restarts)),
        ]

    def _facts(self, settings: Settings) -> Facts:
        problems: list[Problem] = []
        try:
            directory = os.getcwd()
        except OSError:  # it was removed
            directory = "/"
        facts = Facts(
            run=new_run_id(),
            host=find_host(os.environ),
            source=find_source(os.environ, self._agent.command, directory, problems),
            service=settings.service,
            tags=settings.tags,
            sinks=settings.sinks,
            max_line=settings.max_line_bytes,
            started_ns=self._agent.started_ns,
            agent=os.path.basename(self._agent.command[0]),
        )
        if problems:
            from shipper.config.needles import hide

            for problem in problems:
                messages.say(hide(os.environ, problem.message))
        return facts


def _nothing_forwarded() -> str:
    if os.environ.get("SHIPPER_SINKS", "").strip():
        return "nothing is forwarded, for SHIPPER_SINKS leaves no sink that has its secret."
    secrets = [f"{' and '.join(entry.secrets)} for {entry.title}" for entry in REGISTRY]
    return f"nothing is forwarded, for no sink is turned on: set {', '.join(secrets[:-1])} or {secrets[-1]}."
