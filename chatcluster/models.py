"""Providers and models, as administrators configure them, and which of them answers. Pure.

A **provider** is a server of models with an address and a key. A **model** is a name that people use, and what it
stands for: a provider, the provider's name of it, its limits, options and prices, and the models that take its place.

Who is authoritative: the rows in the database. A **catalogue** is what they were at one moment; every replica has one
of its own, which is a few seconds old at most (``model_directory.py``).

``Catalogue.candidates`` decides which models are asked, in which order:

* a deployment without any provider has none: its settings are its provider, and any name goes through to it;
* the model that a message or its chat names, if it is there and enabled, and so is its provider;
* in the place of one that was deleted or disabled, the default, and in the place of that the first by name;
* behind it, its fall-backs, for when it fails again and again.

A key is kept sealed (``secrets.py``), and no part of it but its last characters is ever shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatcluster.errors import InvalidRequest, UnknownModel
from chatcluster.texts import checked_line
from chatcluster.usage import Prices

NAME_CHARS_MAX = 200
URL_CHARS_MAX = 2000
KEY_CHARS_MAX = 10_000
OPTIONS_BYTES_MAX = 64 << 10
FALLBACKS_MAX = 8
OUTPUT_TOKENS_DEFAULT = 32_000
NO_KEY = "none"
"""What a server that takes no key is sent: clients and servers in between expect something there."""

Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Kind(StrEnum):
    """What a provider's server speaks."""

    OPENAI = "openai"
    """Chat Completions, as OpenAI defined it and many servers speak it."""
    ANTHROPIC = "anthropic"
    """Messages."""
    RESPONSES = "openai-responses"


class Continuation(StrEnum):
    """What a takeover in mid-answer does."""

    NONE = "none"
    """The next owner asks anew."""
    PREFIX = "prefix"
    """The next owner has the model go on from the words that there are."""
    BACKGROUND = "background"
    """The next owner attaches to the answer, which goes on at the provider."""


class Input(StrEnum):
    """What a model takes in a conversation."""

    TEXT = "text"
    IMAGE = "image"
    PDF = "pdf"

    @property
    def words(self) -> str:
        return {Input.TEXT: "text", Input.IMAGE: "images", Input.PDF: "PDFs"}[self]


ALL_INPUT = tuple(Input)


class PrefixDialect(StrEnum):
    """How a server is asked to go on from the words of an answer."""

    CONTINUE_FINAL_MESSAGE = "continue_final_message"
    """By fields of the request, as vLLM and llama.cpp have them."""
    PREFIX = "prefix"
    """By a mark on the last message, as DeepSeek has it (at its address that ends in ``/beta``)."""
    PREFIX_ECHOED = "prefix_echoed"
    """By the same mark; the answer begins with the words again, as Mistral's does."""
    PARTIAL = "partial"
    """By a mark of that name, as Moonshot has it."""


class ThinkTags(StrEnum):
    """How a model has what it thinks in the text of its answer, where its server does not tell the two apart."""

    BOTH = "both"
    """Between ``<think>`` and ``</think>``, first of all."""
    CLOSING = "closing"
    """Before ``</think>``: the first tag is in the prompt."""


class ComputerTool(StrEnum):
    """In which words of its provider a model is told of the screen of a workspace."""

    TOOLSET_20260801 = "computer_toolset_20260801"
    """Anthropic's, for its models since August 2026."""


NOT_EXTRA = ("messages", "input", "system", "tools", "tool_choice")
"""Fields of the conversation, which no option speaks for."""


class ModelOptions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What goes into each request besides the conversation. What is left away is not sent."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    reasoning_effort: str | None = None
    thinking_tokens: Tokens | None = None
    input: tuple[Input, ...] = ALL_INPUT
    """What else is in a conversation is replaced by a note."""
    prefix: PrefixDialect = PrefixDialect.CONTINUE_FINAL_MESSAGE
    """How the server is asked to go on, where the model's continuation is ``prefix``."""
    think_tags: ThinkTags | None = None
    """None: it has not."""
    web_search: dict[str, Any] | None = None
    """The provider searches the web for its answers, with these settings, as it names them; None: it does not."""
    computer_tool: ComputerTool | None = None
    """None: as it is told of any other tool, which every model understands."""
    extra_body: dict[str, Any] = {}
    """Further fields of the request, as the provider names them; none of ``NOT_EXTRA``."""


