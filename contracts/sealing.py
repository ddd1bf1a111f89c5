"""Sealed boxes: how a secret reaches only who asked for it (libsodium's crypto_box_seal, X25519)."""

from __future__ import annotations

import base64
from typing import Any


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
