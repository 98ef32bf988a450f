"""A fleet of wrappers whose intake was away for a minute does not fall over it when it returns.

`python -m tests.bench --only fleet` does the same with 10,000.
"""

from __future__ import annotations

import pytest

from tests.delivery.fleet import sail


@pytest.mark.parametrize(
    ("away", "wrappers", "in_step", "behind"),
    [
        # the last one comes back when its longest back-off is over
        ("refuses", 500, False, 31.0),
        ("refuses", 200, True, 31.0),
        # and here its last time-out first
        ("hangs", 200, False, 41.0),
        # up to 10 s later than asked for
        ("asks for 30 s", 200, False, 41.0),
        ("asks for 30 s", 200, True, 41.0),
        ("names the moment", 200, True, 11.0),
    ],
)
def test_a_fleet_returns_at_less_than_thrice_its_rate_and_catches_up_oldest_first_at_full_speed(
    away: str, wrappers: int, in_step: bool, behind: float
) -> None:
    course = sail(wrappers, away, in_step)  # the intake asserts the order
    assert course.steady == pytest.approx(wrappers, rel=0.05)  # a request a second each
    assert course.peak < 3 * course.steady
    assert course.burst < 3 * wrappers / 10  # nor all of them at once
    assert course.attempts_away < wrappers * 20  # of the 60 each that it would have been
    assert course.behind < behind
    assert course.slowest < 1.0  # 300 lines: a request or two
    assert course.lost == 0
