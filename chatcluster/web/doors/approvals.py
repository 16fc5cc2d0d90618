"""The names of what a door asks its client for: approvals, and answers to questions. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

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
