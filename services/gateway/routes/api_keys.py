"""API keys: list, create, rotate, revoke."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from contracts.envelope import validation_message
from contracts.ids import ID_PATTERN
from contracts.names import Name
from services.gateway.authentication import api_keys
from services.gateway.authentication.api_key_limit import MAX_KEYS, TooManyKeys
from services.gateway.authentication.api_key_schemas import ApiKeyJson, ApiKeyList, CreatedApiKey
from services.gateway.authentication.api_keys import ApiKey, Network
from services.gateway.authentication.caller import Authenticated, Caller
from services.gateway.authentication.origin import actor_of
from services.gateway.authentication.roles import Role, Scope, ScopeKind
from services.gateway.instant import Instant
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.requests import body_schema, json_body, pool_of

router = APIRouter(prefix="/v1/api-keys", tags=["API keys"])

MAX_OVERLAP_S = 7 * 24 * 3600


def _to_come(moment: datetime) -> datetime:
    if moment <= datetime.now(UTC):
        raise ValueError("it must be later than now")
    return moment


_FutureInstant = Annotated[Instant, AfterValidator(_to_come)]
_Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Model = TypeVar("Model", bound=BaseModel)


class NewApiKey(BaseModel):
    """A key to create, by default for the caller's account, and valid until it is revoked."""

    model_config = ConfigDict(extra="forbid")

    label: Name
    roles: Annotated[frozenset[Role], Field(min_length=1)]
    scope: ScopeKind = "account"
    account: _Id | None = None
    channel: _Id | None = None
    provider: _Id | None = None
    networks: Annotated[tuple[IPv4Network | IPv6Network, ...], Field(max_length=50)] = ()
    expires_at: _FutureInstant | None = None
    owner: Name | None = None
    """The person that it belongs to; by default its maker, who then approves nothing of it, nor by it."""


class Rotation(BaseModel):
    """For how long the old key stays valid, and when the new one expires; by default, when the old one would have."""

    model_config = ConfigDict(extra="forbid")

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP_S)] = 24 * 3600
    expires_at: _FutureInstant | None = None


@router.get("", response_model=ApiKeyList)
async def list_api_keys(request: Request, caller: Authenticated) -> dict[str, Any]:
    """Lists the keys of the caller's scope and of scopes inside it, newest first, revoked and expired ones included."""
    keys = await api_keys.list_keys(pool_of(request), reach(caller))
    return {"api_keys": [key.as_json() for key in keys]}


@router.post("", status_code=201, response_model=CreatedApiKey, openapi_extra=body_schema(NewApiKey))
@raises("ApiKeyInvalid", "ApiKeyStronger", "TooManyApiKeys")
async def create_api_key(request: Request, caller: Authenticated) -> JSONResponse:
    """Creates a key and shows its token, once. It may do no more than its maker, nor longer, nor from elsewhere."""
    return await _shown_once(request, await create_key(request, caller, await _parsed(request, NewApiKey)))


async def create_key(request: Request, caller: Caller, asked: NewApiKey) -> str:
    """Returns the token of a new key. Raises `Problem`."""
    scope = _scope(asked, caller)
    await _require_no_stronger(request, caller, asked.roles, scope, asked.networks, asked.expires_at)
    try:
        return await api_keys.create(
            pool_of(request),
            label=asked.label,
            scope=scope,
            roles=asked.roles,
            networks=asked.networks,
            expires_at=asked.expires_at,
            owner=asked.owner or caller.principal.person,
            by=actor_of(request, caller.principal),
            limited=True,
        )
    except TooManyKeys:
        raise _too_many() from None


@router.post("/{key}/rotation", status_code=201, response_model=CreatedApiKey, openapi_extra=body_schema(Rotation))
@raises("ApiKeyUnknown", "ApiKeyNotValid", "ApiKeyInvalid", "ApiKeyStronger", "TooManyApiKeys")
async def rotate_api_key(request: Request, caller: Authenticated, key: str) -> JSONResponse:
    """Creates a key that may do the same, and shows its token, once. Both are valid for `overlap_seconds`."""
    return await _shown_once(request, await rotate_key(request, caller, key, await _parsed(request, Rotation)))


