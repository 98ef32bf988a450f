"""What of the lines is forwarded, and what in them is changed first, as the settings ask for it.

- Fields named ``lk.pii.*``, at any depth, are left out or replaced by a hash: 16 hexadecimal digits of HMAC-SHA-256
  under a key of the run, so that equal values are equal within a run and nobody can try values out. In a text that
  holds such fields as JSON the value is replaced; where its end cannot be told, all that follows. Second and further
  pieces of an over-long line are replaced as a whole, for nobody can tell what they continue.
- What a pattern of SHIPPER_REDACT finds in a text, or in a number as it is written, becomes ``[REDACTED]``: in message,
  fields and their names. Each text counts by itself: ``^`` is where it begins. Our own fields stay.
- A record below the least level, or whose line as it was printed (without colours) holds SHIPPER_EXCLUDE, is left out:
  `Filters.apply` says which.

Patterns are RE2's: linear in the length of a text, whatever they are and it is, within `MAX_BYTES` of memory. A window
is looked through at once, and only where something is found one by one. What is not set costs nothing.
"""

from __future__ import annotations

import hmac
import json
import re
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import orjson

from shipper.lines.deep import json_text
from shipper.lines.engine import RE2
from shipper.lines.masking import without_controls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from shipper.lines.events import Record

KEPT, BELOW, EXCLUDED = range(3)
"""A record's verdict."""

HIDDEN = "[REDACTED]"
KEEP, DROP, HASH = "keep", "drop", "hash"
PII = "lk.pii."
MAX_BYTES = 2 << 20  # of RE2's, a pattern; what is written by hand takes some KiB
CHUNK = 64  # records that are looked through at once
MAX_DEPTH = 64  # deeper values are looked at as text

OWN = frozenset({"timestamp", "seq", "part", "skipped", "lines", "run"})
"""Fields of a record that are ours, and no text of the agent's."""


class PatternError(ValueError):
    """``str()``: why the engine does not take it."""


class Pattern:
    """A regular expression. Raises PatternError."""

    def __init__(self, text: str, engine: Any = RE2) -> None:
        """``engine``: the module `re2`, or None for Python's own."""
        self._own = _compiled(text, engine)
        # In many texts at once, a line each: finds something wherever the other does.
        simple = not re.search(r"\\[AzZGC]|\(\?[a-z]*-", text)
        self._among_lines = _compiled(text, engine, lines=True) if simple else None

    def may_be_in(self, texts: Sequence[bytes]) -> bool:
        return self._among_lines is None or self._among_lines.search(b"\n".join(texts)) is not None

    def is_in(self, text: bytes) -> bool:
        return self._own.search(text) is not None

    def which(self, texts: Sequence[bytes]) -> Iterator[int]:
        """Indices of the texts in which it is found."""
        if self._among_lines is None:
            yield from (index for index, text in enumerate(texts) if self.is_in(text))
            return
        search, joined = self._among_lines.search, b"\n".join(texts)
        ends = list(accumulate(len(text) + 1 for text in texts))
        place = 0
        while place <= len(joined) and (found := search(joined, place)) is not None:
            index = bisect_right(ends, found.start())
            if index >= len(texts):
                return
            if self.is_in(texts[index]):
                yield index
            place = ends[index]

    def without(self, text: str) -> tuple[str, int]:
        """The text with `HIDDEN` for all that it finds, and how often."""
        data = text.encode(errors="replace")
        spans = [span for found in self._own.finditer(data) if (span := found.span())[0] < span[1]]
        if not spans:
            return text, 0
        pieces, place = [], 0
        for start, end in spans:
            pieces += [data[place:start], HIDDEN.encode()]
            place = end
        return b"".join([*pieces, data[place:]]).decode(errors="replace"), len(spans)


def _compiled(text: str, engine: Any, *, lines: bool = False) -> Any:
    """``lines``: ``^`` and ``$`` stand for the ends of each."""
    if engine is None:
        try:
            return re.compile(text.encode(errors="replace"), re.MULTILINE if lines else 0)
        except (re.error, OverflowError, RecursionError) as error:
            raise PatternError(str(error)) from None
    options = engine.Options()
    options.max_mem = MAX_BYTES
    options.never_capture = True
    options.log_errors = False
    try:
        return engine.compile((f"(?m:{text})" if lines else text).encode(errors="replace"), options)
    except engine.error as error:
        why = error.args[0] if error.args else ""
        raise PatternError(why.decode(errors="replace") if isinstance(why, bytes) else str(why)) from None


