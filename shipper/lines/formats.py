"""What a line of text says of itself: level, time and logger's name of the forms that loggers print.

What is taken, and what stays:

- The text stays whole, as printed: what `docker logs` shows can be searched for at the provider, and nobody loses a
  byte to a guess. Level and time are read from it, and the logger's name becomes the field `name`, as LiveKit's JSON
  lines have it, so that one query finds both. (Not `logger`: our own events have that.)
- Two forms are structure with a text in front or around: an object of JSON behind the text (LiveKit's `dev` mode, zap's
  console) and logfmt. Their fields become fields, as those of a JSON line do. The object is then no longer part of the
  message, or what a filter takes out of a field would still stand there. A line that is logfmt from end to end is read
  like a JSON line: `msg` is the message.
- The level comes from a token where a level stands: first, behind the time, in brackets, between a logger's own
  separators. Never from a word in a sentence, never from the stream; where none stands, the level is info. In lower
  case it counts in brackets, before a colon or between tabs or bars only. `ERROR: ` in front of a line is a level,
  `Error: ` is an exception's title. The first lines of crashes count as errors without a token: panics, tracebacks,
  `process exited with non-zero exit code`, LiveKit's word for a job that died.
- Time stamps: those of `times.Times.printed`, at the front or right behind the level. One that names no offset is UTC.
  A clock without a date counts with a level behind it only: alone it may be a duration.

One compiled pattern a family, chosen by the line's first character; each is linear: what may repeat without bound is
followed by something that it cannot match, or is possessive. Other lines pay that choice, and the patterns' first test.

Sources: CPython Lib/logging/__init__.py and its how-to, uvicorn logging.py, gunicorn glogging.py, celery, loguru
_defaults.py, livekit-agents cli/log.py and pino-pretty (both seen in runs), klog's README, tracing-subscriber's fmt and
env_logger's default format, Go's log and log/slog, logrus' TextFormatter, zap's console encoder, zerolog's
ConsoleWriter, nginx's log_format combined and error_log, RFC 3164, RFC 5424, sd-daemon(3), Node's process warnings,
Microsoft.Extensions.Logging's console; read 2026-11.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

import orjson

from shipper.lines.levels import ALERT, CRITICAL, DEBUG, EMERGENCY, ERROR, INFO, NOTICE, TRACE, WARNING, level_of

if TYPE_CHECKING:
    from collections.abc import Callable

CRASHED_JOB = "process exited with non-zero exit code "
"""LiveKit's line for a job whose process died (ipc/supervised_proc.py): an error, whatever its logger calls it."""


STRUCTURED = -1

Found = tuple[int, str, str, "dict[str, object] | None", str]
"""What a line says of itself: level, time as printed (for `Times.printed`), logger's name, fields, and the text without
these. Empty where there is none. With `STRUCTURED` as the level the fields are all there is, and hold that too."""


_UPPER = (
    "TRACE|DEBUG|INFO|NOTICE|SUCCESS|WARNING|WARN|ERROR|CRITICAL|FATAL|PANIC|ALERT|EMERGENCY|EMERG|SEVERE|VERBOSE"
    "|TRC|DBG|INF|WRN|ERR|FTL|PNC|CRIT"
)
_WORD = "[A-Za-z]{3,9}+"
"""What a level may be in, where anything else may stand too: looked up in `_TOKENS`."""
_NAME = r"[\w.<>$@/-]++(?:::?[\w.<>$@/-]++)*+"
_TITLES = ("Error", "Exception", "Warning")
"""With these ends a name before a colon is an exception's, no logger's."""
_NO_TITLE = rf"(?!\w*(?:{'|'.join(_TITLES)})\b)"
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_ISO = r"[\d/-]{10}[T\ ][\d:]{8}(?:[.,]\d{1,9})?(?:Z|~?[+-]\d\d:?\d\d|~UTC)?"
_CLOCK = r"[\d:]{8}(?:[.,]\d{1,9})?|[\d:]{4,8}[AP]M"
_SYSLOG = rf"{_MONTH}~[\d\ ]\d~\d\d:\d\d:\d\d"
_CLF = rf"\d\d/{_MONTH}/\d{{4}}[:\ ]\d\d:\d\d:\d\d(?:~[+-]\d{{4}})?"


def _pattern(verbose: str) -> re.Pattern[str]:
    """``~`` is a blank, which a verbose pattern passes over."""
    return re.compile(verbose.replace("~", "[ ]"), re.VERBOSE | re.ASCII)


