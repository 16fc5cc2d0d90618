"""Several toolboxes as one: names that are unique and that every provider takes, and images that models can take.

Toolboxes come in the order of their rank. A name that providers refuse, or that a toolbox of a higher rank has too,
gets a suffix made from itself: the same in every turn and on every replica, so a history's calls keep their meaning. A
toolbox knows its tools by its own names, and hears of no other.

What happens on failure: nothing here fails that a toolbox does not. A call of a name that nobody offers is an error
result.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import msgspec

from chatcluster.images import with_images_scaled
from chatcluster.parts import NoticePart, TextPart
from chatcluster.ports import Chat, Tell, Tool, Toolbox, ToolCall, ToolResult, TurnTools

NAME_CHARACTERS_MAX = 64
SUFFIX_CHARACTERS = 8


class Composition:
    """The toolbox that has the tools of all ``boxes``. ``reserved`` are names that none of them gets."""

    def __init__(self, *boxes: Toolbox, reserved: Collection[str] = ()) -> None:
        self._boxes = boxes
        self._reserved = reserved

    def offers(self, chat: Chat) -> bool:
        return any(box.offers(chat) for box in self._boxes)

    @asynccontextmanager
    async def open(self, chat: Chat) -> AsyncIterator[TurnTools]:
        async with AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(box.open(chat)) for box in self._boxes]
            yield _Composed(opened, self._reserved, chat.owner_id)


class _Composed:
    def __init__(self, boxes: Sequence[TurnTools], reserved: Collection[str], user_id: UUID) -> None:
        self._boxes = boxes
        self._reserved = reserved
        self._user_id = user_id
        self._places: dict[str, tuple[TurnTools, str]] = {}
        """By the name that the model knows: where the tool is, and its name there."""

    @property
    def notices(self) -> Sequence[NoticePart]:
        return [notice for box in self._boxes for notice in box.notices]

    @property
    def instructions(self) -> Sequence[tuple[str, str]]:
        return [server for box in self._boxes for server in box.instructions]

    @property
    def surroundings(self) -> Sequence[str]:
        return [text for box in self._boxes for text in box.surroundings]

    async def tools(self) -> Sequence[Tool]:
        self._places.clear()
        tools = []
        for box in self._boxes:
            for tool in await box.tools():
                name = unique_name(tool.name, {*self._reserved, *self._places})
                self._places[name] = (box, tool.name)
                tools.append(tool if name == tool.name else msgspec.structs.replace(tool, name=name))
        return tools

    async def run(self, call: ToolCall, progressed: Tell) -> ToolResult:
        place = self._places.get(call.name)
        if place is None:
            return ToolResult((TextPart(f"There is no tool {call.name!r}."),), is_error=True)
        box, name = place
        result = await box.run(msgspec.structs.replace(call, name=name), progressed)
        return await with_images_scaled(result, self._user_id)


def unique_name(name: str, taken: Collection[str]) -> str:
    """A name that providers take and that is not ``taken``: ``name`` if it can be, and always the same for the same."""
    fit = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    unique, salt = name, 0
    while unique != fit or len(unique) > NAME_CHARACTERS_MAX or not unique or unique in taken:
        digest = hashlib.sha256(f"{salt} {name}".encode("utf-8", "surrogatepass")).hexdigest()
        unique = fit = f"{fit[: NAME_CHARACTERS_MAX - SUFFIX_CHARACTERS - 1]}_{digest[:SUFFIX_CHARACTERS]}"
        salt += 1
    return unique
