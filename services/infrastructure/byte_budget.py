"""Bounds the memory that accounts use at the same time, such as for the bodies of their requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class ByteBudget:
    """Bytes under way, for each account and in all.

    The last ``reserve`` of them go to accounts that have no more than ``share`` with them, so that a few accounts that
    use all of theirs leave something to the others.
    """

    def __init__(self, per_account: int, in_all: int, reserve: int, share: int) -> None:
        self.per_account = per_account
        self._in_all, self._reserve, self._share = in_all, reserve, share
        self._held: Counter[str] = Counter()
        self._total = 0
        self._freed: list[Callable[[], None]] = []

    def fits(self, account: str, size: int) -> bool:
        """Whether the account may take so many; 0 asks for who has all that it needs already."""
        held, total = self._held[account] + size, self._total + size
        if held <= self._share:
            return size == 0 or total <= self._in_all
        return held <= self.per_account and total <= self._in_all - (self._reserve if size else 0)

    def take(self, account: str, size: int) -> None:
        """Takes them, whether they fit or not. What is more than the account's own limit is nothing to the others."""
        self._change(account, size)

    def _change(self, account: str, size: int) -> None:
        before = self._held[account]
        self._held[account] += size
        self._total += min(self._held[account], self.per_account) - min(before, self.per_account)

    def give_back(self, account: str, size: int) -> None:
        self._change(account, -size)
        if not self._held[account]:
            del self._held[account]
        for grant in self._freed:
            grant()

    def when_freed(self, grant: Callable[[], None]) -> None:
        """Calls it whenever bytes were given back."""
        self._freed.append(grant)

    def held(self, account: str) -> int:
        return self._held[account]
