"""A dead letter has its record unchanged, unless the topic cannot take it."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.topics import LARGEST_RECORD_BYTES
from services.infrastructure.dead_letter import DEAD_LETTER_BYTES_LIMIT, dead_letter


@dataclass
class _Record:
    key: bytes | None
    value: bytes | None
    offset: int = 7


def test_key_and_value_are_unchanged_and_headers_say_the_source() -> None:
    letter = dead_letter(_Record(b"k", b"\xff"), "switchboard.commands", 3, "no JSON\nat all\x00")

    assert (letter.key, letter.value) == (b"k", b"\xff")
    assert letter.headers == {
        "reason": "no JSON at all ",
        "topic": "switchboard.commands",
        "partition": "3",
        "offset": "7",
    }


def test_what_the_topic_cannot_take_goes_without_its_value() -> None:
    largest = dead_letter(_Record(b"k", bytes(LARGEST_RECORD_BYTES - 1)), "t", 0, "r")
    assert largest.value is not None
    assert "omitted" not in largest.headers

    too_large = dead_letter(_Record(b"k", bytes(LARGEST_RECORD_BYTES)), "t", 0, "r")
    assert too_large.value is None
    assert too_large.headers["omitted"] == str(LARGEST_RECORD_BYTES)


def test_the_topic_has_room_for_the_headers() -> None:
    assert DEAD_LETTER_BYTES_LIMIT - LARGEST_RECORD_BYTES == 64 * 1024
