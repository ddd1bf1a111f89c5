"""The methods of pydantic's compiled validators and serializers. Read in pydantic 2.14.3.

`model_validate_json`, `model_validate` and `model_dump_json` check their arguments first. That costs a good part of a
small message, which each command and each event would pay. These attributes have no public name, but a documented one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def json_validator(model: type[Model]) -> Callable[[bytes | str], Model]:
    """`model_validate_json` of the model."""
    return model.__pydantic_validator__.validate_json


def python_validator(model: type[BaseModel]) -> Callable[..., Any]:
    """`model_validate` of the model."""
    return model.__pydantic_validator__.validate_python


def json_serializer(model: type[BaseModel]) -> Callable[..., bytes]:
    """`model_dump_json` of the model, as bytes: it takes the instance first."""
    return model.__pydantic_serializer__.to_json
