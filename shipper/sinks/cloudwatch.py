"""CloudWatch Logs: PutLogEvents with a body of our own, which AWS's client resolves, signs and sends.

Sources, read 2026-11: botocore's service model logs/2014-03-28 (limits, names, errors, days of retention) and
endpoint-rule-set-1 (hosts); docs.aws.amazon.com AmazonCloudWatchLogs APIReference API_PutLogEvents (an event of 1 MB,
256 KB until 2025-04); aws/amazon-cloudwatch-agent plugins/outputs/cloudwatchlogs/internal/pusher/sender.go and
handlers/compress.go (group and stream made after a refusal, gzip); botocore.retries.standard (what throttling is called).

| what | as sent |
| --- | --- |
| a line, `json` | the record as compact JSON in `message`: `host`, `source`, `service`, `stream`, `level`, `run` and, where there are any, `tags` as an object; the agent's fields beside them, nested as they were. `timestamp` stands there too (24 B): what queries or exports the message alone still has the time |
| a line, `raw` | the agent's line as it is, invalid UTF-8 replaced; an event of our own is its sentence |
| time | the event's `timestamp` (ms). Older than 14 days or more than 2 h ahead, less a minute: now, and its own is `original_timestamp` (not in `raw`) |
| order | by time, equal times as they came; a request that would span more than 24 h gives a size beyond the limit, so that the caller halves |
| limits | 10,000 events, 1,048,576 bytes: UTF-8 bytes of the messages and 26 for each. An event may be as large as a request |
| group, stream | the variables, else source and host of the run: what AWS does not allow in a name becomes `_`, 512 characters, and a group does not begin with `aws/`. Made when CloudWatch says that they are missing, then the same request goes once more. Nothing is described or listed |
| retention | only on a group that we made. Refused: the lines go all the same, and `notes` says it |
| compression | gzip by ISA-L, level 1, in pieces of 128 events: 25 to 37 B a line |
| rejected in an accepted answer | `Acceptance`: the ranges count in sorted order and are led back to the events as they were given |

The client. It is botocore's own, the very class that `boto3.client("logs")` makes: boto3's wrapper around it would cost
2.1 MB more (s3transfer, multiprocessing, resources). Measured in the worker: importing it 9.6 MB, the client 1.2, TLS
0.8; boto3's as it comes takes 23. Its session knows nothing but what is given here: no profile, no file, no
environment, no instance metadata. The service model is botocore's, cut to four operations. A request takes 0.46 ms of
CPU; 0.08 of it is the way to a thread and back, 0.12 what the client's signer and session alone would save.

TLS is verified as by the other sinks, with their context (`sinks.certificates`), and there is no way to turn that off.
An endpoint variable is scheme, host and port: CloudWatch has no paths. AWS_ENDPOINT_URL_LOGS counts before
AWS_ENDPOINT_URL.

The encoder, us a line of demo/lines, of which 61 in 100 are text: 0.81, raw 0.46; one by one, as it is done where
something is odd, 0.94. JSON 0.11, escaping that JSON into the request's 0.21, cutting it at the events 0.09, their
frames around it 0.09, order and slots 0.14, compression 0.09. The gain is in the facts, escaped once a run. Tried and
left: frames put in with `bytes.replace`, which looks at every byte twice (0.6); only the messages of text lines, escaped
by themselves, which saves what telling the lines apart and putting them in order again costs (0.1); 64 records at a time
(0.04 more) or 256 (0.08).
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import asyncio
import ctypes
import gzip
import os
import re
import socket
import ssl
import threading
import time
from abc import ABC, abstractmethod
from operator import gt, itemgetter
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import botocore.configprovider  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
import orjson
import urllib3
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import URLLib3Session  # type: ignore[import-untyped]
from botocore.loaders import Loader  # type: ignore[import-untyped]
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]
from isal import isal_zlib

from shipper import __version__
from shipper.config import secret, variable_of
from shipper.config.problems import clean as printable
from shipper.config.registry import enabled
from shipper.lines.deep import json_text, shallow
from shipper.lines.levels import LEVELS
from shipper.sinks import certificates
from shipper.sinks.base import (
    RECORDS,
    Acceptance,
    Body,
    Limits,
    RefusedError,
    RejectedError,
    RetryableError,
    SettingError,
    Sink,
    SinkError,
    maybe_taken,
)
from shipper.sinks.http import CONNECT_TIMEOUT, MAX_ANSWER_BYTES, TOTAL_TIMEOUT, retry_after
from shipper.sinks.parts import ACCESS_KEY, clean, fitting, moved_to, other_server, own_secret, shown
from shipper.sinks.way import Way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from shipper.journal.facts import Facts
    from shipper.lines.events import Events, Record
    from shipper.sinks.base import Encoder, Slice

LIMITS = Limits(max_events=10_000, max_body_bytes=1_048_576, target_body_bytes=1_000_000)
EVENT_BYTES = 26
"""What each event counts besides its message."""
MAX_MESSAGE_BYTES = LIMITS.max_body_bytes - EVENT_BYTES
MAX_AGE_MS = 14 * 86_400_000 - 60_000
MAX_AHEAD_MS = 2 * 3_600_000 - 60_000
"""Both less a minute for the way there."""
MAX_SPAN_MS = 86_400_000

RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip
"""What PutRetentionPolicy takes (service model, shape Days)."""

PUT = "PutLogEvents"
OPERATIONS = (PUT, "CreateLogGroup", "CreateLogStream", "PutRetentionPolicy")
_AGENT = f"agent-shipper/{__version__}"
THREADS = 8
"""Requests at a time, each in a thread of its own: at 100 ms a response 80 requests, 200,000 lines, a second."""
CHUNK = 128  # events written and compressed at a time: 50 KB, which stay in the processor's cache

GROUP = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}", re.ASCII)
STREAM = re.compile(r"[^:*\x00-\x1f\x7f]{1,512}")
"""Control characters are left out besides, though the service model only forbids `:` and `*`: nobody can type them."""
REGION = re.compile(r"(?!fips-)[a-z]{2,}(-[a-z]+)+-[0-9]+", re.ASCII)
DEFAULT_REGION = "us-west-2"

REFUSALS = {  # error codes: docs.aws.amazon.com APIReference CommonErrors, IAM and STS; the variable to look at first
    "UnrecognizedClientException": "AWS_ACCESS_KEY_ID",
    "InvalidClientTokenId": "AWS_ACCESS_KEY_ID",
    "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID",
    "MissingAuthenticationToken": "AWS_ACCESS_KEY_ID",
    "MissingAuthenticationTokenException": "AWS_ACCESS_KEY_ID",
    "InvalidSignatureException": "AWS_SECRET_ACCESS_KEY",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY",
    "IncompleteSignature": "AWS_SECRET_ACCESS_KEY",
    "IncompleteSignatureException": "AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "AWS_SESSION_TOKEN",
    "ExpiredTokenException": "AWS_SESSION_TOKEN",
    "InvalidToken": "AWS_SESSION_TOKEN",
}
FORBIDDEN = {"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"}
NO_ACCOUNT = {"OptInRequired", "SubscriptionRequiredException"}
WRONG_CLOCK = {"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"}
THROTTLED = {
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
    "TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded", "LimitExceededException",
    "ServiceQuotaExceededException", "SlowDown", "PriorRequestNotComplete",
}  # fmt: skip
EXISTS, MISSING = "ResourceAlreadyExistsException", "ResourceNotFoundException"
REJECTED = {"InvalidParameterException", "ValidationException", "ValidationError", "SerializationException"}

_KEPT_WHEN_CUT = frozenset(
    {"message", "timestamp", "original_timestamp", "seq", "lines", "part", "skipped", "run", "truncated"}
)
_timestamp = itemgetter("timestamp")
_T = TypeVar("_T")


class Keys(NamedTuple):
    """``variables``: where the three came from, NAME or NAME_FILE."""

    access_key: str
    secret_key: str
    session_token: str | None
    variables: Mapping[str, str]

    def __repr__(self) -> str:
        return "Keys(…)"


class Names(NamedTuple):
    """Group and stream as the variables have them, empty where the run's own count."""

    group: str
    stream: str

    def of(self, facts: Facts) -> tuple[str, str]:
        group = re.sub(r"[^.\-_/#A-Za-z0-9]", "_", facts.source)[:512] or "_"
        if group.startswith("aws/"):  # reserved: CreateLogGroup
            group = f"_{group}"[:512]
        stream = re.sub(r"[:*\x00-\x1f\x7f\ud800-\udfff]", "_", facts.host)[:512] or "_"
        return self.group or group, self.stream or stream


