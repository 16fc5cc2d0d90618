"""The ends of a turn, which may end the tenure as well: each is one commit of the owner.

Once that is committed the tenure goes on to the message that was promoted with it, or its stream is closed. In a full
replica it gives way instead: chats whose queues never get empty would keep its places for ever. Raises what commits
raise; then nothing is kept, and the chat's next owner ends the turn.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from chatcluster.attempt import interrupted
from chatcluster.chat import DRAINED, RELEASED, ErrorInfo, Fail, FinishInterruption, OwnerCommand, Release
from chatcluster.config import Settings
from chatcluster.held_chat import HeldChat
from chatcluster.ports import Outside, Stints
from chatcluster.turn_calls import TurnCalls


class TurnEnds:
    """The ends of turns in one tenure. ``open`` comes first."""

    def __init__(self, held: HeldChat, is_full: Callable[[], bool]) -> None:
        self.calls: TurnCalls
        self.draining = False
        self.gives_way = False
        """A turn has ended while others may wait for our place: the next one of this chat comes by turns."""
        self._held = held
        self._is_full = is_full
        self._stints: Stints

    def open(self, outside: Outside, settings: Settings, nursery: trio.Nursery) -> TurnCalls:
        """The calls of this tenure, before the first end. Tools run in ``nursery``."""
        self._stints = outside.stints
        self.calls = TurnCalls(self._held, outside, settings, nursery, lambda: self.draining)
        return self.calls

    def __repr__(self) -> str:
        return f"<TurnEnds{' draining' if self.draining else ''}{' gives way' if self.gives_way else ''}>"

    async def finish_interruption(self) -> None:
        """Keep what was streamed of the interrupted attempt: no more, no less. And what tools gave meanwhile. Of an
        attempt whose owner is gone the row says which model it was of."""
        chat, partial = self._held.chat, None
        if self._held.said.deltas:
            wanted = await self._held.history.asked_model(chat)
            partial = interrupted(self._held.said, self._stints(wanted, chat.failures).model or wanted)
        await self.calls.keep_results()
        await self.end(FinishInterruption(partial, self.calls.results), "interrupted")

    async def fail(self, error: ErrorInfo) -> None:
        await self.end(Fail(error), "error")

    async def release(self) -> None:
        """Give the chat back, with its work undone."""
        cause = DRAINED if self.draining else RELEASED
        await self.end(Release(cause, self._held.newest_attempt), "released")

    async def end(self, command: OwnerCommand, word: str) -> None:
        """The turn is over; ``word`` is what the stream is closed with if the tenure is as well."""
        outcome = await self._held.commit(command)
        self.calls.forget_results()
        if self._held.owned:
            await self.calls.close()
            self._held.stream.turn(outcome.messages[-1].id, self._held.chat.history_version)
            self.gives_way = self._is_full()
        else:
            self._held.stream.close(word)

    def rest(self) -> None:
        """The tenure is over if all calls that are open wait for somebody."""
        if not self._held.owned:
            self._held.stream.close("requires_action")
