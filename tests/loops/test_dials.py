"""What readers see of a relay: dials that hang, fail, come too late or are not needed (P3, P8).

A dial is one attachment of a reader's replica to the stream of a tenure. How many there are is part of the promise: one
for each tenure that does not follow on one that has closed, and one more for each that failed.
"""

from __future__ import annotations

import pytest
import trio

from chatcluster.memory import MemoryStreams
from chatcluster.parts import Frame, PartFrame, Position, TextPart, frame
from chatcluster.ports import hint_channel
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.reader import Reader
from loops.scripted_model import Call

AT_ONCE = 0.05
FRAMES_SECONDS = 0.5
"""How long a message waits for frames that do not come."""


async def read_across(
    world: World, said: str = "Half"
) -> tuple[SimulatedReplica, SimulatedReplica, Chat, Call, Reader]:
    """A chat in mid-answer on one replica, read on another one."""
    a, b = await world.replica(), await world.replica(slots=0)
    chat, call, local = await world.answering(a, said)
    local.leave()
    reader = await b.read(chat)
    await reader.until_preview(said)
    await world.settle()
    return a, b, chat, call, reader


def dials(b: SimulatedReplica) -> int:
    """How often the stream was read. Nothing is lost on the way here, so a dial that finds its tenure reads it once."""
    return b.redis_wire.crossings["read"]


def drop(b: SimulatedReplica) -> None:
    """The connection for live frames and hints is lost, and back at once."""
    b.pubsub.disconnect()
    b.pubsub.connect()


