"""What every ``Store`` does with tool calls: who waits for whom, until when, and what is kept besides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from chat_states import QUESTIONS, REPLIES, assistant, result, text
from contract_worlds import OWNER, World, fence_of, open_world, texts

from chatcluster.chat import (
    CANCELLED_RUNNING_TEXT,
    CANCELLED_TEXT,
    DENIED_TEXT,
    NOT_APPROVED_TEXT,
    TIMED_OUT_TEXT,
    VERSIONS_FORGOTTEN_MAX,
    AnswerQuestions,
    Approve,
    Archive,
    AskAgain,
    AskUser,
    Busy,
    CallState,
    ChatSetup,
    ClientTool,
    CommitStep,
    Configure,
    Deny,
    Edit,
    EditQueued,
    ErrorInfo,
    Fail,
    FinishInterruption,
    FinishTurn,
    Interrupt,
    OpenCall,
    Promote,
    Release,
    Remember,
    Send,
    StartCalls,
    Status,
    SubmitToolResults,
    ToolResult,
    UserCommand,
    digest_of,
)
from chatcluster.errors import CallAnswered, CallChanged, ChatBusy, ChatFull, ChatNotFound, Fenced, Moved
from chatcluster.parts import CONTENT_VERSION, Message, NewMessage, Role, TextPart, ToolResultPart, text_of
from chatcluster.ports import Chat, NewChat, Outcome, ResultSlice

STRANGER = UUID(int=200)
PENDING, APPROVAL, CLIENT, STARTED = CallState.PENDING, CallState.APPROVAL, CallState.CLIENT, CallState.STARTED
WEATHER = ClientTool("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


pytest_plugins = ["contract_fixtures"]


def call(call_id: str, state: CallState = APPROVAL, seconds: float | None = 60.0, **fields: object) -> OpenCall:
    return msgspec.structs.replace(OpenCall(call_id, "tool", state, seconds=seconds), **fields)


async def apply(world: World, chat: Chat, command: UserCommand) -> Outcome:
    return await world.store.apply(chat.id, command, owner_id=OWNER)


async def states(world: World, chat: Chat) -> dict[str, CallState]:
    return {open_call.call_id: open_call.state for open_call in await world.store.open_calls(chat.id)}


def answers(messages: tuple[Message, ...]) -> list[tuple[str, str]]:
    return [(part.call_id, part.text) for one in messages for part in one.parts if isinstance(part, ToolResultPart)]


# --- the ledger -------------------------------------------------------------------------------


async def test_the_ledger_keeps_a_call_as_it_was_planned(world: World) -> None:
    """P7: what a later owner has to know of a call is durable before it runs."""
    planned = (
        call("a", STARTED, None, effect="read"),
        call("b", APPROVAL, 90.0, effect="idempotent", run_by="client"),
        call("c", CLIENT),
    )
    chat = await world.ask(*planned)
    assert (chat.status, chat.worker_id is not None) == (Status.RUNNING, True)
    digest = digest_of("{}")
    expected = [msgspec.structs.replace(one, digest=digest) for one in planned]
    expected[0] = msgspec.structs.replace(expected[0], started_epoch=1)
    assert list(await world.store.open_calls(chat.id)) == expected, "nobody's time runs while others are at work"
    with pytest.raises(ChatNotFound):
        await world.store.open_calls(uuid4())


async def test_a_call_counts_the_owners_that_died_with_it(world: World) -> None:
    chat = await world.ask(call("a", PENDING, None), call("b", PENDING, None))
    started = await world.store.commit(fence_of(chat), StartCalls(("a",)))
    assert started.chat.history_version == chat.history_version
    await world.store.commit(fence_of(started.chat), Release())
    again = (await world.claim()).chat
    await world.store.commit(fence_of(again), StartCalls(("a", "b")))
    calls = {one.call_id: (one.state, one.started_epoch, one.deaths) for one in await world.store.open_calls(chat.id)}
    assert calls == {"a": (STARTED, 2, 1), "b": (STARTED, 2, 0)}


async def test_what_calls_have_waited_for_is_known_for_each_time_that_their_chat_came_to_rest(world: World) -> None:
    chat = await world.ask(call("a"), call("b", STARTED, None))
    (asking,) = [one for one in await world.history(chat.id) if one.role is Role.ASSISTANT]
    assert await world.store.waits(chat.id, asking.id) == {}, "it is at work"
    outcome = await world.store.commit(fence_of(chat), CommitStep((result("b"),)))
    assert (outcome.chat.status, await world.store.waits(chat.id, asking.id)) == (
        Status.REQUIRES_ACTION,
        {"a": (APPROVAL,)},
    )
    await apply(world, chat, Approve("a"))
    again = (await world.claim()).chat
    await world.store.commit(fence_of(again), StartCalls(("a",)))
    await world.store.commit(fence_of(again), AskUser("a", QUESTIONS, "null", 30.0))
    assert await world.store.waits(chat.id, asking.id) == {"a": (APPROVAL, CallState.QUESTION)}
    await apply(world, chat, Interrupt())
    assert await world.store.waits(chat.id, asking.id) == {"a": (APPROVAL, CallState.QUESTION)}, "it stays known"
    assert await world.store.waits(uuid4(), asking.id) == {}


async def test_the_last_result_starts_the_next_attempt(world: World) -> None:
    chat = await world.ask(call("a", STARTED, None))
    done = await world.store.commit(fence_of(chat), CommitStep((result("a"),)))
    assert (done.chat.status, done.chat.attempt, done.chat.content_version) == (Status.RUNNING, 1, 2)
    assert (await world.store.get(chat.id)).attempt == 1
    assert await world.store.open_calls(chat.id) == ()
    await world.store.commit(fence_of(done.chat), FinishTurn((assistant("the answer"),)))


@pytest.mark.parametrize("plan", [call("a", STARTED), call("a", APPROVAL)], ids=["owner's", "somebody's"])
async def test_a_repeated_step_opens_its_calls_once(world: World, plan: OpenCall) -> None:
    await world.chat()
    fence = fence_of((await world.claim()).chat)
    step = CommitStep((assistant("looking", "a"),), (plan,))
    first = await world.store.commit(fence, step)
    again = await world.store.commit(fence, step)
    assert (again.replayed, again.messages, again.chat) == (True, first.messages, first.chat)
    assert await states(world, first.chat) == {"a": plan.state}


async def test_a_repeated_result_is_recognised_though_steered_messages_came_in_with_it(world: World) -> None:
    chat = await world.ask(call("a", STARTED))
    await world.send(chat.id, "rather this", Busy.STEER)
    first = await world.store.commit(fence_of(chat), CommitStep((result("a"),)))
    assert texts(first.messages) == ["", "rather this"]
    again = await world.store.commit(fence_of(chat), CommitStep((result("a"),)))
    assert (again.replayed, again.messages) == (True, first.messages)


async def test_a_start_that_comes_again_and_late_changes_nothing(world: World) -> None:
    chat = await world.ask(call("a", PENDING))
    for _ in range(2):
        chat = (await world.store.commit(fence_of(chat), StartCalls(("a",)))).chat
    assert [one.deaths for one in await world.store.open_calls(chat.id)] == [0]
    late = fence_of(chat)
    await world.store.commit(late, CommitStep((result("a"),)))
    with pytest.raises(Moved):
        await world.store.commit(late, StartCalls(("a",)))


# --- waiting for somebody ---------------------------------------------------------------------


async def test_a_chat_that_waits_tells_for_what_and_until_when(world: World) -> None:
    chat = await world.ask(call("a", APPROVAL, 60.0), call("b", CLIENT, 5.0), call("c", APPROVAL, None))
    assert (chat.status, chat.worker_id) == (Status.REQUIRES_ACTION, None)
    actions = (await world.store.read(chat.id)).actions
    assert [(one.call_id, one.name, one.kind, one.arguments, one.digest) for one in actions] == [
        ("a", "tool", APPROVAL, "{}", digest_of("{}")),
        ("b", "tool", CLIENT, "{}", digest_of("{}")),
        ("c", "tool", APPROVAL, "{}", digest_of("{}")),
    ]
    waits = [(one.deadline - chat.updated_at).total_seconds() for one in actions]
    assert waits == pytest.approx([60.0, 5.0, 24 * 3600.0], abs=4.0)
    newer = await world.store.read_newer(
        chat.id, after_version=99, after_id=0, queue_version=0, limit=9, bytes_max=1 << 20
    )
    page = await world.store.list_messages(chat.id, owner_id=OWNER, after=0, limit=9, bytes_max=1 << 20)
    assert newer.actions == page.actions == actions


async def test_a_chat_at_work_tells_of_no_action(world: World) -> None:
    chat = await world.ask(call("a", STARTED), call("b", APPROVAL))
    assert (await world.store.read(chat.id)).actions == ()


async def test_a_wait_begins_where_the_chat_comes_to_rest_and_is_not_begun_anew(world: World) -> None:
    chat = await world.ask(call("a", STARTED), call("b", APPROVAL), call("c", CLIENT))
    assert [one.deadline for one in await world.store.open_calls(chat.id)] == [None, None, None]
    await world.store.commit(fence_of(chat), CommitStep((result("a"),)))
    deadlines = [one.deadline for one in (await world.store.read(chat.id)).actions]
    await apply(world, chat, SubmitToolResults((ToolResult("c", "42"),)))
    await world.send(chat.id, "meanwhile")
    assert [one.deadline for one in (await world.store.read(chat.id)).actions] == deadlines[:1]


async def test_what_a_user_says_with_the_last_result_is_history_behind_it_and_before_that_it_is_steered(
    world: World,
) -> None:
    chat = await world.ask(call("a", CLIENT), call("b", CLIENT))
    first, last = (NewMessage(Role.USER, (TextPart(text),)) for text in ("soon", "now"))
    steered = await apply(world, chat, SubmitToolResults((ToolResult("a", "1"),), first))
    assert (steered.queued is not None, [str(one.role) for one in steered.messages]) == (True, ["tool"])
    done = await apply(world, chat, SubmitToolResults((ToolResult("b", "2"),), last))
    assert [(str(one.role), text_of(one.parts)) for one in done.messages] == [
        ("tool", ""),
        ("user", "soon"),
        ("user", "now"),
    ]
    assert done.chat.claimable
    page = await world.store.list_messages(chat.id, owner_id=OWNER, after=0, limit=9, bytes_max=1 << 20)
    assert (page.messages[-3:], page.queue) == (done.messages, ())


async def test_of_ten_answers_at_once_one_wins_and_nine_hear_that_it_is_answered(world: World) -> None:
    chat = await world.ask(call("a"))
    won: list[Outcome] = []
    lost: list[CallAnswered] = []

    async def answer(number: int) -> None:
        command = Approve("a") if number % 2 else Deny("a")
        try:
            won.append(await apply(world, chat, command))
        except CallAnswered as error:
            lost.append(error)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(answer, number)
    assert (len(won), len(lost)) == (1, 9)
    assert won[0].chat.claimable


async def test_an_approved_call_waits_for_an_owner_with_what_the_person_changed(world: World) -> None:
    chat = await world.ask(call("a", effect="read"))
    with pytest.raises(CallChanged):
        await apply(world, chat, Approve("a", digest_of("other")))
    approved = await apply(world, chat, Approve("a", digest_of("{}"), '{"n": 1}'))
    assert approved.chat.claimable
    (open_call,) = await world.store.open_calls(chat.id)
    assert (open_call.state, open_call.approved, open_call.effect) == (PENDING, True, "read")
    assert (open_call.arguments, open_call.digest) == ('{"n": 1}', digest_of('{"n": 1}'))
    assert (await world.claim()).chat.id == chat.id


async def test_a_call_that_a_person_decides_about_again_is_shown_as_it_would_run(world: World) -> None:
    chat = await world.ask(call("a"))
    await apply(world, chat, Approve("a", arguments='{"n": 1}'))
    started = await world.store.commit(fence_of((await world.claim()).chat), StartCalls(("a",)))
    asked = await world.store.commit(fence_of(started.chat), AskAgain(("a",), 30.0))
    assert (asked.chat.status, asked.chat.worker_id) == (Status.REQUIRES_ACTION, None)
    (action,) = (await world.store.read(chat.id)).actions
    assert (action.arguments, action.may_have_run) == ('{"n": 1}', True)
    for former in (None, digest_of('{"n": 1}')):
        with pytest.raises(CallChanged):
            await apply(world, chat, Approve("a", former))
    assert (await apply(world, chat, Approve("a", action.digest))).chat.claimable
    assert (action.deadline - asked.chat.updated_at).total_seconds() == pytest.approx(30.0, abs=10.0)


async def test_a_denied_call_has_its_result(world: World) -> None:
    chat = await world.ask(call("a"))
    assert answers((await apply(world, chat, Deny("a", "not today"))).messages) == [("a", f"{DENIED_TEXT} not today")]


async def test_only_the_chats_user_answers(world: World) -> None:
    chat = await world.ask(call("a"))
    for command in (Approve("a"), Deny("a"), SubmitToolResults((ToolResult("a", "1"),))):
        with pytest.raises(ChatNotFound):
            await world.store.apply(chat.id, command, owner_id=STRANGER)
    assert await states(world, chat) == {"a": APPROVAL}


async def test_a_result_for_which_there_is_no_room_is_refused_and_the_call_waits_on(url: str | None) -> None:
    async with open_world(url, history_bytes_max=1 << 16) as world:
        chat = await world.ask(call("a", CLIENT))
        with pytest.raises(ChatFull):
            await apply(world, chat, SubmitToolResults((ToolResult("a", "x" * (1 << 16)),)))
        assert await states(world, chat) == {"a": CLIENT}


# --- what a call's server asks the user -------------------------------------------------------


async def asking(world: World, resume: str | None) -> Chat:
    """A chat whose one call asks a question."""
    chat = await world.ask(call("a", STARTED))
    claimed = chat if chat.worker_id is not None else (await world.claim()).chat
    asked = await world.store.commit(fence_of(claimed), AskUser("a", QUESTIONS, resume, 30.0))
    return asked.chat


@pytest.mark.parametrize("resume", [None, '"state"'], ids=["held", "ended"])
async def test_a_question_is_shown_with_its_deadline_and_answered(world: World, resume: str | None) -> None:
    chat = await asking(world, resume)
    assert chat.status is (Status.RUNNING if resume is None else Status.REQUIRES_ACTION)
    (action,) = (await world.store.read(chat.id)).actions
    assert action == (await world.store.actions(chat.id))[0] == (await world.store.details(chat.id)).actions[0]
    assert (str(action.kind), action.questions, action.may_have_run) == ("question", QUESTIONS, False)
    assert (action.deadline - chat.updated_at).total_seconds() == pytest.approx(30.0, abs=10.0)
    with pytest.raises(CallChanged):
        await apply(world, chat, AnswerQuestions("a", REPLIES, digest_of("other")))
    await apply(world, chat, AnswerQuestions("a", REPLIES, action.digest))
    assert (await world.store.read(chat.id)).actions == ()
    (open_call,) = await world.store.open_calls(chat.id)
    assert open_call.state is (STARTED if resume is None else PENDING)
    assert open_call.inquiry is not None
    assert (open_call.inquiry.replies, open_call.inquiry.resume) == (REPLIES, resume)
    with pytest.raises(CallAnswered):
        await apply(world, chat, AnswerQuestions("a", REPLIES))


async def test_a_question_that_nobody_answers_any_more_is_shown_to_nobody(world: World) -> None:
    chat = await asking(world, None)
    chat = (await world.store.commit(fence_of(chat), AskUser("a"))).chat
    assert (await world.store.read(chat.id)).actions == ()
    with pytest.raises(CallAnswered):
        await apply(world, chat, AnswerQuestions("a", REPLIES))


async def test_only_the_chats_user_answers_what_is_asked(world: World) -> None:
    chat = await asking(world, '"state"')
    with pytest.raises(ChatNotFound):
        await world.store.apply(chat.id, AnswerQuestions("a", REPLIES), owner_id=STRANGER)


# --- deadlines --------------------------------------------------------------------------------


async def test_a_call_that_nobody_answers_is_answered_when_its_time_is_over(world: World) -> None:
    chat = await world.ask(call("a", APPROVAL, 60.0), call("b", CLIENT, 60.0), call("c", CLIENT, 120.0))
    assert await world.store.expire_actions(9) == ()
    assert not (await world.store.undone(9)).is_overdue
    await world.age_actions(chat.id, 61.0)
    assert (await world.store.undone(9)).is_overdue
    (first,) = await world.store.expire_actions(9)
    assert answers(first.messages) == [("a", NOT_APPROVED_TEXT), ("b", TIMED_OUT_TEXT)]
    assert first.chat.status is Status.REQUIRES_ACTION
    assert await world.store.expire_actions(9) == ()
    assert not (await world.store.undone(9)).is_overdue
    await world.age_actions(chat.id, 61.0)
    (second,) = await world.store.expire_actions(9)
    assert second.chat.claimable
    assert await world.store.open_calls(chat.id) == ()
    with pytest.raises(CallAnswered):
        await apply(world, chat, SubmitToolResults((ToolResult("c", "42"),)))


async def test_a_sweep_after_a_failover_leaves_the_versions_behind_that_may_be_lost(world: World) -> None:
    chat = await world.ask(call("a"))
    await world.age_actions(chat.id, 61.0)
    await world.write_on(99)
    (swept,) = await world.store.expire_actions(9)
    assert swept.chat.reset_version > chat.snapshot_version + VERSIONS_FORGOTTEN_MAX
    assert swept.chat.claimable


async def test_of_sweeps_that_meet_one_answers(world: World) -> None:
    chats = [await world.ask(call("a")) for _ in range(4)]
    for chat in chats:
        await world.age_actions(chat.id, 61.0)
    swept: list[UUID] = []

    async def sweep() -> None:
        swept.extend(outcome.chat.id for outcome in await world.store.expire_actions(9))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(sweep)
    assert sorted(swept) == sorted(chat.id for chat in chats)


async def test_a_sweep_takes_so_many_chats_and_passes_over_those_that_somebody_holds(world: World) -> None:
    """P10: nobody waits for a row."""
    chats = [await world.ask(call("a")) for _ in range(4)]
    for chat in chats:
        await world.age_actions(chat.id, 61.0)
    async with world.lock_row(chats[0].id):
        swept = [outcome.chat.id for _ in range(3) for outcome in await world.store.expire_actions(2)]
    assert sorted(swept) == sorted(chat.id for chat in chats[1:])
    assert [outcome.chat.id for outcome in await world.store.expire_actions(2)] == [chats[0].id]


@pytest.mark.parametrize("command", [Interrupt(), Archive(), Edit(1, text("better"))], ids=lambda one: type(one))
async def test_a_chat_that_waits_no_more_is_not_swept(world: World, command: UserCommand) -> None:
    chat = await world.ask(call("a"))
    await world.age_actions(chat.id, 61.0)
    if isinstance(command, Edit):
        command = Edit((await world.store.read(chat.id)).messages[0].id, command.parts)
    await apply(world, chat, command)
    assert await world.store.expire_actions(9) == ()


# --- stop, edit, promote, archive, steer, in each state of a call -------------------------------

EVERY_STATE = (PENDING, STARTED, APPROVAL, CLIENT)


async def interrupted(world: World, chat: Chat) -> Outcome:
    """What comes of the chat's interruption, whoever has to finish it."""
    chat = await world.store.get(chat.id)
    if chat.worker_id is None:
        chat = (await world.claim()).chat
    return await world.store.commit(fence_of(chat), FinishInterruption())


