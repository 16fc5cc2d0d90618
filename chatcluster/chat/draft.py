"""A decision, and a decision in the making."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from chatcluster.chat.causes import cause_of
from chatcluster.chat.facts import Facts
from chatcluster.chat.state import (
    AT_WORK,
    QUEUE_BYTES_MAX,
    QUEUE_MESSAGES_MAX,
    ChatState,
    OpenCall,
    Queued,
    Status,
    TurnOutcome,
    copy_stored,
    state_with,
)
from chatcluster.errors import QueuedMessageNotFound, QueueFull
from chatcluster.parts import NewMessage, Parts, Role, ToolCallPart, ToolResultPart, encode

CANCELLED_TEXT = "The call was cancelled before it produced a result."


class Requeued(NamedTuple):
    """A queued message that is replaced."""

    id: int
    message: NewMessage


class Decision(msgspec.Struct, frozen=True):
    """The new state, and all that a store has to write to get there: it need not look at the command.

    ``event`` is the name of the command, which an owner's messages keep as where they come from.
    ``messages`` go into history in this order. ``enqueue`` becomes a new queued message at the end of
    the queue, ``dequeue`` leaves the queue (deleted, or promoted: then its parts are in ``messages``),
    ``queue_head`` moves to the front. ``delete_from`` soft-deletes that message and all after it.
    ``opened`` and ``closed`` are tool calls that got, or lost, their place among the open ones.
    By the store's clock, the next attempt waits for ``retry_delay_ms`` from now (None: as long as it waits already, if
    the state has a retry), and ``action_seconds`` from now is the deadline of the calls that a client has to answer.
    ``ended``: how the turn ended that was under way, which is that of the newest user message there was.
    ``requeue`` takes the place of a queued message; ``model`` is the chat's from now on.
    """

    state: ChatState
    event: str
    messages: tuple[NewMessage, ...] = ()
    enqueue: NewMessage | None = None
    dequeue: tuple[int, ...] = ()
    queue_head: int | None = None
    delete_from: int | None = None
    opened: tuple[OpenCall, ...] = ()
    closed: tuple[str, ...] = ()
    title: str | None = None
    retry_delay_ms: int | None = None
    action_seconds: float | None = None
    ended: TurnOutcome | None = None
    requeue: Requeued | None = None
    model: str | UnsetType | None = UNSET

    @property
    def became_claimable(self) -> bool:
        return self.state.claimable


class Labels(msgspec.Struct):
    """What a decision says of the chat that its state does not have."""

    title: str | None = None
    model: str | UnsetType | None = UNSET


class Draft:
    """A decision in the making. The handler of its event edits it; ``decide`` checks and finishes it."""

    def __init__(self, state: ChatState, facts: Facts) -> None:
        self.before = state
        self.facts = facts
        self.after = copy_stored(state)
        self.queue = list(state.queue)
        self.open_calls = {call.call_id: call for call in state.open_calls}
        self.messages: list[NewMessage] = []
        self.enqueue: NewMessage | None = None
        self.dequeue: list[int] = []
        self.queue_head: int | None = None
        self.delete_from: int | None = None
        self.labels = Labels()
        self.requeue: Requeued | None = None
        self.retry_delay_ms: int | None = None
        self.action_seconds: float | None = None
        self.outcome = TurnOutcome.INTERRUPTED
        """Of the turn under way, if it ends with this."""

    # history

    def insert(self, *messages: NewMessage) -> None:
        for message in messages:
            self.messages.append(message)
            for part in message.parts:
                if isinstance(part, ToolCallPart):
                    self.open_calls[part.id] = OpenCall(part.id, part.name)
                elif isinstance(part, ToolResultPart):
                    self.open_calls.pop(part.call_id, None)

    def answer_open_calls(self, text: str = CANCELLED_TEXT) -> None:
        """Every call has exactly one result: those without one get a synthetic one, in call order."""
        for call in list(self.open_calls.values()):
            self.insert(NewMessage(Role.TOOL, (ToolResultPart(call.call_id, text, is_error=True),)))

    def insert_user(self, message: NewMessage) -> None:
        self.answer_open_calls()
        self.insert(message)

    # queue

    def require_room(self, message: NewMessage) -> None:
        """A message that is alone has room, whatever its size."""
        if len(self.queue) >= QUEUE_MESSAGES_MAX:
            raise QueueFull(f"the queue holds {QUEUE_MESSAGES_MAX} messages already; wait for the chat to get to them")
        self._require_queue_bytes(message.parts, self.queue)

    def _require_queue_bytes(self, parts: Parts, others: list[Queued]) -> None:
        sizes = (len(encode(each)) for each in (parts, *(queued.parts for queued in others)))
        if others and sum(sizes) > QUEUE_BYTES_MAX:
            raise QueueFull(f"the queue has {QUEUE_BYTES_MAX} bytes at most; wait for the chat to get to its messages")

    def require_queued(self, queued_id: int) -> Queued:
        for queued in self.queue:
            if queued.id == queued_id:
                return queued
        raise QueuedMessageNotFound("there is no such message in the queue (any more)", queued_id=queued_id)

    def queue_last(self, message: NewMessage) -> None:
        self.require_room(message)
        self.enqueue = message

    def replace_queued(self, queued_id: int, parts: Parts, model: str | None) -> None:
        """Another message in the place of this one."""
        before = self.require_queued(queued_id)
        self._require_queue_bytes(parts, [queued for queued in self.queue if queued is not before])
        message = NewMessage(Role.USER, parts, model=model or before.model)
        self.queue[self.queue.index(before)] = Queued(queued_id, parts, message.model)
        self.requeue = Requeued(queued_id, message)

    def move_to_head(self, queued_id: int) -> None:
        queued = self.require_queued(queued_id)
        self.queue.remove(queued)
        self.queue.insert(0, queued)
        self.queue_head = queued_id

    def promote_head(self) -> None:
        head = self.queue.pop(0)
        if self.queue_head == head.id:
            self.queue_head = None
        self.dequeue.append(head.id)
        self.insert_user(NewMessage(Role.USER, head.parts, model=head.model))

    def promote_behind(self, message: NewMessage) -> None:
        """The message waits its turn: the queue's head is promoted, which makes room, and it goes behind the rest."""
        if self.queue:
            self.promote_head()
            self.queue_last(message)
        else:
            self.insert_user(message)

    # outcome

    def run(self) -> None:
        self.after.status = Status.RUNNING
        self.after.last_error = None

    def end_tenure(self) -> None:
        """In order: whatever became of earlier owners, the chat is not what ended them."""
        self.after.worker_id = None
        self.after.takeovers = 0

    def rest(self, status: Status) -> None:
        self.after.status = status
        self.end_tenure()
        self.after.retry = None
        self.after.compacting = False

    @property
    def ended(self) -> TurnOutcome | None:
        """A turn ends when the chat comes to rest, and when another message of the user takes its place.

        Compacting is no turn: it answers nobody.
        """
        rests = self.after.archived or self.after.status not in AT_WORK
        if self.before.status not in AT_WORK or self.before.compacting:
            return None
        return self.outcome if rests or any(message.role is Role.USER for message in self.messages) else None

    def finish(self, event: str) -> Decision:
        before, after = self.before, self.after
        self._count_versions()
        self._name_cause(event)
        open_before = [call.call_id for call in before.open_calls]
        state = state_with(after, tuple(self.queue), tuple(self.open_calls.values()))
        return Decision(
            state=state,
            event=event,
            messages=tuple(self.messages),
            enqueue=self.enqueue,
            dequeue=tuple(self.dequeue),
            queue_head=self.queue_head,
            delete_from=self.delete_from,
            opened=tuple(call for call in self.open_calls.values() if call.call_id not in open_before),
            closed=tuple(call_id for call_id in open_before if call_id not in self.open_calls),
            title=self.labels.title,
            retry_delay_ms=self.retry_delay_ms,
            action_seconds=self.action_seconds,
            ended=self.ended,
            requeue=self.requeue,
            model=self.labels.model,
        )

    def _name_cause(self, event: str) -> None:
        """Why the status, the owner or the archive is another one now; ``Release`` says that itself."""
        before, after = self.before, self.after
        is_same = (before.status, before.worker_id, before.archived) == (after.status, after.worker_id, after.archived)
        if not is_same and event != "Release":
            runs = after.status is Status.RUNNING
            after.cause = cause_of(event, runs=runs, stops=after.status is Status.INTERRUPTING)

    def _count_versions(self) -> None:
        """The versions that the decision moves. What belongs to one history starts anew with the next."""
        after = self.after
        version = after.snapshot_version = self.before.snapshot_version + 1
        if self.messages or self.delete_from is not None:
            after.history_version = version
            after.attempt, after.failures, after.takeovers, after.retry = 0, 0, 0, None
        if self.enqueue is not None or self.dequeue or self.queue_head is not None or self.requeue is not None:
            after.queue_version = version
        if self.delete_from is not None:
            after.reset_version = version
