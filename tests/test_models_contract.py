"""What every ``Models`` does, and what ``ModelAdministration`` makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import trio
from conftest import execute_sql

from chatcluster.config import Settings
from chatcluster.errors import InvalidRequest, ModelNotFound, NameTaken, ProviderInUse, ProviderNotFound, UnknownModel
from chatcluster.memory import MemoryDatabase, MemoryModels
from chatcluster.model_admin import ModelAdministration
from chatcluster.models import (
    Continuation,
    Kind,
    ModelChange,
    ModelEntry,
    ModelOptions,
    NewProvider,
    Provider,
    ProviderChange,
    ProviderOptions,
    place_of_key,
)
from chatcluster.ports import MODELS_CHANNEL, Models
from chatcluster.postgres import open_database
from chatcluster.postgres.models import PostgresModels
from chatcluster.postgres.sealed import Rotated, rotate
from chatcluster.secrets import Keyring, new_key
from chatcluster.usage import Prices

KEYRING = Keyring.parse(new_key())
SECRET = "sk-0123456789abcdef"
RICH = ModelEntry(
    name="vendor/large",
    provider="cloud",
    provider_model="large-2026",
    context_tokens=200_000,
    output_tokens_max=8_000,
    compaction_percent=60,
    prices=Prices(input=3_000_000, cached_input=0, output=None),
    options=ModelOptions(temperature=0.5, extra_body={"top_k": 3, "nested": {"a": [1]}}),
    fallbacks=("small",),
    failover_after=3,
    continuation=Continuation.PREFIX,
)


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def models(url: str | None) -> AsyncIterator[Models]:
    if url is None:
        yield MemoryModels(MemoryDatabase())
        return
    async with open_database(Settings.of(database_url=url)) as database:
        yield PostgresModels(database)


class Desk:
    """An administrator, and what the replicas are told."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self.told: list[str] = []
        self.admin = ModelAdministration(models, KEYRING, lambda channel, _: self.told.append(channel))

    async def with_cloud(self) -> Desk:
        await self.admin.add_provider(NewProvider(name="cloud", base_url="https://cloud.example/v1", key=SECRET))
        return self

    async def add(self, name: str, **fields: object) -> ModelEntry:
        entry = ModelEntry(name=name, provider="cloud", provider_model=f"{name}-1")
        return await self.admin.add_model(msgspec.structs.replace(entry, **fields))

    async def asked(self, name: str | None) -> list[str]:
        return [candidate.model.name for candidate in (await self.models.catalogue()).candidates(name)]


@pytest.fixture
async def desk(models: Models) -> Desk:
    return await Desk(models).with_cloud()


# --- rows -------------------------------------------------------------------------------------


async def test_a_provider_reads_back_with_its_key_sealed_and_all_replicas_are_told(desk: Desk) -> None:
    (provider,) = await desk.models.providers()
    assert (provider.name, provider.kind, provider.base_url) == ("cloud", Kind.OPENAI, "https://cloud.example/v1")
    assert (provider.enabled, provider.options, provider.key_hint) == (True, ProviderOptions(), "cdef")
    assert provider.sealed is not None
    assert SECRET.encode() not in provider.sealed
    assert KEYRING.open(provider.sealed, place_of_key("cloud")) == SECRET.encode()
    assert provider.key_set_at is not None
    assert desk.told == [MODELS_CHANNEL]


async def test_a_change_of_a_provider_leaves_the_rest_as_it_is(desk: Desk) -> None:
    (before,) = await desk.models.providers()
    options = ProviderOptions(include_usage=False)
    after = await desk.admin.change_provider("cloud", ProviderChange(enabled=False, options=options))
    assert after == msgspec.structs.replace(before, enabled=False, options=options)
    assert await desk.models.providers() == (after,)
    bare = await desk.admin.change_provider("cloud", ProviderChange(key=None))
    assert (bare.sealed, bare.key_hint, bare.key_set_at) == (None, None, None)


