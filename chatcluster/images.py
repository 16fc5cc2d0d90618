"""Images that tools give and users send, made fit for what models take: small enough, whole, of a format that all know.

Done where an image comes in, so that the history, or the file, has what the model gets, and once. It is done in a
thread, one image at a time, as pixels take memory, and users take turns, as one takes up to a second.

What happens on failure: an image that cannot be read, or is too large, is an ``UnfitImage``; in a tool's result a line
that says so takes its place, as it does for one image too many. Nothing is decoded before its size is known: a small
file may say that it has a billion pixels. What a camera wrote about a picture is looked at for how it was held, and for
nothing else: where that is damaged the picture is taken as it lies.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from uuid import UUID

import msgspec
import trio

from chatcluster.errors import ChatclusterError
from chatcluster.fair_places import FairPlaces
from chatcluster.parts import ImagePart, ResultContent, TextPart
from chatcluster.ports import ToolResult

if TYPE_CHECKING:
    from PIL import Image

IMAGES_MAX = 8
"""The most images of one result."""
PIXELS_MAX = 25_000_000
SIDE_PIXELS_MAX = 1568
"""Models see no more than that."""
IMAGE_BYTES_MAX = 512 << 10
"""An image that goes on as it is has at most so many bytes."""
READ_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}
PHOTOGRAPHS = ("JPEG", "MPO")
"""MPO is how phones write a photograph with more than one picture of it."""
JPEG_QUALITY = 85
ORIENTATION = 0x0112
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""What sets a picture upright, by the orientation that is noted in it. Models do not look for that."""

T = TypeVar("T")

_turns = FairPlaces(1)
_one_at_a_time = trio.CapacityLimiter(1)
"""Holds also for an image that nobody waits for any more, as its thread goes on."""


class UnfitImage(ChatclusterError):
    """No model can be given this image; the message says why."""


class FitImage(NamedTuple):
    media_type: str
    data: bytes


async def with_images_scaled(result: ToolResult, user_id: UUID) -> ToolResult:
    """The result of this user's tool with its images as a model can take them."""
    return msgspec.structs.replace(result, content=await images_scaled(result.content, user_id))


async def images_scaled(result: Sequence[ResultContent], user_id: UUID) -> tuple[ResultContent, ...]:
    """What a result says, with its images as a model can take them."""
    content: list[ResultContent] = []
    images = 0
    for piece in result:
        if not isinstance(piece, ImagePart):
            content.append(piece)
            continue
        images += 1
        if images > IMAGES_MAX:
            content.append(TextPart(f"[an image was left out: a result has {IMAGES_MAX} at most]"))
        else:
            content.append(await _elsewhere(partial(scaled, piece), user_id))
    return tuple(content)


async def fit_elsewhere(data: bytes, user_id: UUID) -> FitImage:
    """``fit``, in a thread of its own."""
    return await _elsewhere(partial(fit, data), user_id)


async def _elsewhere(work: partial[T], user_id: UUID) -> T:
    async with _turns.taken(user_id):
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=_one_at_a_time)


def scaled(image: ImagePart) -> ResultContent:
    """The image, or a line in its place."""
    try:
        media_type, data = fit(base64.b64decode(image.data, validate=True))
    except binascii.Error as error:
        return TextPart(f"[an image was left out: it cannot be read ({type(error).__name__})]")
    except UnfitImage as error:
        return TextPart(f"[an image was left out: {error}]")
    return ImagePart(media_type, base64.b64encode(data).decode())


def fit(data: bytes) -> FitImage:
    """The image as models take it: ``data`` itself, where that is so. In a thread, which loads the library as well.

    Raises ``UnfitImage``.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # our own bound is lower, and is checked before anything is decoded
    try:
        with Image.open(io.BytesIO(data), formats=READ_FORMATS) as opened:
            width, height = opened.size
            if width * height > PIXELS_MAX:
                raise UnfitImage(f"it is too large, {width} x {height} pixels")
            opened.draft("RGB", (SIDE_PIXELS_MAX, SIDE_PIXELS_MAX))  # a JPEG is then decoded to a part of its size
            is_small = max(width, height) <= SIDE_PIXELS_MAX and len(data) <= IMAGE_BYTES_MAX
            opened.load()
            return _fit(opened, data, is_small)
    except UnfitImage:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises whatever it runs into
        raise UnfitImage(f"it cannot be read ({type(error).__name__})") from None


def _fit(image: Image.Image, data: bytes, is_small: bool) -> FitImage:
    turn = _turn(image)
    if is_small and turn is None and image.format in MEDIA_TYPES and not getattr(image, "is_animated", False):
        return FitImage(MEDIA_TYPES[image.format], data)
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    flat = (image if turn is None else image.transpose(turn)).convert("RGBA" if has_alpha else "RGB")
    flat.thumbnail((SIDE_PIXELS_MAX, SIDE_PIXELS_MAX))
    if image.format not in PHOTOGRAPHS:  # of a photograph it would be large, and takes long
        png = _saved(flat, "PNG")
        if len(png) <= IMAGE_BYTES_MAX:
            return FitImage(MEDIA_TYPES["PNG"], png)
    return FitImage(MEDIA_TYPES["JPEG"], _saved(flat.convert("RGB"), "JPEG", quality=JPEG_QUALITY))


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What sets it upright."""
    from PIL import Image

    try:
        name = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - as above, and a note that nobody can read is none
        return None
    return Image.Transpose[name] if name else None


def _saved(image: Image.Image, form: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()
