"""Which neighbouring lines of a stream are one event: tracebacks, panics, stack traces, indented continuations.

How it is told. An event begins with a line that nothing before it claims. What may follow is told by a small machine
(`_STATES`): in each state a few looks of lines go on, and lead to the next state. Three kinds of lines are told
otherwise:

- Blank lines. Inside a traceback or a source excerpt they belong to it, once something that goes on follows; elsewhere
  they end the event, and those at its end are no part of it.
- Strangers: lines that say nothing by their look. A message may have several lines, so up to `MAX_STRANGERS` of them
  may stand where a message can go on, and belong when something follows that surely does ("    at ", "During handling
  of ..."). After the last line of a traceback that a logger's line began they belong at once: with such a logger
  another record would look like one. After a bare traceback a second line of the message, a note and somebody's print
  look alike, and are left alone, but for known beginnings ("[SQL: ") and what follows a colon or an open bracket.
- What surely is something else ends the event: a JSON line, a logger's line (a time or a level stands where these
  stand), a line that opens an event itself, a piece of an over-long line. The rest of a traceback into which another
  process printed is an event of its own.

Nothing is known of what came before an event's first line, so a stream may be cut in front of any of them.

What waits. `open_from` is the first line of an event that reaches the end of what is read and may go on. A single line
does so only if by its own look it opens one (`_OPENERS`); a logger's line, or any other, never waits for what has not
been read. What is complete ("Node.js v20.1.0", "exit status 2") does not wait either.

Known: Python's tracebacks (chained, of groups, without header), faulthandler's dumps, the reports of asyncio, logging,
threading and multiprocessing, warnings, rich's boxes, LiveKit's coloured records; Node's uncaught errors with their
source excerpt, printed errors, warnings, fatal ones; Java, .NET, Go, Rust; and everything else by its indentation.

All patterns are linear in a line's length, and a line is looked at a bounded number of times. Costs, us a line: JSON
alone 0.02, JSON and some prints 0.1, text that begins with a time 0.25, with a word 0.5; lines of events 2 to 3.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_LINES = 4_096
"""Of an event. Python prints 1,000 frames of an endless recursion at up to three lines each, a JVM 1,024 at one."""
MAX_BYTES = 256 << 10
"""Of an event, newlines included: what one line may have by default (`SHIPPER_MAX_LINE`). Those frames have 150,000."""
MAX_STRANGERS = 8
MAX_BLANKS = 3  # Node leaves two empty lines in its report of a full heap


class Grouping(NamedTuple):
    """``groups``: the events of two lines or more as (start, end), ascending. ``open_from``: see the module's text."""

    groups: list[tuple[int, int]]
    open_from: int | None


_LEVELS = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERR(?:OR)?|SEVERE|CRITICAL|FATAL)"
_LOGGED = (
    r"[ \t]*(?:\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d|\[?\d\d:\d\d:\d\d"
    rf"|[\[(|]?{_LEVELS}\b(?! =)|[IWEF]\d{{4}} \d\d:\d\d:|(?:time|ts|level|lvl|timestamp)=|\((?:node|python):\d+\) )"
)
"""A logger's line. Some stand indented (tracing's, rich's)."""
_NAME = r"[A-Za-z_][\w$]*"
_RAISED = rf"(?!(?:{_LEVELS}|[A-Z]):)(?:{_NAME}\.|<locals>\.)*+(?:[A-Z][\w$]*|(?<=\.){_NAME})"
"""A Python exception's name where one is expected: `socket.timeout` is one, `prewarm` is none."""
_THROWN = (
    rf"(?:Uncaught )?(?:{_NAME}\.)*+(?:[A-Z][\w$]*?)?(?:Error|Exception|Throwable|Rejection)(?: \[\w+\])?(?::\s|:?$)"
)
"""An exception where nothing says that one is expected."""

