"""Sealed boxes: a secret that only the holder of an X25519 private key can read (libsodium's crypto_box_seal)."""

from __future__ import annotations

import base64

from nacl.public import PublicKey, SealedBox


def sealed(text: str, public_key: str) -> str:
    """``text`` in a sealed box for a base64 public key, as base64. Raises nacl's CryptoError on an unusable key."""
    box = SealedBox(PublicKey(base64.b64decode(public_key)))
    return base64.b64encode(box.encrypt(text.encode())).decode()
