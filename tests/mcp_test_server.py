"""A real MCP server for tests, a program of its own: ``python mcp_test_server.py [PORT]``; it prints its port.

Tools of every kind stand at ``/mcp`` (streamable HTTP) and ``/sse``; the same behind each kind of authentication at
``/bearer/mcp``, ``/key/mcp``, ``/own/mcp`` (client credentials) and ``/oauth/mcp``, with an authorization server beside
them. ``/silent``, ``/rubbish``, ``/html``, ``/broken``, ``/dense`` are servers that are none. ``/stats`` counts, and
``POST /control`` changes what the authorization server does, refuses messages with a certain text in them
(``refused_with``), asks for a scope (``needs``), gives another one than was asked for (``grants``), holds calls
(``held``), and bounds how many sessions there are at ``/sse`` (``sessions_max``).
``/old/mcp`` knows the old era alone.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import socket
import sys
from collections import Counter
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import anyio
import anyio.lowlevel
import mcp_types as types
import uvicorn
from mcp import MCPError, UrlElicitationRequiredError
from mcp.server import MCPServer
from mcp.server.elicitation import ElicitationResult
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.server.mcpserver.utilities.types import Image
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
counts: Counter[str] = Counter()
seen: dict[str, Any] = {}
control: dict[str, Any] = {
    "expires_in": 3600,
    "refuses": False,
    "registers": True,
    "refused_with": "",
    "held": True,
    "sessions_max": 1000,
    "needs": "",
    "grants": "",
    "reads_documents": False,
    "names_itself": False,
    "no_tokens": False,
    "issuer": "",
}


class Weather(BaseModel):
    city: str
    degrees: int


class Question(BaseModel):
    name: str


class Order(BaseModel):
    """A form of every kind of field, in words that no page should take for more than words."""

    name: str = Field(title="<img src=x onerror=window.hit=1>Name", description="\u202e" + "long" * 60)
    size: Literal["small", "large"] = Field(title="Size")
    slices: int = Field(8, title="Slices")
    spicy: bool = Field(False, title="Spicy")


server = MCPServer("test", instructions="Count to three.")


async def pause(seconds: float) -> None:
    """A tool that takes its time."""
    with anyio.move_on_after(seconds):
        await anyio.sleep_forever()


@server.tool()
async def count(by: int = 1) -> int:
    """Count on."""
    counts["count"] += by
    return counts["count"]


@server.tool(annotations=types.ToolAnnotations(read_only_hint=True))
async def peek() -> int:
    """Where the count stands."""
    return counts["count"]


@server.tool(annotations=types.ToolAnnotations(idempotent_hint=True))
async def reset() -> str:
    counts["count"] = 0
    return "reset"


@server.tool()
async def big(mib: float) -> str:
    """A long text."""
    return "x" * int(mib * (1 << 20))


@server.tool()
async def slow(steps: int, ctx: Context) -> str:
    """Tells of each step."""
    for step in range(steps):
        await ctx.report_progress(step, steps, f"step {step}")
        await pause(0.1)
    return "done"


@server.tool()
async def wait() -> str:
    """Waits until it is told to stop."""
    counts["waiting"] += 1
    try:
        await pause(3600)
    finally:
        counts["stopped"] += 1
    return "waited"


@server.tool()
async def hold(ctx: Context, asks: bool = False, fails: bool = False) -> str:
    """Takes effect, may ask the user something, and ends when it is not held any more."""
    counts["effects"] += 1
    async with anyio.create_task_group() as group:
        if asks:
            group.start_soon(ctx.elicit, "Your name?", Question)
        while control["held"]:
            await pause(0.01)
        group.cancel_scope.cancel()
    if fails:
        raise MCPError(types.INTERNAL_ERROR, "it broke in the middle")
    return "took effect"


@server.tool()
async def fail() -> str:
    raise ValueError("it cannot be")


@server.tool()
async def die() -> str:
    os._exit(1)


@server.tool()
async def picture() -> Image:
    return Image(data=PIXEL, format="png")


@server.tool()
async def weather(city: str) -> Weather:
    return Weather(city=city, degrees=21)


@server.tool()
async def several() -> types.CallToolResult:
    """A text, a link, a resource, a sound, and a text that nobody can store."""
    return types.CallToolResult(
        content=[
            types.TextContent(type="text", text="one\0two"),
            types.ResourceLink(type="resource_link", uri="file:///a", name="a", mime_type="text/plain"),
            types.EmbeddedResource(
                type="resource", resource=types.TextResourceContents(uri="file:///b", mime_type="text/plain", text="b")
            ),
            types.AudioContent(type="audio", data="AAAA", mime_type="audio/wav"),
        ]
    )


@server.tool()
async def told(ctx: Context) -> dict[str, Any]:
    """What came with the request."""
    headers = {} if ctx.request_context.request is None else dict(ctx.request_context.request.headers)
    meta = ctx.request_context.meta
    return {"headers": headers, "meta": dict(meta) if isinstance(meta, dict) else meta.model_dump() if meta else {}}


@server.tool()
async def ask(ctx: Context) -> str:
    """Asks the user."""
    answer = await ctx.elicit("Your name?", Question)
    return answer.action


@server.tool()
async def confirm(what: str, ctx: Context, after: str = "", aside: bool = False) -> str:
    """Asks the user about this, once something else was asked about; ``aside``, by the session's own stream."""
    while after and not counts[f"asked {after}"]:
        await pause(0.01)
    counts[f"asked {what}"] += 1
    if aside:
        reply = await ctx.session.elicit_form(f"{what}?", Question.model_json_schema())
        return f"{what}: {reply.action} {(reply.content or {}).get('name', '')}".strip()
    answer = await ctx.elicit(f"{what}?", Question)
    return f"{what}: {answer.action} {getattr(getattr(answer, 'data', None), 'name', '')}".strip()


