"""Calls that are no command and take a while: what is done on the screen, and the tools of MCP servers."""

from __future__ import annotations

import trio


class Action:
    """One, while it is carried out. ``reason`` says why it was ended, if it was."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.reason: str | None = None

    async def wait_beyond(self, _offset: int) -> None:
        """Until it has ended: it has no output before."""
        await self.ended.wait()

    async def end(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.scope.cancel()
        await self.ended.wait()