class ProviderOptions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    include_usage: bool = True
    """Whether to ask for the usage at the end of the stream, which a few older servers refuse."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A row, with its key as it is kept: sealed."""

    name: str
    kind: Kind
    base_url: str
    enabled: bool = True
    options: ProviderOptions = ProviderOptions()
    sealed: bytes | None = None
    """The provider's key, sealed."""
    key_hint: str | None = None
    """The last characters of the key, for people to tell keys apart."""
    key_set_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<Provider {self.name}>"


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row. ``name`` is what people and chats call it, ``provider_model`` what its provider does."""

    name: str
    provider: str
    provider_model: str
    enabled: bool = True
    is_default: bool = False
    context_tokens: Tokens | None = None
    """How long a conversation it takes; None: unknown."""
    output_tokens_max: Tokens = OUTPUT_TOKENS_DEFAULT
    compaction_percent: Annotated[int, Meta(ge=10, le=95)] = 70
    """The part of the context above which a conversation is summarised."""
    prices: Prices = Prices()
    options: ModelOptions = msgspec.field(default_factory=ModelOptions)
    fallbacks: tuple[str, ...] = ()
    failover_after: Annotated[int, Meta(ge=1, le=100)] = 2
    """After so many failed attempts at one step the next of ``fallbacks`` is asked."""
    continuation: Continuation = Continuation.NONE

    @property
    def answer_tokens_max(self) -> int:
        """What is asked for at most: an answer that may fill the context leaves half of it to the prompt, or servers
        refuse the request."""
        if self.context_tokens is None:
            return self.output_tokens_max
        return min(self.output_tokens_max, self.context_tokens - self.context_tokens // 2)


class NewProvider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an administrator gives. ``key`` is the secret itself, None for a server that takes none."""

    name: str
    kind: Kind = Kind.OPENAI
    base_url: str
    key: str | None = None
    enabled: bool = True
    options: ProviderOptions = ProviderOptions()

    def __repr__(self) -> str:
        return f"<NewProvider {self.name}>"


class ProviderChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left away stays. A key of None removes the key."""

    base_url: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    options: ProviderOptions | UnsetType = UNSET
    key: str | UnsetType | None = UNSET

    def __repr__(self) -> str:
        return "<ProviderChange>"


class ModelChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left away stays. ``is_default`` can be given to another model, and not be taken from this one."""

    provider: str | UnsetType = UNSET
    provider_model: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    context_tokens: Tokens | UnsetType | None = UNSET
    output_tokens_max: Tokens | UnsetType = UNSET
    compaction_percent: Annotated[int, Meta(ge=10, le=95)] | UnsetType = UNSET
    prices: Prices | UnsetType = UNSET
    options: ModelOptions | UnsetType = UNSET
    fallbacks: tuple[str, ...] | UnsetType = UNSET
    failover_after: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    continuation: Continuation | UnsetType = UNSET


class Candidate(msgspec.Struct, frozen=True):
    """A model that may be asked, and its provider."""

    model: ModelEntry
    provider: Provider


class Catalogue:
    """All providers and models at one moment."""

    def __init__(self, providers: Mapping[str, Provider], models: Mapping[str, ModelEntry]) -> None:
        self._providers = providers
        self._models = models

    def __repr__(self) -> str:
        return f"<Catalogue of {len(self._models)} models, {len(self._providers)} providers>"

    @property
    def is_empty(self) -> bool:
        """Whether the deployment has no provider but its settings."""
        return not self._providers

    @property
    def usable(self) -> list[ModelEntry]:
        """The models that can be asked, the default first, then by name."""
        found = [model for model in self._models.values() if self._candidate(model.name) is not None]
        return sorted(found, key=lambda model: (not model.is_default, model.name))

    def candidates(self, name: str | None) -> list[Candidate]:
        """The models to ask where ``name`` is wanted (None: the default), in the order in which they take over from
        each other. Empty if nothing can be asked."""
        first = (None if name is None else self._candidate(name)) or self._default()
        if first is None:
            return []
        behind = (self._candidate(fallback) for fallback in first.model.fallbacks)
        return [first, *(candidate for candidate in behind if candidate is not None and candidate != first)]

    def require(self, name: str) -> None:
        """Raises ``UnknownModel`` for a name that nothing stands behind."""
        if not self.is_empty and self._candidate(name) is None:
            usable = ", ".join(model.name for model in self.usable[:20])
            raise UnknownModel(f"there is no model {name}; there are: {usable or 'none'}", model=name)

    def _candidate(self, name: str) -> Candidate | None:
        model = self._models.get(name)
        provider = None if model is None else self._providers.get(model.provider)
        if model is None or provider is None or not (model.enabled and provider.enabled):
            return None
        return Candidate(model, provider)

    def _default(self) -> Candidate | None:
        """The default; where it was removed or cannot be asked, the first one that can."""
        usable = self.usable
        return self._candidate(usable[0].name) if usable else None


EMPTY = Catalogue({}, {})


# --- what administrators give -----------------------------------------------------------------

_NOT_IN_HOSTS = frozenset(' \\"<>^`{|}')
SECRET_NAME = re.compile("key|token|secret|password|sig", re.IGNORECASE)
"""A parameter in an address that is called so may be a key."""
_PROVIDER_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


