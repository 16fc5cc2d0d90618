"""How much the model takes: by its row, by the settings where there are no rows, or unknown."""

from __future__ import annotations

import pytest

from chatcluster.config import Settings
from chatcluster.llm.windows import catalogue_tool_limits, catalogue_windows
from chatcluster.models import Catalogue, Kind, ModelEntry, ModelOptions, Provider
from chatcluster.ports import Window

SETTINGS = Settings.of(llm_context_tokens=8000, compaction_percent=50)
PROVIDER = Provider(name="p", kind="openai", base_url="http://localhost/v1")  # type: ignore[arg-type]


def model(name: str, tokens: int | None, **fields: object) -> ModelEntry:
    return ModelEntry(name=name, provider="p", provider_model=name, context_tokens=tokens, **fields)  # type: ignore[arg-type]


def catalogue(*models: ModelEntry) -> Catalogue:
    return Catalogue({"p": PROVIDER}, {entry.name: entry for entry in models})


def test_the_row_of_the_model_that_is_asked_says_it() -> None:
    known = catalogue(model("small", 4000, output_tokens_max=1000), model("large", 100_000, is_default=True))
    windows = catalogue_windows(lambda: known, SETTINGS)
    assert windows("small", 0) == Window(4000, 1000, 70)
    assert windows(None, 0) == Window(100_000, 32_000, 70)


def test_after_failures_it_is_that_of_the_model_which_takes_over() -> None:
    known = catalogue(model("one", 4000, fallbacks=("two",), failover_after=1), model("two", 8000))
    windows = catalogue_windows(lambda: known, SETTINGS)
    assert [window and window.context_tokens for window in (windows("one", 0), windows("one", 1))] == [4000, 8000]


@pytest.mark.parametrize("known", [None, catalogue()])
def test_where_there_are_no_rows_the_settings_say_it(known: Catalogue | None) -> None:
    known = known if known is None else Catalogue({}, {})
    assert catalogue_windows(lambda: known, SETTINGS)("any", 0) == Window(8000, 1000, 50)
    assert catalogue_windows(lambda: known, Settings())("any", 0) is None


def test_a_row_that_does_not_say_it_is_of_a_model_of_which_it_is_unknown() -> None:
    assert catalogue_windows(lambda: catalogue(model("one", None)), SETTINGS)("one", 0) is None


def test_a_prompt_has_what_the_answer_leaves_and_half_at_least() -> None:
    assert (Window(1000, 100).limit_tokens, Window(1000, 100).threshold_tokens) == (900, 700)
    assert (Window(1000, 32_000).limit_tokens, Window(1000, 32_000).threshold_tokens) == (500, 450)


def test_how_many_tools_are_offered_is_a_matter_of_the_wire_of_the_model_that_is_asked() -> None:
    messages = Provider(name="m", kind="anthropic", base_url="http://localhost")  # type: ignore[arg-type]
    other = ModelEntry(name="two", provider="m", provider_model="two")
    entries = {"one": model("one", None, fallbacks=("two",), failover_after=1, is_default=True), "two": other}
    limits = catalogue_tool_limits(lambda: Catalogue({"p": PROVIDER, "m": messages}, entries), SETTINGS)
    assert [limits("one", 0), limits(None, 0), limits("one", 1), limits("two", 0)] == [128, 128, None, None]
    assert catalogue_tool_limits(lambda: None, Settings.of(llm_kind="openai-responses"))("any", 0) == 128
    assert catalogue_tool_limits(lambda: catalogue(), Settings.of(llm_kind="anthropic"))("any", 0) is None


@pytest.mark.parametrize(("kind", "limit"), [("openai", 128), ("openai-responses", 127), ("anthropic", None)])
def test_the_search_of_the_server_itself_is_one_of_the_tools_where_it_is_a_tool(kind: str, limit: int | None) -> None:
    provider = Provider(name="p", kind=Kind(kind), base_url="http://localhost/v1")
    searching = model("one", None, options=ModelOptions(web_search={}), is_default=True)
    limits = catalogue_tool_limits(lambda: Catalogue({"p": provider}, {"one": searching}), SETTINGS)
    assert limits("one", 0) == limit