class Filters:
    """``redacted``, ``hidden``: how many places, and how many fields of LiveKit's mark, were changed so far."""

    def __init__(
        self,
        *,
        least_level: int = 0,
        exclude: Pattern | None = None,
        redact: Sequence[Pattern] = (),
        pii: str = KEEP,
        key: bytes = b"",
    ) -> None:
        """``least_level``: an index into `levels.LEVELS`; ``key``: the run's, for hashes."""
        self.redacted = 0
        self.hidden = 0
        self._least = least_level
        self._below = bytes(BELOW if level < least_level else KEPT for level in range(256))
        self._exclude = exclude
        self._redact = tuple(redact)
        self._pii = pii
        self._key = key

    def with_key(self, key: bytes) -> Filters:
        """The same for another run."""
        return Filters(
            least_level=self._least, exclude=self._exclude, redact=self._redact, pii=self._pii, key=key
        )  # fmt: skip

    @property
    def acts(self) -> bool:
        return bool(self._least or self._exclude or self._redact or self._pii != KEEP)

    @property
    def needs_key(self) -> bool:
        return self._pii == HASH

    def apply(
        self, records: list[Record], levels: Sequence[int], lines: list[bytes] | None = None, *, rewrite: bool = False
    ) -> bytes | None:
        """Changes the records in place. A verdict for each, or None when all are kept.

        ``lines``: what was printed for each, else their messages count as that; ``rewrite``: they are sent too, and so
        changed in place.
        """
        printed = (
            lines if lines is not None else [str(record["message"]).encode(errors="replace") for record in records]
        )
        verdict = None
        if self._exclude is not None:
            texts = [without_controls(line) if b"\x1b" in line else line for line in printed]
            excluded = list(self._exclude.which(texts))
            if excluded:
                verdict = bytearray(len(records))
                for index in excluded:
                    verdict[index] = EXCLUDED
        if self._least:
            below = bytes(levels).translate(self._below)
            if BELOW in below:
                verdict = verdict or bytearray(len(records))
                for index, is_below in enumerate(below):
                    if is_below:
                        verdict[index] = BELOW
        if self._pii != KEEP:
            self._hide(records, printed, known=lines is not None, rewrite=rewrite)
        if self._redact:
            for start in range(0, len(records), CHUNK):
                self._redact_some(records, printed, range(start, min(start + CHUNK, len(records))), rewrite=rewrite)
        return None if verdict is None else bytes(verdict)

    def excludes(self, line: bytes) -> bool:
        """One line by itself."""
        return self._exclude is not None and self._exclude.is_in(without_controls(line))

    def text(self, text: str, part: int = 0) -> str:
        """A line that is sent as the text it is. ``part``: as in the record."""
        if self._pii != KEEP:
            if part > 1:
                self.hidden += 1
                return HIDDEN
            text = self._without_pii(text)
        return self._redacted(text)

    # -- LiveKit's mark ------------------------------------------------------------------------------------------------

    def _hide(self, records: list[Record], printed: list[bytes], *, known: bool, rewrite: bool) -> None:
        for index, (record, line) in enumerate(zip(records, printed, strict=True)):
            part = record.get("part")
            if part.__class__ is int and part > 1:
                record["message"] = HIDDEN
                self.hidden += 1
                if rewrite:
                    printed[index] = HIDDEN.encode()
            elif not known or b"pii" in line or b"\\u00" in line or b"\x1b" in line:
                before = self.hidden
                self._hide_in(record)
                if rewrite and self.hidden > before:
                    printed[index] = self._rewritten(line)

    def _hide_in(self, value: Any, path: str = "", depth: int = 0) -> Any:
        """The value without what is marked; objects and lists are changed in place."""
        if isinstance(value, str):
            return self._without_pii(value)
        if isinstance(value, dict):
            if depth > MAX_DEPTH:
                return self._without_pii(json_text(value))
            for name in list(value):
                inner = f"{path}{name}"
                if f"{inner}.".startswith(PII):
                    self.hidden += 1
                    found = value.pop(name)
                    if self._pii == HASH:
                        value[name] = self._hash(found)
                else:
                    # an object of its own may hold the rest of the name
                    on_the_way = PII.startswith(f"{inner}.")
                    value[name] = self._hide_in(value[name], f"{inner}." if on_the_way else "", depth + 1)
        elif isinstance(value, list):
            if depth > MAX_DEPTH:
                return self._without_pii(json_text(value))
            value[:] = [self._hide_in(inner, "", depth + 1) for inner in value]
        return value

    def _hash(self, value: object) -> str:
        text = value if isinstance(value, str) else json_text(value)
        return hmac.digest(self._key, text.encode(errors="replace"), "sha256").hex()[:16]

    def _without_pii(self, text: str) -> str:
        if PII not in text:
            return text
        pieces, place = [], 0
        while (found := _MARKED.search(text, place)) is not None:
            self.hidden += 1
            pieces.append(text[place : found.end()])
            try:
                value, place = _JSON.raw_decode(text, found.end())
            except (ValueError, RecursionError):
                return "".join([*pieces, HIDDEN])
            pieces.append(json.dumps(self._hash(value) if self._pii == HASH else HIDDEN))
        return "".join([*pieces, text[place:]])

    # -- SHIPPER_REDACT ------------------------------------------------------------------------------------------------

    def _redact_some(self, records: list[Record], printed: list[bytes], which: range, *, rewrite: bool) -> None:
        """Looks into the records only where there is something in one of them."""
        texts: list[str] = []
        for index in which:
            record = records[index]
            for name, value in record.items():
                if name not in OWN:
                    texts.append(value if isinstance(value, str) else json_text(value))
        texts += set().union(*(records[index] for index in which))
        found = [text.encode(errors="replace") for text in texts]
        # texts within objects stand in quotes, and with escapes: these are looked at in any case
        nested = any(value.__class__ in _NESTED for index in which for value in records[index].values())
        if not nested and not any(pattern.may_be_in(found) for pattern in self._redact):
            if rewrite and any(pattern.may_be_in(printed[which.start : which.stop]) for pattern in self._redact):
                for index in which:
                    printed[index] = self._rewritten(printed[index])
            return
        for index in which:
            record = records[index]
            for name in [name for name in record if name not in OWN]:
                value = self._redact_in(record[name])
                shown = name if name in ("message", "logger") else self._redacted(name)
                if shown == name:
                    record[name] = value
                else:
                    del record[name]
                    record[_free(shown, record)] = value
            if rewrite:
                printed[index] = self._rewritten(printed[index])

    def _redacted(self, text: str) -> str:
        for pattern in self._redact:
            text, count = pattern.without(text)
            self.redacted += count
        return text

    def _redact_in(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, str):
            return self._redacted(value)
        if isinstance(value, dict):
            if depth > MAX_DEPTH:
                return self._redacted(json_text(value))
            found: dict[str, Any] = {}
            for name, inner in value.items():
                found[_free(self._redacted(name), found)] = self._redact_in(inner, depth + 1)
            return found
        if isinstance(value, list):
            if depth > MAX_DEPTH:
                return self._redacted(json_text(value))
            return [self._redact_in(inner, depth + 1) for inner in value]
        if value.__class__ in _NUMBERS:
            text = json_text(value)
            redacted = self._redacted(text)
            return value if redacted == text else redacted
        return value

    # -- lines that are sent as they are -------------------------------------------------------------------------------

    def _rewritten(self, line: bytes) -> bytes:
        """The line after the same changes, not counted again."""
        counted = self.redacted, self.hidden
        try:
            found = orjson.loads(line) if line.lstrip()[:1] == b"{" else None
        except ValueError:
            found = None
        if isinstance(found, dict):
            before = json_text(found)
            changed = found
            if self._pii != KEEP:
                changed = self._hide_in(changed)
            changed = self._redact_in(changed)
            text = json_text(changed)
            line = line if text == before else text.encode()
        else:
            text = line.decode(errors="replace")
            changed_text = self._redacted(self._without_pii(text) if self._pii != KEEP else text)
            line = line if changed_text == text else changed_text.encode(errors="replace")
        self.redacted, self.hidden = counted
        return line


