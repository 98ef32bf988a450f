"""The environment as settings, and a sentence for every mistake in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shipper.config import Settings, load
from shipper.config.problems import clean
from shipper.config.settings import LEVELS
from shipper.config.variables import ACTING, LATER, PREFIX
from shipper.lines.levels import LEVELS as SCALE
from shipper.lines.levels import level_of

ROOT = Path(__file__).parents[2]


def messages(settings: Settings) -> list[str]:
    return [problem.message for problem in settings.problems]


def the_problem(environ: dict[str, str]) -> str:
    """The sentence of the only problem."""
    settings = load(environ)
    assert len(settings.problems) == 1, messages(settings)
    return settings.problems[0].message


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = load({})
    assert settings.service == "cloud.livekit.io"
    assert settings.tags == ()
    assert settings.sinks == ()
    assert settings.journal_max_bytes is None
    assert settings.max_line_bytes == 256 * 1024
    assert settings.flush_interval == 1.0
    assert settings.drain_timeout == 8.0
    assert settings.orphan_timeout == 3600.0
    assert settings.cpu is None
    assert settings.problems == ()


def test_empty_variables_count_as_not_set() -> None:
    settings = load({**dict.fromkeys((*ACTING, *LATER), " "), "SHIPPER_UNKNOWN": ""})
    assert messages(settings) == []
    assert settings.service == "cloud.livekit.io"


def test_every_setting_is_taken_from_its_variable() -> None:
    settings = load(
        {
            "DATADOG_TOKEN": "pub123",
            "SHIPPER_SERVICE": "voice",
            "SHIPPER_TAGS": "env:prod, team:a:b,",
            "SHIPPER_SINKS": "Datadog",
            "SHIPPER_DIR": "/logs",
            "SHIPPER_JOURNAL_MAX": "64MiB",
            "SHIPPER_MAX_LINE": "1KiB",
            "SHIPPER_FLUSH_INTERVAL": "250ms",
            "SHIPPER_DRAIN_TIMEOUT": "20",
            "SHIPPER_ORPHAN_TIMEOUT": "90m",
            "SHIPPER_FAILED_STATUS": "70",
            "SHIPPER_CPU": "12.5%",
            "SHIPPER_WHEN_FULL": "Block",
        }
    )
    assert messages(settings) == []
    assert settings.service == "voice"
    assert settings.tags == (("env", "prod"), ("team", "a:b"))
    assert settings.sinks == ("datadog",)
    assert settings.directories == ("/logs",)
    assert settings.journal_max_bytes == 64 * 2**20
    assert settings.max_line_bytes == 1024
    assert settings.flush_interval == 0.25
    assert settings.drain_timeout == 20.0
    assert settings.orphan_timeout == 5400.0
    assert settings.failed_status == 70
    assert settings.cpu == 0.125
    assert settings.when_full == "block"


def test_what_to_do_when_full_is_one_of_two_and_a_wrong_one_is_named() -> None:
    assert load({}).when_full == load({"SHIPPER_WHEN_FULL": "drop-oldest"}).when_full == "drop-oldest"
    settings = load({"SHIPPER_WHEN_FULL": "wait"})
    assert settings.when_full == "drop-oldest"
    assert messages(settings) == [
        'SHIPPER_WHEN_FULL is "wait", allowed is drop-oldest or block: the default, drop-oldest, is used'
    ]


@pytest.mark.parametrize(
    ("name", "attribute", "low", "high", "outside"),
    [
        ("SHIPPER_FLUSH_INTERVAL", "flush_interval", "0", "60s", "60.1s"),
        ("SHIPPER_DRAIN_TIMEOUT", "drain_timeout", "0", "3600", "3601"),
        ("SHIPPER_ORPHAN_TIMEOUT", "orphan_timeout", "0", "24h", "25h"),
        ("SHIPPER_MAX_LINE", "max_line_bytes", "1024", "1MiB", "1023"),
        ("SHIPPER_JOURNAL_MAX", "journal_max_bytes", "1MiB", "1024GiB", "1MB"),
        ("SHIPPER_CPU", "cpu", "1%", "100%", "101%"),
        ("SHIPPER_CPU", "cpu", "1.0 %", "99.9%", "0.9%"),
    ],
)
def test_a_quantity_is_taken_within_its_bounds_and_else_its_default_is(
    name: str, attribute: str, low: str, high: str, outside: str
) -> None:
    default = getattr(load({}), attribute)
    for text in (low, high):
        settings = load({name: text})
        assert messages(settings) == []
        assert getattr(settings, attribute) != default
    for text in (outside, "-1", "many"):
        settings = load({name: text})
        assert getattr(settings, attribute) == default
        assert [problem.variable for problem in settings.problems] == [name]
        for part in (name, f'"{text}"', "allowed", f"the default, {ACTING[name].default}, is used"):
            assert part in settings.problems[0].message


@pytest.mark.parametrize("text", ["1", "255", "007"])
def test_a_status_is_taken(text: str) -> None:
    settings = load({"SHIPPER_FAILED_STATUS": text})
    assert (settings.failed_status, messages(settings)) == (int(text), [])


@pytest.mark.parametrize("text", ["0", "256", "-1", "1.5", "one", "0x10", "2550", "\u0661"])
def test_what_is_no_status_leaves_the_agent_its_own(text: str) -> None:
    environ = {"SHIPPER_FAILED_STATUS": text}
    assert load(environ).failed_status is None
    assert the_problem(environ) == (
        f'SHIPPER_FAILED_STATUS is "{text}", allowed is 1 to 255: the agent\'s own status is kept'
    )


def test_the_sentences_read_as_sentences() -> None:
    assert the_problem({"SHIPPER_FLUSH_INTERVAL": "soon"}) == (
        'SHIPPER_FLUSH_INTERVAL is "soon", allowed is a time such as 500ms, 8s, 1m or 1h, from 0s to 60s: '
        "the default, 1s, is used"
    )
    assert the_problem({"SHIPPER_MAX_LINE": "2MiB"}) == (
        'SHIPPER_MAX_LINE is "2MiB", allowed is 1KiB to 1MiB: the default, 256KiB, is used'
    )
    assert the_problem({"SHIPPER_CPU": "0.5"}) == (
        'SHIPPER_CPU is "0.5", allowed is a percentage such as 10%, from 1% to 100%: the default, 10%, is used'
    )
    assert the_problem({"SHIPPER_CPU": "200%"}) == (
        'SHIPPER_CPU is "200%", allowed is 1% to 100%: the default, 10%, is used'
    )


def test_tags_that_are_none_are_left_out_and_the_others_kept() -> None:
    environ = {"SHIPPER_TAGS": "env:prod,oops,:x,y:,team:a"}
    assert load(environ).tags == (("env", "prod"), ("team", "a"))
    assert the_problem(environ) == (
        'SHIPPER_TAGS holds "oops,:x,y:", allowed is key:value,key:value: this part is left out'
    )


def test_none_forwards_nothing_and_is_no_mistake() -> None:
    settings = load({"DATADOG_TOKEN": "pub123", "SHIPPER_SINKS": "none"})
    assert settings.sinks == ()
    assert messages(settings) == []


def test_none_beside_others_still_forwards_nothing_and_is_said() -> None:
    environ = {"DATADOG_TOKEN": "pub123", "SHIPPER_SINKS": "none,datadog"}
    assert load(environ).sinks == ()
    assert "none" in the_problem(environ)


@pytest.mark.parametrize("name", ["datadgo", "loki", "new relic"])
def test_a_sink_that_is_unknown_is_left_out_and_said(name: str) -> None:
    environ = {"DATADOG_TOKEN": "pub123", "SHIPPER_SINKS": name}
    assert load(environ).sinks == ()
    assert name in the_problem(environ)
    environ["SHIPPER_SINKS"] = f"{name},datadog,{name}"
    assert load(environ).sinks == ("datadog",)
    assert "left out" in the_problem(environ)


def test_a_sink_that_is_misspelt_is_said_with_the_nearest_name() -> None:
    assert the_problem({"DATADOG_TOKEN": "pub123", "SHIPPER_SINKS": "datadgo"}) == (
        'SHIPPER_SINKS names "datadgo", allowed is a comma list of datadog, cloudwatch, sentry, newrelic, or none: it '
        "is left out: did you mean datadog?"
    )
    assert the_problem({"SHIPPER_SINKS": "loki"}).endswith("it is left out")


def test_a_sink_that_is_named_without_its_secret_is_said() -> None:
    assert the_problem({"SHIPPER_SINKS": "datadog"}) == (
        "SHIPPER_SINKS names datadog, which needs DATADOG_TOKEN: nothing is forwarded to Datadog"
    )

    assert the_problem({"SHIPPER_SINKS": "cloudwatch", "AWS_ACCESS_KEY_ID": "x"}) == (
        "SHIPPER_SINKS names cloudwatch, which needs AWS_SECRET_ACCESS_KEY: nothing is forwarded to CloudWatch"
    )


def test_what_agents_carry_for_other_things_of_aws_is_no_mistake() -> None:
    settings = load({"AWS_PROFILE": "x", "AWS_ACCESS_KEY_ID": "x", "AWS_REGION": "x", "AWS_ENDPOINT_URL_S3": "x"})
    assert settings.sinks == ()
    assert messages(settings) == []


def test_sinks_are_narrowed_to_the_named_ones() -> None:
    environ = {
        "DATADOG_TOKEN": "x",
        "SENTRY_DSN": "x",
        "NEW_RELIC_LICENSE_KEY": "x",
        "SHIPPER_SINKS": "NewRelic, sentry",
    }
    assert load(environ).sinks == ("sentry", "newrelic")
    assert messages(load(environ)) == []


def test_the_journal_has_its_places_in_the_designs_order() -> None:
    own = f"shipper-{os.geteuid()}"
    assert load({}).directories == ("/var/lib/shipper", f"/tmp/{own}", f"/dev/shm/{own}")
    assert load({"XDG_STATE_HOME": "/home/a/.local/state", "TMPDIR": "/scratch/"}).directories == (
        "/var/lib/shipper",
        "/home/a/.local/state/shipper",
        f"/scratch/{own}",
        f"/dev/shm/{own}",
    )
    assert load({"XDG_STATE_HOME": "state", "TMPDIR": "tmp"}).directories == load({}).directories


def test_a_relative_journal_directory_is_refused() -> None:
    environ = {"SHIPPER_DIR": "logs"}
    assert load(environ).directories == load({}).directories
    assert '"logs"' in the_problem(environ)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"SHIPPER_LEVEL": "loud"}, 'SHIPPER_LEVEL is "loud", allowed is one of trace, debug, info, notice, warning'),
        (
            {"SHIPPER_PII": "remove"},
            'SHIPPER_PII is "remove", allowed is keep, drop or hash: the default, keep, is used',
        ),
        ({"SHIPPER_MULTILINE": "1"}, 'SHIPPER_MULTILINE is "1", allowed is on or off: the default, on, is used'),
        (
            {"SHIPPER_EXCLUDE": "a\nb"},
            "SHIPPER_EXCLUDE holds 2 lines, allowed is one regular expression, in one line: ",
        ),
        (
            {"SHIPPER_REDACT": "a" * 5000},
            "SHIPPER_REDACT holds an expression of more than 4096 characters: it does not",
        ),
        (
            {"SHIPPER_REDACT": "a\n" * 101},
            "SHIPPER_REDACT holds 101 lines, allowed is 100 regular expressions, one a line",
        ),
        (
            {"SHIPPER_MASK": "off,PHONE", "PHONE": "+4915112345678"},
            "SHIPPER_MASK names off beside others, allowed is off",
        ),
        ({"SHIPPER_MASK": "PHONE"}, "SHIPPER_MASK names PHONE, which is not set: it is not masked"),
        (
            {"SHIPPER_MASK": "A", "A": "production"},
            "SHIPPER_MASK names A, whose value is too short or too common to be",
        ),
        ({"SHIPPER_MASK": "sk-proj-1"}, "SHIPPER_MASK names something that does not look like a variable's name (not"),
    ],
)
def test_a_wrong_setting_of_what_is_forwarded_is_said_with_what_is_allowed(
    environ: dict[str, str], sentence: str
) -> None:
    assert the_problem(environ).startswith(sentence)


def test_settings_of_what_is_forwarded_are_taken_from_their_variables() -> None:
    settings = load(
        {
            "SHIPPER_LEVEL": " Warning ",
            "SHIPPER_EXCLUDE": "GET /health\n",
            "SHIPPER_REDACT": "a b\r\n\n(?i)c\\d+\n",
            "SHIPPER_MASK": "PHONE, CARD",
            "PHONE": "+4915112345678",
            "CARD": "4111111111111111",
            "SHIPPER_PII": "Hash",
            "SHIPPER_MULTILINE": "OFF",
        }
    )
    assert messages(settings) == []
    assert (settings.level, settings.exclude, settings.redact) == ("warning", "GET /health", ("a b", "(?i)c\\d+"))
    assert (settings.mask, settings.mask_off, settings.pii, settings.multiline) == (
        ("PHONE", "CARD"),
        False,
        "hash",
        False,
    )
    assert load({"SHIPPER_MASK": "Off"}).mask_off
    default = load({})
    assert (default.level, default.exclude, default.redact, default.mask, default.mask_off) == ("", "", (), (), False)
    assert (default.pii, default.multiline) == ("keep", True)


def test_every_level_that_may_be_set_is_one_of_the_scale() -> None:
    assert all(level_of(name) is not None for name in LEVELS)
    assert set(SCALE) <= set(LEVELS)


@pytest.mark.parametrize("name", ["SHIPPER_LEVEL", "SHIPPER_WHEN_FULL", "SHIPPER_SINKS", "SHIPPER_TAGS", "SHIPPER_DIR"])
@pytest.mark.parametrize("secret", ["SK-proj-0123456789abcdef", "sk-0123456789" + "abc" * 50])
def test_a_secret_in_the_wrong_variable_is_not_shown(name: str, secret: str) -> None:
    message = the_problem({name: secret, "OPENAI_API_KEY": secret})
    assert "[MASKED]" in message
    assert secret[3:12].lower() not in message.lower()


@pytest.mark.parametrize("name", LATER)
def test_a_variable_of_a_later_version_is_said_once(name: str) -> None:
    assert the_problem({name: "some value"}) == (
        f"{name} is set but does not act in this version: lines are forwarded as if it were not set"
    )


def test_an_unknown_variable_is_said_with_the_nearest_known_name_and_without_its_value() -> None:
    assert the_problem({"SHIPPER_DRAIN_TIMOUT": "8s"}) == (
        "SHIPPER_DRAIN_TIMOUT is no variable of shipper and is ignored: did you mean SHIPPER_DRAIN_TIMEOUT?"
    )
    assert the_problem({"SHIPPER_DATADOG_TOKEN": "pub123"}) == (
        "SHIPPER_DATADOG_TOKEN is no variable of shipper and is ignored: did you mean DATADOG_TOKEN?"
    )
    assert the_problem({"SHIPPER_QQQQQQQQQQQQQQQQQQQQ": "1"}).endswith("and is ignored")


def test_every_mistake_is_reported_at_once() -> None:
    settings = load({"SHIPPER_MAX_LINE": "x", "SHIPPER_DIR": "x", "SHIPPER_LEVEL": "x", "SHIPPER_X": "x"})
    assert [problem.variable for problem in settings.problems] == [
        "SHIPPER_DIR",
        "SHIPPER_MAX_LINE",
        "SHIPPER_LEVEL",
        "SHIPPER_X",
    ]


def test_the_tables_of_names_do_not_overlap() -> None:
    assert not set(ACTING) & set(LATER)
    assert all(name.startswith(PREFIX) for name in LATER)


def test_a_shown_value_is_one_printable_line() -> None:
    assert clean(" a\x1b[31mb\nc\u202e\udcff ") == "a[31mbc"
    assert "\x1b" not in the_problem({"SHIPPER_MAX_LINE": "\x1b]0;x\x07"})
    assert len(the_problem({"SHIPPER_MAX_LINE": "9" * 100_000})) < 300


NAMES = st.sampled_from([*ACTING, *LATER, "XDG_STATE_HOME", "TMPDIR", "SHIPPER_OTHER"]) | st.text().map(PREFIX.__add__)
# Any character, lone surrogates included: that is how bytes which are no UTF-8 arrive.
VALUES = st.text(st.characters(codec=None)) | st.sampled_from(["none,datadog", "1s", "1MiB", "a:b", "/x", "/dev/tty"])
ENVIRONMENTS = st.dictionaries(NAMES, VALUES, max_size=8)


@given(ENVIRONMENTS)
def test_no_environment_raises_and_all_settings_are_within_their_bounds(environ: dict[str, str]) -> None:
    settings = load(environ)
    assert settings.service
    settings.service.encode()
    assert all(key and value and (key + value).encode() for key, value in settings.tags)
    assert set(settings.sinks) <= {"datadog", "cloudwatch", "sentry", "newrelic"}
    assert all(path.startswith("/") for path in settings.directories)
    assert settings.journal_max_bytes is None or settings.journal_max_bytes >= 2**20
    assert 1024 <= settings.max_line_bytes <= 2**20
    assert 0 <= settings.flush_interval <= 60
    assert 0 <= settings.drain_timeout <= 3600
    assert 0 <= settings.orphan_timeout <= 86400
    assert settings.cpu is None or 0.01 <= settings.cpu <= 1
    for problem in settings.problems:
        assert problem.variable in problem.message
        assert problem.message.isprintable()
        assert len(problem.message) < 1000


@given(ENVIRONMENTS, st.text("0123456789abcdef", min_size=16), st.sampled_from(["DATADOG_TOKEN", "DATADOG_TOKEN_FILE"]))
def test_no_problem_shows_a_secret_not_even_one_put_into_the_wrong_variable(
    environ: dict[str, str], token: str, name: str
) -> None:
    assume(not any(token in text for pair in environ.items() for text in pair))  # shown there is what is no secret
    environ |= {name: f"pub{token}", "SHIPPER_API_KEY": token, "SENTRY_DSN": f"https://{token}@sentry.test/1"}
    for problem in load(environ).problems:
        assert token not in problem.message


@pytest.mark.parametrize("content", ["secret-5d1e8c 0b", "secret-5d1e8c\nsecond line", "\x00secret-5d1e8c"])
def test_no_problem_shows_a_secrets_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    for environ in ({}, {"DATADOG_TOKEN": "other"}):
        for problem in load({**environ, "DATADOG_TOKEN_FILE": f"{tmp_path}/token"}).problems:
            assert "5d1e8c" not in problem.message


# What PID 1 must not carry: dataclasses alone are 2.0 MB, typing 1.1 MB.
FORBIDDEN = {
    "asyncio", "contextlib", "dataclasses", "difflib", "inspect", "json", "logging", "pathlib", "re", "shlex", "signal",
    "socket", "subprocess", "threading", "tomllib", "typing",
}  # fmt: skip


def test_loading_without_a_mistake_imports_nothing_heavy() -> None:
    program = (
        f"import sys; sys.path.append({str(ROOT)!r}); from shipper.config import load; import shipper.messages; "
        "from shipper.config.identity import find_host, find_source; "
        "environ = {'DATADOG_TOKEN': 'pub123', 'SHIPPER_FLUSH_INTERVAL': '2s', 'SHIPPER_TAGS': 'a:b'}; "
        "assert load(environ).sinks == ('datadog',); "
        "assert find_host(environ); "
        "assert find_source(environ, ['uv', 'run', 'voice.py', 'start'], '/nowhere', roots=()) == 'voice'; "
        "print(*sys.modules)"
    )
    # -S: what a site directory imports is not ours.
    output = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert FORBIDDEN & set(output.stdout.split()) == set()
