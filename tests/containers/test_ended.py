"""A container that died whole, by an out-of-memory or `docker kill`: the next start on its volume says so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.containers import engine
from tests.e2e.wrapped import all_events, ledgers
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shipper.sandbox.server import Sandbox

LIMIT = 128
SENTENCE = re.compile(
    r"shipper: the run before this one \(agent (\S+) on (\S+), started \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\) "
    r"has no end: it was killed, as a rule with its whole container or machine; its lines are kept\. "
    r"Memory last noted, at \d\d:\d\d:\d\d UTC: (\d+) MiB of (\d+) MiB(.*)"
)

# Where the kernel ends one process of a cgroup only (cgroup v1), it is told to take the container's first: PID 1, with
# which all others go, as they do where Kubernetes has set memory.oom.group. Grows at a pace that a note can follow.
HUNGRY = """
import time
for pid in ("1", "self"):
    with open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write("1000" if pid == "1" else "0")
print("before the end", flush=True)
held = []
while True:
    held.append(b"x" * (1 << 20))
    time.sleep(0.02 if len(held) < 90 else 0.15)
"""
# Grows until the kernel ends it, and not what it is in a container with.
GROWS = """
print("before the end", flush=True)
held = []
while True:
    held.append(b"x" * (1 << 20))
"""
CALM = ("sh", "-c", "echo before the end; exec sleep 600")


@pytest.fixture
def image(package: str) -> str:
    return engine.wrapped(engine.BASE)


def options(volume: str) -> Sequence[str]:
    limit = f"{LIMIT}m"
    return ("--memory", limit, "--memory-swap", limit, "--volume", f"{volume}:/var/lib/shipper", "--hostname", "ended")


def sentences(said: bytes) -> list[re.Match[str]]:
    return list(SENTENCE.finditer(said.decode()))


def messages(sandbox: Sandbox) -> list[str]:
    return sorted(event["message"] for event in all_events(sandbox))


def test_after_an_out_of_memory_that_took_the_whole_container(image: str) -> None:
    volume = engine.make_volume()
    with engine.Running(
        image, "python3", "-c", HUNGRY, options=options(volume), env={"SHIPPER_SINKS": "none"}
    ) as container:
        assert container.wait() == 137
        assert container.inspect()["State"]["OOMKilled"]
        assert sentences(container.logs().stderr) == []
        held = container.logs().stdout
    assert held == b"before the end\n"
    done = engine.run(image, "true", options=options(volume), env={"SHIPPER_SINKS": "none"})
    assert done.status == 0
    (said,) = sentences(done.stderr)
    assert said[1] == "python3"
    assert said[2] == "ended"
    assert int(said[4]) == LIMIT
    assert LIMIT * 0.9 <= int(said[3]) <= LIMIT
    assert said[5] == ": that may be why, so raise the container's memory limit."
    again = engine.run(image, "true", options=options(volume), env={"SHIPPER_SINKS": "none"})
    assert sentences(again.stderr) == []


def test_an_agent_that_alone_was_ended_for_lack_of_memory_is_named_so_at_the_provider(
    image: str, sandbox: Sandbox
) -> None:
    """The worker, which the kernel takes first, may have been ended by it any number of times before."""
    env = variables(sandbox.url, ["datadog"])
    volume = engine.make_volume()
    with engine.Running(image, "python3", "-c", GROWS, options=options(volume), env=env) as container:
        assert container.wait() == 137
        assert container.logs().stdout == b"before the end\n"
    wait_until(lambda: ledgers(sandbox), what="the closing event")
    (ledger,) = ledgers(sandbox)
    assert (ledger["signal"], ledger["oom"], ledger["level"]) == (9, True, "error")
    assert (ledger["captured"], ledger["delivered"]) == (1, 1)
    assert f"ended by signal 9, out of memory (limit {LIMIT} MiB): 1 line captured" in ledger["message"]


def test_an_agent_that_somebody_killed_had_no_lack_of_memory(image: str, sandbox: Sandbox) -> None:
    env = variables(sandbox.url, ["datadog"])
    script = "echo before the end; sleep 1; kill -9 $$"
    with engine.Running(image, "sh", "-c", script, options=options(engine.make_volume()), env=env) as container:
        container.wait_for("before the end")
        assert container.wait() == 137
    wait_until(lambda: ledgers(sandbox), what="the closing event")
    (ledger,) = ledgers(sandbox)
    assert (ledger["signal"], "oom" in ledger) == (9, False)


def test_after_docker_kill_its_lines_arrive_and_memory_is_not_blamed(image: str, sandbox: Sandbox) -> None:
    volume = engine.make_volume()
    env = variables(sandbox.url, ["datadog"])
    with engine.Running(image, *CALM, options=[*options(volume), "--network", "none"], env=env) as container:
        container.wait_for("before the end")
        wait_until(lambda: noted(container), what="the run's note")
        container.kill()
        assert container.wait() == 137
    with engine.Running(image, "sh", "-c", "echo after it; sleep 5", options=options(volume), env=env) as container:
        container.wait_for("the run before this one (agent sh on ended")
        assert container.wait() == 0
        (said,) = sentences(container.logs().stderr)
        assert int(said[3]) < LIMIT * 0.9
        assert said[5] == ": lack of memory was the cause only if it rose within seconds."
    wait_until(lambda: messages(sandbox) == ["after it", "before the end"], what="the lines of both runs")
    again = engine.run(image, "true", options=options(volume), env=env)
    assert sentences(again.stderr) == []


def test_after_docker_stop_and_a_start_of_the_same_container_nothing_is_said(image: str) -> None:
    volume = engine.make_volume()
    with engine.Running(image, *CALM, options=options(volume), env={"SHIPPER_SINKS": "none"}) as container:
        container.wait_for("before the end")
        container.stop()
        container.start()
        wait_until(lambda: container.logs().stdout.count(b"before the end") == 2)
        wait_until(lambda: noted(container, 2), what="the second run's note")
        assert b"has no end" not in container.logs().stderr
        container.kill()
        container.wait()
        container.start()  # the same container after a kill: its own writable layer would tell, too
        container.wait_for("the run before this one (agent sh on ended")


def test_a_volume_as_kubernetes_gives_it_to_a_user_takes_the_journal(image: str) -> None:
    """As in docker/runtimes/kubernetes.yaml: root's directory, fsGroup's to write to; a read-only root file system."""
    volume = engine.make_volume()
    mount = ("--volume", f"{volume}:/var/lib/shipper")
    prepare = "chown 0:10001 /var/lib/shipper && chmod 2777 /var/lib/shipper"
    engine.docker("run", "--rm", "--entrypoint", "sh", *mount, image, "-c", prepare)
    as_in_a_pod = [*mount, "--user", "10001:10001", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
    env = {"SHIPPER_SINKS": "none", "SHIPPER_DIR": "/var/lib/shipper"}
    with engine.Running(image, *CALM, options=as_in_a_pod, env=env) as container:
        wait_until(lambda: noted(container), what="the run's note")
        container.kill()
        container.wait()
        container.start()
        container.wait_for("the run before this one (agent sh on ")
        assert b"before the end" in container.exec("shipper", "logs").stdout
        assert b"no journal can be kept" not in container.logs().stderr


def noted(container: engine.Running, runs: int = 1) -> bool:
    """So many runs on its volume have a note that is complete."""
    found = container.exec("sh", "-c", "find /var/lib/shipper -name note -size +0 | wc -l")
    return found.stdout.strip() == str(runs).encode()