_LEVEL = rf"""
    (?: ~*\t (?P<tab> {_WORD} ) \t                                              # zap's console
      | (?: ~*[-|:]~* | ~+ )
        (?: (?P<first> {_UPPER} ) (?= [\ :|\t] | $ )
          | (?P<colon> {_WORD} ) (?: :(?= ~ | $ ) | ~*\| )
          | \[ (?P<inner> [^][\n]{{1,80}} ) \] ~ (?: -~ )? (?P<behind> {_UPPER} ) (?= [\ :|] | $ )
          | (?: \[ [^][\n]{{1,80}} \] ~* ){{0,2}}? \[ ~* (?P<bracket> {_WORD} ) ~* \]
          | (?P<dotted> (?= [a-zA-Z\d-]++ [.:/\[_] \w | _ ) [\w.:/\[\]-]{{1,80}}+ (?<! \. ) )
            ~ (?: -~ )? (?P<after> {_UPPER} ) (?= [\ :|] | $ )
          | (?P<dashed> [^\s\[-] \S*+ (?: ~ [^\s-] \S*+ ){{0,2}}+ ) ~-~ (?P<between> {_UPPER} ) ~-~
        )
    )
"""
"""A level that follows a time. Before it may stand what is in brackets, or a name that is no word of a sentence."""

_BEHIND = rf"""
    (?: (?: ~*[-|:]~* | ~+ | (?<=\t) )
        (?: \d+~---~ (?: \[ [^]\n]{{0,80}} \] ~* ){{1,3}} (?=\w) )?             # Spring
        (?: \[ ~* (?P<boxed> {_NAME} ) ~* \]
          | (?P<named> {_NAME} ) (?: ~-~ | ~*:(?= ~ | $ ) | \t ) )
    )?
"""
"""A logger's name that follows the level."""

_TIMED = _pattern(
    rf"""
      (?P<dev> [\d-]{{10}}~[\d:]{{8}},\d{{3}} ) ~-~                               # LiveKit's
      (?P<devlevel> {_UPPER}|DEV ) ~ (?P<devname> [^\s-]\S*+ ) ~-~
    | (?P<stamp> {_ISO} | {_CLOCK} ) (?! [\w:] ) (?: {_LEVEL} {_BEHIND} )?
    | [\da-fA-F.:]{{3,45}}+ ~ [^\s\[]{{1,80}}+ ~ [^\[\n]{{1,80}}+ \[ (?P<access> {_CLF} ) \]
    """
)
_BRACKETED = _pattern(
    rf"""
      \[ (?P<stamp> {_ISO} | {_CLOCK} )
      (?: \] (?: {_LEVEL} {_BEHIND} (?: ~ \( (?: [\w.@-]+/ )? (?P<pid> \d{{1,9}} ) (?: ~on~[^)\n]* )? \) )? )?
        | :?~+ (?P<env> {_WORD} ) (?: /[\w-]+ )? (?: ~+ (?P<target> {_NAME} ) )? ~* \] )
    | \[ ~* (?P<alone> {_WORD} ) (?: /[\w-]+ )? ~* \]
      (?: \s* (?P<late> {_ISO} ) )? (?: ~* \[ (?P<second> {_NAME} ) \] )?
    """
)
_UPPERCASE = _pattern(
    rf"""
      (?P<klog> [IWEF] ) (?P<day> \d{{4}}~\d\d:\d\d:\d\d\.\d{{6}} ) ~+ \d+ ~ [^\s\]]+:\d+\]
    | (?P<first> {_UPPER} )
      (?: : (?P<root> [\w.-]+ ) : | : (?= ~ | $ ) | ~*[-|](?= ~ ) | \t | \[\d+\]~ | ~{{2,}}+
        | (?= ~ (?: \[ | \d{{4}}-\d\d-\d\d | {_NO_TITLE} [\w.-]++ :~ ) ) )
      (?: ~* (?P<stamp> {_ISO} ) )?
      (?: ~* (?: \[ (?P<boxed> {_NAME} ) \]
               | (?P<named> [A-Za-z_] [\w.-]*+ ) (?: :\d+ )? (?: ~-~ | :(?= ~ | $ ) ) ) )?
    | (?P<crash> Traceback~\(most~recent~call~last\):$ | Exception~in~thread~(?: " | [^\n]*:$ )
               | Fatal~Python~error:~ )
    | (?P<month> {_SYSLOG} ) ~ \S+ ~ (?P<app> [\w./-]+ ) (?: \[\d+\] )? :
    """
)
_LOWERCASE = _pattern(
    rf"""
      (?P<logfmt> [\w.@-]{{1,40}}+ = )
    | (?P<crash> thread~'[^'\n]*'~ (?: \(\d+\)~ )? panicked~at~ | panic:~ | fatal~error:~all~goroutines~are~asleep
               | {CRASHED_JOB.replace(" ", "~")} )
    | (?P<dotnet> trce | dbug | info | warn | fail | crit ) :~ (?P<category> [\w.]+ ) \[\d+\]
    | npm~ (?P<npm> ERR! | error | WARN | warn | notice ) ~
    """
)
_MARKED = _pattern(
    rf"""
      < (?P<pri> 1?\d{{1,2}} ) > (?: 1~ (?P<stamp> {_ISO} ) ~ \S+ ~ (?P<app> \S+ )
        | (?P<month> {_SYSLOG} ) (?: ~ \S+ ~ (?P<tag> [\w./-]+ ) (?: \[\d+\] )? : )? )
    | < (?P<prefix> [0-7] ) > (?= \S )                                           # systemd's
    | (?: \(node:\d+\)~ (?: \[\w+\]~ )? | [/<] [^:\n]*+ :\d+:~ ) (?P<warning> \w*Warning ) :~
    """
)

