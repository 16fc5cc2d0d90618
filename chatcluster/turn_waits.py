"""The log of a turn that also tells what its calls have waited for: where the chat came to rest for somebody.

The ledger has it (``ports/ledger.py``), for good. So a reader that comes later is told the same as one that was there:
it is looked up before results of the step are told, when somebody is waited for, and at the end of what there
is. A step without calls looks nothing up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from chatcluster import events
from chatcluster.parts import Message, Role, ToolCallPart, ToolResultPart
from chatcluster.shown import Value
from chatcluster.turn_log import Told, TurnLog, UpToDate, Waited


class WaitsLog(TurnLog):
    def __init__(self, *place: Any, is_calling: bool = False, **ports: Any) -> None:
        """``is_calling``: the message that it starts with is one of the model's, and asks for calls."""
        super().__init__(*place, **ports)
        self._calling_id = self._message_id if is_calling else None
        """The message that asks for the calls of the step under way, if it has any."""
        self._waits_told_before: Value | UpToDate | None = None

    def _lacks(self, value: Value | UpToDate) -> bool:
        return self._lacks_waits(value) or super()._lacks(value)

    def _lacks_waits(self, value: Value | UpToDate) -> bool:
        if self._calling_id is None or value is self._waits_told_before or self._next.has_begun(value):
            return False
        match value:
            case Message(role=Role.TOOL, id=message_id):
                return message_id > self._message_id
            case events.ActionRequiredEvent() | UpToDate():
                return True
        return False

    async def _look(self, value: Value | UpToDate) -> list[Told]:
        if not self._lacks_waits(value):
            return await super()._look(value)
        assert self._calling_id is not None, "else nothing is lacking"
        waits = await self._store.waits(self._chat_id, self._calling_id)
        self._waits_told_before = value
        times = max((len(waits.get(call_id, ())) for call_id in _answered_by(value) or waits), default=0)
        return [Waited(waits, times)] if times else []

    def _tell(self, value: Value | UpToDate) -> Sequence[Told]:
        if isinstance(value, Message) and value.role is Role.ASSISTANT:
            asks = any(isinstance(part, ToolCallPart) for part in value.parts)
            self._calling_id = value.id if asks else None
        return super()._tell(value)


def _answered_by(value: object) -> Collection[str]:
    parts = value.parts if isinstance(value, Message) else ()
    return [part.call_id for part in parts if isinstance(part, ToolResultPart)]
