"""A decision, and a decision in the making."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from chatcluster.chat.calls import CallState, OpenCall, all_wait, cancelled_text, opened
from chatcluster.chat.causes import cause_of
from chatcluster.chat.commands import Remember
from chatcluster.chat.facts import Facts
from chatcluster.chat.setup import ChatSetup
from chatcluster.chat.state import (
    AT_WORK,
    QUEUE_BYTES_MAX,
    QUEUE_MESSAGES_MAX,
    ChatState,
    Queued,
    Status,
    TurnOutcome,
    copy_stored,
    state_with,
)
from chatcluster.errors import QueuedMessageNotFound, QueueFull, Unreadable
from chatcluster.parts import (
    CONTENT_VERSION,
    NewMessage,
    Parts,
    Role,
    ToolCallPart,
    ToolResultPart,
    content_version_of,
    encode,
)


class Grant(msgspec.Struct, frozen=True):
    """A tool that its user need not be asked about again: in one chat, or in all."""

    tool: str
    remember: Remember


class CallEdits(msgspec.Struct, frozen=True):
    """``opened`` and ``closed`` are calls that got, or lost, their place among the open ones; ``changed`` others.
    ``kept`` are whole results of calls that are closed."""

    opened: tuple[OpenCall, ...] = ()
    changed: tuple[OpenCall, ...] = ()
    closed: tuple[str, ...] = ()
    kept: tuple[tuple[str, bytes], ...] = ()


NO_EDITS = CallEdits()


class Requeued(NamedTuple):
    """A queued message that is replaced."""

    id: int
    message: NewMessage


class Span(NamedTuple):
    """Messages of a history, by their IDs."""

    first: int
    last: int = 2**63 - 1


class _QueueEdits(msgspec.Struct):
    """The changes to the queue, as in ``Decision``."""

    enqueue: NewMessage | None = None
    steer: bool = False
    dequeue: list[int] = []
    head: int | None = None
    requeue: Requeued | None = None

    @property
    def any(self) -> bool:
        return self.head is not None or any((self.enqueue, self.dequeue, self.requeue))


class Decision(msgspec.Struct, frozen=True):
    """The new state, and all that a store has to write to get there: it need not look at the command.

    ``event`` is the name of the command, which an owner's messages keep as where they come from.
    ``messages`` go into history in this order. ``enqueue`` becomes a new queued message at the end of
    the queue, and a steered one if ``steer``; ``dequeue`` leaves the queue (deleted, or promoted: then its
    parts are in ``messages``), ``queue_head`` moves to the front. ``delete`` soft-deletes messages of before.
    ``unsteer``: of those that are queued none is steered any more.
    By the store's clock, the next attempt waits for ``retry_delay_ms`` from now (None: as long as it waits already, if
    the state has a retry). In a chat that requires action each call that waits for somebody has a deadline, which is
    ``wait_seconds`` after it was found there without one.
    ``ended``: how the turn ended that was under way, which is that of the newest user message there was.
    ``requeue`` takes the place of a queued message.
    """

    state: ChatState
    event: str
    messages: tuple[NewMessage, ...] = ()
    enqueue: NewMessage | None = None
    steer: bool = False
    dequeue: tuple[int, ...] = ()
    queue_head: int | None = None
    delete: Span | None = None
    unsteer: bool = False
    calls: CallEdits = NO_EDITS
    setup: ChatSetup | None = None
    grant: Grant | None = None
    retry_delay_ms: int | None = None
    ended: TurnOutcome | None = None
    requeue: Requeued | None = None


class Draft:
    """A decision in the making. The handler of its event edits it; ``decide`` checks and finishes it."""

    def __init__(self, state: ChatState, facts: Facts) -> None:
        self.before = state
        self.facts = facts
        self.after = copy_stored(state)
        self.queue = list(state.queue)
        self.open_calls = {call.call_id: call for call in state.open_calls}
        self.messages: list[NewMessage] = []
        self.kept: list[tuple[str, bytes]] = []
        self.queue_edits = _QueueEdits()
        self.delete: Span | None = None
        self.setup: ChatSetup | None = None
        self.grant: Grant | None = None
        self.retry_delay_ms: int | None = None
        self.goes_on = False
        """The turn under way does, whichever messages went into history."""
        self.starts_attempt = False
        self.outcome = TurnOutcome.INTERRUPTED
        """How the turn under way ends, if it ends with this."""

    # history

    def insert(self, *messages: NewMessage, calls: tuple[OpenCall, ...] = ()) -> None:
        """``calls``: how the calls in these messages begin."""
        plans = {call.call_id: call for call in calls}
        for message in messages:
            self.messages.append(message)
            self._note_content(message)
            for part in message.parts:
                if isinstance(part, ToolCallPart):
                    self.open_calls[part.id] = opened(part, plans.get(part.id), self.before.epoch)
                elif isinstance(part, ToolResultPart):
                    self.open_calls.pop(part.call_id, None)

    def take_in(self, *messages: NewMessage) -> None:
        """What was said elsewhere: its calls are nobody's to run."""
        for message in messages:
            self.messages.append(message)
            self._note_content(message)

    def _note_content(self, message: NewMessage) -> None:
        self.after.content_version = max(self.after.content_version, content_version_of(message.parts))

    def answer(self, call_id: str, text: str) -> None:
        """A synthetic result in place of the call's own."""
        self.insert(NewMessage(Role.TOOL, (ToolResultPart(call_id, text, is_error=True),)))

    def answer_open_calls(self) -> None:
        """Every call has exactly one result: those without one get a synthetic one, in call order."""
        for call in list(self.open_calls.values()):
            self.answer(call.call_id, cancelled_text(call))

    def change_call(self, call: OpenCall) -> None:
        self.open_calls[call.call_id] = call

    def insert_user(self, message: NewMessage) -> None:
        self.answer_open_calls()
        self.insert(message)

    # queue

    def require_room(self, message: NewMessage) -> None:
        """A message that is alone has room at any size."""
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

    def queue_last(self, message: NewMessage, *, steer: bool = False) -> None:
        self.require_room(message)
        self._note_content(message)
        self.queue_edits.enqueue, self.queue_edits.steer = message, steer

    def delete_queued(self, *queue: Queued) -> None:
        for queued in queue:
            self.queue.remove(queued)
            self.queue_edits.dequeue.append(queued.id)

    def replace_queued(self, queued_id: int, parts: Parts, model: str | None) -> None:
        """Another message in the place of this one."""
        before = self.require_queued(queued_id)
        if len(encode(parts)) > len(encode(before.parts)):
            self._require_queue_bytes(parts, [queued for queued in self.queue if queued is not before])
        message = NewMessage(Role.USER, parts, model=model or before.model)
        self._note_content(message)
        self.queue[self.queue.index(before)] = Queued(queued_id, parts, message.model, before.steered)
        self.queue_edits.requeue = Requeued(queued_id, message)

    def move_to_head(self, queued_id: int) -> None:
        queued = self.require_queued(queued_id)
        self.queue.remove(queued)
        self.queue.insert(0, queued)
        self.queue_edits.head = queued_id

    def promote_head(self) -> None:
        head = self.queue[0]
        if self.queue_edits.head == head.id:
            self.queue_edits.head = None
        self.insert_user(self._taken(head))

    def take_in_steered(self) -> None:
        """Results are in, and no call is open: the turn goes on with what its user said meanwhile."""
        self.goes_on = True
        for queued in [queued for queued in self.queue if queued.steered]:
            self.insert(self._taken(queued))

    def _taken(self, queued: Queued) -> NewMessage:
        """An answer that this version understands in part would lose the rest."""
        if self.before.content_version > CONTENT_VERSION:
            raise Unreadable("a newer version of chatcluster wrote what is queued; it takes one to go on with it")
        self.delete_queued(queued)
        return NewMessage(Role.USER, queued.parts, model=queued.model)

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

    def go_on_or_rest(self) -> None:
        """What the owner did is done: the head of the queue is next, if there is one."""
        if self.queue:
            self.after.compacting = False
            self.promote_head()
        else:
            self.rest(Status.WAITING)

    def settle(self) -> None:
        """Rest if all open calls wait for an answer from outside: then an owner has nothing to do."""
        if self.open_calls and all_wait(self.open_calls.values()):
            self.rest(Status.REQUIRES_ACTION)

    def end_tenure(self) -> None:
        """The tenure ended in order: the chat is not charged for the deaths of earlier owners any more."""
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
        taken_over = not self.goes_on and any(message.role is Role.USER for message in self.messages)
        return self.outcome if rests or taken_over else None

    def finish(self, event: str) -> Decision:
        ended = self.ended
        unsteer = ended is not None and self._unsteer()
        self._count_versions(queue_changed=unsteer or self.queue_edits.any)
        self._name_cause(event)
        self.after.waits_for_agents = self._waits_for_agents
        state = state_with(self.after, tuple(self.queue), tuple(self.open_calls.values()))
        return Decision(
            state=state,
            event=event,
            messages=tuple(self.messages),
            enqueue=self.queue_edits.enqueue,
            steer=self.queue_edits.steer,
            dequeue=tuple(self.queue_edits.dequeue),
            queue_head=self.queue_edits.head,
            delete=self.delete,
            unsteer=unsteer,
            calls=self._call_edits(),
            setup=self.setup,
            grant=self.grant,
            retry_delay_ms=self.retry_delay_ms,
            ended=ended,
            requeue=self.queue_edits.requeue,
        )

    @property
    def _waits_for_agents(self) -> bool:
        calls = self.open_calls.values()
        return self.after.status is Status.REQUIRES_ACTION and all(call.state is CallState.AGENTS for call in calls)

    def _name_cause(self, event: str) -> None:
        """Why the status, the owner or the archive is another one now; ``Release`` says that itself."""
        before, after = self.before, self.after
        is_same = (before.status, before.worker_id, before.archived) == (after.status, after.worker_id, after.archived)
        if not is_same and event != "Release":
            runs = after.status is Status.RUNNING
            after.cause = cause_of(event, runs=runs, stops=after.status is Status.INTERRUPTING)

    def _call_edits(self) -> CallEdits:
        before, after = {call.call_id: call for call in self.before.open_calls}, self.open_calls
        if not before and not after:
            return NO_EDITS
        return CallEdits(
            opened=tuple(call for call in after.values() if call.call_id not in before),
            changed=tuple(call for call in after.values() if before.get(call.call_id, call) != call),
            closed=tuple(call_id for call_id in before if call_id not in after),
            kept=tuple(self.kept),
        )

    def _unsteer(self) -> bool:
        """The turn that they were for is over: what is left of steered messages is queued like any other."""
        steered = any(queued.steered for queued in self.queue)
        if steered:
            self.queue = [msgspec.structs.replace(queued, steered=False) for queued in self.queue]
        return steered

    def _count_versions(self, *, queue_changed: bool) -> None:
        """The versions that the decision moves. What belongs to one history starts anew with the next."""
        after = self.after
        version = after.snapshot_version = self.before.snapshot_version + 1
        if self.messages or self.delete is not None:
            after.history_version = version
            after.attempt, after.failures, after.takeovers, after.retry = int(self.starts_attempt), 0, 0, None
            after.failed = 0
            if self.delete is None:  # after an edit somebody has to tell its provider that nobody wants it
                after.answer = ""
        if queue_changed:
            after.queue_version = version
        if self.delete is not None:
            after.reset_version = version
