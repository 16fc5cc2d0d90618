"""What a subscriber sees of a chat: each thing once, in order, on whatever replica (P3)."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from uuid import UUID

import msgspec
import pytest
import trio

from chatcluster import events, parts
from chatcluster.catch_up import LARGE_BYTES, PAGES_MAX
from chatcluster.errors import ChatNotFound, TooMany
from chatcluster.parts import BEGINNING, Part, ReasoningPart, joined, parse_cursor
from chatcluster.subscriber import BEHIND_SECONDS_MAX, LARGE_EVENTS_MAX, Cut, Subscriber
from loops.cluster_world import OWNER, SWEEPS, Chat, SimulatedReplica, World
from loops.reader import Reader, View, parse_events, story_of
from loops.scripted_model import Call


class Passes(trio.abc.Instrument):
    """Counts the passes of the event loop."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


LARGE = "x" * (LARGE_BYTES + 1)

ONE_TURN = [
    "status running",
    "user: hello",
    "queue []",
    "attempt 1",
    "… Hi there!",
    "assistant: Hi there!",
    "status waiting",
]


# --- from the start ---------------------------------------------------------------------------


@pytest.mark.parametrize("reads_at", ["the owner", "another replica", "a replica that only serves"])
async def test_a_turn_is_streamed_in_order_wherever_it_is_read(world: World, reads_at: str) -> None:
    owner = await world.replica(slots=4)
    other = await world.replica(slots=0 if reads_at == "a replica that only serves" else 4)
    chat = await owner.create("hello")
    call = await world.model.next_call()
    reader = await (owner if reads_at == "the owner" else other).read(chat)
    call.say("Hi", " there")
    await reader.until_preview("Hi there")
    call.answer("!")
    await reader.until_status("waiting")
    assert reader.story == ONE_TURN


async def test_the_first_event_is_the_status_even_of_a_chat_without_owner(world: World) -> None:
    nobody = await world.replica(slots=0)
    chat = await nobody.create("hello")
    reader = await nobody.read(chat)
    await reader.until_line("queue []")
    assert reader.story == ["status pending", "user: hello", "queue []"]


async def test_a_late_joiner_gets_the_attempt_from_its_beginning(world: World) -> None:
    """Parts said before the relay was there are in the stream, on every replica."""
    owner, other = await world.replica(), await world.replica(slots=0)
    chat = await owner.create("hello")
    call = await world.model.next_call()
    call.say("Once", " upon", " a time")
    await world.until(lambda: len(world.frames(chat)) == 4)
    late = await other.read(chat)
    await late.until_preview("Once upon a time")
    call.answer(" there was.")
    await late.until_status("waiting")
    assert late.story == [
        "status running",
        "user: hello",
        "queue []",
        "attempt 1",
        "… Once upon a time there was.",
        "assistant: Once upon a time there was.",
        "status waiting",
    ]


async def test_a_chat_at_rest_shows_its_history_and_no_parts(world: World) -> None:
    owner, other = await world.cluster(2)
    chat = await world.one_turn(owner)
    reader = await other.read(chat)
    await reader.until_line("queue []")
    await trio.sleep(5)
    assert reader.story == ["status waiting", "user: hello", "assistant: Hi there!", "queue []"]


async def test_short_answers_are_streamed_as_well(world: World) -> None:
    """An answer that is complete before any relay looks at the stream is still seen part by part."""
    owner, other = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(owner)
    reader = await other.read(chat)
    await owner.send(chat, "again")
    (await world.model.next_call()).answer("Yes.")
    await reader.until(lambda reader: reader.history[-1:] == ["assistant: Yes."] and reader.status == "waiting")
    assert story_of([event for event in reader.events if event.type in ("attempt", "part")]) == ["attempt 1", "… Yes."]


