"""What an attempt costs: nothing counts twice, nothing unknown is 0, and no number of a provider is trusted."""

from __future__ import annotations

import pytest

from chatcluster.usage import (
    TOKENS_MAX,
    Bill,
    Prices,
    Spent,
    SpentOutcome,
    Usage,
    bill_of,
    cost_micros,
    counts_of,
)

DOLLARS = Prices(input=3_000_000, cached_input=300_000, cache_write=3_750_000, output=15_000_000)


@pytest.mark.parametrize(
    ("usage", "prices", "micros"),
    [
        pytest.param(Usage(1000, 100), DOLLARS, 3000 + 1500, id="input and output"),
        pytest.param(Usage(1000, 100, 90), DOLLARS, 4500, id="what is reasoned is part of the output"),
        pytest.param(
            Usage(1000, 0, None, 600, 100), DOLLARS, 300 * 3 + 180 + 375, id="what is cached and written, of the input"
        ),
        pytest.param(Usage(1, 0), Prices(input=1, output=1), 1, id="rounded up"),
        pytest.param(Usage(0, 0), DOLLARS, 0, id="nothing costs nothing"),
        pytest.param(Usage(10, 10), Prices(input=0, output=0), 0, id="free"),
        pytest.param(Usage(10, 10), Prices(), None, id="without prices"),
        pytest.param(Usage(10, 10), Prices(input=5), None, id="without a price of what there is"),
        pytest.param(Usage(10, 0), Prices(input=1_000_000), 10, id="without a price of what there is not"),
        pytest.param(Usage(), DOLLARS, None, id="nothing was reported"),
        pytest.param(Usage(10, None, None, 10), Prices(input=1_000_000), 10, id="cached without a price of its own"),
        pytest.param(Usage(10, None, None, 99), DOLLARS, 3, id="more cached than there is"),
        pytest.param(
            Usage(1000, 0, searches=3), Prices(input=1_000_000, search=10_000_000), 1000 + 30_000, id="searches"
        ),
        pytest.param(Usage(0, 0, searches=1), Prices(input=1, search=1), 1, id="a search is rounded up"),
        pytest.param(Usage(1000, 0, searches=3), Prices(input=1_000_000), 1000, id="searches without a price"),
        pytest.param(Usage(-5, 1), DOLLARS, 15, id="less than nothing"),
        pytest.param(Usage(2**63 - 1, 2**63 - 1), DOLLARS, 18 * TOKENS_MAX, id="beyond reason"),
    ],
)
def test_the_cost_of_an_attempt(usage: Usage, prices: Prices, micros: int | None) -> None:
    assert cost_micros(usage, prices) == micros


def test_counts_are_kept_within_what_sums_can_hold() -> None:
    counts = counts_of(Usage(2**63 - 1, -1))
    assert (counts["input_tokens"], counts["output_tokens"], counts["reasoning_tokens"]) == (TOKENS_MAX, 0, None)


def test_a_bill_tells_how_much_of_it_is_of_unknown_cost() -> None:
    known = Spent(1, 1, 1, SpentOutcome.COMMITTED, input_tokens=10, output_tokens=5, cost_micros=7)
    unknown = Spent(1, 2, 1, SpentOutcome.LOST)
    assert bill_of([known, unknown]) == Bill(2, input_tokens=10, output_tokens=5, cost_micros=7, unpriced=1)
    assert bill_of([unknown]).cost_micros is None
