"""From what is to what is wanted: the commands that lead there, in an order in which none stands in another's way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from pydantic import ValidationError

from contracts.business_system import (
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
    OpenBusinessSystem,
)
from contracts.channel import EditChannel
from contracts.commands import Command
from contracts.envelope import problem_of
from contracts.intent import AddIntent, DeleteIntent, EditIntent, ReferToIntent, ReleaseIntent
from contracts.message import CommandData, EventData
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.rejections import Rejection
from contracts.sms import ToggleSms
from services.audit.history import systems_of
from services.audit.leaves import (
    CHANNEL,
    INTENT_FIELDS,
    INTENTS,
    OTP_SCHEDULING,
    SIGNATURES,
    SMS,
    SYSTEM_FIELDS,
    SYSTEMS,
    Leaves,
    Path,
    changes,
)
from services.audit.log import AuditError
from services.domain.address import Allowances, target_of
from services.domain.decide import decide
from services.domain.decision import Context, Mark
from services.domain.evolve import evolve
from services.domain.state import ChannelState


@dataclass(frozen=True, slots=True)
class Leave:
    """What a person must say besides: ``force`` where templates refer to what changes, and the acknowledgement that
    sending from own numbers may incur international rates."""

    force: bool = False
    international_rates_acknowledged: bool = False


def plan(current: Leaves, wanted: Leaves, leave: Leave) -> list[CommandData]:
    """Empty where nothing differs. Raises `AuditError` where what is wanted breaks the contract."""
    differing = {path for path in changes(current, wanted) if path[-1] != SIGNATURES}
    if (CHANNEL, "retired") in differing:
        raise AuditError("A channel is retired for good; no command brings one back, or retires one unasked.")
    commands = [
        *_channel(differing, wanted),
        *_deletions(differing, wanted, leave),
        *_systems(differing, current, wanted),
        *_intents(differing, current, wanted, leave),
    ]
    if (SMS, "enabled") in differing:
        commands.append(_made(ToggleSms, enabled=wanted[SMS, "enabled"]))
    if (OTP_SCHEDULING,) in differing:
        acknowledged = {"international_rates_acknowledged": True} if leave.international_rates_acknowledged else {}
        commands.append(_made(SaveOtpScheduling, **wanted[OTP_SCHEDULING,], **acknowledged))
    return commands


def _made(kind: type[CommandData], **data: Any) -> CommandData:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        about = "/".join(str(data[key]) for key in ("system", "code") if key in data)
        raise AuditError(f"{kind.__name__}{f' of {about}' if about else ''}: {problem_of(error)}") from None


def _channel(differing: set[Path], wanted: Leaves) -> Iterable[CommandData]:
    fields = {field: wanted[CHANNEL, field] for field in ("name", "provider") if (CHANNEL, field) in differing}
    if fields:
        yield _made(EditChannel, **fields)


def _deletions(differing: set[Path], wanted: Leaves, leave: Leave) -> Iterable[CommandData]:
    forced = {"force": True} if leave.force else {}
    gone = sorted(path for path in differing if path[0] == SYSTEMS and len(path) in (2, 4) and path not in wanted)
    for path in gone:
        if len(path) == 2:
            yield _made(DeleteBusinessSystem, system=path[1], **forced)
        elif path[:2] in wanted:
            yield _made(DeleteIntent, system=path[1], code=path[3], **forced)


def _systems(differing: set[Path], current: Leaves, wanted: Leaves) -> Iterable[CommandData]:
    names = sorted({path[1] for path in differing if path[0] == SYSTEMS and path[:2] in wanted})
    for system in names:
        here = (SYSTEMS, system)
        fields = {field: wanted[*here, field] for field in SYSTEM_FIELDS if (*here, field) in differing}
        disabled = fields.pop("disabled", None)
        if here not in current:
            yield _made(OpenBusinessSystem, system=system, **fields)
        elif fields:
            yield _made(EditBusinessSystem, system=system, **fields)
        if disabled is True:
            yield _made(DisableBusinessSystem, system=system)
        elif disabled is False and here in current:
            yield _made(EnableBusinessSystem, system=system)


def _intents(differing: set[Path], current: Leaves, wanted: Leaves, leave: Leave) -> Iterable[CommandData]:
    places = sorted({path[:4] for path in differing if len(path) >= 4 and path[2] == INTENTS and path[:4] in wanted})
    for here in places:
        _, system, _, code = here
        fields = {field: wanted[*here, field] for field in INTENT_FIELDS if (*here, field) in differing}
        templates = fields.pop("templates", None)
        if here not in current:
            yield _made(AddIntent, system=system, code=code, **fields)
        elif fields:
            forced = {"force": True} if leave.force and "schema" in fields else {}
            yield _made(EditIntent, system=system, code=code, **fields, **forced)
        if templates is not None:
            has = current.get((*here, "templates"), [])
            for template in sorted(set(has) - set(templates)):
                yield _made(ReleaseIntent, system=system, code=code, template=template)
            for template in sorted(set(templates) - set(has)):
                yield _made(ReferToIntent, system=system, code=code, template=template)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What the commands would do one after the other: the events of each that would be accepted, and why the next one
    would not."""

    events: tuple[tuple[EventData, ...], ...]
    refused: tuple[CommandData, Rejection] | None
    state: ChannelState


def rehearse(channel: str, state: ChannelState, commands: list[CommandData], now: int) -> Rehearsal:
    """Decided and folded by the domain's own rules, on what was read; nothing is sent.

    Where API Request URLs may lead is the decider's to judge: here only their form is.
    """
    known = state.channel
    if known is None:
        raise AuditError(f"Channel {channel!r} is not registered.")
    allowances = _all_allowed(commands)
    done: list[tuple[EventData, ...]] = []
    for command in commands:
        clock = max(now, known.time)
        context = Context(channel, known.account, clock, bytes(32), allowances)
        decision = decide(state, cast("Command", command), context)
        if isinstance(decision, Rejection):
            return Rehearsal(tuple(done), (command, decision), state)
        for event in decision.events:
            version = 1 if state.channel is None else state.channel.version + 1
            mark = Mark(version, clock, sha256(str(version).encode()).hexdigest())
            state = evolve(state, event, known.account, mark)
        done.append(decision.events)
    return Rehearsal(tuple(done), None, state)


def valid_keys(state: ChannelState, now: int) -> dict[str, list[str]]:
    """Business system -> the ids of its valid signatures, the current one first."""
    return {
        name: [one.key_id for one in record.signatures if one.is_valid(now)]
        for name, record in systems_of(state).items()
    }


def what_becomes_of_signatures(current: ChannelState, reached: ChannelState, now: int) -> list[str]:
    """Sentences on the secrets that a plan deletes for good, and on the signatures that it draws."""
    has, will = valid_keys(current, now), valid_keys(reached, max(now, _time(reached)))
    said = []
    for system in sorted(has.keys() | will.keys()):
        gone = [key for key in has.get(system, ()) if key not in will.get(system, ())]
        if gone:
            said.append(f"This deletes the secret of {', '.join(gone)} of business system {system!r} for good.")
        if any(key not in has.get(system, ()) for key in will.get(system, ())):
            said.append(f"A new signature of business system {system!r} is drawn; its receiver must be given it.")
    return said


def _time(state: ChannelState) -> int:
    return 0 if state.channel is None else state.channel.time


def _all_allowed(commands: Iterable[CommandData]) -> Allowances:
    places = []
    for command in commands:
        target = target_of(getattr(command, "api_request_url", None) or "")
        if not isinstance(target, str):
            places.append(f"[{target.host}]:{target.port}")
    return Allowances.parse(places)
