"""What becomes of a chat whose calls wait for somebody, as they are answered: by its user, its client, or by time.

Each call is answered once. When no call waits any more, the turn goes on. Pure.
"""

from __future__ import annotations

from chatcluster.chat.calls import (
    CallState,
    OpenCall,
    answered,
    approved,
    denied_text,
    let_in,
    permission_of,
    timed_out_text,
)
from chatcluster.chat.commands import (
    AnswerQuestions,
    Approve,
    Deny,
    ExpireCalls,
    ReportAgents,
    SignedIn,
    SubmitToolResults,
    ToolResult,
)
from chatcluster.chat.draft import Draft, Grant
from chatcluster.chat.facts import Facts
from chatcluster.chat.questions import check_replies, encoded
from chatcluster.chat.state import ChatState, Status
from chatcluster.errors import CallAnswered, CallChanged, NotAllowedInStatus, ToolCallNotFound
from chatcluster.parts import NewMessage, Role, ToolResultPart


def submit(draft: Draft, command: SubmitToolResults) -> None:
    _give(draft, command.results, CallState.CLIENT)
    _go_on(draft, command.message)


def report_agents(draft: Draft, command: ReportAgents) -> None:
    _give(draft, command.results, CallState.AGENTS)
    _go_on(draft)


def _give(draft: Draft, results: tuple[ToolResult, ...], state: CallState) -> None:
    for result in results:
        _waiting_call(draft, result.call_id, state)
        part = ToolResultPart(result.call_id, result.content, result.is_error)
        draft.insert(NewMessage(Role.TOOL, (part,)))
    draft.kept.extend((result.call_id, result.whole) for result in results if result.whole is not None)


def approve(draft: Draft, command: Approve) -> None:
    call = _waiting_call(draft, command.call_id, CallState.APPROVAL)
    _check_shown(call, command.digest)
    draft.change_call(approved(call, command.arguments))
    if command.remember is not None:
        draft.grant = Grant(permission_of(call.name, call.effect), command.remember)
    _go_on(draft)


def _check_shown(call: OpenCall, digest: str | None) -> None:
    """An approval of a call that may have run already has to name, by its digest, what the person was shown."""
    if digest is None and call.started_epoch is not None:
        why = "the call may have run already; look at it again, and approve it with its digest"
        raise CallChanged(why, call_id=call.call_id)
    if digest not in (None, call.digest):
        raise CallChanged("the call is not the one that was shown; look at it again", call_id=call.call_id)


def deny(draft: Draft, command: Deny) -> None:
    call = _waiting_call(draft, command.call_id, CallState.APPROVAL)
    draft.answer(call.call_id, denied_text(call, command.reason))
    _go_on(draft)


def signed_in(draft: Draft, command: SignedIn) -> None:
    for call_id in command.call_ids:
        draft.change_call(let_in(_waiting_call(draft, call_id, CallState.SIGN_IN)))
    _go_on(draft)


def answer_questions(draft: Draft, command: AnswerQuestions) -> None:
    """Of a call that runs, the owner is told by its ledger; one that waits is to be gone on with."""
    call = draft.open_calls.get(command.call_id)
    if call is None or not call.asks_now:
        call = _waiting_call(draft, command.call_id, CallState.QUESTION)
        if draft.before.status is not Status.REQUIRES_ACTION:
            raise NotAllowedInStatus(
                "other calls of this step still run; answer when they are done", call_id=call.call_id
            )
    if command.digest not in (None, call.digest):
        raise CallChanged("the call asks something else by now; look at it again", call_id=call.call_id)
    check_replies(call.questions, command.replies)
    draft.change_call(answered(call, encoded(command.replies)))
    if draft.before.status is Status.REQUIRES_ACTION:
        _go_on(draft)


def expire_calls(draft: Draft, command: ExpireCalls) -> None:
    for call_id in command.call_ids:
        call = draft.open_calls[call_id]
        draft.answer(call_id, timed_out_text(call))
    _go_on(draft)


def _waiting_call(draft: Draft, call_id: str, state: CallState) -> OpenCall:
    """The call that is to be answered, if that is what it waits for."""
    call = draft.open_calls.get(call_id)
    if call is not None and call.state is state:
        return call
    if call is not None and call.waits:
        raise NotAllowedInStatus(f"this call does not wait for {_WAITED_FOR[state]}", call_id=call_id)
    raise gone(draft.before, draft.facts, call_id)


_WAITED_FOR = {
    CallState.CLIENT: "a result of the client",
    CallState.APPROVAL: "an approval",
    CallState.AGENTS: "an agent",
    CallState.SIGN_IN: "a sign-in",
    CallState.QUESTION: "an answer of the user",
}


def gone(state: ChatState, facts: Facts, call_id: str) -> Exception:
    """Why a call cannot be answered that does not wait."""
    if call_id in facts.known_calls or any(call.call_id == call_id for call in state.open_calls):
        return CallAnswered("this call has its answer already", call_id=call_id)
    return ToolCallNotFound("there is no such tool call in this chat", call_id=call_id)


def _go_on(draft: Draft, message: NewMessage | None = None) -> None:
    """The turn goes on, unless other calls still wait for an answer. ``message`` comes behind the last result."""
    if draft.open_calls and message is not None:
        draft.queue_last(message, steer=True)
    if any(call.waits for call in draft.open_calls.values()):
        return
    if not draft.open_calls:
        draft.take_in_steered()
        draft.insert(*(() if message is None else (message,)))
    draft.run()
