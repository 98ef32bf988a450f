"""Every level's name and number lands where it belongs on the one scale."""

from __future__ import annotations

import pytest

from shipper.lines.levels import EXACT, LEVELS, level_of


@pytest.mark.parametrize(
    ("value", "level"),
    [
        ("TRACE", "trace"), ("debug", "debug"), ("DEV", "debug"), ("Verbose", "debug"), ("INFO", "info"),
        ("Information", "info"), ("DEFAULT", "info"), ("notice", "notice"), ("WARN", "warning"), ("Warning", "warning"),
        (" error ", "error"), ("ERR", "error"), ("SEVERE", "error"), ("fatal", "critical"), ("dPanic", "critical"),
        ("CRITICAL", "critical"), ("alert", "alert"), ("EMERGENCY", "emergency"),
        (10, "trace"), (20, "debug"), (30, "info"), (40, "warning"), (50, "error"), (60, "critical"),
        (35, "info"), (69, "critical"), (30.0, "info"),
        ("WARN+1", "warning"), ("DEBUG-4", "debug"), ("ERROR+12", "error"), ("TRC", "trace"), ("FTL", "critical"),
    ],
)  # fmt: skip
def test_a_level_is_known_by_its_name_or_number(value: object, level: str) -> None:
    known = level_of(value)
    assert known is not None
    assert LEVELS[known] == level


@pytest.mark.parametrize(
    "value", ["", "ok", "connected", "200", "INFO+", "+2", 200, 0, 9, 70, -10, True, None, [], {}, "x" * 9999, 1e300]
)
def test_what_is_no_level_is_none(value: object) -> None:
    assert level_of(value) is None


def test_the_table_for_one_look_up_says_the_same() -> None:
    assert {value: level_of(value) for value in EXACT} == EXACT
