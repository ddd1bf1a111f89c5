"""An answer that echoes a secret, however it spells it, is kept and told without it."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from contracts.invocation import IntentInvoked
from services.domain.signing import plain_token, shown
from services.invoker.blackout import MARK, blacked_out
from services.invoker.call import signature_headers
from services.invoker.endpoints import Endpoint, LiveSignature
from services.invoker.notifications import Asked, outcome_note

SECRET = bytes(range(200, 232))
OLD = b"\xfb\xff" * 16
STANDARD = Endpoint(
    "https://crm.example/",
    "standard-webhooks",
    disabled=False,
    signatures=(LiveSignature("k2", SECRET), LiveSignature("k1", OLD)),
)
HEADERS = signature_headers(STANDARD, "msg-1", b"{}")


def forms(secret: bytes) -> list[str]:
    encoded = base64.b64encode(secret).decode()
    return [
        shown(secret),
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
def test_text_is_blacked_out(secret: bytes, place: int) -> None:
    form = forms(secret)[place]
    kept, told = blacked_out(f"you sent {form}!".encode(), STANDARD, HEADERS)
    assert kept.decode() == f"you sent {MARK}!"
    assert told is None


@pytest.mark.parametrize("secret", [SECRET, OLD])
def test_json_is_blacked_out_however_it_is_escaped(secret: bytes) -> None:
    for form in forms(secret)[:7]:
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in form)
        kept, told = blacked_out(f'{{"a": ["{escaped}"], "{escaped}": 1}}'.encode(), STANDARD, HEADERS)
        assert told == {"a": [MARK], MARK: 1}
        assert json.loads(kept) == told


def test_sent_signatures_are_blacked_out() -> None:
    kept, told = blacked_out(json.dumps({"echo": HEADERS}).encode(), STANDARD, HEADERS)
    for signature in HEADERS["webhook-signature"].split():
        assert signature.removeprefix("v1,") not in kept.decode()
    assert told["echo"]["webhook-id"] == "msg-1"


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_other_json_comes_through_as_it_is(value: object) -> None:
    text = json.dumps(value)
    _, told = blacked_out(text.encode(), STANDARD, HEADERS)
    assert told == json.loads(text.replace("\\u0000", "\\ufffd"))


@pytest.mark.parametrize(
    "answer",
    [
        *(b"NaN", b"[Infinity]", b"1e999", b"\xff\xfe", b"[" * 60_000, b"", b'{"a": 1', b'"\\ud800"'),
        b"[" * 150 + b"]" * 150,
    ],
)
def test_what_is_no_json_is_told_as_none(answer: bytes) -> None:
    assert blacked_out(answer, STANDARD, HEADERS)[1] is None


@pytest.mark.parametrize("answer", [b"[" * 100 + b"]" * 100, b'{"a":' * 99 + b"1" + b"}" * 99, b"9" * 4000])
def test_whatever_is_told_can_be_written_and_read_by_anybody(answer: bytes) -> None:
    _, told = blacked_out(answer, STANDARD, HEADERS)
    outcome = IntentInvoked(system="crm", code="ORDER", delivery="d", attempts=1, result=told)
    note = outcome_note(Asked("acme", "ch", "req", "req"), outcome)
    assert from_json(note.value or b"")["data"]["result"] == json.loads(answer)
