"""Reads a URL as a client would connect to it. What some clients read otherwise is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from unicodedata import normalize
from urllib.parse import SplitResult, quote, urlsplit

import idna

URL_LENGTH_LIMIT = 512
HOST_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_DEFAULT_PORTS = {"https": 443, "http": 80}
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)")
_BRACKETED = re.compile(r"\[[0-9a-f:.]+\](:[0-9]+)?", re.IGNORECASE)
_ASCII = "".join(map(chr, range(0x21, 0x7F)))

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    """The server of a URL. ``address`` is set if its host is a literal address."""

    scheme: str
    host: str
    port: int
    address: Address | None


def target_of(url: str) -> Target | str:
    """The target of a URL as a client would connect to it, or a clause that says what is wrong with the URL."""
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
    address = literal_address(host)
    if address is not None and (parts.hostname or "").endswith("."):
        return "its host is an address and ends in a dot; write the address without it"
    if address is None and _ENDS_IN_NUMBER.fullmatch(host):
        return "its host ends in a number, which some read as an address; write the address in its usual form"
    if address is None and not HOST_NAME.fullmatch(host):
        return "its host name is not a valid one"
    return Target(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], address)


def request_path(url: str) -> str:
    """Path and query of a valid URL as they are sent: byte for byte as written, letters beyond ASCII in UTF-8."""
    _, _, rest = url.partition("://")
    path = rest[len(re.split(r"[/?]", rest, maxsplit=1)[0]) :]
    return quote(path if path.startswith("/") else f"/{path}", safe=_ASCII)


def _wrong_form(url: str) -> str | None:
    if len(url) > URL_LENGTH_LIMIT:
        return f"it is longer than {URL_LENGTH_LIMIT} characters"
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
    address = literal_address(parts.hostname or "")
    return _BRACKETED.fullmatch(parts.netloc) is not None and isinstance(address, IPv6Address)


def _host_in_ascii(host: str) -> str | None:
    """The host in ASCII; None if it is not a valid name, or if the versions of IDNA disagree on it.

    ``straße`` is ``strasse`` in one version, which may belong to somebody else. Nor may letters be dropped or replaced.
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


def literal_address(host: str) -> Address | None:
    """The address, if the host is one; a zone is left out."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


@lru_cache(10_000)
def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port, normalised: two URLs of the same origin lead to the same server."""
    target = target_of(url)
    return ("", url, 0) if isinstance(target, str) else (target.scheme, target.host, target.port)
