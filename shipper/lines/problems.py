"""What went wrong, out of the text of a traceback, a stack trace or a panic: kind, message, stack.

In: an event of many lines without colours, or what a logger put into `exc_info`, `stack` and the like. Of a Python
chain it is the last exception, the one that was raised; elsewhere the first, whose causes stand below it. A message
runs on until what surely is none of it: frames, a cause, an empty line. Time is linear in the text's length.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Problem(NamedTuple):
    """``kind``: as printed, with its module where that is; empty where the text does not say. ``stack``: what belongs
    to it of the text, from the header, the first cause's in a chain, to the end.
    """

    kind: str
    message: str
    stack: str


_HEADER = re.compile(
    r"(?P<before>[^\n]{0,1000}?)(?P<header>(?:\+ Exception Group )?Traceback \(most recent call last\):?)[ ─╮]*"
)
_FRAME = re.compile(r'[ \t]+File "[^"]*", line \d+(?:, in .*)?')
_CHAIN = ("During handling of the above exception", "The above exception was the direct cause")
_RAISED = re.compile(
    r"(?P<kind>(?:[A-Za-z_][\w$]*\.|<locals>\.)*+(?:[A-Z][\w$]*|(?<=\.)[A-Za-z_][\w$]*))(?::(?= |$) ?(?P<message>.*))?"
)
_IN_GROUP = re.compile(r"[ \t]*\| (?=\S)")
_AFTER = re.compile(
    r"(?:Stack|(?:Object|Coroutine|Handle|Task) (?:created|allocated) at) \(most recent|Call stack:$|Traceback \(most "
)
_NAMED = r"(?:[A-Za-z_$][\w$]*\.)*+"
_THROWN = re.compile(
    rf"(?:.{{0,1000}}?[\s:])??(?P<kind>{_NAMED}(?:[A-Z][\w$]*?)?(?:Error|Exception|Throwable|Rejection))(?: \[\w+\])?"
    r"(?::(?= |$) ?(?P<message>.*)|$)"
)
_UNHANDLED = re.compile(
    rf'(?:Exception in thread "[^"]*" |Unhandled exception[.:] )(?P<kind>{_NAMED}[\w$]+)(?::(?= |$) ?(?P<message>.*)|$)'
)
_UNCAUGHT = re.compile(rf"(?:Uncaught )?(?P<kind>{_NAMED}[A-Z][\w$]*)(?: \[\w+\])?: (?P<message>.*)")
_AT = re.compile(r"[ \t]+at \S|Caused by:")
_NO_MESSAGE = re.compile(r"[ \t]+at \S|[ \t]+-+> |[ \t]*\.\.\. |Caused by:|\(Use `|Node\.js v\d|[ \t]+Suppressed: ")
_CARET = re.compile(r"[ \t]*\^+[ \t]*")
_PANIC = re.compile(r"(?P<kind>panic|fatal error): (?P<message>.*?)(?: \[recovered\].*)?")
_GO_PANIC = re.compile(r".{0,1000}?\bpanic(?: serving [^ ]+)?: (?P<message>.*)")
_GOROUTINE = re.compile(r"goroutine \d+ ")
_PANICKED = re.compile(r"thread '[^']*' (?:\(\d+\) )?panicked at (?:'(?P<message>.*)', )?.*")
_RUST_END = re.compile(r"note: |stack backtrace:")
_NATIVE = re.compile(r"FATAL ERROR: (?P<message>.*)")
_FAULT = re.compile(r"Fatal Python error: (?P<message>.*)")
_MESSAGE_LINES = 50  # of a message; the whole of it stays in the stack


def describe(text: str) -> Problem | None:
    """None where the text tells of no exception and no crash."""
    lines = text.replace("\r\n", "\n").rstrip().split("\n")
    for look in (_fault, _python, _rust, _go, _thrown, _native):
        problem = look(lines)
        if problem is not None:
            return problem
    return None


def _python(lines: list[str]) -> Problem | None:
    start, last = -1, -1  # the first traceback of the last chain, and its last one
    indent, is_group, chained = "", False, False
    for index, line in enumerate(lines):
        if line.startswith(_CHAIN):
            chained = True
        elif "Traceback (most recent call last)" in line:
            found = _HEADER.fullmatch(line)
            if not found or "|" in found["before"] or '"' in found["before"]:
                continue
            if start < 0 or not chained:
                start = index
                if index > 1 and lines[index - 1] == '"""':  # a worker process's, put in front of the chain
                    start = index - 2
            last, is_group, chained = index, found["header"][0] == "+", False
            indent = "" if found["before"].strip() else found["before"]
        elif last < 0 and _FRAME.fullmatch(line):
            if index and _AFTER.match(lines[index - 1]):
                return None  # where it was logged, and nothing raised
            start = last = index
    if last < 0:
        return None
    header = _HEADER.fullmatch(lines[start])
    begin = header.start("header") if header and header["before"].strip(" \t─╭") else 0
    stack = "\n".join([lines[start][begin:], *lines[start + 1 :]])
    for index in range(last + 1, len(lines)):
        line = _outside(lines[index], indent, is_group)
        raised = _RAISED.fullmatch(line)
        if raised:
            more = [] if is_group else _until(lines[index + 1 :], _AFTER)
            return Problem(raised["kind"], "\n".join([raised["message"] or "", *more]).rstrip(), stack)
    return Problem("", "", stack)


