"""Which models there are, as this replica knows it: read from the database, and kept for the requests of its chats.

Who is authoritative: the rows. They are read when the replica begins, when a change is announced, and every
``POLL_SECONDS`` besides; so a change works on each replica at once, and where its announcement is lost within those
seconds, without a restart.

What happens on failure: while the database cannot be reached, what is known is used on. Before anything is known, a
request waits for the first read, within a bound.
"""

from __future__ import annotations

import trio

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable
from chatcluster.models import Catalogue
from chatcluster.ports import MODELS_CHANNEL, Models, PubSub
from chatcluster.pubsub import read_again

POLL_SECONDS = 5.0
FIRST_READ_SECONDS_MAX = 5.0


class ModelDirectory:
    """``run`` keeps it up to date."""

    def __init__(self, models: Models, *, is_needed: bool = False) -> None:
        self._models = models
        self._is_needed = is_needed
        """The settings have no provider, so that people are told once where there is none at all."""
        self._catalogue: Catalogue | None = None
        self._known = trio.Event()

    def __repr__(self) -> str:
        return f"<ModelDirectory {self._catalogue}>"

    @property
    def known(self) -> Catalogue | None:
        """The models as they are known; None before the first read."""
        return self._catalogue

    async def catalogue(self) -> Catalogue:
        """The models as they are known. Raises ``StoreUnavailable`` if they could not be read yet."""
        if self._catalogue is None:
            with trio.move_on_after(FIRST_READ_SECONDS_MAX):
                await self._known.wait()
        if self._catalogue is None:
            raise StoreUnavailable("it is not known yet which models there are")
        return self._catalogue

    async def run(self, pubsub: PubSub) -> None:
        """Read, and read again. Runs until cancelled."""
        await read_again(pubsub, MODELS_CHANNEL, POLL_SECONDS, self._read)

    async def _read(self) -> None:
        try:
            self._catalogue = await self._models.catalogue()
        except StoreUnavailable as error:
            telemetry.event("models.unknown", error=str(error))
            return
        self._known.set()
        if self._is_needed and self._catalogue.is_empty:
            self._is_needed = False
            telemetry.event("models.none", hint="chatcluster provider add, or --llm-base-url")
