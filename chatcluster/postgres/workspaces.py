"""``Workspaces`` on Postgres: templates, and what users ask of workspaces.

Each request is one short transaction on rows of one workspace; hosts do the work and write what became of it
(``workspace_hosts.py``). That a chat has one, and a user no more than allowed, is counted under advisory locks of that
user and that chat, so nobody else waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID, uuid4

import msgspec

from chatcluster import telemetry
from chatcluster.errors import ChatArchived, ChatNotFound, Unreadable
from chatcluster.parts import UNDECODABLE
from chatcluster.ports.administration import Deed
from chatcluster.ports.workspaces import (
    STARTABLE,
    UNDER_WAY,
    Asked,
    Located,
    LogLine,
    MadeOf,
    NewWorkspace,
    Template,
    WorkspaceRow,
    WorkspaceState,
    WorkspaceTimes,
)
from chatcluster.postgres import Connection, Database, Row
from chatcluster.postgres.administration import record_deed
from chatcluster.postgres.queries import load_queries
from chatcluster.workspace_errors import (
    TemplateChanged,
    TemplatesFull,
    host_away,
    no_host,
    no_workspace,
    none_of_template,
    still_stopping,
    templates_full,
    user_is_full,
)
from chatcluster.workspace_templates import TEMPLATES_MAX, TemplateSettings, Value, chosen_values

SQL = load_queries("workspaces.sql")

_parameters: msgspec.json.Decoder[dict[str, Value]] = msgspec.json.Decoder(dict[str, Value])
_settings: msgspec.json.Decoder[TemplateSettings] = msgspec.json.Decoder(TemplateSettings)
_PLAIN_FIELDS = tuple(name for name in WorkspaceRow.__struct_fields__ if name not in ("made_of", "times"))


class PostgresWorkspaces:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def templates(self, owner_id: UUID | None = None) -> tuple[Template, ...]:
        return await self._database.autocommit(_templates, owner_id)

    async def template(self, name: str, owner_id: UUID | None = None) -> Template:
        return await self._database.autocommit(_template, name, owner_id)

    async def put_template(
        self, name: str, settings: TemplateSettings, deed: Deed | None = None, *, revision: int | None = None
    ) -> Template:
        return await self._database.transaction(_put_template, name, settings, deed, revision)

    async def ensure_template(self, name: str, settings: TemplateSettings) -> bool:
        return await self._database.transaction(_ensure_template, name, settings)

    async def remove_template(self, name: str, deed: Deed | None = None) -> bool:
        return await self._database.transaction(_remove_template, name, deed)

    async def create(self, new: NewWorkspace, *, per_user_max: int) -> Asked:
        return await self._database.transaction(_create, new, per_user_max)

    async def start(self, workspace_id: UUID, owner_id: UUID | None = None) -> Asked:
        return await self._database.transaction(_start, workspace_id, owner_id)

    async def stop(self, workspace_id: UUID, owner_id: UUID | None = None) -> Asked:
        return await self._database.transaction(_stop, workspace_id, owner_id)

    async def delete(self, workspace_id: UUID, owner_id: UUID | None = None) -> None:
        await self._database.transaction(_delete, workspace_id, owner_id)

    async def workspace(self, workspace_id: UUID, owner_id: UUID | None = None) -> WorkspaceRow:
        return await self._database.autocommit(_one, "select_workspace", workspace_id, owner_id)

    async def workspaces(self, owner_id: UUID | None = None) -> tuple[WorkspaceRow, ...]:
        return await self._database.autocommit(_rows, "list_workspaces", owner_id)

    async def of_chat(self, chat_id: UUID) -> WorkspaceRow | None:
        rows = await self._database.autocommit(_rows, "select_of_chat", chat_id)
        return rows[0] if rows else None

    async def locate(self, workspace_id: UUID) -> Located:
        return await self._database.autocommit(_locate, workspace_id)

    async def bump(self, workspace_id: UUID) -> bool:
        return await self._database.autocommit(_count, "bump", workspace_id) > 0

    async def bump_owned(self, worker_id: UUID) -> int:
        return await self._database.autocommit(_count, "bump_owned", worker_id)

    async def log(self, workspace_id: UUID, *, after: int = 0, limit: int = 500) -> tuple[LogLine, ...]:
        return await self._database.autocommit(_log, workspace_id, after, limit)


# --- templates --------------------------------------------------------------------------------


async def _templates(connection: Connection, owner_id: UUID | None) -> tuple[Template, ...]:
    rows = await connection.fetch(SQL["list_templates"], owner_id)
    found = ((_readable(row), row["asker"]) for row in rows)
    return tuple(
        template
        for template, asker in found
        if template is not None and (owner_id is None or template.settings.is_for(asker))
    )


def _readable(row: Row) -> Template | None:
    """None for a row that this version cannot read: it costs that template, and no other."""
    try:
        return _template_of(row)
    except Unreadable as error:
        telemetry.event("workspace.template_unreadable", template=row["name"], error=str(error))
        return None


async def _template(connection: Connection, name: str, owner_id: UUID | None) -> Template:
    row = await connection.fetchrow(SQL["select_template"], name, owner_id)
    if row is None:
        raise none_of_template(name)
    template = _template_of(row)
    if owner_id is not None and not template.settings.is_for(row["asker"]):
        raise none_of_template(name)
    return template


async def _insert_template(connection: Connection, name: str, settings: TemplateSettings) -> Template | None:
    await connection.execute(SQL["lock_templates"])
    if await connection.fetchval(SQL["count_templates"]) >= TEMPLATES_MAX:
        raise templates_full(TEMPLATES_MAX)
    row = await connection.fetchrow(SQL["insert_template"], uuid4(), name, _written(settings))
    return None if row is None else _template_of(row)


async def _ensure_template(connection: Connection, name: str, settings: TemplateSettings) -> bool:
    with suppress(TemplatesFull):  # then there is enough to begin with
        return await _insert_template(connection, name, settings) is not None
    return False


async def _put_template(
    connection: Connection, name: str, settings: TemplateSettings, deed: Deed | None, revision: int | None
) -> Template:
    row = await connection.fetchrow(SQL["update_template"], name, _written(settings), revision)
    put = None if row is None else _template_of(row)
    if put is None and revision is None:
        put = await _insert_template(connection, name, settings)
    if put is None:
        raise TemplateChanged("the template was changed at the same time; read it again", template=name)
    await record_deed(connection, deed)
    return put


async def _remove_template(connection: Connection, name: str, deed: Deed | None) -> bool:
    if await connection.fetchval(SQL["delete_template"], name) is None:
        return False
    await record_deed(connection, deed)
    return True


# --- workspaces -------------------------------------------------------------------------------


async def _create(connection: Connection, new: NewWorkspace, per_user_max: int) -> Asked:
    await connection.execute(SQL["lock_chat_workspace"], str(new.owner_id), str(new.chat_id))
    await _require_chat(connection, new.chat_id, new.owner_id)
    known = await connection.fetchrow(SQL["select_of_chat"], new.chat_id)
    there = None if known is None else row_of(known)
    if there is not None and there.state not in (WorkspaceState.FAILED, WorkspaceState.LOST):
        return Asked(there, changed=False)
    template = await _template(connection, new.template, new.owner_id)
    values = chosen_values(template.settings, new.parameters)
    await _require_host(connection)
    if per_user_max and await connection.fetchval(SQL["count_of_owner"], new.owner_id) >= per_user_max:
        raise user_is_full(per_user_max)
    if there is not None:
        await connection.execute(SQL["replace_workspace"], there.id)
    return Asked(await _insert(connection, new, template, values), changed=True)


async def _insert(
    connection: Connection, new: NewWorkspace, template: Template, values: dict[str, Value]
) -> WorkspaceRow:
    settings = template.settings
    row = await connection.fetchrow(
        SQL["insert_workspace"],
        uuid4(),
        new.owner_id,
        new.chat_id,
        template.id,
        template.name,
        new.name,
        _written(settings),
        msgspec.json.encode(values).decode(),
        settings.activity_bump_seconds,
        settings.idle_stop_seconds,
    )
    assert row is not None, "it is inserted"
    return row_of(row)


async def _require_chat(connection: Connection, chat_id: UUID, owner_id: UUID) -> None:
    archived: bool | None = await connection.fetchval(SQL["select_chat"], chat_id, owner_id)
    if archived is None:
        raise ChatNotFound("there is no such chat", chat_id=str(chat_id))
    if archived:
        raise ChatArchived("the chat is archived: its workspace stays stopped")


async def _require_host(connection: Connection) -> None:
    row = await connection.fetchrow(SQL["select_hosts_words"])
    assert row is not None, "it is an expression"
    if not row["able"]:
        raise no_host(row["problems"] or "")


def _require_able(problem: str | None) -> None:
    """The host that has the files, and no other, can start it."""
    if problem is None:
        raise host_away()
    if problem:
        raise no_host(problem)


async def _start(connection: Connection, workspace_id: UUID, owner_id: UUID | None) -> Asked:
    found = await _one(connection, "lock_workspace", workspace_id, owner_id)
    if found.state in UNDER_WAY:
        return Asked(found, changed=False)
    if found.state not in STARTABLE:
        raise still_stopping()
    await _require_chat(connection, found.chat_id, found.owner_id)
    if not found.built:
        await _require_host(connection)
    else:
        _require_able(await connection.fetchval(SQL["host_problem"], found.host_id))
    return Asked(await _one(connection, "start_workspace", workspace_id), changed=True)


async def _stop(connection: Connection, workspace_id: UUID, owner_id: UUID | None) -> Asked:
    found = await _one(connection, "lock_workspace", workspace_id, owner_id)
    if found.state not in UNDER_WAY:
        return Asked(found, changed=False)
    return Asked(await _one(connection, "stop_workspace", workspace_id), changed=True)


async def _delete(connection: Connection, workspace_id: UUID, owner_id: UUID | None) -> None:
    found = await _one(connection, "lock_workspace", workspace_id, owner_id)
    await connection.execute(SQL["drop_workspace" if found.host_id is None else "delete_workspace"], workspace_id)


async def _one(connection: Connection, query: str, *args: object) -> WorkspaceRow:
    row = await connection.fetchrow(SQL[query], *args)
    if row is None:
        raise no_workspace()
    return row_of(row)


async def _rows(connection: Connection, query: str, *args: object) -> tuple[WorkspaceRow, ...]:
    return rows_of(await connection.fetch(SQL[query], *args))


async def _locate(connection: Connection, workspace_id: UUID) -> Located:
    row = await connection.fetchrow(SQL["locate"], workspace_id)
    if row is None:
        raise no_workspace()
    return Located(row_of(row), row["address"], row["sealed"] or b"")


async def _count(connection: Connection, query: str, *args: object) -> int:
    return len(await connection.fetch(SQL[query], *args))


async def _log(connection: Connection, workspace_id: UUID, after: int, limit: int) -> tuple[LogLine, ...]:
    rows = await connection.fetch(SQL["select_log"], workspace_id, after, limit)
    return tuple(LogLine(row["number"], row["at"], row["source"], row["text"]) for row in rows)


# --- rows -------------------------------------------------------------------------------------


def row_of(row: Row) -> WorkspaceRow:
    """Raises ``Unreadable``."""
    values = {name: row[name] for name in _PLAIN_FIELDS}
    values["times"] = {name: row[name] for name in WorkspaceTimes.__struct_fields__}
    values["made_of"] = made_of = {name: row[name] for name in MadeOf.__struct_fields__}
    try:
        made_of["settings"] = _settings.decode(row["settings"])
        made_of["parameters"] = _parameters.decode(row["parameters"])
        return msgspec.convert(values, WorkspaceRow)
    except (ValueError, *UNDECODABLE) as error:
        raise Unreadable(f"a workspace that this version of chatcluster cannot read: {error}") from None


def rows_of(rows: Sequence[Row]) -> tuple[WorkspaceRow, ...]:
    """The rows that this version can read; of the others it is told, and they cost nobody else anything."""
    return tuple(found for row in rows if (found := _readable_row(row)) is not None)


def _readable_row(row: Row) -> WorkspaceRow | None:
    try:
        return row_of(row)
    except Unreadable as error:
        telemetry.event("workspace.row_unreadable", workspace_id=str(row["id"]), error=str(error))
        return None


def _template_of(row: Row) -> Template:
    """Raises ``Unreadable``."""
    values = {name: row[name] for name in Template.__struct_fields__}
    try:
        values["settings"] = _settings.decode(row["settings"])
    except UNDECODABLE as error:
        raise Unreadable(f"a template that this version of chatcluster cannot read: {error}") from None
    return Template(**values)


def _written(settings: TemplateSettings) -> str:
    return msgspec.json.encode(settings).decode()
