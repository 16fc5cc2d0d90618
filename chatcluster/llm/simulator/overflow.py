"""How servers say that a prompt is too long: the status and the body of each of ``WAYS``. Pure.

``cut`` is none of them: such a server says nothing, reads what there is room for, and counts that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

CUT = "cut"


class TooLong(NamedTuple):
    status: int
    body: Any


def _openai(asked: int, limit: int) -> TooLong:
    said = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {asked} tokens. "
        "Please reduce the length of the messages."
    )
    error = {"message": said, "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}
    return TooLong(400, {"error": error})


def _anthropic(asked: int, limit: int) -> TooLong:
    error = {"type": "invalid_request_error", "message": f"prompt is too long: {asked} tokens > {limit} maximum"}
    return TooLong(400, {"type": "error", "error": error})


def _too_large(_asked: int, _limit: int) -> TooLong:
    error = {"type": "request_too_large", "message": "Request exceeds the maximum size"}
    return TooLong(413, {"type": "error", "error": error})


def _gemini(asked: int, limit: int) -> TooLong:
    said = f"The input token count ({asked}) exceeds the maximum number of tokens allowed ({limit})."
    return TooLong(400, [{"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}])


def _vllm(asked: int, limit: int) -> TooLong:
    said = f"This model's maximum context length is {limit} tokens. However, you requested {asked} tokens."
    return TooLong(400, {"object": "error", "message": said, "type": "BadRequestError", "param": None, "code": 400})


def _llamacpp(asked: int, limit: int) -> TooLong:
    said = f"the request exceeds the available context size ({limit} tokens), try increasing it"
    counts = {"n_prompt_tokens": asked, "n_ctx": limit}
    return TooLong(400, {"error": {"code": 400, "message": said, "type": "exceed_context_size_error", **counts}})


WAYS: dict[str, Callable[[int, int], TooLong]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "too-large": _too_large,
    "gemini": _gemini,
    "vllm": _vllm,
    "llamacpp": _llamacpp,
}


def way_of(path: str) -> str:
    """What is said on this wire where nothing else is ordered."""
    return "anthropic" if path.endswith("/messages") else "openai"
