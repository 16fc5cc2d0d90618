"""What can be asked of a chat: by its user, or by its owner."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

import msgspec

from chatcluster.chat.calls import OpenCall
from chatcluster.chat.causes import RELEASED
from chatcluster.chat.questions import Question, Replies
from chatcluster.chat.setup import ChatSetup
from chatcluster.chat.state import ErrorInfo, Retry
from chatcluster.parts import NewMessage, Parts, ResultContent, Role, ToolResultPart


class Busy(StrEnum):
    """What a message does to a chat that is busy."""

    QUEUE = "queue"
    INTERRUPT = "interrupt"
    STEER = "steer"
    """It goes in behind the next results of the turn's calls, and the turn goes on with it. Until then it is queued,
    and if no results come, it stays so."""
    REJECT = "reject"
    """The message is refused."""


class Remember(StrEnum):
    """For which chats of its user an approval stands."""

    CHAT = "chat"
    ALWAYS = "always"


class Create(msgspec.Struct, frozen=True):
    """``at_rest``: the messages are a history, and nothing in it is to be answered. ``copied_version``: that of the
    newest content in a history that comes before them, if any does."""

    messages: tuple[NewMessage, ...]
    at_rest: bool = False
    copied_version: int | None = None


class Asker(msgspec.Struct, frozen=True):
    """A call of another chat."""

    chat_id: UUID
    call_id: str


class Send(msgspec.Struct, frozen=True):
    """``model`` answers this message, and stays with it while it waits in the queue; None: the chat's.

    ``mcp_servers`` are those of the chat from now on, also while the message waits; None: as they are. ``asker`` is the
    call that sends it, of a chat that this one is an agent of.
    """

    parts: Parts
    busy: Busy = Busy.QUEUE
    model: str | None = None
    mcp_servers: tuple[str, ...] | None = None
    asker: Asker | None = None

    @property
    def message(self) -> NewMessage:
        return NewMessage(Role.USER, self.parts, model=self.model)


class Edit(msgspec.Struct, frozen=True):
    """The model of the message that is replaced stays if none is given."""

    message_id: int
    parts: Parts
    model: str | None = None


class Insert(msgspec.Struct, frozen=True):
    """Put messages at the end of a history that nobody works on. None of it is answered, and no call in it is run."""

    messages: tuple[NewMessage, ...]

    @property
    def parts(self) -> Parts:
        return tuple(part for message in self.messages for part in message.parts)


class DeleteMessage(msgspec.Struct, frozen=True):
    """One message of a history that nobody works on; what follows it stays."""

    message_id: int


class DeleteQueued(msgspec.Struct, frozen=True):
    queued_id: int


class Promote(msgspec.Struct, frozen=True):
    queued_id: int


class Interrupt(msgspec.Struct, frozen=True):
    pass


class ToolResult(msgspec.Struct, frozen=True):
    """``whole`` is all of its text, where ``content`` has a part of that."""

    call_id: str
    content: str | tuple[ResultContent, ...]
    is_error: bool = False
    whole: bytes | None = None


class SubmitToolResults(msgspec.Struct, frozen=True):
    """What the client's own tools gave. ``message``: what the user says behind it, in the same turn."""

    results: tuple[ToolResult, ...]
    message: NewMessage | None = None

    @property
    def call_ids(self) -> tuple[str, ...]:
        return tuple(result.call_id for result in self.results)

    @property
    def parts(self) -> Parts:
        given = (ToolResultPart(result.call_id, result.content, result.is_error) for result in self.results)
        return (*given, *(() if self.message is None else self.message.parts))


class Approve(msgspec.Struct, frozen=True):
    """``digest`` is that of the arguments which the user was shown; None: whatever they are. ``arguments`` (JSON) take
    their place. ``remember``: for which chats the user need not be asked about this tool again."""

    call_id: str
    digest: str | None = None
    arguments: str | None = None
    remember: Remember | None = None

    @property
    def call_ids(self) -> tuple[str, ...]:
        return (self.call_id,)


class Deny(msgspec.Struct, frozen=True):
    call_id: str
    reason: str | None = None

    @property
    def call_ids(self) -> tuple[str, ...]:
        return (self.call_id,)


class ExpireCalls(msgspec.Struct, frozen=True):
    """These calls have waited for as long as they may: the store says so, by its clock."""

    call_ids: tuple[str, ...]


class SignedIn(msgspec.Struct, frozen=True):
    """The user has signed in where these calls were not let in."""

    call_ids: tuple[str, ...]


class AnswerQuestions(msgspec.Struct, frozen=True):
    """What the user says to all that the server of a call asks. ``digest`` is the one that came with the questions;
    None: whatever they are."""

    call_id: str
    replies: Replies
    digest: str | None = None

    @property
    def call_ids(self) -> tuple[str, ...]:
        return (self.call_id,)


class ReportAgents(msgspec.Struct, frozen=True):
    """Of the calls that wait for agents, the results of those whose agent rests, or that waited for long enough: the
    store says so, as it finds the agents under the lock of the chat that waits."""

    results: tuple[ToolResult, ...]


class Close(msgspec.Struct, frozen=True):
    """Whatever the chat does, it stops, and what is queued is not begun: an agent that is not needed any more.

    A chat at rest stays so: it may be asked of any chat, and again.
    """


