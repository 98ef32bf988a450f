"""Secrets out of lines, before anything else sees them.

What is masked, each as `HIDDEN`: the values that it is made with, JSON Web Tokens, the values of ``Authorization``
headers however they were printed, and what follows the word Bearer.

A value is found in these forms: as it stands; URL-encoded, of either kind, also twice; with its quotes, slashes,
backslashes, line breaks and letters beyond ASCII escaped as JSON, Python, JavaScript or a shell do it, to any depth;
and in base64 of either alphabet, wherever in the encoded bytes it begins: there the characters that hold nothing but
the value. It is not found when it was printed in pieces, over two lines, in another encoding (hexadecimal, gzip), or
as its hash.

How it is fast (us a line of 175 bytes, where the reference loop took 0.80). All lines of a window are looked through at
once, in three steps, and nearly always the first is the last:

- Has it anything at all? Every fourth byte of the lines (0.02) is held by RE2 (0.07) against every fourth byte of the
  values, from each of the four places where one may begin. What opens the other kinds the C library finds (0.01 each,
  where `bytes.find` takes 0.05 to 0.12), and so single bytes that may hide a value (0.001 each). Values without a long
  stretch of letters and digits need every second byte, or all.
- Where is it? RE2 over all bytes (0.26) looks for short stretches of the values (`WINDOW` bytes) and for the same
  openings. Whole values in all their forms, as one expression, took 8 MiB for 64 of them, and 57 with less.
- Only lines with such a place are looked at one by one, some 20 each.

A match may lie across the fields of a JSON line, which is then no JSON any more, and text.

The scan works on the bytes as printed. Where colours or control characters stand in a word, or escapes of letters that
nobody need escape, a line is looked at without them too: with a secret in it, it goes without them.

Without google-re2, which has no wheel for every platform, the same is done by Python's own means, at several times the
cost.
"""

from __future__ import annotations

import ctypes
import re
from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from shipper.lines.deep import json_text
from shipper.lines.engine import RE2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HIDDEN = b"[MASKED]"
WINDOW = 6  # 62**6 texts of letters and digits: hardly any other line holds one
STRETCH = 12  # of a value without such a stretch, punctuation and all
MAX_CHUNK = 1024  # characters of a value in one expression; a longer one is looked for in pieces
MAX_STRIDE = 4
SAMPLE = 4  # bytes at least, of those that a stride leaves
LONGEST_SAMPLE = 8
MAX_DEPTH = 64
MAX_SCAN_BYTES = 8 << 20  # RE2's own default: it takes what it needs, 0.1 MiB for 64 values

_ALNUM = re.compile("[A-Za-z0-9]+")
_SAME = re.compile("[A-Za-z0-9._+/-]+")

# -- what is no value: tokens and headers ------------------------------------------------------------------------------

_JWT = rb"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){2,4}"
_BEARER = rb"(?i:bearer)(?:[ \t]+|%20|\+)[A-Za-z0-9._~+/=-]{16,}"
# ="value", but not the end of a credential ("abc=") and the name that follows it in a JSON line
_QUOTED = rb"""=\\*"[^\s"\\,:{}\[\]][^"\\\n]*\\*\""""
_WORD = rb"""(?:""" + _QUOTED + rb"""|[^\s"'\\,]|\\/|\\u00[0-9a-fA-F]{2})+"""
_FIRST = rb"""[^\s"'\\,{\[(<]"""  # of a word that is a value's
_PARAMETER = rb"""[\w-]+(?:""" + _QUOTED + rb"""|=[^=\s,"'\\](?:""" + _WORD + rb")?)"
_AUTHORIZATION = (
    rb"(?i:authorization)"
    # a name in quotes may be the key of an object or the first of a pair; a bare one is a header's or a variable's
    rb"""(?:\\*["'][ \t]*(?:=>?|[:,])|[ \t]*(?:=>?|:)|%3[aAdD])(?:[ \t]|%20|\+)*(?:[\[(][ \t]*)?"""
    rb"""(?:[bru]?"((?:[^"\\\n]|\\.)*)|[bru]?'((?:[^'\\\n]|\\.)*)|[bru]?\\["']((?:[^"'\\\n]|\\\\+.)*)|\\\\+["']([^"'\\\n]*)|"""
    # Digest name="value", name=value; else one word or two, scheme and credentials
    rb"(" + _FIRST + rb"(?:" + _WORD + rb")?(?:[ \t]+" + _PARAMETER + rb"(?:[ \t]*,[ \t]*" + _PARAMETER + rb")*"
    rb"|[ \t]+" + _WORD + rb")?))"
)
_SCHEME = re.compile(
    rb"(?i)(?:basic|bearer|digest|token|apikey|negotiate|hawk|oauth|aws4-hmac-sha256)(?:[ \t]+|%20|\+)"
)
_NO_CREDENTIALS = frozenset(
    b"none null nil true false undefined required missing failed denied granted invalid expired ok error".split()
)
"""What follows a bare ``authorization:`` in sentences."""

