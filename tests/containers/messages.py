"""What a container printed, and what of it a provider shows: the two sides of a comparison, line by line."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.helpers import is_closing

LOGFMT = re.compile(r'level=\w+ msg="([^"]*)"')


def messages_of(printed: bytes) -> list[str]:
    """What providers show as message of these lines: a JSON line's own, else the line. Empty lines are not sent."""
    found = []
    for line in printed.decode().splitlines():
        if not line.strip() or line.startswith("shipper: "):
            continue
        try:
            fields = json.loads(line)
            found.append(fields["message"] if "message" in fields else fields["msg"])
        except json.JSONDecodeError:  # no JSON, or another process printed in the middle of it
            logfmt = LOGFMT.fullmatch(line)
            found.append(logfmt[1] if logfmt else line)
    return found


def shown(events: list[dict[str, Any]], source: str, stream: str) -> list[str]:
    lines = [event for event in events if not is_closing(event["attributes"])]
    of_it = [event for event in lines if (event["source"], event["stream"]) == (source, stream)]
    return [event["message"] for event in sorted(of_it, key=lambda event: int(event["seq"]))]
