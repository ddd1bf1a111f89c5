"""Signing with a secret, and what is derived from it: the text for its owner, the fingerprint, the plain token."""

from __future__ import annotations

import base64
import hashlib
import hmac

from contracts.sealing import plain_token_of

SECRET_BYTES = 32


def fingerprint(secret: bytes) -> str:
    """16 hex digits that identify a signature to people; the secret cannot be computed from them."""
    return hashlib.sha256(b"switchboard fingerprint\0" + secret).hexdigest()[:16]


def plain_token(secret: bytes) -> str:
    """The token of the plain style. It is derived, so that a receiver that leaks it does not leak the secret."""
    return plain_token_of(encode_secret(secret))


def encode_secret(secret: bytes) -> str:
    """The secret as its owner is shown it, in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secret).decode()


def webhook_signature(secret: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """One Standard Webhooks ``v1`` signature over the exact bytes sent; ``timestamp`` in Unix seconds."""
    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
