"""Amazon CloudWatch Logs, AWS JSON 1.1 over POST /, as strict as the real service.

Operations: PutLogEvents, CreateLogGroup, CreateLogStream, PutRetentionPolicy; any other is unknown. Groups and streams
are remembered, a region apart, until the sandbox is reset; what was put into them is in the store.

What is answered, and where that was read (November 2026). "model": botocore's service model logs/2014-03-28; "sigv4":
IAM user guide, "AWS Signature Version 4 for API requests" and its troubleshooting page.

| case | answer | source |
| --- | --- | --- |
| form of every answer | application/x-amz-json-1.1, header x-amzn-RequestId | model; recorded in aws-robotics/cloudwatchlogs-ros1 issue 54 |
| form of every error | `{"__type":"…Exception","message":"…"}`, status 400 but for trouble of the service's own | recorded in maxbanton/cwh issues 96 and 101 |
| created, retention set | 200, empty | model (no output) |
| put | 200 `{"nextSequenceToken":"…"}`, with `rejectedLogEventsInfo` when some were rejected | model |
| no Authorization | MissingAuthenticationTokenException "Missing Authentication Token" | sigv4 |
| Authorization of another form, or no X-Amz-Date | IncompleteSignatureException "Authorization header requires '…' parameter." | sigv4 |
| credential scope not DATE/REGION/logs/aws4_request | InvalidSignatureException "Credential should be scoped to …" | sigv4 |
| scope's date unlike X-Amz-Date's | InvalidSignatureException "Date in Credential scope does not match …" | sigv4 |
| host, or an x-amz- header that was sent, not signed | InvalidSignatureException "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization." | sigv4; the words for others than host are assumed |
| X-Amz-Date more than 5 min off | InvalidSignatureException "Signature expired: … is now earlier than … (… - 5 min.)", "Signature not yet current: … is still later than … (… + 5 min.)" | bradgignac/logspout-cloudwatch issue 24 (these logs); s12v/awsbeats issue 48 |
| access key id not A[KS]IA and 16 more of A-Z and 0-9, ASIA without or AKIA with a session token | UnrecognizedClientException "The security token included in the request is invalid." | model (UnrecognizedClientException); IAM identifiers page for the shape |
| header x-amz-content-sha256, when there, unlike the body's hash | as a wrong signature, whoever's the keys are | sigv4: the service hashes what came |
| signature wrong | InvalidSignatureException "The request signature we calculated does not match the signature you provided. …" | rjocoleman/syslog-cloudwatch-bridge issue 1. Verified for the key pair of AWS's documentation (DEMO), whose secret is known; of others only the shape |
| path or method | 404, 405 | not documented |
| Content-Type other than application/x-amz-json-1.1, unknown X-Amz-Target | UnknownOperationException | AWS JSON 1.1 protocol; without a message there |
| Content-Encoding | identity, gzip | amazon-cloudwatch-agent handlers/compress.go; others are read as no JSON here |
| body not JSON, a value of another type | SerializationException | AWS JSON 1.1 protocol; recorded messages differ |
| parameter missing or out of its bounds | InvalidParameterException "1 validation error detected: Value … at '…' failed to satisfy constraint: …" | aws-logging-dotnet issue 25; moto logs/exceptions.py |
| group name | 1 to 512 of `.-_/#A-Za-z0-9`; not beginning with aws/ | model |
| stream name | 1 to 512, no `:` and no `*` | model |
| group, stream missing | ResourceNotFoundException "The specified log group does not exist.", "… log stream …" | model; the words: moto, and senders that look for them |
| group, stream there already | ResourceAlreadyExistsException "The specified log group already exists", "… log stream …" | model; moto |
| retention | one of RETENTION days, else InvalidParameterException | model |
| events | 1 to 10,000; message 1 byte or more, timestamp 0 or more | model |
| an event of more than 1 MiB with 26 bytes | InvalidParameterException "Log event too large: N bytes exceeds limit of 1048576" | model (1 MB); words and count: fluent-plugin-cloudwatch-logs pull request 46, when it was 256 KiB |
| messages in UTF-8 and 26 bytes each, together more than 1,048,576 | InvalidParameterException "Upload too large: N bytes exceeds limit of 1048576" | model; words: nhs-england-tools/terraform-aws-opennext issue 27 |
| not in order | InvalidParameterException "Log events in a single PutLogEvents request must be in chronological order." | model; moto |
| valid events more than 24 h apart | InvalidParameterException "The batch of log events in a single PutLogEvents request cannot span more than 24 hours." | model ("for valid events"); moby issue 41529 |
| more than 14 days old | rejected, tooOldLogEventEndIndex (exclusive) | model |
| older than the group's retention | rejected, expiredLogEventEndIndex (exclusive, here from 0) | model |
| more than 2 h ahead | rejected, tooNewLogEventStartIndex (inclusive) | model |
| sequenceToken | ignored | model |
| throttled | ThrottlingException "Rate exceeded", status 400 | model; botocore's retry tables. Here only on request |
| unavailable | ServiceUnavailableException, status 500 | model (a fault without a status of its own). Here only on request |

A message that is shipper's JSON is shown unfolded; any other as it is, with its JSON's fields beside it as Logs Insights
discovers them. Host is then the stream, source the group.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from shipper.sandbox.intake import (
    Answer,
    BodyError,
    Dropped,
    Intake,
    Order,
    RefusedError,
    Request,
    TooLargeError,
    Unpacked,
    decompress,
    level_of,
    text_of,
)

TARGET = "Logs_20140328."
CONTENT_TYPE = "application/x-amz-json-1.1"
MAX_BODY_BYTES = 8 * 2**20
"""A bound of the sandbox's own: 1 MiB of messages that all have to be escaped as \\u00XX, and 10,000 timestamps."""