async def test_a_model_reads_back_with_all_that_it_has(desk: Desk) -> None:
    await desk.add("small")
    assert await desk.admin.add_model(RICH) == RICH
    assert {model.name: model for model in await desk.models.models()}[RICH.name] == RICH


async def test_a_name_is_given_once(desk: Desk) -> None:
    await desk.add("small")
    with pytest.raises(NameTaken):
        await desk.add("small")
    with pytest.raises(NameTaken):
        await desk.with_cloud()
    assert len(await desk.models.models()) == len(await desk.models.providers()) == 1


async def test_what_is_not_there_is_not_found_and_nothing_is_told(desk: Desk) -> None:
    desk.told.clear()
    for act in (
        lambda: desk.admin.change_provider("x", ProviderChange(enabled=False)),
        lambda: desk.admin.remove_provider("x"),
        lambda: desk.add("m", provider="x"),
    ):
        with pytest.raises(ProviderNotFound):
            await act()
    for act in (lambda: desk.admin.change_model("x", ModelChange(enabled=False)), lambda: desk.admin.remove_model("x")):
        with pytest.raises(ModelNotFound):
            await act()
    assert not desk.told
    assert await desk.models.models() == ()


async def test_a_provider_with_models_stays_until_they_are_gone(desk: Desk) -> None:
    await desk.add("small")
    with pytest.raises(ProviderInUse):
        await desk.admin.remove_provider("cloud")
    await desk.admin.remove_model("small")
    await desk.admin.remove_provider("cloud")
    assert (await desk.models.catalogue()).is_empty


async def test_one_model_is_the_default_the_first_until_another_one_is_made_it(desk: Desk) -> None:
    assert (await desk.add("first")).is_default
    assert not (await desk.add("second")).is_default
    await desk.admin.change_model("second", ModelChange(is_default=True))
    assert [model.name for model in await desk.models.models() if model.is_default] == ["second"]
    with pytest.raises(InvalidRequest, match="give it to another one"):
        await desk.admin.change_model("second", ModelChange(is_default=False))
    await desk.add("third", is_default=True)
    assert [model.name for model in await desk.models.models() if model.is_default] == ["third"]


