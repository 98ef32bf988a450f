"""What is fixed for a run: who printed the lines and to whom they may go."""

from __future__ import annotations

import os
from _json import encode_basestring_ascii, make_scanner  # the C half of json: all of it costs PID 1 1.1 MB (re, enum)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def new_run_id() -> str:
    """16 hexadecimal digits, random: one a start."""
    return os.urandom(8).hex()


class Facts:
    """A run's facts, repeated at the head of every segment; the first segments are evicted first.

    ``sinks`` are those whose secrets were set when the run was captured: an adopter sends the lines to no other.
    ``started_ns`` is wall time; ``max_line`` is in bytes; ``agent`` is the command's name.
    """

    __slots__ = ("agent", "host", "max_line", "run", "service", "sinks", "source", "started_ns", "tags")

    def __init__(
        self,
        run: str,
        host: str,
        source: str,
        service: str,
        tags: tuple[tuple[str, str], ...],
        sinks: tuple[str, ...],
        max_line: int,
        started_ns: int,
        agent: str,
    ) -> None:
        self.run = run
        self.host = host
        self.source = source
        self.service = service
        self.tags = tags
        self.sinks = sinks
        self.max_line = max_line
        self.started_ns = started_ns
        self.agent = agent

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Facts:
        """Raises KeyError, TypeError or ValueError on anything that `to_json` did not write."""
        return cls(
            run=str(values["run"]),
            host=str(values["host"]),
            source=str(values["source"]),
            service=str(values["service"]),
            tags=tuple((str(key), str(value)) for key, value in values["tags"]),
            sinks=tuple(str(sink) for sink in values["sinks"]),
            max_line=int(values["max_line"]),
            started_ns=int(values["started_ns"]),
            agent=str(values["agent"]),
        )


def dump_json(values: object) -> bytes:
    """Compact JSON of dictionaries with text keys, lists, tuples, text, integers, truth values and None.

    Surrogates of undecodable arguments are escaped, so text of any kind is fine. Raises TypeError for anything else.
    """
    return _dump(values).encode("ascii")


def _dump(value: object) -> str:
    if isinstance(value, str):
        return str(encode_basestring_ascii(value))
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join([f"{encode_basestring_ascii(key)}:{_dump(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_dump, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no place in the journal")


def _no_number(text: str) -> object:
    raise ValueError("the journal holds no such number")


class _Rules:
    """What `json.JSONDecoder` passes to its scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = _no_number  # int(1e999) would be an OverflowError, and dump_json writes none
    parse_int = int
    parse_constant = _no_number
    memo: dict[str, str] = {}  # noqa: RUF012 (the scanner's, emptied after each use)


_scan = make_scanner(_Rules)  # type: ignore[arg-type]  # typeshed takes its own class for the context


def load_json(data: bytes) -> dict[str, Any]:
    """Raises ValueError when it is not a JSON object, as `dump_json` writes it: nothing before or behind it."""
    text = data.decode()
    try:
        values, end = _scan(text, 0)
    except (StopIteration, RecursionError) as error:
        raise ValueError("not JSON") from error
    if end != len(text) or not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values