MAX_EVENTS = 10_000
MAX_BATCH_BYTES = 1_048_576
MAX_EVENT_BYTES = 1_048_576
EVENT_OVERHEAD = 26
MAX_AGE_MS = 14 * 86_400_000
MAX_AHEAD_MS = 2 * 3_600_000
MAX_SPAN_MS = 24 * 3_600_000
DAY_MS = 86_400_000
MAX_SKEW = timedelta(minutes=5)

RETENTION = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip

DEMO = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
"""The key pair of AWS's documentation: nobody's. Requests that use it are verified in full."""

_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 +(.*)", re.DOTALL)
_ACCESS_KEY = re.compile(r"A[KS]IA[A-Z0-9]{16}")
_DATE = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-\d", re.ASCII)
_GROUP = re.compile(r"[.\-_/#A-Za-z0-9]+", re.ASCII)
_GROUP_PATTERN = r"[\.\-_/#A-Za-z0-9]+"
_STREAM = re.compile(r"[^:*]*", re.DOTALL)
_STREAM_PATTERN = "[^:*]*"

_OWN = frozenset(
    {"message", "level", "host", "source", "service", "stream", "run", "seq", "lines", "part", "skipped", "tags",
     "timestamp"}
)  # fmt: skip
"""Shown in columns of their own, so not again among the attributes."""

_FAULTS: Mapping[int, tuple[int, str, str]] = {
    # What the service answers where another would use the status.
    401: (400, "UnrecognizedClientException", "The security token included in the request is invalid."),
    403: (400, "AccessDeniedException", "User is not authorized to perform this operation."),
    404: (400, "ResourceNotFoundException", "The specified log group does not exist."),
    413: (413, "RequestEntityTooLargeException", "Request is too large."),
    429: (400, "ThrottlingException", "Rate exceeded"),
    500: (500, "InternalFailure", "The request processing has failed because of an unknown error."),
    503: (500, "ServiceUnavailableException", "The service cannot complete the request."),
}


@dataclass(slots=True)
class _Group:
    retention_days: int | None = None
    streams: set[str] = field(default_factory=set)


class _Credential(NamedTuple):
    key: str
    date: str
    region: str
    service: str
    terminator: str


