"""The relay: frames of one chat, from wherever they are published, in order and once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from uuid import UUID

import pytest
import trio
import trio.testing

from chatcluster import telemetry
from chatcluster.errors import StreamsUnavailable
from chatcluster.memory import MemoryBroker, MemoryPubSub, MemoryStreams
from chatcluster.parts import CloseFrame, Frame, OpenFrame, PartFrame, Position, TextPart, frame, pack_frame
from chatcluster.ports import Subscription, live_channel
from chatcluster.relay import Relay, Tenure
from loops.cluster_world import Wire

CHAT = UUID(int=1)
ANN, BOB = UUID(int=2), UUID(int=3)
READ_SECONDS_MAX = 20.0


class CountedRelay(Relay):
    """How often it has dialled."""

    dials = 0

    async def _dial(self, live: Subscription) -> None:
        self.dials += 1
        await super()._dial(live)


class Line:
    """A relay under test: the servers at one end, and at the other its receiver, which is this too."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.wire = Wire(StreamsUnavailable)
        self.pubsub = MemoryPubSub(self.broker)
        self.owner = MemoryStreams(self.broker)
        self.relay = CountedRelay(
            CHAT, streams=MemoryStreams(self.broker, self.wire), pubsub=self.pubsub, receiver=self
        )
        self.shown: list[str] = []
        self.busy = False
        self._changed = trio.Event()

    def take(self, frames: Sequence[Frame]) -> None:
        assert not self.busy
        self.shown += [str(entry.position) for entry in frames]
        self._change()

    def newer_tenure(self) -> None:
        self.shown.append("poke")
        self._change()

    async def until_free(self) -> None:
        while self.busy:
            await self._changed.wait()

    def free(self) -> None:
        self.busy = False
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def open(self, epoch: int, worker: UUID = ANN, *, trim: bool = False) -> None:
        await self.owner.open(CHAT, frame(Position(epoch, 0), OpenFrame(str(worker), 1)), trim=trim)

    async def say(self, epoch: int, *seqs: int) -> None:
        """Frames of a tenure, numbered, each published as it is added."""
        for seq in seqs:
            await self.owner.append([(CHAT, part(epoch, seq))])

    async def close(self, epoch: int, seq: int) -> None:
        await self.owner.append([(CHAT, frame(Position(epoch, seq), CloseFrame("finished")))])

    def publish(self, epoch: int, seq: int) -> None:
        """A live frame that is not (or no longer) on the stream."""
        self.broker.publish(live_channel(CHAT), pack_frame(part(epoch, seq)))

    async def say_unheard(self, epoch: int, *seqs: int) -> None:
        """Frames whose live copies are lost on the way, without a trace."""
        self.broker.listeners.remove(self.pubsub)
        await self.say(epoch, *seqs)
        self.broker.listeners.append(self.pubsub)

    async def comes(self, *positions: str) -> None:
        """Exactly these come next, and nothing after them for now; ``poke``: it was told to look."""
        with trio.move_on_after(READ_SECONDS_MAX):
            while len(self.shown) < len(positions):
                await self._changed.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert self.shown == list(positions)
        self.shown.clear()


def part(epoch: int, seq: int) -> Frame:
    return frame(Position(epoch, seq), PartFrame(1, TextPart(f"{seq} ")))


@pytest.fixture
async def line(nursery: trio.Nursery) -> Line:
    line = Line()
    line.relay.target = Tenure(1, ANN)
    await line.open(1)
    nursery.start_soon(line.relay.run)
    return line


