"""A real Docker engine as the container tests use it: images, containers, a place where they reach the sandbox.

Whatever is called shipper-test-… is removed when the tests end. Images of other names, as `PACKAGE`, stay: their layers
are the cache of the next run. Works with the classic builder and with BuildKit; a build's context goes in through
stdin, so nothing that lies about in the working tree gets into it.
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import itertools
import json
import os
import subprocess
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.helpers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
OURS = "shipper-test-"
PLACE = hashlib.sha256(bytes(ROOT)).hexdigest()[:8]  # of this checkout: another one's tests may run beside these
PACKAGE = f"agent-shipper:test-{PLACE}"
BASE = "python:3.11-slim"
"""The package is built from it: the published image, or a local one of that name."""
BUILD_TIMEOUT = 600.0

_numbers = itertools.count(1)
_images: set[str] = set()
_containers: set[str] = set()
_networks: set[str] = set()
_volumes: set[str] = set()


class Completed(NamedTuple):
    """What a finished `docker` command left. Of a container's output, stdout and stderr stay apart (not with -t)."""

    status: int
    stdout: bytes
    stderr: bytes


class DockerError(AssertionError):
    """A `docker` command that was to work did not."""


def docker(*args: str, check: bool = True, input: bytes | None = None, timeout: float = 60) -> Completed:  # noqa: A002
    """Runs `docker ARGS`. Raises DockerError when ``check`` and its status is not 0."""
    done = subprocess.run(["docker", *args], input=input, capture_output=True, timeout=timeout,
                          stdin=subprocess.DEVNULL if input is None else None)  # fmt: skip
    if check and done.returncode:
        words = " ".join(args)[:400]
        raise DockerError(f"docker {words} ended with {done.returncode}:\n{_tail(done.stdout)}\n{_tail(done.stderr)}")
    return Completed(done.returncode, done.stdout, done.stderr)


def _tail(data: bytes) -> str:
    return data[-4000:].decode(errors="replace")


def new_name(what: str) -> str:
    """A name that no other test, and no other run of the tests, has."""
    return f"{OURS}{what}-{os.getpid()}-{next(_numbers)}"


# -- images ------------------------------------------------------------------------------------------------------


def project_files() -> dict[str, Path]:
    """What the builds of the project take: a file's name from the root, and where it is."""
    kept = ["LICENSE", "README.md", "CHANGELOG.md", "entrypoint.sh", "pyproject.toml", "requirements.txt"]
    for room in ("shipper", "docker"):
        paths = sorted(path for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        kept += [str(path.relative_to(ROOT)) for path in paths]
    return {name: ROOT / name for name in kept}


def files_of(directory: Path) -> dict[str, str | bytes | Path]:
    """All of a directory, as a build's context."""
    return {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}


def context(files: Mapping[str, str | bytes | Path]) -> bytes:
    """A build's context as a tar: text and bytes as they are, a path as that file with its mode.

    Directories as a checkout has them, so that docker-compose, which sends those, finds the same builds in the cache.
    """
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for directory in sorted({str(above) for name in files for above in PurePosixPath(name).parents} - {"."}):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, Path):
                entry.mode = 0o755 if os.access(content, os.X_OK) else 0o644
                body = content.read_bytes()
            else:
                entry.mode = 0o644
                body = content.encode() if isinstance(content, str) else content
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return data.getvalue()


def build(
    tag: str,
    files: Mapping[str, str | bytes | Path],
    *,
    dockerfile: str = "Dockerfile",
    arguments: Mapping[str, str] | None = None,
    target: str = "",
    buildkit: bool = False,
    timeout: float = BUILD_TIMEOUT,
) -> str:
    """Builds and tags an image; the tag. ``files``: the context (`context`), the Dockerfile among them.

    ``buildkit``: with that, which `has_buildkit` must say is here; else with the engine's default.
    """
    options = ["--tag", tag, "--file", dockerfile, "--load" if buildkit else "--force-rm"]
    for name, value in (arguments or {}).items():
        options += ["--build-arg", f"{name}={value}"]
    if target:
        options += ["--target", target]
    docker(*(["buildx"] if buildkit else []), "build", *options, "-", input=context(files), timeout=timeout)
    if tag.startswith(OURS):
        _images.add(tag)
    return tag


def has_buildkit() -> bool:
    return docker("buildx", "version", check=False).status == 0


def build_package(base: str = BASE, tag: str = PACKAGE) -> str:
    """docker/Dockerfile as an image, from the working tree; a few seconds when nothing has changed."""
    return build(tag, project_files(), dockerfile="docker/Dockerfile", arguments={"BASE": base})


def wrapped(base: str, *, more: str = "", files: Mapping[str, str | bytes | Path] | None = None) -> str:
    """An image FROM ``base`` with the two lines that wrap it; built once for the same arguments.

    ``more``: further lines of the Dockerfile, such as USER, COPY of ``files``, or the CMD, which the ENTRYPOINT resets.
    """
    text = f'FROM {base}\nCOPY --from={PACKAGE} / /\nENTRYPOINT ["shipper", "run", "--"]\n{more}\n'
    key = hashlib.sha256(text.encode())
    for name, content in sorted((files or {}).items()):
        body = content.read_bytes() if isinstance(content, Path) else content
        key.update(repr((name, body)).encode())
    tag = f"{OURS}wrapped-{os.getpid()}:{key.hexdigest()[:12]}"
    return tag if tag in _images else build(tag, {"Dockerfile": text, **(files or {})})


