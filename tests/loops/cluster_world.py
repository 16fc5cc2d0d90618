"""A cluster in one process: replicas of the real loops on memory ports, on a clock that jumps.

Each replica has wires of its own to 'Postgres' and 'Redis', which a test cuts, freezes, or holds at one
operation. Users act through a replica, as they do over HTTP. Time is virtual, so a test can say how long
something may take, and an hour costs nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import trio
import trio.testing

from chatcluster import telemetry
from chatcluster.audience import Audience
from chatcluster.chat import (
    Approve,
    Archive,
    Busy,
    ChatState,
    ClientTool,
    Compact,
    DeleteQueued,
    Edit,
    Interrupt,
    Promote,
    Rename,
    Send,
    Status,
    SubmitToolResults,
    ToolResult,
    Unarchive,
    UserCommand,
)
from chatcluster.config import Settings
from chatcluster.errors import StoreUnavailable, StreamsUnavailable, UnavailableError
from chatcluster.family_stream import FamilyStreams
from chatcluster.llm.routing import catalogue_stints
from chatcluster.memory import (
    MemoryBroker,
    MemoryDatabase,
    MemoryPubSub,
    MemoryRegistry,
    MemoryStore,
    MemoryStreams,
)
from chatcluster.memory.database import HeldLock
from chatcluster.memory.link import Link
from chatcluster.memory.tables import ChatRow
from chatcluster.models import EMPTY
from chatcluster.notices import Notices
from chatcluster.parts import (
    Cursor,
    NewMessage,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    parse_cursor,
    text_of,
)
from chatcluster.ports import NewChat, Outcome, Outside, Toolbox, Window
from chatcluster.publisher import Publisher
from chatcluster.replica import Replica
from chatcluster.subscribe import Feeds
from chatcluster.tab_stream import TabStreams
from chatcluster.tool_results import READ_RESULT
from chatcluster.tools.agents import AgentTools
from chatcluster.tools.client_tools import ClientTools
from chatcluster.tools.composition import Composition
from chatcluster.tools.read_result import WithReadResult
from chatcluster.transitions import Transitions
from chatcluster.watch import Watches
from loops.reader import Reader, View
from loops.scripted_model import Call, ScriptedModel
from loops.scripted_tools import ScriptedTools

SWEEPS = frozenset({"expire_actions", "undone"})
"""What each replica asks every second, whatever else there is to do."""

OWNER = UUID(int=100)
STATEMENT_SECONDS_MAX = 10.0
UNTIL_SECONDS_MAX = 100.0
LOOK_AGAIN_SECONDS = 0.05
FLUSH_SECONDS_MAX = 2.0


class Wire(Link):
    """The way from one replica to one server."""

    def __init__(self, failure: type[UnavailableError]) -> None:
        self.cut = False
        """The server cannot be reached: every request is refused at once."""
        self.crossings: Counter[str] = Counter()
        """Requests that took effect, by operation."""
        self._failure = failure
        self._frozen: trio.Event | None = None
        self._holds: dict[str, Hold] = {}
        self._answer_holds: dict[str, list[Hold]] = defaultdict(list)
        self._held: list[Hold] = []
        self._answers_lost: Counter[str] = Counter()

    def freeze(self) -> None:
        """Requests neither arrive nor fail, until ``thaw`` or the statement timeout."""
        self._frozen = trio.Event()

    def thaw(self) -> None:
        if self._frozen is not None:
            self._frozen.set()
            self._frozen = None

    def hold(self, operation: str) -> Hold:
        """Stop the next request of this kind on its way there."""
        hold = self._holds[operation] = Hold()
        return hold

    def hold_answer(self, operation: str) -> Hold:
        """Let the next request of this kind take effect (after those held already), and stop its answer on the way
        back: it tells of the past."""
        hold = Hold()
        self._answer_holds[operation].append(hold)
        return hold

    def close(self) -> None:
        """The connection is closed under whatever is on its way; what was not there yet never arrives."""
        self.cut = True
        for hold in self._held:
            hold.release()
        self.thaw()

    def lose_answer(self, operation: str, *, times: int = 1) -> None:
        """The next requests of this kind take effect, but their caller never hears of it."""
        self._answers_lost[operation] += times

    @asynccontextmanager
    async def crossing(self, operation: str) -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        await self._stand_still(self._holds.pop(operation, None))
        if self._frozen is not None:
            with trio.move_on_after(STATEMENT_SECONDS_MAX):
                await self._frozen.wait()
        if self.cut or self._frozen is not None:
            raise self._failure("the wire is cut")
        yield
        self.crossings[operation] += 1
        holds = self._answer_holds[operation]
        await self._stand_still(holds.pop(0) if holds else None)
        if self._answers_lost[operation] > 0:
            self._answers_lost[operation] -= 1
            raise self._failure("the answer was lost")

    async def _stand_still(self, hold: Hold | None) -> None:
        if hold is not None:
            self._held.append(hold)
            hold.reached.set()
            await hold.released.wait()


class Hold:
    """One request that stands still on its way."""

    def __init__(self) -> None:
        self.reached = trio.Event()
        self.released = trio.Event()

    def release(self) -> None:
        self.released.set()


class ObservedDatabase(MemoryDatabase):
    """Tells when a chat changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = trio.Event()

    def change(self, row: ChatRow, state: ChatState) -> None:
        super().change(row, state)
        self.changed.set()
        self.changed = trio.Event()

    def keep_sessions(self, worker_id: UUID) -> None:
        """The server does not notice that the client of these sessions is gone: it holds their locks for ever."""
        for key, lock in self.locks.items():
            if key[0] == worker_id:
                orphaned = self.locks[key] = HeldLock(lock.server)
                orphaned.released = lock.released


