"""What callers ask of a chat completion, checked, and in the words of a response. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from chatcluster.errors import InvalidRequest
from chatcluster.web.doors.openai.response_bodies import (
    NO_LOGPROBS,
    WantedResponse,
    check_form,
    check_metadata,
    check_tool_choice,
)


class NotHere(msgspec.Struct, kw_only=True, frozen=True):
    """What may be asked of a completion, and would make it another one than can be had here."""

    n: int | None = None
    stop: str | list[str] | None = None
    functions: list[dict[str, Any]] | None = None
    logprobs: bool | None = None
    modalities: list[str] | None = None
    web_search_options: dict[str, Any] | None = None


class CreateCompletion(NotHere, kw_only=True, frozen=True):
    """A chat completion to be made. Fields that are not here are left to the model's provider."""

    messages: list[dict[str, Any]]
    model: str | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    store: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    on_disconnect: str | None = None

    @property
    def as_response(self) -> WantedResponse:
        """What it is about besides its messages."""
        return WantedResponse(model=self.model)


def check(data: CreateCompletion) -> None:
    """Raises ``InvalidRequest`` for what this server does not do."""
    _check_not_here(data)
    if data.on_disconnect not in (None, "continue", "cancel"):
        raise InvalidRequest("on_disconnect is continue or cancel", param="on_disconnect")
    check_form("response_format", data.response_format)
    check_tool_choice(data.tool_choice)
    check_metadata(data.metadata or {})


def _check_not_here(data: NotHere) -> None:
    if data.n not in (None, 1):
        raise InvalidRequest("this server makes one answer: leave n away", param="n")
    if data.stop:
        raise InvalidRequest("this server cannot stop at words: leave stop away", param="stop")
    if data.functions:
        raise InvalidRequest("functions are given as tools here", param="functions")
    if data.logprobs:
        raise InvalidRequest(NO_LOGPROBS, param="logprobs")
    if data.modalities not in (None, [], ["text"]):
        raise InvalidRequest("answers are text here: leave modalities away", param="modalities")
    if data.web_search_options is not None:
        raise InvalidRequest("nothing searches the web here: leave web_search_options away", param="web_search_options")


def items_in(messages: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The messages as items of a response's input, each with where it stands. Raises ``InvalidRequest``."""
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        if message.get("role") == "tool":
            output = {"call_id": message.get("tool_call_id"), "output": message.get("content")}
            yield place, {"type": "function_call_output", **output}
            continue
        content = message.get("refusal") if message.get("content") is None else message["content"]
        if content is not None or not message.get("tool_calls"):
            yield place, {"role": message.get("role"), "content": content}
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list):
            raise InvalidRequest(f"{place}: tool_calls is a list of calls", param="messages")
        for call in calls:
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict):
                raise InvalidRequest(f"{place}: a call has no function", param="messages")
            yield place, {"type": "function_call", "call_id": call.get("id"), **function}
