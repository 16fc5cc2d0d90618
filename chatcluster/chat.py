"""The state machine of a chat: one table, and one pure function that decides.

A chat is in one **phase**: its execution status, or ``archived``. ``TABLE`` says, for each event and
each phase, in which phases the chat may be afterwards. A pair that is missing is refused with
``NotAllowedInStatus`` (``ChatArchived`` for an archived chat), and nothing is half applied: ``decide``
returns a new state and what to write, or raises; it changes nothing.

Who is authoritative: the row in the store. A store locks the row, loads a ``ChatState``, calls
``decide`` and writes exactly what the ``Decision`` says, in one transaction. Both stores share this
module, so they cannot differ in what they allow.

Versions: each decision that changes a chat raises ``snapshot_version`` by one. When history or the queue
changed, ``history_version`` or ``queue_version`` becomes that number. ``attempt`` and the retry state
belong to one history version and start anew with the next.

Fencing: an event of the owner names the tenure (worker, epoch) and the history version that it worked
from. Another tenure raises ``Fenced``; a history or status that moved under the owner raises ``Moved``.

Ownership (claim, release, burial) is orthogonal to the phase, but an owner exists only where there is
work: every transition to a phase without work clears ``worker_id``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from chatcluster.errors import (
    ChatArchived,
    Fenced,
    MessageNotFound,
    MessageNotUser,
    Moved,
    NotAllowedInStatus,
    ParentArchived,
    QueuedMessageNotFound,
    QueueFull,
    ToolCallNotFound,
)
from chatcluster.parts import NewMessage, Parts, Role, ToolCallPart, ToolResultPart

QUEUE_MESSAGES_MAX = 20

CANCELLED_TEXT = "The call was cancelled before it produced a result."
DENIED_TEXT = "The user denied this call."


class Status(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTING = "interrupting"
    REQUIRES_ACTION = "requires_action"
    ERROR = "error"


class Phase(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTING = "interrupting"
    REQUIRES_ACTION = "requires_action"
    ERROR = "error"
    ARCHIVED = "archived"


class Retry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why the last attempt failed, and how long the next one waits (by the database's clock)."""

    attempt: int
    delay_ms: int
    error: str
    kind: str
    provider: str | None = None
    status_code: int | None = None


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ended a turn in ``error``."""

    code: str
    message: str
    retryable: bool = False
    provider: str | None = None
    status_code: int | None = None


class OpenCall(msgspec.Struct, frozen=True):
    """A tool call without a result. ``state``: pending, started, or approval."""

    call_id: str
    name: str
    state: str = "pending"


class Queued(msgspec.Struct, frozen=True):
    id: int
    parts: Parts


class ChatState(msgspec.Struct, frozen=True):
    """What a decision depends on."""

    status: Status
    archived: bool = False
    archiving: bool = False
    """The chat is archived as soon as its interruption is finished."""
    compacting: bool = False
    worker_id: UUID | None = None
    epoch: int = 0
    snapshot_version: int = 0
    history_version: int = 0
    queue_version: int = 0
    reset_version: int = 0
    """The snapshot version at which history was last rewritten: older cursors start anew."""
    attempt: int = 0
    retry: Retry | None = None
    last_error: ErrorInfo | None = None
    action_seconds: float | None = None
    queue: tuple[Queued, ...] = ()
    open_calls: tuple[OpenCall, ...] = ()

    @property
    def phase(self) -> Phase:
        return Phase.ARCHIVED if self.archived else Phase(self.status)

    @property
    def runnable(self) -> bool:
        """Whether there is work that an owner has to do."""
        return not self.archived and self.status in (Status.RUNNING, Status.INTERRUPTING)

    @property
    def claimable(self) -> bool:
        return self.runnable and self.worker_id is None


class Fence(msgspec.Struct, frozen=True):
    """The tenure that an owner's write belongs to, and the history it worked from."""

    chat_id: UUID
    worker_id: UUID
    epoch: int
    history_version: int


# --- commands ---------------------------------------------------------------------------------


class Busy(StrEnum):
    """What a message does to a chat that is busy."""

    QUEUE = "queue"
    INTERRUPT = "interrupt"


class Create(msgspec.Struct, frozen=True):
    messages: tuple[NewMessage, ...]


class Send(msgspec.Struct, frozen=True):
    parts: Parts
    busy: Busy = Busy.QUEUE