@pytest.mark.parametrize("state", EVERY_STATE)
async def test_stop_ends_the_turn_and_answers_its_calls(world: World, state: CallState) -> None:
    """P5."""
    chat = await world.ask(call("done", STARTED), call("other", state))
    stepped = (await world.store.commit(fence_of(chat), CommitStep((result("done"),)))).chat
    ended = await apply(world, stepped, Interrupt())
    if stepped.status is Status.RUNNING:
        ended = await interrupted(world, stepped)
    told = CANCELLED_RUNNING_TEXT if state is STARTED else CANCELLED_TEXT
    assert answers(ended.messages) == [("other", told)]
    assert (ended.chat.status, ended.ended and ended.ended.outcome) == (Status.WAITING, "interrupted")
    read = await world.store.read(chat.id)
    assert answers(read.messages) == [("done", "done"), ("other", told)]
    assert (read.actions, await world.store.open_calls(chat.id)) == ((), ())


@pytest.mark.parametrize("state", EVERY_STATE)
async def test_an_edit_takes_the_calls_away(world: World, state: CallState) -> None:
    chat = await world.ask(call("a", state))
    asked = (await world.store.read(chat.id)).messages[0]
    edited = await apply(world, chat, Edit(asked.id, text("better")))
    assert edited.chat.status is Status.RUNNING
    assert (await world.store.open_calls(chat.id), (await world.store.read(chat.id)).actions) == ((), ())


