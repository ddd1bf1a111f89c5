"""Signatures at rest: rotated key-encryption keys, ciphertexts bound to their place, and sealed boxes."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.sealing import SealKey
from services.decider.signature_secrets import seal
from services.infrastructure.config import SettingsError
from services.infrastructure.vault import KeyRing, SignatureAddress, VaultError

HERE = SignatureAddress("ch-1", "crm", "key-1")
OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
SECRET = bytes(range(32))


@given(st.binary(max_size=64))
def test_what_is_encrypted_can_be_decrypted(secret: bytes) -> None:
    keyring = KeyRing.parse(f"k1:{OLD}")

    assert keyring.decrypt(keyring.encrypt(secret, HERE), HERE) == secret


def test_no_two_ciphertexts_are_alike() -> None:
    keyring = KeyRing.parse(KeyRing.make())

    assert len({keyring.encrypt(SECRET, HERE) for _ in range(50)}) == 50


def test_the_newest_key_encrypts_and_any_decrypts() -> None:
    before = KeyRing.parse(f"k1:{OLD}")
    after = KeyRing.parse(f"k2:{NEW},k1:{OLD}")
    written_before, written_after = before.encrypt(SECRET, HERE), after.encrypt(SECRET, HERE)

    assert (json.loads(written_before)["kek"], json.loads(written_after)["kek"]) == ("k1", "k2")
    assert after.decrypt(written_before, HERE) == after.decrypt(written_after, HERE) == SECRET
    with pytest.raises(VaultError, match="under key 'k2', which SWITCHBOARD_KEYRING does not have"):
        before.decrypt(written_after, HERE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        SignatureAddress("ch-2", "crm", "key-1"),
        SignatureAddress("ch-1", "erp", "key-1"),
        SignatureAddress("ch-1", "crm", "key-2"),
    ],
)
def test_a_ciphertext_copied_elsewhere_does_not_open(elsewhere: SignatureAddress) -> None:
    keyring = KeyRing.parse(f"k1:{OLD}")

    with pytest.raises(VaultError, match="damaged or moved"):
        keyring.decrypt(keyring.encrypt(SECRET, HERE), elsewhere)


def test_another_key_of_the_same_id_does_not_open_it() -> None:
    with pytest.raises(VaultError, match="another one of that id"):
        KeyRing.parse(f"k1:{NEW}").decrypt(KeyRing.parse(f"k1:{OLD}").encrypt(SECRET, HERE), HERE)


@given(st.integers(0, 500), st.integers(1, 255))
def test_a_damaged_record_says_so_and_shows_nothing(at: int, flip: int) -> None:
    keyring = KeyRing.parse(f"k1:{OLD}")
    value = bytearray(keyring.encrypt(SECRET, HERE))
    value[at % len(value)] ^= flip
    problem = ""
    try:
        opened = keyring.decrypt(bytes(value), HERE)
    except VaultError as error:
        problem = str(error)
    if problem:
        assert "key-1 of ch-1/crm" in problem
    else:
        assert opened == SECRET  # the damage is outside of what counts, such as the format's version


@pytest.mark.parametrize("value", [b"", b"{}", b"no json", b'{"kek":"k1","nonce":"!","ciphertext":"AAAA"}', b"[]"])
def test_what_is_no_record_says_so(value: bytes) -> None:
    with pytest.raises(VaultError):
        KeyRing.parse(f"k1:{OLD}").decrypt(value, HERE)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "k1",
        "k1:",
        f":{OLD}",
        "k1:AAAA",
        f"k1:{OLD},k1:{NEW}",
        f"k1:{OLD},",
        f"k1:{OLD[:-2]}",
        f"k1:{OLD}!",
    ],
)
def test_a_key_ring_that_cannot_be_meant_is_refused(text: str | None) -> None:
    with pytest.raises(SettingsError, match=r"SWITCHBOARD_KEYRING .*; it must be id:base64") as refused:
        KeyRing.parse(text)
    assert OLD[:10] not in str(refused.value)


def test_a_made_key_ring_can_be_parsed_and_shows_no_key() -> None:
    made = KeyRing.make()

    assert repr(KeyRing.parse(made)) == "KeyRing(k1)"
    assert KeyRing.make() != made


def test_blanks_around_entries_are_no_part_of_them() -> None:
    assert repr(KeyRing.parse(f" k2:{NEW} , k1:{OLD} ")) == "KeyRing(k2, k1)"


def test_record_keys_are_read_back() -> None:
    assert SignatureAddress.from_record_key(HERE.record_key()) == HERE
    assert HERE.record_key() == b"ch-1/crm/key-1"


@given(st.text())
def test_a_sealed_secret_opens_for_its_key_only(text: str) -> None:
    key, other = SealKey(), SealKey()
    box = seal(text, key.seal_to)

    assert key.open(box) == text
    assert SealKey(bytes(key)).open(box) == text
    assert seal(text, key.seal_to) != box
    with pytest.raises(ValueError, match="another key"):
        other.open(box)
