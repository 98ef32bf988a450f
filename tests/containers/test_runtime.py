"""What a container runtime does to a container, done to the wrapper and to the same agent without it."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from shipper.sandbox.server import running_in_thread
from tests.containers import engine
from tests.containers.engine import Running, docker
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shipper.sandbox.server import Sandbox

LINES = engine.ROOT / "demo" / "lines"
SAMPLES = sorted(path.name.removesuffix(".stdout.log") for path in LINES.glob("*.stdout.log"))

# Prints a number every 20 ms; told to end, it says so, prints on for a second, and ends with 5.
COUNTS = """
import json, signal, sys, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(time.monotonic()))
longest, n = 0.0, 0
while not told or time.monotonic() < told[0] + 1:
    n += 1
    began = time.monotonic()
    print("line", n, flush=True)
    longest = max(longest, time.monotonic() - began)
    time.sleep(0.02)
print(json.dumps({"lines": n, "longest": longest}), flush=True)
sys.exit(5)
"""


@pytest.fixture(scope="module")
def image(package: str) -> str:
    assert package == engine.PACKAGE
    return engine.wrapped(engine.BASE)


def arrived(sandbox: Sandbox, stream: str = "stdout") -> list[str]:
    """Messages at Datadog's intake, without the wrapper's own."""
    events: Any = sandbox.store.events(after=0, limit=1_000_000, provider="datadog")["events"]
    return [event["message"] for event in events if event["stream"] == stream and event.get("seq")]


def streams(sandbox: Sandbox) -> list[dict[str, Any]]:
    summary: Any = sandbox.store.summary()
    return [stream for stream in summary["providers"]["datadog"]["streams"] if stream["stream"] == "stdout"]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--init"],
        ["--read-only"],
        ["--user", "10001:10001"],
        ["--memory=96m", "--cpus=0.5", "--pids-limit=32"],
        ["--cap-drop=ALL", "--security-opt=no-new-privileges", "--ulimit=nofile=64"],
    ],
    ids=" ".join,
)
def test_docker_logs_are_those_of_the_bare_agent_byte_for_byte(image: str, options: list[str]) -> None:
    """Real agents' lines on both streams."""
    data = [*options, "--volume", f"{LINES}:/lines:ro"]
    script = 'for name in "$@"; do cat /lines/$name.stdout.log; cat /lines/$name.stderr.log >&2; done; exit 7'
    command = ["sh", "-c", script, "sh", *SAMPLES]
    with Running(engine.BASE, *command, options=data) as bare:
        status = bare.wait()
        expected = bare.logs()
    with Running(image, *command, options=data, env={"SHIPPER_SINKS": "none"}) as wrapped:
        assert wrapped.wait() == status == 7
        found = wrapped.logs()
    assert found.stdout == expected.stdout != b""
    assert without_ours(found.stderr) == expected.stderr != b""


def test_under_a_terminal_too(image: str) -> None:
    data = ["-t", "--volume", f"{LINES}:/lines:ro"]
    command = ["sh", "-c", 'for name in "$@"; do cat /lines/$name.stdout.log; done; exit 7', "sh", *SAMPLES]
    with Running(engine.BASE, *command, options=data) as bare:
        status = bare.wait()
        expected = bare.logs()
    with Running(image, *command, options=data, env={"SHIPPER_SINKS": "none"}) as wrapped:
        assert wrapped.wait() == status == 7
        assert without_ours(wrapped.logs().stdout) == expected.stdout != b""


def without_ours(data: bytes) -> bytes:
    """Without the wrapper's own messages, which may stand in the midst of a line."""
    rest, said = re.subn(rb"shipper: nothing is forwarded[^\r\n]*\r?\n", b"", data)
    assert said == 1
    return rest


@pytest.mark.parametrize(
    "command",
    [
        ["true"],
        ["sh", "-c", "exit 3"],
        ["sh", "-c", "exit 255"],
        ["nonsense"],
        ["/etc/passwd"],
        ["/tmp"],
        *(["sh", "-c", f"kill -{number} $$"] for number in (1, 2, 3, 6, 9, 11, 15)),
    ],
    ids=" ".join,
)
def test_the_status_is_the_bare_agents(image: str, command: list[str]) -> None:
    """Bare under --init: as PID 1 a shell cannot end itself by a signal."""
    bare = engine.run(engine.BASE, *command, options=["--init"])
    wrapped = engine.run(image, *command, env={"SHIPPER_SINKS": "none"})
    assert wrapped.status == bare.status
    assert b"Traceback" not in wrapped.stderr


def test_docker_stop_drains_the_agent_and_then_the_lines(image: str, sandbox: Sandbox) -> None:
    env = variables(sandbox.url, ["datadog"])
    with Running(image, "python3", "-c", COUNTS, env=env) as container:
        container.wait_for("line 10\n")
        container.stop(20)
        assert container.status == 5
        printed = container.logs().stdout.decode().splitlines()
    assert json.loads(printed[-1])["lines"] == len(printed) - 1
    found = arrived(sandbox)
    assert sorted(found) == sorted(set(found))
    assert len(found) == len(printed)