@pytest.mark.parametrize("state", EVERY_STATE)
async def test_a_promoted_message_comes_behind_the_answers(world: World, state: CallState) -> None:
    chat = await world.ask(call("a", state))
    queued = await world.queue(chat.id, "next")
    await apply(world, chat, Promote(queued.id))
    if not call("a", state).waits:
        await interrupted(world, chat)
    assert texts((await world.store.read(chat.id)).messages) == ["hello", "looking", "", "next"]
    assert await world.store.open_calls(chat.id) == ()


@pytest.mark.parametrize("state", EVERY_STATE)
async def test_an_archived_chat_has_no_open_call(world: World, state: CallState) -> None:
    chat = await world.ask(call("a", state))
    await apply(world, chat, Archive())
    archived = await interrupted(world, chat)
    assert (archived.chat.archived, await world.store.open_calls(chat.id)) == (True, ())
    assert len(answers(archived.messages)) == 1


@pytest.mark.parametrize("state", EVERY_STATE)
async def test_a_steered_message_goes_in_behind_the_result(world: World, state: CallState) -> None:
    chat = await world.ask(call("a", state))
    plain = await world.queue(chat.id, "later")
    steered = (await world.send(chat.id, "rather this", Busy.STEER)).queued
    assert steered is not None
    assert [(one.id, one.steered) for one in (await world.store.read(chat.id)).queue] == [
        (plain.id, False),
        (steered.id, True),
    ]
    if state is APPROVAL:
        chat = (await apply(world, chat, Approve("a"))).chat
    if state is CLIENT:
        await apply(world, chat, SubmitToolResults((ToolResult("a", "done"),)))
    else:
        owned = chat if chat.worker_id is not None else (await world.claim()).chat
        await world.store.commit(fence_of(owned), CommitStep((result("a"),)))
    read = await world.store.read(chat.id)
    assert texts(read.messages) == ["hello", "looking", "", "rather this"]
    assert [one.id for one in read.queue] == [plain.id]
    assert (read.chat.status, read.turns) == (Status.RUNNING, ())


