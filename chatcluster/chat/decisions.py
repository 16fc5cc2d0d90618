"""One handler per event, and ``decide``, which asks the table first and checks the outcome against it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chatcluster.chat import call_answers, owned_calls, summaries
from chatcluster.chat.causes import TURN
from chatcluster.chat.commands import (
    Answer,
    AnswerQuestions,
    Approve,
    Archive,
    AskAgain,
    AskUser,
    AwaitSignIn,
    Busy,
    ChooseModel,
    Close,
    Command,
    CommitStep,
    CommitSummary,
    Compact,
    Configure,
    Create,
    DeleteMessage,
    DeleteQueued,
    Deny,
    Edit,
    EditQueued,
    ExpireCalls,
    Fail,
    FinishInterruption,
    FinishTurn,
    Insert,
    Interrupt,
    KeepAnswer,
    LookAgain,
    Pin,
    Promote,
    Release,
    Rename,
    ReportAgents,
    ScheduleRetry,
    Send,
    SignedIn,
    StartAttempt,
    StartCalls,
    SubmitToolResults,
    Unarchive,
    event_name,
)
from chatcluster.chat.draft import Decision, Draft, Span
from chatcluster.chat.facts import NO_FACTS, Facts
from chatcluster.chat.setup import ChatSetup
from chatcluster.chat.state import ChatState, Fence, Standing, Status, TurnOutcome, Underway
from chatcluster.chat.table import TABLE
from chatcluster.errors import (
    ChatArchived,
    ChatBusy,
    Fenced,
    MessageNotFound,
    MessageNotUser,
    Moved,
    NotAllowedInStatus,
    ParentArchived,
)
from chatcluster.parts import CONTENT_VERSION, NewMessage, Role, ToolResultPart, content_version_of


def _send(draft: Draft, command: Send) -> None:
    if draft.facts.is_asker_gone:
        raise NotAllowedInStatus("the message is not sent: the call was cancelled", status=str(draft.after.status))
    if command.mcp_servers is not None:
        draft.setup = ChatSetup(mcp_servers=command.mcp_servers)
    match draft.after.status:
        case Status.WAITING | Status.ERROR:
            draft.promote_behind(command.message)
            draft.run()
        case Status.REQUIRES_ACTION if command.busy is Busy.INTERRUPT:
            draft.promote_behind(command.message)
            draft.run()
        case _:
            draft.queue_last(command.message, steer=command.busy is Busy.STEER)
            if command.busy is Busy.INTERRUPT and draft.after.status is Status.RUNNING:
                draft.after.status = Status.INTERRUPTING


def _edit(draft: Draft, command: Edit) -> None:
    replaced = draft.facts.replaced
    if replaced is None:
        raise MessageNotFound("there is no such message in this chat", message_id=command.message_id)
    if replaced.role is not Role.USER:
        raise MessageNotUser("only a user's message can be edited", role=str(replaced.role))
    draft.delete = Span(command.message_id)
    draft.delete_queued(*draft.queue)
    draft.open_calls.clear()  # their calls are deleted with the messages that asked for them
    draft.after.compacting = False
    summaries.forget_behind(draft, replaced.revision)
    draft.insert(NewMessage(Role.USER, command.parts, model=command.model or replaced.model))
    draft.run()


def _insert(draft: Draft, command: Insert) -> None:
    draft.take_in(*command.messages)


def _delete_message(draft: Draft, command: DeleteMessage) -> None:
    deleted = draft.facts.replaced
    if deleted is None:
        raise MessageNotFound("there is no such message in this chat", message_id=command.message_id)
    summaries.require_none_behind(draft, deleted.revision)
    draft.delete = Span(command.message_id, command.message_id)


def _delete_queued(draft: Draft, command: DeleteQueued) -> None:
    draft.delete_queued(draft.require_queued(command.queued_id))


def _promote(draft: Draft, command: Promote) -> None:
    draft.move_to_head(command.queued_id)
    if draft.after.status in (Status.RUNNING, Status.INTERRUPTING):
        draft.after.status = Status.INTERRUPTING
    else:
        draft.promote_head()
        draft.run()


def _interrupt(draft: Draft, _: Interrupt) -> None:
    if draft.after.status is Status.RUNNING:
        draft.after.status = Status.INTERRUPTING
        return
    draft.answer_open_calls()
    if draft.queue:
        draft.promote_head()
        draft.run()
    else:
        draft.rest(Status.WAITING)


def _close(draft: Draft, _: Close) -> None:
    draft.delete_queued(*draft.queue)
    if draft.after.status is Status.RUNNING:
        draft.after.status = Status.INTERRUPTING
    elif draft.after.status is Status.REQUIRES_ACTION:
        draft.answer_open_calls()
        draft.rest(Status.WAITING)


def _archive(draft: Draft, _: Archive) -> None:
    if draft.after.status in (Status.WAITING, Status.ERROR):
        draft.after.archived = True
    else:
        draft.after.archiving = True
        draft.after.status = Status.INTERRUPTING


def _unarchive(draft: Draft, _: Unarchive) -> None:
    if draft.facts.parent_archived:
        raise ParentArchived("unarchive the chat that this one belongs to first")
    draft.after.archived = False


def _compact(draft: Draft, _: Compact) -> None:
    draft.after.compacting = True
    draft.after.failures = 0
    draft.run()


def _rename(draft: Draft, command: Rename) -> None:
    draft.setup = ChatSetup(title=command.title)


def _configure(draft: Draft, command: Configure) -> None:
    draft.setup = command.setup


def _pin(draft: Draft, command: Pin) -> None:
    draft.after.pinned = command.pinned


def _choose_model(draft: Draft, command: ChooseModel) -> None:
    draft.setup = ChatSetup(model=command.model)


def _look_again(draft: Draft, command: LookAgain) -> None:
    """Nothing changes but the version."""


def _edit_queued(draft: Draft, command: EditQueued) -> None:
    draft.replace_queued(command.queued_id, command.parts, command.model)


def _start_attempt(draft: Draft, command: StartAttempt) -> None:
    number = draft.after.attempt + 1 if command.number is None else command.number
    if number <= draft.after.attempt:
        raise Moved(f"attempt {number} cannot start where {draft.after.attempt} is on")
    draft.after.attempt = number
    draft.after.retry = None
    draft.after.answer = ""


def _keep_answer(draft: Draft, command: KeepAnswer) -> None:
    before = draft.before
    draft.after.answer = Underway(before.history_version, before.attempt, command.answer_id).text


def _schedule_retry(draft: Draft, command: ScheduleRetry) -> None:
    if command.retry.attempt < draft.after.attempt:
        raise Moved(f"attempt {command.retry.attempt} failed, but attempt {draft.after.attempt} is on by now")
    known = draft.after.retry
    if known is None or known.attempt < command.retry.attempt:  # a repeat of this very commit fails nothing anew
        draft.after.failures = max(draft.after.failures + 1, command.failures)
        draft.after.failed = command.retry.attempt
        draft.after.attempt = command.retry.attempt  # a failover may have lost that it was started
    draft.after.retry = command.retry
    draft.retry_delay_ms = command.retry.delay_ms


def _commit_step(draft: Draft, command: CommitStep) -> None:
    for message in command.messages:
        if message.role is Role.TOOL:
            _check_open(draft, message)
        draft.insert(message, calls=command.calls)
    if draft.messages and draft.messages[-1].role is Role.TOOL and not draft.open_calls:
        draft.take_in_steered()
    draft.settle()
    draft.starts_attempt = draft.after.status is Status.RUNNING  # of the model, or at what its calls give


def _check_open(draft: Draft, message: NewMessage) -> None:
    """Each call has one result; a second one is refused."""
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            owned_calls.owned_call(draft, part.call_id)


def _finish_turn(draft: Draft, command: FinishTurn) -> None:
    draft.outcome = TurnOutcome.FINISHED
    draft.insert(*command.messages)
    draft.answer_open_calls()
    draft.go_on_or_rest()


def _finish_interruption(draft: Draft, command: FinishInterruption) -> None:
    if command.partial is not None:
        draft.insert(command.partial)
    draft.insert(*(message for message in command.results if _answers_open_calls(draft, message)))
    draft.answer_open_calls()
    if draft.after.archiving:
        draft.rest(Status.WAITING)
        draft.after.archived, draft.after.archiving = True, False
    elif draft.queue:
        draft.after.compacting = False
        draft.promote_head()
        draft.run()
    else:
        draft.rest(Status.WAITING)


def _answers_open_calls(draft: Draft, message: NewMessage) -> bool:
    """An edit may have taken the calls away since their results came."""
    return all(part.call_id in draft.open_calls for part in message.parts if isinstance(part, ToolResultPart))


def _fail(draft: Draft, command: Fail) -> None:
    draft.answer_open_calls()
    draft.rest(Status.ERROR)
    draft.after.last_error = command.error
    draft.outcome = TurnOutcome.ERROR


def _release(draft: Draft, command: Release) -> None:
    owned_calls.give_back(draft)
    if command.attempt > draft.after.attempt:
        draft.after.attempt, draft.after.retry = command.attempt, None
    draft.end_tenure()
    draft.after.cause = command.cause


_HANDLERS: dict[type[Command], Callable[[Draft, Any], None]] = {
    Send: _send,
    Edit: _edit,
    Insert: _insert,
    DeleteMessage: _delete_message,
    DeleteQueued: _delete_queued,
    Promote: _promote,
    Interrupt: _interrupt,
    SubmitToolResults: call_answers.submit,
    Approve: call_answers.approve,
    Deny: call_answers.deny,
    SignedIn: call_answers.signed_in,
    AnswerQuestions: call_answers.answer_questions,
    Archive: _archive,
    Unarchive: _unarchive,
    Compact: _compact,
    Rename: _rename,
    Configure: _configure,
    ExpireCalls: call_answers.expire_calls,
    ReportAgents: call_answers.report_agents,
    Close: _close,
    LookAgain: _look_again,
    Pin: _pin,
    ChooseModel: _choose_model,
    EditQueued: _edit_queued,
    StartAttempt: _start_attempt,
    KeepAnswer: _keep_answer,
    ScheduleRetry: _schedule_retry,
    CommitStep: _commit_step,
    StartCalls: owned_calls.start_calls,
    AskAgain: owned_calls.ask_again,
    CommitSummary: summaries.commit,
    AwaitSignIn: owned_calls.await_sign_in,
    AskUser: owned_calls.ask_user,
    FinishTurn: _finish_turn,
    FinishInterruption: _finish_interruption,
    Fail: _fail,
    Release: _release,
}

REFUSED_WHILE_ARCHIVING = (Send, Edit, Promote, Interrupt, Archive, Compact)
"""A chat whose archiving is under way takes no new work: it is archived in all but the last step."""


def create(command: Create) -> Decision:
    """The first decision of a chat, at version 1: with a message to answer it runs at once, without it rests."""
    is_asked = not command.at_rest and (
        command.copied_version is not None or any(message.role is Role.USER for message in command.messages)
    )
    versions = (content_version_of(message.parts) for message in command.messages)
    content_version = max((command.copied_version or 1, *versions))
    state = ChatState(
        worker_id=None,
        epoch=0,
        snapshot_version=1,
        history_version=1,
        queue_version=0,
        attempt=0,
        status=Status.RUNNING if is_asked else Status.WAITING,
        content_version=content_version,
        cause=TURN if is_asked else "",
    )
    return Decision(state=state, event="Create", messages=command.messages)


def check_fence(state: Standing, fence: Fence) -> None:
    """Raise ``Fenced`` if the tenure is over, ``Moved`` if it stands but worked from another history."""
    if state.worker_id != fence.worker_id or state.epoch != fence.epoch:
        raise Fenced(f"the tenure {fence.epoch} of worker {fence.worker_id} is over; now {state.epoch}")
    if state.history_version != fence.history_version:
        raise Moved(f"history moved from version {fence.history_version} to {state.history_version}")


def check_content(state: ChatState) -> None:
    """Raise ``Moved`` if a newer version wrote into the chat: its owner can do no more for it than give it back."""
    if state.content_version > CONTENT_VERSION:
        raise Moved(f"the chat has content of version {state.content_version}, which is above {CONTENT_VERSION}")


def decide(state: ChatState, command: Command, fence: Fence | None = None, facts: Facts = NO_FACTS) -> Decision:
    """What ``command`` does to a chat in ``state``, given the ``facts`` that it asks for.

    An owner's command comes with its ``fence``. Raises ``Fenced`` or ``Moved`` for an owner's command whose
    tenure, history or status is no longer current, and the ``CallerError`` that says why for a user's.
    """
    if fence is not None:
        check_fence(state, fence)
        if not isinstance(command, Release):
            check_content(state)
    name = event_name(command)
    targets = TABLE[name][state.phase]
    if not targets or (state.archiving and isinstance(command, REFUSED_WHILE_ARCHIVING)):
        raise _refusal(state, command, facts, owner=fence is not None)
    draft = Draft(state, facts)
    _HANDLERS[type(command)](draft, command)
    decision = draft.finish(name)
    assert decision.state.phase in targets, f"{name} led from {state.phase} to {decision.state.phase}"
    return decision


def _refusal(state: ChatState, command: Command, facts: Facts, *, owner: bool) -> Exception:
    name = event_name(command)
    if owner:
        return Moved(f"{name} is not allowed in status {state.phase}")
    if state.archived or state.archiving:
        return ChatArchived("the chat is archived; unarchive it first", status=str(state.status))
    if isinstance(command, Answer):
        waiting = {call.call_id for call in state.open_calls if call.waits}
        for call_id in command.call_ids:
            if call_id not in waiting:
                return call_answers.gone(state, facts, call_id)
    if isinstance(command, Insert | DeleteMessage):
        why = "the history changes only while the chat is at rest; wait for its answer, or give what it waits for"
        return ChatBusy(why, status=str(state.status))
    if isinstance(command, Send):
        return ChatBusy("the chat is busy with another message; wait for its answer", status=str(state.status))
    return NotAllowedInStatus(f"{name} is not allowed while the chat is {state.status}", status=str(state.status))
