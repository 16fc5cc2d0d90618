"""What attempts at the model cost: counts of tokens, prices, and what is booked of them. Pure.

An **attempt** that cost something, or may have, is booked once, with what its provider said of it: by the owner's
commit that ends it, or, where the owner died with it, by the burial that frees the chat. What is booked is never
changed, and stays when its message, or its chat, is gone. A **bill** is the sum of some of it.

An attempt is named by its chat, the version of the history that it answered, and its number among the attempts at that
version. So it is in the books once, even if several replicas book it. A title answers no history: its version is 0, its
number that of the try.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import msgspec

TOKENS_MAX = 2**40
COST_MICROS_MAX = 2**52
"""What a provider says is its own affair; sums of it have to be numbers all the same, in whatever reads them."""
PER_PRICE = 1_000_000
"""Prices are for so many tokens,"""
SEARCHES_PER_PRICE = 1000
"""or for so many searches."""
TITLE_VERSION = 0

Count = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Larger numbers can be read, but not written again."""
Micros = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
"""Millionths of the deployment's currency."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Token counts as the provider reported them; None where it did not."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    """Tokens of the output that are not shown as text."""
    cached_input_tokens: Count | None = None
    """Tokens of the input that were read from the provider's cache."""
    cache_write_tokens: Count | None = None
    """Tokens of the input that were written to it."""
    searches: Count | None = None
    """How often the provider searched the web. None: not at all."""


NO_USAGE = Usage()


def added(before: Usage | None, more: Usage | None) -> Usage | None:
    """What both cost together; None where nobody said."""
    if before is None or more is None:
        return before or more
    names = Usage.__struct_fields__
    counts = {name: (getattr(before, name), getattr(more, name)) for name in names}
    return Usage(**{n: None if a is None and b is None else (a or 0) + (b or 0) for n, (a, b) in counts.items()})


def grown(before: Usage | None, more: Usage | None) -> Usage | None:
    """What is known of one answer that was told of twice: counts only grow, and some servers end with zeros, or leave
    out what they had said."""
    if before is None or more is None:
        return before or more
    pairs = ((getattr(before, name), getattr(more, name)) for name in Usage.__struct_fields__)
    return Usage(*(max((count for count in pair if count is not None), default=None) for pair in pairs))


class Prices(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """In micros per million tokens, or thousand searches. None: unknown; 0: free. Cached and written input costs what
    other input does where it has no price of its own; searches without a price are in no cost."""

    input: Micros | None = None
    cached_input: Micros | None = None
    cache_write: Micros | None = None
    output: Micros | None = None
    search: Micros | None = None


class SpentOutcome(StrEnum):
    """What became of an attempt."""

    COMMITTED = "committed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """The attempt was interrupted by its user, by an edit, or by a replica that had to leave."""
    LOST = "lost"
    """The attempt was under way when its owner died: what it cost is not known."""
    COMPACTION = "compaction"
    TITLE = "title"


class Spent(msgspec.Struct, frozen=True):
    """An attempt as it is booked. ``cost_micros``: None if it is not known."""

    history_version: int
    attempt: int
    epoch: int
    outcome: SpentOutcome
    model: str | None = None
    provider: str | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    searches: int | None = None
    cost_micros: int | None = None


class Bill(msgspec.Struct, frozen=True):
    """A sum. ``cost_micros`` is None if of nothing the cost is known; ``unpriced`` counts those of unknown cost."""

    attempts: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_micros: int | None = None
    unpriced: int = 0
    searches: int = 0

    @property
    def tokens(self) -> int:
        """The tokens that limits count."""
        return self.input_tokens + self.output_tokens


COUNTED = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "searches",
)


def bill_of(spent: Iterable[Spent]) -> Bill:
    every = tuple(spent)
    known = [one.cost_micros for one in every if one.cost_micros is not None]
    sums = {kind: sum(getattr(one, kind) or 0 for one in every) for kind in COUNTED}
    return Bill(len(every), **sums, cost_micros=sum(known) if known else None, unpriced=len(every) - len(known))


def counts_of(usage: Usage) -> dict[str, int | None]:
    """The counts by kind, each within reason."""
    return {kind: _within(getattr(usage, kind), TOKENS_MAX) for kind in COUNTED}


def cost_micros(usage: Usage, prices: Prices) -> int | None:
    """Rounded up; None where the provider reported nothing, or something that has no price.

    What is cached or written is part of the input, and what is reasoned part of the output: nothing counts twice.
    """
    if (usage.input_tokens, usage.output_tokens) == (None, None) or prices == Prices():
        return None
    counts = {kind: count or 0 for kind, count in counts_of(usage).items()}
    cached = min(counts["cached_input_tokens"], counts["input_tokens"])
    written = min(counts["cache_write_tokens"], counts["input_tokens"] - cached)
    kinds = (
        (counts["input_tokens"] - cached - written, prices.input),
        (cached, prices.input if prices.cached_input is None else prices.cached_input),
        (written, prices.input if prices.cache_write is None else prices.cache_write),
        (counts["output_tokens"], prices.output),
    )
    if any(tokens and price is None for tokens, price in kinds):
        return None
    searched = counts["searches"] * (PER_PRICE // SEARCHES_PER_PRICE) * (prices.search or 0)
    total = searched + sum(tokens * (price or 0) for tokens, price in kinds)
    return min(-(-total // PER_PRICE), COST_MICROS_MAX)


def _within(count: int | None, most: int) -> int | None:
    return None if count is None else max(0, min(count, most))
