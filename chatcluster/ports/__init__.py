"""The protocols between the loops and the outside. Each has at least two implementations.

===============  ==============================  ========================
port             for real                        in one process
===============  ==============================  ========================
``Store``        ``postgres/store.py``           ``memory/store.py``
``Registry``     ``postgres/registry.py``        ``memory/registry.py``
``Accounts``     ``postgres/accounts.py``        ``memory/accounts.py``
``Sessions``     ``postgres/sessions.py``        ``memory/sessions.py``
``PartStreams``  ``redis/streams.py``            ``memory/streams.py``
``PubSub``       ``redis/pubsub.py``             ``memory/pubsub.py``
``Model``        ``llm/client.py``               scripted models in tests
``Toolbox``      ``tools/``                      scripted tools in tests
===============  ==============================  ========================

Every method may raise ``StoreUnavailable`` (the first four) or ``StreamsUnavailable`` (``PartStreams``);
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
from chatcluster.ports.sessions import Sessions
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
    DeletedChat,
    Hint,
    HistoryPage,
    Idempotency,
    MessagePage,
    NewChat,
    NewerMessages,
    NewestMessages,
    Outcome,
    Store,
    Version,
    hint_of,
    require_rest,
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
    "DeletedChat",
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
    "NewestMessages",
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
    "Sessions",
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
    "hint_channel",
    "hint_of",
    "live_channel",
    "owner_channel",
    "require_rest",
    "same_tenure",
    "worker_channel",
]