async def test_a_steered_message_that_came_too_late_is_queued_like_any_other(world: World) -> None:
    chat = await world.ask(call("a", STARTED))
    done = (await world.store.commit(fence_of(chat), CommitStep((result("a"),)))).chat
    await world.send(chat.id, "too late", Busy.STEER)
    await world.store.commit(fence_of(done), Fail(ErrorInfo("generic", "it failed")))
    read = await world.store.read(chat.id)
    assert [queued.steered for queued in read.queue] == [False]
    assert read.chat.queue_version == read.chat.snapshot_version


# --- whole results ----------------------------------------------------------------------------


async def test_a_whole_result_is_kept_before_its_message_and_read_in_pieces(world: World) -> None:
    chat = await world.ask(call("a", STARTED))
    for data in (b"other", b"0123456789"):  # a repeat, after an answer that was lost
        await world.store.keep_result(fence_of(chat), "a", data)
    assert await world.store.read_result(chat.id, "a", offset=0, limit=4) == ResultSlice(b"0123", 10)
    await world.store.commit(fence_of(chat), CommitStep((result("a"),)))
    assert await world.store.read_result(chat.id, "a", offset=8, limit=4) == ResultSlice(b"89", 10)
    assert await world.store.read_result(chat.id, "a", offset=99, limit=4) == ResultSlice(b"", 10)
    assert await world.store.read_result(chat.id, "b", offset=0, limit=4) is None
    assert await world.store.read_result(uuid4(), "a", offset=0, limit=4) is None


