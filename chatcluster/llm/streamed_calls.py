"""The tool calls of one Chat Completions answer, from pieces as servers send them. Pure.

Servers differ most in how they number the pieces of a call: without ``index``, or with 0 for all of them; without an
ID, or with a new one for each piece; with arguments as an object, or ``null``. ``StreamedCalls`` reads all of that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chatcluster.llm.answers import endless_answer, kept_id, nameless_call
from chatcluster.llm.chunks import BLOCKS_MAX, is_json_value
from chatcluster.llm.openai_request import EXTRA_CONTENT
from chatcluster.llm.wire import Route
from chatcluster.parts import CUT_SHORT, OpaquePart, Part, ToolArgumentsPart, ToolCallPart, encode

CALLS_CHARACTERS_MAX = 1 << 20
CALL_CHARACTERS = 1000
"""What a call counts for, its texts aside."""
LOOKED_CHARACTERS_MAX = 32 << 20
"""Of arguments that are looked at for their end, each time as a whole: some 30 ms. Then they have none."""


@dataclass
class _Call:
    """A tool call that is still being streamed. ``id`` is ours."""

    id: str
    provider_id: str
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    is_bare: bool = False
    """It began with an empty object, which some gateways send before the true arguments: it stands if none come."""
    untold: list[Part] = field(default_factory=list)
    """What follows the call where its name is not known yet."""

    @property
    def arguments(self) -> str:
        """What came of them."""
        return "".join(self.pieces)


class StreamedCalls:
    """The calls of one answer."""

    def __init__(self, route: Route, new_id: Callable[[], str]) -> None:
        self._provider = route.server
        self._model = route.model
        self._new_id = new_id
        self._calls: list[_Call] = []
        self._open: dict[int, _Call] = {}
        """The last call at each index."""
        self._by_server_id: dict[str, _Call] = {}
        self._looked_characters = 0
        self.kept_characters = 0

    def __len__(self) -> int:
        return len(self._calls)

    def take(self, pieces: Any, parts: list[Part]) -> None:
        """Append to ``parts`` what the pieces of a chunk, or the one that it has, add to the answer."""
        pieces = pieces if isinstance(pieces, list) else [pieces]
        if len(pieces) > BLOCKS_MAX:
            raise endless_answer(self._provider)
        for position, piece in enumerate(pieces):
            self._take_one(position, piece, parts)

    def _take_one(self, position: int, piece: Any, parts: list[Part]) -> None:
        if not isinstance(piece, dict):
            return
        index = piece["index"] if isinstance(piece.get("index"), int) else position
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        name = function["name"] if isinstance(function.get("name"), str) else ""
        call_id = piece["id"] if isinstance(piece.get("id"), str) else ""
        arguments = _as_text(function.get("arguments"))
        call = self._call_at(index, call_id, is_named=bool(name))
        if call is None or self._starts_another(call, call_id, name, arguments):
            call = self._begin(index, call_id)
        self._grow(call, name, arguments, parts)
        if extra := piece.get(EXTRA_CONTENT):
            self._tell(call, self._opaque(call, extra), parts)

    def end(self, reason: str) -> list[Part]:
        """What is left to say when the answer is complete: nothing stands for no arguments. But of the last call of an
        answer that was cut they are not known."""
        if not all(call.name for call in self._calls):
            raise nameless_call(self._provider)
        whole = self._calls[:-1] if reason in CUT_SHORT else self._calls
        return [ToolArgumentsPart(call.id, "{}") for call in whole if not call.arguments.strip()]

    def _call_at(self, index: int, call_id: str, *, is_named: bool) -> _Call | None:
        """The call that a piece is of, as it seems: mostly the last one at its index. Where calls are written side by
        side without an index, or all at 0, the ID tells of which one there is more."""
        call = self._open.get(index)
        if is_named or not call_id or (call is not None and call.provider_id in ("", call_id)):
            return call
        return self._by_server_id.get(call_id, call)

    def _starts_another(self, call: _Call, call_id: str, name: str, arguments: str) -> bool:
        """Whether a piece at the index of ``call`` begins a further call: some servers number all calls 0.

        A new ID alone does not tell, because others send a new ID with every piece; without an ID, another name does,
        or the same one that comes again after whole arguments.
        """
        if not name or not call.name:
            return False
        if call_id:
            return call_id != call.provider_id
        return name != call.name or (arguments[:1] in ("", "{", " ") and self._is_whole(call))

    def _is_whole(self, call: _Call) -> bool:
        """Whether what came of the arguments is a JSON value. Looked at only where it may be."""
        if not call.pieces:
            return call.is_bare
        if self._looked_characters > LOOKED_CHARACTERS_MAX:
            return False
        arguments = call.arguments
        self._looked_characters += len(arguments)
        return is_json_value(arguments)

    def _begin(self, index: int, call_id: str) -> _Call:
        self._take_space(CALL_CHARACTERS + len(call_id))
        server_id = "" if call_id in self._by_server_id else kept_id(call_id) or ""
        call = _Call(self._new_id(), server_id)
        self._calls.append(call)
        if server_id:
            self._by_server_id[server_id] = call
        self._open[index] = call
        return call

    def _grow(self, call: _Call, name: str, arguments: str, parts: list[Part]) -> None:
        if arguments.strip() == "{}" and not call.pieces:
            call.is_bare, arguments = True, ""
        if arguments:
            self._take_space(len(arguments))
            call.pieces.append(arguments)
        if name and not call.name:
            self._take_space(len(name))
            call.name = name
            parts.append(ToolCallPart(call.id, name, call.arguments, call.provider_id or None))
            parts.extend(call.untold)
            call.untold.clear()
        elif arguments and call.name:
            parts.append(ToolArgumentsPart(call.id, arguments))

    def _tell(self, call: _Call, part: Part, parts: list[Part]) -> None:
        (parts if call.name else call.untold).append(part)

    def _opaque(self, call: _Call, extra: Any) -> OpaquePart:
        data = encode({"call_id": call.id, EXTRA_CONTENT: extra}).decode()
        self._take_space(len(data))
        return OpaquePart(self._provider.name, self._model, EXTRA_CONTENT, data)

    def _take_space(self, characters: int) -> None:
        """Calls are kept until the answer is complete: so they have a limit."""
        self.kept_characters += characters
        if self.kept_characters > CALLS_CHARACTERS_MAX:
            raise endless_answer(self._provider)


def _as_text(arguments: Any) -> str:
    """The arguments' JSON: some servers send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False)