def test_after_docker_kill_and_docker_restart_every_line_arrives(image: str, sandbox: Sandbox) -> None:
    volume = engine.make_volume()
    away = {
        **variables(sandbox.url, ["datadog"]),
        "SHIPPER_DATADOG_URL": "http://127.0.0.1:9",
        "SHIPPER_DRAIN_TIMEOUT": "0s",
    }
    options = ["--volume", f"{volume}:/var/lib/shipper"]
    with Running(image, "python3", "-c", COUNTS, options=options, env=away) as container:
        container.wait_for("line 20\n")
        container.kill()
        assert container.wait() == 137
        killed = container.logs().stdout.count(b"\n")
        container.start()
        wait_until(lambda: container.logs().stdout.count(b"line 20\n") == 2, 20, "the second life's lines")
        docker("restart", "-t", "10", container.name)
        wait_until(lambda: container.logs().stdout.count(b"line 20\n") == 3, 20, "the third life's lines")
        container.stop(10)
        printed = container.logs().stdout.count(b"\n")
    # The provider is back, and another container has the volume.
    engine.run(image, "sh", "-c", "sleep 3", options=options, env=variables(sandbox.url, ["datadog"]))
    found = streams(sandbox)
    assert len(found) == 3
    missing = printed - sum(stream["lines"] for stream in found)
    assert 0 <= missing <= 5  # what the killed one had read and not yet written: one read
    assert killed - 5 <= min(stream["lines"] for stream in found)


def test_one_that_heeds_no_term_is_killed_with_us_and_the_next_start_delivers(image: str, sandbox: Sandbox) -> None:
    volume = engine.make_volume()
    options = ["--volume", f"{volume}:/var/lib/shipper"]
    env = variables(sandbox.url, ["datadog"])
    script = "trap 'echo not yet' TERM; echo begun; while :; do sleep 0.1; done"
    away = {**env, "SHIPPER_DATADOG_URL": "http://127.0.0.1:9"}
    with Running(image, "sh", "-c", script, options=options, env=away) as container:
        container.wait_for("begun\n")
        container.stop(2)
        assert container.status == 137
        assert container.logs().stdout == b"begun\nnot yet\n"
    with Running(image, "sh", "-c", "echo after; sleep 3", options=options, env=env) as container:
        assert container.wait() == 0
        assert container.logs().stderr.count(b"has no end") == 1
    assert sorted(arrived(sandbox)) == ["after", "begun", "not yet"]


@pytest.mark.parametrize("options", [[], ["-t"]], ids=["", "-t"])
def test_what_docker_exec_writes_to_pid_1_is_in_docker_logs_and_is_forwarded(
    image: str, sandbox: Sandbox, options: list[str]
) -> None:
    """The way a cron job, or whoever looks after a container by hand, gets a line into its logs."""
    script = "trap 'exit 5' TERM; echo begun; while :; do sleep 0.1; done"
    with Running(image, "sh", "-c", script, options=options, env=variables(sandbox.url, ["datadog"])) as container:
        container.wait_for("begun")
        assert container.exec("sh", "-c", "echo out > /proc/1/fd/1; echo error > /proc/1/fd/2").status == 0
        container.wait_for("error")
        container.stop(20)
        assert container.status == 5
        shown = container.logs()
    found = [sorted(part.split()) for part in (shown.stdout, shown.stderr)]  # of two pipes either may be read first
    assert found == ([[b"begun", b"out"], [b"error"]] if not options else [[b"begun", b"error", b"out"], []])
    assert arrived(sandbox) == ["begun", "out"]
    assert arrived(sandbox, "stderr") == ["error"]


def test_while_the_network_is_gone_the_agent_is_not_held_up_and_nothing_is_lost(image: str) -> None:
    network = engine.make_network()
    with running_in_thread(engine.gateway(network)) as sandbox:
        env = variables(sandbox.url, ["datadog"])
        with Running(image, "python3", "-c", COUNTS, options=["--network", network], env=env) as container:
            wait_until(lambda: len(arrived(sandbox)) > 10, 30, "the first lines")
            docker("network", "disconnect", network, container.name)
            there = container.logs().stdout.count(b"\n")
            wait_until(lambda: container.logs().stdout.count(b"\n") > there + 100, 30, "lines without a network")
            docker("network", "connect", network, container.name)
            wait_until(lambda: len(arrived(sandbox)) > there + 100, 60, "what was printed meanwhile")
            container.stop(20)
            assert container.status == 5
            printed = container.logs().stdout.decode().splitlines()
        assert json.loads(printed[-1])["longest"] < 0.5
        lines = [line for line in printed if line.startswith("line ")]
        assert {line for line in arrived(sandbox) if line.startswith("line ")} == set(lines)


FROZEN_SECONDS = 60.0
MINUTE = "frozen_for_a_minute"


def lines_by_provider(sandbox: Sandbox) -> dict[str, int]:
    summary: Any = sandbox.store.summary()
    return {name: provider["lines"] for name, provider in summary["providers"].items()}


