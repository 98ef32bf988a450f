"""The last traceback in some lines of text: what was raised, what it said, and where.

| of | begins with | frames |
| --- | --- | --- |
| Python | `Traceback (most recent call last):`, also in an exception group's frame of bars; chains, cause first | `File "…", line 1, in f` and the source line, outermost first |
| Python's faulthandler | `Fatal Python error: …` | `File "…", line 1 in f`, innermost first |
| Node, Java | the error's line above a run of `at …`; Java's `Caused by:` in a chain | innermost first |
| Go | `panic: …` or `fatal error: …` with a `goroutine N […]:` below | of that goroutine, innermost first |
| Rust | `thread '…' panicked at …` | the place named there, and the backtrace's |
| C++, V8 | `terminate called after throwing an instance of '…'`, `FATAL ERROR: …` | none |

Frames come out outermost first, as Sentry wants them. Every step is linear in the line, and lines are cut before: they
may hold anything.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_LINE = 4096
"""Characters of a line that are looked at."""
MAX_CHAIN = 5
MAX_FRAMES = 100
"""Of one failure, as sentry-sdk has it by default; of a recursion the first ones and the last ones are kept."""
FIRST_FRAMES = 20
MAX_MESSAGE_LINES = 20
FATAL_PYTHON = "Fatal Python error"

PYTHON, NODE, JAVA, GO, OTHER = "python", "node", "java", "go", "other"
"""Sentry's names of platforms, of which Rust and C++ have none that means text."""


class Frame:
    """``path`` as printed, empty where none was; ``line`` 0 where none was; ``context``: the source line."""

    __slots__ = ("context", "function", "in_app", "line", "path")

    def __init__(self, path: str, function: str, line: int, in_app: bool, context: str = "") -> None:
        self.path = path
        self.function = function
        self.line = line
        self.in_app = in_app
        self.context = context


class Failure:
    """``kind``: the type's own name; ``module``: what stands before it. ``fatal``: a runtime's last words before it
    ends its process by a signal, rather than an exception that somebody may have caught."""

    __slots__ = ("fatal", "frames", "kind", "message", "module", "platform")

    def __init__(self, kind: str, message: str, frames: list[Frame], platform: str, *, fatal: bool = False) -> None:
        self.module, _, self.kind = kind.rpartition(".")
        self.message = message
        if len(frames) > MAX_FRAMES:
            frames = frames[:FIRST_FRAMES] + frames[FIRST_FRAMES - MAX_FRAMES :]
        self.frames = frames
        self.platform = platform
        self.fatal = fatal


Chain = list[Failure]
"""What led to what: the last one is what ended it."""

Line = tuple[int, str]
"""The number of the event that it belongs to, and its text: lines of one event belong together for certain."""


def last_traceback(lines: Sequence[Line]) -> tuple[Chain, int] | None:
    """The last one, and the number of its last event; None when there is none."""
    lines = [(event, text[:MAX_LINE].rstrip()) for event, text in lines]
    found: tuple[Chain, int] | None = None
    at = 0
    while at < len(lines):
        text = lines[at][1]
        for begins, parse in _PARSERS:
            if begins(text) and (parsed := parse(lines, at)) is not None:
                chain, end = parsed
                if found is not None and found[1] == at and text.startswith("Caused by: "):
                    chain = [*chain, *found[0]]  # the cause comes first
                found, at = (chain[-MAX_CHAIN:], end), end
                break
        else:
            at += 1
    return None if found is None else (found[0], lines[found[1] - 1][0])


# -- Python ----------------------------------------------------------------------------------------------------------

_HEADER = re.compile(r"([ |+]*)(?:Exception Group )?Traceback \(most recent call last\):$")
_PLACE = re.compile(r'\s+File "([^"]+)", line (\d+)(?:,? in (.+))?$')
_RAISED = re.compile(r"([^\W\d][\w.<>]*)(?:: ?(.*))?$")
_CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python3", "/lib64/python3")


def _python(lines: Sequence[Line], at: int) -> tuple[Chain, int] | None:
    chain: Chain = []
    end = at
    while (parsed := _one_python(lines, at)) is not None:
        failure, depth, end = parsed
        if depth and chain and chain[-1].kind.endswith("ExceptionGroup"):
            chain.insert(0, failure)  # one of the group's: the group is what was raised
        else:
            chain.append(failure)
        at = end
        for _ in range(3):  # an empty line, the sentence, an empty line; of a group the rule with its number
            if at < len(lines) and _between(lines[at][1]):
                at += 1
    return (chain, end) if chain else None


def _between(text: str) -> bool:
    bare = text.strip(" |+-")
    return not bare or bare in _CHAINED or (bare.isdigit() and "---" in text)


