"""The key ring, and the encryption of signatures at rest.

A record of ``switchboard.signatures`` has the key ``channel/system/key_id`` and a JSON value with the id of the
key-encryption key beside the ciphertext, so that key-encryption keys can be rotated. AES-256-GCM;
the additional data binds a ciphertext to its record key, so that one copied to another system cannot be decrypted.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from os import urandom

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, ValidationError

from services.infrastructure.config import SettingsError, not_set, parse_keyring

_NONCE_BYTES = 12


class VaultError(Exception):
    """A signature cannot be decrypted. The message says why, and has no secret."""


class EncryptedSignature(BaseModel):
    """The value of a record of ``switchboard.signatures``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    kek: str
    nonce: str
    ciphertext: str


@dataclass(frozen=True, slots=True)
class SignatureAddress:
    """The identity of a signature, unique among all channels and never reused."""

    channel: str
    system: str
    key_id: str

    def record_key(self) -> bytes:
        return f"{self.channel}/{self.system}/{self.key_id}".encode()

    @classmethod
    def from_record_key(cls, key: bytes) -> SignatureAddress:
        channel, system, key_id = key.decode().split("/")
        return cls(channel, system, key_id)


class KeyRing:
    """The key-encryption keys, newest first: the first one encrypts, any of them decrypts."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._oldest = list(keys.values())[-1]
        self.newest = next(iter(keys))
        self._newest_marker = f'"kek":"{self.newest}"'.encode()

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._ciphers)})"

    @classmethod
    def parse(cls, text: str | None) -> KeyRing:
        """From ``id:base64 of 32 bytes,…``, as SWITCHBOARD_KEYRING has it; raises `SettingsError`."""
        if not text:
            raise SettingsError(not_set("keyring"))
        try:
            return cls(parse_keyring(text))
        except ValueError as error:
            raise SettingsError(f"SWITCHBOARD_KEYRING cannot be used; {error}.") from None

    @staticmethod
    def make() -> str:
        """A new key ring of one key, in the form that `parse` reads."""
        return "k1:" + base64.b64encode(urandom(32)).decode()

    def derived_key(self, purpose: bytes) -> bytes:
        """A key for that purpose, derived from the oldest key: it stays while newer keys are put in front."""
        return hmac.digest(self._oldest, purpose, "sha256")

    def encrypt(self, secret: bytes, address: SignatureAddress) -> bytes:
        """The record value with ``secret`` encrypted under the newest key."""
        return self.encrypt_bound(secret, address.record_key())

    def encrypt_bound(self, secret: bytes, bound_to: bytes) -> bytes:
        """The same, bound to what it belongs to: it cannot be decrypted as anything else's."""
        nonce = urandom(_NONCE_BYTES)
        ciphertext = self._ciphers[self.newest].encrypt(nonce, secret, bound_to)
        return (
            EncryptedSignature(
                kek=self.newest,
                nonce=base64.b64encode(nonce).decode(),
                ciphertext=base64.b64encode(ciphertext).decode(),
            )
            .model_dump_json()
            .encode()
        )

    def is_newest(self, value: bytes) -> bool:
        """Whether a record's value is encrypted under the newest key."""
        return self._newest_marker in value

    def decrypt(self, value: bytes, address: SignatureAddress) -> bytes:
        """The secret in a record's value; raises `VaultError`."""
        where = f"Signature {address.key_id} of {address.channel}/{address.system}"
        try:
            record = EncryptedSignature.model_validate_json(value)
        except ValidationError:
            raise VaultError(f"{where} cannot be read: its record on the signatures topic was damaged.") from None
        cipher = self._ciphers.get(record.kek)
        if cipher is None:
            raise VaultError(
                f"{where} is under key {record.kek!r}, "
                "which SWITCHBOARD_KEYRING does not have; add that key after the newest."
            )
        try:
            return cipher.decrypt(
                base64.b64decode(record.nonce), base64.b64decode(record.ciphertext), address.record_key()
            )
        except (InvalidTag, ValueError):
            raise VaultError(
                f"{where} cannot be decrypted with key {record.kek!r}: the record was damaged or moved, or the key is "
                "another one of that id."
            ) from None
