"""A secret in the forms in which agents print it, and all that can be read in a body."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator


def forms(value: str) -> Iterator[str]:
    text = json.dumps(value)
    yield from (value, quote(value), quote(value, safe=""), quote_plus(value), text[1:-1], json.dumps(text)[1:-1])
    for before in ("", "a", "ab"):
        data = f"{before}{value}".encode()
        start = {"": 0, "a": 2, "ab": 3}[before]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(data).decode().rstrip("=")
            yield encoded[start : len(data) * 8 // 6]


def texts_in(body: bytes) -> str:
    """All that is in it as text, and every text in its JSON, taken out, again and again."""
    found = [body.decode(errors="replace")]
    for line in body.split(b"\n"):
        try:
            found += inner(orjson.loads(line))
        except ValueError:
            continue
    return "\n".join(found)


def inner(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from inner(one)
    elif isinstance(value, list):
        for one in value:
            yield from inner(one)
    elif isinstance(value, str):
        yield value
        if value[:1] in ("{", "[", '"'):
            try:
                yield from inner(json.loads(value))
            except ValueError:
                pass
