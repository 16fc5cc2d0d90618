"""What every ``Store`` does with families: agents are made once, their reports come once, and orders reach all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
import trio
from chat_states import QUESTIONS, REPLIES, assistant, call, result
from conftest import execute_sql
from contract_worlds import OWNER, World, fence_of
from msgspec import UNSET

from chatcluster.agents import agent_of
from chatcluster.chat import (
    AnswerQuestions,
    Approve,
    Archive,
    Asker,
    AskUser,
    CallState,
    Close,
    CommitStep,
    Edit,
    ErrorInfo,
    Fail,
    FinishInterruption,
    FinishTurn,
    Interrupt,
    OpenCall,
    Remember,
    Send,
    Status,
    Unarchive,
)
from chatcluster.errors import AgentChat, ChatBusy, ChatNotFound, Conflict, Moved, NotAllowedInStatus
from chatcluster.parts import TextPart, ToolResultPart
from chatcluster.ports import Chat, Idempotency, NewChat, Outcome
from chatcluster.ports.usage import GroupBy, UsageQuery
from chatcluster.usage import Bill, Spent, SpentOutcome

AGENTS_MAX = 3


pytest_plugins = ["contract_fixtures"]


async def parent(world: World, *call_ids: str) -> Chat:
    """A chat that asked for these calls, which its owner is to run."""
    return await world.ask(*(call(call_id, CallState.STARTED, effect="idempotent") for call_id in call_ids or ("s",)))


async def spawn(world: World, chat: Chat, call_id: str = "s", prompt: str = "Count the birds") -> Outcome:
    return await world.store.spawn(agent_of(chat, call_id, prompt, None), call_id, agents_max=AGENTS_MAX)


async def waiting(world: World, chat: Chat, *agent_ids: UUID, seconds: float = 300.0) -> Chat:
    """The chat, once it has the results of what it ran, and waits for these agents."""
    ran = [one.call_id for one in await world.store.open_calls(chat.id)]
    chat = (await world.store.commit(fence_of(chat), CommitStep(tuple(map(result, ran))))).chat
    calls = tuple(
        OpenCall(f"w{place}", "wait_agent", CallState.AGENTS, effect="read", seconds=seconds, agent_id=agent_id)
        for place, agent_id in enumerate(agent_ids)
    )
    step = CommitStep((assistant("waiting", *(one.call_id for one in calls)),), calls)
    return (await world.store.commit(fence_of(chat), step)).chat


async def answered(world: World, agent: Chat, words: str = "Four birds.") -> Outcome:
    """The agent's turn, from the claim to its end."""
    claimed = (await world.claim()).chat
    assert claimed.id == agent.id
    return await world.store.commit(fence_of(claimed), FinishTurn((assistant(words),)))


def reports(outcome: Outcome | None) -> dict[str, dict[str, object]]:
    assert outcome is not None, "there is nothing to report"
    parts = [part for message in outcome.messages for part in message.parts if isinstance(part, ToolResultPart)]
    return {part.call_id: {**json.loads(part.text), "is_error": part.is_error} for part in parts}


async def obeyed(world: World) -> dict[UUID, Outcome]:
    """All orders that there are, carried out, and those that follow."""
    outcomes = {}
    while due := await world.store.due_orders(10):
        for chat_id in due:
            outcome = await world.store.obey(chat_id)
            if outcome is not None:
                outcomes[chat_id] = outcome
    return outcomes


# --- to spawn ---------------------------------------------------------------------------------


async def test_an_agent_is_a_chat_of_the_same_user_that_works_with_the_same(world: World) -> None:
    new = NewChat(uuid4(), OWNER, "a chat", "model-7", (), mcp_servers=("files",), agents=True)
    chat = (await world.store.create(new)).chat
    agent = agent_of(chat, "s", "Count the birds in the garden, please", None)
    assert (agent.owner_id, agent.model, agent.mcp_servers, agent.agents) == (OWNER, "model-7", ("files",), True)
    assert (agent.parent_id, agent.root_id, agent.depth) == (chat.id, chat.id, 1)
    assert agent.title == "Count the birds in the garden,"
    assert agent_of(chat, "s", "Count", "Birds").title == "Birds"


