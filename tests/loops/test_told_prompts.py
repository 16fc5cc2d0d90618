"""A turn's model is told the deployment's text, the chat's own, its servers' and its user's, as of the claim."""

from __future__ import annotations

from chatcluster.memory.prompts import MemoryPrompts
from chatcluster.parts import Role, text_of
from chatcluster.ports import ToolSpec
from chatcluster.ports.prompts import DEPLOYMENT
from loops.cluster_world import OWNER, World
from loops.scripted_model import Call
from loops.scripted_tools import tool


async def test_each_turn_is_told_what_holds_when_it_is_taken_up(world: World) -> None:
    a = await world.replica()
    prompts = MemoryPrompts(world.database)
    await prompts.put(DEPLOYMENT, "All.")
    world.tools.instructions = (("files", "Read first."),)
    chat = await a.create()
    call = await world.model.next_call()
    system, question = call.prompt
    assert system.startswith("system: All.\n\nThe names of some tools")
    assert "* files\n<server-instructions>\nRead first." in system
    assert question == "user: hello"
    await prompts.put(OWNER, "I am Ada.")
    await prompts.set_own(chat.id, "Own.")
    call.answer("Hi.")
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Hi."], "it is no part of the history"
    world.tools.instructions = ()
    await a.send(chat, "next")
    call = await world.model.next_call()
    assert call.prompt[0] == "system: All.\n\nOwn.\n\n<user-instructions>\nI am Ada.\n</user-instructions>"
    assert call.prompt[1:] == ["user: hello", "assistant: Hi.", "user: next"]


async def test_a_step_is_told_what_the_one_before_was_told(world: World) -> None:
    """Providers bind what they sign to the exact beginning: nothing of it changes in the middle of a turn."""
    a = await world.replica()
    prompts = MemoryPrompts(world.database)
    await prompts.put(DEPLOYMENT, "All.")
    chat = await a.create()
    first = await world.model.next_call()
    await prompts.put(DEPLOYMENT, "Something else.")
    first.fail()
    second = await world.model.next_call()
    assert second.prompt == first.prompt == ["system: All.", "user: hello"]
    second.answer("Hi.")
    await chat.until_status("waiting")


# --- the prefix of a turn ---------------------------------------------------------------------


def beginning(call: Call) -> tuple[str, tuple[ToolSpec, ...]]:
    """What a request begins with: the system text, and the tools."""
    first = call.request.messages[0]
    return (text_of(first.parts) if first.role is Role.SYSTEM else "", call.request.tools)


async def changed(world: World) -> None:
    """An administrator and a server of tools say other things than before."""
    await MemoryPrompts(world.database).put(DEPLOYMENT, "Something else.")
    world.tools.offered = [tool("another"), tool("tool")]
    world.tools.instructions = (("files", "Write first."),)


async def test_a_turn_ends_as_it_began_though_its_owner_dies(world: World) -> None:
    """What was signed behind that beginning would be refused, or dropped, behind another one."""
    a, _ = await world.cluster(2)
    await MemoryPrompts(world.database).put(DEPLOYMENT, "All.")
    world.tools.offered = [tool("tool")]
    chat = await a.create()
    first = await world.model.next_call()
    first.call_tools("c1")
    run = await world.tools.next_run()
    await changed(world)
    a.kill()
    (await world.tools.next_run()).give("42")
    second = await world.model.next_call()
    assert beginning(second) == beginning(first) == ("All.", first.request.tools)
    assert {spec.name for spec in second.request.tools} == {"read_result", "tool"}
    second.answer("There.")
    await chat.until_status("waiting")
    assert run.cancelled
    await (await world.replica()).send(chat, "next")
    text, tools = beginning(await world.model.next_call())
    assert text.startswith("Something else.")
    assert "another" in {spec.name for spec in tools}, "the next turn begins with what holds by then"


async def test_a_turn_that_waited_for_its_client_goes_on_as_it_began(world: World) -> None:
    a = await world.replica()
    await MemoryPrompts(world.database).put(DEPLOYMENT, "All.")
    chat = await a.create(client_tools=["mine"])
    first = await world.model.next_call()
    first.call_tools("c1", name="mine")
    await chat.until_status("requires_action")
    await changed(world)
    await a.submit(chat, "c1", "42")
    second = await world.model.next_call()
    assert beginning(second) == beginning(first)


async def test_a_turn_that_its_provider_paused_goes_on_as_it_began(world: World) -> None:
    a, _ = await world.cluster(2)
    await MemoryPrompts(world.database).put(DEPLOYMENT, "All.")
    chat = await a.create()
    first = await world.model.next_call()
    first.say("Let me search.")
    first.finish("pause")
    second = await world.model.next_call()
    await changed(world)
    world.owner_of(chat).kill()
    third = await world.model.next_call()
    assert beginning(third) == beginning(second) == beginning(first)


async def test_what_is_kept_already_is_not_kept_again(world: World) -> None:
    """A turn with tools costs what it cost."""
    a = await world.replica()
    world.tools.offered = [tool("tool")]
    chat = await a.create()
    for question in ("first", "second", "third"):
        (await world.model.next_call()).call_tools(question)
        (await world.tools.next_run()).give("42")
        (await world.model.next_call()).answer("There.")
        await chat.until_status("waiting")
        assert a.database_wire.crossings["keep_prefix"] == 1
        await a.send(chat, question)
    assert a.database_wire.crossings["read_prefix"] == 0


async def test_a_turn_of_one_step_keeps_and_reads_nothing(world: World) -> None:
    a = await world.replica()
    chat = await a.create()
    (await world.model.next_call()).answer("Hi.")
    await chat.until_status("waiting")
    assert not {"keep_prefix", "read_prefix"} & set(a.database_wire.crossings)


async def test_a_prefix_that_this_version_cannot_read_is_made_anew(world: World) -> None:
    a, _ = await world.cluster(2)
    world.tools.offered = [tool("tool")]
    chat = await a.create()
    (await world.model.next_call()).call_tools("c1")
    await world.tools.next_run()
    chat.row.calls.prefix = ("of a newer version", b"{")
    a.kill()
    (await world.tools.next_run()).give("42")
    assert "tool" in {spec.name for spec in (await world.model.next_call()).request.tools}
