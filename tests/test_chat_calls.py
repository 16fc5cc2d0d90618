"""What single decisions do to tool calls, and to a chat whose turn waits for somebody."""

from __future__ import annotations

import msgspec
import pytest
from chat_states import (
    APPROVAL,
    CLIENT,
    PENDING,
    QUESTIONS,
    REPLIES,
    STARTED,
    WORKER,
    assistant,
    call,
    calls,
    fence_of,
    queue_of,
    result,
    state_of,
    steered,
    text,
    user,
)

from chatcluster.chat import (
    CANCELLED_RUNNING_TEXT,
    CANCELLED_TEXT,
    DENIED_TEXT,
    EARLIER_RUN_TEXT,
    NOT_APPROVED_AGAIN_TEXT,
    NOT_APPROVED_TEXT,
    TIMED_OUT_TEXT,
    Approve,
    Archive,
    AskAgain,
    AwaitSignIn,
    Busy,
    CallState,
    ChatSetup,
    ChatState,
    Command,
    CommitStep,
    Configure,
    Decision,
    DeleteQueued,
    Deny,
    Edit,
    ErrorInfo,
    ExpireCalls,
    Facts,
    Fail,
    FinishInterruption,
    FinishTurn,
    Grant,
    Interrupt,
    OpenCall,
    OwnerCommand,
    Phase,
    Promote,
    Release,
    Remember,
    Replaced,
    Send,
    StartCalls,
    Status,
    SubmitToolResults,
    ToolResult,
    TurnOutcome,
    decide,
    digest_of,
)
from chatcluster.chat.questions import Inquiry, encoded
from chatcluster.errors import CallAnswered, CallChanged, Moved, NotAllowedInStatus, ToolCallNotFound, Unreadable
from chatcluster.parts import (
    CONTENT_VERSION,
    ImagePart,
    JsonPart,
    NewMessage,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_of,
)

WAITING, RUNNING, INTERRUPTING, REQUIRES_ACTION, ERROR = Status
EVERY_STATE_OF_A_CALL = (PENDING, STARTED, APPROVAL, CLIENT)


def owner(state: ChatState, command: OwnerCommand) -> Decision:
    return decide(state, command, fence_of(state))


def answer(call_id: str, words: str) -> NewMessage:
    """A result that the cluster gives in place of a call's own."""
    return NewMessage(Role.TOOL, (ToolResultPart(call_id, words, is_error=True),))


def plan(call_id: str, state: CallState, **fields: object) -> OpenCall:
    return msgspec.structs.replace(OpenCall(call_id, "tool", state), **fields)


def step(*plans: OpenCall) -> CommitStep:
    """An assistant's message that asks for these calls, begun as planned."""
    return CommitStep((assistant("let me look", *(planned.call_id for planned in plans)),), plans)


# --- a step and its results -------------------------------------------------------------------


def test_a_step_opens_its_calls_and_their_results_close_them() -> None:
    asked = owner(state_of(RUNNING), CommitStep((assistant("let me look", "a", "b"),)))
    assert asked.calls.opened == asked.state.open_calls == calls("a", "b")
    answered = owner(asked.state, CommitStep((result("a"), result("b"))))
    assert answered.calls.closed == ("a", "b")
    assert answered.state.open_calls == ()


def test_a_call_begins_as_its_owner_planned_it_and_is_named_by_what_the_model_wrote() -> None:
    message = NewMessage(Role.ASSISTANT, (ToolCallPart("a", "files__read", '{"path": "x"}'),))
    planned = OpenCall("a", "?", STARTED, effect="read", seconds=60.0, digest="?")
    opened = owner(state_of(RUNNING), CommitStep((message,), (planned,))).state.open_calls[0]
    assert (opened.name, opened.effect, opened.seconds) == ("files__read", "read", 60.0)
    assert opened.digest == digest_of('{"path": "x"}')
    assert opened.started_epoch == state_of(RUNNING).epoch, "it runs in this tenure"