async def test_a_call_that_is_run_again_finds_the_agent_that_it_made(world: World) -> None:
    """P7: whoever dies in the middle of it, there is one agent for one call."""
    chat = await parent(world)
    first, again = await spawn(world, chat), await spawn(world, chat)
    assert (first.chat.id, first.replayed, again.replayed) == (again.chat.id, False, True)
    assert [one.id for one in await world.store.family(chat.id)] == [first.chat.id]
    assert (first.chat.status, first.chat.parent_id, first.chat.root_id) == (Status.RUNNING, chat.id, chat.id)
    now = await world.store.get(chat.id)
    assert (now.has_agents, now.snapshot_version) == (True, chat.snapshot_version), "its owner works on undisturbed"


async def test_a_call_that_is_open_no_more_makes_no_agent(world: World) -> None:
    """P2: neither a tenure that is over nor a call that was stopped has another effect."""
    chat = await parent(world)
    await world.store.commit(fence_of(chat), CommitStep((result("s"),)))
    with pytest.raises(Moved):
        await spawn(world, chat)
    lost = NewChat(uuid4(), OWNER, "", None, (), parent_id=uuid4(), root_id=uuid4())
    with pytest.raises(ChatNotFound):
        await world.store.spawn(lost, "s", agents_max=AGENTS_MAX)
    assert await world.store.family(chat.id) == ()


@pytest.mark.parametrize("end", ["stopped", "answered", "at work"])
async def test_p5_a_message_to_an_agent_does_not_overtake_the_stop_of_who_sends_it(world: World, end: str) -> None:
    """The agent was told to stop already: a message that came now would set it to work again, for nobody."""
    chat = await parent(world, "s", "m")
    agent = (await spawn(world, chat)).chat
    send = Send((TextPart("And the cats?"),), asker=Asker(chat.id, "m"))
    once = Idempotency("agents:m", b"digest")
    if end == "stopped":
        await world.store.apply(chat.id, Interrupt(), owner_id=OWNER)
    elif end == "answered":
        await world.store.commit(fence_of(chat), CommitStep((result("m"),)))
    else:
        sent = await world.store.apply(agent.id, send, owner_id=OWNER, idempotency=once)
        await world.store.commit(fence_of(chat), CommitStep((result("m"),)))
        again = await world.store.apply(agent.id, send, owner_id=OWNER, idempotency=once)
        assert (sent.queued is not None, again.replayed) == (True, True), "what was sent is, whoever asks again"
        return
    with pytest.raises(NotAllowedInStatus):
        await world.store.apply(agent.id, send, owner_id=OWNER, idempotency=once)
    assert (await world.store.get(agent.id)).snapshot_version == agent.snapshot_version, "nothing is written"


async def test_p5_a_chat_that_is_being_stopped_makes_no_agent(world: World) -> None:
    """Its agents were told already: one that came now would go on for nobody."""
    chat = await parent(world)
    await world.store.apply(chat.id, Interrupt(), owner_id=OWNER)
    with pytest.raises(Moved):
        await spawn(world, chat)
    assert await world.store.family(chat.id) == ()


async def test_a_family_has_so_many_agents_and_no_more(world: World) -> None:
    chat = await parent(world, *(f"s{number}" for number in range(AGENTS_MAX + 1)))
    for number in range(AGENTS_MAX):
        await spawn(world, chat, f"s{number}")
    with pytest.raises(Conflict):
        await spawn(world, chat, f"s{AGENTS_MAX}")
    assert (await spawn(world, chat, "s0")).replayed


async def test_lists_have_no_agents(world: World) -> None:
    chat = await parent(world)
    await spawn(world, chat)
    listed = await world.store.list_chats(OWNER, archived=None, limit=10, after=None)
    changed = await world.store.list_changed([OWNER], seconds=60, as_of=None, after=None, limit=10)
    assert [one.id for one in listed] == [chat.id]
    assert [one.id for one in changed.chats] == [chat.id]


# --- to wait ----------------------------------------------------------------------------------


