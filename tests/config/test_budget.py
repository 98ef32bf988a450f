"""Which sinks and how large batches a memory limit allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.config import budget
from shipper.config.budget import IN_FLIGHT_BYTES, LEAST_BYTES, LEAST_IN_FLIGHT_BYTES, MIB, SINKS, idle_bytes, plan
from shipper.config.registry import REGISTRY
from shipper.delivery import worker as delivery
from shipper.delivery.priority import OOM_SCORE_ADJ
from shipper.journal.reader import WINDOW_BYTES
from shipper.supervisor import worker

ALL = tuple(entry.name for entry in REGISTRY)


def test_the_cost_of_each_sink_is_known_the_cheapest_first() -> None:
    assert set(SINKS) == set(ALL)
    costs = [idle_bytes([name]) for name in SINKS]
    assert costs == sorted(costs)


def test_what_others_say_without_importing_it_is_the_same() -> None:
    assert worker.LEAST_BYTES == LEAST_BYTES
    assert (worker.AGAIN, worker.SHORT) == (delivery.AGAIN, delivery.SHORT)
    assert worker.OOM_SCORE_ADJ == OOM_SCORE_ADJ
    assert budget.WINDOW_BYTES == WINDOW_BYTES


@pytest.mark.parametrize("limit", [None, 256 * MIB, 4096 * MIB])
def test_where_there_is_room_nothing_is_held_back(limit: int | None) -> None:
    found = plan(ALL, limit, 30 * MIB)
    assert found.sinks == ALL
    assert found.in_flight_bytes == IN_FLIGHT_BYTES
    assert found.window_bytes == WINDOW_BYTES
    assert found.most_requests == budget.MOST_REQUESTS
    assert found.request_bytes > 1 << 29


@pytest.mark.parametrize(
    ("limit", "others", "left_out"),
    [
        (64, 7, ()),  # beside a shell
        (64, 13, ("cloudwatch",)),  # beside a small Python
        (64, 20, ("cloudwatch", "sentry")),
        (64, 50, ("cloudwatch", "sentry")),  # these two cost no more than one
        (96, 7, ()),
        (96, 30, ()),
        (96, 40, ("cloudwatch",)),
    ],
)
def test_where_not_all_fit_the_most_expensive_are_left_out(limit: int, others: int, left_out: tuple[str, ...]) -> None:
    found = plan(ALL, limit * MIB, others * MIB)
    assert found.left_out == left_out
    assert found.sinks == tuple(name for name in ALL if name not in left_out)
    assert plan(ALL, found.needed_bytes, others * MIB).sinks == ALL
    assert plan(ALL, found.needed_bytes - MIB, others * MIB).sinks != ALL


def test_each_death_at_the_limit_halves_the_batches_then_leaves_out_sinks_but_for_one() -> None:
    found = [plan(ALL, None, shrunk=n) for n in range(12)]
    assert [f.in_flight_bytes for f in found[:3]] == [5 * MIB, 5 * MIB // 2, 5 * MIB // 4]
    assert found[4].in_flight_bytes == LEAST_IN_FLIGHT_BYTES
    assert [len(f.sinks) for f in found[4:]] == [4, 3, 2, 1, 1, 1, 1, 1]
    assert found[5].left_out == ("cloudwatch",)
    assert found[-1].sinks == ("datadog",)


@given(
    st.sets(st.sampled_from(ALL), min_size=1),
    st.none() | st.integers(1, 1 << 32),
    st.integers(0, 1 << 32),
    st.integers(0, 20),
)
def test_whatever_the_figures_there_is_a_sink_and_a_batch(
    sinks: set[str], limit: int | None, others: int, shrunk: int
) -> None:
    wanted = [name for name in ALL if name in sinks]
    found = plan(wanted, limit, others, shrunk)
    assert found.sinks
    assert sorted([*found.sinks, *found.left_out]) == sorted(wanted)
    assert LEAST_IN_FLIGHT_BYTES <= found.in_flight_bytes <= IN_FLIGHT_BYTES
    assert found.most_requests >= 1
    assert found.request_events >= 100
    assert found.queue_bytes > 0
    less = plan(wanted, limit, others, shrunk + 1)
    assert less.in_flight_bytes <= found.in_flight_bytes
    assert set(less.sinks) <= set(found.sinks)