_LOOKS = {
    "indented": rf"(?!{_LOGGED})[ \t]+\S",
    "closing": r'[)}\]>]+[,;.]?$|"""$',
    # Python
    "header": r"Traceback \(most recent call last\):",
    "nested": r"[ \t]+Traceback \(most recent call last\):",
    "frame": r'[ \t]+File "[^"]*", line \d+',
    "body": r'(?:  |\t)[ \t]*\S|> File "',  # loguru marks the frame that caught it; one blank is a logger's
    "last_tailed": rf"{_RAISED}(?::\s|\s).*\x01$",
    "last_open": rf"{_RAISED}:\s.*[:,(\[<\\]$",
    "last": rf"{_RAISED}(?::\s|:?$)",
    "known": (
        r"\[SQL: |\[parameters: |\(Background on this error|For more information check: |Message: |Arguments: "
        r"|Failed validating |On instance|Call log:$"
    ),
    "pydantic": r"  \S.*\[type=",
    "chain": r"During handling of the above exception|The above exception was the direct cause",
    "remote": rf"(?:{_NAME}\.)*+_?RemoteTraceback: ?$",
    "group": r"[ \t]*\+ Exception Group Traceback \(most recent call last\):",
    "margin": r"[ \t]+[|+]",
    "stack": r"Stack \(most recent call last\):|(?:Object|Coroutine|Handle|Task) (?:created|allocated) at \(most recent"
    r"|Call stack:$",
    "report": (
        r'Exception in thread [^"].*:$|Exception ignored |Process \S+:$|Error in (?:atexit|sys)\.'
        r"|--- Logging error ---$|Original exception was:$|Exception in callback "
        r"|(?:Task|Future) exception was never retrieved|Unhandled exception in event loop"
        r"|Task was destroyed but it is pending"
    ),
    "detail": (
        r"(?:future|task|handle|protocol|transport|asyncgen|socket|connector|connections|client_session"
        r"|client_connection|source_traceback): ?[<\[(]"
    ),
    "tracemalloc": r"RuntimeWarning: Enable tracemalloc",
    "fault": r"Fatal Python error: |Timeout \(\d+:\d\d:\d\d(?:\.\d+)?\)!$",
    "thread": (
        r"(?:Current t|T)hread 0x[0-9a-fA-F]+.*:$|(?:Stack|Current thread's C stack trace) \(most recent call first\):"
    ),
    "fault_more": r"Python runtime state: |<no Python frame>|<Cannot show ",
    "extensions": r"Extension modules: ",
    "box": r"╭",
    "box_traceback": r"╭(?:─| )*Traceback ",
    "box_side": r"│|├",
    "box_end": r"╰",
    "tail": rf"(?!{_LOGGED}).*\x01$",
    # Node
    "excerpt": r"(?:file:///|/|node:|[A-Za-z]:\\)[^\s:]*(?::[^\s:]+)?:\d+$",
    "caret": r"[ \t]*\^+[ \t]*$",
    "use": r"\(Use `",
    "node_end": r"Node\.js v\d",
    "native": r"FATAL ERROR: |<--- |----- (?:Native|JavaScript) stack trace -----|# Fatal error in ",
    "native_frame": r"[ \t]*\d+: (?:0x|\S+:\d+:\d+$|.*\)$)|\[\d+:0x[0-9a-f]+\] |#",
    # Node, Java, .NET
    "thrown": rf'Exception in thread "|Unhandled exception[.:] |{_THROWN}',
    "at": r"[ \t]+at ",
    "caused": r"Caused by:",
    "more": r"\.\.\. \d+ more|--- End of ",
    # Go
    "panic": r"panic: |fatal error: |runtime: goroutine stack exceeds|unexpected fault address |SIG[A-Z]+: ",
    "goroutine": r"goroutine \d+ (?:[a-z]+=\S+ )*\[|runtime stack:$",
    "signal": r"\[signal |\[originating from goroutine|\[recovered\]",
    "call": r"created by |(?=[^\s(]+\().*\)$|\.\.\.(?:additional|\d+) frames elided",
    "register": r"(?:r\w{1,3}|eip|eflags|[cfgs]s|pc|lr|sp|x\d+)\s+0x",
    "exit": r"exit status \d+$",
    # Rust
    "panicked": r"thread '[^']*' (?:\(\d+\) )?panicked at .*:$",
    "panicked_in_one": r"thread '[^']*' (?:\(\d+\) )?panicked at ",
    "note": r"note: ",
    "backtrace": r"stack backtrace:$",
}
"""How lines look: patterns, from a line's first byte on. \\x01 stands for the grey tail of LiveKit's coloured lines."""

_LAST = {"last_tailed": "tailed", "last_open": "unfinished", "last": "raised"}
_TRACE = {"header": "traceback", "group": "tree", "remote": "remote", "box_traceback": "traceback_box"}

