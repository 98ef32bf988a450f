"""Tracebacks as runtimes print them: what was raised, its frames, and nothing that is none."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.lines.tracebacks import FIRST_FRAMES, MAX_CHAIN, MAX_FRAMES, Chain, last_traceback

SAMPLES = Path(__file__).parents[2] / "demo" / "lines"

CASES: dict[str, tuple[str, list[tuple[str, str]], str, list[tuple[str, str, int, bool]]]] = {
    # name: text, (type, message) of each, platform, frames of the last one: path, function, line, in_app
    "python": (
        """\
        Traceback (most recent call last):
          File "/app/agent.py", line 12, in <module>
            main(1 / 0)
                 ~~^~~
          File "/app/.venv/lib/python3.11/site-packages/pkg/core.py", line 3, in run
            raise pkg.errors.Lost("no room")
        pkg.errors.Lost: no room
        """,
        [("pkg.errors|Lost", "no room")],
        "python",
        [
            ("/app/agent.py", "<module>", 12, True),
            ("/app/.venv/lib/python3.11/site-packages/pkg/core.py", "run", 3, False),
        ],
    ),
    "python, chained": (
        """\
        Traceback (most recent call last):
          File "/app/a.py", line 1, in one
            {}["k"]
        KeyError: 'k'

        During handling of the above exception, another exception occurred:

        Traceback (most recent call last):
          File "/app/a.py", line 2, in two
            raise ValueError
        ValueError

        The above exception was the direct cause of the following exception:

        Traceback (most recent call last):
          File "/app/a.py", line 3, in three
            raise OSError("last") from error
        OSError: last
        """,
        [("KeyError", "'k'"), ("ValueError", ""), ("OSError", "last")],
        "python",
        [("/app/a.py", "three", 3, True)],
    ),
    "python, a group": (
        """\
          + Exception Group Traceback (most recent call last):
          |   File "/app/a.py", line 5, in <module>
          |     raise ExceptionGroup("two failed", failures)
          | ExceptionGroup: two failed (2 sub-exceptions)
          +-+---------------- 1 ----------------
            | Traceback (most recent call last):
            |   File "/app/a.py", line 2, in work
            |     raise ValueError("first")
            | ValueError: first
            +---------------- 2 ----------------
            | Traceback (most recent call last):
            |   File "/app/a.py", line 3, in work
            |     raise TypeError("second")
            | TypeError: second
            +------------------------------------
        """,
        [("TypeError", "second"), ("ValueError", "first"), ("ExceptionGroup", "two failed (2 sub-exceptions)")],
        "python",
        [("/app/a.py", "<module>", 5, True)],
    ),
    "a syntax error": (
        """\
        Traceback (most recent call last):
          File "<frozen runpy>", line 198, in _run_module_as_main
          File "/app/a.py", line 1
            def (
                ^
        SyntaxError: invalid syntax
        """,
        [("SyntaxError", "invalid syntax")],
        "python",
        [("<frozen runpy>", "_run_module_as_main", 198, False), ("/app/a.py", "<module>", 1, True)],
    ),
    "faulthandler": (
        """\
        Fatal Python error: Segmentation fault

        Thread 0x00007f646b3ff6c0 (most recent call first):
          File "/usr/local/lib/python3.11/threading.py", line 331 in wait

        Current thread 0x00007f64785a3740 (most recent call first):
          File "/usr/local/lib/python3.11/ctypes/__init__.py", line 519 in string_at
          File "/app/agent.py", line 41 in entrypoint

        Extension modules: multidict._multidict (total: 1)
        """,
        [("Fatal Python error", "Segmentation fault")],
        "python",
        [
            ("/app/agent.py", "entrypoint", 41, True),
            ("/usr/local/lib/python3.11/ctypes/__init__.py", "string_at", 519, False),
        ],
    ),
    "node": (
        """\
        file:///app/agent.mjs:9
            throw new TypeError('uncaught');
            ^

        TypeError [ERR_X]: uncaught
        and a second line
            at async Timeout._onTimeout (file:///app/agent.mjs:9:54)
            at Object.<anonymous> (/app/(auth)/page.js:1:2)
            at /app/node_modules/x/index.js:8:1
            at new Promise (<anonymous>)
            at listOnTimeout (node:internal/timers:581:17) {
          code: 'ERR_X'
        }

        Node.js v20.20.2
        """,
        [("TypeError", "uncaught\nand a second line")],
        "node",
        [
            ("node:internal/timers", "listOnTimeout", 581, False),
            ("<anonymous>", "new Promise", 0, False),
            ("/app/node_modules/x/index.js", "", 8, False),
            ("/app/(auth)/page.js", "Object.<anonymous>", 1, True),
            ("/app/agent.mjs", "Timeout._onTimeout", 9, True),
        ],
    ),
    "java": (
        """\
        Exception in thread "main" java.lang.IllegalStateException: outer
        \tat com.example.Agent.run(Agent.java:10)
        \tat java.base/java.lang.Thread.run(Thread.java:840)
        Caused by: com.example.Lost: inner
        \tat com.example.Agent.find(Agent.java:20)
        \t... 1 more
        """,
        [("com.example|Lost", "inner"), ("java.lang|IllegalStateException", "outer")],
        "java",
        [
            ("Thread.java", "java.base/java.lang.Thread.run", 840, False),
            ("Agent.java", "com.example.Agent.run", 10, True),
        ],
    ),
    "go": (
        """\
        panic: runtime error: index out of range [3] with length 2 [recovered]

        goroutine 1 [running]:
        panic({0x45a3e0?, 0xc00001c0a8?})
        \t/usr/local/go/src/runtime/panic.go:770 +0x132
        main.(*Agent).Run(0xc000012345, {0x1, 0x2})
        \t/app/main.go:12 +0x1d
        created by main.main in goroutine 7
        \t/app/main.go:8 +0x13
        exit status 2
        """,
        [("panic", "runtime error: index out of range [3] with length 2 [recovered]")],
        "go",
        [
            ("/app/main.go", "main.main", 8, True),
            ("/app/main.go", "main.(*Agent).Run", 12, True),
            ("/usr/local/go/src/runtime/panic.go", "panic", 770, False),
        ],
    ),
    "rust": (
        """\
        thread 'main' panicked at src/main.rs:4:5:
        index out of bounds
        note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
        """,
        [("panic", "index out of bounds")],
        "other",
        [("src/main.rs", "", 4, True)],
    ),
    "rust, as it was, with a backtrace": (
        """\
        thread 'worker' panicked at 'it's gone', src/main.rs:4:5
        stack backtrace:
           0: std::panicking::begin_panic
                     at /rustc/9fc6b4312/library/std/src/panicking.rs:616:12
           1: agent::run
                     at ./src/main.rs:4:5
        """,
        [("panic", "it's gone")],
        "other",
        [
            ("./src/main.rs", "agent::run", 4, True),
            ("/rustc/9fc6b4312/library/std/src/panicking.rs", "std::panicking::begin_panic", 616, False),
        ],
    ),
    "c++": (
        """\
        terminate called after throwing an instance of 'std::out_of_range'
          what():  vector::at
        """,
        [("std::out_of_range", "vector::at")],
        "other",
        [],
    ),
    "v8": (
        "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n",
        [("FATAL ERROR", "Reached heap limit Allocation failed - JavaScript heap out of memory")],
        "node",
        [],
    ),
}


def found(text: str, joined: bool) -> Chain | None:
    """Among other lines, of which some look alike."""
    lines = [(n + 1, line) for n, line in enumerate(text.split("\n")) if joined or line.strip()]  # empty ones are none
    if joined:
        lines = [(1, line) for _, line in lines]
    result = last_traceback([(0, "INFO: all is well"), *lines, (9_999, "bye: so long"), (10_000, "  at home")])
    assert result is None or 0 < result[1] < 9_999
    return None if result is None else result[0]


@pytest.mark.parametrize("joined", [True, False], ids=["joined", "line by line"])
@pytest.mark.parametrize("case", CASES)
def test_what_was_raised_and_where(case: str, joined: bool) -> None:
    text, raised, platform, frames = CASES[case]
    chain = found(dedent(text).rstrip("\n"), joined)
    assert chain is not None
    names = [(f"{failure.module}|{failure.kind}".lstrip("|"), failure.message) for failure in chain]
    assert names == raised
    assert chain[-1].platform == platform
    assert [(frame.path, frame.function, frame.line, frame.in_app) for frame in chain[-1].frames] == frames


def test_a_frame_has_its_source_line_without_what_points_into_it() -> None:
    chain = found(dedent(CASES["python"][0]), joined=True)
    assert chain is not None
    assert [frame.context for frame in chain[0].frames] == ["main(1 / 0)", 'raise pkg.errors.Lost("no room")']


def test_a_message_of_many_lines_is_whole_where_its_lines_are_known_to_belong_together() -> None:
    text = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nValueError: one\ntwo\n  three'
    joined, apart = found(text, joined=True), found(text, joined=False)
    assert joined is not None
    assert joined[0].message == "one\ntwo\n  three"
    assert apart is not None
    assert apart[0].message == "one"


def test_the_last_of_several_counts() -> None:
    text = "".join(dedent(CASES[name][0]) for name in ("go", "python", "node", "rust"))
    chain = found(text, joined=False)
    assert chain is not None
    assert chain[0].message == "index out of bounds"


@pytest.mark.parametrize(
    "text",
    [
        "Error: something\nwithout any frame",
        "Traceback (most recent call last):",
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()',
        "panic: no goroutine follows\nnor here",
        "    at the beginning\n    at the end",
        "thread 'main' panicked",
        "WARNING: look here\n  at your own risk (really)",
    ],
)
def test_what_looks_alike_is_none(text: str) -> None:
    assert last_traceback(list(enumerate(text.split("\n")))) is None


def test_recursion_and_long_chains_are_bounded() -> None:
    deep = "Traceback (most recent call last):\n" + '  File "/app/a.py", line 1, in f\n    f()\n' * 5000
    chain = found(deep + "RecursionError: too deep", joined=True)
    assert chain is not None
    assert len(chain[0].frames) == MAX_FRAMES > FIRST_FRAMES
    one = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    f()\nValueError: %d\n\n'
    between = "During handling of the above exception, another exception occurred:\n\n"
    chain = found(between.join(one % n for n in range(50)), joined=False)
    assert chain is not None
    assert [failure.message for failure in chain] == [str(n) for n in range(50 - MAX_CHAIN, 50)]


@pytest.mark.parametrize(
    ("file", "kind", "functions"),
    [
        ("py_segv.stderr.log", "Fatal Python error", ["entrypoint", "string_at"]),
        ("node_throw.stderr.log", "TypeError", ["listOnTimeout", "Timeout._onTimeout"]),
    ],
)
def test_real_agents_last_words_are_read(file: str, kind: str, functions: list[str]) -> None:
    result = last_traceback(list(enumerate((SAMPLES / file).read_text(errors="replace").split("\n"))))
    assert result is not None
    failure = result[0][-1]
    assert failure.kind == kind
    assert [frame.function for frame in failure.frames[-2:]] == functions


PIECES = sorted({line for text, *_ in CASES.values() for line in dedent(text).split("\n")})


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=40)), max_size=60), st.booleans())
def test_no_lines_whatever_are_too_much(lines: list[str], joined: bool) -> None:
    result = last_traceback([(0 if joined else n, line) for n, line in enumerate(lines)])
    if result is not None:
        chain, event = result
        assert 1 <= len(chain) <= MAX_CHAIN
        assert 0 <= event < max(1, len(lines))
