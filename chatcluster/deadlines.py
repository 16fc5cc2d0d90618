"""The end of waits: calls that somebody was to approve, run or answer, and did not in time.

Every replica sweeps, every second or so, and none is in charge: the store answers each overdue call under the lock of
its chat's row, by its own clock, in one transaction a chat, and passes over what another one has locked. So a call is
answered once, by the replica that comes first. Then the turn goes on: a chat that has no call left
which waits for somebody is claimed like others.

The same look finds what was left undone in families (``families.py``), so a replica at rest asks once a second.

What happens on failure: a replica that dies in mid-sweep has answered some calls, each of them wholly, and the others
are overdue still. While Postgres cannot be reached nothing is swept; the deadlines are in the rows. A chat that cannot
be read is the store's to end or to pass over: no other waits for it. No kind of work waits for one that fails.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable
from chatcluster.families import CHATS_MAX, catch_up
from chatcluster.notices import Notices, report_end
from chatcluster.ports import Store

SWEEP_SECONDS = 1.0


async def sweep(store: Store, notices: Notices) -> None:
    """The sweep that every replica makes: deadlines, and unfinished work in families. Until cancelled."""
    while True:
        await trio.sleep(SWEEP_SECONDS * random.uniform(0.75, 1.25))
        while await _tried("undone", partial(_sweep, store, notices)) >= CHATS_MAX:
            pass


async def _tried(of: str, once: Callable[[], Awaitable[int]]) -> int:
    """How many were done; none where it failed: the next sweep comes soon."""
    try:
        return await once()
    except StoreUnavailable as error:
        telemetry.event("deadlines.failed", of=of, error=str(error))
    except Exception as error:  # noqa: BLE001 - no row, whatever it says, is worth a replica
        telemetry.event("deadlines.crashed", of=of, error=repr(error), exc_info=error)
    return 0


async def _sweep(store: Store, notices: Notices) -> int:
    """One look for all that there is, then each kind of work by itself. How many of the kind of which more was done."""
    undone = await store.undone(CHATS_MAX)
    report = partial(store.report_agents, patiently=False)
    done = [
        await _tried("reports", partial(catch_up, notices, undone.reports, report)),
        await _tried("orders", partial(catch_up, notices, undone.orders, store.obey)),
    ]
    if undone.is_overdue:
        done.append(await _tried("deadlines", partial(_end_waits, store, notices)))
    return max(done)


async def _end_waits(store: Store, notices: Notices) -> int:
    """How many chats it went on with."""
    outcomes = await store.expire_actions(CHATS_MAX)
    for outcome in outcomes:
        telemetry.event("chat.action_expired", chat_id=str(outcome.chat.id), calls=len(outcome.messages))
        report_end(outcome)
        notices.committed(outcome.chat, "status")
    return len(outcomes)
