"""Several toolboxes as one: every name is unique and fit for every provider, and each toolbox hears its own."""

from __future__ import annotations

import base64
import io
import struct
from uuid import UUID

import pytest
from chat_values import chat_at_work
from loops.scripted_tools import ScriptedTools, tool
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from chatcluster.images import IMAGE_BYTES_MAX, IMAGES_MAX, ORIENTATION, SIDE_PIXELS_MAX, scaled, with_images_scaled
from chatcluster.parts import ImagePart, NoticePart, TextPart
from chatcluster.ports import ToolCall, ToolResult
from chatcluster.tools.composition import Composition, unique_name

CHAT = chat_at_work()


# --- whether there are any --------------------------------------------------------------------


def test_a_chat_may_have_tools_if_one_of_the_boxes_may() -> None:
    nothing, something = ScriptedTools(), ScriptedTools()
    nothing.offers_any = False
    assert Composition(nothing, something).offers(CHAT)
    assert not Composition(nothing, nothing).offers(CHAT)


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["search", "files__read", "a-b_C9", "x" * 64])
def test_a_name_that_providers_take_stays(name: str) -> None:
    assert unique_name(name, {"other"}) == name


@pytest.mark.parametrize("name", ["x" * 65, "with space", "größe", "a.b", "", "a/b"])
def test_another_one_is_made_fit_and_always_the_same_way(name: str) -> None:
    fit = unique_name(name, ())
    assert fit == unique_name(name, ())
    assert 0 < len(fit) <= 64
    assert fit.replace("_", "").replace("-", "").isalnum()
    assert fit.isascii()


def test_names_that_differ_in_their_tails_alone_stay_apart() -> None:
    a, b = (unique_name("x" * 70 + end, ()) for end in "ab")
    assert a != b


def test_a_name_is_given_once_however_many_want_it() -> None:
    taken: set[str] = set()
    for _ in range(50):
        taken.add(unique_name("search", taken))
    assert len(taken) == 50
    assert "search" in taken


# --- toolboxes --------------------------------------------------------------------------------


async def test_each_toolbox_hears_of_its_own_tools_by_its_own_names() -> None:
    first, second = ScriptedTools(), ScriptedTools()
    first.offered, second.offered = [tool("search")], [tool("search"), tool("a b")]
    second.notices = (NoticePart("mcp_server_unavailable", "down", "files"),)
    async with Composition(first, second).open(CHAT) as tools:
        names = [one.name for one in await tools.tools()]
        assert names[0] == "search"
        assert len(set(names)) == 3
        assert list(tools.notices) == list(second.notices)
        for name in names:
            for box in (first, second):
                box.runs.clear()
            import trio

            async with trio.open_nursery() as nursery:
                nursery.start_soon(tools.run, ToolCall("call", name, {}), lambda _: None)
                await trio.testing.wait_all_tasks_blocked()
                (run,) = [*first.runs, *second.runs]
                assert run.call.name in ("search", "a b")
                run.give()
    assert (first.closed, second.closed) == (1, 1)


async def test_a_name_that_nobody_offers_is_an_error_result() -> None:
    async with Composition().open(CHAT) as tools:
        assert await tools.tools() == []
        assert (await tools.run(ToolCall("call", "no", {}), lambda _: None)).is_error


async def test_a_reserved_name_is_given_to_none() -> None:
    box = ScriptedTools()
    box.offered = [tool("read_result")]
    async with Composition(box, reserved={"read_result"}).open(CHAT) as tools:
        (only,) = await tools.tools()
        assert only.name != "read_result"


# --- images -----------------------------------------------------------------------------------


def picture(width: int, height: int, form: str = "PNG", mode: str = "RGB") -> ImagePart:
    out = io.BytesIO()
    Image.effect_noise((width, height), 100).convert(mode).save(out, form)
    return ImagePart(f"image/{form.lower()}", base64.b64encode(out.getvalue()).decode())


def opened(part: object) -> Image.Image:
    assert isinstance(part, ImagePart)
    return Image.open(io.BytesIO(base64.b64decode(part.data)))


def test_a_small_image_goes_on_as_it_is() -> None:
    image = picture(40, 30)
    assert scaled(image) == image


