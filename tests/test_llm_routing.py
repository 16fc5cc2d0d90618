"""Where a request goes: models of the catalogue, their fall-backs, and the settings where there is none."""

from __future__ import annotations

from uuid import UUID

import pytest

from chatcluster.config import Settings
from chatcluster.errors import ProviderError
from chatcluster.llm.routing import catalogue_routing, catalogue_stints
from chatcluster.llm.wire import Route
from chatcluster.models import (
    EMPTY,
    Catalogue,
    Continuation,
    Kind,
    ModelEntry,
    ModelOptions,
    Provider,
    ProviderOptions,
    place_of_key,
)
from chatcluster.ports import ModelRequest, Stint, Window
from chatcluster.secrets import Keyring, new_key

KEYRING = Keyring.parse(new_key())
SETTINGS = Settings.of(llm_base_url="http://settings/v1", llm_api_key="of-settings", llm_model="theirs")
CLOUD = Provider(
    name="cloud",
    kind=Kind.ANTHROPIC,
    base_url="https://cloud.example",
    sealed=KEYRING.seal(b"secret", place_of_key("cloud")),
)
LOCAL = Provider(
    name="local", kind=Kind.OPENAI, base_url="http://local/v1", options=ProviderOptions(include_usage=False)
)
LARGE = ModelEntry(
    name="large",
    provider="cloud",
    provider_model="large-1",
    is_default=True,
    output_tokens_max=100,
    options=ModelOptions(temperature=0.1),
    fallbacks=("small",),
    failover_after=2,
    continuation=Continuation.BACKGROUND,
)
SMALL = ModelEntry(name="small", provider="local", provider_model="small-1")


def catalogue(*models: ModelEntry) -> Catalogue:
    return Catalogue({"cloud": CLOUD, "local": LOCAL}, {model.name: model for model in models})


def route(known: Catalogue | None, model: str | None = None, *, failures: int = 0, keys: Keyring = KEYRING) -> Route:
    request = ModelRequest(UUID(int=1), (), model, failures=failures)
    return catalogue_routing(lambda: known, keys, SETTINGS)(request)


def test_a_model_of_the_catalogue_is_asked_as_it_is_configured() -> None:
    found = route(catalogue(LARGE, SMALL), "large")
    assert (found.kind, found.base_url, found.api_key, found.model) == (
        Kind.ANTHROPIC,
        "https://cloud.example",
        "secret",
        "large-1",
    )
    assert (found.server.name, found.options, found.output_tokens_max) == ("cloud", LARGE.options, 100)
    assert found.in_background
    assert "secret" not in repr(found)
    assert "secret" not in found.server.redact("the key is secret")


def test_a_title_or_a_summary_does_not_stay_at_its_provider_in_the_background() -> None:
    """Nobody goes on with it where it is broken off; there it would be generated, and paid, all the same."""
    request = ModelRequest(UUID(int=1), (), "large", is_aside=True)
    assert not catalogue_routing(lambda: catalogue(LARGE), KEYRING, SETTINGS)(request).in_background


@pytest.mark.parametrize(
    ("context", "asked_for"), [(None, 32_000), (200_000, 32_000), (64_000, 32_000), (32_768, 16_384), (4095, 2048)]
)
def test_an_answer_that_could_fill_the_context_leaves_half_of_it(context: int | None, asked_for: int) -> None:
    """Servers refuse a request for more than they have room for, however short the conversation is."""
    entry = ModelEntry(name="m", provider="p", provider_model="m", context_tokens=context)
    assert entry.answer_tokens_max == asked_for
    if context is not None:
        window = Window(context, entry.output_tokens_max)
        assert window.limit_tokens + asked_for <= context


def test_a_server_without_a_key_is_sent_a_word() -> None:
    found = route(catalogue(SMALL), "small")
    assert found.api_key
    assert not found.include_usage


@pytest.mark.parametrize(("failures", "model"), [(0, "large-1"), (1, "large-1"), (2, "small-1"), (9, "small-1")])
def test_a_model_that_fails_again_and_again_makes_way_for_its_fallback(failures: int, model: str) -> None:
    assert route(catalogue(LARGE, SMALL), failures=failures).model == model


def test_each_model_has_its_stint_and_the_last_one_has_no_successor() -> None:
    stints = catalogue_stints(lambda: catalogue(LARGE, SMALL))
    assert [stints("large", failures) for failures in (0, 1)] == [Stint(0, 2, "small", "large")] * 2
    assert [stints("large", failures) for failures in (2, 9)] == [Stint(2, model="small")] * 2
    assert stints("small", 0) == Stint(model="small")
    assert stints("gone", 0) == Stint(0, 2, "small", "large"), "that of the default, which is asked in its place"


@pytest.mark.parametrize("known", [None, EMPTY, catalogue()])
def test_where_nothing_is_behind_a_model_it_is_the_only_one(known: Catalogue | None) -> None:
    assert catalogue_stints(lambda: known)("large", 5) == Stint()


def test_without_any_provider_the_settings_are_the_provider_and_any_name_goes_through() -> None:
    found = route(EMPTY, "whatever")
    assert (found.base_url, found.api_key, found.model) == ("http://settings/v1", "of-settings", "whatever")
    assert route(EMPTY).model == "theirs"


@pytest.mark.parametrize(
    ("known", "keys", "kind", "is_retryable"),
    [
        (None, KEYRING, "generic", True),
        (catalogue(), KEYRING, "config", False),
        (catalogue(LARGE), Keyring.parse(new_key()), "missing_key", False),
    ],
    ids=["not known yet", "no model", "the key cannot be opened"],
)
def test_what_goes_nowhere_says_what_to_do(
    known: Catalogue | None, keys: Keyring, kind: str, is_retryable: bool
) -> None:
    with pytest.raises(ProviderError) as caught:
        route(known, keys=keys)
    assert (caught.value.kind, caught.value.retryable) == (kind, is_retryable)
