"""What single decisions do to history, queue and versions; and what holds after any sequence of them."""

from __future__ import annotations

import msgspec
import pytest
from chat_states import (
    A_USERS_MESSAGE,
    EVENTS,
    WORKER,
    assistant,
    calls,
    every_state,
    fence_of,
    queue_of,
    state_of,
    text,
    user,
)

from chatcluster.chat import (
    CANCELLED_TEXT,
    QUEUE_BYTES_MAX,
    QUEUE_MESSAGES_MAX,
    Archive,
    Busy,
    ChatSetup,
    ChatState,
    CommitStep,
    CommitSummary,
    Compact,
    Create,
    Decision,
    DeleteMessage,
    DeleteQueued,
    Edit,
    EditQueued,
    Facts,
    FinishInterruption,
    FinishTurn,
    Insert,
    OwnerCommand,
    Phase,
    Promote,
    Release,
    Rename,
    Replaced,
    Retry,
    ScheduleRetry,
    Send,
    StartAttempt,
    Status,
    Unarchive,
    create,
    decide,
)
from chatcluster.chat.draft import Span
from chatcluster.errors import (
    CallerError,
    ChatArchived,
    MessageNotFound,
    MessageNotUser,
    MessageSummarized,
    Moved,
    OwnershipError,
    ParentArchived,
    QueueFull,
)
from chatcluster.parts import NewMessage, Role, TextPart, ToolResultPart

WAITING, RUNNING, INTERRUPTING, REQUIRES_ACTION, ERROR = Status

CANCELLED = NewMessage(Role.TOOL, (ToolResultPart("call", CANCELLED_TEXT, is_error=True),))

PARTIAL = assistant("half an ans", finish_reason="interrupted")


def owner(state: ChatState, command: OwnerCommand) -> Decision:
    return decide(state, command, fence_of(state))


def texts(state: ChatState) -> list[str]:
    """The queue, as the text of its messages."""
    return [part.text for queued in state.queue for part in queued.parts if isinstance(part, TextPart)]


# --- inserting, and deleting one message --------------------------------------------------------


def test_what_is_inserted_is_at_the_end_answered_by_nobody_and_its_calls_are_nobodys_to_run() -> None:
    said = (user("by the way"), assistant("let me see", "call"))
    for status in (WAITING, ERROR):
        before = state_of(status)
        decision = decide(before, Insert(said))
        after = decision.state
        assert (decision.messages, after.status, after.open_calls) == (said, status, ())
        assert (after.history_version, after.reset_version) == (11, before.reset_version)
        assert decision.ended is None


def test_a_message_that_is_deleted_leaves_what_follows_and_readers_begin_anew() -> None:
    decision = decide(state_of(WAITING), DeleteMessage(5), facts=A_USERS_MESSAGE)
    assert (decision.delete, decision.messages) == ((5, 5), ())
    assert (decision.state.history_version, decision.state.reset_version) == (11, 11)
    with pytest.raises(MessageNotFound):
        decide(state_of(WAITING), DeleteMessage(5))


def test_what_a_summary_tells_of_is_not_deleted_from_under_it() -> None:
    summarised = state_of(WAITING, summaries=(6,))
    for revision in (5, 6):
        with pytest.raises(MessageSummarized):
            decide(summarised, DeleteMessage(5), facts=Facts(replaced=Replaced(Role.USER, revision=revision)))
    decide(summarised, DeleteMessage(5), facts=Facts(replaced=Replaced(Role.USER, revision=7)))


# --- sending ----------------------------------------------------------------------------------


def test_a_new_chat_runs_at_once_with_its_first_messages_at_version_1() -> None:
    first = (NewMessage(Role.SYSTEM, text("be brief")), user("hello"))
    decision = create(Create(first))
    assert decision.messages == first
    assert decision.state.claimable
    state = decision.state
    assert (state.status, state.snapshot_version, state.history_version, state.queue_version) == (RUNNING, 1, 1, 0)


def test_a_message_to_a_resting_chat_goes_into_history_and_starts_it() -> None:
    decision = decide(state_of(WAITING), Send(text("hello")))
    assert decision.messages == (user("hello"),)
    assert decision.enqueue is None
    assert decision.state.claimable


def test_a_message_to_a_failed_chat_starts_it_again_and_clears_its_error() -> None:
    decision = decide(state_of(ERROR), Send(text("again")))
    assert decision.messages == (user("again"),)
    assert decision.state.last_error is None


