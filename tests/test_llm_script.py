"""The simulated provider's scripts: an answer and its faults follow from the prompt alone, so that a checker can
tell from the prompt what the history must hold in the end (P1, P3)."""

from __future__ import annotations

import pytest

from chatcluster.llm.simulator import script as script_module
from chatcluster.llm.simulator.script import (
    FAULTS,
    OTHERS,
    WORDS,
    DirectiveError,
    Ending,
    Script,
    expected_text,
    has_times,
    last_paragraph,
    read_script,
)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("hello [[tokens=3]]", "w0 w1 w2 "),
        ("[[tokens=2 word=x]]", "x0 x1 "),
        ("[[tokens=0]]", ""),
        ("[[say=Any text, even = and  two  spaces]]", "Any text, even = and  two  spaces"),
        ("[[tps=5 say=later words are text tokens=1]]", "later words are text tokens=1"),
        ("say this again [[mode=echo tps=9]]", "say this again"),
        ("[[tokens=9]] and [[tokens=1]]", "w0 "),
        ("[[tokens=9]]\n\nanother message [[tokens=1]]", "w0 "),
        ("[[tokens=1 cut_after=0 times=3]]", "w0 "),
        ("[[empty=1]]", ""),
        ("[not a directive] [[nor this]] [[tokens=1]]", "w0 "),
    ],
)
def test_the_answer_follows_from_the_prompt(prompt: str, answer: str) -> None:
    assert expected_text(prompt) == answer


def test_a_seed_draws_the_same_words_each_time() -> None:
    drawn = expected_text("hello [[seed=7 tokens=20]]")
    assert drawn == expected_text("hello [[seed=7 tokens=20]]")
    assert drawn != expected_text("hello [[seed=8 tokens=20]]")
    assert drawn != expected_text("goodbye [[seed=7 tokens=20]]")
    assert len(drawn.split()) == 20


@pytest.mark.parametrize(
    ("attempt", "fails", "ending"), [(1, 500, Ending.CUT), (2, 0, Ending.CUT), (3, 0, Ending.COMPLETE)]
)
def test_times_limits_the_faults_of_its_block_to_the_first_attempts(attempt: int, fails: int, ending: Ending) -> None:
    prompt = "[[fail=500 tokens=9 times=1]] [[cut_after=3 times=2]]"
    script = read_script(prompt, Script(), attempt)
    assert (script.faults.fail, script.faults.ending()[0], script.words.tokens) == (fails, ending, 9)
    assert has_times(prompt)
    assert not has_times("[[fail=500]] times=2")


def test_the_earliest_fault_ends_the_answer() -> None:
    script = read_script("[[cut_after=9 silence_after=4 error_after=7]]", Script())
    assert script.faults.ending() == (Ending.SILENCE, 4)


def test_a_prompt_is_the_last_paragraph() -> None:
    """Clients join adjacent user messages: an order from an earlier one must not be carried out again."""
    assert last_paragraph("[[fail=401]]\n\nplease go on\n") == "please go on"
    assert last_paragraph("") == ""


@pytest.mark.parametrize(
    "prompt",
    [
        "[[token=3]]",
        "[[tokens=many]]",
        "[[tokens=-1]]",
        "[[tokens=99999999]]",
        "[[tps=-1]]",
        "[[tps=nan]]",
        "[[tps=1e-310]]",
        "[[first_ms=1e300]]",
        "[[fail=429 retry_after=\u00e9]]",
        "[[fail=429 retry_after=\x01]]",
        "[[first_ms=inf]]",
        "[[mode=loud]]",
        "[[fail=200]]",
        "[[fail=500 times=often]]",
        "[[tokens=3 and]]",
    ],
)
def test_a_wrong_directive_is_refused(prompt: str) -> None:
    with pytest.raises(DirectiveError):
        read_script(prompt, Script())


def test_every_directive_is_documented() -> None:
    documented = script_module.__doc__ or ""
    for name in (*WORDS, *FAULTS, *OTHERS, "times", "call", "source", "step"):
        assert f"{name}=" in documented or f"``{name}``" in documented or f"{name}=..." in documented, name
