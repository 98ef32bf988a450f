"""`make demo` keeps its word: what the agent printed comes out even, whoever ends it."""

from __future__ import annotations

import datetime
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shipper.config.registry import REGISTRY

ROOT = Path(__file__).resolve().parent.parent
DEMO = [sys.executable, "demo/run.py"]
LAST_WORDS = "the demo agent's last words, and no newline after them"
EVEN = "captured = lines + empty: each provider has each line exactly once."
TITLES = [entry.title for entry in REGISTRY]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}


def assert_even(text: str) -> None:
    assert text.count(LAST_WORDS) == 1
    assert text.rstrip().endswith(EVEN)
    assert "The last event that each provider got says the same, and how the agent ended.\n" in text
    captured, empty = (
        number(re.findall(rf"^{row} +([\d,]+)", text, re.MULTILINE)[0]) for row in ("captured", "empty, not sent")
    )
    table = text[text.rindex("\ncaptured  ") :]
    assert max(map(len, table.split("\n"))) <= 80
    (header,) = re.findall(r"^ +lines +requests .*$", table, re.MULTILINE)
    columns = header.split()
    rows = dict(re.findall(rf"^({'|'.join(TITLES)}) +([\d,]+ .*)$", table, re.MULTILINE))
    assert list(rows) == TITLES
    for title, cells in rows.items():
        row = dict(zip(columns, cells.split(), strict=True))
        assert number(row["lines"]) == captured - empty > 0
        assert (row["missing"], row["repeats"]) == ("0", "0")
        assert number(row["requests"]) > 0
        assert 0 < number(row["gzipped"]) < number(row["bytes"])
        assert re.fullmatch(r"\d\d:\d\d:\d\d", row["last"])
        # CloudWatch says that the group is not there yet, which is how the sink learns it, and has it made.
        assert row["refused"] == ("1" if title == "CloudWatch" else "0")


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_it_ends_by_itself_and_comes_out_even(environment: dict[str, str], tmp_path: Path) -> None:
    environment["DEMO_SECONDS"] = "2"
    done = subprocess.run(
        DEMO, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_even(done.stdout)
    assert re.match(
        r"A sandbox stands here for Datadog, CloudWatch, Sentry and New Relic\.\n"
        r"What arrives is shown at http://127\.0\.0\.1:\d+/ ",
        done.stdout,
    )
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_on_its_terminal_ends_it_the_same_way(environment: dict[str, str]) -> None:
    ours, its = pty.openpty()
    # setsid --ctty: the demo leads the terminal's foreground group, as it would under a shell.
    demo = subprocess.Popen(["setsid", "--ctty", *DEMO], cwd=ROOT, env=environment, stdin=its, stdout=its, stderr=its)
    os.close(its)
    seen = b""
    try:
        while data := read(ours):
            seen += data
            if b"starting worker" in seen:  # the agent is there
                break
        os.write(ours, b"\x03")
        while data := read(ours):
            seen += data
        assert demo.wait(60) == 0, seen.decode()
    finally:
        demo.terminate()
        demo.wait(60)
        os.close(ours)
    text = seen.decode().replace("\r\n", "\n")
    assert text.count("shutting down worker after SIGINT") == 1
    assert_even(text)


def read(terminal: int) -> bytes:
    """What there is to read; empty when nobody has the other end any more."""
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO
        return b""


@pytest.mark.parametrize(("name", "value"), [("DEMO_SECONDS", "soon"), ("DEMO_SECONDS", "nan"), ("DEMO_PORT", "99999")])
def test_a_wrong_number_is_named(environment: dict[str, str], name: str, value: str) -> None:
    environment[name] = value
    done = subprocess.run(DEMO, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"demo: {name}={value} is no number")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        (b'{"timestamp": "2026-11-24T03:55:31+00:00"}', b'{"timestamp": "2027-01-02T03:04:05.678901+00:00"}'),
        (b'{"level":20,"time":1795492207080,"pid":1}', b'{"level":20,"time":1798859045678,"pid":1}'),
        (b"2026-11-24 03:55:29,071 - \x1b[36mDEBUG", b"2027-01-02 03:04:05,678 - \x1b[36mDEBUG"),
        (b"raw print at 2026-11-24 03:55:29,071", b"raw print at 2026-11-24 03:55:29,071"),
    ],
)
def test_the_agent_moves_a_line_s_time_and_nothing_else(line: bytes, moved: bytes) -> None:
    from demo.agent import restamped

    now = datetime.datetime(2027, 1, 2, 3, 4, 5, 678901, datetime.UTC)
    assert restamped(line, now) == moved