def worker_pid(container: Running) -> int:
    """The worker's, as the machine has it; 0 when there is none."""
    for line in docker("top", container.name, "-eo", "pid,args").stdout.decode().splitlines():
        if "shipper.delivery.start" in line:
            return int(line.split()[0])
    return 0


class Frozen(NamedTuple):
    """A container that does not move meanwhile, with a request under way at one provider."""

    container: Running
    sandbox: Sandbox
    worker: int
    since: float


@pytest.fixture(scope="module", autouse=True)
def frozen(request: pytest.FixtureRequest, image: str) -> Iterator[Frozen | None]:
    """Begun before the first test of this file: the minute passes while the others run."""
    if not any(MINUTE in item.name for item in request.session.items):
        yield None
        return
    with (
        running_in_thread(engine.gateway()) as sandbox,
        Running(image, "python3", "-c", COUNTS, env=variables(sandbox.url)) as container,
    ):
        container.wait_for("line 10\n")
        wait_until(lambda: all(lines_by_provider(sandbox).values()), 30, "the first lines everywhere")
        worker = worker_pid(container)
        sandbox.fault("newrelic", delay=3)
        there = container.logs().stdout.count(b"\n")
        wait_until(lambda: container.logs().stdout.count(b"\n") > there + 50, 30, "lines for a request under way")
        docker("pause", container.name)
        yield Frozen(container, sandbox, worker, time.monotonic())
        docker("unpause", container.name, check=False)


def test_stdin_reaches_the_agent_and_its_end_too(image: str) -> None:
    done = engine.run(image, "cat", input=b"one\ntwo", env={"SHIPPER_SINKS": "none"})
    assert (done.status, done.stdout) == (0, b"one\ntwo")


def test_docker_exec_shipper_logs_beside_an_agent_of_another_user(image: str) -> None:
    with Running(
        image, "python3", "-c", COUNTS, options=["--user", "10001"], env={"SHIPPER_SINKS": "none"}
    ) as container:
        container.wait_for("line 20\n")
        for user in ("0", "10001"):
            shown = container.exec("shipper", "logs", "-n", "5", options=["--user", user])
            assert shown.status == 0, shown.stderr
            assert len([line for line in shown.stdout.splitlines() if line.startswith(b"line ")]) == 5


def test_without_a_command_it_says_why_there_is_none(image: str) -> None:
    done = engine.run(image)
    assert done.status == 64
    assert b"an ENTRYPOINT resets the CMD" in done.stderr


def test_status_is_told_to_root_beside_an_agent_of_another_user_and_after_its_end(image: str) -> None:
    volume = engine.make_volume()
    prepare = "chown 10001 /var/lib/shipper"
    mount = ("--volume", f"{volume}:/var/lib/shipper")
    docker("run", "--rm", "--entrypoint", "sh", *mount, image, "-c", prepare)
    env = {"SHIPPER_SINKS": "none"}
    with Running(
        image, "sh", "-c", "echo one; exec sleep 600", options=[*mount, "--user", "10001"], env=env
    ) as container:
        container.wait_for("one")

        def told(*options: str) -> Any:
            done = container.exec("shipper", "status", "--json", options=options)
            return json.loads(done.stdout) if done.status == 0 else None

        def noted() -> bool:
            values = told()
            return bool(values and values["agent"]["pid"] and values["captured"]["lines"])

        wait_until(noted, what="the run's note")
        for user in ("10001", "0"):
            values = told("--user", user)
            assert values["agent"]["state"] == "running"
            command = container.exec("cat", f"/proc/{values['agent']['pid']}/cmdline")
            assert command.stdout.startswith(b"sleep\0")
        other = container.exec("shipper", "status", options=("--user", "10002"))
        assert (other.status, other.stdout) == (1, b"")
        assert b"may be read by its owner alone" in other.stderr
        container.stop()
    done = docker("run", "--rm", "--entrypoint", "shipper", *mount, image, "status")
    assert b"was ended by signal 15" in done.stdout


def test_a_container_that_was_frozen_for_a_minute_goes_on_where_it_was(frozen: Frozen) -> None:
    """Longer than any of our time-outs, which run on meanwhile."""
    container, sandbox, worker, since = frozen
    wait_until(lambda: time.monotonic() >= since + FROZEN_SECONDS, FROZEN_SECONDS + 1, "the minute's end")
    docker("unpause", container.name)
    sandbox.fault("newrelic")
    there = container.logs().stdout.count(b"\n")
    wait_until(lambda: container.logs().stdout.count(b"\n") > there + 100, 30, "its going on")
    assert worker_pid(container) == worker != 0
    container.stop(20)
    assert container.status == 5
    logs = container.logs()
    assert logs.stderr == b""
    printed = logs.stdout.count(b"\n")
    summary: Any = sandbox.store.summary()
    for provider in summary["providers"].values():
        (stream,) = provider["streams"]
        assert (stream["last_seq"], stream["missing"]) == (printed, 0)
