"""An agent under the wrapper, with the sandbox as its provider: what the end-to-end tests start from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from shipper.journal import runs
from shipper.journal.cursor import CursorFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shipper.sandbox.server import Sandbox

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "pub0123456789abcdef0123456789abcdef"


class Wrapper:
    """`shipper run -- COMMAND` with its journal in ``directory``; both outputs are kept."""

    def __init__(
        self, directory: Path, command: list[str], url: str | None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.outputs = directory.parent
        self._out = self.outputs / "stdout"
        self._err = self.outputs / "stderr"
        variables = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        variables |= {"SHIPPER_DIR": str(directory), "SHIPPER_HOST": "worker-1", "SHIPPER_SOURCE": "CA_test"}
        variables["PYTHONPATH"] = str(ROOT)
        if url is not None:
            variables |= {"DATADOG_TOKEN": TOKEN, "SHIPPER_DATADOG_URL": url}
        variables |= environ or {}
        with open(self._out, "ab") as out, open(self._err, "ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "shipper", "run", "--", *command],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            for pid in [*self.children(), self.process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.wait()

    @property
    def stdout(self) -> bytes:
        return self._out.read_bytes()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    @property
    def said(self) -> list[str]:
        """The wrapper's own messages."""
        return [line.removeprefix("shipper: ") for line in self.stderr.splitlines() if line.startswith("shipper: ")]

    def children(self) -> list[int]:
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
                return [int(pid) for pid in file.read().split()]
        except OSError:
            return []

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
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = 30.0) -> int:
        return self.process.wait(timeout)

    def run_path(self) -> str:
        """The newest run's directory."""
        return runs.list_runs(str(self.directory))[-1]

    def cursor(self) -> dict[str, Any]:
        values = CursorFile.read(self.run_path(), "datadog")
        assert values is not None
        return values


def printing(code: str, *arguments: str) -> list[str]:
    """A small Python agent."""
    return [sys.executable, "-I", "-c", code, *arguments]


def arrived(sandbox: Sandbox) -> dict[str, Any]:
    """Datadog's side of the sandbox's summary."""
    providers: Any = sandbox.store.summary()["providers"]
    summary: dict[str, Any] = providers["datadog"]
    return summary


def streams(sandbox: Sandbox) -> dict[tuple[str, str], dict[str, Any]]:
    """By run and stream."""
    return {(stream["run"], stream["stream"]): stream for stream in arrived(sandbox)["streams"]}


def all_events(sandbox: Sandbox) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    after = 0
    while True:
        page: Any = sandbox.store.events(after=after, limit=10_000)
        if not page["events"]:
            return events
        events += page["events"]
        after = page["last"]
