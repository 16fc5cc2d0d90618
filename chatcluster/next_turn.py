"""Where a turn ends of which nobody knows any more how it did: what its chat's history tells. Pure.

The next turn begins with a message of the user that did not come with results of calls, as those do which steer. The
end of a turn, where it is known, stands behind what its transaction brought: so the message that was waiting for it is
told before it.
"""

from __future__ import annotations

from chatcluster.parts import EndedTurn, Message, Role


class NextTurn:
    """``look`` at each message that is told of a turn which began with this revision."""

    __slots__ = ("_began_at", "_next_at", "_results_at", "is_due")

    def __init__(self, began_at: int) -> None:
        self.is_due = False
        """The end of the turn is told."""
        self._began_at = began_at
        self._results_at = 0
        self._next_at: int | None = None
        """The revision of the message that begins the next one, once that was told."""

    def look(self, message: Message) -> None:
        if message.role is Role.TOOL:
            self._results_at = message.revision
        elif message.role is Role.USER and message.revision not in (self._began_at, self._results_at):
            self._next_at = self._next_at or message.revision

    def has_begun(self, value: object) -> bool:
        """Whether it has, before this."""
        is_beside = isinstance(value, Message | EndedTurn) and value.revision == self._next_at
        return self._next_at is not None and not is_beside