def size_bytes(image: str) -> int:
    """Of all its layers, unpacked."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout)


def exists(image: str) -> bool:
    return docker("image", "inspect", image, check=False).status == 0


# -- containers --------------------------------------------------------------------------------------------------


def variables_of(environ: Mapping[str, str] | None) -> list[str]:
    """As options of `docker run`."""
    return [option for name, value in (environ or {}).items() for option in ("--env", f"{name}={value}")]


def run(
    image: str,
    *command: str,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,  # noqa: A002
    timeout: float = 60,
) -> Completed:
    """`docker run --rm` to its end; the status is the container's (125: docker could not start it)."""
    name = new_name("run")
    interactive = ["-i"] if input is not None else []
    try:
        return docker("run", "--rm", "--name", name, *interactive, *variables_of(env), *options, image, *command,
                      check=False, input=input, timeout=timeout)  # fmt: skip
    except subprocess.TimeoutExpired:
        docker("rm", "-f", "-v", name, check=False)
        raise


class Running:
    """A container from `docker run -d` to the block's end, which removes it with its anonymous volumes."""

    def __init__(
        self,
        image: str,
        *command: str,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        name: str = "",
    ) -> None:
        self.name = name or new_name("container")
        self._arguments = ["run", "-d", "--name", self.name, *variables_of(env), *options, image, *command]

    def __enter__(self) -> Self:
        _containers.add(self.name)
        try:
            docker(*self._arguments)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        docker("rm", "-f", "-v", self.name, check=False)
        _containers.discard(self.name)

    def logs(self) -> Completed:
        """What `docker logs` shows by now."""
        return docker("logs", self.name)

    def wait_for(self, text: bytes | str, timeout: float = 20.0) -> None:
        """Until `docker logs` shows it, on either stream; what it shows is in the error when it does not come."""
        wanted = text.encode() if isinstance(text, str) else text
        seen = Completed(0, b"", b"")

        def there() -> bool:
            nonlocal seen
            seen = self.logs()
            return wanted in seen.stdout + seen.stderr

        try:
            wait_until(there, timeout, f"{text!r} in the logs of {self.name}")
        except AssertionError as error:
            raise AssertionError(f"{error}; they are:\n{_tail(seen.stdout)}\n{_tail(seen.stderr)}") from None

    def wait(self, timeout: float = 60.0) -> int:
        """Until it has ended; its status."""
        return int(docker("wait", self.name, timeout=timeout).stdout)

    def stop(self, seconds: int = 10) -> None:
        """TERM, and KILL so many seconds later."""
        docker("stop", "-t", str(seconds), self.name, timeout=seconds + 30)

    def kill(self, signal: str = "KILL") -> None:
        docker("kill", "--signal", signal, self.name)

    def start(self) -> None:
        """Once more, after its end."""
        docker("start", self.name)

    def exec(self, *command: str, options: Sequence[str] = (), timeout: float = 60) -> Completed:
        """`docker exec`; the status is the command's."""
        return docker("exec", *options, self.name, *command, check=False, timeout=timeout)

    def inspect(self) -> dict[str, Any]:
        (found,) = json.loads(docker("inspect", self.name).stdout)
        return dict(found)

    @property
    def running(self) -> bool:
        return bool(self.inspect()["State"]["Running"])

    @property
    def status(self) -> int:
        return int(self.inspect()["State"]["ExitCode"])

    @property
    def pid(self) -> int:
        """Of its first process, as the host sees it."""
        return int(self.inspect()["State"]["Pid"])

    @property
    def ip(self) -> str:
        """Its address on the first network it is in."""
        networks = self.inspect()["NetworkSettings"]["Networks"]
        return next(str(network["IPAddress"]) for network in networks.values() if network["IPAddress"])


def make_network() -> str:
    """A bridge of its own; its name."""
    name = new_name("network")
    _networks.add(name)
    docker("network", "create", name)
    return name


def make_volume() -> str:
    name = new_name("volume")
    _volumes.add(name)
    docker("volume", "create", name)
    return name


def gateway(network: str = "bridge") -> str:
    """This machine's address as the containers of that network see it.

    Docker 20.10 does not name it for its own bridge until it has been started a second time: it is the subnet's first.
    """
    (found,) = json.loads(docker("network", "inspect", network).stdout)
    entry = next(entry for entry in found["IPAM"]["Config"] if "." in entry["Subnet"])
    return str(entry.get("Gateway") or ipaddress.ip_network(entry["Subnet"])[1])


def remove_all() -> None:
    """Whatever these tests have made and not yet removed."""
    for kind, names in (
        (("rm", "-f", "-v"), _containers),
        (("rmi", "-f"), _images),
        (("network", "rm"), _networks),
        (("volume", "rm", "-f"), _volumes),
    ):
        _remove(kind, names)


def _remove(command: Iterable[str], names: set[str]) -> None:
    if names:
        docker(*command, *sorted(names), check=False, timeout=120)
    names.clear()
