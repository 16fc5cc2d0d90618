"""One stream for a chat and all agents below it, under one cursor.

A reader of a family has one place in the audience. It is a subscriber of each chat's feed, and gets of each what any
subscriber would, in the order in which it comes; between two chats there is no order. The events of an agent have its
``chat_id`` in front of all else that they say; those of the chat itself are as in its own stream.

A cursor is ``<chat>~<agent>:<cursor>~…``: the chat's own cursor, and that of each agent that was told of, under the
first digits of its ID. A cursor of the chat alone will do: then all agents are told from their beginning.

New agents are looked for whenever a result of a tool names a chat, and once in a while. Failures are those of the
feeds: if one of them cuts the reader it is cut, and resumes by its cursor. While Postgres cannot be asked for agents,
those that are known are told of.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from math import inf
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.agents import descendants
from chatcluster.audience import Audience
from chatcluster.backoff import grown_seconds
from chatcluster.errors import ChatNotFound, InvalidCursor, StoreUnavailable, Unreadable
from chatcluster.parts import BEGINNING, Cursor, parse_cursor
from chatcluster.ports import Store
from chatcluster.shown import Snapshot
from chatcluster.subscribe import Feeds
from chatcluster.subscriber import Subscriber

KEY_DIGITS = 12
"""So many digits of an agent's ID are in a cursor."""
LOOK_SECONDS, LOOK_CAP_SECONDS = 5.0, 60.0
"""Between looks without cause: more and more, as families at rest may have many readers."""
LOOK_SECONDS_MAX = 10.0
"""So long others wait for an agent that cannot be read."""
AGENTS_TOLD_MAX = 100
_END = b"\n\n"
_DATA = b"\ndata: {"
_NAMES_A_CHAT = b"chat_id"
_IS_OF_LIST = b"\nevent: chat\n"
"""Each names a chat, and none of them an agent: agents are in no list."""
_AGENT = re.compile(r"([0-9a-f]{12}):(.*)", re.ASCII)


class FamilyCursor(NamedTuple):
    """``agents``: by the first digits of their IDs."""

    chat: Cursor
    agents: Mapping[str, Cursor]


def parse_family_cursor(text: str) -> FamilyCursor:
    """Raises ``InvalidCursor``."""
    chat, *agents = text.strip().split("~")
    return FamilyCursor(parse_cursor(chat) if chat else BEGINNING, dict(map(_agent_cursor, agents[:AGENTS_TOLD_MAX])))


def _agent_cursor(text: str) -> tuple[str, Cursor]:
    match = _AGENT.fullmatch(text)
    if match is None:
        raise InvalidCursor("not a cursor of this API; leave it away to read from the beginning", cursor=text[:80])
    return match[1], parse_cursor(match[2])