async def test_a_whole_result_of_the_client_is_kept_with_its_message(world: World) -> None:
    chat = await world.ask(call("a", CLIENT))
    await apply(world, chat, SubmitToolResults((ToolResult("a", "01…", whole=b"0123456789"),)))
    assert await world.store.read_result(chat.id, "a", offset=2, limit=3) == ResultSlice(b"234", 10)


async def test_only_the_owner_keeps_a_result_and_only_of_an_open_call(world: World) -> None:
    """The owner whose call an edit has taken away is the owner still."""
    chat = await world.ask(call("a", STARTED))
    stale = fence_of(chat)
    await world.store.commit(stale, Release())
    current = fence_of((await world.claim()).chat)
    with pytest.raises(Fenced):
        await world.store.keep_result(stale, "a", b"data")
    with pytest.raises(Moved):
        await world.store.keep_result(current, "b", b"data")
    asked = (await world.store.read(chat.id)).messages[0]
    await apply(world, chat, Edit(asked.id, text("better")))
    with pytest.raises(Moved):
        await world.store.keep_result(current, "a", b"data")
    assert await world.store.read_result(chat.id, "a", offset=0, limit=4) is None


# --- what a turn begins with ------------------------------------------------------------------


async def test_what_a_turn_begins_with_is_kept_for_the_next_owner(world: World) -> None:
    chat = await world.ask(call("a", STARTED))
    assert await world.store.read_prefix(chat.id) is None
    for digest, data in (("one", b"first"), ("two", b"second"), ("two", b"second")):  # a repeat, as above
        await world.store.keep_prefix(fence_of(chat), digest, data)
    assert await world.store.read_prefix(chat.id) == b"second"
    await world.store.commit(fence_of(chat), Release())
    assert (await world.claim()).prompts.kept == "two", "it is known with the claim which one is kept"
    assert await world.store.read_prefix(uuid4()) is None


