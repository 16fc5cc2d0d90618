"""Chats in every state that can exist, and short words to build messages and commands for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from uuid import UUID

import msgspec

from chatcluster.chat import (
    Approve,
    Archive,
    AwaitAction,
    Busy,
    ChatState,
    ChooseModel,
    Command,
    CommitStep,
    Compact,
    DeleteQueued,
    Deny,
    Edit,
    EditQueued,
    ErrorInfo,
    Facts,
    Fail,
    Fence,
    FinishInterruption,
    FinishTurn,
    Interrupt,
    OpenCall,
    Pin,
    Promote,
    Queued,
    Release,
    Rename,
    Replaced,
    Retry,
    ScheduleRetry,
    Send,
    StartAttempt,
    Status,
    SubmitToolResults,
    ToolResult,
    Unarchive,
)
from chatcluster.parts import NewMessage, Parts, Role, TextPart, ToolCallPart, ToolResultPart

CHAT = UUID(int=1)
WORKER = UUID(int=2)
STRANGER = UUID(int=3)


def text(words: str) -> Parts:
    return (TextPart(words),)


def user(words: str) -> NewMessage:
    return NewMessage(Role.USER, text(words))


def assistant(words: str, *calls: str, finish_reason: str = "stop") -> NewMessage:
    """An answer that says ``words`` and asks for a tool call of each of these IDs."""
    asked = tuple(ToolCallPart(call_id, "tool", "{}") for call_id in calls)
    return NewMessage(Role.ASSISTANT, (*text(words), *asked), finish_reason=finish_reason)


def result(call_id: str, content: str = "done") -> NewMessage:
    return NewMessage(Role.TOOL, (ToolResultPart(call_id, content),))


def queue_of(*words: str) -> tuple[Queued, ...]:
    """Queued messages 1, 2, 3, …"""
    return tuple(Queued(number, text(word)) for number, word in enumerate(words, start=1))


def calls(*call_ids: str, state: str = "pending") -> tuple[OpenCall, ...]:
    return tuple(OpenCall(call_id, "tool", state) for call_id in call_ids)


def state_of(status: Status, **fields: object) -> ChatState:
    """A chat at version 10 in its third tenure; it has an owner if there is work."""
    state = ChatState(
        status,
        worker_id=WORKER if status in (Status.RUNNING, Status.INTERRUPTING) else None,
        epoch=3,
        snapshot_version=10,
        history_version=8,
        queue_version=7,
        attempt=2,
        last_error=ErrorInfo("generic", "it failed") if status is Status.ERROR else None,
    )
    return msgspec.structs.replace(state, **fields)


def fence_of(state: ChatState) -> Fence:
    """The fence of the owner that is up to date, or of ``WORKER`` where there is none."""
    return Fence(CHAT, state.worker_id or WORKER, state.epoch, state.history_version)


QUEUES = ((), queue_of("first"), queue_of("first", "second"), queue_of(*(f"message {n}" for n in range(20))))
OPEN_CALLS = (
    (),
    calls("call"),
    calls("call", "other"),
    calls("call", state="approval"),
    calls("call", "other", state="approval"),
)


def every_state() -> Iterator[ChatState]:
    """Each status, archived and archiving where that can be, with each queue, and open calls where there is work."""
    for status, queue in product(Status, QUEUES):
        match status:
            case Status.WAITING | Status.ERROR:
                for archived in (False, True):
                    yield state_of(status, queue=queue, archived=archived)
            case Status.INTERRUPTING:
                for archiving, open_calls in product((False, True), OPEN_CALLS):
                    yield state_of(status, queue=queue, archiving=archiving, open_calls=open_calls)
            case _:
                for open_calls in OPEN_CALLS:
                    yield state_of(status, queue=queue, open_calls=open_calls)


EVENTS: dict[str, Command] = {
    "Send(queue)": Send(text("new")),
    "Send(interrupt)": Send(text("new"), Busy.INTERRUPT),
    "Edit": Edit(5, text("better")),
    "DeleteQueued": DeleteQueued(1),
    "Promote": Promote(1),
    "Interrupt": Interrupt(),
    "SubmitToolResults": SubmitToolResults((ToolResult("call", "42"),)),
    "Approve": Approve("call"),
    "Deny": Deny("call"),
    "Archive": Archive(),
    "Unarchive": Unarchive(),
    "Compact": Compact(),
    "Rename": Rename("a title"),
    "Pin": Pin(True),
    "ChooseModel": ChooseModel("another"),
    "EditQueued": EditQueued(1, (TextPart("better"),)),
    "StartAttempt": StartAttempt(),
    "ScheduleRetry": ScheduleRetry(Retry(2, 1000, "busy", "overloaded")),
    "CommitStep": CommitStep((assistant("a step"),)),
    "AwaitAction": AwaitAction(60.0),
    "FinishTurn": FinishTurn((assistant("the answer"),)),
    "FinishInterruption": FinishInterruption(assistant("half an ans", finish_reason="interrupted")),
    "Fail": Fail(ErrorInfo("generic", "it failed")),
    "Release": Release(),
}
"""One command of each event, on queued message 1, call ``call`` and message 5."""

A_USERS_MESSAGE = Facts(replaced=Replaced(Role.USER))
"""What they find: message 5 is the user's."""


@dataclass(frozen=True)
class Seen:
    """What a chat has that a command can name."""

    queue: list[int]
    history: dict[int, Role]
    open_calls: list[str]


def command_for(event: str, number: int, choice: int, seen: Seen) -> Command:
    """A command of this event, the ``number``-th of a walk, that names if it can what the chat has."""
    words = text(f"message {number}")
    queued_id = seen.queue[choice % len(seen.queue)] if seen.queue else 0
    call_id = seen.open_calls[choice % len(seen.open_calls)] if seen.open_calls else "none"
    match EVENTS[event]:
        case Send(busy=busy):
            return Send(words, busy)
        case Edit():
            message_id = list(seen.history)[choice % len(seen.history)]
            return Edit(message_id, words)
        case DeleteQueued():
            return DeleteQueued(queued_id)
        case EditQueued():
            return EditQueued(queued_id, words)
        case Promote():
            return Promote(queued_id)
        case SubmitToolResults():
            return SubmitToolResults((ToolResult(call_id, "42"),))
        case Approve():
            return Approve(call_id)
        case Deny():
            return Deny(call_id)
        case CommitStep():
            new_calls = [f"{number}.{index}" for index in range(choice % 3)]
            results = tuple(result(call_id) for call_id in seen.open_calls[: 1 + choice % 2])
            return CommitStep(results or (assistant("a step", *new_calls),))
        case FinishTurn():
            return FinishTurn(() if seen.open_calls else (assistant("the answer"),))
        case FinishInterruption():
            return FinishInterruption(None if seen.open_calls else assistant("half an ans", f"{number}.0"))
        case other:
            return other
