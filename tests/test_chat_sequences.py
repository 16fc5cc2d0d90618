"""What holds after any sequence of events, whoever sends them: random walks through the state machine."""

from __future__ import annotations

from itertools import count
from typing import get_args

import msgspec
from chat_states import CHAT, EVENTS, WORKER, Seen, command_for, user
from hypothesis import given, settings
from hypothesis import strategies as st

from chatcluster.chat import (
    QUEUE_MESSAGES_MAX,
    TABLE,
    Close,
    Command,
    Create,
    Decision,
    DeleteMessage,
    DeleteQueued,
    Edit,
    EditQueued,
    Facts,
    Fence,
    FinishInterruption,
    FinishTurn,
    Insert,
    OwnerCommand,
    Phase,
    Queued,
    Replaced,
    Send,
    Status,
    create,
    decide,
)
from chatcluster.errors import CallerError, OwnershipError
from chatcluster.parts import NewMessage, Role, ToolCallPart, ToolResultPart, text_of

STEPS = 60


def is_deleted(number: int, decision: Decision) -> bool:
    return decision.delete is not None and decision.delete.first <= number <= decision.delete.last


class Walk:
    """A chat that writes what decisions say, as a store does, and keeps account of the users' messages."""

    def __init__(self) -> None:
        decision = create(Create((user("message 0"),)))
        self.serial = count(1)
        self.state = decision.state
        self.history: dict[int, NewMessage] = {}
        self.accepted = {"message 0"}
        self.discarded: set[str] = set()
        self.write(decision)

    def claim(self) -> None:
        if self.state.claimable:
            version = self.state.snapshot_version + 1
            epoch = self.state.epoch + 1
            self.state = msgspec.structs.replace(self.state, worker_id=WORKER, epoch=epoch, snapshot_version=version)

    def attempt(self, command: Command) -> None:
        """Carry the command out, or see that it is refused and changes nothing."""
        fence = None
        if isinstance(command, OwnerCommand):
            fence = Fence(CHAT, WORKER, self.state.epoch, self.state.history_version)
        before = self.state
        try:
            decision = decide(before, command, fence, self.facts(command))
        except (CallerError, OwnershipError):
            return
        self.account_for(command, decision)
        self.write(decision)
        assert self.state.snapshot_version == before.snapshot_version + 1
        rewritten = bool(decision.messages) or decision.delete is not None
        assert self.state.history_version == (self.state.snapshot_version if rewritten else before.history_version)
        queue_changed = [queued.id for queued in self.state.queue] != [queued.id for queued in before.queue]
        assert not queue_changed or self.state.queue_version == self.state.snapshot_version

    def facts(self, command: Command) -> Facts:
        found = self.history.get(command.message_id) if isinstance(command, Edit | DeleteMessage) else None
        return Facts(None if found is None else Replaced(found.role))

    def account_for(self, command: Command, decision: Decision) -> None:
        if isinstance(command, EditQueued):
            self.discarded |= {text_of(item.parts) for item in self.state.queue if item.id == command.queued_id}
        if isinstance(command, Send | Edit | EditQueued):
            self.accepted.add(text_of(command.parts))
        if isinstance(command, Insert):
            self.accepted.add(text_of(command.messages[0].parts))
        if isinstance(command, DeleteQueued | Edit | Close):
            self.discarded |= {text_of(item.parts) for item in self.state.queue if item.id in decision.dequeue}
        if decision.delete is not None:
            deleted = [message for number, message in self.history.items() if is_deleted(number, decision)]
            self.discarded |= {text_of(message.parts) for message in deleted if message.role is Role.USER}

    def write(self, decision: Decision) -> None:
        if decision.delete is not None:
            self.history = {number: kept for number, kept in self.history.items() if not is_deleted(number, decision)}
        self.history |= {next(self.serial): message for message in decision.messages}
        self.state = decision.state
        if decision.enqueue is not None:
            queue = (*self.state.queue, Queued(next(self.serial), decision.enqueue.parts, steered=decision.steer))
            self.state = msgspec.structs.replace(self.state, queue=queue)

    def seen(self) -> Seen:
        return Seen(
            [queued.id for queued in self.state.queue],
            {number: message.role for number, message in self.history.items()},
            list(self.state.open_calls),
        )

    def check(self) -> None:
        """The promises that hold between any two events."""
        state = self.state
        assert len(state.queue) <= QUEUE_MESSAGES_MAX
        assert state.worker_id is None or state.runnable
        assert not state.archived or state.phase is Phase.ARCHIVED
        assert not state.archiving or state.phase is Phase.INTERRUPTING
        assert not (state.compacting or state.retry) or state.runnable
        assert (state.last_error is not None) == (state.status is Status.ERROR)
        self.check_users_messages()
        self.check_tool_calls()

    def check_users_messages(self) -> None:
        """P1: each accepted message is in one place: history, the queue, or what the user deleted."""
        in_history = [text_of(message.parts) for message in self.history.values() if message.role is Role.USER]
        in_queue = [text_of(queued.parts) for queued in self.state.queue]
        assert sorted([*in_history, *in_queue, *self.discarded]) == sorted(self.accepted)

    def check_tool_calls(self) -> None:
        """Each call has one result or is open; none is open at rest or before a user's message."""
        unanswered: list[str] = []
        for message in self.history.values():
            assert message.role is not Role.USER or not unanswered
            for part in message.parts:
                if isinstance(part, ToolCallPart):
                    unanswered.append(part.id)
                elif isinstance(part, ToolResultPart):
                    unanswered.remove(part.call_id)
        assert unanswered == [call.call_id for call in self.state.open_calls]
        assert not unanswered or self.state.phase in (Phase.RUNNING, Phase.INTERRUPTING, Phase.REQUIRES_ACTION)


def take(walk: Walk, number: int, choice: int) -> None:
    """One step: the events that the table allows in this phase, and now and then any other."""
    allowed = [event for event in EVENTS if TABLE[event][walk.state.phase]]
    events = list(EVENTS) if choice % 8 == 0 else allowed
    event = events[choice // 8 % len(events)]
    if walk.state.claimable and isinstance(EVENTS[event], get_args(OwnerCommand)):
        walk.claim()
    walk.attempt(command_for(event, number, choice, walk.seen()))


WALKS = st.lists(st.integers(0, 2**20), min_size=STEPS // 2, max_size=STEPS)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(WALKS)
def test_no_sequence_of_events_breaks_a_promise(choices: list[int]) -> None:
    walk = Walk()
    for number, choice in enumerate(choices, start=1):
        take(walk, number, choice)
        walk.check()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(WALKS)
def test_a_running_chat_can_always_be_brought_to_rest(choices: list[int]) -> None:
    """P4: no sequence of events leads to a state that an owner cannot finish."""
    walk = Walk()
    for number, choice in enumerate(choices, start=1):
        take(walk, number, choice)
    for _ in range(2 * QUEUE_MESSAGES_MAX):
        walk.claim()
        walk.attempt(FinishTurn())
        walk.attempt(FinishInterruption())
    assert not walk.state.runnable
    assert walk.state.worker_id is None
    walk.check()
