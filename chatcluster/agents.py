"""Sub-agents: how a chat makes another one work for it, and what it is told of that one. Pure.

An agent's ID is made from the call that asks for it, so a call that is run again finds the agent that it made before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import msgspec

from chatcluster.chat import Archive, ChatState, Close, Command, LookAgain, Status, StoredPhase, ToolResult, Unarchive
from chatcluster.chat.family import Order
from chatcluster.errors import Conflict
from chatcluster.parts import NewMessage, Role, TextPart, ToolResultPart
from chatcluster.ports import Chat, NewChat
from chatcluster.texts import visible
from chatcluster.tool_results import taken

SPAWN, WAIT, LIST = "spawn_agent", "wait_agent", "list_agents"
MESSAGE, INTERRUPT, CLOSE = "message_agent", "interrupt_agent", "close_agent"
NAMES = frozenset((SPAWN, WAIT, LIST, MESSAGE, INTERRUPT, CLOSE))

WAIT_SECONDS_DEFAULT = 300
WAIT_SECONDS_MAX = 3600
COMPUTER_USE = "computer_use"
"""The mode of an agent that works on a screen, with the model that the deployment has for that."""
TITLE_WORDS = 6
TITLE_CHARS_MAX = 80

INSTRUCTION = """\
You are a sub-agent: another assistant has delegated the task in the first message to you. It sees nothing of what you \
do but your last message, and knows nothing of what you found out unless you say it there.

Do the whole task, and nothing beyond it. Nobody will answer questions: where something is left open, choose what is \
most likely meant, and say what you chose. End with a report that answers the task clearly and briefly, with whatever \
the other one needs to go on: results, names, places, and what you could not do.
"""


class Awaited(NamedTuple):
    """What a call that waits is for, and for how long."""

    agent_id: UUID
    seconds: float


class AgentSeen(NamedTuple):
    """An agent as it was found. ``text``: the last that it said; ``waits_for``: the tools that a person has to see
    to."""

    chat: Chat
    text: str = ""
    waits_for: tuple[str, ...] = ()


def awaited(arguments: dict[str, Any]) -> Awaited | None:
    """What ``wait_agent`` was called with; None if it names no chat."""
    agent_id = agent_id_of(arguments)
    seconds = float(arguments.get("timeout_seconds", WAIT_SECONDS_DEFAULT))
    return None if agent_id is None else Awaited(agent_id, seconds)


def agent_id_of(arguments: dict[str, Any]) -> UUID | None:
    try:
        return UUID(arguments["chat_id"])
    except ValueError:
        return None


def agent_of(parent: Chat, call_id: str, prompt: str, title: str | None, model: str | None = None) -> NewChat:
    """The agent that a call of ``parent`` asks for: it is the same user's, and works with the same, but for a ``model``
    of its own."""
    return NewChat(
        id=uuid5(parent.id, call_id),
        owner_id=parent.owner_id,
        title=visible(title or "") or _first_words(prompt),
        model=model or parent.model,
        messages=(NewMessage(Role.SYSTEM, (TextPart(INSTRUCTION),)), NewMessage(Role.USER, (TextPart(prompt),))),
        mcp_servers=parent.mcp_servers,
        agents=parent.agents,
        parent_id=parent.id,
        root_id=parent.family_id,
        depth=parent.depth + 1,
    )


def family_is_full(agents_max: int) -> Conflict:
    """Also those that rest count: they have a history each, and a reader of the family follows them."""
    further = f"{MESSAGE} gives one of those that there are a further task, also one that has finished"
    return Conflict(f"a chat has at most {agents_max} agents, with theirs: {further}")


def _first_words(prompt: str) -> str:
    words = " ".join(prompt.split()[:TITLE_WORDS])[:TITLE_CHARS_MAX].strip()
    return visible(words) or "Agent"


def rests(chat: StoredPhase) -> bool:
    """Whether an agent does nothing and is about to do nothing: a call that waits for it can be answered."""
    return chat.archived or chat.status in (Status.WAITING, Status.ERROR)


def waits_for_people(state: StoredPhase) -> bool:
    """Whether a person or a client has something to do here, and not just agents."""
    return state.status is Status.REQUIRES_ACTION and not state.waits_for_agents


def asks_people(state: ChatState) -> bool:
    """Whether readers of the family are shown something that a person has to do here: also while a call runs."""
    return waits_for_people(state) or any(call.asks_now for call in state.open_calls)


def command_of(order: Order, state: StoredPhase) -> Command | None:
    """What carries out an order; None if the chat is already as the order wants it."""
    match order:
        case Order.ARCHIVE:
            return None if state.archived or state.archiving else Archive()
        case Order.UNARCHIVE:
            return Unarchive() if state.archived else Close()  # to go into the archive would have stopped it
        case Order.CLOSE:
            return Close()
        case Order.LOOK:
            return LookAgain()


def descendants(chat_id: UUID, family: Sequence[Chat]) -> tuple[Chat, ...]:
    """The agents of a family that are below this chat. Parents come before their children."""
    below, found = {chat_id}, []
    for chat in family:
        if chat.parent_id in below:
            below.add(chat.id)
            found.append(chat)
    return tuple(found)


def description_of(chat: Chat) -> dict[str, Any]:
    return {"chat_id": str(chat.id), "title": chat.title, "status": chat.shown_status}


def report(call_id: str, agent_id: UUID, seen: AgentSeen | None) -> ToolResult:
    """What a call that waited is told: of an agent that rests, of one that goes on, or that there is none."""
    if seen is None:
        return result(call_id, {"error": f"This chat has no agent {agent_id}. {LIST} names those that it has."}, True)
    told = description_of(seen.chat)
    if seen.chat.last_error is not None:
        told["error"] = seen.chat.last_error.message
    if not rests(seen.chat):
        told["timed_out"] = True
        told["note"] = _still(seen)
    elif not seen.text:
        told["note"] = "The agent has come to rest without a word since it was last asked for something."
    told["report"] = seen.text
    return result(call_id, told, seen.chat.status is Status.ERROR)


def _still(seen: AgentSeen) -> str:
    if seen.waits_for:
        return (
            f"The agent waits for a person to see to {', '.join(seen.waits_for)}. Tell the user, or wait again; the "
            "agent goes on by itself."
        )
    return f"The agent is still at work, and goes on: the time that {WAIT} had is over, not the agent's."


def result(call_id: str, told: dict[str, Any], is_error: bool = False) -> ToolResult:
    """The answer to a call, as JSON."""
    given = taken(call_id, (TextPart(as_text(told)),), is_error=is_error, bytes_max=10 << 20)
    (part,) = given.message.parts
    assert isinstance(part, ToolResultPart)
    return ToolResult(call_id, part.content, is_error, given.whole)


def as_text(told: object) -> str:
    return msgspec.json.format(msgspec.json.encode(told), indent=2).decode()
