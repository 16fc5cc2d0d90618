"""What callers send about tools: their own tools, answers to calls, results. Decoded strictly, checked before anything
is written, and bounded: in number, in bytes, and in how deeply a schema or arguments are nested."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatcluster.chat import AnswerQuestions, Approve, ClientTool, Deny, Remember, SubmitToolResults, ToolResult
from chatcluster.chat.questions import Reply, ReplyAction
from chatcluster.errors import InvalidRequest, TooLarge, ToolCallNotFound
from chatcluster.parts import ImagePart, JsonPart, ResourcePart, ResultContent, TextPart, ToolResultPart
from chatcluster.tool_results import READ_RESULT, taken
from chatcluster.web.api.bodies import Body, InputText, InputTool, storable

TOOLS_MAX = 64
TOOLS_BYTES_MAX = 64 << 10
"""The most of all tools of a chat: they are a part of its row."""
DESCRIPTION_CHARS_MAX = 8000
SCHEMA_DEPTH_MAX = 16
ARGUMENTS_DEPTH_MAX = 64
SERVERS_MAX = 32
RESULTS_MAX = 64
RESULT_PARTS_MAX = 100
REASON_CHARS_MAX = 2000
ANSWERS_MAX = 32
ANSWERS_BYTES_MAX = 64 << 10
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_CALL_ID = re.compile(r"[\x21-\x7e]{1,200}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SCHEMA_TYPES = frozenset(("string", "number", "integer", "boolean", "object", "array", "null"))


class InputImage(msgspec.Struct, tag="image", frozen=True, forbid_unknown_fields=True):
    """``data`` is base64."""

    media_type: str
    data: str


class InputJson(msgspec.Struct, tag="json", frozen=True, forbid_unknown_fields=True):
    """A structured value, as JSON text."""

    json: str


class InputResource(msgspec.Struct, tag="resource", frozen=True, forbid_unknown_fields=True):
    uri: str
    name: str | None = None
    media_type: str | None = None
    text: str | None = None


InputPart = InputText | InputImage | InputJson | InputResource


class InputResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    call_id: str
    content: str | list[InputPart]
    is_error: bool = False


class SubmitResults(Body, frozen=True, kw_only=True):
    """What the client's own tools gave. All of it is taken, or nothing."""

    results: list[InputResult]


class ApproveCall(Body, frozen=True, kw_only=True):
    """The call may be run."""

    digest: Annotated[str | None, Meta(description="Of the arguments that were shown: others are not approved")] = None
    arguments: Annotated[dict[str, Any] | UnsetType, Meta(description="Run it with these instead")] = UNSET
    remember: Annotated[Remember | None, Meta(description="Do not ask again about this tool: here, or at all")] = None


class DenyCall(Body, frozen=True, kw_only=True):
    """The call is not run, and the model is told so."""

    reason: Annotated[str | None, Meta(description="For the model")] = None


class InputReply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    action: ReplyAction
    content: Annotated[dict[str, Any] | None, Meta(description="What the form was filled in with")] = None


class AnswerCall(Body, frozen=True, kw_only=True):
    """What the user says to all that the server of a call asks."""

    answers: Annotated[dict[str, InputReply], Meta(description="By the keys of the questions")]
    digest: Annotated[str | None, Meta(description="That came with the questions: others are not answered")] = None


def checked_tools(tools: Sequence[InputTool]) -> tuple[ClientTool, ...]:
    """Raises ``InvalidRequest`` that names the tool, or ``TooLarge``."""
    if len(tools) > TOOLS_MAX:
        raise InvalidRequest(f"tools has more than {TOOLS_MAX} tools")
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise InvalidRequest("tools has two tools of one name")
    if len(_written("tools", tools)) > TOOLS_BYTES_MAX:
        raise TooLarge(f"tools is larger than {TOOLS_BYTES_MAX} bytes", bytes_max=TOOLS_BYTES_MAX)
    return tuple(map(_checked_tool, tools))


