"""The calls of a turn that have no result yet, as the ledger has them.

``pending → (approval | client | agents | sign_in | question) → started``, and with its result a call is open no longer.
In the five states between the call **waits for somebody**: a person who approves it, the client that runs it, agents, a
person who signs in, or one who answers what the tool's server asks. Of the others the chat's owner takes care. Each
call has exactly one result, always: its own, or one that says why there is none.

Who is authoritative: the ledger, in the row of the chat's calls. It is written by decisions alone, in the transaction
that writes what they say. A call is ``started`` there before it runs: so one that never was has certainly not run.

A call whose server asks the user something waits in one of two ways. Where the server has ended the request with its
question, and can go on from an answer (``resume``), the call is in the state ``question``, and begins again with the
answer. Where it holds the request open, the call is still ``started``, and **asks** (``asks_now``): its owner waits,
and if the owner dies, the call is one of those that may have run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from chatcluster.chat.questions import Inquiry, Question, encoded
from chatcluster.parts import ToolCallPart

DENIED_TEXT = "The user denied this call."
CANCELLED_TEXT = "The call was cancelled before it produced a result."
CANCELLED_RUNNING_TEXT = "The call was cancelled while it ran. Whether it took effect is not known."
CANCELLED_TRACKED_TEXT = "The call was cancelled while it ran, and is being stopped. What it did until then stands."
NOT_APPROVED_TEXT = "Nobody approved this call in time, so it was not run."
NOT_APPROVED_AGAIN_TEXT = "Nobody approved this call in time, so it was not run again."
EARLIER_RUN_TEXT = "It was run before, and the outcome of that run is unknown: it may have taken effect."
NOT_SIGNED_IN_TEXT = "The user did not sign in in time, so this call was not run."
NOT_ANSWERED_TEXT = (
    "Nobody answered what this call asked the user in time, so it was given up. What it did until then stands."
)
CANCELLED_ASKING_TEXT = (
    "The call was cancelled while it waited for an answer of the user. What it did until then stands."
)
TIMED_OUT_TEXT = "The call timed out: no result came in time."

WAIT_SECONDS = 24 * 3600.0
"""How long a call waits for an answer where its tool sets no time."""


class CallState(StrEnum):
    PENDING = "pending"
    """The owner has to run it."""
    APPROVAL = "approval"
    CLIENT = "client"
    AGENTS = "agents"
    SIGN_IN = "sign_in"
    QUESTION = "question"
    STARTED = "started"
    """The call runs, or did when its worker died."""


WAITING_STATES = (CallState.APPROVAL, CallState.CLIENT, CallState.AGENTS, CallState.SIGN_IN, CallState.QUESTION)


class OpenCall(msgspec.Struct, frozen=True):
    """A tool call without a result, and what its tool says of it: as it was when the model asked for the call.

    ``effect`` and ``run_by`` are words of ``ports.toolbox``. ``digest`` is that of the arguments that somebody is
    shown, and ``arguments`` are there if somebody changed them. ``deaths`` counts the workers that died while they ran
    it. ``seconds`` is how long it may wait for somebody, ``deadline`` until when, where that is read. ``agent_id`` is
    the chat whose rest it waits for, as the model named it: nobody has looked whether there is such an agent.
    ``inquiry`` is what its server asks the user, if it asked anything.
    """

    call_id: str
    name: str
    state: CallState = CallState.PENDING
    effect: str = "once"
    run_by: str = "owner"
    started_epoch: int | None = None
    deaths: int = 0
    digest: str = ""
    arguments: str | None = None
    approved: bool = False
    seconds: float | None = None
    deadline: datetime | None = None
    agent_id: UUID | None = None
    inquiry: Inquiry | None = None

    @property
    def questions(self) -> tuple[Question, ...]:
        return () if self.inquiry is None else self.inquiry.questions

    @property
    def is_answered(self) -> bool:
        """Whether the user has answered what its server asked."""
        return self.inquiry is not None and self.inquiry.answers is not None

    @property
    def asks_now(self) -> bool:
        """Whether it runs, and its server waits for an answer of the user."""
        return self.state is CallState.STARTED and self.inquiry is not None and not self.is_answered

    @property
    def waits(self) -> bool:
        """Whether the call waits for a person, a client or an agent, and not for the chat's owner."""
        return self.state in WAITING_STATES

    @property
    def may_have_run(self) -> bool:
        """Whether it may have taken effect already: it was started, and no result of it is known."""
        return self.started_epoch is not None and self.effect != "read"

    @property
    def wait_seconds(self) -> float:
        return WAIT_SECONDS if self.seconds is None else self.seconds


def permission_of(name: str, effect: str) -> str:
    """What a standing permission to call a tool of this name goes by. The servers of a workspace are named by what is
    in it: what is allowed to them is allowed to no other tool that happens to have the name."""
    return f"workspace/{name}" if effect == "tracked" else name


def digest_of(arguments: str) -> str:
    """What an approval names the arguments by that it is for."""
    return hashlib.sha256(arguments.encode("utf-8", "surrogatepass")).hexdigest()


def opened(part: ToolCallPart, plan: OpenCall | None, epoch: int) -> OpenCall:
    """The call that begins with ``part``, as planned by the owner of tenure ``epoch``; else it is pending."""
    digest = digest_of(part.arguments)
    if plan is None:
        return OpenCall(part.id, part.name, digest=digest)
    started = epoch if plan.state is CallState.STARTED else None
    return msgspec.structs.replace(plan, name=part.name, digest=digest, started_epoch=started)