def test_a_call_that_nothing_is_said_about_must_not_be_run_twice() -> None:
    opened = owner(state_of(RUNNING), CommitStep((assistant("let me look", "a"),))).state.open_calls[0]
    assert (opened.state, opened.effect, opened.started_epoch) == (PENDING, "once", None)


def test_a_step_that_goes_on_starts_the_next_attempt_with_it() -> None:
    """Of the model, or at what the calls that are open give: its frames are told from those of a tenure before."""
    first = owner(state_of(RUNNING, open_calls=calls("a", "b", state=STARTED)), CommitStep((result("a"),)))
    assert (first.state.attempt, first.state.history_version) == (1, 11)
    last = owner(first.state, CommitStep((result("b"),)))
    assert (last.state.attempt, last.state.history_version, last.state.status) == (1, 12, RUNNING)


def test_a_step_that_leaves_all_to_others_starts_no_attempt() -> None:
    waiting = OpenCall("a", "tool", APPROVAL)
    rests = owner(state_of(RUNNING), CommitStep((assistant("hm", "a"),), (waiting,))).state
    assert (rests.status, rests.attempt) == (Status.REQUIRES_ACTION, 0)


def test_calls_that_cannot_be_run_have_their_results_in_the_commit_that_brings_them() -> None:
    decision = owner(state_of(RUNNING), CommitStep((assistant("hm", "a", "b"), result("a"))))
    assert [call.call_id for call in decision.state.open_calls] == ["b"]
    none_left = owner(state_of(RUNNING), CommitStep((assistant("hm", "a"), result("a"))))
    assert (none_left.state.open_calls, none_left.state.attempt) == ((), 1)


def test_an_interruption_keeps_the_results_that_were_there() -> None:
    """P7: what has run is not said to have been cancelled."""
    state = state_of(Status.INTERRUPTING, open_calls=calls("a", "b", state=STARTED))
    command = FinishInterruption(results=(result("b", "kept"), result("gone", "late")))
    results = [part for message in owner(state, command).messages for part in message.parts]
    assert [(part.call_id, part.text == "kept") for part in results if isinstance(part, ToolResultPart)] == [
        ("b", True),
        ("a", False),
    ]


def test_a_call_that_is_given_back_in_order_saw_nobody_die() -> None:
    """One that may be run again is run by the next owner; of another one nobody knows what became."""
    state = state_of(RUNNING)
    ours = OpenCall("a", "tool", STARTED, effect="read", started_epoch=state.epoch)
    of_the_dead = OpenCall("b", "tool", STARTED, effect="read", started_epoch=state.epoch - 1)
    once = OpenCall("c", "tool", STARTED, started_epoch=state.epoch)
    after = owner(msgspec.structs.replace(state, open_calls=(ours, of_the_dead, once)), Release()).state.open_calls
    assert [call.state for call in after] == [PENDING, STARTED, STARTED]
    assert after[0].started_epoch == state.epoch, "it is known to have run"


def test_a_result_of_a_call_that_has_one_is_refused() -> None:
    """P7: each call has exactly one result, whoever would give it another."""
    state = state_of(RUNNING, open_calls=calls("a", state=STARTED))
    answered = owner(state, CommitStep((result("a"),))).state
    for again in (CommitStep((result("a"),)), CommitStep((result("never"),))):
        with pytest.raises(Moved):
            owner(answered, again)


def test_a_turn_leaves_no_call_without_a_result_behind() -> None:
    for command in (FinishTurn(), Fail(ErrorInfo("generic", "it failed"))):
        assert owner(state_of(RUNNING, open_calls=calls("call")), command).messages == (answer("call", CANCELLED_TEXT),)


# --- running ----------------------------------------------------------------------------------


def test_a_call_is_started_by_a_transition_that_moves_no_history() -> None:
    before = state_of(RUNNING, open_calls=calls("a", "b"))
    decision = owner(before, StartCalls(("a",)))
    assert decision.calls.changed == calls("a", state=STARTED)
    assert decision.state.open_calls == (call("a", STARTED), call("b"))
    assert (decision.state.history_version, decision.state.attempt) == (before.history_version, before.attempt)