_PAIR = re.compile(r'([\w.@/-]{1,80}+)=(?:"((?:[^"\\]|\\.)*+)"|([^\s"=]*+))(?:[ ]+|$)', re.ASCII)
_SHORT = re.compile(r"0|-?[1-9]\d{0,14}", re.ASCII)
"""A number that no id of 16 digits (span) or more can be."""
_TAILS = 4  # places at which the object behind a text is looked for

_DATED = len("2026-11-24 03:55:35")
"""A clock alone may as well be a duration: it counts with a level behind it only."""
_KLOG = {"I": INFO, "W": WARNING, "E": ERROR, "F": CRITICAL}
_PRI = (EMERGENCY, ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG)  # RFC 5424, 6.2.1
_NPM = {"ERR!": ERROR, "error": ERROR, "WARN": WARNING, "warn": WARNING, "notice": NOTICE}
_DOTNET = {"trce": TRACE, "dbug": DEBUG, "info": INFO, "warn": WARNING, "fail": ERROR, "crit": CRITICAL}
_TOKENS = {
    form: level
    for name in _UPPER.split("|")
    if (level := level_of(name)) is not None
    for form in (name, name.lower(), name.capitalize())
}


def _name(name: str) -> str:
    """A logger's name without the place in the code behind it; empty for a place alone, a number, and an exception."""
    if name.endswith(_TITLES):
        return ""
    if name[-1:].isdigit():
        first, colon, rest = name.partition(":")
        if not colon:
            return "" if name.isdigit() else name
        return first if ":" in rest and not rest.startswith(":") else ""
    return name


def _timed(found: re.Match[str], text: str) -> Found | None:
    (
        dev, devlevel, devname,
        stamp, tab, first, colon, inner, behind, bracket, dotted, after, dashed, between, boxed, named, access,
    ) = found.groups()  # fmt: skip
    if dev:
        level = _TOKENS.get(devlevel, DEBUG)
        if level < ERROR and text.startswith(CRASHED_JOB, found.end()):
            level = ERROR
        return _with_tail(level, dev, devname, text, found.end())
    if access:
        return INFO, access, "", None, ""
    known = _TOKENS.get(first or colon or tab or bracket or behind or after or between)
    if known is None:
        return (INFO, stamp, "", None, "") if len(stamp) >= _DATED else None
    name = boxed or named or dashed or dotted or inner or ""
    if name:
        name = _name(name)
    if tab:
        return _with_tail(known, stamp, name, text, found.end())
    if known < ERROR and (text.startswith(CRASHED_JOB, found.end()) or text.startswith(CRASHED_JOB, found.end() + 1)):
        known = ERROR
    return known, stamp, name, None, ""


def _bracketed(found: re.Match[str], text: str) -> Found | None:
    del text
    (
        stamp, tab, first, colon, inner, behind, bracket, dotted, after, dashed, between, boxed, named,
        pid, env, target, alone, late, second,
    ) = found.groups()  # fmt: skip
    level = _TOKENS.get(alone or first or colon or tab or bracket or behind or after or between or env)
    if level is None:
        return (INFO, stamp, "", None, "") if stamp and len(stamp) >= _DATED else None
    if alone:
        return level, late or "", second or "", None, ""
    name = _name(target or boxed or named or dashed or dotted or inner or "")
    return level, stamp, name, {"pid": int(pid)} if pid else None, ""


