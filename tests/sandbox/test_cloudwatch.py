"""CloudWatch Logs as an intake: signatures, parameters, limits at their edges, state, what is rejected of a batch."""

from __future__ import annotations

import gzip
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.sandbox.cloudwatch import DEMO, RETENTION, CloudWatch
from shipper.sandbox.faults import Fault
from shipper.sandbox.intake import Answer, RefusedError, Request, Unpacked

NOW_MS = 1_795_563_000_000
NOW = datetime.fromtimestamp(NOW_MS // 1000, UTC)
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
OTHER_KEY = "AKIAI44QH8DHBEXAMPLE"


def stamp(offset: int = 0) -> str:
    return datetime.fromtimestamp(NOW_MS // 1000 + offset, UTC).strftime("%Y%m%dT%H%M%SZ")


def signature(headers: dict[str, str], signed: str, body: bytes, secret: str, scope: str) -> str:
    """Signature Version 4 as its documentation has it, written apart from the sandbox's."""
    lines = "".join(f"{name}:{headers[name]}\n" for name in signed.split(";"))
    canonical = f"POST\n/\n\n{lines}\n{signed}\n{hashlib.sha256(body).hexdigest()}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{digest}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def request(
    operation: str = "PutLogEvents",
    body: Any = None,
    *,
    key: str = DEMO[0],
    secret: str = DEMO[1],
    when: str = "",
    scope: str = "",
    signed: str = "content-type;host;x-amz-date;x-amz-target",
    path: str = "/",
    method: str = "POST",
    **more: str,
) -> Request:
    when = when or stamp()
    data = body if type(body) is bytes else orjson.dumps({} if body is None else body)
    headers = {
        "host": "127.0.0.1:8080",
        "content-type": "application/x-amz-json-1.1",
        "x-amz-date": when,
        "x-amz-target": f"Logs_20140328.{operation}",
    }
    headers.update({name.replace("_", "-"): value for name, value in more.items()})
    scope = scope or f"{when[:8]}/us-east-1/logs/aws4_request"
    if "authorization" not in headers:
        made = signature(headers, signed, data, secret, scope) if set(signed.split(";")) <= set(headers) else "0" * 64
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={signed}, Signature={made}"
        )
    return Request(method, path, {}, {k: v for k, v in headers.items() if v}, data, NOW_MS)


def take(intake: CloudWatch, asked: Request, fault: Fault | None = None) -> tuple[Answer, Unpacked]:
    intake.admit(asked)
    intake.verify(asked)
    unpacked = intake.unpack(intake.without_keys(asked))
    return intake.settle(asked, unpacked, fault), unpacked


def refused(intake: CloudWatch, asked: Request) -> tuple[str, str | None]:
    with pytest.raises(RefusedError) as caught:
        take(intake, asked)
    answer = caught.value.answer
    assert answer.status == 400
    assert answer.content_type == "application/x-amz-json-1.1"
    assert len(answer.headers["x-amzn-RequestId"]) == 36
    body = orjson.loads(answer.body)
    assert body.keys() <= {"__type", "message"}
    return body["__type"], body.get("message")


@pytest.fixture
def intake() -> CloudWatch:
    """With the group g and in it the stream s."""
    made = CloudWatch()
    take(made, request("CreateLogGroup", {"logGroupName": "g"}))
    take(made, request("CreateLogStream", {"logGroupName": "g", "logStreamName": "s"}))
    return made


def put(*events: tuple[int, str], **more: Any) -> Request:
    body = {
        "logGroupName": "g",
        "logStreamName": "s",
        "logEvents": [{"timestamp": timestamp, "message": message} for timestamp, message in events],
    }
    return request("PutLogEvents", {**body, **more})


# Signature Version 4

MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)
SIGNED = "content-type;host;x-amz-date;x-amz-target"


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        (request(authorization=""), "MissingAuthenticationTokenException", "Missing Authentication Token"),
        (
            request(authorization="Bearer abc"),
            "IncompleteSignatureException",
            (
                "Authorization header requires 'Credential' parameter. "
                "Authorization header requires 'Signature' parameter. "
                "Authorization header requires 'SignedHeaders' parameter."
            ),
        ),
        (
            request(authorization="AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host"),
            "IncompleteSignatureException",
            "Authorization header requires 'Signature' parameter.",
        ),
        (
            request(authorization="AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c"),
            "IncompleteSignatureException",
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
        ),
        (
            request(x_amz_date="", signed="content-type;host"),
            "IncompleteSignatureException",
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        ),
        (
            request(scope=f"{stamp()[:8]}/us-east-1/s3/aws4_request"),
            "InvalidSignatureException",
            "Credential should be scoped to correct service: 'logs'.",
        ),
        (
            request(scope=f"{stamp()[:8]}/nowhere/logs/aws4_request"),
            "InvalidSignatureException",
            "Credential should be scoped to a valid region.",
        ),
        (
            request(scope=f"{stamp()[:8]}/us-east-1/logs/aws3_request"),
            "InvalidSignatureException",
            "Credential should be scoped with a valid terminator: 'aws4_request'.",
        ),
        (
            request(scope="20200101/us-east-1/logs/aws4_request"),
            "InvalidSignatureException",
            (
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'20200101' != '{stamp()[:8]}', from '{stamp()}'."
            ),
        ),
        (
            request(signed="content-type;x-amz-date;x-amz-target"),
            "InvalidSignatureException",
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
        ),
        (
            request(signed="content-type;host;x-amz-date"),
            "InvalidSignatureException",
            "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization.",
        ),
        (request(secret="wrong"), "InvalidSignatureException", MISMATCH),
        (request(signed="host;content-type;x-amz-date;x-amz-target"), "InvalidSignatureException", MISMATCH),
        (
            request(when=stamp(-301)),
            "InvalidSignatureException",
            f"Signature expired: {stamp(-301)} is now earlier than {stamp(-300)} ({stamp()} - 5 min.)",
        ),
        (
            request(when=stamp(301)),
            "InvalidSignatureException",
            f"Signature not yet current: {stamp(301)} is still later than {stamp(300)} ({stamp()} + 5 min.)",
        ),
        (
            request(key="AKIASHORT"),
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        (
            request(key="ASIAIOSFODNN7EXAMPLE"),
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
    ],
)
def test_each_fault_of_a_signature_has_the_services_words(asked: Request, kind: str, message: str) -> None:
    assert refused(CloudWatch(), asked) == (kind, message)


@pytest.mark.parametrize("offset", [-300, 0, 300])
def test_a_signature_is_good_for_five_minutes_either_way(intake: CloudWatch, offset: int) -> None:
    asked = request("PutRetentionPolicy", {"logGroupName": "g", "retentionInDays": 7}, when=stamp(offset))
    assert take(intake, asked)[0].status == 200


def test_every_signed_part_counts(intake: CloudWatch) -> None:
    asked = put((NOW_MS, "m"))
    take(intake, asked)
    for change in (
        {"body": asked.body.replace(b'"m"', b'"n"')},
        {"headers": {**asked.headers, "host": "elsewhere"}},
        {"headers": {**asked.headers, "content-type": "application/x-amz-json-1.1; charset=utf-8"}},
    ):
        changed = Request(
            asked.method, asked.path, asked.query, change.get("headers", asked.headers),  # type: ignore[arg-type]
            change.get("body", asked.body), NOW_MS,  # type: ignore[arg-type]
        )  # fmt: skip
        assert refused(intake, changed) == ("InvalidSignatureException", MISMATCH)


@pytest.mark.parametrize("key", [DEMO[0], OTHER_KEY])
def test_a_hash_of_the_body_that_was_sent_has_to_be_the_bodys(key: str, intake: CloudWatch) -> None:
    names = "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target"
    body = orjson.dumps({"logGroupName": "g", "retentionInDays": 7})
    right = request(
        "PutRetentionPolicy", body, key=key, signed=names, x_amz_content_sha256=hashlib.sha256(body).hexdigest()
    )
    assert take(intake, right)[0].status == 200
    for said in (hashlib.sha256(b"another").hexdigest(), "UNSIGNED-PAYLOAD", "é"):
        wrong = request("PutRetentionPolicy", body, key=key, signed=names, x_amz_content_sha256=said)
        assert refused(intake, wrong) == ("InvalidSignatureException", MISMATCH)


