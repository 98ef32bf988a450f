"""Time that passes only when nobody has anything to do: an event loop whose clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

T = TypeVar("T")
START_NS = 1_700_000_000_000_000_000


class VirtualClock:
    """What a sender takes for the module `time`. ``now``: seconds; no CPU time passes."""

    def __init__(self) -> None:
        self.now = 1_000.0  # not 0, which a sender may use for "never"

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return 0.0

    def time(self) -> float:
        return self.time_ns() / 1e9

    def time_ns(self) -> int:
        return START_NS + int(self.now * 1e9)


class _Leaping(selectors.BaseSelector):
    """Waits for nothing: as long as it is asked to wait, so far it moves the clock. No file is ever ready."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._files = selectors.SelectSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits for somebody else: nothing would ever happen again")
        self._clock.now += max(timeout, 0.0)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._files.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._files.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._files.get_map()

    def close(self) -> None:
        self._files.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(_Leaping(clock))
        self._virtual = clock

    def time(self) -> float:
        return self._virtual.now


def run_virtually(clock: VirtualClock, main: Coroutine[Any, Any, T]) -> T:
    """What `asyncio.run` does, on that clock."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(main)