class Edit(msgspec.Struct, frozen=True):
    """``message_role`` is the role of the message as the store found it, None if there is none."""

    message_id: int
    parts: Parts
    message_role: Role | None = None


class DeleteQueued(msgspec.Struct, frozen=True):
    queued_id: int


class Promote(msgspec.Struct, frozen=True):
    queued_id: int


class Interrupt(msgspec.Struct, frozen=True):
    pass


class ToolResult(msgspec.Struct, frozen=True):
    call_id: str
    content: str
    is_error: bool = False


class SubmitToolResults(msgspec.Struct, frozen=True):
    results: tuple[ToolResult, ...]


class Approve(msgspec.Struct, frozen=True):
    call_id: str


class Deny(msgspec.Struct, frozen=True):
    call_id: str
    reason: str = DENIED_TEXT


class Archive(msgspec.Struct, frozen=True):
    pass


class Unarchive(msgspec.Struct, frozen=True):
    parent_archived: bool = False


class Compact(msgspec.Struct, frozen=True):
    pass


class Rename(msgspec.Struct, frozen=True):
    """A side job: it touches no version that fences a run."""

    title: str


class StartAttempt(msgspec.Struct, frozen=True):
    pass


class ScheduleRetry(msgspec.Struct, frozen=True):
    retry: Retry


class CommitStep(msgspec.Struct, frozen=True):
    """One assistant message, or a batch of tool results; its calls become open, its results close theirs."""

    messages: tuple[NewMessage, ...]


class AwaitAction(msgspec.Struct, frozen=True):
    deadline_seconds: float


class FinishTurn(msgspec.Struct, frozen=True):
    """The turn's last step, if there is one to commit, and its end."""

    messages: tuple[NewMessage, ...] = ()


class FinishInterruption(msgspec.Struct, frozen=True):
    partial: NewMessage | None = None


class Fail(msgspec.Struct, frozen=True):
    error: ErrorInfo


class Release(msgspec.Struct, frozen=True):
    """The owner gives the chat back, with its work undone, for another replica to claim."""


UserCommand = (
    Send
    | Edit
    | DeleteQueued
    | Promote
    | Interrupt
    | SubmitToolResults
    | Approve
    | Deny
    | Archive
    | Unarchive
    | Compact
    | Rename
)
OwnerCommand = (
    StartAttempt | ScheduleRetry | CommitStep | AwaitAction | FinishTurn | FinishInterruption | Fail | Release
)
Command = UserCommand | OwnerCommand


# --- the table --------------------------------------------------------------------------------

W, R, I, A, E, X = (  # noqa: E741
    Phase.WAITING,
    Phase.RUNNING,
    Phase.INTERRUPTING,
    Phase.REQUIRES_ACTION,
    Phase.ERROR,
    Phase.ARCHIVED,
)

Row = dict[Phase, tuple[Phase, ...]]

TABLE: dict[str, Row] = {
    # event                   from  to (the first that applies; more than one where it depends)
    "Send(queue)":       {W: (R,), R: (R,), I: (I,), A: (A,), E: (R,), X: ()},
    "Send(interrupt)":   {W: (R,), R: (I,), I: (I,), A: (R,), E: (R,), X: ()},
    "Edit":              {W: (R,), R: (R,), I: (R,), A: (R,), E: (R,), X: ()},
    "DeleteQueued":      {W: (W,), R: (R,), I: (I,), A: (A,), E: (E,), X: (X,)},
    "Promote":           {W: (R,), R: (I,), I: (I,), A: (R,), E: (R,), X: ()},
    "Interrupt":         {W: (), R: (I,), I: (), A: (R,), E: (), X: ()},
    "SubmitToolResults": {W: (), R: (), I: (), A: (A, R), E: (), X: ()},
    "Approve":           {W: (), R: (), I: (), A: (A, R), E: (), X: ()},
    "Deny":              {W: (), R: (), I: (), A: (A, R), E: (), X: ()},
    "Archive":           {W: (X,), R: (I,), I: (I,), A: (I,), E: (X,), X: ()},
    "Unarchive":         {W: (), R: (), I: (), A: (), E: (), X: (W, E)},
    "Compact":           {W: (R,), R: (), I: (), A: (), E: (R,), X: ()},
    "Rename":            {W: (W,), R: (R,), I: (I,), A: (A,), E: (E,), X: (X,)},
    # by the owner only, fenced
    "StartAttempt":       {W: (), R: (R,), I: (), A: (), E: (), X: ()},
    "ScheduleRetry":      {W: (), R: (R,), I: (), A: (), E: (), X: ()},
    "CommitStep":         {W: (), R: (R,), I: (), A: (), E: (), X: ()},
    "AwaitAction":        {W: (), R: (A,), I: (), A: (), E: (), X: ()},
    "FinishTurn":         {W: (), R: (W, R), I: (), A: (), E: (), X: ()},
    "FinishInterruption": {W: (), R: (), I: (W, R, X), A: (), E: (), X: ()},
    "Fail":               {W: (), R: (E,), I: (), A: (), E: (), X: ()},
    "Release":            {W: (), R: (R,), I: (I,), A: (), E: (), X: ()},
}  # fmt: skip