def test_another_access_key_is_taken_by_its_shape(intake: CloudWatch) -> None:
    body = {"logGroupName": "g", "retentionInDays": 7}
    assert take(intake, request("PutRetentionPolicy", body, key=OTHER_KEY, secret="unknown"))[0].status == 200
    temporary = request(
        "PutRetentionPolicy", body, key="ASIAIOSFODNN7EXAMPLE", secret="unknown", x_amz_security_token="token",
        signed="content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
    )  # fmt: skip
    assert take(intake, temporary)[0].status == 200


def test_what_the_page_gets_holds_no_key() -> None:
    asked = request(x_amz_security_token="a-long-session-token-0123456789", signed=SIGNED)
    hidden = CloudWatch().without_keys(asked)
    assert DEMO[0] not in repr(hidden)
    assert "0123456789" not in repr(hidden)
    assert hidden.headers["authorization"] == "…MPLE us-east-1"
    assert CloudWatch().without_keys(request(authorization="nonsense")).headers["authorization"] == "…"


# Requests


@pytest.mark.parametrize(
    "asked",
    [
        request("DescribeLogGroups"),
        request("", x_amz_target="PutLogEvents"),
        request(x_amz_target="Logs_20140329.PutLogEvents"),
        request(content_type="application/json"),
    ],
)
def test_an_unknown_operation_is_refused_without_words(asked: Request) -> None:
    assert refused(CloudWatch(), asked) == ("UnknownOperationException", None)


@pytest.mark.parametrize(("change", "status"), [({"path": "/logs"}, 404), ({"method": "GET"}, 405)])
def test_only_post_on_the_root_is_answered(change: dict[str, str], status: int) -> None:
    with pytest.raises(RefusedError) as caught:
        take(CloudWatch(), request(**change))
    assert caught.value.answer.status == status
    assert orjson.loads(caught.value.answer.body)["__type"] == "UnknownOperationException"


CHECK = "1 validation error detected: Value"


@pytest.mark.parametrize(
    ("operation", "body", "kind", "message"),
    [
        ("PutLogEvents", b"{", "SerializationException", None),
        ("PutLogEvents", b"[]", "SerializationException", "Start of structure or map found where not expected."),
        ("CreateLogGroup", {}, "InvalidParameterException",
         f"{CHECK} null at 'logGroupName' failed to satisfy constraint: Member must not be null"),
        ("CreateLogGroup", {"logGroupName": 5}, "SerializationException",
         "NUMBER_VALUE can not be converted to a String"),
        ("CreateLogGroup", {"logGroupName": ""}, "InvalidParameterException",
         (f"{CHECK} '' at 'logGroupName' failed to satisfy constraint: "
         "Member must have length greater than or equal to 1")),
        ("CreateLogGroup", {"logGroupName": "g" * 513}, "InvalidParameterException",
         f"{CHECK} at 'logGroupName' failed to satisfy constraint: Member must have length less than or equal to 512"),
        ("CreateLogGroup", {"logGroupName": "a b"}, "InvalidParameterException",
         (f"{CHECK} at 'logGroupName' failed to satisfy constraint: "
         r"Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+")),
        ("CreateLogGroup", {"logGroupName": "aws/mine"}, "InvalidParameterException",
         "Log groups starting with AWS/ are reserved for AWS."),
        ("CreateLogStream", {"logGroupName": "g", "logStreamName": "a:b"}, "InvalidParameterException",
         (f"{CHECK} at 'logStreamName' failed to satisfy constraint: "
         "Member must satisfy regular expression pattern: [^:*]*")),
        ("CreateLogStream", {"logGroupName": "g", "logStreamName": "s" * 513}, "InvalidParameterException",
         f"{CHECK} at 'logStreamName' failed to satisfy constraint: Member must have length less than or equal to 512"),
        ("PutRetentionPolicy", {"logGroupName": "g"}, "InvalidParameterException",
         f"{CHECK} null at 'retentionInDays' failed to satisfy constraint: Member must not be null"),
        ("PutRetentionPolicy", {"logGroupName": "g", "retentionInDays": 2}, "InvalidParameterException",
         (f"{CHECK} '2' at 'retentionInDays' failed to satisfy constraint: "
         f"Member must satisfy enum value set: [{', '.join(map(str, RETENTION))}]")),
        ("PutRetentionPolicy", {"logGroupName": "g", "retentionInDays": "7"}, "SerializationException",
         "STRING_VALUE can not be converted to an Integer"),
    ],
)  # fmt: skip
def test_each_wrong_parameter_has_the_services_words(
    intake: CloudWatch, operation: str, body: Any, kind: str, message: str | None
) -> None:
    assert refused(intake, request(operation, body)) == (kind, message)


