"""What must not leave is gone from lines, in whatever form it was printed, and nothing else is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
import re2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shipper.lines.masking import HIDDEN, Masker

SECRET = 'p@ss/w"or\\d \u00e9+1 x{}:;%7z9Qm'
PLAIN = "pub0123456789ABCdef"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nQ2xhc3Mx/+ab9==\n-----END PRIVATE KEY-----"

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "URL": quote,
    "URL without slashes": lambda text: quote(text, safe=""),
    "URL in lower case": lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%C3%A9", "%c3%a9"),
    "form": quote_plus,
    "URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON": json.dumps,
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON of JavaScript's and PHP's": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"a": text})),
    "JSON in JSON in JSON": lambda text: json.dumps(json.dumps(json.dumps(text))),
    "JSON in a URL": lambda text: quote(json.dumps(text), safe=""),
    "repr": repr,
    "repr of bytes": lambda text: repr(text.encode()),
    "letters escaped, too": lambda text: "".join(
        f"\\u{ord(char):04x}" if char.isascii() and char.isalnum() else json.dumps(char)[1:-1] for char in text
    ),
}
ENGINES = {"re2": re2, "without re2": None}


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> object:
    return ENGINES[request.param]


@pytest.mark.parametrize("form", FORMS)
def test_a_value_is_masked_in_every_form_and_its_neighbours_stay(form: str, engine: object) -> None:
    masker = Masker([SECRET, PLAIN], engine=engine)
    for value in (SECRET, PLAIN):
        line = f"before {FORMS[form](value)} after".encode()
        found = masker.mask([b"the line before", line, b""])
        assert found[0::2] == [b"the line before", b""]
        assert found[1].startswith(b"before ")
        assert found[1].endswith(b" after")
        assert found[1].count(HIDDEN) == 1
        assert len(found[1]) < 40
    assert masker.masked == 2


@given(st.binary(max_size=7), st.binary(max_size=7), st.sampled_from([SECRET, PLAIN]), st.booleans())
def test_in_base64_it_is_masked_wherever_it_begins(before: bytes, after: bytes, value: str, urlsafe: bool) -> None:
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    encoded = encode(before + value.encode() + after)
    masker = Masker([SECRET, PLAIN])
    for line in (encoded, quote(encoded.decode(), safe="").encode(), json.dumps(encoded.decode()).encode()):
        (found,) = masker.mask([b"auth=" + line])
        left = found.replace(HIDDEN, b"")
        assert HIDDEN in found
        assert len(left) <= len(b"auth=%3D%3D") + 2 + len(encode(before + after)) * 3


@pytest.mark.parametrize("before", ["\n", "\t", "\x01", "\u00e9", "\\", '"', "/", "x"])
def test_a_json_line_stays_one_whatever_stands_before_the_value(before: str) -> None:
    for value in (SECRET, PLAIN, "n" + PLAIN, "/" + PLAIN, '"' + PLAIN):
        masker = Masker([SECRET, PLAIN, "n" + PLAIN, "/" + PLAIN, '"' + PLAIN])
        for text in (value, base64.b64encode(b"ab" + value.encode()).decode()):
            (line,) = masker.mask([json.dumps({"message": f"a{before}{text}"}).encode()])
            assert HIDDEN.decode() in json.loads(line)["message"]


def test_the_lines_of_a_key_are_masked_where_they_stand_alone_and_all_of_it_where_it_is_one_text() -> None:
    masker = Masker([PEM, *PEM.split("\n")[1:3]])
    found = masker.mask([line.encode() for line in PEM.split("\n")])
    assert found == [b"-----BEGIN PRIVATE KEY-----", HIDDEN, HIDDEN, b"-----END PRIVATE KEY-----"]
    for text in (json.dumps({"key": PEM}), repr({"key": PEM}), quote(PEM), json.dumps(PEM.replace("\n", "\r\n"))):
        (line,) = masker.mask([text.encode()])
        assert line.count(HIDDEN) == 1
        assert b"BEGIN" not in line


HEADERS = {
    "> Authorization: Bearer abc\r": "> Authorization: Bearer [MASKED]\r",
    "authorization: abc def ghi": "authorization: [MASKED] ghi",
    "Proxy-Authorization: Basic YWJj==, Host: x": "Proxy-Authorization: Basic [MASKED], Host: x",
    '{"Authorization":"Bearer abc","x":1}': '{"Authorization":"Bearer [MASKED]","x":1}',
    '{"headers": {"authorization" : ["token abc"]}}': '{"headers": {"authorization" : ["token [MASKED]"]}}',
    "{'Authorization': 'Basic YWJj', 'Host': 'x'}": "{'Authorization': 'Basic [MASKED]', 'Host': 'x'}",
    "<CIMultiDictProxy('Authorization': 'Other abc', 'b': 'c')>": (
        "<CIMultiDictProxy('Authorization': '[MASKED]', 'b': 'c')>"
    ),
    "[(b'authorization', b'Bearer x'), (b'c', b'd')]": "[(b'authorization', b'Bearer [MASKED]'), (b'c', b'd')]",
    '{"m":"{\\"Authorization\\":\\"Bearer abc\\",\\"x\\":1}","y":2}': (
        '{"m":"{\\"Authorization\\":\\"Bearer [MASKED]\\",\\"x\\":1}","y":2}'
    ),
    '{"m":"Authorization: Bearer abc\\r\\nHost: x"}': '{"m":"Authorization: Bearer [MASKED]\\r\\nHost: x"}',
    "Authorization=Bearer abc&x=y": "Authorization=Bearer [MASKED]",
    'Authorization: Digest username="M", realm="x", response=abc, foo': "Authorization: Digest [MASKED], foo",
    '{"m":"Authorization: Digest username=\\"M\\", response=\\"abc\\"","l":1}': (
        '{"m":"Authorization: Digest [MASKED]","l":1}'
    ),
    "Authorization: AWS4-HMAC-SHA256 Credential=A/2026/x, SignedHeaders=host;range, Signature=abc end": (
        "Authorization: AWS4-HMAC-SHA256 [MASKED] end"
    ),
    '{"m":"Authorization: Basic YWJj=","level":"INFO"}': '{"m":"Authorization: Basic [MASKED]","level":"INFO"}',
    '{"m":"authorization=YWJj==" , "level":"INFO"}': '{"m":"authorization=[MASKED]" , "level":"INFO"}',
    '{"m":"{\\"a\\":\\"Authorization: Basic YWJj=\\",\\"x\\":1}"}': (
        '{"m":"{\\"a\\":\\"Authorization: Basic [MASKED]\\",\\"x\\":1}"}'
    ),
    'Authorization: Digest username="M", uri="/a:b,c", response="abc" end': "Authorization: Digest [MASKED] end",
    "map[Authorization:[Bearer abc] Host:[y]]": "map[Authorization:[Bearer [MASKED] Host:[y]]",
    "Authorization%3A%20Bearer%20xyz": "Authorization%3A%20Bearer%20[MASKED]",
    "authorization\x1b[0m: \x1b[32mBearer abc": "authorization: Bearer [MASKED]",
    "sent Bearer abcdefghijklmnop1 to it": "sent Bearer [MASKED] to it",
    "token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_def, ok": "token=[MASKED], ok",
    '{"token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc"}': '{"token":"[MASKED]"}',
}
HARMLESS = (
    "authorization: failed for bob",
    "Authorization is required, see https://example.com/authorization",
    '{"Authorization": null, "a": "eyJ", "b": "bearer of bad news and more of them"}',
    "'Authorization': None",
    '{"authorization":{"type":"Bearer","ok":true},"status":1}',
    '{"authorization":403,"authorization":true,"x":[{"authorization":[1,2]}]}',
    "Authorization:",
    "\x1b[32mINFO\x1b[0m registered worker",
)


@pytest.mark.parametrize("printed", HEADERS)
def test_tokens_and_headers_are_masked_however_they_are_printed(printed: str, engine: object) -> None:
    assert Masker(engine=engine).mask([printed.encode()]) == [HEADERS[printed].encode()]
    assert Masker(engine=engine).text(printed) == HEADERS[printed]
    assert Masker(tokens=False, engine=engine).mask([printed.encode()]) == [printed.encode()]


@pytest.mark.parametrize("printed", HARMLESS)
def test_what_only_looks_like_it_stays(printed: str, engine: object) -> None:
    lines = [printed.encode()]
    assert Masker([PLAIN], engine=engine).mask(lines) is lines
    assert Masker([PLAIN], engine=engine).text(printed) is printed


@pytest.mark.parametrize(
    "printed",
    [
        PLAIN[:8] + "\x1b[31m" + PLAIN[8:],
        PLAIN[:8] + "\x1b]8;;http://x\x1b\\" + PLAIN[8:],
        PLAIN[:8] + "\x00" + PLAIN[8:] + "\x08",
        json.dumps(PLAIN[:8] + "\x1b[31m" + PLAIN[8:]),
        PLAIN[:8] + "\x9b31m" + PLAIN[8:],
    ],
)
def test_colours_and_control_characters_do_not_hide_a_value(printed: str, engine: object) -> None:
    masker = Masker([PLAIN], engine=engine)
    first, second, third = masker.mask([b"a", printed.encode(), b"\x1b[1mb"])
    assert (first, third) == (b"a", b"\x1b[1mb")
    assert second.strip(b'"') == HIDDEN


def test_a_value_in_the_open_does_not_cover_for_one_that_is_hidden() -> None:
    other = "zyx9876543210zyxZYX"
    printed = f"{PLAIN} and {other[:5]}\x1b[31m{other[5:]} and {PLAIN[:3]}\\u0030{PLAIN[4:]}"
    assert Masker([PLAIN, other]).mask([printed.encode()]) == [b"[MASKED] and [MASKED] and [MASKED]"]


def test_a_value_across_the_fields_of_a_json_line_is_masked() -> None:
    value = 'abc123","def456":"ghi789'
    (line,) = Masker([value]).mask([b'{"a":"' + value.encode() + b'"}'])
    assert line == b'{"a":"[MASKED]"}'
    (line,) = Masker(["1234567e1234567890"]).mask([b'{"a":1234567e1234567890}'])
    assert line == b'{"a":[MASKED]}'


def test_what_is_learned_later_is_masked_from_then_on() -> None:
    masker = Masker()
    assert masker.mask([PLAIN.encode()]) == [PLAIN.encode()]
    masker.learn([PLAIN])
    assert masker.mask([PLAIN.encode()]) == [HIDDEN]


@pytest.mark.parametrize("length", [5000, 20_000])
def test_a_long_value_is_masked_in_pieces_that_are_one_mask(length: int) -> None:
    value = "".join(chr(33 + (n * n * 7 + n // 94) % 94) for n in range(length))
    masker = Masker([value])
    assert masker.mask([b"a " + value.encode() + b" b"]) == [b"a [MASKED] b"]
    assert masker.mask([json.dumps(value).encode()]) == [b'"[MASKED]"']


values = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=16, max_size=60).filter(
    lambda text: text.strip() == text and any(c.isascii() and c.isdigit() for c in text)
)


keys = st.from_regex(r"[A-Za-z0-9._+/=-]{4,40}[0-9][A-Za-z0-9._+/=-]{11,30}", fullmatch=True)


@given(st.lists(values | keys, min_size=1, max_size=4), st.data())
@example(["0000000000000000"], None)
def test_no_value_is_left_in_any_placement_or_form(secrets: list[str], data: st.DataObject | None) -> None:
    masker = Masker(secrets)
    lines, texts = [], []
    for value in secrets:
        name = data.draw(st.sampled_from(sorted(FORMS))) if data is not None else "JSON"
        before, after = (data.draw(st.text(max_size=9)), data.draw(st.text(max_size=9))) if data else ("", "")
        texts.append(FORMS[name](value))
        lines.append(f"{before}{texts[-1]}{after}".replace("\n", " ").encode(errors="replace"))
    masked = masker.mask(lines)
    assert len(masked) == len(lines)
    joined = b"\n".join(masked)
    for value, text in zip(secrets, texts, strict=True):
        assert value.encode() not in joined
        assert text.strip('"').encode() not in joined


class Thorough(Masker):
    """Looks through all bytes at once."""

    def _has_nothing(self, joined: bytes) -> bool:
        del joined
        return False


@settings(max_examples=40)
@given(st.lists(keys, min_size=1, max_size=3), st.data())
def test_the_quick_look_overlooks_nothing(secrets: list[str], data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(secrets))
    shift = data.draw(st.integers(0, 9))
    encoded = base64.b64encode(b"x" * shift + value.encode() + b"y" * shift)
    texts = [form(value).encode() for form in FORMS.values()]
    texts += [encoded, encoded.translate(bytes.maketrans(b"+/", b"-_")), quote(encoded.decode(), safe="").encode()]
    texts += [form.encode() for form in HEADERS]
    quick, thorough = Masker(secrets), Thorough(secrets)
    for text in texts:
        lines = [b"-" * data.draw(st.integers(0, 9)), b"." * shift + b" " + text + b" after", b"the last line"]
        found = quick.mask(lines)
        assert found == thorough.mask(lines)
        assert HIDDEN in found[1]


def test_records_are_masked_in_texts_and_names_however_deep() -> None:
    deep: list[object] = [PLAIN]
    for _ in range(500):
        deep = [deep]
    records: list[dict[str, object]] = [
        {"message": f"a {PLAIN}", "n": 1, "list": [{PLAIN: [PLAIN, None, 1.5]}], PLAIN: True},
        {"message": "b", "deep": deep},
        {"message": "c"},
    ]
    masker = Masker([PLAIN])
    masker.mask_records(records)
    assert records[0] == {
        "message": "a [MASKED]",
        "n": 1,
        "list": [{"[MASKED]": ["[MASKED]", None, 1.5]}],
        "[MASKED]": True,
    }
    assert PLAIN not in str(records)
    assert records[2] == {"message": "c"}


@given(st.lists(st.binary(max_size=80).map(lambda line: line.replace(b"\n", b""))))
def test_nothing_raises_and_no_line_is_lost_or_moved(lines: list[bytes]) -> None:
    for engine in ENGINES.values():
        masked = Masker([PLAIN], engine=engine).mask([*lines, b"Authorization: abc", *lines])
        assert len(masked) == 2 * len(lines) + 1
        assert masked[len(lines)] == b"Authorization: [MASKED]"
        assert masked[: len(lines)] == masked[len(lines) + 1 :]


def test_many_values_and_hostile_lines_cost_no_more_than_their_length() -> None:
    masker = Masker([f"{n:04}abcDEF{n * 7919:06}xyz" for n in range(300)])
    for text in (b"eyJ", b'"authorization":"', b"\\u0041", b"Bearer ", b"\x1b[", b"\\x1b["):
        assert len(masker.mask([text * (200_000 // len(text))])) == 1
