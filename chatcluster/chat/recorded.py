"""Which repeat of an owner's commit is the same commit.

An owner that did not hear what became of its commit repeats it. If the first one happened, the repeat is refused as
any commit from a history that has moved is; then its store looks for the messages that came of this tenure, this
history and this event, and gives them to ``is_repeat``. Only if they are the outcome of this very commit is the repeat
answered with them. Any other commit from the same history stays refused: it would overwrite what it did not know of.

A tenure adds to one history once, because that moves the history, so there is one candidate at most. A commit without
messages leaves none, and its repeat does no harm, or is refused as the tenure is over.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatcluster.chat.commands import FinishInterruption, OwnerCommand
from chatcluster.parts import Message, NewMessage, Role


def is_repeat(command: OwnerCommand, recorded: Sequence[Message]) -> bool:
    """Whether ``recorded``, which an event of the same name inserted from the same history, came of this command.

    It did if it begins with the owner's own messages. What a decision adds after them are results of open calls and the
    head of the queue.
    """
    own = _own_messages(command)
    first, rest = recorded[: len(own)], recorded[len(own) :]
    same = [(message.role, message.parts) for message in first] == [(message.role, message.parts) for message in own]
    return bool(recorded) and same and all(message.role is not Role.ASSISTANT for message in rest)


def _own_messages(command: OwnerCommand) -> tuple[NewMessage, ...]:
    if isinstance(command, FinishInterruption):
        return command.results if command.partial is None else (command.partial, *command.results)
    return getattr(command, "messages", ())
