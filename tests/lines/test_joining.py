"""What stands together stays together, wherever the stream is cut, and nothing else waits or is swallowed."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.lines.joining import MAX_BYTES, MAX_LINES, MAX_STRANGERS, _extent, group
from shipper.lines.problems import describe
from tests.lines.joined_cases import ONE_EVENT

SAMPLES = Path(__file__).parents[2] / "demo" / "lines"
COLOURS = re.compile(r"\x1b\[[\d;]*m")
JSON = b'{"message": "starting worker", "level": "INFO"}'
PLAIN = b"prewarm: plain print to stderr"
LOGGED = b"2026-11-24 03:55:35,070 INFO livekit.agents - initializing process"
TRACEBACK = ONE_EVENT["python"].encode().split(b"\n")


def events(lines: list[bytes], parts: dict[int, int] | None = None) -> list[list[bytes]]:
    """All lines, those of one event together."""
    found, done = [], 0
    for start, end in group(lines, parts or {}).groups:
        assert done <= start < end - 1 < len(lines)
        found += [[line] for line in lines[done:start]] + [lines[start:end]]
        done = end
    return found + [[line] for line in lines[done:]]


class Reading:
    """A stream that arrives in windows: what is open is held and comes again in front of the next window."""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.events: list[list[bytes]] = []

    def feed(self, window: list[bytes]) -> None:
        lines = self.held + window
        open_from = group(lines, {}).open_from
        kept = len(lines) if open_from is None else open_from
        self.events += events(lines[:kept])
        self.held = lines[kept:]

    def end(self) -> list[list[bytes]]:
        return self.events + events(self.held)


@pytest.mark.parametrize("text", ONE_EVENT.values(), ids=ONE_EVENT)
@pytest.mark.parametrize("other", [JSON, LOGGED, b""], ids=["JSON", "text", "empty"])
def test_what_a_program_prints_at_once_is_one_event(text: str, other: bytes) -> None:
    lines = text.encode().split(b"\n")
    assert events(lines) == [lines]
    assert events([PLAIN, other, *lines, other, PLAIN]) == [[PLAIN], [other], lines, [other], [PLAIN]]
    assert events([line + b"\r" for line in lines]) == [[line + b"\r" for line in lines]]


@pytest.mark.parametrize("text", ONE_EVENT.values(), ids=ONE_EVENT)
def test_an_event_follows_another_at_once(text: str) -> None:
    lines = text.encode().split(b"\n")
    for other in (ONE_EVENT["rust"], ONE_EVENT["node"], ONE_EVENT["faulthandler"]):
        before = other.encode().split(b"\n")
        assert events([*before, *lines]) == [before, lines]


@pytest.mark.parametrize("text", ONE_EVENT.values(), ids=ONE_EVENT)
def test_from_its_second_line_on_an_event_is_whole_wherever_it_is_cut(text: str) -> None:
    lines = [*text.encode().split(b"\n"), JSON]
    for cut in range(2, len(lines)):
        reading = Reading()
        reading.feed(lines[:cut])
        reading.feed(lines[cut:])
        assert reading.end() == [lines[:-1], [JSON]]


@pytest.mark.parametrize(
    ("lines", "open_from"),
    [
        ([PLAIN], None),
        ([LOGGED], None),
        ([b"ERROR:root:caught"], None),  # its traceback may follow, but it does not look so
        ([b"{"], None),
        ([b"    indented"], None),
        ([b"/app/agent.py:29: UserWarning: x"], None),
        ([JSON], None),
        ([PLAIN, b"Traceback (most recent call last):"], 1),
        ([b"ERROR:root:caught", b"Traceback (most recent call last):"], 0),
        ([PLAIN, *TRACEBACK[:4]], 1),
        ([PLAIN, *TRACEBACK], 1),  # one that is chained may follow
        ([*TRACEBACK, b""], 0),
        ([*TRACEBACK, b"", b"The above exception was the direct cause of the following exception:", b""], 0),
        ([*TRACEBACK, PLAIN], 0),  # may be of a message that a chain still tells
        ([*TRACEBACK, *[PLAIN] * (MAX_STRANGERS + 1)], None),
        ([*TRACEBACK, JSON], None),
        ([*TRACEBACK, LOGGED], None),
        ([*TRACEBACK, b"Traceback (most recent call last):"], len(TRACEBACK)),
        ([b"panic: x"], 0),
        ([b"fatal error: all goroutines are asleep - deadlock!"], 0),
        ([b'Exception in thread "main" java.lang.RuntimeException: x'], 0),
        ([b"file:///app/agent.mjs:9"], 0),
        ([b"file:///app/agent.mjs:9", b"    throw x", b"    ^", b""], 0),
        ([b"TypeError: x"], 0),
        ([b"Fatal Python error: Segmentation fault"], 0),
        ([b"thread 'main' panicked at src/main.rs:2:5:"], 0),
        ([b'  File "/app/a.py", line 3, in f'], 0),
        ([PLAIN, b"    a: 1"], 0),
        (ONE_EVENT["node"].encode().split(b"\n"), None),
        (ONE_EVENT["go"].encode().split(b"\n"), None),
        (ONE_EVENT["rust"].encode().split(b"\n"), None),
        (ONE_EVENT["faulthandler"].encode().split(b"\n"), None),
        (ONE_EVENT["node, a warning"].encode().split(b"\n"), None),
        ([], None),
    ],
    ids=repr,
)
def test_only_what_opens_an_event_or_goes_on_with_one_waits(lines: list[bytes], open_from: int | None) -> None:
    assert group(lines, {}).open_from == open_from


@pytest.mark.parametrize("stranger", [JSON, LOGGED, b"  " + JSON, b" INFO app: hello", b"panic: x"], ids=repr)
def test_another_writer_in_between_ends_the_event_and_the_rest_is_the_next(stranger: bytes) -> None:
    rest = TRACEBACK[4:]
    assert events([*TRACEBACK[:4], stranger, *rest]) == [TRACEBACK[:4], [stranger], rest]


def test_a_print_in_between_ends_it_too_and_is_not_the_rest_s() -> None:
    assert events([*TRACEBACK[:3], PLAIN, *TRACEBACK[4:]]) == [TRACEBACK[:3], [PLAIN], TRACEBACK[4:]]
    assert events([*TRACEBACK, PLAIN, JSON]) == [TRACEBACK, [PLAIN], [JSON]]
    assert events([*TRACEBACK, PLAIN, PLAIN, b"", b"x"]) == [TRACEBACK, [PLAIN], [PLAIN], [b""], [b"x"]]


@pytest.mark.parametrize("before", [PLAIN, b"INFO:root:starting", JSON, b"", b"  indented"], ids=repr)
def test_a_traceback_is_not_the_line_s_before_unless_that_warns(before: bytes) -> None:
    assert events([before, *TRACEBACK]) == [[before], TRACEBACK]


@pytest.mark.parametrize(
    "before",
    [
        b"WARNING:root:caught", b"2026-11-24 03:55:35,005 - my-agent - ERROR - caught", b"[error    ] caught",
        b"2026-11-24T03:55:35Z CRITICAL caught", b"E1124 03:55:35.005 1 a.go:1] caught", b"level=error msg=caught",
        b"2026-11-24 03:55:35 | ERROR    | __main__:<module>:9 - caught", b"ERROR:    Exception in ASGI application",
        b"\x1b[31mERROR\x1b[0m caught",
    ],
    ids=repr,
)  # fmt: skip
def test_a_traceback_is_the_logger_s_line_s_before(before: bytes) -> None:
    assert events([PLAIN, before, *TRACEBACK]) == [[PLAIN], [before, *TRACEBACK]]


@pytest.mark.parametrize(
    "lines",
    [
        [PLAIN, PLAIN],
        [LOGGED, LOGGED],
        [JSON, JSON],
        [JSON, b"    indented"],
        [PLAIN, b"  " + JSON],
        [PLAIN, b"", b"    indented"],
        [PLAIN, b"   ", b"\t"],
        [b"2026-11-24T04:00:00Z app: hello", b"  2026-11-24T04:00:01Z  INFO app: hello"],
        [b" INFO app: hello", b" WARN app: hello"],
        [PLAIN, b"}"],
        [PLAIN, b"+ make"],
        [b"Error: no such room", PLAIN, PLAIN, JSON],
        [b"Usage: agent3.py start [OPTIONS]", b"Try 'agent3.py start --help' for help."],
        [b"thread pool started", b"panicked"],
        [b"/health: 200", b"ok"],
        [b"Thread started", b"Caused by: nothing"],
        [b"\xff\xfe", b"\x00", b"\x1b", b"\x1b[", b"\r"],
    ],
    ids=repr,
)
def test_what_does_not_belong_together_stays_apart(lines: list[bytes]) -> None:
    assert events(lines) == [[line] for line in lines]
    assert group(lines, {}).open_from is None


@pytest.mark.parametrize("first", [b"Error: no such room", b"panic: x"])
def test_prints_behind_an_error_s_line_are_its_message_only_when_a_stack_follows(first: bytes) -> None:
    dump = [b"settings:", b"  a: 1"]
    assert events([first, PLAIN, *dump, JSON]) == [[first], [PLAIN], dump, [JSON]]
    stack = [b"goroutine 1 [running]:"] if first[0] == ord("p") else [b"    at f (/app/a.js:1:2)"]
    assert events([first, PLAIN, *dump, b"", *stack]) == [[first, PLAIN, *dump, b"", *stack]]


def test_a_piece_of_a_longer_line_joins_nothing() -> None:
    lines = [b"Traceback (most recent call last):", b"  x", b"  y", b"  z"]
    assert events(lines, {1: 1}) == [lines[:1], lines[1:2], lines[2:]]
    assert events(lines, {0: 2}) == [lines[:1], lines[1:]]
    assert events([PLAIN, *lines], {0: 3, 4: 1}) == [[PLAIN], lines[:3], lines[3:]]


def test_too_many_lines_become_two_events() -> None:
    lines = [TRACEBACK[0], b"  x", *TRACEBACK[1:3] * MAX_LINES, TRACEBACK[-1]]
    found = events(lines)
    assert [len(event) for event in found] == [MAX_LINES, MAX_LINES, 3]
    assert group(lines[: MAX_LINES - 1], {}).open_from == 0
    assert group(lines[:MAX_LINES], {}).open_from is None


def test_too_many_bytes_become_two_events() -> None:
    lines = [TRACEBACK[0], *[b"  " + b"x" * 1021] * 600]
    found = events(lines)
    assert len(found) == 3
    assert all(MAX_BYTES - 1024 < len(b"\n".join(event)) <= MAX_BYTES for event in found[:2])
    assert events([b"x" * MAX_BYTES, b"  y"]) == [[b"x" * MAX_BYTES], [b"  y"]]


SCRIPT = """
import faulthandler, logging, sys, threading, traceback, warnings
def deep(n): return deep(n - 1) if n else 1 / 0
def even(n): return odd(n + 1)
def odd(n): return even(n + 1)
def chained():
    try:
        try: deep(3)
        except Exception as error: raise KeyError("a\\nb") from error
    except Exception: raise RuntimeError("outer")
