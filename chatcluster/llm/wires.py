"""The wire of each kind of provider, and the route that a deployment's settings name. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from chatcluster.config import Settings
from chatcluster.llm import anthropic, openai, responses
from chatcluster.llm.addresses import secrets_in
from chatcluster.llm.failures import Provider
from chatcluster.llm.wire import Route, Wire
from chatcluster.models import Input, Kind, ModelOptions
from chatcluster.ports import ModelRequest

WIRES: Mapping[Kind, Wire] = {
    Kind.OPENAI: openai.WIRE,
    Kind.ANTHROPIC: anthropic.WIRE,
    Kind.RESPONSES: responses.WIRE,
}

Routing = Callable[[ModelRequest], Route]
"""Where a request goes. Raises ``ProviderError`` where it can go nowhere: what a person has to set, and how."""


def settings_routing(settings: Settings) -> Routing:
    """All requests go to the server of the settings, and to the model that they or the settings name."""
    base_url, api_key = settings.llm.base_url.strip(), settings.llm.api_key.strip()
    server = server_at(base_url, api_key)
    options = ModelOptions(input=tuple(map(Input, settings.llm.input.split(","))))

    def route(request: ModelRequest) -> Route:
        if not base_url:
            raise server.error("no model server is set: set llm-base-url (CHATCLUSTER_LLM_BASE_URL)", "config")
        if not api_key:
            raise server.error(
                "no API key is set: set llm-api-key (CHATCLUSTER_LLM_API_KEY); any word will do for a server "
                "that needs none",
                "missing_key",
            )
        model = request.model or settings.llm.model
        if not model:
            raise server.error(
                "no model is named: set llm-model (CHATCLUSTER_LLM_MODEL), or the chat's model", "config"
            )
        return Route(
            kind=Kind(settings.llm.kind),
            server=server,
            base_url=base_url,
            api_key=api_key,
            model=model,
            options=options,
            include_usage=settings.llm.include_usage,
        )

    return route


def server_at(base_url: str, api_key: str) -> Provider:
    """The server by host and port, for people; never user names or passwords."""
    name = urlsplit(base_url).netloc.rpartition("@")[2] or "the model's server"
    return Provider(name, (api_key, *secrets_in(base_url)))
