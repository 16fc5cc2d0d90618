"""People and clients whom a chat asks: they approve, deny and answer calls that wait, some of them never."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import trio

from chatcluster.chat import (
    AnswerQuestions,
    Approve,
    CallState,
    Deny,
    OpenCall,
    Status,
    SubmitToolResults,
    ToolResult,
)
from chatcluster.chat.questions import Reply, ReplyAction
from simulation.call_watch import Answer
from simulation.questions import KEY, accepting, asks

if TYPE_CHECKING:
    from simulation.client import Client
    from simulation.run import World

LOOK_SECONDS = 0.7
DILIGENCE = (0.0, 0.4, 0.4)
"""How often somebody answers a call that waits, at each look; what is left waits until its time is over."""


class People:
    """``run`` answers until it is cancelled."""

    def __init__(self, world: World, client: Client, draw: Random) -> None:
        self._world = world
        self._client = client
        self._draw = draw
        self._diligence = draw.choice(DILIGENCE)

    async def run(self, chats: list[UUID]) -> None:
        while True:
            await trio.sleep(self._draw.expovariate(1 / LOOK_SECONDS))
            for chat_id in chats:
                state = self._world.witness.database.chats[chat_id].state
                waiting = [call for call in state.open_calls if call.waits or call.asks_now]
                is_asked = state.status is Status.REQUIRES_ACTION or any(call.asks_now for call in waiting)
                if is_asked and self._draw.random() < self._diligence:
                    await self._answer(chat_id, waiting)

    async def _answer(self, chat_id: UUID, waiting: list[OpenCall]) -> None:
        """Often twice where other calls wait as well: then the chat still asks when the second answer comes."""
        command = self._answer_to(self._draw.choice(waiting))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._client.answer, chat_id, command)
            if self._draw.random() < (0.2 if len(waiting) == 1 else 0.6):  # somebody else is as quick
                nursery.start_soon(self._client.answer, chat_id, command)

    def _answer_to(self, call: OpenCall) -> Answer:
        if call.state is CallState.CLIENT:
            return SubmitToolResults((ToolResult(call.call_id, f"<{call.call_id} by the client>"),))
        chance = self._draw.random()
        if asks(call):
            word = f"word {chance:.6f} of {call.call_id}"
            replies = {KEY: Reply(ReplyAction.DECLINE)} if chance < 0.2 else accepting(word)
            return AnswerQuestions(call.call_id, replies, call.digest if chance < 0.8 else None)
        if chance < 0.2:
            return Deny(call.call_id)
        arguments = '{"n": 7}' if chance < 0.4 else None
        return Approve(call.call_id, digest=call.digest, arguments=arguments)
