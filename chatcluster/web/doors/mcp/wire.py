"""JSON-RPC as the Model Context Protocol has it over HTTP: requests in, results and errors out. Pure.

A request of the stateless era says in its headers and in ``_meta`` what it is; the two have to agree, as those who
stand in between look at the headers alone.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from chatcluster import __version__
from chatcluster.json_bounds import bounded
from chatcluster.parts import encode
from chatcluster.web.api.bodies import decode

A = TypeVar("A")

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
STATELESS_VERSIONS = ("2026-07-28",)
RESUMING_VERSIONS = ("2025-11-25",)
"""Those whose clients go on with an answer at an event that says nothing. Before them that was a broken one."""
SERVER = {"name": "chatcluster", "title": "chatcluster", "version": __version__}

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022
STATUSES = {METHOD_NOT_FOUND: 404, INTERNAL_ERROR: 500}
"""The status of errors in the stateless era. All else is 400."""

_META = "io.modelcontextprotocol/"
_NULL = b"null"

RequestId = str | int | float


class McpError(Exception):
    """What is answered with a JSON-RPC error. ``request_id`` is None where the request did not say, or is none."""

    def __init__(
        self, code: int, message: str, *, request_id: RequestId | None = None, status: int = 400, data: Any = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id
        self.status = status
        self.data = data


class Meta(msgspec.Struct, frozen=True):
    version: str | None = msgspec.field(name=_META + "protocolVersion", default=None)
    capabilities: msgspec.Raw = msgspec.field(name=_META + "clientCapabilities", default=msgspec.Raw())
    progress_token: str | int | None = msgspec.field(name="progressToken", default=None)


class Params(msgspec.Struct, frozen=True):
    """Parameters of all methods, in one type. What is large is left as it is, and read where its form is known."""

    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw()
    version: str | None = msgspec.field(name="protocolVersion", default=None)
    meta: Meta = msgspec.field(name="_meta", default=Meta())


class _Identified(msgspec.Struct, frozen=True):
    id: RequestId | UnsetType = UNSET


class _Message(_Identified, frozen=True, kw_only=True):
    jsonrpc: Literal["2.0"]
    method: str
    params: Params | None = None


class Asked(NamedTuple):
    """A message of a client. Without an ``id`` it is a notification, which nobody answers."""

    id: RequestId | None
    method: str
    params: Params
    is_stateless: bool
    resumes: bool = False
    """Whether the client goes on with an answer that breaks off."""

    def refusal(self, code: int, message: str, **more: Any) -> McpError:
        status = STATUSES.get(code, 400) if self.is_stateless else 200
        return McpError(code, message, request_id=self.id, status=status, **more)


def parse(body: bytes, headers: Mapping[str, str]) -> Asked:
    """Raises ``McpError``."""
    version = headers.get("mcp-protocol-version")
    if version is not None and version not in (*HANDSHAKE_VERSIONS, *STATELESS_VERSIONS):
        known = [*STATELESS_VERSIONS, *HANDSHAKE_VERSIONS]
        data = {"supported": known, "requested": version[:80]}
        raise McpError(UNSUPPORTED_VERSION, "Unsupported protocol version", request_id=_id_in(body), data=data)
    message = _decoded(body)
    found = None if message.id is UNSET else message.id
    params = message.params or Params()
    asked = Asked(found, message.method, params, version in STATELESS_VERSIONS, version in RESUMING_VERSIONS)
    if asked.is_stateless and asked.id is not None:
        _check_envelope(asked, headers)
    return asked


def _decoded(body: bytes) -> _Message:
    try:
        return msgspec.json.decode(bounded(body), type=_Message)
    except msgspec.ValidationError as error:
        why = f"Send one JSON-RPC request or notification: {str(error)[:200]}"
        raise McpError(INVALID_REQUEST, why, request_id=_id_in(body)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise McpError(PARSE_ERROR, f"Parse error: {str(error)[:200]}") from None


def _id_in(body: bytes) -> RequestId | None:
    """The ID of a request that is none, or of another version."""
    try:
        found = msgspec.json.decode(body, type=_Identified).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if found is UNSET else found


def _check_envelope(asked: Asked, headers: Mapping[str, str]) -> None:
    meta = asked.params.meta
    if meta.version is None or not bytes(meta.capabilities):
        raise asked.refusal(
            INVALID_PARAMS, f"params._meta has to have {_META}protocolVersion and {_META}clientCapabilities"
        )
    said = {
        "mcp-protocol-version": (headers.get("mcp-protocol-version"), meta.version),
        "mcp-method": (headers.get("mcp-method"), asked.method),
    }
    if asked.method == "tools/call" and asked.params.name is not None:
        said["mcp-name"] = (_header_value(headers.get("mcp-name")), asked.params.name)
    for name, (header, value) in said.items():
        if header is None or header != value:
            raise asked.refusal(HEADER_MISMATCH, f"The header {name} does not say what the body says")


def _header_value(text: str | None) -> str | None:
    """A header's value, which may be encoded as ``=?base64?…?=``; None for what cannot be read."""
    if text is None or not (text.startswith("=?base64?") and text.endswith("?=")):
        return text
    try:
        return b64decode(text[9:-2], validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def arguments_of(asked: Asked, kind: type[A]) -> A:
    """The arguments of a call of a tool. A null is as good as nothing: models send it for what they leave away.

    Raises ``InvalidRequest``, which says what is wrong."""
    raw = bytes(asked.params.arguments)
    given = decode(raw, dict[str, msgspec.Raw]) if raw and raw != _NULL else {}
    named = {name: value for name, value in given.items() if bytes(value) != _NULL}
    return decode(msgspec.json.encode(named), kind)


# --- out --------------------------------------------------------------------------------------


def result(asked: Asked, said: Mapping[str, Any], *, cached_seconds: float | None = None) -> bytes:
    """``cached_seconds``: how long the client may keep it, for what may be kept."""
    whole = dict(said)
    if asked.is_stateless:
        whole["resultType"] = "complete"
        whole["_meta"] = {_META + "serverInfo": SERVER}
        if cached_seconds is not None:
            whole |= {"ttlMs": int(1000 * cached_seconds), "cacheScope": "private"}
    return encode({"jsonrpc": "2.0", "id": asked.id, "result": whole})


def error(code: int, message: str, *, request_id: RequestId | None = None, data: Any = None) -> dict[str, Any]:
    said = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": request_id, "error": said}


def progress(asked: Asked, seconds: float, total_seconds: float, message: str) -> bytes:
    params = {
        "progressToken": asked.params.meta.progress_token,
        "progress": round(seconds, 1),
        "total": round(total_seconds, 1),
        "message": message,
    }
    return encode({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def initialized(asked: Asked, instructions: str) -> dict[str, Any]:
    """The answer to ``initialize``: the version that was asked for, or the newest of those that begin so."""
    wanted = asked.params.version
    version = wanted if wanted in HANDSHAKE_VERSIONS else HANDSHAKE_VERSIONS[-1]
    return {
        "protocolVersion": version,
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": SERVER,
        "instructions": instructions,
    }


def discovered(instructions: str) -> dict[str, Any]:
    """The answer to ``server/discover``."""
    return {
        "supportedVersions": list(STATELESS_VERSIONS),
        "capabilities": {"tools": {"listChanged": False}},
        "instructions": instructions,
    }