async def test_all_replicas_show_the_same_sequence_at_the_same_time(world: World) -> None:
    """Through every replica at once: the same events, byte for byte, with the same cursors."""
    replicas = await world.cluster(3)
    chat = await replicas[0].create("hello")
    call = await world.model.next_call()
    readers = [await replica.read(chat) for replica in replicas]
    for word in ("Hi", " there", "!"):
        call.say(word)
        for reader in readers:
            await reader.until(lambda reader, word=word: reader.preview.endswith(word))  # type: ignore[misc]
    call.finish()
    for reader in readers:
        await reader.until_status("waiting")
        assert reader.story == ONE_TURN
    assert readers[0].events == readers[1].events == readers[2].events


async def test_reasoning_and_text_are_streamed_apart_and_joined_in_history(world: World) -> None:
    owner = await world.replica()
    chat = await owner.create("hello")
    reader = await owner.read(chat)
    call = await world.model.next_call()
    call.think("Hm", ", so")
    call.answer("Hi", " there")
    await reader.until_status("waiting")
    parts = [event.data["part"] for event in reader.events if event.type == "part"]
    kinds = [part["type"] for part in parts]
    assert kinds == sorted(kinds, key=["reasoning", "text"].index), "in the order in which it was said"
    (message,) = [e.data["message"] for e in reader.events if e.line == "assistant: Hi there"]
    assert message["parts"] == [{"type": "reasoning", "text": "Hm, so"}, {"type": "text", "text": "Hi there"}]


async def test_how_long_was_thought_is_streamed_and_kept(world: World) -> None:
    """Each thought lasts from the question, or the last word before it, to the first that comes after it."""
    owner = await world.replica()
    chat = await owner.create("hello")
    reader = await owner.read(chat)
    call = await world.model.next_call()
    for words in ("Hm", ", so"):
        await trio.sleep(1)
        call.think(words)
    await trio.sleep(1)
    call.say("Hi")
    await reader.until_preview("Hi")
    await trio.sleep(2)
    call.think("Really?")
    call.answer("!")
    await reader.until_status("waiting")
    streamed = joined(msgspec.convert(e.data["part"], Part) for e in reader.events if e.type == "part")
    first, said, second, end = chat.row.messages[-1].parts
    assert streamed == (first, said, second, end)
    assert isinstance(first, ReasoningPart)
    assert isinstance(second, ReasoningPart)
    assert first.text == "Hm, so"
    assert first.duration_ms == pytest.approx(3000, abs=200)
    assert second.duration_ms == pytest.approx(2000, abs=200)


async def test_a_thought_that_was_stopped_was_measured_by_nobody(world: World) -> None:
    owner = await world.replica()
    chat = await owner.create("hello")
    reader = await owner.read(chat)
    call = await world.model.next_call()
    await trio.sleep(1)
    call.think("Hm")
    await reader.until(lambda reader: any(event.type == "part" for event in reader.events))
    await owner.interrupt(chat)
    await reader.until_status("waiting")
    assert chat.row.messages[-1].parts == (ReasoningPart("Hm"),)


async def test_a_title_is_shown_when_it_changes(world: World) -> None:
    owner, other = await world.cluster(2)
    chat = await world.one_turn(owner)
    reader = await other.read(chat)
    await owner.rename(chat, "Greetings")
    await reader.until_line("title Greetings", within=0.1)


async def test_a_rename_in_mid_answer_does_not_touch_the_run(world: World) -> None:
    """A side job moves no version that fences a run."""
    owner = await world.replica()
    chat = await owner.create("hello")
    reader = await owner.read(chat)
    call = await world.model.next_call()
    call.say("Hi")
    await reader.until_preview("Hi")
    await owner.rename(chat, "Greetings")
    await reader.until_line("title Greetings")
    call.answer(" there!")
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Hi there!"]
    assert len(world.model.calls) == 1


# --- from a cursor ----------------------------------------------------------------------------