def _checked_tool(tool: InputTool) -> ClientTool:
    if _TOOL_NAME.fullmatch(tool.name) is None:
        raise InvalidRequest("the name of a tool has 1 to 64 letters, digits, underscores and hyphens")
    if tool.name == READ_RESULT:
        raise InvalidRequest(f"a tool called {READ_RESULT} is chatcluster's own: give yours another name")
    if len(tool.description) > DESCRIPTION_CHARS_MAX:
        raise InvalidRequest(f"the description of {tool.name} is longer than {DESCRIPTION_CHARS_MAX} characters")
    storable("description", tool.description)
    field = f"the parameters of {tool.name}"
    _check_json(field, tool.parameters, depth_max=SCHEMA_DEPTH_MAX)
    if tool.parameters.get("type", "object") != "object":
        raise InvalidRequest(f"{field} are the schema of an object: their type must be object")
    _check_schema(field, tool.parameters)
    return ClientTool(tool.name, tool.description, {"type": "object", "properties": {}, **tool.parameters})


def _written(field: str, value: object) -> bytes:
    """As JSON, to tell how large it is before each value in it is looked at. Raises ``InvalidRequest``."""
    try:
        return msgspec.json.encode(value)
    except RecursionError:
        raise InvalidRequest(f"{field} are nested too deeply") from None


def _check_json(field: str, value: object, *, depth_max: int) -> None:
    """Raise ``InvalidRequest`` for what is nested too deeply, or has a NUL in a text."""
    if depth_max == 0:
        raise InvalidRequest(f"{field} are nested too deeply")
    match value:
        case str():
            storable(field, value)
        case dict():
            for key, inner in value.items():
                storable(field, key)
                _check_json(field, inner, depth_max=depth_max - 1)
        case list():
            for inner in value:
                _check_json(field, inner, depth_max=depth_max - 1)


def _check_schema(field: str, schema: object) -> None:
    """Raise ``InvalidRequest`` for what no provider would take as a JSON schema: they refuse the whole request."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{field} have a schema that is no object")
    kinds = schema.get("type", [])
    if not set(_strings(field, "type", [kinds] if isinstance(kinds, str) else kinds)) <= _SCHEMA_TYPES:
        raise InvalidRequest(f"{field} have a type that JSON schema does not know")
    _strings(field, "required", schema.get("required", []))
    if not isinstance(schema.get("enum", []), list):
        raise InvalidRequest(f"{field} have an enum that is no list")
    if not str(schema.get("$ref", "#")).startswith("#"):
        raise InvalidRequest(f"{field} refer to another document; put what they need under $defs")
    for inner in _inner_schemas(field, schema):
        _check_schema(field, inner)


def _strings(field: str, key: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidRequest(f"{field} have a {key} that is no list of strings")
    return value


def _inner_schemas(field: str, schema: dict[str, Any]) -> list[object]:
    inner: list[object] = [schema[key] for key in ("items", "additionalProperties", "not") if key in schema]
    for key in ("properties", "$defs", "definitions", "patternProperties"):
        named = schema.get(key, {})
        if not isinstance(named, dict):
            raise InvalidRequest(f"{field} have {key} that are no object")
        inner.extend(named.values())
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        several = schema.get(key, [])
        if not isinstance(several, list):
            raise InvalidRequest(f"{field} have {key} that is no list")
        inner.extend(several)
    return inner


def checked_servers(slugs: Sequence[str]) -> tuple[str, ...]:
    """The slugs of servers of tools, as far as their form goes."""
    if len(slugs) > SERVERS_MAX:
        raise InvalidRequest(f"mcp_servers has more than {SERVERS_MAX} servers")
    if not all(map(_SLUG.fullmatch, slugs)):
        raise InvalidRequest("mcp_servers: a slug has 1 to 32 lower-case letters, digits and hyphens")
    if len(set(slugs)) < len(slugs):
        raise InvalidRequest("mcp_servers names a server twice")
    return tuple(slugs)


def parse_call_id(text: str) -> str:
    """A call's ID out of a path. What cannot be one is not found like any other unknown one."""
    if _CALL_ID.fullmatch(text) is None:
        raise ToolCallNotFound("there is no such tool call in this chat", call_id=text[:80])
    return text


def approval(call_id: str, data: ApproveCall, *, bytes_max: int) -> Approve:
    arguments = None if data.arguments is UNSET else _checked_arguments(data.arguments, bytes_max)
    return Approve(call_id, _checked_digest(data.digest), arguments, data.remember)


