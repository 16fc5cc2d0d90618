"""The relay: frames of one chat, from wherever they are published, in order and once.

One relay per followed chat and replica, however many subscribers. It **dials** the tenure that the
database names: it reads the part stream from its last position, then takes live frames as they are
published. Each dial has a cancel scope of its own and carries the epoch and worker ID that it expects.

* A live frame that follows the last one is handed over in the very call that delivers it: on its way
  from the connection to the readers it wakes no task of ours. That is the path of nearly all frames.
* A live frame at or before the last position is a duplicate and dropped; one that does not follow the last
  one is a gap, and the stream is read again from there. So is everything after a ``GAP`` in the live feed, or after
  what is no frame at all, and what was missed because the receiver was not ready.
* A frame of a newer tenure ends the dial's say: nothing after it is passed on before the receiver, which is poked, has
  looked into the database, which alone decides who owns the chat. A stale owner's late frames come
  after that (see ``PartStreams.open``), or at positions that have been passed, and are dropped.
* ``retarget`` (another owner) cancels the dial, and with it whatever it has not handed over yet: the position
  moves only when frames are handed over, so the next dial goes on exactly there.
* But where a tenure has closed, the first frame of the next epoch follows its last one. So if the database names an
  owner in just that epoch, the dial goes on, and nothing is read: whether it waits for the next frame, on a connection
  that stands, or has that one in hand, as it came first. A first frame that is lost shows as a gap with the second.
* A tenure whose ``open`` frame names another worker than the database is not the one we mean: the dial fails.
* A failed dial is tried again with back-off (0.1 s x 1.6, at most 5 s, jittered). ``reset`` (any change of the
  chat, or the connection to Redis coming back) ends the wait at once.

The stream is authoritative for what was said; the live channel only says it sooner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol
from uuid import UUID

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.backoff import Backoff
from chatcluster.errors import StreamsUnavailable
from chatcluster.parts import START, Frame, FrameKind, OpenFrame, Position, decode_frame, unpack_frame
from chatcluster.ports import Gap, PartStreams, PubSub, Subscription, live_channel

BACKOFF_SECONDS = 0.1
BACKOFF_FACTOR = 1.6
BACKOFF_CAP_SECONDS = 5.0
RETARGET_SECONDS_MAX = 2.0
READ_FRAMES = 500
LIVE_BATCH_MAX = 200
SEQ_MAX = 2**63 - 1
"""Beyond every frame of a tenure."""
SET = trio.Event()
"""An event that is set: it takes the place of every event that is set for good, as chats at rest are many."""
SET.set()


class Tenure(msgspec.Struct, frozen=True):
    """The tenure to dial. ``worker_id`` is None for a tenure that is over and known by its epoch alone."""

    epoch: int
    worker_id: UUID | None = None

    def is_lost_to(self, other: Tenure) -> bool:
        """Whether the database, which names the ``other`` now, has forgotten this one: epochs ascend, and each has one
        owner."""
        return other.epoch < self.epoch or (other.epoch == self.epoch and other.worker_id not in (None, self.worker_id))


class Receiver(Protocol):
    """Where the frames come out."""

    @property
    def busy(self) -> bool:
        """Whether there are frames that wait for the database; more have to wait in the relay."""
        ...

    async def until_free(self) -> None: ...

    def take(self, frames: Sequence[Frame]) -> None:
        """Consecutive frames, each of them once."""
        ...

    def newer_tenure(self) -> None:
        """A tenure after the dialled one is on the stream: look into the database."""
        ...


class DialFailed(StreamsUnavailable):
    """The tenure on the stream is not the one that the database named."""


class Relay:
    """``run`` dials; ``receiver`` gets the frames."""

    __slots__ = (
        "_backoff",
        "_chat_id",
        "_dialling",
        "_failure",
        "_is_reset",
        "_listening",
        "_named",
        "_pubsub",
        "_receiver",
        "_retry_now",
        "_streams",
        "dialled",
        "healthy",
        "position",
        "target",
    )

    def __init__(
        self,
        chat_id: UUID,
        *,
        streams: PartStreams,
        pubsub: PubSub,
        receiver: Receiver,
    ) -> None:
        self.target = Tenure(0)
        self.position = START
        """That of the last frame handed over; beyond every frame once the tenure has closed: there are no more."""
        self.healthy = True
        """Whether the last dial got through to the stream."""
        self.dialled = trio.Event()
        """Set once the stream as it was has been handed over, or could not be read."""
        self._chat_id = chat_id
        self._streams = streams
        self._pubsub = pubsub
        self._receiver = receiver
        self._backoff = Backoff(BACKOFF_SECONDS, BACKOFF_CAP_SECONDS, factor=BACKOFF_FACTOR, jitter=(0.9, 1.1))
        self._failure: Exception | None = None
        """The failure of the receiver, where a frame arrived."""
        self._dialling = trio.CancelScope()
        self._is_reset = False
        self._listening: Subscription | None = None
        """The live channel, while a dial waits for the next frame on it."""
        self._named: trio.Event | None = None
        """While a dial has frames of a tenure in hand that the database has not named yet."""
        self._retry_now: trio.Event | None = None
        """While a dial waits that failed."""

    def __repr__(self) -> str:
        return f"<Relay {self._chat_id} target={self.target} at {self.position} healthy={self.healthy}>"

    def begin(self, tenure: Tenure, *, at_end: bool) -> None:
        """The tenure to dial first; ``at_end``: what was streamed so far is history."""
        self.target = tenure
        if at_end:
            self.position = Position(tenure.epoch, SEQ_MAX)

    def follow(self, tenure: Tenure, *, changed: bool, anew: bool = False) -> bool:
        """The database names this tenure now; ``changed``: and another status of the chat; ``anew``: from the start.

        False if it has forgotten the one that was followed: what came of that is no place to go on from.
        """
        is_lost = anew or self.target.is_lost_to(tenure)
        if is_lost:
            self.position = START
        if is_lost or tenure.epoch > self.target.epoch:
            self._turn_to(tenure)
        elif changed:
            self.reset()
        return not is_lost

    def retarget(self, tenure: Tenure) -> None:
        """Follow this tenure from now on; a dial that cannot go on with it is cancelled."""
        if tenure != self.target:
            self._turn_to(tenure)

    def _turn_to(self, tenure: Tenure) -> None:
        self.target = tenure
        is_next = tenure.worker_id is not None and _follows(Position(tenure.epoch, 0), self.position)
        if is_next and self._named is not None:
            self._named.set()
        elif not (is_next and self._listening is not None and self._listening.is_complete):
            self._dialling.cancel()
            self.reset()

    def reset(self) -> None:
        """Something changed: the next dial need not wait."""
        self._backoff.reset()
        self._is_reset = True
        if self._retry_now is not None:
            self._retry_now.set()

    async def run(self) -> None:
        """Dial the target, and again whenever it changes or the dial fails; for ever."""
        async with self._pubsub.subscribe(live_channel(self._chat_id)) as live:
            while True:
                self._is_reset = False
                with trio.CancelScope() as self._dialling:
                    await self._follow(live)
                await trio.lowlevel.checkpoint()

    async def _follow(self, live: Subscription) -> None:
        try:
            await self._dial(live)
        except StreamsUnavailable as error:
            self.healthy = False
            self._is_dialled()
            delay_seconds = self._backoff.drawn_seconds()
            telemetry.event("relay.dial_failed", chat_id=str(self._chat_id), error=str(error), wait=delay_seconds)
            if not self._is_reset:
                self._retry_now = trio.Event()
                with trio.move_on_after(delay_seconds):
                    await self._retry_now.wait()
                self._retry_now = None

    def _is_dialled(self) -> None:
        self.dialled.set()
        self.dialled = SET

    # --- one dial -----------------------------------------------------------------------------

    async def _dial(self, live: Subscription) -> None:
        """Pass on the target's frames until cancelled. Raises ``StreamsUnavailable``."""
        await self._catch_up()
        self._is_dialled()
        self.healthy = True
        self._backoff.reset()
        while True:
            payloads = [await self._left_over(live)]
            if self._failure is not None:
                raise self._failure
            while len(payloads) < LIVE_BATCH_MAX:
                try:
                    payloads.append(live.receive_nowait())
                except trio.WouldBlock:
                    break
            frames = _frames_in(payloads)
            if frames is not None and self._continues(frames):
                await self._pass_on(frames)
            else:
                await self._catch_up()

    async def _left_over(self, live: Subscription) -> bytes | Gap:
        """The next payload that could not be taken as it came."""
        self._listening = live
        try:
            return await live.receive_unless(self._taken)
        finally:
            self._listening = None

    def _taken(self, payload: bytes | Gap) -> bool:
        """Hand a live frame over where it arrives, if it is just the next one. Whatever fails here fails the relay, and
        not the connection that delivers to all of them."""
        if isinstance(payload, Gap) or self._receiver.busy:
            return False
        try:
            entry = unpack_frame(payload)
        except ValueError:
            return False
        if not _follows(entry.position, self.position):
            return False
        if entry.position.epoch != self.position.epoch and not self._is_of_target(entry):
            return False
        try:
            self._receiver.take((entry,))
        except Exception as error:  # noqa: BLE001 - raised in the dial
            self._failure = error
            return False
        self.position = _behind(entry)
        return True

    def _is_of_target(self, opened: Frame) -> bool:
        """Whether it opens the tenure that the database names."""
        return opened.position.epoch == self.target.epoch and _is_opened_by(self.target.worker_id, opened)

    def _continues(self, frames: Iterable[Frame]) -> bool:
        """Whether the frames that are new follow the last position without a gap."""
        last = self.position
        for entry in frames:
            if entry.position <= last:
                continue
            if not _follows(entry.position, last):
                return False
            last = _behind(entry)
        return True

    async def _catch_up(self) -> None:
        """Read the stream from the last position to its end."""
        while True:
            frames = await self._streams.read(self._chat_id, after=self.position, limit=READ_FRAMES)
            await self._pass_on(frames)
            if len(frames) < READ_FRAMES:
                return

    async def _pass_on(self, frames: Iterable[Frame]) -> None:
        new: list[Frame] = []
        last = self.position
        for entry in frames:
            if entry.position <= last:
                continue
            while entry.position.epoch > self.target.epoch:
                await self._hand_over(new)
                new = []
                await self._refer(entry.position.epoch)
            if entry.kind is FrameKind.OPEN:
                _check_worker(self.target, entry)
            new.append(entry)
            last = entry.position
        await self._hand_over(new)

    async def _hand_over(self, frames: list[Frame]) -> None:
        if frames:
            await self._receiver.until_free()
            self._receiver.take(frames)
            self.position = _behind(frames[-1])

    async def _refer(self, epoch: int) -> None:
        """A newer tenure is on. The receiver reads who owns the chat, and names that: it ends the wait, or the dial."""
        self._receiver.newer_tenure()
        self._named = trio.Event()
        try:
            with trio.fail_after(RETARGET_SECONDS_MAX):
                await self._named.wait()
        except trio.TooSlowError:
            raise DialFailed(f"the tenure {epoch} is on the stream, but not in the database") from None
        finally:
            self._named = None


