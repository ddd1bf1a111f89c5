"""Recipients' numbers: a keyed hash that is kept, and the encrypted number of an SMS fallback that is not."""

from __future__ import annotations

import hmac

from services.infrastructure.vault import KeyRing

_PURPOSE = b"switchboard: hash of a message's recipient"


class Recipients:
    """The hash is HMAC-SHA256 under a key derived from the oldest key of the ring, which stays while keys rotate."""

    def __init__(self, keyring: KeyRing) -> None:
        self._keyring = keyring
        self._key = keyring.derived_key(_PURPOSE)

    def hash(self, recipient: str) -> str:
        """Hex; the same for the same recipient in every process with this key ring."""
        return hmac.digest(self._key, recipient.encode(), "sha256").hex()

    def encrypt(self, number: str, account: str, channel: str, message: str) -> bytes:
        """The number under the newest key, bound to its message."""
        return self._keyring.encrypt_bound(number.encode(), f"{account}/{channel}/{message}".encode())
