"""The commands for providers and models: what they make of their flags."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from click.testing import CliRunner

from chatcluster.cli import model_commands


def test_options_of_a_model_that_are_known_are_its_own_and_all_others_go_into_its_requests() -> None:
    texts = ("prefix=prefix", "temperature=0.5", "input=text,image", "top_k=3", 'extra_body={"top_p": 1}')
    assert model_commands._options(texts) == {
        "prefix": "prefix",
        "temperature": 0.5,
        "input": ["text", "image"],
        "extra_body": {"top_k": 3, "top_p": 1},
    }
    assert model_commands._options(("top_k=3",)) == {"extra_body": {"top_k": 3}}
    assert model_commands._options(("web_search=true",)) == {"web_search": {}}
    assert model_commands._options(("web_search=false", "top_p=1")) == {"extra_body": {"top_p": 1}}
    assert model_commands._options(('web_search={"max_uses": 3}',)) == {"web_search": {"max_uses": 3}}


class Desk:
    """An administrator's client, and what it was given."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    async def change_model(self, name: str, **fields: Any) -> dict[str, Any]:
        self.given = fields
        return {"fallbacks": fields.get("fallbacks", [])}

    async def change_provider(self, name: str, **fields: Any) -> None:
        self.given = fields

    async def models(self) -> list[dict[str, Any]]:
        return [{"name": "small"}]


@pytest.mark.parametrize(
    ("command", "given", "told"),
    [
        ("model set large --without fallbacks --without context-tokens", {"fallbacks": [], "context_tokens": None}, ""),
        ("model set large --without options --option top_p=1", {"options": {"extra_body": {"top_p": 1}}}, ""),
        ("model set large --fallback small --fallback smal", {"fallbacks": ["small", "smal"]}, "no model smal yet"),
        ("provider set cloud --no-usage", {"options": {"include_usage": False}}, ""),
        ("provider set cloud --usage --disable", {"options": {"include_usage": True}, "enabled": False}, ""),
    ],
)
def test_what_was_set_of_models_can_be_taken_away_and_a_fallback_that_is_none_is_said(
    command: str, given: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    monkeypatch.setattr(model_commands, "_run", lambda _server, act: trio.run(act, desk))
    group, *arguments = command.split()
    result = CliRunner().invoke(getattr(model_commands, group), arguments)
    assert result.exit_code == 0, result.output
    assert desk.given == given
    assert told in result.output
