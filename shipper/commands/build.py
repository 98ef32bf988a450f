"""``shipper build``: runs a build step as it would run without, and keeps its output as the build log of its version.

A thread reads, keeps and passes on; the main thread takes signals out of the queue and hands them to the step,
unless the kernel gave them to the whole group (Ctrl-C). Whatever is wrong with keeping the output, the step runs.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time

from shipper.commands.buildlog import IMAGE_PLACE, UNVERSIONED, Step, name_of, places, shown
from shipper.config.needles import HIDDEN, needles
from shipper.config.settings import load
from shipper.journal.directory import prepare
from shipper.messages import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Environment = Mapping[str, str] | Mapping[bytes, bytes]

USAGE = 64
READ_BYTES = 64 << 10
LINGER_SECONDS = 2.0  # for what a process that the step left behind still prints

HANDED_ON = {
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
}  # fmt: skip

HELP = """\
usage: shipper build [--version V] [--] CMD [ARG...]

Runs a build step: same output, status and signals as without. What it prints is kept as the build log of its version,
which `shipper logs --log-type=build` shows, and never forwarded anywhere.

options
  --version V   which steps belong together; else SHIPPER_BUILD_VERSION. Steps of one version are added to it, a new
                one starts afresh and is the one shown. Without one the steps of an image all belong together, and on a
                host each call is a version of its own.

examples
  RUN shipper build -- pip install -r requirements.txt     in a Dockerfile: the log is in the image
  RUN shipper build -- sh -c 'npm ci && npm run build'     a shell's line
  shipper build --version 1.4.2 -- docker build .          on a host

in a Dockerfile of several stages, in the last one
  COPY --from=build /usr/share/shipper/build /usr/share/shipper/build

exit status
  that of CMD; 128+N when signal N ended it; 127 CMD not found; 126 CMD cannot be run; 64 no CMD or a wrong option.
"""


def main(arguments: Sequence[str], environment: Environment) -> int:
    """The step's exit status. ``environment``: the step's."""
    try:
        version, command = _parse(arguments)
    except ValueError as error:
        say(f"{error}; `shipper build --help` shows what there is")
        return USAGE
    if version is None:
        sys.stdout.write(HELP)
        return 0
    _occupy_standard_descriptors()
    masked = [name.strip() for name in os.environ.get("SHIPPER_MASK", "").split(",")]
    secrets = needles(os.environ, masked, off=[name.lower() for name in masked] == ["off"])
    step = _open(version, {"command": shown(command, secrets), "started": time.time()})
    return _run(command, environment, _Keeper(step, [value.encode(errors="surrogateescape") for value in secrets]))


def _parse(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Version, empty where none is given and None where help is asked for, and the command. Raises ValueError."""
    rest = list(arguments)
    version = os.environ.get("SHIPPER_BUILD_VERSION", "").strip()
    if version:
        try:
            name_of(version)
        except ValueError as error:
            say(f"SHIPPER_BUILD_VERSION cannot be used ({error}): the step is kept without one")
            version = ""
    while rest and rest[0].startswith("-") and rest[0] != "--":
        option, equals, value = rest.pop(0).partition("=")
        if option in ("-h", "--help") and not equals:
            return None, []
        if option != "--version":
            raise ValueError(f"build has no option {option}")
        if not equals:
            if not rest:
                raise ValueError("--version needs a version")
            value = rest.pop(0)
        try:
            name_of(value)
        except ValueError as error:
            raise ValueError(f"--version cannot be that: {error}") from None
        version = value
    command = rest[1:] if rest[:1] == ["--"] else rest
    if not command:
        raise ValueError("build needs a command: shipper build -- pip install -r requirements.txt")
    return version, command


def _open(version: str, values: dict[str, object]) -> Step | None:
    """None, with a sentence, where nothing can be kept."""
    settings = load(os.environ)
    for problem in settings.problems:
        if problem.variable == "SHIPPER_BUILD_DIR":
            say(problem.message)
    found = places(os.environ, settings.directories)
    failure = ""
    for place in found:
        name = name_of(version) if version else UNVERSIONED
        on_host = place != IMAGE_PLACE and len(found) > 1
        if on_host and not version:
            # a moment and a process: steps that begin at once are apart
            name = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f".{time.time_ns() % 10**9:09d}-{os.getpid()}"
        try:
            if on_host:
                prepare(os.path.dirname(place))  # as the journal's, which it is: /tmp may hold traps
            return Step(place, name, {"version": version, **values})
        except Exception as error:  # noqa: BLE001 (whatever it is, the step runs)
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            failure = failure or f"{place}: {why}"
    say(
        f"no build log can be kept ({failure}): the step runs without; "
        "make that directory writable or set SHIPPER_BUILD_DIR"
    )
    return None


