"""Text as a provider's page should show it: what a terminal would leave on the screen, without its colours.

Only what goes to providers is cleaned; what is passed on and kept in the journal stays as printed. One rule for all
providers, the strictest: so no sink needs one of its own.

- ANSI escapes are removed: CSI (colours, cursor), OSC (titles, hyperlinks: their text stays) and the other strings,
  escapes of two and three characters, also in the one-character forms of C1. One without an end takes nothing of the
  text with it but its own beginning.
- A carriage return goes back to the line's beginning: of `10%\\r20%\\r100%` the last state that is not blank remains. A
  cursor sent to the first column does the same. At a line's end it is half of a CRLF.
- Tab and newline stay. Vertical tab and form feed are a blank; NUL and the other control characters (C0, DEL, C1) are
  removed: a terminal shows nothing for them, and a character in their place would break the words that people search
  for.

Invalid UTF-8 is replaced when bytes are decoded, before this. Linear in the length of the text.
"""

from __future__ import annotations

import re

_CONTROLS = [byte for byte in range(32) if byte not in b"\t\n"] + [0x7F]
_C1_LEAD = 0xC2
"""First byte of U+0080 to U+00BF in UTF-8: C1, and signs of Latin-1."""
_C1 = re.compile(rb"\xc2[\x80-\x9f]")

_ESC = 0x1B
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_COLOUR_BYTES = re.compile(rb"\x1b\[[0-9;]*m")
"""Most of them; alone they take a quarter of the time."""
_HOME = re.compile(r"(?:\x1b\[|\x9b)[01]?G")
_ESCAPE = re.compile(
    r"""
      (?: \x1b\[ | \x9b ) [0-?]* [ -/]* [@-~]?                                                         # CSI
    | (?: \x1b[]PX^_] | [\x90\x98\x9d-\x9f] ) (?: [^\n\x07\x1b\x80-\x9f]*+ (?: \x07 | \x1b\\ | \x9c ) )?  # strings
    | \x1b (?: [ -/]{1,8} [0-~] | [0-~] )?
    """,
    re.VERBOSE,
)
_DIRTY = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_FEED = re.compile(r"[\x0b\x0c]")
_RETURN = re.compile(r"[^\n]*\r[^\n]*")


def clean_lines(lines: list[bytes]) -> list[bytes]:
    """Each as `clean` has it; the same list where that changes nothing.

    All are looked through at once: a search for one byte takes 0.5 ns a line, a regular expression 0.2 us. So are
    colours removed, which most dirty lines hold and nothing else.
    """
    data = b"\n".join(lines)
    if not _dirty(data):
        return lines
    if _ESC in data:
        data = _COLOUR_BYTES.sub(b"", data)
    cleaned = data.split(b"\n")
    if len(cleaned) != len(lines):  # a line with a newline in it
        return [clean(line.decode(errors="replace")).encode() for line in lines]
    if _dirty(data):
        for index, line in enumerate(cleaned):
            if _dirty(line):
                cleaned[index] = clean(line.decode(errors="replace")).encode()
    return cleaned


def _dirty(data: bytes) -> bool:
    return any(map(data.__contains__, _CONTROLS)) or (_C1_LEAD in data and _C1.search(data) is not None)


def may_be_dirty(text: str) -> bool:
    """Whether it may need `clean`: escapes, returns, NUL, bell or backspace, which JSON may hold."""
    return "\x1b" in text or "\r" in text or "\0" in text or "\b" in text or "\a" in text


def clean(text: str) -> str:
    """The text as said above, also of several lines."""
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    if not _DIRTY.search(text):
        return text
    text = _ESCAPE.sub("", _HOME.sub("\r", text))
    if "\r" in text:
        text = _RETURN.sub(_last_state, text)
    return _DIRTY.sub("", _FEED.sub(" ", text))


def _last_state(found: re.Match[str]) -> str:
    states = found[0].split("\r")
    return next((state for state in reversed(states) if _DIRTY.sub("", state).strip()), states[-1])
