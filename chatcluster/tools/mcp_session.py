"""One session with one MCP server, in the MCP process: the SDK's client, with its failures translated
(``mcp_failures.py``).

Servers of both eras are spoken to: ``server/discover`` is tried, then ``initialize`` (streamable HTTP); one that is
reached by SSE is of the old one. Whether a result fits its tool's output schema is not looked at: the tool has run, and
the model can make of it what it can.

A question of the server to a person (elicitation) is passed on (``mcp_questions.py``), one to a model (sampling) is
refused.

A call that fails is said not to have run if each of its own requests was refused before the server began with it, or
none was sent. Whatever else it met, and whatever others in its session met, it may have run.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import mcp.client.sse
import mcp_types as types
import trio
from mcp import Client, MCPError
from mcp.client.session import ClientRequestContext
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ToolsListChanged
from mcp.shared._httpx_utils import sse_within_origin
from mcp_types.version import MODERN_PROTOCOL_VERSIONS, is_version_at_least
from msgspec.structs import replace
from pydantic import TypeAdapter

from chatcluster import __version__
from chatcluster.chat.questions import Question, Replies, ReplyAction, encoded
from chatcluster.content import TextPart
from chatcluster.tools import mcp_http, mcp_met, mcp_questions
from chatcluster.tools.mcp_failures import MESSAGE_CHARS_MAX, SessionFailed, failed, failed_call
from chatcluster.tools.mcp_results import ToolListing, called, instructions_of
from chatcluster.tools.mcp_wire import (
    CALL_ID_META,
    MAY_GO_ON,
    TRACEPARENT_META,
    Call,
    Called,
    Changed,
    Failed,
    Listed,
    Open,
    Opened,
    Progress,
    Reply,
    replies_of,
)

PAGES_MAX = 500
"""The most pages of a list, as some servers have one tool on each. A page that comes again ends the list as well."""
PAGES_SECONDS = 5.0
"""No page is begun after that: a turn that waits for the list has that long for connecting besides
(``mcp_lists.py``)."""
QUESTIONS_MAX = 10
"""Requests for one call without an answer of the user in between."""
CHANGED_SECONDS_MIN = 0.5
"""Between two words to the replica that a list has changed."""
PROGRESS_SECONDS_MIN = 0.05
"""A tool that tells of more progress than that is not listened to each time."""
ASKING_SINCE = "2025-06-18"
"""The first version in which servers may ask the user."""
UNCLEAR_TEXT = (
    "Its server asked the user something without saying for which of several calls. So nobody was asked, and the "
    "server was told that the user cancelled. If that matters, call it again."
)
CLIENT_INFO = types.Implementation(name="chatcluster", version=__version__)

Say = Callable[[Reply], Awaitable[None]]

_RESULT: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)

# The SDK has no argument for the size of an event that comes by the old transport.
vars(mcp.client.sse)["sse_within_origin"] = functools.partial(sse_within_origin, max_event_size=mcp_http.BODY_BYTES_MAX)
logging.getLogger("mcp").setLevel(logging.CRITICAL)
logging.getLogger("client").setLevel(logging.CRITICAL)


class Session:
    """A session that is open."""

    def __init__(
        self,
        client: Client,
        refusals: mcp_met.Refusals,
        questions: mcp_questions.LiveQuestions,
        changes: Changes,
        *,
        is_sse: bool,
    ) -> None:
        self.questions = questions
        self.changes = changes
        self._client = client
        self._refusals = refusals
        self._is_sse = is_sse
        self._has_listed = False
        self._listing = trio.Lock()

    @property
    def is_modern(self) -> bool:
        return self._client.protocol_version in MODERN_PROTOCOL_VERSIONS

    def opened(self, open_id: int) -> Opened:
        info = self._client.server_info
        return Opened(
            open_id,
            version=self._client.protocol_version,
            name="" if info is None else info.name[:200],
            instructions=instructions_of(self._client.instructions),
            one_at_a_time=self._is_sse and is_version_at_least(self._client.protocol_version, ASKING_SINCE),
        )

    async def list_tools(self, request_id: int) -> Listed:
        """Raises what ``failed`` translates."""
        listing, cursor, seen, seconds = ToolListing(), None, {""}, None
        ends_at = trio.current_time() + PAGES_SECONDS
        while not listing.is_full and len(seen) <= PAGES_MAX and trio.current_time() < ends_at:
            page = await self._client.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            listing.take(page.tools)
            seconds = page.ttl_ms / 1000 if "ttl_ms" in page.model_fields_set else None
            cursor = page.next_cursor
            if cursor is None or cursor in seen:
                self._has_listed = True
                return Listed(request_id, listing.tools, listing.left_out, seconds)
            seen.add(cursor)
        self._has_listed = True
        return Listed(request_id, listing.tools, max(1, listing.left_out), seconds)

    async def call(self, request: Call, say: Say) -> Called | Failed:
        mcp_questions.OF_CALL.set(request.id)  # its task is its own
        self.questions.began(request.id)
        answer, is_unclear = None, False
        try:
            answer = await self._answer_of(request, say)
        finally:
            is_given_up = answer is None or (isinstance(answer, Failed) and answer.trouble in MAY_GO_ON)
            is_unclear = self.questions.ended(request.id, may_go_on=is_given_up)
        if is_unclear and isinstance(answer, Called):
            return replace(answer, content=(*answer.content, TextPart(UNCLEAR_TEXT)))
        return answer

    async def _answer_of(self, request: Call, say: Say) -> Called | Failed:
        call_id, traceparent = (request.meta.get(key, "") for key in (CALL_ID_META, TRACEPARENT_META))
        with self._refusals.call(call_id, traceparent) as sent:
            try:
                return await (self._call_and_watch(request, say) if self._is_sse else self._call(request, say))
            except Exception as error:  # noqa: BLE001 - whatever a server makes the SDK raise costs this call alone
                return failed_call(request.id, error, sent)

    async def wait_broken(self) -> None:
        """Return when nothing comes of this session any more."""
        if self._is_sse:
            await self._refusals.happened.wait()
        else:
            await trio.sleep_forever()  # the SDK ends it

    async def _call_and_watch(self, request: Call, say: Say) -> Called:
        """Run a call by the old transport, where nothing but the request itself tells that it failed."""
        result: list[Called] = []
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                result.append(await self._call(request, say))
                nursery.cancel_scope.cancel()

            nursery.start_soon(call)
            await self._refusals.happened.wait()
            nursery.cancel_scope.cancel()
        if not result:
            raise self._what_broke()
        return result[0]

    def _what_broke(self) -> Exception:
        """All answers come by one stream: what was wrong with it is what was wrong with the call if there is one."""
        error = self._refusals.error
        if error is not None and len(self._refusals.calls) == 1:
            return error
        return MCPError(types.CONNECTION_CLOSED, "the session broke" if error is None else str(error))

    async def _call(self, request: Call, say: Say) -> Called:
        replies = {} if request.answers is None else replies_of(request.answers)
        if replies and not self.is_modern and any(one.action is not ReplyAction.ACCEPT for one in replies.values()):
            return _declined(request.id)
        answers = self._responses(replies)
        state = None if request.resume is None else json.loads(request.resume)
        for _ in range(QUESTIONS_MAX):
            try:
                result = await self._ask(request, _Telling(request.id, say), answers, state)
            except MCPError as error:
                questions = _required_by(error)
                if questions is None or replies:
                    raise
                return _asking(request.id, questions, None)
            if isinstance(result, types.CallToolResult):
                return called(request.id, result, bytes_max=request.content_bytes_max)
            answers, state = None, result.request_state
            if result.input_requests:
                questions = mcp_questions.required(result.input_requests)
                return (
                    await self._not_for_users(request.id, result)
                    if questions is None
                    else _asking(request.id, questions, state)
                )
        return _refusal(request.id, "it asks for more and more")

    def _responses(self, replies: Replies) -> dict[str, Any] | None:
        """The answers for a server of the new era; one of the old era has nothing to put them in."""
        if not replies or not self.is_modern:
            return None
        return {key: mcp_questions.elicited(reply) for key, reply in replies.items()}

    async def _not_for_users(self, call_id: int, result: types.InputRequiredResult) -> Called:
        """Refuse what the user is not to be asked: the server wants a model, a list of roots, or asks too much."""
        for question in (result.input_requests or {}).values():
            if not isinstance(question, types.ElicitRequest):
                context = ClientRequestContext(session=self._client.session, request_id=call_id)
                answer = await self._client.session.dispatch_input_request(context, question)
                if isinstance(answer, types.ErrorData):
                    return _refusal(call_id, answer.message)
        return _refusal(call_id, "its questions are too long or too many")

    async def _ask(
        self, request: Call, telling: _Telling, answers: dict[str, Any] | None, state: str | None
    ) -> types.CallToolResult | types.InputRequiredResult:
        if request.in_headers and self.is_modern:
            async with self._listing:  # calls of a session run at the same time, and none may go before it is read
                if not self._has_listed:
                    await self.list_tools(request.id)
        params = types.CallToolRequestParams(
            name=request.name,
            arguments=json.loads(request.arguments),
            input_responses=answers,
            request_state=state,
            _meta=dict(request.meta),  # type: ignore[arg-type]
        )
        try:
            return await self._send(params, telling)
        except MCPError as error:
            if error.code != types.HEADER_MISMATCH:
                raise
        await self.list_tools(request.id)  # a header stands for an argument, and the list says which
        return await self._send(params, telling)

    async def _send(
        self, params: types.CallToolRequestParams, telling: _Telling
    ) -> types.CallToolResult | types.InputRequiredResult:
        return await self._client.session.send_request(
            types.CallToolRequest(params=params), _RESULT, progress_callback=telling
        )

    async def follow_changes(self, followed: trio.Event) -> None:
        """Tell of changes of the list, where the server says that it does. ``followed`` is set once no change gets
        lost, or there is nothing to follow. What goes wrong costs nothing else."""
        capabilities = self._client.server_capabilities
        if not (self.is_modern and capabilities.tools is not None and capabilities.tools.list_changed):
            followed.set()
            return
        try:
            async with self._client.listen(tools_list_changed=True) as changes:
                followed.set()
                async for change in changes:
                    if isinstance(change, ToolsListChanged):
                        await self.changes.note()
        except Exception as error:  # noqa: BLE001 - the list has a time limit besides
            logging.getLogger(__name__).debug("no changes are told: %r", error)
            followed.set()

    def failed(self, request_id: int, error: BaseException) -> Failed:
        return failed(request_id, error, self._refusals)


class Changes:
    """Changes of a server's list: each is told, but not each by itself. A server may tell of them without end."""

    def __init__(self, open_id: int, say: Say) -> None:
        self._open_id = open_id
        self._say = say
        self._told_at = -CHANGED_SECONDS_MIN
        self._untold = trio.Event()

    async def note(self) -> None:
        """Note a change."""
        if trio.current_time() < self._told_at + CHANGED_SECONDS_MIN:
            self._untold.set()
        else:
            await self._tell()

    async def tell_late(self) -> None:
        """Tell of those that came soon after another one, until cancelled."""
        while True:
            await self._untold.wait()
            await trio.sleep_until(self._told_at + CHANGED_SECONDS_MIN)
            await self._tell()

    async def _tell(self) -> None:
        self._told_at = trio.current_time()
        if self._untold.is_set():
            self._untold = trio.Event()
        await self._say(Changed(self._open_id))