async def test_who_waits_for_agents_has_no_owner_and_is_shown_as_running(world: World) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    parked = await waiting(world, chat, agent.id)
    assert (parked.status, parked.worker_id, parked.shown_status) == (Status.REQUIRES_ACTION, None, "running")
    assert await world.store.actions(chat.id) == (), "there is nothing for anybody to do"
    assert (await world.store.read(chat.id)).actions == ()
    assert await world.store.report_agents(chat.id) is None, "the agent is at work"
    assert (await world.store.undone(10)).reports == ()


async def test_an_agent_that_rests_is_reported_once(world: World) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    await waiting(world, chat, agent.id)
    await answered(world, agent)
    assert (await world.store.undone(10)).reports == (chat.id,)
    outcome = await world.store.report_agents(chat.id)
    told = reports(outcome)["w0"]
    assert told == {
        "chat_id": str(agent.id),
        "title": "Count the birds",
        "status": "waiting",
        "report": "Four birds.",
        "is_error": False,
    }
    assert outcome is not None
    assert (outcome.chat.claimable, outcome.chat.attempt) == (True, 0)
    assert await world.store.report_agents(chat.id) is None
    assert (await world.store.undone(10)).reports == ()


async def test_the_turn_goes_on_when_the_last_of_them_rests(world: World) -> None:
    chat = await parent(world, "s0", "s1")
    one, other = (await spawn(world, chat, "s0")).chat, (await spawn(world, chat, "s1")).chat
    await waiting(world, chat, one.id, other.id)
    claimed = [(await world.claim()).chat for _ in range(2)]
    await world.store.commit(fence_of(claimed[0]), FinishTurn((assistant("first"),)))
    first = await world.store.report_agents(chat.id)
    assert first is not None
    assert (first.chat.status, first.chat.shown_status) == (Status.REQUIRES_ACTION, "running")
    await world.store.commit(fence_of(claimed[1]), Fail(ErrorInfo("generic", "the model is away")))
    last = await world.store.report_agents(chat.id)
    (told,) = reports(last).values()
    assert (told["status"], told["error"], told["is_error"]) == ("error", "the model is away", True)
    assert last is not None
    assert last.chat.claimable


async def test_the_end_of_a_wait_says_what_there_is_and_the_agent_goes_on(world: World) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    await waiting(world, chat, agent.id, seconds=60.0)
    claimed = (await world.claim()).chat
    await world.store.commit(fence_of(claimed), CommitStep((assistant("I see two so far.", "a"),)))
    await world.age_actions(chat.id, 61.0)
    assert await world.store.expire_actions(10) == (), "a wait for agents is no action of anybody"
    undone = await world.store.undone(10)
    assert (undone.reports, undone.is_overdue) == ((chat.id,), False)
    told = reports(await world.store.report_agents(chat.id))["w0"]
    assert (told["timed_out"], told["status"], told["report"]) == (True, "running", "I see two so far.")
    assert (await world.store.get(agent.id)).worker_id == claimed.worker_id


async def test_an_agent_that_is_done_by_the_end_of_the_wait_did_not_time_out(world: World) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    await waiting(world, chat, agent.id, seconds=60.0)
    await answered(world, agent)
    await world.age_actions(chat.id, 61.0)
    told = reports(await world.store.report_agents(chat.id))["w0"]
    assert ("timed_out" in told, told["report"]) == (False, "Four birds.")


async def test_nobody_hears_of_chats_that_are_no_agents_of_theirs(world: World) -> None:
    """P9: not of strangers' chats, nor of the chat itself, nor of one that there never was."""
    stranger = await world.chat(owner_id=UUID(int=200))
    claimed = (await world.claim()).chat
    await world.store.commit(fence_of(claimed), FinishTurn((assistant("a secret"),)))
    chat = await parent(world)
    await waiting(world, chat, stranger, chat.id, uuid4())
    told = reports(await world.store.report_agents(chat.id))
    assert [(set(one), one["is_error"]) for one in told.values()] == [({"error", "is_error"}, True)] * 3


async def test_agents_of_agents_are_heard_of_from_above_and_not_from_below(world: World) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    await waiting(world, chat, agent.id)
    claimed = (await world.claim()).chat
    asked = CommitStep((assistant("I need help.", "t"),), (call("t", CallState.STARTED, effect="idempotent"),))
    claimed = (await world.store.commit(fence_of(claimed), asked)).chat
    below = (await spawn(world, claimed, "t")).chat
    assert (below.parent_id, below.root_id, below.depth) == (agent.id, chat.id, 2)
    await waiting(world, claimed, chat.id)
    told = reports(await world.store.report_agents(agent.id))["w0"]
    assert "error" in told, "a chat above is no agent"


