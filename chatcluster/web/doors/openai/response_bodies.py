"""What callers ask of a response, checked; and the response as it begins. Pure.

Of what the API has, a cluster does not do all. A parameter that would only have made the answer another one of its kind
(``temperature``, say) is taken and echoed: the model's provider decides. One that would change what the answer is, is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from chatcluster.chat import ClientTool
from chatcluster.errors import CallerError, InvalidRequest
from chatcluster.web.api.bodies import InputTool, decode
from chatcluster.web.api.tool_bodies import SERVERS_MAX, TOOLS_MAX, checked_servers, checked_tools

METADATA_MAX, KEY_CHARS_MAX, VALUE_CHARS_MAX = 16, 64, 512
DEFAULTS: dict[str, Any] = {
    "background": False,
    "error": None,
    "frequency_penalty": 0.0,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What is echoed, and how it is where the caller did not say."""
SERVICE_TIER = "default"
"""A response says by which it was made, and there is one."""
NO_LOGPROBS = "there are no log probabilities here: do not ask for them"
OF_A_SERVER = ("allowed_tools", "authorization", "connector_id", "headers", "server_url")
"""What a caller may say of a server of tools, and is settled here by its administrator."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class NotHere(msgspec.Struct, kw_only=True, frozen=True):
    """What may be asked of a response, and would make it another one than can be had here."""

    prompt: dict[str, Any] | None = None
    max_tool_calls: int | None = None
    top_logprobs: int | None = None


class WantedResponse(NotHere, kw_only=True, frozen=True):
    """What is asked of a response, and changes what is done."""

    input: str | list[Any] = ""
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    text: dict[str, Any] | None = None
    on_disconnect: str | None = None

    @property
    def conversation_id(self) -> str | None:
        named = self.conversation
        found = named.get("id") if isinstance(named, dict) else named
        if not isinstance(found, str) and named is not None:
            raise InvalidRequest("conversation is an ID, or an object with one", param="conversation")
        return found


class CreateResponse(WantedResponse, kw_only=True, frozen=True):
    """A response to be made. Fields that are not here are echoed where OpenAI's API knows them."""

    # what would make an answer another one of its kind: it is echoed, so it has to be what clients know
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    truncation: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None
    include: list[str] | None = None
    stream_options: dict[str, Any] | None = None


def fields_of(body: bytes) -> dict[str, Any]:
    """What was sent, as it was. Raises ``InvalidRequest``."""
    return decode(body, dict[str, Any])


class Tools(NamedTuple):
    """``client``: what the caller runs itself; ``servers``: those whose tools the cluster runs."""

    client: tuple[ClientTool, ...]
    servers: tuple[str, ...]


def check(data: WantedResponse) -> None:
    """Raises ``InvalidRequest`` for what this server does not do."""
    if data.previous_response_id is not None and data.conversation is not None:
        raise _refused("previous_response_id", "give previous_response_id or conversation, not both")
    _check_not_here(data)
    if data.text is not None:
        check_form("text.format", data.text.get("format"))
    check_tool_choice(data.tool_choice)
    if data.on_disconnect not in (None, "continue", "cancel"):
        raise _refused("on_disconnect", "on_disconnect is continue or cancel")
    if data.background and data.store is False:
        raise _refused("background", "what runs in the background is stored: leave store away")
    check_metadata(data.metadata or {})


def _check_not_here(data: NotHere) -> None:
    if data.prompt is not None:
        raise _refused("prompt", "there are no stored prompts here; give instructions and input")
    if data.max_tool_calls is not None:
        raise _refused("max_tool_calls", "this server does not count calls: leave max_tool_calls away")
    if data.top_logprobs:
        raise _refused("top_logprobs", NO_LOGPROBS)


def check_form(param: str, form: object) -> None:
    if form is not None and not (isinstance(form, dict) and form.get("type", "text") == "text"):
        raise _refused(param, "this server cannot hold a model to a schema; ask for text")


def check_tool_choice(tool_choice: object) -> None:
    if tool_choice not in (None, "auto", "none"):
        raise _refused("tool_choice", "the model chooses its tools here: tool_choice is auto or none")


def check_metadata(metadata: dict[str, str]) -> None:
    if len(metadata) > METADATA_MAX:
        raise _refused("metadata", f"metadata has more than {METADATA_MAX} pairs")
    for key, value in metadata.items():
        if len(key) > KEY_CHARS_MAX or len(value) > VALUE_CHARS_MAX or "\0" in key + value:
            limits = f"keys have at most {KEY_CHARS_MAX} characters, values {VALUE_CHARS_MAX}"
            raise _refused("metadata", f"metadata: {limits}, and none is NUL")


def tools_of(tools: Sequence[dict[str, Any]] | None, tool_choice: object = None) -> Tools:
    """Raises ``InvalidRequest`` for a kind of tool that there is not."""
    client, servers = [], []
    if len(tools or ()) > TOOLS_MAX + SERVERS_MAX:
        raise _refused("tools", f"there are more than {TOOLS_MAX + SERVERS_MAX} tools")
    with about("tools"):
        for tool in () if tool_choice == "none" else tools or ():
            match tool.get("type"):
                case "function":
                    client.append(_function(tool.get("function", tool)))
                case "mcp":
                    servers.append(_server(tool))
                case kind:
                    raise InvalidRequest(f"there is no tool of type {str(kind)[:40]!r} here: only function and mcp")
        return Tools(checked_tools(client), checked_servers(servers))


def _server(tool: dict[str, Any]) -> str:
    label = tool.get("server_label")
    given = [name for name in OF_A_SERVER if tool.get(name) is not None]
    if given or not isinstance(label, str):
        why = "servers of tools are known here by their slug, and set up there: give that as the server_label"
        raise InvalidRequest(f"{why}, without {given[0]}" if given else why)
    return label


def _function(tool: object) -> InputTool:
    if not isinstance(tool, dict):
        raise InvalidRequest("a function is an object with a name")
    name, description, parameters = tool.get("name"), tool.get("description") or "", tool.get("parameters") or {}
    if not (isinstance(name, str) and _NAME.fullmatch(name) and isinstance(description, str)):
        raise InvalidRequest("a function has a name of letters, digits, underscores and hyphens, and a description")
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"the parameters of {name} are not an object")
    return InputTool(name, description, parameters or {"type": "object", "properties": {}})


def begun(body: dict[str, Any], **known: Any) -> dict[str, Any]:
    """The response as it begins: every field that there is, as the caller gave it."""
    echoed = {name: default if body.get(name) is None else body[name] for name, default in DEFAULTS.items()}
    head = {"object": "response", "status": "in_progress", "service_tier": SERVICE_TIER}
    return {**head, **echoed, "metadata": body.get("metadata") or {}, **known}


def _refused(param: str, text: str) -> InvalidRequest:
    return InvalidRequest(text, param=param)


@contextmanager
def about(param: str) -> Iterator[None]:
    """What is found wrong in the block says that it is this parameter, if it does not know better."""
    try:
        yield
    except CallerError as error:
        error.details.setdefault("param", param)
        raise
