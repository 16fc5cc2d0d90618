"""File descriptors: how many connections a process may serve and still reach its own servers.

Each connection is one. Where they run out, nothing can be opened any more: no connection to Postgres after a failover,
none to a model. So a part of them is set aside, and callers share the rest. Many systems begin with a low limit that
each process may raise up to a higher one; that is done first.
"""

from __future__ import annotations

import resource

SET_ASIDE = 128
"""Descriptors for what a process has open anyway: Redis, sessions, probes, files, libraries that are loaded late."""
CONNECTIONS_MIN = 16


def connections_within_reach(wanted: int, *, own: int) -> int:
    """As many of the ``wanted`` connections as there are descriptors for, beside ``own`` ones to other servers."""
    needed = wanted + own + SET_ASIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(CONNECTIONS_MIN, min(wanted, soft - own - SET_ASIDE))
