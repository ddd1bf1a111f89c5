"""The rate book: accounts read it, the platform applies a whole one."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from contracts.countries import CountryCode
from contracts.envelope import validation_message
from contracts.message_routing import FeeClass
from contracts.rates import ApplyRateBook
from services.gateway.authentication.caller import Authenticated
from services.gateway.json_documents import document, json_response
from services.gateway.problem_types import raises
from services.gateway.problems import Problem
from services.gateway.requests import body_schema, json_body, message_router_of, pool_of
from services.message_router.message_schemas import RateBook, RateBookPage
from services.message_router.rate_book import RateBookNotApplied, RateFilter, RatePage, apply_and_wait, rate_page

router = APIRouter(prefix="/v1/rates", tags=["Rates"])

_PLATFORM = "platform"
_TIMEOUT_S = 20.0


class PutRates(ApplyRateBook):
    """A whole rate book; its version is the next one."""

    version: int = 1


_PAGE = re.compile(r"([1-9][0-9]{0,14})/([1-9][0-9]{0,8})")


@router.get("", response_model=RateBookPage)
@raises("RateBookUnknown")
async def get_rates(
    request: Request,
    _: Authenticated,
    version: Annotated[int | None, Query(ge=1, lt=2**53, description="Default: the newest.")] = None,
    country: Annotated[CountryCode | None, Query(description="Only those of this country (ISO 3166-1).")] = None,
    fee_class: Annotated[FeeClass | None, Query(description="Only those of this fee class.")] = None,
    after: Annotated[str | None, Query(max_length=32)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> Response:
    """Shows what a message costs by country and fee class, each rate from a UTC date on; continue with `after`.

    Version 0 is the empty book before any was applied.
    """
    place = 0
    if after is not None:
        page = _PAGE.fullmatch(after)
        if page is None or version not in (None, int(page[1])):
            raise Problem(400, "ParameterInvalid", "'after' must be a previous page's 'next'.")
        version, place = int(page[1]), int(page[2])
    found = await rate_page(pool_of(request), version, RateFilter(country, fee_class, place), limit)
    if found is None and version is not None:
        raise Problem(404, "RateBookUnknown", f"There is no rate book {version}.", rate_book=version)
    number, sample, rates, last = found or RatePage(0, sample=False, rates="[]", last=None)
    following = None if last is None else f"{number}/{last}"
    return json_response({"version": number, "sample": sample, "rates": document(rates), "next": following})


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