class LogBody(Body):
    """``order``: which event, as given, stands at each place of the body; None where that is the same."""

    __slots__ = ("group", "order", "stream")

    group: str
    stream: str
    order: list[int] | None


class CloudWatch(Sink):
    """``notes``: sentences that a person should read once and that stop no line. ``http``: time-outs, until `open`."""

    name = "cloudwatch"
    title = "CloudWatch"
    limits = LIMITS

    def __init__(
        self,
        keys: Keys,
        region: str,
        environ: Mapping[str, str],
        *,
        endpoint: tuple[str, str] = ("", ""),
        names: Names | None = None,
        raw: bool = False,
        retention_days: int = 0,
    ) -> None:
        """``endpoint``: the variable that names another one, and the one that it names."""
        self.variable = keys.variables["AWS_ACCESS_KEY_ID"]
        self.needs_lines = raw
        self.notes: list[str] = []
        self._keys = keys
        self._region = region
        self._endpoint_variable, other = endpoint
        self._names = names or Names("", "")
        self._raw = raw
        self._retention_days = retention_days
        self._others = tuple(name for name in enabled(environ) if name != self.name)
        self._client = _client(keys, region, other)
        self.url = self._client.meta.endpoint_url
        self.destination = urlsplit(self.url).netloc
        origin = self._endpoint_variable or f"{region} in AWS_REGION"
        self.http = Wire(self.url, Way(self.url, environ, self.title, origin))
        self._crew: _Crew | None = None
        self._bodies = threading.local()
        self._client.meta.events.register(f"before-call.cloudwatch-logs.{PUT}", self._put_in_place)
        self._making = threading.Lock()
        self._made: dict[tuple[str, str], int] = {}
        self._without_retention: set[str] = set()

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        keys = _keys(environ)
        region = (environ.get("AWS_REGION", "").strip() or DEFAULT_REGION).lower()
        if not REGION.fullmatch(region):
            raise _setting("AWS_REGION", environ, "is no region of AWS's such as us-east-1")
        endpoint = ("", "")
        for variable in ("AWS_ENDPOINT_URL_LOGS", "AWS_ENDPOINT_URL"):
            if other := other_server(environ, variable, cls.title):
                endpoint = (variable, other)
                break
        group = environ.get("SHIPPER_CLOUDWATCH_GROUP", "").strip()
        if group and (not GROUP.fullmatch(group) or group.startswith("aws/")):
            raise _setting(
                "SHIPPER_CLOUDWATCH_GROUP", environ,
                "is no name of a log group (letters and digits of ASCII and . - _ / #, at most 512, not aws/ at first)",
            )  # fmt: skip
        stream = environ.get("SHIPPER_CLOUDWATCH_STREAM", "").strip()
        if stream and (not STREAM.fullmatch(stream) or printable(stream, 512) != stream):
            raise _setting(
                "SHIPPER_CLOUDWATCH_STREAM",
                environ,
                "is no name of a log stream (no : and no *, at most 512 characters)",
            )
        form = environ.get("SHIPPER_CLOUDWATCH_FORMAT", "").strip().lower() or "json"
        if form not in ("json", "raw"):
            raise _setting("SHIPPER_CLOUDWATCH_FORMAT", environ, "is neither json nor raw")
        days = environ.get("SHIPPER_CLOUDWATCH_RETENTION_DAYS", "").strip()
        if days and days not in map(str, RETENTION_DAYS):
            raise _setting(
                "SHIPPER_CLOUDWATCH_RETENTION_DAYS", environ, f"is none of {', '.join(map(str, RETENTION_DAYS))}"
            )
        try:
            return cls(
                keys, region, environ, endpoint=endpoint, names=Names(group, stream), raw=form == "raw",
                retention_days=int(days or 0),
            )  # fmt: skip
        except SettingError:
            raise
        except ValueError:  # botocore's: a host that cannot be one
            raise _setting(endpoint[0] or "AWS_REGION", environ, "leads to no host that there could be") from None

    async def open(self) -> None:
        if self._crew is None:
            self._client._endpoint.http_session = self.http.session()
            self._crew = _Crew(THREADS)

    async def close(self) -> None:
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.close()
            self._client.close()

    def encoder(self, facts: Facts) -> Encoder:
        group, stream = self._names.of(facts)
        return (_RawEncoder if self._raw else _JsonEncoder)(facts, group, stream)

    def place(self, facts: Facts) -> str:
        group, stream = self._names.of(facts)
        return f"region {self._region}, group {group}, stream {stream}"

    async def send(self, body: Body) -> Acceptance | None:
        await self.open()
        assert self._crew is not None  # noqa: S101 (for mypy)
        assert isinstance(body, LogBody)  # noqa: S101 (for mypy)
        return await self._crew.run(lambda: self._send(body))

    # -- in a thread of the crew ---------------------------------------------------------------------------------

    def _send(self, body: LogBody) -> Acceptance | None:
        key = (body.group, body.stream)
        made = self._made.get(key, 0)
        try:
            answer = self._put(body)
        except ClientError as error:
            if _code(error) != MISSING:
                raise self._explained(PUT, error) from None
            self._make(key, made, "log stream" in _text(error))
            try:
                answer = self._put(body)
            except ClientError as second:
                raise self._explained(PUT, second) from None
        if body.group in self._without_retention:
            self._retain(body.group)
        return _acceptance(answer, body)

    def _put(self, body: LogBody) -> Mapping[str, Any]:
        try:
            self._bodies.data = body.data
            return self._call(PUT, logGroupName=body.group, logStreamName=body.stream, logEvents=[])
        except ClientError as error:
            if _code(error) == "DataAlreadyAcceptedException":  # by an earlier attempt whose answer was lost
                return {}
            raise
        finally:
            self._bodies.data = None

    def _put_in_place(self, params: dict[str, Any], **_: object) -> None:
        """Before signing: the body that was serialised and compressed already."""
        params["body"] = self._bodies.data
        params["headers"]["Content-Encoding"] = "gzip"

    def _call(self, operation: str, **params: object) -> Mapping[str, Any]:
        return self._attempt(lambda: self._client._make_api_call(operation, params))

    def _attempt(self, request: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """The answer. Raises ClientError when it is an error, and RetryableError when there is none."""
        try:
            return request()
        except ClientError:
            raise
        except (BotoCoreError, ResponseParserError, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            message = self._words(error)
            unsent = (EndpointConnectionError, ProxyConnectionError, ConnectTimeoutError, SSLError)
            # the original may show headers or a proxy's password
            raise RetryableError(message, maybe_taken=not isinstance(error, unsent)) from None

    def _make(self, key: tuple[str, str], made: int, group_is_there: bool) -> None:
        """Group and stream as far as they are missing. One thread at a time; the others find them made."""
        group, stream = key
        with self._making:
            if self._made.get(key, 0) != made:
                return
            if not group_is_there:
                self._make_group(group)
            if self._create("CreateLogStream", logGroupName=group, logStreamName=stream) == MISSING:
                self._make_group(group)
                self._create("CreateLogStream", logGroupName=group, logStreamName=stream)
            self._made[key] = made + 1

    def _make_group(self, group: str) -> None:
        if not self._create("CreateLogGroup", logGroupName=group) and self._retention_days:
            self._without_retention.add(group)
            self._retain(group)

    def _create(self, operation: str, **names: str) -> str:
        """Empty when it was made; `EXISTS`, or `MISSING` when its group is, when it was not."""
        try:
            self._call(operation, **names)
        except ClientError as error:
            if _code(error) in (EXISTS, MISSING):
                return _code(error)
            raise self._explained(operation, error) from None
        return ""

    def _retain(self, group: str) -> None:
        """Set the retention; whatever comes of it, the lines go. What may pass is tried again with the next request."""
        try:
            self._call("PutRetentionPolicy", logGroupName=group, retentionInDays=self._retention_days)
        except ClientError as error:
            explained = self._explained("PutRetentionPolicy", error)
            if isinstance(explained, RetryableError):
                return
            self.notes.append(
                f"CloudWatch ({self.destination}) did not set the retention of the log group {group} ({_code(error)}): "
                "allow logs:PutRetentionPolicy, or unset SHIPPER_CLOUDWATCH_RETENTION_DAYS; its lines are kept until "
                "somebody sets one."
            )
        except RetryableError:
            return
        self._without_retention.discard(group)

    # -- in words ------------------------------------------------------------------------------------------------

    def _explained(self, operation: str, error: Any) -> SinkError:
        """What to raise for an answer that is an error. ``error``: a ClientError."""
        code, host = _code(error), self.destination
        meta = error.response.get("ResponseMetadata", {})
        status = int(meta.get("HTTPStatusCode", 0))
        headers: Mapping[str, str] = meta.get("HTTPHeaders", {})
        after = retry_after({name.title(): value for name, value in headers.items()}, time.time())
        typed = not code.isdigit()  # else nothing but a status came: from something that is not CloudWatch, perhaps
        action = f"logs:{operation}"
        # the code may be anything that came over the wire
        said = f"{printable(code, 60)}, status {status}" if typed else f"status {status}"
        if not typed and self.http.way.may_be_the_proxys(status):
            return RetryableError(self.http.way.refused_on_the_way(status), after)
        if code in WRONG_CLOCK or (code == "InvalidSignatureException" and re.search(r"expired|not yet", _text(error))):
            return RetryableError(
                f"CloudWatch ({host}) refused the time in a request ({said}): is this machine's clock right?", after
            )
        if code in THROTTLED or status == 429:
            return RetryableError(f"CloudWatch ({host}) asks for fewer requests ({said}).", after, throttled=True)
        if status >= 500 or status == 408 or code in ("ServiceUnavailableException", "OperationAbortedException"):
            words = f"CloudWatch ({host}) has trouble of its own ({said})."
            return RetryableError(words, after, maybe_taken=maybe_taken(status))
        if code in FORBIDDEN:
            return self._forbidden(action, said)
        if code in NO_ACCOUNT:
            return RefusedError(
                f"The account of the key in {self.variable} does not have CloudWatch Logs in the region {self._region} "
                f"({said} from {host}): turn it on there, set AWS_REGION, or {self._turn_off()}.",
                self.variable,
            )
        if code in REFUSALS or status in (401, 403):
            return self._refused(code, said)
        if status == 413:
            return RejectedError(f"CloudWatch ({host}) found a request too large ({said}).", 413)
        if code in REJECTED or (status == 400 and not typed):
            if operation != PUT:
                variable = "SHIPPER_CLOUDWATCH_STREAM" if operation == "CreateLogStream" else "SHIPPER_CLOUDWATCH_GROUP"
                return RefusedError(
                    f"CloudWatch ({host}) does not take the name that {action} gave it ({said}): set {variable}, "
                    f"or {self._turn_off()}.",
                    variable,
                )
            return RejectedError(f"CloudWatch ({host}) rejected the content of a request ({said}).", status or 400)
        if code == MISSING:
            return RetryableError(f"CloudWatch ({host}) does not know the log group or stream yet ({said}).", after)
        if 300 <= status < 400:
            return RetryableError(self.http.way.redirected(status), after)
        return RetryableError(f"{host} gave an answer that CloudWatch does not give ({said}).", after)

    def _forbidden(self, action: str, said: str) -> RefusedError:
        needed = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
        if self._retention_days:
            needed.append("logs:PutRetentionPolicy")
        return RefusedError(
            f"The key in {self.variable} may not do {action} at CloudWatch ({self.destination}; {said}): allow "
            f"{', '.join(needed)}, or {self._turn_off()}.",
            self.variable,
        )

    def _refused(self, code: str, said: str) -> RefusedError:
        name = REFUSALS.get(code, "AWS_ACCESS_KEY_ID")
        if name == "AWS_SESSION_TOKEN" and self._keys.session_token is None:
            name = "AWS_ACCESS_KEY_ID"
        variable = self._keys.variables.get(name, name)
        hint = "check it"
        if self._keys.access_key.startswith("ASIA") and self._keys.session_token is None:
            token = self._keys.variables["AWS_SESSION_TOKEN"]
            hint = "such a key is temporary and needs AWS_SESSION_TOKEN"
            if token.endswith("_FILE"):
                hint = f"such a key is temporary and needs a session token; {token} names no file that holds one"
        elif code.startswith("ExpiredToken"):
            hint = "it has expired, set a new one"
        return RefusedError(
            f"CloudWatch ({self.destination}) refused what {variable} holds ({said}): {hint}, or {self._turn_off()}.",
            variable,
        )

    def _turn_off(self) -> str:
        return f"turn CloudWatch off with SHIPPER_SINKS={','.join(self._others) or 'none'}"

    def _words(self, error: BaseException) -> str:
        way = self.http.way
        chain = list(_causes(error))
        if certificate := next((cause for cause in chain if isinstance(cause, ssl.SSLCertVerificationError)), None):
            return way.not_verified(certificate.verify_message, certificate.verify_code)
        if isinstance(error, SSLError) or any(isinstance(cause, ssl.SSLError) for cause in chain):
            return way.no_tls()
        for cause in chain:
            if status := re.search(r"Tunnel connection failed: (\d{3})", str(cause)):
                return way.not_tunnelled(int(status[1]))
        if any(isinstance(cause, (socket.gaierror, urllib3.exceptions.NameResolutionError)) for cause in chain):
            return way.unresolved()
        if isinstance(error, ReadTimeoutError):
            return self._late(chain)
        if any(isinstance(cause, (ConnectionResetError, BrokenPipeError)) for cause in chain):
            return way.closed()  # also by a proxy that could be reached, which botocore says it could not
        late = (ConnectTimeoutError, urllib3.exceptions.ConnectTimeoutError)
        refused = (EndpointConnectionError, ProxyConnectionError, urllib3.exceptions.NewConnectionError)
        if any(isinstance(cause, refused) for cause in chain):
            number = next((cause.errno for cause in chain if isinstance(cause, OSError) and cause.errno), 0)
            if number or not any(isinstance(cause, TimeoutError) for cause in chain):
                return way.unreachable(os.strerror(number) if number else "no connection")
        if any(isinstance(cause, late) for cause in chain):
            return way.not_connected(self.http.connect_timeout)
        if any(isinstance(cause, TimeoutError) for cause in chain):
            return way.no_answer(self.http.total_timeout)
        if any(isinstance(cause, (ConnectionError, urllib3.exceptions.ProtocolError)) for cause in chain):
            return way.closed()
        return f"{self.destination} sent{way.through} what is no answer of CloudWatch's ({type(error).__name__})."

    def _late(self, chain: Sequence[BaseException]) -> str:
        """urllib3 waits for a proxy's answer, and for the server's in TLS, as long as for a connection, and calls both
        a read time-out; only its text tells for how long it waited."""
        for cause in chain:
            if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
                waited = re.search(r"read timeout=([\d.]+)", str(cause))
                if waited and float(waited[1]) == self.http.connect_timeout != self.http.total_timeout:
                    return self.http.way.not_connected(self.http.connect_timeout)
        return self.http.way.no_answer(self.http.total_timeout)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what botocore and urllib3 hid in it, in this order."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        kwargs = getattr(cause, "kwargs", None)
        waiting += [kwargs.get("error") if isinstance(kwargs, dict) else None, *cause.args]
        waiting += [getattr(cause, "reason", None), cause.__cause__, cause.__context__]


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _text(error: Any) -> str:
    """What the service says. For decisions, never for people: it may quote what was sent."""
    return str(error.response.get("Error", {}).get("Message", ""))


def _setting(variable: str, environ: Mapping[str, str], what: str) -> SettingError:
    value = shown(environ.get(variable, ""))
    return SettingError(variable, f"{variable} is {value}, which {what}: nothing is sent to CloudWatch.")


def _keys(environ: Mapping[str, str]) -> Keys:
    title = CloudWatch.title
    access_key, access_variable = own_secret(environ, "AWS_ACCESS_KEY_ID", title, "key", (ACCESS_KEY,))
    secret_key, secret_variable = own_secret(environ, "AWS_SECRET_ACCESS_KEY", title, "key", ())
    session_token = None
    if secret(environ, "AWS_SESSION_TOKEN"):
        session_token, _ = own_secret(environ, "AWS_SESSION_TOKEN", title, "key", ())
    variables = {
        "AWS_ACCESS_KEY_ID": access_variable,
        "AWS_SECRET_ACCESS_KEY": secret_variable,
        "AWS_SESSION_TOKEN": variable_of(environ, "AWS_SESSION_TOKEN"),
    }
    return Keys(access_key, secret_key, session_token, variables)


def _acceptance(answer: Mapping[str, Any], body: LogBody) -> Acceptance | None:
    """The events that were not taken, from `rejectedLogEventsInfo`, as ranges of the events as they were given."""
    info = answer.get("rejectedLogEventsInfo")
    if not isinstance(info, dict) or not info:
        return None
    count = body.count
    too_old = _index(info.get("tooOldLogEventEndIndex"), 0, count)
    expired = _index(info.get("expiredLogEventEndIndex"), 0, count)
    too_new = _index(info.get("tooNewLogEventStartIndex"), count, count)
    why: dict[int, str] = {}
    for place in range(max(too_old, expired)):
        why[place] = "older than 14 days" if place < too_old else "older than the log group's retention"
    for place in range(too_new, count):
        why.setdefault(place, "more than 2 hours ahead")
    given = why if body.order is None else {body.order[place]: reason for place, reason in why.items()}
    ranges: list[tuple[int, int, str]] = []
    for index in sorted(given):
        reason = given[index]
        if ranges and ranges[-1][1:] == (index, reason):
            ranges[-1] = (ranges[-1][0], index + 1, reason)
        else:
            ranges.append((index, index + 1, reason))
    return Acceptance(tuple(ranges)) if ranges else None


def _index(value: object, default: int, count: int) -> int:
    return min(max(value, 0), count) if type(value) is int else default


# -- bodies ------------------------------------------------------------------------------------------------------


class _Encoder(ABC):
    """Bodies for the lines of one run: what is the same for both formats."""

    def __init__(self, facts: Facts, group: str, stream: str) -> None:
        del facts
        self._group = group
        self._stream = stream
        self._head = orjson.dumps({"logGroupName": group, "logStreamName": stream, "logEvents": []})[:-2]

    def __call__(self, slices: Sequence[Slice], now_ms: int) -> Body:
        with RECORDS:
            return self._body(slices, now_ms)

    def _body(self, slices: Sequence[Slice], now_ms: int) -> Body:
        oldest_ms, newest_ms = now_ms - MAX_AGE_MS, now_ms + MAX_AHEAD_MS
        chosen: list[Record] = []
        beside: list[Any] = []
        moved = 0
        for events, start, end in slices:
            records = events.records[start:end]
            if events.floor_ms < oldest_ms or events.ceiling_ms > newest_ms:
                records, count = moved_to(now_ms, records, oldest_ms, newest_ms)
                moved += count
            chosen += records
            beside += self._beside(events, start, end)
        times: list[Any] = list(map(_timestamp, chosen))
        order = None
        if any(map(gt, times, times[1:])):
            order = sorted(range(len(times)), key=times.__getitem__)
            in_order = itemgetter(*order)
            times, chosen, beside = list(in_order(times)), list(in_order(chosen)), list(in_order(beside))
        compressor = isal_zlib.compressobj(1, wbits=31)
        data = []
        # never compressed by itself: where a few bytes come first and few follow, ISA-L makes five times as much of all
        lead = self._head
        size = EVENT_BYTES * len(chosen)
        truncated = 0
        for first in range(0, len(chosen), CHUNK):
            some = slice(first, first + CHUNK)
            written, message_bytes = self._written(lead, times[some], chosen[some], beside[some])
            size += message_bytes
            if size > LIMITS.max_body_bytes:
                if len(chosen) > 1:
                    continue  # for the caller to halve: only the size is of use
                message = self._cut(chosen[0], beside[0])
                written = lead + orjson.dumps({"timestamp": times[0], "message": message.decode()})
                size = len(message) + EVENT_BYTES
                truncated = 1
            data.append(compressor.compress(written))
            lead = b","
        data += (compressor.compress(b"]}" if data else lead + b"]}"), compressor.flush())
        if times and times[-1] - times[0] > MAX_SPAN_MS:
            size = max(size, LIMITS.max_body_bytes + 1)
        body = LogBody(b"".join(data), size, len(chosen), "/", {}, moved=moved, truncated=truncated)
        body.group, body.stream, body.order = self._group, self._stream, order
        return body

    @abstractmethod
    def _beside(self, events: Events, start: int, end: int) -> list[Any]:
        """What the others need of each event besides its record."""

    @abstractmethod
    def _written(self, lead: bytes, times: list[int], records: list[Record], beside: list[Any]) -> tuple[bytes, int]:
        """``lead`` and the events in JSON, with commas between them; and the bytes of their messages."""

    @abstractmethod
    def _cut(self, record: Record, beside: Any) -> bytes:
        """The message, in UTF-8, cut to `MAX_MESSAGE_BYTES`."""


_NOTHING = orjson.Fragment(b"")
_RUN = b',\\"run\\":'
_FIRST, _BETWEEN, _LAST = b'"[{\\"', _RUN + b'},{\\"', _RUN + b'}]"'
"""What stands in an escaped array of records before the first, between each two and after the last."""
_TIME, _MESSAGE = b'{"timestamp":', b',"message":"{\\"'


class _JsonEncoder(_Encoder):
    """Beside a record goes its ending: from the slot on its message, escaped, is the same for its stream and level.

    ``_facts``: what an ending says, not escaped, as the slot takes it.
    """

    def __init__(self, facts: Facts, group: str, stream: str) -> None:
        super().__init__(facts, group, stream)
        tags = {str(clean(key)): clean(value) for key, value in facts.tags}
        self._endings: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self._facts: dict[bytes, bytes] = {}
        for name, endings in self._endings.items():
            for level in LEVELS:
                members = {
                    "run": facts.run, "host": facts.host, "source": facts.source, "service": facts.service,
                    "stream": name, "level": level,
                }  # fmt: skip
                written = orjson.dumps(
                    {key: clean(value) for key, value in members.items()} | ({"tags": tags} if tags else {})
                )
                after_run = written[len(b'{"run":') : -1]
                ending = _RUN + orjson.dumps(after_run.decode())[1:-1] + b'}"},' + _TIME
                endings.append(ending)
                self._facts[ending] = after_run

    def _beside(self, events: Events, start: int, end: int) -> list[Any]:
        return list(map(self._endings[events.stream].__getitem__, events.levels[start:end]))

    def _written(self, lead: bytes, times: list[int], records: list[Record], beside: list[Any]) -> tuple[bytes, int]:
        """As `_one_by_one`, in bulk. The records are written as one array, with nothing in their slots, and its text is
        escaped as one; cut where the empty slots are, it is the messages without their endings.

        Nothing else looks like an empty slot: in JSON no value is empty, and a quote within a string has been escaped
        twice, so that three backslashes stand before it. Where a slot is not its record's last member (an event that
        was moved after another sink had filled it), there are too few pieces.
        """
        for record in records:
            record["run"] = _NOTHING
        try:
            written = orjson.dumps(records)
        except TypeError:
            return self._one_by_one(lead, times, records, beside)
        escaped = orjson.dumps(written.decode())
        pieces = escaped.split(_BETWEEN)
        if len(pieces) != len(records) or not escaped.endswith(_LAST):
            return self._one_by_one(lead, times, records, beside)
        pieces[0] = pieces[0].removeprefix(_FIRST)
        pieces[-1] = pieces[-1].removesuffix(_LAST)
        parts = [_MESSAGE] * (4 * len(records) + 1)
        parts[0] = lead + _TIME
        parts[1::4] = orjson.dumps(times)[1:-1].split(b",")
        parts[3::4] = pieces
        parts[4::4] = beside  # each with the beginning of the next event
        parts[-1] = parts[-1].removesuffix(b"," + _TIME)
        brackets_and_commas = len(records) + 1
        facts_bytes = sum(beside.count(ending) * len(self._facts[ending]) for ending in set(beside))
        return b"".join(parts), len(written) - brackets_and_commas + facts_bytes

    def _one_by_one(self, lead: bytes, times: list[int], records: list[Record], beside: list[Any]) -> tuple[bytes, int]:
        for record, ending in zip(records, beside, strict=True):
            record["run"] = orjson.Fragment(self._facts[ending])
        try:
            texts = list(map(orjson.dumps, records))
        except TypeError:  # nested deeper than orjson writes, or text with lone surrogates
            texts = [orjson.dumps(shallow(record)) for record in records]
        events = [{"timestamp": time_ms, "message": text.decode()} for time_ms, text in zip(times, texts, strict=True)]
        return lead + orjson.dumps(events)[1:-1], sum(map(len, texts))

    def _cut(self, record: Record, beside: Any) -> bytes:
        """Its message cut; where that is not enough, its fields too, as a text."""
        message = str(record["message"])
        record = {**shallow({**record, "run": orjson.Fragment(self._facts[beside])}), "message": "", "truncated": True}
        room = MAX_MESSAGE_BYTES - len(orjson.dumps(record))
        if room < 0:
            fields = json_text({name: value for name, value in record.items() if name not in _KEPT_WHEN_CUT})
            record = {name: value for name, value in record.items() if name in _KEPT_WHEN_CUT}
            record["agent.fields"] = fitting(fields, MAX_MESSAGE_BYTES // 2)
            room = MAX_MESSAGE_BYTES - len(orjson.dumps(record))
        record["message"] = fitting(message, room)
        return orjson.dumps(record)


class _RawEncoder(_Encoder):
    def _beside(self, events: Events, start: int, end: int) -> list[Any]:
        if events.lines is None:  # the decoder was not told to keep them
            return [str(record["message"]).encode(errors="replace") for record in events.records[start:end]]
        return list(events.lines[start:end])

    def _written(self, lead: bytes, times: list[int], records: list[Record], beside: list[Any]) -> tuple[bytes, int]:
        del records
        try:
            texts = [line.decode() for line in beside]
            message_bytes = sum(map(len, beside))
        except UnicodeDecodeError:
            texts = [line.decode(errors="replace") for line in beside]
            message_bytes = sum(len(text.encode()) for text in texts)
        if "" in texts:  # which CloudWatch does not take; no line is empty, but a sentence of ours might be some day
            texts = [text or " " for text in texts]
            message_bytes += texts.count(" ")
        events = [{"timestamp": time_ms, "message": text} for time_ms, text in zip(times, texts, strict=True)]
        return lead + orjson.dumps(events)[1:-1], message_bytes

    def _cut(self, record: Record, beside: Any) -> bytes:
        del record
        text: str = beside.decode(errors="replace")
        return text.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore").encode()


# -- the client --------------------------------------------------------------------------------------------------


class Wire:
    """Where and how requests go. Time-outs are in seconds and count from `open` on; ``total_timeout`` is for a piece of
    the answer."""

    def __init__(self, base: str, way: Way) -> None:
        self.base = base
        self.way = way
        self.connect_timeout = CONNECT_TIMEOUT
        self.total_timeout = TOTAL_TIMEOUT

    def session(self) -> URLLib3Session:
        # never None: botocore would then look into the environment
        proxies = {urlsplit(self.base).scheme: self.way.proxy.url} if self.way.proxy else {}
        return _HttpSession(
            verify=True,
            proxies=proxies,
            timeout=(self.connect_timeout, self.total_timeout),
            max_pool_connections=THREADS,
            # botocore turns urllib3's own off: headers and body go in two writes, and the second one would wait for an
            # acknowledgement of the first, 40 ms
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )


class _HttpSession(URLLib3Session):  # type: ignore[misc]
    """botocore's, with the trust of all other sinks, and answers of at most 64 KiB."""

    def _get_ssl_context(self) -> ssl.SSLContext:
        return certificates.context()

    def _setup_ssl_cert(self, conn: Any, url: str, verify: object) -> None:
        del url, verify
        conn.cert_reqs = "CERT_REQUIRED"
        conn.ca_certs = None  # the context has them

    def send(self, request: Any) -> Any:
        request.stream_output = True  # or all of it would be read
        response = super().send(request)
        data = b""
        while len(data) < MAX_ANSWER_BYTES:
            chunk = response.raw.read(MAX_ANSWER_BYTES - len(data))
            if not chunk:
                break
            data += chunk
        else:
            response.raw.close()  # the rest is not waited for, so the connection cannot be kept
        response._content = data
        if response.status_code < 300 and not _is_answer(data, request.headers):
            raise ValueError("no answer")  # botocore would take any text for one, a login page say
        return response


def _is_answer(data: bytes, headers: Mapping[str, Any]) -> bool:
    """Whether an accepted request's answer can be CloudWatch's: an object, or nothing where nothing is to be said."""
    if not data:
        target = headers.get("X-Amz-Target", b"")
        return not (target if isinstance(target, bytes) else str(target).encode()).endswith(b"." + PUT.encode())
    try:
        return isinstance(orjson.loads(data), dict)
    except ValueError:
        return False


class _Data(Loader):  # type: ignore[misc]
    """botocore's own data, as far as four operations need it: 6 KB of the 1.2 MB of the logs' model."""

    def __init__(self) -> None:
        super().__init__(
            extra_search_paths=[self.BUILTIN_DATA_PATH],
            include_default_search_paths=False,  # ~/.aws/models
            include_default_extras=False,
        )

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        del api_version
        path = os.path.join(self.BUILTIN_DATA_PATH, service_name, "2014-03-28", f"{type_name}.json")
        try:
            with gzip.open(f"{path}.gz") as file:
                model = orjson.loads(file.read())
        except FileNotFoundError:  # older releases and some distributions do not compress
            with open(path, "rb") as file:
                model = orjson.loads(file.read())
        return _reduced(model) if type_name == "service-2" else model

    def load_data_with_path(self, name: str) -> tuple[Any, str]:
        if name == "endpoints":  # 1.2 MB of hosts of all services; the rule set decides, this only names the host
            partitions = [_partition(one) for one in self.load_data("partitions")["partitions"]]
            return {"version": 3, "partitions": partitions}, self.BUILTIN_DATA_PATH
        found: tuple[Any, str] = super().load_data_with_path(name)
        return found


def _partition(data: Mapping[str, Any]) -> dict[str, Any]:
    """A partition of partitions.json as endpoints.json has it, without any service or region."""
    return {
        "partition": data["id"],
        "dnsSuffix": data["outputs"]["dnsSuffix"],
        "regionRegex": data["regionRegex"],
        "defaults": {
            "hostname": "{service}.{region}.{dnsSuffix}",
            "protocols": ["https"],
            "signatureVersions": ["v4"],
            "variants": [],
        },
        "regions": {},
        "services": {},
    }


def _reduced(model: Mapping[str, Any]) -> Any:
    operations = {name: model["operations"][name] for name in OPERATIONS}
    shapes: dict[str, Any] = {}
    waiting = [
        part["shape"]
        for operation in operations.values()
        for part in (operation["input"], operation.get("output"), *operation.get("errors", ()))
        if part
    ]
    while waiting:
        name = waiting.pop()
        if name not in shapes:
            shape = shapes[name] = model["shapes"][name]
            parts = [*shape.get("members", {}).values(), *(shape.get(part) for part in ("member", "key", "value"))]
            waiting += [part["shape"] for part in parts if part]
    kept = {"version": model["version"], "metadata": model["metadata"], "operations": operations, "shapes": shapes}
    _without_documentation(kept)
    return orjson.loads(orjson.dumps(kept))  # afresh, so that nothing keeps the large one's memory in use


def _without_documentation(data: Any) -> None:
    if isinstance(data, dict):
        if isinstance(data.get("documentation"), str):
            del data["documentation"]
        for value in data.values():
            _without_documentation(value)


class _Session(botocore.session.Session):  # type: ignore[misc]
    """Knows what it is told and nothing else: no environment, no file, no profile, no instance metadata."""

    @property
    def full_config(self) -> dict[str, Any]:
        return {"profiles": {}}

    def _register_config_store(self) -> None:
        defaults = {
            name: default
            for name, (_, _, default, _) in botocore.configprovider.BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
        }
        constant = botocore.configprovider.ConstantProvider
        store = botocore.configprovider.ConfigValueStore(
            mapping={name: constant(value) for name, value in {**defaults, "s3": {}, "proxies_config": {}}.items()}
        )
        self._components.register_component("config_store", store)

    def _register_data_loader(self) -> None:
        self._components.register_component("data_loader", _Data())

    def _add_configured_endpoint_provider(self, client_name: str, config_store: Any) -> None:
        """None: AWS_ENDPOINT_URL and its like are read by `from_env`."""

    def _register_client_plugins(self, client: Any) -> None:
        """None: they come from the environment."""

    def get_auth_token(self, **_: object) -> None:
        return None

    def get_credentials(self) -> None:
        return None


def _client(keys: Keys, region: str, endpoint: str) -> Any:
    session = _Session(include_builtin_handlers=False)  # none is for Logs
    client = session.create_client(
        "logs",
        region_name=region,
        endpoint_url=endpoint or None,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.session_token,
        verify=True,
        config=Config(
            user_agent=_AGENT,
            parameter_validation=False,
            proxies={},
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=THREADS,
            use_dualstack_endpoint=False,
            use_fips_endpoint=False,
            ignore_configured_endpoint_urls=True,
            defaults_mode="legacy",
            signature_version="v4",
        ),
    )
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what reading the service model took: 0.6 MB
    except AttributeError:  # no glibc
        pass
    return client


class _Crew:
    """Threads that make requests, as many as are needed and at most so many.

    Daemons: one that hangs in a request does not hold up the end of the process, as concurrent.futures' would.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    async def run(self, work: Callable[[], _T]) -> _T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def settle(result: Any, error: Exception | None) -> None:
            if future.done():  # cancelled
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def order() -> None:
            result, problem = None, None
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 (it is raised where the result is waited for)
                problem = error
            try:
                loop.call_soon_threadsafe(settle, result, problem)
            except RuntimeError:  # the loop is closed: nobody waits any more
                pass

        if not self._idle.acquire(blocking=False) and self._count < self._size:
            self._count += 1
            threading.Thread(target=self._work, name="cloudwatch", daemon=True).start()
        self._orders.put(order)
        return await future

    def close(self) -> None:
        for _ in range(self._count):
            self._orders.put(None)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            order()
            del order
            self._idle.release()
