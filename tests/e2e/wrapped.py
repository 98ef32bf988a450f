"""An agent under the wrapper, with the sandbox as its provider: what the end-to-end tests start from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from shipper.config.registry import REGISTRY
from shipper.journal import runs
from shipper.journal.cursor import CursorFile
from tests.bodies import Event, events_in
from tests.helpers import is_closing, ledger_of, variables

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from shipper.sandbox.intake import Request
    from shipper.sandbox.server import Sandbox

ROOT = Path(__file__).resolve().parents[2]
ALL = tuple(entry.name for entry in REGISTRY)
CLOSING_BYTES = 4096  # a request with a closing event alone is smaller
TITLES = {entry.name: entry.title for entry in REGISTRY}


class Wrapper:
    """`shipper run -- COMMAND` with its journal in ``directory``; both outputs are kept, beside it or in ``outputs``.

    ``sinks`` are turned on and sent to ``url``, unless that is None; an empty variable in ``environ`` is left out.
    ``before``: a command that takes the wrapper's as its last arguments, such as unshare.
    ``root`` is where the package lies.
    """

    def __init__(
        self,
        directory: Path,
        command: list[str],
        url: str | None,
        environ: Mapping[str, str] | None = None,
        sinks: Collection[str] = ("datadog",),
        outputs: Path | None = None,
        before: Sequence[str] = (),
        cwd: Path | None = None,
        root: Path = ROOT,
    ) -> None:
        self.directory = directory
        self.outputs = outputs or directory.parent
        self._forks = bool(before) and before[0] == "unshare"
        self._out = self.outputs / "stdout"
        self._err = self.outputs / "stderr"
        settings = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        settings |= {"SHIPPER_DIR": str(directory), "SHIPPER_HOST": "worker-1", "SHIPPER_SOURCE": "CA_test"}
        settings["PYTHONPATH"] = str(root)
        settings["SHIPPER_DRAIN_TIMEOUT"] = "40s"  # where all is well it takes none of it, but on a busy machine
        if url is not None:
            settings |= variables(url, sinks)
        settings |= environ or {}
        with open(self._out, "ab") as out, open(self._err, "ab") as err:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "shipper", "run", "--", *command],
                env={name: value for name, value in settings.items() if value},
                cwd=cwd or root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            for pid in [*self.children(), self.pid, self.process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.wait()

    @property
    def stdout(self) -> bytes:
        return self._out.read_bytes()

    @property
    def error(self) -> bytes:
        """All of stderr, which need not be text."""
        return self._err.read_bytes()

    @property
    def stderr(self) -> str:
        return self._err.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The wrapper's own, as we see it; 0 when it has ended within a namespace of its own."""
        if not self._forks:
            return self.process.pid
        found = children(self.process.pid)
        return found[0] if found else 0

    @property
    def said(self) -> list[str]:
        """The wrapper's own messages."""
        return [line.removeprefix("shipper: ") for line in self.stderr.splitlines() if line.startswith("shipper: ")]

    def children(self) -> list[int]:
        return children(self.pid)

    def worker(self) -> int | None:
        """The worker's pid while it lives."""
        for pid in self.children():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"shipper.delivery.start" in command:
                return pid
        return None

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float = 90.0) -> int:
        return self.process.wait(timeout)

    def run_path(self) -> str:
        """The newest run's directory."""
        return runs.list_runs(str(self.directory))[-1]

    def said_of(self, sink: str) -> list[str]:
        """Those that name the provider."""
        return [message for message in self.said if TITLES[sink] in message]

    def cursor(self, sink: str = "datadog") -> dict[str, Any]:
        values = CursorFile.read(self.run_path(), sink)
        assert values is not None
        return values


def children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def printing(code: str, *arguments: str) -> list[str]:
    """A small Python agent."""
    return [sys.executable, "-I", "-c", code, *arguments]


def arrived(sandbox: Sandbox, provider: str = "datadog") -> dict[str, Any]:
    """One provider's side of the sandbox's summary."""
    providers: Any = sandbox.store.summary()["providers"]
    summary: dict[str, Any] = providers[provider]
    return summary


def streams(sandbox: Sandbox, provider: str = "datadog") -> dict[tuple[str, str], dict[str, Any]]:
    """By run and stream."""
    return {(stream["run"], stream["stream"]): stream for stream in arrived(sandbox, provider)["streams"]}


def all_events(sandbox: Sandbox, provider: str = "datadog", most: int = 1_000_000) -> list[dict[str, Any]]:
    """As the sandbox shows them, the first ``most``, without the closing ones and the issue of a crash."""
    events: list[dict[str, Any]] = []
    after = 0
    while len(events) < most:
        page: Any = sandbox.store.events(after=after, limit=min(most, 10_000), provider=provider)
        if not page["events"]:
            break
        events += page["events"]
        after = page["last"]
    return [event for event in events[:most] if not (is_closing(event["attributes"]) or is_issue(event["attributes"]))]


def is_issue(attributes: dict[str, Any]) -> bool:
    """What Sentry is told besides of an agent that failed: an event of our own, of the kind that makes an issue."""
    return attributes.get("logger") == "shipper" and "exception" in attributes


def requests(sandbox: Sandbox, provider: str) -> list[Request]:
    """Those that were taken and held an event that is no closing one, as they came over the wire."""
    return [request for request in _taken(sandbox, provider) if not _closing(provider, request)]


def ledgers(sandbox: Sandbox, provider: str = "datadog") -> list[dict[str, Any]]:
    """What the closing events say that came there, each alone in its request; `level` as the provider has it."""
    closing = [event for request in _taken(sandbox, provider) for event in _closing(provider, request)]
    levels = {"datadog": "status", "sentry": "item.level"}
    texts = {"sentry": "item.body"}
    return [
        {
            **ledger_of(event),
            "run": event["run"],
            "level": event[levels.get(provider, "level")],
            "message": event[texts.get(provider, "message")],
        }
        for event in closing
    ]


def _taken(sandbox: Sandbox, provider: str) -> list[Request]:
    return [kept.request for kept in sandbox.store._kept if kept.intake.name == provider]


def _closing(provider: str, request: Request) -> list[Event]:
    """The one closing event in it, if that is what it holds; beside others there is none."""
    if len(request.body) > CLOSING_BYTES:
        return []
    events = events_in(provider, request.body)
    return events if len(events) == 1 and is_closing(events[0]) else []


def as_sent(sandbox: Sandbox, provider: str) -> list[Event]:
    """Every event in them, under the provider's own names."""
    return [event for request in requests(sandbox, provider) for event in events_in(provider, request.body)]