def test_to_start_a_call_again_in_the_same_tenure_changes_nothing() -> None:
    started = owner(state_of(RUNNING, open_calls=calls("a")), StartCalls(("a",))).state
    again = owner(started, StartCalls(("a",)))
    assert (again.calls.changed, again.state.open_calls) == ((), started.open_calls)


def test_a_call_counts_the_workers_that_died_while_they_ran_it() -> None:
    state = state_of(RUNNING, open_calls=(call("a", STARTED, started_epoch=2),))
    for deaths, epoch in enumerate((3, 4, 5), start=1):
        state = owner(msgspec.structs.replace(state, epoch=epoch), StartCalls(("a",))).state
        assert (state.open_calls[0].deaths, state.open_calls[0].started_epoch) == (deaths, epoch)


@pytest.mark.parametrize("waiting", [APPROVAL, CLIENT])
def test_a_call_that_waits_for_somebody_cannot_be_started_nor_one_that_is_not_open(waiting: CallState) -> None:
    state = state_of(RUNNING, open_calls=(call("a"), call("b", waiting)))
    for call_id in ("b", "never"):
        with pytest.raises(Moved):
            owner(state, StartCalls((call_id,)))


def test_a_person_decides_about_a_call_whose_worker_died() -> None:
    died = state_of(RUNNING, open_calls=(call("a", STARTED, started_epoch=2, approved=True),))
    decision = owner(died, AskAgain(("a",), 60.0))
    asked = decision.state.open_calls[0]
    assert (asked.state, asked.approved, asked.wait_seconds, asked.started_epoch) == (APPROVAL, False, 60.0, 2)
    assert asked.deaths == 1
    assert (decision.state.status, decision.state.worker_id) == (REQUIRES_ACTION, None)
    with pytest.raises(Moved):
        owner(state_of(RUNNING, open_calls=calls("a", state=APPROVAL)), AskAgain(("a",)))


def test_a_call_that_may_not_run_any_more_is_left_to_a_person_before_it_begins() -> None:
    decision = owner(state_of(RUNNING, open_calls=calls("a")), AskAgain(("a",), 60.0))
    asked = decision.state.open_calls[0]
    assert (asked.state, asked.wait_seconds, asked.deaths, asked.may_have_run) == (APPROVAL, 60.0, 0, False)
    assert decision.state.status is REQUIRES_ACTION
    assert decide(decision.state, Approve("a")).state.claimable, "nobody was shown another one"
    back = call("a", started_epoch=1, effect="idempotent")  # which the tenure before gave back
    asked = owner(state_of(RUNNING, epoch=2, open_calls=(back,)), AskAgain(("a",))).state.open_calls[0]
    assert (asked.deaths, asked.may_have_run) == (0, True)


def asked_again(**fields: object) -> ChatState:
    """A chat whose user is asked whether a call runs again that its last owner died with."""
    died = state_of(RUNNING, open_calls=(call("a", STARTED, started_epoch=2, approved=True, **fields),))
    return owner(died, AskAgain(("a",), 60.0)).state


def test_an_approval_of_a_run_is_none_of_the_next_one() -> None:
    """P7: that of the first comes again, as an HTTP retry or from a tab that is not up to date."""
    asked = asked_again()
    for late in (Approve("a", digest_of("{}")), Approve("a"), Approve("a", arguments="{}")):
        with pytest.raises(CallChanged, match="look at it again"):
            decide(asked, late)
    first = asked.open_calls[0].digest
    assert decide(asked, Approve("a", first)).state.claimable
    died = msgspec.structs.replace(asked.open_calls[0], state=STARTED, started_epoch=3)
    second = owner(state_of(RUNNING, epoch=4, open_calls=(died,)), AskAgain(("a",))).state
    with pytest.raises(CallChanged):
        decide(second, Approve("a", first))