def event_name(command: Command) -> str:
    name = type(command).__name__
    return f"Send({command.busy})" if isinstance(command, Send) else name


# --- decisions --------------------------------------------------------------------------------


class Decision(msgspec.Struct, frozen=True):
    """The new state, and what a store has to write to get there.

    ``messages`` go into history in this order. ``enqueue`` becomes a new queued message at the end of
    the queue, ``dequeue`` leaves the queue (deleted, or promoted: then its parts are in ``messages``),
    ``queue_head`` moves to the front. ``delete_from`` soft-deletes that message and all after it.
    ``opened`` and ``closed`` are tool calls that got, or lost, their place among the open ones.
    """

    state: ChatState
    messages: tuple[NewMessage, ...] = ()
    enqueue: Parts | None = None
    dequeue: tuple[int, ...] = ()
    queue_head: int | None = None
    delete_from: int | None = None
    opened: tuple[OpenCall, ...] = ()
    closed: tuple[str, ...] = ()
    title: str | None = None

    @property
    def became_claimable(self) -> bool:
        return self.state.claimable


class _Draft:
    """A decision in the making. The handlers below edit it; ``decide`` checks and finishes it."""

    def __init__(self, state: ChatState) -> None:
        self.state = state
        self.status = state.status
        self.archived = state.archived
        self.archiving = state.archiving
        self.compacting = state.compacting
        self.worker_id = state.worker_id
        self.attempt = state.attempt
        self.retry = state.retry
        self.last_error = state.last_error
        self.action_seconds: float | None = None
        self.queue = list(state.queue)
        self.open_calls = {call.call_id: call for call in state.open_calls}
        self.messages: list[NewMessage] = []
        self.enqueue: Parts | None = None
        self.dequeue: list[int] = []
        self.queue_head: int | None = None
        self.delete_from: int | None = None
        self.title: str | None = None

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

    def insert_user(self, parts: Parts) -> None:
        self.answer_open_calls()
        self.insert(NewMessage(Role.USER, parts))

    # queue

    def require_room(self) -> None:
        if len(self.queue) >= QUEUE_MESSAGES_MAX:
            raise QueueFull(f"the queue holds {QUEUE_MESSAGES_MAX} messages already; wait for the chat to get to them")

    def require_queued(self, queued_id: int) -> Queued:
        for queued in self.queue:
            if queued.id == queued_id:
                return queued
        raise QueuedMessageNotFound("there is no such message in the queue (any more)", queued_id=queued_id)

    def queue_last(self, parts: Parts) -> None:
        self.require_room()
        self.enqueue = parts

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
        self.insert_user(head.parts)

    def promote_behind(self, parts: Parts) -> None:
        """The message waits its turn: it goes behind the queue, and the queue's head is promoted."""
        if self.queue:
            self.queue_last(parts)
            self.promote_head()
        else:
            self.insert_user(parts)

    # outcome

    def run(self) -> None:
        self.status = Status.RUNNING
        self.last_error = None

    def rest(self, status: Status) -> None:
        self.status = status
        self.worker_id = None
        self.retry = None
        self.compacting = False

    def finish(self) -> Decision:
        before = self.state
        version = before.snapshot_version + 1
        history = bool(self.messages) or self.delete_from is not None
        queue = self.enqueue is not None or bool(self.dequeue) or self.queue_head is not None
        opened = {call.call_id for call in before.open_calls}
        state = msgspec.structs.replace(
            before,
            status=self.status,
            archived=self.archived,
            archiving=self.archiving,
            compacting=self.compacting,
            worker_id=self.worker_id,
            snapshot_version=version,
            history_version=version if history else before.history_version,
            queue_version=version if queue else before.queue_version,
            reset_version=version if self.delete_from is not None else before.reset_version,
            attempt=0 if history else self.attempt,
            retry=None if history else self.retry,
            last_error=self.last_error,
            action_seconds=self.action_seconds,
            queue=tuple(self.queue),
            open_calls=tuple(self.open_calls.values()),
        )
        return Decision(
            state=state,
            messages=tuple(self.messages),
            enqueue=self.enqueue,
            dequeue=tuple(self.dequeue),
            queue_head=self.queue_head,
            delete_from=self.delete_from,
            opened=tuple(call for call in self.open_calls.values() if call.call_id not in opened),
            closed=tuple(call_id for call_id in opened if call_id not in self.open_calls),
            title=self.title,
        )


