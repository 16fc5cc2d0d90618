"""Images that tools give, made fit for what models take: small enough, whole, and of a format that all of them know.

Done where a result comes in, so that the history has what the model gets, and once. It is done in a thread, one image
at a time: pixels take memory.

What happens on failure: an image that cannot be read, is too large, or is one too many is replaced by a line that says
so. Nothing is decoded before its size is known: a small file may say that it has a billion pixels.
"""

from __future__ import annotations

import base64
import binascii
import io
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from chatcluster.parts import ImagePart, ResultContent, TextPart
from chatcluster.ports import ToolResult

if TYPE_CHECKING:
    from PIL import Image

IMAGES_MAX = 8
"""Of one result."""
PIXELS_MAX = 25_000_000
SIDE_PIXELS_MAX = 1568
"""Models see no more than that."""
IMAGE_BYTES_MAX = 512 << 10
"""Of an image that goes on as it is."""
READ_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}
JPEG_QUALITY = 85

_one_at_a_time = trio.CapacityLimiter(1)


async def with_images_scaled(result: ToolResult) -> ToolResult:
    """The result with its images as a model can take them."""
    if not any(isinstance(piece, ImagePart) for piece in result.content):
        return result
    content: list[ResultContent] = []
    images = 0
    for piece in result.content:
        if not isinstance(piece, ImagePart):
            content.append(piece)
            continue
        images += 1
        if images > IMAGES_MAX:
            content.append(TextPart(f"[an image was left out: a result has {IMAGES_MAX} at most]"))
        else:
            content.append(await _scaled_elsewhere(piece))
    return msgspec.structs.replace(result, content=tuple(content))


async def _scaled_elsewhere(image: ImagePart) -> ResultContent:
    work = partial(scaled, image)
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=_one_at_a_time)


def scaled(image: ImagePart) -> ResultContent:
    """The image, or a line in its place. In a thread, which loads the library as well."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # our own bound is lower, and is checked before anything is decoded
    try:
        data = base64.b64decode(image.data, validate=True)
        with Image.open(io.BytesIO(data), formats=READ_FORMATS) as opened:
            width, height = opened.size
            if width * height > PIXELS_MAX:
                return TextPart(f"[an image of {width} x {height} pixels was left out: it is too large]")
            opened.load()
            return _fit(opened, data)
    except (binascii.Error, ValueError, OSError, SyntaxError, EOFError, MemoryError) as error:
        return TextPart(f"[an image was left out: it cannot be read ({type(error).__name__})]")


def _fit(image: Image.Image, data: bytes) -> ImagePart:
    small = max(image.size) <= SIDE_PIXELS_MAX and len(data) <= IMAGE_BYTES_MAX
    if small and image.format in MEDIA_TYPES and not getattr(image, "is_animated", False):
        return _part(image.format, data)
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    flat = image.convert("RGBA" if has_alpha else "RGB")
    flat.thumbnail((SIDE_PIXELS_MAX, SIDE_PIXELS_MAX))
    png = _saved(flat, "PNG")
    if len(png) <= IMAGE_BYTES_MAX:
        return _part("PNG", png)
    return _part("JPEG", _saved(flat.convert("RGB"), "JPEG", quality=JPEG_QUALITY))


def _saved(image: Image.Image, form: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _part(form: str, data: bytes) -> ImagePart:
    return ImagePart(MEDIA_TYPES[form], base64.b64encode(data).decode())
