"""What goes wrong with one provider, end to end: the others are not delayed, nothing is lost, and a sentence tells."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.bodies import events_in
from tests.chaos.gate import Gates
from tests.e2e.wrapped import ALL, TITLES, Wrapper, arrived, printing, requests
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from shipper.sandbox.server import Sandbox

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

    def end(self, timeout: float = 40) -> None:
        """Let the agent end. What it printed and its status are its own, and whatever was said is fit to be read."""
        (self.outputs / "end").touch()
        assert self.wait(timeout) == 7
        total = sum(self._counts)
        assert self.stdout.decode() == "".join(f"line {n} {WORDS}\n" for n in range(1, total + 1))
        for line in self.stderr.splitlines():
            assert line.startswith("shipper: ")
        assert not any(text in self.stderr for text in ("Traceback", WORDS, *self._secrets))


@pytest.fixture
def gates(sandbox: Sandbox) -> Iterator[Gates]:
    with Gates(sandbox.port) as gates:
        for sink in ALL:
            gates.add(sink)
        yield gates


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
    said; "" where nothing is within the time of this test, for nobody is told before three requests have failed."""

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
            if fault.words:
                assert re.match(
                    f"{title} does not take lines at the moment \\(.*({fault.words}).*\\): they wait", said[0]
                )
            assert said[1:] == ([f"{title} takes lines again"] if fault.words else [])
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