async def test_a_cursor_gives_exactly_what_came_after_it(world: World) -> None:
    """Only messages that the cursor had not covered, and the status first as always."""
    owner, other = await world.cluster(2)
    chat = await world.one_turn(owner)
    reader = await owner.read(chat)
    await reader.until_line("queue []")
    cursor = reader.ids()[-1]
    await world.exchange(owner, chat, "and you?", "Fine.")
    late = await other.read(chat, cursor)
    await late.until_line("queue []")
    assert late.story == ["status waiting", "user: and you?", "assistant: Fine.", "queue []"]


async def test_a_cursor_in_mid_attempt_gives_the_rest_of_the_parts(world: World) -> None:
    """No text is doubled on a reconnect: positions say what the client has."""
    owner, other = await world.cluster(2)
    chat = await owner.create("hello")
    reader = await owner.read(chat)
    call = await world.model.next_call()
    call.say("Hi")
    await reader.until_preview("Hi")
    cursor = reader.ids()[-1]
    call.say(" there")
    await reader.until_preview("Hi there")
    resumed = await other.read(chat, cursor)
    await resumed.until_line("…  there")
    assert resumed.story == ["status running", "queue []", "…  there"]


async def test_a_reconnect_after_every_single_event_yields_the_same_sequence(world: World) -> None:
    """On another replica each time, in the middle of replay, attempt and commit."""
    replicas = await world.cluster(3)
    chat = await world.one_turn(replicas[0])
    await world.exchange(replicas[0], chat, "and you?", "Fine.")
    await replicas[0].send(chat, "sure?")
    call = await world.model.next_call()
    steady = await replicas[0].read(chat)
    view, hops = View(), 0
    for word in ("Quite", " sure", "."):
        call.say(word)
        await steady.until(lambda reader, word=word: reader.preview.endswith(word))  # type: ignore[misc]
        while view.preview != steady.preview:
            await take_one_event(replicas[hops % 3], chat, view)
            hops += 1
    call.finish()
    await steady.until_status("waiting")
    while view.status != "waiting" or len(view.messages) < 6:
        await take_one_event(replicas[hops % 3], chat, view)
        hops += 1
    assert hops > 9
    assert list(view.messages.values()) == steady.history == chat.history
    assert [line for line in durable(view) if line not in ("status running", "queue []")] == [
        line for line in durable(steady.view) if line not in ("status running", "queue []")
    ]


async def take_one_event(replica: SimulatedReplica, chat: Chat, view: View) -> None:
    """Connect at the view's cursor, take events up to the first that moves it, and break off."""
    came_from, taken = view.cursor, len(view.events)
    hop = View()
    hop.cursor = came_from
    reader = await replica.read(chat, str(came_from), view=hop)
    await reader.until(lambda _: any(parse_cursor(e.id) != came_from for e in hop.events) or hop.status == "waiting")
    reader.leave()
    view.joining = True
    for event in hop.events:
        view.apply(event)
        if view.cursor != came_from:
            return
    assert len(view.events) > taken


def durable(view: View) -> list[str]:
    return story_of([event for event in view.events if event.type in ("message", "attempt", "part")])


async def test_a_reader_joins_a_warm_feed_without_a_database_read(world: World) -> None:
    """Whatever the number of subscribers: one read per change."""
    owner = await world.replica()
    chat = await world.one_turn(owner)
    first = await owner.read(chat)
    await first.until_line("queue []")
    await world.exchange(owner, chat, "again", "Yes.")
    await first.until_line("assistant: Yes.")
    reads = owner.database_wire.crossings.copy()
    second = await owner.read(chat, first.ids()[3])
    await second.until_line("queue []")
    assert second.history == ["user: again", "assistant: Yes."]
    assert owner.database_wire.crossings == reads


async def test_a_change_is_read_once_for_all_subscribers(world: World) -> None:
    owner, other = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(owner)
    readers = [await other.read(chat) for _ in range(20)]
    for reader in readers:
        await reader.until_line("queue []")
    before = other.database_wire.crossings["read"]
    await owner.rename(chat, "Greetings")
    for reader in readers:
        await reader.until_line("title Greetings", within=0.1)
    assert other.database_wire.crossings["read"] == before + 1
    assert len({reader.ids()[-1] for reader in readers}) == 1