def test_what_was_answered_to_a_run_is_no_answer_to_the_next_one() -> None:
    """Its server held the question, and died with the worker, or never let the call in."""
    held, ended = (Inquiry(QUESTIONS, encoded(REPLIES), resume) for resume in (None, '"state"'))
    assert asked_again(inquiry=held).open_calls[0].inquiry is None
    state = state_of(RUNNING, open_calls=(call("a", STARTED, started_epoch=1, inquiry=held),))
    refused = owner(state, AwaitSignIn(("a",), 60.0)).state.open_calls[0]
    assert refused.inquiry is None
    kept = asked_again(inquiry=ended).open_calls[0].inquiry
    assert kept is not None
    assert kept.replies == REPLIES, "a server that goes on from an answer is given it again"


def test_what_may_have_run_is_not_said_to_be_undone() -> None:
    """The model is told that nobody knows what became of the run before, whatever becomes of the call now."""
    asked = asked_again()
    cases: tuple[tuple[Command, str], ...] = (
        (Deny("a"), DENIED_TEXT),
        (ExpireCalls(("a",)), NOT_APPROVED_AGAIN_TEXT),
        (Interrupt(), CANCELLED_TEXT),
    )
    for command, text_ in cases:
        assert decide(asked, command).messages == (answer("a", f"{text_} {EARLIER_RUN_TEXT}"),)
    denied = decide(asked, Deny("a", "Not today."))
    assert denied.messages == (answer("a", f"{DENIED_TEXT} {EARLIER_RUN_TEXT} Not today."),)
    assert decide(asked_again(effect="read"), Deny("a")).messages == (answer("a", DENIED_TEXT),)


# --- waiting for somebody ---------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [APPROVAL, CLIENT, CallState.AGENTS, CallState.SIGN_IN])
def test_a_chat_all_of_whose_calls_wait_comes_to_rest_with_the_step_that_asks(waiting: CallState) -> None:
    decision = owner(state_of(RUNNING), step(plan("a", waiting), plan("b", waiting)))
    assert (decision.state.status, decision.state.worker_id) == (REQUIRES_ACTION, None)
    assert [opened.state for opened in decision.state.open_calls] == [waiting, waiting]
    assert decision.ended is None, "the turn is under way"


def test_a_chat_comes_to_rest_with_the_last_result_that_its_owner_had_to_bring() -> None:
    asked = owner(state_of(RUNNING), step(plan("a", STARTED), plan("b", APPROVAL), plan("c", PENDING)))
    assert asked.state.status is RUNNING
    first = owner(asked.state, CommitStep((result("a"),)))
    assert first.state.status is RUNNING
    second = owner(first.state, CommitStep((result("c"),)))
    assert (second.state.status, second.state.worker_id) == (REQUIRES_ACTION, None)
    assert [waiting.call_id for waiting in second.state.open_calls] == ["b"]


def test_the_turn_goes_on_when_the_client_has_sent_the_last_result() -> None:
    before = state_of(REQUIRES_ACTION, open_calls=calls("a", "b", state=CLIENT))
    first = decide(before, SubmitToolResults((ToolResult("b", "2"),)))
    assert (first.state.status, first.calls.closed) == (REQUIRES_ACTION, ("b",))
    last = decide(first.state, SubmitToolResults((ToolResult("a", "1"),)))
    assert last.state.open_calls == ()
    assert last.state.claimable


def test_what_its_user_says_with_the_last_result_comes_behind_it() -> None:
    said = NewMessage(Role.USER, (TextPart("and mind the gap"),))
    before = state_of(REQUIRES_ACTION, open_calls=calls("a", state=CLIENT))
    decision = decide(before, SubmitToolResults((ToolResult("a", "1"),), said))
    assert [one.role for one in decision.messages] == [Role.TOOL, Role.USER]
    assert (decision.messages[-1], decision.state.claimable) == (said, True)


def test_what_its_user_says_with_another_result_is_steered_until_the_last_one() -> None:
    said = NewMessage(Role.USER, (TextPart("and mind the gap"),))
    before = state_of(REQUIRES_ACTION, open_calls=calls("a", "b", state=CLIENT))
    decision = decide(before, SubmitToolResults((ToolResult("a", "1"),), said))
    assert [one.role for one in decision.messages] == [Role.TOOL]
    assert (decision.enqueue, decision.steer, decision.state.status) == (said, True, REQUIRES_ACTION)


