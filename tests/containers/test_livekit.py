"""The real LiveKit worker, wrapped, in a job that a LiveKit-speaking server gave it, told to end in the midst of it."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers import engine
from tests.containers.engine import ROOT, Running, build
from tests.containers.messages import messages_of, shown
from tests.e2e.wrapped import ALL, all_events, streams
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shipper.sandbox.server import Sandbox

OURS = ROOT / "tests" / "livekit"
KEYS = {"LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "secret-of-a-small-server-of-the-tests-own"}
SOURCE = "CA_livekit"

pytestmark = pytest.mark.timeout(600)  # the first build fetches the agent's packages


@pytest.fixture(scope="module")
def image(package: str) -> str:
    """docker/examples/python; where test_examples.py has built it, this takes no time."""
    tag = f"{engine.OURS}livekit-{os.getpid()}:python"
    files = engine.files_of(ROOT / "docker" / "examples" / "python")
    return build(tag, files, arguments={"BASE": engine.BASE, "SHIPPER": package})


@pytest.fixture
def livekit(image: str) -> Iterator[Running]:
    options = ["--entrypoint", "/app/.venv/bin/python", "--volume", f"{OURS}/server.py:/server.py:ro"]
    with Running(image, "/server.py", options=options, env=KEYS) as server:
        server.wait_for("listening")
        yield server


def worker(image: str, livekit: Running, sandbox: Sandbox) -> Running:
    """The example's own image and command, with an agent whose call lasts until the server ends it."""
    env = {**variables(sandbox.url), **KEYS, "LIVEKIT_URL": f"ws://{livekit.ip}:7880", "SHIPPER_SOURCE": SOURCE}
    return Running(image, env=env, options=["--volume", f"{OURS}/agent.py:/app/agent.py:ro"])


def turns(messages: Iterable[str]) -> list[int]:
    """Those of the call that are among them."""
    return [int(words[1]) for words in map(str.split, messages) if len(words) == 2 and words[0] == "turn"]


def assert_all_arrived(sandbox: Sandbox, container: Running) -> dict[str, list[str]]:
    """Every line of `docker logs` is at every provider: numbered without a gap, once, and with the same message.

    Returns the messages by stream.
    """
    logs = container.logs()
    printed = {"stdout": messages_of(logs.stdout), "stderr": messages_of(logs.stderr)}
    for provider in ALL:
        events = all_events(sandbox, provider)
        assert {stream: shown(events, SOURCE, stream) for stream in printed} == printed, provider
        of_stream = {stream: found for (_, stream), found in streams(sandbox, provider).items()}
        assert of_stream.keys() == printed.keys()
        assert {(found["missing"], found["repeats"]) for found in of_stream.values()} == {(0, 0)}, provider
        assert len({event["run"] for event in events}) == 1
        assert of_stream["stdout"]["last_seq"] == len(logs.stdout.rstrip().splitlines())
    return printed


@contextmanager
def telling_it_to_stop(container: Running) -> Iterator[subprocess.Popen[bytes]]:
    """`docker stop` with patience, which lasts as long as the container does."""
    command = ["docker", "stop", "-t", "60", container.name]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as stopping:
        try:
            yield stopping
        finally:
            stopping.kill()


def test_term_in_the_midst_of_a_job_drains_the_real_worker_and_every_line_arrives(
    image: str, livekit: Running, sandbox: Sandbox
) -> None:
    """No media: the job does not join its room. A second TERM would have ended it with 1, as the next test shows."""
    with worker(image, livekit, sandbox) as container:
        container.wait_for('"turn 5"', 90)
        with telling_it_to_stop(container) as stopping:
            container.wait_for("draining worker", 30)
            told = messages_of(container.logs().stdout)
            last = turns(told[: told.index("draining worker")])[-1]

            def later_ones_are_there(provider: str) -> bool:
                return max(turns(shown(all_events(sandbox, provider), SOURCE, "stdout")), default=0) > last + 5

            for provider in ALL:
                wait_until(lambda: later_ones_are_there(provider), 30, f"what was said after TERM at {provider}")  # noqa: B023
            assert container.running
            assert b"shutting down worker" not in container.logs().stdout
            livekit.kill("USR1")  # the call ends
            assert stopping.wait(60) == 0
        assert container.status == 0
        printed = assert_all_arrived(sandbox, container)
        livekit.wait_for("gone")
    seen = livekit.logs().stdout.split()
    assert seen[:3] == [b"listening", b"available", b"running"]
    assert b"failed" not in seen
    spoken = turns(printed["stdout"])
    assert spoken == list(range(1, spoken[-1] + 1))
    assert printed["stdout"][-2:] == [f"call ended after turn {spoken[-1]}", "shutting down worker"]
    assert not [message for message in printed["stdout"] if "exiting forcefully" in message]
    assert printed["stderr"]


def test_a_second_term_reaches_the_worker_too_and_its_lines_arrive_with_what_livekit_says_of_the_job(
    image: str, livekit: Running, sandbox: Sandbox
) -> None:
    """It then quits at once, as it would bare."""
    with worker(image, livekit, sandbox) as container:
        container.wait_for('"turn 5"', 90)
        container.kill("TERM")
        container.wait_for("draining worker", 30)
        container.kill("TERM")
        assert container.wait() == 1
        printed = assert_all_arrived(sandbox, container)
    assert "exiting forcefully" in printed["stdout"]
    for provider in ALL:
        found: list[dict[str, Any]] = [
            event["attributes"] for event in all_events(sandbox, provider) if event["message"] == "turn 5"
        ]
        assert [(line["job_id"], line["room"]) for line in found] == [("AJ_of_the_test", "room-of-the-test")], provider
