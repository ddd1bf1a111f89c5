"""The URL policy: where a signed call may be sent. It protects against server-side request forgery.

The same pure checks apply when a URL is saved, for a test call, and for every connection. Saving checks the syntax and
literal addresses; each connection checks the addresses that the host name resolves to. The deny list is wider than
`ipaddress.is_global`, which is wrong in Python 3.11 on tunnels, translations and reserved networks.

An account learns nothing of what is inside: where a target is refused, it gets one clause, `TARGET_REFUSED`, for every
reason. The reason itself is for the operator's log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import NamedTuple

from contracts.ids import is_id
from services.domain.url_target import HOST_NAME, Address, literal_address, target_of

_PRIVATE_NAMES = ("localhost", "localdomain", "local", "internal", "home.arpa")

TARGET_REFUSED = "its host has no public address, or none that calls may reach"
"""The clause for a private address, a name that leads to one or to none, and a server of this product."""
_NEEDS_HTTPS = "it must begin with https://, unless the operator allows this host and port"

Network = IPv4Network | IPv6Network


class Refusal(NamedTuple):
    """Why a URL may not be called. ``clause`` is for its account, ``detail`` for the operator's log alone."""

    clause: str
    detail: str


_ALLOCATED_IPV6 = IPv6Network("2000::/3")
"""Other networks have no public hosts: translations, tunnels to IPv4, multicast, and unallocated ones."""

_NEVER_PUBLIC: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",  # Azure's host: its agent, DNS and metadata
        "192.0.0.0/24",
        "192.88.99.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/32",
        "2002::/16",
        "3fff::/20",
    )
)
_LOOPBACK: tuple[Network, ...] = tuple(ip_network(text) for text in ("127.0.0.0/8", "0.0.0.0/32", "::1/128", "::/128"))


def _unmapped(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _is_public(address: Address) -> bool:
    address = _unmapped(address)
    if isinstance(address, IPv6Address) and address not in _ALLOCATED_IPV6:
        return False
    return address.is_global and not any(address in network for network in _NEVER_PUBLIC)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A host name or a network, and a port. ``account`` None stands for every account."""

    host: str | Network
    port: int
    account: str | None = None

    def has_host(self, host: str | None, address: Address | None) -> bool:
        if isinstance(self.host, str):
            return host == self.host
        return address is not None and _unmapped(address) in self.host


@dataclass(frozen=True, slots=True)
class Allowlist:
    """Targets that the operator allows although they are private or not https, to all accounts or to one. ``never`` are
    the product's own servers, which cannot be allowed."""

    allowed: tuple[_Entry, ...] = ()
    never: tuple[_Entry, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str], never: Iterable[str] = ()) -> Allowlist:
        """From ``host-or-network:port`` entries, with ``account@`` before those of one account.

        Raises ValueError with a sentence on anything else.
        """
        own = [_parse_entry(entry) for entry in never]
        local_ports = {entry.port for entry in own if _is_local(entry.host)}
        local = (_Entry(host, port) for port in local_ports for host in ("localhost", *_LOOPBACK))
        return cls(tuple(_parse_entry(entry) for entry in entries), (*own, *local))

    @property
    def accounts(self) -> frozenset[str]:
        """The accounts that have entries of their own."""
        return frozenset(entry.account for entry in self.allowed if entry.account is not None)

    def allows(self, account: str | None, host: str | None, address: Address | None, port: int) -> bool:
        return any(
            entry.port == port and entry.account in (None, account) and entry.has_host(host, address)
            for entry in self.allowed
        )

    def forbids(self, host: str | None, address: Address | None, port: int) -> bool:
        return any(entry.port == port and entry.has_host(host, address) for entry in self.never)

    def is_own_host(self, host: str | None, address: Address | None) -> bool:
        """Whether one of the product's own servers is there, on whatever port."""
        return any(entry.has_host(host, address) for entry in self.never)