def test_its_type_is_what_it_is_and_not_what_it_is_called() -> None:
    image = picture(40, 30, "JPEG")
    assert scaled(ImagePart("image/png", image.data)) == image


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_a_large_one_is_scaled_to_what_models_see(mode: str) -> None:
    part = scaled(picture(3000, 1500, mode=mode))
    assert opened(part).size == (SIDE_PIXELS_MAX, SIDE_PIXELS_MAX // 2)
    assert isinstance(part, ImagePart)
    assert len(part.data) < IMAGE_BYTES_MAX * 4


def test_a_format_that_models_do_not_take_becomes_one_that_they_do() -> None:
    part = scaled(picture(10, 10, "BMP"))
    assert isinstance(part, ImagePart)
    assert part.media_type == "image/png"


def test_p10_a_file_that_says_it_has_a_billion_pixels_is_not_decoded() -> None:
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, "PNG")
    said = scaled(ImagePart("image/png", base64.b64encode(out.getvalue()).decode()))
    assert isinstance(said, TextPart)
    assert "30000 x 30000" in said.text


@pytest.mark.parametrize("data", ["", "!", "aGVsbG8=", picture(400, 300).data[:4000]])
def test_what_is_no_image_is_said_to_be_left_out(data: str) -> None:
    said = scaled(ImagePart("image/png", data))
    assert isinstance(said, TextPart)
    assert "left out" in said.text


def noted(size: tuple[int, int], tiff: bytes) -> ImagePart:
    """A photograph, white on its left, with what its camera noted."""
    image = Image.new("RGB", size)
    image.paste("white", (0, 0, size[0] // 2, size[1]))
    image.save(out := io.BytesIO(), "JPEG", exif=b"Exif\0\0" + tiff)
    return ImagePart("image/jpeg", base64.b64encode(out.getvalue()).decode())


def tiff(*fields: tuple[int, int, int, bytes]) -> bytes:
    """Notes of a camera: tag, type, count and value of each."""
    entries = b"".join(struct.pack("<HHI4s", *field) for field in fields)
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4)


HELD_SIDEWAYS = (0x0112, 3, 1, b"\6\0\0\0")
WIDTH_THAT_IS_A_WORD = (0x0100, 2, 4, b"wide")


@pytest.mark.parametrize("width", [40, SIDE_PIXELS_MAX * 2])
@pytest.mark.parametrize(
    "notes",
    [tiff(HELD_SIDEWAYS), tiff(HELD_SIDEWAYS, WIDTH_THAT_IS_A_WORD)],
    ids=["", "and something odd"],
)
def test_a_picture_stands_upright_whatever_else_its_camera_noted(width: int, notes: bytes) -> None:
    """Models do not look how the camera was held."""
    upright = opened(scaled(noted((width, width // 2), notes)))
    assert upright.width == upright.height // 2
    assert upright.getpixel((upright.width // 2, 0)) == (255, 255, 255)
    assert ORIENTATION not in upright.getexif()


def test_a_photograph_of_several_pictures_is_a_photograph() -> None:
    """As PNG, which is tried for others, it takes four times as long."""
    image = Image.new("RGB", (40, 20))
    image.save(out := io.BytesIO(), "MPO", save_all=True, append_images=[image])
    part = scaled(ImagePart("image/jpeg", base64.b64encode(out.getvalue()).decode()))
    assert isinstance(part, ImagePart)
    assert part.media_type == "image/jpeg"


@pytest.mark.parametrize("notes", [b"", b"II", tiff((0x0112, 3, 1, b"\x63\0\0\0")), tiff((0x0112, 2, 4, b"six\0"))])
def test_notes_that_nobody_can_read_are_none(notes: bytes) -> None:
    picture = noted((40, 20), notes)
    assert scaled(picture) == picture


@pytest.mark.parametrize("kind", [ValueError, TypeError, IndexError, struct.error, ZeroDivisionError])
def test_whatever_the_library_runs_into_the_image_is_left_out(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Image.Image) -> None:
        raise kind("out of range")

    monkeypatch.setattr(PngImageFile, "load", fail)
    said = scaled(picture(4, 4))
    assert isinstance(said, TextPart)
    assert f"it cannot be read ({kind.__name__})" in said.text


async def test_of_many_images_the_first_are_kept() -> None:
    result = await with_images_scaled(ToolResult((TextPart("a"), *[picture(4, 4)] * (IMAGES_MAX + 2))), UUID(int=1))
    assert [type(piece) for piece in result.content] == [TextPart, *[ImagePart] * IMAGES_MAX, TextPart, TextPart]
