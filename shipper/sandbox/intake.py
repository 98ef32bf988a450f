"""What an intake is, and what all of them share: refusals, bounded decompression, hidden keys.

One file a provider holds a subclass of `Intake`. Its methods are pure (a request in, entries or a refusal out; the time
comes with the request), so that a stored request can be unpacked again when somebody wants to see it.
"""

from __future__ import annotations

import importlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from isal import isal_zlib
from isal.igzip_lib import IsalError


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came over the wire. Names of headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    received_ms: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender gets."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class RefusedError(Exception):
    """The real service would not take this request. `reason` is for the page and the summary: no key, no content."""

    def __init__(self, reason: str, answer: Answer) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


@dataclass(slots=True)
class Unpacked:
    """What a request held. `shared` are the fields that all its entries have in common."""

    entries: list[dict[str, Any]]
    size: int  # bytes of the body, uncompressed
    shared: Mapping[str, Any] = field(default_factory=dict)
    too_old: frozenset[int] = frozenset()  # indexes of entries that the service accepts and then drops for their age
    cut: frozenset[int] = frozenset()  # indexes of entries of which the service keeps the beginning only


class Intake(ABC):
    """One provider. Stateless: what arrived is in the store, what goes wrong on purpose in the faults."""

    name: ClassVar[str]  # as in SHIPPER_SINKS
    title: ClassVar[str]  # as people write it
    max_wire_bytes: ClassVar[int]  # more than this is not read
    secret_names: ClassVar[frozenset[str]]  # headers and query parameters, lower case, that hold a key
    request_id_names: ClassVar[tuple[str, ...]]  # headers and query parameters, lower case, that tell repeats apart

    @abstractmethod
    def claims(self, request: Request) -> bool:
        """True when this provider was meant, rightly or wrongly addressed. The body is not there yet."""

    @abstractmethod
    def admit(self, request: Request) -> None:
        """Check path, method and key. Raises RefusedError. The body is not there yet."""

    @abstractmethod
    def unpack(self, request: Request) -> Unpacked:
        """Take the body apart. Raises RefusedError. Needs no key, so that a stored request can be unpacked again."""

    @abstractmethod
    def accepted(self) -> Answer:
        """The answer when everything was taken."""

    @abstractmethod
    def refusal(self, status: int, detail: str | None = None) -> Answer:
        """This provider's answer with this status; used for faults and for what the server itself refuses."""

    @abstractmethod
    def view(self, index: int, unpacked: Unpacked, request: Request) -> dict[str, Any]:
        """Entry `index` as the provider shows it. Keys that every provider fills, None where there is nothing:

        time_ms, level (one of LEVELS), message, host, source, service, stream, run, seq, lines, part, skipped, tags
        (list of str), attributes (the rest, as structure), marks (sentences: what befell this entry on arrival),
        remapped (name → the attribute that it was taken from).
        """

    def without_keys(self, request: Request) -> Request:
        """The same request with nothing but the last four characters of a key."""
        return replace(
            request,
            query={k: hide(v) if k.lower() in self.secret_names else v for k, v in request.query.items()},
            headers={k: hide(v) if k in self.secret_names else v for k, v in request.headers.items()},
        )

    def request_id(self, request: Request) -> str | None:
        for name in self.request_id_names:
            found = request.headers.get(name) or request.query.get(name)
            if found:
                return found[:128]
        return None


LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug", "ok")
"""The levels that an event on the page can have: syslog's, and Datadog's ok."""


def hide(key: str) -> str:
    """A key as it may be shown. A short one is not shown at all: its last four characters would be most of it."""
    return "…" + key[-4:] if len(key) >= 16 else "…"


class BodyError(Exception):
    """The body cannot be decompressed. The message is a sentence about why."""


class TooLargeError(Exception):
    """The body is larger than allowed once it is decompressed."""


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Undo Content-Encoding `encoding`: identity (or none), gzip, deflate (with zlib's header) or zstd.

    Never holds more than `max_bytes` of the result. Raises TooLargeError beyond, BodyError for anything broken,
    LookupError for an encoding that is none of these.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        if len(body) > max_bytes:
            raise TooLargeError
        return body
    if encoding == "zstd":
        return _unzstd(body, max_bytes)
    if encoding not in ("gzip", "deflate"):
        raise LookupError(encoding)
    window = 16 + zlib.MAX_WBITS if encoding == "gzip" else zlib.MAX_WBITS
    out: list[bytes] = []
    size = 0
    rest = body
    while rest or not out:
        engine = isal_zlib.decompressobj(wbits=window)
        try:
            chunk = engine.decompress(rest, max_bytes - size + 1)
        except IsalError as error:  # type: ignore[misc]  # isal's stub declares the class as an instance
            raise BodyError(f"The body is not {encoding}.") from error
        size += len(chunk)
        if size > max_bytes:
            raise TooLargeError
        if not engine.eof:
            raise BodyError(f"The {encoding} body ends too early.")
        out.append(chunk)
        rest = engine.unused_data
        if rest and encoding == "deflate":
            raise BodyError("Bytes follow the end of the deflate body.")
    return out[0] if len(out) == 1 else b"".join(out)


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    """zstd needs Python 3.14 or the package zstandard, neither of which shipper needs for itself."""
    try:
        engine = importlib.import_module("zstandard").ZstdDecompressor().decompressobj()
    except ImportError:
        try:
            engine = importlib.import_module("compression.zstd").ZstdDecompressor()
        except ImportError:
            raise BodyError("This sandbox cannot read zstd; it can where the package zstandard is installed.") from None
    view = memoryview(body)
    out: list[bytes] = []
    size = 0
    try:
        # In small steps, since zstandard's decompressobj has no bound of its own: 1 KiB holds at most 256 blocks of
        # 4 bytes that stand for 128 KiB each (RFC 8878, 3.1.1.2), so 32 MiB before the size is looked at.
        for at in range(0, len(body), 1024):
            chunk = engine.decompress(bytes(view[at : at + 1024]))
            size += len(chunk)
            if size > max_bytes:
                raise TooLargeError
            out.append(chunk)
    except TooLargeError:
        raise
    except Exception as error:  # zstandard.ZstdError, compression.zstd.ZstdError, EOFError: known only after the import
        raise BodyError("The body is not zstd.") from error
    if not engine.eof:
        raise BodyError("The zstd body ends too early.")
    if engine.unused_data:
        raise BodyError("Bytes follow the end of the zstd body.")
    return b"".join(out)
