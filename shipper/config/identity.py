"""Who prints the lines: the worker instance (host) and the agent (source), each by the first step that says it.

    host     SHIPPER_HOST, LIVEKIT_WORKER_ID, the host name
    source   SHIPPER_SOURCE, LIVEKIT_AGENT_ID, [agent] id in livekit.toml, LIVEKIT_AGENT_NAME,
             package.json's name for a Node script, the script's stem, the command's name

The command is looked through for its script as people start agents: LiveKit's own Dockerfiles (uv run agent.py start;
python agent.py start; pnpm start), a shell's -c, and inits and wrappers in front. Wrappers need no list: whatever
stands before an interpreter, a runner or a shell is not the agent.
"""

from __future__ import annotations

import os

from shipper.config.files import read_text, reason
from shipper.config.problems import Problem, clean, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

_SHELLS = ("sh", "bash", "dash", "ash", "zsh", "busybox")

# Start a script of package.json by its name, or a program of its packages.
_PACKAGE_MANAGERS = ("pnpm", "npm", "yarn", "bun")

_NODE = ("node", "nodejs", "tsx", "ts-node", "deno", "npx", "bunx", *_PACKAGE_MANAGERS)

# Take a module: python -m, uv run --module.
_PYTHON = ("python", "pypy", "uv")

_INTERPRETERS = (*_SHELLS, *_PYTHON, *_NODE)

# Start something else too; of a word of these names in another place, nobody knows what it means there.
_WRAPPERS = (
    "uvx", "poetry", "pdm", "pipenv", "hatch", "rye", "pixi", "pipx", "env", "exec", "tini", "dumb-init", "catatonit",
    "nice", "nohup", "setsid", "stdbuf", "time",
)  # fmt: skip

_SUBCOMMANDS = ("run", "exec", "dlx", "tool")

_SCRIPTS = (".py", ".pyc", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx")

# Options whose value is the next word, by what takes them, as far as one is seen in front of an agent; from --help of
# uv 0.13, Python 3.11, Node 20 and coreutils. After one that is missing here, a script is still known by its extension.
_WITH_VALUE = {
    "python": ("-W", "-X", "--check-hash-based-pycs"),
    "uv": (
        "-p", "--python", "--with", "--with-editable", "--with-requirements", "--extra", "--no-extra", "--group",
        "--no-group", "--only-group", "--env-file", "--package", "--project", "--directory", "--index",
        "--default-index", "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--cache-dir", "-w",
    ),
    "node": (
        "-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file",
        "--env-file-if-exists", "--tsconfig", "-e", "--eval", "-p", "--print",
    ),
    "pnpm": ("-C", "--dir", "-F", "--filter"),
    "npm": ("--prefix", "-w", "--workspace"),
    "sh": ("-o", "-O", "+o", "+O", "--rcfile", "--init-file"),
    "env": ("-u", "--unset", "-C", "--chdir"),
    "exec": ("-a",),
    "tini": ("-p", "-e"),
    "dumb-init": ("-r", "--rewrite"),
    "nice": ("-n", "--adjustment"),
    "stdbuf": ("-i", "-o", "-e"),
}  # fmt: skip
_SAME_OPTIONS = {"pypy": "python", "nodejs": "node", "tsx": "node", "ts-node": "node", **dict.fromkeys(_SHELLS, "sh")}


class _Found:
    """What the command starts: ``path`` of the script, if known, and ``name`` to go by without a package.json."""

    __slots__ = ("name", "node", "path")

    def __init__(self, name: str, path: str = "", node: bool = False) -> None:
        self.name = name
        self.path = path
        self.node = node


def find_host(environ: Mapping[str, str]) -> str:
    """The worker instance's name; never empty."""
    return (
        clean(environ.get("SHIPPER_HOST", ""))
        or clean(environ.get("LIVEKIT_WORKER_ID", ""))
        or clean(os.uname().nodename)
        or "localhost"
    )


def find_source(
    environ: Mapping[str, str],
    argv: Sequence[str],
    cwd: str,
    problems: list[Problem] | None = None,
    roots: Sequence[str] = ("/app",),
) -> str:
    """The agent's name; never empty, and it never raises.

    ``argv`` is the agent's command, ``cwd`` an absolute path. ``roots``: where else livekit.toml may lie, /app being
    the working directory of LiveKit's own Dockerfiles. A file that cannot be used is a problem, and the next step's.
    """
    if problems is None:
        problems = []
    for name in ("SHIPPER_SOURCE", "LIVEKIT_AGENT_ID"):
        if value := clean(environ.get(name, "")):
            return value
    found = _find_agent(argv)
    script_directory = os.path.normpath(os.path.join(cwd, os.path.dirname(found.path)))
    return (
        _agent_id([cwd, *roots, script_directory], problems)
        or clean(environ.get("LIVEKIT_AGENT_NAME", ""))
        or (_package_name([*_upwards(script_directory), cwd], problems) if found.node else "")
        or clean(found.name)
        or "agent"
    )


def _agent_id(directories: Sequence[str], problems: list[Problem]) -> str:
    def parse(text: str) -> object:
        import tomllib

        agent = tomllib.loads(text).get("agent")
        return agent.get("id") if isinstance(agent, dict) else None

    return _first_name(directories, "livekit.toml", parse, problems)


def _package_name(directories: Sequence[str], problems: list[Problem]) -> str:
    def parse(text: str) -> object:
        import json

        package: Any = json.loads(text)
        return package.get("name") if isinstance(package, dict) else None

    return _first_name(directories, "package.json", parse, problems)


def _first_name(
    directories: Sequence[str], file_name: str, parse: Callable[[str], object], problems: list[Problem]
) -> str:
    """The first name that ``parse`` gets out of a file of that name; "" when there is none."""
    for path in dict.fromkeys(os.path.join(directory, file_name) for directory in directories):
        try:
            name = parse(read_text(path))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, RecursionError) as error:
            what = f"{quoted(path)} could not be read ({clean(reason(error))})"
            instead = "the agent gets its name without it; SHIPPER_SOURCE sets it"
            problems.append(Problem("SHIPPER_SOURCE", f"{what}: {instead}"))
            continue
        if isinstance(name, str) and clean(name):
            return clean(name)
    return ""


