"""An agent that crashes becomes one issue at Sentry, before the closing event; one that was asked to end does not."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from shipper.journal import runs
from tests.bodies import envelope_items, plain
from tests.e2e.wrapped import ALL, Wrapper, arrived, ledgers, printing
from tests.helpers import is_closing, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.sandbox.server import Sandbox

RAISING = """\
import sys

class Gone(RuntimeError):
    pass

def answer(number):
    raise Gone(f"nobody there: {number}")

print("one")
print('{"level": "WARNING", "message": "two"}', flush=True)
answer(int(sys.argv[1]))
"""
NODE = """\
file:///app/agent.mjs:9
    throw new TypeError('boom');
    ^

TypeError: boom
    at Timeout._onTimeout (file:///app/agent.mjs:9:54)
    at listOnTimeout (node:internal/timers:581:17)

Node.js v20.20.2
"""
FAILED = (
    '{"message": "worker failed", "level": "ERROR", "name": "livekit.agents", "exc_info": "Traceback (most recent '
    'call last):\\n  File \\"/app/agent.py\\", line 3, in run\\nValueError: ws_url is required", "pid": 25225}\n'
)
SENTRY = {"SENTRY_RELEASE": "agent@1.2", "SENTRY_ENVIRONMENT": "prod", "SHIPPER_TAGS": "team:voice"}


def issues(sandbox: Sandbox) -> list[dict[str, Any]]:
    """As they came over the wire, without repeats of one id: Sentry keeps one."""
    found = {}
    for kept in sandbox.store._kept:
        if kept.intake.name == "sentry":
            for header, payload in envelope_items(plain(kept.request.body)):
                if header["type"] == "event":
                    event = orjson.loads(payload)
                    found[event["event_id"]] = event
    return list(found.values())


def values(issue: dict[str, Any]) -> list[tuple[str, str]]:
    return [(value["type"], value["value"]) for value in issue["exception"]["values"]]


def raising(directory: Path, number: int = 7) -> list[str]:
    script = directory.parent / "agent.py"
    script.write_text(RAISING)
    return [sys.executable, str(script), str(number)]


def test_an_uncaught_exception_is_one_issue_with_its_frames_and_last_lines(sandbox: Sandbox, directory: Path) -> None:
    with Wrapper(directory, raising(directory), sandbox.url, SENTRY, ALL) as wrapper:
        assert wrapper.wait() == 1
        assert wrapper.said == []
        run = wrapper.run_path()[-16:]
    (issue,) = issues(sandbox)
    assert values(issue) == [("Gone", "nobody there: 7")]
    frames = issue["exception"]["values"][0]["stacktrace"]["frames"]
    script = str(directory.parent / "agent.py")
    assert [(frame["filename"], frame["function"], frame["lineno"], frame["in_app"]) for frame in frames] == [
        (script, "<module>", 11, True),
        (script, "answer", 7, True),
    ]
    assert frames[1]["context_line"] == 'raise Gone(f"nobody there: {number}")'
    assert (issue["level"], issue["platform"], issue["server_name"]) == ("fatal", "python", "worker-1")
    assert (issue["release"], issue["environment"]) == ("agent@1.2", "prod")
    assert issue["tags"] == {
        "run": run, "host": "worker-1", "source": "CA_test", "service": "cloud.livekit.io", "team": "voice",
    }  # fmt: skip
    assert issue["contexts"]["agent"] == {"type": "agent", "end": "the agent ended with status 1", "exit_status": 1}
    crumbs = issue["breadcrumbs"]["values"]
    # two pipes that were written to at once have no order between them
    said = [(crumb["message"], crumb["level"]) for crumb in crumbs if crumb["category"] == "stdout"]
    assert said == [("one", "info"), ("two", "warning")]
    (raised,) = [crumb for crumb in crumbs if crumb["category"] == "stderr"]
    assert raised["message"].startswith("Traceback (most recent call last):\n")
    assert raised["message"].endswith("\nGone: nobody there: 7")
    assert raised["level"] == "error"
    # before the closing event, which is the last; and in the sandbox among the run's events, as one of our own
    shown: Any = sandbox.store.events(provider="sentry", run=run)["events"]
    assert is_closing(shown[-1]["attributes"])
    assert (shown[-2]["place"]["item"], shown[-2]["message"]) == ("event", "Gone: nobody there: 7")
    assert (shown[-2]["level"], shown[-2]["source"], shown[-2]["marks"]) == ("critical", "CA_test", [])
    assert shown[-2]["trace_id"] == shown[-1]["trace_id"]  # found from the issue
    assert arrived(sandbox, "sentry")["own"] == 2
    for provider in ALL:  # the line's own providers are told no more than before
        assert arrived(sandbox, provider)["own"] == (2 if provider == "sentry" else 1)
    (ledger,) = ledgers(sandbox, "sentry")
    assert ledger["captured"] == ledger["delivered"] > 2


def test_other_words_of_one_bug_are_one_issue(sandbox: Sandbox, directory: Path) -> None:
    for number in (1, 2):
        with Wrapper(directory, raising(directory, number), sandbox.url, {}, ("sentry",)) as wrapper:
            assert wrapper.wait() == 1
    one, two = issues(sandbox)
    assert one["fingerprint"] == two["fingerprint"]
    assert one["event_id"] != two["event_id"]
    assert values(one) != values(two)


ENDS = {
    "node": (f"echo begin; cat >&2 <<'E'\n{NODE}E\nexit 1", 1, ("TypeError", "boom")),
    "exit 3": ("echo one; exit 3", 3, ("AgentExit", "the agent ended with status 3")),
    "SIGSEGV": ("echo one; kill -SEGV $$", 139, ("SIGSEGV", "the agent was ended by signal 11")),
    "failed": (f"printf %s '{FAILED}'", 0, ("ValueError", "ws_url is required")),
    "nothing printed": ("exit 4", 4, ("AgentExit", "the agent ended with status 4")),
}


@pytest.mark.parametrize("how", ENDS)
def test_what_ended_it_is_the_issue(sandbox: Sandbox, directory: Path, how: str) -> None:
    script, status, what = ENDS[how]
    with Wrapper(directory, ["sh", "-c", script], sandbox.url, {}, ("sentry",)) as wrapper:
        assert wrapper.wait() == status
    (issue,) = issues(sandbox)
    assert values(issue) == [what]


def test_a_segfault_tells_where_python_was(sandbox: Sandbox, directory: Path) -> None:
    agent = "import ctypes\ndef lose(): ctypes.string_at(0)\nlose()"
    command = [sys.executable, "-X", "faulthandler", "-c", agent]
    with Wrapper(directory, command, sandbox.url, {}, ("sentry",)) as wrapper:
        assert wrapper.wait() == 139
    (issue,) = issues(sandbox)
    assert values(issue) == [("SIGSEGV", "Segmentation fault")]
    functions = [frame["function"] for frame in issue["exception"]["values"][0]["stacktrace"]["frames"]]
    assert functions == ["<module>", "lose", "string_at"]
    assert issue["fingerprint"] == ["SIGSEGV", "<string>:lose"]


@pytest.mark.parametrize(
    ("command", "environ", "signo"),
    [
        ("trap 'exit 1' TERM; echo one; while :; do sleep 0.05; done", {}, signal.SIGTERM),
        ("echo one; exec sleep 60", {}, signal.SIGINT),
        ("echo one", {}, None),
        ("echo one; exit 3", {"SHIPPER_SENTRY_EVENTS": "off"}, None),
    ],
)
def test_an_end_that_was_asked_for_or_well_or_turned_off_is_no_issue(
    sandbox: Sandbox, directory: Path, command: str, environ: dict[str, str], signo: int | None
) -> None:
    with Wrapper(directory, ["sh", "-c", command], sandbox.url, environ, ("sentry",)) as wrapper:
        if signo is not None:
            wait_until(lambda: wrapper.stdout == b"one\n", what="the first line")
            wrapper.process.send_signal(signo)
        wrapper.wait()
        assert wrapper.said == []
    assert len(ledgers(sandbox, "sentry")) == 1
    assert issues(sandbox) == []


def test_a_wrong_setting_is_named_and_crashes_are_told(sandbox: Sandbox, directory: Path) -> None:
    environ = {"SHIPPER_SENTRY_EVENTS": "never"}
    with Wrapper(directory, ["sh", "-c", "exit 3"], sandbox.url, environ, ("sentry",)) as wrapper:
        assert wrapper.wait() == 3
        assert wrapper.said == ['SHIPPER_SENTRY_EVENTS is "never", allowed is on or off: the default, on, is used']
    assert len(issues(sandbox)) == 1


def test_with_the_intake_away_the_next_start_tells_of_it_once(sandbox: Sandbox, directory: Path) -> None:
    sandbox.fault("sentry", status=503)
    environ = {"SHIPPER_DRAIN_TIMEOUT": "0.3s"}
    with Wrapper(directory, raising(directory), sandbox.url, environ, ("sentry",)) as wrapper:
        assert wrapper.wait() == 1
        run = wrapper.run_path()[-16:]
    assert issues(sandbox) == []
    sandbox.fault("sentry")
    for _ in range(2):
        with Wrapper(directory, ["true"], sandbox.url, {}, ("sentry",)) as wrapper:
            assert wrapper.wait() == 0
    (issue,) = issues(sandbox)
    assert (issue["tags"]["run"], values(issue)) == (run, [("Gone", "nobody there: 7")])
    assert arrived(sandbox, "sentry")["own"] == 4  # the issue and three closing events


def test_a_quota_on_errors_holds_up_neither_lines_nor_the_end(sandbox: Sandbox, directory: Path) -> None:
    agent = "echo one; while ! [ -e $0 ]; do sleep 0.01; done; exit 5"
    go = directory.parent / "go"
    with Wrapper(directory, ["sh", "-c", agent, str(go)], sandbox.url, {}, ("sentry",)) as wrapper:
        wait_until(lambda: arrived(sandbox, "sentry")["lines"] == 1, 30, "the line")
        sandbox.fault("sentry", status=429, rate_limits="2592000:error:organization", retry_after=2592000, count=1)
        go.touch()
        assert wrapper.wait() == 5
        (said,) = wrapper.said
        assert said == (
            "Sentry did not take the agent's crash as an issue (a rate limit or quota for errors is reached): "
            "its lines are there"
        )
    assert issues(sandbox) == []
    (ledger,) = ledgers(sandbox, "sentry")
    assert (ledger["captured"], ledger["delivered"], ledger["dropped"]) == (1, 1, {})


def test_a_worker_killed_at_the_end_tells_of_the_same_event(sandbox: Sandbox, directory: Path) -> None:
    agent = "echo one; while ! [ -e $0 ]; do sleep 0.01; done; exit 5"
    go = directory.parent / "go"
    with Wrapper(directory, ["sh", "-c", agent, str(go)], sandbox.url, {}, ("sentry",)) as wrapper:
        wait_until(lambda: arrived(sandbox, "sentry")["lines"] == 1, 30, "the line")
        sandbox.fault("sentry", delay=0.5)
        worker = wrapper.worker()
        assert worker is not None
        go.touch()
        wait_until(lambda: issues(sandbox), 30, "the issue")
        os.kill(worker, signal.SIGKILL)
        sandbox.fault("sentry")
        assert wrapper.wait() == 5
    assert len(issues(sandbox)) == 1
    assert len(ledgers(sandbox, "sentry")) in (1, 2)  # it may have been under way too


def test_a_run_killed_with_its_container_is_no_issue(sandbox: Sandbox, directory: Path) -> None:
    with Wrapper(directory, ["sh", "-c", "echo one; exec sleep 60"], sandbox.url, {}, ("sentry",)) as wrapper:
        wait_until(lambda: arrived(sandbox, "sentry")["lines"] == 1, 30, "the line")
        run = wrapper.run_path()
        agent = next(pid for pid in wrapper.children() if pid != wrapper.worker())
        os.kill(wrapper.process.pid, signal.SIGKILL)
        wrapper.wait()
        os.kill(agent, signal.SIGKILL)
    wait_until(lambda: not runs.is_live(run), what="the old worker's end")
    with Wrapper(directory, ["true"], sandbox.url, {}, ("sentry",)) as wrapper:
        assert wrapper.wait() == 0
    assert [ledger for ledger in ledgers(sandbox, "sentry") if run.endswith(ledger["run"])]
    assert issues(sandbox) == []


def test_a_flood_before_the_crash_leaves_its_end_in_the_issue(sandbox: Sandbox, directory: Path) -> None:
    flood = "for n in range(60_000): print(n, '.' * 60)\nraise SystemExit(9)"
    environ = {"SHIPPER_JOURNAL_MAX": "2MiB"}
    with Wrapper(directory, printing(flood), sandbox.url, environ, ("sentry",)) as wrapper:
        assert wrapper.wait() == 9
    (issue,) = issues(sandbox)
    crumbs = issue["breadcrumbs"]["values"]
    assert [crumb["data"]["seq"] for crumb in crumbs] == list(range(59_951, 60_001))
    assert crumbs[-1]["message"] == "59999 " + "." * 60
    assert values(issue) == [("AgentExit", "the agent ended with status 9")]
