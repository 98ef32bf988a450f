"""Every provider at once, through the real wrapper: what arrives, under which names, and what one in trouble costs."""

from __future__ import annotations

import datetime
import itertools
import json
import re
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from demo.agent import restamped
from shipper.config.registry import REGISTRY
from shipper.lines.batch import Batch
from shipper.lines.decoder import Decoder
from shipper.lines.levels import LEVELS
from shipper.lines.text import clean
from tests.bodies import SENTRY_TYPES, Event, envelope_items, events_in, plain
from tests.e2e.network import Network
from tests.e2e.wrapped import (
    ALL,
    ROOT,
    TITLES,
    Wrapper,
    all_events,
    arrived,
    as_sent,
    ledgers,
    printing,
    requests,
    streams,
)
from tests.helpers import variables, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from shipper.sandbox.intake import Request
    from shipper.sandbox.server import Sandbox

WAITING = """
import os, sys, time
lines, go = int(sys.argv[1]), sys.argv[2]
for n in range(1, lines + 1):
    print(f"line {n}", flush=True)
while not os.path.exists(go):
    time.sleep(0.01)
sys.exit(7)
"""
"""Prints its lines, and ends with 7 when it is told."""

LINES = 500


class Run(Wrapper):
    """WAITING under the wrapper, all sinks on."""

    def __init__(self, sandbox: Sandbox, directory: Path, environ: dict[str, str] | None = None) -> None:
        self._go = directory.parent / "go"
        super().__init__(directory, printing(WAITING, str(LINES), str(self._go)), sandbox.url, environ, ALL)

    def end(self, timeout: float = 60) -> None:
        """Let the agent end; its output and status are what they would be without us."""
        self._go.touch()
        assert self.wait(timeout) == 7
        assert self.stdout == b"".join(b"line %d\n" % n for n in range(1, LINES + 1))


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as network:
        yield network


def wait_for_all(sandbox: Sandbox, *providers: str) -> None:
    for provider in providers:
        what = f"all lines at {provider}"
        wait_until(lambda name=provider: arrived(sandbox, name)["lines"] == LINES, 40, what)  # type: ignore[misc]


def assert_each_once(sandbox: Sandbox, provider: str) -> None:
    summary = arrived(sandbox, provider)
    assert (summary["missing"], summary["repeats"], summary["unnumbered"]) == (0, 0, 0)
    events = all_events(sandbox, provider)
    assert sorted((event["seq"], event["message"]) for event in events) == [
        (n, f"line {n}") for n in range(1, LINES + 1)
    ]


def assert_nothing(sandbox: Sandbox, provider: str) -> None:
    assert arrived(sandbox, provider)["requests"] == 0


def others(*sinks: str) -> list[str]:
    return [name for name in ALL if name not in sinks]


# -- 100,000 real lines ------------------------------------------------------------------------------------------------


class Printed(NamedTuple):
    """A line of the agent's that is not empty. ``time_ms``: its own, None when it has none that is read."""

    seq: int
    sample: int
    time_ms: int | None


def sample_lines(stream: str) -> list[bytes]:
    lines: list[bytes] = []
    for path in sorted((ROOT / "demo" / "lines").glob(f"*.{stream}.log")):
        lines += path.read_bytes().split(b"\n")[:-1]
    return lines


def print_plan(samples: list[bytes], count: int, now: datetime.datetime) -> tuple[list[bytes], list[Printed]]:
    """``count`` lines, the samples over and over, their times a millisecond apart up to ``now``."""
    data: list[bytes] = []
    printed: list[Printed] = []
    for number, (index, sample) in zip(range(count), itertools.cycle(enumerate(samples)), strict=False):
        at = now - datetime.timedelta(milliseconds=count - number)
        own = parsed(sample) is not None
        data.append(restamped(sample, at) if own else sample)
        if sample.strip():
            printed.append(Printed(number + 1, index, round(at.timestamp() * 1000) if own else None))
    return data, printed


def parsed(line: bytes) -> dict[str, Any] | None:
    try:
        return json.loads(line) if line.startswith(b"{") else None
    except ValueError:
        return None