@pytest.mark.parametrize("status", [RUNNING, INTERRUPTING, REQUIRES_ACTION])
def test_a_message_to_a_busy_chat_waits_in_the_queue_and_leaves_the_run_alone(status: Status) -> None:
    before = state_of(status, open_calls=calls("call"))
    decision = decide(before, Send(text("later")))
    assert decision.enqueue == user("later")
    assert decision.messages == ()
    after = decision.state
    assert (after.status, after.history_version, after.attempt) == (status, before.history_version, before.attempt)
    assert (after.worker_id, after.open_calls) == (before.worker_id, before.open_calls)
    assert after.queue_version == after.snapshot_version == before.snapshot_version + 1


def test_an_interrupting_message_waits_for_the_partial_answer_instead_of_going_before_it() -> None:
    decision = decide(state_of(RUNNING), Send(text("stop, do this"), Busy.INTERRUPT))
    assert decision.enqueue == user("stop, do this")
    assert decision.messages == ()
    assert decision.state.status is INTERRUPTING
    assert decision.state.worker_id is not None, "the owner finishes the interruption"


def test_an_interrupting_message_to_a_chat_that_waits_for_an_action_cancels_its_calls() -> None:
    decision = decide(state_of(REQUIRES_ACTION, open_calls=calls("call")), Send(text("never mind"), Busy.INTERRUPT))
    assert decision.messages == (CANCELLED, user("never mind"))
    assert decision.calls.closed == ("call",)
    assert decision.state.claimable


@pytest.mark.parametrize(
    ("status", "busy"), [(WAITING, Busy.QUEUE), (ERROR, Busy.QUEUE), (REQUIRES_ACTION, Busy.INTERRUPT)]
)
def test_a_message_goes_behind_a_queue_that_is_left_and_the_head_is_promoted(status: Status, busy: Busy) -> None:
    decision = decide(state_of(status, queue=queue_of("A", "B")), Send(text("C"), busy))
    assert decision.messages == (user("A"),)
    assert decision.dequeue == (1,)
    assert decision.enqueue == user("C")
    assert texts(decision.state) == ["B"], "the store puts C behind it, with the ID that it gives"
    assert decision.state.status is RUNNING


@pytest.mark.parametrize("status", [RUNNING, INTERRUPTING, REQUIRES_ACTION])
def test_the_21st_queued_message_is_refused(status: Status) -> None:
    full = state_of(status, queue=queue_of(*("x" * QUEUE_MESSAGES_MAX)))
    with pytest.raises(QueueFull):
        decide(full, Send(text("one more")))
    one_less = state_of(status, queue=full.queue[1:])
    assert decide(one_less, Send(text("one more"))).enqueue is not None


