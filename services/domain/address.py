"""Where a signed call may go: one pure judgement for saving a URL, for a test call and for every dial.

On saving, syntax and literal addresses are judged; what a name resolves to is judged at each dial. The deny list is
wider than `ipaddress.is_global`, which Python 3.11 gets wrong on tunnels, translations and reserved networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from unicodedata import normalize
from urllib.parse import SplitResult, urlsplit

import idna

LONGEST_URL = 512
_DEFAULT_PORTS = {"https": 443, "http": 80}
_HOST_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)")
_BRACKETED = re.compile(r"\[[0-9a-f:.]+\](:[0-9]+)?", re.IGNORECASE)
_PRIVATE_NAMES = ("localhost", "localdomain", "local", "internal", "home.arpa")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_ALLOCATED_IPV6 = IPv6Network("2000::/3")
"""Outside of it there are no public hosts: translations, tunnels to IPv4, multicast, what is not allocated yet."""

_NEVER_PUBLIC: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/32",
        "2002::/16",
        "3fff::/20",
    )
)
_OURSELVES: tuple[Network, ...] = tuple(ip_network(text) for text in ("127.0.0.0/8", "0.0.0.0/32", "::1/128", "::/128"))


def _unmapped(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _is_public(address: Address) -> bool:
    address = _unmapped(address)
    if isinstance(address, IPv6Address) and address not in _ALLOCATED_IPV6:
        return False
    return address.is_global and not any(address in network for network in _NEVER_PUBLIC)


@dataclass(frozen=True, slots=True)
class _Place:
    """A host name or a network, and a port."""

    place: str | Network
    port: int

    def covers(self, host: str | None, address: Address | None, port: int) -> bool:
        if port != self.port:
            return False
        if isinstance(self.place, str):
            return host == self.place
        return address is not None and _unmapped(address) in self.place


@dataclass(frozen=True, slots=True)
class Allowances:
    """What the operator allows although it is private or not https, and what nobody may allow: our own servers."""

    allowed: tuple[_Place, ...] = ()
    never: tuple[_Place, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str], never: Iterable[str] = ()) -> Allowances:
        """From ``host-or-network:port`` entries. Raises ValueError with a sentence on anything else."""
        own = [_place(entry) for entry in never]
        local_ports = {one.port for one in own if _is_local(one.place)}
        local = (_Place(place, port) for port in local_ports for place in ("localhost", *_OURSELVES))
        return cls(tuple(_place(entry) for entry in entries), (*own, *local))

    def allows(self, host: str | None, address: Address | None, port: int) -> bool:
        return any(place.covers(host, address, port) for place in self.allowed)

    def forbids(self, host: str | None, address: Address | None, port: int) -> bool:
        return any(place.covers(host, address, port) for place in self.never)


def _is_local(place: str | Network) -> bool:
    """Whether a server that listens there can be reached through loopback."""
    if isinstance(place, str):
        return place == "localhost"
    return place.is_loopback or place.network_address.is_unspecified


def _unmapped_network(network: Network) -> Network:
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < 96:
        return network
    return IPv4Network((mapped, network.prefixlen - 96))


def _place(entry: str) -> _Place:
    place, _, port = entry.strip().rpartition(":")
    place = place.strip("[]").lower().rstrip(".")
    if not place or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{entry!r} is no host-or-network:port; write it as crm.internal:8443 or 10.1.0.0/16:443")
    try:
        return _Place(_unmapped_network(ip_network(place, strict=False)), int(port))
    except ValueError:
        if "/" in place or not _HOST_NAME.fullmatch(place):
            raise ValueError(f"{entry!r} has neither a host name nor a network before its port") from None
        return _Place(place, int(port))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads. ``address`` is set where its host is a literal one."""

    scheme: str
    host: str
    port: int
    address: Address | None


