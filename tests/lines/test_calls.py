"""A call's lines together, and the worker's id on all that follows: told by the lines before, and by nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.journal.facts import dump_json
from shipper.lines.batch import Batch
from shipper.lines.calls import MAX_CURSOR_BYTES, MAX_PROCESSES, Calls
from shipper.lines.decoder import Decoder
from shipper.lines.events import Events, Record

CAPTURE_MS = 1_795_495_000_000
SAMPLES = Path(__file__).parents[2] / "demo" / "lines"


def events_of(lines: list[dict[str, Any] | str], stream: int = 1) -> Events:
    raw = [line.encode() if isinstance(line, str) else orjson.dumps(line) for line in lines]
    return Decoder().decode(Batch(stream, raw, 1, [(0, CAPTURE_MS * 10**6)], {}))


def followed(*lines: dict[str, Any] | str, before: Calls = Calls.EMPTY) -> tuple[list[Record], Calls]:
    events = events_of(list(lines))
    return events.records, before.follow(events)


def said(message: str, **fields: object) -> dict[str, Any]:
    return {"message": message, **fields}


JOB = {"job_id": "AJ_1", "room": "r", "room_id": "RM_1"}
REGISTERED = said("registered worker", id="AW_1", pid=1)


def test_lines_of_a_jobs_process_get_its_job_and_room_once_it_has_told_them() -> None:
    records, calls = followed(
        said("before", pid=7), said("in", pid=7, **JOB), said("library", pid=7), "text", said("other", pid=8),
        said("text pid", pid="7"), said("own room", pid=7, room="mine"),
    )  # fmt: skip
    got = [{name: record[name] for name in ("job_id", "room", "room_id") if name in record} for record in records]
    assert got == [{}, JOB, JOB, {}, {}, {}, {**JOB, "room": "mine"}]
    later, _ = followed(said("next batch", pid=7), before=calls)
    assert JOB.items() <= later[0].items()


@pytest.mark.parametrize("end", ["process exited with non-zero exit code -9", "Job process shutdown"])
def test_a_job_ends_with_its_process(end: str) -> None:
    records, calls = followed(
        said("in", pid=7, **JOB), said(end, level="ERROR", pid=7, **JOB), said("late", pid=7), said("l", pid=7, **JOB),
        said("later", pid=7), said("another", pid=7, job_id="AJ_2"), said("its library", pid=7),
    )  # fmt: skip
    assert [record.get("job_id") for record in records] == ["AJ_1", "AJ_1", None, "AJ_1", None, "AJ_2", "AJ_2"]
    assert calls.to_cursor()["calls"] == [[7, {"job_id": "AJ_2"}]]


@pytest.mark.parametrize("start", ["initializing process", "initializing job runner"])
def test_a_pid_that_is_used_again_is_another_process(start: str) -> None:
    records, _ = followed(said("in", pid=7, **JOB), said(start, pid=7), said("idle", pid=7), said("exiting", pid=7))
    assert [record.get("job_id") for record in records] == ["AJ_1", None, None, None]


def test_a_process_that_is_exiting_still_has_its_job_for_its_callbacks() -> None:
    records, _ = followed(said("in", pid=7, **JOB), said("process exiting", pid=7, **JOB), said("callback", pid=7))
    assert records[2]["job_id"] == "AJ_1"


@pytest.mark.parametrize(
    "line",
    [
        said("received job request", pid=1, **JOB),
        said("received assignment", pid=1, **JOB),
        said("failed to launch job on process after 3 attempts", pid=1, job_id="AJ_1"),
        said("in a thread", pid=1, tid=99, **JOB),
        REGISTERED,
    ],
)
def test_the_worker_itself_never_has_a_job(line: dict[str, Any]) -> None:
    records, _ = followed(line, said("mine", pid=1, **JOB), said("worker", pid=1))
    assert "job_id" not in records[2]


def test_a_process_of_several_jobs_gives_none_to_its_other_lines() -> None:
    lines = [said("a", pid=7, job_id="A"), said("b", pid=7, job_id="B"), said("c", pid=7)]
    records, calls = followed(*lines, *lines)
    assert [record.get("job_id") for record in records] == ["A", "B", None] * 2
    assert calls.to_cursor() == {"shared": [7], "calls": []}


def test_the_workers_id_goes_with_all_lines_after_it_of_either_stream() -> None:
    records, calls = followed("before", REGISTERED, "text", said("m", pid=9), said("own", worker_id="mine"))
    assert [record.get("worker_id") for record in records] == [None, "AW_1", "AW_1", "AW_1", "mine"]
    other = events_of(["stderr"], stream=2)
    calls = calls.follow(other)
    assert other.records[0]["worker_id"] == "AW_1"
    again, calls = followed("a", said("registered worker", id="AW_2", pid=1), "b", before=calls)
    assert [record["worker_id"] for record in again] == ["AW_1", "AW_2", "AW_2"]
    assert calls.worker == "AW_2"


@pytest.mark.parametrize(
    "line",
    [
        said("registered worker"), said("registered worker", id=5), said("registered worker", id=""),
        said("registered worker", id="x" * 201), said("unregistered worker", id="AW_1"), said("draining", id="AW_1"),
        "registered worker",
    ],
)  # fmt: skip
def test_what_is_no_registration_names_no_worker(line: dict[str, Any] | str) -> None:
    assert followed(line)[1] is Calls.EMPTY


@pytest.mark.parametrize(
    "line",
    [
        said("m", pid=7, job_id=""), said("m", pid=7, job_id="x" * 201), said("m", pid=7, job_id=["A"]),
        said("m", pid=7, job_id=None), said("m", pid=True, job_id="A"), said("m", pid=[7], job_id="A"),
        said("m", pid={"a": 7}, job_id={}), said("m", pid=-7, job_id="A"), said("m", pid=2**63, job_id="A"),
        said("m", pid=7.5, job_id="A"), said("m", job_id="A"), "m",
    ],
)  # fmt: skip
def test_odd_values_teach_nothing_and_raise_nothing(line: dict[str, Any] | str) -> None:
    for around in ([], [said("in", pid=5, **JOB)] * 3):
        records, calls = followed(*around, line, *around, said("after", pid=7))
        assert "job_id" not in records[-1]
        assert calls.to_cursor() == ({"calls": [[5, JOB]]} if around else {})


def test_a_room_is_carried_where_it_is_a_text() -> None:
    records, _ = followed(said("in", pid=7, job_id="A", room=5, room_id="x" * 201), said("library", pid=7))
    assert records[1].keys() & {"job_id", "room", "room_id"} == {"job_id"}


def test_nodes_own_names_are_known_and_its_native_lines_get_the_job() -> None:
    lines = (SAMPLES / "node_job.stdout.log").read_text().split("\n")
    records, calls = followed(*lines)
    native = next(record for record in records if record["message"] == "Connect callback received")
    assert (native["job_id"], native["room_id"]) == ("AJ_fakejob0001", "RM_fakeroom0001")
    mains = [record for record in records if record.get("pid") == 22723 and "job_id" in record]
    assert [record["message"] for record in mains] == ["received job request"]
    assert calls.worker == "AW_fake0000001"


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.stdout.log")), ids=lambda path: path.name)
def test_no_sample_line_gets_a_job_that_is_not_its_own(path: Path) -> None:
    records, _ = followed(*path.read_text().split("\n"))
    owners = {record["pid"]: record["job_id"] for record in records if "job_id" in record and "pid" in record}
    for record in records:
        if "pid" in record and "job_id" in record:
            assert record["job_id"] == owners[record["pid"]]
        if str(record["message"]) in ("starting worker", "registered worker", "draining worker", "job exiting"):
            assert "job_id" not in record


def test_the_oldest_of_too_many_processes_is_forgotten_but_not_the_worker_itself() -> None:
    calls = followed(REGISTERED)[1]
    for pid in range(2, MAX_PROCESSES + 100):
        calls = followed(said("in", pid=pid, job_id=f"AJ_{pid}"), before=calls)[1]
    records, _ = followed(
        said("m", pid=2), said("m", pid=MAX_PROCESSES + 99), said("mine", pid=1, job_id="A"), said("m", pid=1),
        before=calls,
    )  # fmt: skip
    assert [record.get("job_id") for record in records] == [None, f"AJ_{MAX_PROCESSES + 99}", "A", None]


@pytest.mark.parametrize("text", ["é" * 50, "\x00" * 50, "short"])
def test_a_cursor_is_small_and_brings_the_newest_back(text: str) -> None:
    lines = [said("in", pid=pid, job_id=f"{pid}{text}"[:200], room=text) for pid in range(2, 202)]
    calls = followed(said("registered worker", id=text, pid=1), *lines)[1]
    values = calls.to_cursor()
    raw = dump_json(values)
    assert MAX_CURSOR_BYTES * 0.3 < len(raw) <= MAX_CURSOR_BYTES
    back = Calls.from_cursor(orjson.loads(raw))
    assert back.to_cursor() == values
    records, _ = followed(said("m", pid=201), said("mine", pid=1, job_id="A"), said("m", pid=1), before=back)
    assert [record.get("job_id") for record in records] == [f"201{text}"[:200], "A", None]
    assert all(record["worker_id"] == text for record in records)


def test_nothing_known_is_nothing_in_a_cursor() -> None:
    assert Calls.EMPTY.to_cursor() == {}
    assert Calls.from_cursor({}) is Calls.EMPTY


@given(
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=3), st.sampled_from(["job_id", "room"])),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["worker", "shared", "calls", "job_id", "room", "x"]), inner, max_size=3),
        ),
        max_leaves=12,
    )
)
def test_a_cursor_of_any_shape_gives_a_state_or_one_of_three_errors(values: Any) -> None:
    try:
        calls = Calls.from_cursor(values)
    except (KeyError, TypeError, ValueError):
        return
    followed(said("in", pid=7, **JOB), said("m", pid=7), "text", REGISTERED, before=calls)
    assert Calls.from_cursor(calls.to_cursor()).to_cursor() == calls.to_cursor()


LINES = st.one_of(
    st.just("text"),
    st.builds(
        lambda message, more: {"message": message, **more},
        st.sampled_from(
            ["m", "m", "m", "Job process shutdown", "process exited with non-zero exit code 3", "initializing process",
             "registered worker", "received job request"]
        ),
        st.fixed_dictionaries(
            {},
            optional={
                "pid": st.sampled_from([1, 2, 3, None, "1", True, [1]]),
                "job_id": st.sampled_from(["A", "B", None, "", 1]),
                "id": st.sampled_from(["AW_1", "AW_2", 5]),
                "room": st.sampled_from(["r", 5]),
                "level": st.sampled_from(["ERROR", "INFO", "DEBUG"]),
                "tid": st.just(1),
            },
        ),
    ),
)  # fmt: skip


@given(st.lists(LINES, max_size=40), st.lists(st.integers(0, 40), max_size=6), st.booleans())
def test_any_cut_of_the_lines_gives_the_same_events(lines: list[Any], cuts: list[int], restarted: bool) -> None:
    whole = events_of(lines).records
    one = Calls.EMPTY
    for record in whole:  # one by one
        one = one.follow(_alone(record))
    calls = Calls.EMPTY
    parts: list[Record] = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(lines)], strict=True):
        events = events_of(lines[start:end])
        calls = calls.follow(events)
        parts += events.records
        if restarted:
            calls = Calls.from_cursor(orjson.loads(orjson.dumps(calls.to_cursor())))
    if not restarted:
        assert [{**part, "seq": 0} for part in parts] == [{**record, "seq": 0} for record in whole]
    assert calls.worker == one.worker


def _alone(record: Record) -> Events:
    events = events_of([{"message": record["message"]}])
    level = 5 if "exited" in str(record["message"]) else 1
    return Events("stdout", [record], [level], [1], floor_ms=events.floor_ms, ceiling_ms=events.ceiling_ms)
