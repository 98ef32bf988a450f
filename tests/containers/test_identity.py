"""Containers that share what tells workers apart, the host name or the journal's volume: `run` still does."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers import engine
from tests.containers.engine import Running, docker
from tests.containers.messages import messages_of
from tests.e2e.wrapped import ALL, all_events, arrived, streams
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shipper.sandbox.server import Sandbox

PLACE = "/var/lib/shipper"

# Prints lines that nobody else prints, on both streams, until it is told to end.
TALKS = """
import signal, sys, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(True))
n = 0
while not told:
    n += 1
    print(sys.argv[1], n, flush=True)
    print(sys.argv[1], n, "aside", file=sys.stderr)
    time.sleep(0.01)
"""
# When told to, more than the least bound of a journal, which is 1 MiB; and the last line when told to end.
FLOODS = """
import signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
print(sys.argv[1], "is ready", file=sys.stderr)
signal.sigwait([signal.SIGUSR1])
for n in range(1, 2000):
    print(sys.argv[1], n, "x" * 1000, flush=True)
    time.sleep(0.001)
print(sys.argv[1], "all said", file=sys.stderr)
signal.sigwait([signal.SIGTERM])
print(sys.argv[1], 2000, flush=True)
"""


@pytest.fixture(scope="module")
def image(package: str) -> str:
    assert package == engine.PACKAGE
    return engine.wrapped(engine.BASE)


def agent(
    image: str, name: str, sandbox: Sandbox, options: Sequence[str] = (), code: str = TALKS, **settings: str
) -> Running:
    """An agent that begins each of its lines with its name; all of one source, as replicas are."""
    env = {**variables(sandbox.url), "SHIPPER_SOURCE": "replicas", **settings}
    return Running(image, "python3", "-c", code, name, env=env, options=options)


def printed(container: Running) -> dict[str, list[str]]:
    logs = container.logs()
    return {"stdout": messages_of(logs.stdout), "stderr": messages_of(logs.stderr)}


def by_run(sandbox: Sandbox, provider: str) -> dict[tuple[str, str], dict[str, list[str]]]:
    """Messages by stream, in the order of their numbers, of each host and run."""
    found: dict[tuple[str, str], dict[str, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))
    for event in all_events(sandbox, provider):
        if event["seq"]:  # else the wrapper's own
            found[event["host"], event["run"]][event["stream"]].append((int(event["seq"]), event["message"]))
    return {
        key: {stream: [message for _, message in sorted(lines)] for stream, lines in streams.items()}
        for key, streams in found.items()
    }


def assert_apart(sandbox: Sandbox, containers: Sequence[Running], hosts: Sequence[str] = ()) -> None:
    """Every provider has one run a container, with all that `docker logs` shows of it, once, and nothing else.

    ``hosts``: theirs, in order; when left out, they have one between them.
    """
    for provider in ALL:
        found = by_run(sandbox, provider)
        summary = arrived(sandbox, provider)
        assert (summary["missing"], summary["repeats"]) == (0, 0), provider
        assert len({run for _, run in found}) == len(containers) == len(found)
        lines = {streams["stdout"][0].split()[0]: (host, streams) for (host, _), streams in found.items()}
        names = [container.logs().stdout.split()[0].decode() for container in containers]
        assert [lines[name][1] for name in names] == [printed(container) for container in containers], provider
        if hosts:
            assert [lines[name][0] for name in names] == list(hosts), provider
        else:
            assert len({host for host, _ in found}) == 1, provider
    # Whoever comes first finds no group and no stream; two may find none at once, and both make them.
    page: Any = sandbox.store.summary()
    others = [refusal["reason"] for refusal in page["refusals"] if not refusal["mended"]]
    assert [reason for reason in others if "already exists" not in reason] == []


def stop(*containers: Running) -> None:
    docker("stop", "-t", "20", *(container.name for container in containers))
    assert [container.status for container in containers] == [0] * len(containers)


def runs_in(container: Running) -> list[str]:
    """Of the journal that the container sees, oldest first."""
    names = container.exec("ls", PLACE, options=["--user", "0"]).stdout.decode().split()
    return sorted(name for name in names if re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{16}", name))


def shown_to(container: Running, user: str) -> str:
    """Whose lines `shipper logs` shows."""
    done = container.exec("shipper", "logs", "-n", "1", options=["--user", user])
    assert done.status == 0, done.stderr
    return done.stdout.split()[0].decode()


@pytest.mark.parametrize("journal", ["each its own", "one volume"])
def test_two_containers_with_host_networking_have_one_host_name_and_stay_apart_by_run(
    image: str, sandbox: Sandbox, journal: str
) -> None:
    """One host, one source: at CloudWatch they even share the log stream, and neither is in the other's way."""
    options = ["--network", "host"]
    if journal == "one volume":
        options += ["--volume", f"{engine.make_volume()}:{PLACE}"]
    with agent(image, "left", sandbox, options) as left, agent(image, "right", sandbox, options) as right:
        for container, name in ((left, "left"), (right, "right")):
            container.wait_for(f"{name} 100\n")
        stop(left, right)
        assert_apart(sandbox, [left, right])
        assert b"shipper:" not in left.logs().stderr + right.logs().stderr
    hosts = {event["host"] for event in all_events(sandbox, "cloudwatch")}
    places = {
        (event["place"]["log group"], event["place"]["log stream"]) for event in all_events(sandbox, "cloudwatch")
    }
    assert places == {("replicas", host) for host in hosts}