NUMBERS = {10: "trace", 20: "debug", 30: "info", 40: "warning", 50: "error", 60: "critical"}
SENTRY_LEVELS = {  # develop.sentry.dev/sdk/telemetry/logs, "Log Severity Number"
    "trace": ("trace", 1), "debug": ("debug", 5), "info": ("info", 9),
    "warning": ("warn", 13), "error": ("error", 17), "critical": ("fatal", 21),
}  # fmt: skip
BODIES = {"sentry": "item.body"}
ERRORS = {
    "sentry": {
        "error.kind": "exception.type",
        "error.message": "exception.message",
        "error.stack": "exception.stacktrace",
    },
    "newrelic": {"error.kind": "error.class"},
}
OWN = ("message", "timestamp", "time", "agent.timestamp", "agent.time", "seq")  # the samples are old: `print_plan`
CARRIED = {"job_id": "AJ_", "room": "test-room", "room_id": "RM_", "worker_id": "AW_", "agent.worker_id": "AW_"}
"""What lines before may have told of a line's call and worker, and how it begins: `lines.calls`."""
TIMES = {"datadog": "timestamp", "cloudwatch": "timestamp", "sentry": "item.timestamp", "newrelic": "timestamp"}


def expected(provider: str, line: bytes, stream: str) -> Event:
    """What the provider finds of a sample line, but for `run`, `seq`, `skipped` and the time."""
    record = parsed(line)
    alone = Decoder().decode(Batch(1, [line], 1, [(0, time.time_ns())], {}))  # tests/lines tell what becomes of a line
    became: dict[str, Any] = dict(alone.records[0]) if alone.count else {"message": ""}
    message, level = became["message"], LEVELS[alone.levels[0]] if alone.count else "info"
    fields = {name: value for name, value in became.items() if name not in OWN}
    if record is not None and "error.message" not in became and "trace_id" not in became:
        message = record.get("message", record.get("msg"))
        level = NUMBERS.get(record["level"]) or str(record["level"]).lower()
        claimed = {"hostname": "agent.hostname"}
        if "job_id" not in record:
            claimed |= {"jobId": "job_id", "jobID": "job_id"}
        fields = {
            claimed.get(name, name): value
            for name, value in record.items()
            if name not in ("message", "msg", "level", "timestamp", "time")
        }
    renamed = ERRORS.get(provider, {})
    fields = {renamed.get(name, name): value for name, value in fields.items()}
    host, source, service = "worker-1", "CA_test", "cloud.livekit.io"
    if provider == "datadog":
        return {
            **fields, "message": message, "status": level, "hostname": host, "ddsource": source, "service": service,
            "stream": stream, "ddtags": "team:voice,env:test",
        }  # fmt: skip
    if provider == "cloudwatch":
        return {
            **fields, "message": message, "level": level, "host": host, "source": source, "service": service,
            "stream": stream, "tags": {"team": "voice", "env": "test"},
        }  # fmt: skip
    flat = {"stream": stream, "host": host, "source": source, "service": service, "team": "voice", "env": "test"}
    if provider == "sentry":
        name, number = SENTRY_LEVELS[level]
        return {
            **flattened(fields), **flat, "worker_id": host, "server.address": host, "agent_id": source,
            "item.body": message, "item.level": name,
            "sentry.severity_number": number, "sentry.severity_text": name,
        }  # fmt: skip
    assert provider == "newrelic"
    return {
        **flattened(fields), **flat, "hostname": host, "workerId": host, "agentId": source,
        "message": message, "level": level,
    }  # fmt: skip


def flattened(fields: dict[str, Any], before: str = "") -> Event:
    """Nested objects under names with dots, lists as their JSON, null left out."""
    flat: Event = {}
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            flat |= flattened(value, f"{before}{name}.")
        elif isinstance(value, (dict, list)):
            flat[before + name] = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        elif value is not None:
            flat[before + name] = value
    return flat


