"""A turn's model is told the deployment's text, the chat's own, its servers' and its user's, as of the claim."""

from __future__ import annotations

from chatcluster.memory.prompts import MemoryPrompts
from chatcluster.ports.prompts import DEPLOYMENT
from loops.cluster_world import OWNER, World


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