async def test_only_the_owner_keeps_what_a_turn_begins_with(world: World) -> None:
    chat = await world.ask(call("a", STARTED))
    await world.store.commit(fence_of(chat), Release())
    with pytest.raises(Fenced):
        await world.store.keep_prefix(fence_of(chat), "one", b"first")
    assert await world.store.read_prefix(chat.id) is None


# --- standing permissions ---------------------------------------------------------------------


async def permitted(world: World, remember: Remember) -> Chat:
    chat = await world.ask(call("a"))
    await apply(world, chat, Approve("a", remember=remember))
    return chat


@pytest.mark.parametrize("remember", Remember)
async def test_an_approval_is_remembered_for_the_chat_or_for_all_of_its_user(world: World, remember: Remember) -> None:
    chat = await permitted(world, remember)
    other = await world.chat()
    assert await world.store.permissions(OWNER, chat.id) == {"tool"}
    assert await world.store.permissions(OWNER, other) == ({"tool"} if remember is Remember.ALWAYS else set())
    assert await world.store.permissions(STRANGER, chat.id) == set()
    (permission,) = await world.store.list_permissions(OWNER)
    assert (permission.tool, permission.chat_id) == ("tool", chat.id if remember is Remember.CHAT else None)
    assert permission.expires_at > permission.created_at


