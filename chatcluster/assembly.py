"""Which adapter stands behind which port, for loops and routes: the part of the composition root that keeps nothing.

``cluster.py`` is the other part: one process, its loops, and the order in which they live.
"""

from __future__ import annotations

from chatcluster.config import Settings
from chatcluster.llm.routing import catalogue_stints
from chatcluster.llm.windows import catalogue_tool_limits, catalogue_windows
from chatcluster.mcp_administration import McpAdministration
from chatcluster.model_admin import ModelAdministration
from chatcluster.model_directory import ModelDirectory
from chatcluster.notices import Notices
from chatcluster.ports import McpServers, Model, Outside, Toolbox
from chatcluster.postgres import Database
from chatcluster.postgres.accounts import PostgresAccounts
from chatcluster.postgres.administration import PostgresAdministration
from chatcluster.postgres.files import PostgresFiles
from chatcluster.postgres.limits import PostgresLimits
from chatcluster.postgres.models import PostgresModels
from chatcluster.postgres.prompts import PostgresPrompts
from chatcluster.postgres.push import PostgresPush
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.series import PostgresSeries
from chatcluster.postgres.sessions import PostgresSessions
from chatcluster.postgres.store import PostgresStore
from chatcluster.postgres.usage import PostgresUsage
from chatcluster.postgres.workspace_diffs import PostgresWorkspaceDiffs
from chatcluster.postgres.workspace_hosts import PostgresWorkspaceHosts
from chatcluster.postgres.workspaces import PostgresWorkspaces
from chatcluster.push_parts import push_parts
from chatcluster.redis.connections import RedisConnection
from chatcluster.redis.pubsub import RedisPubSub
from chatcluster.redis.streams import RedisStreams
from chatcluster.secrets import Keyring
from chatcluster.sign_ins import SignIns
from chatcluster.spending_limits import LimitAdministration, Spending, SpendingLimits
from chatcluster.tool_results import READ_RESULT
from chatcluster.tools.agents import AgentTools
from chatcluster.tools.client_tools import ClientTools
from chatcluster.tools.composition import Composition
from chatcluster.tools.mcp import McpTools
from chatcluster.tools.read_result import WithReadResult
from chatcluster.tools.workspaces import WorkspaceTools
from chatcluster.transitions import Transitions
from chatcluster.uploads import Uploads
from chatcluster.web.browsers import Browsers
from chatcluster.web.model_services import Models
from chatcluster.web.readers import Readers
from chatcluster.web.services import Monitoring, Overview, Services
from chatcluster.web.tool_servers import Mcp
from chatcluster.web.workspace_services import WorkspaceServices
from chatcluster.workspace_changes import WorkspaceChanges
from chatcluster.workspace_screens import WorkspaceScreens
from chatcluster.workspaces.directory import WorkspaceDirectory


def workspaces_of(database: Database, pubsub: RedisPubSub, keyring: Keyring) -> WorkspaceServices:
    """Where chats work, for tools and routes."""
    rows = PostgresWorkspaces(database)
    directory = WorkspaceDirectory(rows, keyring)
    return WorkspaceServices(
        rows=rows,
        hosts=PostgresWorkspaceHosts(database),
        directory=directory,
        changes=WorkspaceChanges(PostgresWorkspaceDiffs(database), directory, pubsub),
        screens=WorkspaceScreens(directory),
    )


def outside_of(
    database: Database,
    redis: RedisConnection,
    pubsub: RedisPubSub,
    model: Model,
    mcp: Toolbox,
    workspaces: WorkspaceServices,
    notices: Notices,
    limits: SpendingLimits,
    directory: ModelDirectory,
) -> Outside:
    """What the loops work with."""
    store = PostgresStore(database)
    agents = AgentTools(store, Transitions(store, notices, limits), database.settings)
    places = WorkspaceTools(
        workspaces.rows,
        workspaces.directory,
        store,
        per_user_max=database.settings.tools.workspaces_per_user,
        touched=workspaces.changes.touched,
    )
    boxes = Composition(ClientTools(), agents, places, mcp, reserved={READ_RESULT})  # a client goes by its own names
    return Outside(
        store=store,
        registry=PostgresRegistry(database),
        streams=RedisStreams(redis),
        pubsub=pubsub,
        model=model,
        toolbox=WithReadResult(boxes, store),
        windows=catalogue_windows(lambda: directory.known, database.settings),
        stints=catalogue_stints(lambda: directory.known),
        tool_limits=catalogue_tool_limits(lambda: directory.known, database.settings),
        limits=limits,
    )


def services_of(
    settings: Settings,
    *,
    database: Database,
    pubsub: RedisPubSub,
    outside: Outside,
    transitions: Transitions,
    readers: Readers,
    monitoring: Monitoring,
    directory: ModelDirectory,
    mcp: McpTools,
    mcp_servers: McpServers,
    workspaces: WorkspaceServices,
    keyring: Keyring,
) -> Services:
    """What routes work with."""
    return Services(
        settings=settings,
        store=outside.store,
        accounts=PostgresAccounts(database),
        overview=Overview(administration=PostgresAdministration(database), series=PostgresSeries(database)),
        browsers=Browsers(sessions=PostgresSessions(database), push=push_parts(PostgresPush(database), settings.push)),
        registry=outside.registry,
        pubsub=pubsub,
        readers=readers,
        transitions=transitions,
        monitoring=monitoring,
        uploads=Uploads(PostgresFiles(database), settings.sizes),
        models=Models(
            catalogue=directory.catalogue,
            admin=ModelAdministration(PostgresModels(database), keyring, pubsub.publish),
            prompts=PostgresPrompts(database),
            spending=Spending(PostgresUsage(database), LimitAdministration(PostgresLimits(database), pubsub.publish)),
        ),
        mcp=Mcp(
            admin=McpAdministration(mcp_servers, keyring, pubsub.publish),
            client=mcp,
            sign_ins=SignIns(outside.store, mcp_servers, transitions),
        ),
        workspaces=workspaces,
    )