def test_a_client_may_send_more_than_text() -> None:
    content = (JsonPart('{"n": 1}'), ImagePart("image/png", "aGk="))
    before = state_of(REQUIRES_ACTION, open_calls=calls("a", state=CLIENT))
    decision = decide(before, SubmitToolResults((ToolResult("a", content),)))
    assert decision.messages == (NewMessage(Role.TOOL, (ToolResultPart("a", content),)),)
    assert decision.state.content_version == 2


def test_of_several_submissions_of_one_result_the_first_wins_and_all_of_a_refused_one_is_refused() -> None:
    before = state_of(REQUIRES_ACTION, open_calls=calls("a", "b", state=CLIENT))
    once = decide(before, SubmitToolResults((ToolResult("a", "1"),))).state
    known = Facts(known_calls=frozenset("ab"))
    with pytest.raises(CallAnswered):
        decide(once, SubmitToolResults((ToolResult("b", "2"), ToolResult("a", "2"))), facts=known)
    with pytest.raises(CallAnswered):
        decide(before, SubmitToolResults((ToolResult("a", "1"), ToolResult("a", "2"))), facts=known)
    with pytest.raises(ToolCallNotFound):
        decide(before, SubmitToolResults((ToolResult("never", "1"),)))


def test_an_approved_call_is_the_owners_to_run_and_a_denied_one_has_its_result() -> None:
    before = state_of(REQUIRES_ACTION, open_calls=calls("a", "b", state=APPROVAL))
    approved = decide(before, Approve("a"))
    assert (approved.state.status, approved.messages) == (REQUIRES_ACTION, ())
    assert approved.state.open_calls[0] == call("a", PENDING, approved=True)
    with pytest.raises(CallAnswered):
        decide(approved.state, Approve("a"))
    denied = decide(before, Deny("b"))
    assert denied.messages == (answer("b", DENIED_TEXT),)
    assert decide(before, Deny("b", "not today")).messages == (answer("b", f"{DENIED_TEXT} not today"),)
    assert decide(approved.state, Approve("b")).state.claimable


def test_of_several_answers_to_the_last_call_one_wins_and_the_others_hear_that_it_is_answered() -> None:
    before = state_of(REQUIRES_ACTION, open_calls=calls("a", state=APPROVAL))
    known = Facts(known_calls=frozenset("a"))
    for first in (Approve("a"), Deny("a")):
        after = decide(before, first).state
        assert after.status is RUNNING
        for second in (Approve("a"), Deny("a"), SubmitToolResults((ToolResult("a", "1"),))):
            with pytest.raises(CallAnswered):
                decide(after, second, facts=known)


def test_an_approval_is_for_the_arguments_that_were_shown() -> None:
    before = state_of(REQUIRES_ACTION, open_calls=calls("a", state=APPROVAL))
    with pytest.raises(CallChanged):
        decide(before, Approve("a", digest_of('{"path": "other"}')))
    assert decide(before, Approve("a", digest_of("{}"))).state.claimable


def test_arguments_that_a_person_changed_are_those_that_the_call_has_from_then_on() -> None:
    before = state_of(REQUIRES_ACTION, open_calls=calls("a", state=APPROVAL))
    changed = decide(before, Approve("a", digest_of("{}"), '{"n": 1}')).state.open_calls[0]
    assert (changed.arguments, changed.digest, changed.approved) == ('{"n": 1}', digest_of('{"n": 1}'), True)


def test_a_call_of_the_client_that_is_approved_is_the_clients_to_run() -> None:
    before = state_of(REQUIRES_ACTION, open_calls=(call("a", APPROVAL, run_by="client"),))
    after = decide(before, Approve("a")).state
    assert (after.status, after.open_calls[0].state) == (REQUIRES_ACTION, CLIENT)


