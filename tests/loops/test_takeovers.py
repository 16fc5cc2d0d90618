"""The owner dies, in any way and at any moment: another replica goes on, and nothing is lost or doubled (P1-P5)."""

from __future__ import annotations

import msgspec
import pytest
import trio

from chatcluster.chat import Busy
from chatcluster.errors import StoreUnavailable
from chatcluster.ports.claim_rules import SUSPECTED_TAKEOVERS
from loops.cluster_world import World

TAKEOVER_SECONDS = 0.1
LEASE_SECONDS = 6.0


# --- a killed process -------------------------------------------------------------------------


async def test_a_killed_owner_is_replaced_within_a_tenth_of_a_second(world: World) -> None:
    """P4: its session lock is granted to its neighbour, which buries it and wakes the claimers."""
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    a.kill()
    (await world.model.next_call()).say("Anew")
    await reader.until_preview("Anew", within=TAKEOVER_SECONDS)
    assert chat.owner == b.worker_id
    assert chat.epoch == 2
    assert chat.history == ["user: hello"], "what the dead owner had streamed is no history"
    story = [line for line in reader.story if line != "status pending"]  # the chat may be claimed before anyone looks
    assert story[-4:] == ["… Half an", "status running", "attempt 2", "… Anew"]


@pytest.mark.parametrize("spared", range(4))
async def test_two_that_die_at_once_are_both_replaced_within_a_tenth_of_a_second(world: World, spared: int) -> None:
    """P4: whoever watched the one may have died with it, wherever on the ring they were; another watches it too."""
    replicas = await world.cluster(4)
    victims = (replicas[spared], replicas[(spared + 1) % 4])
    chats = [(await world.answering(victim))[0] for victim in victims]
    for victim in victims:
        victim.kill()
    for chat in chats:
        await chat.until(lambda chat: chat.epoch == 2 and chat.owner is not None, within=TAKEOVER_SECONDS)


@pytest.mark.parametrize("place", range(4))
async def test_a_death_is_known_at_once_though_one_that_watches_is_frozen(world: World, place: int) -> None:
    """P4: who does not look cannot bury, whichever of them it is; and nobody else is taken for dead."""
    replicas = sorted(await world.cluster(4), key=lambda replica: replica.worker_id)
    victim, frozen = replicas[place], replicas[place - 1]
    chat, _, _ = await world.answering(victim)
    frozen.freeze()
    victim.kill()
    await chat.until(lambda chat: chat.epoch == 2 and chat.owner is not None, within=TAKEOVER_SECONDS)
    assert sorted(world.database.replicas) == [replica.worker_id for replica in replicas if replica is not victim]


async def test_readers_are_told_at_once_that_their_chat_waits_for_an_owner(world: World) -> None:
    """P4: where nobody has a place for the chat, the death of its owner is no silence either."""
    a, b = await world.replica(), await world.replica(slots=0)
    chat, _, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    a.kill()
    await reader.until_status("pending", within=TAKEOVER_SECONDS)


@pytest.mark.parametrize("survivors", [1, 2, 3])
async def test_every_chat_of_a_dead_replica_is_taken_over_once(world: World, survivors: int) -> None:
    """P2: one owner each, whoever of the others is quicker."""
    dead = await world.replica()
    chats = []
    for number in range(25):
        chats.append(await dead.create(f"hello {number}"))
        (await world.model.next_call()).say("Half")
    others = await world.cluster(survivors)
    began = trio.current_time()
    dead.kill()
    for _ in chats:
        (await world.model.next_call()).answer("Whole.")
    for number, chat in enumerate(chats):
        await chat.until_status("waiting")
        assert chat.history == [f"user: hello {number}", "assistant: Whole."]
        assert chat.epoch == 2
    assert trio.current_time() - began < 0.2
    assert len(world.model.calls) == 50
    assert {row.replica.name for row in world.database.replicas.values()} == {other.name for other in others}


async def test_readers_of_the_dead_replica_go_on_elsewhere_at_their_cursor(world: World) -> None:
    a, b = await world.cluster(2)
    chat, _, reader = await world.answering(a)
    a.kill()
    resumed = await b.resume(chat, reader)
    (await world.model.next_call()).answer("Whole.")
    await resumed.until_status("waiting")
    assert resumed.history == chat.history == ["user: hello", "assistant: Whole."]
    assert "… Half an" not in resumed.story


