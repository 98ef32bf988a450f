"""The sinks, one line each. Data only: PID 1 must know which secrets turn a sink on without importing one."""

from __future__ import annotations

from shipper.config.secrets import secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from shipper.config.problems import Problem


class SinkEntry:
    """``secrets``: the variables that turn it on, all together; ``optional``: secrets that it takes besides;
    ``factory``: ``module:class`` in sinks/."""

    __slots__ = ("factory", "name", "optional", "secrets", "title")

    def __init__(
        self, name: str, secrets: tuple[str, ...], factory: str, title: str, optional: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.secrets = secrets
        self.factory = factory
        self.title = title
        self.optional = optional


REGISTRY = (
    SinkEntry("datadog", ("DATADOG_TOKEN",), "shipper.sinks.datadog:Datadog", "Datadog"),
    SinkEntry(
        "cloudwatch", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        "shipper.sinks.cloudwatch:CloudWatch", "CloudWatch", ("AWS_SESSION_TOKEN",),
    ),
    SinkEntry("sentry", ("SENTRY_DSN",), "shipper.sinks.sentry:Sentry", "Sentry"),
    SinkEntry("newrelic", ("NEW_RELIC_LICENSE_KEY",), "shipper.sinks.newrelic:NewRelic", "New Relic"),
)  # fmt: skip


def enabled(
    environ: Mapping[str, str], names: Collection[str] | None = None, problems: list[Problem] | None = None
) -> tuple[str, ...]:
    """The sinks whose secrets are set, in the registry's order; among ``names`` only, unless None.

    What is wrong with a secret goes to ``problems``, an optional one's only where the sink is on.
    """
    sinks = []
    for entry in REGISTRY:
        if names is None or entry.name in names:
            secrets = [secret(environ, name, problems) for name in entry.secrets]
            if all(secrets):
                sinks.append(entry.name)
                for name in entry.optional:
                    secret(environ, name, problems)
    return tuple(sinks)