@pytest.fixture
def exact_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No jitter."""
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)


# --- one tenure -------------------------------------------------------------------------------


async def test_what_is_on_the_stream_comes_first_and_then_what_is_live(line: Line) -> None:
    await line.say(1, 1, 2)
    await line.comes("1-0", "1-1", "1-2")
    await line.say(1, 3)
    await line.comes("1-3")
    assert line.relay.dials == 1


async def test_a_frame_that_comes_again_is_dropped(line: Line) -> None:
    await line.say(1, 1, 2)
    await line.comes("1-0", "1-1", "1-2")
    for seq in (1, 2, 2):
        line.publish(1, seq)
    await line.say(1, 3)
    line.publish(1, 3)
    await line.comes("1-3")


async def test_a_lost_frame_is_noticed_by_the_next_one_and_read_from_the_stream(line: Line) -> None:
    await line.comes("1-0")
    await line.say_unheard(1, 1, 2)
    await line.say(1, 3)
    await line.comes("1-1", "1-2", "1-3")


async def test_after_a_gap_in_the_connection_the_stream_is_read_from_the_last_position(line: Line) -> None:
    await line.say(1, 1)
    await line.comes("1-0", "1-1")
    line.pubsub.disconnect()
    await line.say(1, 2, 3)
    line.pubsub.connect()
    await line.comes("1-2", "1-3")
    assert line.relay.dials == 1, "no new dial is needed"


async def test_more_live_frames_than_are_kept_are_read_from_the_stream(line: Line) -> None:
    await line.comes("1-0")
    hold = line.wire.hold("read")
    await line.say_unheard(1, 1)
    await line.say(1, 2)
    await hold.reached.wait()
    await line.say(1, *range(3, 600))
    hold.release()
    await line.comes(*(f"1-{seq}" for seq in range(1, 600)))


async def test_a_long_stream_is_read_in_pages(line: Line) -> None:
    await line.comes("1-0")
    await line.say_unheard(1, *range(1, 1300))
    await line.say(1, 1300)
    await line.comes(*(f"1-{seq}" for seq in range(1, 1301)))


async def test_numbers_that_the_stream_does_not_have_are_no_gap_for_ever(line: Line) -> None:
    """After a loss of Redis a committed step's frames are not restored: the reader goes on behind them."""
    await line.say(1, 1)
    await line.comes("1-0", "1-1")
    await line.say(1, 7)
    await line.comes("1-7")
    await line.say(1, 8)
    await line.comes("1-8")


# --- another tenure ---------------------------------------------------------------------------


async def test_a_newer_tenure_on_the_stream_makes_the_receiver_look_and_is_not_shown_before(line: Line) -> None:
    """The database alone decides who owns the chat."""
    await line.say(1, 1)
    await line.comes("1-0", "1-1")
    await line.open(2, BOB)
    await line.say(2, 1)
    await line.comes("poke")
    line.relay.retarget(Tenure(2, BOB))
    await line.comes("2-0", "2-1")


async def test_what_the_old_tenure_had_said_comes_before_the_new_one(line: Line) -> None:
    await line.comes("1-0")
    await line.say_unheard(1, 1, 2)
    await line.open(2, BOB)
    await line.comes("1-1", "1-2", "poke")


async def test_a_newer_tenures_frame_is_not_the_next_one_because_its_number_is(line: Line) -> None:
    """The opening was lost on the way, and the first frame that is heard has the number that would follow."""
    await line.say(1, 1)
    await line.comes("1-0", "1-1")
    line.broker.listeners.remove(line.pubsub)
    await line.open(2, BOB)
    await line.say(2, 1)
    line.broker.listeners.append(line.pubsub)
    await line.say(2, 2)
    await line.comes("poke")
    line.relay.retarget(Tenure(2, BOB))
    await line.comes("2-0", "2-1", "2-2")


async def test_a_stale_owners_late_frames_are_dropped(line: Line) -> None:
    await line.say(1, 1)
    await line.comes("1-0", "1-1")
    await line.open(2, BOB)
    line.relay.retarget(Tenure(2, BOB))
    await line.comes("2-0")
    line.publish(1, 2)
    await line.say(2, 1)
    line.publish(1, 3)
    await line.comes("2-1")


async def test_a_dial_for_another_owner_is_cancelled_and_what_it_yields_is_discarded(line: Line) -> None:
    """The owner changes while the dial to the last one is under way."""
    await line.comes("1-0")
    hold = line.wire.hold("read")
    await line.say_unheard(1, 1)
    await line.say(1, 2)
    await hold.reached.wait()
    await line.open(2, BOB, trim=True)
    line.relay.retarget(Tenure(2, BOB))
    hold.release()
    await line.comes("2-0")
    assert line.relay.dials == 2


async def test_a_tenure_that_follows_one_that_has_closed_is_taken_live(line: Line) -> None:
    await line.close(1, 1)
    await line.comes("1-0", "1-1")
    reads = line.wire.crossings["read"]
    line.relay.retarget(Tenure(2, BOB))
    await line.open(2, BOB, trim=True)
    await line.say(2, 1)
    await line.close(2, 2)
    line.relay.retarget(Tenure(3, ANN))
    await line.open(3)
    await line.comes("2-0", "2-1", "2-2", "3-0")
    assert (line.relay.dials, line.wire.crossings["read"]) == (1, reads)


async def test_what_was_streamed_before_the_first_dial_is_followed_by_the_next_tenure(nursery: trio.Nursery) -> None:
    """Of a chat at rest: nothing of it is read."""
    line = Line()
    line.relay.begin(Tenure(1), at_end=True)
    await line.open(1)
    nursery.start_soon(line.relay.run)
    await line.comes()
    line.relay.retarget(Tenure(2, BOB))
    await line.open(2, BOB)
    await line.comes("2-0")
    assert line.relay.dials == 1


