"""Calls a second of one host, shared by the accounts that call it."""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush

import pytest

from services.invoker.queue.host_rate import HostRate

RATE = 10
HOST = "crm.example"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def played(arrivals: list[tuple[float, str]], hosts: tuple[str, ...] = (HOST,)) -> list[tuple[float, str, str]]:
    """When each call was made, in order: one that is postponed comes back when it was told."""
    clock = Clock()
    rate = HostRate(RATE, clock)
    start = clock.now
    due: list[tuple[float, int, str, str]] = []
    for number, (at, account) in enumerate(arrivals):
        heappush(due, (start + at, number, account, hosts[number % len(hosts)]))
    made: list[tuple[float, str, str]] = []
    turns = Counter[int]()
    while due:
        at, number, account, host = heappop(due)
        clock.now = max(clock.now, at)
        turns[number] += 1
        assert turns[number] < 50, "a call is postponed again and again"
        wait_s = rate.take(host, account)
        if wait_s:
            heappush(due, (clock.now + wait_s, number, account, host))
        else:
            made.append((clock.now - start, account, host))
    return made


def most_in_a_second(times: list[float]) -> int:
    return max(sum(start <= at < start + 1 for at in times) for start in times)


def test_a_flood_of_one_host_is_made_at_its_rate_and_completely() -> None:
    made = played([(0.0, "acme")] * 100)
    times = [at for at, _, _ in made]
    assert len(made) == 100
    assert most_in_a_second(times) <= 2 * RATE + 1  # the burst, and what comes after it
    assert 9 <= times[-1] <= 12


def test_many_accounts_get_no_more_from_one_host_than_one() -> None:
    made = played([(0.0, f"account-{number % 25}") for number in range(100)])
    times = [at for at, _, _ in made]
    assert len(made) == 100
    assert most_in_a_second(times) <= 2 * RATE + 1
    assert times[-1] >= 8


def test_other_hosts_are_not_delayed() -> None:
    made = played([(0.0, "acme")] * 30, hosts=("a.example", "b.example", "c.example"))
    assert [at for at, _, _ in made] == pytest.approx([0.0] * 30, abs=1e-6)


def test_an_account_beside_anothers_flood_of_the_same_host_gets_its_share() -> None:
    made = played([*[(0.0, "flood")] * 300, *[(5 + number / 2, "acme") for number in range(20)]])
    delays = [at - (5 + number / 2) for number, at in enumerate(at for at, account, _ in made if account == "acme")]
    assert len(made) == 320
    assert sorted(delays)[len(delays) // 2] <= 1.5
    assert max(delays) <= 4


def test_a_host_that_is_called_below_its_rate_never_waits() -> None:
    made = played([(number / RATE, "acme") for number in range(100)])
    assert [at for at, _, _ in made] == pytest.approx([number / RATE for number in range(100)], abs=1e-6)