@pytest.mark.parametrize("remember", Remember)
def test_an_approval_that_is_to_be_remembered_is_written_with_it(remember: Remember) -> None:
    before = state_of(REQUIRES_ACTION, open_calls=calls("a", state=APPROVAL))
    assert decide(before, Approve("a", remember=remember)).grant == Grant("tool", remember)
    assert decide(before, Approve("a")).grant is None


def test_what_is_allowed_to_the_servers_of_a_workspace_is_allowed_to_no_others() -> None:
    """They have the names that somebody wrote into it, of the cluster's own servers among them."""
    waiting = call("a", APPROVAL, name="github__push", effect="tracked")
    decision = decide(state_of(REQUIRES_ACTION, open_calls=(waiting,)), Approve("a", remember=Remember.ALWAYS))
    assert decision.grant == Grant("workspace/github__push", Remember.ALWAYS)


def test_an_answer_of_the_wrong_kind_is_refused() -> None:
    approval = state_of(REQUIRES_ACTION, open_calls=calls("a", state=APPROVAL))
    with pytest.raises(NotAllowedInStatus, match="does not wait for a result of the client"):
        decide(approval, SubmitToolResults((ToolResult("a", "1"),)))
    client = state_of(REQUIRES_ACTION, open_calls=calls("a", state=CLIENT))
    for command in (Approve("a"), Deny("a")):
        with pytest.raises(NotAllowedInStatus, match="does not wait for an approval"):
            decide(client, command)


def test_calls_whose_time_is_over_are_answered_so_and_the_turn_goes_on() -> None:
    before = state_of(REQUIRES_ACTION, open_calls=(call("a", APPROVAL), call("b", CLIENT), call("c", CLIENT)))
    first = decide(before, ExpireCalls(("a", "b")))
    assert first.messages == (answer("a", NOT_APPROVED_TEXT), answer("b", TIMED_OUT_TEXT))
    assert first.state.status is REQUIRES_ACTION
    assert decide(first.state, ExpireCalls(("c",))).state.claimable


# --- steering ---------------------------------------------------------------------------------


def test_a_steering_message_waits_in_the_queue_with_a_mark_and_leaves_the_run_alone() -> None:
    for status in (RUNNING, INTERRUPTING, REQUIRES_ACTION):
        before = state_of(status, open_calls=calls("a", state=CLIENT))
        decision = decide(before, Send(text("rather this"), Busy.STEER))
        assert (decision.enqueue, decision.steer) == (user("rather this"), True)
        assert (decision.state.status, decision.messages) == (status, ())


@pytest.mark.parametrize("status", [WAITING, ERROR])
def test_steering_a_chat_at_rest_is_sending(status: Status) -> None:
    before = state_of(status, queue=queue_of("A"))
    assert decide(before, Send(text("hello"), Busy.STEER)) == msgspec.structs.replace(
        decide(before, Send(text("hello"))), event="Send(steer)"
    )


def test_steering_messages_go_in_behind_the_last_results_and_the_turn_goes_on_with_them() -> None:
    queue = (*queue_of("A"), *(msgspec.structs.replace(item, id=item.id + 1) for item in steered("B", "C")))
    before = state_of(RUNNING, queue=queue, open_calls=calls("a", "b", state=STARTED))
    first = owner(before, CommitStep((result("a"),)))
    assert first.messages == (result("a"),), "a call is open still"
    last = owner(first.state, CommitStep((result("b"),)))
    assert last.messages == (result("b"), user("B"), user("C"))
    assert (last.dequeue, [text_of(item.parts) for item in last.state.queue]) == ((2, 3), ["A"])
    assert (last.state.status, last.state.attempt, last.ended) == (RUNNING, 1, None)
    assert last.state.queue_version == last.state.snapshot_version


