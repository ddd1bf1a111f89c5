"""The base class of every rejection."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

_NAMED_IN_A_SENTENCE = 10


class Rejection(BaseModel):
    """``sentence`` is a template over the fields."""

    model_config = ConfigDict(frozen=True)

    sentence: ClassVar[str]

    @property
    def message(self) -> str:
        facts = {
            name: _listed(value) if isinstance(value, list) else value for name, value in self.model_dump().items()
        }
        return self.sentence.format(**facts)


def _listed(names: list[str]) -> str:
    others = " and others" if len(names) > _NAMED_IN_A_SENTENCE else ""
    return ", ".join(names[:_NAMED_IN_A_SENTENCE]) + others