def _uppercase(found: re.Match[str], text: str) -> Found | None:
    del text
    klog, day, first, root, stamp, boxed, named, crash, month, app = found.groups()
    if first:
        return _TOKENS[first], stamp or "", root or _name(boxed or named or ""), None, ""
    if klog:
        return _KLOG[klog], day, "", None, ""
    return (ERROR, "", "", None, "") if crash else (INFO, month, app, None, "")


def _lowercase(found: re.Match[str], text: str) -> Found | None:
    logfmt, crash, dotnet, category, npm = found.groups()
    if logfmt:
        fields = _pairs(text)
        return (STRUCTURED, "", "", fields, "") if fields else None
    if crash:
        return ERROR, "", "", None, ""
    return (_NPM[npm], "", "", None, "") if npm else (_DOTNET[dotnet], "", category, None, "")


def _marked(found: re.Match[str], text: str) -> Found | None:
    del text
    pri, stamp, app, month, tag, prefix, _ = found.groups()
    if pri or prefix:
        number = int(pri or prefix)
        return (_PRI[number & 7], stamp or month or "", app or tag or "", None, "") if number < 192 else None
    return WARNING, "", "", None, ""


def _with_tail(level: int, stamp: str, name: str, text: str, start: int) -> Found:
    """What was found, with the object of JSON that the text may end with as fields."""
    if text[-1] == "}":
        for _ in range(_TAILS):
            start = text.find("{", start)
            if start < 0:
                break
            if text[start - 1] in " \t":
                try:
                    return level, stamp, name, orjson.loads(text[start:]), text[:start].rstrip()
                except ValueError:
                    pass
            start += 1
    return level, stamp, name, None, ""


def _pairs(text: str) -> dict[str, object] | None:
    """The fields of a line that is logfmt from end to end and says a level or a message; else None."""
    fields: dict[str, object] = {}
    at, end = 0, len(text)
    while at < end:
        pair = _PAIR.match(text, at)
        if pair is None:
            return None
        name, quoted, bare = pair.groups()
        if name in fields:  # one of them would be lost
            return None
        if quoted is not None:
            fields[name] = _unquoted(quoted)
        else:
            fields[name] = bare if name in ("msg", "message") else _plain(bare)
        at = pair.end()
    if "msg" in fields or level_of(fields.get("level", fields.get("lvl", fields.get("severity")))) is not None:
        return fields
    return None


def _plain(value: str) -> object:
    """Numbers and truth values as such where nothing is lost by it."""
    if value in ("true", "false"):
        return value == "true"
    if _SHORT.fullmatch(value):
        return int(value)
    if "." in value and len(value) < 18:
        try:
            number = float(value)
        except ValueError:
            return value
        return number if str(number) == value else value
    return value


def _unquoted(value: str) -> str:
    if "\\" not in value:
        return value
    try:
        text = orjson.loads(f'"{value}"')
    except ValueError:  # \x1b and the like
        return value.replace('\\"', '"')
    return str(text)


Reader = tuple["Callable[[str], re.Match[str] | None]", "Callable[[re.Match[str], str], Found | None]", bytes]


def _family(pattern: re.Pattern[str], understand: Callable[[re.Match[str], str], Found | None], firsts: str) -> Reader:
    return pattern.match, understand, bytes(chr(byte) in firsts for byte in range(256))


FAMILIES: tuple[Reader, ...] = (
    _family(_TIMED, _timed, "0123456789"),
    _family(_BRACKETED, _bracketed, "["),
    _family(_UPPERCASE, _uppercase, string.ascii_uppercase),
    _family(_LOWERCASE, _lowercase, string.ascii_lowercase + "_@"),
    _family(_MARKED, _marked, "<(/"),
)
"""A pattern's ``match``, who reads what it found, and a table of the bytes with which its lines begin."""


def read(text: str) -> Found | None:
    """What the line says of itself, None when it is of no form that is known. Raises nothing."""
    first = text[:1].encode()[:1]
    for match, understand, firsts in FAMILIES:
        if first.translate(firsts) == b"\1":
            found = match(text)
            return None if found is None else understand(found, text)
    return None