def test_100_000_real_lines_arrive_at_every_provider_each_once_with_their_fields_and_within_the_limits(
    sandbox: Sandbox, directory: Path, tmp_path: Path
) -> None:
    samples = {stream: sample_lines(stream) for stream in ("stdout", "stderr")}
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    plans: dict[str, list[Printed]] = {}
    for stream, count in (("stdout", 75_000), ("stderr", 25_000)):
        data, plans[stream] = print_plan(samples[stream], count, before)
        (tmp_path / f"{stream}.in").write_bytes(b"".join(line + b"\n" for line in data))
    agent = ["sh", "-c", f"cat {tmp_path}/stderr.in >&2 & cat {tmp_path}/stdout.in; wait"]
    environ = {"SHIPPER_TAGS": "team:voice,env:test"}
    with Wrapper(directory, agent, sandbox.url, environ, ALL) as wrapper:
        assert wrapper.wait(60) == 0
        assert wrapper.stdout == (tmp_path / "stdout.in").read_bytes()
        assert wrapper.said == []
        cursors = {name: wrapper.cursor(name) for name in ALL}
    span = before.timestamp() * 1000, time.time() * 1000
    (run,) = {run for run, _ in streams(sandbox)}
    at_least = sum(map(len, plans.values()))
    for provider in ALL:
        count = cursors[provider]["delivered"]  # empty lines that are joined with others are sent with them
        assert at_least <= count == 100_000 - cursors[provider]["left_out"]["empty"]
        summary = arrived(sandbox, provider)
        assert (summary["lines"], summary["own"]) == (count, 1)
        assert (summary["missing"], summary["repeats"], summary["too_old"], summary["cut"]) == (0, 0, 0, 0)
        assert not [why for why in summary["refused_why"] if "ResourceNotFoundException" not in why]
        for request in requests(sandbox, provider):
            check_limits(provider, request)
        events: dict[str, list[Event]] = {"stdout": [], "stderr": []}
        for event in as_sent(sandbox, provider):
            events[event["stream"]].append(event)
        for stream, printed in plans.items():
            wanted = [expected(provider, line, stream) for line in samples[stream]]
            joined = [event for event in events[stream] if "lines" in event]
            check_events(provider, events[stream], printed, wanted, run, span)
            for event in joined:
                texts = itertools.islice(itertools.cycle(samples[stream]), event["seq"] - 1, None)
                cleaned = [clean(text.decode(errors="replace")) for text in itertools.islice(texts, event["lines"])]
                assert event[BODIES.get(provider, "message")] == "\n".join(cleaned)
        check_views(sandbox, provider, samples, plans, run)
        (closing,) = ledgers(sandbox, provider)
        assert (closing["run"], closing["captured"], closing["delivered"]) == (run, 100_000, count)
        assert (closing["exit_status"], closing["filtered"], closing["dropped"]) == (0, 100_000 - count, {})


def check_events(
    provider: str, events: list[Event], printed: list[Printed], wanted: list[Event], run: str, span: tuple[float, float]
) -> None:
    """Each line once, alone or joined with others, and in it all that it should hold and nothing else."""
    # several requests may be under way at once, and CloudWatch's hold events in the order of their times
    events.sort(key=lambda event: int(event["seq"]))
    time_name = TIMES[provider]
    seen: set[int] = set()
    following = 1
    for event in events:
        assert event["seq"] == following + event.pop("skipped", 0)
        following = event["seq"] + event.get("lines", 1)
        seen.update(range(event["seq"], following))
    by_seq = {line.seq: line for line in printed}
    assert seen >= by_seq.keys()
    traces = {event.pop("item.trace_id", None) for event in events}
    assert len(traces) == 1
    if provider == "sentry":
        assert re.fullmatch(r"[0-9a-f]{32}", traces.pop() or "")
    for event in (event for event in events if "lines" not in event):
        line = by_seq[event.pop("seq")]
        assert event.pop("run") == run
        at = event.pop(time_name)
        if provider == "sentry":
            at = round(at * 1000, 3)
            assert event.pop("sentry.timestamp.sequence") == line.seq
        if line.time_ms is None:
            assert span[0] <= at <= span[1]
        else:
            assert at == line.time_ms
        for name, begins in CARRIED.items():
            if wanted[line.sample].get(name) in (None, "worker-1") and str(event.get(name)).startswith(begins):
                event[name] = wanted[line.sample].get(name)
                if event[name] is None:
                    del event[name]
        assert event == wanted[line.sample]


def check_views(
    sandbox: Sandbox, provider: str, samples: dict[str, list[bytes]], plans: dict[str, list[Printed]], run: str
) -> None:
    """The sandbox, which reads a body as the service does, finds the same in the first of them."""
    by_seq = {stream: {line.seq: line for line in printed} for stream, printed in plans.items()}
    for event in all_events(sandbox, provider, 2000):
        if event["lines"]:
            continue
        line = samples[event["stream"]][by_seq[event["stream"]][event["seq"]].sample]
        assert (event["host"], event["source"], event["service"]) == ("worker-1", "CA_test", "cloud.livekit.io")
        assert (event["run"], event["marks"]) == (run, [])
        if provider in ("datadog", "cloudwatch"):
            assert sorted(event["tags"]) == ["env:test", "team:voice"]
        else:  # attributes among others
            assert (event["attributes"]["env"], event["attributes"]["team"]) == ("test", "voice")
        message = expected("datadog", line, event["stream"])["message"]
        assert event["message"] == message