def _outside(line: str, indent: str, is_group: bool) -> str:
    """The line, where it is none of the traceback's frames; else an empty one."""
    if is_group:
        margin = _IN_GROUP.match(line)
        return line[margin.end() :] if margin else ""
    text = line.removeprefix(indent)
    return "" if text[:1].isspace() or (indent and text is line) else text


def _until(lines: list[str], end: re.Pattern[str]) -> list[str]:
    """The lines of a message before one that is none of it."""
    found: list[str] = []
    for line in lines[:_MESSAGE_LINES]:
        if not line or end.match(line) or line.startswith(_CHAIN):
            break
        found.append(line)
    return found


def _fault(lines: list[str]) -> Problem | None:
    for index, line in enumerate(lines):
        found = _FAULT.fullmatch(line)
        if found:
            return Problem("Fatal Python error", found["message"], "\n".join(lines[index:]))
    return None


def _rust(lines: list[str]) -> Problem | None:
    for index, line in enumerate(lines):
        found = _PANICKED.fullmatch(line)
        if found:
            message = [found["message"]] if found["message"] else _until(lines[index + 1 :], _RUST_END)
            return Problem("panic", "\n".join(message), "\n".join(lines[index:]))
    return None


def _go(lines: list[str]) -> Problem | None:
    if not any(map(_GOROUTINE.match, lines)):
        return None
    for index, line in enumerate(lines):
        found = _PANIC.fullmatch(line)
        if found:
            return Problem(found["kind"], found["message"], "\n".join(lines[index:]))
        if _GOROUTINE.match(line):
            said = _GO_PANIC.fullmatch(lines[index - 1]) if index else None
            return Problem("panic", said["message"], "\n".join(lines[index - 1 :])) if said else None
    return None


def _thrown(lines: list[str]) -> Problem | None:
    start = _excerpt_end(lines)
    if start:
        found = _UNCAUGHT.fullmatch(lines[start])
        return _made(lines, start, found) or Problem("", lines[start], "\n".join(lines[start:]))
    where, found = 0, None
    for index, line in enumerate(lines):
        unhandled = _UNHANDLED.fullmatch(line)
        if unhandled:
            return _made(lines, index, unhandled)
        if _AT.match(line):
            return _made(lines, where, found) if found else None
        thrown = _THROWN.fullmatch(line)
        if thrown:
            where, found = index, thrown
    return None


def _excerpt_end(lines: list[str]) -> int:
    """Where the error stands below Node's source excerpt; 0: there is none."""
    for index in range(2, min(len(lines), 5)):
        if _CARET.fullmatch(lines[index]):
            return next((at for at in range(index + 1, len(lines)) if lines[at]), 0)
    return 0


def _made(lines: list[str], start: int, found: re.Match[str] | None) -> Problem | None:
    if not found:
        return None
    message = [found["message"] or "", *_until(lines[start + 1 :], _NO_MESSAGE)]
    stack = [lines[start][found.start("kind") :], *lines[start + 1 :]]
    return Problem(found["kind"], "\n".join(message).strip(), "\n".join(stack))


def _native(lines: list[str]) -> Problem | None:
    for line in lines:
        found = _NATIVE.fullmatch(line)
        if found:
            return Problem("FATAL ERROR", found["message"], "\n".join(lines))
    return None
