"""``switchboard api-keys``: creates, lists, rotates and revokes the keys of the HTTP API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.connections import Result, run_with_pool
from services.cli.errors import CliError, require_id
from services.cli.local_user import local_user
from services.cli.output import Output, print_rows
from services.cli.times import parse_instant

if TYPE_CHECKING:
    from services.gateway.authentication.actor import Actor
    from services.gateway.authentication.api_keys import Network
    from services.gateway.authentication.roles import Role, Scope
    from services.infrastructure.postgres import Pool

app = typer.Typer(help="Keys for the HTTP API and the console.", no_args_is_help=True)

Expires = Annotated[
    str | None, typer.Option(help="when it expires, like 2027-01-31T00:00:00Z; without it, when it is revoked")
]


@app.command("create")
def create(
    label: Annotated[str, typer.Option(help="what the key is for")],
    account: Annotated[str | None, typer.Option(help="the account it acts for")] = None,
    channel: Annotated[str | None, typer.Option(help="the one channel of the account that it acts for")] = None,
    provider: Annotated[str | None, typer.Option(help="the provider whose channels it acts for")] = None,
    platform: Annotated[bool, typer.Option("--platform", help="it acts for the platform, on every account")] = False,
    role: Annotated[
        list[str] | None, typer.Option(help="a role it has; several times for several (default: all)")
    ] = None,
    network: Annotated[list[str] | None, typer.Option(help="a network it is valid from, like 192.0.2.0/24")] = None,
    expires: Expires = None,
    owner: Annotated[
        str | None,
        typer.Option(help="the person it belongs to, who approves no change of one key by another"),
    ] = None,
) -> None:
    """Creates a key and prints its token, which cannot be shown again."""
    scope = _scope(account, channel, provider, platform)
    roles, networks, expires_at = _roles(role or []), _networks(network or []), _instant(expires)
    from services.gateway.authentication import api_keys

    async def make(pool: Pool) -> str:
        return await api_keys.create(
            pool,
            scope=scope,
            label=label,
            roles=roles,
            networks=networks,
            expires_at=expires_at,
            owner=owner,
            by=_this_user(),
        )

    typer.echo(_run(make))


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most this many")] = 1_000, output: Output = None
) -> None:
    """Lists the keys, newest first."""
    from services.gateway.authentication import api_keys

    columns = ("key_id", "label", "scope", "account", "channel", "provider", "roles", "expires_at", "revoked_at")
    print_rows((key.as_json() for key in _run(api_keys.list_keys)[:limit]), output, columns)


@app.command("rotate")
def rotate(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="its id, as `api-keys list` shows it")],
    overlap: Annotated[int, typer.Option(help="seconds for which the old key stays valid", min=0)] = 24 * 3600,
    expires: Expires = None,
) -> None:
    """Creates a key that may do the same, and prints its token; the old one stays valid for the overlap."""
    expires_at = _instant(expires)
    from services.gateway.authentication import api_keys

    async def make(pool: Pool) -> str | None:
        old = await api_keys.find(pool, key_id)
        if old is None:
            raise _unknown(key_id)
        return await api_keys.rotate(
            pool,
            old,
            overlap=timedelta(seconds=overlap),
            expires_at=expires_at or old.expires_at,
            by=_this_user(),
        )

    token = _run(make)
    if token is None:
        raise CliError(f"API key {key_id!r} is revoked or has expired; create a new one.")
    typer.echo(token)


@app.command("revoke")
def revoke(key_id: Annotated[str, typer.Argument(metavar="KEY", help="its id, as `api-keys list` shows it")]) -> None:
    """Revokes a key at once."""
    from services.gateway.authentication import api_keys

    async def revoke_key(pool: Pool) -> bool:
        return await api_keys.revoke(pool, key_id, by=_this_user()) is not None

    if not _run(revoke_key):
        raise _unknown(key_id)
    typer.echo(f"revoked {key_id}")


def _unknown(key_id: str) -> CliError:
    return CliError(f"There is no API key {key_id!r}; `switchboard api-keys list` lists them.")


def _scope(account: str | None, channel: str | None, provider: str | None, platform: bool) -> Scope:
    if sum((account is not None, provider is not None, platform)) != 1:
        raise CliError(
            "A key is for one account (--account NAME), a provider (--provider NAME) or the platform (--platform): "
            "name one of them."
        )
    if channel is not None and account is None:
        raise CliError("A key for one channel needs the channel's account: add --account NAME.")
    for option, value in (("--account", account), ("--channel", channel), ("--provider", provider)):
        require_id(option, value)
    from services.gateway.authentication.roles import Scope

    return Scope(account, channel, provider)


def _roles(names: list[str]) -> frozenset[Role]:
    from services.gateway.authentication.roles import ALL_ROLES, Role

    for name in names:
        if name not in ALL_ROLES:
            raise CliError(f"There is no role {name!r}; choose from {', '.join(Role)}.")
    return frozenset(map(Role, names)) or ALL_ROLES


def _networks(texts: list[str]) -> tuple[Network, ...]:
    try:
        return tuple(map(ip_network, texts))
    except ValueError as error:
        raise CliError(f"--network is wrong: {error}; write it like 192.0.2.0/24.") from None


def _instant(text: str | None) -> datetime | None:
    moment = parse_instant("--expires", text)
    if moment is not None and moment <= datetime.now(UTC):
        raise CliError(f"--expires is {text!r}; it must be a time to come, like 2027-01-31T00:00:00Z.")
    return moment


def _this_user() -> Actor:
    from contracts.envelope import Origin
    from services.gateway.authentication.actor import Actor

    return Actor(Origin(actorname=local_user()))


def _run(use: Callable[[Pool], Awaitable[Result]]) -> Result:
    from services.gateway.authentication import api_keys

    return run_with_pool("gateway", api_keys.MIGRATIONS, use)
