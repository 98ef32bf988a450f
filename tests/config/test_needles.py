"""Whose values are looked for in lines, and which are too short or too common for that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shipper.config.needles import needles

KEY = "abcdefghij0123456789"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nshort9\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"OPENAI_API_KEY": KEY}, {KEY}),
        ({"openai_api_key": f" {KEY} "}, {KEY}),
        ({"MY_SECRET": KEY, "A_TOKEN": "t" + KEY, "DB_PASSWORD": "p" + KEY}, {KEY, "t" + KEY, "p" + KEY}),
        ({"LIVEKIT_URL": KEY, "KEYS": KEY, "PATH": f"/{KEY}"}, set()),
        ({"A_KEY": "true", "B_KEY": "production", "C_KEY": "abcdefghij01234"}, set()),
        ({"A_KEY": "1234567890123456", "B_KEY": "abcdefghijklmnopq"}, set()),
        ({"A_DSN": f"https://{KEY}@sentry.io/1"}, {f"https://{KEY}@sentry.io/1", KEY}),
        ({"DATABASE_URL": "postgres://bob:pa55word%2F@db/x"}, {"pa55word%2F", "pa55word/"}),
        ({"REDIS_URL": "redis://:password@db", "HTTP_PROXY": "http://proxy:3128"}, set()),
        ({"DATADOG_TOKEN": "pub12345"}, {"pub12345"}),
        ({"DATADOG_TOKEN": "changeme"}, set()),
        ({"AWS_ACCESS_KEY_ID": "AKIAABCDEFGHIJKLMNOP", "AWS_SESSION_TOKEN": KEY}, {"AKIAABCDEFGHIJKLMNOP", KEY}),
        ({"TLS_KEY": PEM}, {PEM.strip(), "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"}),
    ],
)
def test_values_of_secrets_are_needles_and_short_or_common_ones_are_not(
    environ: dict[str, str], found: set[str]
) -> None:
    assert set(needles(environ)) == found


def test_files_that_variables_name_are_read_and_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "sink").write_text("pub12345\n")
    environ = {
        "MY_KEY_FILE": str(tmp_path / "key"),
        "DATADOG_TOKEN_FILE": str(tmp_path / "sink"),
        "A_KEY_FILE": str(tmp_path / "missing"),
        "B_KEY_FILE": str(tmp_path),
        "C_KEY_FILE": "relative",
        "D_FILE": str(tmp_path / "key"),
    }
    assert set(needles(environ)) == {KEY, "pub12345"}
    (tmp_path / "sink").write_text("pub67890\n")
    assert "pub67890" in needles(environ)


def test_of_a_service_account_the_secret_strings_are_looked_for_too() -> None:
    account = {"type": "service_account", "private_key": PEM, "nested": {"token": KEY}, "client_email": KEY + "@x.y"}
    text = json.dumps(account)
    found = set(needles({"GCP_KEY": text}))
    assert found == {text, PEM, "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", KEY}
    assert set(needles({"GCP_KEY": text[:-1]})) == {text[:-1]}
    assert set(needles({"DEEP_KEY": '{"a":' * 5000 + "0123456789"})) == {'{"a":' * 5000 + "0123456789"}


def test_variables_may_be_added_and_all_but_the_sinks_own_turned_off() -> None:
    environ = {
        "PHONE": "+4915112345678",
        "NAME": "production",
        "PHRASE": "correct horse battery staple",
        "PIN": "1234567",
    }
    further = ["PHONE", "NAME", "PHRASE", "PIN", "MISSING"]
    assert set(needles(environ, further)) == {"+4915112345678", "correct horse battery staple"}
    assert set(needles({"SENTRY_DSN": f"https://{KEY}@h/1", "MY_KEY": "k" + KEY}, off=True)) == {
        KEY,
        f"https://{KEY}@h/1",
    }