def check_limits(provider: str, request: Request) -> None:
    """What one request may hold, as the providers' pages have it."""
    body = plain(request.body)
    if provider == "datadog":
        assert len(body) <= 5_000_000
        assert len(json.loads(body)) <= 1000
    elif provider == "cloudwatch":
        events = json.loads(body)["logEvents"]
        assert len(events) <= 10_000
        assert sum(len(event["message"].encode()) + 26 for event in events) <= 1_048_576
        times = [event["timestamp"] for event in events]
        assert times == sorted(times)
        assert times[-1] - times[0] <= 24 * 3_600_000
    elif provider == "sentry":
        ((header, payload),) = envelope_items(body)
        items = json.loads(payload)["items"]
        assert (header["type"], header["item_count"]) == ("log", len(items))
        assert header["content_type"] == "application/vnd.sentry.items.log+json"
        assert len(payload) <= min(12 << 20, len(items) * (2 << 20))
        for attributes in (item["attributes"] for item in items[:50]):
            for attribute in attributes.values():
                assert type(attribute["value"]) is SENTRY_TYPES[attribute["type"]]
    else:
        assert provider == "newrelic"
        assert len(request.body) <= 1_000_000
        assert request.headers["x-request-id"]
        for event in events_in(provider, request.body)[:50]:
            assert len(event) <= 255
            assert all(len(name) <= 255 and type(value) in (str, int, float, bool) for name, value in event.items())


# -- one in trouble ----------------------------------------------------------------------------------------------------

TROUBLES: tuple[dict[str, Any], ...] = ({}, {"down": True}, {"status": 503}, {"status": 403})


@pytest.mark.parametrize("turn", range(len(ALL)))
def test_a_provider_that_is_away_fails_or_refuses_delays_no_other(sandbox: Sandbox, directory: Path, turn: int) -> None:
    well, down, failing, refusing = ALL[turn:] + ALL[:turn]
    for provider, trouble in zip((well, down, failing, refusing), TROUBLES, strict=True):
        sandbox.fault(provider, **trouble)
    with Run(sandbox, directory) as run:
        wait_for_all(sandbox, well)
        for provider in (down, failing, refusing):
            wait_until(lambda name=provider: run.said_of(name), 30, f"a word about {provider}")  # type: ignore[misc]
            assert arrived(sandbox, provider)["lines"] == 0
        sandbox.fault(down)
        sandbox.fault(failing)
        wait_for_all(sandbox, down, failing)
        run.end()
        for provider in (down, failing):
            about = run.said_of(provider)
            assert len(about) == 2
            assert "does not take lines at the moment" in about[0]
            assert about[1] == f"{TITLES[provider]} takes lines again"
        refusal, left = run.said_of(refusing)
        (entry,) = [entry for entry in REGISTRY if entry.name == refusing]
        assert any(name in refusal for name in entry.secrets)
        assert f"did not get {LINES} lines before the end" in left
        assert run.said_of(well) == []
        assert run.cursor(well)["delivered"] == LINES
    for provider in (well, down, failing):
        assert_each_once(sandbox, provider)
        (closing,) = ledgers(sandbox, provider)
        assert (closing["exit_status"], closing["level"], closing["delivered"]) == (7, "error", LINES)
    assert arrived(sandbox, refusing)["events"] == 0


KEYS = variables("")
SETTINGS = [
    ("sentry", {"SENTRY_DSN": "https://0123456789abcdef0123456789abcdef@sentry.invalid/"}, "SENTRY_DSN"),
    ("cloudwatch", {"AWS_REGION": "atlantis-1"}, "AWS_REGION"),
    ("datadog", {"DATADOG_REGION": "atlantis"}, "DATADOG_REGION"),
    ("newrelic", {"NEW_RELIC_LICENSE_KEY": KEYS["DATADOG_TOKEN"]}, "NEW_RELIC_LICENSE_KEY"),
    ("datadog", {"DATADOG_TOKEN": KEYS["NEW_RELIC_LICENSE_KEY"]}, "DATADOG_TOKEN"),
    ("sentry", {"SENTRY_DSN": KEYS["NEW_RELIC_LICENSE_KEY"]}, "SENTRY_DSN"),
    ("cloudwatch", {"AWS_ACCESS_KEY_ID": KEYS["DATADOG_TOKEN"]}, "AWS_ACCESS_KEY_ID"),
]