def _one_python(lines: Sequence[Line], at: int) -> tuple[Failure, int, int] | None:
    """A failure, how deep in groups it stands, and what follows it."""
    header = _HEADER.match(lines[at][1]) if at < len(lines) else None
    if header is None:
        return None
    indent = len(header[1])
    frames: list[Frame] = []
    at += 1
    while at < len(lines) and (body := _within(lines[at][1], indent))[:1] in (" ", "\t"):
        place = _PLACE.match(body)
        if place is not None:
            path, number, function = place.groups()
            frames.append(Frame(path, function or "<module>", _number(number), _is_python_app(path)))
        elif frames and not frames[-1].context:
            frames[-1].context = body.strip()
        at += 1
    if at == len(lines) or (raised := _RAISED.match(_within(lines[at][1], indent))) is None:
        return None
    event, message = lines[at][0], [raised[2] or ""]
    at += 1
    while at < len(lines) and lines[at][0] == event:
        text = lines[at][1]
        body = _within(text, indent)
        if body.strip() in _CHAINED or _HEADER.match(text) or (indent and "|" not in text[:indent]):
            break
        message.append(body)
        at += 1
    kept = "\n".join(message[:MAX_MESSAGE_LINES]).strip()
    return Failure(raised[1], kept, frames, PYTHON), header[1].count("|"), at


def _within(text: str, indent: int) -> str:
    """A line of a group's without its bars; nothing where it is none."""
    return "" if text[:indent].strip(" |+") else text[indent:]


def _is_python_app(path: str) -> bool:
    return not path.startswith("<frozen ") and not any(part in path for part in _LIBRARIES)


_THREAD = re.compile(r"(?:(Current thread)|Thread) 0x[0-9a-f]+.*\(most recent call first\):$")


def _faulthandler(lines: Sequence[Line], at: int) -> tuple[Chain, int] | None:
    """Other threads come before the one that it happened in."""
    message = lines[at][1].partition(": ")[2]
    frames: list[Frame] = []
    at += 1
    current = False
    for end in range(at, len(lines)):
        text = lines[end][1]
        place, thread = _PLACE.match(text), _THREAD.match(text)
        if thread is not None:
            if current:
                break
            current = thread[1] is not None
        elif place is not None:
            if current:
                frames.append(Frame(place[1], place[3] or "", _number(place[2]), _is_python_app(place[1])))
        elif text and not text.startswith("Python runtime state: "):
            break
        at = end + 1
    return [Failure(FATAL_PYTHON, message, frames[::-1], PYTHON, fatal=True)], at


# -- Node and Java ---------------------------------------------------------------------------------------------------

_THROWN = re.compile(
    r'(?:Uncaught |Exception in thread "[^"]*" |Caused by: )?'
    r"((?:[A-Za-z_$][\w$]*\.)*[A-Z_$][\w$]*)(?: \[\w+\])?(?:: (.*))?$"
)
_LIKE_AN_ERROR = ("Error", "Exception", "Rejection", "Throwable", "Panic", "Fault")
_UPWARDS = 10  # lines of a message above the first frame


def _is_at(text: str) -> bool:
    return text[:1] in ("\t", " ") and text.lstrip().startswith("at ")


def _ats(lines: Sequence[Line], at: int) -> tuple[Chain, int] | None:
    """``at`` is the first frame, or the error's line above one."""
    first = at
    while first < len(lines) and first <= at + _UPWARDS and not _is_at(lines[first][1]):
        first += 1
    thrown = _THROWN.match(lines[at][1])
    if thrown is None or first == len(lines) or first > at + _UPWARDS:
        return None
    if first > at + 1 and not thrown[1].endswith(_LIKE_AN_ERROR):
        return None
    end = first
    frames: list[Frame] = []
    platform = NODE
    while end < len(lines):
        text = lines[end][1].strip()
        if not _is_at(lines[end][1]):
            if not (text.startswith("... ") and text.endswith((" more", " common frames omitted"))):
                break
        else:
            frame, java = _at(text[3:])
            frames.append(frame)
            platform = JAVA if java else platform
        end += 1
    if not any(frame.line for frame in frames):
        return None
    message = "\n".join([thrown[2] or "", *(text for _, text in lines[at + 1 : first])]).strip()
    return [Failure(thrown[1], message, frames[::-1], platform)], end


def _at(text: str) -> tuple[Frame, bool]:
    """A frame, and whether it is Java's."""
    text = text.removesuffix(" {")
    function, place = "", text.removeprefix("async ")
    if text.endswith(")"):
        opens = text.find(" (") if " (" in text else text.find("(")
        function, place = text[:opens].strip().removeprefix("async "), text[opens:].strip(" ()")
    place = place.removeprefix("file://")
    parts = place.rsplit(":", 2)
    if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
        return Frame(parts[0], function, _number(parts[1]), _is_node_app(parts[0])), False
    file, _, number = place.rpartition(":")
    if number.isdecimal() and " (" not in text:
        return Frame(file, function, _number(number), not function.startswith(_JAVA_OWN)), True
    java = place in ("Native Method", "Unknown Source") or place.endswith((".java", ".kt", ".scala"))
    return Frame(place, function, 0, False), java