async def test_the_first_frame_of_a_tenure_that_is_lost_on_the_way_is_read_with_the_next(line: Line) -> None:
    await line.close(1, 1)
    await line.comes("1-0", "1-1")
    line.relay.retarget(Tenure(2, BOB))
    line.broker.listeners.remove(line.pubsub)
    await line.open(2, BOB)
    line.broker.listeners.append(line.pubsub)
    await line.comes()
    await line.say(2, 1)
    await line.comes("2-0", "2-1")


async def a_tenure_that_has_not_closed(line: Line) -> Tenure:
    await line.say(1, 1)
    return Tenure(2, BOB)


async def one_tenure_in_between(line: Line) -> Tenure:
    await line.close(1, 1)
    return Tenure(3, BOB)


async def nobody_owns_it_any_more(line: Line) -> Tenure:
    await line.close(1, 1)
    return Tenure(2)


async def no_connection(line: Line) -> Tenure:
    await line.close(1, 1)
    line.pubsub.disconnect()
    return Tenure(2, BOB)


@pytest.mark.parametrize(
    "until", [a_tenure_that_has_not_closed, one_tenure_in_between, nobody_owns_it_any_more, no_connection]
)
async def test_a_tenure_is_dialled_where_something_may_lie_before_it(
    line: Line, until: Callable[[Line], Awaitable[Tenure]]
) -> None:
    await line.comes("1-0")
    target = await until(line)
    await line.comes("1-1")
    line.relay.retarget(target)
    await line.comes()
    assert line.relay.dials == 2


async def test_a_tenure_that_comes_before_the_database_names_it_waits_for_that_alone(line: Line) -> None:
    await line.comes("1-0")
    reads = line.wire.crossings["read"]
    await line.close(1, 1)
    await line.open(2, BOB)
    await line.say(2, 1)
    await line.comes("1-1", "poke")
    await line.say(2, 2)
    line.relay.retarget(Tenure(2, BOB))
    await line.comes("2-0", "2-1", "2-2")
    assert (line.relay.dials, line.wire.crossings["read"]) == (1, reads)


async def test_a_tenure_of_another_worker_is_not_taken_live(line: Line) -> None:
    await line.close(1, 1)
    await line.comes("1-0", "1-1")
    line.relay.retarget(Tenure(2, ANN))
    await line.open(2, BOB)
    await line.comes()
    assert not line.relay.healthy


async def test_the_same_target_again_disturbs_nothing(line: Line) -> None:
    await line.comes("1-0")
    line.relay.retarget(Tenure(1, ANN))
    await line.say(1, 1)
    await line.comes("1-1")
    assert line.relay.dials == 1


async def test_frames_that_were_not_handed_over_come_with_the_next_dial(line: Line) -> None:
    """The position moves with the handing over: a cancelled dial loses nothing and doubles nothing."""
    await line.comes("1-0")
    line.busy = True
    await line.say(1, 1, 2)
    await line.comes()
    await line.open(2, BOB)
    line.relay.retarget(Tenure(2, BOB))
    await line.comes()
    line.free()
    await line.comes("1-1", "1-2", "2-0")


async def test_a_receiver_that_was_busy_gets_everything_when_it_is_free(line: Line) -> None:
    await line.comes("1-0")
    line.busy = True
    await line.say(1, *range(1, 600))
    await line.comes()
    line.free()
    await line.comes(*(f"1-{seq}" for seq in range(1, 600)))


async def test_live_frames_that_had_to_wait_are_not_read_again_from_the_stream(line: Line) -> None:
    await line.say(1, 1)
    await line.comes("1-0", "1-1")
    line.busy = True
    await line.say(1, 2, 3, 4)
    await line.comes()
    reads = line.wire.crossings["read"]
    line.free()
    await line.comes("1-2", "1-3", "1-4")
    assert line.wire.crossings["read"] == reads


async def test_a_tenure_of_another_worker_than_the_databases_is_not_passed_on(line: Line) -> None:
    await line.comes("1-0")
    await line.open(2, BOB)
    await line.comes("poke")
    line.relay.retarget(Tenure(2, ANN))
    await line.comes()
    assert not line.relay.healthy
    line.relay.retarget(Tenure(2, BOB))
    await line.comes("2-0")
    assert line.relay.healthy


