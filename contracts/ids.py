"""The names that identify things, as types, and the ids that we make ourselves."""

from __future__ import annotations

import re
import time
from os import urandom
from typing import Annotated

from pydantic import StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
"""Account, channel and command ids. A name that starts with ``~`` cannot match: those are ours."""

AccountId = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
ChannelId = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
CommandId = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
SystemId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
IntentCode = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]{1,64}$")]
TemplateId = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
KeyId = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The two bits 10 that say how the rest of a UUID is to be read, and two that are random."""

_NAME = re.compile(NAME_PATTERN[1:-1])


def is_name(text: str) -> bool:
    """Whether ``text`` may be an account, channel or command id."""
    return _NAME.fullmatch(text) is not None


def uuid7(milliseconds: int, randomness: bytes) -> str:
    """A UUID version 7 (RFC 9562, 5.7) from Unix milliseconds and 10 random bytes: sorts by time."""
    time = f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}"
    drawn = randomness.hex()
    return f"{time[:8]}-{time[8:]}-7{drawn[1:4]}-{_VARIANT[drawn[4]]}{drawn[5:8]}-{drawn[8:20]}"


def new_id() -> str:
    """A fresh UUID version 7, for whoever publishes."""
    return uuid7(time.time_ns() // 1_000_000, urandom(10))
