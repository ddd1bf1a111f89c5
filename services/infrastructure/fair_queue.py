"""Shares a bounded number of concurrent operations among accounts, in turns.

With first come, first served, an account with 64 connections gets 64 turns for another account's one. Here each account
that waits gets the next turn in order, however many of its requests wait. An account that is alone gets more turns at
once than beside others, because each of its turns makes the others' slower. Others are there for a second after their
last turn: most accounts have short turns and long pauses, and the next request would find all turns of a flood begun.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.infrastructure.byte_budget import ByteBudget

PRESENT_S = 1.0


class QueueFull(Exception):
    """The account has as many requests waiting as it may have."""


class FairQueue:
    """At most ``concurrent`` operations at once; of one account ``per_account``, so that another account finds a free
    one, and ``beside_others`` begin while others have turns, or had one lately; at most ``waiting_per_account``
    requests of one wait.

    With a ``budget`` an operation begins once its bytes fit, and takes them with its turn. They are given back to the
    budget, not with the turn: both may last longer than the other."""

    def __init__(
        self,
        concurrent: int,
        per_account: int,
        waiting_per_account: int,
        beside_others: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        budget: ByteBudget | None = None,
    ) -> None:
        self._free, self._clock, self.budget = concurrent, clock, budget
        if budget is not None:
            budget.when_freed(self._grant)
        self._per_account = per_account
        self._beside_others = per_account if beside_others is None else beside_others
        self._waiting_per_account = waiting_per_account
        self._held: Counter[str] = Counter()
        self._present: OrderedDict[str, float] = OrderedDict()
        """By account, when its last turn ended, the oldest first; without those who left `PRESENT_S` ago."""
        self._waiting: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()
        """By account, the next one first. An account without waiting requests is not in it."""

    @asynccontextmanager
    async def turn(self, account: str) -> AsyncIterator[None]:
        """Waits for the account's turn, and holds it. Raises `QueueFull` at once."""
        await self.acquire(account)
        try:
            yield
        finally:
            self.release(account)

    async def acquire(self, account: str, size: int = 0) -> None:
        """Waits for the account's turn, which `release` ends, and for so many bytes. Raises `QueueFull` at once."""
        if account not in self._waiting and self._may_begin(account, size):
            self._begin(account, size)
            return
        queue = self._waiting.setdefault(account, deque())
        if len(queue) >= self._waiting_per_account:
            raise QueueFull
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append((size, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                queue.remove((size, granted))
                if not queue:
                    self._waiting.pop(account, None)
                self._grant()  # who waited behind it may fit
            else:  # the turn came together with the cancellation
                self.release(account)
                if self.budget is not None and size:
                    self.budget.give_back(account, size)
            raise

    def _may_begin(self, account: str, size: int) -> bool:
        if self._free == 0 or self._held[account] >= self._per_account:
            return False
        if self.budget is not None and not self.budget.fits(account, size):
            return False
        return self._held[account] < self._beside_others or self._is_alone(account)

    def _is_alone(self, account: str) -> bool:
        left_before = self._clock() - PRESENT_S
        while self._present and next(iter(self._present.values())) < left_before:
            self._present.popitem(last=False)
        return self._present.keys() <= {account} and self._held.keys() <= {account}

    def _begin(self, account: str, size: int) -> None:
        self._free -= 1
        self._held[account] += 1
        if self.budget is not None and size:
            self.budget.take(account, size)

    def release(self, account: str) -> None:
        self._free += 1
        self._held[account] -= 1
        if not self._held[account]:
            del self._held[account]
        self._present[account] = self._clock()
        self._present.move_to_end(account)
        self._grant()

    def _grant(self) -> None:
        """Gives free turns to the accounts that wait, in order; who got one goes behind the others."""
        while self._free > 0 and any(self._grant_one(account) for account in list(self._waiting)):
            pass

    def _grant_one(self, account: str) -> bool:
        queue = self._waiting[account]
        waiting = next((one for one in queue if not one[1].cancelled()), None)
        is_granted = waiting is not None and self._may_begin(account, waiting[0])
        if waiting is not None and is_granted:
            self._begin(account, waiting[0])
            queue.remove(waiting)
            waiting[1].set_result(None)
            self._waiting.move_to_end(account)
        if not queue:
            del self._waiting[account]
        return is_granted


class Turn:
    """One request's turn, which it holds while it works, and not while it waits for something else; and the bytes that
    it holds until its response is sent."""

    def __init__(self, queue: FairQueue) -> None:
        self._queue, self._account, self._is_held, self._bytes = queue, "", False, 0
        self._has_begun = False

    async def begin(self, account: str | None, size: int = 0) -> None:
        """Waits for the account's turn, and for so many bytes; None is the platform. Raises `QueueFull`."""
        account = account or ""
        await self._queue.acquire(account, size)
        self._account, self._is_held, self._bytes, self._has_begun = account, True, self._bytes + size, True

    def end(self) -> None:
        """Gives the turn to the next request; without effect once it has ended."""
        if self._is_held:
            self._is_held = False
            self._queue.release(self._account)

    def leave_for(self, queue: FairQueue) -> None:
        """Ends the turn, and gives its bytes back. It begins in another queue from now on."""
        self.end()
        self.give_back()
        self._queue, self._has_begun = queue, False

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Ends the turn, and waits for another one at the end. Raises `QueueFull`."""
        self.end()
        yield
        await self.begin(self._account)

    def holds_of(self, account: str | None) -> int:
        """The bytes that the account's requests hold together."""
        return 0 if self._queue.budget is None else self._queue.budget.held(account or "")

    def take(self, size: int) -> None:
        """Takes more bytes, whether they fit or not; without effect before the turn has begun: it is nobody's."""
        if self._queue.budget is not None and self._has_begun:
            self._queue.budget.take(self._account, size)
            self._bytes += size

    def give_back(self, size: int | None = None) -> None:
        """Gives bytes back; all that are left if no size is given."""
        size = self._bytes if size is None or not self._has_begun else size
        if self._queue.budget is not None and size:
            self._bytes -= size
            self._queue.budget.give_back(self._account, size)

    @asynccontextmanager
    async def another(self) -> AsyncIterator[None]:
        """Once the first has ended, waits for another turn, and holds it. Raises `QueueFull`."""
        await self.begin(self._account)
        try:
            yield
        finally:
            self.end()
