"""The name of an approval that a door asks its client for. Pure."""

from __future__ import annotations

from typing import NamedTuple


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