@pytest.mark.parametrize(
    ("sink", "wrong", "variable"), SETTINGS, ids=lambda value: str(value)[:40] if type(value) is str else ""
)
def test_a_wrong_setting_is_one_line_and_the_others_go_on(
    sandbox: Sandbox, directory: Path, sink: str, wrong: dict[str, str], variable: str
) -> None:
    with Run(sandbox, directory, wrong) as run:
        wait_for_all(sandbox, *others(sink))
        run.end()
        (said,) = run.said
        assert variable in said
        assert f"nothing is sent to {TITLES[sink]}" in said
        assert not any(secret in run.stderr for name, secret in wrong.items() if "REGION" not in name)
    assert_nothing(sandbox, sink)
    for provider in others(sink):
        assert_each_once(sandbox, provider)


@pytest.mark.parametrize("sink", ALL)
def test_a_certificate_that_nobody_vouches_for_gets_nothing_and_the_others_go_on(
    sandbox: Sandbox, directory: Path, network: Network, sink: str
) -> None:
    url = f"https://localhost:{network.tls(sandbox.port)}"
    with Run(sandbox, directory, variables(url, [sink])) as run:
        assert_only_one_is_kept_out(sandbox, run, sink, "certificate", url.removeprefix("https://"))
    assert network.received == 0


@pytest.mark.parametrize("sink", ALL)
def test_a_proxy_that_refuses_is_named_and_the_others_go_on(
    sandbox: Sandbox, directory: Path, network: Network, sink: str
) -> None:
    proxy = f"127.0.0.1:{network.refusing_proxy()}"
    environ = {**variables(f"https://{sink}.intake.test", [sink]), "HTTPS_PROXY": f"http://me:hunter2@{proxy}"}
    with Run(sandbox, directory, environ) as run:
        assert_only_one_is_kept_out(sandbox, run, sink, "proxy", proxy)
        assert "hunter2" not in run.stderr
    assert set(network.targets) == {f"{sink}.intake.test:443"}


def assert_only_one_is_kept_out(sandbox: Sandbox, run: Run, sink: str, *words: str) -> None:
    """One line about it while the agent runs, one at its end; all others have every line."""
    wait_for_all(sandbox, *others(sink))
    wait_until(lambda: run.said, 30, "a word about it")
    (said,) = run.said
    for word in (TITLES[sink], *words):
        assert word in said
    run.end()
    assert len(run.said) == 2
    assert run.said[1].startswith(f"{TITLES[sink]} did not get {LINES} lines before the end")
    assert_nothing(sandbox, sink)
    for provider in others(sink):
        assert_each_once(sandbox, provider)


FULL = {"datadog": 1000, "cloudwatch": 4000, "sentry": 1000, "newrelic": 3000}
"""Lines of the samples that are sure to fill a request; some are filled by their size, not by their number."""


@pytest.mark.parametrize("sink", ALL)
def test_what_fills_a_request_does_not_wait_for_company(sandbox: Sandbox, directory: Path, sink: str) -> None:
    samples = [line for line in sample_lines("stdout") if line.strip()]
    file = directory.parent / "lines"
    file.write_bytes(b"".join(line + b"\n" for line in (samples * 200)[:30_000]))
    agent = ["sh", "-c", f"cat {file}; exec sleep 60"]
    sandbox.fault(sink, status=503)
    with Wrapper(directory, agent, sandbox.url, {"SHIPPER_FLUSH_INTERVAL": "60s"}, [sink]) as wrapper:
        wait_until(lambda: wrapper.said, 20, "a word about it")
        sandbox.fault(sink)
        wait_until(
            lambda: arrived(sandbox, sink)["lines"] > 30_000 - FULL[sink], 30, "all lines but the last request's"
        )
        wrapper.terminate()
        assert wrapper.wait() == 143
    assert arrived(sandbox, sink)["lines"] == 30_000


# -- where it goes, and with which secret ------------------------------------------------------------------------------


def assert_all_arrive(sandbox: Sandbox, run: Run, providers: Iterable[str] = ALL) -> None:
    wait_for_all(sandbox, *providers)
    run.end()
    assert run.said == []
    for provider in providers:
        assert_each_once(sandbox, provider)
    for provider in others(*providers):
        assert_nothing(sandbox, provider)


