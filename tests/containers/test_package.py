"""The package works in any image and takes nothing of it: real images, containers, and the sandbox as all providers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import urllib.request
from typing import TYPE_CHECKING, NamedTuple

import pytest

from shipper.sandbox.server import running_in_thread
from shipper.sinks.certificates import BUNDLES
from tests.containers import engine
from tests.containers.engine import ROOT, Running, run
from tests.containers.musl import musl_base
from tests.e2e.network import AUTHORITY, Network
from tests.e2e.wrapped import ALL, all_events
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shipper.sandbox.server import Sandbox

HERE = ROOT / "tests/containers"
MEGABYTE = 1_000_000
LARGEST = 55 * MEGABYTE
OTHER_BASE = "shipper-local-python-trixie:1"
AGENTS = "shipper-local-agents:1"
COMPILED = """\
ARG BASE
FROM ${BASE}
RUN apt-get update \\
 && apt-get install -y --no-install-recommends binutils gcc libc6-dev musl-tools patchelf \\
 && rm -rf /var/lib/apt/lists/*
COPY agent.c hostile.c /
RUN musl-gcc -static -O1 -o /agent-static agent.c && musl-gcc -O1 -o /agent-musl agent.c \\
 && gcc -shared -fPIC -O1 -o /hostile-glibc.so hostile.c && musl-gcc -shared -fPIC -O1 -o /hostile-musl.so hostile.c
"""
"""The first RUN is the one of docker/Dockerfile, whose layer serves both."""

SHELL_AGENT = ("sh", "-c", "cat /proc/self/environ; echo; echo a line on stdout; echo a line on stderr >&2; exit 7")
IN_EVERY = ("bookworm", "bullseye", "trixie", "musl", "scratch")

HOSTILE = {
    "LD_LIBRARY_PATH": "/hostile:/lib:/lib64:/usr/lib:/lib/x86_64-linux-gnu:/lib/aarch64-linux-gnu",
    "LD_PRELOAD": "/hostile.so /nonsense.so",
    "LD_BIND_NOW": "1",
    "GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.nonsense=1",
    "MALLOC_CHECK_": "3",
    "PYTHONHOME": "/nonsense",
    "PYTHONPATH": "/hostile",
    "PYTHONINSPECT": "1",
    "PYTHONWARNINGS": "error",
    "LANG": "de_DE.ISO-8859-1",
    "LC_ALL": "xx_XX",
    "LC_CTYPE": "C.UTF-8",
    "GCONV_PATH": "/hostile",
    "LOCPATH": "/hostile",
    "OPENSSL_CONF": "/hostile/openssl.cnf",
    "OPENSSL_MODULES": "/hostile",
    "EMPTY": "",
    "ODD.NAME": "a=b",
}
SCRATCH_ONLY = {"LD_DEBUG": "all", "LD_AUDIT": "/nonsense.so"}
"""A dynamic agent would itself print what these ask for, with addresses that differ each time."""
MAY_MOUNT = ("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined")
WITHOUT_HOME = ("--user", "10001:10001", "--read-only")


class Image(NamedTuple):
    bare: str
    wrapped: str
    agent: tuple[str, ...]


@pytest.fixture(scope="session")
def agents(package: str) -> str:
    files = {name: HERE / name for name in ("agent.c", "hostile.c")}
    return engine.build(AGENTS, {"Dockerfile": COMPILED, **files}, arguments={"BASE": engine.BASE})


@pytest.fixture(scope="session")
def images(agents: str) -> dict[str, Image]:
    """By name: the image, the same with the two lines, and the agent's command."""
    return {name: _image(name, agents) for name in IN_EVERY}


def _image(name: str, agents: str) -> Image:
    agent: tuple[str, ...] = ("/agent",)
    if name == "scratch":
        base, more = "scratch", f"COPY --from={agents} /agent-static /agent"
    elif name == "musl":
        more = f"COPY --from={agents} /agent-musl /agent\nCOPY --from={agents} /hostile-musl.so /hostile.so"
        base = musl_base()
    else:
        base, more, agent = f"debian:{name}-slim", f"COPY --from={agents} /hostile-glibc.so /hostile.so", SHELL_AGENT
    bare = engine.build(engine.new_name(name), {"Dockerfile": f"FROM {base}\n{more}\n"})
    return Image(bare, engine.wrapped(bare), agent)


def said(stderr: bytes) -> list[str]:
    return [line for line in stderr.decode(errors="replace").splitlines() if line.startswith("shipper: ")]


def printed(stderr: bytes) -> bytes:
    """What is not ours."""
    return b"".join(line for line in stderr.splitlines(keepends=True) if not line.startswith(b"shipper: "))


def parted(stdout: bytes) -> tuple[list[bytes], bytes]:
    """The environment's entries, and what was printed after them. The engine's own order differs each time."""
    entries, _, rest = stdout.partition(b"\0\n")
    return sorted(entries.split(b"\0")), rest


def messages(sandbox: Sandbox, provider: str) -> list[str]:
    return [event["message"] for event in all_events(sandbox, provider)]


# -- what is in it -----------------------------------------------------------------------------------------------


def entries(image: str) -> dict[str, tarfile.TarInfo]:
    """What the image holds, by name."""
    names: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(fileobj=io.BytesIO(engine.docker("save", image).stdout)) as saved:
        manifest = saved.extractfile("manifest.json")
        assert manifest is not None
        for layer in json.load(manifest)[0]["Layers"]:
            with tarfile.open(fileobj=saved.extractfile(layer)) as archive:
                names |= {entry.name.strip("/"): entry for entry in archive}
    return names


def test_the_image_holds_opt_shipper_and_one_link_and_nothing_else(package: str) -> None:
    names = entries(package)
    link = names.pop("usr/local/bin/shipper")
    assert (link.issym(), link.linkname) == (True, "/opt/shipper/bin/shipper")
    outside = {name for name in names if not name.startswith("opt/shipper/")}
    assert outside == {"opt", "opt/shipper", "usr", "usr/local", "usr/local/bin"}
    inside = [entry for entry in names.values() if entry.isreg()]
    assert [entry.name for entry in inside if (entry.uid, entry.gid) != (0, 0) or entry.mode & 0o022] == []
    assert [entry.name for entry in inside if not entry.mode & 0o004] == []  # any user may run it
    assert [name for name in names if name.endswith(".py")] == ["opt/shipper/bin/shipper.py"]
    assert {"agent-shipper", "python"} < {name.split("/")[3] for name in names if "/licenses/" in name}
    services = {name.split("/")[5] for name in names if name.startswith("opt/shipper/packages/botocore/data/")}
    assert services == {"logs", "partitions.json", "sdk-default-configuration.json", "_retry.json"}


def test_buildkit_makes_the_same_package(package: str) -> None:
    if not engine.has_buildkit():
        pytest.skip("docker has no buildx here")
    other = engine.build(
        engine.new_name("buildkit"), engine.project_files(),
        dockerfile="docker/Dockerfile", arguments={"BASE": engine.BASE}, buildkit=True,
    )  # fmt: skip
    first, second = ({name: (e.type, e.mode, e.size) for name, e in entries(i).items()} for i in (package, other))
    assert first == second
    assert run(other, "--version").stdout == run(package, "--version").stdout != b""


def test_the_image_is_small(package: str) -> None:
    assert engine.size_bytes(package) <= LARGEST


def test_nothing_that_was_left_out_is_missed_and_no_library_comes_from_outside(package: str) -> None:
    checked = run(
        package, "-I", "-S", "-",
        options=["--entrypoint", "/opt/shipper/bin/python3", "--env", "LC_ALL=C"],
        input=(ROOT / "docker/package/check.py").read_bytes(),
    )  # fmt: skip
    assert checked.status == 0, checked.stderr.decode()
    assert b"modules, 0 faults" in checked.stdout


def test_every_file_of_the_project_is_in_it(package: str) -> None:
    listing = "import os; print(*(f'{a}/{c}' for a, b, d in os.walk('/opt/shipper/packages/shipper') for c in d))"
    told = run(package, "-I", "-c", listing, options=["--entrypoint", "/opt/shipper/bin/python3"])
    there = {name.removeprefix("/opt/shipper/packages/") for name in told.stdout.decode().split()}
    files = [path.relative_to(ROOT) for path in (ROOT / "shipper").rglob("*") if path.is_file()]
    expected = {str(path.with_suffix(".pyc") if path.suffix == ".py" else path) for path in files if _kept(path)}
    assert there == expected


def _kept(path: Path) -> bool:
    return "__pycache__" not in path.parts


# -- in any image ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), WITHOUT_HOME], ids=["root", "without-home-read-only"])
@pytest.mark.parametrize("name", IN_EVERY)
def test_the_agent_runs_as_bare_in_a_hostile_environment_and_its_lines_reach_every_provider(
    name: str, options: tuple[str, ...], images: dict[str, Image], sandbox: Sandbox
) -> None:
    bare, wrapped, agent = images[name]
    environ = {**HOSTILE, **(SCRATCH_ONLY if name == "scratch" else {}), **variables(sandbox.url)}
    options = (*options, "--hostname", "worker-1")
    expected = run(bare, *agent, env=environ, options=options)
    got = run(wrapped, *agent, env=environ, options=options)
    assert got.status == expected.status == 7
    assert parted(got.stdout) == parted(expected.stdout)
    assert b"\0LD_PRELOAD=/hostile.so /nonsense.so\0" in got.stdout
    assert printed(got.stderr) == expected.stderr
    assert said(got.stderr) == []
    for provider in ALL:
        shown = messages(sandbox, provider)
        assert "a line on stdout" in shown, (provider, shown)
        assert "a line on stderr" in shown, (provider, shown)


@pytest.mark.parametrize("name", ["bookworm", "musl"])
def test_what_is_hostile_about_that_environment_would_do_harm(name: str, images: dict[str, Image]) -> None:
    python = ["--entrypoint", "/opt/shipper/bin/python3"]
    preloaded = run(images[name].wrapped, "-I", "-c", "", env={"LD_PRELOAD": "/hostile.so"}, options=python)
    assert preloaded.status == (127 if name == "musl" else 99)  # 127: it wants musl's libc.so
    assert run(images[name].wrapped, "-c", "", env={"PYTHONHOME": "/nonsense"}, options=python).status == 1


def test_the_agent_has_its_environment_in_its_order(images: dict[str, Image]) -> None:
    options = ["--hostname", "worker-1", "--entrypoint", "/agent"]
    command = ("/usr/local/bin/shipper", "run", "--", "/agent")
    got = run(images["scratch"].wrapped, *command, env={**HOSTILE, **SCRATCH_ONLY}, options=options)
    before, after = got.stdout.removesuffix(b"a line on stdout\n").splitlines()
    assert before.startswith(b"PATH=")
    assert after == before


def test_a_variable_of_the_agents_is_not_lost_where_there_is_no_proc(images: dict[str, Image]) -> None:
    environ = {**HOSTILE, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    del environ["LD_PRELOAD"]  # mount(8) is no agent
    options = (*MAY_MOUNT, "--hostname", "worker-1", "--entrypoint", "sh")
    start = "umount -l /proc && exec"
    expected = run(images["bookworm"].bare, "-c", f"{start} env -0", env=environ, options=options)
    got = run(images["bookworm"].wrapped, "-c", f"{start} shipper run -- env -0", env=environ, options=options)
    assert (got.status, sorted(got.stdout.split(b"\0"))) == (0, sorted(expected.stdout.split(b"\0")))
    assert b"LC_ALL=xx_XX\0" in got.stdout


def test_it_runs_as_root_of_a_user_namespace(images: dict[str, Image]) -> None:
    options = (*MAY_MOUNT, "--entrypoint", "unshare")
    got = run(
        images["bookworm"].wrapped, *("--user", "--map-root-user", "shipper", "run", "--", "sh", "-c", "id -u; exit 3"),
        options=options,
    )  # fmt: skip
    assert (got.status, got.stdout) == (3, b"0\n"), got.stderr


def test_without_a_place_for_the_journal_the_agent_runs_and_a_sentence_says_what_to_do(
    images: dict[str, Image], sandbox: Sandbox
) -> None:
    options: tuple[str, ...] = (*WITHOUT_HOME, "--tmpfs", "/dev/shm:ro")
    got = run(images["scratch"].wrapped, "/agent", env=variables(sandbox.url), options=options)
    assert (got.status, printed(got.stderr)) == (7, b"a line on stderr\n")
    sentence, lost = said(got.stderr)
    assert "nothing is forwarded; set SHIPPER_DIR to a directory that can be written." in str(sentence)
    assert "the providers could not be told: " in str(lost)
    options = (*WITHOUT_HOME, "--tmpfs", "/dev/shm:ro", "--tmpfs", "/journal:mode=1777")
    environ = {**variables(sandbox.url), "SHIPPER_DIR": "/journal"}
    assert said(run(images["scratch"].wrapped, "/agent", env=environ, options=options).stderr) == []
    assert "a line on stderr" in messages(sandbox, "datadog")


def test_a_damaged_package_lets_the_agent_run(images: dict[str, Image]) -> None:
    more = "COPY nothing /opt/shipper/bin/python3"  # not executable
    damaged = engine.wrapped(images["scratch"].bare, more=more, files={"nothing": ""})
    got = run(damaged, "/agent", env=HOSTILE, options=["--hostname", "worker-1"])
    assert got.status == 7
    bare = run(images["scratch"].bare, "/agent", env=HOSTILE, options=["--hostname", "worker-1"])
    assert parted(got.stdout) == parted(bare.stdout)
    (sentence,) = said(got.stderr)
    assert sentence == (
        "shipper: cannot start /opt/shipper/bin/python3 (Permission denied), so the agent runs without it and nothing "
        "is forwarded."
    )
    assert run(damaged, "/nothing").status == 127
    logs = run(damaged, "logs", options=["--entrypoint", "shipper"])
    assert (logs.status, len(said(logs.stderr))) == (70, 1)


@pytest.mark.timeout(400)
def test_it_can_be_made_of_another_debian_and_another_python_and_runs_in_an_older_one(sandbox: Sandbox) -> None:
    """The published Python images are Debian 13 by now: another patchelf, a newer C library than that of the agent."""
    made = "RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip"
    engine.build(OTHER_BASE, {"Dockerfile": f"FROM debian:trixie-slim\n{made}\n"})
    package = engine.build_package(OTHER_BASE, f"shipper-local-package-trixie:{engine.PLACE}")
    assert engine.size_bytes(package) <= LARGEST
    bullseye = f'FROM debian:bullseye-slim\nCOPY --from={package} / /\nENTRYPOINT ["shipper", "run", "--"]\n'
    image = engine.build(engine.new_name("older"), {"Dockerfile": bullseye})
    environ = {**HOSTILE, **variables(sandbox.url), "LD_PRELOAD": ""}
    got = run(image, *SHELL_AGENT, env=environ, options=WITHOUT_HOME)
    assert (got.status, got.stderr) == (7, b"a line on stderr\n")
    for provider in ALL:
        assert "a line on stderr" in messages(sandbox, provider)


# -- every command -----------------------------------------------------------------------------------------------


def test_the_sandbox_and_its_page_come_out_of_the_package_and_logs_shows_what_was_printed(
    package: str, images: dict[str, Image]
) -> None:
    with Running(package, "sandbox", "--host", "0.0.0.0", "--port", "8080") as sandbox:
        url = f"http://{sandbox.ip}:8080"
        sandbox.wait_for("8080")
        for page in ("/", "/page.css", "/page.js"):
            with urllib.request.urlopen(url + page, timeout=10) as answer:
                assert (answer.status, len(answer.read()) > 1000) == (200, True)
        agent = ("sh", "-c", "echo grüezi; echo done; exec sleep 60")
        environ = {**variables(url), "LC_ALL": "C", "LD_PRELOAD": "/hostile.so"}
        with Running(images["bookworm"].wrapped, *agent, env=environ, options=["--init=false"]) as container:
            container.wait_for("done")

            def shown() -> bytes:
                return container.exec("shipper", "logs").stdout

            wait_until(lambda: b"done" in shown(), what="the lines in `shipper logs`")
            assert shown() == "grüezi\ndone\n".encode()
            checked = container.exec("shipper", "check", "--json")
            assert checked.status == 0, checked.stdout + checked.stderr
            assert container.exec("shipper", "--help").status == 0
            assert container.exec("shipper", "nonsense").status == 64
            container.stop(10)

        def arrived() -> bool:
            with urllib.request.urlopen(f"{url}/sandbox/summary", timeout=10) as answer:
                providers = json.load(answer)["providers"]
            return all(providers[name]["events"] >= 2 for name in ALL)

        wait_until(arrived, what="the lines at every provider")


def test_a_start_is_no_slower_than_a_few_starts_of_a_shell(images: dict[str, Image]) -> None:
    """The bench has the figure (7 ms over bare here); this is that it is nowhere near what a cold start would cost."""
    script = (
        'ms() { read -r up _ </proc/uptime; echo "${up%.*}${up#*.}0"; }; '
        'a=$(ms); for i in 1 2 3 4 5 6 7 8 9 10; do "$@" >/dev/null 2>&1; done; b=$(ms); echo $((b - a))'
    )
    took = {}
    for way, before in (("bare", ""), ("wrapped", "shipper run --")):
        command = (script, "sh", *before.split(), "sh", "-c", ":")
        got = run(images["bookworm"].wrapped, "-c", *command, options=["--entrypoint", "sh"])
        took[way] = int(got.stdout) / 10
    assert took["wrapped"] - took["bare"] < 150, took  # from start to end; 22 ms here


# -- names and certificates --------------------------------------------------------------------------------------


def test_names_resolve_by_hosts_and_by_dns_whatever_modules_nsswitch_names(
    images: dict[str, Image], sandbox: Sandbox
) -> None:
    nsswitch = "hosts: mymachines resolve [!UNAVAIL=return] mdns4_minimal files nonsense dns myhostname\n"
    image = engine.wrapped(
        images["scratch"].bare, more="COPY nsswitch.conf /etc/nsswitch.conf", files={"nsswitch.conf": nsswitch}
    )
    address = sandbox.url.partition("://")[2].rpartition(":")[0]
    by_hosts = variables(sandbox.url.replace(address, "intake.example"))
    got = run(image, "/agent", env=by_hosts, options=["--add-host", f"intake.example:{address}"])
    assert said(got.stderr) == []
    for provider in ALL:
        assert "a line on stderr" in messages(sandbox, provider)
    sandbox.store.reset()
    network = engine.make_network()  # in one of its own Docker answers DNS
    with Running("debian:bookworm-slim", "sleep", "60", options=["--network", network]) as other:
        code = f"import socket; print(socket.gethostbyname({other.name!r}))"
        python = ("--entrypoint", "/opt/shipper/bin/python3", "--network", network)
        assert run(image, "-I", "-c", code, options=python).stdout.decode().strip() == other.ip


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Datadog with a certificate of the tests' authority, for containers in this machine's network."""
    with running_in_thread() as sandbox, Network(tmp_path) as network:
        yield variables(f"https://localhost:{network.tls(sandbox.port)}", ["datadog"])


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_certificates_of_the_image_are_trusted_wherever_its_system_keeps_them(
    bundle: str, images: dict[str, Image], tls: dict[str, str]
) -> None:
    image = engine.wrapped(images["scratch"].bare, more=f"COPY bundle {bundle}", files={"bundle": AUTHORITY})
    checked = run(image, "check", env=tls, options=["--network", "host", "--entrypoint", "shipper"])
    assert checked.status == 0, checked.stdout.decode()
    assert "TLS 1.3 verified" in checked.stdout.decode()


def test_the_certificates_of_the_package_are_for_an_image_without_any(
    images: dict[str, Image], tls: dict[str, str]
) -> None:
    options = ["--network", "host", "--entrypoint", "shipper"]
    unknown = run(images["scratch"].wrapped, "check", env=tls, options=options).stdout.decode()
    assert "was not verified" in unknown  # ours is of no public authority
    assert "no authority's certificate is here" not in unknown
    code = "import sys; sys.path.append('/opt/shipper/packages'); from shipper.sinks import certificates as c; "
    code += "print(len(c.context().get_ca_certs()))"
    counted = run(images["scratch"].wrapped, "-I", "-c", code, options=["--entrypoint", "/opt/shipper/bin/python3"])
    assert int(counted.stdout) > 100
    more = "COPY nothing /opt/shipper/packages/certifi/cacert.pem\nCOPY bundle /bundle"
    files = {"nothing": "", "bundle": AUTHORITY}
    without = engine.wrapped(images["scratch"].bare, more=more, files=files)
    told = run(without, "check", env=tls, options=options).stdout.decode()
    assert "no authority's certificate is here: install ca-certificates" in told
    named = run(without, "check", env={**tls, "SSL_CERT_FILE": "/bundle"}, options=options)
    assert named.status == 0, named.stdout.decode()


# -- by pip instead ----------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_a_wheel_installed_by_pip_wraps_an_agent_too(tmp_path: Path, sandbox: Sandbox) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    dockerfile = (
        f"FROM {engine.BASE}\nCOPY requirements.txt /\n"
        "RUN pip install --no-cache-dir --require-hashes -r /requirements.txt\n"
        f"COPY {wheel.name} /\nRUN pip install --no-cache-dir --no-deps /{wheel.name}\n"
        'ENTRYPOINT ["shipper", "run", "--"]\n'
    )
    files = {wheel.name: wheel, "requirements.txt": ROOT / "requirements.txt"}
    image = engine.build("shipper-local-pip:1", {"Dockerfile": dockerfile, **files})
    agent = ("python", "-c", "import sys; print('a line on stdout'); sys.exit(7)")
    got = run(image, *agent, env=variables(sandbox.url), options=["--user", "10001:10001", "--read-only"])
    assert (got.status, got.stdout, said(got.stderr)) == (7, b"a line on stdout\n", [])
    for provider in ALL:
        assert "a line on stdout" in messages(sandbox, provider)
