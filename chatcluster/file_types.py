"""What a file is, told from its bytes alone: neither its name nor what its sender says of it counts. Pure.

Taken are the images that models read, PDF, and text in UTF-8, whatever that is written in (Markdown, CSV, JSON, source
code). A ``Sniffer`` is fed the pieces of a file as they come, and keeps only the beginning.
"""

from __future__ import annotations

import codecs
import re

from chatcluster.file_errors import UnsupportedFile

PDF, TEXT = "application/pdf", "text/plain"
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MEDIA_TYPES = (*IMAGES, PDF, TEXT)

_HEAD_BYTES = 1024
_BEGINNINGS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"(?:[\0-\xff]{0,1000}?[\r\n])?(?:\xef\xbb\xbf)?%PDF-[12]\.[0-9]\s"), PDF),
)
_PDF_BEHIND_SOMETHING = re.compile(rb"[\0-\xff]{0,1000}?%PDF-[12]\.")
"""Readers of PDF pass over what stands before it. Within a line of a text it is a word."""
_NOT_IN_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
"""Control characters that no text has; ESC colours what terminals printed."""


class Sniffer:
    """``feed`` it all bytes of a file; then ``media_type`` says what it is."""

    def __init__(self) -> None:
        self._head = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._may_be_text = True

    def feed(self, piece: bytes) -> None:
        """Raises ``UnsupportedFile`` as soon as it can be nothing that is taken."""
        if len(self._head) < _HEAD_BYTES:
            self._head += piece[: _HEAD_BYTES - len(self._head)]
        if self._may_be_text:
            self._may_be_text = _NOT_IN_TEXT.search(piece) is None and self._decodes(piece)
        if not self._may_be_text and len(self._head) == _HEAD_BYTES:
            self.media_type()

    def media_type(self) -> str:
        """One of ``MEDIA_TYPES``. Raises ``UnsupportedFile``."""
        for beginning, media_type in _BEGINNINGS:
            if beginning.match(self._head):
                return media_type
        if self._may_be_text and self._decodes(b"", final=True):
            return TEXT
        if _PDF_BEHIND_SOMETHING.match(self._head):
            return PDF
        raise UnsupportedFile(
            "this is no file of a kind that is taken: PNG, JPEG, GIF and WebP images, PDF, and text in UTF-8",
            media_types=MEDIA_TYPES,
        )

    def _decodes(self, piece: bytes, *, final: bool = False) -> bool:
        try:
            self._decoder.decode(piece, final)
        except UnicodeDecodeError:
            return False
        return True
