"""What the figures share: the wrapper as a process, what it costs, a bare intake, lines to print, rows to show.

Every figure compares two things of one and the same run of the bench, A and B in turn, and gives the median of the
repeats; figures of another day or machine are not comparable. MB is 2**20 bytes, as VmRSS counts.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import os
import platform
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.agent import SCENES, restamped, scene
from shipper.config.registry import REGISTRY
from tests.bodies import events_in
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

HERE = Path(__file__).parent
MB = 1024 * 1024
TIMES = "\N{MULTIPLICATION SIGN}"
ALL = tuple(entry.name for entry in REGISTRY)
SHIPPER = (sys.executable, "-I", "-m", "shipper")
CONSOLE_SCRIPT = Path(sys.executable).parent / "shipper"
# Nothing of whoever runs the bench: their settings, secrets and proxies would be measured along.
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "HOME": "/nonexistent"}


class BenchError(Exception):
    """Lines were lost, or something did not run: the figure says nothing, and the bench fails."""


# -- rows --------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """``values``: one a repeat; their median is the figure. ``target``: at most this much; None where there is none."""

    figure: str
    values: Sequence[float]
    unit: str
    target: float | None = None
    digits: int = 2

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.value <= self.target

    def shown(self) -> str:
        low, high = min(self.values), max(self.values)
        spread = f" ({low:,.{self.digits}f} - {high:,.{self.digits}f})" if len(self.values) > 1 else ""
        return f"{self.value:,.{self.digits}f}{spread} {self.unit}"

    def shown_target(self) -> str:
        if self.target is None:
            return ""
        return f"≤ {self.target:g} {self.unit}, {'met' if self.met else 'NOT met'}"


def table(rows: Sequence[Row]) -> str:
    """As the README takes it."""
    lines = ["| figure | here: median (lowest - highest) | target |", "| --- | ---: | --- |"]
    lines += [f"| {row.figure} | {row.shown()} | {row.shown_target()} |" for row in rows]
    return "\n".join(lines)


def machine() -> str:
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0))
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{cores} cores of {model}, {memory_gb:.0f} GB, Linux {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}; load {os.getloadavg()[0]:.1f} at the start"
    )


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


# -- processes ---------------------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """CPU time of a process in all its threads, ended ones too, to the nanosecond, without its children's.

    The id of another process's CPU clock is made as clock_getcpuclockid(3) makes it.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError as error:
        raise BenchError(f"process {pid} has ended before its time") from error


def wait_for_end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """As soon as it ends: Popen.wait with a time-out looks every 50 ms only."""
    if process.poll() is None:
        fd = os.pidfd_open(process.pid)
        try:
            select.select([fd], [], [], seconds)
        finally:
            os.close(fd)
    process.wait(0.1)


def wait_idle(*pids: int) -> None:
    """Until they have used less than a millisecond of CPU in 0.3 s."""
    deadline = time.monotonic() + 60
    used = -1.0
    while True:
        now = sum(map(cpu_seconds, pids))
        if now - used < 0.001:
            return
        if time.monotonic() > deadline:
            raise BenchError("the wrapper does not become idle")
        used = now
        time.sleep(0.3)


def memory_mb(pid: int, field: str) -> float:
    """`Rss` or `Pss` as it is, exact; `VmHWM`: the highest that it has been."""
    name = "status" if field.startswith("Vm") else "smaps_rollup"
    for line in Path(f"/proc/{pid}/{name}").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(f"process {pid} has ended")


def children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, thread.read_text(encoding="ascii").split())
    return found


def kill_tree(pid: int) -> None:
    try:
        below = children(pid)
    except OSError:
        below = []
    for process in (pid, *below):
        try:
            if process != pid:
                kill_tree(process)
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Wrapper:
    """`shipper run -- AGENT` with a journal of its own, and its stdout and stderr read by others, as in a container.

    ``said``: the wrapper's own messages so far.
    """

    def __init__(
        self,
        agent: Sequence[str],
        *,
        url: str = "",
        sinks: Collection[str] = ("datadog",),
        settings: Mapping[str, str] | None = None,
        reader: Sequence[str] = ("cat",),
        reader_out: int = subprocess.DEVNULL,
    ) -> None:
        """``url``: the intake of ``sinks``; without one none is on."""
        self._place = Path(tempfile.mkdtemp(prefix="shipper-bench-"))
        self.journal = self._place / "journal"
        environment = {**ENVIRONMENT, "SHIPPER_DIR": str(self.journal), **(settings or {})}
        if url:
            environment |= variables(url, sinks)
        self.started = time.monotonic()
        with open(self._place / "said", "wb") as said:
            self._out = subprocess.Popen(reader, stdin=subprocess.PIPE, stdout=reader_out)
            self._err = subprocess.Popen(["grep", "-a", "^shipper: "], stdin=subprocess.PIPE, stdout=said)
        assert self._out.stdin is not None
        assert self._err.stdin is not None
        self.process = subprocess.Popen(
            [*SHIPPER, "run", "--", *agent],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._out.stdin,
            stderr=self._err.stdin,
        )
        self._out.stdin.close()
        self._err.stdin.close()
        self.pid = self.process.pid

    def tell(self, data: bytes) -> None:
        """To the agent's stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def worker_pid(self) -> int:
        found: list[int] = []

        def look() -> bool:
            found[:] = [pid for pid in children(self.pid) if b"\0--control-fd\0" in _command_line(pid)]
            return bool(found)

        wait_until(look, what="the worker's start")
        return found[0]

    def wait(self, seconds: float = 60.0) -> int:
        """Its status, once all of its output is read too."""
        for process in (self.process, self._out, self._err):
            wait_for_end(process, seconds)
        return self.process.returncode

    def reader_output(self) -> bytes:
        assert self._out.stdout is not None
        return self._out.stdout.read()

    @property
    def said(self) -> str:
        return (self._place / "said").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for process in (self.process, self._out, self._err):
            if process.poll() is None:
                kill_tree(process.pid)
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if error is not None and self.said:
            progress(f"the wrapper said: {self.said.strip()}")
        shutil.rmtree(self._place, ignore_errors=True)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# -- the intake --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Request:
    """``arrived_ns``: when its last byte was read, on the monotonic clock, which all processes share."""

    arrived_ns: int
    provider: str
    body: bytes

    def events(self) -> list[dict[str, Any]]:
        """Flat, each under the provider's own names."""
        return events_in(self.provider, self.body)


