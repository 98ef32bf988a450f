"""What stands together stays together, wherever the stream is cut, and nothing else waits or is swallowed."""

from __future__ import annotations

import pytest

from shipper.lines.joining import MAX_STRANGERS, group
from tests.lines.joined_cases import ONE_EVENT

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