async def test_an_interruption_under_way_is_finished_with_the_dead_owners_words(world: World) -> None:
    """P5: stop stops, even when the owner dies while stopping; the partial is read from its stream."""
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    commit = a.database_wire.hold("commit")
    await b.interrupt(chat)
    await commit.reached.wait()
    a.kill()
    await reader.until_status("waiting", within=TAKEOVER_SECONDS)
    assert chat.history == ["user: hello", "assistant: Half an"]
    assert chat.row.messages[-1].finish_reason == "interrupted"
    assert reader.history == chat.history
    assert world.model.idle(), "no new attempt is made for a chat that is to stop"
    assert chat.epoch == 2


async def test_an_interrupt_right_after_the_kill_keeps_the_dead_owners_words(world: World) -> None:
    """The chat has no owner when it is stopped."""
    a, b = await world.cluster(2, claim_poll_seconds=3600.0)
    chat, _, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    claim = b.database_wire.hold("claim")
    a.kill()
    await claim.reached.wait()
    await b.interrupt(chat)
    claim.release()
    await reader.until_status("waiting", within=TAKEOVER_SECONDS)
    assert chat.history == ["user: hello", "assistant: Half an"]


async def test_the_partial_survives_one_death_after_the_other(world: World) -> None:
    """The second owner dies in the middle of the salvage; the third one reads what the first had said."""
    a, b, c = await world.cluster(3)
    chat, _, _ = await world.answering(a)
    reader = await c.read(chat)
    await reader.until_preview("Half an")
    commits = [replica.database_wire.hold("commit") for replica in (b, c)]
    a.database_wire.hold("commit")
    await c.interrupt(chat)
    a.kill()
    await chat.until(lambda chat: chat.epoch == 2)
    second = world.owner_of(chat)
    third = b if second is c else c
    await commits[[b, c].index(second)].reached.wait()
    if second is c:
        reader.leave()
    second.kill()
    commits[[b, c].index(third)].release()
    await chat.until_status("waiting", within=2 * TAKEOVER_SECONDS)
    assert chat.epoch == 3
    assert chat.history == ["user: hello", "assistant: Half an"]


async def test_a_failed_attempts_words_are_not_salvaged(world: World) -> None:
    """The retry was scheduled before the death: readers have dropped the words, and so does history."""
    a, b = await world.cluster(2, retry_base_seconds=30.0)
    chat, call, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    call.fail()
    await reader.until_line("retry 1 overloaded")
    a.kill()
    await chat.until(lambda chat: chat.owner == b.worker_id)
    await b.interrupt(chat)
    await reader.until_status("waiting", within=TAKEOVER_SECONDS)
    assert chat.history == ["user: hello"]


async def test_only_the_last_of_several_tenures_words_are_salvaged(world: World) -> None:
    a, b, c = await world.cluster(3)
    chat, _, _ = await world.answering(a, "First try")
    a.kill()
    (await world.model.next_call()).say("Second try")
    second = world.owner_of(chat)
    third = b if second is c else c
    reader = await third.read(chat)
    await reader.until_preview("Second try")
    second.database_wire.hold("commit")
    await third.interrupt(chat)
    second.kill()
    await reader.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Second try"]


async def test_an_owner_that_dies_after_its_commit_has_finished_the_turn(world: World) -> None:
    """The answer is in history: nobody runs the turn again."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Hi")
    reader = await b.read(chat)
    a.database_wire.lose_answer("commit")
    hold = a.redis_wire.hold("append")
    call.finish()
    await chat.until_status("waiting")
    a.kill()
    del hold
    await reader.until_status("waiting", within=2.5)
    await trio.sleep(10)
    assert chat.history == ["user: hello", "assistant: Hi"]
    assert world.model.idle()
    assert len(world.model.calls) == 1


async def test_a_commit_whose_answer_was_lost_is_recognised(world: World) -> None:
    """The connection died in the commit: the repeat finds its own work, and writes nothing twice."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Hi")
    reader = await b.read(chat)
    a.database_wire.lose_answer("commit")
    call.answer(" there!")
    await reader.until_status("waiting")
    assert reader.history == chat.history == ["user: hello", "assistant: Hi there!"]
    assert a.database_wire.crossings["commit"] == 2


