"""Whom an address stands for."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network


def network_of(address: str | None) -> str:
    """An address, or an IPv6 client's network of 64 bits, in which it can choose its address."""
    if address is None or ":" not in address:
        return address or ""
    plain = address.partition("%")[0]
    try:
        parsed = ip_address(plain)
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network(f"{plain}/64", strict=False))
    except ValueError:
        return address