@pytest.mark.parametrize(
    ("events", "kind", "message"),
    [
        (None, "InvalidParameterException",
         f"{CHECK} null at 'logEvents' failed to satisfy constraint: Member must not be null"),
        ("text", "SerializationException", "Expected list or null"),
        ([], "InvalidParameterException",
         (f"{CHECK} '[]' at 'logEvents' failed to satisfy constraint: "
         "Member must have length greater than or equal to 1")),
        ([{"timestamp": NOW_MS, "message": "m"}] * 10_001, "InvalidParameterException",
         f"{CHECK} at 'logEvents' failed to satisfy constraint: Member must have length less than or equal to 10000"),
        (["m"], "SerializationException", "Unexpected token where a structure is expected"),
        ([{"timestamp": NOW_MS, "message": "m"}, {"timestamp": NOW_MS}], "InvalidParameterException",
         f"{CHECK} null at 'logEvents.2.member.message' failed to satisfy constraint: Member must not be null"),
        ([{"message": "m"}], "InvalidParameterException",
         f"{CHECK} null at 'logEvents.1.member.timestamp' failed to satisfy constraint: Member must not be null"),
        ([{"timestamp": NOW_MS, "message": ""}], "InvalidParameterException",
         (f"{CHECK} '' at 'logEvents.1.member.message' failed to satisfy constraint: "
         "Member must have length greater than or equal to 1")),
        ([{"timestamp": -1, "message": "m"}], "InvalidParameterException",
         (f"{CHECK} '-1' at 'logEvents.1.member.timestamp' failed to satisfy constraint: "
         "Member must have value greater than or equal to 0")),
        ([{"timestamp": "1", "message": "m"}], "SerializationException",
         "STRING_VALUE can not be converted to a Long"),
        ([{"timestamp": NOW_MS, "message": 7}], "SerializationException",
         "NUMBER_VALUE can not be converted to a String"),
    ],
)  # fmt: skip
def test_each_wrong_event_has_the_services_words(intake: CloudWatch, events: Any, kind: str, message: str) -> None:
    body = {"logGroupName": "g", "logStreamName": "s"}
    if events is not None:
        body["logEvents"] = events
    assert refused(intake, request("PutLogEvents", body)) == (kind, message)


def test_a_batch_is_10000_events_at_most(intake: CloudWatch) -> None:
    assert len(take(intake, put(*[(NOW_MS, "m")] * 10_000))[1].entries) == 10_000


def test_an_event_is_one_mebibyte_with_its_26_bytes(intake: CloudWatch) -> None:
    take(intake, put((NOW_MS, "x" * (1_048_576 - 26))))
    assert refused(intake, put((NOW_MS, "x" * (1_048_576 - 25)))) == (
        "InvalidParameterException",
        "Log event too large: 1048577 bytes exceeds limit of 1048576",
    )