_NESTED = frozenset({dict, list})
_NUMBERS = frozenset({int, float})
_JSON = json.JSONDecoder()
_MARKED = re.compile(r"""\\*["']?lk\.pii\.[^"'\\\s:=]*\\*["']?\s*[:=]\s*""")


def _free(name: str, taken: Iterable[str]) -> str:
    """``name``, or with a number where another has come to be called so."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name} {number}", number + 1
    return free


def make(
    level: int, exclude: str, redact: Sequence[str], pii: str, engine: Any = RE2
) -> tuple[Filters | None, list[tuple[str, str]]]:
    """Filters as the settings ask for them, None where they ask for nothing; and of each pattern that is none the
    variable and a sentence."""
    problems = []
    patterns: dict[str, list[Pattern]] = {"SHIPPER_EXCLUDE": [], "SHIPPER_REDACT": []}
    for variable, texts in (("SHIPPER_EXCLUDE", (exclude,) if exclude else ()), ("SHIPPER_REDACT", redact)):
        for number, text in enumerate(texts, 1):
            try:
                patterns[variable].append(Pattern(text, engine))
            except PatternError as error:
                which = f"expression {number} of {variable}" if len(texts) > 1 else variable
                done = "nothing is excluded" if variable == "SHIPPER_EXCLUDE" else "what it was to find stays in lines"
                problems.append((variable, f"{which} is no regular expression of RE2's ({_one_line(error)}): {done}"))
    filters = Filters(
        least_level=level,
        exclude=next(iter(patterns["SHIPPER_EXCLUDE"]), None),
        redact=patterns["SHIPPER_REDACT"],
        pii=pii,
    )
    return filters if filters.acts else None, problems


def _one_line(error: Exception) -> str:
    return "".join(filter(str.isprintable, str(error)))[:200]