_OPENINGS = (b"eyJ", b"uthorization", b"UTHORIZATION", b"earer", b"EARER")

# -- what hides a value ------------------------------------------------------------------------------------------------

_LETTER = rb"(?:3[0-9]|[46][1-9a-fA-F]|[57][0-9aA])"  # a letter or digit in hexadecimal, as nobody need write it
_ESCAPED_LETTER = rb"\\u00" + _LETTER
_CONTROL = rb"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]|\\u001[bB]|\\x1[bB]|\xc2[\x80-\x9f]"  # but for ESC
_UNESCAPE = (re.compile(rb"\\u00(" + _LETTER + rb")"), re.compile(rb"\\+u00(" + _LETTER + rb")"))
_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
_SEQUENCE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?"
    rb"|\xc2\x9b[0-?]*[ -/]*[@-~]|\xc2[\x80-\x9f]"
)
_ESCAPE_END = re.compile(rb"\\(?:[bfnrt]|u[0-9a-fA-F]{4})\Z")
_HIDING = (
    rb"[!-~\x80-\xff](?:\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])|\xc2[\x80-\x9f])+"
    rb"[!-~\x80-\xff]"
)
_ESCAPED_ESC = re.compile(rb"\\+(?:u00|x)1[bB]")
_C1 = re.compile(rb"\xc2[\x80-\x9f]")
_HIDERS = [byte for byte in (*range(32), 127) if byte not in b"\t\n\r\x1b"]
_CONTROLS = bytes(byte for byte in (*range(32), 127) if byte not in b"\t\n")