async def test_a_tenure_that_is_over_is_known_by_its_epoch_alone(line: Line) -> None:
    await line.comes("1-0")
    line.relay.retarget(Tenure(2, None))
    await line.open(2, BOB)
    await line.comes("2-0")


async def test_a_tenure_that_the_database_does_not_confirm_is_asked_about_again(line: Line) -> None:
    """The receiver looked, and found nothing newer yet: the dial fails, and the next one asks again."""
    await line.comes("1-0")
    began = trio.current_time()
    await line.open(2, BOB)
    await line.comes("poke")
    await line.comes("poke")
    assert 2.0 <= trio.current_time() - began < 2.5


# --- failures ---------------------------------------------------------------------------------


async def test_a_failed_dial_is_tried_again_with_growing_waits(line: Line, exact_waits: None) -> None:
    """0.1 s, times 1.6, at most 5 s."""
    times = await times_of_failures(line, 12)
    waits = [round(after - before, 3) for before, after in pairwise(times)]
    assert waits[:4] == [0.1, 0.16, 0.256, 0.41]
    assert waits[-3:] == [4.295, 5.0, 5.0]


async def test_waits_are_jittered_but_not_by_much(line: Line) -> None:
    times = await times_of_failures(line, 4)
    waits = [after - before for before, after in pairwise(times)]
    for wait, expected in zip(waits, (0.1, 0.16, 0.256), strict=True):
        assert 0.9 * expected <= wait <= 1.1 * expected


async def times_of_failures(line: Line, count: int) -> list[float]:
    """When dials of a stream that cannot be read fail."""
    times: list[float] = []
    failed = trio.Event()

    def listen(name: str, _: dict[str, object]) -> None:
        if name == "relay.dial_failed":
            times.append(trio.current_time())
            if len(times) == count:
                failed.set()

    await line.comes("1-0")
    line.wire.cut = True
    telemetry.subscribe(listen)
    line.pubsub.disconnect()
    line.pubsub.connect()
    await failed.wait()
    telemetry.unsubscribe(listen)
    return times


async def test_any_change_of_the_chat_ends_the_wait_and_starts_it_anew(line: Line, exact_waits: None) -> None:
    times = await times_of_failures(line, 9)
    assert times[-1] - times[-2] > 2
    dials, now = line.relay.dials, trio.current_time()
    line.relay.reset()
    await trio.testing.wait_all_tasks_blocked()
    assert (line.relay.dials, trio.current_time()) == (dials + 1, now)
    await trio.sleep(0.11)
    assert line.relay.dials == dials + 2, "the next wait is the first again"


async def test_another_owner_ends_the_wait_and_starts_it_anew(line: Line, exact_waits: None) -> None:
    await times_of_failures(line, 9)
    dials, now = line.relay.dials, trio.current_time()
    line.relay.retarget(Tenure(2, BOB))
    await trio.testing.wait_all_tasks_blocked()
    assert (line.relay.dials, trio.current_time()) == (dials + 1, now)
    await trio.sleep(0.11)
    assert line.relay.dials == dials + 2, "the next wait is the first again"


async def test_a_dial_that_gets_through_forgets_the_failures_before(line: Line) -> None:
    await times_of_failures(line, 6)
    line.wire.cut = False
    await line.say(1, 1)
    await line.comes("1-1")
    assert line.relay.healthy
    line.wire.cut = True
    line.pubsub.disconnect()
    line.pubsub.connect()
    await trio.testing.wait_all_tasks_blocked()
    began, dials = trio.current_time(), line.relay.dials
    line.wire.cut = False
    await line.say(1, 2)
    await line.comes("1-2")
    assert trio.current_time() - began <= 0.11
    assert line.relay.dials == dials + 1


async def test_a_stream_that_is_gone_is_no_failure(line: Line) -> None:
    """There is nothing to read yet; what comes live is shown."""
    await line.comes("1-0")
    line.broker.flush()
    line.pubsub.disconnect()
    line.pubsub.connect()
    await line.comes()
    assert line.relay.healthy
    await line.owner.restore(CHAT, [frame(Position(1, 0), OpenFrame(str(ANN), 1)), part(1, 1)])
    await line.comes("1-1")


async def test_a_receiver_that_fails_fails_its_relay_alone() -> None:
    """Whoever delivers to all relays of a replica goes on."""
    line = Line()
    line.relay.target = Tenure(1, ANN)
    await line.open(1)
    with pytest.RaisesGroup(ZeroDivisionError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.relay.run)
            await line.comes("1-0")
            line.take = lambda _: [1 / 0 for _ in "x"]  # type: ignore[method-assign, assignment]
            await line.say(1, 1)
            await trio.sleep(1)
