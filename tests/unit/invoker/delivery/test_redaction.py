"""An answer that echoes a secret, however it spells it, is redacted and result without it."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from contracts.invocation import IntentInvoked
from services.domain.webhook_signature import encode_secret, plain_token
from services.invoker.delivery.http_call import signature_headers
from services.invoker.delivery.redaction import REDACTED, redact_answer
from services.invoker.outbox.notifications import Requester, outcome_record
from services.invoker.settings_replica.endpoint import Endpoint, LiveSignature

SECRET = bytes(range(200, 232))
OLD = b"\xfb\xff" * 16
STANDARD = Endpoint(
    "acme",
    "https://crm.example/",
    "standard-webhooks",
    disabled=False,
    signatures=(LiveSignature("k2", SECRET), LiveSignature("k1", OLD)),
)
HEADERS = signature_headers(STANDARD, "msg-1", b"{}")


def forms(secret: bytes) -> list[str]:
    encoded = base64.b64encode(secret).decode()
    return [
        encode_secret(secret),
        encoded,
        encoded.rstrip("="),
        base64.urlsafe_b64encode(secret).decode(),
        secret.hex(),
        secret.hex().upper(),
        plain_token(secret),
        quote(encoded, safe=""),
        quote(encoded, safe="").replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"),
        encoded.replace("/", "\\/"),
        encoded.replace("+", "\\u002B").replace("/", "\\\\/"),
        encoded.replace("+", "&#43;").replace("/", "&#X2f;"),
    ]


def test_a_secret_has_no_representation() -> None:
    assert "xx" not in repr(LiveSignature("k1", b"x" * 32))
    assert repr(SECRET)[2:-1] not in repr(STANDARD)


@pytest.mark.parametrize("secret", [SECRET, OLD])
@pytest.mark.parametrize("place", range(12))
def test_text_is_redacted(secret: bytes, place: int) -> None:
    form = forms(secret)[place]
    redacted, result = redact_answer(f"you sent {form}!".encode(), STANDARD, HEADERS)
    assert redacted.decode() == f"you sent {REDACTED}!"
    assert result is None


@pytest.mark.parametrize("secret", [SECRET, OLD])
def test_json_is_redacted_however_it_is_escaped(secret: bytes) -> None:
    for form in forms(secret)[:7]:
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in form)
        redacted, result = redact_answer(f'{{"a": ["{escaped}"], "{escaped}": 1}}'.encode(), STANDARD, HEADERS)
        assert result == {"a": [REDACTED], REDACTED: 1}
        assert json.loads(redacted) == result


def test_sent_signatures_are_redacted() -> None:
    redacted, result = redact_answer(json.dumps({"echo": HEADERS}).encode(), STANDARD, HEADERS)
    for signature in HEADERS["webhook-signature"].split():
        assert signature.removeprefix("v1,") not in redacted.decode()
    assert result["echo"]["webhook-id"] == "msg-1"


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_other_json_comes_through_as_it_is(value: object) -> None:
    text = json.dumps(value)
    _, result = redact_answer(text.encode(), STANDARD, HEADERS)
    assert result == json.loads(text.replace("\\u0000", "\\ufffd"))


@pytest.mark.parametrize(
    "answer",
    [
        *(b"NaN", b"[Infinity]", b"1e999", b"\xff\xfe", b"[" * 60_000, b"", b'{"a": 1', b'"\\ud800"'),
        b"[" * 150 + b"]" * 150,
    ],
)
def test_an_answer_that_is_no_json_has_no_result(answer: bytes) -> None:
    assert redact_answer(answer, STANDARD, HEADERS)[1] is None


@pytest.mark.parametrize("answer", [b"[" * 100 + b"]" * 100, b'{"a":' * 99 + b"1" + b"}" * 99, b"9" * 4000])
def test_every_result_is_valid_json(answer: bytes) -> None:
    _, result = redact_answer(answer, STANDARD, HEADERS)
    outcome = IntentInvoked(system="crm", code="ORDER", delivery="d", attempts=1, result=result)
    note = outcome_record(Requester("acme", "ch", "req", "req"), outcome)
    assert from_json(note.value or b"")["data"]["result"] == json.loads(answer)


def spelled(content: bytes) -> dict[str, str]:
    """A content as receivers and what stands before them spell it."""
    text = content.decode()
    return {
        "percent": "".join(f"%{byte:02X}" for byte in content),
        "percent twice": "".join(f"%25{byte:02x}" for byte in content),
        "entities": "".join(f"&#{byte};" for byte in content),
        "hex entities": "".join(f"&#x{byte:02X};" for byte in content),
        "unicode escapes": "".join(f"\\u{byte:04x}" for byte in content),
        "named entities": text.replace("+", "&plus;").replace("/", "&sol;"),
        "spaces": " ".join(text),
        "lines": "\r\n".join(text[at : at + 16] for at in range(0, len(text), 16)),
        "zero width": "\u200b".join(text),
        "hex": content.hex(),
        "capital hex": content.hex().upper(),
        **{
            f"base64 after {before} bytes": base64.b64encode(b"x" * before + content + b"tail").decode()
            for before in range(3)
        },
        **{
            f"base64url after {before} bytes": base64.urlsafe_b64encode(b"x" * before + content + b"tail").decode()
            for before in range(3)
        },
    }


ECHOED = {
    "secret": encode_secret(SECRET).removeprefix("whsec_"),
    "old secret": base64.urlsafe_b64encode(OLD).decode().rstrip("="),
    "token": plain_token(SECRET).removeprefix("whtok_"),
    "signature": HEADERS["webhook-signature"].split()[0].removeprefix("v1,").rstrip("="),
}


@pytest.mark.parametrize("spelling", list(spelled(b"")))
@pytest.mark.parametrize("echoed", list(ECHOED))
def test_an_echo_is_found_in_every_spelling(echoed: str, spelling: str) -> None:
    form = spelled(ECHOED[echoed].encode())[spelling]
    core = form[4:-8] if "base64" in spelling else form
    for answer in (f"you sent: {form} !", json.dumps({"a": f"you sent: {form} !"})):
        redacted, _ = redact_answer(answer.encode(), STANDARD, HEADERS)
        assert REDACTED in redacted.decode()
        assert core[:20] not in redacted.decode()
        assert core[-20:] not in redacted.decode()


def test_a_secret_spread_over_strings_takes_the_result_away() -> None:
    text = ECHOED["secret"]
    redacted, result = redact_answer(json.dumps([text[:20], text[20:]]).encode(), STANDARD, HEADERS)
    assert result is None
    assert text[:20] not in redacted.decode()


@pytest.mark.parametrize(
    "unit",
    [
        "\\",
        "%25",
        "%41",
        "&#65;",
        "&#",
        "\\u0041",
        "+",
        "/",
        "=",
        "whsec_",
        ECHOED["secret"] + " ",
        ECHOED["secret"][:-4],
    ],
    ids=["\\", "%25", "%41", "entity", "&#", "escape", "+", "/", "=", "prefix", "secret", "nearly the secret"],
)
@pytest.mark.parametrize("first", [b"\xf8", b"\xfc", b"\x00"], ids=["begins with +", "begins with /", "begins with A"])
def test_the_search_is_linear(unit: str, first: bytes) -> None:
    """Eight times the answer takes some eight times the time; a quadratic search takes sixty-four."""
    echo = base64.b64encode(first + SECRET[1:]).decode()  # without one, a search may give up at once
    plain = replace(STANDARD, signature_style="plain-token", signatures=(LiveSignature("k1", first + SECRET[1:]),))

    def seconds(length: int) -> float:
        answer = (echo + (unit * length)[:length]).encode()
        best = 1e9
        for _ in range(3):
            started = time.process_time()
            redact_answer(answer, plain, {"webhook-signature": "v1," + base64.b64encode(first + OLD[1:]).decode()})
            best = min(best, time.process_time() - started)
        return best

    assert seconds(40_000) < 24 * seconds(5_000) + 0.002
