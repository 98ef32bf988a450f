"""What tests of several rooms share."""

from __future__ import annotations

import os
import resource
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping


def wait_until(predicate: Callable[[], object], timeout: float = 30.0, what: str = "the condition") -> None:
    """Returns as soon as ``predicate()`` is true; AssertionError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        time.sleep(0.01)


def variables(url: str, names: Collection[str] | None = None) -> dict[str, str]:
    """What turns these sinks on, all of them when none is named, and sends them to the sandbox's intakes at ``url``."""
    from shipper.sandbox.server import INTAKES

    intakes = [intake() for intake in INTAKES if names is None or intake.name in names]
    return {name: value for intake in intakes for name, value in intake.settings(url).items()}


def is_closing(event: Mapping[str, Any]) -> bool:
    """Whether it is the one that our wrapper sends last of a run, as any provider gets it."""
    return event.get("logger") == "shipper" and "captured" in event


def ledger_of(closing: Mapping[str, Any]) -> dict[str, Any]:
    """What a closing event says, whichever provider's names it has: the end's fields and the counts, which add up."""
    dropped = closing.get("dropped", {})
    if isinstance(dropped, str):  # where attributes are flat, of an empty object the text
        assert dropped.removeprefix("json: ") == "{}"
        dropped = {}
    dropped |= {name.removeprefix("dropped."): closing[name] for name in closing if name.startswith("dropped.")}
    names = ("exit_status", "signal", "oom", "failed", "captured", "delivered", "filtered")
    ledger = {name: closing[name] for name in names if name in closing}
    assert ledger["captured"] == ledger["delivered"] + ledger["filtered"] + sum(dropped.values())
    assert "seq" not in closing
    return ledger | {"dropped": dropped}


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Whatever opens a file in here gets EMFILE."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
