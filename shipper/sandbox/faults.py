"""What a test or a person asked the sandbox to get wrong, a provider at a time.

A fault stands before the intake's own checks, as a provider's edge does: nothing of a request that it answers is
taken. `delay` alone makes a provider slow; it applies to accepted requests too.

| field | what | providers |
| --- | --- | --- |
| status | answer with this status (400 to 599), or with what the provider sends for it: see its `refusal` | all |
| count | so many requests, then no more; without it until it is cleared | all |
| retry_after | header Retry-After with `status` | all |
| delay | seconds before anything is answered | all |
| down | break the connection off without an answer | all |
| containing | only requests whose body, decompressed, holds this text | all |
| operation | only requests of this operation: one of those that the provider's intake answers, such as "CreateLogGroup" | cloudwatch |
| reject | {"too_old": 2, "too_new": 1, "expired": 0}: take the request but for so many events at its start (too old, and within them expired) and at its end (too new), as rejectedLogEventsInfo says | cloudwatch |
| rate_limits | header X-Sentry-Rate-Limits, such as "60:log_item:organization"; without `status` the request is taken | sentry |
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

MAX_DELAY = 600.0
"""Seconds. Longer than any sender waits."""


@dataclass(slots=True)
class Fault:
    """`status` None and `down` False: the request is taken, late."""

    status: int | None = None
    count: int | None = None  # requests that it still applies to; None: until it is cleared
    retry_after: str | None = None  # the header's value: seconds or a date
    delay: float = 0.0  # seconds before anything is answered
    down: bool = False  # the connection is broken off without an answer
    operation: str | None = None  # the only one that it applies to
    containing: bytes | None = None  # it applies only to bodies with this in them
    reject: Mapping[str, int] | None = None  # of a request that is taken: see the table above
    rate_limits: str | None = None  # the header's value

    def summary(self) -> dict[str, object]:
        shown: dict[str, object] = {
            "status": self.status,
            "count": self.count,
            "retry_after": self.retry_after,
            "delay": self.delay,
            "down": self.down,
        }
        containing = self.containing.decode() if self.containing else None
        more = {
            "operation": self.operation,
            "containing": containing,
            "reject": self.reject,
            "rate_limits": self.rate_limits,
        }
        shown.update((name, value) for name, value in more.items() if value is not None)
        return shown


class Faults:
    """The fault of each provider that has one."""

    def __init__(
        self, providers: Mapping[str, Collection[str]], operations: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """`providers`: each one's name, and the fields that it knows besides those of all. `operations`: of each."""
        self._providers = providers
        self._operations = operations or {}
        self._faults: dict[str, Fault] = {}

    def set(self, provider: str, fault: Fault | None) -> None:
        if fault is None or fault.count == 0:
            self._faults.pop(provider, None)
        else:
            self._faults[provider] = fault

    def next(
        self, provider: str, operation: str | None = None, body: Callable[[], bytes] = lambda: b""
    ) -> Fault | None:
        """The fault for the request at hand. `body`: what was sent, decompressed; asked for only where that counts."""
        fault = self._faults.get(provider)
        if fault is not None and fault.operation not in (None, operation):
            return None
        if fault is not None and fault.containing is not None and fault.containing not in body():
            return None
        if fault is not None and fault.count is not None:
            fault.count -= 1
            if fault.count <= 0:
                del self._faults[provider]
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def summary(self) -> dict[str, object]:
        return {provider: fault.summary() for provider, fault in self._faults.items()}

    def parse(self, order: object) -> tuple[str, Fault | None]:
        """A provider and its fault from the JSON of POST /sandbox/fault. Raises ValueError with a sentence.

        {"provider": "datadog", "status": 503, "count": 3, "retry_after": 2, "delay": 0.5, "down": false} and what the
        table above has for that provider; all but `provider` may be left out, and with all of them left out the
        provider's fault is cleared.
        """
        if not isinstance(order, Mapping):
            raise ValueError('Send a JSON object such as {"provider": "datadog", "status": 503}.')
        provider = order.get("provider")
        if not isinstance(provider, str) or provider not in self._providers:
            raise ValueError(f"provider is one of: {', '.join(self._providers)}.")
        known = [*_OF_ALL, *sorted(self._providers[provider])]
        unknown = sorted(set(order) - set(known) - {"provider"})
        if unknown:
            raise ValueError(f"{unknown[0]} is not known of {provider}; {', '.join(known)} are.")
        status = _whole(order, "status", 400, 599)
        count = _whole(order, "count", 0, 10**9)
        retry_after = order.get("retry_after")
        if type(retry_after) in (int, float):
            retry_after = str(retry_after)
        if not _is_header(retry_after):
            raise ValueError("retry_after is a number of seconds or a date as HTTP writes it.")
        delay = order.get("delay")
        if delay is None:
            delay = 0.0
        if type(delay) not in (int, float) or not 0 <= delay <= MAX_DELAY:
            raise ValueError(f"delay is a number of seconds from 0 to {MAX_DELAY:g}.")
        down = order.get("down")
        if down not in (None, True, False):
            raise ValueError("down is true or false.")
        operation = order.get("operation")
        operations = sorted(self._operations.get(provider, ()))
        if operation is not None and operation not in operations:
            raise ValueError(f"operation is one of: {', '.join(operations)}.")
        containing = order.get("containing")
        if not _is_header(containing) or containing == "":
            raise ValueError("containing is a text of at most 256 characters of ASCII.")
        rate_limits = order.get("rate_limits")
        if not _is_header(rate_limits):
            raise ValueError('rate_limits is what the header holds, such as "60:log_item:organization".')
        reject = _rejects(order.get("reject"))
        if status is None and not delay and not down and reject is None and rate_limits is None:
            return provider, None
        text = containing.encode() if containing else None
        return provider, Fault(
            status, count, retry_after, float(delay), bool(down), operation, text, reject, rate_limits
        )


_OF_ALL = ("status", "count", "retry_after", "delay", "down", "containing")
_REJECTS = ("too_old", "too_new", "expired")


def _is_header(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.isascii() and value.isprintable() and len(value) <= 256)


def _rejects(value: object) -> Mapping[str, int] | None:
    if value is None:
        return None
    whole = (
        isinstance(value, Mapping)
        and value
        and not set(value) - set(_REJECTS)
        and all(type(count) is int and 0 <= count <= 10_000 for count in value.values())
    )
    if not isinstance(value, Mapping) or not whole:
        raise ValueError('reject is numbers of events such as {"too_old": 2, "too_new": 1, "expired": 0}.')
    return dict(value)


def _whole(order: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = order.get(name)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise ValueError(f"{name} is a whole number from {least} to {most}.")
    return value
