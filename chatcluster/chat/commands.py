"""What can be asked of a chat: by its user, or by its owner."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from chatcluster.chat.causes import RELEASED
from chatcluster.chat.state import ErrorInfo, Retry
from chatcluster.parts import NewMessage, Parts, Role

DENIED_TEXT = "The user denied this call."


class Busy(StrEnum):
    """What a message does to a chat that is busy."""

    QUEUE = "queue"
    INTERRUPT = "interrupt"


class Create(msgspec.Struct, frozen=True):
    messages: tuple[NewMessage, ...]


class Send(msgspec.Struct, frozen=True):
    """``model`` answers this message, and stays with it while it waits in the queue; None: the chat's."""

    parts: Parts
    busy: Busy = Busy.QUEUE
    model: str | None = None

    @property
    def message(self) -> NewMessage:
        return NewMessage(Role.USER, self.parts, model=self.model)


class Edit(msgspec.Struct, frozen=True):
    """The model of the message that is replaced stays if none is given."""

    message_id: int
    parts: Parts
    model: str | None = None


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
    pass


class Compact(msgspec.Struct, frozen=True):
    pass


class Rename(msgspec.Struct, frozen=True):
    """A side job: it touches no version that fences a run."""

    title: str


class Pin(msgspec.Struct, frozen=True):
    """A side job, like all that is only about the list."""

    pinned: bool


class ChooseModel(msgspec.Struct, frozen=True):
    """From the next message on; None: the deployment's default."""

    model: str | None


class EditQueued(msgspec.Struct, frozen=True):
    """A queued message is replaced where it waits. Its model stays if none is given."""

    queued_id: int
    parts: Parts
    model: str | None = None


class StartAttempt(msgspec.Struct, frozen=True):
    """``number`` of the attempt that starts, so that a request which arrives late, and again, starts nothing."""

    number: int | None = None


class ScheduleRetry(msgspec.Struct, frozen=True):
    """``retry`` names the attempt that failed: once a later one is on, a request that arrives late changes nothing."""

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
    """The owner gives the chat back, with its work undone, for another replica to claim. ``cause`` says why."""

    cause: str = RELEASED


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
    | Pin
    | ChooseModel
    | EditQueued
)
OwnerCommand = (
    StartAttempt | ScheduleRetry | CommitStep | AwaitAction | FinishTurn | FinishInterruption | Fail | Release
)
Command = UserCommand | OwnerCommand


def event_name(command: Command) -> str:
    name = type(command).__name__
    return f"Send({command.busy})" if isinstance(command, Send) else name
