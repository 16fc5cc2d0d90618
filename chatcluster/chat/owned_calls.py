"""What the owner of a chat says of its calls while it runs them, or finds that it cannot. Pure."""

from __future__ import annotations

from chatcluster.chat.calls import CallState, OpenCall, asked_again, asking, given_back, refused_entry, started
from chatcluster.chat.commands import AskAgain, AskUser, AwaitSignIn, StartCalls
from chatcluster.chat.draft import Draft
from chatcluster.errors import Moved
from chatcluster.parts import QUESTIONS_VERSION


def start_calls(draft: Draft, command: StartCalls) -> None:
    for call_id in command.call_ids:
        call = owned_call(draft, call_id)
        if call.waits:
            raise Moved(f"call {call_id} waits for somebody and cannot be started")
        draft.change_call(started(call, draft.before.epoch))


def ask_again(draft: Draft, command: AskAgain) -> None:
    for call_id in command.call_ids:
        call = owned_call(draft, call_id)
        if call.waits:
            raise Moved(f"call {call_id} waits for somebody already")
        draft.change_call(asked_again(call, draft.before.epoch, command.seconds))
    draft.settle()


def await_sign_in(draft: Draft, command: AwaitSignIn) -> None:
    for call_id in command.call_ids:
        call = owned_call(draft, call_id)
        if call.state is not CallState.STARTED:
            raise Moved(f"call {call_id} is {call.state}, so nobody was refused")
        draft.change_call(refused_entry(call, command.seconds))
    draft.settle()


def ask_user(draft: Draft, command: AskUser) -> None:
    call = owned_call(draft, command.call_id)
    if call.state is not CallState.STARTED:
        raise Moved(f"call {call.call_id} is {call.state}, so its server asks nothing")
    if command.questions and command.resume is None and command.questions == call.questions:
        return  # a repeat of this very commit, which somebody may have answered
    draft.change_call(asking(call, command.questions, command.resume, command.seconds))
    if command.resume is not None:  # a state of calls that version 3 does not know
        draft.after.content_version = max(draft.after.content_version, QUESTIONS_VERSION)
    draft.settle()


def give_back(draft: Draft) -> None:
    """Give back all open calls, as the tenure ends in order."""
    for call in list(draft.open_calls.values()):
        draft.change_call(given_back(call, draft.before.epoch))


def owned_call(draft: Draft, call_id: str) -> OpenCall:
    if call_id not in draft.open_calls:
        raise Moved(f"call {call_id} is not open any more")
    return draft.open_calls[call_id]
