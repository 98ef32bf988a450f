"""What the environment asks for. A wrong value is reported and its default taken: nothing here stops the agent."""

from __future__ import annotations

import os

from shipper.config.problems import Problem, clean, quoted
from shipper.config.registry import REGISTRY, enabled
from shipper.config.units import parse_duration, parse_percent, parse_size
from shipper.config.variables import ACTING, LATER, PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


BLOCK = "block"
OFF = "off"
MAX_TAGS = 100  # Datadog's own limit a log (docs.datadoghq.com/logs, read 2026-11)
MAX_TAGS_CHARS = 8192  # they stand at the head of every segment of the journal
LEVELS = (
    "trace", "debug", "info", "notice", "warning", "warn", "error", "critical", "fatal", "alert", "emergency",
)  # fmt: skip
"""As SHIPPER_LEVEL takes them; lines.levels knows what they stand for."""
MAX_PATTERN_CHARS = 4096  # of a regular expression; one of a person's is a tenth of it
MAX_PATTERNS = 100
KEEP, DROP, HASH = "keep", "drop", "hash"


class Settings:
    """All settings but the secrets, which are asked for where they are used, and the agent's host and source.

    ``cpu``: the worker's share, as a fraction of the quota; None where it is not set. ``directories``: where the
    journal may live, best first. ``failed_status``: None leaves the agent's own. ``journal_max_bytes``: None is
    journal/'s own rule. ``when_full``: "drop-oldest" or "block". Times are seconds.

    What lines are forwarded, and as what: ``level``: one of `LEVELS`, or "" for all; ``exclude``, ``redact``: regular
    expressions, not looked into; ``mask``: names of further variables, ``mask_off``: only the sinks' own secrets are
    masked; ``pii``: "keep", "drop" or "hash"; ``multiline``: tracebacks and their like are joined.
    """

    __slots__ = (
        "cpu",
        "directories",
        "drain_timeout",
        "exclude",
        "failed_status",
        "flush_interval",
        "journal_max_bytes",
        "level",
        "mask",
        "mask_off",
        "max_line_bytes",
        "multiline",
        "orphan_timeout",
        "pii",
        "problems",
        "redact",
        "service",
        "sinks",
        "tags",
        "when_full",
    )

    def __init__(
        self,
        *,
        service: str,
        tags: tuple[tuple[str, str], ...],
        sinks: tuple[str, ...],
        directories: tuple[str, ...],
        journal_max_bytes: int | None,
        max_line_bytes: int,
        flush_interval: float,
        drain_timeout: float,
        orphan_timeout: float,
        failed_status: int | None,
        cpu: float | None,
        when_full: str,
        level: str,
        exclude: str,
        redact: tuple[str, ...],
        mask: tuple[str, ...],
        mask_off: bool,
        pii: str,
        multiline: bool,
        problems: tuple[Problem, ...],
    ) -> None:
        self.service = service
        self.tags = tags
        self.sinks = sinks
        self.directories = directories
        self.journal_max_bytes = journal_max_bytes
        self.max_line_bytes = max_line_bytes
        self.flush_interval = flush_interval
        self.drain_timeout = drain_timeout
        self.orphan_timeout = orphan_timeout
        self.failed_status = failed_status
        self.cpu = cpu
        self.when_full = when_full
        self.level = level
        self.exclude = exclude
        self.redact = redact
        self.mask = mask
        self.mask_off = mask_off
        self.pii = pii
        self.multiline = multiline
        self.problems = problems

    @property
    def blocks(self) -> bool:
        """The agent's writes are held back when the journal is full."""
        return self.when_full == BLOCK


