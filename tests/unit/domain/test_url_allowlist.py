"""What the operator allows, and the product's own servers, which nobody can allow."""

from __future__ import annotations

import pytest

from services.domain.url_policy import (
    TARGET_REFUSED,
    Allowlist,
    address_refusal,
    addresses_refusal,
    url_refusal,
)
from services.domain.url_target import origin

NOTHING = Allowlist.parse(())


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("crm.internal:8080", "http://crm.internal:8080/hook"),
        ("CRM.internal.:8080", "https://crm.INTERNAL:8080/hook"),
        ("crm:443", "https://crm/hook"),
        ("localhost:9000", "http://localhost:9000/"),
        ("10.1.0.0/16:443", "https://10.1.2.3/"),
        ("10.1.2.3/16:443", "https://10.1.2.3/"),
        ("10.1.2.3:8080", "http://10.1.2.3:8080/"),
        ("10.1.2.3:443", "https://[::ffff:10.1.2.3]/"),
        ("[fd00::1]:443", "https://[fd00::1]/"),
        ("fd00::/8:443", "https://[fd12::1]/"),
        ("93.184.0.0/16:80", "http://93.184.216.34/"),
    ],
)
def test_the_operator_may_allow_a_place(entry: str, url: str) -> None:
    assert url_refusal(url, NOTHING) is not None
    assert url_refusal(url, Allowlist.parse([entry])) is None


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("crm.internal:8080", "http://crm.internal:8081/"),
        ("crm.internal:8080", "http://crm.internal/"),
        ("crm.internal:8080", "http://a.crm.internal:8080/"),
        ("crm.internal:8080", "http://crm.internal.example:8080/"),
        ("10.1.0.0/16:443", "https://10.2.0.1/"),
        ("10.1.0.0/16:443", "http://10.1.0.1/"),
        ("crm.internal:443", "https://user@crm.internal/"),
        ("127.0.0.1:443", "https://2130706433/"),
    ],
)
def test_nothing_else_is_allowed_with_it(entry: str, url: str) -> None:
    assert url_refusal(url, Allowlist.parse([entry])) is not None


def test_an_allowed_name_may_resolve_to_a_private_address() -> None:
    allowlist = Allowlist.parse(["crm.internal:8080"])

    assert addresses_refusal(["10.0.0.1"], 8080, allowlist, host="crm.internal") is None
    assert addresses_refusal(["10.0.0.1"], 8080, allowlist, host="other.internal") is not None
    assert addresses_refusal(["10.0.0.1"], 8081, allowlist, host="crm.internal") is not None


@pytest.mark.parametrize(
    ("own", "address", "port"),
    [
        ("127.0.0.1:9092", "127.0.0.1", 9092),
        ("127.0.0.1:9092", "127.9.9.9", 9092),
        ("127.0.0.1:9092", "::1", 9092),
        ("127.0.0.1:9092", "::ffff:127.0.0.1", 9092),
        ("127.0.0.1:9092", "0.0.0.0", 9092),  # noqa: S104
        ("127.0.0.1:9092", "::", 9092),
        ("localhost:9092", "127.0.0.1", 9092),
        ("0.0.0.0:8080", "127.0.0.1", 8080),
        ("[::]:8080", "::1", 8080),
        ("[::1]:5432", "127.0.0.1", 5432),
        ("10.0.0.7:5432", "10.0.0.7", 5432),
    ],
)
def test_our_own_servers_are_refused_whatever_is_allowed(own: str, address: str, port: int) -> None:
    everything = [f"0.0.0.0/0:{port}", f"::/0:{port}", f"localhost:{port}", f"crm.internal:{port}"]
    allowlist = Allowlist.parse(everything, never=[own])
    host = f"[{address}]" if ":" in address else address

    assert url_refusal(f"http://{host}:{port}/", allowlist) == url_refusal(f"http://{host}:{port}/", NOTHING)
    assert url_refusal(f"https://{host}:{port}/", allowlist) is not None
    assert address_refusal(address, port, allowlist, host="crm.internal") is not None
    assert address_refusal(address, port + 1, Allowlist.parse([f"{host}:{port + 1}"], never=[own])) is None


@pytest.mark.parametrize("own", ["127.0.0.1:9092", "[::1]:9092", "localhost:9092", "0.0.0.0:9092"])
def test_localhost_is_our_own_server_by_name_too(own: str) -> None:
    allowlist = Allowlist.parse(["localhost:9092", "a.localhost:9092"], never=[own])

    assert url_refusal("http://localhost:9092/", allowlist) is not None
    assert url_refusal("https://localhost:9092/", allowlist) is not None


def test_our_own_server_by_its_name() -> None:
    allowlist = Allowlist.parse(["broker.internal:9092"], never=["broker.internal:9092"])

    assert url_refusal("https://broker.internal:9092/", allowlist) is not None
    assert addresses_refusal(["10.0.0.1"], 9092, allowlist, host="broker.internal") is not None


