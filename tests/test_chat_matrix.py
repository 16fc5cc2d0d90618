"""Every state of a chat and every event: what is allowed lands where it should, all else is refused whole."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from chat_states import A_USERS_MESSAGE, EVENTS, STRANGER, WORKER, every_state, fence_of

from chatcluster.chat import (
    QUEUE_MESSAGES_MAX,
    REFUSED_WHILE_ARCHIVING,
    TABLE,
    Answer,
    AnswerQuestions,
    Busy,
    CallState,
    ChatState,
    Command,
    Decision,
    DeleteMessage,
    ExpireCalls,
    Insert,
    LookAgain,
    OwnerCommand,
    Phase,
    ReportAgents,
    Send,
    Status,
    UserCommand,
    decide,
    event_name,
)
from chatcluster.errors import (
    CallAnswered,
    ChatArchived,
    ChatBusy,
    Fenced,
    Moved,
    NotAllowedInStatus,
    QueuedMessageNotFound,
    QueueFull,
    ToolCallNotFound,
)

SPECIFICATION = """
event              waiting  running         interrupting             requires_action         error    archived
Send(queue)        running  running         interrupting             requires_action         running  -
Send(interrupt)    running  interrupting    interrupting             running                 running  -
Send(steer)        running  running         interrupting             requires_action         running  -
Send(reject)       running  -               -                        -                       running  -
Edit               running  running         running                  running                 running  -
Insert             waiting  -               -                        -                       error    -
DeleteMessage      waiting  -               -                        -                       error    -
DeleteQueued       waiting  running         interrupting             requires_action         error    archived
Promote            running  interrupting    interrupting             running                 running  -
Interrupt          -        interrupting    -                        waiting/running         -        -
SubmitToolResults  -        -               -                        requires_action/running -        -
Approve            -        -               -                        requires_action/running -        -
Deny               -        -               -                        requires_action/running -        -
SignedIn           -        -               -                        requires_action/running -        -
AnswerQuestions    -        running         -                        requires_action/running -        -
Archive            archived interrupting    interrupting             interrupting            archived -
Unarchive          -        -               -                        -                       -        waiting/error
Compact            running  -               -                        -                       running  -
Rename             waiting  running         interrupting             requires_action         error    archived
Configure          waiting  running         interrupting             requires_action         error    archived
ExpireCalls        -        -               -                        requires_action/running -        -
ReportAgents       -        -               -                        requires_action/running -        -
LookAgain          waiting  running         interrupting             requires_action         error    archived
Close              waiting  interrupting    interrupting             waiting                 error    archived
Pin                waiting  running         interrupting             requires_action         error    archived
ChooseModel        waiting  running         interrupting             requires_action         error    archived
EditQueued         waiting  running         interrupting             requires_action         error    archived
StartAttempt       -        running         -                        -                       -        -
KeepAnswer         -        running         -                        -                       -        -
ScheduleRetry      -        running         -                        -                       -        -
CommitStep         -        running/requires_action -                -                       -        -
StartCalls         -        running         -                        -                       -        -
AskAgain           -        running/requires_action -                -                       -        -
CommitSummary      -        waiting/running -                        -                       -        -
AwaitSignIn        -        running/requires_action -                -                       -        -
AskUser            -        running/requires_action -                -                       -        -
FinishTurn         -        waiting/running -                        -                       -        -
FinishInterruption -        -               waiting/running/archived -                       -        -
Fail               -        error           -                        -                       -        -
Release            -        running         interrupting             -                       -        -
"""


def specified() -> dict[str, dict[Phase, set[Phase]]]:
    header, *lines = SPECIFICATION.strip("\n").splitlines()
    phases = [Phase(word) for word in header.split()[1:]]
    table = {}
    for line in lines:
        event, *cells = line.split()
        targets = [set() if cell == "-" else {Phase(word) for word in cell.split("/")} for cell in cells]
        table[event] = dict(zip(phases, targets, strict=True))
    return table


def is_owners(command: Command) -> bool:
    return isinstance(command, get_args(OwnerCommand))


def attempt(state: ChatState, command: Command) -> Decision:
    """``decide``, for an owner's command as if its worker were the recorded owner."""
    if is_owners(command):
        state = msgspec.structs.replace(state, worker_id=WORKER)
        return decide(state, command, fence_of(state))
    return decide(state, command, facts=A_USERS_MESSAGE)


def busy_of(command: Command) -> Busy | None:
    return command.busy if isinstance(command, Send) else None


def refusal(state: ChatState, command: Command) -> type[Exception] | None:
    """The error that this pair has to raise, None if it is allowed."""
    if not specified()[event_name(command)][state.phase]:
        if is_owners(command):
            return Moved
        if state.archived or state.archiving:
            return ChatArchived
        if busy_of(command) is Busy.REJECT or isinstance(command, Insert | DeleteMessage):
            return ChatBusy
        return unanswerable(state, command) if isinstance(command, Answer) else NotAllowedInStatus
    if state.archiving and isinstance(command, REFUSED_WHILE_ARCHIVING):
        return ChatArchived
    return missing(state, command)


