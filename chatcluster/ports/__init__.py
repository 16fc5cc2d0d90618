"""The protocols between the loops and the outside. Each has at least two implementations.

===============  ==============================  ========================
port             for real                        in one process
===============  ==============================  ========================
``Store``        ``postgres/store.py``           ``memory/store.py``
``Registry``     ``postgres/registry.py``        ``memory/registry.py``
``Accounts``     ``postgres/accounts.py``        ``memory/accounts.py``
``Models``       ``postgres/models.py``          ``memory/models.py``
``Prompts``      ``postgres/prompts.py``         ``memory/prompts.py``
``Sessions``     ``postgres/sessions.py``        ``memory/sessions.py``
``Series``       ``postgres/series.py``          ``memory/series.py``
``Push``         ``postgres/push.py``            ``memory/push.py``
``PartStreams``  ``redis/streams.py``            ``memory/streams.py``
``PubSub``       ``redis/pubsub.py``             ``memory/pubsub.py``
``Files``        ``postgres/files.py``           ``memory/files.py``
``McpServers``   ``postgres/mcp_servers.py``    ``memory/mcp_servers.py``
``Responses``    ``postgres/responses.py``       ``memory/responses.py``
``Workspaces``   ``postgres/workspaces.py``      ``memory/workspaces.py``
``Model``        ``llm/client.py``               scripted models in tests
``Toolbox``      ``tools/``                      scripted tools in tests
``Workspace``    ``workspaces/agent_client.py``  scripted workspaces in tests
===============  ==============================  ========================

Every method may raise ``StoreUnavailable`` (those of Postgres) or ``StreamsUnavailable`` (``PartStreams``);
``PubSub`` never raises for the network: it is best effort by contract, and says where it had a gap.
"""

from __future__ import annotations

from chatcluster.ports.accounts import Account, Accounts, Scopes, Token, TokenScope
from chatcluster.ports.ledger import (
    PERMISSION_SECONDS,
    PERMISSIONS_MAX,
    RESULT_BYTES_MAX,
    Action,
    Ledger,
    Permission,
    ResultSlice,
    SignInWait,
)
from chatcluster.ports.mcp_servers import (
    MCP_SERVERS_CHANNEL,
    MCP_SERVERS_MAX,
    ApiKeyAuth,
    Auth,
    Availability,
    BearerAuth,
    ClientCredentialsAuth,
    Grant,
    HeadersAuth,
    Login,
    McpClient,
    McpReport,
    McpServer,
    McpServers,
    McpSettings,
    McpToolReport,
    NoAuth,
    OAuthAuth,
    SignedInAt,
    ToolPolicy,
    Transport,
    checked_choice,
    usable,
)
from chatcluster.ports.model import (
    Attachable,
    Attachment,
    Delta,
    Finished,
    KeepAlive,
    Meter,
    Model,
    ModelEvent,
    ModelRequest,
    Progress,
    ToolSpec,
    Window,
    Windows,
)
from chatcluster.ports.models import Models
from chatcluster.ports.outside import Outside, no_window
from chatcluster.ports.pubsub import (
    GAP,
    MODELS_CHANNEL,
    REPLICAS_CHANNEL,
    RUNNABLE_CHANNEL,
    TOKENS_CHANNEL,
    Gap,
    Hint,
    PubSub,
    Subscription,
    hint_channel,
    hint_of,
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
    TURNS_MAX,
    VERSION_MAX,
    Booking,
    Changes,
    Chat,
    ChatRead,
    Claimed,
    DeletedChat,
    HistoryPage,
    Idempotency,
    MessagePage,
    NewChat,
    NewerMessages,
    NewestMessages,
    Outcome,
    Store,
    Version,
    require_rest,
)
from chatcluster.ports.streams import Appended, Opening, PartStreams, same_tenure
from chatcluster.ports.toolbox import (
    Approval,
    Effect,
    Progressed,
    RunBy,
    SignInRequired,
    Tool,
    Toolbox,
    ToolCall,
    ToolResult,
    TurnTools,
)

__all__ = [
    "GAP",
    "MCP_SERVERS_CHANNEL",
    "MCP_SERVERS_MAX",
    "MESSAGE_BYTES",
    "MODELS_CHANNEL",
    "NO_ROW",
    "PERMISSIONS_MAX",
    "PERMISSION_SECONDS",
    "REPLICAS_CHANNEL",
    "RESULT_BYTES_MAX",
    "RUNNABLE_CHANNEL",
    "SESSION_LOCKS",
    "TOKENS_CHANNEL",
    "TURNS_MAX",
    "VERSION_MAX",
    "Account",
    "Accounts",
    "Action",
    "ApiKeyAuth",
    "Appended",
    "Approval",
    "Attachable",
    "Attachment",
    "Auth",
    "Availability",
    "BearerAuth",
    "Booking",
    "Burial",
    "Changes",
    "Chat",
    "ChatRead",
    "Claimed",
    "ClientCredentialsAuth",
    "Death",
    "DeletedChat",
    "Delta",
    "Effect",
    "Finished",
    "Gap",
    "Grant",
    "HeadersAuth",
    "Heartbeat",
    "Hint",
    "HistoryPage",
    "Idempotency",
    "KeepAlive",
    "Ledger",
    "Login",
    "McpClient",
    "McpReport",
    "McpServer",
    "McpServers",
    "McpSettings",
    "McpToolReport",
    "MessagePage",
    "Meter",
    "Model",
    "ModelEvent",
    "ModelRequest",
    "Models",
    "NewChat",
    "NewerMessages",
    "NewestMessages",
    "NoAuth",
    "OAuthAuth",
    "Opening",
    "Outcome",
    "Outside",
    "OwnedChat",
    "PartStreams",
    "Permission",
    "Progress",
    "Progressed",
    "Proof",
    "PubSub",
    "Registry",
    "Renewal",
    "Replica",
    "ResultSlice",
    "RunBy",
    "Scopes",
    "SessionLock",
    "Sessions",
    "SignInRequired",
    "SignInWait",
    "SignedInAt",
    "Silence",
    "Store",
    "Subscription",
    "Token",
    "TokenScope",
    "Tool",
    "ToolCall",
    "ToolPolicy",
    "ToolResult",
    "ToolSpec",
    "Toolbox",
    "Transport",
    "TurnTools",
    "Version",
    "Window",
    "Windows",
    "alone_seconds",
    "checked_choice",
    "hint_channel",
    "hint_of",
    "live_channel",
    "no_window",
    "owner_channel",
    "require_rest",
    "same_tenure",
    "usable",
    "worker_channel",
]
