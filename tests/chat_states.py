"""Chats in every state that can exist, and short words to build messages and commands for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from uuid import UUID

import msgspec

from chatcluster.chat import (
    AnswerQuestions,
    Approve,
    Archive,
    AskAgain,
    AskUser,
    AwaitSignIn,
    Busy,
    CallState,
    ChatSetup,
    ChatState,
    ChooseModel,
    Close,
    Command,
    CommitStep,
    CommitSummary,
    Compact,
    Configure,
    DeleteMessage,
    DeleteQueued,
    Deny,
    Edit,
    EditQueued,
    ErrorInfo,
    ExpireCalls,
    Facts,
    Fail,
    Fence,
    FinishInterruption,
    FinishTurn,
    Insert,
    Interrupt,
    KeepAnswer,
    LookAgain,
    OpenCall,
    Pin,
    Promote,
    Queued,
    Release,
    Rename,
    Replaced,
    ReportAgents,
    Retry,
    ScheduleRetry,
    Send,
    SignedIn,
    StartAttempt,
    StartCalls,
    Status,
    SubmitToolResults,
    ToolResult,
    Unarchive,
    digest_of,
)
from chatcluster.chat.questions import Inquiry, Question, Reply, ReplyAction
from chatcluster.content import SummaryPart
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


def summary(words: str, *keeps: int, call_id: str = "summary") -> tuple[NewMessage, NewMessage]:
    """The call that stands for a summary, and its result, in which that is."""
    asked = NewMessage(Role.ASSISTANT, (ToolCallPart(call_id, "chat_summarized", "{}"),), finish_reason="tool_calls")
    return asked, NewMessage(Role.TOOL, (ToolResultPart(call_id, words), SummaryPart(words, keeps)))


def queue_of(*words: str) -> tuple[Queued, ...]:
    """Queued messages 1, 2, 3, …"""
    return tuple(Queued(number, text(word)) for number, word in enumerate(words, start=1))


def steered(*words: str) -> tuple[Queued, ...]:
    return tuple(msgspec.structs.replace(queued, steered=True) for queued in queue_of(*words))


PENDING, APPROVAL, CLIENT, STARTED = CallState.PENDING, CallState.APPROVAL, CallState.CLIENT, CallState.STARTED
AGENTS = CallState.AGENTS
NO_AGENT = UUID(int=4)
"""An agent that no chat has."""


def call(call_id: str, state: CallState = PENDING, **fields: object) -> OpenCall:
    """A call of the arguments that ``assistant`` gives, as a chat in its third tenure has it."""
    started_epoch = 3 if state is STARTED else None
    open_call = OpenCall(call_id, "tool", state, started_epoch=started_epoch, digest=digest_of("{}"))
    return msgspec.structs.replace(open_call, **fields)


def calls(*call_ids: str, state: CallState = PENDING) -> tuple[OpenCall, ...]:
    return tuple(call(call_id, state) for call_id in call_ids)


def state_of(status: Status, **fields: object) -> ChatState:
    """A chat at version 10 in its third tenure; it has an owner if there is work."""
    state = ChatState(
        status=status,
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


QUESTIONS = (Question("name", "What is your name?", {"type": "object", "properties": {"name": {"type": "string"}}}),)
ENDED = Inquiry(QUESTIONS, resume="null")
"""Asked by a server that has ended its request with it."""
REPLIES = {"name": Reply(ReplyAction.ACCEPT, {"name": "Ada"})}

QUEUES = ((), queue_of("first"), steered("first", "second"), queue_of(*(f"message {n}" for n in range(20))))
OPEN_CALLS = (
    (),
    calls("call"),
    calls("call", "other"),
    calls("call", "other", state=STARTED),
    (call("call", STARTED, inquiry=Inquiry(QUESTIONS)), call("other", STARTED)),
)
"""Of which the owner takes care."""
WAITING_CALLS = (
    calls("call", state=APPROVAL),
    calls("call", state=CLIENT),
    (call("call", APPROVAL), call("other", CLIENT)),
    (call("call", CLIENT), call("other", APPROVAL)),
    (call("call", APPROVAL), call("other", PENDING, approved=True)),
    (call("call", CallState.SIGN_IN),),
    (call("call", AGENTS, agent_id=NO_AGENT),),
    (call("call", AGENTS, agent_id=NO_AGENT), call("other", AGENTS, agent_id=NO_AGENT)),
    (call("call", CallState.SIGN_IN), call("other", APPROVAL)),
    (call("call", CallState.QUESTION, inquiry=ENDED),),
    (call("call", CallState.QUESTION, inquiry=ENDED), call("other", CLIENT)),
)
"""Of which somebody else has to take care."""
MIXED_CALLS = (call("call", STARTED), call("other", APPROVAL), call("third", CLIENT))
"""In a running chat there is always one of which the owner takes care."""


def every_state() -> Iterator[ChatState]:
    """Each status, archived and archiving where that can be, with each queue, and open calls where there is work."""
    for status, queue in product(Status, QUEUES):
        match status:
            case Status.WAITING | Status.ERROR:
                for archived in (False, True):
                    yield state_of(status, queue=queue, archived=archived)
            case Status.INTERRUPTING:
                for archiving, open_calls in product((False, True), (*OPEN_CALLS, *WAITING_CALLS)):
                    yield state_of(status, queue=queue, archiving=archiving, open_calls=open_calls)
            case Status.REQUIRES_ACTION:
                for open_calls in WAITING_CALLS:
                    for_agents = all(open_call.state is AGENTS for open_call in open_calls)
                    yield state_of(status, queue=queue, open_calls=open_calls, waits_for_agents=for_agents)
            case _:
                yield state_of(status, queue=queue, compacting=True)
                for open_calls in (*OPEN_CALLS, MIXED_CALLS):
                    yield state_of(status, queue=queue, open_calls=open_calls)


EVENTS: dict[str, Command] = {
    "Send(queue)": Send(text("new")),
    "Send(interrupt)": Send(text("new"), Busy.INTERRUPT),
    "Send(steer)": Send(text("new"), Busy.STEER),
    "Send(reject)": Send(text("new"), Busy.REJECT),
    "Edit": Edit(5, text("better")),
    "Insert": Insert((user("by the way"), assistant("noted"))),
    "DeleteMessage": DeleteMessage(5),
    "DeleteQueued": DeleteQueued(1),
    "Promote": Promote(1),
    "Interrupt": Interrupt(),
    "SubmitToolResults": SubmitToolResults((ToolResult("call", "42"),)),
    "Approve": Approve("call"),
    "Deny": Deny("call"),
    "SignedIn": SignedIn(("call",)),
    "AnswerQuestions": AnswerQuestions("call", REPLIES),
    "Archive": Archive(),
    "Unarchive": Unarchive(),
    "Compact": Compact(),
    "Rename": Rename("a title"),
    "Configure": Configure(ChatSetup(mcp_servers=("files",))),
    "ExpireCalls": ExpireCalls(("call",)),
    "ReportAgents": ReportAgents((ToolResult("call", "the report"),)),
    "LookAgain": LookAgain(),
    "Close": Close(),
    "Pin": Pin(True),
    "ChooseModel": ChooseModel("another"),
    "EditQueued": EditQueued(1, (TextPart("better"),)),
    "StartAttempt": StartAttempt(),
    "KeepAnswer": KeepAnswer("resp_1"),
    "ScheduleRetry": ScheduleRetry(Retry(2, 1000, "busy", "overloaded")),
    "CommitStep": CommitStep((result("call"),)),
    "StartCalls": StartCalls(("call",)),
    "AskAgain": AskAgain(("call",), 60.0),
    "CommitSummary": CommitSummary(summary("what was said")),
    "AwaitSignIn": AwaitSignIn(("call",), 60.0),
    "AskUser": AskUser("call", QUESTIONS, "null", 60.0),
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
    open_calls: list[OpenCall]


def new_step(number: int, choice: int) -> CommitStep:
    """A step with up to three calls, each in one of the states that a call begins in."""
    call_ids = [f"{number}.{index}" for index in range(choice % 4)]
    states = (PENDING, STARTED, APPROVAL, CLIENT, AGENTS)
    begun = ((call_id, states[choice // 5**place % 5]) for place, call_id in enumerate(call_ids, 1))
    plans = (
        OpenCall(call_id, "tool", state, agent_id=NO_AGENT if state is AGENTS else None) for call_id, state in begun
    )
    return CommitStep((assistant("a step", *call_ids),), tuple(plans))


def command_for(event: str, number: int, choice: int, seen: Seen) -> Command:
    """A command of this event, the ``number``-th of a walk, that names if it can what the chat has."""
    words = text(f"message {number}")
    queued_id = seen.queue[choice % len(seen.queue)] if seen.queue else 0
    open_ids = [open_call.call_id for open_call in seen.open_calls]
    call_id = open_ids[choice % len(open_ids)] if open_ids else "none"
    match EVENTS[event]:
        case Send(busy=busy):
            return Send(words, busy)
        case Edit():
            message_ids = list(seen.history) or [0]
            return Edit(message_ids[choice % len(message_ids)], words)
        case Insert():
            return Insert((user(f"message {number}"), assistant("noted")))
        case DeleteMessage():
            asked = [message_id for message_id, role in seen.history.items() if role is Role.USER] or [0]
            return DeleteMessage(asked[choice % len(asked)])
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
            owned = [open_call.call_id for open_call in seen.open_calls if not open_call.waits]
            results = tuple(result(call_id) for call_id in owned[: 1 + choice % 2])
            return CommitStep(results) if results else new_step(number, choice)
        case StartCalls():
            return StartCalls((call_id,))
        case AskAgain():
            return AskAgain((call_id,))
        case AwaitSignIn():
            return AwaitSignIn((call_id,))
        case SignedIn():
            return SignedIn((call_id,))
        case AskUser():
            return AskUser(call_id, QUESTIONS, (None, "null")[choice % 2], 60.0)
        case AnswerQuestions():
            return AnswerQuestions(call_id, REPLIES)
        case ExpireCalls():
            return ExpireCalls(tuple(open_call.call_id for open_call in seen.open_calls if open_call.waits)[:1])
        case CommitSummary():
            return CommitSummary(summary(f"summary {number}", call_id=f"summary {number}"))
        case ReportAgents():
            waiting = [open_call.call_id for open_call in seen.open_calls if open_call.state is AGENTS]
            return ReportAgents(tuple(ToolResult(one, "the report") for one in waiting[:1]))
        case FinishTurn():
            return FinishTurn(() if seen.open_calls else (assistant("the answer"),))
        case FinishInterruption():
            return FinishInterruption(None if seen.open_calls else assistant("half an ans", f"{number}.0"))
        case other:
            return other