class Masker:
    """``values``: texts to be masked; ``tokens``: whether JWTs and headers are, too. Not for several threads.

    ``masked``: how many places so far.
    """

    def __init__(self, values: Iterable[str] = (), *, tokens: bool = True, engine: Any = RE2) -> None:
        """``engine``: the module `re2`, or None for Python's own means."""
        self.masked = 0
        self._tokens = tokens
        self._engine = engine
        self._values: dict[str, None] = {}
        self._authorization = _compiled(engine, _AUTHORIZATION, groups=True)
        # Python's own would look through a long run of such letters again from each of its places
        self._jwt = _compiled(engine, _JWT if engine is not None else rb"(?<![A-Za-z0-9_-])" + _JWT)
        self._bearer = _compiled(engine, _BEARER)
        self._hiding = _compiled(engine, _HIDING)
        self._forms: dict[bytes, list[bytes]] = {}  # expressions of values, by a text that each of them holds, or b""
        self._stretches: dict[bytes, None] = {}  # expressions that stand for the values without such a text
        self._compiled: dict[bytes, Any] = {}
        self._scanner: Any = _Never()
        self._values_scanner: Any = _Never()  # of these alone
        self._runs: list[list[bytes]] = []  # of each form its longest stretch that looks the same however it is escaped
        self._sample: Any = None  # what is looked for in every `_stride`th byte
        self._stride = 1
        self._openings: list[bytes] = []
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """Mask these too, from now on."""
        new = [value for value in values if value and value not in self._values]
        if self._values and not new:
            return
        self._values.update(dict.fromkeys(new))
        for value in new:
            for window, stretch, form, run in _forms_of(value):
                self._runs.append(run)
                if not window:
                    self._stretches[stretch] = None
                forms = self._forms.setdefault(window, [])
                if form not in forms:
                    forms.append(form)
        opens = [_JWT, _BEARER, b"(?i:authorization)"] if self._tokens else []
        if not opens and not self._forms:
            return
        windows, patterns = sorted(filter(None, self._forms)), [*self._stretches, *opens, _ESCAPED_LETTER]
        self._scanner = _scanner(self._engine, windows, [*patterns, _CONTROL])
        if self._forms:
            self._values_scanner = _scanner(self._engine, windows, [*self._stretches])
        self._openings = [rb"\u00", *(_OPENINGS if self._tokens else ())]
        if any(char in _ESCAPED_IN_URLS for run in self._runs for char in run):
            self._openings += [b"%2", rb"\/"]  # their escapes
        shortest = min(map(len, self._runs), default=MAX_STRIDE * SAMPLE)
        self._stride = min(MAX_STRIDE, shortest // SAMPLE)
        samples = {sample for run in self._runs for sample in _samples(run, self._stride)} if self._stride > 1 else ()
        self._sample = _compiled(self._engine, b"|".join(sorted(samples))) if samples and self._engine else None

    def _has_nothing(self, joined: bytes) -> bool:
        """For sure, as far as can be told quickly."""
        if self._stride <= 1 or self._engine is None:
            return False
        if any(map(joined.__contains__, _HIDERS)) or (0xC2 in joined and _C1.search(joined) is not None):
            return False
        if any(_holds(joined, opening) for opening in self._openings):
            return False
        return self._sample is None or self._sample.search(joined[:: self._stride]) is None

    def mask(self, lines: list[bytes]) -> list[bytes]:
        """The same lines, masked; the very list where there is nothing to mask."""
        joined = b"\n".join(lines)
        changed: dict[int, bytes] = {}
        if not self._has_nothing(joined):
            self._look(joined, changed)
        if b"\x1b" in joined and self._may_hide(joined):
            coloured = [index for index, line in enumerate(lines) if b"\x1b" in line and index not in changed]
            found: dict[int, bytes] = {}
            self._look(without_controls(b"\n".join([lines[index] for index in coloured])), found)
            changed.update((coloured[index], line) for index, line in found.items())
        if not changed:
            return lines
        lines = lines.copy()
        for index, line in changed.items():
            lines[index] = line
        return lines

    def _may_hide(self, joined: bytes) -> bool:
        """Whether an escape sequence stands within a word: nearly all stand around one."""
        pieces: list[bytes] = []
        place = joined.find(b"\x1b")
        while place >= 0:
            end = joined.find(b"\n", place)
            end = len(joined) if end < 0 else end
            pieces.append(joined[max(0, place - 1) : end])
            place = joined.find(b"\x1b", end)
        return self._hiding.search(b"\n".join(pieces)) is not None

    def mask_records(self, records: Iterable[dict[str, Any]]) -> None:
        """In place, all texts in them and names: for what became of lines in which something hid a value."""
        for record in records:
            data = json_text(record).encode()
            if not self._has_nothing(data) and self._masked(data)[0] is not data:
                for name in list(record):
                    value = self._in_texts(record.pop(name), 0)
                    record[self.text(name)] = value

    def _in_texts(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            masked = self.text(value)
            self.masked += masked is not value
            return masked
        if isinstance(value, (dict, list)):
            if depth > MAX_DEPTH:
                return self.text(json_text(value))
            if isinstance(value, list):
                return [self._in_texts(inner, depth + 1) for inner in value]
            return {self.text(name): self._in_texts(inner, depth + 1) for name, inner in value.items()}
        return value

    def text(self, text: str) -> str:
        """The same for a sentence of ours."""
        before = self.masked
        lines = _bytes(text).split(b"\n")
        masked = self.mask(lines)
        self.masked = before
        return text if masked is lines else b"\n".join(masked).decode(errors="replace")

    def _look(self, joined: bytes, changed: dict[int, bytes]) -> None:
        """Puts the lines of ``joined`` that had something to mask into ``changed``, by their index."""
        search, index, counted = self._scanner.search, 0, 0
        found = search(joined)
        while found is not None:
            place = found.start()
            start = joined.rfind(b"\n", 0, place) + 1
            end = joined.find(b"\n", place)
            end = len(joined) if end < 0 else end
            index += joined.count(b"\n", counted, start)
            counted = start
            line = joined[start:end]
            masked, count = self._masked(line)
            if masked is not line:
                changed[index] = masked
                self.masked += count
            found = search(joined, end)

    def _masked(self, line: bytes) -> tuple[bytes, int]:
        """The line itself where nothing is in it, and how many places were."""
        best, chosen = line, self._places(line)
        for other in _other_readings(line):
            if len(hidden := self._places(other)) > len(chosen):
                best, chosen = other, hidden
        spans = [(_after_escape(best, start), end) for start, end in _merged(chosen)]
        if not spans:
            return line, 0
        pieces, place = [], 0
        for start, end in spans:
            pieces += [best[place:start], HIDDEN]
            place = end
        return b"".join([*pieces, best[place:]]), len(spans)

    def _places(self, line: bytes) -> list[tuple[int, int]]:
        """Where there is something to mask."""
        spans = []
        if self._values_scanner.search(line) is not None:
            for window, forms in self._forms.items():
                if window in line:  # b"" always is
                    for form in forms:
                        spans += [found.span() for found in self._expression(form).finditer(line)]
        if self._tokens:
            if b"eyJ" in line:
                spans += [found.span() for found in self._jwt.finditer(line)]
            lower = line.lower()
            if b"bearer" in lower:
                spans += _bearers(self._bearer.finditer(line))
            if b"authorization" in lower:
                spans += _credentials(line, self._authorization.finditer(line))
        return spans

    def _expression(self, form: bytes) -> Any:
        found = self._compiled.get(form)
        if found is None:
            found = self._compiled[form] = _compiled(self._engine, form)
        return found


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, none touching another."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _after_escape(line: bytes, start: int) -> int:
    """``start``, or behind it where the byte there ends an escape of JSON's: without it the line would be none."""
    found = _ESCAPE_END.search(line, max(0, start - 5), start + 1)
    return start + 1 if found is not None and found.start() < start else start


def without_controls(text: bytes) -> bytes:
    """Without colours and what else a terminal would not show, in as many lines."""
    if b"001" in text or b"x1" in text:
        text = _ESCAPED_ESC.sub(b"\x1b", text)
    text = _COLOUR.sub(b"", text)
    if b"\x1b" in text or b"\xc2" in text:
        text = _SEQUENCE.sub(b"", text)
    return text.translate(None, _CONTROLS)


def _other_readings(line: bytes) -> Iterator[bytes]:
    """The line without what may hide a value, where it has such."""
    visible = without_controls(line)
    for text in dict.fromkeys((line, visible)):
        if b"\\u00" in text:
            yield from (plain for escaped in _UNESCAPE if (plain := escaped.sub(_unescaped, text)) != text)
    if visible != line:
        yield visible


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 16)])