def test_a_queue_is_bounded_by_its_bytes_as_well() -> None:
    """P10: control characters take six bytes each, and a queue is told of in one piece."""
    heavy = "\x01" * (QUEUE_BYTES_MAX // 6 // 4)
    almost_full = state_of(RUNNING, queue=queue_of(*[heavy] * 3))
    with pytest.raises(QueueFull):
        decide(almost_full, Send(text(heavy)))
    assert decide(almost_full, Send(text("one more"))).enqueue is not None
    alone = state_of(RUNNING)
    assert decide(alone, Send(text(heavy * 5))).enqueue is not None, "a message that is alone has room"
    too_full = state_of(RUNNING, queue=queue_of(*[heavy] * 5))
    assert decide(too_full, EditQueued(1, text("less"))).requeue is not None, "as a version with a higher bound left it"
    with pytest.raises(QueueFull):
        decide(too_full, EditQueued(1, text(heavy + "more")))


@pytest.mark.parametrize("status", [WAITING, ERROR])
def test_a_full_queue_does_not_refuse_the_message_that_makes_room_in_it(status: Status) -> None:
    full = state_of(status, queue=queue_of(*("x" * QUEUE_MESSAGES_MAX)))
    decision = decide(full, Send(text("go on")))
    assert len(decision.state.queue) + 1 == QUEUE_MESSAGES_MAX


# --- the queue --------------------------------------------------------------------------------


def test_promoting_b_of_a_b_c_while_running_makes_the_order_b_a_c() -> None:
    before = state_of(RUNNING, queue=queue_of("A", "B", "C"))
    decision = decide(before, Promote(2))
    assert texts(decision.state) == ["B", "A", "C"]
    assert decision.queue_head == 2
    assert decision.state.status is INTERRUPTING
    assert decision.messages == (), "it enters history after the partial answer"
    finished = owner(decision.state, FinishInterruption(PARTIAL))
    assert finished.messages == (PARTIAL, user("B"))
    assert texts(finished.state) == ["A", "C"]


@pytest.mark.parametrize("status", [ERROR, WAITING, REQUIRES_ACTION])
def test_promoting_in_a_chat_that_does_not_run_puts_the_message_into_history_at_once(status: Status) -> None:
    open_calls = calls("call") if status is REQUIRES_ACTION else ()
    decision = decide(state_of(status, queue=queue_of("A", "B", "C"), open_calls=open_calls), Promote(2))
    assert decision.messages == (*((CANCELLED,) if open_calls else ()), user("B"))
    assert decision.dequeue == (2,)
    assert decision.queue_head is None, "it is in history, not at the head of the queue"
    assert texts(decision.state) == ["A", "C"]
    assert decision.state.claimable


def test_deleting_a_queued_message_changes_the_queue_and_nothing_else() -> None:
    before = state_of(RUNNING, queue=queue_of("A", "B"))
    after = decide(before, DeleteQueued(1)).state
    assert texts(after) == ["B"]
    assert after == msgspec.structs.replace(before, queue=after.queue, queue_version=11, snapshot_version=11)


def test_the_end_of_a_turn_promotes_the_head_of_the_queue_and_the_owner_goes_on() -> None:
    before = state_of(RUNNING, queue=queue_of("A", "B"))
    decision = owner(before, FinishTurn((assistant("the answer"),)))
    assert decision.messages == (assistant("the answer"), user("A"))
    assert (decision.state.status, decision.state.worker_id) == (RUNNING, before.worker_id)
    assert texts(decision.state) == ["B"]


def test_the_end_of_a_turn_with_an_empty_queue_is_rest_without_an_owner() -> None:
    after = owner(state_of(RUNNING), FinishTurn((assistant("the answer"),))).state
    assert (after.status, after.worker_id, after.attempt) == (WAITING, None, 0)


# --- interrupting -----------------------------------------------------------------------------


def test_an_interruption_keeps_partial_answer_then_synthetic_results_then_promoted_message() -> None:
    """P5: what was generated is kept, and history is in the order in which it was said."""
    before = state_of(INTERRUPTING, queue=queue_of("next"))
    partial = assistant("let me look", "call", finish_reason="interrupted")
    decision = owner(before, FinishInterruption(partial))
    assert decision.messages == (partial, CANCELLED, user("next"))
    assert decision.state.open_calls == ()
    assert (decision.state.status, decision.state.worker_id) == (RUNNING, before.worker_id)


def test_an_interruption_during_tools_answers_those_that_have_no_result_in_call_order() -> None:
    decision = owner(state_of(INTERRUPTING, open_calls=calls("b", "a")), FinishInterruption())
    answered = [
        part.call_id for message in decision.messages for part in message.parts if isinstance(part, ToolResultPart)
    ]
    assert answered == ["b", "a"]
    assert decision.state.status is WAITING


def test_an_interruption_before_the_first_word_leaves_history_alone() -> None:
    before = state_of(INTERRUPTING)
    decision = owner(before, FinishInterruption())
    assert decision.messages == ()
    assert decision.state.history_version == before.history_version
    assert (decision.state.status, decision.state.worker_id) == (WAITING, None)


# --- editing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", list(Status))
def test_an_edit_truncates_history_empties_the_queue_and_makes_open_work_obsolete(status: Status) -> None:
    before = state_of(status, queue=queue_of("A", "B"), open_calls=calls("call"))
    decision = decide(before, Edit(5, text("better")), facts=A_USERS_MESSAGE)
    assert decision.delete == Span(5)
    assert decision.messages == (user("better"),), "no result for calls that are deleted with their message"
    assert decision.dequeue == (1, 2)
    after = decision.state
    assert (after.queue, after.open_calls, after.attempt, after.last_error) == ((), (), 0, None)
    assert after.history_version == after.queue_version == after.reset_version == after.snapshot_version
    assert (after.status, after.worker_id) == (RUNNING, before.worker_id)


def test_only_a_users_message_that_exists_can_be_edited() -> None:
    with pytest.raises(MessageNotFound):
        decide(state_of(WAITING), Edit(5, text("better")))
    for role in (Role.ASSISTANT, Role.TOOL, Role.SYSTEM):
        with pytest.raises(MessageNotUser):
            decide(state_of(WAITING), Edit(5, text("better")), facts=Facts(replaced=Replaced(role)))


# --- archiving --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [RUNNING, INTERRUPTING, REQUIRES_ACTION])
def test_archiving_a_busy_chat_ends_its_work_keeps_the_queue_and_promotes_nothing(status: Status) -> None:
    before = state_of(status, queue=queue_of("A"), open_calls=calls("call"))
    archiving = decide(before, Archive()).state
    assert (archiving.phase, archiving.archiving, archiving.runnable) == (Phase.INTERRUPTING, True, True)
    claimed = msgspec.structs.replace(archiving, worker_id=WORKER)
    finished = owner(claimed, FinishInterruption())
    assert finished.messages == (CANCELLED,)
    after = finished.state
    assert (after.phase, after.archiving, after.worker_id) == (Phase.ARCHIVED, False, None)
    assert texts(after) == ["A"]
    assert not after.runnable


@pytest.mark.parametrize("status", [WAITING, ERROR])
def test_an_archived_chat_comes_back_as_it_was(status: Status) -> None:
    before = state_of(status, queue=queue_of("A"))
    archived = decide(before, Archive()).state
    assert archived.phase is Phase.ARCHIVED
    after = decide(archived, Unarchive()).state
    assert after == msgspec.structs.replace(before, snapshot_version=12, cause="unarchive")


def test_a_chat_whose_archiving_is_under_way_takes_no_new_work() -> None:
    archiving = state_of(INTERRUPTING, archiving=True, queue=queue_of("A"))
    for command in (Send(text("more")), Edit(5, text("better")), Promote(1), Archive()):
        with pytest.raises(ChatArchived):
            decide(archiving, command)
    assert decide(archiving, DeleteQueued(1)).dequeue == (1,)


def test_a_child_of_an_archived_chat_stays_archived() -> None:
    with pytest.raises(ParentArchived):
        decide(state_of(WAITING, archived=True), Unarchive(), facts=Facts(parent_archived=True))


# --- attempts and retries ---------------------------------------------------------------------

RETRY = Retry(attempt=2, delay_ms=1000, error="busy", kind="overloaded")


def test_a_retry_is_kept_until_the_next_attempt_starts() -> None:
    waiting = owner(state_of(RUNNING), ScheduleRetry(RETRY)).state
    assert (waiting.retry, waiting.attempt) == (RETRY, 2)
    started = owner(waiting, StartAttempt()).state
    assert (started.retry, started.attempt) == (None, 3)


def test_a_model_that_is_not_asked_again_counts_for_all_its_failures_and_no_count_goes_back() -> None:
    waiting = owner(state_of(RUNNING), ScheduleRetry(RETRY, failures=6)).state
    assert waiting.failures == 6
    again = owner(waiting, ScheduleRetry(RETRY, failures=6)).state
    assert again.failures == 6, "a repeat of the same commit"
    started = owner(again, StartAttempt()).state
    assert owner(started, ScheduleRetry(msgspec.structs.replace(RETRY, attempt=3), failures=2)).state.failures == 7


def test_a_retry_survives_the_release_of_the_chat() -> None:
    released = owner(state_of(RUNNING, retry=RETRY), Release())
    assert (released.state.retry, released.state.worker_id) == (RETRY, None)
    assert released.state.claimable


def test_an_attempt_that_was_on_when_its_start_was_lost_keeps_its_number() -> None:
    state = state_of(RUNNING, attempt=1, retry=msgspec.structs.replace(RETRY, attempt=1))
    released = owner(state, Release(attempt=2)).state
    assert (released.attempt, released.retry) == (2, None)
    assert owner(state, Release(attempt=1)).state.retry is not None, "that attempt had failed"
    started = owner(state, StartAttempt(3)).state
    assert (started.attempt, started.retry) == (3, None)
    with pytest.raises(Moved):
        owner(started, StartAttempt(3))


def test_attempt_and_retry_start_anew_with_every_history_version() -> None:
    changed = 0
    for before in every_state():
        state = msgspec.structs.replace(before, retry=RETRY if before.status is RUNNING else None)
        for command in EVENTS.values():
            try:
                after = decide(state, command).state
            except (CallerError, OwnershipError):
                continue
            if after.history_version != state.history_version:
                starts_next = isinstance(command, CommitStep | CommitSummary) and after.status is RUNNING
                starts_next &= not state.compacting
                assert (after.attempt, after.retry) == (int(starts_next), None)
                changed += 1
    assert changed > 0


# --- compaction and side jobs -----------------------------------------------------------------


def test_a_compaction_is_one_request_that_ends_with_its_turn() -> None:
    compacting = decide(state_of(WAITING), Compact())
    assert compacting.state.compacting
    assert compacting.state.claimable
    owned = msgspec.structs.replace(compacting.state, worker_id=WORKER)
    assert not owner(owned, FinishTurn((assistant("the summary"),))).state.compacting


def test_a_side_job_touches_nothing_that_fences_a_run() -> None:
    for before in every_state():
        decision = decide(before, Rename("a title"))
        assert decision.setup == ChatSetup(title="a title")
        assert decision.state == msgspec.structs.replace(before, snapshot_version=before.snapshot_version + 1)
