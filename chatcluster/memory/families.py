"""``Families`` on a ``MemoryDatabase``: each method is one synchronous step."""

from __future__ import annotations

import random
from abc import abstractmethod
from uuid import UUID

from chatcluster.agents import AgentSeen, asks_people, command_of, family_is_full, report, rests, waits_for_people
from chatcluster.chat import CallState, Command, Decision, OpenCall, ReportAgents, Status, ToolResult, decide
from chatcluster.chat.family import Order, order_after
from chatcluster.errors import AgentChat, ChatBusy, Moved
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.tables import ChatRow, Kinship
from chatcluster.parts import CONTENT_VERSION, Role, text_of
from chatcluster.ports import Chat, Idempotency, NewChat, Outcome
from chatcluster.ports.families import Undone

REPORTS_MAX = 4


def _some(due: list[UUID], limit: int) -> tuple[UUID, ...]:
    return tuple(random.sample(due, min(limit, len(due))))


class MemoryFamilies:
    _database: MemoryDatabase
    _link: Link

    async def spawn(self, agent: NewChat, call_id: str, *, agents_max: int) -> Outcome:
        async with self._link.crossing("spawn"):
            return self._spawn(agent, call_id, agents_max)

    async def family(self, root_id: UUID) -> tuple[Chat, ...]:
        async with self._link.crossing("family"):
            kin = self._database.kept.families.kin
            below = [each for each in kin if kin[each].root_id == root_id]
            return tuple(self._view(each) for each in sorted(below, key=lambda each: kin[each].depth))

    async def report_agents(self, chat_id: UUID, *, patiently: bool = True) -> Outcome | None:  # noqa: ARG002
        async with self._link.crossing("report_agents"):
            row = self._database.chats.get(chat_id)
            results = () if row is None else self._results(row)
            return self._carry_out(row, ReportAgents(results)) if row is not None and results else None

    async def undone(self, limit: int) -> Undone:
        async with self._link.crossing("undone"):
            is_overdue = any(map(self._overdue, self._database.chats.values()))
            return Undone(_some(self._due_reports(), limit), _some(self._due_orders(), limit), is_overdue)

    async def due_orders(self, limit: int, *, root_id: UUID | None = None) -> tuple[UUID, ...]:
        async with self._link.crossing("due_orders"):
            return _some(self._due_orders(root_id), limit)

    async def obey(self, chat_id: UUID) -> Outcome | None:
        async with self._link.crossing("obey"):
            return self._obey(chat_id)

    # parts of transitions

    @abstractmethod
    def _create(self, chat: NewChat, idempotency: Idempotency | None) -> Outcome: ...

    @abstractmethod
    def _write(self, row: ChatRow, decision: Decision) -> Outcome: ...

    @abstractmethod
    def _overdue(self, row: ChatRow) -> tuple[str, ...]: ...

    def _due_reports(self) -> list[UUID]:
        return [row.id for row in self._database.chats.values() if self._results(row)]

    def _due_orders(self, root_id: UUID | None = None) -> list[UUID]:
        orders = self._database.kept.families.orders
        return [each for each in orders if root_id in (None, self._root_of(each))]

    def _spawn(self, agent: NewChat, call_id: str, agents_max: int) -> Outcome:
        assert agent.parent_id is not None, "an agent belongs to a chat"
        assert agent.root_id is not None, "and so to a root"
        self._database.row(agent.parent_id)
        kin = self._database.kept.families.kin
        if agent.id in self._database.chats:
            return Outcome(self._view(agent.id), replayed=True)
        if not self._is_at_work_on(agent.parent_id, call_id):
            raise Moved(f"call {call_id} is not open any more, or its chat is being stopped")
        if sum(each.root_id == agent.root_id for each in kin.values()) >= agents_max:
            raise family_is_full(agents_max)
        kin[agent.id] = Kinship(agent.parent_id, agent.root_id, agent.depth)
        return self._create(agent, None)

    def _is_at_work_on(self, chat_id: UUID, call_id: str) -> bool:
        row = self._database.chats.get(chat_id)
        if row is None or row.state.status is not Status.RUNNING:
            return False
        return any(call.call_id == call_id for call in row.state.open_calls)

    def _carry_out(self, row: ChatRow, command: Command) -> Outcome:
        return self._write(row, decide(self._database.found(row), command))

    def _obey(self, chat_id: UUID) -> Outcome | None:
        orders, row = self._database.kept.families.orders, self._database.chats.get(chat_id)
        if row is None:
            orders.pop(chat_id, None)
            return None
        word = orders.get(chat_id)
        if word is None or not self._may_be_written(row) or (word is Order.UNARCHIVE and row.state.archiving):
            return None
        del orders[chat_id]
        command = command_of(word, row.state)
        return None if command is None else self._carry_out(row, command)

    def _give_orders(self, row: ChatRow, decision: Decision) -> None:
        """Before the chat has its new state."""
        families = self._database.kept.families
        order = order_after(decision.event)
        if order is not None:
            for agent_id in families.children(row.id):
                if order is not Order.CLOSE or agent_id not in families.orders:
                    families.orders[agent_id] = order
        if row.id in families.kin and (asks_people(row.state) or asks_people(decision.state)):
            families.orders.setdefault(families.kin[row.id].root_id, Order.LOOK)

    def _results(self, row: ChatRow) -> tuple[ToolResult, ...]:
        """What the calls of the chat are to be told that wait for an agent no longer."""
        if row.state.status is not Status.REQUIRES_ACTION or not self._may_be_written(row):
            return ()
        now, results = self._database.clock(), []
        for call_id, call in awaiting(row).items():
            assert call.agent_id is not None, "it says what it waits for"
            seen = self._seen(row.id, call.agent_id)
            if seen is None or rests(seen.chat) or row.calls.deadlines[call_id] <= now:
                results.append(report(call_id, call.agent_id, seen))
        return tuple(results[:REPORTS_MAX])

    def _seen(self, chat_id: UUID, agent_id: UUID) -> AgentSeen | None:
        """The agent, if it is one below this chat."""
        if not self._is_above(chat_id, agent_id):
            return None
        row = self._database.chats[agent_id]
        is_waiting, agents = waits_for_people(row.state), awaiting(row)
        calls = [call for call in row.state.open_calls if call.call_id not in agents]
        waits_for = sorted({call.name for call in calls if call.asks_now or (is_waiting and call.waits)})
        return AgentSeen(self._view(agent_id), _said_last(row), tuple(waits_for))

    def _is_above(self, chat_id: UUID, agent_id: UUID) -> bool:
        kin = self._database.kept.families.kin.get(agent_id)
        return kin is not None and (kin.parent_id == chat_id or self._is_above(chat_id, kin.parent_id))

    def _require_family_rest(self, row: ChatRow) -> None:
        families = self._database.kept.families
        if row.id in families.kin:
            raise AgentChat("an agent is deleted with the chat that it belongs to", chat_id=str(self._root_of(row.id)))
        if any(self._is_busy(each) for each, kin in families.kin.items() if kin.root_id == row.id):
            raise ChatBusy("an agent of the chat is busy: interrupt it, and delete the chat when it rests")

    def _is_busy(self, chat_id: UUID) -> bool:
        state = self._database.chats[chat_id].state
        return state.runnable or (state.status is Status.REQUIRES_ACTION and not state.archived)

    def _root_of(self, chat_id: UUID) -> UUID:
        kin = self._database.kept.families.kin.get(chat_id)
        return chat_id if kin is None else kin.root_id

    def _may_be_written(self, row: ChatRow) -> bool:
        return row.id not in self._database.locked_rows and row.state.content_version <= CONTENT_VERSION

    def _view(self, chat_id: UUID) -> Chat:
        return self._database.view(self._database.row(chat_id))


def _said_last(row: ChatRow) -> str:
    """The newest words of its model since it was last asked for something."""
    for message in reversed(row.messages):
        if message.role is Role.USER:
            break
        if message.role is Role.ASSISTANT and (words := text_of(message.parts)):
            return words
    return ""


def awaiting(row: ChatRow) -> dict[str, OpenCall]:
    """The calls of the chat that wait for agents."""
    return {call.call_id: call for call in row.state.open_calls if call.state is CallState.AGENTS}
