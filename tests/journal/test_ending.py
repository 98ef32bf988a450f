"""How a run's end is put, and how a LiveKit worker that failed is told from its last lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from shipper.journal import ending
from shipper.journal.numbering import STDERR, STDOUT
from tests.journal.journal_model import MIB, writer

PYTHON = (
    b'{"message": "worker failed", "level": "ERROR", "name": "livekit.agents", '
    b'"exc_info": "Traceback (most recent call last):\\nValueError: \xc3\xa9", "pid": 25225}'
)
FAILURES = [
    PYTHON,
    b'{"msg":"worker failed","level":50,"time":1795492208933}',
    b'{"message": "worker failed", "level": "critical"}\r',
    b"2026-11-24 03:55:29,072 - \x1b[31mERROR\x1b[0m livekit.agents - worker failed \x1b[90m{}\x1b[0m",
    b"2026-11-24 03:55:29,072 - ERROR livekit.agents - worker failed",
]
OTHERS = [
    b"worker failed",
    b"",
    b'{"message": "a worker failed", "level": "ERROR"}',
    b'{"message": "worker failed", "level": "INFO"}',
    b'{"message": "worker failed", "level": 30}',
    b'{"message": "worker failed", "level": ["ERROR"]}',
    b'{"message": "worker failed", "level": "ERROR", "name": "my-agent"}',
    b'{"message": "done", "error": "worker failed", "level": "ERROR"}',
    b'["worker failed"]',
    b'{"worker failed": ' + b"[" * 100_000,
    b"2026-11-24 03:55:29,072 - INFO livekit.agents - worker failed",
    b"2026-11-24 03:55:29,072 - ERROR livekit.agents - worker failed_over",
    b"ERROR \xff\xfe worker failed",
]


@pytest.mark.parametrize(
    ("line", "failed"), [*((line, True) for line in FAILURES), *((line, False) for line in OTHERS)]
)
def test_a_failed_worker_s_line_is_told_from_others(line: bytes, failed: bool) -> None:
    assert ending.is_failure(line) is failed


@pytest.mark.parametrize("cut", [1, 15, 60, len(PYTHON)])
@pytest.mark.parametrize("stream", [STDOUT, STDERR])
def test_it_is_found_wherever_reads_have_cut_it(tmp_path: Path, cut: int, stream: int) -> None:
    run = writer(str(tmp_path), max_line=1 << 18)
    run.append([(stream, 1, 1, b"first\n" + PYTHON[:cut]), (3 - stream, 1, 1, b"of the other\n")])
    run.append([(stream, 1, 1, PYTHON[cut:] + b"\nafter it\n")])
    assert run.failure() == "worker failed"


def test_it_is_looked_for_at_the_end_and_over_a_change_of_segments(tmp_path: Path) -> None:
    run = writer(str(tmp_path), max_line=1 << 18, max_bytes=4 * MIB)
    run.append([(STDOUT, 1, 1, PYTHON + b"\n")])
    assert run.failure() == "worker failed"
    while len(list(Path(run.path).glob("*.seg"))) == 1:
        run.append([(STDOUT, 1, 1, b"." * 15_000 + b"\n")])
    run.append([(STDERR, 1, 1, PYTHON + b"\n")])
    assert run.failure() == "worker failed"
    first = Path(run.path) / "0000000001.seg"
    first.write_bytes(first.read_bytes() + b"torn")
    run.append([(STDOUT, 1, 1, b"." * 15_000 + b"\n")])
    assert run.failure() == "worker failed"
    run.append([(STDOUT, 1, 1, b"." * 60_000 + b"\n")] * 5)
    assert run.failure() is None  # more than 256 KiB ago: something else ended it


def test_without_such_a_line_or_without_a_journal_nothing_is_said(tmp_path: Path) -> None:
    run = writer(str(tmp_path))
    assert run.failure() is None
    run.append([(STDOUT, 1, 1, b"fine\n")])
    assert run.failure() is None
    for path in Path(run.path).glob("*.seg"):
        path.write_bytes(os.urandom(1000))
        assert run.failure() is None
        path.unlink()
    assert run.failure() is None


@pytest.mark.parametrize(
    ("end", "trouble", "words"),
    [
        ({"exit_status": 0}, False, "the agent ended with status 0"),
        ({"exit_status": 0, "asked": True}, False, "the agent ended with status 0, as it was asked to end"),
        ({"exit_status": 1}, True, "the agent ended with status 1"),
        ({"exit_status": 1, "asked": True}, False, "the agent ended with status 1, as it was asked to end"),
        ({"signal": 15, "asked": True}, False, "the agent was ended by signal 15, as it was asked to end"),
        ({"signal": 15}, True, "the agent was ended by signal 15"),
        ({"signal": 11, "asked": True}, True, "the agent was ended by signal 11, after it was asked to end"),
        (
            {"signal": 9, "oom": True, "limit": 64 * MIB},
            True,
            "the agent was ended by signal 9, out of memory (limit 64 MiB)",
        ),
        ({"signal": 9, "oom": True}, True, "the agent was ended by signal 9, out of memory"),
        (
            {"exit_status": 0, "failed": "worker failed"},
            True,
            "the agent ended with status 0, but it had failed: its worker logged 'worker failed'",
        ),
        (
            {},
            True,
            "how the agent ended is not known: it was killed, as a rule with its whole container or machine",
        ),
    ],
)
def test_an_end_in_words_and_whether_it_is_trouble(end: dict[str, Any], trouble: bool, words: str) -> None:
    assert ending.is_trouble(end) is trouble
    assert ending.in_words(end) == words
