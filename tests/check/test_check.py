"""`shipper check`: what it says of sinks, variables and the journal's directory, and what it leaves as it was."""

from __future__ import annotations

import json
import os
import pty
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shipper.check import place
from shipper.check.command import check
from shipper.check.probe import Probe, probe
from shipper.check.report import GOOD, NEUTRAL, Report, Source, printed
from shipper.config.registry import REGISTRY, SinkEntry
from shipper.journal.facts import Facts
from shipper.sandbox.server import Sandbox, running_in_thread
from shipper.sinks.base import Acceptance
from tests.certificates import CERTIFICATE, SELF_MADE
from tests.delivery.delivery_helpers import begin_run, end_run

ROOT = Path(__file__).parents[2]
TOKEN = "pub0123456789abcdef0123456789abcdef"
KEY = "0123456789abcdef0123456789abcdef0123NRAL"
DSN_KEY = "fedcba9876543210fedcba9876543210"
SECRETS = (TOKEN, KEY, DSN_KEY, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
ACCEPTED = "accepted a test line in"
FACTS = Facts("0123456789abcdef", "worker-1", "agent-1", "svc", (), (), 262_144, 0, "python")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_in_thread() as running:
        yield running


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory for the journal, which nobody has made yet."""
    return tmp_path / "state" / "shipper"


def run(*options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, with these variables and hardly another."""
    around = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "PYTHONUTF8": "1"}
    code = "import sys; from shipper.check.command import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *options], env=around | environ, capture_output=True, text=True, timeout=60
    )
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def rows(report: Report) -> dict[str, tuple[str, str]]:
    """Mark and sentence by subject; the verdict is under ""."""
    return {subject: (mark, text) for mark, subject, text in report.lines()}


