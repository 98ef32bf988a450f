"""One scale of levels, and how the names and numbers of the common loggers stand on it.

Sources: Python logging, LiveKit Agents (DEV 23, TRACE 5: livekit-agents log.py), pino and Bunyan (10 to 60: pino
docs/api.md "logger.level", node-bunyan README "Levels"), zap (dpanic, panic, fatal), zerolog, logrus, Google Cloud
LogSeverity, syslog (RFC 5424, names only), winston/npm (silly, verbose, http), .NET (information), java.util.logging.
"""

from __future__ import annotations

LEVELS = ("trace", "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Least first. An event's level is an index into it."""

TRACE, DEBUG, INFO, NOTICE, WARNING, ERROR, CRITICAL, ALERT, EMERGENCY = range(9)

_NAMES: dict[int, tuple[str, ...]] = {
    TRACE: ("trace", "silly", "finest", "finer", "trc", "trce", "vrb"),
    DEBUG: ("debug", "dbg", "verbose", "dev", "fine", "config", "dbug"),
    INFO: ("info", "information", "informational", "inf", "default", "http", "success"),
    NOTICE: ("notice",),
    WARNING: ("warning", "warn", "wrn"),
    ERROR: ("error", "err", "severe", "exception", "fail"),
    CRITICAL: ("critical", "crit", "fatal", "dpanic", "panic", "ftl", "pnc"),
    ALERT: ("alert",),
    EMERGENCY: ("emergency", "emerg"),
}

_BY_NAME = {name: level for level, names in _NAMES.items() for name in names}
_BY_TEN = {10: TRACE, 20: DEBUG, 30: INFO, 40: WARNING, 50: ERROR, 60: CRITICAL}

EXACT: dict[object, int] = dict(_BY_TEN.items())
EXACT.update((form, level) for name, level in _BY_NAME.items() for form in (name, name.upper(), name.capitalize()))
"""The usual spellings as they are printed, for one look-up a line."""

_KINDS = frozenset({str, int})
_LONGEST = max(map(len, _BY_NAME))


def level_of(value: object) -> int | None:
    """The level that a name in any case, or a number of pino's and Bunyan's scale, stands for; None for others.

    A number between two steps counts as the lower one, as pino has it for levels of one's own.
    """
    if value.__class__ in _KINDS:
        known = EXACT.get(value)
        if known is not None:
            return known
    if isinstance(value, str):
        if len(value) > 2 * _LONGEST:
            return None
        name = value.strip().lower()
        if name[-1:].isdigit():  # slog's INFO+2 lies between two names
            name = name.rstrip("0123456789").rstrip("+-")
        return _BY_NAME.get(name)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 10 <= value < 70:
        return _BY_TEN[int(value) // 10 * 10]
    return None
