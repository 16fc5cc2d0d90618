"""The lease of a host: renewed until it cannot be, and trusted no longer than it lasts.

As a replica's (``heartbeat.py``): if the last renewal that succeeded *began* more than ``lease_ttl - lease_margin`` ago
by our own monotonic clock, everything here is stopped, before anybody tells these workspaces lost.
"""

from __future__ import annotations

from typing import NoReturn

import trio

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import LeaseLost, StoreUnavailable
from chatcluster.ports.workspaces import HostLease, WorkspaceHosts

RENEW_RETRY_SECONDS = 0.1


async def keep_lease(
    hosts: WorkspaceHosts, lease: HostLease, settings: Settings, *, registered_at: float, problem: str = ""
) -> NoReturn:
    """Renew it until it is lost. ``registered_at``: when the registration began. Raises ``LeaseLost``."""
    trusted_until = registered_at + settings.ownership.self_fence_seconds
    pause_seconds = settings.ownership.heartbeat_seconds
    while True:
        try:
            with trio.fail_at(trusted_until):
                await trio.sleep(pause_seconds)
                began = trio.current_time()
                await hosts.renew(lease, problem=problem)
        except trio.TooSlowError:
            raise LeaseLost(f"the lease of workspace host {lease.host_id} was not renewed in time") from None
        except StoreUnavailable as error:
            telemetry.event("workspace.host_renewal_failed", host_id=str(lease.host_id), error=str(error))
            pause_seconds = RENEW_RETRY_SECONDS
        else:
            trusted_until = began + settings.ownership.self_fence_seconds
            pause_seconds = settings.ownership.heartbeat_seconds
