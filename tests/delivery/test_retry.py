"""How long is waited before the next attempt."""

from __future__ import annotations

import pytest
from tenacity import AsyncRetrying, RetryCallState

from shipper.delivery.retry import wait_seconds
from shipper.sinks.base import RetryableError


def waits(after: float | None, attempts: int, *, spread: bool = True) -> list[float]:
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = attempts
    error = RetryableError("not now", after)
    state.set_exception((RetryableError, error, None))
    return [wait_seconds(state, spread=spread) for _ in range(500)]


@pytest.mark.parametrize(("after", "most"), [(0.0, 0.0), (4.0, 6.0), (20.0, 30.0), (60.0, 70.0), (-5.0, 0.0)])
def test_what_a_provider_asks_for_is_waited_and_up_to_half_more(after: float, most: float) -> None:
    found = waits(after, 1)
    assert min(found) >= after
    assert max(found) <= most
    assert max(found) - min(found) >= 0.8 * (most - max(after, 0.0))  # all over it
    assert set(waits(after, 1, spread=False)) == {max(after, 0.0)}


@pytest.mark.parametrize(("attempts", "most"), [(1, 0.5), (2, 1.0), (4, 4.0), (7, 30.0), (1000, 30.0)])
def test_otherwise_it_is_any_time_up_to_twice_as_much_each_time(attempts: int, most: float) -> None:
    found = waits(None, attempts)
    assert 0.0 <= min(found) < 0.1 * most
    assert 0.9 * most < max(found) <= most
