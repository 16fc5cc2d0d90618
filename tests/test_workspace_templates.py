"""Templates: what a ``template.toml`` may say, and which values of parameters are taken."""

from __future__ import annotations

from typing import Any

import pytest

from chatcluster.errors import InvalidRequest
from chatcluster.workspace_templates import (
    ParameterType,
    TemplateLimits,
    TemplateParameter,
    TemplateSettings,
    checked_settings,
    chosen_values,
    parse_template,
)

WHOLE = """
name = "python"
description = "Python, and what tests need"
packages = ["python3", "git"]
startup = "echo ready"
network = ["pypi.org:443", "*.debian.org"]
desktop = true
activity_bump_seconds = 600

[limits]
memory_bytes_max = 268435456

[[parameters]]
name = "branch"
default = "main"
choices = ["main", "next"]
description = "What is checked out"
"""


def test_a_file_says_all_that_there_is_to_say() -> None:
    name, settings = parse_template(WHOLE)
    assert name == "python"
    assert settings.limits == TemplateLimits(memory_bytes_max=256 << 20)
    assert settings.parameters[0].choices == ("main", "next")
    assert (settings.desktop, settings.activity_bump_seconds, settings.idle_stop_seconds) == (True, 600, 3600)
    assert settings.environment_names == {"branch": "WORKSPACE_BRANCH"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "no TOML"),
        ("desktop = true", "its name"),
        ('name = "A"', "a-z"),
        ('name = "a"\nnetwrok = []', "netwrok"),
        ('name = "a"\ndesktop = "yes"', "desktop"),
        ('name = "a"\nnetwork = ["http://x"]', "network"),
        ('name = "a"\npackages = ["rm -rf"]', "packages"),
        ('name = "a"\nbase = ""', "base"),
        ('name = "a"\n[limits]\nmemory_bytes_max = 1', "memory_bytes_max"),
        ('name = "a"\n[[parameters]]\nname = "a b"', "a b"),
        ('name = "a"\n[[parameters]]\nname = "x"\n[[parameters]]\nname = "x"', "same name"),
        ('name = "a"\n[[parameters]]\nname = "x"\ntype = "integer"\ndefault = true', "integer"),
        ('name = "a"\n[[parameters]]\nname = "x"\ndefault = "c"\nchoices = ["a", "b"]', "choices"),
        ('name = "a"\n[[parameters]]\nname = "x"\ntype = "number"\ndefault = nan', "no number"),
        ('name = "a"\n[[parameters]]\nname = "x"\ntype = "number"\nchoices = [inf]', "no number"),
        (f'name = "a"\nidle_stop_seconds = {"1" * 5000}', "no TOML"),
        (f'name = "a"\nnetwork = {"[" * 5000}', "nested too deeply"),
        (f'name = "a"\n[[parameters]]\nname = "x"\ndescription = "{"x" * 301}"', "description"),
    ],
)
def test_a_file_that_is_wrong_says_where(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        parse_template(text)


def test_a_script_that_is_too_long_for_a_row_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="startup"):
        checked_settings(TemplateSettings(startup="x" * (64 << 10) + "x"))


PARAMETERS = TemplateSettings(
    parameters=(
        TemplateParameter(name="text", default="a"),
        TemplateParameter(name="count", type=ParameterType.INTEGER, choices=(1, 2)),
        TemplateParameter(name="share", type=ParameterType.NUMBER, default=0.5),
        TemplateParameter(name="fast", type=ParameterType.BOOLEAN, default=False),
    )
)


def test_values_are_those_given_and_defaults_for_the_rest() -> None:
    values = chosen_values(PARAMETERS, {"count": 2, "fast": True})
    assert values == {"text": "a", "count": 2, "share": 0.5, "fast": True}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"count": 3},
        {"count": "1"},
        {"count": True},
        {"count": None},
        {"count": 1, "text": 5},
        {"count": 1, "other": 1},
        {"count": 1, "text": "x" * 1001},
        {"count": 1, "text": "\0"},
        {"count": 1, "share": "a"},
    ],
)
def test_a_value_that_is_none_of_its_parameter_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        chosen_values(PARAMETERS, given)