@contextmanager
def tls_server(tmp_path: Path, answer: bytes = b"", address: str = "127.0.0.1") -> Iterator[tuple[str, list[bytes]]]:
    """host:port of a server with a certificate that nobody vouches for, and what it decrypted."""
    (tmp_path / "server.pem").write_text(SELF_MADE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    received: list[bytes] = []
    with socket.create_server((address, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:
                    return
                try:
                    raw.settimeout(5)
                    with context.wrap_socket(raw, server_side=True) as connection:
                        data = connection.recv(65_536)
                        if data:
                            received.append(data)
                            connection.sendall(answer)
                except OSError:
                    raw.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"{address}:{listener.getsockname()[1]}", received
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def settings_of(sandbox: Sandbox) -> dict[str, str]:
    found: dict[str, str] = {}
    for intake in sandbox.intakes:
        found |= intake.settings(sandbox.url)
    return found


def test_every_enabled_sink_takes_one_test_line_and_says_where_it_went(sandbox: Sandbox, directory: Path) -> None:
    environ = settings_of(sandbox) | {
        "SHIPPER_SOURCE": "agent-1",
        "SHIPPER_HOST": "worker-1",
        "SHIPPER_DIR": str(directory),
    }
    done = run("--json", **environ)
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert found["ok"] is True
    assert [sink["name"] for sink in found["sinks"]] == [entry.name for entry in REGISTRY]
    for sink in found["sinks"]:
        assert (sink["enabled"], sink["accepted"]) == (True, True)
        assert sink["destination"] == sandbox.url.removeprefix("http://")
        assert sink["addresses"] == ["127.0.0.1"]
        assert sink["encrypted"] is False
        assert sink["place"]
        assert sink["message"].startswith(ACCEPTED)
        assert "not encrypted" in sink["message"]
        arrived: Any = sandbox.store.events(provider=sink["name"])["events"]
        (event,) = arrived
        assert event["message"].startswith("shipper check: ")
        assert event["level"] == "info"
        assert (event["host"], event["source"]) == ("worker-1", "agent-1")
        assert event["attributes"]["logger"] == "shipper"
    places = {sink["name"]: sink["place"] for sink in found["sinks"]}
    assert "agent-1" in places["cloudwatch"]
    assert "worker-1" in places["cloudwatch"]
    assert not directory.parent.exists()


def test_a_person_sees_one_line_a_subject_with_a_mark(sandbox: Sandbox, directory: Path) -> None:
    done = run(DATADOG_TOKEN=TOKEN, SHIPPER_DATADOG_URL=sandbox.url, SHIPPER_DIR=str(directory))
    assert done.returncode == 0
    shown = [line.split()[:2] for line in done.stdout.splitlines()]
    assert shown == [
        [NEUTRAL, "lines"], [GOOD, "journal"], [GOOD, "Datadog"], [NEUTRAL, "CloudWatch"], [NEUTRAL, "Sentry"],
        [NEUTRAL, "New"], [GOOD, "1"],
    ]  # fmt: skip
    assert "New Relic   not enabled: NEW_RELIC_LICENSE_KEY is not set." in done.stdout
    assert "\x1b" not in done.stdout
    assert run("--json", SHIPPER_DIR=str(directory)).stdout.count("\n") > 10


def test_marks_are_words_where_the_output_cannot_show_them(directory: Path) -> None:
    done = run(SHIPPER_DIR=str(directory), PYTHONUTF8="0", PYTHONIOENCODING="ascii", SHIPPER_FOO="1")
    assert done.stdout.isascii()
    assert done.stdout.splitlines()[1].startswith("FAILED SHIPPER_FOO")
    assert done.stdout.splitlines()[2].startswith("ok     journal")


@pytest.mark.parametrize(("more", "colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_is_for_terminals_alone(directory: Path, more: dict[str, str], colour: bool) -> None:
    ours, theirs = pty.openpty()
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "SHIPPER_DIR": str(directory)}
    code = "import sys; from shipper.check.command import main; sys.exit(main([]))"
    process = subprocess.Popen([sys.executable, "-c", code], env=environ | more, stdout=theirs)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65_536):
            shown += data
    except OSError:  # the other side is closed: that is how a terminal ends
        pass
    os.close(ours)
    assert process.wait(30) == 0
    assert (b"\x1b[32m" in shown) is colour


def test_a_refused_key_is_named_with_its_variable_and_what_to_do(sandbox: Sandbox, directory: Path) -> None:
    sandbox.fault("newrelic", status=403)
    done = run(
        NEW_RELIC_LICENSE_KEY=KEY, SHIPPER_NEW_RELIC_URL=sandbox.url, DATADOG_TOKEN=TOKEN,
        SHIPPER_DATADOG_URL=sandbox.url, SHIPPER_DIR=str(directory),
    )  # fmt: skip
    assert done.returncode == 1
    lines = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert "refused the key in NEW_RELIC_LICENSE_KEY (status 403): check that" in lines["New"]
    assert lines["New"].startswith("✗")
    assert ACCEPTED in lines["Datadog"]
    assert "1 of 2 sinks took the test line" in done.stdout


@pytest.mark.parametrize("status", [429, 503])
def test_a_provider_in_trouble_is_no_success_and_lines_would_wait(
    sandbox: Sandbox, directory: Path, status: int
) -> None:
    sandbox.fault("datadog", status=status)
    report = check({"DATADOG_TOKEN": TOKEN, "SHIPPER_DATADOG_URL": sandbox.url, "SHIPPER_DIR": str(directory)})
    mark, text = rows(report)["Datadog"]
    assert (mark, report.good) == ("✗", False)
    assert f"(status {status})" in text
    assert text.endswith("Until it takes lines they wait in the journal. (region us1)")


def test_a_rejected_test_line_is_no_success(sandbox: Sandbox, directory: Path) -> None:
    sandbox.fault("datadog", status=400)
    report = check({"DATADOG_TOKEN": TOKEN, "SHIPPER_DATADOG_URL": sandbox.url, "SHIPPER_DIR": str(directory)})
    assert not report.good
    assert "rejected the content" in rows(report)["Datadog"][1]


def test_a_certificate_that_does_not_verify_is_told_and_nothing_is_sent(tmp_path: Path, directory: Path) -> None:
    with tls_server(tmp_path) as (host, received):
        done = run("--json", DATADOG_TOKEN=TOKEN, SHIPPER_DATADOG_URL=f"https://{host}", SHIPPER_DIR=str(directory))
    assert received == []
    assert done.returncode == 1
    (sink,) = (sink for sink in json.loads(done.stdout)["sinks"] if sink["enabled"])
    assert f"The certificate of {host} was not verified" in sink["message"]
    assert "SSL_CERT_FILE" in sink["message"]
    assert (sink["encrypted"], sink["tls"], sink["certificate_until"]) == (True, None, None)


def test_a_certificate_that_verifies_is_told_with_its_end(tmp_path: Path, directory: Path) -> None:
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with tls_server(tmp_path, answer) as (host, received):
        done = run(
            "--json", DATADOG_TOKEN=TOKEN, SHIPPER_DATADOG_URL=f"https://{host}", SHIPPER_DIR=str(directory),
            SSL_CERT_FILE=str(tmp_path / "ca.pem"),
        )  # fmt: skip
    (sink,) = (sink for sink in json.loads(done.stdout)["sinks"] if sink["enabled"])
    assert (done.returncode, sink["accepted"]) == (0, True)
    assert (sink["tls"], sink["certificate_until"]) == ("TLSv1.3", "2126-11-01T00:29:14Z")
    assert sink["message"].endswith("TLS 1.3 verified, certificate valid until 2126-11-01.")
    assert len(received) == 1


def test_a_port_without_tls_is_told(sandbox: Sandbox, directory: Path) -> None:
    url = sandbox.url.replace("http:", "https:")
    report = check({"DATADOG_TOKEN": TOKEN, "SHIPPER_DATADOG_URL": url, "SHIPPER_DIR": str(directory)})
    assert not report.good
    assert "is that a port for https" in rows(report)["Datadog"][1]


def test_a_name_that_does_not_resolve_is_told(directory: Path) -> None:
    url = "https://logs.invalid:8443"  # RFC 6761: never a name
    report = check({"NEW_RELIC_LICENSE_KEY": KEY, "SHIPPER_NEW_RELIC_URL": url, "SHIPPER_DIR": str(directory)})
    mark, text = rows(report)["New Relic"]
    assert mark == "✗"
    assert "The name logs.invalid could not be resolved: is SHIPPER_NEW_RELIC_URL right, and is there a network" in text
    assert text.count("?") == 1
    (probed,) = report.probes
    assert probed.reach is not None
    assert probed.reach.addresses == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_refused_connection_is_told(directory: Path, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{unused_port()}"
    report = check({"DATADOG_TOKEN": TOKEN, "SHIPPER_DATADOG_URL": url, "SHIPPER_DIR": str(directory)})
    text = rows(report)["Datadog"][1]
    assert "could not be reached (Connection refused)" in text
    assert "is SHIPPER_DATADOG_URL right" in text
    assert "firewall" in text
    assert ("missing HTTPS_PROXY" in text) == (scheme == "https")
    assert text.count("?") == 1


def test_a_proxy_is_told_without_its_password(sandbox: Sandbox, directory: Path) -> None:
    proxy = sandbox.url.replace("http://", "http://user:geheim123@")
    environ = {"DATADOG_TOKEN": TOKEN, "HTTPS_PROXY": proxy, "SHIPPER_DIR": str(directory)}
    report = check(environ)
    assert not report.good  # the sandbox is no proxy
    (sink,) = [sink for sink in json.loads(json.dumps(report.to_json()))["sinks"] if sink["enabled"]]
    assert sink["proxy"] == sandbox.url.removeprefix("http://")
    assert sink["destination"] == "browser-intake-datadoghq.com"
    assert f"The proxy {sandbox.url.removeprefix('http://')} (HTTPS_PROXY) refused to connect" in sink["message"]
    shown = printed(report, ascii_only=False, colour=False)
    assert "geheim123" not in shown + json.dumps(report.to_json())


def test_a_server_that_says_nothing_is_given_up(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        code = (
            "import os, sys, shipper.check.command as command; real = command.check; "
            "command.check = lambda environ: real(environ, 0.2); sys.exit(command.main([]))"
        )
        environ = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "DATADOG_TOKEN": TOKEN,
            "SHIPPER_DATADOG_URL": url, "SHIPPER_DIR": str(directory),
        }  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (1, "")
    assert "did not answer within 0.2 s" in done.stdout
    assert done.stdout.endswith("0 of 1 sink took the test line.\n")


def test_what_is_wrong_with_a_variable_is_told_and_fails(sandbox: Sandbox, directory: Path) -> None:
    environ = {
        "DATADOG_TOKEN": TOKEN, "SHIPPER_DATADOG_URL": sandbox.url, "SHIPPER_DIR": str(directory),
        "SHIPPER_FLUSH_INTERVAL": "soon", "SHIPPER_SUORCE": "x",
    }  # fmt: skip
    report = check(environ)
    found = rows(report)
    assert found["Datadog"][0] == "✓"
    assert found["SHIPPER_FLUSH_INTERVAL"][0] == found["SHIPPER_SUORCE"][0] == "✗"
    assert found["SHIPPER_SUORCE"][1].endswith("did you mean SHIPPER_SOURCE?")
    assert not report.good
    assert found[""] == ("✗", "1 of 1 sink took the test line; 2 variables are wrong.")


@pytest.mark.parametrize(
    ("environ", "title", "says", "variable"),
    [
        ({"DATADOG_TOKEN": KEY}, "Datadog", "DATADOG_TOKEN looks like a license key of New Relic's", "DATADOG_TOKEN"),
        ({"DATADOG_TOKEN": TOKEN, "DATADOG_REGION": "mars"}, "Datadog", 'DATADOG_REGION is "mars"', "DATADOG_REGION"),
        ({"NEW_RELIC_LICENSE_KEY": TOKEN}, "New Relic", "looks like a client token", "NEW_RELIC_LICENSE_KEY"),
        ({"SENTRY_DSN": f"https://{DSN_KEY}@sentry.invalid"}, "Sentry", "SENTRY_DSN", "SENTRY_DSN"),
        (
            {"DATADOG_TOKEN": TOKEN, "https_proxy": "socks5://p:1"},
            "Datadog",
            "https_proxy names a proxy",
            "https_proxy",
        ),
    ],
)
def test_a_sink_that_cannot_be_made_says_why(
    directory: Path, environ: dict[str, str], title: str, says: str, variable: str
) -> None:
    report = check({**environ, "SHIPPER_DIR": str(directory)})
    mark, text = rows(report)[title]
    assert (mark, report.good) == ("✗", False)
    assert says in text
    assert text.endswith(f"nothing is sent to {title}.")
    assert [probed.variable for probed in report.probes] == [variable]


def test_nothing_enabled_is_no_failure_and_tells_how_to_enable_something(directory: Path) -> None:
    done = run(SHIPPER_DIR=str(directory))
    assert done.returncode == 0
    assert "Nothing is forwarded: no sink is enabled." in done.stdout
    for entry in REGISTRY:
        assert " and ".join(entry.secrets) in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("environ", "name", "reason"),
    [
        ({}, "sentry", "SENTRY_DSN is not set"),
        ({"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}, "cloudwatch",
         "AWS_SECRET_ACCESS_KEY is not set, AWS_ACCESS_KEY_ID is"),
        ({"DATADOG_TOKEN": TOKEN, "SHIPPER_SINKS": "none"}, "datadog", "SHIPPER_SINKS leaves it out (none)"),
        ({"DATADOG_TOKEN_FILE": "/nowhere/token"}, "datadog",
         "DATADOG_TOKEN_FILE holds no secret that could be read"),
    ],
)  # fmt: skip
def test_a_sink_that_is_not_enabled_says_why(directory: Path, environ: dict[str, str], name: str, reason: str) -> None:
    report = check({**environ, "SHIPPER_DIR": str(directory)})
    assert [off.reason for off in report.off if off.name == name] == [reason]
    assert report.probes == []


def test_half_a_key_is_a_wrong_variable(directory: Path) -> None:
    half = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "SHIPPER_DIR": str(directory)}
    report = check(half)
    assert rows(report)["AWS_SECRET_ACCESS_KEY"] == (
        "✗", "AWS_SECRET_ACCESS_KEY is not set, AWS_ACCESS_KEY_ID is: nothing is sent to CloudWatch.",
    )  # fmt: skip
    assert not report.good
    assert rows(report)[""][1].endswith("; 1 variable is wrong.")
    other = check({"AWS_SECRET_ACCESS_KEY": "x", "SHIPPER_DIR": str(directory)})
    assert [problem.variable for problem in other.problems] == ["AWS_ACCESS_KEY_ID"]


def test_half_a_key_is_not_told_twice_nor_where_sinks_are_chosen(directory: Path) -> None:
    half = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "SHIPPER_DIR": str(directory)}
    unread = check({**half, "AWS_SECRET_ACCESS_KEY_FILE": "/nowhere/key"})
    assert [problem.variable for problem in unread.problems] == ["AWS_SECRET_ACCESS_KEY_FILE"]
    named = check({**half, "SHIPPER_SINKS": "cloudwatch"})
    assert [problem.variable for problem in named.problems] == ["SHIPPER_SINKS"]
    assert check({**half, "SHIPPER_SINKS": "none"}).good


@pytest.mark.parametrize(
    ("sinks", "reason", "verdict"),
    [
        ("datadgo", "SHIPPER_SINKS leaves it out (it names others)",
         "Nothing is forwarded: SHIPPER_SINKS leaves out Datadog; 1 variable is wrong."),
        ("none,datadog", "SHIPPER_SINKS names it, but none beside it",
         "Nothing is forwarded: SHIPPER_SINKS leaves out Datadog; 1 variable is wrong."),
        ("none", "SHIPPER_SINKS leaves it out (none)", "Nothing is forwarded: SHIPPER_SINKS leaves out Datadog."),
    ],
)  # fmt: skip
def test_what_the_chosen_sinks_leave_out_is_not_said_to_lack_its_secret(
    directory: Path, sinks: str, reason: str, verdict: str
) -> None:
    report = check({"DATADOG_TOKEN": TOKEN, "SHIPPER_SINKS": sinks, "SHIPPER_DIR": str(directory)})
    assert rows(report)["Datadog"][1] == f"not enabled: {reason}."
    assert rows(report)[""][1] == verdict


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_closed_stdout_leaves_the_exit_status(directory: Path, options: list[str]) -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SHIPPER_DIR": str(directory)}
    for more, status in (({}, 0), ({"SHIPPER_FLUSH_INTERVAL": "soon"}, 1)):
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "shipper", "check", *options],
            env=environ | more, stderr=subprocess.PIPE, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (status, b"")


def test_a_missing_file_of_authorities_is_told_and_another_hosts_certificate_is_not_blamed_on_one(
    tmp_path: Path, directory: Path
) -> None:
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    with tls_server(tmp_path) as (host, _):
        environ = {"DATADOG_TOKEN": TOKEN, "SHIPPER_DIR": str(directory)}
        absent = run(**environ, SHIPPER_DATADOG_URL=f"https://{host}", SSL_CERT_FILE="/nope")
        assert 'SSL_CERT_FILE names "/nope", which is not there.' in absent.stdout
    with tls_server(tmp_path, address="127.0.0.2") as (host, _):
        mismatch = run(**environ, SHIPPER_DATADOG_URL=f"https://{host}", SSL_CERT_FILE=str(tmp_path / "ca.pem"))
    assert "mismatch" in mismatch.stdout
    assert "is SHIPPER_DATADOG_URL right?" in mismatch.stdout
    assert "SSL_CERT_FILE" not in mismatch.stdout


def test_the_directory_is_looked_at_and_nothing_is_made_in_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    report = check({"SHIPPER_DIR": str(tmp_path / "a" / "b")})
    assert list(tmp_path.iterdir()) == []
    mark, text = rows(report)["journal"]
    assert mark == "✓"
    assert text.startswith(f"{tmp_path}/a/b (will be made, ")
    report = check({"SHIPPER_DIR": str(tmp_path), "SHIPPER_JOURNAL_MAX": "1MiB"})
    assert list(tmp_path.iterdir()) == []
    assert f"(owner {os.geteuid()}, mode 0700, " in rows(report)["journal"][1]
    assert ": empty, bound 1.0 MiB, " in rows(report)["journal"][1]


def test_a_place_that_cannot_be_used_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        report = check({"SHIPPER_DIR": str(path)})
        mark, text = rows(report)["journal"]
        assert (mark, report.good) == ("✗", False)
        assert text.startswith(f"{path} cannot be used: ")
        assert "there is no place for the journal" in rows(report)[""][1]
        assert ": not a directory." in text


def test_a_full_place_asks_for_room() -> None:
    found = place.Place("/full")
    found.problem = "no space left on device"
    found.full = True
    text = rows(Report(FACTS, Source("a", True, ""), [], [], [], found))["journal"][1]
    assert "make room there" in text
    assert "may write to" not in text


def test_a_place_that_cannot_be_used_is_passed_over_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = place.find([str(tmp_path / "file"), str(tmp_path / "next"), str(tmp_path / "never")], None)
    assert (found.path, found.usable, found.exists) == (str(tmp_path / "next"), True, False)
    assert found.others == [(str(tmp_path / "file"), "not a directory")]
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_bound_beyond_the_free_space_fails(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    assert disk.f_bavail * disk.f_frsize < 1024 << 30  # else nothing is beyond it
    report = check({"SHIPPER_DIR": str(tmp_path), "SHIPPER_JOURNAL_MAX": "1024GiB"})
    mark, text = rows(report)["journal"]
    assert (mark, report.good) == ("✗", False)
    assert "lower SHIPPER_JOURNAL_MAX or make room" in text


def test_beside_a_running_agent_its_names_count_and_its_run_is_left_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    writer = begin_run(str(tmp_path))
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    environ = {"DATADOG_TOKEN": TOKEN, "SHIPPER_DATADOG_URL": sandbox.url, "SHIPPER_DIR": str(tmp_path)}
    report = check(environ)
    assert (report.facts.host, report.facts.source, report.source.known) == ("host-1", "agent-1", True)
    assert report.facts.run != "0123456789abcdef"
    assert "an agent is running" in rows(report)["journal"][1]
    assert report.good
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    end_run(writer)
    report = check(environ)
    assert report.source.name == "shipper-check"
    assert "an agent is running" not in rows(report)["journal"][1]


def test_a_source_that_only_the_command_tells_is_said_to_be_not_known(directory: Path) -> None:
    report = check({"SHIPPER_DIR": str(directory)})
    assert "source not known yet (the agent's script will tell it, or SHIPPER_SOURCE" in rows(report)["lines"][1]
    assert report.to_json()["source"] is None
    named = check({"SHIPPER_DIR": str(directory), "LIVEKIT_AGENT_NAME": "clara", "SHIPPER_TAGS": "env:prod"})
    assert "source clara (livekit.toml or LIVEKIT_AGENT_NAME)" in rows(named)["lines"][1]
    assert named.to_json()["tags"] == [["env", "prod"]]
    named = check({"SHIPPER_DIR": str(directory), "LIVEKIT_AGENT_ID": "CA_1"})
    assert "source CA_1 (LIVEKIT_AGENT_ID)" in rows(named)["lines"][1]


def test_a_wrong_option_is_a_wrong_command_line() -> None:
    done = run("--jsn")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("shipper: ")
    assert "shipper check --help" in done.stderr


def test_the_help_has_examples_and_names_every_field_of_the_object(directory: Path) -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "docker exec CONTAINER shipper check" in done.stdout
    found: dict[str, Any] = check({"SHIPPER_DIR": str(directory), "DATADOG_TOKEN": KEY}).to_json()
    names = [*found, *found["journal"], *(name for sink in found["sinks"] for name in sink)]
    words = set(done.stdout.replace(",", " ").replace("[", " ").replace("]", " ").replace(":", " ").split())
    assert [name for name in names if name not in words] == []


class Stub:
    """A sink with an answer of its own."""

    title, variable, destination, url = "Stub", "STUB_KEY", "127.0.0.1:1", "http://127.0.0.1:1"

    def __init__(self, answer: Acceptance | Exception | None) -> None:
        self.answer = answer

    @classmethod
    def from_env(cls, _: object) -> Stub:
        return cls(None)

    def place(self, _: object) -> str:
        return "somewhere"

    def encoder(self, _: object) -> Any:
        return lambda slices, now_ms: (slices, now_ms)

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def send(self, _: object) -> Acceptance | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Partial(Stub):
    @classmethod
    def from_env(cls, _: object) -> Stub:
        return cls(Acceptance(((0, 1, "its clock is 3 h ahead"),)))


class Broken(Stub):
    @classmethod
    def from_env(cls, _: object) -> Stub:
        return cls(KeyError(TOKEN))


async def tried(factory: str) -> Probe:
    return await probe(SinkEntry("stub", ("STUB_KEY",), factory, "Stub"), {}, FACTS)


async def test_a_line_that_was_answered_and_not_taken_is_no_success() -> None:
    found = await tried(f"{__name__}:Partial")
    assert not found.accepted
    assert found.message == "127.0.0.1:1 answered, but did not take the test line: its clock is 3 h ahead."


async def test_a_fault_of_ours_is_told_without_what_it_holds() -> None:
    found = await tried(f"{__name__}:Broken")
    assert (found.accepted, found.message) == (False, "Trying Stub failed unexpectedly (KeyError).")


async def test_a_library_that_is_missing_is_named() -> None:
    found = await tried("shipper.sinks.nowhere:Nothing")
    assert "Stub cannot be used here (ModuleNotFoundError: No module named 'shipper.sinks.nowhere')" in found.message


def test_a_pattern_that_is_none_is_a_wrong_variable_and_no_secret_is_shown_of_it(directory: Path) -> None:
    environ = {"SHIPPER_EXCLUDE": "(", "SHIPPER_REDACT": "a\n(?<=x)", "SHIPPER_SINKS": "none"}
    report = check({**environ, "SHIPPER_DIR": str(directory)})
    assert [problem.variable for problem in report.problems] == ["SHIPPER_EXCLUDE", "SHIPPER_REDACT"]
    assert not report.good
    secret = "0123456789abcdef("
    report = check({"SHIPPER_EXCLUDE": f"(?<={secret}", "A_KEY": secret, "SHIPPER_DIR": str(directory)})
    (problem,) = report.problems
    assert secret not in problem.message
