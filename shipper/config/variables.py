"""The names of all variables, as data: README and --help are tested against these tables."""

from __future__ import annotations


class Variable:
    """One that acts in this version. ``default`` is as a user would write it, empty where nothing is set."""

    __slots__ = ("default", "meaning")

    def __init__(self, default: str, meaning: str) -> None:
        self.default = default
        self.meaning = meaning


ACTING = {
    "DATADOG_TOKEN": Variable("", "turns Datadog on: a client token (pub...) or an API key"),
    "DATADOG_TOKEN_FILE": Variable("", "a file that holds it"),
    "DATADOG_REGION": Variable("us1", "us1, us3, us5, us1-fed, eu, ap1 or a newer site"),
    "SHIPPER_DATADOG_URL": Variable("", "another intake (a proxy, the sandbox): scheme, host and port"),
    "AWS_ACCESS_KEY_ID": Variable("", "with AWS_SECRET_ACCESS_KEY turns CloudWatch on"),
    "AWS_ACCESS_KEY_ID_FILE": Variable("", "a file that holds it"),
    "AWS_SECRET_ACCESS_KEY": Variable("", "the key's secret half"),
    "AWS_SECRET_ACCESS_KEY_FILE": Variable("", "a file that holds it"),
    "AWS_SESSION_TOKEN": Variable("", "with temporary keys"),
    "AWS_SESSION_TOKEN_FILE": Variable("", "a file that holds it"),
    "AWS_REGION": Variable("us-west-2", "the region of CloudWatch"),
    "AWS_ENDPOINT_URL_LOGS": Variable("", "another CloudWatch endpoint (a VPC's, the sandbox); else AWS_ENDPOINT_URL"),
    "AWS_ENDPOINT_URL": Variable("", "the same, for all of AWS"),
    "SHIPPER_CLOUDWATCH_GROUP": Variable("", "log group; else the source"),
    "SHIPPER_CLOUDWATCH_STREAM": Variable("", "log stream; else the host"),
    "SHIPPER_CLOUDWATCH_RETENTION_DAYS": Variable("", "retention of a group that it creates"),
    "SHIPPER_CLOUDWATCH_FORMAT": Variable("json", "json, or raw: the agent's own line and nothing else"),
    "SENTRY_DSN": Variable("", "turns Sentry on"),
    "SENTRY_DSN_FILE": Variable("", "a file that holds it"),
    "SENTRY_RELEASE": Variable("", "release of the lines and of a crash's event"),
    "SENTRY_ENVIRONMENT": Variable("", "environment of the lines and of a crash's event"),
    "SHIPPER_SENTRY_EVENTS": Variable("on", "off: an agent's crash does not become a Sentry event"),
    "NEW_RELIC_LICENSE_KEY": Variable("", "turns New Relic on; the key tells the region"),
    "NEW_RELIC_LICENSE_KEY_FILE": Variable("", "a file that holds it"),
    "SHIPPER_NEW_RELIC_URL": Variable("", "another intake (a proxy, the sandbox): scheme, host and port"),
    "SHIPPER_SINKS": Variable("", "comma list that narrows what the secrets turn on; none forwards nothing"),
    "SHIPPER_HOST": Variable("", "the worker instance; else LIVEKIT_WORKER_ID, else the host name"),
    "SHIPPER_SOURCE": Variable("", "the agent; else LIVEKIT_AGENT_ID, livekit.toml, LIVEKIT_AGENT_NAME, the script"),
    "SHIPPER_SERVICE": Variable("cloud.livekit.io", "field service"),
    "SHIPPER_TAGS": Variable("", "key:value,key:value for every line"),
    "SHIPPER_LEVEL": Variable("", "least level that is forwarded: debug, info, warning, error, ..."),
    "SHIPPER_EXCLUDE": Variable("", "regular expression (RE2); a line in which it is found is not forwarded"),
    "SHIPPER_REDACT": Variable("", "regular expressions (RE2), one a line; what they find leaves as [REDACTED]"),
    "SHIPPER_MASK": Variable("", "comma list of further variables to mask the values of, or off: the sinks' own only"),
    "SHIPPER_PII": Variable("keep", "fields named lk.pii.*: keep, drop or hash"),
    "SHIPPER_MULTILINE": Variable("on", "off: every line of a traceback is an event of its own"),
    "SHIPPER_DIR": Variable("", "where the journal lives"),
    "SHIPPER_JOURNAL_MAX": Variable("128MiB", "bound of that directory"),
    "SHIPPER_WHEN_FULL": Variable("drop-oldest", "or block: hold the agent's writes back rather than lose a line"),
    "SHIPPER_FLUSH_INTERVAL": Variable("1s", "longest time that a line waits for company"),
    "SHIPPER_DRAIN_TIMEOUT": Variable("8s", "longest time that the end is delayed to deliver what is pending"),
    "SHIPPER_ORPHAN_TIMEOUT": Variable("1h", "longest time that a worker left behind by the agent's command is kept"),
    "SHIPPER_FAILED_STATUS": Variable("", "status to end with when a LiveKit worker had failed and ended with 0"),
    "SHIPPER_CPU": Variable("10%", "the forwarding's share of the CPU quota while the agent runs"),
    "SHIPPER_BUILD_DIR": Variable("", "where build logs lie; else /usr/share/shipper/build, else in SHIPPER_DIR"),
    "SHIPPER_BUILD_VERSION": Variable("", "which steps of `shipper build` belong together"),
    "SHIPPER_MAX_LINE": Variable("256KiB", "a longer line is split and marked"),
}

LATER = ("SHIPPER_METRICS",)
"""Variables that the design fixes and this version does not act on."""

PREFIX = "SHIPPER_"
"""Whatever else begins so is a mistake."""
