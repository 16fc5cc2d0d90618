"""``Ledger`` and ``Details`` on a ``MemoryDatabase``: what is read of tool calls and of one chat, and what is
kept besides the chats' states."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
from msgspec import UNSET, UnsetType

from chatcluster.chat import CallState, Decision, Fence, Grant, OpenCall, Remember, Status
from chatcluster.errors import Fenced, Moved
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.families import MemoryFamilies, awaiting
from chatcluster.memory.link import Link
from chatcluster.memory.tables import ChatRow
from chatcluster.parts import CONTENT_VERSION, Message, Role, ToolCallPart, text_of
from chatcluster.ports import (
    PERMISSION_SECONDS,
    PERMISSIONS_MAX,
    Action,
    Chat,
    DeletedChat,
    Permission,
    ResultSlice,
    SignInWait,
)
from chatcluster.ports.details import ChatDetails, ChatWorkspace
from chatcluster.ports.ledger import Waits
from chatcluster.usage import bill_of


class MemoryLedger(MemoryFamilies):
    def __init__(self, database: MemoryDatabase, link: Link) -> None:
        self._database = database
        self._link = link

    async def open_calls(self, chat_id: UUID) -> tuple[OpenCall, ...]:
        async with self._link.crossing("open_calls"):
            row = self._database.row(chat_id)
            return tuple(self._with_deadline(row, call) for call in row.state.open_calls)

    async def actions(self, chat_id: UUID) -> tuple[Action, ...]:
        async with self._link.crossing("actions"):
            row = self._database.chats.get(chat_id)
            return () if row is None else self._actions(row)

    async def find(self, chat_ids: Sequence[UUID], *, owner_id: UUID) -> Chat | None:
        async with self._link.crossing("find"):
            rows = (self._database.chats.get(chat_id) for chat_id in chat_ids)
            return next(
                (self._database.view(row) for row in rows if row is not None and row.owner_id == owner_id), None
            )

    async def details(self, chat_id: UUID) -> ChatDetails:
        async with self._link.crossing("details"):
            row, kept = self._database.row(chat_id), self._database.kept
            booked = kept.usage.items()
            usage = bill_of(one.spent for key, one in booked if key.chat_id == chat_id)
            family = bill_of(one.spent for key, one in booked if chat_id in (key.chat_id, one.root_id))
            return ChatDetails(
                self._database.view(row),
                self._actions(row),
                usage,
                kept.prompts.get(chat_id, _first_prompt(row) if chat_id not in kept.families.kin else None),
                family if any(kin.root_id == chat_id for kin in kept.families.kin.values()) else None,
                self._workspace(chat_id),
            )

    def _workspace(self, chat_id: UUID) -> ChatWorkspace | None:
        kept = self._database.kept
        root_id = kept.families.kin[chat_id].root_id if chat_id in kept.families.kin else chat_id
        row = kept.workspaces.of_chat(root_id)
        return None if row is None else ChatWorkspace(row.id, row.name, row.state)

    async def waits(self, chat_id: UUID, message_id: int) -> Waits:
        async with self._link.crossing("waits"):
            row = self._database.chats.get(chat_id)
            if row is None:
                return {}
            asked = _asked([one for one in row.messages if one.id == message_id])
            return {call_id: row.calls.waits[call_id] for call_id in asked if call_id in row.calls.waits}

    async def sign_in_waits(self, limit: int, *, owner_id: UUID | None = None) -> tuple[SignInWait, ...]:
        async with self._link.crossing("sign_in_waits"):
            waits = [
                SignInWait(row.id, row.owner_id, call.call_id, call.name)
                for row in self._database.chats.values()
                if row.state.status is Status.REQUIRES_ACTION and owner_id in (None, row.owner_id)
                for call in row.state.open_calls
                if call.state is CallState.SIGN_IN
            ]
            return tuple(waits[:limit])

    async def keep_result(self, fence: Fence, call_id: str, data: bytes) -> None:
        async with self._link.crossing("keep_result"):
            row = self._database.chats.get(fence.chat_id)
            if row is None or (row.state.worker_id, row.state.epoch) != (fence.worker_id, fence.epoch):
                raise Fenced(f"the tenure {fence.epoch} of worker {fence.worker_id} is over")
            if not any(call.call_id == call_id for call in row.state.open_calls):
                raise Moved(f"call {call_id} is not open any more")
            row.calls.results[call_id] = data

    async def keep_prefix(self, fence: Fence, digest: str, data: bytes) -> None:
        async with self._link.crossing("keep_prefix"):
            row = self._database.chats.get(fence.chat_id)
            if row is None or (row.state.worker_id, row.state.epoch) != (fence.worker_id, fence.epoch):
                raise Fenced(f"the tenure {fence.epoch} of worker {fence.worker_id} is over")
            row.calls.prefix = (digest, data)

    async def read_prefix(self, chat_id: UUID) -> bytes | None:
        async with self._link.crossing("read_prefix"):
            row = self._database.chats.get(chat_id)
            return None if row is None or row.calls.prefix is None else row.calls.prefix[1]

    async def read_result(self, chat_id: UUID, call_id: str, *, offset: int, limit: int) -> ResultSlice | None:
        async with self._link.crossing("read_result"):
            row = self._database.chats.get(chat_id)
            data = None if row is None else row.calls.results.get(call_id)
            return None if data is None else ResultSlice(data[offset : offset + limit], len(data))

    async def permissions(self, owner_id: UUID, *chat_ids: UUID) -> frozenset[str]:
        async with self._link.crossing("permissions"):
            standing = self._standing(owner_id)
            return frozenset(one.tool for one in standing if one.chat_id in (None, *chat_ids))

    async def list_permissions(self, owner_id: UUID) -> tuple[Permission, ...]:
        async with self._link.crossing("list_permissions"):
            return tuple(reversed(self._standing(owner_id)))[:PERMISSIONS_MAX]

    async def delete_permission(self, owner_id: UUID, permission_id: UUID) -> bool:
        async with self._link.crossing("delete_permission"):
            kept = self._database.kept.permissions.get(owner_id, {})
            found = [key for key, one in kept.items() if one.id == permission_id]
            for key in found:
                del kept[key]
            return bool(found)

    # parts of a transition

    def _actions(self, row: ChatRow) -> tuple[Action, ...]:
        kin = self._database.kept.families.kin
        agents = [self._database.chats[each] for each in kin if kin[each].root_id == row.id]
        return (*self._own_actions(row), *(action for agent in agents for action in self._own_actions(agent, agent.id)))

    def _own_actions(self, row: ChatRow, agent_id: UUID | UnsetType = UNSET) -> tuple[Action, ...]:
        rests = row.state.status is Status.REQUIRES_ACTION
        if not rests and row.state.status is not Status.RUNNING:
            return ()
        asked = _asked(row.messages)
        waiting = [
            call
            for call in row.state.open_calls
            if call.asks_now or (rests and call.waits and call.state is not CallState.AGENTS)
        ]
        return tuple(self._action(row, call, asked[call.call_id], agent_id) for call in waiting)

    def _action(self, row: ChatRow, call: OpenCall, part: ToolCallPart, agent_id: UUID | UnsetType) -> Action:
        is_asking = call.asks_now or call.state is CallState.QUESTION
        return Action(
            call.call_id,
            call.name,
            CallState.QUESTION if is_asking else call.state,
            part.arguments if call.arguments is None else call.arguments,
            call.digest,
            self._database.date(row.calls.deadlines[call.call_id]),
            may_have_run=not call.asks_now and call.started_epoch is not None,
            chat_id=agent_id,
            questions=call.questions if is_asking else UNSET,
        )

    def _write_calls(self, row: ChatRow, decision: Decision) -> None:
        """Before the chat has its new state."""
        edits, deadlines = decision.calls, row.calls.deadlines
        row.calls.results.update(edits.kept)
        row.calls.known.update(call.call_id for call in edits.opened)
        waiting = {call.call_id: call for call in decision.state.open_calls if call.waits}
        for call_id in (*edits.closed, *(call.call_id for call in edits.changed)):
            deadlines.pop(call_id, None)
        if decision.state.status is not Status.REQUIRES_ACTION:
            waiting = {call.call_id: call for call in decision.state.open_calls if call.asks_now}
        elif edits.opened or edits.changed or edits.closed:
            for call_id in waiting.keys() - deadlines.keys():
                row.calls.waits[call_id] = (*row.calls.waits.get(call_id, ()), waiting[call_id].state)
        for call_id, call in waiting.items():
            deadlines.setdefault(call_id, self._database.clock() + call.wait_seconds)
        if decision.grant is not None:
            self._permit(row, decision.grant)

    def _permit(self, row: ChatRow, grant: Grant) -> None:
        chat_id = self._database.view(row).family_id if grant.remember is Remember.CHAT else None
        now = self._database.now()
        permission = Permission(uuid4(), grant.tool, chat_id, now, now + timedelta(seconds=PERMISSION_SECONDS))
        kept = self._database.kept.permissions.setdefault(row.owner_id, {})
        kept.pop((grant.tool, chat_id), None)
        kept[grant.tool, chat_id] = permission

    def _forget_permissions(self, owner_id: UUID, chat_id: UUID) -> None:
        """Forget the permissions of a chat that is deleted."""
        kept = self._database.kept.permissions.get(owner_id, {})
        for key in [key for key in kept if key[1] == chat_id]:
            del kept[key]

    def _delete_family(self, chat_id: UUID, owner_id: UUID) -> None:
        """A chat, and all agents below it."""
        families = self._database.kept.families
        for each in [chat_id, *(each for each, kin in families.kin.items() if kin.root_id == chat_id)]:
            self._delete(each, owner_id)

    def _delete(self, chat_id: UUID, owner_id: UUID) -> None:
        families = self._database.kept.families
        del self._database.chats[chat_id]
        families.kin.pop(chat_id, None)
        families.orders.pop(chat_id, None)
        self._database.kept.titles_wanted.pop(chat_id, None)
        self._forget_permissions(owner_id, chat_id)
        keys = self._database.kept.keys
        about = [used for used, one in keys.items() if one.outcome.chat.id == chat_id]
        for used in about:
            if used[1].startswith("said-"):  # of messages that have names: new ones may have the same
                del keys[used]
        self._database.kept.deleted.append((self._database.now(), DeletedChat(chat_id, owner_id)))

    def _standing(self, owner_id: UUID) -> list[Permission]:
        kept = self._database.kept.permissions.get(owner_id, {})
        return [permission for permission in kept.values() if permission.expires_at > self._database.now()]

    def _overdue(self, row: ChatRow) -> tuple[str, ...]:
        """The calls that waited for too long, if the chat can be gone on with and nobody has locked it."""
        state, locked = row.state, row.id in self._database.locked_rows
        if locked or state.status is not Status.REQUIRES_ACTION or state.content_version > CONTENT_VERSION:
            return ()
        now, agents = self._database.clock(), awaiting(row)
        overdue = [call_id for call_id, deadline in row.calls.deadlines.items() if deadline <= now]
        return tuple(call_id for call_id in overdue if call_id not in agents)

    def _with_deadline(self, row: ChatRow, call: OpenCall) -> OpenCall:
        deadline = row.calls.deadlines.get(call.call_id)
        date = None if deadline is None else self._database.date(deadline)
        return msgspec.structs.replace(call, deadline=date)


def _first_prompt(row: ChatRow) -> str | None:
    first = next(iter(row.messages), None)
    return text_of(first.parts) if first is not None and first.role is Role.SYSTEM else None


def _asked(messages: list[Message]) -> dict[str, ToolCallPart]:
    return {part.id: part for message in messages for part in message.parts if isinstance(part, ToolCallPart)}
