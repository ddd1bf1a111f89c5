"""Why an audit cannot answer; each message is a sentence for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.audit.log.source import LogPosition


class AuditError(Exception):
    """The question cannot be answered."""


class Unclear(AuditError):
    """A moment, file or name in the question cannot be read."""


class NoSuchVersion(AuditError):
    """The channel does not have this version, or not yet."""


class BrokenLog(AuditError):
    """A record of the log cannot be read or folded."""


class DamagedLog(BrokenLog):
    """The bytes of the log are damaged from ``position`` on: a checksum is wrong, or they are no records."""

    def __init__(self, position: LogPosition) -> None:
        super().__init__(
            f"The log is damaged on its way or its disk: the records from {position} on do not have the checksum "
            "that was written with them; `switchboard audit verify` names all that is wrong."
        )
        self.position = position
