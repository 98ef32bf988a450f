"""The sinks, one line each. Data only: PID 1 must know which secrets turn a sink on without importing one."""

from __future__ import annotations

from shipper.config.secrets import secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from shipper.config.problems import Problem


class SinkEntry:
    """``secrets``: the variables that turn it on, all together; ``factory``: ``module:class`` in sinks/."""

    __slots__ = ("factory", "name", "secrets", "title")

    def __init__(self, name: str, secrets: tuple[str, ...], factory: str, title: str) -> None:
        self.name = name
        self.secrets = secrets
        self.factory = factory
        self.title = title


REGISTRY = (
    SinkEntry("datadog", ("DATADOG_TOKEN",), "shipper.sinks.datadog:Datadog", "Datadog"),
    SinkEntry(
        "cloudwatch", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        "shipper.sinks.cloudwatch:CloudWatch", "CloudWatch",
    ),
    SinkEntry("sentry", ("SENTRY_DSN",), "shipper.sinks.sentry:Sentry", "Sentry"),
    SinkEntry("newrelic", ("NEW_RELIC_LICENSE_KEY",), "shipper.sinks.newrelic:NewRelic", "New Relic"),
)  # fmt: skip


def enabled(
    environ: Mapping[str, str], names: Collection[str] | None = None, problems: list[Problem] | None = None
) -> tuple[str, ...]:
    """The sinks whose secrets are set, in the registry's order; among ``names`` only, unless None."""
    sinks = []
    for entry in REGISTRY:
        if names is None or entry.name in names:
            secrets = [secret(environ, name, problems) for name in entry.secrets]
            if all(secrets):
                sinks.append(entry.name)
    return tuple(sinks)