@pytest.mark.parametrize("sinks", [("sentry", "newrelic"), ("cloudwatch",)])
def test_shipper_sinks_narrows_what_the_secrets_turn_on(
    sandbox: Sandbox, directory: Path, sinks: tuple[str, ...]
) -> None:
    with Run(sandbox, directory, {"SHIPPER_SINKS": ",".join(sinks)}) as run:
        assert_all_arrive(sandbox, run, sinks)


def test_every_secret_may_stand_in_a_file(sandbox: Sandbox, directory: Path, tmp_path: Path) -> None:
    everything = variables(sandbox.url)
    environ: dict[str, str] = {}
    for entry in REGISTRY:
        for name in entry.secrets:
            (tmp_path / name).write_text(everything[name] + "\n")
            environ |= {name: "", f"{name}_FILE": str(tmp_path / name)}
    with Run(sandbox, directory, environ) as run:
        assert_all_arrive(sandbox, run)


def test_https_proxy_carries_every_sink_and_the_certificate_behind_it_is_verified(
    sandbox: Sandbox, directory: Path, network: Network
) -> None:
    proxy = network.proxy(network.tls(sandbox.port))
    environ = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy}", "SSL_CERT_FILE": str(network.authority)}
    for name in ALL:
        environ |= variables(f"https://{name}.intake.test", [name])
    with Run(sandbox, directory, environ) as run:
        assert_all_arrive(sandbox, run)
    assert set(network.targets) == {f"{name}.intake.test:443" for name in ALL}
    assert network.received > 0


def test_no_proxy_keeps_every_sink_off_the_proxy(sandbox: Sandbox, directory: Path, network: Network) -> None:
    environ = variables(f"https://localhost:{network.tls(sandbox.port)}")
    environ |= {
        "HTTPS_PROXY": f"http://127.0.0.1:{network.refusing_proxy()}",
        "NO_PROXY": "localhost",
        "SSL_CERT_FILE": str(network.authority),
    }
    with Run(sandbox, directory, environ) as run:
        assert_all_arrive(sandbox, run)
    assert network.targets == []


def test_the_agent_s_own_aws_set_up_does_not_matter(sandbox: Sandbox, directory: Path, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    nonsense = "[default]\nregion = atlantis-1\nendpoint_url = http://127.0.0.1:1\nretry_mode = nonsense\n"
    (tmp_path / ".aws" / "config").write_text(nonsense)
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = other\naws_secret_access_key = other\n"
    )
    environ = {
        "HOME": str(tmp_path),
        "AWS_PROFILE": "nobody",
        "AWS_DEFAULT_REGION": "atlantis-1",
        "AWS_CA_BUNDLE": "/nonexistent",
        "AWS_MAX_ATTEMPTS": "nonsense",
        "AWS_USE_FIPS_ENDPOINT": "true",
    }
    with Run(sandbox, directory, environ) as run:
        assert_all_arrive(sandbox, run)


def test_a_few_lines_are_compressed_as_well_as_many(sandbox: Sandbox, directory: Path) -> None:
    lines = [line for line in sample_lines("stdout") if line.strip()][:40]
    file = directory.parent / "lines"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    with Wrapper(directory, ["cat", str(file)], sandbox.url, {}, ALL) as wrapper:
        assert wrapper.wait() == 0
    for provider in ALL:
        for request in requests(sandbox, provider):
            assert len(request.body) <= 1.3 * len(zlib.compress(plain(request.body), 1)), provider


def test_cloudwatch_s_raw_format_is_the_agent_s_own_line_and_of_our_event_the_sentence(
    sandbox: Sandbox, directory: Path
) -> None:
    lines = [line for line in sample_lines("stdout") if line.strip()]
    file = directory.parent / "lines"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    with Wrapper(
        directory, ["cat", str(file)], sandbox.url, {"SHIPPER_CLOUDWATCH_FORMAT": "raw"}, ("cloudwatch", "datadog")
    ) as wrapper:
        assert wrapper.wait() == 0
    got: list[str] = []
    for request in requests(sandbox, "cloudwatch"):
        body = json.loads(plain(request.body))
        assert (body["logGroupName"], body["logStreamName"]) == ("CA_test", "worker-1")
        got += [event["message"] for event in body["logEvents"]]
    closing = f"The agent ended with status 0: {len(lines)} lines captured, {len(lines)} delivered."
    assert got.pop() == closing
    assert len(got) < len(lines)  # of lines that belong together there is one event
    assert sorted("\n".join(got).split("\n")) == sorted(line.decode(errors="replace") for line in lines)
    assert arrived(sandbox)["lines"] == len(lines)