def test_a_batch_is_one_mebibyte_in_utf_8_with_26_bytes_an_event(intake: CloudWatch) -> None:
    half = "ü" * ((1_048_576 // 2 - 26) // 2)
    take(intake, put((NOW_MS, half), (NOW_MS, half)))
    assert refused(intake, put((NOW_MS, half), (NOW_MS, half + "x"))) == (
        "InvalidParameterException",
        "Upload too large: 1048577 bytes exceeds limit of 1048576",
    )


def test_events_come_in_order(intake: CloudWatch) -> None:
    take(intake, put((NOW_MS - 1, "a"), (NOW_MS, "b"), (NOW_MS, "c")))
    assert refused(intake, put((NOW_MS, "a"), (NOW_MS - 1, "b"))) == (
        "InvalidParameterException",
        "Log events in a single PutLogEvents request must be in chronological order.",
    )


def test_valid_events_span_24_hours_at_most(intake: CloudWatch) -> None:
    take(intake, put((NOW_MS - 24 * HOUR_MS, "a"), (NOW_MS, "b")))
    assert refused(intake, put((NOW_MS - 24 * HOUR_MS - 1, "a"), (NOW_MS, "b"))) == (
        "InvalidParameterException",
        "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
    )
    # Those that are rejected do not count.
    take(intake, put((1, "old"), (NOW_MS, "b")))


def test_gzip_bodies_are_read_and_others_are_not_json(intake: CloudWatch) -> None:
    body = orjson.dumps(
        {"logGroupName": "g", "logStreamName": "s", "logEvents": [{"timestamp": NOW_MS, "message": "m"}]}
    )
    signed = "content-encoding;" + SIGNED
    packed = request("PutLogEvents", gzip.compress(body), content_encoding="gzip", signed=signed)
    unpacked = take(intake, packed)[1]
    assert (unpacked.size, len(unpacked.raw)) == (len(body), 1)
    for encoding, data in (("gzip", body), ("br", body), ("zstd", body)):
        asked = request("PutLogEvents", data, content_encoding=encoding, signed=signed)
        assert refused(intake, asked) == ("SerializationException", None)


def test_a_decompression_bomb_is_refused_without_being_unpacked(intake: CloudWatch) -> None:
    bomb = gzip.compress(b"[" + b" " * 300_000_000)
    with pytest.raises(RefusedError) as caught:
        intake.unpack(request(body=bomb, content_encoding="gzip"))
    assert caught.value.answer.status == 413


# Groups and streams


def test_what_is_missing_or_there_already_is_said_with_the_right_exception() -> None:
    intake = CloudWatch()
    group = {"logGroupName": "g"}
    both = {**group, "logStreamName": "s"}
    no_group = ("ResourceNotFoundException", "The specified log group does not exist.")
    assert refused(intake, put((NOW_MS, "m"))) == no_group
    assert refused(intake, request("CreateLogStream", both)) == no_group
    assert refused(intake, request("PutRetentionPolicy", {**group, "retentionInDays": 7})) == no_group
    answer, _ = take(intake, request("CreateLogGroup", group))
    assert (answer.status, answer.body, answer.content_type) == (200, b"", "application/x-amz-json-1.1")
    assert refused(intake, request("CreateLogGroup", group)) == (
        "ResourceAlreadyExistsException",
        "The specified log group already exists",
    )
    assert refused(intake, put((NOW_MS, "m"))) == (
        "ResourceNotFoundException",
        "The specified log stream does not exist.",
    )
    take(intake, request("CreateLogStream", both))
    assert refused(intake, request("CreateLogStream", both)) == (
        "ResourceAlreadyExistsException",
        "The specified log stream already exists",
    )
    assert take(intake, put((NOW_MS, "m")))[0].status == 200
    intake.reset()
    assert refused(intake, put((NOW_MS, "m"))) == no_group


def test_each_region_has_its_own_groups(intake: CloudWatch) -> None:
    elsewhere = request(
        "PutRetentionPolicy",
        {"logGroupName": "g", "retentionInDays": 7},
        scope=f"{stamp()[:8]}/eu-central-1/logs/aws4_request",
    )
    assert refused(intake, elsewhere)[0] == "ResourceNotFoundException"


@pytest.mark.parametrize("name", ["g", "a.b-c_d/e#F9", "g" * 512])
def test_names_of_every_allowed_form_are_taken(name: str) -> None:
    assert take(CloudWatch(), request("CreateLogGroup", {"logGroupName": name}))[0].status == 200


# What is rejected of a batch


def rejected(answer: Answer) -> dict[str, int]:
    body = orjson.loads(answer.body)
    assert len(body["nextSequenceToken"]) == 56
    found: dict[str, int] = body.get("rejectedLogEventsInfo", {})
    return found


def test_nothing_is_said_of_a_batch_that_was_taken_whole(intake: CloudWatch) -> None:
    answer, unpacked = take(intake, put((NOW_MS, "m"), sequenceToken="ignored"))
    assert orjson.loads(answer.body).keys() == {"nextSequenceToken"}
    assert (unpacked.dropped, unpacked.too_old) == ((), frozenset())


def test_events_of_14_days_and_2_hours_ahead_are_the_edges(intake: CloudWatch) -> None:
    assert rejected(take(intake, put((NOW_MS - 14 * DAY_MS, "a")))[0]) == {}
    assert rejected(take(intake, put((NOW_MS + 2 * HOUR_MS, "a")))[0]) == {}
    answer, unpacked = take(
        intake, put((1, "a"), (NOW_MS - 14 * DAY_MS - 1, "b"), (NOW_MS, "c"), (NOW_MS + 2 * HOUR_MS + 1, "d"))
    )
    assert rejected(answer) == {"tooOldLogEventEndIndex": 2, "tooNewLogEventStartIndex": 3}
    assert unpacked.too_old == {0, 1}
    assert unpacked.dropped == ((3, 4, "rejected on arrival: more than 2 h in the future"),)
    assert len(unpacked.kept()) == 1


def test_events_older_than_the_groups_retention_are_expired(intake: CloudWatch) -> None:
    take(intake, request("PutRetentionPolicy", {"logGroupName": "g", "retentionInDays": 1}))
    answer, unpacked = take(intake, put((NOW_MS - DAY_MS - 1, "a"), (NOW_MS - DAY_MS, "b"), (NOW_MS - DAY_MS, "c")))
    assert rejected(answer) == {"expiredLogEventEndIndex": 1}
    assert unpacked.dropped == ((0, 1, "rejected on arrival: older than the group's retention"),)


def test_events_are_rejected_on_request(intake: CloudWatch) -> None:
    fault = Fault(reject={"too_old": 1, "too_new": 2, "expired": 2})
    answer, unpacked = take(intake, put(*[(NOW_MS, str(n)) for n in range(6)]), fault)
    assert rejected(answer) == {
        "tooOldLogEventEndIndex": 1,
        "expiredLogEventEndIndex": 2,
        "tooNewLogEventStartIndex": 4,
    }
    assert unpacked.dropped == (
        (0, 1, "rejected on request: too old"),
        (1, 2, "rejected on request: expired"),
        (4, 6, "rejected on request: too new"),
    )
    assert len(unpacked.kept()) == 2
    answer, unpacked = take(intake, put((NOW_MS, "a")), Fault(reject={"too_old": 9, "too_new": 9}))
    assert unpacked.kept() == []


@given(
    st.lists(st.integers(-16 * 24, 3), min_size=1, max_size=12),
    st.dictionaries(st.sampled_from(["too_old", "too_new", "expired"]), st.integers(0, 14)),
    st.sampled_from([None, 1, 14, 30]),
)
def test_what_the_answer_says_is_what_is_not_kept(hours: list[int], reject: dict[str, int], days: int | None) -> None:
    intake = CloudWatch()
    take(intake, request("CreateLogGroup", {"logGroupName": "g"}))
    take(intake, request("CreateLogStream", {"logGroupName": "g", "logStreamName": "s"}))
    if days is not None:
        take(intake, request("PutRetentionPolicy", {"logGroupName": "g", "retentionInDays": days}))
    asked = put(*[(NOW_MS + hour * HOUR_MS, str(n)) for n, hour in enumerate(sorted(hours))])
    try:
        answer, unpacked = take(intake, asked, Fault(reject=reject) if reject else None)
    except RefusedError:  # more than 24 hours
        return
    info = rejected(answer)
    first = max(info.get("tooOldLogEventEndIndex", 0), info.get("expiredLogEventEndIndex", 0))
    end = info.get("tooNewLogEventStartIndex", len(hours))
    assert len(unpacked.kept()) == max(0, end - first)
    counted = len(unpacked.too_old) + sum(b - a for a, b, _ in unpacked.dropped)
    assert counted == len(hours) - len(unpacked.kept())


# What is shown


def test_a_line_of_shippers_is_unfolded(intake: CloudWatch) -> None:
    line = {
        "message": "received job request",
        "timestamp": NOW_MS,
        "level": "warning",
        "host": "AW_1",
        "source": "CA_1",
        "service": "cloud.livekit.io",
        "stream": "stdout",
        "run": "0123456789abcdef",
        "seq": 7,
        "lines": 2,
        "tags": {"env": "prod", "team": "voice"},
        "logger": "livekit.agents",
        "job": {"id": "AJ_1"},
    }
    asked = put((NOW_MS - 5, orjson.dumps(line).decode()))
    hidden = intake.without_keys(asked)
    unpacked = take(intake, asked)[1]
    assert unpacked.entries == [line]
    assert intake.view(0, unpacked, hidden) == {
        "time_ms": NOW_MS - 5,
        "level": "warning",
        "message": "received job request",
        "host": "AW_1",
        "source": "CA_1",
        "service": "cloud.livekit.io",
        "stream": "stdout",
        "run": "0123456789abcdef",
        "seq": 7,
        "lines": 2,
        "part": None,
        "skipped": None,
        "tags": ["env:prod", "team:voice"],
        "attributes": {"logger": "livekit.agents", "job": {"id": "AJ_1"}},
        "marks": [],
        "remapped": {},
        "shadowed": {},
        "place": {"region": "us-east-1", "log group": "g", "log stream": "s"},
        "trace_id": None,
    }


def test_any_other_message_is_shown_as_it_is(intake: CloudWatch) -> None:
    asked = put((NOW_MS, "plain"), (NOW_MS, '{"level":"ERROR","message":"m","run":"r","seq":1}'), (NOW_MS, "{broken"))
    unpacked = take(intake, asked)[1]
    assert unpacked.entries == [{}, {}, {}]
    views = [intake.view(n, unpacked, intake.without_keys(asked)) for n in range(3)]
    assert [v["message"] for v in views] == ["plain", '{"level":"ERROR","message":"m","run":"r","seq":1}', "{broken"]
    assert [v["level"] for v in views] == ["info", "error", "info"]
    assert [(v["host"], v["source"], v["run"]) for v in views] == [("s", "g", None)] * 3
    assert views[1]["attributes"] == {"level": "ERROR", "message": "m", "run": "r", "seq": 1}


def test_a_stored_request_can_be_unpacked_again_without_key_and_state(intake: CloudWatch) -> None:
    asked = put((NOW_MS, "m"))
    hidden = intake.without_keys(asked)
    take(intake, asked)
    intake.reset()
    assert intake.view(0, intake.unpack(hidden), hidden)["message"] == "m"


@pytest.mark.parametrize(
    ("status", "answered", "kind"),
    [
        (401, 400, "UnrecognizedClientException"),
        (403, 400, "AccessDeniedException"),
        (404, 400, "ResourceNotFoundException"),
        (400, 400, "InvalidParameterException"),
        (413, 413, "RequestEntityTooLargeException"),
        (429, 400, "ThrottlingException"),
        (500, 500, "InternalFailure"),
        (503, 500, "ServiceUnavailableException"),
        (502, 502, "ServiceUnavailableException"),
    ],
)
def test_a_fault_speaks_the_services_language(status: int, answered: int, kind: str) -> None:
    answer = CloudWatch().refusal(status)
    assert (answer.status, answer.content_type) == (answered, "application/x-amz-json-1.1")
    assert orjson.loads(answer.body)["__type"] == kind


REFUSALS = {"SerializationException", "InvalidParameterException"}


def kind_of_refusal(asked: Request) -> str | None:
    try:
        CloudWatch().unpack(asked)
    except RefusedError as error:
        kind: str = orjson.loads(error.answer.body)["__type"]
        return kind
    return None


@given(st.binary(max_size=200), st.sampled_from(["", "gzip", "br"]))
def test_any_bytes_are_refused_or_taken_with_words_of_the_service(body: bytes, encoding: str) -> None:
    assert kind_of_refusal(request(body=body, content_encoding=encoding)) in REFUSALS


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8")),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["logGroupName", "logStreamName", "logEvents", "timestamp", "message"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=10,
    ),
    st.sampled_from(["PutLogEvents", "CreateLogGroup", "CreateLogStream", "PutRetentionPolicy"]),
)
def test_any_json_is_refused_or_taken_with_words_of_the_service(body: Any, operation: str) -> None:
    assert kind_of_refusal(request(operation, orjson.dumps(body))) in {*REFUSALS, None}
