"""The API as a careful client uses it: a write is repeated under one idempotency key until it is answered."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import msgspec
import trio

from chaos.stream import ANSWER_SECONDS_MAX, EventStream, SocketOption, open_stream

WRITE_SECONDS_MAX = 60.0
RETRY_SECONDS = (0.02, 0.2)
NOT_FOUND = 404
TOO_MANY = 429
RETRY_STATUSES = frozenset({429, 502, 503, 504})

Json = dict[str, Any]


class NotFound(RuntimeError):
    """There is no such thing, or none of this user."""


class Answer(NamedTuple):
    """``status`` is None when nobody answered in time, and it is unknown what was done.

    A refusal after a try without an answer leaves that unknown as well: that try may have been done, or, by a
    replica that was frozen, may yet be. A success does not: all tries have one idempotency key.
    """

    status: int | None
    body: Json
    tries: int

    @property
    def code(self) -> str:
        return str(self.body.get("error", {}).get("code", ""))


@dataclass(eq=False)
class Request:
    """A write under way. ``answered`` is when it was, None before."""

    path: str
    answered: float | None = None


class Api:
    """One user's access to a cluster, or with another ``base_url`` to one of its replicas."""

    def __init__(
        self, base_url: str, token: str, draw: random.Random, *, socket_options: Sequence[SocketOption] = ()
    ) -> None:
        self.base_url = base_url
        self.unanswered: set[Request] = set()
        """Writes that wait for an answer."""
        self.errors: Counter[str] = Counter()
        """What requests got in the place of an answer, before they were repeated: 5xx, or no answer at all."""
        self._token = token
        self._socket_options = socket_options
        self._draw = draw
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(ANSWER_SECONDS_MAX),
            transport=httpx.AsyncHTTPTransport(
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=50),
                trust_env=False,
            ),
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def write(self, method: str, path: str, body: Json | None = None) -> Answer:
        """Ask until there is an answer, for at most ``WRITE_SECONDS_MAX``."""
        key = uuid4().hex  # not by the seed: a cluster that was tried with it before knows the keys
        request = Request(path)
        self.unanswered.add(request)
        try:
            answer = await self._ask(method, path, json=body, headers={"Idempotency-Key": key})
        finally:
            self.unanswered.discard(request)
        request.answered = trio.current_time()
        return answer

    async def read(self, path: str, **query: str | int) -> Json:
        """Raises ``NotFound``, and ``RuntimeError`` when there is no answer or another refusal."""
        answer = await self._ask("GET", path, params=query)
        if answer.status is None:
            raise RuntimeError(f"GET {self.base_url}/api/v1{path}: no answer in {WRITE_SECONDS_MAX:.0f} s")
        if answer.status != 200:
            refused = NotFound if answer.status == NOT_FOUND else RuntimeError
            raise refused(f"GET {path}: {answer.status} {answer.body}")
        return answer.body

    async def history(self, chat: str) -> tuple[list[Json], list[Json]]:
        """All messages of a chat, and its queue."""
        messages: list[Json] = []
        while True:
            after = messages[-1]["id"] if messages else 0
            page = await self.read(f"/chats/{chat}/messages", after=after, limit=500)
            messages += page["messages"]
            if not page["has_more"]:
                return messages, page["queue"]

    def stream(self, base_url: str, chat: str, cursor: str) -> AbstractAsyncContextManager[EventStream]:
        """The chat's events, from any replica. Raises ``BrokenOff``."""
        return open_stream(base_url, chat, self._token, cursor, self._socket_options)

    async def _ask(self, method: str, path: str, **options: Any) -> Answer:
        tries, in_doubt = 0, False
        with trio.move_on_after(WRITE_SECONDS_MAX):
            while True:
                tries += 1
                try:
                    response = await self._http.request(method, f"{self.base_url}/api/v1{path}", **options)
                except httpx.TransportError as error:
                    in_doubt |= not isinstance(error, httpx.ConnectError)
                    self.errors[type(error).__name__] += 1
                    await trio.sleep(self._draw.uniform(*RETRY_SECONDS))
                    continue
                if response.status_code >= 500:
                    self.errors[str(response.status_code)] += 1
                if response.status_code not in RETRY_STATUSES:
                    refused = response.status_code >= 400
                    return Answer(None if refused and in_doubt else response.status_code, _decoded(response), tries)
                in_doubt |= response.status_code != TOO_MANY
                await trio.sleep(self._draw.uniform(*RETRY_SECONDS))
        return Answer(None, {}, tries)


def _decoded(response: httpx.Response) -> Json:
    try:
        decoded: Json = msgspec.json.decode(response.content or b"{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return {"error": {"code": "not_json", "message": response.text[:200]}}
    return decoded