def _upwards(directory: str) -> list[str]:
    """The directory and those above it, as Node looks for a script's package.json."""
    directories = [directory]
    while (parent := os.path.dirname(directories[-1])) != directories[-1]:
        directories.append(parent)
    return directories


def _find_agent(words: Sequence[str]) -> _Found:
    """Looks from left to right for the first script; else takes the first word that the last runner was given."""
    runner = ""
    command = target = ""  # the first word that is no runner; the first one since the last runner
    value_next = False
    for i, word in enumerate(words):
        name = _program(word)
        if value_next:
            value_next = False
        elif name in _INTERPRETERS or (name in _WRAPPERS and not command):
            runner = name
            target = ""
        elif word.startswith(("-", "+")):
            if runner in _SHELLS and "c" in _letters(word):
                return _in_shell("".join(words[i + 1 : i + 2]))
            if runner in _PYTHON and _letters(word).endswith("c"):
                return _Found("")  # the program itself follows, which is no name
            if runner in _PYTHON and (module := _module(word, words[i + 1 : i + 2])):
                *directories, name = module.split(".")
                return _Found(name, os.path.join(*directories, f"{name}.py"))
            value_next = word in _WITH_VALUE.get(_SAME_OPTIONS.get(runner, runner), ())
        elif word.endswith(_SCRIPTS):
            return _Found(_stem(word), word, node=not word.endswith((".py", ".pyc")))
        elif not (target or "=" in word or word.startswith("$") or (runner and word in _SUBCOMMANDS)):
            target = word
            command = command or word
    if runner in _PACKAGE_MANAGERS:
        return _Found("", node=True)  # what it was given is the name of a script of package.json
    target = target or command
    return _Found(_stem(target), target, runner in _NODE)


def _in_shell(text: str) -> _Found:
    """The last command in a shell's -c that starts a script; those before it prepare, those after it wait or tell."""
    import shlex

    lexer = shlex.shlex(text.replace("\\\n", " ").replace("\n", ";"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:  # a quote without its end; the shell will say so
        words = text.split()
    current: list[str] = []
    commands = [current]
    for word in words:
        if word.strip("();<>|&"):
            current.append(word)
        else:
            current = []
            if word in (";", "&&", "&", "(", ")"):  # after any other (a pipe, a redirection, ||) no agent is started
                commands.append(current)
    found = [_find_agent(command) for command in commands if command]
    for candidate in reversed(found):
        if candidate.node or candidate.path.endswith(_SCRIPTS):
            return candidate
    return found[-1] if found else _Found("")


def _program(word: str) -> str:
    """The program that a word names, without directory and version: python for /usr/bin/python3.13."""
    return os.path.basename(word).rstrip("0123456789.")


def _letters(option: str) -> str:
    """The letters of short options in one word: lc for -lc."""
    return "" if option.startswith("--") else option[1:]


def _module(option: str, following: Sequence[str]) -> str:
    """The module of ``-m NAME``, ``-mNAME``, ``-um NAME``, ``--module NAME`` or ``--module=NAME``; else ""."""
    if option.startswith("--"):
        name, _, value = option.partition("=")
        is_module = name == "--module"
    else:
        # Python's options without a value may stand before it in the same word (python --help).
        flags, is_m, value = option[1:].partition("m")
        is_module = bool(is_m) and not flags.strip("bBdEhiIOPqsSuvVx")
    return (value or "".join(following)) if is_module else ""


def _stem(path: str) -> str:
    name = os.path.basename(path.rstrip("/"))
    if not name.strip("."):
        return ""  # node . is no name
    stem, extension = os.path.splitext(name)
    return stem if extension in (*_SCRIPTS, ".sh") else name
