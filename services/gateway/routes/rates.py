"""The rate book: accounts read it, the platform applies a whole one."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from contracts.envelope import validation_message
from contracts.rates import ApplyRateBook
from services.gateway.authentication.caller import Authenticated
from services.gateway.json_documents import document, json_response
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.requests import body_schema, json_body, message_router_of, pool_of
from services.message_router.message_schemas import RateBook
from services.message_router.rate_book import RateBookNotApplied, apply_and_wait, rate_book_text

router = APIRouter(prefix="/v1/rates", tags=["Rates"])

_PLATFORM = "platform"
_TIMEOUT_S = 20.0


class PutRates(ApplyRateBook):
    """A whole rate book; its version is the next one."""

    version: int = 1


@router.get("", response_model=RateBook)
@raises("RateBookUnknown")
async def get_rates(
    request: Request,
    _: Authenticated,
    version: Annotated[int | None, Query(ge=1, lt=2**53, description="Default: the newest.")] = None,
) -> Response:
    """Shows what a message costs by country and fee class, each rate from a UTC date on. Version 0 is the empty book
    before any was applied."""
    book = await rate_book_text(pool_of(request), version)
    if book is None and version is not None:
        raise Problem(404, "RateBookUnknown", f"There is no rate book {version}.", rate_book=version)
    return json_response({"version": 0, "sample": False, "rates": []} if book is None else document(book))


@router.put("", response_model=RateBook, openapi_extra=body_schema(PutRates))
@raises("RateBookNotApplied")
async def put_rates(request: Request, caller: Authenticated) -> Response:
    """Applies a rate book as a whole, instead of the one before. Only the platform may. Its body may have 4 MiB."""
    try:
        rates = PutRates.model_validate(await json_body(request, {}))
    except ValidationError as error:
        raise Problem(422, "InvalidCommand", validation_message(error)) from None
    router_client = message_router_of(request)
    book = ApplyRateBook(version=1, sample=rates.sample, rates=rates.rates)
    publish = partial(router_client.apply_rate_book, account=_PLATFORM, actor=caller.actor)
    try:
        applied = await apply_and_wait(pool_of(request), book, publish, _TIMEOUT_S)
    except RateBookNotApplied as error:
        raise Problem(504, "RateBookNotApplied", str(error)) from None
    return json_response(document(applied.model_dump_json()))
