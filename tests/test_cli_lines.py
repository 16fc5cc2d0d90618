"""What `chatcluster chat` tells of agents: a line each, and nothing of what is no work of theirs."""

from __future__ import annotations

import pytest

from chatcluster.agents import SPAWN, WAIT
from chatcluster.cli.lines import agent_line


@pytest.mark.parametrize(
    ("tool", "text", "line"),
    [
        (SPAWN, '{"chat_id": "7", "title": "Birds", "status": "running"}', "agent 'Birds' began"),
        (WAIT, '{"title": "Birds", "report": "Four\\nbirds."}', "agent 'Birds' has finished: Four birds."),
        (WAIT, '[it was run again]\n{"title": "Birds", "report": ""}', "agent 'Birds' has finished"),
        (
            WAIT,
            '{"title": "B", "error": "The model is away.", "report": "x"}',
            "agent 'B' has finished: The model is away.",
        ),
        (WAIT, '{"title": "B", "timed_out": true, "report": "Two."}', "agent 'B' is still at work: Two."),
        (WAIT, '{"error": "This chat has no agent 7."}', ""),
        (WAIT, '{"title": "cut', ""),
        (WAIT, "[1]", ""),
        ("search", '{"title": "Birds"}', ""),
    ],
)
def test_the_work_of_agents_is_told_in_a_line_each(tool: str, text: str, line: str) -> None:
    assert agent_line(tool, text) == line