_STATES: dict[str, tuple[str, dict[str, str]]] = {
    # A single line that opens nothing. ``logged``: a logger's, at warning or above.
    "plain": ("", {"group": "", "nested": "", "frame": "", "at": "stack", "indented": "indented", "detail": "report",
                   "stack": "calls", "use": "over"}),
    "heading": ("", {"group": "", "nested": "nested", "frame": "traceback", "at": "stack", "indented": "indented",
                     "detail": "report", "stack": "calls"}),
    "logged": ("", _TRACE | {"frame": "traceback", "at": "stack", "indented": "logged_on", "detail": "report",
                             "stack": "calls", "thrown": "thrown", "goroutine": "go"}),
    "logged_on": ("waits", _TRACE | {"at": "stack", "indented": "logged_on", "closing": "logged_on", "detail": "report",
                                     "stack": "calls"}),
    "indented": ("waits", {"frame": "traceback", "at": "stack", "indented": "indented", "closing": "indented",
                           "stack": "calls", "tracemalloc": "over"}),
    # Python
    "traceback": ("waits blanks", {"body": "traceback"} | _LAST),
    "raised": ("waits blanks doubt", {"frame": "", "indented": "raised", "known": "raised", "closing": "raised",
                                      "stack": "calls", "chain": "chain", "tail": "tailed"}),
    "calls": ("waits", {"body": "calls", "known": "raised", "chain": "chain", "tail": "tailed"}),
    "doubt": ("waits blanks doubt", {"known": "raised", "pydantic": "raised", "chain": "chain", "tail": "tailed"}),
    "unfinished": ("waits blanks raised", {"indented": "raised", "known": "raised", "closing": "raised",
                                           "chain": "chain", "tail": "tailed"}),
    "tailed": ("waits", _TRACE | {"chain": "chain"}),
    "chain": ("waits blanks", _TRACE),
    "remote": ("waits", {"closing": "remote", "header": "traceback"}),
    "tree": ("waits blanks", {"margin": "tree", "chain": "chain", "stack": "calls"}),
    "nested": ("waits blanks", {"body": "nested"}),
    "report": ("waits", _TRACE | {"detail": "report", "stack": "report", "body": "report"}),
    "fault": ("waits blanks", {"thread": "fault", "body": "fault", "fault_more": "fault", "extensions": "over"}),
    "box": ("waits", {"box_side": "box", "box_end": "over"}),
    "traceback_box": ("waits", {"box_side": "traceback_box", "box_end": "boxed"}),
    "boxed": ("waits", _LAST),
    "coloured": ("waits coloured", {"header": "traceback", "group": "tree", "tail": "tailed", "detail": "coloured",
                                    "indented": "coloured"}),
    # Node
    "excerpt": ("waits code", {"body": "code"}),
    "code": ("waits", {"caret": "caret", "at": "stack", "indented": "indented"}),
    "caret": ("waits blanks node", {"thrown": "node", "body": "node"}),
    "node": ("waits blanks node", {"body": "node", "closing": "node", "use": "node", "node_end": "over"}),
    "native": ("waits blanks", {"native": "native", "native_frame": "native"}),
    # Node, Java, .NET
    "thrown": ("waits blanks saying", {"frame": "", "at": "stack", "indented": "thrown", "caused": "thrown",
                                       "more": "stack", "use": "over"}),
    "saying": ("waits blanks saying", {"frame": "", "at": "stack", "caused": "thrown"}),
    "stack": ("waits", {"frame": "", "at": "stack", "indented": "stack", "closing": "stack", "caused": "thrown",
                        "more": "stack", "use": "over"}),
    # Go
    "panic": ("waits blanks panicking", {"frame": "", "indented": "panic", "panic": "panic", "signal": "panic",
                                         "goroutine": "go", "exit": "over"}),
    "panicking": ("waits blanks panicking", {"frame": "", "signal": "panic", "goroutine": "go"}),
    "go": ("waits blanks", {"frame": "", "indented": "go", "goroutine": "go", "call": "go", "register": "go",
                            "exit": "over"}),
    # Rust
    "panicked": ("waits rust", {}),
    "rust": ("waits blanks rust", {"indented": "rust", "note": "over", "backtrace": "rust_trace"}),
    "rust_trace": ("waits", {"indented": "rust_trace", "note": "over"}),
    "over": ("", {}),
}  # fmt: skip
"""For each state what it is like, and which looks lead where (the first that fits; "" ends the event).

``waits``: at the end of what is read the event may still go on. ``blanks``: blank lines may stand here. A state's name:
where a stranger leads.
"""
_SURE = {"unfinished", "caret", "panicked"}
"""States in which a stranger belongs at once."""

_OPENERS = {
    "header": "traceback", "frame": "traceback", "group": "tree", "nested": "nested", "remote": "remote",
    "stack": "traceback", "chain": "chain", "report": "report", "fault": "fault", "thread": "fault",
    "box_traceback": "traceback_box", "box": "box", "excerpt": "excerpt", "native": "native", "panic": "panic",
    "goroutine": "go", "panicked": "panicked", "panicked_in_one": "rust", "thrown": "thrown",
}  # fmt: skip


