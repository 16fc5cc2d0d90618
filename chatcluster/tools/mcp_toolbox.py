"""``Toolbox`` over the servers of tools that speak MCP.

In a turn: the tools of all servers of the chat are listed, from memory as a rule (``mcp_lists.py``). A server is
connected to at the first call of one of its tools, or at once where a turn is taken up that has calls without result;
there a list that is not remembered comes through the same session. It is closed at the turn's end. All of a turn's
calls at one server go through one session, as far as it is clear then which of them the server asks the user for
(``mcp_sessions.py``); if it is lost, the next call makes another one.

The name of a tool is ``slug__name``. One that providers do not take (other characters, more than 64) is changed, with a
digest of the whole at its end.

What happens on failure:

* **A server cannot be had** (down, silent, wrong, refuses): its tools are missing from the turn; a notice names it.
* **The user has to sign in anew**, because tokens are refused: the call was not run, and waits for that.
* **A call fails**: an error result that tells the model what happened and what it can do. Where the server may have run
  it, that is said: nothing is tried again, but a call whose own request was refused before it began (401, once, with
  fresh tokens; a session that the server has forgotten, once, with a new one). Other calls that are under way in the
  session that was refused go on in it.
* **A call takes too long**: ``idle_seconds`` without progress, or ``total_seconds``; the server is told to stop.
* **The server asks the user something** (elicitation): the chat's owner is told, and time stands still for the call.
* **The turn is stopped**: the server is told to stop, and nobody waits for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple
from uuid import UUID

import msgspec
import trio

from chatcluster import telemetry, trace_context
from chatcluster.content import NoticePart, ResultContent, TextPart
from chatcluster.errors import ChatclusterError, StoreUnavailable
from chatcluster.ports import (
    Approval,
    Chat,
    Effect,
    InputRequired,
    McpServer,
    SignInRequired,
    Tell,
    Tool,
    ToolCall,
    ToolPolicy,
    ToolResult,
)
from chatcluster.tools.mcp_credentials import Credentials, SignInNeeded
from chatcluster.tools.mcp_directory import McpDirectory
from chatcluster.tools.mcp_link import LinkSession, McpFailed
from chatcluster.tools.mcp_lists import ToolList, ToolLists
from chatcluster.tools.mcp_running import RunningCall
from chatcluster.tools.mcp_sessions import ServerSessions
from chatcluster.tools.mcp_wire import CALL_ID_META, ListedTool, Trouble, questions_of, says_unknown_tool

NAME_CHARS_MAX = 64
DIGEST_CHARS = 8
SEPARATOR = "__"
IN_HEADERS = "x-mcp-header"
"""What a schema says of arguments that a proxy before the server is to see without reading the request."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


class _Found(NamedTuple):
    """A tool of the turn, and where it is run."""

    server: McpServer
    listed: ListedTool
    tool: Tool


class McpToolbox:
    def __init__(self, directory: McpDirectory, lists: ToolLists, credentials: Credentials) -> None:
        self.directory = directory
        self.lists = lists
        self.credentials = credentials
        self.one_at_a_time: dict[UUID, int] = {}
        """The servers whose sessions are to have one call at a time, and at which revision of the row that was seen."""

    def offers(self, chat: Chat) -> bool:
        return self.directory.may_have(chat.mcp_servers)

    @asynccontextmanager
    async def open(self, chat: Chat) -> AsyncIterator[McpTurn]:
        async with trio.open_nursery() as nursery:
            turn = McpTurn(self, chat)
            if turn.is_taken_up:
                nursery.start_soon(turn.connect_ahead)
            try:
                yield turn
            finally:
                turn.close()
                nursery.cancel_scope.cancel()


