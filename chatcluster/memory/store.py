"""``Store`` on a ``MemoryDatabase``: load, ask ``chat.decide``, write what it says, in one synchronous step."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import msgspec

from chatcluster.chat import (
    DRAINED,
    NO_FACTS,
    Answer,
    ChatSetup,
    Create,
    Decision,
    DeleteMessage,
    Edit,
    ExpireCalls,
    Facts,
    Fence,
    OwnerCommand,
    Queued,
    Release,
    Rename,
    Replaced,
    Send,
    UserCommand,
    create,
    decide,
    event_name,
    is_repeat,
    leapt,
    setup_of,
)
from chatcluster.config import Settings
from chatcluster.errors import Fenced, IdempotencyKeyReused, OwnershipError, StoreFailed
from chatcluster.memory.claims import Claims
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.forks import copied_of
from chatcluster.memory.link import Link
from chatcluster.memory.reads import MemoryReads
from chatcluster.memory.room import make_sure_of_room, require_files_of, require_files_of_new
from chatcluster.memory.tables import ChatRow, Origin, TitleWish, UsedKey
from chatcluster.parts import EndedTurn, Message, NewMessage, QueuedMessage, Role
from chatcluster.ports import (
    Booking,
    Chat,
    Claimed,
    Idempotency,
    NewChat,
    Outcome,
    require_rest,
)


class MemoryStore(Claims, MemoryReads):
    def __init__(self, database: MemoryDatabase, link: Link | None = None, settings: Settings | None = None) -> None:
        MemoryReads.__init__(self, database, link or Link())
        Claims.__init__(self, database, settings or Settings())

    # transitions

    async def answered(self, owner_id: UUID, idempotency: Idempotency) -> Outcome | None:
        async with self._link.crossing("answered"):
            return self._once(owner_id, idempotency)

    async def create(
        self, chat: NewChat, idempotency: Idempotency | None = None, *, claimer: UUID | None = None
    ) -> Outcome:
        async with self._link.crossing("create"):
            return self._once(chat.owner_id, idempotency) or self._create(chat, idempotency, claimer)

    async def apply(
        self,
        chat_id: UUID,
        command: UserCommand,
        *,
        owner_id: UUID,
        idempotency: Idempotency | None = None,
        claimer: UUID | None = None,
    ) -> Outcome:
        async with self._link.crossing("apply"):
            return self._once(owner_id, idempotency) or self._apply(chat_id, command, owner_id, idempotency, claimer)

    async def delete(self, chat_id: UUID, *, owner_id: UUID) -> Chat:
        async with self._link.crossing("delete"):
            chat = self._database.view(self._owned(chat_id, owner_id))
            require_rest(chat)
            self._require_family_rest(self._database.row(chat_id))
            self._delete_family(chat_id, owner_id)
            return chat

    async def commit(
        self,
        fence: Fence,
        command: OwnerCommand,
        *,
        known: Chat | None = None,  # noqa: ARG002
        spent: Booking = (),
    ) -> Outcome:
        async with self._link.crossing("commit"):
            return self._commit(fence, command, spent)

    async def raise_epoch(self, chat_id: UUID, worker_id: UUID, *, epoch: int, above: int) -> Chat:
        async with self._link.crossing("raise_epoch"):
            return self._raise_epoch(chat_id, worker_id, epoch, above)

    async def claim(self, worker_id: UUID, *, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        async with self._link.crossing("claim"):
            return self._claim(worker_id, free_slots, batch)

    async def expire_actions(self, limit: int) -> tuple[Outcome, ...]:
        async with self._link.crossing("expire_actions"):
            rows = [row for row in self._database.chats.values() if self._overdue(row)]
            return tuple(self._expire(row) for row in rows[:limit])

    # the steps, each atomic

    def _raise_epoch(self, chat_id: UUID, worker_id: UUID, epoch: int, above: int) -> Chat:
        row = self._database.row(chat_id)
        state = row.state
        if (state.worker_id, state.epoch) == (worker_id, epoch) and epoch < above:
            raised = msgspec.structs.replace(leapt(state, self._database.timeline), epoch=above)
            self._database.change(row, raised)
        elif (state.worker_id, state.epoch) != (worker_id, above):
            raise Fenced(f"the tenure {epoch} of chat {chat_id} is over; now {state.epoch}")
        return self._database.view(row)

    def _once(self, owner_id: UUID, idempotency: Idempotency | None) -> Outcome | None:
        """The answer that an earlier request with this key was given, None if there was none."""
        used = idempotency and self._database.kept.keys.get((owner_id, idempotency.key))
        if not used or idempotency is None:
            return None
        if used.request_digest != idempotency.request_digest:
            raise IdempotencyKeyReused("this Idempotency-Key was used with another request", key=idempotency.key)
        return msgspec.structs.replace(used.outcome, replayed=True)

    def _remember(self, owner_id: UUID, idempotency: Idempotency | None, outcome: Outcome) -> Outcome:
        if idempotency is not None:
            used = UsedKey(idempotency.request_digest, outcome)
            self._database.kept.keys[owner_id, idempotency.key] = used
        return outcome

    def _create(self, chat: NewChat, idempotency: Idempotency | None, claimer: UUID | None = None) -> Outcome:
        if chat.id in self._database.chats:
            raise StoreFailed(f"there is a chat {chat.id} already")
        copies, copied_version = copied_of(self._database, chat, self._settings.sizes.history_bytes_max)
        decision = self._with_claim(None, create(Create(chat.messages, chat.at_rest, copied_version)), claimer)
        require_files_of_new(self._database, chat)
        now = self._database.now()
        given = ChatSetup(**setup_of(chat))
        row = ChatRow(chat.id, chat.owner_id, given, decision.state, created_at=now, updated_at=now)
        if chat.system_prompt:
            self._database.kept.prompts[chat.id] = chat.system_prompt
        self._database.chats[chat.id] = row
        if chat.wants_title:
            self._database.kept.titles_wanted[chat.id] = TitleWish(self._database.clock())
        messages, state = (*copies, *decision.messages), self._database.found(row)
        written = self._write(row, msgspec.structs.replace(decision, state=state, messages=messages))
        own = msgspec.structs.replace(written, messages=written.messages[len(copies) :])
        outcome = self._remember(chat.owner_id, idempotency, own)
        return outcome if row.state.worker_id is None else self._as_claimed(row, outcome)

    def _apply(
        self,
        chat_id: UUID,
        command: UserCommand,
        owner_id: UUID,
        idempotency: Idempotency | None,
        claimer: UUID | None = None,
    ) -> Outcome:
        row = self._owned(chat_id, owner_id)
        make_sure_of_room(row, command, self._settings.sizes.history_bytes_max)
        if isinstance(command, Rename):
            self._database.kept.titles_wanted.pop(chat_id, None)
        before = self._database.found(row)
        decision = decide(before, command, facts=self._facts(row, command))
        require_files_of(self._database, row, command)
        with_claim = self._with_claim(before, decision, claimer)
        outcome = self._remember(owner_id, idempotency, self._write(row, with_claim))
        return outcome if with_claim is decision else self._as_claimed(row, outcome)

    def _expire(self, row: ChatRow) -> Outcome:
        return self._write(row, decide(self._database.found(row), ExpireCalls(self._overdue(row))))

    def _commit(self, fence: Fence, command: OwnerCommand, spent: Booking) -> Outcome:
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
        if isinstance(command, Release) and command.cause == DRAINED:
            self._database.log_freed(row, DRAINED, self._database.name_of(fence.worker_id))
        self._database.book(row, spent)
        outcome = self._write(row, decision)
        row.commits[origin] = outcome.messages
        return outcome

    # writing a decision

    def _write(self, row: ChatRow, decision: Decision) -> Outcome:
        ended = self._end_turn(row, decision)
        if decision.delete is not None:
            first, last = decision.delete
            row.messages = [message for message in row.messages if not first <= message.id <= last]
        state = decision.state
        version = state.snapshot_version
        messages = tuple(self._message(message, version) for message in decision.messages)
        row.messages.extend(messages)
        for queued_id in decision.dequeue:
            del row.queued_at[queued_id]
        queued = None
        if decision.enqueue is not None:
            new = decision.enqueue
            queued = QueuedMessage(next(self._database.ids), new.parts, self._database.now(), new.model, decision.steer)
            row.queued_at[queued.id] = queued.created_at
            entry = Queued(queued.id, new.parts, new.model, decision.steer)
            state = msgspec.structs.replace(state, queue=(*state.queue, entry))
        if decision.requeue is not None:
            queued_id, new = decision.requeue
            steered = next(entry.steered for entry in state.queue if entry.id == queued_id)
            queued = QueuedMessage(queued_id, new.parts, row.queued_at[queued_id], new.model, steered)
        if decision.setup is not None:
            row.setup = msgspec.structs.replace(row.setup, **decision.setup.chosen)
        self._write_calls(row, decision)
        self._give_orders(row, decision)
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
        bill = self._database.bill_of(row, since=max((turn.revision for turn in row.turns), default=1))
        turn = EndedTurn(asked.id, str(decision.ended), duration_ms, revision, code, bill if bill.attempts else None)
        row.turns.append(turn)
        self._database.note_for_push(row, turn.outcome)
        return turn

    def _facts(self, row: ChatRow, command: UserCommand) -> Facts:
        if isinstance(command, Answer):
            return Facts(known_calls=frozenset(row.calls.known.intersection(command.call_ids)))
        if isinstance(command, Edit | DeleteMessage):
            found = {each.id: Replaced(each.role, each.model, each.revision) for each in row.messages}
            return Facts(found.get(command.message_id))
        if isinstance(command, Send) and command.asker is not None:
            return Facts(is_asker_gone=not self._is_at_work_on(command.asker.chat_id, command.asker.call_id))
        return NO_FACTS

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
