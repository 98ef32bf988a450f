"""JSON of what nests deeper than the serialiser goes: orjson reads 1,024 levels and writes 254."""

from __future__ import annotations

import orjson


def json_text(value: object) -> str:
    """The value as JSON, however deep it nests. For values that orjson parsed."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return _spelled_out(value)


def shallow(record: dict[str, object]) -> dict[str, object]:
    """The same with every field that cannot be written replaced by its JSON text."""
    fields: dict[str, object] = {}
    for name, value in record.items():
        try:
            orjson.dumps([{"": value}])  # as deep as it will stand
            fields[name] = value
        except TypeError:
            fields[name] = _spelled_out(value)
    return fields


class _Written(str):
    """JSON as it stands, among values that are still to be written."""

    __slots__ = ()


def _spelled_out(value: object) -> str:
    out: list[str] = []
    stack: list[object] = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, _Written):
            out.append(top)
        elif isinstance(top, dict):
            stack.append(_Written("}"))
            for index, (name, inner) in enumerate(reversed(top.items())):
                last = index == len(top) - 1
                stack.extend((inner, _Written(("" if last else ",") + json_text(str(name)) + ":")))
            stack.append(_Written("{"))
        elif isinstance(top, (list, tuple)):
            stack.append(_Written("]"))
            for index, inner in enumerate(reversed(top)):
                stack.append(inner)
                if index < len(top) - 1:
                    stack.append(_Written(","))
            stack.append(_Written("["))
        else:
            out.append(_scalar(top))
    return "".join(out)


def _scalar(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # text with lone surrogates, or what no parser made
        return orjson.dumps(str(value).encode(errors="replace").decode()).decode()
