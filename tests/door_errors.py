"""What may be wrong with a request, at every door, and how that is refused: the table of ``test_door_errors.py``."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from chatcluster.ports import TokenScope

Json = dict[str, Any]
UNKNOWN = "0" * 32
LARGE = "x" * 40_000
LIMITS = {"body_bytes_max": 30_000, "content_bytes_max": 2_000, "requests_per_user": 0}


class Wrong(NamedTuple):
    """A request and how it is refused. ``BUSY`` and ``HERS`` in it stand for chats: one that is at work, and one of
    somebody else. Without a ``body`` it is the one that is right, so it is something else that is wrong."""

    what: str
    status: int
    code: str
    says: str
    body: Any = None
    path: str = ""
    method: str = "POST"
    token: str = "right"
    """Which one comes with it."""


def everywhere(scope: TokenScope) -> list[Wrong]:
    """What is the same at every door."""
    others = next(one for one in TokenScope if one is not scope)
    return [
        Wrong("no JSON", 400, "invalid_request", "", b'{"a":'),
        Wrong(
            "no UTF-8",
            400,
            "invalid_request",
            "",
            b'{"input": "\xff", "items": "\xff", "messages": "\xff", "method": "\xff"}',
        ),
        Wrong("no object", 400, "invalid_request", "", b"[]"),
        Wrong("nested too deep", 400, "invalid_request", "", b"[" * 20_000),
        Wrong("too large", 413, "request_too_large", "larger than 30000 bytes", json.dumps({"a": LARGE}).encode()),
        Wrong("no token", 401, "invalid_token", "token", token="none"),
        Wrong("a bad token", 401, "invalid_token", "token", token="bad"),
        Wrong("a token that has expired", 401, "invalid_token", "token", token="expired"),
        Wrong("a token of another scope", 403, "out_of_scope", str(scope), token=str(others)),
        Wrong("no such method", 405, "method_not_allowed", "method", method="PUT"),
    ]


def response(**body: Any) -> Json:
    return {"input": "hello", **body}


def completion(*content: Any, **body: Any) -> Json:
    return {"messages": [{"role": "user", "content": list(content) or "hello"}], **body}


CONVERSATION = "/v1/conversations/conv_"
SOME_TOOLS = {"type": "mcp", "server_label": "x", "allowed_tools": ["read"]}
RESPONSE = f"/v1/responses/resp_{UNKNOWN}1"
WRONG_RESPONSES = [
    Wrong("input of a wrong type", 400, "invalid_request", "input", response(input=5)),
    Wrong("an item of a wrong type", 400, "invalid_request", "input[0]", response(input=[5])),
    Wrong("a flag of a wrong type", 400, "invalid_request", "stream", response(stream="yes")),
    Wrong("metadata of a wrong type", 400, "invalid_request", "metadata", response(metadata={"a": 1})),
    Wrong("nothing to answer", 400, "invalid_request", "input", response(input=[])),
    Wrong("a role that there is not", 400, "invalid_request", "role", response(input=[{"role": "x", "content": "a"}])),
    Wrong("a model that there is not", 404, "unknown_model", "nope", response(model="nope")),
    Wrong("a past that there is not", 404, "response_not_found", "resp_x", response(previous_response_id="resp_x")),
    Wrong("another's past", 404, "response_not_found", "HERS", response(previous_response_id="resp_HERS1")),
    Wrong("another's conversation", 404, "conversation_not_found", "HERS", response(conversation="conv_HERS")),
    Wrong("a conversation of a wrong type", 400, "invalid_request", "conversation", response(conversation={"id": 1})),
    Wrong("two pasts", 400, "invalid_request", "not both", response(conversation="a", previous_response_id="b")),
    Wrong("a busy conversation", 409, "chat_busy", "", response(conversation="conv_BUSY")),
    Wrong("a stored prompt", 400, "invalid_request", "instructions", response(prompt={"id": "p"})),
    Wrong("a schema", 400, "invalid_request", "text", response(text={"format": {"type": "json_schema"}})),
    Wrong("a forced tool", 400, "invalid_request", "auto", response(tool_choice="required")),
    Wrong("a tool that there is not", 400, "invalid_request", "web_search", response(tools=[{"type": "web_search"}])),
    Wrong("so many calls", 400, "invalid_request", "max_tool_calls", response(max_tool_calls=1)),
    Wrong("log probabilities", 400, "invalid_request", "probabilities", response(top_logprobs=2)),
    Wrong("some tools of a server", 400, "invalid_request", "allowed_tools", response(tools=[SOME_TOOLS])),
    Wrong("a server by address", 400, "invalid_request", "slug", response(tools=[{"type": "mcp", "server_url": "x"}])),
    Wrong(
        "an unknown server",
        404,
        "mcp_server_not_found",
        "nope",
        response(tools=[{"type": "mcp", "server_label": "nope"}]),
    ),
    Wrong("background unstored", 400, "invalid_request", "store", response(background=True, store=False)),
    Wrong("leaving otherwise", 400, "invalid_request", "continue", response(on_disconnect="stop")),
    Wrong(
        "audio",
        400,
        "invalid_request",
        "input_audio",
        response(input=[{"role": "user", "content": [{"type": "input_audio"}]}]),
    ),
    Wrong(
        "an image elsewhere",
        400,
        "invalid_request",
        "data URL",
        response(input=[{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png"}]}]),
    ),
    Wrong(
        "an unknown file",
        404,
        "file_not_found",
        "",
        response(input=[{"role": "user", "content": [{"type": "input_file", "file_id": UNKNOWN}]}]),
    ),
    Wrong(
        "an item of another kind",
        400,
        "invalid_request",
        "web_search_call",
        response(input=[{"type": "web_search_call", "id": "x"}]),
    ),
    Wrong(
        "a reference to nothing",
        404,
        "item_not_found",
        "msg_1",
        response(input=[{"type": "item_reference", "id": "msg_1"}]),
    ),
    Wrong(
        "an output of a wrong type",
        400,
        "invalid_request",
        "input[0]",
        response(input=[{"type": "function_call_output", "call_id": "c", "output": 5}]),
    ),
    Wrong(
        "a function of a wrong type",
        400,
        "invalid_request",
        "object",
        response(tools=[{"type": "function", "function": 5}]),
    ),
    Wrong("NUL", 400, "invalid_request", "NUL", response(input="a\0")),
    Wrong("too much to say", 413, "request_too_large", "2000", response(input="x" * 2_001)),
    Wrong(
        "a response that there is not", 404, "response_not_found", "resp_x", path="/v1/responses/resp_x", method="GET"
    ),
    Wrong("another's response", 404, "response_not_found", "HERS", path="/v1/responses/resp_HERS1", method="GET"),
    Wrong("none to stop", 404, "response_not_found", UNKNOWN, path=f"{RESPONSE}/cancel"),
    Wrong("none to delete", 404, "response_not_found", UNKNOWN, path=RESPONSE, method="DELETE"),
    Wrong("no number", 400, "invalid_request", "starting_after", path=f"{RESPONSE}?starting_after=x", method="GET"),
    Wrong("no flag", 400, "invalid_request", "stream", path=f"{RESPONSE}?stream=maybe", method="GET"),
    Wrong("no such place", 404, "not_found", "nothing at this address", {}, path="/v1/embeddings"),
    Wrong("no such model to look at", 404, "unknown_model", "nope", path="/v1/models/nope", method="GET"),
]
WRONG_COMPLETIONS = [
    Wrong("no messages", 400, "invalid_request", "messages", {}),
    Wrong("none of them", 400, "invalid_request", "answer", {"messages": []}),
    Wrong("messages of a wrong type", 400, "invalid_request", "messages", {"messages": "hello"}),
    Wrong(
        "a call without a function",
        400,
        "invalid_request",
        "function",
        {"messages": [{"role": "assistant", "tool_calls": [1]}]},
    ),
    Wrong(
        "calls of a wrong type",
        400,
        "invalid_request",
        "tool_calls",
        {"messages": [{"role": "assistant", "tool_calls": 5}]},
    ),
    Wrong("a model that there is not", 404, "unknown_model", "nope", completion(model="nope")),
    Wrong("two answers", 400, "invalid_request", "leave n away", completion(n=2)),
    Wrong("words to stop at", 400, "invalid_request", "leave stop away", completion(stop="x")),
    Wrong("a form", 400, "invalid_request", "text", completion(response_format={"type": "json_object"})),
    Wrong("log probabilities", 400, "invalid_request", "probabilities", completion(logprobs=True)),
    Wrong("a spoken answer", 400, "invalid_request", "modalities", completion(modalities=["text", "audio"])),
    Wrong("a search", 400, "invalid_request", "web_search_options", completion(web_search_options={})),
    Wrong("functions of before", 400, "invalid_request", "tools", completion(functions=[{"name": "f"}])),
    Wrong("audio", 400, "invalid_request", "input_audio", completion({"type": "input_audio"})),
    Wrong(
        "an image elsewhere",
        400,
        "invalid_request",
        "data URL",
        completion({"type": "image_url", "image_url": {"url": "https://x/y.png"}}),
    ),
    Wrong("too much to say", 413, "request_too_large", "2000", completion({"type": "text", "text": "x" * 2_001})),
]
ONE_ITEM = {"items": [{"role": "user", "content": "hello"}]}
WRONG_CONVERSATIONS = [
    Wrong("items of a wrong type", 400, "invalid_request", "items", {"items": "hello"}),
    Wrong("metadata of a wrong type", 400, "invalid_request", "metadata", {"metadata": []}),
    Wrong("too much metadata", 400, "invalid_request", "16", {"metadata": {str(n): "" for n in range(17)}}),
    Wrong(
        "audio",
        400,
        "invalid_request",
        "input_audio",
        {"items": [{"role": "user", "content": [{"type": "input_audio"}]}]},
    ),
    Wrong(
        "one that there is not", 404, "conversation_not_found", "conv_x", path="/v1/conversations/conv_x", method="GET"
    ),
    Wrong("another's", 404, "conversation_not_found", "HERS", path=f"{CONVERSATION}HERS", method="GET"),
    Wrong("another's to change", 404, "conversation_not_found", "HERS", {"metadata": {}}, path=f"{CONVERSATION}HERS"),
    Wrong("another's to delete", 404, "conversation_not_found", "HERS", path=f"{CONVERSATION}HERS", method="DELETE"),
    Wrong("another's items", 404, "conversation_not_found", "HERS", path=f"{CONVERSATION}HERS/items", method="GET"),
    Wrong("another's to add to", 404, "conversation_not_found", "HERS", ONE_ITEM, path=f"{CONVERSATION}HERS/items"),
    Wrong("a busy one to add to", 409, "chat_busy", "", ONE_ITEM, path=f"{CONVERSATION}BUSY/items"),
    Wrong("nothing to add", 400, "invalid_request", "items", {"items": []}, path=f"{CONVERSATION}BUSY/items"),
    Wrong("no items", 400, "invalid_request", "items", {}, path=f"{CONVERSATION}BUSY/items"),
    Wrong("an item of a wrong type", 400, "invalid_request", "items", {"items": [5]}, path=f"{CONVERSATION}BUSY/items"),
    Wrong("no item to delete", 404, "item_not_found", "msg_x", path=f"{CONVERSATION}BUSY/items/msg_x", method="DELETE"),
    Wrong("a busy one to delete", 409, "chat_busy", "", path=f"{CONVERSATION}BUSY", method="DELETE"),
    Wrong(
        "an item that there is not",
        404,
        "item_not_found",
        "msg_x",
        path=f"{CONVERSATION}BUSY/items/msg_x",
        method="GET",
    ),
    Wrong(
        "a page behind nothing",
        400,
        "invalid_request",
        "msg_x",
        path=f"{CONVERSATION}BUSY/items?after=msg_x",
        method="GET",
    ),
    Wrong(
        "an order that there is not",
        400,
        "invalid_request",
        "asc",
        path=f"{CONVERSATION}BUSY/items?order=up",
        method="GET",
    ),
    Wrong(
        "too large a page", 400, "invalid_request", "limit", path=f"{CONVERSATION}BUSY/items?limit=101", method="GET"
    ),
]


def said(*parts: Any, chat: str = "mine", **body: Any) -> Json:
    message = {"id": "m1", "role": "user", "parts": list(parts) or [{"type": "text", "text": "hello"}]}
    return {"id": chat, "messages": [message], **body}


WRONG_AI_SDK = [
    Wrong("no id", 400, "invalid_request", "id", {"messages": []}),
    Wrong("messages of a wrong type", 400, "invalid_request", "messages", {"id": "x", "messages": "hello"}),
    Wrong("a message of a wrong type", 400, "invalid_request", "messages", {"id": "x", "messages": [5]}),
    Wrong(
        "parts of a wrong type",
        400,
        "invalid_request",
        "list of parts",
        {"id": "x", "message": {"role": "user", "parts": 5}},
    ),
    Wrong("a model that there is not", 400, "unknown_model", "nope", said(model="nope")),
    Wrong("a server that there is not", 404, "mcp_server_not_found", "nope", said(mcpServers=["nope"])),
    Wrong("a trigger that there is not", 400, "invalid_request", "trigger", said(trigger="resume")),
    Wrong("leaving otherwise", 400, "invalid_request", "onDisconnect", said(onDisconnect="stop")),
    Wrong("audio", 400, "invalid_request", "audio", said({"type": "audio"})),
    Wrong("an image elsewhere", 400, "invalid_request", "data URL", said({"type": "file", "url": "https://x/y.png"})),
    Wrong("too much to say", 413, "request_too_large", "2000", said({"type": "text", "text": "x" * 2_001})),
    Wrong("a busy chat", 409, "chat_busy", "", said(chat="BUSY")),
    Wrong("another's chat", 404, "chat_not_found", "", path="/api/ai/chat/HERS", method="GET"),
    Wrong("another's chat to stop", 404, "chat_not_found", "", path="/api/ai/chat/HERS/stop"),
]


def run(content: Any = "hello", **body: Any) -> Json:
    return {"threadId": "mine", "runId": "r", "messages": [{"id": "m1", "role": "user", "content": content}], **body}


WRONG_AG_UI = [
    Wrong("no thread", 400, "invalid_request", "threadId", {"runId": "r", "messages": []}),
    Wrong("a thread of a wrong type", 400, "invalid_request", "threadId", run(threadId=5)),
    Wrong("messages of a wrong type", 400, "invalid_request", "messages", run(messages="hello")),
    Wrong("no message", 400, "invalid_request", "no message of a user", run(messages=[])),
    Wrong("a model that there is not", 400, "unknown_model", "nope", run(forwardedProps={"model": "nope"})),
    Wrong(
        "a server that there is not", 404, "mcp_server_not_found", "nope", run(forwardedProps={"mcpServers": ["nope"]})
    ),
    Wrong("leaving otherwise", 400, "invalid_request", "onDisconnect", run(forwardedProps={"onDisconnect": "x"})),
    Wrong("an answer of no form", 400, "invalid_request", "resume", run(resume=[{"interruptId": 5, "status": "x"}])),
    Wrong("a hologram", 400, "invalid_request", "hologram", run([{"type": "hologram"}])),
    Wrong(
        "an image elsewhere",
        400,
        "invalid_request",
        "data URL",
        run([{"type": "image", "source": {"type": "url", "value": "https://x/y.png"}}]),
    ),
    Wrong("too much to say", 413, "request_too_large", "2000", run("x" * 2_001)),
    Wrong("a busy chat", 409, "chat_busy", "", run(threadId="BUSY")),
]


def call(name: str, **arguments: Any) -> Json:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


WRONG_MCP = [
    Wrong("a tool that there is not", 200, "-32602", "chat_create", call("nope")),
    Wrong("a method that there is not", 200, "-32601", "nope", {"jsonrpc": "2.0", "id": 1, "method": "nope"}),
    Wrong("no request", 400, "-32600", "JSON-RPC", {"jsonrpc": "1.0", "id": 1, "method": "ping"}),
    Wrong("arguments of a wrong type", 200, "invalid_request", "content", call("chat_create", content=5)),
    Wrong("an argument that there is not", 200, "invalid_request", "frob", call("chat_create", content="a", frob=1)),
    Wrong(
        "a model that there is not", 200, "unknown_model", "models_list", call("chat_create", content="a", model="nope")
    ),
    Wrong("another's chat", 200, "chat_not_found", "chats_list", call("chat_send", chat_id="HERS", content="a")),
    Wrong("no ID of a chat", 200, "chat_not_found", "chats_list", call("chat_read", chat_id="x")),
    Wrong("a busy chat", 200, "chat_busy", "busy=queue", call("chat_send", chat_id="BUSY", content="a", busy="reject")),
    Wrong("no cursor", 200, "invalid_cursor", "without a cursor", call("chat_wait", chat_id="BUSY", cursor="x")),
    Wrong("too long a wait", 200, "invalid_request", "timeout", call("chat_wait", chat_id="BUSY", timeout=51)),
    Wrong(
        "a call that there is not",
        200,
        "tool_call_not_found",
        "chat_wait",
        call("chat_answer", chat_id="BUSY", results=[{"call_id": "c", "content": "x"}]),
    ),
    Wrong("too much to say", 200, "request_too_large", "2000", call("chat_create", content="x" * 2_001)),
]


class Door(NamedTuple):
    path: str
    right: Json
    scope: TokenScope
    wrong: list[Wrong]


DOORS = {
    "responses": Door("/v1/responses", response(background=True), TokenScope.OPENAI, WRONG_RESPONSES),
    "completions": Door("/v1/chat/completions", completion(), TokenScope.OPENAI, WRONG_COMPLETIONS),
    "conversations": Door("/v1/conversations", {}, TokenScope.OPENAI, WRONG_CONVERSATIONS),
    "ai-sdk": Door("/api/ai/chat", said(), TokenScope.AI_SDK, WRONG_AI_SDK),
    "ag-ui": Door("/api/agui", run(), TokenScope.AG_UI, WRONG_AG_UI),
    "mcp": Door("/mcp", call("chats_list"), TokenScope.MCP, WRONG_MCP),
}
