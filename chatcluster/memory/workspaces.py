"""``Workspaces`` on a ``MemoryDatabase``."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from msgspec.structs import replace

from chatcluster.errors import ChatArchived, ChatNotFound
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.ports.administration import Deed
from chatcluster.ports.workspaces import (
    BUMP_AFTER,
    STARTABLE,
    UNDER_WAY,
    Asked,
    Located,
    LogLine,
    MadeOf,
    NewWorkspace,
    Startup,
    Template,
    WorkspaceRow,
    WorkspaceState,
    WorkspaceTimes,
)
from chatcluster.workspace_errors import (
    TemplateChanged,
    host_away,
    no_host,
    no_workspace,
    none_of_template,
    still_stopping,
    templates_full,
    user_is_full,
)
from chatcluster.workspace_templates import TEMPLATES_MAX, TemplateSettings, chosen_values

DEAD = (WorkspaceState.FAILED, WorkspaceState.LOST)


class MemoryWorkspaces:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._tables = database.kept.workspaces
        self._link = link or Link()

    # templates

    async def templates(self, owner_id: UUID | None = None) -> tuple[Template, ...]:
        async with self._link.crossing("templates"):
            found = sorted(self._tables.templates.values(), key=lambda template: template.name)
            return tuple(template for template in found if self._is_offered(template, owner_id))

    async def template(self, name: str, owner_id: UUID | None = None) -> Template:
        async with self._link.crossing("template"):
            return self._template(name, owner_id)

    async def put_template(
        self, name: str, settings: TemplateSettings, deed: Deed | None = None, *, revision: int | None = None
    ) -> Template:
        async with self._link.crossing("put_template"):
            known, now = self._tables.templates.get(name), self._database.now()
            if revision is not None and (known is None or known.revision != revision):
                raise TemplateChanged("the template was changed at the same time; read it again", template=name)
            if known is None:
                put = self._insert_template(name, settings)
            else:
                put = replace(known, settings=settings, revision=known.revision + 1, updated_at=now)
                self._tables.templates[name] = put
            self._database.record_deed(deed)
            return put

    async def ensure_template(self, name: str, settings: TemplateSettings) -> bool:
        async with self._link.crossing("ensure_template"):
            if name in self._tables.templates or len(self._tables.templates) >= TEMPLATES_MAX:
                return False
            self._insert_template(name, settings)
            return True

    async def remove_template(self, name: str, deed: Deed | None = None) -> bool:
        async with self._link.crossing("remove_template"):
            if self._tables.templates.pop(name, None) is None:
                return False
            self._database.record_deed(deed)
            return True

    # workspaces

    async def create(self, new: NewWorkspace, *, per_user_max: int) -> Asked:
        async with self._link.crossing("create"):
            self._require_chat(new.chat_id, new.owner_id)
            there = self._tables.of_chat(new.chat_id)
            if there is not None and there.state not in DEAD:
                return Asked(there, changed=False)
            template = self._template(new.template, new.owner_id)
            values = chosen_values(template.settings, new.parameters)
            self._require_host()
            if per_user_max and len(self._listed(new.owner_id)) >= per_user_max:
                raise user_is_full(per_user_max)
            if there is not None:
                self._put(there, replaced=True)
            row = WorkspaceRow(
                id=uuid4(),
                owner_id=new.owner_id,
                chat_id=new.chat_id,
                name=new.name,
                state=WorkspaceState.BUILDING,
                made_of=MadeOf(
                    template_id=template.id,
                    template_name=template.name,
                    settings=template.settings,
                    parameters=values,
                ),
                times=WorkspaceTimes(created_at=self._database.now()),
            )
            return Asked(self._put(row), changed=True)

    async def start(self, workspace_id: UUID, owner_id: UUID | None = None) -> Asked:
        async with self._link.crossing("start"):
            found = self._one(workspace_id, owner_id)
            if found.state in UNDER_WAY:
                return Asked(found, changed=False)
            if found.state not in STARTABLE:
                raise still_stopping()
            self._require_chat(found.chat_id, found.owner_id)
            if not found.built:
                self._require_host()
            else:
                self._require_able(found.host_id)
            return Asked(self._put(found, **_started(found)), changed=True)

    async def stop(self, workspace_id: UUID, owner_id: UUID | None = None) -> Asked:
        async with self._link.crossing("stop"):
            found = self._one(workspace_id, owner_id)
            if found.state not in UNDER_WAY:
                return Asked(found, changed=False)
            state = WorkspaceState.STOPPED if found.host_id is None else WorkspaceState.STOPPING
            return Asked(self._put(found, state=state), changed=True)

    async def delete(self, workspace_id: UUID, owner_id: UUID | None = None) -> None:
        async with self._link.crossing("delete"):
            found = self._one(workspace_id, owner_id)
            if found.host_id is None:
                self._tables.drop(workspace_id)
            else:
                self._put(found, state=WorkspaceState.DELETED)

    async def workspace(self, workspace_id: UUID, owner_id: UUID | None = None) -> WorkspaceRow:
        async with self._link.crossing("workspace"):
            return self._one(workspace_id, owner_id)

    async def workspaces(self, owner_id: UUID | None = None) -> tuple[WorkspaceRow, ...]:
        async with self._link.crossing("workspaces"):
            return tuple(reversed(self._listed(owner_id)))[:1000]

    async def of_chat(self, chat_id: UUID) -> WorkspaceRow | None:
        async with self._link.crossing("of_chat"):
            return self._tables.of_chat(chat_id)

    async def locate(self, workspace_id: UUID) -> Located:
        async with self._link.crossing("locate"):
            found = self._one(workspace_id)
            if found.host_id is None or not self._tables.is_alive(found.host_id):
                return Located(found, "", b"")
            host = self._tables.hosts[found.host_id].host
            return Located(found, host.address, host.sealed)

    async def bump(self, workspace_id: UUID) -> bool:
        async with self._link.crossing("bump"):
            row = self._tables.rows.get(workspace_id)
            return row is not None and self._bump(row)

    async def bump_owned(self, worker_id: UUID) -> int:
        async with self._link.crossing("bump_owned"):
            kin = self._database.kept.families.kin
            chats = [row.id for row in self._database.owned_by(worker_id)]
            owned = {kin[chat_id].root_id if chat_id in kin else chat_id for chat_id in chats}
            return sum([self._bump(row) for row in list(self._tables.rows.values()) if row.chat_id in owned])

    async def log(self, workspace_id: UUID, *, after: int = 0, limit: int = 500) -> tuple[LogLine, ...]:
        async with self._link.crossing("log"):
            lines = self._tables.logs.get(workspace_id, [])
            return tuple([line for line in lines if line.number > after][:limit])

    # rows

    def _template(self, name: str, owner_id: UUID | None) -> Template:
        named = self._tables.templates.get(name)
        found = named or next((t for t in self._tables.templates.values() if str(t.id) == name), None)
        if found is None or not self._is_offered(found, owner_id):
            raise none_of_template(name)
        return found

    def _is_offered(self, template: Template, owner_id: UUID | None) -> bool:
        if owner_id is None:
            return True
        account = self._database.accounts.get(owner_id)
        return template.settings.is_for(None if account is None else account.name)

    def _insert_template(self, name: str, settings: TemplateSettings) -> Template:
        if len(self._tables.templates) >= TEMPLATES_MAX:
            raise templates_full(TEMPLATES_MAX)
        now = self._database.now()
        template = Template(id=uuid4(), name=name, settings=settings, created_at=now, updated_at=now)
        self._tables.templates[name] = template
        return template

    def _require_chat(self, chat_id: UUID, owner_id: UUID) -> None:
        row = self._database.chats.get(chat_id)
        if row is None or row.owner_id != owner_id:
            raise ChatNotFound("there is no such chat", chat_id=str(chat_id))
        if row.state.archived or row.state.archiving:
            raise ChatArchived("the chat is archived: its workspace stays stopped")

    def _require_able(self, host_id: UUID | None) -> None:
        if host_id is None or not self._tables.is_alive(host_id):
            raise host_away()
        if problem := self._tables.hosts[host_id].host.problem:
            raise no_host(problem)

    def _require_host(self) -> None:
        hosts = [row.host for row in self._tables.hosts.values() if row.host.alive]
        if all(host.problem for host in hosts):
            raise no_host("; ".join(sorted(f"{host.name}: {host.problem}" for host in hosts)))

    def _listed(self, owner_id: UUID | None = None) -> list[WorkspaceRow]:
        rows = (row for row in self._tables.rows.values() if row.state is not WorkspaceState.DELETED)
        return [row for row in rows if owner_id in (None, row.owner_id)]

    def _one(self, workspace_id: UUID, owner_id: UUID | None = None) -> WorkspaceRow:
        found = self._tables.rows.get(workspace_id)
        if found is None or found.state is WorkspaceState.DELETED or owner_id not in (None, found.owner_id):
            raise no_workspace()
        return found

    def _put(self, row: WorkspaceRow, **fields: object) -> WorkspaceRow:
        return self._tables.put(row, updated_at=self._database.now(), **fields)

    def _bump(self, row: WorkspaceRow) -> bool:
        now, settings, last_used_at = self._database.now(), row.made_of.settings, row.times.last_used_at
        seconds, idle = settings.activity_bump_seconds, settings.idle_stop_seconds
        if row.state is not WorkspaceState.RUNNING or last_used_at is None:
            return False
        if now - timedelta(seconds=BUMP_AFTER * seconds) <= last_used_at <= now:
            return False
        expires_at = row.times.expires_at
        if expires_at is not None:
            last = now + timedelta(seconds=max(idle, seconds))
            expires_at = min(last, max(expires_at, now + timedelta(seconds=seconds)))
        self._tables.put(row, last_used_at=now, expires_at=expires_at)
        return True


def _started(row: WorkspaceRow) -> dict[str, object]:
    return {
        "state": WorkspaceState.STARTING if row.built else WorkspaceState.BUILDING,
        "host_id": row.host_id if row.built else None,
        "generation": row.generation + 1,
        "detail": "",
        "startup": Startup.NONE,
        "expires_at": None,
        "last_used_at": None,
    }
