"""Where a request goes: to a model of the catalogue, or where there is none, to the server of the settings.

The request names a model, and says how many failures of its step count so far: after ``failover_after`` of them the
next of the model's fall-backs is asked, and so on, up to the last. So each of them has its ``Stint``. Each key is
decrypted when it is needed, and kept nowhere.

What happens on failure: everything here is a ``ProviderError`` of the one chat that asked: a key that cannot be
decrypted, a catalogue that is not known yet, no model that can be asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chatcluster.config import Settings
from chatcluster.errors import ProviderError, SecretUnreadable
from chatcluster.llm.addresses import secrets_in
from chatcluster.llm.failures import Provider as Server
from chatcluster.llm.wire import Route
from chatcluster.llm.wires import Routing, settings_routing
from chatcluster.models import NO_KEY, Candidate, Catalogue, Continuation, place_of_key
from chatcluster.ports import ModelRequest, Stint, Stints


class Opening(Protocol):
    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises ``SecretUnreadable``."""
        ...


def catalogue_routing(known: Callable[[], Catalogue | None], keys: Opening, settings: Settings) -> Routing:
    """``known`` is the catalogue as this replica knows it, None before it was read."""
    of_settings = settings_routing(settings)

    def route(request: ModelRequest) -> Route:
        catalogue = known()
        if catalogue is None:
            raise ProviderError("it is not known yet which models there are", kind="generic", retryable=True)
        if catalogue.is_empty:
            return of_settings(request)
        candidates = catalogue.candidates(request.model)
        if not candidates:
            raise ProviderError("no model can be asked: add one, or enable one (chatcluster model add)", kind="config")
        return _route(candidate_of(candidates, request.failures), keys, is_kept=not request.is_aside)

    return route


def candidate_of(candidates: list[Candidate], failures: int) -> Candidate:
    """The one that is asked after so many failures of the step."""
    return candidates[_place_of(candidates, failures)]


def catalogue_stints(known: Callable[[], Catalogue | None]) -> Stints:
    """``known`` as for ``catalogue_routing``."""

    def stint(model: str | None, failures: int) -> Stint:
        catalogue = known()
        candidates = [] if catalogue is None else catalogue.candidates(model)
        if not candidates:
            return Stint()
        place, length = _place_of(candidates, failures), candidates[0].model.failover_after
        model = candidates[place].model.name
        if place + 1 == len(candidates):
            return Stint(place * length, model=model)
        return Stint(place * length, (place + 1) * length, candidates[place + 1].model.name, model)

    return stint


def _place_of(candidates: list[Candidate], failures: int) -> int:
    return min(failures // candidates[0].model.failover_after, len(candidates) - 1)


def _route(candidate: Candidate, keys: Opening, *, is_kept: bool) -> Route:
    """``is_kept``: its provider may go on with the answer while nobody listens, as its next owner will."""
    provider, model = candidate.provider, candidate.model
    key = NO_KEY
    if provider.sealed is not None:
        try:
            key = keys.open(provider.sealed, place_of_key(provider.name)).decode()
        except SecretUnreadable:
            text = f"the key of {provider.name} cannot be decrypted: look at encryption-keys, or set it again"
            raise ProviderError(text, kind="missing_key", provider=provider.name) from None
    return Route(
        kind=provider.kind,
        server=Server(provider.name, (key, *secrets_in(provider.base_url))),
        base_url=provider.base_url,
        api_key=key,
        model=model.provider_model,
        name=model.name,
        prices=model.prices,
        options=model.options,
        output_tokens_max=model.answer_tokens_max,
        include_usage=provider.options.include_usage,
        in_background=is_kept and model.continuation is Continuation.BACKGROUND,
        goes_on_from_words=model.continuation is Continuation.PREFIX,
    )
