"""No secret leaves: in no body, no message, no error and no figure, whatever the agent prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.bodies import plain
from tests.e2e.wrapped import ALL, ROOT, Wrapper, all_events, printing
from tests.helpers import variables, wait_until
from tests.leaks import forms, texts_in

if TYPE_CHECKING:
    from pathlib import Path

    from shipper.sandbox.server import Sandbox

PRINTING = """
import sys
for line in open(sys.argv[1], "rb"):
    sys.stdout.buffer.write(line)
"""

OPENAI = "sk-proj-0123456789/abcDEF+xyz="
PASSWORD = 'p@ss"wor\\d-1234567\u00e9'
PHONE = "+4915112345678"


def test_no_secret_leaves_in_any_form_at_any_provider(tmp_path: Path, sandbox: Sandbox) -> None:
    own = variables(sandbox.url)
    environ = {
        "OPENAI_API_KEY": OPENAI,
        "DB_PASSWORD": PASSWORD,
        "PHONE": PHONE,
        "SHIPPER_MASK": "PHONE",
        "SHIPPER_HOST": f"host-{OPENAI}",
        "SHIPPER_TAGS": f"key:{OPENAI},env:test",
        "SHIPPER_FLUSH_INTERVAL": PASSWORD,
        "SHIPPER_PII": "hash",
        "SHIPPER_REDACT": "room-[0-9]+",
        "SHIPPER_LEVEL": "info",
        "SHIPPER_EXCLUDE": "^GET /health",
    }
    tokens = {name: value for name, value in own.items() if name.endswith(("TOKEN", "KEY", "KEY_ID", "DSN"))}
    assert len(tokens) == 5
    secrets = [*tokens.values(), OPENAI, PASSWORD, PHONE]
    lines: list[str] = []
    for value in secrets:
        for form in forms(value):
            lines += [
                f"plain {form} text",
                json.dumps({"message": f"json {form} text", "level": "INFO", "field": form}),
            ]
        lines += [
            json.dumps({"message": "bare", "level": "ERROR", "list": [{value: value}]}, ensure_ascii=False),
            f"{value[:7]}\x1b[31m{value[7:]}",
        ]
    lines += [
        json.dumps({"message": "headers", "headers": {"Authorization": "Bearer s3cr3t.s3cr3t"}}),
        "> Authorization: Basic czNjcjN0OnMzY3IzdA==",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.s3cr3ts3cr3t",
        json.dumps({"message": "transcript in room-12", "level": "INFO", "lk.pii.user_transcript": "s3cr3t words"}),
        json.dumps({"message": "below", "level": "DEBUG"}),
        "GET /health 200",
        "the last line",
    ]
    (tmp_path / "lines").write_text("".join(f"{line}\n" for line in lines))
    command = printing(PRINTING, str(tmp_path / "lines"))
    with Wrapper(tmp_path / "journal", command, sandbox.url, environ, ALL) as wrapper:
        assert wrapper.wait() == 0
        assert wrapper.stdout == (tmp_path / "lines").read_bytes()
        for provider in ALL:
            messages = [event["message"] for event in all_events(sandbox, provider)]
            assert messages[-1] == "the last line"
            assert len(messages) == len(lines) - 2, provider
            assert "transcript in [REDACTED]" in messages
        needles = [needle for value in secrets for needle in {*forms(value), value}]
        bodies = [texts_in(plain(kept.request.body)) for kept in sandbox.store._kept]
        command = [sys.executable, "-m", "shipper", "status"]
        here = {**environ, "SHIPPER_DIR": str(wrapper.directory), "PYTHONPATH": str(ROOT)}
        text = subprocess.run(command, env=here, capture_output=True, check=True).stdout.decode()
        status = subprocess.run([*command, "--json"], env=here, capture_output=True, check=True).stdout
        sinks = {sink["name"]: sink for sink in json.loads(status)["sinks"]}
        shown = {"stderr": wrapper.stderr, "cursors": str([wrapper.cursor(name) for name in ALL])}
        shown |= {"status": f"{text}{status.decode()}", "bodies": "\n".join(bodies)}
        for where, all_of_it in shown.items():
            assert [needle for needle in (*needles, "s3cr3t", "czNjcjN0") if needle in all_of_it] == [], where
        assert "key:[MASKED]" in shown["bodies"]
        assert "SHIPPER_FLUSH_INTERVAL is " in wrapper.stderr
        assert re.search(
            r"^changed on the way, places in lines\n  Datadog +masked \d+, redacted 1, pii 1$", text, re.MULTILINE
        )
        for provider in ALL:
            assert sinks[provider]["masked"] > len(secrets) * 10
            assert (sinks[provider]["redacted"], sinks[provider]["pii"]) == (1, 1)


PRINTING_IT_LATER = """
import signal, sys
def end(*_):
    print("now it is", open(sys.argv[1]).read(), flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("it is", open(sys.argv[1]).read(), flush=True)
while True:
    signal.pause()
"""


def test_a_secret_that_was_replaced_in_its_file_is_masked_from_its_first_use_on(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    """A refused one is looked at again when the drain begins, at the latest."""
    file, old, new = tmp_path / "token", "pub" + "0123456789abcdef" * 2, "pub" + "fedcba9876543210" * 2
    file.write_text(old)
    sandbox.fault("datadog", status=403)
    environ = {"DATADOG_TOKEN": "", "DATADOG_TOKEN_FILE": str(file)}
    with Wrapper(tmp_path / "journal", printing(PRINTING_IT_LATER, str(file)), sandbox.url, environ) as wrapper:
        wait_until(lambda: wrapper.said, 30, "a word about the refused secret")
        file.write_text(new)
        sandbox.fault("datadog")
        wrapper.terminate()
        assert wrapper.wait() == 0
        assert [event["message"] for event in all_events(sandbox)] == ["it is [MASKED]", "now it is [MASKED]"]
        assert not any(secret in wrapper.stderr for secret in (old, new))


def test_a_pattern_that_is_none_is_said_once_and_the_agent_runs(tmp_path: Path, sandbox: Sandbox) -> None:
    environ = {"SHIPPER_EXCLUDE": "(", "SHIPPER_REDACT": "one\n(?<=a)b"}
    with Wrapper(tmp_path / "journal", printing("print('one (two')"), sandbox.url, environ) as wrapper:
        assert wrapper.wait() == 0
        assert wrapper.said == [
            "SHIPPER_EXCLUDE is no regular expression of RE2's (missing ): (): nothing is excluded",
            (
                "expression 2 of SHIPPER_REDACT is no regular expression of RE2's (invalid perl operator: (?<=): "
                "what it was to find stays in lines"
            ),
        ]
    assert [event["message"] for event in all_events(sandbox)] == ["[REDACTED] (two"]


@pytest.mark.parametrize("mask", ["off", ""])
def test_turned_off_only_the_sinks_own_secrets_are_masked(mask: str, tmp_path: Path, sandbox: Sandbox) -> None:
    token = variables(sandbox.url, ["datadog"])["DATADOG_TOKEN"]
    code = f"print({token!r}, {OPENAI!r}, 'Authorization: Bearer abc', flush=True)"
    environ = {"SHIPPER_MASK": mask, "OPENAI_API_KEY": OPENAI}
    with Wrapper(tmp_path / "journal", printing(code), sandbox.url, environ) as wrapper:
        assert wrapper.wait() == 0
    expected = (
        f"[MASKED] {OPENAI} Authorization: Bearer abc" if mask else "[MASKED] [MASKED] Authorization: Bearer [MASKED]"
    )
    assert [event["message"] for event in all_events(sandbox)] == [expected]