def _send(draft: _Draft, command: Send) -> None:
    match draft.status:
        case Status.WAITING | Status.ERROR:
            draft.promote_behind(command.parts)
            draft.run()
        case Status.REQUIRES_ACTION if command.busy is Busy.INTERRUPT:
            draft.promote_behind(command.parts)
            draft.run()
        case _:
            draft.queue_last(command.parts)
            if command.busy is Busy.INTERRUPT and draft.status is Status.RUNNING:
                draft.status = Status.INTERRUPTING


def _edit(draft: _Draft, command: Edit) -> None:
    if command.message_role is None:
        raise MessageNotFound("there is no such message in this chat", message_id=command.message_id)
    if command.message_role is not Role.USER:
        raise MessageNotUser("only a user's message can be edited", role=str(command.message_role))
    draft.delete_from = command.message_id
    draft.dequeue.extend(queued.id for queued in draft.queue)
    draft.queue.clear()
    draft.open_calls.clear()  # their calls are deleted with the messages that asked for them
    draft.compacting = False
    draft.insert(NewMessage(Role.USER, command.parts))
    draft.run()


def _delete_queued(draft: _Draft, command: DeleteQueued) -> None:
    draft.queue.remove(draft.require_queued(command.queued_id))
    draft.dequeue.append(command.queued_id)


def _promote(draft: _Draft, command: Promote) -> None:
    draft.move_to_head(command.queued_id)
    if draft.status in (Status.RUNNING, Status.INTERRUPTING):
        draft.status = Status.INTERRUPTING
    else:
        draft.promote_head()
        draft.run()


def _interrupt(draft: _Draft, _: Interrupt) -> None:
    if draft.status is Status.REQUIRES_ACTION:
        draft.answer_open_calls()
        draft.run()
    else:
        draft.status = Status.INTERRUPTING


def _submit(draft: _Draft, command: SubmitToolResults) -> None:
    for result in command.results:
        if result.call_id not in draft.open_calls:
            raise ToolCallNotFound("there is no such open tool call (any more)", call_id=result.call_id)
        part = ToolResultPart(result.call_id, result.content, result.is_error)
        draft.insert(NewMessage(Role.TOOL, (part,)))
    if not draft.open_calls:
        draft.run()


def _approve(draft: _Draft, command: Approve) -> None:
    call = draft.open_calls.get(command.call_id)
    if call is None or call.state != "approval":
        raise ToolCallNotFound("there is no tool call of this ID that waits for approval", call_id=command.call_id)
    draft.open_calls[command.call_id] = OpenCall(call.call_id, call.name)
    if all(other.state != "approval" for other in draft.open_calls.values()):
        draft.run()


def _deny(draft: _Draft, command: Deny) -> None:
    _submit(draft, SubmitToolResults((ToolResult(command.call_id, command.reason, is_error=True),)))


def _archive(draft: _Draft, _: Archive) -> None:
    if draft.status in (Status.WAITING, Status.ERROR):
        draft.archived = True
    else:
        draft.archiving = True
        draft.status = Status.INTERRUPTING


def _unarchive(draft: _Draft, command: Unarchive) -> None:
    if command.parent_archived:
        raise ParentArchived("unarchive the chat that this one belongs to first")
    draft.archived = False


def _compact(draft: _Draft, _: Compact) -> None:
    draft.compacting = True
    draft.run()


def _rename(draft: _Draft, command: Rename) -> None:
    draft.title = command.title


