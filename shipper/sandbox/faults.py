"""What a test or a person asked the sandbox to get wrong, a provider at a time.

A fault stands before the intake's own checks, as a provider's edge does: nothing of a request that it answers is
taken. `delay` alone makes a provider slow; it applies to accepted requests too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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

    def summary(self) -> dict[str, object]:
        return {
            "status": self.status,
            "count": self.count,
            "retry_after": self.retry_after,
            "delay": self.delay,
            "down": self.down,
        }


class Faults:
    """The fault of each provider that has one."""

    def __init__(self, providers: Collection[str]) -> None:
        self._providers = providers
        self._faults: dict[str, Fault] = {}

    def set(self, provider: str, fault: Fault | None) -> None:
        if fault is None or fault.count == 0:
            self._faults.pop(provider, None)
        else:
            self._faults[provider] = fault

    def next(self, provider: str) -> Fault | None:
        """The fault for the request at hand."""
        fault = self._faults.get(provider)
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

        {"provider": "datadog", "status": 503, "count": 3, "retry_after": 2, "delay": 0.5, "down": false}; all but
        `provider` may be left out, and with all of them left out the provider's fault is cleared.
        """
        if not isinstance(order, Mapping):
            raise ValueError('Send a JSON object such as {"provider": "datadog", "status": 503}.')
        unknown = sorted(set(order) - {"provider", "status", "count", "retry_after", "delay", "down"})
        if unknown:
            raise ValueError(f"{unknown[0]} is not known; provider, status, count, retry_after, delay and down are.")
        provider = order.get("provider")
        if provider not in self._providers:
            raise ValueError(f"provider is one of: {', '.join(self._providers)}.")
        status = _whole(order, "status", 400, 599)
        count = _whole(order, "count", 0, 10**9)
        retry_after = order.get("retry_after")
        if type(retry_after) in (int, float):
            retry_after = str(retry_after)
        if retry_after is not None and (
            not isinstance(retry_after, str) or not retry_after.isprintable() or len(retry_after) > 64
        ):
            raise ValueError("retry_after is a number of seconds or a date as HTTP writes it.")
        delay = order.get("delay")
        if delay is None:
            delay = 0.0
        if type(delay) not in (int, float) or not 0 <= delay <= MAX_DELAY:
            raise ValueError(f"delay is a number of seconds from 0 to {MAX_DELAY:g}.")
        down = order.get("down")
        if down not in (None, True, False):
            raise ValueError("down is true or false.")
        if status is None and not delay and not down:
            return str(provider), None
        return str(provider), Fault(status, count, retry_after, float(delay), bool(down))


def _whole(order: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = order.get(name)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise ValueError(f"{name} is a whole number from {least} to {most}.")
    return value
