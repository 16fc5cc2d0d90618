"""What a strict provider refuses of a Responses request, in the words that OpenAI uses for it. Pure.

Encrypted reasoning is sealed together with all that was said before it. OpenAI drops what comes back behind anything
else, and says so; here it is refused, so that no request does it unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from chatcluster.llm.simulator.front import seal
from chatcluster.llm.simulator.media import Medium, read_file, read_image
from chatcluster.llm.simulator.question import RefusedQuestion
from chatcluster.llm.simulator.tool_rules import refused_by_openai, too_many_for_openai

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ID_CHARACTERS_MAX = 64
_BLOCKS = {
    "user": {"input_text", "input_image", "input_file"},
    "system": {"input_text"},
    "developer": {"input_text"},
    "assistant": {"output_text", "refusal"},
}
_ENCRYPTED = "reasoning.encrypted_content"

Item = dict[str, Any]


class Request(msgspec.Struct):
    model: str
    input: list[Item]
    stream: bool = False
    store: bool = True
    background: bool = False
    include: list[str] = []
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    reasoning: dict[str, Any] | None = None
    temperature: Any = None
    max_output_tokens: int | None = None

    @property
    def tells_reasoning(self) -> bool:
        return _ENCRYPTED in self.include


def check(request: Request) -> str:
    """The seal of the whole conversation, for what is answered to it. Raises ``RefusedQuestion``."""
    if request.background and not request.store:
        raise RefusedQuestion("Background mode requires 'store' to be true.")
    if request.reasoning is not None and request.temperature is not None:
        raise RefusedQuestion("Unsupported parameter: 'temperature' is not supported with this model.")
    if request.max_output_tokens is not None and request.max_output_tokens < 1:
        raise RefusedQuestion("Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 1.")
    _check_tools(request)
    if not request.input:
        raise RefusedQuestion("Missing required parameter: 'input'.")
    sealed = seal(request.model, request.tools)
    known: set[str] = set()
    expected: list[str] = []
    for at, item in enumerate(request.input):
        where, kind = f"input[{at}]", item.get("type", "message")
        if kind == "function_call_output":
            _check_output(item, expected, where)
        elif kind == "function_call":
            _check_call(item, known, where)
            if expected and request.input[at - 1].get("type") == "function_call_output":
                raise _unanswered(expected)
            expected.append(item["call_id"])
        elif kind == "reasoning":
            _check_reasoning(request.input, at, request, sealed)
        elif expected:
            raise _unanswered(expected)
        elif kind == "message":
            _check_message(item, where)
        sealed = seal(sealed, item)
    if expected:
        raise _unanswered(expected)
    return sealed


def media_in(request: Request) -> Iterator[Medium]:
    """The images and documents of all items. Raises ``RefusedQuestion``."""
    for at, item in enumerate(request.input):
        blocks = item.get("output" if item.get("type") == "function_call_output" else "content")
        for number, block in enumerate(blocks if isinstance(blocks, list) else ()):
            where = f"input[{at}].content[{number}]"
            if block.get("type") == "input_image":
                yield read_image(block.get("image_url"), f"{where}.image_url")
            elif block.get("type") == "input_file":
                yield read_file(block, where)


def _unanswered(ids: Sequence[str]) -> RefusedQuestion:
    return RefusedQuestion(f"No tool output found for function call {ids[0]}.")


def _check_tools(request: Request) -> None:
    if request.tool_choice is not None and not request.tools:
        raise RefusedQuestion("Tool choice is only allowed when 'tools' are specified.")
    if (why := too_many_for_openai(len(request.tools or ()))) is not None:
        raise RefusedQuestion(why)
    names: set[str] = set()
    for at, tool in enumerate(request.tools or ()):
        if tool.get("type") == "web_search":
            continue
        name = tool.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in names:
            raise RefusedQuestion(f"Invalid 'tools[{at}].name': it has to match '^[a-zA-Z0-9_-]+$', once.")
        names.add(name)
        if (why := refused_by_openai(tool.get("parameters") or {})) is not None:
            raise RefusedQuestion(f"Invalid schema for function '{name}': {why}")


def _check_output(item: Item, expected: list[str], where: str) -> None:
    call_id, output = item.get("call_id"), item.get("output")
    if not expected or call_id not in expected:
        raise RefusedQuestion(f"No tool call found for function call output with call_id {call_id}.")
    if call_id != expected[0]:
        raise RefusedQuestion(f"Invalid '{where}.call_id': the output of {expected[0]} was expected.")
    blocks = output if isinstance(output, list) else []
    if not isinstance(output, str) and not blocks:
        raise RefusedQuestion(f"Invalid '{where}.output': a text, or a list of blocks.")
    _check_blocks(blocks, _BLOCKS["user"], where)
    expected.pop(0)


def _check_call(item: Item, known: set[str], where: str) -> None:
    call_id = item.get("call_id")
    if not isinstance(call_id, str) or not 0 < len(call_id) <= _ID_CHARACTERS_MAX or call_id in known:
        raise RefusedQuestion(f"Invalid '{where}.call_id': empty, too long, or used before.")
    if not _NAME.fullmatch(str(item.get("name"))):
        raise RefusedQuestion(f"Invalid '{where}.name': string does not match pattern '^[a-zA-Z0-9_-]+$'.")
    try:
        msgspec.json.decode(item.get("arguments", ""), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, TypeError):
        raise RefusedQuestion(f"Invalid '{where}.arguments': no JSON object.") from None
    known.add(call_id)


def _check_reasoning(items: list[Item], at: int, request: Request, sealed: str) -> None:
    item = items[at]
    name, content = item.get("id"), item.get("encrypted_content")
    if not content and not request.store:
        raise RefusedQuestion(f"Item '{name}' not found. Items are not persisted when `store` is set to false.")
    following = next((later for later in items[at + 1 :] if later.get("type") != "reasoning"), None)
    if following is None or following.get("role", "assistant") != "assistant":
        raise RefusedQuestion(f"Item '{name}' of type 'reasoning' was provided without its required following item.")
    if content and content != seal(sealed, item.get("summary")):
        raise RefusedQuestion(f"The encrypted content of item '{name}' could not be verified.")


def _check_message(item: Item, where: str) -> None:
    role, content = item.get("role"), item.get("content")
    if role not in _BLOCKS:
        raise RefusedQuestion(f"Invalid value: '{role}' for '{where}.role'.")
    if not content or not isinstance(content, str | list):
        raise RefusedQuestion(f"Invalid '{where}.content': it is empty.")
    _check_blocks(content if isinstance(content, list) else [], _BLOCKS[role], where)


def _check_blocks(blocks: list[dict[str, Any]], allowed: set[str], where: str) -> None:
    for block in blocks:
        if block.get("type") not in allowed:
            raise RefusedQuestion(f"Invalid value: '{block.get('type')}'. Supported values are: {sorted(allowed)}.")
        if "text" in block["type"] and not block.get("text"):
            raise RefusedQuestion(f"Invalid '{where}.content': empty text.")