def load(environ: Mapping[str, str]) -> Settings:
    """Never raises; an empty variable counts as not set."""
    problems: list[Problem] = []

    def duration(name: str, low: str, high: str) -> float:
        value = _quantity(environ, name, parse_duration, problems, low=low, high=high)
        return parse_duration(ACTING[name].default) if value is None else value

    def size(name: str, low: str, high: str) -> int | None:
        value = _quantity(environ, name, parse_size, problems, low=low, high=high)
        return None if value is None else int(value)

    _choice(environ, "SHIPPER_SENTRY_EVENTS", (OFF,), problems)  # what it says is the sink's
    _build_dir(environ, problems)  # `shipper build` takes it from there
    mask, mask_off = _mask(environ, problems)
    settings = Settings(
        service=clean(environ.get("SHIPPER_SERVICE", "")) or ACTING["SHIPPER_SERVICE"].default,
        tags=_tags(environ, problems),
        sinks=_sinks(environ, problems),
        directories=_directories(environ, problems),
        journal_max_bytes=size("SHIPPER_JOURNAL_MAX", "1MiB", "1024GiB"),
        max_line_bytes=size("SHIPPER_MAX_LINE", "1KiB", "1MiB") or parse_size(ACTING["SHIPPER_MAX_LINE"].default),
        flush_interval=duration("SHIPPER_FLUSH_INTERVAL", "0s", "60s"),
        drain_timeout=duration("SHIPPER_DRAIN_TIMEOUT", "0s", "1h"),
        orphan_timeout=duration("SHIPPER_ORPHAN_TIMEOUT", "0s", "24h"),
        failed_status=_failed_status(environ, problems),
        cpu=_quantity(environ, "SHIPPER_CPU", parse_percent, problems, low="1%", high="100%"),
        when_full=_choice(environ, "SHIPPER_WHEN_FULL", (BLOCK,), problems),
        level=_level(environ, problems),
        exclude="".join(_patterns(environ, "SHIPPER_EXCLUDE", problems, most=1)),
        redact=_patterns(environ, "SHIPPER_REDACT", problems, most=MAX_PATTERNS),
        mask=mask,
        mask_off=mask_off,
        pii=_choice(environ, "SHIPPER_PII", (DROP, HASH), problems),
        multiline=_choice(environ, "SHIPPER_MULTILINE", ("off",), problems) == "on",
        problems=(),
    )
    problems += _names_that_do_not_act(environ)
    if problems:
        from shipper.config.needles import hide

        settings.problems = tuple(Problem(one.variable, hide(environ, one.message)) for one in problems)
    return settings


def _quantity(
    environ: Mapping[str, str],
    name: str,
    parse: Callable[[str], float],
    problems: list[Problem],
    *,
    low: str,
    high: str,
) -> float | None:
    """None when it is not set or wrong."""
    text = _get(environ, name)
    if not text:
        return None
    try:
        value = parse(text)
        if parse(low) <= value <= parse(high):
            return value
        allowed = f"{low} to {high}"
    except ValueError as error:
        allowed = f"{error}, from {low} to {high}"
    problems.append(
        Problem(name, f"{name} is {quoted(text)}, allowed is {allowed}: the default, {ACTING[name].default}, is used")
    )
    return None


def _failed_status(environ: Mapping[str, str], problems: list[Problem]) -> int | None:
    name = "SHIPPER_FAILED_STATUS"
    text = _get(environ, name)
    if text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= 255:
        return int(text)
    if text:
        problems.append(Problem(name, f"{name} is {quoted(text)}, allowed is 1 to 255: the agent's own status is kept"))
    return None


def _choice(environ: Mapping[str, str], name: str, others: Sequence[str], problems: list[Problem]) -> str:
    """The variable's default or one of the ``others``."""
    text = _get(environ, name).lower()
    default = ACTING[name].default
    if text in ("", default, *others):
        return text or default
    allowed = f"{', '.join((default, *others[:-1]))} or {others[-1]}"
    problems.append(Problem(name, f"{name} is {quoted(text)}, allowed is {allowed}: the default, {default}, is used"))
    return default


def _level(environ: Mapping[str, str], problems: list[Problem]) -> str:
    name = "SHIPPER_LEVEL"
    text = _get(environ, name).lower()
    if not text or text in LEVELS:
        return text
    problems.append(
        Problem(name, f"{name} is {quoted(text)}, allowed is one of {', '.join(LEVELS)}: all levels are forwarded")
    )
    return ""


def _patterns(environ: Mapping[str, str], name: str, problems: list[Problem], most: int) -> tuple[str, ...]:
    """One a line; what is wrong with one itself shows when it is used."""
    found = tuple(line.strip("\r") for line in environ.get(name, "").split("\n") if line.strip())
    if len(found) > most:
        limit = f"{most} regular expressions, one a line" if most > 1 else "one regular expression, in one line"
        what = f"holds {len(found)} lines, allowed is {limit}: none of them acts"
    elif any(len(one) > MAX_PATTERN_CHARS for one in found):
        what = f"holds an expression of more than {MAX_PATTERN_CHARS} characters: it does not act"
    else:
        return found
    problems.append(Problem(name, f"{name} {what}"))
    return () if len(found) > most else tuple(one for one in found if len(one) <= MAX_PATTERN_CHARS)


def _mask(environ: Mapping[str, str], problems: list[Problem]) -> tuple[tuple[str, ...], bool]:
    """Names of further variables; whether only the sinks' own secrets are masked."""
    variable = "SHIPPER_MASK"
    names = _items(environ.get(variable, ""))
    if not names:
        return (), False
    from shipper.config.needles import OFF, is_chosen_value, is_secret_value, value_of

    offs = [name for name in names if name.lower() == OFF]
    names = [name for name in names if name.lower() != OFF]
    if offs and not names:
        return (), True
    if offs:
        problems.append(
            Problem(variable, f"{variable} names off beside others, allowed is off alone: all that it can is masked")
        )
    for name in names:
        value = value_of(environ, name)
        if not value:
            why = "which is not set"
        elif not is_chosen_value(value):
            why = (
                "whose value is too short or too common to be looked for (8 characters with a digit, or 20, are enough)"
            )
        else:
            continue
        plain = name.isidentifier() and not is_secret_value(name)  # else it may be the secret itself
        named = name if plain else "something that does not look like a variable's name (not shown here)"
        problems.append(Problem(variable, f"{variable} names {named}, {why}: it is not masked"))
    return tuple(names), False