async def test_an_event_is_encoded_once_for_all_subscribers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []

    def encode(event: object) -> bytes:
        encoded.append(event)
        return parts.encode(event)

    monkeypatch.setattr(events, "encode", encode)
    owner, other = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(owner)

    async def encodings_of_a_turn(readers: list[Reader]) -> list[str]:
        for reader in readers:
            await reader.until_line("queue []")
        encoded.clear()
        await world.exchange(owner, chat, "again", "Yes.")
        told = len(chat.history)
        for reader in readers:
            await reader.until(lambda reader: len(reader.history) == told and reader.status == "waiting")
        return [type(event).__name__ for event in encoded]

    one = await encodings_of_a_turn([await other.read(chat)])
    many = await encodings_of_a_turn([await other.read(chat) for _ in range(20)])
    assert one.count("MessageEvent") == many.count("MessageEvent") == 2, "parts come encoded, from the producer"
    assert max(len(one), len(many)) <= 7, "two messages, one end, and a status for each of its changes that was seen"


async def test_a_long_history_is_replayed_in_pages_and_can_break_off_anywhere(world: World) -> None:
    owner, other = await world.cluster(2)
    chat = await owner.create("message 0")
    for number in range(1, 230):
        (await world.model.next_call()).answer("ok")
        await chat.until_status("waiting")
        await owner.send(chat, f"message {number}")
    (await world.model.next_call()).answer("ok")
    await chat.until_status("waiting")
    reader = await owner.read(chat)
    await reader.until_line("queue []")
    assert reader.history == chat.history
    assert len(chat.history) == 460
    for cut_at in (1, 150, 201, 400):
        resumed = await other.read(chat, reader.ids()[cut_at])
        await resumed.until_line("queue []")
        assert resumed.history == chat.history[cut_at:]


@pytest.mark.parametrize("cursor", ["999.1-1", "1.999-0", "999.1-1.5"])
async def test_a_reader_from_a_future_that_the_database_has_lost_starts_anew(world: World, cursor: str) -> None:
    """P3: as after a failover that lost what the reader has seen; it is told so, and nothing is guessed."""
    owner = await world.replica()
    chat = await world.one_turn(owner)
    reader = await owner.read(chat, cursor)
    await reader.until_line("queue []")
    assert "history_reset" in reader.story
    assert reader.history == chat.history


async def test_another_users_chat_is_not_there(world: World) -> None:
    """P9."""
    owner = await world.replica()
    chat = await world.one_turn(owner)
    with pytest.raises(ChatNotFound):
        async with owner.feeds.subscribe(chat.id, BEGINNING, owner_id=chat.id):
            pass


async def test_a_replica_serves_no_more_streams_than_it_is_told_to(world: World) -> None:
    owner = await world.replica(subscribers_max=3)
    chat = await world.one_turn(owner)
    readers = [await owner.read(chat) for _ in range(2)]
    with pytest.raises(TooMany):
        async with owner.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER):
            pass
    readers[0].leave()
    await world.settle()
    await owner.read(chat)
    assert owner.feeds.subscribers == 2


# --- quicker and slower than the others -------------------------------------------------------


async def test_a_cursor_ahead_of_a_slow_feed_gets_nothing_twice_and_misses_nothing(world: World) -> None:
    """The client was on a quicker replica; the slow one, whose hints are lost, catches up first."""
    owner, slow = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(owner)
    behind = await slow.read(chat)
    await behind.until_line("queue []")
    slow.pubsub.disconnect()
    quick = await owner.read(chat)
    await owner.send(chat, "again")
    call = await world.model.next_call()
    call.say("Y", "e")
    await quick.until_preview("Ye")
    resumed = await slow.resume(chat, quick)
    call.answer("s.")
    await resumed.until(lambda reader: len(reader.history) == 4)
    assert resumed.history == chat.history
    assert "user: again" not in resumed.story


