"""How a run ended: in words, and what a worker's last lines say of it. Standard library only, as all of the journal.

The run's end marker holds, as the supervisor wrote it (nothing of it stands for: how the agent ended is not known):

    exit_status or signal   the agent's own
    asked                   a TERM, INT or QUIT had come before, or a HUP that it ended by
    oom, limit              ended for lack of memory; the container's limit in bytes, where there is one
    failed                  what a LiveKit worker had logged that then ended with status 0
"""

from __future__ import annotations

import os

from shipper.journal.facts import load_json
from shipper.journal.frames import DATA, scan
from shipper.journal.notes import memory_in_words
from shipper.journal.runs import READ, list_segments, segment_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from shipper.journal.notes import Note

ASKING = (1, 2, 3, 15)  # HUP, INT, QUIT, TERM: an agent that was sent one of them may well be ended by it
MIB = 1 << 20

# A LiveKit worker in Python ends with status 0 when it cannot go on (no LIVEKIT_URL, retries used up), and says so in
# one line; in Node it ends with 1. What follows that line is little: job processes that say good-bye.
FAILURE = "worker failed"
LOGGER = "livekit.agents"
TAIL_BYTES = 256 << 10


def is_trouble(end: Mapping[str, Any]) -> bool:
    """Whether somebody should know of it: anything but a status of 0 and what was asked for."""
    if end.get("oom") or end.get("failed"):
        return True
    if "signal" in end:
        return not end.get("asked") or end["signal"] not in ASKING
    return "exit_status" not in end or (end["exit_status"] != 0 and not end.get("asked"))


def is_crash(end: Mapping[str, Any]) -> bool:
    """Whether the agent ended unasked, as it should not, and that is known."""
    return is_trouble(end) and not end.get("asked") and ("signal" in end or "exit_status" in end)


def signal_name(number: object) -> str:
    """SIGSEGV for 11; whatever is no signal's number under itself."""
    import signal  # brings enum, 0.6 MB, which PID 1 does without

    try:
        return signal.Signals(number).name  # type: ignore[arg-type]
    except ValueError:
        return f"signal {number}"


def in_words(end: Mapping[str, Any], note: Note | None = None) -> str:
    """One sentence without its full stop; ``note`` is used where the end is not known."""
    if "signal" in end:
        text = f"the agent was ended by signal {end['signal']}"
    elif "exit_status" in end:
        text = f"the agent ended with status {end['exit_status']}"
    else:
        text = "how the agent ended is not known: it was killed, as a rule with its whole container or machine"
        memory = memory_in_words(note).rstrip(".") if note is not None else ""
        return f"{text}.{memory}" if memory else text
    if end.get("oom"):
        text += ", out of memory"
        if "limit" in end:
            text += f" (limit {end['limit'] / MIB:.0f} MiB)"
    if end.get("asked"):
        text += f", {'after' if is_trouble(end) else 'as'} it was asked to end"
    if end.get("failed"):
        text += f", but it had failed: its worker logged '{end['failed']}'"
    return text


def failure(run: str) -> str | None:
    """What the LiveKit worker of the run at that path logged among its last lines, when it had failed. Raises OSError.

    Reads the end of the journal, at most `TAIL_BYTES` of its last two segments.
    """
    segments = list_segments(run)
    tail: dict[int, list[bytes]] = {}
    left = TAIL_BYTES
    for index in reversed(segments[-2:]):
        with open(os.open(segment_path(run, index), READ), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - left))
            chunk = file.read(left)
        left -= len(chunk)
        payloads: dict[int, list[bytes]] = {}
        for frame in scan(chunk):
            if frame.kind == DATA:
                payloads.setdefault(frame.stream, []).append(frame.payload)
        tail = {stream: payloads.get(stream, []) + tail.get(stream, []) for stream in {*payloads, *tail}}
        if left <= 0:
            break
    for parts in tail.values():
        text = b"".join(parts)
        if FAILURE.encode() in text and any(is_failure(line) for line in text.split(b"\n")):
            return FAILURE
    return None


def is_failure(line: bytes) -> bool:
    """Whether it is the line with which a LiveKit worker says that it cannot go on, as JSON or as text."""
    if FAILURE.encode() not in line:
        return False
    try:
        values = load_json(line.strip())
    except (ValueError, RecursionError):
        # 2026-11-24 03:55:29,072 - ESC[31mERRORESC[0m livekit.agents - worker failed ESC[90m{…
        head, found, rest = line.partition(f" {LOGGER} - {FAILURE}".encode())
        return bool(found) and b"ERROR" in head and rest[:1] in (b"", b" ", b"\x1b", b"\r")
    if FAILURE not in (values.get("message"), values.get("msg")):
        return False
    level = values.get("level", "error")
    loud = level.upper() in ("ERROR", "CRITICAL", "FATAL") if isinstance(level, str) else level in (50, 60)
    return loud and values.get("name", LOGGER) == LOGGER
