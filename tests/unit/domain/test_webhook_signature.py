"""A call's signature is Standard Webhooks: the published vector, and the library that receivers use."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from contracts.sealing import plain_token_of
from services.domain.webhook_signature import SECRET_BYTES, encode_secret, fingerprint, plain_token, webhook_signature

VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_TIME = 1614265330
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

secrets = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
ids = st.from_regex(r"[A-Za-z0-9._:-]{1,128}", fullmatch=True)
# The library refuses what is older than five minutes, so the time of a random call is now.
bodies = st.dictionaries(st.text(), st.text() | st.integers() | st.none()).map(lambda data: json.dumps(data).encode())


def test_the_published_vector() -> None:
    secret = base64.b64decode(VECTOR_SECRET.removeprefix("whsec_"))

    assert webhook_signature(secret, VECTOR_ID, VECTOR_TIME, VECTOR_BODY) == VECTOR_SIGNATURE


def _headers(webhook_id: str, timestamp: int, *signatures: str) -> dict[str, str]:
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


@given(secrets, secrets, ids, bodies)
def test_receivers_accept_it_with_the_secret_as_it_is_shown(
    secret: bytes, other: bytes, webhook_id: str, body: bytes
) -> None:
    now = int(datetime.now(UTC).timestamp())
    ours, others = (webhook_signature(one, webhook_id, now, body) for one in (secret, other))
    receiver = Webhook(encode_secret(secret))

    receiver.verify(body, _headers(webhook_id, now, ours))
    receiver.verify(body, _headers(webhook_id, now, others, ours))
    if secret != other:
        with pytest.raises(WebhookVerificationError):
            receiver.verify(body, _headers(webhook_id, now, others))


@given(secrets, ids, bodies)
def test_receivers_refuse_another_body_id_or_time(secret: bytes, webhook_id: str, body: bytes) -> None:
    now = int(datetime.now(UTC).timestamp())
    signature = webhook_signature(secret, webhook_id, now, body)
    receiver = Webhook(encode_secret(secret))

    for changed_body, headers in (
        (body + b" ", _headers(webhook_id, now, signature)),
        (body, _headers(webhook_id + "x", now, signature)),
        (body, _headers(webhook_id, now - 1, signature)),
    ):
        with pytest.raises(WebhookVerificationError):
            receiver.verify(changed_body, headers)


@given(secrets, st.binary())
def test_any_bytes_can_be_signed(secret: bytes, body: bytes) -> None:
    assert webhook_signature(secret, "id", 0, body) != webhook_signature(secret, "id", 1, body)


@given(secrets)
def test_a_plain_token_is_a_header_value_and_not_the_secret(secret: bytes) -> None:
    token = plain_token(secret)

    assert token.startswith("whtok_")
    assert token.isascii()
    assert token.replace("-", "").replace("_", "").isalnum()
    assert token == plain_token_of(encode_secret(secret))
    assert base64.b64encode(secret).decode().rstrip("=") not in token
    assert base64.urlsafe_b64encode(secret).decode().rstrip("=") not in token


def test_what_is_shown_does_not_change_between_releases() -> None:
    """Receivers have configured these."""
    secret = bytes(range(32))

    assert encode_secret(secret) == "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    assert plain_token(secret) == PLAIN_TOKEN
    assert fingerprint(secret) == FINGERPRINT


PLAIN_TOKEN = "whtok_4XUf7n7KI1dXxSvIayo5W1t9eGlzzrLTpyE5706X0F4"
FINGERPRINT = "8ff859c6e382d5b4"


@given(secrets, secrets)
def test_fingerprints_tell_secrets_apart(one: bytes, other: bytes) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
    assert len(fingerprint(one)) == 16
    int(fingerprint(one), 16)
