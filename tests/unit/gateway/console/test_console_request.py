"""The form of a request of the console is bounded, in bytes."""

from __future__ import annotations

import pytest

from services.gateway.console.console_request import fields_of
from services.gateway.problems import Problem


@pytest.mark.parametrize("body", [b"\xff", b"a=1&" * 2_001])
def test_a_form_that_cannot_be_one_is_refused(body: bytes) -> None:
    with pytest.raises(Problem) as refused:
        fields_of(body)
    assert (refused.value.status, refused.value.name) == (400, "BodyUnreadable")