async def rotate_key(request: Request, caller: Caller, key: str, asked: Rotation) -> str:
    """Returns the token of the new key. Raises `Problem`."""
    old = await api_keys.find(pool_of(request), key, reach(caller))
    if old is None:
        raise _unknown(key)
    expires_at = asked.expires_at or old.expires_at
    await _require_no_stronger(request, caller, old.roles, old.scope, old.networks, expires_at)
    try:
        token = await api_keys.rotate(
            pool_of(request),
            old,
            overlap=timedelta(seconds=asked.overlap_seconds),
            expires_at=expires_at,
            by=actor_of(request, caller.principal),
            limited=True,
        )
    except TooManyKeys:
        raise _too_many() from None
    if token is None:
        raise Problem(409, "ApiKeyNotValid", f"API key {key} is revoked or has expired; create a new one.", key_id=key)
    return token


@router.delete("/{key}", response_model=ApiKeyJson)
@raises("ApiKeyUnknown")
async def revoke_api_key(request: Request, caller: Authenticated, key: str) -> dict[str, Any]:
    """Revokes a key at once. Its streams and its requests that wait end within a second."""
    return (await revoke_key(request, caller, key)).as_json()


async def revoke_key(request: Request, caller: Caller, key: str) -> ApiKey:
    """Raises `Problem`."""
    revoked = await api_keys.revoke(pool_of(request), key, reach(caller), actor_of(request, caller.principal))
    if revoked is None:
        raise _unknown(key)
    return revoked


def reach(caller: Caller) -> Scope:
    """The scope whose keys the request is about: the caller's, or that of the account that it names."""
    return Scope(caller.account) if caller.is_platform else caller.scope


def _scope(asked: NewApiKey, caller: Caller) -> Scope:
    """Raises `Problem` unless exactly the ids of the scope's kind are there."""
    needs = {"platform": (), "provider": ("provider",), "account": ("account",), "channel": ("account", "channel")}
    account = asked.account or (caller.account if "account" in needs[asked.scope] else None)
    given = {"account": account, "channel": asked.channel, "provider": asked.provider}
    for name, value in given.items():
        if (value is not None) != (name in needs[asked.scope]):
            what = "needs" if value is None else "has no"
            raise Problem(422, "ApiKeyInvalid", f"A key of scope {asked.scope!r} {what} {name!r}.")
    return Scope(**given)


async def _require_no_stronger(
    request: Request,
    caller: Caller,
    roles: frozenset[Role],
    scope: Scope,
    networks: tuple[Network, ...],
    expires_at: datetime | None,
) -> None:
    """Raises `Problem` if a key with these could do more than the caller's."""
    principal = caller.principal
    if not principal.scope.contains(scope):
        raise _stronger("scope")
    if not principal.covers(roles, scope):
        raise _stronger("roles")
    maker = None if principal.key_id is None else await api_keys.find(pool_of(request), principal.key_id)
    if maker is None:  # a person with a token, whose expiry says nothing about what the person may do
        return
    if maker.expires_at is not None and (expires_at is None or expires_at > maker.expires_at):
        raise _stronger("time")
    if maker.networks and not (networks and all(_is_inside(one, maker.networks) for one in networks)):
        raise _stronger("networks")


def _is_inside(network: Network, networks: tuple[Network, ...]) -> bool:
    return any(network.version == one.version and network.subnet_of(one) for one in networks)  # type: ignore[arg-type]


def _stronger(what: str) -> Problem:
    detail = f"A key may do no more than the key that makes it: these {what} go beyond it."
    if what in ("scope", "time"):
        detail = f"A key may do no more than the key that makes it: this {what} goes beyond it."
    return Problem(403, "ApiKeyStronger", detail)


def _unknown(key: str) -> Problem:
    return Problem(404, "ApiKeyUnknown", f"There is no API key {key[:128]!r}.", key_id=key[:128])


def _too_many() -> Problem:
    detail = f"An account or a provider may have {MAX_KEYS} API keys; revoke one first."
    return Problem(409, "TooManyApiKeys", detail)


async def _parsed(request: Request, model: type[Model]) -> Model:
    try:
        return model.model_validate(await json_body(request, {}))
    except ValidationError as error:
        raise Problem(422, "ApiKeyInvalid", validation_message(error)) from None


async def _shown_once(request: Request, token: str) -> JSONResponse:
    created = await api_keys.find(pool_of(request), api_keys.key_id_of(token))
    if created is None:
        raise TypeError("a key that was just created is there")
    return JSONResponse(created.as_json() | {"token": token}, 201, {"Cache-Control": "no-store"})
