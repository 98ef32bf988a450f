"""Agents under the wrapper, as these tests start them; and what their journal holds."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipper.journal import runs
from shipper.journal.reader import End, Gap, Lines, RunReader, State

if TYPE_CHECKING:
    from collections.abc import Sequence

AGENTS = Path(__file__).parent.parent / "agents"
PYTHON = sys.executable
SLACK = 15.0  # seconds that a busy machine may be late: what is tested is which time-out ended a wait, not how exactly
started: list[subprocess.Popen[bytes]] = []  # conftest.py ends them
SIGNALS = (PYTHON, "-I", str(AGENTS / "signals.py"))


def wrapper(command: Sequence[str], **parts: Any) -> list[str]:
    """The command line that runs ``command`` as the agent; ``parts`` as in agents/launch.py."""
    return [PYTHON, "-I", str(AGENTS / "launch.py"), json.dumps(parts), "run", "--", *command]


def environment(directory: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "SHIPPER_DIR": str(directory / "journal"), **more}


def wrap(
    directory: Path, command: Sequence[str], parts: dict[str, Any] | None = None, **more: Any
) -> subprocess.Popen[bytes]:
    """The started wrapper, its stdout and stderr in pipes unless ``more`` says otherwise."""
    variables = more.pop("env", {})
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    process = subprocess.Popen(wrapper(command, **(parts or {})), env=environment(directory, **variables), **options)
    started.append(process)
    return process


def run(
    directory: Path, command: Sequence[str], parts: dict[str, Any] | None = None, **more: Any
) -> tuple[int, bytes, str]:
    """Status, stdout, and what we said on stderr."""
    data = more.pop("input", None)
    process = wrap(directory, command, parts, **({"stdin": subprocess.PIPE} if data is not None else {}), **more)
    stdout, stderr = process.communicate(data, timeout=30)
    return process.returncode, stdout, (stderr or b"").decode()


def read_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def ready_pid(process: subprocess.Popen[bytes]) -> int:
    """The pid of an agent that is agents/signals.py, once it is ready."""
    word, pid = read_line(process).split()
    assert word == "ready"
    return int(pid)


class Kept:
    """What the only run's journal holds: lines a stream, gaps (stream, bytes), the agent's end."""

    def __init__(self, directory: Path) -> None:
        self.lines: dict[int, list[bytes]] = {1: [], 2: []}
        self.gaps: list[Any] = []
        self.end: dict[str, Any] | None = None
        (path,) = runs.list_runs(str(directory / "journal"))
        self.facts = runs.read_facts(path)
        reader = RunReader(path)
        state = State.start()
        while True:
            window, state = reader.read(state, dead=True)
            for item in window.items:
                if isinstance(item, Lines):
                    self.lines[item.stream] += item.lines
                elif isinstance(item, Gap):
                    self.gaps.append(item)
                elif isinstance(item, End):
                    self.end = item.info
            if window.at_end:
                break
        reader.close()


class Terminal:
    """A pseudo-terminal, and a session that has it as its own."""

    def __init__(self, directory: Path, command: Sequence[str]) -> None:
        self.seen = b""
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            command,
            env=environment(directory, PS1="$ ", TERM="dumb"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        started.append(self.process)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def expect(self, pattern: str, timeout: float = 15.0) -> str:
        """What came up to and with the regular expression; it is taken out of ``seen``."""
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern.encode(), self.seen)):
            assert time.monotonic() < deadline, f"{pattern!r} did not come: {self.seen!r}"
            self._read(0.1)
        found, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return found.decode()

    def rest(self) -> str:
        """What comes until the session's first process ends."""
        while self.process.poll() is None or self._read(0.0):
            self._read(0.1)
        return self.seen.decode()

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = -1

    def close(self) -> None:
        if self._master >= 0:
            self.hang_up()

    def _read(self, timeout: float) -> bool:
        waiting = select.poll()  # select(2) knows no descriptor above 1,023
        waiting.register(self._master, select.POLLIN)
        if not waiting.poll(timeout * 1000):
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # nobody has the terminal open any more
            time.sleep(min(timeout, 0.01))
            return False
        self.seen += data
        return bool(data)