def target_of(url: str) -> Target | str:
    """The target of a URL as a dialler would read it, or a clause that says what is wrong with it."""
    wrong = _wrong_form(url)
    if wrong is not None:
        return wrong
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "its host or port cannot be read; write it as https://host/path"
    wrong = _wrong_parts(parts, port)
    if wrong is not None:
        return wrong
    host = _host_in_ascii(parts.hostname or "")
    if host is None:
        return "its host name is not a valid one, or some read it otherwise; write it in its ASCII form (xn--…)"
    address = _literal(host)
    if address is None and _ENDS_IN_NUMBER.fullmatch(host):
        return "its host ends in a number, which some read as an address; write the address in its usual form"
    if address is None and not _HOST_NAME.fullmatch(host):
        return "its host name is not a valid one"
    return Target(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], address)


def _wrong_form(url: str) -> str | None:
    if len(url) > LONGEST_URL:
        return f"it is longer than {LONGEST_URL} characters"
    if any(character <= " " or character in "\\\x7f" or not character.isprintable() for character in url):
        return "it holds white space, a backslash or control characters; encode them"
    if "#" in url:
        return "it must not have a fragment, which is never sent"
    return None


def _wrong_parts(parts: SplitResult, port: int | None) -> str | None:
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        return "it must begin with https://"
    if "@" in parts.netloc:
        return "it must not hold a user name or password; the signature authenticates the call"
    if port == 0 or parts.netloc.endswith(":"):
        return "its port must be 1 to 65535"
    if any(bracket in parts.netloc for bracket in "[]") and not _is_bracketed_ipv6(parts):
        return "only an IPv6 address without a zone stands in brackets, and nothing beside it but the port"
    return None if parts.hostname else "it has no host"


def _is_bracketed_ipv6(parts: SplitResult) -> bool:
    return _BRACKETED.fullmatch(parts.netloc) is not None and isinstance(_literal(parts.hostname or ""), IPv6Address)


def _host_in_ascii(host: str) -> str | None:
    """The host as it is dialled; None where it is no name, or one that the versions of IDNA read in different ways.

    ``straße`` is ``strasse`` to one of them, which may be somebody else's. Nor may letters be left out or replaced.
    """
    host = host.removesuffix(".")
    if host.isascii():
        return host.lower()
    try:
        encoded = idna.encode(host, uts46=True).decode()
        same = encoded == host.encode("idna").decode().lower() and idna.decode(encoded) == normalize(
            "NFC", host.lower()
        )
    except UnicodeError:
        return None
    has_other_digits = any(character.isdecimal() and not character.isascii() for character in host)
    return encoded if same and not has_other_digits else None


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def refusal_of_url(url: str, allowances: Allowances) -> str | None:
    """Why a URL may not be saved or called, as a clause; None where it may."""
    target = target_of(url)
    if isinstance(target, str):
        return target
    if allowances.forbids(target.host, target.address, target.port):
        return "it leads to a server of this product itself"
    if allowances.allows(target.host, target.address, target.port):
        return None
    if target.scheme != "https":
        return "it must begin with https://, unless the operator allows this host and port"
    if target.address is not None and not _is_public(target.address):
        return f"{target.host} is a private or reserved address, and the operator does not allow it"
    if any(target.host == name or target.host.endswith(f".{name}") for name in _PRIVATE_NAMES):
        return f"{target.host} is a private name, and the operator does not allow it"
    return None


def refusal_of_address(address: str, port: int, allowances: Allowances, host: str | None = None) -> str | None:
    """Why an address may not be dialled, as a clause; None where it may. ``host`` is the name that resolved to it."""
    parsed = _literal(address)
    if parsed is None:
        return f"{address} is no IP address"
    if allowances.forbids(host, parsed, port):
        return "it leads to a server of this product itself"
    if allowances.allows(host, parsed, port) or _is_public(parsed):
        return None
    return f"{address} is a private or reserved address, and the operator does not allow it"


def refusal_of_addresses(
    addresses: Iterable[str], port: int, allowances: Allowances, host: str | None = None
) -> str | None:
    """Why a name may not be dialled: one bad answer among good ones refuses them all, or rebinding would pay off."""
    reasons = [refusal_of_address(address, port, allowances, host) for address in addresses]
    return next((reason for reason in reasons if reason is not None), None if reasons else "it has no address")


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port, normalised; two URLs of one origin lead to one server."""
    target = target_of(url)
    return ("", url, 0) if isinstance(target, str) else (target.scheme, target.host, target.port)
