"""Kind, message and stack are what a person would copy out of the text."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.lines.problems import Problem, describe
from tests.lines.joined_cases import ONE_EVENT

SAID = {
    "python": ("RecursionError", "maximum recursion depth exceeded"),
    "python, chained": ("my.package.MyError", ""),
    "python, a message of several lines in the chain": ("socket.timeout", "timed out"),
    "python, logged": ("ZeroDivisionError", "division by zero"),
    "python, a logged message of several lines": ("ValueError", "bad value: 42\nsecond line of the message\nthird"),
    "python, a message that goes on before the traceback": ("ValueError", "x"),
    "python, in the logger's line": ("RuntimeError", "no database"),
    "python, a group": ("ExceptionGroup", "g (2 sub-exceptions)"),
    "python, no header": ("SyntaxError", "invalid syntax"),
    "python, indented": ("ValueError", "x"),
    "python 3.13, coloured": ("ValueError", "x"),
    "loguru": ("ZeroDivisionError", "division by zero"),
    "asyncio": ("ValueError", "x"),
    "logging": ("TypeError", "%d format: a real number is required, not str"),
    "threading": ("ZeroDivisionError", "division by zero"),
    "multiprocessing": ("ZeroDivisionError", "division by zero"),
    "a finaliser": ("KeyError", "'k'"),
    "a line that ends in a colon": (
        "RuntimeError", "Failed to import x because of the following error:\nNo module named 'foo'",
    ),
    "faulthandler": ("Fatal Python error", "Segmentation fault"),
    "rich": ("ValueError", "x"),
    "livekit dev, a traceback in the message and once more": (
        "ValueError", "bad value: 42\nsecond line of the message",
    ),
    "node": ("TypeError", "uncaught in timer"),
    "node, a module not found": ("Error", "Cannot find module './nix'\nRequire stack:\n- /app/b.js"),
    "node, no error thrown": ("", "foo"),
    "node, an assertion": (
        "AssertionError", "Expected values to be strictly deep-equal:\n+ actual - expected",
    ),
    "node, printed with its cause": ("Error", "o"),
    "node, coloured frames": ("TypeError", "x"),
    "node, a full heap": ("FATAL ERROR", "Reached heap limit Allocation failed - JavaScript heap out of memory"),
    "node, a rejection's warning": ("Error", "x"),
    "anyhow": ("Error", "cannot connect"),
    "pino-pretty": ("Error", "engine: signal failure: client error: 401 Unauthorized - invalid token"),
    "java": ("java.lang.IllegalStateException", "outer\nline two"),
    "java, logged": ("java.lang.RuntimeException", "x"),
    ".net": ("System.InvalidOperationException", "outer"),
    "go": ("panic", "runtime error: invalid memory address or nil pointer dereference"),
    "go, a deadlock": ("fatal error", "all goroutines are asleep - deadlock!"),
    "go, logged": ("panic", "boom"),
    "rust": ("panic", "boom\nline two"),
    "rust, no backtrace": ("panic", 'called `Result::unwrap()` on an `Err` value: "bad"'),
    "rust, before 1.73": ("panic", "bad"),
}  # fmt: skip
NONE = {
    "aiohttp", "a coroutine not awaited", "a socket not closed", "logging, where it was called",
    "faulthandler, a timeout", "rich, no traceback", "livekit dev",
    "node, an object", "node, a warning", "a warning", "yaml",
}  # fmt: skip
LIBRARIES = {"sqlalchemy", "pydantic", "grpc"}


def uncoloured(name: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", ONE_EVENT[name])


def test_every_recorded_event_has_its_word_here() -> None:
    assert set(ONE_EVENT) == SAID.keys() | NONE | LIBRARIES


@pytest.mark.parametrize("name", SAID)
def test_kind_and_message_are_those_of_the_exception_that_was_raised(name: str) -> None:
    problem = describe(uncoloured(name))
    assert problem is not None
    assert (problem.kind, problem.message) == SAID[name]
    assert uncoloured(name).endswith(problem.stack)


@pytest.mark.parametrize("name", sorted(NONE))
def test_what_tells_of_no_exception_is_none(name: str) -> None:
    assert describe(uncoloured(name)) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "Error", "TypeError: x", "no ERROR here", "see 'Traceback (most recent call last):' above\n  x",
        "connection: lost\n  x",
        "INFO:root:where\nStack (most recent call last):\n  File \"/a.py\", line 1, in f\n    x",
        'print("Traceback (most recent call last):")', "a list:\n  - at home\n  - b",
    ],
)  # fmt: skip
def test_words_alone_are_no_exception(text: str) -> None:
    assert describe(text) is None


@pytest.mark.parametrize("name", ["python", "python, chained", "node, printed with its cause"])
def test_the_same_is_found_in_what_a_logger_puts_into_a_field(name: str) -> None:
    assert describe(ONE_EVENT[name]) == describe(f"2026-11-24 ERROR caught\n{ONE_EVENT[name]}\n")


def test_the_stack_begins_where_the_last_chain_does() -> None:
    text = ONE_EVENT["python, chained"]
    problem = describe(f"{ONE_EVENT['python']}\n{text}")
    assert problem == Problem("my.package.MyError", "", text)


def test_the_rest_of_a_traceback_is_an_error_too() -> None:
    lines = ONE_EVENT["python"].split("\n")
    assert describe("\n".join(lines[:-1])) == Problem("", "", "\n".join(lines[:-1]))
    assert describe("\n".join(lines[1:-1])) == Problem("", "", "\n".join(lines[1:-1]))
    rest = describe("\n".join(lines[1:]))
    assert rest is not None
    assert rest.kind == "RecursionError"


@given(st.lists(st.sampled_from([line for text in ONE_EVENT.values() for line in text.split("\n")]) | st.text()))
def test_nothing_raises_and_the_stack_is_of_the_text(lines: list[str]) -> None:
    text = "\n".join(lines)
    problem = describe(text)
    if problem is not None:
        assert problem.stack
        assert all(line in text for line in problem.stack.split("\n"))


@pytest.mark.parametrize(
    "piece",
    ["a.", "a a.", "A:", ": ", "Error", "Error: ", "Error [", '"', "Traceback (most recent call last):", "\n    at ",
     "\n\n", "panic: ", "[recovered]", "thread '", "\n  File \"", "\n  | ", "^", "', ", " "],
)  # fmt: skip
def test_time_is_linear_in_the_length(piece: str) -> None:
    began = time.process_time()
    describe("Traceback (most recent call last):\n" + piece * ((256 << 10) // len(piece)))
    describe(piece * ((256 << 10) // len(piece)) + "\n    at x")
    assert time.process_time() - began < 10  # 0.1 here; minutes if it were quadratic