def test_replicas_on_one_volume_keep_their_runs_and_only_a_dead_ones_is_delivered_by_the_next_start(
    image: str, sandbox: Sandbox
) -> None:
    volume = ["--volume", f"{engine.make_volume()}:{PLACE}"]
    cut_off = [*volume, "--hostname", "one", "--network", "none"]
    with ExitStack() as stack:
        one = stack.enter_context(agent(image, "one", sandbox, cut_off))
        one.wait_for("one 50\n")
        wait_until(lambda: len(runs_in(one)) == 1)
        two = stack.enter_context(agent(image, "two", sandbox, [*volume, "--hostname", "two"]))
        two.wait_for("two 100\n")
        for provider in ALL:
            wait_until(lambda: by_run(sandbox, provider), 20, provider)  # noqa: B023
            # That of the living one, who cannot deliver it himself, stays his.
            assert {host for host, _ in by_run(sandbox, provider)} == {"two"}
        assert len(runs_in(two)) == 2
        # In every container of the volume: the newest that lives.
        assert [shown_to(container, "0") for container in (one, two)] == ["two", "two"]
        one.kill()
        assert one.wait() == 137
        three = stack.enter_context(agent(image, "three", sandbox, [*volume, "--hostname", "three"]))
        three.wait_for("(agent python3 on one, started ")
        three.wait_for("three 100\n")
        assert [shown_to(container, "0") for container in (two, three)] == ["three", "three"]
        stop(three)
        assert shown_to(two, "0") == "two"  # the only one left
        stop(two)
        assert_apart(sandbox, [one, two, three], ["one", "two", "three"])
        assert b"shipper:" not in two.logs().stderr


def test_replicas_on_one_volume_keep_within_one_bound_and_what_that_costs_each_is_announced(
    image: str, sandbox: Sandbox
) -> None:
    bound = 1 << 20
    volume = ["--volume", f"{engine.make_volume()}:{PLACE}"]
    away = [*volume, "--network", "none"]
    settings = {"SHIPPER_JOURNAL_MAX": "1MiB", "SHIPPER_DRAIN_TIMEOUT": "0s"}
    with (
        agent(image, "one", sandbox, away, FLOODS, **settings) as one,
        agent(image, "two", sandbox, away, FLOODS, **settings) as two,
    ):
        for container, name in ((one, "one"), (two, "two")):
            container.wait_for(f"{name} is ready")
        docker("kill", "--signal", "USR1", one.name, two.name)  # so that both print at the same time
        for container, name in ((one, "one"), (two, "two")):
            container.wait_for(f"{name} all said")
        stop(one, two)
    looked = engine.run(engine.BASE, "du", "-s", "--apparent-size", "--block-size=1", PLACE, options=volume)
    assert bound / 2 < int(looked.stdout.split()[0]) <= bound
    # The next start has a network, and is about when all is delivered.
    with agent(image, "three", sandbox, volume, **settings) as three:
        for provider in ALL:
            wait_until(lambda: len(finished(sandbox, provider)) == 2, 30, provider)  # noqa: B023
        stop(three)
    for provider in ALL:
        found = finished(sandbox, provider)
        assert [(stream["unexplained"], stream["lines"] + stream["missing"]) for stream in found] == [(0, 2000)] * 2
        # The oldest lines of both have gone, and not all of the one that was started first: a segment holds 60.
        assert min(stream["lines"] for stream in found) > 100, provider


def finished(sandbox: Sandbox, provider: str) -> list[dict[str, Any]]:
    """What a provider has of the flooding ones, when the last line is there."""
    return [stream for stream in streams(sandbox, provider).values() if stream["last_seq"] == 2000]


@pytest.mark.parametrize(("first", "second"), [("0", "10001"), ("10001", "10002")])
def test_two_users_on_one_volume_have_each_his_own_journal_and_his_own_logs(
    image: str, sandbox: Sandbox, first: str, second: str
) -> None:
    """Neither may read the other's. `docker exec` as root, who may, shows the newest of all."""
    volume = ["--volume", f"{engine.make_volume()}:{PLACE}"]
    docker("run", "--rm", "--entrypoint", "chmod", *volume, engine.BASE, "1777", PLACE)
    settings = {"SHIPPER_DIR": PLACE}
    with ExitStack() as stack:
        one = stack.enter_context(
            agent(image, "one", sandbox, [*volume, "--user", first, "--hostname", "one"], **settings)
        )
        one.wait_for("one 50\n")
        wait_until(lambda: len(runs_in(one)) == 1)
        # Without a network, so that nothing of it has been accepted when it dies.
        away = [*volume, "--user", second, "--network", "none", "--hostname", "two"]
        two = stack.enter_context(agent(image, "two", sandbox, away, **settings))
        two.wait_for("two 50\n")
        wait_until(lambda: len(runs_in(one)) == 2)
        assert [shown_to(container, second) for container in (one, two)] == ["two", "two"]
        assert [shown_to(container, first) for container in (one, two)] == ["two" if first == "0" else "one"] * 2
        assert [shown_to(container, "0") for container in (one, two)] == ["two", "two"]
        two.kill()
        two.wait()
        # Its own user's next start takes over what it left.
        same = [*volume, "--user", second, "--hostname", "three"]
        three = stack.enter_context(agent(image, "three", sandbox, same, **settings))
        three.wait_for("three 50\n")
        stop(one, three)
        assert_apart(sandbox, [one, two, three], ["one", "two", "three"])
        assert b"shipper:" not in one.logs().stderr
        assert b"the journal in" not in two.logs().stderr
