"""The agent's start, as it would start without us; and its fallback, becoming the agent.

The agent keeps: environment, working directory, umask, limits, stdin, the signal mask and the ignored signals that we
received, and every descriptor from 3 on. Its stdout and stderr are pipes, which PID 1 has as its own 1 and 2, too
(`stand_in`). Without a terminal as stdin it gets a session of its own. What cannot be kept: SIGPIPE and SIGXFSZ, which
Python ignores by itself, are set to default even if they came in ignored; so is SIGCHLD, since an ignored one would
hide how the agent ended; and glibc's posix_spawn leaves 32 and 33 ignored, its own signals between threads.

Until the spawn nothing is imported but C modules that Python has loaded by itself: `signal` would cost 3.7 ms,
`threading` 4 ms. ctypes, needed elsewhere than in PID 1, costs 1.2 ms.
"""

from __future__ import annotations

import _signal
import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NoReturn

ALL_SIGNALS = _signal.valid_signals()

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

MARK = b"\x01"
"""The launcher's, see `received_environment`."""

# Exit statuses of a shell: POSIX 2.8.2. Errors that are not named here are about us, not about the command.
NOT_FOUND = 127
NOT_EXECUTABLE = 126
COMMAND_ERRORS = {
    errno.ENOENT: NOT_FOUND,
    errno.ENOTDIR: NOT_FOUND,
    errno.EACCES: NOT_EXECUTABLE,
    errno.ENOEXEC: NOT_EXECUTABLE,
    errno.EISDIR: NOT_EXECUTABLE,
    errno.ELOOP: NOT_EXECUTABLE,
    errno.ENAMETOOLONG: NOT_EXECUTABLE,
    errno.ETXTBSY: NOT_EXECUTABLE,
    errno.E2BIG: NOT_EXECUTABLE,
    errno.ELIBBAD: NOT_EXECUTABLE,
}


class Agent:
    """The agent's process.

    ``stdout`` and ``stderr`` are our ends of its pipes; ``outputs``: our own stdout and stderr, to which we pass on;
    ``standing_in``: the agent's ends of the pipes are our 1 and 2 meanwhile; ``terminal``: its stdin is one, and it
    shares our process group; ``adopting``: orphans come to us; ``wait_status`` is None until it is reaped.
    """

    __slots__ = (
        "adopting",
        "command",
        "outputs",
        "pid",
        "standing_in",
        "started_ns",
        "stderr",
        "stdout",
        "terminal",
        "wait_status",
    )

    def __init__(self, command: list[str], stdout: int, stderr: int, terminal: bool, adopting: bool) -> None:
        self.command = command
        self.pid = 0
        self.stdout = stdout
        self.stderr = stderr
        self.outputs = (1, 2)
        self.standing_in = False
        self.terminal = terminal
        self.adopting = adopting
        self.started_ns = time.time_ns()
        self.wait_status: int | None = None


class _Received:
    """What we received from whoever started us and changed, to be given back when we become the agent."""

    __slots__ = ("mask", "sigchld", "subreaper")

    def __init__(self) -> None:
        self.mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL_SIGNALS)
        self.sigchld = _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        self.subreaper = False


def start(command: list[str]) -> Agent | int:
    """Starts the agent; an exit status when its command cannot be run.

    When anything else fails the agent takes this process's place, and this does not return.
    From here on every signal is blocked in every thread: the main thread takes them out of the queue.
    """
    received = None
    try:
        received = _Received()
        _occupy_standard_descriptors()
        # Before the spawn: after it a quick grandchild would escape.
        received.subreaper = os.getpid() != 1 and _set_subreaper(True)
        return _spawn(command, received)
    except KeyboardInterrupt:  # Ctrl-C before the signals were blocked
        return 128 + int(_signal.SIGINT)
    except Exception as error:  # noqa: BLE001  no descriptor, no process, no memory, a bug: the agent runs
        complain(f"cannot stand in front of the agent ({describe(error)}): it runs without, nothing is forwarded.")
        return _become(command, received)


def _spawn(command: list[str], received: _Received) -> Agent | int:
    stdout, stdout_end = os.pipe2(os.O_CLOEXEC)
    stderr, stderr_end = os.pipe2(os.O_CLOEXEC)
    agent = Agent(command, stdout, stderr, os.isatty(0), adopting=os.getpid() == 1 or received.subreaper)
    try:
        if os.getpid() == 1:
            stand_in(agent, stdout_end, stderr_end)
        if not command[0]:  # for which Python has a ValueError
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        agent.pid = os.posix_spawnp(
            command[0],
            command,
            received_environment(),
            file_actions=[(os.POSIX_SPAWN_DUP2, stdout_end, 1), (os.POSIX_SPAWN_DUP2, stderr_end, 2)],
            setsid=not agent.terminal,
            setsigmask=received.mask,
            setsigdef=[_signal.SIGPIPE, _signal.SIGXFSZ],
        )
    except Exception as error:
        give_back(agent)
        if not isinstance(error, OSError) or error.errno not in COMMAND_ERRORS:
            raise
        return _cannot_run(command, error)
    return agent  # nothing that can fail may stand behind the spawn: the agent would be run a second time


