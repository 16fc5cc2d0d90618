"""The built page: its files, read into memory once, and served from there.

Who is authoritative: the folder, as it was when its ``index.html`` last changed. A path is looked up among the names of
the files that were read, so no path, however it is written, leads to anything else. An address within the page, such as
``/chats/…``, is answered with the index: a GET or HEAD outside the API that takes HTML and has no dot in its last
segment. Everything else goes on to the API, which says that there is nothing.

* A replica may have started before the page was built: while somebody asks for pages, it looks once a second whether
  the index changed, and then reads all files, in a thread. A build writes the index last.
* What is compressible is compressed as it is read; the server does not compress.
* Names under ``assets/`` change with their content, so those are kept for good by browsers. All others are asked for
  anew, and answered with 304 if they are the same.
* A folder that cannot be read, or is too large, leaves what was read before, and the log says so.
* Without a page, the addresses of pages are answered with a few words that say how to get it, and a browser asks again
  by itself: `scripts/run` prints its link before the page is built.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import os
from pathlib import Path
from typing import NamedTuple

import trio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from chatcluster import telemetry

FOLDER = Path(__file__).parent / "static"
INDEX = "index.html"
FILES_BYTES_MAX = 32 << 20
FILES_MAX = 1000
LOOK_SECONDS = 1.0
NOT_PAGES = frozenset({"api", "v1", "schema", "openapi", "oauth", "metrics", "livez", "readyz"})
"""First segments of addresses that are no page's, whether there is something or not."""
NO_PAGE = (
    b"The page is not here yet.\n\n"
    b"scripts/run builds it beside the cluster, and says so if it cannot; this looks again every few seconds.\n"
    b"Otherwise: run site/build.py, or install chatcluster from a wheel. The API is at /api/v1.\n"
)
NO_PAGE_HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"refresh", b"3"),
]
COMPRESSIBLE = ("text/", "application/javascript", "application/json", "application/manifest+json", "image/svg+xml")
GZIP_LEVEL = 9
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".webmanifest": "application/manifest+json"}
"""Whatever the machine's own tables say."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
SECURITY = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
FOR_GOOD, ASK_ANEW = b"public, max-age=31536000, immutable", b"no-cache"

Headers = list[tuple[bytes, bytes]]


class Body(NamedTuple):
    """One form of a file, as it is or compressed."""

    content: bytes
    etag: bytes


class File(NamedTuple):
    media_type: bytes
    cache_control: bytes
    plain: Body
    compressed: Body | None
    """None where that saves nothing."""


class Pages:
    """An ASGI application: the page in front of ``app``, which gets everything that is none of the page's."""

    def __init__(self, app: ASGIApp, folder: Path = FOLDER) -> None:
        self._app = app
        self._folder = folder
        self._files: dict[str, File] = {}
        self._seen: tuple[int, int] | None = None
        """The index that the files were read with."""
        self._look_at = float("-inf")
        self._reading = trio.Lock()

    def __repr__(self) -> str:
        return f"<Pages {len(self._files)} files of {self._folder}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] not in ("GET", "HEAD") or _is_api(scope["path"]):
            await self._app(scope, receive, send)
            return
        await self._refresh()
        file = self._files.get(scope["path"].removeprefix("/") or INDEX)
        if file is None and _is_for_a_page(scope):
            file = self._files.get(INDEX)
            if file is None:
                await _answer(scope, send, 404, NO_PAGE_HEADERS, NO_PAGE)
                return
        if file is None:
            await self._app(scope, receive, send)
            return
        await _serve(scope, send, file)

    async def _refresh(self) -> None:
        """Read the files if they changed since they were looked at."""
        if trio.current_time() < self._look_at:
            return
        async with self._reading:
            if trio.current_time() < self._look_at:
                return
            try:
                seen = _look(self._folder / INDEX)
                if seen != self._seen:
                    self._files = {} if seen is None else await trio.to_thread.run_sync(read_files, self._folder)
                    self._seen = seen
                    telemetry.event("page.read", files=len(self._files))
            except (OSError, ValueError) as error:
                telemetry.event("page.failed", error=str(error))
            self._look_at = trio.current_time() + LOOK_SECONDS


def read_files(folder: Path) -> dict[str, File]:
    """All files of the folder by their paths in it. Raises ``OSError``, and ``ValueError`` if they are too many."""
    files: dict[str, File] = {}
    size = 0
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        size += len(content)
        if size > FILES_BYTES_MAX or len(files) >= FILES_MAX:
            raise ValueError(f"{folder} has more than {FILES_MAX} files, or {FILES_BYTES_MAX} bytes")
        name = path.relative_to(folder).as_posix()
        files[name] = _file(name, content)
    return files


def _file(name: str, content: bytes) -> File:
    media_type = TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    is_compressible = media_type.startswith(COMPRESSIBLE)
    etag = hashlib.sha256(content).hexdigest()[:32].encode()
    compressed = gzip.compress(content, GZIP_LEVEL, mtime=0) if is_compressible else content
    return File(
        media_type=f"{media_type}; charset=utf-8".encode() if is_compressible else media_type.encode(),
        cache_control=FOR_GOOD if name.startswith("assets/") else ASK_ANEW,
        plain=Body(content, b'"%s"' % etag),
        compressed=Body(compressed, b'"%s-gzip"' % etag) if len(compressed) < len(content) else None,
    )


def _look(index: Path) -> tuple[int, int] | None:
    """What changes with the index; None without one."""
    try:
        found = os.stat(index)
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


def _is_api(path: str) -> bool:
    return path[1:].partition("/")[0] in NOT_PAGES


def _is_for_a_page(scope: Scope) -> bool:
    """Whether a person's browser asks for an address within the page."""
    path = scope["path"]
    return path == "/" or ("." not in path.rpartition("/")[2] and "text/html" in _header(scope, b"accept"))


async def _serve(scope: Scope, send: Send, file: File) -> None:
    body = file.compressed if file.compressed is not None and _takes_gzip(scope) else file.plain
    headers = [(b"etag", body.etag), (b"cache-control", file.cache_control), (b"vary", b"accept-encoding"), *SECURITY]
    if body.etag.decode() in _header(scope, b"if-none-match"):
        await _answer(scope, send, 304, headers, b"")
        return
    headers.append((b"content-type", file.media_type))
    if body is file.compressed:
        headers.append((b"content-encoding", b"gzip"))
    await _answer(scope, send, 200, headers, body.content)


async def _answer(scope: Scope, send: Send, status: int, headers: Headers, content: bytes) -> None:
    scope["path_template"] = "page"  # what the request is reported as
    length = [] if status == 304 else [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    body = b"" if scope.get("method") == "HEAD" else content
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _takes_gzip(scope: Scope) -> bool:
    for coding in _header(scope, b"accept-encoding").split(","):
        name, _, weight = coding.replace(" ", "").lower().partition(";q=")
        if name in ("gzip", "*"):
            return weight.rstrip("0.") != "" if weight else True
    return False


def _header(scope: Scope, wanted: bytes) -> str:
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == wanted)
