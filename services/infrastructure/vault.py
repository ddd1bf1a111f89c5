"""The key ring, and the encryption of signatures at rest.

A record of ``switchboard.signatures`` has the key ``channel/system/key_id`` and a JSON value with the id of the
key-encryption key beside the ciphertext, so that key-encryption keys can be replaced one after the other. AES-256-GCM;
the additional data binds a ciphertext to its place, so that one copied to another system does not open.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from os import urandom

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, ValidationError

from services.infrastructure.settings import SettingsError

_NONCE_BYTES = 12


class VaultError(Exception):
    """A signature cannot be opened; the sentence says why, and holds no secret."""


class EncryptedSignature(BaseModel):
    """The value of a record of ``switchboard.signatures``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    kek: str
    nonce: str
    ciphertext: str


@dataclass(frozen=True, slots=True)
class SignatureAddress:
    """Where a signature belongs; unique among all channels for ever."""

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
        self.newest = next(iter(keys))
        self._mark = f'"kek":"{self.newest}"'.encode()

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._ciphers)})"

    @classmethod
    def parse(cls, text: str | None) -> KeyRing:
        """From ``id:base64 of 32 bytes,…``, as SWITCHBOARD_KEYRING has it; raises `SettingsError`."""
        wanted = "SWITCHBOARD_KEYRING must be id:base64 of 32 bytes, several separated by commas, the newest first"
        if not text:
            raise SettingsError(f"{wanted}; it is not set.")
        keys: dict[str, bytes] = {}
        for place, part in enumerate(text.split(","), start=1):
            key_id, _, encoded = part.strip().partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                key = b""
            if not key_id or key_id in keys or len(key) != 32:
                raise SettingsError(f"{wanted}; entry {place} is not.")
            keys[key_id] = key
        return cls(keys)

    @staticmethod
    def make() -> str:
        """A fresh key ring of one key, in the form that `parse` takes."""
        return "k1:" + base64.b64encode(urandom(32)).decode()

    def encrypt(self, secret: bytes, address: SignatureAddress) -> bytes:
        """The record value that keeps ``secret``, under the newest key."""
        nonce = urandom(_NONCE_BYTES)
        ciphertext = self._ciphers[self.newest].encrypt(nonce, secret, address.record_key())
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
        """Whether a record's value is under the key that `encrypt` would take now."""
        return self._mark in value

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
                "which SWITCHBOARD_KEYRING does not hold; add that key behind the newest."
            )
        try:
            return cipher.decrypt(
                base64.b64decode(record.nonce), base64.b64decode(record.ciphertext), address.record_key()
            )
        except (InvalidTag, ValueError):
            raise VaultError(
                f"{where} does not open with key {record.kek!r}: the record was damaged or moved, or the key is "
                "another one of that id."
            ) from None
