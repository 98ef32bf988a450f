"""The demo: the sandbox, an agent under the wrapper, and at the end a table that has to come out even.

`make demo` runs it. Ctrl-C ends it as it would end a container, DEMO_SECONDS=N does so by itself; DEMO_PORT chooses the
sandbox's port (8080, else the next free one). Exit status 1 when a line is unaccounted for.
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
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from shipper.journal.numbering import STREAM_NAMES
from shipper.journal.reader import Gap, Lines, RunReader, State
from shipper.journal.runs import list_runs

HERE = Path(__file__).resolve().parent
SHIPPER = [sys.executable, "-P", "-m", "shipper"]
TOKEN = "pub" + "0123456789abcdef" * 2  # made up, in the form of a client token
STREAMS = STREAM_NAMES[1:]
START_TIMEOUT = 30.0  # seconds; a cold import of aiohttp on a small machine takes some of them

Table = dict[str, Counter[str]]
"""What became of the lines → stream → how many."""


def main() -> int:
    seconds = number("DEMO_SECONDS", float, 86_400)
    port = number("DEMO_PORT", int, 65_535)
    directory = tempfile.mkdtemp(prefix="shipper-demo-")
    sandbox: subprocess.Popen[bytes] | None = None
    try:
        sandbox, url = start_sandbox(free_port(port), directory)
        print(f"What arrives is shown at {url}/ ; Ctrl-C ends the demo.\n", flush=True)
        status = run_agent(url, directory, seconds)
        table = ledger(directory, f"{url}/sandbox/summary")
    finally:
        if sandbox is not None:
            sandbox.terminate()
            sandbox.wait()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"\n\n{rendered(table)}\n")
    if status != 0:
        raise SystemExit(f"demo: the agent ends with 0, the wrapper ended with {status}.")
    left = table["captured"] - table["delivered"] - table["empty, not sent"] - table["dropped"]
    if left or table["delivered"].total() > table["captured"].total():
        raise SystemExit("demo: it does not come out even: some line was neither delivered nor counted as dropped.")
    if not table["captured"]:
        raise SystemExit("demo: nothing was captured.")
    print("captured = delivered + empty + dropped: it comes out even.")
    return 0


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


def run_agent(url: str, directory: str, seconds: float | None) -> int:
    """The demo agent under the wrapper, in the foreground, until somebody or `seconds` ends it; the exit status."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SHIPPER_", "DATADOG_"))}
    environment |= {
        "DATADOG_TOKEN": TOKEN,
        "SHIPPER_DATADOG_URL": url,
        "SHIPPER_DIR": f"{directory}/journal",
        "NO_PROXY": "127.0.0.1",
    }
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


def ledger(directory: str, summary: str) -> Table:
    """What the journal holds against what the sandbox got."""
    table: Table = {row: Counter() for row in ("captured", "delivered", "empty, not sent", "dropped")}
    for run in list_runs(f"{directory}/journal"):
        reader, state, at_end = RunReader(run), State.start(), False
        while not at_end:
            window, state = reader.read(state, dead=True)
            at_end = window.at_end
            for item in window.items:
                if isinstance(item, Lines):
                    table["captured"][STREAM_NAMES[item.stream]] += len(item.lines)
                    table["empty, not sent"][STREAM_NAMES[item.stream]] += sum(not line.strip() for line in item.lines)
                elif isinstance(item, Gap):
                    table["captured"][STREAM_NAMES[item.stream]] += item.last_seq - item.first_seq + 1
        reader.close()
    for stream in get(summary)["providers"]["datadog"]["streams"]:
        table["delivered"][stream["stream"]] += stream["lines"] - stream["repeats"]
        table["dropped"][stream["stream"]] += sum(last - first + 1 for first, last in stream["announced"])
    return table


def rendered(table: Table) -> str:
    lines = [f"{'lines':16}" + "".join(f"{name:>10}" for name in (*STREAMS, "together"))]
    for row, counts in table.items():
        numbers = [*(counts[name] for name in STREAMS), counts.total()]
        lines.append(f"{row:16}" + "".join(f"{value:>10,}" for value in numbers))
    return "\n".join(lines)


def get(url: str) -> Any:
    """The JSON there; past any proxy, it is on this machine. Raises OSError."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main())
