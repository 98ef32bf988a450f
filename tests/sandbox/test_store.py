"""The store: bounded, with counters that stay exact, and events that can be read on from where one was."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import orjson
import pytest

from shipper.sandbox.datadog import Datadog
from shipper.sandbox.intake import RefusedError, Request, Unpacked
from shipper.sandbox.store import KEPT_REFUSALS, Store

DATADOG = Datadog()
KEY = "0123456789abcdef0123456789abcdef"


def make(**bounds: int) -> Store:
    return Store([DATADOG], **bounds)


def send(store: Store, first: int, count: int, run: str = "run", **more: Any) -> None:
    entries = [
        {"message": f"line {n}", "run": run, "stream": "stdout", "seq": n, **more} for n in range(first, first + count)
    ]
    headers = {"dd-api-key": KEY, "dd-request-id": f"request-{first}"}
    body = bytes(bytearray(orjson.dumps(entries)))  # orjson's own bytes hold more memory than they need
    request = DATADOG.without_keys(Request("POST", "/api/v2/logs", {}, headers, body, 1_000))
    store.take(DATADOG, request, DATADOG.unpack(request))


def ids(found: dict[str, Any]) -> list[int]:
    return [event["id"] for event in found["events"]]


def datadog(store: Store) -> Any:
    summary: Any = store.summary()
    return summary["providers"]["datadog"]


def test_events_come_as_the_provider_shows_them_with_their_request() -> None:
    store = make()
    send(store, 1, 2)
    found: Any = store.events()
    event = found["events"][1]
    assert (event["id"], event["provider"], event["request_id"], event["received_ms"]) == (
        2,
        "datadog",
        "request-1",
        1000,
    )
    assert (event["message"], event["run"], event["seq"]) == ("line 2", "run", 2)


@pytest.mark.parametrize("limit", [1, 3, 7, 10, 1000])
def test_pages_of_any_size_give_every_event_once_in_order(limit: int) -> None:
    store = make()
    for batch in range(7):
        send(store, batch * 3 + 1, 3)
    seen: list[int] = []
    after = 0
    while True:
        found: Any = store.events(after=after, limit=limit)
        if not found["events"]:
            assert found["last"] == after
            break
        seen += ids(found)
        after = found["last"]
    assert seen == list(range(1, 22))


def test_the_newest_events_come_without_those_before() -> None:
    store = make()
    for batch in range(5):
        send(store, batch * 4 + 1, 4)
    found: Any = store.events(limit=6, newest=True)
    assert ids(found) == [15, 16, 17, 18, 19, 20]
    assert found["last"] == 20
    assert ids(store.events(after=18, limit=6, newest=True)) == [19, 20]
    assert ids(store.events(after=20, newest=True)) == []


def test_events_can_be_asked_for_by_run_and_provider() -> None:
    store = make()
    send(store, 1, 3, run="a")
    send(store, 1, 2, run="b")
    send(store, 4, 3, run="a")
    assert ids(store.events(run="a")) == [1, 2, 3, 6, 7, 8]
    assert ids(store.events(run="a", after=2, limit=2)) == [3, 6]
    assert ids(store.events(run="b", newest=True, limit=1)) == [5]
    assert ids(store.events(run="c")) == []
    assert ids(store.events(provider="datadog", limit=1)) == [1]
    assert ids(store.events(provider="other")) == []


def test_old_requests_go_first_and_the_counters_stay_exact() -> None:
    store = make(max_events=100)
    for batch in range(50):
        send(store, batch * 10 + 1, 10)
    found: Any = store.events()
    assert (len(found["events"]), found["oldest"], found["newest"]) == (100, 401, 500)
    kept: Any = store.summary()["kept"]
    assert (kept["events"], kept["evicted"]) == (100, 400)
    totals = datadog(store)
    assert (totals["requests"], totals["events"], totals["lines"], totals["missing"], totals["repeats"]) == (
        50,
        500,
        500,
        0,
        0,
    )


def test_lines_far_beyond_the_bound_of_bytes_stay_within_it() -> None:
    tracemalloc.start()
    store = make(max_bytes=1_000_000)
    for batch in range(100):  # some 9 MB
        send(store, batch * 1000 + 1, 1000)
    kept: Any = store.summary()["kept"]
    assert kept["bytes"] <= 1_000_000
    assert datadog(store)["lines"] == 100_000
    assert datadog(store)["missing"] == 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000 + 2_000_000  # and what one request needs while it is looked at


def test_many_small_requests_stay_within_the_bound_of_bytes() -> None:
    tracemalloc.start()
    store = make(max_bytes=3_000_000)
    for number in range(1, 5001):
        send(store, number, 1)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3_000_000


def test_a_gap_and_a_repeat_are_named() -> None:
    store = make()
    send(store, 1, 10)
    send(store, 13, 5)
    send(store, 8, 3)
    totals = datadog(store)
    assert (totals["missing"], totals["repeats"], totals["lines"]) == (2, 3, 18)
    assert totals["streams"][0]["gaps"] == [[11, 12]]
    assert totals["streams"][0]["repeated"] == [[8, 10]]


def test_refusals_are_counted_by_status_and_reason() -> None:
    store = make()
    request = Request("POST", "/api/v2/logs", {}, {"dd-api-key": "…cdef"}, b"", 1)
    for body in (b"{", b"[", b"17"):
        request = replace(request, body=body)
        with pytest.raises(RefusedError) as refused:
            DATADOG.unpack(request)
        store.refuse(DATADOG, request, refused.value.answer.status, refused.value.reason)
    totals = datadog(store)
    assert (totals["requests"], totals["accepted"], totals["refused"]) == (3, 0, 3)
    assert totals["refused_why"] == {
        "400 Payload is not valid JSON": 2,
        "400 Payload is neither a JSON array nor a JSON object": 1,
    }
    for _ in range(300):
        store.refuse(DATADOG, request, 503, "asked for")
    summary: Any = store.summary()
    assert len(summary["refusals"]) == KEPT_REFUSALS
    assert datadog(store)["refused"] == 303


def test_a_refusal_for_what_was_missing_is_mended_once_something_is_taken_there() -> None:
    store = make()
    request = DATADOG.without_keys(Request("POST", "/api/v2/logs", {}, {"dd-api-key": KEY}, b"[]", 1_000))
    for place in ("here", "here", "elsewhere", None):
        store.refuse(DATADOG, request, 400, "missing", place)
    for place in (None, "here", "here"):
        store.take(DATADOG, request, Unpacked([], 2, place=place))
    summary: Any = store.summary()
    assert [one["mended"] for one in summary["refusals"]] == [True, True, False, False]
    assert (datadog(store)["refused"], datadog(store)["mended"]) == (4, 2)


def test_too_old_and_cut_logs_are_counted() -> None:
    store = make()
    now_ms = 2_000_000_000_000
    entries = [{"message": "x" * 1_100_000, "timestamp": now_ms}, {"message": "old", "timestamp": 1}]
    request = Request("POST", "/api/v2/logs", {}, {}, orjson.dumps(entries), now_ms)
    store.take(DATADOG, request, DATADOG.unpack(request))
    totals = datadog(store)
    assert (totals["events"], totals["too_old"], totals["cut"]) == (2, 1, 1)


def test_what_the_service_does_not_keep_is_counted_apart_and_leaves_a_gap() -> None:
    store = make()
    entries = [{"message": str(n), "run": "r", "stream": "stdout", "seq": n, "timestamp": 5} for n in range(1, 8)]
    entries[0]["timestamp"] = 2
    request = Request("POST", "/api/v2/logs", {}, {}, orjson.dumps(entries), 3 + 18 * 3_600_000)
    unpacked = DATADOG.unpack(request)
    assert unpacked.too_old == {0}
    unpacked.dropped = ((2, 4, "why"), (6, 7, "other"))
    store.take(DATADOG, request, unpacked)
    totals = datadog(store)
    assert (totals["events"], totals["lines"], totals["too_old"], totals["dropped"]) == (7, 3, 1, 3)
    assert totals["streams"][0]["gaps"] == [[1, 1], [3, 4]]
    assert (totals["streams"][0]["last_seq"], totals["missing"]) == (6, 3)


def test_what_was_dropped_when_a_request_came_stays_so_when_it_is_looked_at_again() -> None:
    class Marking(Datadog):
        def view(self, index: int, unpacked: Unpacked, request: Request) -> dict[str, Any]:
            return {**super().view(index, unpacked, request), "marks": unpacked.why_dropped(index)}

    intake = Marking()
    store = Store([intake])
    request = Request("POST", "/api/v2/logs", {}, {}, b'[{"message":"a"},{"message":"b"},{"message":"c"}]', 1)
    unpacked = intake.unpack(request)
    unpacked.dropped = ((1, 3, "why"), (2, 3, "and why"))
    store.take(intake, request, unpacked)
    found: Any = store.events()
    assert [event["marks"] for event in found["events"]] == [[], ["why"], ["why", "and why"]]


def test_reset_forgets_everything_but_never_gives_a_number_twice() -> None:
    store = make()
    send(store, 1, 3)
    before = store.epoch
    store.reset()
    assert store.epoch > before
    found: Any = store.events()
    assert (found["events"], found["last"]) == ([], 3)
    assert datadog(store)["lines"] == 0
    send(store, 1, 1)
    assert ids(store.events()) == [4]
    assert datadog(store)["repeats"] == 0
