"""The caller of a request, the account that the request is for, and whether the caller may do what it asks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from contracts.ids import ID_PATTERN, is_id
from projections.settings import queries as settings_queries
from services.gateway.authentication.operations import OPERATIONS, Operation, Target
from services.gateway.authentication.principal import Principal
from services.gateway.authentication.roles import Scope
from services.gateway.problems import Problem, channel_unknown
from services.gateway.request_rules import check_rules
from services.infrastructure.postgres import Pool


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal, the token it came as, and the account that the request is for.

    The account is None for all of the platform, or all of a provider.
    """

    principal: Principal
    token: str
    account: str | None

    @property
    def actor(self) -> str:
        return self.principal.subject

    @property
    def scope(self) -> Scope:
        return self.principal.scope

    @property
    def is_platform(self) -> bool:
        return self.scope.kind == "platform"

    @property
    def is_narrow(self) -> bool:
        """Whether the scope is less than an account."""
        return self.scope.kind in ("channel", "provider")

    def required_account(self) -> str:
        """Returns the account. Raises `Problem` if the request names none."""
        if self.account is None:
            raise Problem(
                400,
                "AccountMissing",
                "The platform and providers act for an account: name it in the header Switchboard-Account.",
            )
        return self.account


SECURITY_SCHEME = "bearer"
_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name=SECURITY_SCHEME,
    description="An API key (sb_…), or a token of an issuer that the gateway trusts",
)


async def authenticated(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    switchboard_account: Annotated[
        str | None,
        Header(
            alias="Switchboard-Account",
            description="The account to act for: for keys of the platform or of a provider.",
            json_schema_extra={"pattern": ID_PATTERN},
        ),
    ] = None,
) -> Caller:
    """Returns the caller of a request, whose credential the request guard has checked. Raises `Problem`.

    What it may not do is refused here, before the route looks at anything.
    """
    token = "" if bearer is None else bearer.credentials.strip()
    principal: Principal = request.state.principal
    check_rules(request)
    if switchboard_account is not None and not is_id(switchboard_account):
        raise Problem(400, "ParameterInvalid", "Switchboard-Account is not an account id.")
    own = principal.scope.account
    caller = Caller(principal, token, own or switchboard_account)
    operation = f"{request.method} {request.scope['route'].path_format}"
    request.state.asked = caller, operation
    if own is not None and switchboard_account not in (None, own):
        raise Problem(403, "Forbidden", "The credential is for its own account alone; leave out Switchboard-Account.")
    return await admitted(request, caller, operation)


Authenticated = Annotated[Caller, Depends(authenticated)]


async def admitted(request: Request, caller: Caller, operation: str) -> Caller:
    """Returns the caller of an operation, named as in `OPERATIONS`, as the account that it is for. Raises `Problem`."""
    row = OPERATIONS[operation]
    require_allowed(caller.principal, row)
    if row.target in (Target.CHANNEL, Target.CHANNELS):
        return await confined(caller, request.app.state.pool, _named_channels(request))
    return caller


def require_allowed(principal: Principal, operation: Operation) -> None:
    """Raises `Problem` if the principal lacks every role of the operation, or its scope is of a kind too narrow."""
    if not principal.roles & operation.roles:
        needed = " or ".join(sorted(operation.roles))
        raise Problem(403, "Forbidden", f"This needs the role {needed}, which the credential does not have.")
    kind = principal.scope.kind
    if operation.target is Target.PLATFORM and kind != "platform":
        raise Problem(403, "Forbidden", "Only the platform may do this.")
    if operation.target is Target.ACCOUNT and kind not in ("platform", "account"):
        raise Problem(403, "Forbidden", f"This is for a whole account, and the credential for one {kind} alone.")


async def confined(caller: Caller, pool: Pool, channels: list[str]) -> Caller:
    """Returns the caller as the account of the channels, of which a narrow caller must name at least one.

    Raises `Problem` for a channel outside of the scope of a channel or a provider, the same as for an unknown one. The
    scope of an account is for the queries of the route, which look for the channel among the account's.
    """
    scope = caller.scope
    if not caller.is_narrow:
        return caller
    if not channels:
        raise Problem(403, "Forbidden", f"The credential is for one {scope.kind}: name the channel in 'channel'.")
    for channel in channels:
        if scope.kind == "channel":
            account = scope.account if channel == scope.channel else None
        else:
            account = await settings_queries.account_of_providers_channel(pool, scope.provider, channel)
        if account is None or caller.account not in (None, account):
            raise channel_unknown(channel[:128])
        caller = replace(caller, account=account)
    return caller


def _named_channels(request: Request) -> list[str]:
    channel = request.path_params.get("channel")
    return request.query_params.getlist("channel") if channel is None else [channel]
