"""What goes wrong with one provider, end to end: the others are not delayed, nothing is lost, and a sentence tells."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from shipper.config.registry import REGISTRY
from shipper.journal import runs
from shipper.journal.facts import Facts
from shipper.journal.numbering import STDOUT
from shipper.journal.writer import JournalWriter
from tests.bodies import events_in
from tests.delivery.delivery_helpers import NOW_NS
from tests.e2e.wrapped import ALL, TITLES, Wrapper, all_events, arrived, printing, requests, streams
from tests.helpers import variables, wait_until
from tests.supervisor.wrapping import SLACK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shipper.sandbox.server import Sandbox
    from tests.chaos.gate import Gates

WORDS = "in the agent's own words"

TALKING = f"""
import os, sys, time
place, n = sys.argv[1], 0
for number, count in enumerate(map(int, sys.argv[2:])):
    while number and not os.path.exists(f"{{place}}/go-{{number}}"):
        time.sleep(0.01)
    for _ in range(count):
        n += 1
        print("line", n, {WORDS!r})
    sys.stdout.flush()
while not os.path.exists(f"{{place}}/end"):
    time.sleep(0.01)
sys.exit(7)
"""
"""Prints so many lines, then more each time when it is told, and ends with 7."""


class Talk(Wrapper):
    """TALKING under the wrapper, each sink sent through its own gate."""

    def __init__(
        self,
        directory: Path,
        gates: Gates,
        counts: Sequence[int],
        environ: dict[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        self._counts = counts
        self._step = 0
        settings = {name: value for sink in ALL for name, value in variables(gates.url(sink), [sink]).items()}
        self._secrets = [value for name, value in settings.items() if name.endswith(("KEY", "TOKEN", "DSN"))]
        agent = printing(TALKING, str(directory.parent), *map(str, counts))
        super().__init__(directory, agent, None, settings | (environ or {}), before=before)

    def go_on(self) -> None:
        self._step += 1
        (self.outputs / f"go-{self._step}").touch()

    def end(self, timeout: float = 90) -> None:
        """Let the agent end. What it printed and its status are its own, and whatever was said is fit to be read."""
        (self.outputs / "end").touch()
        assert self.wait(timeout) == 7
        total = sum(self._counts)
        assert self.stdout.decode() == "".join(f"line {n} {WORDS}\n" for n in range(1, total + 1))
        for line in self.stderr.splitlines():
            assert line.startswith("shipper: ")
        assert not any(text in self.stderr for text in ("Traceback", WORDS, *self._secrets))


def lines_at(sandbox: Sandbox, sink: str) -> int:
    return int(arrived(sandbox, sink)["lines"])


def wait_for(sandbox: Sandbox, count: int, sinks: Sequence[str] = ALL) -> None:
    for sink in sinks:
        what = f"{count} lines at {sink}"
        wait_until(lambda name=sink: lines_at(sandbox, name) >= count, 40, what)  # type: ignore[misc]


def others(*sinks: str) -> list[str]:
    return [name for name in ALL if name not in sinks]


def assert_every_line_came(sandbox: Sandbox, count: int, sinks: Sequence[str] = ALL) -> None:
    for sink in sinks:
        (stream,) = arrived(sandbox, sink)["streams"]
        assert (stream["first_seq"], stream["last_seq"], stream["missing"]) == (1, count, 0), sink


# -- one provider is away ----------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """``gate``: the mode of the sink's; ``order``: the sandbox's fault; ``words``: a pattern that is found in what is
    said; "" where that is only after a time-out of 30 s, and so as a rule not in this test."""

    sink: str
    words: str = ""
    gate: str = ""
    order: dict[str, Any] = {}  # noqa: RUF012 (nobody writes to it)


FAULTS = {
    "nobody listens": Fault("cloudwatch", "could not be reached", "refuse"),
    "hangs": Fault("datadog", "", "hang"),
    "drips": Fault("datadog", "", "drip"),
    "resets in mid-answer": Fault("newrelic", "broke off|closed the connection", "reset"),
    "the network is cut": Fault("sentry", "", "cut"),
    "closes without an answer": Fault("cloudwatch", "closed the connection", "", {"down": True}),
    "500": Fault("sentry", "status 500", "", {"status": 500}),
    "503 with Retry-After": Fault("newrelic", "status 503", "", {"status": 503, "retry_after": 1}),
    "429": Fault("datadog", "asks for fewer requests", "", {"status": 429}),
    "429 with Retry-After": Fault("newrelic", "asks for fewer requests", "", {"status": 429, "retry_after": 1}),
    "a rate limit": Fault("sentry", "rate limit", "", {"status": 429, "rate_limits": "1:log_item:organization"}),
    "throttling": Fault("cloudwatch", "ThrottlingException", "", {"status": 429}),
}
PAIRS = [
    ("nobody listens", "hangs"), ("drips", "resets in mid-answer"), ("the network is cut", "closes without an answer"),
    ("500", "503 with Retry-After"), ("429", "a rate limit"), ("throttling", "429 with Retry-After"),
]  # fmt: skip
BEFORE, MEANWHILE = 100, 2900  # lines; the second are several requests at Datadog and Sentry
ALL_LINES = BEFORE + MEANWHILE


@pytest.mark.parametrize("names", PAIRS, ids=", ".join)
def test_while_a_provider_is_away_the_others_have_every_line_and_then_it_gets_its_own_oldest_first(
    sandbox: Sandbox, gates: Gates, directory: Path, names: tuple[str, str]
) -> None:
    """Of two that are away one comes back first: then three have every line."""
    faults = [FAULTS[name] for name in names]
    away = [fault.sink for fault in faults]
    with Talk(directory, gates, (BEFORE, MEANWHILE)) as talk:
        wait_for(sandbox, BEFORE)
        for sink in away:
            wait_until(lambda name=sink: talk.cursor(name)["delivered"] == BEFORE, what="its cursor")  # type: ignore[misc]
        known = {sink: len(requests(sandbox, sink)) for sink in away}
        for fault in faults:
            gates.set(fault.sink, fault.gate or "open")
            if fault.order:
                sandbox.fault(fault.sink, **fault.order)
        talk.go_on()
        wait_for(sandbox, ALL_LINES, others(*away))
        for fault in faults:
            assert talk.cursor(fault.sink)["delivered"] < ALL_LINES
            if fault.words:
                wait_until(lambda name=fault.sink: talk.said_of(name), 30, "a word about it")  # type: ignore[misc]
        for fault, still in zip(faults, [away[1:], []], strict=True):
            gates.set(fault.sink, "open")
            sandbox.fault(fault.sink)
            wait_for(sandbox, ALL_LINES, others(*still))
            for sink in still:
                assert talk.cursor(sink)["delivered"] < ALL_LINES
        talk.end()
        for fault in faults:
            said = talk.said_of(fault.sink)
            title = TITLES[fault.sink]
            if fault.words or said:
                words = fault.words or "did not answer"
                assert re.match(f"{title} does not take lines at the moment \\(.*({words}).*\\): they wait", said[0])
            assert said[1:] == ([f"{title} takes lines again"] if said else [])
        assert len(talk.said) == sum(len(talk.said_of(sink)) for sink in away)
        assert {talk.cursor(sink)["delivered"] for sink in ALL} == {ALL_LINES}
    assert_every_line_came(sandbox, ALL_LINES)
    for sink in away:
        first = requests(sandbox, sink)[known[sink]]
        assert events_in(sink, first.body)[0]["seq"] == BEFORE + 1


NAME = "intake.shipper.test"


def test_a_name_that_has_no_address_is_said_and_once_it_has_one_every_line_arrives(
    sandbox: Sandbox, gates: Gates, directory: Path
) -> None:
    """In a mount namespace of its own, where names come from a file alone."""
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace, and so to be root")
    hosts, switch = directory.parent / "hosts", directory.parent / "nsswitch.conf"
    hosts.write_text("127.0.0.1 localhost\n")
    switch.write_text("hosts: files\n")
    script = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@"'
    before = ["unshare", "-m", "sh", "-c", script, "sh", str(hosts), str(switch)]
    environ = variables(gates.url("datadog").replace("127.0.0.1", NAME), ["datadog"])
    with Talk(directory, gates, (200,), environ, before) as talk:
        wait_for(sandbox, 200, others("datadog"))
        wait_until(lambda: talk.said, 30, "a word about it")
        assert f"The name {NAME} could not be resolved: is SHIPPER_DATADOG_URL right" in talk.said[0]
        with open(hosts, "a") as file:
            file.write(f"127.0.0.1 {NAME}\n")
        wait_for(sandbox, 200)
        talk.end()
        assert talk.said[1:] == ["Datadog takes lines again"]
    assert_every_line_came(sandbox, 200)


# -- one line, or one secret, is refused for good ----------------------------------------------------------------------

POISON = 150


def announced(sandbox: Sandbox, sink: str, reason: str = "rejected") -> list[tuple[int, int, int]]:
    """First and last number, and how many lines, of each loss that an event tells of."""
    notices = [event["attributes"] for event in all_events(sandbox, sink) if event["seq"] is None]
    lost = [notice for notice in notices if "lost" in notice]
    assert all(notice["reason"] == reason for notice in lost)
    return sorted((notice["first_seq"], notice["last_seq"], notice["lost"]) for notice in lost)


@pytest.mark.parametrize("status", [400, 413])
def test_a_line_that_is_refused_in_the_middle_is_announced_and_its_neighbours_arrive(
    sandbox: Sandbox, gates: Gates, directory: Path, status: int
) -> None:
    for sink in ALL:
        sandbox.fault(sink, status=status, containing=f"line {POISON} {WORDS}")
    with Talk(directory, gates, (100, 200)) as talk:
        wait_for(sandbox, 100)
        talk.go_on()
        wait_for(sandbox, 299)
        talk.end()
        for sink in ALL:
            cursor = talk.cursor(sink)
            assert (cursor["delivered"], cursor["dropped"]) == (299, {"rejected": 1})
            (said,) = talk.said_of(sink)
            assert said.startswith(f"{TITLES[sink]} did not take a line of stdout (")
            assert str(status) in said
    for sink in ALL:
        assert announced(sandbox, sink) == [(POISON, POISON, 1)]
        assert arrived(sandbox, sink)["streams"][0]["gaps"] == [[POISON, POISON]]


def test_events_that_cloudwatch_keeps_out_of_a_request_are_announced_there_alone(
    sandbox: Sandbox, gates: Gates, directory: Path
) -> None:
    with Talk(directory, gates, (100, 200)) as talk:
        wait_for(sandbox, 100)
        sandbox.fault("cloudwatch", reject={"too_old": 2, "too_new": 1}, count=1)
        talk.go_on()
        wait_for(sandbox, 297, ["cloudwatch"])
        wait_for(sandbox, 300, others("cloudwatch"))
        talk.end()
        assert talk.cursor("cloudwatch")["dropped"] == {"rejected": 3}
        (said,) = talk.said
        assert "CloudWatch did not take" in said
    assert announced(sandbox, "cloudwatch") == [(101, 102, 2), (300, 300, 1)]
    assert lines_at(sandbox, "cloudwatch") == 297
    assert_every_line_came(sandbox, 300, others("cloudwatch"))


def test_a_secret_that_was_replaced_in_its_file_is_taken_in_the_drain_at_the_latest(
    sandbox: Sandbox, gates: Gates, directory: Path, tmp_path: Path
) -> None:
    """A refused one is tried again after a minute, and when the drain begins."""
    environ: dict[str, str] = {}
    good: dict[str, str] = {}
    for entry in REGISTRY:
        good |= {name: variables(gates.url(entry.name), [entry.name])[name] for name in entry.secrets}
    for name, secret in good.items():
        environ |= {name: "", f"{name}_FILE": str(tmp_path / name)}
        (tmp_path / name).write_text(secret)
    # The sandbox takes whatever has a key's form, but for CloudWatch's: there it checks the signature.
    (tmp_path / "DATADOG_TOKEN").write_text(good["DATADOG_TOKEN"][:-4] + "0123")
    (tmp_path / "AWS_SECRET_ACCESS_KEY").write_text(good["AWS_SECRET_ACCESS_KEY"][::-1])
    for sink in others("cloudwatch"):
        sandbox.fault(sink, status=403)
    with Talk(directory, gates, (100, 200), environ) as talk:
        wait_until(lambda: len(talk.said) == len(ALL), 30, "a word about each")
        for entry in REGISTRY:
            (said,) = talk.said_of(entry.name)
            assert any(f"{name}_FILE" in said for name in entry.secrets)
            assert f"nothing goes to {entry.title} until that is mended" in said
        talk.go_on()
        wait_until(lambda: talk.stdout.count(b"\n") == 300, what="all lines of the agent, which nobody holds up")
        assert not any(lines_at(sandbox, sink) for sink in ALL)
        for name, secret in good.items():
            (tmp_path / name).write_text(secret)
            assert secret not in talk.stderr
        for sink in ALL:
            sandbox.fault(sink)
        talk.end()
        assert sorted(talk.said[len(ALL) :]) == sorted(f"{title} takes lines again" for title in TITLES.values())
    assert_every_line_came(sandbox, 300)
    assert {request.headers["dd-api-key"][-4:] for request in requests(sandbox, "datadog")} == {
        good["DATADOG_TOKEN"][-4:]
    }


# -- the bound ---------------------------------------------------------------------------------------------------------


def size_of(directory: Path) -> int:
    size = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # the oldest go meanwhile
            size += path.stat().st_size
    return size


def test_past_the_bound_only_those_lose_lines_that_are_away_or_refuse_the_secret(
    sandbox: Sandbox, gates: Gates, directory: Path
) -> None:
    away, refusing = "sentry", "newrelic"
    steps = [100, *[6000] * 10]
    with Talk(directory, gates, steps, {"SHIPPER_JOURNAL_MAX": "1MiB"}) as talk:
        wait_for(sandbox, 100)
        for sink in (away, refusing):
            wait_until(lambda name=sink: talk.cursor(name)["delivered"] == 100, what="its cursor")  # type: ignore[misc]
        gates.set(away, "refuse")
        sandbox.fault(refusing, status=403)
        for done in itertools.accumulate(steps):
            wait_for(sandbox, done, others(away, refusing))
            talk.go_on()
            assert size_of(directory) < 1.1 * (1 << 20)
        gates.set(away, "open")
        sandbox.fault(refusing)
        wait_until(lambda: arrived(sandbox, away)["streams"][0]["last_seq"] == sum(steps), 40, "its last line")
        talk.end()
        for sink in ALL:
            cursor = talk.cursor(sink)
            lost = cursor["dropped"].get("journal_full", 0)
            assert cursor["delivered"] + lost == sum(steps)
            assert (lost > 10_000) == (sink in (away, refusing))
    assert_every_line_came(sandbox, sum(steps), others(away, refusing))
    for sink in (away, refusing):
        (stream,) = arrived(sandbox, sink)["streams"]
        assert stream["gaps"]
        gaps = [(first, last, last - first + 1) for first, last in stream["gaps"]]
        assert announced(sandbox, sink, "journal_full") == gaps


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP], ids=str)
def test_a_signal_in_the_drain_ends_it_within_two_seconds_and_says_what_is_left(
    sandbox: Sandbox, gates: Gates, directory: Path, number: signal.Signals
) -> None:
    with Talk(directory, gates, (100, 200), {"SHIPPER_DRAIN_TIMEOUT": "1h"}) as talk:
        wait_for(sandbox, 100)
        for sink in ("datadog", "cloudwatch"):
            wait_until(lambda name=sink: talk.cursor(name)["delivered"] == 100, what="its cursor")  # type: ignore[misc]
        gates.set("datadog", "hang")
        gates.set("cloudwatch", "cut")
        talk.go_on()
        wait_for(sandbox, 300, others("datadog", "cloudwatch"))
        (directory.parent / "end").touch()
        wait_until(lambda: talk.children() == [talk.worker()], what="the agent's end")
        begun = time.monotonic()
        while talk.process.poll() is None:  # one that comes before the drain has begun counts only there
            talk.process.send_signal(number)
            time.sleep(0.02)
        assert time.monotonic() - begun < 2.5 + SLACK
        talk.end()
        for sink in ("datadog", "cloudwatch"):
            assert any("did not get 200 lines before the end" in said for said in talk.said_of(sink))
    assert_every_line_came(sandbox, 300, others("datadog", "cloudwatch"))


def test_providers_that_are_dead_at_the_end_take_no_more_than_the_drains_time_and_the_next_start_delivers(
    sandbox: Sandbox, gates: Gates, directory: Path
) -> None:
    dead = {"datadog": "hang", "cloudwatch": "cut", "newrelic": "drip"}
    with Talk(directory, gates, (100, 200), {"SHIPPER_DRAIN_TIMEOUT": "4s"}) as talk:
        wait_for(sandbox, 100)
        for sink, mode in dead.items():
            wait_until(lambda name=sink: talk.cursor(name)["delivered"] == 100, what="its cursor")  # type: ignore[misc]
            gates.set(sink, mode)
        talk.go_on()
        wait_for(sandbox, 300, ["sentry"])
        talk.end()
        assert len(talk.said) == 3
        for sink in dead:
            (said,) = talk.said_of(sink)
            assert said.startswith(f"{TITLES[sink]} did not get 200 lines before the end (the time was up)")
            assert str(directory) in said
    for sink in dead:
        gates.set(sink, "open")
    with Wrapper(directory, ["true"], sandbox.url, sinks=ALL) as wrapper:
        assert wrapper.wait() == 0
        assert not any("did not get" in said for said in wrapper.said[3:])
    assert_every_line_came(sandbox, 300)


@pytest.mark.parametrize("ending", ["os._exit(3)", "os.kill(os.getpid(), 9)", "os.abort()"])
def test_what_an_agent_says_in_its_last_moment_arrives_without_a_newline_too(
    sandbox: Sandbox, directory: Path, ending: str
) -> None:
    code = f"import os; os.write(2, b'on stderr'); os.write(1, b'first{chr(92)}nlast words'); {ending}"
    with Wrapper(directory, printing(code), sandbox.url, sinks=ALL) as wrapper:
        assert wrapper.wait() in (3, 128 + 9, 128 + 6)
        assert wrapper.stdout == b"first\nlast words"
    for sink in ALL:
        messages = sorted(event["message"] for event in all_events(sandbox, sink) if event["seq"])
        assert messages == ["first", "last words", "on stderr"]


def resident_mb(pid: int | None) -> float:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def test_100_000_lines_that_wait_take_no_memory_and_go_out_in_the_drain_or_are_left_to_the_next_start(
    sandbox: Sandbox, gates: Gates, directory: Path
) -> None:
    with Talk(directory, gates, (100, 100_000), {"SHIPPER_DRAIN_TIMEOUT": ""}) as talk:
        wait_for(sandbox, 100)
        for sink in ALL:
            wait_until(lambda name=sink: talk.cursor(name)["delivered"] == 100, what="its cursor")  # type: ignore[misc]
            sandbox.fault(sink, status=503)
        before = resident_mb(talk.worker())
        talk.go_on()
        wait_until(lambda: talk.stdout.count(b"\n") == 100_100, 30, "all lines of the agent")
        wait_until(lambda: len(talk.said) == len(ALL), 30, "a word about each")
        assert resident_mb(talk.worker()) - before < 16  # decoded they would be 34 MB a sink
        for sink in ALL:
            sandbox.fault(sink)
        talk.end()
        delivered = {sink: talk.cursor(sink)["delivered"] for sink in ALL}
        for sink in ALL:
            left = re.findall(r"did not get (?:at least )?(\d+) lines", "\n".join(talk.said_of(sink)))
            assert delivered[sink] + sum(map(int, left)) == 100_100
    if set(delivered.values()) != {100_100}:  # on a machine that is too busy for it
        with Wrapper(directory, ["true"], sandbox.url, {"SHIPPER_DRAIN_TIMEOUT": "1m"}, ALL) as wrapper:
            assert wrapper.wait(70) == 0
    assert_every_line_came(sandbox, 100_100)


# -- a wrapper that was killed -----------------------------------------------------------------------------------------

OUTLIVES = f"""
import os, sys, time
place, n = sys.argv[1], 0
while not os.path.exists(f"{{place}}/end"):
    n += 1
    try:
        os.write(1, f"line {{n}} {WORDS}\\n".encode())
    except BrokenPipeError:
        open(f"{{place}}/closed", "w").close()
    time.sleep(0.005)