async def test_a_cursor_ahead_in_the_stream_holds_back_what_was_seen(world: World) -> None:
    """A feed that has just been made has not read the stream yet: what the cursor covers is not shown again."""
    owner, other = await world.replica(), await world.replica(slots=0)
    chat = await owner.create("hello")
    reader = await owner.read(chat)
    call = await world.model.next_call()
    call.say("Once upon")
    await reader.until_preview("Once upon")
    hold = other.redis_wire.hold("read")
    resumed = await other.resume(chat, reader)
    await hold.reached.wait()
    hold.release()
    call.say(" a time")
    await resumed.until_preview("Once upon a time")
    assert resumed.story == ["status running", "queue []", "…  a time"]


async def test_a_slow_reader_is_cut_and_resumes_where_it_was(world: World) -> None:
    """Nothing is ever dropped silently: over its buffer the connection ends, and the cursor goes on."""
    owner = await world.replica(subscriber_buffer_bytes=16 << 10)
    chat = await owner.create("hello")
    call = await world.model.next_call()
    quick, view = await owner.read(chat), View()
    async with owner.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER) as slow:
        view.joining = True
        for event in parse_events(await slow.receive()):
            view.apply(event)
        await chatter(call, quick, words=200)
        await trio.sleep(2 * BEHIND_SECONDS_MAX)
        await chatter(call, quick, words=1)
        with pytest.raises(Cut, match="slow"):
            await slow.receive()
    resumed = await owner.read(chat, view=view)
    await resumed.until_preview(quick.preview)
    call.finish()
    await resumed.until_status("waiting")
    assert resumed.view.messages == quick.view.messages
    assert quick.cut is None, "one slow reader costs the others nothing"


async def test_a_reader_that_was_cut_while_it_waited_gets_nothing_of_what_came_after(world: World) -> None:
    """Its cursor must not move past what it did not get."""
    owner = await world.replica(subscriber_buffer_bytes=16 << 10, slots=0)
    chat = await owner.create("hello")
    reader = await owner.read(chat)
    await reader.until_line("queue []")
    async with owner.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER) as stuck:
        await stuck.receive()
        for number in range(LARGE_EVENTS_MAX + 2):
            await trio.sleep(2 * BEHIND_SECONDS_MAX)
            await owner.rename(chat, f"{number} " + "x" * 10_000)
            await reader.until_line(f"title {number} " + "x" * 10_000)
        with pytest.raises(Cut, match="slow"):
            await stuck.receive()
    assert reader.cut is None, "one slow reader costs the others nothing"


@pytest.mark.parametrize("at", ["the owner", "another replica"])
async def test_p10_an_event_larger_than_the_buffer_cuts_nobody_who_keeps_up(world: World, at: str) -> None:
    """An answer, a message that waits, and the queue with it: each is larger than what may wait."""
    owner = await world.replica(subscriber_buffer_bytes=16 << 10)
    other = await world.replica(slots=0, subscriber_buffer_bytes=16 << 10)
    chat = await owner.create("hello")
    call = await world.model.next_call()
    reader = await (owner if at == "the owner" else other).read(chat)
    await reader.until_line("attempt 1")
    large = "x" * 100_000
    call.say(large)
    await reader.until_preview(large)
    await owner.send(chat, "y" * 100_000)
    await reader.until_line("queue ['" + "y" * 100_000 + "']")
    call.say("z")
    await reader.until_preview(large + "z")
    call.finish()
    (await world.model.next_call()).answer("Hi!")
    await reader.until_status("waiting")
    assert reader.history[1:] == [f"assistant: {large}z", "user: " + "y" * 100_000, "assistant: Hi!"]
    assert reader.cut is None


async def large_answer(world: World, owner: SimulatedReplica) -> Chat:
    """A chat whose second answer is given to a reader apart from what is small."""
    chat = await world.one_turn(owner)
    await world.exchange(owner, chat, "more", LARGE)
    await world.exchange(owner, chat, "enough", "Fine.")
    return chat