def stand_in(agent: Agent, stdout_end: int, stderr_end: int) -> None:
    """Makes the agent's ends of its pipes our 1 and 2 as well, and moves our own stdout and stderr to higher numbers.

    In a container /proc/1/fd/1 means what `docker logs` shows: cron jobs, daemons and health checks write there. It is
    ours, but who writes there means the agent's, and wants it kept and forwarded. Before the spawn, else what the agent
    writes there first would pass us by. As long as we hold these ends the pipes have no end: see `give_back`.
    """
    try:
        own = (os.dup(1), os.dup(2))  # closed on exec
    except OSError:  # no descriptor to be had: what is written to /proc/1/fd/1 is passed on, but not kept
        return
    agent.outputs = own
    agent.standing_in = True
    _complain_to(own[1])
    os.dup2(stdout_end, 1, inheritable=False)
    os.dup2(stderr_end, 2, inheritable=False)


def give_back(agent: Agent) -> None:
    """Makes 1 and 2 our own stdout and stderr again: from now on the pipes end when the agent's side has gone."""
    if agent.standing_in:
        agent.standing_in = False
        os.dup2(agent.outputs[0], 1)
        os.dup2(agent.outputs[1], 2)


def received_environment() -> Mapping[bytes, bytes]:
    """The environment as it came in.

    Python adds LC_CTYPE=C.UTF-8 to os.environ under the C locale (PEP 538), which is what most containers have. The
    package's launcher (docker/package/launcher.c) has put `MARK` before the names of variables that would act on our
    own interpreter, and its own behind a variable that is called so.
    """
    variables: dict[bytes, bytes] = {}
    for name, value in _entries():
        if name == MARK:
            break
        variables.setdefault(name.removeprefix(MARK), value)  # of two with one name getenv(3) sees the first
    return variables


def _entries() -> Iterable[tuple[bytes, bytes]]:
    data = b""
    try:
        fd = os.open("/proc/self/environ", os.O_RDONLY)
        try:
            while part := os.read(fd, 1 << 20):
                data += part
        finally:
            os.close(fd)
    except OSError:  # no /proc: what Python has added since stands behind the launcher's, or cannot be told
        return os.environb.items()
    parts = (entry.partition(b"=") for entry in data.split(b"\0"))
    return [(name, value) for name, equals, value in parts if name and equals]


def _occupy_standard_descriptors() -> None:
    """Opens /dev/null on those of 0, 1 and 2 that are closed, so that no pipe of ours lands there.

    Closed on exec, as all that Python opens: the agent finds its stdin closed as it was.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is fd


def _set_subreaper(on: bool) -> bool:
    """Orphans below us come to us from now on, or no more; whether that worked. Kept across exec (prctl(2))."""
    try:
        import ctypes

        arguments = map(ctypes.c_ulong, (on, 0, 0, 0))
        return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, *arguments) == 0)
    except Exception:  # noqa: BLE001  a Python without ctypes, or one that may not load it
        return False


def let_go(agent: Agent) -> None:
    """Closes everything of the agent's in here, after the spawn: it must be the only holder, as it would be without us.

    Our copies of its pipes' ends would keep them from ever ending; those of its stdin or its sockets would hide from
    the other side that the agent has closed them.
    """
    keep = (0, 1, 2, agent.stdout, agent.stderr, *agent.outputs)
    try:
        held = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        held = list(range(3, min(os.sysconf("SC_OPEN_MAX"), 65536)))
    for fd in held:
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:  # the one that listed the directory
                pass
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)
    except OSError:
        pass


def _become(command: list[str], received: _Received | None) -> int:
    """Replaces this process by the agent, with everything as we received it; returns only a status."""
    try:
        if received is not None:
            if received.subreaper:
                _set_subreaper(False)
            _signal.signal(_signal.SIGCHLD, received.sigchld or _signal.SIG_DFL)
            if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:
                _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # else one that waits would raise in here
            _signal.pthread_sigmask(_signal.SIG_SETMASK, received.mask)
        for ignored_by_python in (_signal.SIGPIPE, _signal.SIGXFSZ):
            _signal.signal(ignored_by_python, _signal.SIG_DFL)
        _execute(command, received_environment())
    except OSError as error:
        return _cannot_run(command, error)


def _execute(command: list[str], environment: Mapping[bytes, bytes]) -> NoReturn:
    """execvp(3), without the import that os.execvp may need a descriptor for. Raises OSError."""
    name = command[0]
    failure: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for place in _places(name):
        try:
            os.execve(place, command, environment)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            failure = error
            if error.errno != errno.EACCES:
                break
    raise failure


def _places(name: str) -> list[str]:
    """Where a command of that name may lie."""
    if "/" in name or not name:
        return [name] if name else []
    path = os.environ.get("PATH", os.defpath)
    return [f"{directory}/{name}" if directory else name for directory in path.split(":")]


def _cannot_run(command: list[str], error: OSError) -> int:
    searched = "/" not in command[0] and error.errno == errno.EACCES
    if searched and not any(os.access(place, os.F_OK) for place in _places(command[0])):
        # What may not be searched is a directory of PATH, as /root/.local/bin in an image that has changed its user.
        error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    complain(f"cannot run {command[0] or 'an empty command'}: {error.strerror}.")
    return COMMAND_ERRORS.get(error.errno or 0, NOT_EXECUTABLE)


def describe(error: BaseException) -> str:
    """An error in words that hold no line and no secret: its type, and what the system says of it."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else ""
    if isinstance(error, (ImportError, RuntimeError)):
        reason = str(error)
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


_stderr = 2


def _complain_to(descriptor: int) -> None:
    global _stderr  # noqa: PLW0603  one a process, as stderr is
    _stderr = descriptor


def complain(text: str) -> None:
    """One line on stderr, without `messages`, which may not be importable where this is needed."""
    try:
        os.write(_stderr, f"shipper: {text}\n".encode(errors="replace"))
    except OSError:
        pass