class CloudWatch(Intake):
    name = "cloudwatch"
    title = "CloudWatch"
    max_wire_bytes = MAX_BODY_BYTES
    secret_names = frozenset({"authorization", "x-amz-security-token"})
    request_id_names = ("amz-sdk-invocation-id",)
    fault_fields = frozenset({"operation", "reject"})
    operations = frozenset({"PutLogEvents", "CreateLogGroup", "CreateLogStream", "PutRetentionPolicy"})

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], _Group] = {}
        self._tokens = 0

    def reset(self) -> None:
        self._groups.clear()

    def settings(self, url: str) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": DEMO[0], "AWS_SECRET_ACCESS_KEY": DEMO[1], "AWS_ENDPOINT_URL_LOGS": url}

    def claims(self, request: Request) -> bool:
        return "x-amz-target" in request.headers or request.headers.get("authorization", "").startswith("AWS4-")

    def operation(self, request: Request) -> str | None:
        return request.headers.get("x-amz-target", "").partition(".")[2] or None

    def without_keys(self, request: Request) -> Request:
        """Of the Authorization header the end of the access key's id and the region, which the page shows."""
        headers = dict(request.headers)
        if "x-amz-security-token" in headers:
            headers["x-amz-security-token"] = "…"
        if "authorization" in headers:
            parts = _parameters(headers["authorization"]).get("Credential", "").split("/")
            region = parts[2] if len(parts) == 5 and _REGION.fullmatch(parts[2]) else ""
            headers["authorization"] = f"…{parts[0][-4:]} {region}".rstrip()
        return replace(request, headers=headers)

    def admit(self, request: Request) -> None:
        if request.path != "/":
            raise self._refused("UnknownOperationException", "HTTP path is wrong", 404)
        if request.method != "POST":
            raise self._refused("UnknownOperationException", "HTTP method is not POST", 405, {"Allow": "POST"})
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        target = request.headers.get("x-amz-target", "")
        if kind != CONTENT_TYPE or not target.startswith(TARGET) or self.operation(request) not in self.operations:
            raise self._refused("UnknownOperationException", None)
        self._scope(request)

    def _scope(self, request: Request) -> tuple[_Credential, list[str], str]:
        """What the Authorization header says, checked as far as that goes without the secret."""
        header = request.headers.get("authorization")
        if not header:
            raise self._refused("MissingAuthenticationTokenException", "Missing Authentication Token")
        given = _parameters(header)
        missing = [
            f"Authorization header requires '{name}' parameter."
            for name in ("Credential", "Signature", "SignedHeaders")
            if not given.get(name)
        ]
        when = request.headers.get("x-amz-date", "")
        if not when:
            missing.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
        if missing:
            raise self._refused("IncompleteSignatureException", " ".join(missing))
        parts = given["Credential"].split("/")
        if len(parts) != 5:
            raise self._refused(
                "IncompleteSignatureException",
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
            )
        credential = _Credential(*parts)
        if _DATE.fullmatch(when) is None:
            raise self._refused(
                "IncompleteSignatureException",
                "Date must be in ISO-8601 'basic format'. See http://en.wikipedia.org/wiki/ISO_8601",
            )
        if credential.terminator != "aws4_request":
            raise self._signature("Credential should be scoped with a valid terminator: 'aws4_request'.")
        if credential.service != "logs":
            raise self._signature("Credential should be scoped to correct service: 'logs'.")
        if _REGION.fullmatch(credential.region) is None:
            raise self._signature("Credential should be scoped to a valid region.")
        if credential.date != when[:8]:
            raise self._signature(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{credential.date[:8]}' != '{when[:8]}', from '{when}'."
            )
        signed = given["SignedHeaders"].split(";")
        if "host" not in signed:
            raise self._signature("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
        for name in request.headers:
            if name.startswith("x-amz-") and name not in signed:
                raise self._signature(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")
        if re.fullmatch(r"[0-9a-f]{64}", given["Signature"]) is None or signed != sorted(signed):
            raise self._signature(_MISMATCH)
        self._age(when, request.received_ms)
        temporary = credential.key.startswith("ASIA")
        if _ACCESS_KEY.fullmatch(credential.key) is None or temporary != ("x-amz-security-token" in request.headers):
            raise self._refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        return credential, signed, given["Signature"]

    def _age(self, when: str, received_ms: int) -> None:
        try:
            signed = datetime.strptime(when, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise self._signature("Date must be in ISO-8601 'basic format'.") from None
        now = datetime.fromtimestamp(received_ms // 1000, UTC)
        if signed < now - MAX_SKEW:
            raise self._signature(
                f"Signature expired: {when} is now earlier than {_basic(now - MAX_SKEW)} ({_basic(now)} - 5 min.)"
            )
        if signed > now + MAX_SKEW:
            latest = _basic(now + MAX_SKEW)
            raise self._signature(
                f"Signature not yet current: {when} is still later than {latest} ({_basic(now)} + 5 min.)"
            )

    def verify(self, request: Request) -> bytes | None:
        credential, signed, signature = self._scope(request)
        said = request.headers.get("x-amz-content-sha256")
        if said is not None and said != hashlib.sha256(request.body).hexdigest():
            raise self._signature(_MISMATCH)
        if credential.key == DEMO[0] and not hmac.compare_digest(sign(request, credential, signed, DEMO[1]), signature):
            raise self._signature(_MISMATCH)
        return None

    def unpack(self, request: Request, body: bytes | None = None) -> Unpacked:
        try:
            body = decompress(request.body, request.headers.get("content-encoding", ""), MAX_BODY_BYTES, ("gzip",))
        except TooLargeError:
            raise self._refused("RequestEntityTooLargeException", "Request is too large.", 413) from None
        except (BodyError, LookupError):
            raise self._refused("SerializationException", None) from None
        try:
            loaded = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise self._refused("SerializationException", None) from None
        if type(loaded) is not dict:
            raise self._refused("SerializationException", "Start of structure or map found where not expected.")
        operation = self.operation(request)
        about: dict[str, Any] = {"operation": operation}
        about["group"] = self._text(loaded, "logGroupName", _GROUP, _GROUP_PATTERN)
        if operation in ("PutLogEvents", "CreateLogStream"):
            about["stream"] = self._text(loaded, "logStreamName", _STREAM, _STREAM_PATTERN)
        if operation == "PutRetentionPolicy":
            about["days"] = self._days(loaded)
        if operation != "PutLogEvents":
            return Unpacked([], len(body), about=about)
        events = self._events(loaded)
        old, new = self._times(events, request.received_ms)
        dropped: tuple[Dropped, ...] = ()
        if new < len(events):
            dropped = ((new, len(events), "rejected on arrival: more than 2 h in the future"),)
        about["old"], about["new"] = old, new
        entries = [_ours(event["message"]) or {} for event in events]
        return Unpacked(entries, len(body), raw=events, too_old=frozenset(range(old)), dropped=dropped, about=about)

    def _text(self, loaded: Mapping[str, Any], name: str, pattern: re.Pattern[str], shown: str) -> str:
        value = loaded.get(name)
        if value is None:
            raise self._constraint("Value null", name, "Member must not be null")
        if type(value) is not str:
            raise self._refused("SerializationException", f"{_json_type(value)} can not be converted to a String")
        if not value:
            raise self._constraint("Value ''", name, "Member must have length greater than or equal to 1")
        if len(value) > 512:
            raise self._constraint("Value", name, "Member must have length less than or equal to 512")
        if pattern.fullmatch(value) is None:
            raise self._constraint("Value", name, f"Member must satisfy regular expression pattern: {shown}")
        return value

    def _days(self, loaded: Mapping[str, Any]) -> int:
        days = loaded.get("retentionInDays")
        if days is None:
            raise self._constraint("Value null", "retentionInDays", "Member must not be null")
        if type(days) is not int:
            raise self._refused("SerializationException", f"{_json_type(days)} can not be converted to an Integer")
        if days not in RETENTION:
            allowed = ", ".join(map(str, RETENTION))
            raise self._constraint(
                f"Value '{days}'", "retentionInDays", f"Member must satisfy enum value set: [{allowed}]"
            )
        return days

    def _events(self, loaded: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The events, each looked at for its form, and the batch for its size."""
        events = loaded.get("logEvents")
        if events is None:
            raise self._constraint("Value null", "logEvents", "Member must not be null")
        if type(events) is not list:
            raise self._refused("SerializationException", "Expected list or null")
        if not events:
            raise self._constraint("Value '[]'", "logEvents", "Member must have length greater than or equal to 1")
        if len(events) > MAX_EVENTS:
            raise self._constraint("Value", "logEvents", "Member must have length less than or equal to 10000")
        total = 0
        for index, event in enumerate(events):
            if type(event) is not dict:
                raise self._refused("SerializationException", "Unexpected token where a structure is expected")
            message, timestamp = event.get("message"), event.get("timestamp")
            if type(message) is not str or type(timestamp) is not int or not message or timestamp < 0:
                raise self._event(index, message, timestamp)
            size = EVENT_OVERHEAD + (len(message) if message.isascii() else len(message.encode()))
            if size > MAX_EVENT_BYTES:
                raise self._parameter(f"Log event too large: {size} bytes exceeds limit of {MAX_EVENT_BYTES}")
            total += size
        if total > MAX_BATCH_BYTES:
            raise self._parameter(f"Upload too large: {total} bytes exceeds limit of {MAX_BATCH_BYTES}")
        return events

    def _event(self, index: int, message: object, timestamp: object) -> RefusedError:
        at = f"logEvents.{index + 1}.member"
        for name, value in (("message", message), ("timestamp", timestamp)):
            if value is None:
                return self._constraint("Value null", f"{at}.{name}", "Member must not be null")
        if type(message) is not str:
            return self._refused("SerializationException", f"{_json_type(message)} can not be converted to a String")
        if type(timestamp) is not int:
            return self._refused("SerializationException", f"{_json_type(timestamp)} can not be converted to a Long")
        if not message:
            return self._constraint("Value ''", f"{at}.message", "Member must have length greater than or equal to 1")
        return self._constraint(
            f"Value '{timestamp}'", f"{at}.timestamp", "Member must have value greater than or equal to 0"
        )

    def _times(self, events: list[dict[str, Any]], received_ms: int) -> tuple[int, int]:
        """Where the events that are not too old begin, and those that are too new."""
        oldest, newest = received_ms - MAX_AGE_MS, received_ms + MAX_AHEAD_MS
        before = 0
        old = 0
        new = len(events)
        for index, event in enumerate(events):
            timestamp = event["timestamp"]
            if timestamp < before:
                raise self._parameter("Log events in a single PutLogEvents request must be in chronological order.")
            before = timestamp
            if timestamp < oldest:
                old = index + 1
            elif timestamp > newest and new == len(events):
                new = index
        if old < new and events[new - 1]["timestamp"] - events[old]["timestamp"] > MAX_SPAN_MS:
            raise self._parameter(
                "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
            )
        return old, new

    def settle(self, request: Request, unpacked: Unpacked, order: Order | None = None) -> Answer:
        about = unpacked.about
        region = self._scope(request)[0].region
        key = (region, about["group"])
        group = self._groups.get(key)
        if about["operation"] == "CreateLogGroup":
            if group is not None:
                raise self._refused("ResourceAlreadyExistsException", "The specified log group already exists")
            if about["group"].lower().startswith("aws/"):
                raise self._parameter("Log groups starting with AWS/ are reserved for AWS.")
            self._groups[key] = _Group()
            return self._answer()
        place = f"{region} {about['group']} {about.get('stream', '')}"
        if group is None:
            raise self._refused("ResourceNotFoundException", "The specified log group does not exist.", lacks=place)
        if about["operation"] == "PutRetentionPolicy":
            group.retention_days = about["days"]
            return self._answer()
        if about["operation"] == "CreateLogStream":
            if about["stream"] in group.streams:
                raise self._refused("ResourceAlreadyExistsException", "The specified log stream already exists")
            group.streams.add(about["stream"])
            return self._answer()
        if about["stream"] not in group.streams:
            raise self._refused("ResourceNotFoundException", "The specified log stream does not exist.", lacks=place)
        unpacked.place = place
        return self._put(request, unpacked, group, order)

    def _put(self, request: Request, unpacked: Unpacked, group: _Group, order: Order | None) -> Answer:
        asked = (order.reject if order is not None else None) or {}
        count = len(unpacked.raw)
        old, new = unpacked.about["old"], unpacked.about["new"]
        expired = 0
        if group.retention_days is not None:
            oldest = request.received_ms - group.retention_days * DAY_MS
            expired = sum(event["timestamp"] < oldest for event in unpacked.raw)
        said_old = max(old, min(asked.get("too_old", 0), count))
        said_expired = max(expired, min(asked.get("expired", 0), count))
        said_new = max(said_old, said_expired, min(new, count - asked.get("too_new", 0)))
        unpacked.dropped = tuple(
            (first, end, why)
            for first, end, why in (
                (old, said_old, "rejected on request: too old"),
                (max(said_old, expired), said_expired, "rejected on request: expired"),
                (said_old, max(said_old, expired), "rejected on arrival: older than the group's retention"),
                (said_new, max(said_new, new), "rejected on request: too new"),
                (max(said_new, new), count, "rejected on arrival: more than 2 h in the future"),
            )
            if first < end
        )
        info: dict[str, int] = {}
        if said_new < count:
            info["tooNewLogEventStartIndex"] = said_new
        if said_old:
            info["tooOldLogEventEndIndex"] = said_old
        if said_expired:
            info["expiredLogEventEndIndex"] = said_expired
        self._tokens += 1
        answer: dict[str, Any] = {"nextSequenceToken": f"{self._tokens:056d}"}
        if info:
            answer["rejectedLogEventsInfo"] = info
        return self._answer(orjson.dumps(answer))

    def refusal(self, status: int, detail: str | None = None) -> Answer:
        kind = "ServiceUnavailableException" if status >= 500 else "InvalidParameterException"
        answered, name, message = _FAULTS.get(status, (status, kind, "The request was not taken."))
        return self._answer(orjson.dumps({"__type": name, "message": message}), answered)

    def _answer(self, body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
        return Answer(status, body, {"x-amzn-RequestId": str(uuid.uuid4()), **(headers or {})}, CONTENT_TYPE)

    def _refused(
        self,
        name: str,
        message: str | None,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
        *,
        lacks: str | None = None,
    ) -> RefusedError:
        body = {"__type": name} if message is None else {"__type": name, "message": message}
        reason = name if message is None else f"{name}: {message}"
        return RefusedError(reason, self._answer(orjson.dumps(body), status, headers), lacks=lacks)

    def _signature(self, message: str) -> RefusedError:
        return self._refused("InvalidSignatureException", message)

    def _parameter(self, message: str) -> RefusedError:
        return self._refused("InvalidParameterException", message)

    def _constraint(self, value: str, name: str, constraint: str) -> RefusedError:
        return self._parameter(
            f"1 validation error detected: {value} at '{name}' failed to satisfy constraint: {constraint}"
        )

    def view(self, index: int, unpacked: Unpacked, request: Request) -> dict[str, Any]:
        event = unpacked.raw[index]
        about = unpacked.about
        message: str = event["message"]
        marks = unpacked.why_dropped(index)
        if index in unpacked.too_old:
            marks.append("rejected on arrival: too old (more than 14 days)")
        ours = _ours(message)
        found = ours if ours is not None else _object(message) or {}
        _, _, region = request.headers.get("authorization", "").partition(" ")
        tags = found.get("tags") if ours is not None else None
        return {
            "time_ms": event["timestamp"],
            "level": level_of(found.get("level")),
            "message": message if ours is None else ours["message"],
            "host": about["stream"] if ours is None else text_of(ours.get("host")),
            "source": about["group"] if ours is None else text_of(ours.get("source")),
            "service": None if ours is None else text_of(ours.get("service")),
            "stream": None if ours is None else text_of(ours.get("stream")),
            "run": None if ours is None else ours["run"],
            "seq": None if ours is None else ours.get("seq"),
            "lines": None if ours is None else ours.get("lines"),
            "part": None if ours is None else ours.get("part"),
            "skipped": None if ours is None else ours.get("skipped"),
            "tags": [f"{name}:{text_of(value)}" for name, value in tags.items()] if type(tags) is dict else [],
            "attributes": found if ours is None else {k: v for k, v in found.items() if k not in _OWN},
            "marks": marks,
            "remapped": {},
            "shadowed": {},
            "place": {"region": region, "log group": about["group"], "log stream": about["stream"]},
            "trace_id": None,
        }


_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


def sign(request: Request, credential: _Credential, signed: list[str], secret: str) -> str:
    """The signature that the request should have: sigv4's steps 1 to 4, for the path / without a query."""
    canonical = [request.method, "/", ""]
    canonical += [f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in signed]
    canonical += ["", ";".join(signed)]
    canonical.append(hashlib.sha256(request.body).hexdigest())
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    scope = "/".join(credential[1:])
    text = "\n".join(("AWS4-HMAC-SHA256", request.headers.get("x-amz-date", ""), scope, digest))
    key = b"AWS4" + secret.encode()
    for part in credential[1:]:
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _parameters(header: str) -> dict[str, str]:
    """Credential, SignedHeaders and Signature of an Authorization header; empty for another scheme's."""
    found = _AUTHORIZATION.fullmatch(header)
    pairs = (pair.strip().partition("=") for pair in found[1].split(",")) if found else ()
    return {name: value for name, equals, value in pairs if equals}


def _object(message: str) -> dict[str, Any] | None:
    if not message.startswith("{"):
        return None
    try:
        found = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    return found if type(found) is dict else None


def _ours(message: str) -> dict[str, Any] | None:
    """The object of a message that shipper made of a line, None for any other."""
    found = _object(message)
    if found is None or type(found.get("run")) is not str or type(found.get("message")) is not str:
        return None
    return found if "host" in found and "source" in found else None


def _basic(moment: datetime) -> str:
    return moment.strftime("%Y%m%dT%H%M%SZ")


def _json_type(value: object) -> str:
    return {bool: "TRUE_VALUE", int: "NUMBER_VALUE", float: "DECIMAL_VALUE", str: "STRING_VALUE"}.get(
        type(value), "Start of structure or map"
    )
