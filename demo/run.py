"""The demo: the sandbox, an agent under the wrapper, all sinks on, and at the end a table that has to come out even.

`make demo` runs it. Ctrl-C ends it as it would end a container, DEMO_SECONDS=N does so by itself; DEMO_PORT chooses the
sandbox's port (8080, else the next free one). Exit status 1 when a line is unaccounted for
at a provider.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from shipper.config.registry import REGISTRY
from shipper.journal.numbering import STREAM_NAMES
from shipper.journal.reader import Gap, Lines, RunReader, State
from shipper.journal.runs import list_runs

HERE = Path(__file__).resolve().parent
SHIPPER = [sys.executable, "-P", "-m", "shipper"]
STREAMS = STREAM_NAMES[1:]
START_TIMEOUT = 30.0  # seconds; a cold import of aiohttp on a small machine takes some of them
OWNED = ("SHIPPER_", "DATADOG_", "AWS_", "SENTRY_", "NEW_RELIC_")  # whoever runs the demo may have real ones set
COLUMNS = ("lines", "requests", "bytes", "gzipped", "refused", "missing", "repeats", "last")

Summary = dict[str, Any]
"""What the sandbox says of one provider, or of one stream there."""


def main() -> int:
    seconds = number("DEMO_SECONDS", float, 86_400)
    port = number("DEMO_PORT", int, 65_535)
    directory = tempfile.mkdtemp(prefix="shipper-demo-")
    sandbox: subprocess.Popen[bytes] | None = None
    try:
        sandbox, url = start_sandbox(free_port(port), directory)
        print(f"A sandbox stands here for {titles()}.")
        print(f"What arrives is shown at {url}/ ; Ctrl-C ends the demo.\n", flush=True)
        settings: dict[str, dict[str, str]] = get(f"{url}/sandbox/summary")["settings"]
        status = run_agent([settings[entry.name] for entry in REGISTRY], directory, seconds)
        captured, blank = journalled(f"{directory}/journal")
        providers: dict[str, Summary] = get(f"{url}/sandbox/summary")["providers"]
        last_words = {name: closing_event(url, name) for name in providers}
    finally:
        if sandbox is not None:
            sandbox.terminate()
            sandbox.wait()
        shutil.rmtree(directory, ignore_errors=True)
    # a blank line within a traceback is sent as a part of it: how many are, the providers were told
    empty = {name: int(said.get("filtered", blank)) for name, said in last_words.items()}
    print(f"\n\n{rendered(captured, max(empty.values()), providers)}\n")
    if status != 0:
        raise SystemExit(f"demo: the agent ends with 0, the wrapper ended with {status}.")
    if not captured:
        raise SystemExit("demo: nothing was captured.")
    for name, provider in providers.items():
        if empty[name] > blank:
            raise SystemExit(f"demo: {provider['title']} was told of {empty[name]} empty lines, there are {blank}.")
        left = captured.total() - empty[name] - arrived(provider) - announced(provider)
        if left:
            raise SystemExit(
                f"demo: it does not come out even: {provider['title']} has {abs(left)} "
                f"{'too few, and nothing says why' if left > 0 else 'more than were printed'}."
            )
    for name, provider in providers.items():
        said = last_words[name]
        if (said.get("captured"), said.get("delivered")) != (captured.total(), arrived(provider)):
            raise SystemExit(f"demo: the last event that {provider['title']} got says otherwise: {said}.")
    print("The last event that each provider got says the same, and how the agent ended.")
    if any(announced(provider) or provider["repeats"] for provider in providers.values()):
        print("captured = lines + empty + announced as lost, at each provider: it comes out even.")
    else:
        print("captured = lines + empty: each provider has each line exactly once.")
    return 0


def titles() -> str:
    names = [entry.title for entry in REGISTRY]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def number(name: str, kind: type[float], most: int) -> float | None:
    """The variable as a number above 0; None when it is not set."""
    text = os.environ.get(name, "")
    if not text:
        return None
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not 0 < value <= most:
        raise SystemExit(f"demo: {name}={text} is no number above 0 and up to {most}.")
    return value


def free_port(wanted: float | None) -> int:
    """`wanted`, or the first free one from 8080 on."""
    for port in range(8080, 8180) if wanted is None else [int(wanted)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SystemExit(f"demo: port {int(wanted)} is taken." if wanted else "demo: no port from 8080 to 8179 is free.")


def start_sandbox(port: int, directory: str) -> tuple[subprocess.Popen[bytes], str]:
    """The sandbox, ready to take requests, and its URL."""
    url = f"http://127.0.0.1:{port}"
    with open(f"{directory}/sandbox.log", "wb") as log:
        # A session of its own: Ctrl-C is meant for the wrapper, and the sandbox must outlive that.
        command = [*SHIPPER, "sandbox", "--port", str(port)]
        sandbox = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            get(f"{url}/sandbox/summary")
            return sandbox, url
        except OSError:
            if sandbox.poll() is not None or time.monotonic() > deadline:
                sandbox.kill()
                sandbox.wait()
                said = Path(directory, "sandbox.log").read_text(errors="replace")
                raise SystemExit(f"demo: the sandbox did not start: {said}") from None
        time.sleep(0.05)


def run_agent(settings: list[dict[str, str]], directory: str, seconds: float | None) -> int:
    """The demo agent under the wrapper, in the foreground, until somebody or `seconds` ends it; the exit status.

    `settings` are a sink's variables each.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OWNED)}
    for variables in settings:
        environment |= variables
    environment |= {"SHIPPER_DIR": f"{directory}/journal", "NO_PROXY": "127.0.0.1"}
    stopped_early = False
    wrapper: subprocess.Popen[bytes] | None = None

    def stop(received: int, _: object) -> None:
        # The terminal sends Ctrl-C to the wrapper as well; everything else reaches only this process.
        nonlocal stopped_early
        stopped_early = True
        if wrapper is not None and not (received == signal.SIGINT and sys.stdin.isatty()):
            wrapper.send_signal(signal.SIGTERM)

    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, stop)
    wrapper = subprocess.Popen([*SHIPPER, "run", "--", sys.executable, str(HERE / "agent.py")], env=environment)
    if stopped_early:
        wrapper.send_signal(signal.SIGTERM)
    try:
        return wrapper.wait(seconds)
    except subprocess.TimeoutExpired:
        wrapper.send_signal(signal.SIGTERM)
        return wrapper.wait()