def _bearers(found: Iterable[Any]) -> list[tuple[int, int]]:
    """Without the word itself; text without a digit is no token."""
    spans = []
    for one in found:
        text = one.group()
        token = text[6:].lstrip(b" \t+").removeprefix(b"%20")
        if any(48 <= byte <= 57 for byte in token):
            spans.append((one.end() - len(token), one.end()))
    return spans


def _credentials(line: bytes, found: Iterable[Any]) -> list[tuple[int, int]]:
    """The values of headers, without the scheme where that is a known one."""
    spans = []
    for one in found:
        group = next((number for number in range(1, 6) if one.group(number)), 0)
        if not group:
            continue  # an empty one
        start, end = one.span(group)
        value = line[start:end]
        first = (value.split(None, 1) or [b""])[0].strip(b".;:)}]").lower()
        if not first or first in _NO_CREDENTIALS or (len(first) < 8 and first.isdigit()):
            continue
        scheme = _SCHEME.match(value)
        if scheme is not None and scheme.end() < len(value):
            start += scheme.end()
        spans.append((start, end))
    return spans


# -- engines -----------------------------------------------------------------------------------------------------------


def _strstr() -> Any:
    """The C library's, which takes 0.04 ns a byte; None where there is none to be had."""
    try:
        found = ctypes.PyDLL(None).strstr  # keeps the interpreter's lock: it is over sooner than that changes hands
    except (AttributeError, OSError):
        return None
    found.argtypes, found.restype = (ctypes.c_char_p, ctypes.c_char_p), ctypes.c_void_p
    return found


