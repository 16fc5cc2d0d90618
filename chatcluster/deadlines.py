"""The end of waits: calls that somebody was to approve, run or answer, and did not in time.

Every replica sweeps, every second or so, and none is in charge: the store answers each overdue call under the lock of
its chat's row, by its own clock, in one transaction a chat, and passes over what another one has locked. So a call is
answered once, whoever comes first, and the turn goes on: a chat that waits for nobody any more is claimed like others.

What happens on failure: a replica that dies in mid-sweep has answered some calls, each of them wholly, and the others
are overdue still. While Postgres cannot be reached nothing is swept; the deadlines are in the rows. A chat that cannot
be read is the store's to end or to pass over: no other waits for it.
"""

from __future__ import annotations

import random

import trio

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable
from chatcluster.families import sweep_families
from chatcluster.notices import Notices, report_end
from chatcluster.ports import Store

SWEEP_SECONDS = 1.0
CHATS_MAX = 20
"""In one sweep; what is left over comes next, and at once."""


async def sweep(store: Store, notices: Notices) -> None:
    """All that every replica looks for: deadlines, and what is left undone in families. Until cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweep_deadlines, store, notices)
        nursery.start_soon(sweep_families, store, notices)


async def sweep_deadlines(store: Store, notices: Notices) -> None:
    """Sweep until cancelled."""
    while True:
        await trio.sleep(SWEEP_SECONDS * random.uniform(0.75, 1.25))
        try:
            while await _sweep(store, notices) == CHATS_MAX:
                pass
        except StoreUnavailable as error:
            telemetry.event("deadlines.failed", error=str(error))
        except Exception as error:  # noqa: BLE001 - no row, whatever it says, is worth a replica
            telemetry.event("deadlines.crashed", error=repr(error), exc_info=error)


async def _sweep(store: Store, notices: Notices) -> int:
    """How many chats it went on with."""
    outcomes = await store.expire_actions(CHATS_MAX)
    for outcome in outcomes:
        telemetry.event("chat.action_expired", chat_id=str(outcome.chat.id), calls=len(outcome.messages))
        report_end(outcome)
        notices.committed(outcome.chat, "status")
    return len(outcomes)
