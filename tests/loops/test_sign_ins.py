"""A call whose user has to sign in waits for that, is run once the user has, and holds up nobody meanwhile."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
from msgspec.structs import replace

from chatcluster.chat import Interrupt
from chatcluster.chat.calls import NOT_SIGNED_IN_TEXT
from chatcluster.errors import StoreFailed, StoreLocked, Unreadable
from chatcluster.memory.mcp_servers import MemoryMcpServers
from chatcluster.ports import (
    Effect,
    Grant,
    McpServer,
    McpSettings,
    NoAuth,
    OAuthAuth,
    Outcome,
    SignInRequired,
    SignInWait,
)
from chatcluster.sign_ins import SignIns
from loops.cluster_world import OWNER, Chat, SimulatedReplica, World
from loops.reader import Reader
from loops.scripted_tools import tool
from loops.tool_scenes import calling, finish, two_runs


async def refused(world: World, a: SimulatedReplica, effect: Effect = Effect.ONCE) -> tuple[Chat, Reader]:
    """A chat whose call was not let in, before the eyes of a reader."""
    chat = await calling(world, a, "c1", name="mail__send", tools=(tool("mail__send", effect),))
    reader = await a.read(chat)
    (await world.tools.next_run()).crash(SignInRequired())
    await reader.until_status("requires_action")
    return chat, reader


class Mail:
    """The server of the tools, and whether the user may use it."""

    def __init__(self, world: World) -> None:
        self.servers = MemoryMcpServers(world.database)
        settings = McpSettings(url="https://mail.example/mcp", auth=OAuthAuth())
        self._server = McpServer(id=uuid4(), slug="mail", settings=settings)

    async def begin(self) -> None:
        await self.servers.add(self._server)

    async def sign_in(self) -> None:
        await self.servers.keep_grant(Grant(server_id=self._server.id, user_id=OWNER, sealed=b"tokens"))

    async def end(self, change: str) -> None:
        (known,) = await self.servers.servers()
        if change == "removed":
            await self.servers.remove("mail")
        else:
            fields = {"enabled": False} if change == "disabled" else {"auth": NoAuth()}
            await self.servers.change(replace(known, settings=replace(known.settings, **fields)))

    def sign_ins(self, replica: SimulatedReplica) -> SignIns:
        return SignIns(replica.store, self.servers, replica.transitions)


@pytest.fixture
async def mail(world: World) -> Mail:
    mail = Mail(world)
    await mail.begin()
    return mail


async def test_a_call_that_is_not_let_in_waits_and_is_run_once_its_user_has_signed_in(world: World, mail: Mail) -> None:
    a = await world.replica()
    chat, reader = await refused(world, a)
    assert chat.state.worker_id is None, "whoever waits holds no slot"
    (asked,) = [event for event in reader.events if event.type == "action_required"]
    (call,) = asked.data["calls"]
    assert (call["kind"], call["name"], call["may_have_run"]) == ("sign_in", "mail__send", False)
    await mail.sign_in()
    await mail.sign_ins(a).let_in(OWNER)
    run = await world.tools.next_run()
    assert run.call.call_id == "c1"
    run.give("sent")
    await finish(world, chat)
    assert chat.results == {"c1": "sent"}
    assert world.tools.effects["c1"] == 2, "asked for twice, let in once"


async def test_p4_replicas_find_it_when_the_one_that_took_the_callback_died(world: World, mail: Mail) -> None:
    a = await world.replica()
    chat, _ = await refused(world, a)
    await mail.sign_in()
    async with trio.open_nursery() as looking:
        looking.start_soon(mail.sign_ins(a).run)
        (await world.tools.next_run()).give("sent")
        await finish(world, chat)
        looking.cancel_scope.cancel()
    assert chat.results == {"c1": "sent"}


async def test_a_login_at_another_server_or_of_another_user_lets_nothing_in(world: World, mail: Mail) -> None:
    a = await world.replica()
    chat, _ = await refused(world, a)
    await mail.sign_ins(a).let_in(OWNER)
    await mail.sign_ins(a).let_in(uuid4())
    await world.settle()
    assert str(chat.state.status) == "requires_action"


@pytest.mark.parametrize("change", ["removed", "disabled", "other authentication"])
async def test_a_server_that_nobody_signs_in_at_any_more_keeps_no_call_waiting(
    world: World, mail: Mail, change: str
) -> None:
    """Else the chat would wait for a day for what nobody can do."""
    a = await world.replica()
    chat, _ = await refused(world, a)
    await mail.sign_ins(a).let_in(OWNER)
    assert chat.status == "requires_action"
    await mail.end(change)
    world.tools.offered = [tool("other")]
    await mail.sign_ins(a).let_in(OWNER)
    await finish(world, chat)
    assert "no tool 'mail__send'" in chat.results["c1"]


async def test_past_its_time_the_call_is_answered_and_the_turn_goes_on(world: World, mail: Mail) -> None:
    a = await world.replica(sign_in_seconds=60.0)
    chat, _ = await refused(world, a)
    call = await world.model.next_call()
    assert chat.results == {"c1": NOT_SIGNED_IN_TEXT}
    call.answer("Without it, then.")
    await chat.until_status("waiting")


async def test_a_stop_while_it_waits_ends_the_turn_and_a_later_login_changes_nothing(world: World, mail: Mail) -> None:
    a = await world.replica()
    chat, _ = await refused(world, a)
    await a.apply(chat, Interrupt())
    await mail.sign_in()
    await mail.sign_ins(a).let_in(OWNER)
    await world.settle()
    assert str(chat.state.status) == "waiting"
    assert world.tools.idle()


async def test_a_call_that_is_refused_while_another_is_written_down_waits_as_well(world: World, mail: Mail) -> None:
    a = await world.replica()
    chat = await calling(world, a, "c1", "c2", name="mail__send", tools=(tool("mail__send"),))
    first, second = await two_runs(world)
    held = a.database_wire.hold("commit")
    first.crash(SignInRequired())
    await world.settle()
    second.crash(SignInRequired())
    await world.settle()
    held.release()
    await chat.until_status("requires_action", within=1)
    await mail.sign_in()
    await mail.sign_ins(a).let_in(OWNER)
    for run in await two_runs(world):
        run.give("sent")
    await finish(world, chat)
    assert chat.results == {"c1": "sent", "c2": "sent"}


@pytest.mark.parametrize(
    "error",
    [Unreadable("of a newer version"), StoreFailed("damaged"), StoreLocked("held")],
    ids=["newer", "damaged", "held"],
)
async def test_p10_a_chat_that_cannot_be_written_keeps_no_other_waiting(
    world: World, mail: Mail, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await world.replica()
    waiting = [(await refused(world, a))[0] for _ in range(2)]
    bad, good = sorted(waiting, key=lambda chat: chat.id)
    await mail.sign_in()
    apply = a.transitions.apply

    async def fails(chat_id: UUID, *args: Any, **options: Any) -> Outcome:
        if chat_id == bad.id:
            raise error
        return await apply(chat_id, *args, **options)

    monkeypatch.setattr(a.transitions, "apply", fails)
    await mail.sign_ins(a).let_in(OWNER)
    (await world.tools.next_run()).give("sent")
    await finish(world, good)
    assert str(bad.state.status) == "requires_action"


async def test_p10_a_user_whose_logins_cannot_be_read_keeps_no_other_waiting(
    world: World, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await world.replica()
    chat, _ = await refused(world, a)
    await mail.sign_in()
    first = UUID(int=0)
    waits = (SignInWait(uuid4(), first, "c", "mail__send"), *await a.store.sign_in_waits(9))

    async def sign_in_waits(*_: object, **__: object) -> tuple[SignInWait, ...]:
        return waits

    async def grants(user_id: UUID) -> tuple[Grant, ...]:
        if user_id == first:
            raise StoreFailed("a damaged row")
        return await read(user_id)

    read = mail.servers.grants
    monkeypatch.setattr(mail.servers, "grants", grants)
    monkeypatch.setattr(a.store, "sign_in_waits", sign_in_waits)
    await mail.sign_ins(a).let_in(OWNER)
    (await world.tools.next_run()).give("sent")
    await finish(world, chat)


async def test_p10_who_comes_back_from_a_sign_in_waits_for_no_chat_without_end(
    world: World, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await world.replica()
    await refused(world, a)
    await mail.sign_in()
    asked: list[object] = []

    async def apply(chat_id: UUID, *_: object, **__: object) -> Outcome:
        asked.append(chat_id)
        await trio.sleep_forever()

    monkeypatch.setattr(a.transitions, "apply", apply)
    with trio.fail_after(60):
        await mail.sign_ins(a).let_in(OWNER)
    assert len(asked) == 1


async def test_a_sign_in_stands_where_the_database_goes_away_right_behind_it(world: World, mail: Mail) -> None:
    a = await world.replica()
    chat, _ = await refused(world, a)
    await mail.sign_in()
    a.database_wire.cut = True
    await mail.sign_ins(a).let_in(OWNER)
    a.database_wire.cut = False
    await mail.sign_ins(a).let_in(OWNER)
    (await world.tools.next_run()).give("sent")
    await finish(world, chat)
