"""Reading /proc."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from shipper.supervisor.processes import (
    Process,
    children,
    cpu_seconds,
    descendants,
    holders,
    look,
    parse_stat,
    table,
)


@pytest.mark.parametrize("name", ["cat", "a b", ") R 1 1", "(x) (y", "\udcff", ""])
def test_a_process_name_may_hold_anything(name: str) -> None:
    process = parse_stat(f"12 ({name}) T 3 4 5 6".encode(errors="surrogateescape"))
    assert process is not None
    assert (process.pid, process.state, process.parent, process.group) == (12, "T", 3, 4)


@pytest.mark.parametrize("data", [b"", b"12", b"12 (cat)", b"12 (cat) R", b"12 (cat) R x y"])
def test_what_is_no_such_line_is_nothing(data: bytes) -> None:
    assert parse_stat(data) is None


def test_descendants_are_found_at_any_depth_and_without_the_workers() -> None:
    parents = {2: 1, 3: 1, 4: 2, 5: 4, 6: 3, 7: 0}
    processes = {pid: Process(pid, "S", parent, 1) for pid, parent in parents.items()}
    assert sorted(child.pid for child in children(processes, 1)) == [2, 3]
    assert sorted(descendants(processes, 1)) == [2, 3, 4, 5, 6]
    assert sorted(descendants(processes, 1, without=[3])) == [2, 4, 5]


def test_holders_of_a_pipe_are_found() -> None:
    read_end, write_end = os.pipe()
    with subprocess.Popen(["sleep", "30"], stdout=write_end) as holder, subprocess.Popen(["sleep", "30"]) as other:
        try:
            pipe = f"pipe:[{os.fstat(read_end).st_ino}]"
            assert {holder.pid, other.pid} <= set(descendants(table(), os.getpid()))
            assert holders([holder.pid, other.pid, 2**22 + 1], [pipe]) == [holder.pid]
        finally:
            holder.kill()
            other.kill()
    os.close(read_end)
    os.close(write_end)
    assert look(2**22 + 1) is None


def test_cpu_time_is_that_of_all_threads() -> None:
    before, own = cpu_seconds(os.getpid()), time.process_time()
    assert before is not None
    assert abs(before - own) < 0.5
    while time.process_time() < own + 0.1:
        pass
    after = cpu_seconds(os.getpid())
    assert after is not None
    assert after > before
    assert cpu_seconds(2**22 + 1) is None