PROVIDERS_BY_NUMBER = ("datadog", "cloudwatch", "sentry", "newrelic")
"""As the intake numbers them."""


class Intake:
    """All providers in a process of its own, which accepts everything, ``delay`` seconds late; see intake.py."""

    def __init__(self, *, listening: bool = True, delay: float = 0.0, host: str = "127.0.0.1") -> None:
        with socket.socket() as listener:
            listener.bind((host, 0))  # bound, so that nobody gets the port; refused until it listens
            self.url = f"http://{host}:{listener.getsockname()[1]}"
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(HERE / "intake.py"), str(listener.fileno()), str(delay)],
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        if listening:
            self.listen()

    def listen(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != b"listening\n":
            raise BenchError("the bench's intake did not start")

    def count(self) -> int:
        """Requests so far."""
        return int(self._get("/count"))

    def take(self) -> list[Request]:
        """All requests since the last call."""
        data = self._get("/take")
        requests = []
        at = 0
        while at < len(data):
            arrived_ns, size = (int.from_bytes(data[start : start + 8], "big") for start in (at, at + 8))
            requests.append(Request(arrived_ns, PROVIDERS_BY_NUMBER[data[at + 16]], data[at + 17 : at + 17 + size]))
            at += 17 + size
        return requests

    def wait_quiet(self, seconds: float = 1.5, longest: float = 120.0) -> None:
        """Until there was no request for so long: more than the flush interval, 1 s."""
        deadline = time.monotonic() + longest
        count, since = self.count(), time.monotonic()
        while time.monotonic() - since < seconds:
            if time.monotonic() > deadline:
                raise BenchError(f"still requests after {longest:.0f} s")
            time.sleep(0.05)
            now = self.count()
            if now != count:
                count, since = now, time.monotonic()

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            data: bytes = answer.read()
            return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()


def check_arrived(
    requests: Sequence[Request], printed: Mapping[str, int], sinks: Collection[str] = ("datadog",)
) -> None:
    """At each provider every line of ``printed``, lines by stream, is in exactly one event; BenchError when not."""
    for sink in sinks:
        seqs: dict[str, list[int]] = {stream: [] for stream in printed}
        for request in requests:
            if request.provider == sink:
                for event in request.events():
                    if "seq" in event:
                        seqs[event["stream"]] += range(event["seq"], event["seq"] + event.get("lines", 1))
        for stream, lines in printed.items():
            missing = lines - len(set(seqs[stream]))
            twice = len(seqs[stream]) - len(set(seqs[stream]))
            if missing or twice:
                raise BenchError(
                    f"{missing} of {lines} lines of {stream} did not arrive at {sink}, {twice} arrived twice"
                )


# -- lines -------------------------------------------------------------------------------------------------------------


def agent_lines(count: int) -> list[tuple[int, bytes]]:
    """Lines of real LiveKit workers (demo/lines), each (descriptor, line), without the empty ones.

    Each captured run over and over for its share, then the next one: an agent is Python or Node, not both in turn. The
    stamps are 1.001 ms apart: real agents do not print the same stamp again and again, and a decoder that keeps those
    it has seen must not profit here from the repetition.
    """
    runs = [[(fd, line) for fd, line in scene(name) if line] for name in SCENES]
    all_lines = sum(map(len, runs))
    at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(milliseconds=1.001) * count
    lines: list[tuple[int, bytes]] = []
    shown = 0
    for run in runs:
        shown += len(run)
        for fd, line in itertools.islice(itertools.cycle(run), count * shown // all_lines - len(lines)):
            lines.append((fd, restamped(line, at)))
            at += datetime.timedelta(microseconds=1001)
    return lines


def write_flood(path: Path, size: int) -> int:
    """A file of at least ``size`` bytes of such lines; the number of lines."""
    block = [line + b"\n" for _, line in agent_lines(20_000)]
    data = b"".join(block)
    times = -(-size // len(data))
    with open(path, "wb") as file:
        file.writelines(itertools.repeat(data, times))
    return times * len(block)


def printer(*arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(HERE / "printer.py"), *arguments]


def place() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="shipper-bench-")


def in_turn(repeats: int, **measures: Callable[[], float]) -> dict[str, list[float]]:
    """Each measure so many times, A B, B A, A B: what drifts hits all alike."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for names in _orders(list(measures), repeats):
        for name in names:
            values[name].append(measures[name]())
    return values


def _orders(names: list[str], repeats: int) -> Iterator[list[str]]:
    for repeat in range(repeats):
        yield names[::-1] if repeat % 2 else names


def ratios(values: Sequence[float], against: Sequence[float]) -> list[float]:
    """Of neighbours in time."""
    return [value / other for value, other in zip(values, against, strict=True)]