async def test_p10_between_the_pages_of_readers_that_come_at_once_others_are_served(world: World) -> None:
    """Five hundred pages in one pass of the loop would delay every heartbeat."""
    owner = await world.replica()
    chat = await world.one_turn(owner)
    passes, given = Passes(), list[int]()

    async def read(reader: Subscriber) -> None:
        await reader.receive()
        given.append(passes.count)

    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        trio.lowlevel.add_instrument(passes)
        for _ in range(10 * PAGES_MAX):
            subscription = owner.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER)
            nursery.start_soon(read, await stack.enter_async_context(subscription))
    assert max(Counter(given).values()) <= PAGES_MAX


async def test_p10_those_who_read_a_large_message_at_the_same_time_share_its_bytes(world: World) -> None:
    owner = await world.replica()
    chat = await large_answer(world, owner)
    given: list[list[bytes]] = []
    for _ in range(3):
        async with owner.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER) as reader:
            pieces = [await reader.receive()]
            while b"event: ready" not in pieces[-1]:
                pieces.append(await reader.receive())
            given.append(pieces)
    first, *others = [[piece for piece in pieces if LARGE.encode() in piece] for pieces in given]
    assert len(first) == 1
    assert all(one[0] is first[0] for one in others)
    assert len(first[0]) < len(LARGE) + 1000, "and nothing is joined to them"
    small = [[event.type for event in parse_events(piece)] for piece in given[0][:2]]
    assert small == [["status"], ["message", "message", "message"]]


async def test_a_history_that_is_rewritten_while_a_large_message_is_read_is_told_anew_behind_it(world: World) -> None:
    owner = await world.replica()
    chat = await large_answer(world, owner)
    view = View()

    async def receive(reader: Subscriber) -> None:
        for event in parse_events(await reader.receive()):
            view.apply(event)

    async with owner.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER) as reader:
        await receive(reader)
        await owner.edit(chat, "hello", "goodbye")
        (await world.model.next_call()).answer("Bye.")
        await chat.until_status("waiting")
        while list(view.messages.values()) != chat.history or view.status != "waiting":
            await receive(reader)
    assert [event.type for event in view.events].count("history_reset") == 1
    assert list(view.messages.values()) == ["user: goodbye", "assistant: Bye."]


