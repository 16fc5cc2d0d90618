"""Tools: what a chat may call, and how a call is run.

A **toolbox** is asked once a turn, by the chat's owner, what tools there are for that chat. Behind it are servers of
tools, tools of the cluster's own, and those that the chat's client runs itself.

Who is authoritative: the ledger in the store says which calls there are and what became of each. A toolbox keeps
nothing of them: it lists, and it runs one call when it is told to. Whether a call may be run again after its worker
died is told by the tool's ``effect`` as the ledger has it.

What happens on failure: whatever goes wrong with a call is a result with ``is_error`` that tells the model what to
do, never an exception; a server whose tools cannot be had costs its tools, and a notice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from chatcluster.chat.questions import Question, Replies
from chatcluster.parts import NoticePart, ResultContent
from chatcluster.ports.store import Chat


class Effect(StrEnum):
    """What running a call does, and so whether it may be run again when nobody knows how far it got."""

    READ = "read"
    IDEMPOTENT = "idempotent"
    TRACKED = "tracked"
    """The tool has a ledger of its own, and knows a repeat by the call's ID: to run it again is to go on with it."""
    ONCE = "once"


class Approval(StrEnum):
    """Whether a person is asked before a call is run."""

    NEVER = "never"
    ASK = "ask"
    DENY = "deny"


class RunBy(StrEnum):
    """Where a call is run: by the chat's owner, or by the chat's client, which sends the result. Or nowhere: an agent
    is what it waits for."""

    OWNER = "owner"
    CLIENT = "client"
    AGENTS = "agents"


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    parameters: dict[str, Any]
    """A JSON schema of an object."""
    effect: Effect = Effect.ONCE
    approval: Approval = Approval.NEVER
    run_by: RunBy = RunBy.OWNER
    runs_alone: bool = False
    """Whether its calls do not run beside others of their step."""
    idle_seconds: float = 60.0
    """The longest time without progress; progress starts it anew."""
    total_seconds: float = 600.0
    result_bytes_max: int = 10 << 20


class SignInRequired(Exception):
    """A call was not run: the chat's user has to sign in at the tool's server first."""


class InputRequired(Exception):
    """The server of a call asks the user something first. It has ended the request, and goes on from ``resume``."""

    def __init__(self, questions: tuple[Question, ...], resume: str) -> None:
        super().__init__(f"{len(questions)} questions to the user")
        self.questions = questions
        self.resume = resume


class ToolCall(msgspec.Struct, frozen=True):
    """A call to run. ``call_id`` is ours, the same each time it is run: a server may know a repeat by it. ``answers``
    are those of the user to what the server asked before, and ``resume`` is what it said to go on from."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    answers: Replies | None = None
    resume: str | None = None


class ToolResult(msgspec.Struct, frozen=True):
    """``whole``: all of the text, where the content has a part of it only. It is kept, to be read on in.
    ``renews_tools``: there are tools more now, and the rest of the turn may have them."""

    content: tuple[ResultContent, ...]
    is_error: bool = False
    whole: bytes | None = None
    renews_tools: bool = False


class Progressed(msgspec.Struct, frozen=True):
    progress: float
    total: float | None = None
    message: str | None = None


class Printed(msgspec.Struct, frozen=True):
    """What a call has printed: ``data``, behind ``offset`` bytes. Told in order, from 0 on in each run."""

    offset: int
    data: bytes


class Asked(msgspec.Struct, frozen=True):
    """The server of a running call asks the user something, and holds the call until ``reply`` is called. Which may be
    too late, and never waits. In the place of what it asked before; without questions, it asks no longer."""

    questions: tuple[Question, ...]
    reply: Callable[[Replies], None]

    def with_first(self, deed: Callable[[], None]) -> Asked:
        """This question, where ``deed`` is done before the reply goes on."""

        def reply(replies: Replies) -> None:
            deed()
            self.reply(replies)

        return Asked(self.questions, reply)


Tell = Callable[[Progressed | Printed | Asked], None]
"""How a running call tells of itself. Never waits."""


class TurnTools(Protocol):
    """The tools of one chat for one turn. Sessions with servers are made when they are first needed."""

    async def tools(self) -> Sequence[Tool]:
        """All tools, with names that are unique. Bounded in time; never raises for what is outside."""
        ...

    @property
    def notices(self) -> Sequence[NoticePart]:
        """What the turn goes on without, as found by ``tools``."""
        ...

    @property
    def instructions(self) -> Sequence[tuple[str, str]]:
        """The servers that tools come from, as found by ``tools``: names, and what each says about itself, if any."""
        ...

    @property
    def surroundings(self) -> Sequence[str]:
        """What the model is told of the place where the chat works, as found by ``tools``."""
        ...

    async def run(self, call: ToolCall, progressed: Tell) -> ToolResult:
        """Run a call of a tool that ``tools`` named. To cancel it tells the tool. Raises
        ``SignInRequired`` and ``InputRequired``, and nothing else for what is outside."""
        ...


class Toolbox(Protocol):
    def offers(self, chat: Chat) -> bool:
        """Whether a turn of this chat may have tools. If not, that is certain, and there is no need to open it."""
        ...

    def open(self, chat: Chat) -> AbstractAsyncContextManager[TurnTools]:
        """The tools of a turn of this chat. On leaving, the sessions that were made are closed, within a bound."""
        ...