class McpTurn:
    """``TurnTools`` of one turn. ``is_taken_up``: it began with calls that have no result."""

    def __init__(self, toolbox: McpToolbox, chat: Chat) -> None:
        self.is_taken_up = chat.open_calls > 0
        self._toolbox = toolbox
        self._chat = chat
        self._found: dict[str, _Found] = {}
        self._sessions: dict[str, ServerSessions] = {}
        self.notices: Sequence[NoticePart] = ()
        self.instructions: Sequence[tuple[str, str]] = ()
        """The servers by slug, and what they say about themselves, where the model is to be told that."""
        self.surroundings: Sequence[str] = ()

    async def tools(self) -> Sequence[Tool]:
        servers, unknown = await self._toolbox.directory.of_chat(self._chat.mcp_servers)
        lists: dict[str, ToolList] = {}
        notices = {slug: _missing(slug, "there is no such server any more") for slug in unknown}
        async with trio.open_nursery() as nursery:
            for server in servers:
                nursery.start_soon(self._list, server, lists, notices)
        self._found = {}
        for server in servers:
            if server.slug in lists:
                self._take(server, lists[server.slug])
        self.notices = tuple(notices[slug] for slug in sorted(notices))
        self.instructions = tuple(
            (server.slug, lists[server.slug].instructions if server.settings.instructions else "")
            for server in servers
            if server.slug in lists
        )
        return [found.tool for found in self._found.values()]

    async def _list(self, server: McpServer, lists: dict[str, ToolList], notices: dict[str, NoticePart]) -> None:
        session = self._with(server).first if self.is_taken_up else None
        try:
            lists[server.slug] = found = await self._toolbox.lists.get(server, self._chat.owner_id, session)
        except McpFailed as failure:
            notices[server.slug] = self._notice_of(server, failure)
        else:
            if found.left_out:
                why = "too many, too large, unnamed, unreadable, named like another one, or for tasks alone"
                text = f"{found.left_out} tools of {server.slug} cannot be used: {why}."
                notices[server.slug] = _notice("mcp_tools_left_out", server.slug, text)

    def _notice_of(self, server: McpServer, failure: McpFailed) -> NoticePart:
        if server.per_user and failure.trouble is Trouble.UNAUTHORIZED:
            return _missing(server.slug, f"sign in first, at {self._sign_in_link(server)} ", "mcp_sign_in")
        return _missing(server.slug, f"{_WORDS[failure.trouble]} ({failure.message})")

    def _take(self, server: McpServer, listed: ToolList) -> None:
        for tool in listed.tools:
            if server.settings.has(tool.name):
                name = provider_name(server.slug, tool.name)
                self._found[name] = _Found(server, tool, tool_of(server, tool, name))

    # calls

    async def run(self, call: ToolCall, progressed: Tell) -> ToolResult:
        found = self._found.get(call.name)
        if found is None:
            return _error(f"There is no tool {call.name} in this turn.")
        try:
            return await self._run_in_time(found, call, progressed)
        except SignInNeeded:
            raise SignInRequired from None
        except McpFailed as failure:
            return self._failure(found, failure)
        except StoreUnavailable:
            return _error(f"{call.name} was not run: the login for it cannot be read right now. Try again later.")
        except RecursionError:
            return _error(f"{call.name} was not run: its arguments are nested too deeply.")

    async def _run_in_time(self, found: _Found, call: ToolCall, progressed: Tell) -> ToolResult:
        tool, running = found.tool, RunningCall(found.tool, progressed)
        with running.time.scope:
            return await self._run(found, call, running)
        in_all = running.time.is_over_in_all
        seconds = f"{tool.total_seconds:g} s" if in_all else f"{tool.idle_seconds:g} s without progress"
        telemetry.event("mcp.call_failed", server=found.server.slug, tool=found.listed.name, trouble=Trouble.TIMEOUT)
        if not running.has_begun:
            return _error(f"{tool.name} was not run: within {seconds} there was no session for it. Try again later.")
        return _error(
            f"{tool.name} took too long ({seconds}) and was told to stop. Whether it took effect is unknown: find that "
            "out before you call it again, or ask for less at a time."
        )

    async def _run(self, found: _Found, call: ToolCall, running: RunningCall) -> ToolResult:
        try:
            return await self._run_once(found, call, running)
        except McpFailed as failure:
            if not await self._can_run_again(found.server, failure):
                raise
        try:
            return await self._run_once(found, call, running)
        except McpFailed as failure:
            if failure.trouble is Trouble.UNAUTHORIZED and found.server.per_user:
                await self._toolbox.credentials.refuse(found.server, self._chat.owner_id, failure.challenge)
            raise

    async def _can_run_again(self, server: McpServer, failure: McpFailed) -> bool:
        """Whether nothing was done, and another session may do better.

        The sessions that are dropped may be others than the call had: what others do in them is not cut off.
        """
        if failure.trouble is Trouble.SESSION_LOST:
            self._with(server).drop()
            return True
        if failure.trouble is Trouble.UNAUTHORIZED and not isinstance(failure, SignInNeeded):
            self._with(server).drop()
            return await self._toolbox.credentials.renew(server, self._chat.owner_id, 0, failure.challenge)
        return False

    async def _run_once(self, found: _Found, call: ToolCall, running: RunningCall) -> ToolResult:
        if self._toolbox.directory.current(found.server.id) is None:
            raise McpFailed(Trouble.REFUSED, "the server was removed or disabled")
        async with self._with(found.server).lent(running.waits) as session:
            running.has_begun = True
            called = await session.call(
                found.listed.name,
                call.arguments,
                meta={CALL_ID_META: call.call_id} | trace_context.headers(),
                content_bytes_max=found.tool.result_bytes_max,
                told=partial(running.told, session),
                answers=call.answers,
                resume=call.resume,
                in_headers=IN_HEADERS in found.listed.schema,
            )
        if called.questions:
            raise InputRequired(questions_of(called.questions), called.resume)
        if called.is_error and _says_unknown(called.content):
            self._toolbox.lists.forget(found.server, self._chat.owner_id)
        return ToolResult(called.content, called.is_error)

    def _with(self, server: McpServer) -> ServerSessions:
        if server.slug not in self._sessions:
            known = self._toolbox.one_at_a_time
            self._sessions[server.slug] = ServerSessions(server, partial(self._open, server), known)
        return self._sessions[server.slug]

    async def _open(self, server: McpServer) -> LinkSession:
        with telemetry.span("stage.ended", stage="mcp_connect"):
            return await self._toolbox.credentials.session(
                server,
                self._chat.owner_id,
                changed=lambda: self._toolbox.lists.forget(server, self._chat.owner_id),
            )

    async def connect_ahead(self) -> None:
        """Connect to all servers of the chat. If this fails, the call that needs one tries again."""
        servers, _ = await self._toolbox.directory.of_chat(self._chat.mcp_servers)
        async with trio.open_nursery() as nursery:
            for server in servers:
                nursery.start_soon(self._connect_ahead, server)

    async def _connect_ahead(self, server: McpServer) -> None:
        with suppress(McpFailed, StoreUnavailable):
            await self._with(server).first()

    def close(self) -> None:
        """The turn is over."""
        for sessions in self._sessions.values():
            sessions.close()
        self._sessions.clear()

    def _failure(self, found: _Found, failure: McpFailed) -> ToolResult:
        telemetry.event(
            "mcp.call_failed",
            server=found.server.slug,
            tool=found.listed.name,
            trouble=failure.trouble,
            error=failure.message,
        )
        if failure.trouble is Trouble.UNKNOWN_TOOL:
            self._toolbox.lists.forget(found.server, self._chat.owner_id)
        return _error(f"{found.tool.name}: {_WORDS[failure.trouble]} ({failure.message}). {_ADVICE[failure.trouble]}")

    def _sign_in_link(self, server: McpServer) -> str:
        try:
            return self._toolbox.credentials.links.link(server, self._chat.owner_id)
        except ChatclusterError as error:
            return f"(no link: {error.message})"


