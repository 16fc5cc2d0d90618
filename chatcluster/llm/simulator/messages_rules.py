"""What a strict provider refuses of a Messages request, in the words that Anthropic uses for it. Pure.

Thinking is sealed together with all that was said before it: system text, tools and earlier blocks, whatever messages
they are grouped into, but for the marks of the cache. A block that comes back behind anything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from chatcluster.file_types import IMAGES, PDF
from chatcluster.llm.simulator.front import seal
from chatcluster.llm.simulator.media import Medium, read_media
from chatcluster.llm.simulator.question import RefusedQuestion
from chatcluster.llm.simulator.screen_rules import check_call, check_result, check_set, is_set, members_of
from chatcluster.llm.simulator.tool_rules import refused_by_anthropic

VERSION = "2026-10-21"
MARKS_MAX = 4
THINKING_TOKENS_MIN = 1024
_THINKING = ("thinking", "redacted_thinking")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BLOCKS = {
    "user": {"text", "image", "document", "tool_result"},
    "assistant": {"text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "web_search_tool_result"},
    "system": {"text"},
}

_MEDIA = {"image": IMAGES, "document": (PDF,)}

Block = dict[str, Any]


class Message(msgspec.Struct):
    role: str
    content: str | list[Block]

    @property
    def blocks(self) -> list[Block]:
        return [{"type": "text", "text": self.content}] if isinstance(self.content, str) else self.content


class Request(msgspec.Struct):
    model: str
    max_tokens: int
    messages: list[Message]
    stream: bool = False
    system: str | list[Block] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None

    @property
    def may_call(self) -> bool:
        return bool(self.tools) and (self.tool_choice or {}).get("type") != "none"


def check(request: Request, headers: Mapping[str, str]) -> str:
    """The seal of the whole conversation, for what is answered to it. Raises ``RefusedQuestion``."""
    _check_parameters(request, headers)
    _check_tools(request)
    _check_marks(request)
    if not request.messages or request.messages[0].role != "user":
        raise RefusedQuestion('messages: first message must use the "user" role')
    if request.messages[-1].role == "assistant":
        raise RefusedQuestion("This model does not support assistant message prefill.")
    known: set[str] = set()
    expected: list[Block] = []
    members = members_of(request.tools or ())
    for at, message in enumerate(request.messages):
        _check_blocks(message, f"messages.{at}.content")
        _check_results(message, expected, f"messages.{at}")
        expected = _check_calls(message, known, members, f"messages.{at}")
    if expected:
        raise _unanswered([block["id"] for block in expected])
    _check_thinking(request)
    return _check_seals(request)


def media_in(request: Request) -> Iterator[Medium]:
    """The images and documents of all messages, and those in results. Raises ``RefusedQuestion``."""
    for at, message in enumerate(request.messages):
        for block in message.blocks:
            inner = block.get("content") if block["type"] == "tool_result" else None
            for one in inner if isinstance(inner, list) else [block]:
                if one.get("type") in _MEDIA:
                    source = one.get("source") or {}
                    if source.get("type") != "base64":
                        raise RefusedQuestion(f"messages.{at}.content: {one['type']}.source.type: 'base64' expected")
                    allowed = _MEDIA[one["type"]]
                    yield read_media(source.get("media_type"), source.get("data"), allowed, f"messages.{at}.content")


def _check_parameters(request: Request, headers: Mapping[str, str]) -> None:
    if request.max_tokens < 1:
        raise RefusedQuestion("max_tokens: must be greater than or equal to 1")
    if headers.get("anthropic-version", VERSION) >= VERSION:
        for name in ("temperature", "top_p", "top_k"):
            if getattr(request, name) is not None:
                raise RefusedQuestion(f"{name}: Extra inputs are not permitted")
    budget = (request.thinking or {}).get("budget_tokens")
    if budget is not None and not THINKING_TOKENS_MIN <= budget < request.max_tokens:
        raise RefusedQuestion("`max_tokens` must be greater than `thinking.budget_tokens`, which is at least 1024.")


def _check_tools(request: Request) -> None:
    if request.tool_choice is not None and not request.tools:
        raise RefusedQuestion("tool_choice may only be specified while providing tools.")
    if not request.tools and any(block["type"].startswith("tool_") for _, block in _flat(request)):
        raise RefusedQuestion("Requests which include `tool_use` or `tool_result` blocks must define tools.")
    names: set[str] = set()
    for at, tool in enumerate(request.tools or ()):
        if is_set(tool):
            check_set(tool, f"tools.{at}")
            continue
        name = tool.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise RefusedQuestion(f"tools.{at}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
        if name in names:
            raise RefusedQuestion("tools: Tool names must be unique.")
        names.add(name)
        if str(tool.get("type", "custom")).startswith(f"{name}_"):  # one of the server's own, which has no schema
            continue
        if (why := refused_by_anthropic(tool.get("input_schema", {}))) is not None:
            raise RefusedQuestion(f"tools.{at}.custom.input_schema: {why}")


def _check_marks(request: Request) -> None:
    marks = msgspec.json.encode(request).count(b'"cache_control":{')
    if marks > MARKS_MAX:
        raise RefusedQuestion(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")


def _check_blocks(message: Message, where: str) -> None:
    if message.role not in _BLOCKS:
        raise RefusedQuestion(f"{where}: unexpected role '{message.role[:40]}'")
    if not message.blocks:
        raise RefusedQuestion(f"{where}: messages must have non-empty content")
    if message.role == "assistant" and message.blocks[-1].get("type") in _THINKING:
        raise RefusedQuestion(f"{where}: The final block in an assistant message cannot be `thinking`.")
    for block in message.blocks:
        if block.get("type") not in _BLOCKS[message.role]:
            raise RefusedQuestion(f"{where}: a block of type {block.get('type')!r} is not allowed here")
        _check_text(block, where)
        for inner in block["content"] if isinstance(block.get("content"), list) else ():
            _check_text(inner, where)


def _check_text(block: Block, where: str) -> None:
    if block.get("type") == "text" and not str(block.get("text", "")).strip():
        raise RefusedQuestion(f"{where}: text content blocks must contain non-whitespace text")


def _check_results(message: Message, calls: Sequence[Block], where: str) -> None:
    blocks = [block for block in message.blocks if block["type"] == "tool_result"]
    results = [block.get("tool_use_id") for block in blocks]
    expected = [block["id"] for block in calls]
    kinds = [block["type"] == "tool_result" for block in message.blocks]
    if expected and results[: len(expected)] != expected:
        raise _unanswered([one for one in expected if one not in results] or expected)
    for block, call in zip(blocks, calls, strict=False):
        check_result(block, call, where)
    if len(results) > len(expected):
        raise RefusedQuestion(
            f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {results[len(expected)]}. Each "
            "`tool_result` block must have a corresponding `tool_use` block in the previous message."
        )
    if kinds != sorted(kinds, reverse=True):
        raise RefusedQuestion(f"{where}: `tool_result` blocks must come first")


def _unanswered(ids: Sequence[str]) -> RefusedQuestion:
    return RefusedQuestion(
        f"`tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(ids)}. Each `tool_use` "
        "block must have a corresponding `tool_result` block in the next message."
    )


def _check_calls(message: Message, known: set[str], members: frozenset[str], where: str) -> list[Block]:
    calls = [block for block in message.blocks if block["type"] == "tool_use"]
    for block in calls:
        call_id, name = str(block.get("id")), str(block.get("name"))
        if not _NAME.fullmatch(call_id) or not _NAME.fullmatch(name):
            raise RefusedQuestion(f"{where}: the id or name of a `tool_use` block does not match its pattern")
        if call_id in known:
            raise RefusedQuestion(f"{where}: `tool_use` ids must be unique")
        if not isinstance(block.get("input"), dict):
            raise RefusedQuestion(f"{where}: tool_use.input: Input should be a valid dictionary")
        check_call(block, members, where)
        known.add(call_id)
    return calls


def _check_thinking(request: Request) -> None:
    """With thinking turned on, the steps of the turn under way have to begin with it."""
    if (request.thinking or {}).get("type") != "enabled":
        return
    for message in reversed(request.messages):
        kinds = [block["type"] for block in message.blocks]
        if message.role == "user" and kinds != ["tool_result"] * len(kinds):
            return
        if "tool_use" in kinds and kinds[0] not in _THINKING:
            raise RefusedQuestion(f"Expected `thinking` or `redacted_thinking`, but found `{kinds[0]}`.")


def _check_seals(request: Request) -> str:
    sealed = seal(request.model, _bare(request.system), _bare(request.tools))
    for role, block in _flat(request):
        if block["type"] == "thinking":
            if not block.get("signature"):
                raise RefusedQuestion("messages: thinking.signature: Field required")
            if block["signature"] != seal(sealed, block.get("thinking")):
                raise RefusedQuestion(
                    "Invalid `signature` in `thinking` block. The block is bound to a different conversation."
                )
        sealed = seal(sealed, role, _bare(block))
    return sealed


def _flat(request: Request) -> Iterator[tuple[str, Block]]:
    for message in request.messages:
        for block in message.blocks:
            yield message.role, block


def _bare(value: Any) -> Any:
    """The block without the marks of the cache."""
    if isinstance(value, dict):
        return {key: _bare(inner) for key, inner in value.items() if key != "cache_control"}
    return [_bare(inner) for inner in value] if isinstance(value, list) else value
