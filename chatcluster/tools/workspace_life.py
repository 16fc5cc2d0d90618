"""The tools that make, start and stop the chat's workspace: for chats that are nobody's agents.

Who is authoritative: the workspaces' rows. A tool writes what is wanted, a host does it, and the tool looks until it is
done, as long as that may take. So each may be run again, and finds what is there. While a workspace is built, its log
is what the call prints.

A workspace that is made or started says where it is, and its instructions, in the result itself: the prompt of a turn
under way stays as it is.

``stop_workspace`` is a way back from an agent that has died. It does so only after two signs: a tool of this turn had
no answer, which these are as well, and there is none now either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import trio

from chatcluster.agents import as_text
from chatcluster.errors import CallerError, InvalidRequest, StoreUnavailable
from chatcluster.parts import TextPart
from chatcluster.ports import Printed, Progressed, Tell, ToolCall, ToolResult
from chatcluster.ports.workspaces import (
    LOG_LINES_MAX,
    Asked,
    LogLine,
    NewWorkspace,
    Startup,
    Template,
    WorkspaceRow,
    WorkspaceState,
)
from chatcluster.texts import checked_line
from chatcluster.tools.workspace_context import Surroundings
from chatcluster.tools.workspace_link import ANSWER_SECONDS_MAX, NO_LOOKUP, SILENT, Link, Refused, words_of
from chatcluster.workspace_names import NAME_CHARS_MAX

POLL_SECONDS = 0.5
BUILD_SECONDS_MAX = 600.0
AGENT_SECONDS_MAX = 120.0
STARTUP_SECONDS_MAX = 600.0
STOP_SECONDS_MAX = 30.0
SECONDS_MAX = BUILD_SECONDS_MAX + AGENT_SECONDS_MAX + STARTUP_SECONDS_MAX + 60.0
DESCRIPTION_CHARACTERS_MAX = 200
TEMPLATES_MAX = 50
NAME_BASE_CHARACTERS_MAX = 27
LOG_LINES = 200
UNDER_WAY = (WorkspaceState.BUILDING, WorkspaceState.STARTING)


class _Up(NamedTuple):
    """A workspace that was to come up."""

    row: WorkspaceRow
    is_answering: bool


class LifeTools:
    """The tools that make, start and stop a workspace, of one chat, for one turn."""

    def __init__(self, link: Link, surroundings: Surroundings, per_user_max: int) -> None:
        self._link = link
        self._surroundings = surroundings
        self._per_user_max = per_user_max
        self._one_at_a_time = trio.Lock()

    async def list_templates(self, call: ToolCall, _tell: Tell) -> ToolResult:
        query = str(call.arguments.get("query") or "").casefold().strip()
        templates = [template for template in await self._templates() if _matches(template, query)]
        told: dict[str, Any] = {"templates": [_listed(template) for template in templates[:TEMPLATES_MAX]]}
        told["count"] = len(templates)
        if len(templates) > TEMPLATES_MAX:
            told["note"] = f"These are the first {TEMPLATES_MAX}; give a query to find others."
        return _told(told)

    async def read_template(self, call: ToolCall, _tell: Tell) -> ToolResult:
        template = await self._template(call.arguments["template_id"])
        settings = template.settings
        parameters = [
            {
                "name": parameter.name,
                "type": str(parameter.type),
                "required": parameter.default is None,
                **({} if parameter.default is None else {"default": parameter.default}),
                **({"choices": list(parameter.choices)} if parameter.choices else {}),
                "description": parameter.description[:300],
            }
            for parameter in settings.parameters
        ]
        told = {**_listed(template), "packages": list(settings.packages), "network": list(settings.network) or "none"}
        return _told({"template": told, "parameters": parameters})

    async def create_workspace(self, call: ToolCall, tell: Tell) -> ToolResult:
        async with self._one_at_a_time:
            template = await self._template(call.arguments["template_id"])
            name = _checked_name(call.arguments.get("name")) or name_for(template.name, call.call_id)
            new = NewWorkspace(
                owner_id=self._link.chat.owner_id,
                chat_id=self._link.chat.family_id,
                template=str(template.id),
                name=name,
                parameters=call.arguments.get("parameters") or {},
            )
            rows, per_user_max = self._link.rows, self._per_user_max
            asked = await _rows(lambda: rows.create(new, per_user_max=per_user_max))
            self._link.forget()
            row, log = asked.workspace, _Log(self._link, tell)
            told: dict[str, Any] = {"created": asked.changed, "workspace_name": row.name}
            if not asked.changed:
                told |= {"status": "already_exists", "state": str(row.state)}
                if row.state not in (*UNDER_WAY, WorkspaceState.RUNNING):
                    return _told({**told, "note": words_of(row)})
            return await self._ready(await self._up(row, log, _agent_seconds(row)), told, log)

    async def start_workspace(self, _call: ToolCall, tell: Tell) -> ToolResult:
        async with self._one_at_a_time:
            row, log = await self._link.existing(), _Log(self._link, tell)
            row = await self._past(row, _is_stopping, STOP_SECONDS_MAX, log)
            if row.state not in (*UNDER_WAY, WorkspaceState.RUNNING):
                await log.pass_over(row)
            asked = await self._start(row)
            told = {"started": asked.changed, "workspace_name": asked.workspace.name}
            up = await self._up(asked.workspace, log, _agent_seconds(asked.workspace))
            if not asked.changed and up.row.state is WorkspaceState.STOPPED:
                told["started"] = True  # it had just ended, and its host found that out now
                up = await self._up((await self._start(up.row)).workspace, log)
            return await self._ready(up, told, log)

    async def stop_workspace(self, _call: ToolCall, tell: Tell) -> ToolResult:
        async with self._one_at_a_time:
            row = await self._link.existing()
            if row.state is WorkspaceState.RUNNING:
                if not self._link.has_been_silent:
                    raise Refused(
                        "The workspace was not stopped: it is for one that does not answer, and no tool of this turn "
                        "has found that. It stops by itself when nobody works in it."
                    )
                if await self._link.is_answering():
                    self._link.has_been_silent = False
                    raise Refused("The workspace was not stopped: it answers again. Go on with it.")
            log = _Log(self._link, tell)
            await log.pass_over(row)
            asked = await _rows(lambda: self._link.rows.stop(row.id))
            self._link.forget()
            row = await self._past(asked.workspace, _is_stopping, STOP_SECONDS_MAX, log)
            told = {"stopped": asked.changed, "workspace_name": row.name, "state": str(row.state)}
            return _told({**told, "note": "Its files are kept. start_workspace starts it again."})

    # --- templates ----------------------------------------------------------------------------

    async def _templates(self) -> list[Template]:
        owner_id = self._link.chat.owner_id
        templates: tuple[Template, ...] = await _rows(lambda: self._link.rows.templates(owner_id))
        return list(templates)

    async def _template(self, name: str) -> Template:
        """The template of this ID, or this name. Raises ``Refused``."""
        for template in await self._templates():
            if name.strip() in (str(template.id), template.name):
                return template
        raise Refused(f"There is no template {name[:100]!r}. list_templates names those that there are.")

    # --- until it is there --------------------------------------------------------------------

    async def _start(self, row: WorkspaceRow) -> Asked:
        asked: Asked = await _rows(lambda: self._link.rows.start(row.id))
        self._link.forget()
        return asked

    async def _up(self, row: WorkspaceRow, log: _Log, agent_seconds: float = AGENT_SECONDS_MAX) -> _Up:
        """The workspace once it runs and its agent answers; or as it is when it does not run, or the time is over."""
        row = await self._past(row, _is_under_way, BUILD_SECONDS_MAX, log)
        with trio.move_on_after(agent_seconds):
            while row.state is WorkspaceState.RUNNING:
                if await self._link.is_answering():
                    return _Up(row, is_answering=True)
                await trio.sleep(POLL_SECONDS)
                row = await self._again(row)
        return _Up(row, is_answering=False)

    async def _ready(self, up: _Up, told: dict[str, Any], log: _Log) -> ToolResult:
        """The result, where the workspace is up when its start-up script is over."""
        row = up.row
        if row.state is not WorkspaceState.RUNNING:
            words = f"The workspace {row.name} does not run: it is {row.state}. {words_of(row)}"
            return _told({**told, "agent_status": "no_agent", "agent_error": words}, is_error=True)
        if not up.is_answering:
            self._link.has_been_silent = True  # one of the two signs for stop_workspace
            return _told({**told, "agent_status": "not_ready", "agent_error": SILENT})
        told["agent_status"] = "ready"
        row = await self._past(await self._again(row), _starts_up, STARTUP_SECONDS_MAX, log)
        if row.startup is not Startup.NONE:
            told["startup_scripts"] = str(row.startup)
        await self._link.look_up()
        text = await self._surroundings.instructions(self._link)
        return _told(told, text)

    async def _past(
        self, row: WorkspaceRow, goes_on: Callable[[WorkspaceRow], bool], seconds_max: float, log: _Log
    ) -> WorkspaceRow:
        """The workspace once this does not go on any more; or as it is when the time is over."""
        with trio.move_on_after(seconds_max):
            while goes_on(row):
                await log.told(row)
                await trio.sleep(POLL_SECONDS)
                row = await self._again(row)
                if not goes_on(row):
                    await log.told(row)  # what was said at the end
        return row

    async def _again(self, row: WorkspaceRow) -> WorkspaceRow:
        """The workspace as it is now; or as it was, while Postgres is away."""
        try:
            return await self._link.rows.workspace(row.id)
        except StoreUnavailable:
            return row
        except CallerError as error:
            raise Refused(f"The workspace is gone: {error}") from None


class _Log:
    """What happens to a workspace, told as what the call prints."""

    def __init__(self, link: Link, tell: Tell) -> None:
        self._link = link
        self._tell = tell
        self._number = 0
        self._offset = 0

    async def pass_over(self, row: WorkspaceRow) -> None:
        """What was said until now is of earlier deeds."""
        with suppress(StoreUnavailable, CallerError):
            while lines := await self._link.rows.log(row.id, after=self._number, limit=LOG_LINES_MAX):
                self._number = lines[-1].number

    async def told(self, row: WorkspaceRow) -> None:
        self._tell(Progressed(self._number, message=f"{row.name} is {row.state}"))
        with suppress(StoreUnavailable, CallerError):  # the next one tells more
            while lines := await self._link.rows.log(row.id, after=self._number, limit=LOG_LINES):
                self._tell_lines(lines)

    def _tell_lines(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            data = f"{line.text}\n".encode("utf-8", "replace")
            self._tell(Printed(self._offset, data))
            self._number, self._offset = line.number, self._offset + len(data)


def _agent_seconds(row: WorkspaceRow) -> float:
    """How long its agent is waited for: one that runs already should answer as it does any tool."""
    return ANSWER_SECONDS_MAX if row.state is WorkspaceState.RUNNING else AGENT_SECONDS_MAX


def _is_under_way(row: WorkspaceRow) -> bool:
    return row.state in UNDER_WAY


def _is_stopping(row: WorkspaceRow) -> bool:
    return row.state is WorkspaceState.STOPPING


def _starts_up(row: WorkspaceRow) -> bool:
    return row.startup is Startup.RUNNING


def name_for(template: str, call_id: str) -> str:
    """A name for the workspace, the same each time the call is run."""
    base = template[:NAME_BASE_CHARACTERS_MAX].rstrip("-") or "workspace"
    return f"{base}-{hashlib.sha256(call_id.encode()).hexdigest()[:4]}"


def _checked_name(given: str | None) -> str:
    """As people may call one; empty where none is said. Raises ``Refused``."""
    try:
        return checked_line("name", given, chars_max=NAME_CHARS_MAX) if given else ""
    except InvalidRequest as error:
        raise Refused(f"This was not done: {error}") from None


async def _rows(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What is refused, in words for the model."""
    try:
        return await ask()
    except CallerError as error:
        raise Refused(f"This was not done: {error}") from None
    except StoreUnavailable:
        raise Refused(NO_LOOKUP) from None


def _matches(template: Template, query: str) -> bool:
    settings = template.settings
    return query in f"{template.name}\n{settings.display_name}\n{settings.description}".casefold()


def _listed(template: Template) -> dict[str, str]:
    return {
        "id": str(template.id),
        "name": template.name,
        "display_name": template.settings.display_name or template.name,
        "description": template.settings.description[:DESCRIPTION_CHARACTERS_MAX],
    }


def _told(told: dict[str, Any], more: str = "", *, is_error: bool = False) -> ToolResult:
    text = as_text(told)
    return ToolResult((TextPart(f"{text}\n\n{more}" if more else text),), is_error)
