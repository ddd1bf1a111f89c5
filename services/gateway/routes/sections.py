"""The sections of a channel's settings: each is shown and saved as a whole, by two routes that are made from it."""

from __future__ import annotations

import re

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from contracts.message_types import COMMANDS
from contracts.section import SectionSettings
from contracts.settings import SECTIONS
from services.gateway.commands import CommandRequest, command_response, command_route
from services.gateway.problems import title
from services.gateway.reads import ConditionalRead

router = APIRouter(prefix="/v1/channels/{channel}")


def _add_routes(field: str, section: type[SectionSettings]) -> None:
    """Adds GET and PUT of a section, under its resource. ``field`` is its name in `ChannelSettings`."""
    resource = section.resource
    (command_type,) = (command for command in COMMANDS.values() if getattr(command, "resource", None) == resource)
    command_name = re.sub(r"(?<!^)(?=[A-Z])", "_", command_type.__name__).lower()

    tag = title("".join(word.capitalize() for word in resource.split("-")))

    async def get_section(read: ConditionalRead) -> Response:
        found = await read.settings()
        return read.respond(getattr(found.settings, field).model_dump(), found.headers(resource))

    async def save_section(command: CommandRequest) -> JSONResponse:
        return command_response(await command.send(command_type.__name__, await command.body()))

    get_section.__doc__ = f"Shows the channel's {tag}."
    save_section.__doc__ = f"Saves the channel's {tag} as a whole."
    router.get(f"/{resource}", tags=[tag], name=f"get_{field}", response_model=section)(get_section)
    router.put(f"/{resource}", tags=[tag], name=command_name, **command_route(command_type))(save_section)


for _field, _section in SECTIONS.items():
    _add_routes(_field, _section)