def _frames_in(payloads: Iterable[bytes | Gap]) -> list[Frame] | None:
    """The frames that were received; None if some may be missing: after a gap, or for unknown bytes."""
    frames = []
    for payload in payloads:
        if isinstance(payload, Gap):
            return None
        try:
            frames.append(unpack_frame(payload))
        except ValueError:
            return None
    return frames


def _behind(last: Frame) -> Position:
    """Where the stream goes on after this frame."""
    return Position(last.position.epoch, SEQ_MAX) if last.kind is FrameKind.CLOSE else last.position


def _follows(position: Position, last: Position) -> bool:
    """Whether no frame can lie between the last one and this."""
    epoch, seq = last
    return position == ((epoch, seq + 1) if seq < SEQ_MAX else (epoch + 1, 0))


def _check_worker(tenure: Tenure, opened: Frame) -> None:
    if opened.position.epoch == tenure.epoch and not _is_opened_by(tenure.worker_id, opened):
        raise DialFailed(f"tenure {tenure.epoch} was not opened by {tenure.worker_id}")


def _is_opened_by(worker_id: UUID | None, frame: Frame) -> bool:
    """Whether the frame begins a tenure, that of this worker; None: of any."""
    body = decode_frame(frame.data) if frame.kind is FrameKind.OPEN else None
    return isinstance(body, OpenFrame) and (worker_id is None or body.worker_id == str(worker_id))
