"""Where a model takes no more than so many tools, the last ones are left out, and their servers are named."""

from __future__ import annotations

from chatcluster.ports import ToolSpec
from chatcluster.tool_offer import notices_of, offer_of


def specs(*names: str) -> tuple[ToolSpec, ...]:
    return tuple(ToolSpec(name, "", {}) for name in names)


def test_what_there_is_room_for_is_offered_and_nothing_said() -> None:
    tools = specs("a", "crm__b")
    assert offer_of(tools, None, ["crm"]) == offer_of(tools, 2, ["crm"]) == (tools, {})


def test_the_last_are_left_out_and_counted_by_their_servers() -> None:
    tools = specs("read_result", "my__own", "crm__a", "crm__b", "mail__a", "mail__b")
    assert offer_of(tools, 3, ["crm", "mail"]) == (tools[:3], {"crm": 1, "mail": 2})
    assert offer_of(tools, 1, ["crm", "mail"]).left_out == {"": 1, "crm": 2, "mail": 2}


def test_a_notice_names_the_server_and_what_to_do() -> None:
    (of_chat, of_crm) = notices_of({"": 1, "crm": 2}, 128)
    assert (of_chat.source, of_crm.source) == (None, "crm")
    assert of_crm.message.startswith("2 tools of crm are left out: the model's server takes 128 tools at most.")