def noted():
    try: deep(1)
    except Exception as error:
        error.add_note("a note\\nof two lines")
        raise ValueError("v") from error
def grouped():
    try: chained()
    except Exception as error:
        raise ExceptionGroup("g", [error, ExceptionGroup("h", [OSError(2, "x")])]) from error
def broken(): compile("def f(:\\n  pass", "<text>", "exec")
def show(call):
    try: call()
    except BaseException: traceback.print_exc()
def ends():
    thread = threading.Thread(target=deep, args=(2,))
    thread.start()
    thread.join()
def logs():
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try: chained()
    except Exception: logging.exception("caught", stack_info=True)
def wrong(): logging.warning("%d", "x")
for call in [deep, chained, noted, grouped, broken, even, sys.exit, ends, logs, wrong, faulthandler.dump_traceback,
             lambda: warnings.warn("w")]:
    if call in (ends, logs, wrong) or call.__name__ in ("dump_traceback", "<lambda>"): call()
    else: show((lambda: call(3)) if call in (deep, even) else call)
    sys.stderr.flush()
    print('{"message": "next"}', file=sys.stderr, flush=True)
raise SystemError("the end")
"""


def test_what_a_real_python_prints_is_one_event_each(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    printed = subprocess.run([sys.executable, str(script)], stderr=subprocess.PIPE, check=False, timeout=60).stderr
    found = events([line for line in printed.split(b"\n") if line != b'{"message": "next"}'][:-1])
    problems = [describe(b"\n".join(event).decode()) for event in found]
    kinds = [problem and problem.kind for problem in problems]
    assert kinds == [
        "ZeroDivisionError", "RuntimeError", "ValueError", "ExceptionGroup", "SyntaxError", "RecursionError",
        "SystemExit", "ZeroDivisionError", "RuntimeError", "TypeError", None, None, "SystemError",
    ]  # fmt: skip
    assert problems[3] is not None
    assert problems[3].message == "g (2 sub-exceptions)"


soup = st.lists(
    st.one_of(
        st.sampled_from([line for text in ONE_EVENT.values() for line in text.encode().split(b"\n")]),
        st.sampled_from(
            [JSON, PLAIN, LOGGED, b"", b"  ", b"}", b"    at x", b"\tx", b"{", b"ERROR x", b"\xe2\x95\xad"]
        ),
        st.binary(max_size=20).filter(lambda line: b"\n" not in line),
    ),
    max_size=40,
)
texts = st.lists(st.sampled_from([*ONE_EVENT.values(), JSON.decode(), PLAIN.decode(), LOGGED.decode(), ""]), max_size=5)
streams = st.one_of(soup, texts.map(lambda chosen: "\n".join(chosen).encode().split(b"\n")))


@settings(max_examples=400)
@given(streams, st.dictionaries(st.integers(0, 39), st.integers(1, 3), max_size=2))
def test_every_line_is_in_one_event_and_each_event_begins_anew(lines: list[bytes], parts: dict[int, int]) -> None:
    parts = {index: part for index, part in parts.items() if index < len(lines)}
    found = events(lines, parts)
    assert [line for event in found for line in event] == lines
    start, open_from = 0, None
    for event in found:
        end, is_open = _extent(lines, parts, start)  # line by line, with no look for places of interest
        assert end - start == len(event)
        if is_open and open_from is None:
            open_from = start
        start = end
    assert group(lines, parts).open_from == open_from


@settings(max_examples=400)
@given(streams, st.sets(st.integers(0, 60)))
def test_where_a_stream_is_cut_makes_no_difference_while_something_is_held(lines: list[bytes], cuts: set[int]) -> None:
    reading, expected, begun = Reading(), [], 0
    borders = sorted({cut for cut in cuts if cut < len(lines)} | {len(lines)})
    before = 0
    for border in borders:
        reading.feed(lines[before:border])
        before = border
        if not reading.held:
            expected += events(lines[begun:border])
            begun = border
    assert reading.end() == expected + events(lines[begun:])


@pytest.mark.parametrize(
    "piece",
    [b"a.", b"A", b"A:", b"(", b")", b": ", b" ", b"[ ", b"Error", b"Error [", b"'", b'"', b"^", b"\x1b[", b"\x1b[9",
     b"panic", b"\xe2\x94\x80", b"goroutine 1 [", b"1: ", b"} ", b"<locals>.", b"\x1b[90m\x1b[0m", b"--- "],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("head", [b"", b"/", b"node:", b"goroutine 1 ", b"thread '", b"Traceback ", b"a.", b"ERROR "])
def test_time_is_linear_in_a_line_s_length(head: bytes, piece: bytes) -> None:
    line = head + piece * ((64 << 10) // len(piece))
    began = time.process_time()
    for before in ([], [b"ERROR x"], TRACEBACK[:2], TRACEBACK, ONE_EVENT["go"].encode().split(b"\n")[:-1]):
        group([*before, line + b"x", line, b"  x"], {})
    assert time.process_time() - began < 5  # 0.01 here; minutes if it were quadratic


def test_time_is_linear_in_the_number_of_lines() -> None:
    for lines in ([b"panic: x"], [b"Error: x", b"y"], [b"x", b" y"], TRACEBACK, [b"panic: x", *[b"y"] * MAX_STRANGERS]):
        began = time.process_time()
        group(lines * (30_000 // len(lines)), {})
        assert time.process_time() - began < 5  # 0.1 here; minutes if it were quadratic


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("node_job.stderr", [(11, "Error")]),
        ("node_job.stdout", []),
        ("node_throw.stderr", [(11, "Error"), (10, "TypeError")]),
        ("py_dev.stderr", [(2, None)]),
        ("py_dev.stdout", [(2, None), (27, "ValueError"), (21, "livekit.rtc.room.ConnectError")]),
        ("py_segv.stderr", [(2, None), (34, "Fatal Python error")]),
        ("py_task.stderr", [(2, None)]),
        ("py_task.stdout", []),
    ],
)
def test_what_livekit_s_agents_printed_is_what_a_person_would_take_together(
    name: str, expected: list[tuple[int, str | None]]
) -> None:
    lines = (SAMPLES / f"{name}.log").read_bytes().split(b"\n")[:-1]
    found = []
    for event in events(lines):
        if len(event) > 1:
            problem = describe(COLOURS.sub("", b"\n".join(event).decode()))
            found.append((len(event), problem.kind if problem else None))
    assert found == expected