def _is_local(host: str | Network) -> bool:
    """Whether a server that listens there can be reached through loopback."""
    if isinstance(host, str):
        return host == "localhost"
    return host.is_loopback or host.network_address.is_unspecified


def _unmapped_network(network: Network) -> Network:
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < 96:
        return network
    return IPv4Network((mapped, network.prefixlen - 96))


def _parse_entry(entry: str) -> _Entry:
    account, at, target = entry.strip().rpartition("@")
    host, _, port = target.rpartition(":")
    host = host.strip("[]").lower().rstrip(".")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(
            f"{entry!r} is not host-or-network:port; write it as crm.internal:8443 or 10.1.0.0/16:443, and with an "
            "account as acme@10.1.0.0/16:443"
        )
    if at and not is_id(account):
        raise ValueError(f"{entry!r} has no account's id before its @")
    try:
        return _Entry(_unmapped_network(ip_network(host, strict=False)), int(port), account or None)
    except ValueError:
        if "/" in host or not HOST_NAME.fullmatch(host):
            raise ValueError(f"{entry!r} has neither a host name nor a network before its port") from None
        return _Entry(host, int(port), account or None)


def url_refusal(url: str, allowlist: Allowlist, account: str | None = None) -> Refusal | None:
    """Why the account may not save or call a URL; None if it may."""
    target = target_of(url)
    if isinstance(target, str):
        return Refusal(target, target)
    host, address, port = target.host, target.address, target.port
    if allowlist.allows(account, host, address, port) and not allowlist.forbids(host, address, port):
        return None
    if target.scheme != "https":
        return Refusal(_NEEDS_HTTPS, _NEEDS_HTTPS)
    if address is not None:
        return address_refusal(str(address), port, allowlist, account=account)
    if allowlist.is_own_host(host, None):
        return Refusal(TARGET_REFUSED, f"{host} is the host of a server of this product")
    if "." not in host or any(host == name or host.endswith(f".{name}") for name in _PRIVATE_NAMES):
        return Refusal(TARGET_REFUSED, f"{host} is a private name, and the account may not call it")
    return None


def address_refusal(
    address: str, port: int, allowlist: Allowlist, *, account: str | None = None, host: str | None = None
) -> Refusal | None:
    """Why the account may not connect to an address; None if it may. ``host`` is the name that resolved to it."""
    parsed = literal_address(address)
    if parsed is None:
        return Refusal(TARGET_REFUSED, f"{address} is not an IP address")
    if allowlist.forbids(host, parsed, port):
        return Refusal(TARGET_REFUSED, f"{address} port {port} is a server of this product")
    if allowlist.allows(account, host, parsed, port):
        return None
    if not _is_public(parsed):
        return Refusal(TARGET_REFUSED, f"{address} is a private or reserved address, and the account may not call it")
    if allowlist.is_own_host(host, parsed):
        return Refusal(TARGET_REFUSED, f"{address} is the host of a server of this product")
    return None


def addresses_refusal(
    addresses: Iterable[str], port: int, allowlist: Allowlist, *, account: str | None = None, host: str | None = None
) -> Refusal | None:
    """Why the account may not connect to a name. Against DNS rebinding, one refused address refuses all, and so do
    public addresses beside private ones that are allowed, unless it is the name that is allowed."""
    addresses = list(addresses)
    reasons = [address_refusal(address, port, allowlist, account=account, host=host) for address in addresses]
    refused = next((reason for reason in reasons if reason is not None), None)
    if refused is not None:
        return refused
    if not addresses:
        return Refusal(TARGET_REFUSED, "it has no address")
    public = {is_public(address) for address in addresses}
    if len(public) > 1 and not allowlist.allows(account, host, None, port):
        return Refusal(TARGET_REFUSED, "it has public and private addresses")
    return None


def is_public(address: str) -> bool:
    """Whether an IP address is a public one."""
    parsed = literal_address(address)
    return parsed is not None and _is_public(parsed)