async def test_p10_a_rewritten_history_that_is_long_is_read_in_pages_by_readers_that_stay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed reads one page and no more; each reader goes on through the others at its own pace."""
    monkeypatch.setattr("chatcluster.feed.PAGE_BYTES", 100)
    monkeypatch.setattr("chatcluster.catch_up.PAGE_BYTES", 100)
    owner, other = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(owner)
    for turn in range(5):
        await world.exchange(owner, chat, f"question {turn}", f"answer {turn}")
    reader = await other.read(chat)
    await reader.until_line("queue []")
    await owner.edit(chat, "question 4", "another question")
    call = await world.model.next_call()
    call.say("Well")
    await reader.until_preview("Well")
    assert reader.history == chat.history
    assert reader.history[-1] == "user: another question"
    call.finish()
    await reader.until_status("waiting")
    assert reader.history == chat.history
    assert reader.cut is None


async def test_p10_a_feed_that_fell_behind_reads_in_pages_what_was_said_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcluster.feed.PAGE_MESSAGES", 2)
    owner, other = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(owner)
    reader = await other.read(chat)
    await reader.until_line("queue []")
    other.database_wire.cut = True
    for turn in range(5):
        await world.exchange(owner, chat, f"question {turn}", f"answer {turn}")
    other.database_wire.cut = False
    await reader.until(lambda reader: reader.history == chat.history)
    assert reader.cut is None


async def chatter(call: Call, reader: Reader, *, words: int) -> None:
    """So many frames, each seen by the reader before the next one is said."""
    for number in range(words):
        word = f"{number} "
        call.say(word)
        await reader.until(lambda reader, word=word: reader.preview.endswith(word))  # type: ignore[misc]


# --- hints are never data ---------------------------------------------------------------------


async def test_hints_in_any_order_show_each_message_once_in_order(world: World) -> None:
    """A hint that is late, early, doubled or lying only makes the feed read the database."""
    owner, other = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(owner)
    reader = await other.read(chat)
    await reader.until_line("queue []")
    other.pubsub.disconnect()
    await world.exchange(owner, chat, "two", "2")
    await world.exchange(owner, chat, "three", "3")
    other.pubsub.connect()
    view = world.database.view(chat.row)
    for _ in range(3):
        owner.notices.committed(view)
    await reader.until(lambda reader: len(reader.history) == 6, within=0.1)
    await trio.sleep(3)
    assert reader.history == chat.history


async def test_a_hint_of_a_version_that_does_not_exist_is_forgotten(world: World) -> None:
    owner = await world.replica()
    chat = await world.one_turn(owner)
    reader = await owner.read(chat)
    await reader.until_line("queue []")
    lie = world.database.view(chat.row)
    owner.notices.committed(msgspec.structs.replace(lie, snapshot_version=1000))
    await world.settle()
    before = owner.database_wire.crossings["read"]
    await trio.sleep(10)
    assert owner.database_wire.crossings["read"] == before, "the poll sees no news either"
    await owner.rename(chat, "Greetings")
    await reader.until_line("title Greetings", within=0.1)


async def test_without_hints_the_poll_shows_every_change_in_time(world: World) -> None:
    owner, deaf = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(owner)
    reader = await deaf.read(chat)
    await reader.until_line("queue []")
    deaf.pubsub.disconnect()
    await world.exchange(owner, chat, "again", "Yes.")
    await reader.until_line("assistant: Yes.", within=2.0)


async def test_readers_of_chats_at_rest_cost_one_statement_per_poll(world: World) -> None:
    owner, other = await world.replica(), await world.replica(slots=0)
    for number in range(10):
        chat = await world.one_turn(owner, f"hello {number}")
        await other.read(chat)
    await world.settle()
    before = other.database_wire.crossings.copy()
    await trio.sleep(20)
    spent = other.database_wire.crossings - before
    assert set(spent) - SWEEPS == {"versions"}
    assert 10 <= spent["versions"] <= 14


async def test_a_feed_ends_some_time_after_its_last_reader(world: World) -> None:
    """Nothing is kept for chats that nobody follows."""
    owner = await world.replica()
    chat = await world.one_turn(owner)
    reader = await owner.read(chat)
    await reader.until_line("queue []")
    reader.leave()
    await trio.sleep(1)
    assert "chats=1" in repr(owner.feeds)
    await trio.sleep(10)
    assert "chats=0 subscribers=0" in repr(owner.feeds)
    again = await owner.read(chat)
    await again.until_line("queue []")
    assert again.history == chat.history


# --- other people's chats ---------------------------------------------------------------------


async def test_asking_for_somebody_elses_chat_opens_nothing(world: World) -> None:
    """One look at the row, and none the next time; no feed, no history, no place that is kept."""
    owner, other = await world.cluster(2)
    chat = await world.one_turn(owner)
    stranger = UUID(int=7)
    before = other.database_wire.crossings.copy()
    for _ in range(10):
        with pytest.raises(ChatNotFound):
            async with other.feeds.subscribe(chat.id, BEGINNING, owner_id=stranger):
                pass
    assert other.database_wire.crossings - before == {"get": 1}
    assert "chats=0 subscribers=0" in repr(other.feeds)


async def test_the_first_reader_of_a_chat_that_changed_here_costs_no_look_at_its_owner(world: World) -> None:
    owner = await world.replica()
    chat = await world.one_turn(owner)
    before = owner.database_wire.crossings.copy()
    async with owner.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER):
        pass
    assert (owner.database_wire.crossings - before)["get"] == 0
