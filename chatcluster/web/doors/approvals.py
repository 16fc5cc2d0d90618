"""The names of what a door asks its client for, approvals and answers; and where its user signs in. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from chatcluster.sign_ins import server_of

_QUESTIONED = re.compile(r"(.{1,200}?):([0-9a-f]{64}):(.*)", re.DOTALL)


class Approval(NamedTuple):
    """What it is for: a call, with the arguments that were shown."""

    call_id: str
    digest: str

    @property
    def id(self) -> str:
        return f"{self.call_id}:{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Approval:
        call_id, _, digest = text.rpartition(":")
        return cls(call_id, digest)


class SignIn(NamedTuple):
    """What a call waits for that its server did not let in."""

    server: str

    @classmethod
    def of(cls, tool: str) -> SignIn:
        return cls(server_of(tool))

    @property
    def begins_at(self) -> str:
        """A POST there answers with the address that the user's browser has to go to."""
        return f"/api/v1/me/mcp-servers/{self.server}/login"

    def told(self, tool: str) -> dict[str, str]:
        return {"toolName": tool, "server": self.server, "signInAt": self.begins_at}


class Questioned(NamedTuple):
    """A question of the server of a call: one of those that were shown with the digest."""

    call_id: str
    digest: str
    key: str

    @property
    def id(self) -> str:
        return f"{self.call_id}:{self.digest}:{self.key}"

    @classmethod
    def parse(cls, text: str) -> Questioned | None:
        """None for the name of an approval."""
        match = _QUESTIONED.fullmatch(text)
        return None if match is None else cls(match[1], match[2], match[3])
