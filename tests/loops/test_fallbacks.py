"""Models that take another one's place: when, for which failures, and what readers and logs are told of it."""

from __future__ import annotations

import pytest
import trio

from chatcluster.llm.routing import candidate_of
from chatcluster.models import Catalogue, Kind, ModelEntry, Provider
from loops.cluster_world import World
from loops.scripted_model import Call

PROVIDERS = {"p": Provider(name="p", kind=Kind.OPENAI, base_url="http://localhost/v1")}


def catalogue(*names: str, failover_after: int = 2) -> Catalogue:
    """The first is the default, and the others take its place, one after the other."""
    first = ModelEntry(
        name=names[0],
        provider="p",
        provider_model=names[0],
        is_default=True,
        fallbacks=names[1:],
        failover_after=failover_after,
    )
    others = (ModelEntry(name=name, provider="p", provider_model=name) for name in names[1:])
    return Catalogue(PROVIDERS, {model.name: model for model in (first, *others)})


def asked(world: World, call: Call) -> str:
    """The model that the request would go to."""
    return candidate_of(world.catalogue.candidates(call.request.model), call.request.failures).model.name


@pytest.mark.parametrize("kind", ["auth", "usage_limit", "missing_key", "config", "generic", "opaque_refused"])
async def test_what_another_attempt_would_not_mend_has_the_fallback_asked_at_once(world: World, kind: str) -> None:
    world.catalogue = catalogue("main", "backup")
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner, "Half an")
    reader = await other.read(chat)
    await reader.until_preview("Half an")
    failed_at = trio.current_time()
    if kind == "opaque_refused":  # it is asked once without what it refused
        call.fail(kind, retryable=False)
        call = await world.model.next_call()
    call.fail(kind, retryable=False)
    call = await world.model.next_call()
    assert trio.current_time() - failed_at < 0.1
    assert asked(world, call) == "backup"
    call.answer("Whole.")
    await reader.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Whole."]
    (retry,) = [event.data for event in reader.events if event.type == "retry"]
    assert (retry["kind"], retry["delay_ms"], retry["model"]) == (kind, 0, "backup")
    (told,) = [fields for name, fields in world.told if name == "chat.attempt_failed"]
    assert (told["kind"], told["provider"], told["successor"]) == (kind, "scripted", "backup")


@pytest.mark.parametrize("killed", [False, True])
async def test_what_a_fallback_had_said_is_kept_under_its_name(world: World, killed: bool) -> None:
    """Whether its owner was told to stop, or died before it could."""
    world.catalogue = catalogue("main", "backup")
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner)
    call.fail("auth", retryable=False)
    call = await world.model.next_call()
    call.say("Half an")
    reader = await other.read(chat)
    await reader.until_preview("Half an")
    if killed:
        owner.database_wire.hold("commit")
    await other.interrupt(chat)
    if killed:
        await world.settle()
        owner.kill()
    await reader.until_status("waiting")
    assert [message.model for message in chat.row.messages] == [None, "backup"]
    assert chat.history[-1] == "assistant: Half an"


async def test_what_is_refused_for_its_content_is_no_other_models_to_answer(world: World) -> None:
    world.catalogue = catalogue("main", "backup")
    owner = await world.replica()
    _, call, reader = await world.answering(owner)
    call.fail("content_filter", retryable=False)
    await reader.until_line("error content_filter")
    assert world.model.idle()


async def test_an_answer_beyond_the_bound_on_memory_is_not_asked_for_and_paid_again(world: World) -> None:
    world.catalogue = catalogue("main", "backup")
    owner = await world.replica(attempt_bytes_max=64 << 10)
    _, call, reader = await world.answering(owner)
    call.say("x" * (64 << 10))
    await reader.until_line("error answer_too_large")
    assert world.model.idle()


async def test_what_is_too_long_is_summarised_by_the_model_that_says_so(world: World) -> None:
    world.catalogue = catalogue("main", "backup")
    owner = await world.replica()
    chat, call, _ = await world.answering(owner)
    call.answer(" answer")
    await chat.until_status("waiting")
    await owner.send(chat, "and more")
    (await world.model.next_call()).fail("context_overflow", retryable=False)
    summary = await world.model.next_call()
    assert asked(world, summary) == "main"
    summary.answer("They said hello.")
    call = await world.model.next_call()
    assert asked(world, call) == "main"
    call.answer("Yes.")
    await chat.until_status("waiting")


async def test_where_all_fail_for_good_each_was_asked_once_and_the_last_one_says_why(world: World) -> None:
    world.catalogue = catalogue("main", "one", "two", failover_after=30)
    owner = await world.replica()
    chat = await owner.create()
    reader = await owner.read(chat)
    names = []
    for kind in ("auth", "usage_limit", "config"):
        call = await world.model.next_call()
        names.append(asked(world, call))
        call.fail(kind, retryable=False)
    await reader.until_line("error config")
    assert names == ["main", "one", "two"]
    assert world.model.idle()
    assert chat.owner is None


async def test_no_model_is_given_up_on_before_its_fallback_was_asked(world: World) -> None:
    """Whatever an administrator says of attempts: it is the fall-back that shall answer, and it has as many."""
    world.catalogue = catalogue("main", "backup", failover_after=9)
    owner = await world.replica(attempts_max=2, retry_base_seconds=0.0)
    chat = await owner.create()
    reader = await owner.read(chat)
    names = []
    for _ in range(4):
        call = await world.model.next_call()
        names.append(asked(world, call))
        call.fail()
    await reader.until_line("error overloaded")
    assert names == ["main", "main", "backup", "backup"]
    assert chat.state.last_error is not None
    assert chat.state.last_error.message == "gave up after 2 attempts: the provider says: overloaded"


async def test_the_successor_of_a_model_that_is_busy_is_asked_without_its_wait(world: World) -> None:
    """What one provider wants to have waited says nothing of another one; and each begins with short waits."""
    world.catalogue = catalogue("main", "backup")
    owner = await world.replica()
    await owner.create()
    waits, names = [], []
    for _ in range(4):
        asked_at = trio.current_time()
        call = await world.model.next_call()
        waits.append(round(trio.current_time() - asked_at, 1))
        names.append(asked(world, call))
        call.fail("rate_limit", retry_after=30.0 if names[-1] == "main" else None)
    assert names == ["main", "main", "backup", "backup"]
    assert waits == [0, 30, 0, 1]


async def test_whoever_takes_the_chat_over_asks_the_fallback_as_well(world: World) -> None:
    world.catalogue = catalogue("main", "backup")
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a)
    call.fail("auth", retryable=False)
    call = await world.model.next_call()
    assert asked(world, call) == "backup"
    a.kill()
    await chat.until(lambda chat: chat.owner == b.worker_id, within=1.0)
    call = await world.model.next_call()
    assert asked(world, call) == "backup"
    call.answer("Whole.")
    await chat.until_status("waiting")


async def test_the_next_turn_asks_the_model_that_was_chosen(world: World) -> None:
    world.catalogue = catalogue("main", "backup")
    owner = await world.replica()
    chat, call, _ = await world.answering(owner)
    call.fail("auth", retryable=False)
    (await world.model.next_call()).answer("Whole.")
    await chat.until_status("waiting")
    await owner.send(chat, "again")
    assert asked(world, await world.model.next_call()) == "main"