async def test_a_row_that_somebody_holds_is_left_to_the_next_sweep(world: World) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    await waiting(world, chat, agent.id)
    await answered(world, agent)
    async with world.lock_row(chat.id):
        assert await world.store.report_agents(chat.id, patiently=False) is None
    assert await world.store.report_agents(chat.id, patiently=False) is not None


async def test_what_is_allowed_in_an_agents_chat_is_allowed_in_its_whole_family(world: World) -> None:
    """A user sees one chat: the next agent does not ask again."""
    chat = await parent(world, "s0", "s1")
    agents = [(await spawn(world, chat, call_id)).chat for call_id in ("s0", "s1")]
    await waiting(world, chat, *(agent.id for agent in agents))
    claimed = (await world.claim()).chat
    step = CommitStep((assistant("asking", "a"),), (OpenCall("a", "tool", CallState.APPROVAL),))
    await world.store.commit(fence_of(claimed), step)
    await world.store.apply(claimed.id, Approve("a", remember=Remember.CHAT), owner_id=OWNER)
    (permission,) = await world.store.list_permissions(OWNER)
    assert permission.chat_id == chat.id
    assert await world.store.permissions(OWNER, *(agent.id for agent in agents)) == set()
    for agent in agents:
        assert await world.store.permissions(OWNER, agent.id, agent.family_id) == {"tool"}


# --- orders -----------------------------------------------------------------------------------


async def test_a_stop_reaches_the_agents_each_by_an_order_of_its_own(world: World) -> None:
    """P5: and whoever gave the orders need not live to see them carried out."""
    chat = await parent(world, "s0", "s1")
    agents = {(await spawn(world, chat, call_id)).chat.id for call_id in ("s0", "s1")}
    parked = await waiting(world, chat, *agents)
    busy = (await world.claim()).chat
    stopped = await world.store.apply(parked.id, Interrupt(), owner_id=OWNER)
    assert stopped.chat.status is Status.WAITING
    assert set(await world.store.due_orders(10)) == agents
    assert set((await world.store.undone(10)).orders) == agents
    assert set(await world.store.due_orders(10, root_id=chat.id)) == agents
    assert await world.store.due_orders(10, root_id=uuid4()) == ()
    outcomes = await obeyed(world)
    assert {one: outcome.chat.status for one, outcome in outcomes.items()} == dict.fromkeys(agents, Status.INTERRUPTING)
    assert outcomes[busy.id].chat.worker_id == busy.worker_id
    assert await world.store.obey(busy.id) is None, "once"


async def test_an_edit_stops_what_was_begun_for_the_message_that_is_gone(world: World) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    parked = await waiting(world, chat, agent.id)
    asked = (await world.history(chat.id))[0]
    await world.store.apply(parked.id, Edit(asked.id, asked.parts), owner_id=OWNER)
    assert (await obeyed(world))[agent.id].chat.status is Status.INTERRUPTING


async def test_an_archive_reaches_the_agents_and_so_does_its_end(world: World) -> None:
    """A family is put away, and comes back, as one."""
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    claimed = (await world.claim()).chat
    archived = await world.store.apply(chat.id, Archive(), owner_id=OWNER)
    assert archived.chat.archiving
    assert (await obeyed(world))[agent.id].chat.archiving
    for one in (claimed, archived.chat):
        current = await world.store.get(one.id)
        await world.store.commit(fence_of(current), FinishInterruption())
    assert [(await world.store.get(one)).archived for one in (chat.id, agent.id)] == [True, True]
    await world.store.apply(chat.id, Unarchive(), owner_id=OWNER)
    assert not (await obeyed(world))[agent.id].chat.archived


