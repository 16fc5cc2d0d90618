"""What a wire is: one protocol of model servers, as four pure functions. And a route: where one request goes.

``wires.py`` has one wire for each kind of provider. ``client.py`` carries bytes, and knows nothing of what they say:
per request it takes the route, and the wire of the route's kind, whose decoder turns the answer's payloads into events.
A wire judges what is said; how it is said over HTTP (status, headers, lost connections) is judged by ``failures.py``
and the client for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any, NamedTuple, Protocol

import msgspec

from chatcluster.llm.failures import Provider
from chatcluster.llm.slices import encoded_text
from chatcluster.models import NOT_EXTRA, Continuation, Kind, ModelOptions
from chatcluster.parts import OpaquePart, Part, Role, ToolCallPart, encode
from chatcluster.ports import ModelEvent, ModelRequest, ToolSpec
from chatcluster.usage import Prices, Usage

OPENAI_TOOLS_MAX = 128
"""A request may have so many tools, at OpenAI and at most who speak its protocols."""
LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
"""Where a request says how many tokens the answer may have, on the wires whose answers are continued from words."""
SEARCH = "web_search"
"""What both vendors that have one call their tool."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One model of one server, and what goes into each request to it."""

    kind: Kind = Kind.OPENAI
    server: Provider
    """The server. Its name is also that of the opaque parts which are for it."""
    base_url: str = ""
    api_key: str = ""
    model: str
    """The model's name at the server."""
    name: str = ""
    """The model's name for people, where that is another one."""
    prices: Prices = Prices()
    options: ModelOptions = ModelOptions()
    output_tokens_max: int | None = None
    """None: as many as the server likes, on the wires that have no need to say."""
    include_usage: bool = True
    prefix: str = ""
    """Stands for what the prompt begins with: opaque parts which are bound to that are for the same alone."""
    in_background: bool = False
    """The server goes on with an answer that nobody listens to, so that one can attach to it again."""
    goes_on_from_words: bool = False
    """Whether it can be given the beginning of an answer, and says the rest."""

    def __repr__(self) -> str:
        return f"<Route {self.kind} {self.server.name} {self.model}>"


def continuation_of(route: Route) -> Continuation:
    """What this server can do with an answer that was begun, on this wire."""
    if route.in_background and route.kind is Kind.RESPONSES:
        return Continuation.BACKGROUND
    return Continuation.PREFIX if route.goes_on_from_words and route.kind is Kind.OPENAI else Continuation.NONE


def require_able(request: ModelRequest, route: Route) -> None:
    """Raises ``ProviderError`` where the server cannot go on with an answer as the request wants it: what was set may
    have changed since somebody asked."""
    needs = Continuation.BACKGROUND if request.attach is not None else Continuation.PREFIX if request.begun else None
    if needs is not None and continuation_of(route) is not needs:
        raise route.server.error(f"{route.model} cannot go on with the answer", "answer_forgotten", retryable=True)


def output_tokens_left(request: ModelRequest, route: Route) -> int | None:
    """How many tokens the answer may still have: of one that was begun, what its words leave. None: any number."""
    extra = [limit for name in LIMIT_FIELDS if type(limit := route.options.extra_body.get(name)) is int]
    output_tokens_max = min(extra, default=route.output_tokens_max)
    return None if output_tokens_max is None else max(0, output_tokens_max - request.begun_tokens)


def is_for(part: OpaquePart, route: Route) -> bool:
    """Whether the part came from this model of this server, behind this beginning: it goes to no other."""
    return part.provider == route.server.name and part.model == route.model and part.prefix in ("", route.prefix)


def with_prefix(request: ModelRequest, route: Route) -> Route:
    """The route of a wire whose server signs what it thought together with the prompt. System text and tools change
    between turns; what was signed behind others would be refused, in this turn and in each to come."""
    digest = blake2b(encode([(tool.name, tool.description, tool.parameters) for tool in request.tools]), digest_size=8)
    if (settings := search_settings(request, route)) is not None:
        digest.update(encode(settings))
    if route.options.computer_tool is not None:
        digest.update(route.options.computer_tool.encode())
    if not request.tools and any(isinstance(part, ToolCallPart) for said in request.messages for part in said.parts):
        digest.update(b"calls")  # some wires have to offer a tool nevertheless
    for message in request.messages:
        if message.role is not Role.SYSTEM:
            digest.update(b"%d" % message.id)  # where a summary took the place of what was before, another one
            break
        digest.update(encode(message.parts))
    return msgspec.structs.replace(route, prefix=digest.hexdigest())


def search_settings(request: ModelRequest, route: Route) -> dict[str, Any] | None:
    """The settings of the provider's own search of the web; None where it is not to search, or where a tool of ours has
    that name, of which there may be one."""
    is_taken = any(tool.name == SEARCH for tool in request.tools)
    return None if is_taken or not request.may_search else route.options.web_search


def with_extra(parameters: dict[str, Any], options: ModelOptions) -> dict[str, Any]:
    """The parameters of a request with the further fields that the model's options name, which go before ours; but not
    before those of the conversation."""
    return parameters | {name: value for name, value in options.extra_body.items() if name not in NOT_EXTRA}


def listed_tools(
    request: ModelRequest, wire_tool: Callable[[ToolSpec], dict[str, Any]], of_server: Iterable[dict[str, Any]] = ()
) -> Iterator[bytes]:
    """The members of a body that offer tools, each as the wire has it, and those that are the server's own: nothing
    where none is offered."""
    comma = b""
    for tool in chain(map(wire_tool, request.tools), of_server):
        yield comma or b',"tools":['
        yield from encoded_text(encode(tool))
        comma = b","
    if comma:
        yield b"]" if request.may_call_tools else b'],"tool_choice":"none"'


class Decoder(Protocol):
    """One answer. Every method may raise ``ProviderError``."""

    is_complete: bool
    """``Finished`` has been returned: nothing of what follows matters."""

    @property
    def usage(self) -> Usage | None:
        """The usage as far as the server has said, also of an answer that fails."""
        ...

    @property
    def has_finish_reason(self) -> bool:
        """The answer is whole; at most usage and the end marker are still to come."""
        ...

    def feed(self, payload: bytes) -> list[ModelEvent]:
        """The events that one payload of the stream stands for."""
        ...

    def end(self) -> list[ModelEvent]:
        """The last events, now that the body has ended; raises ``ProviderError`` if the answer is not whole."""
        ...

    def cited(self) -> Sequence[Part]:
        """The sources of the text under way, which are told where it ends: one that is broken off has them as well."""
        ...


class Target(NamedTuple):
    method: str
    url: str


class Wire(NamedTuple):
    target: Callable[[ModelRequest, Route], Target]
    headers: Callable[[Route], dict[str, str]]
    """The key, and what else the protocol wants."""
    body: Callable[[ModelRequest, Route], Iterator[bytes]]
    """The body in slices of bounded work."""
    decoder: Callable[[ModelRequest, Route], Decoder]
    cancel: Callable[[ModelRequest, Route], Target] | None = None
    """Where an answer in the background is cancelled, on the wires that have such."""
    tools_max: int | None = None
    """With more the request is refused. None: nobody has said a number."""