def _any_of(looks: dict[str, str]) -> Callable[[bytes], re.Match[bytes] | None]:
    pattern = "|".join(f"(?P<{look}>{_LOOKS[look]})" for look in looks)
    return re.compile((pattern or "(?!)").encode(), re.DOTALL).match


class _State:
    __slots__ = ("blanks", "following", "look", "stranger", "sure", "waits")

    def __init__(self, name: str) -> None:
        marks, looks = _STATES[name]
        self.waits = "waits" in marks.split()
        self.blanks = "blanks" in marks.split()
        self.look = _any_of(looks)
        self.sure = name in _SURE
        self.following: dict[str | None, _State | None] = {}
        self.stranger: _State | None = None


_MACHINE = {name: _State(name) for name in _STATES}
for _name, (_marks, _looks) in _STATES.items():
    for _look, _next in _looks.items():
        _MACHINE[_name].following[_look] = _MACHINE[_next] if _next else None
    for _mark in _marks.split():
        if _mark in _MACHINE:
            _MACHINE[_name].stranger = _MACHINE[_mark]
_OVER, _RAISED_STATE, _LOGGED_STATE = _MACHINE["over"], _MACHINE["raised"], _MACHINE["logged"]
_COLOURED_STATE = _MACHINE["coloured"]

_opens = _any_of(_OPENERS)
_opens_or_follows = _any_of(_OPENERS | {"detail": "", "use": ""})
_logged = re.compile(_LOGGED.encode()).match
_alarm = re.compile(
    rb"\b(?:WARN|WARNING|ERROR|EXCEPTION|CRITICAL|FATAL|SEVERE)\b|^[WEF]\d{4} \d\d:"
    rb"|level=[\"']?(?:warn|err|fatal|crit|panic)|\[(?:warning|error|critical|exception|fatal)\b"
    rb"|^(?:error|warning): |\bpanic\b"
).search
_ALARM_BYTES = 200  # of a line: where loggers put the level
_COLOURS = re.compile(rb"\x1b\[[0-9;:?]*[A-Za-z]")
_GREY = b"\x1b[90m"
_coloured = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - \x1b\[\d+m[A-Z]+\x1b\[0m ").match
"""LiveKit's `dev` prints `TIME - LEVEL NAME - MESSAGE`, and a grey tail, empty or of JSON, at the record's end."""
_BRACE = 0x7B
_THROWN_ENDS = (
    b"Error", b"Exception", b"Throwable", b"Rejection", b"RemoteTraceback",
    b"]", b"\r", b"[m", *(b"%dm" % digit for digit in range(10)),
)  # fmt: skip
"""Of what stands before a line's first colon: names, a code behind one, a carriage return, the end of a colour."""
_thrown = re.compile(rf"{_LOOKS['remote']}|{_LOOKS['thrown']}".encode()).match
_WORD_BYTES = frozenset(bytes([byte]) for byte in range(256) if chr(byte) in string.ascii_letters + "_$")
_BLANKS = frozenset({b" ", b"\t"})
_OTHER_BYTES = frozenset(bytes([byte]) for byte in b"/(<-#\xe2")
_WORDS = frozenset(
    word[:4].encode()
    for word in (
        "Traceback", "Stack", "Object", "Coroutine", "Handle", "Task", "Call stack", "During", "The above", "Exception",
        "Process", "Error in", "Original", "Future", "Unhandled", "Fatal", "Timeout", "Thread", "Current", "file:///",
        "node:", "FATAL ERROR", "panic", "fatal error", "runtime", "unexpected", "goroutine", "thread '", "future",
        "task", "handle", "protocol", "transport", "asyncgen", "socket", "connector", "client_", "source_", "Uncaught",
    )
)  # fmt: skip
"""How lines begin that may be spots: looked up before any pattern is tried, which takes ten times as long."""


def group(lines: list[bytes], parts: Mapping[int, int]) -> Grouping:
    """The events of some lines of one stream, without their newlines. ``parts``: the pieces among them, by index."""
    groups: list[tuple[int, int]] = []
    done, open_from = 0, None
    for spot in _spots(lines):
        if spot < done:
            continue
        for start in (spot - 1, spot) if spot > done else (spot,):
            end, is_open = _extent(lines, parts, start)
            if is_open and open_from is None:
                open_from = start  # what follows may still be strangers in it, and is told apart as if they were not
            if end - start > 1:
                groups.append((start, end))
            if end > spot:
                done = end
                break
    return Grouping(groups, open_from)


def _spots(lines: list[bytes]) -> list[int]:
    """The lines that may open an event or go on with the line before: a few more than do."""
    try:
        if not [line for line in lines if line[0] != _BRACE]:
            return []
        texts = [index for index, line in enumerate(lines) if line[0] != _BRACE]
    except IndexError:  # an empty line
        texts = [index for index, line in enumerate(lines) if line[:1] != b"{"]
    spots = []
    for index in texts:
        line = lines[index]
        first = line[:1]
        if first in _WORD_BYTES:
            if line[:4] in _WORDS or line[:3] == b"SIG" or line[1:3] == b":\\":
                if _opens_or_follows(_bare(line)):
                    spots.append(index)
            elif line.partition(b":")[0].endswith(_THROWN_ENDS) and _thrown(_bare(line)):
                spots.append(index)
        elif first in _BLANKS:
            if not line.isspace():
                spots.append(index)
        elif first in _OTHER_BYTES:
            if _opens_or_follows(_bare(line)):
                spots.append(index)
        elif first == b"\x1b" or (line[26:28] == b"\x1b[" and _is_unfinished(line)):
            spots.append(index)
    return spots


def _extent(lines: list[bytes], parts: Mapping[int, int], start: int) -> tuple[int, bool]:
    """Where the event that begins here ends, and whether it reaches the end of what is read and may go on."""
    state = None if start in parts else _opened(lines[start], lines[start + 1] if start + 1 < len(lines) else b"")
    if state is None:
        return start + 1, False
    has_logger = state is _LOGGED_STATE or state is _COLOURED_STATE
    end, size, strangers, blanks = start + 1, len(lines[start]), 0, 0
    for index in range(start + 1, min(len(lines), start + MAX_LINES)):
        line = lines[index]
        size += len(line) + 1
        if size > MAX_BYTES or index in parts:
            return end, False
        text = _bare(line) if line[-1:] == b"\r" or b"\x1b" in line else line
        if not text or text.isspace():
            blanks += 1
            if not state.blanks or blanks > MAX_BLANKS:
                return end, False
            continue
        if text[0] == _BRACE or (b'{"' in text and _is_json(text)):
            return end, False
        found = state.look(text)
        if found:
            following = state.following[found.lastgroup]
            if following is None:
                return end, False
            if following is _OVER:
                return index + 1, False
            end, state, strangers, blanks = index + 1, following, 0, 0
            continue
        strangers += 1
        if state.stranger is None or strangers > MAX_STRANGERS or _logged(text) or _opens(text):
            return end, False
        if state.sure:
            end, strangers, blanks = index + 1, 0, 0
        elif has_logger and state is _RAISED_STATE and not blanks:
            end = index + 1
            continue
        state = state.stranger
    return end, state.waits and start + MAX_LINES > len(lines)


def _is_json(text: bytes) -> bool:
    return text.lstrip()[:2] == b'{"' and text.rstrip()[-1:] == b"}"


def _opened(line: bytes, following: bytes) -> _State | None:
    """The state after this line, as the first of an event. None: nothing can follow. ``following``: the next line."""
    text = _bare(line)
    bare = text.strip()
    if not bare or (bare[0] == _BRACE and bare[-1:] == b"}" and len(bare) > 1):
        return None
    if _is_unfinished(line):
        return _COLOURED_STATE
    found = _opens(text)
    if found:
        return _MACHINE[_OPENERS[found.lastgroup or ""]]
    if following[:3] != b"   " and _alarm(text[:_ALARM_BYTES]):  # three blanks: no traceback, and the search takes 2 us
        return _LOGGED_STATE
    is_heading = bare[-1:] == b":" or (text[:1].isspace() and not _logged(text))
    return _MACHINE["heading" if is_heading else "plain"]


def _is_unfinished(line: bytes) -> bool:
    """Whether it begins one of LiveKit's coloured records, and does not end it."""
    return line[26:28] == b"\x1b[" and _GREY not in line and _coloured(line) is not None


def _bare(line: bytes) -> bytes:
    """The line without colours and carriage return; with \\x01 at its end for LiveKit's grey tail."""
    text = line[:-1] if line[-1:] == b"\r" else line
    if b"\x1b" not in text:
        return text
    bare = _COLOURS.sub(b"", text)
    return bare + b"\x01" if _GREY in text and text.endswith(b"\x1b[0m") else bare
