"""What `POST /v1/deliveries/replay` takes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.gateway.routes.deliveries import ReplayMany


def test_no_state_is_not_every_state() -> None:
    with pytest.raises(ValidationError, match="states"):
        ReplayMany.model_validate({"states": []})


def test_what_was_delivered_is_replayed_only_where_it_is_named() -> None:
    assert ReplayMany.model_validate({}).states == ("dead",)
    assert ReplayMany.model_validate({"states": ["delivered"]}).states == ("delivered",)
