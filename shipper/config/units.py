"""Durations, sizes and shares as people write them, and sizes as they read them. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

# Decimal with a B, as disks are sold; binary with an i or with the letter alone, as Docker's and Java's options are.
_BYTES = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9,
    "k": 2**10, "m": 2**20, "g": 2**30,
    "ki": 2**10, "mi": 2**20, "gi": 2**30,
    "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

_PERCENT = "a percentage such as 10%"

_MAX_CHARS = 20  # far from any use; without a limit a long number would become infinite


def parse_duration(text: str) -> float:
    """Seconds: ``8s``, ``500ms``, ``1.5m``, ``1h``; a bare number is seconds. ValueError says what is allowed."""
    return _parse(text, _SECONDS, "a time such as 500ms, 8s, 1m or 1h")


def parse_size(text: str) -> int:
    """Bytes: ``128MiB``, ``1MB`` (decimal), ``64K`` (binary); a bare number too. ValueError says what is allowed."""
    return int(_parse(text, _BYTES, "a size such as 4096, 256KiB, 128MiB or 1GB"))


def parse_percent(text: str) -> float:
    """A fraction: ``10%`` is 0.1. ValueError says what is allowed."""
    number, sign, rest = text.partition("%")
    if not sign or rest.strip():
        raise ValueError(_PERCENT)
    return _parse(number, {"": 0.01}, _PERCENT)


def size_in_words(count: float) -> str:
    """Bytes as ``512 B``, ``1.0 MiB``, ``128 MiB``."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:,.0f} {unit}" if count >= 100 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def _parse(text: str, units: Mapping[str, float], allowed: str) -> float:
    text = text.strip().lower()
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    factor = units.get(text[len(number) :])
    number = number.rstrip()
    # float() alone would also take nan, 1e9, 1_000, -1 and other scripts' digits.
    whole, _, fraction = number.partition(".")
    digits = whole + fraction
    if factor is None or not (digits.isascii() and digits.isdigit()) or len(digits) > _MAX_CHARS:
        raise ValueError(allowed)
    return float(number) * factor