def _start_attempt(draft: _Draft, _: StartAttempt) -> None:
    draft.attempt += 1
    draft.retry = None


def _schedule_retry(draft: _Draft, command: ScheduleRetry) -> None:
    draft.retry = command.retry


def _commit_step(draft: _Draft, command: CommitStep) -> None:
    draft.insert(*command.messages)


def _await_action(draft: _Draft, command: AwaitAction) -> None:
    draft.rest(Status.REQUIRES_ACTION)
    draft.action_seconds = command.deadline_seconds


def _finish_turn(draft: _Draft, command: FinishTurn) -> None:
    draft.insert(*command.messages)
    if draft.queue:
        draft.compacting = False
        draft.promote_head()
    else:
        draft.rest(Status.WAITING)


def _finish_interruption(draft: _Draft, command: FinishInterruption) -> None:
    if command.partial is not None:
        draft.insert(command.partial)
    draft.answer_open_calls()
    if draft.archiving:
        draft.rest(Status.WAITING)
        draft.archived, draft.archiving = True, False
    elif draft.queue:
        draft.compacting = False
        draft.promote_head()
        draft.run()
    else:
        draft.rest(Status.WAITING)


def _fail(draft: _Draft, command: Fail) -> None:
    draft.answer_open_calls()
    draft.rest(Status.ERROR)
    draft.last_error = command.error


def _release(draft: _Draft, _: Release) -> None:
    draft.worker_id = None


_HANDLERS: dict[type[Command], Callable[[_Draft, Any], None]] = {
    Send: _send,
    Edit: _edit,
    DeleteQueued: _delete_queued,
    Promote: _promote,
    Interrupt: _interrupt,
    SubmitToolResults: _submit,
    Approve: _approve,
    Deny: _deny,
    Archive: _archive,
    Unarchive: _unarchive,
    Compact: _compact,
    Rename: _rename,
    StartAttempt: _start_attempt,
    ScheduleRetry: _schedule_retry,
    CommitStep: _commit_step,
    AwaitAction: _await_action,
    FinishTurn: _finish_turn,
    FinishInterruption: _finish_interruption,
    Fail: _fail,
    Release: _release,
}

REFUSED_WHILE_ARCHIVING = (Send, Edit, Promote, Interrupt, Archive, Compact)
"""A chat whose archiving is under way takes no new work: it is archived in all but the last step."""


def create(command: Create) -> Decision:
    """The first decision of a chat: it runs at once, with its first messages at version 1."""
    state = ChatState(Status.RUNNING, snapshot_version=1, history_version=1)
    return Decision(state=state, messages=command.messages)


def check_fence(state: ChatState, fence: Fence) -> None:
    """Raise ``Fenced`` if the tenure is over, ``Moved`` if it stands but worked from another history."""
    if state.worker_id != fence.worker_id or state.epoch != fence.epoch:
        raise Fenced(f"the tenure {fence.epoch} of worker {fence.worker_id} is over; now {state.epoch}")
    if state.history_version != fence.history_version:
        raise Moved(f"history moved from version {fence.history_version} to {state.history_version}")


def decide(state: ChatState, command: Command, fence: Fence | None = None) -> Decision:
    """What ``command`` does to a chat in ``state``.

    An owner's command comes with its ``fence``. Raises ``Fenced`` or ``Moved`` for an owner's command whose
    tenure, history or status is no longer current, and the ``CallerError`` that says why for a user's.
    """
    if fence is not None:
        check_fence(state, fence)
    name = event_name(command)
    targets = TABLE[name][state.phase]
    if not targets or (state.archiving and isinstance(command, REFUSED_WHILE_ARCHIVING)):
        raise _refusal(state, name, owner=fence is not None)
    draft = _Draft(state)
    _HANDLERS[type(command)](draft, command)
    decision = draft.finish()
    assert decision.state.phase in targets, f"{name} led from {state.phase} to {decision.state.phase}"
    return decision


def _refusal(state: ChatState, name: str, *, owner: bool) -> Exception:
    if owner:
        return Moved(f"{name} is not allowed in status {state.phase}")
    if state.archived or state.archiving:
        return ChatArchived("the chat is archived; unarchive it first", status=str(state.status))
    return NotAllowedInStatus(f"{name} is not allowed while the chat is {state.status}", status=str(state.status))