# --- tools ------------------------------------------------------------------------------------


def provider_name(slug: str, name: str) -> str:
    """What the model calls a tool. Two tools never have one name: what is changed has a digest of the whole."""
    whole = f"{slug}{SEPARATOR}{name}"
    plain = _NOT_IN_NAMES.sub("_", whole)
    if plain == whole and len(whole) <= NAME_CHARS_MAX and not _looks_changed(whole):
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:DIGEST_CHARS]
    return f"{plain[: NAME_CHARS_MAX - DIGEST_CHARS - 1]}-{digest}"


def _looks_changed(name: str) -> bool:
    """Whether a name ends like those that were changed: then it is changed as well, so that it is none of them."""
    return re.search(rf"-[0-9a-f]{{{DIGEST_CHARS}}}$", name) is not None


def tool_of(server: McpServer, listed: ListedTool, name: str) -> Tool:
    """A tool with its policy: what the administrator says of it, of the server, and the server's word if it counts."""
    settings = server.settings
    policy = settings.tools.get(listed.name, ToolPolicy())
    return Tool(
        name=name,
        description=listed.description,
        parameters=msgspec.json.decode(listed.schema),
        effect=policy.effect or (hinted_effect(listed) if settings.trusted else Effect.ONCE),
        approval=Approval.DENY if settings.approval is Approval.DENY else policy.approval or settings.approval,
        idle_seconds=settings.idle_seconds,
        total_seconds=settings.total_seconds,
        result_bytes_max=settings.result_bytes_max,
    )


