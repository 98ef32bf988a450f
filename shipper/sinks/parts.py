"""What several sinks need: a server from a variable, whose a secret is, texts cut to fit, fields made flat."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import orjson

from shipper.config import in_quotes, secret, variable_of
from shipper.config.problems import quoted
from shipper.lines.deep import json_text
from shipper.sinks.base import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shipper.lines.events import Record

HEADER_SAFE = re.compile(r"[\x21-\x7e]+", re.ASCII)
"""What may stand in a header."""

_KINDS = (
    # Prefixes and lengths as the vendors' own tools know them: Datadog browser-sdk (client tokens) and datadog-agent
    # (32 hex digits), New Relic "API keys" page (NRAK user keys, NRAL licence keys), AWS IAM identifiers reference
    # (AKIA, ASIA), sentry_sdk.utils.Dsn; read 2026-11.
    (re.compile(r"pub[0-9a-f]{32}", re.IGNORECASE), "a client token of Datadog's"),
    (re.compile(r"[0-9a-f]{32}", re.IGNORECASE), "an API key of Datadog's"),
    (re.compile(r"\S{36}NRAL"), "a license key of New Relic's"),
    (re.compile(r"NRAK-\S+"), "a user key of New Relic's, which is no license key"),
    (re.compile(r"NRI[IQ]-\S+"), "an Insights key of New Relic's, which is no license key"),
    (re.compile(r"A[KS]IA[A-Z2-7]{16}"), "an access key id of AWS"),
    (re.compile(r"https?://[^@/\s]+@\S+"), "a DSN of Sentry's"),
    (re.compile(r"sntr[ysu]{1,2}_\S+"), "an auth token of Sentry's, which is no DSN"),
)


def kind_of(secret: str) -> str:
    """Whose it plainly is, in words; empty when nothing is plain."""
    return next((kind for form, kind in _KINDS if form.fullmatch(secret)), "")


CLIENT_TOKEN, API_KEY, LICENSE_KEY, ACCESS_KEY, DSN = (_KINDS[i][1] for i in (0, 1, 2, 5, 6))


def own_secret(
    environ: Mapping[str, str], name: str, title: str, noun: str, kinds: tuple[str, ...], form: str = ""
) -> tuple[str, str]:
    """The secret, and the variable that it comes from. Raises SettingError, which does not show it.

    ``noun``: what it is called; ``kinds``: what `kind_of` may say of it; ``form``: how it looks, for the message.
    """
    value = secret(environ, name) or ""
    variable = variable_of(environ, name)
    if not value:
        why = "names no file that holds a secret" if variable != name else "is not set"
        raise SettingError(variable, f"{variable} {why}: nothing is sent to {title}.")
    if in_quotes(value):
        why = "has quotes around it, which do not belong to it"
    elif not HEADER_SAFE.fullmatch(value):
        why = f"holds characters that no {noun} has"
    elif (kind := kind_of(value)) and kind not in kinds:
        why = f"looks like {kind}" + (", which belongs in AWS_ACCESS_KEY_ID" if kind == ACCESS_KEY else "")
    else:
        return value, variable
    raise wrong_secret(variable, why, title, form)


def wrong_secret(variable: str, why: str, title: str, form: str = "") -> SettingError:
    """``why``: what is wrong, after the subject; ``form``: how it looks, in words or empty."""
    subject = f"The secret in {variable}" if variable.endswith("_FILE") else variable
    return SettingError(variable, f"{subject} {why}{f' ({form})' if form else ''}: nothing is sent to {title}.")


def shown(value: str) -> str:
    """A variable's value as the complement of "is"."""
    return f"{quoted(value)} (with quotes around it)" if in_quotes(value.strip()) else quoted(value)


def other_server(environ: Mapping[str, str], variable: str, title: str) -> str:
    """Scheme, host and port that ``variable`` names, empty when it is not set. Raises SettingError."""
    value = environ.get(variable, "").strip()
    if not value:
        return ""
    url = None
    try:
        url = urlsplit(value)
        whole = (
            url.scheme in ("http", "https")
            and url.hostname
            and url.port != 0
            and url.path in ("", "/")
            and not (url.query or url.fragment or "@" in url.netloc)
            and HEADER_SAFE.fullmatch(value)
        )
    except ValueError:  # a port that is none, brackets that do not match
        whole = False
    if url is None or not whole:
        what = f"is {shown(value)}, which" if "@" not in value else "(not shown, it may hold a password)"
        raise SettingError(
            variable,
            f"{variable} {what} is no scheme (http or https), host and port alone, such as "
            f"https://proxy.example:8443: nothing is sent to {title}.",
        )
    return f"{url.scheme}://{url.netloc}"


def fragment(facts: Mapping[str, object]) -> orjson.Fragment:
    """The members of an object from the first one's value on: what a record's slot `run` takes."""
    first = next(iter(facts))
    return orjson.Fragment(
        orjson.dumps({name: clean(value) for name, value in facts.items()})[len(f'{{"{first}":') : -1]
    )


def clean(value: object) -> object:
    """Text that can be written: surrogates of undecodable arguments replaced."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def moved_to(
    now_ms: int, records: list[Record], oldest_ms: int, newest_ms: int | None = None
) -> tuple[list[Record], int]:
    """The records, those that are too old or too new replaced by copies of the present time; how many these are."""
    moved = list(records)
    count = 0
    for index, record in enumerate(moved):
        time_ms = record["timestamp"]
        if time_ms < oldest_ms or (newest_ms is not None and time_ms > newest_ms):  # type: ignore[operator]
            moved[index] = {**record, "timestamp": now_ms, "original_timestamp": time_ms}
            count += 1
    return moved, count


def fitting(text: str, max_bytes: int) -> str:
    """The longest beginning of the text that takes at most so many bytes in JSON, quotes not counted."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if len(orjson.dumps(text[:middle])) - 2 <= max_bytes:
            low = middle
        else:
            high = middle - 1
    return text[:low]


_PLAIN = frozenset({str, int, float, bool})


def flat(fields: Mapping[str, object], max_name: int) -> dict[str, object]:
    """Nested objects flattened with dots, lists as their JSON text, null left out: text, numbers and truth values.

    A name that would be longer than ``max_name`` characters is not taken apart further: it is cut, and holds JSON text.
    Where two come out equal, the one that stood there by itself stays and the other is left in its object, as JSON text
    under the object's name, with `.json` after it where that is taken too.
    """
    if max(map(len, fields), default=0) > max_name:
        short = {name: value for name, value in fields.items() if len(name) <= max_name}
        for name, value in fields.items():
            if len(name) > max_name:
                short[_free(name, max_name, short)] = value
        fields = short
    out: dict[str, object] = {}
    nested: list[tuple[str, dict[str, object]]] = []
    members = fields
    while True:
        for name, value in members.items():
            kind = value.__class__
            if kind in _PLAIN:
                out[name] = value
            elif kind is dict:
                nested.append((name, value))  # type: ignore[arg-type]
            elif value is not None:
                out[name] = json_text(value)
        while nested:
            name, inner = nested.pop()
            members = {f"{name}.{key}": value for key, value in inner.items()}
            if members and max(map(len, members)) <= max_name and out.keys().isdisjoint(members):
                break
            out[_free(name, max_name, out)] = json_text(inner)
        else:
            return out


def _free(name: str, max_name: int, taken: Mapping[str, object]) -> str:
    free = name[:max_name]
    for number in itertools.count(1):
        if free not in taken:
            break
        ending = ".json" if number == 1 else f".json{number}"
        free = name[: max_name - len(ending)] + ending
    return free
