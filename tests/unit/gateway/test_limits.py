"""Rates and places: what an account has left, when it has some again, and that others do not feel it."""

from __future__ import annotations

import pytest

from services.gateway.limits import Limits, Places, RateLimits
from services.gateway.problems import Problem
from services.infrastructure.config import Settings


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def taken_at_once(rates: RateLimits, key_id: str, account: str) -> int:
    count = 0
    while rates.take(key_id, account) == 0.0:
        count += 1
    return count


def test_a_bucket_holds_ten_seconds_and_fills_at_its_rate() -> None:
    clock = Clock()
    rates = RateLimits(Limits(requests_per_key=2, requests_per_account=100), clock)
    assert taken_at_once(rates, "k1", "acme") == 20
    assert 0 < rates.take("k1", "acme") <= 0.5
    clock.now += 3
    assert taken_at_once(rates, "k1", "acme") == 6
    clock.now += 1_000
    assert taken_at_once(rates, "k1", "acme") == 20


def test_keys_of_one_account_share_its_rate_and_another_account_has_its_own() -> None:
    rates = RateLimits(Limits(requests_per_key=2, requests_per_account=3), Clock())
    assert [taken_at_once(rates, key_id, "acme") for key_id in ("k1", "k2", "k3")] == [20, 10, 0]
    assert taken_at_once(rates, "k4", "other") == 20


def test_a_refused_request_is_not_counted() -> None:
    clock = Clock()
    rates = RateLimits(Limits(requests_per_key=1, requests_per_account=100), clock)
    taken_at_once(rates, "k1", "acme")
    for _ in range(50):
        assert 0 < rates.take("k1", "acme") <= 1
    clock.now += 1
    assert rates.take("k1", "acme") == 0.0


def test_the_headers_tell_what_remains() -> None:
    clock = Clock()
    rates = RateLimits(Limits(requests_per_key=2, requests_per_account=4), clock)
    for _ in range(5):
        rates.take("k1", "acme")
    headers = dict(rates.headers("k1", "acme"))
    assert headers[b"ratelimit-policy"] == b'"key";q=20;w=10, "account";q=40;w=10'
    assert headers[b"ratelimit"] == b'"key";r=15;t=3, "account";r=35;t=2'
    clock.now += 10
    assert dict(rates.headers("k1", "acme"))[b"ratelimit"] == b'"key";r=20;t=0, "account";r=40;t=0'


def test_places_are_an_accounts_then_the_gateways_and_come_back() -> None:
    places = Places("streams", per_account=1, in_all=2)
    with places.taken("acme"):
        with pytest.raises(Problem) as of_account, places.taken("acme"):
            pass
        with places.taken("other"), pytest.raises(Problem) as in_all, places.taken("third"):
            pass
    assert (of_account.value.status, in_all.value.status) == (429, 503)
    assert of_account.value.response().headers["Retry-After"] == "5"
    with places.taken("acme"), places.taken("third"):
        pass


def test_few_open_files_mean_fewer_connections_and_streams() -> None:
    few, many = Limits.of(Settings(), 1_024), Limits.of(Settings(), 65_536)
    assert (many.connections, many.streams, many.streams_per_account) == (8_000, 4_000, 2_000)
    assert (few.connections, few.streams, few.streams_per_account, few.long_polls) == (824, 412, 206, 206)
