"""Gaps and repeats against a model that keeps every number."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.sandbox import ledger as ledger_module
from shipper.sandbox.ledger import Ledger

EVENTS = st.lists(
    st.fixed_dictionaries(
        {"run": st.sampled_from("ab"), "stream": st.sampled_from(["stdout", "stderr"]), "seq": st.integers(1, 50)},
        optional={"lines": st.integers(1, 5), "skipped": st.integers(0, 5)},
    ),
    max_size=40,
)


def summaries(ledger: Ledger) -> dict[tuple[str, str], dict[str, Any]]:
    return {(stream.run, stream.stream): stream.summary() for stream in ledger.streams()}


def expand(pairs: list[list[int]]) -> list[int]:
    return [number for first, last in pairs for number in range(first, last + 1)]


@given(EVENTS, st.integers(1, 7))
def test_any_events_in_any_order_and_batches_count_as_in_the_model(events: list[dict[str, Any]], size: int) -> None:
    ledger = Ledger()
    for at in range(0, len(events), size):
        ledger.take(events[at : at + size], {}, 1)

    times: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    lines: Counter[tuple[str, str]] = Counter()
    for event in events:
        key, seq, skipped = (event["run"], event["stream"]), event["seq"], event.get("skipped", 0)
        if skipped >= seq:
            skipped = 0  # more cannot have been left out than there were
        times[key].update(range(seq - skipped, seq + event.get("lines", 1)))
        lines[key] += event.get("lines", 1)

    found = summaries(ledger)
    assert found.keys() == times.keys()
    for key, came in times.items():
        summary = found[key]
        gone = sorted(set(range(1, max(came) + 1)) - came.keys())
        assert expand(summary["gaps"]) == gone
        assert (summary["missing"], summary["unexplained"]) == (len(gone), len(gone))
        assert summary["repeats"] == sum(came.values()) - len(came)
        assert expand(summary["repeated"]) == sorted(number for number, n in came.items() if n > 1)
        assert (summary["first_seq"], summary["last_seq"]) == (min(came), max(came))
        assert summary["lines"] == lines[key]
        assert summary["exact"]


def test_joined_and_skipped_lines_leave_no_gap() -> None:
    ledger = Ledger()
    ledger.take(
        [
            {"run": "r", "stream": "stdout", "seq": 1},
            {"run": "r", "stream": "stdout", "seq": 2, "lines": 3},
            {"run": "r", "stream": "stdout", "seq": 8, "skipped": 3},
            {"run": "r", "stream": "stdout", "seq": 9, "part": 1},
            {"run": "r", "stream": "stdout", "seq": 10, "part": 2},
        ],
        {},
        1,
    )
    summary = summaries(ledger)["r", "stdout"]
    assert (summary["missing"], summary["repeats"], summary["events"], summary["lines"]) == (0, 0, 5, 7)


def test_what_the_entries_have_in_common_may_stand_beside_them() -> None:
    ledger = Ledger()
    assert ledger.take([{"seq": 1}, {"seq": 2}], {"run": "r", "stream": "stderr"}, 1) == {"r"}
    assert summaries(ledger)["r", "stderr"]["last_seq"] == 2


def test_an_announced_loss_explains_its_gap_and_no_other() -> None:
    ledger = Ledger()
    notice = {"logger": "shipper", "run": "r", "stream": "stdout", "lost": 4, "first_seq": 3, "last_seq": 6}
    numbers = [1, 2, 7, 9]
    ledger.take([notice, *({"run": "r", "stream": "stdout", "seq": number} for number in numbers)], {}, 1)
    summary = summaries(ledger)["r", "stdout"]
    assert summary["gaps"] == [[3, 6], [8, 8]]
    assert summary["announced"] == [[3, 6]]
    assert (summary["missing"], summary["unexplained"]) == (5, 1)
    assert (ledger.own, ledger.unnumbered) == (1, 0)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"run": "r"},
        {"run": "r", "seq": 0},
        {"run": "r", "seq": -1},
        {"run": "r", "seq": 2**60},
        {"run": "r", "seq": True},
        {"run": "r", "seq": 1.0},
        {"run": "r", "seq": "1"},
        {"run": 5, "seq": 1},
        {"seq": 1},
    ],
)
def test_what_has_no_usable_number_is_counted_apart(entry: dict[str, Any]) -> None:
    ledger = Ledger()
    ledger.take([entry], {}, 1)
    assert ledger.unnumbered == 1
    assert ledger.streams() == []


@given(
    st.dictionaries(
        st.sampled_from(["seq", "run", "stream", "lines", "skipped", "logger", "first_seq", "last_seq", "lost"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())),
        max_size=8,
    )
)
def test_no_entry_can_break_it(entry: dict[str, Any]) -> None:
    ledger = Ledger()
    ledger.take([entry, {"run": "r", "stream": "stdout", "seq": 1}, entry], {}, 1)
    for stream in ledger.streams():
        stream.summary()


def test_an_announcement_may_tell_of_what_was_left_out_before_and_among_its_numbers() -> None:
    ledger = Ledger()
    notice = {"logger": "shipper", "first_seq": 3, "last_seq": 7, "lost": 3, "skipped": 3}
    ledger.take([{"seq": 1}, notice, {"seq": 8}], {"run": "r", "stream": "stdout"}, 1)
    (stream,) = ledger.streams()
    summary = stream.summary()
    assert (summary["gaps"], summary["missing"], summary["unexplained"]) == ([[3, 7]], 5, 0)


def test_it_tells_a_bounded_number_of_runs_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_STREAMS", 5)
    ledger = Ledger()
    ledger.take([{"run": f"r{n}", "stream": "stdout", "seq": 1} for n in range(8)], {}, 1)
    assert len(ledger.streams()) == 5
    assert ledger.untracked == 3
    ledger.take([{"run": "x" * 10_000, "stream": "y" * 10_000, "seq": 1}], {}, 1)
    assert ledger.untracked == 4
