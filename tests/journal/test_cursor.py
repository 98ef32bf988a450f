"""Cursors: the newest whole slot counts, whatever a kill left of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shipper.journal.cursor import SLOT_BYTES, CursorFile

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_committed_last_is_read_back(tmp_path: Path) -> None:
    cursor = CursorFile(str(tmp_path), "datadog")
    assert cursor.values is None
    values = None
    for seq in range(1, 6):
        cursor.commit({"streams": {"1": [1, 60, seq], "2": [1, 60, 1]}})
        values = CursorFile.read(str(tmp_path), "datadog")
        assert values is not None
        assert values["streams"]["1"] == [1, 60, seq]
    cursor.close()
    assert CursorFile(str(tmp_path), "datadog").values == values


def test_a_commit_torn_at_any_byte_leaves_the_one_before(tmp_path: Path) -> None:
    cursor = CursorFile(str(tmp_path), "datadog")
    cursor.commit({"n": 1})
    old = (tmp_path / "cursor-datadog").read_bytes()
    cursor.commit({"n": 2})
    new = (tmp_path / "cursor-datadog").read_bytes()
    old = old.ljust(len(new), b"\0")
    changed = [index for index in range(len(new)) if old[index] != new[index]]
    for cut in range(changed[0], changed[-1] + 1):
        (tmp_path / "cursor-datadog").write_bytes(new[:cut] + old[cut:])
        assert CursorFile.read(str(tmp_path), "datadog") == {"n": 1}
    (tmp_path / "cursor-datadog").write_bytes(new)
    assert CursorFile.read(str(tmp_path), "datadog") == {"n": 2}


def test_a_slot_that_is_half_old_and_half_new_is_no_cursor(tmp_path: Path) -> None:
    cursor = CursorFile(str(tmp_path), "datadog")
    path = tmp_path / "cursor-datadog"
    cursor.commit({"a": 11, "b": 11})
    cursor.commit({"a": 22, "b": 22})
    old = path.read_bytes()
    cursor.commit({"a": 33, "b": 33})  # over the first one, byte by byte alike but for the digits
    new = path.read_bytes()
    changed = [index for index in range(len(new)) if old[index] != new[index]]
    for cut in range(changed[0], changed[-1] + 1):
        path.write_bytes(new[:cut] + old[cut:])
        assert CursorFile.read(str(tmp_path), "datadog") == {"a": 22, "b": 22}


def test_a_commit_after_a_torn_one_goes_over_the_torn_slot(tmp_path: Path) -> None:
    cursor = CursorFile(str(tmp_path), "datadog")
    cursor.commit({"n": 1})
    cursor.commit({"n": 2})
    cursor.close()
    path = tmp_path / "cursor-datadog"
    content = bytearray(path.read_bytes())
    content[20] ^= 0xFF  # generation 2 lies in the first slot
    path.write_bytes(content)
    again = CursorFile(str(tmp_path), "datadog")
    assert again.values == {"n": 1}
    again.commit({"n": 3})
    assert CursorFile.read(str(tmp_path), "datadog") == {"n": 3}


def test_garbage_and_nothing_are_no_cursor(tmp_path: Path) -> None:
    assert CursorFile.read(str(tmp_path), "datadog") is None
    (tmp_path / "cursor-datadog").write_bytes(b"\xff" * (2 * SLOT_BYTES))
    assert CursorFile.read(str(tmp_path), "datadog") is None


def test_values_that_do_not_fit_a_slot_are_refused(tmp_path: Path) -> None:
    cursor = CursorFile(str(tmp_path), "datadog")
    with pytest.raises(ValueError, match="slot"):
        cursor.commit({"n": "x" * SLOT_BYTES})
