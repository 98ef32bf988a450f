"""The way to a server: which proxy counts, which address can be none, and sentences that tell where to look."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.sinks.base import SettingError
from shipper.sinks.way import Way, proxy_for

HTTPS = "https://intake.example"


@pytest.mark.parametrize(
    ("base", "environ", "proxy"),
    [
        ("https://a.example", {}, None),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example", {"HTTPS_PROXY": "p:1"}, "http://p:1"),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:2"}, "http://q:2"),
        ("https://a.example", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://a.example", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("http://a.example", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b.example, A.example"}, None),
        ("https://x.a.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".a.example"}, None),
        ("https://x.a.example", {"HTTPS_PROXY": "http://p:1", "no_proxy": "*.a.example"}, None),
        ("https://xa.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example"}, "http://p:1"),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ","}, "http://p:1"),
        ("https://a.example:8443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example:8443"}, None),
        ("https://a.example", {"HTTPS_PROXY": " "}, None),
    ],
)
def test_proxies_come_from_the_environment(base: str, environ: dict[str, str], proxy: str | None) -> None:
    found = proxy_for(base, environ)
    assert (found.url if found else None) == proxy


@pytest.mark.parametrize(
    ("base", "environ", "variable"),
    [
        (HTTPS, {"https_proxy": "p:1", "HTTPS_PROXY": "q:2"}, "https_proxy"),
        (HTTPS, {"https_proxy": " ", "HTTPS_PROXY": "p:1", "ALL_PROXY": "q:2"}, "HTTPS_PROXY"),
        (HTTPS, {"all_proxy": "p:1", "HTTP_PROXY": "q:2"}, "all_proxy"),
        (HTTPS, {"ALL_PROXY": "p:1"}, "ALL_PROXY"),
        ("http://intake.example", {"HTTP_PROXY": "p:1", "HTTPS_PROXY": "q:2"}, "HTTP_PROXY"),
    ],
)
def test_a_proxy_knows_the_very_variable_that_it_comes_from(base: str, environ: dict[str, str], variable: str) -> None:
    found = proxy_for(base, environ)
    assert found is not None
    assert (found.variable, str(found)) == (variable, f"the proxy p:1 ({variable})")


@pytest.mark.parametrize("value", ["http://me:hunter2@p:1", "HTTPS://me:hunter2@P.example", "me:hunter2@[::1]:3128/"])
def test_a_proxy_is_shown_without_its_login(value: str) -> None:
    found = proxy_for(HTTPS, {"HTTPS_PROXY": value})
    assert found is not None
    assert found.login
    assert "hunter2" in found.url
    assert "hunter2" not in f"{found}{found!r}{found.address}"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("http://:::", "is no address of a proxy"),
        ("http://127.0.0.1:99999", "is no address of a proxy"),
        ("http://127.0.0.1:0", "is no address of a proxy"),
        ("http://p:", "is no address of a proxy"),
        ("http://", "is no address of a proxy"),
        ("ht tp://foo bar", "is no address of a proxy"),
        ("http://[::1", "is no address of a proxy"),
        ("http://me:hun/ter2@p:1", "is no address of a proxy"),
        ("http://me:12/hunter2@p:1", "is no address of a proxy"),
        ("http://caf\u00e9:1", "is no address of a proxy"),
        ("me:hunter2", "is no address of a proxy"),
        ("socks5://me:hunter2@p:1080", "names a proxy of the kind socks5, allowed are http and https"),
        ('"http://me:hunter2@p:1"', "has quotes around it"),
        ("'p:1'", "has quotes around it"),
    ],
)
def test_what_cannot_be_a_proxy_is_a_setting_error_that_does_not_show_it(value: str, why: str) -> None:
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        with pytest.raises(SettingError) as caught:
            Way(HTTPS, {variable: value}, "Stub")
        assert caught.value.variable == variable
        assert caught.value.message.startswith(f"{variable} {why}")
        assert caught.value.message.endswith(": nothing is sent to Stub.")
        assert "hunter2" not in caught.value.message
        assert Way(HTTPS, {variable: value, "NO_PROXY": "example"}).proxy is None


@given(st.text(st.characters(codec=None)))
def test_no_proxy_is_too_odd(value: str) -> None:
    with contextlib.suppress(SettingError):
        proxy_for(HTTPS, {"HTTPS_PROXY": value})


PROXY = {"HTTPS_PROXY": "http://p:1"}
LOGIN = {"https_proxy": "http://me:hunter2@p:1"}


def test_a_proxys_refusal_has_its_remedy_with_its_variable() -> None:
    way = Way(HTTPS, PROXY)
    assert way.not_tunnelled(407) == (
        "The proxy p:1 (HTTPS_PROXY) wants a login (status 407): put USER:PASSWORD@ before its host in HTTPS_PROXY."
    )
    assert Way(HTTPS, LOGIN).not_tunnelled(407) == (
        "The proxy p:1 (https_proxy) does not take the user and password (status 407): mend them in https_proxy."
    )
    assert way.not_tunnelled(403) == (
        "The proxy p:1 (HTTPS_PROXY) does not allow intake.example (status 403): allow it there, or name it in "
        "NO_PROXY where it can be reached without HTTPS_PROXY."
    )
    for status in (502, 503, 504):
        assert way.not_tunnelled(status) == (
            f"The proxy p:1 (HTTPS_PROXY) refused to connect to intake.example (status {status}): is the name known "
            "there, and may the proxy reach it?"
        )
    assert way.not_tunnelled(404) == (
        "The proxy p:1 (HTTPS_PROXY) refused to connect to intake.example (status 404): is HTTPS_PROXY right, and is "
        "that a proxy?"
    )


def test_the_proxy_stands_in_every_sentence_where_one_was_used() -> None:
    way = Way(HTTPS, LOGIN, origin="ORIGIN")
    sentences = [
        way.unresolved(), way.unreachable("x"), way.not_connected(10), way.no_answer(30), way.closed(),
        way.broken_off(), way.no_http("x"), way.no_tls(), way.not_verified("", 20), way.redirected(302),
        way.not_tunnelled(400), way.refused_on_the_way(403), way.refused_on_the_way(502),
    ]  # fmt: skip
    for sentence in sentences:
        assert "he proxy p:1 (https_proxy)" in sentence
        assert "hunter2" not in sentence
        assert sentence[0] != "t"
        assert sentence.endswith((".", "?"))


def test_what_leads_to_a_host_is_asked_about_when_there_is_no_way_to_it() -> None:
    way = Way("https://intake.example:8443", {}, origin="DATADOG_REGION")
    assert way.unresolved() == (
        "The name intake.example could not be resolved: is DATADOG_REGION right, and is there a network, and its name "
        "server?"
    )
    assert way.unreachable("Connection refused") == (
        "intake.example:8443 could not be reached (Connection refused): is DATADOG_REGION right, and does a firewall, "
        "a network policy or a missing HTTPS_PROXY stand in the way?"
    )
    assert way.not_verified("Hostname mismatch", 62).endswith(": is DATADOG_REGION right?")
    assert "missing HTTP_PROXY" in Way("http://intake.example", {}).not_connected(10)
    assert "right" not in Way(HTTPS, {}).unreachable("x") + Way(HTTPS, {}).unresolved()


def test_a_certificates_remedy_is_for_what_is_wrong_with_it(tmp_path: object) -> None:
    authority = "a proxy that opens TLS needs its certificate authority in SSL_CERT_FILE."
    assert Way(HTTPS, {}).not_verified("self-signed certificate", 18) == (
        f"The certificate of intake.example was not verified (self-signed certificate), so nothing was sent to it: "
        f"{authority}"
    )
    for code in (62, 64):
        assert "SSL_CERT_FILE" not in Way(HTTPS, {}).not_verified("Hostname mismatch", code)
    for code in (9, 10):
        assert Way(HTTPS, {}).not_verified("", code).endswith("is this machine's clock right?")
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        assert Way(HTTPS, {name: "/nope"}).not_verified("", 20).endswith(f': {name} names "/nope", which is not there.')
        assert Way(HTTPS, {name: str(tmp_path)}).not_verified("", 20).endswith(authority)
    whose = Way(HTTPS, PROXY).not_verified("", 18, of_proxy=True)
    assert whose.startswith("The certificate of the proxy p:1 (HTTPS_PROXY) was not verified")
