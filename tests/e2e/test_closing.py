"""The last thing that a provider gets of a run: how the agent ended, and what became of each line there."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from shipper.journal import runs
from tests.e2e.wrapped import ALL, Wrapper, arrived, ledgers, printing
from tests.helpers import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.sandbox.server import Sandbox

# The last lines of livekit-agents 1.8.9 without LIVEKIT_URL, shortened; it ends with status 0.
FATAL = (
    '{"message": "worker failed", "level": "ERROR", "name": "livekit.agents", "exc_info": "Traceback (most recent '
    'call last):\\nValueError: ws_url is required, or set LIVEKIT_URL environment variable", "pid": 25225}\n'
    '{"message": "draining worker", "level": "INFO", "name": "livekit.agents", "id": "unregistered"}\n'
)
COUNTS = {"captured": 1, "delivered": 1, "filtered": 0, "dropped": {}}
ENDS: dict[str, tuple[str, dict[str, str], int, dict[str, Any], str, str]] = {
    "well": ("echo one", {}, 0, {"exit_status": 0}, "info", "The agent ended with status 0: "),
    "status": ("echo one; exit 3", {}, 3, {"exit_status": 3}, "error", "The agent ended with status 3: "),
    "signal": ("echo one; kill -9 $$", {}, 137, {"signal": 9}, "error", "The agent was ended by signal 9: "),
    "failed": (
        f"printf %s '{FATAL}'",
        {},
        0,
        {"exit_status": 0, "failed": "worker failed", "captured": 2, "delivered": 2},
        "error",
        "The agent ended with status 0, but it had failed: its worker logged 'worker failed': ",
    ),
    "failed, with a status": (
        f"printf %s '{FATAL}'",
        {"SHIPPER_FAILED_STATUS": "70"},
        70,
        {"exit_status": 0, "failed": "worker failed", "captured": 2, "delivered": 2},
        "error",
        "The agent ended with status 0, but it had failed: ",
    ),
    "nothing printed": (
        "exit 1",
        {"SHIPPER_FAILED_STATUS": "70"},  # says nothing of an agent that fails by itself
        1,
        {"exit_status": 1, "captured": 0, "delivered": 0},
        "error",
        "The agent ended with status 1: 0 lines captured, 0 delivered.",
    ),
}


def told(ledger: dict[str, Any]) -> dict[str, Any]:
    """Without what differs between providers and runs."""
    return {name: value for name, value in ledger.items() if name not in ("run", "level", "message")}


@pytest.mark.parametrize("how", ENDS)
def test_each_provider_is_told_how_the_agent_ended(sandbox: Sandbox, directory: Path, how: str) -> None:
    script, environ, status, end, level, message = ENDS[how]
    with Wrapper(directory, ["sh", "-c", script], sandbox.url, environ, ALL) as wrapper:
        assert wrapper.wait() == status
        assert wrapper.said == []
        run = os.path.basename(wrapper.run_path())[17:]
    for provider in ALL:
        (ledger,) = ledgers(sandbox, provider)
        assert told(ledger) == {**COUNTS, **end}, provider
        assert (ledger["run"], ledger["level"]) == (run, level)
        assert ledger["message"].startswith(message)


@pytest.mark.parametrize(("kept", "status"), [(True, 70), (False, 0)])
def test_a_failed_worker_s_status_needs_a_journal_and_no_provider(
    directory: Path, tmp_path: Path, kept: bool, status: int
) -> None:
    (tmp_path / "file").write_text("in the way")
    environ = {"SHIPPER_FAILED_STATUS": "70", "SHIPPER_DIR": str(directory if kept else tmp_path / "file" / "journal")}
    with Wrapper(directory, ["sh", "-c", f"printf %s '{FATAL}'"], None, environ) as wrapper:
        assert wrapper.wait() == status


@pytest.mark.parametrize(("command", "status"), [("exit 1", 1), ("trap - TERM; kill -15 $$", 143)])
def test_an_agent_that_was_asked_to_end_is_no_error(
    sandbox: Sandbox, directory: Path, command: str, status: int
) -> None:
    agent = ["sh", "-c", f"trap '{command}' TERM; echo one; while :; do sleep 0.05; done"]
    with Wrapper(directory, agent, sandbox.url) as wrapper:
        wait_until(lambda: wrapper.stdout == b"one\n", what="the first line")
        wrapper.terminate()
        assert wrapper.wait() == status
    (ledger,) = ledgers(sandbox)
    assert ledger["level"] == "info"
    assert "as it was asked to end" in ledger["message"]


def test_the_ledger_tells_empty_lines_a_refused_one_and_what_was_delivered(sandbox: Sandbox, directory: Path) -> None:
    agent = (
        "import os, sys, time\n"
        "print('one', flush=True)\n"
        "for name in ('bad', 'last'):\n"
        "    while not os.path.exists(sys.argv[1] + name): time.sleep(0.01)\n"
        "    print('', name, '', sep='\\n', flush=True)\n"
        "print('on stderr', file=sys.stderr)\n"
    )
    go = str(directory.parent) + "/"
    with Wrapper(directory, printing(agent, go), sandbox.url, {"SHIPPER_FLUSH_INTERVAL": "0s"}, ALL) as wrapper:
        for name in ALL:
            wait_until(lambda name=name: arrived(sandbox, name)["lines"] == 1, 30, name)  # type: ignore[misc]
            sandbox.fault(name, status=400, count=1)
        (directory.parent / "bad").touch()
        for name in ALL:
            wait_until(lambda name=name: arrived(sandbox, name)["own"] == 1, 30, name)  # type: ignore[misc]
        (directory.parent / "last").touch()
        assert wrapper.wait() == 0
    for provider in ALL:
        (ledger,) = ledgers(sandbox, provider)
        assert told(ledger) == {
            "exit_status": 0, "captured": 8, "delivered": 3, "filtered": 4, "dropped": {"rejected": 1}
        }, provider  # fmt: skip
        assert ledger["message"] == (
            "The agent ended with status 0: 8 lines captured, 3 delivered, 4 empty, 1 lost (rejected)."
        )


def test_the_ledger_tells_what_the_bound_dropped(sandbox: Sandbox, directory: Path) -> None:
    for name in ALL:
        sandbox.fault(name, status=503)
    flood = "import sys\nfor n in range(1, 60001): print(n, '.' * 60)"
    environ = {"SHIPPER_JOURNAL_MAX": "1MiB", "SHIPPER_DRAIN_TIMEOUT": "0s"}
    with Wrapper(directory, printing(flood), sandbox.url, environ, ALL) as wrapper:
        assert wrapper.wait() == 0
        run = os.path.basename(wrapper.run_path())[17:]
    for name in ALL:
        assert ledgers(sandbox, name) == []
        sandbox.fault(name)
    for _ in range(2):  # the next start delivers it, once
        with Wrapper(directory, ["true"], sandbox.url, {}, ALL) as wrapper:
            assert wrapper.wait() == 0
        for provider in ALL:
            (ledger,) = [ledger for ledger in ledgers(sandbox, provider) if ledger["run"] == run]
            delivered = arrived(sandbox, provider)["lines"]
            assert 0 < delivered < 30_000
            assert told(ledger) == {
                "exit_status": 0, "captured": 60_000, "delivered": delivered, "filtered": 0,
                "dropped": {"journal_full": 60_000 - delivered},
            }  # fmt: skip
    assert len(ledgers(sandbox)) == 3  # the run, and the two that delivered it


def test_of_a_run_that_died_without_its_end_the_next_start_tells_that_it_is_not_known(
    sandbox: Sandbox, directory: Path
) -> None:
    with Wrapper(directory, ["sh", "-c", "echo one; exec sleep 60"], sandbox.url, {}, ALL) as wrapper:
        for name in ALL:
            wait_until(lambda name=name: arrived(sandbox, name)["lines"] == 1, 30, name)  # type: ignore[misc]
        run = wrapper.run_path()
        wait_until(lambda: os.path.exists(f"{run}/note"), what="the run's note")
        agent = next(pid for pid in wrapper.children() if pid != wrapper.worker())
        os.kill(wrapper.process.pid, signal.SIGKILL)
        wrapper.wait()
        os.kill(agent, signal.SIGKILL)
    wait_until(lambda: not runs.is_live(run), what="the old worker's end")
    for _ in range(2):
        with Wrapper(directory, ["true"], sandbox.url, {}, ALL) as wrapper:
            assert wrapper.wait() == 0
    for provider in ALL:
        (ledger,) = [ledger for ledger in ledgers(sandbox, provider) if run.endswith(ledger["run"])]
        assert (ledger["level"], told(ledger)) == ("error", {**COUNTS, "exit_status": "unknown"})
        assert re.match(
            r"How the agent ended is not known: it was killed, as a rule with its whole container or machine"
            r"(\. Memory last noted, at .*)?: 1 line captured, 1 delivered\.",
            ledger["message"],
        )


def test_a_worker_killed_at_the_end_repeats_the_closing_event_at_most(sandbox: Sandbox, directory: Path) -> None:
    agent = "echo one; while ! [ -e $0 ]; do sleep 0.01; done; exit 5"
    go = directory.parent / "go"
    with Wrapper(directory, ["sh", "-c", agent, str(go)], sandbox.url) as wrapper:
        wait_until(lambda: arrived(sandbox)["lines"] == 1, 30, "the line")
        sandbox.fault("datadog", delay=0.5)
        worker = wrapper.worker()
        assert worker is not None
        go.touch()
        wait_until(lambda: arrived(sandbox)["own"] == 1, 30, "the closing event")
        try:
            os.kill(worker, signal.SIGKILL)
        except ProcessLookupError:
            pass
        assert wrapper.wait() == 5
    found = ledgers(sandbox)
    assert len(found) in (1, 2)
    assert all(ledger == found[0] for ledger in found)
    assert told(found[0]) == {**COUNTS, "exit_status": 5}