@pytest.mark.parametrize(
    "entry",
    [
        *("", "crm", "crm:", ":443", "crm:0", "crm:65536", "crm:-1", "crm:٤٤٣", "*:443", "a b:443", "10.0.0.0/33:443"),
        *("@crm:443", "a b@crm:443", "acme@", "acme@crm", "acme@bolt@crm:443", "~acme@crm:443"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"host-or-network:port|neither a host name nor a network|no account's id"):
        Allowlist.parse([entry])


@pytest.mark.parametrize(
    "url",
    ["https://10.1.2.3/", "http://10.1.2.3/", "https://crm.internal/", "http://shop.example/", "https://[fd00::1]/"],
)
def test_what_one_account_may_call_is_refused_to_the_others(url: str) -> None:
    hosts = ("10.1.0.0/16", "crm.internal", "shop.example", "[fd00::1]")
    allowlist = Allowlist.parse(f"acme:eu@{host}:{port}" for host in hosts for port in (80, 443))

    assert allowlist.accounts == {"acme:eu"}
    assert url_refusal(url, allowlist, "acme:eu") is None
    for other in ("acme", "bolt", None):
        refusal = url_refusal(url, allowlist, other)
        assert refusal is not None
        assert refusal == url_refusal(url, NOTHING, other)


def test_an_address_that_is_allowed_to_one_account_is_judged_for_each() -> None:
    allowlist = Allowlist.parse(["acme@10.0.0.0/8:443", "acme@crm.example:443"])

    assert address_refusal("10.0.0.1", 443, allowlist, account="acme") is None
    assert address_refusal("10.0.0.1", 443, allowlist, account="bolt") is not None
    assert addresses_refusal(["127.0.0.1"], 443, allowlist, account="acme", host="crm.example") is None
    assert addresses_refusal(["127.0.0.1"], 443, allowlist, account="bolt", host="crm.example") is not None


def test_a_public_address_beside_an_allowed_private_one_is_refused_unless_the_name_is_allowed() -> None:
    by_address = Allowlist.parse(["10.0.0.0/8:443"])
    by_name = Allowlist.parse(["crm.example:443"])
    mixed = ["1.1.1.1", "10.0.0.1"]

    assert addresses_refusal(["10.0.0.1", "10.0.0.2"], 443, by_address, host="crm.example") is None
    assert addresses_refusal(mixed, 443, by_address, host="crm.example") is not None
    assert addresses_refusal(mixed[::-1], 443, by_address, host="crm.example") is not None
    assert addresses_refusal(mixed, 443, by_name, host="crm.example") is None


OURS = Allowlist.parse((), never=["10.0.0.7:5432", "broker.example:9092", "203.0.113.9:9092", "8.8.8.8:5432"])


@pytest.mark.parametrize(
    "target",
    [
        *(
            "10.0.0.7:5432",
            "10.0.0.7:5433",
            "10.0.0.8",
            "127.0.0.1:22",
            "[::1]:9092",
            "169.254.169.254",
            "168.63.129.16",
        ),
        *("broker.example:9092", "broker.example:9093", "8.8.8.8:5432", "8.8.8.8", "localhost", "db.internal", "crm"),
    ],
)
def test_all_that_is_inside_is_refused_with_one_clause(target: str) -> None:
    """Whether a port is our broker's is not told apart from any other port of its host, public or private."""
    refusal = url_refusal(f"https://{target}/", OURS)

    assert refusal is not None
    assert refusal.clause == TARGET_REFUSED


@pytest.mark.parametrize(
    "addresses",
    [[], ["10.0.0.7"], ["10.0.0.8"], ["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["8.8.8.8"], ["::ffff:10.0.0.1"]],
)
@pytest.mark.parametrize("port", [443, 5432])
def test_a_name_that_leads_inside_is_refused_with_the_same_clause(addresses: list[str], port: int) -> None:
    refusal = addresses_refusal(addresses, port, OURS, host="crm.example")

    assert refusal is not None
    assert refusal.clause == TARGET_REFUSED


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://crm.example/a", "https://CRM.example:443/b?c", True),
        ("https://crm.example/", "https://crm.example./", True),
        ("https://münchen.example/", "https://xn--mnchen-3ya.example/", True),
        ("https://crm.example/", "http://crm.example/", False),
        ("https://crm.example/", "https://crm.example:8443/", False),
        ("https://crm.example/", "https://www.crm.example/", False),
        ("not a url", "not a url either", False),
    ],
)
def test_two_urls_of_one_origin(one: str, other: str, same: bool) -> None:  # noqa: FBT001 -- a column of the table
    assert (origin(one) == origin(other)) is same
