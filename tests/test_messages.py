"""Messages on stderr: from a process of its own, whose stderr is a real pipe that is read, full or closed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def running(code: str, stderr: int) -> Iterator[subprocess.Popen[bytes]]:
    program = f"import os, sys, time; sys.path.append({str(ROOT)!r}); from shipper.messages import flush, say\n{code}"
    command = [sys.executable, "-I", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()


def full_pipe() -> tuple[int, int, int]:
    """Read end, write end, and how many bytes are in it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    return reader, writer, filled


def read_all(reader: int) -> bytes:
    with open(reader, "rb") as file:
        return file.read()


def said(code: str) -> bytes:
    reader, writer = os.pipe()
    with running(code, writer) as process:
        os.close(writer)
        data = read_all(reader)
        assert process.wait(10) == 0
    return data


def test_a_message_is_one_line_with_the_prefix() -> None:
    assert said("say('the journal is full')") == b"shipper: the journal is full\n"


def test_line_breaks_in_a_message_become_spaces() -> None:
    assert said(r"say('one\ntwo\r\nthree\n')") == b"shipper: one two three\n"


def test_text_that_is_no_utf_8_is_still_said() -> None:
    assert said(r"say('bad \udcff byte \u00fc')") == "shipper: bad ? byte ü\n".encode()


def test_a_message_longer_than_a_pipe_takes_at_once_arrives_whole() -> None:
    assert said("say('y' * 200_000); flush(10)") == b"shipper: " + b"y" * 200_000 + b"\n"


def test_messages_stay_in_order_when_a_long_one_is_among_them() -> None:
    lines = said("say('a'); say('b' * 100_000); say('c'); flush(10)").split(b"\n")
    assert [line[9:10] for line in lines] == [b"a", b"b", b"c", b""]


def test_a_full_stderr_holds_up_nobody_and_gets_its_messages_when_it_is_read_again() -> None:
    reader, writer, filled = full_pipe()
    code = "\n".join(
        (
            "begin = time.monotonic()",
            "for i in range(5): say(f'message {i}')",
            "flush(0.05)",
            "print(time.monotonic() - begin, flush=True)",
            "sys.stdin.read()",
            "flush(10)",
        )
    )
    with running(code, writer) as process:
        os.close(writer)
        assert process.stdout is not None
        assert process.stdin is not None
        assert float(process.stdout.readline()) < 1.0
        process.stdin.close()
        data = read_all(reader)
        assert process.wait(10) == 0
    assert data[filled:].decode().splitlines() == [f"shipper: message {i}" for i in range(5)]


def test_what_exceeds_the_bound_is_left_out_and_counted_in_the_next_message() -> None:
    reader, writer, filled = full_pipe()
    code = "\n".join(
        (
            "for i in range(130): say(f'message {i}')",
            "print('said', flush=True)",
            "sys.stdin.read()",
            "flush(10)",
            "say('after')",
            "say('later')",
            "flush(10)",
        )
    )
    with running(code, writer) as process:
        os.close(writer)
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"said\n"
        process.stdin.close()
        lines = read_all(reader)[filled:].decode().splitlines()
        assert process.wait(10) == 0
    assert lines == [
        *(f"shipper: message {i}" for i in range(100)),
        "shipper: after (messages left out before this one: 30)",
        "shipper: later",
    ]


def test_a_closed_stderr_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with running("say('nobody hears'); os.close(2); say('nor this'); say('z' * 9000); flush(10)", writer) as process:
        os.close(writer)
        assert process.wait(10) == 0


def test_a_reader_that_goes_away_frees_the_thread_that_waits_for_it() -> None:
    reader, writer, _ = full_pipe()
    with running("say('stuck'); print('said', flush=True); flush(20); print('done', flush=True)", writer) as process:
        os.close(writer)
        assert process.stdout is not None
        assert process.stdout.readline() == b"said\n"
        os.close(reader)
        assert process.stdout.readline() == b"done\n"
        assert process.wait(10) == 0


def test_a_non_blocking_stderr_gets_everything() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with running("say('q' * 300_000); say('end'); flush(10)", writer) as process:
        os.close(writer)
        data = read_all(reader)
        assert process.wait(10) == 0
    assert data == b"shipper: " + b"q" * 300_000 + b"\nshipper: end\n"


def test_flush_returns_at_once_when_nothing_waits_and_in_time_when_something_does() -> None:
    reader, writer, _ = full_pipe()
    code = "\n".join(
        (
            "begin = time.monotonic(); flush(30); print(time.monotonic() - begin, flush=True)",
            "say('stuck')",
            "begin = time.monotonic(); flush(0.2); print(time.monotonic() - begin, flush=True)",
            "os._exit(0)",
        )
    )
    with running(code, writer) as process:
        os.close(writer)
        assert process.stdout is not None
        assert float(process.stdout.readline()) < 1.0
        assert 0.15 < float(process.stdout.readline()) < 5.0
        assert process.wait(10) == 0
    os.close(reader)
