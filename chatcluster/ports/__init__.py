"""The protocols between the loops and the outside. Each has at least two implementations.

===============  ==========================  ==========================
port             for real                    in one process
===============  ==========================  ==========================
``Store``        ``store.PostgresStore``     ``memory.MemoryStore``
``Registry``     ``registry.PostgresRegistry``  ``memory.MemoryRegistry``
``Accounts``     ``accounts.PostgresAccounts``  ``memory.MemoryAccounts``
``PartStreams``  ``streams.RedisStreams``    ``memory.MemoryStreams``
``PubSub``       ``pubsub.RedisPubSub``      ``memory.MemoryPubSub``
``Model``        ``llm.client.ChatCompletions``  scripted models in tests
===============  ==========================  ==========================

Every method may raise ``StoreUnavailable`` (the first three) or ``StreamsUnavailable`` (``PartStreams``);
``PubSub`` never raises for the network: it is best effort by contract, and says where it had a gap.
"""

from __future__ import annotations

from chatcluster.ports.accounts import Account, Accounts, Token
from chatcluster.ports.model import Delta, Finished, KeepAlive, Model, ModelEvent, ModelRequest
from chatcluster.ports.pubsub import (
    GAP,
    REPLICAS_CHANNEL,
    RUNNABLE_CHANNEL,
    TOKENS_CHANNEL,
    Gap,
    PubSub,
    Subscription,
    hint_channel,
    live_channel,
    owner_channel,
    worker_channel,
)
from chatcluster.ports.registry import OwnedChat, Registry, Renewal, Replica, SessionLock
from chatcluster.ports.store import (
    Chat,
    ChatRead,
    Claimed,
    Hint,
    HistoryPage,
    Idempotency,
    MessagePage,
    NewChat,
    Outcome,
    Store,
    hint_of,
)
from chatcluster.ports.streams import Appended, Opening, PartStreams

__all__ = [
    "GAP",
    "REPLICAS_CHANNEL",
    "RUNNABLE_CHANNEL",
    "TOKENS_CHANNEL",
    "Account",
    "Accounts",
    "Appended",
    "Chat",
    "ChatRead",
    "Claimed",
    "Delta",
    "Finished",
    "Gap",
    "Hint",
    "HistoryPage",
    "Idempotency",
    "KeepAlive",
    "MessagePage",
    "Model",
    "ModelEvent",
    "ModelRequest",
    "NewChat",
    "Opening",
    "Outcome",
    "OwnedChat",
    "PartStreams",
    "PubSub",
    "Registry",
    "Renewal",
    "Replica",
    "SessionLock",
    "Store",
    "Subscription",
    "Token",
    "hint_channel",
    "hint_of",
    "live_channel",
    "owner_channel",
    "worker_channel",
]