class Chat:
    """A chat as it stands in the database."""

    def __init__(self, world: World, chat_id: UUID) -> None:
        self.id = chat_id
        self._world = world

    def __repr__(self) -> str:
        return f"<Chat {self.status} epoch={self.epoch} {self.history} queue={self.queue}>"

    @property
    def row(self) -> ChatRow:
        return self._world.database.row(self.id)

    @property
    def state(self) -> ChatState:
        return self.row.state

    @property
    def status(self) -> str:
        return self._world.database.view(self.row).shown_status

    @property
    def owner(self) -> UUID | None:
        return self.state.worker_id

    @property
    def epoch(self) -> int:
        return self.state.epoch

    @property
    def history(self) -> list[str]:
        return [f"{message.role}: {text_of(message.parts)}" for message in self.row.messages]

    @property
    def results(self) -> dict[str, str]:
        """What the history says of each call; raises if one has two results, or one without being asked for."""
        asked: dict[str, str | None] = {}
        for message in self.row.messages:
            for part in message.parts:
                if isinstance(part, ToolCallPart):
                    assert asked.setdefault(part.id, None) is None
                elif isinstance(part, ToolResultPart):
                    assert asked[part.call_id] is None, f"{part.call_id} has two results"
                    asked[part.call_id] = part.text
        return {call_id: text for call_id, text in asked.items() if text is not None}

    @property
    def calls(self) -> list[str]:
        return [part.id for message in self.row.messages for part in message.parts if isinstance(part, ToolCallPart)]

    @property
    def queue(self) -> list[str]:
        return [text_of(queued.parts) for queued in self.state.queue]

    def queued_id(self, words: str) -> int:
        return next(queued.id for queued in self.state.queue if text_of(queued.parts) == words)

    def message_id(self, words: str) -> int:
        return next(message.id for message in self.row.messages if text_of(message.parts) == words)

    async def until(self, condition: Callable[[Chat], bool], *, within: float = UNTIL_SECONDS_MAX) -> None:
        await self._world.until(lambda: condition(self), within=within, about=self)

    async def until_status(self, status: str, *, within: float = UNTIL_SECONDS_MAX) -> None:
        await self.until(lambda chat: chat.status == status, within=within)