@pytest.mark.parametrize(
    "command", [SubmitToolResults((ToolResult("a", "1"),)), Deny("a"), ExpireCalls(("a",))], ids=lambda one: type(one)
)
def test_steering_messages_go_in_behind_an_answer_of_somebody_else(command: Command) -> None:
    waits_for = APPROVAL if isinstance(command, Deny) else CLIENT
    before = state_of(REQUIRES_ACTION, queue=steered("A"), open_calls=calls("a", state=waits_for))
    decision = decide(before, command)
    assert decision.messages[1:] == (user("A"),)
    assert decision.ended is None


def test_an_approval_lets_steering_messages_wait_for_the_result() -> None:
    before = state_of(REQUIRES_ACTION, queue=steered("A"), open_calls=calls("a", state=APPROVAL))
    approved = decide(before, Approve("a"))
    assert (approved.messages, len(approved.state.queue)) == ((), 1)


@pytest.mark.parametrize("command", [FinishTurn(), Fail(ErrorInfo("generic", "it failed"))])
def test_a_steering_message_that_came_too_late_is_queued_like_any_other(command: OwnerCommand) -> None:
    decision = owner(state_of(RUNNING, queue=steered("A", "B")), command)
    assert decision.unsteer
    assert decision.state.queue, "one is left"
    assert not any(item.steered for item in decision.state.queue)
    assert decision.state.queue_version == decision.state.snapshot_version


# --- stop, edit, promote, archive and steer, in each state of a call ---------------------------


def told(state: CallState) -> str:
    """What the model is told of a call of such a state that is cancelled: what may have run is not called undone."""
    return CANCELLED_RUNNING_TEXT if state is STARTED else CANCELLED_TEXT


@pytest.mark.parametrize("state", EVERY_STATE_OF_A_CALL)
def test_stop_answers_the_calls_and_keeps_the_results_that_are_committed(state: CallState) -> None:
    """P5: the history is that of a turn that ended, whatever its calls were doing."""
    asked = owner(state_of(RUNNING), step(plan("done", STARTED), plan("other", state)))
    stopped = owner(asked.state, CommitStep((result("done"),))).state
    if stopped.status is RUNNING:
        interrupting = decide(stopped, Interrupt()).state
        assert interrupting.status is INTERRUPTING
        ended = owner(interrupting, FinishInterruption())
    else:
        ended = decide(stopped, Interrupt())
    assert ended.messages == (answer("other", told(state)),)
    assert (ended.state.status, ended.ended, ended.state.open_calls) == (WAITING, TurnOutcome.INTERRUPTED, ())


def test_stop_while_a_call_is_streamed_leaves_no_call_behind() -> None:
    """What was half streamed is no call: the partial answer comes without it."""
    ended = owner(state_of(INTERRUPTING), FinishInterruption(assistant("let me", finish_reason="interrupted")))
    assert (ended.state.status, ended.state.open_calls, ended.calls.opened) == (WAITING, (), ())


def test_stop_of_a_chat_that_waits_goes_on_with_the_heads_of_its_queue() -> None:
    """A stop ends the turn. It does not make the model speak about it again."""
    before = state_of(REQUIRES_ACTION, queue=queue_of("A", "B"), open_calls=calls("a", state=APPROVAL))
    decision = decide(before, Interrupt())
    assert decision.messages == (answer("a", CANCELLED_TEXT), user("A"))
    assert (decision.ended, decision.state.claimable) == (TurnOutcome.INTERRUPTED, True)


@pytest.mark.parametrize("state", EVERY_STATE_OF_A_CALL)
def test_an_edit_takes_the_calls_away_with_the_messages_that_asked_for_them(state: CallState) -> None:
    status = REQUIRES_ACTION if call("a", state).waits else RUNNING
    before = state_of(status, open_calls=calls("a", state=state), queue=steered("A"))
    decision = decide(before, Edit(5, text("better")), facts=Facts(Replaced(Role.USER)))
    assert (decision.messages, decision.calls.closed) == ((user("better"),), ("a",))
    assert (decision.state.open_calls, decision.state.queue, decision.state.status) == ((), (), RUNNING)