async def test_a_message_acknowledged_by_a_replica_that_dies_at_once_is_answered(world: World) -> None:
    """P1: it is in the database; nobody was told, and the poll finds it."""
    a, b = await world.cluster(2, user_chats_max=9)
    chat = await world.one_turn(b)
    a.pubsub.disconnect()
    claim = a.database_wire.hold("claim")
    await a.send(chat, "still there?")
    await claim.reached.wait()
    a.kill()
    (await world.model.next_call()).answer("Yes.")
    await chat.until_status("waiting")
    assert chat.history[-2:] == ["user: still there?", "assistant: Yes."]


async def test_chats_at_rest_are_never_touched_by_a_death(world: World) -> None:
    a, _ = await world.cluster(2)
    chat = await world.one_turn(a)
    before = chat.state
    a.kill()
    await trio.sleep(20)
    assert chat.state == before


async def test_a_takeover_goes_on_where_the_new_owner_dies_as_well(world: World) -> None:
    replicas = await world.cluster(4)
    chat, call, _ = await world.answering(replicas[0], "try 1")
    for number in (2, 3, 4):
        world.owner_of(chat).kill()
        call = await world.model.next_call()
        call.say(f"try {number}")
        await chat.until(lambda chat, number=number: chat.epoch == number)  # type: ignore[misc]
    call.finish()
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: try 4"]


async def test_a_chat_that_kills_its_owners_ends_in_an_error(world: World) -> None:
    """Takeovers are counted: a chat that takes every replica down with it does not do so for ever."""
    await world.cluster(6, takeovers_max=4)
    chat = await world.replicas[0].create()
    for _ in range(4):
        await world.model.next_call()
        await world.settle()
        world.owner_of(chat).kill()
    await chat.until_status("error")
    assert chat.state.last_error is not None
    assert chat.state.last_error.code == "attempts_exhausted"


async def test_a_takeover_costs_a_chat_none_of_its_attempts(world: World) -> None:
    """P10: what the model is asked in vain is counted, and the deaths of replicas are not."""
    await world.cluster(3, attempts_max=2, retry_base_seconds=0.0)
    chat, call, _ = await world.answering(world.replicas[0], "try 1")
    for number in (2, 3):
        world.owner_of(chat).kill()
        call = await world.model.next_call()
        assert chat.state.attempt == number, "attempts are told apart by their numbers all the same"
    call.fail()
    (await world.model.next_call()).answer("at last")
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: at last"]


async def test_a_chat_that_kills_its_owners_takes_no_other_chat_with_it(world: World) -> None:
    """P10: chats that shared their owner with it are suspected as well, until it dies without them."""
    await world.cluster(2, takeovers_max=6)
    killer = await world.replicas[0].create("the killer")
    innocent = [await world.replicas[0].create(f"innocent {number}") for number in range(3)]
    deaths = 0
    while killer.status != "error":
        await killer.until(lambda chat: chat.owner is not None or chat.status == "error")
        await world.settle()
        if killer.owner is not None:
            world.owner_of(killer).kill()
            await world.replica(f"successor {deaths}", takeovers_max=6)
            deaths += 1
    assert deaths == 6
    await trio.sleep(10)
    for call in world.model.calls:
        if not call.ended.is_set():
            call.answer("Yes.")
    for chat in innocent:
        await chat.until_status("waiting")
        assert chat.history[-1] == "assistant: Yes."


async def test_suspects_that_wait_for_another_one_begin_once_it_is_seen_to_live(world: World) -> None:
    """P10: neither a hint nor the poll for claims has to come for that."""
    outsider = await world.replica(slots=0)
    suspects = [await outsider.create(f"suspect {number}") for number in range(4)]
    for chat in suspects:
        world.database.change(chat.row, msgspec.structs.replace(chat.state, takeovers=SUSPECTED_TAKEOVERS))
    owner = await world.replica(claim_poll_seconds=3600.0)
    await world.until(lambda: all(chat.owner == owner.worker_id for chat in suspects), within=1.0)


# --- a frozen process, a cut network ----------------------------------------------------------


async def test_a_cut_network_is_noticed_by_the_lease(world: World) -> None:
    """P4: its session seems to live on, so the lease decides, within its bound."""
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    a.disconnect()
    (await world.model.next_call()).answer("Whole.")
    await reader.until_status("waiting", within=LEASE_SECONDS)
    assert chat.history == ["user: hello", "assistant: Whole."]
    assert ("replica.buried", "lease") in [(name, fields.get("proof")) for name, fields in world.told]