class _Telling:
    """Passes progress on, not too often."""

    def __init__(self, call_id: int, say: Say) -> None:
        self._call_id = call_id
        self._say = say
        self._last = -PROGRESS_SECONDS_MIN

    async def __call__(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        now = trio.current_time()
        if now - self._last >= PROGRESS_SECONDS_MIN:
            self._last = now
            text = None if message is None else message[:MESSAGE_CHARS_MAX]
            await self._say(Progress(self._call_id, progress, total, text))


@asynccontextmanager
async def open_session(request: Open, say: Say) -> AsyncIterator[Session]:
    """A session within the block. Raises what ``failed`` translates, wrapped into ``SessionFailed``."""
    refusals = mcp_met.Refusals()

    async def heard(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            await changes.note()

    async def asked(context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:
        del context  # it does not say which call it is about, but this task's own does
        return await questions.ask(params)

    questions, changes = mcp_questions.LiveQuestions(request.id, say), Changes(request.id, say)
    is_sse = request.transport == "sse"
    try:
        async with Client(
            _transport(request, refusals),
            mode="legacy" if is_sse else "auto",
            cache=None,
            client_info=CLIENT_INFO,
            elicitation_callback=asked,
            message_handler=heard,
        ) as client:
            refusals.forget()
            yield Session(client, refusals, questions, changes, is_sse=is_sse)
    except Exception as error:
        raise SessionFailed(failed(request.id, error, refusals)) from error


def _transport(request: Open, refusals: mcp_met.Refusals) -> AbstractAsyncContextManager[Any]:
    if request.transport == "sse":

        def client(
            headers: dict[str, str] | None = None,  # noqa: ARG001 - theirs; ours come from the request
            timeout: httpx2.Timeout | None = None,  # noqa: ARG001
            auth: httpx2.Auth | None = None,  # noqa: ARG001
        ) -> httpx2.AsyncClient:
            return mcp_http.client(request.headers, refusals)

        return sse_client(request.url, httpx_client_factory=client)
    return streamable_http_client(
        request.url,
        http_client=mcp_http.client(request.headers, refusals),
        max_sse_event_size=mcp_http.BODY_BYTES_MAX,
    )


def _asking(call_id: int, questions: tuple[Question, ...], state: str | None) -> Called:
    resume = json.dumps(state)
    if len(resume) > mcp_questions.RESUME_BYTES_MAX:
        return _refusal(call_id, "what it wants kept until there is an answer is too large")
    return Called(call_id, (), questions=encoded(questions).encode(), resume=resume)


def _declined(call_id: int) -> Called:
    return Called(call_id, (TextPart("The user did not do what this call asks for first, so it was not run."),), True)


def _required_by(error: MCPError) -> tuple[Question, ...] | None:
    if error.code != types.URL_ELICITATION_REQUIRED:
        return None
    return mcp_questions.required_by(error.error.data) or None


def _refusal(call_id: int, why: str) -> Called:
    text = f"The tool asked for something that it cannot have here: {why[:MESSAGE_CHARS_MAX]}. Go on without it."
    return Called(call_id, (TextPart(text),), is_error=True)
