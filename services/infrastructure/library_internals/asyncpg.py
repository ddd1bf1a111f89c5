"""Where asyncpg connects to for a database's URL. Read in asyncpg 0.32.0.

asyncpg reads a URL in its own way: hosts and ports also come from ``?host=`` and ``?port=``, several of them, from a
service file, and from ``PGHOST`` and ``PGPORT``; a password ends at the first ``@``. A second reading could miss a
server. Its parser is not public.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

_HOST_NAME = re.compile(r"[A-Za-z0-9_.-]{1,253}")
_UNIX_PORT = re.compile(r"\.s\.PGSQL\.([0-9]+)$")
_FORM = "it must be postgresql://user:password@host/database"
_ESCAPES = "with %40 for @, %2F for /, %5B for [ and %25 for % in its user and its password"


def database_addresses(url: str) -> list[tuple[str, int]]:
    """Host and port of each server, in the order in which asyncpg tries them; a socket's directory instead of a host.

    Raises ValueError with a clause that holds nothing of the URL.
    """
    # Only here: a command that has no database starts without the import, which takes a tenth of a second.
    from asyncpg import connect_utils

    unneeded = dict.fromkeys(
        ("host", "port", "passfile", "service", "servicefile", "direct_tls", "server_settings"), None
    ) | dict.fromkeys(("target_session_attrs", "krbsrvname", "gsslib"), None)
    login = {"user": "-", "password": "-", "database": "-", "ssl": False}  # so that no file and no user is looked for
    try:
        addresses, _ = connect_utils._parse_connect_dsn_and_args(dsn=url, **login, **unneeded)  # type: ignore[attr-defined]
        return [_host_and_port(address) for address in addresses]
    except (ValueError, LookupError):
        raise ValueError(f"{_FORM}, {_ESCAPES}") from None


def _host_and_port(address: str | tuple[str, int]) -> tuple[str, int]:
    if isinstance(address, str):
        directory, _, name = address.rpartition("/")
        port = _UNIX_PORT.search(name)
        if port is None:
            raise ValueError
        return directory or "/", int(port[1])
    host, port_number = address
    if not 1 <= port_number <= 65535:
        raise ValueError
    if not _HOST_NAME.fullmatch(host):
        ip_address(host)
    return host, port_number