@pytest.mark.parametrize(
    "provider",
    [
        NewProvider(name="", base_url="https://a/v1"),
        NewProvider(name="No", base_url="https://a/v1"),
        NewProvider(name="a" * 65, base_url="https://a/v1"),
        NewProvider(name="a", base_url="a/v1"),
        NewProvider(name="a", base_url="ftp://a/v1"),
        NewProvider(name="a", base_url="https://user:secret@a/v1"),
        NewProvider(name="a", base_url="https://a/v1#part"),
        NewProvider(name="a", base_url="https://[a/v1"),
        NewProvider(name="a", base_url="https://a b/v1"),
        NewProvider(name="a", base_url="https://a\\@b/v1"),
        NewProvider(name="a", base_url="https://@a/v1"),
        NewProvider(name="a", base_url="https://a:99999/v1"),
        NewProvider(name="a", base_url="https://a/v1#"),
        NewProvider(name="a", base_url="https://a/v1?key=secret"),
        NewProvider(name="a", base_url="https://a/v1?x=1&Access-Token=secret"),
        NewProvider(name="a", base_url="https://a/" + "v" * 2000),
        NewProvider(name="a", base_url="https://a/v1", key=""),
        NewProvider(name="a", base_url="https://a/v1", key="two\nlines"),
        NewProvider(name="a", base_url="https://a/v1", key="kéy"),
    ],
)
async def test_a_provider_that_cannot_work_is_refused_and_not_kept(desk: Desk, provider: NewProvider) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await desk.admin.add_provider(provider)
    assert [kept.name for kept in await desk.models.providers()] == ["cloud"]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "/a"},
        {"name": "a//b"},
        {"name": "a/../b"},
        {"name": "a\u202eb"},
        {"provider_model": ""},
        {"fallbacks": ("m",)},
        {"fallbacks": ("a", "a")},
        {"fallbacks": ("a", " a ")},
        {"fallbacks": (" m",)},
        {"options": ModelOptions(extra_body={"n": 2})},
        {"fallbacks": tuple(f"a{number}" for number in range(9))},
        {"options": ModelOptions(extra_body={"a": "x" * 70_000})},
    ],
)
async def test_a_model_that_cannot_work_is_refused_and_not_kept(desk: Desk, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        await desk.add(**{"name": "m", **fields})  # type: ignore[arg-type]
    assert await desk.models.models() == ()


@pytest.mark.postgres
async def test_keys_are_sealed_anew_with_the_newest_key(database_url: str) -> None:
    old, new = new_key(), new_key()
    async with open_database(Settings.of(database_url=database_url)) as database:
        models = PostgresModels(database)
        admin = ModelAdministration(models, Keyring.parse(old), lambda *_: None)
        await admin.add_provider(NewProvider(name="cloud", base_url="https://cloud.example/v1", key=SECRET))
        await admin.add_provider(NewProvider(name="free", base_url="https://free.example/v1"))
        assert await rotate(database, Keyring.parse(f"{new},{old}")) == Rotated(1, 0)
        cloud, free = await models.providers()
        assert cloud.sealed is not None
        assert Keyring.parse(new).open(cloud.sealed, place_of_key("cloud")) == SECRET.encode()
        assert free.sealed is None


# --- which model is asked ---------------------------------------------------------------------


async def test_the_model_that_is_named_is_asked_then_its_fallbacks(desk: Desk) -> None:
    await desk.add("default")
    await desk.add("a", fallbacks=("gone", "b", "a2"))
    await desk.add("b")
    assert await desk.asked("a") == ["a", "b"]
    assert await desk.asked(None) == ["default"]


async def test_in_the_place_of_one_that_is_gone_or_disabled_the_default_is_asked(desk: Desk) -> None:
    await desk.add("default")
    await desk.add("a")
    await desk.admin.change_model("a", ModelChange(enabled=False))
    assert await desk.asked("a") == await desk.asked("never") == ["default"]
    with pytest.raises(UnknownModel):
        (await desk.models.catalogue()).require("a")


async def test_without_a_default_the_first_one_that_can_be_asked_is(desk: Desk) -> None:
    for name in ("default", "b", "a"):
        await desk.add(name)
    await desk.admin.remove_model("default")
    assert await desk.asked(None) == ["a"]


async def test_of_a_provider_that_is_disabled_nothing_is_asked(desk: Desk) -> None:
    await desk.add("default")
    await desk.admin.change_provider("cloud", ProviderChange(enabled=False))
    assert await desk.asked(None) == []
    catalogue = await desk.models.catalogue()
    assert not catalogue.is_empty
    assert catalogue.usable == []


async def test_a_deployment_without_providers_lets_any_name_through(models: Models) -> None:
    catalogue = await models.catalogue()
    catalogue.require("anything")
    assert catalogue.is_empty
    assert catalogue.candidates("anything") == []


@pytest.mark.postgres
async def test_a_row_that_cannot_be_read_costs_its_own_models_alone(database_url: str) -> None:
    """P10"""
    async with open_database(Settings.of(database_url=database_url)) as database:
        desk = await Desk(PostgresModels(database)).with_cloud()
        await desk.admin.add_provider(NewProvider(name="newer", base_url="https://newer.example"))
        await desk.add("default")
        await desk.add("bad")
        await desk.add("of-newer", provider="newer")
        for statement in (
            "UPDATE models SET details = '{\"prices\": 3}' WHERE name = 'bad'",
            "UPDATE providers SET kind = 'telepathy' WHERE name = 'newer'",
        ):
            await trio.to_thread.run_sync(execute_sql, database_url, statement)
        assert await desk.asked("bad") == await desk.asked("of-newer") == ["default"]
        assert [provider.name for provider in await desk.models.providers()] == ["cloud"]


def test_a_provider_says_nothing_of_its_key() -> None:
    assert SECRET not in repr(NewProvider(name="a", base_url="https://a", key=SECRET))
    assert "sealed" not in repr(Provider(name="a", kind=Kind.OPENAI, base_url="https://a", sealed=b"sealed"))
