"""What an intake is, and what all of them share: refusals, bounded decompression, hidden keys.

One file a provider holds a subclass of `Intake`. Its methods are pure (a request in, entries or a refusal out; the time
comes with the request), so that a stored request can be unpacked again when somebody wants to see it. Only `settle` and
`reset` may know what came before; what `settle` decides about entries is stored with the request.
"""

from __future__ import annotations

import importlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import orjson
from isal import isal_zlib
from isal.igzip_lib import IsalError

from shipper.lines.deep import json_text


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
    """The real service would not take this request. `reason` is for the page and the summary: no key, no content.

    `lacks` names what was not there yet and a sender may make: see `Unpacked.place`.
    """

    def __init__(self, reason: str, answer: Answer, *, lacks: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer
        self.lacks = lacks


Dropped = tuple[int, int, str]


@dataclass(slots=True)
class Unpacked:
    """What a request held.

    entries  what the ledger reads: `run`, `stream`, `seq`, … at the top level; an object an entry
    size     bytes of the body, uncompressed
    shared   the fields that all entries have in common
    raw      what `view` shows, an item an entry, where that is not the entries themselves
    too_old  indexes of entries that the service accepts and then drops for their age
    dropped  ranges of entries (first, end, why) that the service drops for another reason, in order
    cut      indexes of entries of which the service keeps the beginning only
    about    what `settle` and `view` need to know of the request besides
    place    where the entries went; what was refused before because this was not there (`RefusedError.lacks`) is mended
    """

    entries: list[dict[str, Any]]
    size: int
    shared: Mapping[str, Any] = field(default_factory=dict)
    raw: list[Any] = field(default_factory=list)
    too_old: frozenset[int] = frozenset()
    dropped: tuple[Dropped, ...] = ()
    cut: frozenset[int] = frozenset()
    about: Mapping[str, Any] = field(default_factory=dict)
    place: str | None = None

    def kept(self) -> list[dict[str, Any]]:
        """The entries that the service keeps."""
        if not self.too_old and not self.dropped:
            return self.entries
        gone = set(self.too_old)
        for first, end, _ in self.dropped:
            gone.update(range(first, end))
        return [entry for index, entry in enumerate(self.entries) if index not in gone]

    def why_dropped(self, index: int) -> list[str]:
        """The reasons, as marks."""
        return [why for first, end, why in self.dropped if first <= index < end]


class Order(Protocol):
    """What a request that is taken is to get wrong: see faults.Fault."""

    @property
    def rate_limits(self) -> str | None: ...

    @property
    def reject(self) -> Mapping[str, int] | None: ...


class Intake(ABC):
    """One provider. What arrived is in the store, what goes wrong on purpose in the faults."""

    name: ClassVar[str]  # as in SHIPPER_SINKS
    title: ClassVar[str]  # as people write it
    max_wire_bytes: ClassVar[int]  # more than this is not read
    secret_names: ClassVar[frozenset[str]]  # headers and query parameters, lower case, that hold a key
    request_id_names: ClassVar[tuple[str, ...]]  # headers and query parameters, lower case, that tell repeats apart
    fault_fields: ClassVar[frozenset[str]] = frozenset()  # fields of faults.Fault that only some providers know
    operations: ClassVar[frozenset[str]] = frozenset()  # what `operation` can be and is answered

    @abstractmethod
    def settings(self, url: str) -> dict[str, str]:
        """The variables with which shipper sends here, and credentials that are taken; `url` is the sandbox's."""

    @abstractmethod
    def claims(self, request: Request) -> bool:
        """True when this provider was meant, rightly or wrongly addressed. The body is not there yet."""

    @abstractmethod
    def admit(self, request: Request) -> None:
        """Check path, method and key. Raises RefusedError. The body is not there yet."""

    @abstractmethod
    def unpack(self, request: Request, body: bytes | None = None) -> Unpacked:
        """Take the body apart. Raises RefusedError. Needs no key, so that a stored request can be unpacked again.

        `body` is what `verify` returned.
        """

    def verify(self, request: Request) -> bytes | None:
        """Check what needs the body and the key: a signature. Raises RefusedError.

        Returns the body, uncompressed, where that had to be done for it.
        """
        return None

    @abstractmethod
    def settle(self, request: Request, unpacked: Unpacked, order: Order | None = None) -> Answer:
        """The answer to a request that can be taken. Called once, with the key, and may set `unpacked.dropped`.

        Raises RefusedError.
        """

    def operation(self, request: Request) -> str | None:
        """What is asked for, where a provider's one address does several things. The body is not there yet."""
        return None

    def reset(self) -> None:  # noqa: B027 (most providers remember nothing)
        """Forget what came before."""

    @abstractmethod
    def refusal(self, status: int, detail: str | None = None) -> Answer:
        """This provider's answer with this status; used for faults and for what the server itself refuses."""

    @abstractmethod
    def view(self, index: int, unpacked: Unpacked, request: Request) -> dict[str, Any]:
        """Entry `index` as the provider shows it. Keys that every provider fills, None where there is nothing:

        time_ms, level (one of LEVELS), message, host, source, service, stream, run, seq, lines, part, skipped, tags
        (list of str), attributes (the rest, as structure), marks (sentences: what befell this entry on arrival),
        remapped (name → the attribute that it was taken from), place (name → where it is found at the provider).
        """

    def without_keys(self, request: Request) -> Request:
        """The same request with nothing but the last four characters of a key."""
        return replace(
            request,
            query={k: hide(v) if k.lower() in self.secret_names else v for k, v in request.query.items()},
            headers={k: hide(v) if k in self.secret_names else v for k, v in request.headers.items()},
        )

    def request_id(self, request: Request) -> str | None:
        query = {name.lower(): value for name, value in request.query.items()} if request.query else {}
        for name in self.request_id_names:
            found = request.headers.get(name) or query.get(name)
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


USUAL_ENCODINGS = frozenset({"gzip", "deflate", "zstd"})

MAX_MEMBERS = 1_000
"""Of a gzip body: a sender may compress each of the 1,000 logs that Datadog takes apart. Empty ones cost 20 bytes and
an engine each, so that a body of 20 MB would have a million of them."""

MEMBER_BYTES = 64 * 1024
"""Of a gzip body after its first member, handed over at once: what follows a member's end is copied back."""


def decompress(body: bytes, encoding: str, max_bytes: int, encodings: Collection[str] = USUAL_ENCODINGS) -> bytes:
    """Undo Content-Encoding `encoding`: identity (or none), or one of `encodings`; deflate is with zlib's header.

    Never holds more than `max_bytes` of the result. Raises TooLargeError beyond, BodyError for anything broken,
    LookupError for an encoding that is none of these.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        if len(body) > max_bytes:
            raise TooLargeError
        return body
    if encoding not in encodings:
        raise LookupError(encoding)
    if encoding == "zstd":
        return _unzstd(body, max_bytes)
    if encoding == "br":
        return _unbrotli(body, max_bytes)
    window = 16 + zlib.MAX_WBITS if encoding == "gzip" else zlib.MAX_WBITS
    view = memoryview(body)
    out: list[bytes] = []
    size = 0
    at, step = 0, len(body)
    for _ in range(MAX_MEMBERS):
        engine = isal_zlib.decompressobj(wbits=window)
        while not engine.eof:
            if at >= len(body):
                raise BodyError(f"The {encoding} body ends too early.")
            piece = view[at : at + step]
            try:
                chunk = engine.decompress(piece, max_bytes - size + 1)
            except IsalError as error:  # type: ignore[misc]  # isal's stub declares the class as an instance
                raise BodyError(f"The body is not {encoding}.") from error
            size += len(chunk)
            if size > max_bytes:
                raise TooLargeError
            out.append(chunk)
            at += len(piece)
        at -= len(engine.unused_data)
        if at == len(body):
            return out[0] if len(out) == 1 else b"".join(out)
        if encoding == "deflate":
            raise BodyError("Bytes follow the end of the deflate body.")
        step = MEMBER_BYTES
    raise BodyError(f"The gzip body has more than {MAX_MEMBERS} members: a bound of this sandbox's own.")


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


def _unbrotli(body: bytes, max_bytes: int) -> bytes:
    """brotli needs the package of that name, which shipper does not need for itself."""
    try:
        module = importlib.import_module("brotli")
    except ImportError:
        raise BodyError("This sandbox cannot read br; it can where the package Brotli is installed.") from None
    engine = module.Decompressor()
    view = memoryview(body)
    out: list[bytes] = []
    size = 0
    try:
        # In small steps: nothing bounds what process() returns, and a meta-block stands for 16 MiB at most (RFC 7932).
        for at in range(0, len(body), 16):
            chunk = engine.process(bytes(view[at : at + 16]))
            size += len(chunk)
            if size > max_bytes:
                raise TooLargeError
            out.append(chunk)
    except TooLargeError:
        raise
    except Exception as error:  # brotli.error: known only after the import
        raise BodyError("The body is not br.") from error
    if not engine.is_finished():
        raise BodyError("The br body ends too early.")
    return b"".join(out)


def level_of(word: object) -> str:
    """The page's level for a word that a sender uses; info for anything else."""
    if type(word) is not str:
        return "info"
    word = word.strip().lower()
    return word if word in LEVELS else _WORDS.get(word, "info")


_WORDS = {
    "trace": "debug", "verbose": "debug", "warn": "warning", "err": "error", "fatal": "critical", "crit": "critical",
    "panic": "emergency", "emerg": "emergency",
}  # fmt: skip


def carried(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What shipper's lines carry under the same name at every provider, as `view` gives it."""
    return {
        **{name: text_of(fields.get(name)) for name in ("service", "stream", "run")},
        **{name: fields.get(name) for name in ("seq", "lines", "part", "skipped")},
    }


def text_of(value: object) -> str | None:
    return value if value is None or type(value) is str else json_text(value)


def writable(view: dict[str, Any]) -> dict[str, Any]:
    """What `view` gave, with everything in it that nests deeper than an answer of the sandbox can hold as JSON text.

    orjson reads 1,024 levels and writes 254, of which the answer around a view takes two.
    """
    try:
        orjson.dumps([[view]])
    except TypeError:
        pass
    else:
        return view
    marks = list(view["marks"])
    shown = {}
    for name, value in view.items():
        inner = value.items() if type(value) is dict else ()
        shown[name] = {key: _shallow(one, key, marks) for key, one in inner} if inner else _shallow(value, name, marks)
    return {**shown, "marks": marks}


def _shallow(value: object, name: str, marks: list[str]) -> object:
    try:
        orjson.dumps([[[[value]]]])
    except TypeError:
        marks.append(f"{name} nests too deep for this page and is shown as text")
        return json_text(value)
    return value


def bare_view(request: Request, marks: list[str]) -> dict[str, Any]:
    """A view of an entry of which nothing can be shown."""
    names = ("host", "source", "service", "stream", "run", "seq", "lines", "part", "skipped", "trace_id")
    return {
        "time_ms": request.received_ms, "level": "error", "message": "", **dict.fromkeys(names), "tags": [],
        "attributes": {}, "marks": marks, "remapped": {}, "shadowed": {}, "place": {},
    }  # fmt: skip
