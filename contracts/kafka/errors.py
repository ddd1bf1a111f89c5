"""Exceptions of the clients."""

from __future__ import annotations


class PublisherError(Exception):
    """The broker cannot be reached or refuses the command, or the publisher is closed."""


class NotOpen(RuntimeError):
    """A client is used outside of its ``async with`` block, which opens and closes it."""

    def __init__(self, client: str, statement: str = "async with") -> None:
        super().__init__(f"The {client} is not open: use it inside of `{statement} {client}(...) as …:`.")


class OutcomeTimeout(Exception):
    """No outcome within the timeout. The command may still be decided: resend it with the same id."""

    def __init__(self, command_id: str, seconds: float) -> None:
        super().__init__(
            f"No outcome within {seconds:g} s. Command {command_id} may yet be decided; "
            "send it again with the same id to get its outcome."
        )
        self.command_id = command_id


class SubscriberError(Exception):
    """The broker cannot be reached, or has no events topic."""