def _checked_arguments(arguments: dict[str, Any], bytes_max: int) -> str:
    text = _written("arguments", arguments)
    if len(text) > bytes_max:
        raise TooLarge(f"arguments are larger than {bytes_max} bytes", bytes_max=bytes_max)
    _check_json("arguments", arguments, depth_max=ARGUMENTS_DEPTH_MAX)
    return text.decode()


def answering(call_id: str, data: AnswerCall) -> AnswerQuestions:
    """Raises ``InvalidRequest``, or ``TooLarge``. Whether they are answers to what is asked is not looked at."""
    if len(data.answers) > ANSWERS_MAX:
        raise InvalidRequest(f"answers has more than {ANSWERS_MAX} answers")
    if len(_written("answers", data.answers)) > ANSWERS_BYTES_MAX:
        raise TooLarge(f"answers is larger than {ANSWERS_BYTES_MAX} bytes", bytes_max=ANSWERS_BYTES_MAX)
    for key, reply in data.answers.items():
        storable("answers", key)
        _check_json("answers", reply.content, depth_max=ARGUMENTS_DEPTH_MAX)
    replies = {key: Reply(reply.action, reply.content) for key, reply in data.answers.items()}
    return AnswerQuestions(call_id, replies, _checked_digest(data.digest))


def _checked_digest(digest: str | None) -> str | None:
    if digest is not None and _DIGEST.fullmatch(digest) is None:
        raise InvalidRequest("digest is the one that came with the call: 64 hexadecimal digits")
    return digest


def denial(call_id: str, data: DenyCall) -> Deny:
    reason = (data.reason or "").strip()
    if len(reason) > REASON_CHARS_MAX:
        raise InvalidRequest(f"reason is longer than {REASON_CHARS_MAX} characters")
    return Deny(call_id, storable("reason", reason) or None)


def results(data: SubmitResults, *, bytes_max: int) -> SubmitToolResults:
    """Raises ``InvalidRequest``, or ``TooLarge`` above ``bytes_max`` in all."""
    call_ids = [result.call_id for result in data.results]
    if not 1 <= len(call_ids) <= RESULTS_MAX:
        raise InvalidRequest(f"results has 1 to {RESULTS_MAX} results")
    if len(set(call_ids)) < len(call_ids):
        raise InvalidRequest("results has two results of one call")
    if len(msgspec.json.encode(data.results)) > bytes_max:
        raise TooLarge(f"results is larger than {bytes_max} bytes", bytes_max=bytes_max)
    return SubmitToolResults(tuple(_result(result, bytes_max) for result in data.results))


def _result(result: InputResult, bytes_max: int) -> ToolResult:
    """The result as it goes into history: of a long text the model sees a part, and the whole is kept."""
    call_id = parse_call_id(result.call_id)
    given = [InputText(result.content)] if isinstance(result.content, str) else result.content
    if len(given) > RESULT_PARTS_MAX:
        raise InvalidRequest(f"content has more than {RESULT_PARTS_MAX} parts")
    message, whole = taken(call_id, map(_result_part, given), is_error=result.is_error, bytes_max=bytes_max)
    (part,) = (part for part in message.parts if isinstance(part, ToolResultPart))
    return ToolResult(call_id, part.content, part.is_error, whole)


def _result_part(part: InputPart) -> ResultContent:
    for value in msgspec.structs.astuple(part):
        storable("content", value or "")
    match part:
        case InputText(text=text):
            return TextPart(text)
        case InputImage():
            return checked_image(part)
        case InputJson(json=text):
            return JsonPart(_checked_json(text))
        case InputResource():
            return ResourcePart(part.uri, part.name, part.media_type, part.text)


def checked_image(part: InputImage) -> ImagePart:
    """Raises ``InvalidRequest`` for what is no image by its name, or no base64."""
    if part.media_type not in IMAGE_TYPES:
        raise InvalidRequest(f"media_type must be one of {', '.join(IMAGE_TYPES)}")
    try:
        data = b64decode(part.data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("the data of an image is base64") from None
    if not data:
        raise InvalidRequest("the data of an image must not be empty")
    return ImagePart(part.media_type, part.data)


def _checked_json(text: str) -> str:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise InvalidRequest("the json of a part is not valid JSON") from None
    return text