def hinted_effect(listed: ListedTool) -> Effect:
    return Effect.READ if listed.read_only else Effect.IDEMPOTENT if listed.idempotent else Effect.ONCE


# --- words ------------------------------------------------------------------------------------

_WORDS: dict[Trouble, str] = {
    Trouble.UNREACHABLE: "the server cannot be reached",
    Trouble.UNAUTHORIZED: "the server does not let us in",
    Trouble.SESSION_LOST: "the server lost the session",
    Trouble.BROKEN: "the connection to the server broke",
    Trouble.REFUSED: "the server refused the call",
    Trouble.UNKNOWN_TOOL: "the server does not know this tool any more",
    Trouble.GARBAGE: "the server answered what is none of the protocol",
    Trouble.TOO_LARGE: "the answer is too large",
    Trouble.TIMEOUT: "the server does not answer",
    Trouble.FORBIDDEN_ADDRESS: "the server's address is not one that may be connected to",
}

_UNKNOWN_EFFECT = "Whether it took effect is unknown: find that out before you call it again."
_NOT_RUN = "It was not run. Go on without it, or try again later."

_ADVICE: dict[Trouble, str] = {
    Trouble.UNREACHABLE: _NOT_RUN,
    Trouble.UNAUTHORIZED: "It was not run. Go on without it, and tell the user: an administrator has to look at it.",
    Trouble.SESSION_LOST: _NOT_RUN,
    Trouble.BROKEN: _UNKNOWN_EFFECT,
    Trouble.REFUSED: "Check name and arguments, or go on without it.",
    Trouble.UNKNOWN_TOOL: "Go on without it: the list of tools is read again with the next message.",
    Trouble.GARBAGE: _UNKNOWN_EFFECT,
    Trouble.TOO_LARGE: "It has run. Ask for less: a part, a page, a filter.",
    Trouble.TIMEOUT: _NOT_RUN,
    Trouble.FORBIDDEN_ADDRESS: _NOT_RUN,
}


def _says_unknown(content: Sequence[ResultContent]) -> bool:
    """Whether an error may say that there is no such tool: servers have no other way to say so, or do not use it."""
    return bool(content) and isinstance(content[0], TextPart) and says_unknown_tool(content[0].text[:200])


def _error(text: str) -> ToolResult:
    return ToolResult((TextPart(text),), is_error=True)


def _notice(code: str, slug: str, text: str) -> NoticePart:
    return NoticePart(code, text, slug)


def _missing(slug: str, why: str, code: str = "mcp_unavailable") -> NoticePart:
    return _notice(code, slug, f"The tools of {slug} are missing: {why}.")
