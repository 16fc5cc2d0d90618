"""What a strict provider refuses of a Chat Completions request, in the words that OpenAI uses for it. Pure.

The strictest of the servers is the measure: so whatever passes here passes everywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from chatcluster.llm.simulator.media import Medium, read_file, read_image
from chatcluster.llm.simulator.question import RefusedQuestion
from chatcluster.llm.simulator.tool_rules import refused_by_openai, too_many_for_openai

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
ID_CHARACTERS_MAX = 40
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Function(msgspec.Struct):
    name: str
    arguments: str = ""
    description: str = ""
    parameters: dict[str, Any] | None = None


class Call(msgspec.Struct):
    id: str
    type: str
    function: Function


class OfferedTool(msgspec.Struct):
    type: str
    function: Function


class Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    prefix: bool = False
    partial: bool = False

    @property
    def calls(self) -> list[Call]:
        return self.tool_calls or []

    @property
    def blocks(self) -> list[dict[str, Any]]:
        return self.content if isinstance(self.content, list) else []

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n\n".join(block["text"] for block in self.blocks if isinstance(block.get("text"), str))


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Request(msgspec.Struct):
    """A request. Fields that it does not know are read over."""

    messages: list[Message]
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    tools: list[OfferedTool] | None = None
    tool_choice: Any = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    continue_final_message: bool = False
    add_generation_prompt: bool = True

    @property
    def begun(self) -> str:
        """The words that the answer is to go on from."""
        last = self.messages[-1] if self.messages else None
        marked = last is not None and (self.continue_final_message or last.prefix or last.partial)
        return last.text if last is not None and marked else ""

    @property
    def output_tokens_max(self) -> int:
        """How long the answer may be."""
        limits = (self.max_tokens, self.max_completion_tokens)
        return min((limit for limit in limits if limit is not None), default=sys.maxsize)


def check(request: Request) -> None:
    """Raises ``RefusedQuestion``."""
    _check_tools(request)
    _check_begun(request)
    if request.output_tokens_max < 1:
        raise RefusedQuestion("Invalid 'max_tokens': integer below minimum value. Expected a value >= 1.")
    known: set[str] = set()
    expected: list[str] = []
    for at, message in enumerate(request.messages):
        where = f"messages[{at}]"
        if message.role not in ROLES:
            raise RefusedQuestion(f"Invalid value: '{message.role[:40]}' for '{where}.role'.")
        if message.role == "tool":
            _check_result(message, expected, where)
            continue
        _check_answered(expected)
        _check_content(message, where)
        expected = _check_calls(message, known, where)
    _check_answered(expected)


def media_in(request: Request) -> Iterator[Medium]:
    """The images and documents of all messages. Raises ``RefusedQuestion``."""
    for at, message in enumerate(request.messages):
        for number, block in enumerate(message.blocks):
            where = f"messages[{at}].content[{number}]"
            if block.get("type") == "image_url":
                yield read_image((block.get("image_url") or {}).get("url"), f"{where}.image_url.url")
            elif block.get("type") == "file":
                yield read_file(block.get("file"), f"{where}.file")


def _check_tools(request: Request) -> None:
    if request.tools == []:
        raise RefusedQuestion("Invalid 'tools': empty array. Expected an array with minimum length 1.")
    if request.tool_choice is not None and not request.tools:
        raise RefusedQuestion(
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        )
    if (why := too_many_for_openai(len(request.tools or ()))) is not None:
        raise RefusedQuestion(why)
    names: set[str] = set()
    for at, tool in enumerate(request.tools or ()):
        name, parameters = tool.function.name, tool.function.parameters
        _check_name(name, f"tools[{at}].function.name")
        if name in names:
            raise RefusedQuestion(f"Tool names must be unique: {name}")
        names.add(name)
        if parameters is not None and (why := refused_by_openai(parameters)) is not None:
            raise RefusedQuestion(f"Invalid schema for function '{name}': {why}")


def _check_begun(request: Request) -> None:
    if request.continue_final_message and request.add_generation_prompt:
        raise RefusedQuestion("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    if any(message.prefix or message.partial for message in request.messages[:-1]):
        raise RefusedQuestion("Only the last message can be a prefix.")
    last = request.messages[-1] if request.messages else None
    marked = last is not None and (request.continue_final_message or last.prefix or last.partial)
    if last is not None and marked and (last.role != "assistant" or last.calls or not last.text):
        raise RefusedQuestion("The last message must be a text of the assistant, to go on from.")


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise RefusedQuestion(
            f"Invalid '{where}': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$', of 64 characters at most."
        )


def _check_result(message: Message, expected: list[str], where: str) -> None:
    if not expected:
        raise RefusedQuestion(
            f"Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
            f"'tool_calls' ({where})."
        )
    if message.tool_call_id != expected[0]:
        raise RefusedQuestion(
            f"Invalid parameter: '{where}.tool_call_id' is {message.tool_call_id!r}, where the result of "
            f"{expected[0]!r} was expected."
        )
    if message.content is None or any(block.get("type") != "text" for block in message.blocks):
        raise RefusedQuestion(f"Invalid '{where}.content': a tool message has a text, or a list of texts.")
    expected.pop(0)


def _check_answered(expected: Sequence[str]) -> None:
    if expected:
        raise RefusedQuestion(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(expected)}"
        )


def _check_content(message: Message, where: str) -> None:
    kinds = {block.get("type") for block in message.blocks}
    if message.role != "user" and kinds - {"text", "refusal"}:
        raise RefusedQuestion(f"Invalid '{where}.content': images are only allowed for messages with role 'user'.")
    if kinds - {"text", "refusal", "image_url", "file", "input_audio"}:
        raise RefusedQuestion(f"Invalid '{where}.content': there is a block of a type that does not exist.")
    if message.role == "assistant" and not message.calls and message.content in (None, "", []):
        raise RefusedQuestion(f"Invalid value for 'content': expected a string, got null ({where}).")
    if any(block.get("type") == "text" and not block.get("text") for block in message.blocks):
        raise RefusedQuestion(f"Invalid '{where}.content': text content blocks must be non-empty.")


def _check_calls(message: Message, known: set[str], where: str) -> list[str]:
    """The IDs of the calls, whose results have to follow."""
    if message.tool_calls is None:
        return []
    if message.role != "assistant" or not message.tool_calls:
        raise RefusedQuestion(f"Invalid '{where}.tool_calls': empty, or not of an assistant message.")
    for number, call in enumerate(message.tool_calls):
        _check_name(call.function.name, f"{where}.tool_calls[{number}].function.name")
        if not 0 < len(call.id) <= ID_CHARACTERS_MAX or call.id in known:
            raise RefusedQuestion(f"Invalid '{where}.tool_calls[{number}].id': empty, too long, or used before.")
        known.add(call.id)
        _check_arguments(call, where)
    return [call.id for call in message.tool_calls]


def _check_arguments(call: Call, where: str) -> None:
    try:
        msgspec.json.decode(call.function.arguments, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise RefusedQuestion(f"Invalid '{where}.tool_calls': the arguments of {call.id} are no JSON object.") from None
