"""Disks of the tests' own that freeze, are full, read-only, or go away; and an agent on them, bare and wrapped."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from shipper.sandbox.server import running_in_thread
from tests.e2e.wrapped import all_events
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shipper.sandbox.server import Sandbox

ROOT = Path(__file__).resolve().parents[2]
AGENT = ROOT / "tests" / "agents" / "measured.py"
USER = 54321  # nobody else's on the machine, for its processes are counted
WRITE_SLACK = 0.3  # seconds that the agent's longest write may take longer than bare
STATUS = 7
NEEDED = ("mkfs.ext4", "mkfs.btrfs", "btrfs", "fsfreeze", "losetup", "mount", "umount", "setpriv")


def why_not() -> str:
    """Why these tests cannot run here; empty when they can."""
    if os.geteuid():
        return "needs root: file systems of its own"
    missing = [tool for tool in NEEDED if not shutil.which(tool)]
    if missing:
        return f"needs {', '.join(missing)}"
    with tempfile.TemporaryDirectory() as place:
        image = Path(place) / "image"
        with image.open("wb") as file:
            file.truncate(8 << 20)
        _tool("mkfs.ext4", "-q", image)
        return "" if _tried("mount", "-o", "loop", image, place) and _tried("umount", place) else "needs loop devices"


def _tool(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=60)


def _tried(*command: object) -> bool:
    return subprocess.run([str(word) for word in command], capture_output=True, timeout=60).returncode == 0


class Disk:
    """A file system at ``path``; what is done to it is undone by the next call, or at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def freeze(self) -> None:
        _tool("fsfreeze", "-f", self.path)

    def thaw(self) -> None:
        _tool("fsfreeze", "-u", self.path)

    def fill(self) -> None:
        """Somebody else takes every byte that is free."""
        size = 1 << 16
        fd = os.open(self.path / "ballast", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        while size:
            try:
                os.write(fd, os.urandom(size))
            except OSError:
                size //= 2
        os.close(fd)

    def empty(self) -> None:
        os.unlink(self.path / "ballast")

    def take_inodes(self) -> None:
        number = 0
        try:
            while True:
                (self.path / f"inode-{number}").touch(exist_ok=False)
                number += 1
        except OSError:
            pass

    def give_inodes(self) -> None:
        for path in self.path.glob("inode-*"):
            path.unlink()

    def read_only(self) -> None:
        _tool("mount", "-o", "remount,ro", self.path)

    def writable(self) -> None:
        _tool("mount", "-o", "remount,rw", self.path)

    def fail(self) -> None:
        """What ext4 does by itself when the device below it fails: from now on it takes no write."""
        subprocess.run(["mount", "-o", "remount,abort", str(self.path)], capture_output=True, check=False)

    def lose_journal(self) -> None:
        journal = self.path / "journal"
        while journal.exists():  # a cursor or a note may be made again in the middle
            shutil.rmtree(journal, ignore_errors=True)


@contextmanager
def disk(kind: str, options: str = "") -> Iterator[Disk]:
    """``kind``: ext4 (16 MiB) or btrfs (64 MiB, the journal bounded to 1 MiB by a quota) on a loop device, or tmpfs.

    Nothing of the tests' own temporary directory: whoever runs the agent is to get there.
    """
    place = Path(tempfile.mkdtemp(prefix="sick-"))
    place.chmod(0o755)
    path = place / "disk"
    path.mkdir()
    image = place / "image"
    if kind == "tmpfs":
        _tool("mount", "-t", "tmpfs", "-o", options or "size=16m", "none", path)
    else:
        with image.open("wb") as file:
            file.truncate((64 if kind == "btrfs" else 16) << 20)
        _tool(f"mkfs.{kind}", "-q", *(["--mixed"] if kind == "btrfs" else []), image)
        _tool("mount", "-o", "loop", image, path)
    try:
        if kind == "btrfs":
            _tool("btrfs", "quota", "enable", path)
            _tool("btrfs", "subvolume", "create", path / "journal")
            _tool("btrfs", "qgroup", "limit", "1M", path / "journal")
        yield Disk(path)
    finally:
        _tried("fsfreeze", "-u", path)
        _tool("umount", "-l", path)
        shutil.rmtree(place)


class Agent:
    """tests/agents/measured.py, bare or wrapped: both outputs in pipes that are read at once."""

    def __init__(self, before: Sequence[str], environ: dict[str, str], result: Path, **options: Any) -> None:
        self._result = result
        self.number = 0
        self.process = subprocess.Popen(
            [*before, sys.executable, "-I", str(AGENT), str(result)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", **options,
        )  # fmt: skip
        self._printed = {1: bytearray(), 2: bytearray()}
        self._expected = bytearray()
        pipes = ((1, self.process.stdout), (2, self.process.stderr))
        self._threads = [threading.Thread(target=self._read, args=pair, daemon=True) for pair in pipes]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        for thread in self._threads:
            thread.join(5)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _read(self, stream: int, pipe: Any) -> None:
        while data := os.read(pipe.fileno(), 1 << 16):
            self._printed[stream] += data

    def print(self, count: int, width: int = 60, pause: float = 0.001) -> None:
        """So many lines more on each stream; returns when all have been passed on."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"%d %d %f\n" % (count, width, pause))
        self.process.stdin.flush()
        for number in range(self.number + 1, self.number + count + 1):
            self._expected += b"%d %s %d\n" % (number, b"." * width, number)
        self.number += count
        last = b" %d\n" % self.number
        wait_until(lambda: all(last in self._printed[stream][-2000:] for stream in (1, 2)), 20, "the last line")

    def end(self, timeout: float = 30.0) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(5)
        return status

    def longest(self) -> float:
        """Seconds, of all its writes."""
        return float(self._result.read_text())

    def said(self) -> list[str]:
        """The wrapper's own messages; they go to the agent's stderr, each with one write."""
        return [line.decode()[9:] for line in re.findall(rb"shipper: [^\n]*", bytes(self._printed[2]))]

    def passed_on(self) -> bool:
        """Whether all that it printed came out, byte for byte."""
        own = re.sub(rb"shipper: [^\n]*\n", b"", bytes(self._printed[2]))
        return self._printed[1] == self._expected and own == self._expected


def as_user() -> list[str]:
    """What a command begins with that another user runs; he may read everything, for Python may lie in root's home."""
    caps = [f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *caps]


def wrapped(place: Path, url: str, result: Path, other: bool = False, **options: Any) -> Agent:
    """Under `shipper run`, its journal at ``place``, and Datadog at ``url``."""
    before = [*(as_user() if other else []), sys.executable, "-m", "shipper", "run", "--"]
    environ = {
        **variables(url, ["datadog"]),
        "SHIPPER_DIR": str(place),
        "SHIPPER_HOST": "worker-1",
        "SHIPPER_SOURCE": "CA_test",
        "SHIPPER_DRAIN_TIMEOUT": "60s",  # on a busy machine the worker, with the lowest priority, starts late
        **options.pop("environ", {}),
    }
    return Agent(before, environ, result, **options)


class Account(NamedTuple):
    """Of one stream: the numbers that arrived, and those announced as lost, by reason; ``said``: only on stderr."""

    arrived: set[int]
    announced: dict[str, set[int]]
    said: set[int]

    @property
    def lost(self) -> set[int]:
        return set().union(*self.announced.values(), self.said)


def account(sandbox: Sandbox, said: Sequence[str]) -> dict[str, Account]:
    """By stream; every number is looked up in the line itself."""
    accounts = {name: Account(set(), {}, set()) for name in ("stdout", "stderr")}
    for event in all_events(sandbox):
        own = event["attributes"]
        if own.get("logger") == "shipper":
            numbers = set(range(own["first_seq"], own["last_seq"] + 1))
            assert own["lost"] == len(numbers)
            accounts[event["stream"]].announced.setdefault(own["reason"], set()).update(numbers)
        else:
            assert int(event["message"].split(" ", 1)[0]) == event["seq"]
            accounts[event["stream"]].arrived.add(event["seq"])
    for message in said:
        for first, last, stream in re.findall(r"lines? (\d+)(?: to (\d+))? of (\w+)", message):
            accounts[stream].said.update(range(int(first), int(last or first) + 1))
    return accounts


FLOOD = (400, 32_000, 0.0)  # 26 MB at once: three times what the wrapper keeps in memory, so that it has to wait
TRICKLE = (20, 32_000, 0.02)


def longest_writes(seconds: float = 5.0) -> tuple[float, float]:
    """The agent's longest write in seconds, bare and wrapped, while the journal's disk is frozen for ``seconds``.

    Needs root, ext4 and fsfreeze.
    """
    with disk("ext4") as sick, running_in_thread() as sandbox, tempfile.TemporaryDirectory() as results:
        bare, own = Path(results) / "bare", Path(results) / "wrapped"
        with Agent((), {}, bare) as agent:
            agent.print(*FLOOD)
            agent.print(*TRICKLE)
            agent.end()
            without = agent.longest()
        with wrapped(sick.path / "journal", sandbox.url, own) as agent:
            agent.print(10)
            began = time.monotonic()
            sick.freeze()
            try:
                agent.print(*FLOOD)
                while time.monotonic() - began < seconds:
                    agent.print(*TRICKLE)
            finally:
                sick.thaw()
            agent.end()
            return without, agent.longest()
