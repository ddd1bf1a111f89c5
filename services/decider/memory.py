"""The memory of command ids: the answers to at least the partition's last 20,000 commands."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

WINDOW = 20_000


class RememberedAnswer(NamedTuple):
    """``data`` is the outcome's data as JSON bytes; ``digest`` of the command's content."""

    digest: bytes
    data: bytes

    @property
    def accepted(self) -> bool:
        return not self.data.startswith(b'{"rejection":')


def memory_key(account: str, channel: str, command_id: str) -> str:
    """Unique per command: no id holds a slash."""
    return f"{account}/{channel}/{command_id}"


class CommandMemory:
    """Keeps what `adopt` is told, oldest forgotten first, and the offset in `outcomes` that restores it."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._answers: dict[str, RememberedAnswer] = {}
        self._transactions: deque[tuple[int, tuple[str, ...]]] = deque()
        """(offset of its first outcome, keys of what is remembered of it) of each transaction in the window."""

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> RememberedAnswer | None:
        return self._answers.get(key)

    @property
    def restorable_from(self) -> int:
        """The offset in `outcomes` from which reading brings back all that is remembered."""
        return self._transactions[0][0] if self._transactions else 0

    def adopt(self, offset: int, answers: Mapping[str, RememberedAnswer]) -> None:
        """Takes over the answers of a committed transaction whose first outcome is at ``offset``."""
        if not answers:
            return
        self._answers.update(answers)
        self._transactions.append((offset, tuple(answers)))
        while len(self._answers) - len(self._transactions[0][1]) >= self._window:
            for key in self._transactions.popleft()[1]:
                del self._answers[key]
