"""argv in, exit status out: ``shipper COMMAND …`` and ``python -m shipper``.

`run` stands in front of every agent, so that path imports nothing but sys before the supervisor: each millisecond
here is one more before the agent starts. A command imports what it needs and no more.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# sysexits.h, as far as they are used: a wrong command line, and a fault of this program.
USAGE = 64
SOFTWARE = 70

COMMANDS = ("run", "logs", "tail", "status", "check", "build", "sandbox", "help")
OPTIONS = ("--help", "-h", "--version")
HELP = """\
usage: shipper COMMAND [ARG...]

Stands in front of a self-hosted LiveKit agent and forwards what it prints. The agent runs as it would without.

commands
  run [--] CMD [ARG...]   run CMD as the agent; its settings are variables only
  logs [-f] [-n N] ...    show what the agent printed, from the journal, also beside a running agent; choose by
                          time, stream, level, job or expression
  tail                    another name for logs
  status [-w] [--json]    what was captured, what each provider has of it, and what keeps the rest
  build [--] CMD [ARG...] run CMD as a build step and keep its output, which logs --log-type=build shows
  check [--json]          which providers are on, where each would send, and what each answers to a test line
  sandbox                 the providers' intakes on this machine, with a page that shows what arrives
  help                    this text; COMMAND --help says more about one

examples
  DATADOG_TOKEN=pub... shipper run -- python agent.py start
  docker exec CONTAINER shipper logs -f
  docker exec CONTAINER shipper status
  docker exec CONTAINER shipper check
  shipper sandbox --port 8080
  DATADOG_TOKEN=pub0123456789abcdef0123456789abcdef SHIPPER_DATADOG_URL=http://127.0.0.1:8080 \\
    shipper run -- python agent.py start

in a Dockerfile
  ENTRYPOINT ["shipper", "run", "--"]
  CMD ["python", "agent.py", "start"]

variables of `run`
{variables}

exit status
  run: the agent's own; 128+N when signal N ended it, 127 when CMD is not found, 126 when it cannot be run.
  build: that of CMD, as with run.
  check: 0 when every provider that is on took the test line and no variable is wrong, else 1.
  all: 64 wrong command line, 70 a fault of shipper's own, 130 Ctrl-C.
"""

RUN_HELP = """\
usage: shipper run [--] CMD [ARG...]

Runs CMD as the agent: same output, input, environment, signals and exit status as without. What it prints is kept
in a journal and forwarded to each provider whose secret is set. Settings are variables only; `shipper --help`
lists them.

examples
  DATADOG_TOKEN=pub... shipper run -- python agent.py start
  ENTRYPOINT ["shipper", "run", "--"]     in a Dockerfile, before CMD ["python", "agent.py", "start"]

exit status
  the agent's own; 128+N when signal N ended it; 127 CMD not found; 126 CMD cannot be run; 64 no CMD.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the status to end with. `argv` is without the program's name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _standard_library_first()
    command = arguments[0] if arguments else ""
    if command == "run":
        return _run(arguments[1:])
    return _guarded(command or "shipper", _other, arguments)


def _standard_library_first() -> None:
    """Puts the working directory and PYTHONPATH behind the standard library, for this process alone.

    They are the agent's: a queue.py of its own in /app must not become ours.
    """
    marker = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"  # CPython's first own entry, after PYTHONPATH
    for place, entry in enumerate(sys.path):
        if entry.endswith(marker):
            sys.path[:] = sys.path[place:] + sys.path[:place]
            return


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in ("--help", "-h"):
        return _guarded("run", _run_help, [])
    try:
        if sys.version_info < (3, 11):  # noqa: UP036  nobody checks that in a copied folder, as in an image
            raise ImportError(f"Python 3.11 or newer is needed, not {sys.version_info[0]}.{sys.version_info[1]}")
        from shipper.supervisor.run import main as run
    except Exception as error:  # noqa: BLE001  whatever is wrong with this installation, the agent runs
        return _run_bare(arguments, error)
    return run(arguments)


def _run_help(_: list[str]) -> int:
    return _print(RUN_HELP)