def _tags(environ: Mapping[str, str], problems: list[Problem]) -> tuple[tuple[str, str], ...]:
    tags = []
    wrong = []
    for item in _items(environ.get("SHIPPER_TAGS", "")):
        key, _, value = item.partition(":")
        tag = clean(key), clean(value)
        if all(tag):
            tags.append(tag)
        else:
            wrong.append(item)
    if len(tags) > MAX_TAGS or sum(len(key) + len(value) for key, value in tags) > MAX_TAGS_CHARS:
        problems.append(
            Problem(
                "SHIPPER_TAGS",
                f"SHIPPER_TAGS holds {len(tags)} tags, allowed are {MAX_TAGS} of {MAX_TAGS_CHARS} characters in all: "
                "no tag is added",
            )
        )
        return ()
    if wrong:
        problems.append(
            Problem(
                "SHIPPER_TAGS",
                f"SHIPPER_TAGS holds {quoted(','.join(wrong))}, allowed is key:value,key:value: this part is left out",
            )
        )
    return tuple(tags)


def _sinks(environ: Mapping[str, str], problems: list[Problem]) -> tuple[str, ...]:
    names = list(dict.fromkeys(_items(environ.get("SHIPPER_SINKS", "").lower())))
    if not names:
        return enabled(environ, None, problems)
    known = [entry.name for entry in REGISTRY]
    allowed = f"allowed is a comma list of {', '.join(known)}, or none"
    for name in names:
        if name not in (*known, "none"):
            what = f"SHIPPER_SINKS names {quoted(name)}, {allowed}: it is left out{_near(name, known)}"
        elif name == "none" and len(names) > 1:
            what = "SHIPPER_SINKS names none beside others, allowed is none alone: nothing is forwarded"
        else:
            continue
        problems.append(Problem("SHIPPER_SINKS", what))
    if "none" in names:
        return ()
    sinks = enabled(environ, names, problems)
    for entry in REGISTRY:
        missing = [name for name in entry.secrets if not (_get(environ, name) or _get(environ, f"{name}_FILE"))]
        if entry.name in names and missing:
            problems.append(
                Problem(
                    "SHIPPER_SINKS",
                    f"SHIPPER_SINKS names {entry.name}, which needs {' and '.join(missing)}: "
                    f"nothing is forwarded to {entry.title}",
                )
            )
    return sinks


def _build_dir(environ: Mapping[str, str], problems: list[Problem]) -> None:
    name = "SHIPPER_BUILD_DIR"
    text = _get(environ, name)
    if text and not text.startswith("/"):
        what = f"{name} is {quoted(text)}, allowed is a path that begins with /: the default places are used"
        problems.append(Problem(name, what))


def _directories(environ: Mapping[str, str], problems: list[Problem]) -> tuple[str, ...]:
    chosen = _get(environ, "SHIPPER_DIR")
    if chosen.startswith("/"):
        return (chosen,)
    if chosen:
        # `shipper logs`, started elsewhere in the container, must find the same place.
        problems.append(
            Problem(
                "SHIPPER_DIR",
                f"SHIPPER_DIR is {quoted(chosen)}, allowed is a path that begins with /: the default places are used",
            )
        )
    state = _get(environ, "XDG_STATE_HOME")
    temporary = _get(environ, "TMPDIR")
    own = f"shipper-{os.geteuid()}"
    return (
        "/var/lib/shipper",
        # The XDG base directory specification: a relative path is to be ignored.
        *((os.path.join(state, "shipper"),) if state.startswith("/") else ()),
        os.path.join(temporary if temporary.startswith("/") else "/tmp", own),  # noqa: S108 (journal/ checks the owner)
        os.path.join("/dev/shm", own),  # noqa: S108
    )


def _names_that_do_not_act(environ: Mapping[str, str]) -> list[Problem]:
    problems = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or not _get(environ, name) or name in ACTING:
            continue
        shown = clean(name)  # never the value: a misspelt variable may hold a secret
        if name in LATER:
            what = f"{shown} is set but does not act in this version: lines are forwarded as if it were not set"
        else:
            what = f"{shown} is no variable of shipper and is ignored{_suggestion(shown)}"
        problems.append(Problem(shown, what))
    return problems


def _suggestion(name: str) -> str:
    bare = name.removeprefix(PREFIX)
    return f": did you mean {bare}?" if bare in ACTING else _near(name, (*ACTING, *LATER))


def _near(name: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else ""


def _get(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip()


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
