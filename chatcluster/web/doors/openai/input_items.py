"""What callers give to a response: items of input as messages of a history. Pure.

Items of a model's own, such as reasoning, which a caller sends back with the history that it keeps, are passed over:
what only a provider understands does not come from callers. What would change the meaning if it were passed over is
refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from chatcluster.errors import InvalidRequest
from chatcluster.parts import NewMessage, Part, Parts, Role, TextPart, ToolCallPart, ToolResultPart
from chatcluster.web.api.bodies import InputFile, InputText, content_parts, storable
from chatcluster.web.api.tool_bodies import parse_call_id

ITEMS_MAX = 2000
TEXTS = ("input_text", "output_text", "text", "refusal", "summary_text")
SYSTEM_ROLES = ("system", "developer")


class Given(NamedTuple):
    """``system``: what was said as the system or the developer, in order."""

    system: tuple[str, ...]
    messages: tuple[NewMessage, ...]

    @property
    def results(self) -> list[ToolResultPart]:
        return [part for one in self.messages for part in one.parts if isinstance(part, ToolResultPart)]


def given(items: str | Sequence[Any], *, bytes_max: int) -> Given:
    """The ``input`` of a response. Raises ``InvalidRequest``, and ``TooLarge``."""
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    return given_at(((f"input[{place}]", item) for place, item in enumerate(items)), bytes_max=bytes_max)


def given_at(items: Iterable[tuple[str, Any]], *, bytes_max: int) -> Given:
    """Items, each with where it stands in the request. Raises as ``given``."""
    system: list[str] = []
    messages: list[NewMessage] = []
    for number, (place, item) in enumerate(items):
        if number >= ITEMS_MAX:
            raise InvalidRequest(f"there are more than {ITEMS_MAX} items", param=place.partition("[")[0])
        if not isinstance(item, dict):
            raise _wrong(f"{place} is not an object")
        if item.get("type", "message") == "message" and item.get("role") in SYSTEM_ROLES:
            system.append("\n".join(texts_of(item.get("content"), place)))
            continue
        for message in _messages(item, place, bytes_max):
            _append(messages, message)
    return Given(tuple(system), tuple(messages))


def _messages(item: dict[str, Any], place: str, bytes_max: int) -> list[NewMessage]:
    match item.get("type", "message"):
        case "message":
            return [_message(item, place, bytes_max)]
        case "function_call":
            return [NewMessage(Role.ASSISTANT, (_call(item, place, str(item.get("call_id"))),))]
        case "function_call_output":
            return [NewMessage(Role.TOOL, (_result(item.get("call_id"), item.get("output"), place),))]
        case "mcp_call" if isinstance(item.get("id"), str):
            call = _call(item, place, item["id"])
            error = item.get("error")
            result = ToolResultPart(call.id, str(error or item.get("output") or ""), error is not None)
            return [NewMessage(Role.ASSISTANT, (call,)), NewMessage(Role.TOOL, (result,))]
        case "reasoning" | "mcp_list_tools":
            return []
    raise _wrong(f"{place} is of a type that this server does not take: {str(item.get('type'))[:40]!r}")


def _message(item: dict[str, Any], place: str, bytes_max: int) -> NewMessage:
    role = item.get("role")
    if role not in ("user", "assistant"):
        raise _wrong(f"{place}.role must be user, assistant, system or developer")
    texts: list[InputText | InputFile] = [InputText(text) for text in texts_of(item.get("content"), place)]
    parts: Parts = content_parts(texts, bytes_max=bytes_max)
    return NewMessage(Role(role), parts, finish_reason="stop" if role == "assistant" else None)


def texts_of(content: Any, place: str) -> list[str]:
    """The texts of a content: a string, or a list of parts that are text."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise _wrong(f"{place}.content must be a text or a list of parts")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in TEXTS:
            raise _wrong(f"{place}.content: this server takes text, and not {str(kind)[:40]!r}")
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise _wrong(f"{place}.content: a part has no text")
        texts.append(text)
    return texts


def _call(item: dict[str, Any], place: str, call_id: str) -> ToolCallPart:
    name, arguments = item.get("name"), item.get("arguments") or "{}"
    if not (isinstance(name, str) and name and isinstance(arguments, str)):
        raise _wrong(f"{place} needs a name and arguments, both of them text")
    return ToolCallPart(parse_call_id(call_id), storable("name", name), storable("arguments", arguments))


def _result(call_id: Any, output: Any, place: str) -> ToolResultPart:
    if not isinstance(call_id, str):
        raise _wrong(f"{place}.call_id is missing")
    text = output if isinstance(output, str) else "\n".join(texts_of(output, place))
    return ToolResultPart(parse_call_id(call_id), storable("output", text))


def _append(messages: list[NewMessage], message: NewMessage) -> None:
    """What the model said in one go is one message, and so is what its user said."""
    last = messages[-1] if messages else None
    is_same = last is not None and last.role is message.role and message.role is not Role.TOOL
    if last is None or not is_same or _ends(last, message):
        messages.append(message)
        return
    parts: tuple[Part, ...] = (*last.parts, *message.parts)
    is_calling = any(isinstance(part, ToolCallPart) for part in parts)
    reason = "tool_calls" if is_calling else last.finish_reason
    messages[-1] = NewMessage(last.role, parts, finish_reason=reason)


def _ends(last: NewMessage, message: NewMessage) -> bool:
    """Whether words after calls begin another message of the assistant."""
    called = any(isinstance(part, ToolCallPart) for part in last.parts)
    return called and any(isinstance(part, TextPart) for part in message.parts)


def _wrong(text: str) -> InvalidRequest:
    return InvalidRequest(text, param=text.partition("[")[0])