async def test_an_order_to_leave_the_archive_waits_until_the_chat_is_there(world: World) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    claimed = (await world.claim()).chat
    await world.store.apply(chat.id, Archive(), owner_id=OWNER)
    await obeyed(world)
    await world.store.commit(fence_of(await world.store.get(chat.id)), FinishInterruption())
    await world.store.apply(chat.id, Unarchive(), owner_id=OWNER)
    assert await world.store.obey(agent.id) is None
    assert await world.store.due_orders(10) == (agent.id,)
    await world.store.commit(fence_of(await world.store.get(claimed.id)), FinishInterruption())
    assert not (await obeyed(world))[agent.id].chat.archived


async def test_a_stop_takes_back_no_order_to_leave_the_archive(world: World) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    chat = (await world.store.commit(fence_of(chat), FinishTurn())).chat
    claimed = (await world.claim()).chat
    await world.store.apply(chat.id, Archive(), owner_id=OWNER)
    await obeyed(world)
    await world.store.apply(chat.id, Unarchive(), owner_id=OWNER)
    await world.store.apply(chat.id, Close(), owner_id=OWNER)
    await world.store.commit(fence_of(await world.store.get(claimed.id)), FinishInterruption())
    assert not (await obeyed(world))[agent.id].chat.archived


async def test_what_an_agent_waits_for_is_shown_with_the_chat_at_the_root(world: World) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    parked = await waiting(world, chat, agent.id)
    claimed = (await world.claim()).chat
    asked = CommitStep((assistant("May I?", "a"),), (call("a", CallState.APPROVAL),))
    await world.store.commit(fence_of(claimed), asked)
    assert await world.store.report_agents(chat.id) is None, "it is not done"
    looked = (await obeyed(world))[chat.id]
    assert looked.chat.snapshot_version > parked.snapshot_version, "so that readers read it again"
    (action,) = await world.store.actions(chat.id)
    assert (action.call_id, action.kind, action.chat_id) == ("a", CallState.APPROVAL, agent.id)
    assert (await world.store.read(chat.id)).actions == (action,)
    assert (await world.store.actions(agent.id))[0].chat_id is UNSET
    await world.age_actions(chat.id, 301.0)
    told = reports(await world.store.report_agents(chat.id))["w0"]
    assert (told["status"], "tool" in str(told["note"])) == ("requires_action", True), "the parent is told"
    await world.store.apply(agent.id, Approve("a"), owner_id=OWNER)
    assert chat.id in await obeyed(world)
    assert await world.store.actions(chat.id) == ()


async def test_what_the_server_of_an_agents_running_call_asks_is_shown_at_the_root_as_well(world: World) -> None:
    """It is asked in the middle of a run: nothing else tells the readers of the root to look."""
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    await waiting(world, chat, agent.id)
    claimed = (await world.claim()).chat
    calling = CommitStep((assistant("Let me see.", "a"),), (call("a", CallState.STARTED),))
    claimed = (await world.store.commit(fence_of(claimed), calling)).chat
    assert chat.id not in await obeyed(world)
    asking = (await world.store.commit(fence_of(claimed), AskUser("a", QUESTIONS, None, 600.0))).chat
    assert asking.status is Status.RUNNING
    assert chat.id in await obeyed(world)
    assert [action.chat_id for action in await world.store.actions(chat.id)] == [agent.id]
    await world.age_actions(chat.id, 301.0)
    note = reports(await world.store.report_agents(chat.id))["w0"]["note"]
    assert "waits for a person to see to" in str(note)
    await world.store.apply(agent.id, AnswerQuestions("a", REPLIES), owner_id=OWNER)
    assert chat.id in await obeyed(world)
    assert await world.store.actions(chat.id) == ()


async def test_a_report_has_what_the_agent_said_since_it_was_asked_last(world: World) -> None:
    """What it said to the task before would pass for what became of this one."""
    chat = await parent(world, "s", "m")
    agent = (await spawn(world, chat)).chat
    await answered(world, agent)
    send = Send((TextPart("And the cats?"),), asker=Asker(chat.id, "m"))
    await world.store.apply(agent.id, send, owner_id=OWNER)
    claimed = (await world.claim()).chat
    steps = [assistant("I count them.", "a"), result("a"), assistant("", "b"), result("b")]
    for step in steps if claimed.id == agent.id else ():
        planned = tuple(call(one, CallState.STARTED, effect="read") for one in "ab" if step in (steps[0], steps[2]))
        claimed = (await world.store.commit(fence_of(claimed), CommitStep((step,), planned))).chat
    await waiting(world, chat, agent.id)
    await world.age_actions(chat.id, 301.0)
    told = reports(await world.store.report_agents(chat.id))["w0"]
    assert (told["timed_out"], told["report"]) == (True, "I count them."), "and not that it calls something"


