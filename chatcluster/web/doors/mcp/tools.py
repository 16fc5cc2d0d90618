"""The tools, as their clients are told of them: names, schemas, and honest hints about what they do. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from chatcluster.web.doors.mcp import given, told

INSTRUCTIONS = """Chats with models that go on by themselves, and survive the failure of any server.
Create one with chat_create, or send to one with chat_send; both return at once, with a cursor. Then call chat_wait with
that cursor until its status is waiting (the answer is complete), requires_action or error. A call of chat_wait that
failed or broke off is repeated with the same cursor: nothing is lost by it."""


class Tool(NamedTuple):
    """``takes`` and ``gives``: its arguments and its answer."""

    name: str
    description: str
    takes: type[msgspec.Struct]
    gives: type[msgspec.Struct]
    annotations: dict[str, Any]

    def listed(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.annotations["title"],
            "description": self.description,
            "inputSchema": schema_of(self.takes),
            "outputSchema": schema_of(self.gives),
            "annotations": self.annotations,
        }


def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """As an object at the top, which clients insist on."""
    _, components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    schema = dict(components.pop(kind.__name__))
    schema.pop("description", None)
    return schema | ({"$defs": components} if components else {})


def _hints(
    title: str, *, reads: bool = False, destroys: bool = False, repeats: bool = False, outside: bool = False
) -> dict[str, Any]:
    return {
        "title": title,
        "readOnlyHint": reads,
        "destructiveHint": destroys,
        "idempotentHint": repeats or reads,
        "openWorldHint": outside,
    }


TOOLS = (
    Tool(
        "chat_create",
        "Create a chat. With content the model begins to answer at once, and this returns without waiting for it: call "
        "chat_wait with the cursor. Without content the chat rests until chat_send.",
        given.CreateArguments,
        told.Accepted,
        _hints("Create a chat", outside=True),
    ),
    Tool(
        "chat_send",
        "Send a message to a chat, and return without waiting for the answer: call chat_wait with the cursor. If the "
        "chat is busy: queue waits for its turn, interrupt stops the answer under way (what was said is kept), steer "
        "puts the message behind the next results of tools, reject fails.",
        given.SendArguments,
        told.Accepted,
        _hints("Send a message", outside=True),
    ),
    Tool(
        "chat_wait",
        "Wait until a chat is at rest, or for the timeout. Gives its status, what the model said since the cursor, and "
        "the calls that wait for somebody. May be repeated with the same cursor at any time.",
        given.WaitArguments,
        told.Waited,
        _hints("Wait for an answer", reads=True),
    ),
    Tool(
        "chat_read",
        "Read the history of a chat: the newest messages, those before one, or those after one.",
        given.ReadArguments,
        told.Read,
        _hints("Read a chat", reads=True),
    ),
    Tool(
        "chat_interrupt",
        "Stop what a chat is doing. What was said is kept; the rest of the answer is not made.",
        given.InterruptArguments,
        told.Accepted,
        _hints("Interrupt a chat"),
    ),
    Tool(
        "chat_answer",
        "Answer calls that a chat waits for (actions of chat_wait): the results of your own tools, or approvals and "
        "denials. Approvals are refused unless the operator of this cluster lets programs approve.",
        given.AnswerArguments,
        told.Answered,
        _hints("Answer calls", destroys=True, outside=True),
    ),
    Tool(
        "chat_archive",
        "Archive a chat, or take it out of the archive. One that is busy is interrupted first.",
        given.ArchiveArguments,
        told.ChatState,
        _hints("Archive a chat", repeats=True),
    ),
    Tool(
        "chats_list",
        "List your chats, the newest first.",
        given.ListArguments,
        told.Chats,
        _hints("List chats", reads=True),
    ),
    Tool(
        "models_list",
        "List the models that a chat or a message can name, the default first.",
        given.ModelsArguments,
        told.Models,
        _hints("List models", reads=True),
    ),
)
BY_NAME = {tool.name: tool for tool in TOOLS}
LISTED = {"tools": [tool.listed() for tool in TOOLS]}
