"""The protocols between the loops and the outside. Each has at least two implementations.

===============  ==============================  ========================
port             for real                        in one process
===============  ==============================  ========================
``Store``        ``postgres/store.py``           ``memory/store.py``
``Registry``     ``postgres/registry.py``        ``memory/registry.py``
``Accounts``     ``postgres/accounts.py``        ``memory/accounts.py``
``PartStreams``  ``redis/streams.py``            ``memory/streams.py``
``PubSub``       ``redis/pubsub.py``             ``memory/pubsub.py``
``Model``        ``llm/client.py``               scripted models in tests
``Toolbox``      ``tools/``                      scripted tools in tests
===============  ==============================  ========================

Every method may raise ``StoreUnavailable`` (the first three) or ``StreamsUnavailable`` (``PartStreams``);
``PubSub`` never raises for the network: it is best effort by contract, and says where it had a gap.
"""

from __future__ import annotations

from chatcluster.ports.accounts import Account, Accounts, Token
from chatcluster.ports.model import Delta, Finished, KeepAlive, Model, ModelEvent, ModelRequest, Progress, ToolSpec
from chatcluster.ports.outside import Outside
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
from chatcluster.ports.registry import (
    NO_ROW,
    SESSION_LOCKS,
    Burial,
    Death,
    Heartbeat,
    OwnedChat,
    Proof,
    Registry,
    Renewal,
    Replica,
    SessionLock,
    Silence,
)
from chatcluster.ports.store import (
    MESSAGE_BYTES,
    SUSPECTED_SECONDS,
    SUSPECTED_TAKEOVERS,
    TURNS_MAX,
    VERSION_MAX,
    Changes,
    Chat,
    ChatRead,
    Claimed,
    Hint,
    HistoryPage,
    Idempotency,
    MessagePage,
    NewChat,
    NewerMessages,
    Outcome,
    Store,
    Version,
    alone_seconds,
    hint_of,
)
from chatcluster.ports.streams import Appended, Opening, PartStreams, same_tenure
from chatcluster.ports.toolbox import (
    Approval,
    Effect,
    Progressed,
    RunBy,
    Tool,
    Toolbox,
    ToolCall,
    ToolResult,
    TurnTools,
)

__all__ = [
    "GAP",
    "MESSAGE_BYTES",
    "NO_ROW",
    "REPLICAS_CHANNEL",
    "RUNNABLE_CHANNEL",
    "SESSION_LOCKS",
    "SUSPECTED_SECONDS",
    "SUSPECTED_TAKEOVERS",
    "TOKENS_CHANNEL",
    "TURNS_MAX",
    "VERSION_MAX",
    "Account",
    "Accounts",
    "Appended",
    "Approval",
    "Burial",
    "Changes",
    "Chat",
    "ChatRead",
    "Claimed",
    "Death",
    "Delta",
    "Effect",
    "Finished",
    "Gap",
    "Heartbeat",
    "Hint",
    "HistoryPage",
    "Idempotency",
    "KeepAlive",
    "MessagePage",
    "Model",
    "ModelEvent",
    "ModelRequest",
    "NewChat",
    "NewerMessages",
    "Opening",
    "Outcome",
    "Outside",
    "OwnedChat",
    "PartStreams",
    "Progress",
    "Progressed",
    "Proof",
    "PubSub",
    "Registry",
    "Renewal",
    "Replica",
    "RunBy",
    "SessionLock",
    "Silence",
    "Store",
    "Subscription",
    "Token",
    "Tool",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Toolbox",
    "TurnTools",
    "Version",
    "alone_seconds",
    "hint_channel",
    "hint_of",
    "live_channel",
    "owner_channel",
    "same_tenure",
    "worker_channel",
]