async def test_a_permission_stands_once_and_until_its_user_takes_it_back(world: World) -> None:
    for _ in range(2):
        chat = await permitted(world, Remember.ALWAYS)
        await world.store.commit(fence_of((await world.claim()).chat), FinishTurn())
    (permission,) = await world.store.list_permissions(OWNER)
    assert not await world.store.delete_permission(STRANGER, permission.id)
    assert await world.store.delete_permission(OWNER, permission.id)
    assert not await world.store.delete_permission(OWNER, permission.id)
    assert await world.store.permissions(OWNER, chat.id) == set()
    assert await world.store.list_permissions(OWNER) == ()


async def test_an_approval_that_is_refused_leaves_no_permission(world: World) -> None:
    chat = await world.ask(call("a"))
    with pytest.raises(CallChanged):
        await apply(world, chat, Approve("a", digest_of("other"), remember=Remember.ALWAYS))
    assert await world.store.list_permissions(OWNER) == ()


# --- what a chat is set up with ---------------------------------------------------------------


async def test_a_chat_has_the_tools_and_servers_that_its_user_gave_it(world: World) -> None:
    new = NewChat(uuid4(), OWNER, "", None, (), client_tools=(WEATHER,), mcp_servers=("files", "web"))
    chat = (await world.store.create(new)).chat
    assert (chat.client_tools, chat.mcp_servers) == ((WEATHER,), ("files", "web"))
    assert await world.store.get(chat.id) == chat
    configured = await apply(world, chat, Configure(ChatSetup(mcp_servers=())))
    assert (configured.chat.client_tools, configured.chat.mcp_servers) == ((WEATHER,), ())
    configured = await apply(world, chat, Configure(ChatSetup(client_tools=())))
    assert (configured.chat.client_tools, configured.chat.title) == ((), "")
    assert configured.chat.history_version == chat.history_version
    plain = await world.store.get(await world.chat())
    assert (plain.client_tools, plain.mcp_servers) == ((), ())


