"""Memory limits of 64 and 96 MiB for the whole container, and a worker that meets one."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench.common import ALL, Intake, Request, check_arrived
from tests.containers import engine
from tests.containers.test_cpu import worker_of
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LINES = 200_000

# Both begin with a line, and go on once told: the worker then stands, and what it may hold is decided. So many MiB are
# Python's own; a shell has none.
AGENT = f"""
import signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR1}})
held = b"x" * (int(sys.argv[1]) << 20)
print("begun", flush=True)
signal.sigwait({{signal.SIGUSR1}})
line = b'{{"message":"a line of a flood, of about the length that they have","level":"INFO","pid":7,"n":%d}}\\n'
for start in range(0, {LINES}, 1000):
    sys.stdout.buffer.write(b"".join(line % n for n in range(start, start + 1000)))
sys.stdout.flush()
time.sleep(600)
"""
SHELL = f"""
line='{{"message":"a line of a flood, of about the length that they have","level":"INFO","pid":7}}'
trap go=on USR1
echo begun
while [ -z "$go" ]; do sleep 0.1; done
hundred=$(i=0; while [ $i -lt 100 ]; do echo "$line"; i=$((i + 1)); done)
i=0; while [ $i -lt {LINES // 100} ]; do echo "$hundred"; i=$((i + 1)); done
exec sleep 600
"""

# A process beside the agent takes 1 MiB every so many seconds until the worker is gone, keeps it all for a while, and
# gives it back. Should the kernel want a second one, as it may before the first one's pages are free, it is to be that.
HUNGRY = """
import os, signal, sys, time
def worker():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                if "\\0--restarts\\0" in file.read():
                    return True
        except OSError:
            continue
    return False
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print("before", flush=True)
signal.sigwait({signal.SIGUSR1})
if not os.fork():
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("400")
    held = []
    while worker():
        held.append(b"x" * (1 << 20))
        time.sleep(float(sys.argv[1]))
    time.sleep(4)
    os._exit(0)
os.wait()
print("after", flush=True)
time.sleep(600)
"""


def limited(megabytes: int, *more: str) -> list[str]:
    return ["--memory", f"{megabytes}m", "--memory-swap", f"{megabytes}m", *more]


@pytest.fixture(scope="module")
def image(package: str) -> str:
    assert package == engine.PACKAGE
    return engine.wrapped(engine.BASE)


@pytest.fixture
def intake() -> Iterator[Intake]:
    with Intake(host=engine.gateway()) as intake:
        yield intake


def oom_kills(pid: int) -> int:
    """Of the container that the process is in, as the host sees it."""
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        v1 = Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control")
        v2 = Path(f"/sys/fs/cgroup{path}/memory.events")
        for file, wanted in ((v1, "memory"), (v2, "")):
            if controllers == wanted and file.exists():
                fields = dict(entry.split() for entry in file.read_text(encoding="ascii").splitlines())
                return int(fields["oom_kill"])
    raise AssertionError("no memory cgroup")


def arrived(intake: Intake, sinks: Sequence[str], lines: int, seconds: float) -> list[Request]:
    """All requests, once each sink has that many lines."""
    requests: list[Request] = []
    counts = dict.fromkeys(ALL, 0)

    def there() -> bool:
        for request in intake.take():
            requests.append(request)
            counts[request.provider] += len(request.events())
        return all(counts[sink] >= lines for sink in sinks)

    try:
        wait_until(there, seconds, "all lines at each sink")
    except AssertionError as error:
        raise AssertionError(f"{error}; so many arrived: {counts}") from None
    return requests


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("limit", "agent", "left_out"),
    [
        (64, ["sh", "-c", SHELL], ""),
        (64, ["python3", "-I", "-S", "-c", AGENT, "12"], "CloudWatch and Sentry are left out"),
        (96, ["python3", "-I", "-S", "-c", AGENT, "20"], ""),
    ],
    ids=["64, all four beside a shell", "64, two beside a Python of 20 MiB", "96, all four beside a Python of 28 MiB"],
)
def test_the_sinks_that_fit_get_every_line_and_what_is_left_out_is_said(
    image: str, intake: Intake, limit: int, agent: list[str], left_out: str
) -> None:
    sinks = ["datadog", "newrelic"] if left_out else list(ALL)
    with engine.Running(image, *agent, options=limited(limit), env=variables(intake.url, ALL)) as container:
        requests = arrived(intake, sinks, 1, 60)
        container.kill("USR1")
        requests += arrived(intake, sinks, LINES, 120)
        assert oom_kills(container.pid) == 0
        said = container.logs().stderr.decode()
    check_arrived(requests, {"stdout": 1 + LINES}, sinks)
    assert {request.provider for request in requests} == set(sinks)
    if left_out:
        assert said.count("shipper: ") == 1
        assert f"{left_out}, for the container's memory limit of {limit} MiB does not hold all sinks" in said
        assert "MiB would hold all" in said
    else:
        assert said == ""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "pause", [0.03, 0.0], ids=["while memory grows it makes room by itself", "too quickly: the kernel ends it"]
)
def test_a_worker_that_meets_the_limit_is_named_and_started_again_and_no_line_is_lost(
    image: str, intake: Intake, pause: float
) -> None:
    env = variables(intake.url, ["datadog"])
    command = ["python3", "-I", "-S", "-c", HUNGRY, str(pause)]
    with engine.Running(image, *command, options=limited(80), env=env) as container:
        requests = arrived(intake, ["datadog"], 1, 30)
        if not pause:
            os.kill(worker_of(container), signal.SIGSTOP)  # else it may be quick enough
        container.kill("USR1")
        container.wait_for("ended by the container's memory limit of 80 MiB: no line is lost for that", 30)
        requests += arrived(intake, ["datadog"], 1, 60)
        said = container.logs().stderr.decode()
        assert container.running
        kills = oom_kills(container.pid)
    assert kills in ((0,) if pause else (1, 2))
    assert [event["message"] for request in requests for event in request.events()] == ["before", "after"]
    assert said.count("shipper: ") == 1  # no other was started, to be ended too, while there was no room


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("asked_for", "most"), [("", 96 * 0.05), ("80MiB", 96 / 2)], ids=["by itself", "asked for"])
def test_a_journal_in_memory_is_bounded_by_the_limit(image: str, asked_for: str, most: float) -> None:
    env = {**variables("http://127.0.0.1:9", ["datadog"]), **({"SHIPPER_JOURNAL_MAX": asked_for} if asked_for else {})}
    script = 'yes "$(printf %01000d 0)" | head -c 60000000; touch /done; exec sleep 600'
    options = limited(96, "--tmpfs", "/var/lib/shipper")
    with engine.Running(image, "sh", "-c", script, options=options, env=env) as container:
        wait_until(lambda: container.exec("test", "-e", "/done").status == 0, 60, "the end of the flood")
        used = int(container.exec("du", "-sk", "/var/lib/shipper").stdout.split()[0]) / 1024
        assert most * 0.8 < used < most * 1.1
        assert oom_kills(container.pid) == 0
        said = container.logs().stderr.decode()
    wanted = "SHIPPER_JOURNAL_MAX is 80 MiB, but /var/lib/shipper is memory (a tmpfs), and the container's memory limit"
    assert said.count(f"{wanted} is 96 MiB: 48 MiB are used, half of it") == bool(asked_for)