_search = _strstr()


def _holds(text: bytes, what: bytes) -> bool:
    """Whether ``what`` is in the text, which has no NUL."""
    return what in text if _search is None else _search(text, what) is not None


def _compiled(engine: Any, pattern: bytes, *, groups: bool = False) -> Any:
    if engine is None:
        return re.compile(pattern)
    options = engine.Options()
    options.encoding = engine.Options.Encoding.LATIN1  # bytes, whatever they are
    options.max_mem = MAX_SCAN_BYTES
    options.never_capture = not groups
    options.log_errors = False
    try:
        return engine.compile(pattern, options)
    except engine.error:  # larger than its memory
        return re.compile(pattern)


def _scanner(engine: Any, windows: list[bytes], patterns: list[bytes]) -> Any:
    """Finds places where lines are to be looked at."""
    if engine is None:
        return _Slowly(windows, patterns)
    found = _compiled(engine, b"|".join([*map(_quoted, windows), *patterns]))
    return _Slowly(windows, patterns) if isinstance(found, re.Pattern) else found


class _Never:
    def search(self, text: bytes, pos: int = 0) -> None:
        del text, pos


class _Place:
    def __init__(self, place: int) -> None:
        self._place = place

    def start(self) -> int:
        return self._place


class _Slowly:
    """The same by Python's own means: an expression of many texts would cost each of them at each place."""

    def __init__(self, windows: list[bytes], patterns: list[bytes]) -> None:
        self._windows = windows
        self._patterns = [re.compile(pattern) for pattern in patterns]

    def search(self, text: bytes, pos: int = 0) -> _Place | None:
        places = [text.find(window, pos) for window in self._windows]
        found = (pattern.search(text, pos) for pattern in self._patterns)
        places += [one.start() for one in found if one is not None]
        places = [place for place in places if place >= 0]
        return _Place(min(places)) if places else None


# -- forms of a value --------------------------------------------------------------------------------------------------


def _forms_of(value: str) -> Iterator[tuple[bytes, bytes, bytes, list[bytes]]]:
    """Expressions for the value, third of four. Before each a text that every match of it holds, or, where there is
    none that is rare in lines, b"" and an expression for a stretch of the value; behind it `_run`."""
    value = value.replace("\r\n", "\n")
    for piece in _pieces(value):
        yield *_window(piece), b"".join(map(_char, piece)), _run(piece, {})
    data = _bytes(value)
    for shift, start in ((0, 0), (1, 2), (2, 3)):
        whole = (shift + len(data)) * 8 // 6  # characters that depend on nothing that follows
        encoded = b64encode(bytes(shift) + data)[start:whole].decode()
        for piece in _pieces(encoded):
            # a character at either end has some bits of the value and some of a neighbour's
            yield *_window(piece), _PARTLY + b"".join(map(_base64_char, piece)) + _PARTLY, _run(piece, _EITHER)


_PARTLY = rb"[A-Za-z0-9+/_-]?"


_EITHER = {"+": b"[+-]", "-": b"[+-]", "/": b"[/_]", "_": b"[/_]"}
"""Of base64's two alphabets."""
_ESCAPED_IN_URLS = frozenset({b"[+-]", b"[/_]", b"\\x2b", b"\\x2f"})