class LookAgain(msgspec.Struct, frozen=True):
    """An agent of this chat waits for a person, or does so no longer: the readers of the chat read it again."""


class Archive(msgspec.Struct, frozen=True):
    pass


class Unarchive(msgspec.Struct, frozen=True):
    pass


class Compact(msgspec.Struct, frozen=True):
    """Summarise the history, now, and rest. Whatever failed before does not count."""


class Rename(msgspec.Struct, frozen=True):
    """A side job: it touches no version that fences a run."""

    title: str


class Configure(msgspec.Struct, frozen=True):
    """A side job as well: the turn under way has the tools that it began with."""

    setup: ChatSetup


class Pin(msgspec.Struct, frozen=True):
    """A side job, like all that is only about the list."""

    pinned: bool


class ChooseModel(msgspec.Struct, frozen=True):
    """Ask this model from the next message on; None: the deployment's default."""

    model: str | None


class EditQueued(msgspec.Struct, frozen=True):
    """A queued message is replaced where it waits. Its model stays if none is given."""

    queued_id: int
    parts: Parts
    model: str | None = None


class StartAttempt(msgspec.Struct, frozen=True):
    """``number`` of the attempt that starts, so that a request which arrives late, and again, starts nothing."""

    number: int | None = None


class KeepAnswer(msgspec.Struct, frozen=True):
    """The provider goes on with the answer of this attempt, also while nobody listens: this is how to get at it."""

    answer_id: str


class ScheduleRetry(msgspec.Struct, frozen=True):
    """``retry`` names the attempt that failed: once a later one is on, a request that arrives late changes nothing.

    ``failures``: so many count from now on, at least, as the model that failed is not to be asked again.
    """

    retry: Retry
    failures: int = 0


class CommitStep(msgspec.Struct, frozen=True):
    """One assistant message, or a batch of tool results; its calls become open, its results close theirs.

    ``calls`` says how each call of the message begins; one that is not among them is pending. If all that is open waits
    for somebody, the chat comes to rest with it. If nothing is open after results, the next attempt starts with it.
    """

    messages: tuple[NewMessage, ...]
    calls: tuple[OpenCall, ...] = ()


class StartCalls(msgspec.Struct, frozen=True):
    """These calls run from now on: said before they do where they must not be run twice."""

    call_ids: tuple[str, ...]


class AskAgain(msgspec.Struct, frozen=True):
    """A person decides about calls that are the owner's to run: their worker died, or what was allowed is not any more.
    For ``seconds`` at most."""

    call_ids: tuple[str, ...]
    seconds: float | None = None


class AwaitSignIn(msgspec.Struct, frozen=True):
    """Calls that their server did not let in: the chat's user has to sign in there, within ``seconds``."""

    call_ids: tuple[str, ...]
    seconds: float | None = None


class AskUser(msgspec.Struct, frozen=True):
    """The server of a call asks the chat's user something, which waits for ``seconds`` at most. With ``resume`` the
    server goes on from an answer whenever it comes; without, the call goes on running meanwhile. No ``questions``: what
    was asked is not asked any longer."""

    call_id: str
    questions: tuple[Question, ...] = ()
    resume: str | None = None
    seconds: float | None = None


class FinishTurn(msgspec.Struct, frozen=True):
    """The turn's last step, if there is one to commit, and its end."""

    messages: tuple[NewMessage, ...] = ()


class CommitSummary(msgspec.Struct, frozen=True):
    """The call that stands for a summary, and its result, in which that is: the model is told of no message before, but
    of those that it keeps. If that is all that was asked for, the chat comes to rest, or goes on to its queue.
    """

    messages: tuple[NewMessage, ...]


class FinishInterruption(msgspec.Struct, frozen=True):
    """``partial`` is what was said until then, ``results`` what tools gave that was not committed yet."""

    partial: NewMessage | None = None
    results: tuple[NewMessage, ...] = ()


class Fail(msgspec.Struct, frozen=True):
    error: ErrorInfo


class Release(msgspec.Struct, frozen=True):
    """The owner gives the chat back, with its work undone, for another replica to claim. ``cause`` says why.

    ``attempt``: the newest that it has begun, for a failover may have lost that it was started."""

    cause: str = RELEASED
    attempt: int = 0


UserCommand = (
    Send
    | Edit
    | Insert
    | DeleteMessage
    | DeleteQueued
    | Promote
    | Interrupt
    | SubmitToolResults
    | Approve
    | Deny
    | SignedIn
    | AnswerQuestions
    | Archive
    | Unarchive
    | Compact
    | Rename
    | Configure
    | Pin
    | ChooseModel
    | EditQueued
    | Close
)
OwnerCommand = (
    StartAttempt
    | KeepAnswer
    | ScheduleRetry
    | CommitStep
    | StartCalls
    | AskAgain
    | CommitSummary
    | AwaitSignIn
    | AskUser
    | FinishTurn
    | FinishInterruption
    | Fail
    | Release
)
Command = UserCommand | OwnerCommand | ExpireCalls | ReportAgents | LookAgain
Answer = SubmitToolResults | Approve | Deny | SignedIn | AnswerQuestions
"""What answers calls that wait for somebody."""


def event_name(command: Command) -> str:
    name = type(command).__name__
    return f"Send({command.busy})" if isinstance(command, Send) else name