@pytest.mark.parametrize("state", EVERY_STATE_OF_A_CALL)
def test_a_promoted_message_comes_behind_the_answers_to_all_calls(state: CallState) -> None:
    status = REQUIRES_ACTION if call("a", state).waits else RUNNING
    promoted = decide(state_of(status, queue=queue_of("A"), open_calls=calls("a", state=state)), Promote(1))
    if status is RUNNING:
        assert promoted.state.status is INTERRUPTING
        promoted = owner(promoted.state, FinishInterruption())
    assert promoted.messages == (answer("a", told(state)), user("A"))
    assert promoted.ended is TurnOutcome.INTERRUPTED


@pytest.mark.parametrize("state", EVERY_STATE_OF_A_CALL)
def test_an_archived_chat_has_no_open_call(state: CallState) -> None:
    status = REQUIRES_ACTION if call("a", state).waits else RUNNING
    archiving = decide(state_of(status, queue=steered("A"), open_calls=calls("a", state=state)), Archive()).state
    archived = owner(msgspec.structs.replace(archiving, worker_id=WORKER), FinishInterruption())
    assert archived.messages == (answer("a", told(state)),)
    assert (archived.state.phase, archived.state.open_calls) == (Phase.ARCHIVED, ())
    assert [item.steered for item in archived.state.queue] == [False]


@pytest.mark.parametrize("state", EVERY_STATE_OF_A_CALL)
def test_steering_changes_no_call(state: CallState) -> None:
    status = REQUIRES_ACTION if call("a", state).waits else RUNNING
    before = state_of(status, open_calls=calls("a", state=state))
    assert decide(before, Send(text("rather this"), Busy.STEER)).state.open_calls == before.open_calls


@pytest.mark.parametrize("state", EVERY_STATE_OF_A_CALL)
def test_a_call_survives_its_owner_as_it_is(state: CallState) -> None:
    before = state_of(RUNNING, open_calls=(*calls("a", state=state), call("b")))
    assert owner(before, Release()).state.open_calls == before.open_calls


# --- setup ------------------------------------------------------------------------------------


def test_a_setup_touches_nothing_that_fences_a_run() -> None:
    setup = ChatSetup(mcp_servers=("files",))
    before = state_of(RUNNING, open_calls=calls("a"))
    decision = decide(before, Configure(setup))
    assert decision.setup == setup
    assert decision.state == msgspec.structs.replace(before, snapshot_version=before.snapshot_version + 1)


@pytest.mark.parametrize("status", [WAITING, RUNNING])
def test_a_message_brings_its_servers_also_if_it_has_to_wait(status: Status) -> None:
    decision = decide(state_of(status), Send(text("look it up"), mcp_servers=("web",)))
    assert decision.setup == ChatSetup(mcp_servers=("web",))
    assert decide(state_of(status), Send(text("hello"))).setup is None


# --- content of a newer version ---------------------------------------------------------------


def test_a_chat_remembers_the_version_of_its_newest_content() -> None:
    before = state_of(RUNNING, open_calls=calls("a", state=STARTED))
    assert before.content_version == 1
    after = owner(before, CommitStep((result("a"),))).state
    assert after.content_version == 2
    ended = owner(after, FinishTurn((assistant("the answer"),))).state
    assert ended.content_version == 2, "it is in the history still"


def test_an_owner_can_do_no_more_for_newer_content_than_give_the_chat_back() -> None:
    newer = state_of(RUNNING, content_version=CONTENT_VERSION + 1, queue=queue_of("A"))
    for command in (FinishTurn((assistant("the answer"),)), Fail(ErrorInfo("generic", "it failed"))):
        with pytest.raises(Moved):
            owner(newer, command)
    released = owner(newer, Release()).state
    assert (released.worker_id, released.content_version) == (None, CONTENT_VERSION + 1)


def test_what_is_queued_in_newer_content_is_not_promoted_half_understood() -> None:
    newer = state_of(ERROR, content_version=CONTENT_VERSION + 1, queue=queue_of("A"))
    for command in (Send(text("go on")), Promote(1)):
        with pytest.raises(Unreadable):
            decide(newer, command)
    assert decide(newer, DeleteQueued(1)).dequeue == (1,)
