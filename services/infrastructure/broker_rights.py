"""Gives a broker the rights and quotas of `deploy/acls.yaml`, and takes back others of the same principals."""

from __future__ import annotations

from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from services.infrastructure.acls import ACLS, QUOTAS
from services.infrastructure.library_internals.aiokafka_admin import (
    SECURITY_DISABLED,
    acls_of,
    create_acls,
    delete_acls,
    quotas_of,
    set_quotas,
)

_OURS = {f"User:{principal}" for principal in QUOTAS}


async def apply_rights(bootstrap_servers: str, security: dict[str, Any], *, check: bool = False) -> list[str]:
    """Returns a sentence per difference; with ``check`` it changes nothing.

    Nothing differs on a broker without an authorizer, which has no rights to give. ``security`` is a super user's.
    Raises KafkaError where the broker refuses.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security)
    await admin.start()
    try:
        try:
            found = {acl for acl in await acls_of(admin) if acl.principal in _OURS}
        except SECURITY_DISABLED:
            return []
        missing, surplus = sorted(ACLS - found), sorted(found - ACLS)
        limits = await quotas_of(admin)
        quotas = {
            user: changed for user, wanted in QUOTAS.items() if (changed := _changed(wanted, limits.get(user, {})))
        }
        if not check:
            if missing:
                await create_acls(admin, missing)
            if surplus:
                await delete_acls(admin, surplus)
            if quotas:
                await set_quotas(admin, quotas)
    finally:
        await admin.close()
    return [
        *(f"Missing: {acl}." for acl in missing),
        *(f"Too much: {acl}." for acl in surplus),
        *(
            f"Quota of User:{user}: {name} is {limits.get(user, {}).get(name, 'not set')}, "
            f"it should be {'not set' if value is None else value}."
            for user, changed in quotas.items()
            for name, value in changed.items()
        ),
    ]


def _changed(wanted: dict[str, float], found: dict[str, float]) -> dict[str, float | None]:
    """What to set, by name; None where a quota is to be removed."""
    names = sorted({*wanted, *found})
    return {name: wanted.get(name) for name in names if wanted.get(name) != found.get(name)}
