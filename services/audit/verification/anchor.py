"""Anchors: signed digests of the log, to be stored where nobody who can write the log can write.

Of each partition an anchor has the running digest of all its events, at its end and at up to 512 marks before, so that
a rewritten event is narrowed down to the stretch between two marks: a single event while the partition is short.
"""

from __future__ import annotations

import base64
import os
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from contracts.bounded_json import compact_json
from contracts.envelope import validation_message
from services.audit.log.errors import AuditError

MARKS_LIMIT = 512

Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class PartitionAnchor(BaseModel):
    """``marks`` are the running digests after every ``step`` events, ``digest`` the one after all ``count`` of them.

    ``offset`` is the last event's; -1 where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    offset: int
    count: Annotated[int, Field(ge=0)]
    step: Annotated[int, Field(ge=1)]
    marks: tuple[Hex, ...]
    digest: Hex

    def digest_at(self, count: int) -> str | None:
        """The running digest after so many events; None where there is no mark."""
        if count == self.count:
            return self.digest
        index, rest = divmod(count, self.step)
        return self.marks[index - 1] if not rest and 0 < index <= len(self.marks) and count < self.count else None

    def mark_before(self, count: int) -> int:
        """How many events the mark before this one covers."""
        return (count - 1) // self.step * self.step


class RunningDigest:
    """The digest of a partition's events so far, with marks that thin out as it grows."""

    def __init__(self) -> None:
        self.count = 0
        self._digest = bytes(32)
        self._step = 1
        self._marks: list[bytes] = []

    def add(self, event: str) -> None:
        """``event`` is the hex digest of its bytes."""
        self._digest = sha256(self._digest + event.encode()).digest()
        self.count += 1
        if self.count % self._step == 0:
            self._marks.append(self._digest)
            if len(self._marks) == MARKS_LIMIT:
                self._marks = self._marks[1::2]
                self._step *= 2

    def hexdigest(self) -> str:
        return self._digest.hex()

    def anchor(self, offset: int) -> PartitionAnchor:
        marks = tuple(mark.hex() for mark in self._marks)
        return PartitionAnchor(offset=offset, count=self.count, step=self._step, marks=marks, digest=self._digest.hex())


class Anchor(BaseModel):
    """``made_at`` is RFC 3339. ``signature`` is over everything else, as `_signed` writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    topic: str
    made_at: str
    partitions: dict[int, PartitionAnchor]
    public_key: str
    signature: str

    @property
    def key_fingerprint(self) -> str:
        return sha256(base64.b64decode(self.public_key)).hexdigest()[:32]


def _signed(content: dict[str, Any]) -> bytes:
    """Sorted keys and no spaces: the same bytes however the file was formatted since."""
    body = {name: value for name, value in content.items() if name != "signature"}
    body["partitions"] = {str(number): body["partitions"][number] for number in sorted(body["partitions"], key=int)}
    return b"switchboard anchor\n" + compact_json(body).encode()


def sign(topic: str, made_at: str, partitions: dict[int, PartitionAnchor], key: Ed25519PrivateKey) -> Anchor:
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    anchor = Anchor(
        topic=topic,
        made_at=made_at,
        partitions=dict(sorted(partitions.items())),
        public_key=base64.b64encode(public).decode(),
        signature="",
    )
    signature = key.sign(_signed(anchor.model_dump(mode="json")))
    return anchor.model_copy(update={"signature": base64.b64encode(signature).decode()})


def read_anchor(path: Path, public_key: Path | None) -> Anchor:
    """The anchor in the file, its signature checked: with the given key, or else the one that it names itself.

    Raises `AuditError`.
    """
    try:
        anchor = Anchor.model_validate_json(path.read_bytes())
        signer = Ed25519PublicKey.from_public_bytes(base64.b64decode(anchor.public_key, validate=True))
        signature = base64.b64decode(anchor.signature, validate=True)
    except OSError as error:
        raise AuditError(f"{path} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        raise AuditError(f"{path} is no anchor: {validation_message(error)}") from None
    except ValueError as error:
        raise AuditError(f"{path} is no anchor: {error}.") from None
    if public_key is not None:
        signer = read_public_key(public_key)
    try:
        signer.verify(signature, _signed(anchor.model_dump(mode="json")))
    except InvalidSignature:
        raise AuditError(f"{path} was changed since it was signed, or signed with another key.") from None
    return anchor


def read_key(path: Path) -> Ed25519PrivateKey:
    """A private key from a PEM file. Raises `AuditError`."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise AuditError(f"{path} cannot be read: {error.strerror}; --make-key makes a key there.") from None
    except (ValueError, TypeError):
        raise AuditError(f"{path} is no unencrypted private key in PEM.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditError(f"{path} holds no Ed25519 key.")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """A public key from a PEM file. Raises `AuditError`."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise AuditError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise AuditError(f"{path} is no public key in PEM.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise AuditError(f"{path} holds no Ed25519 key.")
    return key


def make_key(path: Path) -> Path:
    """Makes a key that its owner alone can read, and its public half beside it, whose path it returns."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(private)
    except FileExistsError:
        raise AuditError(f"{path} is there already; a key is never overwritten.") from None
    beside = path.with_name(path.name + ".pub")
    beside.write_bytes(public)
    return beside
