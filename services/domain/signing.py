"""What a signature's secret is shown as, known by, and how it signs a call. Pure: bytes in, text out."""

from __future__ import annotations

import base64
import hashlib
import hmac

from contracts.sealing import plain_token_of

SECRET_BYTES = 32


def fingerprint(secret: bytes) -> str:
    """16 hex digits by which people tell signatures apart; 32 random bytes cannot be found from them."""
    return hashlib.sha256(b"switchboard fingerprint\0" + secret).hexdigest()[:16]


def plain_token(secret: bytes) -> str:
    """The plain style's token: derived, so that a receiver that leaks its header does not leak what signs."""
    return plain_token_of(shown(secret))


def shown(secret: bytes) -> str:
    """What its owner is shown, whatever the style, which may not be chosen yet."""
    return "whsec_" + base64.b64encode(secret).decode()


def webhook_signature(secret: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """One Standard Webhooks ``v1`` signature over the exact bytes sent; ``timestamp`` in Unix seconds."""
    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