async def test_a_message_replaces_the_servers_also_while_it_waits(world: World) -> None:
    chat_id = await world.chat()
    sent = await world.store.apply(chat_id, Send(text("look"), mcp_servers=("web",)), owner_id=OWNER)
    assert (sent.queued is not None, sent.chat.mcp_servers) == (True, ("web",))
    assert (await world.send(chat_id, "and?")).chat.mcp_servers == ("web",)


# --- with the page ----------------------------------------------------------------------------


async def test_a_chat_that_waits_for_somebody_is_deleted_only_once_it_is_stopped(world: World) -> None:
    chat = await permitted(world, Remember.CHAT)
    await world.store.commit(fence_of((await world.claim()).chat), CommitStep((result("a"),)))
    waiting = await world.ask(call("b"))
    with pytest.raises(ChatBusy):
        await world.store.delete(waiting.id, owner_id=OWNER)
    await apply(world, waiting, Interrupt())
    await world.store.delete(waiting.id, owner_id=OWNER)
    assert await world.store.actions(waiting.id) == ()
    assert (await world.store.get(chat.id)).id == chat.id


async def test_what_is_allowed_in_a_chat_and_kept_of_its_calls_goes_with_it(world: World) -> None:
    chat = await permitted(world, Remember.CHAT)
    owned = (await world.claim()).chat
    await world.store.keep_result(fence_of(owned), "a", b"whole")
    await world.store.commit(fence_of(owned), CommitStep((result("a"),)))
    await world.store.commit(fence_of(await world.store.get(chat.id)), FinishTurn((assistant("done"),)))
    await world.store.delete(chat.id, owner_id=OWNER)
    assert await world.store.list_permissions(OWNER) == ()
    assert await world.store.read_result(chat.id, "a", offset=0, limit=9) is None


async def test_a_steered_message_that_is_edited_is_a_steered_one_still(world: World) -> None:
    chat = await world.ask(call("a", STARTED))
    steered = (await world.send(chat.id, "this", Busy.STEER)).queued
    assert steered is not None
    edited = (await apply(world, chat, EditQueued(steered.id, text("rather this")))).queued
    assert edited is not None
    assert edited.steered
    await world.store.commit(fence_of(chat), CommitStep((result("a"),)))
    assert texts((await world.store.read(chat.id)).messages)[-1] == "rather this"


async def test_a_chat_that_waits_for_somebody_says_that_this_led_to_it(world: World) -> None:
    chat = await world.ask(call("a"))
    assert chat.cause == "action"
    assert (await apply(world, chat, Approve("a"))).chat.cause == "turn"
    assert (await world.claim()).chat.cause == "claim"


# --- content of a newer version ---------------------------------------------------------------


async def test_a_chat_with_content_of_a_newer_version_is_left_to_others(world: World) -> None:
    waiting, running = await world.ask(call("a")), await world.chat()
    await world.age_actions(waiting.id, 61.0)
    for chat_id in (running, waiting.id):
        await world.have_content(chat_id, CONTENT_VERSION + 1)
    assert await world.store.claim(await world.worker(), free_slots=9, batch=9) == ()
    assert await world.store.expire_actions(9) == ()
    assert not (await world.store.undone(9)).is_overdue
    await world.store.apply(running, Interrupt(), owner_id=OWNER)
    assert await world.store.claim(await world.worker(), free_slots=9, batch=9) == ()
    await world.have_content(running, CONTENT_VERSION)
    assert (await world.claim()).chat.id == running


async def test_an_owner_can_only_give_a_chat_back_that_a_newer_version_wrote_into(world: World) -> None:
    await world.chat()
    chat = (await world.claim()).chat
    await world.have_content(chat.id, CONTENT_VERSION + 1)
    commits: tuple[Callable[[], Awaitable[Outcome]], ...] = (
        lambda: world.store.commit(fence_of(chat), FinishTurn((assistant("the answer"),))),
        lambda: world.store.commit(fence_of(chat), CommitStep((assistant("looking", "a"),))),
    )
    for commit in commits:
        with pytest.raises(Moved):
            await commit()
    released = await world.store.commit(fence_of(chat), Release())
    assert (released.chat.worker_id, released.chat.content_version) == (None, CONTENT_VERSION + 1)