_JAVA_OWN = ("java.", "javax.", "jdk.", "sun.", "com.sun.", "kotlin.", "scala.")


def _is_node_app(path: str) -> bool:
    return not path.startswith(("node:", "internal/")) and "/node_modules/" not in path and path != "<anonymous>"


# -- Go, Rust, C++, V8 -----------------------------------------------------------------------------------------------

_BEFORE_GOROUTINE = 12  # lines: what was recovered, the signal


def _go(lines: Sequence[Line], at: int) -> tuple[Chain, int] | None:
    kind, _, message = lines[at][1].partition(": ")
    for first in range(at + 1, min(len(lines), at + _BEFORE_GOROUTINE)):
        if lines[first][1].startswith("goroutine ") and lines[first][1].endswith("]:"):
            break
    else:
        return None
    frames: list[Frame] = []
    end = first + 1
    while end + 1 < len(lines) and lines[end + 1][1][:1] in ("\t", " ") and ".go:" in lines[end + 1][1]:
        called, place = lines[end][1], lines[end + 1][1].strip().partition(" +0x")[0]
        function = called.partition(" in goroutine ")[0].removeprefix("created by ")
        if function.endswith(")"):
            function = function[: function.rfind("(")]
        path, _, number = place.rpartition(":")
        frames.append(Frame(path, function, _number(number), _is_go_app(path, function)))
        end += 2
    return [Failure(kind, message, frames[::-1], GO, fatal=True)], end


def _is_go_app(path: str, function: str) -> bool:
    own = function == "panic" or function.startswith(("runtime.", "runtime/"))
    return not own and "/go/src/" not in path and "/pkg/mod/" not in path


_PANICKED = re.compile(r"thread '[^']*'(?: \(\d+\))? panicked at (.+)$")
_BACKTRACE = re.compile(r"\s*\d+: +(?:0x[0-9a-f]+ - )?(.+)$")


def _rust(lines: Sequence[Line], at: int) -> tuple[Chain, int] | None:
    panicked = _PANICKED.match(lines[at][1])
    if panicked is None:
        return None
    said, event, end = panicked[1], lines[at][0], at + 1
    if said.startswith("'"):  # before 1.73
        message, _, place = said[1:].rpartition("', ")
    else:
        place, message = said.rstrip(":"), ""
        if end < len(lines):
            message = lines[end][1]
            end += 1
            while end < len(lines) and lines[end][0] == event and not _ends_rust(lines[end][1]):
                message += "\n" + lines[end][1]
                end += 1
    frames: list[Frame] = []
    function = ""
    while end < len(lines):
        text = lines[end][1]
        entry = _BACKTRACE.match(text)
        if entry is not None:
            function = entry[1]
        elif function and text.lstrip().startswith("at "):
            frames.append(_rust_frame(text.strip()[3:], function))
        elif not _ends_rust(text):
            break
        end += 1
    return [Failure("panic", message, frames[::-1] or [_rust_frame(place, "")], OTHER, fatal=True)], end


def _ends_rust(text: str) -> bool:
    return text.startswith(("note: ", "stack backtrace:"))


def _rust_frame(place: str, function: str) -> Frame:
    path, _, rest = place.partition(":")
    own = path.startswith("/rustc/") or "/.cargo/" in path or function.startswith(("std::", "core::"))
    return Frame(path, function, _number(rest.partition(":")[0]), not own)


def _cpp(lines: Sequence[Line], at: int) -> tuple[Chain, int]:
    text = lines[at][1]
    kind = text.partition("'")[2].rstrip("'") or "terminate"
    message, end = "" if "'" in text else text, at + 1
    if end < len(lines) and lines[end][1].lstrip().startswith("what():"):
        message = lines[end][1].partition("what():")[2].strip()
        end += 1
    failure = Failure("", message, [], OTHER, fatal=True)
    failure.kind = kind  # its colons are no dots
    return [failure], end


def _v8(lines: Sequence[Line], at: int) -> tuple[Chain, int]:
    return [Failure("FATAL ERROR", lines[at][1].partition(": ")[2], [], NODE, fatal=True)], at + 1


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _starts(*heads: str) -> Callable[[str], bool]:
    return lambda text: text.startswith(heads)


_PARSERS: tuple[tuple[Callable[[str], bool], Callable[[Sequence[Line], int], tuple[Chain, int] | None]], ...] = (
    (lambda text: text.endswith("Traceback (most recent call last):"), _python),
    (_starts(FATAL_PYTHON + ": "), _faulthandler),
    (_starts("panic: ", "fatal error: "), _go),
    (_starts("thread '"), _rust),
    (_starts("terminate called "), _cpp),
    (_starts("FATAL ERROR: "), _v8),
    (lambda text: text[:1].isalpha() and _THROWN.match(text) is not None, _ats),
)