def checked_provider(provider: Provider) -> Provider:
    """Raises ``InvalidRequest`` for what cannot work."""
    if _PROVIDER_NAME.fullmatch(provider.name) is None:
        raise InvalidRequest("name: up to 64 of a-z, 0-9, '-', '_' and '.', beginning with a letter or a digit")
    return msgspec.structs.replace(provider, base_url=checked_url(provider.base_url))


def checked_url(url: str) -> str:
    """Raises ``InvalidRequest``, which does not repeat it: it may have a secret."""
    url = checked_line("base_url", url, chars_max=URL_CHARS_MAX)
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or set(parts.netloc) & _NOT_IN_HOSTS:
        raise InvalidRequest("base_url must be an address like https://host/v1")
    if "#" in url or "@" in parts.netloc:
        raise InvalidRequest("base_url must have no user, password or fragment; the key is given apart")
    if any(SECRET_NAME.search(name) for name in parse_qs(parts.query, keep_blank_values=True)):
        raise InvalidRequest("base_url must have no key in its query; the key is given apart")
    return url


def checked_key(key: str) -> str:
    """A key goes into a header. Raises ``InvalidRequest``."""
    key = key.strip()
    if not key or len(key) > KEY_CHARS_MAX or not (key.isascii() and key.isprintable()):
        raise InvalidRequest(f"a key is one line of at most {KEY_CHARS_MAX} printable ASCII characters")
    return key


def place_of_key(provider_name: str) -> str:
    """What a provider's sealed key is bound to."""
    return f"providers.sealed/{provider_name}"


def checked_entry(model: ModelEntry) -> ModelEntry:
    """Raises ``InvalidRequest`` for what cannot work. Whether the provider exists is for the store to say."""
    if len(model.fallbacks) > FALLBACKS_MAX:
        raise InvalidRequest(f"fallbacks: at most {FALLBACKS_MAX} models, each once")
    name = _checked_name(model.name)
    fallbacks = tuple(checked_line("fallbacks", fallback, chars_max=NAME_CHARS_MAX) for fallback in model.fallbacks)
    if len(set(fallbacks)) < len(fallbacks):
        raise InvalidRequest(f"fallbacks: at most {FALLBACKS_MAX} models, each once")
    if name in fallbacks:
        raise InvalidRequest("a model cannot be its own fall-back")
    if model.options.extra_body.get("n", 1) != 1:
        raise InvalidRequest("options: n must be 1, for a chat has one answer to a message")
    if model.options.reasoning_effort is not None:
        checked_line("options: reasoning_effort", model.options.reasoning_effort, chars_max=NAME_CHARS_MAX)
    if Input.TEXT not in model.options.input:
        raise InvalidRequest("options: input has at least text")
    if len(msgspec.json.encode(model.options)) > OPTIONS_BYTES_MAX:
        raise InvalidRequest(f"options have more than {OPTIONS_BYTES_MAX} bytes")
    return msgspec.structs.replace(
        model,
        name=name,
        fallbacks=fallbacks,
        provider_model=checked_line("provider_model", model.provider_model, chars_max=NAME_CHARS_MAX),
    )


CONTINUED_ON = {Continuation.PREFIX: Kind.OPENAI, Continuation.BACKGROUND: Kind.RESPONSES}
"""What servers can do with an answer that was begun, and on which wire."""


def require_able(model: ModelEntry, kind: Kind) -> None:
    """Raises ``InvalidRequest`` if no server of this kind can do what the model is said to do. What was set before
    that was refused can still be turned off."""
    if found := sorted(model.options.extra_body.keys() & set(NOT_EXTRA)):
        raise InvalidRequest(f"options: {found[0]} is the conversation's; to search the web there is web_search")
    reasons = model.options.reasoning_effort is not None or model.options.thinking_tokens is not None
    if kind is not Kind.OPENAI and reasons and model.options.temperature is not None:
        raise InvalidRequest(f"options: providers of kind {kind} take no temperature of a model that reasons")
    if model.options.computer_tool is not None and kind is not Kind.ANTHROPIC:
        raise InvalidRequest(f"options: computer_tool is of providers of kind anthropic; {model.provider} is {kind}")
    needed = CONTINUED_ON.get(model.continuation, kind)
    if kind is not needed:
        raise InvalidRequest(
            f"continuation: {model.continuation} is for providers of kind {needed}, and {model.provider} is {kind}"
        )


def _checked_name(name: str) -> str:
    """The name, checked. It is the end of an address: what an address would be normalised to must be the same."""
    name = checked_line("name", name, chars_max=NAME_CHARS_MAX)
    if any(segment in ("", ".", "..") for segment in name.split("/")):
        raise InvalidRequest("name: slashes may stand between words only")
    return name


def changed(row: Any, change: msgspec.Struct) -> Any:
    """The row with the fields that the change gives and the row has."""
    given = {
        name: value
        for name in change.__struct_fields__
        if (value := getattr(change, name)) is not UNSET and name in row.__struct_fields__
    }
    return msgspec.structs.replace(row, **given)