def _run(text: str, either: dict[str, bytes]) -> list[bytes]:
    """The longest stretch of characters that stand for themselves in every form, + and / but for their own escapes."""
    run = max(_SAME.findall(text), key=len, default="")
    return [either.get(char, _quoted(char.encode())) for char in run]


def _samples(run: list[bytes], stride: int) -> Iterator[bytes]:
    """What every ``stride``th byte of a text shows of the run, from each place where it may begin."""
    run = run[: LONGEST_SAMPLE * stride]
    yield from (b"".join(run[start::stride]) for start in range(stride))


def _pieces(value: str) -> Iterator[str]:
    """Of a long value, at most `MAX_CHUNK` characters each, none of them short."""
    count = -(-len(value) // MAX_CHUNK)
    for number in range(count):
        yield value[len(value) * number // count : len(value) * (number + 1) // count]


def _window(text: str) -> tuple[bytes, bytes]:
    """Letters and digits look the same in every form: a stretch of them, unless it is too short, or a word or a number
    as lines have them. Then b"", and an expression for more than those."""
    best, score = "", (False, -1)
    for run in _ALNUM.findall(text):
        for start in range(max(1, len(run) - WINDOW + 1)):
            window = run[start : start + WINDOW]
            odd = sum(not char.islower() for char in window)
            rare = len(window) == WINDOW and not window.isdigit() and odd > 1
            if (rare, odd) > score:
                best, score = window, (rare, odd)
    if score[0]:
        return best.encode(), b""
    starts = range(max(1, len(text) - STRETCH + 1))
    start = max(starts, key=lambda start: sum(not char.islower() for char in text[start : start + STRETCH]))
    return b"", b"".join(map(_base64_char, text[start : start + STRETCH]))


@lru_cache(256)
def _char(char: str) -> bytes:
    """An expression for all ways in which a character of a value is written."""
    if char.isascii() and char.isalnum():
        return char.encode()
    data = _bytes(char)
    units = char.encode("utf-16-be", errors="surrogatepass")
    forms = [
        _BACKSLASH + b"*" + _quoted(data),
        _BACKSLASH + b"*" + b"".join(b"%(?:25)*" + _hex(data[at : at + 1]) for at in range(len(data))),
        b"".join(_BACKSLASH + b"+u" + _hex(units[at : at + 2]) for at in range(0, len(units), 2)),
        b"".join(_BACKSLASH + b"+x" + _hex(data[at : at + 1]) for at in range(len(data))),
        _BACKSLASH + rb"+[xuU]\{?0*" + _digits(f"{ord(char):x}") + rb"\}?",
    ]
    if char == " ":
        forms.append(rb"\+")
    if char == "\\":
        forms[0] = _BACKSLASH + b"+"
    if char in _CONTROL_NAMES:
        forms.append(_BACKSLASH + b"+" + _CONTROL_NAMES[char])
    whole = b"(?:" + b"|".join(forms) + b")"
    return b"(?:\r|%(?:25)*0[dD]|" + _BACKSLASH + b"+(?:r|[ux]0*[dD]))?" + whole if char == "\n" else whole


_BACKSLASH = rb"(?:\\|%(?:25)*5[cC])"
_CONTROL_NAMES = {"\n": b"n", "\r": b"r", "\t": b"t", "\f": b"f", "\b": b"b"}


def _base64_char(char: str) -> bytes:
    if char in "+/":
        other = {"+": "-", "/": "_"}[char]
        return b"(?:" + _char(char) + b"|" + _char(other) + b")"
    return _char(char)


def _hex(data: bytes) -> bytes:
    return _digits(data.hex())


def _digits(text: str) -> bytes:
    """Hexadecimal ones, in either case."""
    return b"".join(f"[{digit}{digit.upper()}]".encode() if digit.isalpha() else digit.encode() for digit in text)


def _quoted(data: bytes) -> bytes:
    """An expression for these bytes, for both engines."""
    return b"".join(bytes([byte]) if byte < 128 and chr(byte).isalnum() else b"\\x%02x" % byte for byte in data)


def _bytes(text: str) -> bytes:
    """UTF-8; of the environment's bytes that are none, these."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")
