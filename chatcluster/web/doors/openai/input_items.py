"""What callers give to a response: items of input as messages of a history. Pure.

Items of a model's own, such as reasoning, which a caller sends back with the history that it keeps, are passed over:
what only a provider understands does not come from callers. What would change the meaning if it were passed over is
refused. Images and files are those that a message of the user's has (``given_files.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from chatcluster.content import FilePart, ImagePart
from chatcluster.errors import InvalidRequest
from chatcluster.parts import NewMessage, Part, Role, TextPart, ToolCallPart, ToolResultPart
from chatcluster.texts import is_blank
from chatcluster.web.api.bodies import NO_FILES, InputText, storable
from chatcluster.web.api.tool_bodies import InputImage, checked_image, parse_call_id
from chatcluster.web.doors.given_files import NamedFile, file_at, file_of_base64, file_of_id, parts_of
from chatcluster.web.doors.openai.ids import RequestKey, parse_request_id

Placed = Iterable[tuple[str, Any]]
"""Items, each with where it stands in the request."""
ITEMS_MAX = 2000
PARTS_MAX = 8000
"""Of all items together: as many as are read in one step of the loop."""
FILES = ("input_image", "input_file", "image_url", "file")
IMAGE_PARTS = ("input_image", "image_url")
TEXTS = ("input_text", "output_text", "text", "refusal", "summary_text")
SYSTEM_ROLES = ("system", "developer")


class ApprovalAnswer(NamedTuple):
    """An answer to a request to approve a call."""

    request: RequestKey
    approved: bool
    reason: str | None = None


class Given(NamedTuple):
    """``system``: what was said as the system or the developer, in order."""

    system: tuple[str, ...]
    messages: tuple[NewMessage, ...]
    approvals: tuple[ApprovalAnswer, ...] = ()

    @property
    def results(self) -> list[ToolResultPart]:
        return [part for one in self.messages for part in one.parts if isinstance(part, ToolResultPart)]


def placed(items: str | Sequence[Any]) -> Placed:
    """The ``input`` of a response."""
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    return ((f"input[{place}]", item) for place, item in enumerate(items))


def files_named(items: Placed) -> Iterator[str]:
    """What names the files in these items. Raises ``InvalidRequest``."""
    for place, item in items:
        content = item.get("content") if isinstance(item, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") in FILES:
                yield _file(part, place).file_id


def given(items: Placed, *, bytes_max: int, files: Mapping[str, FilePart] = NO_FILES, apart: bool = False) -> Given:
    """``files`` are those that the items name, by what names them. ``apart``: each that says something is a message.

    Raises ``InvalidRequest``, ``FileNotFound``, and ``TooLarge``."""
    system: list[str] = []
    messages: list[NewMessage] = []
    approvals: list[ApprovalAnswer] = []
    parts = 0
    for number, (place, item) in enumerate(items):
        if number >= ITEMS_MAX:
            raise InvalidRequest(f"there are more than {ITEMS_MAX} items", param=place.partition("[")[0])
        if not isinstance(item, dict):
            raise _wrong(f"{place} is not an object")
        parts += len(item["content"]) if isinstance(item.get("content"), list) else 1
        if parts > PARTS_MAX:
            raise InvalidRequest(f"the items have more than {PARTS_MAX} parts", param=place.partition("[")[0])
        if item.get("type", "message") == "message" and item.get("role") in SYSTEM_ROLES:
            system.append("\n".join(texts_of(item.get("content"), place)))
            continue
        if item.get("type") == "mcp_approval_response":
            approvals.append(_approval(item, place))
            continue
        for message in _messages(item, place, bytes_max, files):
            _append(messages, message, apart=apart)
    return Given(tuple(system), tuple(messages), tuple(approvals))


def _messages(item: dict[str, Any], place: str, bytes_max: int, files: Mapping[str, FilePart]) -> list[NewMessage]:
    match item.get("type", "message"):
        case "message" if item.get("role") == "assistant" and _says_nothing(item.get("content"), place):
            return []
        case "message":
            return [_message(item, place, bytes_max, files)]
        case "function_call":
            return [NewMessage(Role.ASSISTANT, (_call(item, place, str(item.get("call_id"))),))]
        case "function_call_output":
            return [NewMessage(Role.TOOL, (_result(item.get("call_id"), item.get("output"), place),))]
        case "mcp_call" if isinstance(item.get("id"), str):
            call = _call(item, place, item["id"])
            error = item.get("error")
            text = str(item.get("output") or "") if error is None else _error_text(error)
            result = ToolResultPart(call.id, storable("output", text), error is not None)
            return [NewMessage(Role.ASSISTANT, (call,)), NewMessage(Role.TOOL, (result,))]
        case "reasoning" | "mcp_list_tools" | "mcp_approval_request":
            return []
    raise _wrong(f"{place} is of a type that this server does not take: {str(item.get('type'))[:40]!r}")


def _error_text(error: Any) -> str:
    """What is said of a server's tool that failed, in the form of this server or of any other."""
    match error:
        case {"content": list(content)}:
            return "\n".join(str(part.get("text")) for part in content if isinstance(part, dict) and "text" in part)
        case {"message": str(message)}:
            return message
    return error if isinstance(error, str) else msgspec.json.encode(error).decode()


def _approval(item: dict[str, Any], place: str) -> ApprovalAnswer:
    named, approved, reason = item.get("approval_request_id"), item.get("approve"), item.get("reason")
    request = parse_request_id(named) if isinstance(named, str) else None
    if request is None or not isinstance(approved, bool):
        raise _wrong(f"{place} needs the approval_request_id of a request, and approve, true or false")
    return ApprovalAnswer(request, approved, reason if isinstance(reason, str) else None)