def journalled(directory: str) -> tuple[Counter[str], int]:
    """How many lines the journal there holds of each stream, and how many of all are blank."""
    captured: Counter[str] = Counter()
    blank = 0
    for run in list_runs(directory):
        reader, state, at_end = RunReader(run), State.start(), False
        while not at_end:
            window, state = reader.read(state, dead=True)
            at_end = window.at_end
            for item in window.items:
                if isinstance(item, Lines):
                    captured[STREAM_NAMES[item.stream]] += len(item.lines)
                    blank += sum(not line.strip() for line in item.lines)
                elif isinstance(item, Gap):
                    captured[STREAM_NAMES[item.stream]] += item.last_seq - item.first_seq + 1
        reader.close()
    return captured, blank


def arrived(provider: Summary) -> int:
    """Lines that it has, each counted once."""
    lines: int = provider["lines"] - provider["repeats"]
    return lines


def closing_event(url: str, name: str) -> dict[str, Any]:
    """What the last event there says, which is our own."""
    events = get(f"{url}/sandbox/events?provider={name}&newest=1&limit=1")["events"]
    return events[0]["attributes"] if events else {}


def announced(provider: Summary) -> int:
    """Lines of which it was told that they are lost."""
    return sum(last - first + 1 for stream in provider["streams"] for first, last in stream["announced"])


def rendered(captured: Counter[str], empty: int, providers: dict[str, Summary]) -> str:
    """At most 80 columns."""
    of = ", ".join(f"{captured[stream]:,} on {stream}" for stream in STREAMS)
    lines = [
        f"captured         {captured.total():>9,} lines: {of}",
        f"empty, not sent  {empty:>9,}",
        "",
        row("", *COLUMNS),
    ]
    for entry in REGISTRY:
        provider = providers[entry.name]
        numbers = [arrived(provider), *(provider[of] for of in ("requests", "bytes", "wire_bytes"))]
        numbers += [provider[of] for of in ("refused", "missing", "repeats")]
        last = time.strftime("%H:%M:%S", time.localtime(provider["last_ms"] / 1000)) if provider["last_ms"] else "never"
        lines.append(row(provider["title"], *(f"{value:,}" for value in numbers), last))
    for provider in providers.values():
        for why, count in provider["refused_why"].items():
            if "ResourceNotFoundException" in why:
                why = "the log group is not there; so the sink learns that it has to make it"
            lines += textwrap.wrap(f"{provider['title']} refused {count:,}: {why}", 80)
    return "\n".join(lines)


def row(title: str, *cells: str) -> str:
    widths = (8, 9, 10, 9, 8, 8, 8, 9)
    return f"{title:10}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def get(url: str) -> Any:
    """The JSON there; past any proxy, it is on this machine. Raises OSError."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main())