def lose_hints(b: SimulatedReplica, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no hint of this chat reaches the replica; live frames do."""
    deliver = b.pubsub.deliver
    lost = hint_channel(chat.id)
    monkeypatch.setattr(b.pubsub, "deliver", lambda channel, payload: channel == lost or deliver(channel, payload))


# --- how many ---------------------------------------------------------------------------------


async def test_a_tenure_is_dialled_once_however_many_turns_and_readers_it_has(world: World) -> None:
    a, b, chat, call, reader = await read_across(world)
    readers = [await b.read(chat) for _ in range(5)]
    await a.send(chat, "next")
    call.finish()
    (await world.model.next_call()).answer("Yes.")
    for each in (reader, *readers):
        await each.until(lambda reader: len(reader.history) == 4 and reader.status == "waiting")
    await trio.sleep(10)
    assert dials(b) == 1


async def test_each_tenure_is_dialled_once_whoever_owns_it(world: World) -> None:
    """Also where the reader's own replica becomes the owner: there is one path for frames, and no second dial."""
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    assert dials(b) == 1
    a.kill()
    (await world.model.next_call()).answer("Whole.")
    await reader.until_status("waiting")
    assert chat.epoch == 2
    await trio.sleep(10)
    assert dials(b) == 2


async def test_each_of_several_drops_in_a_row_is_recovered_without_a_new_dial(world: World) -> None:
    """After a drop the stream is read once from where the reader was, by the dial that stands."""
    _, b, _, call, reader = await read_across(world, "0")
    said = "0"
    for number in range(1, 6):
        b.pubsub.disconnect()
        call.say(f" {number}")
        await world.settle()
        await trio.sleep(0.1)
        assert reader.preview == said
        b.pubsub.connect()
        said += f" {number}"
        await reader.until_preview(said, within=AT_ONCE)
        assert dials(b) == 1 + number
    assert "relay.dial_failed" not in world.names_told()


# --- failures and back-off --------------------------------------------------------------------


@pytest.fixture
def exact_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No jitter."""
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)


async def failed_dials(world: World, b: SimulatedReplica, count: int) -> list[float]:
    """When so many dials of a stream that cannot be read fail, from the drop on."""
    times: list[float] = []
    b.redis_wire.cut = True
    drop(b)
    while len(times) < count:
        before = world.names_told().count("relay.dial_failed")
        await world.until(lambda before=before: world.names_told().count("relay.dial_failed") > before)  # type: ignore[misc]
        times.append(trio.current_time())
    return times


async def test_seven_failures_and_more_end_no_stream_and_each_wait_is_the_one_before_times_1_6(
    world: World, exact_waits: None
) -> None:
    """There is no cap on the number: the reader has its messages without frames, and the parts when Redis is back."""
    _, b, _, call, reader = await read_across(world)
    began = trio.current_time()
    b.redis_wire.cut = True
    drop(b)
    await trio.sleep(60)
    waits = [fields["wait"] for name, fields in world.told if name == "relay.dial_failed"]
    expected = [min(0.1 * 1.6**number, 5.0) for number in range(len(waits))]
    assert waits == pytest.approx(expected)
    assert len(waits) == 19
    assert reader.cut is None
    assert "error" not in "".join(reader.story)
    call.say(" an answer")
    b.redis_wire.cut = False
    await reader.until_preview("Half an answer", within=5.0)
    waited = sum(expected[1:])  # the first wait ends at once: the connection has just come back
    assert trio.current_time() - began == pytest.approx(waited), "it dials exactly when each wait is over"


async def test_a_change_of_the_chats_status_ends_the_wait_for_the_next_dial(world: World, exact_waits: None) -> None:
    """And a change that is none of the status, like another title, does not."""
    a, b, chat, call, reader = await read_across(world)
    await failed_dials(world, b, 10)
    call.say(" an")
    await world.settle()
    b.redis_wire.cut = False
    await a.rename(chat, "Greetings")
    await reader.until_line("title Greetings", within=AT_ONCE)
    await trio.sleep(0.1)
    assert reader.preview == "Half"
    held = a.database_wire.hold("commit")
    await a.interrupt(chat)
    await held.reached.wait()
    await reader.until_preview("Half an", within=AT_ONCE)
    held.release()
    await reader.until_status("waiting", within=AT_ONCE)


async def test_who_stops_following_ends_the_wait_for_the_next_dial(world: World) -> None:
    """Nothing dials for a reader that has left."""
    _, b, _, _, reader = await read_across(world)
    await failed_dials(world, b, 5)
    reader.leave()
    await trio.sleep(10)
    failures = world.names_told().count("relay.dial_failed")
    await trio.sleep(60)
    assert world.names_told().count("relay.dial_failed") == failures


# --- dials that hang, or come too late --------------------------------------------------------


async def test_a_dial_that_never_returns_delays_no_status(world: World) -> None:
    """The stop is shown at once; the partial, which has frames to wait for, after half a second and no later."""
    a, b, chat, call, reader = await read_across(world)
    held = b.redis_wire.hold("read")
    drop(b)
    await held.reached.wait()
    call.say(" an answer")
    await world.settle()
    commit = a.database_wire.hold("commit")
    await a.interrupt(chat)
    await reader.until_status("interrupting", within=AT_ONCE)
    began = trio.current_time()
    commit.release()
    await reader.until_status("waiting")
    assert trio.current_time() - began == pytest.approx(FRAMES_SECONDS)
    assert reader.history == chat.history == ["user: hello", "assistant: Half an answer"]
    await a.rename(chat, "Greetings")
    await reader.until_line("title Greetings", within=AT_ONCE)


async def test_a_dial_that_never_returns_is_left_for_that_of_the_next_owner(world: World) -> None:
    """Owner A, then C, while the dial to A is in flight: that is cancelled, one more is made, and C's words come.

    The dial to C arrives when C has opened its tenure; were it there first, it would read once more.
    """
    a, b, _, call, reader = await read_across(world)
    held = b.redis_wire.hold("read")
    drop(b)
    await held.reached.wait()
    call.say(" an answer")
    await world.settle()
    before = dials(b)
    await world.replica()
    a.kill()
    following = b.redis_wire.hold("read")
    (await world.model.next_call()).say("Whole")
    await following.reached.wait()
    await world.settle()
    following.release()
    await reader.until_preview("Whole", within=AT_ONCE)
    assert dials(b) == before + 1
    assert not held.released.is_set()


class StubbornStreams(MemoryStreams):
    """A dial that cannot be cancelled: what it has read comes in the end, whoever owns the chat by then."""

    async def read(self, *args: object, **kwargs: object) -> list[Frame]:
        frames: list[Frame] = []
        with trio.CancelScope(shield=True):
            frames += await super().read(*args, **kwargs)  # type: ignore[arg-type]
        return frames


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loops.cluster_world.MemoryStreams", StubbornStreams)


async def test_a_stale_dial_that_completes_after_an_interrupt_and_a_new_owner_is_discarded(
    world: World, stubborn: None
) -> None:
    """It brings what the first owner had said: that is history by now, and shown as a message alone."""
    a, b, chat, call, reader = await read_across(world)
    held = b.redis_wire.hold_answer("read")
    call.say(" an answer")
    await reader.until_preview("Half an answer")
    drop(b)
    await held.reached.wait()
    call.say(" to nobody")
    await world.settle()
    await a.interrupt(chat)
    await reader.until_status("waiting")
    c = await world.replica()
    await a.drain()
    await c.send(chat, "next")
    (await world.model.next_call()).say("Yes")
    await reader.until_line("user: next", within=AT_ONCE)
    assert chat.owner == c.worker_id
    held.release()
    await reader.until_preview("Yes", within=AT_ONCE)
    assert [line for line in reader.story[3:] if not line.startswith("status")] == [
        "attempt 1",
        "… Half an answer",
        "assistant: Half an answer to nobody",
        "user: next",
        "attempt 1",
        "… Yes",
    ]


async def test_a_dial_that_completes_when_its_tenure_was_taken_over_shows_nothing_after_the_next_ones_words(
    world: World, stubborn: None
) -> None:
    a, b, _, call, reader = await read_across(world)
    held = b.redis_wire.hold_answer("read")
    drop(b)
    await held.reached.wait()
    call.say(" an answer")
    await world.settle()
    await world.replica()
    a.kill()
    (await world.model.next_call()).say("Whole")
    await world.settle()
    held.release()
    await reader.until_preview("Whole", within=AT_ONCE)
    assert reader.story[-2:] == ["attempt 2", "… Whole"]


async def test_closing_cancels_a_dial_in_flight_and_leaks_nothing(world: World) -> None:
    a, b, chat, call, reader = await read_across(world)
    listening = len(b.pubsub.inboxes)
    held = b.redis_wire.hold("read")
    drop(b)
    await held.reached.wait()
    reader.leave()
    await trio.sleep(10)
    assert "chats=0 subscribers=0" in repr(b.feeds)
    assert len(b.pubsub.inboxes) == listening - 2, "neither hints nor frames are listened to"
    before = dials(b)
    held.release()
    call.answer(" an answer")
    await chat.until_status("waiting")
    await trio.sleep(10)
    assert dials(b) == before, "and what was held is not carried on"
    assert a.registered


# --- what comes, and in which order -----------------------------------------------------------


async def test_an_answer_that_is_done_before_the_dial_is_through_is_shown_with_its_parts_and_once(world: World) -> None:
    """The message waits for them: not for long, but as long as it takes here."""
    a, b = await world.replica(), await world.replica(slots=0)
    held = b.redis_wire.hold("read")
    chat = await a.create("hello")
    reader = await b.read(chat)
    await held.reached.wait()
    (await world.model.next_call()).answer("Hi there!")
    await chat.until_status("waiting")
    await trio.sleep(FRAMES_SECONDS / 2)
    assert reader.history == ["user: hello"]
    held.release()
    await reader.until_status("waiting", within=AT_ONCE)
    assert [line for line in reader.story if not line.startswith("status p")] == [
        "status running",
        "user: hello",
        "queue []",
        "attempt 1",
        "… Hi there!",
        "assistant: Hi there!",
        "status waiting",
    ]


async def test_durable_messages_hinted_out_of_order_come_in_order_and_each_once(world: World) -> None:
    """The hint of the third is first, that of the second last: by then it is old news, and costs no read."""
    a, b = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(a, "1", "2")
    reader = await b.read(chat)
    await reader.until_line("queue []")
    views = []
    b.pubsub.disconnect()
    for words, answer in (("3", "4"), ("5", "6")):
        await world.exchange(a, chat, words, answer)
        views.append(world.database.view(chat.row))
    monitor = b.database_wire.crossings
    b.pubsub.connect(quietly=True)
    reads = monitor["read"]
    a.notices.committed(views[1])
    await reader.until(lambda reader: len(reader.history) == 6, within=AT_ONCE)
    assert monitor["read"] == reads + 1
    a.notices.committed(views[0])
    await trio.sleep(2.5)
    assert reader.history == chat.history
    assert monitor["read"] == reads + 1
    assert [line for line in reader.story if line[:4] in ("user", "assi")] == chat.history


async def test_an_attempt_that_builds_on_a_message_whose_frames_are_lost_shows_it_and_goes_on(world: World) -> None:
    """Redis lost the end of an answer that is history by then: the message tells it, and the next one is streamed."""
    a, b, chat, call, reader = await read_across(world, "Hi")
    await a.send(chat, "next")
    await reader.until_line("queue ['next']")
    held = a.redis_wire.hold("append")
    call.say(" there")
    await held.reached.wait()
    call.finish()
    following = await world.model.next_call()
    world.broker.flush()
    b.pubsub.disconnect()
    held.release()
    await world.settle()
    b.pubsub.connect(quietly=True)
    following.answer("Yes.")
    await reader.until_status("waiting")
    assert reader.story[-7:] == [
        "assistant: Hi there",
        "user: next",
        "queue []",
        "attempt 1",
        "… Yes.",
        "assistant: Yes.",
        "status waiting",
    ]


async def test_parts_after_a_hole_in_an_attempt_are_not_shown(world: World) -> None:
    """What came between is lost: joined, they would not be the message. It tells everything."""
    a, _, chat, _, reader = await read_across(world, "Hi")
    await a.streams.append([(chat.id, frame(Position(1, 9), PartFrame(1, TextPart("after a hole"))))])
    await world.settle()
    assert reader.preview == "Hi"


async def test_an_attempt_that_is_heard_of_when_the_chat_was_stopped_is_not_shown(world: World) -> None:
    """Nothing was said, so nothing was kept, and the history is what it was; but nobody is working on it any more."""
    a = await world.replica()
    held = a.redis_wire.hold("open")
    chat = await a.create("hello")
    reader = await a.read(chat)
    await world.model.next_call()
    await reader.until_status("running")
    await a.interrupt(chat)
    await reader.until_status("waiting")
    held.release()
    await world.until(lambda: world.frames(chat)[-1:] == ["1-2 close"])
    await world.settle()
    assert "attempt 1" not in reader.story


@pytest.mark.parametrize("leaves", ["drains", "dies"])
async def test_who_joins_while_the_owner_leaves_sees_all_that_was_said(world: World, leaves: str) -> None:
    """P6, P4: the stream of a tenure outlives whoever wrote it."""
    a, b = await world.replica(), await world.replica(slots=0)
    chat, call, _ = await world.answering(a, "Half")
    if leaves == "drains":
        a.loop.drain()
    else:
        a.kill()
        await chat.until_status("pending")
    await world.settle()
    late = await b.read(chat)
    await late.until_preview("Half", within=AT_ONCE)
    assert dials(b) == 1
    await world.replica()
    if leaves == "dies":
        call = await world.model.next_call()
    call.answer(" an answer" if leaves == "drains" else "Whole")
    await late.until_status("waiting")
    assert late.history == chat.history


# --- without hints, the stream tells where to look --------------------------------------------


async def test_a_commit_on_the_stream_makes_readers_look_without_a_hint(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, chat, call, reader = await read_across(world)
    lose_hints(b, chat, monkeypatch)
    await a.send(chat, "next")
    call.finish()
    (await world.model.next_call()).answer("Yes.")
    await reader.until_status("waiting", within=AT_ONCE)
    assert reader.history == chat.history


async def test_a_new_owner_on_the_stream_makes_readers_look_without_a_hint(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, chat, _, reader = await read_across(world)
    await world.replica()
    lose_hints(b, chat, monkeypatch)
    a.kill()
    (await world.model.next_call()).say("Whole")
    await reader.until_preview("Whole", within=0.2)


async def test_after_a_lost_connection_readers_look_without_a_hint(world: World) -> None:
    a, b, chat, call, reader = await read_across(world)
    call.answer(" an answer")
    await reader.until_status("waiting")
    b.pubsub.disconnect()
    await a.rename(chat, "Greetings")
    await world.settle()
    b.pubsub.connect()
    await reader.until_line("title Greetings", within=AT_ONCE)


async def test_what_is_newer_than_a_message_that_waited_is_read_as_soon_as_its_frames_have_come(world: World) -> None:
    a, b, chat, call, reader = await read_across(world)
    held = b.redis_wire.hold("read")
    drop(b)
    await held.reached.wait()
    call.answer(" an answer")
    await chat.until_status("waiting")
    await world.settle()
    await a.rename(chat, "Greetings")
    await trio.sleep(0.1)
    held.release()
    await reader.until_line("title Greetings", within=AT_ONCE)
    assert reader.story[-4:] == [
        "… Half an answer",
        "assistant: Half an answer",
        "status waiting",
        "title Greetings",
    ]