@server.tool()
async def reconsider(ctx: Context) -> str:
    """Asks something, withdraws that when it is not held any more, and asks something else."""
    async with anyio.create_task_group() as group:
        group.start_soon(ctx.elicit, "First?", Question)
        while control["held"]:
            await pause(0.01)
        group.cancel_scope.cancel()
    return (await ctx.elicit("Second?", Question)).action


async def asked_for_a_name() -> Elicit[Question]:
    return Elicit("Your name?", Question)


@server.tool()
async def introduce(said: Annotated[ElicitationResult[Question], Resolve(asked_for_a_name)]) -> str:
    """Asks the user before it begins."""
    counts["introduced"] += 1
    return f"{said.action} {getattr(getattr(said, 'data', None), 'name', '')}".strip()


async def asked_for_an_order() -> Elicit[Order]:
    return Elicit("<script>window.hit=1</script>What shall it be?", Order)


@server.tool()
async def order(said: Annotated[ElicitationResult[Order], Resolve(asked_for_an_order)]) -> str:
    """Asks the user for more than one thing."""
    data = getattr(said, "data", None)
    return said.action if data is None else f"{said.action}: {data.name}, {data.size}, {data.slices}, {data.spicy}"


@server.tool()
async def visit() -> str:
    """Wants the user to have been somewhere first."""
    counts["visits"] += 1
    if counts["visits"] % 2:
        page = types.ElicitRequestURLParams(message="Agree first", url="https://example.org/agree", elicitation_id="1")
        raise UrlElicitationRequiredError([page])
    return "visited"


@server.tool()
async def grow(ctx: Context) -> str:
    """There is another tool from now on."""

    async def grown() -> str:
        return "grown"

    counts["grown"] += 1
    server.add_tool(grown, name=f"grown{counts['grown']}")
    await ctx.notify_tools_changed()
    await ctx.session.send_tool_list_changed()
    return f"grown{counts['grown']}"


@server.tool()
async def shrink() -> str:
    """What grew is gone, and nobody is told."""
    for number in range(1, counts["grown"] + 1):
        server.remove_tool(f"grown{number}")
    return "gone"


# --- servers that are none --------------------------------------------------------------------


async def silent(request: Request) -> Response:
    counts["silent"] += 1
    await anyio.sleep_forever()
    raise AssertionError


async def rubbish(_: Request) -> Response:
    return Response(b"\xff{not json", media_type="application/json")


async def html(_: Request) -> Response:
    return Response("<h1>Hello</h1>", media_type="text/html")


async def broken(_: Request) -> Response:
    return Response("no", status_code=500)


async def dense(_: Request) -> Response:
    """Sixteen megabytes of the smallest values that there are."""
    return Response(b'{"jsonrpc":"2.0","id":1,"result":[' + b"[]," * (5 << 20) + b"[]]}", media_type="application/json")


