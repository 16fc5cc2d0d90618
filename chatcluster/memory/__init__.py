"""Every port in one process: what the simulation and the fast tests run on.

``MemoryDatabase`` is the state of one Postgres, ``MemoryBroker`` that of one Redis. Each replica of a
simulation has adapters of its own on the shared state, and each adapter has a ``Link``: what lies between
that replica and that server. A link of the simulation delays, cuts, or loses the answer.

Who is authoritative: the database; each call is one synchronous, and so atomic, step on it, in the place of
a transaction under a row lock. Time is the database's: ``clock()`` seconds after a fixed date, by default
trio's clock, so that a mock clock drives leases and retries.

Failures: a link that raises before its block leaves the state as it was; one that raises after it stands for
an answer that was lost, and the effect stays. ``MemoryDatabase.drop_sessions`` is the death of a process,
``restart_sessions`` that of the database server; ``MemoryBroker.disconnect`` cuts everybody from Redis,
``MemoryPubSub.disconnect`` one replica, ``MemoryBroker.flush`` is the loss of all that Redis held,
``lose_newest`` of a part.
"""

from chatcluster.memory.accounts import MemoryAccounts
from chatcluster.memory.broker import MemoryBroker
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.mcp_servers import MemoryMcpServers
from chatcluster.memory.models import MemoryModels
from chatcluster.memory.pubsub import MemoryPubSub
from chatcluster.memory.registry import MemoryRegistry
from chatcluster.memory.sessions import MemorySessions
from chatcluster.memory.store import MemoryStore
from chatcluster.memory.streams import MemoryStreams

__all__ = [
    "Link",
    "MemoryAccounts",
    "MemoryBroker",
    "MemoryDatabase",
    "MemoryMcpServers",
    "MemoryModels",
    "MemoryPubSub",
    "MemoryRegistry",
    "MemorySessions",
    "MemoryStore",
    "MemoryStreams",
]
