"""Names in an agent's JSON lines: those read as message, level, time or job, and those that are ours."""

from __future__ import annotations

MESSAGE_NAMES = ("message", "msg", "event", "log", "@m", "@mt", "Message")
"""First text wins. LiveKit and python-json-logger, pino and zap, structlog, Docker's JSON, Serilog's compact form (the
template where it is not rendered), .NET's console."""

LEVEL_NAMES = (
    "level", "severity", "levelname", "lvl", "log.level", "severityText", "severity_text", "@l", "LogLevel", "status",
)  # fmt: skip
"""First one whose value is a level wins; a `status` of 200 or "connected" stays the agent's field."""

TIME_NAMES = (
    "timestamp", "time", "ts", "@timestamp", "datetime", "asctime", "date", "@t", "timeUnixNano", "Timestamp",
)  # fmt: skip
"""First one whose value is a moment within a day of the capture wins."""

JOB_NAMES = ("jobId", "jobID")
"""How LiveKit's Node SDK writes what its Python SDK writes `job_id` (agents-js, log.ts)."""

CLAIMED = frozenset(
    {
        # What our events carry at one provider or another.
        "host", "hostname", "source", "service", "stream", "run", "seq", "lines", "part", "skipped",
        "message", "status", "level", "timestamp", "ddsource", "ddtags", "truncated", "original_timestamp",
        # What Datadog reads in place of these: content/en/logs/log_configuration/pipelines.md, "Preprocessing",
        # read 2026-11. dd.trace_id is not here: an agent that prints it means what Datadog means.
        "msg", "log", "severity", "date", "@timestamp", "_timestamp", "Timestamp", "eventTime", "published_date",
        "syslog", "syslog.hostname", "syslog.appname", "syslog.severity", "syslog.timestamp",
    }
)  # fmt: skip
"""A field of one of these names is sent as `agent.` and its name, to every provider alike: it would take the place of
ours, and so it stays findable."""

MOVED = "agent."
