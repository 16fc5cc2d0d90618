"""What an MCP server sends, as what a chat keeps: results and lists of tools, however odd they are."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import mcp_types as types
import pytest

from chatcluster.content import ImagePart, JsonPart, ResourcePart, ResultContent, TextPart
from chatcluster.tools.mcp_results import LIST_BYTES_MAX, ToolListing, TooMuch, called
from chatcluster.tools.mcp_wire import Listed, ListedTool, frame

LIMIT = 10 << 20


def listed_tools(*pages: list[types.Tool]) -> tuple[tuple[ListedTool, ...], int]:
    listing = ToolListing()
    for page in pages:
        listing.take(page)
    return listing.tools, listing.left_out


def content_of(*blocks: types.ContentBlock, structure: Any = None) -> tuple[ResultContent, ...]:
    result = types.CallToolResult(content=list(blocks), structured_content=structure)
    return called(1, result, bytes_max=LIMIT).content


def text(words: str) -> types.TextContent:
    return types.TextContent(type="text", text=words)


def tool(name: str = "read", **fields: Any) -> types.Tool:
    return types.Tool(name=name, **{"input_schema": {"type": "object"}, **fields})


def test_a_structured_result_takes_the_place_of_the_text_that_says_the_same() -> None:
    assert content_of(text('{"a": 1}'), structure={"a": 1}) == (JsonPart('{"a":1}'),)
    assert content_of(text("one"), structure={"a": 1}) == (TextPart("one"), JsonPart('{"a":1}'))


@pytest.mark.parametrize(("words", "value"), [("5", 5), ("five", "five"), ("[1,2]", [1, 2])])
def test_a_plain_value_is_not_said_twice(words: str, value: Any) -> None:
    assert content_of(text(words), structure={"result": value}) == (TextPart(words),)


def test_a_structured_result_is_json_though_it_has_numbers_that_are_none() -> None:
    structure = {"a": float("nan"), "b": [float("inf"), {"c": float("-inf")}, 1.5], "d": 10**30}
    (part,) = content_of(structure=structure)
    assert part == JsonPart('{"a":null,"b":[null,{"c":null},1.5],"d":1000000000000000000000000000000}')


def test_a_result_of_nothing_says_so() -> None:
    assert content_of() == (TextPart("(The tool returned nothing.)"),)


def test_an_image_that_cannot_be_decoded_is_named_and_not_kept() -> None:
    image = types.ImageContent(type="image", data="not base64!", mime_type="image/png")
    assert content_of(image) == (TextPart("[an image that cannot be decoded]"),)


@pytest.mark.parametrize("said", ["AAAA\nAAAA\r\n", "data:image/png;base64,AAAAAAAA", " AAAA AAAA"])
def test_an_image_is_one_in_lines_and_as_an_address_of_a_page(said: str) -> None:
    image = types.ImageContent(type="image", data=said, mime_type="image/png")
    assert content_of(image) == (ImagePart("image/png", "AAAAAAAA"),)


GIF = b64encode(b"GIF89a and so on").decode()


@pytest.mark.parametrize(
    ("media_type", "blob", "shown"),
    [
        ("image/png", "AAAA", ImagePart("image/png", "AAAA")),
        ("application/octet-stream", GIF, ImagePart("image/gif", GIF)),
        (None, b64encode("größe,1\n".encode()).decode(), "größe,1\n"),
        ("application/json", "eyJhIjox\nfQ==", '{"a":1}'),
        ("application/zip", "AAAA", "[3 bytes that are no text: they cannot be shown here]"),
        ("text/plain", "/w==", "[1 bytes that are no text: they cannot be shown here]"),
        ("application/pdf", "no base64!", "[what it has cannot be decoded]"),
    ],
)
def test_what_is_within_a_resource_is_shown_as_what_it_is_or_said_not_to_be(
    media_type: str | None, blob: str, shown: ImagePart | str
) -> None:
    """Else the model is given an address that it can do nothing with, and not told so."""
    resource = types.BlobResourceContents(uri="file:///a", mime_type=media_type, blob=blob)
    expected = ResourcePart("file:///a", media_type=media_type, text=shown) if isinstance(shown, str) else shown
    assert content_of(types.EmbeddedResource(type="resource", resource=resource)) == (expected,)


@pytest.mark.parametrize(
    "result",
    [
        types.CallToolResult(content=[text("x" * 101)]),
        types.CallToolResult(content=[text("x" * 60), text("y" * 60)]),
        types.CallToolResult(content=[], structured_content={"a": "x" * 100}),
    ],
)
def test_a_result_above_its_limit_is_not_taken(result: types.CallToolResult) -> None:
    with pytest.raises(TooMuch):
        called(1, result, bytes_max=100)


def test_a_result_of_very_many_pieces_is_not_taken() -> None:
    with pytest.raises(TooMuch):
        content_of(*[text("x")] * 1001)


def test_tools_that_cannot_be_used_are_left_out_and_counted() -> None:
    odd = [
        tool(""),
        tool("x" * 129),
        tool("nul\0"),
        tool("array", input_schema={"type": "array"}),
        tool("huge", input_schema={"type": "object", "description": "x" * (64 << 10)}),
        tool("read"),
        tool("read", description="Another one."),
    ]
    taken, left_out = listed_tools(odd)
    assert ([found.name for found in taken], left_out) == (["read"], 6)


def test_a_list_of_tools_is_bounded() -> None:
    taken, left_out = listed_tools([tool(f"t{n}", description="x" * 8000) for n in range(100)])
    assert sum(len(found.description) for found in taken) <= LIST_BYTES_MAX
    assert len(taken) + left_out == 100
    taken, left_out = listed_tools([tool(f"t{n}") for n in range(501)], [tool("t7", description="x"), tool("more")])
    assert (len(taken), left_out) == (500, 3)


def test_a_page_that_comes_twice_counts_once() -> None:
    page = [tool("read"), tool("write")]
    taken, left_out = listed_tools(page, page)
    assert ([found.name for found in taken], left_out) == (["read", "write"], 0)


def test_what_postgres_cannot_keep_is_replaced_in_schemas_and_descriptions() -> None:
    (found,), _ = listed_tools([tool(description="a\0b", input_schema={"type": "object", "title": "c\0d"})])
    assert found.description == "a\ufffdb"
    assert json.loads(found.schema)["title"] == "c\ufffdd"


def test_numbers_of_any_size_pass() -> None:
    (found,), left_out = listed_tools([tool(input_schema={"type": "object", "maximum": 10**40})])
    assert left_out == 0
    assert frame(Listed(1, (found,)))
