"""Calls that change something in a workspace: put to its agent under the ID of the chat's call, and followed to their
end.

Who is authoritative: the agent's ledger. Each owner of the chat puts the call again, and so attaches to it. What a
stop, an edit or an archive takes away is ended at the agent at once; if that cannot be told the agent, the workspace's
host finds it missing in the chats' ledger and ends it. What a drain or a takeover leaves to the next owner goes on.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from typing import Any

import trio

from chatcluster.chat import Status
from chatcluster.errors import ChatclusterError
from chatcluster.parts import encode
from chatcluster.ports import Chat, Printed, Store, Tell, ToolCall
from chatcluster.tools.workspace_link import Link, Refused
from chatcluster.workspace_wire import CallAnswer, CallRequest, CallState, Kind

WAIT_SECONDS = 1.0
"""Until output comes: how long one question waits for it."""
CANCEL_SECONDS_MAX = 1.6
"""Less than a cancelled call is waited for."""


class WorkspaceCalls:
    """The calls of one chat in its workspace, for one turn."""

    def __init__(self, link: Link, store: Store) -> None:
        self._link = link
        self._store = store

    async def run(
        self,
        call: ToolCall,
        kind: Kind,
        arguments: dict[str, Any],
        tell: Tell,
        *,
        deadline_seconds: float | None = None,
    ) -> CallAnswer:
        """Carry a call out, or go on with it: until it has ended, or goes on in the background. Raises ``Refused``."""
        request = request_of(self._link.chat, kind, arguments, deadline_seconds)
        try:
            answer = await self._link.ask(lambda place: place.put(call.call_id, request))
            return await self._followed(answer, tell)
        except trio.Cancelled:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CANCEL_SECONDS_MAX):
                await self._end_if_stopped(call.call_id)
            raise

    async def answer(self, call_id: str, *, offset: int = 0, wait_seconds: float = 0) -> CallAnswer:
        """How a call stands. Raises ``Refused``."""
        return await self._link.ask(lambda place: place.call(call_id, offset=offset, wait_seconds=wait_seconds))

    async def _followed(self, answer: CallAnswer, tell: Tell) -> CallAnswer:
        offset = 0
        while True:
            came = answer.output if answer.offset == offset else b""
            if came:
                tell(Printed(offset, came))
                offset += len(came)
            is_missing = not came and offset < answer.kept_bytes  # it is said to be there, and is not given
            if answer.state.ended and (is_missing or offset >= answer.kept_bytes):
                return answer
            if answer.state is CallState.RUNNING and answer.background:
                return answer
            if is_missing:
                await trio.sleep(WAIT_SECONDS)
            answer = await self.answer(answer.call_id, offset=offset, wait_seconds=WAIT_SECONDS)
            self._link.touch()

    async def _end_if_stopped(self, call_id: str) -> None:
        with suppress(Refused, ChatclusterError):  # then it is the host's to find it
            epoch = await self._stopped_in(call_id)
            if epoch is not None:
                chat_id = str(self._link.chat.id)
                await self._link.ask(lambda place: place.cancel(call_id, epoch, chat_id=chat_id))

    async def _stopped_in(self, call_id: str) -> int | None:
        """The epoch in which somebody took the call away; None if somebody goes on with it."""
        chat = await self._store.get(self._link.chat.id)
        if chat.status is Status.RUNNING and not chat.archived:
            calls = await self._store.open_calls(chat.id)
            if any(call.call_id == call_id for call in calls):
                return None
        return chat.epoch


def request_of(chat: Chat, kind: Kind, arguments: dict[str, Any], deadline_seconds: float | None = None) -> CallRequest:
    return CallRequest(
        chat_id=str(chat.id),
        epoch=chat.epoch,
        digest=sha256(encode([kind, arguments])).hexdigest(),
        kind=kind,
        input=arguments,
        deadline_seconds=deadline_seconds,
    )


async def output_of(calls: WorkspaceCalls, answer: CallAnswer, bytes_max: int, *, offset: int = 0) -> bytes:
    """What a call has written from ``offset`` on, as far as it is kept. Raises ``Refused``."""
    output = bytearray()
    end = min(answer.kept_bytes, offset + bytes_max)
    while offset + len(output) < end:
        piece = (await calls.answer(answer.call_id, offset=offset + len(output))).output
        if not piece:
            break
        output += piece
    return bytes(output[:bytes_max])