open(f"{{place}}/ended", "w").close()
"""
"""Prints on, whether somebody reads or not."""


def test_after_a_kill_of_the_wrapper_alone_the_agent_goes_on_the_worker_ends_and_the_next_start_delivers(
    sandbox: Sandbox, gates: Gates, directory: Path
) -> None:
    """Not as PID 1, whose end is the container's."""
    place = directory.parent
    environ = {name: value for sink in ALL for name, value in variables(gates.url(sink), [sink]).items()}
    with Wrapper(directory, printing(OUTLIVES, str(place)), None, environ) as wrapper:
        wait_for(sandbox, 100)
        gates.set("sentry", "hang")
        worker = wrapper.worker()
        (agent,) = set(wrapper.children()) - {worker}
        before = wrapper.stdout.count(b"\n")
        wait_until(lambda: wrapper.stdout.count(b"\n") > before + 200, what="200 lines more")
        wrapper.process.kill()
        wrapper.process.wait()
        try:
            wait_until(lambda: not os.path.exists(f"/proc/{worker}"), what="the worker's end")
            wait_until((place / "closed").exists, what="the agent's finding its pipe closed")
            assert not (place / "ended").exists()
        finally:
            (place / "end").touch()
        wait_until((place / "ended").exists, what="the agent's own end")
        wait_until(lambda: not os.path.exists(f"/proc/{agent}"), what="its reaping")
        passed = wrapper.stdout.count(b"\n")
        assert wrapper.stderr == ""
    gates.set("sentry", "open")
    run = os.path.basename(runs.list_runs(str(directory))[0]).partition("-")[2]
    with Wrapper(directory, ["true"], None, {**environ, "SHIPPER_DRAIN_TIMEOUT": "1m"}) as wrapper:
        assert wrapper.wait(70) == 0
    for sink in ALL:
        stream = streams(sandbox, sink)[run, "stdout"]
        assert stream["last_seq"] >= passed - 1  # but for the read in the queue
        assert stream["missing"] == 0


