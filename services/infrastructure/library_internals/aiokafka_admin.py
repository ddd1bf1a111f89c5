"""Requests of an operator that aiokafka's admin client has no method for, or one for a single entry only.

Read in aiokafka 0.14.0, which pyproject.toml pins. Each raises KafkaError where the broker refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import (
    CreateAclsRequest,
    CreateAclsRequest_v1,
    DeleteAclsRequest,
    DeleteAclsRequest_v1,
    DescribeAclsRequest,
    DescribeClientQuotasRequest,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Float64, Int16, Int32, Schema, String

from services.infrastructure.acls import AclEntry

_ANY = 1
_ENTITY = Array(("entity_type", String("utf-8")), ("entity_name", String("utf-8")))
_ANY_USER = 2
SECURITY_DISABLED = errors.SecurityDisabled
"""What a broker without an authorizer answers to questions about ACLs."""


class _CreateAcls(CreateAclsRequest):  # type: ignore[misc]
    """aiokafka's own has room for one entry; the protocol's takes them all at once."""

    def __init__(self, entries: Iterable[AclEntry]) -> None:
        self._entries = [tuple(entry) for entry in entries]

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class is not CreateAclsRequest_v1:
            raise errors.IncompatibleBrokerVersion("the broker knows no ACLs by prefix")
        return request_struct_class(self._entries)


class _DeleteAcls(DeleteAclsRequest):  # type: ignore[misc]
    def __init__(self, entries: Iterable[AclEntry]) -> None:
        self._entries = [tuple(entry) for entry in entries]

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class is not DeleteAclsRequest_v1:
            raise errors.IncompatibleBrokerVersion("the broker knows no ACLs by prefix")
        return request_struct_class(self._entries)


class _AlterClientQuotasResponse(Response):  # type: ignore[misc]
    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("entries", Array(("error_code", Int16), ("error_message", String("utf-8")), ("entity", _ENTITY))),
    )


class _AlterClientQuotasRequest(RequestStruct):  # type: ignore[misc]
    """Version 0 of KIP-546's request."""

    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = _AlterClientQuotasResponse
    SCHEMA = Schema(
        (
            "entries",
            Array(
                ("entity", _ENTITY), ("ops", Array(("key", String("utf-8")), ("value", Float64), ("remove", Boolean)))
            ),
        ),
        ("validate_only", Boolean),
    )


class _AlterClientQuotas(Request[_AlterClientQuotasRequest]):  # type: ignore[misc]
    API_KEY = 49

    def __init__(self, quotas: Mapping[str, Mapping[str, float | None]]) -> None:
        self._quotas = quotas

    def build(self, request_struct_class: Any) -> Any:
        entries = [
            ([("user", user)], [(name, value or 0.0, value is None) for name, value in limits.items()])
            for user, limits in self._quotas.items()
        ]
        return request_struct_class(entries=entries, validate_only=False)


async def set_quotas(admin: AIOKafkaAdminClient, quotas: Mapping[str, Mapping[str, float | None]]) -> None:
    """Sets quotas by user and name; None removes one."""
    response = await admin._send_request(_AlterClientQuotas(quotas))
    _check((code, message) for code, message, _ in response.entries)


async def quotas_of(admin: AIOKafkaAdminClient) -> dict[str, dict[str, float]]:
    """The quotas of each user by name, without those of a user's single clients."""
    response = await admin._send_request(DescribeClientQuotasRequest([("user", _ANY_USER, None)], strict=True))
    _check([(response.error_code, response.error_message)])
    return {entity[0][1]: dict(values) for entity, values in response.entries}


async def create_acls(admin: AIOKafkaAdminClient, entries: Sequence[AclEntry]) -> None:
    response = await admin._send_request(_CreateAcls(entries))
    _check(response.creation_responses)


async def delete_acls(admin: AIOKafkaAdminClient, entries: Sequence[AclEntry]) -> None:
    response = await admin._send_request(_DeleteAcls(entries))
    _check((code, message) for code, message, _ in response.filter_responses)


async def acls_of(admin: AIOKafkaAdminClient) -> set[AclEntry]:
    """All that the broker has. Raises `SECURITY_DISABLED` where it has no authorizer."""
    response = await admin._send_request(DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY))
    _check([(response.error_code, response.error_message)])
    return {
        AclEntry(kind, name, pattern, principal, host, operation, permission)
        for kind, name, pattern, acls in response.resources
        for principal, host, operation, permission in acls
    }


def _check(answers: Iterable[tuple[int, str]]) -> None:
    for code, message in answers:
        if code != 0:
            raise errors.for_code(code)(message)