async def test_an_agent_that_was_stopped_before_a_word_reports_none(world: World) -> None:
    chat = await parent(world, "s", "m")
    agent = (await spawn(world, chat)).chat
    await answered(world, agent)
    await world.store.apply(agent.id, Send((TextPart("And the cats?"),), asker=Asker(chat.id, "m")), owner_id=OWNER)
    claimed = (await world.claim()).chat
    await world.store.apply(agent.id, Interrupt(), owner_id=OWNER)
    await world.store.commit(fence_of(claimed), FinishInterruption())
    await waiting(world, chat, agent.id)
    told = reports(await world.store.report_agents(chat.id))["w0"]
    assert (told["status"], told["report"], "without a word" in str(told["note"])) == ("waiting", "", True)


# --- to delete --------------------------------------------------------------------------------


async def test_a_family_is_deleted_as_a_whole_and_at_rest(world: World) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    chat = (await world.store.commit(fence_of(chat), FinishTurn())).chat
    with pytest.raises(ChatBusy):
        await world.store.delete(chat.id, owner_id=OWNER)
    with pytest.raises((AgentChat, ChatBusy)):
        await world.store.delete(agent.id, owner_id=OWNER)
    await answered(world, agent)
    with pytest.raises(AgentChat):
        await world.store.delete(agent.id, owner_id=OWNER)
    await world.store.delete(chat.id, owner_id=OWNER)
    for one in (chat, agent):
        with pytest.raises(ChatNotFound):
            await world.store.get(one.id)
    assert await world.store.family(chat.id) == ()


# --- what a family costs ----------------------------------------------------------------------


async def test_a_family_costs_what_its_chats_cost_each_attempt_once(world: World) -> None:
    """P1: shown at its root, and nowhere else."""
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    await waiting(world, chat, agent.id)
    claimed = (await world.claim()).chat
    assert claimed.id == agent.id
    for known in (claimed, None, claimed):
        answer = FinishTurn((assistant("Four birds."),))
        await world.store.commit(fence_of(claimed), answer, known=known, spent=(spent(claimed),))
    await world.store.report_agents(chat.id)
    chat = (await world.claim()).chat
    await world.store.commit(fence_of(chat), FinishTurn((assistant("There are four."),)), spent=(spent(chat),))
    root, child = await world.store.details(chat.id), await world.store.details(agent.id)
    assert (root.usage.cost_micros, child.usage.cost_micros) == (7, 7)
    assert root.family_usage == Bill(2, input_tokens=20, output_tokens=10, cost_micros=14)
    assert child.family_usage is None


async def test_a_chat_without_agents_has_no_cost_of_a_family(world: World) -> None:
    assert (await world.store.details(await world.chat())).family_usage is None


@pytest.mark.parametrize("old", [False, True], ids=["booked with its root", "booked by the previous version"])
async def test_usage_can_be_summed_up_by_family(world: World, url: str | None, old: bool) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    await waiting(world, chat, agent.id)
    claimed = (await world.claim()).chat
    await world.store.commit(fence_of(claimed), FinishTurn((assistant("Four."),)), spent=(spent(claimed),))
    if old and url is not None:
        await trio.to_thread.run_sync(execute_sql, url, "update usage_events set root_id = null")
    query = UsageQuery(datetime(2000, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC), GroupBy.FAMILY, OWNER)
    sums = await world.usage.sums(query, limit=10)
    assert [(group.key, group.bill.cost_micros) for group in sums.groups] == [(str(chat.id), 7)]


def spent(chat: Chat) -> Spent:
    counts: dict[str, int] = {"input_tokens": 10, "output_tokens": 5, "cost_micros": 7}
    return Spent(chat.history_version, chat.attempt, chat.epoch, SpentOutcome.COMMITTED, "large", "cloud", **counts)
