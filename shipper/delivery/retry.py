"""When to try again. The only import of tenacity."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from shipper.sinks.base import RetryableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIRST_SECONDS = 0.5
MAX_SECONDS = 30.0  # with full jitter: a fleet does not come back in step

SPREAD, SPREAD_MAX_SECONDS = 0.5, 10.0
"""Of what a provider asks to wait, at most so many seconds: by so much, at random, it is waited longer. Whoever answers
with a moment, or to all at the same moment, would have the whole fleet back within one tenth of a second."""

_backoff = wait_random_exponential(multiplier=FIRST_SECONDS, max=MAX_SECONDS)


def wait_seconds(state: RetryCallState, *, spread: bool = True) -> float:
    """What the provider asks for and, with ``spread``, a little more; else 0 to 0.5 s, doubling up to 0 to 30 s."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RetryableError) and error.after is not None:
        after = max(error.after, 0.0)
        more = min(after * SPREAD, SPREAD_MAX_SECONDS) if spread else 0.0
        return after + random.uniform(0.0, more)  # noqa: S311 (a fleet in step, no secret)
    return _backoff(state)


def retrying(
    sleep: Callable[[float], Awaitable[None]],
    before_sleep: Callable[[RetryableError, int, float], None],
    give_up: Callable[[RetryableError, float], bool],
    spread: Callable[[], bool] = lambda: True,
) -> AsyncRetrying:
    """Tries for as long as RetryableError is raised and ``give_up(error, wait)`` is False; then raises that error.

    ``before_sleep(error, attempts, wait)`` is told of each failure that is tried again. ``spread()``: whether there is
    time to come back a little later than the provider asks.
    """

    def stop(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return isinstance(error, RetryableError) and give_up(error, state.upcoming_sleep)

    def told(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RetryableError):
            before_sleep(error, state.attempt_number, state.upcoming_sleep)

    return AsyncRetrying(
        sleep=sleep,
        wait=lambda state: wait_seconds(state, spread=spread()),
        stop=stop,
        before_sleep=told,
        retry=retry_if_exception_type(RetryableError),
        reraise=True,
    )