def test_a_hundred_dead_runs_on_a_volume_are_delivered_under_their_own_names_by_one_start_and_tidied_up(
    sandbox: Sandbox, directory: Path
) -> None:
    for number in range(100):
        facts = Facts(
            f"{number:016x}", f"host-{number}", f"CA_{number}", "svc", (), ALL, 1 << 18, NOW_NS + number, "agent.py"
        )
        journal = JournalWriter.create([str(directory)], facts, 16 << 20)
        journal.append([(STDOUT, time.time_ns(), 0, b"one\ntwo\nthree\n")])
        if number % 2:  # the others were killed
            journal.end_stream(STDOUT)
            journal.end({"exit_status": 0})
        journal.close()
        os.close(journal.lock_fd)
    with Wrapper(directory, ["echo", "new"], sandbox.url, {"SHIPPER_DRAIN_TIMEOUT": "1m"}, ALL) as wrapper:
        assert wrapper.wait(70) == 0
        assert not any("did not get" in said for said in wrapper.said)
    for sink in ALL:
        found = {stream.run: stream for stream in sandbox.store.totals[sink].ledger.streams()}
        hosts = {(event["run"], event["host"], event["source"]) for event in all_events(sandbox, sink) if event["seq"]}
        for number in range(100):
            stream = found[f"{number:016x}"]
            assert (stream.lines, stream.seen.missing(), stream.repeats) == (3, 0, 0)
            assert (f"{number:016x}", f"host-{number}", f"CA_{number}") in hosts
        assert len(hosts) == 101
    with Wrapper(directory, ["true"], sandbox.url, sinks=ALL) as wrapper:
        assert wrapper.wait() == 0
    assert [arrived(sandbox, sink)["lines"] for sink in ALL] == [301] * len(ALL)
    assert len(runs.list_runs(str(directory))) <= runs.HISTORY_RUNS + 1
