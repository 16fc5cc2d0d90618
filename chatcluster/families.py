"""What a chat's transition means for its family, right after it: reports to the chat that waits, orders to agents.

* A chat that comes to rest in wait for agents, and an agent that comes to rest: the calls that wait for an agent which
  rests are answered, under the lock of the chat that waits. When it waits for nobody it is claimed like any other.
* A chat that is stopped, archived or taken out of the archive: its agents are, each by its own order.

Who is authoritative: the rows. Which call waits for which agent, and which agent has an order, was written in the
transaction that made it so; what is done here finds these, carries them out in a transaction for each chat, and tells
of it (``notices.py``).

What happens on failure: nothing is lost, and nothing is done twice. A replica that dies, or cannot reach Postgres,
before it has done this leaves it to the sweep, which every replica makes, once a second or so. A row that somebody
holds, or that cannot be read, is passed over until the next one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.agents import rests
from chatcluster.chat import Status
from chatcluster.errors import ChatclusterError
from chatcluster.notices import Notices, report_end
from chatcluster.ports import Chat, Outcome, Store

SETTLE_SECONDS_MAX = 2.0
"""What takes longer is the sweep's to do."""
CHATS_MAX = 20
"""In one sweep."""
FAMILY_MAX = 1000
OBEY_SECONDS = 0.1
"""Between two tries to have an order carried out while somebody holds the row."""
OBEY_SECONDS_MAX = 5.0
"""A row is held for less. An order that cannot be carried out, of a chat that is damaged, is not waited for."""
ROUNDS_MAX = 10
"""Rounds of orders: an agent that obeys gives orders to its own agents, as deep as a family goes."""


async def settle(store: Store, notices: Notices, chat: Chat) -> None:
    """See to what follows for others from a transition of ``chat``, as far as it can be done now. Never raises: the
    transition is committed, whatever is wrong with the others."""
    if not (chat.has_agents or chat.waits_for_agents or chat.parent_id):
        return
    try:
        with trio.move_on_after(SETTLE_SECONDS_MAX):
            await _settle(store, notices, chat)
    except ChatclusterError as error:
        telemetry.event("family.postponed", chat_id=str(chat.id), error=str(error))


async def _settle(store: Store, notices: Notices, chat: Chat) -> None:
    if chat.status is Status.REQUIRES_ACTION:
        await report(store, notices, chat)
    if chat.parent_id is not None and rests(chat):
        await report(store, notices, await store.get(chat.parent_id))
    for _ in range(ROUNDS_MAX):
        due = await store.due_orders(CHATS_MAX, root_id=chat.family_id)
        for chat_id in due:
            _tell(notices, await store.obey(chat_id))
        if not due:
            return


async def report(store: Store, notices: Notices, chat: Chat) -> None:
    """Answer what waits in this chat for agents that rest."""
    if chat.status is not Status.REQUIRES_ACTION:
        return
    while (outcome := await store.report_agents(chat.id)) is not None:
        _tell(notices, outcome)


async def when_obeyed(store: Store, notices: Notices, agent: Chat) -> Chat:
    """The agent, once it has carried out what it was ordered: what it is told now follows that, and is not undone by
    it. Raises what the store raises."""
    is_ordered, until = False, trio.current_time() + OBEY_SECONDS_MAX
    while trio.current_time() < until and agent.id in await store.due_orders(FAMILY_MAX, root_id=agent.family_id):
        is_ordered, outcome = True, await store.obey(agent.id)
        _tell(notices, outcome)
        if outcome is None:
            await trio.sleep(OBEY_SECONDS)
    return await store.get(agent.id) if is_ordered else agent


def _tell(notices: Notices, outcome: Outcome | None) -> None:
    if outcome is not None:
        report_end(outcome)
        notices.committed(outcome.chat, "status")


async def catch_up(notices: Notices, chat_ids: Sequence[UUID], do: Callable[[UUID], Awaitable[Outcome | None]]) -> int:
    """Do what their own replicas left undone. Returns in how many chats there was something to be done."""
    done = 0
    for chat_id in chat_ids:
        outcome = await do(chat_id)
        _tell(notices, outcome)
        done += outcome is not None
    return done