async def test_a_replica_without_its_lease_stops_before_anyone_takes_over(world: World) -> None:
    """Self-fencing, by its own clock."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a)
    a.disconnect()
    with trio.fail_after(a.settings.ownership.self_fence_seconds + 0.1):
        await call.ended.wait()
    assert chat.owner == a.worker_id, "nobody has taken over yet"
    await chat.until(lambda chat: chat.owner == b.worker_id, within=LEASE_SECONDS)


async def test_a_slow_database_does_not_cost_the_lease(world: World) -> None:
    """Heartbeats have a connection of their own: a busy pool never delays them."""
    a, _ = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Hi")
    a.database_wire.freeze()
    await trio.sleep(8)
    assert chat.owner == a.worker_id
    assert not call.ended.is_set()
    a.database_wire.thaw()
    call.finish()
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Hi"]
    assert len(a.incarnations) == 1


async def test_a_single_late_heartbeat_is_no_death(world: World) -> None:
    a, _ = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Hi")
    a.heartbeat_wire.cut = True
    await trio.sleep(2.5)
    a.heartbeat_wire.cut = False
    await trio.sleep(10)
    call.finish()
    await chat.until_status("waiting")
    assert len(a.incarnations) == 1
    assert len(world.model.calls) == 1


async def test_a_frozen_owner_that_wakes_has_no_late_effect(world: World) -> None:
    """P2: for itself no time has passed, so it does not know; the fences do, in the database and on the stream."""
    a, b = await world.replica(lease_ttl_seconds=500.0), await world.replica()
    chat, call, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    a.freeze()
    call.say(" answer of yesterday")
    fresh = await world.model.next_call()
    fresh.say("Whole")
    await reader.until_preview("Whole", within=LEASE_SECONDS + 1.0)
    state, frames = chat.state, world.frames(chat)
    call.finish()
    a.wake()
    await trio.sleep(3)
    assert chat.state == state
    assert world.frames(chat) == frames
    fresh.answer(" answer")
    await reader.until_status("waiting")
    assert reader.history == chat.history == ["user: hello", "assistant: Whole answer"]


async def test_the_process_that_lost_its_lease_goes_on_as_a_new_incarnation(world: World) -> None:
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    first = a.worker_id
    a.disconnect()
    (await world.model.next_call()).answer("Whole.")
    await chat.until_status("waiting")
    b.kill()
    a.reconnect()
    await world.until(lambda: len(a.incarnations) == 2)
    assert a.worker_id != first
    assert first not in world.database.replicas
    again = await a.create("back again?")
    (await world.model.next_call()).answer("Yes.")
    await again.until_status("waiting")


async def test_readers_stay_on_a_replica_that_changes_its_incarnation(world: World) -> None:
    a, b = await world.cluster(2)
    chat, _, reader = await world.answering(a)
    a.lose_database()
    await chat.until(lambda chat: chat.owner == b.worker_id, within=LEASE_SECONDS)
    a.find_database()
    (await world.model.next_call()).answer("Whole.")
    await reader.until_status("waiting")
    assert reader.cut is None
    assert reader.history == chat.history


async def test_a_stale_commit_on_its_way_arrives_after_the_takeover_and_is_refused(world: World) -> None:
    a, b = await world.replica(lease_ttl_seconds=500.0), await world.replica()
    chat, call, _ = await world.answering(a, "Old")
    commit = a.database_wire.hold("commit")
    call.finish()
    await commit.reached.wait()
    a.heartbeat_wire.freeze()
    fresh = await world.model.next_call()
    assert chat.owner == b.worker_id
    commit.release()
    await world.settle()
    assert chat.history == ["user: hello"]
    fresh.answer("New")
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: New"]


async def test_the_same_worker_that_takes_a_chat_again_is_fenced_by_the_epoch(world: World) -> None:
    """Ownership by worker ID alone cannot tell two tenures of one worker apart; the epoch does."""
    a = await world.replica()
    chat, call, _ = await world.answering(a, "Old")
    hold = a.database_wire.hold("commit")
    call.finish()
    await hold.reached.wait()
    (freed,) = world.database.disown(world.database.owned_by(a.worker_id))
    a.notices.committed(freed)
    fresh = await world.model.next_call()
    assert chat.owner == a.worker_id
    assert chat.epoch == 2
    hold.release()
    await world.settle()
    assert chat.history == ["user: hello"]
    fresh.answer("New")
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: New"]


async def test_a_runner_whose_commit_is_recognised_late_does_not_adopt_the_next_tenure(world: World) -> None:
    """By the time it hears of its commit, the same worker owns the chat again, in another tenure."""
    a = await world.replica()
    chat, call, _ = await world.answering(a, "Hi")
    a.database_wire.lose_answer("commit")
    call.finish()
    await chat.until_status("waiting")
    repeat = a.database_wire.hold("commit")
    await repeat.reached.wait()
    await a.send(chat, "again")
    fresh = await world.model.next_call()
    assert (chat.owner, chat.epoch) == (a.worker_id, 2)
    repeat.release()
    fresh.say("Ye")
    await trio.sleep(5)
    assert world.model.idle(), "one runner works on the chat"
    fresh.answer("s.")
    await chat.until_status("waiting")
    assert chat.history[2:] == ["user: again", "assistant: Yes."]


async def test_nor_does_it_adopt_a_tenure_that_nobody_runs(world: World) -> None:
    """The message that claimed the next tenure lost its answer: it is given back, and claimed once more."""
    a = await world.replica()
    chat, call, _ = await world.answering(a, "Hi")
    a.database_wire.lose_answer("commit")
    call.finish()
    await chat.until_status("waiting")
    repeat = a.database_wire.hold("commit")
    await repeat.reached.wait()
    a.database_wire.lose_answer("apply")
    with pytest.raises(StoreUnavailable):
        await a.send(chat, "again")
    assert chat.epoch == 2
    repeat.release()
    fresh = await world.model.next_call()
    assert chat.epoch == 3
    fresh.answer("Yes.")
    await chat.until_status("waiting")
    assert chat.history[2:] == ["user: again", "assistant: Yes."]


async def test_a_commit_that_is_recognised_after_an_edit_goes_on_with_the_edited_history(world: World) -> None:
    """What the repeat is answered is the chat as it is now: with it goes the history as it is now."""
    a = await world.replica()
    chat, call, reader = await world.answering(a, "Hi")
    await a.send(chat, "queued")
    a.database_wire.lose_answer("commit")
    call.finish()
    await chat.until(lambda chat: chat.queue == [])
    repeat = a.database_wire.hold("commit")
    await repeat.reached.wait()
    await a.edit(chat, "hello", "goodbye")
    repeat.release()
    call = await world.model.next_call()
    assert call.prompt == ["user: goodbye"]
    call.answer("Bye.")
    await reader.until_status("waiting")
    assert reader.history == chat.history == ["user: goodbye", "assistant: Bye."]


# --- restarts of the database, and phantom claims ---------------------------------------------


async def test_a_restart_of_the_database_buries_nobody(world: World) -> None:
    """Every session breaks at once, which proves nothing about any process."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Hi")
    incarnations = [a.worker_id, b.worker_id]
    for _ in range(3):
        world.database.restart_sessions()
        await trio.sleep(3)
    call.finish()
    await chat.until_status("waiting")
    assert [a.worker_id, b.worker_id] == incarnations
    assert "replica.buried" not in world.names_told()
    assert chat.epoch == 1


