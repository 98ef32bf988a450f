"""The vendors' own clients against the sandbox, over HTTP: what they send is taken, what arrives is what was sent.

Datadog's is in test_server.py.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3  # type: ignore[import-untyped]
import orjson
import pytest
import urllib3
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from newrelic_telemetry_sdk import Log, LogClient  # type: ignore[import-untyped]
from sentry_sdk.envelope import Envelope, Item, PayloadRef

from shipper.sandbox.cloudwatch import DEMO
from shipper.sandbox.sentry import Sentry
from shipper.sandbox.server import Sandbox, running_in_thread

NR_KEY = "0123456789abcdef0123456789abcdef0123NRAL"
TEXT = "text ü\n\N{GRINNING FACE} \x00\x1f\\"


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with running_in_thread() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared: Sandbox) -> Sandbox:
    assert ask(shared, "POST", "/sandbox/reset")[0] == 200
    return shared


def ask(sandbox: Sandbox, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=30)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, orjson.loads(response.read())


def events(sandbox: Sandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(sandbox, "GET", "/sandbox/events")[1]["events"]
    return found


def summary(sandbox: Sandbox, provider: str) -> Any:
    return ask(sandbox, "GET", "/sandbox/summary")[1]["providers"][provider]


def order(sandbox: Sandbox, **fault: Any) -> None:
    status, answer = ask(sandbox, "POST", "/sandbox/fault", orjson.dumps(fault))
    assert status == 200, answer


# boto3


def cloudwatch(sandbox: Sandbox, secret: str = DEMO[1], key: str = DEMO[0], **more: Any) -> Any:
    return boto3.client(
        "logs",
        region_name="eu-central-1",
        endpoint_url=sandbox.url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
        **more,
    )


@pytest.fixture
def logs(sandbox: Sandbox) -> Iterator[Any]:
    """A client, and the group g with the stream s."""
    with contextlib.closing(cloudwatch(sandbox)) as client:
        client.create_log_group(logGroupName="g")
        client.create_log_stream(logGroupName="g", logStreamName="s")
        yield client


def put(client: Any, *given: tuple[int, str], **more: Any) -> Any:
    batch = [{"timestamp": timestamp, "message": message} for timestamp, message in given]
    return client.put_log_events(**{"logGroupName": "g", "logStreamName": "s", "logEvents": batch, **more})


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_what_boto3_puts_arrives_as_it_was_put(sandbox: Sandbox, logs: Any) -> None:
    now = now_ms()
    logs.put_retention_policy(logGroupName="g", retentionInDays=30)
    answer = put(logs, (now - 1, "first"), (now, TEXT), sequenceToken="1")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert len(answer["nextSequenceToken"]) == 56
    assert "rejectedLogEventsInfo" not in answer
    assert uuid.UUID(answer["ResponseMetadata"]["RequestId"]).version == 4
    found = events(sandbox)
    assert [(e["time_ms"], e["message"], e["host"], e["source"]) for e in found] == [
        (now - 1, "first", "s", "g"),
        (now, TEXT, "s", "g"),
    ]
    assert found[0]["place"] == {"region": "eu-central-1", "log group": "g", "log stream": "s"}
    assert summary(sandbox, "cloudwatch")["key"] == "…MPLE eu-central-1"


def test_what_was_refused_for_want_of_group_and_stream_is_mended_by_making_them(sandbox: Sandbox, logs: Any) -> None:
    for _ in range(2):
        with pytest.raises(logs.exceptions.ResourceNotFoundException):
            put(logs, (now_ms(), "m"), logGroupName="new")
    logs.create_log_group(logGroupName="new")
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        put(logs, (now_ms(), "m"), logGroupName="new")
    logs.create_log_stream(logGroupName="new", logStreamName="s")
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        put(logs, (now_ms(), "m"), logGroupName="another")
    assert (summary(sandbox, "cloudwatch")["refused"], summary(sandbox, "cloudwatch")["mended"]) == (4, 0)
    put(logs, (now_ms(), "m"), logGroupName="new")
    assert (summary(sandbox, "cloudwatch")["refused"], summary(sandbox, "cloudwatch")["mended"]) == (4, 3)


def test_boto3_reads_which_events_were_rejected(sandbox: Sandbox, logs: Any) -> None:
    now = now_ms()
    answer = put(logs, (1, "old"), (now, "good"), (now + 3 * 3_600_000, "new"))
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2}
    totals = summary(sandbox, "cloudwatch")
    assert (totals["events"], totals["lines"], totals["too_old"], totals["dropped"]) == (3, 1, 1, 1)


@pytest.mark.parametrize(
    ("call", "exception", "message"),
    [
        (lambda c: put(c, (2, "b"), (1, "a")), "InvalidParameterException", "must be in chronological order."),
        (put, "InvalidParameterException", "Member must have length greater than or equal to 1"),
        (
            lambda c: put(c, *[(now_ms(), "m")] * 10_001),
            "InvalidParameterException",
            "Member must have length less than or equal to 10000",
        ),
        (
            lambda c: put(c, (now_ms(), "x" * 1_048_551)),
            "InvalidParameterException",
            "Log event too large: 1048577 bytes exceeds limit of 1048576",
        ),
        (
            lambda c: put(c, (now_ms() - 86_400_001, "a"), (now_ms(), "b")),
            "InvalidParameterException",
            "cannot span more than 24 hours.",
        ),
        (
            lambda c: put(c, (1, "a"), logGroupName="other"),
            "ResourceNotFoundException",
            "The specified log group does not exist.",
        ),
        (
            lambda c: put(c, (1, "a"), logStreamName="other"),
            "ResourceNotFoundException",
            "The specified log stream does not exist.",
        ),
        (
            lambda c: c.create_log_group(logGroupName="g"),
            "ResourceAlreadyExistsException",
            "The specified log group already exists",
        ),
        (
            lambda c: c.create_log_stream(logGroupName="g", logStreamName="s"),
            "ResourceAlreadyExistsException",
            "The specified log stream already exists",
        ),
    ],
)
def test_boto3_finds_the_right_exception_for_each_refusal(logs: Any, call: Any, exception: str, message: str) -> None:
    with pytest.raises(getattr(logs.exceptions, exception)) as raised:
        call(logs)
    assert raised.value.response["Error"]["Code"] == exception
    assert message in raised.value.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("client", "code"),
    [
        ({"secret": "wrong"}, "InvalidSignatureException"),
        ({"key": "AKIASHORT"}, "UnrecognizedClientException"),
        ({"key": "ASIAIOSFODNN7EXAMPLE"}, "UnrecognizedClientException"),
    ],
)
def test_boto3_reads_why_its_keys_are_refused(sandbox: Sandbox, client: Any, code: str) -> None:
    with contextlib.closing(cloudwatch(sandbox, **client)) as wrong, pytest.raises(ClientError) as raised:
        put(wrong, (now_ms(), "m"))
    assert raised.value.response["Error"]["Code"] == code
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_boto3_signs_temporary_keys_as_the_sandbox_reads_them(sandbox: Sandbox) -> None:
    temporary = cloudwatch(sandbox, key="ASIAIOSFODNN7EXAMPLE", aws_session_token="token")
    with contextlib.closing(temporary) as client:
        client.create_log_group(logGroupName="temporary")
    assert summary(sandbox, "cloudwatch")["accepted"] == 1


def test_an_operation_that_the_sandbox_does_not_have_is_unknown(logs: Any) -> None:
    with pytest.raises(ClientError) as raised:
        logs.describe_log_groups()
    assert raised.value.response["Error"]["Code"] == "UnknownOperationException"


@pytest.mark.parametrize(
    ("status", "code", "http_status"),
    [
        (429, "ThrottlingException", 400),
        (503, "ServiceUnavailableException", 500),
        (403, "AccessDeniedException", 400),
        (401, "UnrecognizedClientException", 400),
    ],
)
def test_a_fault_reaches_boto3_as_the_services_exception(
    sandbox: Sandbox, logs: Any, status: int, code: str, http_status: int
) -> None:
    order(sandbox, provider="cloudwatch", status=status, count=1)
    with pytest.raises(ClientError) as raised:
        put(logs, (now_ms(), "m"))
    assert raised.value.response["Error"]["Code"] == code
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == http_status
    put(logs, (now_ms(), "m"))


def test_a_fault_of_one_operation_leaves_the_others_alone(sandbox: Sandbox, logs: Any) -> None:
    order(sandbox, provider="cloudwatch", status=403, operation="CreateLogStream")
    put(logs, (now_ms(), "m"))
    with pytest.raises(ClientError):
        logs.create_log_stream(logGroupName="g", logStreamName="other")


def test_events_are_rejected_on_request_and_the_others_kept(sandbox: Sandbox, logs: Any) -> None:
    order(sandbox, provider="cloudwatch", operation="PutLogEvents", reject={"too_old": 1, "too_new": 1}, count=1)
    logs.create_log_stream(logGroupName="g", logStreamName="other")
    answer = put(logs, *[(now_ms(), str(n)) for n in range(4)])
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 3}
    assert [event["marks"] for event in events(sandbox)] == [
        ["rejected on request: too old"],
        [],
        [],
        ["rejected on request: too new"],
    ]
    assert summary(sandbox, "cloudwatch")["dropped"] == 2
    assert "rejectedLogEventsInfo" not in put(logs, (now_ms(), "m"))


def test_a_reset_forgets_the_groups(sandbox: Sandbox, logs: Any) -> None:
    ask(sandbox, "POST", "/sandbox/reset")
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        put(logs, (now_ms(), "m"))


# newrelic-telemetry-sdk


class PlainLogClient(LogClient):  # type: ignore[misc]  # the SDK has no types
    """Over HTTP, which the SDK has no setting for."""

    POOL_CLS = urllib3.HTTPConnectionPool


@contextlib.contextmanager
def newrelic(sandbox: Sandbox, key: str = NR_KEY) -> Iterator[Any]:
    client = PlainLogClient(key, host="127.0.0.1", port=sandbox.port)
    with contextlib.closing(client):
        yield client


def test_what_new_relics_sdk_sends_arrives_as_it_was_sent(sandbox: Sandbox) -> None:
    now = now_ms()
    batch = [Log(f"{n} {TEXT}", timestamp=now, number=n, half=n / 2, flag=True, **{"user.name": "a"}) for n in range(3)]
    with newrelic(sandbox) as client:
        answer = client.send_batch(batch, common={"attributes": {"host": "AW_1", "service": "s", "env": "prod"}})
    assert answer.status == 202
    assert str(uuid.UUID(answer.json()["requestId"])) == answer.json()["requestId"]
    found = events(sandbox)
    assert [(e["message"], e["time_ms"], e["host"], e["service"]) for e in found] == [
        (f"{n} {TEXT}", now, "AW_1", "s") for n in range(3)
    ]
    assert [e["attributes"] for e in found] == [
        {"env": "prod", "number": n, "half": n / 2, "flag": True, "user.name": "a"} for n in range(3)
    ]
    assert [e["marks"] for e in found] == [[]] * 3
    assert uuid.UUID(found[0]["request_id"]).version == 4
    totals = summary(sandbox, "newrelic")
    assert (totals["requests"], totals["accepted"], totals["key"]) == (1, 1, "…0123NRAL")


def test_new_relics_sdk_reads_its_refusals(sandbox: Sandbox) -> None:
    with newrelic(sandbox, "short") as client:
        answer = client.send(Log("m"))
    assert (answer.status, answer.ok) == (403, False)
    with newrelic(sandbox) as client:
        noise = os.urandom(600_000).hex()  # some 600 kB of it remain after gzip
        assert client.send_batch([Log(noise), Log(noise[::-1])]).status == 413
        order(sandbox, provider="newrelic", status=429, retry_after=7, count=1)
        answer = client.send(Log("m"))
    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert events(sandbox) == []


# sentry-sdk


def sentry(sandbox: Sandbox, program: str, dsn: str = "") -> None:
    """Run the lines with sentry_sdk set up; it keeps global state, so not in this process."""
    dsn = dsn or f"http://{'a1' * 16}@127.0.0.1:{sandbox.port}/42"
    code = textwrap.dedent(
        f"""
        import sentry_sdk, sentry_sdk.logger
        sentry_sdk.init({dsn!r}, enable_logs=True, traces_sample_rate=1.0, server_name="AW_1",
                        release="shipper@1", environment="test", default_integrations=False)
        """
    ) + textwrap.dedent(program)
    code += "\nsentry_sdk.flush(timeout=20)\n"
    environ = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    ended = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_sentrys_sdk_logs_arrives_as_it_was_logged(sandbox: Sandbox) -> None:
    begin = now_ms()
    program = f"""
        TEXT = {TEXT!r}
        for level in ("trace", "debug", "info", "warning", "error", "fatal"):
            getattr(sentry_sdk.logger, level)(level + " " + TEXT, attributes={{
                "text": "a", "whole": 7, "half": 0.5, "flag": True, "list": ["a", "b"]}})
    """
    sentry(sandbox, program)
    found = events(sandbox)
    assert [(e["message"], e["level"]) for e in found] == [
        (f"trace {TEXT}", "debug"),
        (f"debug {TEXT}", "debug"),
        (f"info {TEXT}", "info"),
        (f"warning {TEXT}", "warning"),
        (f"error {TEXT}", "error"),
        (f"fatal {TEXT}", "critical"),
    ]
    assert [e["marks"] for e in found] == [[]] * 6
    for event in found:
        attributes = event["attributes"]
        given = {name: attributes[name] for name in ("text", "whole", "half", "flag", "list")}
        assert given == {"text": "a", "whole": 7, "half": 0.5, "flag": True, "list": ["a", "b"]}
        assert attributes["sentry.release"] == "shipper@1"
        assert (event["host"], event["place"]) == ("AW_1", {"project": "42", "item": "log"})
        assert begin <= event["time_ms"] <= now_ms()
        assert len(event["trace_id"]) == 32
    totals = summary(sandbox, "sentry")
    assert (totals["refused"], totals["dropped"], totals["key"]) == (0, 0, "…a1a1")


def test_a_thousand_logs_of_sentrys_sdk_arrive_in_batches(sandbox: Sandbox) -> None:
    sentry(
        sandbox, "for n in range(1000):\n    sentry_sdk.logger.info(str(n))\n    n % 90 or sentry_sdk.flush(timeout=20)"
    )
    assert sorted(int(event["message"]) for event in events(sandbox)) == list(range(1000))
    assert summary(sandbox, "sentry")["accepted"] >= 10


def test_a_crash_that_sentrys_sdk_captures_arrives_as_an_event(sandbox: Sandbox) -> None:
    program = """
        sentry_sdk.set_tag("team", "voice")
        try:
            raise ValueError("boom")
        except ValueError as error:
            assert sentry_sdk.capture_exception(error)
        sentry_sdk.capture_message("a message", level="warning")
        with sentry_sdk.start_transaction(name="t"):
            pass
    """
    sentry(sandbox, program)
    crash, message = events(sandbox)
    assert (crash["message"], crash["level"], crash["host"]) == ("ValueError: boom", "error", "AW_1")
    assert crash["tags"] == ["team:voice"]
    assert crash["place"] == {"project": "42", "item": "event"}
    assert crash["attributes"]["environment"] == "test"
    assert crash["attributes"]["exception"]["values"][0]["stacktrace"]["frames"]
    assert (message["message"], message["level"]) == ("a message", "warning")
    totals = summary(sandbox, "sentry")
    assert (totals["refused"], totals["events"]) == (0, 2)
    assert totals["accepted"] >= 3  # the transaction is taken and not shown


def test_sentrys_sdk_heeds_the_limits_that_come_with_an_accepted_answer(sandbox: Sandbox) -> None:
    order(sandbox, provider="sentry", rate_limits="60:log_item:organization", count=1)
    program = """
        for n in range(3):
            sentry_sdk.logger.info(str(n))
            sentry_sdk.flush(timeout=20)
        sentry_sdk.capture_message("of another category")
    """
    sentry(sandbox, program)
    assert [event["message"] for event in events(sandbox)] == ["0", "of another category"]


def test_sentrys_sdk_heeds_a_refusal_with_limits(sandbox: Sandbox) -> None:
    order(sandbox, provider="sentry", status=429, retry_after=60, rate_limits="60::organization", count=1)
    program = """
        for n in range(3):
            sentry_sdk.logger.info(str(n))
            sentry_sdk.flush(timeout=20)
    """
    sentry(sandbox, program)
    totals = summary(sandbox, "sentry")
    assert (totals["requests"], totals["refused_why"]) == (1, {"429 asked for": 1})


def test_sentrys_own_parser_reads_what_the_sandbox_reads(sandbox: Sandbox) -> None:
    """The same bytes, taken apart by both."""
    made = Envelope(headers={"event_id": "9" * 32})
    made.add_event({"message": TEXT})
    made.add_item(
        Item(
            payload=PayloadRef(json={"items": [{"body": TEXT}]}),
            type="log",
            content_type="application/vnd.sentry.items.log+json",
            headers={"item_count": 1},
        )
    )
    data = made.serialize()
    theirs = [(item.type, item.get_bytes()) for item in Envelope.deserialize(data).items]
    header, at = Sentry()._header(data)
    ours = [(item.kind, item.payload) for item in Sentry()._items(data, at)]
    assert ours == theirs
    assert header == {"event_id": "9" * 32}