async def endless(_: Request) -> Response:
    async def chunks() -> Any:
        yield b"data: "
        while True:
            yield b"x" * 65536
            await anyio.lowlevel.checkpoint()

    return StreamingResponse(chunks(), media_type="text/event-stream")


# --- an authorization server ------------------------------------------------------------------


class Authorization:
    def __init__(self) -> None:
        self.clients: dict[str, str] = {"configured": "configured-secret-1234"}
        self.codes: dict[str, dict[str, str]] = {}
        self.access: set[str] = set()
        self.scopes: dict[str, str] = {}
        """Of each access token."""
        self.refresh: dict[str, str] = {}
        self.used: set[str] = set()


authorization = Authorization()


def base_of(request: Request) -> str:
    return f"http://{request.headers['host']}"


async def resource_metadata(request: Request) -> Response:
    base = base_of(request)
    issuer = control["issuer"] or base
    said = {"resource": f"{base}/oauth/mcp", "authorization_servers": [issuer], "scopes_supported": ["all"]}
    return JSONResponse(said)


async def server_metadata(request: Request) -> Response:
    base = base_of(request)
    registers = {"registration_endpoint": f"{base}/register"} if control["registers"] else {}
    said = {
        "client_id_metadata_document_supported": control["reads_documents"],
        "authorization_response_iss_parameter_supported": control["names_itself"],
    }
    return JSONResponse(
        {
            "issuer": base,
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "token_endpoint_auth_methods_supported": ["none", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
        }
        | registers
        | said
    )


async def register(request: Request) -> Response:
    asked = await request.json()
    counts["registered"] += 1
    client_id = f"client-{counts['registered']}"
    authorization.clients[client_id] = ""
    return JSONResponse({"client_id": client_id, "token_endpoint_auth_method": "none", **asked}, status_code=201)


async def authorize(request: Request) -> Response:
    query = dict(request.query_params)
    if query.get("client_id") not in authorization.clients or query.get("code_challenge_method") != "S256":
        return JSONResponse({"error": "invalid_request"}, status_code=400)
    seen["authorize"] = query
    if control["refuses"]:
        answer = {"error": "access_denied", "state": query["state"]}
    else:
        code = secrets.token_hex(8)
        authorization.codes[code] = query
        answer = {"code": code, "state": query["state"], "iss": base_of(request)}
    return RedirectResponse(f"{query['redirect_uri']}?{urlencode(answer)}", status_code=302)


async def token(request: Request) -> Response:
    form = {name: str(value) for name, value in (await request.form()).items()}
    counts[f"token {form.get('grant_type')}"] += 1
    if control["no_tokens"]:
        return JSONResponse({"error": "temporarily_unavailable"}, status_code=503)
    client_id = form.get("client_id", "")
    if client_id not in authorization.clients or form.get("client_secret", "") != authorization.clients[client_id]:
        return JSONResponse({"error": "invalid_client"}, status_code=401)
    scope = ""
    match form.get("grant_type"):
        case "authorization_code":
            query = authorization.codes.pop(form["code"], None)
            verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
            challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
            if query is None or query["code_challenge"] != challenge or query["redirect_uri"] != form["redirect_uri"]:
                return JSONResponse({"error": "invalid_grant"}, status_code=400)
            scope = str(control["grants"]) or query.get("scope", "")
        case "refresh_token":
            used = form["refresh_token"]
            scope = authorization.scopes.get(authorization.refresh.get(used, ""), "")
            if used in authorization.used:  # a token that is used twice was stolen
                authorization.refresh.clear()
                authorization.access.clear()
                counts["reused"] += 1
            if authorization.refresh.pop(used, None) is None:
                return JSONResponse({"error": "invalid_grant"}, status_code=400)
            authorization.used.add(used)
        case "client_credentials":
            pass
        case _:
            return JSONResponse({"error": "unsupported_grant_type"}, status_code=400)
    access, refresh = f"access-{secrets.token_hex(8)}", f"refresh-{secrets.token_hex(8)}"
    authorization.access.add(access)
    authorization.scopes[access] = scope
    authorization.refresh[refresh] = access
    return JSONResponse(
        {"access_token": access, "token_type": "Bearer", "expires_in": control["expires_in"], "refresh_token": refresh}
    )


async def stats(_: Request) -> Response:
    return JSONResponse({**counts, "seen": seen})


async def change_control(request: Request) -> Response:
    asked = await request.json()
    if asked.pop("revoke", False):
        authorization.access.clear()
    if asked.pop("revoke_all", False):
        authorization.access.clear()
        authorization.refresh.clear()
    control.update(asked)
    return JSONResponse(control)


# --- the application --------------------------------------------------------------------------

ROUTES = [
    Route("/stats", stats),
    Route("/control", change_control, methods=["POST"]),
    *(
        Route(f"/{name.__name__}", name, methods=["GET", "POST", "DELETE"])
        for name in (silent, rubbish, html, broken, dense, endless)
    ),
    Route("/.well-known/oauth-protected-resource/oauth/mcp", resource_metadata),
    Route("/.well-known/oauth-authorization-server", server_metadata),
    Route("/register", register, methods=["POST"]),
    Route("/authorize", authorize),
    Route("/token", token, methods=["POST"]),
]


class Application:
    """Routes by the path's beginning; the servers themselves at each of their paths."""

    def __init__(self) -> None:
        self._streamable = server.streamable_http_app()
        self._sse = server.sse_app()
        self._plain = Starlette(routes=ROUTES)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._streamable(scope, receive, send)
            return
        path, headers = scope["path"], dict(scope["headers"])
        if control["refused_with"] and scope["method"] == "POST" and path != "/control":
            body, receive = await read(receive)
            if control["refused_with"].encode() in body:
                counts["refused messages"] += 1
                await Response(status_code=401)(scope, receive, send)
                return
        if path == "/sse":
            await self._hold_sse(scope, receive, send)
        elif path == "/messages/":
            await self._sse(scope, receive, send)
        elif path == "/old/mcp":
            await self._old(scope, receive, send)
        elif path.endswith("/mcp") and "well-known" not in path:
            counts["requests"] += 1
            if refusal := refusal_of(path, headers):
                counts["refused"] += 1
                await refusal(scope, receive, send)
            else:
                await self._streamable({**scope, "path": "/mcp", "raw_path": b"/mcp"}, receive, send)
        else:
            await self._plain(scope, receive, send)

    async def _hold_sse(self, scope: Any, receive: Any, send: Any) -> None:
        if counts["sse open"] >= control["sessions_max"]:
            await Response(status_code=503)(scope, receive, send)
            return
        counts["sse"] += 1
        counts["sse open"] += 1
        try:
            await self._sse(scope, receive, send)
        finally:
            counts["sse open"] -= 1

    async def _old(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            body, receive = await read(receive)
            if b'"server/discover"' in body:
                await Response(status_code=404)(scope, receive, send)
                return
            counts["old"] += b'"initialize"' in body
        await self._streamable({**scope, "path": "/mcp", "raw_path": b"/mcp"}, receive, send)


async def read(receive: Any) -> tuple[bytes, Any]:
    """The body of a request, and what gives it again."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    body = b"".join(message.get("body", b"") for message in messages)

    async def again() -> Any:
        return messages.pop(0) if messages else await receive()

    return body, again


def refusal_of(path: str, headers: dict[bytes, bytes]) -> Response | None:
    given = headers.get(b"authorization", b"").decode()
    base = f"http://{headers[b'host'].decode()}"
    match path:
        case "/bearer/mcp":
            is_fine = given == "Bearer right-token-123"
        case "/key/mcp":
            is_fine = headers.get(b"x-key") == b"right-key-12345"
        case "/own/mcp" | "/oauth/mcp":
            is_fine = given.removeprefix("Bearer ") in authorization.access
        case _:
            is_fine = True
    needs = str(control["needs"]) if path == "/oauth/mcp" and is_fine else ""
    if needs and needs not in authorization.scopes[given.removeprefix("Bearer ")].split():
        challenge = f'Bearer error="insufficient_scope", scope="{needs}"'
        return JSONResponse({"error": "forbidden"}, status_code=403, headers={"WWW-Authenticate": challenge})
    if is_fine:
        return None
    challenge = f'Bearer resource_metadata="{base}/.well-known/oauth-protected-resource/oauth/mcp"'
    return JSONResponse({"error": "unauthorized"}, status_code=401, headers={"WWW-Authenticate": challenge})


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(Application(), log_level="critical")).run(sockets=[listener])


if __name__ == "__main__":
    main()