class SimulatedReplica:
    """One replica's loops on memory ports, what users do through it, and what can happen to it."""

    def __init__(self, world: World, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.world = world
        self.database_wire = Wire(StoreUnavailable)
        self.heartbeat_wire = Wire(StoreUnavailable)
        self.redis_wire = Wire(StreamsUnavailable)
        self.store = MemoryStore(world.database, self.database_wire, settings)
        self.registry = MemoryRegistry(world.database, self.heartbeat_wire)
        self.streams = MemoryStreams(world.broker, self.redis_wire)
        self.pubsub = MemoryPubSub(world.broker)
        self.publisher = Publisher(self.streams, coalesce_seconds=settings.streaming.coalesce_ms / 1000)
        self.notices = Notices(self.pubsub)
        self.transitions = Transitions(self.store, self.notices)
        readers = Audience(settings.streaming)
        self.feeds = Feeds(
            store=self.store, streams=self.streams, pubsub=self.pubsub, settings=settings, audience=readers
        )
        self.watches = Watches(store=self.store, pubsub=self.pubsub, settings=settings, audience=readers)
        self.families = FamilyStreams(feeds=self.feeds, store=self.store, audience=readers)
        self.tabs = TabStreams(
            feeds=self.feeds, families=self.families, watches=self.watches, store=self.store, audience=readers
        )
        self.notices.set_readers(self.feeds.learn, self.feeds.hand_over)
        self.incarnations: list[UUID] = []
        self.loop = Replica(
            name=name,
            address=name,
            settings=settings,
            outside=Outside(
                store=self.store,
                registry=self.registry,
                streams=self.streams,
                pubsub=self.pubsub,
                model=world.model,
                toolbox=self._toolbox(),
                windows=lambda model, _failures: world.window_of(model),
                stints=catalogue_stints(lambda: world.catalogue),
                tool_limits=lambda _model, _failures: world.tools_max,
            ),
            publisher=self.publisher,
            notices=self.notices,
            on_incarnation=self.incarnations.append,
        )
        self.stopped = trio.Event()
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<SimulatedReplica {self.name} {self.loop}>"

    def _toolbox(self) -> Toolbox:
        agents = AgentTools(self.store, self.transitions, self.settings)
        boxes = Composition(ClientTools(), agents, self.world.tools, reserved={READ_RESULT})
        return WithReadResult(boxes, self.store)

    @property
    def worker_id(self) -> UUID:
        return self.loop.worker_id

    @property
    def registered(self) -> bool:
        return self.worker_id in self.world.database.replicas

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live as a process does, until drained or killed."""
        with self._scope:
            async with trio.open_nursery() as background:
                await background.start(self.feeds.run)
                await background.start(self.watches.run)
                background.start_soon(self.publisher.run)
                task_status.started()
                await self.loop.run()
                await self.publisher.drained(FLUSH_SECONDS_MAX)
                await trio.testing.wait_all_tasks_blocked()
                self.feeds.cut_all()
                self.watches.cut_all()
                background.cancel_scope.cancel()
        self.stopped.set()

    # what can happen to it

    def kill(self) -> None:
        """SIGKILL: from this moment on nothing that it does has any effect, and its connections are closed."""
        self.pubsub.disconnect()
        for wire in self._wires:
            wire.close()
        self.world.database.drop_sessions(self.worker_id)
        self._scope.cancel()

    def disconnect(self) -> None:
        """A cut network: requests fail, nothing arrives; the servers think that its sessions live on."""
        self.pubsub.disconnect()
        self.world.database.keep_sessions(self.worker_id)
        for wire in self._wires:
            wire.cut = True

    def reconnect(self) -> None:
        for wire in self._wires:
            wire.cut = False
        self.pubsub.connect()

    def freeze(self) -> None:
        """A network that swallows everything, in both directions."""
        self.pubsub.disconnect()
        self.world.database.keep_sessions(self.worker_id)
        for wire in self._wires:
            wire.freeze()

    def wake(self) -> None:
        for wire in self._wires:
            wire.thaw()
        self.pubsub.connect()

    def lose_database(self) -> None:
        self.database_wire.cut = self.heartbeat_wire.cut = True

    def find_database(self) -> None:
        self.database_wire.cut = self.heartbeat_wire.cut = False

    async def drain(self) -> None:
        """SIGTERM, and wait for the exit."""
        self.loop.drain()
        with trio.fail_after(UNTIL_SECONDS_MAX):
            await self.stopped.wait()

    @property
    def _wires(self) -> tuple[Wire, ...]:
        return (self.database_wire, self.heartbeat_wire, self.redis_wire)

    # what users do through it

    async def create(
        self, words: str = "hello", *, title: str = "a chat", model: str | None = None, client_tools: Sequence[str] = ()
    ) -> Chat:
        messages = (NewMessage(Role.USER, (TextPart(words),)),)
        tools = tuple(ClientTool(name, f"the client's {name}", {"type": "object"}) for name in client_tools)
        outcome = await self.transitions.create(NewChat(uuid4(), OWNER, title, model, messages, tools))
        return Chat(self.world, outcome.chat.id)

    async def send(self, chat: Chat, words: str, busy: Busy = Busy.QUEUE, model: str | None = None) -> Outcome:
        return await self.apply(chat, Send((TextPart(words),), busy, model))

    async def interrupt(self, chat: Chat) -> Outcome:
        return await self.apply(chat, Interrupt())

    async def approve(self, chat: Chat, call_id: str, arguments: str | None = None) -> Outcome:
        digest = next((call.digest for call in chat.state.open_calls if call.call_id == call_id), None)
        return await self.apply(chat, Approve(call_id, digest, arguments))

    async def submit(self, chat: Chat, call_id: str, text: str) -> Outcome:
        return await self.apply(chat, SubmitToolResults((ToolResult(call_id, text),)))

    async def edit(self, chat: Chat, words: str, better: str) -> Outcome:
        return await self.apply(chat, Edit(chat.message_id(words), (TextPart(better),)))

    async def promote(self, chat: Chat, words: str) -> Outcome:
        return await self.apply(chat, Promote(chat.queued_id(words)))

    async def delete_queued(self, chat: Chat, words: str) -> Outcome:
        return await self.apply(chat, DeleteQueued(chat.queued_id(words)))

    async def archive(self, chat: Chat) -> Outcome:
        return await self.apply(chat, Archive())

    async def compact(self, chat: Chat) -> Outcome:
        return await self.apply(chat, Compact())

    async def unarchive(self, chat: Chat) -> Outcome:
        return await self.apply(chat, Unarchive())

    async def rename(self, chat: Chat, title: str) -> Outcome:
        return await self.apply(chat, Rename(title))

    async def apply(self, chat: Chat, command: UserCommand) -> Outcome:
        return await self.transitions.apply(chat.id, command, owner_id=OWNER)

    async def read(self, chat: Chat, cursor: str | None = None, *, view: View | None = None) -> Reader:
        """A reader of the chat's stream here; ``view`` is what it has from elsewhere."""
        join = partial(self.feeds.subscribe, chat.id, owner_id=OWNER)
        reader = Reader(chat.id, join, view)
        await self.world.start(reader.run, None if cursor is None else parse_cursor(cursor))
        return reader

    async def resume(self, chat: Chat, reader: Reader) -> Reader:
        """The client of ``reader`` goes on here, at the cursor that it has."""
        reader.leave()
        return await self.read(chat, view=reader.view)


class World:
    """The servers, the provider and the replicas. Made by the fixture ``world``."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.database = ObservedDatabase()
        self.broker = MemoryBroker()
        self.model = ScriptedModel()
        self.tools = ScriptedTools()
        self.window: Window | None = None
        self.tools_max: int | None = None
        """So many tools a model is offered at most."""
        self.catalogue = EMPTY
        """Of models: which of them has others behind it."""
        self.window_of: Callable[[str | None], Window | None] = lambda _model: self.window
        """How much the model takes, as far as it is known."""
        self.replicas: list[SimulatedReplica] = []
        self.told: list[tuple[str, dict[str, object]]] = []
        """What the loops reported."""
        self._nursery = nursery

    def hear(self, name: str, fields: dict[str, object]) -> None:
        self.told.append((name, fields))

    def names_told(self) -> list[str]:
        return [name for name, _ in self.told]

    async def start(self, task: Any, *args: Any) -> None:
        await self._nursery.start(task, *args)

    async def replica(self, name: str = "", **settings: Any) -> SimulatedReplica:
        """Start a replica, and wait until it is a member of the cluster."""
        replica = await self.outsider(name, **settings)
        await self.until(lambda: bool(replica.incarnations), about=replica)
        await trio.testing.wait_all_tasks_blocked()
        return replica

    async def outsider(self, name: str = "", **settings: Any) -> SimulatedReplica:
        """Start a replica, which may not get into the cluster yet."""
        name = name or "abcdefgh"[len(self.replicas)]
        replica = SimulatedReplica(self, name, Settings.of(**settings))
        self.replicas.append(replica)
        await self.start(replica.run)
        return replica

    async def cluster(self, count: int, **settings: Any) -> list[SimulatedReplica]:
        return [await self.replica(**settings) for _ in range(count)]

    async def one_turn(self, replica: SimulatedReplica, words: str = "hello", answer: str = "Hi there!") -> Chat:
        """A chat with one turn, at rest."""
        chat = await replica.create(words)
        (await self.model.next_call()).answer(answer)
        await chat.until_status("waiting")
        return chat

    async def exchange(self, replica: SimulatedReplica, chat: Chat, words: str, answer: str) -> None:
        """One more turn of a chat at rest."""
        await replica.send(chat, words)
        (await self.model.next_call()).answer(answer)
        await chat.until_status("waiting")

    async def answering(self, replica: SimulatedReplica, said: str = "Half an") -> tuple[Chat, Call, Reader]:
        """A chat in mid-answer, and a reader on the same replica that has read what was said so far."""
        chat = await replica.create("hello")
        reader = await replica.read(chat)
        call = await self.model.next_call()
        call.say(said)
        await reader.until_preview(said)
        return chat, call, reader

    def owner_of(self, chat: Chat) -> SimulatedReplica:
        return next(replica for replica in self.replicas if replica.worker_id == chat.owner)

    def others(self, *known: SimulatedReplica) -> list[SimulatedReplica]:
        return [replica for replica in self.replicas if replica not in known]

    async def until(
        self, condition: Callable[[], bool], *, within: float = UNTIL_SECONDS_MAX, about: object = ""
    ) -> None:
        """Wait for something in the world, for at most ``within`` (virtual) seconds."""
        with trio.move_on_after(within):
            while not condition():
                with trio.move_on_after(LOOK_AGAIN_SECONDS):
                    await self.database.changed.wait()
        assert condition(), f"not within {within:g} s: {about!r}"

    async def settle(self) -> None:
        """Let everybody do what there is to do now, without time passing."""
        await trio.testing.wait_all_tasks_blocked()

    def frames(self, chat: Chat) -> list[str]:
        """The chat's part stream as it stands: position and kind of each frame."""
        row = self.broker.stream(chat.id)
        return [] if row is None else [f"{frame.position} {frame.kind}" for frame in row.frames]


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    """A world for the length of the block; everything in it ends with it."""
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        telemetry.subscribe(world.hear)
        try:
            yield world
        finally:
            for replica in world.replicas:
                replica.kill()
            telemetry.unsubscribe(world.hear)
            nursery.cancel_scope.cancel()


__all__ = [
    "OWNER",
    "Chat",
    "Cursor",
    "Hold",
    "SimulatedReplica",
    "Status",
    "Wire",
    "World",
    "open_world",
]
