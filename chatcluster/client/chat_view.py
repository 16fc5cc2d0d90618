"""What a client shows of a chat: a view that is kept by applying the events of its stream, in order.

The rules, for a user interface in any language:

* ``message`` appends to the history, or replaces the message of the same ``id``. A message of the assistant
  or of a tool takes the place of the **preview**: what was streamed is now history, in the same words.
* ``part`` appends to the preview. Text after text is one text, and ``tool_arguments`` go on with those of their call. A
  call is shown as it is being written, runs once its message is there, and its ``tool_progress`` says how far it is,
  until its result comes. Pieces of ``tool_output`` are what it has printed so far, joined by their offsets
  (``call_outputs.py``); that stays through attempts, as another replica goes on with the call. A ``notice`` says what
  the turn goes on without.
* ``attempt``, ``history_reset``, ``retry`` and ``error`` drop the preview: what it showed did not become history.
  (An ``attempt`` with nothing shown yet drops nothing.) ``resumed`` drops nothing: another replica goes on with the
  answer under way, and its rest follows.
* ``history_reset`` drops the history as well; all of it follows.
* ``action_required`` is all that the chat waits for. A ``status`` other than ``requires_action`` says: for nothing.
* ``queue`` is the whole queue; ``status`` and ``title`` replace what was there. A ``retry`` is shown until the next
  attempt, message or change of status, an ``error`` until the chat runs again.
* A ``status`` at rest (``waiting``, ``error``, ``requires_action``) drops the preview too: had it become history, its
  message would be there, or would be about to come.
* A later epoch with a worker, by a takeover or a drain, is a **handover**: told until a user's next message.
* ``ready`` says that the view is whole, ``turn`` that a turn ended: its messages are in the history by then, so it
  drops what is left of the preview.

The cursor of the last event that was applied is the place to resume at. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from chatcluster.chat import HANDED_OVER
from chatcluster.client.call_outputs import CallOutput, with_piece
from chatcluster.client.events import Event
from chatcluster.events import (
    ActionRequiredEvent,
    ErrorEvent,
    HistoryResetEvent,
    MessageEvent,
    QueueEvent,
    ReadyEvent,
    RetryEvent,
    StatusEvent,
    TitleEvent,
    TurnEvent,
)
from chatcluster.parts import (
    AttemptFrame,
    Message,
    NoticePart,
    Part,
    PartFrame,
    Parts,
    QueuedMessage,
    ResumedFrame,
    Role,
    ToolCallPart,
    ToolOutputPart,
    ToolProgressPart,
    ToolResultPart,
    joined,
    text_of,
)
from chatcluster.ports import Action

STATUSES_AT_REST = ("waiting", "error", "requires_action")


class Handover(NamedTuple):
    """Another replica went on with the chat, and why."""

    epoch: int
    worker_id: UUID
    cause: str


class UnderWay:
    """What is shown of the turn under way, and is no message yet."""

    def __init__(self) -> None:
        self.attempt = 0
        self.parts: list[Part] = []
        """Of the answer."""
        self.progress: dict[str, ToolProgressPart] = {}
        """How far the calls are that run, by call ID, as far as they say."""
        self.outputs: dict[str, CallOutput] = {}
        """What the calls that run have printed so far, by call ID."""
        self.notices: list[NoticePart] = []
        """What the turn goes on without."""

    def take(self, part: Part) -> None:
        match part:
            case ToolProgressPart(call_id=call_id):
                self.progress[call_id] = part
            case ToolOutputPart(call_id=call_id):
                self.outputs[call_id] = with_piece(self.outputs.get(call_id), part)
            case NoticePart():
                self.notices.append(part)
            case _:
                self.parts.append(part)

    def end_call(self, call_id: str) -> None:
        self.progress.pop(call_id, None)
        self.outputs.pop(call_id, None)

    def end_all_calls(self) -> None:
        """None runs any more, as far as is known."""
        self.progress.clear()
        self.outputs.clear()


class ChatView:
    """One chat as a client shows it. ``apply`` keeps it; read the rest."""

    def __init__(self) -> None:
        self.cursor = ""
        self.status = ""
        self.archived = False
        self.epoch = 0
        self.worker_id: UUID | None = None
        self.title: str | None = None
        self.messages: dict[int, Message] = {}
        self.queue: Sequence[QueuedMessage] = ()
        self.actions: Sequence[Action] = ()
        """The calls that wait for an answer: of a person, of the client, or of a sign-in."""
        self.retry: RetryEvent | None = None
        self.error: ErrorEvent | None = None
        self.turn: TurnEvent | None = None
        """The last one that ended."""
        self.handover: Handover | None = None
        """The last one since a user's last message."""
        self.ready = False
        """Whether the view is whole: False at first, and while history is told anew."""
        self.under_way = UnderWay()

    def __repr__(self) -> str:
        return (
            f"<ChatView {self.status} messages={len(self.messages)} preview={len(self.preview_text)} at {self.cursor}>"
        )

    @property
    def attempt(self) -> int:
        return self.under_way.attempt

    @property
    def progress(self) -> dict[str, ToolProgressPart]:
        return self.under_way.progress

    @property
    def outputs(self) -> dict[str, CallOutput]:
        return self.under_way.outputs

    @property
    def notices(self) -> list[NoticePart]:
        return self.under_way.notices

    @property
    def preview(self) -> Parts:
        """The parts of the answer under way."""
        return joined(self.under_way.parts)

    @property
    def preview_text(self) -> str:
        return text_of(self.under_way.parts)

    @property
    def open_calls(self) -> list[ToolCallPart]:
        """The calls of the history that have no result yet, in their order."""
        calls: dict[str, ToolCallPart] = {}
        for message in self.messages.values():
            for part in message.parts:
                if isinstance(part, ToolCallPart):
                    calls[part.id] = part
                elif isinstance(part, ToolResultPart):
                    calls.pop(part.call_id, None)
        return list(calls.values())

    @property
    def at_rest(self) -> bool:
        """Whether the chat has nothing to do: the turn is over, and nothing waits."""
        return self.status in ("waiting", "error") and not self.queue

    def apply(self, cursor: str, event: Event) -> None:
        """Take one event in. Events come in the order of their stream."""
        self.cursor = cursor
        match event:
            case StatusEvent():
                self._status(event)
            case MessageEvent(message=message):
                self._message(message)
            case PartFrame(part=part):
                self.under_way.take(part)
            case AttemptFrame(attempt=attempt):
                self._drop_preview()
                self.under_way.attempt = attempt
            case ResumedFrame(attempt=attempt):
                self.under_way.attempt = attempt
            case HistoryResetEvent():
                self._drop_preview()
                self.messages.clear()
                self.under_way.end_all_calls()
                self.ready = False
            case QueueEvent(queue=queue):
                self.queue = queue
            case ActionRequiredEvent(calls=calls):
                self.actions = calls
            case RetryEvent():
                self._drop_preview()
                self.retry = event
            case ErrorEvent():
                self._drop_preview()
                self.error = event
            case TitleEvent(title=title):
                self.title = title
            case TurnEvent():
                self._drop_preview()
                self.turn = event
                self.under_way.notices.clear()
            case ReadyEvent():
                self.ready = True

    def _status(self, event: StatusEvent) -> None:
        if event.status != "error":
            self.error = None
        if event.status != "requires_action":
            self.actions = ()
        if event.status not in ("running", "pending"):
            self.retry = None
        if event.status in STATUSES_AT_REST:
            self.under_way.parts.clear()
            self.under_way.end_all_calls()
        if event.worker_id is not None and event.epoch > self.epoch and event.cause in HANDED_OVER:
            self.handover = Handover(event.epoch, event.worker_id, event.cause)
        self.status, self.archived = event.status, event.archived
        self.epoch, self.worker_id = event.epoch, event.worker_id

    def _message(self, message: Message) -> None:
        self.messages[message.id] = message
        self.retry = None
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                self.under_way.end_call(part.call_id)
        if message.role in (Role.ASSISTANT, Role.TOOL):
            self.under_way.parts.clear()
        if message.role is Role.USER:
            self.handover = None

    def _drop_preview(self) -> None:
        self.under_way.parts.clear()
        self.retry = None
