"""``Store`` on a ``MemoryDatabase``: load, ask ``chat.decide``, write what it says, in one synchronous step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate, islice, takewhile
from uuid import UUID

import msgspec

from chatcluster.chat import (
    NO_FACTS,
    Create,
    Decision,
    Edit,
    Facts,
    Fence,
    OwnerCommand,
    Queued,
    Replaced,
    Status,
    UserCommand,
    claimed,
    create,
    decide,
    event_name,
    is_repeat,
    leapt,
)
from chatcluster.config import Settings
from chatcluster.errors import ChatNotFound, Fenced, HistoryTooLarge, IdempotencyKeyReused, OwnershipError
from chatcluster.memory.database import ChatRow, MemoryDatabase, Origin, UsedKey
from chatcluster.memory.link import Link
from chatcluster.parts import EndedTurn, Message, NewMessage, QueuedMessage, Role, encode
from chatcluster.ports import (
    SUSPECTED_TAKEOVERS,
    TURNS_MAX,
    VERSION_MAX,
    Changes,
    Chat,
    ChatRead,
    Claimed,
    HistoryPage,
    Idempotency,
    MessagePage,
    NewChat,
    NewerMessages,
    Outcome,
    Version,
    alone_seconds,
)
from chatcluster.room import bytes_of, new_parts, require_room


class MemoryStore:
    def __init__(self, database: MemoryDatabase, link: Link | None = None, settings: Settings | None = None) -> None:
        self._database = database
        self._link = link or Link()
        self._settings = settings or Settings()
        self._last_owner = UUID(int=0)
        """Whose turn it was in the last claim."""

    # transitions

    async def create(self, chat: NewChat, idempotency: Idempotency | None = None) -> Outcome:
        async with self._link.crossing("create"):
            return self._once(chat.owner_id, idempotency) or self._create(chat, idempotency)

    async def apply(
        self,
        chat_id: UUID,
        command: UserCommand,
        *,
        owner_id: UUID,
        idempotency: Idempotency | None = None,
    ) -> Outcome:
        async with self._link.crossing("apply"):
            return self._once(owner_id, idempotency) or self._apply(chat_id, command, owner_id, idempotency)

    async def commit(self, fence: Fence, command: OwnerCommand, *, known: Chat | None = None) -> Outcome:  # noqa: ARG002
        async with self._link.crossing("commit"):
            return self._commit(fence, command)

    async def raise_epoch(self, chat_id: UUID, worker_id: UUID, *, epoch: int, above: int) -> Chat:
        async with self._link.crossing("raise_epoch"):
            row = self._database.row(chat_id)
            state = row.state
            if (state.worker_id, state.epoch) == (worker_id, epoch) and epoch < above:
                raised = msgspec.structs.replace(leapt(state, self._database.timeline), epoch=above)
                self._database.change(row, raised)
            elif (state.worker_id, state.epoch) != (worker_id, above):
                raise Fenced(f"the tenure {epoch} of chat {chat_id} is over; now {state.epoch}")
            return self._database.view(row)

    async def claim(self, worker_id: UUID, *, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        async with self._link.crossing("claim"):
            return self._claim(worker_id, free_slots, batch)

    # reads

    async def read(self, chat_id: UUID, *, after_version: int = 0) -> ChatRead:
        async with self._link.crossing("read"):
            row = self._database.row(chat_id)
            messages = tuple(message for message in row.messages if message.revision > after_version)
            return ChatRead(self._database.view(row), messages, row.queue)

    async def read_history(self, chat_id: UUID, *, after: int, page_bytes: int, message_bytes_max: int) -> HistoryPage:
        async with self._link.crossing("read_history"):
            row = self._database.row(chat_id)
            return _history_page(row, after, page_bytes, message_bytes_max)

    async def read_newer(
        self,
        chat_id: UUID,
        *,
        after_version: int,
        after_id: int,
        queue_version: int,
        limit: int,
        bytes_max: int,
        turns_after: int = VERSION_MAX,
    ) -> ChatRead:
        async with self._link.crossing("read"):
            row = self._database.row(chat_id)
            newer = [message for message in row.messages if message.revision > after_version and message.id > after_id]
            messages, next_revision = _page(newer, limit, bytes_max)
            queue = row.queue if row.state.queue_version > queue_version else ()
            turns = _turns(row, turns_after, VERSION_MAX, TURNS_MAX)
            return ChatRead(self._database.view(row), messages, queue, next_revision, turns)

    async def read_messages(
        self,
        chat_id: UUID,
        *,
        after_version: int,
        after_id: int,
        up_to_version: int,
        limit: int,
        bytes_max: int,
        turns_after: int = VERSION_MAX,
        turns_max: int = TURNS_MAX,
    ) -> NewerMessages:
        async with self._link.crossing("read_messages"):
            row = self._database.chats.get(chat_id)
            wanted = [
                message
                for message in (row.messages if row is not None else ())
                if after_version < message.revision <= up_to_version and message.id > after_id
            ]
            turns = () if row is None else _turns(row, turns_after, up_to_version, turns_max)
            return NewerMessages(*_page(wanted, limit, bytes_max), turns)

    async def get(self, chat_id: UUID) -> Chat:
        async with self._link.crossing("get"):
            return self._database.view(self._database.row(chat_id))

    async def versions(self, chat_ids: Sequence[UUID]) -> dict[UUID, Version]:
        async with self._link.crossing("versions"):
            chats = self._database.chats
            return {chat_id: Version.of(chats[chat_id].state) for chat_id in chat_ids if chat_id in chats}

    async def list_chats(
        self, owner_id: UUID, *, archived: bool | None, limit: int, after: UUID | None
    ) -> tuple[Chat, ...]:
        async with self._link.crossing("list_chats"):
            newest = [row for row in reversed(self._database.chats.values()) if row.owner_id == owner_id]
            if after is not None:
                newest = newest[newest.index(self._owned(after, owner_id)) + 1 :]
            wanted = [row for row in newest if archived is None or row.state.archived == archived]
            return tuple(self._database.view(row) for row in wanted[:limit])

    async def list_changed(
        self, owner_ids: Sequence[UUID], *, seconds: float, as_of: datetime | None, after: Chat | None, limit: int
    ) -> Changes:
        async with self._link.crossing("list_changed"):
            now = self._database.now()
            since = min(now, as_of or now) - timedelta(seconds=seconds)
            changed = [row for row in self._database.chats.values() if row.owner_id in owner_ids]
            changed = [row for row in changed if row.updated_at > since]
            changed.sort(key=lambda row: (row.updated_at, row.id))
            if after is not None:
                changed = [row for row in changed if (row.updated_at, row.id) > (after.updated_at, after.id)]
            return Changes(tuple(map(self._database.view, changed[:limit])), now, self._database.timeline)

    async def list_messages(
        self, chat_id: UUID, *, owner_id: UUID, after: int, limit: int, bytes_max: int
    ) -> MessagePage:
        async with self._link.crossing("list_messages"):
            row = self._owned(chat_id, owner_id)
            later = [message for message in row.messages if message.id > after]
            messages, next_revision = _page(later, limit, bytes_max)
            return MessagePage(messages, row.queue, has_more=next_revision is not None)

    # the steps, each atomic

    def _owned(self, chat_id: UUID, owner_id: UUID) -> ChatRow:
        row = self._database.row(chat_id)
        if row.owner_id != owner_id:
            raise ChatNotFound("there is no such chat", chat_id=str(chat_id))
        return row

    def _once(self, owner_id: UUID, idempotency: Idempotency | None) -> Outcome | None:
        """The answer that an earlier request with this key was given, None if there was none."""
        used = idempotency and self._database.keys.get((owner_id, idempotency.key))
        if not used or idempotency is None:
            return None
        if used.request_digest != idempotency.request_digest:
            raise IdempotencyKeyReused("this Idempotency-Key was used with another request", key=idempotency.key)
        return msgspec.structs.replace(used.outcome, replayed=True)

    def _remember(self, owner_id: UUID, idempotency: Idempotency | None, outcome: Outcome) -> Outcome:
        if idempotency is not None:
            used = UsedKey(idempotency.request_digest, outcome)
            self._database.keys[owner_id, idempotency.key] = used
        return outcome

    def _create(self, chat: NewChat, idempotency: Idempotency | None) -> Outcome:
        decision = create(Create(chat.messages))
        now = self._database.now()
        row = ChatRow(chat.id, chat.owner_id, chat.title, chat.model, decision.state, created_at=now, updated_at=now)
        self._database.chats[chat.id] = row
        decision = msgspec.structs.replace(decision, state=self._database.found(row))
        return self._remember(chat.owner_id, idempotency, self._write(row, decision))

    def _apply(self, chat_id: UUID, command: UserCommand, owner_id: UUID, idempotency: Idempotency | None) -> Outcome:
        row = self._owned(chat_id, owner_id)
        self._make_sure_of_room(row, command)
        outcome = self._write(row, decide(self._database.found(row), command, facts=_facts(row, command)))
        return self._remember(owner_id, idempotency, outcome)

    def _make_sure_of_room(self, row: ChatRow, command: UserCommand) -> None:
        parts = new_parts(command)
        if parts is None:
            return
        if isinstance(command, Edit):
            held = bytes_of(message for message in row.messages if message.id < command.message_id)
        else:
            held = bytes_of(row.messages) + bytes_of(row.queue)
        require_room(held, parts, bytes_max=self._settings.history_bytes_max)

    def _commit(self, fence: Fence, command: OwnerCommand) -> Outcome:
        row = self._database.chats.get(fence.chat_id)
        if row is None:
            raise Fenced("the chat does not exist any more")
        origin = Origin(fence.epoch, fence.history_version, event_name(command))
        try:
            decision = decide(self._database.found(row), command, fence)
        except OwnershipError:
            recorded = row.commits.get(origin, ())
            if not is_repeat(command, recorded):
                raise
            return Outcome(self._database.view(row), recorded, replayed=True)
        outcome = self._write(row, decision)
        row.commits[origin] = outcome.messages
        return outcome

    def _claim(self, worker_id: UUID, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        if worker_id not in self._database.replicas:
            return ()
        interrupting = [row for row in self._claimable(Status.INTERRUPTING) if not _is_suspect(row)][:batch]
        places = max(0, min(free_slots, batch - len(interrupting)))
        suspected = self._suspected(worker_id, with_running=places > 0)
        running = self._by_turns()[: places - sum(row.state.status is Status.RUNNING for row in suspected)]
        if running:
            self._last_owner = running[-1].owner_id
        return tuple(self._take(row, worker_id) for row in (*interrupting, *suspected, *running))

    def _suspected(self, worker_id: UUID, *, with_running: bool) -> list[ChatRow]:
        """The suspect that waits longest, if the worker took none lately. A suspect may be what ended its owners."""
        if any(self._is_alone(row) for row in self._database.owned_by(worker_id)):
            return []
        statuses = (Status.INTERRUPTING, Status.RUNNING) if with_running else (Status.INTERRUPTING,)
        return [row for row in self._claimable(*statuses) if _is_suspect(row)][:1]

    def _is_alone(self, row: ChatRow) -> bool:
        """Whether the chat has its owner for itself still, as far as suspects go."""
        seconds = (self._database.now() - row.updated_at).total_seconds()
        return row.state.takeovers > SUSPECTED_TAKEOVERS and seconds < alone_seconds(row.state.takeovers)

    def _by_turns(self) -> list[ChatRow]:
        """Round by round the chats of each owner, the oldest first, beginning with the owner after the last one."""
        waiting = [row for row in self._claimable(Status.RUNNING) if not _is_suspect(row)]
        rounds: Counter[UUID] = Counter()
        turns: list[tuple[int, bool, UUID, int, ChatRow]] = []
        for row in waiting:
            rounds[row.owner_id] += 1
            if self._may_run(row.owner_id, rounds[row.owner_id]):
                turns.append((rounds[row.owner_id], row.owner_id <= self._last_owner, row.owner_id, len(turns), row))
        return [row for *_, row in sorted(turns, key=lambda turn: turn[:4])]

    def _may_run(self, owner_id: UUID, more: int) -> bool:
        """Whether the owner may have so many more running chats."""
        chats_max = self._settings.user_chats_max
        busy = [row for row in self._database.chats.values() if row.owner_id == owner_id and row.state.worker_id]
        return not chats_max or sum(row.state.status is Status.RUNNING for row in busy) + more <= chats_max

    def _claimable(self, *statuses: Status) -> list[ChatRow]:
        """The chats in these statuses that wait for an owner, the oldest first."""
        waiting = [
            (row.claimable_since, serial, row)
            for serial, row in enumerate(self._database.chats.values())
            if row.claimable_since is not None and row.state.status in statuses
        ]
        return [row for *_, row in sorted(waiting, key=lambda one: one[:2])]

    def _take(self, row: ChatRow, worker_id: UUID) -> Claimed:
        self._database.change(row, claimed(self._database.found(row), worker_id))
        retry_seconds = 0.0 if row.retry_at is None else max(0.0, row.retry_at - self._database.clock())
        return Claimed(self._database.view(row), retry_seconds)

    # writing a decision

    def _write(self, row: ChatRow, decision: Decision) -> Outcome:
        ended = self._end_turn(row, decision)
        if decision.delete_from is not None:
            row.messages = [message for message in row.messages if message.id < decision.delete_from]
        state = decision.state
        version = state.snapshot_version
        messages = tuple(self._message(message, version) for message in decision.messages)
        row.messages.extend(messages)
        for queued_id in decision.dequeue:
            del row.queued_at[queued_id]
        queued = None
        if decision.enqueue is not None:
            new = decision.enqueue
            queued = QueuedMessage(next(self._database.ids), new.parts, self._database.now(), new.model)
            row.queued_at[queued.id] = queued.created_at
            state = msgspec.structs.replace(state, queue=(*state.queue, Queued(queued.id, new.parts, new.model)))
        if decision.title is not None:
            row.title = decision.title
        if state.retry is None:
            row.retry_at = None
        elif decision.retry_delay_ms is not None:
            row.retry_at = self._database.clock() + decision.retry_delay_ms / 1000
        self._database.change(row, state)
        return Outcome(self._database.view(row), messages, queued, ended=ended)

    def _end_turn(self, row: ChatRow, decision: Decision) -> EndedTurn | None:
        asked = next((message for message in reversed(row.messages) if message.role is Role.USER), None)
        if decision.ended is None or asked is None:
            return None
        duration_ms = max(0, int((self._database.now() - asked.created_at) / timedelta(milliseconds=1)))
        error, revision = decision.state.last_error, decision.state.snapshot_version
        code = None if error is None else error.code
        turn = EndedTurn(asked.id, str(decision.ended), duration_ms, revision, code)
        row.turns.append(turn)
        return turn

    def _message(self, new: NewMessage, revision: int) -> Message:
        return Message(
            id=next(self._database.ids),
            role=new.role,
            parts=new.parts,
            revision=revision,
            created_at=self._database.now(),
            finish_reason=new.finish_reason,
            model=new.model,
            usage=new.usage,
            position=new.position,
        )


def _is_suspect(row: ChatRow) -> bool:
    return row.state.takeovers >= SUSPECTED_TAKEOVERS


def _facts(row: ChatRow, command: UserCommand) -> Facts:
    if not isinstance(command, Edit):
        return NO_FACTS
    found = {message.id: Replaced(message.role, message.model) for message in row.messages}
    return Facts(found.get(command.message_id))


def _history_page(row: ChatRow, after: int, page_bytes: int, message_bytes_max: int) -> HistoryPage:
    messages: list[Message] = []
    size_bytes = 0
    for message in row.messages:
        if message.id > after and size_bytes < page_bytes:
            message_bytes = bytes_of([message])
            if message_bytes > message_bytes_max:
                raise HistoryTooLarge(f"message {message.id} has {message_bytes} bytes")
            messages.append(message)
            size_bytes += message_bytes
    return HistoryPage(row.state.history_version, tuple(messages), size_bytes, has_more=size_bytes >= page_bytes)


def _turns(row: ChatRow, after: int, up_to: int, count_max: int) -> tuple[EndedTurn, ...]:
    return tuple([turn for turn in row.turns if after < turn.revision <= up_to][-count_max:])


def _page(messages: Sequence[Message], count_max: int, bytes_max: int) -> tuple[tuple[Message, ...], int | None]:
    """The first of ``messages``, within the bounds but one at least; and the revision of the next."""
    sizes = accumulate(len(encode(message.parts)) for message in messages)
    count = max(1, sum(1 for _ in takewhile(lambda size: size <= bytes_max, islice(sizes, count_max))))
    return tuple(messages[:count]), messages[count].revision if count < len(messages) else None
