"""The secrets of a decision: encrypted or deleted on `switchboard.signatures`, and sealed to the requester.

A sealed box (libsodium's crypto_box_seal) can be opened only by the holder of the X25519 private key.
"""

from __future__ import annotations

import base64

from nacl.exceptions import CryptoError
from nacl.public import PublicKey, SealedBox

from contracts.rejections import SealKeyRefused
from services.decider.partition_state import Fork
from services.domain.decision import Decision, SealRequest
from services.domain.webhook_signature import encode_secret
from services.infrastructure.vault import KeyRing, SignatureAddress


def seal(text: str, public_key: str) -> str:
    """``text`` sealed to a base64 public key, as base64. Raises nacl's CryptoError on an unusable key."""
    box = SealedBox(PublicKey(base64.b64decode(public_key)))
    return base64.b64encode(box.encrypt(text.encode())).decode()


def seal_secret(
    fork: Fork, keyring: KeyRing, channel: str, decision: Decision, request: SealRequest
) -> str | SealKeyRefused:
    """The requested secret, sealed to the requester. Raises LookupError if none is stored."""
    secret = _secret(fork, keyring, channel, decision, request)
    try:
        return seal(encode_secret(secret), request.seal_to)
    except CryptoError:
        return SealKeyRefused()


def _secret(fork: Fork, keyring: KeyRing, channel: str, decision: Decision, request: SealRequest) -> bytes:
    new_secret = decision.new_secret
    if new_secret is not None and new_secret.key_id == request.key_id:
        return new_secret.secret
    address = SignatureAddress(channel, request.system, request.key_id)
    value = fork.signature(address.record_key())
    if value is None:
        raise LookupError(f"the signatures topic has no {request.key_id} for {channel}/{request.system}")
    return keyring.decrypt(value, address)


def secret_changes(keyring: KeyRing, channel: str, decision: Decision) -> dict[bytes, bytes | None]:
    """What the decision writes to the signatures topic, by key; None is a tombstone."""
    changes: dict[bytes, bytes | None] = {}
    for deleted in decision.deleted_secrets:
        changes[SignatureAddress(channel, deleted.system, deleted.key_id).record_key()] = None
    new_secret = decision.new_secret
    if new_secret is not None:
        address = SignatureAddress(channel, new_secret.system, new_secret.key_id)
        changes[address.record_key()] = keyring.encrypt(new_secret.secret, address)
    return changes
