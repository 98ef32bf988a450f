"""Secrets from variables and from files, and which sinks they turn on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.config import Problem, secret, variable_of
from shipper.config.registry import REGISTRY, enabled

if TYPE_CHECKING:
    from pathlib import Path


def read(environ: dict[str, str]) -> tuple[str | None, list[str]]:
    problems: list[Problem] = []
    value = secret(environ, "DATADOG_TOKEN", problems)
    assert {problem.variable for problem in problems} <= {"DATADOG_TOKEN_FILE"}
    return value, [problem.message for problem in problems]


@pytest.mark.parametrize("environ", [{}, {"DATADOG_TOKEN": ""}, {"DATADOG_TOKEN": " \n", "DATADOG_TOKEN_FILE": " "}])
def test_a_secret_that_is_empty_is_not_set(environ: dict[str, str]) -> None:
    assert read(environ) == (None, [])


def test_space_around_a_secret_does_not_belong_to_it() -> None:
    assert read({"DATADOG_TOKEN": " pub123\n"}) == ("pub123", [])


def test_a_secret_comes_from_the_file_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\ufeffpub123\r\n", encoding="utf-8")
    assert read({"DATADOG_TOKEN_FILE": f"{tmp_path}/token"}) == ("pub123", [])


def test_a_secret_replaced_in_its_file_is_found_by_the_next_call(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for value in ("old", "new"):
        file.write_text(value)
        assert secret({"DATADOG_TOKEN_FILE": str(file)}, "DATADOG_TOKEN") == value


def test_the_variable_wins_over_the_file_and_both_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file")
    value, problems = read({"DATADOG_TOKEN": "from-variable", "DATADOG_TOKEN_FILE": f"{tmp_path}/token"})
    assert value == "from-variable"
    assert problems == ["DATADOG_TOKEN_FILE is ignored, for DATADOG_TOKEN is set too: set one of them"]


def test_a_file_that_is_not_there_is_a_problem_that_names_variable_path_and_reason(tmp_path: Path) -> None:
    value, problems = read({"DATADOG_TOKEN_FILE": f"{tmp_path}/absent"})
    assert value is None
    (problem,) = problems
    assert problem == (
        f'DATADOG_TOKEN_FILE names "{tmp_path}/absent", which could not be read (No such file or directory): '
        "the secret counts as not set"
    )


def test_files_that_hold_no_secret_are_problems_and_hold_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge").write_bytes(b"x" * (2**20 + 1))
    for name, why in {
        "pipe": "no regular file",
        "directory": "Is a directory",
        "loop": "Too many levels of symbolic links",
        "empty": "empty",
        "binary": "not UTF-8",
        "huge": "larger than 1 MiB",
    }.items():
        value, problems = read({"DATADOG_TOKEN_FILE": f"{tmp_path}/{name}"})
        assert value is None
        assert why in problems[0]
        assert f"{tmp_path}/{name}" in problems[0]


def test_a_secret_put_where_its_path_belongs_is_not_shown() -> None:
    value, problems = read({"DATADOG_TOKEN_FILE": "pub0123456789abcdef"})
    assert value is None
    assert len(problems) == 1
    assert "pub0123456789abcdef" not in problems[0]


@given(path=st.text(st.characters(codec=None)))
def test_no_path_raises(path: str) -> None:
    secret({"DATADOG_TOKEN_FILE": "/" + path}, "DATADOG_TOKEN", [])
    secret({"DATADOG_TOKEN_FILE": path}, "DATADOG_TOKEN", [])


def test_a_secret_turns_its_sink_on(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("pub123")
    assert enabled({}) == ()
    assert enabled({"DATADOG_TOKEN": "pub123"}) == ("datadog",)
    assert enabled({"DATADOG_TOKEN_FILE": f"{tmp_path}/token"}) == ("datadog",)
    assert enabled({"DATADOG_TOKEN": "pub123"}, ("datadog",)) == ("datadog",)
    assert enabled({"DATADOG_TOKEN": "pub123"}, ()) == ()


def test_cloudwatch_wants_both_halves_of_its_key() -> None:
    both = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "s"}
    assert enabled(both) == ("cloudwatch",)
    for name in both:
        assert enabled({name: "x", "AWS_SESSION_TOKEN": "t", "AWS_PROFILE": "p", "AWS_REGION": "eu-west-1"}) == ()


def test_an_optional_secret_is_looked_at_where_its_sink_is_on() -> None:
    file = {"AWS_SESSION_TOKEN_FILE": "/nowhere/token"}
    both = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "s"}
    for environ, said in (
        (both, []),
        (file, []),
        ({**both, **file}, ["could not be read (No such file or directory)"]),
        ({**both, **file, "AWS_SESSION_TOKEN": "t"}, ["is ignored, for AWS_SESSION_TOKEN is set too"]),
    ):
        problems: list[Problem] = []
        assert enabled(environ, None, problems) == (() if environ is file else ("cloudwatch",))
        assert [problem.variable for problem in problems] == ["AWS_SESSION_TOKEN_FILE"] * len(said)
        assert all(words in problem.message for words, problem in zip(said, problems, strict=True))


def test_quotes_around_a_path_are_said() -> None:
    for path in ('"/run/token"', "'/run/token'"):
        assert (
            "DATADOG_TOKEN_FILE has quotes around it and so holds no path" in read({"DATADOG_TOKEN_FILE": path})[1][0]
        )
    assert "quotes" not in read({"DATADOG_TOKEN_FILE": '"'})[1][0]


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({}, "DATADOG_TOKEN"),
        ({"DATADOG_TOKEN": "x", "DATADOG_TOKEN_FILE": "/x"}, "DATADOG_TOKEN"),
        ({"DATADOG_TOKEN": " ", "DATADOG_TOKEN_FILE": "/x"}, "DATADOG_TOKEN_FILE"),
        ({"DATADOG_TOKEN_FILE": " "}, "DATADOG_TOKEN"),
    ],
)
def test_the_variable_of_a_secret_is_the_one_that_it_is_read_from(environ: dict[str, str], variable: str) -> None:
    assert variable_of(environ, "DATADOG_TOKEN") == variable


def test_all_secrets_turn_all_sinks_on_in_the_registrys_order() -> None:
    environ = {"SENTRY_DSN": "x", "NEW_RELIC_LICENSE_KEY": "x", "DATADOG_TOKEN": "x"}
    assert enabled(environ) == ("datadog", "sentry", "newrelic")
    assert enabled(environ, ("newrelic", "cloudwatch", "datadog")) == ("datadog", "newrelic")


def test_names_in_the_registry_are_unique_and_say_where_the_sink_is() -> None:
    names = [entry.name for entry in REGISTRY]
    assert names == ["datadog", "cloudwatch", "sentry", "newrelic"]
    for entry in REGISTRY:
        assert entry.factory.startswith(f"shipper.sinks.{entry.name}:")