async def test_the_late_answer_to_a_renewal_of_before_a_restart_lets_go_of_no_lock(world: World) -> None:
    """It names a server that is no more, and to move the locks away from the one that came looks like a death there."""
    a, b = await world.cluster(2)
    incarnations = [a.worker_id, b.worker_id]
    renewal = a.heartbeat_wire.hold_answer("renew")
    await renewal.reached.wait()
    world.database.restart_sessions()
    await trio.sleep(1.5)
    renewal.release()
    await trio.sleep(5)
    assert [a.worker_id, b.worker_id] == incarnations
    assert "replica.buried" not in world.names_told()


async def test_locks_whose_answers_are_lost_when_they_are_taken_anew_are_no_death(world: World) -> None:
    """P4: each is let go of again, but never together with another one."""
    a, b = await world.cluster(2)
    incarnations = [a.worker_id, b.worker_id]
    wire = a.heartbeat_wire
    world.database.fail_over()
    first, second = wire.hold_answer("hold"), wire.hold_answer("hold")
    await first.reached.wait()
    await trio.sleep(1.5)  # so b watches whatever a holds now
    wire.lose_answer("hold", times=2)
    for answer in (first, second):
        answer.release()
    await trio.sleep(5)
    assert wire.crossings["hold"] == 6, "two at the start, two that were lost, and two for good"
    assert [a.worker_id, b.worker_id] == incarnations
    assert "replica.buried" not in world.names_told()


