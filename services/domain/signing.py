"""What a signature's secret is shown as, known by, and how it signs a call. Pure: bytes in, text out."""

from __future__ import annotations

import base64
import hashlib
import hmac

from contracts.business_system import SignatureStyle

SECRET_BYTES = 32


def fingerprint(secret: bytes) -> str:
    """16 hex digits by which people tell signatures apart; 32 random bytes cannot be found from them."""
    return hashlib.sha256(b"switchboard fingerprint\0" + secret).hexdigest()[:16]


def plain_token(secret: bytes) -> str:
    """The plain style's token: derived, so that a receiver that leaks its header does not leak what signs."""
    digest = hmac.digest(secret, b"switchboard plain token", "sha256")
    return "whtok_" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def shown(secret: bytes, style: SignatureStyle) -> str:
    """What its owner is shown, and configures on the receiving side: what is shown is what signs."""
    return plain_token(secret) if style == "plain-token" else "whsec_" + base64.b64encode(secret).decode()


def webhook_signature(secret: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    """One Standard Webhooks ``v1`` signature over the exact bytes sent; ``timestamp`` in Unix seconds."""
    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