def _message(item: dict[str, Any], place: str, bytes_max: int, files: Mapping[str, FilePart]) -> NewMessage:
    role = item.get("role")
    if role not in ("user", "assistant"):
        raise _wrong(f"{place}.role must be user, assistant, system or developer")
    content = _content(item.get("content"), place, with_files=role == "user")
    parts = parts_of(content, bytes_max=bytes_max, files=files)
    return NewMessage(Role(role), parts, finish_reason="stop" if role == "assistant" else None)


def _says_nothing(content: Any, place: str) -> bool:
    """A model that only called said nothing; clients keep it all the same."""
    return all(map(is_blank, texts_of(content, place)))


def texts_of(content: Any, place: str) -> list[str]:
    """The texts of a content: a string, or a list of parts that are text."""
    return [part.text for part in _content(content, place, with_files=False) if isinstance(part, InputText)]


def _content(content: Any, place: str, *, with_files: bool) -> list[InputText | NamedFile]:
    if isinstance(content, str):
        return [InputText(content)]
    if not isinstance(content, list):
        raise _wrong(f"{place}.content must be a text or a list of parts")
    return [_part(part, place, with_files) for part in content]


def _part(part: Any, place: str, with_files: bool) -> InputText | NamedFile:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in FILES and with_files:
        return _file(part, place)
    if kind not in TEXTS:
        taken = "text, images and files" if with_files else "text"
        raise _wrong(f"{place}.content: this server takes {taken} here, and not {str(kind)[:40]!r}")
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        raise _wrong(f"{place}.content: a part has no text")
    return InputText(text)


def _file(part: dict[str, Any], place: str) -> NamedFile:
    try:
        return _named(part)
    except InvalidRequest as error:
        raise _wrong(f"{place}.content: {error}") from None


def _named(part: dict[str, Any]) -> NamedFile:
    """An image or a file, as Responses or Chat Completions have it."""
    inner = part.get("image_url" if part["type"] == "image_url" else "file")
    fields = inner if isinstance(inner, dict) else part
    name = fields.get("filename")
    match fields:
        case {"file_id": str(file_id)}:
            return file_of_id(file_id, name)
        case {"file_data": str(data)}:
            return file_of_base64(data, name)
        case {"image_url": str(url)} | {"url": str(url)} | {"file_url": str(url)}:
            return file_at(url, name)
    raise InvalidRequest("an image or a file needs a file_id, or its bytes in a data URL")


def _call(item: dict[str, Any], place: str, call_id: str) -> ToolCallPart:
    name, arguments = item.get("name"), item.get("arguments") or "{}"
    if not (isinstance(name, str) and name and isinstance(arguments, str)):
        raise _wrong(f"{place} needs a name and arguments, both of them text")
    return ToolCallPart(parse_call_id(call_id), storable("name", name), storable("arguments", arguments))


def _result(call_id: Any, output: Any, place: str) -> ToolResultPart:
    if not isinstance(call_id, str):
        raise _wrong(f"{place}.call_id is missing")
    if not (isinstance(output, list) and any(map(is_image, output))):
        text = output if isinstance(output, str) else "\n".join(texts_of(output, place))
        return ToolResultPart(parse_call_id(call_id), storable("output", text))
    return ToolResultPart(parse_call_id(call_id), tuple(_given_back(part, place) for part in output))


def is_image(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in IMAGE_PARTS


def _given_back(part: Any, place: str) -> TextPart | ImagePart:
    """A part of an output. An image is in a result with its bytes, as what tools give is."""
    if not is_image(part):
        (text,) = texts_of([part], place)
        return TextPart(storable("output", text))
    url = part.get("image_url")
    url = url.get("url") if isinstance(url, dict) else url
    head, _, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not (head.startswith("data:") and head.endswith(";base64")):
        raise _wrong(f"{place}.output: give an image as a data URL (data:image/png;base64,…)")
    return checked_image(InputImage(head.removeprefix("data:").partition(";")[0], "".join(data.split())))


def _append(messages: list[NewMessage], message: NewMessage, *, apart: bool) -> None:
    """What the model said in one go is one message, and so is what its user said, unless that is kept apart. Calls
    stand with the words before them all the same."""
    last = messages[-1] if messages else None
    says = message.role is Role.USER or any(isinstance(part, TextPart) for part in message.parts)
    is_alone = message.role is Role.TOOL or (apart and says)
    is_same = last is not None and last.role is message.role and not is_alone
    if last is None or not is_same or _ends(last, message):
        messages.append(message)
        return
    parts: tuple[Part, ...] = (*last.parts, *message.parts)
    reason = "tool_calls" if _is_calling(last) or _is_calling(message) else last.finish_reason
    messages[-1] = NewMessage(last.role, parts, finish_reason=reason)


def _ends(last: NewMessage, message: NewMessage) -> bool:
    """Whether words after calls begin another message of the assistant."""
    return _is_calling(last) and any(isinstance(part, TextPart) for part in message.parts)


def _is_calling(message: NewMessage) -> bool:
    """Whether a message calls tools. One that grew tells by its finish reason: it may have very many parts."""
    if message.role is not Role.ASSISTANT or message.finish_reason is not None:
        return message.finish_reason == "tool_calls"
    return any(isinstance(part, ToolCallPart) for part in message.parts)


def _wrong(text: str) -> InvalidRequest:
    return InvalidRequest(text, param=text.partition("[")[0])
