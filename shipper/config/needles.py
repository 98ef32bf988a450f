"""What must never leave in a line: the values of secrets that the environment holds. Standard library only.

Whose values count:

- The sinks' own secrets (`registry`), from NAME or the file that NAME_FILE names.
- Unless SHIPPER_MASK=off: variables whose names end in KEY, SECRET, TOKEN, PASSWORD or DSN, from such files too, where
  the value has 16 characters or more and at least one letter and one digit; and the password in a URL of any variable
  (`postgres://user:password@host`), from 8 characters on with a letter and a digit.
- The variables that SHIPPER_MASK names: 8 characters or more with a digit among them, or 20 characters or more.

So `true`, `production` and their like are never looked for: a word that is everywhere would take the sense of lines.
Of a value these are looked for: the whole of it, each of its lines where there are several (a PEM), user and password
of a URL (a DSN's key), and in a JSON object (a service account) the strings whose names end like the variables.
"""

from __future__ import annotations

from shipper.config.files import read_text
from shipper.config.problems import CUT, MAX_SHOWN, clean
from shipper.config.registry import REGISTRY
from shipper.config.secrets import secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ENDINGS = ("KEY", "SECRET", "TOKEN", "PASSWORD", "DSN")
OFF = "off"
MAX_FILE_CHARS = 64 << 10  # a key's file; a sink's own may be as large as `files` allows
MAX_JSON_DEPTH = 4
HIDDEN = "[MASKED]"


def needles(environ: Mapping[str, str], further: Iterable[str] = (), *, off: bool = False) -> tuple[str, ...]:
    """The values, the longest first. Reads files; never raises. ``further``, ``off``: what SHIPPER_MASK says."""
    found: set[str] = set()
    for entry in REGISTRY:
        for name in (*entry.secrets, *entry.optional):
            _take(found, secret(environ, name) or "", is_of_a_sink)
    if not off:
        for name, value in environ.items():
            if is_secret_name(name):
                _take(found, value, is_secret_value)
            elif is_secret_name(name.removesuffix("_FILE")):
                _take(found, _content(value), is_secret_value)
            elif "://" in value and "@" in value:
                found.update(part for part in _of_url(value)[1:] if is_mixed(part, 8))
        for name in further:
            _take(found, value_of(environ, name), is_chosen_value)
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def hide(environ: Mapping[str, str], text: str) -> str:
    """A sentence without the secrets that it would show: a value that was given to the wrong variable, say."""
    return without(needles(environ), text)


def without(values: Iterable[str], text: str) -> str:
    """The same with ``values`` as they are known; cut ones and ones in lower case go too."""
    for value in values:
        shown = clean(value, len(value))
        for one in dict.fromkeys((value, shown, shown.lower())):
            text = text.replace(one, HIDDEN)
            if CUT in text:
                for length in range(min(len(one), MAX_SHOWN), 7, -1):
                    text = text.replace(one[:length] + CUT, HIDDEN + CUT)
    return text


def is_secret_name(name: str) -> bool:
    return name.upper().endswith(ENDINGS)


def is_mixed(value: str, least: int) -> bool:
    """So many characters or more, a letter and a digit among them."""
    return len(value) >= least and any(map(str.isalpha, value)) and any(map(str.isdigit, value))


def is_secret_value(value: str) -> bool:
    return is_mixed(value, 16)


def is_of_a_sink(value: str) -> bool:
    return is_mixed(value, 8) or len(value) >= 16


def is_chosen_value(value: str) -> bool:
    """Of a variable that SHIPPER_MASK names."""
    return (len(value) >= 8 and any(map(str.isdigit, value))) or len(value) >= 20


def value_of(environ: Mapping[str, str], name: str) -> str:
    """What NAME holds, or the file that NAME_FILE names."""
    return environ.get(name, "").strip() or _content(environ.get(f"{name}_FILE", ""))


def _content(path: str) -> str:
    path = path.strip()
    if not path.startswith("/"):
        return ""
    try:
        return read_text(path).strip()[:MAX_FILE_CHARS]
    except (OSError, ValueError):
        return ""


def _take(found: set[str], value: str, counts: object) -> None:
    assert callable(counts)  # noqa: S101 (one of the three above)
    value = value.strip()
    if not counts(value):
        return
    found.add(value)
    if "\n" in value or "\r" in value:
        found.update(line for line in map(str.strip, value.splitlines()) if is_secret_value(line))
    if "://" in value and "@" in value:
        found.update(part for part in _of_url(value) if is_mixed(part, 8))
    if value.startswith("{"):
        found.update(part for part in _of_json(value) if is_secret_value(part))


def _of_url(value: str) -> list[str]:
    """User and password, and the latter as it is before it was put into a URL."""
    rest = value.partition("://")[2]
    for end in "/?#":
        rest = rest.partition(end)[0]
    login, at, _ = rest.rpartition("@")
    user, _, password = login.partition(":")
    if not at:
        return []
    parts = [user, password]
    if "%" in password:
        from urllib.parse import unquote

        parts.append(unquote(password))
    return parts


def _of_json(text: str) -> list[str]:
    import json

    try:
        stack = [("", json.loads(text), 0)]
    except (ValueError, RecursionError):
        return []
    found = []
    while stack:
        name, value, depth = stack.pop()
        if isinstance(value, dict) and depth < MAX_JSON_DEPTH:
            stack += [(inner, one, depth + 1) for inner, one in value.items()]
        elif isinstance(value, str) and is_secret_name(name):
            found += [value, *map(str.strip, value.splitlines())]
    return found
