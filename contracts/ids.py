"""The types of ids, and UUIDs version 7."""

from __future__ import annotations

import re
import time
from hashlib import sha256
from os import urandom
from typing import Annotated

from pydantic import StringConstraints

ID_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
"""Account, channel and command ids. Ids that start with ``~`` do not match: they are reserved for Switchboard."""

AccountId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
ChannelId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
CommandId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
SYSTEM_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
INTENT_CODE_PATTERN = r"^[A-Z0-9_]{1,64}$"
SystemId = Annotated[str, StringConstraints(pattern=SYSTEM_PATTERN)]
IntentCode = Annotated[str, StringConstraints(pattern=INTENT_CODE_PATTERN)]
TemplateId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
KeyId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The two variant bits, 10, followed by two random bits."""

_NAME = re.compile(ID_PATTERN[1:-1])


def is_id(text: str) -> bool:
    """Whether ``text`` may be an account, channel or command id.

    ``.`` and ``..`` are none: HTTP clients take them out of a URL's path. The schemas still have them, because commands
    on Kafka that were valid stay valid.
    """
    return text not in (".", "..") and _NAME.fullmatch(text) is not None


def uuid7(milliseconds: int, randomness: bytes) -> str:
    """A UUID version 7 (RFC 9562, 5.7) from Unix milliseconds and 10 random bytes: sorts by time."""
    time = f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}"
    random = randomness.hex()
    return f"{time[:8]}-{time[8:]}-7{random[1:4]}-{_VARIANT[random[4]]}{random[5:8]}-{random[8:20]}"


def new_id() -> str:
    """A new UUID version 7."""
    return uuid7(time.time_ns() // 1_000_000, urandom(10))


def uuid8_of(*parts: str) -> str:
    """A UUID version 8 (RFC 9562, 5.8) derived from the parts: the same parts give the same id."""
    digest = sha256("\0".join(parts).encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-{_VARIANT[digest[16]]}{digest[17:20]}-{digest[20:32]}"