async def test_the_watch_works_again_after_a_restart_of_the_database(world: World) -> None:
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    world.database.restart_sessions()
    await trio.sleep(3)
    a.kill()
    await chat.until(lambda chat: chat.owner == b.worker_id, within=TAKEOVER_SECONDS)


async def test_a_claim_whose_answer_was_lost_is_given_back(world: World) -> None:
    """No phantom owner: the database says that the chat is ours, but nobody runs it. Two heartbeats tell."""
    a = await world.replica(claim_poll_seconds=3600.0, user_chats_max=9)
    a.database_wire.lose_answer("claim")
    chat = await a.create()
    await chat.until(lambda chat: chat.owner == a.worker_id)
    began = trio.current_time()
    (await world.model.next_call()).answer("Hi.")
    await chat.until_status("waiting", within=0.1)
    assert trio.current_time() - began < 3.0
    assert chat.history == ["user: hello", "assistant: Hi."]
    assert chat.epoch == 2
    assert "chat.returned" in world.names_told()


async def test_a_claim_that_is_never_answered_is_given_up_while_the_lease_is_good(world: World) -> None:
    """P4: else the replica would claim nothing for as long as a statement may take, nor end an incarnation."""
    a = await world.replica()
    held = a.database_wire.hold("claim")
    chat = await a.create()
    await held.reached.wait()
    with trio.fail_after(a.settings.ownership.self_fence_seconds + 2.0):
        call = await world.model.next_call()
    call.answer("Hi.")
    await chat.until_status("waiting")
    assert chat.epoch == 1
    assert len(a.incarnations) == 1


async def test_a_phantom_claim_of_a_chat_that_is_to_stop_is_given_back_too(world: World) -> None:
    a = await world.replica()
    a.database_wire.lose_answer("claim")
    chat = await a.create()
    await chat.until(lambda chat: chat.owner == a.worker_id)
    await a.interrupt(chat)
    await chat.until_status("waiting", within=5.0)
    assert chat.history == ["user: hello"]


async def test_a_chat_that_was_taken_from_a_runner_is_noticed_with_the_next_heartbeat(world: World) -> None:
    a = await world.replica()
    chat, call, _ = await world.answering(a)
    world.database.disown(world.database.owned_by(a.worker_id))
    with trio.fail_after(a.settings.ownership.heartbeat_seconds + 1.5):
        await call.ended.wait()
    (await world.model.next_call()).answer("Whole.")
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Whole."]


async def test_a_new_replica_frees_the_chats_of_one_that_died_before_it_came(world: World) -> None:
    """P4: two heartbeats are enough to know that nobody renews what is old and unlocked."""
    a = await world.replica()
    chat, _, _ = await world.answering(a)
    a.kill()
    await trio.sleep(6)
    b = await world.replica()
    await chat.until(lambda chat: chat.owner == b.worker_id, within=2.5)


async def test_a_supervisor_that_saw_the_death_says_so(world: World) -> None:
    """``--replaces``: no lease has to run out."""
    a = await world.replica()
    chat, _, _ = await world.answering(a)
    a.kill()
    b = await world.replica(replaces=str(a.worker_id))
    await chat.until(lambda chat: chat.owner == b.worker_id, within=0.5)
    assert a.worker_id not in world.database.replicas


async def test_a_message_with_interrupt_survives_the_death_of_the_owner(world: World) -> None:
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    commit = a.database_wire.hold("commit")
    await b.send(chat, "rather this", Busy.INTERRUPT)
    await commit.reached.wait()
    a.kill()
    call = await world.model.next_call()
    assert call.prompt == ["user: hello", "assistant: Half an", "user: rather this"]
    call.answer("Sure.")
    await reader.until_status("waiting")
    assert reader.history == chat.history