class Member(Subscriber):
    """What a reader of a family is for one of its chats."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.stirred: Callable[[], None] = lambda: None
        """Told of what ``sink`` is not: that the reader begins anew, or is cut."""
        self.agent_id: UUID | None = None
        """None: the chat itself."""
        self.shown = b""
        """The cursor that the reader has; nothing where it was not told of the agent yet."""

    @property
    def is_ready(self) -> bool:
        """Whether ``step`` has anything to do."""
        return self.catches_up or self._cut is not None or self.has_pending

    @property
    def catches_up(self) -> bool:
        """Whether the first events were not all given yet."""
        return self._catch_up is not None

    async def step(self) -> bytes:
        """Some of what there is. Never waits for more to come. Raises ``Cut``."""
        if self._catch_up is not None and self._cut is None:
            return await self._first(self._catch_up)
        return self._take()

    def restart(self, snapshot: Snapshot) -> None:
        super().restart(snapshot)
        self.stirred()

    def cut(self, reason: str) -> None:
        super().cut(reason)
        self.stirred()


class FamilySubscriber:
    """A reader of a chat and its agents, as a stream of events knows one reader of a feed."""

    def __init__(self, find: Callable[[FamilySubscriber], Awaitable[None]]) -> None:
        """``find`` attaches all that there are."""
        self.sink: Callable[[], None] | None = None
        self.members: dict[UUID | None, Member] = {}
        """The chat itself first, under None, then the agents."""
        self._find = find
        self._must_look = True
        self._looks = False
        self._looked = 0
        """How often in a row without cause."""
        self._look_at = -inf
        self._awake = trio.Event()

    def __repr__(self) -> str:
        return f"<FamilySubscriber of {len(self.members)} chats>"

    def attach(self, member: Member) -> None:
        """Hear from now on of what ``member`` has."""
        member.sink, member.stirred = self._offered, self._stirred
        self.members[member.agent_id] = member

    def _offered(self) -> None:
        if self.sink is None:
            self._awake.set()
        else:
            self.sink()

    def _stirred(self) -> None:
        self._awake.set()

    @property
    def has_pending(self) -> bool:
        """Whether ``receive_nowait`` left something that it would give now."""
        return not self._looks and any(member.has_pending and not member.catches_up for member in self.members.values())

    async def receive(self) -> bytes:
        """Some of what is pending, as whole events; waits while there is nothing. Raises ``Cut``."""
        while True:
            if self._must_look:
                await self._look()
            for member in list(self.members.values()):
                data = await member.step() if member.is_ready else b""
                if data:
                    return self._placed(member, data)
            if not any(member.is_ready for member in self.members.values()):
                await self._more()

    async def _look(self) -> None:
        self._looks = True
        try:
            await self._find(self)
        finally:
            self._looks = False
        self._must_look = False
        self._look_at = trio.current_time() + grown_seconds(LOOK_SECONDS, self._looked, LOOK_CAP_SECONDS)
        self._looked += 1

    async def _more(self) -> None:
        self._awake = trio.Event()
        with trio.move_on_at(self._look_at):
            await self._awake.wait()
        self._must_look = self._must_look or trio.current_time() >= self._look_at

    def receive_nowait(self) -> bytes:
        """Raises as ``Subscriber.receive_nowait``; and ``trio.WouldBlock`` where there is an agent to look for. Nothing
        while ``receive`` looks: words that come meanwhile do not make it begin to look anew."""
        if self._looks:
            return b""
        if self._must_look:
            raise trio.WouldBlock
        given = ((member, member.receive_nowait()) for member in self.members.values())
        return b"".join(self._placed(member, data) for member, data in given if data)

    def _placed(self, member: Member, data: bytes) -> bytes:
        told = _events(data)
        if _NAMES_A_CHAT in data and any(_NAMES_A_CHAT in event and _IS_OF_LIST not in event for event in told):
            self._must_look, self._looked = True, 0
            self._awake.set()
        return b"".join(self._told(member, event) for event in told)

    def _told(self, member: Member, event: bytes) -> bytes:
        """The event under the family's cursor, and an agent's with its ID in it. In one copy."""
        begins = event.index(b"\n")
        member.shown = event[:begins].removeprefix(b"id: ")
        pieces: list[bytes | memoryview] = [b"id: ", self._cursor]
        fields = event.find(_DATA, begins)
        if member.agent_id is not None and fields >= 0:
            pieces += event[begins : fields + len(_DATA)], b'"chat_id":"%b",' % str(member.agent_id).encode()
            begins = fields + len(_DATA)
        return b"".join((*pieces, memoryview(event)[begins:]))

    @property
    def _cursor(self) -> bytes:
        return b"~".join(_place(member) for member in self.members.values() if member.shown)


def _events(data: bytes) -> list[bytes]:
    if data.find(_END) == len(data) - len(_END):
        return [data]  # as all that are large
    return [event + _END for event in data.split(_END)[:-1]]


def _place(member: Member) -> bytes:
    return member.shown if member.agent_id is None else b"%b:%b" % (_key(member.agent_id).encode(), member.shown)


def _key(agent_id: UUID) -> str:
    return agent_id.hex[:KEY_DIGITS]


M = TypeVar("M", bound=Member)


class FamilyStreams:
    def __init__(self, *, feeds: Feeds, store: Store, audience: Audience) -> None:
        self._feeds = feeds
        self._store = store
        self._audience = audience

    @asynccontextmanager
    async def subscribe(self, owner_id: UUID, chat_id: UUID, cursor: FamilyCursor) -> AsyncIterator[FamilySubscriber]:
        """Follow the chat and its agents for the length of the block. Raises as ``Feeds.subscribe``."""
        with self._audience.place(owner_id):
            async with self.follow(owner_id, chat_id, cursor, Member) as (reader, _):
                yield reader

    @asynccontextmanager
    async def follow(
        self, owner_id: UUID, chat_id: UUID, cursor: FamilyCursor, kind: type[M]
    ) -> AsyncIterator[tuple[FamilySubscriber, M]]:
        """As ``subscribe``, for a reader that has a place already; a member of this kind follows the chat itself."""
        async with AsyncExitStack() as stack:

            async def find(reader: FamilySubscriber) -> None:
                try:
                    with trio.move_on_after(LOOK_SECONDS_MAX):
                        await self._find(stack, reader, owner_id, chat_id, cursor)
                except (ChatNotFound, StoreUnavailable, Unreadable) as error:
                    telemetry.event("feed.read_failed", chat_id=str(chat_id), error=str(error))

            reader = FamilySubscriber(find)
            root = await stack.enter_async_context(self._feeds.follow(chat_id, cursor.chat, kind, owner_id=owner_id))
            root.shown = str(cursor.chat).encode()
            reader.attach(root)
            yield reader, root

    async def _find(
        self, stack: AsyncExitStack, reader: FamilySubscriber, owner_id: UUID, chat_id: UUID, cursor: FamilyCursor
    ) -> None:
        """Follow the agents that are not followed yet, each from its cursor on. In no order: one that cannot be read is
        in nobody's way."""
        chat = await self._store.get(chat_id)
        agents = descendants(chat_id, await self._store.family(chat.family_id))[:AGENTS_TOLD_MAX]
        for agent in random.sample(agents, len(agents)):
            if agent.id in reader.members:
                continue
            place = cursor.agents.get(_key(agent.id))
            following = self._feeds.follow(agent.id, place or BEGINNING, Member, owner_id=owner_id)
            try:
                member = await stack.enter_async_context(following)
            except ChatNotFound:
                continue  # the family is being deleted
            except StoreUnavailable as error:
                telemetry.event("feed.read_failed", chat_id=str(agent.id), error=str(error))
                continue
            member.agent_id, member.shown = agent.id, str(place).encode() if place else b""
            reader.attach(member)
