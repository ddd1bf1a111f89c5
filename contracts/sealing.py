"""How a secret reaches only who asked for it (libsodium's crypto_box_seal, X25519), and the token that comes of it."""

from __future__ import annotations

import base64
import hmac
from typing import Any


def plain_token_of(signature: str) -> str:
    """What the calls of a plain-style system carry, from its signature as it is shown, ``whsec_`` and base64.

    Derived, and never the secret itself: ``whtok_`` and the unpadded base64url of HMAC-SHA256(secret, "switchboard
    plain token").
    """
    secret = base64.b64decode(signature.removeprefix("whsec_"))
    digest = hmac.digest(secret, b"switchboard plain token", "sha256")
    return "whtok_" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class SealKey:
    """A key pair of a request: its public half goes out as ``seal_to``, its private half opens the answer.

    Needs PyNaCl: the extra ``sealing`` of switchboard-contracts.
    """

    def __init__(self, private_key: bytes | None = None) -> None:
        """A fresh pair, or the one of 32 private bytes."""
        public = _nacl_public()
        self._private = public.PrivateKey.generate() if private_key is None else public.PrivateKey(private_key)

    @property
    def seal_to(self) -> str:
        """The public key in base64, as `RefreshSignature` and `RevealSignature` take it."""
        return base64.b64encode(bytes(self._private.public_key)).decode()

    def __bytes__(self) -> bytes:
        return bytes(self._private)

    def open(self, sealed: str) -> str:
        """The secret in an outcome's ``sealed``. Raises ValueError where it was sealed for another key."""
        public = _nacl_public()
        try:
            return bytes(public.SealedBox(self._private).decrypt(base64.b64decode(sealed))).decode()
        except Exception:  # noqa: BLE001 -- nacl's own error types are not known before it is imported
            raise ValueError("the secret was sealed for another key") from None


def _nacl_public() -> Any:
    try:
        from nacl import public
    except ImportError:
        raise ImportError(
            "Sealed secrets need PyNaCl; install switchboard-contracts with its extra 'sealing'."
        ) from None
    return public