class _Keeper:
    """The pump's way into the step's log: secrets out, errors said once."""

    def __init__(self, step: Step | None, secrets: Sequence[bytes]) -> None:
        self._step = step
        self._secrets = secrets
        self._held: dict[int, bytes] = {}  # by output: the beginning of a secret, perhaps
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._whole = True

    def take(self, stream: int, data: bytes) -> None:
        if self._step is None or not self._whole:
            return
        data = self._held.pop(stream, b"") + data
        for secret in self._secrets:
            data = data.replace(secret, HIDDEN.encode())
        cut = self._begins(data)
        if data[cut:]:
            self._held[stream] = data[cut:]
        self._do(lambda step: step.write(data[:cut]))

    def _begins(self, data: bytes) -> int:
        """Where at its end one of the secrets may begin."""
        cut = len(data)
        for secret in self._secrets:
            at = data.find(secret[:1], max(0, len(data) - len(secret) + 1))
            while 0 <= at < cut:
                if secret.startswith(data[at:]):
                    cut = at
                    break
                at = data.find(secret[:1], at + 1)
        return cut

    def end(self, **values: int) -> None:
        held = b"".join(self._held.values())
        if self._whole:
            self._do(lambda step: step.write(held))
        duration = round(time.monotonic() - self._began, 3)
        self._do(lambda step: step.end(whole=self._whole, duration=duration, **values))
        self._step = None  # what comes later of a process left behind is not kept

    def _do(self, action: Callable[[Step], None]) -> None:
        with self._lock:
            if self._step is None:
                return
            try:
                action(self._step)
            except OSError as error:
                if self._whole:
                    self._whole = False
                    say(f"the build log is not kept any further ({error.strerror}): the step goes on")


class _Pump(threading.Thread):
    """Passes on what the step prints. ``outputs``: where to, by the pipe's end that it is read from.

    One thread for both: what is read at different times is kept in that order.
    """

    def __init__(self, outputs: Mapping[int, int], keeper: _Keeper) -> None:
        super().__init__(daemon=True)
        self._outputs = outputs
        self._keeper = keeper
        self.waits_since: float | None = time.monotonic()  # None while it has something to pass on

    def run(self) -> None:
        poll = select.poll()
        for fd in self._outputs:
            poll.register(fd, select.POLLIN)
        left = set(self._outputs)
        while left:
            self.waits_since = time.monotonic()
            ready = poll.poll()
            self.waits_since = None
            for fd, _ in ready:
                if not self._pass_on(fd):
                    poll.unregister(fd)
                    os.close(fd)
                    left.remove(fd)

    def _pass_on(self, fd: int) -> bool:
        """False at the end of that output, or when whoever reads ours is gone: the step meets that as it would bare."""
        try:
            data = os.read(fd, READ_BYTES)
            if not data:
                return False
            self._keeper.take(fd, data)
            while data:
                try:
                    data = data[os.write(self._outputs[fd], data) :]
                except BlockingIOError:  # whoever shares our stdout has made it so
                    select.select([], [self._outputs[fd]], [])
        except OSError:
            return False
        return True


def _run(command: Sequence[str], environment: Environment, keeper: _Keeper) -> int:
    received = signal.pthread_sigmask(signal.SIG_BLOCK, {*HANDED_ON, signal.SIGCHLD})
    out, out_end = os.pipe2(os.O_CLOEXEC)
    # of one file, as a terminal or with 2>&1, both can be kept in their exact order
    err, err_end = (out, out_end) if os.path.sameopenfile(1, 2) else os.pipe2(os.O_CLOEXEC)
    try:
        if not command[0]:
            raise FileNotFoundError(2, os.strerror(2))
        pid = os.posix_spawnp(
            command[0],
            list(command),
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, out_end, 1), (os.POSIX_SPAWN_DUP2, err_end, 2)],
            setsigmask=received,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them by itself
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        status = 127 if isinstance(error, (FileNotFoundError, NotADirectoryError)) else 126
        say(f"cannot run {command[0] or 'an empty command'}: {why}")
        keeper.end(status=status)
        return status
    for end in {out_end, err_end}:
        os.close(end)
    pump = _Pump({err: 2, out: 1}, keeper)
    pump.start()
    status, ended = _wait(pid)
    while pump.is_alive():
        since = pump.waits_since  # a reader that is slow is waited for, as it would be without us
        if since is not None and time.monotonic() - max(since, ended) >= LINGER_SECONDS:
            break  # something that the step left behind holds the pipe, and says nothing
        pump.join(0.05)
    keeper.end(**({"status": status} if status >= 0 else {"signal": -status}))
    return status if status >= 0 else 128 - status


def _wait(pid: int) -> tuple[int, float]:
    """The step's status, negative for a signal's, and when it ended (monotonic). Hands signals on until then."""
    while True:
        received = signal.sigwaitinfo({*HANDED_ON, signal.SIGCHLD})
        if received.si_signo != signal.SIGCHLD:
            # the kernel gave it to the whole group of a terminal, the step's too; but of a hangup it tells us alone
            if received.si_code <= 0 or received.si_signo == signal.SIGHUP:
                os.kill(pid, received.si_signo)
            continue
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)  # as PID 1 of a RUN it has orphans, too
            except ChildProcessError:
                break
            if child == pid:
                return os.waitstatus_to_exitcode(status), time.monotonic()
            if not child:
                break


def _occupy_standard_descriptors() -> None:
    """No pipe and no log lands on those of 0, 1 and 2 that are closed."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
