"""JSON objects as loggers print them that are none by the letter of RFC 8259, and that the decoder's parser refuses.

| what | becomes |
| --- | --- |
| `NaN`, `Infinity`, `-Infinity` (Python's json prints them), a number beyond a double | its text |
| an integer beyond 64 bits | a double, as by the decoder's parser |
| a surrogate without its other half | `?` |
| control characters within a text | kept |
| broken UTF-8 | U+FFFD |

A line of 400 B takes 10 us here, so it is the way of those that were refused; and of these only where they begin and
end as objects do. One of more than 1,000 brackets is no object here: what nests deeper is text to the decoder, too.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from shipper.lines.events import Record

_MAX_BRACKETS = 1000
_LOOKS_LIKE_ONE = re.compile(rb'\{\s*["}]')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(line: bytes) -> Record | None:
    """The object that the line is, None when it is none. Raises nothing."""
    if (
        not line.endswith(b"}")
        or not _LOOKS_LIKE_ONE.match(line)
        or line.count(b"{") + line.count(b"[") > _MAX_BRACKETS
    ):
        return None
    try:
        found = _DECODER.decode(line.decode(errors="replace"))
        if isinstance(found, dict) and _SURROGATE.search(line):
            found = orjson.loads(json.dumps(found, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _integer(text: str) -> float | str:
    if len(text) <= 20 and -(2**63) <= (number := int(text)) < 2**64:
        return number
    return _double(text)


def _double(text: str) -> float | str:
    number = float(text)
    return text if number in (float("inf"), float("-inf")) else number


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_double, parse_constant=str, strict=False)