def _run_bare(arguments: list[str], error: Exception) -> int:
    """Becomes the agent: what `run` promises when it cannot even be imported."""
    import os
    import signal

    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command:
        return _complain("run needs the agent's command: shipper run -- python agent.py start", USAGE)
    _complain(f"cannot work here ({_where(error)}), so the agent runs without it and nothing is forwarded.", SOFTWARE)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):  # the agent would inherit that
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, _received_environment())
    except OSError as failure:
        status = 127 if isinstance(failure, (FileNotFoundError, NotADirectoryError)) else 126
        return _complain(f"cannot run {command[0]}: {failure.strerror}.", status)


def _received_environment() -> Mapping[str, str] | Mapping[bytes, bytes]:
    """Without the LC_CTYPE that Python adds under the C locale, if what tells it from the agent's can be loaded."""
    import os

    try:
        from shipper.supervisor.spawn import received_environment
    except Exception:  # noqa: BLE001  this runs where something of shipper could not be loaded
        return os.environ
    return received_environment()


def _other(arguments: list[str]) -> int:
    command, rest = (arguments[0] if arguments else ""), arguments[1:]
    if command in ("logs", "tail"):
        from shipper.commands.logs import main as logs

        return logs(rest)
    if command == "build":
        from shipper.commands.build import main as build

        return build(rest, _received_environment())
    if command == "status":
        from shipper.commands.status import main as status

        return status(rest)
    if command == "check":
        from shipper.check.command import main as check

        return check(rest)
    if command == "sandbox":
        from shipper.sandbox.server import main as sandbox

        return sandbox(rest)
    if command == "help" and rest:
        return main([rest[0], "--help"])
    if command in ("--help", "-h", "help"):
        return _print(_help())
    if command == "--version":
        from shipper import __version__

        return _print(f"agent-shipper {__version__}\n")  # entrypoint.sh looks for this name
    if not command:
        sys.stderr.write(_help())
        return USAGE
    return _complain(_what_was_meant(command), USAGE)


def _help() -> str:
    from shipper.config.variables import ACTING

    rows = []
    for name, variable in ACTING.items():
        default = f"; default {variable.default}" if variable.default else ""
        rows.append(f"  {name:<34} {variable.meaning}{default}")
    return HELP.replace("{variables}", "\n".join(rows))


def _what_was_meant(word: str) -> str:
    from difflib import get_close_matches

    kind, known = ("option", OPTIONS) if word.startswith("-") else ("command", COMMANDS)
    near = get_close_matches(word, known, n=1)
    if near:
        return f"there is no {kind} {word}; did you mean {near[0]}?"
    if kind == "option":
        return f"there is no option {word}; there are {', '.join(OPTIONS)}."
    return f"there is no command {word}; an agent is run with: shipper run -- {word} ..."


def _guarded(command: str, action: Callable[[list[str]], int], arguments: list[str]) -> int:
    """`action`'s status; whatever it raises becomes a sentence and a status, never a traceback."""
    try:
        try:
            status = action(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else SOFTWARE
        if sys.stdout is not None:
            sys.stdout.flush()
        return USAGE if status == 2 else status  # 2 is argparse's for a wrong command line
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `shipper logs | head`: the reader has seen enough
        _discard_stdout()
        return 141
    except Exception as error:  # noqa: BLE001  no traceback reaches a user
        _discard_stdout()
        return _complain(f"{command} ended on a fault ({_where(error)}); no agent is affected by this.", SOFTWARE)


def _where(error: BaseException) -> str:
    """The error's type and place. Its message only where it cannot hold a line or a secret."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    text = type(error).__name__
    if place is not None:
        file = "/".join(place.tb_frame.f_code.co_filename.split("/")[-2:])
        text += f" at {file}:{place.tb_lineno}"
    if isinstance(error, OSError) and error.strerror:
        text += f": {error.strerror}"
    elif isinstance(error, ImportError):
        text += f": {error}"
    return text


def _discard_stdout() -> None:
    """What still waits in the buffer goes nowhere, so that the interpreter does not fail on it once more at exit."""
    import os

    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError:
        pass


def _print(text: str) -> int:
    if sys.stdout is not None:
        sys.stdout.write(text)
    return 0


def _complain(text: str, status: int) -> int:
    try:
        sys.stderr.write(f"shipper: {text}\n")
        sys.stderr.flush()
    except (OSError, AttributeError):  # stderr is closed, or was when Python started
        pass
    return status


if __name__ == "__main__":
    sys.exit(main())