def missing(state: ChatState, command: Command) -> type[Exception] | None:
    """The error for what the command names and the chat does not have, None if it has it."""
    name = event_name(command)
    if name in ("DeleteQueued", "EditQueued", "Promote") and not state.queue:
        return QueuedMessageNotFound
    if isinstance(command, AnswerQuestions) and state.status is Status.RUNNING:
        return None if asks_now(state) else unanswerable(state, command)
    if isinstance(command, Answer):
        return None if the_call(state) is ANSWERED[name] else NotAllowedInStatus
    if isinstance(command, ReportAgents):
        return None if the_call(state) is CallState.AGENTS else NotAllowedInStatus
    if name in ("StartCalls", "AskAgain", "AwaitSignIn", "AskUser", "CommitStep"):
        return None if the_call(state) in OWNED[name] else Moved
    if isinstance(command, Send) and len(state.queue) == QUEUE_MESSAGES_MAX:
        stays_busy = (
            state.phase in specified()[name][state.phase] or Phase.INTERRUPTING in specified()[name][state.phase]
        )
        return QueueFull if stays_busy else None
    return None


ANSWERED = {
    "SubmitToolResults": CallState.CLIENT,
    "Approve": CallState.APPROVAL,
    "Deny": CallState.APPROVAL,
    "SignedIn": CallState.SIGN_IN,
    "AnswerQuestions": CallState.QUESTION,
}
"""The state of a call that an answer is for."""

OWNED = {
    "StartCalls": {CallState.PENDING, CallState.STARTED},
    "AskAgain": {CallState.PENDING, CallState.STARTED},
    "AwaitSignIn": {CallState.STARTED},
    "AskUser": {CallState.STARTED},
    "CommitStep": set(CallState),
}
"""The states of a call that an owner's event may name."""


def the_call(state: ChatState) -> CallState | None:
    """The state of the call that the commands name, None if it is not open."""
    return next((call.state for call in state.open_calls if call.call_id == "call"), None)


def asks_now(state: ChatState) -> bool:
    """Whether the server of the call that the commands name waits for the user."""
    return any(call.asks_now for call in state.open_calls if call.call_id == "call")


def unanswerable(state: ChatState, command: Answer) -> type[Exception]:
    """Why there is nothing to answer in a chat that requires no action."""
    match the_call(state):
        case None:
            return ToolCallNotFound
        case CallState.PENDING | CallState.STARTED:
            return CallAnswered
        case _:
            return NotAllowedInStatus


def test_the_table_is_the_specification() -> None:
    assert {
        event: {phase: set(targets) for phase, targets in row.items()} for event, row in TABLE.items()
    } == specified()


def test_every_event_has_a_row_and_every_row_says_something_about_every_phase() -> None:
    commands = {type(command) for command in EVENTS.values()}
    assert commands == {*get_args(UserCommand), *get_args(OwnerCommand), ExpireCalls, ReportAgents, LookAgain}
    assert {event: set(row) for event, row in TABLE.items()} == {event: set(Phase) for event in EVENTS}


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_lands_where_the_table_says_or_is_refused_with_nothing_half_applied(event: str) -> None:
    command = EVENTS[event]
    assert event_name(command) == event
    taken: dict[Phase, set[Phase]] = {phase: set() for phase in Phase}
    for state in every_state():
        before = msgspec.json.encode(state)
        expected = refusal(state, command)
        if expected is None:
            after = attempt(state, command).state
            taken[state.phase].add(after.phase)
            assert after.snapshot_version == state.snapshot_version + 1
            assert after.runnable or after.worker_id is None, "an owner where there is no work"
            assert not after.archiving or after.phase is Phase.INTERRUPTING
        else:
            with pytest.raises(expected) as refused:
                attempt(state, command)
            assert refused.type is expected
        assert msgspec.json.encode(state) == before
    assert taken == specified()[event], "an edge of the table that no state takes"


def test_an_owners_event_without_its_tenure_is_fenced_in_every_state() -> None:
    """P2: a stale owner, or one of a chat that nobody owns any more, changes nothing."""
    for state in every_state():
        for command in filter(is_owners, EVENTS.values()):
            current = fence_of(state)
            stale = [
                msgspec.structs.replace(current, epoch=state.epoch - 1),
                msgspec.structs.replace(current, worker_id=STRANGER),
                *([] if state.worker_id else [current]),
            ]
            for fence in stale:
                with pytest.raises(Fenced):
                    decide(state, command, fence)


def test_an_owners_event_that_worked_from_older_history_has_to_decide_again() -> None:
    for state in every_state():
        if state.worker_id is not None:
            older = msgspec.structs.replace(fence_of(state), history_version=state.history_version - 1)
            for command in filter(is_owners, EVENTS.values()):
                with pytest.raises(Moved):
                    decide(state, command, older)