def started(call: OpenCall, epoch: int) -> OpenCall:
    """The call as the tenure ``epoch`` runs it. One that another tenure had started has seen its worker die."""
    died = call.state is CallState.STARTED and call.started_epoch != epoch
    return msgspec.structs.replace(
        _not_asking(call), state=CallState.STARTED, started_epoch=epoch, deaths=call.deaths + died, deadline=None
    )


def asked_again(call: OpenCall, epoch: int, seconds: float | None) -> OpenCall:
    """The call as the tenure ``epoch`` leaves it to a person to run it, perhaps again. Its digest is another one from
    then on: an approval that was sent for the run before is none for this one."""
    return msgspec.structs.replace(
        _not_asking(call),
        state=CallState.APPROVAL,
        approved=False,
        seconds=seconds,
        deaths=call.deaths + (call.state is CallState.STARTED and call.started_epoch != epoch),
        digest=digest_of(f"{call.digest} {epoch}"),
    )


def refused_entry(call: OpenCall, seconds: float | None) -> OpenCall:
    """The call as its tool did not begin with it, because the chat's user has to sign in first."""
    started_epoch = call.started_epoch if call.deaths else None  # it has run before only if a worker died at it
    call = _not_asking(call)
    return msgspec.structs.replace(call, state=CallState.SIGN_IN, seconds=seconds, started_epoch=started_epoch)


def asking(call: OpenCall, questions: tuple[Question, ...], resume: str | None, seconds: float | None) -> OpenCall:
    """The call as its server asks the user something. Its digest is another one with each question, so that an answer
    to the one before is none to this. Without ``questions`` it asks no longer; what was answered by then stands."""
    if not questions:
        return call if call.is_answered else _not_asking(call)
    state, started_epoch = CallState.STARTED, call.started_epoch
    if resume is not None:
        state, started_epoch = CallState.QUESTION, call.started_epoch if call.deaths else None
    return msgspec.structs.replace(
        call,
        state=state,
        started_epoch=started_epoch,
        inquiry=Inquiry(questions, resume=resume),
        seconds=seconds,
        digest=digest_of(call.digest + encoded(questions)),
    )


def answered(call: OpenCall, answers: str) -> OpenCall:
    """The call as the user has answered what it asks: it goes on, or is to be gone on with."""
    state = CallState.PENDING if call.state is CallState.QUESTION else call.state
    inquiry = msgspec.structs.replace(call.inquiry or Inquiry(()), answers=answers)
    return msgspec.structs.replace(call, state=state, inquiry=inquiry, deadline=None)


def _not_asking(call: OpenCall) -> OpenCall:
    """The call without a question that its server has to be there for."""
    if call.inquiry is None or call.inquiry.resume is not None:
        return call
    return msgspec.structs.replace(call, inquiry=None)


def let_in(call: OpenCall) -> OpenCall:
    """The call, to be run: its user has signed in."""
    return msgspec.structs.replace(call, state=CallState.PENDING, deadline=None)


def given_back(call: OpenCall, epoch: int) -> OpenCall:
    """The call when the tenure ``epoch`` ends in order. One that it ran, and that may be run again, is run by the next
    owner, and nobody died. What a tenure before had started stays so: that it died is still to be counted."""
    if call.state is not CallState.STARTED or call.effect == "once" or call.started_epoch != epoch:
        return call
    return msgspec.structs.replace(_not_asking(call), state=CallState.PENDING)


def approved(call: OpenCall, arguments: str | None) -> OpenCall:
    """The call, to be run by its owner or client, with the arguments that a person gave it if there are any."""
    state = CallState.CLIENT if call.run_by == "client" else CallState.PENDING
    call = msgspec.structs.replace(call, state=state, approved=True, deadline=None)
    if arguments is None:
        return call
    return msgspec.structs.replace(call, arguments=arguments, digest=digest_of(arguments))


def cancelled_text(call: OpenCall) -> str:
    """What the model is told of a call that gets no result any more."""
    if call.state is CallState.STARTED:
        return _CANCELLED_STARTED.get(call.effect, CANCELLED_RUNNING_TEXT)
    if call.state is CallState.QUESTION:
        return not_again(call, CANCELLED_ASKING_TEXT)
    return not_again(call, CANCELLED_TEXT)


_CANCELLED_STARTED = {"read": CANCELLED_TEXT, "tracked": CANCELLED_TRACKED_TEXT}


def denied_text(call: OpenCall, reason: str | None) -> str:
    text = not_again(call, DENIED_TEXT)
    return text if reason is None else f"{text} {reason}"


def timed_out_text(call: OpenCall) -> str:
    if call.state in _NOT_IN_TIME:
        return not_again(call, _NOT_IN_TIME[call.state])
    if call.state is not CallState.APPROVAL:
        return not_again(call, TIMED_OUT_TEXT)
    return not_again(call, NOT_APPROVED_TEXT if call.started_epoch is None else NOT_APPROVED_AGAIN_TEXT)


_NOT_IN_TIME = {CallState.SIGN_IN: NOT_SIGNED_IN_TEXT, CallState.QUESTION: NOT_ANSWERED_TEXT}


def not_again(call: OpenCall, text: str) -> str:
    """``text``, which says why the call is not run, and what may have become of a run before."""
    return f"{text} {EARLIER_RUN_TEXT}" if call.may_have_run else text


def all_wait(calls: Iterable[OpenCall]) -> bool:
    """Whether there is nothing that the chat's owner could do."""
    return all(call.waits for call in calls)
