"""The tools by which a chat has others work for it: sub-agents.

They are offered where the deployment, or the chat, turns agents on, to chats that are not as deep as agents may go.
An agent has the model of its chat; where the deployment names one for work on a screen, a call may ask for that.
``wait_agent`` is run nowhere: the ledger keeps the call until its agent rests (``families.py``). The others are
transactions on other chats, each one that knows a repeat by the ID of the call: so all may be run again. Only agents
below the chat itself are spoken to.

What happens on failure: what is refused is an error result that says why. While Postgres cannot be reached a call is
tried again, until its time is over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, Protocol
from uuid import UUID

import trio
from msgspec.structs import replace

from chatcluster import agents
from chatcluster.agents import agent_id_of, agent_of, descendants, description_of
from chatcluster.chat import Asker, Busy, Close, Interrupt, Send, Status, UserCommand
from chatcluster.config import Settings
from chatcluster.errors import CallerError, Moved, NotAllowedInStatus, StoreFailed, StoreUnavailable
from chatcluster.parts import NoticePart, TextPart, encode, storable
from chatcluster.ports import (
    Chat,
    Effect,
    Idempotency,
    NewChat,
    Outcome,
    Progressed,
    RunBy,
    Store,
    Tool,
    ToolCall,
    ToolResult,
    TurnTools,
)

RETRY_SECONDS = 0.25
PROMPT_CHARACTERS_MAX = 100_000
_CHAT_ID = {"type": "string", "description": "The agent's chat_id, as spawn_agent returned it"}


def _object(required: Sequence[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TOOLS = (
    Tool(
        name=agents.SPAWN,
        description=(
            "Starts a sub-agent: another assistant that works on a task of its own, at the same time as you. It knows "
            "nothing of this conversation, so the prompt has to say all that it needs. Give tasks that do not depend "
            "on each other, and never two agents that change the same things: they would undo each other's work. "
            "Returns at once with the agent's chat_id; wait_agent brings its report."
        ),
        parameters=_object(
            ["prompt"],
            prompt={
                "type": "string",
                "minLength": 1,
                "maxLength": PROMPT_CHARACTERS_MAX,
                "description": "The whole task, with everything that the agent needs to know, and what to report",
            },
            title={"type": "string", "maxLength": 80, "description": "A few words that name the task to people"},
        ),
        effect=Effect.IDEMPOTENT,
    ),
    Tool(
        name=agents.WAIT,
        description=(
            "Waits until an agent has finished, and returns its status and its report. To wait for several, call it "
            "for each of them at once. If the time is over first, that is said, with what the agent has said so far: "
            "the agent goes on, and you may wait again."
        ),
        parameters=_object(
            ["chat_id"],
            chat_id=_CHAT_ID,
            timeout_seconds={
                "type": "integer",
                "minimum": 1,
                "maximum": agents.WAIT_SECONDS_MAX,
                "default": agents.WAIT_SECONDS_DEFAULT,
                "description": "How long to wait at most; default 300 (5 minutes). The agent is not stopped then",
            },
        ),
        effect=Effect.READ,
        run_by=RunBy.AGENTS,
    ),
    Tool(
        name=agents.LIST,
        description=(
            "Lists your agents: chat_id, title and status. `running` and `pending` are at work, `waiting` has finished "
            "and waits for a message, `requires_action` waits for a person, `error` has failed."
        ),
        parameters=_object([]),
        effect=Effect.READ,
    ),
    Tool(
        name=agents.MESSAGE,
        description=(
            "Sends a message to an agent: a further task, or what it did not know. If it is at work it reads the "
            "message when it has finished, or, with interrupt, at once, in place of what it does."
        ),
        parameters=_object(
            ["chat_id", "message"],
            chat_id=_CHAT_ID,
            message={"type": "string", "minLength": 1, "maxLength": PROMPT_CHARACTERS_MAX},
            interrupt={"type": "boolean", "default": False, "description": "Stop what it does now"},
        ),
        effect=Effect.IDEMPOTENT,
    ),
    Tool(
        name=agents.INTERRUPT,
        description=(
            "Stops what an agent does now. What it has said so far is kept, messages that it has not read yet are read "
            "next, and it can be sent further ones."
        ),
        parameters=_object(["chat_id"], chat_id=_CHAT_ID),
        effect=Effect.IDEMPOTENT,
    ),
    Tool(
        name=agents.CLOSE,
        description=(
            "Ends an agent that is not needed any more: it stops, and messages that it has not read are dropped. One "
            "that has finished needs no closing."
        ),
        parameters=_object(["chat_id"], chat_id=_CHAT_ID),
        effect=Effect.IDEMPOTENT,
    ),
)


MODE = {
    "type": "string",
    "enum": [agents.COMPUTER_USE],
    "description": (
        "computer_use: the task is one on the screen of the workspace, which has to be there, and a model does it that "
        "is good at that"
    ),
}


def offered_tools(computer_use_model: str) -> Sequence[Tool]:
    """All of them; ``spawn_agent`` with a mode where there is a model for it."""
    if not computer_use_model:
        return TOOLS
    spawn, *others = TOOLS
    properties = {**spawn.parameters["properties"], "mode": MODE}
    return (replace(spawn, parameters={**spawn.parameters, "properties": properties}), *others)


class Kin(Protocol):
    """What changes other chats, and tells of it."""

    async def spawn(self, agent: NewChat, call_id: str, *, agents_max: int) -> Outcome: ...

    async def when_obeyed(self, agent: Chat) -> Chat: ...

    async def apply(
        self, chat_id: UUID, command: UserCommand, *, owner_id: UUID, idempotency: Idempotency | None = None
    ) -> Outcome: ...


class AgentTools:
    """The toolbox of those chats that may have agents."""

    def __init__(self, store: Store, kin: Kin, settings: Settings) -> None:
        self._store = store
        self._kin = kin
        self._settings = settings

    def offers(self, chat: Chat) -> bool:
        is_on = self._settings.tools.agents if chat.agents is None else chat.agents
        return is_on and chat.depth < self._settings.tools.agents_depth_max

    @asynccontextmanager
    async def open(self, chat: Chat) -> AsyncIterator[TurnTools]:
        offered = offered_tools(self._settings.turns.computer_use_model) if self.offers(chat) else ()
        yield _AgentTools(chat, self._store, self._kin, self._settings, offered)


class _Refused(Exception):
    """A refusal in words for the model."""


class _AgentTools:
    notices: Sequence[NoticePart] = ()
    instructions: Sequence[tuple[str, str]] = ()
    surroundings: Sequence[str] = ()

    def __init__(self, chat: Chat, store: Store, kin: Kin, settings: Settings, offered: Sequence[Tool]) -> None:
        self._chat = chat
        self._store = store
        self._kin = kin
        self._settings = settings
        self._offered = offered

    async def tools(self) -> Sequence[Tool]:
        return self._offered

    async def run(self, call: ToolCall, progressed: Callable[[Progressed], None]) -> ToolResult:  # noqa: ARG002
        run = self._ways()[call.name]
        while True:
            try:
                return ToolResult((TextPart(agents.as_text(await run(call))),))
            except (CallerError, _Refused) as error:
                return ToolResult((TextPart(str(error)),), is_error=True)
            except StoreFailed:
                return ToolResult((TextPart("This cannot be done: the agent's chat is damaged."),), is_error=True)
            except StoreUnavailable:
                await trio.sleep(RETRY_SECONDS)

    def _ways(self) -> dict[str, Callable[[ToolCall], Awaitable[object]]]:
        return {
            agents.SPAWN: self._spawn,
            agents.WAIT: self._wait,
            agents.LIST: self._list,
            agents.MESSAGE: self._message,
            agents.INTERRUPT: self._interrupt,
            agents.CLOSE: self._close,
        }

    async def _spawn(self, call: ToolCall) -> object:
        parent = await self._store.get(self._chat.id)
        prompt = storable(call.arguments["prompt"])
        model = self._settings.turns.computer_use_model if call.arguments.get("mode") == agents.COMPUTER_USE else None
        agent = agent_of(parent, call.call_id, prompt, call.arguments.get("title"), model)
        try:
            outcome = await self._kin.spawn(agent, call.call_id, agents_max=self._settings.tools.agents_max)
        except Moved:
            raise _Refused("No agent was started: this call was cancelled.") from None
        return description_of(outcome.chat)

    async def _wait(self, call: ToolCall) -> object:
        """Never asked for: the ledger keeps these calls."""
        raise _Refused(f"The tool {call.name!r} is not run.")

    async def _list(self, call: ToolCall) -> object:  # noqa: ARG002
        return {"agents": [description_of(agent) for agent in await self._agents()]}

    async def _message(self, call: ToolCall) -> object:
        agent, interrupt = await self._agent(call), bool(call.arguments.get("interrupt"))
        busy = Busy.INTERRUPT if interrupt else Busy.QUEUE
        was_busy = agent.status in (Status.RUNNING, Status.REQUIRES_ACTION)
        asker = Asker(self._chat.id, call.call_id)
        message = TextPart(storable(call.arguments["message"]))
        after = await self._apply(agent, Send((message,), busy, asker=asker), call)
        return {**description_of(after), "interrupted": interrupt and was_busy}

    async def _interrupt(self, call: ToolCall) -> object:
        agent = await self._agent(call)
        try:
            after, interrupted = await self._apply(agent, Interrupt(), call), True
        except NotAllowedInStatus:
            after, interrupted = agent, False
        return {**description_of(after), "interrupted": interrupted}

    async def _close(self, call: ToolCall) -> object:
        agent = await self._agent(call)
        after = await self._apply(agent, Close(), call)
        return {**description_of(after), "terminated": not agents.rests(agent)}

    async def _agents(self) -> tuple[Chat, ...]:
        return descendants(self._chat.id, await self._store.family(self._chat.family_id))

    async def _agent(self, call: ToolCall) -> Chat:
        agent_id = agent_id_of(call.arguments)
        for agent in await self._agents():
            if agent.id == agent_id:
                return await self._kin.when_obeyed(agent)  # a stop of before is not to undo what is said now
        raise _Refused(
            f"You have no agent {call.arguments['chat_id'][:100]!r}. {agents.LIST} names those that you have."
        )

    async def _apply(self, agent: Chat, command: UserCommand, call: ToolCall) -> Chat:
        """Once, however often the call is run."""
        digest = sha256(encode([call.name, call.arguments])).digest()
        once = Idempotency(f"agents:{self._chat.id}:{call.call_id}", digest)
        return (await self._kin.apply(agent.id, command, owner_id=agent.owner_id, idempotency=once)).chat
