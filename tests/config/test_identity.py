"""Host and source, one test a step of the design's table, with real files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.config.identity import find_host, find_source

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.config import Problem

START = ["python", "agent.py", "start"]


def source_of(argv: list[str], cwd: Path | str = "/nowhere", environ: dict[str, str] | None = None) -> str:
    problems: list[Problem] = []
    source = find_source(environ or {}, argv, str(cwd), problems, roots=())
    assert [problem.message for problem in problems] == []
    return source


def livekit_toml(directory: Path, agent_id: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "livekit.toml").write_text(f'[project]\n  subdomain = "demo"\n\n[agent]\n  id = "{agent_id}"\n')


# host


def test_shipper_host_comes_first() -> None:
    assert find_host({"SHIPPER_HOST": " one\n", "LIVEKIT_WORKER_ID": "two"}) == "one"


def test_livekit_worker_id_comes_second() -> None:
    assert find_host({"SHIPPER_HOST": "", "LIVEKIT_WORKER_ID": "CAW_zyxw9876"}) == "CAW_zyxw9876"


def test_the_host_name_comes_last() -> None:
    assert find_host({}) == os.uname().nodename


# source, step by step


def test_shipper_source_comes_first(tmp_path: Path) -> None:
    livekit_toml(tmp_path, "CA_toml")
    environ = {"SHIPPER_SOURCE": "mine", "LIVEKIT_AGENT_ID": "CA_env", "LIVEKIT_AGENT_NAME": "named"}
    assert source_of(START, tmp_path, environ) == "mine"


def test_livekit_agent_id_comes_before_livekit_toml(tmp_path: Path) -> None:
    livekit_toml(tmp_path, "CA_toml")
    assert source_of(START, tmp_path, {"LIVEKIT_AGENT_ID": "CA_env", "LIVEKIT_AGENT_NAME": "named"}) == "CA_env"


def test_livekit_toml_is_looked_for_in_the_working_directory_then_the_roots_then_the_scripts(tmp_path: Path) -> None:
    cwd, root, scripts = tmp_path / "cwd", tmp_path / "app", tmp_path / "src"
    for directory in (cwd, root, scripts):
        livekit_toml(directory, f"CA_{directory.name}")
    argv = ["python", f"{scripts}/agent.py", "start"]
    environ = {"LIVEKIT_AGENT_NAME": "named"}
    for directory in (cwd, root, scripts):
        assert find_source(environ, argv, str(cwd), roots=[str(root)]) == f"CA_{directory.name}"
        (directory / "livekit.toml").unlink()
    assert find_source(environ, argv, str(cwd), roots=[str(root)]) == "named"


@pytest.mark.parametrize(
    "argv", [["python", "src/agent.py"], ["python", "-m", "src.agent"], ["sh", "-c", "python src/agent.py"]]
)
def test_livekit_toml_is_found_in_the_directory_of_a_relative_script(tmp_path: Path, argv: list[str]) -> None:
    livekit_toml(tmp_path / "src", "CA_src")
    assert source_of(argv, tmp_path) == "CA_src"


@pytest.mark.parametrize(
    "content",
    ['project_subdomain = "demo"', "[agent]", '[agent]\nid = ""', "[agent]\nid = 5", 'agent = "x"', "[[agent]]", ""],
)
def test_a_livekit_toml_without_an_agents_id_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "livekit.toml").write_text(content)
    assert source_of(START, tmp_path) == "agent"


def test_livekit_agent_name_comes_before_the_script() -> None:
    assert source_of(START, environ={"LIVEKIT_AGENT_NAME": "inbound"}) == "inbound"


def test_a_livekit_toml_that_cannot_be_used_is_a_problem_and_the_next_step_is_taken(tmp_path: Path) -> None:
    for content, why in {
        b"[agent\nid=": "line 1",
        b"\xff\xfe": "not UTF-8",
        b"#" * (2**20 + 1): "larger than 1 MiB",
        b"x = " + b"[" * 100_000: "recursion",
        b"x = " + b"9" * 10_000: "digits",
    }.items():
        (tmp_path / "livekit.toml").write_bytes(content)
        problems: list[Problem] = []
        assert find_source({"LIVEKIT_AGENT_NAME": "named"}, START, str(tmp_path), problems, roots=()) == "named"
        assert [problem.variable for problem in problems] == ["SHIPPER_SOURCE"]
        assert f'"{tmp_path}/livekit.toml" could not be read' in problems[0].message
        assert why in problems[0].message


def test_a_livekit_toml_that_is_no_readable_file_is_a_problem_and_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "cwd").mkdir()
    os.mkfifo(tmp_path / "cwd" / "livekit.toml")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "livekit.toml").symlink_to("livekit.toml")  # to itself
    problems: list[Problem] = []
    assert find_source({}, START, str(tmp_path / "cwd"), problems, roots=[str(tmp_path / "app")]) == "agent"
    assert "no regular file" in problems[0].message
    assert "symbolic links" in problems[1].message


# source, from the command


@pytest.mark.parametrize(
    ("command", "source"),
    [
        # LiveKit's own Dockerfiles, and their shell forms
        ("uv run agent.py start", "agent"),
        ("uv run src/voice.py start", "voice"),
        ("python agent.py start", "agent"),
        ("python -m pkg.voice start", "voice"),
        ("uv run --module x.voice start", "voice"),
        ("node dist/voice.js start", "voice"),
        # python
        ("/usr/bin/python3.13 -u /srv/voice.py dev", "voice"),
        ("python -W ignore -X dev voice.py", "voice"),
        ("python -mpkg.voice", "voice"),
        ("python -um pkg.voice start", "voice"),
        ("python -Im voice", "voice"),
        ("python voice/ start", "voice"),
        ("python my.voice.py", "my.voice"),
        ("pypy3 voice.py", "voice"),
        ("./voice.py start", "voice"),
        (".venv/bin/voice start", "voice"),
        # runners
        ("uv run --no-sync --python 3.12 --env-file .env voice.py start", "voice"),
        ("uv run --module=x.voice start", "voice"),
        ("uv run -m x.voice start", "voice"),
        ("uv run -- python -m x.voice start", "voice"),
        ("uv run python -u voice.py", "voice"),
        ("uv run voice start", "voice"),
        ("uv run --no-sync voice start", "voice"),
        ("uvx voice start", "voice"),
        ("poetry run voice start", "voice"),
        ("poetry run python voice.py start", "voice"),
        # node
        ("node --env-file=.env --enable-source-maps ./dist/voice.js start", "voice"),
        ("node -r ./tracing.js --import ./hooks.mjs dist/voice.js", "voice"),
        ("tsx src/voice.ts start", "voice"),
        ("npx tsx --tsconfig x.json src/voice.mts start", "voice"),
        ("pnpm exec tsx src/voice.ts start", "voice"),
        ("pnpm tsx src/voice.ts dev", "voice"),
        ("bun run src/voice.ts", "voice"),
        # wrappers
        ("tini -- python voice.py", "voice"),
        ("tini -g -e 143 -- tini -- voice", "voice"),
        ("/usr/bin/dumb-init --rewrite 15:2 -- uv run voice.py", "voice"),
        ("env A=b python x.py", "x"),
        ("env -i A=b -u HOME voice start", "voice"),
        ("nice -n 5 voice", "voice"),
        ("ddtrace-run python voice.py start", "voice"),
        ("gosu 1000:1000 python voice.py", "voice"),
        ("timeout 30 python -m voice", "voice"),
        ("/docker-entrypoint.sh node dist/voice.js", "voice"),
        ("doppler run -- uv run voice.py", "voice"),
        # a command of its own
        ("./voice-agent --config settings start", "voice-agent"),
        ("/opt/voice-1.2 start", "voice-1.2"),
        ("./start-voice.sh", "start-voice"),
        ("sh start-voice.sh", "start-voice"),
        ("voice --lang python", "voice"),
        ("voice exec", "voice"),
        # names that say little are kept
        ("python main.py start", "main"),
        ("node dist/index.js", "index"),
    ],
)
def test_the_source_is_the_script_that_the_command_starts(command: str, source: str) -> None:
    assert source_of(command.split()) == source


@pytest.mark.parametrize(
    ("script", "source"),
    [
        ("python agent.py start", "agent"),
        ("cd /app && exec python 'voice agent.py' start", "voice agent"),
        ("uv run voice.py download-files && uv run voice.py start", "voice"),
        ("python migrate.py; python voice.py start", "voice"),
        ("python migrate.py\nexec python voice.py start", "voice"),
        ("python \\\n  voice.py start", "voice"),
        ("python voice.py start 2>&1 | tee /tmp/log.py", "voice"),
        ("python voice.py start || exit 1", "voice"),
        ("python voice.py start & wait", "voice"),
        ("(python voice.py)", "voice"),
        ("A=b python -m x.voice", "voice"),
        ("sh -c 'python voice.py'", "voice"),
        ('tini -- bash -ec "exec tini -- uv run voice.py start"', "voice"),
        ("./voice start 2>&1", "voice"),
        ("A=b ./voice start", "voice"),
        ("cd /srv && ./voice", "voice"),
        ("python 'voice.py", "'voice"),
        ("exec $COMMAND", "agent"),
        ("", "agent"),
    ],
)
@pytest.mark.parametrize("shell", [["sh", "-c"], ["/bin/bash", "-o", "pipefail", "-lc"], ["env", "A=b", "sh", "-ec"]])
def test_a_shells_command_is_looked_through(shell: list[str], script: str, source: str) -> None:
    assert source_of([*shell, script]) == source


@pytest.mark.parametrize(
    "argv",
    [
        [],
        [""],
        ["python"],
        ["python3", "-c", "import agent; agent.run()"],
        ["python", "-uc", "print(1)", "start"],
        ["node", "-e", "start()"],
        ["node", "."],
        ["pnpm", "start"],
        ["npm", "run", "start"],
        ["yarn", "start"],
        ["uv", "run"],
        ["sh"],
        ["sh", "-c"],
        ["tini", "--"],
        ["env"],
    ],
)
def test_an_interpreter_or_a_runner_is_never_the_source(argv: list[str]) -> None:
    assert source_of(argv) == "agent"


@pytest.mark.parametrize(
    "command", ["pnpm start", "npm run start", "yarn start", "node .", "bun start", "tini -- pnpm --filter a start"]
)
def test_package_json_in_the_working_directory_names_a_node_agent(tmp_path: Path, command: str) -> None:
    (tmp_path / "package.json").write_text('{"name": "@acme/voice-agent", "version": "1.0.0"}')
    assert source_of(command.split(), tmp_path) == "@acme/voice-agent"
    assert source_of(["sh", "-c", command], tmp_path) == "@acme/voice-agent"


def test_package_json_of_a_node_script_is_the_nearest_one_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "package.json").write_text('{"type": "module"}')
    (tmp_path / "package.json").write_text('{"name": "voice-agent"}')
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "package.json").write_text('{"name": "somebody-else"}')
    assert source_of(["node", "dist/index.js", "start"], tmp_path) == "voice-agent"
    assert source_of(["node", f"{tmp_path}/dist/index.js"], tmp_path / "cwd") == "voice-agent"


def test_package_json_says_nothing_about_a_python_agent(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "frontend"}')
    assert source_of(START, tmp_path) == "agent"


@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"name": ' + "9" * 10_000 + "}"])
def test_a_broken_package_json_is_a_problem_and_the_script_names_the_agent(tmp_path: Path, content: str) -> None:
    (tmp_path / "package.json").write_text(content)
    problems: list[Problem] = []
    assert find_source({}, ["node", "voice.js"], str(tmp_path), problems, roots=()) == "voice"
    assert f"{tmp_path}/package.json" in problems[0].message


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"name": ""}', '{"name": ["x"]}', '{"name": "\\u0007"}'])
def test_a_package_json_without_a_name_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "package.json").write_text(content)
    assert source_of(["node", "voice.js"], tmp_path) == "voice"


WORDS = st.sampled_from(
    ["python", "uv", "run", "node", "pnpm", "npm", "start", "sh", "-c", "-m", "-mx", "-r", "--", "-", ".", "/", "..",
     "env", "A=b", "agent.py", "dist/a.js", "'a", "&&", "b|", "$X", ";", ">", "\\"]
)  # fmt: skip


@given(argv=st.lists(WORDS | st.text(st.characters(codec=None))), name=st.text(st.characters(codec=None)))
def test_no_command_and_no_variable_raises_and_the_name_is_one_short_printable_line(argv: list[str], name: str) -> None:
    for environ in ({}, {"SHIPPER_SOURCE": name}, {"LIVEKIT_AGENT_NAME": name}):
        for command in (argv, ["sh", "-c", " ".join(argv)]):
            source = find_source(environ, command, "/nowhere", [], roots=())
            assert source.isprintable()
            assert 0 < len(source) <= 255
